"""Charts of a traced run: what its layers and heads look at, and when they decide.

Lines by layer carry their 95 % bands. Strengths are drawn as opacity of one hue, never as a mixture of two, so that
the page can put its own colours in; orange stays what is seen and blue what is heard, grey is text.

Functions: :func:`charts` of one trace, :func:`change_charts` of two. Heat maps: :mod:`.heat`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from earwitness.records import how_many
from earwitness.report.charts import FAINT, HEARD, INK, LINE, OTHER, SEEN, WIDTH, Chart, inline, styled
from earwitness.report.heat import chosen, heat
from earwitness.report.words import condition_name
from earwitness.stats import effects, many
from earwitness.stats.effects import Band
from earwitness.stats.paired import FEWEST
from earwitness.whitebox import effects as inner
from earwitness.whitebox import tables
from earwitness.whitebox.effects import What
from earwitness.whitebox.joined import Inside, common, keys
from earwitness.whitebox.moments import GROUPS

Point = dict[str, Any]
# Text from dark (where attention goes to rest) to light (what was asked), the media in their own hues.
GROUP_COLOURS = {
    "sink": "#3b4149", "template": "#5c636b", "instruction": "#838a92", "caption": "#999fa6", "options": "#abb0b6",
    "marker": "#c3c7cc", "generated": "#e3e5e8", "video": SEEN, "audio": HEARD,
}  # fmt: skip
ASKED = {"visual": "asked what it sees", "audio": "asked what it hears"}
AWAY = "#8d4fb0"  # neither seen nor heard: a head that moves the wrong way
MEASURED = (
    "Cohen's d of log(attention on video / attention on audio), asked about the picture against asked about the "
    "sound, from the prompt's last row. Above 0, attention moves to what is asked about."
)
PARTING = (
    "Clips with another clip's sound: log p of the option seen minus that of the option heard (first tokens), as "
    "each layer would answer."
)
# Least height of a chart of d either way: Cohen's "large". A null drawn as high as its noise looks like a find.
LARGE = 0.8
NATS = 1.0  # the same for a gap between options: the likelier one has e times the probability
HIGH = 0.75  # of u_top10: what arXiv 2511.10059 takes as "unsure" (from MemVR, arXiv 2410.03577)


def charts(inside: Inside) -> list[Chart]:
    """The charts that the trace has data for, in reading order."""
    makers: tuple[Callable[[], Chart | None], ...] = (
        lambda: _moves(inside),
        lambda: _heads(inside),
        lambda: _groups(inside),
        lambda: _parting(inside),
        lambda: _uncertainty(inside),
    )
    found = [chart for make in makers if (chart := make()) is not None]
    return [*found, *(heat(inside, *key) for key in chosen(inside))]


def change_charts(before: Inside, after: Inside, names: tuple[str, str] = ("before", "after")) -> list[Chart]:
    """d by layer in two traced runs, for the aligned and the misaligned clips that both have; and the conflict.

    Raises ValueError where the runs share no item or their models differ in layers or heads.
    """
    sides = common(before, after)
    found: list[Chart] = []
    for what in inner.conditions(sides[0]):
        if what[1] not in (tables.ALIGNED, tables.CONFLICT):
            continue
        bands = [_d(side, what) for side in sides]
        if bands[0] is not None and bands[1] is not None:
            found.append(
                Chart(
                    f"trace-change-{what[1]}-{what[2]}",
                    f"Does attention move with the question? {names[0]} and {names[1]}, {_where(what)}",
                    f"{MEASURED} Bands are 95 % intervals over the clips that both runs have. The axis goes to "
                    f"{LARGE} either way at least, which is called a large effect.",
                    styled(_lines({names[0]: bands[0], names[1]: bands[1]}, "Cohen's d", least=LARGE)),
                )
            )
    return [*found, *_parting_changes(sides, names)]


def _parting_changes(sides: tuple[Inside, Inside], names: tuple[str, str]) -> Iterator[Chart]:
    parted = [{one.key: one for one in inner.parting(side)} for side in sides]
    for key, one in parted[0].items():
        other = parted[1].get(key)
        if other is not None and key.condition == tables.CONFLICT and key.question in ASKED:
            more = "" if key.style == "standard" else f" ({key.style})"
            yield Chart(
                f"trace-parting-change-{key.question}-{key.style}",
                f"Where the seen and the heard option part, {ASKED[key.question]}{more}: {names[0]} and {names[1]}",
                f"{PARTING} Above 0 the picture leads, below 0 the sound. Bands are 95 % intervals over the clips "
                "that both runs have.",
                styled(_lines({names[0]: one.gap, names[1]: other.gap}, "nats, seen - heard", least=NATS)),
            )


def _where(what: What) -> str:
    return condition_name(what[1]) + ("" if what[2] == "standard" else f" ({what[2]})")


def _d(inside: Inside, what: What) -> Band | None:
    sums = inner.moves(inside, what)
    found = None if sums is None else effects.effect(sums)
    return None if found is None else found.d


def _lines(
    series: dict[str, Band], title: str, *, colours: Sequence[str] = (INK, OTHER), level: float = 0.0,
    domain: Sequence[float] | None = None, least: float | None = None,
) -> Any:  # fmt: skip
    """A line with its band for each series over the layers, and a rule at ``level``.

    ``least``: how far the axis goes at least, either side of 0.
    """
    import altair as alt

    assert len(series) <= len(LINES)
    points = [
        {"layer": n, "series": name, "line": line, "value": float(v), "low": float(lo), "high": float(hi)}
        for line, (name, band) in zip(LINES, series.items(), strict=False)
        for n, (v, lo, hi) in enumerate(zip(band.value, band.low, band.high, strict=True))
        if np.isfinite((v, lo, hi)).all()
    ]
    order = list(series)
    base = alt.Chart(inline(points))
    if least is not None and points:
        ends = np.array([[p["low"], p["high"]] for p in points], dtype=np.float64)
        domain = (min(-least, float(ends.min())), max(least, float(ends.max())))
    x = alt.X("layer:Q", title="layer", axis=alt.Axis(grid=False, tickMinStep=1, format="d"))
    scale = alt.Scale(domain=list(domain)) if domain else alt.Scale(zero=False)
    y = alt.Y("value:Q", title=title, scale=scale, axis=alt.Axis(domain=False, ticks=False, tickCount=5))
    colour = alt.Color(
        "series:N", sort=order, scale=alt.Scale(domain=order, range=list(colours)),
        legend=None if len(order) == 1 else alt.Legend(
            title=None, orient="top", symbolType="circle", symbolOpacity=1, labelLimit=400
        ),
    )  # fmt: skip
    # The first line is the wider one: where two run together both are seen. By a field of its own: of one field
    # there is one legend, and it cannot be there for the colour and not for the width.
    width = alt.StrokeWidth("line:O", scale=alt.Scale(domain=LINES, range=[3.2, 1.6]), legend=None)
    tip = [
        alt.Tooltip("layer:Q", title="Layer"), alt.Tooltip("series:N", title="What"),
        alt.Tooltip("value:Q", title="Value", format=".3f"), alt.Tooltip("low:Q", title="From", format=".3f"),
        alt.Tooltip("high:Q", title="To", format=".3f"),
    ]  # fmt: skip
    rule = alt.Chart(inline([{"level": level}])).mark_rule(color=FAINT, strokeDash=[3, 3])
    return alt.layer(
        rule.encode(y=alt.Y("level:Q")),
        base.mark_area(opacity=0.18).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour),
        base.mark_line().encode(x=x, y=y, color=colour, strokeWidth=width),
        base.mark_point(filled=True, size=40, opacity=1).encode(x=x, y=y, color=colour, tooltip=tip),
    ).properties(width=WIDTH, height=230, padding={"left": 4, "top": 4, "bottom": 4, "right": 12})


def _moves(inside: Inside) -> Chart | None:
    found = inner.conditions(inside)
    for protocol, condition, style in found:
        if condition != tables.ALIGNED:
            continue
        series = {
            name: band
            for name, what in (("aligned", condition), ("misaligned", tables.CONFLICT))
            if (band := _d(inside, (protocol, what, style))) is not None
        }
        if series:
            return Chart(
                "trace-moves",
                "Does attention move with the question?",
                f"{MEASURED} At 0 it lies where it lies, whatever is asked. Misaligned: the sound is another "
                f"clip's. Bands are 95 % intervals over clips, for each layer by itself. The axis goes to {LARGE} "
                "either way at least, which is called a large effect.",
                styled(_lines(series, "Cohen's d", least=LARGE)),
            )
    return None


LINES = ("wide", "narrow")  # of a chart's two series
_QUIET: dict[str, Any] = {"labelOverlap": True, "ticks": False, "domain": False}


def _heads(inside: Inside) -> Chart | None:
    import altair as alt

    what = next((w for w in inner.conditions(inside) if w[1] == tables.ALIGNED), None)
    sums = None if what is None else inner.moves(inside, what, heads=True)
    found = None if sums is None else effects.effect(sums)
    if sums is None or found is None:
        return None
    sure = many.max_t(sums.shifts) if found.clusters >= FEWEST else np.ones(sums.cells)
    enough = inner.matters(found.shift)
    points = [
        {
            "layer": layer, "head": head, "d": float(d), "size": abs(float(d)), "p": float(sure[layer, head]),
            "moves": bool(sure[layer, head] <= tables.LEVEL and enough[layer, head]),
            "factor": float(np.exp(found.shift.value[layer, head])),
            "towards": "to what is asked about" if d > 0 else "away from it",
            "interval": f"[{found.d.low[layer, head]:.2f}, {found.d.high[layer, head]:.2f}]",
        }
        for (layer, head), d in np.ndenumerate(found.d.value)
        if np.isfinite(d)
    ]  # fmt: skip
    if not points:
        return None
    most = max(p["size"] for p in points)
    top = max(LARGE, most)
    order = ["to what is asked about", "away from it"]
    base = alt.Chart(inline(points)).encode(
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, **_QUIET)),
        y=alt.Y("head:O", title="head", axis=alt.Axis(**_QUIET)),
        tooltip=[
            alt.Tooltip("layer:O", title="Layer"), alt.Tooltip("head:O", title="Head"),
            alt.Tooltip("d:Q", title="Cohen's d", format=".2f"), alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("factor:Q", title="Video / audio changes by a factor of", format=".3~g"),
            alt.Tooltip("p:Q", title="p over all heads", format=".3f"),
        ],
    )  # fmt: skip
    cells = base.mark_rect(stroke=LINE, strokeWidth=0.5).encode(
        color=alt.Color(
            "towards:N", sort=order, scale=alt.Scale(domain=order, range=[INK, AWAY]),
            legend=alt.Legend(title=None, orient="top", symbolType="square"),
        ),
        opacity=alt.Opacity("size:Q", scale=alt.Scale(domain=[0, top], range=[0.03, 1]), legend=None),
    )  # fmt: skip
    dots = base.mark_point(filled=True, size=14, color="#ffffff", stroke=INK, strokeWidth=0.8, opacity=1)
    layers, heads = sums.cells
    chart = alt.layer(cells, dots.transform_filter("datum.moves")).properties(
        width=WIDTH, height=max(90, min(22, 420 // heads) * heads)
    )
    return Chart(
        "trace-heads",
        "Which heads move with the question?",
        f"Cohen's d for each of {layers * heads} heads, aligned clips; the stronger the colour, the larger: full "
        f"colour is {top:.1f}, the largest here {most:.2f}. A dot: more than chance, with at most 5 % risk that "
        "any dot is wrong (largest |t| of sign-flipped clips), and enough to matter (the ratio of video to audio "
        "changes by more than a tenth, interval and all).",
        styled(chart),
    )


_SMALL: dict[str, Any] = {"fontSize": 12, "fontWeight": 400, "color": INK}


def _groups(inside: Inside) -> Chart | None:
    import altair as alt

    found = {
        key.question: places
        for key, places in keys(inside).items()
        if key.condition == tables.ALIGNED and key.style == "standard" and key.question in ASKED
    }
    if not found:
        return None
    used = [n for n, name in enumerate(GROUPS) if inside.trace.count[:, n].any() and name != "generated"]
    order = [GROUPS[n] for n in used]
    panels = []
    for question, places in found.items():
        mass = inner.layer_shares(inside, places)
        points = [
            {"layer": layer, "group": GROUPS[n], "share": float(mass[layer, n]), "rank": order.index(GROUPS[n])}
            for layer in range(len(mass))
            for n in used
        ]
        y = alt.Y(
            "share:Q", title=None, stack="zero", scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format=".0%", values=[0, 0.25, 0.5, 0.75, 1], domain=False, ticks=False),
        )  # fmt: skip
        colours = [GROUP_COLOURS[name] for name in order]
        panels.append(
            alt.Chart(inline(points), title=alt.Title(ASKED[question], **_SMALL))
            .mark_bar(stroke=None)
            .encode(
                x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False)),
                y=y,
                color=alt.Color(
                    "group:N", sort=order, scale=alt.Scale(domain=order, range=colours),
                    legend=alt.Legend(title=None, orient="top", symbolType="square", columns=len(order)),
                ),
                order=alt.Order("rank:Q"),
                tooltip=[
                    alt.Tooltip("layer:O", title="Layer"), alt.Tooltip("group:N", title="Group"),
                    alt.Tooltip("share:Q", title="Share", format=".1%"),
                ],
            )
            .properties(width=(WIDTH - 60) // len(found), height=210)
        )  # fmt: skip
    return Chart(
        "trace-groups",
        "Where does attention lie?",
        "Share of the attention of the prompt's last row by group of tokens, mean over heads and aligned clips. "
        "What is often called text is here apart: the first token (sink), the system turn (template), the "
        "question, its options. Shares say where attention lies, not what the answer depends on.",
        styled(alt.hconcat(*panels)),
    )


def _parting(inside: Inside) -> Chart | None:
    found = {
        ASKED[one.key.question]: one
        for one in inner.parting(inside)
        if one.key.question in ASKED and one.key.style == "standard"
    }
    if not found:
        return None
    order = [name for name in ASKED.values() if name in found]
    settled = [(name, found[name].settled) for name in order]
    words = "; ".join(f"{name}: layer {e.value:.0f} [{e.low:.0f}, {e.high:.0f}]" for name, e in settled)
    colours = [SEEN if name == ASKED["visual"] else HEARD for name in order]
    return Chart(
        "trace-parting",
        "At which layer does the conflict fall?",
        f"{PARTING} Above 0 the picture leads, below 0 the sound. Bands are 95 % intervals over clips. Settled "
        f"from ({words}).",
        styled(
            _lines({name: found[name].gap for name in order}, "nats, seen - heard", colours=colours, least=NATS)
        ),
    )


def _uncertainty(inside: Inside) -> Chart | None:
    found = [one for one in inner.uncertainty(inside) if one.key.question != "visual"]
    if not found:
        return None
    most = max(found, key=lambda one: (one.key.style in ("standard", "neutral"), one.n))
    top = max(0.8, *(float(np.nanmax(band.high)) for band in (most.original, most.tampered)))
    return Chart(
        "trace-uncertainty",
        "Is the model less sure when the sound is tampered with?",
        "Entropy of the ten likeliest tokens, as each layer would answer, mean over the answer's tokens: 0 is "
        f"sure, 1 all ten alike. {how_many(most.n, 'question')} on {how_many(most.clusters, 'independent clip')} "
        f"({condition_name(most.key.condition)}), and the same on the untouched clips. The broken line at 0.75 is "
        "what published work takes as unsure. Bands are 95 % intervals over clips.",
        styled(
            _lines(
                {"untouched": most.original, "sound tampered with": most.tampered}, "entropy, top ten", level=HIGH,
                domain=(0, min(top, 1.0)),
            )
        ),
    )  # fmt: skip
