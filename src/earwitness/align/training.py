"""One stage of a repair, from a recipe and a training set to a checkpoint that can be audited.

::

    OUT/align.json        recipe, training set, model, versions
    OUT/log.jsonl         curves: one line a step (loss, rewards, ...) and one a validation
    OUT/checkpoint-N/     to go on from: weights or adapter, optimizer, schedule, random state
    OUT/best.safetensors  what was trained, at the best validation so far
    OUT/model/            the repaired model: what ``qwen2.5-omni:OUT/model`` loads
    OUT/report.html       the curves

The same command goes on where it was stopped, to the same losses. Validation asks the valid pairs' questions and
scores the answers as an audit does; the best checkpoint is the one with the highest mean over the parts of the
mixture (so that a large part does not hide a small one), the earlier one of equals. A recipe may have what was
learned taken back in part, as far as validation allows (:mod:`part_way`).

Under ``torchrun`` each process trains on its part of each batch and asks its part of the validation questions; the
first one alone writes, and all leave together.

Functions: ``align``, ``validate``, ``read_log``.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors.torch import load_file, save_file

from earwitness import run as runs
from earwitness import scoring
from earwitness.align import forward, part_way, sampling, sharding, trainers
from earwitness.align.feeding import Feeder
from earwitness.align.pairs import training_set
from earwitness.align.recipes import Recipe
from earwitness.audit.workers import Recipe as ToLoad
from earwitness.audit.workers import limit_threads
from earwitness.models import adapters
from earwitness.models.qwen_load import quiet
from earwitness.models.qwen_omni import QwenOmni
from earwitness.records import Answer, Item, Pair, digest

from transformers import TrainerCallback  # isort: skip

Progress = Callable[[int, int, dict[str, float]], None]
LEARNED = "learned.safetensors"
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate")


class Info(msgspec.Struct, kw_only=True):
    """``align.json``."""

    recipe: Recipe
    data: str
    data_digest: str
    model: str
    revision: str
    trained: int = 0  # numbers that learn
    skipped: int = 0  # pairs of the set that this stage has no use for
    way: float = 1.0  # share of what was learned that the saved model holds (part_way)
    ways: dict[str, float] = {}  # share -> validation
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class Trained:
    """How a stage ended. ``best``: validation accuracy of the checkpoint that was kept; None: nothing to ask."""

    folder: Path
    steps: int
    loss: float
    best: float | None
    before: float | None


def align(
    recipe: Recipe, data: Path, model: QwenOmni, out: Path, *, progress: Progress | None = None, readers: int = 0,
    load: ToLoad | None = None, shard: bool = False,
) -> Trained:  # fmt: skip
    """Run the recipe's stage on ``model`` (which is changed), and write ``out``.

    ``readers``: processes that make what the next batches show (:mod:`earwitness.align.ahead`; not for grpo, which
    waits for its own samples); ``load``: how each of them loads ``model`` as it came, by name. ``shard``: the text
    model lies in shards over all processes (:mod:`earwitness.align.sharding`); it does so afterwards, an adapter
    still on it, and what is repaired is in ``out/model``.

    Raises
    ------
    ValueError
        Where the training set does not fit the recipe (no pair has what the stage needs: a rejected answer for dpo,
        something to reward for grpo), or ``out`` holds another stage: another recipe, set or model. Where the model
        cannot lie in shards (``sharding.shard``).
    """
    sharding.check_place(model.thinker.device)
    if shard:
        sharding.check_started()
    made = training_set.read(data)
    pairs = _usable(recipe, made.train)
    if not pairs:
        need = "can be rewarded, as" if recipe.stage == "grpo" else "has a rejected answer, which"
        raise ValueError(f"{data}: none of its {len(made.train)} pairs {need} {recipe.name} needs")
    info = Info(
        recipe=recipe, data=str(data), data_digest=digest(*(p.id for p in made.train)), model=model.name,
        revision=model.revision, skipped=len(made.train) - len(pairs),
        versions={p: metadata.version(p) for p in PACKAGES},
    )  # fmt: skip
    begun = _begin(out, info)
    feeder = Feeder(model, training_set.clips_of(made.info))
    with closing(feeder):
        if readers and recipe.stage != "grpo":
            if model.thinker.device.type == "cpu":
                # Theirs and ours would be in each other's way.
                limit_threads(max(1, (os.cpu_count() or 1) - readers))
            feeder.read_ahead(readers, recipe.batch, load or ToLoad(model.name, revision=model.revision))
        watch = Watch(recipe, feeder, _asked(made.valid, recipe.validation), out, progress)
        trainer = _trainer(recipe, feeder, pairs, out, watch)
        if shard:
            sharding.take(trainer)
        info.trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
        if trainer.is_world_process_zero():
            runs.write_json(out / "align.json", info)
        came = part_way.origin(_parameters(trainer.model)) if recipe.back else {}
        checkpoint = _last_checkpoint(out) if begun else None
        watch.start(checkpoint, writes=trainer.is_world_process_zero())
        with quiet(), trainers.calm():
            done = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            watch.finish(trainer)
            if recipe.back and watch.best is not None:
                info.way, found = part_way.take_back(
                    _parameters(trainer.model), came, recipe.back, watch.best,
                    lambda: validate(feeder, watch.valid)["valid"],
                )  # fmt: skip
                info.ways = {f"{share:g}": value for share, value in found.items()}
                if trainer.is_world_process_zero():
                    runs.write_json(out / "align.json", info)
            _save(trainer.model, model, out, writes=trainer.is_world_process_zero())
    sharding.wait()
    model.forget()
    return Trained(out, int(done.global_step), float(done.training_loss), watch.best, watch.before)


def _usable(recipe: Recipe, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs that the stage can learn from; how many others there were stands in align.json."""
    if recipe.stage == "dpo":
        return [p for p in pairs if p.rejected is not None]
    if recipe.stage == "grpo":
        from earwitness.align import grpo

        return [p for p in pairs if grpo.rewardable(recipe, p)]
    return list(pairs)


def _trainer(recipe: Recipe, feeder: Feeder, pairs: Sequence[Pair], out: Path, watch: TrainerCallback) -> Any:
    if recipe.stage == "sft":
        return trainers.sft(recipe, feeder, pairs, out, [watch])
    if recipe.stage == "dpo":
        return trainers.dpo(recipe, feeder, pairs, out, [watch])
    if recipe.stage == "ansco":
        from earwitness.align import ansco

        return ansco.trainer(recipe, feeder, pairs, out, [watch])
    from earwitness.align import grpo

    return grpo.trainer(recipe, feeder, pairs, out, [watch])


def _save(trained: Any, model: QwenOmni, out: Path, *, writes: bool) -> None:
    """The adapter by itself, where there is one, and the model with it merged in. All processes must come here."""
    trained = forward.unwrapped(trained)
    split, tuned = sharding.sharded(trained), hasattr(trained, "merge_and_unload")
    learned = sharding.learned(trained) if split and tuned else None
    state = sharding.merged(trained) if split else None
    if not writes:
        return
    if tuned:
        adapters.save_adapter(trained, out / "adapter", state=learned)
        trained = forward.inner(trained) if split else trained.merge_and_unload()
    part = out / "model.part"
    shutil.rmtree(part, ignore_errors=True)
    adapters.save_thinker(model.thinker, part, model=trained, state=state)
    shutil.rmtree(out / "model", ignore_errors=True)
    part.rename(out / "model")


def _begin(out: Path, info: Info) -> bool:
    """Whether ``out`` is a stage that was begun with the same recipe, set and model."""
    file = out / "align.json"
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        return False
    old = msgspec.json.decode(file.read_bytes(), type=Info)
    for what in ("recipe", "data_digest", "model", "revision"):
        if getattr(old, what) != getattr(info, what):
            raise ValueError(
                f"{out} holds another stage ({what.replace('_', ' ')} {getattr(old, what)}, not "
                f"{getattr(info, what)}): take another --out, or remove it"
            )
    return True


def _last_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint: one with what was learned, which is the last thing written."""
    found = [p for p in out.glob("checkpoint-*") if (p / LEARNED).exists()]
    return max(found, key=lambda p: int(p.name.rpartition("-")[2]), default=None)


def _asked(pairs: Sequence[Pair], most: int) -> list[Pair]:
    """Valid pairs whose answers can be scored, one per question, ``most`` of them, drawn by content and by part."""
    kept: dict[str, Pair] = {}
    for p in sorted(pairs, key=lambda p: digest("valid", p.id)):
        if p.item.target is not None:
            kept.setdefault(p.item.id, p)
    parts: dict[str, list[Pair]] = {}
    for p in kept.values():
        parts.setdefault(p.part, []).append(p)
    turns = sorted((n, part) for part, some in parts.items() for n in range(len(some)))
    return [parts[part][n] for n, part in turns[:most]]


def validate(feeder: Feeder, pairs: Sequence[Pair]) -> dict[str, float]:
    """Accuracy by part, greedy, scored as in an audit (unparsed and refused are wrong); "valid": their mean.

    Each of several processes asks its part of the questions; all of them know the result.
    """
    mine = sharding.share(pairs, feeder.model.model)
    said = sampling.texts(feeder, sampling.say(feeder, [p.item for p in mine]))
    judged = [(p.part, _right(p.item, text)) for p, (text,) in zip(mine, said, strict=True)]
    right: dict[str, list[bool]] = {}
    for part, good in sharding.gathered(judged, feeder.model.model):
        right.setdefault(part, []).append(good)
    shares = {f"valid/{part}": sum(some) / len(some) for part, some in sorted(right.items())}
    return {"valid": sum(shares.values()) / len(shares), **shares}


def _right(item: Item, text: str) -> bool:
    return scoring.score(item, Answer(item=item.id, model="", text=text)).correct is True


class Watch(TrainerCallback):  # type: ignore[misc]
    """Writes the curves, validates, and keeps the best of what was trained."""

    def __init__(
        self, recipe: Recipe, feeder: Feeder, valid: Sequence[Pair], out: Path, progress: Progress | None
    ) -> None:
        self.recipe, self.feeder, self.valid, self.out = recipe, feeder, valid, out
        self.progress = progress
        self.best: float | None = None
        self.before: float | None = None
        self._first = True
        self._from: Path | None = None
        self._writes = True

    def start(self, checkpoint: Path | None, *, writes: bool = True) -> None:
        """Begin, or go on from a checkpoint: what the log says of later steps is cut off.

        ``writes``: whether this process writes files; the others only know what is in them.
        """
        self._from, self._writes = checkpoint, writes
        step = 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2])
        kept = [line for line in read_log(self.out) if line["step"] <= step] if step else []
        sharding.wait()  # until all have read
        if writes:
            (self.out / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
        scores = {line["step"]: line["valid"] for line in kept if "valid" in line}
        self.before = scores.pop(0, None)
        self.best = max(scores.values(), default=None)
        self._first = self.before is None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Take up what a checkpoint had learned; at the start validate the model as it came, to compare with.

        Trainer loads a checkpoint's weights by the names they have in memory, which are not those that a thinker is
        saved under; it says nothing, and the weights stay those of the beginning. Hence a file of our own.
        """
        if self._from is not None:
            _put(model, self._from / LEARNED)
        if self._first and self.valid:
            self._validate(0, model)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Append the step's numbers."""
        if state.is_world_process_zero and logs and "train_runtime" not in logs:
            numbers = {k: float(v) for k, v in logs.items() if isinstance(v, int | float)}
            self._write({"step": state.global_step, **numbers})
            if self.progress:
                self.progress(state.global_step, state.max_steps, numbers)

    def on_save(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Write what was learned beside the trainer's own checkpoint."""
        _keep(model, self.out / f"checkpoint-{state.global_step}" / LEARNED, writes=self._writes)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Validate where it is due."""
        due = state.global_step % self.recipe.validate_every == 0 or state.global_step == state.max_steps
        if due and self.valid:
            self._validate(state.global_step, model)

    def _validate(self, step: int, model: Any) -> None:
        found = validate(self.feeder, self.valid)
        self._write({"step": step, **found})
        if step == 0:
            self.before = found["valid"]
        elif self.best is None or found["valid"] > self.best:
            self.best = found["valid"]
            _keep(model, self.out / "best.safetensors", writes=self._writes)
        if self.progress and step and self._writes:
            self.progress(step, -1, found)

    def finish(self, trainer: Any) -> None:
        """Put the best of what was trained back into the model, even where it is no better than before: nothing of
        what was learned is undone in silence. Without validation the last stays.
        """
        sharding.wait()  # until it is written
        file = self.out / "best.safetensors"
        if self.valid and file.exists():
            _put(trainer.model, file)

    def _write(self, line: dict[str, float]) -> None:
        if not self._writes:
            return
        clean = {k: (v if math.isfinite(v) else None) for k, v in line.items()}
        with (self.out / "log.jsonl").open("a") as f:
            f.write(json.dumps(clean) + "\n")


def _parameters(model: Any) -> list[tuple[str, torch.Tensor]]:
    """What learns, by name; tied weights once."""
    return [(n, p) for n, p in forward.unwrapped(model).named_parameters() if p.requires_grad]


def _put(model: Any, file: Path) -> None:
    """Put what was learned back. Raises ValueError where the file is not of this recipe's parameters."""
    kept = load_file(file)
    found = dict(_parameters(model))
    if kept.keys() != found.keys():
        odd = sorted(kept.keys() ^ found.keys())
        raise ValueError(
            f"{file} does not hold what this recipe trains ({len(odd)} names differ, such as {odd[0]})"
        )
    with torch.no_grad():
        for name, value in found.items():
            value.copy_(sharding.laid(kept[name].to(value.device, value.dtype), value))


def _keep(model: Any, file: Path, *, writes: bool) -> None:
    """Write what was learned, whole or not at all."""
    learned = sharding.learned(forward.unwrapped(model))
    if not writes:
        return
    part = file.with_suffix(".part")
    save_file(learned, part)
    part.replace(file)


def read_log(out: Path) -> list[dict[str, Any]]:
    """The curves of a stage, a line per entry; a torn last line (of a killed run) is left out.

    Raises RunError where there are none.
    """
    file = out / "log.jsonl"
    if not file.exists():
        raise runs.RunError(f"{out} holds no curves (log.jsonl): is it the folder of an `earwitness align`?")
    lines = file.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]
