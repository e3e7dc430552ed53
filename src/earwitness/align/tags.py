"""An answer in three parts: what is heard, what is seen, what follows (RL-CoMM, arXiv 2511.10059, Table 2).

::

    <a-think>I hear a bell.</a-think><v-think>I see a drum.</v-think><answer>bell</answer>

A part is what stands between its opening and its closing tag, where each of the two stands in the text exactly
once, white space around it left out. A part that is opened twice, never closed or empty is not there (""): nothing
is guessed about which of two answers is meant. Whether the *format* is right is a stricter question: the three
parts in this order, none of them empty, and nothing else in the text.

Which tokens make up a part is read off the tokenizer's character offsets. Looking for the token ids of ``<answer>``
fails: byte-pair merges run across ``><``, and a tag has other ids next to other letters.

Functions: ``policy_prompt``, ``question_of``, ``written``; ``parts``, ``well_formed``, ``answer_of``; ``owners``,
``answer_span``; ``answer_mask``, ``token_offsets``, ``overlapping``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

NAMES = ("a-think", "v-think", "answer")

# RL-CoMM, Table 2, word for word.
POLICY = (
    "You should see clearly the given video and listen clearly to the given audio. Your tasks are: (1) Reasoning "
    "what you hear regarding the question {question} in <a-think></a-think>; (2) Reasoning what you see regarding "
    "the question in <v-think></v-think>; (3) Output the correct answer in <answer></answer>; The output format "
    "should be as follows: <a-think>...</a-think><v-think>...</v-think><answer>...</answer>"
)

Span = tuple[int, int]  # characters, end not included

_ANY_TAG = re.compile(r"</?(?:" + "|".join(NAMES) + r")>")
_WHOLE = re.compile(r"\s*" + r"\s*".join(rf"<{name}>(.*?)</{name}>" for name in NAMES) + r"\s*", re.S)


class Parts(NamedTuple):
    """The three parts of an answer, "" where one is not there."""

    heard: str
    seen: str
    answer: str


def policy_prompt(question: str) -> str:
    """What the model under training is asked (Table 2)."""
    return POLICY.format(question=question)


def question_of(prompt: str) -> str:
    """The question in a ``policy_prompt``; any other prompt is the question itself."""
    before, after = POLICY.split("{question}")
    if prompt.startswith(before) and prompt.endswith(after):
        return prompt[len(before) : len(prompt) - len(after)]
    return prompt


def written(heard: str, seen: str, answer: str) -> str:
    """The three parts as one text in the format. Raises ValueError for an empty part, or one that holds a tag."""
    for name, part in zip(NAMES, (heard, seen, answer), strict=True):
        if not part.strip():
            raise ValueError(f"the part <{name}> is empty: the format has all three")
        if _ANY_TAG.search(part):
            raise ValueError(f"the part <{name}> holds a tag itself: {part[:60]!r}")
    return "".join(f"<{n}>{p.strip()}</{n}>" for n, p in zip(NAMES, (heard, seen, answer), strict=True))


def _span(text: str, name: str) -> Span | None:
    """Where a part stands, white space around it left out; None where it does not stand there exactly once."""
    begin, end = f"<{name}>", f"</{name}>"
    if text.count(begin) != 1 or text.count(end) != 1:
        return None
    start, stop = text.index(begin) + len(begin), text.index(end)
    inner = text[start:stop]  # empty where the end comes first
    if not inner.strip() or _ANY_TAG.search(inner):
        return None
    start += len(inner) - len(inner.lstrip())
    return start, start + len(inner.strip())


def parts(text: str) -> Parts:
    """The parts of an answer, each read by itself: a wrong format may still hold an answer."""
    spans = [_span(text, name) for name in NAMES]
    return Parts(*("" if s is None else text[s[0] : s[1]] for s in spans))


def well_formed(text: str) -> bool:
    """Whether the text is the three parts in order, each once and not empty, with nothing else but white space.

    Strict on purpose: eq. 2 rewards "format is correct" and does not say what that is.
    """
    return all(parts(text)) and _WHOLE.fullmatch(text) is not None


def answer_of(text: str) -> str:
    """What the text answers: the part <answer> where there is any tag, the whole text where there is none."""
    return parts(text).answer if _ANY_TAG.search(text) else text.strip()


def owners(text: str) -> list[str]:
    """For each character the part that it belongs to ("a-think", "v-think", "answer"), "" for tags and the rest."""
    out = [""] * len(text)
    for name in NAMES:
        span = _span(text, name)
        if span is not None:
            out[span[0] : span[1]] = [name] * (span[1] - span[0])
    return out


def answer_span(text: str) -> Span:
    """The characters of the answer: the part <answer>, or the whole text where there are no tags at all.

    Raises ValueError where the text is empty, or has tags but not one <answer> that is opened and closed once.
    """
    if _ANY_TAG.search(text):
        span = _span(text, "answer")
    else:
        start = len(text) - len(text.lstrip())
        span = (start, start + len(text.strip())) if text.strip() else None
    if span is None:
        raise ValueError(
            f"no answer in {text[:80]!r}: <answer>...</answer> must stand there once, with something in it (is the "
            "text cut off?)"
        )
    return span


def overlapping(offsets: Sequence[Span], span: Span) -> list[bool]:
    """Which tokens hold a character of ``span``: one that begins in the tag and ends in the answer is one of them.

    ``offsets``: start and end of each token in the text; tokens without characters (0 wide) belong to nothing.
    Raises ValueError where no token does: offsets and span are then not of one text.
    """
    start, end = span
    mask = [max(a, start) < min(b, end) for a, b in offsets]
    if not any(mask):
        raise ValueError(f"no token holds characters {start} to {end} (are offsets and span of one text?)")
    return mask


def answer_mask(tokenizer: Any, text: str) -> tuple[list[int], list[bool]]:
    """The text's token ids (no special tokens added), and which of them hold the answer.

    Raises ValueError where the text has no answer (``answer_span``), or the tokenizer knows no offsets.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"{type(tokenizer).__name__} gives no character offsets (no fast tokenizer) to find an answer's tokens "
            "by; use token_offsets on its ids"
        )
    made = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    offsets = [(int(a), int(b)) for a, b in made["offset_mapping"]]
    return [int(i) for i in made["input_ids"]], overlapping(offsets, answer_span(text))


def token_offsets(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[Span]]:
    """The text of given ids, and each token's characters in it: for sampled answers, which may be spelled
    otherwise.

    A model may write "ans" "wer" where the tokenizer would write "answer"; its log-probs are of the former. Each
    beginning of the ids is decoded, so this is for answers, not for prompts. A character of several tokens belongs
    to all of them.
    """
    offsets: list[Span] = []
    said = ""
    for n in range(1, len(ids) + 1):
        longer = str(tokenizer.decode(list(ids[:n]), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        start = len(said.rstrip("\ufffd"))  # what is not yet a whole character is written as a replacement
        offsets.append((min(start, len(longer)), len(longer)))
        said = longer
    return said, offsets
