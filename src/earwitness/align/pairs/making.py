"""From clips (and a run's answers) to a training set: split by source, draw the mixture, check, write down.

The order of things: sources are split into train and valid first, so that a swap's donor never comes from the
other side; each part lists its units (plans) on either side; units are drawn by seed, balanced over classes and
clips, until the part has its share; drawn pairs are written, and each is read back by the scorer: a pair whose
chosen answer it does not find right, or whose rejected one it does, is left out with its unit and counted.

Functions: ``make`` (a :class:`TrainingSet` without fingerprints), ``split``, ``shares``, ``table``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from earwitness.align.pairs import (
    answering,
    blind,
    confuse,
    exchange,
    general,
    kept,
    mistakes,
    moments,
    multiple_choice,
    preferences,
    twins,
)
from earwitness.align.pairs.mixtures import Mixture, Part
from earwitness.align.pairs.stock import Plan, Span, Stock, Unit, drawn, names, told_apart
from earwitness.protocols import Settings
from earwitness.protocols.making import class_list
from earwitness.records import Clip, Judged, Pair, Question, Row, Table, digest

Maker = Callable[[Stock, Sequence[str]], Plan]
MAKERS: dict[str, Maker] = {
    "mma": twins.content,
    "abstention": twins.abstention,
    "caption": twins.captioned,
    "mute": preferences.mute,
    "swap": preferences.swap,
    "exchange": exchange.exchange,
    "room": preferences.room,
    "shift": preferences.shift,
    "hush": preferences.hush,
    "moments": moments.moments,
    "ctp": preferences.ctp,
    "op": preferences.op,
    "sp": mistakes.mistakes,
    "confuse": confuse.presence,
    "modified": confuse.modified,
    "kept": kept.kept,
    "general": general.general,
    "avqa": multiple_choice.choices,
    "avqa-long": multiple_choice.choices,
    "warm-up": answering.warm_up,
    "questions": answering.questions,
}
SIEVED = ("avqa", "avqa-long")  # kept only where a text-only answerer fails


@dataclass(frozen=True)
class Ground:
    """Everything that pairs may be made from, before the split."""

    clips: Sequence[Clip]
    questions: Sequence[Question] = ()
    judged: Sequence[Judged] = ()
    spans: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawn:
    """What came of it: pairs of either side, and by part what was wanted, was there, and was left out."""

    train: tuple[Pair, ...]
    valid: tuple[Pair, ...]
    wanted: dict[str, int]
    there: dict[str, int]
    left_out: tuple[str, ...]
    classes: tuple[str, ...]


def split(clips: Sequence[Clip], share: float, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Clips to train on and to validate on, by source: a ``share`` of the sources, balanced over their classes.

    Where labels name splits other than "test", they decide: "train", "valid" (or "val"), the rest is left out.

    Raises ValueError for a share that is none, or that leaves nothing to train on.
    """
    if not 0 <= share < 1:
        raise ValueError(f"--valid {share:g}: wants a share of the sources, from 0 to below 1")
    if {c.split for c in clips} & {"train", "valid", "val"}:
        return [c for c in clips if c.split == "train"], [c for c in clips if c.split in ("valid", "val")]
    kinds: dict[str, list[str]] = {}
    seen: set[str] = set()
    for clip in clips:
        if clip.cluster not in seen:
            seen.add(clip.cluster)
            kinds.setdefault(min(names(clip.heard), default=""), []).append(clip.cluster)
    ranked = [
        (n / len(some), digest("side", seed, source), source)
        for some in kinds.values()
        for n, source in enumerate(sorted(some, key=lambda s: digest("side", seed, s)))
    ]
    count = round(share * len(ranked)) if share * len(ranked) >= 1 else int(share > 0)
    if count >= len(ranked):
        raise ValueError(f"{len(ranked)} sources leave none to train on once {count} are kept for validation")
    kept = {source for _, _, source in sorted(ranked)[:count]}
    return [c for c in clips if c.cluster not in kept], [c for c in clips if c.cluster in kept]


def shares(ratios: Mapping[str, float], there: Mapping[str, int], n: int | None) -> dict[str, int]:
    """How many pairs of each part: by ratio; a part that has fewer gives all, and the others share the rest."""
    if n is None:
        return dict(there)
    out = dict.fromkeys(ratios, 0)
    open_ = [name for name in ratios if there[name] and ratios[name] > 0]
    left = n
    while open_ and left > 0:
        total = sum(ratios[name] for name in open_)
        short = [name for name in open_ if there[name] <= left * ratios[name] / total]
        if not short:
            exact = {name: left * ratios[name] / total for name in open_}
            out |= {name: int(share) for name, share in exact.items()}
            rest = left - sum(int(share) for share in exact.values())
            for name in sorted(open_, key=lambda k: (int(exact[k]) - exact[k], k))[:rest]:
                out[name] += 1
            break
        for name in short:
            out[name] = there[name]
        left -= sum(there[name] for name in short)
        open_ = [name for name in open_ if name not in short]
    return out


def make(
    ground: Ground, mixture: Mixture, settings: Settings, *, n: int | None = None, valid: float = 0.0,
    text_only: multiple_choice.Blind | None = None, makers: Mapping[str, Maker] | None = None,
) -> Drawn:  # fmt: skip
    """Draw a mixture.

    Parameters ---------- n : pairs in all, train and valid together; None: what the mixture says. Units are kept
    whole, so that a part may
        have a few pairs more than its share.
    valid : share of the sources, and of the pairs, that is kept for validation.
    text_only : answers questions without media, to drop those that it can; default: ``blind.words``.
    makers : the parts' makers, by name; default: all there are.

    Raises
    ------
    ValueError
        For a part that nothing makes, a number that is none, or where no pair comes of the clips.
    """
    count = mixture.n if n is None else n
    if count is not None and count < 1:
        raise ValueError(f"--n {count}: wants one pair or more")
    known = MAKERS if makers is None else makers
    keep = blind.sieve(text_only or blind.words())
    if unknown := [p.name for p in mixture.parts if p.name not in known]:
        raise ValueError(
            f"mixture {mixture.name}: nothing makes the part {unknown[0]!r}; there are {', '.join(known)}"
        )
    classes = _classes(ground.clips, settings)
    sides = split(ground.clips, valid, settings.seed)
    made, wanted, there = [], {}, {}
    lines = []
    if lost := len(ground.clips) - len(sides[0]) - len(sides[1]):
        lines.append(f"{lost} of {len(ground.clips)} clips are labelled neither train nor valid: left out")
    for side, clips in zip(("train", "valid"), sides, strict=True):
        ids = {c.id for c in clips}
        stock = Stock(
            tuple(clips), classes, settings, mixture.twins,
            tuple(q for q in ground.questions if q.clip in ids),
            tuple(j for j in ground.judged if {j.item.clip, j.item.intervention.donor or j.item.clip} <= ids),
            {i: s for i, s in ground.spans.items() if i in ids},
        )  # fmt: skip
        share = valid if side == "valid" else 1 - valid
        got = (
            _side(stock, mixture, known, keep, None if count is None else round(count * share))
            if clips
            else _Side()
        )
        made.append(got.pairs)
        if side == "train":
            lines, wanted, there = [*lines, *got.lines], got.wanted, got.there
    if sides[1] and not made[1]:
        lines.append(f"no pair comes of the {len(sides[1])} clips kept for validation: keep more (--valid)")
    if not made[0]:
        why = "; ".join(lines) or "there are no clips to train on"
        raise ValueError(f"no pair of the mixture {mixture.name} comes of these clips: {why}")
    return Drawn(tuple(made[0]), tuple(made[1]), wanted, there, tuple(dict.fromkeys(lines)), classes)


def _classes(clips: Sequence[Clip], settings: Settings) -> tuple[str, ...]:
    single = [c for c in clips if len(c.heard) == 1 and len(c.seen) <= 1]
    return class_list(single or clips, settings.classes)


@dataclass
class _Side:
    pairs: list[Pair] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    wanted: dict[str, int] = field(default_factory=dict)
    there: dict[str, int] = field(default_factory=dict)


def _side(
    stock: Stock, mixture: Mixture, makers: Mapping[str, Maker], keep: blind.Keep, n: int | None
) -> _Side:  # fmt: skip
    out = _Side()
    units: dict[str, list[Unit]] = {}
    for part in mixture.parts:
        plan = makers[part.name](stock, part.styles)
        units[part.name] = plan.units
        out.lines += plan.left_out
        out.there[part.name] = sum(u.size for u in plan.units)
    out.wanted = shares({p.name: p.ratio for p in mixture.parts}, out.there, n)
    for part in mixture.parts:
        only = keep if part.name in SIEVED else None
        made, lines = _filled(part, drawn(units[part.name], stock.seed), out.wanted[part.name], only)
        out.lines += lines
        out.pairs += [msgspec.structs.replace(p, rejected=None) for p in made] if mixture.kind == "sft" else made
    # Parts are mixed, for trainers that take rows as they come.
    out.pairs.sort(key=lambda p: digest("order", stock.seed, p.id))
    return out


def _filled(
    part: Part, units: Sequence[Unit], wanted: int, keep: blind.Keep | None
) -> tuple[list[Pair], list[str]]:  # fmt: skip
    """Pairs of the first units that make up the share.

    Passed over are units with a pair that the scorer reads otherwise, and those that the sieve does not keep.
    """
    out: list[Pair] = []
    misread: Counter[str] = Counter()
    sifted = tried = at = 0
    while at < len(units) and len(out) < wanted:
        # One unit after the other; where answers are asked for, as many as are lacking at once.
        some: list[list[Pair]] = []
        while at < len(units) and sum(map(len, some)) < (wanted - len(out)):
            made = units[at].make()
            at += 1
            wrong = [p for p in made if not told_apart(p)]
            if wrong:
                misread[f"{', '.join(wrong[0].item.seen) or '-'} / {', '.join(wrong[0].item.heard) or '-'}"] += 1
            else:
                some.append(made)
        kept = [True] * len(some) if keep is None else keep(some)
        tried, sifted = tried + len(some), sifted + kept.count(False)
        out += [p for made, good in zip(some, kept, strict=True) if good for p in made]
    lines = []
    if misread:
        some_names = "; ".join(f"{what} ({n})" for what, n in misread.most_common(3))
        lines.append(
            f"{part.name}: {misread.total()} groups of pairs left out: the scorer does not read their answers as "
            f"they are meant (seen / heard: {some_names})"
        )
    if keep is not None and tried:
        lines.append(f"{part.name}: {sifted} of {tried} questions or twins left out: answered without any media")
    return out, lines


def table(made: Drawn, mixture: Mixture) -> Table:
    """The parts of a training set with their counts."""
    train, valid = (Counter(p.part for p in some) for some in (made.train, made.valid))
    apart = Counter(p.part for p in made.train if p.rejected is not None)
    total = sum(p.ratio for p in mixture.parts)
    rows = [
        Row(
            p.name,
            (p.ratio / total, train[p.name] / max(1, len(made.train)), train[p.name], apart[p.name], valid[p.name],
             made.there.get(p.name, 0)),
        )
        for p in mixture.parts
    ]  # fmt: skip
    rows.append(Row("all", (1.0, 1.0, train.total(), apart.total(), valid.total(), sum(made.there.values()))))
    return Table(
        id="pairs",
        title=f"Training pairs: {mixture.name}",
        caption=f"{mixture.source or 'Our own mixture'}. What could have been made of the train clips is in the "
        "last column; a part that has less than its ratio gives all of it, and the others share the rest.",
        columns=("ratio", "share", "train", "with rejected", "valid", "possible"),
        rows=tuple(rows),
        unit="mixed",
    )
