"""What test_align_ddp runs in several processes.

``torchrun --nproc_per_node 2 many_processes.py SECONDS TASK ARGUMENTS + TASK ARGUMENTS ...``, or without torchrun:
then it loads its packages and what both processes would compute alike once, and forks into two itself, as
torchrun's environment would tell them.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch

import small_sets
from earwitness.align import forward, recipes, sharding, trainers, training
from earwitness.align.feeding import Feeder
from earwitness.align.packing import pack
from earwitness.align.recipes import Recipe
from earwitness.datasets.opening import open_clips
from earwitness.models import adapters
from earwitness.models.load import HANS
from earwitness.models.qwen_omni import QwenOmni


def untied(folder: Path) -> Path:
    """Hans with a head of its own, as large models have: what can lie in shards."""
    made = QwenOmni(HANS)
    thinker = made.thinker.model
    thinker.config.text_config.tie_word_embeddings = thinker.config.tie_word_embeddings = False
    thinker.lm_head.weight = torch.nn.Parameter(thinker.get_input_embeddings().weight.detach().clone())
    adapters.save_thinker(made.thinker, folder)
    return folder


def recipe(stage: str, batch: int) -> Recipe:
    kept: dict[str, Any] = {
        "batch": batch, "accumulate": 2, "precision": "float32", "validate_every": 2, "validation": 5, "steps": 2,
        "rate": 1e-3, "warmup": 0.0, "schedule": "constant", "dropout": 0.0, "rank": 8,
    }  # fmt: skip
    if stage == "grpo":
        more = {
            "group": 3,
            "rewards": ("correct", "format"),
            "tokens": 4,
            "temperature": 2.5,
            "similarity": "words",
        }
        return recipes.named("comm-grpo", **{**kept, **more})
    if stage in ("dpo", "dpo-text"):
        return recipes.named("thud-dpo", **{**kept, "trains": "text" if stage == "dpo-text" else "lora"})
    if stage == "ansco":
        return recipes.named("comm-ansco", **kept)
    if stage == "text":  # all of the text model learns, its words at a rate of their own
        return recipes.named("mma-sft", **{**kept, "trains": "text", "words": 0.3, "back": (0.9, 0.5)})
    return recipes.named("mma-sft", **kept)


def train(stage: str, data: str, out: str, batch: str, how: str = "", model: str = "", steps: str = "2") -> None:
    """One stage of Hans, or of the model in a folder.

    ``how``: "shard"; or "fails", where the last process breaks in its second step.
    """
    if how == "fails":
        real = Feeder.rows
        calls = iter(range(10**6))

        def rows(self: Feeder, *args: Any) -> Any:
            if sharding.world() > 1 and sharding.rank() == 1 and next(calls) > 1:
                raise ValueError("the second process fails")
            return real(self, *args)

        Feeder.rows = rows  # type: ignore[method-assign]
    made = msgspec.structs.replace(recipe(stage, int(batch)), steps=int(steps))
    loaded = QwenOmni(Path(model) if model else HANS)
    training.align(made, Path(data), loaded, Path(out), shard=how == "shard")


def begun(stage: Path, copy: Path) -> Path:
    """A stage as it was left after its second step."""
    shutil.copytree(stage / "checkpoint-2", copy / "checkpoint-2")
    for name in ("align.json", "log.jsonl", "best.safetensors"):
        shutil.copy(stage / name, copy / name)
    return copy


def again(stage: str, data: str, out: str, *rest: str) -> None:
    """A stage as ``train`` runs it, and once more from its first checkpoint, in the folder OUT-again."""
    train(stage, data, out, *rest)
    if sharding.rank() == 0:
        begun(Path(out), Path(f"{out}-again"))
    sharding.wait()
    train(stage, data, f"{out}-again", *rest)


@dataclass
class Whole:
    """A thinker with an adapter in one piece: a batch for each process, and what they give here."""

    family: str
    adapted: Any
    batches: list[Any]
    losses: list[float]
    gradients: dict[str, Any]


def whole(folder: Path) -> Whole:
    """Losses and mean gradients of two batches of the checkpoint: one hears and sees, the other only sees."""
    from peft import get_peft_model

    from earwitness.records import Intervention

    model = QwenOmni(folder)
    feeder = Feeder(model, open_clips("foley", limit=small_sets.CLIPS, seed=small_sets.SEED))
    some = small_sets.pairs()[:4]
    deaf = [
        msgspec.structs.replace(p, item=msgspec.structs.replace(p.item, intervention=Intervention(kind="no_track")))
        for p in some[3:]
    ]
    batches = [pack(feeder.sft_rows(part)) for part in (some[:3], deaf)]
    with trainers.calm():
        adapted = get_peft_model(model.model, trainers.adapter(recipe("sft", 1), model.model))
    for name, p in adapted.named_parameters():
        if ".lora_B." in name:
            p.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(name)))
    losses = [forward.score(forward.inner(adapted), batch).loss for batch in batches]
    sum(losses).div(2).backward()
    gradients = {n: p.grad for n, p in adapted.named_parameters() if p.requires_grad}
    adapted.zero_grad(set_to_none=True)
    return Whole(model.thinker.family, adapted, batches, [loss.item() for loss in losses], gradients)


def fsdp(models: list[Whole]) -> None:
    """A sharded model gives the losses and gradients of a whole one, with other kinds of media in each process."""
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")
    for model in models:
        _sharded(model)


def _sharded(whole: Whole) -> None:
    adapted = whole.adapted
    sharding.shard(adapted)
    assert sharding.sharded(adapted)
    towers = [p for n, p in adapted.named_parameters() if "visual" in n or "audio_tower" in n]
    assert towers
    assert not any(hasattr(p, "full_tensor") for p in towers)
    parts = [p for p in adapted.parameters() if hasattr(p, "full_tensor")]
    text = forward.inner(adapted).model.language_model
    assert {id(p) for p in text.parameters()} < {id(p) for p in parts}
    assert sum(p.to_local().numel() for p in parts) < 0.51 * sum(p.numel() for p in parts)
    tokens = [len(batch.labels) for batch in whole.batches]
    assert tokens[0] > tokens[1]
    forward.CHUNK = tokens[1]  # logits in several pieces in one process, in one piece in the other
    mine = forward.score(forward.inner(adapted), whole.batches[sharding.rank()]).loss
    mine.backward()
    assert abs(mine.item() - whole.losses[sharding.rank()]) < 1e-5
    seen, compared = 0, set()
    for name, p in adapted.named_parameters():
        if p.requires_grad:
            assert torch.allclose(p.grad.full_tensor(), whole.gradients[name], atol=1e-6), name
            seen += float(whole.gradients[name].abs().max()) > 1e-4
            compared.add(name)
    assert compared == set(whole.gradients)
    assert seen > 4
    step = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.02)
    step.step()
    with torch.no_grad():
        after = forward.score(forward.inner(adapted), whole.batches[sharding.rank()]).loss
    torch.distributed.all_reduce(after)  # a step is for both batches: one of them alone may get worse
    assert after.item() < sum(whole.losses)
    os.write(1, f"in shards as in one piece: {whole.family}\n".encode())  # a line at once, whoever else writes


def prepared(task: str, *arguments: str) -> Callable[[], None]:
    """What is left of a task for each process."""
    if task == "fsdp":
        return partial(fsdp, [whole(Path(folder)) for folder in arguments])
    QwenOmni(HANS)  # what it is made of is imported
    return partial(again if task == "again" else train, *arguments)


def tasks(words: list[str]) -> Iterator[list[str]]:
    """The command line's tasks: "+" stands between them."""
    while "+" in words:
        yield words[: words.index("+")]
        words = words[words.index("+") + 1 :]
    yield words


def forked() -> int:
    """Become two processes that find each other, and wait for both; the other is ended where one fails.

    They meet at a store of their parent's, as under torchrun: a port that was only found free may be taken by then.
    """
    children = []
    read, write = os.pipe()
    for n in range(2):
        child = os.fork()
        if not child:
            told = {
                "RANK": str(n), "LOCAL_RANK": str(n), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": os.read(read, 5).decode(), "TORCHELASTIC_USE_AGENT_STORE": "True",
            }  # fmt: skip
            os.environ.update(told)
            return -1
        children.append(child)
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    os.write(write, f"{store.port:05}".encode() * 2)
    worst = 0
    while children:
        done, status = os.wait()
        children.remove(done)
        if status and not worst:
            worst = os.waitstatus_to_exitcode(status)
            for other in children:
                os.kill(other, 9)
    return abs(worst)


if __name__ == "__main__":
    torch.set_num_threads(1)
    left = [prepared(*task) for task in tasks(sys.argv[2:])]
    gc.collect()
    gc.freeze()  # its processes need not look through what was there before them
    if "RANK" not in os.environ and (code := forked()) >= 0:
        sys.exit(code)
    faulthandler.dump_traceback_later(float(sys.argv[1]), exit=True)  # says where it hung, and ends
    for task in left:
        task()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
