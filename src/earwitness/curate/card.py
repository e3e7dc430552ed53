"""The card of a set: what is in it, where it came from, who agreed on it, and what was not checked.

A card is made from a set's own files, whatever made them: ``curate twins``, ``curate check``, ``curate ontology``
with media, or a labels file written by hand. What a file does not say is not on the card; what nobody checked is
said under known limits. In the spirit of datasheets (Gebru et al., arXiv 1803.09010), but filled in by measuring.

Lengths and loudness are taken from ``measured.jsonl`` where the set has it, else measured once, into ``card/work``.

Functions: ``read`` -> :class:`Card`; the page is made by :mod:`earwitness.report.dataset`, the text by
:mod:`.card_text`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from earwitness import run as runs
from earwitness.audit.workers import Executor
from earwitness.curate import card_history, card_tables, review
from earwitness.curate.card_history import Step
from earwitness.curate.checks import files as checked
from earwitness.curate.checks.lineage import related
from earwitness.curate.checks.outcome import Rung
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.jobs import Bench, Key, Measure, Measured, Stage, cluster, stamp
from earwitness.curate.lint import lint
from earwitness.curate.manifest import Variant
from earwitness.datasets import folder as labelled
from earwitness.datasets.labels import LabelsError, clip_of, rows
from earwitness.records import Clip, Row, Table, how_many

PLACE = "card"  # folder beside the page: charts, and the log of what was measured for it
SAMPLES = "samples.jsonl"  # of a selection whose videos are not there
FEW = 5  # clips below which nothing can be said of a class by itself
CREDITS = ("CREDITS.md", "CREDITS.csv", "CREDITS.txt", "credits.md", "credits.csv", "credits.txt", "NOTICE")
TRAINING = ("train.jsonl", "valid.jsonl")  # of a set that is trained on: linted as well


class Figure(NamedTuple):
    """A key figure: its name, its value as text, and a clause on it."""

    title: str
    value: str
    plain: str


@dataclass
class Card:
    """Everything that a page or a text about a set says."""

    folder: Path
    name: str
    kind: str
    sentence: str
    labels: str  # name of the labels file
    clips: list[Clip]
    measured: dict[str, Measured]
    history: list[Step]
    figures: list[Figure] = field(default_factory=list)
    funnel: list[Rung] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    sections: dict[str, list[Table]] = field(default_factory=dict)  # section -> tables
    limits: list[str] = field(default_factory=list)  # what was not checked, what is wrong
    done: list[str] = field(default_factory=list)  # what was checked
    credits: str = ""  # name of a file with the makers' names
    facts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def classes(self) -> dict[str, tuple[int, int]]:
        """Clips in which each class is seen, and heard; commonest first."""
        return card_tables.classes_of(self.clips)


class _Row(msgspec.Struct):
    """What a card needs of a line of measured.jsonl."""

    clip: str
    found: Measured


def read(
    place: str | Path,
    *,
    measure: bool = True,
    workers: int = 1,
    executor: Executor = "process",
    stage: Stage | None = None,
) -> Card:
    """The card of a set.

    Parameters
    ----------
    place : the set's folder, or its labels file.
    measure : measure the clips' lengths and loudness where the set does not have them yet.
    workers, executor, stage : as in ``building.build``.

    Raises
    ------
    ValueError
        Where there is no labels file, or it cannot be read (LabelsError names the lines).
    """
    file = _labels(Path(place))
    folder = file.parent
    clips = _clips(file)
    history = card_history.history(folder)
    missing = [c for c in clips if not (folder / str(c.path)).is_file()]
    measured, broken = _measured(folder, clips, {c.id for c in missing}, measure, workers, executor, stage)
    card = Card(folder, folder.resolve().name, _kind(history[-1], file), "", file.name, clips, measured, history)
    card.verdicts = [v for s in history if s.check is not None for v in checked.read_verdicts(s.folder)]
    card.funnel = card_history.funnel(history, len(clips))
    card.credits = next((name for name in CREDITS if (folder / name).is_file()), "")
    card.sections = {k: some for k, some in _sections(card, file).items() if some}
    card.figures = list(_figures(card))
    card.done, card.limits = _done(card), list(_limits(card, missing, broken))
    card.facts = list(_facts(card))
    card.sentence = _sentence(card)
    return card


def _labels(place: Path) -> Path:
    """The set's labels file. Raises ValueError where there is none, or more than one."""
    if place.is_file():
        return place
    if not place.is_dir():
        raise ValueError(f"{place}: no such folder or labels file")
    if (place / "run.json").exists():
        raise ValueError(f"{place} is the folder of a run: that has a report, `earwitness report {place}`")
    found = [place / name for name in labelled.LABELS if (place / name).exists()]
    if len(found) > 1:
        raise ValueError(f"{place} has {' and '.join(f.name for f in found)}: name the one to read")
    if found:
        return found[0]
    if (place / SAMPLES).exists():
        return place / SAMPLES
    raise ValueError(
        f"{place}: no labels file ({', '.join(labelled.LABELS)}); a card is of a set of clips (is it a run? Those "
        f"have a report: `earwitness report`)"
    )


def _clips(file: Path) -> list[Clip]:
    """The clips of a labels file, whether their files are there or not."""
    if not file.read_bytes().strip():
        return []  # a check that passed nothing
    clips, wrong = [], []
    for line, row in rows(file):
        try:
            clips.append(clip_of(row))
        except ValueError as error:
            wrong.append((line, str(error)))
    if wrong:
        raise LabelsError(file, wrong)
    return clips


def _measured(
    folder: Path, clips: Sequence[Clip], missing: set[str], measure: bool, workers: int, executor: Executor,
    stage: Stage | None,
) -> tuple[dict[str, Measured], dict[str, str]]:  # fmt: skip
    """What is known of the clips' media, and the reasons of those that cannot be decoded."""
    known: dict[str, Measured] = {}
    if (folder / "measured.jsonl").exists():
        known = {row.clip: row.found for row in runs.read_lines(folder / "measured.jsonl", _Row)}
    wanted = {
        Key(c.id, "measure"): Measure(
            path=str((folder / str(c.path)).resolve()), start=c.start, end=c.end, stamp=stamp(folder / str(c.path))
        )
        for c in clips
        if c.id not in known and c.id not in missing
    }
    if not measure or not wanted:
        return {c.id: known[c.id] for c in clips if c.id in known}, {}
    with cluster(executor):
        bench = Bench(folder / PLACE / "work", workers, executor, stage=stage)
        found, broken = bench.do("measuring", wanted, Measured)
    known |= {key.clip: m for key, m in found.items()}
    return {c.id: known[c.id] for c in clips if c.id in known}, {k.clip: why for k, why in broken.items()}


def _kind(step: Step, file: Path) -> str:
    if file.name == SAMPLES:
        return "selected samples"
    return {
        "curate twins": "a set with twins", "curate check": "checked clips", "curate ontology": "selected clips",
    }.get(step.verb, "labelled clips")  # fmt: skip


def _sections(card: Card, file: Path) -> dict[str, list[Table]]:
    clips, measured = card.clips, card.measured
    out: dict[str, list[Table]] = {"contents": [], "checks": [], "agreement": [], "origin": [], "lint": []}
    if card.verdicts:
        out["checks"] = [card_tables.verdict_table(card.verdicts)]
    out["agreement"] = list(_agreement(card))
    if not clips:
        return out
    if measured:
        out["contents"] = [card_tables.contents(clips, measured), card_tables.duplicates(clips, measured)]
    out["contents"] += list(_made_of(card.folder))
    out["origin"] = [card_tables.splits(clips), card_tables.licences(clips)]
    out["lint"] = list(_linted(card.folder, file))
    return out


def _made_of(folder: Path) -> Iterator[Table]:
    """What was made of the clips: twins, shifts, and the like, by split."""
    if not (folder / "variants.jsonl").exists():
        return
    variants = runs.read_lines(folder / "variants.jsonl", Variant)
    count = Counter((v.kind, v.split) for v in variants)
    written = Counter(v.kind for v in variants if v.path is not None)
    sides = sorted({v.split for v in variants})
    rows = [
        Row(kind, (*(count[kind, side] for side in sides), sum(count[kind, s] for s in sides), written[kind]))
        for kind in dict.fromkeys(v.kind for v in variants)
    ]
    if rows:
        yield Table(
            id="card_variants", title="Made of the clips", columns=(*sides, "all", "written as files"),
            rows=tuple(rows), unit="count",
            caption="swap: another clip's sound; shift: the sound early or late; modified: the sound replaced by a "
            "background; muted: one thing of a scene left out. What is not written is made in memory.",
        )  # fmt: skip


def _agreement(card: Card) -> Iterator[Table]:
    """How far witnesses, judges and annotators agree: as they left it, and by the review's own code."""
    for step in card.history:
        done = step.folder / checked.AGREEMENT  # of `curate check`, or of `earwitness review --export`
        if done.exists():
            yield from msgspec.json.decode(done.read_bytes(), type=list[Table])
        if not any((step.folder / review.HOME).glob("annotators/*/votes.jsonl")):
            continue
        queue = step.folder / checked.QUEUE
        manifest = queue if queue.exists() and queue.read_bytes().strip() else step.folder
        try:
            yield from review.agreement(manifest, step.folder / review.HOME)
        except ValueError as error:
            card.limits.append(f"the votes in {step.folder.name}/{review.HOME} could not be read: {error}")


def _linted(folder: Path, file: Path) -> Iterator[Table]:
    for path in (file, *(folder / name for name in TRAINING)):
        if not path.is_file() or path.name == SAMPLES:
            continue
        try:
            yield card_tables.findings(lint(str(path)))
        except ValueError as error:
            yield Table(
                id=f"card_lint_{path.stem}", title=path.name, columns=("what was found",),
                rows=(Row("could not be read", (str(error).splitlines()[0],)),), caption="", unit="mixed",
            )  # fmt: skip


# ---------------------------------------------------------------- in words


def _figures(card: Card) -> Iterator[Figure]:
    n, sources = len(card.clips), len({c.cluster for c in card.clips})
    yield Figure("Clips", f"{n:,}", f"of {how_many(sources, 'source recording')}.")
    if not n:
        return
    counts = [max(pair) for pair in card.classes.values()]
    yield Figure(
        "Classes", f"{len(counts):,}",
        f"from {min(counts):,} to {how_many(max(counts), 'clip')} each; as even as "
        f"{card_tables.evenness(counts):.1f} equally common ones." if counts else "",
    )  # fmt: skip
    if card.measured:
        total = sum(m.seconds for m in card.measured.values())
        loud = sorted(m.lufs for m in card.measured.values() if m.lufs is not None)
        spread = f", loudness {loud[0]:.0f} to {loud[-1]:.0f} LUFS".replace("-", "\u2212") if loud else ""
        yield Figure("Length", _long(total), f"{total / len(card.measured):.1f} s a clip on average{spread}.")


def _long(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _sentence(card: Card) -> str:
    """What the set is, and the one thing to know about it."""
    who = "nothing" if not card.done else ", ".join(card.done[:-1]) + " and " * (len(card.done) > 1) + card.done[-1]
    n, kinds = len(card.clips), len(card.classes)
    made = f"{n:,} clip{'s' * (n != 1)} of {kinds} class{'es' * (kinds != 1)}" if n else "No clip is left"
    return f"{made}: checked by {who}"


def _done(card: Card) -> list[str]:
    """Who has checked the clips."""
    out = []
    checks = {v.check for v in card.verdicts}
    if checks - {"tagger", "classifier", "visible", "audible", "visual_question", "audio_question", "people"}:
        out.append("gates")
    if checks & {"tagger", "classifier"}:
        out.append("witnesses")
    judges = {j.name for s in card.history if s.check is not None for j in s.check.judges}
    if judges:
        out.append(f"the judge{'s' if len(judges) > 1 else ''} {', '.join(sorted(judges))}")
    if any(t.id.startswith("review_") for t in card.sections.get("agreement", ())):
        out.append("people")
    return out


def _limits(card: Card, missing: Sequence[Clip], broken: Mapping[str, str]) -> Iterator[str]:
    """What was not checked, and what is known to be wrong, in plain words."""
    yield from card.limits
    n = len(card.clips)
    checks = [s.check for s in card.history if s.check is not None]
    if waiting := sum(check.counts.get("undecided", 0) for check in checks):
        yield (
            f"{how_many(waiting, 'clip is undecided and waits', 'clips are undecided and wait')} for people "
            "(`earwitness review` on undecided.jsonl)."
        )
    if not n:
        yield "The set is empty: no clip passed."
        return
    if not checks:
        yield ("Nothing has checked whether the clips show and sound like their labels: `earwitness curate check`.")
    for check in checks:
        yield from (f"{note[0].upper()}{note[1:]}." for note in check.notes)
        for judge in check.judges:
            for other in check.asked.audited:
                if why := related(judge.spec, other):
                    yield f"The judge {judge.name} is of the audited family of {other}: {why}."
    if "people" not in card.done:
        yield "No person has judged the clips (`earwitness review`); MMA-Bench's people threw out 40 % of theirs."
    if missing:
        yield (
            f"The files of {len(missing):,} of {how_many(n, 'clip')} are not there, for example {missing[0].path}."
        )
    if broken:
        name, why = next(iter(broken.items()))
        yield f"{how_many(len(broken), 'clip')} cannot be decoded, for example {name}: {why}."
    if lacking := n - len(card.measured) - len(missing) - len(broken):
        yield f"Lengths and loudness of {how_many(lacking, 'clip')} were not measured."
    elif card.measured and not any(v.check == "duplicate" for v in card.verdicts):
        yield "Equal clips were found by equal content alone; near copies (cut or encoded anew) may be left."
    if unknown := sum(c.licence == "unknown" for c in card.clips):
        yield f"The licence of {unknown:,} of {how_many(n, 'clip')} is unknown: they may not be passed on."
    owed = sum(c.licence.upper().replace("-", " ").startswith("CC BY") for c in card.clips)
    if owed and not card.credits:
        yield (
            f"{how_many(owed, 'clip is under a licence that asks', 'clips are under licences that ask')} for "
            "credit, and no file here names the makers (CREDITS.md)."
        )
    few = [name for name, pair in card.classes.items() if max(pair) < FEW]
    if few:
        yield (
            f"{len(few)} of {len(card.classes)} classes have fewer than {FEW} clips: figures by class mean little "
            f"there ({', '.join(few[:5])}{' …' if len(few) > 5 else ''})."
        )
    if not any(c.events for c in card.clips):
        yield "No clip has labelled event times: shifts cannot be checked against what is seen and heard when."
    if len({c.split for c in card.clips}) == 1:
        yield f"All clips are in the split {card.clips[0].split}: nothing is held out."


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    yield "folder", str(card.folder)
    yield "labels", card.labels
    for step in card.history:
        if step.command:
            yield f"{step.verb} ({step.folder.name})", step.command
    last = card.history[-1]
    if last.clips:
        yield "made from", last.clips
    for step in card.history:
        if step.twins is not None:
            yield "class file", step.twins.class_file
        for judge in step.check.judges if step.check is not None else ():
            yield "judge", judge.by
    if last.versions:
        yield "versions", ", ".join(f"{k} {v}" for k, v in last.versions)
