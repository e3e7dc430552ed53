"""Charts of a run: Altair -> Vega-Lite spec, and PNG and SVG files for papers.

Colours mean the same thing in every chart: one hue for what is SEEN, one for what is HEARD, grey for neither. Both
hues are told apart by people with any common colour blindness (Okabe and Ito's orange and blue, darkened until they
reach a contrast of 4.5 to 1 on white). In the page they are CSS variables, so that charts follow light and dark.

A chart whose data a run does not hold is left out. Every drawn share has its 95 % interval.

Functions: :func:`charts` all charts of a run, :func:`follow` the first of them; :func:`write` their files;
:func:`for_page` spec and SVG with the page's colours.
"""

from __future__ import annotations

import copy
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from earwitness.questions import plain
from earwitness.records import Estimate, Judged, Table
from earwitness.report.figures import PLAIN_STYLES, conflicts, named, natural, share
from earwitness.report.verdict import interval, percent
from earwitness.report.words import AXES, condition_name, style_name

# Hex -> CSS variable of the page. Each hex occurs for this purpose only: the page version swaps them as text.
SEEN, HEARD, OTHER, INK, FAINT, LINE, PAPER = (
    "#b8500a", "#0b6fb4", "#7d848c", "#22272e", "#59616a", "#d9dde1", "#fefefe",
)  # fmt: skip
PAGE = {
    SEEN: "var(--seen)", HEARD: "var(--heard)", OTHER: "var(--other)", INK: "var(--ink)", FAINT: "var(--faint)",
    LINE: "var(--line)", PAPER: "var(--paper)",
}  # fmt: skip
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
WIDTH = 560  # px of the drawing in files; in the page it is as wide as its box
PNG_SCALE = 2.0
MISTAKE = "rate of this mistake"
LABEL = 24  # characters a line of a row label: leaves room for the data on a phone
BAND = 1.7  # s: Thud draws its shifts from 1.8 to 2.5 s; its ladder ends at 1.6 (arXiv 2605.16403, 2.1)
PERCENT = "format(100 * datum.value, '.0f') + ' %'"


@dataclass(frozen=True)
class Chart:
    """A chart: what it shows in words, and its Vega-Lite spec."""

    id: str
    title: str
    caption: str
    spec: dict[str, Any]


def charts(judged: Sequence[Judged], tables: Sequence[Table]) -> list[Chart]:
    """The charts that this run has data for, in reading order."""
    makers: tuple[Callable[[], Chart | None], ...] = (
        lambda: follow(judged),
        lambda: _accuracy(judged),
        lambda: _axes(tables),
        lambda: _offsets(judged),
        lambda: _confuse(judged),
    )
    return [chart for make in makers if (chart := make()) is not None]


def write(found: Sequence[Chart], folder: Path) -> dict[str, str]:
    """Write every chart as Vega-Lite JSON, SVG and PNG into ``folder``; returns chart id -> SVG text."""
    import vl_convert  # half a second to load: only where charts are drawn

    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for chart in found:
        text = json.dumps(chart.spec)
        drawn[chart.id] = vl_convert.vegalite_to_svg(text)
        (folder / f"{chart.id}.vl.json").write_text(json.dumps(chart.spec, indent=1), encoding="utf-8")
        (folder / f"{chart.id}.svg").write_text(drawn[chart.id], encoding="utf-8")
        (folder / f"{chart.id}.png").write_bytes(vl_convert.svg_to_png(on_paper(drawn[chart.id]), scale=PNG_SCALE))
    return drawn


def on_paper(svg: str) -> str:
    """A drawn SVG with paper behind it, as Vega draws one: on nothing, see-through marks come out wrong in a PNG.

    Vega is thus asked for each chart once; a PNG of this is the PNG it would make, byte for byte.
    """
    width, height = (re.search(rf'^<svg [^>]*?\b{side}="([^"]+)"', svg) for side in ("width", "height"))
    assert width is not None
    assert height is not None
    paper = f'<rect width="{width[1]}" height="{height[1]}" fill="{PAPER}"/>'
    return svg.replace(">", ">" + paper, 1)


def for_page(text: str) -> str:
    """A spec or SVG as text, with the page's colours in place of the printed ones."""
    for colour, variable in PAGE.items():
        text = text.replace(colour, variable)
    return text


@cache
def runtime() -> str:
    """Vega, Vega-Lite and vega-embed as one script, from the installed vl-convert: nothing is fetched."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")


Point = dict[str, Any]


def inline(points: Iterable[Point]) -> Any:
    """Points as a chart's data. In a tuple: Altair copies a list point by point whenever it copies its chart."""
    import altair as alt

    return alt.Data(values=tuple(points))


def _point(e: Estimate, **more: Any) -> Point:
    return {
        "value": e.value, "low": e.low, "high": e.high, "shown": f"{percent(e.value)}", "interval": interval(e),
        "answers": e.n, "clips": e.clusters, **more,
    }  # fmt: skip


def _sides(points: list[Point], series: str, order: list[str], colours: dict[str, str], *, bars: bool) -> Any:
    """Rows of shares with intervals: one row per ``row``, in it one mark per ``series``."""
    import altair as alt

    points = [{**p, "row": "|".join(textwrap.wrap(p["row"], LABEL))} for p in points]
    data = inline(points)
    rows = list(dict.fromkeys(p["row"] for p in points))
    single = len(order) == 1
    inner, beside = 0.35 if single else 0.28, 0.15
    y = alt.Y(
        "row:N", sort=rows, title=None,
        axis=alt.Axis(labelLimit=230, labelExpr="split(datum.label, '|')", labelLineHeight=13, ticks=False,
            domain=False, labelPadding=10),
        scale=alt.Scale(paddingInner=inner, paddingOuter=0.15),
    )  # fmt: skip
    offset = (
        {} if single else {"yOffset": alt.YOffset(f"{series}:N", sort=order, scale=alt.Scale(paddingInner=beside))}
    )
    colour = alt.Color(
        f"{series}:N", sort=order, scale=alt.Scale(domain=order, range=[colours[s] for s in order]),
        legend=None if single else alt.Legend(title=None, orient="top", symbolType="circle", labelLimit=400),
    )  # fmt: skip
    x = alt.X(
        "value:Q", title=None, scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(labelExpr=PERCENT, values=[0, 0.25, 0.5, 0.75, 1], grid=True, domain=False, ticks=False),
    )  # fmt: skip
    tip = [
        alt.Tooltip("row:N", title="Row"), alt.Tooltip(f"{series}:N", title="What"),
        alt.Tooltip("shown:N", title="Share"), alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("answers:Q", title="Answers"), alt.Tooltip("clips:Q", title="Independent clips"),
    ]  # fmt: skip
    base = alt.Chart(data).encode(y=y, **offset)
    mark = (
        base.mark_bar(opacity=0.85, cornerRadiusEnd=2).encode(x=x, color=colour, tooltip=tip)
        if bars
        else base.mark_point(filled=True, size=75, opacity=1).encode(x=x, color=colour, tooltip=tip)
    )
    rule = base.mark_rule(strokeWidth=1.6, color=INK if bars else OTHER).encode(
        x=alt.X("low:Q"), x2="high:Q", **({} if bars else {"color": colour}), tooltip=tip
    )
    words = base.mark_text(align="left", dx=8, color=FAINT, fontSize=11).encode(
        x=alt.value("width"), text=alt.Text("shown:N")
    )
    layers = [rule, mark, words] if not bars else [mark, rule, words]
    if any(p.get("chance") is not None for p in points):
        # In every layer the same offset: without it Vega-Lite gives the layer another scale, and rows go astray.
        chance = base.mark_tick(thickness=2, color=INK, opacity=0.5, size=15).encode(
            x=alt.X("chance:Q"), tooltip=[alt.Tooltip("chance:Q", format=".0%", title="Chance")]
        )
        layers.insert(0, chance)
    marks = len({p[series] for p in points})
    step = (34 if any("|" in row for row in rows) else 26) if single else 17 * (marks - beside) / (1 - inner)
    return alt.layer(*layers).properties(width=WIDTH, height=high(len(rows), step, inner, 0.15), padding=_PADDING)


def high(rows: int, step: float, inner: float = 0.0, outer: float = 0.0) -> float:
    """Pixels that rows take, ``step`` apart, with these paddings of their scale (shares of a step).

    As Vega-Lite reckons it of a step; but a chart whose height is a step it does not fit to its box's width without
    a warning in the page.
    """
    return step * (rows - inner + 2 * outer)


_PADDING = {"left": 4, "top": 4, "bottom": 4, "right": 64}


def styled(chart: Any) -> dict[str, Any]:
    """Vega-Lite of a chart in the house's style."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    return {**spec, "config": copy.deepcopy(_style())}


@cache
def _style() -> dict[str, Any]:
    """The house's style, made once and aside: each ``configure`` of a chart copies all of it, layer by layer."""
    import altair as alt

    spec: dict[str, Any] = (
        alt.Chart().mark_point().configure(background="transparent", font=FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK, titleColor=FAINT, gridColor=LINE, labelFontSize=12, titleFontSize=12,
            titleFontWeight=400, tickColor=LINE, domainColor=LINE, labelFont=FONT, titleFont=FONT,
        )
        .configure_axisX(labelColor=FAINT, labelFontSize=11)
        .configure_legend(labelColor=INK, labelFontSize=12, labelFont=FONT, symbolSize=80, padding=0, offset=12)
        .to_dict(validate=False)
    )  # fmt: skip
    config: dict[str, Any] = spec["config"]
    return config


def follow(judged: Sequence[Judged]) -> Chart | None:
    """Whom the answers follow where picture and sound disagree; None where nothing asks that."""
    order = ["follows the picture", "follows the sound", "neither"]
    points: list[Point] = []
    for question, row in (("audio", "Asked what it hears"), ("visual", "Asked what it sees")):
        chosen = conflicts(judged, question)
        for who, series in zip(("picture", "sound", "other"), order, strict=True):
            e, _ = share(chosen, lambda j, who=who: named(j) == who)  # type: ignore[misc]
            if e is not None:
                points.append(_point(e, row=row, series=series))
    if not points:
        return None
    colours = dict(zip(order, (SEEN, HEARD, OTHER), strict=True))
    return Chart(
        "follow", "Whom does it believe when picture and sound disagree?",
        "The sound of each clip was replaced by that of a clip of another class. A model that listens follows the "
        "sound when asked what it hears, and the picture when asked what it sees. Lines are 95 % intervals.",
        styled(_sides(points, "series", order, colours, bars=True)),
    )  # fmt: skip


def _accuracy(judged: Sequence[Judged]) -> Chart | None:
    order = ["asked what it sees", "asked what it hears"]
    questions = {"visual": order[0], "audio": order[1]}
    groups: dict[tuple[str, str, str], list[Judged]] = {}
    for j in judged:
        item = j.item
        if item.question in questions and len(item.choices) > 2 and item.target is not None:
            groups.setdefault((item.style, item.condition, questions[item.question]), []).append(j)
    styles = {style for style, _, _ in groups}
    points: list[Point] = []
    for (style, condition, series), chosen in groups.items():
        if style not in PLAIN_STYLES and styles & set(PLAIN_STYLES):
            continue
        e, _ = share(chosen, lambda j: j.score.correct is True)
        sizes = {len(j.item.choices) for j in chosen}
        if e is not None:
            chance = 1 / sizes.pop() if len(sizes) == 1 else None
            points.append(_point(e, row=condition_name(condition), series=series, chance=chance))
    if not points:
        return None
    points.sort(key=lambda p: order.index(p["series"]))
    rows = list(dict.fromkeys(condition_name(c) for _, c, _ in groups))
    points.sort(key=lambda p: rows.index(p["row"]))
    return Chart(
        "accuracy", "How often is it right, under each condition?",
        "Share of right answers with 95 % intervals. The short upright mark is chance: one option drawn blindly. A "
        "model that listens keeps both dots far to the right wherever the evidence asked about is still there.",
        styled(_sides(points, "series", order, {order[0]: SEEN, order[1]: HEARD}, bars=False)),
    )  # fmt: skip


def _axes(tables: Sequence[Table]) -> Chart | None:
    """The eight failure axes, read from whichever table has them (as rows, or as columns)."""
    points: list[Point] = []
    for table in tables:
        found = _axis_cells(table)
        if len(found) >= 3:
            points = [_point(e, row=AXES[key][1], series=MISTAKE) for key, e in found.items()]
            break
    if not points:
        return None
    order = [words for _, words in AXES.values()]
    points.sort(key=lambda p: order.index(p["row"]))
    return Chart(
        "axes", "Eight ways not to listen",
        "Thud's failure axes in plain words: each is a rate of one mistake, so shorter is better. False alarms on "
        "untouched clips stand beside the misses: a model that cries wolf at every clip has not listened either.",
        styled(_sides(points, "series", [MISTAKE], {MISTAKE: OTHER}, bars=True)),
    )  # fmt: skip


def _axis_cells(table: Table) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for row in table.rows:
        if row.kind != "model":
            continue
        key = _axis_key(row.label)
        cell = next((c for c in row.cells if isinstance(c, Estimate)), None)
        if key and cell is not None:
            found.setdefault(key, cell)
        for column, value in zip(table.columns, row.cells, strict=False):
            key = _axis_key(column)
            if key and isinstance(value, Estimate):
                found.setdefault(key, value)
    return found


def _axis_key(label: str) -> str | None:
    bare = "".join(c for c in label.lower() if c.isalpha())
    return bare if bare in AXES else None


def _offsets(judged: Sequence[Judged]) -> Chart | None:
    import altair as alt

    bins: dict[float, list[Judged]] = {}
    for j in judged:
        item = j.item
        if item.question == "shift" and item.style in PLAIN_STYLES and natural(item, "shift"):
            # Shifts drawn from a band are one point, at their mean (BAND stands for it); a ladder's steps are too.
            size = BAND if abs(item.offset) > BAND else round(abs(item.offset), 1)
            bins.setdefault(size if item.offset >= 0 else -size, []).append(j)
    order = ["says “in sync”", "is right"]
    points: list[Point] = []
    for key, chosen in sorted(bins.items()):
        at = sum(j.item.offset for j in chosen) / len(chosen)
        for series, hit in (
            (order[0], lambda j: j.score.label == "SYNC"),
            (order[1], lambda j: j.score.correct is True),
        ):
            e, _ = share(chosen, hit)
            if e is not None:
                about = "about " if abs(key) == BAND else ""
                row = f"sound {about}{abs(at):.1f} s {'late' if at > 0 else 'early'}" if at else "no shift"
                points.append(_point(e, at=at, series=series, row=row))
    if len({p["at"] for p in points}) < 2:
        return None
    span = max(abs(p["at"]) for p in points) * 1.08
    base = alt.Chart(inline(points))
    x = alt.X(
        "at:Q", title="←  sound early   ·   seconds   ·   sound late  →", scale=alt.Scale(domain=[-span, span]),
        axis=alt.Axis(grid=False, tickCount=7, labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.1f')"),
    )  # fmt: skip
    y = alt.Y(
        "value:Q", title=None, scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(labelExpr=PERCENT, values=[0, 0.25, 0.5, 0.75, 1], domain=False, ticks=False),
    )  # fmt: skip
    colour = alt.Color(
        "series:N", sort=order, scale=alt.Scale(domain=order, range=[SEEN, HEARD]),
        legend=alt.Legend(title=None, orient="top", symbolType="circle", symbolOpacity=1),
    )  # fmt: skip
    tip = [
        alt.Tooltip("row:N", title="Offset"), alt.Tooltip("series:N", title="What"),
        alt.Tooltip("shown:N", title="Share"), alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("answers:Q", title="Answers"),
    ]  # fmt: skip
    chart = alt.layer(
        base.mark_line(strokeWidth=1.5, opacity=0.5).encode(x=x, y=y, color=colour),
        base.mark_rule(strokeWidth=1.6).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour, tooltip=tip),
        base.mark_point(filled=True, size=75, opacity=1).encode(x=x, y=y, color=colour, tooltip=tip),
    ).properties(width=WIDTH, height=230, padding={"left": 4, "top": 4, "bottom": 4, "right": 12})
    return Chart(
        "offsets", "From which offset on does it notice that the sound is shifted?",
        "Share of answers at each offset of the sound, with 95 % intervals. A listener calls only the middle “in "
        "sync” and names the direction everywhere else; a flat orange line is a model that says “in sync” whatever "
        "it hears.",
        styled(chart),
    )  # fmt: skip


def _confuse(judged: Sequence[Judged]) -> Chart | None:
    order = ["hears what sounds", "notices what is gone"]
    groups: dict[str, tuple[list[Judged], list[Judged]]] = {}
    for j in judged:
        if j.item.question == "muted" and j.item.target is not None:
            yes, no = groups.setdefault(j.item.style, ([], []))
            {"yes": yes, "no": no}.get(plain(j.item.target), []).append(j)
    points: list[Point] = []
    for style, chosen in groups.items():
        for series, answers in zip(order, chosen, strict=True):
            e, _ = share(answers, lambda j: j.score.correct is True)
            if e is not None:
                points.append(_point(e, row=style_name(style), series=series, chance=0.5))
    if not points:
        return None
    return Chart(
        "confuse", "Can it tell which of several instruments is silent?",
        "Share of right answers to “is there a … sound?”, apart for things that sound (yes is right) and things "
        "whose sound was taken out (no is right). Saying yes to all gives 100 % and 0 %. The short mark is a coin.",
        styled(_sides(points, "series", order, {order[0]: HEARD, order[1]: SEEN}, bars=False)),
    )  # fmt: skip
