"""What does it save to read each clip once? DPO and GRPO three ways, on the same pairs and the same answers.

(a) TRL's plain path: the processor's tensors in every batch, the towers run in every pass, each answer a row of its
    own behind the whole prompt, GRPO's G samples each generated from the whole prompt by ``generate``. Out of the
    box TRL's GRPO would score without media; here it is given them (the fixed-up path). The processor's output is
    kept from epoch to epoch, which favours this way.
(b) features kept, rows separate: towers once a clip, but every answer a row of its own (GRPO still samples behind
    media that are read once).
(c) ours: features kept, and all answers behind a clip read as one tree.

All three train a fresh copy of the same model on the same batches. For GRPO the answers of (c) are recorded and put
in the place of what (a) and (b) generated, after the time for that was spent, so that losses and gradients can be
compared. CPU time is counted on a CPU, wall time on a GPU, per optimizer step; the first epoch (in which towers run
for all) stands apart. Memory: on a GPU the allocator's peak; on a CPU the highest sum of live tensors made in one
step.

A random thinker's time is a real one's: only what it says means nothing. The tiny one's towers are a far larger
part of it than a 3B's, which favours (b) and (c): see tokens read for what is left of that.

    python benchmarks/align.py                      # tiny thinker: 10 s clips, 2 frames a second, 224 pixels
    python benchmarks/align.py --size hans
    python benchmarks/align.py --size 3b            # random weights, on a GPU (or 7b)
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).parent))


from earwitness import foley
from earwitness.align import grpo, recipes, trainers
from earwitness.align.feeding import Feeder
from earwitness.align.packing import as_rows
from earwitness.models import qwen_plain
from earwitness.models.load import HANS
from earwitness.models.qwen_omni import QwenOmni
from earwitness.protocols import mma
from earwitness.protocols.settings import Settings
from earwitness.records import ClipSet, Item, Pair, View
from full_size import random_thinker
from whitebox import Live

from transformers import TrainerCallback  # isort: skip - after the operators that torchvision lacks

TARGETS = {"dpo": 2.0, "grpo": 3.0}
WAYS = {"a": "TRL's plain path", "b": "features kept", "c": "ours, packed"}
TOLERANCE = 1e-5  # of losses, in float32


class Plain:
    """The processor's tensors of an item, kept; and a batch of them, as the processor would have stacked it."""

    def __init__(self, feeder: Feeder) -> None:
        self.feeder, self._kept = feeder, {}

    def one(self, item: Item) -> dict[str, torch.Tensor]:
        if item.id not in self._kept:
            made = qwen_plain.process(self.feeder.model.thinker, item, self.feeder.media(item))
            heard = int(made["feature_attention_mask"].sum())  # padding of up to 300 s left out: exact
            for name in ("input_features", "feature_attention_mask"):
                made[name] = made[name][..., :heard]
            self._kept[item.id] = made
        return self._kept[item.id]

    def media(self, items: list[Item]) -> dict[str, Any]:
        made = [self.one(i) for i in items]
        longest = max(m["input_features"].shape[-1] for m in made)
        out: dict[str, Any] = {
            name: torch.cat([m[name] for m in made])
            for name in ("pixel_values_videos", "video_grid_thw", "video_second_per_grid")
        }
        for name in ("input_features", "feature_attention_mask"):
            out[name] = torch.cat(
                [torch.nn.functional.pad(m[name], (0, longest - m[name].shape[-1])) for m in made]
            )
        return {**out, "use_audio_in_video": True}


class PlainPreferences(trainers.Collator):
    """DPO's batch for way (a)."""

    def __call__(self, examples: Any) -> Any:
        pairs = [self.pairs[int(e["row"])] for e in examples]
        batch: dict[str, Any] = dict(as_rows(self.feeder.preference_rows(pairs), self.feeder.pad))
        batch["completion_mask"] = (batch.pop("labels") != -100).long()
        return {**batch, **self.feeder.processed.media([p.item for p in [*pairs, *pairs]])}  # type: ignore[attr-defined]


class PlainStepRR(grpo.StepRR):
    """GRPO's way (a): whole prompts into ``generate``, G whole rows into the forward."""

    def _media(self, places: list[int]) -> dict[str, Any]:
        return self.feeder.processed.media([self._asked[self._mode][n] for n in places])  # type: ignore[attr-defined]

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        longest, device = max(map(len, prompt_ids)), self.accelerator.device
        ids = torch.tensor([[self.feeder.pad] * (longest - len(p)) + p for p in prompt_ids], device=device)
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompt_ids], device=device)
        thinker = self.feeder.model.thinker
        model, media = self.accelerator.unwrap_model(self.model), self._media(self._at)
        model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            model.generate(
                input_ids=ids, attention_mask=mask, **media, do_sample=True,
                temperature=self.temperature, max_new_tokens=self.max_completion_length,
                suppress_tokens=list(thinker.suppressed), eos_token_id=list(thinker.ends),
                pad_token_id=self.feeder.pad,
            )  # fmt: skip
        model.train()
        return None

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: Any, attention_mask: Any, logits_to_keep: int, batch_size: Any = None,
        compute_entropy: bool = False, compute_aux_loss: bool = False, **_: Any,
    ) -> Any:  # fmt: skip
        labels = input_ids.masked_fill(attention_mask == 0, -100)
        labels[:, :-logits_to_keep] = -100
        with self.accelerator.autocast():
            out = model(
                input_ids=input_ids, attention_mask=attention_mask, **self._media(self._at), labels=labels,
                fused_lm_head=True,
            )  # fmt: skip
        self._logps = out.log_probs[:, -logits_to_keep:]
        return self._logps, out.entropy[:, -logits_to_keep:], None


class Clock(TrainerCallback):
    """Seconds of each optimizer step, collation included, and what the text model read in it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.read = 0
        self._last = 0.0

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._last = self.now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = self.now()
        self.seconds.append(now - self._last)
        self.tokens.append(self.read)
        self._last, self.read = now, 0


def trainer_of(
    way: str, stage: str, given: argparse.Namespace, base: QwenOmni, clips: ClipSet, answers: Any
) -> Any:
    """A trainer on a fresh copy of the model, and its clock."""
    thinker = copy.copy(base.thinker)
    object.__setattr__(thinker, "model", copy.deepcopy(base.thinker.model))
    feeder = Feeder(QwenOmni(thinker, name=way), clips)
    feeder.processed = Plain(feeder)  # type: ignore[attr-defined]
    pairs = pairs_of(clips, given.questions)
    per_epoch = len(pairs) // (given.pairs if stage == "dpo" else 1)
    recipe = recipes.named(
        "thud-dpo" if stage == "dpo" else "comm-grpo", batch=given.pairs if stage == "dpo" else 1, accumulate=1,
        steps=per_epoch * given.epochs, rate=1e-4, warmup=0.0, schedule="constant", dropout=0.0, rank=16,
        validate_every=10**6, group=given.group, tokens=given.tokens, temperature=1.0, similarity="words",
        rewards=("correct",), precision="auto", reduce="grpo",
    )  # fmt: skip
    clock = Clock(thinker.device)
    out = Path(tempfile.mkdtemp())
    if stage == "dpo":
        made = trainers.dpo(recipe, feeder, pairs, out, [clock], plain=way == "b")
        if way == "a":
            made.data_collator = PlainPreferences(feeder, pairs, preferences=True)
    else:
        made = grpo.trainer(recipe, feeder, pairs, out, [clock], plain=way == "b")
        made.reward_funcs, made.reward_func_names = [lengths], ["lengths"]
        if way == "a":
            made.__class__ = PlainStepRR
        if answers is not None:
            made._generate_single_turn = replayed(made, answers, record=way == "c")
    thinker.model.model.language_model.register_forward_pre_hook(
        lambda _, __, kwargs: setattr(clock, "read", clock.read + kwargs["inputs_embeds"].shape[:2].numel()),
        with_kwargs=True,
    )
    return made, clock, per_epoch


def lengths(completions: list[str], **_: Any) -> list[float]:
    """A reward that even random texts differ in."""
    return [len(set(text)) / 10 for text in completions]


def replayed(made: Any, answers: list[Any], record: bool) -> Callable[..., Any]:
    """Generation as the way does it; its result is that of (c), whose answers are recorded."""
    real = made._generate_single_turn
    turn = iter(range(10**9))

    def generate(*args: Any, **kwargs: Any) -> Any:
        found = real(*args, **kwargs)
        if record:
            answers.append(found)
        return answers[next(turn)]

    return generate


def pairs_of(clips: ClipSet, questions: int) -> list[Pair]:
    """Questions about each clip as it is and with its sound swapped, a wrong option rejected."""
    settings = Settings(seeds=(0,), mma_conditions=("aligned", "audio_swapped"), mma_styles=("standard",))
    items = [i for i in mma.items(clips.clips, settings) if i.target is not None]
    return [
        Pair(
            id=i.id, item=i, chosen=i.target or "", rejected=next(c for c in i.choices if c != i.target), part="mma"
        )
        for i in items[: questions * len(clips.clips)]
    ]


def run(way: str, stage: str, given: argparse.Namespace, base: QwenOmni, clips: ClipSet, answers: Any) -> Any:
    """Seconds a step after the first epoch, its log, tokens a step, peak memory."""
    made, clock, per_epoch = trainer_of(way, stage, given, base, clips, answers)
    gpu = clock.device.type == "cuda"
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with trainers.calm():
        made.train()
    if gpu:
        peak = torch.cuda.max_memory_allocated() - sum(p.nbytes for p in made.model.parameters())
    else:
        peak = memory(way, stage, given, base, clips)
    log = [line for line in made.state.log_history if "loss" in line]
    return clock.seconds[:per_epoch], clock.seconds[per_epoch:], log, clock.tokens[per_epoch:], peak


def memory(way: str, stage: str, given: argparse.Namespace, base: QwenOmni, clips: ClipSet) -> int:
    """Bytes of tensors made and alive at once in a second step (the first fills caches); not timed."""
    made, *_ = trainer_of(way, stage, given, base, clips, None)
    if stage == "grpo":
        generate = made._generate_single_turn
        fixed = [made.feeder.answer("bell")] * given.group
        made._generate_single_turn = lambda *a, **k: (generate(*a, **k), (list(map(list, fixed)), None))[1]
        made._check = lambda _: None
    made.current_gradient_accumulation_steps = 1
    made.model.train()
    batch = next(iter(made.get_train_dataloader()))
    most = 0
    for step in range(2):
        with trainers.calm(), Live() as live:
            made.compute_loss(made.model, made._prepare_inputs(copy.copy(batch))).backward()
        made._buffered_inputs = None
        most = live.most if step else 0
    return most


def compare(stage: str, given: argparse.Namespace, base: QwenOmni, clips: ClipSet) -> bool:
    """The table of a stage; whether the target is met and the losses are equal."""
    answers: list[Any] = []
    found = {way: run(way, stage, given, base, clips, answers) for way in ("c", "b", "a")}
    exact = base.thinker.dtype == torch.float32
    print(f"\n{stage.upper()}" + (f", G = {given.group}, {given.tokens} new tokens" if stage == "grpo" else ""))
    print(
        "| way | seconds a step | against (a) | first epoch, a step | tokens read a step | memory | largest "
        "difference of a loss | of a gradient norm |\n|" + "---|" * 8
    )
    base_line = statistics.median(found["a"][1])
    good = True
    for way, name in WAYS.items():
        first, later, log, tokens, peak = found[way]
        gap = {
            key: max(abs(x[key] - y[key]) for x, y in zip(log, found["c"][2], strict=True))
            for key in ("loss", "grad_norm")
        }
        good = good and (not exact or gap["loss"] < TOLERANCE)
        print(
            f"| ({way}) {name} | {statistics.median(later):.3f} | {base_line / statistics.median(later):.1f} x | "
            f"{statistics.median(first):.3f} | {statistics.median(tokens):,.0f} | {peak / 1e6:,.0f} MB | "
            f"{gap['loss']:.1e} | {gap['grad_norm']:.1e} |",
            flush=True,
        )
    print("losses: " + " ".join(f"{line['loss']:.5f}" for line in found["c"][2][:6]) + " ...")
    faster = base_line / statistics.median(found["c"][1])
    met = faster >= TARGETS[stage]
    print(f"{faster:.1f} x, target {TARGETS[stage]:g} x: {'met' if met else 'MISSED'}")
    return good and met


def main(argv: list[str] | None = None) -> int:
    """Print both tables; 1 where a target is missed or losses differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("tiny", "tiny3", "hans", "3b", "7b"), default="tiny")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--side", type=int, default=224, help="pixels of a frame's side")
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--questions", type=int, default=2, help="a clip")
    parser.add_argument("--pairs", type=int, default=2, help="of a DPO batch")
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=32, help="new ones at most")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--stages", default="dpo,grpo")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    dtype = torch.bfloat16 if given.device.startswith("cuda") else torch.float32
    if given.size == "hans":
        base = QwenOmni(HANS, device=given.device)
        clips = foley.clip_set(given.clips, seed=77)
    else:
        view = View(size=(given.side, given.side))
        base = QwenOmni(random_thinker(given.size, given.device, dtype, view), name=given.size)
        clips = foley.clip_set(given.clips, seed=77, duration=given.seconds)
    feeder = Feeder(base, clips)
    shown, question = feeder.shown([pairs_of(clips, 1)[0].item])[0]
    parameters = sum(p.numel() for p in base.thinker.model.parameters())
    where = torch.cuda.get_device_name() if given.device.startswith("cuda") else f"CPU, {given.threads} thread(s)"
    print(
        f"{given.size}: {parameters / 1e6:.1f} million parameters, {where}; prompts of {shown.layout.video_tokens} "
        f"video + {shown.layout.audio_tokens} audio + {len(shown.layout) + len(question)} tokens in all; "
        f"{given.clips} clips x {given.questions} questions, {given.pairs} pairs a DPO batch"
    )
    good = [compare(stage, given, base, clips) for stage in given.stages.split(",")]
    return int(not all(good))


if __name__ == "__main__":
    raise SystemExit(main())
