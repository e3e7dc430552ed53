"""Ans-CO: learn a tagged answer, and be surer of its last part where it is not a guess anyway.

RL-CoMM's third stage (arXiv 2511.10059, eq. 6): the mean negative log-prob of the whole answer, and lambda times
the mean entropy of the tokens between ``<answer>`` and ``</answer>``; thinking is cropped from that term, and where
the model is too unsure (u above the gate) it is off. The loss is :func:`earwitness.align.losses.ans_co`; all else
is TRL's SFTTrainer.

The answer's tokens are found by character offsets (:func:`earwitness.align.tags.answer_mask`), never by the ids of
the tags. In an answer without tags the whole text is the answer; the token that ends the turn is no part of it.

Functions: ``trainer``, ``answer_places``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from earwitness.models import torchvision_ops  # noqa: F401 - must come before transformers

from transformers import TrainerCallback  # isort: skip
from trl import SFTConfig  # isort: skip

from earwitness.align import losses, tags, trainers
from earwitness.align.feeding import Feeder
from earwitness.align.packing import Row
from earwitness.align.recipes import Recipe
from earwitness.records import Pair


def answer_places(tokenizer: Any, pairs: Sequence[Pair], rows: Sequence[Row]) -> torch.Tensor:
    """[R, L - 1], bool: which scored tokens are the answer's; the column is the place before the token.

    Raises ValueError where a pair's chosen answer has tags but no answer in them, naming the pair.
    """
    mask = torch.zeros(len(rows), max(len(row) for row in rows) - 1, dtype=torch.bool)
    for n, (pair, row) in enumerate(zip(pairs, rows, strict=True)):
        try:
            ids, inside = tags.answer_mask(tokenizer, pair.chosen)
        except ValueError as error:
            raise ValueError(f"pair {pair.id}: {error}") from error
        assert tuple(ids) == row.tail[row.first : row.first + len(ids)], "the answer is not spelled as it was read"
        start = len(row.shown.layout) + row.first - 1
        mask[n, start : start + len(ids)] = torch.tensor(inside)
    return mask


@dataclass(frozen=True, eq=False)
class Answers(trainers.Collator):
    """The batch of supervised rows, with ``answer``: where the answers' tokens are."""

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> trainers.Batch:
        """The batch of these examples."""
        pairs = [self.pairs[int(e["row"])] for e in examples]
        rows = self.feeder.sft_rows(pairs)
        return {**self.batch(rows), "answer": answer_places(self.feeder.model.processor.tokenizer, pairs, rows)}


class AnsCO(trainers.OrderedSFT):
    """SFTTrainer with the loss of eq. 6."""

    def compute_loss(
        self, model: Any, inputs: trainers.Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Likely, and sure where it is not too unsure."""
        answer = inputs.pop("answer")
        out = model(**inputs, fused_lm_head=True)
        full = self.recipe.uncertainty == "full"
        found = losses.ans_co(
            out.log_probs, out.label_mask, out.entropy, answer,
            vocabulary=self.model.get_output_embeddings().weight.shape[0] if full else None,
            u=None if full else out.uncertainty,
            weight=self.recipe.weight, u_max=self.recipe.gate,
            per="row" if self.recipe.weigh == "answer" else "token",
        )  # fmt: skip
        kept = self._metrics["train" if self.model.training else "eval"]
        counted = out.label_mask.sum().clamp(min=1)
        kept["entropy"].append((out.entropy.detach().sum() / counted).item())
        kept["mean_token_accuracy"].append((out.is_top1.sum() / counted).item())
        kept["nll"].append(found.nll.item())
        kept["answer_entropy"].append(found.entropy.mean().item())
        kept["answer_uncertainty"].append(found.u.mean().item())
        kept["sharpened"].append(found.sharpened.float().mean().item())
        loss = found.loss
        if num_items_in_batch is not None:  # Trainer leaves the accumulation to the loss
            loss = loss / self.current_gradient_accumulation_steps
        return (loss, out) if return_outputs else loss


def trainer(
    recipe: Recipe, feeder: Feeder, pairs: Sequence[Pair], out: Path, callbacks: Sequence[TrainerCallback] = (), *,
    plain: bool = False,
) -> AnsCO:  # fmt: skip
    """The trainer of a recipe's Ans-CO on the pairs' chosen answers.

    Raises ValueError where a chosen answer has tags but no answer in them: all of them are looked at beforehand.
    """
    model, tokenizer = feeder.model.model, feeder.model.processor.tokenizer
    for pair in pairs:
        try:
            tags.answer_span(pair.chosen)
        except ValueError as error:
            raise ValueError(f"pair {pair.id}: {error}") from error
    trainers.freeze(recipe, model)
    config = SFTConfig(
        **trainers.arguments(recipe, out, feeder.model.thinker.device),
        max_length=None,  # truncation would cut placeholders
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    with trainers.calm():
        made = AnsCO(
            model=model, args=config, train_dataset=trainers.dataset(pairs), processing_class=tokenizer,
            data_collator=Answers(feeder, pairs, plain=plain), peft_config=trainers.adapter(recipe, model),
            callbacks=list(callbacks),
        )  # fmt: skip
    made.order = trainers.order(recipe, feeder, pairs)
    ready: AnsCO = trainers.ready(made, recipe, unsure=recipe.uncertainty == "top10")
    return ready
