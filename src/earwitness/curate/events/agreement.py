"""Do the annotators agree, does the clip bear them out, and can it be shifted? Kept, for people, or dropped.

An event's label is **kept** where the largest pairwise difference of the times seen is within eps_v = 0.8 s and
that of the times heard within eps_a = 0.5 s (arXiv 2605.16403, appendix), an acoustic onset lies within eps_a of
the time heard, and the gates pass. What people can settle is **queued** for them; what nobody can settle (no sound,
an event that a shift pushes off the clip) is **dropped**.

A frame unit is an interval: it says that the event is seen somewhere in it. By default its middle stands for it:
the right unit of 1 s is never more than 0.5 s away, and a neighbouring one agrees with times in its nearest 0.3 s.
``interval="gap"`` takes the least by which the two statements can differ (0 where they meet), for units that are
long against eps_v: then a time that is 1 s off agrees with three of four right units (docs/curate_events.md).

The time heard needs two sources as the time seen does: a second listener, or the onset. The time seen needs two
annotators (or, where asked for, the manifest's own events). So a single annotator is always queued but where
``given`` finds it and the onset in agreement. That the picture changes near the time seen is no second source:
most pictures change within any 0.8 s.

Functions: ``apart``, ``spread``, ``decide``, ``room``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import median
from typing import Any, Literal

import msgspec
import numpy as np

from earwitness.curate.events.asked import Interval
from earwitness.curate.events.read import Confidence, Outcome
from earwitness.curate.events.wish import Wish
from earwitness.curate.events.witness import Measured, Onset, moving, nearest, salient
from earwitness.datasets.labels import check_times
from earwitness.protocols.making import APART, fits
from earwitness.records import Clip, Event

EASE = 1e-6  # seconds: 2.5 - 2.0 is not above 0.5
STEP = 0.05  # s; the grid of an audit's own shifts (protocols.thud.band_shift)
NEAR_DB = 6.0  # a sound this near in salience to the event's passes for it
LEVELS = ("low", "medium", "high")
GIVEN = "the manifest"  # as an annotator

Verdict = Literal["kept", "queued", "dropped"]
# gate -> what it means that a clip does not pass it, in the order of the table
GATES: dict[str, str] = {
    "media": "no picture, no sound, silence, or a file that cannot be read: dropped",
    "clarity": "all listeners: uncertain (dropped); some annotator: uncertain; confidence; nothing moves",
    "unread": "no listener gave an answer that could be read",
    "sources": "one annotator only says when it is seen",
    "seen": "the times seen differ by more than eps_v",
    "heard": "the times heard differ by more than eps_a",
    "onset": "no salient sound starts within eps_a of the time heard",
    "times": "sound and picture further apart than an untouched clip's, or outside of it",
    "validity": "the shifts of the band push the event to an edge (dropped), or another sound onto it",
}
Sight = float | Interval  # a moment, or a frame unit


class Annotation(msgspec.Struct, frozen=True, kw_only=True):
    """What one annotator said of a clip: an event with its times, or a frame unit; ``text`` is the raw answer."""

    annotator: str
    kind: Literal["event", "unit"]
    outcome: Outcome
    visual_event: str = ""
    seen: float | None = None
    unit: Interval | None = None
    audio_event: str = ""
    heard: float | None = None
    confidence: Confidence | None = None
    text: str | None = None
    why: str = ""

    @property
    def sight(self) -> Sight | None:
        """When it is seen, as a moment or an interval; None where it says nothing."""
        return self.seen if self.unit is None else self.unit


class Reason(msgspec.Struct, frozen=True):
    """Why a clip is not kept: which of :data:`GATES` it does not pass, and in words."""

    gate: str
    says: str


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the whole band of shifts fits late and early, and which share of it no rival spoils."""

    late: bool
    early: bool
    clear: float


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a clip, and why; ``event`` is the label, or the proposal to people (None: there is none).

    ``onset`` is the one nearest to the time heard, ``away`` how far (s; > 0: after it). ``refined`` is the time
    heard that was replaced by the onset. ``change`` is the picture's largest change near the time seen.
    """

    clip: str
    verdict: Verdict
    why: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    event: Event | None = None
    spread_v: float | None = None
    spread_a: float | None = None
    onset: Onset | None = None
    away: float | None = None
    refined: float | None = None
    change: float | None = None
    changed_at: float | None = None
    still: bool = False
    room: Room | None = None
    annotations: tuple[Annotation, ...] = ()


def apart(one: Sight, other: Sight, interval: str = "middle") -> float:
    """Seconds between two sights; see the module's text for how an interval counts.

    >>> apart(2.5, (3.0, 4.0)), apart((1.0, 2.0), (2.0, 3.0)), apart(2.5, (3.0, 4.0), "gap")
    (1.0, 1.0, 0.5)
    """
    (a, b), (c, d) = (_ends(s, interval) for s in (one, other))
    return max(0.0, c - b, a - d)


def _ends(sight: Sight, interval: str) -> Interval:
    if not isinstance(sight, tuple):
        return sight, sight
    middle = (sight[0] + sight[1]) / 2
    return sight if interval == "gap" else (middle, middle)


def spread(sights: Iterable[Sight], interval: str = "middle") -> float | None:
    """The largest pairwise difference in s; None of fewer than two."""
    found = [apart(a, b, interval) for a, b in combinations(sights, 2)]
    return round(max(found), 6) if found else None


def decide(
    clip: Clip,
    annotations: Sequence[Annotation],
    found: Measured | str,
    wanted: Wish,
    manifest: Sequence[Event] = (),
) -> Decision:
    """What becomes of a clip's label.

    Parameters
    ----------
    annotations : of all annotators; their order changes nothing but the order in which they are listed.
    found : what was measured on the clip, or why it could not be.
    manifest : the events that the manifest has, counted where ``wanted.given``.
    """

    def out(verdict: Verdict, why: Sequence[Reason], **more: Any) -> Decision:
        return Decision(clip=clip.id, verdict=verdict, why=tuple(why), annotations=tuple(annotations), **more)

    if gone := _unusable(found):
        return out("dropped", [Reason("media", gone)])
    assert isinstance(found, Measured)
    said = sorted((a for a in annotations if a.outcome == "placed"), key=lambda a: a.annotator)
    heard = [a for a in said if a.kind == "event"]
    asked = [a for a in annotations if a.kind == "event"]
    if not heard:
        none = bool(asked) and all(a.outcome == "uncertain" for a in asked)
        said_so = "; ".join(sorted(map(_silence, asked))) or "no listener was asked about it"
        return out("dropped" if none else "queued", [Reason("clarity" if none else "unread", said_so)])
    t_v, t_a = (float(median(t)) for t in ([a.seen or 0.0 for a in heard], [a.heard or 0.0 for a in heard]))
    if wanted.given and (own := _nearest_event(manifest, t_v, t_a)):
        assert own.seen is not None
        assert own.heard is not None
        said.append(Annotation(annotator=GIVEN, kind="event", outcome="placed", seen=own.seen, heard=own.heard))
    why, notes = _differ(said, annotations, wanted)
    sights = [a.sight for a in said if a.sight is not None]
    sounds = [a.heard for a in said if a.heard is not None]
    audible = salient(found, wanted.salience)
    onset = nearest(audible, t_a)
    borne = onset is not None and abs(onset.at - t_a) <= wanted.eps_a + EASE
    if not borne:
        onset = nearest(found.onsets, t_a)
        why.append(Reason("onset", _no_onset(onset, t_a, wanted)))
    change = moving(found, t_v, wanted.eps_v)
    if change is not None and change.still:
        why.append(Reason("clarity", f"nothing moves in the picture within {wanted.eps_v:g} s of {t_v:.2f} s"))
    refined = None
    if borne and wanted.refine and onset is not None and onset.at != t_a:
        refined, t_a = t_a, onset.at
    event = Event(_name(clip, heard, wanted), round(t_v, 3), round(t_a, 3))
    labelled = msgspec.structs.replace(clip, events=(event,), start=0.0, end=found.seconds)
    if wrong := check_times(labelled, found.seconds):
        why.append(Reason("times", wrong[0]))
    room = _room(labelled, audible, onset if borne else None, wanted)
    refusal = _invalid(room, wanted)
    notes += [refusal] * bool(refusal and wanted.shift == "no")
    verdict: Verdict = "queued" if why else "kept"
    if refusal and wanted.shift != "no":
        verdict = "queued" if why else "dropped"  # what people change may change this, too
        why.append(Reason("validity", refusal))
    return out(
        verdict, why, notes=tuple(notes), event=event, spread_v=spread(sights, wanted.interval),
        spread_a=spread(sounds), onset=onset, away=None if onset is None else round(onset.at - (refined or t_a), 4),
        refined=refined, change=None if change is None else change.size,
        changed_at=None if change is None else change.at, still=change is not None and change.still, room=room,
    )  # fmt: skip


def _unusable(found: Measured | str) -> str:
    if isinstance(found, str):
        return f"cannot be read: {found}"
    if not found.frames:
        return "has no pictures"
    if found.loudest is None:
        return "has no sound track"
    return "is silent" if found.silent else ""


def _silence(a: Annotation) -> str:
    """Why an annotator gives no time, in words."""
    words = {
        "uncertain": "cannot place any event", "UNPARSED": "gave no readable answer", "REFUSED": "declines",
        "failed": "failed",
    }  # fmt: skip
    return f"{a.annotator} {words[a.outcome]}" + (f" ({a.why})" if a.why and a.outcome != "REFUSED" else "")


def _differ(
    said: Sequence[Annotation], annotations: Sequence[Annotation], wanted: Wish
) -> tuple[list[Reason], list[str]]:
    """In words what the annotators differ in, and what is only to be noted."""
    why: list[Reason] = []
    notes: list[str] = []
    sights = {a.annotator: a.sight for a in said if a.sight is not None}
    sounds = {a.annotator: a.heard for a in said if a.heard is not None}
    if len(sights) < 2:
        why.append(Reason("sources", f"only {next(iter(sights))} says when it is seen"))
    both: list[tuple[str, dict[str, Any], float]]
    both = [("seen", sights, wanted.eps_v), ("heard", sounds, wanted.eps_a)]
    for sense, times, eps in both:
        far = spread(times.values(), wanted.interval)
        if far is not None and far > eps + EASE:
            each = ", ".join(f"{name} {_shown(t)}" for name, t in times.items())
            why.append(Reason(sense, f"{sense} times differ by {far:.2f} s: {each}"))
    for a in sorted(annotations, key=lambda a: a.annotator):
        if a.outcome == "uncertain":  # the others place it: that is a difference
            why.append(Reason("clarity", _silence(a)))
        elif a.outcome != "placed":
            notes.append(_silence(a))
        elif a.kind == "event" and (a.confidence is None or _level(a.confidence) < _level(wanted.confidence)):
            why.append(Reason("clarity", f"{a.annotator} states {a.confidence or 'no'} confidence"))
    return why, notes


def _level(confidence: str) -> int:
    return LEVELS.index(confidence)


def _shown(sight: Sight) -> str:
    return f"{sight[0]:.2f}-{sight[1]:.2f} s" if isinstance(sight, tuple) else f"{sight:.2f} s"


def _no_onset(onset: Onset | None, t_a: float, wanted: Wish) -> str:
    nothing = f"no sound starts within {wanted.eps_a:g} s of {t_a:.2f} s"
    if onset is None:
        return nothing + " (nor anywhere)"
    return f"{nothing} (the nearest onset is at {onset.at:.2f} s, {onset.rise:+.0f} dB)"


def _nearest_event(events: Sequence[Event], t_v: float, t_a: float) -> Event | None:
    def far(e: Event) -> float:
        return abs((e.seen or 0.0) - t_v) + abs((e.heard or 0.0) - t_a)

    return min((e for e in events if e.seen is not None and e.heard is not None), key=far, default=None)


def _name(clip: Clip, heard: Sequence[Annotation], wanted: Wish) -> str:
    if wanted.what == "class" and clip.seen:
        return clip.seen[0]
    return heard[0].visual_event or heard[0].audio_event


def room(clip: Clip, band: tuple[float, float]) -> tuple[bool, bool]:
    """Whether every shift of the band leaves the clip's events where they can be checked: late, early."""
    grid = _grid(band)
    late, early = (all(fits(clip, sign * d) for d in grid) for sign in (1, -1))
    return late, early


def _grid(band: tuple[float, float]) -> list[float]:
    low, high = band
    return [round(float(d), 2) for d in np.arange(low, high + STEP / 2, STEP)]


def _room(clip: Clip, audible: Sequence[Onset], own: Onset | None, wanted: Wish) -> Room:
    """A rival is another sound of like salience that a shift brings to the moment of the sight: in step again."""
    late, early = room(clip, wanted.shift_band)
    seen = clip.events[0].seen or 0.0
    least = 0.0 if own is None else own.rise - NEAR_DB
    rivals = np.array([o.at for o in audible if o is not own and o.rise >= least])
    shifts = [sign * d for sign, may in ((1, late), (-1, early)) if may for d in _grid(wanted.shift_band)]
    free = [not len(rivals) or bool(np.abs(rivals + d - seen).min() >= APART) for d in shifts]
    return Room(late=late, early=early, clear=round(sum(free) / len(free), 3) if free else 0.0)


def _invalid(found: Room, wanted: Wish) -> str:
    """Why a clip is not fit for the interventions; empty where it is."""
    low, high = wanted.shift_band
    lost = [name for name, may in (("late", found.late), ("early", found.early)) if not may]
    if len(lost) == 2 or (lost and wanted.shift == "both"):
        return f"a shift of {low:g} to {high:g} s {' or '.join(lost)} pushes it to the clip's edge"
    if wanted.rivals == "drop" and found.clear < 0.5:
        return "after most shifts another sound falls on what is seen"
    return ""
