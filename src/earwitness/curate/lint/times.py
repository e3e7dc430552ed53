"""Times in a data set: do the stated ones agree with the true ones, and can the event still be heard?

True offsets come from file names or from the intervention (seconds, > 0 = sound late); stated ones from the texts
that a model is taught: a gap ("about 1.0 s apart"), else the distance of two moments ("seen at 5.0 s, heard around
4.0 s").

Checks: ``off_clip``, ``stated_offset``, ``stated_verdict``, ``whole_seconds``. Besides: ``stated`` (what a text
says about time).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from earwitness.curate.lint.findings import FEW, SOME, Finding, amount, finding, idle
from earwitness.curate.lint.rows import Material, Sample
from earwitness.protocols.making import EDGE
from earwitness.questions import clean, judge_shift
from earwitness.questions.timing import seconds_in
from earwitness.records import Clip, how_many

# Seconds between stated and true offset that make the text wrong: half of the smallest shift that Thud trains on
# (1.8 s), so that beyond it the text is nearer to another truth than to its row's own.
APART = 0.9
WHOLE = 0.5  # of the stated times; of times to a tenth of a second a tenth falls on a whole second
LEAST = 20  # stated times: fewer say nothing about a habit
WAYS = ("in step", "late", "early")
_ROUND = r"(?:about |around |roughly |approximately |only |just |nearly |right |~ ?|the |a |an |t ?= ?)*"
_MOMENT = re.compile(
    rf"(?:\bat|@|=|\bt ?:|\baround|\bnear|\bfrom|\b(?:is|was|comes?|occurs?|lands?)) {_ROUND}$|^at\b|^@"
)
_GAP_NAMED = re.compile(
    r"\b(?:gap|offset|separation|difference|delay|lag|mismatch|interval|discrepancy|tolerance)\b[^.;:\d]{0,40}$"
    rf"|\b(?:by|within) {_ROUND}$"
)
_GAP_FOLLOWS = re.compile(
    r"^[\s\-]*(?:[a-z]+ ){0,2}?(?:gap|offset|separation|difference|delay|lag|mismatch|discrepancy|tolerance|apart"
    r"|later|earlier|after|before|away|behind|ahead|late|early|from|of)\b"
)


class Stated(NamedTuple):
    """What a text says about time, in seconds: gaps between sound and picture, and moments of either."""

    gaps: tuple[float, ...]
    moments: tuple[float, ...]

    @property
    def gap(self) -> float | None:
        """The gap it states, never negative: the largest named, else the distance of its moments."""
        if self.gaps:
            return max(self.gaps)
        return max(self.moments) - min(self.moments) if len(set(self.moments)) > 1 else None


@lru_cache(maxsize=16_384)  # several checks read the same texts
def stated(text: str) -> Stated:
    """The gaps and moments that a text names.

    >>> stated("Seen at 5.0s, heard around 4.0s, a gap of about 1.0s.")
    Stated(gaps=(1.0,), moments=(5.0, 4.0))
    """
    body = clean(text)
    gaps: list[float] = []
    moments: list[float] = []
    for t in seconds_in(body):
        before, named, after = body[: t.start], body[t.start : t.end], body[t.end :]
        follows = _GAP_FOLLOWS.search(after) is not None
        if named.startswith(("a second", "one second")) and not follows:
            continue  # "a second child"
        placed = _MOMENT.search(before) or _MOMENT.search(named) or ":" in named
        (moments if placed and not follows and not _GAP_NAMED.search(before) else gaps).append(t.seconds)
    return Stated(tuple(gaps), tuple(moments))


def _timed(m: Material) -> list[Sample]:
    """Rows with a true offset and a text that speaks of it."""
    return [s for s in m.samples if s.offset is not None and s.chosen and s.kind != "choice"]


def _way(s: Sample) -> str:
    offset = s.offset or 0.0
    return "in step" if offset == 0 else "late" if offset > 0 else "early"


def off_clip(m: Material) -> Finding:
    """Shifted rows whose sound has left the clip, or lies within 0.3 s of its edge.

    By the clips' own events where they are known, else by the texts: a sound that is early and heard at exactly
    0.0 s was cut off (arXiv 2605.16403's rows put it there), one within 0.3 s cannot be told from one cut off.
    """
    check = "off_clip"
    why = (
        "a shift that pushes the event off the clip is a mute with the wrong label: nobody can hear the offset "
        "that the row teaches"
    )
    shifted = [s for s in m.samples if s.offset]
    if not shifted:
        return idle(check, "no row says by how much its sound was moved", why)
    where = {s.id: _where(s, m.clips.get(s.clip)) for s in shifted}
    if not any(where.values()):
        return idle(check, f"neither events nor texts say when the {len(shifted):,} shifted sounds are heard", why)
    gone, edge = ([s.id for s in shifted if where[s.id] == place] for place in ("gone", "edge"))
    of = Counter(_way(s) for s in shifted)
    lost = Counter(_way(s) for s in shifted if where[s.id] == "gone")
    ways = ", ".join(f"{lost[way]:,} of {of[way]:,} {way}" for way in WAYS if of[way])
    says = f"the sound is at the clip's very edge or off it in {ways} rows, within {EDGE} s in {len(edge):,} more"
    return finding(
        check, amount(len(gone + edge) / len(shifted), FEW), gone + edge, len(shifted), says, why,
        counts={**{f"{way} gone": lost[way] for way in of}, **of, "edge": len(edge)},
    )  # fmt: skip


def _where(s: Sample, clip: Clip | None) -> str:
    """Where a shifted sound has got to: "inside", "edge", "gone", or "" where nothing says so."""
    offset = s.offset or 0.0
    if clip is not None and clip.end is not None:
        moved = [e.heard + offset for e in clip.events if e.heard is not None]
        whole = clip.end - clip.start
    else:
        moved, whole = list(stated(s.chosen or "").moments), float("inf")
        if offset < 0 and moved and min(moved) == 0:
            return "gone"
        if offset > 0:
            return ""  # the clip's length is not known
    if not moved:
        return ""
    if min(moved) < 0 or max(moved) > whole:
        return "gone"
    return "edge" if min(moved) < EDGE or max(moved) > whole - EDGE else "inside"


def stated_offset(m: Material) -> Finding:
    """Texts whose stated gap is 0.9 s or more from the row's true offset."""
    check = "stated_offset"
    why = "a text that states another offset than its clip has teaches to make up times"
    timed = _timed(m)
    gaps = {s.id: stated(s.chosen or "").gap for s in timed}
    states = sum(g is not None for g in gaps.values())
    if not states:
        none = "no row has both a true offset and a text about it"
        return idle(
            check, f"none of the {how_many(len(timed), 'text')} about timing states a time" if timed else none, why
        )
    wrong = [s for s in timed if (g := gaps[s.id]) is not None and abs(g - abs(s.offset or 0)) > APART - 1e-6]
    by, of = Counter(map(_way, wrong)), Counter(map(_way, timed))
    ways = ", ".join(f"{by[way]:,} of {of[way]:,} {way}" for way in WAYS if of[way])
    return finding(
        check, amount(len(wrong) / len(timed), SOME), [s.id for s in sorted(wrong, key=lambda s: s.offset != 0)],
        len(timed),
        f"{len(wrong):,} of {how_many(len(timed), 'text')} state a gap that is {APART} s or more from the truth: "
        f"{ways}", why,
        counts={**{f"{way} wrong": by[way] for way in of}, **of, "state a time": states},
    )  # fmt: skip


def stated_verdict(m: Material) -> Finding:
    """Texts that say "in step" of a shifted clip, "not in step" of an untouched one, or the wrong direction."""
    check = "stated_verdict"
    why = "what is taught as right contradicts what was done to the clip: the model is punished for listening"
    timed = [s for s in _timed(m) if s.gold in ("SYNC", "DELAY", "EARLY")]
    if not timed:
        return idle(check, "no row has both a true offset and a text about it", why)
    says = {s.id: judge_shift(s.chosen or "").label for s in timed}
    known = {
        "SYNC": {"DELAY", "EARLY", "DESYNC_NO_DIRECTION"},
        "DELAY": {"SYNC", "EARLY"},
        "EARLY": {"SYNC", "DELAY"},
    }
    wrong = [s for s in timed if says[s.id] in known[s.gold or ""]]
    unread = sum(label not in ("SYNC", "DELAY", "EARLY", "DESYNC_NO_DIRECTION") for label in says.values())
    by = Counter(f"{s.gold} said to be {says[s.id]}" for s in wrong)
    text = f"{len(wrong):,} of {how_many(len(timed), 'text')} contradict the clip's truth"
    if by:
        text += f" ({'; '.join(f'{n:,} {what}' for what, n in by.most_common())})"
    if unread:
        text += f"; {unread:,} could not be read"
    return finding(
        check, amount(len(wrong) / len(timed), SOME, FEW), [s.id for s in wrong], len(timed), text, why,
        counts={**by, "unread": unread},
    )  # fmt: skip


def whole_seconds(m: Material) -> Finding:
    """Moments that fall on whole seconds: what a model that samples a frame a second says, not what happened."""
    check = "whole_seconds"
    why = (
        "times on whole seconds in bulk are guesses of a model that sees a frame a second; they hide offsets of 1 s"
    )
    if m.clips:
        times = [(c.id, t) for c in m.clips.values() for e in c.events for t in (e.seen, e.heard) if t is not None]
    else:
        times = [(s.id, t) for s in _timed(m) for t in stated(s.chosen or "").moments]
    if len(times) < LEAST:
        return idle(
            check,
            f"{how_many(len(times), 'event time is', 'event times are')} stated: too few to show a habit",
            why,
        )
    whole = [i for i, t in times if abs(t - round(t)) < 1e-6]
    share = len(whole) / len(times)
    return finding(
        check, "warns" if share >= WHOLE else "fine", whole, len(times),
        f"{len(whole):,} of {len(times):,} times fall on a whole second ({share:.0%}; by chance 10 %)", why,
        numbers={"share": share},
    )  # fmt: skip


CHECKS: Sequence[Callable[[Material], Finding]] = (
    off_clip, stated_offset, stated_verdict, whole_seconds,
)  # fmt: skip
