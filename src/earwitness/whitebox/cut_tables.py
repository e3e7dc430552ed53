"""Tables of cut paths: what each cut does, beside random ones, and beside how much attention goes that way.

A cut is a find only beside its control, as many random tokens hidden in its place, and the control may well cost
more: hide 50 of 60 tokens at random, and the one that counts is mostly among them. So each row says in words what
it shows (:func:`shown`), and p is that of one side: that the cut costs more than random tokens do.

Functions: :func:`tables` of one run, :func:`beside` its attention, :func:`changes` of two runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from earwitness import stats
from earwitness.records import Cell, Estimate, Item, Row, Table, digest
from earwitness.whitebox.edges import Knockout, Reading, Window, arrow, groups_of, layers_of, seen_and_heard
from earwitness.whitebox.joined import Inside, Key, clusters
from earwitness.whitebox.moments import GROUPS

LEVEL = 0.05
# Smallest loss of interest, nats: the answer becomes a tenth less likely. A loss of less is none, however sure.
SMALLEST = float(np.log(1.1))
COLUMNS = (
    "what it shows", "nats: cut", "nats: random tokens", "nats: cut beyond random tokens", "choice changed",
    "changed with random tokens", "nats towards the heard option", "tokens hidden", "random tokens hidden", "items",
)  # fmt: skip
MATTERS, AS_RANDOM, LESS, NOTHING = (
    "matters", "costs no more than random tokens", "costs less than random tokens", "no loss shown",
)  # fmt: skip
UNKNOWN = "too few clips, or no control"
SAYS = (
    f"What it shows: “{NOTHING}”, where the cut does not cost more than {SMALLEST:.3f} nats (the answer 1.1 times "
    f"less likely), interval and all; “{MATTERS}”, where it does, and as much beyond what as many random tokens "
    f"cost (p ≤ {LEVEL}); “{AS_RANDOM}” and “{LESS}” are no finds by this measure, whatever the cut costs."
)


class Cells(NamedTuple):
    """What was measured of one path in one row, before its p is adjusted; answers' log p in nats."""

    cut: Estimate | None
    random: Estimate | None
    beyond: Estimate | None
    changed: Estimate | None
    changed_random: Estimate | None
    heard: Estimate | None
    tokens: int
    random_tokens: int
    items: int


_Group = tuple[Key, Window]


def tables(found: Iterable[Knockout], items: Iterable[Item]) -> list[Table]:
    """One table for each edge: rows are what was asked, under which condition, by window of layers."""
    by_id = {i.id: i for i in items}
    order = {name: n for n, name in enumerate(by_id)}
    mine = sorted((k for k in found if k.item in by_id), key=lambda k: order[k.item])
    edges = dict.fromkeys((k.edge, k.factor, k.heads) for k in mine)
    return [_table([k for k in mine if (k.edge, k.factor, k.heads) == edge], by_id) for edge in edges]


def _grouped(found: Iterable[Knockout], by_id: Mapping[str, Item]) -> dict[_Group, list[Knockout]]:
    """Cuts by row, windows of one question together, the widest first."""
    groups: dict[_Group, list[Knockout]] = {}
    for k in found:
        i = by_id[k.item]
        groups.setdefault((Key(i.protocol, i.condition, i.question, i.style), k.layers), []).append(k)
    places = {key: n for n, key in enumerate(dict.fromkeys(key for key, _ in groups))}
    return {g: groups[g] for g in sorted(groups, key=lambda g: (places[g[0]], g[1][0], -g[1][1]))}


def _table(found: Sequence[Knockout], by_id: Mapping[str, Item]) -> Table:
    first = found[0]
    groups = _grouped(found, by_id)
    made = _adjusted([_cells(some, [by_id[k.item] for k in some]) for some in groups.values()])
    rows = [
        Row(f"{key}: {layers_of(window)}", (shown(c), *c))
        for (key, window), c in zip(groups, made, strict=True)
    ]  # fmt: skip
    heads = f", heads {', '.join(map(str, first.heads))}" if first.heads else ""
    what = f"cut{heads}" if first.factor == 0 else f"weighed by {first.factor:g}{heads}"
    slug = digest(first.edge, first.factor, first.heads)[:6]
    return Table(
        id=f"knockout_{slug}",
        title=f"What the answer loses when {first.edge} is {what}",
        caption=(
            "Change of the log-probability (nats) of the given answer, and the same with as many random other "
            "tokens hidden from the same ones in the same layers; below 0 it loses. Share of items whose likeliest "
            "choice changes; where picture and sound disagree, change of log p(heard option) - log p(seen option). "
            f"L: layers, counted from 0. {SAYS} Where fewer random tokens were there than tokens hidden, the "
            "control is smaller. p: one-sided, that the cut costs more than random tokens, Holm-adjusted over rows."
        ),
        columns=COLUMNS,
        rows=tuple(rows),
        unit="mixed",
    )


def _cells(found: Sequence[Knockout], items: Sequence[Item]) -> Cells:
    names = clusters(items)
    controls = [_mean(r.answer for r in k.controls) for k in found]
    cut = [k.cut.answer - k.plain.answer for k in found]
    random = [None if c is None else c - k.plain.answer for c, k in zip(controls, found, strict=True)]
    heard = [_towards(k.plain, k.cut, i) for k, i in zip(found, items, strict=True)]
    return Cells(
        stats.mean(cut, names),
        stats.mean(random, names),
        _one_sided(stats.difference([k.cut.answer for k in found], controls, names)),
        stats.proportion([k.cut.choice != k.plain.choice for k in found], names),
        stats.proportion([_mean(r.choice != k.plain.choice for r in k.controls) for k in found], names),
        stats.mean(heard, names),
        round(float(np.mean([k.keys for k in found]))),
        round(float(np.mean([k.control_keys for k in found]))),
        len(found),
    )


def _one_sided(beyond: Estimate | None) -> Estimate | None:
    """The same with p of the one side that is a find: the cut costs more."""
    if beyond is None or beyond.p is None:
        return beyond
    return msgspec.structs.replace(beyond, p=beyond.p / 2 if beyond.value < 0 else 1 - beyond.p / 2)


def shown(cells: Cells) -> str:
    """What a row shows, in words; its p is adjusted already."""
    cut, beyond = cells.cut, cells.beyond
    if cut is None or beyond is None or beyond.p is None:
        return UNKNOWN
    if cut.high >= -SMALLEST:
        return NOTHING
    if beyond.p <= LEVEL and beyond.high < -SMALLEST:
        return MATTERS
    return LESS if beyond.low > 0 else AS_RANDOM


def _adjusted(made: Sequence[Cells]) -> list[Cells]:
    """Rows with the p values of what lies beyond random tokens adjusted for testing all of them."""
    ps = stats.holm([None if c.beyond is None else c.beyond.p for c in made])
    return [
        c if c.beyond is None else c._replace(beyond=msgspec.structs.replace(c.beyond, p=p))
        for c, p in zip(made, ps, strict=True)
    ]


def _mean(values: Iterable[float]) -> float | None:
    some = list(values)
    return float(np.mean(some)) if some else None


def _towards(plain: Reading, cut: Reading, item: Item) -> float | None:
    options = seen_and_heard(item)
    if options is None:
        return None
    seen, heard = options
    return (cut.choices[heard] - cut.choices[seen]) - (plain.choices[heard] - plain.choices[seen])


def beside(inside: Inside, found: Iterable[Knockout]) -> Table | None:
    """How much attention goes a way beside what cutting it does: rows are what was asked, by way and window.

    Of the items that were traced and measured; None where there are none. Only ways into the answer: the share is
    that of the prompt's last row.
    """
    place = {item.id: n for n, item in enumerate(inside.items)}
    mine = [k for k in found if k.item in place and k.edge.endswith("->answer") and k.factor == 0.0 and not k.heads]
    groups: dict[tuple[Key, str, Window], list[Knockout]] = {}
    for k in sorted(mine, key=lambda k: place[k.item]):
        i = inside.items[place[k.item]]
        groups.setdefault((Key(i.protocol, i.condition, i.question, i.style), k.edge, k.layers), []).append(k)
    if not groups:
        return None
    made = _adjusted([_cells(some, [inside.items[place[k.item]] for k in some]) for some in groups.values()])
    rows = []
    for ((key, edge, window), some), cells in zip(groups.items(), made, strict=True):
        at = [place[k.item] for k in some]
        part = [GROUPS.index(name) for name in groups_of(edge.partition("->")[0].strip())]
        mass = inside.trace.prompt.mass[at, window[0] : window[1] + 1][..., part].sum(-1, dtype=np.float64)
        tokens = inside.trace.count[at][:, : GROUPS.index("generated")]
        names = clusters([inside.items[n] for n in at])
        share = stats.proportion(np.clip(mass.mean((1, 2)), 0, 1).tolist(), names)
        part_of = float((tokens[:, part].sum(1) / tokens.sum(1)).mean())
        kept = (share, part_of, shown(cells), cells.cut, cells.random, cells.changed, cells.items)
        rows.append(Row(f"{key}, {arrow(edge)}: {layers_of(window)}", kept))
    return Table(
        id="share_and_knockout",
        title="Attention, and what it does",
        caption=(
            "Share of the attention of the prompt's last row that goes to these tokens (mean over the layers cut, "
            "L, and all heads), and their share of the prompt's tokens; then what hiding them from the answer does "
            "to it: the change of log p(answer), nats, the same with as many random other tokens hidden, and the "
            f"share of items whose likeliest choice changes. {SAYS} Much attention may do nothing, and little may "
            "decide."
        ),
        columns=(
            "attention", "of the tokens", "what cutting it shows", "nats: cut", "nats: random tokens",
            "choice changed", "items",
        ),
        rows=tuple(rows),
        unit="mixed",
    )  # fmt: skip


def changes(
    sides: tuple[Iterable[Knockout], Iterable[Knockout]],
    items: Iterable[Item],
    names: tuple[str, str] = ("before", "after"),
) -> list[Table]:
    """The cuts that two runs share, side by side, on the items that both were measured on; empty without any.

    ``sides``: what was measured in each run; ``items``: those that the runs share.
    """
    by_id = {i.id: i for i in items}
    measured = [
        {(k.edge, k.factor, k.heads, k.layers, k.item): k for k in side if k.item in by_id} for side in sides
    ]
    order = {name: n for n, name in enumerate(by_id)}
    both = sorted(measured[0].keys() & measured[1].keys(), key=lambda key: order[key[-1]])
    edges = dict.fromkeys(key[:3] for key in both)
    rows = []
    for edge, factor, heads in sorted(edges):
        mine = [[m[key] for key in both if key[:3] == (edge, factor, heads)] for m in measured]
        groups = [_grouped(side, by_id) for side in mine]
        made = [_adjusted([_cells(some, [by_id[k.item] for k in some]) for some in g.values()]) for g in groups]
        more = "" if factor == 0 else f" x {factor:g}"
        more += f" heads {','.join(map(str, heads))}" if heads else ""
        for n, (key, window) in enumerate(groups[0]):
            a, b = made[0][n], made[1][n]
            owners = clusters([by_id[k.item] for k in groups[0][key, window]])
            flips = [[k.cut.choice != k.plain.choice for k in g[key, window]] for g in groups]
            cells: tuple[Cell, ...] = (
                shown(a), shown(b), a.changed, b.changed, stats.difference(flips[1], flips[0], owners),
                a.changed_random, b.changed_random, a.cut, b.cut, a.random, b.random, a.heard, b.heard, a.items,
            )  # fmt: skip
            rows.append(Row(f"{arrow(edge)}{more}, {key}: {layers_of(window)}", cells))
    if not rows:
        return []
    return [
        Table(
            id="knockout_changes",
            title=f"What cutting a path does: {names[0]} and {names[1]}",
            caption=(
                f"A = {names[0]}, B = {names[1]}. Cuts that were made in both, on the same items. Share of items "
                "whose likeliest choice changes with the cut, and with as many random tokens hidden; B - A is "
                "paired by item. Change of log p of the answer that each model gave, in nats: where the two "
                "answered differently it is of different answers, so compare shares first. Towards the heard "
                f"option: change of log p(heard) - log p(seen). L: layers, counted from 0. {SAYS}"
            ),
            columns=(
                "A: what it shows", "B: what it shows", "choice changed, A", "choice changed, B",
                "choice changed, B - A", "with random tokens, A", "with random tokens, B", "nats: cut, A",
                "nats: cut, B", "nats: random tokens, A", "nats: random tokens, B", "nats towards the heard, A",
                "nats towards the heard, B", "items",
            ),
            rows=tuple(rows),
            unit="mixed",
        )
    ]  # fmt: skip
