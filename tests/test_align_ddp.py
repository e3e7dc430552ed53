"""Two processes train as one does with twice the batch, the model whole in each or in shards; one writes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from safetensors.torch import load_file  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

import many_processes  # noqa: E402
import small_sets  # noqa: E402
import tiny_thinkers  # noqa: E402
from earwitness.align import sharding, training  # noqa: E402
from earwitness.cli import app  # noqa: E402

LIMIT = 300  # seconds; alone on two cores they take 20


def started(*arguments: object, folder: Path, torchrun: bool = False) -> tuple[int, str]:
    """Exit code and output of two processes, which end themselves when the time is over.

    Their output goes to a file: a pipe is open for as long as any process that was given it.
    """
    runner = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2") if torchrun else ()
    return ran(*runner, many_processes.__file__, LIMIT, *arguments, folder=folder)


def ran(*arguments: object, folder: Path) -> tuple[int, str]:
    """Exit code and output of Python with these arguments."""
    command = [sys.executable, *map(str, arguments)]
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
    """One start of two processes for several tests; exit code, output, folder."""
    folder = tmp_path_factory.mktemp("launched")
    families: tuple[tiny_thinkers.Family, ...] = ("qwen2.5-omni", "qwen3-omni")
    models = [tiny_thinkers.save(f, folder / f, view=tiny_thinkers.VIEW) for f in families]
    data = small_sets.write(folder / "set")
    untied = many_processes.untied(folder / "untied")
    text = ("again", "text", data, folder / "text", 1, "shard", untied, 4)
    grpo = ("train", "grpo", data, folder / "grpo", 1, "shard", untied)
    sft = ("train", "sft", data, folder / "two", 1)
    return *started(*sft, "+", *text, "+", *grpo, "+", "fsdp", *models, folder=folder), folder


def check_is_one_with_twice_the_batch(stage: str, folder: Path, two: str = "two", model: str = "") -> None:
    """``folder / two``, trained by two processes, against one process here."""
    torch.set_num_threads(1)
    one = f"{two}-one"
    steps = max(line["step"] for line in curves(folder / two))
    many_processes.train(stage, str(folder / "set"), str(folder / one), "2", model=model, steps=str(steps))
    ours, theirs = curves(folder / two), curves(folder / one)
    assert len(ours) == len(theirs) == steps + steps // 2 + 1  # steps and validations: each written once
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, abs=2e-4)
    for file in (f"checkpoint-{steps}/{training.LEARNED}", "model/model.safetensors"):
        a, b = (load_file(folder / n / file) for n in (two, one))
        assert a.keys() == b.keys()
        for name, value in a.items():
            # Of a gradient that is but rounding Adam makes a step: of keys' biases, of few numbers elsewhere.
            off = ((value - b[name]).abs() > 1e-4).float().mean().item()
            assert off <= (1 if name.endswith("k_proj.bias") else 1e-4), name
            assert torch.allclose(value, b[name], atol=5e-3), name
    made, wanted = ({p.name for p in (folder / n / "model").iterdir()} for n in (two, one))
    assert made == wanted


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


@pytest.mark.timeout(500)
def test_in_shards_all_of_a_text_model_learns_and_goes_on(launched: tuple[int, str, Path]) -> None:
    """A head of its own, words at a rate of their own; taken up from a checkpoint, which holds whole tensors."""
    code, said, folder = launched
    assert code == 0, said[-3000:]
    check_is_one_with_twice_the_batch("text", folder, "text", str(folder / "untied"))
    assert curves(folder / "text") == curves(folder / "text-again")
    one, two = (
        torch.load(folder / n / "checkpoint-4" / "optimizer.pt", weights_only=True)["state"]
        for n in ("text", "text-one")
    )
    assert one.keys() == two.keys()
    for n, state in one.items():
        assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in two[n].items()}
    alone = many_processes.begun(folder / "text", folder / "text-alone")
    many_processes.train("text", str(folder / "set"), str(alone), "1", model=str(folder / "untied"), steps="4")
    assert [line["step"] for line in curves(alone) if "loss" in line] == [1, 2, 3, 4]


@pytest.mark.timeout(500)
def test_in_shards_the_same_answers_are_drawn_and_paid(launched: tuple[int, str, Path]) -> None:
    """GRPO with LoRA: all processes say all answers, each is paid for its own."""
    code, said, folder = launched
    assert code == 0, said[-3000:]
    check_is_one_with_twice_the_batch("grpo", folder, "grpo", str(folder / "untied"))
    one, two = (load_file(folder / n / "adapter" / "adapter_model.safetensors") for n in ("grpo", "grpo-one"))
    assert one.keys() == two.keys()


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("stage", ["dpo", "dpo-text", "ansco"])
def test_other_stages_in_shards_by_torchrun_itself(stage: str, tmp_path: Path) -> None:
    """With LoRA DPO's reference is the same shards with the addition off, else it lies in shards of its own."""
    data, untied = small_sets.write(tmp_path / "set"), many_processes.untied(tmp_path / "untied")
    code, said = started("train", stage, data, tmp_path / "two", 1, "shard", untied, folder=tmp_path, torchrun=True)
    assert code == 0, said[-3000:]
    check_is_one_with_twice_the_batch(stage, tmp_path, model=str(untied))


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("config", ["ddp", "fsdp2"])
def test_accelerates_launcher_with_the_configuration_of_the_docs(config: str, tmp_path: Path) -> None:
    """docs/scale_training.md's, for two CPU processes; the same losses as one process has."""
    data, untied = small_sets.write(tmp_path / "set"), many_processes.untied(tmp_path / "untied")
    page = (Path(__file__).parents[1] / "docs" / "scale_training.md").read_text()
    told = next(block for block in page.split("```")[1::2] if block.startswith(f"yaml\n# {config}.yaml"))
    told = told.removeprefix("yaml\n").replace("num_processes: 8", "num_processes: 2")
    (tmp_path / "it.yaml").write_text(told)
    made = many_processes.recipe("sft", 1)
    settings = [
        word
        for name in ("batch", "accumulate", "precision", "validate_every", "validation", "steps", "rate", "warmup",
                     "schedule", "dropout", "rank")
        for word in ("--set", f"{name}={getattr(made, name)}")
    ]  # fmt: skip
    code, said = ran(
        "-m", "accelerate.commands.launch", "--config_file", tmp_path / "it.yaml", "--main_process_port", "0",
        "-m", "earwitness.cli", "align", "sft", "mma-sft", "--data", data,
        "-m", f"qwen2.5-omni:{untied}", "--out", tmp_path / "two",
        *settings, folder=tmp_path,
    )  # fmt: skip
    assert code == 0, said[-3000:]
    assert said.count("validation: ") == 1  # one of them speaks
    check_is_one_with_twice_the_batch("sft", tmp_path, model=str(untied))


def test_what_cannot_lie_in_shards_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = ("align", "sft", "mma-sft", "--data", str(tmp_path), "-m", "hans", "--out", str(tmp_path / "out"))
    alone = CliRunner().invoke(app, [*told, "--shard"])
    assert alone.exit_code == 2
    assert "start with torchrun" in alone.output
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    old = CliRunner().invoke(app, list(told))
    assert old.exit_code == 2
    assert "fsdp_version: 2" in old.output
    monkeypatch.setenv("FSDP_VERSION", "2")
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    with pytest.raises(ValueError, match="fsdp_offload_params"):
        sharding.asked()
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "false")
    assert sharding.asked()
    assert not sharding.asked()  # it was taken over: accelerate itself is not to shard


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
