"""Thud's tables: paired accuracy and Avg Gap, the eight axes, bands, localisation, confusion (arXiv 2605.16403).

Each table exists once per prompt style; styles are never mixed. Identities that hold by construction:
original sync = 1 - False Sync Alarm; shift accuracy = (1 - Offset Blindness)(1 - Direction Confusion), so a shift
noticed without its direction is wrong; original consistency = 1 - Swap False-Mismatch where nothing is dodged.
The controls beside the shifts have their table in :mod:`.thud_controls`.

Functions: ``tables``; ``axis`` and ``AXES`` (one failure axis), ``avg_gap`` (its interval), ``three_class``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from earwitness import stats
from earwitness.protocols.cells import (
    COUNTS,
    Hit,
    baseline,
    cluster_of,
    counts,
    is_label,
    paired,
    right,
    share,
)
from earwitness.protocols.thud_controls import DESYNC, controls
from earwitness.records import Cell, Estimate, Item, Judged, Row, Table
from earwitness.scoring import UNSCORED

DIMENSIONS = {"synchrony": ("shift", "shift"), "existence": ("mute", "mute"), "consistency": ("swap", "swap")}
NATURAL = {"mute": "SOUND_DESCRIBED", "swap": "MATCH", "shift": "SYNC"}
TOLERANCES = (0.5, 1.0)  # seconds, Figure 6


def _some(judged: Sequence[Judged], condition: str | None = None, task: str | None = None) -> list[Judged]:
    return [j for j in judged if condition in (None, j.item.condition) and task in (None, j.item.question)]


def _pair(item: Item) -> tuple[str, ...]:
    return (item.clip, item.question, item.style)


def _wrong_way(j: Judged) -> bool | None:
    """Of shifted clips judged not in sync: was the direction wrong or missing? None for the rest."""
    return j.score.label != j.item.target if j.score.label in DESYNC else None


# Section 3.2 and Figure 3: axis -> (what it counts, condition, task); the population is that cell of the design.
AXES: dict[str, tuple[Hit, tuple[str, ...], str]] = {
    "Mute Hallucination": (is_label("SOUND_DESCRIBED"), ("mute",), "mute"),
    "Swap False-Match": (is_label("MATCH"), ("swap",), "swap"),
    "False Silence": (is_label("SILENT"), ("original",), "mute"),
    "Swap False-Mismatch": (is_label("MISMATCH"), ("original",), "swap"),
    "Audio Dodge": (is_label("VISUAL_ONLY"), ("mute", "original"), "mute"),
    "Offset Blindness": (is_label("SYNC"), ("shift",), "shift"),
    "Direction Confusion": (_wrong_way, ("shift",), "shift"),
    "False Sync Alarm": (is_label(*DESYNC), ("original",), "shift"),
}


def axis(judged: Sequence[Judged], name: str) -> Estimate | None:
    """One failure axis in [0, 1], higher is worse, of answers in one style; None where it was not asked.

    Audio Dodge is pooled over muted and original clips, which is the mean of the two where both were asked of the
    same clips. Direction Confusion is the share among shifted clips judged not in sync.
    """
    hit, conditions, task = AXES[name]
    return share([j for c in conditions for j in _some(judged, c, task)], hit)


def _gaps(judged: Sequence[Judged], name: str) -> tuple[list[float], list[str], list[tuple[str, ...]]]:
    condition, task = DIMENSIONS[name]
    originals = {_pair(j.item): j for j in _some(judged, "original", task)}
    values, sources, links = [], [], []
    for j in _some(judged, condition, task):
        twin = originals.get(_pair(j.item))
        if twin is not None and twin.score.correct is not None and j.score.correct is not None:
            values.append(float(twin.score.correct) - float(j.score.correct))
            sources.append(j.item.source)
            links.append((*j.item.linked, *twin.item.linked))
    return values, sources, links


def avg_gap(judged: Sequence[Judged]) -> Estimate | None:
    """``1/3 sum_d (Acc_orig,d - Acc_interv,d)`` over synchrony, existence, consistency; None unless all are there.

    Appendix G. Interval: linearised, ``e_i = m + N / (3 n_d) (v_i - m_d)`` with v_i the paired difference of
    answer i in dimension d, clustered by source (t, G - 1); where all answers of each dimension agree, so that
    this has no width, the mean of the three dimensions' own bounds.
    """
    parts = [_gaps(judged, name) for name in DIMENSIONS]
    if any(not values for values, _, _ in parts):
        return None
    whole = sum(len(values) for values, _, _ in parts)
    gap = float(np.mean([np.mean(values) for values, _, _ in parts]))
    spread: list[float | None] = []
    for values, _, _ in parts:
        centre = float(np.mean(values))
        spread += [gap + whole / (len(parts) * len(values)) * (v - centre) for v in values]
    clusters = stats.merge_clusters([s for p in parts for s in p[1]], [k for p in parts for k in p[2]])
    found = stats.mean(spread, clusters)
    if found is None:  # one source: a value, and nothing about its spread
        return Estimate(gap, -1.0, 1.0, whole, len(set(clusters)), "one clip: no interval")
    if found.low < found.high:
        return found
    own = [stats.mean(v, stats.merge_clusters(s, k), span=(-1.0, 1.0)) for v, s, k in parts]
    low, high = (float(np.mean([getattr(e, end) for e in own if e is not None])) for end in ("low", "high"))
    return Estimate(gap, low, high, whole, found.clusters, "mean of the three dimensions' bounds")


def three_class(original: float, shifted: float) -> float:
    """Sync accuracy on one original and two shifted clips a source: ``(Orig + 2 Shift) / 3`` (Table 2's Sync)."""
    return (original + 2 * shifted) / 3


def tables(judged: Sequence[Judged]) -> list[Table]:
    """All tables that the answers allow, style by style."""
    mine = [j for j in judged if j.item.protocol == "thud"]
    out: list[Table] = []
    for style in sorted({j.item.style for j in mine}, key=lambda s: (s != "neutral", s)):
        some = [j for j in mine if j.item.style == style]
        made = (
                _accuracy(some), _axes(some), controls(some), _bands(some), _localisation(some), _confusion(some),
            )  # fmt: skip
        for table in made:
            if table.rows:
                out.append(
                    Table(
                        id=f"{table.id}_{style}",
                        title=f"{table.title} ({style} prompts)",
                        caption=table.caption,
                        columns=table.columns,
                        rows=table.rows,
                        unit=table.unit,
                    )
                )
    return out


def _accuracy_rows(judged: Sequence[Judged], prefix: str = "", kind: str = "model") -> Iterator[Row]:
    for name, (condition, task) in DIMENSIONS.items():
        plain, changed = _some(judged, "original", task), _some(judged, condition, task)
        if plain or changed:
            # "original minus intervened", per intervened answer: a source counts once for late, once for early
            gap = paired(changed, plain, _pair)
            turned = None if gap is None else _negative(gap)
            cells: tuple[Cell, ...] = (share(plain), share(changed), turned, *counts([*plain, *changed]))
            yield Row(prefix + name, cells, kind)  # type: ignore[arg-type]


def _negative(e: Estimate) -> Estimate:
    return Estimate(0.0 - e.value, 0.0 - e.high, 0.0 - e.low, e.n, e.clusters, e.method, e.p)


def _accuracy(judged: Sequence[Judged]) -> Table:
    rows = list(_accuracy_rows(judged))
    gap = avg_gap(judged)
    if gap is not None:
        rows.append(Row("Avg Gap", (None, None, gap, *(None,) * len(COUNTS))))
    sync = [j for c in ("original", "shift") for j in _some(judged, c, "shift")]
    balanced = stats.balanced_accuracy(
        [right(j) for j in sync], [str(j.item.target) for j in sync], cluster_of(sync)
    )
    if balanced is not None:
        rows.append(Row("synchrony, balanced over in sync / late / early", (balanced, None, None, *counts(sync))))
    rows += _accuracy_rows(
        baseline(judged, lambda item: NATURAL[item.question]), "always in sync, a sound, a match: ", "baseline"
    )
    rows += _accuracy_rows(baseline(_some(judged, task="shift"), lambda _: "DELAY"), "always late: ", "baseline")
    return Table(
        id="thud_accuracy",
        title="Paired diagnostic accuracy",
        caption=(
            "Accuracy on untouched clips, on the same clips intervened (shift by about 2 s, mute, swap), "
            "and the gap "
            "between them (Thud, Table 1). Avg Gap is the mean of the three gaps, given only where all "
            "three are there."
        ),
        columns=("original", "intervened", "gap", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )


def _axes(judged: Sequence[Judged]) -> Table:
    rows = []
    for kind, some, prefix in (
        ("model", judged, ""),
        ("baseline", baseline(judged, lambda item: NATURAL[item.question]), "always in sync, a sound, a match: "),
    ):
        for name, (hit, conditions, task) in AXES.items():
            asked = [j for c in conditions for j in _some(some, c, task)]
            if asked and (kind == "model" or share(asked, hit) is not None):
                rows.append(Row(prefix + name, (share(asked, hit), *counts(asked, hit)[:4]), kind))  # type: ignore[arg-type]
    return Table(
        id="thud_axes",
        title="Eight ways to fail",
        caption="Failure rates, higher is worse (Thud, Figure 3). Direction Confusion: among noticed shifts.",
        columns=("rate", *COUNTS[:4]),
        rows=tuple(rows),
        unit="mixed",
    )


def _bands(judged: Sequence[Judged]) -> Table:
    shifted = [j for j in _some(judged, task="shift") if j.item.condition in ("shift", "ladder")]
    levels: dict[tuple[float, int, str], list[Judged]] = {}
    for j in shifted:
        sign = 1 if j.item.offset > 0 else -1
        band = j.item.condition == "shift"
        size = 0.0 if band else abs(j.item.offset)
        words = "about 2 s" if band else f"{size:.1f} s"
        key = (-1.0 if band else -size, -sign, f"{words} {'late' if sign > 0 else 'early'}")
        levels.setdefault((key[0] if not band else -100.0, -sign, key[2]), []).append(j)
    rows = [
        Row(words, (share(some), share(some, is_label(*DESYNC)), *counts(some)))
        for (_, _, words), some in sorted(levels.items(), key=lambda kv: kv[0])
    ]
    still = _some(judged, "original", "shift")
    if still and rows:
        rows.append(Row("0 s (in sync)", (share(still), share(still, is_label(*DESYNC)), *counts(still))))
    always = baseline(shifted, lambda _: "SYNC")
    if always:
        cells = (share(always), share(always, is_label(*DESYNC)), *counts(always))
        rows.append(Row("always in sync, all shifts", cells, "baseline"))
    return Table(
        id="thud_bands",
        title="How large must a shift be?",
        caption=(
            "By size and direction of the shift (Thud, Figure 5). Right: direction and all. Notices: says "
            "it is not in "
            "sync; on the last row that is a false alarm."
        ),
        columns=("right", "notices", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )


def within(tolerance: float) -> Hit:
    """Whether the stated offset lies within ``tolerance`` seconds; a shift missed, or given no number, fails."""

    def hit(j: Judged) -> bool | None:
        if j.score.label in UNSCORED:
            return None
        return j.score.offset is not None and abs(j.score.offset - j.item.offset) <= tolerance + 1e-9

    return hit


def _localisation(judged: Sequence[Judged]) -> Table:
    rows = []
    groups: dict[str, Callable[[Judged], bool]] = {
        "about 2 s, late": lambda j: j.item.condition == "shift" and j.item.offset > 0,
        "about 2 s, early": lambda j: j.item.condition == "shift" and j.item.offset < 0,
        "about 2 s, both": lambda j: j.item.condition == "shift",
        "ladder, all steps": lambda j: j.item.condition == "ladder",
    }
    for words, belongs in groups.items():
        some = [j for j in _some(judged, task="shift") if belongs(j)]
        said = [j for j in some if j.score.offset is not None]
        if said:  # closed questions ask for no number
            errors = [abs(float(j.score.offset or 0.0) - j.item.offset) for j in said]
            shares = tuple(share(some, within(t)) for t in TOLERANCES)
            rows.append(Row(words, (*shares, stats.mean(errors, cluster_of(said)), len(said), *counts(some)[:4])))
    always = baseline([j for j in _some(judged, task="shift") if j.item.condition == "shift"], lambda _: "SYNC")
    if rows and always:
        shares = tuple(share(always, within(t)) for t in TOLERANCES)
        rows.append(Row("always in sync, about 2 s", (*shares, None, 0, *counts(always)[:4]), "baseline"))
    return Table(
        id="thud_localisation",
        title="Does it know by how much?",
        caption=(
            "Share of all shifted clips whose stated offset is right to within 0.5 and 1.0 s (a missed "
            "shift fails), and "
            "the mean absolute error in seconds over the answers that state one (Thud, Figure 6)."
        ),
        columns=(*(f"within {t:.1f} s" for t in TOLERANCES), "mean error in s", "states an offset", *COUNTS[:4]),
        rows=tuple(rows),
        unit="mixed",
    )


# condition, task, right labels (none: the target), taken for untouched, a shift not there or without a direction
_CONFUSIONS: tuple[tuple[str, str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    ("mute", "mute", ("SILENT",), ("SOUND_DESCRIBED",), ()),
    ("swap", "swap", ("MISMATCH",), ("MATCH",), ()),
    ("shift", "shift", (), ("SYNC",), ("DESYNC_NO_DIRECTION",)),
    ("original", "shift", ("SYNC",), (), DESYNC),
)


def _confusion(judged: Sequence[Judged]) -> Table:
    rows = []
    plain = baseline(judged, lambda item: NATURAL[item.question])
    for kind, condition, task, good, synced, alarm in (
        (kind, *row) for kind in ("model", "baseline") for row in _CONFUSIONS
    ):
        some = _some(judged if kind == "model" else plain, condition, task)
        if not some:
            continue
        correct: Hit = is_label(*good) if good else right

        def reversed_way(j: Judged) -> bool | None:
            if j.score.label in UNSCORED:
                return None
            return j.item.condition == "shift" and {j.score.label, j.item.target} == {"DELAY", "EARLY"}

        cells = [share(some, h) for h in (correct, is_label(*synced), is_label(*alarm), reversed_way)]
        visual = share(some, is_label("VISUAL_ONLY"))
        words = f"{condition}, {task} task"
        if kind == "baseline":
            words = f"always in sync, a sound, a match: {words}"
        rows.append(Row(words, (*cells, visual, *counts(some)[:4]), kind))  # type: ignore[arg-type]
    return Table(
        id="thud_confusion",
        title="What it says instead",
        caption=(
            "Every intervention's answers split up (Thud, Figure 4): right, taken for untouched, a shift "
            "without (or, on "
            "originals, with) a direction, the wrong direction, the picture only. The rest could not be read."
        ),
        columns=(
            "right",
            "hallucinated sync",
            "hallucinated shift",
            "wrong direction",
            "picture only",
            *COUNTS[:4],
        ),
        rows=tuple(rows),
        unit="mixed",
    )
