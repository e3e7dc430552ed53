"""Tiny thinkers with parts on several devices (faked, see ``placed``) or on the disk (accelerate's offload).

They compute what the same thinker on one device does (``whole``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import tiny_thinkers as tiny
from earwitness.models.qwen_omni import QwenOmni, wrap
from earwitness.models.qwen_wrapped import unwrapped
from earwitness.records import View
from placed import place, several

VIEW = View(fps=2.0, size=(112, 112))
STACK = "model.language_model"
# The towers here, embeddings and first layer on one device, the next layer and the last norm on another, ...
WHERE = {
    "model.visual": "cpu",
    "model.audio_tower": "cpu",
    f"{STACK}.embed_tokens": "xla:1",
    f"{STACK}.rotary_emb": "xla:1",
    f"{STACK}.layers.0": "xla:1",
    f"{STACK}.layers.1": "xla:2",
    f"{STACK}.norm": "xla:2",
    "lm_head": "xla:3",
}


def random_thinker(family: str) -> tuple[Any, Any]:
    """A random model and its processor; experts computed one by one, which kernels for CPU integers need."""
    model, processor = tiny.build(family)  # type: ignore[arg-type]
    if family == "qwen3-omni":
        model.set_experts_implementation("eager")
    return model, processor


def whole(family: str) -> QwenOmni:
    """It on one device."""
    model, processor = random_thinker(family)
    return QwenOmni(wrap(model, processor, VIEW))


@contextmanager
def spread_out(
    family: str, hooks: Literal["ours", "accelerate"] = "ours", changed: Callable[[Any], Any] = lambda model: model
) -> Iterator[QwenOmni]:
    """The same over four devices, its parts followed by hooks of ours or by accelerate's own.

    ``changed`` is done to the model before (an adapter put on it).
    """
    model, processor = random_thinker(family)
    made = changed(model)
    with several():
        if hooks == "accelerate":
            from accelerate.hooks import attach_align_device_hook_on_blocks

            attach_align_device_hook_on_blocks(
                model,
                {**WHERE, "": "xla:1"},
                dict.fromkeys(WHERE, False),
                skip_keys=model._skip_keys_device_placement,
            )
        else:
            for name, device in WHERE.items():
                place(unwrapped(model).get_submodule(name), device)
        yield QwenOmni(wrap(made, processor, VIEW))


def on_disk(model: Any, names: Sequence[str], folder: Path) -> Any:
    """A model with these of its parts (under ``STACK``, or by their full name) on the disk."""
    import accelerate

    leaves = [name for name, m in model.named_modules() if not list(m.children()) and list(m.parameters())]
    alone = [name for name, m in model.named_modules() if list(m.children()) and list(m.parameters(recurse=False))]
    known = dict(model.named_modules())
    away = [n if n in known else f"{STACK}.{n}" for n in names]
    where = {p: "disk" if any(p == n or p.startswith(f"{n}.") for n in away) else "cpu" for p in [*leaves, *alone]}
    return accelerate.dispatch_model(model, where, main_device="cpu", offload_dir=str(folder))
