"""Sentences in which the right and the wrong answer are both said, so that only the facts tell them apart.

Thud's released preference pairs can all be told apart by one fixed phrase, without any media ("Therefore the
correct answer is" against "Based on this, the answer is"): a model may learn the phrase and nothing else. Here a
chosen answer and its rejected one are one sentence with other facts, and every sentence is chosen on one clip and
rejected on its twin. Each sentence is read back by the rules of :mod:`earwitness.questions` as what it says.

Functions: ``mute``, ``swap``, ``shift``, ``described``; each takes ``turn``, which sentence to use.
"""

from __future__ import annotations

from collections.abc import Sequence

from earwitness.questions.prompts import DIRECT, article, plain, wording

MUTE = (
    "The audio track holds {what}.",
    "In this clip I hear {what}.",
    "Listening to the audio, I notice {what}.",
    "What can be heard is {what}.",
)
SWAP = (
    "I see {seen} and I hear {heard}, so the sound {verdict} the picture.",
    "On screen there is {seen}; the audio has the sound of {heard}, which {verdict} the picture.",
    "The visuals show {seen} and the audio is the sound of {heard}: what is heard {verdict} what is seen.",
)
# The first is Thud's own (Appendix D): "The visible fall occurs at ~5.0s, while the impact sound is heard at ..."
SHIFT = (
    "The visible {event} occurs at ~{seen:.1f}s, while the {event} sound is heard at ~{heard:.1f}s, {verdict}.",
    "The {event} is seen at ~{seen:.1f}s and its sound is heard at ~{heard:.1f}s, {verdict}.",
    "On screen the {event} happens at about {seen:.1f}s; its sound is heard at about {heard:.1f}s, {verdict}.",
)
SHIFT_VERDICT = {
    "SYNC": "so the audio and video are synchronized",
    "DELAY": "so the audio is delayed by about {gap:.1f}s and the two are not synchronized",
    "EARLY": "so the audio is early by about {gap:.1f}s and the two are not synchronized",
}
DESCRIBED = (
    "I see {seen}. I hear {heard}.",
    "The video shows {seen}. The audio has the sound of {heard}.",
    "What is seen is {seen}; what is heard is {heard}.",
)
# Things that are not counted: "the sound of rain", not "of a rain".
UNCOUNTED = frozenset(
    "wind rain thunder music speech water applause laughter singing silence traffic fire static noise".split()
)


def thing(name: str) -> str:
    """A class name with its article, where it takes one: "a bell", "an electric drill", "rain"."""
    words = plain(name)
    bare = words.split(",")[0].split(" ")[-1]
    if bare in UNCOUNTED or bare.endswith(("ing", "s")) or "," in words:
        return words
    return f"{article(words)} {words}"


def listed(things: Sequence[str]) -> str:
    """ "a bell", "a bell and a drum", "a bell, a drum and rain"."""
    said = [thing(t) for t in things]
    return said[0] if len(said) == 1 else ", ".join(said[:-1]) + " and " + said[-1]


def mute(heard: Sequence[str], style: str, turn: int) -> str:
    """What is heard; nothing heard: silence."""
    if style == "direct":
        return _word("mute", "SOUND_DESCRIBED" if heard else "SILENT")
    if style == "plain":
        return wording("mute", "SOUND_DESCRIBED" if heard else "SILENT", heard=heard)
    what = f"the sound of {listed(heard)}" if heard else "no sound at all"
    return MUTE[turn % len(MUTE)].format(what=what)


def swap(seen: Sequence[str], heard: Sequence[str], matches: bool, style: str, turn: int) -> str:
    """What is seen and heard, and whether they belong together."""
    if style == "direct":
        return _word("swap", "MATCH" if matches else "MISMATCH")
    if style == "plain":
        return wording("swap", "MATCH" if matches else "MISMATCH", seen=seen, heard=heard)
    verdict = "matches" if matches else "does not match"
    return SWAP[turn % len(SWAP)].format(seen=listed(seen), heard=listed(heard), verdict=verdict)


def shift(event: str, seen: float, offset: float, style: str, turn: int) -> str:
    """When an event is seen and heard (seconds): so the sound is late (``offset`` > 0), early, or in step.

    The times are said to a tenth of a second and the gap is theirs, so that no sentence contradicts itself.
    """
    label = "SYNC" if offset == 0 else "DELAY" if offset > 0 else "EARLY"
    if style == "direct":
        return _word("shift", label)
    if style == "plain":
        return wording("shift", label, offset=offset)
    at = round(seen, 1)
    heard = round(at + offset, 1)
    verdict = SHIFT_VERDICT[label].format(gap=abs(heard - at))
    return SHIFT[turn % len(SHIFT)].format(event=plain(event), seen=at, heard=heard, verdict=verdict)


def described(seen: Sequence[str], heard: Sequence[str], turn: int) -> str:
    """What is seen, and what is heard."""
    return DESCRIBED[turn % len(DESCRIBED)].format(seen=listed(seen), heard=listed(heard))


def _word(task: str, label: str) -> str:
    return next(word for word, says in DIRECT[task].items() if says == label)
