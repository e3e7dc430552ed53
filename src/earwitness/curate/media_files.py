"""Where the videos of chosen samples lie, by the names that their downloads usually have.

A segment of a YouTube recording is found as a cut of its own, ``<ytid>_<start, six digits>.mp4``, ``Y<ytid>.mp4``
(MMA-Bench), ``<ytid>_<start>_<end>.mp4`` in seconds or milliseconds; or as ``<ytid>.mp4``, which is the whole
recording where it is longer than the segment, and else a cut.

Functions: ``found_clips``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from earwitness import media as files
from earwitness.curate.samples import Sample, as_clip
from earwitness.datasets.question_file import shelf
from earwitness.media import MediaError
from earwitness.records import Clip

SPARE = 0.5  # s by which a cut may be longer than its segment


def found_clips(
    chosen: Sequence[Sample],
    out: Path,
    *,
    media: Path | None,
    known: Mapping[str, Clip],
    root: Path | None,
    licence: str,
) -> tuple[list[Clip], list[Clip], list[str]]:
    """All samples as clips, those whose videos are there, and the names of the others.

    ``known`` are clips of a labels file in ``root``: they keep their own path, made relative to ``out``. Paths of
    what is found below ``media`` are relative to ``out`` too; of what is not, the likeliest name.
    """
    place = None if media is None else shelf(media, media)
    every, there, missing = [], [], []
    for sample in chosen:
        own = known.get(sample.segment.id)
        if own is not None:
            path = os.path.relpath((root or Path()) / str(own.path), out)
            clip = msgspec.structs.replace(own, path=path, seen=(sample.klass,), heard=(sample.klass,), stems=())
            every.append(clip)
            there.append(clip)
            continue
        clip = as_clip(sample, f"{sample.segment.source}.mp4", licence=licence)
        every.append(clip)
        if place is None:
            continue
        at = _placed(sample, clip, place, out)
        if at is None:
            missing.append(clip.id)
        else:
            there.append(at)
    return every, there, missing


def _placed(sample: Sample, clip: Clip, place: object, out: Path) -> Clip | None:
    one = sample.segment
    end = one.end or one.start
    cuts = (
        one.id, f"Y{one.source}", f"{one.source}_{round(one.start)}_{round(end)}",
        f"{one.source}_{round(1000 * one.start)}_{round(1000 * end)}",
    )  # fmt: skip
    for name in (*cuts, one.source):
        file = place.find(name)  # type: ignore[attr-defined]
        if file is None:
            continue
        path = os.path.relpath(file, out.resolve())
        whole = msgspec.structs.replace(clip, path=path, start=0.0, end=None)
        if name != one.source:
            return whole
        try:
            length = files.probe(file).duration
        except MediaError:
            return None
        return whole if length <= end - one.start + SPARE else msgspec.structs.replace(clip, path=path)
    return None
