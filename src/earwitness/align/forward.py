"""The forward pass of training: features put in place, groups read as trees, logits only where a token counts.

``score`` gives the log-prob of each scored token, the entropy of the distribution that it was drawn from, and
whether it was the likeliest, as rows [R, L - 1] like TRL's fused LM head: the column of a token is the place before
it; where asked, also how unsure the ten likeliest are. Gradients flow into the text model, the word embeddings and
the head, as far as these are trained. Encoder outputs come with the batch and are constants: the towers are frozen.

``attach`` lets a trainer's own ``model(...)`` call come here: a batch with the key ``packed`` is scored, any other
call (generation, for instance) goes the model's usual way.

Functions: ``read``, ``alike``, ``score``, ``attach``, ``inner``, ``unwrapped``.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from earwitness.align import sharding
from earwitness.align.losses import uncertainty
from earwitness.align.packing import Group, Packed
from earwitness.align.tree import visible
from earwitness.models.qwen_wrapped import runs_on

CHUNK = 1024  # rows of logits at once, at most: 0.6 GB in float32 with a vocabulary of 152,000


@dataclass
class Scored(ModelOutput):  # type: ignore[misc]
    """What was asked of the model, under the names of TRL's fused head; zero where no token counts."""

    loss: torch.Tensor | None = None  # mean negative log-prob of the scored tokens
    log_probs: torch.Tensor | None = None  # [R, L - 1]
    entropy: torch.Tensor | None = None  # [R, L - 1], nats
    is_top1: torch.Tensor | None = None  # [R, L - 1], bool
    mean_logits: torch.Tensor | None = None  # [R, L - 1], without gradient
    label_mask: torch.Tensor | None = None  # [R, L - 1], bool
    aux_loss: torch.Tensor | None = None
    uncertainty: torch.Tensor | None = None  # [R, L - 1], of the ten likeliest tokens; without gradient


def inner(model: Any) -> Any:
    """The thinker inside whatever wraps it (PEFT, DDP, a full Omni model)."""
    while True:
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()
        elif hasattr(model, "module") and isinstance(model.module, torch.nn.Module):
            model = model.module
        elif hasattr(model, "thinker"):
            model = model.thinker
        else:
            return model


def unwrapped(model: Any) -> Any:
    """The model without DDP around it, its adapters left on."""
    while hasattr(model, "module") and isinstance(model.module, torch.nn.Module):
        model = model.module
    return model


def read(model: Any, groups: Sequence[Group]) -> torch.Tensor:
    """Last hidden states [G, S, hidden] of a thinker on the groups, padded on the right."""
    device = runs_on(model.get_input_embeddings())
    longest = max(len(g) for g in groups)
    ids = torch.zeros(len(groups), longest, dtype=torch.long)
    mask = torch.zeros(len(groups), longest, dtype=torch.long)
    positions = torch.ones(3, len(groups), longest, dtype=groups[0].shown.layout.positions.dtype)
    for n, group in enumerate(groups):
        layout, tree = group.shown.layout, group.tree
        start, end = len(layout), len(group)
        ids[n, :start] = layout.ids.cpu()
        ids[n, start:end] = torch.tensor(tree.ids)
        mask[n, :end] = 1
        positions[:, n, :start] = layout.positions.cpu()
        positions[:, n, start:end] = (torch.tensor(tree.depths) + (start + layout.shift)).to(positions.dtype)
    ids = ids.to(device)
    embeds = model.get_input_embeddings()(ids)
    sounds = [g.shown.heard.features for g in groups if g.shown.heard is not None]
    if sounds:
        slots = (ids == model.config.audio_token_id) & mask.bool().to(device)
        features = torch.cat(sounds).to(device)
        if int(slots.sum()) != len(features):
            raise ValueError(
                f"{int(slots.sum())} audio tokens for {len(features)} audio features (does an answer hold a media "
                "token? they must be suppressed where answers are sampled)"
            )
        embeds = embeds.masked_scatter(slots[..., None], features.to(embeds.dtype))
    pictures = [g.shown.seen for g in groups if g.shown.seen is not None]
    made = None
    if pictures:
        made = SimpleNamespace(
            pooler_output=[s.features.to(device) for s in pictures],
            deepstack_features=[[s.deep[k].to(device) for s in pictures] for k in range(len(pictures[0].deep))],
        )
    kept = mask if all(g.tree.chain for g in groups) else _mask(groups, longest, embeds.dtype)
    out = model.model(
        input_ids=ids,
        inputs_embeds=embeds,
        attention_mask=kept.to(device),
        position_ids=positions.to(device),
        use_cache=False,
        mm_encoder_outputs=None if made is None else {"video": made},
    )
    hidden: torch.Tensor = out.last_hidden_state
    return hidden


def _mask(groups: Sequence[Group], longest: int, dtype: torch.dtype) -> torch.Tensor:
    """Additive mask [G, 1, S, S]: causal over the media, ancestors only in the tree, padding sees itself."""
    sees = torch.zeros(len(groups), longest, longest, dtype=torch.bool)
    for n, group in enumerate(groups):
        start, end = len(group.shown.layout), len(group)
        sees[n, :start, :start] = torch.ones(start, start, dtype=torch.bool).tril()
        sees[n, start:end, :start] = True
        sees[n, start:end, start:end] = torch.from_numpy(visible(group.tree))
        rest = torch.arange(end, longest)
        sees[n, rest, rest] = True
    bias = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, torch.finfo(dtype).min)
    return bias[:, None]


def _wanted(model: Any, packed: Packed, *, sharded: bool) -> torch.Tensor:
    """The hidden states [n, hidden] that predict the scored tokens; groups of like length are read together.

    One question behind thousands of words would otherwise pad all others to its length. Where weights are sharded
    over ranks all groups are read in one pass: ranks must gather the same layers the same number of times.
    """
    parts, places = [], []
    for some in [list(range(len(packed.groups)))] if sharded else alike(packed.groups):
        hidden = read(model, [packed.groups[g] for g in some])
        row = torch.full((len(packed.groups),), -1)
        row[some] = torch.arange(len(some))
        mine = (row[packed.at[:, 0]] >= 0).nonzero()[:, 0]
        at = packed.at[mine]
        parts.append(hidden[row[at[:, 0]].to(hidden.device), at[:, 1].to(hidden.device)])
        places.append(mine)
    return torch.cat(parts)[torch.cat(places).argsort().to(parts[0].device)]


def alike(groups: Sequence[Group]) -> list[list[int]]:
    """Indices of groups in batches such that padding never makes one more than half as long again (and 32 more)."""
    order = sorted(range(len(groups)), key=lambda n: len(groups[n]))
    out: list[list[int]] = []
    for n in order:
        if not out or len(groups[n]) > 1.5 * len(groups[out[-1][0]]) + 32:
            out.append([])
        out[-1].append(n)
    return out


def _measure(
    head: Any, hidden: torch.Tensor, labels: torch.Tensor, temperature: float, unsure: bool
) -> tuple[torch.Tensor, ...]:
    """Of each hidden state [n, hidden]: log-prob of its label, entropy, likeliest?, mean logit, uncertainty."""
    logits = head(hidden).float()
    logs = (logits if temperature == 1 else logits / temperature).log_softmax(-1)
    entropy = -(logs.exp() * logs).sum(-1)
    return (
        logs.gather(-1, labels[:, None])[:, 0],
        entropy,
        logits.detach().argmax(-1) == labels,
        logits.detach().mean(-1),
        uncertainty(logits, "top10") if unsure else torch.zeros_like(entropy),
    )


def score(model: Any, packed: Packed, *, temperature: float = 1.0, unsure: bool = False) -> Scored:
    """Log-prob and entropy of each scored token, float32, under softmax(logits / temperature).

    ``unsure``: also ``losses.uncertainty(logits, "top10")``, whatever the temperature.

    Raises ValueError where media tokens and media features differ in number.
    """
    sharded = sharding.sharded(model)
    wanted = _wanted(model, packed, sharded=sharded)
    labels = packed.labels.to(wanted.device)
    head = model.get_output_embeddings()
    parts = []
    pieces = max(1, -(-len(wanted) // CHUNK))
    if sharded:  # each piece gathers the head
        pieces = sharding.most(pieces, wanted.device)
    for some, named in zip(wanted.tensor_split(pieces), labels.tensor_split(pieces), strict=True):
        if torch.is_grad_enabled() and pieces > 1:  # logits of one piece at a time, in the backward too
            parts.append(checkpoint(_measure, head, some, named, temperature, unsure, use_reentrant=False))
        else:
            parts.append(_measure(head, some, named, temperature, unsure))
    logs, entropy, top, mean, open_ = (torch.cat(x) for x in zip(*parts, strict=True))
    rows, columns = packed.back.to(wanted.device).unbind(1)
    shape = (packed.shape[0], packed.shape[1] - 1)

    def placed(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(shape).index_put((rows, columns), values)

    return Scored(
        loss=-logs.mean(),
        log_probs=placed(logs),
        entropy=placed(entropy),
        is_top1=placed(top),
        mean_logits=placed(mean),
        label_mask=placed(torch.ones_like(top)),
        uncertainty=placed(open_) if unsure else None,
    )


def attach(model: Any, *, temperature: float = 1.0, unsure: bool = False) -> None:
    """Let calls with ``packed=...`` of a thinker (or of what wraps it) be scored here; others go their usual way.

    ``temperature`` and ``unsure`` as in :func:`score`.

    The method is put on the thinker itself, so that wrappers (PEFT's adapters, DDP's hooks) work as ever. Call it
    after the trainer has made its own changes to ``forward``.
    """
    thinker = inner(model)
    usual = thinker.forward

    def forward(self: Any, *args: Any, packed: Packed | None = None, **kwargs: Any) -> Any:
        if packed is None:
            return usual(*args, **kwargs)
        if kwargs.get("output_router_logits"):
            raise ValueError(
                "the router's balance loss is not part of these losses: with LoRA the router is frozen "
                "(router_aux_loss_coef=0)"
            )
        return score(self, packed, temperature=temperature, unsure=unsure)

    told = inspect.signature(usual)  # generate looks here for what a model may be given
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    forward.__signature__ = told.replace(parameters=[own, *told.parameters.values()])  # type: ignore[attr-defined]
    thinker.forward = types.MethodType(forward, thinker)
