"""Arrays to files: packets untouched, sound exact, time in samples. Numbers: acceptance tests."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from earwitness import media
from earwitness.media import MediaError
from earwitness.media.signal import find_lag, onsets
from earwitness.media.write import rebuilt_dts
from earwitness.records import View
from test_media_clips import (
    clicks,
    cut,
    delay,
    ffmpeg_wave,
    make,
    needs_ffmpeg,
    noise,
    number_of,
    packets_of,
    picture,
    shown,
    stamps_of,
    steady,
    turn,
)

RATE = 48_000


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("sources")
    plain, wave = steady(50), noise(2.0, channels=2)
    out = {
        "plain": make(home / "plain.mp4", ms=plain, sound=wave, acodec="flac"),
        "aac": make(home / "aac.mp4", ms=plain, sound=wave),
        "matroska": make(home / "m.mkv", ms=plain, sound=wave, acodec="flac"),
        "jerky": make(home / "j.mp4", ms=[0, 33, 500, 533, 1200, 1233, 1300, 1960], sound=wave),
        "late": make(home / "late.mkv", ms=steady(50, start=500), sound=noise(3.0, channels=2), acodec="flac"),
        "webm": make(home / "w.webm", ms=steady(50, start=7), sound=wave, acodec="libopus", vcodec="libvpx-vp9"),
        "av1": make(home / "av1.mp4", ms=plain, sound=wave, vcodec="libsvtav1"),
        "hevc": make(home / "hevc.mp4", ms=plain, sound=wave, vcodec="libx265"),
        "avi": make(home / "old.avi", ms=plain, sound=wave, acodec="pcm_s16le", vcodec="mpeg4"),
        "no_sound": make(home / "n.mp4", ms=plain),
    }
    out["cut"] = cut(out["aac"], home / "cut.mp4", 17)
    out["turned"] = turn(make(home / "t.mp4", ms=plain, sound=wave), 1)
    return out


KINDS = "plain aac matroska jerky late webm av1 hevc avi no_sound cut turned".split()


def sixteen(wave: np.ndarray) -> np.ndarray:
    """What 16 bits keep of a wave."""
    return (np.clip(np.rint(wave * 32768), -32768, 32767) / 32768).astype(np.float32)


def fresh(source: Path, channels: int = 2, rate: int = RATE, seed: int = 5) -> np.ndarray:
    """Another sound, as long as the source."""
    duration = media.load_native(source).duration
    return noise(duration + 1, rate, channels, seed)[:, : round(duration * rate)]


@pytest.mark.parametrize("kind", KINDS)
def test_packets_and_times_are_kept_and_the_sound_is_exact(
    sources: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    source, out = sources[kind], tmp_path / "o.mp4"
    wave = fresh(source)
    media.write_sound(source, wave, RATE, out)
    assert packets_of(out) == packets_of(source)
    assert np.array_equal(shown(out), shown(source))
    was, now = np.array(stamps_of(source)), np.array(stamps_of(out))
    assert now[0] == pytest.approx(0, abs=1e-9)
    assert np.abs((was - was[0]) - (now - now[0])).max() < 1e-4
    heard = media.load_native(out)
    assert heard.rate == RATE
    assert np.array_equal(heard.wave, sixteen(wave))
    assert media.probe(out).sound.start == pytest.approx(0, abs=1e-9)
    assert media.probe(out).picture.rotation == media.probe(source).picture.rotation
    view = View(fps=3)
    assert media.load(out, view).video_hash == media.load(source, view).video_hash


@needs_ffmpeg
@pytest.mark.parametrize("shift", [0.4, -0.4, 0.0])
def test_1_2_a_shift_in_samples_is_seen_by_all_and_keeps_the_length(
    sources: dict[str, Path], shift: float, tmp_path: Path
) -> None:
    native = media.load_native(sources["plain"])
    step = round(shift * RATE)
    moved = np.zeros_like(native.wave)
    if step >= 0:
        moved[:, step:] = native.wave[:, : native.wave.shape[1] - step]
    else:
        moved[:, :step] = native.wave[:, -step:]
    out = tmp_path / "s.mp4"
    media.write_sound(sources["plain"], moved, RATE, out)
    ours, oracle = media.load_native(out).wave, ffmpeg_wave(out, RATE, 2)
    assert ours.shape == oracle.shape == native.wave.shape
    assert np.array_equal(ours, oracle)
    for channel in (0, 1):  # test 16: both of them
        assert delay(native.wave[channel : channel + 1], oracle[channel : channel + 1]) == step
    lag = find_lag(native.wave, ours, RATE)
    assert lag.verdict == "found"
    assert lag.seconds == step / RATE


def test_1_a_shift_by_time_stamps_does_not_fool_the_clock(tmp_path: Path) -> None:
    """Loaders that concatenate hear such a file unshifted; on our clock it is late, as in a player."""
    late = make(tmp_path / "stamp.mp4", ms=steady(50), sound=noise(1.5), acodec="flac", sound_ms=400)
    wave = media.load_native(late).wave
    assert delay(noise(1.5), wave) == 19_200
    media.write_sound(late, wave, RATE, tmp_path / "o.mp4")
    assert media.probe(tmp_path / "o.mp4").sound.start == 0
    assert delay(noise(1.5), media.load_native(tmp_path / "o.mp4").wave) == 19_200


def test_4_a_cut_goes_to_mp4_but_not_to_matroska(sources: dict[str, Path], tmp_path: Path) -> None:
    wave = fresh(sources["cut"])
    with pytest.raises(ValueError, match="Matroska"):
        media.write_sound(sources["cut"], wave, RATE, tmp_path / "o.mkv")
    assert not list(tmp_path.iterdir())
    media.write_sound(sources["cut"], wave, RATE, tmp_path / "o.mp4")
    frames = media.load(tmp_path / "o.mp4", View(fps=25)).frames
    assert [number_of(f) for f in frames] == list(range(17, 50))


def test_5_matroska_sound_is_exact_in_spite_of_its_milliseconds(sources: dict[str, Path], tmp_path: Path) -> None:
    rate = 44_100
    wave = fresh(sources["plain"], rate=rate)
    media.write_sound(sources["plain"], wave, rate, tmp_path / "o.mkv")
    assert np.array_equal(media.load_native(tmp_path / "o.mkv").wave, sixteen(wave))


def test_6_missing_decode_stamps_are_rebuilt() -> None:
    pts = [0, 80, 40, 20, 60, 160, 120, 100, 140]
    dts = rebuilt_dts(pts)
    assert dts == sorted(set(dts))
    assert all(d <= p for d, p in zip(dts, pts, strict=True))
    assert rebuilt_dts([0, 10, 20]) == [0, 10, 20]


def test_7_one_demux_writes_many_files_none_disturbs_the_next(sources: dict[str, Path], tmp_path: Path) -> None:
    wave = fresh(sources["matroska"])
    media.write_sound(sources["plain"], wave, RATE, tmp_path / "alone.mp4")
    with media.demux(sources["plain"]) as source:
        before = media.load(source).video_hash
        for name in ("a.mkv", "b.mp4", "c.mp4"):
            media.write_sound(source, wave, RATE, tmp_path / name)
        assert media.load(source).video_hash == before
    expected = stamps_of(tmp_path / "alone.mp4")
    assert stamps_of(tmp_path / "b.mp4") == stamps_of(tmp_path / "c.mp4") == expected
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "c.mp4").read_bytes()


@pytest.mark.parametrize(
    ("codec", "name", "slip"),
    [
        ("alac", "o.mp4", "stay silent"),  # test 8
        ("aac", "o.mkv", "1024 samples late"),
        ("vorbis", "o.mp4", "must be 'flac'"),
        ("flac", "o.gif", "write clips as"),
        ("flac", "nowhere/o.mp4", "no folder"),
    ],
)
def test_8_what_would_fail_silently_is_refused(
    sources: dict[str, Path], codec: str, name: str, slip: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=slip):
        media.write_sound(sources["plain"], fresh(sources["plain"]), RATE, tmp_path / name, codec)
    assert not list(tmp_path.iterdir())


def test_13_the_original_through_the_same_writer_is_the_original(sources: dict[str, Path], tmp_path: Path) -> None:
    native = media.load_native(sources["plain"])
    media.write_sound(sources["plain"], native.wave, native.rate, tmp_path / "sham.mp4")
    assert media.load(tmp_path / "sham.mp4").audio_hash == media.load(sources["plain"]).audio_hash
    assert media.load(tmp_path / "sham.mp4").video_hash == media.load(sources["plain"]).video_hash


@pytest.mark.parametrize("codec", ["flac", "aac"])
def test_14_a_muted_track_is_there_and_exactly_zero(sources: dict[str, Path], codec: str, tmp_path: Path) -> None:
    duration = media.load_native(sources["no_sound"]).duration
    media.write_sound(
        sources["no_sound"], np.zeros((1, round(duration * 16_000)), np.float32), 16_000, tmp_path / "o.mp4", codec
    )
    wave = media.load(tmp_path / "o.mp4").wave
    assert wave is not None
    assert not wave.any()


@pytest.mark.parametrize(
    "wave",
    [
        np.zeros((1, RATE), np.float32),  # test 15: a donor that nobody fitted to the clip
        np.zeros((1, 3 * RATE), np.float32),
        np.zeros((2 * RATE, 2), np.float32),
        np.zeros(2 * RATE, np.float32),
        np.zeros((1, 2 * RATE), np.int16),
        np.full((1, 2 * RATE), np.nan, np.float32),
    ],
    ids=["short", "long", "transposed", "flat", "integers", "nan"],
)
def test_15_a_wave_that_cannot_be_right_is_refused(
    sources: dict[str, Path], wave: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="wave"):
        media.write_sound(sources["plain"], wave, RATE, tmp_path / "o.mp4")


def test_the_source_is_never_overwritten(sources: dict[str, Path]) -> None:
    before = sources["plain"].read_bytes()
    with pytest.raises(ValueError, match="source itself"):
        media.write_sound(sources["plain"], fresh(sources["plain"]), RATE, sources["plain"])
    assert sources["plain"].read_bytes() == before


def test_a_sound_file_has_no_pictures_to_keep(tmp_path: Path) -> None:
    path = make(tmp_path / "s.wav", sound=noise(1.0), acodec="pcm_s16le")
    with pytest.raises(MediaError, match="no picture track"):
        media.write_sound(path, noise(1.0), RATE, tmp_path / "o.mp4")


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize("kind", ["plain", "jerky", "cut"])
def test_aac_has_no_lag(sources: dict[str, Path], rate: int, kind: str, tmp_path: Path) -> None:
    wave = fresh(sources[kind], 1, rate)
    media.write_sound(sources[kind], wave, rate, tmp_path / "o.mp4", "aac")
    assert delay(wave, media.load_native(tmp_path / "o.mp4").wave) == 0


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8000, 22_050, 96_000])
def test_flac_is_exact_at_any_rate_and_layout(
    sources: dict[str, Path], channels: int, rate: int, tmp_path: Path
) -> None:
    wave = fresh(sources["plain"], channels, rate)
    media.write_sound(sources["plain"], wave, rate, tmp_path / "o.mp4")
    assert np.array_equal(media.load_native(tmp_path / "o.mp4").wave, sixteen(wave))


def test_loud_samples_are_clipped_not_wrapped(sources: dict[str, Path], tmp_path: Path) -> None:
    wave = 3 * fresh(sources["plain"], 1)
    media.write_sound(sources["plain"], wave, RATE, tmp_path / "o.mp4")
    assert np.array_equal(media.load_native(tmp_path / "o.mp4").wave, sixteen(wave))


# ------------------------------------------------------------------ encoding


@pytest.mark.parametrize("size", [(96, 128), (97, 131)])
def test_a_clip_from_arrays_comes_back(size: tuple[int, int], tmp_path: Path) -> None:
    frames = np.stack([picture(i, *size) for i in range(40)])
    wave = noise(1.6, 16_000)
    media.write_clip(frames, 25, wave, 16_000, tmp_path / "c.mp4")
    loaded = media.load(tmp_path / "c.mp4", View(fps=25))
    assert [number_of(f) for f in loaded.frames] == list(range(40))
    assert loaded.duration == pytest.approx(1.6)
    assert loaded.frames.shape[1:3] == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert np.abs(loaded.frames[:, : size[0], : size[1]].astype(int) - frames).mean() < 8
    assert np.array_equal(loaded.wave, sixteen(wave))
    data = (tmp_path / "c.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert media.probe(tmp_path / "c.mp4").picture.pixel_format == "yuv420p"


def test_a_clip_without_sound_has_no_track(tmp_path: Path) -> None:
    media.write_clip(np.stack([picture(i) for i in range(5)]), 29.97, None, 0, tmp_path / "c.mp4")
    assert media.load(tmp_path / "c.mp4").wave is None
    assert media.probe(tmp_path / "c.mp4").picture.fps == pytest.approx(29.97, rel=1e-4)


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        (np.zeros((5, 8, 8), np.uint8), 25),
        (np.zeros((5, 8, 8, 3), np.float32), 25),
        (np.zeros((5, 16, 16, 3), np.uint8), 0),
    ],
)
def test_wrong_frames_are_named(frames: np.ndarray, fps: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be"):
        media.write_clip(frames, fps, None, 0, tmp_path / "c.mp4")


@pytest.mark.parametrize("kind", ["plain", "jerky", "late", "turned", "cut", "no_sound"])
def test_black_and_freeze_keep_stamps_and_sound(sources: dict[str, Path], kind: str, tmp_path: Path) -> None:
    source = sources[kind]
    media.write_black(source, tmp_path / "b.mp4")
    media.write_freeze(source, tmp_path / "f.mp4", 0.6)
    was = np.array(stamps_of(source)) - stamps_of(source)[0]
    still = media.load(source, View(), start=0.6).frames[0]
    native = media.load_native(source)
    for name in ("b.mp4", "f.mp4"):
        assert np.abs(np.array(stamps_of(tmp_path / name)) - was).max() < 1e-4
        heard = media.load_native(tmp_path / name)
        assert heard.duration == pytest.approx(native.duration, abs=1e-4)
        if kind == "no_sound":
            assert heard.wave is None
        else:
            assert np.array_equal(heard.wave, sixteen(native.wave))
    black, frozen = (media.load(tmp_path / n, View(fps=5)).frames for n in ("b.mp4", "f.mp4"))
    assert not black.any()
    assert black.shape[1:] == still.shape
    assert {number_of(np.rot90(f) if kind == "turned" else f) for f in frozen} == {
        number_of(np.rot90(still) if kind == "turned" else still)
    }


def test_freeze_outside_of_the_clip_is_refused(sources: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="milliseconds"):
        media.write_freeze(sources["plain"], tmp_path / "f.mp4", 400)


def test_physics_a_beep_and_a_flash_move_by_what_was_asked(tmp_path: Path) -> None:
    """Real encode, real decode: a shift of 0.400 s moves the beep by 0.400 +- 0.001 s, and the flash not at all."""
    frames = np.full((75, 64, 64, 3), 20, np.uint8)
    frames[25:28] = 240
    beep = clicks([1.0], 3.0)
    media.write_clip(frames, 25, beep, RATE, tmp_path / "a.mp4")
    native = media.load_native(tmp_path / "a.mp4")
    step = round(0.4 * RATE)
    moved = np.pad(native.wave, ((0, 0), (step, 0)))[:, : native.wave.shape[1]]
    for codec in ("flac", "aac"):
        media.write_sound(tmp_path / "a.mp4", moved, RATE, tmp_path / "b.mp4", codec)
        at = [onsets(media.load_native(tmp_path / n).wave, RATE) for n in ("a.mp4", "b.mp4")]
        assert [len(a) for a in at] == [1, 1]
        assert at[0][0] == pytest.approx(1.0, abs=0.007)
        assert at[1][0] - at[0][0] == pytest.approx(0.4, abs=0.001)
        flash = [
            media.load(tmp_path / n, View(fps=25)).frames.mean(axis=(1, 2, 3)) > 128 for n in ("a.mp4", "b.mp4")
        ]
        assert np.flatnonzero(flash[0]).tolist() == np.flatnonzero(flash[1]).tolist() == [25, 26, 27]


SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[1] / ".." / "shared"))
REAL = sorted((SHARED / "data" / "clips").glob("*.mp4"))


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no real clips: set EARWITNESS_SHARED to the folder that holds data/clips")
def test_real_clips_keep_their_packets(tmp_path: Path) -> None:
    for source in REAL:
        native = media.load_native(source)
        if native.wave is None:
            wave, rate = fresh(source), RATE
        else:
            wave, rate = native.wave, native.rate
        media.write_sound(source, wave, rate, tmp_path / "o.mp4")
        assert packets_of(tmp_path / "o.mp4") == packets_of(source)
        assert np.array_equal(media.load_native(tmp_path / "o.mp4").wave, sixteen(wave))
        with av.open(str(tmp_path / "o.mp4")) as held:
            assert held.streams.audio[0].codec_context.name == "flac"
