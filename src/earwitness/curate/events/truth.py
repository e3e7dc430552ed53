"""Event labels against exact truth: the error of annotators, of the onset detector, and of what is kept.

Made wherever the manifest's clips have events with both times. An estimate is held against the nearest true event
of the clip (an annotator chooses which one it names), the detector against all of them: an onset within 0.1 s of a
sounding finds it; one that finds none is false.

Functions: ``truth_tables``, ``detector`` (its error on one clip).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from earwitness import stats
from earwitness.curate.events.agreement import EASE, Decision
from earwitness.curate.events.wish import Wish
from earwitness.curate.events.witness import Measured, salient
from earwitness.records import Cell, Clip, Event, Row, Table

MATCH = 0.1  # s; half of the shortest distance between two soundings of a procedural clip is 0.17 s
Found = Mapping[str, Measured | str]


class Heard(NamedTuple):
    """The detector on one clip: absolute errors of what it found (s), soundings missed, false onsets."""

    errors: list[float]
    missed: int
    false: int


def detector(onsets: Sequence[float], truth: Sequence[float], match: float = MATCH) -> Heard:
    """Onsets against true soundings, all in s."""
    errors = [min((abs(o - t) for o in onsets), default=float("inf")) for t in truth]
    found = [e for e in errors if e <= match + EASE]
    false = sum(all(abs(o - t) > match + EASE for t in truth) for o in onsets)
    return Heard(found, len(errors) - len(found), false)


def truth_tables(
    decisions: Sequence[Decision], found: Found, clips: Mapping[str, Clip], wanted: Wish, annotators: Sequence[str]
) -> list[Table]:
    """Labels and annotators against the manifest's events, then the detector; nothing where it has none."""
    known = {i: [e for e in c.events if e.seen is not None and e.heard is not None] for i, c in clips.items()}
    known = {i: events for i, events in known.items() if events}
    if not known:
        return []
    mine = [d for d in decisions if d.clip in known]
    both = _labels(mine, known, clips, wanted, annotators), _detector(mine, found, known, clips, wanted)
    return [table for table in both if table.rows]


Known = Mapping[str, Sequence[Event]]


def _off(at: float, events: Sequence[Event], sense: str) -> float:
    return min(abs(at - float(getattr(e, sense))) for e in events)


def _labels(
    mine: Sequence[Decision], known: Known, clips: Mapping[str, Clip], wanted: Wish, annotators: Sequence[str]
) -> Table:
    rows = []
    eps = {"seen": wanted.eps_v, "heard": wanted.eps_a}
    for name in annotators:
        for sense, limit in eps.items():
            off = [
                (_off(t, known[d.clip], sense), clips[d.clip].cluster)
                for d in mine
                for a in d.annotations
                if a.annotator == name and (t := getattr(a, sense)) is not None
            ]
            rows += _row(f"{name}: {sense}", off, limit)
        right = [
            (any(a.unit[0] <= (e.seen or 0.0) <= a.unit[1] for e in known[d.clip]), clips[d.clip].cluster)
            for d in mine
            for a in d.annotations
            if a.annotator == name and a.unit is not None
        ]
        if right:
            share = stats.proportion([r for r, _ in right], [c for _, c in right])
            rows.append(Row(f"{name}: unit holds the event", (share, None, None, None, len(right))))
    for verdict in ("kept", "queued"):
        for sense, limit in eps.items():
            off = [
                (_off(t, known[d.clip], sense), clips[d.clip].cluster)
                for d in mine
                if d.verdict == verdict and d.event is not None and (t := getattr(d.event, sense)) is not None
            ]
            what = "labels kept" if verdict == "kept" else "proposals queued"
            rows += _row(f"{what}: {sense}", off, limit, "model" if verdict == "kept" else "reference")
    return Table(
        id="events_truth", title="Against the manifest's own events", rows=tuple(rows), unit="mixed",
        columns=("within tolerance", "median error, s", "95 % within, s", "largest, s", "clips"),
        caption=f"The clip's nearest event; tolerance {wanted.eps_v:g} s (seen), {wanted.eps_a:g} s (heard).",
    )  # fmt: skip


def _row(label: str, off: Sequence[tuple[float, str]], limit: float, kind: str = "model") -> list[Row]:
    if not off:
        return []
    far = [o for o, _ in off]
    within = stats.proportion([o <= limit + EASE for o in far], [c for _, c in off])
    cells: tuple[Cell, ...] = (within, *_three(far), len(far))
    return [Row(label, cells, kind)]  # type: ignore[arg-type]


def _three(far: Sequence[float]) -> tuple[str, str, str]:
    """Median, 95 % quantile, largest, to a millisecond: tables of shares show hundredths."""
    values = (np.median(far), np.quantile(far, 0.95), np.max(far))
    first, second, third = (f"{float(v):.3f}" for v in values)
    return first, second, third


def _detector(
    mine: Sequence[Decision], found: Found, known: Known, clips: Mapping[str, Clip], wanted: Wish
) -> Table:
    rows = []
    for label, least in (("every onset", None), (f"rises by {wanted.salience:g} dB", wanted.salience)):
        errors: list[float] = []
        caught: list[bool] = []
        owners: list[str] = []
        false = heard = 0
        for d in mine:
            m = found[d.clip]
            if not isinstance(m, Measured):
                continue
            some = m.onsets if least is None else salient(m, least)
            one = detector([o.at for o in some], [e.heard or 0.0 for e in known[d.clip]])
            errors, false, heard = errors + one.errors, false + one.false, heard + 1
            caught += [True] * len(one.errors) + [False] * one.missed
            owners += [clips[d.clip].cluster] * (len(one.errors) + one.missed)
        if heard and caught:
            three = _three(errors) if errors else (None, None, None)
            rows.append(Row(label, (stats.proportion(caught, owners), *three, false / heard, len(caught))))
    return Table(
        id="events_detector", title="The onset detector against the manifest's own events", rows=tuple(rows),
        columns=("found", "median error, s", "95 % within, s", "largest, s", "false a clip", "soundings"),
        unit="mixed", caption=f"An onset within {MATCH:g} s of a sounding finds it; one that finds none is false.",
    )  # fmt: skip
