"""Is a shift heard by its timing, or by its traces? The controls beside Thud's shifts (none is in the paper).

A shift leaves more behind than a time: a filled edge, a sound at a moment where untouched clips have none. Four
conditions ask who answers by these (:mod:`.thud`): ``hush``, ``unseen``, ``dark`` and ``mute_room``.

How ``unseen`` and ``dark`` are read. With the picture black nothing can be compared, so there is no right answer,
and no rate is good or bad by itself. Who says "in sync" of everything has 0 for the direction of a moved sound; who
calls seven of ten clips shifted, blindly, hits the direction in 0.35. The second has learned no trace, it guesses
more. So the direction in the dark is held against the same clip untouched and just as black: does it say *this*
direction more often where the sound was moved *that way* than where it was not moved at all? :func:`beyond_alarms`
is that difference. Low is better: at 0 or below, what is right in the dark is guessed.

Functions: ``controls`` (the table), ``beyond_alarms`` and ``in_the_dark`` (its pairs), ``by_eye`` and ``shift_of``
(its pairs), ``said_right``, ``stated``; ``DESYNC`` (labels that call a clip shifted).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from earwitness import stats
from earwitness.protocols.cells import COUNTS, Hit, counts, is_label, paired, share
from earwitness.records import Cell, Estimate, Item, Judged, Row, Table
from earwitness.scoring import UNSCORED

DESYNC = ("DELAY", "EARLY", "DESYNC_NO_DIRECTION")


def _some(judged: Sequence[Judged], condition: str, task: str = "shift") -> list[Judged]:
    return [j for j in judged if (j.item.condition, j.item.question) == (condition, task)]


def _pair(item: Item) -> tuple[str, ...]:
    return (item.clip, item.question, item.style)


def stated(j: Judged, offset: float) -> bool | None:
    """Whether the answer states the direction of a shift by ``offset`` seconds; None where it could not be read."""
    if j.score.label in UNSCORED:
        return None
    return j.score.label == ("DELAY" if offset > 0 else "EARLY")


def said_right(j: Judged) -> bool | None:
    """Whether the direction of a shift is said, also where nothing right can be said (the picture is black)."""
    return stated(j, j.item.offset)


def by_eye(judged: Sequence[Judged]) -> Estimate | None:
    """Direction right with the picture minus without it, on the same shifts; None where either was not asked."""
    return paired(_some(judged, "shift"), _some(judged, "unseen"), shift_of, said_right)


def shift_of(item: Item) -> tuple[str, ...]:
    """What a shift with the picture and the same without it have in common."""
    return (*_pair(item), f"{item.offset:+.2f}")


@dataclass(frozen=True)
class Dark:
    """A moved sound in the dark: is its direction said of the moved clip, and of the same clip left as it was?"""

    moved: Item
    said: bool | None
    alarm: bool | None


def in_the_dark(judged: Sequence[Judged]) -> list[Dark]:
    """Each ``unseen`` answer with the ``dark`` one on the same clip in the same style, where both were asked.

    A clip that was moved late and early has one untouched twin: it is asked for "late" once and for "early" once.
    """
    still = {_pair(j.item): j for j in _some(judged, "dark")}
    return [
        Dark(j.item, said_right(j), stated(still[_pair(j.item)], j.item.offset))
        for j in _some(judged, "unseen")
        if _pair(j.item) in still
    ]


def clusters_of(pairs: Sequence[Dark]) -> list[str]:
    """The statistics' cluster of each pair: its source."""
    return stats.merge_clusters([p.moved.source for p in pairs], [p.moved.linked for p in pairs])


def beyond_alarms(judged: Sequence[Judged]) -> Estimate | None:
    """How much more often a shift's direction is said in the dark than alarms explain; LOW is better, 0 is none.

    ``mean_i [ 1(says s_i | clip moved by s_i, black) - 1(says s_i | same clip untouched, black) ]`` over the moved
    clips i with direction s_i, paired by clip and clustered by source (:func:`stats.difference`).

    Why this one. Half of the alarm rate is what a blind guess of the direction hits, but only where late and early
    are said equally often of every clip: who hears the moment calls early clips early, and a clip with an early
    moment can only be moved late. The twin's answer *in the direction of the shift* needs no such assumption, for
    each clip is its own baseline:

    - in sync, always: both terms are 0;
    - late, always (or any answer that does not look at the sound): both terms are equal, clip by clip;
    - a random guess at any rate, with any leaning: both have the same expectation, so 0 but for chance;
    - late where the sound lies in the clip's second half, early in its first: a moved sound crosses the middle and
      the untouched one has not, so clearly above 0;
    - any other trace, such as the filled edge: above 0, by as much as it is worth in right directions. Who hears
      only *that* something was moved and guesses which way still gains half of it, here as in the accuracy.

    Below 0 it says the shift's direction less often than of the untouched clip: nothing is bought by that either.
    A value above 0 does not say that answers with the picture rest on a trace (:func:`by_eye` says what they exceed
    it by), only that so much could be had by ear alone: who compares what is heard with what is seen, and takes
    black for some fixed moment, gets there too. None where ``unseen`` or ``dark`` was not asked.
    """
    pairs = in_the_dark(judged)
    return stats.difference([p.said for p in pairs], [p.alarm for p in pairs], clusters_of(pairs))


def controls(judged: Sequence[Judged]) -> Table:
    """The table of the controls of one style; rows of what was not asked are left out."""
    moved, unseen, dark = _some(judged, "shift"), _some(judged, "unseen"), _some(judged, "dark")
    hushed, room = _some(judged, "hush"), _some(judged, "mute_room", "mute")
    alarm = is_label(*DESYNC)
    rows: list[Row] = []

    def add(words: str, some: Sequence[Judged], hit: Hit) -> None:
        rows.append(Row(words, (share(some, hit), *counts(some, hit)[:4])))

    def joined(words: str, found: Estimate | None) -> None:
        nothing: tuple[Cell, ...] = (None,) * 4
        rows.append(Row(words, (found, *nothing)))

    if hushed or unseen:
        add("moved: direction right", moved, said_right)
    if unseen:
        add("moved, picture black: direction right", unseen, said_right)
    if dark:
        add("untouched, picture black: called shifted", dark, alarm)
    if unseen and dark:
        joined("picture black: direction right beyond alarms", beyond_alarms(judged))
    if unseen:
        joined("what the picture adds", by_eye(judged))
    if hushed:
        add("untouched: called shifted", _some(judged, "original"), alarm)
        add("filled, not moved: called shifted", hushed, alarm)
    if room:
        add("only room tone left: hears a sound", room, is_label("SOUND_DESCRIBED"))
    return Table(
        id="thud_controls",
        title="Is it the timing that is heard?",
        caption=(
            "Not in the paper. A shift leaves other traces than its timing: a filled edge, a sound at an unusual "
            "moment. Who answers by those is right about the direction with the picture black as well, or calls "
            "shifted what was filled as in a shift and not moved. With the picture black nobody can know, so "
            "neither a right direction nor an alarm is good or bad by itself: guesses hit, too. Beyond alarms: how "
            "much more often a direction is said of the clip moved that way than of the same clip untouched, both "
            "black; 0 for whoever guesses, above 0 for whoever hears a trace of the shift."
        ),
        columns=("rate", *COUNTS[:4]),
        rows=tuple(rows),
        unit="mixed",
    )
