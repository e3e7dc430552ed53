"""Which node of the ontology does a label mean? By its id, its name, a part of its name, or its words.

Other data sets name sounds in their own way: VGGSound's "dog barking" is AudioSet's Bark below Dog, "people
coughing" is Cough, "playing accordion" Accordion. A label is matched where there is one answer only; where there is
none, or more, it is *unknown*, with the nearest names beside it, and you decide (a file ``label,name``). Nothing is
guessed.

Functions: ``match`` (one label), ``matched`` (many, with your decisions), ``read_map``.
"""

from __future__ import annotations

import csv
import difflib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec

from earwitness.curate.ontology import Ontology, above, named
from earwitness.records import how_many

NEAR = 3  # names suggested beside an unknown label
# Words that say that something sounds, not what: "playing accordion", "people coughing", "toilet flushing sound".
IDLE = frozenset(
    "a an and at by etc for from in its making of on or out people person playing sound sounds the to with".split()
)
How = Literal["id", "name", "part", "words", "given", "unknown"]


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """What a label means: the node's id ("" = none), how that is known, the nearest names where it is not."""

    label: str
    node: str = ""
    how: How = "unknown"
    near: tuple[str, ...] = ()


@lru_cache(maxsize=65_536)
def _stem(word: str) -> str:
    """A word without its usual endings, enough to meet its other forms: barking, barks -> bark; snoring -> snor."""
    for ending in ("ings", "ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)] + ("y" if ending == "ies" else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word[-1] == "e" else word


@lru_cache(maxsize=65_536)
def words(text: str) -> frozenset[str]:
    """The stems of a text's telling words."""
    found = re.findall(r"[a-z0-9]+", text.casefold().replace("'s", ""))
    return frozenset(_stem(w) for w in found if w not in IDLE) or frozenset(map(_stem, found))


def _parts(name: str) -> list[str]:
    """A name's own synonyms: "Canidae, dogs, wolves" has three; brackets say which is meant, or list some."""
    head, bracket, rest = name.partition(" (")
    inside, _, tail = rest.partition(")")
    parts = [p.strip() for p in head.split(",")] + ([p.strip() for p in inside.split(",")] if "," in inside else [])
    return [p + tail for p in parts if p and p != "etc."] if bracket else [p for p in parts if p and p != "etc."]


@lru_cache(maxsize=8)
def _index(
    ontology: _Key,
) -> tuple[dict[str, set[str]], dict[str, list[frozenset[str]]], dict[str, frozenset[str]]]:
    """Nodes by part of a name; each node's word sets; the words of what is above it."""
    graph = ontology.graph
    by_part: dict[str, set[str]] = {}
    own: dict[str, list[frozenset[str]]] = {}
    higher: dict[str, frozenset[str]] = {}
    for node in graph.nodes.values():
        parts = _parts(node.name)
        for part in parts:
            by_part.setdefault(part.casefold(), set()).add(node.id)
        own[node.id] = [words(node.name), *map(words, parts)]
        higher[node.id] = frozenset[str]().union(*(words(graph.nodes[i].name) for i in above(graph, node.id)))
    return by_part, own, higher


class _Key:
    """An ontology as a key of a cache: by identity."""

    def __init__(self, graph: Ontology) -> None:
        self.graph = graph

    def __hash__(self) -> int:
        return id(self.graph)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.graph is self.graph


def match(ontology: Ontology, label: str) -> Match:
    """What one label means.

    In this order, each only where it gives exactly one node: the label is a node's id, or its name (capitals and
    underscores do not count); it is one of the synonyms in a name; its telling words are those of a name or a
    synonym; some are, and the rest stand above that node ("dog barking": Bark, below Dog).
    """
    text = " ".join(label.replace("_", " ").split())
    if text in ontology.nodes:
        return Match(label=label, node=text, how="id")
    if text.casefold() in ontology.ids:
        return Match(label=label, node=ontology.ids[text.casefold()], how="name")
    by_part, own, higher = _index(_Key(ontology))
    part = by_part.get(text.casefold(), set())
    if len(part) == 1:
        return Match(label=label, node=next(iter(part)), how="part")
    told = words(text)
    for fits in (
        {i for i, sets in own.items() if told in sets},
        {i for i, sets in own.items() if any(s and s < told and told - s <= higher[i] for s in sets)},
    ):
        if len(fits) == 1:
            return Match(label=label, node=fits.pop(), how="words")
        if fits:
            return Match(label=label, near=tuple(sorted(ontology.nodes[i].name for i in fits))[: 2 * NEAR])
    return Match(label=label, near=_nearest(ontology, text, told, own, higher))


def _nearest(
    ontology: Ontology, text: str, told: frozenset[str], own: Mapping[str, list[frozenset[str]]],
    higher: Mapping[str, frozenset[str]],
) -> tuple[str, ...]:  # fmt: skip
    """The names that share most words with a label, then those that are spelled most like it."""
    shared = {
        node: max((len(s & told) / len(s | told) for s in sets if s), default=0.0) + 0.1 * len(told & higher[node])
        for node, sets in own.items()
    }
    best = sorted((i for i, v in shared.items() if v >= 0.25), key=lambda i: (-shared[i], ontology.nodes[i].name))
    names = [ontology.nodes[i].name for i in best[:NEAR]]
    folded = {n.name.casefold(): n.name for n in ontology.nodes.values()}
    names += [folded[n] for n in difflib.get_close_matches(text.casefold(), folded, n=NEAR, cutoff=0.6)]
    return tuple(dict.fromkeys(names))[:NEAR]


def read_map(path: str | Path, ontology: Ontology) -> dict[str, str]:
    """Your decisions: a CSV ``label,name``, name being a node's name or id, or empty for "no sound of ours".

    Raises ValueError naming the line.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    out: dict[str, str] = {}
    for number, row in enumerate(csv.reader(path.read_text("utf-8-sig").splitlines()), 1):
        if not row or row[0].startswith("#") or [c.strip() for c in row] == ["label", "name"]:
            continue
        if len(row) != 2:
            raise ValueError(
                f"{path.name}, line {number}: wants label,name, got {how_many(len(row), 'field')} (an unquoted "
                "comma?)"
            )
        label, name = (cell.strip() for cell in row)
        if label.casefold() in out:
            raise ValueError(f"{path.name}, line {number}: {label!r} stands there already")
        try:
            out[label.casefold()] = named(ontology, name).id if name else ""
        except ValueError as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from None
    return out


def matched(ontology: Ontology, labels: Iterable[str], given: Mapping[str, str] | None = None) -> dict[str, Match]:
    """What each of the labels means, by label; ``given`` are your decisions (:func:`read_map`)."""
    out: dict[str, Match] = {}
    for label in labels:
        if label not in out:
            own = (given or {}).get(label.casefold())
            out[label] = match(ontology, label) if own is None else Match(label=label, node=own, how="given")
    return out
