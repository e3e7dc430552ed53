"""Does it listen, on one page? The measures of all three protocols that a repair is judged by, run beside run.

Every measure is a share over answers that an audit has (or a d'), with its clip-clustered interval; ``better`` says
which way is better. Measures that a run did not ask are empty. Two runs are compared on the items that both have,
in pairs; whether untouched clips are answered as well as before is a test of equivalence, since "no significant
difference" would be true of any small test.

Functions: ``MEASURES`` (what is measured), ``card`` (one run), ``table`` (runs side by side), ``natural``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from earwitness import stats
from earwitness.protocols.cells import Hit, alike, cluster_of, is_label, paired, right, share
from earwitness.protocols.mma_tables import abstaining
from earwitness.protocols.thud_tables import AXES, DESYNC, said_right
from earwitness.questions import clean
from earwitness.records import NONE_OF_THE_ABOVE, Cell, Estimate, Item, Judged, Row, Table
from earwitness.scoring import UNSCORED

UNTOUCHED = ("original", "aligned", "found", "full")
MARGIN = 0.02  # accuracy on untouched clips that a repair may cost
Better = Literal["high", "low"]


@dataclass(frozen=True)
class Measure:
    """One line of the card: of which answers, what counts as a hit, and which way is better."""

    label: str
    better: Better
    of: Callable[[Item], bool]
    hit: Hit = right
    goal: float | None = None  # what a repair should reach at least (or stay below)


def _where(**wanted: str | tuple[str, ...]) -> Callable[[Item], bool]:
    def fits(item: Item) -> bool:
        return all(
            getattr(item, key) in (value if isinstance(value, tuple) else (value,)) for key, value in wanted.items()
        )

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


DPRIME_STYLES = ("leading", "neutral")
MEASURES: tuple[Measure, ...] = (
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
    *(
        Measure(
            f"{what} ({style})", "low",
            _where(protocol="thud", condition=condition, question=question, style=style), hit, goal,
        )
        for style in ("neutral", "direct")
        for what, condition, question, hit, goal in (
            ("moved, picture black: direction right", "unseen", "shift", said_right, None),
            ("filled as if moved: called shifted", "hush", "shift", is_label(*DESYNC), 0.1),
            ("only room tone left: hears a sound", "mute_room", "mute", is_label("SOUND_DESCRIBED"), 0.1),
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
)  # fmt: skip


def card(judged: Sequence[Judged]) -> dict[str, Estimate | None]:
    """Measure -> its estimate; None where the run has no such answer. The last ones are d' by style of question."""
    found = {m.label: share([j for j in judged if m.of(j.item)], m.hit) for m in MEASURES}
    return {**found, **{f"is there a sound of it: d' ({s})": _dprime(judged, s) for s in DPRIME_STYLES}}


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
    cards = [card(judged) for judged in runs.values()]
    both = list(runs.values())
    two = (both[0], both[1]) if len(both) == 2 else None
    by_label = {m.label: m for m in MEASURES}
    rows = []
    for label in cards[0]:
        if all(c[label] is None for c in cards):
            continue
        cells: list[Cell] = [c[label] for c in cards]
        m = by_label.get(label)
        if two is not None:
            first, second = ([j for j in some if m is not None and m.of(j.item)] for some in two)
            if m is not None:
                cells.append(paired(second, first, lambda i: i.id, m.hit))
            else:
                style = next(s for s in DPRIME_STYLES if label.endswith(f"({s})"))
                cells.append(_dprime_change(*two, style))
        cells.append(_goal(m))
        rows.append(Row(label, tuple(cells)))
    caption = "Shares (d' apart) with 95 % intervals, clustered by source clip. Goal: what a repair should reach."
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


def _goal(m: Measure | None) -> str:
    if m is None:
        return "high"
    if m.goal is None:
        return m.better
    return f"{'at least' if m.better == 'high' else 'at most'} {m.goal:g}"
