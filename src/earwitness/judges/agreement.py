"""Do judge and rules agree, do two judges, and what does the judge say where the rules count words?

A language model that judges is a measuring instrument like any other: its agreement with a second one is shown
before its numbers are. Cohen's kappa is taken over the labels of a task, clustered by clip; UNPARSED and REFUSED
are one label there, as both leave an answer unscored. An answer on which a judge failed is left out and counted.

Functions: ``scores`` (the judge's label in place of the rule's), ``tables``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import combinations

import msgspec

from earwitness import stats
from earwitness.judges.asking import to_judge
from earwitness.judges.reading import HIGHEST, LOWEST, MARKED, Ruling
from earwitness.protocols.cells import cluster_of
from earwitness.questions import clean
from earwitness.questions.prompts import LABELS
from earwitness.records import REFUSED, UNPARSED, Estimate, Judged, Row, Score, Table
from earwitness.scoring import ERROR, UNSCORED

RULES = "the rules"
Rulings = Mapping[str, Ruling]  # by item id


def scores(judged: Sequence[Judged], rulings: Rulings) -> list[Score]:
    """The answers' scores with the judge's label and offset, right or wrong by the same truth as the rules'.

    Closed questions, marked descriptions and answers without a ruling keep the rule's score. A judge that is unsure
    or failed leaves an answer unscored even where the rules had scored it.
    """
    return [_score(j, rulings.get(j.item.id)) for j in judged]


def _score(j: Judged, ruling: Ruling | None) -> Score:
    if ruling is None or j.item.question not in LABELS:
        return j.score
    target = j.item.target
    scored = ruling.label not in UNSCORED and target is not None
    correct = clean(ruling.label) == clean(target or "") if scored else None
    return msgspec.structs.replace(j.score, label=ruling.label, correct=correct, offset=ruling.offset)


def tables(judged: Sequence[Judged], by_judge: Mapping[str, Rulings], own: Collection[str] = ()) -> list[Table]:
    """``judge_agreement``, one ``judge_labels_*`` per judge and task, ``judge_confuse_scores``: those with rows.

    ``own`` names the judges that are the audited model itself; tables with figures of theirs say so.
    """
    found = [(_agreement(judged, by_judge), list(by_judge))]
    for n, (name, rulings) in enumerate(by_judge.items()):
        found += [(_labels(judged, name, rulings, task, "" if n == 0 else f"_{n + 1}"), [name]) for task in LABELS]
    found.append((_marks(judged, by_judge), list(by_judge)))
    return [
        msgspec.structs.replace(table, caption=table.caption + caveat(names, own))
        for table, names in found
        if table.rows
    ]


def caveat(names: Sequence[str], own: Collection[str]) -> str:
    """The sentence that a table of these judges needs where one of them judges itself, else nothing."""
    its = [name for name in names if name in own]
    if not its:
        return ""
    who = "The judge" if len(names) == 1 else f"The judge {', '.join(its)}"
    return f" {who} is the audited model itself: it may favour its own answers."


def _of_task(judged: Sequence[Judged], task: str) -> list[Judged]:
    return [j for t, j in to_judge(judged) if t == task]


def _agreement(judged: Sequence[Judged], by_judge: Mapping[str, Rulings]) -> Table:
    rows = []
    for task in LABELS:
        mine = _of_task(judged, task)
        rule = {j.item.id: j.score.label for j in mine}
        said = {RULES: rule, **{n: {i: r.label for i, r in some.items()} for n, some in by_judge.items()}}
        for one, other in combinations(said, 2):
            both = [j for j in mine if j.item.id in said[one] and j.item.id in said[other]]
            if both:
                pairs = [(said[one][j.item.id], said[other][j.item.id]) for j in both]
                rows.append(Row(f"{task}: {one}, {other}", _pair_cells(both, pairs)))
    return Table(
        id="judge_agreement",
        title="Do the judges agree?",
        caption=(
            "Free-form answers labelled by the rules and by a language model that does not know what was done to "
            "the clip. Kappa is agreement beyond chance; it is missing where both give one and the same label "
            "throughout, and where one gives no label at all. UNPARSED and REFUSED are one label here; answers on "
            "which a judge failed are left out of both figures."
        ),
        columns=("agreement", "kappa", "answers", "unscored by the first", "by the second", "judge failed"),
        rows=tuple(rows),
        unit="mixed",
    )


def _pair_cells(
    both: Sequence[Judged], pairs: Sequence[tuple[str, str]]
) -> tuple[Estimate | None, Estimate | None, int, int, int, int]:
    clusters = cluster_of(both)
    first, second = ([_one_unscored(p[side]) for p in pairs] for side in (0, 1))
    mute = any(not any(label not in (None, UNPARSED) for label in side) for side in (first, second))
    same = [None if a is None or b is None else a == b for a, b in zip(first, second, strict=True)]
    return (
        stats.proportion(same, clusters),
        None if mute else stats.kappa(first, second, clusters),
        len(pairs),
        first.count(UNPARSED),
        second.count(UNPARSED),
        same.count(None),
    )


def _one_unscored(label: str) -> str | None:
    return None if label == ERROR else UNPARSED if label == REFUSED else label


def _labels(judged: Sequence[Judged], name: str, rulings: Rulings, task: str, suffix: str) -> Table:
    mine = [j for j in _of_task(judged, task) if j.item.id in rulings]
    columns = (*LABELS[task], UNPARSED, REFUSED, ERROR)
    counted = Counter((j.score.label, rulings[j.item.id].label) for j in mine)
    rows = [
        Row(f"{RULES}: {label}", tuple(counted[label, other] for other in columns))
        for label in columns
        if any(counted[label, other] for other in columns)
    ]
    return Table(
        id=f"judge_labels_{task}{suffix}",
        title=f"{task.capitalize()} answers: {RULES} by row, {name} by column",
        caption="Numbers of answers. Those off the diagonal are worth reading: the votes are in judgements.jsonl.",
        columns=columns,
        rows=tuple(rows),
        unit="count",
    )


def _marks(judged: Sequence[Judged], by_judge: Mapping[str, Rulings]) -> Table:
    described = _of_task(judged, "describe")
    rows = []
    for name, rulings in by_judge.items():
        for label, some in _groups([j for j in described if j.item.id in rulings]):
            rows.append(Row(f"{name}: {label}" if len(by_judge) > 1 else label, _mark_cells(some, rulings)))
    return Table(
        id="judge_confuse_scores",
        title="Descriptions, marked from 0 to 5 by a judge",
        caption=(
            "What the answer says to hear and to see, each against what is heard and seen after the intervention: "
            f"mean of the votes ({', '.join(by_judge)}). The row of the replaced sounds is what AV-ConfuseBench's "
            "Table 1 and Table 6 call A-Acc and V-Acc, but for another judge and other clips. Judge-free beside "
            "it: the same answers by whether the rules find the replaced sound named as heard."
        ),
        columns=("A-score", "V-score", "answers", "unparsed", "judge failed"),
        rows=tuple(rows),
        unit="score",
    )


def _groups(described: Sequence[Judged]) -> Iterator[tuple[str, list[Judged]]]:
    """Rows of the marks' table that hold answers."""
    untouched = [j for j in described if j.item.asked is None]  # asked: the sound that was put in
    replaced = [j for j in described if j.item.asked is not None]
    groups = [("sound replaced, all", replaced)]
    names = sorted({j.item.asked for j in replaced if j.item.asked})
    groups += [(f"replaced by {name}", [j for j in replaced if j.item.asked == name]) for name in names]
    groups.append(("untouched (control)", untouched))
    for label, told in (("HEARD", "the rules find the sound"), ("NOT_HEARD", "the rules do not find it")):
        groups.append((f"sound replaced, {told}", [j for j in replaced if j.score.label == label]))
    return ((label, some) for label, some in groups if some)


def _mark_cells(some: Sequence[Judged], rulings: Rulings) -> tuple[Estimate | None, Estimate | None, int, int, int]:
    given = [rulings[j.item.id] for j in some]
    clusters, span = cluster_of(some), (LOWEST, HIGHEST)
    return (
        stats.mean([r.audio for r in given], clusters, span=span),
        stats.mean([r.visual for r in given], clusters, span=span),
        len(given),
        sum(r.label not in (MARKED, ERROR) for r in given),
        sum(r.label == ERROR for r in given),
    )
