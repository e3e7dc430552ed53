"""What labelled events look like: verdicts, annotators, agreement, onsets by chance, heaping, room for shifts.

Where the manifest's events are exact (procedural clips, or labels that people set), the annotators, the onset
detector and the kept labels are held against them: that is the error of the whole pipeline.

Functions: ``tables``, ``notes``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median

import numpy as np

from earwitness import stats
from earwitness.curate.events.agreement import EASE, GATES, Annotation, Decision, apart
from earwitness.curate.events.habits import Heap, heaping
from earwitness.curate.events.truth import truth_tables
from earwitness.curate.events.wish import Wish
from earwitness.curate.events.witness import Measured, covered, nearest, salient
from earwitness.records import Cell, Clip, Row, Table, how_many

NAMED = 5  # clips that a line names
Found = Mapping[str, Measured | str]


def tables(
    decisions: Sequence[Decision], found: Found, clips: Mapping[str, Clip], wanted: Wish, annotators: Sequence[str]
) -> list[Table]:
    """All tables that have something to say; ``clips`` as the manifest has them."""
    out = [_verdicts(decisions), _annotators(decisions, annotators)]
    sources = {i: c.cluster for i, c in clips.items()}
    if pairs := _pairs(decisions, wanted, sources):
        out.append(pairs)
    if acoustic := _acoustic(decisions, found, wanted, sources):
        out.append(acoustic)
    if heaps := heaping(_times(decisions, sources, annotators), wanted.resolution):
        out.append(_heaps(heaps))
    if any(d.room for d in decisions):
        out.append(_rooms(decisions, wanted))
    return out + truth_tables(decisions, found, clips, wanted, annotators)


def notes(decisions: Sequence[Decision], found: Found, wanted: Wish, annotators: Sequence[str]) -> list[str]:
    """In plain words: what a person should know before using the labels."""
    out = []
    if len(annotators) == 1 and not wanted.given:
        out.append(
            "one annotator only: nothing is kept without people, for nobody else says when an event is seen "
            "(another --annotator, or --set given=yes where the manifest has events)"
        )
    for h in heaping(_times(decisions, {}, annotators), wanted.resolution):
        if h.flagged:
            out.append(
                f"{h.annotator}: {h.share.value:.0%} of its times {h.sense} fall on {h.place} seconds "
                f"[{h.share.low:.0%}, {h.share.high:.0%}], {h.expected:.0%} by chance: it does not tell tenths"
            )
    for name in annotators:
        lost = {d.clip: a.why for d in decisions for a in d.annotations if a.annotator == name and _failed(a)}
        if lost:
            some = ", ".join(list(lost)[:NAMED]) + (" ..." if len(lost) > NAMED else "")
            out.append(f"{name} failed on {how_many(len(lost), 'clip')} ({some}): {next(iter(lost.values()))}")
    chance = _chance(decisions, found, wanted)
    if chance is not None and chance > 0.8:
        out.append(
            f"{chance:.0%} of these clips lies within {wanted.eps_a:g} s of some onset: the acoustic check tells "
            "next to nothing here (--set salience=12 asks for sharper ones)"
        )
    unclear = sum(d.verdict == "kept" and d.room is not None and d.room.clear < 0.5 for d in decisions)
    if unclear:
        out.append(
            f"{unclear} kept clips have other sounds that most shifts bring onto what is seen (--set rivals=drop)"
        )
    if broken := {i: why for i, why in found.items() if isinstance(why, str)}:
        some = next(iter(broken))
        out.append(f"{how_many(len(broken), 'clip')} cannot be read, as {some}: {broken[some]}")
    return out


def _failed(a: Annotation) -> bool:
    return a.outcome == "failed"


def _verdicts(decisions: Sequence[Decision]) -> Table:
    count = Counter(d.verdict for d in decisions)
    rows = [Row("kept", (count["kept"], None, "every source agrees, every gate passed"))]
    rows.append(Row("queued", (count["queued"], None, "for people: earwitness review OUT/queue.jsonl")))
    rows.append(Row("dropped", (count["dropped"], None, "nothing that people could settle")))
    for gate, means in GATES.items():
        own = [d for d in decisions if any(r.gate == gate for r in d.why)]
        if own:
            alone = sum(all(r.gate == gate for r in d.why) for d in own)
            rows.append(Row(f"  not kept by: {gate}", (len(own), alone, means), "reference"))
    return Table(
        id="events_verdicts", title="What became of the clips", columns=("clips", "by this alone", "what it means"),
        rows=tuple(rows), unit="mixed", caption="A clip may fail several gates: events.jsonl has the reasons.",
    )  # fmt: skip


def _annotators(decisions: Sequence[Decision], annotators: Sequence[str]) -> Table:
    said: dict[str, list[Annotation]] = {name: [] for name in annotators}
    for d in decisions:
        for a in d.annotations:
            said[a.annotator].append(a)
    rows = []
    for name, some in said.items():
        n = Counter(a.outcome for a in some)
        role = "listens" if any(a.kind == "event" for a in some) else "looks"
        cells = (role, len(some), n["placed"], n["uncertain"], n["UNPARSED"], n["REFUSED"], n["failed"])
        rows.append(Row(name, cells))
    return Table(
        id="events_annotators", title="The annotators", rows=tuple(rows), unit="count",
        columns=("", "asked", "placed", "uncertain", "unparsed", "refused", "failed"),
        caption="Who listens names the event; who looks is asked in which frame unit it is seen.",
    )  # fmt: skip


def _pairs(decisions: Sequence[Decision], wanted: Wish, sources: Mapping[str, str]) -> Table | None:
    """How far each two sources of a time are apart."""
    gaps: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for d in decisions:
        said = sorted((a for a in d.annotations if a.outcome == "placed"), key=lambda a: a.annotator)
        source = sources.get(d.clip, d.clip)
        for one, two in combinations(said, 2):
            label = f"{one.annotator} and {two.annotator}"
            if one.sight is not None and two.sight is not None:
                gap = apart(one.sight, two.sight, wanted.interval)
                gaps.setdefault((label, "seen"), []).append((gap, source))
            if one.heard is not None and two.heard is not None:
                gaps.setdefault((label, "heard"), []).append((abs(one.heard - two.heard), source))
    rows = []
    for (label, sense), some in gaps.items():
        eps = wanted.eps_v if sense == "seen" else wanted.eps_a
        within = stats.proportion([g <= eps + EASE for g, _ in some], [s for _, s in some])
        rows.append(
            Row(f"{label}: {sense}", (within, median(g for g, _ in some), max(g for g, _ in some), len(some)))
        )
    if not rows:
        return None
    by = "its nearest point" if wanted.interval == "gap" else "its middle"
    return Table(
        id="events_agreement", title="Do the annotators agree on when?", rows=tuple(rows), unit="mixed",
        columns=("within tolerance", "median difference, s", "largest, s", "clips"),
        caption=f"Within {wanted.eps_v:g} s (seen) or {wanted.eps_a:g} s (heard); a frame unit counts by {by}.",
    )  # fmt: skip


def _chance(decisions: Sequence[Decision], found: Found, wanted: Wish) -> float | None:
    shares = [
        covered(salient(m, wanted.salience), m.seconds, wanted.eps_a)
        for d in decisions
        if isinstance(m := found[d.clip], Measured) and d.event is not None
    ]
    return float(np.mean(shares)) if shares else None


def _acoustic(
    decisions: Sequence[Decision], found: Found, wanted: Wish, sources: Mapping[str, str]
) -> Table | None:
    """Of each listener: does a sound start at the time heard, does the picture change at the time seen?"""
    told: dict[str, list[tuple[bool, float | None, float, bool, str]]] = {}
    for d in decisions:
        m = found[d.clip]
        if not isinstance(m, Measured):
            continue
        some = salient(m, wanted.salience)
        for a in d.annotations:
            if a.kind != "event" or a.heard is None or a.seen is None:
                continue
            onset = nearest(some, a.heard)
            far = None if onset is None else abs(onset.at - a.heard)
            near = far is not None and far <= wanted.eps_a + EASE
            change = [s for t, s in m.changes if abs(t - a.seen) <= wanted.eps_v]
            largest = max((s for _, s in m.changes), default=0.0)
            peak = bool(change) and max(change) >= largest - EASE
            told.setdefault(a.annotator, []).append(
                (near, far, covered(some, m.seconds, wanted.eps_a), peak, sources.get(d.clip, d.clip))
            )
    rows = []
    for name, lines in told.items():
        own = [line[4] for line in lines]
        away = [line[1] for line in lines if line[1] is not None]
        cells: tuple[Cell, ...] = (
            stats.proportion([line[0] for line in lines], own), float(np.mean([line[2] for line in lines])),
            median(away) if away else None, stats.proportion([line[3] for line in lines], own), len(lines),
        )  # fmt: skip
        rows.append(Row(name, cells))
    if not rows:
        return None
    return Table(
        id="events_witness", title="Does the clip bear them out?", rows=tuple(rows), unit="mixed",
        columns=("a sound starts there", "by chance", "nearest onset, s", "largest change there", "clips"),
        caption=f"A level that rises by {wanted.salience:g} dB within {wanted.eps_a:g} s of the time heard. By "
        "chance: the share of the clips' length for which that holds, which a made-up time passes too. Only noted: "
        f"whether the picture's largest change lies within {wanted.eps_v:g} s of the time seen.",
    )  # fmt: skip


Times = list[tuple[str, str, list[float], list[str]]]


def _times(decisions: Sequence[Decision], sources: Mapping[str, str], annotators: Sequence[str]) -> Times:
    out: Times = []
    for name in annotators:
        for sense in ("seen", "heard"):
            some = [
                (float(t), sources.get(d.clip, d.clip))
                for d in decisions
                for a in d.annotations
                if a.annotator == name and a.kind == "event" and (t := getattr(a, sense)) is not None
            ]
            out.append((name, sense, [t for t, _ in some], [s for _, s in some]))
    return out


def _heaps(heaps: Sequence[Heap]) -> Table:
    rows = tuple(
        Row(
            f"{h.annotator}: {h.sense}, on {h.place} seconds",
            (h.share, h.expected, f"{h.share.p:.2g}", "heaps" if h.flagged else "", h.share.n),
        )
        for h in heaps
    )  # fmt: skip
    return Table(
        id="events_heaping", title="Do times heap on whole and half seconds?", rows=rows, unit="mixed",
        columns=("share", "by chance", "p", "", "times"),
        caption="Binomial test against the share by chance at the resolution asked for, one-sided, Holm over the "
        "rows; flagged where p < 0.01 and the interval lies above chance. A flag moves no label.",
    )  # fmt: skip


def _rooms(decisions: Sequence[Decision], wanted: Wish) -> Table:
    low, high = wanted.shift_band
    rows = []
    for verdict in ("kept", "queued", "dropped"):
        some = [d.room for d in decisions if d.verdict == verdict and d.room is not None]
        if some:
            both = [r for r in some if r.late and r.early]
            clear = sum(r.clear >= 0.5 for r in some if r.late or r.early)
            cells = (sum(r.late for r in some), sum(r.early for r in some), len(both), clear, len(some))
            rows.append(Row(verdict, cells))
    return Table(
        id="events_room", title="Can they be shifted?", rows=tuple(rows), unit="count",
        columns=("late", "early", "both", "free of rivals", "clips"),
        caption=f"Every shift of {low:g} to {high:g} s leaves the event 0.3 s inside the clip; audits shift clips "
        "that allow both. A rival: a like sound that at least half of these shifts bring onto what is seen.",
    )  # fmt: skip
