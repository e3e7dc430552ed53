"""Synchformer's offset list: VGGSound clips whose sound is taken from up to 2 s earlier or later (arXiv
2401.16423).

Format: a CSV ``path,offset_sec,vstart_sec`` of v-iashin/Synchformer (MIT), read whole: 14,022 rows, 21 offsets from
-2 to 2 s in steps of 0.2. ``path`` is ``<ytid>_<start ms>_<end ms>``, a VGGSound clip of 10 s. The picture starts
``vstart_sec`` into it, the sound ``vstart_sec + offset_sec`` (both stay within 0 to 4.92 s in the file), so
**offset_sec > 0 means sound EARLY, the opposite of our sign**: an item's ``offset`` is ``-offset_sec``.

5 s are cut from each, sound and picture from their own starts, so that nothing is filled with silence: a silent
edge would give the direction away. Media: ``<path>.mp4``, ``<ytid>_<start s, six digits>.mp4``, or the uncut
``<ytid>.mp4``.

The list has no question; ours is Thud's for its synchrony test on VGGSound (arXiv 2605.16403, Appendix G), three
choices. The source's own measure is accuracy over 21 classes, which a language model is not asked for. Published
accuracies moved from .36 to .56 with the version of the decoding library: our cuts follow the container's time
stamps.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from earwitness.datasets.question_file import QuestionFile, Row, Wanted, gather, rows, together
from earwitness.questions import DIRECT, thud_prompt
from earwitness.records import Clip, Question

SOURCE = "v-iashin/Synchformer, offset list of VGGSound's test split"
LICENCE = "MIT (list)"
LENGTH = 5.0  # seconds that are cut: 4.92 + 5 is the largest start that a clip of 10 s has room for
MOST = 3.0  # seconds of offset beyond which a row is taken for a slip


def read(path: Path, media: Path | None = None) -> QuestionFile:
    """One question a row. Raises QuestionFileError for rows that cannot be read."""
    clips: dict[str, Clip] = {}
    wanted: dict[str, list[Wanted]] = {}
    lags: dict[str, float] = {}

    def make(row: Row) -> Iterator[Question]:
        name, offset, start = row.text("path"), row.number("offset_sec"), row.number("vstart_sec")
        video, first, _ = _parts(name)
        if abs(offset) > MOST:
            raise ValueError(f"offset_sec={offset:g} s is beyond {MOST:g} s (milliseconds?)")
        if start < 0 or start + offset < -1e-6:
            raise ValueError(f"vstart_sec={start:g} s with offset_sec={offset:g} s starts before the clip")
        if name in clips:
            raise ValueError(f"path {name!r} stands there twice")
        clips[name] = Clip(id=name, source=video, start=start, end=start + LENGTH)
        places = [(name, 0.0), (f"{video}_{int(first):06d}", 0.0), (video, first)]
        wanted[name] = [Wanted(place, at + start, at + start + LENGTH) for place, at in places]
        lags[name] = offset
        late = round(-offset, 3) + 0.0  # no -0.0
        yield Question(
            id=row.where.split()[1],
            clip=name,
            task="synchrony",
            kind="shift",
            text=thud_prompt("shift", "direct"),
            choices=tuple(DIRECT["shift"]),
            answer="SYNC" if late == 0 else "DELAY" if late > 0 else "EARLY",
            evidence=("sync",),
            tags={"offset": f"{late:.2f}"},
            decode=16,
        )

    questions = gather(path, rows(path, "synchformer"), make)
    return together(
        path, media, name="synchformer", source=SOURCE, licence=LICENCE, wanted=wanted, clips=clips,
        questions=questions, lags=lags,
    )  # fmt: skip


def _parts(name: str) -> tuple[str, float, float]:
    """YouTube id, start and end in seconds of ``<ytid>_<start ms>_<end ms>``."""
    bits = name.rsplit("_", 2)
    if len(bits) != 3 or not bits[1].isdigit() or not bits[2].isdigit():
        raise ValueError(f"path {name!r} is not <ytid>_<start ms>_<end ms>")
    return bits[0], int(bits[1]) / 1000, int(bits[2]) / 1000
