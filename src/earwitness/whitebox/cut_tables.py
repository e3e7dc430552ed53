"""Tables of cut paths: what each cut does, beside random ones, and beside how much attention goes that way.

Functions: :func:`tables`, :func:`beside`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from earwitness import stats
from earwitness.records import Estimate, Item, Row, Table, digest
from earwitness.whitebox.edges import Knockout, Reading, Window, groups_of, layers_of, seen_and_heard
from earwitness.whitebox.joined import Inside, Key, clusters
from earwitness.whitebox.moments import GROUPS

COLUMNS = (
    "change of log p(answer)", "with random tokens", "difference", "choice changed", "changed with random tokens",
    "towards the heard option", "tokens hidden", "random tokens hidden", "items",
)  # fmt: skip


def tables(found: Iterable[Knockout], items: Iterable[Item]) -> list[Table]:
    """One table for each edge: rows are what was asked, under which condition, by window of layers."""
    by_id = {i.id: i for i in items}
    order = {name: n for n, name in enumerate(by_id)}
    mine = sorted((k for k in found if k.item in by_id), key=lambda k: order[k.item])
    edges = dict.fromkeys((k.edge, k.factor, k.heads) for k in mine)
    return [_table([k for k in mine if (k.edge, k.factor, k.heads) == edge], by_id) for edge in edges]


def _table(found: Sequence[Knockout], by_id: Mapping[str, Item]) -> Table:
    first = found[0]
    groups: dict[tuple[Key, Window], list[Knockout]] = {}
    for k in found:
        i = by_id[k.item]
        groups.setdefault((Key(i.protocol, i.condition, i.question, i.style), k.layers), []).append(k)
    places = {key: n for n, key in enumerate(dict.fromkeys(key for key, _ in groups))}
    ordered = sorted(groups, key=lambda g: (places[g[0]], g[1][0], -g[1][1]))
    rows = _adjusted(
        [
            Row(
                f"{key}: {layers_of(window)}",
                _cells(groups[key, window], [by_id[k.item] for k in groups[key, window]]),
            )
            for key, window in ordered
        ]
    )
    heads = f", heads {', '.join(map(str, first.heads))}" if first.heads else ""
    what = f"cut{heads}" if first.factor == 0 else f"weighed by {first.factor:g}{heads}"
    slug = digest(first.edge, first.factor, first.heads)[:6]
    return Table(
        id=f"knockout_{slug}",
        title=f"What the answer loses when {first.edge} is {what}",
        caption=(
            "Change of the log-probability (nats) of the given answer, and the same with as many random other "
            "tokens hidden from the same ones in the same layers; share of items whose likeliest choice changes; "
            "where picture and sound disagree, change of log p(heard option) - log p(seen option). A path that "
            "matters costs more than its control. Where fewer random tokens were there than tokens hidden, the "
            "control is smaller. p values of the difference are Holm-adjusted over the rows."
        ),
        columns=COLUMNS,
        rows=tuple(rows),
        unit="mixed",
    )


def _cells(found: Sequence[Knockout], items: Sequence[Item]) -> tuple[Estimate | float | int | None, ...]:
    names = clusters(items)
    controls = [_mean(r.answer for r in k.controls) for k in found]
    cut = [k.cut.answer - k.plain.answer for k in found]
    random = [None if c is None else c - k.plain.answer for c, k in zip(controls, found, strict=True)]
    heard = [_towards(k.plain, k.cut, i) for k, i in zip(found, items, strict=True)]
    return (
        stats.mean(cut, names),
        stats.mean(random, names),
        stats.difference([k.cut.answer for k in found], controls, names),
        stats.proportion([k.cut.choice != k.plain.choice for k in found], names),
        stats.proportion([_mean(r.choice != k.plain.choice for r in k.controls) for k in found], names),
        stats.mean(heard, names),
        float(np.mean([k.keys for k in found])),
        float(np.mean([k.control_keys for k in found])),
        len(found),
    )


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
    rows = []
    for (key, edge, window), some in groups.items():
        at = [place[k.item] for k in some]
        part = [GROUPS.index(name) for name in groups_of(edge.partition("->")[0].strip())]
        mass = inside.trace.prompt.mass[at, window[0] : window[1] + 1][..., part].sum(-1, dtype=np.float64)
        tokens = inside.trace.count[at][:, : GROUPS.index("generated")]
        items = [inside.items[n] for n in at]
        names, cut = clusters(items), _cells(some, items)
        rows.append(
            Row(
                f"{key}, {edge}: {layers_of(window)}",
                (
                    stats.proportion(np.clip(mass.mean((1, 2)), 0, 1).tolist(), names),
                    float((tokens[:, part].sum(1) / tokens.sum(1)).mean()),
                    *(cut[COLUMNS.index(c)] for c in ("difference", "choice changed")),
                    len(some),
                ),
            )
        )
    if not rows:
        return None
    return Table(
        id="share_and_knockout",
        title="Attention, and what it does",
        caption=(
            "Share of the attention of the prompt's last row that goes to these tokens (mean over the window's "
            "layers and all heads), and their share of the prompt's tokens; then what hiding them from the answer "
            "does: the change of log p(answer), nats, less that with as many random other tokens hidden, and the "
            "share of items whose likeliest choice changes. Much attention may do nothing, and little may decide."
        ),
        columns=(
            "attention",
            "of the tokens",
            "nats lost to the cut, beyond random tokens",
            "choice changed",
            "items",
        ),
        rows=tuple(rows),
        unit="mixed",
    )


def _adjusted(rows: Sequence[Row]) -> list[Row]:
    """Rows with the p values of their differences adjusted for testing all of them."""
    at = COLUMNS.index("difference")
    cells = [row.cells[at] for row in rows]
    ps = stats.holm([c.p if isinstance(c, Estimate) else None for c in cells])
    out = []
    for row, cell, p in zip(rows, cells, ps, strict=True):
        new = msgspec.structs.replace(cell, p=p) if isinstance(cell, Estimate) else cell
        out.append(msgspec.structs.replace(row, cells=(*row.cells[:at], new, *row.cells[at + 1 :])))
    return out
