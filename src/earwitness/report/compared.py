"""The page of two runs: before and after a repair, or model A and model B, on the same items.

Both verdicts, the scorecard with before and after on one line (:mod:`.card`), the items whose answer turned, to be
watched with both answers under each clip (:mod:`.telling`), charts, what changed inside where both were traced, the
curves of the training that made the second model (:mod:`.curves`), and all tables of :mod:`earwitness.compare`.

Function: :func:`build`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from earwitness import run as runs
from earwitness import scorecard
from earwitness.compare import compare_runs, names_of
from earwitness.export.files import media_name, write_one
from earwitness.records import ClipSet, Judged, Table, how_many
from earwitness.report import card, cells, charts, curves, inside, layout, players, stages, telling
from earwitness.report.page import SHOWN_FIRST, TELLING, by_protocol
from earwitness.report.verdict import Verdict, verdict
from earwitness.report.words import GLOSSARY
from earwitness.whitebox.joined import load, unlike

SHOWN_CURVES = ("valid", "parts", "loss", "rewards", "reward", "margins")  # the stage's own page has all


@dataclass(frozen=True)
class Side:
    """One of the two runs: what it is called here, and what it found."""

    when: str
    name: str
    info: runs.Info
    verdict: Verdict
    answered: int


def build(
    run_a: Path, run_b: Path, out: Path, *, embed: bool = False, opens: Callable[[], ClipSet] | None = None
) -> Path:
    """Write ``report.html``, ``charts/`` and ``media/`` into ``out``; returns the page's path.

    Parameters
    ----------
    embed
        Put the clips and charts into the page (one file to send).
    opens
        Opens the clips, for media that neither run has in its folder; without it these are said to be missing.

    Raises
    ------
    RunError
        Where a folder is not a scored run.
    ValueError
        Where ``out`` is a run, both runs are the same one, or they share no item.
    """
    if (out / "run.json").exists() or (out / "align.json").exists():
        raise ValueError(f"{out} holds a run or a training stage with a report of its own: take another --out")
    if run_a.resolve() == run_b.resolve():
        raise ValueError(f"{run_a} is compared with itself: name two runs")
    tables = compare_runs(run_a, run_b)
    infos = (runs.read_info(run_a), runs.read_info(run_b))
    judged = (runs.judged(run_a), runs.judged(run_b))
    names = names_of(run_a, run_b)
    sides = [
        Side(when, name, info, verdict(name, some), sum(j.answer.error is None for j in some))
        for when, name, info, some in zip(("Before", "After"), names, infos, judged, strict=True)
    ]
    both = card.shared(*judged)
    marks = scorecard.table(dict(zip(names, both, strict=True)))
    lines = card.lines(marks)
    drawn = card.charts(lines, names)
    beside = [
        replace(c, id=f"follow-{when.lower()}", title=f"{when}: {name}", caption="")
        for when, name, some in zip(("Before", "After"), names, judged, strict=True)
        if (c := charts.follow(some)) is not None
    ]
    within = _inside(run_a, run_b, names)
    made = stages.chain(infos[1].model, infos[1].settings.get("adapter"))
    trained = [
        (s, [c for c in curves.charts(s, f"stage-{n}-") if c.id.removeprefix(f"stage-{n}-") in SHOWN_CURVES])
        for n, s in enumerate(made, 1)
    ]
    out.mkdir(parents=True, exist_ok=True)
    place = out / "charts"
    every = [*drawn, *beside, *within, *(c for _, found in trained for c in found)]
    pictures = charts.write(every, place)

    def shown(found: Sequence[charts.Chart]) -> list[dict[str, Any]]:
        return layout.figures(found, pictures, place, embed=embed)

    page = layout.fill(
        "compared.html",
        drawn=bool(every),
        sides=sides,
        names=names,
        sentence=card.said(lines),
        shared=len(both[0]),
        groups=card.groups(lines),
        card_caption=marks.caption,
        players=_players(run_a, run_b, out, both, names, embed, opens),
        chosen=_chosen(*both),
        shown_first=SHOWN_FIRST,
        charts=shown(drawn),
        beside=shown(beside),
        inside=shown(within),
        inside_grids=[cells.grid(t) for t in tables if not t.id.startswith("compare-")],
        stages=[(s, curves.headline(s), shown(found)) for s, found in trained],
        items=cells.grid(tables[0]),
        protocols=by_protocol([t for t in tables[1:] if t.id.startswith("compare-")]),
        folders=(str(run_a), str(run_b)),
        glossary=GLOSSARY,
        sections=_sections(bool(every), tables, bool(made)),
    )
    if embed:
        shutil.rmtree(place)
    return layout.write(page, out / "report.html")


def _inside(run_a: Path, run_b: Path, names: tuple[str, str]) -> list[charts.Chart]:
    """Charts of what changed inside, where both runs were traced alike."""
    if not all((folder / "trace").is_dir() for folder in (run_a, run_b)):
        return []
    one, two = load(run_a), load(run_b)
    return [] if unlike(one, two) else inside.change_charts(one, two, names)


def _players(
    run_a: Path, run_b: Path, out: Path, both: tuple[list[Judged], list[Judged]], names: tuple[str, str],
    embed: bool, opens: Callable[[], ClipSet] | None,
) -> list[players.Player]:  # fmt: skip
    pairs = telling.choose_turned(*both, TELLING)
    file = run_b / "clips.jsonl"
    clips = {clip.id: clip for clip in runs.read_clips(run_b)} if file.exists() else {}
    of = {
        f"{when}: {name}": {j.item.id: j for j in some}
        for when, name, some in zip(("Before", "After"), names, both, strict=True)
    }
    with tempfile.TemporaryDirectory() as spare:
        folder = Path(spare) if embed else out
        _gather(pairs, (run_b, run_a), folder / "media", opens)
        return players.make(folder, pairs, clips, embed=embed, runs=of)


def _gather(
    pairs: Sequence[telling.Pair], folders: Sequence[Path], place: Path, opens: Callable[[], ClipSet] | None
) -> None:
    """Copy the pairs' media from the runs into ``place``; what neither has is made from the clips, or said."""
    place.mkdir(parents=True, exist_ok=True)
    missing = []
    for item in (j.item for pair in pairs for j in pair):
        target = place / media_name(item.clip, item.intervention)
        found = next((f / "media" / target.name for f in folders if (f / "media" / target.name).is_file()), None)
        if target.exists():
            continue
        if found is not None:
            shutil.copyfile(found, target)
        else:
            missing.append((item, target))
    if not missing or opens is None:
        return
    try:
        clips = opens()
    except (ValueError, OSError) as error:
        for _, target in missing:
            target.with_name(f"{target.stem}.missing.txt").write_text(str(error))
        return
    by_id = {clip.id: clip for clip in clips.clips}
    with tempfile.TemporaryDirectory(dir=place) as bench:
        for item, target in missing:
            if target.exists():
                continue
            made = Path(bench) / target.name
            try:
                write_one(clips, by_id, item.clip, item.intervention, made)
            except (ValueError, OSError) as error:
                target.with_name(f"{target.stem}.missing.txt").write_text(str(error))
            else:
                made.replace(target)


def _chosen(before: Sequence[Judged], after: Sequence[Judged]) -> str:
    better, worse = telling.turned(before, after)
    old = {j.item.id: j.score.correct for j in before}
    plain = [
        (old[j.item.id], j.score.correct)
        for j in after
        if j.item.condition in scorecard.UNTOUCHED and None not in (old[j.item.id], j.score.correct)
    ]
    up, down = (sum(was is not now and now is want for was, now in plain) for want in (True, False))
    return (
        f"On changed clips {how_many(len(better), 'answer')} turned right and {len(worse):,} turned wrong. These "
        "were picked "
        "by a rule, not by hand: in that proportion, at least one of each, spread over clips and kinds of change. "
        f"On the untouched clips {how_many(up, 'answer')} turned right and {down:,} turned wrong."
    )


def _sections(drawn: bool, tables: Sequence[Table], trained: bool) -> list[tuple[str, str]]:
    looked = any(not t.id.startswith("compare-") for t in tables)
    return [
        ("card", "Scorecard"), ("watch", "See and hear"), *([("charts", "Charts")] if drawn else []),
        *([("inside", "Inside the model")] if looked else []), *([("training", "Training")] if trained else []),
        ("tables", "Tables"), ("again", "Run it again"), ("words", "Words"),
    ]  # fmt: skip
