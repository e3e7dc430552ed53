"""What is seen and heard when, in words: timed descriptions from a file, or from the events of procedural clips.

A file of descriptions is JSON Lines, one span a line, times in seconds on the clip's clock::

    {"clip": "walk-17", "start": 2.0, "end": 4.5, "visual": "a dog leaps at a gate", "audio": "a bark"}

or FineVideo's own metadata (an object a line, or a JSON list): its scenes' activities are what is seen, and the
speech whose time codes overlap one is what is heard then. Thud had FineVideo annotated anew with audible events;
where you have such annotations, write them as spans. ``visual`` or ``audio`` may be left out.

Functions: ``read``, ``of_foley``; ``alone``, ``onsets``, ``elsewhere``, ``apart``; ``sounds_like``, ``looks_like``,
``between``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from earwitness import foley
from earwitness.align.pairs.phrases import thing
from earwitness.align.pairs.stock import Span
from earwitness.foley.scenes import LENGTH
from earwitness.questions import same
from earwitness.records import Clip

SAID = 10  # mistakes reported at once
TENTH = 0.1  # seconds: times are said so exactly
NEAR = 0.15  # seconds: nearer times are the same to who reads them
# What is drawn and what is synthesised (foley.things, foley.sounds), in words.
FOLEY: dict[str, tuple[str, str]] = {
    "bell": ("a mallet strikes a golden bell", "a bell rings"),
    "drum": ("a stick beats a red drum", "a drum is beaten"),
    "bird": ("a bird on a twig opens its beak", "a bird chirps"),
    "siren": ("a blue beacon flashes", "a siren wails"),
    "horn": ("the black bulb of a horn is squeezed", "a horn honks"),
    "clock": ("the hand of a wall clock jumps", "a clock ticks"),
    "guitar": ("a pick strikes the strings of a guitar", "a guitar is strummed"),
    "whistle": ("a pink whistle shakes", "a whistle is blown"),
    "frog": ("the pale throat of a frog swells", "a frog croaks"),
    "phone": ("the handset of a telephone jumps", "a telephone rings"),
    "hammer": ("a hammer strikes an anvil", "a hammer clangs"),
    "bee": ("a striped bee beats its wings", "a bee buzzes"),
}
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")


def sounds_like(name: str) -> str:
    """What a class sounds like, in a few words."""
    return FOLEY[name][1] if name in FOLEY else f"the sound of {thing(name)}"


def looks_like(name: str) -> str:
    """What a class looks like, in a few words."""
    return FOLEY[name][0] if name in FOLEY else f"{thing(name)} is shown"


def of_foley(clip: Clip) -> tuple[Span, ...]:
    """Of each thing in a procedural clip the first sounding that no other one falls into, else its first; exact.

    None for other clips.
    """
    if clip.foley is None:
        return ()
    when = {
        s.what: [(t, round(t + LENGTH[s.what], 3)) for t in s.times] for s in foley.parse(clip.foley).sources
    }  # fmt: skip
    out = []
    for what, times in when.items():
        others = [w for other, some in when.items() if other != what for w in some]
        start, end = next((w for w in times if not any(_meet(w, o) for o in others)), times[0])
        out.append(Span(clip.id, start, end, looks_like(what), sounds_like(what)))
    return tuple(sorted(out, key=lambda s: (s.start, s.end)))


def _meet(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def soundings(clip: Clip, audio: str) -> list[tuple[float, float]]:
    """When a thing of a procedural clip sounds, by what it sounds like; empty for other clips."""
    if clip.foley is None:
        return []
    sources = foley.parse(clip.foley).sources
    return [(t, t + LENGTH[s.what]) for s in sources if sounds_like(s.what) == audio for t in s.times]


def alone(span: Span, clip: Clip, spans: Sequence[Span]) -> bool:
    """Whether nothing else is heard during the span, as far as the spans (or a procedural clip's events) tell."""
    others = [(s.start, s.end) for s in spans if s is not span and s.audio]
    for name in clip.heard if clip.foley is not None else ():
        if sounds_like(name) != span.audio:
            others += soundings(clip, sounds_like(name))
    return not any(_meet((span.start - TENTH, span.end + TENTH), o) for o in others)


def onsets(span: Span, clip: Clip) -> list[float]:
    """When it begins to be heard, each time: of a procedural clip all times, else the span's start."""
    return [start for start, _ in soundings(clip, span.audio)] or [span.start]


def elsewhere(times: Sequence[float], others: Sequence[float]) -> bool:
    """Whether at least half of the other times are none of these: said of these, they would be wrong."""
    far = [all(abs(t - o) > NEAR for t in times) for o in others]
    return sum(far) * 2 >= len(far)


def between(span: Span) -> str:
    """ "from 2.0s to 4.5s": to a tenth of a second, outwards, so that short ones keep some length."""
    return f"from {math.floor(span.start / TENTH) * TENTH:.1f}s to {math.ceil(span.end / TENTH) * TENTH:.1f}s"


def read(path: Path, clips: Sequence[Clip]) -> tuple[dict[str, tuple[Span, ...]], list[str]]:
    """Spans by clip, in order of time, of the clips given; and in plain words what was not used.

    FineVideo names a video by its file; its times are the whole file's, so a clip that is a cut of it (``start``,
    ``end``) gets what lies within.

    Raises
    ------
    ValueError
        Where the file cannot be read, a span has no words or no time in it, or none is about these clips. Ten
        mistakes are named at once, each with its line.
    """
    names = {c.id: c for c in clips}
    files: dict[str, list[Clip]] = {}
    for clip in clips:
        if clip.path is not None:
            files.setdefault(PurePosixPath(clip.path.replace("\\", "/")).stem, []).append(clip)
    found: dict[str, list[Span]] = {}
    wrong: list[str] = []
    strange = total = 0
    for where, row in _rows(path):
        try:
            made = list(_finevideo(row, names, files) if "content_metadata" in row else _plain(row))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            wrong.append(f"{where}: {error}")
            continue
        total += 1
        known = [s for s in made if s.clip in names]
        strange += not known
        for span in known:
            found.setdefault(span.clip, []).append(span)
    if wrong:
        more = [f"... and {len(wrong) - SAID} more"] if len(wrong) > SAID else []
        raise ValueError("\n".join([f"{path.name}, {line}" for line in wrong[:SAID]] + more))
    if not found:
        raise ValueError(
            f"{path}: none of its {total} rows is about one of the {len(clips)} clips (are clips named by their "
            f"ids, such as {', '.join(list(names)[:2])}?)"
        )
    lines = [f"descriptions: {strange} of {total} rows are about other clips"] if strange else []
    return {i: tuple(sorted(some, key=lambda s: (s.start, s.end))) for i, some in found.items()}, lines


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of JSON Lines, or of one JSON list or object, with where they stand."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: is not UTF-8 text (a media file?)") from None
    except OSError as error:
        raise ValueError(f"--descriptions {path}: {error.strerror}") from None
    try:
        value = json.loads(text)
        rows = value if isinstance(value, list) else [value]
        where = "row"
    except json.JSONDecodeError:
        rows, where = text.splitlines(), "line"
    for n, row in enumerate(rows, 1):
        if isinstance(row, str):
            if not row.strip():
                continue
            try:
                row = json.loads(row)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path.name}, line {n}: is no JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path.name}, {where} {n}: wants an object, got {type(row).__name__}")
        yield f"{where} {n}", row


def _plain(row: Mapping[str, Any]) -> Iterator[Span]:
    lacking = [key for key in ("clip", "start", "end") if key not in row]
    if lacking:
        raise ValueError(
            f"has no {lacking[0]!r}; a span has clip, start, end, and visual or audio (FineVideo's rows have "
            f"content_metadata); this one has {', '.join(sorted(row)[:8])}"
        )
    try:
        span = msgspec.convert(dict(row), Span, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    if not 0 <= span.start < span.end:
        raise ValueError(f"start {span.start:g} and end {span.end:g} are no span of time (seconds)")
    if not (span.visual.strip() or span.audio.strip()):
        raise ValueError("neither visual nor audio says anything")
    yield span


def seconds(stamp: object) -> float:
    """Seconds of "00:01:15.000", "1:15" or a number. Raises ValueError for anything else."""
    m = _CLOCK.fullmatch(str(stamp).strip())
    if m:
        return int(m[1] or 0) * 3600 + int(m[2]) * 60 + float(m[3])
    return float(str(stamp))


def _finevideo(
    row: Mapping[str, Any], names: Mapping[str, Clip], files: Mapping[str, list[Clip]]
) -> Iterator[Span]:
    name = PurePosixPath(str(row.get("original_video_filename", ""))).stem
    clips = [names[name]] if name in names else files.get(name, [])
    speech = [
        (seconds(s["start"]), seconds(s["end"]), str(s["text"]).strip())
        for s in row.get("timecoded_text_to_speech") or ()
    ]
    for scene in row["content_metadata"].get("scenes") or ():
        acts = [
            (a["description"], a["timestamp"]["start_timestamp"], a["timestamp"]["end_timestamp"])
            for a in scene.get("activities") or ()
        ] or [
            (scene.get("title", ""), scene["timestamps"]["start_timestamp"], scene["timestamps"]["end_timestamp"])
        ]
        for what, begin, stop in acts:
            start, end = seconds(begin), seconds(stop)
            said = " ".join(t for a, b, t in speech if a < end and b > start)
            for clip in clips:
                at = Span(clip.id, start - clip.start, end - clip.start, str(what).strip().rstrip("."),
                          f'a voice says "{said}"' if said else "")  # fmt: skip
                inside = at.start >= 0 and (clip.end is None or at.end <= clip.end - clip.start)
                if inside and at.start < at.end and (at.visual or at.audio):
                    yield at


def apart(a: Sequence[Span], b: Sequence[Span]) -> bool:
    """Whether two clips' descriptions say nothing in common about the sound."""
    return not {same(s.audio) for s in a if s.audio} & {same(s.audio) for s in b if s.audio}
