"""A planned set as files: clips, scenes and variants written out, each verified, and what cannot be is named.

The order is: clips as files of their own (cut, squared, or their picture copied with the sound as FLAC, so that
they went through the same writer as their variants), scenes with their stems, then every variant, made from those
files and measured on what was written (``interventions.render``).

Functions: ``in_place`` (nothing written: where a clip lies), ``write_files``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from earwitness.curate import mixtures
from earwitness.curate.jobs import Bench, Job, Key, Measured, Mix, Prepare, Prepared, Render, Rendered
from earwitness.curate.manifest import Variant, Wish
from earwitness.curate.mixtures import Scene
from earwitness.curate.preprocess import Square
from earwitness.curate.twins import Twin
from earwitness.records import Clip


@dataclass
class Built:
    """A set as it was built: clips, variants, scenes, and in plain words what is not in it."""

    folder: Path
    clips: list[Clip]
    variants: list[Variant]
    scenes: list[Scene]
    measured: dict[str, Measured]
    left_out: list[tuple[str, str]]
    owners: dict[str, tuple[str, str]]  # of all clips of the manifest: file and licence
    twins: list[Twin] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)  # variant or clip -> why it was not written
    rendered: bool = False


def in_place(clip: Clip, file: str, found: Measured, out: Path) -> Clip:
    """The clip as it stands in the labels file: its path from there, and its part of the file if it is one."""
    whole = _whole(clip, found)
    path = os.path.relpath(file, out.resolve())
    # One thing's stem is all of its sound: nothing can be left out, and the stems' files would have to come along.
    return msgspec.structs.replace(clip, path=path, end=None if whole else clip.end, stems=())


def _whole(clip: Clip, found: Measured) -> bool:
    return clip.start == 0.0 and (clip.end is None or clip.end > found.whole - 1e-3)


def write_files(built: Built, wanted: Wish, files: Mapping[str, str], bench: Bench) -> None:
    """Write clips, scenes and variants; what cannot be written is named, and leaves the set."""
    out = built.folder.resolve()
    asked: dict[Key, Job] = {}
    for clip in built.clips:
        square = wanted.square
        if not square.side and _whole(clip, built.measured[clip.id]):
            asked[Key(clip.id, "prepare")] = Prepare(
                path=files[clip.id], out=str(out / "clips" / f"{clip.id}.mp4"), codec=wanted.codec
            )
        else:
            length = square.seconds and min(square.seconds, built.measured[clip.id].seconds + 1.0)
            asked[Key(clip.id, "prepare")] = Prepare(
                path=files[clip.id], out=str(out / "clips" / f"{clip.id}.mp4"), start=clip.start, end=clip.end,
                square=Square(side=square.side, seconds=length), codec=wanted.codec,
            )  # fmt: skip
    _, broken = bench.do("preparing", asked, Prepared)
    gone = {key.clip for key in broken}
    built.failed |= {key.clip: why for key, why in broken.items()}
    built.left_out += [(i, built.failed[i]) for i in sorted(gone)]
    scenes = _scenes(built, wanted, bench, gone)
    built.variants = [
        v for v in built.variants if v.clip not in gone and (v.intervention.donor or v.clip) not in gone
    ]
    built.clips = [
        msgspec.structs.replace(
            c,
            path=f"clips/{c.id}.mp4",
            start=0.0,
            end=None,
            stems=(),
            foley=None,
            donors=tuple(d for d in c.donors if d not in gone),
        )
        for c in built.clips
        if c.id not in gone
    ]
    events = {c.id: c.events for c in built.clips}
    jobs: dict[Key, Job] = {}
    for v in built.variants:
        home = "scenes" if v.kind == "muted" else "clips"
        jobs[Key(v.clip, v.id)] = Render(
            path=str(out / home / f"{v.clip}.mp4"), out=str(out / "variants" / f"{v.id}.mp4"),
            intervention=v.intervention, codec=wanted.codec, events=events.get(v.clip, ()),
            donor=str(out / "clips" / f"{v.intervention.donor}.mp4") if v.intervention.donor else None,
            stems=str(out / "stems" / v.clip) if v.kind == "muted" else None,
        )  # fmt: skip
    found, failed = bench.do("rendering", jobs, Rendered)
    built.failed |= {key.name: why for key, why in failed.items()}
    results = {key.name: r for key, r in found.items()}
    built.variants = [_measured_variant(v, results[v.id]) if v.id in results else v for v in built.variants]
    built.clips += scenes
    built.rendered = True


def _scenes(built: Built, wanted: Wish, bench: Bench, gone: set[str]) -> list[Clip]:
    """Write the scenes; returns them as clips."""
    out = built.folder.resolve()
    jobs: dict[Key, Job] = {
        Key(s.id, "mix"): Mix(
            scene=s, out=str(out / "scenes" / f"{s.id}.mp4"), stems=str(out / "stems" / s.id), side=wanted.panel
        )
        for s in built.scenes
    }
    if not jobs:
        return []
    found, broken = bench.do("mixing", jobs, mixtures.Made)
    gone |= {key.clip for key in broken}
    built.failed |= {key.clip: why for key, why in broken.items()}
    built.scenes = [s for s in built.scenes if s.id not in gone]
    residual = {key.clip: m.residual_db for key, m in found.items()}
    built.variants = [
        msgspec.structs.replace(v, residual_db=residual[v.clip]) if v.clip in residual else v
        for v in built.variants
    ]
    things = {s.id: tuple(p.what for p in s.parts) for s in built.scenes}
    return [
        Clip(
            id=s.id,
            path=f"scenes/{s.id}.mp4",
            seen=things[s.id],
            heard=things[s.id],
            stems=things[s.id],
            source=s.id,
            split=s.split,
            licence=s.licence,
        )
        for s in built.scenes
    ]


def _measured_variant(variant: Variant, found: Rendered) -> Variant:
    return msgspec.structs.replace(
        variant, path=f"variants/{variant.id}.mp4", verdict=found.verdict, video_hash=found.video_hash,
        audio_hash=found.audio_hash, gain_db=variant.gain_db if found.gain_db is None else round(found.gain_db, 2),
        residual_lu=variant.residual_lu if found.residual_lu is None else round(found.residual_lu, 3),
        limited_db=found.limited_db,
    )  # fmt: skip
