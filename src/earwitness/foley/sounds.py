"""What a scene sounds like: one stem for each thing, and a quiet room.

A thing's stem is one short sound (a *grain*: a strike, a call, a honk) laid down at each of its event times, so
a grain is computed once however long the clip is. Grains are sums of partials, or noise built in the frequency
domain from fixed random phases; both mean the same at any sample rate, with nothing above half of it. Every grain
starts within 3 ms of its event, and the stem is exactly zero before its first event.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from earwitness.foley.scenes import Scene, Source, generator
from earwitness.records import Wave

Sound = NDArray[np.floating[Any]]  # [samples]

ROOM = {"easy": 0.0015, "medium": 0.006, "hard": 0.02}  # RMS of the room for one source: about -56, -44, -34 dBFS


def stems(scene: Scene, rate: int) -> dict[str, Wave]:
    """Each thing's sound and the room's, [1, samples] at ``rate`` Hz; added in this order they are the wave."""
    if not 1_000 <= rate <= 384_000:
        raise ValueError(f"foley: a rate of {rate} Hz is not within 1000 to 384000 (did you pass kHz?)")
    n = round(scene.duration * rate)
    out = {s.what: _stem(scene, s, n, rate)[None] for s in scene.sources}
    out["room"] = _room(scene, n, rate)[None]
    return out


def mix(parts: Sequence[Wave]) -> Wave:
    """The wave that the stems add up to: float32, one after the other in their order, so the sum is exact."""
    wave = np.zeros_like(parts[0])
    for part in parts:
        wave += part
    return wave


def _stem(scene: Scene, source: Source, n: int, rate: int) -> Sound:
    rng = generator(scene, f"sound of {source.what}")
    loud = rng.uniform(0.85, 1.0, len(source.times))
    grains = VOICES[source.what](source.pitch, rng, rate)
    out = np.zeros(n + max(map(len, grains)), np.float32)
    for k, time in enumerate(source.times):
        grain = grains[k % len(grains)]
        at = round(time * rate)
        out[at : at + len(grain)] += np.float32(loud[k]) * grain
    out = out[:n]
    tail = min(n, round(0.004 * rate))  # a sound that is cut off by the end of the clip leaves without a click
    out[n - tail :] *= np.linspace(1, 0, tail, dtype=np.float32)
    peak = float(np.abs(out).max(initial=0))
    return out * np.float32(source.level / peak) if peak > 0 else out


def _room(scene: Scene, n: int, rate: int) -> Sound:
    rng = generator(scene, "room")
    top = 8_000 if scene.difficulty == "hard" else 4_000
    tone = noise(rng, n, rate, lambda f: 1 / (1 + f / 300) * (f > 30), top=top)
    return tone * np.float32(ROOM[scene.difficulty] * rng.uniform(0.8, 1.2) / len(scene.sources))


def noise(
    rng: np.random.Generator, n: int, rate: int, shape: Callable[[Sound], Sound], *, top: float = 12_000
) -> Sound:
    """``n`` samples of noise with RMS 1 and spectrum ``shape(hertz)`` up to ``top`` Hz, the same at every rate."""
    seconds = n / rate
    bins = round(top * seconds) + 1
    f = (np.arange(bins, dtype=np.float32) / np.float32(seconds)).astype(np.float32)
    # both parts of each bin side by side: the first bins are the same whatever the number of them
    z = rng.standard_normal((bins, 2), dtype=np.float32).view(np.complex64)[:, 0] * shape(f)
    z[0] = 0
    power = float((z.real**2 + z.imag**2).sum())
    z = z[: n // 2 + 1]
    scale = n / np.sqrt(2 * power) if power > 0 else 0.0
    return np.asarray(scipy.fft.irfft(z, n) * scale, dtype=np.float32)


# ---- the parts of a grain ----


def _clock(seconds: float, rate: int) -> Sound:
    return np.arange(round(seconds * rate), dtype=np.float32) / np.float32(rate)


def _edges(t: Sound, attack: float, release: float) -> Sound:
    """Rise from zero in ``attack`` seconds and fall to zero in the last ``release``, both as raised cosines."""
    up = np.clip(t / attack, 0, 1)
    down = np.clip((t[-1] - t) / release, 0, 1)
    return np.asarray(0.25 * (1 - np.cos(np.pi * up)) * (1 - np.cos(np.pi * down)), np.float32)


def _tones(t: Sound, rate: int, partials: Sequence[tuple[float, float, float]]) -> Sound:
    """Decaying partials (hertz, weight, 1/decay in 1/s); those above 0.45 of the rate are left out."""
    out = np.zeros_like(t)
    for hertz, weight, decay in partials:
        if hertz < 0.45 * rate:
            out += np.float32(weight) * np.sin(np.float32(2 * np.pi * hertz) * t) * np.exp(np.float32(-decay) * t)
    return out


def _voiced(phase: Sound, hertz: float, rate: int, weights: Sequence[float]) -> Sound:
    """Harmonics of a moving fundamental: ``phase`` in cycles, ``hertz`` its highest, weights of 1, 2, 3 ..."""
    out = np.zeros_like(phase)
    turn = np.float32(2 * np.pi) * phase
    for k, weight in enumerate(weights, 1):
        if weight and k * hertz < 0.45 * rate:
            out += np.float32(weight) * np.sin(np.float32(k) * turn)
    return out


def _cycles(hertz: Sound, rate: int) -> Sound:
    """Phase in cycles of a frequency curve, from 0; summed in double precision."""
    phase = np.cumsum(hertz.astype(np.float64)) / rate
    return np.asarray(phase - phase[0], np.float32)


# ---- the voices: (pitch factor, random numbers, rate) -> grains that take turns ----


def _bell(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(2.2, rate)
    rows = [(0.5, 0.5, 1.6), (1, 1.0, 2.0), (1.19, 0.5, 2.6), (2.0, 0.7, 3.5), (2.74, 0.5, 5), (3.76, 0.35, 8)]
    return [_tones(t, rate, [(820 * p * r, w, d) for r, w, d in rows]) * _edges(t, 0.001, 0.2)]


def _drum(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.42, rate)
    skin = np.sin(2 * np.pi * (85 * p * t + 2.2 * (1 - np.exp(-t * 28)))) * np.exp(-t * 11)
    slap = noise(rng, len(t), rate, lambda f: np.exp(-f / 500) * (f > 60), top=6_000) * np.exp(-t * 60)
    return [(skin + 0.35 * slap).astype(np.float32) * _edges(t, 0.001, 0.05)]


def _bird(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.38, rate)
    u = (t / np.float32(0.127)) % 1  # three chirps in a call
    hertz = (p * (5200 - 2200 * u)).astype(np.float32)
    call = (
        np.sin(np.float32(2 * np.pi) * _cycles(hertz, rate))
        * np.clip(np.sin(np.pi * np.minimum(u * 1.2, 1)), 0, 1) ** 0.5
    )
    return [call.astype(np.float32) * _edges(t, 0.002, 0.02)]


def _siren(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.8, rate)
    hertz = (p * (560 + 560 * np.sin(np.pi * t / 0.8))).astype(np.float32)
    tone = _voiced(_cycles(hertz, rate), 1200 * p, rate, [1, 0.35, 0.2, 0.08])
    return [tone * _edges(t, 0.004, 0.06)]


def _horn(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.5, rate)
    rich = [1, 0.9, 0.8, 0.7, 0.55, 0.4, 0.3, 0.2, 0.15, 0.1]
    tone = sum(_voiced((t * np.float32(f * p)).astype(np.float32), f * p, rate, rich) for f in (330.0, 415.0))
    return [np.asarray(tone, np.float32) * _edges(t, 0.004, 0.04)]


def _tick(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.07, rate)
    out: list[Sound] = []
    for f in (2900.0, 2100.0):  # tick, tock
        click = noise(rng, len(t), rate, lambda x: (x > 1500).astype(np.float32)) * np.exp(-t * 260)
        ring = _tones(t, rate, [(f * p, 1, 90), (f * 1.9 * p, 0.6, 130)])
        out.append((0.45 * click + ring).astype(np.float32) * _edges(t, 0.0005, 0.02))
    return out


def _guitar(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(1.1, rate)
    out: list[Sound] = []
    for f in (196.0, 246.9, 293.7, 246.9):  # an arpeggio in G
        rows = [(f * p * k, np.sin(np.pi * k * 0.18) / k, 2.2 + 0.9 * k) for k in range(1, 13)]
        out.append(_tones(t, rate, rows) * _edges(t, 0.002, 0.1))
    return out


def _whistle(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.65, rate)
    trill = np.sin(2 * np.pi * 27 * t)  # the pea
    tone = np.sin(np.float32(2 * np.pi) * _cycles((p * (2350 + 90 * trill)).astype(np.float32), rate))
    breath = noise(rng, len(t), rate, lambda f: np.exp(-(((f - 2500) / 500) ** 2)), top=7_000)
    return [((0.7 + 0.3 * trill) * tone + 0.08 * breath).astype(np.float32) * _edges(t, 0.004, 0.05)]


def _frog(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.4, rate)
    hertz = np.where(t < 0.18, 34, 52).astype(np.float32)  # rib-bit
    u = _cycles(hertz, rate) % 1
    ring = np.exp(-u * 6) * (np.sin(2 * np.pi * u * 14 * p) + 0.7 * np.sin(2 * np.pi * u * 27 * p))
    gap = 1 - np.exp(-(((t - 0.18) / 0.012) ** 2))
    return [(ring * gap).astype(np.float32) * _edges(t, 0.001, 0.04)]


def _phone(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.6, rate)
    high = (t * 18) % 1 < 0.5  # the warble of an electronic ringer
    hertz = np.where(high, 1480 * p, 1180 * p).astype(np.float32)
    tone = _voiced(_cycles(hertz, rate), 1480 * p, rate, [1, 0, 0.5, 0, 0.3])
    gate = np.clip(np.abs(t - 0.3) / 0.004 - 8, 0, 1)  # ring-ring
    return [(tone * gate).astype(np.float32) * _edges(t, 0.003, 0.02)]


def _hammer(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.45, rate)
    rows = [(245, 0.9, 30), (1530, 0.7, 11), (3320, 1.0, 9), (4670, 0.7, 14), (6230, 0.4, 25)]
    clank = _tones(t, rate, [(f * p, w, d) for f, w, d in rows])
    crack = noise(rng, len(t), rate, lambda f: 1 / (1 + f / 3000)) * np.exp(-t * 55)
    return [(clank + 0.9 * crack).astype(np.float32) * _edges(t, 0.0005, 0.05)]


def _bee(p: float, rng: np.random.Generator, rate: int) -> list[Sound]:
    t = _clock(0.7, rate)
    hertz = (p * (185 + 14 * np.sin(2 * np.pi * 2.1 * t) + 6 * np.sin(2 * np.pi * 9 * t))).astype(np.float32)
    weights = [0.7, 1, 0.8, 0.6, 0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.12]
    buzz = _voiced(_cycles(hertz, rate), 210 * p, rate, weights)
    flutter = 0.72 + 0.28 * np.sin(2 * np.pi * 31 * t + 1)
    return [(buzz * flutter).astype(np.float32) * _edges(t, 0.006, 0.1)]


VOICES: dict[str, Callable[[float, np.random.Generator, int], list[Sound]]] = {
    "bell": _bell, "drum": _drum, "bird": _bird, "siren": _siren, "horn": _horn, "clock": _tick,
    "guitar": _guitar, "whistle": _whistle, "frog": _frog, "phone": _phone, "hammer": _hammer, "bee": _bee,
}  # fmt: skip
