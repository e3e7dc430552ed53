"""A run, or a training set, in the forms that other tools open.

Of a run: an inspect_ai log, a Parquet table, a task folder for lmms-eval.

An export is made from a run folder alone, again and again, without the model. It says no more than the run does:
a failed answer stays an error, what could not be scored stays unscored, and media are named by path, never inlined.

- ``to_inspect(folder, out)``: an eval log (``.eval`` or ``.json``) for inspect_ai;
- ``to_parquet(folder, out)``: one row per answer, ``COLUMNS`` says what stands where;
- ``to_lmms_eval(folder, out)``: the run's questions as a task that lmms-eval asks another model;
- ``write_media(folder, clips, place)``: every (clip, intervention) of a run as a file, ``media_name`` names it.

Of a training set: rows, media and commands for ms-swift and LLaMA-Factory.

- ``to_trainer(tool, pairs, clips, out)``: pairs as rows of one stage, with one video per (clip, intervention).
"""

from earwitness.export.files import media_name, write_media
from earwitness.export.inspect_log import to_inspect
from earwitness.export.lmms_task import to_lmms_eval
from earwitness.export.parquet import COLUMNS, to_parquet
from earwitness.export.training_rows import Exported, to_trainer

__all__ = [
    "COLUMNS", "Exported", "media_name", "to_inspect", "to_lmms_eval", "to_parquet", "to_trainer", "write_media",
]  # fmt: skip
