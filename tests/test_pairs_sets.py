"""Training sets: drawn by seed, balanced, split by source, and never of a clip that an audit tests."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from earwitness import foley, media
from earwitness import run as runs
from earwitness.align.pairs import leaks, making, mixtures, training_set
from earwitness.align.pairs.stock import Unit, drawn
from earwitness.cli import app
from earwitness.datasets.folder import read as read_folder
from earwitness.datasets.opening import open_clips
from earwitness.models.fake import control
from earwitness.protocols import Settings, mma
from earwitness.records import Answer, Clip, Item, Media, Pair, View
from earwitness.session import training_data

CLIPS = open_clips("foley", limit=48, seed=23).clips
SETTINGS = Settings(seed=4, long_context_tokens=5)


def make(name: str, n: int | None = 300, clips: Sequence[Clip] = CLIPS, **more: object) -> making.Drawn:
    settings = msgspec.structs.replace(SETTINGS, seed=more.pop("seed", 4))
    return making.make(making.Ground(clips), mixtures.named(name), settings, n=n, **more)  # type: ignore[arg-type]


# --- drawing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ours", "rl-comm", "thud-dpo-all", "op,ctp,avqa"])
def test_a_set_follows_from_its_seed_and_not_from_the_order_of_clips(name: str) -> None:
    first = make(name, 100, valid=0.2)
    assert first == make(name, 100, valid=0.2)
    again = make(name, 100, clips=list(reversed(CLIPS)), valid=0.2)
    assert [p.id for p in again.train] == [p.id for p in first.train]
    other = make(name, 100, seed=5, valid=0.2)
    assert {p.id for p in other.train} != {p.id for p in first.train}


@pytest.mark.parametrize("name", mixtures.NAMED)
def test_named_mixtures_hold_their_parts_and_their_kind(name: str) -> None:
    mixture = mixtures.NAMED[name]
    made = make(name, 400)
    assert {p.part for p in made.train} == {p.name for p in mixture.parts} - {"sp"}  # there is no run
    assert len({p.id for p in made.train}) == len(made.train)
    assert 400 <= len(made.train) < 400 + 6 * len(mixture.parts)
    if mixture.kind == "sft":
        assert all(p.rejected is None for p in made.train)
    if mixture.kind == "dpo":
        assert all(p.rejected is not None for p in made.train)
    assert mixture.quote
    assert "arXiv" in mixture.source or not name.startswith(("mma", "thud", "rl-comm"))


def test_shares_follow_the_ratios_and_what_is_lacking_is_shared_out() -> None:
    made = make("mma=2,mute=1,ctp=1", 400)
    count = Counter(p.part for p in made.train)
    assert count["mma"] == 200
    assert count["mute"] == count["ctp"] == 100
    short = make("mma=1,ctp=9", 2000)
    there = short.there["ctp"]
    assert Counter(p.part for p in short.train)["ctp"] == there < 1800
    assert abs(len(short.train) - min(2000, there + short.there["mma"])) < 4


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.floats(0.01, 9), st.integers(0, 300)), min_size=1),
    st.integers(1, 900),
)
def test_shares_give_n_where_there_is_n(parts: dict[str, tuple[float, int]], n: int) -> None:
    there = {k: c for k, (_, c) in parts.items()}
    got = making.shares({k: r for k, (r, _) in parts.items()}, there, n)
    assert all(0 <= got[k] <= there[k] for k in parts)
    assert sum(got.values()) == min(n, sum(there.values()))


def test_any_beginning_of_a_draw_is_balanced_over_classes_then_clips() -> None:
    units = [
        Unit(f"{kind}{clip}{n}", f"{kind}{clip}", kind, 1, list)
        for kind, clips in (("common", 40), ("rare", 4))
        for clip in range(clips)
        for n in range(5)
    ]
    order = drawn(units, 0)
    assert {u.key for u in order} == {u.key for u in units}
    assert Counter(u.kind for u in order[:16]) == {"common": 8, "rare": 8}
    head = order[:40]
    assert max(Counter(u.clip for u in head if u.kind == "common").values()) == 1
    assert set(Counter(u.clip for u in head if u.kind == "rare").values()) == {5}


def test_a_set_without_a_number_is_all_that_can_be_made() -> None:
    made = make("mma", None, valid=0.0)
    assert len(made.train) == made.there["mma"] == made.wanted["mma"]
    assert not made.valid


def test_what_the_scorer_misreads_is_left_out_whole_and_told() -> None:
    clips = [
        *[Clip(id=f"s{n}", seen=("Silence",), heard=("Silence",), end=4.0) for n in range(3)],
        *[Clip(id=f"d{n}", seen=("dog",), heard=("dog",), end=4.0) for n in range(3)],
    ]
    made = make("mute", 500, clips=clips)
    assert {p.item.clip for p in made.train} == {"d0", "d1", "d2"} | {
        p.item.clip for p in made.train if p.item.style == "direct"
    }
    assert any("does not read their answers" in line and "Silence" in line for line in made.left_out)


def test_nothing_to_make_is_an_error_with_the_reason() -> None:
    still = [Clip(id="a", seen=("dog",), heard=("dog",), end=4.0)]
    with pytest.raises(
        ValueError, match=r"no pair of the mixture ctp comes .* no event with a seen and a heard time"
    ):
        make("ctp", clips=still)
    with pytest.raises(ValueError, match="--n 0"):
        make("mma", 0)
    with pytest.raises(ValueError, match="nothing makes the part 'mma'"):
        make("mma", makers={})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mm", "did you mean mma"),
        ("ctp=2,swop=1", r"no part 'swop' \(did you mean swap"),
        ("ctp=-1", "above 0, got '-1'"),
        ("ctp=x", "above 0, got 'x'"),
        ("ctp,ctp", "named twice"),
    ],
)
def test_mixtures_that_are_none_are_named(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        mixtures.named(name)


def test_a_mixture_may_be_spelled_out() -> None:
    mixture = mixtures.named("ctp=2, mute")
    assert [(p.name, p.ratio) for p in mixture.parts] == [("ctp", 2.0), ("mute", 1.0)]
    assert mixture.kind == "both"


# --- splits ----------------------------------------------------------------------------------------------------


def sides(made: making.Drawn) -> list[set[str]]:
    return [{s for p in some for s in (p.item.source, *p.item.linked)} for some in (made.train, made.valid)]


@pytest.mark.parametrize("name", ["ours", "thud-dpo-all", "rl-comm"])
def test_no_source_is_on_both_sides_as_donor_neither(name: str) -> None:
    made = make(name, 600, valid=0.25)
    train, valid = sides(made)
    assert valid
    assert not train & valid
    assert len(valid) <= 12
    assert abs(len(made.valid) - 150) < 30


def test_cuts_of_one_recording_stay_on_one_side() -> None:
    clips = [msgspec.structs.replace(c, source=f"r{n // 4}") for n, c in enumerate(CLIPS)]
    train, valid = making.split(clips, 0.3, 0)
    assert not {c.source for c in train} & {c.source for c in valid}
    assert len({c.source for c in valid}) == round(0.3 * len({c.source for c in clips}))


def test_validation_is_balanced_over_classes() -> None:
    clips = open_clips("foley", limit=240, seed=1).clips
    _, valid = making.split(clips, 0.2, 0)
    count = Counter(min(c.heard) for c in valid)
    whole = Counter(min(c.heard) for c in clips)
    assert all(abs(count[k] - 0.2 * whole[k]) <= 1.01 for k in whole)


def test_splits_of_the_labels_decide() -> None:
    clips = [msgspec.structs.replace(c, split=("train", "valid", "test")[n % 3]) for n, c in enumerate(CLIPS)]
    train, valid = making.split(clips, 0.5, 0)
    assert {c.split for c in train} == {"train"}
    assert {c.split for c in valid} == {"valid"}
    assert any("labelled neither train nor valid" in line for line in make("mute", clips=clips).left_out)


@pytest.mark.parametrize(("share", "says"), [(1.0, "below 1"), (-0.1, "from 0"), (0.99, "leave none to train on")])
def test_a_share_that_leaves_nothing_is_refused(share: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        making.split(CLIPS, share, 0)


def test_a_set_with_a_source_on_both_sides_is_not_written(tmp_path: Path) -> None:
    def pair(clip: str, *linked: str) -> Pair:
        item = Item(
            id=clip, protocol="x", condition="x", question="x", clip=clip, source=clip, linked=linked, group="g",
            prompt="?", target=None,
        )  # fmt: skip
        return Pair(id=clip, item=item, chosen="a", part="mma")

    info = training_set.Info(sources=(), mixture="mma", seed=0, view=leaks.VIEW)
    with pytest.raises(ValueError, match="1 source clips stand in train and in valid, such as b"):
        training_set.write(tmp_path, training_set.TrainingSet(info, (pair("a", "b"),), (pair("b"),)))


# --- leaks -----------------------------------------------------------------------------------------------------


def audited(folder: Path, spec: str, items: Sequence[Item], clips: Sequence[Clip], **info: object) -> Path:
    """The part of a run that the guard reads."""
    folder.mkdir(parents=True)
    runs.write_info(
        folder,
        runs.Info(
            model="fake:hears", revision="1", plan="", created="", clips=spec, clip_count=len(clips), **info,  # type: ignore[arg-type]
        ),
    )  # fmt: skip
    runs.write_lines(folder / "clips.jsonl", clips)
    runs.write_lines(folder / "items.jsonl", items)
    return folder


def foley_run(folder: Path, seed: int, limit: int = 16) -> Path:
    clips = open_clips("foley", limit=limit, seed=seed).clips
    return audited(folder, "foley", mma.items(clips, SETTINGS), clips, seed=seed)


def test_the_same_procedural_clips_are_refused(tmp_path: Path) -> None:
    run = foley_run(tmp_path / "run", 23)
    with pytest.raises(ValueError, match=r"clips to be trained on are tested in .*run \(foley-"):
        training_data.from_clips("foley", tmp_path / "set", limit=48, seed=23, n=200, against=[run])
    assert not (tmp_path / "set").exists()
    other = foley_run(tmp_path / "other", 24)
    made = training_data.from_clips("foley", tmp_path / "set", limit=48, seed=23, n=200, against=[other]).made
    assert made.info.checked == (str(other),)
    with pytest.raises(ValueError, match="tested in"):  # and a set can be checked later
        training_set.refuse(made, run)
    training_set.refuse(training_set.read(tmp_path / "set"), other)


def test_a_clip_that_only_lends_its_sound_counts_on_both_sides(tmp_path: Path) -> None:
    clips = [c for c in CLIPS if len(c.heard) == 1]
    swapped = [i for i in mma.items(clips, SETTINGS) if i.intervention.donor is not None]
    item = swapped[0]
    run = audited(tmp_path / "run", "foley", [item], clips)
    prints, sources = leaks.audited(run)
    assert set(prints.values()) == set(sources.values()) == {item.clip, item.intervention.donor}
    assert leaks.used([item]) == {item.clip, item.intervention.donor}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real files: three clips with sound; one silent; one of black frames; and a folder of copies of them."""
    at = tmp_path_factory.mktemp("files")
    rng = np.random.default_rng(0)
    tone = np.sin(np.arange(16_000) / 9)[None].astype(np.float32)

    def write(name: str, seed: int, wave: np.ndarray, black: bool = False) -> None:
        picture = np.random.default_rng(seed).integers(0, 255, (1, 32, 32, 3)).astype(np.uint8)
        frames = np.zeros((10, 32, 32, 3), np.uint8) if black else np.repeat(picture, 10, axis=0)
        media.write_clip(frames, 10.0, wave, 16_000, at / name)

    for n, name in enumerate(("dog", "cat", "owl")):
        noise = (0.2 * rng.standard_normal((1, 16_000))).astype(np.float32)
        write(f"{name}.mp4", n, noise)
    write("mute_a.mp4", 11, np.zeros((1, 16_000), np.float32))
    write("mute_b.mp4", 12, np.zeros((1, 16_000), np.float32))
    write("black_a.mp4", 13, 0.3 * tone, black=True)
    write("black_b.mp4", 14, 0.1 * tone[:, ::-1], black=True)
    return at


def folder(at: Path, files: Path, names: Mapping[str, str], extra: str = "") -> Path:
    """A folder with labels: new name -> old name."""
    at.mkdir()
    lines = ["path,seen,heard" + (",source" if extra else "")]
    for new, old in names.items():
        (at / new).write_bytes((files / old).read_bytes())
        lines.append(f"{new},{new.split('.')[0]},{new.split('.')[0]}" + (f",{extra}" if extra else ""))
    (at / "labels.csv").write_text("\n".join(lines) + "\n")
    return at


def folder_run(at: Path, clips: Path) -> Path:
    found = read_folder(clips)
    items = [
        Item(
            id=c.id, protocol="mma", condition="aligned", question="audio", clip=c.id, source=c.cluster, group="g",
            prompt="?", target=None,
        )
        for c in found.clips
    ]  # fmt: skip
    return audited(at, str(clips), items, found.clips)


def test_a_copy_under_another_name_is_refused(files: Path, tmp_path: Path) -> None:
    train = folder(tmp_path / "train", files, {"dog.mp4": "dog.mp4", "cat.mp4": "cat.mp4"})
    run = folder_run(
        tmp_path / "run", folder(tmp_path / "test", files, {"wolf.mp4": "dog.mp4", "owl.mp4": "owl.mp4"})
    )
    with pytest.raises(ValueError, match=r"1 clips to be trained on are tested .*dog is wolf"):
        training_data.from_clips(str(train), tmp_path / "set", mixture="mute", valid=0.0, against=[run])


def test_the_picture_alone_or_the_sound_alone_is_enough(files: Path, tmp_path: Path) -> None:
    """MMA-Bench's swapped twins are files of their own: one's picture with another's sound."""
    view = View(fps=10.0)
    dog, cat = (media.load(files / f"{n}.mp4", view) for n in ("dog", "cat"))
    (tmp_path / "test").mkdir()
    assert dog.frames is not None
    assert cat.wave is not None
    # Lossless, so that the stream is what it was.
    media.write_clip(dog.frames, 10.0, cat.wave, 16_000, tmp_path / "test" / "twin.mp4")
    (tmp_path / "test" / "labels.csv").write_text("path,heard\ntwin.mp4,cat\n")
    clips = read_folder(tmp_path / "test")
    twin = leaks.fingerprints(clips)
    assert len(twin) == 3
    heard = leaks.content(media.load(files / "cat.mp4", leaks.VIEW))[1]
    assert heard in twin
    with pytest.raises(ValueError, match="cat is twin"):
        leaks.refuse_leaks({heard: "cat"}, twin, "run")


def test_silence_and_black_frames_are_nobodys_content(files: Path, tmp_path: Path) -> None:
    clips = folder(tmp_path / "a", files, {"a.mp4": "mute_a.mp4", "b.mp4": "black_a.mp4"})
    prints = leaks.fingerprints(read_folder(clips))
    assert len(prints) == 4  # two files, one picture, one sound
    other = folder(tmp_path / "b", files, {"c.mp4": "mute_b.mp4", "d.mp4": "black_b.mp4"})
    run = folder_run(tmp_path / "run", other)
    made = training_data.from_clips(str(clips), tmp_path / "set", mixture="mute", valid=0.0, against=[run])
    assert made.made.info.checked == (str(run),)


def test_blank_is_judged_by_what_is_there() -> None:
    times = np.array([0.0, 0.5])
    grey = np.full((2, 8, 8, 3), 90, np.uint8)
    noisy = grey + np.random.default_rng(0).integers(0, 3, grey.shape).astype(np.uint8)
    line = grey.copy()
    line[1, 3] = 200
    quiet, loud = np.full((1, 10), 5e-5, np.float32), np.full((1, 10), 0.1, np.float32)
    assert leaks.content(Media(grey, times, quiet, 10, 1.0)) == []
    assert leaks.content(Media(noisy, times, None, 10, 1.0)) == []
    assert len(leaks.content(Media(line, times, loud, 10, 1.0))) == 2
    assert leaks.content(Media(None, None, None, 10, 1.0)) == []


def test_two_cuts_of_one_file_are_one_clip(files: Path, tmp_path: Path) -> None:
    train = folder(tmp_path / "train", files, {"dog.mp4": "dog.mp4"})
    (train / "labels.csv").write_text("path,id,seen,heard,start,end\ndog.mp4,early,dog,dog,0,0.4\n")
    test = folder(tmp_path / "test", files, {"d.mp4": "dog.mp4"})
    (test / "labels.csv").write_text("path,id,seen,heard,start,end\nd.mp4,late,dog,dog,0.5,1.0\n")
    with pytest.raises(ValueError, match="early is late"):
        training_data.from_clips(
            str(train), tmp_path / "set", mixture="mute", valid=0.0, against=[folder_run(tmp_path / "run", test)]
        )


def test_the_same_source_is_refused(files: Path, tmp_path: Path) -> None:
    train = folder(tmp_path / "train", files, {"dog.mp4": "dog.mp4"}, "walk-17")
    test = folder(tmp_path / "test", files, {"owl.mp4": "owl.mp4"}, "walk-17")
    with pytest.raises(ValueError, match=r"1 sources to be trained on are tested .*\(walk-17\).*of their own"):
        training_data.from_clips(
            str(train), tmp_path / "set", mixture="mute", valid=0.0, against=[folder_run(tmp_path / "run", test)]
        )


def test_a_run_whose_clips_are_gone_clears_nobody(files: Path, tmp_path: Path) -> None:
    test = folder(tmp_path / "test", files, {"owl.mp4": "owl.mp4", "cat.mp4": "cat.mp4"})
    run = folder_run(tmp_path / "run", test)
    (test / "labels.csv").write_text("path,seen,heard\nowl.mp4,owl,owl\n")
    with pytest.raises(runs.RunError, match=r"1 of its clips are no longer in .*\(cat\)"):
        leaks.audited(run)
    (test / "labels.csv").unlink()
    with pytest.raises(runs.RunError, match="cannot be compared"):
        leaks.audited(run)


def test_files_of_procedural_clips_are_known_by_their_recipe(files: Path, tmp_path: Path) -> None:
    clips = foley.clip_set(2, seed=77)
    at = folder(tmp_path / "clips", files, {"dog.mp4": "dog.mp4"})
    (at / "labels.csv").write_text(f"path,foley\ndog.mp4,{clips.clips[0].foley}\n")
    run = folder_run(tmp_path / "run", at)
    with pytest.raises(ValueError, match="tested in"):
        leaks.refuse_run(leaks.fingerprints(clips), {}, run)


def test_question_files_are_guarded_and_become_rows(files: Path, tmp_path: Path) -> None:
    rows = [
        {
            "video_id": name, "question_id": n, "type": '["Audio", "Existential"]', "templ_values": f'["{name}"]',
            "question_content": "Is there a <Object> sound?", "anser": "yes" if n % 2 else "no",
        }
        for n, name in enumerate(("dog", "cat", "owl", "mute_a"))
    ]  # fmt: skip
    counts = [
        {**r, "question_id": 10 + n, "type": '["Audio", "Counting"]', "question_content": "How many are there?",
         "templ_values": "[]", "anser": ("one", "two", "three", "four")[n]}
        for n, r in enumerate(rows)
    ]  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps([*rows, *counts]))
    spec = f"music_avqa:{tmp_path / 'train.json'}"
    media_folder = {"media": str(files)}
    made = training_data.from_clips(
        spec, tmp_path / "set", mixture="questions", valid=0.0, seed=0, settings=media_folder
    ).made
    assert len(made.train) == 8
    for p in made.train:
        assert p.item.prompt.startswith("You should see clearly")
        assert p.chosen == f"<answer>{p.item.target}</answer>"
        assert p.item.tags["benchmark"] == "music_avqa"
    assert training_set.clips_of(made.info).clips[0].path is not None
    found = open_clips(spec, media=files)
    item = msgspec.structs.replace(made.train[0].item, clip="owl", source="owl")
    run = audited(tmp_path / "run", spec, [item], found.clips, settings=media_folder)
    with pytest.raises(ValueError, match="owl is owl"):
        training_data.from_clips(
            spec, tmp_path / "s2", mixture="questions", valid=0.0, seed=0, settings=media_folder, against=[run]
        )


# --- from a run, and the command line --------------------------------------------------------------------------


def watcher_run(at: Path, seed: int = 31, limit: int = 20) -> Path:
    """A run of a model that only watches, some of its answers failed or empty talk."""
    clips = open_clips("foley", limit=limit, seed=seed)
    items = mma.items(clips.clips, msgspec.structs.replace(SETTINGS, seeds=(0,)))
    run = audited(at, "foley", items, clips.clips, seed=seed)
    picture = Media(np.full((2, 4, 4, 3), 60, np.uint8), np.array([0.0, 0.5]), np.ones((1, 9), np.float32), 9, 1.0)
    said = control("sees").answer(items, [picture] * len(items))
    for n in range(0, len(said), 10):
        said[n] = Answer(item=said[n].item, model="fake:sees", error="timeout")
    for n in range(1, len(said), 10):
        said[n] = Answer(item=said[n].item, model="fake:sees", text="Well, that is a hard one to call.")
    runs.write_lines(run / "answers.jsonl", said)
    return run


def test_a_run_gives_its_clips_and_its_models_mistakes(tmp_path: Path) -> None:
    run, test = watcher_run(tmp_path / "train"), foley_run(tmp_path / "test", 0)
    made = training_data.from_run(run, tmp_path / "set", mixture="sp=1,mma=1", n=200, against=[test]).made
    own = {p.id: p for p in made.train if p.part == "sp"}
    assert own
    said = {a.text for a in runs.read_answers(run).values() if a.text}
    assert all({p.chosen, p.rejected} & said for p in own.values())
    assert not any("hard one" in f"{p.chosen} {p.rejected}" for p in own.values())
    assert made.info.run.endswith("(fake:hears)")
    assert {c.id for c in training_set.clips_of(made.info).clips} == {c.id for c in runs.read_clips(run)}
    assert training_set.read(tmp_path / "set") == made


def test_a_run_is_not_its_own_test(tmp_path: Path) -> None:
    run = watcher_run(tmp_path / "train", limit=6)
    with pytest.raises(ValueError, match="is the run to be trained on"):
        training_data.from_run(run, tmp_path / "set", against=[run])
    with pytest.raises(ValueError, match="is the folder of a run"):
        training_data.from_run(run, run)
    with pytest.raises(runs.RunError, match=r"holds no run.json"):
        training_data.from_run(run, tmp_path / "set", against=[tmp_path / "nowhere"])


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("batch", "4", "an option of text_model, and none is named"),
        ("ladder", "0.4", "--set ladder: no such setting here; there are classes"),
        ("twins", "0", "a whole number from 1"),
        ("shift_band", "3,2", "low <= high"),
        ("text_model", "nonsense", "unknown model"),
    ],
)
def test_settings_that_mean_nothing_here_are_named(key: str, value: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        training_data.from_clips("foley", tmp_path / "set", limit=4, settings={key: value})


def test_settings_are_kept_and_used(tmp_path: Path) -> None:
    made = training_data.from_clips(
        "foley", tmp_path / "set", mixture="ctp=1,mma=1", limit=30, seed=9, valid=0.0,
        settings={"shift_band": "0.5,0.6", "twins": "2", "classes": ",".join(foley.CLASSES)},
    ).made  # fmt: skip
    offsets = {abs(p.item.offset) for p in made.train if p.item.offset}
    assert offsets <= {0.5, 0.55, 0.6}
    assert made.info.classes == foley.CLASSES
    assert made.info.settings["twins"] == "2"
    assert max(Counter(p.item.clip for p in made.train if p.part == "mma").values()) == 8


def test_descriptions_make_general_rows(files: Path, tmp_path: Path) -> None:
    clips = folder(tmp_path / "c", files, {"dog.mp4": "dog.mp4", "cat.mp4": "cat.mp4", "owl.mp4": "owl.mp4"})
    told = tmp_path / "told.jsonl"
    told.write_text(
        "".join(
            json.dumps({"clip": n, "start": 0.1 * k, "end": 0.9, "visual": f"a {n} moves", "audio": f"a {n} calls"})
            + "\n"
            for k, n in enumerate(("dog", "cat", "owl"), 1)
        )
    )
    made = training_data.from_clips(
        str(clips), tmp_path / "set", mixture="general", valid=0.0, descriptions=told
    ).made
    said = [p for p in made.train if p.item.style == "description"]
    assert "From 0.1s to 0.9s one sees: a dog moves; one hears: a dog calls." in {p.chosen for p in said}
    assert all(p.item.clip in p.chosen and p.item.clip in p.item.tags["reference"] for p in said)


def test_text_only_model_is_any_model(tmp_path: Path) -> None:
    with_model = training_data.from_clips(
        "foley", tmp_path / "a", mixture="avqa", n=40, limit=20, valid=0.0, settings={"text_model": "fake:common"}
    )
    assert len(with_model.made.train) >= 40
    assert with_model.made.info.settings == {"text_model": "fake:common"}


def test_the_command_line_makes_a_set_and_says_what_is_in_it(tmp_path: Path) -> None:
    test = foley_run(tmp_path / "test", 0)
    at = tmp_path / "set"
    done = CliRunner().invoke(
        app,
        ["sft-data", "foley", "--limit", "20", "--seed", "3", "--n", "120", "--against", str(test), "-o", str(at)],
    )
    assert done.exit_code == 0, done.output
    assert "Training pairs: mma" in done.output
    assert "no pair comes of the 2 clips kept for validation" in done.output
    info = training_set.read(at).info
    assert info.parts == {"mma": 108}
    assert info.recipe == mixtures.NAMED["mma"]
    again = CliRunner().invoke(app, ["sft-data", "foley", "--seed", "0", "--against", str(test), "-o", str(at)])
    assert again.exit_code == 2
    assert "would be graded on what it was shown" in " ".join(again.output.split())


def test_the_guides_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "pairs.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert re.match(r"3\d pairs in train\n(?:mute|swap|original) \| ", capsys.readouterr().out)


def test_pairs_on_the_command_line(tmp_path: Path) -> None:
    run = watcher_run(tmp_path / "train")
    at = tmp_path / "set"
    done = CliRunner().invoke(app, ["pairs", str(run), "--mixture", "sp", "--valid", "0", "-o", str(at)])
    assert done.exit_code == 0, done.output
    assert "not checked against any audit" in done.output
    assert (at / "train.jsonl").exists()
    wrong = CliRunner().invoke(app, ["pairs", str(run), "--mixture", "spp", "-o", str(at)])
    assert wrong.exit_code == 2
    assert "did you mean sp?" in wrong.output


def test_references_are_written_into_a_set_once(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    training_data.from_clips("foley", folder, mixture="questions", limit=12, n=24, seed=3)
    before = training_set.read(folder)
    assert not any(p.reference for p in before.train)
    found = training_data.refer(folder, "truth")
    after = training_set.read(folder)
    assert (found.model, found.made, found.failed) == ("truth", len(before.train) + len(before.valid), {})
    assert [p.id for p in after.train] == [p.id for p in before.train]
    for p in (*after.train, *after.valid):
        heard = p.item.heard
        assert p.reference == ("I hear no sound." if not heard else p.reference)
        assert all(h in p.reference for h in heard)
    other = training_data.refer(folder, "fake:parrot")
    assert other.model == "fake:parrot"
    assert other.made + len(other.failed) == found.made
    asked = (folder / "references" / "answers.jsonl").read_bytes()
    again = training_data.refer(folder, "fake:parrot")
    assert (again.made, again.failed) == (other.made, other.failed)
    assert (folder / "references" / "answers.jsonl").read_bytes() == asked  # nothing was asked twice
    done = CliRunner().invoke(app, ["references", str(folder), "-m", "truth"])
    assert done.exit_code == 0, done.output
    assert "with a reference by truth" in " ".join(done.output.split())  # a long folder's name breaks the line
    assert CliRunner().invoke(app, ["references", str(tmp_path), "-m", "truth"]).exit_code == 2
