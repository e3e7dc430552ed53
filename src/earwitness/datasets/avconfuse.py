"""AV-ConfuseBench: are instruments heard that are only seen? Is a replaced sound noticed? (arXiv 2511.10059)

Two JSON lists of rikeilong/AudioVisual_Confusion (Apache-2.0), both read whole:

- ``..._m1.json``, 73 rows ``{"video_id", "question", "answer", "instruments", "instruments_len"}``: one instrument
  of the clip was muted by the authors. Every answer is "no", so always saying "no" scores 100 %: read the accuracy
  beside "always no", or make clips with both answers (``--protocol av-confuse``).
- ``..._m2.json``, 100 rows ``{"video_id", "filename", "question", "sound_type", "annotation"}``: the sound was
  replaced by wind, bird, rain, drill or thunderstorm; the clip is to be described. Scored by keyword recall (is the
  new sound named as heard?); a judge may score the same answers against ``annotation``.

The clips are not public. m2 names its files; for m1 ``<video_id>.mp4`` is taken (the authors' script reads a path
that the released rows do not have).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together
from earwitness.questions import plain
from earwitness.records import Clip, Question

SOURCE = "rikeilong/AudioVisual_Confusion, AVConfuseBench"
LICENCE = "Apache-2.0"
_THING = re.compile(r"Is the(?:ra|re) an? (\S+) sound")  # "thera" is the file's


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """The questions of m1 or m2, whichever it is. Raises QuestionFileError for rows that cannot be read."""
    found = rows(path, ("avconfuse_m1", "avconfuse_m2"))
    replaced = "sound_type" in found[0].fields
    clips: dict[str, Clip] = {}
    wanted: dict[str, list[Wanted]] = {}

    def make(row: Row) -> Iterator[Question]:
        video = row.text("video_id")
        if replaced:
            name = row.text("filename")
            clips[video] = Clip(id=video, heard=(row.text("sound_type"),))
            wanted[video] = [Wanted(name)]
            yield _described(row, video)
        else:
            clips[video] = Clip(id=video, seen=tuple(plain(n) for n in row.text("instruments").split(",")))
            wanted[video] = [Wanted(video)]
            yield _muted(row, video)

    questions = gather(path, found, make)
    return together(
        path, media, name="avconfuse_m2" if replaced else "avconfuse_m1", source=SOURCE, licence=LICENCE,
        wanted=wanted, clips=clips, questions=questions,
        notes=() if replaced else ("every answer is no: always saying no scores 100 %",),
    )  # fmt: skip


def _muted(row: Row, video: str) -> Question:
    text, answer = row.text("question"), row.text("answer").lower()
    thing = _THING.search(text)
    if thing is None or answer not in ("yes", "no"):
        raise ValueError(f"wants 'Is there a X sound?' with yes or no, got {text!r} with {answer!r}")
    tags = {"sounding": row.maybe("instruments_len")}
    return Question(
        id=video, clip=video, task="Audio-muted", kind="yes_no", text=text, answer=answer, evidence=("audio",),
        asked=plain(thing[1]), tags=tags, decode=16,
    )  # fmt: skip


def _described(row: Row, video: str) -> Question:
    sound = row.text("sound_type")
    return Question(
        id=video, clip=video, task="Audio-modified", kind="caption", text=row.text("question"),
        answer=row.text("annotation"), evidence=("audio",), asked=sound, tags={"sound": sound}, decode=256,
    )  # fmt: skip
