"""Which modality was asked for? Rows of MMA-Bench's two questions where streams agree, disagree, or are gone.

Modality-aware tuning (section 5 of arXiv 2511.22826): each aligned clip and its misaligned twins (the sound of
clips of other classes, ten of distinct ones) get the visual and the audio question; aligned rows are repeated to
balance. Here a unit is one twin with its aligned clip, two questions each: four rows of one option order. So an
aligned clip comes as often as its twins, each time with its options in another order, and never twice as the very
same row.

``content``     the two questions, aligned and swapped (styles "standard", "cot")
``abstention``  "None of the above" is offered, and right where the asked stream is gone, as often as wrong: on
                clips whose other stream is gone, on aligned ones and on swapped ones
``captioned``   a caption of any class stands before the question, or random words around it

Ours: the second and the third (the paper trains neither; audio abstention and long contexts get worse by it), and
the rejected answers: the class of the stream that was not asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from earwitness.align.pairs.stock import Plan, Stock, Unit, pair, partners
from earwitness.interventions import misleading_caption
from earwitness.protocols import mma
from earwitness.protocols.making import finish, in_list, pick
from earwitness.questions import same
from earwitness.questions.prompts import Modality, wording
from earwitness.records import NONE_OF_THE_ABOVE, Clip, Item, Pair, digest

BOTH: tuple[Modality, ...] = ("visual", "audio")


def usable(stock: Stock, what: str) -> tuple[list[Clip], list[str]]:
    """Clips of one class that is seen and heard, and why the others are left out."""
    if len(stock.classes) < 2:
        return [], [f"{what}: a choice needs at least two classes, these clips have {len(stock.classes)}"]
    reasons = {
        c.id: mma.why_not(c, stock.classes) or (None if c.seen else "without a seen class") for c in stock.clips
    }
    lines = [
        f"{what}: {list(reasons.values()).count(why)} of {len(stock.clips)} clips left out: {why}"
        for why in dict.fromkeys(r for r in reasons.values() if r)
    ]
    return [c for c in stock.clips if reasons[c.id] is None], lines


def content(stock: Stock, styles: Sequence[str]) -> Plan:
    """MMA's two questions on aligned and on swapped clips, as many of the one as of the other."""
    clips, lines = usable(stock, "mma")
    found = partners(clips, stock.seed, stock.twins)
    if alone := sum(c.id not in found for c in clips):
        lines.append(f"mma: {alone} of {len(clips)} clips have no donor of another source and class")
    units = [
        Unit(f"mma/{style}/{clip.id}/{turn}", clip.id, same(clip.heard[0]), 4,
             partial(_quartet, stock, clip, donor, style, turn))
        for clip in clips
        for style in styles
        for turn, donor in enumerate(found.get(clip.id, ()))
    ]  # fmt: skip
    return Plan(units, lines)


def _quartet(stock: Stock, clip: Clip, donor: Clip, style: str, turn: int) -> list[Pair]:
    shown, other = _class(stock, clip), _class(stock, donor)
    out = []
    for modality in BOTH:
        for condition, right in (("aligned", shown), ("audio_swapped", other if modality == "audio" else shown)):
            item = _item(stock, clip, condition, modality, style, turn, donor)
            wrong = shown if right == other else other
            if condition == "aligned":
                why = f"{shown} is seen and heard; {other} is neither"
            else:
                why = f"{shown} is seen and {other} is heard, and the question is about the {_stream(modality)}"
            out.append(
                pair(item, "mma", wording(modality, right, style), wording(modality, wrong, style), why, donor.id)
            )
    return out


def abstention(stock: Stock, styles: Sequence[str]) -> Plan:
    """ "None of the above" is offered everywhere, and right on half of the rows: where the asked stream is gone."""
    clips, lines = usable(stock, "abstention")
    found = partners(clips, stock.seed, stock.twins)
    units = [
        Unit(f"abstention/{clip.id}/{turn}", clip.id, same(clip.heard[0]), 4,
             partial(_gone, stock, clip, found.get(clip.id, ()), turn))
        for clip in clips
        for turn in range(max(1, stock.twins))
    ]  # fmt: skip
    return Plan(units, lines)


def _gone(stock: Stock, clip: Clip, donors: Sequence[Clip], turn: int) -> list[Pair]:
    """Two rows whose asked stream is gone, two whose is there: beside a gone one, aligned, or swapped, by turns."""
    shown = _class(stock, clip)
    there = ("other gone", "aligned", "swapped")[turn % 3]
    donor = donors[turn % len(donors)] if donors and there == "swapped" else None
    if there == "swapped" and donor is None:
        there = "other gone"
    out = []
    for modality, gone, other in (
        ("visual", "frames_zeroed", "audio_removed"),
        ("audio", "audio_removed", "frames_zeroed"),
    ):
        stream = _stream(modality)
        item = _item(stock, clip, gone, modality, "abstention", turn)  # type: ignore[arg-type]
        why = f"the {stream} is gone, so no class of it can be right; {shown} is in the other stream"
        out.append(pair(item, "abstention", NONE_OF_THE_ABOVE, shown, why))
        condition = {"other gone": other, "aligned": "aligned", "swapped": "audio_swapped"}[there]
        item = _item(stock, clip, condition, modality, "abstention", turn, donor)  # type: ignore[arg-type]
        right = _class(stock, donor) if donor is not None and modality == "audio" else shown
        out.append(pair(item, "abstention", right, NONE_OF_THE_ABOVE, f"the {stream} is there, and it is {right}"))
    return out


def captioned(stock: Stock, styles: Sequence[str]) -> Plan:
    """A caption before the question that says nothing of the clip, or random words around it.

    The caption is any class, drawn without a look at the clip, so that it is right once in as many times as there
    are classes; the rejected class is drawn so too. Always false, and its class rejected, it would teach to avoid
    the word; true every other time, it would teach to trust it.
    """
    clips, lines = usable(stock, "caption")
    units = [
        Unit(f"caption/{what}/{clip.id}/{turn}", clip.id, same(clip.heard[0]), 2, partial(make, stock, clip, turn))
        for clip in clips
        for what, make in (("says", _captions), ("words", _lost))
        for turn in range(max(1, stock.twins // 2))
    ]
    return Plan(units, lines)


def _captions(stock: Stock, clip: Clip, turn: int) -> list[Pair]:
    """Both questions behind a caption, another at each turn."""
    right, out = _class(stock, clip), []
    says = pick(stock.classes, "caption", stock.seed, clip.id, turn)
    condition = "true_caption" if says == right else "misleading_caption"
    for modality in BOTH:
        plain = _item(stock, clip, "aligned", modality, "standard", turn)
        item = finish(
            msgspec.structs.replace(
                plain, condition=condition, prompt=misleading_caption(plain.prompt, says), asked=says,
                group=digest(mma.NAME, clip.id, modality, "standard", turn, condition),
            )
        )  # fmt: skip
        wrong = pick([c for c in stock.classes if c != right], "wrong", stock.seed, clip.id, turn, modality)
        out.append(pair(item, "caption", right, wrong, f"the caption says {says}; {right} is seen and heard", turn))
    return out


def _lost(stock: Stock, clip: Clip, turn: int) -> list[Pair]:
    """The question within random words, others at each turn."""
    right, out = _class(stock, clip), []
    turned = msgspec.structs.replace(stock.settings, seed=stock.seed + turn)
    for modality in BOTH:
        item = mma.item_of(clip, "long_context", None, stock.classes, turned, "standard", turn, modality)
        assert item is not None
        wrong = pick([c for c in item.choices if c != right], "other", stock.seed, clip.id, turn, modality)
        why = f"the words around the question say nothing of the clip; {right} is seen and heard"
        out.append(pair(item, "caption", right, wrong, why))
    return out


def _item(
    stock: Stock, clip: Clip, condition: str, modality: Modality, style: str, turn: int, donor: Clip | None = None
) -> Item:
    swapped = donor if condition == "audio_swapped" else None
    item = mma.item_of(clip, condition, swapped, stock.classes, stock.settings, style, turn, modality)
    assert item is not None  # only a drawn caption can lack a false class
    return item


def _class(stock: Stock, clip: Clip) -> str:
    name = in_list(clip.heard[0], stock.classes)
    assert name is not None  # ``usable`` saw to it
    return name


def _stream(modality: str) -> str:
    return "picture" if modality == "visual" else "sound"
