"""Scenes of several things whose sounds are known apart: made of clips of one thing each.

AV-ConfuseBench mutes one of several instruments (arXiv 2511.10059; how is not said there). Taking a sound out of a
recording leaves its energy behind as noise; so a scene is built the other way round: clips of one thing each, their
pictures side by side, their sounds added up. Each sound is a stem, and leaving one out is exact. That they add up
to what the file holds is measured on the written file (``residual_db``).

Each part is brought to the parts' mean loudness first, so that no thing is masked by another one, then all together
are turned down until the sum has headroom. A clip is part of one scene only: scenes stay independent.

Functions: ``plan`` (which clips make scenes), ``mixed`` (sounds), ``side_by_side`` (pictures), ``write``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import scipy.io.wavfile

from earwitness import media
from earwitness.curate.preprocess import centre, cover
from earwitness.curate.twins import Sound
from earwitness.interventions.waves import level, without_stem
from earwitness.media import MediaError
from earwitness.questions import same
from earwitness.records import Clip, Frames, View, Wave, digest

SIDE = 336  # pixels of one panel: 24 patches of 14
FPS, RATE = 25.0, 48_000
PEAK = 0.9  # of the sum, so that 16 bits hold it without clipping
EXACT = -60.0  # dB of the sound: the written file must be the sum of its stems to at least this
SHORTEST = 2.0  # s; a scene as long as its shortest part must still show something


class Part(msgspec.Struct, frozen=True):
    """One thing of a scene: the clip it is taken from (a file and the part of it), and its class."""

    clip: str
    path: str
    start: float
    end: float | None
    what: str


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """A scene to be made: its parts from left to right, and how long it lasts (the shortest of them)."""

    id: str
    parts: tuple[Part, ...]
    seconds: float
    split: str
    licence: str


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: gains in dB by class, and how far the file's sound is from the sum of its stems, in dB."""

    seconds: float
    gains_db: dict[str, float]
    residual_db: float


def plan(
    clips: Sequence[Clip],
    paths: Mapping[str, str],
    sounds: Mapping[str, Sound],
    n: int,
    *,
    things: int = 2,
    classes: Sequence[str] = (),
    seed: int = 0,
) -> tuple[list[Scene], list[str]]:
    """At most ``n`` scenes of ``things`` different things each, and in plain words why there are not more.

    Classes are used evenly. Parts of a scene differ in source and class and are of one split. ``classes``: only
    these (instruments, say); default all.

    Raises ValueError for fewer than two things, or class names that no clip has.
    """
    if not 2 <= things <= 4:
        raise ValueError(f"things={things}: a scene has 2 to 4 things")
    asked = {same(c) for c in classes}
    if lost := asked - {same(c.heard[0]) for c in clips}:
        raise ValueError(f"mix_classes: no clip is of class {min(lost)!r}")
    scenes: list[Scene] = []
    for split in sorted({c.split for c in clips}):
        pool: dict[str, list[Clip]] = {}
        for clip in sorted(clips, key=lambda c: digest("part", seed, c.id)):
            kind = same(clip.heard[0])
            usable = clip.split == split and not sounds[clip.id].silent and sounds[clip.id].seconds >= SHORTEST
            if usable and (not asked or kind in asked):
                pool.setdefault(kind, []).append(clip)
        while len(scenes) < n:
            parts = _parts(pool, things, (seed, split, len(scenes)))
            if not parts:
                break
            for clip in parts:
                pool[same(clip.heard[0])].remove(clip)
            scenes.append(_scene(parts, paths, sounds))
    lines = []
    if len(scenes) < n:
        lines.append(f"{len(scenes)} of {n} scenes of {things} things could be made: each clip is used once")
    return scenes, lines


def _parts(pool: Mapping[str, list[Clip]], things: int, key: tuple[object, ...]) -> list[Clip]:
    """One clip each of the classes with most clips left, of different sources; empty where there are too few."""
    order = sorted((k for k in pool if pool[k]), key=lambda k: (-len(pool[k]), digest("scene", *key, k)))
    parts: list[Clip] = []
    for kind in order:
        fresh = next((c for c in pool[kind] if c.cluster not in {p.cluster for p in parts}), None)
        if fresh is not None:
            parts.append(fresh)
        if len(parts) == things:
            return sorted(parts, key=lambda c: digest("place", *key, c.id))
    return []


def _scene(parts: Sequence[Clip], paths: Mapping[str, str], sounds: Mapping[str, Sound]) -> Scene:
    return Scene(
        id=f"scene-{digest(*(c.id for c in parts))[:10]}",
        parts=tuple(Part(c.id, paths[c.id], c.start, c.end, c.heard[0]) for c in parts),
        seconds=round(min(sounds[c.id].seconds for c in parts), 2),
        split=parts[0].split,
        licence=" + ".join(sorted({c.licence for c in parts})),
    )


def mixed(waves: Mapping[str, Wave], rate: int) -> tuple[dict[str, Wave], dict[str, float]]:
    """Sounds of one length as stems that may be added up, and the gain of each in dB.

    Each is brought to the mean of their loudnesses, then all are turned down alike until the sum's peak is 0.9.
    Raises ValueError for a silent one.
    """
    levels = {name: level(wave, rate) for name, wave in waves.items()}
    if silent := [name for name, value in levels.items() if not np.isfinite(value)]:
        raise ValueError(f"{silent[0]}: is silent over the length of the scene; nothing could be left out")
    target = float(np.mean(list(levels.values())))
    stems = {name: wave * np.float32(10 ** ((target - levels[name]) / 20)) for name, wave in waves.items()}
    peak = max(float(np.abs(s).max()) for s in (*stems.values(), total(stems)))
    down = min(1.0, PEAK / peak)
    gains = {name: target - levels[name] + 20 * float(np.log10(down)) for name in waves}
    return {name: stem * np.float32(down) for name, stem in stems.items()}, gains


def total(stems: Mapping[str, Wave]) -> Wave:
    """The sum of the stems, in their order."""
    out: Wave = np.zeros_like(next(iter(stems.values())))
    for stem in stems.values():
        out = out + stem
    return out


def side_by_side(pictures: Sequence[Frames]) -> Frames:
    """Square pictures in a row, [time, side, n * side, 3], as long as the shortest."""
    count = min(map(len, pictures))
    return np.concatenate([p[:count] for p in pictures], axis=2)


def write(scene: Scene, out: Path, stems: Path, *, side: int = SIDE) -> Made:
    """Make a scene: the clip ``out`` and ``stems``/<class>.wav (float32), and measure the clip as written.

    Raises MediaError where a part cannot be read, or the written sound is not the sum of the stems to -60 dB.
    """
    count = int(scene.seconds * FPS)
    length = count / FPS
    pictures, waves = [], {}
    for part in scene.parts:
        found = media.probe(part.path)
        if found.picture is None or found.sound is None:
            raise MediaError(f"{part.path}: has no {'pictures' if found.picture is None else 'sound track'}")
        view = View(fps=FPS, size=cover(found.picture.height, found.picture.width, side), rate=RATE)
        # Not cut to the scene's length here: a crop that ends within a frame of the end may be a frame short.
        one = media.load(part.path, view, start=part.start, end=part.end)
        assert one.frames is not None
        assert one.wave is not None
        pictures.append(centre(one.frames, side))
        waves[part.what] = _fitted(one.wave, round(length * RATE))
    made, gains = mixed(waves, RATE)
    frames = side_by_side(pictures)[:count]
    if len(frames) < count:
        frames = np.concatenate([frames, np.repeat(frames[-1:], count - len(frames), axis=0)])
    stems.mkdir(parents=True, exist_ok=True)
    for name, wave in made.items():
        scipy.io.wavfile.write(stems / f"{name}.wav", RATE, wave[0])
    part_file = out.with_name(f".{out.stem}.unverified{out.suffix}")
    try:
        media.write_clip(frames, FPS, total(made), RATE, part_file)
        got = media.load_native(part_file).wave
        assert got is not None
        residual = without_stem(made, scene.parts[0].what, got)[1]
        if residual > EXACT:
            raise MediaError(
                f"{out}: its sound is {residual:.0f} dB from the sum of its stems, wanted {EXACT:.0f} dB"
            )
        part_file.replace(out)
    finally:
        part_file.unlink(missing_ok=True)
    return Made(seconds=length, gains_db={k: round(v, 2) for k, v in gains.items()}, residual_db=round(residual, 1))


def _fitted(wave: Wave, samples: int) -> Wave:
    kept = wave[:, :samples]
    return np.pad(kept, ((0, 0), (0, samples - kept.shape[1])))
