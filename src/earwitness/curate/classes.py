"""Which sounds can be asked about? The ontology's nodes, absorbed, dropped or merged into a list of classes.

MMA-Bench (arXiv 2511.22826, appendix A.1) brings AudioSet's 527 labels down to 61 classes in four steps, and does
not publish the list. Here the steps are rules, and what no rule can decide (is there anything to be seen?) is a
file of decisions by hand, ``mma_decisions.csv``, each with its reason. Rules and decisions make the class file,
``mma_classes.csv``: one row for every node, what became of it and why. Both are versioned; change either, and the
version with it.

Functions: ``decisions`` (read a file of them), ``read`` and ``write`` a class file, ``kin`` (how far apart two
classes are). The rules themselves: :mod:`earwitness.curate.pruning`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import msgspec

from earwitness.curate.ontology import LICENCE, SOURCE
from earwitness.datasets.labels import nearest
from earwitness.records import how_many

HERE = Path(__file__).parent
DECISIONS = HERE / "mma_decisions.csv"
CLASSES = HERE / "mma_classes.csv"
VERSION = "mma-1"  # of both files; a change of either is a new version

Do = Literal["drop", "branch", "merge", "keep", "name"]
Ground = Literal["unseen", "broad", "overlap", "composite", "name", ""]
Fate = Literal["kept", "absorbed", "merged", "dropped"]
GROUNDS: Mapping[str, str] = {
    "root": "below a root that is not walked",
    "unseen": "nothing to be seen",
    "parents": "several parents",
    "broad": "too broad",
    "overlap": "not told from another class",
    "composite": "several things at once",
    "restricted": "marked by the ontology",
}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One decision by hand on the node ``name``.

    ``do``: drop it as a class; drop it and all below it (branch); merge it into the class ``to``; keep it against a
    rule; or only give its class the name ``to``. ``ground``: the kind of reason; ``why``: the reason.
    """

    name: str
    do: Do
    to: str = ""
    ground: Ground = ""
    why: str


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a node: the ``class`` it stands for ("" = none), by which rule or by hand, and why."""

    id: str
    name: str
    into: str = msgspec.field(default="", name="class")
    fate: Fate
    by: str = ""  # "depth", "root", "parents", "restricted" or "hand"; "" = it is a class as it stands
    ground: str = ""
    why: str = ""
    lineage: str = ""  # of classes: their ways from a root, " > " within, " | " between


@dataclass(frozen=True)
class ClassTable:
    """The class file in memory: entries by node id, in the order of the ontology."""

    version: str
    entries: Mapping[str, Entry]
    origin: str = ""  # digest of the ontology's nodes

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, sorted."""
        return tuple(sorted({e.into for e in self.entries.values() if e.into}, key=str.casefold))

    @cached_property
    def _lineages(self) -> Mapping[str, tuple[tuple[str, ...], ...]]:
        return {
            e.into: tuple(tuple(way.split(" > ")) for way in e.lineage.split(" | "))
            for e in self.entries.values()
            if e.lineage
        }

    def ways_to(self, name: str) -> tuple[tuple[str, ...], ...]:
        """The ways to a class, or to the class that a node of that name went into, as names from the root down.

        Empty where the table has neither.
        """
        key = name.casefold().replace("_", " ")
        own = next((w for n, w in self._lineages.items() if n.casefold() == key), None)
        return own or self._lineages.get(self._nodes.get(key, ""), ())

    @cached_property
    def _nodes(self) -> Mapping[str, str]:
        """Class by the name of a node, in lower case."""
        found = {short(e.name).casefold(): e.into for e in self.entries.values() if e.into}
        return found | {e.name.casefold(): e.into for e in self.entries.values() if e.into}


def decisions(path: str | Path = DECISIONS) -> tuple[Decision, ...]:
    """Read decisions by hand: a CSV ``name,do,to,ground,why``. Raises ValueError naming the line."""
    path = Path(path)
    out: list[Decision] = []
    lines: dict[str, int] = {}
    for number, row in _rows(path, ("name", "do", "to", "ground", "why")):
        where = f"{path.name}, line {number}"
        if row["do"] not in get_args(Do):
            raise ValueError(f"{where}: do wants {', '.join(get_args(Do))}, got {row['do']!r}")
        if row["ground"] not in get_args(Ground):
            raise ValueError(
                f"{where}: ground wants {', '.join(filter(None, get_args(Ground)))}, got {row['ground']!r}"
            )
        if not row["why"]:
            raise ValueError(f"{where}: {row['name']}: a decision needs its reason (why)")
        if (row["do"] in ("merge", "name")) != bool(row["to"]):
            raise ValueError(f"{where}: {row['name']}: to is for merge and name, and only for them")
        key = f"{row['name'].casefold()}|{row['do'] == 'name'}"
        if key in lines:
            raise ValueError(f"{where}: {row['name']} is decided on line {lines[key]} already")
        lines[key] = number
        out.append(msgspec.convert(row, Decision))
    return tuple(out)


def _rows(path: Path, columns: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """Line number and fields of a CSV with these columns; lines that begin with # are comments."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    lines = path.read_text("utf-8-sig").splitlines(keepends=True)
    head = next((n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    reader = csv.reader(io.StringIO("".join(lines[head:])))
    names = [name.strip() for name in next(reader, [])]
    if lacking := [c for c in columns if c not in names]:
        raise ValueError(f"{path.name}: lacks the column {lacking[0]}; wants {', '.join(columns)}, has {names}")
    for fields in reader:
        if not any(fields) or fields[0].startswith("#"):
            continue
        if len(fields) != len(names):
            raise ValueError(
                f"{path.name}, line {head + reader.line_num}: has {how_many(len(fields), 'field')}, the header "
                f"{len(names)} (a "
                f"name with a comma must be quoted)"
            )
        yield head + reader.line_num, {n: f.strip() for n, f in zip(names, fields, strict=True)}


def short(name: str) -> str:
    """A node's name as a class name: "Frying (food)" -> "Frying food", "Cattle, bovinae" -> "Cattle".

    As in the names of MMA-Bench's released files; what stands in brackets goes where it is a list itself.
    """
    head, bracket, rest = name.partition(" (")
    inside, _, tail = rest.partition(")")
    if bracket and "," not in head:
        return head + tail if "," in inside else f"{head} {inside}{tail}"
    return name.split(",")[0].strip()


# ---------------------------------------------------------------- the class file

COLUMNS = ("id", "name", "class", "fate", "by", "ground", "why", "lineage")


def write(table: ClassTable, path: Path) -> None:
    """Write the class file: a CSV with a few lines of comment on what it is and from what it comes."""
    text = io.StringIO()
    text.write(
        f"# Class file {table.version} of Earwitness: what became of each node of the AudioSet ontology.\n"
        f"# Derived from the {SOURCE} (nodes {table.origin}); this file is under {LICENCE} as well.\n"
        f"# {how_many(len(table.classes), 'class', 'classes')}. Rules: earwitness.curate.pruning; decisions by "
        "hand: mma_decisions.csv.\n"
    )
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for entry in table.entries.values():
        row = msgspec.to_builtins(entry)
        lines.writerow([row.get(c, "") for c in COLUMNS])
    part = path.with_name(f"{path.name}.tmp")
    part.write_text(text.getvalue(), "utf-8")
    part.replace(path)


def read(path: str | Path = CLASSES) -> ClassTable:
    """Read a class file. Raises ValueError naming the line."""
    path = Path(path)
    entries: dict[str, Entry] = {}
    for number, row in _rows(path, COLUMNS):
        try:
            entry = msgspec.convert({c: row[c] for c in COLUMNS}, Entry)
        except msgspec.ValidationError as error:
            raise ValueError(f"{path.name}, line {number}: {error}") from None
        if bool(entry.into) == (entry.fate == "dropped"):
            raise ValueError(
                f"{path.name}, line {number}: {entry.name} is {entry.fate}, yet its class is {entry.into!r}"
            )
        entries[entry.id] = entry
    heads = {e.into for e in entries.values() if e.fate == "kept"}
    for entry in entries.values():
        if entry.into and entry.into not in heads:
            raise ValueError(
                f"{path.name}: {entry.name} goes into {entry.into!r}, and no node is kept under that name"
                f"{nearest(entry.into, sorted(heads))}"
            )
    first = path.read_text("utf-8-sig").partition("\n")[0].split()
    version = first[3] if len(first) > 3 and first[:2] == ["#", "Class"] else path.stem
    return ClassTable(version, entries)


def kin(table: ClassTable, a: str, b: str) -> int | None:
    """How far apart two classes are: 0 the same, 1 of one parent, 2 of one root, 3 of different roots.

    None where the table does not have one of them. A class on several ways is as near as its nearest one.
    """
    if a.casefold().replace("_", " ") == b.casefold().replace("_", " "):
        return 0
    first, second = table.ways_to(a), table.ways_to(b)
    if not first or not second:
        return None
    apart = 3
    for one in first:
        for two in second:
            if one == two[: len(one)] or two == one[: len(two)] or one[:-1] == two[:-1]:
                return 1
            if one[0] == two[0]:
                apart = 2
    return apart
