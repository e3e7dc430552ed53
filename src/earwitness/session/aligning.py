"""A stage of a repair from words: recipe, training set and model by name, what is trained in one folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from earwitness.audit.workers import Recipe as ToLoad
from earwitness.models.load import FAMILIES, SHIPPED, load_model
from earwitness.report import curves

if TYPE_CHECKING:
    from earwitness.align.training import Trained

Progress = Callable[[int, int, dict[str, float]], None]
OF_MODEL = ("device", "dtype", "attn", "fps", "max_pixels", "adapter")  # settings of the model, as in an audit
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")


def recipes() -> dict[str, str]:
    """All recipes with their stage and source."""
    from earwitness.align import recipes as known

    return {name: f"{(r := known.named(name)).stage}: {r.source}" for name in known.names()}


def settle(stage: str, recipe: str, settings: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """The recipe with its changes, and the settings that are the model's.

    Raises ValueError for an unknown recipe or setting, and for a recipe of another stage.
    """
    from earwitness.align import recipes as known

    own = {k: v for k, v in settings.items() if k in OF_MODEL}
    made = known.changed(recipe, {k: v for k, v in settings.items() if k not in OF_MODEL})
    if made.stage != stage:
        raise ValueError(f"{recipe} is a recipe for {made.stage}: earwitness align {made.stage} {recipe} ...")
    return made, own


def align(
    stage: str, recipe: str, data: Path, model: str, out: Path, *, settings: Mapping[str, str] | None = None,
    progress: Progress | None = None, readers: int | None = None, shard: bool = False,
) -> Trained:  # fmt: skip
    """Run one stage (see :func:`earwitness.align.training.align`) on a model by name, and write its page.

    ``readers``: processes that make what the next batches show; None: one, where there is a core for it. ``shard``:
    the text model lies in shards over torchrun's processes; so it does where accelerate's launcher asks for FSDP.

    Raises
    ------
    ValueError
        As ``settle`` does; for a model that is not local; where packages are missing (``pip install
        'earwitness[local,train]'``); as the stage itself does.
    """
    made, own = settle(stage, recipe, settings or {})
    if model not in SHIPPED and model.partition(":")[0] not in FAMILIES:
        raise ValueError(f"{model} cannot be trained here: it must be a local one (hans, qwen2.5-omni:PATH, ...)")
    try:
        from earwitness.align import sharding, training
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in PACKAGES:
            raise
        raise ValueError(f"training needs {error.name}: pip install 'earwitness[local,train]'") from error
    shard = sharding.asked() or shard  # before the model is loaded, which accelerate would have a hand in
    if shard:
        sharding.check_started()
    if place := sharding.place():  # under torchrun each process has a GPU of its own
        own.setdefault("device", place)
    loaded = load_model(model, **own)
    readers = min(1, (os.cpu_count() or 1) - 1) if readers is None else readers
    load = ToLoad(model, own, loaded.revision)
    done = training.align(made, data, loaded, out, progress=progress, readers=readers, load=load, shard=shard)  # type: ignore[arg-type]
    if os.environ.get("RANK", "0") == "0":  # under torchrun the first process alone writes
        curves.page(out)
    return done
