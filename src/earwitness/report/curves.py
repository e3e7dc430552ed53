"""The curves of a training stage (:mod:`.stages`): what was learned, how fast, and which checkpoint was kept.

A point of a long stage is the mean of several steps; validations are drawn as they are. In these charts hues only
tell curves apart: black is the whole or the chosen one, grey the other.

Functions: :func:`charts` the curves, :func:`headline` how the stage ended, :func:`page` OUT/report.html.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earwitness.records import how_many
from earwitness.report import charts as drawing
from earwitness.report import layout
from earwitness.report.cells import DASH, Grid, Line, Shown
from earwitness.report.charts import INK, OTHER, PERCENT, WIDTH, Chart, inline, styled
from earwitness.report.stages import Stage, chain, read
from earwitness.report.verdict import percent

MOST = 400  # points of a curve
SMOOTH = 25  # a running mean is over this share of the points
TENTH = PERCENT.replace(".0f", ".1f")
NOISY = 50  # points from which on one is drawn
# Curves that are neither seen nor heard; 3 to 1 or more on white and on the page's dark.
HUES = (INK, "#8d4fb0", "#1f8a70", "#a07800", "#c2467d", "#4f6fc0", OTHER)
# Chart id -> (title, what it shows, keys of the log with their names, whether it is a share).
CURVES: dict[str, tuple[str, str, tuple[tuple[str, str], ...], bool]] = {
    "loss": ("Loss", "What training makes smaller.", (("loss", "loss"),), False),
    "reward": ("Reward", "Mean of the samples, weighted as in the recipe.", (("reward", "reward"),), False),
    "reward-spread": (
        "Do the answers of a group differ?",
        "Standard deviation of the reward in a group, and the share of groups without any: those teach nothing.",
        (("reward_std", "standard deviation"), ("frac_reward_zero_std", "share of groups without a difference")),
        False,
    ),
    "preference": (
        "Chosen and rejected", "Rewards that DPO implies: beta times the log-ratio to the model as it came.",
        (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected")), False,
    ),
    "margins": (
        "Margin", "Reward of the chosen answer minus that of the rejected one.",
        (("rewards/margins", "margin"),), False,
    ),
    "preferred": (
        "Pairs in which the chosen answer is the likelier one", "Against the model as it came; a coin gives 50 %.",
        (("rewards/accuracies", "share of pairs"),), True,
    ),
    "logps": (
        "Log-probabilities of the answers", "Both may fall while their margin grows.",
        (("logps/chosen", "chosen"), ("logps/rejected", "rejected")), False,
    ),
    "kl": ("KL to the model as it came", "How far training has moved it, nats a token.", (("kl", "KL"),), False),
    "entropy": (
        "Entropy", "Nats a token. Near 0, samples no longer differ.",
        (("entropy", "all tokens"), ("answer_entropy", "the answer's tokens")), False,
    ),
    "uncertainty": (
        "Is it sure of its answers?", "Uncertainty of the answer's tokens; the share of answers that is sharpened.",
        (("answer_uncertainty", "uncertainty"), ("sharpened", "share sharpened")), True,
    ),
    "tokens-right": (
        "Tokens foreseen", "Share of the answers' tokens that were the likeliest ones.",
        (("mean_token_accuracy", "share of tokens"),), True,
    ),
    "length": (
        "Length of the samples", "New tokens, mean.", (("completions/mean_length", "tokens"),), False,
    ),
    "rate": ("Learning rate", "As scheduled.", (("learning_rate", "learning rate"),), False),
    "gradient": ("Length of the gradient", "Before it is clipped.", (("grad_norm", "gradient"),), False),
}  # fmt: skip


def charts(stage: Stage, prefix: str = "") -> list[Chart]:
    """The curves that the stage has data for, in reading order; ``prefix`` goes before their ids."""
    found = [c for c in (_valid(stage), _parts(stage), _ways(stage)) if c is not None]
    rewards = [(k, k.split("/")[1].replace("_", " ")) for k in stage.keys("rewards/", "/mean")]
    for name, (title, caption, keys, share) in CURVES.items():
        chart = _curve(stage, name, title, caption, keys, share)
        if chart is not None:
            found.append(chart)
        if name == "reward" and rewards:
            each = _curve(stage, "rewards", "Every reward", "Mean over the samples.", tuple(rewards), False)
            found += [] if each is None else [each]
    return [Chart(prefix + c.id, c.title, c.caption, c.spec) for c in found]


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[list[tuple[float, float]], int]:
    """At most MOST points, each the mean of as many steps; and how many that is."""
    size = max(1, math.ceil(len(points) / MOST))
    blocks = [points[k : k + size] for k in range(0, len(points), size)]
    return [(float(np.mean([s for s, _ in b])), float(np.mean([v for _, v in b]))) for b in blocks], size


def _smoothed(values: Sequence[float]) -> list[float]:
    """Running mean over a window about each point, shorter at the ends."""
    half = max(1, len(values) // (2 * SMOOTH))
    return [float(np.mean(values[max(0, k - half) : k + half + 1])) for k in range(len(values))]


def _curve(
    stage: Stage, name: str, title: str, caption: str, keys: Sequence[tuple[str, str]], share: bool
) -> Chart | None:
    import altair as alt

    points: list[dict[str, Any]] = []
    kept: list[str] = []
    most, noisy = 1, False
    for key, series in keys:
        found, size = _thinned(stage.curve(key))
        if len(found) < 2:
            continue
        kept.append(series)
        most = max(most, size)
        smooth = _smoothed([v for _, v in found]) if len(found) >= NOISY else [v for _, v in found]
        noisy = noisy or len(found) >= NOISY
        points += [
            {"step": s, "value": v, "smooth": m, "series": series, "shown": f"{v:.4g}"}
            for (s, v), m in zip(found, smooth, strict=True)
        ]
    if not kept:
        return None
    hues, many = [HUES[k % len(HUES)] for k in range(len(kept))], len(kept) > 1
    if kept == ["chosen", "rejected"]:
        hues = [INK, OTHER]
    base = alt.Chart(inline(points)).encode(
        x=_steps(stage),
        color=alt.Color(
            "series:N", sort=kept, scale=alt.Scale(domain=kept, range=hues),
            legend=alt.Legend(title=None, orient="top", symbolType="stroke", labelLimit=300) if many else None,
        ),
    )  # fmt: skip
    y = _shares() if share else alt.Y(
        "value:Q", title=None, scale=alt.Scale(zero=False),
        axis=alt.Axis(domain=False, ticks=False, tickCount=5, format="~g" if name != "rate" else ".0e"),
    )  # fmt: skip
    tip = [
        alt.Tooltip("step:Q", title="Step"),
        alt.Tooltip("series:N", title="What"),
        alt.Tooltip("shown:N", title="Value"),
    ]
    layers = [base.mark_line(strokeWidth=1.8).encode(x=_steps(stage), y=alt.Y("smooth:Q"))]
    if noisy and name != "rate":
        layers.insert(0, base.mark_line(strokeWidth=0.8, opacity=0.35).encode(y=y))
    layers.append(base.mark_point(opacity=0, size=70, filled=True).encode(y=y, tooltip=tip))
    if noisy and name != "rate":
        caption += " Thin: as logged" + (f", each point the mean of {most} steps" if most > 1 else "")
        caption += "; thick: running mean."
    elif most > 1:
        caption += f" Each point is the mean of {most} steps."
    return Chart(name, title, caption, styled(_sized(alt.layer(*layers), 170)))


def _steps(stage: Stage) -> Any:
    import altair as alt

    return alt.X(
        "step:Q", title="step", scale=alt.Scale(domain=[0, max(1, stage.last)], nice=False),
        axis=alt.Axis(grid=False, tickCount=6, format="~s" if stage.last >= 10000 else "d"),
    )  # fmt: skip


def _shares() -> Any:
    import altair as alt

    return alt.Y(
        "value:Q", title=None, scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(labelExpr=PERCENT, values=[0, 0.25, 0.5, 0.75, 1], domain=False, ticks=False, labelPadding=8),
    )  # fmt: skip


def _sized(chart: Any, height: int) -> Any:
    return chart.properties(width=WIDTH, height=height, padding={"left": 4, "top": 4, "bottom": 4, "right": 12})


def _valid(stage: Stage) -> Chart | None:
    import altair as alt

    found, best = stage.curve("valid"), stage.best
    if len(found) < 2 or best is None:
        return None
    points = [{"step": s, "value": v, "shown": percent(v), "kept": s == best[0]} for s, v in found]
    tip = [alt.Tooltip("step:Q", title="Step"), alt.Tooltip("shown:N", title="Right")]
    return Chart(
        "valid", "Validation",
        "Share of right answers to questions that were not trained on, the mean over the parts of the mixture; "
        f"scored as in an audit. Ringed: the best. {_which(stage)}",
        _ringed(points, _steps(stage), _shares(), tip, 200),
    )  # fmt: skip


def _ringed(points: list[dict[str, Any]], x: Any, y: Any, tip: list[Any], height: int) -> dict[str, Any]:
    """A line through points, the kept one of them ringed and told."""
    import altair as alt

    base = alt.Chart(inline(points)).encode(x=x, y=y)
    top = alt.Chart(inline([p for p in points if p["kept"]])).encode(x=x, y=y)
    layers = [
        base.mark_line(strokeWidth=1.8, color=INK),
        base.mark_point(filled=True, size=55, opacity=1, color=INK).encode(tooltip=tip),
        top.mark_point(size=190, strokeWidth=1.8, color=INK, filled=False, opacity=1),
        top.mark_text(dy=20, color=INK, fontSize=12).encode(text=alt.Text("shown:N")),
    ]  # fmt: skip
    return styled(_sized(alt.layer(*layers), height))


def _which(stage: Stage) -> str:
    best = stage.best
    if best is None:
        return "Nothing was validated: the model is that of the last step."
    if best[0] == 0:
        return "None was better than the model as it came: what was saved is the last step."
    return f"The model that was saved is that of step {best[0]:,}."


def _parts(stage: Stage) -> Chart | None:
    import altair as alt

    keys = stage.keys("valid/")
    steps = sorted({s for k in keys for s, _ in stage.curve(k)})
    if not keys or len(steps) < 2:
        return None
    points = [
        {"part": k.split("/", 1)[1].replace("_", " "), "step": s, "value": v, "shown": percent(v),
         "number": f"{100 * v:.0f}"}
        for k in keys for s, v in stage.curve(k)
    ]  # fmt: skip
    few = len(steps) <= 12
    base = alt.Chart(inline(points)).encode(
        x=alt.X(
            "step:O", title="step",
            axis=alt.Axis(ticks=False, domain=False, labelAngle=0, labelOverlap=True),
            scale=alt.Scale(paddingInner=0.04 if few else 0),
        ),
        y=alt.Y("part:N", title=None, sort=None, axis=alt.Axis(ticks=False, domain=False, labelPadding=8),
            scale=alt.Scale(paddingInner=0.08)),
    )  # fmt: skip
    tip = [
        alt.Tooltip("part:N", title="Part"),
        alt.Tooltip("step:O", title="Step"),
        alt.Tooltip("shown:N", title="Right"),
    ]
    layers = [
        base.mark_rect(color=OTHER, cornerRadius=2 if few else 0).encode(
            opacity=alt.Opacity("value:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 0.65]), legend=None),
            tooltip=tip,
        )
    ]
    if few:
        layers.append(base.mark_text(color=INK, fontSize=12).encode(text=alt.Text("number:N")))
    return Chart(
        "parts", "Validation by part of the mixture",
        "Per cent of right answers; the stronger, the more. A part that is lost while others are gained shows.",
        styled(_sized(alt.layer(*layers), 24 * len(keys))),
    )  # fmt: skip


def _ways(stage: Stage) -> Chart | None:
    """Validation by how much of what was learned is kept; None where no less was tried."""
    import altair as alt

    made = stage.made
    points = [  # differences are of few answers: with a decimal
        {"share": float(share), "value": v, "shown": f"{100 * v:.1f} %", "kept": float(share) == made.way}
        for share, v in sorted(made.ways.items(), key=lambda p: float(p[0]))
    ]
    if len(points) < 2:
        return None
    x = alt.X(
        "share:Q", title="kept of what was learned", scale=alt.Scale(zero=False, padding=24, nice=False),
        axis=alt.Axis(grid=False, labelExpr=PERCENT, values=[p["share"] for p in points], labelOverlap=True),
    )  # fmt: skip
    y = alt.Y(
        "value:Q", title=None, scale=alt.Scale(zero=False, padding=24, domainMax=1),
        axis=alt.Axis(labelExpr=TENTH, domain=False, ticks=False, tickCount=4, labelPadding=8),
    )  # fmt: skip
    tip = [alt.Tooltip("share:Q", title="Kept", format=".0%"), alt.Tooltip("shown:N", title="Right")]
    return Chart(
        "ways", "How much of what was learned is kept?",
        "Validation of the best checkpoint, taken back while that is no worse. Ringed: what was saved.",
        _ringed(points, x, y, tip, 170),
    )  # fmt: skip


def headline(stage: Stage) -> str:
    """How the stage ended, one sentence in plain words."""
    best, found = stage.best, stage.curve("valid")
    name = f"{stage.name} on {stage.made.model}"
    if best is not None and found:
        if best[0] == 0:
            said = f"{name}: no validation was better than the model as it came ({percent(best[1])} right)."
            return said + _way(stage)
        before = f"{percent(found[0][1])} before and " if found[0][0] == 0 else ""
        return (
            f"{name}: right in {before}{percent(best[1])} of the validation at its best, after step {best[0]:,} of "
            f"{stage.last:,}.{_way(stage)}"
        )
    loss = stage.curve("loss")
    ended = f"; the loss went from {loss[0][1]:.3g} to {loss[-1][1]:.3g}" if loss else ""
    return f"{name}: {how_many(stage.last, 'step')}, nothing to validate on{ended}."


def _way(stage: Stage) -> str:
    """How much of what was learned was kept, where less was tried."""
    made = stage.made
    if not made.ways:
        return ""
    tried = min(float(share) for share in made.ways)
    if made.way == 1:
        return f" All of what was learned is kept: with {percent(tried)} of it validation is worse."
    found = percent(made.ways[f"{made.way:g}"])
    return f" Of what was learned {percent(made.way)} is kept, which is right in {found}."


def validations(stage: Stage) -> Grid | None:
    """Validation before training and at its best, by part; None where nothing was validated twice."""
    best = stage.best
    if best is None or len(stage.curve("valid")) < 2:
        return None
    lines = []
    for key in ("valid", *stage.keys("valid/")):
        by_step = dict(stage.curve(key))
        first, top = by_step.get(0), by_step.get(best[0])
        change = None if first is None or top is None else 100 * (top - first)
        shown = tuple(Shown(DASH if v is None else f"{100 * v:.1f} %") for v in (first, top))
        moved = Shown(DASH if change is None else f"{change:+.1f}".replace("-", "\u2212"))
        label = "mean of the parts" if key == "valid" else key.split("/", 1)[1].replace("_", " ")
        lines.append(Line(label, (*shown, moved)))
    return Grid(
        "validations", "Validation", "", ("before", f"best (step {best[0]:,})", "change, points"), tuple(lines)
    )


def settings(stage: Stage) -> tuple[Grid | None, Grid]:
    """The recipe's settings with a word on where they come from, and the others."""
    recipe = stage.made.recipe
    quotes, ours = (dict(recipe.get(k) or {}) for k in ("quotes", "ours"))
    spoken, silent = [], []
    for key, value in recipe.items():
        if key in ("name", "source", "quotes", "ours"):
            continue
        if key in quotes or key in ours:
            cells = (
                _shown(value),
                Shown(str(quotes.get(key, "")), number=False),
                Shown(str(ours.get(key, "")), number=False),
            )
            spoken.append(Line(key, cells))
        else:
            silent.append(Line(key, (_shown(value),)))
    columns = ("value", "the source's words", "ours, and why")
    said = Grid("recipe", "Settings and where they come from", "", columns, tuple(spoken)) if spoken else None
    return said, Grid("settings", "All other settings", "", ("value",), tuple(silent))


def _shown(value: Any) -> Shown:
    if isinstance(value, list):
        return Shown(", ".join(str(v) for v in value) or DASH, number=False)
    text = DASH if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return Shown(text, number=isinstance(value, int | float) and not isinstance(value, bool))


def page(folder: Path) -> Path:
    """Write ``report.html`` and ``charts/`` into a stage's folder; returns the page's path.

    Raises RunError where the folder is not the --out of an ``earwitness align``.
    """
    stage = read(folder)
    found = charts(stage)
    pictures = drawing.write(found, folder / "charts")
    said, others = settings(stage)
    made = stage.made
    facts = [
        ("model", made.model), ("revision", made.revision), ("training set", made.data),
        ("its pairs", made.data_digest), ("pairs without use here", f"{made.skipped:,}" if made.skipped else ""),
        ("numbers that learn", f"{made.trained:,}" if made.trained else ""), ("steps", f"{stage.last:,}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in made.versions.items())),
    ]  # fmt: skip
    text = layout.fill(
        "curves.html",
        drawn=bool(found),
        stage=stage,
        sentence=headline(stage),
        which=_which(stage),
        before=[s.name for s in chain(made.model)],
        source=str(made.recipe.get("source", "")),
        kind=str(made.recipe.get("stage", "")),
        charts=layout.figures(found, pictures, folder / "charts"),
        validations=validations(stage),
        said=said,
        others=others,
        facts=[(k, v) for k, v in facts if v],
        sections=[("curves", "Curves"), ("recipe", "Recipe"), ("again", "What it was made from")],
    )
    return layout.write(text, folder / "report.html")
