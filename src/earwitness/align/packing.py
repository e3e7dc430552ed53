"""A batch of answers to be scored: rows that share media are one group, read as one tree behind them.

A row is a prompt and an answer. Up to the end of its media it is a ``Layout`` (made once per shape); what follows
(question, answer) are the row's ``tail``. :func:`pack` puts rows on the same media into one :class:`Group` and
notes, for each token that counts, at which place of the packed sequence it is predicted and where the trainer
wants to find it. Trainers think in rows [R, L] (media, question, answer, padding on the right); the model
is given groups [G, S]. ``Packed`` knows both.

``plain=True`` gives every row a group of its own: the way that everybody trains, and what packing is held to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from earwitness.align.tree import Tree, grow
from earwitness.models.qwen_cache import Heard, Seen
from earwitness.models.qwen_inputs import Layout

IGNORED = -100


@dataclass(frozen=True, eq=False)
class Shown:
    """Media as a model is fed them: the beginning of all prompts on them. ``key`` says when two are the same."""

    key: object
    layout: Layout
    seen: Seen | None
    heard: Heard | None


@dataclass(frozen=True, eq=False)
class Row:
    """A prompt with an answer: what is shown, the tokens behind it, and from which of these on they count."""

    shown: Shown
    tail: tuple[int, ...]
    first: int  # index in ``tail`` of the answer's first token
    last: int | None = None  # index after the last one that counts; None: all to the end

    def __post_init__(self) -> None:
        end = len(self.tail) if self.last is None else self.last
        if not 1 <= self.first < end <= len(self.tail):
            raise ValueError(f"an answer from token {self.first} to {end} of {len(self.tail)} has nothing to score")

    def __len__(self) -> int:
        return len(self.shown.layout) + len(self.tail)

    @property
    def scored(self) -> range:
        """Indices in ``tail`` of the tokens that count."""
        return range(self.first, len(self.tail) if self.last is None else self.last)


@dataclass(frozen=True, eq=False)
class Group:
    """Rows behind the same media."""

    shown: Shown
    tree: Tree
    rows: tuple[int, ...]  # of the batch, in the order of ``tree.nodes``

    def __len__(self) -> int:
        return len(self.shown.layout) + len(self.tree)


@dataclass(frozen=True, eq=False)
class Packed:
    """Rows as groups. ``at`` [n, 2]: group and place that predict a scored token; ``back`` [n, 2]: row, column."""

    groups: tuple[Group, ...]
    at: torch.Tensor
    labels: torch.Tensor  # [n]: the scored tokens
    back: torch.Tensor
    shape: tuple[int, int]  # rows, tokens of the longest row

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of all rows, padding included, read one by one; and tokens that are read here."""
        return self.shape[0] * self.shape[1], len(self.groups) * max(len(g) for g in self.groups)


def pack(rows: Sequence[Row], *, plain: bool = False) -> Packed:
    """Group the rows by what they are shown. Raises ValueError for no rows."""
    if not rows:
        raise ValueError("an empty batch cannot be packed")
    by_media: dict[object, list[int]] = {}
    for n, row in enumerate(rows):
        by_media.setdefault(n if plain else row.shown.key, []).append(n)
    groups, at, labels, back = [], [], [], []
    for g, members in enumerate(by_media.values()):
        shown = rows[members[0]].shown
        start = len(shown.layout)
        tree = grow([rows[n].tail for n in members])
        for path, n in zip(tree.nodes, members, strict=True):
            for i in rows[n].scored:
                at.append((g, start + path[i - 1]))
                labels.append(rows[n].tail[i])
                back.append((n, start + i - 1))
        groups.append(Group(shown, tree, tuple(members)))
    longest = max(len(row) for row in rows)
    return Packed(tuple(groups), torch.tensor(at), torch.tensor(labels), torch.tensor(back), (len(rows), longest))


def as_rows(rows: Sequence[Row], pad: int) -> dict[str, torch.Tensor]:
    """``input_ids``, ``attention_mask``, ``labels`` [R, L], padded on the right: what trainers count and mask."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED)
    for n, row in enumerate(rows):
        start = len(row.shown.layout)
        ids[n, :start] = row.shown.layout.ids.cpu()
        ids[n, start : len(row)] = torch.tensor(row.tail)
        mask[n, : len(row)] = 1
        here = slice(start + row.scored.start, start + row.scored.stop)
        labels[n, here] = ids[n, here]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
