"""What is made of aligned clips, as a plan: twins, shifts, replaced sounds, scenes with one thing left out.

Each follows the protocol that will ask about it, and refuses what that refuses: a shift is made only where every
labelled event stays audible and falls on no other one (``protocols.thud``), a background is put on no clip that
shows or sounds like it (``protocols.av_confuse``).

Functions: ``swaps``, ``shifts``, ``modified``, ``muted``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from earwitness.curate.manifest import Variant
from earwitness.curate.mixtures import Scene
from earwitness.curate.twins import Twin
from earwitness.interventions import backgrounds
from earwitness.protocols import Settings, thud
from earwitness.protocols.making import limited
from earwitness.questions import same
from earwitness.records import Clip, Intervention, how_many

Planned = tuple[list[Variant], list[str]]


def named(text: str) -> str:
    """A class name as part of a file name, as in MMA-Bench's release: Frying_food."""
    return "_".join(text.replace("/", " ").split())


def licences(clip: Clip, donor: Clip) -> str:
    """The licence of a picture with another clip's sound: both, said apart where they differ."""
    if clip.licence == donor.licence:
        return clip.licence
    return f"picture: {clip.licence}; sound: {donor.licence}"


def swaps(clips: Mapping[str, Clip], twins: Sequence[Twin]) -> list[Variant]:
    """Twins as variants, named as MMA-Bench names its own: ``<id>_repDiff_<class heard>_<turn>``."""
    out = []
    for twin in twins:
        clip, donor = clips[twin.clip], clips[twin.donor]
        out.append(
            Variant(
                id=f"{clip.id}_repDiff_{named(donor.heard[0])}_{twin.turn}", clip=clip.id, kind="swap",
                intervention=Intervention(kind="swap", donor=donor.id), seen=clip.seen, heard=donor.heard,
                source=clip.cluster, linked=(donor.cluster,), split=clip.split, licence=licences(clip, donor),
                turn=twin.turn, distance=twin.distance, gain_db=twin.gain_db, looped=twin.looped,
                residual_lu=twin.left_lu,
            )
        )  # fmt: skip
    return out


def shifts(clips: Sequence[Clip], band: tuple[float, float], seed: int) -> Planned:
    """Each clip with timed events late and early by the same time, drawn in the band: the directions it allows.

    As many late as early ones, as the audit has them (``protocols.thud.shifts``).
    """
    settings = Settings(seed=seed, shift_band=band, thud_conditions=("shift",))
    timed = [c for c in clips if any(e.heard is not None and e.seen is not None for e in c.events)]
    moved = thud.shifts(timed, settings)
    out = []
    for clip in timed:
        for _, seconds in moved[clip.id]:
            word = "delay" if seconds > 0 else "early"
            iv = Intervention(kind="shift", seconds=seconds, fill=settings.shift_fill)
            out.append(
                Variant(
                    id=f"{clip.id}_{word}_{abs(seconds):.2f}s", clip=clip.id, kind="shift", intervention=iv,
                    seen=clip.seen, heard=clip.heard, source=clip.cluster, split=clip.split, licence=clip.licence,
                    offset=seconds,
                )
            )  # fmt: skip
    lines = []
    if len(timed) < len(clips):
        lines.append(
            f"{len(clips) - len(timed)} of {how_many(len(clips), 'clip')} have no event that is seen and heard: "
            "not shifted"
        )
    if refused := sum(not moved[c.id] for c in timed):
        lines.append(
            f"{refused} of {how_many(len(timed), 'clip')} with events are not shifted: an event would leave the "
            "clip or meet "
            f"another one, or there would be more late ones than early ones"
        )
    return out, lines


def modified(clips: Sequence[Clip], n: int, seed: int) -> Planned:
    """``n`` clips, each with its sound replaced by every background that it neither shows nor sounds like."""
    out = []
    used = limited([c for c in clips if c.seen and c.heard], n, seed)
    for clip in used:
        own = {same(name) for name in (*clip.seen, *clip.heard)}
        for background in backgrounds():
            if same(background) in own:
                continue
            out.append(
                Variant(
                    id=f"{clip.id}_{named(background)}", clip=clip.id, kind="modified",
                    intervention=Intervention(kind="background", background=background, seed=seed), seen=clip.seen,
                    heard=(background,), source=clip.cluster, split=clip.split, licence=clip.licence,
                )
            )  # fmt: skip
    return out, [f"{len(used)} of {how_many(n, 'clip')} could have their sound replaced"] if len(used) < n else []


def muted(scenes: Sequence[Scene]) -> list[Variant]:
    """Each scene with each of its things left out."""
    out = []
    for scene in scenes:
        things = tuple(p.what for p in scene.parts)
        for thing in things:
            out.append(
                Variant(
                    id=f"{scene.id}_without_{named(thing)}", clip=scene.id, kind="muted",
                    intervention=Intervention(kind="drop_stem", stem=thing), seen=things,
                    heard=tuple(t for t in things if t != thing), source=scene.id, split=scene.split,
                    licence=scene.licence,
                )
            )  # fmt: skip
    return out
