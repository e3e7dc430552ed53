"""The AudioSet ontology as a graph: who is above whom, on how many ways, how deep.

The ontology (Gemmeke et al. 2017) is a forest with cross-links: 632 nodes below 7 roots, 38 of them with two or
more parents ("Hiss" is a cat's, a snake's, steam's, and a word for a noise). So a node has *ways*, not a way: each
runs from a root down to it, and what the node is called at some depth depends on the way. Level 1 is a root.

The file is Google's ``ontology.json`` (github.com/audioset/ontology, CC BY-SA 4.0). It is not part of this package:
it is read from where you have it.

Functions: ``read``, ``named`` (a node by its name), ``ways``, ``above`` (all ancestors), ``roots_of``,
``specific`` (labels without those above another one), ``lineage``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from earwitness.datasets.labels import nearest

LICENCE = "CC BY-SA 4.0"
SOURCE = "AudioSet ontology, github.com/audioset/ontology, CC BY-SA 4.0"
WAYS = 1000  # ways to one node above which the file is taken for something else


class OntologyError(ValueError):
    """A file that is no ontology, or a name that it does not have."""


@dataclass(frozen=True)
class Node:
    """One node: its id (``/m/0bt9lr``), its name, and what the ontology says of it ("abstract", "blacklist")."""

    id: str
    name: str
    children: tuple[str, ...] = ()
    restrictions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ontology:
    """All nodes by id, in the order of the file."""

    nodes: Mapping[str, Node]
    _ways: dict[str, tuple[tuple[str, ...], ...]] = field(default_factory=dict, repr=False)
    _above: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)
    _roots: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)
    _specific: dict[tuple[str, ...], tuple[str, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def parents(self) -> Mapping[str, tuple[str, ...]]:
        """Each node's parents, in the order of the file; none for a root."""
        out: dict[str, tuple[str, ...]] = dict.fromkeys(self.nodes, ())
        for node in self.nodes.values():
            for child in node.children:
                out[child] = (*out[child], node.id)
        return out

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Nodes without a parent."""
        return tuple(i for i, above in self.parents.items() if not above)

    @cached_property
    def ids(self) -> Mapping[str, str]:
        """Id by name in lower case."""
        return {node.name.casefold(): node.id for node in self.nodes.values()}


def read(path: str | Path) -> Ontology:
    """Read ``ontology.json``. Raises OntologyError with the likely slip where it cannot be one."""
    path = Path(path)
    if not path.is_file():
        raise OntologyError(
            f"{path}: no such file; the AudioSet ontology is ontology.json of github.com/audioset/ontology"
        )
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise OntologyError(
            f"{path}: is no JSON ({error}); the AudioSet ontology is ontology.json (a segments CSV given as the "
            f"ontology?)"
        ) from None
    if not isinstance(found, list) or not found:
        raise OntologyError(f"{path}: wants a list of nodes, got {type(found).__name__} (another JSON file?)")
    nodes: dict[str, Node] = {}
    for number, row in enumerate(found, 1):
        node = _node(row, f"{path}, node {number}")
        if node.id in nodes:
            raise OntologyError(f"{path}, node {number}: {node.id} stands there twice")
        nodes[node.id] = node
    for node in nodes.values():
        if lost := [c for c in node.children if c not in nodes]:
            raise OntologyError(
                f"{path}: {node.name} has a child {lost[0]} that is no node of the file (cut short?)"
            )
    made = Ontology(nodes)
    _check_acyclic(made, path)
    return made


def _node(row: Any, where: str) -> Node:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not isinstance(row.get("name"), str):
        raise OntologyError(f"{where}: wants an object with id, name and child_ids, got {str(row)[:60]!r}")
    lists = {key: row.get(key, []) for key in ("child_ids", "restrictions")}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise OntologyError(f"{where}: {key} wants a list of texts, got {value!r}")
    return Node(row["id"], row["name"], tuple(lists["child_ids"]), tuple(lists["restrictions"]))


def _check_acyclic(ontology: Ontology, path: Path) -> None:
    left = {i: len(above) for i, above in ontology.parents.items()}
    free = [i for i, count in left.items() if not count]
    while free:
        here = free.pop()
        del left[here]
        for child in ontology.nodes[here].children:
            left[child] -= 1
            if not left[child]:
                free.append(child)
    if left:
        names = ", ".join(ontology.nodes[i].name for i in list(left)[:3])
        raise OntologyError(f"{path}: {names} are below themselves: no ontology (edited by hand?)")


def named(ontology: Ontology, name: str, what: str = "node") -> Node:
    """The node of that name (capitals do not count) or id. Raises OntologyError with the nearest name."""
    key = ontology.ids.get(name.casefold().strip(), name.strip())
    if key not in ontology.nodes:
        near = nearest(name, [n.name for n in ontology.nodes.values()])
        raise OntologyError(f"{what} {name!r} is not in the ontology{near}")
    return ontology.nodes[key]


def ways(ontology: Ontology, node: str) -> tuple[tuple[str, ...], ...]:
    """All ways from a root down to a node, both included, in the order of the file."""
    known = ontology._ways
    if node not in known:
        above = ontology.parents[node]
        made = tuple((*way, node) for parent in above for way in ways(ontology, parent)) if above else ((node,),)
        if len(made) > WAYS:
            raise OntologyError(
                f"{ontology.nodes[node].name} can be reached in {len(made)} ways: no AudioSet ontology"
            )
        known[node] = made
    return known[node]


def above(ontology: Ontology, node: str) -> frozenset[str]:
    """All nodes above a node, on any way, itself not among them."""
    if node not in ontology._above:
        ontology._above[node] = frozenset(i for way in ways(ontology, node) for i in way[:-1])
    return ontology._above[node]


def roots_of(ontology: Ontology, node: str) -> frozenset[str]:
    """The roots above a node (a root's own is itself)."""
    if node not in ontology._roots:
        ontology._roots[node] = frozenset(way[0] for way in ways(ontology, node))
    return ontology._roots[node]


def specific(ontology: Ontology, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Those of some nodes that are not above another one of them."""
    if labels not in ontology._specific:
        higher = frozenset[str]().union(*(above(ontology, i) for i in labels))
        ontology._specific[labels] = tuple(i for i in labels if i not in higher)
    return ontology._specific[labels]


def lineage(ontology: Ontology, node: str) -> str:
    """The shortest way to a node in words: ``Animal > Wild animals > Bird``."""
    return " > ".join(ontology.nodes[i].name for i in min(ways(ontology, node), key=len))
