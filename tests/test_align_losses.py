"""Losses against numbers worked out by hand and against TRL's own code with its gradients; where they lead."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training is an extra")

from earwitness.align import losses  # noqa: E402
from earwitness.align.losses import (  # noqa: E402
    ans_co,
    dpo,
    dpo_nll,
    group_advantages,
    grpo,
    nll,
    sequence_log_prob,
    token_entropy,
    uncertainty,
)

Tensor = Any


def _batch(rows: int = 6, length: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probs [R, T] with a gradient, and a mask of rows of different lengths."""
    g = torch.Generator().manual_seed(seed)
    logp = -torch.rand(rows, length, generator=g) * 3
    mask = torch.arange(length)[None] < torch.randint(1, length + 1, (rows, 1), generator=g)
    return logp.requires_grad_(), mask.long()


def _same(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    """Equal values and equal gradients."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    a = torch.autograd.grad(ours, inputs, retain_graph=True)
    b = torch.autograd.grad(theirs, inputs, retain_graph=True)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)
        assert float(x.abs().sum()) > 0


# --- of logits and rows ---


def test_log_prob_and_entropy_of_a_token() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])  # p = 1/4, 3/4
    assert losses.token_log_prob(logits, torch.tensor([1])).item() == pytest.approx(math.log(0.75))
    want = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert token_entropy(logits).item() == pytest.approx(want)
    assert token_entropy(logits.log_softmax(-1)).item() == pytest.approx(want), "log-probs are logits too"


def test_a_suppressed_token_is_none_of_the_distribution() -> None:
    logits = torch.tensor([0.0, -torch.inf, 0.0], requires_grad=True)
    h = token_entropy(logits)
    assert h.item() == pytest.approx(math.log(2))
    (grad,) = torch.autograd.grad(h, logits)
    assert grad.isfinite().all()


def test_uncertainty_lies_between_0_and_1() -> None:
    flat = torch.zeros(3, 40)
    assert uncertainty(flat).tolist() == pytest.approx([1.0] * 3)
    assert uncertainty(flat, "top10").tolist() == pytest.approx([1.0] * 3)
    ten = torch.full((40,), -50.0)
    ten[:10] = 0.0  # ten answers, evenly
    assert uncertainty(ten).item() == pytest.approx(math.log(10) / math.log(40), abs=1e-6)
    assert uncertainty(ten, "top10").item() == pytest.approx(1.0)
    sure = torch.zeros(40)
    sure[3] = 100.0
    assert uncertainty(sure, "top10").item() == pytest.approx(0.0, abs=1e-6)
    assert not uncertainty(ten.requires_grad_(), "top10").requires_grad
    with pytest.raises(ValueError, match="known: entropy, top10"):
        uncertainty(flat, "top5")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="one token"):
        uncertainty(torch.zeros(3, 1))


def test_top10_is_the_lens_s_measure() -> None:
    from earwitness.whitebox.lens import _measures

    logits = torch.randn(5, 60, generator=torch.Generator().manual_seed(1)) * 3
    logp = logits.log_softmax(-1)
    top10, whole, *_ = _measures(logp, logp, torch.zeros(5, 1, dtype=torch.long))
    torch.testing.assert_close(uncertainty(logits, "top10"), top10)
    torch.testing.assert_close(uncertainty(logits), whole)


def test_what_stands_outside_the_mask_is_never_read() -> None:
    logp = torch.tensor([[-1.0, -2.0, torch.nan], [-3.0, -torch.inf, torch.nan]], requires_grad=True)
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert sequence_log_prob(logp, mask).tolist() == [-3.0, -3.0]
    for loss in (nll(logp, mask), grpo(logp, torch.tensor([1.0, -1.0]), mask)):
        (grad,) = torch.autograd.grad(loss, logp)
        assert grad.isfinite().all()
        assert (grad[mask == 0] == 0).all()
    with pytest.raises(ValueError, match="not shifted"):
        sequence_log_prob(logp, mask[:, 1:])


# --- supervised ---


def test_nll_by_token_and_by_row() -> None:
    logp = torch.tensor([[-1.0, -2.0, -3.0], [-4.0, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert nll(logp, mask).item() == pytest.approx(10 / 4)
    assert nll(logp, mask, per="row").item() == pytest.approx((2 + 4) / 2)
    parts = [nll(logp[n : n + 1], mask[n : n + 1], tokens=4) for n in range(2)]
    assert sum(parts).item() == pytest.approx(10 / 4), "accumulated in parts"
    with pytest.raises(ValueError, match="row 1 of 2 has no scored token"):
        nll(logp, torch.tensor([[1, 1, 1], [0, 0, 0]]))
    with pytest.raises(ValueError, match="per='token'"):
        nll(logp, mask, per="row", tokens=4)


def test_nll_is_cross_entropy() -> None:
    g = torch.Generator().manual_seed(3)
    logits = torch.randn(4, 6, 11, generator=g, requires_grad=True)
    ids = torch.randint(0, 11, (4, 6), generator=g)
    mask = torch.rand(4, 6, generator=g) > 0.4
    mask[:, 0] = True
    ours = nll(losses.token_log_prob(logits, ids), mask)
    theirs = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids.masked_fill(~mask, -100))
    _same(ours, theirs, logits)


# --- preferences ---


def test_dpo_by_hand() -> None:
    args = [torch.tensor([x]) for x in (-1.0, -2.0, -1.5, -1.0)]
    d = (-1.0 - -1.5) - (-2.0 - -1.0)  # 1.5
    sigma = 1 / (1 + math.exp(-0.1 * d))
    assert dpo(*args).item() == pytest.approx(-math.log(sigma))
    assert dpo(*args, smoothing=0.2).item() == pytest.approx(-0.8 * math.log(sigma) - 0.2 * math.log(1 - sigma))
    same = torch.zeros(1)
    assert dpo(same, same, same, same).item() == pytest.approx(math.log(2))
    with pytest.raises(ValueError, match="beta must be above 0"):
        dpo(*args, beta=0.0)
    with pytest.raises(ValueError, match="label smoothing"):
        dpo(*args, smoothing=0.5)


def test_dpo_makes_the_chosen_likelier_than_the_rejected() -> None:
    chosen, rejected = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    up, down = torch.autograd.grad(dpo(chosen, rejected, torch.zeros(1), torch.zeros(1)).sum(), (chosen, rejected))
    assert up.item() < 0 < down.item(), "downhill raises the chosen and lowers the rejected"


@pytest.fixture(scope="module")
def trl() -> Any:
    """TRL's trainers, whose own methods are called with a stand-in for the trainer."""
    pytest.importorskip("trl", reason="training is an extra")
    from earwitness.models import torchvision_ops  # noqa: F401 - before transformers
    from trl.trainer import dpo_trainer, grpo_trainer, utils  # isort: skip

    return SimpleNamespace(DPO=dpo_trainer.DPOTrainer, GRPO=grpo_trainer.GRPOTrainer, utils=utils)


class _Metrics(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        self[key] = _Metrics() if key in ("train", "eval") else []
        return self[key]


def _accelerator() -> Any:
    def same(x: Any, reduction: str = "") -> Any:
        return x

    return SimpleNamespace(device="cpu", num_processes=1, gather=same, gather_for_metrics=same, reduce=same)


def _trl_dpo(
    trl: Any, logp: Tensor, mask: Tensor, reference: Tensor, types: list[str], weights: list[float]
) -> Any:
    """DPOTrainer._compute_loss on given log-probs [2P, T] (chosen first) and reference log-probs [2P]."""
    none = torch.zeros_like(logp)
    out = SimpleNamespace(log_probs=logp, entropy=none, mean_logits=none, is_top1=none.bool())
    stub = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=_accelerator(), aux_loss_enabled=False, ld_alpha=None,
        precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=types, loss_weights=weights, beta=0.1,
        label_smoothing=0.0, use_weighting=False, _metrics=_Metrics(), _total_train_tokens=0, _tp_size=1,
        args=SimpleNamespace(),
    )  # fmt: skip
    completion = torch.cat([torch.zeros(len(mask), 1, dtype=torch.long), mask], 1)
    half = len(mask) // 2
    inputs = {
        "input_ids": torch.zeros_like(completion), "attention_mask": completion, "completion_mask": completion,
        "ref_chosen_logps": reference[:half], "ref_rejected_logps": reference[half:],
    }  # fmt: skip
    return trl.DPO._compute_loss(stub, lambda **_: out, inputs, False)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_dpo_is_trl_s(trl: Any, weight: float) -> None:
    logp, mask = _batch(8)
    masked = torch.where(mask.bool(), logp, torch.zeros(()))  # TRL's fused head leaves 0 where no token counts
    reference = -torch.rand(8, generator=torch.Generator().manual_seed(9)) * 9
    types, weights = (["sigmoid", "sft"], [1.0, weight]) if weight else (["sigmoid"], [1.0])
    theirs = _trl_dpo(trl, masked, mask, reference, types, weights)
    ours = dpo_nll(logp[:4], mask[:4], logp[4:], mask[4:], reference[:4], reference[4:], beta=0.1, weight=weight)
    _same(ours, theirs, logp)
    if not weight:
        sums = sequence_log_prob(logp, mask)
        _same(dpo(sums[:4], sums[4:], reference[:4], reference[4:]).mean(), theirs, logp)


# --- rewards ---


def test_advantages_by_hand() -> None:
    rewards = [0.0, 1.0, 2.0, 1.0, 1.0, 4.0]
    sample = group_advantages(rewards, 3, eps=0.0)
    assert sample.tolist() == pytest.approx(
        [-1.0, 0.0, 1.0, -1 / math.sqrt(3), -1 / math.sqrt(3), 2 / math.sqrt(3)]
    )
    population = group_advantages(rewards, 3, std="population", eps=0.0)
    assert population[:3].tolist() == pytest.approx([-math.sqrt(1.5), 0.0, math.sqrt(1.5)])
    assert population[0].item() == pytest.approx(sample[0].item() * math.sqrt(3 / 2))
    six = torch.tensor([0.0, 1.0, 1.0, 0.0, 2.0, 1.0])
    ratio = group_advantages(six, 6, std="population", eps=0.0) / group_advantages(six, 6, eps=0.0)
    assert ratio[0].item() == pytest.approx(1.095, abs=5e-4), "the docstring's 9.5 %"


def test_a_group_without_spread_teaches_nothing() -> None:
    rewards = [2.0, 2.0, 2.0, 0.1 + 0.2, 0.3, 0.3, 0.0, 1.0, 0.0]
    for eps in (0.0, 1e-4):
        adv = group_advantages(rewards, 3, eps=eps)
        assert adv[:6].tolist() == [0.0] * 6, "the second group differs by rounding alone"
        assert adv[6:].abs().sum() > 1
    logp, mask = _batch(3)
    assert grpo(logp, group_advantages([1.0, 1.0, 1.0], 3), mask).item() == 0.0


def test_what_cannot_be_scored_is_left_out() -> None:
    adv = group_advantages([0.0, 2.0, None, None, 3.0, None], 3, eps=0.0)
    assert adv.tolist() == pytest.approx([-1 / math.sqrt(2), 1 / math.sqrt(2), 0.0, 0.0, 0.0, 0.0])
    assert group_advantages([None] * 4, 2).tolist() == [0.0] * 4
    for rewards, group in (([1.0, 2.0, 3.0], 2), ([1.0, 2.0], 1), ([], 2)):
        with pytest.raises(ValueError, match="no groups of"):
            group_advantages(rewards, group)
    with pytest.raises(ValueError, match="known: sample, population"):
        group_advantages([1.0, 2.0], 2, std="robust")  # type: ignore[arg-type]


def test_advantages_are_trl_s(trl: Any) -> None:
    """The lines of GRPOTrainer (scale_rewards="group") with TRL's own nanstd."""
    g = torch.Generator().manual_seed(4)
    rewards = torch.rand(24, generator=g) * 3
    rewards[[1, 5]] = torch.nan
    mean = torch.nanmean(rewards.view(-1, 8), dim=1).repeat_interleave(8)
    std = trl.utils.nanstd(rewards.view(-1, 8), dim=1).repeat_interleave(8)
    theirs = torch.nan_to_num((rewards - mean) / (std + 1e-4), nan=0.0)
    torch.testing.assert_close(group_advantages(rewards, 8), theirs)


def _trl_grpo(
    trl: Any, logp: Tensor, mask: Tensor, adv: Tensor, old: Tensor | None, kind: str, clip: tuple[float, float],
    *, items: int, accumulate: int = 1,
) -> Any:  # fmt: skip
    """GRPOTrainer._compute_loss on given log-probs."""
    stub = SimpleNamespace(
        model=SimpleNamespace(training=True), accelerator=_accelerator(), aux_loss_enabled=False, beta=0.0,
        _get_per_token_logps_and_entropies=lambda *_, **__: (logp, torch.zeros_like(logp), None),
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", loss_type=kind,
        epsilon_low=clip[0], epsilon_high=clip[1], use_vllm=False, _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=accumulate, _metrics=_Metrics(),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=accumulate),
    )  # fmt: skip
    zero = torch.zeros(len(mask), 1, dtype=torch.long)
    inputs = {
        "prompt_ids": zero, "prompt_mask": zero + 1, "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask, "advantages": adv, "num_items_in_batch": torch.tensor(float(items)),
    }  # fmt: skip
    if old is not None:
        inputs["old_per_token_logps"] = old
    loss = trl.GRPO._compute_loss(stub, None, inputs)
    return loss, stub._metrics["train"]["clip_ratio/region_mean"][0]


@pytest.mark.parametrize("reduce", ["grpo", "dapo"])
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("clip_high", [None, 0.28])
def test_grpo_is_trl_s(trl: Any, reduce: Any, moved: bool, clip_high: float | None) -> None:
    logp, mask = _batch(8, seed=5)
    adv = group_advantages(torch.rand(8, generator=torch.Generator().manual_seed(6)), 4)
    old = None
    if moved:  # some ratios beyond the bounds, on both sides
        old = logp.detach() + torch.randn(8, 7, generator=torch.Generator().manual_seed(7)) * 0.4
    ours = grpo(logp, adv, mask, old=old, clip=0.2, clip_high=clip_high, reduce=reduce)
    high = 0.2 if clip_high is None else clip_high
    theirs, held = _trl_grpo(trl, logp, mask, adv, old, reduce, (0.2, high), items=int(mask.sum()))
    _same(ours, theirs, logp)
    if old is not None:
        assert losses.clipped(logp, old, adv, mask, clip_high=clip_high) == pytest.approx(held)
    assert (held > 0) == moved


def test_dapo_in_parts_is_trl_s_and_the_whole(trl: Any) -> None:
    """Two micro-batches of one optimizer step: each is divided by the tokens of both."""
    logp, mask = _batch(8, seed=8)
    adv = group_advantages(torch.rand(8, generator=torch.Generator().manual_seed(6)), 4)
    tokens, whole = int(mask.sum()), grpo(logp, adv, mask)
    parts = []
    for some in (slice(0, 4), slice(4, 8)):
        ours = grpo(logp[some], adv[some], mask[some], tokens=tokens)
        args = (trl, logp[some], mask[some], adv[some], None, "dapo", (0.2, 0.2))
        _same(ours, _trl_grpo(*args, items=tokens, accumulate=2)[0], logp)
        parts.append(ours)
    torch.testing.assert_close(sum(parts), whole)


def test_grpo_clips_by_hand() -> None:
    old, mask = torch.zeros(1, 1), torch.ones(1, 1)
    for ratio, adv, value, slope in [
        (1.5, 1.0, -1.2, 0.0),  # far enough up: held
        (0.5, 1.0, -0.5, -0.5),  # too low: pulled up
        (0.5, -1.0, 0.8, 0.0),  # far enough down: held
        (1.5, -1.0, 1.5, 1.5),  # too high: pushed down
    ]:
        logp = torch.tensor([[math.log(ratio)]], requires_grad=True)
        loss = grpo(logp, torch.tensor([adv]), mask, old=old)
        assert loss.item() == pytest.approx(value)
        assert torch.autograd.grad(loss, logp)[0].item() == pytest.approx(slope)
        assert losses.clipped(logp, old, torch.tensor([adv]), mask) == float(slope == 0)


def test_a_row_without_tokens_adds_nothing() -> None:
    logp, _ = _batch(2, 3)
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    adv = torch.tensor([1.0, 1.0])
    assert grpo(logp, adv, mask, reduce="grpo").item() == pytest.approx(-0.5)
    assert grpo(logp, adv, mask).item() == pytest.approx(-1.0)


def test_grpo_refuses_what_does_not_fit() -> None:
    logp, mask = _batch(4)
    adv = torch.ones(4)
    for kw, message in [
        ({"reduce": "bnpo"}, "known: grpo, dapo"),
        ({"clip": 0.0}, "between 0 and 1"),
        ({"reduce": "grpo", "tokens": 3}, "for reduce='dapo'"),
    ]:
        with pytest.raises(ValueError, match=message):
            grpo(logp, adv, mask, **kw)
    with pytest.raises(ValueError, match="one a row"):
        grpo(logp, torch.ones(4, 7), mask)


@pytest.mark.parametrize("reduce", ["grpo", "dapo"])
@pytest.mark.parametrize("sign", [1, -1])
def test_following_grpo_raises_the_reward(reduce: Any, sign: int) -> None:
    """A bandit of four arms; with the sign of the trainer released with RL-CoMM the reward falls."""
    g = torch.Generator().manual_seed(0)
    logits = torch.zeros(4, requires_grad=True)
    pays = torch.tensor([0.0, 1.0, 0.2, 0.5])

    def expected() -> float:
        return float(logits.detach().softmax(-1) @ pays)

    start, group = expected(), 8
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(60):
        arms = torch.multinomial(logits.detach().softmax(-1), 4 * group, replacement=True, generator=g)
        adv = group_advantages(pays[arms], group)
        logp = logits.log_softmax(-1)[arms][:, None]
        optimizer.zero_grad()
        (sign * grpo(logp, adv, torch.ones(4 * group, 1), reduce=reduce)).backward()
        optimizer.step()
    assert (expected() > start + 0.3) if sign > 0 else (expected() < start - 0.2)


# --- confidence ---


def _ansco() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logp = torch.tensor([[-1.0, -2.0, -3.0, 0.0], [-0.5, -0.5, 0.0, 0.0]], requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    entropy = torch.tensor([[9.0, 1.0, 2.0, 9.0], [9.0, 0.4, 9.0, 9.0]], requires_grad=True)
    answer = torch.tensor([[0, 1, 1, 0], [0, 1, 0, 0]])
    return logp, mask, entropy, answer


def test_ans_co_by_hand() -> None:
    logp, mask, entropy, answer = _ansco()
    out = ans_co(logp, mask, entropy, answer, vocabulary=100)
    assert out.nll.item() == pytest.approx((2.0 + 0.5) / 2)
    assert out.entropy.tolist() == pytest.approx([1.5, 0.4])
    assert out.u.tolist() == pytest.approx([1.5 / math.log(100), 0.4 / math.log(100)])
    assert out.loss.item() == pytest.approx(1.25 + 0.5 * (1.5 + 0.4) / 2)
    assert ans_co(logp, mask, entropy, answer, vocabulary=100, per="token").nll.item() == pytest.approx(7 / 5)
    assert ans_co(logp, mask, entropy, answer, vocabulary=100, weight=0.0).loss.item() == pytest.approx(1.25)


def test_entropy_counts_on_answer_tokens_alone() -> None:
    logp, mask, entropy, answer = _ansco()
    out = ans_co(logp, mask, entropy, answer, vocabulary=100)
    by_logp, by_entropy = torch.autograd.grad(out.loss, (logp, entropy))
    torch.testing.assert_close(by_entropy, 0.5 / 2 * torch.tensor([[0, 0.5, 0.5, 0], [0, 1.0, 0, 0]]))
    torch.testing.assert_close(by_logp, -0.5 * torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0], [0.5, 0.5, 0, 0]]))


def test_a_guess_is_not_hardened() -> None:
    """u > 0.75: lambda is 0 for that row, and for that row only."""
    logp, mask, entropy, answer = _ansco()
    out = ans_co(logp, mask, entropy, answer, vocabulary=6)  # ln 6 = 1.79: u = 0.84 and 0.22
    assert out.sharpened.tolist() == [False, True]
    assert out.loss.item() == pytest.approx(1.25 + 0.5 * (0.0 + 0.4) / 2)
    (grad,) = torch.autograd.grad(out.loss, entropy)
    assert (grad[0] == 0).all()
    assert grad[1, 1] > 0
    at = torch.full((2, 4), 0.75)
    assert ans_co(logp, mask, entropy, answer, u=at).sharpened.tolist() == [True, True], "above, not at"
    assert ans_co(logp, mask, entropy, answer, u=at, u_max=0.7).sharpened.tolist() == [False, False]


def test_u_may_be_given_by_token() -> None:
    logits = torch.full((1, 3, 40), -30.0)
    logits[:, :, :10] = 0.0  # evenly over ten answers: sure by the vocabulary, a guess by the ten best
    logits.requires_grad_()
    logp = losses.token_log_prob(logits, torch.zeros(1, 3, dtype=torch.long))
    mask = torch.ones(1, 3)
    args = (logp, mask, token_entropy(logits), mask)
    assert ans_co(*args, vocabulary=40).sharpened.tolist() == [True]
    assert ans_co(*args, u=uncertainty(logits, "top10")).sharpened.tolist() == [False]


def test_ans_co_makes_answers_surer() -> None:
    logits = torch.tensor([[[1.0, 0.5, 0.2, 0.0]]], requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=0.3)
    ids, mask = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1)
    seen = []
    for _ in range(40):
        h = token_entropy(logits)
        out = ans_co(losses.token_log_prob(logits, ids), mask, h, mask, vocabulary=4, u_max=1.0)
        seen.append(float(out.entropy))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
    assert seen[-1] < 0.5 * seen[0]


def test_ans_co_refuses_what_does_not_fit() -> None:
    logp, mask, entropy, answer = _ansco()
    for kw in ({}, {"vocabulary": 6, "u": entropy}):
        with pytest.raises(ValueError, match="one of the two"):
            ans_co(logp, mask, entropy, answer, **kw)
    with pytest.raises(ValueError, match="row 1 of 2 has no answer token"):
        ans_co(logp, mask, entropy, torch.tensor([[0, 1, 1, 0], [0, 0, 0, 0]]), vocabulary=6)
    with pytest.raises(ValueError, match="outside the completion"):
        ans_co(logp, mask, entropy, torch.tensor([[0, 1, 1, 1], [0, 1, 0, 0]]), vocabulary=6)


def test_entropy_is_trl_s(trl: Any) -> None:
    logits = torch.randn(3, 5, 17, generator=torch.Generator().manual_seed(2), requires_grad=True)
    _same(token_entropy(logits).sum(), trl.utils.entropy_from_logits(logits).sum(), logits)


def test_losses_need_no_trainer() -> None:
    tree = ast.parse(Path(losses.__file__).read_text())
    names = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert {n.split(".")[0] for n in names} == {"__future__", "collections", "math", "torch", "typing"}


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning"
)  # TRL's, about transformers' next version
def test_advantages_are_those_of_a_running_trainer(trl: Any, tmp_path: Path) -> None:
    """One real step of GRPOTrainer on a random text model: rewards in, advantages out, and the first loss."""
    from datasets import Dataset
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig

    import tiny_thinkers

    tok = tiny_thinkers.tokenizer(tiny_thinkers.SPECIALS)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tok), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, eos_token_id=tok.eos_token_id, pad_token_id=tok.pad_token_id,
        )
    )  # fmt: skip
    seen: dict[str, Any] = {"rewards": []}

    def reward(completions: list[str], **_: Any) -> list[float | None]:
        seen["rewards"] = [None if n == 2 else len(c) % 7 / 3 for n, c in enumerate(completions)]
        return seen["rewards"]

    class Watched(trl.GRPO):  # type: ignore[misc, name-defined]
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            out = super()._generate_and_score_completions(inputs)
            seen["advantages"] = out["advantages"]
            return out

        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            out = super()._get_per_token_logps_and_entropies(*args, **kwargs)
            seen["logp"] = out[0].detach()
            return out

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            out = super()._compute_loss(model, inputs)
            seen["loss"], seen["mask"] = out.detach(), inputs["completion_mask"]
            return out

    config = GRPOConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=8, num_generations=4, max_completion_length=6,
        max_steps=1, report_to=[], use_cpu=True, bf16=False, save_strategy="no", logging_steps=1, disable_tqdm=True,
        activation_checkpointing=False,
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": "What do you hear?"}, {"prompt": "Is there a dog sound?"}] * 2)
    Watched(model=model, reward_funcs=reward, args=config, train_dataset=rows, processing_class=tok).train()
    ours = group_advantages(seen["rewards"], 4)
    torch.testing.assert_close(ours.sort().values, seen["advantages"].sort().values)  # TRL shuffles them afterwards
    torch.testing.assert_close(grpo(seen["logp"], seen["advantages"], seen["mask"]), seen["loss"])
