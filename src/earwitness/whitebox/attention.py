"""How does one see a model's attention without slowing it down or changing it?

Every text layer of transformers hands its queries (rotated), keys and values (behind the cache) to one function,
looked up by name in a table. ``around`` puts a wrapper into that place of the table and takes it out again,
whatever happens; fused kernels stay on. What a wrapper wants to know is computed beside them, for few rows:
``scores`` are the exact masked scores of chosen queries, in float32 whatever the model computes in.

The entry *in use* is wrapped. A new name in the table would get no mask function and lose padding and sliding
windows without a word; ``output_attentions`` returns nothing under fused kernels, and full matrices under the
plain one: 13 GB for 2,000 tokens of a 7B model.

Positions are absolute: the place of a token in the whole (padded) sequence, however much of it a cache holds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

FEW = 32  # rows below which plain products beat a fused kernel's mask
Out = tuple[torch.Tensor, torch.Tensor | None]  # [B, Q, H, D], and weights where the implementation has them


@dataclass(frozen=True, eq=False)
class Call:
    """What a text layer hands to its attention function."""

    layer: int
    query: torch.Tensor  # [B, H, Q, D], after the rotary embedding
    key: torch.Tensor  # [B, KV, K, D], after the cache; may be longer (static cache) or shorter (sliding window)
    value: torch.Tensor
    mask: torch.Tensor | None  # [B, 1, Q, K] bool or additive; [B, K] (flash attention); None: causal
    scaling: float
    window: int | None  # sliding window, tokens
    past: int  # position of the first query

    @property
    def total(self) -> int:
        """Tokens up to and with the last query."""
        return self.past + self.query.shape[2]

    @property
    def begin(self) -> int:
        """Position of the first key: 0, unless a sliding cache has dropped some."""
        return max(0, self.total - self.key.shape[2])

    @property
    def span(self) -> int:
        """Keys that are tokens; a static cache returns more."""
        return min(self.total, self.key.shape[2])


See = Callable[[Call, Callable[[Call], Out]], Out]


def text_decoder(model: Any) -> Any:
    """The stack of text layers inside a thinker, a full Omni model, or a wrapper (LoRA) around one.

    Raises ValueError where there is none.
    """
    for module in model.modules():
        layers = getattr(module, "layers", None)
        parts = all(hasattr(module, name) for name in ("embed_tokens", "norm", "config"))
        if parts and isinstance(layers, torch.nn.ModuleList) and len(layers) and hasattr(layers[0], "self_attn"):
            return module
    raise ValueError(f"no stack of text layers found in {type(model).__name__}: attention cannot be read there")


@contextmanager
def around(decoder: Any, see: See) -> Iterator[None]:
    """Let ``see(call, proceed)`` stand in for the attention of the decoder's layers; ``proceed`` is the real one.

    Other modules that use the same function (towers, another model) are not touched. Nests: the inner one is
    called first.

    Raises
    ------
    ValueError
        Where the model's attention is not looked up in transformers' table.
    """
    attending = {id(layer.self_attn): n for n, layer in enumerate(decoder.layers)}
    home = sys.modules[type(decoder.layers[0].self_attn).__module__]
    way, table = str(decoder.config._attn_implementation), getattr(home, "ALL_ATTENTION_FUNCTIONS", None)
    if table is None or way.startswith("paged|") or (way != "eager" and way not in table):
        raise ValueError(
            f"the attention {way!r} of {type(decoder).__name__} is not one that can be read: load the model with "
            f"attn='sdpa', 'flash_attention_2' or 'eager'"
        )
    before = table._local_mapping.get(way)  # set where this is nested, or someone else has put something there
    standing, past = table.get(way), 0

    def begin(_: Any, args: Any, given: dict[str, Any]) -> None:
        nonlocal past
        cache = given.get("past_key_values")
        past = 0 if cache is None else int(cache.get_seq_length())

    def original(module: Any) -> Callable[..., Out]:
        # "eager" is not in the table: each modeling file brings its own.
        return standing or sys.modules[type(module).__module__].eager_attention_forward  # type: ignore[no-any-return]

    def entry(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *args: Any, **kw: Any) -> Out:
        function = original(module)
        layer = attending.get(id(module))
        if layer is None:
            return function(module, query, key, value, attention_mask, *args, **kw)
        scaling = kw.get("scaling")
        call = Call(
            layer, query, key, value, attention_mask,
            scaling=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
            window=kw.get("sliding_window"),
            past=past,
        )  # fmt: skip
        return see(call, lambda c: function(module, c.query, c.key, c.value, c.mask, *args, **kw))

    hook = decoder.register_forward_pre_hook(begin, with_kwargs=True)
    table[way] = entry
    try:
        yield
    finally:
        hook.remove()
        if before is None:
            del table[way]
        else:
            table[way] = before


# --- chosen rows -------------------------------------------------------------------------------------------------


def rows_in(call: Call, wanted: int | torch.Tensor) -> torch.Tensor:
    """Of the wanted positions (ascending; an int: all from there on) those of this call, on the CPU."""
    if isinstance(wanted, int):
        return torch.arange(min(max(wanted, call.past), call.total), call.total)
    return wanted[(wanted >= call.past) & (wanted < call.total)]


def _at(call: Call, tensor: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Rows of a tensor [B, n, Q, m]; neighbours as a view, without a copy of the indices to the device."""
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows):
        return tensor[:, :, first - call.past : last - call.past + 1]
    return tensor[:, :, rows - call.past]


def scores(call: Call, rows: torch.Tensor, edit: torch.Tensor | None = None) -> torch.Tensor:
    """Masked attention scores [B, H, R, K] of the queries at positions ``rows``, float32, -inf where masked.

    ``edit`` [B, 1 or H, R, K] is added to them.
    """
    query, key = _at(call, call.query, rows).float(), call.key[:, :, : call.span].float()
    batch, heads, count, dim = query.shape
    groups = key.shape[1]  # grouped-query attention: heads of one group share their keys, which are not repeated
    made = query.reshape(batch, groups, heads // groups * count, dim) @ key.transpose(2, 3)
    made = made.mul_(call.scaling).view(batch, heads, count, call.span)
    if call.mask is not None and call.mask.ndim == 4:
        mask = _at(call, call.mask, rows)[..., : call.span]
        made = made.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else made.add_(mask)
    else:
        lowest = int(rows[0])
        if call.window or call.mask is not None:
            made.masked_fill_(~_seen(call, rows, call.begin), -torch.inf)
        elif lowest + 1 < call.total:  # keys up to the lowest row are seen by all
            tail = max(lowest, call.begin)
            made[..., tail - call.begin :].masked_fill_(~_seen(call, rows, tail), -torch.inf)
    return made if edit is None else made.add_(edit)


def _seen(call: Call, rows: torch.Tensor, first: int) -> torch.Tensor:
    """Which keys from position ``first`` on the rows see where no 4-D mask says it: [B or 1, 1, R, K']."""
    device = call.key.device
    at = torch.arange(first, call.total, device=device)
    asking = rows.to(device)[:, None]
    out = at <= asking
    if call.window:
        out &= at > asking - call.window
    out = out[None, None]
    if call.mask is not None:  # flash attention's own: [B, K], 1 = a token
        out = out & call.mask[:, None, None, call.mask.shape[1] - len(at) :].bool()
    return out


def attend(call: Call, rows: torch.Tensor, edit: torch.Tensor) -> torch.Tensor:
    """The layer's output [B, R, H, D] for these rows alone, with ``edit`` [B, 1 or H, R, K] added to their scores.

    A row that is left nothing to look at takes in nothing: zeros.
    """
    value = call.value[:, :, : call.span]
    batch, groups, _, dim = value.shape
    if len(rows) < FEW:
        weights = torch.softmax(scores(call, rows, edit), -1).to(value.dtype)
        made = weights.view(batch, groups, -1, call.span) @ value
        return made.view(batch, -1, len(rows), dim).transpose(1, 2).nan_to_num()
    # Many rows: a fused kernel again, with a mask of these rows only, never of all tokens by all tokens.
    if call.mask is not None and call.mask.ndim == 4:
        mask = _at(call, call.mask, rows)[..., : call.span]
    else:
        mask = _seen(call, rows, call.begin)
    if mask.dtype == torch.bool:
        bias = edit.masked_fill(~mask, -torch.inf)
    else:
        bias = edit + mask
    made = torch.nn.functional.scaled_dot_product_attention(
        _at(call, call.query, rows),
        call.key[:, :, : call.span],
        value,
        attn_mask=bias.to(call.query.dtype),
        scale=call.scaling,
        enable_gqa=groups != call.query.shape[1],
    )
    return made.transpose(1, 2).nan_to_num()
