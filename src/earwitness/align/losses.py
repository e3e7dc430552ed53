"""What is trained on: losses as pure functions of log-probs and entropies, equal to TRL's where TRL has them.

Shapes: R rows (answers), T token places; ``logp`` [R, T] natural-log probabilities of the rows' tokens, ``mask``
[R, T] 1 (or True) where a token counts. What stands at other places is never read: it may be padding, infinite or
not a number. Losses are to be made *small*; entropies are in nats.

Supervised    ``nll``
Preferences   ``dpo``, ``dpo_nll`` (Thud's alignment; arXiv 2305.18290)
Rewards       ``group_advantages``, ``grpo``, ``clipped`` (Step-RR of RL-CoMM, arXiv 2511.10059, eq. 5)
Confidence    ``ans_co``, ``uncertainty`` (Ans-CO of RL-CoMM, eq. 6)
Of logits     ``token_log_prob``, ``token_entropy``; of rows ``sequence_log_prob``
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

TOP = 10  # logits that MemVR's uncertainty is taken over
SPREAD = 1e-6  # a standard deviation below it is rounding


def token_log_prob(logits: Tensor, ids: Tensor) -> Tensor:
    """log p of tokens ``ids`` [...] under ``logits`` [..., V], in float32."""
    return logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]


def token_entropy(logits: Tensor) -> Tensor:
    """H = -sum_v p_v log p_v, nats [...], of ``logits`` (or log-probs) [..., V]; 0 log 0 = 0, gradients included.

    A suppressed token (logit minus infinity) is none of the distribution.
    """
    logp = logits.float().log_softmax(-1)
    return -(logp.exp() * logp.masked_fill(logp == -torch.inf, 0.0)).sum(-1)


def uncertainty(logits: Tensor, kind: Literal["entropy", "top10"] = "entropy") -> Tensor:
    """How unsure a token's distribution is: u in [0, 1], of ``logits`` [..., V]; carries no gradient.

    "entropy": H / ln V. "top10": H of the softmax over the ten largest logits, / ln 10, as MemVR computes it
    (arXiv 2410.03577, its code), whose measure AV-ConfuseBench names and :mod:`earwitness.whitebox.lens` draws.

    Raises ValueError for a kind that there is not, and for a vocabulary of one.
    """
    if kind not in ("entropy", "top10"):
        raise ValueError(f"uncertainty {kind!r} is not known; known: entropy, top10")
    if logits.shape[-1] < 2:
        raise ValueError(
            "a vocabulary of one token leaves nothing to be unsure of (are these log-probs of tokens?)"
        )
    with torch.no_grad():
        if kind == "top10":
            logits = logits.float().topk(min(TOP, logits.shape[-1]), -1).values
        return token_entropy(logits) / math.log(logits.shape[-1])


def _kept(values: Tensor, mask: Tensor) -> Tensor:
    """The values where the mask is set, 0 elsewhere, whatever stands there."""
    if values.shape != mask.shape:
        raise ValueError(
            f"values {tuple(values.shape)} and mask {tuple(mask.shape)} differ in shape (is one not shifted?)"
        )
    return torch.where(mask.bool(), values, torch.zeros((), dtype=values.dtype, device=values.device))


def _counts(mask: Tensor, what: str) -> Tensor:
    """Tokens a row [R]; ValueError where a row has none."""
    counts = mask.bool().sum(-1)
    empty = (counts == 0).nonzero()[:, 0].tolist()
    if empty:
        raise ValueError(f"row {empty[0]} of {len(counts)} has no {what} token ({len(empty)} such rows)")
    return counts


def sequence_log_prob(logp: Tensor, mask: Tensor) -> Tensor:
    """log pi(y | x) = sum_t log pi(y_t | y_<t, x): [R] of ``logp`` and ``mask`` [R, T]."""
    return _kept(logp, mask).sum(-1)


def nll(
    logp: Tensor, mask: Tensor, *, per: Literal["token", "row"] = "token", tokens: int | Tensor | None = None
) -> Tensor:
    """Negative log-likelihood: a number.

    per "token"  -(sum of all log-probs) / (number of tokens), the supervised loss of transformers and TRL.
                 ``tokens`` is that number where a batch is accumulated in parts: the parts' sum is then the mean.
    per "row"    mean over rows of -(1/T) sum_t log pi(o_t | o_<t, x), the first term of RL-CoMM's eq. 6.

    Raises ValueError where a row has no token to learn, or ``tokens`` comes with per "row".
    """
    counts = _counts(mask, "scored")
    sums = sequence_log_prob(logp, mask)
    if per == "row":
        if tokens is not None:
            raise ValueError("nll: a count of tokens is for per='token'; rows are averaged one by one")
        return -(sums / counts).mean()
    return -sums.sum() / (counts.sum() if tokens is None else tokens)


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float = 0.1,
    smoothing: float = 0.0,
) -> Tensor:
    """DPO by pair [P], of log-probs [P] of whole answers (arXiv 2305.18290, eq. 7).

    L = -log sigma(beta * d),  d = (chosen - reference_chosen) - (rejected - reference_rejected)

    ``smoothing`` e is the share of pairs whose order is taken to be wrong (conservative DPO):
    L = -(1 - e) log sigma(beta d) - e log sigma(-beta d). TRL 1.16 knows no smoothing for its "sigmoid" loss; at 0
    the two are equal.

    Raises ValueError where beta is not above 0, or smoothing not in [0, 0.5).
    """
    if not beta > 0:
        raise ValueError(f"dpo: beta must be above 0, got {beta} (0 would teach nothing)")
    if not 0 <= smoothing < 0.5:
        raise ValueError(
            f"dpo: label smoothing must be in [0, 0.5), got {smoothing} (0.5 says nothing of the order)"
        )
    margin = beta * ((chosen - reference_chosen) - (rejected - reference_rejected))
    return -(1 - smoothing) * F.logsigmoid(margin) - smoothing * F.logsigmoid(-margin)


def dpo_nll(
    chosen_logp: Tensor,
    chosen_mask: Tensor,
    rejected_logp: Tensor,
    rejected_mask: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    beta: float = 0.1,
    weight: float = 1.0,
    smoothing: float = 0.0,
) -> Tensor:
    """DPO held to the chosen answers: mean(dpo) + weight * nll(chosen), a number.

    Equal to TRL's ``loss_type=["sigmoid", "sft"]`` with ``loss_weights=[1, weight]``: the second term is the mean
    over all chosen tokens of the batch. DPO alone may push both answers down, the rejected one faster.

    ``*_logp`` and ``*_mask`` [P, T], the references [P] of whole answers. Raises as ``dpo`` and ``nll`` do.
    """
    preferred = dpo(
        sequence_log_prob(chosen_logp, chosen_mask),
        sequence_log_prob(rejected_logp, rejected_mask),
        reference_chosen,
        reference_rejected,
        beta=beta,
        smoothing=smoothing,
    ).mean()
    return preferred + weight * nll(chosen_logp, chosen_mask) if weight else preferred


def group_advantages(
    rewards: Tensor | Sequence[float | None],
    group: int,
    *,
    std: Literal["sample", "population"] = "sample",
    eps: float = 1e-4,
) -> Tensor:
    """A^i = (r^i - mean(r)) / (std(r) + eps) within each group of ``group`` answers to one prompt (RL-CoMM, eq. 5).

    ``rewards`` [n * group], a group's answers next to each other. None (or not-a-number) is "cannot be scored":
    left out of mean and std, its advantage is 0. A group without spread, or with fewer than two rewards, has
    advantage 0.

    The paper prints std without saying which; ``std`` "sample" (n - 1) is what TRL takes, and so the default. With
    G = 6 the population's advantages are 9.5 % larger, everywhere alike: a matter of the learning rate. ``eps`` is
    TRL's; 0 gives the equation to the letter.

    Raises ValueError where the rewards are no whole number of groups, a group has fewer than two, or ``std`` is
    unknown.
    """
    if std not in ("sample", "population"):
        raise ValueError(f"group_advantages: std {std!r} is not known; known: sample, population")
    given = (
        rewards if isinstance(rewards, Tensor) else torch.tensor([torch.nan if r is None else r for r in rewards])
    )
    if group < 2 or len(given) == 0 or len(given) % group:
        raise ValueError(
            f"{len(given)} rewards are no groups of {group}: two or more answers to one prompt, all there"
        )
    r = given.float().view(-1, group)
    scored = ~r.isnan()
    count = scored.sum(1, keepdim=True)
    mean = _kept(r, scored).sum(1, keepdim=True) / count.clamp(min=1)
    away = _kept(r - mean, scored)
    freedom = count - 1 if std == "sample" else count
    spread = (away.pow(2).sum(1, keepdim=True) / freedom.clamp(min=1)).sqrt()
    return torch.where(spread > SPREAD, away / (spread + eps), torch.zeros_like(away)).view(-1)


def grpo(
    logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    old: Tensor | None = None,
    clip: float = 0.2,
    clip_high: float | None = None,
    reduce: Literal["grpo", "dapo"] = "dapo",
    tokens: float | Tensor | None = None,
) -> Tensor:
    """GRPO without a KL term, a number (RL-CoMM, eq. 1 with beta = 0, after arXiv 2402.03300, eq. 3).

    l_t = -min(w_t A, clamp(w_t, 1 - clip, 1 + clip_high) A),  w_t = pi(o_t) / pi_old(o_t)

    Its gradient is -A grad log pi: following it downhill makes answers with A > 0 likelier. (The trainer that was
    released with RL-CoMM had the other sign.)

    Parameters
    ----------
    logp, old, mask : [R, T]. ``old`` None: sampled from the present weights, w = 1 with a gradient.
    advantages : [R].
    clip, clip_high : epsilon below and above; ``clip_high`` None: the same. TRL has 0.2.
    reduce : "grpo", mean over rows of the mean over a row's tokens; "dapo", sum over tokens / ``tokens``
        (arXiv 2503.14476): every token of the batch weighs the same.
    tokens : for "dapo", tokens of the whole batch that one optimizer step is made of, where this call is a part of
        it; default: those of ``mask``. TRL divides by the same, averaged over processes.

    A row without tokens (an answer cut off and left out) adds nothing. Raises ValueError for an unknown ``reduce``,
    for shapes that differ, for a clip outside (0, 1) and for ``tokens`` with "grpo".
    """
    if reduce not in ("grpo", "dapo"):
        raise ValueError(f"grpo: reduce {reduce!r} is not known; known: grpo, dapo")
    if not 0 < clip < 1:
        raise ValueError(f"grpo: clip must lie between 0 and 1, got {clip}")
    if advantages.shape != logp.shape[:1]:
        raise ValueError(f"grpo: {tuple(advantages.shape)} advantages for {len(logp)} rows: one a row")
    if tokens is not None and reduce == "grpo":
        raise ValueError("grpo: a count of tokens is for reduce='dapo'; rows are averaged one by one")
    ratio = _ratio(logp, old, mask)
    by = advantages[:, None].detach()
    bounded = ratio.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high))
    loss = _kept(-torch.min(ratio * by, bounded * by), mask)
    if reduce == "grpo":
        return (loss.sum(-1) / mask.bool().sum(-1).clamp(min=1)).mean()
    count = mask.bool().sum().clamp(min=1) if tokens is None else tokens
    return loss.sum() / count


def _ratio(logp: Tensor, old: Tensor | None, mask: Tensor) -> Tensor:
    now = _kept(logp, mask)
    return torch.exp(now - (now if old is None else _kept(old, mask)).detach())


def clipped(
    logp: Tensor,
    old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
) -> float:
    """Share of the tokens whose ratio is beyond the bound that holds its advantage back: they teach nothing.

    Arguments as in ``grpo``.
    """
    with torch.no_grad():
        ratio, by = _ratio(logp, old, mask), advantages[:, None]
        high = 1 + (clip if clip_high is None else clip_high)
        beyond = ((ratio < 1 - clip) & (by < 0)) | ((ratio > high) & (by > 0))
        return float((beyond & mask.bool()).sum() / mask.bool().sum().clamp(min=1))


class AnsCO(NamedTuple):
    """Ans-CO's loss, and what it is made of (without gradients)."""

    loss: Tensor  # a number
    nll: Tensor  # a number
    entropy: Tensor  # [R], mean over the answer's tokens, nats
    u: Tensor  # [R], in [0, 1]
    sharpened: Tensor  # [R], bool: whether the entropy counts, u <= u_max


def ans_co(
    logp: Tensor,
    mask: Tensor,
    entropy: Tensor,
    answer: Tensor,
    *,
    vocabulary: int | None = None,
    u: Tensor | None = None,
    weight: float = 0.5,
    u_max: float = 0.75,
    per: Literal["token", "row"] = "row",
) -> AnsCO:
    """Answer-centred confidence optimisation (RL-CoMM, eq. 6): likely, and sure where it is not too unsure.

    L = mean_i [ -(1/T_i) sum_t log pi(o_t | o_<t, x) + lambda_i (1/|N_i|) sum_{t in N_i} H_t ]

    H_t = -sum_v p log p over the whole vocabulary; N_i are the tokens of the answer: prompt and thinking are no
    part of it. lambda_i = ``weight``, and 0 where the answer's uncertainty u_i > ``u_max``: a guess is not to be
    hardened.

    The paper does not define u. Here it is the mean over the answer's tokens of H_t / ln V (give ``vocabulary`` =
    V), or of whatever is given as ``u`` [R, T] in [0, 1], such as ``uncertainty(logits, "top10")``. Which of the
    two matters: with V = 152,000 spread evenly over ten answers H / ln V is 0.19 and top10 is 1, so that 0.75 of
    the first is hardly ever met.

    Differs from the source: N is what lies between the answer's tags, without the tags: their tokens are certain,
    and would only thin the mean out.

    Parameters
    ----------
    logp, mask : [R, T], the tokens of the completions.
    entropy : [R, T], H_t with its gradient (``token_entropy``, or a fused head's).
    answer : [R, T], 1 at the answer's tokens (``tags.answer_mask``).
    per : how the first term is averaged, as in ``nll``.

    Raises ValueError where neither or both of ``vocabulary`` and ``u`` are given, and where a row has no token, or
    none of an answer.
    """
    if (vocabulary is None) == (u is None):
        raise ValueError("ans_co: give the size of the vocabulary, or u by token: one of the two")
    counts = _counts(answer, "answer")
    outside = int((answer.bool() & ~mask.bool()).sum())
    if outside:
        raise ValueError(f"ans_co: {outside} answer tokens lie outside the completion (is one mask not shifted?)")
    likely = nll(logp, mask, per=per)
    mean = _kept(entropy, answer).sum(-1) / counts
    with torch.no_grad():
        if u is not None:
            unsure = _kept(u, answer).sum(-1) / counts
        else:
            unsure = mean.detach() / math.log(vocabulary or 0)
        sharpened = unsure <= u_max
    loss = likely + weight * torch.where(sharpened, mean, torch.zeros_like(mean)).mean()
    return AnsCO(loss, likely.detach(), mean.detach(), unsure, sharpened)
