"""Is this answer right? One function from item and answer to score, for reports and as a reward.

What an answer says comes from :mod:`earwitness.questions`; whether it is right, from ``item.target`` (set by the
EFFECT table when the item was made). Labels by protocol and question:

==========  ===================  ===========================================================================
protocol    question             label
==========  ===================  ===========================================================================
mma         visual, audio        the option as spelled in ``item.choices``
thud        mute                 SILENT, SOUND_DESCRIBED, VISUAL_ONLY
thud        swap                 MATCH, MISMATCH, VISUAL_ONLY
thud        shift                SYNC, DELAY, EARLY, DESYNC_NO_DIRECTION, with ``offset``
av_confuse  muted                yes, no
av_confuse  modified             HEARD, NOT_HEARD (is the replaced sound named among what is heard?), ``recall``
benchmark   yes_no               yes, no
benchmark   choice               the letter, where letters are offered; else the option as spelled there
benchmark   caption              DESCRIBED, with METEOR as ``recall``: neither right nor wrong
benchmark   mute, swap, shift,   as above
            modified
==========  ===================  ===========================================================================

and UNPARSED, REFUSED, ERROR for each. Those three, and items without a target, are unscored (``correct`` None):
counted and bounded in tables, never guessed.

Functions: ``score``; ``reward`` (the same judgement as a number, where unscored earns nothing).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from earwitness.questions import (
    DIRECT,
    Verdict,
    clean,
    judge_mute,
    judge_shift,
    judge_swap,
    parse_choice,
    parse_letter,
    parse_yes_no,
    refuses,
    said,
    same,
    sound_words,
)
from earwitness.questions.captions import meteor
from earwitness.records import REFUSED, UNPARSED, Answer, Item, Score

ERROR = "ERROR"
UNSCORED = (UNPARSED, REFUSED, ERROR)


def score(item: Item, answer: Answer) -> Score:
    """The label that an answer gives to its item, and whether it is the right one.

    A failed or empty answer is ERROR: an empty string is a failure of the harness, not an opinion.

    Raises ValueError where the answer belongs to another item, or nothing knows how to read the question.
    """
    if answer.item != item.id:
        raise ValueError(f"score: the answer is to item {answer.item!r}, not to {item.id!r}")
    if answer.error is not None or answer.text is None or not answer.text.strip():
        return Score(item=item.id, group=item.group, condition=item.condition, label=ERROR, correct=None)
    verdict, found = _READERS.get(item.question, _options)(item, answer.text)
    correct = None if verdict.label in UNSCORED or item.target is None else _same(verdict.label, item.target)
    return Score(
        item=item.id, group=item.group, condition=item.condition, label=verdict.label, correct=correct,
        offset=verdict.offset, recall=found, said_seen=verdict.said_seen, said_heard=verdict.said_heard,
    )  # fmt: skip


def reward(item: Item, text: str) -> float:
    """1 for a right answer, else 0: wrong, unparsed, refused and empty alike earn nothing.

    Raises ValueError for an item without a target: nothing right can be said there, so nothing can be learned.
    """
    if item.target is None:
        raise ValueError(
            f"reward: item {item.id} has no target (its evidence is gone and abstaining is not offered)"
        )
    return 1.0 if score(item, Answer(item=item.id, model="", text=text)).correct is True else 0.0


def _same(label: str, target: str) -> bool:
    return clean(label) == clean(target)


Read = tuple[Verdict, float | None]


def _options(item: Item, text: str) -> Read:
    if not item.choices:
        raise ValueError(f"score: item {item.id} asks {item.question!r} of {item.protocol!r} and offers no choices")
    if {clean(c) for c in item.choices} == {"yes", "no"}:
        return _yes_no(item, text)
    modality = {"visual": "visual", "audio": "audio"}.get(item.question)
    label = parse_choice(text, item.choices, modality=modality, reasoned=item.style == "cot")  # type: ignore[arg-type]
    return Verdict(label), None


def _yes_no(item: Item, text: str) -> Read:
    return Verdict(parse_yes_no(text, item.asked)), None


def _names(item: Item) -> tuple[str, ...]:
    return (*item.seen, *item.heard)


def _mute(item: Item, text: str) -> Read:
    return judge_mute(text, _names(item)), None


def _swap(item: Item, text: str) -> Read:
    return judge_swap(text, _names(item)), None


def _shift(item: Item, text: str) -> Read:
    if item.style != "direct":
        return judge_shift(text), None
    letter = parse_letter(text, tuple(DIRECT["shift"]))
    verdict = judge_shift(text)
    if letter not in DIRECT["shift"]:  # "The audio is delayed." is an answer too
        return (verdict if letter == UNPARSED else Verdict(letter)), None
    label = DIRECT["shift"][letter]
    if verdict.label not in (*UNSCORED, "DESYNC_NO_DIRECTION", label):
        return Verdict(UNPARSED), None  # the letter says one thing, the words behind it another
    return Verdict(label, verdict.offset), None


def _modified(item: Item, text: str) -> Read:
    """Does the answer name the sound that was put in, among what it says it hears?

    ``recall`` is the share of the classes really heard that it names as heard, so that a bird seen is no bird
    heard.
    """
    body = clean(text)
    seen, heard = said(body, _names(item))
    wanted = {same(name) for name in item.heard}
    found = len(wanted & set(heard)) / len(wanted) if wanted else None
    if not heard and not seen and not sound_words(body):
        return Verdict(REFUSED if refuses(body) else UNPARSED), None
    label = "HEARD" if wanted and wanted <= set(heard) else "NOT_HEARD"
    return Verdict(label, said_seen=seen, said_heard=heard), found


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def _choice(item: Item, text: str) -> Read:
    """A letter, or the option that is named: "B", "B. drum" and "the drum" are one answer.

    Where a letter stands there, it counts; the words behind it explain. Counts may be digits ("2" is "two").
    """
    if item.style != "letter":
        if any(n in item.choices for n in _NUMBERS):
            text = re.sub(r"\b(?:10|\d)\b(?![.,]\d)", lambda m: _NUMBERS[int(m.group())], text)
        return Verdict(parse_choice(text, item.choices)), None
    letter = parse_letter(text, item.choices)
    texts = {item.tags[c]: c for c in item.choices if item.tags.get(c)}
    if letter != UNPARSED or len({clean(t) for t in texts}) < len(item.choices):
        return Verdict(letter), None
    named = parse_choice(text, tuple(texts))
    return Verdict(texts.get(named, named)), None


def _caption(item: Item, text: str) -> Read:
    return Verdict("DESCRIBED"), meteor(text, item.tags.get("reference", ""))


_READERS: dict[str, Callable[[Item, str], Read]] = {
    "mute": _mute,
    "swap": _swap,
    "shift": _shift,
    "muted": _yes_no,
    "modified": _modified,
    "yes_no": _yes_no,
    "choice": _choice,
    "caption": _caption,
}
