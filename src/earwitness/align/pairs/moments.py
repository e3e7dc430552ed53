"""When is it seen, and when is it heard? Rows for models that can tell neither time, before they compare the two.

A verdict of one letter says little about where to look: late, early or in step may all be guessed from what an edge
sounds like. Here both moments are asked for by themselves, on the untouched clip, on the moved one and on the one
whose edge is filled (``hush``), so that what is seen does not follow from what is heard. The answer is a second
of the clip, rounded down.

On a moved clip each moment is the rejected answer to the other question; on a clip in step it is the second at
which the moved sound would be heard. The scorer has no rule for such answers: the items have no target, so they are
rows for supervised learning and for preferences, not for rewards.

Function: ``moments`` (styles "seen", "heard").
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from earwitness.align.pairs.preferences import DRAWS, IN_STEP, first_event
from earwitness.align.pairs.stock import Plan, Stock, Unit, counted, pair
from earwitness.protocols import thud
from earwitness.protocols.making import finish, fits
from earwitness.questions import same
from earwitness.records import Clip, Event, Evidence, Fill, Intervention, Item, Pair, digest

ASKED = {
    "seen": "When is it seen, in whole seconds?",
    "heard": "When is it heard, in whole seconds?",
}
EVIDENCE: dict[str, Evidence] = {"seen": "video", "heard": "audio"}
DECODE = 16


def moments(stock: Stock, styles: Sequence[str]) -> Plan:
    """Both moments of each clip with one event that is seen and heard in step: on the very media of ``hush``.

    So a batch may ask for the moments and for the verdict behind the same clip, and little more is rendered.
    """
    units: list[Unit] = []
    lost = still = 0
    for clip in stock.clips:
        event = first_event(clip)
        if len(clip.events) != 1 or event is None or abs((event.heard or 0.0) - (event.seen or 0.0)) > IN_STEP:
            lost += 1
            continue
        before = len(units)
        for draw in range(DRAWS):
            size = thud.band_shift(clip, msgspec.structs.replace(stock.settings, seed=stock.seed + draw))
            for n, edge in enumerate(thud.hushes(clip, size)):
                by = edge if fits(clip, edge) else -edge
                if not fits(clip, by):
                    continue
                units += [
                    Unit(
                        f"moments/{style}/{clip.id}/{draw}/{edge}", clip.id, same(event.what), 2,
                        partial(_both, clip, event, style, edge, by, draw + n),
                    )
                    for style in styles
                ]  # fmt: skip
        still += len(units) == before
    total = len(stock.clips)
    return Plan(
        units,
        [
            *counted(total, lost, "have not one event that is seen and heard in step: no moments"),
            *counted(total, still, "have no edge that could be filled: no moments"),
        ],
    )


def _both(clip: Clip, event: Event, style: str, edge: float, by: float, turn: int) -> list[Pair]:
    """The moment on the moved clip, and on the one that is filled at ``edge``."""
    fill: Fill = "room" if turn % 2 else "silence"
    seen, heard = int(event.seen or 0.0), int((event.seen or 0.0) + by)
    own, other = (seen, heard) if style == "seen" else (heard, seen)
    moved = _item(clip, style, Intervention(kind="shift", seconds=by, fill=fill), by)
    still = _item(clip, style, Intervention(kind="hush", seconds=edge, fill=fill), 0.0)
    why = f"seen in second {seen}, heard in {heard}"
    return [
        pair(moved, "moments", str(own), str(other), why, edge, turn),
        pair(still, "moments", str(seen), str(heard), f"seen and heard in second {seen}", edge, turn),
    ]


def _item(clip: Clip, style: str, iv: Intervention, by: float) -> Item:
    prompt = ASKED[style]
    return finish(
        Item(
            id="", protocol="general", condition=iv.kind, question="caption", style=style, clip=clip.id,
            source=clip.cluster, group=digest("moments", clip.id, prompt), intervention=iv, prompt=prompt,
            target=None, evidence=(EVIDENCE[style],), seen=clip.seen, heard=clip.heard, offset=by, decode=DECODE,
            task="moments",
        )
    )  # fmt: skip


__all__ = ["ASKED", "moments"]
