"""Step-RR: a group of answers to each question, each paid by what it says; the better ones become likelier.

RL-CoMM's second stage (arXiv 2511.10059, eqs. 1 to 5) is GRPO without a KL term, so there is no reference model;
the rewards are in :mod:`earwitness.align.rewards`. The loop, the optimizer, the loss and the curves are TRL's
GRPOTrainer. What it does not know is media: TRL 1.16 generates with them where the processor makes them, and then
scores and trains without any, and says nothing. So four of its private methods are ours:

==========================================  =====================================================================
``_tokenize_prompts``                       prompts as an audit asks them, media tokens and all
``_generate_single_turn``                   the G answers to a question behind media that are read once, media
                                            tokens never drawn (:mod:`earwitness.align.sampling`)
``_generate_and_score_completions``         the number of each answer's question goes into the batch, since TRL
                                            shuffles and splits it
``_get_per_token_logps_and_entropies``      log-probs of the very tokens that were drawn, at the temperature that
                                            they were drawn at, all answers to a clip in one tree
==========================================  =====================================================================

and three more are added to: ``_prepare_inputs`` (answers to one question stay in one batch after the shuffle),
``_calculate_rewards`` (kept for the advantages: of a group whose rewards are equal they are exactly 0, where TRL's
are rounding over 1e-4) and ``_compute_loss``, which holds the **first-step check**: before anything was learned, a
token's log-prob must be the same when it is scored as when it was drawn. Where media are lost on one side, it is
not. That one check would have caught what is wrong with the trainers that were released for such models. A test
holds the signatures, so that another TRL fails loudly.

An answer is cut off after ``recipe.tokens`` tokens. It counts as it stands (and has the format wrong), as TRL has
it, or teaches nothing at all with ``recipe.mask_truncated``. Dropout is off, whatever the recipe says: what is
scored must be the policy that spoke. Each answer is drawn by a seed of its own, made of recipe, step, question and
number in the group: the same in one process and in eight, packed or not, and after a run that was stopped.

Functions: ``trainer``, ``rewardable``, ``dataset``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from earwitness.models import torchvision_ops  # noqa: F401 - must come before transformers

from datasets import Dataset  # isort: skip
from transformers import TrainerCallback  # isort: skip
from trl import GRPOConfig, GRPOTrainer  # isort: skip

from earwitness.align import losses, rewards, sampling, sharding, trainers
from earwitness.align.embedding import ARR_TASK, AVC_TASK, sentence_similarity
from earwitness.align.feeding import Feeder
from earwitness.align.packing import pack
from earwitness.align.recipes import Recipe
from earwitness.records import Item, Pair, digest

GAP = 1e-3  # nats, float32: the largest difference of a token's log-prob between drawing and scoring
HALF_GAP = 0.1  # nats, 16-bit weights: the mean difference; rounding is below, media that are lost are above


def rewardable(recipe: Recipe, pair: Pair) -> bool:
    """Whether answers to the pair's question can be told apart by one of the recipe's rewards.

    ``format`` alone does not count: it says nothing about the clip.
    """
    truth = pair.item.target is not None
    applies = {
        "correct": truth, "avc": truth, "arr": truth and bool(pair.reference.strip()), "abstains": not truth,
    }  # fmt: skip
    return any(applies.get(name, False) for name in recipe.rewards)


def dataset(pairs: Sequence[Pair]) -> Dataset:
    """A row a pair: its number, what TRL shows as the prompt, and the columns that rewards read."""
    return Dataset.from_dict(
        {
            "row": list(range(len(pairs))),
            "prompt": [p.item.prompt for p in pairs],
            "item": [msgspec.json.encode(p.item).decode() for p in pairs],
            "reference": [p.reference for p in pairs],
        }
    )


class StepRR(trainers.ByRecipe, GRPOTrainer):  # type: ignore[misc]
    """GRPOTrainer that hears and sees, in generation and in scoring alike."""

    _buffered_inputs: list[dict[str, torch.Tensor]] | None

    def __init__(self, *args: Any, feeder: Feeder, plain: bool, **kwargs: Any) -> None:
        self.feeder, self.plain = feeder, plain
        self._asked: dict[str, list[Item]] = {"train": [], "eval": []}
        self._seeds: list[int] = []
        self._at: list[int] = []  # of ``_asked``: the questions of the rows that are scored next
        self._paid = torch.empty(0)
        self._logps = torch.empty(0)
        super().__init__(*args, **kwargs)
        self.eos_token_ids = list(feeder.model.thinker.ends)

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._asked[self._mode] = [msgspec.json.decode(x["item"], type=Item) for x in inputs]
        self._at = list(range(len(inputs)))
        before: dict[int, int] = {}
        self._seeds = []
        for row in (int(x["row"]) for x in inputs):
            number = before[row] = before.get(row, -1) + 1
            name = digest("sample", self.args.seed, self._mode, self.state.global_step, row, number)
            self._seeds.append(int(name, 16))
        out: dict[str, Any] = super()._generate_and_score_completions(inputs)
        here = slice(
            self.accelerator.process_index * len(inputs), (self.accelerator.process_index + 1) * len(inputs)
        )
        out["advantages"] = self._advantages()[here].to(out["advantages"].device)
        out["asked"] = torch.arange(len(inputs), device=self.accelerator.device)
        return out

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        self._paid = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        return self._paid

    def _advantages(self) -> torch.Tensor:
        """Of all processes' answers, eq. 5; 0 where the answers of a group are paid alike, or cannot be paid."""
        weighed = self._paid * self.reward_weights.to(self._paid.device)
        sums = weighed.nansum(1).masked_fill(self._paid.isnan().all(1), torch.nan)
        group = self.num_generations if self._mode == "train" else self.num_generations_eval
        return losses.group_advantages(sums, group)

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        made = self._buffered_inputs
        if self._mode != "train" or made is None or made is before or len(made) == 1:
            return inputs
        order = torch.cat([part["asked"] for part in made]).argsort(stable=True)
        size = len(made[0]["asked"])
        whole = {k: torch.cat([p[k] for p in made])[order] if v.ndim else v for k, v in made[0].items()}
        self._buffered_inputs = [
            {k: v[n * size : (n + 1) * size] if v.ndim else v for k, v in whole.items()} for n in range(len(made))
        ]
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        shown = self.feeder.shown(self._asked[self._mode])
        return [[*s.layout.ids.tolist(), *question] for s, question in shown], None, {}

    def _generate_single_turn(
        self, prompt_ids: Any, images: Any, multimodal_fields: Any, num_generations: int,
        has_tool_images: bool = False,
    ) -> tuple[list[list[int]], list[list[float]]]:  # fmt: skip
        asked = list(zip(self._asked[self._mode], self._seeds, strict=True))
        together, mine = sharding.joined(asked, self.model)
        with self.accelerator.autocast():
            found = sampling.say(
                self.feeder, [item for item, _ in together], tokens=self.max_completion_length,
                temperature=self.temperature, seeds=[seed for _, seed in together],
            )[mine]  # fmt: skip
        return [list(s.tokens) for (s,) in found], [list(s.logprobs) for (s,) in found]

    def _get_per_token_logps_and_entropies(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int,
        batch_size: int | None = None, compute_entropy: bool = False, compute_aux_loss: bool = False, **media: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
        said, counts = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:].bool()
        # an answer that was masked has no token left: its first is scored all the same, and TRL counts it nothing
        counts = counts | ((torch.arange(logits_to_keep, device=said.device) == 0) & ~counts.any(1, keepdim=True))
        size = batch_size or len(input_ids)
        logs: list[torch.Tensor] = []
        entropies: list[torch.Tensor] = []
        for start in range(0, len(input_ids), size):
            some = slice(start, start + size)
            items = [self._asked[self._mode][n] for n in self._at[some]]
            tokens = [t[c].tolist() for t, c in zip(said[some], counts[some], strict=True)]
            packed = pack(self.feeder.rows(items, tokens), plain=self.plain)
            with self.accelerator.autocast():
                out = model(packed=packed)
            where = counts[some].nonzero(as_tuple=True)
            for kept, values in ((logs, out.log_probs), (entropies, out.entropy)):
                kept.append(values.new_zeros(counts[some].shape).index_put(where, values[out.label_mask]))
        self._logps = torch.cat(logs)
        return self._logps, torch.cat(entropies) if compute_entropy else None, None

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._at = inputs["asked"].tolist()
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        if self._mode == "train" and self._step < self.args.steps_per_generation:  # nothing was learned since
            self._check(inputs)
        return loss

    def _check(self, inputs: dict[str, Any]) -> None:
        """Raise where scoring is not of what generation was. All processes raise, or none of them."""
        mask = inputs["completion_mask"].bool()
        gaps = (self._logps.detach() - inputs["sampling_per_token_logps"]).abs()[mask]
        local = torch.stack([gaps.amax(), gaps.mean()]) if len(gaps) else self._logps.new_zeros(2)
        largest, mean = self.accelerator.gather(local[None]).amax(0).tolist()
        self._metrics["train"]["first_step_gap"].append(largest)
        half = self.feeder.model.thinker.dtype != torch.float32 or self.args.bf16 or self.args.fp16
        if not (mean < HALF_GAP if half else largest < GAP):
            raise ValueError(
                f"on the first step the log-probs of drawn tokens differ by up to {largest:.3g} nats (mean "
                f"{mean:.3g}) between generation and scoring: media were lost on one side, or are not the same on "
                "both (does something else feed the model, or change its forward?)"
            )


def trainer(
    recipe: Recipe, feeder: Feeder, pairs: Sequence[Pair], out: Path, callbacks: Sequence[TrainerCallback] = (), *,
    plain: bool = False,
) -> StepRR:  # fmt: skip
    """GRPO with a recipe's rewards on the questions of pairs; what they hold as chosen answers is not used.

    ``plain`` scores each answer as a row of its own: the usual way, to compare with. ``recipe.batch`` counts
    questions, so a device holds ``batch * group`` answers at once.

    Raises
    ------
    ValueError
        For pairs that no reward applies to (``rewardable``), for ``arr`` where no pair has a reference, for weights
        that are not one a reward, and for a reward or a similarity that there is not.
    """
    unpaid = [p for p in pairs if not rewardable(recipe, p)]
    if unpaid or not pairs:
        raise ValueError(
            f"{len(unpaid)} of {len(pairs)} pairs ({unpaid[0].id if unpaid else 'there are none'}) cannot be "
            f"rewarded by {', '.join(recipe.rewards)}: correct, arr and avc need the item's target, arr a "
            "reference, abstains an item without a target"
        )
    if "arr" in recipe.rewards and not any(p.reference.strip() for p in pairs):
        raise ValueError(
            "the reward arr compares with the pairs' references, and no pair has one: make them first "
            "with `earwitness references SET -m MODEL`"
        )
    if recipe.reward_weights and len(recipe.reward_weights) != len(recipe.rewards):
        raise ValueError(
            f"{len(recipe.reward_weights)} weights for {len(recipe.rewards)} rewards: one each, or none"
        )
    model, device = feeder.model.model, feeder.model.thinker.device
    tasks = {"arr": ARR_TASK, "avc": AVC_TASK}
    paid = [
        rewards.for_trl(
            name,
            sentence_similarity(recipe.similarity, task=tasks[name], device=str(device)) if name in tasks else None,
            omega=recipe.omega,
        )
        for name in recipe.rewards
    ]
    trainers.freeze(recipe, model)
    told = trainers.arguments(recipe, out, device)
    each = recipe.batch * recipe.group
    config = GRPOConfig(
        **{**told, "per_device_train_batch_size": each, "per_device_eval_batch_size": each},
        num_generations=recipe.group,
        max_completion_length=recipe.tokens,
        temperature=recipe.temperature,
        beta=0.0,  # RL-CoMM: "we have removed the KL loss"
        epsilon=recipe.epsilon,
        loss_type=recipe.reduce,
        scale_rewards="group",
        reward_weights=list(recipe.reward_weights) or None,
        mask_truncated_completions=recipe.mask_truncated,
        disable_dropout=True,
    )
    with trainers.calm():
        made = StepRR(
            model=model, reward_funcs=list(paid), args=config, train_dataset=dataset(pairs),
            processing_class=feeder.model.processor.tokenizer, peft_config=trainers.adapter(recipe, model),
            callbacks=list(callbacks), feeder=feeder, plain=plain,
        )  # fmt: skip
    ready: StepRR = trainers.ready(made, recipe, temperature=recipe.temperature)
    return ready
