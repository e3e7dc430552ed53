"""MMA-Bench's release: swapped clips whose sound is told by their file names (arXiv 2511.22826).

A folder of ``Y<ytid>_repDiff_<AudioClass>_<k>.mp4``: AudioSet clip <ytid> with the sound of another clip, of that
class. What it shows is not in the name. Asked is the paper's question on the sound (Figure 5), with the classes of
``classes.txt`` beside the clips (one a line) or else all classes that the names have; the order of the options is
drawn per clip. The release states no licence. Read: four clips of it.

Originals (``Y<ytid>.mp4`` or any other name) have no label here and are not asked about: give labels in a labels
file (docs/labels.md) and use ``--protocol mma`` for the full benchmark.
"""

from __future__ import annotations

from pathlib import Path

from earwitness.datasets.folder import CLASSES, MEDIA, RELEASE
from earwitness.datasets.question_file import QuestionFile
from earwitness.protocols.making import in_list, shuffled
from earwitness.questions import content_prompt
from earwitness.records import Clip, Question, how_many

SOURCE = "MMA-Bench's release (arXiv 2511.22826), by file names"
LICENCE = "not stated"


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """One question on the sound of each swapped clip below ``path`` (``media``: another folder to look in).

    Raises ValueError where there are none, or fewer than two classes to choose from.
    """
    folder = media or path
    if not folder.is_dir():
        raise ValueError(f"{folder}: MMA-Bench's names are those of a folder of clips, got no folder")
    files = [f for f in sorted(folder.rglob("*")) if f.suffix.lower() in MEDIA and f.is_file()]
    swapped = [(f, m) for f in files if (m := RELEASE.fullmatch(f.stem))]
    if not swapped:
        raise ValueError(f"{folder}: none of {len(files)} clips is named Y<ytid>_repDiff_<AudioClass>_<k>")
    known = {m["heard"].replace("_", " ") for _, m in swapped}
    listed = folder / CLASSES
    if listed.exists():
        known = {line.strip() for line in listed.read_text("utf-8-sig").splitlines() if line.strip()}
    if len(known) < 2:
        raise ValueError(f"{folder}: a choice needs two classes, the names have {sorted(known)}; add {CLASSES}")
    clips, questions = [], []
    for file, m in swapped:
        heard = in_list(m["heard"].replace("_", " "), sorted(known))
        if heard is None:
            raise ValueError(f"{file.name}: its class {m['heard']!r} is not in {listed}")
        choices = shuffled(sorted(known), "options", file.stem)
        clips.append(
            Clip(id=file.stem, path=str(file.resolve()), heard=(heard,), source=m["youtube"], licence=LICENCE)
        )
        questions.append(
            Question(
                id=file.stem, clip=file.stem, task="audio, sound swapped", kind="choice",
                text=content_prompt("audio", choices), choices=choices, answer=heard, evidence=("audio",),
                tags={"benchmark": "mma_names", "sound": heard},
            )
        )  # fmt: skip
    others = len(files) - len(swapped)
    notes = (
        (f"{how_many(others, 'clip with another name is', 'clips with other names are')} not asked about",)
        if others
        else ()
    )
    return QuestionFile(
        name="mma_names",
        source=SOURCE,
        licence=LICENCE,
        clips=tuple(clips),
        questions=tuple(questions),
        notes=notes,
    )
