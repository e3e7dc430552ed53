"""Swaps as an audit makes them: two clips take each other's sound, the commonest classes first.

``swap`` gives a clip sounds of all other classes alike. In an audit clips are paired off (``making.donors``), so
what is common meets what is common: a strike under another strike, of the same length. A model that was taught by
``swap`` alone took nearly all of these for matches. Here the same rule draws the donors, with a seed a draw; the
answers and mirrors are those of ``swap``, and every style has as many rows as the other.

Function: ``exchange`` (styles as in ``swap``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from earwitness.align.pairs import preferences
from earwitness.align.pairs.stock import Plan, Stock, Unit, counted
from earwitness.protocols import thud
from earwitness.protocols.making import donors
from earwitness.questions import same

PAIRINGS = 6  # of all clips, each with a seed of its own


def exchange(stock: Stock, styles: Sequence[str]) -> Plan:
    """Do sound and picture belong together? On clips that took each other's sound, and on the untouched ones."""
    clips = [c for c in stock.clips if thud.agrees(c)]
    met: set[tuple[str, str]] = set()
    units: list[Unit] = []
    for draw in range(PAIRINGS):
        found = donors(clips, stock.seed + draw, stock.settings.donor_uses)
        for clip in clips:
            donor = found.get(clip.id)
            if donor is None or (clip.id, donor.id) in met:
                continue
            met.add((clip.id, donor.id))
            units += [
                Unit(
                    f"exchange/{style}/{clip.id}/{draw}", clip.id, same(clip.heard[0]), 2,
                    partial(preferences.swapped, clip, donor, style, draw, "exchange"),
                )
                for style in styles
            ]  # fmt: skip
    total, alone = len(stock.clips), len(clips) - len({clip for clip, _ in met})
    return Plan(
        units,
        [
            *counted(total, total - len(clips), "do not show what they sound like: not exchanged"),
            *counted(len(clips), alone, "have no donor of another source and class: not exchanged"),
        ],
    )


__all__ = ["exchange"]
