"""What is asked, word for word.

Prompts are the published ones wherever the papers print them: MMA-Bench (arXiv 2511.22826, Figures 5, 20, 25),
Thud (arXiv 2605.16403, Appendix G), AV-ConfuseBench (arXiv 2511.10059, section 3). Where a paper prints none
(Thud's direct style, AV-Confuse's neutral style) the words are ours, and differ from the published prompt in one
thing only. Styles are never mixed in one table: a direct prompt tells the model what to doubt.

Functions
---------
``content_prompt``     MMA: which class is seen, or heard (standard, cot).
``thud_prompt``        Thud: mute, swap, shift (neutral, direct).
``instrument_prompt``  AV-Confuse, muted: is there a/an X sound (leading, neutral).
``describe_prompt``    AV-Confuse, modified: describe what you see and hear (standard, sections).
``answer_choices``     the words a closed question may be answered with.
``wording``            a plain answer that says a given label: for fake models, training targets and tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Modality = Literal["visual", "audio"]
Task = Literal["mute", "swap", "shift"]

# MMA-Bench, Figure 5.
CONTENT = "Which class best describes the *{modality} content* of this video? Options: {{{options}}}."
CONTENT_ENDING = " Answer using a single word or phrase."
# MMA-Bench, Figure 25. The trailing space is the paper's: the question follows.
CONTENT_COT = (
    "Think step by step about what the {modality} content shows. First provide your thinking process, then give "
    "the final answer in the format: Final Answer: <class>. "
)

# Thud, Appendix G.
MUTE = "Describe the audio you hear in this video."
SWAP = "Describe what you see in the video and what you hear in the audio."
SHIFT = (
    "Watch this video and listen to its audio carefully. Determine whether the audio and video tracks are "
    "synchronized. If they are not synchronized, identify the direction of the offset (audio delayed or audio "
    "early relative to video) and estimate the offset in seconds. Explain your reasoning."
)
# Thud, Appendix G, VGGSoundSync multiple choice.
SHIFT_CHOICE = (
    "Watch this video and listen to its audio carefully.\n"
    "Determine the synchronization status between the audio and video tracks.\n"
    "Select the best answer:\n\n"
    "A) The audio and video are synchronized.\n"
    "B) The audio is delayed (comes after the visual event).\n"
    "C) The audio is early (comes before the visual event).\n\n"
    "Answer with only the letter (A, B, or C)."
)
# Ours: the direct twins of MUTE and SWAP.
MUTE_DIRECT = (
    "Is there any sound in this video's audio track, or is it silent? Answer with one word: sound or silent."
)
SWAP_DIRECT = "Does the sound match what is shown in this video? Answer with one word: yes or no."

# AV-ConfuseBench, section 3 (audio-muted); the closing sentence stands in the released question file.
INSTRUMENT = "Is there {article} {thing} sound? Your answer can only be 'yes' or 'no'."
INSTRUMENT_LEADING = "This is a video of audio corruption where some instrument sound is muted. question: "
# AV-ConfuseBench, section 3 (audio-modified), and the format line of the released question file.
DESCRIBE = "Describe what you see and what you hear."
DESCRIBE_SECTIONS = (
    DESCRIBE + " The output format should be as follows: Based on the video...\nBased on the audio..."
)

MUTE_LABELS = ("SILENT", "SOUND_DESCRIBED", "VISUAL_ONLY")
SWAP_LABELS = ("MATCH", "MISMATCH", "VISUAL_ONLY")
SHIFT_LABELS = ("SYNC", "DELAY", "EARLY", "DESYNC_NO_DIRECTION")
LABELS: dict[str, tuple[str, ...]] = {"mute": MUTE_LABELS, "swap": SWAP_LABELS, "shift": SHIFT_LABELS}

# The closed answers of the direct style, and what each of them says.
DIRECT: dict[str, dict[str, str]] = {
    "mute": {"sound": "SOUND_DESCRIBED", "silent": "SILENT"},
    "swap": {"yes": "MATCH", "no": "MISMATCH"},
    "shift": {"A": "SYNC", "B": "DELAY", "C": "EARLY"},
}

STYLES: dict[str, tuple[str, ...]] = {
    "mma": ("standard", "abstention", "cot"),
    "thud": ("neutral", "direct"),
    "av_confuse": ("leading", "neutral"),
}


def _known(value: str, known: Sequence[str], what: str) -> str:
    if value not in known:
        raise ValueError(f"{what} {value!r} is not known; known: {', '.join(known)}")
    return value


def content_prompt(modality: Modality, choices: Sequence[str], style: str = "standard") -> str:
    """MMA's question on what is seen ("visual") or heard ("audio"), options in the order given.

    Styles: "standard" and "abstention" (the same words; the caller adds "None of the above" to the choices),
    "cot" (step by step, ends in "Final Answer: <class>").

    Raises ValueError on an unknown modality or style, and on fewer than two or repeated choices.

    Differs from the source: Figure 25 prints only the step-by-step part; we put Figure 5's question behind it
    and leave out "Answer using a single word or phrase", which would contradict it.
    """
    _known(modality, ("visual", "audio"), "modality")
    _known(style, STYLES["mma"], "MMA prompt style")
    if len(set(choices)) < 2 or len(set(choices)) != len(choices):
        raise ValueError(f"an MMA question needs two or more different choices, got {list(choices)}")
    question = CONTENT.format(modality=modality, options=", ".join(choices))
    if style == "cot":
        return CONTENT_COT.format(modality=modality) + question
    return question + CONTENT_ENDING


def thud_prompt(task: Task, style: str = "neutral") -> str:
    """Thud's prompt for a task: "neutral" as published, "direct" closed (shift: the published A/B/C form)."""
    _known(task, tuple(DIRECT), "Thud task")
    _known(style, STYLES["thud"], "Thud prompt style")
    neutral = {"mute": MUTE, "swap": SWAP, "shift": SHIFT}
    direct = {"mute": MUTE_DIRECT, "swap": SWAP_DIRECT, "shift": SHIFT_CHOICE}
    return (neutral if style == "neutral" else direct)[task]


def plain(name: str) -> str:
    """A class name as a person writes it: ``acoustic_guitar`` -> ``acoustic guitar``."""
    return " ".join(name.replace("_", " ").split()).lower()


def article(thing: str) -> str:
    """``a`` or ``an`` by the first letter, with the few sounds that the letter hides."""
    word = plain(thing).split(" ")[0]
    if word.startswith(("hour", "honest")):
        return "an"
    if word.startswith(("uni", "uku", "eu", "one", "use")):
        return "a"
    return "an" if word[:1] in set("aeiou") else "a"


def instrument_prompt(thing: str, style: str = "leading") -> str:
    """AV-Confuse's "Is there a/an X sound?": "leading" announces the corruption, as published."""
    _known(style, STYLES["av_confuse"], "AV-Confuse prompt style")
    if not plain(thing):
        raise ValueError("an instrument question needs the name of a thing, got an empty one")
    question = INSTRUMENT.format(article=article(thing), thing=plain(thing))
    return INSTRUMENT_LEADING + question if style == "leading" else question


def describe_prompt(style: str = "standard") -> str:
    """AV-Confuse's open question: "standard" as in the paper, "sections" with the released file's format line."""
    _known(style, ("standard", "sections"), "AV-Confuse description style")
    return DESCRIBE if style == "standard" else DESCRIBE_SECTIONS


def answer_choices(question: str, style: str) -> tuple[str, ...]:
    """The words a closed question may be answered with; empty for an open one (and for MMA's class lists)."""
    if style == "direct" and question in DIRECT:
        return tuple(DIRECT[question])
    return ("yes", "no") if question == "muted" else ()


def _listed(things: Sequence[str], fallback: str) -> str:
    names = [f"{article(t)} {plain(t)}" for t in things]
    if not names:
        return fallback
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def wording(
    question: str, label: str, style: str = "", *, seen: Sequence[str] = (), heard: Sequence[str] = (),
    offset: float | None = None,
) -> str:  # fmt: skip
    """A plain answer that says ``label`` to a question: what a fake model says, or a small one is taught to say.

    ``seen`` and ``heard`` are the classes that the answer should name, ``offset`` (seconds, > 0 = sound late)
    the one it should state. Parsing gives ``label`` back. MMA and AV-Confuse's closed questions are answered by
    the label itself; "modified" by a description of both streams.

    Raises ValueError where the label does not belong to the question.
    """
    if style == "cot":
        kind = "sounds" if question == "audio" else "looks"
        return f"The {question} content {kind} like {plain(label)}. Final Answer: {label}"
    if question == "modified":
        return f"I see {_listed(seen, 'a scene')}. I hear {_listed(heard, 'no sound')}."
    if question not in DIRECT:
        return label
    _known(label, LABELS[question], f"label of Thud's {question} question")
    if style == "direct":
        words = {says: word for word, says in DIRECT[question].items()}
        return words[_known(label, tuple(words), f"label of Thud's direct {question} question")]
    if question == "mute":
        return {
            "SILENT": "The audio is silent. I hear no sound.",
            "SOUND_DESCRIBED": f"I hear {_listed(heard, 'a sound')}.",
            "VISUAL_ONLY": f"The video shows {_listed(seen, 'a scene')}.",
        }[label]
    if question == "swap":
        sees, hears = _listed(seen, "a scene"), _listed(heard, "a sound")
        return {
            "MATCH": f"I see {sees} and I hear {hears}. The sound matches the picture.",
            "MISMATCH": f"I see {sees} but I hear {hears}. The sound does not match the picture.",
            "VISUAL_ONLY": f"The video shows {sees}.",
        }[label]
    by = "" if offset is None else f" by about {abs(offset):.1f} s"
    return {
        "SYNC": "The audio and video are synchronized.",
        "DELAY": f"Not synchronized: the audio is delayed{by}.",
        "EARLY": f"Not synchronized: the audio is early{by}.",
        "DESYNC_NO_DIRECTION": "The audio and video are not synchronized.",
    }[label]
