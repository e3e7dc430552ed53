"""Tables for the kinds of question that accuracy alone does not describe: yes/no, offsets, captions, new sounds.

Yes/no: accuracy, precision, recall, F1, Yes % and signal detection from one confusion matrix of the answers that
could be read, so that the figures cannot contradict each other (Table 5 of arXiv 2511.10059 does). CMM's two
measures are in it under its own names: PA (perception accuracy) is accuracy on yes, HR (hallucination resistance)
accuracy on no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from earwitness import stats
from earwitness.protocols.cells import COUNTS, Hit, baseline, cluster_of, counts, is_label, share
from earwitness.questions import captions, clean
from earwitness.records import Estimate, Item, Judged, Row, Table
from earwitness.scoring import UNSCORED

STILL = 0.05  # seconds: smaller offsets are none
BANDS = ((STILL, 0.65, "0.2 to 0.6 s"), (0.65, 1.25, "0.8 to 1.2 s"), (1.25, 60.0, "beyond"))
_says_yes: Hit = is_label("yes")


def kind_tables(judged: Sequence[Judged]) -> list[Table]:
    """The tables of all kinds that the answers have, on the clips as they are (captions: all conditions)."""
    plain = [j for j in judged if j.item.condition == "original"]
    return [
        *_yes_no([j for j in plain if j.item.question == "yes_no"]),
        _sync([j for j in plain if j.item.question == "shift"]),
        _captions([j for j in judged if j.item.question == "caption"]),
        _described([j for j in plain if j.item.question == "modified"]),
    ]


def _groups(judged: Sequence[Judged]) -> Iterator[tuple[str, list[Judged]]]:
    """By task, then by what the questions rest on (where that joins tasks), then all."""
    tasks = sorted({j.item.task for j in judged})
    for task in tasks:
        yield task or "all questions", [j for j in judged if j.item.task == task]
    if len(tasks) < 2:
        return
    for evidence, name in ((("audio",), "about the sound"), (("video",), "about the picture")):
        some = [j for j in judged if j.item.evidence == evidence]
        if some and len({j.item.task for j in some}) > 1:
            yield name, some
    yield "all yes/no questions", list(judged)


def _f1(judged: Sequence[Judged], truth: Sequence[bool]) -> Estimate | None:
    """F1 = 2 TP / (2 TP + FP + FN): a share in which each true positive counts twice, so clustered like one."""
    hits: list[bool | None] = []
    clusters: list[str] = []
    names = cluster_of(judged)
    scored = 0
    for j, yes, cluster in zip(judged, truth, names, strict=True):
        said = _says_yes(j)
        scored += said is not None
        if said is None or not (said or yes):
            continue
        times = 2 if said and yes else 1
        hits += [bool(said and yes)] * times
        clusters += [cluster] * times
    found = stats.proportion(hits, clusters)
    return (
        None if found is None else msgspec.structs.replace(found, n=scored, method=f"{found.method}, F1 as a share")
    )


def _yes_no_row(label: str, judged: Sequence[Judged], kind: str = "model") -> Row:
    truth = [clean(j.item.target or "") == "yes" for j in judged]
    found = stats.detection([_says_yes(j) for j in judged], truth, cluster_of(judged))
    claimed = [j for j in judged if _says_yes(j)]
    both = any(truth) and not all(truth)
    cells = (
        share(judged),
        share(claimed) if any(truth) else None,
        found.hit_rate,
        _f1(judged, truth) if both else None,
        found.yes_rate,
        share([j for j, yes in zip(judged, truth, strict=True) if not yes]),
        found.balanced_accuracy,
        found.dprime,
        found.bias,
    )
    return Row(label, (*cells, *counts(judged)), kind)  # type: ignore[arg-type]


def _yes_no(judged: Sequence[Judged]) -> Iterator[Table]:
    asked = [j for j in judged if j.item.target is not None]
    rows = [_yes_no_row(name, some) for name, some in _groups(asked)]
    if asked:
        for word in ("yes", "no"):
            rows.append(_yes_no_row(f"always {word}", baseline(asked, _always(word)), "baseline"))
    yield _yes_no_table("benchmark_yes_no", "Yes/no questions from one confusion matrix", rows)
    for tag in ("category", "sub_category", "granularity"):
        values = sorted({j.item.tags[tag] for j in asked if j.item.tags.get(tag)})
        if len(values) > 1:
            some = [_yes_no_row(v, [j for j in asked if j.item.tags.get(tag) == v]) for v in values]
            yield _yes_no_table(f"benchmark_yes_no_by_{tag}", f"Yes/no questions by {tag.replace('_', '-')}", some)


def _yes_no_table(name: str, title: str, rows: Sequence[Row]) -> Table:
    return Table(
        id=name,
        title=title,
        caption=(
            "Recall (PA) is accuracy where yes is right, HR accuracy where no is right; d' = 0 is a model "
            "that cannot tell the two apart, bias below 0 leans to yes. Precision and F1 are empty where one "
            "of the two is never right. Unparsed and refused answers are in no cell of the matrix."
        ),
        columns=(
            "accuracy", "precision", "recall (PA)", "F1", "says yes", "HR", "balanced accuracy", "d'", "bias c",
            *COUNTS,
        ),
        rows=tuple(rows),
        unit="mixed",
    )  # fmt: skip


def _always(word: str) -> Callable[[Item], str | None]:
    return lambda _: word


def _wrong_way(j: Judged) -> bool | None:
    if j.score.label in UNSCORED:
        return None
    return {j.score.label, j.item.target} == {"DELAY", "EARLY"}


def _sync(judged: Sequence[Judged]) -> Table:
    """By size and direction of the offset: right, called in sync, the wrong way round."""
    rows = []
    if still := [j for j in judged if abs(j.item.offset) < STILL]:
        rows.append(_sync_row("in sync", still))
    for low, high, name in BANDS:
        for sign, way in ((1, "sound late"), (-1, "sound early")):
            some = [j for j in judged if low <= sign * j.item.offset < high]
            if some:
                rows.append(_sync_row(f"{way}, {name}", some))
    if judged:
        rows.append(_sync_row("all", judged))
        rows.append(_sync_row("always in sync", baseline(judged, _always("SYNC")), "baseline"))
    return Table(
        id="benchmark_sync",
        title="Are sound and picture in step?",
        caption=(
            "Three answers are possible: in step, sound late, sound early. Balanced accuracy weighs the three "
            "alike (chance 1/3). Offsets below about 0.2 s are hard for people too."
        ),
        columns=("right", "called in sync", "wrong direction", "balanced accuracy", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )


def _sync_row(label: str, judged: Sequence[Judged], kind: str = "model") -> Row:
    moved = [j for j in judged if j.item.target != "SYNC"]
    balanced = stats.balanced_accuracy(
        [j.score.correct for j in judged], [j.item.target or "" for j in judged], cluster_of(judged)
    )
    cells = (share(judged), share(judged, is_label("SYNC")), share(moved, _wrong_way), balanced)
    return Row(label, (*cells, *counts(judged)), kind)  # type: ignore[arg-type]


def _captions(judged: Sequence[Judged]) -> Table:
    rows = []
    for condition in dict.fromkeys(j.item.condition for j in judged):
        some = [j for j in judged if j.item.condition == condition]
        marks = [None if j.score.label in UNSCORED else j.score.recall for j in some]
        found = stats.mean(marks, cluster_of(some), span=(0.0, 1.0))
        rows.append(Row({"original": "as it is"}.get(condition, condition), (found, *counts(some)[:4])))
    how = "METEOR, 0 to 1, against the one reference caption, by condition. "
    if not captions.available():
        how += "Not computed: nltk is not installed (pip install 'earwitness[caption]')."
    elif not captions.synonyms_known():
        how += (
            "Without WordNet synonyms (their data are not installed): scores are the same or lower than with them."
        )
    return Table(
        id="benchmark_captions",
        title="Captions",
        caption=how,
        columns=("METEOR", *COUNTS[:4]),
        rows=tuple(rows),
        unit="score",
    )


def _described(judged: Sequence[Judged]) -> Table:
    """AV-ConfuseBench's replaced sounds, by sound: is it named as heard?"""
    rows = []
    for name in sorted({j.item.asked or "" for j in judged}):
        some = [j for j in judged if j.item.asked == name]
        rows.append(Row(name, (share(some), *counts(some))))
    if len(rows) > 1:
        rows.append(Row("all", (share(judged), *counts(judged))))
    return Table(
        id="benchmark_described",
        title="Does it name the sound that was put in?",
        caption="Keyword recall, no judge: the sound that replaced the clip's own is named as heard.",
        columns=("names the sound", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )
