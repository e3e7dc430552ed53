"""Foley as clips: in memory, as a clip set, and as a folder of mp4 files with a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import scipy.io.wavfile

from earwitness import records
from earwitness.foley import pictures, sounds
from earwitness.foley.scenes import CLASSES, IMPACTS, Difficulty, Kind, Scene, parse, scene
from earwitness.records import Clip, Event, Media, View, Wave

FILE_VIEW = View(fps=25.0, size=(360, 640), rate=48_000)  # what the written files hold
MANIFEST = "clips.jsonl"


def media(scene: Scene, view: View) -> Media:
    """The scene seen and heard: frames at i / fps, mono wave of round(duration * rate) samples."""
    frames, times = pictures.frames(scene, view)
    wave = sounds.mix(list(sounds.stems(scene, view.rate).values()))
    return Media(frames=frames, times=times, wave=wave, rate=view.rate, duration=scene.duration)


def stems(scene: Scene, view: View) -> dict[str, Wave]:
    """Each thing's sound and the stem "room", [1, samples]; added up in this order they are the wave, exactly."""
    return sounds.stems(scene, view.rate)


def clip(scene: Scene, split: str = "test") -> Clip:
    """The scene as a clip with its labels, events in order of time, stems and recipe."""
    events = sorted((t, s.what) for s in scene.sources for t in s.times)
    return Clip(
        id=f"foley-{records.digest(scene.recipe)[:10]}",
        foley=scene.recipe,
        end=scene.duration,
        seen=scene.names,
        heard=scene.names,
        events=tuple(Event(what, seen=t, heard=t) for t, what in events),
        stems=(*scene.names, "room"),
        split=split,
        licence="CC0-1.0",
    )


class FoleyClips:
    """Procedural clips served from memory; a :class:`~earwitness.records.ClipSet`."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        if bare := [c.id for c in clips if c.foley is None]:
            raise ValueError(f"FoleyClips: {bare[0]} has no recipe: it is a file (read it with datasets.folder)")
        self.clips: Sequence[Clip] = tuple(clips)

    def media(self, clip: Clip, view: View) -> Media:
        """Synthesise one clip."""
        return media(_scene(clip), view)

    def stems(self, clip: Clip, view: View) -> Mapping[str, Wave]:
        """The sound taken apart."""
        return stems(_scene(clip), view)

    def file(self, clip: Clip, folder: Path) -> Path:
        """An mp4 of the clip (H.264 640 x 360 at 25 fps, FLAC at 48 kHz), written where there is none yet.

        A clip that is no whole number of frames long ends with the silence of its last frame's remainder.
        """
        from earwitness.media import write_clip  # here, so that Foley in memory needs no codecs

        path = Path(folder) / f"{clip.id}.mp4"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            m = media(_scene(clip), FILE_VIEW)
            part = path.with_name(f"{clip.id}.part.mp4")  # a file of the right name is always whole
            assert m.frames is not None
            assert m.wave is not None
            rest = round(len(m.frames) / FILE_VIEW.fps * m.rate) - m.wave.shape[1]
            write_clip(m.frames, FILE_VIEW.fps, np.pad(m.wave, ((0, 0), (0, rest))), m.rate, part)
            part.replace(path)
        return path


def _scene(clip: Clip) -> Scene:
    if clip.foley is None:
        raise ValueError(f"foley: clip {clip.id} has no recipe")
    return parse(clip.foley)


def clip_set(
    n: int,
    *,
    seed: int = 0,
    kind: Kind = "natural",
    sources: int = 1,
    classes: Sequence[str] | None = None,
    difficulty: Difficulty = "easy",
    duration: float | None = None,
    split: str = "test",
) -> FoleyClips:
    """``n`` clips in which every class is the main one equally often (to within one).

    Seeds of different sets do not meet: clip i of set ``seed`` has the scene seed ``seed * 1_000_000 + i``.
    """
    if not 0 <= n <= 1_000_000:
        raise ValueError(f"foley.clip_set: n={n} is not within 0 to 1000000")
    pool = tuple(classes) if classes is not None else (IMPACTS if kind == "impact" else CLASSES)
    if sources > len(pool):
        raise ValueError(f"foley.clip_set: {sources} sources need as many classes, got {len(pool)}: {pool}")
    rng = np.random.default_rng([20_511, seed])
    clips: list[Clip] = []
    turn: list[int] = []
    for i in range(n):
        if not turn:
            turn = list(rng.permutation(len(pool)))
        main = pool[int(turn.pop())]
        rest = [c for c in pool if c != main]
        others = [rest[int(k)] for k in rng.permutation(len(rest))[: sources - 1]]
        made = scene(
            seed * 1_000_000 + i, kind=kind, sources=sources, classes=(main, *others), difficulty=difficulty,
            duration=duration,
        )  # fmt: skip
        clips.append(clip(made, split))
    return FoleyClips(clips)


def write(folder: Path, clips: FoleyClips | Sequence[Clip], *, rate: int = 48_000) -> Path:
    """Write mp4 files, stems (``stems/<id>/<name>.wav``, float32) and ``clips.jsonl``; return the latter's path.

    The manifest has one :class:`~earwitness.records.Clip` a line, ``path`` relative to it; the recipe stays in.
    What is there already of the same clips is kept. Raises ValueError where the folder holds other clips.
    """
    made = clips if isinstance(clips, FoleyClips) else FoleyClips(clips)
    folder = Path(folder)
    manifest = folder / MANIFEST
    if manifest.exists():
        mine = {c.id for c in made.clips}
        others = [line for line in manifest.read_bytes().splitlines() if _id(line) not in mine]
        if others:
            raise ValueError(f"{folder} holds other clips ({len(others)} in {MANIFEST}): take another folder")
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for c in made.clips:
        path = made.file(c, folder)
        for name, wave in made.stems(c, View(rate=rate)).items():
            at = folder / "stems" / c.id / f"{name}.wav"
            at.parent.mkdir(parents=True, exist_ok=True)
            scipy.io.wavfile.write(at, rate, wave[0])
        lines.append(msgspec.json.encode(msgspec.structs.replace(c, path=path.name)))
    manifest.write_bytes(b"".join(line + b"\n" for line in lines))
    return manifest


def _id(line: bytes) -> str:
    """The clip of a line of a manifest; "" where it is none of ours."""
    try:
        return msgspec.json.decode(line, type=Clip).id
    except msgspec.MsgspecError:
        return ""
