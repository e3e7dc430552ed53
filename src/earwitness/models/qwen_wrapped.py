"""What lies around a thinker and between its parts: PEFT's wrapper, and the hooks of accelerate that place layers.

A thinker is called in parts here (embeddings, text layers, output matrix), and a part must be found and fed
wherever it is. With ``device_map="auto"`` the layers lie on several devices: accelerate's hooks move what a layer
is called with, and every layer keeps its keys and values beside it. Weights that are offloaded, to the machine's
memory or the disk, are "meta" until a hook fetches them: where a part computes is then told by its hook, not by
its weights.

An adapter of PEFT lies in the layers themselves, so the thinker without the wrapper computes with it, and inside
``disable_adapter()`` without it. What works otherwise (prompt and prefix tuning) would be lost, and is refused.

Functions: ``unwrapped``, ``check_wrapper``, ``tuning`` (adapters); ``check_filled``, ``runs_on``, ``beside``,
``homes``, ``spread``, ``told``, ``drop`` (devices).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

TOWERS = ("visual", "audio_tower")


# --- adapters ----------------------------------------------------------------------------------------------------


def unwrapped(model: Any) -> Any:
    """The thinker inside a wrapper (PEFT's ``get_base_model``) or a full Omni model; LoRA layers stay in place."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return getattr(base, "thinker", base)


def check_wrapper(model: Any) -> None:
    """Refuse an adapter that does not lie in the layers.

    Raises
    ------
    ValueError
        For prompt learning: its prompt is put before the embeddings by the wrapper's own ``forward``, which
        answering in parts does not go through.
    """
    for name, config in (getattr(model, "peft_config", None) or {}).items():
        if getattr(config, "is_prompt_learning", False):
            kind = getattr(config.peft_type, "value", config.peft_type)
            raise ValueError(
                f"the adapter {name!r} is {kind}, which lies before the layers and not in them: it would be left "
                f"out without a word. What can be asked are adapters in the layers: LoRA and its kin"
            )


def tuning(model: Any) -> tuple[object, ...]:
    """Which adapters in the towers are on now: what their features depend on besides the weights.

    Empty where there are none, which is how adapters are trained here.
    """
    towers = (getattr(unwrapped(model).model, name, None) for name in TOWERS)
    return tuple(
        (module.disable_adapters, *module.active_adapters)
        for tower in towers
        if tower is not None
        for module in tower.modules()
        if isinstance(getattr(module, "disable_adapters", None), bool)  # transformers has a method of that name
    )


# --- devices -----------------------------------------------------------------------------------------------------


def check_filled(model: Any) -> None:
    """Refuse a model of which a part has no weights: on "meta" it computes without an error, and answers anything.

    Raises
    ------
    ValueError
        Where weights are on "meta" and no hook would fetch them.
    """
    todo: list[tuple[str, Any, bool]] = [("", model, False)]
    while todo:
        name, module, below = todo.pop()
        offloads = [hook for hook in _hooks(module) if getattr(hook, "offload", False)]
        if not (below or offloads) and any(p.device.type == "meta" for p in module.parameters(recurse=False)):
            raise ValueError(
                f"the model's {name or type(module).__name__} has no weights in memory and no hook that would fetch"
                " them, so nothing can be computed there (was it unloaded, or made on 'meta' and never filled? What"
                " is offloaded needs the hooks of accelerate's dispatch_model, put on after an adapter)"
            )
        below = below or any(hook.place_submodules for hook in offloads)
        todo += [(f"{name}.{part}".lstrip("."), child, below) for part, child in module.named_children()]


def runs_on(module: Any) -> torch.device:
    """Where a module computes: where its hook of accelerate says, else where its weights are."""
    device = _found(module)
    assert device is not None, f"a {type(module).__name__} without weights"
    return device


def _found(module: Any) -> torch.device | None:
    for part in module.modules():
        for hook in _hooks(part):
            if getattr(hook, "execution_device", None) is not None:
                return torch.device(hook.execution_device)
    return next((w.device for w in chain(module.parameters(), module.buffers())), None)


def _hooks(module: Any) -> Sequence[Any]:
    hook: Any = getattr(module, "_hf_hook", None)
    return () if hook is None else getattr(hook, "hooks", (hook,))  # several are held by one


def beside(values: torch.Tensor, module: Any) -> torch.Tensor:
    """Values on the device where that module computes: the layer they come from may be elsewhere."""
    device = _found(module)
    return values if device is None or device.type == "meta" else values.to(device)


def homes(model: Any) -> list[torch.device]:
    """Where each text layer of a thinker computes."""
    return [runs_on(layer) for layer in unwrapped(model).model.language_model.layers]


def spread(model: Any) -> int:
    """Over how many devices a model computes: 1 unless it was loaded with ``device="auto"`` and needed more."""
    parts = (module for module in model.modules() if any(True for _ in module.parameters(recurse=False)))
    return len({_found(part) for part in parts})


def told(model: Any, device: torch.device) -> str:
    """Where a model computes and where its weights wait, in words; ``device``: that of its embeddings."""
    count = spread(model)
    away = any(p.device.type == "meta" for p in model.parameters())
    return (str(device) if count == 1 else f"{count} devices") + (" (weights offloaded)" if away else "")


def drop(model: Any) -> None:
    """Give all weights' memory back, also what accelerate holds of offloaded ones. Nothing can be computed then."""
    for module in model.modules():
        module.__dict__.pop("_hf_hook", None)
    torch.nn.Module.to(model, "meta")  # not its own ``to``, which accelerate replaces by one that refuses
