"""Music-AVQA: questions on what is seen and heard in music videos (CVPR 2022), and -R, its robust twin.

Format: a JSON list of ``{"video_id", "question_id", "type": "[\\"Audio-Visual\\", \\"Counting\\"]",
"question_content": "Is the <Object> in the video always playing?", "templ_values": "[\\"ukulele\\"]",
"question_deleted": 0, "anser": "yes"}``; "type" and "templ_values" are JSON within JSON, "anser" is the file's
spelling. Read whole: the test split of GeWu-Lab/MUSIC-AVQA (MIT), data/json_update (9,129 questions on 6,399
videos) and data/json (9,185). -R's files are only documented here: read in reml-group/MUSIC-AVQA-R's loading code
(no licence stated). Media: ``<video_id>.mp4``.

-R (arXiv 2404.12020; 211,572 rephrased test questions) comes as ``avqa-test-head.json``, ``-tail.json`` and
``-headtail.json``: give one file, or the folder for head and tail together. In a file that holds both, head is told
by the rule of its README: answers counted more than 1.2 times the mean of their question type.

Both are classification tasks of 42 answers. Asked of a language model: yes/no questions as such; for others the
answers that the file has for the same type are the choices to be told apart (not shown in the prompt), digits
counting as words. Prompt: the question and "Answer the question using a single word." (ours; none is published).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec

from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together
from earwitness.records import Clip, Evidence, Question

SOURCE = "GeWu-Lab/MUSIC-AVQA"
SOURCE_R = "reml-group/MUSIC-AVQA-R"
LICENCE = "MIT"
LICENCE_R = "not stated"
ENDING = " Answer the question using a single word."
HEAD = 1.2  # times the mean count of a type's answers
EVIDENCE: dict[str, tuple[Evidence, ...]] = {
    "Audio": ("audio",), "Visual": ("video",), "Audio-Visual": ("audio", "video"),
}  # fmt: skip
TYPES = {
    "Existential": "Exist", "Location": "Localis", "Counting": "Count", "Comparative": "Comp", "Temporal": "Temp",
}  # fmt: skip


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of one file, or of a folder's head and tail files. Raises QuestionFileError for bad rows."""
    files = [path]
    if path.is_dir():
        files = [f for f in sorted(path.glob("*.json")) if f.stem.endswith(("-head", "-tail"))]
        if not files:
            raise ValueError(f"{path}: no *-head.json and *-tail.json in it; name the question file")
    questions: list[Question] = []
    for file in files:
        split = next((s for s in ("head", "tail") if file.stem.endswith(f"-{s}")), "")
        found = gather(file, rows(file, "music_avqa"), _make)
        prefix = f"{split}." if len(files) > 1 else ""
        questions += [
            msgspec.structs.replace(q, id=prefix + q.id, tags={**q.tags, "split": split} if split else q.tags)
            for q in found
        ]
    robust = any(f.stem.endswith(("-head", "-tail", "-headtail")) for f in files)
    counts = {kind: Counter(q.answer for q in questions if q.task == kind) for kind in {q.task for q in questions}}
    asked = [_closed(q, counts[q.task], robust) for q in questions]
    ids = dict.fromkeys(q.clip for q in asked)
    home = path / "questions.json" if path.is_dir() else path
    return together(
        home, media, name="music_avqa_r" if robust else "music_avqa", source=SOURCE_R if robust else SOURCE,
        licence=LICENCE_R if robust else LICENCE, wanted={i: [Wanted(i)] for i in ids},
        clips={i: Clip(id=i) for i in ids}, questions=asked,
    )  # fmt: skip


def _make(row: Row) -> Iterator[Question]:
    if row.maybe("question_deleted") in ("1", "True"):
        return
    kinds = _inner(row, "type")
    if len(kinds) != 2 or kinds[0] not in EVIDENCE or kinds[1] not in TYPES:
        raise ValueError(f"type wants [modality, type] of {list(EVIDENCE)} and {list(TYPES)}, got {kinds}")
    text = filled(row.text("question_content"), _inner(row, "templ_values"))
    yield Question(
        id=row.maybe("question_id") or row.where.split()[1],
        clip=row.text("video_id"),
        task=f"{kinds[0]} {TYPES[kinds[1]]}",
        kind="choice",
        text=text + ENDING,
        answer=row.text("anser").lower(),
        evidence=EVIDENCE[kinds[0]],
        tags={"modality": kinds[0], "type": TYPES[kinds[1]]},
        decode=16,
    )


def _inner(row: Row, key: str) -> list[str]:
    value = row.fields.get(key)
    if isinstance(value, str):
        try:
            value = json.loads(value or "[]")
        except json.JSONDecodeError:
            raise ValueError(f"{key} wants a list written as text, got {value!r}") from None
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{key} wants a list, got {value!r}")
    return [str(v) for v in value]


def filled(text: str, values: list[str]) -> str:
    """A question with its <blanks> filled in order. Raises ValueError where blanks and values do not match."""
    blanks = re.findall(r"<[^<>]+>", text)
    if blanks and len(blanks) != len(values):
        raise ValueError(f"templ_values has {len(values)} values for {len(blanks)} blanks in {text!r}")
    left = iter(values)
    return re.sub(r"<[^<>]+>", lambda _: next(left), text)


def _closed(question: Question, answers: Counter[str], robust: bool) -> Question:
    """The question with its choices, and head or tail where the file does not say."""
    tags = question.tags
    if robust and "split" not in tags:
        head = answers[question.answer] > HEAD * answers.total() / len(answers)
        tags = {**tags, "split": "head" if head else "tail"}
    if question.answer in ("yes", "no"):
        return msgspec.structs.replace(question, kind="yes_no", tags=tags)
    others = tuple(sorted(a for a in answers if a not in ("yes", "no")))
    return msgspec.structs.replace(question, choices=others, tags=tags)
