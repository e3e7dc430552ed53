"""Is a clip trained on and tested on? Fingerprints of clips, and the guard that compares them.

A clip has up to four fingerprints: the recipe of a procedural clip; else the bytes of its file, and the content
of its untouched picture and of its untouched sound once decoded. Two clips that share one are one clip, whatever
they are called: a copy under another name, another cut of the same file, a remuxed file, a picture with another's
sound. Silent sounds and blank pictures count for nothing: all of them are alike. A re-encoded copy has other
content; only its ``source`` can tell, and the same source is refused too.

Only clips that are used count (asked about, or giving their sound in a swap), on both sides. Procedural clips need
no rendering and files are decoded once, at two small frames a second.

Functions: ``fingerprints``, ``used``, ``audited`` (of a run), ``refuse_leaks``, ``refuse_run``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from earwitness import run as runs
from earwitness.datasets.folder import FolderClips
from earwitness.records import Clip, ClipSet, Item, Media, View, digest
from earwitness.whitebox.opened import clips_of as clips_of_run

NAMED = 5  # clips named in an error
VIEW = View(fps=2.0, size=(64, 64))  # small: hashing whole pictures takes longer than decoding them
SILENT = 1e-4  # peak below which a sound is silence: -80 dB of full scale
BLANK = 8  # of 256 levels between the darkest and the brightest pixel of a frame with nothing on it
Progress = Callable[[int, int], None]


class _Used(msgspec.Struct):
    """The little of an item that says which clips it shows and sounds like."""

    class Iv(msgspec.Struct):
        donor: str | None = None

    clip: str
    intervention: Iv = msgspec.field(default_factory=Iv)


def used(items: Iterable[Item]) -> set[str]:
    """Ids of the clips that items show, and of those whose sound they have in a swap."""
    return {i for item in items for i in (item.clip, item.intervention.donor) if i is not None}


def _prints_of(clips: ClipSet, clip: Clip, view: View) -> list[str]:
    out = [] if clip.foley is None else [digest("recipe", clip.foley)]
    if clip.foley is not None and clip.path is None:
        return out  # the recipe is all there is to it
    if isinstance(clips, FolderClips) and clip.path is not None:
        with clips.path(clip).open("rb") as file:
            out.append(digest("file", hashlib.file_digest(file, "sha256").hexdigest()))
    return [*out, *content(clips.media(clip, view))]


def content(media: Media) -> list[str]:
    """Content hashes of a picture and a sound; none of a missing, silent or blank one."""
    out = []
    if media.frames is not None and media.frames.size:
        spread = media.frames.max(axis=(1, 2)).astype(int) - media.frames.min(axis=(1, 2))
        if spread.max() >= BLANK and media.video_hash is not None:
            out.append(media.video_hash)
    if media.wave is not None and media.wave.size and float(np.abs(media.wave).max()) > SILENT:
        out.append(media.audio_hash or "")
    return out


def fingerprints(
    clips: ClipSet, view: View = VIEW, wanted: Iterable[str] | None = None, progress: Progress | None = None
) -> dict[str, str]:
    """Fingerprint -> clip id, of the clips (of those ``wanted``, by id).

    Raises ValueError where a clip cannot be read: what is not seen cannot be cleared.
    """
    kept = None if wanted is None else set(wanted)
    some = [c for c in clips.clips if kept is None or c.id in kept]
    out: dict[str, str] = {}
    # PyAV decodes outside of Python's lock.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for n, (clip, prints) in enumerate(
            zip(some, pool.map(lambda c: _prints_of(clips, c, view), some), strict=True)
        ):
            for one in prints:
                out.setdefault(one, clip.id)
            if progress:
                progress(n + 1, len(some))
    return out


def audited(
    folder: Path, view: View = VIEW, progress: Progress | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Of a run: fingerprint -> clip id, and source -> clip id, of all clips that it asks about or swaps in.

    Raises ValueError (RunError) where it is no run, or its clips are no longer there.
    """
    info = runs.read_info(folder)
    wanted: set[str] = set()
    for item in runs.read_lines(folder / "items.jsonl", _Used):
        wanted.add(item.clip)
        if item.intervention.donor is not None:
            wanted.add(item.intervention.donor)
    clips = runs.read_clips(folder)
    sources = {c.cluster: c.id for c in clips if c.id in wanted}
    if all(c.foley is not None and c.path is None for c in clips if c.id in wanted):  # nothing to decode
        return {digest("recipe", c.foley): c.id for c in clips if c.id in wanted}, sources
    try:
        opened = clips_of_run(info)
    except ValueError as error:
        raise runs.RunError(
            f"{folder}: its clips cannot be compared with those to be trained on: {error}"
        ) from None
    if gone := sorted(wanted - {c.id for c in opened.clips}):
        raise runs.RunError(
            f"{folder}: {len(gone)} of its clips are no longer in {info.clips} ({', '.join(gone[:NAMED])}): they "
            "cannot be compared with those to be trained on"
        )
    return fingerprints(opened, view, wanted, progress), sources


def refuse_leaks(prints: Mapping[str, str], tested: Mapping[str, str], name: str) -> None:
    """Raise ValueError where a training clip's fingerprint is that of a clip tested in the run ``name``."""
    shared = sorted({f"{prints[h]} is {tested[h]}" for h in prints.keys() & tested.keys()})
    if shared:
        some = "; ".join(shared[:NAMED]) + (" ..." if len(shared) > NAMED else "")
        raise ValueError(
            f"{len(shared)} clips to be trained on are tested in {name} ({some}): a model trained on them would be "
            f"graded on what it was shown. Take other clips (--clips, or another --seed for foley)"
        )


def refuse_run(
    prints: Mapping[str, str], sources: Mapping[str, str], folder: Path, view: View = VIEW,
    progress: Progress | None = None,
) -> None:  # fmt: skip
    """Raise ValueError where training clips share content or a source with the clips of a run.

    ``prints`` and ``sources`` are of the training clips: fingerprint, or source, -> clip id.
    """
    theirs, their_sources = audited(folder, view, progress)
    refuse_leaks(prints, theirs, str(folder))
    shared = sorted(sources.keys() & their_sources.keys())
    if shared:
        some = ", ".join(shared[:NAMED]) + (" ..." if len(shared) > NAMED else "")
        raise ValueError(
            f"{len(shared)} sources to be trained on are tested in {folder} ({some}): cuts of one recording are no "
            f"independent test. Take other clips; if these are different recordings that happen to have one name, "
            f"give them a source of their own in the labels file"
        )
