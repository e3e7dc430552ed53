"""Does each clip show and sound like what its label says? Cheap gates, independent witnesses, a judge, then people.

``manifest -> gates -> duplicates -> witnesses -> four questions to a judge -> labels.jsonl``

The cheap checks come first, and a clip that fails one is not shown to the dearer ones unless ``every`` asks for it.
Each step is asked by the audit's own loop and has its own log: a run that was killed goes on where it was, and a
second judge, or another limit, costs only what is new. What comes out::

    OUT/verdicts.jsonl   every verdict on every clip, with what was measured, by whom, and why
    OUT/labels.jsonl     the clips that passed: what audits and ``curate twins`` take
    OUT/dropped.csv      the others: the first check that they failed, and why
    OUT/undecided.jsonl  those that no check failed and some could not tell: a queue for ``earwitness review``
    OUT/funnel.json      how many were left after each step
    OUT/agreement.json   how far witnesses and judges agree
    OUT/check.json       what was asked, by whom, counts, versions
    OUT/sources/         procedural clips as files; work/ logs of what is done

Where people have judged the queue (``OUT/review``, made by ``earwitness review OUT/undecided.jsonl``), the same
command takes their votes in: what all of them pass is passed, what one of them rejects is dropped.

Functions: ``check``.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from earwitness import audit
from earwitness import run as runs
from earwitness.audit.workers import Executor
from earwitness.curate import opening
from earwitness.curate.checks import consistency, lineage, steps
from earwitness.curate.checks.files import Info, Judge, read_info, write_files, write_info
from earwitness.curate.checks.outcome import REMARKS, Outcome, Rung, outcomes, rungs
from earwitness.curate.checks.people import voted
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.checks.wishes import Asked
from earwitness.curate.jobs import Stage, cluster, stamp
from earwitness.media import MediaError
from earwitness.models import Model
from earwitness.models.load import SERVED, known, load_model
from earwitness.protocols.making import class_list
from earwitness.records import Clip, ClipSet, Item, digest

ALLOWED_FAILED = 0.02  # share of a judge's questions without an answer above which the verb exits with 1
CHUNK = 64  # questions to a judge at once: a kill loses at most these


@dataclass
class Checked:
    """What came of a manifest: each clip's fate, the funnel, and in plain words what a person should know."""

    folder: Path
    found: list[Outcome]
    rungs: list[Rung]
    info: Info
    notes: list[str] = field(default_factory=list)
    failed_share: float = 0.0  # of the questions to judges: those without any answer

    @property
    def counts(self) -> dict[str, int]:
        """Clips by what became of them."""
        return {r: sum(o.result == r for o in self.found) for r in ("passed", "dropped", "undecided")}


@dataclass(frozen=True)
class _Bench:
    """Where the work is done, by how many, and who hears of it."""

    folder: Path
    workers: int
    executor: Executor
    retry_failed: bool
    stage: Stage | None

    @property
    def many(self) -> bool:
        return self.workers > 1 or self.executor == "ray"

    def at(self, name: str) -> Path:
        home = self.folder / name
        home.mkdir(parents=True, exist_ok=True)
        return home

    def progress(self, name: str) -> audit.Progress | None:
        return None if self.stage is None else self.stage(name)


def check(
    manifest: str,
    out: Path,
    asked: Asked,
    *,
    workers: int = 1,
    executor: Executor = "process",
    stage: Stage | None = None,
    command: str = "",
) -> Checked:
    """Check every clip of a manifest, or go on with it.

    Parameters
    ----------
    manifest : clips as an audit's ``--clips`` takes them: a folder with a labels file, or ``foley``.
    out : the folder to write.
    asked : who checks, and against which limits (``wishes.asked``).
    workers, executor : as in an audit (``audit.ask_many``); a served judge is asked from here.
    stage : called with the name of each step; what it returns is told how far that is.

    Raises
    ------
    ValueError
        Where the manifest or the folder cannot be read, a judge is of an audited family, or none can be opened.
    EarCheckError
        Where sound or picture does not reach a judge.
    """
    out = Path(out)
    lineage.refuse(asked.judges, asked.audited)
    for name in asked.judges:
        if not (_answers(name, asked, out / "work") / "judge.json").exists():  # else it may not have to be opened
            known(name, **asked.judge_options)
    clips = opening.manifest(manifest, limit=asked.limit, seed=asked.seed, limited="--set limit=")
    info, old = Info(clips=manifest, asked=asked, command=command), read_info(out)
    opening.folder(out, "checked clips", info, old, _wishes)
    write_info(out, info)
    bench = _Bench(out / "work", workers, executor, asked.retry_failed, stage)
    stamps = {c.id: _stamp(clips, c) for c in clips.clips}
    given: dict[str, list[Verdict]] = {c.id: [] for c in clips.clips}
    order: list[str] = []

    def take(found: Mapping[str, Sequence[Verdict]]) -> None:
        for name, some in found.items():
            given[name] += some
        made = (v.check for some in found.values() for v in some)
        order.extend(dict.fromkeys(c for c in made if c not in order and c not in REMARKS))

    def left() -> list[Clip]:
        if asked.every:
            return list(clips.clips)
        return [c for c in clips.clips if not any(v.passed is False for v in given[c.id] if v.check in order)]

    with cluster(executor):
        for step in steps.wanted(asked):
            items = step.items(left(), stamps, getattr(clips, "root", Path()))
            take(_stepped(step, clips, items, bench))
            if step.name == steps.GATES:
                take(steps.same_clips(left(), items, bench.at(step.slug), asked.limits))
        failed = total = 0
        some = left()  # the same clips for every judge: what they disagree on goes to people
        for name in asked.judges:
            told, who, broken, many = _judged(name, clips, some, stamps, asked, bench)
            take(told)
            info.judges.append(who)
            failed, total = failed + broken, total + many
    machines = outcomes(clips.clips, given, order)
    fates, notes = voted(machines, out)
    if any(v.check == "people" for o in fates for v in o.verdicts):
        order.append("people")
    made = Checked(out, fates, rungs(fates, order), info, [*_unchecked(asked), *notes], failed / max(total, 1))
    _finish(made, [o for o in machines if o.result == "undecided"], clips)
    return made


def _wishes(info: Info) -> dict[str, object]:
    """What two checks in one folder must have in common."""
    return {"clips": info.clips, "limit": info.asked.limit, "seed": info.asked.seed}


def _stamp(clips: ClipSet, clip: Clip) -> str:
    """What tells a clip's file and part of it from a changed one."""
    if clip.path is None:
        return digest(clip.foley)
    return f"{stamp(getattr(clips, 'root', Path()) / clip.path)} {clip.start:g} {clip.end}"


def _stepped(step: steps.Step, clips: ClipSet, asked: Sequence[Item], bench: _Bench) -> dict[str, list[Verdict]]:
    """The verdicts of gates or of a witness on some clips, by clip."""
    home = bench.at(step.slug)
    if _todo(asked, home, bench.retry_failed):
        progress = bench.progress(step.name)
        if bench.many:
            audit.ask_many(
                step.recipe, clips, asked, home, workers=bench.workers, executor=bench.executor, chunk=1,
                retry_failed=bench.retry_failed, progress=progress,
            )  # fmt: skip
        else:
            audit.ask(
                step.recipe.load(), clips, asked, home, chunk=step.chunk, retry_failed=bench.retry_failed,
                progress=progress,
            )  # fmt: skip
    answers = runs.read_answers(home)
    return {item.clip: step.read(item, answers.get(item.id)) for item in asked}


def _todo(asked: Sequence[Item], home: Path, retry: bool) -> bool:
    """Whether anything is left to ask; a model is only loaded where it is."""
    before = runs.failures(home)
    return any(i.id not in before or (retry and before[i.id]) for i in asked)


# ---------------------------------------------------------------- the judge


def _judged(
    name: str, clips: ClipSet, some: Sequence[Clip], stamps: Mapping[str, str], asked: Asked, bench: _Bench
) -> tuple[dict[str, list[Verdict]], Judge, int, int]:
    """A judge's four verdicts on some clips; who it was; how many questions failed, of how many."""
    classes = class_list(clips.clips, asked.class_names)
    questions = consistency.items(some, classes, seed=asked.seed, stamps=stamps)
    if not questions:  # nobody is opened for nothing
        who = Judge(spec=name, name=name, revision="(not asked)")
        return consistency.verdicts(some, (), {}, who.by), who, 0, 0
    home = bench.at(_answers(name, asked, bench.folder).name)
    who_was = _known(home)
    if who_was is None or not who_was.checks or _todo(questions, home, bench.retry_failed):
        model = load_model(name, **asked.judge_options)
        try:
            who = _met(name, model, clips, some, home, who_was)
            _ask(name, model, clips, questions, home, asked, bench, who)
        finally:
            if hasattr(model, "close"):
                model.close()
    else:
        who = who_was
    answers = runs.read_answers(home)
    found = consistency.verdicts(some, questions, answers, who.by)
    failed = sum(q.id not in answers or answers[q.id].error is not None for q in questions)
    return found, who, failed, len(questions)


def _ask(
    name: str, model: Model, clips: ClipSet, questions: Sequence[Item], home: Path, asked: Asked, bench: _Bench,
    who: Judge,
) -> None:  # fmt: skip
    progress = bench.progress(f"asking {model.name}")
    if bench.many and name.partition(":")[0] not in SERVED and "streams" not in model.abilities:
        if hasattr(model, "unload"):  # the checked model's memory is wanted by a worker's
            model.unload()
        audit.ask_many(
            audit.Recipe(name, asked.judge_options, model.revision), clips, questions, home, workers=bench.workers,
            executor=bench.executor, chunk=CHUNK, retry_failed=bench.retry_failed, progress=progress,
        )  # fmt: skip
        return
    budget = getattr(model, "budget", None)
    if budget is not None:  # of a served model: what earlier calls have spent counts
        budget.before = who.spent.get("cost_usd", 0.0)
        budget.before_tokens = int(sum(who.spent.get(f"{kind}_tokens", 0) for kind in ("prompt", "completion")))
    try:
        audit.ask(
            model, clips, questions, home, chunk=CHUNK, retry_failed=bench.retry_failed, progress=progress
        )  # fmt: skip
    finally:  # what is stopped (a spent budget, Ctrl-C) has cost what it has cost
        counts = {k: who.spent.get(k, 0.0) + float(v) for k, v in getattr(model, "counts", {}).items()}
        _keep(home, msgspec.structs.replace(who, spent={**who.spent, **counts}))


def _met(name: str, model: Model, clips: ClipSet, some: Sequence[Clip], home: Path, before: Judge | None) -> Judge:
    """Who the judge is, after the ear and eye check. Raises RunError where its log holds another one's answers."""
    if before is not None and before.revision != model.revision:
        raise runs.RunError(
            f"{home}: {name} was revision {before.revision} when it began, and is {model.revision} now: the two "
            f"may not be mixed; take another --out"
        )
    if before is not None and before.checks:
        return before
    judge = Judge(spec=name, name=model.name, revision=model.revision, checks=_ear_check(model, clips, some))
    _keep(home, judge)
    return judge


def _ear_check(model: Model, clips: ClipSet, some: Sequence[Clip]) -> list[dict[str, Any]]:
    """The ear and eye check on the first clip that has sound and picture; empty where none has both."""
    for clip in some:
        try:
            seen = clips.media(clip, model.view)
        except MediaError:
            continue  # the gates have told, or the question will
        if seen.wave is not None and seen.frames is not None and seen.wave.any() and seen.frames.any():
            return audit.check_model(model, seen)
    return []


def _keep(home: Path, judge: Judge) -> None:
    part = home / "judge.json.tmp"
    part.write_bytes(msgspec.json.format(msgspec.json.encode(judge), indent=1))
    part.replace(home / "judge.json")


def _answers(name: str, asked: Asked, work: Path) -> Path:
    """Where a judge's answers lie."""
    return work / f"judge-{digest(name, *sorted(asked.judge_options.items()))[:8]}"


def _known(home: Path) -> Judge | None:
    path = home / "judge.json"
    return msgspec.json.decode(path.read_bytes(), type=Judge) if path.exists() else None


# ---------------------------------------------------------------- the end


def _unchecked(asked: Asked) -> list[str]:
    """What was not checked, in plain words."""
    out = []
    if not asked.tagger:
        out.append("no audio tagger heard the clips (--tagger)")
    if not asked.classifier:
        out.append("no image classifier saw the clips (--classifier)")
    if not asked.judges:
        out.append("no judge was asked the four questions (--judge)")
    elif not asked.audited:
        out.append("no audited model was named (--audited): whether the judge is of its family was not checked")
    return out


def _finish(made: Checked, queue: Sequence[Outcome], clips: ClipSet) -> None:
    """Write the files."""
    made.info.counts = {"clips": len(made.found), **made.counts}
    made.info.notes = tuple(made.notes)
    made.info.versions = {
        "earwitness": version("earwitness"), "av": version("av"), "python": platform.python_version(),
    }  # fmt: skip

    def place(clip: Clip) -> Path:
        return opening.file_of(clips, clip, made.folder)

    write_files(made.folder, made.found, queue, made.rungs, clips, place)
    write_info(made.folder, made.info)
