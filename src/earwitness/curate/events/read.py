"""What an annotator's answer says: an event with its times, a frame unit, "uncertain", or nothing readable.

Kind about form: code fences, thinking, chatter before and after, single quotes, a comma too many, fields as plain
lines, times as "5.2 s", "0:05.2", "5200 ms" or a narrow range. Strict about content: a time must be there, be a
time, and lie in the clip; two different answers are none; a unit must be one of those listed, and the range that is
given with it must be its range. What is not there is never filled in: such an answer is UNPARSED, with the reason,
and is counted.

Functions: ``read_event``, ``read_unit``; ``moment`` (a stated time in seconds).
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from earwitness.curate.events.asked import ANNOTATE, FRAME_UNIT, Interval
from earwitness.questions import refuses

Outcome = Literal["placed", "uncertain", "UNPARSED", "REFUSED", "failed"]
Confidence = Literal["high", "medium", "low"]
WIDEST = 1.0  # s; a wider range is no time: both tolerances (0.8 and 0.5 s) are below it
FIELDS = ("visual_event", "visual_time", "audio_event", "audio_time")
_ECHOES = (ANNOTATE[60:160], FRAME_UNIT[-120:])  # who repeats the question has not answered it
_NOTHING = re.compile(r"(?:uncertain|unknown|none|null|n/?a|not (?:visible|audible|localized)|unclear|-)?", re.I)
_UNCERTAIN = re.compile(
    r"^\W*(?:(?:i(?:'m| am)|it is|the answer is|answer|result|return(?:s|ed)?|response|confidence|unit_id)\W+)?"
    r"uncertain\b",
    re.I,
)
_THINK = re.compile(r"<think>.*?(?:</think>|$)", re.S | re.I)
_LINE = re.compile(
    r"^[\s\-*>\"'`]*(visual[ _]event|visual[ _]time|audio[ _]event|audio[ _]time|confidence|unit[ _]id"
    r"|timestamp[ _]range)[\s\"'`*]*[:=]\s*(.+?)[\s,*`]*$",
    re.I | re.M,
)
_NUMBER = r"\d+(?:[.,]\d+)?|\.\d+"
_MARK = r"(?:about|around|approximately|approx\.?|roughly|~|≈|at|t\s*=)?\s*"
_CLOCK = re.compile(rf"{_MARK}(?:(\d+):)?(\d{{1,2}}):(\d{{1,2}}(?:[.,]\d+)?)\s*(?:s|min|minutes)?\.?", re.I)
_PLAIN = re.compile(
    rf"{_MARK}({_NUMBER})\s*(milliseconds?|msecs?|ms|seconds?|secs?|s)?(?:\s+(?:mark|into the (?:video|clip)))?\.?",
    re.I,
)
_RANGE = re.compile(r"\s*(?:-|–|—|\bto\b|,|\band\b)\s*")


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says; ``why`` says what is wrong with one that cannot be read."""

    outcome: Outcome
    visual_event: str = ""
    seen: float | None = None
    audio_event: str = ""
    heard: float | None = None
    confidence: Confidence | None = None
    unit: int | None = None  # number of a frame unit, from 1
    why: str = ""


def read_event(text: str, seconds: float) -> Reading:
    """A listener's answer about a clip of so many seconds."""
    body = _body(text)
    if any(echo in " ".join(body.split()) for echo in _ECHOES):
        return _unread("repeats the question")
    found = _objects(body)
    if not found:
        return _loose(body) or _unread("holds no JSON object")
    if len(found) > 1:
        return _unread(f"holds {len(found)} different answers")
    given = found[0]
    said = [v for k in ("confidence", "result", "answer", "status") if isinstance(v := given.get(k), str)]
    if any(_UNCERTAIN.match(v) for v in said) or given.get("uncertain") is True:
        return Reading(outcome="uncertain")
    if all(k in given for k in FIELDS) and any(_nothing(given[k]) for k in FIELDS):
        return Reading(outcome="uncertain")
    if lost := [k for k in FIELDS if k not in given]:
        return _unread(f"has no {lost[0]}")
    times = []
    for field in ("visual_time", "audio_time"):
        try:
            times.append(_within(given[field], seconds))
        except ValueError as error:
            return _unread(f"{field}: {error}")
    sure = given.get("confidence")
    level = str(sure).strip().lower() if sure is not None else ""
    return Reading(
        outcome="placed", visual_event=_words(given["visual_event"]), seen=times[0],
        audio_event=_words(given["audio_event"]), heard=times[1],
        confidence=level if level in ("high", "medium", "low") else None,  # type: ignore[arg-type]
    )  # fmt: skip


def read_unit(text: str, units: Sequence[Interval]) -> Reading:
    """A watcher's answer: the number of one of the units that were listed."""
    body = _body(text)
    if any(echo in " ".join(body.split()) for echo in _ECHOES):
        return _unread("repeats the question")
    found = _objects(body)
    if len(found) > 1:
        return _unread(f"holds {len(found)} different answers")
    given: Mapping[str, Any] = found[0] if found else {}
    stated = given.get("unit_id", given.get("unit"))
    span = given.get("timestamp_range")
    if not {"unit_id", "unit", "timestamp_range"} & set(given):
        if loose := _loose(body, given):
            return loose
        names = {int(n) for n in re.findall(r"\bunit(?:_id)?[\W_]{0,3}(?:unit[\W_]{0,2})?(\d+)\b", body, re.I)}
        alone = re.fullmatch(r"\W*(\d+)(?!\.?\d)\W*(?:\d[^\n]*|$)", body.split("\n", 1)[0])  # "3, 2.00-3.00 s, ..."
        if not names and alone:
            names = {int(alone[1])}
        if len(names) != 1:
            return _unread(
                "names no unit" if not names else f"names the units {', '.join(map(str, sorted(names)))}"
            )
        stated = names.pop()
    elif (stated is None or _nothing(stated)) and (stated is not None or _nothing(span)):
        return Reading(outcome="uncertain")
    try:
        return Reading(outcome="placed", unit=_unit(stated, span, units))
    except ValueError as error:
        return _unread(str(error))


def moment(value: object) -> float:
    """A stated time in seconds; the middle of a range of at most 1 s.

    Raises ValueError with what is wrong where it is no time.

    >>> moment("5.2s"), moment("0:05.2"), moment("5200 ms"), moment([5.0, 5.4])
    (5.2, 5.2, 5.2, 5.2)
    """
    if isinstance(value, bool) or value is None:
        raise ValueError(f"{value} is no time")
    if isinstance(value, (int, float)):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{value} is no time")
        return float(value)
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return _middle(*value)
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.40} is no time")
    text = value.strip().strip("\"'`()[]").strip()
    if m := _CLOCK.fullmatch(text):
        return round(3600 * int(m[1] or 0) + 60 * int(m[2]) + float(m[3].replace(",", ".")), 6)
    if m := _PLAIN.fullmatch(text):
        number = float(m[1].replace(",", "."))
        return round(number / 1000, 6) if (m[2] or "").lower().startswith("m") else number
    parts = _RANGE.split(text, maxsplit=1)
    if len(parts) == 2 and all(parts):
        unit = re.search(r"[a-z]+\.?$", parts[1], re.I)
        return _middle(parts[0] + (unit[0] if unit and parts[0][-1].isdigit() else ""), parts[1])
    raise ValueError(f"{value!r:.40} is no time")


def _middle(low: object, high: object) -> float:
    first, last = moment(low), moment(high)
    if not 0 <= last - first <= WIDEST + 1e-6:
        raise ValueError(f"a range of {last - first:g} s is no time")
    return round((first + last) / 2, 6)


def _within(value: object, seconds: float) -> float:
    at = moment(value)
    if at > seconds + 1e-6:
        slip = " (milliseconds?)" if at / 1000 <= seconds and at >= 100 else ""
        raise ValueError(f"{at:g} s is outside of a clip of {seconds:.2f} s{slip}")
    return at


def _unit(stated: object, span: object, units: Sequence[Interval]) -> int:
    """The number of the unit that is named, or whose range is given. Raises ValueError."""
    number = None
    if stated is not None:
        m = re.fullmatch(r"\W*(?:frame[\W_]*)?(?:unit[\W_]*)?(?:id[\W_]*)?u?#?(\d+)(?:\.0)?\W*", str(stated), re.I)
        if m is None:
            raise ValueError(f"{stated!r:.40} is no unit")
        number = int(m[1])
        if not 1 <= number <= len(units):
            raise ValueError(f"there is no unit {number} among {len(units)}")
    ends = None if span is None or _nothing(span) else _ends(span)
    if ends is None:
        if number is None:
            raise ValueError("names no unit")
        return number
    shared = [min(ends[1], b) - max(ends[0], a) for a, b in units]
    best = max(range(len(units)), key=lambda n: shared[n]) + 1
    if number is None:
        if ends[1] - ends[0] > 1.5 * (units[0][1] - units[0][0]) or shared[best - 1] <= 0:
            raise ValueError(f"{ends[0]:g} to {ends[1]:g} s is none of the units")
        return best
    if shared[number - 1] < min(ends[1] - ends[0], units[0][1] - units[0][0]) / 2 - 1e-6:
        raise ValueError(f"unit {number} is not {ends[0]:g} to {ends[1]:g} s")
    return number


def _ends(span: object) -> Interval:
    parts = list(span) if isinstance(span, (list, tuple)) else _RANGE.split(str(span).strip("[]()\"' "), maxsplit=1)
    if len(parts) != 2:
        raise ValueError(f"{span!r:.40} is no range of time")
    low, high = moment(parts[0]), moment(parts[1])
    if high < low:
        raise ValueError(f"{span!r:.40} is no range of time")
    return low, high


def _body(text: str) -> str:
    return _THINK.sub(" ", text).strip()


def _loose(body: str, given: Mapping[str, Any] | None = None) -> Reading | None:
    """What an answer without a JSON object may still be: uncertain, or a refusal."""
    if _UNCERTAIN.match(body) or any(isinstance(v, str) and _UNCERTAIN.match(v) for v in (given or {}).values()):
        return Reading(outcome="uncertain")
    return Reading(outcome="REFUSED", why="declines") if refuses(body) and len(body) < 400 else None


def _objects(body: str) -> list[dict[str, Any]]:
    """The different objects in a text that have fields of an answer, keys as asked for; else fields as lines."""
    out: list[dict[str, Any]] = []
    at = 0
    while (at := body.find("{", at)) >= 0:
        value, end = _object(body, at)
        if isinstance(value, dict):
            value = {str(k).strip().lower().replace(" ", "_").replace("-", "_"): v for k, v in value.items()}
            inner = [v for v in value.values() if isinstance(v, dict)]
            if len(value) == 1 and inner:  # {"annotation": {...}}
                value = {str(k).strip().lower().replace(" ", "_"): v for k, v in inner[0].items()}
            if value and value not in out:
                out.append(value)
        at = end
    if out:
        return out
    lines = [(k.lower().replace(" ", "_"), v.strip().strip("\"'`")) for k, v in _LINE.findall(body)]
    fields = dict(lines)
    complete = all(k in fields for k in FIELDS) or "unit_id" in fields
    return [fields] if complete and len(fields) == len(lines) else []


def _object(body: str, at: int) -> tuple[object, int]:
    """The object that begins at a brace, and where it ends; None where it is none."""
    try:
        value, end = json.JSONDecoder().raw_decode(body, at)
    except (ValueError, RecursionError):
        pass
    else:
        return value, end
    end = body.find("}", at) + 1
    if not end:
        return None, len(body)
    text = re.sub(r",\s*}", "}", body[at:end])
    for reader in (json.loads, ast.literal_eval):
        try:
            return reader(text), end
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None, at + 1


def _nothing(value: object) -> bool:
    return value is None or (isinstance(value, str) and _NOTHING.fullmatch(value.strip().rstrip(".")) is not None)


def _words(value: object) -> str:
    return " ".join(str(value).split())[:200]


def _unread(why: str) -> Reading:
    return Reading(outcome="UNPARSED", why=why)
