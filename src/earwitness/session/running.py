"""From a job to a page: check, ask, score, report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from earwitness import audit, foley, judges, scoring
from earwitness import report as pages
from earwitness import run as runs
from earwitness.models.load import load_model
from earwitness.protocols import load as load_protocol
from earwitness.records import Judged, Media, Table, View
from earwitness.session.files import write_media
from earwitness.session.preparing import Job, now
from earwitness.session.settings import Options, chosen


@dataclass(frozen=True)
class Result:
    """How an audit ended."""

    headline: str
    failed_share: float
    allowed: float
    warnings: tuple[str, ...] = ()


def run(job: Job, folder: Path, *, progress: audit.Progress | None = None) -> Result:
    """Check ears and eyes, ask what is not answered yet, score, and write the report.

    Raises
    ------
    Refused
        Where sound or picture does not reach the model; no scores are made.
    RunError
        Where the folder holds another run.
    """
    try:
        info, counts = _answered(job, folder, progress)
    finally:
        if hasattr(job.model, "close"):
            job.model.close()
    info.finished = now()
    runs.write_info(folder, info)
    options = job.options
    warnings: list[str] = []
    try:
        score(folder, options.judge, warn=warnings.append)
    except ValueError as error:  # the rules' tables are written before a judge is asked: the page can be made
        if options.judge is None or not (folder / "tables.json").exists():
            raise
        again = shlex.join(["earwitness", "score", str(folder), "--judge", options.judge])
        warnings.append(f"the judge did not finish ({error}); go on with: {again}")
    write_media(folder, job.clips)
    pages.build(folder)
    failed = counts["failed"] / len(job.items)
    return Result(pages.headline(folder), failed, options.max_failed, tuple(warnings))


def _answered(job: Job, folder: Path, progress: audit.Progress | None) -> tuple[runs.Info, dict[str, float]]:
    """Check and ask what is not answered yet; the run's record as it stands then, and this call's counts."""
    folder.mkdir(parents=True, exist_ok=True)
    info = job.info
    answers = runs.read_answers(folder)
    if (folder / "run.json").exists():
        info = _resumed(runs.read_info(folder), job, folder, begun=bool(answers))
    elif any(folder.iterdir()):
        raise runs.RunError(f"{folder} is not empty and holds no run: take another --out")
    budget = getattr(job.model, "budget", None)
    if budget is not None:  # of a served model: what earlier calls of this run have spent counts
        budget.before = info.stats.get("cost_usd", 0.0)
        budget.before_tokens = int(sum(info.stats.get(f"{kind}_tokens", 0) for kind in ("prompt", "completion")))
    counts: dict[str, float] = {}
    checked = False
    try:
        if any(item.id not in answers for item in job.items) or not info.checks:
            info.checks = audit.check_model(job.model, _check_clip(job))
        checked = True
        runs.write_lines(folder / "clips.jsonl", job.clips.clips)
        runs.write_lines(folder / "items.jsonl", job.items)
        runs.write_info(folder, info)
        if job.missing:
            (folder / "missing.txt").write_text("\n".join(job.missing) + "\n")
        counts = _ask(job, folder, progress)
    finally:  # a run that stops (its budget is spent, Ctrl-C) has cost what it has cost
        info.decoding = getattr(job.model, "decoding", info.decoding)
        own = {} if _many(job.options) else getattr(job.model, "counts", {})  # workers have added up theirs
        for name, value in {**counts, **own}.items():
            info.stats[name] = info.stats.get(name, 0) + float(value) if name != "failed" else float(value)
        if checked or budget is not None:  # a local model that the check refuses leaves the folder as it was
            runs.write_info(folder, info)
    return info, counts


def _many(options: Options) -> bool:
    return options.workers > 1 or options.executor == "ray"


def _ask(job: Job, folder: Path, progress: audit.Progress | None) -> dict[str, float]:
    options = job.options
    if not _many(options):
        return audit.ask(
            job.model, job.clips, job.items, folder,
            progress=progress, chunk=options.chunk, retry_failed=options.retry_failed,
        )  # fmt: skip
    if hasattr(job.model, "unload"):  # the checked model's memory is wanted by a worker's
        job.model.unload()
    recipe = audit.Recipe(job.spec, options.for_model, job.model.revision)
    return audit.ask_many(
        recipe, job.clips, job.items, folder, workers=options.workers, executor=options.executor,
        progress=progress, chunk=options.chunk, retry_failed=options.retry_failed,
    )  # fmt: skip


def score(folder: Path, judge: str | None = None, *, warn: Callable[[str], None] | None = None) -> list[Table]:
    """Score answers.jsonl again: scores.jsonl and tables.json, without the model.

    ``judge`` names a model that reads the free answers a second time (``earwitness.judges``); what judges have said
    before is in the run folder and is shown without asking them again. ``warn`` is called with what is doubtful.
    """
    info, answers = runs.read_info(folder), runs.read_answers(folder)
    judged = [
        Judged(item, answers[item.id], scoring.score(item, answers[item.id]))
        for item in runs.read_items(folder)
        if item.id in answers
    ]
    if not judged:
        raise runs.RunError(f"{folder}: no answers yet: run the audit first")
    runs.write_lines(folder / "scores.jsonl", [j.score for j in judged])
    tables = [
        table
        for name in info.protocols
        for table in load_protocol(name).tables([j for j in judged if j.item.protocol == name])
    ]
    runs.write_tables(folder, tables)
    second = judges.run(folder, judge)
    if warn is not None:
        for doubt in second.warnings:
            warn(doubt)
    if second.scores:
        runs.write_lines(folder / "judge_scores.jsonl", second.scores)
        tables += second.tables
        runs.write_tables(folder, tables)
    return tables


def report(folder: Path, *, embed: bool = False) -> Path:
    """Write report.html again (with the clips inside, where ``embed``)."""
    if not (folder / "scores.jsonl").exists():
        score(folder)
    return pages.build(folder, embed=embed)


def doctor(model: str, settings: Mapping[str, str] | None = None) -> list[dict[str, object]]:
    """The ear and eye check of a model on a Foley clip, with the options of ``settings`` as in ``prepare``.

    Raises Refused where it is deaf or blind as wired, ValueError where it cannot be loaded or asked.
    """
    loaded = load_model(model, **chosen(dict(settings or {}), model=model, seed=0)[1].for_model)
    try:
        return audit.check_model(loaded, foley.media(foley.scene(11), loaded.view))
    finally:
        if hasattr(loaded, "close"):
            loaded.close()


def _resumed(old: runs.Info, job: Job, folder: Path, *, begun: bool) -> runs.Info:
    """The run's record, as it goes on: what was found stays, how it is asked from here on is the new command's."""
    new = job.info
    moved = old.model != new.model and _same_elsewhere(old, new)
    for what in ("revision", "plan") if moved else ("model", "revision", "plan"):
        a, b = getattr(old, what), getattr(new, what)
        if a != b:
            raise runs.RunError(
                f"{folder} holds a run with another {what} ({a}, now {b}): take another --out, or the old command: "
                f"{old.command}"
            )
    if begun and old.view and msgspec.convert(old.view, View) != job.model.view:
        raise runs.RunError(
            f"{folder} holds answers to clips that were sampled otherwise ({old.view}, now {new.view}): take "
            "another --out, or the old fps and max_pixels"
        )
    return msgspec.structs.replace(
        old, model=new.model, view=new.view, settings=new.settings, command=new.command or old.command,
        left_out=new.left_out, clips_named=new.clips_named, clips_missing=new.clips_missing,
        earlier=[*old.earlier, old.model] if moved else old.earlier,
    )  # fmt: skip


def _same_elsewhere(old: runs.Info, new: runs.Info) -> bool:
    """Whether a served model has only moved to another address; one without a revision cannot be known again."""
    families = {info.model.partition(":")[0] for info in (old, new)}
    known = [(info.model.partition("#")[2], info.revision) for info in (old, new)]
    return families == {"openai"} and known[0] == known[1] and bool(known[0][0]) and known[0][1] != "served"


def _check_clip(job: Job) -> Media:
    for clip in job.clips.clips[:20]:
        try:
            one = job.clips.media(clip, job.model.view)
        except (ValueError, OSError):
            continue
        if one.wave is not None and one.frames is not None and one.wave.any() and one.frames.any():
            return one
    return foley.media(foley.scene(11), job.model.view)
