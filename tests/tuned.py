"""A thinker in PEFT's wrapper, its text layers (and its towers) tuned by random numbers."""

from __future__ import annotations

from typing import Any

import torch

from earwitness.models.adapters import text_linear_names


def adapted(model: Any, seed: int = 0, *, towers: bool = False) -> Any:
    """A PEFT model around it: every linear layer of the text model tuned, and not by nothing."""
    import peft

    targets = text_linear_names(model, "all")
    if towers:
        inside = ("model.visual.", "model.audio_tower.")
        linear = (name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear))
        targets += [name for name in linear if name.startswith(inside)]
    made = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=targets, lora_dropout=0.1))
    torch.manual_seed(seed)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return made.eval()
