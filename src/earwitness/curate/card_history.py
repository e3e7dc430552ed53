"""How a set came to be: the steps before it, as far as their folders can be found, and how many clips each left.

A set names what it was made from (``set.json``, ``check.json`` ...), and that may name what came before. The steps
are followed back, so that the card of a set of twins shows the whole way: from a data set's segments, over the
checks, to what is in the folder (Table 1 of arXiv 2511.22826).

Functions: ``history`` -> steps, first one first; ``funnel`` -> rungs.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from earwitness.curate.checks import files as checked
from earwitness.curate.checks.outcome import Rung, spoken
from earwitness.curate.manifest import Info as SetInfo

Kind = TypeVar("Kind", bound=msgspec.Struct)
DEEP = 6  # steps followed back at most: a folder that names itself would go on for ever
NAMES = re.compile(r"(the very same \w+ as|times its donor|clip) \S+")


# The records of which the card says no more than how they came to be.
RECORDS = {
    "selection.json": "curate ontology", "events.json": "curate events", "starter.json": "curate starter",
}  # fmt: skip


class _Record(msgspec.Struct):
    command: str = ""
    clips: str | int = ""  # of a starter set: how many clips a pair has
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class Step:
    """One making in the history: its folder, its verb, and the record that it left."""

    folder: Path
    verb: str  # "curate ontology", "curate check", "curate twins" ...; "" = labels by other means
    clips: str = ""  # what it was made from, as its record says
    command: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    twins: SetInfo | None = None
    check: checked.Info | None = None


def history(folder: Path) -> list[Step]:
    """The steps that made a set, first one first; the last is the set itself."""
    out: list[Step] = []
    at: Path | None = folder
    while at is not None and len(out) < DEEP:
        step = _step(at)
        out.insert(0, step)
        at = _found(step.clips, at)
        if at is not None and any(at.resolve() == s.folder.resolve() for s in out):
            break
    return out


def _step(folder: Path) -> Step:
    made = _set_info(folder)
    if made is not None:
        return Step(folder, "curate twins", made.clips, made.command, tuple(made.versions.items()), twins=made)
    check = checked.read_info(folder)
    if check is not None:
        return Step(folder, "curate check", check.clips, check.command, tuple(check.versions.items()), check=check)
    for name, verb in RECORDS.items():
        if (record := _decoded(folder / name, _Record)) is not None:
            came = record.clips if isinstance(record.clips, str) else ""
            return Step(folder, verb, came, record.command, tuple(record.versions.items()))
    # A selection of before it kept a record.
    if (folder / "funnel.csv").exists() and (folder / "classes.csv").exists():
        return Step(folder, "curate ontology")
    return Step(folder, "")


def _set_info(folder: Path) -> SetInfo | None:
    """The record of a set of twins; None where set.json is missing, or of another making (a training set)."""
    return _decoded(folder / "set.json", SetInfo)


def _decoded(path: Path, kind: type[Kind]) -> Kind | None:
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.MsgspecError:
        return None


def _found(named: str, beside: Path) -> Path | None:
    """The folder that a record names, as it was typed or beside the set; None where it is not there any more."""
    if not named:
        return None
    for place in (Path(named), beside.parent / named, beside.parent / Path(named).name):
        if place.is_file():
            place = place.parent
        if place.is_dir():
            return place
    return None


def funnel(steps: Sequence[Step], now: int) -> list[Rung]:
    """How many clips each step left, over all steps; ``now`` are the clips that the set holds.

    Empty where no step says how many it began with.
    """
    out: list[Rung] = []
    for step in steps:
        mine = list(_rungs(step))
        if not mine:
            continue
        if out and mine[0].left == out[-1].left:  # it began with what the step before had left
            mine = mine[1:]
        elif out:
            mine[0] = msgspec.structs.replace(mine[0], name=f"taken from {Path(step.clips).name}")
        out += mine
    if out and out[-1].left != now:
        before = out[-1].left
        name = "in the set" if now < before else "in the set, with what was made of others"
        out.append(Rung(name=name, asked=before, failed=max(0, before - now), untold=0, left=now))
    return out


def _rungs(step: Step) -> Iterator[Rung]:
    if step.check is not None:
        yield from (msgspec.structs.replace(r, name=spoken(r.name)) for r in checked.read_rungs(step.folder))
    elif step.twins is not None:
        yield from _of_twins(step.folder)
    elif step.verb == "curate ontology":
        yield from _of_ontology(step.folder)


def _of_twins(folder: Path) -> Iterator[Rung]:
    measured, left_out = folder / "measured.jsonl", folder / "left_out.csv"
    if not measured.exists() or not left_out.exists():
        return
    reasons = Counter(_bare(row["why"]) for row in _rows(left_out))
    broken = {row["clip"] for row in _rows(left_out)}
    known = {str(msgspec.json.decode(line)["clip"]) for line in measured.read_bytes().splitlines() if line}
    left = len(known | broken)
    yield Rung(name="in the manifest", asked=left, failed=0, untold=0, left=left)
    for why, n in reasons.most_common():
        yield Rung(name=f"left out: {why}", asked=left, failed=n, untold=0, left=left - n)
        left -= n


def _bare(why: str) -> str:
    """A reason without the name of the other clip, so that reasons can be counted."""
    return NAMES.sub(lambda m: f"{m[1]} another", why)


def _of_ontology(folder: Path) -> Iterator[Rung]:
    left = 0
    for row in _rows(folder / "funnel.csv"):
        if row.get("table") != "curate_samples" or row.get("column") != "left":
            continue
        count = int(float(row["count"]))
        yield Rung(name=row["step"], asked=left or count, failed=max(0, left - count), untold=0, left=count)
        left = count


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
