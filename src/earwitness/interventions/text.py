"""Interventions on the words: does a false caption, or a long preamble, pull the model off what it perceives?

The clip stays as it is and the right answer with it; only the prompt changes. Three operators, all pure and
deterministic:

- ``misleading_caption`` puts a false caption before the prompt;
- ``long_context`` puts many random common words before or after it;
- ``filled`` writes out the filler that an item has as data, just before it is asked;
- ``with_none_option`` lets a multiple choice be declined, which is the only right answer when the asked
  modality is absent.

Source: "Some Modalities Are More Equal Than Others" (arXiv 2511.22826), Table 2, Figure 20, appendix J.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, get_args

import msgspec
import numpy as np

from earwitness.records import NONE_OF_THE_ABOVE, Item

Position = Literal["before", "after"]

# Common English words that name no object, sound, colour or answer, so that the filler argues for no option.
_WORDS = tuple(
    """
    about above across action after again against age agree almost along already also although always among
    amount another answer any appear area around ask away back basis because become before begin behind believe
    below between beyond both bring build business call cannot care case cause central certain chance change
    choice choose clear close collect common company compare complete concern condition consider contain
    continue control correct cost could course create current daily decide degree describe design detail
    develop differ direct discuss during each easy effect effort either else end enough enter entire equal
    even event ever every exact example except expect explain extend fact fail fair fall family far few figure
    final find first follow force form former forward free full further future gain general give given goal
    group grow growth half happen hard help here high history hold hope hour however idea imagine important
    include increase indeed inside instead interest issue item join keep kind know large last later law
    lead learn least leave less level likely limit line list little local long look lose low main make manner
    many market matter maybe mean measure member mention method middle might minute moment month more most move
    much must name nature near need never new next normal notice number offer often once only open option order
    other outside over own page part pass past pattern people perhaps period person place plan point policy
    position possible power present price problem process produce program progress provide public purpose
    question quite range rate rather reach ready real reason receive recent record reduce region relate remain
    report require rest result return right rule same save season second section seem select sense separate
    series serve set several shape share should show side simple since single situation size small social
    society some soon sort space special spend stage standard start state stay step still story strong study
    subject such suggest support sure system take task term test than their then theory there these thing think
    those though thought through time today together total toward trade turn type under unit until usual
    value various very view wait week well what when where whether which while whole why wide will within
    without work world would write year
    """.split()
)


def misleading_caption(prompt: str, false_class: str, truths: Sequence[str] = ()) -> str:
    """The prompt with a false caption before it: ``Video_caption: Vehicle. <prompt>``.

    The wording is that of arXiv 2511.22826, Figure 20. ``truths`` are the clip's visual and audio classes:
    the false class must be neither.

    Raises
    ------
    ValueError
        For an empty class, or one that is true of the clip.
    """
    name = false_class.strip()
    if not name:
        raise ValueError("misleading_caption: the false class is empty; give a class that is not in the clip")
    if name.casefold() in {t.strip().casefold() for t in truths}:
        raise ValueError(
            f"misleading_caption: {name!r} is true of this clip ({', '.join(truths)}), so the caption would "
            "not mislead; pick a class that is neither seen nor heard"
        )
    return f"Video_caption: {name}. {prompt}"


def long_context(
    prompt: str,
    tokens: int,
    position: Position = "before",
    seed: int = 0,
    *,
    count: Callable[[str], int] | None = None,
    avoid: Sequence[str] = (),
) -> str:
    """The prompt with ``tokens`` random common words before or after it (a blank line between).

    Parameters
    ----------
    tokens : length of the filler. In words, and exact, by default. With ``count`` (text -> number of tokens,
        for instance a tokenizer's), in those tokens: never more, and short by less than one word's tokens.
    position : "before" or "after" the prompt.
    seed : the same seed gives the same words; a longer filler of one seed begins with the shorter one.
    avoid : options of the question; their words are left out of the filler.

    Raises
    ------
    ValueError
        For a negative length, another position, or when ``avoid`` leaves no words.

    Differs from the source: arXiv 2511.22826 says both "append" and "prepend" and "random tokens"; here the
    position is an argument, and the tokens are whole words so that the text survives any tokenizer.
    """
    if tokens < 0:
        raise ValueError(f"long_context: {tokens} tokens; give 0 or more (the paper uses 10,000)")
    if position not in get_args(Position):
        raise ValueError(f"long_context: position {position!r}; give 'before' or 'after' (the prompt)")
    words = _words(frozenset(w.casefold() for option in avoid for w in option.replace("_", " ").split()))
    if tokens == 0:
        return prompt
    text = _text(tokens, seed, words)
    if count is not None:  # every word is at least one token in any tokenizer met so far, so these suffice
        text = _fit(text.split(), tokens, count, list(words))
    return f"{text}\n\n{prompt}" if position == "before" else f"{prompt}\n\n{text}"


def filled(item: Item) -> Item:
    """The item as it is asked: its prompt with the filler's words, none of them a word of its options."""
    if item.filler is None:
        return item
    wanted = item.filler
    avoid = [c for c in item.choices if c != NONE_OF_THE_ABOVE]
    prompt = long_context(item.prompt, wanted.words, wanted.position, wanted.seed, avoid=avoid)
    return msgspec.structs.replace(item, prompt=prompt, filler=None)


@lru_cache(maxsize=16)
def _words(forbidden: frozenset[str]) -> tuple[str, ...]:
    words = tuple(w for w in _WORDS if w not in forbidden)
    if not words:
        raise ValueError("long_context: avoid leaves no word to fill with; pass only the question's options")
    return words


@lru_cache(maxsize=16)
def _text(tokens: int, seed: int, words: tuple[str, ...]) -> str:
    """The same for all clips of an audit: drawn once."""
    picks = np.random.default_rng([seed, 0x10C]).integers(0, len(words), size=tokens)
    return " ".join(words[int(i)] for i in picks)


def _fit(filler: list[str], tokens: int, count: Callable[[str], int], words: list[str]) -> str:
    """The longest start of the filler within ``tokens`` by ``count``, then one word that makes it exact."""
    low, high = 0, len(filler)
    while low < high:
        middle = (low + high + 1) // 2
        if count(" ".join(filler[:middle])) <= tokens:
            low = middle
        else:
            high = middle - 1
    text = " ".join(filler[:low])
    if count(text) == tokens:
        return text
    for word in words:
        longer = f"{text} {word}" if text else word
        if count(longer) == tokens:
            return longer
    return text


def with_none_option(choices: Sequence[str]) -> tuple[str, ...]:
    """The choices with "None of the above" as the last one (once, however often this is called).

    Raises
    ------
    ValueError
        For no choices at all.
    """
    if isinstance(choices, str) or not choices:
        raise ValueError(f"with_none_option: got {choices!r}; give the options as a sequence of at least one")
    if any(c.strip().casefold() == NONE_OF_THE_ABOVE.casefold() for c in choices):
        return tuple(choices)
    return (*choices, NONE_OF_THE_ABOVE)
