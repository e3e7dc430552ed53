"""Do an audit's figures rise and fall with what is wrong with a model? A known model at five dials, on real media.

``cascade:DIAL`` answers what is heard from a sound tagger (0), from a picture classifier (1), or from a mixture.
Each dial is audited as any model is; then every measure is held against the dial: its share with its interval at
each, and whether it is monotone: Spearman's correlation of share and dial, and the largest fall against an isotonic
fit, with a permutation test over the dials that is stratified by source (each source's answers keep together).

    python benchmarks/dose_response.py CLIPS --out runs/dose [--dials 0,0.25,0.5,0.75,1] [--docs docs]
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import altair as alt
import numpy as np
import vl_convert
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression
from scipy.stats import spearmanr

from earwitness import run as runs
from earwitness import session
from earwitness.protocols.cells import share
from earwitness.protocols.mma_tables import abstaining
from earwitness.questions import clean
from earwitness.records import Estimate, Judged, Score
from earwitness.scorecard import MEASURES, Measure
from earwitness.scoring import UNSCORED

DIALS = (0.0, 0.25, 0.5, 0.75, 1.0)
# What the dial can move: it reads no captions and no long contexts, and says the same in every style.
ASKED = {
    "seeds": "0", "mma_conditions": "aligned,audio_swapped,frames_zeroed,audio_removed",
    "mma_styles": "standard,abstention", "thud_conditions": "original,shift,mute,swap", "thud_styles": "neutral",
    "confuse_styles": "neutral",
}  # fmt: skip
DRAWS = 2000  # permutations


class Curve(NamedTuple):
    """A measure's course: what it is, which way it must go (+1 rises, -1 falls, 0 stays), its shares."""

    panel: str
    label: str
    way: int
    measure: Measure
    shares: tuple[Estimate | None, ...]
    rho: float
    p: float
    against: float  # the most that any step goes against the expected way


# (panel, short name, expected way, the scorecard's own name)
COURSES = (
    ("conflict", "names what is heard", -1, "conflict, asked what is heard: right"),
    ("conflict", "names what is seen", 1, "conflict, asked what is heard: names what is seen"),
    ("conflict", "asked what is seen: right", 0, "conflict, asked what is seen: right"),
    ("sound muted", "describes a sound (Mute Hallucination)", 1, "Mute Hallucination (neutral)"),
    ("sound muted", "names what is seen (leak)", 1, "sound muted, asked what is heard: names what is seen"),
    ("sound muted", "may abstain: abstains", -1, "sound muted, may abstain: abstains"),
    ("picture black", "names what is heard", -1, "picture black, asked what is heard: right"),
    ("sound swapped", "finds that they match (Swap False-Match)", 1, "Swap False-Match (neutral)"),
    ("sound moved", "finds it in step (Offset Blindness)", 1, "Offset Blindness (neutral)"),
    ("sound moved", "direction right", -1, "sound moved by about 2 s: direction right (neutral)"),
    ("one of two left out", "says no", -1, "sound left out: says no (neutral)"),
    ("sound replaced", "names the new sound", -1, "sound replaced: names the new sound"),
)


def audited(clips: str, folder: Path, dials: Sequence[float]) -> list[list[Judged]]:
    """The answers at each dial; an audit that is finished is read again."""
    out = []
    for dial in dials:
        at = folder / f"dial-{dial:g}"
        if not (at / "scores.jsonl").exists():
            job = session.prepare(model=f"cascade:{dial:g}", clips=clips, seed=0, settings=dict(ASKED))
            print(f"dial {dial:g}: {session.run(job, at).headline}")
        answers, scores = runs.read_answers(at), {s.item: s for s in runs.read_lines(at / "scores.jsonl", Score)}
        out.append([Judged(i, answers[i.id], scores[i.id]) for i in runs.read_items(at) if i.id in scores])
    return out


def courses(
    judged: Sequence[Sequence[Judged]], dials: Sequence[float], seed: int = 0, draws: int = DRAWS
) -> list[Curve]:
    """Every measure's course over the dials."""
    by_name = {m.label: m for m in MEASURES}
    found = []
    for panel, label, way, name in COURSES:
        measure = by_name[name]
        if panel == "picture black":  # who then says that there is nothing to hear has not named it: no refusal
            measure = dataclasses.replace(measure, hit=_names_target)
        some = [[j for j in at if measure.of(j.item)] for at in judged]
        if not some[0]:
            continue
        shares = tuple(share(at, measure.hit) for at in some)
        rho, p, against = monotone(_by_source(some, measure), np.asarray(dials), way, seed, draws)
        found.append(Curve(panel, label, way, measure, shares, rho, p, against))
    return found


def _names_target(j: Judged) -> bool | None:
    """Whether the answer is the right one; an abstention, offered or not, is not."""
    found = abstaining(j)
    return None if found.score.label in UNSCORED else clean(found.score.label) == clean(j.item.target or "")


def _by_source(judged: Sequence[Sequence[Judged]], measure: Measure) -> NDArray[np.float64]:
    """Hits [source, dial]: the mean of each source's scored answers, weighed by their number; NaN without one."""
    sources = sorted({j.item.source for j in judged[0]})
    out = np.full((len(sources), len(judged)), np.nan)
    for k, at in enumerate(judged):
        for n, source in enumerate(sources):
            hits = [float(h) for j in at if j.item.source == source and (h := measure.hit(j)) is not None]
            if hits:
                out[n, k] = float(np.mean(hits))
    return out


def monotone(
    values: NDArray[np.float64], dials: NDArray[np.float64], way: int, seed: int = 0, draws: int = DRAWS
) -> tuple[float, float, float]:
    """Spearman's rho of the mean course and the dial, p of the isotonic fit, and the largest step against the way.

    p: share of permutations of the dials, source by source, under which the isotonic fit (in the expected way)
    takes as much of the variance between dials as it does of the course that was measured.
    """
    dice = np.random.default_rng(seed)
    values = values[:, ~np.isnan(values).all(axis=0)] if len(values) else values
    values = values[~np.isnan(values).any(axis=1)]  # sources with an answer at every dial
    if len(values) == 0 or values.shape[1] < len(dials):
        return float("nan"), 1.0, float("nan")
    mean = values.mean(axis=0)
    steps = np.diff(mean) * (way or 1)
    against = float(max(0.0, -steps.min())) if way else float(np.ptp(mean))
    if np.ptp(mean) == 0:
        return 0.0, 1.0, against
    rho = float(spearmanr(dials, mean).statistic)

    def fitted(table: NDArray[np.float64]) -> float:
        course = table.mean(axis=0)
        return float(np.var(isotonic_regression(course, increasing=way >= 0).x))

    seen = fitted(values)
    drawn = [fitted(dice.permuted(values, axis=1)) for _ in range(draws)]
    return rho, (1 + sum(d >= seen - 1e-12 for d in drawn)) / (1 + draws), against


def chart(found: Sequence[Curve], dials: Sequence[float]) -> alt.HConcatChart:
    """Small charts, one a panel: share against dial, intervals as bands."""
    rows = [
        {"panel": c.panel, "measure": c.label, "dial": d, "share": e.value, "low": e.low, "high": e.high}
        for c in found
        for d, e in zip(dials, c.shares, strict=True)
        if e is not None
    ]
    shown = []
    for panel in dict.fromkeys(c.panel for c in found):
        names = [c.label for c in found if c.panel == panel]
        ticks = alt.Axis(values=list(dials), grid=False, format=".2~f")
        colours = alt.Scale(domain=names, range=["#0b6e99", "#c2461b", "#777777"])
        legend = alt.Legend(title=None, orient="bottom", direction="vertical", labelLimit=260, symbolOpacity=1)
        base = alt.Chart(alt.Data(values=[r for r in rows if r["panel"] == panel])).encode(
            x=alt.X("dial:Q", title="dial: 0 listens, 1 infers", axis=ticks),
            color=alt.Color("measure:N", sort=names, scale=colours, legend=legend),
        )  # fmt: skip
        y = alt.Y("share:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))
        band = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title=None), y2="high:Q")
        line = base.mark_line(point=True).encode(y=y)
        shown.append((band + line).properties(title=panel, width=210, height=170))
    rows_of = [alt.hconcat(*shown[i : i + 4]).resolve_scale(color="independent") for i in range(0, len(shown), 4)]
    return alt.vconcat(*rows_of).configure_view(stroke=None).configure_axis(gridColor="#eeeeee")


def table(found: Sequence[Curve], dials: Sequence[float]) -> str:
    """The courses as a table in Markdown."""
    head = ["measure", *(f"{d:g}" for d in dials), "must", "Spearman", "p", "largest step against"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    ways = {1: "rise", -1: "fall", 0: "stay"}
    for c in found:
        cells = ["-" if e is None else f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]" for e in c.shares]
        rho, p = ("-", "-") if c.way == 0 else (f"{c.rho:+.2f}", f"{c.p:.4f}" if c.p >= 0.001 else "< 0.001")
        lines.append(
            "| " + " | ".join([f"{c.panel}: {c.label}", *cells, ways[c.way], rho, p, f"{c.against:.2f}"]) + " |"
        )
    n = [e for e in found[0].shares if e is not None]
    return "\n".join(lines) + f"\n\nFirst row: {n[0].n} answers in {n[0].clusters} clusters at each dial.\n"


def main() -> None:
    """Audit at each dial, and write table and charts."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("clips")
    words.add_argument("--out", type=Path, default=Path("runs/dose"))
    words.add_argument("--dials", default=",".join(f"{d:g}" for d in DIALS))
    words.add_argument("--docs", type=Path, help="where starter_dose.svg, .png go too")
    given = words.parse_args()
    dials = [float(d) for d in given.dials.split(",")]
    if len(dials) < 2:
        words.error("--dials: two or more, by comma: a course has no steps else")
    found = courses(audited(given.clips, given.out, dials), dials)
    text = table(found, dials)
    print(text)
    (given.out / "dose.md").write_text(text, "utf-8")
    spec = chart(found, dials).to_json()
    for folder in [given.out, *([given.docs] if given.docs else [])]:
        (folder / "starter_dose.svg").write_text(vl_convert.vegalite_to_svg(spec), "utf-8")
        (folder / "starter_dose.png").write_bytes(vl_convert.vegalite_to_png(spec, scale=1.5))


if __name__ == "__main__":
    main()
