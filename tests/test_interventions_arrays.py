"""Interventions in memory: what changes, what must not, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earwitness.interventions import apply, background_wave, backgrounds, matched, noise_wave, tone_wave
from earwitness.interventions.waves import fitted, level, limited
from earwitness.records import Event, Intervention, Media, Wave

RATE = 16_000


def media(wave: Wave | None, *, rate: int = RATE, frames: int = 4, seconds: float | None = None) -> Media:
    length = seconds if seconds is not None else (1.0 if wave is None else wave.shape[1] / rate)
    picture = np.random.default_rng(0).integers(0, 256, (frames, 6, 8, 3), np.uint8) if frames else None
    times = np.arange(frames) * (length / frames) if frames else None
    return Media(picture, times, wave, rate, length)


def clip(seconds: float = 2.0, seed: int = 0, rms: float = 0.1) -> Media:
    return media(noise_wave(seconds, RATE, 1000 + seed, rms))


def do(m: Media, kind: str, **fields: object) -> Media:
    return apply(m, Intervention(kind=kind, **fields))  # type: ignore[arg-type]


def sound(m: Media) -> Wave:
    assert m.wave is not None
    return m.wave


SOUND: list[dict[str, object]] = [
    {"kind": "mute"},
    {"kind": "shift", "seconds": 0.4},
    {"kind": "shift", "seconds": -0.4},
    {"kind": "shift", "seconds": 0.4, "fill": "room"},
    {"kind": "mute", "fill": "room"},
    {"kind": "hush", "seconds": 0.4, "fill": "room"},
    {"kind": "hush", "seconds": -0.4},
    {"kind": "swap", "donor": "d"},
    {"kind": "drop_stem", "stem": "one"},
    {"kind": "background", "background": "rain"},
    {"kind": "tone"},
    {"kind": "noise"},
]


def struck(seconds: float = 6.0, at: float = 3.0, seed: int = 0, room: float = 0.002) -> Media:
    """Faint pink-ish hiss in stereo (the right channel half as loud) and one loud decaying knock."""
    hiss = noise_wave(seconds, RATE, seed, 1.0)[0]
    hiss = np.convolve(hiss, np.ones(8) / 8, "same")
    hiss *= room / np.sqrt(np.mean(hiss**2))
    t = np.arange(hiss.size) / RATE - at
    knock = np.where(t >= 0, 0.7 * np.sin(2 * np.pi * 900 * t) * np.exp(-12 * np.maximum(t, 0)), 0.0)
    return media(np.stack([hiss + knock, 0.5 * (hiss + knock)]).astype(np.float32))


def changed(m: Media, fields: dict[str, object]) -> Media:
    half = sound(m) / 2
    iv = Intervention(**fields)  # type: ignore[arg-type]
    return apply(m, iv, donor=clip(0.7, seed=9), stems={"one": half, "room": half})


@pytest.mark.parametrize("fields", SOUND, ids=lambda f: str(f["kind"]))
def test_a_change_of_sound_leaves_the_picture_alone_and_the_clip_whole(fields: dict[str, object]) -> None:
    before = clip()
    keep = sound(before).copy()
    video = before.video_hash
    after = changed(before, fields)
    assert after.frames is before.frames
    assert after.times is before.times
    assert after.__dict__["video_hash"] == video  # cached, not computed again
    assert after.audio_hash != before.audio_hash
    wave = sound(after)
    assert wave.shape == sound(before).shape
    assert wave.dtype == np.float32
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() <= 1
    np.testing.assert_array_equal(sound(before), keep)  # pure
    assert changed(before, fields).audio_hash == after.audio_hash  # deterministic


@pytest.mark.parametrize("kind", ["black", "freeze", "no_frames"])
def test_a_change_of_picture_leaves_the_sound_alone(kind: str) -> None:
    before = clip()
    audio = before.audio_hash
    after = do(before, kind)
    assert after.wave is before.wave
    assert after.__dict__["audio_hash"] == audio
    assert after.video_hash != before.video_hash
    assert before.frames is not None
    if kind == "no_frames":
        assert after.frames is None
        assert after.times is None
        assert after.video_hash is None
        return
    assert after.frames is not None
    assert after.frames.shape == before.frames.shape
    assert after.times is before.times
    wanted = np.zeros_like(before.frames) if kind == "black" else np.stack([before.frames[0]] * 4)
    np.testing.assert_array_equal(after.frames, wanted)


def test_original_and_sham_are_the_very_same_object() -> None:
    m = clip()
    assert do(m, "original") is m
    assert do(m, "sham") is m


def test_none_and_zeros_stay_two_conditions() -> None:
    m = clip()
    muted, gone = do(m, "mute"), do(m, "no_track")
    assert gone.wave is None
    assert gone.audio_hash is None
    assert not sound(muted).any()
    assert muted.audio_hash is not None
    assert do(gone, "no_track").wave is None


@pytest.mark.parametrize("fields", SOUND, ids=lambda f: str(f["kind"]))
def test_no_track_is_refused_not_faked(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no audio track"):
        apply(media(None), Intervention(**fields), donor=clip())  # type: ignore[arg-type]


def test_mute_of_no_track_says_why() -> None:
    with pytest.raises(ValueError, match="no audio track: mute would fake one"):
        do(media(None), "mute")


@pytest.mark.parametrize("kind", ["black", "freeze"])
def test_no_picture_is_refused_not_faked(kind: str) -> None:
    with pytest.raises(ValueError, match="no video track"):
        do(media(noise_wave(1, RATE), frames=0), kind)


@pytest.mark.parametrize("kind", ["mute", "black", "freeze", "tone"])
def test_twice_is_once(kind: str) -> None:
    once = do(clip(), kind)
    twice = do(once, kind)
    assert (twice.audio_hash, twice.video_hash) == (once.audio_hash, once.video_hash)


def test_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"unknown intervention 'delay'; known: original, .*shift"):
        do(clip(), "delay")


# ---------------------------------------------------------------- shift


@given(st.floats(-1.2, 1.2), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_shift_there_and_back_away_from_the_edges(seconds: float, seed: int) -> None:
    before = clip(2.6, seed)
    step = round(seconds * RATE)
    back = sound(do(do(before, "shift", seconds=seconds), "shift", seconds=-seconds))
    n = back.shape[1]
    middle = slice(max(0, -step), n - max(0, step))
    np.testing.assert_array_equal(back[:, middle], sound(before)[:, middle])
    assert not back[:, : middle.start].any()
    assert not back[:, middle.stop :].any()


@given(st.integers(-30_000, 30_000))
@settings(max_examples=40, deadline=None)
def test_positive_is_late_and_the_fill_is_silence(step: int) -> None:
    wave = sound(clip(2.0))
    late = sound(do(media(wave), "shift", seconds=step / RATE))
    padded = np.pad(wave, ((0, 0), (abs(step), abs(step))))
    start = abs(step) - step
    np.testing.assert_array_equal(late, padded[:, start : start + wave.shape[1]])


def test_a_click_moves_by_the_shift() -> None:
    wave = np.zeros((1, 2 * RATE), np.float32)
    wave[0, RATE] = 1
    assert np.argmax(sound(do(media(wave), "shift", seconds=0.4))) == 1.4 * RATE
    assert np.argmax(sound(do(media(wave), "shift", seconds=-0.25))) == 0.75 * RATE


def test_absurd_shifts_guess_milliseconds() -> None:
    with pytest.raises(ValueError, match=r"a shift of 400 s leaves no sound in a 2.00 s clip \(did you pass mill"):
        do(clip(), "shift", seconds=400)
    with pytest.raises(ValueError, match=r"a shift of -2 s leaves no sound in a 2.00 s clip$"):
        do(clip(), "shift", seconds=-2)
    with pytest.raises(ValueError, match="finite"):
        do(clip(), "shift", seconds=float("nan"))


@pytest.mark.parametrize(
    ("heard", "seconds", "refused"),
    [
        (1.0, 0.7, False),
        (1.0, 0.71, True),
        (1.0, 1.5, True),
        (1.0, -0.7, False),
        (1.0, -0.71, True),
        (1.9, -0.5, False),
    ],
)
def test_a_shift_that_loses_the_event_is_refused(heard: float, seconds: float, refused: bool) -> None:
    events = (Event("seen only", seen=0.0), Event("clap", 1.0, heard))
    iv = Intervention(kind="shift", seconds=seconds)
    if not refused:
        apply(clip(), iv, events=events)
        return
    with pytest.raises(ValueError, match=r"'clap' from .* within 0.3 s of its edge"):
        apply(clip(), iv, events=events)


# ---------------------------------------------------------------- swap and backgrounds


@given(
    st.floats(0.05, 3.0), st.floats(0.45, 2.0), st.floats(0.003, 0.25), st.floats(0.003, 0.25), st.integers(0, 50)
)
@settings(max_examples=40, deadline=None)
def test_swap_is_within_three_lu_when_both_are_audible(
    donor_s: float, own_s: float, donor_rms: float, own_rms: float, seed: int
) -> None:
    own, donor = clip(own_s, seed, own_rms), clip(donor_s, seed + 1, donor_rms)
    after = apply(own, Intervention(kind="swap", donor="d"), donor=donor)
    wave = sound(after)
    assert wave.shape == sound(own).shape
    got = matched(sound(donor), sound(own), RATE)
    assert got.residual_lu == pytest.approx(level(wave, RATE) - level(sound(own), RATE), abs=0.05)
    assert abs(got.residual_lu) < 3
    assert got.limited_db <= 0
    k = min(wave.shape[1], round(min(donor_s, own_s) * RATE)) - 100
    if k > 800:
        a, b = wave[0, :k].astype(float), sound(donor)[0, :k].astype(float)
        assert a @ b / np.sqrt((a @ a) * (b @ b)) > 0.98  # it is the donor, at lag 0


@pytest.mark.parametrize(
    "case", ["silent donor", "silent clip", "both silent", "one sample", "empty", "impulse", "tiny"]
)
def test_odd_donors_give_no_nan_no_clipping_and_an_honest_residual(case: str) -> None:
    own, donor = noise_wave(2.0, RATE, 1, 0.2), noise_wave(1.0, RATE, 2)
    if case in ("silent clip", "both silent"):
        own = np.zeros_like(own)
    if case in ("silent donor", "both silent"):
        donor = np.zeros_like(donor)
    if case == "one sample":
        donor = np.full((1, 1), 0.3, np.float32)
    if case == "empty":
        donor = np.zeros((1, 0), np.float32)
    if case == "tiny":
        donor = donor * np.float32(1e-30)
    if case == "impulse":
        donor = np.zeros((1, 2 * RATE), np.float32)
        donor[0, ::RATE] = 0.2
    got = matched(donor, own, RATE)
    assert got.wave.shape == own.shape
    assert np.isfinite(got.wave).all()
    assert np.abs(got.wave).max() <= 1
    assert np.isfinite(got.gain_db)
    if case == "impulse":
        assert got.residual_lu is not None
        assert got.residual_lu < -3  # cannot be loud enough, and says so
        assert np.abs(got.wave).max() == pytest.approx(1, abs=1e-6)
    elif case != "one sample":
        assert got.residual_lu is None
    after = apply(media(own), Intervention(kind="swap", donor="d"), donor=media(donor, frames=0, seconds=1))
    np.testing.assert_array_equal(sound(after), got.wave)


def test_claps_can_be_as_loud_as_a_loud_clip_without_clipping() -> None:
    own = noise_wave(4.0, RATE, 1, 0.12)
    t = np.arange(4 * RATE) % (RATE // 2) / RATE
    claps = np.asarray(noise_wave(4.0, RATE, 2, 0.2) * np.exp(-40 * t), np.float32)
    got = matched(claps, own, RATE)
    assert got.residual_lu is not None
    assert abs(got.residual_lu) < 3
    assert -12.01 < got.limited_db < -1  # peaks were turned down, and it is said
    assert np.abs(got.wave).max() <= 1
    assert (np.abs(got.wave) > 0.999).mean() < 0.001  # not clipped: almost nothing sits at the rail
    a, b = got.wave[0].astype(float), claps[0].astype(float)
    assert a @ b / np.sqrt((a @ a) * (b @ b)) > 0.9


@given(st.floats(0.05, 8.0), st.integers(0, 50), st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_the_limiter_never_passes_one_and_leaves_quiet_sound_alone(scale: float, seed: int, channels: int) -> None:
    wave = np.concatenate([noise_wave(0.3, RATE, seed + i, 0.2) for i in range(channels)]) * np.float32(scale)
    out, lowest = limited(wave, RATE)
    assert np.abs(out).max() <= 1
    assert 0 < lowest <= 1
    if np.abs(wave).max() <= 1:
        np.testing.assert_array_equal(out, wave)
        assert lowest == 1


def test_swap_slips() -> None:
    m, iv = clip(), Intervention(kind="swap", donor="Y1")
    with pytest.raises(ValueError, match=r"no donor sound.*'Y1'"):
        apply(m, iv)
    with pytest.raises(ValueError, match="donor has no audio track"):
        apply(m, iv, donor=media(None))
    with pytest.raises(ValueError, match="8000 Hz, the clip's at 16000 Hz"):
        apply(m, iv, donor=media(noise_wave(1, 8000), rate=8000))
    with pytest.raises(ValueError, match="clip's own"):
        apply(m, iv, donor=m)


@given(st.integers(1, 3000), st.integers(0, 9000))
@settings(max_examples=40, deadline=None)
def test_fitted_is_trim_or_loop(have: int, want: int) -> None:
    wave = noise_wave(have / 1000, 1000, 3)
    out = fitted(wave, want, 1000)
    assert out.shape == (1, want)
    head = min(have, want)
    if want <= have:
        np.testing.assert_array_equal(out, wave[:, :want])
    else:
        keep = max(0, head - 6)  # but for the fade at the seam
        np.testing.assert_array_equal(out[:, :keep], wave[:, :keep])
    assert np.all(np.abs(out) <= np.abs(np.tile(wave, -(-max(want, 1) // have))[:, :want]) + 1e-7)


@pytest.mark.parametrize("name", backgrounds())
def test_backgrounds_replace_the_track_at_its_loudness(name: str) -> None:
    m = clip(3.0, rms=0.03)
    after = do(m, "background", background=name)
    assert level(sound(after), RATE) == pytest.approx(level(sound(m), RATE), abs=3)
    a, b = sound(after)[0].astype(float), sound(m)[0].astype(float)
    assert abs(a @ b) / np.sqrt((a @ a) * (b @ b)) < 0.05  # nothing of the old one is left


def test_backgrounds_are_five_plain_different_sounds() -> None:
    assert backgrounds() == ("wind", "bird", "rain", "electric drill", "thunder")
    shapes = []
    for name in backgrounds():
        wave = background_wave(name, 4.0, RATE, 1)
        assert wave.shape == (1, 4 * RATE)
        assert wave.dtype == np.float32
        np.testing.assert_array_equal(wave, background_wave(name, 4.0, RATE, 1))
        quiet = np.sqrt((wave[0].reshape(4, -1) ** 2).mean(axis=1)).min()
        assert quiet > 0.005, f"{name} falls silent for a second"
        power = np.abs(np.fft.rfft(wave[0])) ** 2
        bands = np.add.reduceat(power, [1, 400, 1200, 3200, 8000, 16000])
        shapes.append(bands / bands.sum())
    for i in range(5):
        for j in range(i):
            assert np.abs(shapes[i] - shapes[j]).sum() > 0.15 or {i, j} == {0, 4}


def test_one_background_is_one_sound_at_any_rate_and_length() -> None:
    low, high = background_wave("bird", 2.0, 16_000, 5), background_wave("bird", 2.0, 48_000, 5)
    a, b = np.abs(low[0]).reshape(200, -1).mean(axis=1), np.abs(high[0]).reshape(200, -1).mean(axis=1)
    assert np.corrcoef(a, b)[0, 1] > 0.99
    assert not np.allclose(low, background_wave("bird", 2.0, 16_000, 6))
    longer = background_wave("bird", 3.0, 16_000, 5)
    np.testing.assert_allclose(longer[:, :31_000], low[:, :31_000], atol=1e-3)
    assert background_wave("rain", 0.0, RATE).shape == (1, 0)
    assert background_wave("wind", 0.0001, RATE).shape == (1, 2)


def test_background_slips() -> None:
    with pytest.raises(ValueError, match=r"no background 'birds'; known: wind, bird.*did you mean 'bird'"):
        background_wave("birds", 1, RATE)
    with pytest.raises(ValueError, match="kHz"):
        background_wave("rain", 1, 16)
    with pytest.raises(ValueError, match="-1 seconds"):
        background_wave("rain", -1, RATE)
    with pytest.raises(ValueError, match="which one"):
        do(clip(), "background")


def test_the_tone_is_440_hertz() -> None:
    wave = tone_wave(1.0, RATE)
    assert np.argmax(np.abs(np.fft.rfft(wave[0]))) == 440
    assert np.abs(wave).max() == pytest.approx(0.2, abs=1e-3)
    np.testing.assert_array_equal(sound(do(clip(1.0), "tone")), wave)
    assert np.std(noise_wave(1.0, RATE)) == pytest.approx(0.1, rel=0.05)


# ---------------------------------------------------------------- stems


def stems_of(m_seconds: float = 2.0) -> dict[str, Wave]:
    return {name: noise_wave(m_seconds, RATE, i, 0.03) for i, name in enumerate(("violin", "drum", "room"))}


def test_drop_stem_is_the_sum_of_the_others() -> None:
    stems = stems_of()
    m = media(np.asarray(sum(stems.values()), np.float32))
    after = apply(m, Intervention(kind="drop_stem", stem="drum"), stems=stems)
    np.testing.assert_allclose(sound(after), stems["violin"] + stems["room"], atol=1e-6)


def test_drop_stem_slips() -> None:
    stems = stems_of()
    m = media(np.asarray(sum(stems.values()), np.float32))
    with pytest.raises(ValueError, match="no stem 'flute'; this clip has drum, room, violin"):
        apply(m, Intervention(kind="drop_stem", stem="flute"), stems=stems)
    with pytest.raises(ValueError, match="stem was not set"):
        apply(m, Intervention(kind="drop_stem"), stems=stems)
    with pytest.raises(ValueError, match="not known in parts"):
        apply(m, Intervention(kind="drop_stem", stem="drum"))
    with pytest.raises(ValueError, match="another view or rate"):
        apply(m, Intervention(kind="drop_stem", stem="drum"), stems={**stems, "drum": noise_wave(1, RATE)})
    with pytest.raises(ValueError, match="do not add up to this clip's sound"):
        apply(clip(seed=77), Intervention(kind="drop_stem", stem="drum"), stems=stems)


def spectrum_db(wave: Wave) -> np.ndarray:
    """Power in eight bands, in dB, of the channels' mean."""
    power = np.abs(np.fft.rfft(wave.mean(axis=0))) ** 2 / wave.shape[-1]
    return np.asarray(10 * np.log10([band.mean() for band in np.array_split(power[1:], 8)]))


@pytest.mark.parametrize("seconds", [2.0, -2.0])
def test_a_shift_filled_with_room_tone_has_no_edge_to_be_heard(seconds: float) -> None:
    m = struck()
    moved = sound(do(m, "shift", seconds=seconds, fill="room"))
    n = round(2.0 * RATE)
    fill, rest = (moved[:, :n], moved[:, n:]) if seconds > 0 else (moved[:, -n:], moved[:, :-n])
    had = sound(m)[:, :-n] if seconds > 0 else sound(m)[:, n:]
    np.testing.assert_array_equal(rest, had)  # what is moved is moved bit for bit
    quiet = sound(m)[:, : 2 * RATE]
    assert np.sqrt(np.mean(fill**2)) == pytest.approx(np.sqrt(np.mean(quiet**2)), rel=0.15)
    np.testing.assert_allclose(spectrum_db(fill), spectrum_db(quiet), atol=1.5)
    np.testing.assert_allclose(fill[1], fill[0] / 2, atol=1e-6)  # what the channels have in common stays
    for other in (quiet, fill[:, ::-1]):  # and it is no copy of anything
        assert abs(np.corrcoef(fill[0], other[0])[0, 1]) < 0.05


def test_room_tone_is_the_same_each_time_and_never_louder_than_the_quietest_moment() -> None:
    m = struck()
    a, b = (sound(do(m, "shift", seconds=2.0, fill="room", seed=s)) for s in (0, 1))
    np.testing.assert_array_equal(a, sound(do(m, "shift", seconds=2.0, fill="room")))
    assert not np.array_equal(a[:, :RATE], b[:, :RATE])
    dead = struck()
    silent = sound(dead).copy()
    silent[:, : 2 * RATE] = 0
    filled = sound(do(dead.with_wave(silent), "shift", seconds=1.0, fill="room"))
    assert not filled[:, :RATE].any()  # its quietest moment is digital silence, and so is the fill


def test_a_hush_fills_what_a_shift_fills_and_moves_nothing() -> None:
    m = struck()
    for fill in ("silence", "room"):
        for seconds in (2.0, -2.0):
            hushed = sound(do(m, "hush", seconds=seconds, fill=fill))
            moved = sound(do(m, "shift", seconds=seconds, fill=fill))
            n = round(2.0 * RATE)
            edge = np.s_[:, :n] if seconds > 0 else np.s_[:, -n:]
            rest = np.s_[:, n:] if seconds > 0 else np.s_[:, :-n]
            np.testing.assert_array_equal(hushed[edge], moved[edge])
            np.testing.assert_array_equal(hushed[rest], sound(m)[rest])
    knock = (Event("knock", 3.0, 3.0),)
    apply(m, Intervention(kind="hush", seconds=2.6), events=knock)
    for seconds in (2.8, -2.8):
        with pytest.raises(ValueError, match="hides 'knock'"):
            apply(m, Intervention(kind="hush", seconds=seconds), events=knock)
    with pytest.raises(ValueError, match="milliseconds"):
        do(m, "hush", seconds=2000.0)


def test_an_empty_room_has_nothing_of_the_clip_in_it() -> None:
    steady = media(tone_wave(4.0, RATE))  # never quiet: its own quietest moment is the tone itself
    room = sound(do(steady, "mute", fill="room"))
    assert -46 < 20 * np.log10(np.sqrt(np.mean(room**2))) < -44
    assert abs(np.corrcoef(room[0], sound(steady)[0])[0, 1]) < 0.05
    power = np.abs(np.fft.rfft(room[0])) ** 2
    at = round(440 * room.shape[1] / RATE)
    assert power[at - 2 : at + 3].sum() < 20 * np.median(power[at - 200 : at + 200]) * 5
    faint = sound(do(struck(room=0.0001), "mute", fill="room"))
    assert 20 * np.log10(np.sqrt(np.mean(faint**2))) == pytest.approx(-62, abs=0.5)


def test_an_unseen_shift_is_a_shift_with_a_black_picture() -> None:
    m = struck()
    seen, dark = (do(m, "shift", seconds=1.0, fill="room", unseen=u) for u in (False, True))
    assert seen.frames is m.frames
    assert dark.frames is not None
    assert not dark.frames.any()
    np.testing.assert_array_equal(sound(dark), sound(seen))
    keys = {
        Intervention(kind="shift", seconds=1.0, fill=f, unseen=u).key for f in ("silence", "room") for u in (0, 1)
    }  # type: ignore[arg-type]
    assert len(keys) == 4
