"""Which head writes the answer, and from which modality's tokens does it take what it writes?

Where picture and sound disagree, the model's choice is the sign of one number: the logit of the seen option minus
that of the heard one. The state that it is read from is a sum of what was written into it: by the token's own
embedding, by each attention head of each layer, and by each layer's feed-forward block. A head's part is again a
sum over the tokens that it looked at, so over groups of tokens::

    gap = d . x,   d = (U[seen] - U[heard]) * w / rms(x)
    head h of layer l, group g:   d . O_l[:, h] (sum over tokens k in g of a_k v_k)

U: output matrix; w: weight of the last norm; O: output projection; a: attention; v: values (direct logit
attribution of Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"). **The last norm is
linearised at the scale that the state really has**: rms(x) is taken as it is and not as what it would be without
the part in question. So the parts add up to the gap exactly, but taking one away would change the others' weight.
Direct means what it says: a head that moves sound into the question, for a later head to read, shows under the
later head and its group "instruction". Cutting paths (``causal``) has no such blind spot.

The row is the one that tells the two options apart: behind what their texts begin with in common, mostly the last
token of the prompt.

Functions: ``contributions``, ``tables``; over a run folder: ``contribution``.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from earwitness import run as runs
from earwitness import stats
from earwitness.audit import Bank
from earwitness.models import Model
from earwitness.models.qwen_omni import QwenOmni
from earwitness.models.qwen_wrapped import beside
from earwitness.records import ClipSet, Item, Media, Row, Table
from earwitness.whitebox import forward, lens, opened
from earwitness.whitebox.attention import Call, Out, around, scores
from earwitness.whitebox.edges import PARTS, seen_and_heard
from earwitness.whitebox.joined import Key, clusters
from earwitness.whitebox.moments import GROUPS

CHUNK = 64  # items whose media are in memory at once
SHOWN = 10  # heads in the table
SIDES = {"video": PARTS["video"], "audio": PARTS["audio"], "text": PARTS["text"]}


@dataclass(frozen=True, eq=False, kw_only=True)
class Contribution:
    """What was written towards the seen option (above 0) or the heard one (below), logits. L layers, H heads."""

    item: str
    seen: str
    heard: str
    gap: float  # logit of the seen option minus logit of the heard one: the sum of all that follows
    heads: NDArray[np.float32]  # [L, H, len(GROUPS)]
    blocks: NDArray[np.float32]  # [L] the feed-forward blocks
    embedding: float  # the row's own token

    def side(self, name: str) -> float:
        """All heads together, from the tokens of "video", "audio" or "text"."""
        return float(self.heads[..., [GROUPS.index(g) for g in SIDES[name]]].sum(dtype=np.float64))


def contributions(model: QwenOmni, items: Sequence[Item], media: Sequence[Media]) -> list[Contribution | None]:
    """Direct contributions to the gap between seen and heard option, in the items' order.

    None where picture and sound do not disagree among the choices, or one option's text begins with the other's.

    Raises ValueError as ``capture.capture`` does.
    """
    found: dict[int, _Conflict] = {}
    for n, item in enumerate(items):
        conflict = _conflict(model, item)
        if conflict is not None:
            found[n] = conflict
    places = list(found)
    made = forward.each_batch(
        model, [items[n] for n in places], [media[n] for n in places], [found[n].answer for n in places],
        partial(_read, [found[n] for n in places]),
    )  # fmt: skip
    by_place = dict(zip(places, made, strict=True))
    return [by_place.get(n) for n in range(len(items))]


@dataclass(frozen=True)
class _Conflict:
    seen: str
    heard: str
    answer: tuple[int, ...]  # up to the first token that is the seen option's alone
    token: int  # the heard option's in its place


def _conflict(model: QwenOmni, item: Item) -> _Conflict | None:
    options = seen_and_heard(item)
    if options is None:
        return None
    a, b = (tuple(int(i) for i in model.processor.tokenizer(o)["input_ids"]) for o in options)
    apart = next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    return None if apart is None else _Conflict(*options, a[: apart + 1], b[apart])


def _read(conflicts: Sequence[_Conflict], batch: forward.Batch) -> list[Contribution]:
    decoder, last = batch.decoder, batch.groups.shape[1] - 1
    rows, groups = torch.tensor([last]), batch.groups
    hot = groups[..., None] == torch.arange(len(GROUPS))
    carried: list[torch.Tensor] = []  # by layer [B, H, groups, D]
    written: list[torch.Tensor] = []  # by layer [B, hidden]

    def see(call: Call, proceed: Any) -> Out:
        weights = torch.softmax(scores(call, rows), -1)[:, :, 0]  # [B, H, K]
        mine = hot[:, call.begin : call.total].to(weights)  # [B, K, groups]
        value = call.value[:, :, : call.span].float()
        parts = weights[:, :, None] * mine.transpose(1, 2)[:, None]  # [B, H, groups, K]
        batch_size, heads = weights.shape[:2]
        made = parts.reshape(batch_size, value.shape[1], -1, call.span) @ value
        carried.append(made.view(batch_size, heads, len(GROUPS), -1))
        return proceed(call)  # type: ignore[no-any-return]

    def keep(_: Any, __: Any, out: Any) -> None:
        written.append((out[0] if isinstance(out, tuple) else out)[:, -1].float())

    first: list[torch.Tensor] = []

    def begin(_: Any, args: Any, given: dict[str, Any]) -> None:
        state = args[0] if args else given["hidden_states"]
        first.append(state[:, -1].float())

    with ExitStack() as hooks:
        hooks.enter_context(around(decoder, see))
        hooks.callback(decoder.layers[0].register_forward_pre_hook(begin, with_kwargs=True).remove)
        for layer in decoder.layers:
            hooks.callback(layer.mlp.register_forward_hook(keep).remove)
        kept = hooks.enter_context(lens.states(decoder, rows, [len(decoder.layers) - 1]))
        forward.run(batch)
    mine = [conflicts[a.place] for a in batch.asked]
    final = kept[len(decoder.layers) - 1][:, 0].float()
    direction = _direction(batch, final, mine)

    def along(state: torch.Tensor) -> torch.Tensor:
        return (state.to(direction.device) * direction).sum(-1).cpu()

    heads = torch.stack(
        [_heads(x.self_attn.o_proj, c, direction) for x, c in zip(decoder.layers, carried, strict=True)]
    )
    blocks = torch.stack([along(w) for w in written])
    gap, embedding = along(final), along(first[0])
    return [
        Contribution(
            item=a.item.id, seen=c.seen, heard=c.heard, gap=float(gap[n]), heads=heads[:, n].numpy().copy(),
            blocks=blocks[:, n].numpy().copy(), embedding=float(embedding[n]),
        )
        for n, (a, c) in enumerate(zip(batch.asked, mine, strict=True))
    ]  # fmt: skip


def _direction(batch: forward.Batch, final: torch.Tensor, conflicts: Sequence[_Conflict]) -> torch.Tensor:
    """What a state is multiplied with to get the gap [B, hidden]; the last norm at the scale of these states."""
    norm = batch.decoder.norm
    one = torch.ones(1, final.shape[-1], dtype=batch.thinker.dtype, device=final.device)
    weight = norm(beside(one, norm)).float().to(final.device) * math.sqrt(1 + float(norm.variance_epsilon))
    with torch.enable_grad():  # the output matrix is linear: its gradient is its rows, wherever they lie
        nothing = torch.zeros(final.shape, dtype=batch.thinker.dtype, device=final.device, requires_grad=True)
        logits = batch.head(beside(nothing, batch.head))
        options = torch.tensor([[c.answer[-1], c.token] for c in conflicts], device=logits.device)
        both = logits.float().gather(1, options)
        (apart,) = torch.autograd.grad((both[:, 0] - both[:, 1]).sum(), nothing)
    scale = torch.rsqrt(final.square().mean(-1, keepdim=True) + float(norm.variance_epsilon))
    made: torch.Tensor = apart.float().to(final.device) * weight * scale
    return made


def _heads(project: Any, carried: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Contributions [B, H, groups] of what each head carried [B, H, groups, D].

    The output projection is linear, so its gradient is its transpose: that holds for LoRA and quantised ones too.
    """
    weight = next(project.parameters())
    dtype = weight.dtype if weight.is_floating_point() else torch.float32
    batch, heads, _, dim = carried.shape
    with torch.enable_grad():
        nothing = torch.zeros(batch, heads * dim, dtype=dtype, device=carried.device, requires_grad=True)
        out = project(beside(nothing, project))
        (back,) = torch.autograd.grad(out, nothing, direction.to(out))
    along = back.float().view(batch, heads, 1, dim).to(carried.device)
    made: torch.Tensor = (carried * along).sum(-1)
    return made.cpu()


# --- over a run --------------------------------------------------------------------------------------------------


def contribution(
    folder: Path,
    model: Model,
    *,
    limit: int | None = None,
    conditions: Collection[str] = (),
    clips: ClipSet | None = None,
) -> list[Table]:
    """Tables of direct contributions over a run's items whose picture and sound disagree.

    Arguments, and what is raised: as in ``knockout.knockout``.
    """
    inside = opened.local(model)
    info = runs.read_info(folder)
    opened.same_model(info, model)
    items = [i for i in opened.chosen(folder, limit=limit, conditions=conditions)[0] if seen_and_heard(i)]
    if not items:
        raise runs.RunError(f"{folder}: no item with choices whose picture and sound disagree (audio_swapped)")
    bank = Bank(opened.clips_of(info) if clips is None else clips, model.view)
    made: list[Contribution | None] = []
    for start in range(0, len(items), CHUNK):
        some = items[start : start + CHUNK]
        made += contributions(inside, some, [bank.condition(i.clip, i.intervention) for i in some])
    return tables([c for c in made if c is not None], items)


def tables(found: Iterable[Contribution], items: Iterable[Item]) -> list[Table]:
    """What each modality's tokens write, by what was asked; and the heads that write most from the media."""
    by_id = {i.id: i for i in items}
    groups: dict[Key, list[Contribution]] = {}
    for c in found:
        i = by_id[c.item]
        groups.setdefault(Key(i.protocol, i.condition, i.question, i.style), []).append(c)
    if not groups:
        return []
    return [_sides(groups, by_id), *(_top(key, some, by_id) for key, some in groups.items())]


def _sides(groups: dict[Key, list[Contribution]], by_id: dict[str, Item]) -> Table:
    rows = []
    for key, some in groups.items():
        names = clusters([by_id[c.item] for c in some])
        other = [float(c.heads.sum(dtype=np.float64)) - sum(c.side(s) for s in SIDES) for c in some]
        parts = [
            [c.gap for c in some],
            *([c.side(s) for c in some] for s in SIDES),
            other,
            [float(c.blocks.sum(dtype=np.float64)) for c in some],
            [c.embedding for c in some],
        ]
        rows.append(Row(str(key), (*(stats.mean(p, names) for p in parts), len(some))))
    return Table(
        id="contribution",
        title="What writes the choice between the seen and the heard option",
        caption=(
            "Direct contributions to logit(seen option) - logit(heard option), logits; above 0 towards what is "
            "seen. All heads together, by the tokens that they read; then the feed-forward blocks, and the row's "
            "own token. They add up to the gap: the last norm is linearised at its actual scale."
        ),
        columns=(
            "gap",
            *(f"from {s}" for s in SIDES),
            "from sink and markers",
            "feed-forward",
            "own token",
            "items",
        ),
        rows=tuple(rows),
        unit="score",
    )


def _top(key: Key, found: Sequence[Contribution], by_id: dict[str, Item]) -> Table:
    names = clusters([by_id[c.item] for c in found])
    stack = np.stack([c.heads for c in found]).astype(np.float64)  # [items, L, H, groups]
    rows: list[tuple[float, Row]] = []
    for side in ("video", "audio"):
        at = GROUPS.index(side)
        means = stack[..., at].mean(0)
        for place in np.argsort(-np.abs(means), axis=None)[:SHOWN]:
            layer, head = (int(i) for i in np.unravel_index(place, means.shape))
            cell = stats.mean(stack[:, layer, head, at].tolist(), names)
            rows.append((-abs(float(means[layer, head])), Row(f"layer {layer}, head {head}, {side}", (cell,))))
    ordered = sorted(rows, key=lambda one: one[0])[:SHOWN]
    return Table(
        id=f"contribution_heads_{key.protocol}_{key.condition}_{key.question}_{key.style}",
        title=f"The heads that write most from picture and sound: {key}",
        caption=(
            f"Mean direct contribution to logit(seen option) - logit(heard option), the {SHOWN} largest of "
            f"{stack.shape[1] * stack.shape[2]} heads; their intervals do not account for that choice."
        ),
        columns=("contribution",),
        rows=tuple(row for _, row in ordered),
        unit="score",
    )
