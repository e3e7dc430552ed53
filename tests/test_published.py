"""The published figures: addresses, units, the papers' own arithmetic over them, and how a report shows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import test_report as made
from earwitness import protocols, published, report, stats
from earwitness import run as runs
from earwitness.published import PublishedTable, Result
from earwitness.published.reading import Column, table
from earwitness.records import Estimate, Row, Table
from earwitness.report.published import CAUTION, SHEETS, beside

EVERY = [r for t in published.tables() for r in t.results]
SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def of(paper: str, name: str) -> PublishedTable:
    return next(t for t in published.tables(paper) if t.table == name)


def by(results: Sequence[Result]) -> dict[tuple[str, str, str], float]:
    return {(r.model, r.metric, r.condition): r.value for r in results}


# --- addresses and units ---
def test_every_figure_has_one_address_and_its_unit() -> None:
    addresses = Counter((r.paper, r.table, r.model, r.metric, r.condition) for r in EVERY)
    assert addresses.most_common(1)[0][1] == 1
    for r in EVERY:
        span = {"share": (0.0, 1.0), "score": (0.0, 5.0), "difference": (-1.0, 1.0)}[r.unit]
        assert span[0] <= r.value <= span[1], r
        assert published.value(r.paper, r.table, r.model, r.metric, r.condition) is r
    for t in published.tables():
        assert "arXiv" in t.source
        assert t.results
    assert {t.paper for t in published.tables()} == {"mma", "thud", "av_confuse"}


def test_how_many_figures_each_table_has() -> None:
    """As many as the print has cells, those left out on purpose taken off."""
    sizes = {(t.paper, t.table): len(t.results) for t in published.tables()}
    assert sizes["mma", "Table 3"] == 9 * 4
    assert sizes["mma", "Table 4"] == 5 * 2
    assert sizes["mma", "Table 5"] == 4 * 2
    assert sizes["mma", "Table 6"] == 4 * 2
    assert sizes["mma", "Table 9"] == 4 * 4
    assert sizes["mma", "Table 10"] == 7 * 2  # of six columns: the others repeat Table 3
    assert sizes["mma", "Table 11"] == 2 * 4  # the other two rows repeat Table 3
    assert sizes["thud", "Figure 3"] == 6 * 8
    assert sizes["av_confuse", "Table 1"] == 5 * 4  # without the row of chance
    assert sizes["av_confuse", "Table 3"] == 8 * 7
    assert sizes["av_confuse", "Table 4"] == 5 * 11
    assert sizes["av_confuse", "Table 5"] == 7 * 9
    assert sizes["av_confuse", "Table 6"] == 4 * 4 - 2
    assert sizes["av_confuse", "Table 7"] == 4


def test_an_address_that_leads_nowhere_says_where_it_breaks() -> None:
    assert published.value("mma", "Table 3", "Gemini-2.5-Pro", "audio accuracy", "audio_swapped").value == 0.2495
    with pytest.raises(
        ValueError, match=r"mma: no model 'Gemini-9' there; there are ChatBridge, Gemini-2\.0-Flash"
    ):
        published.value("mma", "Table 3", "Gemini-9", "audio accuracy", "aligned")
    with pytest.raises(ValueError, match="there are mma, thud, av_confuse"):
        published.tables("avhbench")
    assert len(published.rows("visual abstention", "frames_zeroed")) == 7
    assert published.rows("visual abstention", paper="thud") == ()


def test_a_line_with_a_figure_too_few_is_named() -> None:
    cols = (Column("accuracy", "a"), Column("accuracy", "b"))
    with pytest.raises(ValueError, match="Table 0, someone: 1 figures for 2 columns"):
        table("x", "Table 0", "", "", cols, "someone | 12.5")
    with pytest.raises(ValueError, match="'1o' is no number"):
        table("x", "Table 0", "", "", cols, "someone | 12.5 1o")
    with pytest.raises(ValueError, match="marked suspect, and not in the table"):
        table("x", "Table 0", "", "", cols, "someone | 1 2", suspect={("someone", "c"): "odd"})
    done = table("x", "Table 0", "", "", cols, "someone | - 2", suspect={("someone", "b"): "odd"})
    assert [(r.condition, r.value, r.suspect) for r in done.results] == [("b", 0.02, "odd")]


# --- intervals ---
def test_intervals_are_wilsons_where_n_is_known() -> None:
    tuned = published.value("mma", "Table 3", "Qwen2.5-Omni-7B tuned", "audio accuracy", "audio_swapped")
    found, own = tuned.interval(), stats.wilson(525, 658)
    assert found is not None
    assert (found.low, found.high, found.n, found.clusters) == (own.low, own.high, 658, 658)
    assert found.value == tuned.value
    assert "ours" in found.method
    wider = tuned.interval(0.99)
    assert wider is not None
    assert wider.low < found.low
    for r in EVERY:
        e = r.interval()
        assert (e is None) == (r.n is None or r.unit != "share" or bool(r.suspect))
        if e is not None:
            assert 0 <= e.low <= e.value <= e.high <= 1
            assert 0 < e.high - e.low < 0.25


# --- the papers' own arithmetic ---
def test_mma_differences_as_printed() -> None:
    values = by([*of("mma", "Table 3").results, *of("mma", "Table 4").results, *of("mma", "Table 5").results])
    for r in of("mma", "Table 5, gains").results:
        asked = r.metric.removesuffix(" gain")
        base = values["Qwen2.5-Omni-7B", asked, r.condition]
        assert values[r.model, asked, r.condition] - base == pytest.approx(r.value, abs=1e-6), r
    aligned = {k: v for k, v in by(of("mma", "Table 4").results).items() if k[2] == "aligned"}
    assert len(aligned) == 2  # Table 4 repeats two figures of Table 3
    assert aligned.items() <= by(of("mma", "Table 3").results).items()
    avh = by(of("mma", "Table 6").results)
    for task, gain in (("video-driven audio", 0.082), ("audio-driven video", 0.047)):
        where = ("accuracy", f"avhbench, {task} hallucination")
        rise = avh["Qwen2.5-Omni-7B tuned", *where] - avh["Qwen2.5-Omni-7B", *where]
        assert rise == pytest.approx(gain, abs=6e-4)


def test_thud_identities() -> None:
    figure = by(of("thud", "Figure 3").results)
    axis = {(model, name): value for (model, name, _), value in figure.items()}
    shift = published.value("thud", "Table 1, Qwen3-Omni", "Qwen3-Omni", "sync accuracy", "shift").value
    sync = published.value("thud", "Table 1, Qwen3-Omni", "Qwen3-Omni", "sync accuracy", "original").value
    assert sync == 1 - axis["Qwen3-Omni", "False Sync Alarm"]
    said = (1 - axis["Qwen3-Omni", "Offset Blindness"]) * (1 - axis["Qwen3-Omni", "Direction Confusion"])
    assert shift == pytest.approx(said, abs=0.005)
    three = published.value(
        "thud", "Table 2", "Qwen3-Omni-30B", "sync accuracy, three classes", "original and shift"
    ).value
    assert (sync + 2 * shift) / 3 == pytest.approx(three, abs=6e-4)
    for r in published.rows("Avg Gap"):
        dodge = axis[r.model, "Audio Dodge"]
        original = (
            1 - axis[r.model, "False Sync Alarm"],
            1 - axis[r.model, "False Silence"] - dodge,
            1 - axis[r.model, "Swap False-Mismatch"],
        )
        changed = (
            (1 - axis[r.model, "Offset Blindness"]) * (1 - axis[r.model, "Direction Confusion"]),
            1 - axis[r.model, "Mute Hallucination"] - dodge,
            1 - axis[r.model, "Swap False-Match"],
        )
        gap = sum(a - b for a, b in zip(original, changed, strict=True)) / 3
        assert r.value == pytest.approx(gap, abs=0.01), r.model


@pytest.mark.parametrize("name", ["Table 1", "Table 6"])
def test_muted_shares_are_whole_answers_of_73(name: str) -> None:
    values = by(of("av_confuse", name).results)
    for (model, metric, condition), value in values.items():
        if metric == "accuracy":
            assert abs(value * 73 - round(value * 73)) / 73 < 1.5e-4, model  # some are cut off, not rounded
            assert value + values[model, "says yes", condition] == pytest.approx(1, abs=1e-9)


def test_gains_and_means_of_rl_comm() -> None:
    values = by(of("av_confuse", "Table 3").results)
    for r in of("av_confuse", "Table 3, gains").results:
        base = values["Qwen2.5-Omni-3B", "accuracy", r.condition]
        assert values[r.model, "accuracy", r.condition] - base == pytest.approx(r.value, abs=1e-6), r.condition
    for name, mean, parts in (("Table 3", "music-avqa, mean", 5), ("Table 4", "music-avqa-r, mean", 10)):
        results = of("av_confuse", name).results
        for model in dict.fromkeys(r.model for r in results):
            row = [r for r in results if r.model == model and r.condition.startswith("music")]
            whole = next(r for r in row if r.condition == mean)
            rest = [r.value for r in row if r is not whole]
            assert len(rest) == parts
            assert (min(rest) <= whole.value <= max(rest)) == (not whole.suspect), (name, model)
    ablation = by(of("av_confuse", "Table 7").results)
    assert [*ablation.values()] == [
        values[f"Qwen2.5-Omni-3B{m}", "accuracy", "music-avqa, mean"] if m is not None else 0.7449
        for m in ("", " GRPO", None, " RL-CoMM")
    ]


def test_avhbench_rows_are_suspect_exactly_where_they_contradict_themselves() -> None:
    """Half the labels are yes: precision and F1 give recall, false alarms, and with them the accuracy."""
    results = of("av_confuse", "Table 5").results
    found = by(results)
    for r in results:
        if r.metric != "accuracy":
            continue
        precision, f1 = found[r.model, "precision", r.condition], found[r.model, "F1", r.condition]
        recall = f1 * precision / (2 * precision - f1)
        alarms = recall * (1 - precision) / precision
        off = abs((recall + 1 - alarms) / 2 - r.value)
        assert (off > 0.01) == bool(r.suspect), (r.model, r.condition, off)
        assert r.suspect or off < 0.003


@pytest.mark.real
def test_n_of_avhbench_is_that_of_its_file() -> None:
    file = SHARED / "avhbench_qa.json"
    if not file.exists():
        pytest.skip("avhbench_qa.json is not at hand (set EARWITNESS_SHARED)")
    counts = Counter(row["task"] for row in json.loads(file.read_text("utf-8")))
    for paper in ("mma", "av_confuse"):
        said = {r.condition: r.n for r in published.rows("accuracy", paper=paper) if "avhbench" in r.condition}
        assert said == {
            "avhbench, matching": counts["AV Matching"],
            "avhbench, video-driven audio hallucination": counts["Video-driven Audio Hallucination"],
            "avhbench, audio-driven video hallucination": counts["Audio-driven Video Hallucination"],
        }


# --- beside a run ---
@pytest.fixture(scope="module")
def tables() -> list[Table]:
    judged = made.run_of(12, made.never)
    return [t for name in protocols.NAMES if name != "benchmark" for t in protocols.load(name).tables(judged)]


def test_the_run_stands_first_and_the_papers_under_it(tables: list[Table]) -> None:
    found = {t.id: t for t in beside("hans", tables)}
    assert set(found) == {"mma_published", "mma_published_changes", "mma_published_styles", "thud_published",
        "confuse_published"}  # fmt: skip
    for t in found.values():
        assert t.rows[0].label == "hans"
        assert t.rows[0].kind == "model"
        assert {r.kind for r in t.rows[1:]} == {"reference"}
        assert CAUTION in t.caption
        assert all(len(r.cells) == len(t.columns) for r in t.rows)
        assert all(any(c is not None for c in r.cells) for r in t.rows)
    t = found["mma_published"]
    own = next(x for x in tables if x.id == "mma_accuracy")
    swapped = next(r for r in own.rows if r.label == "audio swapped")
    assert t.rows[0].cells[t.columns.index("audio, audio swapped")] == swapped.cells[1]
    gemini = next(r for r in t.rows if r.label == "Gemini-2.5-Pro")
    cell = gemini.cells[t.columns.index("audio, audio swapped")]
    assert isinstance(cell, Estimate)
    assert cell.value == 0.2495
    thud = found["thud_published"]
    gap = next(r for r in thud.rows if r.label == "MiMo-V2.5").cells[thud.columns.index("Avg Gap")]
    assert gap == 0.784  # no n, no interval: a bare figure
    assert "Qwen3-Omni" not in {r.label for r in found["confuse_published"].rows}


def test_every_column_of_every_sheet_has_a_published_figure() -> None:
    for sheet in SHEETS:
        there = {(r.metric, r.condition) for source in sheet.sources for r in of(*source).results}
        for twin in sheet.twins:
            assert (twin.metric, twin.condition) in there, (sheet.id, twin.title)


def test_other_prompts_have_no_twin(tables: list[Table]) -> None:
    """Direct questions are another measurement: Thud's rows are of neutral ones, AV-Confuse's of leading ones."""
    neutral = [t for t in tables if not t.id.endswith(("_neutral", "_leading"))]
    assert {t.id for t in beside("hans", neutral)} == {
        "mma_published",
        "mma_published_changes",
        "mma_published_styles",
    }
    assert beside("hans", []) == []


def test_marks_of_a_judge_and_tasks_of_avhbench() -> None:
    """Tables that other rooms make: their ids, labels and columns are looked up by name."""
    e = Estimate(0.7, 0.6, 0.8, 50, 50, "Wilson")
    marks = Table(
        id="judge_confuse_scores", title="", caption="", columns=("A-score", "V-score", "answers"), unit="score",
        rows=(Row("sound replaced, all", (2.5, 4.0, 100)), Row("untouched (control)", (4.5, 4.5, 20))),
    )  # fmt: skip
    tasks = Table(
        id="benchmark_accuracy", title="", caption="", columns=("accuracy", "chance"), unit="mixed",
        rows=(Row("AV Matching", (e, 0.5)), Row("most common answer of each task", (0.5, None), "baseline")),
    )  # fmt: skip
    one, two = beside("mine", [marks, tasks])
    assert (one.id, one.unit, one.columns) == ("confuse_published_marks", "score", ("audio score", "visual score"))
    assert one.rows[0] == Row("mine", (2.5, 4.0))
    assert {r.label: r.cells for r in one.rows}["Gemini 2.5 Pro"] == (2.83, 4.66)
    assert "Qwen2.5-Omni-3B SFT" not in {r.label for r in one.rows}  # the paper gives it no marks
    assert (two.id, two.columns) == ("benchmark_published_avhbench", ("AV Matching",))
    labels = [r.label for r in two.rows]
    assert labels[:3] == ["mine", "Qwen2.5-Omni-7B", "Qwen2.5-Omni-7B tuned"]
    assert "PandaGPT" in labels
    assert "ChatBridge" not in labels  # its row contradicts itself


@pytest.mark.parametrize("measured", ["model", "sent"])
def test_the_report_says_where_its_receipts_were_measured(tmp_path: Path, measured: Any) -> None:
    judged = made.run_of(3, made.never, names=("mma",))
    told = [
        replace(
            j,
            answer=msgspec.structs.replace(j.answer, fed=msgspec.structs.replace(j.answer.fed, measured=measured)),
        )
        for j in judged
        if j.answer.fed is not None
    ]
    folder = made.write_run(tmp_path / "run", told)
    info = runs.read_info(folder)
    if measured == "sent":
        info.checks[0]["proof"] = "its answers change with the sound"
        runs.write_info(folder, info)
    page = report.build(folder).read_text("utf-8")
    assert ("measured after its own preprocessing" in page) == (measured == "model")
    assert ("Receipts of what was sent to the server" in page) == (measured == "sent")
    assert ("The sound: its answers change with the sound." in page) == (measured == "sent")
    assert ("the model's input was measured where it arrives" in page) == (measured == "model")


def test_the_report_shows_them_collapsed(tmp_path: Path) -> None:
    folder = made.write_run(tmp_path / "run", made.run_of(12, made.never))
    page = report.build(folder).read_text("utf-8")
    for name in ("mma_published", "thud_published", "confuse_published"):
        assert f'<details class="tablebox" id="table-{name}">' in page
    assert page.count("this is no ranking") == 5
    assert "Gemini-3.1-Pro" in page


def test_the_core_needs_nothing_else() -> None:
    code = (
        "import sys, earwitness.published; sys.exit(bool({'torch', 'openai', 'jinja2', 'av'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
