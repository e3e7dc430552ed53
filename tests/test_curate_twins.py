"""Building sets: donors, splits, squares and scenes by themselves; then whole sets, killed and gone on with."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from earwitness import audit, interventions, media
from earwitness import run as runs
from earwitness.cli import app
from earwitness.curate import building, classes, jobs, mixtures, splits
from earwitness.curate.jobs import Key, Measure, Measured
from earwitness.curate.manifest import Variant, read_info, read_variants, wish
from earwitness.curate.preprocess import Square, cover, long_enough, prepare
from earwitness.curate.twins import Paired, Sound, Wanted, twins
from earwitness.datasets import folder
from earwitness.datasets.labels import LabelsError
from earwitness.media import MediaError
from earwitness.protocols import Settings, load
from earwitness.protocols.making import donors
from earwitness.records import Clip, Event, Intervention, View

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "clips"
TABLE = classes.read()
KINDS = (
    "Cat",
    "Canidae",
    "Horse",
    "Bird",
    "Frog",
    "Rain",
    "Clock",
    "Hammer",
    "Door",
    "Accordion",
    "Bell",
    "Vehicle",
)
RATE, FPS, LONG = 16_000, 10.0, 2.0


# ---------------------------------------------------------------- donors


def clip(number: int, kind: str, **more: Any) -> Clip:
    given_ = {"path": f"{number}.mp4", "end": 10.0, "seen": (kind,), "heard": (kind,), "source": f"v{number}"}
    return Clip(id=f"c{number:03d}", **{**given_, **more})


def herd(n: int, kinds: Sequence[str] = KINDS) -> list[Clip]:
    return [clip(i, kinds[i % len(kinds)]) for i in range(n)]


def sounds(
    clips: Sequence[Clip], lufs: float = -20.0, peak: float = 0.3, seconds: float = 10.0
) -> dict[str, Sound]:
    return {c.id: Sound(lufs=lufs, peak=peak, seconds=seconds) for c in clips}


def uses(found: Paired) -> Counter[str]:
    return Counter(t.donor for t in found.twins)


class TestDonors:
    def test_for_evaluation_clips_are_paired_off(self) -> None:
        clips = herd(36)
        found = twins(clips, sounds(clips), TABLE, Wanted())
        mine = {t.clip: t.donor for t in found.twins}
        by_id = {c.id: c for c in clips}
        assert len(mine) == 36
        assert not found.left_out
        assert all(mine[mine[i]] == i for i in mine)  # each takes the other's: a cluster is two sources
        assert all(by_id[a].heard != by_id[b].heard for a, b in mine.items())

    def test_for_training_ten_of_distinct_classes_and_every_sound_as_often(self) -> None:
        clips = herd(60)
        found = twins(clips, sounds(clips), TABLE, Wanted(n=10))
        by_id = {c.id: c for c in clips}
        for one in clips:
            mine = [by_id[t.donor] for t in found.twins if t.clip == one.id]
            kinds = [d.heard[0] for d in mine]
            assert len(kinds) == len(set(kinds)) == 10
            assert one.heard[0] not in kinds
        assert {9, 10, 11} >= set(uses(found).values())
        assert sum(uses(found).values()) == 600
        assert [t.turn for t in found.twins if t.clip == "c000"] == list(range(10))

    def test_unequal_classes_stay_balanced(self) -> None:
        kinds = [k for n, k in enumerate(KINDS) for _ in range(3 + 2 * n)]
        clips = [clip(i, k) for i, k in enumerate(kinds)]
        found = twins(clips, sounds(clips), TABLE, Wanted(n=6))
        assert len(found.twins) == 6 * len(clips)
        assert min(uses(found)[c.id] for c in clips) >= 5
        assert max(uses(found).values()) <= 7

    def test_a_donor_comes_within_reach_of_the_loudness_or_is_not_used(self) -> None:
        clips = herd(4, ("Cat", "Rain"))
        heard = sounds(clips)
        # Single clicks: turned down they go under anything, but +20 dB is too much for them.
        heard["c001"] = heard["c003"] = Sound(lufs=-40.0, peak=0.9, seconds=10.0)
        one_way = twins(clips, heard, TABLE, Wanted())
        assert {t.clip for t in one_way.twins} == {"c001", "c003"}
        assert {t.gain_db for t in one_way.twins} == {-20.0}
        assert "2 of 4 clips have no donor of another source and class within 3 LU" in one_way.left_out[0]
        both = twins(clips, heard, TABLE, Wanted(), lambda taker, giver: -2.5)
        assert {t.clip: t.left_lu for t in both.twins} == {"c000": -2.5, "c001": None, "c002": -2.5, "c003": None}
        assert len(twins(clips, heard, TABLE, Wanted(within=2.0), lambda taker, giver: -2.5).twins) == 2

    def test_sounds_that_need_no_limiter_are_preferred(self) -> None:
        clips = herd(24)
        heard = {c.id: Sound(lufs=-30.0 + i, peak=0.5, seconds=10.0) for i, c in enumerate(clips)}
        asked: list[str] = []

        def measure(taker: Clip, giver: Clip) -> float:
            asked.append(taker.id)
            return 0.0

        found = twins(clips, heard, TABLE, Wanted(n=3), measure)
        assert len(found.twins) == 72
        assert sum(t.pressed_db > 0 for t in found.twins) < 20  # of all pairs half would need it

    def test_silence_short_sounds_same_sources_and_distant_events(self) -> None:
        clips = [clip(0, "Cat"), clip(1, "Rain"), clip(2, "Bird")]
        heard = sounds(clips)
        assert len(twins(clips, heard, TABLE, Wanted(n=2)).twins) == 6
        quiet = {**heard, "c001": Sound(lufs=None, peak=0.0, seconds=10.0)}
        assert {(t.clip, t.donor) for t in twins(clips, quiet, TABLE, Wanted(n=2)).twins} == {
            ("c000", "c002"), ("c002", "c000"),
        }  # fmt: skip
        short = {**heard, "c001": Sound(lufs=-20.0, peak=0.3, seconds=4.0)}
        assert all(t.donor != "c001" for t in twins(clips, short, TABLE, Wanted(n=2)).twins)
        looped = twins(clips, short, TABLE, Wanted(n=2, loop=0.3)).twins
        assert {t.looped for t in looped if t.donor == "c001"} == {True}
        same = [clip(0, "Cat"), clip(1, "Rain", source="v0")]
        assert not twins(same, sounds(same), TABLE, Wanted()).twins
        late = [clip(0, "Cat", end=3.0), clip(1, "Rain", events=(Event("drop", 8.0, 8.0),))]
        assert {t.clip for t in twins(late, sounds(late), TABLE, Wanted(n=2)).twins} == {"c001"}

    def test_near_and_far(self) -> None:
        clips = herd(48)
        for distance, wanted in (("far", {3}), ("near", {1, 2})):
            found = twins(clips, sounds(clips), TABLE, Wanted(n=2, distance=distance))  # type: ignore[arg-type]
            assert {t.distance for t in found.twins} == wanted
        odd = [clip(0, "Cat"), clip(1, "zeppelin")]
        assert {t.distance for t in twins(odd, sounds(odd), TABLE, Wanted()).twins} == {None}
        with pytest.raises(ValueError, match="'zeppelin' is not in the class file mma-1"):
            twins(odd, sounds(odd), TABLE, Wanted(distance="far"))

    @given(st.permutations(range(30)), st.integers(1, 4), st.integers(0, 3))
    @settings(max_examples=15, deadline=None)
    def test_donors_follow_from_seed_and_clips_not_from_their_order(
        self, order: list[int], n: int, seed: int
    ) -> None:
        clips = [clip(i, KINDS[(i * i) % 7]) for i in range(30)]
        heard = {c.id: Sound(lufs=-20.0 - i % 5, peak=0.2, seconds=10.0) for i, c in enumerate(clips)}
        first = twins(clips, heard, TABLE, Wanted(n=n, seed=seed)).twins
        again = twins([clips[i] for i in order], heard, TABLE, Wanted(n=n, seed=seed)).twins
        assert {(t.clip, t.turn, t.donor) for t in first} == {(t.clip, t.turn, t.donor) for t in again}
        by_id = {c.id: c for c in clips}
        assert all(by_id[t.clip].heard != by_id[t.donor].heard for t in first)

    def test_wishes_that_cannot_be(self) -> None:
        for bad in ({"n": 0}, {"within": 0}, {"loop": 2.0}, {"uses": -1}):
            with pytest.raises(ValueError, match=r"wants|must"):
                Wanted(**bad)  # type: ignore[arg-type]


class TestSplits:
    def test_sources_stay_on_one_side_and_shares_come_out(self) -> None:
        clips = [clip(i, KINDS[i % 12], source=f"v{i // 2}") for i in range(400)]
        done = splits.split(clips, splits.Shares(valid=0.1, test=0.2), 0)
        sides: dict[str, set[str]] = {}
        for one in done:
            sides.setdefault(one.cluster, set()).add(one.split)
        assert {len(s) for s in sides.values()} == {1}
        count = Counter(next(iter(s)) for s in sides.values())
        assert (count["valid"], count["test"], count["train"]) == (20, 40, 140)
        tested = Counter(c.heard[0] for c in done if c.split == "test")
        assert len(tested) == 12  # every class

    def test_held_out_classes_are_neither_seen_nor_heard_in_training(self) -> None:
        clips = herd(120)
        done = splits.split(clips, splits.Shares(valid=0.1, hold_out=0.5), 1)
        kinds = {s: {c.heard[0] for c in done if c.split == s} for s in ("train", "valid", "unseen")}
        assert len(kinds["unseen"]) == 6
        assert not kinds["unseen"] & (kinds["train"] | kinds["valid"])
        assert len(kinds["train"]) == 6
        with pytest.raises(ValueError, match="per cent"):
            splits.Shares(valid=10)


# ---------------------------------------------------------------- squares and scenes


def video(
    path: Path, seconds: float = LONG, *, seed: int = 0, level: float = 0.1, fps: float = FPS,
    size: tuple[int, int] = (32, 48), at: float | None = None,
) -> Path:  # fmt: skip
    """A small clip: left half red, right half blue, noise with a burst at ``at``."""
    frames = np.zeros((round(seconds * fps), *size, 3), np.uint8)
    frames[:, :, : size[1] // 2, 0] = 200
    frames[:, :, size[1] // 2 :, 2] = 200
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal((1, round(seconds * RATE))) * level
    if at is not None:
        wave[0, : round(at * RATE)] *= 0.05
        wave[0, round((at + 0.2) * RATE) :] *= 0.05
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write_clip(frames, fps, wave.astype(np.float32), RATE, path)
    return path


class TestSquares:
    def test_nothing_is_stretched(self) -> None:
        assert cover(240, 320, 504) == (504, 672)
        assert cover(320, 240, 504) == (672, 504)
        assert cover(1080, 1920, 504) == (504, 896)
        for height, width in ((226, 400), (360, 480), (128, 128), (1280, 719)):
            tall, wide = cover(height, width, 504)
            assert min(tall, wide) == 504
            assert abs(tall / wide - height / width) < 0.01

    def test_the_middle_of_the_picture_at_that_size_and_length(self, tmp_path: Path) -> None:
        source = video(tmp_path / "a.mp4", 3.0, size=(48, 96))
        prepare(source, tmp_path / "b.mp4", Square(side=36, seconds=2.0))
        found = media.probe(tmp_path / "b.mp4")
        assert found.picture is not None
        assert (found.picture.width, found.picture.height, found.picture.frames) == (36, 36, 20)
        assert found.duration == pytest.approx(2.0)
        made = media.load(tmp_path / "b.mp4", View(fps=10.0))
        assert made.frames is not None
        red, blue = made.frames[5, 18, :14, 0].mean(), made.frames[5, 18, 22:, 2].mean()
        assert red > 150  # the seam is still in the middle
        assert blue > 150
        native = media.load_native(tmp_path / "b.mp4")
        before = media.load_native(source, end=2.0)
        assert native.wave is not None
        assert before.wave is not None
        np.testing.assert_allclose(native.wave, before.wave, atol=1e-4)

    def test_shorter_clips_are_refused_but_for_one_frame(self, tmp_path: Path) -> None:
        source = video(tmp_path / "a.mp4", 1.9)
        with pytest.raises(MediaError, match=r"lasts 1.90 s, shorter than 3 s"):
            prepare(source, tmp_path / "b.mp4", Square(side=32, seconds=3.0))
        prepare(source, tmp_path / "b.mp4", Square(side=32, seconds=2.0))  # one frame is missing
        native = media.load_native(tmp_path / "b.mp4")
        assert native.duration == pytest.approx(2.0)
        assert native.wave is not None
        assert not native.wave[:, -1000:].any()  # filled up
        assert long_enough(9.977, 29.97, 10.0)  # AudioSet's cuts
        assert not long_enough(9.9, 29.97, 10.0)

    def test_wishes_that_cannot_be(self) -> None:
        with pytest.raises(ValueError, match="even number"):
            Square(side=503)
        with pytest.raises(ValueError, match="milliseconds"):
            Square(seconds=10_000)


class TestScenes:
    def test_stems_add_up_and_each_is_as_loud_as_the_other(self) -> None:
        rng = np.random.default_rng(0)
        waves = {
            "a": (0.5 * rng.standard_normal((1, 48_000))).astype(np.float32),
            "b": (0.01 * rng.standard_normal((1, 48_000))).astype(np.float32),
        }
        stems, gains = mixtures.mixed(waves, 48_000)
        whole = mixtures.total(stems)
        assert np.abs(whole).max() <= mixtures.PEAK + 1e-6
        from earwitness.interventions.waves import level

        assert abs(level(stems["a"], 48_000) - level(stems["b"], 48_000)) < 0.1
        assert gains["b"] - gains["a"] == pytest.approx(20 * np.log10(50), abs=0.2)
        with pytest.raises(ValueError, match="b: is silent"):
            mixtures.mixed({**waves, "b": np.zeros((1, 48_000), np.float32)}, 48_000)

    def test_the_plan_uses_each_clip_once_and_classes_evenly(self) -> None:
        clips = herd(24)
        paths = {c.id: "x" for c in clips}
        scenes, lines = mixtures.plan(clips, paths, sounds(clips), 12)
        parts = [p for s in scenes for p in s.parts]
        assert len(scenes) == 12
        assert not lines
        assert len({p.clip for p in parts}) == 24
        assert all(s.parts[0].what != s.parts[1].what for s in scenes)
        few, lines = mixtures.plan(clips, paths, sounds(clips), 12, things=3, classes=("Cat", "bird", "Rain"))
        assert len(few) == 2
        assert "2 of 12 scenes of 3 things" in lines[0]
        with pytest.raises(ValueError, match="no clip is of class"):
            mixtures.plan(clips, paths, sounds(clips), 1, classes=("Cat", "zeppelin"))
        with pytest.raises(ValueError, match="2 to 4"):
            mixtures.plan(clips, paths, sounds(clips), 1, things=1)

    def test_a_scene_as_written_is_the_sum_of_its_stems(self, tmp_path: Path) -> None:
        files = [video(tmp_path / f"{n}.mp4", 2.0 + n / 2, seed=n, level=0.05 * (n + 1)) for n in range(2)]
        parts = tuple(
            mixtures.Part(f"c{n}", str(f), 0.0, None, k) for n, (f, k) in enumerate(zip(files, KINDS, strict=False))
        )
        scene = mixtures.Scene(id="s", parts=parts, seconds=2.0, split="test", licence="CC0")
        made = mixtures.write(scene, tmp_path / "s.mp4", tmp_path / "stems", side=32)
        assert made.residual_db < -60
        assert set(made.gains_db) == {"Cat", "Canidae"}
        seen = media.load(tmp_path / "s.mp4", View(fps=10.0, rate=48_000))
        assert seen.frames is not None
        assert seen.frames.shape[1:3] == (32, 64)  # side by side
        stems = {n: media.load(tmp_path / "stems" / f"{n}.wav", View(rate=48_000)).wave for n in made.gains_db}
        both = sum(w for w in stems.values() if w is not None)
        assert seen.wave is not None
        assert np.abs(both - seen.wave).max() < 1e-4
        left = interventions.apply(seen, Intervention(kind="drop_stem", stem="Cat"), stems=stems)  # type: ignore[arg-type]
        np.testing.assert_allclose(left.wave, stems["Canidae"], atol=1e-4)


# ---------------------------------------------------------------- whole sets


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of 2 s with an event each, one without labels and one that is silent."""
    at = tmp_path_factory.mktemp("home")
    rows = ["path,seen,heard,events,source,licence"]
    for n, kind in enumerate(("Cat", "Rain", "Bird", "Clock", "Cat", "Door")):
        video(at / f"k{n}.mp4", seed=n, level=0.05 + 0.02 * n, at=1.0)
        rows.append(f"k{n}.mp4,{kind},{kind},sound@1.0/1.0,v{n},{'CC0' if n % 2 else 'CC-BY-4.0'}")
    video(at / "two.mp4", seed=9)
    video(at / "mum.mp4", seed=8, level=0.0)
    rows += ["two.mp4,Cat,Rain,,,", "mum.mp4,Frog,Frog,,,"]
    (at / "labels.csv").write_text("\n".join(rows) + "\n")
    return at


EVERYTHING = {"shift_band": "0.5,0.6", "modified": "1", "scenes": "2", "panel": "32"}


def all_kinds(seed: int = 0) -> Any:
    return wish("eval", ["swap", "shift", "modified", "muted"], seed, EVERYTHING)


@pytest.fixture(scope="module")
def built(home: Path, tmp_path_factory: pytest.TempPathFactory) -> building.Built:
    return building.build(str(home), tmp_path_factory.mktemp("set"), all_kinds(), render=True)


def log(folder_: Path, stage: str) -> list[str]:
    path = folder_ / "work" / stage / "answers.jsonl"
    return [json.loads(line)["item"] for line in path.read_text().splitlines()] if path.exists() else []


class TestSets:
    def test_unwritten_it_is_a_labels_file_that_an_audit_reads(self, home: Path, tmp_path: Path) -> None:
        made = building.build(str(home), tmp_path, wish())
        assert sorted(p.name for p in tmp_path.iterdir()) == [
            "classes.txt", "labels.jsonl", "left_out.csv", "measured.jsonl", "set.json", "variants.jsonl", "work",
        ]  # fmt: skip
        clips = folder.read(tmp_path)
        assert [c.id for c in clips.clips] == [f"k{n}" for n in range(6)]
        assert all(len(c.donors) == 1 for c in clips.clips)
        rows = list(csv.DictReader((tmp_path / "left_out.csv").read_text().splitlines()))
        assert {r["clip"]: r["why"] for r in rows} == {
            "two": "is not of exactly one class that is both seen and heard", "mum": "is silent",
        }  # fmt: skip
        # Both protocols swap what the set says, and nothing else.
        mine = {c.id: c.donors[0] for c in clips.clips}
        for name, condition in (("mma", "audio_swapped"), ("thud", "swap")):
            items = load(name).items(clips.clips, Settings(long_context_tokens=5))
            swapped = {i.clip: i.intervention.donor for i in items if i.condition == condition}
            assert swapped == mine
        assert {t.clip: t.donor for t in made.twins} == mine
        measured = [json.loads(line) for line in (tmp_path / "measured.jsonl").read_text().splitlines()]
        first = next(m for m in measured if m["clip"] == "k0")
        assert len(first["found"]["sha256"]) == 64
        assert first["licence"] == "CC-BY-4.0"
        assert len({m["found"]["audio_hash"] for m in measured}) == 8

    def test_written_out_everything_is_there_and_measured(self, built: building.Built) -> None:
        at = built.folder
        assert not built.failed
        kinds = Counter(v.kind for v in built.variants)
        assert kinds == {"swap": 6, "shift": 12, "modified": 5, "muted": 4}
        assert all((at / str(v.path)).is_file() for v in built.variants)
        assert all(v.audio_hash and v.video_hash for v in built.variants)
        assert all(abs(v.residual_lu or 0.0) <= 3.0 for v in built.variants if v.kind == "swap")
        assert all((v.residual_db or 0.0) < -60 for v in built.variants if v.kind == "muted")
        assert {v.verdict for v in built.variants if v.kind == "shift"} == {"found"}
        labelled = folder.read(at / "variants").clips
        assert {c.id for c in labelled} == {v.id for v in built.variants}
        assert read_variants(at) == built.variants
        info = read_info(at)
        assert info is not None
        assert info.rendered
        assert info.counts["swap"] == 6
        clips = folder.read(at)
        assert {len(c.stems) for c in clips.clips} == {0, 2}  # scenes bring their stems
        items = load("av_confuse").items(clips.clips, Settings())
        assert {i.condition for i in items} == {"full", "muted", "modified"}

    def test_a_written_twin_is_what_an_audit_makes_in_memory(self, built: building.Built) -> None:
        clips = folder.read(built.folder)
        bank = audit.Bank(clips, View(fps=2.0, size=(32, 48), rate=RATE))
        for one in (v for v in built.variants if v.kind in ("swap", "shift", "modified", "muted")):
            virtual = bank.condition(one.clip, one.intervention)
            view = View(fps=2.0, size=(32, 48) if one.kind != "muted" else None, rate=RATE)
            written = media.load(built.folder / str(one.path), view)
            assert virtual.wave is not None
            assert written.wave is not None
            assert np.abs(virtual.wave - written.wave).max() < 2e-4, one.id  # 16-bit rounding
            if one.kind != "muted":
                assert virtual.frames is not None
                assert np.array_equal(virtual.frames, written.frames), one.id  # type: ignore[arg-type]

    def test_licences_of_both_are_said(self, built: building.Built) -> None:
        said = {v.licence for v in built.variants if v.kind == "swap"}
        assert said <= {
            "CC0", "CC-BY-4.0", "picture: CC0; sound: CC-BY-4.0", "picture: CC-BY-4.0; sound: CC0",
        }  # fmt: skip
        assert any("; " in s for s in said)

    def test_building_again_repeats_nothing(self, built: building.Built, home: Path) -> None:
        at = built.folder
        before = {p: p.stat().st_mtime_ns for p in at.rglob("*.mp4")}
        lines = {s: log(at, s) for s in ("measuring", "preparing", "mixing", "rendering")}
        victim = next(at.glob("variants/*repDiff*.mp4"))
        victim.unlink()
        again = building.build(str(home), at, all_kinds(), render=True)
        assert again.variants == built.variants
        after = {p: p.stat().st_mtime_ns for p in at.rglob("*.mp4")}
        assert set(after) == set(before)  # what was deleted is written again ...
        assert {p for p in after if after[p] != before[p]} == {victim}  # ... and nothing else
        assert {s: len(log(at, s)) - len(lines[s]) for s in lines} == {
            "measuring": 0, "preparing": 0, "mixing": 0, "rendering": 1,
        }  # fmt: skip

    def test_another_wish_needs_another_folder(self, built: building.Built, home: Path, tmp_path: Path) -> None:
        with pytest.raises(runs.RunError, match=r"holds a set with another (seed|twins)"):
            building.build(str(home), built.folder, all_kinds(seed=5), render=True)
        (tmp_path / "note.txt").touch()
        with pytest.raises(runs.RunError, match="is not empty and holds no set"):
            building.build(str(home), tmp_path, wish())

    def test_ctrl_c_keeps_what_is_done(self, home: Path, tmp_path: Path) -> None:
        def stage(name: str) -> audit.Progress:
            def progress(done: int, failed: int, total: int) -> None:
                if name == "preparing" and done == 3:
                    raise KeyboardInterrupt

            return progress

        with pytest.raises(KeyboardInterrupt):
            building.build(str(home), tmp_path, wish(), render=True, stage=stage)
        times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "clips").glob("*.mp4")}
        assert len(times) == 3
        done = building.build(str(home), tmp_path, wish(), render=True)
        assert len(done.variants) == 6
        for stage_name in ("measuring", "preparing", "rendering"):
            asked = log(tmp_path, stage_name)
            assert len(asked) == len(set(asked))
        assert all((tmp_path / "clips" / name).stat().st_mtime_ns == t for name, t in times.items())

    def test_for_training_squares_of_ten_seconds(self, home: Path, tmp_path: Path) -> None:
        given_ = {"twins": "3", "side": "36", "seconds": "1.5", "valid": "0.4"}
        made = building.build(str(home), tmp_path, wish("train", (), 0, given_), render=True)
        assert {c.split for c in made.clips} == {"train", "valid"}
        for one in made.clips:
            found = media.probe(tmp_path / str(one.path))
            assert found.picture is not None
            assert (found.picture.width, found.picture.height) == (36, 36)
            assert found.duration == pytest.approx(1.5)
        side = {c.id: c.split for c in made.clips}
        assert all(side[t.clip] == side[t.donor] for t in made.twins)  # a sound is not on two sides
        with pytest.raises(ValueError, match=r"none of 8 clips can be used: .*is shorter than 10 s"):
            building.build(str(home), tmp_path / "ten", wish("train"))

    def test_the_same_sound_twice_is_one(self, home: Path, tmp_path: Path) -> None:
        rows = "path,id,seen,heard\nk0.mp4,a,Cat,Cat\nk1.mp4,b,Rain,Rain\ncopy.mp4,c,Door,Door\n"
        for name in ("k0.mp4", "k1.mp4"):
            (tmp_path / name).write_bytes((home / name).read_bytes())
        (tmp_path / "copy.mp4").write_bytes((home / "k0.mp4").read_bytes())
        (tmp_path / "labels.csv").write_text(rows)
        made = building.build(str(tmp_path), tmp_path / "out", wish())
        assert made.left_out == [("c", "has the very same sound as a")]

    def test_wishes_are_checked(self) -> None:
        for purpose, kinds, given_, says in (
            ("tests", (), {}, "wants eval or train"), ("eval", ("swop",), {}, "did you mean 'swap'"),
            ("eval", (), {"twin": "3"}, "did you mean 'twins'"), ("eval", (), {"twins": "x"}, "--set twins: .*int"),
            ("eval", (), {"shift_band": "1800,2500"}, "milliseconds"), ("eval", (), {"scenes": "3"}, "make muted"),
            ("eval", (), {"classes": "none.csv"}, "no such class"), ("eval", (), {"distance": "close"}, "enum"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=says):
                wish(purpose, kinds, 0, given_)
        assert wish("train").twins.n == 10
        assert (wish("train").square.side, wish("train").square.seconds) == (504, 10.0)

    def test_the_verb(self, home: Path, tmp_path: Path) -> None:
        runner = CliRunner()
        done = runner.invoke(app, ["curate", "twins", str(home), "--out", str(tmp_path / "set"), "--limit", "4"])
        assert done.exit_code == 0, done.output
        assert "labels.jsonl" in done.output
        assert "How often each sound is used" in done.output
        bad = runner.invoke(app, ["curate", "twins", str(home), "--out", str(tmp_path / "b"), "--make", "swop"])
        assert bad.exit_code == 2
        assert "did you mean 'swap'" in bad.output
        other = runner.invoke(app, ["curate", "twins", str(home), "--out", str(tmp_path / "set"), "--seed", "7"])
        assert other.exit_code == 2
        assert "take another --out" in " ".join(other.output.split())


class TestJobs:
    def test_a_file_that_cannot_be_used_is_a_failure_with_its_reason(self, home: Path, tmp_path: Path) -> None:
        (tmp_path / "bad.mp4").write_bytes(b"no film")
        asked = {
            Key("a", "measure"): Measure(path=str(home / "k0.mp4")),
            Key("b", "measure"): Measure(path=str(tmp_path / "bad.mp4")),
        }
        found, failed = jobs.done(asked, tmp_path / "log", Measured)
        assert found[Key("a", "measure")].seconds == pytest.approx(LONG)
        assert "bad.mp4: opening failed" in failed[Key("b", "measure")]

    def test_a_changed_file_is_measured_again(self, home: Path, tmp_path: Path) -> None:
        one = tmp_path / "a.mp4"
        one.write_bytes((home / "k0.mp4").read_bytes())

        def measure() -> Measured:
            job = Measure(path=str(one), stamp=jobs.stamp(one))
            return jobs.done({Key("a", "measure"): job}, tmp_path / "log", Measured)[0][Key("a", "measure")]

        first = measure()
        assert measure() == first
        assert len((tmp_path / "log" / "answers.jsonl").read_text().splitlines()) == 1
        one.write_bytes((home / "k1.mp4").read_bytes())
        os.utime(one, ns=(1, 1))
        assert measure().sha256 != first.sha256


class TestLabels:
    def test_donors_in_a_labels_file(self, home: Path, tmp_path: Path) -> None:
        for n in range(3):
            (tmp_path / f"k{n}.mp4").write_bytes((home / f"k{n}.mp4").read_bytes())
        text = "path,seen,heard,donors\nk0.mp4,Cat,Cat,k1|k2\nk1.mp4,Rain,Rain,k0\nk2.mp4,Bird,Bird,\n"
        (tmp_path / "labels.csv").write_text(text)
        clips = folder.read(tmp_path).clips
        assert clips[0].donors == ("k1", "k2")
        assert {i: d.id for i, d in donors(clips, 0, 2).items()} == {"k0": "k1", "k1": "k0"}
        assert {i: d.id for i, d in donors(clips[::2], 0, 2).items()} == {"k0": "k2"}  # the first is not there
        (tmp_path / "labels.csv").write_text(text.replace("k1|k2", "k9|k0"))
        with pytest.raises(LabelsError, match=r"line 2: donors: 'k9' is no clip of this file"):
            folder.read(tmp_path)

    def test_a_donor_of_the_same_class_is_no_donor(self) -> None:
        clips = [clip(0, "Cat", donors=("c001",)), clip(1, "Cat"), clip(2, "Rain")]
        assert "c000" not in donors(clips, 0, 2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_and_again_repeats_nothing(home: Path, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "earwitness.cli",
        "curate",
        "twins",
        str(home),
        "--render",
        "--out",
        str(tmp_path / "set"),
    ]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(log(tmp_path / "set", "rendering")) < 2:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "set").rglob("*.mp4") if not p.name.startswith(".")}
    known = log(tmp_path / "set", "rendering")
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
    after = log(tmp_path / "set", "rendering")
    assert after[: len(known)] == known
    assert len(after) == len(set(after)) == 6
    changed = [p for p, t in before.items() if p.stat().st_mtime_ns != t]
    assert len(changed) <= 1  # the one in flight, if it was moved into place and not yet noted
    assert not list((tmp_path / "set").rglob(".*unverified*")) or len(after) == 6


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("executor", ["process", "ray"])
def test_several_workers_build_the_same_set(
    executor: Any, built: building.Built, home: Path, tmp_path: Path
) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    many = building.build(str(home), tmp_path, wish(), render=True, workers=2, executor=executor)
    assert many.variants == [v for v in built.variants if v.kind == "swap"]
    assert [c.id for c in many.clips] == [c.id for c in built.clips if not c.stems]


@pytest.mark.real
def test_real_clips_as_training_squares(tmp_path: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("no real clips at hand (set EARWITNESS_SHARED)")
    # 320 x 240, 10.06 s at 15 frames a second; 2 s of it, for speed.
    prepare(SHARED / "canidae_aligned.mp4", tmp_path / "a.mp4", Square(seconds=2.0), start=1.0)
    found = media.probe(tmp_path / "a.mp4")
    assert found.picture is not None
    assert found.sound is not None
    assert (found.picture.width, found.picture.height, found.picture.frames) == (504, 504, 30)
    assert found.duration == pytest.approx(2.0)
    assert (found.sound.rate, found.sound.channels) == (44_100, 2)
    with pytest.raises(MediaError, match="shorter than 10 s"):
        prepare(next(SHARED.glob("*Frog*")), tmp_path / "b.mp4")
    with pytest.raises(MediaError, match="has no sound track"):
        prepare(SHARED / "no_audio_track.mp4", tmp_path / "c.mp4")


def test_variants_say_what_is_then_true(built: building.Built) -> None:
    by_id = {c.id: c for c in built.clips}
    for one in built.variants:
        assert isinstance(one, Variant)
        if one.kind == "swap":
            assert one.heard == by_id[str(one.intervention.donor)].heard
            assert one.seen == by_id[one.clip].seen
            assert one.linked
            assert f"_repDiff_{one.heard[0]}_{one.turn}" in one.id
        if one.kind == "shift":
            assert one.offset == one.intervention.seconds
            assert ("delay" in one.id) == (one.offset > 0)
        if one.kind == "muted":
            assert set(one.seen) - set(one.heard) == {one.intervention.stem}
