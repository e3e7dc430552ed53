"""Training sets from words: what ``earwitness pairs`` and ``earwitness sft-data`` do, as functions.

``from_run`` takes a run on training clips: its clips, its items, and what the model got wrong. ``from_clips``
starts from clips alone. Both split, draw, fingerprint, refuse clips that an audit tests, and write the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from earwitness import run as runs
from earwitness.align import reference
from earwitness.align.pairs import blind, leaks, making, mixtures, multiple_choice, spans, training_set
from earwitness.align.pairs.training_set import Info, Source, TrainingSet, sources, write
from earwitness.datasets.opening import open_clips
from earwitness.models.load import load_model
from earwitness.protocols import Settings
from earwitness.records import Answer, ClipSet, Judged, Table
from earwitness.scoring import score
from earwitness.session.preparing import _versions, now
from earwitness.session.settings import MODEL, Options, chosen
from earwitness.whitebox import opened

Progress = Callable[[str, int, int], None]  # what, done, total
# Of an audit's settings those that mean something here.
SETTINGS = ("classes", "shift_band", "backgrounds", "long_context_tokens", "context_position")
OWN = ("twins", "text_model")
WORDS = 200  # of random context around a question; the audit's 10,000 would be most of what is trained on


@dataclass(frozen=True)
class Made:
    """A training set that was written, and its table."""

    made: TrainingSet
    table: Table


def from_run(
    folder: Path, out: Path, *, mixture: str | mixtures.Mixture = "ours", n: int | None = None, seed: int = 0,
    valid: float = 0.1, against: Sequence[Path] = (), descriptions: Path | None = None,
    settings: Mapping[str, str] | None = None, command: str = "", progress: Progress | None = None,
) -> Made:  # fmt: skip
    """A training set from a run on training clips.

    Parameters
    ----------
    mixture : a name (``mixtures.named``) or a mixture of your own.
    n : pairs in all; None: what the mixture says.
    valid : share of the sources kept for validation.
    against : runs that will test the model.
    descriptions : timed descriptions of the clips (``align.pairs.spans``).
    settings : key -> text: classes, shift_band, backgrounds, long_context_tokens, context_position (as in an
        audit), twins, and text_model with that model's own options: a model that is asked without media.

    Raises
    ------
    ValueError
        For what is no run, a run that is also in ``against``, unknown mixtures and settings, and clips that are
        tested in a run of ``against``.
    """
    info = runs.read_info(folder)
    if folder.resolve() in [a.resolve() for a in against]:
        raise ValueError(
            f"{folder} is the run to be trained on: name the runs that will test the model in --against"
        )
    if "media" in (settings or {}):
        raise ValueError("--set media: the run says itself where its media are")
    media = info.settings.get("media")
    source = Source(clips=info.clips, limit=info.clip_count or None, seed=info.seed, media=media)
    answers = runs.read_answers(folder)
    judged = [
        Judged(item, answer, score(item, answer))
        for item in runs.read_items(folder)
        if (answer := answers.get(item.id)) is not None and _said(answer)
    ]
    return _made(
        opened.clips_of(info), source, out, mixture=mixture, n=n, seed=seed, valid=valid, against=against,
        descriptions=descriptions, settings=settings, command=command, progress=progress, judged=judged,
        run=f"{folder} ({info.model})",
    )  # fmt: skip


def from_clips(
    clips: str, out: Path, *, mixture: str | mixtures.Mixture = "mma", limit: int | None = None,
    n: int | None = None, seed: int = 1, valid: float = 0.1, against: Sequence[Path] = (),
    descriptions: Path | None = None, settings: Mapping[str, str] | None = None, command: str = "",
    progress: Progress | None = None,
) -> Made:  # fmt: skip
    """A training set from clips; ``clips``, ``limit``, ``seed`` and the setting ``media`` as an audit has them.

    The others as in :func:`from_run`.

    Raises
    ------
    ValueError
        For clips that cannot be opened, unknown mixtures and settings, and clips tested in a run of ``against``.
    """
    given = dict(settings or {})
    media = given.pop("media", None)
    source = Source(clips=clips, limit=limit, seed=seed, media=media)
    found = open_clips(clips, limit=limit, seed=seed, media=None if media is None else Path(media))
    return _made(
        found, source, out, mixture=mixture, n=n, seed=seed, valid=valid, against=against,
        descriptions=descriptions, settings=given, command=command, progress=progress,
    )  # fmt: skip


class Referenced(msgspec.Struct, frozen=True, kw_only=True):
    """Who made a set's references (references.json in its folder), of how many pairs, and why some have none."""

    model: str
    revision: str
    made: int
    failed: dict[str, str]  # pair id -> reason


def refer(
    folder: Path, model: str, *, settings: Mapping[str, str] | None = None, retry_failed: bool = False,
    progress: Progress | None = None,
) -> Referenced:  # fmt: skip
    """Write the reference reasoning into a training set's pairs (``align.reference``); what was asked is kept.

    Parameters
    ----------
    model : an audio language model by its name, or "truth": an exact sentence about what is heard, without a model.
    settings : the model's own options.
    retry_failed : ask again what failed before.

    Raises
    ------
    ValueError
        For a folder that holds no training set, an unknown model or option, and pairs without a chosen answer.
    """
    made = training_set.read(folder)
    both = [*made.train, *made.valid]
    if model == "truth":
        pairs, found = reference.with_truth(both), Referenced(model=model, revision="1", made=len(both), failed={})
    else:
        options = chosen(dict(settings or {}), model=model, seed=0)[1]
        asked = load_model(model, **options.for_model)
        told = None if progress is None else (lambda done, failed, total: progress("references", done, total))
        pairs, failed = reference.make(
            both, asked, training_set.clips_of(made.info), folder / "references", progress=told,
            retry_failed=retry_failed,
        )  # fmt: skip
        found = Referenced(model=asked.name, revision=asked.revision, made=len(both) - len(failed), failed=failed)
    count = len(made.train)
    write(folder, TrainingSet(made.info, tuple(pairs[:count]), tuple(pairs[count:])))
    runs.write_json(folder / "references.json", found)
    return found


def _said(answer: Answer) -> bool:
    return answer.error is None and bool(answer.text and answer.text.strip())


def _made(
    clips: ClipSet, source: Source, out: Path, *, mixture: str | mixtures.Mixture, n: int | None, seed: int,
    valid: float, against: Sequence[Path], descriptions: Path | None, settings: Mapping[str, str] | None,
    command: str, progress: Progress | None, judged: Sequence[Judged] = (), run: str = "",
) -> Made:  # fmt: skip
    if (out / "run.json").exists():
        raise ValueError(f"{out} is the folder of a run: name another one for the training set")
    recipe, settled, text_only = _settled(mixture, seed, dict(settings or {}))
    for other in against:
        runs.read_info(other)  # before any work is done
    told, lines = ({}, []) if descriptions is None else spans.read(descriptions, clips.clips)
    ground = making.Ground(clips.clips, getattr(clips, "questions", ()), judged, told)
    drawn = making.make(ground, recipe, settled, n=n, valid=valid, text_only=text_only)
    both = (*drawn.train, *drawn.valid)

    def hashed(what: str) -> Callable[[int, int], None] | None:
        return None if progress is None else lambda done, total: progress(what, done, total)

    prints = leaks.fingerprints(clips, leaks.VIEW, leaks.used(p.item for p in both), hashed("fingerprints"))
    for other in against:
        leaks.refuse_run(prints, sources(both), other, leaks.VIEW, hashed(f"fingerprints of {other.name}"))
    train, held = (_counts(some) for some in (drawn.train, drawn.valid))
    left_out = [*getattr(clips, "left_out", ()), *lines, *drawn.left_out]
    if not against:
        left_out.append("not checked against any audit: name the runs that will test the model with --against RUN")
    info = Info(
        sources=(source,), mixture=recipe.name, seed=seed, view=leaks.VIEW, recipe=recipe, parts=train,
        valid=len(drawn.valid), valid_parts=held, classes=drawn.classes, settings=dict(settings or {}),
        fingerprints=prints, checked=tuple(str(a) for a in against), run=run, left_out=tuple(left_out),
        created=now(), command=command, versions=_versions(),
    )  # fmt: skip
    made = TrainingSet(info, drawn.train, drawn.valid)
    write(out, made)
    return Made(made, making.table(drawn, recipe))


def _counts(pairs: Sequence[Any]) -> dict[str, int]:
    out: dict[str, int] = {}
    for p in pairs:
        out[p.part] = out.get(p.part, 0) + 1
    return dict(sorted(out.items()))


def _settled(
    mixture: str | mixtures.Mixture, seed: int, given: dict[str, str]
) -> tuple[mixtures.Mixture, Settings, multiple_choice.Blind | None]:
    """The mixture, the protocols' settings, and who is asked without media."""
    recipe = mixtures.named(mixture) if isinstance(mixture, str) else mixture
    known = (*SETTINGS, *OWN, *MODEL)
    if odd := sorted(set(given) - set(known)):
        raise ValueError(f"--set {odd[0]}: no such setting here; there are {', '.join(known)}")
    if (twins := given.pop("twins", None)) is not None:
        if not twins.isdigit() or int(twins) < 1:
            raise ValueError(f"--set twins={twins}: wants a whole number from 1")
        recipe = msgspec.structs.replace(recipe, twins=int(twins))
    name = given.pop("text_model", None)
    given.setdefault("long_context_tokens", str(WORDS))
    settled, options = chosen(given, model="", seed=seed)
    return recipe, settled, _blind(name, options)


def _blind(name: str | None, options: Options) -> multiple_choice.Blind | None:
    if name is None:
        if options.for_model:
            raise ValueError(f"--set {next(iter(options.for_model))}: an option of text_model, and none is named")
        return None
    return blind.asked_blind(load_model(name, **options.for_model))
