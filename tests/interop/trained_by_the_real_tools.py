"""What Earwitness exports for other trainers, trained for one step by the real ms-swift and LLaMA-Factory on a CPU.

Not part of the default suite (its name is none that pytest collects): ``make interop-train`` builds an environment
for each of the two. What is trained is Hans, re-laid as a full Omni checkpoint; each export is run by its own
``run_<stage>.sh``, and the adapter that comes of it is loaded here again.
"""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest

import small_sets
from earwitness import export
from earwitness.align import rewards
from earwitness.align.pairs import training_set
from earwitness.models import adapters, checkpoints
from earwitness.models.hans_build import SPECIALS
from earwitness.models.load import HANS, load_model
from earwitness.models.qwen_load import load_thinker
from earwitness.records import Item, Pair

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
ENVIRONMENTS = {"ms-swift": ".venv-interop-swift", "llama-factory": ".venv-interop-llamafactory"}
ONE_STEP = {
    "ms-swift": [
        "--torch_dtype", "float32", "--gradient_checkpointing", "false", "--max_steps", "1",
        "--gradient_accumulation_steps", "1", "--report_to", "none", "--dataloader_num_workers", "0",
        "--warmup_ratio", "0", "--check_model", "false",
    ],
    "llama-factory": [
        "max_steps=1", "bf16=false", "use_cpu=true", "gradient_accumulation_steps=1", "warmup_ratio=0",
    ],
}  # fmt: skip  # the first step of a warm-up has a rate of 0

Trained = Callable[[Any, Any, list[str]], tuple[Path, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> training_set.TrainingSet:
    return training_set.read(small_sets.write(tmp_path_factory.mktemp("sets") / "small", 6))


@pytest.fixture(scope="module")
def hans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hans, laid out as these tools load a model; no sampler of theirs is to draw a media token."""
    folder = checkpoints.to_full(HANS, tmp_path_factory.mktemp("models") / "hans")
    told = json.loads((folder / "generation_config.json").read_text())
    told["suppress_tokens"] = list(load_thinker(HANS)[0].suppressed)
    (folder / "generation_config.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def trained(made: training_set.TrainingSet, hans: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Export, run the export's own script for one step, and give the adapter's folder and all that was said."""
    places = {tool: tmp_path_factory.mktemp(tool) for tool in ENVIRONMENTS}

    def train(tool: Any, stage: Any, further: list[str]) -> tuple[Path, str]:
        bin = ROOT / ENVIRONMENTS[tool] / "bin"
        assert (bin / "python").exists(), f"{bin.parent.name} is not there: make interop-train"
        out = places[tool]
        pairs = {"train": made.train, "valid": made.valid}
        done = export.to_trainer(
            tool, pairs, training_set.clips_of(made.info), out, stage=stage, view=made.info.view, base=str(hans),
            relative=tool == "llama-factory",
        )  # fmt: skip
        assert done.rows == {"train": len(made.train), "valid": len(made.valid)}
        shims = [HERE / "without_cuda", *([HERE / "without_torchaudio"] if tool == "llama-factory" else [])]
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "VIRTUAL_ENV"))},
            "PATH": f"{bin}:{os.environ['PATH']}",
            "PYTHONPATH": ":".join(map(str, shims)),
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(out / "home"),
            "MODELSCOPE_CACHE": str(out / "home"),
            "OMP_NUM_THREADS": "1",
        }
        command = ["sh", str(out / f"run_{stage}.sh"), *ONE_STEP[tool], *further]
        ran = subprocess.run(command, capture_output=True, text=True, env=env, cwd="/", check=False)
        said = ran.stdout + ran.stderr
        assert ran.returncode == 0, said[-4000:]
        found = sorted((out / f"out_{stage}").rglob("checkpoint-1/adapter_config.json"))
        assert len(found) == 1, said[-4000:]
        return found[0].parent, said

    return train


def loss(said: str, name: str) -> float:
    """The last value of that name in what a trainer said."""
    found = re.findall(rf"['\"]?\b{name}['\"]?\s*[:=]\s*'?(-?[0-9.e+-]+|nan|inf)", said)
    assert found, f"no {name} in {said[-2000:]}"
    return float(found[-1])


def check(adapter: Path, hans: Path, tmp_path: Path) -> None:
    """The tool's adapter is on the text model alone, was moved, loads on Hans, and merges into him."""
    read = adapters.read_adapter(adapter)
    layers = load_thinker(HANS)[0].model.config.text_config.num_hidden_layers
    assert len(read.parts) == 4 * layers
    assert not read.towers
    assert {name.rpartition(".")[2] for name in read.parts} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    assert any(bool(part.b.any()) for part in read.parts.values()), "one step has moved nothing"
    tuned = load_model("hans", adapter=str(adapter))
    assert tuned.revision.endswith(read.digest)
    checkpoints.merge(adapter, tmp_path / "merged", base=hans)
    assert load_model(f"qwen2.5-omni:{tmp_path / 'merged'}").view == tuned.view


def interleaved(ids: list[int]) -> None:
    """The sound's tokens lie between the video's, chunk by chunk: Hans's four seconds of sound fill one."""
    config = load_thinker(HANS)[0].model.config
    media = {config.video_token_id: "video", config.audio_token_id: "audio"}
    assert [media[k] for k, _ in groupby(i for i in ids if i in media)] == ["video", "audio", "video"]


def test_ms_swift_sft(trained: Trained, made: training_set.TrainingSet, hans: Path, tmp_path: Path) -> None:
    adapter, said = trained("ms-swift", "sft", ["--per_device_train_batch_size", "2"])
    assert math.isfinite(loss(said, "train_loss"))
    assert math.isfinite(loss(said, "eval_loss"))
    (shown,) = re.findall(r"\[INPUT_IDS\] \[([0-9, ]+)\]", said)[:1]
    interleaved([int(i) for i in shown.split(",")])
    (labels,) = re.findall(r"\[LABELS\] \[-100 \* \d+\](.*)", said)[:1]
    assert labels.removesuffix("<|im_end|>") in {p.chosen for p in made.train}
    check(adapter, hans, tmp_path)


def test_ms_swift_dpo(trained: Trained, hans: Path, tmp_path: Path) -> None:
    adapter, said = trained("ms-swift", "dpo", ["--per_device_train_batch_size", "2"])
    # Before the first update policy and reference are one: -log sigmoid(0).
    assert loss(said, "train_loss") == pytest.approx(math.log(2), abs=1e-3)
    check(adapter, hans, tmp_path)


def test_ms_swift_grpo_with_the_rewards_plug_in(
    trained: Trained, made: training_set.TrainingSet, tmp_path: Path
) -> None:
    sizes = ["--per_device_train_batch_size", "16", "--num_generations", "4", "--per_device_eval_batch_size", "4"]
    # Hot enough that answers to one question differ, and with them what they earn.
    further = ["--max_completion_length", "8", "--log_completions", "true", "--temperature", "3.0"]
    adapter, _ = trained("ms-swift", "grpo", [*sizes, *further])
    tuned = adapters.read_adapter(adapter)
    assert not tuned.towers
    items = {p.item.prompt: [q.item for q in made.train if q.item.prompt == p.item.prompt] for p in made.train}
    given: list[float] = []
    for line in (adapter.parent / "completions.jsonl").read_text().splitlines():
        logged = json.loads(line)
        rows = zip(
            logged["prompt"], logged["completion"], logged["solution"], logged["earwitness_correct"],
            logged["earwitness_abstains"], strict=True,
        )  # fmt: skip
        for prompt, said, solution, correct, abstains in rows:
            asked = [i for text, some in items.items() if f"<video>{text}<" in prompt for i in some]
            right = [i for i in asked if i.target == solution]
            if not right:  # a row of the validation set
                continue
            assert correct == float(rewards.right(right[0], rewards.answer_of(said)))
            assert math.isnan(abstains)  # all of these have a right answer
            given.append(correct)
            assert not [token for token in SPECIALS.values() if token in said]  # media tokens: see the fixture
    assert len(given) >= 16
    # Where all answers to a question earn the same there is nothing to learn; else the step has moved weights.
    learnt = any(len(set(given[n : n + 4])) > 1 for n in range(0, 16, 4))
    assert learnt == any(bool(part.b.any()) for part in tuned.parts.values())
    assert 1.0 in given, "Hans, who sees, is right on clips whose sound and picture agree"


def test_the_plug_in_rewards_tagged_answers_in_the_tools_own_environment(
    trained: Trained, made: training_set.TrainingSet, tmp_path: Path
) -> None:
    """Format, reasoning and correlation: on answers of known worth, as ms-swift calls them."""
    pair: Pair = made.train[0]
    out = tmp_path / "tagged"
    done = export.to_trainer(
        "ms-swift", {"train": [pair]}, training_set.clips_of(made.info), out, stage="grpo", view=made.info.view
    )
    assert done.rows == {"train": 1}
    item: Item = pair.item
    code = f"""
import json, sys
sys.path.insert(0, {str(out)!r})
import earwitness_rewards
from swift.rewards import orms
row = json.loads(open({str(out / "grpo_train.jsonl")!r}).readline())
heard = row["a_ref"]
good = f"<a-think>{{heard}}</a-think><v-think>{{heard}}</v-think><answer>{{row['solution']}}</answer>"
said = [good, good.replace(row["solution"] + "</answer>", "nothing</answer>"), "no"]
columns = dict(item=[row["item"]] * 3, a_ref=[heard] * 3, solution=[row["solution"]] * 3, trainer_state=None)
names = ("format", "arr", "avc", "correct")
print(json.dumps({{n: orms["earwitness_" + n](None)(said, **columns) for n in names}}))
"""
    bin = ROOT / ENVIRONMENTS["ms-swift"] / "bin"
    env = {**os.environ, "PYTHONPATH": str(HERE / "without_cuda")}
    ran = subprocess.run([bin / "python", "-c", code], capture_output=True, text=True, env=env, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    got = json.loads(ran.stdout.splitlines()[-1])
    assert got["format"] == [1.0, 1.0, 0.0]
    assert got["arr"] == [1.0, 0.0, 0.0]
    assert got["avc"][0] == pytest.approx(2.0)
    assert got["avc"][1] == pytest.approx(1.0)
    assert got["correct"] == [1.0, 0.0, 0.0]
    assert msgspec.json.decode(json.loads((out / "grpo_train.jsonl").read_text())["item"], type=Item) == item


def test_llama_factory_sft(trained: Trained, made: training_set.TrainingSet, hans: Path, tmp_path: Path) -> None:
    adapter, said = trained("llama-factory", "sft", ["per_device_train_batch_size=2"])
    assert math.isfinite(loss(said, "train_loss"))
    assert math.isfinite(loss(said, "eval_loss"))
    shown = re.findall(r"input_ids:\n\[([0-9, ]+)\]", said)[0]
    interleaved([int(i) for i in shown.split(",")])
    labels = re.findall(r"labels:\n(.*)", said)[0]
    assert labels.partition("<|im_end|>")[0] in {p.chosen for p in made.train}
    check(adapter, hans, tmp_path)


def test_llama_factory_dpo(trained: Trained, hans: Path, tmp_path: Path) -> None:
    adapter, said = trained("llama-factory", "dpo", ["per_device_train_batch_size=2"])
    assert loss(said, "train_loss") == pytest.approx(math.log(2), abs=1e-3)
    check(adapter, hans, tmp_path)
