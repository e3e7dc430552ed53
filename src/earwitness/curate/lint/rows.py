"""The one kind of row that all checks look at: what is shown, what is asked, what is right, what is taught.

Functions: ``stem`` (a prompt without its options), ``closed`` (rows with a right answer), ``right`` (that answer in
words), ``types`` (rows by what they may be answered with).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from earwitness.records import Clip

Kind = Literal["choice", "yes_no", "label", "open"]
Form = Literal["supervised", "preference", "questions", "clips"]
OWN = "own options"
SHARED = 20  # rows that offer one set of options: then it is the question type's, not the row's own
LETTERED = re.compile(r"^[ \t]*\(?([A-Z])[.):][ \t]+(\S.*?)[ \t]*$", re.M)
BRACED = re.compile(r"\bOptions?:\s*\{([^{}]*)\}\.?")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row. ``id`` is the file's own, or its row number."""

    id: str
    source: str  # the source clip: cluster of the statistics, and what may not be trained and tested on
    linked: tuple[str, ...] = ()  # other sources it leans on (a swap's donor)
    shown: str  # equal: the same picture
    media: str  # equal: the same picture and the same sound
    clip: str = ""  # Clip.id, where the clips are known
    prompt: str
    task: str
    kind: Kind
    options: tuple[str, ...] = ()  # as offered, letters taken off
    place: int | None = None  # of the right option
    gold: str | None = None  # its letter or text, yes or no, a label; None: open
    chosen: str | None = None  # None: the row is a question only
    rejected: str | None = None
    offset: float | None = None  # true seconds, > 0 = sound late; None: the row does not say
    sound: bool = True  # the answer rests on the sound
    files: tuple[str, ...] = ()  # names of its media files


@dataclass(frozen=True, kw_only=True)
class Material:
    """A data set as read. ``clips`` are known for labelled clips and training sets, by id."""

    name: str
    form: Form
    samples: tuple[Sample, ...] = ()
    clips: Mapping[str, Clip] = field(default_factory=dict)
    files: Mapping[str, Path | None] = field(default_factory=dict)  # by the name that rows give; None: not here
    valid: tuple[Sample, ...] = ()  # a training set's own validation part
    prints: frozenset[str] = frozenset()  # content hashes of untouched pictures and sounds
    notes: tuple[str, ...] = ()


def stem(prompt: str) -> str:
    """A prompt without the options it offers, which name the right answer by design.

    >>> stem("What is heard?\\nA. a dog\\nB. a cat\\nAnswer by letter.")
    'What is heard? Answer by letter.'
    """
    return " ".join(BRACED.sub(" ", LETTERED.sub(" ", prompt)).split())


def closed(m: Material) -> list[Sample]:
    """The rows with a right answer that can be compared."""
    return [s for s in m.samples if s.gold is not None]


def right(s: Sample) -> str:
    """The right answer in words: an option's text where there are options."""
    return s.options[s.place] if s.place is not None else s.gold or ""


def types(rows: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Rows with a right answer, by what they may be answered with: all of a question's type that a model is shown.

    One list of options (in any order), each row's own options (:data:`OWN`), yes and no, or labels: question types
    that share a label are one then.
    """
    sets = Counter(frozenset(s.options) for s in rows)
    labels = _joined(rows)
    out: dict[str, list[Sample]] = {}
    for s in rows:
        if s.kind == "label":
            key = labels[s.task]
        elif s.place is not None and sets[frozenset(s.options)] < SHARED:
            key = OWN
        else:
            some = sorted(s.options)
            key = " / ".join(some) if len(some) < 4 else f"{len(some)} options ({some[0]} ... {some[-1]})"
        out.setdefault(key, []).append(s)
    return out


def _joined(rows: Sequence[Sample]) -> dict[str, str]:
    """Task -> the labels of all tasks that share one with it, as text."""
    labels: dict[str, set[str]] = {}
    for s in rows:
        if s.kind == "label":
            labels.setdefault(s.task, set()).add(s.gold or "")
    groups: list[set[str]] = []
    for some in labels.values():
        apart = [g for g in groups if not g & some]
        groups = [*apart, some.union(*(g for g in groups if g & some))]
    return {task: ", ".join(sorted(next(g for g in groups if some <= g))[:4]) for task, some in labels.items()}
