"""Foley: the truth of a procedural clip is exact, the same on every machine, and plain in sound and picture."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import scipy.io.wavfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from earwitness import foley
from earwitness.foley import pictures
from earwitness.records import Clip, ClipSet, View, digest

SMALL = View(fps=2.0, size=(56, 56), rate=16_000)


def _one(what: str, seed: int = 3, **more: object) -> foley.Scene:
    return foley.scene(seed, classes=(what,), **more)  # type: ignore[arg-type]


# ---- names, scenes, recipes ----


def test_twelve_classes_of_one_plain_word_none_inside_another() -> None:
    assert len(foley.CLASSES) >= 12
    assert all(c.isalpha() and c.islower() for c in foley.CLASSES)
    assert not [(a, b) for a, b in itertools.permutations(foley.CLASSES, 2) if a in b]
    assert set(foley.IMPACTS) <= set(foley.CLASSES)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(-(10**9), 10**12),
    kind=st.sampled_from(["natural", "impact"]),
    sources=st.integers(1, 3),
    difficulty=st.sampled_from(["easy", "medium", "hard"]),
    duration=st.floats(0.1, 20).map(lambda x: round(x, 3)),
    named=st.booleans(),
)
def test_a_scene_comes_back_from_its_recipe(seed, kind, sources, difficulty, duration, named) -> None:  # type: ignore[no-untyped-def]
    sources = 1 if kind == "impact" else sources
    classes = ("hammer", "bell", "drum")[:sources] if named else None
    s = foley.scene(seed, kind=kind, sources=sources, classes=classes, difficulty=difficulty, duration=duration)
    assert foley.parse(s.recipe) == s
    assert len(set(s.names)) == sources
    assert sorted(x.slot for x in s.sources) == list(range(sources))
    assert s.names == classes or not named
    for x in s.sources:
        assert x.times, "everything sounds at least once"
        assert 0 <= x.times[0] <= x.times[-1] < duration
        assert list(x.times) == sorted(set(x.times))


def test_the_same_recipe_gives_the_same_media_in_another_process() -> None:
    recipe = "foley:natural/hard/3/2.5/seed=17"
    code = (
        "from earwitness import foley; from earwitness.records import View\n"
        f"m = foley.media(foley.parse({recipe!r}), View(size=(56, 56))); print(m.video_hash, m.audio_hash)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    m = foley.media(foley.parse(recipe), SMALL)
    assert run.stdout.split() == [m.video_hash, m.audio_hash]


def test_scenes_leave_the_global_generator_alone_and_seeds_differ() -> None:
    np.random.seed(0)
    before = digest(*np.random.get_state(legacy=True))
    a, b = (foley.media(foley.scene(k, classes=("bell",)), SMALL) for k in (1, 2))
    assert digest(*np.random.get_state(legacy=True)) == before
    assert a.video_hash != b.video_hash
    assert a.audio_hash != b.audio_hash


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"kind": "loud"}, "natural, impact"),
        ({"difficulty": "tricky"}, "easy, medium, hard"),
        ({"sources": 4}, "1 to 3"),
        ({"sources": 2, "kind": "impact"}, "1 to 1"),
        ({"classes": ("bell", "piano")}, "piano"),
        ({"classes": ("bell", "bell")}, "repeat"),
        ({"classes": "bell"}, r"\('bell',\)"),
        ({"classes": ("bell",), "sources": 2}, "1 to 1"),
        ({"classes": ("frog",), "kind": "impact"}, "frog"),
        ({"duration": 4000}, "milliseconds"),
        ({"duration": float("nan")}, "nan"),
    ],
)
def test_wrong_scenes_are_refused_in_words(kwargs: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        foley.scene(1, **kwargs)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "recipe",
    [
        "",
        "bell",
        "foley:natural/easy/1/4.0",
        "foley:natural/easy/x/4.0/seed=1",
        "foley:natural/easy/1/4.0/seed=1/bell",
    ],
)
def test_a_wrong_recipe_shows_a_right_one(recipe: str) -> None:
    with pytest.raises(ValueError, match=r"one reads foley:natural/easy/2/4\.0/seed=17"):
        foley.parse(recipe)


# ---- one clock ----


@pytest.mark.parametrize("duration", [0.1, 0.37, 1.0, 4.0, 7.313])
@pytest.mark.parametrize(
    ("size", "fps", "rate"), [((56, 56), 2.0, 16_000), ((17, 31), 7.5, 44_100), ((64, 36), 30.0, 8_000)]
)
def test_any_duration_size_and_rate(duration: float, size: tuple[int, int], fps: float, rate: int) -> None:
    m = foley.media(foley.scene(5, sources=2, duration=duration), View(fps=fps, size=size, rate=rate))
    assert m.frames is not None
    assert m.times is not None
    assert m.wave is not None
    assert m.frames.dtype == np.uint8
    assert m.frames.shape == (len(m.times), *size, 3)
    np.testing.assert_allclose(m.times, np.arange(len(m.times)) / fps)
    assert m.times[-1] < duration <= m.times[-1] + 1 / fps + 1e-9
    assert m.wave.shape == (1, round(duration * rate))
    assert m.wave.dtype == np.float32
    assert m.duration == duration


def test_size_follows_the_pixel_cap_and_refuses_nonsense() -> None:
    assert pictures.size_of(View()) == (360, 640)
    h, w = pictures.size_of(View(max_pixels=20_000))
    assert h * w <= 20_000 < 1.15 * h * w
    assert h % 2 == w % 2 == 0
    assert abs(w / h - 16 / 9) < 0.05
    with pytest.raises(ValueError, match="GB"):
        foley.media(_one("bell", duration=600), View(fps=25))
    for view in (View(size=(2, 99)), View(max_pixels=3), View(fps=0), View(rate=16, size=(56, 56))):
        with pytest.raises(ValueError, match="foley"):
            foley.media(_one("bell"), view)


@pytest.mark.parametrize("sources", [1, 2])
def test_the_picture_does_not_depend_on_the_frame_rate(sources: int) -> None:
    s = foley.scene(8, sources=sources, difficulty="medium")
    slow = foley.media(s, View(fps=2, size=(48, 64))).frames
    fast = foley.media(s, View(fps=10, size=(48, 64))).frames
    assert slow is not None
    assert fast is not None
    np.testing.assert_array_equal(slow, fast[::5])


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_the_picture_does_not_depend_on_the_size(difficulty: str) -> None:
    for k, what in enumerate(foley.CLASSES):
        s = _one(what, k, difficulty=difficulty)
        small = foley.media(s, SMALL).frames
        large = foley.media(s, View(fps=2, size=(224, 224))).frames
        assert small is not None
        assert large is not None
        mean = large.reshape(-1, 56, 4, 56, 4, 3).mean((2, 4))
        assert np.abs(mean - small).mean() < 2.0, what


@pytest.mark.parametrize("what", foley.CLASSES)
def test_the_sound_does_not_depend_on_the_rate(what: str) -> None:
    s = _one(what)
    high = foley.stems(s, View(rate=48_000))[what][0]
    low = foley.stems(s, View(rate=16_000))[what][0]
    same = soxr.resample(high, 48_000, 16_000)[: len(low)]
    assert np.corrcoef(same, low)[0, 1] > 0.95


# ---- stems and events ----


@pytest.mark.parametrize("difficulty", ["easy", "medium", "hard"])
@pytest.mark.parametrize("sources", [1, 2, 3])
def test_stems_add_up_to_the_wave_exactly(difficulty: str, sources: int) -> None:
    for seed in range(4):
        s = foley.scene(seed, sources=sources, difficulty=difficulty)  # type: ignore[arg-type]
        wave, parts = foley.media(s, SMALL).wave, foley.stems(s, SMALL)
        assert wave is not None
        assert tuple(parts) == (*s.names, "room")
        total = np.zeros_like(wave)
        for part in parts.values():
            assert part.dtype == np.float32
            total += part
        np.testing.assert_array_equal(total, wave)
        assert np.abs(wave).max() <= 1.0
        rms = {k: float(np.sqrt((v**2).mean())) for k, v in parts.items()}
        assert 0 < rms["room"] < min(rms[n] for n in s.names), "the room is quieter than the things in it"


@pytest.mark.parametrize("what", foley.CLASSES)
def test_each_sound_starts_at_its_event(what: str) -> None:
    rate = 48_000
    for seed in range(3):
        s = _one(what, seed)
        wave = foley.stems(s, View(rate=rate))[what][0]
        times = s.sources[0].times
        assert not wave[: round(times[0] * rate)].any(), "exact silence before the first event"
        for t in times:
            if t > s.duration - 0.03:
                continue
            at, step = round(t * rate), np.abs(np.diff(wave))
            after = step[at : at + rate // 100].max()
            ahead = step[max(0, at - rate // 100) : max(1, at - 1)].max(initial=0)
            assert after > 2 * ahead, (t, after, ahead)  # within 10 ms, over what still rings
            assert after > 0.02 * step.max()


@pytest.mark.parametrize("what", foley.CLASSES)
def test_the_picture_jumps_at_each_event(what: str) -> None:
    fps = 100
    for seed in range(2):
        s = _one(what, seed, duration=2.5)
        frames = foley.media(s, View(fps=fps, size=(56, 56))).frames
        assert frames is not None
        change = np.abs(np.diff(frames.astype(np.int16), axis=0)).mean((1, 2, 3))  # change[i]: frame i -> i + 1
        for t in s.sources[0].times:
            first = int(np.ceil(t * fps - 1e-6))  # the first frame at or after the event
            near = change[max(0, first - 1 - 10) : first + 10]
            assert change[first - 1] == near.max(), (seed, t)
            assert change[first - 1] > 3 * np.median(change)


@pytest.mark.parametrize("what", foley.IMPACTS)
def test_impacts_lie_anywhere_and_can_be_shifted(what: str) -> None:
    times = []
    for seed in range(40):
        c = foley.clip(_one(what, seed, kind="impact"))
        assert c.end == 6.0
        (event,) = c.events
        assert event.what == what
        assert event.seen == event.heard
        assert event.heard is not None
        assert any(0.3 <= event.heard + shift <= c.end - 0.3 for shift in (-2.5, 2.5))
        times.append(event.heard)
    counts, _ = np.histogram(times, bins=4, range=(0.6, 5.4))
    assert sum(counts) == 40
    assert min(counts) >= 3  # ten are expected in each quarter
    for duration in (0.5, 4.0, 12.0):
        (t,) = foley.scene(1, kind="impact", duration=duration).sources[0].times
        assert 0.05 * duration < t < 0.95 * duration


@pytest.mark.parametrize("what", foley.IMPACTS)
def test_an_impact_is_sharp_to_eye_and_ear(what: str) -> None:
    s = _one(what, 4, kind="impact")
    m = foley.media(s, View(fps=50, size=(56, 56), rate=16_000))
    assert m.frames is not None
    assert m.wave is not None
    (t,) = s.sources[0].times
    change = np.abs(np.diff(m.frames.astype(np.int16), axis=0)).mean((1, 2, 3))
    assert abs((int(change.argmax()) + 1) / 50 - t) <= 0.02
    power = m.wave[0, : len(m.wave[0]) // 160 * 160].reshape(-1, 160) ** 2
    loud = power.mean(1)
    heard = int(np.flatnonzero(loud > 0.1 * loud.max())[0]) * 0.01
    assert abs(heard - t) <= 0.011
    before, after = m.frames[int(t * 50) - 30].astype(int), m.frames[int(t * 50) + 30].astype(int)
    assert np.abs(before - after).mean() > 0.5, "half a second on, one still sees that it has happened"


# ---- plain to a listener and a looker ----


def _sound_features(wave: np.ndarray) -> np.ndarray:
    """Mean and spread over time of 40 log-mel bands."""
    x = np.lib.stride_tricks.sliding_window_view(wave[0], 400)[::320] * np.hanning(400)
    power = np.abs(np.fft.rfft(x, 512)) ** 2
    mel = 2595 * np.log10(1 + np.linspace(0, 8000, 257) / 700)
    centre = np.linspace(0, mel[-1], 42)
    bank = np.maximum(0, 1 - np.abs(mel[:, None] - centre[None, 1:-1]) / (centre[1] - centre[0]))
    log = np.log10(power @ bank + 1e-8)
    log = np.maximum(log, log.max() - 6)
    return np.concatenate([log.mean(0), log.std(0)])


def _picture_features(frames: np.ndarray) -> np.ndarray:
    """Square roots of a 4 x 4 x 4 colour histogram."""
    q = (frames // 64).astype(int)
    return np.sqrt(np.bincount((q[..., 0] * 16 + q[..., 1] * 4 + q[..., 2]).ravel(), minlength=64) / q[..., 0].size)


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_a_simple_probe_tells_the_classes_apart_by_ear_and_by_eye(difficulty: str) -> None:
    def features(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
        made = foley.clip_set(n, seed=seed, difficulty=difficulty)  # type: ignore[arg-type]
        media = [made.media(c, SMALL) for c in made.clips]
        labels = np.array([foley.CLASSES.index(c.seen[0]) for c in made.clips])
        sound = np.array([_sound_features(m.wave) for m in media if m.wave is not None])
        picture = np.array([_picture_features(m.frames) for m in media if m.frames is not None])
        return [sound, picture], labels

    train, y = features(96, 1)
    test, truth = features(60, 2)
    for name, a, b in zip(("sound", "picture"), train, test, strict=True):
        mean, spread = a.mean(0), a.std(0) + 1e-3
        a, b = (a - mean) / spread, (b - mean) / spread
        centres = np.array([a[y == k].mean(0) for k in range(len(foley.CLASSES))])
        said = ((b[:, None] - centres) ** 2).sum(-1).argmin(1)
        assert (said == truth).mean() > 0.9, (name, difficulty)


def test_small_views_are_fast() -> None:
    made = foley.clip_set(24, seed=3)
    spent = []
    for c in made.clips:
        start = time.process_time()  # the work, not the waiting for a core
        made.media(c, SMALL)
        spent.append(time.process_time() - start)
    assert np.median(spent) < 0.05, "about 5 ms on a free core; ten times that means that something is wrong"


# ---- clips and files ----


def test_clip_sets_are_balanced_apart_and_repeatable() -> None:
    a, b = foley.clip_set(30, seed=1, sources=2), foley.clip_set(30, seed=2, sources=2)
    assert a.clips == foley.clip_set(30, seed=1, sources=2).clips
    assert foley.clip_set(10, seed=1, sources=2).clips == a.clips[:10]
    assert not {c.id for c in a.clips} & {c.id for c in b.clips}
    assert len({c.id for c in a.clips}) == 30
    counts = [sum(c.seen[0] == what for c in a.clips) for what in foley.CLASSES]
    assert max(counts) - min(counts) <= 1
    assert all(len(set(c.seen)) == 2 and c.seen == c.heard for c in a.clips)
    with pytest.raises(ValueError, match="2 sources need"):
        foley.clip_set(3, sources=2, classes=("bell",))


def test_a_clip_carries_the_truth_of_its_scene() -> None:
    s = foley.scene(9, sources=3)
    c = foley.clip(s, split="train")
    assert c.seen == c.heard == s.names
    assert c.stems == (*s.names, "room")
    assert c.split == "train"
    assert c.foley is not None
    assert foley.parse(c.foley) == s
    assert [e.seen for e in c.events] == sorted(t for x in s.sources for t in x.times)
    assert not any(name in c.id for name in foley.CLASSES), "an id gives nothing away"
    made: ClipSet = foley.FoleyClips([c])
    assert made.media(c, SMALL).audio_hash == foley.media(s, SMALL).audio_hash
    assert tuple(made.stems(c, SMALL)) == c.stems
    with pytest.raises(ValueError, match="no recipe"):
        foley.FoleyClips([Clip(id="x", path="x.mp4")])


def test_written_clips_come_back(tmp_path: Path) -> None:
    from earwitness import media

    made = foley.clip_set(2, seed=4, sources=2, duration=1.2)
    manifest = foley.write(tmp_path / "set", made)
    rows = [msgspec.json.decode(line, type=Clip) for line in manifest.read_bytes().splitlines()]
    assert [msgspec.structs.replace(r, path=None) for r in rows] == list(made.clips)
    for row in rows:
        assert row.path is not None
        path = manifest.parent / row.path
        stamp = path.stat().st_mtime_ns
        assert made.file(row, manifest.parent) == path
        assert path.stat().st_mtime_ns == stamp, "what is there is not written again"
        view = View(fps=5, size=(360, 640), rate=48_000)
        want, got = made.media(row, view), media.load(path, view)
        assert got.frames is not None
        assert got.wave is not None
        assert want.frames is not None
        assert want.wave is not None
        assert got.frames.shape == want.frames.shape
        assert np.abs(got.frames.astype(int) - want.frames).mean() < 3
        assert got.wave.shape == want.wave.shape
        np.testing.assert_allclose(got.wave, want.wave, atol=2e-4)
        total = np.zeros_like(want.wave)
        for name in row.stems:
            rate, stem = scipy.io.wavfile.read(manifest.parent / "stems" / row.id / f"{name}.wav")
            assert rate == 48_000
            total += stem
        np.testing.assert_array_equal(total, want.wave)


def test_the_contact_sheet_has_a_row_for_each_class(tmp_path: Path) -> None:
    path = foley.contact_sheet(tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(path))
    rows = np.array_split(sheet, len(foley.CLASSES))
    assert all(row.std() > 20 for row in rows)


def test_another_sets_manifest_is_not_overwritten(tmp_path: Path) -> None:
    first = foley.clip_set(2, seed=4, duration=1.0)
    manifest = foley.write(tmp_path, first)
    told = manifest.read_bytes()
    with pytest.raises(ValueError, match=r"holds other clips \(2 in clips.jsonl\): take another folder"):
        foley.write(tmp_path, foley.clip_set(2, seed=5, duration=1.0))
    assert manifest.read_bytes() == told
    assert foley.write(tmp_path, first).read_bytes() == told, "the same set again is the same"
    assert len(foley.write(tmp_path, foley.clip_set(3, seed=4, duration=1.0)).read_bytes().splitlines()) == 3
