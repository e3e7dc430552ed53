"""The loop: items that have no answer yet, grouped by clip and media, to the model; answers to the log.

Functions: ``ask`` (one model, here); ``answered`` (what one worker does with its share); class ``Book`` (what is
answered, what is not, and the only pen). Several workers at once: :mod:`earwitness.audit.workers`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from types import TracebackType

import msgspec

from earwitness import run as runs
from earwitness.audit.bank import Bank
from earwitness.audit.shares import in_order
from earwitness.interventions import filled
from earwitness.models import Model
from earwitness.records import Answer, ClipSet, Item, Media

Progress = Callable[[int, int, int], None]  # answered, failed, total
BATCH_BYTES = 1 << 29  # of frames and waves given to the model in one call: 35 clips of 10 s at 504 x 504


def ask(
    model: Model,
    clips: ClipSet,
    items: Sequence[Item],
    folder: Path,
    *,
    progress: Progress | None = None,
    chunk: int = 256,
    retry_failed: bool = False,
) -> dict[str, float]:
    """Ask what has no answer yet, append answers to the run folder; returns decodes, seconds and counts.

    Parameters
    ----------
    chunk : items given to the model in one call, at most (items on the same media are kept together where they
        fit, and media of more than half a GiB are not put together). A kill loses at most the chunk in flight,
        which is asked again.
    retry_failed : ask items again whose answer is an error.

    Raises ValueError under ``torchrun`` (several processes would ask the same), RunError where another audit
    writes to the folder.
    """
    refuse_ranks()
    bank, start = Bank(clips, model.view), time.perf_counter()
    with Book(items, folder, progress=progress, retry_failed=retry_failed) as book:
        asked = len(book.todo)
        ordered = list(chain.from_iterable(in_order(book.todo)))
        way = _streamed if "streams" in model.abilities else _chunked
        for answers in way(model, _batches(ordered, bank, model.name, chunk)):
            book.enter(answers)
    return {
        "asked": asked, "failed": book.failed, "decodes": bank.decodes, "seconds": time.perf_counter() - start,
    }  # fmt: skip


def answered(model: Model, bank: Bank, items: Sequence[Item], chunk: int) -> Iterator[list[Answer]]:
    """Answers to items that are in order, a batch at a time: one per item, failures as errors."""
    return _chunked(model, _batches(items, bank, model.name, chunk))


def refuse_ranks() -> None:
    """Raise ValueError where ``torchrun`` started this process as one of several."""
    ranks = os.environ.get("WORLD_SIZE", "1")
    if "RANK" in os.environ and ranks.isdigit() and int(ranks) > 1:
        raise ValueError(
            f"this is process {os.environ['RANK']} of {ranks} that torchrun started, and each of them would ask "
            f"everything: start the audit once, without torchrun, with --workers {ranks} (one worker a GPU)"
        )


class Book:
    """The answers of a run: what is still ``todo``, how many are done and failed, and the only pen.

    A context manager that holds the folder's lock: what is answered cannot change between reading and writing.
    """

    def __init__(
        self, items: Sequence[Item], folder: Path, *, progress: Progress | None = None, retry_failed: bool = False
    ) -> None:
        self._log = runs.AnswerLog(folder)
        try:
            failures = runs.failures(folder)
        except ValueError:
            self._log.close()
            raise
        self.todo = [i for i in items if i.id not in failures or (retry_failed and failures[i.id])]
        self.done = len(items) - len(self.todo)
        self.failed = 0 if retry_failed else sum(failures.get(i.id, False) for i in items)
        self._total, self._progress = len(items), progress

    def enter(self, answers: Sequence[Answer]) -> None:
        """Write answers down and say how far it is."""
        self._log.append(answers)
        self.done += len(answers)
        self.failed += sum(a.error is not None for a in answers)
        if self._progress:
            self._progress(self.done, self.failed, self._total)

    def __enter__(self) -> Book:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._log.close()


Batch = tuple[list[Item], list[Media], list[Answer]]


def _batches(ordered: Sequence[Item], bank: Bank, model: str, size: int) -> Iterator[Batch]:
    """Items with media in batches, items on the same media together; items whose media fail come as errors."""
    batch: list[Item] = []
    media: list[Media] = []
    broken: list[Answer] = []
    arrays: dict[int, int] = {}  # id -> bytes: conditions share the arrays that they leave alone
    for (clip, _), group in groupby(ordered, key=lambda i: (i.clip, i.intervention.key)):
        same = list(group)
        if batch and (len(batch) + len(same) > size or sum(arrays.values()) > BATCH_BYTES):
            yield batch, media, broken
            batch, media, broken, arrays = [], [], [], {}
        try:
            one = bank.condition(clip, same[0].intervention)
        except Exception as error:  # a broken clip is data: named, counted, and the run goes on
            why = f"{type(error).__name__}: {error}"
            broken += [Answer(item=i.id, model=model, error=f"clip {clip}: {why}") for i in same]
            continue
        batch += [filled(item) for item in same]
        media += [one] * len(same)
        arrays |= {id(a): a.nbytes for a in (one.frames, one.wave) if a is not None}
    if batch or broken:
        yield batch, media, broken


def rendered(items: Sequence[Item], bank: Bank, model: str, chunk: int) -> list[Batch]:
    """The batches of a share, ready to be carried to where the model is."""
    return list(_batches(items, bank, model, chunk))


def answered_media(model: Model, batches: Iterable[Batch]) -> list[Answer]:
    """The answers to batches that were made elsewhere."""
    return list(chain.from_iterable(_chunked(model, batches)))


def _chunked(model: Model, batches: Iterable[Batch]) -> Iterator[list[Answer]]:
    for batch, media, broken in batches:
        yield [*broken, *_answer(model, batch, media)]


def _streamed(model: Model, batches: Iterable[Batch]) -> Iterator[list[Answer]]:
    """Answers one by one as they come from a model that takes questions as it has room (a served one)."""
    broken: list[Answer] = []
    asked: dict[str, Item] = {}

    def pairs() -> Iterator[tuple[Item, Media]]:
        for batch, media, failed in batches:
            broken.extend(failed)
            for item, m in zip(batch, media, strict=True):
                asked[item.id] = item
                yield item, m

    for answer in model.stream(pairs()):  # type: ignore[attr-defined]
        item = asked.pop(answer.item, None)
        if item is None:
            raise ValueError(f"the model streamed an answer to {answer.item}, which was not asked or is answered")
        ready = [*broken, *_checked([answer], [item])]
        del broken[: len(ready) - 1]  # the model may pull from pairs() in another thread and add to them now
        yield ready
    lost = [Answer(item=i, model=model.name, error="the model's stream ended without an answer") for i in asked]
    if broken or lost:
        yield [*broken, *lost]


def _answer(model: Model, items: list[Item], media: list[Media]) -> list[Answer]:
    if not items:
        return []
    start = time.perf_counter()
    try:
        answers = _checked(model.answer(items, media), items)
    except Exception as error:
        if len(items) == 1:
            why = f"{type(error).__name__}: {error}"
            return [Answer(item=items[0].id, model=model.name, error=why, seconds=time.perf_counter() - start)]
        half = len(items) // 2  # halves, not singles: one bad item among n costs about log2(n) calls more
        return [*_answer(model, items[:half], media[:half]), *_answer(model, items[half:], media[half:])]
    return answers


def _checked(answers: list[Answer], items: Sequence[Item]) -> list[Answer]:
    if [a.item for a in answers] != [i.id for i in items]:
        raise ValueError(f"the model returned answers for other items than asked ({len(answers)} for {len(items)})")
    return [
        msgspec.structs.replace(a, text=None, error="empty answer")
        if a.error is None and not (a.text or "").strip()
        else a
        for a in answers
    ]
