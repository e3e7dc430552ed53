"""What is done to files, one job at a time: measured, prepared, mixed, rendered. Asked for by the audit's own loop.

A set of ten thousand files needs what an audit of ten thousand clips needs: several processes or machines, work
handed out as they finish, a death that costs one job, a log that says what is done, so that killing and running
again repeats nothing. So jobs are asked as an audit's items are (:func:`earwitness.audit.ask`, ``ask_many``, its
Ray executor): a job is the prompt of an item, the :class:`Maker` stands where the model does, and what it measured
is its answer. A file that cannot be used is a failed answer, with its reason. Each job is a batch of its own: what
is finished is written down at once.

Functions: ``done`` (jobs -> results), ``maker`` (what workers load).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from earwitness import media
from earwitness import run as runs
from earwitness.audit import Progress, Recipe, ask, ask_many, ray_cluster
from earwitness.audit.workers import Executor
from earwitness.curate import mixtures
from earwitness.curate.preprocess import Square, prepare
from earwitness.interventions import Rendered, render
from earwitness.interventions.waves import level
from earwitness.media import MediaError
from earwitness.records import Answer, Clip, Event, Intervention, Item, Media, View, Wave, digest

NAME = "earwitness.curate.jobs:maker"
REVISION = "1"  # of what jobs do: another one, and their results are made again
LOOK = View(fps=2.0, size=(64, 64), rate=16_000)  # through which a clip is looked at when it is measured
Out = TypeVar("Out", bound=msgspec.Struct)


class Measure(msgspec.Struct, frozen=True, tag="measure", kw_only=True):
    """Decode a clip and measure it. ``stamp`` is the file's size and time: a changed file is measured again."""

    path: str
    start: float = 0.0
    end: float | None = None
    stamp: str = ""


class Prepare(msgspec.Struct, frozen=True, tag="prepare", kw_only=True):
    """Write a clip as a file of its own: cut, squared, or (square None) its picture as it is, its sound as FLAC."""

    path: str
    out: str
    start: float = 0.0
    end: float | None = None
    square: Square | None = None
    codec: str = "flac"


class Mix(msgspec.Struct, frozen=True, tag="mix", kw_only=True):
    """Write a scene and its stems."""

    scene: mixtures.Scene
    out: str
    stems: str
    side: int


class Render(msgspec.Struct, frozen=True, tag="render", kw_only=True):
    """Write a prepared clip under an intervention; ``stems`` is the folder of a scene's stems."""

    path: str
    out: str
    intervention: Intervention
    donor: str | None = None
    stems: str | None = None
    events: tuple[Event, ...] = ()
    codec: str = "flac"


Job = Measure | Prepare | Mix | Render


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a clip is: lengths in s, loudness in LUFS at 16 kHz mono, highest |x|, and content hashes.

    ``peak`` is that of any channel, at 16 kHz mono or at the file's own rate, whichever is higher: files are
    written at their own rate, audits hear 16 kHz, and a limiter that works in one only would make two twins of one.

    ``sha256`` is of the file's bytes, ``video_hash`` of its picture packets, ``audio_hash`` of the clip's sound as
    decoded. ``whole`` is the length of the file. ``fps``, ``width``, ``height`` are 0 without pictures; ``lufs`` is
    None for silence.
    """

    seconds: float
    whole: float
    fps: float
    width: int
    height: int
    sound: bool
    lufs: float | None
    peak: float
    sha256: str
    video_hash: str
    audio_hash: str | None


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A prepared clip as it was read back."""

    seconds: float
    video_hash: str
    audio_hash: str | None


class Key(NamedTuple):
    """What a result is asked for by: the clip (or scene) and the name of the job within it."""

    clip: str
    name: str


# ---------------------------------------------------------------- the side of the workers


class Maker:
    """Does jobs in a model's place; has the audit's Model protocol."""

    name = NAME
    revision = REVISION
    view = LOOK
    abilities: frozenset[str] = frozenset()

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """One result a job, as JSON. Raises what the job raises: the loop makes it the job's failure."""
        return [Answer(item=i.id, model=self.name, text=_text(_do(_job(i)))) for i in items]


def maker() -> Maker:
    """What workers load."""
    return Maker()


def _job(item: Item) -> Job:
    job: Job = msgspec.json.decode(item.prompt, type=Job)
    return job


def _text(result: msgspec.Struct) -> str:
    return msgspec.json.encode(result).decode()


def _do(job: Job) -> msgspec.Struct:
    match job:
        case Measure():
            return measured(job)
        case Prepare():
            return _prepared(job)
        case Mix():
            Path(job.out).parent.mkdir(parents=True, exist_ok=True)
            return mixtures.write(job.scene, Path(job.out), Path(job.stems), side=job.side)
        case Render():
            Path(job.out).parent.mkdir(parents=True, exist_ok=True)
            stems = None if job.stems is None else _stems(Path(job.stems))
            return render(
                job.path, job.intervention, job.out, donor=job.donor, stems=stems, events=job.events,
                codec=job.codec, overwrite=True,
            )  # fmt: skip


def measured(job: Measure) -> Measured:
    """Decode a clip's pictures and sound, strictly, and measure them. Raises MediaError."""
    path = Path(job.path)
    with media.demux(path) as packets:
        found = media.probe(packets)
        video = digest(*(bytes(p) for p in packets.pictures))
        seen = media.load(packets, LOOK, start=job.start, end=job.end)
        native = media.load_native(packets, start=job.start, end=job.end)
    loud = float("-inf") if seen.wave is None else level(seen.wave, LOOK.rate)
    return Measured(
        seconds=round(seen.duration, 4),
        whole=round(found.duration, 4),
        fps=0.0 if found.picture is None else found.picture.fps,
        width=0 if found.picture is None else found.picture.width,
        height=0 if found.picture is None else found.picture.height,
        sound=seen.wave is not None,
        lufs=round(loud, 3) if np.isfinite(loud) else None,
        peak=round(max(_peak(seen.wave), _peak(native.wave)), 6),
        sha256=_sha256(path),
        video_hash=video,
        audio_hash=native.audio_hash,
    )


def _peak(wave: Wave | None) -> float:
    return 0.0 if wave is None else float(np.abs(wave).max(initial=0.0))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _prepared(job: Prepare) -> Prepared:
    out = Path(job.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    if job.square is None:
        done = render(job.path, Intervention(), out, codec=job.codec, overwrite=True)
        return Prepared(seconds=done.seconds, video_hash=done.video_hash, audio_hash=done.audio_hash)
    prepare(job.path, out, job.square, start=job.start, end=job.end)
    with media.demux(out) as packets:
        native = media.load_native(packets)
        video = digest(*(bytes(p) for p in packets.pictures))
    return Prepared(seconds=native.duration, video_hash=video, audio_hash=native.audio_hash)


def _stems(folder: Path) -> dict[str, Wave]:
    """A scene's stems at their own rate."""
    out = {}
    for file in sorted(folder.glob("*.wav")):
        wave = media.load_native(file).wave
        if wave is None:
            raise MediaError(f"{file}: a stem without sound")
        out[file.stem] = wave
    return out


# ---------------------------------------------------------------- the side of the set


class Unopened:
    """Clips whose media stay closed: a job opens its own files. A :class:`~earwitness.records.ClipSet`."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.clips: Sequence[Clip] = tuple(clips)

    def media(self, clip: Clip, view: View) -> Media:
        """Neither picture nor sound."""
        return Media(None, None, None, view.rate, 0.0)

    def stems(self, clip: Clip, view: View) -> Mapping[str, Wave]:
        """None."""
        return {}

    def file(self, clip: Clip, folder: Path) -> Path:
        """There is none. Raises ValueError."""
        raise ValueError(f"{clip.id}: jobs have no clips to write")


def _item(key: Key, job: Job, number: int, turn: int) -> Item:
    """A job as an item. ``number`` makes its media its own (a batch of one); ``turn`` asks it again."""
    prompt = _text(job)
    return Item(
        id=digest("job", REVISION, *key, prompt, turn), protocol="curate", condition=type(job).__name__.lower(),
        question=key.name, clip=key.clip, source=key.clip, group=key.clip, intervention=Intervention(seed=number),
        prompt=prompt, target=None,
    )  # fmt: skip


def done(
    wanted: Mapping[Key, Job],
    folder: Path,
    kind: type[Out],
    *,
    workers: int = 1,
    executor: Executor = "process",
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> tuple[dict[Key, Out], dict[Key, str]]:
    """Do what is not done yet, by the log in ``folder``; returns results and the reasons of failures, by key.

    A job whose output file has gone since is done again. Raises WorkerError where no worker can be started,
    RunError where another build writes to the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    answers = runs.read_answers(folder)
    items: dict[Key, Item] = {}
    numbers: Counter[str] = Counter()
    for key, job in wanted.items():
        numbers[key.clip] += 1
        turn = 0
        while True:
            item = _item(key, job, numbers[key.clip], turn)
            before = answers.get(item.id)
            if before is None or before.error is not None or _there(job):
                break
            turn += 1
        items[key] = item
    clips = Unopened([Clip(id=name) for name in dict.fromkeys(i.clip for i in items.values())])
    if workers > 1 or executor == "ray":
        recipe = Recipe(NAME, {}, REVISION)
        ask_many(
            recipe, clips, list(items.values()), folder, workers=workers, executor=executor, chunk=1,
            retry_failed=retry_failed, progress=progress,
        )  # fmt: skip
    elif items:
        ask(maker(), clips, list(items.values()), folder, chunk=1, retry_failed=retry_failed, progress=progress)
    answers = runs.read_answers(folder)
    if progress is not None:  # where nothing was left to do, nobody has told it
        failures = sum(answers[i.id].text is None for i in items.values())
        progress(len(items), failures, len(items))
    results: dict[Key, Out] = {}
    failed: dict[Key, str] = {}
    for key, item in items.items():
        answer = answers[item.id]
        if answer.text is None:
            failed[key] = _reason(answer.error or "")
        else:
            results[key] = msgspec.json.decode(answer.text, type=kind)
    return results, failed


Stage = Callable[[str], Progress]  # name of a stage -> what is told how far it is


@dataclass(frozen=True)
class Bench:
    """Where jobs are done: the folder of their logs, by whom, and who hears of it."""

    folder: Path
    workers: int = 1
    executor: Executor = "process"
    retry_failed: bool = False
    stage: Stage | None = None

    def do(self, name: str, wanted: Mapping[Key, Job], kind: type[Out]) -> tuple[dict[Key, Out], dict[Key, str]]:
        """Do a stage's jobs: see :func:`done`."""
        progress = self.stage(name) if self.stage is not None and wanted else None
        return done(
            wanted, self.folder / name, kind, workers=self.workers, executor=self.executor,
            retry_failed=self.retry_failed, progress=progress,
        )  # fmt: skip


@contextmanager
def cluster(executor: Executor) -> Iterator[None]:
    """One Ray connection for all stages: without it each stage would start Ray, and stop it again."""
    try:
        ray = import_module("ray") if executor == "ray" else None
    except ModuleNotFoundError:
        ray = None  # the first stage says so, in its own words
    if ray is None or ray.is_initialized():
        yield
        return
    ray_cluster._connect(ray)
    try:
        yield
    finally:
        ray.shutdown()


def _there(job: Job) -> bool:
    """Whether what the job wrote is still there."""
    return isinstance(job, Measure) or Path(job.out).exists()


def _reason(error: str) -> str:
    """A failure's words without the name of the exception, which tells a reader nothing."""
    head, colon, rest = error.partition(": ")
    return rest if colon and head.endswith("Error") and " " not in head else error


def stamp(path: Path) -> str:
    """A file's size and time of change, to tell whether it is still the one that was measured."""
    found = path.stat()
    return f"{found.st_size}@{found.st_mtime_ns}"


__all__ = [
    "NAME", "Bench", "Job", "Key", "Maker", "Measure", "Measured", "Mix", "Prepare", "Prepared", "Render",
    "Rendered", "Stage", "Unopened", "cluster", "done", "maker", "measured", "stamp",
]  # fmt: skip
