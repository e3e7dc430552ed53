"""A run folder opened to be measured from inside: is the model the run's, which items, which clips, what is known.

Functions: :func:`local` and :func:`same_model` (the model), :func:`chosen` (items), :func:`clips_of` (clips),
:func:`known` and :func:`whole` (a file of records that is added to).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from earwitness import run as runs
from earwitness.audit.shares import in_order
from earwitness.datasets.opening import open_clips
from earwitness.interventions import filled
from earwitness.models import Model
from earwitness.records import Answer, ClipSet, Item, digest

if TYPE_CHECKING:
    from earwitness.models.qwen_omni import QwenOmni

T = TypeVar("T", bound=msgspec.Struct)


def local(model: Model) -> QwenOmni:
    """The model, if one can look inside it.

    Raises ValueError for a served or a fake one.
    """
    if not hasattr(model, "thinker"):
        raise ValueError(
            f"{model.name} cannot be looked into: that needs a local model (hans, qwen2.5-omni:PATH, "
            f"qwen3-omni:PATH); for a served one, name a local copy of it"
        )
    return model  # type: ignore[return-value]


def same_model(info: runs.Info, model: Model) -> None:
    """Raise RunError where the run's model was another revision of this one; a copy by another name may pass."""
    if info.model == model.name and info.revision != model.revision:
        raise runs.RunError(
            f"the run was made with {info.model} of revision {info.revision}, and this is {model.revision}: its "
            f"answers are not this model's"
        )


def clips_of(info: runs.Info) -> ClipSet:
    """The clips of a run, opened as its audit opened them.

    Raises ValueError where they cannot be.
    """
    media = info.settings.get("media")
    return open_clips(
        info.clips, limit=info.clip_count or None, seed=info.seed, media=None if media is None else Path(media)
    )


def chosen(
    folder: Path, *, limit: int | None = None, conditions: Collection[str] = (), choices: bool = True
) -> tuple[list[Item], dict[str, Answer]]:
    """The run's items with an answer (and choices), clip by clip, of ``limit`` clips at most, and their answers.

    Long contexts are written out in their prompts.

    Raises
    ------
    RunError
        Where there are none, or a condition is named that the run has not.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"a limit of {limit} clips leaves nothing to look into")
    answers, items = runs.read_answers(folder), runs.read_items(folder)
    unknown = sorted(set(conditions) - {i.condition for i in items})
    if unknown:
        there = ", ".join(sorted({i.condition for i in items}))
        raise runs.RunError(f"{folder}: no item of condition {unknown[0]!r}; there are {there}")
    fit = [
        i
        for i in items
        if (i.choices or not choices)
        and (not conditions or i.condition in conditions)
        and i.id in answers
        and answers[i.id].text
    ]
    if not fit:
        what = "item with choices to look into (was only free text asked for?)" if choices else "item to look into"
        raise runs.RunError(f"{folder}: no answered {what}")
    kept = sorted({i.clip for i in fit}, key=lambda clip: digest("look inside", clip))[:limit]
    return [filled(i) for some in in_order(i for i in fit if i.clip in kept) for i in some], answers


def known(path: Path, kind: type[T], key: Callable[[T], Hashable]) -> dict[Hashable, T]:
    """Records of a file by their key, the last of each; none where there is no file."""
    found = runs.read_lines(path, kind, torn_tail=True) if path.exists() else []
    return {key(record): record for record in found}


def whole(path: Path, kind: type[T], key: Callable[[T], Hashable]) -> dict[Hashable, T]:
    """The same, and the file written anew without the torn line of a writer that was killed, to be added to."""
    found = known(path, kind, key)
    runs.write_lines(path, found.values())
    return found
