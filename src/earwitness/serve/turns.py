"""Questions that come at the same time go to the model in one call, from one thread.

A model is not thread-safe, and is quickest when asked many things at once. Requests wait a few milliseconds for
company; while the model is busy, the next call's questions gather. Questions on the same media follow one another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import NamedTuple

from earwitness.models import Model
from earwitness.records import Answer, Item, Media

WAIT = 0.005  # seconds that a question waits for company
MOST = 64  # questions in one call
# What a model may raise. Anything else ends the thread, and every question with it: nobody waits for ever.
FAULTS = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, MemoryError, OSError,
    RuntimeError, TypeError, ValueError,
)  # fmt: skip


class _Question(NamedTuple):
    item: Item
    media: Media
    top: int
    answer: Future[Answer]


class Turns:
    """One model and the thread that asks it; started by the first question.

    Parameters
    ----------
    wait : seconds that a question waits for company.
    most : questions in one call.
    """

    def __init__(self, model: Model, *, wait: float = WAIT, most: int = MOST) -> None:
        self._model, self._wait, self._most = model, wait, most
        self._queue: SimpleQueue[_Question | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def alive(self) -> bool:
        """Whether questions are answered (or would be, with the first one)."""
        return not self._closed and (self._thread is None or self._thread.is_alive())

    def ask(self, item: Item, media: Media, *, top: int = 0) -> Future[Answer]:
        """The answer to come; it raises what the model raised on this item. RuntimeError once closed."""
        with self._lock:
            if not self.alive:
                raise RuntimeError("the model's thread has ended: start the server again")
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="earwitness-model", daemon=True)
                self._thread.start()
            question = _Question(item, media, top, Future())
            self._queue.put(question)
        return question.answer

    def close(self) -> None:
        """Let the thread end after the questions that were asked before."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        waiting: list[_Question] = []
        try:
            while True:
                waiting, last = self._gathered()
                self._ask([q for q in waiting if q.answer.set_running_or_notify_cancel()])
                if last:
                    return
        finally:
            with self._lock:
                self._closed = True
            while not self._queue.empty():
                left = self._queue.get()
                waiting += [] if left is None else [left]
            for question in waiting:
                if not question.answer.done():
                    question.answer.set_exception(RuntimeError("the model's thread ended before this was answered"))

    def _gathered(self) -> tuple[list[_Question], bool]:
        """The first question, those that come within the wait, and whether they are the last ones."""
        first = self._queue.get()
        if first is None:
            return [], True
        out, until = [first], time.monotonic() + self._wait
        while len(out) < self._most:
            try:
                question = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                break
            if question is None:
                return out, True
            out.append(question)
        return out, False

    def _ask(self, questions: Sequence[_Question]) -> None:
        if not questions:
            return
        order = {id(q.media): n for n, q in reversed(list(enumerate(questions)))}
        questions = sorted(questions, key=lambda q: order[id(q.media)])
        try:
            answers = self._answers(questions)
        except FAULTS as error:
            if len(questions) == 1:
                questions[0].answer.set_exception(error)
                return
            half = len(questions) // 2  # halves, not singles: one bad question among n costs about log2(n) calls
            self._ask(questions[:half])
            self._ask(questions[half:])
            return
        for question, answer in zip(questions, answers, strict=True):
            question.answer.set_result(answer)

    def _answers(self, questions: Sequence[_Question]) -> list[Answer]:
        items, media = [q.item for q in questions], [q.media for q in questions]
        if "spells" in self._model.abilities:
            answers = self._model.spell(items, media, top=max(q.top for q in questions))  # type: ignore[attr-defined]
        else:
            answers = self._model.answer(items, media)
        if [a.item for a in answers] != [i.id for i in items]:
            raise RuntimeError(f"the model returned answers for other items ({len(answers)} for {len(items)})")
        return list(answers)
