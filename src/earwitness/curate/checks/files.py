"""The files of a checked manifest (what each holds: :mod:`.checking`), written whole or not at all.

Functions: ``write_files``, ``read_info``, ``write_info``, ``read_verdicts``, ``read_rungs``.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from earwitness import run as runs
from earwitness.curate.checks.consistency import agreement
from earwitness.curate.checks.outcome import Outcome, Rung
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.checks.wishes import Asked
from earwitness.datasets.labels import COLUMNS
from earwitness.records import Clip, ClipSet

LABELS, DROPPED, QUEUE = "labels.jsonl", "dropped.csv", "undecided.jsonl"
VERDICTS, FUNNEL, INFO = "verdicts.jsonl", "funnel.json", "check.json"
AGREEMENT = "agreement.json"


class Judge(msgspec.Struct, frozen=True, kw_only=True):
    """A judge as it was asked: its name on the command line and its own, its revision, its ear and eye check."""

    spec: str
    name: str
    revision: str
    checks: list[dict[str, Any]] = []
    spent: dict[str, float] = {}  # what a served judge has cost, over all calls

    @property
    def by(self) -> str:
        """Id and revision, as every verdict carries them."""
        return f"{self.name} {self.revision}"


class Info(msgspec.Struct, kw_only=True):
    """``check.json``."""

    clips: str  # as given on the command line
    asked: Asked
    judges: list[Judge] = []
    counts: dict[str, int] = {}
    notes: tuple[str, ...] = ()  # what was not checked, and what else a person should know
    command: str = ""
    versions: dict[str, str] = {}


class _Funnel(msgspec.Struct, kw_only=True):
    steps: list[Rung]


def read_info(folder: Path) -> Info | None:
    """``check.json``; None where there is none. Raises RunError where it cannot be read."""
    return runs.read_json(Path(folder) / INFO, Info)


def write_info(folder: Path, info: Info) -> None:
    """Write ``check.json``."""
    runs.write_json(folder / INFO, info)


def read_verdicts(folder: Path) -> list[Verdict]:
    """All verdicts. Raises RunError where there are none."""
    return runs.read_lines(Path(folder) / VERDICTS, Verdict)


def read_rungs(folder: Path) -> list[Rung]:
    """The funnel; empty where there is none. Raises RunError where it cannot be read."""
    found = runs.read_json(Path(folder) / FUNNEL, _Funnel)
    return [] if found is None else found.steps


def write_files(
    out: Path, found: Sequence[Outcome], queue: Sequence[Outcome], funnel: Sequence[Rung], clips: ClipSet,
    place: Callable[[Clip], Path],
) -> None:  # fmt: skip
    """Write verdicts, labels of those that passed, who was dropped and why, the queue for people, and the funnel.

    ``queue`` are those that the checks left undecided, also where people have judged them since.
    """
    verdicts = [v for o in found for v in o.verdicts]
    runs.write_lines(out / VERDICTS, verdicts)
    table = agreement(verdicts, [o.clip for o in found])
    _write(out / AGREEMENT, msgspec.json.format(msgspec.json.encode([] if table is None else [table]), indent=1))
    passed = [o.clip for o in found if o.result == "passed"]
    ids = {c.id for c in passed}
    rows = []
    for clip in passed:  # a labels file names no donor that it does not hold
        kept = msgspec.structs.replace(clip, donors=tuple(d for d in clip.donors if d in ids))
        rows.append(_row(kept, place(clip), out, _stems(clip, clips, out)))
    _write(out / LABELS, _lines(rows))
    names = sorted({n for c in passed for n in (*c.seen, *c.heard)}, key=str.casefold)
    _write(out / "classes.txt", "".join(f"{n}\n" for n in names).encode())
    _write(
        out / QUEUE,
        _lines(
            {"clip": _row(msgspec.structs.replace(o.clip, donors=()), place(o.clip), out, False), "why": o.why}
            for o in queue
        ),
    )
    _write(out / DROPPED, _dropped(o for o in found if o.result == "dropped"))
    runs.write_json(out / FUNNEL, _Funnel(steps=list(funnel)))


def _row(clip: Clip, at: Path, out: Path, stems: bool) -> dict[str, Any]:
    """A clip as a row of a labels file in ``out``; relative, so that folders can move together."""
    given = msgspec.to_builtins(clip)
    row = {key: value for key, value in given.items() if key in COLUMNS and value not in (None, "", (), [], 0.0)}
    row["path"] = Path(os.path.relpath(at, out.resolve())).as_posix()
    if clip.path is None:
        row.pop("end", None)  # the file holds the whole scene
    if not stems:
        row.pop("stems", None)
    return {"id": clip.id, "path": row.pop("path"), **{k: v for k, v in row.items() if k != "id"}}


def _stems(clip: Clip, clips: ClipSet, out: Path) -> bool:
    """Let ``out/stems/ID`` lead to a clip's stems, which a labels file looks for beside itself; whether it has."""
    there = Path(getattr(clips, "root", Path())) / "stems" / clip.id
    if not clip.stems or clip.path is None or not there.is_dir():
        return False
    here = out / "stems" / clip.id
    if here.is_symlink():
        here.unlink()
    if not here.exists():
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(os.path.relpath(there.resolve(), here.parent.resolve()), target_is_directory=True)
    return True


def _dropped(found: Iterable[Outcome]) -> bytes:
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("clip", "check", "why"))
    lines.writerows((o.clip.id, o.check, o.why) for o in found)
    return text.getvalue().encode()


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.tmp")
    part.write_bytes(content)
    part.replace(path)
