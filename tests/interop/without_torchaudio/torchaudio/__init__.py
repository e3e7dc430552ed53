"""On the path of a tool that runs beside a CPU build of torch, in place of torchaudio, whose wheel wants CUDA.

Only what LLaMA-Factory 0.9.5 calls: ``load``, and ``functional.resample``.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import soundfile
import torch
from scipy.signal import resample_poly


def load(path: str) -> tuple[Any, int]:
    """The file's sound [channels, samples] and its rate."""
    wave, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return torch.from_numpy(wave.T.copy()), int(rate)


def resample(wave: Any, rate: int, wanted: int) -> Any:
    """The sound at another rate."""
    return torch.from_numpy(resample_poly(wave.numpy(), wanted, rate, axis=-1).astype("float32"))


functional = SimpleNamespace(resample=resample)
