"""Made sounds that stand in for a clip's own: five backgrounds, a sine and white noise.

AV-ConfuseBench ("When Eyes and Ears Disagree", arXiv 2511.10059) replaces whole sound tracks with wind, bird,
rain, electric drill and thunder. Its recordings are not ours to ship, so these five are synthesised: plain to
the ear, free of licences, of any length, and exact from a seed. The sine and the noise are the probes of the
ear check: sounds that no clip explains.

Conventions: waves are float32 [1, samples] in [-1, 1] with round(seconds * rate) samples. One (name, seed) is
one sound: it is made at 48 kHz and resampled, so a model at 16 kHz and a file at 44.1 kHz get the same chirps
at the same moments. Levels are moderate (peak 0.5); callers match loudness themselves.

Functions: ``backgrounds`` names them, ``background_wave`` makes one, ``tone_wave`` and ``noise_wave``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import soxr
from numpy.typing import NDArray

from earwitness.records import Wave

_BASE = 48_000  # Hz, the rate at which backgrounds are made; the highest usual rate of a source clip
_PEAK = 0.5
_BLOCK = 10  # backgrounds are made in whole blocks of this many seconds, so clips of many lengths share one

Signal = NDArray[np.float64]  # [samples] at _BASE
_Make = Callable[[int, np.random.Generator], Signal]


def _shaped_noise(n: int, rng: np.random.Generator, gain: Callable[[Signal], Signal]) -> Signal:
    """Noise of ``n`` samples whose spectrum follows ``gain`` (Hz -> amplitude), scaled to RMS 1."""
    size = max(n, 2)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    hertz = np.asarray(np.fft.rfftfreq(size, 1 / _BASE), np.float64)
    shaped = np.fft.irfft(spectrum * gain(hertz), size)[:n]
    return np.asarray(shaped / (np.sqrt(np.mean(shaped**2)) + 1e-12))


def _wander(n: int, rng: np.random.Generator, every: float, low: float, high: float) -> Signal:
    """A slow random curve between ``low`` and ``high`` with a new aim every ``every`` seconds."""
    aims = rng.uniform(low, high, size=int(n / (_BASE * every)) + 3)
    at = np.arange(n) / (_BASE * every)
    k = at.astype(np.int64)
    ease = 0.5 - 0.5 * np.cos(np.pi * (at - k))  # cosine easing: no corners that would sound like onsets
    return np.asarray(aims[k] * (1 - ease) + aims[k + 1] * ease)


def _add(out: Signal, at: float, sound: Signal) -> None:
    """Mix ``sound`` into ``out`` from ``at`` seconds on, cut at the end."""
    start = int(at * _BASE)
    part = sound[: max(0, len(out) - start)]
    out[start : start + len(part)] += part


def _wind(n: int, rng: np.random.Generator) -> Signal:
    """A low roar that swells in gusts, and a howl that rises with them."""
    gust = _wander(n, rng, 0.9, 0.15, 1.0) ** 1.5
    roar = _shaped_noise(n, rng, lambda f: (f / 80) / (1 + f / 80) / (1 + (f / 380) ** 1.6))
    howl = _shaped_noise(n, rng, lambda f: np.exp(-(((f - 480) / 110) ** 2)))
    whistle = _shaped_noise(n, rng, lambda f: np.exp(-(((f - 820) / 60) ** 2)))
    return roar * (0.25 + gust) + 0.35 * howl * gust**2 + 0.12 * whistle * gust**3


def _bird(n: int, rng: np.random.Generator) -> Signal:
    """Phrases of fast chirps that sweep between 2 and 6 kHz, over hushed air."""
    out = 0.004 * _shaped_noise(n, rng, lambda f: 1 / (1 + f / 900))
    at = float(rng.uniform(0.02, 0.08))
    while at * _BASE < n:
        low, high = rng.uniform(2200, 3200), rng.uniform(3800, 5600)
        rising = rng.random() < 0.6
        length = float(rng.uniform(0.06, 0.16))
        step = length + float(rng.uniform(0.03, 0.09))
        for _ in range(int(rng.integers(3, 9))):
            t = np.arange(int(length * _BASE)) / _BASE
            u = t / length
            sweep = u if rising else 1 - u
            pitch = low + (high - low) * sweep**1.4 + 120 * np.sin(2 * np.pi * 38 * t)
            phase = 2 * np.pi * np.cumsum(pitch) / _BASE
            chirp = (np.sin(phase) + 0.18 * np.sin(2 * phase)) * np.sin(np.pi * u) ** 0.7
            _add(out, at, chirp * float(rng.uniform(0.6, 1.0)))
            at += step
        at += float(rng.uniform(0.15, 0.5))
    return out


def _rain(n: int, rng: np.random.Generator) -> Signal:
    """A steady hiss with thousands of small drops, some of them close."""
    hiss = _shaped_noise(n, rng, lambda f: (f / 400) / (1 + (f / 2500) ** 1.3) / (1 + (f / 9000) ** 4))
    out = 0.5 * hiss * _wander(n, rng, 1.7, 0.8, 1.1)
    t = np.arange(int(0.02 * _BASE)) / _BASE
    for _ in range(int(70 * n / _BASE) + 1):
        pitch, decay = rng.uniform(900, 5200), rng.uniform(180, 700)
        drop = np.sin(2 * np.pi * pitch * t * (1 + 6 * t)) * np.exp(-decay * t)
        _add(out, float(rng.uniform(0, n / _BASE)), drop * float(rng.exponential(0.9)))
    return out


def _electric_drill(n: int, rng: np.random.Generator) -> Signal:
    """A motor that spins up, screams on its gear's pitch, labours into the wall and winds down."""
    speed = np.empty(n)
    load = np.empty(n)
    done = 0
    while done < n:
        k = int(rng.uniform(1.4, 2.4) * _BASE)
        u = np.linspace(0, 1, k)
        spin = np.minimum(1, u / 0.12) ** 0.6 * np.where(u > 0.88, 1 - 0.75 * (u - 0.88) / 0.12, 1.0)
        bite = np.clip((u - 0.3) / 0.1, 0, 1) * np.clip((0.85 - u) / 0.05, 0, 1)
        take = min(k, n - done)
        speed[done : done + take], load[done : done + take] = spin[:take], bite[:take]
        done += take
    pitch = 165 * (0.25 + 0.75 * speed) * (1 - 0.12 * load) * (1 + 0.008 * _wander(n, rng, 0.05, -1, 1))
    phase = 2 * np.pi * np.cumsum(pitch) / _BASE
    motor = sum((np.sin(h * phase + 0.7 * h) / h**0.8 for h in range(1, 15)), np.zeros(n))
    gear = 0.9 * np.sin(11 * phase + 1.5 * np.sin(phase)) + 0.5 * np.sin(22 * phase + np.sin(2 * phase))
    grind = _shaped_noise(n, rng, lambda f: np.exp(-(((f - 3200) / 2200) ** 2)))
    chatter = 0.6 + 0.4 * np.sign(np.sin(phase / 3))  # the bit hammering in the wall
    return speed * (motor + gear) + load * grind * chatter * 1.4 + 0.05 * grind


def _thunder(n: int, rng: np.random.Generator) -> Signal:
    """Claps every few seconds: a tearing crack, then a rumble that rolls and dies, over far rain."""
    out = 0.02 * _shaped_noise(n, rng, lambda f: (f / 400) / (1 + (f / 2500) ** 2))
    at = float(rng.uniform(0.05, 0.15))
    while at * _BASE < n:
        k = int(rng.uniform(3.0, 4.0) * 100) * (_BASE // 100)  # whole hundredths keep the transform fast
        t = np.arange(k) / _BASE
        rumble = _shaped_noise(k, rng, lambda f: (f / 30) / (1 + (f / 30) ** 2) / (1 + (f / 260) ** 1.5))
        roll = _wander(k, rng, 0.22, 0.25, 1.0) * np.exp(-0.9 * t) * (1 - np.exp(-t / 0.06))
        crack = _shaped_noise(k, rng, lambda f: 1 / (1 + (f / 1600) ** 1.2)) * np.exp(-9 * t)
        tear = 0.4 + 0.6 * (_wander(k, rng, 0.018, 0, 1) > 0.55)
        fade = np.clip((k - np.arange(k)) / (0.3 * _BASE), 0, 1)
        _add(out, at, (1.1 * rumble * roll + 0.55 * crack * tear * np.clip(t / 0.002, 0, 1)) * fade)
        at += k / _BASE * float(rng.uniform(0.7, 0.95))
    return out


_BACKGROUNDS: dict[str, _Make] = {
    "wind": _wind,
    "bird": _bird,
    "rain": _rain,
    "electric drill": _electric_drill,
    "thunder": _thunder,
}


def backgrounds() -> tuple[str, ...]:
    """Names of the backgrounds, as AV-ConfuseBench lists them."""
    return tuple(_BACKGROUNDS)


def _samples(who: str, seconds: float, rate: int) -> int:
    if not np.isfinite(seconds) or seconds < 0:
        raise ValueError(f"{who}: {seconds} seconds; give a finite length of 0 or more")
    if rate < 1000:
        raise ValueError(f"{who}: a rate of {rate} Hz; give Hz such as 16000 (did you pass kHz?)")
    return round(seconds * rate)


@lru_cache(maxsize=8)  # a protocol asks for the same few backgrounds for clip after clip
def _base(name: str, n: int, seed: int) -> Signal:
    rng = np.random.default_rng([seed, *name.encode()])
    wave = _BACKGROUNDS[name](n, rng)
    wave = wave * (_PEAK / max(float(np.abs(wave).max()), 1e-12))
    wave.flags.writeable = False  # shared through the cache
    return wave


def background_wave(name: str, seconds: float, rate: int, seed: int = 0) -> Wave:
    """A named background, [1, round(seconds * rate)], peak 0.5 at most; a shorter one is the start of a longer.

    (Up to ten seconds, that is: longer ones are made afresh for every ten seconds more.)

    Raises
    ------
    ValueError
        For an unknown name (lists the known ones), a negative length or a rate that is no rate.
    """
    if name not in _BACKGROUNDS:
        near = [b for b in _BACKGROUNDS if name.replace("_", " ").casefold().rstrip("s") in b]
        hint = f" (did you mean {near[0]!r}?)" if near and name else ""
        raise ValueError(f"background_wave: no background {name!r}; known: {', '.join(_BACKGROUNDS)}{hint}")
    n = _samples("background_wave", seconds, rate)
    if n == 0:
        return np.zeros((1, 0), np.float32)
    blocks = max(1, int(np.ceil(seconds / _BLOCK)))
    base = _base(name, blocks * _BLOCK * _BASE, seed)[: int(np.ceil(seconds * _BASE)) + 1]
    made = base if rate == _BASE else soxr.resample(base, _BASE, rate)
    out = np.zeros((1, n), np.float32)
    k = min(n, len(made))
    out[0, :k] = np.clip(made[:k], -1.0, 1.0)
    return out


def tone_wave(seconds: float, rate: int, hertz: float = 440.0, amplitude: float = 0.2) -> Wave:
    """A sine, [1, round(seconds * rate)]: x_n = amplitude * sin(2 pi hertz n / rate)."""
    n = _samples("tone_wave", seconds, rate)
    return np.asarray(amplitude * np.sin(2 * np.pi * hertz / rate * np.arange(n)), dtype=np.float32)[None]


def noise_wave(seconds: float, rate: int, seed: int = 0, rms: float = 0.1) -> Wave:
    """White Gaussian noise of the given RMS, [1, round(seconds * rate)], from a seed."""
    n = _samples("noise_wave", seconds, rate)
    made = np.random.default_rng([seed, 0x501]).standard_normal((1, n)) * rms
    return np.asarray(np.clip(made, -1.0, 1.0), dtype=np.float32)
