"""Which paths of attention can be cut, whose tokens are on them, and what is kept of a cut.

An **edge** is ``SOURCE->TARGET`` (``SOURCE<->TARGET``: both ways). Sources: any group of ``moments.GROUPS``, and
``question`` (instruction, caption, options), ``text`` (those and the template), ``media`` (video and audio).
Targets: the same, ``answer`` (the last token of the prompt, from which the answer's first token is predicted, and
all tokens of the answer), and ``rest`` (all tokens but the source's). The last token of the prompt counts as
answer, never as template. ``+`` joins: ``video+audio->answer``.

Nothing here needs torch.

Functions: ``read_edge``, ``read_windows``, ``path`` (the tokens of an edge), ``drawn`` (a control's),
``seen_and_heard`` (the options that a conflict is between).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from earwitness.questions import clean
from earwitness.records import Item
from earwitness.whitebox.moments import GROUPS

Window = tuple[int, int]  # first and last layer, both cut
Mask = NDArray[np.bool_]
ANSWER, REST = "answer", "rest"
PARTS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in GROUPS if name != "generated"},
    "question": ("instruction", "caption", "options"),
    "text": ("template", "instruction", "caption", "options"),
    "media": ("video", "audio"),
}


class Reading(msgspec.Struct, frozen=True):
    """What the model makes of an answer and of the choices: natural-log probabilities of their whole texts."""

    answer: float
    choices: dict[str, float] = {}

    @property
    def choice(self) -> str | None:
        """The likeliest choice; None without choices."""
        return max(self.choices, key=lambda c: self.choices[c]) if self.choices else None


class Knockout(msgspec.Struct, frozen=True, kw_only=True):
    """One item with one path cut (or weighed) in a window of layers, and the same with random others in its place.

    ``keys`` tokens were hidden, ``control_keys`` in each control.
    """

    item: str
    edge: str
    layers: Window
    factor: float = 0.0
    heads: tuple[int, ...] = ()  # none: all
    seed: int = 0  # of the controls
    keys: int
    control_keys: int
    plain: Reading
    cut: Reading
    controls: tuple[Reading, ...]


@dataclass(frozen=True)
class Cut:
    """What is done: an edge, a window of layers, by which factor (0: cut), in which heads (none: all)."""

    edge: str
    layers: Window
    factor: float = 0.0
    heads: tuple[int, ...] = ()


def read_edge(text: str) -> tuple[tuple[str, str], ...]:
    """Ways (source, target) of an edge; two where it goes both ways.

    Raises ValueError for a name that is none, and where a token would be cut from itself.
    """
    both = "<->" in text
    source, arrow, target = (part.strip() for part in text.partition("<->" if both else "->"))
    if not (source and arrow and target):
        raise ValueError(f"edge {text!r}: expected SOURCE->TARGET, such as audio->answer or audio<->video")
    ways = ((source, target), (target, source)) if both else ((source, target),)
    for a, b in ways:
        for name in (*a.split("+"), *(() if b in (ANSWER, REST) else b.split("+"))):
            if name not in PARTS:
                where = " (answer and rest can only be targets)" if name in (ANSWER, REST) else ""
                raise ValueError(
                    f"edge {text!r}: no tokens called {name!r}{where}; there are {', '.join(PARTS)}, and the "
                    f"targets answer and rest"
                )
        shared = set(groups_of(a)) & set(() if b in (ANSWER, REST) else groups_of(b))
        if shared:
            raise ValueError(f"edge {text!r}: {', '.join(sorted(shared))} on both sides: a token sees itself")
    return ways


def read_windows(text: str, layers: int) -> list[Window]:
    """Windows of layers, both ends cut, counted from 0: ``0-3,4-7``, ``5``, ``all``; quarters: ``by 7``.

    Raises ValueError where a layer is named that the model has not.
    """
    out: list[Window] = []
    for part in (p.strip() for p in text.split(",")):
        if part == "all":
            out.append((0, layers - 1))
        elif part.startswith("by ") and part[3:].isdigit() and int(part[3:]):
            size = int(part[3:])
            out += [(n, min(n + size, layers) - 1) for n in range(0, layers, size)]
        else:
            first, _, last = part.partition("-")
            if not (first.isdigit() and (last or first).isdigit()):
                raise ValueError(f"layers {part!r}: expected a window such as 0-3, a layer, all, or 'by 4'")
            out.append((int(first), int(last or first)))
    for low, high in out:
        if not 0 <= low <= high < layers:
            raise ValueError(f"layers {low}-{high}: the model has {layers} layers, counted from 0")
    return list(dict.fromkeys(out))


def layers_of(window: Window) -> str:
    """A window of layers, counted from 0: L3, L0-3."""
    return f"L{window[0]}" if window[0] == window[1] else f"L{window[0]}-{window[1]}"


def arrow(edge: str) -> str:
    """An edge as it is written in a row of a table, where no line may break inside its arrow: audio→answer."""
    return edge.replace("<->", "↔").replace("->", "→")


@dataclass(frozen=True, eq=False)
class Path:
    """One way of an edge in one item: who asks, and whom it no longer sees.

    ``queries`` [prompt + 1]: tokens of the prompt, and, as the last entry, all tokens of the answer.
    """

    queries: Mask
    keys: Mask  # [prompt]


def groups_of(side: str) -> tuple[str, ...]:
    """The groups of tokens that one side of an edge names."""
    return tuple(group for name in side.split("+") for group in PARTS[name])


def _members(side: str, groups: NDArray[np.int8]) -> Mask:
    found: Mask = np.isin(groups, [GROUPS.index(name) for name in groups_of(side)])
    found[-1] = False  # the last token of the prompt is the answer's
    return found


def path(source: str, target: str, groups: NDArray[np.int8]) -> Path:
    """One way of an edge, from the groups [prompt] of an item's prompt; only keys that some query can see."""
    count = len(groups)
    mine = _members(source, groups)
    queries = np.zeros(count + 1, bool)
    if target == ANSWER:
        queries[count - 1 :] = True
    elif target == REST:
        queries[:count], queries[count] = ~mine, True
    else:
        queries[:count] = _members(target, groups)
    return Path(queries, mine & (np.arange(count) < _last(queries)))


def _last(queries: Mask) -> int:
    return int(np.flatnonzero(queries)[-1]) if queries.any() else 0


def drawn(source: str, real: Path, groups: NDArray[np.int8], seed: str) -> Path:
    """The same queries, and as many random other keys that they can see (all of them where there are fewer)."""
    at = np.arange(len(groups))
    seen = (at < _last(real.queries)) & (at > 0) & (at < len(groups) - 1)
    pool = np.flatnonzero(seen & ~_members(source, groups))
    keys = np.zeros(len(groups), bool)
    rng = np.random.default_rng(int(seed, 16))
    keys[rng.choice(pool, min(int(real.keys.sum()), len(pool)), replace=False)] = True
    return Path(real.queries, keys)


def media_end(groups: NDArray[np.int8]) -> int:
    """How many tokens of a prompt lie before the text behind its media: that text alone can follow a prefix."""
    inside = np.flatnonzero(np.isin(groups, [GROUPS.index(name) for name in ("marker", "video", "audio")]))
    return int(inside[-1]) + 1 if len(inside) else 1


def seen_and_heard(item: Item) -> tuple[str, str] | None:
    """The choice that is seen and the one that is heard, where an item's picture and sound disagree; else None."""
    options = {clean(choice): choice for choice in item.choices}
    seen, heard = ([clean(n) for n in names if clean(n) in options] for names in (item.seen, item.heard))
    if not seen or not heard or set(seen) & set(heard):
        return None
    return options[seen[0]], options[heard[0]]
