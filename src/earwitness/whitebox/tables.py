"""Tables of a trace: where attention lies, whether it moves with the question, where the conflict falls.

Functions: :func:`tables` of one traced run; :func:`changes` between two (before and after training).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from earwitness import stats
from earwitness.records import Cell, Estimate, Row, Table
from earwitness.stats import effects, many
from earwitness.stats.effects import Band, Effect
from earwitness.stats.intervals import Floats
from earwitness.stats.paired import FEWEST
from earwitness.whitebox import effects as inner
from earwitness.whitebox.effects import Measure, What
from earwitness.whitebox.joined import Inside, common, keys
from earwitness.whitebox.joined import clusters as item_clusters
from earwitness.whitebox.moments import GROUPS

ALIGNED, CONFLICT = "aligned", "audio_swapped"  # MMA-Bench's conditions whose layers stand side by side
LEVEL = 0.05
SHARES: tuple[tuple[Measure, str, str], ...] = (
    (
        "mass", "Attention by group of tokens",
        "Share of the attention of the prompt's last row, mean over layers and heads. Text is all that is neither "
        "video nor audio; most of it is usually the first token (sink) and the system turn (template), not the "
        "question.",
    ),
    (
        "without sink", "Attention by group of tokens, without the sink",
        "The same over all tokens but the first, where attention goes that has nowhere to go.",
    ),
    (
        "enrichment", "Attention beside the number of tokens",
        "Share of the attention over the share of the tokens: 1 is what as many tokens would get by chance.",
    ),
    (
        "value", "What the heads take over, by group of tokens",
        "Share of the norms of the weighted values: what a group adds to the output of a head, not how long it is "
        "looked at.",
    ),
)  # fmt: skip


def tables(inside: Inside) -> list[Table]:
    """All tables that the trace has data for, in reading order."""
    return [t for t in (*_shares(inside), *_moves(inside), *_uncertainty(inside), *_parting(inside)) if t.rows]


def changes(before: Inside, after: Inside, names: tuple[str, str] = ("before", "after")) -> list[Table]:
    """Tables of two traced runs on the items that both have; differences are second - first.

    Raises ValueError where they share no item or their models differ in layers or heads.
    """
    before, after = common(before, after)
    found = [_share_changes(before, after, names), *_layer_changes(before, after, names)]
    return [t for t in (*found, _parting_changes(before, after, names)) if t.rows]


def cells(band: Band, n: int, clusters: int, method: str) -> list[Estimate | None]:
    """A band as one estimate a cell; None where there was no spread to measure."""
    return [
        None if np.isnan(v) else Estimate(float(v), float(lo), float(hi), n, clusters, method, _p(p))
        for v, lo, hi, p in zip(band.value, band.low, band.high, band.p, strict=True)
    ]


def _p(p: float) -> float | None:
    return None if np.isnan(p) else float(p)


def _mean(values: Floats, clusters: Sequence[str], span: tuple[float, float] | None) -> Estimate | None:
    kept = [None if np.isnan(v) else float(min(v, span[1]) if span else v) for v in values]
    return stats.mean(kept, clusters, span=span)


def _shares(inside: Inside) -> Iterator[Table]:
    used = [n for n in range(len(GROUPS)) if inside.trace.count[:, n].any() and GROUPS[n] != "generated"]
    for measure, title, caption in SHARES:
        found = inner.shares(inside, measure)
        if found is None:
            continue
        columns = [n for n in used if not (measure == "without sink" and n == inner.SINK)] + [len(GROUPS)]
        rows = []
        for key, places in keys(inside).items():
            clusters = item_clusters([inside.items[n] for n in places])
            span = None if measure == "enrichment" else (0.0, 1.0)
            rows.append(Row(str(key), tuple(_mean(found[places, n], clusters, span) for n in columns)))
        yield Table(
            id=f"trace_{measure.replace(' ', '_')}",
            title=title,
            caption=caption,
            columns=tuple((*GROUPS, "all text")[n] for n in columns),
            rows=tuple(rows),
            unit="score" if measure == "enrichment" else "share",
        )


def _moves(inside: Inside) -> Iterator[Table]:
    found = inner.conditions(inside)
    yield Table(
        id="trace_moves",
        title="Does attention move with the question?",
        caption=(
            "x = log(attention on video / attention on audio) of the prompt's last row, one value per clip and "
            "prompt. d: Cohen's d of x asked about the picture against x asked about the sound, by layer; above 0: "
            "attention moves to what is asked about. A largest d is picked out of many layers and so looks larger "
            "than it is; its layer's interval says how sure the place is. Largest shift: the mean difference of x "
            "in the layer where it is farthest from 0. A layer or head moves where it shifts more than chance "
            "(layers: 5 % false finds, Benjamini-Hochberg; heads: 5 % chance of any false find, largest |t|, sign "
            "flips) and enough to matter: the interval of its shift lies beyond 0.095 nats either way, so that the "
            "ratio of video to audio changes by a tenth. Those that shift surely, but less, stand in brackets."
        ),
        columns=(
            "clips",
            "Cohen's d, largest",
            "at layer",
            "Cohen's d, smallest",
            "at layer (smallest)",
            "largest shift, nats",
            "layers that move",
            "heads that move",
        ),
        rows=tuple(row for what, clips in found.items() if (row := _move_row(inside, what, clips))),
        unit="mixed",
    )
    for protocol, _, style in dict.fromkeys((w[0], "", w[2]) for w in found):
        pair = [(protocol, condition, style) for condition in (ALIGNED, CONFLICT)]
        if all(what in found for what in pair):
            yield _layers(inside, pair[0], pair[1])
            yield _paper(inside, pair)


def _name(what: What) -> str:
    return what[1] + ("" if what[2] == "standard" else f" ({what[2]})")


def _move_row(inside: Inside, what: What, clips: int) -> Row | None:
    sums, by_head = inner.moves(inside, what), inner.moves(inside, what, heads=True)
    found = None if sums is None else effects.effect(sums)
    if sums is None or by_head is None or found is None:
        return None
    out: list[Cell] = [clips]
    estimates = cells(found.d, found.n, found.clusters, found.how)
    for sign in (1, -1):
        at = inner.peak(sums, sign)
        out += [estimates[int(at.value)], at]
    enough = found.clusters >= FEWEST
    out.append(_farthest(found))
    heads = effects.effect(by_head)
    if not enough or heads is None:
        return Row(_name(what), (*out, None, None))
    sure = many.benjamini_hochberg(found.shift.p) <= LEVEL
    single = many.max_t(by_head.shifts) <= LEVEL
    return Row(_name(what), (*out, _moving(sure, found), _moving(single, heads)))


def _moving(sure: NDArray[np.bool_], found: Effect) -> str:
    enough = sure & inner.matters(found.shift)
    less = int(sure.sum() - enough.sum())
    return f"{int(enough.sum())} of {sure.size}" + (f" ({less} too little to matter)" if less else "")


def _farthest(found: Effect) -> Cell:
    at = int(np.argmax(np.abs(found.shift.value)))
    return cells(found.shift, found.n, found.clusters, found.how)[at]


def tied(inside: Inside, first: What, second: What) -> tuple[effects.Sums, effects.Sums] | None:
    """Sums by layer of two conditions with the same clusters; None where either has no pairs."""
    sides = [
        inner.moves(inside, what, tie=inner.paired_items(inside, other))
        for what, other in ((first, second), (second, first))
    ]
    return None if sides[0] is None or sides[1] is None else (sides[0], sides[1])


def _layers(inside: Inside, aligned: What, conflict: What) -> Table:
    both = tied(inside, aligned, conflict)
    found: list[Effect | None] = [None] * 3
    for n, what in enumerate((aligned, conflict)):
        sums = inner.moves(inside, what)
        found[n] = None if sums is None else effects.effect(sums)
    if both is not None and set(both[0].clusters) & set(both[1].clusters):
        found[2] = effects.change(*both)
    columns: list[str] = []
    parts: list[Sequence[Cell]] = []
    for name, one in zip((ALIGNED, "misaligned", "misaligned - aligned"), found, strict=True):
        if one is not None:
            for label, band in (("d", one.d), ("g", one.g), ("d_z", one.dz), ("mean shift", one.shift)):
                columns.append(f"{label}, {name}")
                parts.append(cells(band, one.n, one.clusters, one.how))
            columns.append(f"q, {name}")
            parts.append([_p(q) for q in many.benjamini_hochberg(one.d.p)])
    return Table(
        id=f"trace_layers_{aligned[2]}",
        title="How far attention moves with the question, layer by layer",
        caption=(
            "d and the paired d_z of x = log(video / audio), g = d without its bias in small samples, the mean "
            "shift of x, and q, the p value adjusted over layers (Benjamini-Hochberg). Misaligned: the sound is "
            "another clip's. The difference is taken on the same clips. d of the video alone is d, of the audio -d."
        ),
        columns=tuple(columns),
        rows=tuple(Row(f"layer {n}", cell) for n, cell in enumerate(zip(*parts, strict=True))) if parts else (),
        unit="score",
    )


def _paper(inside: Inside, pair: Sequence[What]) -> Table:
    columns, parts = [], []
    for what, name in zip(pair, (ALIGNED, "misaligned"), strict=True):
        for modality in ("video", "audio"):
            band = inner.token_moves(inside, what, modality)
            if band is not None:
                clips = inner.conditions(inside)[what]
                columns.append(f"{modality}, {name}")
                parts.append(cells(band, clips, clips, "token as unit; leave one clip out, t(G-1)"))
    return Table(
        id=f"trace_paper_{pair[0][2]}",
        title="The same with the token as unit (paper mode)",
        caption=(
            "Cohen's d over all tokens of all heads and clips, as arXiv 2511.22826 may have computed its Figure 9: "
            "its unit is not stated. Weights are taken as shares of the attention on video and audio, so d of the "
            "two must have opposite signs; in the paper's figure some layers have the same. Small by nature: it "
            "falls as tokens of one modality differ among themselves. Its peaks: layer 17 (video), 22 (audio)."
        ),
        columns=tuple(columns),
        rows=tuple(Row(f"layer {n}", cell) for n, cell in enumerate(zip(*parts, strict=True))) if parts else (),
        unit="score",
    )


def _uncertainty(inside: Inside) -> Iterator[Table]:
    rows = []
    for one in inner.uncertainty(inside):
        bands = [cells(b, one.n, one.clusters, "clip-clustered t(G-1)") for b in (one.original, one.tampered)]
        moved = cells(one.change, one.n, one.clusters, "paired, clip-clustered t(G-1)")
        at = int(np.argmax(np.abs(one.change.value)))
        rows.append(Row(str(one.key), (bands[0][-1], bands[1][-1], moved[-1], moved[at], at)))
    yield Table(
        id="trace_uncertainty",
        title="Is the model less sure when the sound is tampered with?",
        caption=(
            "Entropy of the ten likeliest tokens of the answer's rows, from 0 (sure) to 1 (all ten alike), as in "
            "arXiv 2511.10059, Figure 1; the same question on the untouched clip beside it. The largest change is "
            "picked out of all layers."
        ),
        columns=("original, last layer", "tampered, last layer", "change", "largest change", "at layer"),
        rows=tuple(rows),
        unit="score",
    )


def _parting(inside: Inside) -> Iterator[Table]:
    rows = [
        Row(
            str(one.key),
            (one.seen, cells(one.gap, one.n, one.clusters, "clip-clustered t(G-1)")[-1], one.settled),
        )
        for one in inner.parting(inside)
    ]
    yield Table(
        id="trace_parting",
        title="Where the seen and the heard option part",
        caption=(
            "Clips whose sound is another's: log p of the first token of the option seen minus that of the option "
            "heard, read off each layer through the last norm and the output matrix. Settled: the first layer from "
            "which on the mean has the sign it ends with."
        ),
        columns=("ends with the option seen", "gap at the end, nats", "settled from layer"),
        rows=tuple(rows),
        unit="mixed",
    )


def _share_changes(before: Inside, after: Inside, names: tuple[str, str]) -> Table:
    first, second = inner.shares(before), inner.shares(after)
    assert first is not None
    assert second is not None
    rows = []
    for key, places in keys(before).items():
        clusters = item_clusters([before.items[n] for n in places])
        out: list[Cell] = []
        for n in (len(GROUPS), inner.VIDEO, inner.AUDIO):
            sides = [[None if np.isnan(v) else float(v) for v in side[places, n]] for side in (second, first)]
            out += [_mean(side[places, n], clusters, (0.0, 1.0)) for side in (first, second)]
            out.append(stats.difference(sides[0], sides[1], clusters))
        rows.append(Row(str(key), tuple(out)))
    said = (*names, "difference")
    return Table(
        id="trace_share_changes",
        title=f"Attention by group of tokens: {names[0]} and {names[1]}",
        caption="Share of the attention of the prompt's last row, mean over layers and heads; item by item.",
        columns=tuple(f"{group}, {name}" for group in ("all text", "video", "audio") for name in said),
        rows=tuple(rows),
    )


def _layer_changes(before: Inside, after: Inside, names: tuple[str, str]) -> Iterator[Table]:
    for what in inner.conditions(before):
        first, second = inner.moves(before, what), inner.moves(after, what)
        if first is None or second is None or what[1] not in (ALIGNED, CONFLICT):
            continue
        found = effects.effect(first), effects.effect(second), effects.change(first, second)
        if found[0] is None or found[1] is None or found[2] is None:
            continue
        parts: list[Sequence[Cell]] = [cells(one.d, one.n, one.clusters, one.how) for one in found if one]
        parts.append([_p(q) for q in many.benjamini_hochberg(found[2].d.p)])
        yield Table(
            id=f"trace_layer_changes_{what[1]}_{what[2]}",
            title=f"How far attention moves with the question: {names[0]} and {names[1]}, {_name(what)}",
            caption="d by layer as in the trace's own tables; the difference on the same clips; q over layers.",
            columns=(f"d, {names[0]}", f"d, {names[1]}", "difference", "q"),
            rows=tuple(Row(f"layer {n}", cell) for n, cell in enumerate(zip(*parts, strict=True))),
            unit="score",
        )


def _parting_changes(before: Inside, after: Inside, names: tuple[str, str]) -> Table:
    rows = []
    settled = [{one.key: one.settled for one in inner.parting(side)} for side in (before, after)]
    for key, places in keys(before).items():
        gaps = [
            (a, b, before.items[n])
            for n in places
            if (a := inner.conflict(before, n)) is not None and (b := inner.conflict(after, n)) is not None
        ]
        if not gaps:
            continue
        clusters = item_clusters([item for _, _, item in gaps])
        first, second = [float(a[-1]) for a, _, _ in gaps], [float(b[-1]) for _, b, _ in gaps]
        out = [stats.mean(first, clusters), stats.mean(second, clusters), stats.difference(second, first, clusters)]
        rows.append(Row(str(key), (*out, settled[0].get(key), settled[1].get(key))))
    return Table(
        id="trace_parting_changes",
        title=f"Where the seen and the heard option part: {names[0]} and {names[1]}",
        caption="log p(option seen) - log p(option heard) at the last layer, in nats; below 0: the sound.",
        columns=(*(f"gap, {n}" for n in names), "difference", *(f"settled from layer, {n}" for n in names)),
        rows=tuple(rows),
        unit="score",
    )
