"""Interventions on files: what a stranger who opens the written file sees and hears."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from earwitness import media
from earwitness.interventions import Rendered, apply, background_wave, files, noise_wave, render, tone_wave
from earwitness.interventions.lag import measured_lag
from earwitness.interventions.waves import level
from earwitness.media.signal import onsets
from earwitness.records import Event, Frames, Intervention, View, Wave

RATE = 44_100
SECONDS = 3.0
BEEP = 1.2  # s, the moment of beep and flash
FPS = 25.0


def iv(kind: str, **fields: Any) -> Intervention:
    return Intervention(kind=kind, **fields)  # type: ignore[arg-type]


def flashes(at: float = BEEP) -> Frames:
    """A dark picture with a moving square that flashes white for 0.2 s."""
    frames = np.full((round(SECONDS * FPS), 48, 64, 3), 30, np.uint8)
    for i, frame in enumerate(frames):
        frame[10:20, i % 50 : i % 50 + 10] = (200, 60, 60)
    frames[round(at * FPS) : round((at + 0.2) * FPS)] = 255
    return frames


def beeps(at: float = BEEP, channels: int = 2) -> Wave:
    """A decaying beep at ``at`` over faint hiss; the right channel is a little softer."""
    t = np.arange(round(SECONDS * RATE)) / RATE - at
    beep = np.where(t >= 0, 0.6 * np.sin(2 * np.pi * 1200 * t) * np.exp(-9 * np.maximum(t, 0)), 0.0)
    hiss = noise_wave(SECONDS, RATE, 7, rms=0.002)[0]
    return np.stack([(beep + hiss) * gain for gain in (1.0, 0.7)[:channels]]).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A beep (stereo, 44.1 kHz), a knock (mono), a shorter donor (mono, 16 kHz), and a clip with no sound track."""
    place = tmp_path_factory.mktemp("clips")
    media.write_clip(flashes(), FPS, beeps(), RATE, place / "clip.mp4")
    t = np.maximum(0, np.arange(round(SECONDS * RATE)) / RATE - BEEP)
    knock = noise_wave(SECONDS, RATE, 8, rms=0.2) * (np.exp(-30 * t) * (t > 0) + 0.005)
    media.write_clip(flashes(), FPS, knock.astype(np.float32), RATE, place / "knock.mp4")
    other = noise_wave(2.0, 16_000, 3, rms=0.02) * np.repeat([1.0, 0.2, 1.0, 0.4], 8000).astype(np.float32)
    media.write_clip(flashes()[:50], FPS, other, 16_000, place / "donor.mp4")
    media.write_clip(flashes(), FPS, None, RATE, place / "silent.mp4")
    return place


def packets(path: Path) -> list[tuple[bytes, float]]:
    """Picture packets and their times by plain PyAV, not by the code under test."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(bytes(p), float(p.pts * p.time_base)) for p in container.demux(stream) if p.size]  # type: ignore[operator]


def sound(path: Path) -> Wave:
    wave = media.load_native(path).wave
    assert wave is not None
    return wave


def flash_time(path: Path) -> float:
    frames = media.load(path, View(fps=FPS)).frames
    assert frames is not None
    return float(np.argmax(frames.mean(axis=(1, 2, 3)) > 200) / FPS)


@pytest.mark.parametrize(("name", "codec"), [("clip.mp4", "flac"), ("knock.mp4", "flac"), ("knock.mp4", "aac")])
@pytest.mark.parametrize("seconds", [0.4, -0.4, 1.2345])
def test_a_file_shift_moves_the_beep_and_not_the_flash(
    folder: Path, tmp_path: Path, seconds: float, name: str, codec: str
) -> None:
    clip, out = folder / name, tmp_path / "out.mp4"
    done = render(clip, iv("shift", seconds=seconds), out, codec=codec)
    assert (done.verdict, done.picture) == ("found", "identical")
    assert done.lag == pytest.approx(seconds, abs=0.001)
    at = onsets(sound(clip), RATE)
    moved = onsets(sound(out), RATE)
    before, after = at[np.argmin(abs(at - BEEP))], moved[np.argmin(abs(moved - BEEP - seconds))]
    assert after - before == pytest.approx(seconds, abs=0.001)
    assert [p for p, _ in packets(out)] == [p for p, _ in packets(clip)]
    np.testing.assert_allclose([t for _, t in packets(out)], [t for _, t in packets(clip)], atol=0.001)
    assert flash_time(out) == flash_time(clip) == BEEP
    if codec == "flac":
        step = round(seconds * RATE)
        got, had = sound(out), sound(clip)
        a, b = (got[:, step:], had[:, :-step]) if step > 0 else (got[:, :step], had[:, -step:])
        np.testing.assert_array_equal(a, b)  # on both channels
        assert got.shape == had.shape


@pytest.mark.parametrize("kind", ["original", "sham"])
def test_the_original_goes_through_the_writer_and_comes_back_exact(folder: Path, tmp_path: Path, kind: str) -> None:
    done = render(folder / "clip.mp4", iv(kind), tmp_path / "a.mp4")
    assert (done.lag, done.wanted, done.verdict, done.error) == (0.0, 0.0, "found", 0.0)
    np.testing.assert_array_equal(sound(tmp_path / "a.mp4"), sound(folder / "clip.mp4"))
    again = render(tmp_path / "a.mp4", iv(kind), tmp_path / "b.mp4")
    assert (again.audio_hash, again.video_hash) == (done.audio_hash, done.video_hash)


@pytest.mark.parametrize("codec", ["flac", "aac"])
def test_mute_is_exactly_zero_on_a_track_that_stays(folder: Path, tmp_path: Path, codec: str) -> None:
    done = render(folder / "clip.mp4", iv("mute"), tmp_path / "m.mp4", codec=codec)
    assert (done.peak, done.lag, done.verdict, done.picture) == (0.0, None, "silent", "identical")
    assert done.source_peak is not None
    assert done.source_peak > 0.5
    assert (done.channels, done.rate) == (2, RATE)
    assert not sound(tmp_path / "m.mp4").any()


@pytest.mark.parametrize("codec", ["flac", "aac"])
def test_swap_is_the_donor_at_lag_zero_and_as_loud(folder: Path, tmp_path: Path, codec: str) -> None:
    done = render(
        folder / "clip.mp4", iv("swap", donor="d"), tmp_path / "s.mp4", donor=folder / "donor.mp4", codec=codec
    )
    assert done.verdict == "found"
    assert done.lag == pytest.approx(0, abs=0.001)
    assert done.residual_lu is not None
    assert abs(done.residual_lu) < 3
    heard, had = (media.load(p).wave for p in (tmp_path / "s.mp4", folder / "clip.mp4"))
    assert heard is not None
    assert had is not None
    assert abs(level(heard, 16_000) - level(had, 16_000)) < 3
    assert (done.channels, done.rate, done.picture) == (2, RATE, "identical")
    donor = media.load(folder / "donor.mp4").wave
    assert donor is not None
    a, b = donor[0, :30_000].astype(float), heard[0, :30_000].astype(float)
    assert a @ b / np.sqrt((a @ a) * (b @ b)) > (0.9 if codec == "flac" else 0.3)


@pytest.mark.parametrize("fields", [{"kind": "background", "background": "rain"}, {"kind": "noise"}])
def test_replaced_sound(folder: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    done = render(folder / "clip.mp4", iv(**fields), tmp_path / "o.mp4")
    assert (done.lag, done.verdict, done.picture) == (0.0, "found", "identical")
    if fields["kind"] == "background":
        made, got = background_wave("rain", SECONDS, RATE)[0], sound(tmp_path / "o.mp4")[0]
        assert np.corrcoef(made, got)[0, 1] > 0.999


def test_a_pure_tone_is_indeterminate_and_never_passed_as_measured(folder: Path, tmp_path: Path) -> None:
    done = render(folder / "clip.mp4", iv("tone"), tmp_path / "t.mp4")
    assert (done.verdict, done.lag) == ("indeterminate", None)
    assert done.error is not None
    assert done.error < 1e-4
    media.write_clip(flashes(), FPS, tone_wave(SECONDS, RATE), RATE, tmp_path / "tone.mp4")
    done = render(tmp_path / "tone.mp4", iv("shift", seconds=0.4), tmp_path / "late.mp4")
    assert (done.verdict, done.lag, done.wanted) == ("indeterminate", None, 0.4)


def test_a_lag_is_told_for_copies_of_tonal_sounds_only() -> None:
    beep = beeps(channels=1)
    late = np.pad(beep, ((0, 0), (4410, 0)))[:, : beep.shape[1]]
    assert measured_lag(beep, late, RATE) == (pytest.approx(0.1, abs=1e-9), pytest.approx(1, abs=1e-3))
    assert measured_lag(late, beep, RATE)[0] == pytest.approx(-0.1, abs=1e-9)
    tone = tone_wave(SECONDS, RATE)
    assert measured_lag(tone, np.roll(tone, 4410), RATE)[0] is None
    assert measured_lag(beep, np.zeros_like(beep), RATE) == (None, 0.0)
    assert measured_lag(beep, noise_wave(SECONDS, RATE, 9), RATE)[0] is None
    other = beeps(at=2.0, channels=1) + noise_wave(SECONDS, RATE, 10, 0.01)  # like it, but no copy
    assert measured_lag(beep, other, RATE)[0] is None


def test_drop_stem_is_the_sum_of_the_others(folder: Path, tmp_path: Path) -> None:
    stems = {
        "beep": beeps() - 0,
        "drum": noise_wave(SECONDS, RATE, 5, 0.05),
        "room": noise_wave(SECONDS, RATE, 6, 0.01),
    }
    mix = np.asarray(sum(stems.values()), np.float32)
    media.write_clip(flashes(), FPS, mix, RATE, tmp_path / "mix.mp4")
    done = render(tmp_path / "mix.mp4", iv("drop_stem", stem="drum"), tmp_path / "out.mp4", stems=stems)
    np.testing.assert_allclose(sound(tmp_path / "out.mp4"), stems["beep"] + stems["room"], atol=2 / 32768)
    assert done.remix_db is not None
    assert done.remix_db < -60
    assert done.picture == "identical"
    with pytest.raises(ValueError, match="no stem 'flute'; this clip has beep, drum, room"):
        render(tmp_path / "mix.mp4", iv("drop_stem", stem="flute"), tmp_path / "x.mp4", stems=stems)
    with pytest.raises(ValueError, match="do not add up"):
        render(
            folder / "donor.mp4", iv("drop_stem", stem="a"), tmp_path / "x.mp4", stems={"a": noise_wave(2, 16_000)}
        )


@pytest.mark.parametrize("kind", ["black", "freeze"])
def test_new_pictures_beside_the_same_sound(folder: Path, tmp_path: Path, kind: str) -> None:
    done = render(folder / "clip.mp4", iv(kind), tmp_path / "o.mp4")
    assert (done.picture, done.lag, done.error) == ("encoded", 0.0, 0.0)
    np.testing.assert_array_equal(sound(tmp_path / "o.mp4"), sound(folder / "clip.mp4"))
    view = View(fps=5)
    frames, source = media.load(tmp_path / "o.mp4", view).frames, media.load(folder / "clip.mp4", view)
    wanted = apply(source, iv(kind)).frames
    assert frames is not None
    assert wanted is not None
    assert frames.shape == wanted.shape
    assert abs(frames.astype(int) - wanted).mean() < (1e-9 if kind == "black" else 4)
    assert done.video_error is not None
    assert done.video_error <= (0 if kind == "black" else 12)


def test_a_clip_without_a_sound_track(folder: Path, tmp_path: Path) -> None:
    source = folder / "silent.mp4"
    for kind in ("shift", "swap", "drop_stem", "background", "tone", "noise"):
        with pytest.raises(ValueError, match="no audio track"):
            render(source, iv(kind, seconds=0.4, background="rain"), tmp_path / "x.mp4", donor=folder / "clip.mp4")
    for kind in ("original", "no_track", "black", "freeze"):
        done = render(source, iv(kind), tmp_path / f"{kind}.mp4")
        assert (done.verdict, done.audio_hash, done.lag) == ("no track", None, None)
        assert media.load_native(tmp_path / f"{kind}.mp4").wave is None
    assert packets(tmp_path / "no_track.mp4") == packets(source)
    with pytest.raises(ValueError, match=r"end the output in \.mp4"):
        render(source, iv("original"), tmp_path / "x.mkv")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"{k}.mp4" for k in ("black", "freeze", "no_track", "original")
    ]


def test_14_mute_puts_a_silent_track_into_a_file_without_sound_and_says_so(folder: Path, tmp_path: Path) -> None:
    source = folder / "silent.mp4"
    done = render(source, iv("mute"), tmp_path / "mute.mp4")
    assert done.added_track
    assert (done.verdict, done.peak, done.picture) == ("silent", 0.0, "identical")
    got = media.load_native(tmp_path / "mute.mp4")
    assert got.wave is not None
    assert got.wave.shape[1] == round(got.duration * got.rate)
    assert not got.wave.any()
    assert packets(tmp_path / "mute.mp4") == packets(source)


def test_refusals_leave_nothing_behind(folder: Path, tmp_path: Path) -> None:
    clip, out = folder / "clip.mp4", tmp_path / "x.mp4"
    bytes_before = clip.read_bytes()
    with pytest.raises(ValueError, match="is the source itself"):
        render(clip, iv("mute"), clip, overwrite=True)
    (tmp_path / "link.mp4").symlink_to(clip)
    with pytest.raises(ValueError, match="is the source itself"):
        render(clip, iv("mute"), tmp_path / "link.mp4", overwrite=True)
    with pytest.raises(ValueError, match="is the donor itself"):
        render(clip, iv("swap"), folder / "donor.mp4", donor=folder / "donor.mp4", overwrite=True)
    with pytest.raises(ValueError, match=r"donor .* is the source itself"):
        render(clip, iv("swap"), out, donor=clip)
    with pytest.raises(ValueError, match="no folder"):
        render(clip, iv("mute"), tmp_path / "nowhere" / "x.mp4")
    with pytest.raises(ValueError, match="did you pass milliseconds"):
        render(clip, iv("shift", seconds=400), out)
    with pytest.raises(ValueError, match=r"'beep' from .* within 0.3 s"):
        render(clip, iv("shift", seconds=-1.0), out, events=(Event("beep", BEEP, BEEP),))
    with pytest.raises(ValueError, match="no donor sound"):
        render(clip, iv("swap", donor="d"), out)
    with pytest.raises(ValueError, match=r"donor .*silent.mp4 has no audio track"):
        render(clip, iv("swap"), out, donor=folder / "silent.mp4")
    with pytest.raises(ValueError, match="serve it from memory"):
        render(clip, iv("no_track"), out)
    with pytest.raises(ValueError, match="render black"):
        render(clip, iv("no_frames"), out)
    with pytest.raises(ValueError, match="alac"):
        render(clip, iv("mute"), out, codec="alac")
    with pytest.raises(media.MediaError, match="no such file"):
        render(tmp_path / "nope.mp4", iv("mute"), out)
    assert clip.read_bytes() == bytes_before
    assert [p.name for p in tmp_path.iterdir()] == ["link.mp4"]


def test_existing_output_is_kept_unless_told(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.mp4"
    first = render(folder / "clip.mp4", iv("mute"), out)
    kept = out.read_bytes()
    with pytest.raises(ValueError, match="exists already"):
        render(folder / "clip.mp4", iv("sham"), out)
    with pytest.raises(ValueError, match="did you pass milliseconds"):
        render(folder / "clip.mp4", iv("shift", seconds=400), out, overwrite=True)
    assert out.read_bytes() == kept  # a failed overwrite costs nothing
    second = render(folder / "clip.mp4", iv("sham"), out, overwrite=True)
    assert second.audio_hash != first.audio_hash


@pytest.mark.parametrize("fault", ["2 ms late", "noise in the silence", "other samples", "no shift"])
def test_a_writer_that_errs_is_caught_and_its_file_removed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    right = files.write_sound

    def wrong(source: Any, wave: Wave, rate: int, out: Path, codec: str = "flac") -> None:
        if fault == "2 ms late":
            wave = np.pad(wave, ((0, 0), (88, 0)))[:, :-88]
        elif fault == "no shift":
            wave = sound(folder / "clip.mp4")
        else:
            wave = wave + np.float32(2e-4)
        right(source, wave, rate, out, codec)

    monkeypatch.setattr(files, "write_sound", wrong)
    kind = {"noise in the silence": "mute", "other samples": "sham"}.get(fault, "shift")
    said = {"mute": "left sound behind", "sham": "samples differ", "shift": "wanted was"}[kind]
    with pytest.raises(media.MediaError, match=said):
        render(folder / "clip.mp4", iv(kind, seconds=0.4 if kind == "shift" else 0), tmp_path / "x.mp4")
    assert not list(tmp_path.iterdir())


def test_the_receipt_is_one_json_line(folder: Path, tmp_path: Path) -> None:
    import msgspec

    done = render(folder / "clip.mp4", iv("shift", seconds=0.25), tmp_path / "x.mp4")
    line = msgspec.json.encode(done)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=Rendered) == done


# ---------------------------------------------------------------- real clips

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "clips"
REAL = [
    iv("sham"),
    iv("mute"),
    iv("shift", seconds=2.1),
    iv("shift", seconds=-1.9),
    iv("swap", donor="other"),
    iv("background", background="thunder"),
]


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real clips at {SHARED} (set EARWITNESS_SHARED)")
@pytest.mark.parametrize("what", REAL, ids=lambda i: i.key)
def test_real_clips(tmp_path: Path, what: Intervention) -> None:
    clips = sorted(p for p in SHARED.glob("*.mp4") if p.name != "no_audio_track.mp4")
    pairs = list(zip(clips, [*clips[1:], clips[0]], strict=True))
    for clip, donor in pairs if what.kind == "shift" else pairs[:2]:
        done = render(clip, what, tmp_path / clip.name, donor=donor if what.kind == "swap" else None)
        assert done.picture == "identical"
        assert [p for p, _ in packets(tmp_path / clip.name)] == [p for p, _ in packets(clip)]
        if what.kind == "mute":
            assert done.peak == 0
            continue
        assert done.verdict in ("found", "indeterminate")
        if done.lag is not None:
            assert done.lag == pytest.approx(what.seconds, abs=0.001)
        if what.kind in ("swap", "background"):
            assert done.residual_lu is not None
            assert done.residual_lu < 3


@pytest.mark.parametrize("seconds", [0.8, -0.8])
def test_controls_of_a_shift_are_written_and_measured(folder: Path, tmp_path: Path, seconds: float) -> None:
    clip = folder / "knock.mp4"
    moved = render(clip, iv("shift", seconds=seconds, fill="room"), tmp_path / "moved.mp4")
    dark = render(clip, iv("shift", seconds=seconds, fill="room", unseen=True), tmp_path / "dark.mp4")
    hushed = render(clip, iv("hush", seconds=seconds, fill="room"), tmp_path / "hush.mp4")
    assert moved.lag == pytest.approx(seconds, abs=0.001)
    assert dark.lag == pytest.approx(seconds, abs=0.001)
    assert hushed.lag == pytest.approx(0.0, abs=0.001)
    assert (moved.picture, hushed.picture, dark.picture, dark.video_error) == (
        "identical",
        "identical",
        "encoded",
        0,
    )
    assert moved.audio_hash == dark.audio_hash != hushed.audio_hash
    room = render(clip, iv("mute", fill="room"), tmp_path / "room.mp4")
    assert room.peak is not None
    assert 0 < room.peak < 0.05
