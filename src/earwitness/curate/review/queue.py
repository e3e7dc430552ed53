"""What people are asked to look at: a labels folder, or a queue of questions, as cases in memory.

A queue is a labels file (docs/labels.md) in JSON lines whose rows may also say ``why`` a person is asked; a row may
hold the clip's fields by themselves, or below ``clip``, with whatever else its maker noted beside them. Files are
only looked for here, not opened: ten thousand clips are there in a second, and a broken one is told on its own
page.

Functions: ``read`` -> :class:`Queue`; ``about`` (digest of what is said of a clip, so that no vote on one claim
counts for another).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

from earwitness.datasets import folder
from earwitness.datasets.labels import COLUMNS, LabelsError, clip_of, nearest, rows
from earwitness.records import Clip, digest

WHY = "why"


@dataclass(frozen=True)
class Case:
    """One clip to judge, with what is claimed of it; ``why`` says why a person is asked, where the queue does."""

    clip: Clip
    about: str
    why: str = ""


@dataclass(frozen=True)
class Queue:
    """The cases in the order of the file. ``root`` is what the clips' paths start from."""

    manifest: Path
    root: Path
    cases: tuple[Case, ...]
    _number: dict[str, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._number.update({case.clip.id: number for number, case in enumerate(self.cases)})

    def number(self, clip: str) -> int | None:
        """The place of a clip in the file; None where it is not in it."""
        return self._number.get(clip)

    def path(self, clip: Clip) -> Path:
        """Where a clip's file lies."""
        assert clip.path is not None
        return self.root / clip.path

    @cached_property
    def events(self) -> int:
        """The most events that any clip of the queue has."""
        return max((len(case.clip.events) for case in self.cases), default=0)


def about(clip: Clip) -> str:
    """Digest of what is claimed of a clip: its file's name, its part, labels and event times."""
    events = [(e.what, e.seen, e.heard) for e in clip.events]
    return digest(PurePath(clip.path or "").name, clip.start, clip.end, clip.seen, clip.heard, events)


def read(manifest: str | Path) -> Queue:
    """The cases of a folder with a labels file, of a labels file, or of a queue.

    Times are held against the file's length only when its page is opened. A folder without a labels file whose
    files are named as in MMA-Bench's release is read by their names (and probed).

    Raises
    ------
    LabelsError For mistakes in the file, each with its line: unknown fields, ids or paths that stand there twice,
        files that are not there.
    ValueError
        Where there is nothing to read.
    """
    path = Path(manifest)
    if path.is_dir():
        found = [path / name for name in folder.LABELS if (path / name).exists()]
        if len(found) != 1:
            clips = folder.read(path).clips  # by their names; or it says what is missing or twice there
            return Queue(path, path, tuple(Case(clip, about(clip)) for clip in clips))
        path = found[0]
    elif not path.exists():
        raise ValueError(f"{path}: no such folder, labels file or queue")
    lined = path.suffix.lower() in (".jsonl", ".ndjson")
    if not lined and path.suffix.lower() not in (".csv", ".tsv"):
        raise ValueError(f"{path}: a labels file or queue is CSV or JSONL, got {path.suffix or 'no suffix'}")
    return Queue(path, path.parent, _cases(path, _jsonl(path) if lined else [(n, r, "") for n, r in rows(path)]))


def _jsonl(path: Path) -> list[tuple[int, dict[str, Any], str]]:
    """Line, the clip's fields and the reason of each row; blank lines and lines that begin with # are comments."""
    out: list[tuple[int, dict[str, Any], str]] = []
    wrong: list[tuple[int, str]] = []
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise LabelsError(path, [(0, "is not UTF-8 (saved as Latin-1 or UTF-16?)")]) from None
    for line, row in enumerate(text.split("\n"), 1):
        if not row.strip() or row.startswith("#"):
            continue
        try:
            out.append((line, *_row(json.loads(row))))
        except ValueError as error:  # JSON's own error is one
            wrong.append((line, str(error)))
    if wrong:
        raise LabelsError(path, wrong)
    if not out:
        raise LabelsError(path, [(0, "holds no clips")])
    return out


def _row(value: Any) -> tuple[dict[str, Any], str]:
    if not isinstance(value, dict):
        raise ValueError(f"wants an object {{...}}, got {type(value).__name__}")
    given = value.get(WHY) or ""
    if isinstance(given, list) and all(isinstance(part, str) for part in given):
        given = "; ".join(given)
    if not isinstance(given, str):
        raise ValueError(f"{WHY} wants text or a list of texts, got {given!r}")
    clip = value.get("clip", value)
    if not isinstance(clip, Mapping):
        raise ValueError(f"clip wants the clip's fields {{...}}, got {clip!r}")
    known = COLUMNS if clip is not value else (*COLUMNS, WHY)
    if unknown := [name for name in clip if name not in known]:
        raise ValueError(f"unknown field {unknown[0]!r}{nearest(unknown[0], known)}; known: {', '.join(known)}")
    return dict(clip), given


def _cases(path: Path, given: list[tuple[int, dict[str, Any], str]]) -> tuple[Case, ...]:
    cases: list[Case] = []
    wrong: list[tuple[int, str]] = []
    ids: dict[str, int] = {}
    places: dict[tuple[str, float, float | None], int] = {}
    for line, row, why in given:
        try:
            clip = clip_of(row)
        except ValueError as error:
            wrong.append((line, str(error)))
            continue
        at = path.parent / str(clip.path)
        place = (str(clip.path), clip.start, clip.end)
        if place in places:
            wrong.append((line, f"path {clip.path!r} stands on line {places[place]} already (same start and end)"))
        elif clip.id in ids:
            wrong.append(
                (line, f"id {clip.id!r} stands on line {ids[clip.id]} already (crops need ids of their own)")
            )
        elif not at.is_file():
            known = (
                [f.name for f in at.parent.iterdir() if f.is_file()]
                if len(wrong) < 10 and at.parent.is_dir()
                else []
            )
            wrong.append((line, f"path {clip.path!r}: no such file under {path.parent}{nearest(at.name, known)}"))
        else:
            cases.append(Case(clip, about(clip), why))
        places.setdefault(place, line)
        ids.setdefault(clip.id, line)
    if wrong:
        raise LabelsError(path, wrong)
    return tuple(cases)
