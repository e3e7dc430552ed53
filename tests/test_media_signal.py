"""Loudness, onsets, lags, and what a person is shown of a clip."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from earwitness import media
from earwitness.media.look import look
from earwitness.media.signal import find_lag, loudness_lufs, onsets
from test_media_clips import FFMPEG, make, needs_ffmpeg, noise, steady

RATE = 16_000


def tone(seconds: float, rate: int = RATE, hz: float = 440.0, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate))[None].astype(np.float32)


def moved(wave: np.ndarray, step: int) -> np.ndarray:
    out = np.zeros_like(wave)
    if step >= 0:
        out[:, step:] = wave[:, : wave.shape[1] - step]
    else:
        out[:, :step] = wave[:, -step:]
    return out


def impacts(at: np.ndarray, seconds: float, bed: float, seed: int = 1) -> np.ndarray:
    """Six known impacts of different pitch and level over a noise bed [1, n]."""
    rng = np.random.default_rng(seed)
    out = rng.normal(0, 1, round(seconds * RATE)) * bed
    for moment, level, hz in zip(
        at, [0.5, 0.2, 0.4, 0.15, 0.3, 0.5], [400, 900, 2000, 500, 3000, 150], strict=True
    ):
        tail = np.arange(len(out) - round(moment * RATE)) / RATE
        ring = np.sin(2 * np.pi * hz * tail) + 0.5 * rng.normal(size=len(tail))
        out[round(moment * RATE) :] += level * np.exp(-25 * tail) * ring
    return out[None].astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_full_scale_sine_reads_minus_3(rate: int) -> None:
    """EBU Tech 3341, and the definition: a 997 Hz sine at 0 dBFS in one channel reads -3.01 LUFS."""
    assert loudness_lufs(tone(5, rate, 997, 1.0), rate) == pytest.approx(-3.01, abs=0.05)
    both = np.repeat(tone(5, rate, 997, 0.1), 2, axis=0)
    assert loudness_lufs(both, rate) == pytest.approx(-20.0, abs=0.05)


def test_gates_leave_out_silence() -> None:
    loud = tone(4)
    with_pause = np.concatenate([loud, np.zeros_like(loud)], axis=1)
    assert loudness_lufs(with_pause, RATE) == pytest.approx(loudness_lufs(loud, RATE), abs=0.3)


@needs_ffmpeg
@pytest.mark.parametrize(("channels", "rate"), [(1, 16_000), (2, 48_000), (6, 48_000)])
def test_loudness_is_what_the_oracle_reads(channels: int, rate: int, tmp_path: Path) -> None:
    wave = noise(6, rate, channels) * np.linspace(0.01, 1, 6 * rate, dtype=np.float32)
    if channels == 6:
        path = make(tmp_path / "w.flac", sound=wave, rate=rate, acodec="flac")
    else:
        path = tmp_path / "w.wav"
        wavfile.write(path, rate, wave.T)
    command = [str(FFMPEG), "-nostats", "-i", str(path), "-af", "ebur128", "-f", "null", "-"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    oracle = float(re.findall(r"I:\s+(-?[\d.]+) LUFS", told)[-1])
    assert loudness_lufs(wave, rate) == pytest.approx(oracle, abs=0.15)


def test_18_silence_and_snippets_have_a_loudness() -> None:
    assert loudness_lufs(np.zeros((1, RATE), np.float32), RATE) == -np.inf
    assert loudness_lufs(np.zeros((1, 0), np.float32), RATE) == -np.inf
    assert np.isfinite(loudness_lufs(tone(0.1), RATE))
    assert loudness_lufs(1e-6 * tone(3), RATE) == -np.inf  # under the absolute gate
    impulse = np.zeros((1, RATE), np.float32)
    impulse[0, 100] = 1
    assert np.isfinite(loudness_lufs(impulse, RATE))
    with pytest.raises(ValueError, match="kHz"):
        loudness_lufs(tone(1), 16)


@pytest.mark.parametrize("bed", [0.0, 0.003, 0.02, 0.05])
def test_onsets_find_known_impacts(bed: float) -> None:
    truth = np.array([0.73, 2.1, 3.333, 4.9, 6.25, 8.8])
    found = onsets(impacts(truth, 10, bed), RATE)
    assert len(found) == 6
    assert np.abs(np.mean(found - truth)) < 0.007
    assert np.abs(found - truth).max() < 0.010


def test_onsets_are_few_where_nothing_starts() -> None:
    assert not len(onsets(tone(5), RATE))
    assert not len(onsets(np.zeros((1, RATE), np.float32), RATE))
    assert not len(onsets(np.zeros((2, 3), np.float32), RATE))
    assert len(onsets(noise(10, RATE), RATE)) <= 1
    stops = tone(4)
    stops[:, 2 * RATE :] = 0
    assert not len(onsets(stops, RATE))
    swells = stops[:, ::-1].copy()  # starts at 2.0 s
    assert onsets(swells, RATE) == pytest.approx([2.0], abs=0.005)


@pytest.mark.parametrize("seconds", [0.0, 0.4, -0.5, 1.25, -2.0, 2.1])
@pytest.mark.parametrize("kind", ["noise", "impacts"])
def test_lags_are_exact_to_the_sample(kind: str, seconds: float) -> None:
    wave = noise(6, RATE) if kind == "noise" else impacts(np.array([0.4, 1.1, 2.3, 2.9, 3.6, 5.0]), 6, 0.003)
    lag = find_lag(wave, moved(wave, round(seconds * RATE)), RATE)
    assert lag.verdict == "found"
    assert lag.seconds == round(seconds * RATE) / RATE
    assert lag.peak > 0.95


def test_20_tone_silence_and_strangers_are_indeterminate() -> None:
    silent = np.zeros((1, 4 * RATE), np.float32)
    for shift in (0.0, 0.5, -0.25):
        assert find_lag(tone(4), moved(tone(4), round(shift * RATE)), RATE).verdict == "indeterminate"
    assert find_lag(noise(4, RATE), silent, RATE).verdict == "indeterminate"
    assert find_lag(silent, silent, RATE).verdict == "indeterminate"
    assert find_lag(noise(4, RATE, seed=1), noise(4, RATE, seed=2), RATE).verdict == "indeterminate"


# ------------------------------------------------------------------ look


def test_look_measures_and_says(tmp_path: Path) -> None:
    wave = impacts(np.array([0.3, 0.7, 1.1, 1.5, 1.9, 2.3]), 3.0, 0.001) / 2
    path = make(tmp_path / "a.mp4", ms=steady(75), sound=wave, rate=RATE, acodec="flac")
    seen = look(path)
    assert seen.onsets == pytest.approx([0.3, 0.7, 1.1, 1.5, 1.9, 2.3], abs=0.01)
    assert seen.peak == pytest.approx(float(np.abs(wave).max()), abs=1e-4)
    assert seen.loudness == pytest.approx(loudness_lufs(wave, RATE), abs=0.01)
    assert not seen.silent
    assert not seen.flags
    assert msgspec.json.decode(msgspec.json.encode(seen))["probe"]["picture"]["frames"] == 75
    text = media.describe(seen)
    assert "128 x 96" in text
    assert "LUFS" in text


CASES = {
    "no sound": ({"ms": steady(20)}, "no sound track"),
    "muted": (
        {"ms": steady(20), "sound": np.zeros((1, 38_400), np.float32), "acodec": "flac"},
        "every sample is 0",
    ),
    "late": (
        {"ms": steady(20), "sound": noise(0.3), "acodec": "flac", "sound_ms": 400},
        "sound starts 0.40 s after",
    ),
    "early end": ({"ms": steady(50), "sound": noise(1.0), "acodec": "flac"}, "sound ends 1.00 s before"),
    "second track": ({"ms": steady(20), "sound": noise(0.8), "extra": "audio before"}, "ignored tracks: audio"),
}


@pytest.mark.parametrize("kind", CASES)
def test_what_is_odd_is_flagged_and_drawn(kind: str, tmp_path: Path) -> None:
    settings, says = CASES[kind]
    path = make(tmp_path / "a.mkv", **settings)  # type: ignore[arg-type]
    seen = media.strip_png(path, tmp_path / "a.png")
    assert any(says in flag for flag in seen.flags), seen.flags
    assert says.split(":")[0] in media.describe(seen)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 2 * 1180
        assert image.height > 400
        assert len(image.getcolors(1 << 20) or []) > 30


def test_a_sound_file_is_drawn_without_pictures(tmp_path: Path) -> None:
    path = make(tmp_path / "a.wav", sound=noise(2), acodec="pcm_s16le")
    assert "no picture track" in media.strip_png(path, tmp_path / "a.png").flags
    with pytest.raises(ValueError, match="400"):
        media.strip_png(path, tmp_path / "a.png", width=100)


def test_marks_stand_under_their_moment(tmp_path: Path) -> None:
    wave = impacts(np.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), 2.0, 0.0)
    path = make(tmp_path / "a.mp4", ms=steady(50), sound=wave / 4, rate=RATE, acodec="flac")
    media.strip_png(path, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    mark = np.abs(pixels - [0xD9, 0x57, 0x2B]).sum(axis=2) < 30
    columns = np.flatnonzero(mark[300:].any(axis=0))
    assert abs(np.median(columns) - image.width / 2) < 12


SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[1] / ".." / "shared"))
REAL = sorted((SHARED / "data" / "clips").glob("*.mp4"))


@pytest.mark.real
@pytest.mark.skipif(not REAL, reason="no real clips: set EARWITNESS_SHARED to the folder that holds data/clips")
def test_real_clips_are_shown(tmp_path: Path) -> None:
    counts = {}
    for path in REAL:
        seen = media.strip_png(path, tmp_path / "a.png")
        assert seen.probe.picture is not None
        if "no_audio" in path.name:
            assert seen.loudness is None
        else:
            assert -60 < seen.loudness < 0
        counts[path.name.split("_")[0] + path.stem.split("_")[-2]] = len(seen.onsets)
    clapping = [n for name, n in counts.items() if "Clapping" in name]
    drone = [n for name, n in counts.items() if "Didgeridoo" in name]
    assert all(n > 30 for n in clapping)
    assert all(n <= 3 for n in drone)
