"""TRL's trainers, fed with sound and picture: supervised rows and preferences.

TRL 1.16 knows neither audio nor video, and says nothing where it loses them. Its SFTTrainer and DPOTrainer are
right for us as they are once they get batches from :class:`Collator` (which also holds ``packed``, what the model
is shown) and a model whose forward takes that (``forward.attach``). What each of them needs to be told to keep its
hands off the data is in :func:`arguments`.

Functions: ``sft``, ``dpo`` (the trainer of a recipe); GRPO's is in ``grpo``, Ans-CO's in ``ansco``.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from earwitness.models import torchvision_ops  # noqa: F401 - must come before transformers

from datasets import Dataset  # isort: skip
from peft import LoraConfig  # isort: skip
from transformers import PrinterCallback, TrainerCallback  # isort: skip
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer  # isort: skip

from earwitness.align import forward, losses, sharding
from earwitness.align.ahead import name_of
from earwitness.align.feeding import Feeder
from earwitness.align.order import Together
from earwitness.align.packing import Row, as_rows, pack
from earwitness.align.recipes import Recipe
from earwitness.models.adapters import text_linear_names
from earwitness.records import Pair

Batch = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Collator:
    """Dataset rows ({"row": n}) -> a batch: ``packed`` for the model, row tensors for the trainer to count with."""

    feeder: Feeder
    pairs: Sequence[Pair]
    preferences: bool = False
    plain: bool = False  # nothing shared: the usual way

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Batch:
        """The batch of these examples."""
        pairs = [self.pairs[int(e["row"])] for e in examples]
        rows = self.feeder.preference_rows(pairs) if self.preferences else self.feeder.sft_rows(pairs)
        return self.batch(rows)

    def batch(self, rows: Sequence[Row]) -> Batch:
        """The batch of these rows."""
        batch: Batch = dict(as_rows(rows, self.feeder.pad))
        if self.preferences:
            batch["completion_mask"] = (batch.pop("labels") != -100).long()
        batch["packed"] = pack(rows, plain=self.plain)
        return batch


def dataset(pairs: Sequence[Pair], *, preferences: bool = False) -> Dataset:
    """Row numbers, all that travels; the other columns are what TRL looks for before it leaves rows alone."""
    columns: dict[str, list[Any]] = {"row": list(range(len(pairs)))}
    if preferences:
        columns |= {name: [""] * len(pairs) for name in ("prompt", "chosen", "rejected")}
        columns["images"] = [[] for _ in pairs]
    return Dataset.from_dict(columns)


def arguments(recipe: Recipe, out: Path, device: torch.device) -> dict[str, Any]:
    """What all TRL configurations are told, for a recipe and where it runs."""
    gpu = device.type == "cuda"
    precision = {"auto": "bfloat16"}.get(recipe.precision, recipe.precision) if gpu else "float32"
    checkpointing = gpu if recipe.checkpointing is None else recipe.checkpointing
    return {
        "output_dir": str(out),
        "per_device_train_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.accumulate,
        "learning_rate": recipe.rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup,  # below 1: a share of all steps
        "weight_decay": recipe.decay,
        "max_grad_norm": recipe.clip,
        "adam_beta1": recipe.betas[0],
        "adam_beta2": recipe.betas[1],
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.steps or -1,
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "bf16": precision == "bfloat16",
        "fp16": precision == "float16",
        "use_cpu": device.type == "cpu",
        "activation_checkpointing": checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False} if checkpointing else None,
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_steps": recipe.validate_every,
        "save_total_limit": recipe.keep,
        "eval_strategy": "no",  # validation asks and scores: see training.Watch
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": gpu,
        "ddp_find_unused_parameters": False,
        "optim": "adamw_torch",
        "router_aux_loss_coef": 0.0,
    }


def adapter(recipe: Recipe, model: Any) -> LoraConfig | None:
    """The low-rank addition, on linear layers of the text model by their full names; None where all of it learns.

    A pattern is rewritten by PEFT 0.21 on Qwen3-Omni and lands on the audio tower; full names do not.
    """
    if recipe.trains != "lora":
        return None
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=text_linear_names(model, recipe.targets),
        task_type="CAUSAL_LM",
    )


def freeze(recipe: Recipe, model: Any) -> None:
    """Let learn what the recipe says (before an adapter is added): the text model with its words, or nothing."""
    model.requires_grad_(False)
    if recipe.trains == "text":
        model.model.language_model.requires_grad_(True)
        model.get_input_embeddings().weight.requires_grad_(True)
        model.get_output_embeddings().weight.requires_grad_(True)


def optimizer(recipe: Recipe, model: Any) -> torch.optim.Optimizer | None:
    """An AdamW whose word embeddings have their own rate, where the recipe wants one; None: TRL's."""
    if recipe.trains != "text" or recipe.words == 1:
        return None
    words = [model.get_input_embeddings().weight]
    if model.get_output_embeddings().weight is not words[0]:
        words.append(model.get_output_embeddings().weight)
    known = {id(p) for p in words}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        {"params": words, "lr": recipe.rate * recipe.words, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas)


def order(recipe: Recipe, feeder: Feeder, pairs: Sequence[Pair]) -> Together:
    """In which order the pairs come, the same in all processes; the feeder is told of this one's batches."""

    def tell(places: list[int]) -> None:
        mine = [n for at, n in enumerate(places) if at // recipe.batch % sharding.world() == sharding.rank()]
        feeder.expect([pairs[n].item for n in mine])

    return Together([name_of(p.item) for p in pairs], recipe.together, recipe.seed, tell)


class ByRecipe(sharding.InShards):
    """A trainer with its recipe's optimizer, made as training begins: of the weights where they lie then."""

    recipe: Recipe
    optimizer: Any

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The recipe's, or TRL's where that wants none of its own."""
        if self.optimizer is None:
            self.optimizer = optimizer(self.recipe, forward.inner(self.model))
        return super().create_optimizer(*args, **kwargs)


class Ordered(ByRecipe):
    """... that takes pairs in an order of ours."""

    order: Together

    def _get_train_sampler(self, train_dataset: Any = None) -> Together:
        return self.order


class OrderedSFT(Ordered, SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that does."""


class OrderedDPO(Ordered, DPOTrainer):  # type: ignore[misc]
    """DPOTrainer that does."""


class RowsSFT(OrderedSFT):
    """... in whose batches each answer counts alike, however long: ``weigh="answer"``."""

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean over answers of the mean negative log-prob of their tokens."""
        out = model(**inputs, fused_lm_head=True)
        loss = losses.nll(out.log_probs, out.label_mask, per="row")
        mode = "train" if self.model.training else "eval"
        counted = out.label_mask.sum().clamp(min=1)
        self._metrics[mode]["entropy"].append((out.entropy.detach().sum() / counted).item())
        self._metrics[mode]["mean_token_accuracy"].append((out.is_top1.sum() / counted).item())
        if num_items_in_batch is not None:  # Trainer leaves the accumulation to the loss
            loss = loss / self.current_gradient_accumulation_steps
        return (loss, out) if return_outputs else loss


def sft(
    recipe: Recipe, feeder: Feeder, pairs: Sequence[Pair], out: Path, callbacks: Sequence[TrainerCallback] = (), *,
    plain: bool = False,
) -> SFTTrainer:  # fmt: skip
    """TRL's SFTTrainer on supervised rows (a preference counts as its chosen answer)."""
    model, tok = feeder.model.model, feeder.model.processor.tokenizer
    freeze(recipe, model)
    config = SFTConfig(
        **arguments(recipe, out, feeder.model.thinker.device),
        max_length=None,  # truncation would cut placeholders
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    kind = RowsSFT if recipe.weigh == "answer" else OrderedSFT
    with calm():
        made = kind(
            model=model, args=config, train_dataset=dataset(pairs), processing_class=tok,
            data_collator=Collator(feeder, pairs, plain=plain), peft_config=adapter(recipe, model),
            callbacks=list(callbacks),
        )  # fmt: skip
    made.order = order(recipe, feeder, pairs)
    return ready(made, recipe)


def dpo(
    recipe: Recipe, feeder: Feeder, pairs: Sequence[Pair], out: Path, callbacks: Sequence[TrainerCallback] = (), *,
    plain: bool = False,
) -> DPOTrainer:  # fmt: skip
    """TRL's DPOTrainer: sigmoid loss, with ``recipe.nll`` times the chosen answers' negative log-prob.

    The reference is the model as it came: with LoRA the same weights without the addition, else a copy.
    """
    model, processor = feeder.model.model, feeder.model.processor
    reference = None
    if recipe.trains != "lora":
        reference = copy.deepcopy(model).requires_grad_(False).eval()
    freeze(recipe, model)
    kinds = ["sigmoid", "sft"] if recipe.nll else ["sigmoid"]
    config = DPOConfig(
        **arguments(recipe, out, feeder.model.thinker.device),
        max_length=None,
        beta=recipe.beta,
        loss_type=kinds,
        loss_weights=[1.0, recipe.nll] if recipe.nll else None,
    )
    with calm():
        made = OrderedDPO(
            model=model, ref_model=reference, args=config, train_dataset=dataset(pairs, preferences=True),
            processing_class=processor, data_collator=Collator(feeder, pairs, preferences=True, plain=plain),
            peft_config=adapter(recipe, model), callbacks=list(callbacks),
        )  # fmt: skip
    made.order = order(recipe, feeder, pairs)
    return ready(made, recipe)


def ready(made: Any, recipe: Recipe, *, temperature: float = 1.0, unsure: bool = False) -> Any:
    """The trainer with its recipe, our forward (``forward.attach``), and without its own printing."""
    made.recipe = recipe
    forward.attach(made.model, temperature=temperature, unsure=unsure)
    if getattr(made, "ref_model", None) is not None:
        forward.attach(made.ref_model)
    made.remove_callback(PrinterCallback)
    return made


@contextmanager
def calm() -> Iterator[None]:
    """TRL and PEFT warn of what they themselves do: names that transformers will drop, adapters, tied words."""
    with warnings.catch_warnings():
        for text in (".*gradient_checkpointing.*", ".*tie_word_embeddings.*", ".*TRL experimental.*"):
            warnings.filterwarnings("ignore", text)
        yield
