"""RL-CoMM's rows: long answers in its tags for the warm-up, and questions for the reinforcement.

``warm_up``: what is heard, what is seen, then the answer (arXiv 2511.10059, Table 2), on the clips and
interventions of the other parts; what is "heard" and "seen" there is what is true of the clip, so a muted bell is
seen and not heard. ``questions``: any question file's choices and yes/no questions (Music-AVQA's, AVQA's), or
without one the protocols' own, in the policy's prompt ("tagged") or as the file asks them ("plain"). They are for
GRPO: what is learned there is the target, and ``chosen`` is the right answer alone.

Source: sections 3 and 4 of arXiv 2511.10059 (100 warm-up answers, 1,000 Music-AVQA questions).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec

from earwitness.align.pairs import confuse, phrases, preferences, twins
from earwitness.align.pairs.stock import Plan, Stock, Unit, pair
from earwitness.align.tags import policy_prompt, written
from earwitness.protocols import benchmark
from earwitness.protocols.making import finish
from earwitness.records import Clip, Item, Pair, Question

DECODE = 256  # new tokens, as in RL-CoMM's code


def asked_in_tags(item: Item) -> Item:
    """The item asked with RL-CoMM's prompt for the policy."""
    return finish(msgspec.structs.replace(item, prompt=policy_prompt(item.prompt), decode=DECODE))


def warm_up(stock: Stock, styles: Sequence[str]) -> Plan:
    """Long answers on MMA's, AV-Confuse's and Thud's closed questions."""
    plans = (
        twins.content(stock, ("standard",)),
        confuse.presence(stock, ("neutral",)),
        preferences.mute(stock, ("direct",)),
        preferences.swap(stock, ("direct",)),
    )
    units = [
        Unit(f"warm-up/{unit.key}", unit.clip, f"{n}/{unit.kind}", unit.size, partial(_told, unit, "warm-up"))
        for n, plan in enumerate(plans)
        for unit in plan.units
    ]
    return Plan(units, list(dict.fromkeys(line for plan in plans for line in plan.left_out)))


def _told(unit: Unit, part: str) -> list[Pair]:
    made = unit.make()
    return [_tagged(p, part, [q.item for q in made if q is not p]) for p in made]


def _tagged(made: Pair, part: str, beside: Sequence[Item]) -> Pair:
    item = made.item
    right = written(_heard(item.heard), _seen(item.seen), made.chosen)
    wrong = None
    if made.rejected is not None:  # what would have to be true for the wrong answer
        seen, heard = _supposed(item, made.rejected, beside)
        wrong = written(_heard(heard), _seen(seen), made.rejected)
    return pair(asked_in_tags(item), part, right, wrong, made.why, made.id)


def _supposed(item: Item, answer: str, beside: Sequence[Item]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What one sees and hears who gives that wrong answer: what is there where the unit's twin makes it right.

    Thoughts made up for the wrong answer alone would give it away: who hears what is seen would always be wrong.
    """
    asked = (item.question, item.asked)
    twin = next((b for b in beside if (b.question, b.asked) == asked and b.target != item.target), None)
    return ((answer,), item.heard) if twin is None else (twin.seen, twin.heard)  # None: what is seen is the same


def _heard(things: Sequence[str]) -> str:
    return f"I hear the sound of {phrases.listed(things)}." if things else "I hear no sound at all."


def _seen(things: Sequence[str]) -> str:
    return f"I see {phrases.listed(things)}." if things else "I see nothing, the picture is black."


def questions(stock: Stock, styles: Sequence[str]) -> Plan:
    """A question file's questions, balanced over tasks and answers; without one, the protocols' own."""
    if not stock.questions:
        plan = warm_up(stock, styles)
        return Plan(
            [u._replace(key=f"questions/{u.key}", make=partial(_own, u)) for u in plan.units], plan.left_out
        )
    clips = {c.id: c for c in stock.clips}
    fit = [q for q in stock.questions if q.kind in ("choice", "yes_no") and q.clip in clips]
    units = [
        Unit(f"questions/{style}/{q.clip}/{q.id}", q.clip, f"{q.task}/{q.answer}", 1,
             partial(_question, q, clips[q.clip], style))
        for q in fit
        for style in styles
    ]  # fmt: skip
    lost = len(stock.questions) - len(fit)
    return Plan(units, [f"{lost} of {len(stock.questions)} questions are not closed: no rows"] if lost else [])


def _own(unit: Unit) -> list[Pair]:
    return [pair(p.item, "questions", p.chosen, None, p.why, p.id) for p in unit.make()]


def _question(question: Question, clip: Clip, style: str) -> list[Pair]:
    item = benchmark.item(question, clip.cluster, clip=clip)
    target = item.target
    assert target is not None  # untouched: the file's own answer
    if style == "plain":
        return [pair(item, "questions", target, None, "the file's answer")]
    return [pair(asked_in_tags(item), "questions", f"<answer>{target}</answer>", None, "the file's answer")]
