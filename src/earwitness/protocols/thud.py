"""Thud: does the model check sound against picture, in time, in presence, in kind? (arXiv 2605.16403)

Three tasks, each on the untouched clip (the control) and on its intervened twin, in two styles that no table mixes:
"neutral" (the published prompts) and "direct" (closed questions; shift: the published A/B/C form).

=========  ==========================================  ===========  ==================  =================
condition  what is done                                mute task    swap task           shift task
=========  ==========================================  ===========  ==================  =================
original   nothing                                     a sound      match               in sync
mute       silence of the same length                  silent       -                   -
swap       sound of another source and class           -            mismatch            -
shift      sound moved by 1.8-2.5 s, late and early    -            -                   late / early
ladder     moved by 1.6, 1.2, 0.8, 0.4 s, late, early  -            -                   late / early
=========  ==========================================  ===========  ==================  =================

A shift (> 0: sound late) is drawn once per clip from the band and used in both directions. It is made only where
a person could hear it: every labelled event stays 0.3 s inside the clip and falls on no other visible event.
Clips for which either direction fails are left out of that level, so that late and early stay balanced.

Functions: ``items``, ``tables``, ``skipped``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from earwitness.interventions import right_answer
from earwitness.protocols.making import donors, finish, fits, limited
from earwitness.protocols.settings import Settings
from earwitness.protocols.thud_tables import tables
from earwitness.questions import answer_choices, same, thud_prompt
from earwitness.questions.prompts import Task
from earwitness.records import Clip, Evidence, Intervention, InterventionKind, Item, digest

NAME = "thud"
NATURAL = {"mute": "SOUND_DESCRIBED", "swap": "MATCH", "shift": "SYNC"}
EVIDENCE: dict[str, tuple[Evidence, ...]] = {"mute": ("audio",), "swap": ("audio", "video"), "shift": ("sync",)}
DECODE = {"mute": 128, "swap": 160, "shift": 256}
DECODE_DIRECT = 16


def _agrees(clip: Clip) -> bool:
    """Whether what is heard is what is seen: all of it, so that "match" is the truth of the untouched clip."""
    seen, heard = {same(n) for n in clip.seen}, {same(n) for n in clip.heard}
    return bool(heard) and heard <= seen


def band_shift(clip: Clip, settings: Settings) -> float:
    """The clip's own |shift| in the band, in s, on a 0.05 s grid: drawn by seed, the same in both directions."""
    low, high = settings.shift_band
    steps = round((high - low) / 0.05)
    return round(low + 0.05 * (int(digest("band", settings.seed, clip.id), 16) % (steps + 1)), 2)


def _levels(clip: Clip, settings: Settings) -> list[tuple[str, float]]:
    """(condition, |shift|) that the clip allows in both directions."""
    wanted = []
    if "shift" in settings.thud_conditions:
        wanted.append(("shift", band_shift(clip, settings)))
    if "ladder" in settings.thud_conditions:
        wanted += [("ladder", level) for level in settings.ladder]
    return [(condition, s) for condition, s in wanted if fits(clip, s) and fits(clip, -s)]


def skipped(clips: Sequence[Clip], settings: Settings) -> list[str]:
    """In plain words: clips without sound, without a match to lose, without a donor, and the refused shifts."""
    lines = []
    used = limited([c for c in clips if c.heard], settings.clip_limit, settings.seed)
    if silent := sum(not c.heard for c in clips):
        lines.append(f"thud: {silent} of {len(clips)} clips have no heard class: not used")
    paired = _donors(used, settings)
    if "swap" in settings.thud_conditions and (n := sum(not _agrees(c) for c in used)):
        lines.append(f"thud: {n} clips do not show what they sound like: not swapped")
    if "swap" in settings.thud_conditions and (n := sum(_agrees(c) and c.id not in paired for c in used)):
        lines.append(f"thud: {n} clips have no donor of another source and class: not swapped")
    no_event = sum(not any(e.heard is not None and e.seen is not None for e in c.events) for c in used)
    if no_event and {"shift", "ladder"} & set(settings.thud_conditions):
        lines.append(f"thud: {no_event} clips have no event with a seen and a heard time: not shifted")
    wanted = ("shift" in settings.thud_conditions) + len(settings.ladder) * ("ladder" in settings.thud_conditions)
    timed = len(used) - no_event
    refused = timed * wanted - sum(len(_levels(c, settings)) for c in used)
    if refused:
        lines.append(
            f"thud: {refused} of {timed * wanted} shifts refused (an event would leave the clip, or meet "
            f"another one)"
        )
    return lines


def _donors(used: Sequence[Clip], settings: Settings) -> dict[str, Clip]:
    return donors([c for c in used if _agrees(c)], settings.seed, settings.donor_uses)


def items(clips: Sequence[Clip], settings: Settings) -> list[Item]:
    """All items of the protocol, clip by clip, items on the same media one after the other."""
    used = limited([c for c in clips if c.heard], settings.clip_limit, settings.seed)
    paired = _donors(used, settings)
    return [item for clip in used for item in _of_clip(clip, paired.get(clip.id), settings)]


def _of_clip(clip: Clip, donor: Clip | None, settings: Settings) -> Iterator[Item]:
    levels = _levels(clip, settings)
    asked = set(settings.thud_conditions)
    tasks: list[Task] = []
    if "mute" in asked or asked == {"original"}:
        tasks.append("mute")
    if donor is not None and _agrees(clip) and "swap" in asked:
        tasks.append("swap")
    if levels:
        tasks.append("shift")

    def ask(condition: str, task: Task, iv: Intervention, truth: str | None, offset: float = 0.0) -> Iterator[Item]:
        for style in settings.thud_styles:
            yield _item(clip, condition, task, style, iv, truth, donor if iv.kind == "swap" else None, offset)

    if "original" in asked:
        for task in tasks:
            yield from ask("original", task, Intervention(), None)
    if "mute" in asked:
        yield from ask("mute", "mute", Intervention(kind="mute"), None)
    if "swap" in tasks and donor is not None:
        yield from ask("swap", "swap", Intervention(kind="swap", donor=donor.id), "MISMATCH")
    for condition, level in levels:
        for seconds, truth in ((level, "DELAY"), (-level, "EARLY")):
            yield from ask(condition, "shift", Intervention(kind="shift", seconds=seconds), truth, seconds)


def _item(
    clip: Clip, condition: str, task: Task, style: str, iv: Intervention, truth: str | None, donor: Clip | None,
    offset: float,
) -> Item:  # fmt: skip
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
            target=right_answer(kind, EVIDENCE[task], NATURAL[task], absent, truth),
            evidence=EVIDENCE[task],
            absent=absent,
            seen=clip.seen,
            heard=() if kind == "mute" else clip.heard if donor is None else donor.heard,
            offset=offset,
            decode=DECODE[task] if style == "neutral" else DECODE_DIRECT,
        )
    )


__all__ = ["NAME", "items", "skipped", "tables"]
