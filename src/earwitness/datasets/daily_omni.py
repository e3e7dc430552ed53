"""Daily-Omni: audio-visual reasoning about everyday videos (arXiv 2505.17862); 1,197 questions on 684 videos.

Format: a JSON list of ``{"Question", "Choice": ["A. ...", ...], "Answer": "B", "video_id", "Type",
"content_parent_category", "content_fine_category", "video_category", "video_duration": "30s"}`` (qa.json of the
dataset). Read in the project's evaluation code (Lliar-liar/Daily-Omni, test_model/Qwen2.5-Omni/testmodel.py, code
GPL-3.0; no licence of the data stated there); the file itself is only documented here. Media:
``Videos/<video_id>/<video_id>_video.mp4``.

Prompt: the one of that script. Figures: accuracy by Type, duration, category.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from earwitness.datasets.multiple_choice import BOTH, choice
from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together, with_letters
from earwitness.records import Clip, Question

SOURCE = "Lliar-liar/Daily-Omni, qa.json"
LICENCE = "GPL-3.0 (code); data not stated"
PROMPT = (
    "Your task is to accurately answer multiple-choice questions based on the given video.\n"
    "Select the single most accurate answer from the given choices.\n"
    "Question: {question}\nChoices: {options}\n"
    "Your answer should be a capital letter representing your choice: A, B, C, or D. Don't generate any other text."
)


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of qa.json. Raises QuestionFileError for rows that cannot be read."""

    def make(row: Row) -> Iterator[Question]:
        video, options = row.text("video_id"), row.texts("Choice")
        # The script prints the choices as a Python list.
        shown = PROMPT.replace("{options}", str(list(with_letters(options))).replace("{", "{{").replace("}", "}}"))
        yield choice(
            row, id=row.where.split()[1], clip=video, task=row.maybe("Type"), question=row.text("Question"),
            options=options, answer=row.text("Answer"), prompt=shown, evidence=BOTH,
            tags={
                "duration": row.maybe("video_duration"), "category": row.maybe("content_parent_category"),
                "sub_category": row.maybe("content_fine_category"), "video": row.maybe("video_category"),
            },
        )  # fmt: skip

    questions = gather(path, rows(path, "daily_omni"), make)
    ids = dict.fromkeys(q.clip for q in questions)
    return together(
        path, media, name="daily_omni", source=SOURCE, licence=LICENCE, questions=questions,
        wanted={i: [Wanted(f"Videos/{i}/{i}_video"), Wanted(i)] for i in ids}, clips={i: Clip(id=i) for i in ids},
    )  # fmt: skip
