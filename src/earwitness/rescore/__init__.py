"""Another harness's answers, scored again: failures stay failures, nothing is guessed, intervals are there.

``read`` takes a file of lmms-eval, inspect_ai, Thud, CMM, or plain rows with a prediction and a truth, and gives
replies; ``tables`` makes our tables of them, and sets the published scorer beside ours where its name is given
(``PARSERS``); ``write`` leaves a run folder, which ``earwitness report``, ``compare`` and ``export`` open.

What another harness fed its model cannot be seen in its file: there are no receipts, no ear check, and only the
conditions that it asked. A re-scored run says how good the answers are, not whether the sound reached the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from earwitness import __version__, protocols
from earwitness import run as runs
from earwitness.records import Clip, Item, Question, Table, how_many
from earwitness.rescore import harnesses, plain, thud
from earwitness.rescore.failures import failure
from earwitness.rescore.legacy import PARSERS
from earwitness.rescore.rows import KEYS, Reply, Row, read_rows
from earwitness.rescore.side_by_side import judge, side_by_side

FORMATS = ("auto", "lmms-eval", "inspect", "jsonl", "thud", "cmm")


@dataclass(frozen=True)
class Rescored:
    """What ``read`` gives: the replies, who gave them, in which format they were found, and what was left out."""

    replies: list[Reply]
    model: str
    format: str
    path: Path
    notes: tuple[str, ...] = ()


def read(
    path: Path, format: str = "auto", *, keys: Mapping[str, str] | None = None, model: str = "",
    questions: Sequence[Question] = (), plan: Path | None = None,
) -> Rescored:  # fmt: skip
    """Read another harness's output.

    Parameters
    ----------
    path : its file: JSON lines, a JSON array, or an inspect_ai log.
    format : one of ``FORMATS``; "auto" looks at the file. AVCD's, MAD's and most others' are "jsonl".
    keys : role -> key, where the names are unusual or two could be meant (``KEYS`` lists roles and known names).
    model : its name; default: what the file or its folder says.
    questions : where the file has no truth: the questions, found by id.
    plan : a run folder whose items the file answers (a task that was exported from it).

    Raises
    ------
    ValueError
        For a file that cannot be read, or a row whose prediction, truth or options cannot be told; names the row.
    """
    if format not in FORMATS:
        raise ValueError(f"--format {format}: no such format; there are {', '.join(FORMATS)}")
    if not path.is_file():
        raise ValueError(f"{path} is no file{' but a folder: name the file in it' if path.is_dir() else ''}")
    items = None if plan is None else {item.id: item for item in runs.read_items(plan)}
    if format == "inspect" or (format == "auto" and harnesses.is_inspect(path)):
        model, replies = harnesses.inspect_ai(path, model, items)
        return Rescored(replies, model, "inspect", path)
    rows, notes = _once(read_rows(path))
    first = rows[0][1]
    if format == "auto":
        format = "lmms-eval" if harnesses.is_lmms_eval(first) else "thud" if thud.is_thud(first) else "jsonl"
        format = "cmm" if format == "jsonl" and {"sub_category", "granularity", "pred"} <= set(first) else format
    model = model or _model(path, format)
    by_id = {q.id: q for q in questions} or None
    if format == "lmms-eval":
        if not harnesses.is_lmms_eval(first):
            raise ValueError(f"{rows[0][0]}: no doc_id and filtered_resps: not a samples file of lmms-eval")
        replies = harnesses.lmms_eval(rows, model, keys, by_id, items)
    elif items is not None:
        replies = _of_plan(rows, model, keys, items)
    elif format == "thud":
        replies = thud.replies(rows, model)
    else:
        own = {"prediction": "pred", "truth": "answer", "task": "sub_category", "clip": "video_path"}
        replies = plain.replies(rows, model, {**(own if format == "cmm" else {}), **(keys or {})}, by_id)
    return Rescored(replies, model, format, path, notes)


def _once(rows: list[tuple[str, Row]]) -> tuple[list[tuple[str, Row]], tuple[str, ...]]:
    """Rows without exact repetitions (a log that was appended to twice), and how many those were."""
    kept = list({repr(sorted(row.items(), key=str)): (where, row) for where, row in reversed(rows)}.values())[::-1]
    n = len(rows) - len(kept)
    return kept, (f"{how_many(n, 'row')} stood there twice, word for word: read once",) if n else ()


def _of_plan(
    rows: Sequence[tuple[str, Row]], model: str, keys: Mapping[str, str] | None, items: Mapping[str, Item]
) -> list[Reply]:
    """Rows that name a run's items ("item", or the key of the role id) and hold an answer ("text")."""
    item_key = (keys or {}).get("id", "item")
    text_key = (keys or {}).get("prediction", "text")
    out = []
    for where, row in rows:
        item = items.get(str(row.get(item_key)))
        if item is None:
            raise ValueError(f"{where}: {item_key}={row.get(item_key)!r} is no item of that run (id=KEY?)")
        error = row.get("error")
        out.append(plain.reply(item, row.get(text_key), model, where, error=str(error) if error else None))
    return out


def _model(path: Path, format: str) -> str:
    """The model as the file's place names it: the folder for lmms-eval and Thud, else the file."""
    if format == "lmms-eval":
        return path.resolve().parent.name.replace("__", "/")
    return path.resolve().parent.name if path.stem == "eval_results" else path.stem


def tables(found: Rescored, legacy_parser: str | None = None) -> list[Table]:
    """Scored elsewhere against here (where the file or a parser says it), then each protocol's own tables.

    Raises ValueError where the parser is unknown, or reads no question of this file.
    """
    judged = [judge(r) for r in found.replies]
    out = side_by_side(found.replies, legacy_parser)
    for name in dict.fromkeys(j.item.protocol for j in judged):
        out += protocols.load(name).tables([j for j in judged if j.item.protocol == name])
    return out


def write(found: Rescored, folder: Path, legacy_parser: str | None = None) -> list[Table]:
    """Write a run folder of the replies (run.json, items, answers, scores, tables) and return its tables.

    Raises
    ------
    RunError
        Where the folder is not empty, or two replies answer one item.
    """
    if folder.exists() and any(folder.iterdir()):
        raise runs.RunError(f"{folder} is not empty: take another --out")
    made = tables(found, legacy_parser)
    items = [r.item for r in found.replies]
    doubled = len(items) - len({i.id for i in items})
    if doubled:
        raise runs.RunError(f"{found.path}: {doubled} items are answered more than once: keep one answer of each")
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    names = list(dict.fromkeys(i.protocol for i in items))
    clips = {i.clip: Clip(id=i.clip, source=i.source, heard=i.heard, seen=i.seen) for i in items}
    info = runs.Info(
        model=found.model, revision="as recorded by another harness", plan=runs.plan_digest(items), created=now,
        protocols=names, clips=f"{found.format}:{found.path.name}", clip_count=len(clips), item_count=len(items),
        settings={"rescored": found.path.name, "format": found.format, "notes": list(found.notes)},
        decoding="as recorded by another harness", versions={"earwitness": __version__}, finished=now,
    )  # fmt: skip
    runs.write_lines(folder / "clips.jsonl", clips.values())
    runs.write_lines(folder / "items.jsonl", items)
    runs.write_info(folder, info)
    with runs.AnswerLog(folder) as log:
        log.append([r.answer for r in found.replies])
    runs.write_lines(folder / "scores.jsonl", [judge(r).score for r in found.replies])
    runs.write_tables(folder, made)
    return made


__all__ = [
    "FORMATS", "KEYS", "PARSERS", "Reply", "Rescored", "failure", "judge", "read", "side_by_side", "tables",
    "write",
]  # fmt: skip
