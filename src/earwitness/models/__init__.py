"""Models under audit: one Protocol, one file per family, no plug-in system.

Any object with ``name``, ``revision``, ``view``, ``abilities`` and ``answer`` can be audited.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from earwitness.records import Answer, Item, Media, View


class Model(Protocol):
    """What the audit asks of a model.

    ``answer`` takes items and their media, in step, and returns one Answer per item in the same order. Items
    on the same media come one after the other and share the *same* Media object, so that a model can encode
    it once. ``abilities`` declares the optional powers: "logprobs" (fills Answer.logprobs for items with
    choices), "tokens" (has ``tokens(item, media) -> int``), "generates" (real text), "trace", "train", "streams"
    (has ``stream(pairs)``: takes an iterable of (item, media), pulls from it as it has room, and yields answers as
    they come, in any order, one per item; a failed item is an Answer with ``error``, never an exception), "spells"
    (has ``spell(items, media, top=k)``: the same answers with their tokens, as ``models.spelling.Spelled``).
    """

    name: str
    revision: str
    view: View
    abilities: frozenset[str]

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """Answers to the items, in their order. May raise: the audit then retries one by one."""
        ...
