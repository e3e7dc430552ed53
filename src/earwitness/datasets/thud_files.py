"""Thud's released training files as questions (arXiv 2605.16403; rakanWen/wvs-code, Apache-2.0). Both read whole.

- SFT (thud_sft_video_train_with_audio.json, 3,834 rows ``{"messages", "videos", "audios"}``): is the clip in step?
  The truth is in the file's name: ``..._delay_2.16s.mp4`` (sound late), ``..._early_1.92s.mp4``, else in step; the
  three of one source are one cluster.
- DPO (thud_dpo_finevideo_av_mcqa_longform.json, 1,316 rows with "chosen" and "rejected"): multiple choice with a
  reason. The truth is the letter of "the correct answer is X." in the chosen text (B in 59 % of the rows).

These are training data: a model's accuracy on what it was trained on says nothing. They are here for linting, for
other models, and because their naming is how shifted clips are published. Media: by the file names in ``videos``
(the paths are the authors' own).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from earwitness.datasets.multiple_choice import BOTH
from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together
from earwitness.records import Clip, Question

SOURCE = "rakanWen/wvs-code"
LICENCE = "Apache-2.0"
SHIFTED = re.compile(r"(?P<source>.+)_(?P<way>delay|early)_(?P<seconds>\d+(?:\.\d+)?)s")
_GOLD = re.compile(r"\banswer is ([A-Z])\b")
_OPTIONS = re.compile(r"^([A-Z])\. (.+)$", re.M)
_MARKS = re.compile(r"<(?:video|audio|image)>")


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of either file, told by "chosen". Raises QuestionFileError for rows that cannot be read."""
    found = rows(path, "thud_files")
    pairs = "chosen" in found[0].fields
    clips: dict[str, Clip] = {}
    wanted: dict[str, list[Wanted]] = {}

    def make(row: Row) -> Iterator[Question]:
        videos = row.fields.get("videos")
        if not isinstance(videos, list) or len(videos) != 1 or not isinstance(videos[0], str):
            raise ValueError(f"videos wants one path, got {videos!r}")
        file = PurePosixPath(videos[0].replace("\\", "/"))
        source, offset = truth(file.name)
        clips[file.stem] = Clip(id=file.stem, source=source)
        wanted[file.stem] = [Wanted(str(file))]
        text = _MARKS.sub("", _said(row, "user")).strip()
        yield _choice(row, file.stem, text) if pairs else _shift(row, file.stem, text, offset)

    questions = gather(path, found, make)
    return together(
        path, media, name="thud_dpo" if pairs else "thud_sft", source=SOURCE, licence=LICENCE, wanted=wanted,
        clips=clips, questions=questions, notes=("training data: no test of a model that was trained on it",),
    )  # fmt: skip


def truth(name: str) -> tuple[str, float]:
    """Source and offset in seconds (> 0 = sound late) that a file's name tells; 0 where it tells none.

    >>> truth("fall10_early_1.92s.mp4")
    ('fall10', -1.92)
    """
    stem = name.rsplit(".", 1)[0] if name.lower().endswith((".mp4", ".mkv", ".webm", ".mov", ".wav")) else name
    m = SHIFTED.fullmatch(stem)
    if m is None:
        return stem, 0.0
    return m["source"], float(m["seconds"]) * (1 if m["way"] == "delay" else -1)


def _said(row: Row, role: str) -> str:
    turns: Any = row.fields.get("messages")
    if not isinstance(turns, list) or not all(isinstance(t, dict) for t in turns):
        raise ValueError(f"messages wants a list of turns, got {turns!r}")
    texts = [t.get("content") for t in turns if t.get("role") == role]
    if not texts or not isinstance(texts[0], str):
        raise ValueError(f"messages has no text of role {role!r}")
    return texts[0]


def _shift(row: Row, clip: str, text: str, offset: float) -> Question:
    return Question(
        id=row.where.split()[1], clip=clip, task="synchrony", kind="shift", text=text,
        answer="SYNC" if offset == 0 else "DELAY" if offset > 0 else "EARLY", evidence=("sync",),
        tags={"offset": f"{offset:.2f}"}, decode=256,
    )  # fmt: skip


def _choice(row: Row, clip: str, text: str) -> Question:
    chosen = row.fields.get("chosen")
    gold = _GOLD.findall(str(chosen.get("content", ""))) if isinstance(chosen, dict) else []
    options = [f"{letter}. {option.strip()}" for letter, option in _OPTIONS.findall(text)]
    if len(set(gold)) != 1:
        raise ValueError(f"chosen names no one letter ('the correct answer is X.'), got {gold}")
    if gold[0] not in [o[0] for o in options]:
        raise ValueError(f"chosen names {gold[0]}, but the options are {[o[0] for o in options]}")
    return Question(
        id=row.where.split()[1], clip=clip, task="audio-visual multiple choice", kind="choice", text=text,
        choices=tuple(options), answer=gold[0], evidence=BOTH, decode=256,
    )  # fmt: skip
