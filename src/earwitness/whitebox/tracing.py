"""A run traced: one pass over each item's prompt and given answer, and what it showed kept under RUN/trace.

The answers are those of the run, so nothing is decoded again. They may be a served model's: then ``model`` is a
local copy of it, and what the copy thinks of those words is compared with what the server thought
(``Traced.drift``): far apart, the copy is not what was served, and its inside says nothing about the answers.

Functions: :func:`trace`. Nothing here needs torch before it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from earwitness import run as runs
from earwitness.audit import Bank
from earwitness.models import Model
from earwitness.records import Answer, ClipSet, Item
from earwitness.whitebox import opened, store
from earwitness.whitebox.joined import plain_text
from earwitness.whitebox.moments import About, Captured

CLIPS = 100  # as many as arXiv 2511.22826, section 4.2, looks into
CHUNK = 64  # items whose media are in memory at once: a part of the store
FAR = {
    "float32": 0.01,
    "bfloat16": 0.1,
    "float16": 0.1,
}  # nats a token between replay and answer that are no rounding

Progress = Callable[[int, int], None]  # items done, items to do


@dataclass(frozen=True)
class Traced:
    """How a trace ended. ``drift``: median |difference| in nats a token between replayed and given log-probs."""

    items: int  # in the trace now
    new: int
    drift: float | None  # None where the answers came without their log-probs
    far: int  # items of this call whose drift is more than rounding
    failed: dict[str, str]  # item -> why it could not be traced


def trace(
    folder: Path,
    model: Model,
    *,
    limit: int | None = CLIPS,
    conditions: Collection[str] = (),
    values: bool = False,
    heat_layers: Sequence[int] = (),
    clips: ClipSet | None = None,
    progress: Progress | None = None,
) -> Traced:
    """Trace the run's answered items that are not traced yet; what is done is kept part by part.

    An item whose trace lacks what is asked for now (values, a layer's heat map) is traced again, with all it had.

    Parameters
    ----------
    limit : clips at most, drawn by their ids: the same ones on every call.
    conditions : only items of these ("aligned", "audio_swapped"); none given: all.
    values : also how much each group carries, not only how much attention it gets (a few percent more time).
    heat_layers : layers whose rows are kept whole, for time-aligned heat maps.
    clips : the run's clips; opened as the audit opened them where not given.

    Raises
    ------
    ValueError
        For a model that is not local, a layer that is none, or clips that cannot be opened.
    RunError
        Where the model is another revision than the run's, the trace another model's, or nothing was answered.
    """
    inside = opened.local(model)
    layers = int(inside.model.config.get_text_config().num_hidden_layers)
    wrong = [n for n in heat_layers if not 0 <= n < layers]
    if wrong:
        raise ValueError(f"layer {wrong[0]}: this model has {layers} layers, 0 to {layers - 1}")
    info = runs.read_info(folder)
    opened.same_model(info, model)
    items, answers = opened.chosen(folder, limit=limit, conditions=conditions, choices=False)
    settings = {"dtype": str(inside.thinker.dtype).removeprefix("torch.")}
    about = About(model=model.name, revision=model.revision, plan=info.plan, settings=settings)
    bank = Bank(opened.clips_of(info) if clips is None else clips, model.view)
    drifts: list[float] = []
    failed: dict[str, str] = {}
    with runs.AnswerLog(folder):  # one writer per run folder
        done = store.resume(folder, about)
        left = [i for i in items if not _has(done.get(i.id), answers[i.id], values, heat_layers)]
        had = [done[i.id] for i in left if i.id in done]
        values = values or any(one.values for one in had)
        heat_layers = sorted({*heat_layers, *(n for one in had for n in one.heat)})
        todo, wanted, new = iter(left), len(left), 0
        while some := list(islice(todo, CHUNK)):
            captured = list(_captured(inside, bank, some, answers, values, heat_layers, failed))
            drifts += [d for c in captured if (d := _drift(c, answers[c.item])) is not None]
            if captured:
                store.append(folder, captured, about)
            new += len(some)
            if progress:
                progress(new, wanted)
    far = sum(d > FAR.get(settings["dtype"], 0.1) for d in drifts)
    kept = len(done | dict.fromkeys(i.id for i in items)) - len(failed)
    return Traced(kept, wanted, float(np.median(drifts)) if drifts else None, far, failed)


def _has(kept: store.Kept | None, answer: Answer, values: bool, heat_layers: Sequence[int]) -> bool:
    """Whether a trace holds all that is asked for of an item."""
    if kept is None or plain_text(kept.answer) != plain_text(answer.text or ""):
        return False
    return (kept.values or not values) and set(heat_layers) <= kept.heat


def _captured(
    model: object, bank: Bank, items: Sequence[Item], answers: dict[str, Answer], values: bool,
    heat_layers: Sequence[int], failed: dict[str, str],
) -> Iterator[Captured]:  # fmt: skip
    """Items looked into together; where one of them cannot be, all of them one by one."""
    from earwitness.whitebox.capture import capture

    media = []
    fit = []
    for item in items:
        try:
            media.append(bank.condition(item.clip, item.intervention))
        except (ValueError, OSError) as error:
            failed[item.id] = f"clip {item.clip}: {error}"
        else:
            fit.append(item)
    said = [answers[i.id].text or "" for i in fit]
    try:
        yield from capture(model, fit, media, said, values=values, keep_layers=heat_layers)  # type: ignore[arg-type]
    except ValueError as error:
        if len(fit) == 1:
            failed[fit[0].id] = str(error)
            return
        for item in fit:
            yield from _captured(model, bank, [item], answers, values, heat_layers, failed)


def _drift(captured: Captured, answer: Answer) -> float | None:
    from earwitness.whitebox.forward import drift

    return drift(captured, answer)
