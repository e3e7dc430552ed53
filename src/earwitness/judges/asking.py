"""Which answers go to a judge, and every vote asked once: raw text in, raw text out, kept on disk.

A judge is any model (``models.Model``) that answers items without media. What it is asked is an item of its own,
made of the prompt alone: no clip, no condition, no id of the judged item goes with it, and votes are asked in the
order of their content keys, so that not even the order tells which answer was an intervened clip's.

A vote is keyed by its content: prompt, judge (name and revision), number of the vote. Twins with equal text share a
vote. ``judgements.jsonl`` in the run folder holds a line per vote; what it holds is never asked again, nor what a
cache shared between runs holds. A failed request is a line with ``error``: it is asked again by the next call and
is never a verdict.

Functions: ``task_of``, ``truth_of``, ``to_judge`` (what goes to a judge), ``judge`` (ask), ``judges_in`` and
``rulings`` (what a log says, without asking).
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from earwitness import run as runs
from earwitness.judges.reading import Ruling, Vote, decide, read
from earwitness.models import Model
from earwitness.questions import plain
from earwitness.questions.judge_prompts import JudgeTask, judge_prompt
from earwitness.questions.prompts import LABELS
from earwitness.records import Answer, Item, Judged, Media, digest
from earwitness.scoring import ERROR

VOTES = 3  # AV-ConfuseBench's judge is asked once; three votes show how firm it is
DECODE = 512  # new tokens at most: one line of JSON, and room for a judge that thinks first
CHUNK = 32
TEXT_ONLY = Media(frames=None, times=None, wave=None, rate=16_000, duration=0.0)
# What a local model raises for a request that it cannot answer; a streaming one turns failures into answers itself.
FAILURES = (ValueError, RuntimeError, OSError, TypeError, LookupError)

Progress = Callable[[int, int, int], None]  # asked, failed, to ask
Who = tuple[str, str]  # a judge's name and revision


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """One vote as it was asked and answered. ``vote`` numbers the votes on one prompt from 0.

    ``output`` is the raw text; ``verdict`` what it was read as when it came (read again at every use, so that a
    better reader needs no new questions). An ``error`` has neither.
    """

    key: str
    judge: str
    revision: str
    task: JudgeTask
    vote: int
    prompt: str
    output: str | None = None
    verdict: Vote | None = None
    error: str | None = None
    seconds: float = 0.0


def task_of(item: Item) -> JudgeTask | None:
    """How an answer to this item is judged; None where the question is closed and the rules read it."""
    if item.choices or item.style == "direct":
        return None
    if item.question in LABELS:
        return item.question  # type: ignore[return-value]
    return "describe" if item.question == "modified" and truth_of(item) else None


def truth_of(item: Item) -> str:
    """What is seen and heard after the intervention, in plain words; or the question file's own description.

    Empty where that is not known, as for a file's description of a clip that was since muted or made black.
    """
    if own := item.tags.get("reference", "").strip():
        return own if item.condition in ("original", "sham") else ""
    if not item.seen and not item.heard:
        return ""
    seen, heard = (", ".join(plain(n) for n in names) for names in (item.seen, item.heard))
    return f"Seen: {seen or 'not known'}.\nHeard: {heard or 'nothing, there is no sound'}."


def _prompt(one: Judged, task: JudgeTask, vote: int) -> str:
    truth = truth_of(one.item) if task == "describe" else ""
    return judge_prompt(task, one.item.prompt, one.answer.text or "", truth=truth, turn=vote)


def _key(who: Who, vote: int, prompt: str) -> str:
    return digest("judgement", *who, vote, prompt)


def to_judge(judged: Iterable[Judged]) -> list[tuple[JudgeTask, Judged]]:
    """The answers that a judge reads, each with its task: free-form ones that did not fail."""
    tasks = ((task_of(j.item), j) for j in judged if j.score.label != ERROR and j.answer.text)
    return [(task, j) for task, j in tasks if task is not None]


def judge(
    judged: Iterable[Judged],
    model: Model,
    *,
    log: Path,
    votes: int = VOTES,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Ruling]:
    """Have a model judge all free-form answers; rulings by item id. Asks only votes that no log holds.

    Parameters
    ----------
    judged : items with answers; closed questions and failed answers are passed over. Their order changes nothing.
    log : the run's judgements.jsonl; every vote that these answers need ends up there, as it comes.
    votes : how often each answer is judged.
    cache : a second judgements.jsonl, shared between runs: read first, and given every new vote that did not fail.

    Raises
    ------
    ValueError
        Where the votes are not at least 1, nothing is free-form, or the judge answers for other items than asked;
        what a streaming judge raises (a spent budget, a refused key) comes through; the same call then goes on.
    RunError
        Where every request failed: that is a judge that cannot be reached, not one that is unsure.
    """
    if votes < 1:
        raise ValueError(f"judge: got {votes} votes, wants at least 1")
    mine = to_judge(judged)
    if not mine:
        raise ValueError(
            "judge: nothing to read: free-form are Thud's mute, swap and shift questions in neutral style, and "
            "AV-Confuse's descriptions (were only closed questions asked, or did every answer fail?)"
        )
    who = (model.name, model.revision)
    wanted = {_key(who, v, _prompt(j, task, v)): (task, j, v) for task, j in mine for v in range(votes)}
    known = {line.key for line in _read(log) if line.error is None}
    if cache is not None and cache.exists() and cache.resolve() != log.resolve():
        found = runs.read_lines(cache, Judgement, torn_tail=True)
        lent = {c.key: c for c in found if c.key in wanted and c.key not in known and c.error is None}
        _append(log, lent.values())
        known |= lent.keys()
    todo = {key: wanted[key] for key in sorted(wanted) if key not in known}
    failed = 0
    for done, line in enumerate(_asked(model, todo), 1):
        _append(log, [line])
        if cache is not None and line.error is None and cache.resolve() != log.resolve():
            _append(cache, [line])
        failed += line.error is not None
        if progress:
            progress(done, failed, len(todo))
    if todo and failed == len(todo) and not known & wanted.keys():
        raise runs.RunError(f"judge {model.name}: all {failed} requests failed; the last: {line.error}")
    return rulings(mine, log, who, votes)


def judges_in(log: Path) -> dict[Who, int]:
    """Judges (name, revision) whose votes a log holds, in order of their first vote, with votes per answer."""
    found: dict[Who, int] = {}
    for line in _read(log):
        who = (line.judge, line.revision)
        found[who] = max(found.get(who, 0), line.vote + 1)
    return found


def rulings(mine: Iterable[tuple[JudgeTask, Judged]], log: Path, who: Who, votes: int) -> dict[str, Ruling]:
    """What a judge's votes in a log say of these answers, by item id, asking nothing; unjudged are left out."""
    lines = {line.key: line for line in _read(log) if (line.judge, line.revision) == who}
    out = {}
    for task, one in mine:
        found = [lines.get(_key(who, v, _prompt(one, task, v))) for v in range(votes)]
        if any(found):
            cast = [None if line is None or line.output is None else read(task, line.output) for line in found]
            out[one.item.id] = decide(cast)
    return out


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the log without its prompt: the key stands for that, and prompts are the bulk of the file."""

    key: str
    judge: str
    revision: str
    vote: int
    output: str | None = None
    error: str | None = None


def _read(log: Path) -> list[_Kept]:
    """The log's lines, a repeated question (one that failed before) replaced by its latest answer."""
    lines = runs.read_lines(log, _Kept, torn_tail=True) if log.exists() else []
    return list({line.key: line for line in lines}.values())


_Todo = Mapping[str, tuple[JudgeTask, Judged, int]]


def _asked(model: Model, todo: _Todo) -> Iterator[Judgement]:
    """A line for every question, as the judge answers them."""
    waiting: dict[str, str] = {}

    def items() -> Iterator[Item]:
        for key, (task, one, vote) in todo.items():
            waiting[key] = _prompt(one, task, vote)
            yield Item(
                id=key, protocol="judge", condition="judge", question="judge", style="judge", clip="", source="",
                group=key, prompt=waiting[key], target=None, decode=DECODE,
            )  # fmt: skip

    def line(key: str, answer: Answer) -> Judgement:
        task, _, vote = todo[key]
        output = answer.text if answer.error is None and (answer.text or "").strip() else None
        return Judgement(
            key=key, judge=model.name, revision=model.revision, task=task, vote=vote, prompt=waiting.pop(key),
            output=output, verdict=None if output is None else read(task, output),
            error=None if output is not None else answer.error or "empty answer", seconds=answer.seconds,
        )  # fmt: skip

    for answer in _answers(model, items()):
        if answer.item not in waiting:
            raise ValueError(f"judge {model.name}: answered {answer.item}, which was not asked or is answered")
        yield line(answer.item, answer)
    for key in list(waiting):
        yield line(key, Answer(item=key, model=model.name, error="the judge's stream ended without an answer"))


def _answers(model: Model, items: Iterator[Item]) -> Iterator[Answer]:
    if "streams" in model.abilities:
        yield from model.stream((item, TEXT_ONLY) for item in items)  # type: ignore[attr-defined]
        return
    while batch := list(islice(items, CHUNK)):
        yield from _batch(model, batch)


def _batch(model: Model, items: Sequence[Item]) -> list[Answer]:
    """Answers of a model that may raise: halves are tried apart, so one bad prompt costs no other its vote."""
    start = time.perf_counter()
    try:
        return model.answer(items, [TEXT_ONLY] * len(items))
    except FAILURES as error:
        if len(items) == 1:
            why = f"{type(error).__name__}: {error}"
            return [Answer(item=items[0].id, model=model.name, error=why, seconds=time.perf_counter() - start)]
    half = len(items) // 2
    return [*_batch(model, items[:half]), *_batch(model, items[half:])]


def _append(path: Path, lines: Iterable[Judgement]) -> None:
    """Append whole lines; a torn line that a killed writer left is cut off first.

    A killed judge loses nothing that came. Lines are not forced to disk one by one, which would take longer than a
    local judge does: a power cut may cost the last seconds' votes, and they are asked again.
    """
    data = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    if not data:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as f:
        fcntl.flock(f, fcntl.LOCK_EX)  # two runs may share a cache
        end = f.seek(0, os.SEEK_END)
        f.seek(max(end - 1, 0))
        if end and f.read(1) != b"\n":
            f.seek(0)
            f.truncate(f.read().rfind(b"\n") + 1)
        f.write(data)
