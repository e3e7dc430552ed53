"""From votes to what is kept: strict consensus, agreement of annotators, event times.

A clip passes where at least ``need`` annotators voted on it and every one accepted it; one against it discards it
(MMA-Bench: "both must pass a clip"; a split vote discards). Of a clip that passes, each event's time is the median
of the annotators' where the largest distance between two of them is within 0.8 s (seen) or 0.5 s (heard), as in
Thud (arXiv 2605.16403, section 2.2); otherwise the clip goes back to people, with what they differ in.

Agreement is Cohen's kappa of each two annotators over the clips that both judged, by criterion and overall, with an
interval clustered by source recording. Kappa falls where nearly everything is accepted, however well two people
agree (Feinstein and Cicchetti 1990): so the share of equal judgements stands beside it.

Functions: ``consensus`` -> :class:`Outcome` a clip; ``counting``; ``tables``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from statistics import median
from typing import Literal

import msgspec

from earwitness import stats
from earwitness.curate.review.queue import Case, Queue
from earwitness.curate.review.votes import CRITERIA, Vote
from earwitness.datasets.labels import check_times
from earwitness.records import Cell, Clip, Event, Row, Table

EPS_SEEN, EPS_HEARD = 0.8, 0.5  # seconds (Thud)
EASE = 1e-6  # seconds: 2.5 - 2.0 is not above 0.5

Result = Literal["passed", "rejected", "split", "times differ", "open"]
RESULTS: tuple[Result, ...] = ("passed", "rejected", "split", "times differ", "open")
MEANS = {
    "passed": "every annotator accepted it, and their times agree",
    "rejected": "no annotator accepted it",
    "split": "some accepted it, some did not: discarded",
    "times differ": "accepted, but when it happens is not agreed: to be judged again",
    "open": "too few votes so far",
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a clip: ``clip`` with the agreed events where it passed, as it was otherwise."""

    clip: Clip
    result: Result
    why: str = ""
    votes: dict[str, Vote] = {}
    old: int = 0  # votes on what was claimed of it before


def current(queue: Queue, votes: Mapping[str, Iterable[Vote]]) -> tuple[list[dict[str, Vote]], list[int]]:
    """Each case's votes that count, by annotator, and how many were on an earlier claim.

    The last vote of an annotator on a clip counts; where it was on another claim, none does.
    """
    out: list[dict[str, Vote]] = [{} for _ in queue.cases]
    old = [0] * len(queue.cases)
    for name in sorted(votes):
        last = {vote.clip: vote for vote in votes[name]}
        for clip, vote in last.items():
            number = queue.number(clip)
            if number is None:
                continue
            if vote.about == queue.cases[number].about:
                out[number][name] = vote
            else:
                old[number] += 1
    return out, old


def consensus(
    queue: Queue,
    votes: Mapping[str, Iterable[Vote]],
    *,
    need: int = 2,
    durations: Mapping[str, float] | None = None,
) -> list[Outcome]:
    """The outcome of each clip, in the order of the queue.

    Parameters
    ----------
    need : annotators who must have judged a clip before it can pass.
    durations : seconds of the clips' files, by clip id, where known: agreed times are held against them.

    Raises
    ------
    ValueError
        Where ``need`` is less than one.
    """
    if need < 1:
        raise ValueError(f"need={need}: a clip needs at least one annotator to pass")
    given, old = current(queue, votes)
    known = durations or {}
    return [
        _outcome(case, given[n], old[n], need, known.get(case.clip.id, float("inf")))
        for n, case in enumerate(queue.cases)
    ]


def _outcome(case: Case, votes: dict[str, Vote], old: int, need: int, duration: float) -> Outcome:
    def out(result: Result, why: str = "", clip: Clip = case.clip) -> Outcome:
        return Outcome(clip=clip, result=result, why=why, votes=votes, old=old)

    if len(votes) < need:
        stale = f", and {old} on what was claimed of it before" if old else ""
        return out("open", f"{len(votes)} of {need} votes{stale}")
    against = {name: vote for name, vote in votes.items() if not vote.accept}
    if against:
        reasons = "; ".join(f"{name}: {reason(vote)}" for name, vote in against.items())
        return out("rejected" if len(against) == len(votes) else "split", reasons)
    events, differ = agreed(votes)
    if differ:
        return out("times differ", "; ".join(differ))
    clip = msgspec.structs.replace(case.clip, events=events)
    if wrong := check_times(clip, duration):
        return out("times differ", "; ".join(wrong))
    return out("passed", clip=clip)


def reason(vote: Vote) -> str:
    """Why a vote is against a clip, in words."""
    said = [f"not {name.replace('_', ' ')}" for name in vote.failed]
    return ", ".join(said + [vote.comment.strip()] * bool(vote.comment.strip()))


def agreed(votes: Mapping[str, Vote]) -> tuple[tuple[Event, ...], list[str]]:
    """The events at the annotators' median times, and in words what they differ in (then the events mean nothing).

    Events are matched by their place in the list: pages show them in the queue's order, added ones at the end.
    """
    events: list[Event] = []
    differ: list[str] = []
    most = max(len(vote.events) for vote in votes.values())
    for place in range(most):
        mine = {name: vote.events[place] for name, vote in votes.items() if place < len(vote.events)}
        what = next(iter(mine.values())).what
        if len(mine) < len(votes) or any(event.what != what for event in mine.values()):
            differ.append(f"event {place + 1}, {what!r}: only {', '.join(mine)} marked it")
            continue
        seen, far = _median({name: event.seen for name, event in mine.items()}, EPS_SEEN)
        heard, away = _median({name: event.heard for name, event in mine.items()}, EPS_HEARD)
        differ += [
            f"event {place + 1}, {what!r}, {sense}: {words}"
            for sense, words in (("seen", far), ("heard", away))
            if words
        ]
        if seen is not None or heard is not None:  # neither seen nor heard, all say: there is no such event
            events.append(Event(what, seen, heard))
    return tuple(events), differ


def _median(times: Mapping[str, float | None], eps: float) -> tuple[float | None, str]:
    """The median time, and why there is none where the times do not agree; (None, "") where all say never."""
    there = [time for time in times.values() if time is not None]
    if not there:
        return None, ""
    if len(there) == len(times) and max(there) - min(there) <= eps + EASE:
        return round(median(there), 4), ""
    return None, " ".join(f"{name} {'never' if t is None else f'{t:.2f} s'}" for name, t in times.items())


def counting(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many clips came out how, all results named."""
    out: dict[str, int] = dict.fromkeys(RESULTS, 0)
    for outcome in outcomes:
        out[outcome.result] += 1
    return out


def tables(queue: Queue, votes: Mapping[str, Iterable[Vote]], outcomes: Sequence[Outcome]) -> list[Table]:
    """What was decided; how far each two annotators agree on the criteria; how far on times."""
    given, _ = current(queue, votes)
    counts = counting(outcomes)
    decided = Table(
        id="review_outcomes",
        title="What became of the clips",
        caption="Strict consensus: one annotator against a clip discards it.",
        columns=("clips", "what it means"),
        rows=tuple(Row(name, (counts[name], MEANS[name])) for name in RESULTS),
        unit="mixed",
    )
    pairs = list(combinations(sorted(votes), 2))
    if not pairs:
        return [decided]
    kappas, times = [], []
    for first, second in pairs:
        both = [
            (case, v[first], v[second])
            for case, v in zip(queue.cases, given, strict=True)
            if first in v and second in v
        ]
        kappas += [_kappa(f"{first} and {second}", name, both) for name in (*CRITERIA, "accept")]
        times += [_distance(f"{first} and {second}", sense, both) for sense in ("seen", "heard")]
    return [
        decided,
        Table(
            id="review_agreement",
            title="Do the annotators agree?",
            caption="Cohen's kappa with its 95 % interval, clustered by source; empty where both always say one "
            "and the same thing. A criterion that was left open is not counted. Where nearly all is accepted, "
            "kappa is low however often two people agree.",
            columns=("kappa", "equal judgements", "clips"),
            rows=tuple(kappas),
            unit="mixed",
        ),
        Table(
            id="review_times",
            title="Do they agree on when?",
            caption=f"Events that both marked on clips that both accepted; within {EPS_SEEN} s (seen) or "
            f"{EPS_HEARD} s (heard) counts as agreement.",
            columns=("within tolerance", "median distance, s", "largest, s", "events"),
            rows=tuple(times),
            unit="mixed",
        ),
    ]  # fmt: skip


Both = Sequence[tuple[Case, Vote, Vote]]


def _kappa(who: str, name: str, both: Both) -> Row:
    def said(vote: Vote) -> str | None:
        value = getattr(vote, name)
        return None if value is None else "yes" if value else "no"

    first, second = [said(a) for _, a, _ in both], [said(b) for _, _, b in both]
    clusters = [case.clip.cluster for case, _, _ in both]
    judged = [
        (a == b, c) for a, b, c in zip(first, second, clusters, strict=True) if a is not None and b is not None
    ]
    equal = stats.proportion([same for same, _ in judged], [c for _, c in judged]) if judged else None
    cells: tuple[Cell, ...] = (stats.kappa(first, second, clusters), equal, len(judged))
    return Row(f"{who}: {'accepted' if name == 'accept' else name.replace('_', ' ')}", cells)


def _distance(who: str, sense: str, both: Both) -> Row:
    apart: list[float] = []
    clusters: list[str] = []
    for case, a, b in both:
        if not (a.accept and b.accept):
            continue
        for one, other in zip(a.events, b.events, strict=False):
            first, second = getattr(one, sense), getattr(other, sense)
            if first is not None and second is not None:
                apart.append(abs(first - second))
                clusters.append(case.clip.cluster)
    eps = EPS_SEEN if sense == "seen" else EPS_HEARD
    within = stats.proportion([d <= eps + EASE for d in apart], clusters) if apart else None
    middle, most = (median(apart), max(apart)) if apart else (None, None)
    return Row(f"{who}: {sense}", (within, middle, most, len(apart)))
