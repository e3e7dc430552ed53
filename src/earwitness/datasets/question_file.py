"""Reading a published question file: rows with their places, the media they are about, and clear mistakes.

A format is a small module of this room with a ``read(path, media=None) -> QuestionFile``. It says what a row
means; what all of them need is here: ``rows`` (JSON, JSONL, CSV, TSV, Parquet), ``Row`` (fields with an error
that names file and row), ``gather`` (all rows, up to ten mistakes at once), ``together`` (find the media, say
which are missing).

Media are looked for by the file's own naming, first at that very path, then anywhere below the media root by file
name; any usual extension will do. Missing media are no mistake: they are named in ``QuestionFile.missing``.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

import msgspec

from earwitness.datasets.folder import MEDIA
from earwitness.protocols.benchmark import lettered
from earwitness.records import Clip, Question

T = TypeVar("T")
SAID = 10  # mistakes reported at once
SOUND = (".wav", ".flac", ".mp3", ".m4a", ".ogg")
MOST_FILES = 500_000  # files below a media root: more is a whole disk, not a benchmark
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Keys by which a row tells its format, the most telling sets first.
KEYS: dict[str, frozenset[str]] = {
    "cmm": frozenset({"sub_category", "granularity", "video_path", "question", "answer"}),
    "vggsounder": frozenset({"video_id", "label", "modality"}),
    "avhbench": frozenset({"video_id", "task", "text", "label"}),
    "avconfuse_m1": frozenset({"video_id", "question", "answer", "instruments"}),
    "avconfuse_m2": frozenset({"video_id", "filename", "sound_type", "annotation"}),
    "daily_omni": frozenset({"Question", "Choice", "Answer", "video_id"}),
    "omnivideobench": frozenset({"video", "questions", "duration"}),
    "worldsense": frozenset({"question", "candidates", "answer", "task_domain"}),
    "worldsense_by_video": frozenset({"task0", "audio_class"}),
    "synchformer": frozenset({"path", "offset_sec", "vstart_sec"}),
    "music_avqa": frozenset({"video_id", "question_content", "anser"}),
    "avqa": frozenset({"video_name", "question_text", "multi_choice", "answer"}),
    "video_mme": frozenset({"videoID", "question", "options", "answer"}),
    "lvbench": frozenset({"key", "qa"}),
    "thud_files": frozenset({"messages", "videos"}),
}


class QuestionFile(msgspec.Struct, frozen=True, kw_only=True):
    """A question file as read: all its clips and questions, whether their media are there or not.

    ``missing`` names the clips whose media were not found: ``Clip.path`` is then the name that was looked for, and
    absolute for the others. ``lags`` says of clips that are to be cut with sound from another place than the
    picture how much later in the file that is, in seconds (so a positive lag makes the sound EARLY).
    """

    name: str
    source: str
    licence: str
    clips: tuple[Clip, ...]
    questions: tuple[Question, ...]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lags: dict[str, float] = {}


class QuestionFileError(ValueError):
    """Mistakes in a question file; each line of the message names file and row."""

    def __init__(self, path: Path, mistakes: Sequence[str]) -> None:
        places = ("row ", "line ")
        lines = [f"{path.name}{', ' if what.startswith(places) else ': '}{what}" for what in mistakes[:SAID]]
        if len(mistakes) > SAID:
            lines.append(f"... and {len(mistakes) - SAID} more")
        super().__init__("\n".join(lines))


class Wanted(NamedTuple):
    """A place where a clip may lie: a path below the media root (any extension), and which part of the file."""

    name: str
    start: float = 0.0
    end: float | None = None


class Row(NamedTuple):
    """One row and where it stands ("row 12", "line 12"); fields are checked as they are asked for."""

    where: str
    fields: Mapping[str, Any]

    def text(self, key: str) -> str:
        """A text (or number) that must be there. ValueError names what stands there instead."""
        value = self.fields.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{key} wants a text, got {value!r}")
        return value.strip()

    def maybe(self, key: str) -> str:
        """A text, or "" where there is none."""
        value = self.fields.get(key)
        return "" if value is None else str(value).strip()

    def number(self, key: str) -> float:
        """A number that must be there."""
        try:
            return float(self.text(key))
        except ValueError:
            raise ValueError(f"{key} wants a number, got {self.fields.get(key)!r}") from None

    def texts(self, key: str) -> list[str]:
        """A list of texts, two or more; a text that holds a JSON list counts."""
        value = self.fields.get(key)
        if isinstance(value, str) and value.strip().startswith("["):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                raise ValueError(f"{key} wants a list, got {value!r}") from None
        value = list(value) if isinstance(value, (list, tuple)) else value
        if (
            not isinstance(value, list)
            or len(value) < 2
            or not all(isinstance(v, (str, int, float)) for v in value)
        ):
            raise ValueError(f"{key} wants a list of two or more texts, got {value!r}")
        return [str(v).strip() for v in value]


def rows(path: Path, wants: str | Sequence[str]) -> list[Row]:
    """The rows of a question file, whose first row must have the keys of the format ``wants``.

    Raises QuestionFileError where it cannot be read, is empty, or looks like another format (which is named).
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such question file" + (" (a folder)" if path.is_dir() else ""))
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet}
    found = readers.get(path.suffix.lower(), _json)(path)
    if not found:
        raise QuestionFileError(path, ["holds no rows"])
    names = (wants,) if isinstance(wants, str) else tuple(wants)
    keys = set(found[0].fields)
    if not any(keys >= KEYS[name] for name in names):
        lacking = ", ".join(sorted(KEYS[names[0]] - keys))
        other = looks_like(keys)
        guess = f"it looks like {other}" if other else f"it has {', '.join(sorted(keys)[:8])}"
        raise QuestionFileError(path, [f"{found[0].where}: is no {names[0]} file, it lacks {lacking}; {guess}"])
    return found


def looks_like(keys: Iterable[str]) -> str | None:
    """The format whose rows have these keys; None where it is no known one."""
    have = set(keys)
    return next((name for name, wanted in KEYS.items() if have >= wanted), None)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise QuestionFileError(path, ["is not UTF-8 text (a media file, or another encoding?)"]) from None


def _shape(value: object) -> str:
    """What a JSON value is, where it is no list of objects."""
    odd = next((v for v in value if not isinstance(v, dict)), None) if isinstance(value, list) else value
    words = {"str": "text", "int": "a number", "float": "a number", "NoneType": "null", "bool": "true or false"}
    said = words.get(type(odd).__name__, "a list")
    return f"{said} among them" if isinstance(value, list) else said


def _json(path: Path) -> list[Row]:
    text = _text(path)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # JSON Lines under the name .json, as CMM's output has it
            return _jsonl(path)
        raise QuestionFileError(path, [f"line {error.lineno}: is no JSON: {error.msg}"]) from None
    if isinstance(value, dict):  # keyed by the clip, as WorldSense's
        value = [{"key": key, **v} if isinstance(v, dict) else v for key, v in value.items()]
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise QuestionFileError(path, [f"wants a list of objects, got {_shape(value)}"])
    return [Row(f"row {n}", v) for n, v in enumerate(value, 1)]


def _jsonl(path: Path) -> list[Row]:
    out, wrong = [], []
    for n, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            wrong.append(f"line {n}: is no JSON: {error.msg}")
            continue
        if isinstance(value, dict):
            out.append(Row(f"line {n}", value))
        else:
            wrong.append(f"line {n}: wants an object, got {type(value).__name__}")
    if wrong:
        raise QuestionFileError(path, wrong)
    return out


def _csv(path: Path) -> list[Row]:
    reader = csv.DictReader(io.StringIO(_text(path)), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    out = []
    for fields in reader:
        if None in fields or None in fields.values():
            raise QuestionFileError(
                path, [f"line {reader.line_num}: has more or fewer fields than the header (an unquoted comma?)"]
            )
        out.append(Row(f"line {reader.line_num}", fields))
    return out


def _parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ImportError:
        raise ValueError(f"{path}: reading Parquet needs pyarrow (pip install 'earwitness[export]')") from None
    try:
        table = parquet.read_table(path)
    except ArrowInvalid as error:
        raise QuestionFileError(path, [f"is no Parquet file: {error}"]) from None
    return [Row(f"row {n}", fields) for n, fields in enumerate(table.to_pylist(), 1)]


def gather(path: Path, found: Iterable[Row], make: Callable[[Row], Iterable[T]]) -> list[T]:
    """What ``make`` makes of all rows. Raises QuestionFileError with the rows that it cannot read (ten at most)."""
    out: list[T] = []
    wrong: list[str] = []
    for row in found:
        try:
            out += make(row)
        except ValueError as error:
            wrong.append(f"{row.where}: {error}")
    if wrong:
        raise QuestionFileError(path, wrong)
    return out


def with_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Options as "A. text", with letters put before them where they have none."""
    if lettered(options):
        return tuple(options)
    return tuple(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False))


def letter_of(answer: str, options: Sequence[str]) -> str:
    """The letter of an answer given as letter, "(B)", "B. text" or as the option's text. ValueError for none."""
    texts = lettered(options)
    bare = answer.strip().strip("().").strip()
    if bare.upper() in texts and len(bare) == 1:
        return bare.upper()
    full = next((k for k, v in texts.items() if answer.strip() in (v, f"{k}. {v}", f"{k}.{v}", f"({k}) {v}")), None)
    if full is None:
        raise ValueError(f"the answer {answer!r} is none of the options {list(options)}")
    return full


class _Shelf:
    """Media below one or more roots: by their path, else by their file name."""

    def __init__(self, deep: Sequence[Path], flat: Sequence[Path] = ()) -> None:
        self._roots = [*deep, *flat]
        self._by_stem: dict[str, list[Path]] = {}
        for root in deep:
            for n, file in enumerate(_files(root)):
                if n > MOST_FILES:
                    raise ValueError(
                        f"{root}: more than {MOST_FILES:,} files below it; name the media's own folder"
                    )
                self._by_stem.setdefault(file.stem, []).append(file)
        for root in flat:
            for file in sorted(root.iterdir()):
                if file.suffix.lower() in (*MEDIA, *SOUND) and file.is_file():
                    self._by_stem.setdefault(file.stem, []).append(file)

    def find(self, name: str) -> Path | None:
        """The file of that path or name, with any extension; ValueError where two have the name."""
        wanted = PurePosixPath(name.replace("\\", "/"))
        stem = wanted.stem if wanted.suffix.lower() in (*MEDIA, *SOUND) else wanted.name
        found = self._by_stem.get(stem, [])
        below = wanted.parent.parts
        exact = [f for f in found if f.parent.parts[len(f.parent.parts) - len(below) :] == below] or found
        kept = [f for f in exact if f.suffix.lower() in MEDIA] or exact  # a .wav beside a video is its copy
        kept = list(dict.fromkeys(f.resolve() for f in kept))
        if len(kept) > 1:
            raise ValueError(f"{name}: two files have that name, {kept[0]} and {kept[1]}: name the folder to use")
        return kept[0] if kept else None


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith((*MEDIA, *SOUND)):
                yield Path(folder) / name


def _file_name(name: str) -> str:
    """The likeliest name of a file that was looked for by its stem."""
    return name if name.lower().endswith((*MEDIA, *SOUND)) else f"{name}.mp4"


def shelf(path: Path, media: Path | None) -> _Shelf:
    """Where the media of a question file are: below ``media``; else beside the file and below its ``videos/``."""
    if media is not None:
        if not media.is_dir():
            raise ValueError(f"{media}: no such media folder")
        return _Shelf([media])
    home = path.parent
    names = {"videos", "video", "media", "clips", "data"}
    return _Shelf([d for d in sorted(home.iterdir()) if d.is_dir() and d.name.lower() in names], [home])


def together(
    path: Path, media: Path | None, *, name: str, source: str, licence: str, wanted: Mapping[str, Sequence[Wanted]],
    clips: Mapping[str, Clip], questions: Iterable[Question], notes: Iterable[str] = (),
    lags: Mapping[str, float] | None = None,
) -> QuestionFile:  # fmt: skip
    """A question file with its media looked up: for each clip the first of its ``wanted`` places that exists."""
    found = shelf(path, media)
    kept, missing = [], []
    for key, clip in clips.items():
        place = next(((w, f) for w in wanted[key] if (f := found.find(w.name)) is not None), None)
        if place is None:
            missing.append(key)
            kept.append(msgspec.structs.replace(clip, path=_file_name(wanted[key][0].name), licence=licence))
            continue
        w, file = place
        more: dict[str, Any] = {} if w.end is None else {"start": w.start, "end": w.end}
        kept.append(msgspec.structs.replace(clip, path=str(file), licence=licence, **more))
    times: Counter[str] = Counter()
    tagged = []
    for q in questions:  # an id that stands there again (Music-AVQA-R's rephrasings) gets a number
        times[q.id] += 1
        own = q.id if times[q.id] == 1 else f"{q.id}#{times[q.id]}"
        tagged.append(msgspec.structs.replace(q, id=own, tags={"benchmark": name, **q.tags}))
    return QuestionFile(
        name=name, source=source, licence=licence, clips=tuple(kept), questions=tuple(tagged),
        missing=tuple(missing), notes=tuple(notes), lags=dict(lags or {}),
    )  # fmt: skip
