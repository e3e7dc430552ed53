"""From clips to clips with event times: measured, annotated, compared; what is in doubt goes to people.

``clips -> measured -> listeners' events -> watchers' units -> agreement and gates -> labels, queue``

Every question goes through the audit's own loop (``audit.ask``), so killing and running again repeats nothing, and
a failed answer is an answer that failed: named, counted, never guessed. Deciding costs nothing: the same command
with another tolerance, or one annotator more, asks only what is not answered yet, and decides everything anew.

Functions: ``build`` -> :class:`Built`.
"""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from earwitness import audit, foley
from earwitness import run as runs
from earwitness.audit import Progress, Recipe
from earwitness.audit.workers import Executor
from earwitness.curate import opening
from earwitness.curate.events import asked, read, tables, witness
from earwitness.curate.events.agreement import Annotation, Decision, decide
from earwitness.curate.events.wish import Info, Wish, read_info, write_info
from earwitness.curate.events.witness import Measured
from earwitness.curate.events.writing import write_events
from earwitness.curate.jobs import Stage, cluster, stamp
from earwitness.models import Model
from earwitness.models.load import known, load_model
from earwitness.records import Answer, Clip, ClipSet, Item, Media, Table, View, digest

IMPACT = "impact"  # in foley:impact/hard: clips of one impact each, which open_clips mixes with others
IMPACTS = 72  # of these, unless limited: as many as of all kinds in an audit
CHUNK = 16  # questions in one call: a kill loses at most those in flight


@dataclass
class Built:
    """Labelled events: what was decided, what is shown, and what a person should know."""

    folder: Path
    decisions: list[Decision]
    tables: list[Table]
    notes: list[str]


@dataclass
class _Session:
    """What all stages of a build share."""

    clips: ClipSet
    stamps: Mapping[str, str]
    wanted: Wish
    folder: Path
    info: Info
    options: Mapping[str, Any]
    workers: int
    executor: Executor
    retry_failed: bool
    stage: Stage | None
    said: dict[str, list[Annotation]] = field(default_factory=dict)

    def progress(self, name: str, items: Sequence[Item]) -> Progress | None:
        return self.stage(name) if self.stage is not None and items else None


def build(
    manifest: str,
    out: Path,
    annotators: Sequence[str],
    wanted: Wish | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    seed: int = 0,
    workers: int = 1,
    executor: Executor = "process",
    retry_failed: bool = False,
    stage: Stage | None = None,
    command: str = "",
) -> Built:
    """Label the events of clips, or go on with it.

    Parameters
    ----------
    manifest : clips, as an audit's ``--clips`` takes them; ``foley:impact`` (``foley:impact/hard``) are procedural
        clips of one impact each.
    annotators : models by name, the listeners first (``wanted.listeners``).
    options : of the models (device, fps ...), for all of them.
    workers, executor : as in an audit (``audit.ask_many``); served models are asked by this process.
    stage : called with the name of each stage; what it returns is told how far that is.

    Raises
    ------
    ValueError
        Where manifest or a model cannot be opened, an annotator is named twice, or the folder holds something else.
    EarCheckError
        Where the sound or the picture does not reach a listener.
    """
    wanted, out = wanted or Wish(), Path(out)
    if not annotators:
        raise ValueError("no annotator: --annotator MODEL, repeatable; the first one listens, the others look")
    if twice := [n for n, k in Counter(annotators).items() if k > 1]:
        raise ValueError(f"--annotator {twice[0]} is named twice: it would agree with itself")
    if wanted.listeners > len(annotators):
        raise ValueError(f"listeners={wanted.listeners}, but there are {len(annotators)} annotators")
    for name in annotators:
        known(name, **options or {})
    audit.refuse_ranks()
    clips = _opened_clips(manifest, limit, seed)
    info = _record(out, Info(clips=manifest, limit=limit, seed=seed, wish=wanted, command=command))
    job = _Session(clips, _stamps(clips), wanted, out, info, options or {}, workers, executor, retry_failed, stage)
    with cluster(executor):
        found = _measured(job)
        usable = [c for c in map(_timed, clips.clips, [found[c.id] for c in clips.clips]) if c is not None]
        job.said = {c.id: [] for c in clips.clips}
        for number, name in enumerate(annotators):
            _annotate(job, name, usable, listens=number < wanted.listeners)
    decisions = [decide(c, job.said[c.id], found[c.id], wanted, c.events) for c in clips.clips]
    shown = tables.tables(decisions, found, {c.id: c for c in clips.clips}, wanted, list(info.annotators))
    new = any(c.path is None for c in clips.clips) and wanted.files  # else there is nothing to wait for
    moved = job.stage("writing") if job.stage is not None and new else None
    write_events(out, clips, decisions, shown, files=wanted.files, progress=moved)
    info.counts = dict(Counter(d.verdict for d in decisions))
    info.versions = {"earwitness": version("earwitness"), "av": version("av"), "python": platform.python_version()}
    write_info(out, info)
    return Built(out, decisions, shown, tables.notes(decisions, found, wanted, list(info.annotators)))


def _opened_clips(manifest: str, limit: int | None, seed: int) -> ClipSet:
    """Clips of a manifest; of ``foley:impact`` the single impacts, which have one event."""
    words = [w for w in manifest.partition(":")[2].split("/") if w]
    if not manifest.startswith("foley:") or IMPACT not in words:
        return opening.manifest(manifest, limit=limit, seed=seed)
    rest = "/".join(w for w in words if w != IMPACT)
    # Opened for its difficulty, and for what it says of words that are wrong.
    like = opening.manifest(f"foley:{rest}" if rest else "foley", limit=1, seed=seed).clips[0]
    classes = [c for c in foley.IMPACTS if c in rest.rpartition("/")[2].split("+")]
    return foley.clip_set(
        limit or IMPACTS, seed=seed, kind="impact", difficulty=foley.parse(like.foley or "").difficulty,
        classes=classes or None,
    )  # fmt: skip


def _record(out: Path, new: Info) -> Info:
    """The folder's record. Raises RunError where it holds something else."""
    old = read_info(out)
    opening.folder(out, "events", new, old, lambda i: {"clips": i.clips, "limit": i.limit, "seed": i.seed})
    if old is None:
        write_info(out, new)
        return new
    return msgspec.structs.replace(old, wish=new.wish, command=new.command or old.command, annotators={})


def _stamps(clips: ClipSet) -> dict[str, str]:
    """What tells whether a clip's file is still the one that was asked about."""
    root = getattr(clips, "root", Path())
    files = {c.id: root / c.path for c in clips.clips if c.path is not None}
    return {c.id: stamp(files[c.id]) if c.id in files and files[c.id].exists() else "" for c in clips.clips}


def _timed(clip: Clip, found: Measured | str) -> Clip | None:
    """The clip with its length, where it can be used at all."""
    if isinstance(found, str) or not found.frames or found.silent:
        return None
    return clip if clip.end is not None else msgspec.structs.replace(clip, end=clip.start + found.seconds)


def _measured(job: _Session) -> dict[str, Measured | str]:
    """What was measured on each clip, or why it could not be."""
    items = [witness.item(c, job.stamps[c.id]) for c in job.clips.clips]
    recipe = Recipe(witness.NAME, {}, witness.REVISION)
    answers = _asked(job, witness.witness(), recipe, items, job.folder / "work" / "measured", "measuring")
    out: dict[str, Measured | str] = {}
    for item in items:
        one = answers[item.id]
        text = one.text
        out[item.clip] = _reason(one.error, item.clip) if text is None else msgspec.json.decode(text, type=Measured)
    return out


def _annotate(job: _Session, name: str, clips: Sequence[Clip], *, listens: bool) -> None:
    """Ask one annotator: a listener about every clip, a watcher about those where a listener saw something."""
    model = load_model(name, **job.options)
    try:
        if model.name in job.info.annotators:
            raise ValueError(f"--annotator {name} is {model.name}, who was asked already")
        job.info.annotators[model.name] = model.revision
        if listens:
            questions = [(c, asked.event_item(c, job.stamps[c.id])) for c in clips]
        else:
            seen = {c.id: _event(job.said[c.id]) for c in clips}
            questions = [
                (c, asked.unit_item(c, seen[c.id], model.view, job.wanted.unit, job.stamps[c.id]))
                for c in clips
                if seen[c.id]
            ]
        items = [item for _, item in questions]
        folder = job.folder / "work" / _slug(model)
        if listens:
            _check(job, model, items, folder)
        recipe = Recipe(name, dict(job.options), model.revision)
        answers = _asked(job, model, recipe, items, folder, f"asking {model.name}")
    finally:
        if hasattr(model, "close"):
            model.close()
    for clip, item in questions:
        job.said[clip.id].append(_annotation(model.name, clip, item, answers[item.id], job.wanted))


def _event(said: Sequence[Annotation]) -> str:
    """The visible event that the first listener who placed one has named."""
    return next((a.visual_event for a in said if a.kind == "event" and a.outcome == "placed"), "")


def _slug(model: Model) -> str:
    """A folder's name for a model: its answers hold while name, revision and view do."""
    plain = re.sub(r"[^A-Za-z0-9.=-]+", "-", model.name).strip("-")[-40:]
    return f"{plain}-{digest(model.name, model.revision, msgspec.json.encode(model.view))[:8]}"


def _check(job: _Session, model: Model, items: Sequence[Item], folder: Path) -> None:
    """Ear and eye check, where there is something left to ask. Raises EarCheckError."""
    if model.name in job.info.checks and all(i.id in runs.failures(folder) for i in items):
        return
    job.info.checks[model.name] = audit.check_model(model, _check_clip(job.clips, model.view))
    write_info(job.folder, job.info)


def _check_clip(clips: ClipSet, view: View) -> Media:
    for clip in clips.clips[:20]:
        try:
            one = clips.media(clip, view)
        except (ValueError, OSError):
            continue
        if one.wave is not None and one.frames is not None and one.wave.any() and one.frames.any():
            return one
    return foley.media(foley.scene(11), view)


def _asked(
    job: _Session, model: Model, recipe: Recipe, items: Sequence[Item], folder: Path, name: str
) -> dict[str, Answer]:
    """Ask what is not answered yet; all answers to the items."""
    folder.mkdir(parents=True, exist_ok=True)
    spent = job.info.stats.setdefault(model.name, {})
    budget = getattr(model, "budget", None)
    if budget is not None:  # of a served model: what earlier calls have spent counts
        budget.before = spent.get("cost_usd", 0.0)
        budget.before_tokens = int(sum(spent.get(f"{kind}_tokens", 0) for kind in ("prompt", "completion")))
    many = (job.workers > 1 or job.executor == "ray") and "streams" not in model.abilities
    told: dict[str, float] = {}
    try:
        if not items:
            return {}
        progress = job.progress(name, items)
        if many:
            if hasattr(model, "unload"):
                model.unload()
            told = audit.ask_many(
                recipe, job.clips, items, folder, workers=job.workers, executor=job.executor,
                retry_failed=job.retry_failed, progress=progress, chunk=CHUNK,
            )  # fmt: skip
        else:
            told = audit.ask(
                model, job.clips, items, folder, retry_failed=job.retry_failed, progress=progress, chunk=CHUNK
            )
    finally:  # a call that stops (its budget is spent, Ctrl-C) has cost what it has cost
        own = {} if many else getattr(model, "counts", {})
        for key, value in {**told, **own}.items():
            spent[key] = spent.get(key, 0) + float(value) if key not in ("failed", "workers") else float(value)
        write_info(job.folder, job.info)
    return runs.read_answers(folder)


def _annotation(name: str, clip: Clip, item: Item, answer: Answer, wanted: Wish) -> Annotation:
    kind: Any = item.question
    if answer.text is None:
        return Annotation(annotator=name, kind=kind, outcome="failed", why=_reason(answer.error, clip.id))
    assert clip.end is not None
    length = round(clip.end - clip.start, 6)
    if kind == "event":
        said = read.read_event(answer.text, length)
        return Annotation(
            annotator=name, kind=kind, outcome=said.outcome, visual_event=said.visual_event, seen=said.seen,
            audio_event=said.audio_event, heard=said.heard, confidence=said.confidence, text=answer.text,
            why=said.why,
        )  # fmt: skip
    windows = asked.units(length, wanted.unit)
    said = read.read_unit(answer.text, windows)
    unit = None if said.unit is None else windows[said.unit - 1]
    return Annotation(
        annotator=name, kind=kind, outcome=said.outcome, visual_event=item.tags["event"], unit=unit,
        text=answer.text, why=said.why,
    )  # fmt: skip


def _reason(error: str | None, clip: str) -> str:
    """A failure's words without the clip's id and the exception's name, which tell nothing here."""
    text = (error or "no answer").removeprefix(f"clip {clip}: ")
    head, colon, rest = text.partition(": ")
    return rest if colon and head.endswith("Error") and " " not in head else text
