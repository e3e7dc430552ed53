"""The page of a set of clips: its dataset card, drawn (:mod:`earwitness.curate.card` says what is on it).

Functions: :func:`build` SET/card.html, card.md and the charts; :func:`charts` the charts of a card.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from earwitness import __version__
from earwitness.audit.workers import Executor
from earwitness.curate.card import PLACE, Card, read
from earwitness.curate.card_tables import funnel_table
from earwitness.curate.card_text import TITLES, markdown
from earwitness.curate.checks.outcome import Rung, spoken
from earwitness.curate.jobs import Stage
from earwitness.records import Table
from earwitness.report import cells, layout
from earwitness.report import charts as drawing
from earwitness.report.charts import FAINT, HEARD, INK, OTHER, SEEN, WIDTH, Chart, high, inline, styled

NUMBER = re.compile(r"[\d.,\u2212]+(?: %)?")
MOST = 70  # classes that the chart draws
PADDING = (0.3, 0.15)  # of a row, within and around, in shares of its step
LABEL = 32  # characters a line of a step's name
BINS = 24  # columns of a histogram, at most


def build(
    place: str | Path,
    *,
    measure: bool = True,
    workers: int = 1,
    executor: Executor = "process",
    stage: Stage | None = None,
) -> Path:
    """Write ``card.html``, ``card.md`` and ``card/`` (charts) into a set's folder; returns the page's path.

    The page is one file: its charts are in it, and their PNG, SVG and Vega-Lite beside it. Arguments and errors are
    those of :func:`earwitness.curate.card.read`.
    """
    card = read(place, measure=measure, workers=workers, executor=executor, stage=stage)
    found = charts(card)
    home = card.folder / PLACE
    pictures = drawing.write(found, home)
    shown = {c["id"]: c for c in layout.figures(found, pictures, home, embed=True)}
    page = layout.fill(
        "dataset.html",
        drawn=bool(found),
        card=card,
        charts=shown,
        funnel=_grid(funnel_table(card.funnel)) if card.funnel else None,
        grids={key: [_grid(t) for t in some] for key, some in card.sections.items()},
        titles=TITLES,
        version=__version__,
        sections=_sections(card),
    )
    picture = f"{PLACE}/funnel.svg" if "funnel" in shown else ""
    part = card.folder / "card.md.tmp"
    part.write_text(markdown(card, picture), encoding="utf-8")
    part.replace(card.folder / "card.md")
    return layout.write(page, card.folder / "card.html")


def _grid(table: Table) -> cells.Grid:
    """A table whose numbers that are written out already stand to the right as well."""
    found = cells.grid(table)
    lines = tuple(
        replace(
            line, cells=tuple(replace(c, number=c.number or bool(NUMBER.fullmatch(c.text))) for c in line.cells)
        )
        for line in found.lines
    )
    return replace(found, lines=lines)


def funnel_of(rungs: Sequence[Rung]) -> list[Table]:
    """A check's funnel as the command line shows it."""
    return [funnel_table([msgspec.structs.replace(r, name=spoken(r.name)) for r in rungs])]


def _sections(card: Card) -> list[tuple[str, str]]:
    there = card.sections
    return [
        ("limits", "Known limits"),
        *([("funnel", "Funnel")] if card.funnel else []),
        *([("checks", "Checks")] if there.get("checks") else []),
        *([("agreement", "Agreement")] if there.get("agreement") else []),
        *([("classes", "Classes")] if card.clips else []),
        *([("contents", "Contents")] if there.get("contents") else []),
        *([("origin", "Splits and licences")] if there.get("origin") else []),
        *([("lint", "Lint")] if there.get("lint") else []),
        ("again", "How it was made"),
    ]


def charts(card: Card) -> list[Chart]:
    """The charts that the card has data for, in reading order."""
    seconds = [m.seconds for m in card.measured.values()]
    lufs = [m.lufs for m in card.measured.values() if m.lufs is not None]
    found = [
        _funnel(card), _classes(card),
        _histogram("seconds", "How long are the clips?", "Length of each clip as decoded.", seconds, "s"),
        _histogram(
            "loudness", "How loud are they?",
            "Integrated loudness, LUFS. A set whose classes differ much here can be told apart by loudness alone.",
            lufs, "LUFS",
        ),
    ]  # fmt: skip
    return [c for c in found if c is not None]


def _funnel(card: Card) -> Chart | None:
    import altair as alt

    if len(card.funnel) < 2:
        return None
    first = max(r.left for r in card.funnel) or 1
    points: list[dict[str, Any]] = []
    for rung in _folded(card.funnel):
        gone = rung.untold if rung.name.startswith("told") else rung.failed
        points.append(
            {
                "step": rung.name, "value": rung.left, "end": rung.left + gone, "gone": gone,
                "label": f"{rung.left:,}" + (f"  −{gone:,}" if gone else ""), "share": f"{rung.left / first:.1%}",
                "untold": rung.untold,
            }
        )  # fmt: skip
    points = _apart(points)
    base = alt.Chart(inline(points)).encode(y=_rows([p["step"] for p in points]))
    x = alt.X("value:Q", title=None, scale=alt.Scale(domain=[0, first]), axis=None)
    tip = [
        alt.Tooltip("step:N", title="Step"), alt.Tooltip("value:Q", title="Left", format=","),
        alt.Tooltip("share:N", title="Of all"), alt.Tooltip("gone:Q", title="Taken away here", format=","),
        alt.Tooltip("untold:Q", title="Not told here", format=","),
    ]  # fmt: skip
    lines = max(p["step"].count("|") + 1 for p in points)
    chart = alt.layer(
        base.mark_bar(color=OTHER, opacity=0.28).encode(
            x=alt.X("value:Q", scale=alt.Scale(domain=[0, first]), axis=None), x2="end:Q", tooltip=tip
        ),
        base.mark_bar(color=INK, opacity=0.82, cornerRadiusEnd=2).encode(x=x, tooltip=tip),
        base.mark_text(align="left", dx=6, color=FAINT, fontSize=12).encode(
            x=alt.X("end:Q", scale=alt.Scale(domain=[0, first]), axis=None), text="label:N"
        ),
    ).properties(
        width=WIDTH, height=high(len(points), max(26, 8 + 13 * lines), *PADDING),
        padding={"left": 4, "top": 4, "bottom": 4, "right": 92},
    )  # fmt: skip
    return Chart(
        "funnel", "How many clips each step left",
        "Dark: clips that go on. Light: those that this step takes away. Clips of which a judge could not tell go "
        "on to the end, and leave there unless people pass them.",
        styled(chart),
    )  # fmt: skip


def _folded(rungs: Sequence[Rung]) -> list[Rung]:
    """The funnel without gates that dropped nothing, several in a row as one; the table has all of them."""
    out: list[Rung] = []
    for idle, some in groupby(rungs, key=lambda r: r.by.startswith("gates") and not r.failed):
        mine = list(some)
        if idle and len(mine) > 2:
            mine = [msgspec.structs.replace(mine[-1], name=f"{len(mine)} gates that dropped none", untold=0)]
        out += mine
    return out


def _apart(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Names in short lines. Steps of one name are one row to a chart: later ones get a mark that does not show."""
    met: dict[str, int] = {}
    for p in points:
        p["step"] = "|".join(textwrap.wrap(p["step"], LABEL))
        met[p["step"]] = met.get(p["step"], 0) + 1
        p["step"] += "\u200b" * (met[p["step"]] - 1)
    return points


def _rows(order: Sequence[str]) -> Any:
    import altair as alt

    return alt.Y(
        "step:N", sort=list(order), title=None,
        axis=alt.Axis(labelLimit=260, labelExpr="split(datum.label, '|')", labelLineHeight=13, ticks=False,
            domain=False, labelPadding=10),
        scale=alt.Scale(paddingInner=PADDING[0], paddingOuter=PADDING[1]),
    )  # fmt: skip


def _classes(card: Card) -> Chart | None:
    import altair as alt

    found = list(card.classes.items())
    if not found:
        return None
    alike = all(seen == heard for _, (seen, heard) in found)
    points: list[dict[str, Any]] = []
    for name, (seen, heard) in found[:MOST]:
        points += [{"step": name, "series": "seen and heard" if alike else "seen", "value": seen}]
        points += [] if alike else [{"step": name, "series": "heard", "value": heard}]
    order = ["seen and heard"] if alike else ["seen", "heard"]
    hues = [INK] if alike else [SEEN, HEARD]
    base = alt.Chart(inline(points)).encode(
        y=_rows([n for n, _ in found[:MOST]]), **({} if alike else {"yOffset": alt.YOffset("series:N", sort=order)})
    )
    tip = [
        alt.Tooltip("step:N", title="Class"), alt.Tooltip("series:N", title="Labelled as"),
        alt.Tooltip("value:Q", title="Clips"),
    ]  # fmt: skip
    most = max(p["value"] for p in points)
    x = alt.X("value:Q", title=None, scale=alt.Scale(domain=[0, max(most, 1)]), axis=None)
    chart = alt.layer(
        base.mark_bar(opacity=0.82, cornerRadiusEnd=2).encode(
            x=x, tooltip=tip,
            color=alt.Color(
                "series:N", sort=order, scale=alt.Scale(domain=order, range=hues),
                legend=None if alike else alt.Legend(title=None, orient="top", symbolType="circle"),
            ),
        ),
        base.mark_text(align="left", dx=6, color=FAINT, fontSize=11).encode(
            x=x, text=alt.Text("value:Q", format=",")
        ),
    ).properties(
        width=WIDTH, height=high(len(found[:MOST]), 20 if alike else 2 * 13 / (1 - PADDING[0]), *PADDING),
        padding={"left": 4, "top": 4, "bottom": 4, "right": 44},
    )  # fmt: skip
    more = f" The {MOST} commonest of {len(found)}." if len(found) > MOST else ""
    return Chart("classes", "Clips of each class", f"By the labels, the commonest first.{more}", styled(chart))


def _histogram(name: str, title: str, caption: str, values: Sequence[float], unit: str) -> Chart | None:
    if len(values) < 2:
        return None
    low, high = min(values), max(values)
    if high - low < 1e-6:
        return Chart(
            name, title, f"{caption} All {len(values):,} are the same: {high:g} {unit}.".replace("-", "\u2212"),
            styled(_bars([{"low": low - 0.5, "high": high + 0.5, "value": len(values)}], unit)),
        )  # fmt: skip
    step = _nice((high - low) / BINS)
    edges = np.arange(math.floor(low / step), math.ceil(high / step + 1e-9) + 1) * step
    counts, edges = np.histogram(values, bins=edges)
    points = [
        {"low": float(a), "high": float(b), "value": int(n)}
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return Chart(name, title, caption, styled(_bars(points, unit)))


def _nice(step: float) -> float:
    """The next larger of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next((m * power for m in (1, 2, 5) if m * power >= step), 10 * power)


def _bars(points: Sequence[dict[str, Any]], unit: str) -> Any:
    import altair as alt

    data = [
        {**p, "span": f"{p['low']:g} to {p['high']:g} {unit}".replace("-", "\u2212"), "zero": 0} for p in points
    ]
    return (
        alt.Chart(inline(data))
        .mark_bar(color=INK, opacity=0.82, binSpacing=0)
        .encode(
            x=alt.X("low:Q", title=unit, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(grid=False)),
            x2="high:Q",
            y=alt.Y("value:Q", title=None, axis=alt.Axis(domain=False, ticks=False, tickCount=4, format="~s")),
            y2="zero:Q",
            tooltip=[
                alt.Tooltip("span:N", title="From"), alt.Tooltip("value:Q", title="Clips", format=","),
            ],
        )
        .properties(width=WIDTH, height=150, padding={"left": 4, "top": 4, "bottom": 4, "right": 12})
    )  # fmt: skip
