"""What happens in a procedural clip: which things, where, when. No pixels and no samples here.

A :class:`Scene` is the exact truth of a clip. It follows from its recipe alone (every draw comes from a generator
seeded by the recipe's text) and knows nothing of frame rates, picture sizes or sample rates: the same scene may be
looked at through any :class:`~earwitness.records.View`.

Recipes are one line: ``foley:natural/easy/2/4.0/seed=17`` or, with named classes,
``foley:impact/easy/1/6.0/seed=3/classes=drum``. :func:`parse` reads back what :attr:`Scene.recipe` writes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal, get_args

import msgspec
import numpy as np

Kind = Literal["natural", "impact"]
Difficulty = Literal["easy", "medium", "hard"]

CLASSES: tuple[str, ...] = (
    "bell", "drum", "bird", "siren", "horn", "clock", "guitar", "whistle", "frog", "phone", "hammer", "bee",
)  # fmt: skip
IMPACTS: tuple[str, ...] = ("bell", "drum", "guitar", "hammer")  # struck at one visible instant

# Seconds from one sounding to the next, and how long each sounding lasts to the eye (beak open, lamp lit).
PERIOD = {
    "bell": 0.95, "drum": 0.50, "bird": 0.70, "siren": 1.00, "horn": 0.85, "clock": 0.36, "guitar": 0.62,
    "whistle": 0.95, "frog": 0.72, "phone": 0.90, "hammer": 0.55, "bee": 0.85,
}  # fmt: skip
LENGTH = {
    "bell": 0.50, "drum": 0.15, "bird": 0.38, "siren": 0.80, "horn": 0.50, "clock": 0.06, "guitar": 0.40,
    "whistle": 0.65, "frog": 0.40, "phone": 0.60, "hammer": 0.12, "bee": 0.70,
}  # fmt: skip

LONGEST = 600.0  # seconds; a guard against milliseconds
EDGE = 0.6  # seconds an impact keeps from both edges, where there is room for it


class Source(msgspec.Struct, frozen=True):
    """One sounding thing: what it is, its place from the left (0 .. sources - 1), and when it sounds (seconds)."""

    what: str
    slot: int
    times: tuple[float, ...]
    scale: float  # size against its slot
    nudge: tuple[float, float]  # offset in its slot, in slot sizes
    hue: float  # small turn of its colours, in [-1, 1]
    pitch: float  # factor on its frequencies
    level: float  # peak of its stem


class Scene(msgspec.Struct, frozen=True):
    """The whole truth of a procedural clip; make one with :func:`scene` or :func:`parse`."""

    seed: int
    kind: Kind
    difficulty: Difficulty
    duration: float
    asked: tuple[str, ...]  # the classes it was restricted to; () = all
    sources: tuple[Source, ...]  # the main one first

    @property
    def recipe(self) -> str:
        """One line from which :func:`parse` makes this scene again."""
        head = f"foley:{self.kind}/{self.difficulty}/{len(self.sources)}/{self.duration!r}/seed={self.seed}"
        return head + (f"/classes={'+'.join(self.asked)}" if self.asked else "")

    @property
    def names(self) -> tuple[str, ...]:
        """The classes in the scene, the main one first."""
        return tuple(s.what for s in self.sources)


def generator(scene: Scene, what: str) -> np.random.Generator:
    """The scene's own random numbers for one purpose: same recipe and purpose, same numbers, on any machine."""
    return _generator(f"{scene.recipe}|{what}")


def _generator(text: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little"))


def scene(
    seed: int,
    *,
    kind: Kind = "natural",
    sources: int = 1,
    classes: Sequence[str] | None = None,
    difficulty: Difficulty = "easy",
    duration: float | None = None,
) -> Scene:
    """Lay out a clip: one to three different sounding things side by side, and when each is seen and heard.

    Parameters
    ----------
    seed : the clip; other seeds give other classes, places, colours, pitches and times.
    kind : "natural" things sound again and again through the clip; an "impact" happens once, at a sharp visible
        moment that lies anywhere, 0.6 s from both edges: were it always in the middle, the ear alone could tell
        a moved sound.
    sources : 1, 2 or 3 (an impact has 1).
    classes : what to draw from, without repeats; exactly ``sources`` names are all taken, the main one first.
    duration : seconds; 4.0 (natural) or 6.0 (impact) unless given.

    Raises ValueError on unknown classes, kinds and difficulties, and on durations that are no clip.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"foley.scene: kind {kind!r} is not one of {', '.join(get_args(Kind))}")
    if difficulty not in get_args(Difficulty):
        raise ValueError(f"foley.scene: difficulty {difficulty!r} is not one of {', '.join(get_args(Difficulty))}")
    if duration is None:
        duration = 4.0 if kind == "natural" else 6.0
    duration = float(duration)
    if not (math.isfinite(duration) and 0.1 <= duration <= LONGEST):
        raise ValueError(
            f"foley.scene: a duration of {duration} s is not within 0.1 to {LONGEST:.0f} s "
            "(did you pass milliseconds?)"
        )
    asked = () if classes is None else tuple(classes)
    if isinstance(classes, str):
        raise ValueError(
            f"foley.scene: classes is a sequence of names, got the text {classes!r}: write ({classes!r},)"
        )
    pool = asked or (IMPACTS if kind == "impact" else CLASSES)
    if unknown := [c for c in pool if c not in CLASSES]:
        raise ValueError(f"foley.scene: unknown classes {', '.join(unknown)}; there are {', '.join(CLASSES)}")
    if len(set(pool)) < len(pool):
        raise ValueError(f"foley.scene: classes repeat in {pool}: each thing can be in a scene once")
    if kind == "impact" and (soft := [c for c in pool if c not in IMPACTS]):
        raise ValueError(f"foley.scene: {', '.join(soft)} makes no sharp impact; these do: {', '.join(IMPACTS)}")
    most = 1 if kind == "impact" else min(3, len(pool))
    if not 1 <= sources <= most:
        raise ValueError(f"foley.scene: {sources} sources do not fit a scene of kind {kind!r} here: 1 to {most} do")

    rng = _generator(f"{kind}/{difficulty}/{sources}/{duration!r}/{seed}/{'+'.join(asked)}|layout")
    order = range(len(pool)) if len(pool) == sources else rng.permutation(len(pool))[:sources]
    slots = rng.permutation(sources)
    small = {"easy": (0.90, 1.0), "medium": (0.78, 0.92), "hard": (0.62, 0.78)}[difficulty]
    things = []
    for i, k in enumerate(order):
        what = pool[int(k)]
        times = _impact(rng, duration) if kind == "impact" else _soundings(rng, PERIOD[what], duration)
        things.append(
            Source(
                what=what,
                slot=int(slots[i]),
                times=times,
                scale=float(rng.uniform(*small)),
                nudge=(float(rng.uniform(-0.08, 0.08)), float(rng.uniform(-0.03, 0.03))),
                hue=float(rng.uniform(-1, 1)),
                pitch=float(2 ** rng.uniform(-0.09, 0.09)),
                level=float(rng.uniform(0.62, 0.9)) / sources,
            )
        )
    return Scene(int(seed), kind, difficulty, duration, asked, tuple(things))


def _soundings(rng: np.random.Generator, period: float, duration: float) -> tuple[float, ...]:
    """Times to the millisecond of a thing that sounds again and again, the first soon after the start."""
    period *= float(rng.uniform(0.92, 1.08))
    t = float(rng.uniform(0.06, 0.30)) * min(1.0, duration / 2)
    times: list[float] = []
    while not times or t < duration - 0.2:
        times.append(round(t, 3))
        t += period * float(rng.uniform(0.97, 1.03))
    return tuple(times)


def _impact(rng: np.random.Generator, duration: float) -> tuple[float, ...]:
    room = max(duration / 2 - EDGE, 0.02 * duration)
    return (round(duration / 2 + float(rng.uniform(-room, room)), 3),)


def parse(recipe: str) -> Scene:
    """The scene of a recipe line, e.g. ``foley:natural/easy/2/4.0/seed=17``; ValueError says what is wrong."""
    wrong = (
        f"foley.parse: {recipe!r} is no recipe; one reads foley:natural/easy/2/4.0/seed=17 "
        "(kind/difficulty/sources/seconds/seed=N, then perhaps /classes=bell+drum)"
    )
    head, _, rest = recipe.partition(":")
    parts = rest.split("/")
    if head != "foley" or len(parts) not in (5, 6) or not parts[4].startswith("seed="):
        raise ValueError(wrong)
    if len(parts) == 6 and not parts[5].startswith("classes="):
        raise ValueError(wrong)
    try:
        sources, duration, seed = int(parts[2]), float(parts[3]), int(parts[4][5:])
    except ValueError:
        raise ValueError(wrong) from None
    classes = tuple(parts[5][8:].split("+")) if len(parts) == 6 else None
    return scene(
        seed,
        kind=parts[0],  # type: ignore[arg-type]  # scene() checks it
        sources=sources,
        classes=classes,
        difficulty=parts[1],  # type: ignore[arg-type]
        duration=duration,
    )
