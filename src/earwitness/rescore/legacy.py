"""What the published scorers make of a text, each from its description; to show what they do, not to use them.

====================  ===========================================================================================
name                  rule, and where it stands
====================  ===========================================================================================
av-confuse            right where the lower-cased text contains the truth or is contained in it
                      (AVConfuseBench/test_script/qwen_omni_7b.py of rikeilong/AudioVisual_Confusion). With the
                      truth always "no", "Yes, there is a piano sound", "I do not know" and "" are right.
thud-default-synced   a JSON object in the text, else key phrases of being out of step, else in step; letters: the
                      first A, B or C anywhere in the text, else in step (eval_dpo_sync.py, for letters
                      eval_vggsoundsync.py, of rakanWen/wvs-code). A request that crashed is "", so: in step.
lmms-eval-default-a   option letters anywhere in the text, else option texts in answers of more than five words;
                      the last of several; A where nothing is found (lmms_eval/tasks/worldsense/utils.py of
                      EvolvingLMMs-Lab/lmms-eval)
cmm                   right where the truth occurs in the first five characters, so "None", "Not sure" are "no"
                      (evaluation/calculate_score.py of DAMO-NLP-SG/CMM)
avcd                  right where "yes" or "no" occurs anywhere and the truth occurs anywhere, so "Yes, I notice"
                      is "no" as well (videollama2/eval/eval_acc.py of kaistmm/AVCD)
mad                   yes where yes, true, correct or affirmative stands as a word, else no where no, false,
                      incorrect or negative does, else the first word; rows that begin with "ERROR:" leave the
                      denominator (qwen-omni/score.py of top-yun/MAD)
====================  ===========================================================================================

Functions: ``legacy`` (right, wrong, or None: left out of the denominator); ``PARSERS`` names them, with their rule.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from earwitness.questions import clean
from earwitness.records import Item


class Parser(NamedTuple):
    """A published rule: which questions it is for, what it counts as right, and in words."""

    fits: Callable[[Item], bool]
    right: Callable[[Item, str], bool | None]
    rule: str


def truth(item: Item) -> str:
    """The file's truth as the item's choices spell it."""
    return item.target or item.tags.get("answer", "")


def legacy(name: str, item: Item, raw: str) -> bool | None:
    """Whether the published code of that name counts a text as right; None where it leaves it out.

    Raises ValueError for an unknown name.
    """
    if name not in PARSERS:
        raise ValueError(f"there is no parser {name!r}; there are {', '.join(PARSERS)}")
    return PARSERS[name].right(item, raw)


def _closed(item: Item) -> bool:
    return {clean(c) for c in item.choices} == {"yes", "no"}


def _av_confuse(item: Item, raw: str) -> bool:
    text, gold = raw.lower(), truth(item)
    return text in gold or gold in text


def _cmm(item: Item, raw: str) -> bool:
    return truth(item) in raw.strip().lower()[:5]


def _avcd(item: Item, raw: str) -> bool:
    text = raw.strip().lower()
    return ("yes" in text or "no" in text) and truth(item) in text


_MAD = (("yes", "yes|true|correct|affirmative"), ("no", "no|false|incorrect|negative"))
_MAD_WORDS = {"y": "yes", "true": "yes", "1": "yes", "correct": "yes"}
_MAD_WORDS |= {"n": "no", "false": "no", "0": "no", "incorrect": "no"}


def _mad(item: Item, raw: str) -> bool | None:
    if raw.startswith("ERROR:"):
        return None
    return mad_reading(raw) == truth(item)


def mad_reading(raw: str) -> str:
    """MAD's reading of an answer: "yes", "no", or its first word."""
    text = raw.strip().lower()
    for label, words in _MAD:
        if re.search(rf"\b(?:{words})\b", text):
            return label
    word = text.split()[0] if text else ""
    for _ in range(2):  # their code normalises what it has normalised
        word = re.sub(r"[^\w\s]$", "", word)
        word = _MAD_WORDS.get(word, word)
        word = "yes" if "yes" in word else "no" if "no" in word else word
    return word


def default_a(raw: str, options: Mapping[str, str]) -> str:
    """lmms-eval's letter for an answer; never none. ``options``: letter -> text."""
    text = raw
    for mark in ",.!?;:'":
        text = text.strip(mark)
    text = f" {text} "
    found = [letter for letter in options if letter in text]
    places = [text.rfind(f"({letter})") for letter in found]
    # The test for " A " follows in their code and can find nothing that the letter alone did not.
    if not found and len(text.split()) > 5:
        found = [letter for letter, words in options.items() if words.lower() in text.lower()]
        places = [text.lower().rfind(options[letter].lower()) for letter in found]
    return found[places.index(max(places))] if found else "A"


def _lettered(item: Item) -> bool:
    return item.style == "letter" and item.question == "choice"


def _default_a(item: Item, raw: str) -> bool:
    # An option whose text is not in the file cannot be met in an answer.
    return default_a(raw, {c: item.tags.get(c) or "\0" for c in item.choices}) == truth(item)


_OUT = (
    "not synchronized", "not aligned", "desync", "mismatch", "misalign", "not in sync", "out of sync",
    "clearly not", "not well aligned",
)  # fmt: skip
_LATE = (
    "audio delayed", "audio is delayed", "audio lags", "audio comes after", "sound comes after",
    "sound is heard later", "sound follows",
)  # fmt: skip
_EARLY = (
    "audio early", "audio is early", "audio leads", "audio comes before", "sound comes before", "audio precedes",
    "sound is heard before", "sound precedes",
)  # fmt: skip
_TIMES = re.compile(r"(?:at|around|about)\s+(\d+\.?\d*)\s*s")
_OBJECTS = (
    re.compile(r"```(?:json)?\s*(\{.*?\})\s*```", re.S),
    re.compile(r"(\{[^{}]*\"synced\"[^{}]*\})", re.S),
    re.compile(r"(\{.*?\})", re.S),
)


def default_synced(raw: str) -> str:
    """Thud's label for a free answer: SYNC, DELAY, EARLY or DESYNC_NO_DIRECTION; SYNC where nothing is said."""
    said = _said_in_json(raw)
    if said is not None:
        return said
    text = raw.lower()
    if not any(words in text for words in _OUT):
        return "SYNC"  # said to be in step, or not said at all: their code does not tell the two apart
    if any(words in text for words in _LATE):
        return "DELAY"
    if any(words in text for words in _EARLY):
        return "EARLY"
    times = [float(t) for t in _TIMES.findall(text)]
    if len(times) > 1 and times[0] != times[1]:  # the first time is taken for the picture, the second for the sound
        return "DELAY" if times[1] > times[0] else "EARLY"
    return "DESYNC_NO_DIRECTION"


def _said_in_json(raw: str) -> str | None:
    for pattern in _OBJECTS:
        if not (found := pattern.search(raw)):
            continue
        try:
            said = json.loads(found[1])
            float(said.get("offset_sec", 0.0))  # a wrong number makes their code try the next pattern
        except (ValueError, TypeError, AttributeError):
            continue
        synced = said.get("synced")
        if isinstance(synced, str):
            synced = synced.lower() in ("true", "yes", "1")
        if synced:
            return "SYNC"
        way = str(said.get("direction", "none")).lower().strip()
        return {"delay": "DELAY", "early": "EARLY"}.get(way, "DESYNC_NO_DIRECTION")
    return None


def _synced(item: Item, raw: str) -> bool:
    if item.style == "direct":
        letter = re.search("[ABC]", raw.strip().upper())
        label = {"A": "SYNC", "B": "DELAY", "C": "EARLY"}[letter[0]] if letter else "SYNC"
    else:
        label = default_synced(raw)
    return label == truth(item)


PARSERS: dict[str, Parser] = {
    "av-confuse": Parser(
        _closed,
        _av_confuse,
        "right where the text contains the truth, or the truth the text: '' and 'not' are 'no'",
    ),
    "thud-default-synced": Parser(
        lambda item: item.question == "shift", _synced, "in step where nothing is said, or nothing came"
    ),
    "lmms-eval-default-a": Parser(_lettered, _default_a, "A where no option is found, or nothing came"),
    "cmm": Parser(_closed, _cmm, "right where the truth stands in the first five characters"),
    "avcd": Parser(_closed, _avcd, "right where 'yes' or 'no' and the truth occur anywhere in the text"),
    "mad": Parser(_closed, _mad, "'correct' anywhere is yes; rows that begin with ERROR: leave the denominator"),
}
