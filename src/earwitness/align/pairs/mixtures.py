"""Which parts does a training set have, and how much of each? All ratios are here, as plain values.

================  ========================================================================================
part              what it teaches (the module that makes it)
================  ========================================================================================
mma               which modality was asked for: aligned clips and swapped twins (``twins``)
abstention        "None of the above" where the asked stream is gone, and only there (``twins``)
caption           a false caption, or words around the question, change nothing (``twins``)
mute, room, swap  is there a sound (zeros left, or room tone); is it this picture's (``preferences``)
exchange          swaps as an audit makes them: the commonest classes under each other's sound (``exchange``)
shift, ctp        is it late, early, in step (``preferences``)
hush              an edge is filled as by a shift, and nothing is moved (``preferences``)
moments           in which second is it seen, in which is it heard (``moments``)
op, sp            original-sync preferences; the model's own mistakes (``preferences``, ``mistakes``)
confuse           is there an X sound, with X left out, muted, swapped, untouched (``confuse``)
modified          what is heard where the sound was replaced (``confuse``)
kept              untouched clips: the sound matches, the things are heard (``kept``)
general           ordinary descriptions, so that nothing else is forgotten (``general``)
avqa, avqa-long   multiple choice that needs the media; with its reason (``multiple_choice``)
warm-up           long answers in RL-CoMM's tags (``answering``)
questions         a question file's or the protocols' questions in RL-CoMM's words (``answering``)
================  ========================================================================================

A mixture is drawn by seed. Parts that run out give all that they have, and the others share what is left by their
ratios. ``NAMED`` holds the mixtures; ``named`` looks one up, or reads one that is spelled out ("ctp=2,mute=1").
"""

from __future__ import annotations

import difflib
from typing import Literal

import msgspec

MMA = "Some Modalities Are More Equal Than Others, arXiv 2511.22826, section 5"
THUD = "When Vision Speaks for Sound, arXiv 2605.16403, section 2.3"
RL_COMM = "When Eyes and Ears Disagree, arXiv 2511.10059, section 3"


class Part(msgspec.Struct, frozen=True):
    """A part of a mixture: which maker, its share against the other parts', in which styles it asks."""

    name: str
    ratio: float
    styles: tuple[str, ...]


class Mixture(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe for a training set.

    ``kind`` "sft": supervised rows, no rejected answers are kept; "dpo": preferences; "both": preferences where a
    part has them (a supervised trainer takes their chosen answers). ``n`` is how many pairs are drawn unless said
    otherwise (None: all), ``twins`` the most other clips that one clip is paired with.
    """

    name: str
    kind: Literal["sft", "dpo", "both"]
    parts: tuple[Part, ...]
    n: int | None = 10_000
    twins: int = 10
    quote: str = ""  # what the source says of it
    source: str = ""


THUD_STYLES = ("neutral", "direct")
PLAIN_STYLES = ("plain", "direct")
MOMENTS = ("seen", "heard")
KEPT = (*PLAIN_STYLES, "leading", "neutral")
GENERAL = ("description", "localization", "audio_qa", "attribution")
STYLES: dict[str, tuple[str, ...]] = {  # of a part that is named alone
    "mma": ("standard",), "abstention": ("abstention",), "caption": ("standard",), "mute": THUD_STYLES,
    "room": THUD_STYLES, "hush": THUD_STYLES, "swap": THUD_STYLES, "shift": THUD_STYLES, "ctp": THUD_STYLES,
    "op": ("neutral",), "sp": ("own",), "moments": MOMENTS, "kept": KEPT, "exchange": THUD_STYLES,
    "confuse": ("leading", "neutral"), "modified": ("standard",), "general": GENERAL, "avqa": ("short",),
    "avqa-long": ("long",), "warm-up": ("tagged",), "questions": ("tagged",),
}  # fmt: skip
SFT = Mixture(
    name="thud-sft",
    kind="sft",
    parts=(
        Part("shift", 0.6, ("neutral", "released")),
        Part("mute", 0.2, ("neutral",)),
        Part("swap", 0.2, ("neutral",)),
    ),
    n=3_834,  # the released file: 1,278 sources, each untouched, late and early; it holds shifts alone
    quote="SFT warm-up on intervention-derived data to establish audio-aware response patterns",
    source=THUD,
)
DPO = Mixture(
    name="thud-dpo",
    kind="dpo",
    # Of the 10,000 only the third is known: the released file of it has 1,316 rows. The others are ours.
    parts=(
        Part("ctp", 0.50, ("neutral",)),
        Part("general", 0.37, GENERAL),
        Part("avqa-long", 0.13, ("long",)),
    ),
    quote="our final 10K DPO recipe combining CTP, FV-D, and FV-A-L",
    source=THUD,
)

NAMED: dict[str, Mixture] = {
    m.name: m
    for m in (
        Mixture(
            name="mma",
            kind="sft",
            parts=(Part("mma", 1.0, ("standard",)),),
            n=None,
            quote="each aligned video is paired with 10 clips from distinct classes",
            source=MMA,
        ),
        SFT,
        DPO,
        msgspec.structs.replace(
            DPO,
            name="thud-dpo-all",
            parts=(*DPO.parts, Part("mute", 0.15, THUD_STYLES), Part("swap", 0.15, THUD_STYLES)),
            quote="Additional targeted supervision on Mute and Swap further improves audio-existence and "
            "sound-consistency verification",
        ),
        Mixture(
            name="rl-comm",
            kind="sft",
            parts=(Part("warm-up", 100, ("tagged",)), Part("questions", 1_000, ("tagged",))),
            n=1_100,
            quote="100 high-quality Q&A pairs [for the warm-up]; a few-shot learning approach for Step-RR and "
            "Ans-CO with limited training samples",
            source=RL_COMM,
        ),
        Mixture(
            name="ours",
            kind="both",
            parts=(
                Part("mma", 0.24, ("standard", "cot")),
                Part("abstention", 0.10, ("abstention",)),
                Part("caption", 0.04, ("standard",)),
                Part("mute", 0.06, THUD_STYLES),
                Part("room", 0.04, THUD_STYLES),
                Part("swap", 0.10, THUD_STYLES),
                Part("shift", 0.10, THUD_STYLES),
                Part("hush", 0.04, THUD_STYLES),
                Part("confuse", 0.10, ("leading", "neutral")),
                Part("modified", 0.05, ("standard",)),
                Part("general", 0.06, GENERAL),
                Part("avqa-long", 0.03, ("long",)),
                Part("sp", 0.04, ("own",)),
            ),
            quote="all parts; ratios are ours",
        ),
        Mixture(
            name="hans-sync",
            kind="both",
            parts=(
                # The first three give all they have, so that questions meet on the same media; the rest is ballast.
                Part("moments", 0.42, ("seen",)),
                Part("hush", 0.42, ("direct",)),
                Part("shift", 0.20, ("direct",)),
                Part("mma", 0.08, ("standard", "cot")),
                Part("abstention", 0.02, ("abstention",)),
                Part("mute", 0.02, PLAIN_STYLES),
                Part("swap", 0.05, PLAIN_STYLES),
                Part("confuse", 0.06, ("leading", "neutral")),
                Part("modified", 0.02, ("standard",)),
            ),
            n=28_000,
            quote="synchrony before all else: when is it seen, are the two in step; ours",
        ),
        Mixture(
            name="hans",
            kind="both",
            parts=(
                Part("mma", 0.16, ("standard", "cot")),
                Part("abstention", 0.10, ("abstention",)),
                Part("caption", 0.04, ("standard",)),
                Part("mute", 0.07, PLAIN_STYLES),
                Part("room", 0.05, PLAIN_STYLES),
                Part("swap", 0.24, PLAIN_STYLES),
                Part("shift", 0.16, PLAIN_STYLES),
                Part("hush", 0.16, PLAIN_STYLES),
                Part("confuse", 0.24, ("leading", "neutral")),
                Part("modified", 0.06, ("standard",)),
            ),
            n=16_000,
            quote="what all three protocols ask, answered in the few words that Hans knows; ours",
        ),
        Mixture(
            name="hans-hard",
            kind="both",
            parts=(
                Part("mma", 0.05, ("standard", "cot")),
                Part("abstention", 0.03, ("abstention",)),
                Part("caption", 0.02, ("standard",)),
                Part("mute", 0.02, PLAIN_STYLES),
                Part("room", 0.02, PLAIN_STYLES),
                Part("exchange", 0.38, PLAIN_STYLES),
                Part("shift", 0.05, PLAIN_STYLES),
                Part("hush", 0.05, PLAIN_STYLES),
                Part("confuse", 0.34, ("leading", "neutral")),
                Part("modified", 0.03, ("standard",)),
                Part("kept", 0.05, KEPT),
            ),
            n=20_000,
            quote="what Hans finds hard, swaps and left-out sounds, with a little of all else; ours",
        ),
        Mixture(
            name="hans-last",
            kind="both",
            parts=(
                Part("mma", 0.09, ("standard", "cot")),
                Part("abstention", 0.05, ("abstention",)),
                Part("caption", 0.02, ("standard",)),
                Part("mute", 0.03, PLAIN_STYLES),
                Part("room", 0.02, PLAIN_STYLES),
                Part("exchange", 0.27, PLAIN_STYLES),
                Part("shift", 0.06, PLAIN_STYLES),
                Part("hush", 0.06, PLAIN_STYLES),
                Part("confuse", 0.27, ("leading", "neutral")),
                Part("modified", 0.04, ("standard",)),
                Part("kept", 0.12, KEPT),
            ),
            n=16_000,
            quote="all parts once more, slowly, with more untouched clips, so that needless doubts go; ours",
        ),
        Mixture(
            name="hans-carry",
            kind="both",
            parts=(
                Part("mma", 0.40, ("standard",)),
                Part("abstention", 0.14, ("abstention",)),
                Part("caption", 0.05, ("standard",)),
                Part("mute", 0.09, PLAIN_STYLES),
                Part("room", 0.06, PLAIN_STYLES),
                Part("confuse", 0.16, ("leading", "neutral")),
                Part("kept", 0.10, KEPT),
            ),
            n=14_000,
            quote="what carries over to things that are not in it: which sense is asked for, whether there is "
            "anything; ours",
        ),
    )
}


def named(name: str) -> Mixture:
    """The mixture of that name, one part alone ("ctp"), or parts with their ratios ("ctp=2,mute=1").

    Raises ValueError for an unknown mixture or part, with the nearest, and for ratios that are none.
    """
    if name in NAMED:
        return NAMED[name]
    parts = []
    for text in name.split(","):
        part, _, ratio = (piece.strip() for piece in text.partition("="))
        if part not in STYLES:
            close = difflib.get_close_matches(part, [*NAMED, *STYLES], n=1)
            guess = f" (did you mean {close[0]}?)" if close else ""
            raise ValueError(
                f"--mixture {name}: there is no mixture and no part {part!r}{guess}; mixtures: {', '.join(NAMED)}; "
                f"parts: {', '.join(STYLES)}"
            )
        try:
            share = float(ratio or 1.0)
        except ValueError:
            share = -1.0
        if not 0 < share < float("inf"):
            raise ValueError(f"--mixture {name}: the ratio of {part} wants a number above 0, got {ratio!r}")
        parts.append(Part(part, share, STYLES[part]))
    if len({p.name for p in parts}) < len(parts):
        raise ValueError(f"--mixture {name}: a part is named twice")
    return Mixture(name=name, kind="both", parts=tuple(parts), quote="as spelled out")
