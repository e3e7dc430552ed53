"""AVQA: questions on real-life videos, by whether sound, view or both answer them (ACM Multimedia 2022).

Format: a JSON list of ``{"id", "video_name": "-HG3Omg_89c_000030", "video_id", "question_text", "multi_choice":
[four texts], "answer": 1, "question_relation": "View", "question_type": "Happening"}``; ``answer`` counts from 0.
Only documented here: read as quoted by projects that train on it, file names in AlyssaYoung/AVQA (data/video),
which states no licence. Media: ``<video_name>.mp4``, a VGGSound clip (or the uncut ``<ytid>.mp4``, of which 10 s
are taken).

Prompt: Thud's general one (the benchmark's own models classify). Figures: accuracy by type and by relation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from earwitness.datasets.multiple_choice import choice
from earwitness.datasets.question_file import LETTERS, QuestionFile, Row, Wanted, gather, rows, together
from earwitness.datasets.vggsounder import SECONDS, parts
from earwitness.records import Clip, Evidence, Question

SOURCE = "AlyssaYoung/AVQA"
LICENCE = "not stated"
EVIDENCE: dict[str, tuple[Evidence, ...]] = {"View": ("video",), "Sound": ("audio",), "Both": ("audio", "video")}


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of a split's file. Raises QuestionFileError for rows that cannot be read."""
    wanted: dict[str, list[Wanted]] = {}

    def make(row: Row) -> Iterator[Question]:
        clip, options, number = row.text("video_name"), row.texts("multi_choice"), row.number("answer")
        if not number.is_integer() or not 0 <= number < len(options):
            raise ValueError(f"answer wants 0 to {len(options) - 1}, got {number:g} (counted from 1?)")
        relation = row.maybe("question_relation")
        video, start = parts(clip)
        wanted[clip] = [Wanted(clip), Wanted(video, start, start + SECONDS)]
        yield choice(
            row, id=row.maybe("id") or row.where.split()[1], clip=clip, task=row.maybe("question_type"),
            question=row.text("question_text"), options=options, answer=LETTERS[int(number)],
            evidence=EVIDENCE.get(relation, ("audio", "video")), tags={"relation": relation},
        )  # fmt: skip

    questions = gather(path, rows(path, "avqa"), make)
    return together(
        path, media, name="avqa", source=SOURCE, licence=LICENCE, wanted=wanted,
        clips={i: Clip(id=i, source=parts(i)[0]) for i in wanted}, questions=questions,
    )  # fmt: skip
