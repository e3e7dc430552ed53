"""The ontology's nodes, absorbed, dropped and merged into classes: MMA-Bench's simplification as explicit rules.

A node is looked at on each *way* from a root down to it (:mod:`earwitness.curate.ontology`). On a way, everything
below level ``depth`` is absorbed into the node at that level, which then is dropped, merged or kept, by rule or by
hand. A node whose ways end in different classes is ambiguous.

Functions: ``pruned`` (ontology, rules, decisions -> class table).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import msgspec

from earwitness.curate.classes import VERSION, ClassTable, Decision, Entry, short
from earwitness.curate.ontology import Ontology, named, roots_of, ways
from earwitness.records import digest


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How the ontology is pruned; the defaults are the reading of the paper that its released clips bear out.

    ``depth``: levels kept, a root being level 1. ``parents``: nodes that lie on several ways are dropped where
    these end in different classes ("classes"), where they begin at different roots ("roots"), always ("any"), or
    never: the first way counts ("keep"). ``restricted``: nodes marked blacklist or abstract are dropped wherever
    they stand ("labels"), only where they would be classes themselves ("classes"), or not ("keep"). ``without``:
    roots that are not walked.
    """

    depth: int = 3
    parents: Literal["classes", "roots", "any", "keep"] = "classes"
    restricted: Literal["labels", "classes", "keep"] = "labels"
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 10:
            raise ValueError(f"depth={self.depth}: wants 1 to 10 levels (a root is level 1)")


class _Judge:
    """The rules and decisions, looked up by node."""

    def __init__(self, ontology: Ontology, rules: Rules, made: Sequence[Decision]) -> None:
        self.ontology, self.rules = ontology, rules
        self.by_id: dict[str, Decision] = {}
        self.names: dict[str, str] = {}
        for one in made:
            node = named(ontology, one.name, "the decision on")
            if one.do == "name":
                self.names[node.id] = one.to
            else:
                self.by_id[node.id] = one
        self.targets = {
            i: named(ontology, one.to, f"{one.name} is merged into").id
            for i, one in self.by_id.items()
            if one.do == "merge"
        }
        for i in self.targets:
            self.target(i)
        self.without = {named(ontology, name, "the root").id for name in rules.without}
        if odd := self.without - set(ontology.roots):
            raise ValueError(f"without: {ontology.nodes[min(odd)].name!r} is no root of the ontology")

    def target(self, node: str) -> str:
        """Where a chain of merges ends. Raises ValueError where it does not end, or ends at what is dropped."""
        met, name = [node], self.ontology.nodes[node].name
        while met[-1] in self.targets:
            met.append(self.targets[met[-1]])
            if met[-1] in met[:-1]:
                raise ValueError(f"{name} is merged into itself (in a circle of decisions)")
        last = self.by_id.get(met[-1])
        if len(met) > 1 and last is not None and last.do in ("drop", "branch"):
            raise ValueError(f"{name} is merged into {self.ontology.nodes[met[-1]].name}, which is dropped")
        return met[-1]

    def on(self, way: tuple[str, ...]) -> tuple[str | None, Decision | None, str]:
        """On one way: the class node (None = dropped), the decision that made it so, and the rule's name."""
        if way[0] in self.without:
            return None, None, "root"
        for node in way:
            one = self.by_id.get(node)
            if one is not None and one.do == "branch":
                return None, one, "hand"
        held = way[: self.rules.depth][-1]
        for node in reversed(way[min(len(way), self.rules.depth) - 1 :]):
            one = self.by_id.get(node)
            if one is not None and one.do == "drop":
                return None, one, "hand"
            if one is not None and one.do == "merge":
                return self.target(node), one, "hand"
        return held, None, ""

    def entry(self, node: str) -> Entry:
        """What becomes of a node."""
        it, all_ways = self.ontology.nodes[node], ways(self.ontology, node)
        # A root that is left out is not walked: what also lies below another one is judged by that.
        all_ways = tuple(way for way in all_ways if way[0] not in self.without) or all_ways
        own = self.by_id.get(node)
        found = [self.on(way) for way in all_ways]
        given = {"id": node, "name": it.name}
        alive = [f for f in found if f[0] is not None]
        classes = list(dict.fromkeys(f[0] for f in alive))
        if own is not None and own.do == "keep" and alive:
            found = alive
        elif why := self._conflict(node, found):
            return Entry(fate="dropped", by="parents", ground="parents", why=why, **given)
        elif self._restricted(node, all_ways):
            why = f"{' and '.join(it.restrictions)} in the ontology"
            return Entry(fate="dropped", by="restricted", ground="restricted", why=why, **given)
        target, one, by = found[0]
        if target is None:
            ground = one.ground if one is not None else by
            text = one.why if one is not None else f"below {self.ontology.nodes[all_ways[0][0]].name}"
            if one is not None and one.name.casefold() != it.name.casefold():
                text = f"with {one.name}: {text}"
            return Entry(fate="dropped", by=by, ground=ground, why=text, **given)
        name = self.named(classes[0] or target)
        if one is not None:
            whose = "" if one.name.casefold() == it.name.casefold() else f"with {one.name}: "
            return Entry(into=name, fate="merged", by="hand", ground=one.ground, why=whose + one.why, **given)
        if target != node:
            return Entry(into=name, fate="absorbed", by="depth", why=f"below level {self.rules.depth}", **given)
        lineage = " | ".join(" > ".join(self.ontology.nodes[i].name for i in way) for way in all_ways)
        kept = own.why if own is not None else ""
        return Entry(into=name, fate="kept", by="hand" if kept else "", why=kept, lineage=lineage, **given)

    @cached_property
    def _short(self) -> Mapping[str, int]:
        """How many nodes have a short name: only one that is a node's alone is used."""
        return Counter(short(n.name).casefold() for n in self.ontology.nodes.values() if n.id not in self.targets)

    def named(self, node: str) -> str:
        """The name of a class."""
        full = self.ontology.nodes[node].name
        return self.names.get(node) or (short(full) if self._short[short(full).casefold()] == 1 else full)

    def _conflict(self, node: str, found: Sequence[tuple[str | None, Decision | None, str]]) -> str:
        """Why a node on several ways is ambiguous; "" where it is not, or is dropped on all of them anyway."""
        if len(found) == 1 or all(f[0] is None for f in found) or self.rules.parents == "keep":
            return ""
        ends = list(dict.fromkeys("nothing" if f[0] is None else self.named(f[0]) for f in found))
        if self.rules.parents == "any" and len(self.ontology.parents[node]) > 1:
            return f"has {len(self.ontology.parents[node])} parents"
        if self.rules.parents == "roots" and len(roots_of(self.ontology, node)) > 1:
            return (
                f"below {' and '.join(sorted(self.ontology.nodes[r].name for r in roots_of(self.ontology, node)))}"
            )
        if self.rules.parents == "classes" and len(ends) > 1:
            return f"would be {' or '.join(ends)}"
        return ""

    def _restricted(self, node: str, all_ways: Sequence[tuple[str, ...]]) -> bool:
        if not self.ontology.nodes[node].restrictions or self.rules.restricted == "keep":
            return False
        shallow = min(map(len, all_ways)) <= self.rules.depth
        return self.rules.restricted == "labels" or shallow


def pruned(
    ontology: Ontology, rules: Rules | None = None, made: Sequence[Decision] = (), *, version: str = VERSION
) -> ClassTable:
    """The class table that rules and decisions make of an ontology.

    Appendix A.1 of arXiv 2511.22826. Where several grounds drop a node, ambiguity of its ways is named first, then
    the ontology's own mark, then the decision by hand.

    Raises ValueError for decisions on nodes that the ontology does not have, merges that end nowhere, and two
    classes of one name.
    """
    judge = _Judge(ontology, rules or Rules(), made)
    entries = {node: judge.entry(node) for node in ontology.nodes}
    heads: dict[str, str] = {}
    for entry in entries.values():
        if entry.fate == "kept" and heads.setdefault(entry.into.casefold(), entry.id) != entry.id:
            other = entries[heads[entry.into.casefold()]].name
            raise ValueError(f"{entry.name!r} and {other!r} would both be called {entry.into!r}: decide on a name")
    origin = digest(*((n.id, n.name, n.children, n.restrictions) for n in ontology.nodes.values()))
    return ClassTable(version, entries, origin)
