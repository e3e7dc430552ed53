"""The command line: what is printed, what is said on bad input, and which code comes back."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from earwitness.cli import app

ROOT = Path(__file__).parent.parent
runner = CliRunner()
pytestmark = pytest.mark.usefixtures("few_media")


def _run(*words: str) -> tuple[int, str]:
    done = runner.invoke(app, list(words), env={"COLUMNS": "200", "NO_COLOR": "1"})
    return done.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", done.output)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    code, text = _run("foley", "--n", "2", "--kind", "impact", "--out", str(folder))
    assert code == 0, text
    return folder


def test_an_audit_of_files_ends_in_a_report_and_can_be_scored_again(clips: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("audit", "-m", "fake:sees", "--clips", str(clips), "--protocol", "thud", "--out", str(run))
    code, text = _run(*words)
    assert code == 0, text
    assert "report.html" in text
    assert (run / "report.html").exists()
    for again in (("score", str(run)), ("report", str(run)), ("compare", str(run), str(run)), words):
        code, text = _run(*again)
        assert code == 0, (again, text)


def test_a_dry_run_asks_nothing(tmp_path: Path) -> None:
    code, text = _run("audit", "-m", "fake:sees", "--limit", "3", "--dry-run", "--out", str(tmp_path / "run"))
    assert code == 0
    assert "decodes" in text
    assert not (tmp_path / "run").exists()


def test_of_one_it_is_not_spoken_as_of_many(tmp_path: Path) -> None:
    """A run on a single clip: plan, page, set and findings."""
    run = tmp_path / "run"
    code, text = _run("audit", "-m", "fake:sees", "--limit", "1", "--protocol", "mma,thud", "--out", str(run))
    assert code == 0, text
    code, linted = _run("lint", str(run))
    code, card = _run("foley", "--n", "1", "--out", str(tmp_path / "one"))
    assert code == 0, card
    for made in (("curate", "check", str(tmp_path / "one")), ("curate", "twins", str(tmp_path / "one"))):
        code, said = _run(*made, "--out", str(tmp_path / made[1]))
        assert code in (0, 2), said
        text += said
    pages = [run / "report.html", *tmp_path.glob("*/card.html")]
    assert len(pages) > 1
    shown = [re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", p.read_text(), flags=re.DOTALL) for p in pages]
    for words in (text, linted, *shown):
        many = r"(?<![\d.,-])\b1 (?:clips|questions|pairs|rows|items|shifts|answers)\b.{,30}"
        assert re.findall(many, words) == []


def test_a_deaf_harness_ends_with_3(tmp_path: Path) -> None:
    code, text = _run("audit", "-m", "fake:deaf", "--limit", "2", "--out", str(tmp_path / "run"))
    assert code == 3
    assert "deaf" in text
    code, text = _run("doctor", "-m", "fake:deaf")
    assert code == 3
    code, text = _run("doctor", "-m", "fake:hears")
    assert code == 0


def test_too_many_failed_items_end_with_1(tmp_path: Path) -> None:
    words = ("audit", "-m", "fake:crashes", "--limit", "2", "--protocol", "mma", "--out", str(tmp_path / "run"))
    code, text = _run(*words)
    assert code == 1
    assert "failed" in text
    code, _ = _run(*words, "--set", "max_failed=0.5")
    assert code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("audit", "-m", "nobody", "--out", "x"), "nobody"),
        (("audit", "-m", "fake:sees", "--out", "x", "--set", "seed"), "key=value"),
        (("audit", "-m", "fake:sees", "--out", "x", "--clips", "nowhere"), "no such folder"),
        (("audit", "-m", "fake:sees", "--out", "x", "--set", "concurrency=abc"), "abc: wants a whole number"),
        (("audit", "-m", "fake:sees", "--out", "x", "--set", "fps=0"), "fps=0: must be above 0"),
        (("audit", "-m", "fake:sees", "--out", "x", "--judge", "nobody"), "--judge: unknown model 'nobody'"),
        (("audit", "-m", "openai:http://127.0.0.1:9/v1#m", "--out", "x", "--workers", "2"), "is served"),
        (("doctor", "-m", "fake:hears", "--set", "device"), "key=value"),
        (("doctor", "-m", "fake:hears", "--set", "parts=video"), "fake:hears takes no parts"),
        (("score", "nowhere"), "run.json"),
        (("report", "nowhere"), "run.json"),
        (("look", "nowhere.mp4"), "nowhere.mp4"),
        (("render", "shift", "nowhere.mp4", "-o", "x.mp4", "--by", "0.4"), "nowhere.mp4"),
        (("render", "mixdown", "a.mp4", "-o", "x.mp4"), "mixdown"),
        (("render", "swap", "a.mp4", "-o", "x.mp4"), "two files"),
        (("power", "--gap", "5"), "gap"),
    ],
)
def test_bad_input_ends_with_2_and_names_it(words: tuple[str, ...], says: str) -> None:
    code, text = _run(*words)
    assert code == 2, text
    assert says in text
    assert "Traceback" not in text


SLIPS: list[tuple[str, str]] = [
    ("audit -m fake:sees --clips clips --protocol thud --out text.txt", "text.txt: is a file; wants a folder"),
    ("audit -m fake:sees --out x --workers 0", "--workers"),
    ("look clips/a.mp4 --png nodir/x.png", "nodir/x.png: no such file or directory"),
    ("look clips/a.mp4 --png x.jpg", "x.jpg: what is drawn is a PNG"),
    ("look text.txt", "text.txt: opening failed: Invalid data found when processing input (damaged"),
    ("render mute clips/a.mp4 -o x.avi", "x.avi: write clips as .mp4"),
    ("render mute clips/a.mp4 -o x.mp4 --fill room --unseen", "--unseen for shift"),
    ("render shift clips/a.mp4 -o x.mp4", "by how many seconds? --by"),
    ("render background clips/a.mp4 -o x.mp4", "which one? --name, one of wind, bird, rain"),
    ("render mute clips/a.mp4 -o clips/b.mp4", "or replace it (--overwrite"),
    ("foley --n 0 --out x", "greater than or equal to 1"),
    ("foley --n 1 --out text.txt", "text.txt: is a file; wants a folder"),
    ("lint clips --media nowhere", "--media nowhere: no such folder"),
    ("lint avhbench:numbers.json", "numbers.json: wants a list of objects"),
    ("lint noise.json", "noise.json: is not UTF-8 text"),
    ("sft-data avhbench:numbers.json --out x", "numbers.json: wants a list of objects, got a number among them"),
    ("export run --to parquet --out x.txt", "a Parquet file is called *.parquet, got 'x.txt'"),
    ("review clips --import empty", "empty: is a folder; wants a file"),
    ("review clips --annotators 0 --export x", "greater than or equal to 1"),
    ("review clips --export text.txt --to label-studio", "text.txt: is a file; wants a folder"),
    ("curate twins clips --set within=-1 --out x", "--set within=-1: wants LU above 0, at most 20"),
    ("curate twins clips --set loop=2 --out x", "--set loop=2: wants a share above 0"),
    ("curate check clips --tagger transformers:./nowhere --out x", "no folder ./nowhere"),
    ("curate ontology o.json --labels text.txt --media nowhere --out x", "--media nowhere: no such folder"),
    ("curate card run", "run is the folder of a run: that has a report, `earwitness report run`"),
]


@pytest.mark.parametrize(("words", "says"), SLIPS, ids=[w for w, _ in SLIPS])
def test_slips_end_with_2_and_are_told_in_words(
    words: str, says: str, slips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(slips)
    before = sorted(slips.iterdir())
    code, text = _run(*words.split())
    assert code == 2, text
    assert says in " ".join(text.split())
    assert "Errno" not in text
    assert sorted(slips.iterdir()) == before


@pytest.fixture(scope="module")
def slips(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and folders that are not what a verb wants."""
    home = tmp_path_factory.mktemp("slips")
    shutil.copytree(clips, home / "clips")
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(next(clips.glob("*.mp4")), home / "clips" / name)
    (home / "text.txt").write_text("hello\n")
    (home / "numbers.json").write_text("[1]")
    (home / "noise.json").write_bytes(b"\x87\xff")
    (home / "empty").mkdir()
    code, text = _run(
        "audit", "-m", "fake:sees", "--clips", str(clips), "--protocol", "thud", "--out", f"{home}/run"
    )
    assert code == 0, text
    return home


def test_look_and_render_on_a_file(clips: Path, tmp_path: Path) -> None:
    clip = next(clips.glob("*.mp4"))
    code, text = _run("look", str(clip), "--png", str(tmp_path / "strip.png"))
    assert code == 0, text
    assert (tmp_path / "strip.png").read_bytes()[:4] == b"\x89PNG"
    for kind, *more in (
        ("mute",),
        ("shift", "--by", "0.4"),
        ("background", "--name", "rain"),
        ("black",),
        ("freeze",),
    ):
        code, text = _run("render", kind, str(clip), "-o", str(tmp_path / f"{kind}.mp4"), *more)
        assert code == 0, text
        assert (tmp_path / f"{kind}.mp4").exists()
    code, text = _run("render", "mute", str(clip), "-o", str(tmp_path / "mute.mp4"))
    assert code == 2
    assert "exists" in text


def test_a_shift_in_milliseconds_is_recognised(clips: Path, tmp_path: Path) -> None:
    clip = next(clips.glob("*.mp4"))
    code, text = _run("render", "shift", str(clip), "-o", str(tmp_path / "x.mp4"), "--by", "400")
    assert code == 2
    assert "milliseconds" in text


def test_power_prints_a_table() -> None:
    code, text = _run("power", "--gap", "0.2")
    assert code == 0
    assert "clips" in text


def test_the_made_pages_are_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("make_pages", ROOT / "docs" / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in module.PAGES.items():
        assert (ROOT / "docs" / name).read_text() == text(), f"{name} is out of date: run `make docs`"
