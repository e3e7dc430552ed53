"""Video-MME: general video understanding (arXiv 2405.21075); for the table that shows no alignment tax.

Format: Parquet, JSON or JSONL rows ``{"video_id", "duration": "short", "domain", "sub_category", "url", "videoID",
"question_id", "task_type", "question", "options": ["A. ...", ...], "answer": "A"}``; 2,700 questions on 900 videos.
Only documented here: read in lmms-eval (tasks/videomme/utils.py) and in rows that other projects quote. Licence:
academic research only. Media: ``<videoID>.mp4``.

Prompt: the one for frames without subtitles. The file does not say what a question rests on, so no answer is right
without sound or picture; the file's answer given without sound is shown beside chance. Figures: accuracy by task,
duration, domain.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from earwitness.datasets.multiple_choice import choice
from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together
from earwitness.records import Clip, Question

SOURCE = "lmms-lab/Video-MME"
LICENCE = "academic research only"


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of a Video-MME file. Raises QuestionFileError for rows that cannot be read."""

    def make(row: Row) -> Iterator[Question]:
        yield choice(
            row, id=row.maybe("question_id") or row.where.split()[1], clip=row.text("videoID"),
            task=row.maybe("task_type"), question=row.text("question"), options=row.texts("options"),
            answer=row.text("answer"),
            tags={
                "duration": row.maybe("duration"), "domain": row.maybe("domain"),
                "sub_category": row.maybe("sub_category"),
            },
        )  # fmt: skip

    questions = gather(path, rows(path, "video_mme"), make)
    ids = dict.fromkeys(q.clip for q in questions)
    return together(
        path, media, name="video_mme", source=SOURCE, licence=LICENCE, questions=questions,
        wanted={i: [Wanted(i)] for i in ids}, clips={i: Clip(id=i) for i in ids},
    )  # fmt: skip
