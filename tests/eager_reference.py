"""What the white box is held to: eager attention, which tells all its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from earwitness.whitebox.attention import text_decoder
from earwitness.whitebox.moments import GROUPS

# How near to it, by family: a mixture of experts enlarges what two ways of computing differ by.
NEAR = {"qwen2.5-omni": 1e-5, "qwen3-omni": 1e-4}


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """The text layers with plain attention, which tells its weights."""
    config = text_decoder(model).config
    before = config._attn_implementation
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = before


def by_group(weights: Any, groups: Any, power: int = 1) -> Any:
    """Sums of attention weights [B, H, R, K] by group."""
    hot = torch.stack([groups == n for n in range(len(GROUPS))], -1).float()
    return (weights.float() ** power) @ hot[:, None, -weights.shape[-1] :]
