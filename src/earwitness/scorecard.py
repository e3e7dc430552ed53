"""Does it listen, on one page? The measures of all three protocols that a repair is judged by, run beside run.

Every measure has its clip-clustered interval. Most are a share over answers that an audit has (:class:`Measure`); a
few are made of two kinds of answers (:class:`Joined`: a difference of shares, a d'). ``better`` says which way is
better, or "neither": with the picture black nobody can know whether a sound was moved, so a right direction or a
false alarm there is nothing to judge a model by. Both stand on the card to be read beside their joint measure,
direction right beyond alarms, of which low is better (:func:`.thud_controls.beyond_alarms`).

Measures that a run did not ask are empty. Two runs are compared on the items that both have, in pairs; whether
untouched clips are answered as well as before is a test of equivalence, since "no significant difference" would be
true of any small test.

Functions: ``MEASURES`` (what is measured; ``DARK`` is Thud's part with the picture black), ``card`` (one run),
``of_run`` and ``change`` (one measure of one run, and of two), ``table`` (runs side by side), ``natural``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from earwitness import stats
from earwitness.protocols.cells import Hit, alike, cluster_of, is_label, paired, right, share
from earwitness.protocols.mma_tables import abstaining
from earwitness.protocols.thud_controls import (
    DESYNC,
    beyond_alarms,
    by_eye,
    clusters_of,
    in_the_dark,
    said_right,
    shift_of,
)
from earwitness.protocols.thud_tables import AXES
from earwitness.questions import clean
from earwitness.records import NONE_OF_THE_ABOVE, Cell, Estimate, Item, Judged, Row, Table
from earwitness.scoring import UNSCORED

UNTOUCHED = ("original", "aligned", "found", "full")
MARGIN = 0.02  # accuracy on untouched clips that a repair may cost
Better = Literal["high", "low", "neither"]
Unit = Literal["share", "difference", "d'"]


@dataclass(frozen=True)
class Measure:
    """One line of the card, a share: of which answers, what counts as a hit, and which way is better."""

    label: str
    better: Better
    of: Callable[[Item], bool]
    hit: Hit = right
    goal: float | None = None  # what a repair should reach at least (or stay below)
    unit: Unit = "share"


@dataclass(frozen=True)
class Joined:
    """One line of the card that is made of two kinds of answers, in one style of question."""

    label: str
    better: Better
    unit: Unit
    style: str
    one: Callable[[Sequence[Judged], str], Estimate | None]  # (a run, style)
    two: Callable[[Sequence[Judged], Sequence[Judged], str], Estimate | None]  # second - first, in pairs
    goal: float | None = None


def _where(**wanted: str | tuple[str, ...]) -> Callable[[Item], bool]:
    wants = [(key, value if isinstance(value, tuple) else (value,)) for key, value in wanted.items()]

    def fits(item: Item) -> bool:
        for key, values in wants:  # noqa: SIM110 - asked of each answer for each measure: no generator
            if getattr(item, key) not in values:
                return False
        return True

    return fits


def _seen(j: Judged) -> bool | None:
    """Whether the answer is what is seen (an abstention that was not offered counts as naming nothing)."""
    found = abstaining(j)
    if found.score.label in UNSCORED:
        return None
    return clean(found.score.label) in {clean(n) for n in j.item.seen}


def _abstains(j: Judged) -> bool | None:
    found = abstaining(j)
    return None if found.score.label in UNSCORED else found.score.label == NONE_OF_THE_ABOVE


def _mma(condition: str, question: str, style: str = "standard") -> Callable[[Item], bool]:
    return _where(protocol="mma", condition=condition, question=question, style=style)


def _thud(axis: str, style: str) -> Measure:
    hit, conditions, task = AXES[axis]
    goals = {"Mute Hallucination": 0.1, "False Silence": 0.05, "False Sync Alarm": 0.1}
    return Measure(
        f"{axis} ({style})", "low", _where(protocol="thud", condition=conditions, question=task, style=style), hit,
        goals.get(axis),
    )  # fmt: skip


def _confuse(target: str, style: str) -> Callable[[Item], bool]:
    def fits(item: Item) -> bool:
        return (
            (item.protocol, item.question, item.style) == ("av_confuse", "muted", style)
            and item.condition == "muted"
            and clean(item.target or "") == target
        )

    return fits


def _detected(judged: Sequence[Judged], style: str) -> list[Judged]:
    """Left-out things and the same things with their sound on, as in the protocol's headline row."""
    asked = [
        j for j in judged if (j.item.protocol, j.item.question, j.item.style) == ("av_confuse", "muted", style)
    ]
    dropped = [j for j in asked if j.item.condition == "muted" and clean(j.item.target or "") == "no"]
    twins = {(j.item.clip, clean(j.item.asked or "")) for j in dropped}
    return [
        *dropped,
        *(j for j in asked if j.item.condition == "full" and (j.item.clip, clean(j.item.asked or "")) in twins),
    ]


def _yes(some: Sequence[Judged]) -> tuple[list[bool | None], list[bool]]:
    """Whether yes was said, and whether it is right."""
    return [is_label("yes")(j) for j in some], [clean(j.item.target or "") == "yes" for j in some]


def _dprime(judged: Sequence[Judged], style: str) -> Estimate | None:
    some = _detected(judged, style)
    said, truth = _yes(some)
    if not any(truth) or all(truth):
        return None
    return stats.detection(said, truth, cluster_of(some)).dprime


def _dprime_change(before: Sequence[Judged], after: Sequence[Judged], style: str) -> Estimate | None:
    first = {j.item.id: j for j in _detected(before, style)}
    second = [j for j in _detected(after, style) if j.item.id in first]
    if not second:
        return None
    said, truth = _yes(second)
    return stats.dprime_difference(_yes([first[j.item.id] for j in second])[0], said, truth, cluster_of(second))


def _of_thud(judged: Sequence[Judged], style: str) -> list[Judged]:
    return [j for j in judged if j.item.protocol == "thud" and j.item.style == style]


def _beyond(judged: Sequence[Judged], style: str) -> Estimate | None:
    return beyond_alarms(_of_thud(judged, style))


def _beyond_change(before: Sequence[Judged], after: Sequence[Judged], style: str) -> Estimate | None:
    """How much more a direction exceeds alarms in the second run, over the pairs that both runs have."""
    first, second = ({p.moved.id: p for p in in_the_dark(_of_thud(some, style))} for some in (before, after))
    both = [(first[i], p) for i, p in second.items() if i in first]
    return stats.diff_in_diff(
        [p.said for p, _ in both],
        [p.alarm for p, _ in both],
        [q.said for _, q in both],
        [q.alarm for _, q in both],
        clusters_of([p for p, _ in both]),
    )


def _added(judged: Sequence[Judged], style: str) -> Estimate | None:
    return by_eye(_of_thud(judged, style))


def _added_change(before: Sequence[Judged], after: Sequence[Judged], style: str) -> Estimate | None:
    """How much more the picture adds in the second run, over the shifts that both asked with it and without."""

    def of(some: Sequence[Judged], condition: str) -> dict[tuple[str, ...], Judged]:
        fits = _where(protocol="thud", condition=condition, question="shift", style=style)
        return {shift_of(j.item): j for j in some if fits(j.item)}

    four = [of(some, condition) for some in (before, after) for condition in ("shift", "unseen")]
    both = [key for key in four[0] if all(key in some for some in four)]
    seen, black, then, later = ([said_right(some[key]) for key in both] for some in four)
    return stats.diff_in_diff(seen, black, then, later, cluster_of([four[0][key] for key in both]))


# Of the first two neither way is better: who says nothing in the dark is right of no shift, who guesses of many.
DARK: tuple[Measure | Joined, ...] = tuple(
    m
    for style in ("neutral", "direct")
    for m in (
        Measure(
            f"moved, picture black: direction right ({style})", "neither",
            _where(protocol="thud", condition="unseen", question="shift", style=style), said_right,
        ),
        Measure(
            f"untouched, picture black: called shifted ({style})", "neither",
            _where(protocol="thud", condition="dark", question="shift", style=style), is_label(*DESYNC),
        ),
        Joined(
            f"picture black: direction right beyond alarms ({style})", "low", "difference", style, _beyond,
            _beyond_change,
        ),
        Joined(
            f"what the picture adds to the direction ({style})", "high", "difference", style, _added, _added_change
        ),
    )
)  # fmt: skip

MEASURES: tuple[Measure | Joined, ...] = (
    Measure("untouched clips: right", "high", _where(condition=UNTOUCHED)),
    Measure("conflict, asked what is heard: right", "high", _mma("audio_swapped", "audio"), right, 0.85),
    Measure("conflict, asked what is heard: names what is seen", "low", _mma("audio_swapped", "audio"), _seen),
    Measure("conflict, asked what is seen: right", "high", _mma("audio_swapped", "visual")),
    Measure("picture black, asked what is heard: right", "high", _mma("frames_zeroed", "audio")),
    Measure("sound muted, asked what is seen: right", "high", _mma("audio_removed", "visual")),
    Measure("false caption, asked what is heard: right", "high", _mma("misleading_caption", "audio")),
    Measure("long context, asked what is heard: right", "high", _mma("long_context", "audio")),
    Measure("sound muted, asked what is heard: names what is seen", "low", _mma("audio_removed", "audio"), _seen),
    Measure(
        "sound muted, may abstain: abstains", "high", _mma("audio_removed", "audio", "abstention"), _abstains, 0.8
    ),
    Measure(
        "picture black, may abstain: abstains", "high", _mma("frames_zeroed", "visual", "abstention"), _abstains,
        0.8,
    ),
    Measure(
        "untouched, may abstain: abstains", "low",
        _where(protocol="mma", condition="aligned", style="abstention"), _abstains,
    ),
    *(_thud(axis, style) for style in ("neutral", "direct") for axis in AXES),
    *(
        Measure(
            f"sound moved by about 2 s: direction right ({style})", "high",
            _where(protocol="thud", condition="shift", question="shift", style=style), right, 0.8,
        )
        for style in ("neutral", "direct")
    ),
    *DARK,
    *(
        Measure(
            f"{what} ({style})", "low",
            _where(protocol="thud", condition=condition, question=question, style=style), hit, 0.1,
        )
        for style in ("neutral", "direct")
        for what, condition, question, hit in (
            ("filled as if moved: called shifted", "hush", "shift", is_label(*DESYNC)),
            ("only room tone left: hears a sound", "mute_room", "mute", is_label("SOUND_DESCRIBED")),
        )
    ),
    *(
        Measure(f"{what} ({style})", "high", _confuse(target, style))
        for style in ("leading", "neutral")
        for what, target in (("sound left out: says no", "no"), ("still sounding: says yes", "yes"))
    ),
    Measure(
        "sound replaced: names the new sound", "high",
        _where(protocol="av_confuse", condition="modified", question="modified"), is_label("HEARD"),
    ),
    *(
        Joined(f"is there a sound of it: d' ({s})", "high", "d'", s, _dprime, _dprime_change)
        for s in ("leading", "neutral")
    ),
)  # fmt: skip


def of_run(m: Measure | Joined, judged: Sequence[Judged]) -> Estimate | None:
    """One measure of one run; None where it was not asked."""
    if isinstance(m, Joined):
        return m.one(judged, m.style)
    return share([j for j in judged if m.of(j.item)], m.hit)


def change(m: Measure | Joined, before: Sequence[Judged], after: Sequence[Judged]) -> Estimate | None:
    """One measure of two runs: after - before, in pairs; None where they share nothing that it is made of."""
    if isinstance(m, Joined):
        return m.two(before, after, m.style)
    first, second = ([j for j in some if m.of(j.item)] for some in (before, after))
    return paired(second, first, lambda i: i.id, m.hit)


def card(judged: Sequence[Judged]) -> dict[str, Estimate | None]:
    """Measure -> its estimate; None where the run has no such answer."""
    return {m.label: of_run(m, judged) for m in MEASURES}


def natural(before: Sequence[Judged], after: Sequence[Judged], margin: float = MARGIN) -> Estimate | None:
    """Accuracy on untouched clips, after - before, in pairs: 90 % interval, and p that it is within ``margin``."""
    fits = _where(condition=UNTOUCHED)
    return alike(
        [j for j in after if fits(j.item)], [j for j in before if fits(j.item)], lambda i: i.id, margin
    )  # fmt: skip


def table(runs: Mapping[str, Sequence[Judged]]) -> Table:
    """The card of each run; of two runs also the difference second - first, in pairs, with its interval.

    Raises ValueError for no runs.
    """
    if not runs:
        raise ValueError("a scorecard needs at least one run")
    both = list(runs.values())
    two = (both[0], both[1]) if len(both) == 2 else None
    rows = []
    for m in MEASURES:
        found = [of_run(m, judged) for judged in both]
        if all(e is None for e in found):
            continue
        cells: list[Cell] = [*found]
        if two is not None:
            cells.append(change(m, *two))
        rows.append(Row(m.label, (*cells, _goal(m))))
    caption = (
        "Shares (d' and what exceeds alarms apart) with 95 % intervals, clustered by source clip. Goal: what a "
        "repair should reach, or which way is better."
    )
    if any(row.cells[-1] == "neither" for row in rows):
        caption += " Neither: with the picture black nobody can know; read these lines with the one beyond alarms."
    if two is not None:
        same = natural(*two)
        if same is not None:
            shown = "is" if same.p is not None and same.p < 0.05 else "is not"
            p = "-" if same.p is None else format(same.p, ".2g")
            caption += (
                f" Untouched clips: {same.value:+.3f} [{same.low:+.3f}, {same.high:+.3f}] (90 %), which {shown} "
                f"shown to be within {MARGIN:g} either way (p {p})."
            )
    return Table(
        id="scorecard", title="Does it listen?", caption=caption,
        columns=(*runs, *(("difference",) if two is not None else ()), "goal"), rows=tuple(rows), unit="mixed",
    )  # fmt: skip


def _goal(m: Measure | Joined) -> str:
    if m.goal is None:
        return m.better
    return f"{'at least' if m.better == 'high' else 'at most'} {m.goal:g}"
