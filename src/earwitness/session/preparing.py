"""From names to a job: the model loaded, the clips opened, every item planned and priced."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import msgspec

from earwitness import __version__, audit
from earwitness import run as runs
from earwitness.audit import Plan
from earwitness.datasets.opening import open_clips
from earwitness.datasets.question_clips import QuestionClips
from earwitness.judges.asking import task_of
from earwitness.models import Model
from earwitness.models.load import SERVED, load_model
from earwitness.protocols import items_of, skipped_of
from earwitness.protocols import load as load_protocol
from earwitness.records import ClipSet, Item
from earwitness.session.settings import Options, chosen

PROTOCOLS = ("mma", "thud", "av-confuse")


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
    spec: str = ""  # the model's name as given: what a worker makes its own from
    missing: tuple[str, ...] = ()  # media that a question file names and that are not there


def prepare(
    *, model: str, clips: str = "foley", protocols: Sequence[str] | None = None,
    limit: int | None = None, seed: int = 0, settings: Mapping[str, str] | None = None, command: str = "",
) -> Job:  # fmt: skip
    """Load the model and the clips and plan all items.

    ``protocols`` are the three published ones unless given; for a question file, its own questions ("benchmark").

    Raises
    ------
    ValueError
        For an unknown model, judge, protocol or setting, unreadable clips, or a plan without items or without
        free answers for the judge.
    """
    audit.refuse_ranks()
    settled, options = chosen(dict(settings or {}), model=model, seed=seed)
    media = None if options.media is None else Path(options.media)
    source = open_clips(clips, limit=limit, seed=seed, media=media)
    questions = getattr(source, "questions", ())  # of a question file
    names = protocols or (("benchmark",) if questions else PROTOCOLS)
    modules = [load_protocol(name) for name in dict.fromkeys(names)]
    _refuse_workers(options, model, served=model.strip().partition(":")[0] in SERVED)
    loaded = load_model(model, **options.for_model)
    try:
        _refuse_workers(options, loaded.name, served="streams" in loaded.abilities)
        # Only now is it known to be Hans, or a model that says what it can read.
        shown = getattr(getattr(loaded, "thinker", None), "context", None)
        settled, _ = chosen(dict(settings or {}), model=loaded.name, seed=seed, context=shown)
        items: list[Item] = []
        skipped: list[str] = list(getattr(source, "left_out", ()))
        for module in modules:
            made = items_of(module, source.clips, settled, questions)
            if not made:
                skipped.append(f"{module.NAME}: nothing to ask")
            skipped += skipped_of(module, source.clips, settled, questions)
            items += made
        if not items:
            raise ValueError(f"no question comes of {clips} and {', '.join(names)}: " + "; ".join(skipped))
        if options.judge is not None:
            _try_judge(options.judge, model, items)
        info = runs.Info(
            model=loaded.name, revision=loaded.revision, plan=runs.plan_digest(items), created=now(),
            protocols=[m.NAME for m in modules], clips=clips, clip_count=len(source.clips), item_count=len(items),
            seed=seed, command=command, settings={**msgspec.to_builtins(settled), **msgspec.to_builtins(options)},
            view=msgspec.to_builtins(loaded.view), decoding=getattr(loaded, "decoding", "greedy"),
            versions=_versions(), git=_git(), left_out=skipped,
            clips_named=len(source.about.clips) if isinstance(source, QuestionClips) else 0,
            clips_missing=len(source.missing) if isinstance(source, QuestionClips) else 0,
        )  # fmt: skip
        priced = audit.priced(audit.plan(items), items, source, loaded)
        missing = tuple(str(name) for name in getattr(source, "missing", ()))
        return Job(loaded, source, items, priced, info, options, skipped, model, missing)
    except ValueError:
        if hasattr(loaded, "close"):
            loaded.close()
        raise


def _refuse_workers(options: Options, model: str, *, served: bool) -> None:
    if served and options.workers > 1:
        raise ValueError(f"--workers {options.workers}: {model} is served: --set concurrency=N asks more at once")


def _try_judge(judge: str, model: str, items: Sequence[Item]) -> None:
    """Open the judge once before anything is asked or paid for; ValueError where it would have nothing to read."""
    if not any(task_of(item) for item in items):
        raise ValueError(
            f"--judge {judge}: this plan has no question that is answered freely, so there is nothing to judge: "
            "leave --judge out, or ask thud or av-confuse in neutral style"
        )
    if judge == model:
        return
    try:
        opened = load_model(judge)
    except ValueError as error:
        raise ValueError(f"--judge: {error}") from None
    if hasattr(opened, "close"):
        opened.close()


def _versions() -> dict[str, str]:
    found = {"earwitness": __version__, "python": platform.python_version()}
    for name in (
        "numpy",
        "av",
        "soxr",
        "torch",
        "transformers",
        "tokenizers",
        "openai",
        "google-genai",
        "vllm",
        "ray",
    ):
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


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
