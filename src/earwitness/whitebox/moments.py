"""What is kept of one item's look inside: a few sums per layer and head.

Full attention of one 10,000-token item with 28 layers of 28 heads is 300 GB. What the questions of :mod:`.effects`
need of it is one number per layer, head and group of tokens: how much attention went there (``mass``), its squares
(``mass2``: the spread between tokens, without the tokens) and, where asked for, how much it carried (``value``).

:class:`Captured` is one item as ``capture`` hands it over; :class:`Trace` all items of a run, as :mod:`.store`
reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# Every token of the sequence is in exactly one of these: sink is the first token, template the system prompt and
# the role headers, instruction the question, caption and options parts of it; marker the tokens around media.
GROUPS = ("sink", "template", "instruction", "caption", "options", "marker", "video", "audio", "generated")
MEDIA = ("video", "audio")
AT = ("prompt", "answer")


@dataclass(frozen=True, eq=False, kw_only=True)
class Captured:
    """One item seen from inside. L layers, H heads, G = len(GROUPS) groups, T tokens; R rows.

    Row i predicts answer token i, so row 0 is the last row of the prompt, and R is the number of answer tokens.
    What is None or empty was not asked for.
    """

    item: str  # Item.id
    answer: str  # the answer's text, as it was given to the pass
    tokens: tuple[str, ...]  # [R] what row i predicts, as text
    count: NDArray[np.int64]  # [G] tokens in each group, the answer's own among them
    mass: Floats  # [L, H, R, G] share of the attention; sums to 1 over groups
    mass2: Floats  # [L, H, R, G] sum of the squares of the tokens' shares
    value: Floats | None = None  # [L, H, R, G] norm of the group's part of the head's output
    entropy: Floats | None = None  # [L, R] of what the layer would answer, in units of ln |vocabulary|
    u_top10: Floats | None = None  # [L, R] the same over its ten likeliest tokens, in units of ln 10
    kl: Floats | None = None  # [L, R] nats from the last layer's answer
    logp_answer: Floats | None = None  # [L, R] natural log-probability of answer token i
    logp_choice: Mapping[str, Floats] = field(default_factory=dict)  # choice -> [L], its first token at row 0
    words: tuple[str, ...] = ()  # [T] what each token says, "" for video and audio; with kept
    groups: NDArray[np.int8] | None = None  # [T] index into GROUPS of each token; with kept
    seconds: Floats | None = None  # [T] time of each media token, nan elsewhere; with kept
    kept: Mapping[int, Floats] = field(default_factory=dict)  # layer -> [R, T] attention, mean over heads


class About(msgspec.Struct, frozen=True, kw_only=True):
    """Whose attention a trace holds: items of another model or adapter may not lie beside them."""

    model: str
    revision: str
    plan: str = ""  # digest of the run's items
    settings: dict[str, str] = {}  # what else must not be mixed: the adapter, the type that is computed in


@dataclass(frozen=True, eq=False)
class Looked:
    """Many items at one kind of row: N items, L layers, H heads, G groups. None: not traced in every item."""

    mass: Floats  # [N, L, H, G]
    mass2: Floats  # [N, L, H, G]
    value: Floats | None  # [N, L, H, G]
    entropy: Floats | None  # [N, L]
    u_top10: Floats | None  # [N, L]
    kl: Floats | None  # [N, L]
    logp_answer: Floats | None  # [N, L]


@dataclass(frozen=True, eq=False)
class Heat:
    """Where each token of an answer looked, in one layer: ``mass`` adds up to 1 over the columns.

    A column is an input token, in reading order; long text is folded, many tokens to a column.
    """

    said: tuple[str, ...]  # [R]
    words: tuple[str, ...]  # [C] what the column says; "" for video and audio
    groups: NDArray[np.int8]  # [C] index into GROUPS
    seconds: Floats  # [C] time of a video or audio token, nan elsewhere
    tokens: NDArray[np.int64]  # [C] tokens in the column
    mass: Floats  # [R, C]


@dataclass(frozen=True, eq=False)
class Trace:
    """All that a trace folder holds, item by item in the order of the parts."""

    about: About
    items: tuple[str, ...]
    answers: tuple[str, ...]
    rows: NDArray[np.int64]  # [N] answer rows
    count: NDArray[np.int64]  # [N, G]
    prompt: Looked
    answer: Looked
    logp_choice: tuple[Mapping[str, Floats], ...]  # [N] choice -> [L]
    heat: Mapping[tuple[str, int], Heat]  # (item, layer)
    torn: tuple[str, ...] = ()  # names of parts that could not be read
