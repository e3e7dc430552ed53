"""Is it heard, or only seen? Rows of AV-ConfuseBench's two tasks, positives and negatives balanced.

``presence``: "Is there a/an X sound?" Where a clip's sound can be taken apart, X or another thing is left out;
where it cannot, the sound is muted or another clip's. Half of the answers are yes, and for every question the
same one is asked where the other answer is right.

``modified``: "Describe what you see and what you hear", on the clip with its sound replaced by wind, rain, ...
and on the untouched one; chosen and rejected change places between them.

Source: arXiv 2511.10059, which tests these and trains on neither; every right answer is "no" there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from earwitness.align.pairs import phrases
from earwitness.align.pairs.stock import Plan, Stock, Unit, counted, names, pair, partners
from earwitness.interventions import right_answer
from earwitness.protocols import av_confuse
from earwitness.protocols.making import finish, length, shuffled
from earwitness.questions import answer_choices, clean, instrument_prompt, same
from earwitness.records import Clip, Intervention, Item, Pair, digest


def presence(stock: Stock, styles: Sequence[str]) -> Plan:
    """Is there an X sound: with stems left out, muted, under another's sound, untouched."""
    clips = sorted(stock.clips, key=lambda c: c.id)
    choirs = [c for c in clips if len(av_confuse.sounding(c)) > 1]
    alone = [c for c in clips if len(c.heard) == 1 and c.seen and names(c.heard) <= names(c.seen)]
    units = []
    for style in styles:
        for clip in choirs:
            things = av_confuse.sounding(clip)
            units += [
                Unit(
                    f"confuse/{style}/{clip.id}/{x}/{y}", clip.id, same(x), 2, partial(_left_out, clip, x, y, style)
                )
                for x, y in zip(things, (*things[1:], things[0]), strict=True)
            ]
        for clip, thing, other in _absent(stock, choirs):
            key = f"confuse/{style}/{clip.id}/{thing}/absent"
            units.append(Unit(key, clip.id, same(thing), 2, partial(_elsewhere, clip, thing, other, style)))
        for clip in alone:
            key = f"confuse/{style}/{clip.id}/gone"
            units.append(Unit(key, clip.id, same(clip.heard[0]), 2, partial(_gone, clip, style)))
        for clip, donor in _crossed(alone, stock):
            key = f"confuse/{style}/{clip.id}/{donor.id}"
            units.append(Unit(key, clip.id, same(clip.heard[0]), 4, partial(_exchanged, clip, donor, style)))
    lost = len(stock.clips) - len({u.clip for u in units})
    return Plan(units, counted(len(stock.clips), lost, "have neither stems of two heard things nor one class"))


def _absent(stock: Stock, choirs: Sequence[Clip]) -> Iterator[tuple[Clip, str, Clip]]:
    """For each thing in a clip another clip without it, which no other clip has for the same thing."""
    taken: set[tuple[str, str]] = set()
    own = {c.id: names((*c.seen, *c.heard)) for c in stock.clips}
    for clip in choirs:
        for thing in av_confuse.sounding(clip):
            order = shuffled([c for c in choirs if same(thing) not in own[c.id]], "absent", stock.seed, clip.id)
            other = next((c for c in order if (same(thing), c.id) not in taken), None)
            if other is not None:
                taken.add((same(thing), other.id))
                yield clip, thing, other


def _crossed(alone: Sequence[Clip], stock: Stock) -> Iterator[tuple[Clip, Clip]]:
    """Two clips that may each have the other's sound, each two once."""
    found = partners(alone, stock.seed, stock.twins)
    lengths = {c.id: length(c) for c in alone}
    met: set[frozenset[str]] = set()
    for clip in alone:
        for donor in found.get(clip.id, ()):
            both = frozenset((clip.id, donor.id))
            mine, theirs = lengths[clip.id], lengths[donor.id]
            if both not in met and (theirs is None or mine is None or theirs >= mine):
                met.add(both)
                yield clip, donor


def _left_out(clip: Clip, thing: str, other: str, style: str) -> list[Pair]:
    """X, X left out: no. X, Y left out: yes."""
    return [
        _yes_no(av_confuse.instrument_item(clip, thing, thing, style), f"{thing} is seen, its sound is left out"),
        _yes_no(
            av_confuse.instrument_item(clip, other, thing, style), f"{other} is left out, {thing} still sounds"
        ),
    ]


def _elsewhere(clip: Clip, thing: str, other: Clip, style: str) -> list[Pair]:
    """X where it sounds: yes. X where it is neither seen nor heard: no."""
    return [
        _yes_no(av_confuse.instrument_item(clip, None, thing, style), f"{thing} is heard"),
        _yes_no(_asked(other, Intervention(), thing, style, other.heard), f"{thing} is not there"),
    ]


def _gone(clip: Clip, style: str) -> list[Pair]:
    """What is seen, muted: no; untouched: yes."""
    own = clip.heard[0]
    return [
        _yes_no(_asked(clip, Intervention(kind="mute"), own, style, ()), f"{own} is seen, the sound is gone"),
        _yes_no(_asked(clip, Intervention(), own, style, clip.heard), f"{own} is heard"),
    ]


def _exchanged(clip: Clip, donor: Clip, style: str) -> list[Pair]:
    """Two clips with each other's sound: what is seen: no; what is heard: yes."""
    out = []
    for shown, sounds in ((clip, donor), (donor, clip)):
        seen, heard = shown.heard[0], sounds.heard[0]
        iv = Intervention(kind="swap", donor=sounds.id)
        out += [
            _yes_no(
                _asked(shown, iv, seen, style, sounds.heard, sounds), f"{seen} is seen, the sound is of {heard}"
            ),
            _yes_no(_asked(shown, iv, heard, style, sounds.heard, sounds), f"{heard} is heard and not seen"),
        ]
    return out


def _asked(
    clip: Clip, iv: Intervention, thing: str, style: str, heard: Sequence[str], donor: Clip | None = None
) -> Item:
    """AV-Confuse's question about any thing, on a clip under any intervention of its sound."""
    natural = "yes" if same(thing) in names(clip.heard) else "no"
    now = "yes" if same(thing) in names(heard) else "no"
    truth = now if iv.kind == "swap" else None
    return finish(
        Item(
            id="",
            protocol=av_confuse.NAME,
            condition={"original": "full", "mute": "audio_removed", "swap": "audio_swapped"}[iv.kind],
            question="muted",
            style=style,
            clip=clip.id,
            source=clip.cluster,
            linked=() if donor is None else (donor.cluster,),
            group=digest(av_confuse.NAME, clip.id, "muted", style, clean(thing)),
            intervention=iv,
            prompt=instrument_prompt(thing, style),
            choices=answer_choices("muted", style),
            target=right_answer(iv.kind, "audio", natural, "no", truth),
            evidence=("audio",),
            absent="no",
            seen=clip.seen,
            heard=tuple(heard),
            asked=thing,
            decode=av_confuse.DECODE,
        )
    )


def _yes_no(item: Item, why: str, *key: object) -> Pair:
    right = item.target
    assert right in ("yes", "no")
    return pair(item, "confuse", right, "no" if right == "yes" else "yes", why, *key)


def modified(stock: Stock, styles: Sequence[str]) -> Plan:
    """Describe both streams: the sound replaced by a background, and untouched."""
    clips = [c for c in stock.clips if c.seen and c.heard]
    units = [
        Unit(f"modified/{clip.id}/{name}", clip.id, name, 2, partial(_modified, stock, clip, name, turn))
        for clip in clips
        for turn, name in enumerate(av_confuse.fitting_backgrounds(clip, stock.settings))
    ]
    lost = len(stock.clips) - len(clips)
    return Plan(units, counted(len(stock.clips), lost, "lack a seen or a heard class: sound not replaced"))


def _modified(stock: Stock, clip: Clip, name: str, turn: int) -> list[Pair]:
    items = {i.asked: i for i in av_confuse.description_items(clip, stock.settings)}
    own, new = phrases.described(clip.seen, clip.heard, turn), phrases.described(clip.seen, (name,), turn)
    return [
        pair(items[name], "modified", new, own, f"the sound was replaced by {name}"),
        pair(items[None], "modified", own, new, "the clip is untouched", name),
    ]
