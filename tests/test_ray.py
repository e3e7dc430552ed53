"""The same audit over a Ray cluster of two nodes: actors, decoding tasks and a node die, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from earwitness import audit, foley
from earwitness import run as runs
from earwitness.audit import ray_cluster
from earwitness.audit.workers import Recipe, WorkerError, ask_many
from test_workers import ZOO, items_of, outcome

ray = pytest.importorskip("ray")
# A dead node is missed after a second, not after half a minute.
IMPATIENT = {
    "health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_timeout_ms": 300,
    "health_check_failure_threshold": 3,
}  # fmt: skip

DEADLY = '''
import os, signal
from earwitness.foley import FoleyClips


class DeadlyClips(FoleyClips):
    """Clips of which one kills whoever decodes it."""

    def media(self, clip, view):
        if clip.id == self.clips[2].id:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().media(clip, view)
'''


@pytest.fixture(scope="module")
def clips() -> foley.FoleyClips:
    return foley.clip_set(8, seed=3, duration=1.0)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes on this machine, and a package of models that both can import."""
    from ray.cluster_utils import Cluster

    root = tmp_path_factory.mktemp("zoo")
    (root / "zoo").mkdir()
    (root / "zoo" / "__init__.py").touch()
    (root / "zoo" / "animals.py").write_text(ZOO)
    (root / "zoo" / "deadly.py").write_text(DEADLY)
    (root / "pids").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        patch.setenv("PYTHONPATH", str(root))
        patch.setenv("ZOO_FOLDER", str(root / "pids"))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": IMPATIENT}
        made = Cluster(initialize_head=True, head_node_args=head)
        try:
            made.second = made.add_node(num_cpus=1)
            patch.setenv("RAY_ADDRESS", made.address)
            made.pids = root / "pids"
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def test_an_actor_is_killed_and_every_item_is_answered_once(
    cluster: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    from zoo.animals import quick  # type: ignore[import-not-found]

    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    audit.ask(quick(), clips, items_of(clips), tmp_path / "one")
    for file in cluster.pids.iterdir():
        file.unlink()
    killed: list[int] = []

    def kill(done: int, failed: int, total: int) -> None:
        if done >= 8 and not killed:
            killed.append(int(next(cluster.pids.iterdir()).name))
            os.kill(killed[0], signal.SIGKILL)

    counts = ask_many(
        Recipe("zoo.animals:together", revision="1"), clips, items_of(clips), tmp_path / "many", workers=2, chunk=4,
        executor="ray", progress=kill,
    )  # fmt: skip
    assert killed
    assert outcome(tmp_path / "many") == outcome(tmp_path / "one")
    assert counts["deaths"] == 1
    assert counts["failed"] == 0
    assert counts["decodes"] >= 8


def test_ctrl_c_keeps_what_was_answered(cluster: Any, clips: foley.FoleyClips, tmp_path: Path) -> None:
    def stop(done: int, failed: int, total: int) -> None:
        if done >= 8:
            raise KeyboardInterrupt

    recipe, items = Recipe("zoo.animals:slow"), items_of(clips)
    with pytest.raises(KeyboardInterrupt):
        ask_many(recipe, clips, items, tmp_path, workers=1, chunk=4, executor="ray", progress=stop)
    before = len(outcome(tmp_path))
    assert 8 <= before < len(items)
    assert audit.ask(recipe.load(), clips, items, tmp_path)["asked"] == len(items) - before
    assert set(outcome(tmp_path)) == {i.id for i in items}


def test_a_death_is_told_from_an_error_of_ours() -> None:
    """A decoding task's death reaches the driver through the actor's task, wrapped as that task's error."""
    errors = ray.exceptions
    crash = errors.WorkerCrashedError()
    assert ray_cluster._death(crash) is crash
    wrapped = errors.RayTaskError("answer", "traceback", crash, ip="here").as_instanceof_cause()
    assert ray_cluster._death(wrapped) is crash
    ours = errors.RayTaskError("answer", "traceback", ValueError("ours"), ip="here").as_instanceof_cause()
    with pytest.raises(ValueError, match="traceback"):
        ray_cluster._death(ours)


def test_a_cluster_that_is_not_there_is_one_clear_error(
    clips: foley.FoleyClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Absent:
        __version__ = ray.__version__

        def init(self, **given: object) -> None:
            raise ConnectionError("refused")

    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(WorkerError, match=r"no Ray cluster at RAY_ADDRESS=127\.0\.0\.1:1: refused"):
        ray_cluster._connect(Absent())


def test_a_model_that_cannot_be_loaded_is_one_clear_error(
    cluster: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    with pytest.raises(WorkerError, match="no such checkpoint: zoo/stillborn"):
        ask_many(Recipe("zoo.animals:stillborn"), clips, items_of(clips), tmp_path, workers=2, executor="ray")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_node_is_switched_off_and_the_audit_goes_on(
    cluster: Any, clips: foley.FoleyClips, tmp_path: Path
) -> None:
    gone: list[bool] = []

    def switch_off(done: int, failed: int, total: int) -> None:
        if done >= 8 and not gone:
            gone.append(cluster.remove_node(cluster.second, allow_graceful=False))

    ask_many(
        Recipe("zoo.animals:slow"), clips, items_of(clips), tmp_path, workers=2, chunk=4, executor="ray",
        progress=switch_off,
    )  # fmt: skip
    assert gone
    got = outcome(tmp_path)
    assert set(got) == {i.id for i in items_of(clips)}
    assert all(error is None for _, _, error in got.values())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_clip_that_kills_its_decoder_fails_alone(
    cluster: Any, clips: foley.FoleyClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.deadly import DeadlyClips  # type: ignore[import-not-found]

    monkeypatch.setattr(ray_cluster, "DECODE_RETRIES", 0)  # each costs a new process

    items = items_of(clips, ("original", "mute"))
    counts = ask_many(
        Recipe("zoo.animals:quick"), DeadlyClips(clips.clips), items, tmp_path, workers=1, executor="ray"
    )
    bad = clips.clips[2].id
    answers = runs.read_answers(tmp_path)
    assert {i.clip for i in items if answers[i.id].error is not None} == {bad}
    assert counts["failed"] == 2
    assert "the worker died" in str(answers[next(i.id for i in items if i.clip == bad)].error)
