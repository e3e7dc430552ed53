"""The scorecard of two runs as a reader sees it: before and after on one line, and what is clearly different.

"Clearly" means that the 95 % interval of the paired difference leaves out 0. Lines are apart by which way is
better, so that in each group a repair moves everything the same way. Lines of which neither way is better (what is
said with the picture black) are a group of their own, are never called better or worse, and are not counted.

Functions: :func:`shared` the items that both runs have, :func:`lines` the card's lines, :func:`said` what they add
up to, :func:`charts` the dumbbells.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from earwitness import scorecard
from earwitness.records import Estimate, Judged, Table
from earwitness.report.charts import FAINT, INK, LABEL, OTHER, PERCENT, WIDTH, Chart, high, inline, styled
from earwitness.report.verdict import interval, percent

BETTER, WORSE, ALIKE = "better", "worse", "not clearly different"


@dataclass(frozen=True)
class Line:
    """A measure of both runs. ``turn``: BETTER, WORSE, ALIKE, or empty where nothing was compared or neither is."""

    label: str
    better: scorecard.Better
    before: Estimate | None
    after: Estimate | None
    difference: Estimate | None
    goal: float | None
    unit: scorecard.Unit  # shares alone are drawn: a d' has no end to draw it to, a difference has two

    @property
    def high(self) -> bool:
        """Whether high is better."""
        return self.better == "high"

    @property
    def share(self) -> bool:
        """Whether it is a share, from 0 to 1."""
        return self.unit == "share"

    @property
    def turn(self) -> str:
        """Which way the measure moved, if it clearly did and one way is better."""
        d = self.difference
        if d is None or self.better == "neither":
            return ""
        if d.low <= 0 <= d.high:
            return ALIKE
        return BETTER if (d.value > 0) == self.high else WORSE

    @property
    def reached(self) -> bool | None:
        """Whether the run after is where a repair should bring it; None where there is no goal."""
        if self.goal is None or self.after is None:
            return None
        return self.after.value >= self.goal if self.high else self.after.value <= self.goal


def shared(before: Sequence[Judged], after: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """Of both runs the items that the other one has, too."""
    one, two = ({j.item.id for j in run} for run in (before, after))
    return [j for j in before if j.item.id in two], [j for j in after if j.item.id in one]


def lines(table: Table) -> list[Line]:
    """The lines of a :func:`scorecard.table` of two runs, in its order."""
    known = {m.label: m for m in scorecard.MEASURES}
    out = []
    for row in table.rows:
        m = known[row.label]
        before, after, difference = (c if isinstance(c, Estimate) else None for c in row.cells[:3])
        out.append(
            Line(
                row.label,
                m.better,
                before,
                after,
                difference,
                m.goal,
                m.unit,
            )
        )
    return out


def groups(found: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """The lines that should go up, those that should go down, and those to be read beside one of these."""
    titles: tuple[tuple[str, scorecard.Better], ...] = (
        ("Higher is better", "high"),
        ("Lower is better", "low"),
        ("Neither is better: said in the dark, to be read with “beyond alarms”", "neither"),
    )
    every = [(title, [line for line in found if line.better == better]) for title, better in titles]
    return [(title, some) for title, some in every if some]


def said(found: Sequence[Line]) -> str:
    """What the lines add up to: "of 24 measures 17 are clearly better ..."."""
    turns = [line.turn for line in found if line.turn]
    if not turns:
        return "they share no measure of the scorecard."
    n, up, down = len(turns), turns.count(BETTER), turns.count(WORSE)
    same = n - up - down
    parts = [f"{_are(up)} clearly better", f"{_are(down)} clearly worse"]
    if same:
        parts.append(f"{_are(same)} not clearly different")
    text = f"of {n} measure{'s' if n != 1 else ''} of listening, {', '.join(parts[:-1])} and {parts[-1]}"
    goals = [line.reached for line in found if line.reached is not None]
    if goals:
        text += f"; {sum(goals)} of {len(goals)} goals of a repair {'is' if sum(goals) == 1 else 'are'} reached"
    return text + "."


def _are(n: int) -> str:
    return f"{n or 'none'} {'is' if n <= 1 else 'are'}"


def charts(found: Sequence[Line], names: tuple[str, str]) -> list[Chart]:
    """A dumbbell chart of the shares for each way of being better; none where the runs share no measure."""
    out = []
    for title, some in groups(found):
        drawn = [line for line in some if line.share and line.before is not None and line.after is not None]
        if not drawn:
            continue
        name, where = {
            "high": ("up", ": right is where to go"), "low": ("down", ": left is where to go"),
        }.get(some[0].better, ("beside", ""))  # fmt: skip
        aimed = any(line.goal is not None for line in drawn)
        goals = ", short upright marks the goals of a repair" if aimed else ""
        out.append(
            Chart(
                f"card-{name}",
                f"{title}{where}",
                f"Hollow: {names[0]}. Filled: {names[1]}. Lines are 95 % intervals{goals}. The same items in both.",
                _dumbbells(drawn, names),
            )
        )
    return out


def _dumbbells(found: Sequence[Line], names: tuple[str, str]) -> dict[str, Any]:
    import altair as alt

    points, joins = [], []
    for line in found:
        row = "|".join(textwrap.wrap(line.label, LABEL + 4))
        for series, e in zip(names, (line.before, line.after), strict=True):
            assert e is not None
            points.append({
                "row": row, "series": series, "value": e.value, "low": e.low, "high": e.high,
                "shown": percent(e.value), "interval": interval(e), "answers": e.n, "clips": e.clusters,
            })  # fmt: skip
        assert line.before is not None
        assert line.after is not None
        joins.append({"row": row, "from": line.before.value, "to": line.after.value, "goal": line.goal})
    rows = [j["row"] for j in joins]
    depth = max(str(row).count("|") for row in rows)
    y = alt.Y(
        "row:N", sort=rows, title=None,
        axis=alt.Axis(labelLimit=230, labelExpr="split(datum.label, '|')", labelLineHeight=13, ticks=False,
            domain=False, labelPadding=10),
    )  # fmt: skip
    x = alt.X(
        "value:Q", title=None, scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(labelExpr=PERCENT, values=[0, 0.25, 0.5, 0.75, 1], grid=True, domain=False, ticks=False),
    )  # fmt: skip
    colour = alt.Color(
        "series:N", sort=list(names), scale=alt.Scale(domain=list(names), range=[OTHER, INK]),
        legend=alt.Legend(title=None, orient="top", symbolType="circle", labelLimit=400),
    )  # fmt: skip
    tip = [
        alt.Tooltip("row:N", title="Measure"), alt.Tooltip("series:N", title="Run"),
        alt.Tooltip("shown:N", title="Share"), alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("answers:Q", title="Answers"), alt.Tooltip("clips:Q", title="Independent clips"),
    ]  # fmt: skip
    between = alt.Chart(inline(joins)).encode(y=y)
    layers = [between.mark_rule(strokeWidth=7, opacity=0.18, color=OTHER).encode(x=alt.X("from:Q"), x2="to:Q")]
    if any(j["goal"] is not None for j in joins):
        aims = alt.Chart(inline([j for j in joins if j["goal"] is not None])).encode(y=y)
        layers.append(
            aims.mark_tick(thickness=2, color=FAINT, size=24).encode(
                x=alt.X("goal:Q"), tooltip=[alt.Tooltip("goal:Q", format=".0%", title="Goal")]
            )
        )
    for series, lift, filled in zip(names, (-4, 4), (False, True), strict=True):
        mine = alt.Chart(inline([p for p in points if p["series"] == series])).encode(
            y=y, color=colour, tooltip=tip
        )
        layers += [
            mine.mark_rule(strokeWidth=1.6, yOffset=lift).encode(x=alt.X("low:Q"), x2="high:Q"),
            mine.mark_point(filled=filled, size=60, opacity=1, strokeWidth=2, yOffset=lift).encode(x=x),
        ]
    padding: Mapping[str, int] = {"left": 4, "top": 4, "bottom": 4, "right": 16}
    tall = high(len(set(rows)), 32 + 11 * depth)
    return styled(alt.layer(*layers).properties(width=WIDTH, height=tall, padding=padding))
