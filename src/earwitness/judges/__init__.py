"""A second reader of free-form answers: a language model as judge, beside the rules that are always there.

The rules (:mod:`earwitness.questions`) read every answer, cost nothing and are the default. A judge reads the
free-form answers again: those to Thud's mute, swap and shift questions in neutral style become labels, AV-Confuse's
descriptions marks from 0 to 5. It knows the question and the answer, never what was done to the clip. How far the
two readers agree is shown before the judge's own figures are.

A judge is any model of :mod:`earwitness.models`; it is asked text alone.

Modules: ``reading`` (raw output -> vote -> ruling), ``asking`` (blinded, cached, resumable), ``agreement``.
The prompts are in :mod:`earwitness.questions.judge_prompts`.

Functions: ``run`` (a run folder), ``judge`` (any answers), ``read`` and ``decide`` (output to ruling).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from earwitness import protocols, scoring
from earwitness import run as runs
from earwitness.judges import agreement
from earwitness.judges.asking import VOTES, Progress, Who, judge, judges_in, rulings, to_judge
from earwitness.judges.reading import Ruling, Vote, decide, read
from earwitness.models import Model
from earwitness.models.load import load_model
from earwitness.records import Judged, Score, Table, how_many

LOG = "judgements.jsonl"


class Outcome(NamedTuple):
    """What a judge adds to a run: scores with its labels, in plan order, and tables. Both empty without a judge.

    ``warnings`` say in plain words why its figures may mean nothing.
    """

    scores: list[Score]
    tables: list[Table]
    warnings: tuple[str, ...] = ()


def run(
    folder: Path,
    judge_by: Model | str | None = None,
    *,
    votes: int = VOTES,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Judge the free-form answers of a run folder; the folder gets judgements.jsonl, nothing else is changed.

    Parameters
    ----------
    judge_by : a model or its name on the command line. None asks nobody and uses the judgements that the folder
        holds already: the scores are then those of the judge that came last, agreement is shown for all of them.
    votes, cache, progress : as in :func:`judge`.

    Raises
    ------
    RunError
        Where the folder is no run, or no request to the judge came through.
    ValueError
        For an unknown judge, or a run without free-form answers (see :func:`judge`).
    """
    info, log = runs.read_info(folder), folder / LOG
    if judge_by is None and not log.exists():
        return Outcome([], [])
    answers = runs.read_answers(folder)
    judged = [
        Judged(item, answers[item.id], scoring.score(item, answers[item.id]))
        for item in runs.read_items(folder)
        if item.id in answers
    ]
    asked: dict[Who, dict[str, Ruling]] = {}
    if judge_by is not None:
        with _opened(judge_by) as model:
            found = judge(judged, model, log=log, votes=votes, cache=cache, progress=progress)
        asked[model.name, model.revision] = found
    mine = to_judge(judged)
    known = judges_in(log)
    by_judge = {who: asked.get(who) or rulings(mine, log, who, n) for who, n in known.items()}
    by_judge = {who: some for who, some in by_judge.items() if some}
    if not by_judge:
        return Outcome([], [])
    chosen = next(iter(asked), list(by_judge)[-1])
    new = agreement.scores(judged, by_judge[chosen])
    names = _names(list(by_judge))
    own = [names[who] for who in by_judge if who[0] == info.model]
    extra = agreement.tables(judged, {names[who]: some for who, some in by_judge.items()}, own)
    extra += _protocol_tables(judged, new, info.protocols, names[chosen], own)
    return Outcome(new, extra, tuple(_doubts(names[chosen], by_judge[chosen])))


def _doubts(name: str, rulings: Mapping[str, Ruling]) -> Iterator[str]:
    """Whether more than half of a judge's rulings rest on votes that could not be read, or did not come."""
    mute = sum(2 * (r.unreadable + r.failed) > r.votes for r in rulings.values())
    if 2 * mute > len(rulings):
        yield (
            f"the judge {name} gave no readable label for {mute:,} of {how_many(len(rulings), 'answer')}: its "
            "figures say "
            f"nothing (a model that cannot follow the form? its words are in {LOG})"
        )


@contextmanager
def _opened(judge_by: Model | str) -> Iterator[Model]:
    """The judge; one that was opened here by name is closed again."""
    model = load_model(judge_by) if isinstance(judge_by, str) else judge_by
    try:
        yield model
    finally:
        if model is not judge_by and hasattr(model, "close"):
            model.close()


def _names(who: list[Who]) -> dict[Who, str]:
    """What judges are called in tables: by name, with the revision where one name stands for two judges."""
    twice = {name for name, _ in who if sum(name == other for other, _ in who) > 1}
    return {(name, rev): f"{name} ({rev})" if name in twice else name for name, rev in who}


def _protocol_tables(
    judged: list[Judged], new: list[Score], names: list[str], judge_name: str, own: Sequence[str]
) -> list[Table]:
    """The protocols' own tables of the answers that the judge labelled, beside the rules' and named apart."""
    labelled = {j.item.id for task, j in to_judge(judged) if task != "describe"}
    by_judge = [Judged(j.item, j.answer, s) for j, s in zip(judged, new, strict=True) if j.item.id in labelled]
    return [
        msgspec.structs.replace(
            t,
            id=f"{t.id}_judged",
            title=f"{t.title} (labels of {judge_name})",
            caption=t.caption + agreement.caveat([judge_name], own),
        )
        for name in names
        if (mine := [j for j in by_judge if j.item.protocol == name])
        for t in protocols.load(name).tables(mine)
    ]


__all__ = [
    "LOG", "VOTES", "Outcome", "Ruling", "Vote", "decide", "judge", "judges_in", "read", "rulings", "run",
    "to_judge",
]  # fmt: skip
