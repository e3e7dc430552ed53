"""File to arrays: sampling by time stamps, the canonical clock, mix-down, odd files. Numbers: acceptance tests."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from earwitness import media
from earwitness.media import MediaError
from earwitness.media import decode as decoding
from earwitness.media.clock import clock
from earwitness.media.opening import demux
from earwitness.records import View
from test_media_clips import (
    clicks,
    cut,
    delay,
    ffmpeg_pictures,
    ffmpeg_wave,
    make,
    needs_ffmpeg,
    noise,
    number_of,
    picture,
    shown,
    stamps_of,
    steady,
    turn,
)

JERKY = [0, 33, 67, 300, 333, 900, 933, 967, 1000, 1500, 1533, 1600, 2000, 2033, 2400, 2433, 2467, 2900, 2933, 2967]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One clip for every way in which files differ."""
    home = tmp_path_factory.mktemp("clips")
    wave, stereo = noise(2.0), noise(2.0, channels=2)
    plain = steady(50)
    out = {
        "plain": make(home / "plain.mp4", ms=plain, sound=stereo),
        "mono": make(home / "mono.mp4", ms=plain, sound=noise(2.0, 16_000), rate=16_000),
        "surround": make(home / "surround.mp4", ms=plain, sound=noise(2.0, channels=6), acodec="flac"),
        "jerky": make(home / "jerky.mp4", ms=JERKY, sound=noise(3.0)),
        "late_sound": make(home / "late_sound.mkv", ms=plain, sound=wave, acodec="flac", sound_ms=500),
        "late_picture": make(home / "late_picture.mkv", ms=steady(50, start=500), sound=noise(3.0), acodec="flac"),
        "transport": make(home / "transport.ts", ms=plain, sound=stereo, muxing={"output_ts_offset": "1.4"}),
        "short_sound": make(home / "short_sound.mp4", ms=plain, sound=noise(0.7)),
        "long_sound": make(home / "long_sound.mp4", ms=plain, sound=noise(3.5)),
        "no_sound": make(home / "no_sound.mp4", ms=plain),
        "webm": make(home / "a.webm", ms=steady(50, start=7), sound=wave, acodec="libopus", vcodec="libvpx-vp9"),
        "matroska": make(home / "b_frames.mkv", ms=plain, sound=wave, acodec="flac"),
        "av1": make(home / "av1.mp4", ms=plain, sound=wave, vcodec="libsvtav1"),
        "hevc": make(home / "hevc.mp4", ms=plain, sound=wave, vcodec="libx265"),
        "avi": make(home / "old.avi", ms=plain, sound=wave, acodec="pcm_s16le", vcodec="mpeg4"),
        "odd": make(home / "odd.mp4", ms=plain, size=(98, 130), sound=wave),
    }
    out["cut"] = cut(out["plain"], home / "cut.mp4", 17)
    out["turned"] = turn(make(home / "turned.mp4", ms=plain, sound=wave), 1)
    return out


KINDS = (
    "plain mono surround jerky late_sound late_picture transport short_sound long_sound no_sound webm matroska av1 "
    "hevc avi odd cut turned"
).split()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fps", [2.0, 7.3])
def test_26_skipping_is_bit_equal_to_a_full_decode(files: dict[str, Path], kind: str, fps: float) -> None:
    view = View(fps=fps, max_pixels=5000)
    with demux(files[kind]) as source:
        ticking = clock(source)
        assert ticking is not None
        times = decoding.sample_times(fps, ticking.duration)
        fast = decoding._sample(source, ticking, times, view)
        full = decoding._sample(source, ticking, times, view, skip=False)
    assert np.array_equal(fast, full)
    loaded = media.load(files[kind], view)
    assert np.array_equal(loaded.frames, full)
    assert len(fast) == max(1, int(np.ceil(ticking.duration * fps - 1e-6)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_picture_is_the_one_on_show(files: dict[str, Path], kind: str) -> None:
    """Against a plain PyAV loop: the last picture at or before each nominal time, t = 0 at the first."""
    view = View(fps=5.0)
    loaded = media.load(files[kind], view)
    stamps = np.array(stamps_of(files[kind]))
    pictures = shown(files[kind])
    assert np.array_equal(loaded.times, np.arange(len(loaded.times)) / 5.0)
    for moment, frame in zip(loaded.times, loaded.frames, strict=True):
        index = np.searchsorted(stamps - stamps[0], moment + 1.5e-3, side="right") - 1
        plain = np.rot90(pictures[index], 3) if kind == "turned" else pictures[index]
        assert np.array_equal(frame, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_the_wave_is_exactly_as_long_as_the_clip(files: dict[str, Path], kind: str) -> None:
    loaded = media.load(files[kind], View(fps=1, rate=22_050))
    native = media.load_native(files[kind])
    assert (
        loaded.duration == native.duration == pytest.approx(3.0 if kind == "jerky" else loaded.duration, abs=0.04)
    )
    if kind == "no_sound":
        assert loaded.wave is None
        assert native.wave is None
        return
    assert loaded.wave.dtype == np.float32
    assert loaded.wave.shape == (1, round(loaded.duration * 22_050))
    assert native.wave.shape[1] == round(native.duration * native.rate)


def test_3_offsets_come_out_as_a_player_gives_them(files: dict[str, Path]) -> None:
    wave = noise(3.0)
    late = media.load_native(files["late_sound"]).wave
    assert delay(noise(2.0), late) == 24_000
    assert not late[:, :23_900].any()
    early = media.load_native(files["late_picture"]).wave  # the sound's first half second is before the pictures
    assert delay(wave, early) == -24_000
    transport = media.load_native(files["transport"])
    assert abs(delay(noise(2.0, channels=2), transport.wave)) <= 24  # stamps of 1/90000 s, priming samples cut
    assert media.probe(files["late_sound"]).sound.start == pytest.approx(0.5, abs=1e-3)
    assert media.probe(files["late_picture"]).sound.start == pytest.approx(-0.5, abs=1e-3)
    assert media.probe(files["transport"]).picture.start > 1.0


def test_aac_priming_is_not_a_lag(files: dict[str, Path]) -> None:
    assert delay(noise(2.0, channels=2), media.load_native(files["plain"]).wave) == 0
    assert delay(noise(2.0), media.load_native(files["cut"]).wave) != 0  # that one really starts later


def test_short_and_long_sound_keep_the_pictures_length(files: dict[str, Path]) -> None:
    short, long = (media.load(files[k], View()) for k in ("short_sound", "long_sound"))
    assert short.duration == long.duration == pytest.approx(2.0)
    assert not short.wave[0, int(0.8 * 16_000) :].any()
    assert np.abs(long.wave[0, -800:]).max() > 0.05


def test_4_a_cut_starts_at_its_first_shown_picture(files: dict[str, Path]) -> None:
    loaded = media.load(files["cut"], View(fps=25))
    assert [number_of(f) for f in loaded.frames] == list(range(17, 50))
    probed = media.probe(files["cut"])
    assert probed.picture.hidden == 17 % 12  # from the key picture on
    assert any("not shown" in flag for flag in probed.flags)
    # Sound: picture 17 is shown at 0.68 s of the source.
    assert delay(noise(2.0), loaded_wave(files["cut"])) == pytest.approx(
        -0.68 * 48_000, abs=48
    )  # mp4 rounds starts to 1 ms


def loaded_wave(path: Path) -> np.ndarray:
    return media.load_native(path).wave


@needs_ffmpeg
@pytest.mark.parametrize("kind", ["plain", "late_sound", "cut"])
def test_the_oracle_hears_the_same(files: dict[str, Path], kind: str) -> None:
    native = media.load_native(files[kind])
    heard = ffmpeg_wave(files[kind], native.rate, native.wave.shape[0])
    # The oracle concatenates: it drops the silence before late sound.
    assert delay(heard, native.wave) == round(media.probe(files[kind]).sound.start * native.rate)


def test_9_a_turned_clip_stands_upright(files: dict[str, Path]) -> None:
    loaded = media.load(files["turned"], View(fps=2))
    assert loaded.frames.shape[1:] == (128, 96, 3)
    # A quarter turn clockwise: the source's left edge is on top.
    assert number_of(np.rot90(loaded.frames[1], 1)) == 12
    assert media.load(files["turned"], View(size=(64, 48))).frames.shape[1:3] == (64, 48)
    assert media.probe(files["turned"]).picture.height == 128


@needs_ffmpeg
@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_9_the_oracle_turns_the_same_way(tmp_path: Path, quarter: int) -> None:
    path = turn(make(tmp_path / "t.mp4", ms=steady(5)), quarter)
    loaded = media.load(path, View(fps=25))
    expected = ffmpeg_pictures(path, *loaded.frames.shape[1:3])
    assert np.abs(loaded.frames.astype(int) - expected).mean() < 3  # another scaler's rounding
    assert np.abs(np.rot90(loaded.frames, 2, (1, 2)).astype(int) - expected).mean() > 30


def test_10_jerky_clips_are_sampled_by_their_stamps(files: dict[str, Path]) -> None:
    loaded = media.load(files["jerky"], View(fps=2))
    assert [number_of(f) for f in loaded.frames][:6] == [0, 4, 8, 9, 12, 16]
    probed = media.probe(files["jerky"])
    assert probed.picture.variable
    assert probed.picture.drift > 0.1
    assert any("drift" in flag for flag in probed.flags)


def test_10_a_wrong_claimed_rate_is_flagged(tmp_path: Path) -> None:
    dropped = [round(1000 * i / 30) for i in range(60) if i % 6]  # 25 a second on a grid of 30
    path = make(tmp_path / "grid.webm", ms=dropped, vcodec="libvpx-vp9", claims=30)
    probed = media.probe(path)
    assert probed.picture.fps == pytest.approx(25, rel=0.03)
    if probed.picture.claimed_fps and probed.picture.claimed_fps > 28:
        assert probed.picture.drift > 0.1
        assert any("drift" in flag for flag in probed.flags)
    loaded = media.load(path, View(fps=4))
    grid = np.array(dropped) - dropped[0]
    assert [number_of(f) for f in loaded.frames] == [
        int(np.sum(grid <= 250 * k + 1)) - 1 for k in range(len(loaded.times))
    ]


def test_11_a_first_stamp_of_7_ms_gives_all_pictures_once(files: dict[str, Path]) -> None:
    loaded = media.load(files["webm"], View(fps=12.5))
    assert len(loaded.frames) == 25
    assert [number_of(f) for f in loaded.frames] == list(range(0, 50, 2))


@pytest.mark.parametrize("kind", ["plain", "surround"])
def test_12_mono_is_the_mean_of_the_channels(files: dict[str, Path], kind: str) -> None:
    native = media.load_native(files[kind])
    mono = media.load(files[kind], View(rate=native.rate)).wave
    assert np.allclose(mono, native.wave.mean(axis=0), atol=1e-6)


def test_12_a_tone_keeps_its_level_and_opposite_channels_cancel(tmp_path: Path) -> None:
    tone = 0.25 * np.sin(2 * np.pi * 440 * np.arange(96_000) / 48_000).astype(np.float32)
    both = make(tmp_path / "in.mp4", ms=steady(50), sound=np.stack([tone, tone]), acodec="flac")
    against = make(tmp_path / "anti.mp4", ms=steady(50), sound=np.stack([tone, -tone]), acodec="flac")
    level = 20 * np.log10(np.sqrt(np.mean(media.load(both).wave[0, 1000:-1000] ** 2)) / (0.25 / np.sqrt(2)))
    assert abs(level) < 0.1
    assert np.abs(media.load(against).wave).max() < 1e-3


@pytest.mark.parametrize(
    ("rate", "acodec"), [(8000, "pcm_s16le"), (22_050, "aac"), (44_100, "libmp3lame"), (96_000, "flac")]
)
def test_any_rate_is_resampled_without_lag(tmp_path: Path, rate: int, acodec: str) -> None:
    suffix = ".mkv" if acodec == "pcm_s16le" else ".mp4"
    moments = [0.5, 1.25]
    path = make(tmp_path / f"r{suffix}", ms=steady(50), sound=clicks(moments, 2.0, rate), rate=rate, acodec=acodec)
    assert delay(clicks(moments, 2.0, 16_000), media.load(path).wave) in (-1, 0, 1)


def test_integers_of_eight_bits(tmp_path: Path) -> None:
    wave = noise(1.0)
    path = make(tmp_path / "e.wav", sound=wave, acodec="pcm_u8")
    assert np.abs(media.load_native(path).wave - wave).max() <= 1 / 128


def test_resampling_is_what_soxr_gives(files: dict[str, Path]) -> None:
    import soxr

    native = media.load_native(files["plain"])
    expected = soxr.resample(native.wave.mean(axis=0), native.rate, 16_000, quality="HQ")
    assert np.allclose(media.load(files["plain"]).wave[0], expected[:32_000], atol=1e-6)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_sound_files_have_no_pictures(tmp_path: Path, suffix: str) -> None:
    codec = {".wav": "pcm_s16le", ".flac": "flac", ".mp3": "libmp3lame"}[suffix]
    path = make(tmp_path / f"s{suffix}", sound=clicks([0.5, 1.5], 2.0), acodec=codec)
    loaded = media.load(path)
    assert loaded.frames is None
    assert loaded.times is None
    assert loaded.duration == pytest.approx(2.0, abs=0.05)
    assert loaded.wave.shape == (1, round(loaded.duration * 16_000))
    assert delay(clicks([0.5, 1.5], 2.0, 16_000), loaded.wave) in (-1, 0, 1)
    assert media.probe(path).flags[0] == "no picture track"
    part = media.load(path, start=0.4, end=1.0)
    assert part.wave.shape == (1, 9600)


def test_crop_is_a_cut_out_of_the_whole(files: dict[str, Path]) -> None:
    whole = media.load_native(files["plain"]).wave
    part = media.load_native(files["plain"], start=0.5, end=1.3)
    assert part.duration == pytest.approx(0.8)
    assert np.array_equal(part.wave, whole[:, 24_000:62_400])
    seen = media.load(files["plain"], View(fps=10), start=0.8, end=1.8)
    assert [number_of(f) for f in seen.frames] == [20, 22, 25, 27, 30, 32, 35, 37, 40, 42]
    assert seen.times[0] == 0.0
    assert seen.wave.shape == (1, 16_000)


@pytest.mark.parametrize(
    ("start", "end", "slip"),
    [
        (2000.0, None, "milliseconds"),
        (-1.0, None, "outside"),
        (1.0, 0.5, "not after"),
        (0.0, 10.0, "after the clip"),
    ],
)
def test_a_crop_outside_of_the_clip_is_refused(
    files: dict[str, Path], start: float, end: float | None, slip: str
) -> None:
    with pytest.raises(MediaError, match=slip):
        media.load(files["plain"], start=start, end=end)


def test_a_label_may_run_a_little_past_the_end(files: dict[str, Path]) -> None:
    assert media.load(files["plain"], end=2.3).duration == pytest.approx(2.0)


@pytest.mark.parametrize("size", [(50, 60), (112, 112), (200, 100)])
def test_size_is_exact_and_the_cap_keeps_the_aspect(files: dict[str, Path], size: tuple[int, int]) -> None:
    assert media.load(files["plain"], View(size=size)).frames.shape[1:3] == size
    frames = media.load(files["plain"], View(max_pixels=size[0] * size[1])).frames
    height, width = frames.shape[1:3]
    assert height * width <= size[0] * size[1]
    assert width / height == pytest.approx(128 / 96, rel=0.03)


@pytest.mark.parametrize("view", [View(fps=0), View(rate=16), View(size=(0, 5)), View(max_pixels=1), View(fps=1e9)])
def test_a_wrong_view_is_named(files: dict[str, Path], view: View) -> None:
    with pytest.raises(ValueError, match=r"view\.") as caught:
        media.load(files["plain"], view)
    assert not isinstance(caught.value, MediaError)


def test_one_opening_serves_many_reads(files: dict[str, Path]) -> None:
    with media.demux(files["cut"]) as source:
        first, second = media.load(source), media.load(source)
        native = media.load_native(source)
        probed = media.probe(source)
    again = media.load(files["cut"])
    for other in (first, second):
        assert other.video_hash == again.video_hash
        assert other.audio_hash == again.audio_hash
    assert np.array_equal(native.wave, media.load_native(files["cut"]).wave)
    assert probed == media.probe(files["cut"])


def test_a_still_picture_lasts_as_long_as_its_sound(tmp_path: Path) -> None:
    path = make(tmp_path / "still.mp4", ms=[0], sound=noise(2.0), acodec="flac")
    loaded = media.load(path)
    assert loaded.duration == pytest.approx(2.0, abs=0.01)
    assert len(loaded.frames) == 4
    assert number_of(loaded.frames[3]) == number_of(picture(0)) == 0


def test_a_hole_in_the_sound_is_silence(tmp_path: Path) -> None:
    from fractions import Fraction

    import av

    path = tmp_path / "hole.mkv"
    wave = noise(1.0)
    with av.open(str(path), "w") as out:
        track = out.add_stream("pcm_s16le", rate=48_000)
        track.codec_context.layout = "mono"
        for begin, at in ((0, 0), (4800, 4800), (9600, 24_000), (14_400, 28_800)):
            block = np.rint(wave[:, begin : begin + 4800] * 32768).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, at, Fraction(1, 48_000)
            out.mux(track.encode(frame))
        out.mux(track.encode(None))
    got = media.load_native(path).wave
    assert got.shape[1] == 33_600
    assert not got[:, 9600:24_000].any()
    assert np.allclose(got[:, 24_000:33_600], wave[:, 9600:19_200], atol=2e-5)


SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[1] / ".." / "shared"))
REAL = sorted((SHARED / "data" / "clips").glob("*.mp4"))


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no real clips: set EARWITNESS_SHARED to the folder that holds data/clips")
def test_real_clips_load_and_skip_exactly() -> None:
    for path in REAL:
        loaded = media.load(path, View(fps=2, max_pixels=120 * 120))
        assert len(loaded.frames) == int(np.ceil(2 * loaded.duration))
        with demux(path) as source:
            ticking = clock(source)
            full = decoding._sample(source, ticking, loaded.times, View(max_pixels=120 * 120), skip=False)
        assert np.array_equal(loaded.frames, full)
        if "no_audio" in path.name:
            assert loaded.wave is None
        else:
            assert loaded.wave.shape == (1, round(loaded.duration * 16_000))
            assert 0.001 < np.sqrt(np.mean(loaded.wave**2)) < 1
