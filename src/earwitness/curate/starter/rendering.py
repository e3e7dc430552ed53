"""A photo that moves with a sound: it comes nearer and gets lighter as that gets louder, and hops as it starts.

Per frame, with e the envelope in [0, 1] and k a kick that every onset sets off,

    k(t) = sum_i exp(-(t - t_i) / 0.15 s) cos(2 pi 3 Hz (t - t_i)),   t >= t_i

the view (a square of the photo) is narrowed by 14 % of e, moved up by 4 % of k and turned lighter by 22 % of e.
By kind of motion: *zoom* narrows by more, *hop* kicks by more, *shake* also trembles sideways at 9 Hz by 2 % of e.
While it is silent, only a slow drift is left (3 % of the view over the clip), which tells nothing of the sound.

Clips of one photo differ in view, direction of drift and side (mirrored or not).

Functions: ``opened`` (a photo or a cut-out as a square), ``frames``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from earwitness.curate.starter.sounding import FPS
from earwitness.curate.starter.table import Motion
from earwitness.records import Frames, digest

SIDE = 336  # pixels: 24 patches of 14
ROOM = 1.12  # the square that is kept, beside the view: room to move in
MARGIN = 1.2  # around a cut-out
LARGEST = 40_000_000  # pixels of a photo that is opened
NARROW = {"zoom": 0.18, "hop": 0.12, "shake": 0.14}
KICK = {"zoom": 0.03, "hop": 0.06, "shake": 0.04}


def opened(raw: bytes, crop: tuple[int, int, int] | None) -> Image.Image:
    """The part of a photo that a clip shows, square, RGB, 420 pixels a side. A cut-out gets a plain ground.

    Raises ValueError for what is no picture, or a crop outside of it.
    """
    try:
        found = Image.open(io.BytesIO(raw))
        if found.width * found.height > LARGEST:
            raise ValueError(f"is {found.width} x {found.height}: too large a picture")
        found.load()
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"is no picture that can be opened: {error}") from error
    clear = "A" in found.getbands() and int(np.asarray(found.convert("RGBA"))[..., 3].min()) < 250
    if clear:
        whole = _grounded(found.convert("RGBA"), digest(raw))
    else:
        whole = ImageOps.exif_transpose(found).convert("RGB")
    side = min(whole.size)
    x, y, side = crop or ((whole.width - side) // 2, (whole.height - side) // 2, side)
    if x < 0 or y < 0 or side < 16 or x + side > whole.width or y + side > whole.height:
        raise ValueError(f"crop {x},{y},{side} is outside of a picture of {whole.width} x {whole.height}")
    kept = round(SIDE * ROOM)
    return whole.crop((x, y, x + side, y + side)).resize((kept, kept), Image.Resampling.LANCZOS)


def _grounded(cut: Image.Image, key: str) -> Image.Image:
    """A cut-out before a plain wall over a plain floor, of soft colours drawn by its bytes."""
    dice = np.random.default_rng(int(key, 16))
    side = round(max(cut.size) * MARGIN)
    height = np.linspace(0, 1, side)[:, None, None]
    tint = dice.uniform(-14, 14, size=(2, 3))
    wall, floor = 214 - 26 * height + tint[0], 176 - 40 * (height - 0.72) + tint[1]
    blend = np.clip((height - 0.70) / 0.06, 0, 1)
    ground = np.broadcast_to(wall * (1 - blend) + floor * blend, (side, side, 3))
    out = Image.fromarray(np.ascontiguousarray(np.clip(ground, 0, 255).astype(np.uint8))).convert("RGBA")
    out.alpha_composite(cut, ((side - cut.width) // 2, max(0, round(0.93 * side) - cut.height)))
    return out.convert("RGB")


def frames(
    picture: Image.Image, curve: NDArray[np.float64], onsets: Sequence[float], motion: Motion, number: int,
    key: str, *, every: int = 1,
) -> Frames:  # fmt: skip
    """The frames of clip ``number`` of a picture, [time, 336, 336, 3], 25 a second, one for each value in
    ``curve``.

    ``every``: only each so many-th of them, where a glance is enough.
    """
    dice = np.random.default_rng(int(digest("view", key, number), 16))
    shown = ImageOps.mirror(picture) if number % 2 else picture
    base = shown.width / ROOM * float(dice.uniform(0.99, 1.05))  # the view at rest, in pixels of the picture
    slack = (shown.width - base) / 2
    place = slack * dice.uniform(-0.5, 0.5, size=2)
    angle = float(dice.uniform(0, 2 * np.pi))
    times = (np.arange(len(curve)) + 0.5) / FPS
    kick = np.zeros(len(curve))
    for onset in onsets:
        since = times - onset + 0.5 / FPS  # the frame on show as it starts already moves
        live = since >= 0
        kick[live] += np.exp(-since[live] / 0.15) * np.cos(2 * np.pi * 3 * since[live])
    kick = np.clip(kick, -1.5, 1.5)
    moments = list(zip(times, curve, kick, strict=True))[::every]
    out = np.empty((len(moments), SIDE, SIDE, 3), dtype=np.uint8)
    for n, (t, e, k) in enumerate(moments):
        side = base * (1 - NARROW[motion] * e)
        drift = 0.03 * base * (t / times[-1] - 0.5)
        x = shown.width / 2 + place[0] + drift * np.cos(angle)
        y = shown.height / 2 + place[1] + drift * np.sin(angle) + KICK[motion] * base * k
        if motion == "shake":
            x += 0.02 * base * e * np.sin(2 * np.pi * 9 * t)
        half = side / 2
        x, y = (float(np.clip(v, half, shown.width - half)) for v in (x, y))
        view = shown.transform(
            (SIDE, SIDE),
            Image.Transform.EXTENT,
            (x - half, y - half, x + half, y + half),
            Image.Resampling.BILINEAR,
        )
        light = 1 + 0.22 * e
        out[n] = np.minimum(np.asarray(view, dtype=np.float32) * np.float32(light), 255).astype(np.uint8)
    return out
