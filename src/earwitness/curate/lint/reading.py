"""Whatever a data set is written as, one kind of row comes out (:mod:`earwitness.curate.lint.rows`).

Read are rows for other trainers (``lint_messages``), training sets of this package (the folder, or its
train.jsonl), runs (what was asked), question files (FORMAT:FILE, or any whose rows tell their format), and labelled
clips.

Function: ``read`` -> :class:`~earwitness.curate.lint.rows.Material`.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from earwitness import run as runs
from earwitness.curate.lint import messages as lint_messages
from earwitness.curate.lint.rows import Kind, Material, Sample
from earwitness.datasets import folder as labelled
from earwitness.datasets.labels import COLUMNS, LabelsError, clip_of
from earwitness.datasets.labels import rows as label_rows
from earwitness.datasets.opening import FORMATS, open_clips, read_questions
from earwitness.datasets.question_file import QuestionFile, QuestionFileError, looks_like
from earwitness.protocols import benchmark
from earwitness.questions import DIRECT, LABELS
from earwitness.records import Clip, Item, Pair


class _Source(msgspec.Struct):
    clips: str
    limit: int | None = None
    seed: int = 0
    media: str | None = None


class _Set(msgspec.Struct):
    """What lint needs of a training set's set.json (``align.pairs.training_set``, a room below this one)."""

    sources: tuple[_Source, ...]
    fingerprints: dict[str, str] | tuple[str, ...] = ()  # content hash -> clip id, or the hashes alone


def read(spec: str, media: Path | None = None) -> Material:
    """The rows of ``spec``: a file, a folder, or FORMAT:FILE; media are looked for below ``media``.

    Raises ValueError (QuestionFileError, LabelsError with their lines) where it cannot be read.
    """
    name, colon, rest = spec.partition(":")
    path = Path(spec)
    if colon and not path.exists():
        known = FORMATS.get(name.strip().lower().replace("-", "_"))
        if known is None or not Path(rest).exists():
            close = difflib.get_close_matches(name, FORMATS, n=1) if known is None else []
            guess = f" (did you mean {close[0]}?)" if close else ""
            what = "no such file" if known else f"no such format{guess}; there are {', '.join(FORMATS)}"
            raise ValueError(f"{spec}: {what}")
        if known == "thud_files":
            return lint_messages.read(Path(rest), _objects(Path(rest)), media)
        return _questions(read_questions(name, Path(rest), media))
    if not path.exists():
        raise ValueError(f"{spec}: no such file or folder (a question file may need its format: FORMAT:FILE)")
    if (path / "run.json").exists():
        items = runs.read_lines(path / "items.jsonl", Item)
        return Material(name=path.name, form="questions", samples=tuple(_of_item(i, i.id) for i in items))
    if path.is_dir():
        rows = path / "train.jsonl"
        built = (path / "labels.jsonl").exists()  # by `curate twins`, which writes a set.json as well
        return _pairs(rows) if rows.exists() or ((path / "set.json").exists() and not built) else _labels(path)
    keys = _keys(path)
    if {"item", "chosen", "part"} <= keys:
        return _pairs(path)
    if keys & {"messages", "conversations"}:
        return lint_messages.read(path, _objects(path), media)
    if "path" in keys and keys <= set(COLUMNS):
        return _labels(path)
    format = looks_like(keys)
    if format is None:
        what = "training row (messages), pair (item, chosen), labelled clip (path) or question of a known format"
        raise QuestionFileError(path, [f"row 1: is no {what}; it has {', '.join(sorted(keys)[:8]) or 'nothing'}"])
    return _questions(read_questions(format.removesuffix("_by_video"), path, media))


def _keys(path: Path) -> set[str]:
    """The keys of the first row."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        raise ValueError(f"{path}: name the format of a Parquet file (worldsense:{path.name})")
    if suffix not in (".csv", ".tsv"):
        return set(_objects(path)[0])
    lines = (line for line in _text(path).splitlines() if line.strip() and not line.startswith("#"))
    head = next(lines, "")
    return {f.strip() for f in next(csv.reader(io.StringIO(head), delimiter=max(",;\t", key=head.count)), [])}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise QuestionFileError(path, ["is not UTF-8 text (a media file, or another encoding?)"]) from None


def _objects(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON list or of JSON lines, one or more."""
    text = _text(path)
    try:
        found = json.loads(text)
    except json.JSONDecodeError as whole:
        found = _each_line(path, text, whole)
    if isinstance(found, dict):  # one row, or rows keyed by the clip
        nested = bool(found) and all(isinstance(v, dict) for v in found.values()) and "item" not in found
        found = [{"key": k, **v} for k, v in found.items()] if nested else [found]
    if not isinstance(found, list) or not all(isinstance(v, dict) for v in found):
        raise QuestionFileError(path, ["wants a list of objects"])
    if not found:
        raise QuestionFileError(path, ["holds no rows"])
    return found


def _each_line(path: Path, text: str, whole: json.JSONDecodeError) -> list[Any]:
    found = []
    for n, line in enumerate(text.splitlines(), 1):
        try:
            found += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            lines = path.suffix.lower() in (".jsonl", ".ndjson") or n > 1
            at, why = (n, error.msg) if lines else (whole.lineno, whole.msg)
            raise QuestionFileError(path, [f"line {at}: is no JSON: {why}"]) from None
    return found


def _of_item(
    item: Item, id: str, chosen: str | None = None, rejected: str | None = None, files: tuple[str, ...] = ()
) -> Sample:
    choices, gold = item.choices, item.target
    if choices and gold not in choices:  # Thud's labels, answered by a word or a letter
        gold = next((word for word, says in DIRECT.get(item.question, {}).items() if says == item.target), gold)
    kind: Kind = "open"
    if gold is not None and choices:
        kind = "yes_no" if set(choices) == {"yes", "no"} else "choice"
    elif gold is not None and item.question in LABELS:
        kind = "label"
    unseen = item.intervention.kind in ("black", "freeze", "no_frames")
    return Sample(
        id=id, source=item.source, linked=item.linked, clip=item.clip,
        shown=f"{item.clip}|{item.intervention.kind}" if unseen else item.clip,
        media=f"{item.clip}|{item.intervention.key}", prompt=item.prompt, task=item.task or item.question,
        kind=kind, gold=None if kind == "open" else gold,
        options=tuple(item.tags.get(c, c) for c in choices) if item.style == "letter" else choices,
        place=choices.index(gold) if kind == "choice" and gold in choices else None,
        chosen=chosen, rejected=rejected, files=files,
        offset=item.offset if "sync" in item.evidence or item.intervention.kind == "shift" else None,
        sound=bool({"audio", "sync"} & set(item.evidence)) or not item.evidence,
    )  # fmt: skip


def _pairs(path: Path) -> Material:
    """A training set, or its train.jsonl alone; the clips as set.json names them."""
    pairs = runs.read_lines(path, Pair)
    if not pairs:
        raise QuestionFileError(path, ["holds no rows"])
    home, notes = path.parent, []
    whole = path.name == "train.jsonl" and (home / "set.json").exists()
    valid = runs.read_lines(home / "valid.jsonl", Pair) if whole and (home / "valid.jsonl").exists() else []
    info = _Set(())
    if whole:
        try:
            info = msgspec.json.decode((home / "set.json").read_bytes(), type=_Set)
        except msgspec.DecodeError as error:
            raise ValueError(f"{home / 'set.json'}: {error}") from error
    else:
        notes.append(f"{path.name} stands alone (no set.json beside a train.jsonl): its clips are not known")
    clips: dict[str, Clip] = {}
    files: dict[str, Path | None] = {}
    for source in info.sources:
        beside = None if source.media is None else Path(source.media)
        try:
            opened = open_clips(source.clips, limit=source.limit, seed=source.seed, media=beside)
        except ValueError as error:
            notes.append(f"clips {source.clips} could not be opened: events and media are unknown ({error})")
            continue
        root = getattr(opened, "root", Path())
        clips |= {c.id: c for c in opened.clips}
        files |= {c.id: root / c.path for c in opened.clips if c.path is not None}
    used = {p.item.clip for p in pairs}

    def rows(some: list[Pair]) -> tuple[Sample, ...]:
        return tuple(
            _of_item(p.item, p.id, p.chosen, p.rejected, (p.item.clip,) if p.item.clip in files else ())
            for p in some
        )

    return Material(
        name=home.name if whole else path.name,
        form="preference" if any(p.rejected is not None for p in pairs) else "supervised",
        samples=rows(pairs), valid=rows(valid), clips={i: c for i, c in clips.items() if i in used},
        files={i: p for i, p in files.items() if i in used}, prints=frozenset(info.fingerprints),
        notes=tuple(notes),
    )  # fmt: skip


def _questions(about: QuestionFile) -> Material:
    gone, clips = set(about.missing), {c.id: c for c in about.clips}
    return Material(
        name=about.name,
        form="questions",
        notes=about.notes,
        samples=tuple(
            _of_item(benchmark.item(q, clips[q.clip].cluster), q.id, files=(q.clip,)) for q in about.questions
        ),
        files={i: None if i in gone else Path(str(c.path)) for i, c in clips.items()},
    )


def _labels(path: Path) -> Material:
    """Labelled clips. Their files are looked at by the checks: a missing one is a finding there, not a failure."""
    if path.is_dir():
        there = [path / name for name in labelled.LABELS if (path / name).exists()]
        if not there:  # named as in MMA-Bench's release
            return _of_clips(path.name, {c.id: c for c in labelled.read(path).clips}, path)
        if len(there) > 1:
            raise ValueError(f"{path} has {' and '.join(f.name for f in there)}: name the one to read")
        path = there[0]
    clips: dict[str, Clip] = {}
    wrong = []
    for line, row in label_rows(path):
        try:
            clip = clip_of(row)
            if clip.id in clips:
                raise ValueError(f"id {clip.id!r} stands there already (ids must differ)")
            clips[clip.id] = clip
        except ValueError as error:
            wrong.append((line, str(error)))
    if wrong:
        raise LabelsError(path, wrong)
    return _of_clips(path.parent.name or path.name, clips, path.parent)


def _of_clips(name: str, clips: Mapping[str, Clip], root: Path) -> Material:
    places = {i: root / str(c.path).replace("\\", "/") for i, c in clips.items()}
    return Material(
        name=name, form="clips", clips=clips, files={i: p if p.is_file() else None for i, p in places.items()}
    )
