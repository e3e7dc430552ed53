"""What builders do first: bad words on a command line are told in the verb's own terms, before any work is done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from earwitness import foley
from earwitness import run as runs
from earwitness.cli import app
from earwitness.curate import building, funnel, jobs, opening
from earwitness.curate.checks import gates, wishes
from earwitness.curate.jobs import Key, Measure, Measured
from earwitness.curate.lint import lint
from earwitness.curate.manifest import wish
from earwitness.records import Clip


class Made(msgspec.Struct):
    """A folder's record."""

    clips: str
    command: str = ""


def alike(made: Made) -> Mapping[str, object]:
    return {"clips": made.clips}


def said(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, " ".join((done.output + done.stderr).split())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of different classes."""
    at = tmp_path_factory.mktemp("home")
    foley.write(at, foley.clip_set(2, kind="impact", classes=["bell", "drum"], duration=1.5))
    return at


def test_a_folder_is_new_or_holds_this_very_set(tmp_path: Path) -> None:
    opening.folder(tmp_path / "new", "a set", Made("a"), None, alike)
    assert (tmp_path / "new").is_dir()
    (tmp_path / "new" / "work").mkdir()
    opening.folder(tmp_path / "new", "a set", Made("a"), None, alike, free=("work",))
    with pytest.raises(runs.RunError, match="not empty and holds no set: take another --out"):
        opening.folder(tmp_path / "new", "a set", Made("a"), None, alike)
    opening.folder(tmp_path / "new", "a set", Made("a"), Made("a", "old words"), alike)
    with pytest.raises(runs.RunError, match=r"a set with another clips \(b, now a\).*or the old command: it was"):
        opening.folder(tmp_path / "new", "a set", Made("a"), Made("b", "it was"), alike)
    (tmp_path / "file").touch()
    with pytest.raises(runs.RunError, match=r"--out .*file: is a file; wants a folder"):
        opening.folder(tmp_path / "file", "a set", Made("a"), None, alike)


@pytest.mark.parametrize(
    "verb", [("check",), ("twins",), ("events", "-a", "fake:annotator")], ids=lambda verb: verb[0]
)
def test_no_verb_names_a_flag_that_it_has_not(verb: tuple[str, ...], tmp_path: Path) -> None:
    code, text = said("curate", *verb, str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"))
    assert code == 2
    assert "nowhere: no such folder or labels file" in text
    assert "--clips" not in text
    asked = {"video_id": "7", "task": "AV Matching", "text": "Do they match?", "label": "Yes"}
    (tmp_path / "QA.json").write_text(json.dumps([asked]))
    for spec, says in (
        ("nope:a.json", "nope:...: no such format"), (f"avhbench:{tmp_path}/no.json", "no.json: no such file"),
        ("foley:bells", "foley:bells: 'bells' is"), (f"avhbench:{tmp_path}/QA.json", "(wanted: 7.mp4); put"),
    ):  # fmt: skip
        code, text = said("curate", *verb, spec, "--out", str(tmp_path / "out"))
        assert (code, says in text, "--clips" in text, "media=" in text) == (2, True, False, False), text
    assert not (tmp_path / "out").exists()  # so that the same command without the slip is not refused
    code, text = said("curate", *verb, "foley", "--workers", "0", "--out", str(tmp_path / "out"))
    assert code == 2
    assert "--workers" in text


def test_a_limit_is_named_as_it_was_typed() -> None:
    with pytest.raises(ValueError, match=r"^--set limit=-2: wants at least one clip"):
        opening.manifest("foley", limit=-2, seed=0, limited="--set limit=")


def test_clips_whose_ids_name_no_file() -> None:
    with pytest.raises(ValueError, match="'a/b' cannot be a file's name"):
        opening.named(Clip(id="a/b"))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("silent", "60", "silent=60: a level is 0 at most (did you mean -60?)"),
        ("quiet", "50", "did you mean -50?"),
        ("moving", "10", "moving=10: a share is from 0 to 1"),
        ("late", "185", "late=185: wants seconds, 0 or more (milliseconds?)"),
        ("bright", "-1", "grey levels, 0 to 255"),
        ("seconds", "1000", "seconds=1000, longest=600"),
        ("silent", "sixty", "--set silent: expected `float`, got `str`"),
    ],
)
def test_limits_that_cannot_be(key: str, value: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        wishes.asked(settings={key: value})
    assert says in str(caught.value)
    assert "$" not in str(caught.value)
    assert gates.Limits(silent=-70.0).silent == -70.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"tagger": "yamet"}, "unknown witness 'yamet': a tagger is"),
        ({"tagger": "efficientnet"}, "sees and does not hear"),
        ({"classifier": "yamnet"}, "hears and does not see"),
    ],
)
def test_witnesses_that_there_are_not_are_told_before_a_clip_is_opened(words: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        wishes.asked(**words)  # type: ignore[arg-type]


def test_settings_of_twins_are_called_by_their_names() -> None:
    with pytest.raises(ValueError, match=r"^--set twins: expected `int`, got `str`"):
        wish("eval", ["swap"], 0, {"twins": "x"})


def test_a_slip_does_not_bar_the_folder_to_its_remedy(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no clip is of class 'foo'"):
        building.build(str(home), tmp_path, wish("eval", ["muted"], 0, {"mix_classes": "Foo"}))
    made = building.build(str(home), tmp_path, wish("eval", ["shift"], 0, {"shift_band": "0.1,0.2"}))
    assert len(made.clips) == 2
    assert json.loads((tmp_path / "set.json").read_text())["wish"]["kinds"] == ["shift"]
    found = lint(str(tmp_path))  # a set.json is not a training set's alone
    assert (found.form, found.rows) == ("clips", 2)


def test_a_set_without_a_clip_is_an_error(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no clip of 1 is left: 1 no donor fits it"):
        building.build(str(home), tmp_path, wish("eval", ["swap"]), limit=1)
    assert not (tmp_path / "labels.jsonl").exists()


def test_a_bar_ends_where_nothing_is_left_to_do(home: Path, tmp_path: Path) -> None:
    path = next(home.glob("*.mp4"))
    told: list[tuple[int, int, int]] = []
    for _ in range(2):
        told.clear()
        jobs.done(
            {Key("a", "measure"): Measure(path=str(path))}, tmp_path, Measured,
            progress=lambda *seen: told.append(seen),
        )  # fmt: skip
        assert told[-1] == (1, 0, 1)


def test_the_ontology_verb_refuses_words_that_would_do_nothing(tmp_path: Path) -> None:
    names = tmp_path / "labels.csv"
    names.write_text("label\nBark\n")
    with pytest.raises(ValueError, match=r"--map .*decides on the names of --labels"):
        funnel.select("x.json", label_map=names)
    with pytest.raises(ValueError, match=r"--media .*whose videos"):
        funnel.select("x.json", media=tmp_path)
    with pytest.raises(ValueError, match=r"your labels\.csv lies in it"):
        funnel.select("x.json", tmp_path, labels=names)
    with pytest.raises(ValueError, match="is a file; wants a folder"):
        funnel.select("x.json", names)
