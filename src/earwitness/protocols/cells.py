"""The cells that the protocols' tables are made of: shares with intervals, and what could not be scored.

A hit function says of an answer True, False or None (unscored). Every share stands beside its counts: answers,
unparsed, refused, failed, and the share if all of those had gone wrong or all right. Baselines answer without
looking at the clip; they are scored by the same functions on the same items.

Functions: ``share``, ``counts``, ``right``, ``is_label``, ``paired``, ``alike``, ``baseline``, ``cluster_of``,
``most_common``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from earwitness import stats
from earwitness.questions import clean
from earwitness.records import REFUSED, UNPARSED, Cell, Estimate, Item, Judged
from earwitness.scoring import ERROR, UNSCORED

Hit = Callable[[Judged], bool | None]
COUNTS = ("answers", "unparsed", "refused", "failed", "lowest", "highest")


def right(j: Judged) -> bool | None:
    """Whether the answer is right; None where it could not be scored."""
    return j.score.correct


def is_label(*labels: str) -> Hit:
    """Hit where the answer's label is one of these."""

    def hit(j: Judged) -> bool | None:
        return None if j.score.label in UNSCORED else j.score.label in labels

    return hit


def cluster_of(judged: Sequence[Judged]) -> list[str]:
    """The statistics' cluster of each answer: its source, a swap's two sources merged."""
    return stats.merge_clusters([j.item.source for j in judged], [j.item.linked for j in judged])


def share(judged: Sequence[Judged], hit: Hit = right) -> Estimate | None:
    """Share of hits among the scored answers, clustered by source; None where none was scored."""
    return stats.proportion([hit(j) for j in judged], cluster_of(judged))


def counts(judged: Sequence[Judged], hit: Hit = right) -> tuple[Cell, ...]:
    """The cells of ``COUNTS``: how many answers, which were unscored, and the worst-case bounds of the share."""
    if not judged:
        return (0, 0, 0, 0, None, None)
    labels = Counter(j.score.label for j in judged)
    low, high = stats.bounds([hit(j) for j in judged])
    return (len(judged), labels[UNPARSED], labels[REFUSED], labels[ERROR], low, high)


def _twins(
    a: Iterable[Judged], b: Iterable[Judged], key: Callable[[Item], object], hit: Hit
) -> tuple[list[bool | None], list[bool | None], list[str]]:
    """hit(a), hit(b) and the cluster of each pair of items that have the same key on both sides."""
    other = {key(j.item): j for j in b}
    both = [(x, other[key(x.item)]) for x in a if key(x.item) in other]
    links = [(*x.item.linked, *y.item.linked) for x, y in both]
    clusters = stats.merge_clusters([x.item.source for x, _ in both], links)
    return [hit(x) for x, _ in both], [hit(y) for _, y in both], clusters


def paired(
    a: Iterable[Judged], b: Iterable[Judged], key: Callable[[Item], object], hit: Hit = right
) -> Estimate | None:
    """Mean of hit(a) - hit(b) over the items that have the same key on both sides; None where there are none."""
    return stats.difference(*_twins(a, b, key, hit))


def alike(
    a: Iterable[Judged], b: Iterable[Judged], key: Callable[[Item], object], margin: float, hit: Hit = right
) -> Estimate | None:
    """The same difference with its 90 % interval, and p of the test that it is within ``margin`` either way."""
    return stats.equivalence(*_twins(a, b, key, hit), margin)


def baseline(judged: Sequence[Judged], says: Callable[[Item], str | None]) -> list[Judged]:
    """The same items answered by a rule that looks at nothing: its label is ``says(item)``."""
    out = []
    for j in judged:
        label = says(j.item)
        known = label is not None and j.item.target is not None
        score = msgspec.structs.replace(
            j.score,
            label=UNPARSED if label is None else label,
            correct=clean(label) == clean(j.item.target) if known and label and j.item.target else None,
            offset=None,
            recall=None,
            said_seen=(),
            said_heard=(),
        )
        out.append(Judged(j.item, j.answer, score))
    return out


def most_common(judged: Sequence[Judged]) -> str | None:
    """The target that most items have (the first in the alphabet of several); None without targets."""
    targets = Counter(j.item.target for j in judged if j.item.target is not None)
    return min(targets, key=lambda t: (-targets[t], t)) if targets else None


def holm(estimates: Sequence[Estimate | None]) -> list[float | None]:
    """p values of several differences, adjusted for testing all of them (Holm)."""
    return stats.holm([None if e is None else e.p for e in estimates])
