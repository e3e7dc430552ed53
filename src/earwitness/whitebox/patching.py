"""The keys and values of one clip's media put in the place of another's: the doing of :mod:`.twins`.

All that lies behind a media token reads it through its keys and values, which a prefilled prompt holds by layer.
Patching is therefore no hook: two prompts are read as ever, up to the end of their media, some layers' keys and
values are exchanged at some places, and the question is read behind the result. What is not exchanged is to the bit
what it was.

Functions: ``patch``, ``odds``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from earwitness.models import qwen_decode
from earwitness.models.qwen_omni import QwenOmni
from earwitness.records import Item, Media
from earwitness.whitebox import forward
from earwitness.whitebox.edges import PARTS, Window, media_end
from earwitness.whitebox.moments import GROUPS
from earwitness.whitebox.twins import Pair, Patched

# The marks around sound and picture have read them too: without those a clip's media are not all of it.
MEDIA = {"audio": PARTS["audio"], "video": PARTS["video"], "media": ("video", "audio", "marker")}


def patch(
    model: QwenOmni,
    pairs: Sequence[Pair],
    media: Sequence[tuple[Media, Media]],
    windows: Sequence[Window],
    parts: Sequence[str] = ("audio", "video"),
) -> list[list[Patched]]:
    """Every part (audio, video, media: both with their marks) in every window of layers, for each pair.

    A part that a pair has no tokens of is left out.

    Raises
    ------
    ValueError
        Where two twins are not laid out alike, an item has no two choices, or a part or layer is none.
    """
    odd = [p for p in parts if p not in MEDIA]
    if odd:
        raise ValueError(f"{odd[0]!r} cannot be patched: {', '.join(MEDIA)} can")
    layers = int(model.model.config.get_text_config().num_hidden_layers)
    for low, high in windows:
        if not 0 <= low <= high < layers:
            raise ValueError(f"layers {low}-{high}: the model has {layers} layers, counted from 0")
    for receiver, _ in pairs:
        if len(receiver.choices) < 2:
            raise ValueError(f"item {receiver.id}: log-odds need at least two choices")
    work = partial(_patched, model, pairs, media, windows, parts)
    return forward.each_batch(
        model, [r for r, _ in pairs], [m for m, _ in media], [r.choices[0] for r, _ in pairs], work
    )


def _patched(
    model: QwenOmni,
    pairs: Sequence[Pair],
    media: Sequence[tuple[Media, Media]],
    windows: Sequence[Window],
    parts: Sequence[str],
    batch: forward.Batch,
) -> list[list[Patched]]:
    thinker = batch.thinker
    theirs = forward.lay_out(
        model, [replace(a, item=pairs[a.place][1], media=media[a.place][1]) for a in batch.asked]
    )
    for mine, other in zip(range(len(batch.asked)), theirs.asked, strict=True):
        _alike(batch, theirs, mine, other.item)
    groups = [t.groups[: t.prompt] for t in batch.tokens]
    splits = [media_end(g) for g in groups]
    tokenizer = thinker.processor.tokenizer
    rows = [
        qwen_decode.Row(
            n,
            t.ids[s : t.prompt],
            tuple(tuple(int(i) for i in tokenizer(c)["input_ids"]) for c in a.item.choices),
            0,
        )
        for n, (a, t, s) in enumerate(zip(batch.asked, batch.tokens, splits, strict=True))
    ]
    own, lent = _prefix(batch, splits), _prefix(theirs, splits)

    def read(prefix: qwen_decode.Prefix) -> list[dict[str, float]]:
        said = qwen_decode.ask(thinker, prefix, rows)
        return [dict(zip(a.item.choices, s.logprobs, strict=True)) for a, s in zip(batch.asked, said, strict=True)]

    plain, donor = read(own), read(lent)
    best = [max(d, key=lambda c: d[c]) for d in donor]
    out: list[list[Patched]] = [[] for _ in rows]
    for part in parts:
        where = torch.zeros(own.mask.shape, dtype=torch.bool)
        wanted = [GROUPS.index(name) for name in MEDIA[part]]
        for n, (g, s) in enumerate(zip(groups, splits, strict=True)):
            where[n, where.shape[1] - s :] = torch.from_numpy(np.isin(g[:s], wanted))
        count = where.sum(1).tolist()
        for window in windows:
            made = read(_given(own, lent, where, window))
            for n, (a, option) in enumerate(zip(batch.asked, best, strict=True)):
                if count[n]:
                    out[n].append(
                        Patched(
                            item=a.item.id, donor=theirs.asked[n].item.id, part=part, layers=window,
                            tokens=count[n], option=option, with_donor=odds(donor[n], option),
                            plain=odds(plain[n], option), patched=odds(made[n], option),
                        )
                    )  # fmt: skip
    return out


def _alike(batch: forward.Batch, theirs: forward.Batch, n: int, donor: Item) -> None:
    mine, other = batch.tokens[n], theirs.tokens[n]
    same = mine.ids == other.ids and torch.equal(batch.layouts[n].positions, theirs.layouts[n].positions)
    if not same:
        sizes = [
            {name: int((t.groups == GROUPS.index(name)).sum()) for name in ("video", "audio")}
            for t in (mine, other)
        ]
        raise ValueError(
            f"items {batch.asked[n].item.id} and {donor.id} are not laid out alike ({len(mine.ids)} tokens with "
            f"{sizes[0]}, {len(other.ids)} with {sizes[1]}): only twins with the same question, length and tracks "
            "can lend each other keys and values"
        )


def _prefix(batch: forward.Batch, splits: Sequence[int]) -> qwen_decode.Prefix:
    layouts = [
        replace(x, ids=x.ids[:s], positions=x.positions[:, :s]) for x, s in zip(batch.layouts, splits, strict=True)
    ]
    return qwen_decode.prefill(batch.thinker, layouts, batch.seen, batch.heard)


def _given(
    own: qwen_decode.Prefix, lent: qwen_decode.Prefix, where: torch.Tensor, window: Window
) -> qwen_decode.Prefix:
    keys, values = list(own.keys), list(own.values)
    for layer in range(window[0], window[1] + 1):
        at = where[:, None, :, None].to(keys[layer].device)  # each layer's are where the layer is
        keys[layer] = torch.where(at, lent.keys[layer], own.keys[layer])
        values[layer] = torch.where(at, lent.values[layer], own.values[layer])
    return replace(own, keys=keys, values=values)


def odds(logprobs: Mapping[str, float], option: str) -> float:
    """Log-odds of an option among the choices, nats: its log-prob minus that of all others together."""
    others = [p for choice, p in logprobs.items() if choice != option]
    return logprobs[option] - float(np.logaddexp.reduce(others))
