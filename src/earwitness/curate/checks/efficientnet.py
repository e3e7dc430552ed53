"""EfficientNet-lite0: which of ImageNet's thousand things is in a picture? Published weights, run in plain torch.

EfficientNet (Tan and Le, ICML 2019, arXiv 1905.11946) in its "lite" form (tensorflow/tpu,
models/official/efficientnet/lite; Apache-2.0): no squeeze-and-excitation, ReLU6 for swish, stem and head unscaled.
4.7 million parameters, 75 % top-1 on ImageNet. Its weights come with
:mod:`earwitness.curate.checks.witnesses_fetch`.

Functions: ``prepared`` (frames -> the network's input), ``convert`` (checkpoint -> safetensors), ``load`` (that
file -> a function from frames to probabilities).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from earwitness.records import Frames

if TYPE_CHECKING:
    import torch

SIDE = 224  # pixels
CROP = 0.875  # of the shorter side: 224 of 256, as in the source's evaluation
# The port that carries these weights was made for torchvision's normalisation (its README), of [0, 1] RGB.
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPSILON = 1e-3  # of batch normalisation
# Repeats, kernel, first stride, expansion, channels out (efficientnet_lite_builder.py).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
WIDTH, THINGS = 1280, 1000  # channels of the head, classes

Scores = NDArray[np.float32]


def prepared(frames: Frames) -> torch.Tensor:
    """Frames uint8 [time, height, width, 3] -> float32 [time, 3, 224, 224]: the middle square, resized, normalised.

    Raises ValueError for what is no stack of frames.
    """
    import torch
    from torch.nn import functional as F

    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be uint8 [time, height, width, 3], got {frames.dtype} {list(frames.shape)}")
    height, width = frames.shape[1:3]
    side = max(1, round(CROP * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    square = np.ascontiguousarray(frames[:, top : top + side, left : left + side].transpose(0, 3, 1, 2))
    x = torch.from_numpy(square).to(torch.float32) / 255
    if side != SIDE:
        x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    mean, spread = (torch.tensor(v)[:, None, None] for v in (MEAN, SPREAD))
    return (x - mean) / spread


def _blocks() -> Iterator[tuple[int, int, int, int, int]]:
    """Kernel, stride, expansion, channels in and out of each of the 16 blocks."""
    before = 32
    for repeats, kernel, stride, expansion, channels in STAGES:
        for number in range(repeats):
            yield kernel, stride if number == 0 else 1, expansion, before, channels
            before = channels


def _names() -> Iterator[tuple[str, str]]:
    """Each convolution with the batch normalisation behind it, in order, by the names of the port."""
    yield "_conv_stem", "_bn0"
    for index, (_, _, expansion, _, _) in enumerate(_blocks()):
        if expansion != 1:
            yield f"_blocks.{index}._expand_conv", f"_blocks.{index}._bn0"
        yield f"_blocks.{index}._depthwise_conv", f"_blocks.{index}._bn1"
        yield f"_blocks.{index}._project_conv", f"_blocks.{index}._bn2"
    yield "_conv_head", "_bn1"


def convert(checkpoint: Path, out: Path, **origin: str) -> None:
    """The port's checkpoint (a pickled state dict, read as tensors only) -> one safetensors file.

    ``origin`` goes into the file's metadata. Raises ValueError where it is another network.
    """
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(f"{checkpoint}: is no checkpoint of tensors ({error})") from error
    wanted = ["_fc.weight", "_fc.bias"]
    for convolution, norm in _names():
        wanted += [f"{convolution}.weight"]
        wanted += [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
    if lacking := [name for name in wanted if name not in state]:
        raise ValueError(f"{checkpoint}: lacks {lacking[0]}: no EfficientNet-lite0 (another size of it?)")
    part_file = out.with_name(f"{out.name}.tmp")
    tensors = {name: state[name].to(torch.float32).contiguous() for name in wanted}
    save_file(tensors, part_file, metadata=dict(origin))
    part_file.replace(out)


def load(file: Path, device: str = "cpu") -> Callable[[Frames], Scores]:
    """The network in a converted file: frames uint8 [time, height, width, 3] -> probabilities [time, 1000].

    Needs torch. Raises ValueError where the file is not such a file.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torch.nn import functional as F

    try:
        held = load_file(file, device=device)
        layers = []
        for convolution, norm in _names():
            scale = held[f"{norm}.weight"] * torch.rsqrt(held[f"{norm}.running_var"] + EPSILON)
            bias = held[f"{norm}.bias"] - held[f"{norm}.running_mean"] * scale
            layers.append((held[f"{convolution}.weight"] * scale[:, None, None, None], bias))
        head = held["_fc.weight"], held["_fc.bias"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(
            f"{file}: is no EfficientNet-lite0 as this program converts it ({error}); fetch it again"
        ) from error

    def convolved(x: torch.Tensor, number: int, stride: int = 1, groups: int = 1) -> torch.Tensor:
        """A convolution with TensorFlow's SAME padding: what is odd goes behind."""
        kernel, bias = layers[number]
        size = kernel.shape[-1]
        if size > 1:
            rows, columns = (max(0, (-(-side // stride) - 1) * stride + size - side) for side in x.shape[-2:])
            x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return F.conv2d(x, kernel, bias, stride, groups=groups)

    @torch.inference_mode()
    def see(frames: Frames) -> Scores:
        x = F.relu6(convolved(prepared(frames).to(device), 0, 2))
        number = 1
        for _, stride, expansion, before, channels in _blocks():
            y = x
            if expansion != 1:
                y = F.relu6(convolved(y, number))
                number += 1
            y = F.relu6(convolved(y, number, stride, groups=y.shape[1]))
            y = convolved(y, number + 1)
            number += 2
            x = x + y if stride == 1 and before == channels else y
        x = F.relu6(convolved(x, number))
        scores: Scores = F.linear(x.mean((2, 3)), *head).softmax(-1).cpu().numpy()
        return scores

    return see
