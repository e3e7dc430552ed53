"""How near is a caption to the reference? METEOR, as AVHBench reports it.

METEOR (Banerjee and Lavie 2005; parameters of Lavie and Agarwal 2007, as nltk has them) aligns the words of both
texts one to one, in stages: the same word, the same stem, a WordNet synonym; and lowers the harmonic mean of
precision and recall (recall weighs nine times) where the aligned words stand in another order.

Functions: ``meteor``.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from earwitness.questions.parsing import clean, final_part

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


class _NoSynonyms:
    """Stands for WordNet where its data are not installed: no word has a synonym."""

    def synsets(self, word: str) -> list[Any]:
        return []


def meteor(text: str, reference: str) -> float | None:
    """METEOR of a caption against its one reference, in [0, 1]; None where nltk is not installed.

    Differs from the source: WordNet synonyms count only where nltk's data are installed already (they are never
    downloaded); without them the score is the same or lower, never higher. Words are compared in lower case without
    marks (a tokenizer that keeps marks as words scores slightly higher where both texts end in a full stop).
    """
    if not available():
        return None
    score, synonyms = _scorer()
    said, wanted = _words(text), _words(reference)
    return float(score([wanted], said, wordnet=synonyms)) if said and wanted else 0.0


def available() -> bool:
    """Whether nltk is installed (``pip install 'earwitness[caption]'``)."""
    return importlib.util.find_spec("nltk") is not None


def synonyms_known() -> bool:
    """Whether WordNet's data are installed: a METEOR with synonyms is not comparable with one without."""
    return available() and not isinstance(_scorer()[1], _NoSynonyms)


def _words(text: str) -> Iterable[str]:
    return _WORD.findall(clean(final_part(text)[0]))


@lru_cache(maxsize=1)
def _scorer() -> tuple[Callable[..., float], Any]:
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import meteor_score

    try:
        wordnet.ensure_loaded()
    except LookupError:
        return meteor_score, _NoSynonyms()
    return meteor_score, wordnet
