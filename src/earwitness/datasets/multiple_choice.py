"""Questions on videos answered by letter: Daily-Omni, OmniVideoBench, WorldSense, AVQA, Video-MME, LVBench.

Each has a module of its own that says what its rows mean; here is what they share: a question answered by letter,
rows of videos that hold lists of questions, and Thud's general prompt (arXiv 2605.16403, Appendix), which is
Video-MME's own without subtitles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from earwitness.datasets.question_file import (
    QuestionFile,
    Row,
    Wanted,
    gather,
    letter_of,
    rows,
    together,
    with_letters,
)
from earwitness.records import Clip, Evidence, Question

DECODE = 16
PROMPT = (
    "Select the best answer to the following multiple-choice question based on the video. "
    "Respond with only the letter (A, B, C, or D) of the correct option.\n"
    "{question}\n{options}\nThe best answer is:"
)
BOTH: tuple[Evidence, ...] = ("audio", "video")
_LISTED = re.compile(r"^\s*\(([A-Z])\)\s*(.+)$", re.M)


def choice(
    row: Row, *, id: str, clip: str, task: str, question: str, options: Sequence[str], answer: str,
    prompt: str = PROMPT, evidence: tuple[Evidence, ...] = (), tags: Mapping[str, str] | None = None,
    decode: int = DECODE,
) -> Question:  # fmt: skip
    """A question answered by letter; ``prompt`` holds {question} and {options}.

    Raises ValueError where the answer is none of the options.
    """
    spelled = with_letters(options)
    text = prompt.format(question=question, options="\n".join(spelled))
    return Question(
        id=id, clip=clip, task=task, kind="choice", text=text,
        choices=spelled, answer=letter_of(answer, spelled), evidence=evidence,
        tags={k: v for k, v in (tags or {}).items() if v}, decode=decode,
    )  # fmt: skip


def listed(text: str) -> tuple[str, list[str]]:
    """A question whose options stand in it, "(A) ...\\n(B) ...": the question alone, and the options."""
    options = [f"{letter}. {option.strip()}" for letter, option in _LISTED.findall(text)]
    return _LISTED.sub("", text).strip(), options


def minutes(seconds: float) -> str:
    """A band of durations, for tables: "up to 1 min", "1 to 5 min", "5 to 10 min", "over 10 min"."""
    for limit, name in ((60, "up to 1 min"), (300, "1 to 5 min"), (600, "5 to 10 min")):
        if seconds <= limit:
            return name
    return "over 10 min"


def by_video(
    path: Path, media: Path | None, name: str, key: str, one: Callable[[Row, Row, int], Question], *,
    source: str, licence: str,
) -> QuestionFile:  # fmt: skip
    """A file with a row a video and its questions in a list: ``one(video, question, number)`` makes each.

    Raises QuestionFileError for videos that cannot be read.
    """

    def make(row: Row) -> Iterator[Question]:
        asked = row.fields.get(key)
        if not isinstance(asked, list) or not all(isinstance(q, dict) for q in asked):
            raise ValueError(f"{key} wants a list of objects, got {asked!r}")
        for n, fields in enumerate(asked, 1):
            try:
                yield one(row, Row(row.where, fields), n)
            except ValueError as error:
                raise ValueError(f"question {n}: {error}") from None

    questions = gather(path, rows(path, name), make)
    ids = dict.fromkeys(q.clip for q in questions)
    return together(
        path, media, name=name, source=source, licence=licence, questions=questions,
        wanted={i: [Wanted(i)] for i in ids}, clips={i: Clip(id=i) for i in ids},
    )  # fmt: skip
