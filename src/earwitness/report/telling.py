"""Which items should a reader watch first?

A telling item is a pair of counterfactual twins: the same question on the untouched clip and on the clip whose
sound (or picture) was changed. :func:`choose` picks few of many such pairs without picking cherries: as many
pairs in which the model was fooled, in proportion, as there are among all pairs, spread over interventions,
clips and classes. Within that, pairs come first in which the model was right before the change, named after it
what it saw, said the same words twice, and was sure of them.

Of two runs the telling items are those whose answer turned: :func:`turned` finds the pairs whose intervened clip
was answered wrongly before and rightly after, or the other way round, and :func:`choose_turned` picks of both in
proportion.

Functions: :func:`pairs` all twins, :func:`comparable` those to choose from, :func:`choose` the telling ones,
:func:`turned`, :func:`choose_turned`, :func:`was_fooled`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from earwitness.interventions import EFFECT
from earwitness.questions import plain
from earwitness.records import Judged

Pair = tuple[Judged, Judged]


def pairs(judged: Sequence[Judged]) -> list[Pair]:
    """All (untouched, intervened) twins, both answered, with the same prompt and other media, in item order."""
    originals = {
        (j.item.group, j.item.prompt): j
        for j in judged
        if j.item.intervention.kind == "original" and j.answer.error is None
    }
    out = []
    for j in judged:
        twin = originals.get((j.item.group, j.item.prompt))
        if (
            twin is not None
            and j.answer.error is None
            and j.item.clip == twin.item.clip
            and j.item.question == twin.item.question
            and set(EFFECT[j.item.intervention.kind].values()) != {"untouched"}
        ):
            out.append((twin, j))
    return out


def comparable(judged: Sequence[Judged]) -> list[Pair]:
    """The pairs that :func:`choose` draws from: scored, with a changed sound, and not asked about the picture only.

    Asked what it sees while the sound was changed, nearly every model is right: such a pair tells nothing.
    """
    return [
        p
        for p in pairs(judged)
        if p[1].score.correct is not None
        and EFFECT[p[1].item.intervention.kind]["audio"] != "untouched"
        and set(p[1].item.evidence) != {"video"}
    ]


def was_fooled(pair: Pair) -> bool:
    """Whether the answer on the intervened clip is wrong."""
    return pair[1].score.correct is False


def choose(judged: Sequence[Judged], n: int = 10) -> list[Pair]:
    """The ``n`` most telling (untouched, intervened) pairs, best first; fewer where there are fewer.

    Pairs with a scored answer on the intervened clip whose sound was changed come first; changed pictures and
    unscored answers only fill up. The share of pairs in which the model was fooled is that of all such pairs, with
    at least one of each sort where both exist. Does not depend on the order of ``judged``.

    Raises
    ------
    ValueError
        Where ``n`` is negative.
    """
    if n < 0:
        raise ValueError(f"choose: n is the number of pairs, wants 0 or more, got {n}")
    everything, main = pairs(judged), comparable(judged)
    scored = [p for p in everything if p[1].score.correct is not None]
    fooled, held = [p for p in main if was_fooled(p)], [p for p in main if not was_fooled(p)]
    quota = round(n * len(fooled) / len(main)) if main else 0
    if fooled and held and n > 1:
        quota = min(max(quota, 1), n - 1)
    picked = _spread(fooled, quota, [])
    picked += _spread(held, n - len(picked), picked)
    for rest in (fooled, scored, everything):
        if len(picked) < n:
            chosen = {p[1].item.id for p in picked}
            picked += _spread([p for p in rest if p[1].item.id not in chosen], n - len(picked), picked)
    return picked[:n]


def turned(before: Sequence[Judged], after: Sequence[Judged]) -> tuple[list[Pair], list[Pair]]:
    """Pairs of the run ``after`` whose answer on the intervened clip turned right, and those where it turned wrong.

    Only items that both runs have, with their untouched twins, and that both could be scored on.
    """
    old = {j.item.id: j for j in before}
    better: list[Pair] = []
    worse: list[Pair] = []
    for twin, j in pairs(after):
        was, now = old.get(j.item.id), j.score.correct
        if was is None or twin.item.id not in old or None in (was.score.correct, now):
            continue
        if was.score.correct is not now:
            (better if now else worse).append((twin, j))
    return better, worse


def choose_turned(before: Sequence[Judged], after: Sequence[Judged], n: int = 10) -> list[Pair]:
    """``n`` pairs at most whose answer turned, in proportion to how often it turned right and wrong; those first.

    At least one of each where both exist; spread over interventions, clips and classes as :func:`choose` does.
    Raises ValueError where ``n`` is negative.
    """
    if n < 0:
        raise ValueError(f"choose_turned: n is the number of pairs, wants 0 or more, got {n}")
    better, worse = turned(before, after)
    quota = round(n * len(better) / (len(better) + len(worse))) if better or worse else 0
    if better and worse and n > 1:
        quota = min(max(quota, 1), n - 1)
    picked = _spread(better, quota, [])
    return picked + _spread(worse, n - len(picked), picked)


def _spread(candidates: Sequence[Pair], n: int, taken: Sequence[Pair]) -> list[Pair]:
    """Greedy: the best pair of what has been shown least so far (intervention, then clip, class, question)."""
    kinds: Counter[str] = Counter(p[1].item.intervention.kind for p in taken)
    clips: Counter[str] = Counter(p[1].item.clip for p in taken)
    classes: Counter[tuple[str, ...]] = Counter(p[1].item.seen for p in taken)
    asked: Counter[tuple[str, str, str]] = Counter(_asked(p) for p in taken)
    # Best first; only the best few of every (intervention, clip) can win, so thousands of pairs stay cheap.
    left = sorted(candidates, key=lambda p: (-_weight(p), p[1].item.id))
    few: Counter[tuple[str, str]] = Counter()
    pool = []
    for p in left:
        key = (p[1].item.intervention.kind, p[1].item.clip)
        few[key] += 1
        if few[key] <= 4:
            pool.append(p)
    out: list[Pair] = []
    while pool and len(out) < n:
        best = min(
            range(len(pool)),
            key=lambda i: (
                clips[pool[i][1].item.clip],
                kinds[pool[i][1].item.intervention.kind],
                asked[_asked(pool[i])],
                classes[pool[i][1].item.seen],
                i,
            ),
        )
        p = pool.pop(best)
        out.append(p)
        kinds[p[1].item.intervention.kind] += 1
        clips[p[1].item.clip] += 1
        classes[p[1].item.seen] += 1
        asked[_asked(p)] += 1
    return out


def _asked(pair: Pair) -> tuple[str, str, str]:
    item = pair[1].item
    return (item.protocol, item.question, item.style)


def _weight(pair: Pair) -> float:
    """How much a pair tells, by itself."""
    before, after = pair
    weight = 2.0 * (before.score.correct is True)
    said = {plain(name) for name in (after.score.label, *after.score.said_heard)}
    named_seen = bool(said & {plain(name) for name in after.item.seen})
    same = (before.answer.text or "").strip() == (after.answer.text or "").strip()
    if was_fooled(pair):
        weight += 1.5 * named_seen + 0.5 * same
    else:
        weight += 1.0 * (not same)
    sure = max((after.answer.logprobs or {}).values(), default=-math.inf)
    return weight + 0.5 * math.exp(min(sure, 0.0))
