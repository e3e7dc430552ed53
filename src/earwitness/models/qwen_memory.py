"""How much is asked at once? What fits is found by trying: begun from the free memory, halved where it runs out.

Two bounds make a batch: ``rows``, questions decoded together, and ``tokens``, prompt tokens whose keys and values
are held at once. On a GPU a batch that filled its bounds and went through doubles them, up to MOST and until the
memory has run out once. On a CPU nothing grows: there the system ends a process that takes too much, and no
error says so beforehand. A bound given by the user is where it begins and never grows.

How questions are put together changes no answer in float32. In bfloat16 a sum's last digit depends on the batch,
so a tie between two tokens can fall the other way: for runs that repeat to the letter, give ``batch``.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

BATCH = 32  # questions at first
MOST = 512  # questions at last: more gain nothing
TOKENS = 1 << 17  # tokens held at first where no GPU says what is free: 7.5 GB for Qwen2.5-Omni-7B in bfloat16
FEWEST = 1 << 10  # tokens below which a batch is not lowered: one item is asked whatever it takes
SHORT = (RuntimeError, MemoryError)  # what to catch and show to ``ran_out``


@dataclass
class Room:
    """The bounds of a batch now, whether they may still grow, and how often the memory ran out."""

    rows: int
    tokens: int
    grows: bool = False
    shortages: int = 0

    def lower(self) -> None:
        """Half of it: called where the memory ran out."""
        self.rows, self.tokens = max(1, self.rows // 2), max(FEWEST, self.tokens // 2)
        self.grows = False
        self.shortages += 1

    def raised(self, rows: int, tokens: int) -> None:
        """Twice as much, where a batch of this size has gone through and filled one of the bounds."""
        if self.grows and (2 * rows > self.rows or 2 * tokens > self.tokens):
            self.rows, self.tokens = min(MOST, 2 * self.rows), 2 * self.tokens
            self.grows = self.rows < MOST


def room_for(model: Any, homes: Sequence[torch.device], batch: int | None) -> Room:
    """Where to begin with a model: the user's ``batch``, or what the free memory suggests where its layers compute.

    A token costs its keys and values three times (the prefix, its copy for each question, and that copy once more
    while a token is added) and the widest layer's activations; half of what is free is given to them. Of several
    devices each holds the keys and values of its own layers, and the one with the least room for them decides.

    Parameters
    ----------
    homes : the device of each text layer (``qwen_wrapped.homes``).
    """
    tokens = TOKENS
    on_gpus = {device: layers for device, layers in Counter(homes).items() if device.type == "cuda"}
    if on_gpus:
        text, size = model.config.get_text_config(), model.dtype.itemsize
        head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        kept = 2 * text.num_key_value_heads * head * size  # by one layer
        experts = getattr(text, "num_experts_per_tok", 0) * getattr(text, "moe_intermediate_size", 0)
        wide = max(text.intermediate_size, experts, text.hidden_size) * size
        fit = [
            torch.cuda.mem_get_info(device)[0] // 2 // (3 * kept * layers + 4 * wide)
            for device, layers in on_gpus.items()
        ]
        tokens = max(FEWEST, min(fit))
    return Room(rows=batch or BATCH, tokens=tokens, grows=batch is None and bool(on_gpus))


def ran_out(error: BaseException) -> bool:
    """Whether an error means that the memory, the GPU's or the machine's, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    signs = ("out of memory", "DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def release(device: torch.device) -> None:
    """Give back what a failed batch left: what only a traceback held, and the GPU's cached blocks."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
