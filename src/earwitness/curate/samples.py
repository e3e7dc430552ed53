"""Which clips have one sound that can be asked about? The sample rules of MMA-Bench, with a count at every step.

A sample is a segment of a recording with labels. Appendix A.2 of arXiv 2511.22826, in this order:

1. of its labels, those that lie above another one of them are dropped ("Animal" beside "Bark");
2. a sample whose labels have no root in common is dropped ("Cat" and "Speech");
3. a sample that has a label whose class was removed is dropped;
4. a sample whose labels stand for different classes is dropped; labels that merge into one class stay.

What is left has one class. Each dropped sample is counted at the first step that drops it.

Functions: ``read_segments`` (AudioSet's CSV), ``choose`` (segments, class table -> chosen samples and the funnel),
``as_clip``.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from earwitness.curate.classes import ClassTable
from earwitness.curate.ontology import Ontology, roots_of, specific
from earwitness.records import Clip, how_many

SAID = 10  # mistakes reported at once
LICENCE = "video: its owner's (YouTube); labels: CC-BY-4.0 (AudioSet)"
LONGEST = 60.0  # s of an AudioSet segment above which a row is taken for a slip; they last 10 s


class SegmentsError(ValueError):
    """Mistakes in a segments file; each line of the message names file and line."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a recording and its labels, as node ids; ``seen``, where given, are the labels that are visible."""

    id: str
    source: str
    start: float = 0.0
    end: float | None = None
    labels: tuple[str, ...]
    seen: tuple[str, ...] | None = None
    split: str = ""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A chosen segment with its one class."""

    segment: Segment
    klass: str


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the sample rules hold; the defaults are all of the paper's.

    ``removed``: a label of a removed class drops the sample, or is only ignored.
    """

    ancestors: bool = True
    one_root: bool = True
    removed: Literal["drops", "ignored"] = "drops"


@dataclass(frozen=True)
class Chosen:
    """What the rules leave. ``steps``: samples left after each step, by name; ``lost``: of each class, the samples
    that have its label and are not chosen, by what stood in the way (another class's or label's name).
    """

    samples: tuple[Sample, ...]
    steps: Mapping[str, int]
    lost: Mapping[str, Counter[str]]

    @property
    def by_class(self) -> Counter[str]:
        """Samples of each class."""
        return Counter(s.klass for s in self.samples)


START, KNOWN, ROOTS, REMOVED, CLASSES, SEEN = STEPS = (
    "all", "every label known", "labels of one root", "no label of a removed class", "labels of one class",
    "seen as well as heard",
)  # fmt: skip


def read_segments(path: str | Path, ontology: Ontology, *, split: str = "") -> list[Segment]:
    """Read AudioSet's segments CSV: ``YTID, start_seconds, end_seconds, positive_labels``, comments with #.

    Raises SegmentsError for rows that cannot be read and labels that the ontology does not have, up to ten at once.
    """
    path = Path(path)
    if not path.is_file():
        raise SegmentsError(f"{path}: no such file (AudioSet's eval_segments.csv?)")
    out: list[Segment] = []
    wrong: list[str] = []
    ids: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
                if not row or row[0].startswith("#"):
                    continue
                try:
                    one = _segment(row, ontology, split)
                    if one.id in ids:
                        raise ValueError(f"{one.id} stands on line {ids[one.id]} already")
                except ValueError as error:
                    wrong.append(f"{path.name}, line {number}: {error}")
                    if len(wrong) > SAID:
                        break
                    continue
                ids[one.id] = number
                out.append(one)
    except (UnicodeDecodeError, csv.Error) as error:
        raise SegmentsError(f"{path}: is no CSV text ({error})") from None
    if wrong:
        raise SegmentsError("\n".join(wrong[:SAID]) + ("\n..." if len(wrong) > SAID else ""))
    if not out:
        raise SegmentsError(f"{path}: holds no segments (only comments?)")
    return out


def _segment(row: Sequence[str], ontology: Ontology, split: str) -> Segment:
    if len(row) != 4:
        raise ValueError(
            f"wants YTID, start, end and labels, got {how_many(len(row), 'field')} (labels must be in one pair of "
            "quotation "
            f"marks; another data set's file goes into --labels)"
        )
    video, begin, stop, labels = (field.strip() for field in row)
    try:
        start, end = float(begin), float(stop)
    except ValueError:
        raise ValueError(f"start and end want seconds, got {begin!r} and {stop!r} (a header line?)") from None
    if not 0 <= start < end <= start + LONGEST:
        raise ValueError(f"{start:g} to {end:g} s is no segment (milliseconds, or swapped?)")
    ids = tuple(dict.fromkeys(filter(None, (i.strip() for i in labels.split(",")))))
    if not ids:
        raise ValueError("has no labels")
    if lost := [i for i in ids if i not in ontology.nodes]:
        raise ValueError(f"label {lost[0]!r} is not in the ontology (an older ontology, or names instead of ids?)")
    return Segment(id=f"{video}_{round(start):06d}", source=video, start=start, end=end, labels=ids, split=split)


def choose(
    ontology: Ontology, table: ClassTable, segments: Iterable[Segment], reading: Reading | None = None
) -> Chosen:
    """The samples that the rules leave, in the order given, and how many are left after each step.

    A segment with ``seen`` labels (VGGSounder's) must also show the class that is heard, and show no other; a label
    "" (one that is not in the ontology) drops the sample. Both are ours: AudioSet's labels are all in the ontology
    and say what is heard only.
    """
    judge = _Judge(ontology, table, reading or Reading())
    kinds: dict[tuple[tuple[str, ...], tuple[str, ...] | None], list[Segment]] = {}
    order: dict[str, int] = {}
    for number, segment in enumerate(segments):
        kinds.setdefault((segment.labels, segment.seen), []).append(segment)
        order[segment.id] = number
    left: Counter[str] = Counter()
    lost: dict[str, Counter[str]] = {}
    out: list[Sample] = []
    for (labels, seen), some in kinds.items():
        klass, step, what = judge.of(labels)
        if klass and seen is not None and (not seen or judge.of(seen)[0] != klass):
            step, what = SEEN, "(not seen, or something else is)"
        for reached in STEPS[: STEPS.index(step)] if step else STEPS:
            left[reached] += len(some)
        if not step:
            out += [Sample(segment=one, klass=klass) for one in some]
            continue
        for mine, others in judge.losers(labels, what):
            counts = lost.setdefault(mine, Counter())
            for other in others:
                counts[other] += len(some)
    out.sort(key=lambda s: order[s.segment.id])
    named = {step: left[step] for step in STEPS}
    if left[KNOWN] == left[START]:
        del named[KNOWN]
    if left[SEEN] == left[CLASSES]:
        del named[SEEN]
    return Chosen(tuple(out), named, lost)


class _Judge:
    """The sample rules on one set of labels."""

    def __init__(self, ontology: Ontology, table: ClassTable, rules: Reading) -> None:
        self.ontology, self.rules = ontology, rules
        self.into = {i: e.into for i, e in table.entries.items()}

    def of(self, labels: tuple[str, ...]) -> tuple[str, str, str]:
        """The class; or "", the step that drops the sample, and the name of the label that stands in the way."""
        if "" in labels:
            return "", KNOWN, "(a label that is not known)"
        kept = specific(self.ontology, labels) if self.rules.ancestors else labels
        if self.rules.removed == "ignored":
            kept = tuple(i for i in kept if self.into.get(i))
            if not kept:
                return "", REMOVED, self.named(labels[0])
        if self.rules.one_root and not frozenset.intersection(*(roots_of(self.ontology, i) for i in kept)):
            return "", ROOTS, ""
        gone = next((i for i in kept if not self.into.get(i)), None)
        if gone is not None:
            return "", REMOVED, self.named(gone)
        classes = {self.into[i] for i in kept}
        return (classes.pop(), "", "") if len(classes) == 1 else ("", CLASSES, "")

    def named(self, node: str) -> str:
        """A label as the funnel names it: by its class, or by its own name."""
        return self.into.get(node) or self.ontology.nodes[node].name

    def losers(self, labels: tuple[str, ...], what: str) -> Iterator[tuple[str, list[str]]]:
        """Each class that a dropped sample would have been of, and what stood in its way."""
        real = tuple(i for i in labels if i)
        names = {self.named(i) for i in specific(self.ontology, real)} | {what}
        for mine in {self.into[i] for i in real if self.into.get(i)}:
            yield mine, sorted(names - {mine, ""}) or [what]


def as_clip(sample: Sample, path: str, *, licence: str = LICENCE, split: str = "test") -> Clip:
    """A chosen sample as a clip: its class is what is seen and heard."""
    one = sample.segment
    return Clip(
        id=one.id,
        path=path,
        start=one.start,
        end=one.end,
        seen=(sample.klass,),
        heard=(sample.klass,),
        source=one.source,
        split=one.split or split,
        licence=licence,
    )
