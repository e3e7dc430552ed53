"""MMA-Bench: which modality does the model use, asked for each in turn? (arXiv 2511.22826)

Every clip gets the visual and the audio question (Figure 5) under the conditions of Table 2; the answer is one of
K classes whose order is drawn per clip and seed and stored. Styles: "standard"; "abstention" (Appendix J: "None of
the above" is offered, and is the only right answer when the asked modality is gone); "cot" (Appendix K).

==================  =====================================  =================  ==================
condition           what is done                           visual question    audio question
==================  =====================================  =================  ==================
aligned             nothing                                seen class         heard class
found               nothing; what is seen is not labelled  (not asked)        heard class
sham                rendered again, unchanged              seen class         heard class
audio_swapped       sound of another source and class      seen class         the donor's class
misleading_caption  "Video_caption: X. " with a false X    seen class         heard class
long_context        10,000 random words before or after    seen class         heard class
frames_zeroed       black frames                           abstain            heard class
audio_removed       silence                                seen class         abstain
==================  =====================================  =================  ==================

Differs from the source: the paper samples and averages three runs; we decode greedily and average over option
orders. Where the asked modality is gone and abstaining is not offered, no answer is right: such items have no
target and count only in the leak table.

Functions: ``items``, ``tables``, ``skipped``; ``item_of`` and ``why_not`` for who makes items one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from earwitness.interventions import misleading_caption, right_answer, with_none_option
from earwitness.protocols.making import class_list, donors, finish, in_list, limited, pick, shuffled
from earwitness.protocols.mma_tables import tables
from earwitness.protocols.settings import Settings
from earwitness.questions import clean, content_prompt
from earwitness.questions.prompts import Modality
from earwitness.records import (
    NONE_OF_THE_ABOVE,
    Clip,
    Evidence,
    Filler,
    Intervention,
    InterventionKind,
    Item,
    digest,
    how_many,
)

NAME = "mma"
KIND: dict[str, InterventionKind] = {
    "sham": "sham", "audio_swapped": "swap", "frames_zeroed": "black", "audio_removed": "mute",
}  # fmt: skip
# Appendix J tests abstention where a modality is gone, Appendix K reasoning where the two disagree.
STYLE_CONDITIONS = {
    "abstention": ("aligned", "frames_zeroed", "audio_removed"),
    "cot": ("aligned", "audio_swapped"),
}
DECODE = {"standard": 32, "abstention": 32, "cot": 256}
TEXT = ("misleading_caption", "long_context")
SEEN_UNKNOWN = ("found", "sham", "long_context", "frames_zeroed", "audio_removed")


def why_not(clip: Clip, classes: Sequence[str]) -> str | None:
    """Why a clip is not asked about, as the end of "left out: clips ..."; None where it is."""
    if len(clip.heard) != 1 or len(clip.seen) > 1:
        return "without exactly one heard and at most one seen class"
    if clip.seen and clean(clip.seen[0]) != clean(clip.heard[0]):
        return "seen and heard classes differ in the untouched clip (no aligned twin)"
    if in_list(clip.heard[0], classes) is None:
        return "whose class is not in the class list"
    return None


def _usable(clips: Sequence[Clip], settings: Settings) -> tuple[list[Clip], tuple[str, ...], list[str]]:
    single = [c for c in clips if len(c.heard) == 1 and len(c.seen) <= 1]
    classes = class_list(single, settings.classes)
    reasons = {c.id: why_not(c, classes) for c in clips}
    kept = [c for c in clips if reasons[c.id] is None]
    counts: dict[str, int] = {}
    for reason in reasons.values():
        if reason:
            counts[reason] = counts.get(reason, 0) + 1
    lines = [f"mma: {n} of {how_many(len(clips), 'clip')} left out: {reason}" for reason, n in counts.items()]
    if len(classes) < 2:
        return [], classes, [*lines, "mma: nothing asked: a choice needs at least two classes"]
    return limited(kept, settings.clip_limit, settings.seed), classes, lines


def skipped(clips: Sequence[Clip], settings: Settings) -> list[str]:
    """In plain words: the clips left out, and those without a donor for the swap."""
    used, _, lines = _usable(clips, settings)
    paired = donors([c for c in used if c.seen], settings.seed, settings.donor_uses)
    alone = sum(bool(c.seen) and c.id not in paired for c in used)
    if alone and "audio_swapped" in settings.mma_conditions:
        lines.append(
            f"mma: {how_many(alone, 'clip has', 'clips have')} no donor of another source and class: not swapped"
        )
    return lines


def items(clips: Sequence[Clip], settings: Settings) -> list[Item]:
    """All items of the protocol, clip by clip, items on the same media one after the other."""
    used, classes, _ = _usable(clips, settings)
    paired = donors([c for c in used if c.seen], settings.seed, settings.donor_uses)
    out = []
    for clip in used:
        for condition in _conditions(clip, settings):
            donor = paired.get(clip.id) if condition == "audio_swapped" else None
            if condition == "audio_swapped" and donor is None:
                continue
            out += list(_asked(clip, condition, donor, classes, settings))
    return out


def _conditions(clip: Clip, settings: Settings) -> list[str]:
    if clip.seen:
        return list(settings.mma_conditions)
    return ["found" if c == "aligned" else c for c in settings.mma_conditions if c in (*SEEN_UNKNOWN, "aligned")]


def _asked(
    clip: Clip, condition: str, donor: Clip | None, classes: Sequence[str], settings: Settings
) -> Iterator[Item]:
    for style in settings.mma_styles:
        if condition not in (*STYLE_CONDITIONS.get(style, (condition,)), "found"):
            continue
        for seed in settings.seeds if style == "standard" else settings.extra_seeds:
            for modality in ("visual", "audio"):
                if modality == "audio" or clip.seen:
                    item = item_of(clip, condition, donor, classes, settings, style, seed, modality)
                    if item is not None:
                        yield item


def item_of(
    clip: Clip, condition: str, donor: Clip | None, classes: Sequence[str], settings: Settings, style: str,
    seed: int, modality: Modality,
) -> Item | None:  # fmt: skip
    """The question about one modality of a clip in one condition; None where its truth is not known there."""
    choices = shuffled(classes, "options", settings.seed, seed, clip.id)
    if style == "abstention":
        choices = with_none_option(choices)
    prompt = content_prompt(modality, choices, style)
    false = filler = None
    if condition == "misleading_caption":
        truths = {clean(n) for n in (*clip.seen, *clip.heard)}
        pool = sorted(c for c in classes if clean(c) not in truths)
        if not pool:
            return None
        false = pick(pool, "caption", settings.seed, clip.id)
        prompt = misleading_caption(prompt, false, (*clip.seen, *clip.heard))
    elif condition == "long_context":
        filler = Filler(settings.long_context_tokens, settings.context_position, settings.seed + seed)
    kind = KIND.get(condition, "original")
    evidence: tuple[Evidence, ...] = ("video",) if modality == "visual" else ("audio",)
    natural = (clip.seen if modality == "visual" else clip.heard)[0]
    absent = NONE_OF_THE_ABOVE if style == "abstention" else None
    heard_now = donor.heard if donor is not None else clip.heard
    truth = in_list(heard_now[0], classes) if donor is not None and modality == "audio" else None
    return finish(
        Item(
            id="",
            protocol=NAME,
            condition=condition,
            question=modality,
            style=style,
            seed=seed,
            clip=clip.id,
            source=clip.cluster,
            linked=() if donor is None else (donor.cluster,),
            # Twins differ in the clip alone; another prompt on the same clip is another group.
            group=digest(NAME, clip.id, modality, style, seed, condition if condition in TEXT else ""),
            intervention=Intervention(kind=kind, donor=None if donor is None else donor.id),
            prompt=prompt,
            filler=filler,
            choices=choices,
            target=right_answer(kind, evidence, in_list(natural, classes), absent, truth),
            evidence=evidence,
            absent=absent,
            seen=() if kind == "black" else clip.seen,
            heard=() if kind == "mute" else heard_now,
            asked=false,
            decode=DECODE[style],
        )
    )


__all__ = ["NAME", "items", "skipped", "tables"]
