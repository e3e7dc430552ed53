"""Lint on files: our own sets, other trainers' rows, labelled clips with their media, and the verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from earwitness import media
from earwitness.align.pairs.mixtures import NAMED
from earwitness.curate.lint import Report, lint
from earwitness.curate.lint import answers as lint_answers
from earwitness.curate.lint import media as lint_media
from earwitness.curate.lint import times as lint_times
from earwitness.curate.lint import words as lint_words
from earwitness.curate.lint.reading import _of_item, read
from earwitness.curate.lint.rows import Material
from earwitness.datasets.opening import open_clips
from earwitness.protocols import av_confuse, mma, thud
from earwitness.protocols.settings import Settings
from earwitness.records import Clip, Event, Intervention, Item, Pair
from earwitness.session import training_data

# --- our own sets ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips() -> Any:
    return open_clips("foley", limit=40, seed=5).clips


def _made(items: list[Item], part: str) -> list[Pair]:
    """Pairs with their mirrors: of two twins with different answers, each one's answer is the other's rejected."""
    out = []
    by: dict[str, list[Item]] = {}
    for item in items:
        by.setdefault(item.group, []).append(item)
    for some in by.values():
        first = next((i for i in some if i.intervention.kind == "original"), some[0])
        for other in some:
            if first.target and other.target and other.target != first.target:
                for one, two in ((first, other), (other, first)):
                    name = f"{one.id}-{two.id}"
                    out.append(Pair(id=name, item=one, chosen=one.target or "", rejected=two.target, part=part))
    return out


def _write(folder: Path, made: list[Pair], limit: int = 40) -> Path:
    """A training set's folder, as far as lint reads it."""
    folder.mkdir()
    valid = {p.item.source for p in made[:8]}
    for name, some in (
        ("valid", [p for p in made if p.item.source in valid]),
        ("train", [p for p in made if p.item.source not in valid and not valid & set(p.item.linked)]),
    ):
        (folder / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(p) + b"\n" for p in some))
    info = {"sources": [{"clips": "foley", "limit": limit, "seed": 5}], "fingerprints": {"f1": "a", "f2": "b"}}
    (folder / "set.json").write_text(json.dumps(info))
    return folder


def test_pairs_with_mirrors_pass(clips: Any, tmp_path: Path) -> None:
    settings = Settings(seeds=(0,), mma_conditions=("aligned", "audio_swapped"), mma_styles=("standard",))
    made = _made(mma.items(clips, settings), "mma") + _made(thud.items(clips, settings), "thud")
    report = lint(str(_write(tmp_path / "set", made)))
    assert [f"{f.check}: {f.says}" for f in report.findings if f.verdict == "fails"] == []
    assert report.form == "preference"
    assert report.of("overlap").verdict == "fine"
    assert report.of("off_clip").verdict == "fine"  # by the clips' own events
    assert report.of("text_alone").verdict != "not applicable"


@pytest.mark.parametrize(
    ("mixture", "limit", "n"),
    [("ours", 40, 400), *(pytest.param(name, 120, 2000, marks=pytest.mark.slow) for name in NAMED)],
)
def test_no_mixture_fails(mixture: str, limit: int, n: int, tmp_path: Path) -> None:
    training_data.from_clips("foley", tmp_path / "set", mixture=mixture, limit=limit, n=n, seed=3)
    report = lint(str(tmp_path / "set"))
    assert [f"{f.check}: {f.says}" for f in report.findings if f.verdict == "fails"] == []


def test_pairs_whose_rejected_answer_is_always_the_same_fail(clips: Any, tmp_path: Path) -> None:
    items = [i for i in mma.items(clips, Settings(mma_conditions=("aligned",))) if i.target]
    made = [
        Pair(id=i.id, item=i, chosen=f"It is a {i.target}", rejected="I cannot tell", part="mma") for i in items
    ]
    report = lint(str(_write(tmp_path / "set", made)))
    assert {f.check for f in report.findings if f.verdict == "fails"} >= {"fixed_phrase", "text_alone"}


def test_events_off_the_clip_are_found_by_the_clips_themselves(clips: Any, tmp_path: Path) -> None:
    clip = next(c for c in clips if len(c.events) == 1)
    base = next(i for i in thud.items(clips, Settings()) if i.question == "shift" and i.clip == clip.id)
    made = []
    for n, by in enumerate((-0.2, 0.2, -(clip.events[0].heard or 0) - 0.1, -(clip.events[0].heard or 0) + 0.1)):
        item = msgspec.structs.replace(
            base, id=f"i{n}", offset=by, intervention=Intervention(kind="shift", seconds=by)
        )
        made.append(Pair(id=f"p{n}", item=item, chosen="It is off.", part="shift"))
    folder = _write(tmp_path / "set", made)
    (folder / "train.jsonl").write_bytes(b"".join(msgspec.json.encode(p) + b"\n" for p in made))
    (folder / "valid.jsonl").write_bytes(b"")
    found = lint(str(folder)).of("off_clip")
    assert (found.verdict, found.found, found.total, found.example) == ("fails", 2, 4, "p2")
    assert (found.counts["early gone"], found.counts["edge"]) == (1, 1)


def test_two_sets_that_share_clips(clips: Any, tmp_path: Path) -> None:
    items = mma.items(clips, Settings(seeds=(0,), mma_conditions=("aligned",)))
    one = [Pair(id=i.id, item=i, chosen=i.target or "", part="mma") for i in items if i.target]
    apart = [
        msgspec.structs.replace(p, item=msgspec.structs.replace(p.item, source=f"x{p.item.source}")) for p in one
    ]
    a, b = (_write(tmp_path / name, made) for name, made in (("a", one), ("b", apart)))
    report = lint(str(a), against=str(a))
    assert report.of("overlap").verdict == "fails"
    assert report.of("overlap").found == report.rows
    (b / "set.json").write_text('{"sources": [], "fingerprints": ["f9"]}')
    assert lint(str(a), against=str(b)).of("overlap").counts["sources"] == 0
    (b / "set.json").write_text('{"sources": [], "fingerprints": ["f1"]}')
    assert lint(str(a), against=str(b)).of("overlap").counts == {
        "sources": 0,
        "prints": 1,
        "files": 0,
        "questions": 0,
    }


def test_a_training_set_against_a_run(clips: Any, tmp_path: Path) -> None:
    items = mma.items(clips, Settings(seeds=(0,), mma_conditions=("aligned",)))
    folder = _write(tmp_path / "set", [Pair(id=i.id, item=i, chosen=i.target or "", part="mma") for i in items])
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "items.jsonl").write_bytes(b"".join(msgspec.json.encode(i) + b"\n" for i in items[:20]))
    report = lint(str(folder), against=str(run))
    assert report.against == "run"
    assert report.of("overlap").verdict == "fails"


def test_a_source_on_both_sides_of_a_split(tmp_path: Path, clips: Any) -> None:
    items = mma.items(clips, Settings(seeds=(0,), mma_conditions=("aligned",)))
    made = [Pair(id=i.id, item=i, chosen=i.target or "", part="mma") for i in items if i.target]
    folder = _write(tmp_path / "set", made)
    (folder / "valid.jsonl").write_bytes((folder / "train.jsonl").read_bytes().splitlines(keepends=True)[0])
    assert lint(str(folder)).of("overlap").verdict == "fails"


def test_the_leading_style_is_told_and_does_not_fail_where_both_answers_are_right(clips: Any) -> None:
    items = [i for i in av_confuse.items(clips, Settings()) if i.question == "muted" and i.style == "leading"]
    m = Material(name="m", form="questions", samples=tuple(_of_item(i, i.id) for i in items))
    assert lint_words.prompt_leak(m).verdict == "warns"


# --- formats --------------------------------------------------------------------------------------------------


def _turns(
    question: str, answer: str | None, names: tuple[str, str, str, str] = ("role", "content", "user", "assistant")
) -> list[dict[str, str]]:
    who, what, asks, tells = names
    turns = [{who: asks, what: f"<video>{question}"}]
    return turns if answer is None else [*turns, {who: tells, what: answer}]


FORMATS: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("x.json", {"messages": _turns("Is there a bell?", "Yes, a bell.")}, ("yes_no", "yes", None)),
    (
        "x.json",
        {"conversations": _turns("Which?", "a bell", ("from", "value", "human", "gpt"))},
        ("label", "a bell", None),
    ),
    (
        "x.jsonl",
        {"messages": _turns("Which?\nA. bell\nB. drum", "B"), "rejected_response": "A"},
        ("choice", "B", "A"),
    ),
    (
        "x.jsonl",
        {"messages": _turns("Which?\nA. bell\nB. drum", None), "solution": "<answer>B</answer>"},
        ("choice", "B", None),
    ),
    (
        "x.json",
        {
            "messages": _turns("Which? Options: {bell, drum}.", None),
            "chosen": {"role": "assistant", "content": "Drum"},
            "rejected": {"role": "assistant", "content": "Bell"},
        },
        ("choice", "drum", "Bell"),
    ),
    (
        "x.json",
        {"messages": _turns("Describe it.", "A man walks along a road and whistles.")},
        ("open", None, None),
    ),
    (
        "x.jsonl",
        {"messages": _turns("Which?", "a bell"), "rejected_messages": _turns("Which?", "a drum")},
        ("label", "a bell", "a drum"),
    ),
]


@pytest.mark.parametrize(("name", "fields", "expected"), FORMATS, ids=range(len(FORMATS)))
def test_rows_for_other_trainers(
    name: str, fields: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path
) -> None:
    made = [{**fields, "videos": [f"/there/clip{n}.mp4"]} for n in range(8)]
    path = tmp_path / name
    path.write_text(json.dumps(made) if name == "x.json" else "".join(json.dumps(r) + "\n" for r in made))
    first = read(str(path)).samples[0]
    assert (first.kind, first.gold, first.rejected) == expected
    assert (first.id, first.source, first.offset) == ("row 1", "clip0", None)
    assert "<video>" not in first.prompt


def test_file_names_tell_offsets(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    names = ["fall_delay_2.00s.mp4", "fall_early_1.90s.mp4", "fall.mp4", "Y9ivV2chJLa4_repDiff_Cat_0.mp4"]
    path.write_text(
        json.dumps([{"messages": _turns("Are they synchronized?", "It is so."), "videos": [n]} for n in names])
    )
    found = read(str(path)).samples
    assert [(s.gold, s.offset, s.source) for s in found] == [
        ("DELAY", 2.0, "fall"), ("EARLY", -1.9, "fall"), ("SYNC", 0.0, "fall"), ("SYNC", 0.0, "9ivV2chJLa4"),
    ]  # fmt: skip
    assert lint_answers.picture_alone(Material(name="x", form="supervised", samples=found * 4)).found == 4


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.json", "{not json", "line 1: is no JSON"),
        ("x.jsonl", '{"messages": []}\n{oh', "line 2: is no JSON"),
        ("x.json", "[]", "holds no rows"),
        ("x.json", "[1, 2]", "list of objects"),
        ("x.json", '[{"a": 1}]', "row 1: is no training row"),
        ("x.json", '[{"messages": [{"role": "assistant", "content": "x"}]}]', "row 1: has no turn of the user"),
        ("x.json", '[{"messages": [{"role": "user", "content": 3}]}]', "row 1: .* wants a text, got 3"),
        (
            "x.json",
            '[{"messages": [{"role": "user", "content": "x"}], "videos": [1]}]',
            "videos wants a list of paths",
        ),
        ("x.csv", "one,two\n1,2\n", "row 1: is no training row"),
        ("x.parquet", "x", "name the format"),
        ("train.jsonl", '{"item": 1, "chosen": "x", "part": "y"}\n', "train.jsonl, line 1"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=says):
        lint(str(tmp_path / name))
    result = CliRunner().invoke(_app(), ["lint", str(tmp_path / name)])
    assert result.exit_code == 2


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for spec, says in (
        ("nothing.json", "no such file or folder"),
        ("avhbnch:nothing.json", "did you mean avhbench"),
        ("avhbench:nothing.json", "no such file"),
        (str(tmp_path), "no labels file"),
    ):
        with pytest.raises(ValueError, match=says):
            lint(spec)


# --- labelled clips and media ---------------------------------------------------------------------------------


def _clip(path: Path, *, sound: float | None = 0.4, seconds: float = 1.0) -> Path:
    """A grey clip: with a tone of that peak, with silence (0), or with no track (None)."""
    frames = np.full((round(seconds * 10), 32, 32, 3), 90, np.uint8)
    t = np.arange(round(seconds * 16_000)) / 16_000
    wave = None if sound is None else (sound * np.sin(2 * np.pi * 440 * t))[None].astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write_clip(frames, 10.0, wave, 16_000, path)
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("clips")
    _clip(home / "loud.mp4")
    _clip(home / "quiet.mp4", sound=0.0)
    _clip(home / "bare.mp4", sound=None)
    (home / "broken.mp4").write_bytes(b"no media file")
    (home / "labels.csv").write_text(
        "path,seen,heard,events,source,split\n"
        "loud.mp4,bell,bell,bell@0.5,one,train\nquiet.mp4,drum,drum,drum@0.9/0.2,one,test\n"
        "bare.mp4,dog,,,two,test\nbroken.mp4,cat,cat,,three,test\ngone.mp4,cow,cow,cow@500,four,test\n"
    )
    return home


def test_labelled_clips(labelled: Path) -> None:
    report = lint(str(labelled))
    assert (report.form, report.rows, report.sources) == ("clips", 5, 4)
    assert {f.check: f.example for f in report.findings if f.verdict == "fails"} == {
        "media_missing": "gone", "no_sound_track": "bare", "silent_track": "quiet", "clip_times": "quiet",
        "overlap": "loud",
    }  # fmt: skip
    assert "1 of 5 files are not there, 1 cannot be opened" in report.of("media_missing").says
    assert report.of("text_alone").verdict == "not applicable"
    assert lint(str(labelled / "labels.csv")).rows == 5


def test_media_of_training_rows(labelled: Path, tmp_path: Path) -> None:
    says = [
        ("loud", "I hear a bell."),
        ("quiet", "I hear a drum."),
        ("loud", "The audio track is silent."),
        ("bare", "I hear a dog."),
    ]
    path = tmp_path / "x.json"
    path.write_text(
        json.dumps([{"messages": _turns("What is heard?", a), "videos": [f"/far/{n}.mp4"]} for n, a in says])
    )
    found = {f.check: f for f in lint(str(path)).findings}
    assert "--media" in found["silent_track"].says
    found = {f.check: f for f in lint(str(path), media=labelled).findings}
    assert found["media_missing"].verdict == "fine"
    assert (found["no_sound_track"].found, found["no_sound_track"].example) == (1, "row 4")
    assert found["silent_track"].counts == {"silent": 1, "said to be silent": 1}


def test_a_picture_file_with_its_sound_apart_is_no_bare_row(labelled: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    row = {"messages": _turns("What is heard?", "A bell."), "videos": ["bare.mp4"], "audios": ["loud.mp4"]}
    path.write_text(json.dumps([row] * 2))
    assert lint(str(path), media=labelled).of("no_sound_track").verdict == "fine"


def test_copies_of_a_file_are_found_whatever_their_names(labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_bytes((labelled / "loud.mp4").read_bytes())
    (tmp_path / "labels.csv").write_text("path,seen,heard\nother.mp4,bell,bell\n")
    found = lint(str(tmp_path), against=str(labelled)).of("overlap")
    assert (found.verdict, found.example, found.counts["files"]) == ("fails", "other", 1)


def test_events_are_whole_seconds_in_bulk(tmp_path: Path) -> None:
    made = {
        f"c{n}": Clip(id=f"c{n}", path="x.mp4", end=30.0, events=(Event("x", float(n), n + 0.0),))
        for n in range(20)
    }
    m = Material(name="x", form="clips", clips=made, files=dict.fromkeys(made))
    assert lint_times.whole_seconds(m).verdict == "warns"
    assert lint_media.clip_times(m).verdict == "fine"


# --- the verb -------------------------------------------------------------------------------------------------


def _app() -> Any:
    from earwitness.cli import app

    return app


def test_the_verb_shows_a_table_and_the_reasons(tmp_path: Path) -> None:
    made = [
        {"messages": _turns("Is there a bell?", None), "chosen": {"role": "assistant", "content": f"Yes, {n}."},
         "rejected": {"role": "assistant", "content": f"No, {n}."}, "videos": [f"c{n}.mp4"]}
        for n in range(40)
    ]  # fmt: skip
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(made))
    result = CliRunner().invoke(_app(), ["lint", str(path)])
    assert result.exit_code == 1, result.output
    assert "fixed_phrase" in result.output
    assert "without any media" in result.output
    assert "not applicable" in result.output
    result = CliRunner().invoke(_app(), ["lint", str(path), "--json"])
    told = json.loads(result.output)
    assert result.exit_code == 1
    assert {"check", "verdict", "found", "total", "example", "says", "why"} <= set(told["findings"][0])


def test_the_verb_exits_with_nought_where_all_is_fine(clips: Any, tmp_path: Path) -> None:
    settings = Settings(seeds=(0,), mma_conditions=("aligned", "audio_swapped"), mma_styles=("standard",))
    folder = _write(tmp_path / "set", _made(mma.items(clips, settings), "mma"))
    result = CliRunner().invoke(_app(), ["lint", str(folder)])
    assert result.exit_code == 0, result.output


def test_a_report_knows_its_checks() -> None:
    with pytest.raises(ValueError, match="no check 'nothing'"):
        Report(name="x", form="clips", rows=0, sources=0, findings=()).of("nothing")
