"""Heat maps: where did each token of an answer look, token by token of what it was given?

Rows are the answer's tokens. Text is read in lines, a column for each of its tokens with its word below it; picture
and sound lie under it on one clock, each token at its second. Shades are opacity of one hue (see ``inside``), and
each of the three has its own darkest shade, which its title names: one picture token of a thousand gets little
where the first token gets half. What is off that scale (the first token, often; folded text) has its per cent
written on it. Where the answer is long, neighbouring rows are drawn as their mean, and where a picture or a sound
has more tokens than there is room for, neighbours are drawn as their sum; the caption says so.

Functions: :func:`heat` of one answer in one layer, :func:`chosen` which ones a report shows unasked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earwitness.report.charts import FAINT, HEARD, INK, LINE, PAPER, SEEN, Chart, inline, styled
from earwitness.report.words import condition_name
from earwitness.whitebox import tables
from earwitness.whitebox.joined import Inside
from earwitness.whitebox.moments import GROUPS, MEDIA, Heat

Point = dict[str, Any]
Floats = NDArray[np.float64]
ITEMS, LAYERS = 2, 2  # shown unasked: one clip asked about both senses, in so many of the layers kept
ROWS = 16  # rows at most
STEP, HIGH = 17, 20  # px of a text token, of a row
LINE_OF = 32  # text tokens in a line
ACROSS = 544  # px of a clip's length
CELL, CELLS = 2.5, 2000  # px of a media cell at least; cells of one picture or sound at most
WORD = 72  # px of a word
LEVELS = 3  # lines over the words, for the names of groups
ASKED = {"visual": ", asked what it sees", "audio": ", asked what it hears"}
MEDIUM = {"video": ("picture", SEEN), "audio": ("sound", HEARD)}
_SMALL: dict[str, Any] = {"fontSize": 12, "fontWeight": 400, "color": INK, "anchor": "start", "offset": 6}


def chosen(inside: Inside) -> list[tuple[str, int]]:
    """Item and layer of the maps that a report shows: one clip asked about both senses, a conflict if there is one.

    The same ones on every call; the first ones where no clip was asked about both.
    """
    layers: dict[str, list[int]] = {}
    for name, layer in inside.trace.heat:
        layers.setdefault(name, []).append(layer)
    mapped = [i for i in inside.items if i.id in layers]
    mapped.sort(
        key=lambda i: (i.condition != tables.CONFLICT, i.condition != tables.ALIGNED, i.style != "standard")
    )
    found: list[str] = []
    for one in mapped:
        asked = {i.question: i.id for i in reversed(mapped) if _twin(i) == _twin(one)}
        if {"visual", "audio"} <= set(asked):
            found = [asked["visual"], asked["audio"]]
            break
    found = found or [i.id for i in mapped[:ITEMS]]
    return (
        [(name, layer) for layer in sorted(layers[found[0]])[:LAYERS] for name in found if layer in layers[name]]
        if found
        else []
    )


def _twin(item: Any) -> tuple[object, ...]:
    return (item.protocol, item.clip, item.condition, item.style, item.seed)


def heat(inside: Inside, item: str, layer: int) -> Chart:
    """Where each token of an answer looked in one kept layer.

    Raises ValueError where that layer of the item was not kept.
    """
    import altair as alt

    found = inside.trace.heat.get((item, layer))
    if found is None:
        kept = sorted({n for name, n in inside.trace.heat if name == item})
        raise ValueError(f"no heat map of item {item}, layer {layer}: kept are {kept or 'none'} (trace --heat)")
    said, found = _rows(found)
    mass = found.mass.astype(np.float64)
    asked = next(i for i in inside.items if i.id == item)
    panels, notes = _text(found, said, mass), []
    shown = [name for name in MEDIA if (found.groups == GROUPS.index(name)).any()]
    last = max((float(_spans(found.seconds[found.groups == GROUPS.index(n)])[1].max()) for n in shown), default=0.0)
    for name in shown:
        panel, note = _media(found, said, mass, name, last, bottom=name == shown[-1])
        panels.append(panel)
        notes += note
    if len(said) < len(found.said):
        notes.append(f"A row is the mean of {-(-len(found.said) // len(said))} tokens, so many to a row.")
    folds = int((found.tokens > 1).sum())
    if folds:
        notes.append("Folded text has the sum of its tokens.")
    return Chart(
        f"trace-heat-{item}-{layer}",
        f"Where the answer looked{ASKED.get(asked.question, '')}, layer {layer}",
        f"“{_cut(asked.prompt, 120)}” ({condition_name(asked.condition)}). A row for each token of the answer: the "
        "attention from which it was written, mean over heads. Each of text, picture and sound has its own darkest "
        "shade, named over it. " + " ".join(notes),
        styled(alt.vconcat(*panels, spacing=14).resolve_scale(fillOpacity="independent", x="independent")),
    )


def _rows(found: Heat) -> tuple[list[str], Heat]:
    """Names of the rows drawn, and the map with these rows; of a long answer its own tokens are columns as few."""
    count = len(found.said)
    each = -(-count // ROWS)
    starts = range(0, count, each)
    names = []
    for n in starts:
        some = found.said[n : n + each]
        at = f"{n + 1}" if each == 1 else f"{n + 1}–{n + len(some)}"
        names.append(f"{at}  {_word(''.join(some))}")
    if each == 1:
        return names, found
    means = np.stack([found.mass[n : n + each].mean(0, dtype=np.float64) for n in starts])
    own = np.flatnonzero(found.groups == GROUPS.index("generated"))
    of = np.arange(len(found.groups))
    of[own] = own[0] + np.arange(len(own)) // each if len(own) else of[own]
    _, first, of = np.unique(of, return_index=True, return_inverse=True)
    summed = np.zeros((len(means), len(first)))
    np.add.at(summed.T, of, means.T)
    words = [found.words[n] for n in first]
    generated = np.flatnonzero(found.groups[first] == GROUPS.index("generated"))
    for k, name in zip(generated, names, strict=False):
        words[k] = name
    tokens = np.bincount(of, weights=found.tokens).astype(np.int64)
    seconds = found.seconds[first]
    return names, Heat(found.said, tuple(words), found.groups[first], seconds, tokens, summed.astype(np.float32))


def _word(text: str) -> str:
    """A token as it is written under its column: no space around it, a line end as a mark."""
    bare = re.sub(r"<\|(.+?)\|>", r"<\1>", text).strip(" ").replace("\n", "↵").replace("\t", "⇥")
    return bare or "␣"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most].rstrip()}…"


# --- text --------------------------------------------------------------------------------------------------------


def _text(found: Heat, said: list[str], mass: Floats) -> list[Any]:
    """Panels of the text, a line of words each."""
    media = [GROUPS.index(name) for name in MEDIA]
    columns = np.flatnonzero(~np.isin(found.groups, media))
    groups, single = found.groups[columns], found.tokens[columns] == 1
    plain = columns[(groups != GROUPS.index("sink")) & (single | (groups == GROUPS.index("generated")))]
    top = max(float(mass[:, plain].max()) if len(plain) else 0.0, 1e-6)
    whole = float(mass[:, columns].sum(1).mean())
    title = f"text: {_share(whole)} of the attention; darkest {_share(top)}"
    if (mass[:, columns] > top).any():
        title += "; off that scale in per cent"
    return [
        _text_line(found, said, mass, columns[n : n + LINE_OF], top, title if n == 0 else "")
        for n in range(0, len(columns), LINE_OF)
    ]


def _share(value: float) -> str:
    return f"{100 * value:.2g} %" if value < 0.1 else f"{100 * value:.0f} %"


def _text_line(
    found: Heat, said: list[str], mass: Floats, columns: NDArray[np.int64], top: float, title: str
) -> Any:
    import altair as alt

    names = [f"{n}|{_label(found, n)}" for n in columns.tolist()]
    points = [
        {
            "token": token, "column": name, "mass": float(mass[row, n]), "word": _tip(found, n),
            "group": GROUPS[found.groups[n]], "over": _share(mass[row, n])[:-2] if mass[row, n] > top else "",
        }
        for name, n in zip(names, columns.tolist(), strict=True)
        for row, token in enumerate(said)
    ]  # fmt: skip
    order = alt.Scale(domain=names)  # said in every layer: merged of several, a domain loses its order
    x = alt.X(
        "column:N", scale=order, title=None,
        axis=alt.Axis(
            labelExpr="slice(datum.label, indexof(datum.label, '|') + 1)", labelAngle=-50, labelLimit=WORD,
            labelFontSize=10, labelPadding=3, labelOverlap=False, ticks=False, domain=False,
        ),
    )  # fmt: skip
    base = alt.Chart(inline(points)).encode(x=x, y=_y(said))
    cells = base.mark_rect(color=INK, stroke=LINE, strokeWidth=0.5).encode(
        fillOpacity=_shade(top),
        tooltip=[
            alt.Tooltip("token:N", title="Answer"), alt.Tooltip("word:N", title="Looks at"),
            alt.Tooltip("group:N", title="Group"), alt.Tooltip("mass:Q", title="Attention", format=".2%"),
        ],
    )  # fmt: skip
    over = base.mark_text(fontSize=9, color=PAPER).encode(text="over:N")
    runs = _runs(found, columns, names)
    above = alt.Chart(inline(runs))
    rules = above.mark_rule(color=FAINT, strokeWidth=1).encode(
        x=alt.X("from:N", scale=order, bandPosition=0.08), x2=alt.X2("to:N", bandPosition=0.92), y=alt.value(-5)
    )
    heads = [
        above.transform_filter(f"datum.level == {level}")
        .mark_text(align="left", baseline="bottom", fontSize=10, color=FAINT, dy=-12 * level)
        .encode(x=alt.X("from:N", scale=order, bandPosition=0.08), y=alt.value(-7), text="group:N")
        for level in range(LEVELS)
    ]
    chart = alt.layer(cells, over, rules, *heads).properties(width=STEP * len(columns), height=HIGH * len(said))
    return chart.properties(title=alt.Title(title, **_SMALL)) if title else chart


def _label(found: Heat, column: int) -> str:
    """What stands under a column."""
    count = int(found.tokens[column])
    if count == 1 or GROUPS[found.groups[column]] == "generated":
        return _cut(_word(found.words[column]), 14)
    return f"{count:,} tokens"


def _tip(found: Heat, column: int) -> str:
    count = int(found.tokens[column])
    return _word(found.words[column]) + (f" ({count:,} tokens)" if count > 1 else "")


def _runs(found: Heat, columns: NDArray[np.int64], names: Sequence[str]) -> list[Point]:
    """Neighbouring columns of one group: from which to which; names that would overlap are raised, or left out."""
    groups = found.groups[columns]
    edges = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(groups)]
    free = [0.0] * LEVELS  # px from which on a level is free
    out = []
    for first, end in pairwise(edges):
        name, at = GROUPS[groups[first]], STEP * first
        level = next((n for n in range(LEVELS) if free[n] <= at), LEVELS)
        if level < LEVELS and at + 6 * len(name) > STEP * LINE_OF + 6:
            level = LEVELS  # would stand out on the right; the next line says it
        if level < LEVELS:
            free[level] = at + 6 * len(name) + 4
        out.append({"group": name, "from": names[first], "to": names[end - 1], "level": level})
    return out


def _y(said: list[str]) -> Any:
    import altair as alt

    return alt.Y(
        "token:N", sort=said, title=None,
        axis=alt.Axis(ticks=False, domain=False, labelLimit=100, labelPadding=6, minExtent=60, maxExtent=110),
    )  # fmt: skip


def _shade(top: float) -> Any:
    import altair as alt

    return alt.FillOpacity("mass:Q", scale=alt.Scale(domain=[0, top], range=[0, 1], clamp=True), legend=None)


# --- picture and sound -------------------------------------------------------------------------------------------


def _spans(seconds: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """From when to when each token is drawn: those of one second lie side by side in it."""
    times, which, each = np.unique(seconds.astype(np.float64), return_inverse=True, return_counts=True)
    gap = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
    order = np.argsort(which, kind="stable")
    place = np.empty(len(which))
    place[order] = np.concatenate([np.arange(n) for n in each])
    begin = times[which] + gap * place / each[which]
    return begin, begin + gap / each[which]


def _cells(seconds: NDArray[np.float32], mass: Floats) -> tuple[Floats, Floats, Floats, int]:
    """Begin, end [C] and attention [R, C] of the cells drawn, and how many tokens one of them has at most."""
    begin, end = _spans(seconds)
    order = np.argsort(begin, kind="stable")
    begin, end, mass = begin[order], end[order], mass[:, order]
    room = max(1, min(int(ACROSS / CELL), CELLS // len(mass)))
    times, which, each = np.unique(seconds[order], return_inverse=True, return_counts=True)
    if len(begin) <= room:
        cell = np.arange(len(begin))
    elif len(times) <= room:  # whole tokens, and none across a second's border
        most = -(-int(each.max()) // max(1, room // len(times)))
        place = np.concatenate([np.arange(n) for n in each])
        cell = np.cumsum(np.diff(which * (1 + each.max()) + place // most, prepend=-1) != 0) - 1
    else:
        cell = which // -(-len(times) // room)
    summed = np.zeros((len(mass), cell[-1] + 1))
    np.add.at(summed.T, cell, mass.T)
    first = np.unique(cell, return_index=True)[1]
    last = np.append(first[1:], len(cell)) - 1
    return begin[first], end[last], summed, int(np.bincount(cell).max())


def _media(
    found: Heat, said: list[str], mass: Floats, name: str, end: float, *, bottom: bool
) -> tuple[Any, list[str]]:
    import altair as alt

    title, colour = MEDIUM[name]
    mine = found.groups == GROUPS.index(name)
    begins, ends, summed, most = _cells(found.seconds[mine], mass[:, mine])
    top = max(float(summed.max()), 1e-6)
    points = [
        {
            "token": token, "from": float(a), "to": float(b), "mass": float(summed[row, n]),
            "where": f"{a:.2f} – {b:.2f} s",
        }
        for n, (a, b) in enumerate(zip(begins, ends, strict=True))
        for row, token in enumerate(said)
    ]  # fmt: skip
    axis = alt.Axis(grid=False, tickCount=8, labels=bottom, ticks=bottom, domain=False)
    x = alt.X(
        "from:Q", title="seconds" if bottom else None, axis=axis, scale=alt.Scale(domain=[0, end], nice=False)
    )
    whole = float(mass[:, mine].sum(1).mean())
    shown = "a cell for each token" if most == 1 else f"cells of up to {most} tokens"
    cells = (
        alt.Chart(inline(points))
        .mark_rect(color=colour)
        .encode(
            x=x, x2="to:Q", y=_y(said), fillOpacity=_shade(top),
            tooltip=[
                alt.Tooltip("token:N", title="Answer"), alt.Tooltip("where:N", title="Looks at"),
                alt.Tooltip("mass:Q", title="Attention", format=".2%"),
            ],
        )
    )  # fmt: skip
    frame = [{"token": token, "from": 0.0, "to": end} for token in said]
    lines = alt.Chart(inline(frame)).mark_rect(fillOpacity=0, stroke=LINE, strokeWidth=0.5)
    chart = alt.layer(cells, lines.encode(x="from:Q", x2="to:Q", y=_y(said)))
    each = np.unique(found.seconds[mine], return_counts=True)[1]
    note = ["A picture's tokens lie side by side in their second, from top left."] if each.max() > 1 else []
    title = f"{title}: {_share(whole)} of the attention; darkest {_share(top)}; {shown}"
    return chart.properties(title=alt.Title(title, **_SMALL), width=ACROSS, height=HIGH * len(said)), note
