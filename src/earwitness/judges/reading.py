"""What did the judge say? Its raw output becomes a vote, several votes become one ruling.

A judge is asked for one JSON object. Code fences, thinking and chatter around it are forgiven; a missing or
unknown label, two objects that disagree, a key given twice, a mark outside 0-5 are not: such a vote is unreadable
and counts as UNPARSED, never as the label that looks likeliest.

How k votes are joined: a label wins with more than half of the k votes, marks are the mean where more than half of
the votes give one. Where no label wins, it is UNPARSED; where votes that failed (no output at all) could still have
decided, it is ERROR: a failed judge has not ruled.

Functions: ``read`` (output -> Vote), ``decide`` (votes -> Ruling).
"""

from __future__ import annotations

import ast
import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from earwitness.questions.judge_prompts import UNCLEAR, JudgeTask, judge_labels
from earwitness.records import UNPARSED
from earwitness.scoring import ERROR

MARKED = "MARKED"
LOWEST, HIGHEST = 0.0, 5.0
LONGEST = 20_000  # characters of output that are read: a judge asked for one line has gone astray long before
TRIES = 100  # braces at which an object may begin
_THINKING = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.S | re.I)
_PYTHON = re.compile(r"\{[^{}]*\}")


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of one answer: a label of the task, MARKED, or UNPARSED (unclear to the judge, or unreadable).

    ``offset`` is the size of the stated offset in seconds, signed by the label (> 0: sound late) and None where the
    label has no direction; ``t_seen`` and ``t_heard`` are seconds; ``audio`` and ``visual`` marks from 0 to 5.
    """

    label: str
    readable: bool = True
    offset: float | None = None
    t_seen: float | None = None
    t_heard: float | None = None
    audio: float | None = None
    visual: float | None = None


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What a judge made of one answer, its votes taken together. ``label`` may be UNPARSED or ERROR.

    ``votes`` were asked for; ``unreadable`` of them could not be read, ``failed`` did not come at all.
    """

    label: str
    votes: int
    unreadable: int = 0
    failed: int = 0
    offset: float | None = None
    audio: float | None = None
    visual: float | None = None


UNREADABLE = Vote(label=UNPARSED, readable=False)


def read(task: JudgeTask, output: str) -> Vote:
    """The vote that a judge's raw output is; unreadable output is a vote for UNPARSED with ``readable`` False."""
    found = _objects(_THINKING.sub(" ", output[:LONGEST]))
    votes = [_marks(o) if task == "describe" else _label(task, o) for o in found]
    given = [v for v in votes if v is not None]
    if not given or any(v != given[0] for v in given):
        return UNREADABLE
    return given[0]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """All JSON objects of a text, outermost ones; where there is none, flat Python dicts (the published form)."""
    decoder, at, met = json.JSONDecoder(object_pairs_hook=_once), text.find("{"), False
    for _ in range(TRIES):
        if at < 0:
            break
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            met = True
            yield found
        at = text.find("{", end)
    for piece in () if met else _PYTHON.findall(text)[:TRIES]:
        try:
            found = ast.literal_eval(piece)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        if isinstance(found, dict):
            yield _once(list(found.items()))


def _once(pairs: Sequence[tuple[object, Any]]) -> dict[str, Any]:
    """An object by its keys in lower case with single spaces; a key that is there twice holds nothing."""
    keys = [re.sub(r"[\s_-]+", " ", str(key)).strip().lower() for key, _ in pairs]
    return {k: None if keys.count(k) > 1 else v for k, (_, v) in zip(keys, pairs, strict=True)}


def _label(task: JudgeTask, found: dict[str, Any]) -> Vote | None:
    """The vote of one object; None for an object that is no verdict at all."""
    if "label" not in found:
        return None
    said = found["label"]
    label = re.sub(r"[\s-]+", "_", said.strip().upper()) if isinstance(said, str) else ""
    if label in (UNCLEAR, UNPARSED):
        return Vote(label=UNPARSED)
    if label not in judge_labels(task):
        return UNREADABLE
    if task != "shift":
        return Vote(label=label)
    seen, heard, size = (_number(found.get(key)) for key in ("t v", "t a", "offset sec"))
    if size is None and seen is not None and heard is not None:
        size = round(heard - seen, 3)
    sign = {"DELAY": 1.0, "EARLY": -1.0}.get(label)
    offset = None if size is None or sign is None else sign * abs(size)
    return Vote(label=label, offset=offset, t_seen=seen, t_heard=heard)


def _marks(found: dict[str, Any]) -> Vote | None:
    """The two marks of one object; null is "cannot be marked", anything but a number from 0 to 5 is unreadable."""
    raw = {name: found.get(f"{name} score") for name in ("audio", "visual")}
    if not any(f"{name} score" in found for name in raw):
        return None
    marks = {name: _number(value) for name, value in raw.items()}
    for name, mark in marks.items():
        given = raw[name] is not None
        if f"{name} score" not in found or given != (mark is not None) or not LOWEST <= (mark or 0.0) <= HIGHEST:
            return UNREADABLE
    if marks["audio"] is None and marks["visual"] is None:
        return Vote(label=UNPARSED)
    return Vote(label=MARKED, audio=marks["audio"], visual=marks["visual"])


def _number(value: object) -> float | None:
    """A finite number, also one written as text ("2.1", "2.1 s"); None for everything else."""
    if isinstance(value, str):
        written = re.fullmatch(r"\s*([+-]?\d+(?:\.\d+)?)\s*(?:s|sec|seconds)?\s*", value)
        return float(written.group(1)) if written else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value) if abs(value) < 1e9 else math.nan
    return number if math.isfinite(number) else None


def decide(votes: Sequence[Vote | None]) -> Ruling:
    """One ruling from the votes of one judge on one answer; a vote that failed is None.

    The offset is the median of those that the winning votes state; marks are means. Raises ValueError without
    votes.
    """
    if not votes:
        raise ValueError("decide: there are no votes to join")
    cast = [v for v in votes if v is not None]
    failed, needed = len(votes) - len(cast), len(votes) // 2 + 1
    tally = Counter(v.label for v in cast)
    label, most = tally.most_common(1)[0] if tally else (UNPARSED, 0)
    if most < needed:
        label = ERROR if most + failed >= needed else UNPARSED
    won = [v for v in cast if v.label == label]
    audio, visual = (_mean([getattr(v, what) for v in won], needed) for what in ("audio", "visual"))
    if label == MARKED and audio is None and visual is None:
        label = UNPARSED
    offsets = [v.offset for v in won if v.offset is not None]
    return Ruling(
        label=label,
        votes=len(votes),
        unreadable=sum(not v.readable for v in cast),
        failed=failed,
        offset=statistics.median(offsets) if offsets else None,
        audio=audio,
        visual=visual,
    )


def _mean(marks: Sequence[float | None], needed: int) -> float | None:
    given = [m for m in marks if m is not None]
    return statistics.fmean(given) if len(given) >= needed else None
