"""Several workers, one audit: a process a GPU (or so many on CPUs), one command, one answers.jsonl.

``ask_many`` does what ``ask`` does with N models at once. Every worker is a process of its own that loads the
model, decodes the clips it was given, makes their conditions and answers; this process hands out clips, takes
answers and is the only one that writes. Where there are GPUs, worker i sees GPU i only (``CUDA_VISIBLE_DEVICES``;
unless a device was named), so any model's "first GPU" is its own; on CPUs each gets its share of the cores.

A worker that dies costs time: its unfinished clips go back to the queue, another worker starts. An item that kills
whoever asks it becomes a failed answer (see :mod:`earwitness.audit.shares`). Ctrl-C ends the workers; what they had
answered is written down.

``executor="ray"`` does the same over the machines of a Ray cluster: :mod:`earwitness.audit.ray_cluster`.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal

from earwitness.audit.asking import Book, Progress, answered, refuse_ranks
from earwitness.audit.bank import Bank
from earwitness.audit.shares import ENOUGH, Share, Work
from earwitness.models import Model
from earwitness.models.load import load_model
from earwitness.records import Answer, ClipSet, Item

STARTS = 3  # failed starts in a row after which no more are tried
CARRIED = 8  # clips a share at most where their media travel: about 0.4 GB of 10 s clips at 504 x 504
Executor = Literal["process", "ray"]


class WorkerError(ValueError):
    """No worker could be started, or all that start die without answering anything."""


@dataclass(frozen=True)
class Recipe:
    """What a worker needs to make its model: name and options of ``load_model``, and the revision it must have."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None

    def load(self) -> Model:
        """The model. Raises ValueError where it is another than planned for, or needs no workers."""
        model = load_model(self.name, **self.options)
        if self.revision is not None and model.revision != self.revision:
            raise ValueError(
                f"{self.name} is revision {model.revision} here, and {self.revision} in the plan (another "
                f"checkpoint of that name on this machine?)"
            )
        if "streams" in model.abilities:
            raise ValueError(
                f"{self.name} is served: one process keeps as many questions under way as the server takes. Leave "
                f"--workers out"
            )
        return model


def ask_many(
    recipe: Recipe,
    clips: ClipSet,
    items: Sequence[Item],
    folder: Path,
    *,
    workers: int,
    executor: Executor = "process",
    progress: Progress | None = None,
    chunk: int = 256,
    retry_failed: bool = False,
) -> dict[str, float]:
    """Ask what has no answer yet with several workers, append answers to the run folder; returns counts.

    Parameters
    ----------
    clips : goes to the workers by pickle; its files must lie where they can open them, under the same path.
    workers : processes (or Ray actors) with a model each. More than there are GPUs share them in turn.
    chunk, retry_failed, progress : as in :func:`earwitness.audit.ask`.

    The counts are ``ask``'s, and ``workers``, ``deaths`` (workers that died on the way) and what the models count
    themselves (``Model.counts``), added up.

    Raises
    ------
    WorkerError
        Where no worker can start (the message is the worker's own error), or they only die.
    ValueError
        For clips that cannot be pickled, fewer than one worker, a served model, or under ``torchrun``.
    """
    refuse_ranks()
    if workers < 1:
        raise ValueError(f"--workers {workers}: an audit needs at least one")
    try:
        packed = pickle.dumps((recipe, clips, chunk))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(
            f"these clips ({type(clips).__name__}) cannot be sent to workers: {error} (an open file or a lambda in "
            f"the clip set?)"
        ) from None
    start = time.perf_counter()
    with Book(items, folder, progress=progress, retry_failed=retry_failed) as book:
        asked = len(book.todo)
        workers = max(1, min(workers, len({item.clip for item in book.todo})))
        work = Work(book.todo, askers=workers, size=chunk, clips=CARRIED if executor == "ray" else None)
        if not asked:
            counts: dict[str, float] = {}
        elif executor == "ray":
            from earwitness.audit.ray_cluster import ask_cluster

            counts = ask_cluster(recipe, clips, work, book, workers=workers, chunk=chunk)
        else:
            with _Crew(packed, recipe, workers) as crew:
                counts = _drive(crew, work, book, workers)
    return {
        **counts, "asked": asked, "failed": book.failed, "seconds": time.perf_counter() - start, "workers": workers,
    }  # fmt: skip


def given_up(items: Sequence[Item], model: str, why: str) -> list[Answer]:
    """Failed answers of items that killed their worker whenever they, or others of their clip, were asked alone."""
    text = f"the worker died, {ENOUGH} times on each question of this clip that was asked alone: {why}"
    return [Answer(item=item.id, model=model, error=text) for item in items]


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    share: Share | None = None
    counts: dict[str, float] = field(default_factory=dict)


class _Crew:
    """The worker processes; leaving the context ends them all."""

    def __init__(self, packed: bytes, recipe: Recipe, size: int) -> None:
        self.model, self._packed, self._size = recipe.name, packed, size
        self.alive: dict[Connection, _Worker] = {}
        self.counts: list[dict[str, float]] = []
        self._gpus = [] if recipe.options.get("device") else _gpus()
        self._free = list(range(size))[::-1]  # numbers of workers, each with its GPU
        self._number: dict[Connection, int] = {}

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.alive.values():
            worker.pipe.close()  # an idle one reads the end and leaves in order, with what its model has started
            if worker.share is not None or not worker.ready:
                worker.process.terminate()
        for worker in self.alive.values():
            worker.process.join(10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def start(self) -> None:
        """Start one worker more."""
        context = multiprocessing.get_context("spawn")  # fork after CUDA or threads is undefined
        ours, theirs = context.Pipe()
        number = self._free.pop()
        gpu = self._gpus[number % len(self._gpus)] if self._gpus else None
        threads = max(1, (os.cpu_count() or 1) // self._size)
        process = context.Process(target=_work, args=(theirs, gpu, threads), name=f"earwitness-{number}")
        with no_ctrl_c():
            process.start()
        theirs.close()  # so that its death is the end of the pipe
        self.alive[ours] = _Worker(process, ours)
        self._number[ours] = number
        with suppress(OSError):  # dead already: the loop finds its pipe at an end
            ours.send_bytes(self._packed)

    def bury(self, worker: _Worker) -> str:
        """Forget a dead worker; returns what it died of."""
        worker.process.join(5)
        if worker.process.exitcode is None:  # closed its pipe and hangs
            worker.process.kill()
            worker.process.join()
        code = worker.process.exitcode or 0
        del self.alive[worker.pipe]
        self._free.append(self._number.pop(worker.pipe))
        self.counts.append(worker.counts)
        worker.pipe.close()
        if code == -signal.SIGKILL:
            return "killed by SIGKILL (out of memory? fewer --workers, or a smaller --set batch)"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _drive(crew: _Crew, work: Work, book: Book, size: int) -> dict[str, float]:
    """Hand out shares and write down answers until none is left."""
    deaths = barren = failed_starts = 0  # barren: deaths in a row without an answer in between
    ever = False

    def settle(share: Share, answers: list[Answer]) -> None:
        nonlocal barren
        share.settle(answers)
        book.enter(answers)
        barren = 0

    try:
        while work or any(w.share is not None for w in crew.alive.values()):
            while work and len(crew.alive) < size:
                crew.start()
            for worker in [w for w in crew.alive.values() if w.ready and w.share is None]:
                worker.share = work.take()
                if worker.share is not None:
                    _send(worker, list(worker.share.left.values()))
            for pipe in wait(list(crew.alive)):
                worker = crew.alive[pipe]  # type: ignore[index]
                message = _receive(worker)
                if isinstance(message, list) and worker.share is not None:
                    settle(worker.share, message)
                elif isinstance(message, dict):
                    worker.counts, worker.share = message, None
                elif message == "ready":
                    worker.ready = ever = True
                    failed_starts = 0
                else:  # dead; a text is what it died of
                    why = crew.bury(worker)
                    if not worker.ready:
                        failed_starts += 1
                        if (isinstance(message, str) and not ever) or failed_starts >= STARTS:
                            raise WorkerError(
                                f"a worker could not start: {message or why}. What was answered is kept; the same "
                                f"command goes on"
                            )
                        continue
                    deaths, barren = deaths + 1, barren + 1
                    lost = work.died(worker.share) if worker.share is not None else []
                    if lost:
                        settle(Share(lost), given_up(lost, crew.model, message or why))
                    if barren > 5 * (size + 1):
                        raise WorkerError(
                            f"{barren} workers died one after the other without one answer: {message or why}"
                        )
    except KeyboardInterrupt:
        for worker in crew.alive.values():  # what they have sent already is answered
            while worker.share is not None and worker.pipe.poll():
                message = _receive(worker)
                if not isinstance(message, list):
                    break
                settle(worker.share, message)
        raise
    totals: dict[str, float] = {"deaths": deaths}
    for counts in (*crew.counts, *(w.counts for w in crew.alive.values())):
        for name, value in counts.items():
            totals[name] = totals.get(name, 0) + value
    return totals


def _send(worker: _Worker, items: list[Item]) -> None:
    with suppress(OSError):  # dead: its pipe is at an end, and the loop takes the share back
        worker.pipe.send(items)


def _receive(worker: _Worker) -> Any:
    """The next message; None where the worker is dead."""
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        return None


def _work(pipe: Connection, gpu: str | None, threads: int) -> None:
    """A worker's life: load the model, answer shares until the pipe ends."""
    limit_threads(threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        recipe, clips, chunk = pickle.loads(pipe.recv_bytes())
        model: Model = recipe.load()
    except EOFError:
        return  # the parent is gone
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    limit_threads(threads)
    bank = Bank(clips, model.view)
    pipe.send("ready")
    try:
        while True:
            for answers in answered(model, bank, pipe.recv(), chunk):
                pipe.send(answers)
            pipe.send({**getattr(model, "counts", {}), "decodes": bank.decodes})
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone, or needs no more


def limit_threads(threads: int) -> None:
    """So many threads for torch, whether it is loaded yet or not: N workers with all cores each get in each
    other's way. ``OMP_NUM_THREADS`` wins where it is set.
    """
    told = os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if "torch" in sys.modules and told.isdigit():
        sys.modules["torch"].set_num_threads(int(told))


@contextmanager
def no_ctrl_c() -> Iterator[None]:
    """Processes started within do not hear Ctrl-C: this one does, and ends them in order."""
    resource_tracker.ensure_running()  # started later, within, it would let Ctrl-C through again
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _gpus() -> list[str]:
    """Names of this machine's GPUs as ``CUDA_VISIBLE_DEVICES`` has them; none without a driver."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name for name in told.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split() if done.returncode == 0 else []


__all__ = ["Executor", "Recipe", "WorkerError", "ask_many", "given_up"]
