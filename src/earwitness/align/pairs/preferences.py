"""Hear it, do not guess it: pairs on clips whose sound is moved, gone, or another's, and their mirrors.

A preference (arXiv 2605.16403, section 2.2) is an intervened clip, a question, a chosen answer that checks the
sound and a rejected one that a watcher would give. Every pair here has a mirror on the clip's twin in which the
two answers change places, in the same words: whoever does not listen cannot tell chosen from rejected.

=========  ============================================  ======================================================
part       pairs of a unit                               rejected
=========  ============================================  ======================================================
``mute``   muted; untouched                              hears what is seen; hears nothing
``room``   only room tone left; untouched                as ``mute``
``swap``   another's sound; untouched                    finds a match; finds none
``ctp``    moved; untouched (late and early by turns)    in step; moved as its twin is
``shift``  as ``ctp``; and late; early                   as ``ctp``; and the other direction
``hush``   filled as by a shift; moved (same fill)       moved; in step
``op``     two untouched clips                           the other clip's event, or its times
``sp``     what a model got wrong in a run; its twin     the model's own words; the truth of the first clip
=========  ============================================  ======================================================

Styles "neutral" (open answers, :mod:`.phrases`) and "direct" (closed ones); "released" asks about
synchrony in the words of Thud's released training file; "plain" answers the open questions in the one short
sentence of ``questions.wording``, for models that know few words (a phrase then tells silence from sound: rows
for sft).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import msgspec

from earwitness.align.pairs import phrases
from earwitness.align.pairs.stock import Plan, Stock, Unit, counted, pair, partners
from earwitness.protocols import thud
from earwitness.protocols.making import finish, fits, length
from earwitness.questions import same
from earwitness.records import Clip, Event, Fill, Intervention, Item, Pair

# The three questions of thud_sft_video_train_with_audio.json (rakanWen/wvs-code, Apache-2.0).
RELEASED = (
    "Are the audio and video tracks synchronized in this video?",
    "Is there any noticeable audio delay or temporal manipulation in this clip?",
    "Identify the exact timing of the visual impact and its corresponding sound. Do they align?",
)
IN_STEP = 0.2  # seconds: an event heard later than this after it is seen is not "synchronized" to begin with
CLOSED = 3  # donors for closed answers: the untouched clip's row is the same each time
ONE_WAY = ("direct", "plain")  # styles with one wording for each answer
DRAWS = 3  # shifts drawn per clip and style
APART = 1.0  # seconds between two clips' events whose times ``op`` exchanges


def mute(stock: Stock, styles: Sequence[str], fill: Fill = "silence") -> Plan:
    """Is there a sound? On the muted clip and on the untouched one."""
    part = "mute" if fill == "silence" else "room"
    clips = [c for c in stock.clips if c.heard]
    units = [
        Unit(
            f"{part}/{style}/{clip.id}/{turn}",
            clip.id,
            same(clip.heard[0]),
            2,
            partial(_mute, clip, style, turn, fill),
        )
        for clip in clips
        for style in styles
        for turn in range(len(phrases.MUTE) if style not in ONE_WAY else 1)
    ]
    return Plan(units, counted(len(stock.clips), len(stock.clips) - len(clips), "have no heard class: not muted"))


def room(stock: Stock, styles: Sequence[str]) -> Plan:
    """As ``mute``, but the room is still heard: silence is not digital silence."""
    return mute(stock, styles, "room")


def _mute(clip: Clip, style: str, turn: int, fill: Fill) -> list[Pair]:
    silent, sound = phrases.mute((), style, turn), phrases.mute(clip.heard, style, turn)
    asked = asked_in(style)
    part, condition = ("mute", "mute") if fill == "silence" else ("room", "mute_room")
    gone = thud.item_of(clip, condition, "mute", asked, Intervention(kind="mute", fill=fill), None, None, 0.0)
    there = thud.item_of(clip, "original", "mute", asked, Intervention(), None, None, 0.0)
    return [
        pair(gone, part, silent, sound, "the sound is gone; what is seen is not heard"),
        pair(there, part, sound, silent, "the clip is untouched and it sounds"),
    ]


def swap(stock: Stock, styles: Sequence[str]) -> Plan:
    """Do sound and picture belong together? On the clip with another's sound and on the untouched one."""
    clips = [c for c in stock.clips if thud.agrees(c)]
    found = partners(clips, stock.seed, stock.twins)
    alone = sum(c.id not in found for c in clips)
    units = [
        Unit(
            f"swap/{style}/{clip.id}/{turn}",
            clip.id,
            same(clip.heard[0]),
            2,
            partial(swapped, clip, donor, style, turn),
        )
        for clip in clips
        for style in styles
        for turn, donor in enumerate(found.get(clip.id, ())[: CLOSED if style == "direct" else None])
    ]
    lines = counted(
        len(stock.clips), len(stock.clips) - len(clips), "do not show what they sound like: not swapped"
    )
    return Plan(
        units, [*lines, *counted(len(clips), alone, "have no donor of another source and class: not swapped")]
    )


def swapped(clip: Clip, donor: Clip, style: str, turn: int, part: str = "swap") -> list[Pair]:
    """Thud's question about a clip under a donor's sound, and about the untouched clip."""
    own = phrases.swap(clip.seen, clip.heard, True, style, turn)
    other = phrases.swap(clip.seen, donor.heard, False, style, turn)
    iv = Intervention(kind="swap", donor=donor.id)
    asked = asked_in(style)
    changed = thud.item_of(clip, "swap", "swap", asked, iv, "MISMATCH", donor, 0.0)
    there = thud.item_of(clip, "original", "swap", asked, Intervention(), None, None, 0.0)
    return [
        pair(changed, part, other, own, f"the sound is another clip's: {', '.join(donor.heard)}"),
        pair(there, part, own, other, "the clip is untouched: its sound is its own", donor.id),
    ]


def asked_in(style: str) -> str:
    """The style of the question; what is answered may have one of its own."""
    return "neutral" if style in ("released", "plain") else style


def shift(stock: Stock, styles: Sequence[str]) -> Plan:
    """Is the sound late, early, in step? Each of the three against each other one, both ways round."""
    return _timed(stock, styles, "shift", list(combinations((0, 1, -1), 2)))


def ctp(stock: Stock, styles: Sequence[str]) -> Plan:
    """Counterfactual temporal preferences: the untouched and the moved clip, chosen and rejected change places."""
    return _timed(stock, styles, "ctp", [(0, 1), (0, -1)])


def hush(stock: Stock, styles: Sequence[str]) -> Plan:
    """Is it the timing, or the fill? The filled clip against the moved one, with the same fill at the same edge.

    Zeros and room tone by turns. Without these a shift is learned by its traces (docs/repair.md).
    """
    units: list[Unit] = []
    none = 0
    for clip in stock.clips:
        event, whole = first_event(clip), length(clip)
        if event is None or whole is None or abs(_lag(event)) > IN_STEP:
            none += 1
            continue
        before = len(units)
        for draw in range(DRAWS):
            by = thud.band_shift(clip, msgspec.structs.replace(stock.settings, seed=stock.seed + draw))
            units += [
                Unit(
                    f"hush/{style}/{clip.id}/{draw}/{edge}", clip.id, same(event.what), 2,
                    partial(_hushed, clip, event, style, draw + n, edge),
                )
                for style in styles
                for n, edge in enumerate(thud.hushes(clip, by))
                if fits(clip, edge) or fits(clip, -edge)
            ]  # fmt: skip
        none += len(units) == before
    return Plan(units, counted(len(stock.clips), none, "have no edge that could be filled: no hush"))


def _hushed(clip: Clip, event: Event, style: str, turn: int, edge: float) -> list[Pair]:
    fill: Fill = "room" if turn % 2 else "silence"
    by = edge if fits(clip, edge) else -edge  # the same edge where the clip allows it
    at = event.seen or 0.0
    step, off = (phrases.shift(event.what, at, s, style, turn) for s in (0.0, by))
    iv = Intervention(kind="hush", seconds=edge, fill=fill)
    still = thud.item_of(clip, "hush", "shift", asked_in(style), iv, None, None, 0.0)
    return [
        pair(_released(still, style, turn), "hush", step, off, "an edge is filled, nothing is moved", edge, turn),
        pair(asked_when(clip, by, style, turn, fill), "hush", off, step, _told(by), edge, turn),
    ]


def _timed(stock: Stock, styles: Sequence[str], part: str, against: Sequence[tuple[int, int]]) -> Plan:
    units, lost = [], dict.fromkeys(("event", "step", "edge"), 0)
    for clip in stock.clips:
        event = first_event(clip)
        if event is None:
            lost["event"] += 1
            continue
        if abs(_lag(event)) > IN_STEP:
            lost["step"] += 1
            continue
        any_fits = False
        for draw in range(DRAWS):
            by = thud.band_shift(clip, msgspec.structs.replace(stock.settings, seed=stock.seed + draw))
            may = {0: True, 1: fits(clip, by), -1: fits(clip, -by)}
            any_fits = any_fits or may[1] or may[-1]
            units += [
                Unit(
                    f"{part}/{style}/{clip.id}/{draw}/{one}{other}", clip.id, same(event.what), 2,
                    partial(_moved, part, clip, event, style, draw + n, one * by, other * by),
                )
                for style in styles
                if draw == 0 or style != "direct"  # the untouched clip's closed row would be the same again
                for n, (one, other) in enumerate(against)
                if may[one] and may[other]
            ]  # fmt: skip
        lost["edge"] += not any_fits
    total = len(stock.clips)
    return Plan(
        units,
        [
            *counted(total, lost["event"], "have no event with a seen and a heard time: not shifted"),
            *counted(total, lost["step"], f"are heard more than {IN_STEP} s off to begin with: not shifted"),
            *counted(total, lost["edge"], "cannot be shifted (an event would leave the clip, or meet another one)"),
        ],
    )


def first_event(clip: Clip) -> Event | None:
    """The clip's first event with both times."""
    both = [e for e in clip.events if e.seen is not None and e.heard is not None]
    return min(both, key=lambda e: e.seen or 0.0) if both else None


def _lag(event: Event) -> float:
    return (event.heard or 0.0) - (event.seen or 0.0)


def _moved(part: str, clip: Clip, event: Event, style: str, turn: int, one: float, other: float) -> list[Pair]:
    """The clip moved by ``one`` and by ``other`` (seconds; 0 = untouched), each against the other's answer."""
    at = event.seen or 0.0
    said = {by: phrases.shift(event.what, at, by, style, turn) for by in (one, other)}
    return [
        pair(asked_when(clip, by, style, turn), part, said[by], said[wrong], _told(by), wrong, turn)
        for by, wrong in ((one, other), (other, one))
    ]


def _told(by: float) -> str:
    return (
        "the clip is untouched: sound and picture are in step"
        if by == 0
        else (f"the sound is {abs(by):.2f} s {'late' if by > 0 else 'early'}")
    )


def asked_when(clip: Clip, by: float, style: str, turn: int = 0, fill: Fill = "room") -> Item:
    """Thud's question about synchrony on a clip whose sound is moved by ``by`` seconds (0 = untouched)."""
    truth = None if by == 0 else "DELAY" if by > 0 else "EARLY"
    iv = Intervention() if by == 0 else Intervention(kind="shift", seconds=by, fill=fill)
    item = thud.item_of(clip, "original" if by == 0 else "shift", "shift", asked_in(style), iv, truth, None, by)
    return _released(item, style, turn)


def _released(item: Item, style: str, turn: int) -> Item:
    """The item in the words of the released file where that style is asked for."""
    if style != "released":
        return item
    return finish(msgspec.structs.replace(item, prompt=RELEASED[turn % len(RELEASED)], style=style))


def op(stock: Stock, styles: Sequence[str]) -> Plan:
    """Original-sync preferences: both answers find the clip in step; one names another clip's event, or its times.

    The scorer reads the relation alone and would find both right, so these items have no target: rows for
    preferences, not for rewards.
    """
    timed = [c for c in stock.clips if (e := first_event(c)) is not None and abs(_lag(e)) <= IN_STEP]
    clips = sorted(timed, key=lambda c: c.id)
    found = partners(clips, stock.seed, stock.twins)
    units = []
    met: set[tuple[str, str]] = set()
    for clip in clips:
        for turn, donor in enumerate(found.get(clip.id, ())):
            both = abs(_first(clip) - _first(donor)) >= APART
            for what in ("event", "times") if both else ("event",):
                made = [(p.item.clip, f"{p.chosen}|{p.rejected}") for p in _op(clip, donor, turn, what)]
                if not met.isdisjoint(made):  # another clip's event may be called the same, at the same time
                    continue
                met.update(made)
                key = f"op/{clip.id}/{turn}/{what}"
                units.append(Unit(key, clip.id, same(clip.heard[0]), 2, partial(_op, clip, donor, turn, what)))
    lost = len(stock.clips) - len(clips)
    return Plan(units, counted(len(stock.clips), lost, "have no event seen and heard in step: no op"))


def _first(clip: Clip) -> float:
    event = first_event(clip)
    assert event is not None
    return event.seen or 0.0


def _op(clip: Clip, other: Clip, turn: int, what: str) -> list[Pair]:
    out = []
    for mine, theirs in ((clip, other), (other, clip)):
        event, strange = first_event(mine), first_event(theirs)
        assert event is not None
        assert strange is not None
        at = event.seen or 0.0
        right = phrases.shift(event.what, at, 0.0, "neutral", turn)
        wrong = phrases.shift(
            strange.what if what == "event" else event.what, at if what == "event" else strange.seen or 0.0, 0.0,
            "neutral", turn,
        )  # fmt: skip
        item = finish(msgspec.structs.replace(asked_when(mine, 0.0, "neutral"), target=None))
        why = f"it is {event.what}, not {strange.what}" if what == "event" else f"it happens at {at:.1f} s"
        out.append(pair(item, "op", right, wrong, why, theirs.id))
    return out


__all__ = [
    "asked_in", "asked_when", "ctp", "first_event", "hush", "mute", "op", "room", "shift", "swap", "swapped",
]  # fmt: skip
