"""Step-RR on TRL's loop: what is paid becomes likelier, media are there on both sides, and nothing is lost."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import small_sets  # noqa: E402
from earwitness.align import forward, grpo, losses, recipes, sampling, tags, trainers, training  # noqa: E402
from earwitness.align.feeding import Feeder  # noqa: E402
from earwitness.align.packing import pack  # noqa: E402
from earwitness.align.recipes import Recipe  # noqa: E402
from earwitness.datasets.opening import open_clips  # noqa: E402
from earwitness.models import qwen_plain  # noqa: E402
from earwitness.models.load import HANS  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.records import ClipSet, Intervention, Pair  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return small_sets.write(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    torch.set_num_threads(1)
    return open_clips("foley", limit=small_sets.CLIPS, seed=small_sets.SEED)


def quick(**changes: object) -> Recipe:
    kept: dict[str, object] = {
        "similarity": "words", "rewards": ("correct",), "tokens": 4, "group": 4, "batch": 2, "steps": 2,
        "rate": 1e-2, "warmup": 0.0, "schedule": "constant", "temperature": 1.5, "precision": "float32",
        "validate_every": 2, "validation": 4,
    }  # fmt: skip
    return recipes.named("comm-grpo", **{**kept, **changes})


def swapped() -> list[Pair]:
    """Questions about the sound of clips whose sound is another's: Hans mostly says what it sees."""
    return [p for p in small_sets.pairs() if (p.part, p.item.condition) == ("mma-audio", "audio_swapped")]


def hans(
    clips: ClipSet, tmp_path: Path, pairs: list[Pair] | None = None, plain: bool = False, **changes: Any
) -> Any:
    some = small_sets.pairs()[:4] if pairs is None else pairs
    return grpo.trainer(quick(**changes), Feeder(QwenOmni(HANS), clips), some, tmp_path, plain=plain)


def drawn(made: Any) -> dict[str, Any]:
    """The first batch of a trainer that has not begun: answers, their rewards turned into advantages, all."""
    with trainers.calm():
        made.current_gradient_accumulation_steps = made.args.gradient_accumulation_steps
        made.model.train()
        batch: dict[str, Any] = made._prepare_inputs(next(iter(made.get_train_dataloader())))
        return batch


def answers(made: Any, batch: dict[str, Any]) -> list[tuple[int, ...]]:
    return [
        tuple(ids[mask.bool()].tolist())
        for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True)
    ]


# --- TRL is the one that was read -------------------------------------------------------------------------------

MEDIA = (
    "pixel_values, image_grid_thw, num_images, pixel_attention_mask, spatial_shapes, num_tiles, image_sizes, "
    "token_type_ids, mm_token_type_ids, image_position_ids"
)
SIGNATURES = {
    "_tokenize_prompts": "self, prompts",
    "_generate_single_turn": "self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images",
    "_generate_and_score_completions": "self, inputs",
    "_get_per_token_logps_and_entropies": "self, model, input_ids, attention_mask, logits_to_keep, batch_size, "
    f"compute_entropy, compute_aux_loss, {MEDIA}",
    "_prepare_inputs": "self, generation_batch",
    "_calculate_rewards": "self, inputs, prompts, completions, completion_ids_list",
    "_compute_loss": "self, model, inputs",
}


def test_the_private_methods_that_are_overridden_are_still_those_of_trl_1_16() -> None:
    own = {n for n, f in vars(grpo.StepRR).items() if inspect.isfunction(f) and hasattr(grpo.GRPOTrainer, n)}
    assert own - {"__init__"} == set(SIGNATURES)
    for name, told in SIGNATURES.items():
        theirs = inspect.signature(getattr(grpo.GRPOTrainer, name))
        assert ", ".join(theirs.parameters) == told, f"TRL's {name} has changed: read it again"


# --- the loss has the right sign --------------------------------------------------------------------------------


def test_what_is_paid_becomes_likelier_and_with_the_sign_turned_less_likely(clips: ClipSet, tmp_path: Path) -> None:
    """A bandit: one of two things that Hans may say is paid. The released trainer had the other sign."""
    first = hans(clips, tmp_path, swapped()[:1], steps=1, group=2, batch=1, validate_every=100)

    def chance(some: Any, pair: Pair) -> float:
        with torch.no_grad():
            out = forward.score(some.feeder.model.model, pack(some.feeder.rows([pair.item], [pair.chosen])))
        return float(out.log_probs.sum().exp())

    pair = next(p for p in swapped() if 0.3 < chance(first, p) < 0.7)  # said now and then, so that it can be paid
    found = {}
    for sign in (1.0, -1.0):
        made = hans(
            clips, tmp_path, [pair], steps=5, group=8, batch=1, rate=1e-3, reward_weights=(sign,),
            validate_every=100,
        )  # fmt: skip

        before = chance(made, pair)
        with trainers.calm():
            made.train()
        found[sign] = (before, chance(made, pair))
    assert 0.3 < found[1.0][0] == found[-1.0][0] < 0.7
    assert found[1.0][1] > 0.8
    assert found[-1.0][1] < 0.05


def test_the_gradient_is_that_of_our_pure_loss(clips: ClipSet, tmp_path: Path) -> None:
    """Both ways of averaging over tokens; answers of different lengths."""
    for reduce in ("grpo", "dapo"):
        made = hans(clips, tmp_path, swapped()[:2], reduce=reduce, temperature=2.5)
        batch = drawn(made)
        assert len({len(a) for a in answers(made, batch)}) > 1
        made.compute_loss(made.model, dict(batch)).backward()
        theirs = {n: p.grad.clone() for n, p in made.model.named_parameters() if p.grad is not None}
        made.model.zero_grad()
        made._compute_loss(made.model, dict(batch))
        losses.grpo(made._logps, batch["advantages"], batch["completion_mask"], reduce=reduce).backward()
        ours = {n: p.grad for n, p in made.model.named_parameters() if p.grad is not None}
        assert ours.keys() == theirs.keys()
        assert max(g.abs().max() for g in ours.values()) > 1e-3
        for name, g in ours.items():
            assert torch.allclose(g, theirs[name], atol=1e-6), name


# --- media on both sides ----------------------------------------------------------------------------------------


def test_log_probs_change_when_the_sound_changes(clips: ClipSet, tmp_path: Path) -> None:
    """The released trainer scored without the media inputs."""
    made = hans(clips, tmp_path)
    batch = drawn(made)
    made._compute_loss(made.model, dict(batch))
    heard = made._logps.detach()
    assert torch.allclose(heard, batch["sampling_per_token_logps"], atol=1e-4)
    muted = [msgspec.structs.replace(i, intervention=Intervention(kind="mute")) for i in made._asked["train"]]
    made._asked["train"] = muted
    made._step = 99  # the first-step check is another test
    made._compute_loss(made.model, dict(batch))
    mask = batch["completion_mask"].bool()
    assert (made._logps.detach() - heard).abs()[mask].max() > 1e-3


def test_the_first_step_check_catches_media_that_are_lost_at_scoring(
    clips: ClipSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = hans(clips, tmp_path, validate_every=100)
    with trainers.calm():
        made.train()
    gaps = [line["first_step_gap"] for line in made.state.log_history if "first_step_gap" in line]
    assert len(gaps) == 1  # once
    assert gaps[0] < grpo.GAP / 10
    real: Callable[..., Any] = Feeder.rows

    def deaf(self: Feeder, items: Any, said: Any) -> Any:
        return real(self, [msgspec.structs.replace(i, intervention=Intervention(kind="mute")) for i in items], said)

    monkeypatch.setattr(Feeder, "rows", deaf)
    made = hans(clips, tmp_path)
    with trainers.calm(), pytest.raises(ValueError, match="media were lost on one side"):
        made.train()


def test_media_tokens_are_never_drawn(clips: ClipSet, tmp_path: Path) -> None:
    made = hans(clips, tmp_path)
    wanted = torch.tensor(made.feeder.model.thinker.suppressed)

    def biased(_: Any, __: Any, out: Any) -> Any:
        return out.index_add(-1, wanted, torch.full((*out.shape[:-1], len(wanted)), 50.0))

    made.feeder.model.model.get_output_embeddings().register_forward_hook(biased)
    batch = drawn(made)
    assert not {t for a in answers(made, batch) for t in a} & set(wanted.tolist())
    made._compute_loss(made.model, dict(batch))  # and can be scored


def test_generate_still_takes_media_from_a_model_in_training(clips: ClipSet, tmp_path: Path) -> None:
    """It looks at the forward's signature, and the forward is ours by then."""
    made = hans(clips, tmp_path)
    item = small_sets.pairs()[0].item
    thinker = made.feeder.model.thinker
    batch = qwen_plain.process(thinker, item, made.feeder.media(item))
    with torch.no_grad():
        out = made.model.generate(**batch, use_audio_in_video=True, max_new_tokens=3, do_sample=False)
    ((greedy,),) = sampling.say(made.feeder, [item], tokens=3)
    assert tuple(out[0, batch["input_ids"].shape[1] :].tolist())[: len(greedy.tokens)] == greedy.tokens


def test_answers_have_their_log_probs_at_the_temperature_and_seeds_of_their_own(clips: ClipSet) -> None:
    feeder = Feeder(QwenOmni(HANS), clips)
    items = [p.item for p in small_sets.pairs()[:3]]
    told: dict[str, Any] = {"tokens": 5, "temperature": 2.5}
    together = sampling.say(feeder, [i for i in items for _ in range(4)], seeds=list(range(12)), **told)
    alone = [sampling.say(feeder, [items[n // 4]], seeds=[n], **told)[0] for n in range(12)]
    assert [s[0].tokens for s in together] == [s[0].tokens for s in alone]
    assert len({s[0].tokens for s in together}) > 4
    with torch.no_grad():
        rows = feeder.rows([i for i in items for _ in range(4)], [s[0].tokens for s in together])
        out = forward.score(feeder.model.model, pack(rows), temperature=2.5)
    for (s,), logs, mask in zip(together, out.log_probs, out.label_mask, strict=True):
        assert logs[mask].tolist() == pytest.approx(list(s.logprobs), abs=1e-4)
    with pytest.raises(ValueError, match="2 seeds for 3 items"):
        sampling.say(feeder, items, seeds=[1, 2], **told)


def test_draws_follow_the_probabilities() -> None:
    p = torch.tensor([0.5, 0.0, 0.3, 0.2])
    many = 4000
    numbers = torch.rand(many, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    draw = sampling._Drawing([1] * many, set(), numbers, 1.0)
    shares = torch.bincount(draw(p.log().expand(many, 4)), minlength=4) / many
    assert shares[1] == 0
    assert torch.allclose(shares, p, atol=0.03)
    first = sampling._Drawing([1] * many, set(), numbers, 0.6)(p.log().expand(many, 4))
    assert set(first.tolist()) == {0, 2}


# --- packed is plain ---------------------------------------------------------------------------------------------


def test_packed_and_plain_give_the_same_answers_log_probs_and_gradients(
    folder: Path, clips: ClipSet, tmp_path: Path
) -> None:
    """Both families, all layers learning."""
    found = []
    for plain in (False, True):
        recipe = quick(trains="text", group=6, rewards=("correct", "format"), reward_weights=(1.0, 0.5))
        made = grpo.trainer(recipe, Feeder(QwenOmni(folder), clips), small_sets.pairs()[:3], tmp_path, plain=plain)
        batch = drawn(made)
        batch["advantages"] = torch.linspace(-1, 1, 12)  # a random model earns nothing
        loss = made.compute_loss(made.model, dict(batch))
        loss.backward()
        grads = {n: p.grad for n, p in made.model.named_parameters() if p.grad is not None}
        found.append((answers(made, batch), made._logps.detach(), loss.item(), grads))
    (said, logs, loss, grads), (others, theirs, other, plainly) = found
    assert said == others
    assert torch.allclose(logs, theirs, atol=1e-5)
    assert loss == pytest.approx(other, abs=1e-5)
    assert grads.keys() == plainly.keys()
    assert max(g.abs().max() for g in grads.values()) > 1e-3
    for name, g in grads.items():
        assert torch.allclose(g, plainly[name], atol=1e-5), name


def test_answers_to_one_question_stay_in_one_batch(clips: ClipSet, tmp_path: Path) -> None:
    """TRL shuffles all answers of a step over its parts; then there would be little to share."""
    made = hans(clips, tmp_path, batch=1, accumulate=3, validate_every=100)
    drawn(made)
    parts = made._buffered_inputs
    assert len(parts) == 3
    for part in parts:
        assert len({made._asked["train"][n].id for n in part["asked"].tolist()}) == 1
    assert sorted(n for part in parts for n in part["asked"].tolist()) == list(range(12))
    for part in parts:  # and everything else went along
        made._at = part["asked"].tolist()
        made._compute_loss(made.model, dict(part))
        mask = part["completion_mask"].bool()
        assert torch.allclose(made._logps[mask], part["sampling_per_token_logps"][mask], atol=1e-4)


# --- what is paid ------------------------------------------------------------------------------------------------


def told(made: Any, texts: list[str]) -> dict[str, Any]:
    """The batch in which the answers to the first question are these."""
    made._generate_single_turn = lambda *_, **__: ([list(made.feeder.answer(t)) for t in texts], None)
    made.model.train()
    row = made.train_dataset[0]
    with trainers.calm():
        batch: dict[str, Any] = made._generate_and_score_completions([dict(row) for _ in texts])
        return batch


def test_each_answer_is_paid_for_itself(clips: ClipSet, tmp_path: Path) -> None:
    """Faults of the released trainer: an unused reference, similarities with the first answer only, an empty answer
    that matched everything, "one" found in "none"."""
    pair = next(p for p in small_sets.pairs() if p.part == "mma-audio" and p.item.condition == "aligned")
    right, reference = pair.item.target or "", pair.reference
    made = hans(clips, tmp_path, [pair], group=6, batch=1, rewards=("format", "arr", "avc"))
    other = "I hear a ship that is far away."
    batch = told(
        made,
        [
            tags.written(other, "I see a stone.", right),  # not what the reference heard
            tags.written(reference, reference, right),
            tags.written(reference, "I see a stone.", right),
            f"<a-think>{reference}</a-think><v-think>{reference}</v-think><answer></answer>",
            tags.written(reference, reference, f"{right}ish"),  # holds the right one, is another word
            right,  # without tags there is no part that answers
        ],
    )
    form, arr, avc = made._paid.unbind(1)
    assert form.tolist() == [1, 1, 1, 0, 1, 0]
    assert arr.tolist() == [0, 1, 1, 0, 0, 0]
    assert avc[1] == pytest.approx(2.0)
    assert 1.0 <= avc[0] < 1.5
    assert 1.0 <= avc[2] < 1.5
    assert avc[3] == 0
    assert avc[4] == pytest.approx(1.0)
    assert avc[5] == 0
    ours = losses.group_advantages(made._paid.sum(1), 6)
    assert torch.allclose(batch["advantages"], ours)
    assert torch.allclose(torch.tensor(list(made._logs["advantages"])[-6:]), ours, atol=1e-5)  # TRL's own


def test_a_group_that_is_paid_alike_has_advantage_0(clips: ClipSet, tmp_path: Path) -> None:
    made = hans(clips, tmp_path, group=6, batch=1, rewards=("correct", "format"), reward_weights=(0.7, 1.1))
    batch = told(made, [small_sets.pairs()[0].chosen] * 6)
    assert made._paid[:, 0].tolist() == [1.0] * 6
    assert batch["advantages"].tolist() == [0.0] * 6
    made._paid = torch.tensor([[0.1], [0.1 + 1e-8]] * 3)  # rounding is no spread
    made.reward_weights = torch.ones(1)
    assert made._advantages().tolist() == [0.0] * 6
    made._paid = torch.tensor([[1.0], [torch.nan], [0.0]] * 2)
    assert made._advantages().tolist()[1] == 0.0
    assert made._advantages()[0] == -made._advantages()[2]


def test_answers_that_are_cut_off_teach_nothing_where_the_recipe_says_so(clips: ClipSet, tmp_path: Path) -> None:
    for masked in (False, True):
        made = hans(clips, tmp_path, tokens=1, mask_truncated=masked)  # no answer ends within one token
        batch = drawn(made)
        batch["advantages"] = torch.ones(8)
        made.compute_loss(made.model, dict(batch)).backward()
        moved = max(float(p.grad.abs().max()) for p in made.model.parameters() if p.grad is not None)
        assert (moved > 0) is not masked


def test_validation_by_trl_asks_with_media_too(clips: ClipSet, tmp_path: Path) -> None:
    made = hans(clips, tmp_path)
    with trainers.calm():
        found = made.evaluate(grpo.dataset(small_sets.pairs()[4:6]))
    assert {"eval_reward", "eval_rewards/correct/mean"} <= set(found)
    assert {i.id for i in made._asked["eval"]} == {p.item.id for p in small_sets.pairs()[4:6]}


# --- a whole stage ------------------------------------------------------------------------------------------------


def test_a_stage_on_both_families_leaves_curves_of_every_reward(folder: Path, data: Path, tmp_path: Path) -> None:
    """One pass with RL-CoMM's group of six and its three rewards."""
    recipe = quick(
        group=6, batch=1, rewards=("format", "arr", "avc", "correct"), steps=2, accumulate=2, rank=8, validation=2
    )
    done = training.align(recipe, data, QwenOmni(folder), tmp_path / "out")
    assert done.steps == 2
    lines = [line for line in training.read_log(tmp_path / "out") if "loss" in line]
    assert len(lines) == 2
    for name in recipe.rewards:
        assert f"rewards/{name}/mean" in lines[0]
    assert {"reward", "reward_std", "frac_reward_zero_std", "completions/mean_length", "entropy"} <= set(lines[0])
    assert lines[0]["first_step_gap"] < grpo.GAP
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").exists()
    QwenOmni(tmp_path / "out" / "model")


def test_a_stage_that_was_stopped_goes_on_to_the_same_answers(data: Path, tmp_path: Path) -> None:
    recipe = quick(steps=3, accumulate=2, batch=1, group=3, temperature=2.5, validation=0, validate_every=1)
    training.align(recipe, data, QwenOmni(HANS), tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(step: int, _: int, __: dict[str, float]) -> None:
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        training.align(recipe, data, QwenOmni(HANS), tmp_path / "out", progress=kill)
    torch.manual_seed(999)
    training.align(recipe, data, QwenOmni(HANS), tmp_path / "out")

    def curves(out: Path) -> list[tuple[float, ...]]:
        names = ("loss", "grad_norm", "reward", "reward_std", "entropy", "completions/mean_length")
        return [tuple(line[n] for n in names) for line in training.read_log(out) if "loss" in line]

    assert len(curves(tmp_path / "out")) == 3
    for ours, theirs in zip(curves(tmp_path / "out"), curves(tmp_path / "whole"), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert len({line[4] for line in curves(tmp_path / "out")}) == 3


def test_questions_that_no_reward_applies_to_are_skipped_and_counted(data: Path, tmp_path: Path) -> None:
    from earwitness.align.pairs import training_set

    made = training_set.read(data)
    bare = [msgspec.structs.replace(p, item=msgspec.structs.replace(p.item, target=None)) for p in made.train]
    half = (*made.train[:6], *bare[6:])
    training_set.write(tmp_path / "half", training_set.TrainingSet(made.info, half, made.valid))
    training.align(quick(steps=1, validation=0), tmp_path / "half", QwenOmni(HANS), tmp_path / "out")
    info = json.loads((tmp_path / "out" / "align.json").read_text())
    assert info["skipped"] == len(bare) - 6
    training_set.write(tmp_path / "none", training_set.TrainingSet(made.info, tuple(bare), made.valid))
    with pytest.raises(ValueError, match=r"none of its \d+ pairs can be rewarded"):
        training.align(quick(steps=1), tmp_path / "none", QwenOmni(HANS), tmp_path / "other")
    assert grpo.rewardable(quick(rewards=("abstains",)), bare[0])
    assert not grpo.rewardable(quick(rewards=("format", "correct")), bare[0])


def test_recipes_that_cannot_reward_are_refused(clips: ClipSet, tmp_path: Path) -> None:
    feeder, some = Feeder(QwenOmni(HANS), clips), small_sets.pairs()[:2]

    def made(pairs: list[Pair], **changes: object) -> None:
        grpo.trainer(quick(**changes), feeder, pairs, tmp_path)

    silent = [msgspec.structs.replace(p, reference="") for p in some]
    with pytest.raises(ValueError, match="no pair has one"):
        made(silent, rewards=("arr", "correct"))
    with pytest.raises(ValueError, match=r"2 of 2 pairs .* cannot be rewarded"):
        made(silent, rewards=("format", "arr"))
    with pytest.raises(ValueError, match="there are none"):
        made([])
    with pytest.raises(ValueError, match="2 weights for 1 rewards"):
        made(some, reward_weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="no reward 'fluency'"):
        made(some, rewards=("correct", "fluency"))
