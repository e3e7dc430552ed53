"""``--clips``: ``foley``, a folder of real clips with labels, or a question file as ``FORMAT:FILE``.

``foley:hard``, ``foley:bell+drum+bird`` and ``foley:hard/bell+drum+bird`` are procedural clips of one difficulty,
of some classes only, and of both.
"""

from __future__ import annotations

import difflib
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from earwitness import foley
from earwitness.datasets.folder import read as read_folder
from earwitness.datasets.question_clips import NAMED, QuestionClips, drawn
from earwitness.datasets.question_file import QuestionFile
from earwitness.foley.scenes import Difficulty
from earwitness.records import Clip, ClipSet, how_many

# Of all: singles for "what do you hear", impacts whose moment is sharp, scenes of two and three with stems.
SINGLES, IMPACTS = 0.4, 0.4
DEFAULT = 72  # clips: swaps tie two together, and an equivalence needs about 27 independent ones
FORMATS = {
    "avhbench": "avhbench", "avconfuse": "avconfuse", "avconfuse_m1": "avconfuse", "avconfuse_m2": "avconfuse",
    "cmm": "cmm", "daily_omni": "daily_omni", "omnivideobench": "omnivideobench", "worldsense": "worldsense",
    "vggsounder": "vggsounder", "synchformer": "synchformer", "music_avqa": "music_avqa",
    "music_avqa_r": "music_avqa", "avqa": "avqa", "video_mme": "video_mme", "lvbench": "lvbench",
    "thud_files": "thud_files", "mma_names": "mma_names",
}  # fmt: skip


def open_clips(
    spec: str, *, limit: int | None = None, seed: int = 0, media: Path | None = None,
    elsewhere: str = "name their folder with --set media=FOLDER",
) -> ClipSet:  # fmt: skip
    """Clips for an audit; a question file's are a :class:`QuestionClips`, with its questions.

    Parameters
    ----------
    spec : "foley" (procedural clips from ``seed``, 72 unless limited; see above), a folder / labels file, or
        FORMAT:FILE ("avhbench:QA.json"; the formats are in docs/question_files.md).
    limit : the most clips to take: from a folder the first ones in the order of the file, from a question file
        those drawn by ``seed``, balanced over its tasks.
    media : folder below which a question file's media are; default: beside the file, and below videos/ there.
    elsewhere : what a caller's user can do where no media are there.

    Raises
    ------
    ValueError
        Where the folder, its labels or the question file cannot be read (the message names file and line), or none
        of a question file's media are there.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: wants at least one clip")
    if spec == "foley" or (spec.startswith("foley:") and not Path(spec).exists()):
        return _foley(DEFAULT if limit is None else limit, seed, *_which(spec))
    name, colon, file = spec.partition(":")
    if colon and not Path(spec).exists():
        return _asked(read_questions(name, Path(file), media), Path(file), limit, seed, media, elsewhere)
    if not Path(spec).exists():
        raise ValueError(
            f"{spec}: no such folder or labels file (the procedural clips are called: foley; a question "
            "file is given as FORMAT:FILE)"
        )
    clips = read_folder(Path(spec))
    if limit is not None:
        clips.clips = clips.clips[:limit]
    return clips


def read_questions(name: str, file: Path, media: Path | None = None) -> QuestionFile:
    """A question file of that format, read whole, whether its media are there or not.

    Raises ValueError for an unknown format, and for what is wrong with the file.
    """
    key = name.strip().lower().replace("-", "_")
    if key not in FORMATS:
        close = difflib.get_close_matches(key, FORMATS, n=1)
        guess = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"{name}:...: no such format{guess}; there are {', '.join(FORMATS)}")
    if not file.exists():
        raise ValueError(f"{name}:{file}: no such file")
    read = import_module(f"earwitness.datasets.{FORMATS[key]}").read
    found: QuestionFile = read(file, media)
    return found


def _asked(
    about: QuestionFile, file: Path, limit: int | None, seed: int, media: Path | None, elsewhere: str
) -> QuestionClips:
    gone = set(about.missing)
    there = [c for c in about.clips if c.id not in gone]
    if not there:
        wanted = {c.id: Path(c.path or c.id).name for c in about.clips}
        some = ", ".join(wanted[i] for i in about.missing[:NAMED]) + (" ..." if len(gone) > NAMED else "")
        place = media or f"{file.parent} and its videos/"
        advice = elsewhere if media is None else "is that their folder?"
        raise ValueError(
            f"{file.name}: none of the media of its {how_many(len(about.missing), 'clip')} are in {place} "
            f"(wanted: {some}); "
            f"{advice}"
        )
    return QuestionClips(about, file.parent, there if limit is None else drawn(about, there, limit, seed))


def _which(spec: str) -> tuple[Difficulty, tuple[str, ...]]:
    """Difficulty and classes of a ``foley:...`` spec; ValueError where a word of it is neither."""
    difficulty: Difficulty = "easy"
    classes: tuple[str, ...] = foley.CLASSES
    for word in filter(None, spec.partition(":")[2].split("/")):
        if word in get_args(Difficulty):
            difficulty = word  # type: ignore[assignment]
            continue
        classes = tuple(word.split("+"))
        if unknown := [c for c in classes if c not in foley.CLASSES]:
            raise ValueError(
                f"{spec}: {unknown[0]!r} is neither a difficulty ({', '.join(get_args(Difficulty))}) nor a "
                f"class ({', '.join(foley.CLASSES)})"
            )
        if len(set(classes)) < max(len(classes), 2):
            raise ValueError(f"{spec}: name two or more different classes")
    return difficulty, classes


def _foley(n: int, seed: int, difficulty: Difficulty, classes: tuple[str, ...]) -> ClipSet:
    struck = tuple(c for c in classes if c in foley.IMPACTS)
    singles, impacts = max(1, round(n * SINGLES)), round(n * IMPACTS) if struck else 0
    groups = n - singles - impacts
    threes = groups // 3 if len(classes) > 2 else 0
    clips: list[Clip] = []

    def more(count: int, turn: int, **what: Any) -> None:
        if count > 0:
            clips.extend(foley.clip_set(count, seed=seed + turn, difficulty=difficulty, **what).clips)

    more(singles, 0, classes=classes)
    more(impacts, 1, kind="impact", classes=struck)
    more(groups - threes, 2, sources=2, classes=classes)
    more(threes, 3, sources=3, classes=classes)
    return foley.FoleyClips(clips[:n])
