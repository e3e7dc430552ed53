"""Do a clip's label and a witness's label mean the same? Both are brought to classes of the class file first.

A tagger names sounds as AudioSet does ("Bow-wow"), a picture network as ImageNet does ("Chihuahua"), a clip as its
maker did ("dog"): all three are the class Canidae. AudioSet's names and ids, and the labels of clips, are looked up
in ``mma_classes.csv`` (by :mod:`earwitness.curate.names`, only where there is one answer); ImageNet's in
``imagenet_classes.csv``, a file made by hand. A node that is in the ontology and in no class ("Siren") stands for
itself. What is in neither is *unknown*: nothing is guessed.

Functions: ``topic`` (what a label means), ``topics`` (of many), ``imagenet`` (ImageNet's labels and their classes),
``voice_kin``, ``music_kin`` (labels where speech or music is no intruder).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from earwitness.curate import classes, names
from earwitness.curate.classes import ClassTable
from earwitness.curate.ontology import Node, Ontology

IMAGENET = Path(__file__).with_name("imagenet_classes.csv")
SUNG = frozenset({"Singing", "Whistling"})  # music without an instrument: the ontology has them among human sounds


@lru_cache(maxsize=1)
def own_table() -> ClassTable:
    """The class file that comes with the package."""
    return classes.read()


@lru_cache(maxsize=8)
def _graph(table: _Key) -> Ontology:
    """The class file's nodes, without who is above whom: enough to look names up."""
    return Ontology({e.id: Node(e.id, e.name) for e in table.held.entries.values()})


class _Key:
    """A class table as a key of a cache: by identity."""

    def __init__(self, held: ClassTable) -> None:
        self.held = held

    def __hash__(self) -> int:
        return id(self.held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.held is self.held


def topic(label: str, table: ClassTable, given: Mapping[str, str] | None = None) -> str:
    """The class that a label means, the node where it is in no class, "" where it is unknown.

    ``given`` are your own decisions, label in lower case -> class or node name ("" = none of them).
    """
    text = " ".join(label.replace("_", " ").split())
    if given is not None and text.casefold() in given:
        text = given[text.casefold()]
        if not text:
            return ""
    found = next((c for c in table.classes if c.casefold() == text.casefold()), "")
    if found:
        return found
    node = names.match(_graph(_Key(table)), text).node
    if not node:
        return ""
    entry = table.entries[node]
    return entry.into or entry.name


def topics(
    labels: Sequence[str], table: ClassTable, ids: Sequence[str] = (), given: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """What each label means; where AudioSet ids are known (``ids``, beside the labels), by those."""
    out = []
    for index, label in enumerate(labels):
        entry = table.entries.get(ids[index]) if ids else None
        out.append(entry.into or entry.name if entry is not None else topic(label, table, given))
    return tuple(out)


@lru_cache(maxsize=1)
def imagenet() -> tuple[tuple[str, str], ...]:
    """ImageNet's thousand labels in the order of their numbers, each with its class ("" = none of ours)."""
    lines = [n for n in IMAGENET.read_text("utf-8").splitlines() if not n.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert [int(r["index"]) for r in rows] == list(range(1000)), IMAGENET.name
    return tuple((r["name"], r["class"]) for r in rows)


def voice_kin(label: str, table: ClassTable, given: Mapping[str, str] | None = None) -> bool | None:
    """Whether a clip of this label may hold speech as its own: its class is a human voice's. None = unknown."""
    found = topic(label, table, given)
    if not found:
        return None
    return any("Human voice" in way for way in table.ways_to(found)) or _called(found, "speech", "voice", "singing")


def music_kin(label: str, table: ClassTable, given: Mapping[str, str] | None = None) -> bool | None:
    """Whether a clip of this label may hold music as its own: an instrument, or a voice or mouth that makes it."""
    found = topic(label, table, given)
    if not found:
        return None
    below = any(way[0] == "Music" for way in table.ways_to(found))
    return below or found in SUNG or _called(found, "music", "musical", "song", "orchestra", "opera", "choir")


def _called(node: str, *told: str) -> bool:
    """Nodes in no class carry no way from a root: their names must tell ("Pop music", "Choir", "Child speech")."""
    return bool(set(node.casefold().replace(",", " ").split()) & set(told))
