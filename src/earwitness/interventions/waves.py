"""What the interventions do to a sound, as pure functions on waves: the same for arrays in memory and files.

Conventions: waves are float32 [channels, samples] in [-1, 1]; every function returns a new wave of the same
shape as the clip's own (the clip's length is never changed) and never writes into its input. Loudness is
compared on what a model hears: the channels' mean, and for files at 16 kHz, because a stereo file and its
16 kHz mono version can differ by more than 7 LU.

Functions: ``shifted``, ``hushed``, ``room_tone``, ``empty_room``, ``fitted`` (length by trim or loop),
``with_channels``, ``limited`` (peaks), ``matched`` (length, channels and loudness of another sound),
``without_stem``, and ``changed``, which does what an Intervention says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.fft
import soxr
from scipy import ndimage

from earwitness.interventions.sounds import background_wave, noise_wave, tone_wave
from earwitness.media.signal import loudness_lufs
from earwitness.records import Event, Fill, Intervention, Wave

EDGE = 0.3  # s; an event nearer to an edge than this cannot be checked by listening
_SEAM = 0.005  # s of fade on both sides where a looped donor meets itself, so that the seam is no onset
_BLOCK = 0.4  # s; the gating block of ITU-R BS.1770: shorter sounds have no loudness of their own
_PRESS_DB = 12.0  # dB; the most that peaks are turned down to let a sound be as loud as the clip's own
_CLOSE_LU = 0.5  # LU; nearer than anyone hears, and well within the 3 LU that are asked for
_LOOK = 0.01  # s over which the limiter's gain moves
_SILENT = 1e-6  # RMS; less is digital silence with dither at most (16 bits: 1e-5)
_ROOM_DB = (-62.0, -45.0)  # dBFS; an empty room: below a quiet recording's floor, above nothing at all
_FOREIGN_DB = -3.0  # a remix further than this from the clip's own sound is not a remix of this clip


class Matched(NamedTuple):
    """Another sound made to fit a clip. ``residual_lu`` = its loudness minus the clip's; None = one is silent.

    ``gain_db`` was given to all of it; ``limited_db`` (<= 0) is the most that any moment was then turned down.
    """

    wave: Wave
    gain_db: float
    residual_lu: float | None
    limited_db: float = 0.0


class Changed(NamedTuple):
    """An intervened sound and what could not be done exactly about it."""

    wave: Wave | None
    gain_db: float | None = None  # swap, background: gain given to the other sound
    residual_lu: float | None = None  # swap, background: loudness error left
    limited_db: float | None = None  # swap, background: the most that its peaks were turned down
    remix_db: float | None = None  # drop_stem: energy of (sum of all stems - sound) over that of the sound


def room_tone(wave: Wave, rate: int, samples: int, seed: int = 0) -> Wave:
    """What the clip sounds like when nothing happens: noise with the spectrum of its quietest moment.

    The quietest stretch (1 s, at most a quarter of the clip) is convolved with white noise: its spectrum, its level
    and what its channels have in common stay, nothing in it repeats. Where that stretch is digital silence, so is
    this. A clip that is never quiet gets its quietest sound, blurred: audible as a fill, and meant to be held
    against a ``hush`` that has the same.

    Returns float32 [channels, samples]; the same for the same wave and seed.
    """
    n = wave.shape[-1]
    width = max(1, min(rate, n // 4))
    at, level = _quietest(wave, width)
    if level < _SILENT or samples == 0:
        return np.zeros((wave.shape[0], samples), np.float32)
    size = scipy.fft.next_fast_len(samples + width, real=True)
    noise = np.random.default_rng([seed, size, width]).standard_normal(samples + width)
    grain = scipy.fft.rfft(wave[:, at : at + width] * np.hanning(width), size, axis=-1)
    tone = scipy.fft.irfft(grain * scipy.fft.rfft(noise, size), size, axis=-1)[:, width : width + samples]
    return np.asarray(tone * (level / max(float(np.sqrt(np.mean(tone**2))), 1e-12)), np.float32)


def empty_room(wave: Wave, rate: int, seed: int = 0) -> Wave:
    """A room in which nothing sounds, as long as the clip: soft noise without a trace of the clip's own sound.

    Its spectrum falls from 300 Hz on (a plain choice of ours); its level is that of the clip's quietest 50 ms, but
    -62 to -45 dBFS: a clip that is never quiet does not leave a loud room behind. One noise on all channels.
    """
    n = wave.shape[-1]
    quiet = _quietest(wave, max(1, min(round(0.05 * rate), n)))[1]
    spectrum = scipy.fft.rfft(np.random.default_rng([seed, n]).standard_normal(n))
    hertz = scipy.fft.rfftfreq(n, 1 / rate)
    tone = scipy.fft.irfft(spectrum * (hertz > 30) / (1 + hertz / 300), n)
    level = float(np.clip(quiet, 10 ** (_ROOM_DB[0] / 20), 10 ** (_ROOM_DB[1] / 20)))
    tone *= level / max(float(np.sqrt(np.mean(tone**2))), 1e-12)
    return np.repeat(tone[None].astype(np.float32), wave.shape[0], axis=0)


def _quietest(wave: Wave, width: int) -> tuple[int, float]:
    """Start and RMS of the quietest ``width`` samples."""
    power = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64).mean(axis=0))])
    starts = np.arange(0, wave.shape[-1] - width + 1, max(1, width // 32))
    energy = power[starts + width] - power[starts]
    k = int(np.argmin(energy))
    return int(starts[k]), float(np.sqrt(max(energy[k], 0.0) / width))


def _fill(wave: Wave, rate: int, samples: int, fill: Fill, seed: int) -> Wave:
    if fill == "room":
        return room_tone(wave, rate, samples, seed)
    return np.zeros((wave.shape[0], samples), np.float32)


def hushed(
    wave: Wave, rate: int, seconds: float, events: Sequence[Event] = (), fill: Fill = "silence", seed: int = 0
) -> Wave:
    """The sound with its first (``seconds`` > 0) or last (< 0) |seconds| filled as a shift would fill them.

    Nothing is moved, so this is the control of a shift: who calls it shifted hears the fill, not the timing.

    Raises ValueError where that is more than the clip, or hides a labelled event or comes within 0.3 s of it.
    """
    n = wave.shape[-1]
    step = _samples("hush", seconds, n, rate)
    for event in events:
        hidden = event.heard is not None and (
            event.heard < seconds + EDGE if seconds > 0 else event.heard > n / rate + seconds - EDGE
        )
        if step and hidden:
            raise ValueError(
                f"hush: filling {seconds:+.2f} s hides {event.what!r}, heard at {event.heard:.2f} s; a hush is a "
                "control in which nothing changes: take the other end, or a shorter one"
            )
    out = wave.copy()
    if step > 0:
        out[:, :step] = _fill(wave, rate, step, fill, seed)
    elif step < 0:
        out[:, n + step :] = _fill(wave, rate, -step, fill, seed)
    return out


def _samples(what: str, seconds: float, n: int, rate: int) -> int:
    if not np.isfinite(seconds):
        raise ValueError(f"{what}: {seconds} seconds; give a finite number of seconds, > 0 = sound late")
    step = round(seconds * rate)
    if step and abs(step) >= n:
        slip = f" (did you pass milliseconds? {seconds / 1000:+.3f} s)" if abs(seconds) >= 50 else ""
        raise ValueError(f"a {what} of {seconds:g} s leaves no sound in a {n / rate:.2f} s clip{slip}")
    return step


def shifted(
    wave: Wave, rate: int, seconds: float, events: Sequence[Event] = (), fill: Fill = "silence", seed: int = 0
) -> Wave:
    """The sound moved by round(seconds * rate) samples, its length kept; > 0 = sound late.

    Shift(D) of arXiv 2605.16403, section 2.1. D > 0: D seconds of ``fill`` in front, the tail cut. D < 0: the
    head dropped, fill behind. It is done in samples because loaders ignore shifted timestamps.

    Differs from the source, which does not say what it fills with: zeros ("silence") tell a shift from an untouched
    clip without a look at the picture wherever clips have room tone; ``fill`` "room" (:func:`room_tone`) does not.
    And refuses a shift after which a labelled event is heard within 0.3 s of either edge or not at all (such a clip
    is a muted one, not a shifted one).

    Raises
    ------
    ValueError
        For a shift that leaves no sound, is not finite, or loses a labelled event.
    """
    n = wave.shape[-1]
    length = n / rate
    step = _samples("shift", seconds, n, rate)
    if step == 0:
        return wave.copy()
    for event in events:
        if event.heard is None:
            continue
        new = event.heard + seconds
        if new < EDGE - 1e-9 or new > length - EDGE + 1e-9:
            low, high = max(EDGE, EDGE - seconds), min(length - EDGE, length - EDGE - seconds)
            room = f"heard between {low:.2f} and {high:.2f} s" if low < high else f"longer than {length:.2f} s"
            raise ValueError(
                f"a shift of {seconds:+.2f} s moves {event.what!r} from {event.heard:.2f} s to {new:.2f} s, "
                f"off the clip or within {EDGE} s of its edge (0 to {length:.2f} s): nobody could hear "
                f"that it moved; use a smaller shift or a clip {room}"
            )
    filler = _fill(wave, rate, abs(step), fill, seed)
    kept = wave[:, : n - step] if step > 0 else wave[:, -step:]
    return np.concatenate([filler, kept] if step > 0 else [kept, filler], axis=-1)


def fitted(wave: Wave, samples: int, rate: int) -> Wave:
    """The wave trimmed, or looped with a short fade at the seams, to ``samples``; an empty one gives zeros."""
    n = wave.shape[-1]
    if n == 0:
        return np.zeros((wave.shape[0], samples), np.float32)
    if n >= samples:
        return wave[:, :samples].copy()
    fade = min(int(_SEAM * rate), n // 4)
    ramp = np.linspace(0.0, 1.0, fade + 1, dtype=np.float32)[1:]
    loop = wave.copy()
    if fade:
        loop[:, :fade] *= ramp
        loop[:, n - fade :] *= ramp[::-1]
    out = np.tile(loop, -(-samples // n))[:, :samples]
    out[:, :fade] = wave[:, :fade]  # the very start is no seam
    return np.ascontiguousarray(out)


def level(wave: Wave, rate: int) -> float:
    """Loudness in LUFS of the channels' mean; a sound shorter than 0.4 s is repeated up to that length."""
    mono = wave.mean(axis=0, keepdims=True) if wave.shape[0] != 1 else wave
    need = int(np.ceil(_BLOCK * rate)) + 1
    if 0 < mono.shape[-1] < need:
        mono = np.tile(mono, -(-need // mono.shape[-1]))
    if mono.shape[-1] == 0 or not np.any(mono):
        return float("-inf")
    return loudness_lufs(np.ascontiguousarray(mono, np.float32), rate)


def _heard(wave: Wave, rate: int, hear_rate: int | None) -> tuple[Wave, int]:
    """What a model hears of a wave: its channels' mean at ``hear_rate`` (None = the wave's own rate)."""
    mono = wave.mean(axis=0, keepdims=True)
    if hear_rate is None or hear_rate == rate or mono.shape[-1] == 0:
        return mono, rate
    return np.asarray(soxr.resample(mono[0], rate, hear_rate), np.float32)[None], hear_rate


def matched(other: Wave, own: Wave, rate: int, hear_rate: int | None = None) -> Matched:
    """Another sound with the length, channels and loudness of a clip's own.

    gain = 10 ** ((L_own - L_other) / 20), L in LUFS (ITU-R BS.1770) on what the model hears. Where peaks would
    pass 1 they are turned down smoothly (``limited``), by 12 dB at most and only where that helps, never clipped;
    a donor of single clicks, or any donor beside a very loud clip, stays quieter, and the residual says by how
    much. Where one of the two is silent there is no level to match: the gain is 0 dB (or what keeps the peak at
    1) and the residual None.
    """
    wave = fitted(with_channels(other, own.shape[0]), own.shape[-1], rate)
    have = level(*_heard(wave, rate, hear_rate))
    want = level(*_heard(own, rate, hear_rate))
    comparable = bool(np.isfinite(have) and np.isfinite(want))
    peak = float(np.abs(wave).max(initial=0.0))
    gain = 10.0 ** ((want - have) / 20) if comparable else 1.0
    if peak * gain <= 1.0:
        # Loudness follows the gain dB for dB, so measuring it again would tell nothing new (a test holds this).
        return Matched(wave * np.float32(gain), _db(gain), have + _db(gain) - want if comparable else None)
    if not comparable:
        return Matched(wave * np.float32(1.0 / peak), _db(1.0 / peak), None)
    return _pressed(wave, peak, gain, want, rate, hear_rate)


def _db(gain: float) -> float:
    return float(20 * np.log10(gain))


def _pressed(wave: Wave, peak: float, gain: float, want: float, rate: int, hear_rate: int | None) -> Matched:
    """The wave as loud as wanted with its peaks held under 1, as far as 12 dB of limiting goes."""
    most = 10.0 ** (_PRESS_DB / 20) / peak
    for _ in range(4):  # limiting costs loudness, so the gain is raised by what is missing; it settles in 2 or 3
        gain = min(gain, most)
        out, lowest = limited(wave * np.float32(gain), rate)
        residual = level(*_heard(out, rate, hear_rate)) - want
        if abs(residual) < _CLOSE_LU or gain == most:
            break
        gain *= 10.0 ** (-residual / 20)
    plain = wave * np.float32(1.0 / peak)
    quieter = level(*_heard(plain, rate, hear_rate)) - want
    if abs(residual) > abs(quieter) - _CLOSE_LU:  # a sound that is even already gains nothing from being pressed
        return Matched(plain, _db(1.0 / peak), quieter)
    return Matched(out, _db(gain), residual, _db(lowest))


def limited(wave: Wave, rate: int) -> tuple[Wave, float]:
    """The wave with peaks above 1 turned down, all channels alike, and the lowest gain used.

    The gain at t is the 10 ms mean of g, g the least of 1 / |x| over the 10 ms around: every value that goes into
    the mean is low enough for x(t), so nothing passes 1, and it moves too smoothly to be heard as clipping.
    """
    need = np.minimum(1.0, 1.0 / np.maximum(np.abs(wave).max(axis=0), 1e-9)).astype(np.float64)
    size = 2 * (int(_LOOK * rate) // 2) + 1
    held = ndimage.minimum_filter1d(need, size, mode="nearest")
    gain = np.minimum(ndimage.uniform_filter1d(held, size, mode="nearest"), need)  # need: against rounding
    return np.clip(wave * gain.astype(np.float32), -1.0, 1.0), float(gain.min(initial=1.0))


def with_channels(wave: Wave, channels: int) -> Wave:
    """The wave with that many channels: as it is, or its mean in each."""
    if wave.shape[0] == channels:
        return wave
    return np.repeat(wave.mean(axis=0, keepdims=True), channels, axis=0)


def without_stem(stems: Mapping[str, Wave], name: str | None, own: Wave) -> tuple[Wave, float]:
    """The sum of all stems but one, and how far the sum of *all* stems is from the clip's own sound, in dB.

    Always a remix, never mix minus stem: from a lossy mix the subtraction leaves the stem's energy behind as
    noise. The second value is 10 log10(|sum - own|^2 / |own|^2): about -90 for exact stems, nearer 0 for a mix
    that went through a lossy codec.

    Raises
    ------
    ValueError
        Without stems, for an unknown name (lists the known ones), for stems of another length, and for stems
        that do not add up to this clip's sound.
    """
    if not stems:
        raise ValueError(
            "drop_stem: this clip's sound is not known in parts (no stems); use clips made from stems. Subtracting "
            "a recording from the mix would leave its energy behind"
        )
    if name not in stems:
        slip = " (Intervention.stem was not set)" if name is None else ""
        raise ValueError(f"drop_stem: no stem {name!r}; this clip has {', '.join(sorted(stems))}{slip}")
    total = np.zeros(own.shape, np.float64)
    rest = np.zeros(own.shape, np.float64)
    for stem, wave in stems.items():
        if wave.ndim != 2 or wave.shape[-1] != own.shape[-1] or wave.shape[0] not in (1, own.shape[0]):
            raise ValueError(
                f"drop_stem: stem {stem!r} has shape {wave.shape}, the clip's sound {own.shape}; give stems of the "
                "clip's own length and rate (were they made for another view or rate?)"
            )
        total += wave
        if stem != name:
            rest += wave
    energy = float(np.sum(own.astype(np.float64) ** 2))
    error = float(np.sum((total - own) ** 2))
    remix_db = float(10 * np.log10(max(error, 1e-12) / max(energy, 1e-12)))
    if remix_db > _FOREIGN_DB and error > 1e-6:
        raise ValueError(
            f"drop_stem: the stems {', '.join(sorted(stems))} do not add up to this clip's sound (difference "
            f"{remix_db:.1f} dB of the sound); are they another clip's, or is one missing, such as the room tone?"
        )
    peak = float(np.abs(rest).max(initial=0.0))
    return (rest / max(peak, 1.0)).astype(np.float32), remix_db


def changed(
    wave: Wave | None,
    rate: int,
    iv: Intervention,
    *,
    donor: Wave | None = None,
    stems: Mapping[str, Wave] | None = None,
    events: Sequence[Event] = (),
    hear_rate: int | None = None,
) -> Changed:
    """The sound after an intervention on the sound; ``donor`` is at ``rate`` too.

    Raises
    ------
    ValueError
        Where there is no audio track to change, and for everything its parts refuse.
    """
    if iv.kind == "no_track":
        return Changed(None)
    if wave is None:
        fake = {
            "mute": "mute would fake one (a silent track is another condition than none)",
            "shift": "there is nothing to shift",
            "hush": "there is nothing to hush",
            "drop_stem": "there is no stem to leave out",
        }.get(iv.kind, f"{iv.kind} would fake one")
        raise ValueError(f"{iv.kind}: this clip has no audio track: {fake}; use a clip with sound")
    if wave.ndim != 2:
        raise ValueError(f"{iv.kind}: a wave of shape {wave.shape}; give [channels, samples], mono as [1, samples]")
    seconds = wave.shape[-1] / rate
    match iv.kind:
        case "original" | "sham":
            return Changed(wave)
        case "mute":
            return Changed(empty_room(wave, rate, iv.seed) if iv.fill == "room" else np.zeros_like(wave))
        case "shift":
            return Changed(shifted(wave, rate, iv.seconds, events, iv.fill, iv.seed))
        case "hush":
            return Changed(hushed(wave, rate, iv.seconds, events, iv.fill, iv.seed))
        case "swap":
            if donor is None:
                named = f" (the intervention names {iv.donor!r})" if iv.donor else ""
                raise ValueError(f"swap: no donor sound; pass a donor that has an audio track{named}")
            if donor is wave:
                raise ValueError("swap: the donor's sound is this clip's own; take another clip as the donor")
            return Changed(*matched(donor, wave, rate, hear_rate))
        case "drop_stem":
            rest, remix_db = without_stem(stems or {}, iv.stem, wave)
            return Changed(rest, remix_db=remix_db)
        case "background":
            if iv.background is None:
                raise ValueError("background: which one? set Intervention.background, for instance to 'rain'")
            made = background_wave(iv.background, seconds, rate, iv.seed)
            return Changed(*matched(made, wave, rate, hear_rate))
        case "tone":
            return Changed(with_channels(tone_wave(seconds, rate), wave.shape[0]))
        case "noise":
            return Changed(with_channels(noise_wave(seconds, rate, iv.seed), wave.shape[0]))
        case _:
            raise ValueError(f"{iv.kind!r} is no intervention on the sound")
