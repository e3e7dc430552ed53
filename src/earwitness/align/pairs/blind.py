"""What can be answered without looking or listening? Text-only answerers, and the sieve that uses them.

A question is asked with no media at all, its options in another order each time. It is dropped where more than
half of the tries are right. Of twins (one question, two clips, two right answers) a text-only answerer can get
one at the most, so they are dropped only where every one of them is answered.

Differs from the source (arXiv 2605.16403, section 2.3, "kept only where a text-only model fails"), which says
neither how often it asks nor in how many orders: with four options a single try lets a quarter through by luck.

Functions: ``sieve`` (pairs of units -> which to keep), ``asked_blind`` (any model as an answerer), ``words`` (one
that needs no model).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from earwitness.align.pairs.multiple_choice import TRIES, Blind, reordered
from earwitness.models import Model
from earwitness.questions import clean
from earwitness.questions.parsing import singular
from earwitness.records import Answer, Item, Media, Pair, digest
from earwitness.scoring import reward

FOLDS = 5
PRIOR = 0.5  # pseudo-counts of a word in right and in wrong options
RIDGE = 0.1
Features = NDArray[np.float64]
Keep = Callable[[Sequence[Sequence[Pair]]], list[bool]]


def sieve(blind: Blind, tries: int = TRIES) -> Keep:
    """Which units to keep: those of which at least one question is not answered without media.

    Raises ValueError where nothing at all was answered: a text-only model that fails would let everything through.
    """
    if tries < 1:
        raise ValueError(f"{tries} tries ask nothing")

    def keep(units: Sequence[Sequence[Pair]]) -> list[bool]:
        asked = [(p.id, reordered(p.item, n)) for unit in units for p in unit for n in range(tries)]
        said = blind([item for _, item in asked])
        if asked and not any(text.strip() for text in said):
            raise ValueError(f"the text-only model answered none of {len(asked)} questions: is it reachable?")
        right: dict[str, int] = {}
        for (name, item), text in zip(asked, said, strict=True):
            right[name] = right.get(name, 0) + int(bool(text.strip()) and reward(item, text) == 1.0)
        return [not all(right[p.id] > tries / 2 for p in unit) for unit in units]

    return keep


def asked_blind(model: Model) -> Blind:
    """A model asked with no media: text alone. A failed answer counts as none."""
    nothing = Media(None, None, None, model.view.rate, 0.0)

    def blind(items: Sequence[Item]) -> list[str]:
        # The question alone: what was done to the clip, and what is true of it, is nothing to tell it.
        bare = [msgspec.structs.replace(i, seen=(), heard=()) for i in items]
        if "streams" in model.abilities:
            pairs = ((i, nothing) for i in bare)
            answers = {a.item: a for a in model.stream(pairs)}  # type: ignore[attr-defined]
            return [_text(answers[i.id]) for i in bare]
        return [_text(a) for n in range(0, len(bare), 64) for a in _asked(model, bare[n : n + 64], nothing)]

    return blind


def _asked(model: Model, items: Sequence[Item], nothing: Media) -> list[Answer]:
    return model.answer(items, [nothing] * len(items))


def _text(answer: Answer) -> str:
    return "" if answer.error is not None or answer.text is None else answer.text


# --- words: what the options themselves give away ----------------------------------------------------------------


def words() -> Blind:
    """An answerer that learns from the other clips' questions which options tend to be right; no model.

    Each option has four features: the log-odds of its words in right against wrong options, the words that it
    shares with the question, its length against the other options', and its likeness to them (the option that the
    others are variations of). A conditional logit weighs them. Fitted on the questions of four fifths of the
    clips, it answers those of the rest.
    """

    def blind(items: Sequence[Item]) -> list[str]:
        folds = [int(digest("fold", i.clip), 16) % FOLDS for i in items]
        out = [""] * len(items)
        for fold in sorted(set(folds)):
            known = [i for i, f in zip(items, folds, strict=True) if f != fold] or list(items)
            odds = _odds(known)
            weights = _weights(_features(known, odds), [i.choices.index(str(i.target)) for i in known])
            mine = [n for n, f in enumerate(folds) if f == fold]
            best = _utility(_features([items[n] for n in mine], odds), weights).argmax(axis=1)
            for n, k in zip(mine, best, strict=True):
                out[n] = items[n].choices[int(k)]
        return out

    return blind


@lru_cache(maxsize=1 << 16)
def _words(text: str) -> frozenset[str]:
    return frozenset(singular(w) for w in re.findall(r"[^\W_]+", clean(text)))


def _odds(items: Sequence[Item]) -> dict[str, float]:
    """Log-odds of a word in the right options against the wrong ones."""
    counts: dict[str, list[float]] = {}
    for item in items:
        for letter in item.choices:
            for word in _words(item.tags[letter]):
                counts.setdefault(word, [PRIOR, 3 * PRIOR])[int(letter != item.target)] += 1
    return {word: float(np.log(3 * right / wrong)) for word, (right, wrong) in counts.items()}


def _features(items: Sequence[Item], odds: dict[str, float]) -> Features:
    """[items, options, 4]; options that an item has fewer of than others are NaN."""
    out = np.full((len(items), max(len(i.choices) for i in items), 4), np.nan)
    for n, item in enumerate(items):
        texts = [_words(item.tags[k]) for k in item.choices]
        asked = _words(item.tags.get("asked", ""))
        sizes = [len(item.tags[k]) for k in item.choices]
        mean = sum(sizes) / len(sizes)
        for k, text in enumerate(texts):
            like = [len(text & other) / max(1, len(text | other)) for j, other in enumerate(texts) if j != k]
            out[n, k] = (
                sum(odds.get(w, 0.0) for w in text),
                len(text & asked) / max(1, len(text)),
                math.log(max(1, sizes[k]) / max(1.0, mean)),
                sum(like) / max(1, len(like)),
            )
    return out


def _utility(x: Features, w: Features) -> Features:
    z = x @ w
    return np.where(np.isnan(z), -np.inf, z)


def _weights(x: Features, right: Sequence[int]) -> Features:
    """Of the conditional logit: maximum likelihood with a small ridge."""
    rows, filled = np.arange(len(x)), np.nan_to_num(x)

    def loss(w: Features) -> tuple[float, Features]:
        z = _utility(x, w)
        total = np.logaddexp.reduce(z, axis=1)
        share = np.exp(z - total[:, None])
        slope = (share[:, :, None] * filled).sum((0, 1)) - filled[rows, right].sum(0)
        return float((total - z[rows, right]).sum() + RIDGE * w @ w), slope + 2 * RIDGE * w

    found = minimize(loss, np.zeros(4), jac=True, method="L-BFGS-B")
    return np.asarray(found.x, np.float64)
