"""A trace with the items it is of, and their answers: what every statistic of it starts from.

Functions: :func:`load` a run's, :func:`common` to two runs (:func:`unlike`: why not); :func:`keys` sorts items into
the rows of tables, :func:`clusters` says which of them belong together.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from earwitness import run as runs
from earwitness import stats
from earwitness.records import Item
from earwitness.whitebox import store
from earwitness.whitebox.moments import Looked, Trace

At = Literal["prompt", "answer"]


@dataclass(frozen=True, eq=False)
class Inside:
    """A run's trace with the items it is of, in the trace's order; ``left_out`` says what could not be joined."""

    trace: Trace
    items: tuple[Item, ...]
    left_out: tuple[str, ...] = ()

    def looked(self, at: At) -> Looked:
        """The measurements at one kind of row."""
        return self.trace.prompt if at == "prompt" else self.trace.answer

    def picked(self, items: Sequence[Item]) -> Inside:
        """The trace of these items alone, in this order."""
        where = {item.id: n for n, item in enumerate(self.items)}
        return replace(self, trace=picked(self.trace, [where[i.id] for i in items]), items=tuple(items))


@dataclass(frozen=True)
class Key:
    """What a row of a table is of: prompt styles are never mixed."""

    protocol: str
    condition: str
    question: str
    style: str

    def __str__(self) -> str:
        return f"{self.condition}, {self.question}" + ("" if self.style == "standard" else f" ({self.style})")


def load(folder: Path) -> Inside:
    """A run's trace joined to its items and answers.

    An item whose answer has changed since (a retried failure) is left out and counted, as is one of another plan.

    Raises
    ------
    RunError
        Where there is no trace, no run, or nothing of the trace belongs to the run.
    """
    trace = store.read(folder)
    items, answers = {i.id: i for i in runs.read_items(folder)}, runs.read_answers(folder)
    unknown = sum(name not in items for name in trace.items)
    said = {name: plain_text(a.text or "") for name, a in answers.items()}
    kept, stale = [], 0
    for n, (name, answer) in enumerate(zip(trace.items, trace.answers, strict=True)):
        if name in items and name in said and said[name] != plain_text(answer):
            stale += 1
        elif name in items:
            kept.append(n)
    left = []
    if trace.torn:
        left.append(f"{len(trace.torn)} parts of the trace are torn ({trace.torn[0]}): trace again to redo them")
    if unknown:
        left.append(f"{unknown} traced items are not in the run's plan")
    if stale:
        left.append(f"{stale} traced answers were replaced since: trace again to redo them")
    if not kept:
        raise runs.RunError(f"{folder}: nothing of the trace belongs to this run ({'; '.join(left)})")
    return Inside(picked(trace, kept), tuple(items[trace.items[n]] for n in kept), tuple(left))


def plain_text(answer: str) -> str:
    """An answer as it is compared with what was traced: a tokenizer may compose letters and drop outer spaces."""
    return " ".join(unicodedata.normalize("NFC", answer).split())


def picked(trace: Trace, places: Sequence[int]) -> Trace:
    """The trace of some of its items, in this order."""
    at = np.asarray(places, dtype=np.intp)

    def some(looked: Looked) -> Looked:
        fields: dict[str, Any] = {name: getattr(looked, name) for name in looked.__dataclass_fields__}
        fields = {name: None if value is None else value[at] for name, value in fields.items()}
        return Looked(**fields)

    names = {trace.items[n] for n in places}
    return replace(
        trace,
        items=tuple(trace.items[n] for n in places),
        answers=tuple(trace.answers[n] for n in places),
        rows=trace.rows[at],
        count=trace.count[at],
        prompt=some(trace.prompt),
        answer=some(trace.answer),
        logp_choice=tuple(trace.logp_choice[n] for n in places),
        heat={key: heat for key, heat in trace.heat.items() if key[0] in names},
    )


def common(before: Inside, after: Inside) -> tuple[Inside, Inside]:
    """Both traces cut down to the items that both have, in the order of the first.

    Raises ValueError where they share none, or their models differ in layers or heads.
    """
    why = unlike(before, after)
    if why:
        raise ValueError(why)
    shared = {item.id for item in after.items}
    items = [item for item in before.items if item.id in shared]
    return before.picked(items), after.picked(items)


def unlike(before: Inside, after: Inside) -> str:
    """Why two traces cannot be compared, in words; empty where they can."""
    shapes = [side.trace.prompt.mass.shape[1:3] for side in (before, after)]
    if shapes[0] != shapes[1]:
        return f"models of {shapes[0]} and {shapes[1]} layers and heads cannot be compared layer by layer"
    if not {item.id for item in before.items} & {item.id for item in after.items}:
        return "the two traces share no item: were the same clips, questions and seeds asked of both?"
    return ""


def keys(inside: Inside) -> dict[Key, list[int]]:
    """Places of the items of each protocol, condition, question and style, in the order of the trace."""
    found: dict[Key, list[int]] = {}
    for n, item in enumerate(inside.items):
        found.setdefault(Key(item.protocol, item.condition, item.question, item.style), []).append(n)
    return found


def clusters(items: Sequence[Item]) -> list[str]:
    """Cluster of each item: its source, those that a swap ties together made one."""
    return stats.merge_clusters([i.source for i in items], [i.linked for i in items])
