"""Rows of another harness's file: JSON read with the line in every message, and which key means what.

Everybody names the same things differently: ``pred``, ``prediction``, ``response``. ``KEYS`` lists the names known
for each role. Two names for the prediction, or for the truth, in one file are an error that says how to choose
(``keys={"prediction": "pred"}``), because scoring the wrong one would look like a result. ``answer`` is the truth
in CMM's and AVCD's files and the model's answer in others: it is taken for whichever has no other name.

Functions: ``read_rows``, ``roles``; ``Reply`` is one answer with what it is an answer to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earwitness.questions import clean
from earwitness.records import Answer, Item

Row = dict[str, Any]

KEYS: dict[str, tuple[str, ...]] = {
    "prediction": (
        "prediction", "pred", "raw_output", "raw_response", "response", "model_response", "model_output",
        "model_answer", "output", "completion", "generated_text", "generation", "predicted_answer",
    ),
    "truth": (
        "ground_truth", "truth", "gt", "gt_answer", "target", "correct_answer", "correct_option", "expected_answer",
        "reference", "gold",
    ),
    "id": ("id", "question_id", "qid", "uid", "index", "doc_id", "problem_id"),
    "clip": (
        "clip", "video_id", "videoID", "video", "video_name", "video_path", "filename", "ytid", "audio_path",
        "audio",
    ),
    "question": ("prompt", "question", "question_content", "input", "text", "problem", "query"),
    "choices": ("choices", "options", "candidates", "Choice"),
    "task": ("task", "sub_category", "task_type", "question_type", "type", "category"),
    "right": ("correct", "is_correct", "yes/no"),
}  # fmt: skip
NEEDED = ("prediction", "truth")
_LISTS = ("results", "samples", "predictions", "data", "rows", "answers")


@dataclass(frozen=True)
class Reply:
    """One answer out of another harness's file.

    ``raw`` is the text as that harness kept it, failures too; ``published`` whether its own file counts the answer
    as right (None: the file does not say); ``where`` names file and line.
    """

    item: Item
    answer: Answer
    raw: str
    published: bool | None
    where: str


def read_rows(path: Path) -> list[tuple[str, Row]]:
    """The rows of a JSONL file, a JSON array, or an object that holds one, each with its place ("x.jsonl, line 3").

    Raises ValueError for a file that is missing, empty, not JSON (naming the line), or whose rows are no objects.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text: {error}") from None
    if not text.strip():
        raise ValueError(f"{path} is empty")
    whole = _whole(path, text)
    if isinstance(whole, dict):
        lists = [whole[k] for k in _LISTS if isinstance(whole.get(k), list) and _objects(whole[k])]
        whole = lists[0] if len(lists) == 1 else [whole]
    if isinstance(whole, list):
        rows = [(f"{path.name}, entry {n}", row) for n, row in enumerate(whole, 1)]
    else:
        rows = []
        for n, line in enumerate(text.splitlines(), 1):
            if line.strip():
                rows.append((f"{path.name}, line {n}", _line(path, n, line)))
    for where, row in rows:
        if not isinstance(row, dict):
            raise ValueError(f"{where}: a row is an object with named values, got {str(row)[:60]!r}")
    if not rows:
        raise ValueError(f"{path} holds no rows")
    return rows


def _objects(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(v, dict) for v in values)


def _whole(path: Path, text: str) -> object:
    """The file as one JSON value; None where it is JSON lines."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise ValueError(f"{path}, line {error.lineno}: {error.msg} (a file cut off midway?)") from None
        return None


def _line(path: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        hint = " (a Python dict, not JSON?)" if line.lstrip().startswith("{'") else " (a line cut off midway?)"
        raise ValueError(f"{path}, line {number}: {error.msg}{hint}") from None


def roles(rows: Sequence[tuple[str, Row]], keys: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which key of the rows has which role, by ``KEYS`` and by ``keys`` (role -> key), which goes first.

    Raises
    ------
    ValueError
        For an unknown role, a key that no row has, no prediction, no truth, or two that could be it.
    """
    given = dict(keys or {})
    present = {key for _, row in rows for key in row}
    for role, key in given.items():
        if role not in KEYS:
            raise ValueError(f"{role}={key}: no such role; there are {', '.join(KEYS)}")
        if key not in present:
            raise ValueError(f"{role}={key}: no row has that key; there are {', '.join(sorted(present))}")
    out = dict(given)
    for role in KEYS:
        if role not in out:
            names = [n for n in KEYS[role] if n in present and n not in given.values()]
            if role in NEEDED and len(names) > 1 and not _alike(rows, names):
                raise ValueError(
                    f"{rows[0][0]}: {' and '.join(names)} could both be the {role}; say which: {role}={names[0]}"
                )
            if names:
                out[role] = names[0]
    _answer(rows, out, present)
    for role in NEEDED:
        if role not in out:
            raise ValueError(
                f"{rows[0][0]}: no {role}: none of {', '.join(KEYS[role])} is there, only "
                f"{', '.join(sorted(present))}; name it: {role}=KEY"
            )
    return out


def _answer(rows: Sequence[tuple[str, Row]], out: dict[str, str], present: set[str]) -> None:
    """Give "answer" (and "label") the role that nothing else has."""
    free = [n for n in ("answer", "label") if n in present and n not in out.values()]
    missing = [role for role in NEEDED if role not in out]
    if len(missing) == 2 and free:
        raise ValueError(
            f"{rows[0][0]}: {' and '.join(free)}: prediction or truth? Say both: prediction=KEY and truth=KEY"
        )
    if len(missing) == 1 and free:
        if missing == ["truth"] and len(free) == 2 and not _alike(rows, free):
            raise ValueError(f"{rows[0][0]}: answer and label could both be the truth; say which: truth=answer")
        out[missing[0]] = free[0]


def _alike(rows: Sequence[tuple[str, Row]], names: Sequence[str]) -> bool:
    return all(len({clean(str(row.get(n))) for n in names}) == 1 for _, row in rows)
