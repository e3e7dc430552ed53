"""What an answer earns: RL-CoMM's three rewards (arXiv 2511.10059, eqs. 2 to 4), and two of our own.

========  ========================================================================================================
format    eq. 2: 1 where the format is right (``tags.well_formed``)
arr       eq. 3, audio reasoning rationality: 1 where the answer is right and what is said to be heard is what the
          reference heard, S(o1 | o_ref) > omega
avc       eq. 4, audio-visual correlation: I(o1 | o2), and 1 more where the answer is right; 0 without an answer
correct   1 where the answer is right, format or not
abstains  where nothing right can be said (the evidence is gone, no option says so): 1 for declining to answer
========  ========================================================================================================

RL-CoMM's reward is r = format + arr + avc. Right is what :func:`earwitness.scoring.reward` says of the answer's
part, as in an audit: by whole words after normalisation, so that "one" is not in "none", and nothing said is never
right. S and I are similarities given by the caller (:mod:`earwitness.align.embedding`): row i's text with row i's
other text.

None is "does not apply", not 0: ``arr`` without a reference, ``correct``, ``arr`` and ``avc`` where the item has
no right answer, ``abstains`` where it has one. ``total`` leaves it out of the sum. All answers to a prompt share
item and reference, so that within a group None and 0 mean the same to the learner; in means over a data set they
do not: a reference that could not be made would count against the model.

Functions: ``format``, ``arr``, ``avc``, ``correct``, ``abstains`` (rows -> rewards), ``total``; ``for_trl`` and
``for_swift`` turn them into what these trainers call. Loads no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from earwitness import scoring
from earwitness.align.tags import answer_of, parts, well_formed
from earwitness.records import REFUSED, Answer, Item

OMEGA = 0.8  # RL-CoMM, "we define omega = 0.8"
NAMES = ("format", "arr", "avc", "correct", "abstains")
STEP_RR = ("format", "arr", "avc")  # RL-CoMM's reward is their sum

Similarity = Callable[[list[str], list[str]], list[float]]  # row i with row i; 1 = the same
Rewards = list[float | None]


class Row(NamedTuple):
    """One answer to be rewarded: what was asked, what was said, and the reference's reasoning ("" = none)."""

    item: Item
    text: str
    reference: str = ""


def format(rows: Sequence[Row]) -> Rewards:
    """RL-CoMM, eq. 2: 1 if the format is right, else 0."""
    return [1.0 if well_formed(row.text) else 0.0 for row in rows]


def right(item: Item, answer: str) -> bool:
    """Whether an answer, taken out of its tags, is the item's right one; an empty one never is.

    Raises ValueError for an item without a target.
    """
    if item.target is None:
        raise ValueError(f"item {item.id} has no target: there is no right answer to it")
    # to a question that is thought about aloud the tag says what is the answer
    text = f"<answer>{answer}</answer>" if item.style == "cot" else answer
    return scoring.reward(item, text) == 1.0


def arr(rows: Sequence[Row], similarity: Similarity, *, omega: float = OMEGA) -> Rewards:
    """RL-CoMM, eq. 3: 1 if S(o1 | o_ref) > omega and o3 = y, else 0; None without a reference or a right answer.

    S is asked for the rows alone that could earn it. Raises ValueError where it does not give one finite number a
    row.
    """
    out: Rewards = [None] * len(rows)
    heard: dict[int, str] = {}
    for n, row in enumerate(rows):
        if row.item.target is not None and row.reference.strip():
            said = parts(row.text)
            out[n] = 0.0
            if said.heard and right(row.item, said.answer):
                heard[n] = said.heard
    found = _similar(similarity, list(heard.values()), [rows[n].reference for n in heard])
    for n, s in zip(heard, found, strict=True):
        out[n] = 1.0 if s > omega else 0.0
    return out


def avc(rows: Sequence[Row], similarity: Similarity) -> Rewards:
    """RL-CoMM, eq. 4: 1 + I(o1 | o2) if o3 = y; I(o1 | o2) if there is another answer; 0 if there is none.

    I is clipped to [0, 1] (a cosine may be negative), and 0 where either thinking is missing. None where the item
    has no right answer. Raises ValueError where the similarity does not give one finite number a row.
    """
    out: Rewards = [None if row.item.target is None else 0.0 for row in rows]
    thought: dict[int, tuple[str, str]] = {}
    for n, row in enumerate(rows):
        said = parts(row.text)
        if row.item.target is None or not said.answer:
            continue
        out[n] = 1.0 if right(row.item, said.answer) else 0.0
        if said.heard and said.seen:
            thought[n] = (said.heard, said.seen)
    found = _similar(similarity, [h for h, _ in thought.values()], [s for _, s in thought.values()])
    for n, i in zip(thought, found, strict=True):
        out[n] = (out[n] or 0.0) + min(max(i, 0.0), 1.0)
    return out


def correct(rows: Sequence[Row]) -> Rewards:
    """1 for a right answer, else 0 (wrong, unreadable, refused, empty); None where the item has no right answer.

    The answer is the part <answer> where there are tags, else the whole text.
    """
    return [None if r.item.target is None else float(right(r.item, answer_of(r.text))) for r in rows]


def abstains(rows: Sequence[Row]) -> Rewards:
    """1 for declining to answer where nothing right can be said, else 0; None where there is a right answer.

    That answer may itself be an abstention ("None of the above", "no sound"): then it is ``correct`` that rewards
    it. Nothing said, or nothing readable, is not declining.
    """
    return [None if r.item.target is not None else float(_declines(r.item, answer_of(r.text))) for r in rows]


def _declines(item: Item, answer: str) -> bool:
    return scoring.score(item, Answer(item=item.id, model="", text=answer)).label == REFUSED


def _similar(similarity: Similarity, texts: list[str], others: list[str]) -> list[float]:
    if not texts:
        return []
    found = [float(s) for s in similarity(texts, others)]
    if len(found) != len(texts) or not all(map(math.isfinite, found)):
        raise ValueError(
            f"the similarity gave {len(found)} numbers for {len(texts)} rows of two texts, or one not finite (it "
            "must compare row i with row i, not all with all)"
        )
    return found


def total(columns: Sequence[Rewards], weights: Sequence[float] | None = None) -> Rewards:
    """The weighted sum of several rewards by row; None counts nothing, a row with None alone is None.

    As TRL's "sum_then_normalize". Raises ValueError where columns or weights differ in length.
    """
    by = [1.0] * len(columns) if weights is None else list(weights)
    if len(by) != len(columns) or len({len(c) for c in columns}) > 1:
        raise ValueError(f"{len(columns)} rewards of {[len(c) for c in columns]} rows, with {len(by)} weights")
    rows = [[(w, r) for w, r in zip(by, row, strict=True) if r is not None] for row in zip(*columns, strict=True)]
    return [sum(w * r for w, r in row) if row else None for row in rows]


def rewards(
    name: str, rows: Sequence[Row], similarity: Similarity | None = None, *, omega: float = OMEGA
) -> Rewards:
    """The reward of that name, of ``NAMES``.

    Raises ValueError where there is none, and where ``arr`` or ``avc`` are given no similarity.
    """
    plain = {"format": format, "correct": correct, "abstains": abstains}
    if name in plain:
        return plain[name](rows)
    if name not in NAMES:
        raise ValueError(f"there is no reward {name!r}; there are {', '.join(NAMES)}")
    if similarity is None:
        raise ValueError(
            f"the reward {name} compares texts and needs a similarity, such as sentence_similarity('words')"
        )
    return arr(rows, similarity, omega=omega) if name == "arr" else avc(rows, similarity)


@lru_cache(maxsize=4096)  # the answers of a group share one item
def _decoded(text: str) -> Item:
    try:
        return msgspec.json.decode(text, type=Item)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the column 'item' must hold items as JSON (records.Item): {error}") from None


def _text(completion: Any) -> str:
    """The text of a completion: a string, or TRL's list of messages, whose last one was said."""
    if isinstance(completion, str):
        return completion
    try:
        content = completion[-1]["content"]
    except (TypeError, KeyError, IndexError):
        content = None
    if not isinstance(content, str):
        raise ValueError(f"a completion must be a text or a list of messages, got {str(completion)[:80]!r}")
    return content


def _rows(completions: Sequence[Any], columns: Mapping[str, Any]) -> list[Row]:
    items, references = columns.get("item"), columns.get("reference")
    if items is None:
        raise ValueError(
            f"rewards need the data set's column 'item' (an item as JSON, or an Item); it has {sorted(columns)}"
        )
    if references is None:
        references = [""] * len(items)
    if not len(items) == len(references) == len(completions):
        raise ValueError(f"{len(completions)} completions, {len(items)} items and {len(references)} references")
    return [
        Row(i if isinstance(i, Item) else _decoded(i), _text(c), r or "")
        for i, c, r in zip(items, completions, references, strict=True)
    ]


def for_trl(name: str, similarity: Similarity | None = None, *, omega: float = OMEGA) -> Callable[..., Rewards]:
    """The reward as TRL's GRPOTrainer calls it: f(prompts, completions, completion_ids, **columns) -> rewards.

    Reads the data set's columns "item" (JSON of a :class:`records.Item`, or the Item) and "reference" (text, may be
    missing); other columns are passed by. Its ``__name__`` is what TRL logs it under. Raises ValueError for an
    unknown name or a missing similarity, at once; when called, for missing columns.
    """
    rewards(name, [], similarity)

    def reward(
        prompts: Sequence[Any] | None = None,
        completions: Sequence[Any] = (),
        completion_ids: Sequence[Any] | None = None,
        **columns: Any,
    ) -> Rewards:
        return rewards(name, _rows(completions, columns), similarity, omega=omega)

    reward.__name__ = reward.__qualname__ = name
    reward.__doc__ = f"The reward {name!r} of earwitness.align.rewards."
    return reward


def for_swift(name: str, similarity: Similarity | None = None, *, omega: float = OMEGA) -> type:
    """The reward as an ms-swift ORM: a class whose instances are called with (completions, **columns).

    In a plug-in file: ``from swift.rewards import orms; orms["earwitness_arr"] = for_swift("arr", similarity)``,
    then ``--external_plugins FILE --reward_funcs earwitness_arr``. ms-swift asks of an ORM that it is made with
    the trainer's arguments and can be called, not that it inherits from its class, so that none of it is imported
    here.
    """
    call = for_trl(name, similarity, omega=omega)

    class Reward:
        def __init__(self, args: Any = None, **kwargs: Any) -> None:
            self.args = args

        def __call__(self, completions: Sequence[Any], **columns: Any) -> Rewards:
            return call(completions=completions, **columns)

    Reward.__name__ = Reward.__qualname__ = f"earwitness_{name}"
    Reward.__doc__ = f"The reward {name!r} of earwitness.align.rewards, for ms-swift."
    return Reward
