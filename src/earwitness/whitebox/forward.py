"""One pass of a model over prompt and given answer: the rows that an answer was made from, without making it again.

Generating first and looking afterwards gives the same rows (to 2e-6) and keeps decoding fast; it is also the only
way for answers that came from elsewhere, a server for instance: their tokens are replayed here.

Prompts, features, positions and padding are the adapter's own (``qwen_inputs``, ``qwen_decode.prefill``): encoder
outputs come from its caches, and the answer's tokens follow the prompt. The answer's last token is not read, since
nothing is predicted from it; end tokens are no part of an answer. No logits are made here at all: who needs some
projects the rows needed (``lens``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch

from earwitness.models import qwen_decode, qwen_memory
from earwitness.models import qwen_inputs as inputs
from earwitness.models.qwen_cache import Heard, Seen
from earwitness.models.qwen_inputs import Kind, Layout, Thinker
from earwitness.models.qwen_omni import QwenOmni
from earwitness.records import Answer, Item, Media
from earwitness.whitebox.attention import text_decoder
from earwitness.whitebox.groups import Tokens, group_tokens
from earwitness.whitebox.moments import Captured

Given = str | Sequence[int]  # an answer: its text, or the very tokens
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Asked:
    """One item with the answer to be read behind it."""

    place: int  # in the call
    item: Item
    media: Media
    kind: Kind
    answer: tuple[int, ...]
    size: int  # tokens of prompt and answer


@dataclass(frozen=True, eq=False)
class Batch:
    """Items of one kind laid out behind padding on the left; the last rows are those that predict the answers."""

    thinker: Thinker
    asked: tuple[Asked, ...]
    tokens: tuple[Tokens, ...]
    layouts: tuple[Layout, ...]  # of prompt and answer
    seen: tuple[Seen | None, ...]
    heard: tuple[Heard | None, ...]
    groups: torch.Tensor  # [B, T], -1 = padding

    @property
    def decoder(self) -> Any:
        """The text layers."""
        return text_decoder(self.thinker.model)

    @property
    def head(self) -> Any:
        """The output matrix."""
        return self.thinker.model.get_output_embeddings()

    @property
    def width(self) -> int:
        """Answer tokens of the longest answer: as many rows are read of each item."""
        return max(len(a.answer) for a in self.asked)

    @property
    def rows(self) -> torch.Tensor:
        """Their positions [width]; an item with a shorter answer has its rows last (``own``)."""
        length = self.groups.shape[1]
        return torch.arange(length - self.width, length)

    def own(self, n: int) -> slice:
        """Which of the rows read are the n-th item's: its last prompt row, then one for each answer token."""
        return slice(self.width - len(self.asked[n].answer), None)

    @property
    def targets(self) -> torch.Tensor:
        """Token that each row is to predict [B, width]; 0 in rows that are not the item's own."""
        out = torch.zeros(len(self.asked), self.width, dtype=torch.long)
        for n, a in enumerate(self.asked):
            out[n, self.own(n)] = torch.tensor(a.answer)
        return out


def answer_tokens(thinker: Thinker, item: Item, answer: Given) -> tuple[int, ...]:
    """Token ids of an answer: those given, or its text's, without an end token.

    A text is tokenised anew; where the model wrote other tokens for the same text, its log-prob differs from
    ``Answer.logprob`` (``drift`` tells).

    Raises ValueError for an answer without tokens, or with a media token in it.
    """
    if isinstance(answer, str):
        ids = tuple(int(i) for i in thinker.processor.tokenizer(answer)["input_ids"])
    else:
        ids = tuple(int(i) for i in answer)
        while ids and ids[-1] in thinker.ends:
            ids = ids[:-1]
    if not ids:
        raise ValueError(f"item {item.id}: an empty answer has no rows to look into (was there an error?)")
    if set(ids) & set(thinker.suppressed):
        raise ValueError(f"item {item.id}: the answer {answer!r} contains a media token")
    return ids


def local(model: object) -> QwenOmni:
    """The model, where its weights are here to be looked into.

    Raises ValueError for any other: a server tells no attention, and zeros would be a lie.
    """
    if isinstance(model, QwenOmni):
        return model
    name = getattr(model, "name", type(model).__name__)
    raise ValueError(
        f"{name} cannot be looked into: its weights are not on this machine. "
        f"Load a local copy (qwen2.5-omni:PATH or qwen3-omni:PATH) and replay the answers there"
    )


def each_batch(
    model: QwenOmni,
    items: Sequence[Item],
    media: Sequence[Media],
    answers: Sequence[Given],
    work: Callable[[Batch], Sequence[_T]],
) -> list[_T]:
    """``work(batch)`` for all items, in batches that fit the memory; its results (one per item) in their order.

    Where the memory runs out a batch is halved, as in asking.

    Raises
    ------
    ValueError
        Where the model is not a local one, numbers differ, media do not fit the model, an answer is empty, or one
        item alone does not fit the memory.
    """
    model = local(model)
    if not len(items) == len(media) == len(answers):
        raise ValueError(
            f"{len(items)} items, {len(media)} media, {len(answers)} answers: not one of each per item"
        )
    for m in {id(m): m for m in media}.values():
        inputs.check_media(model.thinker, m)
    asked = []
    for n, (item, m, given) in enumerate(zip(items, media, answers, strict=True)):
        answer = answer_tokens(model.thinker, item, given)
        size = model.tokens(item, m) + len(answer)
        asked.append(Asked(n, item, m, inputs.kind_of(m), answer, size))
    asked.sort(key=lambda a: (a.kind, a.size))
    out: dict[int, _T] = {}
    with torch.no_grad():
        for some in _fitting(model, asked):
            for a, made in _worked(model, some, work):
                out[a.place] = made
    return [out[n] for n in range(len(items))]


def _fitting(model: QwenOmni, asked: Sequence[Asked]) -> Iterator[list[Asked]]:
    batch: list[Asked] = []
    for a in asked:
        full = len(batch) + 1 > model.room.rows or (len(batch) + 1) * a.size > model.room.tokens
        if batch and (full or batch[0].kind != a.kind):
            yield batch
            batch = []
        batch.append(a)
    if batch:
        yield batch


def _worked(
    model: QwenOmni, some: list[Asked], work: Callable[[Batch], Sequence[_T]]
) -> Iterator[tuple[Asked, _T]]:
    try:
        made = list(work(lay_out(model, some)))
    except qwen_memory.SHORT as error:
        if not qwen_memory.ran_out(error):
            raise
        why = (str(error).splitlines() or ["no memory"])[0]
    else:
        yield from zip(some, made, strict=True)
        return
    # Only out here, with the traceback gone, can the failed batch's tensors be given back.
    model.room.lower()
    model.forget()
    qwen_memory.release(model.thinker.device)
    if len(some) == 1:
        raise ValueError(
            f"item {some[0].item.id}: out of memory with this item alone ({some[0].size} tokens): sample less, cut "
            f"the clip, or compute in 16 bit ({why})"
        )
    for part in (some[: len(some) // 2], some[len(some) // 2 :]):
        yield from _worked(model, part, work)


def lay_out(model: QwenOmni, asked: Sequence[Asked]) -> Batch:
    """Tokens, positions, features and groups of items of one kind with their answers."""
    thinker = replace(model.thinker, model=model.thinker.bare)
    seen, heard = model.encode([a.media for a in asked])
    layouts, tokens = [], []
    for a, s, h in zip(asked, seen, heard, strict=True):
        before, after = inputs.split_prompt(thinker, a.item, a.kind)
        prefix = inputs.lay_out(thinker, before, a.kind, s, h)
        tail = torch.tensor([*after, *a.answer[:-1]], dtype=prefix.ids.dtype, device=prefix.ids.device)
        at = torch.arange(len(prefix), len(prefix) + len(tail), device=prefix.ids.device) + prefix.shift
        positions = torch.cat([prefix.positions, at.to(prefix.positions.dtype).expand(3, -1)], 1)
        layouts.append(replace(prefix, ids=torch.cat([prefix.ids, tail]), positions=positions))
        tokens.append(group_tokens(thinker, a.item, a.kind, prefix, a.answer[:-1]))
        assert tokens[-1].ids == tuple(layouts[-1].ids.tolist()), "groups and inputs are of different tokens"
    groups = torch.full((len(asked), max(len(x) for x in layouts)), -1)
    for n, t in enumerate(tokens):
        groups[n, groups.shape[1] - len(t.ids) :] = torch.from_numpy(t.groups.astype(np.int64))
    return Batch(thinker, tuple(asked), tuple(tokens), tuple(layouts), tuple(seen), tuple(heard), groups)


def run(batch: Batch) -> None:
    """The pass itself: for those who watch (``capture.probe``, ``lens.states``)."""
    qwen_decode.prefill(batch.thinker, batch.layouts, batch.seen, batch.heard)


def drift(captured: Captured, answer: Answer) -> float | None:
    """|difference| per token between a replayed answer's log-prob and the one it came with; None without either.

    Above about 0.01 in float32, 0.1 in 16 bit, the replay is not what was said: other weights, other media, a
    quantised server, or a text that the model wrote in other tokens.
    """
    if captured.logp_answer is None or answer.logprob is None:
        return None
    replayed = float(captured.logp_answer[-1].sum(dtype=np.float64))
    return float(abs(replayed - answer.logprob) / captured.logp_answer.shape[1])
