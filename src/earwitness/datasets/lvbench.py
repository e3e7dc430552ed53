"""LVBench: hour-long videos (arXiv 2406.08035); for the table that shows no alignment tax.

Format: JSONL, a video a line: ``{"key": "<youtube id>", "type": "cartoon", "qa": [{"uid", "question": "...?\\n(A)
...\\n(B) ...", "answer": "D", "question_type": ["key information retrieval"], "time_reference": "00:15-00:19"}]}``
(video_info.meta.jsonl; 1,549 questions on 103 videos). Only documented here: read in THUDM/LVBench's README and as
quoted by other projects. Licence: CC-BY-NC-SA-4.0 (its README), academic research only. Media: ``<key>.mp4``.

Prompt: Thud's general one. A question may have several types: its task is the first, its types are all. What it
rests on is not said, as with Video-MME.
"""

from __future__ import annotations

from pathlib import Path

from earwitness.datasets.multiple_choice import by_video, choice, listed
from earwitness.datasets.question_file import QuestionFile, Row
from earwitness.records import Question

SOURCE = "THUDM/LVBench, video_info.meta.jsonl"
LICENCE = "CC-BY-NC-SA-4.0, academic research only"


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of video_info.meta.jsonl. Raises QuestionFileError for videos that cannot be read."""
    return by_video(path, media, "lvbench", "qa", _one, source=SOURCE, licence=LICENCE)


def _one(video: Row, row: Row, n: int) -> Question:
    question, options = listed(row.text("question"))
    if len(options) < 2:
        raise ValueError(f"question has no options '(A) ...' on lines of their own: {row.text('question')!r}")
    types = row.fields.get("question_type") or []
    types = [types] if isinstance(types, str) else [str(t) for t in types]
    return choice(
        row, id=row.maybe("uid") or f"{video.text('key')}.{n}", clip=video.text("key"),
        task=types[0] if types else "", question=question, options=options, answer=row.text("answer"),
        tags={"type": "|".join(types), "video": video.maybe("type")},
    )  # fmt: skip
