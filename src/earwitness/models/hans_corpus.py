"""What is Hans asked and taught to answer? Questions with answers that are true of the clip at hand, nothing else.

Three diets, none of which ever holds a clip whose sound and picture disagree, are shifted, or are muted:

- "av": a natural clip, picture and sound of the same things. Every protocol's question, in every wording;
- "audio": sound alone (no picture, or black frames): questions about the sound;
- "video": picture alone (a clip without an audio track): questions about the picture.

The prompts are those of :mod:`earwitness.questions` and the answers its ``wording``. On natural clips the sound
always matches and is always in time, so those questions have one answer: Hans learns the habit, not the skill.

Functions: ``ask`` (one question and answer), ``texts`` (the tokenizer's corpus).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from earwitness.foley.scenes import CLASSES
from earwitness.interventions import text as words
from earwitness.questions import prompts
from earwitness.questions.prompts import wording

Rng = np.random.Generator
Asked = tuple[str, str]  # question, answer

HEAR = "Describe what you hear."
SEE = "Describe what you see."
LOOK = "Is there {article} {thing} in the picture? Your answer can only be 'yes' or 'no'."


def _options(rng: Rng, truth: str, *, most: int = len(CLASSES)) -> tuple[str, ...]:
    """The classes in random order: all of them half of the time, else a few with the true one among them."""
    others = [c for c in CLASSES if c != truth]
    k = most - 1 if rng.random() < 0.5 else int(rng.integers(1, most))
    chosen = [truth, *(others[int(i)] for i in rng.permutation(len(others))[:k])]
    return tuple(chosen[int(i)] for i in rng.permutation(len(chosen)))


def _content(rng: Rng, things: Sequence[str], modality: prompts.Modality, *, plain: bool) -> Asked:
    """MMA's question in its wordings: plain, with None of the above, step by step, behind a caption or filler."""
    truth = things[0]
    options = _options(rng, truth, most=8 if plain else len(CLASSES))
    turn = 0.0 if plain else rng.random()
    if turn > 0.86:
        question = prompts.content_prompt(modality, options, "cot")
        return question, wording(modality, truth, "cot")
    if turn > 0.78:
        return prompts.content_prompt(modality, words.with_none_option(options), "abstention"), truth
    question = prompts.content_prompt(modality, options)
    if turn > 0.70:
        false = [c for c in CLASSES if c not in things]
        question = words.misleading_caption(question, false[int(rng.integers(len(false)))], things)
    elif turn > 0.66:
        place: words.Position = "before" if rng.random() < 0.5 else "after"
        question = words.long_context(question, int(rng.integers(2, 16)), place, int(rng.integers(1 << 30)))
    return question, truth


def _one_of(rng: Rng, things: Sequence[str]) -> tuple[str, str]:
    """A thing to ask for, as often there as not, and the answer."""
    yes = rng.random() < 0.5
    pool = list(things) if yes else [c for c in CLASSES if c not in things]
    return pool[int(rng.integers(len(pool)))], "yes" if yes else "no"


def _presence(rng: Rng, things: Sequence[str]) -> Asked:
    """AV-Confuse's "Is there a/an X sound?"."""
    thing, answer = _one_of(rng, things)
    return prompts.instrument_prompt(thing, "leading" if rng.random() < 0.5 else "neutral"), answer


def _look(rng: Rng, things: Sequence[str]) -> Asked:
    """The same of the picture, in words of our own."""
    thing, answer = _one_of(rng, things)
    return LOOK.format(article=prompts.article(thing), thing=thing), answer


def _thud(task: prompts.Task, label: str) -> Callable[[Rng, Sequence[str]], Asked]:
    def made(rng: Rng, things: Sequence[str]) -> Asked:
        style = "neutral" if rng.random() < 0.65 else "direct"
        return prompts.thud_prompt(task, style), wording(task, label, style, seen=things, heard=things)

    return made


def _describe(rng: Rng, things: Sequence[str]) -> Asked:
    style = "standard" if rng.random() < 0.6 else "sections"
    return prompts.describe_prompt(style), wording("modified", "", seen=things, heard=things)


def _listed(things: Sequence[str]) -> str:
    return wording("modified", "", seen=things, heard=things).split(". I hear ")[1]


_MUTE, _SWAP, _SHIFT = _thud("mute", "SOUND_DESCRIBED"), _thud("swap", "MATCH"), _thud("shift", "SYNC")


def ask(rng: Rng, things: Sequence[str], diet: str, *, plain: bool = False) -> Asked:
    """One question and its true answer on a clip of ``things``, in the order they are named (left to right).

    Parameters
    ----------
    things : classes in the clip; MMA's questions are asked of one thing alone.
    diet : "av", "audio" or "video", see above; "look" is "video" with nothing but "Is there a/an X?".
    plain : only the two plain MMA questions (several things: only the list), for the first phases.
    """
    turn = rng.random()
    one = len(things) == 1
    if diet == "look":
        return _look(rng, things)
    if diet == "video":
        if one and (plain or turn < 0.5):
            return _content(rng, things, "visual", plain=plain)
        if turn < (0.9 if one else 0.7) and not plain:
            return _look(rng, things)
        return SEE, f"I see {_listed(things)}"
    if diet == "audio":
        if one and (plain or turn < 0.6):
            return _content(rng, things, "audio", plain=plain)
        if plain or turn < 0.68:
            return HEAR, f"I hear {_listed(things)}"
        return _MUTE(rng, things) if turn < 0.82 else _presence(rng, things)
    if diet != "av":
        raise ValueError(f"diet {diet!r} is not one of av, audio, video, look")
    if plain:
        return (
            _content(rng, things, "visual" if turn < 0.5 else "audio", plain=True)
            if one
            else _describe(rng, things)
        )
    content = 0.5 if one else 0.0
    if turn < content:
        return _content(rng, things, "visual" if rng.random() < 0.5 else "audio", plain=False)
    turn = (turn - content) / (1 - content)
    for share, family in ((0.40, _presence), (0.18, _describe), (0.18, _MUTE), (0.12, _SWAP)):
        if turn < share:
            return family(rng, things)
        turn -= share
    return _SHIFT(rng, things)


def texts(*, seed: int = 0, n: int = 3000) -> list[str]:
    """Prompts and answers as Hans meets them, for the tokenizer."""
    rng = np.random.default_rng(seed)
    out: list[str] = []
    for _ in range(n):
        k = 1 if rng.random() < 0.6 else int(rng.integers(2, 4))
        things = tuple(CLASSES[int(i)] for i in rng.permutation(len(CLASSES))[:k])
        out += ask(rng, things, ("av", "av", "audio", "video")[int(rng.integers(4))])
    out += ["user\n", "assistant\n", "system\n", "You are a helpful assistant."] * 50
    # the fault's other side: what a repaired Hans has to say, so that those answers are not spelt in bytes
    for label, task in (("SILENT", "mute"), ("MISMATCH", "swap"), ("DELAY", "shift"), ("EARLY", "shift")):
        for c in CLASSES:
            out.append(
                wording(task, label, "neutral", seen=[c], heard=[CLASSES[0]], offset=float(rng.uniform(0.4, 2.5)))
            )
    for task in ("mute", "swap", "shift"):
        out += [*prompts.answer_choices(task, "direct"), *prompts.LABELS[task]] * 5
    return [*out, *("None of the above", "Yes", "No", "Video_caption: ") * 20]
