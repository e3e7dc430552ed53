"""Reading a labels file strictly: what it says, line by line, or why it cannot be right.

A wrong label is worse than a missing one, so nothing is guessed: every mistake is an error that names its line,
what
stands there, what would do and the likely slip. Up to ten are reported at once. The format is in docs/labels.md.

Functions: ``rows`` (line number and fields of each row of a CSV or JSONL file), ``clip_of`` (one row -> Clip).
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from earwitness.records import Clip, Event, how_many

COLUMNS = (
    "path", "id", "seen", "heard", "events", "stems", "donors", "start", "end", "source", "split", "licence",
    "foley",
)  # fmt: skip
LISTS = ("seen", "heard", "stems", "donors")
SAID = 10  # mistakes reported at once
# An untouched recording: light is not late, and sound is by 3 ms a metre. Beyond these a label is taken for a slip.
EARLIEST, LATEST = -0.2, 1.0  # heard - seen, seconds


class LabelsError(ValueError):
    """Mistakes in a labels file; each line of the message names file and line."""

    def __init__(self, where: Path, mistakes: Sequence[tuple[int, str]]) -> None:
        lines = [f"{where.name}, line {n}: {what}" if n else f"{where.name}: {what}" for n, what in mistakes[:SAID]]
        if len(mistakes) > SAID:
            lines.append(f"... and {len(mistakes) - SAID} more")
        super().__init__("\n".join(lines))


def nearest(word: str, known: Sequence[str]) -> str:
    """ " (did you mean X?)", or nothing where no known word is close."""
    folded = {k.casefold().replace("_", " "): k for k in known}
    close = difflib.get_close_matches(word.casefold().replace("_", " "), list(folded), n=1, cutoff=0.6)
    return f" (did you mean {folded[close[0]]!r}?)" if close else ""


def rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a labels file with their line numbers; blank lines and lines that begin with # are comments.

    Raises LabelsError where the file is not readable as what its name says.
    """
    text = _text(path)
    found = _jsonl(path, text) if path.suffix.lower() in (".jsonl", ".ndjson") else _csv(path, text)
    if not found:
        raise LabelsError(path, [(0, "holds no clips (only a header?)")])
    return found


def _text(path: Path) -> str:
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise LabelsError(path, [(1, "is UTF-16; save it as UTF-8 (Excel: “CSV UTF-8”)")])
    try:
        return raw.decode("utf-8-sig")  # a byte-order mark, as Excel writes it, is no part of the first column
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise LabelsError(path, [(line, "is not UTF-8 (saved as Latin-1 or Windows-1252?)")]) from None


def _check_names(path: Path, line: int, names: Sequence[str]) -> None:
    wrong = [
        (line, f"unknown column {name!r}{nearest(name, COLUMNS)}; known: {', '.join(COLUMNS)}")
        for name in names
        if name not in COLUMNS
    ]
    wrong += [(line, f"column {name!r} stands there twice") for name in {n for n in names if names.count(n) > 1}]
    if wrong:
        raise LabelsError(path, wrong)


def _csv(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    lines = text.splitlines(keepends=True)
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
    if start is None:
        raise LabelsError(path, [(0, "is empty")])
    head = lines[start]
    # A header of known names cannot be read in two ways, so semicolons and tabs (as Excel writes them) are fine.
    mark = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO("".join(lines[start:])), delimiter=mark, strict=True)
    out: list[tuple[int, dict[str, Any]]] = []
    wrong: list[tuple[int, str]] = []
    names: list[str] = []
    at = start + 1
    try:
        for fields in reader:
            line, at = at, start + reader.line_num + 1
            if not names:
                names = [f.strip().lower() for f in fields]
                if "path" not in names and len(names) == 1 and nearest(names[0], COLUMNS) == "":
                    wrong.append(
                        (line, f"wants a header with the column path, got {head.strip()!r} (no header line?)")
                    )
                    break
                _check_names(path, line, names)
                if "path" not in names:
                    raise LabelsError(path, [(line, f"has no column path; it has {', '.join(names)}")])
            elif not any(f.strip() for f in fields) or fields[0].startswith("#"):
                continue
            elif len(fields) != len(names):
                why = (
                    f"a {mark!r} inside a name must be quoted" if len(fields) > len(names) else "a field is missing"
                )
                wrong.append((line, f"has {how_many(len(fields), 'field')}, the header has {len(names)} ({why}?)"))
            else:
                out.append((line, {n: f.strip() for n, f in zip(names, fields, strict=True)}))
    except csv.Error as error:
        wrong.append((at, f"cannot be read as CSV: {error} (an unclosed quotation mark?)"))
    if wrong:
        raise LabelsError(path, wrong)
    return out


def _jsonl(path: Path, text: str) -> list[tuple[int, dict[str, Any]]]:
    if text.lstrip().startswith("["):
        raise LabelsError(path, [(1, "is one JSON array; JSONL has one object a line, without commas between")])
    out: list[tuple[int, dict[str, Any]]] = []
    wrong: list[tuple[int, str]] = []
    for line, row in enumerate(text.split("\n"), 1):
        if not row.strip() or row.startswith("#"):
            continue
        try:
            value = json.loads(row)
        except json.JSONDecodeError as error:
            wrong.append((line, f"is no JSON: {error.msg} at column {error.colno}"))
            continue
        if not isinstance(value, dict):
            wrong.append((line, f"wants an object {{...}}, got {type(value).__name__}"))
            continue
        try:
            _check_names(path, line, list(value))
        except LabelsError as error:
            wrong.append((line, str(error).split(": ", 1)[1]))
            continue
        out.append((line, value))
    if wrong:
        raise LabelsError(path, wrong)
    return out


def _number(field: str, value: Any) -> float | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"{field} wants seconds, got {value!r}")
    text = str(value).strip()
    if re.fullmatch(r"-?\d+,\d+", text):
        raise ValueError(f"{field}: {text!r} has a decimal comma; write {text.replace(',', '.')}")
    if re.fullmatch(r"\d+:\d\d(:\d\d)?(\.\d+)?", text):
        raise ValueError(f"{field}: {text!r} is minutes and seconds; write it as seconds")
    try:
        number = float(text)
    except ValueError:
        unit = " (leave the unit out)" if re.fullmatch(r"[-\d.]+\s*m?s(ec\w*)?", text) else ""
        raise ValueError(f"{field} wants seconds, got {text!r}{unit}") from None
    if not math.isfinite(number):
        raise ValueError(f"{field} wants finite seconds, got {text!r}")
    return number


def _list(field: str, value: Any) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        parts = [p.strip() for p in value.split("|")]
    elif isinstance(value, list) and all(isinstance(p, str) for p in value):
        parts = [p.strip() for p in value]
    else:
        raise ValueError(f'{field} wants names (CSV: a|b, JSON: ["a", "b"]), got {value!r}')
    if any(not p for p in parts):
        raise ValueError(f"{field} has an empty name: {value!r} (a stray “|”?)")
    if len({p.casefold() for p in parts}) != len(parts):
        raise ValueError(f"{field} names something twice: {value!r}")
    return tuple(parts)


_EVENT = re.compile(r"(?P<what>[^@]+)@(?P<seen>[^/]+)(?:/(?P<heard>.+))?")


def _events(value: Any) -> tuple[Event, ...]:
    """CSV: ``what@2.1`` (seen and heard then), ``what@2.1/2.4``, ``what@-/2.4`` (not seen); several by ``|``."""
    if value is None or value == "":
        return ()
    out = []
    for part in value.split("|") if isinstance(value, str) else value:
        if isinstance(part, str):
            m = _EVENT.fullmatch(part.strip())
            if m is None:
                raise ValueError(
                    f"events: {part.strip()!r} is not what@seen/heard, e.g. drum@2.10/2.12 or drum@2.1"
                )
            seen, heard = m["seen"].strip(), (m["heard"] or m["seen"]).strip()
            event = Event(
                m["what"].strip(),
                None if seen == "-" else _number("events", seen),
                None if heard == "-" else _number("events", heard),
            )
        elif isinstance(part, Mapping) and isinstance(part.get("what"), str):
            if extra := set(part) - {"what", "seen", "heard"}:
                name = min(extra)
                raise ValueError(f"events: unknown field {name!r}{nearest(name, ('what', 'seen', 'heard'))}")
            event = Event(part["what"], _number("events", part.get("seen")), _number("events", part.get("heard")))
        else:
            raise ValueError(f'events wants {{"what": ..., "seen": ..., "heard": ...}}, got {part!r}')
        out.append(event)
    return tuple(out)


def clip_of(row: Mapping[str, Any]) -> Clip:
    """One row as a clip, checked as far as the row alone allows. Raises ValueError with what is wrong."""
    path = row.get("path")
    if not isinstance(path, str) or not path.strip():
        raise ValueError(f"path is missing, got {path!r}")
    texts = {f: row.get(f) for f in ("id", "source", "split", "licence", "foley")}
    for field, value in texts.items():
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{field} wants text, got {value!r}")
    start = _number("start", row.get("start")) or 0.0
    end = _number("end", row.get("end"))
    if start < 0:
        raise ValueError(f"start={start:g} is before the file's beginning (wrong sign?)")
    if end is not None and end <= start:
        raise ValueError(f"end={end:g} is not after start={start:g} (swapped, or is end a length?)")
    given: dict[str, Any] = {f: v.strip() for f, v in texts.items() if v and v.strip()}
    given["id"] = given.get("id") or Path(path.replace("\\", "/")).stem
    given |= {f: _list(f, row.get(f)) for f in LISTS}
    return Clip(path=path.strip(), start=start, end=end, events=_events(row.get("events")), **given)


def check_times(clip: Clip, duration: float) -> list[str]:
    """What is wrong with a clip's times, given its file's duration in seconds."""
    wrong = []
    end = duration if clip.end is None else clip.end
    if clip.start >= duration or end > duration + 0.1:
        name, value = ("start", clip.start) if clip.start >= duration else ("end", end)
        slip = f"; milliseconds? {value / 1000:g} s would fit" if value / 1000 < duration else ""
        wrong.append(f"{name}={value:g} s is beyond the file's {duration:.2f} s{slip}")
        return wrong
    length = min(end, duration) - clip.start
    for event in clip.events:
        for name, time in (("seen", event.seen), ("heard", event.heard)):
            if time is None or 0 <= time <= length + 1e-6:
                continue
            slip = "times count from the clip's start, in seconds"
            if time < 0:
                slip = "a wrong sign, or an offset instead of a time?"
            elif time / 1000 <= length and time >= 100:
                slip = f"milliseconds? {time / 1000:g} s would fit"
            elif clip.start and time <= length + clip.start:
                slip = f"a time in the uncut file? {time - clip.start:g} s would fit"
            wrong.append(
                f"event {event.what!r} is {name} at {time:g} s, outside of the clip's {length:.2f} s ({slip})"
            )
        if event.seen is not None and event.heard is not None and not wrong:
            late = event.heard - event.seen
            if not EARLIEST <= late <= LATEST:
                slip = (
                    "seen and heard swapped, or a wrong sign?" if late < 0 else "a shifted clip, or a typing slip?"
                )
                wrong.append(
                    f"event {event.what!r} is seen at {event.seen:g} s and heard at {event.heard:g} s: "
                    f"sound and picture "
                    f"of an untouched clip do not lie {abs(late):.2f} s apart ({slip})"
                )
    return wrong
