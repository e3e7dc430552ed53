"""What a model is trained on: a folder of pairs, with what they were made of and what they must not meet.

::

    SET/set.json      where the clips come from, the mixture, counts, fingerprints, what it was checked against
    SET/train.jsonl   pairs, one a line
    SET/valid.jsonl   pairs of other source clips

A clip that shares a fingerprint (:mod:`earwitness.align.pairs.leaks`) or a source with a clip of an audit would be
trained on and tested on: ``refuse`` raises.

Functions: ``write``, ``read``, ``clips_of``, ``sources``, ``refuse``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from earwitness import run as runs
from earwitness.align.pairs import leaks
from earwitness.align.pairs.leaks import fingerprints, refuse_leaks
from earwitness.align.pairs.mixtures import Mixture
from earwitness.datasets.opening import open_clips
from earwitness.records import Clip, ClipSet, Media, Pair, View, Wave


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where clips come from, as an audit's ``--clips``, ``--limit``, ``--seed`` and ``--set media=`` say it."""

    clips: str
    limit: int | None = None
    seed: int = 0
    media: str | None = None


class Info(msgspec.Struct, kw_only=True):
    """``set.json``."""

    sources: tuple[Source, ...]
    mixture: str  # the name of the mixture
    seed: int
    view: View  # through which the fingerprints were taken
    recipe: Mixture | None = None  # the mixture itself, as it was then
    parts: dict[str, int] = {}  # pairs by part, in train
    valid: int = 0
    valid_parts: dict[str, int] = {}
    classes: tuple[str, ...] = ()  # what the questions choose from
    settings: dict[str, Any] = {}  # that were not left as they are: shift_band, backgrounds, ...
    fingerprints: dict[str, str] = {}  # of all clips that are used, train and valid -> clip id
    checked: tuple[str, ...] = ()  # runs that it shares no clip with
    run: str = ""  # whose answers the model's own mistakes are
    left_out: tuple[str, ...] = ()  # in plain words
    created: str = ""
    command: str = ""
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class TrainingSet:
    """A training set in memory."""

    info: Info
    train: tuple[Pair, ...]
    valid: tuple[Pair, ...]


class ManyClips:
    """Several clip sets as one; clip ids must differ."""

    def __init__(self, sets: Sequence[ClipSet]) -> None:
        self.clips: Sequence[Clip] = [clip for some in sets for clip in some.clips]
        self._of = {clip.id: some for some in sets for clip in some.clips}
        if len(self._of) < len(self.clips):
            raise ValueError(f"{len(self.clips) - len(self._of)} clip ids stand in more than one clip source")

    def media(self, clip: Clip, view: View) -> Media:
        """See :class:`earwitness.records.ClipSet`."""
        return self._of[clip.id].media(clip, view)

    def stems(self, clip: Clip, view: View) -> Mapping[str, Wave]:
        """See :class:`earwitness.records.ClipSet`."""
        return self._of[clip.id].stems(clip, view)

    def file(self, clip: Clip, folder: Path) -> Path:
        """See :class:`earwitness.records.ClipSet`."""
        return self._of[clip.id].file(clip, folder)


def sources(pairs: Iterable[Pair]) -> dict[str, str]:
    """Source -> clip id, of the clips that pairs show and of those whose sound they have in a swap."""
    out: dict[str, str] = {}
    for p in pairs:
        out.setdefault(p.item.source, p.item.clip)
        for linked in p.item.linked:
            out.setdefault(linked, p.item.intervention.donor or p.item.clip)
    return out


def write(folder: Path, made: TrainingSet) -> None:
    """Write the folder. Raises ValueError where train and valid share a source clip (a swap's donor counts)."""
    both = sources(made.train).keys() & sources(made.valid).keys()
    if both:
        raise ValueError(f"{len(both)} source clips stand in train and in valid, such as {sorted(both)[0]}")
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_lines(folder / "train.jsonl", made.train)
    runs.write_lines(folder / "valid.jsonl", made.valid)
    runs.write_json(folder / "set.json", made.info)


def read(folder: Path) -> TrainingSet:
    """Read the folder. Raises ValueError where it is none, or a line of it is damaged."""
    try:
        info = msgspec.json.decode((folder / "set.json").read_bytes(), type=Info)
    except OSError as error:
        raise ValueError(
            f"{folder} holds no training set (no set.json): make one with `earwitness pairs` or `sft-data`"
        ) from error
    except msgspec.DecodeError as error:
        raise ValueError(f"{folder / 'set.json'}: {error}") from error
    train, valid = (tuple(runs.read_lines(folder / f"{name}.jsonl", Pair)) for name in ("train", "valid"))
    return TrainingSet(info, train, valid)


def clips_of(info: Info) -> ClipSet:
    """The clips of a training set, opened as they were when it was made. Raises ValueError where they cannot be."""
    return ManyClips(
        [
            open_clips(s.clips, limit=s.limit, seed=s.seed, media=None if s.media is None else Path(s.media))
            for s in info.sources
        ]
    )


def refuse(made: TrainingSet, folder: Path) -> None:
    """Raise ValueError where a training set shares a clip or a source with the clips of the run in ``folder``."""
    leaks.refuse_run(made.info.fingerprints, sources((*made.train, *made.valid)), folder, made.info.view)


__all__ = [
    "Info", "ManyClips", "Source", "TrainingSet", "clips_of", "fingerprints", "read", "refuse", "refuse_leaks",
    "sources", "write",
]  # fmt: skip
