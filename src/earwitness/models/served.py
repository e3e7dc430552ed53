"""Asking a model that answers over the network: many requests at once, none lost, none paid for twice.

Library-neutral: an adapter writes one function ``ask_one(item, media) -> Reply`` that makes the request, reads the
reply and raises one of three faults; :func:`stream` does the rest.

==============  =================================================================================================
Transient       worth another try (429, 5xx, cut connection, timeout, an empty reply); becomes ``Answer.error`` when
                the tries are used up
ItemFault       this item cannot be answered, others can (a 400 about its media, a content filter): ``Answer.error``
Fatal           no item can be answered (wrong key, unknown model): ends the run with one clear ValueError
==============  =================================================================================================

A reason starts with the fault's short name, then a colon and the details: ``"HTTP 429: slow down"``; faults are
counted by that name in ``Line.counts``. ValueError and OSError out of ``ask_one`` are that item's error.

Concurrency adapts to the server by additive increase and multiplicative decrease (Chiu and Jain 1989), as TCP does.
Media are pulled from the iterator only when a request for them can start: memory holds what runs, not the plan.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from operator import length_hint
from queue import Empty, SimpleQueue
from typing import NamedTuple

from earwitness.models.budget import NOTHING, Budget, BudgetSpent, Usage
from earwitness.records import Answer, Fed, Item, Media

LONGEST_BACKOFF = 60.0  # seconds between two tries where the server does not say how long to wait
LONGEST_WAIT = 900.0  # seconds; a server that asks for more means a quota of the day, not a crowd
START = 4  # requests at once to begin with
GONE = 20  # items in a row that no try could answer: the server is gone, and asking the rest would only lose them


class Transient(Exception):
    """A fault worth another try.

    Parameters
    ----------
    reason : the fault's short name, a colon, the details.
    retry_after : seconds that the server asks everybody to wait, see :func:`retry_after`.
    crowded : whether it says that the server has too much to do (429, 503, timeout): fewer requests run then.
    tries : tries in all for this fault, where fewer than the line's make sense.
    usage : tokens billed all the same.
    """

    def __init__(
        self,
        reason: str,
        retry_after: float | None = None,
        *,
        crowded: bool = False,
        tries: int | None = None,
        usage: Usage = NOTHING,
    ) -> None:
        super().__init__(reason)
        self.retry_after, self.crowded, self.tries, self.usage = retry_after, crowded, tries, usage


class ItemFault(Exception):
    """This item cannot be answered, however often it is asked; ``usage`` is what was billed all the same."""

    def __init__(self, reason: str, *, usage: Usage = NOTHING) -> None:
        super().__init__(reason)
        self.usage = usage


class Fatal(ValueError):
    """No item can be answered: the run ends with this message."""


class Reply(NamedTuple):
    """What ``ask_one`` returns: the answer's text and what came with it (see records.Answer)."""

    text: str
    logprobs: dict[str, float] | None = None
    logprob: float | None = None
    fed: Fed | None = None
    usage: Usage = NOTHING


@dataclass
class Line:
    """The line to one server: its limits and what was learned of it. Lives as long as the model, over many streams.

    Parameters
    ----------
    model : the name that answers carry.
    concurrency : requests at once, at most; how many really run is found by trying.
    timeout : seconds one try of an item may take in all; later, it counts as a timeout and is tried again.
    retries : further tries of an item after its first.
    backoff : seconds before the second try; doubled for each further one, with jitter.
    """

    model: str
    concurrency: int = 16
    timeout: float = 300.0
    retries: int = 5
    backoff: float = 1.0
    budget: Budget = field(default_factory=Budget)
    counts: dict[str, float] = field(default_factory=dict)
    limit: float = field(init=False)  # requests at once, as the server is known now
    closed_until: float = field(init=False, default=0.0)  # monotonic time before which nothing new starts
    lost: int = field(init=False, default=0)  # items given up since the last answer
    _cut: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"concurrency must be at least 1 request, got {self.concurrency}")
        if not self.timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, got {self.timeout}")
        if self.retries < 0:
            raise ValueError(f"retries must be at least 0, got {self.retries}")
        self.limit = float(min(START, self.concurrency))

    def tally(self, name: str, by: float = 1) -> None:
        """Add to a count of the run's record."""
        self.counts[name] = self.counts.get(name, 0) + by

    def answered(self) -> None:
        """One more request at once for each round of answers."""
        self.lost = 0
        self.limit = min(float(self.concurrency), self.limit + 1 / self.limit)

    def crowded(self, started: float) -> None:
        """Half as many, once for all requests that were under way when the crowd was first seen."""
        if started >= self._cut:
            self.limit, self._cut = max(1.0, self.limit / 2), time.monotonic()
            self.tally("slowdowns")


@dataclass(eq=False)
class _Job:
    item: Item
    media: Media
    tries: int = 0
    started: float = 0.0
    reserved: Usage = NOTHING


AskOne = Callable[[Item, Media], Reply]
_Done = tuple[_Job, int, Reply | BaseException]


def stream(pairs: Iterable[tuple[Item, Media]], ask_one: AskOne, line: Line) -> Iterator[Answer]:
    """Answers as they come, in any order, one for each (item, media): text, or an error that names the fault.

    Parameters
    ----------
    pairs : pulled from only when a request can start. Where it has a length, a spent budget says what is left.
    ask_one : one try, called in a thread of its own (several at once): must be thread-safe.

    Raises
    ------
    Fatal
        Where no item can be answered; what was under way is given out first. Items given up since the last answer
        are not: they are open as if they had not been asked.
    BudgetSpent
        Where the next request could pass the budget; likewise.
    """
    source, left = iter(pairs), length_hint(pairs, -1)
    running: dict[_Job, int] = {}
    waiting: list[tuple[float, int, _Job]] = []  # by the time of the next try
    done: SimpleQueue[_Done] = SimpleQueue()
    ended: ValueError | None = None
    ahead: tuple[Item, Media] | None = None
    order = itertools.count()  # of retries due at the same moment
    dry, given = False, 0
    unsure: list[Answer] = []  # given up since the last answer: perhaps it is the server that is gone
    while True:
        now = time.monotonic()
        while ended is None and now >= line.closed_until:
            held, retry = len(running), bool(waiting) and waiting[0][0] <= now
            if held >= int(line.limit) or (not retry and (dry or held + len(waiting) >= int(line.limit))):
                break
            if not retry and ahead is None:
                ahead = next(source, None)
                if ahead is None:
                    dry = True
                    continue
            item = waiting[0][2].item if retry else ahead[0]  # type: ignore[index]
            if not line.budget.allows(item, [job.reserved for job in running]):
                ended = None if held else _spent(line.budget, given, left)
                break
            if retry:
                job = heapq.heappop(waiting)[2]
            else:
                assert ahead is not None
                job, ahead = _Job(*ahead), None
            job.reserved = line.budget.reserve(job.item)
            _start(job, ask_one, done)
            running[job] = job.tries
            line.tally("requests")
            now = time.monotonic()
        if not running and (ended is not None or (dry and not waiting)):
            break
        for job, number, outcome in _arrived(done, running, waiting, line, ended is not None):
            late = running.get(job) != number
            if not late:
                del running[job]
            settled = _settle(job, outcome, line, late=late)
            if isinstance(settled, Answer):
                given += 1
                unsure.append(settled)
                if not line.lost:
                    yield from unsure
                    unsure.clear()
            elif isinstance(settled, ValueError):
                ended = ended or settled
            elif settled is not None:
                heapq.heappush(waiting, (time.monotonic() + settled, next(order), job))
    if isinstance(ended, Fatal):  # items that a dying server did not answer stay open: the same command asks them
        raise ended
    yield from unsure
    if ended is not None:
        raise ended


def ask_all(items: Sequence[Item], media: Sequence[Media], ask_one: AskOne, line: Line) -> list[Answer]:
    """``Model.answer`` by means of :func:`stream`: one answer an item, in order. Raises as it does."""
    if len(items) != len(media):
        raise ValueError(f"{len(items)} items for {len(media)} media")
    found = {a.item: a for a in stream(list(zip(items, media, strict=True)), ask_one, line)}
    return [found[item.id] for item in items]


def retry_after(value: str | None) -> float | None:
    """Seconds to wait by a Retry-After header: a number of seconds or an HTTP date; None where there is none."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            when = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _start(job: _Job, ask_one: AskOne, done: SimpleQueue[_Done]) -> None:
    job.tries, job.started = job.tries + 1, time.monotonic()
    number = job.tries

    def work() -> None:
        outcome: Reply | BaseException
        try:
            outcome = ask_one(job.item, job.media)
        except BaseException as error:  # whatever it is, it is judged (and a bug raised) in the caller's thread
            outcome = error
        done.put((job, number, outcome))

    # Daemons: Ctrl-C must not wait for a server.
    threading.Thread(target=work, daemon=True, name=f"ask {job.item.id}").start()


def _arrived(
    done: SimpleQueue[_Done],
    running: dict[_Job, int],
    waiting: list[tuple[float, int, _Job]],
    line: Line,
    ending: bool,
) -> Iterator[_Done]:
    """What has come in; waits until something has, a try may start, or a request has run out of time."""
    now = time.monotonic()
    wakes = [job.started + line.timeout for job in running]
    if not ending:
        due = [max(at, line.closed_until) for at, _, _ in waiting[:1]]
        wakes += [at for at in due if at > now or not running]  # one due already waits for room, not for time
        if line.closed_until > now:
            wakes.append(line.closed_until)
    try:
        yield done.get(timeout=max(0.0, min(wakes, default=now) - now) + 0.001)
        while True:
            yield done.get_nowait()
    except Empty:
        pass
    now = time.monotonic()
    for job, number in list(running.items()):
        if now - job.started >= line.timeout:
            yield job, number, Transient(f"timeout: no answer within {line.timeout:g} s", crowded=True)


def _settle(
    job: _Job, outcome: Reply | BaseException, line: Line, *, late: bool
) -> Answer | float | ValueError | None:
    """What becomes of a try: an answer, seconds to wait before the next try, or what ends the run."""
    seconds = time.monotonic() - job.started
    usage = getattr(outcome, "usage", NOTHING)
    line.budget.count(usage)
    line.tally("prompt_tokens", usage.prompt)
    line.tally("completion_tokens", usage.completion)
    if line.budget.price_in is not None:
        line.tally("cost_usd", line.budget.price(usage))
    if late:  # it was given up before, and asked again: only its bill counts
        line.tally("late replies")
        return None
    if isinstance(outcome, Reply) and not outcome.text.strip():
        outcome = Transient("empty reply: no text", tries=2)
    if isinstance(outcome, Reply):
        if usage == NOTHING and line.budget.limited:
            return Fatal(
                f"{line.model} does not report its token usage, so a budget cannot be kept: leave the limit out"
            )
        line.answered()
        text, logprobs, logprob, fed, _ = outcome
        return Answer(
            item=job.item.id, model=line.model, text=text, logprobs=logprobs, logprob=logprob, fed=fed,
            seconds=seconds,
        )  # fmt: skip
    if isinstance(outcome, Transient):
        return _again(job, outcome, line, seconds)
    if isinstance(outcome, Fatal):
        return outcome
    if isinstance(outcome, ItemFault | ValueError | OSError):
        why = str(outcome) if isinstance(outcome, ItemFault) else f"{type(outcome).__name__}: {outcome}"
        line.tally(f"fault: {why.partition(':')[0]}")
        return Answer(item=job.item.id, model=line.model, error=why, seconds=seconds)
    raise outcome


def _again(job: _Job, fault: Transient, line: Line, seconds: float) -> Answer | float | ValueError:
    reason = str(fault)
    line.tally(f"fault: {reason.partition(':')[0]}")
    if fault.crowded:
        line.crowded(job.started)
    asked = fault.retry_after
    if asked is not None and asked > LONGEST_WAIT:
        return Fatal(
            f"{line.model}: {reason}; it asks to wait {asked / 3600:.1f} hours (a quota used up?). Answers so far "
            "are kept: the same command goes on later"
        )
    if job.tries > min(line.retries, (fault.tries or line.retries + 1) - 1):
        why = reason + (f" (gave up after {job.tries} tries)" if job.tries > 1 else "")
        line.lost += 1
        if line.lost > max(GONE, line.concurrency):
            return Fatal(
                f"{line.model} has answered none of the last {line.lost} items, the last one for: {why}. Answers "
                "so far are kept, and these items stay open: the same command goes on when the server is back"
            )
        return Answer(item=job.item.id, model=line.model, error=why, seconds=seconds)
    line.tally("retries")
    wait = min(LONGEST_BACKOFF, line.backoff * 2.0 ** (job.tries - 1)) * random.uniform(0.5, 1.0)
    if asked is not None:  # never earlier than asked, and not all at the same moment
        line.closed_until = max(line.closed_until, time.monotonic() + asked)
        wait = asked + wait * 0.25
    return wait


def _spent(budget: Budget, given: int, left: int) -> BudgetSpent:
    rest = f", {left - given} are left" if left >= given and left > 0 else ""
    how = "--max-cost" if budget.max_cost is not None else "--set max_tokens"
    return BudgetSpent(
        f"the budget is spent: {budget.spent()}. {given} items were settled by this call{rest}; what was answered "
        f"is kept, and the same command with a higher {how} goes on from here"
    )
