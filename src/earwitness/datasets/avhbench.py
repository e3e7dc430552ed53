"""AVHBench: does the picture make the model hear things, or the sound make it see things? (arXiv 2410.18325)

Format: a JSON list of ``{"video_id", "task", "text", "label"}``; four tasks. "Video-driven Audio Hallucination"
asks "Is the X making sound in the audio?", "Audio-driven Video Hallucination" "Is the X visible in the video?",
"AV Matching" whether both fit, "AV Captioning" for one sentence. Read whole: the 6,408 rows in kaistmm/AVCD
(json/QA.json; that repository is Apache-2.0, AVHBench's own states no licence). Videos are on the authors' drive:
``videos/<video_id>.mp4``.

Prompts: yes/no questions end in " Answer yes or no.", as AVCD asks them (videollama2/inference); captions as they
stand. Figures: accuracy, precision, recall, F1, Yes % from one matrix; METEOR for captions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together
from earwitness.records import Clip, Evidence, Question

SOURCE = "kaist-ami/AVHBench; questions as in kaistmm/AVCD, json/QA.json"
LICENCE = "Apache-2.0 (kaistmm/AVCD); AVHBench states none"
ENDING = " Answer yes or no."
EVIDENCE: dict[str, tuple[Evidence, ...]] = {
    "Video-driven Audio Hallucination": ("audio",),
    "Audio-driven Video Hallucination": ("video",),
    "AV Matching": ("audio", "video"),
    "AV Captioning": ("audio", "video"),
}
# What a question asks for: only of those is "no" right once the evidence is gone.
_THING = re.compile(r"Is (?:the )?(.+?) (?:making sound in the audio|visible in the video)\?")


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of QA.json (or of one task's file). Raises QuestionFileError for rows that cannot be read."""

    def make(row: Row) -> Iterator[Question]:
        task, text, label = row.text("task"), row.text("text"), row.text("label")
        if task not in EVIDENCE:
            raise ValueError(f"task {task!r} is not known; known: {', '.join(EVIDENCE)}")
        caption = task == "AV Captioning"
        if not caption and label.lower() not in ("yes", "no"):
            raise ValueError(f"label wants Yes or No, got {label!r}")
        thing = _THING.fullmatch(text)
        yield Question(
            id=row.where.split()[1],
            clip=row.text("video_id"),
            task=task,
            kind="caption" if caption else "yes_no",
            text=text if caption else text + ENDING,
            answer=label if caption else label.lower(),
            evidence=EVIDENCE[task],
            asked=thing[1] if thing else None,
            decode=96 if caption else 16,
        )

    questions = gather(path, rows(path, "avhbench"), make)
    ids = dict.fromkeys(q.clip for q in questions)
    return together(
        path, media, name="avhbench", source=SOURCE, licence=LICENCE,
        wanted={i: [Wanted(f"videos/{i}")] for i in ids}, clips={i: Clip(id=i) for i in ids}, questions=questions,
    )  # fmt: skip
