"""The cheap gates: each fault alone fails its own gate, and only that; copies are found among many."""

from __future__ import annotations

import importlib.util
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from earwitness import media
from earwitness.curate.checks import gates, prints
from earwitness.curate.checks.gates import LOOK, Limits
from earwitness.curate.checks.prints import Print
from earwitness.curate.checks.verdict import Verdict
from earwitness.records import Clip, Event, Media, Wave

RATE = LOOK.rate
CLIP = Clip(id="c", seen=("drum",), heard=("drum",))


def _media(seconds: float = 4.0, seed: int = 0) -> Media:
    """A texture that drifts, and noise that swells: nothing wrong with it."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * 2)) / 2
    texture = np.kron(rng.integers(40, 215, (16, 16, 3)), np.ones((8, 8, 1)))
    frames = np.stack([np.roll(texture, 5 * k, (0, 1))[:64, :64] for k in range(len(times))]).astype(np.uint8)
    swell = np.repeat(rng.uniform(0.02, 0.3, int(seconds * 8)), RATE // 8)
    coloured = np.convolve(rng.normal(0, 1, len(swell)), rng.normal(0, 0.3, 32), "same")
    wave = (0.2 * swell * coloured).astype(np.float32)[None]
    return Media(frames, times, wave, RATE, seconds)


def _failed(found: list[Verdict]) -> dict[str, Verdict]:
    return {v.check: v for v in found if v.passed is False}


def test_a_sound_clip_passes_every_gate_that_applies() -> None:
    found = gates.gates(CLIP, _media())
    assert not _failed(found)
    assert {v.check for v in found if v.passed is None} == {"sync"}  # no events are labelled
    assert len({v.check for v in found}) == len(found)
    assert all(v.by == gates.REVISION and v.why and v.clip == "c" for v in found)


def _with(wave: Wave) -> Media:
    return _media().with_wave(wave)


def _hum(level: float) -> Wave:
    return (level * np.sqrt(2) * np.sin(2 * np.pi * 1000 / RATE * np.arange(4 * RATE)))[None].astype(np.float32)


def test_silence_is_told_by_the_loudest_moment() -> None:
    for wave, said in ((np.zeros((1, 4 * RATE), np.float32), "every sample is 0"), (_hum(10**-3.55), "-71.0 dBFS")):
        found = _failed(gates.gates(CLIP, _with(wave)))
        assert set(found) == {"silent"}
        assert said in found["silent"].why
    one_bark = np.zeros((1, 4 * RATE), np.float32)
    one_bark[0, RATE : RATE + RATE // 10] = _hum(0.1)[0, : RATE // 10]
    assert "silent" not in _failed(gates.gates(CLIP, _with(one_bark)))


def test_a_level_is_that_of_full_scale_decibels() -> None:
    assert gates.levels(_hum(0.1), RATE).max() == pytest.approx(-20.0, abs=0.01)
    both = np.concatenate([np.zeros((1, 4 * RATE), np.float32), _hum(0.1)])
    assert gates.levels(both, RATE).max() == pytest.approx(-20.0, abs=0.01)  # the loudest channel


def test_too_quiet_is_not_silent() -> None:
    found = _failed(gates.gates(CLIP, _with(_hum(10 ** (-57 / 20)))))
    assert set(found) == {"quiet"}
    assert found["quiet"].value == pytest.approx(-57.0, abs=0.2)  # LUFS of 1 kHz mono: its level, within the filter
    assert found["quiet"].unit == "LUFS"


def test_clipping_counts_samples_at_full_scale() -> None:
    loud = np.clip(_hum(1.2), -1, 1)
    found = _failed(gates.gates(CLIP, _with(loud)))
    assert set(found) == {"clipped"}
    assert found["clipped"].value == pytest.approx(float((np.abs(loud) >= 0.99).mean()), abs=1e-4)
    # The file's own rate tells where resampling has rounded the tops off.
    native = replace(_with(loud), frames=None)
    assert set(_failed(gates.gates(CLIP, _media(), native=native))) == {"clipped"}


def test_missing_tracks_fail_and_leave_the_rest_untold() -> None:
    deaf = gates.gates(CLIP, _media().with_wave(None))
    assert set(_failed(deaf)) == {"sound_track"}
    assert {v.check for v in deaf if v.passed is None} == {"silent", "quiet", "clipped", "sync"}
    blind = gates.gates(CLIP, _media().with_frames(None))
    assert set(_failed(blind)) == {"picture_track"}
    assert {v.check for v in blind if v.passed is None} == {"still", "dark", "sync"}


def test_a_still_picture_and_a_slide_show_do_not_move() -> None:
    one = _media(10.0)
    assert one.frames is not None
    rng = np.random.default_rng(1)
    still = np.repeat(one.frames[:1], len(one.frames), 0).astype(np.int16)
    shimmer = np.clip(still + rng.integers(-3, 4, still.shape), 0, 255).astype(np.uint8)
    found = _failed(gates.gates(CLIP, one.with_frames(shimmer)))
    assert set(found) == {"still"}
    assert "still picture" in found["still"].why
    slides = shimmer.copy()
    slides[10:] = one.frames[5]
    found = _failed(gates.gates(CLIP, one.with_frames(slides)))
    assert found["still"].value == pytest.approx(1 / 19, abs=1e-3)
    mouth = shimmer.copy()  # a fiftieth of the picture moves
    mouth[::2, 40:48, 24:32] = np.clip(mouth[::2, 40:48, 24:32].astype(int) - 25, 0, 255)
    assert not _failed(gates.gates(CLIP, one.with_frames(mouth)))


def test_black_pictures_are_dark_and_still() -> None:
    one = _media()
    assert one.frames is not None
    assert set(_failed(gates.gates(CLIP, one.with_frames(np.zeros_like(one.frames))))) == {"dark", "still"}


def test_lengths() -> None:
    assert set(_failed(gates.gates(CLIP, _media(0.5)))) == {"length"}
    assert not _failed(gates.gates(CLIP, _media(), Limits(seconds=4.0)))
    assert _failed(gates.gates(CLIP, _media(), Limits(longest=3.0)))["length"].limit == 3.0


def test_areas_are_means_also_where_they_do_not_divide() -> None:
    rng = np.random.default_rng(0)
    grey = rng.uniform(0, 255, (2, 50, 37)).astype(np.float32)
    got = gates.area(grey, 8)
    rows, columns = ([k * n // 8 for k in range(9)] for n in (50, 37))
    for i in range(8):
        for j in range(8):
            part = grey[1, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            assert got[1, i, j] == pytest.approx(part.mean(), rel=1e-4)
    assert gates.area(grey[:, :4, :4], 8).shape == (2, 8, 8)


@pytest.mark.parametrize(("lag", "passed"), [(0.0, True), (0.15, True), (0.4, False), (-0.2, False)])
def test_sync_is_measured_from_picture_to_onset(lag: float, passed: bool) -> None:
    events = tuple(Event("drum", t, t) for t in (1.0, 2.0, 3.0))
    wave = np.random.default_rng(0).normal(0, 1e-4, (1, 4 * RATE)).astype(np.float32)
    for event in events:
        assert event.seen is not None
        at = round((event.seen + lag) * RATE)
        wave[0, at : at + 800] += 0.5 * np.sin(np.arange(800)) * np.exp(-np.arange(800) / 200)
    clip = Clip(id="c", events=events)
    (found,) = gates.sync(clip, _with(wave.astype(np.float32)), Limits())
    assert found.passed is passed
    assert found.value == pytest.approx(lag, abs=0.01)
    (steady,) = gates.sync(clip, _with(_hum(0.1)), Limits())
    assert steady.passed is None


def test_the_containers_offset_is_measured(tmp_path: Path) -> None:
    one = _media()
    assert one.frames is not None
    assert one.wave is not None
    plain, late = tmp_path / "a.mp4", tmp_path / "late.mkv"
    media.write_clip(one.frames, 2, one.wave, RATE, plain)
    (found,) = gates.offset(CLIP, media.probe(plain), Limits())
    assert found.passed
    assert found.value == pytest.approx(0.0, abs=0.002)
    with av.open(str(plain)) as whole, av.open(str(late), "w") as target:
        tracks = {s.index: target.add_stream_from_template(s) for s in whole.streams}
        for packet in whole.demux():
            if packet.dts is not None:
                behind = round(0.5 / packet.time_base) if packet.stream.type == "audio" else 0
                packet.pts, packet.dts = packet.pts + behind, packet.dts + behind
                packet.stream = tracks[packet.stream.index]
                target.mux(packet)
    (found,) = gates.offset(CLIP, media.probe(late), Limits())
    assert found.passed is False
    assert found.value == pytest.approx(0.5, abs=0.01)


def test_limits_are_read_strictly() -> None:
    with pytest.raises(msgspec.ValidationError, match="loudness"):
        msgspec.convert({"loudness": -50.0}, Limits)


# ---------------------------------------------------------------- copies


def _worn(one: Media, seed: int) -> Media:
    """Louder, brighter, noisier."""
    assert one.frames is not None
    assert one.wave is not None
    rng = np.random.default_rng(seed)
    frames = np.clip(one.frames * 0.9 + 15 + rng.normal(0, 4, one.frames.shape), 0, 255).astype(np.uint8)
    noise = rng.normal(0, 10**-3.2, one.wave.shape)
    return one.with_frames(frames).with_wave((1.7 * one.wave + noise).astype(np.float32))


def test_a_worn_copy_is_found_and_named_and_no_other_clip() -> None:
    found = prints.duplicates(
        {
            "one": prints.print_of(_media(seed=1)),
            "two": prints.print_of(_media(seed=2)),
            "copy": prints.print_of(_worn(_media(seed=1), 3)),
            "again": prints.print_of(_worn(_media(seed=1), 4)),
        }
    )
    assert [(v.clip, v.passed) for v in found] == [("one", True), ("two", True), ("copy", False), ("again", False)]
    assert all("repeats one (" in v.why for v in found[2:])
    assert all(v.value is not None and v.limit is not None and v.value <= v.limit for v in found[2:])


def test_a_copy_of_one_track_only_is_said_to_be_that() -> None:
    one, two = _media(seed=1), _media(seed=2)
    dubbed = one.with_wave(two.wave)
    found = prints.duplicates(
        {k: prints.print_of(m) for k, m in {"one": one, "two": two, "dubbed": dubbed}.items()}
    )
    said = {(v.clip, v.check): v for v in found}
    assert said["dubbed", "duplicate"].passed
    assert "picture of one" in said["dubbed", "same_picture"].why
    assert "sound of two" in said["dubbed", "same_sound"].why
    # Without a sound track the picture alone decides.
    (_, mute) = prints.duplicates({"one": prints.print_of(one), "mute": prints.print_of(one.with_wave(None))})
    assert mute.passed is False


def test_what_tells_nothing_is_not_compared() -> None:
    one = _media()
    assert one.frames is not None
    assert one.wave is not None
    blank = one.with_frames(np.zeros_like(one.frames)).with_wave(np.zeros_like(one.wave))
    found = prints.duplicates({"a": prints.print_of(blank), "b": prints.print_of(blank)})
    assert [v.passed for v in found] == [None, None]


def test_prints_survive_json_and_codecs(tmp_path: Path) -> None:
    one = _media(seed=5)
    assert one.frames is not None
    media.write_clip(one.frames, 2, one.wave, RATE, tmp_path / "a.mp4", "aac")
    mine, coded = prints.print_of(one), prints.print_of(media.load(tmp_path / "a.mp4", LOOK))
    assert msgspec.json.decode(msgspec.json.encode(mine), type=Print) == mine
    picture, sound = prints.apart(mine, coded)
    assert picture is not None
    assert sound is not None
    assert picture < 0.1
    assert sound < 0.2
    other = prints.apart(mine, prints.print_of(_media(seed=6)))
    assert min(x for x in other if x is not None) > 0.35


def test_a_print_by_hand() -> None:
    """A horizontal ramp has one low frequency, so few bits; its mirror image has the same ones turned over."""
    ramp = np.broadcast_to(np.linspace(0, 250, 64)[None, None, :, None], (1, 64, 64, 3)).astype(np.uint8)
    right, tells = prints.picture_bits(ramp, np.zeros(1), 1.0)
    left, _ = prints.picture_bits(ramp[:, :, ::-1], np.zeros(1), 1.0)
    assert tells.all()
    first = np.uint64(1 << 62)  # of 8 x 8 frequencies the second: once across, nothing down
    assert not right[0] & first
    assert left[0] & first
    assert prints.ones(np.array([0b1011, 2**63], np.uint64)).tolist() == [3, 1]


def _random_set(count: int, copies: int, seed: int = 0) -> dict[str, Print]:
    rng = np.random.default_rng(seed)
    pictures, sounds = rng.integers(0, 2**63, (count, 10)), rng.integers(0, 2**16, (count, 38))
    out = {
        f"c{i}": Print(pictures=tuple(map(int, pictures[i])), sounds=tuple(map(int, sounds[i])))
        for i in range(count)
    }
    for i in range(copies):
        flips = [1 << int(b) for b in rng.integers(0, 63, 10)]
        shown = tuple(int(p) ^ f for p, f in zip(pictures[i], flips, strict=True))
        heard = tuple(int(s) ^ (1 << int(rng.integers(0, 16))) for s in sounds[i])
        out[f"d{i}"] = Print(pictures=shown, sounds=heard)
    return out


def test_copies_among_many_are_found_in_near_linear_time() -> None:
    took = []
    for count in (1000, 4000):
        began = time.process_time()
        found = prints.duplicates(_random_set(count, count // 10))
        took.append(time.process_time() - began)
        failed = [v for v in found if v.passed is False]
        assert [v.clip for v in failed] == [f"d{i}" for i in range(count // 10)]
        assert all(f"repeats c{v.clip[1:]} " in v.why for v in failed)
    assert took[1] < 9 * took[0]  # four times the clips; by all pairs it would be 16


def test_a_set_of_one_clip_many_times_does_not_blow_up() -> None:
    (one,) = _random_set(1, 0).values()
    found = prints.duplicates({f"c{i}": one for i in range(500)})
    assert found[0].passed
    assert all(v.passed is False and "repeats c0 " in v.why for v in found[1:])


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parent.parent / "benchmarks" / "gates.py"
    spec = importlib.util.spec_from_file_location("bench_gates", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_gates"] = module
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SECONDS", 2)
    monkeypatch.setattr(module, "HIGH", 90)
    monkeypatch.setattr(module, "WIDE", 160)
    ours, plain = module.measure(2, prints_of=200)
    assert ours.clips == plain.clips == 2
    assert ours.seconds > 0
