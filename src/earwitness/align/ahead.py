"""What the next batches show, made by other processes while this one learns.

Decoding and interventions keep a CPU as busy as a small model's learning does, and a GPU waiting. The order of
the pairs is known beforehand, so readers work ahead of it: each decodes, makes the condition and, where the model
lies on the CPU, sends it through a copy of the frozen towers. What they make is what this process would have made
(to rounding: other media share a batch in the towers), and what they cannot make, this process makes itself, with
its own error. The processes are those of torch's DataLoader: they end with this one, however it ends.
"""

from __future__ import annotations

import os
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from earwitness.audit import Bank
from earwitness.audit.workers import Recipe as ToLoad
from earwitness.audit.workers import no_ctrl_c
from earwitness.models import qwen_inputs as inputs
from earwitness.models.qwen_cache import Heard, Seen
from earwitness.models.qwen_omni import QwenOmni
from earwitness.records import ClipSet, Item, Media, View

CHUNK = 8  # media a reader makes at once, at most
Name = tuple[str, str]  # clip, key of the intervention
Fed = tuple[inputs.Kind, str | None, str | None, Seen | None, Heard | None]


@dataclass(frozen=True)
class Made:
    """What a reader made of an item's clip: ``fed`` through the towers, or ``media``; neither where it failed."""

    name: Name
    media: Media | None = None
    fed: Fed | None = None


def name_of(item: Item) -> Name:
    """By what a clip under an intervention is known."""
    return item.clip, item.intervention.key


def fed_of(media: Media, seen: Seen | None, heard: Heard | None) -> Fed:
    """What a model is fed: the kind of media, and what the towers made of each part under its content's hash."""
    picture = None if seen is None else media.video_hash
    sound = None if heard is None else media.audio_hash
    return inputs.kind_of(media), picture, sound, seen, heard


class Ahead:
    """Readers that make what :meth:`expect` was told, in that order, a little before :meth:`take` asks for it."""

    def __init__(
        self, clips: ClipSet, view: View, held: Callable[[Name], Fed | None], *, readers: int, batch: int,
        towers: ToLoad | None = None,
    ) -> None:  # fmt: skip
        """Start the readers.

        ``held``: what is there already, and need not be made. ``batch``: rows asked for at once; what two such
        batches show is made ahead.

        ``towers``: the model to load in each reader, on the CPU; None: media come as they are.

        Raises ValueError for no reader, or more of them than there are cores.
        """
        cores = os.cpu_count() or 1
        if not 1 <= readers <= cores:
            raise ValueError(f"{readers} readers on {cores} cores: 1 to {cores}")
        self._held, self._chunk = held, min(CHUNK, batch)
        self._order: list[Item] = []
        self._place: dict[Name, int] = {}  # where in the order it first comes
        self._at = 0  # what lies before it was handed to readers, or need not be made
        self._asked: set[Name] = set()
        self._made: dict[Name, Made] = {}
        # By a file: a long pipe would keep this process until the reader has imported all it needs.
        self._told = tempfile.NamedTemporaryFile(prefix="earwitness-", suffix=".pickle")  # noqa: SIM115
        pickle.dump((clips, view, towers), self._told)
        self._told.flush()
        self._loader: DataLoader[Item] | None = DataLoader(
            _Reader(self._told.name),
            batch_sampler=_Chunks(self._todo),
            num_workers=readers,
            prefetch_factor=max(2, -(-2 * batch // (self._chunk * readers))),
            persistent_workers=True,
            multiprocessing_context="spawn",  # fork after CUDA or threads is undefined
            collate_fn=_packed,
        )
        with no_ctrl_c():
            self._iterator: Iterator[bytes] = iter(self._loader)  # they start up while there is nothing to do yet

    def expect(self, items: Sequence[Item]) -> None:
        """What will be asked for from now on, in this order. What was expected before is dropped."""
        if self._loader is None:
            return
        self._order, self._at = list(items), 0
        self._place = {}
        for n, item in enumerate(self._order):
            self._place.setdefault(name_of(item), n)
        self._asked.clear()
        self._made.clear()
        try:
            self._iterator = iter(self._loader)
        except RuntimeError as error:
            self._lost(error)

    def take(self, item: Item) -> Made | None:
        """What was made of an item's clip, once it is there; None where nobody makes it."""
        name = name_of(item)
        if name not in self._made and name not in self._asked:
            place = self._place.get(name, -1)
            if place < self._at or self._loader is None:
                return None
            self._at = place  # what lies before it is not asked for: a stage that goes on begins in the middle
        while name not in self._made:
            try:
                come = next(self._iterator)
            except StopIteration:
                return None
            except RuntimeError as error:
                self._lost(error)
                return None
            for made in pickle.loads(come):
                self._asked.discard(made.name)
                self._made[made.name] = made
        return self._made.pop(name)

    def close(self) -> None:
        """End the readers."""
        self._loader, self._iterator = None, iter(())
        self._told.close()

    def _lost(self, error: RuntimeError) -> None:
        self.close()
        self._asked.clear()
        warnings.warn(f"reading ahead has ended, this process goes on alone: {error}", RuntimeWarning, stacklevel=3)

    def _todo(self) -> Iterator[list[Item]]:
        """Chunks of what is to be made, as long as any is."""
        chunk: list[Item] = []
        while self._at < len(self._order):
            item = self._order[self._at]
            self._at += 1
            name = name_of(item)
            if name in self._asked or name in self._made or self._held(name) is not None:
                continue
            self._asked.add(name)
            chunk.append(item)
            if len(chunk) == self._chunk:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


class _Chunks:
    """What a DataLoader walks through, again each time it is begun."""

    def __init__(self, chunks: Callable[[], Iterator[list[Item]]]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[list[Item]]:
        return self._chunks()


class _Reader(Dataset[Item]):
    """What lives in a reader: the clips, and the towers where it has them."""

    def __init__(self, told: str) -> None:
        self._told = told
        self._bank: Bank | None = None
        self._model: QwenOmni | None = None

    def __getitems__(self, items: list[Item]) -> list[Made]:
        if self._bank is None:
            clips, view, towers = pickle.loads(Path(self._told).read_bytes())
            self._bank, self._model = Bank(clips, view), None if towers is None else towers.load()
        media: dict[Name, Media] = {}
        for item in items:
            try:
                media[name_of(item)] = self._bank.condition(item.clip, item.intervention)
                if self._model is not None:
                    inputs.check_media(self._model.thinker, media[name_of(item)])
            except ValueError:  # the one who asks makes it again, and says what is wrong
                media.pop(name_of(item), None)
        if self._model is None:
            return [Made(name_of(item), media=media.get(name_of(item))) for item in items]
        with torch.no_grad():
            seen, heard = self._model.encode(list(media.values()))
        fed = {name: fed_of(m, s, h) for (name, m), s, h in zip(media.items(), seen, heard, strict=True)}
        return [Made(name_of(item), fed=fed.get(name_of(item))) for item in items]


def _packed(made: list[Made]) -> bytes:
    """As bytes: torch would put each tensor into shared memory, and keep a file open for as long as it is held."""
    return pickle.dumps([replace(m, fed=None if m.fed is None else _whole(m.fed)) for m in made])


def _whole(fed: Fed) -> Fed:
    """With tensors of their own: a slice would carry all that it was cut from."""
    kind, picture, sound, seen, heard = fed
    if seen is not None:
        seen = replace(seen, features=seen.features.clone(), deep=tuple(level.clone() for level in seen.deep))
    if heard is not None:
        heard = replace(heard, features=heard.features.clone())
    return kind, picture, sound, seen, heard
