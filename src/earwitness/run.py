"""A run is one folder of plain files; everything after answers.jsonl can be made again without the model.

| file | what |
|---|---|
| run.json | who was asked, how, with which versions and seeds (:class:`Info`) |
| clips.jsonl, items.jsonl | the plan: sources and questions, written once |
| answers.jsonl | the truth: append-only, one line per answered item, written as they come |
| scores.jsonl, tables.json | made from the two above by ``earwitness score`` |
| media/, charts/, report.html | made by ``earwitness report`` |

A torn last line of answers.jsonl (power cut, ``kill -9``) is cut off when the run is opened again for writing
and ignored when it is read; a torn line anywhere else is an error that names the line.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import msgspec

from earwitness.records import Answer, Clip, Item, Judged, Score, Table, digest

T = TypeVar("T")
FORCE_EVERY = 1.0  # seconds between answers.jsonl's trips to the disk


class RunError(ValueError):
    """A run folder that cannot be read, or that holds something else than was asked for."""


class Info(msgspec.Struct, kw_only=True):
    """What run.json holds."""

    model: str
    revision: str
    plan: str  # digest of all items: what makes two runs comparable
    created: str
    protocols: list[str] = []
    clips: str = ""  # the clips as given on the command line
    clip_count: int = 0
    item_count: int = 0
    seed: int = 0
    command: str = ""
    settings: dict[str, Any] = {}
    view: dict[str, Any] = {}
    decoding: str = "greedy"
    versions: dict[str, str] = {}
    git: str = ""
    checks: list[dict[str, Any]] = []  # the ear and eye check, a line per condition
    stats: dict[str, float] = {}  # decodes, encoder passes, seconds
    finished: str | None = None
    left_out: list[str] = []  # what the plan leaves out, and why, in plain words
    clips_named: int = 0  # clips that a question file names,
    clips_missing: int = 0  # and those of them whose media are not there
    earlier: list[str] = []  # names under which a served model was asked before its server moved


def plan_digest(items: Sequence[Item]) -> str:
    """Digest of a plan: the items' ids in order."""
    return digest(*(item.id for item in items))


def write_lines(path: Path, records: Iterable[msgspec.Struct]) -> None:
    """Write records as JSON lines, all or nothing (by rename)."""
    part = path.with_suffix(path.suffix + ".tmp")
    encode = msgspec.json.encode
    with part.open("wb") as f:
        for record in records:
            f.write(encode(record) + b"\n")
        f.flush()
        os.fsync(f.fileno())
    part.replace(path)


def read_lines(path: Path, kind: type[T], *, torn_tail: bool = False) -> list[T]:
    """Read JSON lines as ``kind``. Raises RunError naming file and line; a torn last line may be allowed."""
    return list(_each_line(path, kind, torn_tail=torn_tail))


def _each_line(path: Path, kind: type[T], *, torn_tail: bool) -> Iterator[T]:
    """Line by line: the text of 10,000 clips' answers is never in memory as a whole."""
    decode = msgspec.json.Decoder(kind).decode
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise RunError(f"{path} is missing: is {path.parent} the folder of a run?") from None
    with file:
        for number, line in enumerate(file, 1):
            if line == b"\n" or (torn_tail and not line.endswith(b"\n")):
                continue
            try:
                yield decode(line)
            except msgspec.MsgspecError as error:
                raise RunError(f"{path}, line {number}: {error} (edited by hand?)") from None


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON by rename, so that a reader never sees half of it."""
    part = path.with_name(f"{path.name}.tmp")
    part.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")
    part.replace(path)


def read_json(path: Path, kind: type[T]) -> T | None:
    """What :func:`write_json` wrote; None where there is no file. Raises RunError where it is another thing."""
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except msgspec.MsgspecError as error:
        raise RunError(f"{path}: {error} (of another version?)") from None


def write_info(folder: Path, info: Info) -> None:
    """Write run.json."""
    write_json(folder / "run.json", info)


def read_info(folder: Path) -> Info:
    """Read run.json. Raises RunError where the folder holds none."""
    path = folder / "run.json"
    if not path.is_file():
        raise RunError(f"{folder} holds no run.json: is it the folder of a run (the --out of an audit)?")
    try:
        return msgspec.json.decode(path.read_bytes(), type=Info)
    except msgspec.MsgspecError as error:
        raise RunError(f"{path}: {error}") from None


def read_clips(folder: Path) -> list[Clip]:
    """The clips of a run."""
    return read_lines(folder / "clips.jsonl", Clip)


def read_items(folder: Path) -> list[Item]:
    """The items of a run, in the order of the plan."""
    return read_lines(folder / "items.jsonl", Item)


def read_answers(folder: Path) -> dict[str, Answer]:
    """Answers by item id. A later answer for an item (a retried failure) replaces the earlier one."""
    path = folder / "answers.jsonl"
    if not path.exists():
        return {}
    return {answer.item: answer for answer in _each_line(path, Answer, torn_tail=True)}


class _Outcome(msgspec.Struct):
    """The little of an answer that resuming needs."""

    item: str
    error: str | None = None


def failures(folder: Path) -> dict[str, bool]:
    """Of each item that has an answer: whether the last one is a failure. Reads ids and errors only."""
    path = folder / "answers.jsonl"
    if not path.exists():
        return {}
    return {one.item: one.error is not None for one in _each_line(path, _Outcome, torn_tail=True)}


def judged(folder: Path) -> list[Judged]:
    """Items with answer and score, in plan order; items not answered yet are left out.

    Raises
    ------
    RunError
        Where scores.jsonl is missing or does not fit the answers (``earwitness score`` makes it again).
    """
    answers = read_answers(folder)
    scores = {score.item: score for score in read_lines(folder / "scores.jsonl", Score)}
    out = []
    for item in read_items(folder):
        if item.id not in answers:
            continue
        if item.id not in scores:
            raise RunError(f"{folder}: no score for item {item.id}: run `earwitness score {folder}` first")
        out.append(Judged(item, answers[item.id], scores[item.id]))
    return out


def read_tables(folder: Path) -> list[Table]:
    """Tables as `earwitness score` left them; empty where it was not run."""
    path = folder / "tables.json"
    return msgspec.json.decode(path.read_bytes(), type=list[Table]) if path.exists() else []


def write_tables(folder: Path, tables: Sequence[Table]) -> None:
    """Write tables.json."""
    (folder / "tables.json").write_bytes(msgspec.json.format(msgspec.json.encode(list(tables)), indent=1))


class AnswerLog:
    """Append-only answers.jsonl with an exclusive lock: one writer per run folder, a line is never half lost.

    What is appended survives the death of this process at once, and a power cut after a second at most: forcing
    each of a server's single answers to the disk would cost more than answering.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise RunError(
                f"{folder}: another audit is writing to this folder; wait for it or take another"
            ) from None
        path = folder / "answers.jsonl"
        _cut_torn_tail(path)
        self._file = path.open("ab", buffering=0)
        self._forced = time.monotonic()

    def append(self, answers: Iterable[Answer]) -> None:
        """Append, in one write; force to disk where the last time is a second ago."""
        data = memoryview(b"".join(msgspec.json.encode(a) + b"\n" for a in answers))
        while data:
            data = data[self._file.write(data) :]
        if time.monotonic() - self._forced >= FORCE_EVERY:
            os.fsync(self._file.fileno())
            self._forced = time.monotonic()

    def close(self) -> None:
        """Force to disk, let go of the folder."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()
            self._lock.close()

    def __enter__(self) -> AnswerLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def _cut_torn_tail(path: Path) -> None:
    """Cut off what follows the last line break; looks from the end, so that a long file costs nothing."""
    if not path.exists():
        return
    with path.open("r+b") as f:
        start = end = f.seek(0, os.SEEK_END)
        while start:
            size = min(start, 1 << 16)
            start = f.seek(start - size)
            whole = f.read(size).rfind(b"\n") + 1
            if whole:
                if start + whole < end:
                    f.truncate(start + whole)
                return
        f.truncate(0)
