"""The same audit over the machines of a Ray cluster: CPUs decode and make conditions, actors hold models.

What flows: a share of clips -> a task on any CPU decodes it and makes its conditions -> its media wait in the
object store -> an actor (one a GPU; on a cluster without GPUs, on CPUs) answers -> this process writes
answers.jsonl.

Back-pressure: an actor has two shares at most under way, the one it answers and the one that is decoded for it
meanwhile, and a share is eight clips at most; so the object store holds ``2 * workers`` shares, however many clips
there are. Whatever dies, an actor, a decoding task, a whole machine, its shares are asked again elsewhere
(:mod:`earwitness.audit.shares` says how often).

``RAY_ADDRESS`` names the cluster; without it Ray is started on this machine for the time of the audit. Every
machine needs this package, and the clips and checkpoints under the same paths. Procedural clips are made where they
are needed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from earwitness.audit.asking import Batch, Book, answered_media, rendered
from earwitness.audit.bank import Bank
from earwitness.audit.shares import Share, Work
from earwitness.audit.workers import STARTS, Recipe, WorkerError, given_up, limit_threads
from earwitness.records import Answer, ClipSet, Item, View

UNDER_WAY = 2  # shares an actor has: one it answers, one that is decoded meanwhile
DECODE_RETRIES = 2  # Ray's own, of a decoding task whose process or machine died
PATIENCE = 900.0  # seconds without any sign of life after which the cluster is taken for too small, or gone


def ask_cluster(
    recipe: Recipe, clips: ClipSet, work: Work, book: Book, *, workers: int, chunk: int
) -> dict[str, float]:
    """Ask all of ``work`` with ``workers`` actors and enter the answers; returns what the models counted.

    Raises WorkerError where Ray is not installed or not reached, or the cluster has too few GPUs for the actors.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise WorkerError("--executor ray needs ray: pip install 'earwitness[scale]'") from error
    mine = not ray.is_initialized()
    if mine:
        _connect(ray)
    try:
        return _Cluster(ray, recipe, clips, workers, chunk).drive(work, book)
    finally:
        if mine:
            ray.shutdown()


def _connect(ray: Any) -> None:
    address = os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # an audit tells nobody that it runs
    try:
        ray.init(
            address=address, log_to_driver=False, logging_level="ERROR",
            **({} if address else {"include_dashboard": False}),
        )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise WorkerError(
            f"no Ray cluster at RAY_ADDRESS={address or '(unset: started here)'}: {error} (is `ray start --head` "
            f"running there, and is its version {ray.__version__}?)"
        ) from error


class Answerer:
    """An actor: a model and its thread limit. A model that cannot be loaded is told, not raised."""

    def __init__(self, recipe: Recipe, place: str, threads: int) -> None:
        self.problem = ""
        _go_to(place)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # Ray says 1 to whoever claims no CPU
        try:
            self.model = recipe.load()
            limit_threads(threads)
        except Exception as error:
            self.problem = f"{type(error).__name__}: {error}"

    def ready(self) -> tuple[str, View | None]:
        """What is wrong ("" = nothing), and how the model wants its clips."""
        return self.problem, None if self.problem else self.model.view

    def answer(self, made: tuple[list[Batch], int]) -> tuple[list[Answer], dict[str, float]]:
        """Answers to a decoded share; what the model counted so far, and the decodes of this share."""
        batches, decodes = made
        counted = {**getattr(self.model, "counts", {}), "decodes": float(decodes)}
        return answered_media(self.model, batches), counted


def render(
    clips: ClipSet, view: View, items: list[Item], model: str, chunk: int, place: str
) -> tuple[list[Batch], int]:
    """A task: a share's media in batches, and how many clips were decoded for it."""
    _go_to(place)
    bank = Bank(clips, view)
    return rendered(items, bank, model, chunk), bank.decodes


def _go_to(place: str) -> None:
    """Relative paths of clips and checkpoints mean the same as where the audit was started."""
    with suppress(OSError):
        os.chdir(place)


def _death(error: Exception) -> Exception:
    """What died. Raises the error where nothing did: an exception of ours that came through Ray."""
    cause = getattr(error, "cause", None) or error  # a decoding's death reaches us through the actor's task
    if not type(cause).__module__.startswith("ray.") or type(cause).__name__.startswith("RayTaskError"):
        raise error
    return cause if isinstance(cause, Exception) else error


@dataclass
class _Actor:
    handle: Any
    hello: Any
    view: View | None = None
    shares: dict[Any, Share] = field(default_factory=dict)  # answer ref -> share, in the order asked
    counts: dict[str, float] = field(default_factory=dict)


class _Cluster:
    """The actors of one audit and what is under way."""

    def __init__(self, ray: Any, recipe: Recipe, clips: ClipSet, size: int, chunk: int) -> None:
        self.ray, self.recipe, self.size, self.chunk = ray, recipe, size, chunk
        have = ray.cluster_resources()
        gpus, cpus = int(have.get("GPU", 0)), int(have.get("CPU", 1))
        if gpus and size > gpus:
            raise WorkerError(f"the cluster has {gpus} GPUs: {size} workers with one each would wait for ever")
        # Actors claim no CPU: on a cluster that shrinks they would take the last one, and nobody could decode.
        self._answerer = ray.remote(num_cpus=0, num_gpus=1 if gpus else 0, scheduling_strategy="SPREAD")(Answerer)
        self._render = ray.remote(num_cpus=1, max_retries=DECODE_RETRIES)(render)
        self._clips = ray.put(clips)
        self._threads = max(1, cpus // size)
        self.actors: list[_Actor] = []
        self.totals: dict[str, float] = {"deaths": 0.0, "decodes": 0.0}

    def drive(self, work: Work, book: Book) -> dict[str, float]:
        """Hand out shares and write down answers until none is left."""
        try:
            self._drive(work, book)
        except KeyboardInterrupt:
            refs = [ref for actor in self.actors for ref in actor.shares]
            for ref in self.ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else []:
                with suppress(self.ray.exceptions.RayError):  # what died unfinished is asked the next time
                    book.enter(self.ray.get(ref)[0])
            raise
        finally:
            for actor in self.actors:
                self.ray.kill(actor.handle)
        for actor in self.actors:
            self._add(actor.counts)
        return self.totals

    def _drive(self, work: Work, book: Book) -> None:
        failed_starts = barren = 0
        ever = False
        while work or any(a.shares for a in self.actors):
            while work and len(self.actors) < self.size:
                self._start()
            for actor in self.actors:
                while actor.view is not None and len(actor.shares) < UNDER_WAY and (share := work.take()):
                    self._ask(actor, share)
            by_ref = {a.hello: a for a in self.actors if a.view is None}
            by_ref |= {ref: a for a in self.actors for ref in a.shares}
            for ref in self._wait(list(by_ref)):
                actor = by_ref[ref]
                if actor not in self.actors or (ref != actor.hello and ref not in actor.shares):
                    continue  # buried in this round
                try:
                    came = self.ray.get(ref)
                except self.ray.exceptions.RayError as caught:
                    error = _death(caught)
                    why = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                    if ref == actor.hello:
                        failed_starts += 1
                        if failed_starts >= STARTS:
                            raise WorkerError(f"a worker could not start: {why}") from error
                        self._bury(actor, work)
                        continue
                    barren += 1
                    culprit = self._blame(actor, ref, error, work)
                    lost = work.died(culprit)
                    if lost:
                        book.enter(given_up(lost, self.recipe.name, why))
                        barren = 0
                    if barren > 5 * (self.size + 1):
                        raise WorkerError(
                            f"{barren} workers died one after the other without one answer: {why}"
                        ) from error
                    continue
                if ref == actor.hello:
                    problem, actor.view = came
                    if problem:
                        failed_starts += 1
                        if not ever or failed_starts >= STARTS:
                            raise WorkerError(f"a worker could not start: {problem}")
                        self._bury(actor, work)
                    else:
                        ever, failed_starts = True, 0
                    continue
                answers, counted = came
                actor.shares.pop(ref).settle(answers)
                book.enter(answers)
                self.totals["decodes"] += counted.pop("decodes")
                actor.counts, barren = counted, 0

    def _start(self) -> None:
        handle = self._answerer.remote(self.recipe, os.getcwd(), self._threads)
        self.actors.append(_Actor(handle, handle.ready.remote()))

    def _ask(self, actor: _Actor, share: Share) -> None:
        items = list(share.left.values())
        made = self._render.remote(self._clips, actor.view, items, self.recipe.name, self.chunk, os.getcwd())
        actor.shares[actor.handle.answer.remote(made)] = share

    def _wait(self, refs: list[Any]) -> list[Any]:
        done = self.ray.wait(refs, num_returns=1, timeout=PATIENCE)[0]
        if not done:
            raise WorkerError(
                f"nothing came from the cluster for {PATIENCE / 60:.0f} minutes; it has "
                f"{self.ray.cluster_resources()} (machines gone?)"
            )
        return list(done)

    def _blame(self, actor: _Actor, ref: Any, error: Exception, work: Work) -> Share:
        """The share that its death is put down to; a dead actor's other shares go back as they were."""
        self.totals["deaths"] += 1
        if not isinstance(error, self.ray.exceptions.RayActorError):
            return actor.shares.pop(ref)  # the decoding died; the actor lives
        first = next(iter(actor.shares))  # an actor answers in the order asked
        culprit = actor.shares.pop(first)
        self._bury(actor, work)
        return culprit

    def _bury(self, actor: _Actor, work: Work) -> None:
        for share in actor.shares.values():
            work.give_back(share)
        actor.shares.clear()
        self._add(actor.counts)
        self.actors.remove(actor)
        self.ray.kill(actor.handle)

    def _add(self, counts: dict[str, float]) -> None:
        for name, value in counts.items():
            self.totals[name] = self.totals.get(name, 0) + value
