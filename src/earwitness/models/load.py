"""A model's name on the command line -> the model.

============================  ===================================================================================
``hans``                      the small model that ships in the package
``hans-cured``                the same after a repair (docs/repair.md)
``fake:KIND``                 controls with a known grounding (``earwitness.models.fake``)
``qwen2.5-omni:PATH-OR-ID``   a thinker or full checkpoint: a folder or a hub id
``qwen3-omni:PATH-OR-ID``     the same of the next family
``cascade:DIAL``              a sound tagger and a picture classifier, from 0 (listens) to 1 (infers the sound)
``vllm:PATH-OR-ID``           a full Qwen omni checkpoint, asked through vLLM on this machine
``openai:URL#MODEL``          a model behind a server that speaks OpenAI's protocol (vLLM, SGLang, hosted)
``gemini:MODEL``              a model of Google's Gemini API
``package.module:factory``    any callable that returns an object with the Model protocol; a module may lie in the
                              working folder
============================  ===================================================================================

Nothing is registered anywhere: a third party's model is an importable name. An option goes to the family that has
it (a keyword argument of its own), and to no other.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from earwitness.models import Model
from earwitness.models.fake import control
from earwitness.records import View

HANS = Path(__file__).parent / "hans"
SHIPPED = ("hans", "hans-cured")  # the second one's folder lies beside the first's
FAMILIES = ("qwen2.5-omni", "qwen3-omni")
KNOWN = (
    "hans, hans-cured, fake:KIND, cascade:DIAL, qwen2.5-omni:PATH-OR-HUB-ID, qwen3-omni:PATH-OR-HUB-ID, "
    "vllm:PATH-OR-HUB-ID, openai:URL#MODEL, gemini:MODEL, package.module:factory"
)
LOCAL = ("torch", "torchvision", "transformers", "safetensors", "tokenizers")
SERVED = {"openai": "openai", "gemini": "google"}  # family -> the package it talks through
LOCAL_OPTIONS = ("device", "dtype", "attn", "fps", "max_pixels", "batch", "adapter")
FAKE_OPTIONS = ("device", "dtype", "fps", "max_pixels", "batch")  # of which only fps means anything to them
NEEDED = ("name", "revision", "view", "abilities", "answer")


def load_model(name: str, **options: object) -> Model:
    """The model of that name.

    Parameters
    ----------
    options : what the family takes; those left at None are not passed on. Local models: device, dtype, attn, batch
        (see ``qwen_load.load_thinker``, ``qwen_omni.QwenOmni``) and adapter, the folder of a LoRA adapter, which
        the model is then also named after; served ones: see ``openai_api.OpenAIModel`` and
        ``gemini.GeminiModel``; all: fps and max_pixels, how clips are sampled. A ``package.module:factory`` is
        called with whatever was given.

    Raises
    ------
    ValueError
        Where the name is unknown, the model cannot be loaded or reached, an option is not one of the family's, or
        the packages it needs are not installed.
    """
    known(name, **options)
    given = {key: value for key, value in options.items() if value is not None}
    family, _, rest = name.strip().partition(":")
    if name in SHIPPED:
        return _local(name, str(_shipped(name)), None, given)
    if family == "fake":
        return _fake(rest, given)
    if family == "cascade":
        from earwitness.models import cascade

        return _made(name, cascade.make, rest, given)
    if family in (*FAMILIES, "vllm"):
        return _vllm(name, rest, given) if family == "vllm" else _local(f"{family}:{rest}", rest, family, given)
    if family in SERVED:
        return _served(name.strip(), family, rest, given)
    return _third_party(name, family, rest, given)


def known(name: str, **options: object) -> None:
    """Refuse what :func:`load_model` would refuse, as far as that can be told without a model's weights or server.

    For work that comes before the model's: to be told of a slip after it is to wait for nothing. Raises ValueError.
    """
    given = {key: value for key, value in options.items() if value is not None}
    family, _, rest = name.strip().partition(":")
    if name in SHIPPED:
        _shipped(name)
        _fitting(name, given, LOCAL_OPTIONS)
    elif family == "fake":
        _fake(rest, given)
    elif family == "cascade":
        from earwitness.models import cascade

        cascade.dialled(rest, name)
    elif family in (*FAMILIES, "vllm"):
        if not rest:
            raise ValueError(f"{name!r} names no checkpoint: say {family}:PATH-OR-HUB-ID")
        if rest.startswith((".", "/", "~")) and not Path(rest).expanduser().is_dir():  # else it may be a hub id
            raise ValueError(f"no folder {rest}")
        if family != "vllm":
            _fitting(f"{family}:{rest}", given, LOCAL_OPTIONS)
    elif family in SERVED:
        if not rest:
            wants = "openai:URL#MODEL" if family == "openai" else "gemini:MODEL"
            raise ValueError(f"{name!r} names no model: say {wants}")
    elif rest and _importable(family):
        _factory(name, family, rest, given)
    else:
        raise ValueError(f"unknown model {name!r}; known: {KNOWN}")


def _shipped(name: str) -> Path:
    folder = HANS if name == "hans" else HANS.with_name("hans_cured")
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"this copy of earwitness came without {name.capitalize()}: its weights are not in the package"
        )
    return folder


def _fitting(name: str, given: Mapping[str, object], known: Iterable[str]) -> None:
    """Refuse options that this family has not."""
    odd = sorted(set(given) - set(known))
    if odd:
        raise ValueError(f"{name} takes no {', '.join(odd)}; its options: {', '.join(sorted(known))}")


def _fake(kind: str, given: Mapping[str, object]) -> Model:
    _fitting(f"fake:{kind}", given, FAKE_OPTIONS)
    fps = given.get("fps")
    return control(kind, view=View(size=(112, 112), fps=float(str(fps))) if fps is not None else None)


def _local(name: str, path: str, family: str | None, given: Mapping[str, Any]) -> Model:
    try:
        from earwitness.models.qwen_omni import QwenOmni
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in LOCAL:
            raise
        raise ValueError(
            f"{name} runs on this machine and needs {error.name}: pip install 'earwitness[local]'"
        ) from error
    if given.get("adapter") is not None:
        name += f"+{Path(given['adapter']).expanduser().resolve().name}"
    return QwenOmni(path, name=name, family=family, **given)


def _vllm(name: str, path: str, given: Mapping[str, Any]) -> Model:
    try:
        from earwitness.models.vllm_offline import VllmOmni
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("vllm", *LOCAL):
            raise
        raise ValueError(
            f"{name} needs {error.name}: pip install earwitness vllm, in an environment of its own (vLLM wants "
            f"another transformers than earwitness[local])"
        ) from error
    return _made(name, VllmOmni, path, given)


def _served(name: str, family: str, rest: str, given: Mapping[str, Any]) -> Model:
    maker: Callable[..., Any]
    try:
        if family == "openai":
            from earwitness.models.openai_api import OpenAIModel as maker
        else:
            from earwitness.models.gemini import GeminiModel as maker
        return _made(name, maker, rest, given)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != SERVED[family]:
            raise
        raise ValueError(f"{name} needs {error.name}: pip install 'earwitness[api]'") from error


def _made(name: str, maker: Callable[..., Any], rest: str, given: Mapping[str, Any]) -> Model:
    """The model that a family's class makes; its options are that class's keyword arguments."""
    known = [p.name for p in inspect.signature(maker).parameters.values() if p.kind is p.KEYWORD_ONLY]
    _fitting(name, given, [option for option in known if option != "name"])
    model: Model = maker(rest, name=name, **given)
    return model


def _importable(module: str) -> bool:
    """Whether that is a module's name: dotted, or of a module that is there. Looks into the working folder too."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # as ``python -m`` does, but last: a file that lies about hides no package
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    return "." in module or importlib.util.find_spec(module) is not None


def _factory(name: str, module: str, factory: str, given: Mapping[str, object]) -> Callable[..., Any]:
    """The callable of that name, which takes what is given."""
    try:
        maker: Any = getattr(importlib.import_module(module), factory)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise
        raise ValueError(f"{name}: there is no module {error.name}; known models: {KNOWN}") from error
    except AttributeError as error:
        if hasattr(importlib.import_module(module), factory):
            raise
        raise ValueError(f"{name}: module {module} has no {factory}") from error
    if not callable(maker):
        raise ValueError(f"{name}: {factory} is a {type(maker).__name__}, nothing that makes a model when called")
    takes = inspect.signature(maker).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in takes):
        _fitting(name, given, [p.name for p in takes if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)])
    called: Callable[..., Any] = maker
    return called


def _third_party(name: str, module: str, factory: str, given: Mapping[str, object]) -> Model:
    maker = _factory(name, module, factory, given)
    try:
        made = maker(**given)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"{name} does not take an option it was given ({', '.join(given)}): {error}") from error
    except ModuleNotFoundError as error:
        where = inspect.getsourcefile(importlib.import_module(module)) or module
        raise ValueError(
            f"{name} needs the package {error.name}, which is not installed here: what to install should stand at "
            f"the top of {Path(where).name}"
        ) from error
    lacking = [what for what in NEEDED if not hasattr(made, what)]
    if lacking:
        raise ValueError(
            f"{name} made a {type(made).__name__} without {', '.join(lacking)}: a model has {', '.join(NEEDED)} "
            f"(see earwitness.models.Model)"
        )
    model: Model = made
    return model
