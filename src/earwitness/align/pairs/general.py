"""Ordinary video instructions, so that a model that learns to doubt the sound forgets nothing else.

Thud mixes its preferences with general ones made from timed descriptions (arXiv 2605.16403, section 2.3, Appendix
E) in four instruction types. The instruction words are the paper's; the third has none there, and the times, the
cue and all answers are ours:

=============  ==============================================================================================
description    "Describe visible events and audible cues."  rejected: another clip's events
localization   "Locate visual/audio events in time."        rejected: the same events at each other's times
audio_qa       "What is heard from 2.0s to 4.5s?"           rejected: another clip's sound
attribution    "Infer the source or material of a cue."     rejected: another clip's cue and source
=============  ==============================================================================================

Both answers are one sentence with other facts, and two clips lend each other theirs, so that what is chosen of
one is rejected of the other. No rule can read such answers: the items have no target, so they are rows for
supervised learning and for preferences, not for rewards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from earwitness.align.pairs.spans import alone, apart, between, elsewhere, of_foley, onsets
from earwitness.align.pairs.stock import Plan, Span, Stock, Unit, counted, pair
from earwitness.protocols.making import finish
from earwitness.questions import same
from earwitness.records import Clip, Item, Pair, digest

INSTRUCTIONS = {
    "description": "Describe visible events and audible cues.",
    "localization": "Locate visual/audio events in time.",
    "audio_qa": "What is heard {when}?",
    "attribution": "Infer the source or material of a cue. The cue is the sound at {start:.1f}s.",
}
MATES = 3  # other clips that one clip exchanges facts with
MOST = 6  # spans that an answer tells of
LOOK = 60  # clips looked at for a mate
DECODE = 192
Found = tuple[str, str, str] | None  # prompt, right, wrong


class Told(NamedTuple):
    """What is told of a clip, and of the mate that lends it false facts."""

    clip: Clip
    own: Sequence[Span]
    mate: Clip
    strange: Sequence[Span]


def described(stock: Stock) -> tuple[dict[str, tuple[Span, ...]], dict[str, Clip]]:
    """Spans by clip: those of a file, else a procedural clip's own events; and those clips by id."""
    spans = {c.id: stock.spans.get(c.id) or of_foley(c) for c in stock.clips}
    told = {i: some[:MOST] for i, some in spans.items() if some}
    return told, {c.id: c for c in stock.clips if c.id in told}


def mates(stock: Stock, spans: dict[str, tuple[Span, ...]], clips: dict[str, Clip]) -> list[tuple[str, str, int]]:
    """Pairs of clips of other sources that tell of other sounds: (clip, mate, turn)."""
    order = sorted(clips, key=lambda i: digest("mate", stock.seed, i))
    out: list[tuple[str, str, int]] = []
    met: set[frozenset[str]] = set()
    for n, one in enumerate(order):
        turn = 0
        for step in range(1, min(LOOK, len(order))):
            other = order[(n + step) % len(order)]
            if frozenset((one, other)) in met:
                continue
            if clips[one].cluster != clips[other].cluster and apart(spans[one], spans[other]):
                met.add(frozenset((one, other)))
                out.append((one, other, turn))
                turn += 1
            if turn == MATES:
                break
    return out


def general(stock: Stock, styles: Sequence[str]) -> Plan:
    """The four instruction types on all clips with timed descriptions."""
    spans, clips = described(stock)
    units = []
    met: set[tuple[str, Found]] = set()
    for one, other, turn in mates(stock, spans, clips):
        for style in styles:
            told = [Told(clips[a], spans[a], clips[b], spans[b]) for a, b in ((one, other), (other, one))]
            both = {(t.clip.id, _MAKERS[style](t)) for t in told}
            if any(found is None for _, found in both) or both & met:  # two mates may sound alike
                continue
            met |= both
            kind = same(clips[one].heard[0]) if clips[one].heard else ""
            key = f"general/{style}/{one}/{turn}"
            units.append(Unit(key, one, f"{style}/{kind}", 2, partial(_exchanged, told, style)))
    lost = len(stock.clips) - len(clips)
    return Plan(units, counted(len(stock.clips), lost, "have no timed descriptions: no general rows"))


def _exchanged(told: Sequence[Told], style: str) -> list[Pair]:
    out = []
    for t in told:
        found, clip = _MAKERS[style](t), t.clip
        assert found is not None  # looked at before
        prompt, right, wrong = found
        item = Item(
            id="", protocol="general", condition="original", question="caption", style=style, clip=clip.id,
            source=clip.cluster, group=digest("general", clip.id, prompt), prompt=prompt, target=None,
            evidence=("audio", "video"), seen=clip.seen, heard=clip.heard, decode=DECODE, task=style,
            tags={"reference": right},
        )  # fmt: skip
        out.append(pair(finish(item), "general", right, wrong, f"the facts are this clip's, not {t.mate.id}'s"))
    return out


def _description(told: Told) -> Found:
    """The other clip's events at this one's times: sight and sound together, for in an untouched clip they agree.

    With the sound alone exchanged, the wrong text would be the one whose sound does not go with its picture.
    """
    right = " ".join(_event(s, s) for s in told.own)
    wrong = " ".join(_event(told.strange[n % len(told.strange)], s) for n, s in enumerate(told.own))
    return INSTRUCTIONS["description"], right, wrong


def _event(span: Span, when: Span) -> str:
    parts = [f"one sees: {span.visual}"] * bool(span.visual) + [f"one hears: {span.audio}"] * bool(span.audio)
    return f"{between(when).capitalize()} {'; '.join(parts)}."


def _localization(told: Told) -> Found:
    """The events of a clip at each other's times; of a single one, at the other clip's."""
    moved = [*told.own[1:], told.own[0]] if len(told.own) > 1 else [told.strange[0]]
    clip, theirs = told.clip, told.clip if len(told.own) > 1 else told.mate
    if not all(elsewhere(onsets(s, clip), onsets(m, theirs)) for s, m in zip(told.own, moved, strict=True)):
        return None
    right = " ".join(f"{_what(s)}: {_when(s, clip)}." for s in told.own)
    wrong = " ".join(f"{_what(s)}: {_when(m, theirs)}." for s, m in zip(told.own, moved, strict=True))
    return INSTRUCTIONS["localization"], right, wrong


def _what(span: Span) -> str:
    what = ", ".join(part for part in (span.visual, span.audio) if part)
    return what[:1].upper() + what[1:]


def _when(span: Span, clip: Clip) -> str:
    times = [f"{t:.1f}s" for t in onsets(span, clip)]
    return f"at {', '.join(times)}" if clip.foley is not None else between(span)


def _audio_qa(told: Told) -> Found:
    mine = next((s for s in told.own if s.audio and alone(s, told.clip, told.own)), None)
    theirs = next((s for s in told.strange if s.audio), None)
    if mine is None or theirs is None:
        return None
    prompt = INSTRUCTIONS["audio_qa"].format(when=between(mine))
    return prompt, f"What is heard then: {mine.audio}.", f"What is heard then: {theirs.audio}."


def _attribution(told: Told) -> Found:
    mine = next((s for s in told.own if s.audio and s.visual and alone(s, told.clip, told.own)), None)
    theirs = next((s for s in told.strange if s.audio and s.visual), None)
    if mine is None or theirs is None:
        return None
    right, wrong = (
        f"The cue is this: {s.audio}. Its source is what is seen then: {s.visual}." for s in (mine, theirs)
    )
    return INSTRUCTIONS["attribution"].format(start=mine.start), right, wrong


_MAKERS: dict[str, Callable[[Told], Found]] = {
    "description": _description,
    "localization": _localization,
    "audio_qa": _audio_qa,
    "attribution": _attribution,
}
STYLES = tuple(_MAKERS)
__all__ = ["INSTRUCTIONS", "STYLES", "described", "general", "mates"]
