"""A run's questions as a task folder for lmms-eval: another model, asked by another harness, judged as here.

The folder holds ``<name>.yaml`` (the task), ``docs.jsonl`` (a line per item, media by file name), ``utils.py``
(four functions that lmms-eval calls, under the name that its tasks use) and ``media/`` (one mp4 per clip and
intervention, with its sound). The judge is :func:`earwitness.scoring.score`, so ``earwitness`` must be installed
beside lmms-eval (``--no-deps``, with msgspec, numpy, scipy and soxr: lmms-eval wants an older PyAV than the rest of
Earwitness); it never falls back to an option. Accuracy is over what could be scored, with the share that could
not beside it, and once more for every condition.

What lmms-eval then logs (``--log_samples``) is read back by ``earwitness rescore --plan RUN``.

Function: ``to_lmms_eval``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec

from earwitness import run as runs
from earwitness.export.files import media_name
from earwitness.interventions import filled
from earwitness.records import Item

RIGHT, UNSCORED = "earwitness_right", "earwitness_unscored"


def to_lmms_eval(folder: Path, out: Path, *, media: Path | None = None) -> Path:
    """Write a run's items as the task folder ``out``; returns the task's YAML file.

    The task is called after the folder ``out``. ``media`` is where the files of ``write_media`` lie or will lie
    (default: ``out/media``); they are looked for only when lmms-eval asks for them.

    Raises
    ------
    RunError
        Where the folder holds no run.
    ValueError
        Where ``out``'s name makes no task name, or is a file.
    """
    name = out.name
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"the folder's name is the task's: letters, digits and _ only, got {name!r}")
    if out.is_file():
        raise ValueError(f"{out} is a file: name a folder for the task")
    items = runs.read_items(folder)
    if not items:
        raise runs.RunError(f"{folder} has no items to ask")
    out.mkdir(parents=True, exist_ok=True)
    docs = (out / "docs.jsonl").resolve()
    lines = (json.dumps(_doc(item), ensure_ascii=False) + "\n" for item in items)
    docs.write_text("".join(lines), encoding="utf-8")
    place = (media or out / "media").resolve()
    (out / "utils.py").write_text(_UTILS.replace("@MEDIA@", json.dumps(str(place))), encoding="utf-8")
    task = out / f"{name}.yaml"
    task.write_text(_yaml(name, docs, items), encoding="utf-8")
    return task


def _doc(item: Item) -> dict[str, str]:
    return {
        "id": item.id,
        "media": media_name(item.clip, item.intervention) if item.clip else "",
        "prompt": filled(item).prompt,
        "target": item.target or "",
        "condition": cell(item),
        "item": msgspec.json.encode(item).decode(),  # as text: the columns of a data set must all be alike
    }


def cell(item: Item) -> str:
    """The part of a metric's name that says protocol and condition."""
    return re.sub(r"[^A-Za-z0-9]+", "_", f"{item.protocol}_{item.condition}")


def _yaml(name: str, docs: Path, items: list[Item]) -> str:
    metrics = [RIGHT, UNSCORED, *(f"{RIGHT}_{c}" for c in dict.fromkeys(cell(i) for i in items))]
    listed = "".join(_METRIC.format(metric=m, better=str(m != UNSCORED).lower()) for m in metrics)
    return _TASK.format(
        name=name, docs=json.dumps(str(docs)), tokens=max(item.decode for item in items), metrics=listed
    )


_TASK = """\
# Made by `earwitness export`. lmms-eval finds it with:  --include_path <this folder> --tasks {name} --log_samples
# data_files must be a full path: export again, or change it, after moving the folder.
# The judge is Earwitness's own; beside lmms-eval:  pip install --no-deps earwitness; pip install msgspec scipy soxr
task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {docs}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.doc_to_visual
doc_to_text: !function utils.doc_to_text
doc_to_target: !function utils.doc_to_target
process_results: !function utils.process_results
generation_kwargs:
  max_new_tokens: {tokens}
  temperature: 0
  do_sample: false
metric_list:
{metrics}metadata:
  version: 1
"""

_METRIC = """\
  - metric: {metric}
    aggregation: !function utils.mean
    higher_is_better: {better}
"""

_UTILS = '''\
"""Made by `earwitness export`: what lmms-eval calls for this task. The judge is Earwitness's own."""

import math
import os
from pathlib import Path

import msgspec

from earwitness import scoring
from earwitness.records import Answer, Item
from earwitness.rescore.failures import failure

MEDIA = Path(os.environ.get("EARWITNESS_MEDIA") or @MEDIA@)


def doc_to_visual(doc):
    """The clip as a file, with its sound; nothing for a question without a clip."""
    if not doc["media"]:
        return []
    path = MEDIA / doc["media"]
    if not path.is_file():  # an answer without the clip would look like an answer
        raise FileNotFoundError(f"{path} is missing: write it with `earwitness export ... --media`")
    return [str(path)]


def doc_to_text(doc, lmms_eval_specific_kwargs=None):
    """The whole question, as it was asked in the run."""
    return doc["prompt"]


def doc_to_target(doc):
    """The right answer; empty where nothing right can be said."""
    return doc["target"]


def process_results(doc, results):
    """Judge one answer. A failed, empty, unparsed or refused one is unscored, never an option."""
    item = msgspec.json.decode(doc["item"], type=Item)
    text = results[0] if results and isinstance(results[0], str) else ""
    why = failure(text)
    answer = Answer(item=item.id, model="", text=None if why else text, error=why)
    score = scoring.score(item, answer)
    right = None if score.correct is None else float(score.correct)
    row = {"item": item.id, "label": score.label, "value": right}
    return {
        "earwitness_right": row,
        "earwitness_right_" + doc["condition"]: row,
        "earwitness_unscored": {**row, "value": float(right is None)},
    }


def mean(rows):
    """Mean over what has a value; NaN where nothing has."""
    values = [row["value"] for row in rows if row["value"] is not None]
    return sum(values) / len(values) if values else math.nan
'''
