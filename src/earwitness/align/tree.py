"""Answers behind one prompt share most of their tokens: read each of them once.

A training batch asks several things of one clip (two questions, a chosen and a rejected answer, eight samples of
one), and the clip is 90 to 98 % of all tokens. All token rows behind the same media are therefore laid down as one
trie: a node is a token together with everything before it, so equal beginnings are one path. A node sees the media
and its own ancestors, and stands at the position that it has in its row. Each row's hidden states, log-probs and
gradients are those of the row read alone (up to the order of summation).

The usual packing repeats the last prompt token before each completion, so that a shift by one stays right. Here it
is not needed: :class:`Tree` says at which node each token of each row lies, and a label is predicted at the node of
the token before it.

Dropout is the one thing that is not the same: a shared token is dropped for all its rows at once.

Functions: ``grow``, ``visible``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tree:
    """Rows of tokens as a trie; nodes are numbered so that a parent comes before its children."""

    ids: tuple[int, ...]  # [nodes]: token of each node
    parents: tuple[int, ...]  # [nodes]: -1 = what all rows stand behind
    depths: tuple[int, ...]  # [nodes]: tokens of its row before it
    nodes: tuple[tuple[int, ...], ...]  # row -> the node of each of its tokens

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def chain(self) -> bool:
        """Whether no node has two children: plain causal attention does."""
        return all(parent == n - 1 for n, parent in enumerate(self.parents))


def grow(rows: Sequence[Sequence[int]]) -> Tree:
    """The trie of the rows. Raises ValueError where a row has no tokens."""
    ids: list[int] = []
    parents: list[int] = []
    depths: list[int] = []
    known: dict[tuple[int, int], int] = {}
    nodes = []
    for n, row in enumerate(rows):
        if not row:
            raise ValueError(f"row {n} of {len(rows)} has no tokens")
        at, path = -1, []
        for depth, token in enumerate(row):
            key = (at, token)
            at = known.setdefault(key, len(ids))
            if at == len(ids):
                ids.append(token)
                parents.append(key[0])
                depths.append(depth)
            path.append(at)
        nodes.append(tuple(path))
    return Tree(tuple(ids), tuple(parents), tuple(depths), tuple(nodes))


def visible(tree: Tree) -> NDArray[np.bool_]:
    """[nodes, nodes]: which node (row) sees which (column), itself included; what all stand behind is left out."""
    sees = np.zeros((len(tree), len(tree)), dtype=bool)
    for n, parent in enumerate(tree.parents):
        if parent >= 0:
            sees[n] = sees[parent]
        sees[n, n] = True
    return sees
