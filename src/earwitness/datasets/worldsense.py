"""WorldSense: questions that need picture and sound of real-world videos (arXiv 2502.04326).

3,172 questions on 1,662 videos. Two forms, both only documented here: worldsense_qa.json, an object keyed by video
with ``task0``, ``task1`` ... ``{"task_domain", "task_type", "question", "answer", "candidates"}`` beside "domain",
"sub_category", "audio_class" (a list), "duration" (read in VLMEvalKit's class WorldSense); and one row a question
with the same fields and "video", "video_path" (read in lmms-eval, tasks/worldsense/utils.py). The project states no
licence in its repository; the data are said to be CC-BY-NC-4.0. Media: ``videos/<video>.mp4``.

Prompt: that of both harnesses for frames with audio. Figures: accuracy by task type, task domain, domain, duration,
kind of sound. Differs from lmms-eval, which takes an answer it cannot read for "A".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from earwitness.datasets.multiple_choice import BOTH, choice
from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together
from earwitness.records import Clip, Question

SOURCE = "honglyhly/WorldSense, worldsense_qa.json"
LICENCE = "not stated in the repository (data: CC-BY-NC-4.0 by other projects' word)"
PROMPT = (
    "Carefully watch this video and pay attention to every detail. Based on your observations, select the best "
    "option that accurately addresses the question.\n"
    "These are the frames of a video and the corresponding audio. Select the best answer to the following "
    "multiple-choice question based on the video. Respond with only the letter (A, B, C, or D) of the correct "
    "option.\n{question}\n{options}\n"
)


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions in either form. Raises QuestionFileError for rows that cannot be read."""
    wanted: dict[str, list[Wanted]] = {}

    def make(row: Row) -> Iterator[Question]:
        tasks = {k: v for k, v in row.fields.items() if k.startswith("task") and isinstance(v, dict)}
        video = row.maybe("video_id") or row.maybe("video") or row.maybe("key")
        if not video:
            raise ValueError("names no video (video_id or video)")
        wanted[video] = [Wanted(row.maybe("video_path").removeprefix("./") or f"videos/{video}"), Wanted(video)]
        if not tasks:
            yield _one(row, row, video, row.maybe("index") or row.where.split()[1])
        for key, fields in tasks.items():
            try:
                yield _one(row, Row(row.where, fields), video, f"{video}.{key}")
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None

    questions = gather(path, rows(path, ("worldsense", "worldsense_by_video")), make)
    return together(
        path, media, name="worldsense", source=SOURCE, licence=LICENCE, wanted=wanted,
        clips={i: Clip(id=i) for i in wanted}, questions=questions,
    )  # fmt: skip


def _one(video: Row, row: Row, clip: str, name: str) -> Question:
    sounds = video.fields.get("audio_class")
    sound = "|".join(str(s) for s in sounds) if isinstance(sounds, (list, tuple)) else video.maybe("audio_class")
    return choice(
        row, id=name, clip=clip, task=row.maybe("task_type"), question=row.text("question"),
        options=row.texts("candidates"), answer=row.text("answer"), prompt=PROMPT, evidence=BOTH,
        tags={
            "type": row.maybe("task_domain"), "domain": video.maybe("domain"), "duration": video.maybe("duration"),
            "sub_category": video.maybe("sub_category"), "sound": sound,
        },
    )  # fmt: skip
