"""``--clips``: the word ``foley``, or a folder of real clips with a labels file."""

from __future__ import annotations

from pathlib import Path

from earwitness import foley
from earwitness.datasets.folder import read as read_folder
from earwitness.records import ClipSet

# Of all: singles for "what do you hear", impacts whose moment is sharp, scenes of two and three with stems.
SINGLES, IMPACTS = 0.4, 0.4
DEFAULT = 72  # clips: swaps tie two together, and an equivalence needs about 27 independent ones


def open_clips(spec: str, *, limit: int | None = None, seed: int = 0) -> ClipSet:
    """Clips for an audit.

    Parameters
    ----------
    spec : "foley" (procedural clips from ``seed``, 72 unless limited) or a folder / labels file.
    limit : the most clips to take; from a folder the first ones in the order of the file.

    Raises
    ------
    ValueError
        Where the folder or its labels cannot be read; the message names file and line.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"--limit {limit}: an audit needs at least one clip")
    if spec == "foley":
        return _foley(DEFAULT if limit is None else limit, seed)
    if not Path(spec).exists():
        raise ValueError(f"--clips {spec}: no such folder or labels file (the procedural clips are called: foley)")
    clips = read_folder(Path(spec))
    if limit is not None:
        clips.clips = clips.clips[:limit]
    return clips


def _foley(n: int, seed: int) -> ClipSet:
    singles, impacts = max(1, round(n * SINGLES)), round(n * IMPACTS)
    groups = n - singles - impacts
    clips = list(foley.clip_set(singles, seed=seed).clips)
    if impacts > 0:
        clips += foley.clip_set(impacts, seed=seed + 1, kind="impact").clips
    if groups > 0:
        pairs = groups - groups // 3
        clips += foley.clip_set(pairs, seed=seed + 2, sources=2).clips
        if groups // 3:
            clips += foley.clip_set(groups // 3, seed=seed + 3, sources=3).clips
    return foley.FoleyClips(clips[:n])
