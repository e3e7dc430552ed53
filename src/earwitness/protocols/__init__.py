"""The three published black-box protocols, and anybody's question file: conditions x questions x tables.

One shape for all, a module each (``mma``, ``thud``, ``av_confuse``, ``benchmark``):

- ``NAME``;
- ``items(clips, settings)``: every question on every clip under every intervention, complete: prompt, right answer
  by the EFFECT table, ids that follow from the content, twins tied by ``group``;
- ``tables(judged)``: the paper's tables and ours, each figure with its interval and with what could not be scored;
- ``skipped(clips, settings)``: in plain words, which clips it could not use and why.

Which clips a protocol can use follows from their labels: MMA needs one seen and one heard class, a shift an event
whose time is known, AV-Confuse stems. Nothing is guessed: a clip without the label is left out and counted.
``benchmark`` asks a question file's own questions, which come beside the clips: ``items_of`` and ``skipped_of``
call any protocol with what it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol, cast

from earwitness.protocols import benchmark
from earwitness.protocols.settings import Settings
from earwitness.records import Clip, Item, Judged, Question, Table

NAMES = ("mma", "thud", "av_confuse", "benchmark")


class ProtocolModule(Protocol):
    """What ``load`` gives."""

    NAME: str

    def items(self, clips: Sequence[Clip], settings: Settings) -> list[Item]: ...

    def tables(self, judged: Sequence[Judged]) -> list[Table]: ...

    def skipped(self, clips: Sequence[Clip], settings: Settings) -> list[str]: ...


def load(name: str) -> ProtocolModule:
    """The protocol of that name ("av-confuse" and "av_confuse" are one). Raises ValueError for an unknown one."""
    module = name.strip().lower().replace("-", "_")
    if module not in NAMES:
        raise ValueError(f"there is no protocol {name!r}; there are mma, thud, av-confuse and benchmark")
    return cast(ProtocolModule, import_module(f"earwitness.protocols.{module}"))


def items_of(
    module: ProtocolModule, clips: Sequence[Clip], settings: Settings, questions: Sequence[Question] = ()
) -> list[Item]:
    """The protocol's items; ``questions`` are those of the question file, which only ``benchmark`` asks."""
    if module.NAME == benchmark.NAME:
        return benchmark.items(clips, settings, questions)
    return module.items(clips, settings)


def skipped_of(
    module: ProtocolModule, clips: Sequence[Clip], settings: Settings, questions: Sequence[Question] = ()
) -> list[str]:
    """What the protocol could not use, in plain words; ``questions`` as in :func:`items_of`."""
    if module.NAME == benchmark.NAME:
        return benchmark.skipped(clips, settings, questions)
    return module.skipped(clips, settings)


__all__ = ["NAMES", "ProtocolModule", "Settings", "items_of", "load", "skipped_of"]
