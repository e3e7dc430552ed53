"""Two processes train as one does with twice the batch; one of them writes, and both leave."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from safetensors.torch import load_file  # noqa: E402

import many_processes  # noqa: E402
import small_sets  # noqa: E402
import tiny_thinkers  # noqa: E402
from earwitness.align import sharding, training  # noqa: E402

LIMIT = 300  # seconds; alone on two cores they take 20


def started(*arguments: object, folder: Path, torchrun: bool = False) -> tuple[int, str]:
    """Exit code and output of two processes, which end themselves when the time is over.

    Their output goes to a file: a pipe is open for as long as any process that was given it.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    told = ("--nproc_per_node", "2", "--master-addr", "127.0.0.1", "--master-port", str(port))
    runner = ("-m", "torch.distributed.run", *told) if torchrun else ()
    command = [sys.executable, *runner, many_processes.__file__, str(LIMIT), *map(str, arguments)]
    tests = str(Path(__file__).parent)
    hidden = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": tests}
    log = folder / "processes.log"
    with (
        log.open("w") as said,
        subprocess.Popen(command, env=hidden, stdout=said, stderr=said, start_new_session=True) as running,
    ):
        try:
            code = running.wait(timeout=LIMIT + 60)
        except subprocess.TimeoutExpired:
            running.terminate()  # torchrun ends its processes
            code = running.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    return code, log.read_text()


def curves(out: Path) -> list[dict[str, Any]]:
    names = ("step", "loss", "grad_norm", "reward", "valid")
    return [{k: line[k] for k in names if k in line} for line in training.read_log(out)]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, Path]:
    """One start of two processes for both tests: SFT, then models in shards; exit code, output, folder."""
    folder = tmp_path_factory.mktemp("launched")
    families: tuple[tiny_thinkers.Family, ...] = ("qwen2.5-omni", "qwen3-omni")
    models = [tiny_thinkers.save(f, folder / f, view=tiny_thinkers.VIEW) for f in families]
    data = small_sets.write(folder / "set")
    return *started("train", "sft", data, folder / "two", 1, "+", "fsdp", *models, folder=folder), folder


def check_is_one_with_twice_the_batch(stage: str, folder: Path) -> None:
    """``folder / "two"``, trained by two processes, against one process here."""
    torch.set_num_threads(1)
    many_processes.train(stage, str(folder / "set"), str(folder / "one"), "2")
    two, one = curves(folder / "two"), curves(folder / "one")
    assert len(two) == len(one) == 4  # validation, two steps, validation: each written once
    for ours, theirs in zip(two, one, strict=True):
        assert ours == pytest.approx(theirs, abs=2e-4)
    a, b = (load_file(folder / n / "checkpoint-2" / training.LEARNED) for n in ("two", "one"))
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.allclose(value, b[name], atol=1e-4), name
    assert (folder / "two" / "model" / "config.json").exists()


@pytest.mark.timeout(500)
def test_two_processes_are_one_with_twice_the_batch(launched: tuple[int, str, Path]) -> None:
    """SFT as two forks of one process."""
    code, said, folder = launched
    assert code == 0, said[-3000:]
    check_is_one_with_twice_the_batch("sft", folder)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_two_processes_of_torchrun_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    """GRPO, by torchrun itself."""
    data = small_sets.write(tmp_path / "set")
    code, said = started("train", "grpo", data, tmp_path / "two", 1, folder=tmp_path, torchrun=True)
    assert code == 0, said[-3000:]
    check_is_one_with_twice_the_batch("grpo", tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_process_that_fails_ends_them_all(tmp_path: Path) -> None:
    data = small_sets.write(tmp_path / "set")
    code, said = started("train", "sft", data, tmp_path / "out", 1, "fails", folder=tmp_path)
    assert code != 0
    assert "the second process fails" in said
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.timeout(500)
def test_sharded_layers_give_the_whole_models_losses_and_gradients(launched: tuple[int, str, Path]) -> None:
    """Both families, LoRA; one process hears and sees, the other only sees: the towers are whole, nobody waits."""
    code, said, _ = launched
    assert code == 0, said[-3000:]
    assert said.count("in shards as in one piece: qwen2.5-omni") == 2, said[-3000:]  # both processes
    assert said.count("in shards as in one piece: qwen3-omni") == 2, said[-3000:]


def test_alone_nothing_is_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(1, 1)
    assert (sharding.rank(), sharding.world()) == (0, 1)
    assert sharding.gathered(sharding.share([1, 2, 3], model), model) == [1, 2, 3]
    assert not sharding.sharded(model)
    sharding.wait()
    with pytest.raises(ValueError, match="start with torchrun"):
        sharding.shard(model)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert sharding.place() == "cuda:3"
    sharding.check_place(torch.device("cuda:3"))
    sharding.check_place(torch.device("cpu"))
    with pytest.raises(ValueError, match="to train on cuda:3"):
        sharding.check_place(torch.device("cuda"))
