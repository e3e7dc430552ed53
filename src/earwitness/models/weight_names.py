"""What is one weight of a thinker called? In four places by four names.

==========================  ========================================================  =========================
where                       of a text layer                                           of the head
==========================  ========================================================  =========================
a thinker's checkpoint      ``model.layers.0.self_attn.q_proj.weight``                ``lm_head.weight``
a full Omni checkpoint      ``thinker.model.layers.0.self_attn.q_proj.weight``        ``thinker.lm_head.weight``
transformers 5, in memory   ``model.language_model.layers.0.self_attn.q_proj.weight`` ``lm_head.weight``
vLLM, in memory             ``language_model.model.layers.0...`` (projections fused)  ``language_model.lm_head``
==========================  ========================================================  =========================

The towers stand as ``visual.`` and ``audio_tower.`` in a thinker's checkpoint, under ``thinker.`` in a full one and
under ``model.`` in memory. PEFT names an adapter's weights after the modules in memory, behind
``base_model.model.``; so an adapter's names say which trainer, and which transformers, wrote it. A thinker's
checkpoint is the form that all others are brought to here.

Functions: ``bare``, ``in_memory``, ``in_full``; ``is_text`` tells the text model's weights from the towers'.
"""

from __future__ import annotations

PEFT = "base_model.model."
TOWERS = ("visual.", "audio_tower.")


def bare(name: str) -> str:
    """A weight's or module's name as in a thinker's own checkpoint, from any of the others."""
    name = name.removeprefix(PEFT).removeprefix("thinker.")
    if name.startswith("language_model."):  # vLLM, and transformers below 5 in some of its classes
        return name.removeprefix("language_model.")
    for tower in TOWERS:
        if name.startswith("model." + tower):
            return name.removeprefix("model.")
    if name.startswith("model.language_model."):
        return "model." + name.removeprefix("model.language_model.")
    return name


def in_memory(name: str) -> str:
    """The name in transformers 5's thinker class, from a thinker's checkpoint's."""
    if name.startswith(TOWERS):
        return "model." + name
    return "model.language_model." + name.removeprefix("model.") if name.startswith("model.") else name


def in_full(name: str) -> str:
    """The name in a full Omni checkpoint, from a thinker's checkpoint's."""
    return "thinker." + name


def is_text(name: str) -> bool:
    """Whether that is a weight or module of the text model or its head, by its name in a thinker's checkpoint."""
    return name.startswith(("model.", "lm_head"))
