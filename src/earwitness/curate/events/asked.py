"""What annotators are asked: the event and its two times, or the frame unit in which an event is seen.

The two prompts are those of arXiv 2605.16403 (appendix), word for word. The first is for models that take video
with sound (here: *listeners*); the second for models that look (*watchers*): they get the frames without any sound
track, and the list of the units with their times below the prompt.

A clip of T seconds has N = ceil(T / 1.0 s) units of equal length T / N. Differs from the source, which says
"non-overlapping windows": with windows of exactly 1 s the last one of a clip of 10.03 s would hold no frame.

Where the manifest's truth is exact, items carry it as tags: no prompt shows them, and only the fake annotators
(``models.fake_annotator``), whose error is to be known, read them.

Functions: ``units``, ``event_item``, ``unit_item``.
"""

from __future__ import annotations

import math
from itertools import pairwise

from earwitness.protocols.making import finish, length
from earwitness.records import Clip, Intervention, Item, View, digest

ANNOTATE = (
    "You are given a video with audio. Identify the most salient visible event that has a corresponding acoustic "
    "consequence. Return a JSON object with the following fields: visual_event: a short description of the visible "
    "event. visual_time: the timestamp in seconds when the visible event occurs. audio_event: a short description "
    "of the corresponding sound. audio_time: the timestamp in seconds when the sound occurs. confidence: high / "
    "medium / low. If the visual event or audio event cannot be localized reliably, return uncertain."
)
FRAME_UNIT = (
    "You are given temporally ordered frame units from a video. Each unit contains representative frames and a "
    "timestamp range. Target visual event: {event}. Select the frame unit where this event occurs. Return: "
    "unit_id, timestamp_range, and a one-sentence justification. If the event is not visible or cannot be "
    "localized, return uncertain."
)
UNIT = 1.0  # seconds; as many units as there are begun ones in the clip
DECODE = 256  # new tokens at most: the JSON object takes about 80
Interval = tuple[float, float]


def units(seconds: float, unit: float = UNIT) -> tuple[Interval, ...]:
    """The frame units of a clip: N = ceil(T / unit) windows [start, end) of equal length, in seconds.

    >>> units(2.5)
    ((0.0, 0.833333), (0.833333, 1.666667), (1.666667, 2.5))
    """
    if not (math.isfinite(seconds) and seconds > 0 and unit > 0):
        raise ValueError(f"frame units: {seconds} s in units of {unit} s cannot be (did you pass milliseconds?)")
    count = max(1, math.ceil(seconds / unit - 1e-6))
    edges = [round(k * seconds / count, 6) for k in range(count + 1)]
    return tuple(pairwise(edges))


def event_item(clip: Clip, stamp: str = "") -> Item:
    """The question to a listener. ``stamp`` is the file's, so that a changed file is asked about anew."""
    return _item(clip, "event", ANNOTATE, Intervention(), stamp)


def unit_item(clip: Clip, event: str, view: View, unit: float = UNIT, stamp: str = "") -> Item:
    """The question to a watcher who is shown ``view.fps`` frames a second: in which unit is ``event`` seen?

    Raises ValueError where the clip's length is not known.
    """
    windows = units(_seconds(clip), unit)
    lines = [FRAME_UNIT.format(event=event.strip().rstrip(".")), "", "Frame units:"]
    for number, (start, end) in enumerate(windows, 1):
        first, stop = (math.ceil(t * view.fps - 1e-6) for t in (start, end))  # frames show the instants i / fps
        shown = f"frames {first + 1} to {stop}" if stop > first + 1 else f"frame {first + 1}"
        lines.append(f"unit {number}: {start:.2f} to {end:.2f} s" + (f" ({shown})" if stop > first else ""))
    tags = {"units": "|".join(f"{a!r}-{b!r}" for a, b in windows), "event": event}
    return _item(clip, "unit", "\n".join(lines), Intervention(kind="no_track"), stamp, tags)


def _item(
    clip: Clip, question: str, prompt: str, iv: Intervention, stamp: str, tags: dict[str, str] | None = None
) -> Item:
    known = [e for e in clip.events if e.seen is not None and e.heard is not None]
    tags = {"seconds": repr(_seconds(clip)), **({"file": stamp} if stamp else {}), **(tags or {})}
    if known:
        tags["truth"] = "|".join(f"{e.what}@{e.seen!r}/{e.heard!r}" for e in known)
    return finish(
        Item(
            id="", protocol="events", condition="original" if question == "event" else "no_track",
            question=question, style="published", clip=clip.id, source=clip.cluster,
            group=digest("events", clip.id, question), intervention=iv, prompt=prompt, target=None,
            evidence=("video", "audio", "sync") if question == "event" else ("video",), seen=clip.seen,
            heard=clip.heard if question == "event" else (), decode=DECODE, tags=tags,
        )
    )  # fmt: skip


def _seconds(clip: Clip) -> float:
    found = length(clip)
    if found is None:
        raise ValueError(f"clip {clip.id} has no end: its length must be known before its frame units are")
    return round(found, 6)
