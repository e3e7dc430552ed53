"""What a scene looks like: frames at the instants i / fps, of any size.

Things stand side by side before a plain, graded or patterned wall. Everything lies in fractions of the picture, so
a square and a wide view show the same scene. Only what moves is drawn again, and equal poses are drawn once.
"""

from __future__ import annotations

import colorsys
import math

import numpy as np

from earwitness.foley.brush import Canvas, Field, box, circle, wedge
from earwitness.foley.scenes import LENGTH, PERIOD, Scene, Source, generator
from earwitness.foley.things import DRAW, Pose
from earwitness.records import Frames, Times, View

REACH = 1.42  # how far from its centre a drawing may paint, in local units
CHUNK = 60_000  # pixels drawn at a time: small enough for the cache
DEFAULT_SIZE = (360, 640)
MOST = 4_000_000_000  # bytes of frames in one piece


def size_of(view: View) -> tuple[int, int]:
    """(height, width) of the frames: as asked, else 360 x 640 or the largest even 16:9 under the pixel cap."""
    if view.size is not None:
        h, w = view.size
        if min(h, w) < 4 or max(h, w) > 8192:
            raise ValueError(f"foley: frames of {h} x {w} pixels are not within 4 to 8192 a side")
        return h, w
    h, w = DEFAULT_SIZE
    if view.max_pixels is not None and view.max_pixels < h * w:
        if view.max_pixels < 64:
            raise ValueError(f"foley: max_pixels={view.max_pixels} leaves no picture (64 at least)")
        h = max(2 * int(math.sqrt(view.max_pixels * 9 / 16) / 2), 4)
        w = max(2 * int(view.max_pixels / h / 2), 4)
    return h, w


def times_of(scene: Scene, fps: float) -> Times:
    """When the frames are: i / fps for every i before the end (one at least)."""
    if not (math.isfinite(fps) and 0 < fps <= 240):
        raise ValueError(f"foley: {fps} frames a second is not within 0 to 240")
    return np.arange(max(1, math.ceil(scene.duration * fps - 1e-6))) / fps


def frames(scene: Scene, view: View) -> tuple[Frames, Times]:
    """The scene through a view: uint8 [frames, height, width, 3] and their times."""
    times = times_of(scene, view.fps)
    return draw(scene, size_of(view), times), times


def draw(scene: Scene, size: tuple[int, int], times: Times) -> Frames:
    """The picture at each of any instants, uint8 [times, height, width, 3]."""
    h, w = size
    if (total := len(times) * h * w * 3) > MOST:
        raise ValueError(
            f"foley: {len(times)} frames of {h} x {w} pixels are {total / 1e9:.1f} GB: "
            "ask for fewer frames a second, smaller ones, or a shorter scene"
        )
    ground = _background(scene, h, w)
    places = [_place(scene, s, h, w) for s in scene.sources]
    for x, y, r in places:
        _shadow(ground, x, y, r)
    out = np.empty((len(times), h, w, 3), np.uint8)
    out[:] = _bytes(ground[:, None])[0]
    for source, (x, y, r) in zip(scene.sources, places, strict=True):
        _put(out, ground, scene, source, times, x, y, r)
    return out


def _bytes(rgb: Field) -> Frames:
    """[3, frames, h, w] in [0, 1] -> uint8 [frames, h, w, 3]."""
    return np.moveaxis(np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8), 0, -1)


def _place(scene: Scene, s: Source, h: int, w: int) -> tuple[float, float, float]:
    """Centre and unit length of a thing, in pixels."""
    k = len(scene.sources)
    slot = float(h) if k == 1 else min(0.88 * h, 1.12 * w / k)
    slot = min(slot, 1.12 * w)  # upright pictures
    r = 0.40 * slot * s.scale
    x = w * (s.slot + 0.5) / k + s.nudge[0] * slot * (1.0 if k == 1 else 0.3)
    y = h * 0.53 + s.nudge[1] * slot
    return x, y, r


def _grid(h: int, w: int) -> tuple[Field, Field]:
    return np.arange(w, dtype=np.float32) + np.float32(0.5), (np.arange(h, dtype=np.float32) + np.float32(0.5))[
        :, None
    ]


def _background(scene: Scene, h: int, w: int) -> Field:
    """Wall and floor, [3, height, width] in [0, 1]."""
    rng = generator(scene, "background")
    hue, grey = rng.uniform(0, 1), rng.uniform(0.30, 0.62)
    x, y = _grid(h, w)
    x, y = x / w, y / h
    wall = np.array(colorsys.hsv_to_rgb(hue, 0.16, grey), np.float32)
    floor = np.array(colorsys.hsv_to_rgb((hue + 0.08) % 1, 0.22, grey * 0.72), np.float32)
    light = 1.10 - 0.22 * y - 0.25 * (x - 0.5) ** 2
    edge = np.clip((y - 0.80) * h + 0.5, 0, 1)
    rgb = (wall[:, None, None] * light * (1 - edge) + floor[:, None, None] * (1.15 - 0.3 * (1 - y)) * edge).astype(
        np.float32
    )
    amount = {"easy": 0.0, "medium": 0.03, "hard": 0.11}[scene.difficulty]
    count = {"easy": 0, "medium": 3, "hard": 9}[scene.difficulty]
    if amount:
        a, b = rng.uniform(-40, 40, (2, 10)).astype(np.float32)
        at = rng.uniform(0, 6.28, 10).astype(np.float32)
        wave = sum(np.sin(p * x + q * y + r) for p, q, r in zip(a, b, at, strict=True))
        rgb *= 1 + np.float32(amount / 2) * np.asarray(wave, np.float32)
    canvas = Canvas(rgb[:, None], 1.0 / min(h, w))
    px, py = (x * np.float32(w / min(h, w)))[None], (y * np.float32(h / min(h, w)))[None]
    for _ in range(count):  # things that make no sound
        cx, cy = rng.uniform(0, w / min(h, w)), rng.uniform(0, h / min(h, w))
        r, turn, tint = rng.uniform(0.04, 0.10), rng.uniform(0, 6.28), rng.uniform(0.6, 1.35)
        c = colorsys.hsv_to_rgb(rng.uniform(0, 1), 0.30, min(grey * tint, 1.0))
        what = rng.integers(3)
        if what == 0:
            shape = circle(px, py, cx, cy, r)
        elif what == 1:
            shape = box(px, py, cx, cy, r, r * rng.uniform(0.4, 1), 0.01)
        else:
            points = [turn + 2.094 * k for k in range(3)]
            shape = wedge(px, py, [(cx + r * math.cos(p), cy + r * math.sin(p)) for p in points])
        canvas.paint(shape.astype(np.float32), c, 0.85)
    return rgb


def _shadow(rgb: Field, x: float, y: float, r: float) -> None:
    px, py = _grid(*rgb.shape[1:])
    u, v = (px - x) / r, (py - y) / r
    rgb *= 1 - 0.42 * np.exp(-((u / 0.85) ** 4) - ((v - 1.0) / 0.14) ** 2)


def pose(scene: Scene, source: Source, times: Times) -> Pose:
    """How a thing stands at each time, [frames, 1, 1]."""
    events = np.asarray(source.times)
    count = np.searchsorted(events, times + 1e-9, side="right")
    last = np.where(count > 0, events[np.maximum(count - 1, 0)], -np.inf)
    after = np.where(count < len(events), events[np.minimum(count, len(events) - 1)], np.inf)
    since, until = times + 1e-9 - last, after - times
    period = PERIOD[source.what]
    fade = 0.5 if scene.kind == "impact" else 0.16
    hit = np.where(since < 8 * fade, np.exp(-since / fade), 0.0)
    on = (since < LENGTH[source.what] * (2 if scene.kind == "impact" else 1)).astype(float)
    # A striker rises slowly and falls with growing speed; after the last event it rests where it struck.
    rise = np.where(np.isinf(until), 0.0, np.clip((since - 0.04) / (0.45 * period), 0, 1))
    rise = rise * rise * (3 - 2 * rise)
    fall = 1 - (1 - np.clip(until / min(0.16, 0.4 * period), 0, 1)) ** 2
    values = (hit, on, np.minimum(rise, fall), np.minimum(since, 2.0), count)
    return Pose(*(np.asarray(np.round(v, 3), np.float32)[:, None, None] for v in values))


def _put(
    out: Frames, ground: Field, scene: Scene, source: Source, times: Times, x: float, y: float, r: float
) -> None:
    """Draw one thing into all frames. Its neighbours are drawn over ``out`` as they are by then."""
    h, w = out.shape[1:3]
    x0, x1 = max(0, math.floor(x - REACH * r)), min(w, math.ceil(x + REACH * r))
    y0, y1 = max(0, math.floor(y - REACH * r)), min(h, math.ceil(y + REACH * r))
    p = pose(scene, source, times)
    rows = np.concatenate([f.reshape(len(times), 1) for f in (p.hit, p.on, p.lift, p.since, p.count)], 1)
    _, first, back = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    back = back.reshape(-1)
    xs, ys = np.arange(x0, x1, dtype=np.float32), np.arange(y0, y1, dtype=np.float32)
    u = ((xs + np.float32(0.5 - x)) / np.float32(r))[None, None, :]
    v = ((ys + np.float32(0.5 - y)) / np.float32(r))[None, :, None]
    alone = len(scene.sources) == 1
    if not alone:  # neighbours may overlap: every frame has its own ground
        first, back = np.arange(len(times)), np.arange(len(times))
    step = max(1, CHUNK // max(1, (y1 - y0) * (x1 - x0)))
    for k in range(0, len(first), step):
        some = first[k : k + step]
        if alone:
            patch = np.repeat(ground[:, None, y0:y1, x0:x1], len(some), axis=1)
        else:
            patch = np.moveaxis(out[some, y0:y1, x0:x1], -1, 0).astype(np.float32) / np.float32(255)
        now = Pose(*(f[some] for f in (p.hit, p.on, p.lift, p.since, p.count)))
        before = patch.copy()
        canvas = Canvas(patch, 1.0 / r)
        _ring(canvas, u, v, now)
        DRAW[source.what](canvas, u, v, now)
        _tint(patch, before, source.hue)
        drawn = _bytes(patch)
        for j in range(len(some)):
            out[back == k + j, y0:y1, x0:x1] = drawn[j]


def _ring(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A pale ring that runs outwards from each event: the moment itself, made visible."""
    if float(p.hit.max()) > 0.02:
        c.paint(
            np.abs(circle(u, v, 0, 0, 0.80 + 0.55 * np.minimum(p.since * 2.2, 1))) - 0.03, (1, 1, 1), 0.45 * p.hit
        )


def _tint(patch: Field, before: Field, hue: float) -> None:
    """No two bells are quite alike: what was painted is a few per cent redder or bluer, the ground is not."""
    for plane, sign in ((0, 1), (2, -1)):
        patch[plane] += np.float32(sign * 0.06 * hue) * (patch[plane] - before[plane])
