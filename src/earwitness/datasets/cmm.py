"""CMM, the Curse of Multi-Modalities: is a thing that is not there seen or heard all the same? (arXiv 2410.12787)

Format: JSON Lines (also under the name .json) of ``{"category", "sub_category", "modality", "granularity",
"correlation_type", "video_path", "audio_path", "question", "answer"}`` ("pred" in result files is ignored), as in
DAMO-NLP-SG/CMM, evaluation/final_output.json, which was read whole (10 rows); the full file (1,200 clips, 2,400
questions) is only documented here. Licence: academic research only, no redistribution (its README).

Media: ``video_path`` below the media root, by its end; ``audio_path`` where there is no video. A clip that the file
gives without sound (``audio_path`` null) is not muted, one without picture not blackened: nothing is left then.

Questions as they stand ("Did you see X in the video? Answer with yes or no."). Figures: PA (accuracy on yes) and
HR (accuracy on no) by sub-category and granularity. Differs from the source, which looks for the answer within
the first five letters, where "None" and "Not sure" count as no.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together
from earwitness.records import Clip, Evidence, Question

SOURCE = "DAMO-NLP-SG/CMM"
LICENCE = "academic research only, no redistribution"
_ASKS = re.compile(r"Did you (see|hear) (.+?) in the (?:video|audio)\b", re.I)
EVIDENCE: dict[str, tuple[Evidence, ...]] = {"see": ("video",), "hear": ("audio",)}


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of a CMM file. Raises QuestionFileError for rows that cannot be read."""
    wanted: dict[str, list[Wanted]] = {}

    def make(row: Row) -> Iterator[Question]:
        text, answer = row.text("question"), row.text("answer").lower().rstrip(".")
        video, audio = row.maybe("video_path"), row.maybe("audio_path")
        asks = _ASKS.search(text)
        if not video and not audio:
            raise ValueError("has neither video_path nor audio_path")
        if asks is None or answer not in ("yes", "no"):
            raise ValueError(f"wants 'Did you see/hear X' with yes or no, got {text!r} with {answer!r}")
        place = (video or audio).removeprefix("./").split("raw_files/")[-1]
        clip = place.rsplit(".", 1)[0].replace("/", "__")  # an id names files too
        wanted[clip] = [Wanted(place)]
        tracks = "both" if video and audio else "video" if video else "audio"
        yield Question(
            id=row.where.split()[1],
            clip=clip,
            task=row.text("sub_category"),
            kind="yes_no",
            text=text,
            answer=answer,
            evidence=EVIDENCE[asks[1].lower()],
            asked=asks[2],
            tags={
                "category": row.maybe("category"), "sub_category": row.text("sub_category"),
                "granularity": row.maybe("granularity"), "correlation": row.maybe("correlation_type"),
                "modality": row.maybe("modality"), "tracks": tracks,
            },
            decode=16,
        )  # fmt: skip

    questions = gather(path, rows(path, "cmm"), make)
    return together(
        path, media, name="cmm", source=SOURCE, licence=LICENCE, wanted=wanted,
        clips={i: Clip(id=i) for i in wanted}, questions=questions,
    )  # fmt: skip
