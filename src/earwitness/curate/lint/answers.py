"""The right answers of a data set: can a trivial answerer have them, and do they contradict each other?

All that is needed is the rows' own gold: an option, yes or no, a label. Rows without one (open questions, free
texts) are left out of a check, and it says so.

Checks: ``constant_gold``, ``letter_bias``, ``never_right``, ``class_balance``, ``picture_alone``,
``contradictions``, ``duplicates``, ``empty_text``.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats as distributions

from earwitness.curate.lint.findings import FEW, ORDER, SOME, Finding, Verdict, amount, finding, idle
from earwitness.curate.lint.rows import OWN, Material, Sample, closed, right, types
from earwitness.questions import clean
from earwitness.records import NONE_OF_THE_ABOVE, how_many
from earwitness.stats.intervals import cluster_sums, ratio_variance

TRIVIAL, NEARLY = 0.9, 0.75  # accuracy of an answerer that neither sees nor hears
LEAST = 10  # rows: below, a run of equal answers is no news
OFTEN = 20  # rows of a question type, or offers of an option, from which on it is looked at alone
DUE = 5.0  # times an option should have been right by chance, to be missed
STRONG, SLIGHT = 0.3, 0.1  # Cohen's w: medium and small (Cohen 1988, section 7.2)
SURE = 0.001  # p of a bias that is no accident of the draw
CELL = 5.0  # expected counts from which on chi-square holds (Cochran 1954)
UNEVEN, LOPSIDED = 3.0, 10.0  # commonest over rarest answer
ALONE = 0.5  # share of rows whose picture comes with one answer only
SAME = "chosen is the same as rejected"
_NOTHING = clean(NONE_OF_THE_ABOVE)


def _no_gold(m: Material) -> str:
    return "no row has a closed answer" if m.samples else "labelled clips carry no questions"


def _best(rows: Sequence[Sample]) -> tuple[str, list[str]]:
    """The best answerer that neither sees nor hears: its name, and the ids of the rows that it gets right."""
    out: dict[str, list[str]] = defaultdict(list)
    for s in rows:
        out[f"always {s.gold!r}"].append(s.id)
    placed = [s for s in rows if s.place is not None and len(s.options) > 1]
    if len({s.options for s in placed}) > 1:  # options that differ from row to row, or change places
        for s in placed:
            sizes = [len(o) for o in s.options]
            for name, place in (
                ("first", 0),
                ("last", len(sizes) - 1),
                ("longest", sizes.index(max(sizes))),
                ("shortest", sizes.index(min(sizes))),
            ):
                if place == s.place:
                    out[f"always the {name} option"].append(s.id)
    return max(out.items(), key=lambda item: (len(item[1]), item[0]))


def constant_gold(m: Material) -> Finding:
    """One answer always, one place always, the longest or shortest option always: how often is the best right?"""
    check = "constant_gold"
    why = "who answers the same to everything is graded as if it had listened"
    rows = closed(m)
    if len(rows) < LEAST:
        return idle(
            check,
            _no_gold(m) if not rows else f"only {how_many(len(rows), 'row has', 'rows have')} a closed answer",
            why,
        )
    name, hits = _best(rows)
    share = len(hits) / len(rows)
    verdict = amount(share, TRIVIAL, NEARLY)
    says = f"{name} is right in {len(hits):,} of {how_many(len(rows), 'row')} ({share:.0%})"
    tasks = _by_task(rows)
    for task, some in sorted(tasks.items()) if len(tasks) > 1 else ():
        best, own = _best(some)
        if len(some) >= OFTEN and len(own) >= TRIVIAL * len(some):
            verdict = max(verdict, "warns", key=ORDER.index)
            says += f"; in {task!r} {best} {len(own) / len(some):.0%}"
    return finding(check, verdict, hits, len(rows), says, why, numbers={"best trivial answerer": share})


def letter_bias(m: Material) -> Finding:
    """Does the right option stand in some places more than in others? Chi-square with Cohen's w, clip-clustered.

    Expected is an even spread over each row's own options. The statistic is divided by the mean design effect of
    the places (Rao and Scott 1981), since rows of one clip are no independent draws.
    """
    check = "letter_bias"
    why = "a model that learns the letter needs neither sound nor picture; its accuracy then counts the letter"
    # "None of the above" stands last by its nature: how often it is right is no matter of its place.
    rows = [
        replace(s, options=tuple(o for o in s.options if clean(o) != _NOTHING))
        for s in closed(m)
        if s.place is not None and clean(s.options[s.place]) != _NOTHING
    ]
    # One list that always stands in the same order (A: in step, B: late ...) has classes, not places.
    orders = defaultdict(set)
    for s in rows:
        orders[frozenset(s.options)].add(s.options)
    shared = Counter(frozenset(s.options) for s in rows)
    rows = [s for s in rows if len(orders[k := frozenset(s.options)]) > 1 or shared[k] < OFTEN]
    rows = [s for s in rows if len(s.options) > 1]
    if len({s.options for s in rows}) < 2:
        return idle(check, "no rows with options in changing places", why)
    expected = np.zeros(max(len(s.options) for s in rows))
    for s in rows:
        expected[: len(s.options)] += 1 / len(s.options)
    kept = int((np.cumsum(expected[::-1])[::-1] >= CELL).sum())  # rarer last places are joined
    if kept < 2:
        return idle(
            check, f"{how_many(len(rows), 'row')} over {how_many(len(expected), 'place')}: too few for a test", why
        )
    places = np.array([min(s.place or 0, kept - 1) for s in rows])
    expected = np.r_[expected[: kept - 1], expected[kept - 1 :].sum()]
    seen = np.bincount(places, minlength=kept)
    square = float(((seen - expected) ** 2 / expected).sum())
    effect = math.sqrt(square / len(rows))
    design = _design(places, expected / len(rows), [s.source for s in rows])
    p = float(distributions.chi2.sf(square / design, kept - 1))
    most = int(np.argmax(seen / expected))
    verdict: Verdict = "fine"
    if p < SURE and effect >= SLIGHT:
        verdict = "fails" if effect >= STRONG else "warns"
    return finding(
        check, verdict, [s.id for s, at in zip(rows, places, strict=True) if at == most], len(rows),
        f"the right option stands at {_place(most)} in {seen[most] / len(rows):.0%} of "
        f"{how_many(len(rows), 'row')} (even: "
        f"{expected[most] / len(rows):.0%}); chi-square {square:.1f}, w {effect:.2f}, p {p:.2g}", why,
        numbers={"chi_square": square, "w": effect, "p": p, "share": seen[most] / len(rows)},
        counts={_place(i): int(n) for i, n in enumerate(seen)},
    )  # fmt: skip


def _place(n: int) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[n] if n < 26 else f"place {n + 1}"


def _design(places: NDArray[np.intp], even: NDArray[np.float64], sources: Sequence[str]) -> float:
    """Mean design effect of the places; 1 at least, so that few clips make no test sharper."""
    total = 0.0
    for place, share in enumerate(even):
        sums, counts = cluster_sums((places == place).astype(np.float64), sources)
        if counts.size < 2:
            return 1.0
        total += float(ratio_variance(sums, counts)[1]) * len(places) / share
    return max(1.0, total / (len(even) - 1))


def never_right(m: Material) -> Finding:
    """Question types with one answer only ("no" to everything), and options that are offered and never right."""
    check = "never_right"
    why = "where yes is never right, always saying no is perfect; what is never right is never learned or tested"
    rows = closed(m)
    if not rows:
        return idle(check, _no_gold(m), why)
    one = {
        task: some
        for task, some in _by_task(rows).items()
        if len(some) >= LEAST and len({s.gold for s in some}) == 1 and all(len(s.options) < 3 for s in some)
    }
    chance: dict[str, float] = defaultdict(float)
    offers: Counter[str] = Counter()
    for s in rows:
        for option in s.options if s.place is not None else ():
            offers[option] += 1
            chance[option] += 1 / len(s.options)
    hit = {right(s) for s in rows}
    missed = [o for o, n in offers.most_common() if n >= OFTEN and chance[o] >= DUE and o not in hit]
    words = [
        f"{how_many(len(some), 'row')}{f' of {task!r}' if task else ''}: always {some[0].gold!r}"
        for task, some in one.items()
    ]
    if missed:
        words.append(f"never right: {', '.join(missed[:5])}" + (" ..." if len(missed) > 5 else ""))
    ids = [s.id for some in one.values() for s in some] or [s.id for s in rows if set(s.options) & set(missed)]
    return finding(
        check, "fails" if one else "warns" if missed else "fine", ids, len(rows),
        "; ".join(words) or "every question type has more than one answer", why,
        counts={"types with one answer": len(one), "options never right": len(missed)},
    )  # fmt: skip


def _by_task(rows: Sequence[Sample]) -> dict[str, list[Sample]]:
    out: dict[str, list[Sample]] = {}
    for s in rows:
        out.setdefault(s.task, []).append(s)
    return out


def class_balance(m: Material) -> Finding:
    """How uneven are the answers (or, for labelled clips, the classes that are heard)?"""
    check = "class_balance"
    why = "the commonest answer is rewarded for being common: report balanced accuracy, and draw rows evenly"
    if m.form == "clips":
        groups = {"heard": [(c.id, what) for c in m.clips.values() for what in c.heard[:1]]}
    else:
        found = types(closed(m))
        groups = {name: [(s.id, right(s)) for s in some] for name, some in found.items() if name != OWN}
    uneven = []
    for name, named in groups.items():
        named = groups[name] = [(i, what) for i, what in named if clean(what) != _NOTHING]  # of another kind
        counts = Counter(what for _, what in named)
        if len(counts) > 1 and len(named) >= max(LEAST, CELL * len(counts)):
            uneven.append((max(counts.values()) / min(counts.values()), name))
    if not uneven:
        return idle(check, "fewer than two classes, or too few rows, to compare", why)
    ratio, name = max(uneven)
    counts = Counter(what for _, what in groups[name])
    (top, most), (low, least) = counts.most_common()[0], counts.most_common()[-1]
    says = f"{name}: {top!r} {most:,} times, {low!r} {least:,} times ({ratio:.1f} to 1, {len(counts)} classes)"
    if ratio > LOPSIDED:
        says += ": the rare one counts for nothing in plain accuracy"
    ids = [i for i, what in groups[name] if what == top] if ratio > UNEVEN else []
    return finding(
        check, "warns" if ratio > UNEVEN else "fine", ids, sum(len(g) for g in groups.values()), says, why,
        numbers={"commonest over rarest": ratio}, counts=dict(counts.most_common(20)),
    )  # fmt: skip


def picture_alone(m: Material) -> Finding:
    """Rows about the sound whose picture and question come with one right answer: no twin says otherwise."""
    check = "picture_alone"
    why = (
        "without a twin (same picture, same question, another sound, another answer) the picture is enough: a "
        "watcher can have every one of these right"
    )
    rows = [s for s in closed(m) if s.sound]
    if len(rows) < LEAST:
        return idle(
            check,
            f"{how_many(len(rows), 'row with a closed answer rests', 'rows with a closed answer rest')} on the "
            "sound",
            why,
        )
    golds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for s in rows:
        golds[s.shown, _question(s)].add(right(s))
    lone = [s.id for s in rows if len(golds[s.shown, _question(s)]) == 1]
    share = len(lone) / len(rows)
    says = f"{len(lone):,} of {how_many(len(rows), 'row')} have no twin (same picture and question, another answer)"
    return finding(
        check, "warns" if share > ALONE else "fine", lone, len(rows), says, why, numbers={"share": share}
    )  # fmt: skip


def _question(s: Sample) -> str:
    """What is asked, whatever the order of the options."""
    if s.kind != "choice":
        return clean(s.prompt)
    found = s.prompt
    for option in sorted(s.options, key=len, reverse=True):
        found = found.replace(option, "")
    return clean(found) + "|" + "|".join(sorted(s.options))


def contradictions(m: Material) -> Finding:
    """The same media and question with different answers, and pairs whose sides are the same or change places."""
    check = "contradictions"
    why = "rows that contradict each other cancel, and what is left to learn is how to guess"
    if not m.samples:
        return idle(check, "labelled clips carry no questions", why)
    by: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for s in m.samples:
        by[s.media, _question(s)].append(s)
    wrong: dict[str, str] = {}
    for some in by.values():
        if len({right(s) for s in some if s.gold is not None}) > 1:
            wrong |= {s.id: "another answer to the same media and question" for s in some if s.gold is not None}
        worse = {clean(s.rejected) for s in some if s.rejected}
        for s in some:
            if s.rejected is not None and s.chosen and clean(s.chosen) == clean(s.rejected):
                wrong[s.id] = SAME
            elif s.rejected is not None and s.chosen and clean(s.chosen) in worse:
                wrong[s.id] = "chosen here and rejected there"
    words = Counter(wrong.values())
    return finding(
        check, "fails" if SAME in words else amount(len(wrong) / len(m.samples), FEW), list(wrong), len(m.samples),
        "; ".join(f"{how_many(n, 'row')}: {what}" for what, n in words.most_common())
        or "no row contradicts another", why,
        counts=words,
    )  # fmt: skip


def duplicates(m: Material) -> Finding:
    """Rows that stand there more than once: the same media, question and answers."""
    check = "duplicates"
    why = "a row that stands there twice weighs twice; in a test it is a question less"
    if not m.samples:
        return idle(check, "clips that stand there twice are refused when their labels are read", why)
    first: set[tuple[str | None, ...]] = set()
    again = []
    for s in m.samples:
        key = (s.media, clean(s.prompt), s.chosen, s.rejected, None if s.chosen is not None else s.gold)
        if key in first:
            again.append(s.id)
        first.add(key)
    share = len(again) / len(m.samples)
    # Training sets may repeat rows on purpose, to balance them.
    verdict = amount(share, SOME) if m.form == "questions" else "warns" if again else "fine"
    says = f"{len(again):,} of {how_many(len(m.samples), 'row')} repeat an earlier one"
    return finding(check, verdict, again, len(m.samples), says, why, numbers={"share": share})


def empty_text(m: Material) -> Finding:
    """Rows with an empty question or an empty answer to learn."""
    check = "empty_text"
    why = "an empty text teaches to say nothing, and stops a trainer that divides by its length"
    if not m.samples:
        return idle(check, "labelled clips carry no texts", why)
    empty = {
        s.id: what
        for s in m.samples
        for what, text in (("question", s.prompt), ("chosen", s.chosen), ("rejected", s.rejected))
        if text is not None and not text.strip()
    }
    words = Counter(empty.values())
    says = ", ".join(how_many(n, f"empty {what} text") for what, n in words.items()) or "no text is empty"
    return finding(check, "fails" if empty else "fine", list(empty), len(m.samples), says, why, counts=words)


CHECKS: Sequence[Callable[[Material], Finding]] = (
    constant_gold, letter_bias, never_right, class_balance, picture_alone, contradictions, duplicates, empty_text,
)  # fmt: skip
