"""What sounds measure: loudness, moments at which something starts, and the lag between two versions.

Waves are float32 [channels, samples]; all functions are pure. A positive lag means that the second wave is late.
scipy.signal takes most of a second to import (it brings scipy.stats), so it is imported where it is used.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from earwitness.records import Times, Wave

SURROUND = {5: (1.0, 1.0, 1.0, 1.41, 1.41), 6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)}  # BS.1770-4, table 3; no LFE


class Lag(msgspec.Struct, frozen=True):
    """``seconds`` by which the wave is later than the reference; ``peak``: their correlation there, in [-1, 1]."""

    seconds: float
    peak: float
    verdict: Literal["found", "indeterminate"]


def loudness_lufs(wave: Wave, rate: int) -> float:
    """Integrated loudness in LUFS; -inf for silence.

    ITU-R BS.1770-4: -0.691 + 10 log10(sum_c G_c z_c), z_c the mean square of the K-weighted channel c over the
    400 ms blocks (75 % overlap) above the gates (-70 LUFS, then 10 LU under the mean of what is left). Filter
    coefficients for any rate from their analogue prototypes, as in libebur128.
    Differs from the source: a wave shorter than one block counts as one block.
    """
    if rate < 4000:
        raise ValueError(f"loudness needs a rate of at least 4000 Hz, got {rate} (did you pass kHz?)")
    channels, count = wave.shape
    if not count or not wave.any():
        return -np.inf
    power = _k_weighted(wave.astype(np.float64), rate) ** 2
    weights = np.array(SURROUND.get(channels, (1.0,) * channels))
    size, hop = min(count, round(0.4 * rate)), max(1, round(0.1 * rate))
    sums = np.concatenate([[0.0], np.cumsum(weights @ power)])
    starts = np.arange(0, count - size + 1, hop)
    blocks = np.maximum((sums[starts + size] - sums[starts]) / size, 0.0)
    kept = blocks[blocks > 10 ** ((-70 + 0.691) / 10)]
    if len(kept):
        kept = kept[kept > kept.mean() / 10]
    return float(-0.691 + 10 * np.log10(kept.mean())) if len(kept) else -np.inf


def _k_weighted(wave: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """The two filters of BS.1770-4 (a shelf for the head, a high-pass) along the last axis."""
    from scipy.signal import lfilter

    k, q = np.tan(np.pi * 1681.974450955533 / rate), 0.7071752369554196
    high = 10 ** (3.999843853973347 / 20)
    band = high**0.4996667741545416
    norm = 1 + k / q + k * k
    shelf_b = np.array([high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k]) / norm
    shelf_a = np.array([1, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm])
    k, q = np.tan(np.pi * 38.13547087602444 / rate), 0.5003270373238773
    norm = 1 + k / q + k * k
    pass_a = np.array([1, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm])
    out: NDArray[np.float64] = lfilter([1.0, -2.0, 1.0], pass_a, lfilter(shelf_b, shelf_a, wave))
    return out


def onsets(wave: Wave, rate: int, *, sensitivity: float = 1.0) -> Times:
    """Seconds at which sounds start, ascending; empty for silence and for steady sound.

    Spectral flux (the mean rise of log-magnitude over 10 ms; Bello et al. 2005, section III) or a surge of power by
    9 dB, whichever stands out from its local median; each peak is then moved to the steepest rise of the 1 ms power
    envelope near it. ``sensitivity`` above 1 finds more.
    """
    from scipy.signal import find_peaks

    mono = wave.mean(axis=0, dtype=np.float64)
    hop, size = max(1, round(0.005 * rate)), 2 ** round(np.log2(0.02 * rate))
    if len(mono) < 2 * size or not mono.any():
        return np.empty(0)
    padded = np.pad(mono, (size, size), mode="reflect")  # so that a clip's edges are no events
    spans = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    level = np.abs(np.fft.rfft(spans, axis=1))
    power = np.square(level).sum(axis=1)
    power = np.log10(power + 1e-4 * np.quantile(power, 0.999))
    level = np.log1p(level * (300.0 / np.quantile(level, 0.999)))
    # Rises over two steps, not one: less noise. A howl rises in few bands, so its power must speak for it.
    flux = np.maximum(level[2:] - level[:-2], 0.0).mean(axis=1)
    surge = np.maximum(power[2:] - power[:-2], 0.0)
    evidence = np.maximum(_above_median(flux) / 0.3, _above_median(surge) / 0.9)
    peaks, _ = find_peaks(evidence, height=1 / sensitivity, distance=10)  # 50 ms apart
    # flux[i] compares spans i and i + 2: it peaks when the span between them has its centre at the onset.
    rough = (peaks + 1) * hop - size + size / 2
    rises = [_steepest(mono, rate, at) for at in rough if 0 <= at < len(mono)]
    return np.unique([at for at in rises if at is not None])


def _above_median(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """A curve less its median over the 0.6 s around."""
    from scipy.signal import medfilt

    if len(curve) <= 60:
        return curve - np.median(curve)
    around: NDArray[np.float64] = medfilt(np.pad(curve, 60, mode="reflect"), 121)[60:-60]
    return curve - around


def _steepest(mono: NDArray[np.float64], rate: int, at: float) -> float | None:
    """The moment of the steepest rise of power within 25 ms of sample ``at``, in seconds; None where none rises."""
    step, reach = max(1, round(0.001 * rate)), round(0.03 * rate)
    begin = max(0, int(at) - reach)
    part = mono[begin : int(at) + reach]
    count = len(part) // step
    if count < 12:
        return None
    power = (part[: count * step].reshape(count, step) ** 2).mean(axis=1)
    # Power of the 5 ms after against the 5 ms before each millisecond that has both.
    sums = np.concatenate([[0.0], np.cumsum(power)])
    ahead, behind = sums[10:] - sums[5:-5], sums[5:-5] - sums[:-10]
    best = int(np.argmax(ahead - behind))
    # A sound that stops splatters over the spectrum too, but its power falls.
    return None if ahead[best] < 1.5 * behind[best] else (begin + (best + 5) * step) / rate


def find_lag(reference: Wave, wave: Wave, rate: int) -> Lag:
    """By how many seconds ``wave`` comes later than ``reference``, to one sample; or that no one can tell.

    Argmax of the FFT cross-correlation of the mono mixes, accepted only if it is a match at all (normalised by the
    energies under the overlap: at least 0.3), stands out (1.3 times the next peak outside of its lobe; a tone has
    1.0), and the phase-only correlation (GCC-PHAT, Knapp & Carter 1976) agrees to 1 ms. Silence, steady tones and
    unrelated sounds are "indeterminate".
    """
    first, second = (w.mean(axis=0, dtype=np.float64) for w in (reference, wave))
    if not first.any() or not second.any():
        return Lag(0.0, 0.0, "indeterminate")
    count = len(first) + len(second) - 1
    length = fft.next_fast_len(count, real=True)
    cross = np.conj(fft.rfft(first, length)) * fft.rfft(second, length)
    size = np.abs(cross)
    # Bins 60 dB under the loudest hold rounding noise only; giving them full weight would drown a plain beep.
    phase = cross / np.maximum(size, 1e-6 * size.max())
    plain, phat = (_by_lag(fft.irfft(c, length), len(first), len(second)) for c in (cross, phase))
    best = int(np.argmax(plain))
    lag = best - (len(first) - 1)
    begin, stop = max(0, -lag), min(len(first), len(second) - lag)
    energy = np.sum(first[begin:stop] ** 2) * np.sum(second[begin + lag : stop + lag] ** 2)
    peak = float(plain[best] / np.sqrt(energy)) if energy > 0 else 0.0
    agrees = abs(int(np.argmax(phat)) - best) <= rate / 1000
    stands_out = plain[best] >= 1.3 * _second(plain, best, rate)
    found = peak >= 0.3 and agrees and stands_out
    return Lag(lag / rate, min(peak, 1.0), "found" if found else "indeterminate")


def _by_lag(circular: NDArray[np.float64], first: int, second: int) -> NDArray[np.float64]:
    """Circular correlation reordered so that index 0 is lag -(first - 1)."""
    return np.concatenate([circular[-(first - 1) :], circular[:second]]) if first > 1 else circular[:second]


def _second(plain: NDArray[np.float64], best: int, rate: int) -> float:
    """The highest correlation outside of the main lobe (to its zero crossings, at least 1 ms each way)."""
    least = max(1, rate // 1000)
    below = np.flatnonzero(plain[:best] <= 0)
    above = np.flatnonzero(plain[best:] <= 0)
    left = min(below[-1] if len(below) else 0, best - least)
    right = max(best + above[0] if len(above) else len(plain), best + least)
    rest = np.concatenate([plain[: max(left, 0)], plain[right:]])
    return float(rest.max()) if len(rest) else 0.0
