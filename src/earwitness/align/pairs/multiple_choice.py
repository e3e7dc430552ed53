"""Multiple choice that needs the sound: FV-AVQA ("short", a letter) and FV-AVQA-L ("long", with the reason).

Three kinds of question, on clips as they are and on clips with another's sound:

- which sound is heard? The lure among the options is what the picture would sound like;
- what is seen while this is heard? The lure is what that sound usually comes from; four clips ask it;
- what is heard from 2.0 s to 4.5 s? The options are what is heard at other times of the clip.

A question is kept only where a text-only model fails (arXiv 2605.16403, section 2.3): see ``needs_media``. Twins
ask the same with two right answers, so that no prior answers both; single questions must survive by themselves.

The long form's closing instruction is that of Thud's released file. Differs from it: there chosen and rejected
close with different phrases; here with the same, and the rejected reason tells the facts that would make it
right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from earwitness.align.pairs.general import described
from earwitness.align.pairs.spans import alone, between, looks_like, sounds_like
from earwitness.align.pairs.stock import Plan, Span, Stock, Unit, counted, names, pair, partners
from earwitness.protocols import benchmark
from earwitness.protocols.making import finish, shuffled
from earwitness.questions import same
from earwitness.records import Clip, Intervention, Item, Pair, Question, digest

LETTERS = "ABCD"
# Thud, [app]: the general multiple-choice prompt; and the closing line of thud_dpo_finevideo_av_mcqa_longform.json.
SHORT = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the "
    "letter (A, B, C, or D) of the correct option.\n{question}\n{options}\nThe best answer is:"
)
LONG = (
    "{question}\n{options}\nPlease provide your answer by stating the letter followed by the full option, with a "
    "brief explanation grounded in the audio and visual cues."
)
REASON = (
    "In the video, {audio}; at the same moment in the visual, {visual}. Therefore the correct answer is {letter}. "
    "{text}."
)
GOES_ON = "the scene goes on"  # where a span says nothing of the picture
TRIES = 4
DECODE = {"short": 16, "long": 192}
Blind = Callable[[Sequence[Item]], list[str]]  # items without media -> what is answered ("" = nothing)


class Asked(NamedTuple):
    """A question before its options are lettered; ``facts`` and ``false``: (audio, visual) of right and wrong."""

    clip: Clip
    question: str
    options: tuple[str, ...]
    right: str
    wrong: str
    facts: tuple[str, str]
    false: tuple[str, str]
    intervention: Intervention = Intervention()
    donor: Clip | None = None


def choices(stock: Stock, styles: Sequence[str]) -> Plan:
    """All questions in these styles ("short", "long")."""
    single = [c for c in stock.clips if len(c.heard) == 1 and c.seen and names(c.heard) <= names(c.seen)]
    found = partners(single, stock.seed, stock.twins)
    spans, clips = described(stock)
    units = [
        Unit(f"avqa/{style}/heard/{clip.id}/{turn}", clip.id, same(clip.heard[0]), 2,
             partial(_heard, stock, clip, donor, style, turn))
        for clip in single
        for style in styles
        for turn, donor in enumerate(found.get(clip.id, ()))
        if len(_others(stock, clip, donor)) >= 2
    ]  # fmt: skip
    units += [
        Unit(f"avqa/{style}/seen/{donor.id}/{turn}", donor.id, same(donor.heard[0]), 4,
             partial(_seen, stock, donor, takers, style))
        for style in styles
        for turn, (donor, takers) in enumerate(_threes(single, found))
    ]  # fmt: skip
    units += [
        Unit(f"avqa/{style}/when/{i}/{n}", i, "when", 1, partial(_when, stock, clips[i], some, n, style))
        for i, some in spans.items()
        for style in styles
        for n in range(len(some))
        if some[n].audio and alone(some[n], clips[i], some) and len(_elsewhere(stock, some, n)) >= 2
    ]
    lost = len(stock.clips) - len({u.clip for u in units})
    return Plan(
        units, counted(len(stock.clips), lost, "have neither a donor nor two timed sounds: no multiple choice")
    )


def _others(stock: Stock, clip: Clip, donor: Clip) -> list[str]:
    taken = names((*clip.seen, *clip.heard, *donor.seen, *donor.heard))
    return [c for c in stock.classes if same(c) not in taken]


def _threes(single: Sequence[Clip], found: Mapping[str, Sequence[Clip]]) -> Iterator[tuple[Clip, list[Clip]]]:
    """A clip and three of other classes that may have its sound."""
    takers: dict[str, dict[str, Clip]] = {}  # giver -> class -> taker
    for clip in sorted(single, key=lambda c: c.id):
        for giver in found.get(clip.id, ()):
            takers.setdefault(giver.id, {}).setdefault(same(clip.heard[0]), clip)
    for giver in sorted(single, key=lambda c: c.id):
        some = list(takers.get(giver.id, {}).values())
        for n in range(0, len(some) - 2, 3):
            yield giver, some[n : n + 3]


def _heard(stock: Stock, clip: Clip, donor: Clip, style: str, turn: int) -> list[Pair]:
    """Which sound is heard? On the clip as it is, and with another's sound; the other one is the lure."""
    more = shuffled(_others(stock, clip, donor), "options", stock.seed, clip.id, turn)[:2]
    right, lure, shown = sounds_like(clip.heard[0]), sounds_like(donor.heard[0]), looks_like(clip.heard[0])
    options = (right, lure, *(sounds_like(c) for c in more))
    question = "Which sound is heard in this video?"
    asked = [
        Asked(clip, question, options, right, lure, (right, shown), (lure, shown)),
        Asked(clip, question, options, lure, right, (lure, shown), (right, shown), _swap(donor), donor),
    ]
    # One order for both twins: the same question, letter by letter.
    order = shuffled(options, "letters", stock.seed, clip.id, donor.id)
    return [_pair(a, order, style, f"here it is {a.right}; of its twin it is {a.wrong}", donor.id) for a in asked]


def _seen(stock: Stock, donor: Clip, takers: Sequence[Clip], style: str) -> list[Pair]:
    """What is seen while this is heard? One sound over four pictures: each option is right once, and wrong once.

    With two pictures the one that goes with the sound would be right every other time, of four options.
    """
    heard = sounds_like(donor.heard[0])
    shown = [donor, *takers]
    options = tuple(looks_like(c.heard[0]) for c in shown)
    order = shuffled(options, "letters", stock.seed, *(c.id for c in shown))
    out = []
    for n, clip in enumerate(shown):
        right, wrong = options[n], options[(n + 1) % 4]
        asked = Asked(clip, f"What is seen while this is heard: {heard}?", options, right, wrong, (heard, right),
                      (heard, wrong))  # fmt: skip
        if n:
            asked = asked._replace(intervention=_swap(donor), donor=donor)
        out.append(_pair(asked, order, style, f"under this sound there is {right}", donor.id))
    return out


def _swap(donor: Clip) -> Intervention:
    return Intervention(kind="swap", donor=donor.id)


def _elsewhere(stock: Stock, spans: Sequence[Span], n: int) -> list[str]:
    """What is heard at other times of the clip, from the next one on, then of classes that are not in it."""
    own = spans[n].audio
    told = [s.audio for s in (*spans[n + 1 :], *spans[:n]) if s.audio and s.audio != own]
    strange = [sounds_like(c) for c in stock.classes if sounds_like(c) != own]
    strange = list(shuffled(strange, "strange", stock.seed, spans[n].clip, n))
    return list(dict.fromkeys([*told, *(s for s in strange if told and s not in told)]))


def _when(stock: Stock, clip: Clip, spans: Sequence[Span], n: int, style: str) -> list[Pair]:
    """What is heard then? The first lure, which is rejected, is what is heard next."""
    span = spans[n]
    lures = _elsewhere(stock, spans, n)[:3]
    other = next((s for s in spans if s.audio == lures[0]), span)
    asked = Asked(
        clip, f"What is heard {between(span)}?", (span.audio, *lures), span.audio,
        lures[0], (span.audio, span.visual or GOES_ON), (lures[0], other.visual or GOES_ON),
    )  # fmt: skip
    order = shuffled(asked.options, "letters", stock.seed, clip.id, n)
    return [_pair(asked, order, style, f"that is heard then, {lures[0]} at another time")]


def _pair(asked: Asked, order: Sequence[str], style: str, why: str, *key: object) -> Pair:
    item = item_of(asked, order, style)
    right, wrong = (
        _answer(item, text, facts, style)
        for text, facts in ((asked.right, asked.facts), (asked.wrong, asked.false))
    )
    return pair(item, "avqa" if style == "short" else "avqa-long", right, wrong, why, *key)


def _answer(item: Item, text: str, facts: tuple[str, str], style: str) -> str:
    letter = next(k for k in item.choices if item.tags[k] == text)
    if style == "short":
        return letter
    return REASON.format(audio=facts[0], visual=facts[1], letter=letter, text=text)


def item_of(asked: Asked, order: Sequence[str], style: str) -> Item:
    """The question as an item, its options lettered in that order: read and scored as a question file's."""
    lettered = [f"{letter}. {text}" for letter, text in zip(LETTERS, order, strict=False)]
    form = SHORT if style == "short" else LONG
    question = Question(
        id="", clip=asked.clip.id, task="audio-dependent choice", kind="choice",
        text=form.format(question=asked.question, options="\n".join(lettered)), choices=tuple(lettered),
        answer=next(o for o in lettered if o[3:] == asked.right), intervention=asked.intervention,
        evidence=("audio", "video"), tags={"asked": asked.question, "form": style}, decode=DECODE[style],
    )  # fmt: skip
    made = benchmark.item(question, asked.clip.cluster, clip=asked.clip)
    changed = msgspec.structs.replace(
        made,
        protocol="general",
        group=digest("choice", asked.clip.id, asked.question, *sorted(order)),
        linked=() if asked.donor is None else (asked.donor.cluster,),
        heard=asked.clip.heard if asked.donor is None else asked.donor.heard,
        condition="original" if asked.donor is None else "swap",
    )
    return finish(changed)


# --- without media ---------------------------------------------------------------------------------------------


def reordered(item: Item, turn: int) -> Item:
    """The same question with its options in another order (and so with other letters)."""
    texts = [item.tags[k] for k in item.choices]
    right = item.tags[str(item.target)]
    order = shuffled(texts, "again", item.id, turn)
    letters = dict(zip(LETTERS, order, strict=False))
    form = SHORT if item.tags["form"] == "short" else LONG
    options = "\n".join(f"{k}. {text}" for k, text in letters.items())
    target = next(k for k, text in letters.items() if text == right)
    return finish(
        msgspec.structs.replace(
            item,
            prompt=form.format(question=item.tags["asked"], options=options),
            target=target,
            tags={**item.tags, **letters, "answer": target},
        )
    )
