"""The loop: items that have no answer yet, grouped by clip and media, to the model; answers to the log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from earwitness import run as runs
from earwitness.audit.bank import Bank
from earwitness.models import Model
from earwitness.records import Answer, ClipSet, Item, Media

Progress = Callable[[int, int, int], None]  # answered, failed, total


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
    chunk : items given to the model in one call, at most (whole clips are kept together where they fit). A
        kill loses at most the chunk in flight, which is asked again.
    retry_failed : ask items again whose answer is an error.
    """
    answered = runs.read_answers(folder)
    failed = sum(a.error is not None for a in answered.values())
    todo = [i for i in items if i.id not in answered or (retry_failed and answered[i.id].error is not None)]
    done = len(items) - len(todo)
    if retry_failed:
        failed = 0
    bank, start = Bank(clips, model.view), time.perf_counter()
    way = _streamed if "streams" in model.abilities else _chunked
    with runs.AnswerLog(folder) as log:
        for answers in way(model, _chunks(todo, bank, model.name, chunk)):
            log.append(answers)
            done += len(answers)
            failed += sum(a.error is not None for a in answers)
            if progress:
                progress(done, failed, len(items))
    return {"asked": len(todo), "failed": failed, "decodes": bank.decodes, "seconds": time.perf_counter() - start}


def _chunks(
    todo: Sequence[Item], bank: Bank, model: str, size: int
) -> Iterator[tuple[list[Item], list[Media], list[Answer]]]:
    """Items with media in batches, grouped by clip, then intervention; items whose media fail come as errors."""
    order = {clip: n for n, clip in enumerate(dict.fromkeys(item.clip for item in todo))}
    todo = sorted(todo, key=lambda i: (order[i.clip], i.intervention.key))
    batch: list[Item] = []
    media: list[Media] = []
    broken: list[Answer] = []
    for (clip, _), group in groupby(todo, key=lambda i: (i.clip, i.intervention.key)):
        same = list(group)
        if batch and len(batch) + len(same) > size:
            yield batch, media, broken
            batch, media, broken = [], [], []
        try:
            one = bank.condition(clip, same[0].intervention)
        except Exception as error:  # a broken clip is data: named, counted, and the run goes on
            why = f"{type(error).__name__}: {error}"
            broken += [Answer(item=i.id, model=model, error=f"clip {clip}: {why}") for i in same]
            continue
        batch += same
        media += [one] * len(same)
    if batch or broken:
        yield batch, media, broken


_Chunk = tuple[list[Item], list[Media], list[Answer]]


def _chunked(model: Model, chunks: Iterable[_Chunk]) -> Iterator[list[Answer]]:
    for batch, media, broken in chunks:
        yield [*broken, *_answer(model, batch, media)]


def _streamed(model: Model, chunks: Iterable[_Chunk]) -> Iterator[list[Answer]]:
    """Answers one by one as they come from a model that takes questions as it has room (a served one)."""
    broken: list[Answer] = []
    asked: dict[str, Item] = {}

    def pairs() -> Iterator[tuple[Item, Media]]:
        for batch, media, failed in chunks:
            broken.extend(failed)
            for item, m in zip(batch, media, strict=True):
                asked[item.id] = item
                yield item, m

    for answer in model.stream(pairs()):  # type: ignore[attr-defined]
        item = asked.pop(answer.item, None)
        if item is None:
            raise ValueError(f"the model streamed an answer to {answer.item}, which was not asked or is answered")
        yield [*broken, *_checked([answer], [item])]
        broken.clear()
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
