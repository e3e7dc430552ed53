"""Nothing was done to the clip: the sound is its own, and everything that is seen to sound is heard.

A model that learns to doubt the sound also doubts sounds that it need not. Parts with twins ask about an untouched
clip as often as about a changed one; users mostly show clips that nobody changed. These rows add untouched ones, so
that the doubt fits what is met: does the sound match (it does), is there an X sound (there is).

Rows for supervised learning alone: no twin makes their answers wrong, so a preference for them could be learned
without listening, and none is given.

Function: ``kept`` (styles "plain", "direct": Thud's question; "leading", "neutral": AV-ConfuseBench's).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from earwitness.align.pairs import phrases
from earwitness.align.pairs.preferences import asked_in
from earwitness.align.pairs.stock import Plan, Stock, Unit, counted, pair
from earwitness.protocols import av_confuse, thud
from earwitness.questions import same
from earwitness.records import Clip, Intervention, Pair

WHY = "the clip is untouched"


def kept(stock: Stock, styles: Sequence[str]) -> Plan:
    """Untouched clips whose sound is of what is seen: all of them match, and all their things are heard."""
    clips = [c for c in stock.clips if c.seen and thud.agrees(c)]
    units = []
    for clip in clips:
        for style in styles:
            if style in ("plain", "direct"):
                key = f"kept/{style}/{clip.id}"
                units.append(Unit(key, clip.id, _kind(clip), 1, partial(_match, clip, style)))
                continue
            for thing in av_confuse.sounding(clip):
                key = f"kept/{style}/{clip.id}/{thing}"
                units.append(Unit(key, clip.id, _kind(clip), 1, partial(_there, clip, thing, style)))
    lost = len(stock.clips) - len(clips)
    return Plan(units, counted(len(stock.clips), lost, "do not show what they sound like: nothing to keep"))


def _kind(clip: Clip) -> str:
    """Draws are balanced over how many things there are, then over classes: the more there are, the harder."""
    return f"{len(clip.heard)}/{same(clip.heard[0])}"


def _match(clip: Clip, style: str) -> list[Pair]:
    item = thud.item_of(clip, "original", "swap", asked_in(style), Intervention(), None, None, 0.0)
    return [pair(item, "kept", phrases.swap(clip.seen, clip.heard, True, style, 0), None, WHY, style)]


def _there(clip: Clip, thing: str, style: str) -> list[Pair]:
    return [pair(av_confuse.instrument_item(clip, None, thing, style), "kept", "yes", None, WHY, style)]


__all__ = ["kept"]
