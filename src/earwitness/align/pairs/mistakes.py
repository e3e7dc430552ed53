"""A model's own mistakes as rejected answers (SP of arXiv 2605.16403, section 3.3: self-sampled preferences).

From a run on training clips: every answer that was scored wrong (not unparsed, refused or failed ones: what they
say is not known) is rejected on its item, and the truth is chosen. Alone that would teach to avoid the model's
own phrases. So the same words are chosen where they are right, on the item's twin in the run, with the truth of
the first as rejected. A closed answer without such a twin is put beside one that errs the other way round. What
has neither is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from earwitness.align.pairs import phrases
from earwitness.align.pairs.preferences import first_event
from earwitness.align.pairs.stock import Plan, Stock, Unit, pair
from earwitness.questions import clean
from earwitness.questions.prompts import wording
from earwitness.records import Clip, Item, Judged, Pair, digest
from earwitness.scoring import reward


def mistakes(stock: Stock, styles: Sequence[str]) -> Plan:
    """Wrong answers of the run, each with its mirror."""
    del styles  # those of the run
    if not stock.judged:
        return Plan([], ["sp: no run to take a model's mistakes from (start from one: earwitness pairs RUN)"])
    clips = {c.id: c for c in stock.clips}
    twins: dict[str, list[Item]] = {}
    for j in stock.judged:
        twins.setdefault(j.item.group, []).append(j.item)
    wrong = [j for j in stock.judged if j.score.correct is False and j.item.target is not None]
    units, alone = [], []
    for j in wrong:
        mirror = next((t for t in twins[j.item.group] if t.id != j.item.id and _right(t, j)), None)
        if mirror is None:
            alone.append(j)
        else:
            kind = f"{j.item.protocol}/{j.item.question}/{clean(j.item.target or '')}"
            units.append(Unit(f"sp/{j.item.id}", j.item.clip, kind, 2, partial(_mirrored, j, mirror, clips)))
    beside, left = _opposites(alone)
    units += [
        Unit(f"sp/{a.item.id}/{b.item.id}", a.item.clip, f"{a.item.protocol}/{a.item.question}", 2,
             partial(_beside, a, b, clips))
        for a, b in beside
    ]  # fmt: skip
    lines = [f"sp: {left} of {len(wrong)} wrong answers are right nowhere in the run: no mirror"] if left else []
    if not wrong:
        lines = ["sp: nothing was answered wrong in the run"]
    return Plan(units, lines)


def _right(twin: Item, j: Judged) -> bool:
    return twin.target is not None and reward(twin, j.answer.text or "") == 1.0


def _opposites(alone: Sequence[Judged]) -> tuple[list[tuple[Judged, Judged]], int]:
    """Closed mistakes in twos, of which one takes for right what is wrong in the other; and how many are left."""
    waiting: dict[tuple[str, str, str, str], list[Judged]] = {}
    out, left = [], 0
    for j in sorted(alone, key=lambda j: digest("opposite", j.item.id)):
        if not j.item.choices:
            left += 1
            continue
        said, truth = clean(j.score.label), clean(j.item.target or "")
        match = waiting.get((j.item.question, j.item.style, truth, said))
        if match:
            out.append((match.pop(), j))
        else:
            waiting.setdefault((j.item.question, j.item.style, said, truth), []).append(j)
    return out, left + sum(len(some) for some in waiting.values())


def _mirrored(j: Judged, twin: Item, clips: dict[str, Clip]) -> list[Pair]:
    said, truth = (j.answer.text or "").strip(), right(j.item, clips)
    return [
        pair(j.item, "sp", truth, said, f"the model said this in the run, and it is {j.item.target}"),
        pair(twin, "sp", said, truth, "the same words, where they are right", j.item.id),
    ]


def _beside(a: Judged, b: Judged, clips: dict[str, Clip]) -> list[Pair]:
    return [
        pair(j.item, "sp", right(j.item, clips), (j.answer.text or "").strip(), "the model said this in the run")
        for j in (a, b)
    ]


def right(item: Item, clips: dict[str, Clip]) -> str:
    """A right answer to an item of a run, in one of our sentences (which one follows from the item)."""
    target, turn = item.target or "", int(digest("phrase", item.id), 16)
    if item.question in ("mute", "swap", "shift") and item.protocol == "thud":
        if item.question == "mute":
            return phrases.mute(item.heard, item.style, turn)
        if item.question == "swap" and item.seen and item.heard:
            return phrases.swap(item.seen, item.heard, target == "MATCH", item.style, turn)
        event = first_event(clips[item.clip]) if item.clip in clips else None
        if item.question == "shift" and event is not None:
            return phrases.shift(event.what, event.seen or 0.0, item.offset, item.style, turn)
    if item.question == "modified" and item.seen and item.heard:
        return phrases.described(item.seen, item.heard, turn)
    if item.question in ("mute", "swap", "shift"):
        offset = item.offset or None
        return wording(item.question, target, item.style, seen=item.seen, heard=item.heard, offset=offset)
    return wording(item.question, target, item.style)
