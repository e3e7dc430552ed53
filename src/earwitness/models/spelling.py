"""An answer token by token: what an OpenAI-compatible server is asked for with ``logprobs``.

A model with the ability "spells" has ``spell(items, media, top=k) -> list[Answer]``: the same answers as ``answer``
gives, each that the model generated a ``Spelled``. They are for passing on, not for keeping: the log of a run holds
the sum, ``Answer.logprob``.
"""

from __future__ import annotations

import msgspec

from earwitness.records import Answer


class Token(msgspec.Struct, frozen=True):
    """One generated token: its text, its natural-log probability, and the likeliest tokens in its place.

    The text of a token that holds a part of a character only is the replacement character.
    """

    text: str
    logprob: float
    likeliest: tuple[tuple[str, float], ...] = ()


class Spelled(Answer, frozen=True, kw_only=True):
    """An answer with the tokens it was said in, the end token left out."""

    tokens: tuple[Token, ...] = ()
