"""Flat shapes with smooth edges, on many frames at once.

A shape is a signed distance (negative inside) over local coordinates ``u`` (right) and ``v`` (down); a
:class:`Canvas` turns it into paint whose edge is one pixel wide at any size. Arrays are [frames, height, width] or
broadcast to it; what moves is [frames, 1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]  # broadcasts to [frames, height, width]
Number = float | Field
Colour = tuple[Number, Number, Number]

LARGE = 30_000  # pixels from which finding a shape's rectangle pays


@dataclass
class Canvas:
    """Where paint goes: ``rgb`` [3, frames, height, width] in [0, 1]; a pixel is ``pixel`` local units wide."""

    rgb: Field
    pixel: float

    def paint(self, distance: Field, colour: Colour, alpha: Number = 1.0, soft: float = 0.0) -> None:
        """Cover the inside of a shape with a colour; ``soft`` blurs its edge by that many local units."""
        wide = np.float32(self.pixel + soft)
        part: tuple[slice, ...] = (slice(None),) * 3
        if distance.size > LARGE:  # blending is most of the work: do it in the shape's own rectangle
            near = np.any(distance < 0.5 * wide, axis=0)
            ys, xs = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
            if not len(ys):
                return
            part = (slice(None), slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
        cover = np.clip(0.5 - distance[part] / wide, 0, 1)
        if not (isinstance(alpha, float) and alpha == 1.0):
            cover = cover * _within(alpha, part)
        for plane, c in zip(self.rgb, colour, strict=True):
            under = plane[part]
            under += cover * (_within(c, part) - under)

    def glow(self, light: Field, colour: Colour) -> None:
        """Add light (the canvas is clipped at the end)."""
        for plane, c in zip(self.rgb, colour, strict=True):
            plane += light * np.asarray(c, np.float32)


def _within(number: Number, part: tuple[slice, ...]) -> Field:
    """The part of what varies over the picture; what does not stays as it is."""
    a = np.asarray(number, np.float32)
    if a.ndim < 3:
        return a
    return a[tuple(slice(None) if n == 1 else s for n, s in zip(a.shape, part, strict=True))]


def shade(colour: tuple[float, float, float], by: Number) -> Colour:
    """A colour made lighter (> 1) or darker (< 1)."""
    r, g, b = colour
    return (r * by, g * by, b * by)


def circle(u: Field, v: Field, x: Number, y: Number, r: Number) -> Field:
    """Distance to a disc's edge."""
    dx, dy = u - x, v - y
    return np.asarray(np.sqrt(dx * dx + dy * dy) - r)


def ellipse(u: Field, v: Field, x: Number, y: Number, a: Number, b: Number) -> Field:
    """About the distance to an ellipse's edge (exact to first order at the edge)."""
    dx, dy = (u - x) / a, (v - y) / b
    k = np.sqrt(dx * dx + dy * dy) + np.float32(1e-6)
    gx, gy = dx / a, dy / b
    return np.asarray((k - 1) * k / (np.sqrt(gx * gx + gy * gy) + np.float32(1e-6)))


def box(u: Field, v: Field, x: Number, y: Number, a: Number, b: Number, r: float = 0.0) -> Field:
    """Distance to a box of half sides ``a``, ``b``, its corners rounded by ``r``."""
    dx, dy = np.abs(u - x) - (a - r), np.abs(v - y) - (b - r)
    ox, oy = np.maximum(dx, 0), np.maximum(dy, 0)
    return np.asarray(np.sqrt(ox * ox + oy * oy) + np.minimum(np.maximum(dx, dy), 0) - r)


def capsule(u: Field, v: Field, x0: Number, y0: Number, x1: Number, y1: Number, r: float) -> Field:
    """Distance to a thick line with round ends."""
    du, dv = u - x0, v - y0
    ex, ey = x1 - x0, y1 - y0
    h = np.clip((du * ex + dv * ey) / (ex * ex + ey * ey + 1e-9), 0, 1)
    dx, dy = du - ex * h, dv - ey * h
    return np.asarray(np.sqrt(dx * dx + dy * dy) - r)


def wedge(u: Field, v: Field, corners: list[tuple[Number, Number]]) -> Field:
    """About the distance to a convex polygon; corners run clockwise as seen (v grows downwards)."""
    out: Field | None = None
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        ex, ey = x1 - x0, y1 - y0
        side = ((u - x0) * ey - (v - y0) * ex) / (ex * ex + ey * ey + 1e-9) ** 0.5
        out = side if out is None else np.maximum(out, side)
    assert out is not None
    return out


def turn(u: Field, v: Field, x: Number, y: Number, angle: Number) -> tuple[Field, Field]:
    """Coordinates in which a thing turned clockwise by ``angle`` rad about (x, y) is upright, that point at 0."""
    a = np.asarray(angle, np.float32)  # a plain float's cosine would turn all that follows into float64
    c, s = np.cos(a), np.sin(a)
    du, dv = u - x, v - y
    return np.asarray(du * c + dv * s), np.asarray(dv * c - du * s)
