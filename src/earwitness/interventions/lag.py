"""Where did the sound go? The lag of a written sound, by correlation or, for tonal sounds, by what is left over.

A bell or a beep correlates with itself one period later almost as well as with itself, so correlation alone
cannot place it to a millisecond. But a copy is a copy: moved to the right place, the two cancel to the rounding,
and one period off they do not. A steady tone cancels at every period; that stays "indeterminate".
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from earwitness.media.signal import find_lag
from earwitness.records import Wave

_COPY = 1e-4  # share of energy that may be left over for two waves to be one sound
_NEAR = 0.001  # s; lags nearer than this are the same lag
_KEPT = 0.1  # share of both sounds' energies that must lie under the overlap for a lag to mean anything


def measured_lag(reference: Wave, wave: Wave, rate: int) -> tuple[float | None, float]:
    """Seconds by which ``wave`` comes later than ``reference``, None where no one can tell; and how alike they are.

    First ``media.signal.find_lag`` (correlation, plain and phase-only). Where that is ambiguous, the lag l with
    the least residual

        r(l) = min_g sum_t (wave[t + l] - g reference[t])^2 / sum_t wave[t + l]^2 = 1 - c(l)^2,   g > 0,

    c the correlation normalised over the overlap, accepted if r(l) <= 1e-4 (it is a copy, at any level) and every
    lag more than 1 ms away leaves at least four times as much. The second value is c at the lag.
    """
    found = find_lag(reference, wave, rate)
    if found.verdict == "found":
        return found.seconds, found.peak
    first, second = (w.mean(axis=0, dtype=np.float64) for w in (reference, wave))
    n, m = len(first), len(second)
    if not first.any() or not second.any():
        return None, 0.0
    lags = np.arange(-(n - 1), m)
    length = fft.next_fast_len(n + m - 1, real=True)
    cross = fft.irfft(np.conj(fft.rfft(first, length)) * fft.rfft(second, length), length)[lags]  # wraps below 0
    sums = [np.concatenate([[0.0], np.cumsum(x * x)]) for x in (first, second)]
    begin, stop = np.maximum(0, -lags), np.minimum(n, m - lags)
    kept_first = sums[0][stop] - sums[0][begin]
    kept_second = sums[1][stop + lags] - sums[1][begin + lags]
    usable = (kept_first >= _KEPT * sums[0][-1]) & (kept_second >= _KEPT * sums[1][-1])
    if not usable.any():
        return None, found.peak
    energy = np.where(usable, kept_first * kept_second, 1.0)
    alike = np.clip(np.where(usable, cross / np.sqrt(energy), 0.0), 0.0, 1.0)
    left = 1 - alike**2
    best = int(np.argmin(left))
    away = left[np.abs(lags - lags[best]) > _NEAR * rate]
    runner_up = float(away.min()) if len(away) else np.inf
    if left[best] > _COPY or runner_up < 4 * left[best] + 1e-9:
        return None, found.peak
    return float(lags[best] / rate), float(alike[best])
