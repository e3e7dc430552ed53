"""A model's name on the command line -> the model.

============================  ===================================================================================
``hans``                      the small model that ships in the package
``fake:KIND``                 controls with a known grounding (``earwitness.models.fake``)
``qwen2.5-omni:PATH-OR-ID``   a thinker or full checkpoint: a folder or a hub id
``qwen3-omni:PATH-OR-ID``     the same of the next family
``package.module:factory``    any callable that returns an object with the Model protocol
============================  ===================================================================================

Nothing is registered anywhere: a third party's model is an importable name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from earwitness.models import Model
from earwitness.models.fake import control
from earwitness.records import View

HANS = Path(__file__).parent / "hans"
FAMILIES = ("qwen2.5-omni", "qwen3-omni")
KNOWN = "hans, fake:KIND, qwen2.5-omni:PATH-OR-HUB-ID, qwen3-omni:PATH-OR-HUB-ID, package.module:factory"
LOCAL = ("torch", "torchvision", "transformers", "safetensors", "tokenizers")
NEEDED = ("name", "revision", "view", "abilities", "answer")


def load_model(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    attn: str | None = None,
    fps: float | None = None,
    max_pixels: int | None = None,
    batch: int | None = None,
) -> Model:
    """The model of that name.

    Parameters
    ----------
    device, dtype, attn : where and how a local model computes ("cuda:1", "bfloat16", "eager").
    fps, max_pixels : how clips are sampled for it; default: what the model wants.
    batch : questions it answers together.
    Options left at None are not passed on; a ``package.module:factory`` is called with the others.

    Raises
    ------
    ValueError
        Where the name is unknown, the checkpoint cannot be loaded, an option does not fit, or the packages for
        local models are not installed.
    """
    options: dict[str, object] = {
        "device": device, "dtype": dtype, "attn": attn, "fps": fps, "max_pixels": max_pixels, "batch": batch,
    }  # fmt: skip
    given = {key: value for key, value in options.items() if value is not None}
    family, _, rest = name.strip().partition(":")
    if name == "hans":
        if not (HANS / "config.json").is_file():
            raise ValueError("this copy of earwitness came without Hans: its weights are not in the package")
        return _local("hans", str(HANS), None, given)
    if family == "fake":
        return _fake(rest, given)
    if family in FAMILIES:
        if not rest:
            raise ValueError(f"{name!r} names no checkpoint: say {family}:PATH-OR-HUB-ID")
        return _local(f"{family}:{rest}", rest, family, given)
    if rest and "." in family and "/" not in family:
        return _third_party(name, family, rest, given)
    raise ValueError(f"unknown model {name!r}; known: {KNOWN}")


def _fake(kind: str, given: Mapping[str, object]) -> Model:
    odd = set(given) - {"fps", "max_pixels", "batch", "device", "dtype"}
    if odd:
        raise ValueError(f"fake:{kind} takes no {', '.join(sorted(odd))}")
    fps = given.get("fps")
    return control(kind, view=View(size=(112, 112), fps=float(str(fps))) if fps is not None else None)


def _local(name: str, path: str, family: str | None, given: Mapping[str, object]) -> Model:
    try:
        from earwitness.models.qwen_omni import QwenOmni
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in LOCAL:
            raise
        raise ValueError(
            f"{name} runs on this machine and needs {error.name}: pip install 'earwitness[local]'"
        ) from error
    return QwenOmni(path, name=name, family=family, **given)  # type: ignore[arg-type]


def _third_party(name: str, module: str, factory: str, given: Mapping[str, object]) -> Model:
    try:
        made = getattr(importlib.import_module(module), factory)(**given)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise
        raise ValueError(f"{name}: there is no module {error.name}; known models: {KNOWN}") from error
    except AttributeError as error:
        if hasattr(importlib.import_module(module), factory):
            raise
        raise ValueError(f"{name}: module {module} has no {factory}") from error
    lacking = [what for what in NEEDED if not hasattr(made, what)]
    if lacking:
        raise ValueError(
            f"{name} made a {type(made).__name__} without {', '.join(lacking)}: a model has {', '.join(NEEDED)} "
            f"(see earwitness.models.Model)"
        )
    model: Model = made
    return model
