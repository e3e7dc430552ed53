"""An audit from words to page: what the command line's verbs do, as functions.

``prepare`` turns model, clips and protocol names into a :class:`Job` (and its plan); ``run`` asks, scores and
reports; ``score`` and ``report`` make their part of a run folder again without the model.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import numpy as np

from earwitness import __version__, audit, foley, interventions, media, scoring
from earwitness import report as pages
from earwitness import run as runs
from earwitness.audit import EarCheckError as Refused
from earwitness.audit import Plan
from earwitness.datasets.opening import open_clips
from earwitness.interventions import Rendered
from earwitness.models import Model
from earwitness.models.load import load_model
from earwitness.protocols import Settings
from earwitness.protocols import load as load_protocol
from earwitness.records import ClipSet, Intervention, Item, Judged, Media, Table, View
from earwitness.report import telling

ALLOWED_FAILED = 0.02  # share of failed items above which an audit exits with 1
TELLING = 10
HANS_CONTEXT = 400  # words; Hans was never shown more, and 10,000 would only measure that


class Options(msgspec.Struct, frozen=True):
    """Settings of the audit itself (``--set``); the protocols' own are protocols.Settings."""

    max_failed: float = ALLOWED_FAILED
    retry_failed: bool = False
    chunk: int = 256
    device: str | None = None
    dtype: str | None = None
    attn: str | None = None
    fps: float | None = None
    max_pixels: int | None = None
    batch: int | None = None


@dataclass(frozen=True)
class Job:
    """A prepared audit."""

    model: Model
    clips: ClipSet
    items: list[Item]
    plan: Plan
    info: runs.Info
    options: Options
    skipped: list[str]


@dataclass(frozen=True)
class Result:
    """How an audit ended."""

    headline: str
    failed_share: float
    allowed: float


def prepare(
    *, model: str, clips: str = "foley", protocols: Sequence[str] = ("mma", "thud", "av-confuse"),
    limit: int | None = None, seed: int = 0, settings: Mapping[str, str] | None = None, command: str = "",
) -> Job:  # fmt: skip
    """Load the model and the clips and plan all items.

    Raises
    ------
    ValueError
        For an unknown model, protocol or setting, unreadable clips, or a plan without items.
    """
    chosen, options = _settings(dict(settings or {}), model=model, seed=seed)
    modules = [load_protocol(name) for name in dict.fromkeys(protocols)]
    source = open_clips(clips, limit=limit, seed=seed)
    keys = ("device", "dtype", "attn", "fps", "max_pixels", "batch")
    given = {k: getattr(options, k) for k in keys if getattr(options, k) is not None}
    loaded = load_model(model, **given)
    items: list[Item] = []
    skipped: list[str] = []
    for module in modules:
        made = module.items(source.clips, chosen)
        if not made:
            skipped.append(f"{module.NAME}: nothing to ask")
        skipped += module.skipped(source.clips, chosen)
        items += made
    if not items:
        raise ValueError("nothing to ask: " + "; ".join(skipped))
    info = runs.Info(
        model=loaded.name, revision=loaded.revision, plan=runs.plan_digest(items), created=_now(),
        protocols=[m.NAME for m in modules], clips=clips, clip_count=len(source.clips), item_count=len(items),
        seed=seed, command=command, settings={**msgspec.to_builtins(chosen), **msgspec.to_builtins(options)},
        view=msgspec.to_builtins(loaded.view), decoding=getattr(loaded, "decoding", "greedy"),
        versions=_versions(), git=_git(),
    )  # fmt: skip
    return Job(
        loaded, source, items, audit.priced(audit.plan(items), items, source, loaded), info, options, skipped
    )


def run(job: Job, folder: Path, *, progress: audit.Progress | None = None) -> Result:
    """Check ears and eyes, ask what is not answered yet, score, and write the report.

    Raises
    ------
    Refused
        Where sound or picture does not reach the model; no scores are made.
    RunError
        Where the folder holds another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    info = job.info
    if (folder / "run.json").exists():
        info = _resumed(runs.read_info(folder), job, folder)
    elif any(folder.iterdir()):
        raise runs.RunError(f"{folder} is not empty and holds no run: take another --out")
    answers = runs.read_answers(folder)
    if any(item.id not in answers for item in job.items) or not info.checks:
        info.checks = audit.check_model(job.model, _check_clip(job))
    runs.write_lines(folder / "clips.jsonl", job.clips.clips)
    runs.write_lines(folder / "items.jsonl", job.items)
    runs.write_info(folder, info)
    options = job.options
    counts = audit.ask(
        job.model, job.clips, job.items, folder,
        progress=progress, chunk=options.chunk, retry_failed=options.retry_failed,
    )  # fmt: skip
    for name, value in {**counts, **getattr(job.model, "counts", {})}.items():
        info.stats[name] = info.stats.get(name, 0) + float(value) if name != "failed" else float(value)
    info.finished = _now()
    runs.write_info(folder, info)
    score(folder)
    write_media(folder, job.clips)
    pages.build(folder)
    return Result(pages.headline(folder), counts["failed"] / len(job.items), options.max_failed)


def score(folder: Path) -> list[Table]:
    """Score answers.jsonl again: scores.jsonl and tables.json, without the model."""
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
    return tables


def report(folder: Path, *, embed: bool = False) -> Path:
    """Write report.html again (with the clips inside, where ``embed``)."""
    if not (folder / "scores.jsonl").exists():
        score(folder)
    return pages.build(folder, embed=embed)


def write_media(folder: Path, clips: ClipSet) -> None:
    """Write the most telling items' clips, original and intervened, into the run's media/ folder.

    What cannot be written (a source that is gone, an intervention that has no file form) is left out; the
    report says that it is missing.
    """
    place = folder / "media"
    place.mkdir(exist_ok=True)
    by_id = {clip.id: clip for clip in clips.clips}
    for pair in telling.choose(runs.judged(folder), TELLING):
        for judged in pair:
            item = judged.item
            target = place / telling.media_name(item.clip, item.intervention)
            if target.exists():
                continue
            try:
                _write_one(clips, by_id, item, target)
            except (ValueError, OSError) as error:
                (place / f"{target.stem}.missing.txt").write_text(str(error))


def _write_one(clips: ClipSet, by_id: Mapping[str, Any], item: Item, target: Path) -> None:
    clip, iv = by_id[item.clip], item.intervention
    sources = target.parent / "sources"
    sources.mkdir(exist_ok=True)
    source = clips.file(clip, sources)
    donor = clips.file(by_id[iv.donor], sources) if iv.donor else None
    stems = None
    if iv.kind == "drop_stem":
        rate = media.load_native(source).rate
        stems = clips.stems(clip, View(rate=rate))
    kind = "sham" if iv.kind == "original" else iv.kind  # the original goes through the same writer
    interventions.render(
        source, msgspec.structs.replace(iv, kind=kind), target, donor=donor, stems=stems, events=clip.events
    )


def render(
    kind: str, files: Sequence[Path], out: Path, *, by: float = 0.0, name: str | None = None,
    codec: str = "flac", overwrite: bool = False,
) -> Rendered:  # fmt: skip
    """``earwitness render``: an intervention from files to a file. Raises ValueError for a bad combination."""
    kind = kind.replace("-", "_")
    known = get_args(get_type_hints(Intervention)["kind"])
    if kind not in known or kind == "original":
        raise ValueError(f"render {kind}: unknown; choose from {', '.join(k for k in known if k != 'original')}")
    if not files:
        raise ValueError("render: name the clip to change")
    if kind == "swap" and len(files) != 2:
        raise ValueError(f"render swap: name two files, the clip and the donor of the sound (got {len(files)})")
    if kind not in ("swap", "drop_stem") and len(files) != 1:
        raise ValueError(f"render {kind}: takes one file, got {len(files)}")
    stems = None
    if kind == "drop_stem":
        if len(files) < 3 or name is None:
            raise ValueError(
                "render drop-stem: name the clip, then all of its stems, and with --name the stem to drop"
            )
        stems = {f.stem: _wave(f) for f in files[1:]}
    iv = Intervention(
        kind=kind,  # type: ignore[arg-type]
        seconds=by,
        donor=str(files[1]) if kind == "swap" else None,
        stem=name if kind == "drop_stem" else None,
        background=name if kind == "background" else None,
    )
    donor = files[1] if kind == "swap" else None
    return interventions.render(files[0], iv, out, donor=donor, stems=stems, codec=codec, overwrite=overwrite)


def _wave(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    wave = media.load_native(path).wave
    if wave is None:
        raise ValueError(f"{path} has no audio track: a stem is a sound file")
    return wave


def doctor(model: str) -> list[dict[str, object]]:
    """The ear and eye check of a model on a Foley clip. Raises Refused where it is deaf or blind as wired."""
    loaded = load_model(model)
    scene = foley.scene(11)
    return audit.check_model(loaded, foley.media(scene, loaded.view))


def _resumed(old: runs.Info, job: Job, folder: Path) -> runs.Info:
    new = job.info
    for what in ("model", "revision", "plan"):
        a, b = getattr(old, what), getattr(new, what)
        if a != b:
            raise runs.RunError(
                f"{folder} holds a run with another {what} ({a}, now {b}): take another --out, or the old command: "
                f"{old.command}"
            )
    return old


def _check_clip(job: Job) -> Media:
    for clip in job.clips.clips[:20]:
        try:
            one = job.clips.media(clip, job.model.view)
        except (ValueError, OSError):
            continue
        if one.wave is not None and one.frames is not None and one.wave.any() and one.frames.any():
            return one
    return foley.media(foley.scene(11), job.model.view)


def _settings(given: dict[str, str], *, model: str, seed: int) -> tuple[Settings, Options]:
    own = {k: given.pop(k) for k in list(given) if k in Options.__struct_fields__}
    base: dict[str, Any] = {"seed": seed}
    if model == "hans":
        base["long_context_tokens"] = HANS_CONTEXT
    for key, value in given.items():
        if key not in Settings.__struct_fields__:
            names = ", ".join((*Settings.__struct_fields__, *Options.__struct_fields__))
            raise ValueError(f"--set {key}: no such setting; there are {names}")
        hint = str(get_type_hints(Settings)[key])
        base[key] = [v for v in value.split(",") if v] if "tuple" in hint else value
    try:
        return msgspec.convert(base, Settings, strict=False), msgspec.convert(own, Options, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"--set: {error}") from None


def _versions() -> dict[str, str]:
    found = {"earwitness": __version__, "python": platform.python_version()}
    for name in ("numpy", "av", "soxr", "torch", "transformers", "tokenizers", "openai"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _git() -> str:
    """Commit of the code that ran, "+" where it was changed; empty outside a checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


__all__ = ["Job", "Options", "Refused", "Result", "doctor", "prepare", "render", "report", "run", "score"]
