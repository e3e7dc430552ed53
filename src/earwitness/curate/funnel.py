"""From the ontology and labelled recordings to a class file, samples, and a count at every step beside the paper's.

``select`` does it all and writes a folder::

    OUT/classes.csv     what became of each node of the ontology, and why (a class file)
    OUT/classes.txt     the names of the classes, one a line
    OUT/samples.jsonl   the chosen samples as a labels file (docs/labels.md); the videos need not be there
    OUT/labels.jsonl    those whose videos were found (where a media folder was given): what audits and twins take
    OUT/labels_map.csv  what each label of another data set means, or the nearest names
    OUT/counts.csv      samples of each class, and what the others were lost to
    OUT/funnel.csv      the counts at every step
    OUT/selection.json  what was asked for, by which command, and the counts

Functions: ``select``, ``choices`` (settings by name), ``readings`` (the same under other readings of the paper).
"""

from __future__ import annotations

import csv
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from earwitness import run as runs
from earwitness.curate import classes, label_files, opening, samples
from earwitness.curate.classes import GROUNDS, ClassTable, Decision
from earwitness.curate.label_files import LabelFile
from earwitness.curate.media_files import found_clips
from earwitness.curate.ontology import Ontology, read
from earwitness.curate.pruning import Rules, pruned
from earwitness.curate.samples import Chosen, Reading, Segment
from earwitness.datasets.folder import LABELS
from earwitness.datasets.labels import nearest
from earwitness.records import Cell, Row, Table, digest, how_many

# arXiv 2511.22826: labels and classes of appendix A.1; samples before and after, of table 7, by the number before.
PAPER_LABELS, PAPER_CLASSES = 527, 61
PAPER_SAMPLES = {20_371: 3_518, 22_160: 3_892, 2_041_789: 182_970}
ABSORBED = (
    " The paper says that a class absorbed 6 to 8: its 61 classes would then hold nearly all 527 labels, although "
    "it drops many. It does not publish its list."
)
# Clips shown on MMA-Bench's project page (cskyl.github.io/MMA-Bench), and the class that each of them shows: stated
# there (*), or in the titles. All are AudioSet evaluation segments, so a reading of the paper must choose them.
RELEASED = {
    "3CZ1i2_tKn0": "Canidae", "PkDHPoMjvJ8": "Bird", "UypQOtbE8wg": "Bird", "LEn3f97acaw": "Applause",  # *
    "7xkj4XqaynU": "Bird", "hRHKxyErgZw": "Bird", "SwZxKE3CnEg": "Bird", "9ivV2chJLa4": "Brass instrument",
    "A_0xhMEZ1Cg": "Brass instrument", "Rz7RBslEAG0": "Accordion", "gefp9ta8LTA": "Accordion",
    "kX4-OMWCdCc": "Bowed string instrument",
}  # fmt: skip
# Classes that the paper (figures 20, 26 to 28) and the project page name.
NAMED = (
    "Accordion", "Applause", "Bird", "Bowed string instrument", "Brass instrument", "Canidae", "Cash register",
    "Cat", "Clapping", "Clock", "Didgeridoo", "Door", "Explosion", "Fowl", "Frog", "Frying food", "Glass",
    "Printer", "Rain", "Vehicle",
)  # fmt: skip
# The steps of appendix A.1 and the grounds that belong to each.
STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("roots that are not walked", ("root",)),
    ("nothing to be seen", ("unseen",)),
    ("ambiguous", ("parents", "broad", "overlap", "composite")),
    ("restricted", ("restricted",)),
)

OWN = (*LABELS, "samples.jsonl", "classes.csv", "classes.txt")  # names that a set's own files have


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a selection: those of the rules (``Rules``), of the sample rules (``Reading``), and the split."""

    rules: Rules = Rules()
    reading: Reading = Reading()
    split: str = "test"


class Info(msgspec.Struct, kw_only=True):
    """``selection.json``; paths as given on the command line, "" where not given."""

    ontology: str
    clips: str = ""  # the segments, or the labels
    label_map: str = ""
    hand: str = ""  # "" = ours
    media: str = ""
    wish: Choices
    class_file: str
    counts: dict[str, int] = {}
    command: str = ""
    versions: dict[str, str] = {}


@dataclass
class Selection:
    """What ``select`` found: class table, samples, the tables of the funnel, and what a person should know."""

    table: ClassTable
    chosen: Chosen | None = None
    labels: LabelFile | None = None
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def choices(settings: Mapping[str, str]) -> Choices:
    """Settings by name, as ``--set key=value`` gives them. Raises ValueError for unknown names and wrong values."""
    kinds: dict[str, type[msgspec.Struct]] = {"rules": Rules, "reading": Reading}
    given: dict[str, dict[str, Any]] = {"rules": {}, "reading": {}}
    split = settings.get("split", "test")
    known = [f for kind in kinds.values() for f in kind.__struct_fields__] + ["split"]
    for key, value in settings.items():
        owner = next((name for name, kind in kinds.items() if key in kind.__struct_fields__), None)
        if owner is None and key != "split":
            raise ValueError(f"--set {key}: no such setting{nearest(key, known)}; known: {', '.join(known)}")
        if owner is not None:
            several = key == "without"
            given[owner][key] = [v.strip() for v in value.split("|") if v.strip()] if several else value
    try:
        made = {name: msgspec.convert(given[name], kind, strict=False) for name, kind in kinds.items()}
    except msgspec.ValidationError as error:
        raise ValueError(opening.plainly(error, Rules, Reading)) from None
    return Choices(rules=made["rules"], reading=made["reading"], split=split)  # type: ignore[arg-type]


def select(
    ontology: str | Path,
    out: Path | None = None,
    *,
    segments: str | Path | None = None,
    labels: str | Path | None = None,
    label_map: str | Path | None = None,
    hand: str | Path = classes.DECISIONS,
    media: Path | None = None,
    wanted: Choices | None = None,
    compare: bool = False,
    command: str = "",
) -> Selection:
    """Prune an ontology, choose samples by it, and count.

    Parameters
    ----------
    ontology : AudioSet's ontology.json, where you have it.
    out : the folder to write; None writes nothing.
    segments : AudioSet's segments CSV. labels : another data set's labels, or yours (``label_files``); not both.
    label_map : your decisions on its names, a CSV label,name.
    hand : decisions by hand on the ontology (``classes.decisions``); the default is ours, mma-1.
    media : a folder with the videos; then labels.jsonl has those that are there, and the others are counted.
    compare : also count under other readings of the paper (needs ``segments``).
    command : as typed, for the record.

    Raises ValueError for anything that cannot be read, naming file and line.
    """
    if segments is not None and labels is not None:
        raise ValueError("give --segments (AudioSet's) or --labels (another data set's), not both")
    if label_map is not None and labels is None:
        raise ValueError(f"--map {label_map}: decides on the names of --labels, which is not given")
    if media is not None and segments is None and labels is None:
        raise ValueError(f"--media {media}: whose videos? Give --segments or --labels as well")
    if media is not None and not media.is_dir():
        raise ValueError(f"--media {media}: no such folder")
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--out {out}: is a file; wants a folder")
    given = None if labels is None else Path(labels)
    if out is not None and given is not None and given.name in OWN and given.resolve().parent == out.resolve():
        raise ValueError(f"--out {out}: your {given.name} lies in it: take another --out")
    if compare and segments is None:
        raise ValueError("--readings counts AudioSet's segments under other readings: give --segments")
    chose = wanted or Choices()
    graph = read(ontology)
    made = classes.decisions(hand)
    result = Selection(pruned(graph, chose.rules, made, version=_version(chose.rules, made)))
    found: Sequence[Segment] = ()
    if segments is not None:
        found = samples.read_segments(segments, graph, split=chose.split)
    if labels is not None:
        result.labels = label_files.read_labels(labels, graph, label_map)
        found = result.labels.segments
        result.notes += _said(result.labels)
    used = {i for s in found for i in s.labels if i}
    if result.labels is not None and not found:
        used = {m.node for m in result.labels.matches.values() if m.node}
    result.tables.append(_class_table(graph, result.table, chose.rules, used, from_audioset=segments is not None))
    if found:
        result.chosen = samples.choose(graph, result.table, found, chose.reading)
        result.tables.append(_sample_table(result.chosen, result.table, used))
    if compare:
        result.tables.append(readings(graph, found, made))
    if out is not None:
        _write(result, out, media, graph, labels)
        own = Path(hand) != classes.DECISIONS
        _record(result, out, Info(
            ontology=str(ontology), clips=str(segments or labels or ""), label_map=str(label_map or ""),
            hand=str(hand) if own else "", media=str(media or ""), wish=chose, class_file=result.table.version,
            command=command,
        ))  # fmt: skip
    return result


def _version(rules: Rules, made: Sequence[Decision]) -> str:
    """The version of a class file: ours, or ours with a mark of what was changed."""
    if rules == Rules() and tuple(made) == classes.decisions():
        return classes.VERSION
    return f"{classes.VERSION}+{digest(rules, *made)[:6]}"


def _said(found: LabelFile) -> list[str]:
    """In plain words: which labels could not be matched."""
    lines = [
        f"{m.label!r} is not in the ontology; " + (f"near: {', '.join(m.near)}" if m.near else "nothing is near")
        for m in found.unknown
    ]
    if lines:
        lines.append(
            f"{len(lines)} of {how_many(len(found.matches), 'label')} are unknown: decide with --map FILE "
            "(label,name)"
        )
    return lines


# ---------------------------------------------------------------- counting


def _class_table(graph: Ontology, table: ClassTable, rules: Rules, used: set[str], *, from_audioset: bool) -> Table:
    """Labels and classes left after each step of appendix A.1."""
    plain = pruned(graph, Rules(depth=rules.depth, parents="keep", restricted="keep"))
    looked = [i for i in graph.nodes if i in used] or list(graph.nodes)
    rows = [
        Row(
            "labels in use" if used else "nodes",
            (len(looked), len(looked), PAPER_LABELS if from_audioset else None),
        )
    ]
    left = looked
    rows.append(
        Row(f"absorbed below level {rules.depth}", (len(left), len({plain.entries[i].into for i in left}), None))
    )
    for name, grounds in STEPS:
        here = [i for i in left if table.entries[i].ground not in grounds or table.entries[i].into]
        if len(here) == len(left) and name == STEPS[0][0]:
            continue
        left = here
        rows.append(Row(f"without: {name}", (len(left), len({plain.entries[i].into for i in left}), None)))
    final = {table.entries[i].into for i in left}
    rows.append(Row("merged by hand", (len(left), len(final), PAPER_CLASSES if from_audioset else None)))
    each = len(left) / max(len(final), 1)
    return Table(
        id="curate_classes", title="Labels to classes", columns=("labels", "classes", "paper"), rows=tuple(rows),
        unit="count",
        caption=f"Class file {table.version}: {each:.1f} labels a class." + (ABSORBED if from_audioset else ""),
    )  # fmt: skip


def _sample_table(chosen: Chosen, table: ClassTable, used: set[str]) -> Table:
    """Samples left after each step of appendix A.2."""
    counts = list(chosen.steps.items())
    paper = PAPER_SAMPLES.get(counts[0][1])
    rows = []
    for number, (name, left) in enumerate(counts):
        dropped = None if number == 0 else counts[number - 1][1] - left
        theirs = counts[0][1] if number == 0 and paper else paper if number == len(counts) - 1 else None
        rows.append(Row(name, (left, dropped, theirs)))
    possible = {table.entries[i].into for i in used} - {""}
    empty = sorted(possible - set(chosen.by_class))
    note = f" Without a sample: {', '.join(empty)}." if empty else ""
    mine = " The paper's figure is after downloading as well." if paper else ""
    return Table(
        id="curate_samples", title="Samples", columns=("left", "dropped", "paper"), rows=tuple(rows), unit="count",
        caption=f"{len(chosen.by_class)} of {len(possible)} classes have samples.{mine}{note}",
    )  # fmt: skip


def readings(graph: Ontology, found: Sequence[Segment], made: Sequence[Decision]) -> Table:
    """Classes and samples under other readings of the paper, one thing changed at a time.

    ``named`` counts the classes of :data:`NAMED` that a reading has; ``shown`` the clips of :data:`RELEASED` that
    it chooses, with the class that they are shown under.
    """
    ours, ambiguous = Rules(), "Source-ambiguous sounds"
    every: list[tuple[str, Rules, Sequence[Decision], Reading]] = [
        ("ours", ours, made, Reading()),
        ("2 levels", Rules(depth=2), made, Reading()),
        ("4 levels (a root is level 0)", Rules(depth=4), made, Reading()),
        ("several parents: dropped where of several roots", Rules(parents="roots"), made, Reading()),
        ("several parents: always dropped", Rules(parents="any"), _without_keeps(made), Reading()),
        ("several parents: the first one counts", Rules(parents="keep"), made, Reading()),
        ("restricted: only as a class", Rules(restricted="classes"), made, Reading()),
        (f"6 roots: {ambiguous} not walked", Rules(without=(ambiguous,)), made, Reading()),
        ("labels of removed classes are ignored", ours, made, Reading(removed="ignored")),
        ("labels of several roots may stay", ours, made, Reading(one_root=False)),
        ("labels above others stay", ours, made, Reading(ancestors=False)),
        ("rules only, nothing by hand", ours, (), Reading()),
    ]
    rows = []
    used = {i for s in found for i in s.labels}
    for name, rules, hand, reading in every:
        table = pruned(graph, rules, hand)
        chosen = samples.choose(graph, table, found, reading)
        shown = {s.segment.source: s.klass for s in chosen.samples if s.segment.source in RELEASED}
        agree = sum(_alike(RELEASED[i], klass) for i, klass in shown.items())
        possible = {table.entries[i].into for i in used} - {""}
        have = len({n.casefold() for n in NAMED} & {n.casefold() for n in possible})
        rows.append(Row(name, (len(possible), len(chosen.by_class), len(chosen.samples), have, agree)))
    paper = PAPER_SAMPLES.get(len(found))
    rows.append(Row("paper", (PAPER_CLASSES, 49, paper, len(NAMED), len(RELEASED)), kind="reference"))
    return Table(
        id="curate_readings", title="Other readings of the paper", unit="count", rows=tuple(rows),
        columns=("classes", "with samples", "samples", f"named, of {len(NAMED)}",
                 f"shown, of {len(RELEASED)}"),
        caption="One thing changed at a time. The paper's 49 classes are those left after checks and people; its "
        "samples are after downloading. A reading that is the paper's has all classes that it names, and chooses "
        "all clips that its project page shows.",
    )  # fmt: skip


def _without_keeps(made: Sequence[Decision]) -> list[Decision]:
    """Decisions without those that keep a node against the rule on parents."""
    return [d for d in made if d.do != "keep"]


def _alike(theirs: str, ours: str) -> bool:
    return theirs.casefold() == ours.casefold()


# ---------------------------------------------------------------- writing


def _write(result: Selection, out: Path, media: Path | None, graph: Ontology, source: str | Path | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    classes.write(result.table, out / "classes.csv")
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in result.table.classes))
    _csv(
        out / "funnel.csv", ("table", "step", "column", "count"),
        ([t.id, r.label, c, v] for t in result.tables for r in t.rows
         for c, v in zip(t.columns, r.cells, strict=True) if v is not None),
    )  # fmt: skip
    result.files += [out / "classes.csv", out / "classes.txt", out / "funnel.csv"]
    if result.labels is not None:
        _csv(
            out / "labels_map.csv", ("label", "node", "name", "how", "class", "why", "near"),
            (_mapped(m.label, m.node, m.how, m.near, graph, result.table) for m in result.labels.matches.values()),
        )  # fmt: skip
        result.files.append(out / "labels_map.csv")
    if result.chosen is None:
        return
    known = result.labels.clips if result.labels is not None else {}
    licence = result.labels.licence if result.labels is not None else samples.LICENCE
    root = Path(source).parent if source is not None and known else None
    clips, there, missing = found_clips(
        result.chosen.samples, out, media=media, known=known, root=root, licence=licence or samples.LICENCE
    )
    runs.write_lines(out / "samples.jsonl", clips)
    result.files.append(out / "samples.jsonl")
    if media is not None or known:
        runs.write_lines(out / "labels.jsonl", there)
        result.files.append(out / "labels.jsonl")
    if media is not None:
        result.notes.append(f"{len(there)} of {how_many(len(clips), 'sample')} have their video in {media}")
        if missing:
            (out / "missing.txt").write_text("".join(f"{name}\n" for name in missing))
            result.notes.append(
                f"missing: {', '.join(missing[:5])}{' ...' if len(missing) > 5 else ''} (missing.txt)"
            )
    counts: Counter[str] = result.chosen.by_class
    lost = result.chosen.lost
    _csv(
        out / "counts.csv", ("class", "samples", "lost", "lost to"),
        ([name, counts[name], sum(lost.get(name, {}).values()),
          "; ".join(f"{other} {n}" for other, n in lost.get(name, Counter()).most_common(5))]
         for name in result.table.classes),
    )  # fmt: skip
    result.files.append(out / "counts.csv")


def _record(result: Selection, out: Path, info: Info) -> None:
    info.counts = {"classes": len(result.table.classes)}
    if result.chosen is not None:
        info.counts |= {"samples": len(result.chosen.samples)}
    info.versions = {"earwitness": version("earwitness"), "python": platform.python_version()}
    runs.write_json(out / "selection.json", info)


def _mapped(label: str, node: str, how: str, near: Sequence[str], graph: Ontology, table: ClassTable) -> list[Cell]:
    if not node:
        return [label, "", "", how, "", "no node of the ontology" if how == "given" else "unknown", "; ".join(near)]
    entry = table.entries[node]
    why = "" if entry.into else f"{GROUNDS.get(entry.ground, entry.ground)}: {entry.why}"
    return [label, node, graph.nodes[node].name, how, entry.into, why, ""]


def _csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    part = path.with_name(f"{path.name}.tmp")
    with part.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(head)
        lines.writerows(rows)
    part.replace(path)
