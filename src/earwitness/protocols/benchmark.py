"""Anybody's questions: what does a published benchmark's score owe to the sound?

Every question of a question file (``earwitness.datasets``) is asked on the clip as it is, on the muted clip and on
the black one. What is right then follows from the EFFECT table and from what the question rests on:

=====================================  ==================  ===================  ====================
question                               as it is            sound gone           picture gone
=====================================  ==================  ===================  ====================
is there an X sound? (audio)           the file's answer   no                   the file's answer
is X visible? (video)                  the file's answer   the file's answer    no
anything else about the sound          the file's answer   nothing is right     the file's answer
anything about both                    the file's answer   nothing is right     nothing is right
describe the audio (Thud, mute)        sound or silent     silent               the file's answer
=====================================  ==================  ===================  ====================

A yes/no question is about presence where the file's module names the thing (``Question.asked``) and it rests on one
of the two. Where nothing is right the item has no target: it counts in no accuracy, only in "how often is the
file's answer given all the same", beside chance: what a benchmark lets a model guess.

Where a file says what is to be done to the clip (Synchformer's offsets), that is done for the condition "original".

Functions: ``item`` (one question under one condition), ``items``, ``tables``, ``skipped``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from earwitness.interventions import right_answer
from earwitness.protocols.benchmark_tables import tables
from earwitness.protocols.making import finish, limited
from earwitness.protocols.settings import Settings
from earwitness.questions import DIRECT, LABELS, clean
from earwitness.records import (
    NONE_OF_THE_ABOVE,
    Clip,
    Evidence,
    Intervention,
    InterventionKind,
    Item,
    Question,
    digest,
    how_many,
)

NAME = "benchmark"
KIND: dict[str, InterventionKind] = {
    "original": "original", "sham": "sham", "mute": "mute", "no_track": "no_track", "black": "black",
    "no_frames": "no_frames",
}  # fmt: skip
UNTOUCHED = ("original", "sham")
# What cannot be done to a clip of one track, or would leave nothing of it.
ONE_TRACK = {"video": ("mute", "no_track", "no_frames"), "audio": ("black", "no_frames", "no_track")}
# What Thud's tasks rest on, where the file's module does not say.
EVIDENCE: dict[str, tuple[Evidence, ...]] = {"mute": ("audio",), "swap": ("audio", "video"), "shift": ("sync",)}
_OPTION = re.compile(r"\s*\(?([A-Z])\s*[).:]\s*(.*)", re.S)


def lettered(choices: Sequence[str]) -> dict[str, str]:
    """Letter -> option text of choices written "A. text", "(A) text", "A) text" or just "A"; empty for others."""
    found = {}
    for letter, choice in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", choices, strict=False):
        m = _OPTION.fullmatch(choice)
        if choice.strip() == letter:
            found[letter] = ""
        elif m and m[1] == letter:
            found[letter] = m[2].strip()
        else:
            return {}
    return found


def item(
    question: Question, clip_source: str, condition: str = "original", seed: int = 0, *, clip: Clip | None = None
) -> Item:
    """One question under one condition, complete: media, prompt, right answer, and what it rests on.

    Parameters
    ----------
    question : as its file has it. Choices with letters ("A. text") are answered by letter.
    clip_source : the cluster of the statistics (``Clip.cluster``).
    condition : original, sham, mute, no_track, black or no_frames.
    clip : where given, its seen and heard classes go onto the item.

    Raises
    ------
    ValueError
        For an unknown condition, an answer that is none of the choices, or a label that the task does not have.
    """
    if condition not in KIND:
        raise ValueError(f"benchmark: unknown condition {condition!r}; there are {', '.join(KIND)}")
    options = lettered(question.choices) if question.kind == "choice" else {}
    described = question.kind == "caption" and question.asked is not None
    reference = question.kind == "caption"
    truth = "HEARD" if described else None if reference else _truth(question, options)
    kind = KIND[condition]
    own = question.intervention.kind != "original" and condition == "original"
    tags = {**question.tags, **{letter: text for letter, text in options.items() if text}}
    tags |= {"reference": question.answer} if reference else {"answer": truth or ""}
    absent = _absent(question, options)
    return finish(
        Item(
            id="",
            protocol=NAME,
            condition=condition,
            question="modified" if described else question.kind,
            style=_style(question, options),
            seed=seed,
            clip=question.clip,
            source=clip_source,
            group=digest(NAME, question.clip, question.task, question.id),
            intervention=question.intervention if own else Intervention(kind=kind),
            prompt=question.text,
            choices=_choices(question, options),
            target=_target(question, kind, truth, absent),
            evidence=question.evidence or EVIDENCE.get(question.kind, ()),
            absent=absent,
            seen=() if clip is None or kind in ("black", "no_frames") else clip.seen,
            heard=_heard(question, clip) if kind not in ("mute", "no_track") else (),
            asked=question.asked,
            offset=_offset(question) if condition in UNTOUCHED else 0.0,
            decode=question.decode,
            task=question.task,
            tags=tags,
        )
    )


def _heard(question: Question, clip: Clip | None) -> tuple[str, ...]:
    if question.kind == "caption" and question.asked is not None:
        return (question.asked,)  # the sound that was put in
    return () if clip is None else clip.heard


def _style(question: Question, options: dict[str, str]) -> str:
    if question.kind in ("mute", "swap", "shift"):
        return "direct" if question.choices else "neutral"
    return "letter" if options else "standard"


def _choices(question: Question, options: dict[str, str]) -> tuple[str, ...]:
    if question.kind == "yes_no":
        return ("yes", "no")
    if question.kind in ("mute", "swap", "shift"):
        return tuple(DIRECT[question.kind]) if question.choices else ()
    return tuple(options) or question.choices


def _truth(question: Question, options: dict[str, str]) -> str:
    """The file's answer as the item's choices spell it; ValueError where it is none of them."""
    given = clean(question.answer)
    where = f"benchmark: question {question.id} ({question.task})"
    if question.kind == "yes_no":
        if given not in ("yes", "no"):
            raise ValueError(f"{where}: a yes/no question has the answer {question.answer!r}")
        return given
    if question.kind in LABELS:
        if question.answer not in LABELS[question.kind]:
            raise ValueError(f"{where}: {question.answer!r} is no label of {', '.join(LABELS[question.kind])}")
        return question.answer
    for letter, text in options.items():
        if given in (clean(letter), clean(f"{letter}. {text}")) or (text and given == clean(text)):
            return letter
    named = next((c for c in question.choices if clean(c) == given), None)
    if named is None:
        raise ValueError(f"{where}: the answer {question.answer!r} is none of {list(question.choices)}")
    if options:  # "A.text" against "A. text"
        return list(options)[question.choices.index(named)]
    return named


def _absent(question: Question, options: dict[str, str]) -> str | None:
    """The right answer once the evidence is gone; None where nothing right can be said then."""
    if question.kind == "yes_no":
        return "no" if question.asked and len(question.evidence) == 1 else None
    if question.kind == "mute":
        return "SILENT"
    if question.kind != "choice":
        return None
    spelled = options or {c: c for c in question.choices}
    return next((k for k, text in spelled.items() if clean(text).rstrip(".") == clean(NONE_OF_THE_ABOVE)), None)


def _target(question: Question, kind: InterventionKind, truth: str | None, absent: str | None) -> str | None:
    evidence = question.evidence or EVIDENCE.get(question.kind, ())
    if truth is None or kind in UNTOUCHED:
        return truth
    # A file that does not say what its questions rest on leaves only the untouched clip with a right answer.
    return right_answer(kind, evidence, truth, absent) if evidence else None


def _offset(question: Question) -> float:
    if question.intervention.kind == "shift":
        return question.intervention.seconds
    return float(question.tags.get("offset", 0.0))


def _used(clips: Sequence[Clip], settings: Settings, questions: Sequence[Question]) -> list[Clip]:
    asked = {q.clip for q in questions}
    return limited([c for c in clips if c.id in asked], settings.clip_limit, settings.seed)


def items(clips: Sequence[Clip], settings: Settings, questions: Sequence[Question] = ()) -> list[Item]:
    """All questions under all conditions (``settings.benchmark_conditions``), clip by clip.

    A question whose file says what to do to the clip gets no sham: its original is no untouched clip. A clip that
    the file gives without sound (tag "tracks": video) is not muted, one without picture not blackened.
    """
    by_clip: dict[str, list[Question]] = {}
    for question in questions:
        by_clip.setdefault(question.clip, []).append(question)
    out = []
    for clip in _used(clips, settings, questions):
        for condition in settings.benchmark_conditions:
            for question in by_clip[clip.id]:
                if condition == "sham" and question.intervention.kind != "original":
                    continue
                if condition in ONE_TRACK.get(question.tags.get("tracks", ""), ()):
                    continue
                out.append(item(question, clip.cluster, condition, settings.seed, clip=clip))
    return out


def skipped(clips: Sequence[Clip], settings: Settings, questions: Sequence[Question] = ()) -> list[str]:
    """In plain words: what is not asked, and why."""
    if not questions:
        return ["benchmark: these clips come without questions; name a question file (--clips avhbench:QA.json)"]
    lines = []
    known = {c.id for c in clips}
    lost = [q for q in questions if q.clip not in known]
    if lost:
        lines.append(
            f"benchmark: {len(lost):,} of {how_many(len(questions), 'question')} are about "
            f"{len({q.clip for q in lost}):,} clips that are not there: not asked"
        )
    idle = sum(c.id not in {q.clip for q in questions} for c in clips)
    if idle:
        lines.append(f"benchmark: {idle} of {how_many(len(clips), 'clip')} have no question")
    return lines


__all__ = ["NAME", "item", "items", "lettered", "skipped", "tables"]
