"""YAMNet: which of AudioSet's sounds are in a wave? A small network with published weights, run in plain torch.

Google's YAMNet (tensorflow/models, research/audioset/yamnet; Apache-2.0) is MobileNet v1 on log-mel patches of
0.96 s, trained on AudioSet: 521 classes, each with a probability of its own (several sounds may be there at once).
3.7 million parameters, so a CPU hears a 10 s clip in a quarter of a second. Its weights come with
:mod:`earwitness.curate.checks.witnesses_fetch`.

Functions: ``patches`` (wave -> log-mel patches), ``convert`` (checkpoint folder -> safetensors), ``load`` (that
file -> a function from waves to probabilities and the labels).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from earwitness.curate.checks.yamnet_bundle import read_bundle
from earwitness.records import Wave

# params.py of the source. Hz, seconds.
RATE = 16_000
WINDOW, HOP, POINTS = 400, 160, 512  # samples of a spectrum (25 ms), between two (10 ms), and of its FFT
BANDS, LOWEST, HIGHEST = 64, 125.0, 7500.0
FLOOR = 0.001  # added before the logarithm
PATCH, STEP = 96, 48  # spectra in a patch (0.96 s), and between two (0.48 s)
SHORTEST = PATCH * HOP + WINDOW - HOP  # samples of one patch: 15,600, 0.975 s
STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)  # of the first convolution and the 13 separable ones
EPSILON = 1e-4  # of batch normalisation; it has no scale (gamma)

Scores = NDArray[np.float32]


@cache
def mel_matrix() -> NDArray[np.float64]:
    """[257, 64]: triangles on HTK's mel scale, m = 1127 ln(1 + f / 700), as TensorFlow has them.

    The bin of 0 Hz has no weight.
    """
    mel = 1127.0 * np.log1p(np.arange(POINTS // 2 + 1) * RATE / POINTS / 700.0)
    low, high = 1127.0 * np.log1p(np.array([LOWEST, HIGHEST]) / 700.0)
    edges = np.linspace(low, high, BANDS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (mel[:, None] - left) / (centre - left)
    falling = (right - mel[:, None]) / (right - centre)
    weights: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


def patches(mono: NDArray[np.floating]) -> NDArray[np.float32]:
    """A wave [samples] at 16 kHz -> log-mel patches [patches, 96, 64], half overlapping.

    features.py of the source: magnitudes of Hann-windowed spectra, mel bands, log(x + 0.001); zeros behind the
    wave fill the last patch.
    """
    behind = max(0, SHORTEST - len(mono)) if len(mono) <= SHORTEST else -(len(mono) - SHORTEST) % (STEP * HOP)
    padded = np.pad(np.asarray(mono, np.float64), (0, behind))
    spans = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    hann = np.hanning(WINDOW + 1)[:-1]  # periodic, as TensorFlow's
    bands = np.log(np.abs(np.fft.rfft(spans * hann, POINTS)) @ mel_matrix() + FLOOR)
    cut = np.lib.stride_tricks.sliding_window_view(bands, PATCH, axis=0)[::STEP]
    return np.ascontiguousarray(cut.transpose(0, 2, 1), np.float32)


def mono_at(wave: Wave, rate: int, wanted: int) -> NDArray[np.float32]:
    """The channels' mean [samples] at another rate. Raises ValueError for what is no wave."""
    if wave.ndim != 2 or not wave.shape[1]:
        raise ValueError(f"a wave is [channels, samples] with samples, got {list(wave.shape)}")
    mono = wave.mean(axis=0, dtype=np.float32)
    if rate != wanted:
        mono = soxr.resample(mono, rate, wanted, quality="HQ").astype(np.float32, copy=False)
    out: NDArray[np.float32] = mono
    return out


def convert(folder: Path, out: Path, **origin: str) -> None:
    """A SavedModel folder of YAMNet (``variables/``, ``assets/yamnet_class_map.csv``) -> one safetensors file.

    Kernels are laid out as torch wants them, [out, in, height, width]; nothing else is changed. The labels and
    ``origin`` go into the file's metadata. Raises ValueError where the folder holds another network.
    """
    from safetensors.numpy import save_file

    found: dict[int, dict[str, NDArray[np.float32]]] = {}
    for name, tensor in read_bundle(folder / "variables" / "variables").items():
        if place := re.search(r"layer_with_weights-(\d+)/(\w+)/\.ATTRIBUTES/VARIABLE_VALUE$", name):
            found.setdefault(int(place[1]), {})[place[2]] = tensor
    with (folder / "assets" / "yamnet_class_map.csv").open(encoding="utf-8") as file:
        labels = [(row["mid"], row["display_name"]) for row in csv.DictReader(file)]
    last = 4 * (len(STRIDES) - 1) + 2
    if sorted(found) != list(range(last + 1)) or found[last]["kernel"].shape != (1024, len(labels)):
        raise ValueError(f"{folder}: its layers are not YAMNet's (a fine-tuned or newer model?)")
    tensors: dict[str, NDArray[np.float32]] = {}
    for index in range(0, last, 2):
        layer, norm = found[index], found[index + 1]
        if "depthwise_kernel" in layer:
            kernel = layer["depthwise_kernel"].transpose(2, 3, 0, 1)
        else:
            kernel = layer["kernel"].transpose(3, 2, 0, 1)
        tensors[f"{index // 2}.kernel"] = np.ascontiguousarray(kernel)
        for part, name in (("moving_mean", "mean"), ("moving_variance", "variance"), ("beta", "beta")):
            tensors[f"{index // 2}.{name}"] = norm[part]
    tensors["head.kernel"] = np.ascontiguousarray(found[last]["kernel"].T)
    tensors["head.bias"] = found[last]["bias"]
    part_file = out.with_name(f"{out.name}.tmp")
    save_file(tensors, part_file, metadata={"labels": json.dumps(labels), **origin})
    part_file.replace(out)


def load(file: Path, device: str = "cpu") -> tuple[Callable[[Wave, int], Scores], tuple[tuple[str, str], ...]]:
    """The network in a converted file: waves [channels, samples] at a rate -> probabilities [patches, 521].

    Also the labels, (AudioSet id, name) each. Needs torch. Raises ValueError where the file is not such a file.
    """
    import torch
    from safetensors import SafetensorError, safe_open
    from torch.nn import functional as F

    try:
        with safe_open(file, "pt", device=device) as held:
            labels = tuple((mid, name) for mid, name in json.loads((held.metadata() or {})["labels"]))
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118 - no mapping
        layers = []
        for index in range(2 * len(STRIDES) - 1):
            # Batch normalisation is linear: folded into the kernel, it costs nothing.
            scale = torch.rsqrt(tensors[f"{index}.variance"] + EPSILON)
            kernel = tensors[f"{index}.kernel"] * scale[:, None, None, None]
            layers.append((kernel, tensors[f"{index}.beta"] - tensors[f"{index}.mean"] * scale))
        head = tensors["head.kernel"], tensors["head.bias"]
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: is no YAMNet as this program converts it ({error}); fetch it again") from error

    def same(x: torch.Tensor, stride: int) -> torch.Tensor:
        """TensorFlow's SAME padding for a 3 x 3 kernel: what is odd goes behind."""
        rows, columns = ((-(-side // stride) - 1) * stride + 3 - side for side in x.shape[-2:])
        return F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))

    @torch.inference_mode()
    def hear(wave: Wave, rate: int) -> Scores:
        x = torch.from_numpy(patches(mono_at(wave, rate, RATE)))[:, None].to(device)
        kernel, bias = layers[0]
        x = F.relu(F.conv2d(same(x, STRIDES[0]), kernel, bias, STRIDES[0]))
        for number, stride in enumerate(STRIDES[1:]):
            kernel, bias = layers[1 + 2 * number]
            x = F.relu(F.conv2d(same(x, stride), kernel, bias, stride, groups=len(kernel)))
            kernel, bias = layers[2 + 2 * number]
            x = F.relu(F.conv2d(x, kernel, bias))
        scores: Scores = torch.sigmoid(F.linear(x.mean((2, 3)), *head)).cpu().numpy()
        return scores

    return hear, labels
