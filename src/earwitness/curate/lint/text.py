"""How much do the words give away? A small scorer of texts, tried on rows that it did not learn from.

Everything that can be guessed from text is one question here: of the candidates that stand beside each other (a
chosen and a rejected answer; the options of a question; the closed answers to a prompt), which is the right one?
The scorer is McFadden's (1974) conditional logit on the words and word pairs of the candidates, with an L2 penalty;
two candidates make it plain logistic regression on their difference. It sees no picture and hears no sound, so what
it gets right above chance, a model may learn without listening.

Rows of one source clip always lie in the same fold, and folds have like shares of each stratum (stratified and
grouped cross-validation): twins of one clip would else tell each other's answers.

Functions: ``words``, ``Words`` (texts -> features), ``folds``, ``held_out`` (scores of candidates by a scorer that
never saw their source), ``won`` (does the right one come first?), ``auc`` (of one score, clustered), ``phrase``
(the one phrase that separates pairs best).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from earwitness.records import Estimate, digest
from earwitness.stats.intervals import Floats, cluster_sums, quantile, wilson

Ints = NDArray[np.intp]
FOLDS = 5
PENALTY = 1.0  # of the squared weights, against the summed log-loss of the rows: the usual default (C = 1)
MOST_WORDS = 20_000  # features kept, the commonest first
LONGEST = 6  # words of a separating phrase at most
RARE = 0.01  # of the pairs: a phrase that stands in fewer texts moves the AUC by less than 0.005
START = "^"  # stands before the first word, so that a text's beginning is a phrase of its own
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+(?:\.\d+)?")


def words(text: str) -> list[str]:
    """The words and numbers of a text, lower case, with a mark before the first.

    >>> words("The sound is early, by 1.8 s.")
    ['^', 'the', 'sound', 'is', 'early', 'by', '1.8', 's']
    """
    return [START, *_WORD.findall(text.lower().replace("\u2019", "'"))]


def grams(tokens: Sequence[str], longest: int) -> set[tuple[str, ...]]:
    """All runs of one to ``longest`` tokens; the bare start mark is none."""
    found = {tuple(tokens[i : i + n]) for n in range(1, longest + 1) for i in range(len(tokens) - n + 1)}
    found.discard((START,))
    return found


class Words:
    """Words and pairs of words that stand in two or more of some texts; ``features`` says which a text holds."""

    def __init__(self, texts: Iterable[str]) -> None:
        counts = Counter(g for text in texts for g in grams(words(text), 2))
        common = sorted((-n, g) for g, n in counts.items() if n > 1)[:MOST_WORDS]
        self.index = {g: column for column, (_, g) in enumerate(common)}

    def features(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """[texts, words] of 0 and 1: presence says more than counts where texts are a sentence or two."""
        known = [sorted(self.index[g] for g in grams(words(t), 2) if g in self.index) for t in texts]
        ends = np.cumsum([0, *(len(k) for k in known)])
        columns = np.fromiter((c for k in known for c in k), np.int64, ends[-1])
        return sparse.csr_matrix((np.ones(ends[-1]), columns, ends), shape=(len(texts), len(self.index)))


def folds(groups: Sequence[Hashable], strata: Sequence[Hashable], count: int = FOLDS) -> Ints:
    """[rows] fold numbers: a group stays together, strata are spread evenly, folds are of like size.

    Greedy, the largest groups first (their order otherwise by hash): each goes where it leaves the folds' shares of
    every stratum, then their sizes, most even. Raises ValueError where there are fewer groups than folds.
    """
    kinds = {s: i for i, s in enumerate(dict.fromkeys(strata))}
    members: dict[Hashable, Floats] = {}
    for group, stratum in zip(groups, strata, strict=True):
        members.setdefault(group, np.zeros(len(kinds)))[kinds[stratum]] += 1
    if len(members) < count:
        raise ValueError(f"folds: {len(members)} source clips make no {count} folds, wants one or more for each")
    total = sum(members.values())
    held, at = np.zeros((count, len(kinds))), {}
    for group in sorted(members, key=lambda g: (-members[g].sum(), digest(g))):
        with_it = (held + members[group]) / total
        rest = held / total
        # The spread over folds that each choice would leave; only the chosen fold's row changes.
        spread = (with_it**2 - rest**2).sum(1)
        at[group] = int(np.lexsort((np.arange(count), held.sum(1), np.round(spread, 9)))[0])
        held[at[group]] += members[group]
    return np.array([at[g] for g in groups], dtype=np.intp)


def _fitted(x: sparse.csr_matrix, rows: Ints, right: NDArray[np.bool_]) -> Floats:
    """Weights [features] of the conditional logit; ``rows`` [candidates] are 0 .. n - 1, in order."""
    starts, _ = _spans(rows)

    def loss(w: Floats) -> tuple[float, Floats]:
        score = x @ w
        score = score - np.maximum.reduceat(score, starts)[rows]
        odds = np.exp(score)
        sums = np.add.reduceat(odds, starts)
        value = float(np.log(sums).sum() - score[right].sum() + PENALTY / 2 * (w @ w))
        return value, x.T @ (odds / sums[rows] - right) + PENALTY * w

    found = optimize.minimize(
        loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-4}
    )
    return np.asarray(found.x, dtype=np.float64)


def held_out(x: sparse.csr_matrix, rows: Ints, right: NDArray[np.bool_], fold: Ints) -> Floats:
    """[candidates] scores, each by a scorer that was fitted without the candidate's fold.

    Parameters
    ----------
    x : [candidates, features]; the candidates of one row stand together.
    rows : [candidates] number of the row, ascending from 0; ``right`` is true for one candidate of each.
    fold : [rows], see :func:`folds`.
    """
    score = np.zeros(len(rows))
    for this in np.unique(fold):
        inside = fold[rows] == this
        _, number = np.unique(rows[~inside], return_inverse=True)
        score[inside] = x[inside] @ _fitted(x[~inside], number.astype(np.intp), right[~inside])
    return score


class Won(NamedTuple):
    """How the right candidates fare, a value each row: wrong ones beaten (share), first place (ties shared)."""

    beaten: list[float]
    first: list[float]


def won(score: Floats, rows: Ints, right: NDArray[np.bool_]) -> Won:
    """What scores say of each row; a tie counts half."""
    beaten, first = [], []
    for start, end in zip(*_spans(rows), strict=True):
        others = score[start:end][~right[start:end]]
        own = score[start:end][right[start:end]][0]
        level = np.isclose(others, own, rtol=0, atol=1e-9)
        above = (others > own) & ~level
        beaten.append(float(((~above & ~level) + 0.5 * level).mean()))
        first.append(0.0 if above.any() else 1.0 / (1 + int(level.sum())))
    return Won(beaten, first)


def _spans(rows: Ints) -> tuple[Ints, Ints]:
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    return starts, np.r_[starts[1:], len(rows)]


def auc(
    score: Sequence[float], positive: Sequence[bool], clusters: Sequence[str], fold: Ints | None = None
) -> Estimate:
    """P(a positive scores above a negative), ties half, with the clip-clustered interval of Obuchowski (1997).

    Compared are rows of one fold only: scorers of different folds need not be on one scale, and pooling them pulls
    the AUC of a useless scorer below one half (Parker et al. 2007). Raises ValueError where no fold has both kinds.
    """
    s, y = np.asarray(score, dtype=np.float64), np.asarray(positive, dtype=bool)
    at = np.zeros(len(s), dtype=np.intp) if fold is None else fold
    # A row's place: the share of its fold's rows of the other kind that it is on the right side of.
    place = np.full(len(s), np.nan)
    for f in np.unique(at):
        for kind in (True, False):
            mine, theirs = np.flatnonzero((at == f) & (y == kind)), np.sort(s[(at == f) & (y != kind)])
            if len(mine) and len(theirs):
                sides = (np.searchsorted(theirs, s[mine], side) for side in ("left", "right"))
                below = sum(sides) / (2 * len(theirs))
                place[mine] = below if kind else 1 - below
    used = ~np.isnan(place)
    if not used.any():
        raise ValueError("auc: wants rows of both kinds in one fold")
    value = float(place[y & used].mean())
    parts = np.zeros(len(s))
    for kind in (True, False):
        mine = np.flatnonzero(used & (y == kind))
        parts[mine] = (place[mine] - place[mine].mean()) / len(mine)
    sums, _ = cluster_sums(parts[used], [c for c, u in zip(clusters, used, strict=True) if u])
    n, groups = int(used.sum()), sums.size
    if groups < 2:
        return Estimate(value, 0.0, 1.0, n, groups, "one clip: no interval")
    if not sums.any():  # all clips agree: no spread to measure
        return msgspec.structs.replace(wilson(round(value) * groups, groups), n=n, method="AUC, Wilson on clips")
    half = float(quantile(0.95, groups - 1)) * float(np.sqrt(groups / (groups - 1) * (sums**2).sum()))
    low, high = max(0.0, value - half), min(1.0, value + half)
    return Estimate(value, low, high, n, groups, "AUC, clip-clustered (Obuchowski)")


class Phrase(NamedTuple):
    """One phrase and what it does to pairs; ``beaten`` as in :class:`Won`, by phrases chosen without the row."""

    text: str
    where: str  # "chosen" or "rejected": the side that it marks
    marked: list[bool]  # per pair: it stands on that side only
    beaten: list[float]


Gram = tuple[str, ...]


def phrase(chosen: Sequence[str], rejected: Sequence[str], fold: Ints) -> Phrase:
    """The phrase (one to six words, or the beginning) that tells chosen from rejected in most pairs.

    A phrase counts for a pair where it stands on one side only. The best is found on all pairs to be named, and
    without each fold to be tried on it: the best of many thousands always separates a few pairs by luck.
    """
    found = _common([words(t) for t in (*chosen, *rejected)], max(3, round(RARE * len(chosen))))
    sides = list(zip(found[: len(chosen)], found[len(chosen) :], strict=True))
    by_fold: dict[int, Counter[Gram]] = {int(f): Counter() for f in np.unique(fold)}
    for (a, b), f in zip(sides, fold, strict=True):
        by_fold[int(f)].update(a - b)
        by_fold[int(f)].subtract(b - a)
    net: Counter[Gram] = Counter()
    for part in by_fold.values():
        net.update(part)
    best = _best(net)
    if best is None:  # every pair has the same phrases on both sides
        return Phrase("", "chosen", [False] * len(sides), [0.5] * len(sides))
    beaten = [0.5] * len(sides)
    for f, part in by_fold.items():
        rest = _best({g: n - part.get(g, 0) for g, n in net.items()})
        if rest is not None:
            gram, way = rest
            for i in np.flatnonzero(fold == f):
                beaten[i] = 0.5 + 0.5 * way * ((gram in sides[i][0]) - (gram in sides[i][1]))
    gram, way = best
    marked = [gram in (a - b if way > 0 else b - a) for a, b in sides]
    text = " ".join(gram).replace(f"{START} ", "... ")
    return Phrase(text, "chosen" if way > 0 else "rejected", marked, beaten)


def _common(texts: Sequence[Sequence[str]], least: int) -> list[set[Gram]]:
    """The phrases of each text that stand in ``least`` texts or more.

    Level by level: a phrase is no commoner than its beginning and its end (Agrawal and Srikant 1994, Apriori), so
    long texts need no table of all their phrases.
    """
    out: list[set[Gram]] = [set() for _ in texts]
    known: set[Gram] = set()
    for n in range(1, LONGEST + 1):
        level = []
        for tokens in texts:
            runs = (tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))
            level.append({g for g in runs if n == 1 or (g[1:] in known and g[:-1] in known)})
        counts = Counter(g for some in level for g in some)
        known = {g for g, k in counts.items() if k >= least}
        for mine, some in zip(out, level, strict=True):
            mine |= some & known
    for mine in out:
        mine.discard((START,))
    return out


def _best(net: Mapping[Gram, int]) -> tuple[Gram, int] | None:
    """The phrase with the largest net count of sides, the longest of equals, and the side it marks (+1: chosen)."""
    top = max(net.items(), key=lambda item: (abs(item[1]), len(item[0]), item[0]), default=None)
    return None if top is None or not top[1] else (top[0], 1 if top[1] > 0 else -1)
