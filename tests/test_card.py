"""The dataset card: counted from the set's files, honest about what was not checked, one page that stands alone."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from earwitness import media
from earwitness import run as runs
from earwitness.cli import app
from earwitness.curate import card, card_history, card_tables, card_text
from earwitness.curate.checks import checking, files, wishes
from earwitness.curate.checks.outcome import Rung
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.jobs import Measured
from earwitness.records import Clip, Estimate, Row, Table
from earwitness.report import dataset
from vega_words import warned

RATE, FPS, LONG = 16_000, 8.0, 1.5
EVIL = "<script>document.title='owned'</script>"


def video(path: Path, seed: int = 0, level: float = 0.2) -> Path:
    """A small clip: a pattern of its own over which something moves, and noise."""
    rng = np.random.default_rng(seed)
    pattern = np.kron(rng.integers(20, 220, (6, 8, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
    frames = np.repeat(pattern[None], round(LONG * FPS), axis=0)
    for n, frame in enumerate(frames):
        frame[20:28, 2 * n : 2 * n + 8] = 255
    wave = np.clip(level * rng.standard_normal((1, round(LONG * RATE))), -1, 1).astype(np.float32)
    media.write_clip(frames, FPS, wave, RATE, path)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of their own and one that is a copy under another name, in another split."""
    at = tmp_path_factory.mktemp("home")
    rows = ["path,seen,heard,source,licence,split"]
    for n, (kind, licence) in enumerate((("Cat", "CC0-1.0"), ("Rain", "CC-BY-4.0"), (EVIL, ""))):
        video(at / f"k{n}.mp4", seed=n + 1, level=0.05 * (n + 1))
        rows.append(f'k{n}.mp4,"{kind}","{kind}",v{n},{licence},test')
    shutil.copy(at / "k0.mp4", at / "copy.mp4")
    rows.append("copy.mp4,Cat,Cat,v0,CC0-1.0,train")
    (at / "labels.csv").write_text("\n".join(rows) + "\n")
    return at


@pytest.fixture(scope="module")
def made(home: Path) -> card.Card:
    return card.read(home)


def clip(name: str, kind: str = "Cat", **more: Any) -> Clip:
    return Clip(id=name, path=f"{name}.mp4", seen=(kind,), heard=(kind,), **more)


def found(**more: Any) -> Measured:
    known = {"seconds": 2.0, "whole": 2.0, "fps": 8.0, "width": 64, "height": 48, "sound": True, "lufs": -20.0,
             "peak": 0.5, "sha256": "s", "video_hash": "v", "audio_hash": "a"}  # fmt: skip
    return msgspec.convert({**known, **more}, Measured)


# ---------------------------------------------------------------- what is counted


def test_the_figures_are_those_of_the_files(made: card.Card) -> None:
    assert made.sentence == "4 clips of 3 classes: checked by nothing"
    told = {f.title: f for f in made.figures}
    assert told["Clips"].value == "4"
    assert "of 3 source recordings" in told["Clips"].plain
    assert told["Length"].value == "6 s"
    assert made.classes == {"Cat": (2, 2), EVIL: (1, 1), "Rain": (1, 1)}
    assert all(m.seconds == pytest.approx(LONG, abs=0.01) for m in made.measured.values())


def test_what_was_not_checked_is_said(made: card.Card) -> None:
    said = " ".join(made.limits)
    assert "Nothing has checked whether the clips show and sound like their labels" in said
    assert "No person has judged the clips" in said
    assert "licence of 1 of 4 clips is unknown" in said
    assert "1 clip is under a licence that asks for credit" in said
    assert "3 of 3 classes have fewer than 5 clips" in said
    assert "No clip has labelled event times" in said
    assert "nothing is held out" not in said  # there are two splits


def test_copies_and_leaks_are_found(made: card.Card) -> None:
    tables = {t.id: t for some in made.sections.values() for t in some}
    assert [r.cells for r in tables["card_duplicates"].rows] == [(2, 1, 1), (2, 1, 1), (2, 1, 1)]
    assert "k0 = copy" in tables["card_duplicates"].caption
    assert "1 source recording stands in two splits (v0): a leak" in tables["card_splits"].caption
    assert {r.label: r.cells for r in tables["card_licences"].rows} == {
        "CC0-1.0": (2, 1), "CC-BY-4.0": (1, 1), "unknown": (1, 1),
    }  # fmt: skip


def test_the_linter_is_asked(made: card.Card) -> None:
    (table,) = made.sections["lint"]
    assert table.id == "card_lint_clips"
    assert {"media_missing", "no_sound_track"} <= {r.label for r in table.rows}


def test_nothing_is_measured_twice(home: Path, made: card.Card) -> None:
    log = home / "card" / "work" / "measuring" / "answers.jsonl"
    before = log.read_bytes()
    again = card.read(home)
    assert again.measured == made.measured
    assert log.read_bytes() == before


def test_measuring_can_be_left_out(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home, tmp_path / "set", ignore=shutil.ignore_patterns("card"))
    plain = card.read(tmp_path / "set", measure=False)
    assert not plain.measured
    assert "Lengths and loudness of 4 clips were not measured." in plain.limits
    assert not (tmp_path / "set" / "card").exists()


def test_missing_files_are_said_and_not_fatal(tmp_path: Path) -> None:
    lines = [{"path": f"{name}.mp4", "seen": ["Cat"], "heard": ["Cat"]} for name in ("a", "b")]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = card.read(tmp_path)
    assert found.kind == "selected samples"
    assert "The files of 2 of 2 clips are not there, for example a.mp4." in found.limits


def test_a_clip_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    video(tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no film")
    (tmp_path / "labels.jsonl").write_text(
        "".join(json.dumps({"path": f"{n}.mp4", "seen": ["Cat"], "heard": ["Cat"]}) + "\n" for n in ("good", "bad"))
    )
    found = card.read(tmp_path)
    assert any(line.startswith("1 clip cannot be decoded, for example bad:") for line in found.limits)
    assert (
        any(r.label == "could not be read" for t in found.sections["lint"] for r in t.rows)
        or found.sections["lint"]
    )


@pytest.mark.parametrize(
    ("files", "why"), [([], "no labels file"), (["labels.csv", "clips.jsonl"], "name the one")]
)
def test_what_is_no_set_is_refused(files: list[str], why: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).write_text("path,seen\na.mp4,Cat\n")
    with pytest.raises(ValueError, match=why):
        card.read(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        card.read(tmp_path / "nowhere")


def test_evenness_is_the_number_of_equal_classes() -> None:
    assert card_tables.evenness([5, 5, 5, 5]) == pytest.approx(4)
    assert card_tables.evenness([100, 1]) == pytest.approx(1.057, abs=0.001)
    assert card_tables.evenness([]) == 0


def test_lengths_have_least_middle_and_most() -> None:
    clips = [clip("a"), clip("b"), clip("c")]
    table = card_tables.contents(clips, {"a": found(seconds=1.0), "b": found(seconds=2.0, lufs=None), "c": found()})
    assert table.rows[0].cells == ("1.00", "2.00", "2.00", 3)
    assert table.rows[1].cells == ("\u221220.0", "\u221220.0", "\u221220.0", 2)
    assert "1 clip silent or without a track" in table.caption


# ---------------------------------------------------------------- the way to the set


def record(folder: Path, made_from: str, steps: list[tuple[str, int, int, int]]) -> Path:
    """A checked folder by hand: its record, funnel and (empty) verdicts."""
    folder.mkdir(parents=True, exist_ok=True)
    info = files.Info(clips=made_from, asked=wishes.asked(), command=f"earwitness curate check {made_from}")
    files.write_info(folder, info)
    rungs = [Rung(name=n, asked=0, failed=f, untold=u, left=left) for n, left, f, u in steps]
    (folder / "funnel.json").write_bytes(msgspec.json.encode({"steps": rungs}))
    runs.write_lines(folder / "verdicts.jsonl", [])
    return folder


def test_the_funnel_goes_back_over_all_steps(tmp_path: Path) -> None:
    mma = tmp_path / "mma"
    mma.mkdir()
    (mma / "classes.csv").write_text("# Class file mma-1\n")
    with (mma / "funnel.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("table", "step", "column", "count"))
        lines.writerows(
            [("curate_classes", "x", "labels", 527), ("curate_samples", "segments", "left", 20371),
             ("curate_samples", "of one root", "left", 9000), ("curate_samples", "of one root", "dropped", 11371),
             ("curate_samples", "of one class", "left", 3518)]
        )  # fmt: skip
    ok = record(
        tmp_path / "ok", str(mma), [("manifest", 3518, 0, 0), ("visible", 1300, 2218, 5), ("told", 1102, 0, 198)]
    )
    steps = card_history.history(ok)
    assert [s.verb for s in steps] == ["curate ontology", "curate check"]
    found = card_history.funnel(steps, 658)
    assert [(r.name, r.left) for r in found] == [
        ("segments", 20371), ("of one root", 9000), ("of one class", 3518),
        ("visible, with the sound removed", 1300), ("every question answered", 1102), ("in the set", 658),
    ]  # fmt: skip
    grown = card_history.funnel(steps, 1200)  # scenes are clips that nobody dropped or kept
    assert (grown[-1].name, grown[-1].left) == ("in the set, with what was made of others", 1200)
    assert card_tables.funnel_table(found).rows[-1].cells == (658, "3.2 %", 444, 0, None)


def test_a_part_of_a_step_is_said_to_be_a_part(tmp_path: Path) -> None:
    first = record(tmp_path / "one", "gone", [("manifest", 90, 0, 0), ("told", 80, 0, 10)])
    second = record(tmp_path / "two", str(first), [("manifest", 20, 0, 0), ("told", 19, 0, 1)])
    found = card_history.funnel(card_history.history(second), 19)
    assert [(r.name, r.left) for r in found] == [
        ("in the manifest", 90), ("every question answered", 80), ("taken from one", 20),
        ("every question answered", 19),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "verb", "more"),
    [("events.json", "curate events", {"clips": "foley"}), ("starter.json", "curate starter", {"clips": 4})],
)
def test_the_records_of_other_makings_are_read(name: str, verb: str, more: dict[str, Any], tmp_path: Path) -> None:
    kept = {"command": f"earwitness {verb}", "versions": {"earwitness": "1"}, "seed": 0, **more}
    (tmp_path / name).write_bytes(msgspec.json.encode(kept))
    (step,) = card_history.history(tmp_path)
    assert (step.verb, step.command, step.versions) == (verb, f"earwitness {verb}", (("earwitness", "1"),))
    assert step.clips == ("foley" if verb == "curate events" else "")
    (tmp_path / name).write_text("[]")  # of another making
    assert card_history.history(tmp_path)[0].verb == ""


def test_a_folder_that_names_itself_ends(tmp_path: Path) -> None:
    me = record(tmp_path / "me", str(tmp_path / "me"), [("manifest", 3, 0, 0)])
    assert len(card_history.history(me)) == 1


def test_the_judge_is_held_against_the_audited_again(tmp_path: Path) -> None:
    """A record edited by hand, or of an older version, does not hide it."""
    at = record(tmp_path / "ok", "clips", [("manifest", 1, 0, 0)])
    info = files.read_info(at)
    assert info is not None
    info.asked = wishes.asked(["hans"], ["hans-cured"])
    info.judges = [files.Judge(spec="hans", name="hans", revision="1")]
    files.write_info(at, info)
    (at / "labels.jsonl").write_text('{"path": "a.mp4", "seen": ["Cat"], "heard": ["Cat"]}\n')
    runs.write_lines(at / "verdicts.jsonl", [Verdict(clip="a", check="visible", passed=True, by="hans 1")])
    found = card.read(at)
    assert "The judge hans is of the audited family of hans-cured: both are of the family hans." in found.limits
    assert found.sentence.endswith("checked by the judge hans")


# ---------------------------------------------------------------- text and page


def test_markdown_shows_names_as_they_are(made: card.Card) -> None:
    text = card_text.markdown(made, "card/funnel.svg")
    assert text.startswith(f"# {made.name.replace('_', chr(92) + '_')}")
    assert "<script>" not in text
    assert "\\<script\\>" in text
    assert "(`earwitness review`)" in text
    for line in text.splitlines():
        if line.startswith("|") and "---" not in line:
            assert len(re.findall(r"(?<!\\)\|", line)) >= 3


def test_markdown_gives_estimates_with_their_interval() -> None:
    kappa = Estimate(0.81, 0.6, 0.95, 30, 30, "delta")
    share = Estimate(0.9, 0.8, 0.96, 30, 30, "Wilson")
    table = Table(
        id="t", title="t", caption="", columns=("kappa", "equal"), rows=(Row("a", (kappa, share)),), unit="mixed"
    )
    lines = list(card_text._table(table))
    assert lines[2] == "| a | 0.81 [0.60, 0.95], n 30 | 90.0 % [80.0 %, 96.0 %], n 30 |"


@pytest.fixture(scope="module")
def page(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The card of a checked set, whose funnel has something to show."""
    out = tmp_path_factory.mktemp("checked")
    checking.check(str(home), out, wishes.asked(["fake:hears"], ["hans"], every=True))
    return dataset.build(out)


def test_the_page_stands_alone_and_escapes(page: Path) -> None:
    text = page.read_text()
    assert EVIL not in text
    assert "&lt;script&gt;document.title" in text
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text)
    assert "Known limits" in text
    assert (page.parent / "card.md").read_text().count("card/funnel.svg") == 1
    assert {p.name for p in (page.parent / "card").glob("*.png")} == {
        "funnel.png", "classes.png", "seconds.png", "loudness.png",
    }  # fmt: skip


def test_vega_warns_of_no_chart(made: card.Card, page: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert warned(page.parent / "card", capfd) == []
    apart = replace(made, clips=[*made.clips, Clip(id="x", path="x.mp4", seen=("Rain",))])  # two bars a class
    assert warned(dataset.charts(apart), capfd) == []


def test_the_chart_folds_gates_that_dropped_none() -> None:
    rungs = [Rung(name="manifest", asked=9, failed=0, untold=0, left=9)]
    rungs += [Rung(name=f"g{n}", asked=9, failed=0, untold=0, left=9, by="gates-1") for n in range(4)]
    rungs += [Rung(name="g5", asked=9, failed=2, untold=0, left=7, by="gates-1")]
    rungs += [Rung(name="visible", asked=7, failed=0, untold=0, left=7, by="m 1")]
    assert [(r.name, r.left) for r in dataset._folded(rungs)] == [
        ("manifest", 9), ("4 gates that dropped none", 9), ("g5", 7), ("visible", 7),
    ]  # fmt: skip


def test_an_empty_set_has_a_card(tmp_path: Path) -> None:
    at = record(tmp_path / "ok", "clips", [("manifest", 4, 0, 0), ("told", 0, 0, 4)])
    (at / "labels.jsonl").write_text("")
    found = card.read(at)
    assert found.sentence.startswith("No clip is left")
    assert "The set is empty: no clip passed." in found.limits
    assert [c.id for c in dataset.charts(found)] == ["funnel"]


def test_the_verb_writes_the_card_of_any_labels_folder(tmp_path: Path) -> None:
    video(tmp_path / "a.mp4")
    (tmp_path / "labels.csv").write_text("path,seen,heard\na.mp4,Cat,Cat\n")
    done = CliRunner().invoke(app, ["curate", "card", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "card.html").exists()
    assert CliRunner().invoke(app, ["curate", "card", str(tmp_path / "no")]).exit_code == 2


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_in_a_browser(browser: Any, page: Path, width: int) -> None:
    asked: list[str] = []
    wrong: list[str] = []
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("pageerror", lambda e: wrong.append(str(e)))
    tab.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    tab.goto(page.as_uri())
    tab.wait_for_selector("#funnel .vega-embed svg", timeout=60_000)
    assert tab.title().endswith("dataset card · Earwitness")
    assert not wrong
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()
