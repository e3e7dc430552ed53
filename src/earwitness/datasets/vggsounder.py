"""VGGSounder: which classes of a VGGSound clip are seen, heard, or both (arXiv 2508.08237): natural controls.

Format: a CSV ``video_id,label,modality,background_music,static_image,voice_over`` of Bizilizi/VGGSounder
(Apache-2.0), read whole: 29,509 rows on 12,014 videos, 309 labels; modality A (heard only) 10,149, V (seen only)
983, AV 18,377. Nothing was done to these clips: a label that is visible but silent, or audible but off screen, is a
counterfactual that nature made.

Media as VGGSound is usually cut: ``<ytid>_<start>.mp4`` of 10 s (start in seconds, six digits), or the uncut
``<ytid>.mp4``, of which the 10 s are taken.

The file has labels, no questions; these are ours, two a row: "Do you hear X?" and "Do you see X?". Tasks: "visible
only" (heard? no; seen? yes), "audible only" (heard? yes; seen? no), "visible and audible" (yes, yes).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together
from earwitness.records import Clip, Evidence, Question

SOURCE = "Bizilizi/VGGSounder, vggsounder.csv"
LICENCE = "Apache-2.0 (labels)"
SECONDS = 10.0  # VGGSound's clips
TASKS = {"V": "visible only", "A": "audible only", "AV": "visible and audible"}
ASKS: tuple[tuple[str, Evidence, str], ...] = (
    ("A", "audio", "Listen to the audio of this video. Do you hear {label} in it? Answer with yes or no."),
    ("V", "video", "Look at the pictures of this video. Do you see {label} in them? Answer with yes or no."),
)
FLAGS = ("background_music", "static_image", "voice_over")


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """Two questions a row of vggsounder.csv. Raises QuestionFileError for rows that cannot be read."""
    seen: dict[str, list[str]] = {}
    heard: dict[str, list[str]] = {}

    def make(row: Row) -> Iterator[Question]:
        clip, label, modality = row.text("video_id"), row.text("label"), row.text("modality")
        if modality not in TASKS:
            raise ValueError(f"modality wants A, V or AV, got {modality!r}")
        for mark, names in (("V", seen), ("A", heard)):
            names.setdefault(clip, [])
            if mark in modality:
                names[clip].append(label)
        tags = {flag: row.maybe(flag).lower() for flag in FLAGS if row.maybe(flag).lower() == "true"}
        for mark, evidence, text in ASKS:
            yield Question(
                id=f"{row.where.split()[1]}.{mark}", clip=clip, task=TASKS[modality], kind="yes_no",
                text=text.format(label=label), answer="yes" if mark in modality else "no", evidence=(evidence,),
                asked=label, tags={**tags, "modality": "sound" if mark == "A" else "picture"}, decode=16,
            )  # fmt: skip

    questions = gather(path, rows(path, "vggsounder"), make)
    clips = {i: Clip(id=i, seen=tuple(seen[i]), heard=tuple(heard[i]), source=parts(i)[0]) for i in seen}
    wanted = {i: [Wanted(i), Wanted(parts(i)[0], parts(i)[1], parts(i)[1] + SECONDS)] for i in clips}
    return together(
        path, media, name="vggsounder", source=SOURCE, licence=LICENCE, wanted=wanted, clips=clips,
        questions=questions,
    )  # fmt: skip


def parts(video_id: str) -> tuple[str, float]:
    """YouTube id and start in seconds of ``<ytid>_<start>``; ValueError for other names."""
    name, _, start = video_id.rpartition("_")
    if len(name) != 11 or not start.isdigit():
        raise ValueError(f"video_id {video_id!r} is not <11 characters>_<start in seconds>")
    return name, float(start)
