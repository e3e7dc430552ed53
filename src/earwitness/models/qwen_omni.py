"""Qwen2.5-Omni and Qwen3-Omni as models under audit: loaded once, asked in groups, with receipts.

What is shared, and exactly so (``plain=True`` shares nothing and is what the tests hold the rest to):

- encode once: a frame stack and a wave pass their towers once each (``seen``, ``heard``: caches by content);
- prefill once: all questions on the same media continue one prefix, batched across clips; questions that also
  begin with the same long text read that once;
- choices of a question are scored as one tree behind it, then the answer is decoded greedily from there.

Conventions: greedy decoding, media tokens never generated, an empty generation is an error and not an answer.
``Answer.logprobs`` maps each choice to the natural log of its whole text's probability behind the prompt (sum
over its tokens, no end token). ``Answer.fed`` is read off the tensors that went in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from earwitness.models import qwen_decode as decode
from earwitness.models import qwen_inputs as inputs
from earwitness.models import qwen_plain as plainly
from earwitness.models import qwen_towers as towers
from earwitness.models.qwen_cache import FeatureCache, Heard, Seen
from earwitness.models.qwen_inputs import Kind, Layout, Thinker
from earwitness.models.qwen_load import load_thinker, wrap
from earwitness.records import Answer, Fed, Item, Media, View, digest

_T = TypeVar("_T")
BATCH = 32
SCORES = 1 << 22  # attention scores of one head in a batch, at most: long texts gain nothing from company
SHARED = 64  # tokens that questions on the same media must have in common to be read together
TOKENS = 1 << 17  # tokens in a batch's keys and values, at most: 7.5 GB for Qwen2.5-Omni-7B in bfloat16


@dataclass(eq=False)
class _Group:
    """Questions on the same media with the same beginning: one prefix."""

    media: Media
    kind: Kind
    before: tuple[int, ...]
    asks: list[tuple[int, Item, tuple[int, ...]]]  # place in the call, item, tokens behind the media
    size: int  # tokens of the prefix, estimated from the media's shape


class _Question(NamedTuple):
    """One question: its place in the call, which prefix it follows, and its tokens behind that."""

    place: int
    item: Item
    prefix: int
    tokens: tuple[int, ...]


class _Family(NamedTuple):
    """Questions on the same media that begin with the same long text (MMA's long context)."""

    prefix: int
    text: tuple[int, ...]
    asks: list[_Question]


def _families(groups: list[_Group]) -> tuple[list[_Question], list[_Family]]:
    """Questions that stand alone, and those that share at least SHARED tokens behind their media."""
    alike: dict[object, list[_Question]] = {}
    for g, group in enumerate(groups):
        for place, item, after in group.asks:
            key = (g, after[:SHARED]) if len(after) > SHARED else place
            alike.setdefault(key, []).append(_Question(place, item, g, after))
    singles = [q for some in alike.values() if len(some) == 1 for q in some]
    families = []
    for some in alike.values():
        if len(some) > 1:
            low, high = min(q.tokens for q in some), max(q.tokens for q in some)
            least = min(len(q.tokens) for q in some) - 1  # each keeps a token of its own to be read last
            common = next((n for n in range(least) if low[n] != high[n]), least)
            families.append(_Family(some[0].prefix, low[:common], some))
    return singles, families


class QwenOmni:
    """A Qwen omni thinker behind the Model protocol.

    Parameters
    ----------
    path : a checkpoint folder or hub id, of a thinker or of a full Omni model; or a ``Thinker`` from ``wrap``.
    plain : one processor call and one ``generate`` per item, nothing shared.
    logprobs : score the choices of items that have some.
    batch : questions decoded together.
    cache_bytes : bound of each of the two feature caches.
    Other arguments: see ``qwen_load.load_thinker``.

    Raises
    ------
    ValueError
        Where the checkpoint is unknown or incomplete, or the options do not fit.
    """

    def __init__(
        self,
        path: str | Path | Thinker,
        *,
        name: str | None = None,
        revision: str | None = None,
        plain: bool = False,
        logprobs: bool = True,
        batch: int | None = None,
        cache_bytes: int = 1 << 30,
        **how: Any,
    ) -> None:
        if batch is not None and batch < 1:
            raise ValueError(f"a batch of {batch} questions cannot be asked: 1 or more")
        found: str | None
        if isinstance(path, Thinker):
            self.thinker, found, named = path, "in memory", None
        else:
            self.thinker, manual, found = load_thinker(path, **how)
            named = manual.name or f"{self.thinker.family}:{path}"
        self.name = name or named or self.thinker.family
        self.revision = revision or found
        self.view: View = self.thinker.view
        self.plain, self.batch = plain, batch or BATCH
        self.abilities = frozenset({"tokens", "generates"} | ({"logprobs"} if logprobs else set()))
        self.seen: FeatureCache[Seen] = FeatureCache(cache_bytes)
        self.heard: FeatureCache[Heard] = FeatureCache(cache_bytes)
        self._fed_as = digest(self.revision, self.thinker.video_options, self.thinker.dtype)

    @property
    def model(self) -> Any:
        """The transformers thinker, for white-box work and training."""
        return self.thinker.model

    @property
    def processor(self) -> Any:
        """Its processor."""
        return self.thinker.processor

    @property
    def decoding(self) -> str:
        """How answers are decoded and computed, in words for the run's record."""
        t = self.thinker
        attn = t.model.config._attn_implementation
        way = "plain" if self.plain else f"shared, batch {self.batch}"
        return (
            f"greedy, media tokens suppressed; {str(t.dtype).removeprefix('torch.')} on {t.device}, {attn}, {way}"
        )

    def forget(self) -> None:
        """Drop all cached features: call it after the weights have changed."""
        self.seen.clear()
        self.heard.clear()

    def tokens(self, item: Item, media: Media) -> int:
        """Prompt tokens of an item on media of this shape, without running anything on them."""
        kind = inputs.kind_of(media)
        before, after = inputs.split_prompt(self.thinker, item, kind)
        return self._prefix_size(media, kind, before) + len(after)

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """Answers to the items, in their order.

        Raises
        ------
        ValueError
            Where items and media differ in number, or media do not fit the model's view.
        """
        if len(items) != len(media):
            raise ValueError(f"{len(items)} items for {len(media)} media")
        for m in {id(m): m for m in media}.values():
            inputs.check_media(self.thinker, m)
        with torch.no_grad():
            if self.plain:
                return [self._ask_plainly(i, m) for i, m in zip(items, media, strict=True)]
            out: dict[int, Answer] = {}
            for groups in self._batches(self._groups(items, media)):
                out.update(self._ask(groups))
        return [out[n] for n in range(len(items))]

    # --- the plain way -----------------------------------------------------------------------------------------

    def _ask_plainly(self, item: Item, media: Media) -> Answer:
        start = time.perf_counter()
        score = "logprobs" in self.abilities
        tokens, logprobs, fed = plainly.ask(self.thinker, item, media, logprobs=score)
        return self._answered(item, tokens, logprobs, fed, time.perf_counter() - start)

    # --- the shared way ----------------------------------------------------------------------------------------

    def _groups(self, items: Sequence[Item], media: Sequence[Media]) -> list[_Group]:
        groups: dict[object, _Group] = {}
        for n, (item, m) in enumerate(zip(items, media, strict=True)):
            kind = inputs.kind_of(m)
            before, after = inputs.split_prompt(self.thinker, item, kind)
            key = (m.video_hash, m.audio_hash, before)
            if key not in groups:
                groups[key] = _Group(m, kind, before, [], self._prefix_size(m, kind, before))
            groups[key].asks.append((n, item, after))
        return sorted(groups.values(), key=lambda g: (g.kind, g.size))

    def _batches(self, groups: list[_Group]) -> Iterator[list[_Group]]:
        """Groups of one kind whose questions fill a batch; a group larger than a batch stays whole."""
        batch: list[_Group] = []
        for group in groups:
            asked = sum(len(g.asks) for g in batch) + len(group.asks)
            held = (1 + len(batch)) * max(group.size, *(g.size for g in batch), 1)
            if batch and (batch[0].kind != group.kind or asked > self.batch or held > TOKENS):
                yield batch
                batch = []
            batch.append(group)
        if batch:
            yield batch

    def _ask(self, groups: list[_Group]) -> Iterator[tuple[int, Answer]]:
        start = time.perf_counter()
        seen, heard = self._encode([g.media for g in groups])
        layouts = [
            inputs.lay_out(self.thinker, g.before, g.kind, s, h)
            for g, s, h in zip(groups, seen, heard, strict=True)
        ]
        prefix = decode.prefill(self.thinker, layouts, seen, heard)
        shared = (time.perf_counter() - start) / sum(len(g.asks) for g in groups)
        fed = {
            p: _receipt(layouts[g], seen[g], heard[g], len(a)) for g, x in enumerate(groups) for p, _, a in x.asks
        }
        singles, families = _families(groups)
        yield from self._answers(prefix, singles, fed, shared)
        for some in self._chunks(families, prefix.mask.shape[1], lambda f: len(f.text)):
            start = time.perf_counter()
            further = decode.extend(self.thinker, prefix, [f.prefix for f in some], [f.text for f in some])
            rows = [
                q._replace(prefix=n, tokens=q.tokens[len(f.text) :]) for n, f in enumerate(some) for q in f.asks
            ]
            each = shared + (time.perf_counter() - start) / len(rows)
            yield from self._answers(further, rows, fed, each)

    def _answers(
        self, prefix: decode.Prefix, questions: list[_Question], fed: dict[int, Fed], shared: float
    ) -> Iterator[tuple[int, Answer]]:
        """Ask questions behind a prefix, batch by batch; ``shared`` is each one's part of what came before."""
        questions = sorted(questions, key=lambda q: (len(q.tokens), q.item.decode))
        for some in self._chunks(questions, prefix.mask.shape[1], lambda q: len(q.tokens) + q.item.decode):
            start = time.perf_counter()
            rows = [decode.Row(q.prefix, q.tokens, self._choices(q.item), q.item.decode) for q in some]
            said = decode.ask(self.thinker, prefix, rows)
            each = shared + (time.perf_counter() - start) / len(some)
            for q, s in zip(some, said, strict=True):
                yield q.place, self._answered(q.item, s.tokens, s.logprobs, fed[q.place], each)

    def _chunks(self, rows: list[_T], prefix: int, length: Callable[[_T], int]) -> Iterator[list[_T]]:
        """Rows, shortest first, in batches that fit by number, by tokens held, and by attention scores at once.

        Padding is bounded too: a row more than twice as long as a batch's shortest begins a new batch.
        """
        batch: list[_T] = []
        for row in sorted(rows, key=length):
            n, new = len(batch) + 1, length(row)
            held = n * (prefix + new)
            unlike = bool(batch) and new > 2 * length(batch[0]) + 32
            if batch and (n > self.batch or held > TOKENS or held * new > SCORES or unlike):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _choices(self, item: Item) -> tuple[tuple[int, ...], ...]:
        if "logprobs" not in self.abilities:
            return ()
        return tuple(tuple(int(t) for t in self.processor.tokenizer(c)["input_ids"]) for c in item.choices)

    def _encode(self, media: Sequence[Media]) -> tuple[list[Seen | None], list[Heard | None]]:
        """Features of each medium's picture and sound, from the caches or through the towers."""
        stacks = {m.video_hash: m.frames for m in media if m.frames is not None}
        seen = {key: self.seen.get((self._fed_as, key)) for key in stacks}
        unseen = [key for key, entry in seen.items() if entry is None]
        for key, picture in zip(
            unseen, towers.encode_videos(self.thinker, [stacks[k] for k in unseen]), strict=True
        ):
            seen[key] = picture
            self.seen.put((self._fed_as, key), picture)
        waves = {m.audio_hash: m.wave for m in media if m.wave is not None}
        heard = {key: self.heard.get((self._fed_as, key)) for key in waves}
        unheard = [key for key, entry in heard.items() if entry is None]
        for key, sound in zip(
            unheard, towers.encode_audios(self.thinker, [waves[k] for k in unheard]), strict=True
        ):
            heard[key] = sound
            self.heard.put((self._fed_as, key), sound)
        return [seen.get(m.video_hash) for m in media], [heard.get(m.audio_hash) for m in media]

    def _prefix_size(self, media: Media, kind: Kind, before: tuple[int, ...]) -> int:
        t = self.thinker
        video, audio = inputs.media_tokens(t, media)
        slot = 0 if kind == "t" else -1
        markers = 2 if kind == "av" else 0  # the marks around the sound inside the video
        return len(before) + slot + video + audio + markers

    def _answered(
        self, item: Item, tokens: tuple[int, ...], logprobs: tuple[float, ...], fed: Fed, seconds: float
    ) -> Answer:
        text = decode.whole_text(self.thinker, tokens)
        error = None
        if not text:
            what = "nothing but its end token" if not tokens else f"{len(tokens)} tokens without any text"
            error = f"empty answer: the model generated {what}"
        return Answer(
            item=item.id,
            model=self.name,
            text=text or None,
            logprobs=dict(zip(item.choices, logprobs, strict=True)) if logprobs else None,
            fed=fed,
            error=error,
            seconds=seconds,
        )


def _receipt(layout: Layout, seen: Seen | None, heard: Heard | None, after: int) -> Fed:
    return Fed(
        frames=None if seen is None else seen.frames,
        height=None if seen is None else seen.height,
        width=None if seen is None else seen.width,
        audio_seconds=None if heard is None else heard.seconds,
        audio_rms=None if heard is None else heard.rms,
        video_tokens=None if seen is None else layout.video_tokens,
        audio_tokens=None if heard is None else layout.audio_tokens,
        prompt_tokens=len(layout) + after,
        video_hash=None if seen is None else seen.digest,
        audio_hash=None if heard is None else heard.digest,
    )


__all__ = ["QwenOmni", "Thinker", "wrap"]
