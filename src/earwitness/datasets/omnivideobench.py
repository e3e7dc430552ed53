"""OmniVideoBench: reasoning over sound and picture of videos up to half an hour (arXiv 2510.10689).

Format: a JSON list of videos ``{"video": "video_1", "video_type", "duration": "03:28", "questions": [{"question",
"question_type", "audio_type", "reasoning_steps": [{"modality", ...}], "answer", "options": ["A...."],
"correct_option": "A"}]}``; 1,000 questions on 628 videos. Read whole: NJU-LINK/OmniVideoBench, data_example/
data.json; data CC-BY-NC-SA-4.0, code without a licence. Media: ``<video>.mp4``.

Prompt: the one of its eval/qwenomni_eval.py (it demands a choice even from one who cannot see; kept as
published). Figures: accuracy by question type, sound (Speech, Sound, Music), kind and length of video. What each
question rests on follows from its reasoning steps: vision, audio, or both.
"""

from __future__ import annotations

from pathlib import Path

from earwitness.datasets.multiple_choice import by_video, choice, minutes
from earwitness.datasets.question_file import QuestionFile, Row
from earwitness.records import Evidence, Question

SOURCE = "NJU-LINK/OmniVideoBench, data.json"
LICENCE = "CC-BY-NC-SA-4.0 (data)"
PROMPT = (
    "You are given a video. Based on the content of the video, answer the following question:\n\n"
    "Question:\n{question}\n\nOptions:\n{options}\n\n"
    "Answer with the option's letter directly(e.g., A, B, C, or D)."
    "If your access to the video content is limited, at least one option that is more likely than the others must "
    "be chosen.Mustn't give any other reason for can not choose!"
)
MODALITY: dict[str, Evidence] = {"vision": "video", "video": "video", "visual": "video", "audio": "audio"}


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of data.json. Raises QuestionFileError for videos that cannot be read."""
    return by_video(path, media, "omnivideobench", "questions", _one, source=SOURCE, licence=LICENCE)


def _one(video: Row, row: Row, n: int) -> Question:
    steps = [s for s in row.fields.get("reasoning_steps") or [] if isinstance(s, dict)]
    evidence = {MODALITY[m] for s in steps if (m := str(s.get("modality", "")).lower()) in MODALITY}
    return choice(
        row, id=f"{video.text('video')}.{n}", clip=video.text("video"), task=row.maybe("question_type"),
        question=row.text("question"), options=row.texts("options"),
        answer=row.maybe("correct_option") or row.text("answer"), prompt=PROMPT,
        evidence=tuple(sorted(evidence)) or ("audio", "video"),
        tags={
            "sound": row.maybe("audio_type"), "video": video.maybe("video_type"),
            "duration": minutes(seconds(video.text("duration"))),
        },
    )  # fmt: skip


def seconds(clock: str) -> float:
    """ "03:28" or "1:02:03" as seconds. Raises ValueError for anything else."""
    parts = clock.split(":")
    if not 1 <= len(parts) <= 3 or not all(p.replace(".", "", 1).isdigit() for p in parts):
        raise ValueError(f"duration wants minutes:seconds, got {clock!r}")
    total = 0.0
    for part in parts:
        total = total * 60 + float(part)
    return total
