"""Prefill a prompt's shared part once, then continue it with every question on it: greedy text, log-probs.

The plain way runs the whole prompt (mostly media tokens) again for each question and each choice. Here the
shared part (``Layout``) of several clips is run as one left-padded batch; its keys and values are then spread
to one row per question (first, where several questions begin with the same long text, to one row per such text);
the questions follow as one right-padded batch; the choices of a question hang behind
it as a tree (a choice's tokens see the question, and those of their own choice only); and greedy decoding goes
on from the question's cache. Positions are explicit throughout: a padded slot is masked, never counted.

All of this is exact: what a row sees, and at which positions, is what the plain way shows it.

The layers may lie on several devices. Tokens, masks and positions are where the embeddings are (``Thinker.device``)
and follow each layer by its hook; keys and values stay where their layer made them; log-probs are where the output
matrix is.

Functions: ``prefill``, ``extend``, ``ask`` (uses ``read_question``, ``score_choices``, ``write``), ``read_steps``,
``whole_text``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import NamedTuple

import torch
from transformers import DynamicCache

from earwitness.models.qwen_cache import Heard, Seen
from earwitness.models.qwen_inputs import Layout, Thinker
from earwitness.models.spelling import Spelled, Token
from earwitness.records import Answer

Tokens = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values of the shared parts of a batch, left-padded: mask [G, P], shift and length per row."""

    keys: list[torch.Tensor]  # by layer, [G, heads, P, dim], each on its layer's device
    values: list[torch.Tensor]
    mask: torch.Tensor  # [G, P], 1 = a token
    lengths: torch.Tensor  # [G]
    shifts: torch.Tensor  # [G]


@dataclass(frozen=True, eq=False)
class Row:
    """One question: which prefix it follows, its tokens, the choices to score, and how long it may answer."""

    prefix: int
    tokens: Tokens
    choices: tuple[Tokens, ...]
    limit: int


class Step(NamedTuple):
    """One generated token, its log-prob, and the likeliest tokens in its place with theirs.

    Log-probs are those of the whole vocabulary, as choices are scored: media tokens, which are never generated,
    keep their share.
    """

    token: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, eq=False)
class Said:
    """What came back for a row: the generated tokens (end token left out), and a log-prob per choice."""

    steps: tuple[Step, ...]
    logprobs: tuple[float, ...]


def prefill(
    thinker: Thinker, layouts: Sequence[Layout], seen: Sequence[Seen | None], heard: Sequence[Heard | None]
) -> Prefix:
    """Run the shared parts of one kind as a batch, media features from the caches of the towers."""
    pad, longest = int(thinker.processor.tokenizer.pad_token_id or 0), max(len(x) for x in layouts)
    rows, device = len(layouts), thinker.device
    ids = torch.full((rows, longest), pad, device=device)
    mask = torch.zeros(rows, longest, dtype=torch.long, device=device)
    positions = torch.ones(3, rows, longest, dtype=layouts[0].positions.dtype, device=device)
    for i, layout in enumerate(layouts):
        ids[i, longest - len(layout) :] = layout.ids
        mask[i, longest - len(layout) :] = 1
        positions[:, i, longest - len(layout) :] = layout.positions
    model = thinker.bare
    embeds = model.get_input_embeddings()(ids)
    # The towers may be elsewhere, and what they made stays there in the cache.
    sounds = [h.features.to(device) for h in heard if h is not None]
    if sounds:
        slots = (ids == thinker.processor.audio_token_id) & mask.bool()
        features = torch.cat(sounds)
        assert int(slots.sum()) == len(features), "audio slots and audio features differ in number"
        embeds = embeds.masked_scatter(slots[..., None], features.to(embeds.dtype))
    pictures = [s for s in seen if s is not None]
    made = None
    if pictures:
        levels = len(pictures[0].deep)
        made = SimpleNamespace(
            pooler_output=[s.features.to(device) for s in pictures],
            deepstack_features=[[s.deep[n].to(device) for s in pictures] for n in range(levels)],
        )
    cache = DynamicCache()
    model.model(
        input_ids=ids,
        inputs_embeds=embeds,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        mm_encoder_outputs=None if made is None else {"video": made},
    )
    return Prefix(
        keys=[layer.keys for layer in cache.layers],
        values=[layer.values for layer in cache.layers],
        mask=mask,
        lengths=torch.tensor([len(x) for x in layouts], device=device),
        shifts=torch.tensor([x.shift for x in layouts], device=device),
    )


def extend(thinker: Thinker, prefix: Prefix, at: Sequence[int], texts: Sequence[Tokens]) -> Prefix:
    """The prefixes ``at``, each with a further text that several questions begin with."""
    rows = torch.tensor(at, device=thinker.device)
    cache = spread(prefix, rows)
    _, mask, _ = _read(thinker, cache, prefix, rows, texts)
    lengths = torch.tensor([len(t) for t in texts], device=thinker.device)
    return Prefix(
        keys=[layer.keys for layer in cache.layers],
        values=[layer.values for layer in cache.layers],
        mask=mask,
        lengths=prefix.lengths[rows] + lengths,
        shifts=prefix.shifts[rows],
    )


def ask(thinker: Thinker, prefix: Prefix, rows: Sequence[Row], *, top: int = 0) -> list[Said]:
    """Read each row's question behind its prefix, score its choices, and let it answer greedily.

    ``top`` is how many of the likeliest tokens to tell beside each token said.
    """
    at = torch.tensor([row.prefix for row in rows], device=thinker.device)
    cache = spread(prefix, at)
    logits, mask, ends = read_question(thinker, cache, prefix, at, rows)
    logprobs = score_choices(thinker, cache, mask, ends, logits, rows)
    written = write(thinker, cache, mask, ends, logits, [row.limit for row in rows], top=top)
    return [Said(tuple(steps), scored) for steps, scored in zip(written, logprobs, strict=True)]


def spread(prefix: Prefix, at: torch.Tensor) -> DynamicCache:
    """A cache with one row for each entry of ``at``: the keys and values of that prefix."""
    cache = DynamicCache()
    for n, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        rows = at.to(keys.device)
        cache.update(keys[rows], values[rows], n)
    return cache


def _run(
    thinker: Thinker, cache: DynamicCache, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Hidden states [R, Q, hidden] of text tokens ids [R, Q] behind the cache, at positions [R, Q].

    They are where the last norm is.
    """
    model = thinker.bare
    made = model.model.language_model(
        inputs_embeds=model.get_input_embeddings()(ids),
        attention_mask=mask,
        position_ids=positions[None].expand(3, -1, -1),
        past_key_values=cache,
        use_cache=True,
    )
    hidden: torch.Tensor = made.last_hidden_state
    return hidden


def _log_probs(thinker: Thinker, hidden: torch.Tensor) -> torch.Tensor:
    """Log-probs [..., vocabulary] in float32; only for the rows that are needed: the vocabulary is large."""
    logits: torch.Tensor = thinker.bare.lm_head(hidden)
    return logits.float().log_softmax(-1)


def read_question(
    thinker: Thinker, cache: DynamicCache, prefix: Prefix, at: torch.Tensor, rows: Sequence[Row]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Append the questions to the cache: next-token log-probs [R, V], mask [R, P + S], next position [R]."""
    hidden, mask, start = _read(thinker, cache, prefix, at, [row.tokens for row in rows])
    counts = torch.tensor([len(row.tokens) for row in rows], device=thinker.device)
    last = hidden[torch.arange(len(rows), device=hidden.device), (counts - 1).to(hidden.device)]
    return _log_probs(thinker, last), mask, start + counts


def _read(
    thinker: Thinker, cache: DynamicCache, prefix: Prefix, at: torch.Tensor, texts: Sequence[Tokens]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Append texts, right-padded: hidden states [R, S, hidden], mask [R, P + S], position of each first token."""
    pad, longest = int(thinker.processor.tokenizer.pad_token_id or 0), max(len(t) for t in texts)
    counts = torch.tensor([len(t) for t in texts], device=thinker.device)
    ids = torch.tensor([[*t, *([pad] * (longest - len(t)))] for t in texts], device=thinker.device)
    steps = torch.arange(longest, device=thinker.device)
    mask = torch.cat([prefix.mask[at], (steps[None] < counts[:, None]).long()], 1)
    start = prefix.lengths[at] + prefix.shifts[at]
    return _run(thinker, cache, ids, mask, start[:, None] + steps[None]), mask, start


def score_choices(
    thinker: Thinker,
    cache: DynamicCache,
    mask: torch.Tensor,
    ends: torch.Tensor,
    first: torch.Tensor,
    rows: Sequence[Row],
) -> list[tuple[float, ...]]:
    """Log-prob of each choice's whole text behind its question: sum over its tokens, no end token.

    The proper beginnings of a row's choices form a tree, run in one pass behind the question: a node sees the
    question and its own ancestors. The cache is cut back to the question afterwards.
    """
    trees = [
        sorted({c[:n] for c in row.choices for n in range(1, len(c))}, key=lambda c: (len(c), c)) for row in rows
    ]
    width = max(len(tree) for tree in trees)
    after: list[dict[Tokens, torch.Tensor]] = [{(): first[i]} for i in range(len(rows))]
    if width:
        kept, device = mask.shape[1], thinker.device
        pad = int(thinker.processor.tokenizer.pad_token_id or 0)
        ids = torch.full((len(rows), width), pad)
        depth = torch.zeros(len(rows), width)
        sees = torch.zeros(len(rows), width, kept + width, dtype=torch.bool)
        sees[:, :, :kept] = mask.bool().cpu()[:, None]
        for i, tree in enumerate(trees):
            index = {node: n for n, node in enumerate(tree)}
            for node, n in index.items():
                ids[i, n], depth[i, n] = node[-1], len(node) - 1
                for m in range(1, len(node) + 1):
                    sees[i, n, kept + index[node[:m]]] = True
        bias = torch.zeros(sees.shape, dtype=thinker.dtype).masked_fill_(~sees, torch.finfo(thinker.dtype).min)
        hidden = _run(thinker, cache, ids.to(device), bias[:, None].to(device), ends[:, None] + depth.to(device))
        for i, tree in enumerate(trees):
            if tree:
                made = _log_probs(thinker, hidden[i, : len(tree)])
                after[i].update({node: made[n] for n, node in enumerate(tree)})
        cache.crop(-width)
    out: list[tuple[float, ...]] = []
    for i, row in enumerate(rows):
        terms = [[after[i][c[:n]][token] for n, token in enumerate(c)] for c in row.choices]
        out.append(tuple(float(torch.stack(t).sum()) for t in terms))
    return out


def write(
    thinker: Thinker,
    cache: DynamicCache,
    mask: torch.Tensor,
    ends: torch.Tensor,
    first: torch.Tensor,
    limits: Sequence[int],
    *,
    top: int = 0,
    draw: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ended: bool = False,
) -> list[list[Step]]:
    """Greedy decoding of all rows; rows that are done leave the batch once they are half of it.

    ``draw`` chooses tokens [R] from log-probs [R, V] in which media tokens have -inf, in place of the likeliest;
    ``ended`` keeps the token that ends an answer as its last step.
    """
    suppressed = torch.tensor(thinker.suppressed, dtype=torch.long, device=first.device)
    stop = set(thinker.ends)
    written: list[list[Step]] = [[] for _ in limits]
    live = list(range(len(limits)))  # rows of the cache -> rows of the answer
    done = [False] * len(limits)
    scores, position = first, ends
    for step in range(max(limits)):
        allowed = scores.index_fill(-1, suppressed, -torch.inf)
        chosen = allowed.argmax(-1) if draw is None else draw(allowed)
        steps = read_steps(scores, chosen, top)
        for row, made in zip(live, steps, strict=True):
            if done[row]:
                continue
            if ended or made.token not in stop:
                written[row].append(made)
            done[row] = made.token in stop or step + 1 >= limits[row]
        kept = [n for n, row in enumerate(live) if not done[row]]
        if not kept:
            break
        if len(kept) <= len(live) // 2:
            index = torch.tensor(kept, device=thinker.device)
            for layer in cache.layers:
                layer.batch_select_indices(index.to(layer.keys.device))
            live = [live[n] for n in kept]
            mask, position, chosen = mask[index], position[index], chosen[index.to(chosen.device)]
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], 1)
        hidden = _run(thinker, cache, chosen[:, None], mask, position[:, None])
        scores, position = _log_probs(thinker, hidden[:, -1]), position + 1
    return written


def read_steps(scores: torch.Tensor, chosen: torch.Tensor, top: int) -> list[Step]:
    """What was said at one step, from log-probs [R, V] and chosen tokens [R]."""
    logprobs = scores.gather(-1, chosen[:, None])[:, 0].tolist()
    if not top:
        return [Step(t, p) for t, p in zip(chosen.tolist(), logprobs, strict=True)]
    best = scores.topk(min(top, scores.shape[-1]), -1)
    return [
        Step(t, p, tuple(zip(tokens, values, strict=True)))
        for t, p, tokens, values in zip(
            chosen.tolist(), logprobs, best.indices.tolist(), best.values.tolist(), strict=True
        )
    ]


def whole_text(thinker: Thinker, tokens: Sequence[int]) -> str:
    """The words of an answer, special tokens left out."""
    return str(thinker.processor.tokenizer.decode(list(tokens), skip_special_tokens=True)).strip()


def spelled(thinker: Thinker, answer: Answer, steps: Sequence[Step]) -> Spelled:
    """The answer with its tokens as texts."""
    decode = thinker.processor.tokenizer.decode
    tokens = tuple(
        Token(str(decode([s.token])), s.logprob, tuple((str(decode([t])), p) for t, p in s.likeliest))
        for s in steps
    )
    return Spelled(**{name: getattr(answer, name) for name in answer.__struct_fields__}, tokens=tokens)
