"""Qwen2.5-Omni and Qwen3-Omni as models under audit: loaded once, asked in groups, with receipts.

What is shared, and exactly so (``plain=True`` shares nothing and is what the tests hold the rest to):

- encode once: a frame stack and a wave pass their towers once each (``seen``, ``heard``: caches by content);
- prefill once: all questions on the same media continue one prefix, batched across clips; questions that also
  begin with the same long text read that once;
- choices of a question are scored as one tree behind it, then the answer is decoded greedily from there.

How many questions go together follows the memory (``qwen_memory``): where it runs out, a batch is halved and what
has no answer yet is asked again; an item that does not fit alone is an error of that item.

Conventions: greedy decoding, media tokens never generated, an empty generation is an error and not an answer.
``Answer.logprobs`` maps each choice to the natural log of its whole text's probability behind the prompt (sum
over its tokens, no end token); ``Answer.logprob`` is the same of the text that was said. ``Answer.fed`` is read
off the tensors that went in.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from earwitness.models import qwen_decode as decode
from earwitness.models import qwen_inputs as inputs
from earwitness.models import qwen_memory as memory
from earwitness.models import qwen_plain as plainly
from earwitness.models import qwen_towers as towers
from earwitness.models.qwen_cache import FeatureCache, Heard, Seen
from earwitness.models.qwen_groups import Group, Question, batches, chunks, families, halves
from earwitness.models.qwen_inputs import Kind, Layout, Thinker
from earwitness.models.qwen_load import load_thinker, wrap
from earwitness.models.qwen_wrapped import drop, homes, told, tuning
from earwitness.records import Answer, Fed, Item, Media, View, digest


class QwenOmni:
    """A Qwen omni thinker behind the Model protocol; also ``spell``: answers token by token.

    Parameters
    ----------
    path : a checkpoint folder or hub id, of a thinker or of a full Omni model; or a ``Thinker`` from ``wrap``.
    plain : one processor call and one ``generate`` per item, nothing shared.
    logprobs : score the choices of items that have some.
    batch : questions decoded together, at most; default: 32 on a CPU, found by trying on a GPU.
    cache_bytes : bound of each of the two feature caches.
    Other arguments: see ``qwen_load.load_thinker``.

    Raises
    ------
    ValueError
        Where the checkpoint is unknown or incomplete, or the options do not fit.
    """

    _top: int | None = None  # set while answers are spelled: how many of the likeliest tokens to tell

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
        self.plain = plain
        self.room, self._batch = memory.room_for(self.thinker.model, homes(self.thinker.model), batch), batch
        self.abilities = frozenset({"tokens", "generates", "spells"} | ({"logprobs"} if logprobs else set()))
        self.seen: FeatureCache[Seen] = FeatureCache(cache_bytes)
        self.heard: FeatureCache[Heard] = FeatureCache(cache_bytes)
        self._fed_as = digest(self.revision, self.thinker.video_options, self.thinker.dtype)

    @property
    def model(self) -> Any:
        """The transformers thinker, in PEFT's wrapper if it was given in one, for white-box work and training."""
        return self.thinker.model

    @property
    def processor(self) -> Any:
        """Its processor."""
        return self.thinker.processor

    @property
    def decoding(self) -> str:
        """How answers are decoded and computed, in words for the run's record."""
        t = self.thinker
        attn, seeing = (getattr(t.model.config, c)._attn_implementation for c in ("text_config", "vision_config"))
        attn += "" if seeing == attn else f" (towers {seeing})"
        size = (
            "batch by trying"
            if self._batch is None and t.device.type == "cuda"
            else f"batch {self._batch or memory.BATCH}"
        )
        way = "plain" if self.plain else f"shared, {size}"
        where = told(t.model, t.device)
        return f"greedy, media tokens suppressed; {str(t.dtype).removeprefix('torch.')} on {where}, {attn}, {way}"

    @property
    def batch(self) -> int:
        """Questions asked together now: what has been found to fit so far."""
        return 1 if self.plain else self.room.rows

    @property
    def counts(self) -> dict[str, float]:
        """For the run's record: how often the memory ran out, and a batch was halved or an item given up."""
        return {"out of memory": float(self.room.shortages)}

    def forget(self) -> None:
        """Drop all cached features: call it after the weights have changed."""
        self.seen.clear()
        self.heard.clear()

    def unload(self) -> None:
        """Give the weights' memory back. The model cannot be asked after it."""
        self.forget()
        drop(self.thinker.model)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

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
            Where items and media differ in number, or media do not fit the model's view. An item for which the
            memory does not suffice raises nothing: its Answer has the error.
        """
        if len(items) != len(media):
            raise ValueError(f"{len(items)} items for {len(media)} media")
        for m in {id(m): m for m in media}.values():
            inputs.check_media(self.thinker, m)
        with torch.no_grad():
            if self.plain:
                return [self._ask_plainly(i, m) for i, m in zip(items, media, strict=True)]
            out: dict[int, Answer] = {}
            for groups in batches(self._groups(items, media), self.room):
                out.update(self._fitted(groups, (self.room.rows, self.room.tokens)))
        return [out[n] for n in range(len(items))]

    def spell(self, items: Sequence[Item], media: Sequence[Media], *, top: int = 0) -> list[Answer]:
        """The same answers as ``Spelled``: with their tokens, and the ``top`` likeliest in each one's place."""
        self._top = top
        try:
            return self.answer(items, media)
        finally:
            self._top = None

    # --- the plain way -----------------------------------------------------------------------------------------

    def _ask_plainly(self, item: Item, media: Media) -> Answer:
        start = time.perf_counter()
        score = "logprobs" in self.abilities
        try:
            steps, logprobs, fed = plainly.ask(self.thinker, item, media, logprobs=score, top=self._top or 0)
        except memory.SHORT as error:
            if not memory.ran_out(error):
                raise
            why = str(error)
        else:
            return self._answered(item, decode.Said(steps, logprobs), fed, time.perf_counter() - start)
        self.room.shortages += 1
        memory.release(self.thinker.device)
        return self._too_large(item, media, why)

    # --- the shared way ----------------------------------------------------------------------------------------

    def _groups(self, items: Sequence[Item], media: Sequence[Media]) -> list[Group]:
        groups: dict[object, Group] = {}
        for n, (item, m) in enumerate(zip(items, media, strict=True)):
            kind = inputs.kind_of(m)
            before, after = inputs.split_prompt(self.thinker, item, kind)
            key = (m.video_hash, m.audio_hash, before)
            if key not in groups:
                groups[key] = Group(m, kind, before, [], self._prefix_size(m, kind, before))
            groups[key].asks.append((n, item, after))
        return sorted(groups.values(), key=lambda g: (g.kind, g.size))

    def _fitted(
        self, groups: list[Group], begun: tuple[int, int], last: bool = False
    ) -> Iterator[tuple[int, Answer]]:
        """A batch's answers; where memory runs out, what has none yet is asked again in halves, with less room.

        A single item gets one more try (``last``) with all caches empty. Where it does not fit even so, that says
        nothing of the others: the bounds go back to what they were, ``begun``.
        """
        answered: set[int] = set()
        asked = sum(len(g.asks) for g in groups)
        try:
            for place, answer in self._ask(groups):
                answered.add(place)
                yield place, answer
        except memory.SHORT as error:
            if not memory.ran_out(error):
                raise
            why = str(error)
        else:
            self.room.raised(asked, len(groups) * max(g.size for g in groups))
            return
        # Only out here, with the traceback gone, can the failed batch's tensors be given back.
        self.room.lower()
        self.forget()
        memory.release(self.thinker.device)
        parts = halves(groups, answered)
        if last:
            self.room.rows, self.room.tokens = begun
            ((group,),) = parts
            ((place, item, _),) = group.asks
            yield place, self._too_large(item, group.media, why)
            return
        for part in parts:
            yield from self._fitted(part, begun, last=len(parts) == 1)

    def _too_large(self, item: Item, media: Media, why: str) -> Answer:
        error = (
            f"out of memory with this item alone ({self.tokens(item, media)} prompt tokens): sample less with "
            f"--set max_pixels=... or fps=..., cut the clip, or compute in 16 bit with --set dtype=bfloat16 "
            f"({(why.splitlines() or ['no memory'])[0]})"
        )
        return Answer(item=item.id, model=self.name, error=error)

    def _ask(self, groups: list[Group]) -> Iterator[tuple[int, Answer]]:
        start = time.perf_counter()
        seen, heard = self.encode([g.media for g in groups])
        layouts = [
            inputs.lay_out(self.thinker, g.before, g.kind, s, h)
            for g, s, h in zip(groups, seen, heard, strict=True)
        ]
        prefix = decode.prefill(self.thinker, layouts, seen, heard)
        shared = (time.perf_counter() - start) / sum(len(g.asks) for g in groups)
        fed = {
            p: _receipt(layouts[g], seen[g], heard[g], len(a)) for g, x in enumerate(groups) for p, _, a in x.asks
        }
        alone, alike = families(groups)
        yield from self._answers(prefix, alone, fed, shared)
        for some in chunks(alike, prefix.mask.shape[1], lambda f: len(f.text), self.room):
            start = time.perf_counter()
            further = decode.extend(self.thinker, prefix, [f.prefix for f in some], [f.text for f in some])
            rows = [
                q._replace(prefix=n, tokens=q.tokens[len(f.text) :]) for n, f in enumerate(some) for q in f.asks
            ]
            each = shared + (time.perf_counter() - start) / len(rows)
            yield from self._answers(further, rows, fed, each)

    def _answers(
        self, prefix: decode.Prefix, questions: list[Question], fed: dict[int, Fed], shared: float
    ) -> Iterator[tuple[int, Answer]]:
        """Ask questions behind a prefix, batch by batch; ``shared`` is each one's part of what came before."""
        questions = sorted(questions, key=lambda q: (len(q.tokens), q.item.decode))
        for some in chunks(questions, prefix.mask.shape[1], lambda q: len(q.tokens) + q.item.decode, self.room):
            start = time.perf_counter()
            rows = [decode.Row(q.prefix, q.tokens, self._choices(q.item), q.item.decode) for q in some]
            said = decode.ask(self.thinker, prefix, rows, top=self._top or 0)
            each = shared + (time.perf_counter() - start) / len(some)
            for q, s in zip(some, said, strict=True):
                yield q.place, self._answered(q.item, s, fed[q.place], each)

    def _choices(self, item: Item) -> tuple[tuple[int, ...], ...]:
        if "logprobs" not in self.abilities:
            return ()
        return tuple(tuple(int(t) for t in self.processor.tokenizer(c)["input_ids"]) for c in item.choices)

    def encode(self, media: Sequence[Media]) -> tuple[list[Seen | None], list[Heard | None]]:
        """Features of each medium's picture and sound, from the caches or through the towers."""
        fed_as = (self._fed_as, tuning(self.thinker.model))  # an adapter in the towers may be switched off
        stacks = {m.video_hash: m.frames for m in media if m.frames is not None}
        seen = {key: self.seen.get((fed_as, key)) for key in stacks}
        unseen = [key for key, entry in seen.items() if entry is None]
        for key, picture in zip(
            unseen, towers.encode_videos(self.thinker, [stacks[k] for k in unseen]), strict=True
        ):
            seen[key] = picture
            self.seen.put((fed_as, key), picture)
        waves = {m.audio_hash: m.wave for m in media if m.wave is not None}
        heard = {key: self.heard.get((fed_as, key)) for key in waves}
        unheard = [key for key, entry in heard.items() if entry is None]
        for key, sound in zip(
            unheard, towers.encode_audios(self.thinker, [waves[k] for k in unheard]), strict=True
        ):
            heard[key] = sound
            self.heard.put((fed_as, key), sound)
        return [seen.get(m.video_hash) for m in media], [heard.get(m.audio_hash) for m in media]

    def _prefix_size(self, media: Media, kind: Kind, before: tuple[int, ...]) -> int:
        t = self.thinker
        video, audio = inputs.media_tokens(t, media)
        slot = 0 if kind == "t" else -1
        markers = 2 if kind == "av" else 0  # the marks around the sound inside the video
        return len(before) + slot + video + audio + markers

    def _answered(self, item: Item, said: decode.Said, fed: Fed, seconds: float) -> Answer:
        text = decode.whole_text(self.thinker, [s.token for s in said.steps])
        error = None
        if not text:
            what = "nothing but its end token" if not said.steps else f"{len(said.steps)} tokens without any text"
            error = f"empty answer: the model generated {what}"
        answer = Answer(
            item=item.id,
            model=self.name,
            text=text or None,
            logprobs=dict(zip(item.choices, said.logprobs, strict=True)) if said.logprobs else None,
            logprob=sum(s.logprob for s in said.steps) if text else None,
            fed=fed,
            error=error,
            seconds=seconds,
        )
        return answer if self._top is None else decode.spelled(self.thinker, answer, said.steps)


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
