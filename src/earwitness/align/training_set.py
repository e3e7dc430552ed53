"""What a model is trained on: a folder of pairs, with what they were made of and what they must not meet.

::

    SET/set.json      where the clips come from, the mixture and its seed, counts, fingerprints, what it was checked against
    SET/train.jsonl   pairs, one a line
    SET/valid.jsonl   pairs of other source clips

A fingerprint is the content hash of one untouched picture or one untouched sound, as the model is shown it. A clip
that shares either with a clip of an audit would be trained on and tested on: ``refuse_leaks`` raises.

Functions: ``write``, ``read``, ``clips_of``, ``fingerprints``, ``refuse_leaks``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from earwitness import run as runs
from earwitness.datasets.opening import open_clips
from earwitness.records import Clip, ClipSet, Media, Pair, View, Wave

NAMED = 5  # clips named in an error


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
    parts: dict[str, int] = {}  # pairs by part, in train
    valid: int = 0
    fingerprints: tuple[str, ...] = ()  # of all untouched clips, train and valid
    checked: tuple[str, ...] = ()  # runs that it shares no clip with
    left_out: tuple[str, ...] = ()  # in plain words
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


def write(folder: Path, made: TrainingSet) -> None:
    """Write the folder. Raises ValueError where train and valid share a source clip."""
    both = {p.item.source for p in made.train} & {p.item.source for p in made.valid}
    if both:
        raise ValueError(f"{len(both)} source clips stand in train and in valid, such as {sorted(both)[0]}")
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_lines(folder / "train.jsonl", made.train)
    runs.write_lines(folder / "valid.jsonl", made.valid)
    (folder / "set.json").write_bytes(msgspec.json.format(msgspec.json.encode(made.info), indent=1) + b"\n")


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


def fingerprints(clips: ClipSet, view: View, wanted: Iterable[str] | None = None) -> dict[str, str]:
    """Content hash -> clip id, of the untouched pictures and sounds of the clips (of those ``wanted``, by id)."""
    kept = None if wanted is None else set(wanted)
    out: dict[str, str] = {}
    for clip in clips.clips:
        if kept is None or clip.id in kept:
            media = clips.media(clip, view)
            out |= {h: clip.id for h in (media.video_hash, media.audio_hash) if h is not None}
    return out


def refuse_leaks(prints: Mapping[str, str], tested: Mapping[str, str], name: str) -> None:
    """Raise ValueError where a training clip's picture or sound is one of the tested clips of the run ``name``."""
    shared = sorted({f"{prints[h]} is {tested[h]}" for h in prints.keys() & tested.keys()})
    if shared:
        some = "; ".join(shared[:NAMED]) + (" ..." if len(shared) > NAMED else "")
        raise ValueError(
            f"{len(shared)} clips to be trained on are tested in {name} ({some}): a model trained on them would be "
            f"graded on what it was shown. Take other clips (--clips, or another --seed for foley)"
        )
