"""Thud: does the model check sound against picture, in time, in presence, in kind? (arXiv 2605.16403)

Three tasks, each on the untouched clip (the control) and on its intervened twin, in two styles that no table mixes:
"neutral" (the published prompts) and "direct" (closed questions; shift: the published A/B/C form).

=========  ==========================================  ===========  ==================  =================
condition  what is done                                mute task    swap task           shift task
=========  ==========================================  ===========  ==================  =================
original   nothing                                     a sound      match               in sync
mute       silence of the same length                  silent       -                   -
mute_room  the clip's room tone, no other sound        silent       -                   -
swap       sound of another source and class           -            mismatch            -
shift      sound moved by 1.8-2.5 s, late or early     -            -                   late / early
ladder     moved by 1.6, 1.2, 0.8, 0.4 s               -            -                   late / early
hush       not moved, but filled where a shift fills   -            -                   in sync
unseen     moved as in shift, and the picture black    -            -                   not scored
dark       not moved, and the picture black            -            -                   not scored
=========  ==========================================  ===========  ==================  =================

A shift (> 0: sound late) is drawn once per clip from the band. It is made only where a person could hear it: every
labelled event stays 0.3 s inside the clip and falls on no other visible event. Many clips allow one direction
only, and no clip allows both at any moment of it; so clips of one direction are used too, as many late ones as
early ones.

The last four conditions are not the paper's. A shift leaves traces that are no timing: a filled edge, a sound
at a moment where untouched clips have none. ``hush`` has the fill without the shift, ``unseen`` the shift without
the picture (what can be said then was not learned by comparing), ``dark`` neither, on the clips of ``unseen``
(guesses in the dark are right now and then; what is said there of the clip left as it was tells how many of them,
:func:`.thud_controls.beyond_alarms`), ``mute_room`` a muted clip without digital zeros.

Functions: ``items``, ``tables``, ``skipped``; for who makes items one by one ``item_of``, ``agrees``, ``shifts``,
``hushes`` and ``band_shift``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from earwitness.interventions import right_answer
from earwitness.protocols.making import EDGE, donors, finish, fits, length, limited
from earwitness.protocols.settings import Settings
from earwitness.protocols.thud_tables import tables
from earwitness.questions import answer_choices, same, thud_prompt
from earwitness.questions.prompts import Task
from earwitness.records import Clip, Evidence, Intervention, InterventionKind, Item, digest, how_many

NAME = "thud"
NATURAL = {"mute": "SOUND_DESCRIBED", "swap": "MATCH", "shift": "SYNC"}
EVIDENCE: dict[str, tuple[Evidence, ...]] = {"mute": ("audio",), "swap": ("audio", "video"), "shift": ("sync",)}
DECODE = {"mute": 128, "swap": 160, "shift": 256}
DECODE_DIRECT = 16


def agrees(clip: Clip) -> bool:
    """Whether what is heard is what is seen: all of it, so that "match" is the truth of the untouched clip."""
    seen, heard = {same(n) for n in clip.seen}, {same(n) for n in clip.heard}
    return bool(heard) and heard <= seen


def band_shift(clip: Clip, settings: Settings) -> float:
    """The clip's own |shift| in the band, in s, on a 0.05 s grid: drawn by seed, the same in both directions."""
    low, high = settings.shift_band
    steps = round((high - low) / 0.05)
    return round(low + 0.05 * (int(digest("band", settings.seed, clip.id), 16) % (steps + 1)), 2)


def _levels(clip: Clip, settings: Settings) -> list[tuple[str, float]]:
    """(condition, |shift|) that are asked for."""
    wanted = []
    if {"shift", "hush", "unseen", "dark"} & set(settings.thud_conditions):
        wanted.append(("shift", band_shift(clip, settings)))
    if "ladder" in settings.thud_conditions:
        wanted += [("ladder", level) for level in settings.ladder]
    return wanted


def shifts(used: Sequence[Clip], settings: Settings) -> dict[str, list[tuple[str, float]]]:
    """Clip id -> its shifts as (condition, seconds), > 0 = sound late: at each level as many late as early ones.

    Clips that allow both directions get both. Of those that allow one, the direction that fewer clips allow is
    used in full, of the other as many, drawn by seed.
    """
    out: dict[str, list[tuple[str, float]]] = {c.id: [] for c in used}
    sides: dict[tuple[str, float], dict[int, list[tuple[Clip, float]]]] = {}
    for clip in used:
        for condition, size in _levels(clip, settings):
            may = [sign for sign in (1, -1) if fits(clip, sign * size)]
            if len(may) == 2:
                out[clip.id] += [(condition, size), (condition, -size)]
            elif may:
                level = (condition, 0.0 if condition == "shift" else size)
                sides.setdefault(level, {1: [], -1: []})[may[0]].append((clip, size))
    for (condition, _), lone in sides.items():
        most = min(len(some) for some in lone.values())
        for sign, some in lone.items():
            chosen = sorted(some, key=lambda c: digest("side", settings.seed, c[0].id))[:most]
            for clip, size in chosen:
                out[clip.id].append((condition, sign * size))
    return {i: sorted(some, key=lambda s: (s[0] != "shift", -abs(s[1]), -s[1])) for i, some in out.items()}


def hushes(clip: Clip, size: float) -> list[float]:
    """Ends of the clip that hold no event and that a shift of ``size`` seconds would fill: > 0 the beginning."""
    whole = length(clip)
    heard = [e.heard for e in clip.events if e.heard is not None]
    if whole is None or not heard:
        return []
    return [size] * (min(heard) >= size + EDGE) + [-size] * (max(heard) <= whole - size - EDGE)


def skipped(clips: Sequence[Clip], settings: Settings) -> list[str]:
    """In plain words: clips without sound, without a match to lose, without a donor, and the refused shifts."""
    lines = []
    used = limited([c for c in clips if c.heard], settings.clip_limit, settings.seed)
    if silent := sum(not c.heard for c in clips):
        lines.append(f"thud: {silent} of {how_many(len(clips), 'clip')} have no heard class: not used")
    paired = _donors(used, settings)
    if "swap" in settings.thud_conditions and (n := sum(not agrees(c) for c in used)):
        lines.append(
            f"thud: {how_many(n, 'clip does not show what it sounds', 'clips do not show what they sound')} like: "
            "not swapped"
        )
    if "swap" in settings.thud_conditions and (n := sum(agrees(c) and c.id not in paired for c in used)):
        lines.append(
            f"thud: {how_many(n, 'clip has', 'clips have')} no donor of another source and class: not swapped"
        )
    no_event = sum(not any(e.heard is not None and e.seen is not None for e in c.events) for c in used)
    if no_event and {"shift", "ladder"} & set(settings.thud_conditions):
        lines.append(
            f"thud: {how_many(no_event, 'clip has', 'clips have')} no event with a seen and a heard time: not "
            "shifted"
        )
    timed = [c for c in used if any(e.heard is not None and e.seen is not None for e in c.events)]
    wanted = 2 * sum(len(_levels(c, settings)) for c in timed)
    allowed = sum(fits(c, sign * size) for c in timed for _, size in _levels(c, settings) for sign in (1, -1))
    made = sum(len(some) for some in shifts(used, settings).values())
    if allowed < wanted:
        lines.append(
            f"thud: {wanted - allowed} of {how_many(wanted, 'shift')} refused (an event would leave the clip, or "
            "meet "
            "another one)"
        )
    if made < allowed:
        lines.append(
            f"thud: {how_many(allowed - made, 'shift')} left out, so that there are as many late as early ones"
        )
    return lines


def _donors(used: Sequence[Clip], settings: Settings) -> dict[str, Clip]:
    return donors([c for c in used if agrees(c)], settings.seed, settings.donor_uses)


def items(clips: Sequence[Clip], settings: Settings) -> list[Item]:
    """All items of the protocol, clip by clip, items on the same media one after the other."""
    used = limited([c for c in clips if c.heard], settings.clip_limit, settings.seed)
    paired = _donors(used, settings)
    moved = shifts(used, settings)
    return [item for clip in used for item in _of_clip(clip, paired.get(clip.id), moved[clip.id], settings)]


def _of_clip(
    clip: Clip, donor: Clip | None, moved: Sequence[tuple[str, float]], settings: Settings
) -> Iterator[Item]:
    asked = set(settings.thud_conditions)
    tasks: list[Task] = []
    if {"mute", "mute_room"} & asked or asked == {"original"}:
        tasks.append("mute")
    if donor is not None and agrees(clip) and "swap" in asked:
        tasks.append("swap")
    if moved:
        tasks.append("shift")

    def ask(condition: str, task: Task, iv: Intervention, truth: str | None, offset: float = 0.0) -> Iterator[Item]:
        for style in settings.thud_styles:
            yield item_of(clip, condition, task, style, iv, truth, donor if iv.kind == "swap" else None, offset)

    if "original" in asked:
        for task in tasks:
            yield from ask("original", task, Intervention(), None)
    if "mute" in asked:
        yield from ask("mute", "mute", Intervention(kind="mute"), None)
    if "mute_room" in asked:
        yield from ask("mute_room", "mute", Intervention(kind="mute", fill="room"), None)
    if "swap" in tasks and donor is not None:
        yield from ask("swap", "swap", Intervention(kind="swap", donor=donor.id), "MISMATCH")
    for condition, seconds in moved:
        if condition in asked:
            iv = Intervention(kind="shift", seconds=seconds, fill=settings.shift_fill)
            yield from ask(condition, "shift", iv, "DELAY" if seconds > 0 else "EARLY", seconds)
    if "shift" in tasks and "hush" in asked:
        for seconds in hushes(clip, band_shift(clip, settings)):
            iv = Intervention(kind="hush", seconds=seconds, fill=settings.shift_fill)
            yield from ask("hush", "shift", iv, None)
    for condition, seconds in moved:
        if condition == "shift" and "unseen" in asked:
            iv = Intervention(kind="shift", seconds=seconds, fill=settings.shift_fill, unseen=True)
            yield from ask("unseen", "shift", iv, "DELAY" if seconds > 0 else "EARLY", seconds)
    if "dark" in asked and any(condition == "shift" for condition, _ in moved):
        yield from ask("dark", "shift", Intervention(kind="black"), None)


def item_of(
    clip: Clip, condition: str, task: Task, style: str, iv: Intervention, truth: str | None, donor: Clip | None,
    offset: float,
) -> Item:  # fmt: skip
    """One task's question about a clip after an intervention; ``truth`` where that replaces the evidence."""
    kind: InterventionKind = iv.kind
    absent = {"mute": "SILENT"}.get(task)
    return finish(
        Item(
            id="",
            protocol=NAME,
            condition=condition,
            question=task,
            style=style,
            clip=clip.id,
            source=clip.cluster,
            linked=() if donor is None else (donor.cluster,),
            group=digest(NAME, clip.id, task, style),
            intervention=iv,
            prompt=thud_prompt(task, style),
            choices=answer_choices(task, style),
            target=None if iv.unseen else right_answer(kind, EVIDENCE[task], NATURAL[task], absent, truth),
            evidence=EVIDENCE[task],
            absent=absent,
            seen=() if iv.unseen or kind == "black" else clip.seen,
            heard=() if kind == "mute" else clip.heard if donor is None else donor.heard,
            offset=offset,
            decode=DECODE[task] if style == "neutral" else DECODE_DIRECT,
        )
    )


__all__ = ["NAME", "items", "skipped", "tables"]
