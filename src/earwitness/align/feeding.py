"""From pairs to rows: prompts as an audit asks them, media through towers once, answers with the end of a turn.

A clip's picture and sound pass their towers once each, whatever is asked of them and whatever is done to the
other (``QwenOmni.encode``: caches by content). With frozen towers that is exact for as long as training lasts. What
is known of a clip under an intervention is kept by name, so that it is not rendered again to find its hash.
Features are kept up to ``cache_bytes`` for pictures and as much for sounds; what had to be let go is rendered and
encoded again. Readers (:mod:`earwitness.align.ahead`) may do both in other processes, a little before it is needed.

``Feeder`` holds a model under audit (a ``QwenOmni``) and the clips; ``row`` makes a row of a prompt and an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from earwitness.align.ahead import Ahead, Fed, Name, fed_of, name_of
from earwitness.align.packing import Row, Shown
from earwitness.audit import Bank
from earwitness.audit.workers import Recipe as ToLoad
from earwitness.interventions import filled
from earwitness.models import qwen_inputs as inputs
from earwitness.models.qwen_cache import FeatureCache, Heard, Seen
from earwitness.models.qwen_omni import QwenOmni
from earwitness.records import ClipSet, Item, Media, Pair

Known = tuple[inputs.Kind, str | None, str | None]  # kind, content of the picture, content of the sound
CACHE_BYTES = 8 << 30  # a 10 s clip of a 7B model has 25 MB of features


class Feeder:
    """Rows for a model, from items on clips."""

    def __init__(self, model: QwenOmni, clips: ClipSet, cache_bytes: int = CACHE_BYTES) -> None:
        self.model = model
        self._bank = Bank(clips, model.view)
        self._clips = clips
        self._ahead: Ahead | None = None
        self._known: dict[Name, Known] = {}
        self._texts: dict[tuple[inputs.Kind, str], tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._seen: FeatureCache[Seen] = FeatureCache(cache_bytes)
        self._heard: FeatureCache[Heard] = FeatureCache(cache_bytes)
        vocabulary = model.processor.tokenizer.get_vocab()
        self.end = int(vocabulary.get("<|im_end|>", model.processor.tokenizer.eos_token_id))
        self.pad = int(model.processor.tokenizer.pad_token_id or 0)

    def media(self, item: Item) -> Media:
        """The item's clip under its intervention, decoded."""
        return self._bank.condition(item.clip, item.intervention)

    def read_ahead(self, readers: int, batch: int, load: ToLoad) -> None:
        """Let other processes make what :meth:`expect` will be told. Close with :meth:`close`.

        ``batch``: rows asked for at once. ``load``: how a reader loads this very model, where it lies on the CPU;
        with a model on a GPU readers decode and intervene, and the towers run here. Raises ValueError as ``Ahead``
        does.
        """
        towers = load if self.model.thinker.device.type == "cpu" else None
        self._ahead = Ahead(self._clips, self.model.view, self._held, readers=readers, batch=batch, towers=towers)

    def expect(self, items: Sequence[Item]) -> None:
        """What rows will be asked of, in this order: nothing but time depends on it."""
        if self._ahead is not None:
            self._ahead.expect(items)

    def close(self) -> None:
        """End the readers, if there are any."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _encoded(self, items: Sequence[Item]) -> dict[Name, Fed]:
        """What the items show, by clip and intervention; through the towers as far as it is not held."""
        out: dict[Name, Fed] = {}
        todo: dict[Name, Media] = {}
        for item in items:
            name = name_of(item)
            if name in out or name in todo:
                continue
            held = self._held(name)
            if held is not None:
                out[name] = held
                continue
            made = None if self._ahead is None else self._ahead.take(item)
            if made is not None and made.fed is not None:
                out[name] = self._kept(name, made.fed)
                continue
            todo[name] = self.media(item) if made is None or made.media is None else made.media
            inputs.check_media(self.model.thinker, todo[name])
        if not todo:
            return out
        with torch.no_grad():
            seen, heard = self.model.encode(list(todo.values()))
        for (name, media), s, h in zip(todo.items(), seen, heard, strict=True):
            out[name] = self._kept(name, fed_of(media, s, h))
        return out

    def _kept(self, name: Name, fed: Fed) -> Fed:
        kind, picture, sound, seen, heard = fed
        self._known[name] = (kind, picture, sound)
        if seen is not None:
            self._seen.put(picture, seen)
        if heard is not None:
            self._heard.put(sound, heard)
        return fed

    def _held(self, name: Name) -> Fed | None:
        """What is held of a clip under an intervention; None where it is new or a part of it had to go."""
        if name not in self._known:
            return None
        kind, picture, sound = self._known[name]
        seen = None if picture is None else self._seen.get(picture)
        heard = None if sound is None else self._heard.get(sound)
        if (picture is not None and seen is None) or (sound is not None and heard is None):
            return None
        return kind, picture, sound, seen, heard

    def shown(self, items: Sequence[Item]) -> list[tuple[Shown, tuple[int, ...]]]:
        """For each item what its prompt begins with, and the tokens of its question."""
        fed = self._encoded(items)
        thinker, out = self.model.thinker, []
        for item in items:
            kind, picture, sound, seen, heard = fed[name_of(item)]
            text = (kind, filled(item).prompt)
            if text not in self._texts:
                self._texts[text] = inputs.split_prompt(thinker, filled(item), kind)
            before, after = self._texts[text]
            layout = inputs.lay_out(thinker, before, kind, seen, heard)
            out.append((Shown((picture, sound, before), layout, seen, heard), after))
        return out

    def answer(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer, with the token that ends a turn. Raises ValueError for media tokens in it."""
        ids = tuple(int(t) for t in self.model.processor.tokenizer(text, add_special_tokens=False)["input_ids"])
        if set(ids) & set(self.model.thinker.suppressed):
            raise ValueError(f"the answer {text[:60]!r} holds a media token")
        return (*ids, self.end)

    def rows(self, items: Sequence[Item], answers: Sequence[str | Sequence[int]]) -> list[Row]:
        """A row per item and its answer: a text, or the very tokens (the end of the turn included)."""
        out = []
        for (shown, question), answer in zip(self.shown(items), answers, strict=True):
            said = self.answer(answer) if isinstance(answer, str) else tuple(answer)
            out.append(Row(shown, (*question, *said), len(question)))
        return out

    def sft_rows(self, pairs: Sequence[Pair]) -> list[Row]:
        """A row per pair: what is to be said."""
        return self.rows([p.item for p in pairs], [p.chosen for p in pairs])

    def preference_rows(self, pairs: Sequence[Pair]) -> list[Row]:
        """Two rows per pair: all chosen ones, then all rejected ones. Raises ValueError where one has none."""
        lacking = [p.id for p in pairs if p.rejected is None]
        if lacking:
            raise ValueError(f"pair {lacking[0]} has no rejected answer: it is a row for sft, not for dpo")
        items = [p.item for p in pairs]
        return self.rows([*items, *items], [p.chosen for p in pairs] + [p.rejected or "" for p in pairs])
