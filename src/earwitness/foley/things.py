"""How each thing looks and moves: one drawing function a class, in a square of local coordinates about [-1, 1].

A :class:`Pose` says where in its doing a thing is; every field is [frames, 1, 1]. ``hit`` jumps to 1 at an event
and fades; ``on`` is 1 while the sound lasts; ``lift`` is how far a striker is raised: 0 at the very
instant of an event. A drawing depends on the pose alone, so equal poses are drawn once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from earwitness.foley.brush import Canvas, Field, box, capsule, circle, ellipse, shade, turn, wedge

DARK = (0.10, 0.10, 0.13)
WHITE = (0.97, 0.97, 0.95)
WOOD = (0.80, 0.60, 0.36)


@dataclass(frozen=True)
class Pose:
    """Where in its doing a thing is, frame by frame."""

    hit: Field  # 1 at an event, fading to 0
    on: Field  # 1 while it sounds
    lift: Field  # 1 = striker raised, 0 = it touches
    since: Field  # seconds since the last event, at most 2; 2 before the first
    count: Field  # events so far

    @property
    def side(self) -> Field:
        """+1 and -1 by turns, event by event."""
        return np.asarray(1 - 2 * (self.count % 2), np.float32)


def _mallet(c: Canvas, u: Field, v: Field, p: Pose, at: tuple[float, float], head: float = 0.17) -> None:
    """A beater on a stick whose head meets ``at`` from the upper right."""
    x, y = at[0] + head * 0.8 + 0.26 * p.lift, at[1] - head * 0.6 - 0.46 * p.lift
    c.paint(capsule(u, v, x, y, x + 0.34, y - 0.19, 0.05), WOOD)
    c.paint(circle(u, v, x, y, head), (0.93, 0.93, 0.90))
    c.paint(circle(u, v, x - 0.04, y - 0.05, head * 0.45), (1.0, 1.0, 1.0), 0.6, 0.05)


def bell(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A golden hand bell, struck by a mallet."""
    a = 0.26 * np.sin(2 * np.pi * 1.7 * p.since) * np.exp(-2.2 * p.since)
    x, y = turn(u, v, 0.0, -0.85, a)
    gold = (1.0, 0.74, 0.10)
    lit = np.asarray(0.86 + 0.34 * p.hit - 0.28 * x, np.float32)
    c.paint(circle(x, y, 0.06, 1.52, 0.17), (0.45, 0.28, 0.05))
    c.paint(np.abs(circle(x, y, 0.0, 0.06, 0.14)) - 0.05, shade(gold, 0.7))
    s = np.clip((y - 0.15) / 1.2, 0, 1)
    wide = 0.34 + 0.20 * s + 0.22 * s**6 - 0.22 * (1 - s) ** 6
    c.paint(np.maximum((np.abs(x) - wide) * 0.9, np.abs(y - 0.75) - 0.62), shade(gold, lit))
    c.paint(capsule(x, y, -0.70, 1.38, 0.70, 1.38, 0.10), shade(gold, np.asarray(lit * 0.9)))
    c.paint(capsule(x, y, -0.22, 0.45, -0.32, 1.12, 0.05), (1, 0.95, 0.7), 0.75, 0.08)
    c.paint(capsule(x, y, -0.56, 1.22, 0.56, 1.22, 0.025), shade(gold, 0.6))
    _mallet(c, u, v, p, (0.55, 0.05))


def drum(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A red drum with two sticks that beat by turns."""
    red = (0.86, 0.08, 0.10)
    round_ = np.asarray(1.08 - 0.45 * u * u, np.float32)
    c.paint(np.minimum(box(u, v, 0, 0.30, 0.82, 0.42), ellipse(u, v, 0, 0.72, 0.82, 0.22)), shade(red, round_))
    for k in range(-3, 4):  # lacing
        x = 0.26 * k
        c.paint(capsule(u, v, x - 0.13, 0.84 - 0.05 * abs(k), x, 0.10 + 0.02 * abs(k), 0.022), (1, 0.86, 0.5))
        c.paint(capsule(u, v, x, 0.10 + 0.02 * abs(k), x + 0.13, 0.84 - 0.05 * abs(k), 0.022), (1, 0.86, 0.5))
    c.paint(ellipse(u, v, 0, -0.10, 0.86, 0.27), shade(red, 0.55))
    c.paint(ellipse(u, v, 0, -0.13, 0.78, 0.22), shade((0.95, 0.90, 0.80), 0.86 + 0.14 * p.hit))
    ring = np.abs(
        ellipse(u, v, 0, -0.13, 0.15 + 0.6 * np.minimum(p.since * 3, 1), 0.05 + 0.16 * np.minimum(p.since * 3, 1))
    )
    c.paint(ring - 0.02, (0.6, 0.5, 0.4), p.hit * 0.7)
    for s in (-1.0, 1.0):
        up = np.where(p.side == s, p.lift, np.minimum(1.0, 0.55 + 0.45 * p.lift))
        x, y = s * 0.16, -0.16 - 0.55 * up
        c.paint(capsule(u, v, x, y, s * 0.90, y - 0.52, 0.055), WOOD)
        c.paint(circle(u, v, x, y, 0.085), shade(WOOD, 1.15))


def bird(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A turquoise bird on a twig; its beak opens while it calls."""
    blue, belly = (0.05, 0.78, 0.85), (0.75, 0.97, 0.97)
    c.paint(capsule(u, v, -1.0, 0.83, 1.0, 0.78, 0.07), (0.42, 0.28, 0.17))
    for x in (-0.10, 0.14):
        c.paint(capsule(u, v, x, 0.45, x, 0.78, 0.035), (0.9, 0.5, 0.1))
    v = v + 0.10 * p.hit
    c.paint(wedge(u, v, [(-1.05, 0.02), (-0.35, 0.0), (-0.25, 0.35), (-1.0, 0.28)]), shade(blue, 0.7))
    c.paint(ellipse(u, v, 0.0, 0.18, 0.58, 0.44), shade(blue, np.asarray(1.05 - 0.3 * v, np.float32)))
    c.paint(ellipse(u, v, 0.20, 0.30, 0.32, 0.28), belly, 0.85, 0.1)
    gape = 0.20 * p.on
    for s in (-1.0, 1.0):
        y = -0.36 + s * 0.02
        tip = y + s * (0.05 + gape)
        c.paint(
            wedge(u, v, [(0.62, y - 0.07 + 0.04 * s), (1.05, tip), (0.62, y + 0.07 + 0.04 * s)]), (1.0, 0.66, 0.05)
        )
    c.paint(circle(u, v, 0.40, -0.36, 0.36), shade(blue, np.asarray(1.0 - 0.3 * v, np.float32)))
    c.paint(circle(u, v, 0.50, -0.44, 0.105), WHITE)
    c.paint(circle(u, v, 0.53, -0.44, 0.06), DARK)
    wx, wy = turn(u, v, 0.10, 0.02, -0.9 * p.on * (0.5 + 0.5 * np.cos(2 * np.pi * 7.87 * p.since)))
    c.paint(ellipse(wx, wy, -0.34, 0.08, 0.42, 0.20), shade(blue, 0.62))


def siren(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A deep blue beacon on a black base; it flashes and throws light while it wails."""
    blue = (0.06, 0.16, 1.0)
    flash = p.on * (0.55 + 0.45 * np.cos(2 * np.pi * 5 * p.since))
    r2 = u * u + (v - 0.0) ** 2
    c.glow(np.asarray(flash * 0.75 * np.exp(-1.7 * r2), np.float32), (0.15, 0.30, 1.0))
    for k in range(5):
        a = np.pi * (0.1 + 0.2 * k)
        du, dv = math.cos(a), -math.sin(a)
        c.paint(
            capsule(u, v, 0.80 * du, 0.1 + 0.95 * dv, 1.08 * du, 0.1 + 1.28 * dv, 0.05), (0.75, 0.85, 1.0), p.on
        )
    dome = np.maximum(np.minimum(circle(u, v, 0, 0.0, 0.62), box(u, v, 0, 0.3, 0.62, 0.3)), v - 0.55)
    c.paint(dome, shade(blue, np.asarray(0.62 + 0.5 * flash - 0.2 * u, np.float32)))
    c.paint(ellipse(u, v, 0.0, 0.12, 0.26, 0.36), (0.80, 0.90, 1.0), np.asarray(0.15 + 0.85 * flash), 0.35)
    c.paint(capsule(u, v, -0.36, -0.22, -0.44, 0.20, 0.05), (0.85, 0.92, 1.0), 0.6, 0.08)
    c.paint(box(u, v, 0, 0.68, 0.80, 0.20, 0.06), DARK)
    c.paint(box(u, v, 0, 0.56, 0.72, 0.05, 0.02), (0.45, 0.46, 0.5))


def horn(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """An orange bulb horn; the black bulb is squeezed while it honks."""
    orange = (1.0, 0.42, 0.03)
    squeeze = 0.13 * p.on
    c.paint(ellipse(u, v, -0.72, 0.30, 0.34 - 0.3 * squeeze, 0.34 - squeeze), (0.13, 0.12, 0.14))
    c.paint(ellipse(u, v, -0.80, 0.18, 0.12, 0.08), (0.6, 0.6, 0.65), 0.7, 0.1)
    lit = np.asarray(1.0 + 0.22 * p.on - 0.35 * v, np.float32)
    c.paint(capsule(u, v, -0.45, 0.24, 0.1, 0.05, 0.11), shade(orange, lit))
    x, y = turn(u, v, -0.05, 0.10, -0.32)
    s = np.clip(x / 0.95, 0, 1)
    wide = 0.11 + 0.12 * s + 0.46 * s**3
    c.paint(np.maximum((np.abs(y) - wide) * 0.7, np.abs(x - 0.47) - 0.5), shade(orange, lit))
    c.paint(ellipse(x, y, 0.96, 0, 0.19, 0.72), shade(orange, 1.12))
    c.paint(ellipse(x, y, 0.98, 0, 0.12, 0.58), (0.36, 0.10, 0.0))
    c.paint(capsule(x, y, 0.1, -0.10, 0.55, -0.16, 0.03), (1, 0.85, 0.6), 0.7, 0.06)
    for k in range(3):
        a = -0.42 + 0.42 * k
        x0, y0 = 1.16 * math.cos(a), 1.16 * math.sin(a)
        c.paint(capsule(x, y, x0 + 0.05, y0 * 0.75, x0 * 1.18 + 0.08, y0 * 0.95, 0.045), WHITE, p.on)


def clock(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A white wall clock with a pendulum; the hand jumps and the pendulum is at its end at each tick."""
    swing = 0.42 * p.side * np.cos(np.pi * np.clip(p.since / 0.36, 0, 1))
    x, y = turn(u, v, 0.0, 0.2, -swing)
    c.paint(capsule(x, y, 0, 0, 0, 0.85, 0.04), (0.55, 0.42, 0.25))
    c.paint(circle(x, y, 0, 0.85, 0.17), (0.90, 0.75, 0.35))
    c.paint(circle(u, v, 0, -0.22, 0.80), (0.12, 0.13, 0.20))
    c.paint(circle(u, v, 0, -0.22, 0.69), shade(WHITE, 0.93 + 0.07 * p.hit))
    for k in range(12):
        a = np.pi * k / 6
        s, t = math.sin(a), -math.cos(a)
        r = 0.035 if k % 3 else 0.06
        c.paint(capsule(u, v, 0.56 * s, -0.22 + 0.56 * t, 0.60 * s, -0.22 + 0.60 * t, r), DARK)
    c.paint(capsule(u, v, 0, -0.22, -0.26, -0.42, 0.06), DARK)
    c.paint(capsule(u, v, 0, -0.22, 0.16, -0.66, 0.045), DARK)
    hand = np.asarray(np.pi / 6 * p.count + 1.2, np.float32)
    c.paint(capsule(u, v, 0, -0.22, 0.54 * np.sin(hand), -0.22 - 0.54 * np.cos(hand), 0.03), (0.9, 0.1, 0.1))
    c.paint(circle(u, v, 0, -0.22, 0.075), (0.9, 0.1, 0.1))


def guitar(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A brown guitar; a white pick strikes its strings, which shake."""
    brown = (0.58, 0.26, 0.07)
    x, y = turn(u, v, -0.12, 0.15, 0.32)
    body = np.minimum(ellipse(x, y, 0, 0.48, 0.58, 0.48), ellipse(x, y, 0, -0.10, 0.43, 0.38))
    c.paint(body - 0.05, (0.26, 0.10, 0.02))
    c.paint(body, shade(brown, np.asarray(1.12 + 0.25 * p.hit - 0.35 * x - 0.25 * y, np.float32)))
    c.paint(circle(x, y, 0, 0.12, 0.24), (0.85, 0.65, 0.35))
    c.paint(circle(x, y, 0, 0.12, 0.19), (0.07, 0.04, 0.03))
    c.paint(box(x, y, 0, -0.68, 0.10, 0.62), (0.20, 0.11, 0.06))
    c.paint(box(x, y, 0, -1.27, 0.16, 0.16, 0.05), (0.20, 0.11, 0.06))
    c.paint(box(x, y, 0, 0.62, 0.26, 0.05, 0.02), (0.12, 0.06, 0.03))
    for k in range(3):
        shake = (
            0.05 * p.hit * np.sin(2 * np.pi * 11 * p.since + 1.2) * np.sin(np.pi * np.clip((y + 1.2) / 1.8, 0, 1))
        )
        x0 = x - 0.06 * (k - 1) - shake
        c.paint(box(x0, y, 0, -0.30, 0.013, 0.92), (0.98, 0.93, 0.75), 0.95)
    px, py = 0.06 + 0.36 * p.lift, 0.28 - 0.30 * p.lift
    c.paint(wedge(x, y, [(px, py), (px + 0.10, py - 0.34), (px + 0.34, py - 0.14)]) - 0.03, (0.98, 0.98, 0.98))


def whistle(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A pink referee's whistle; it shakes and its pea whirls while it blows."""
    pink = (0.98, 0.16, 0.58)
    u = u - 0.04 * p.on * np.cos(2 * np.pi * 9 * p.since)
    lit = np.asarray(1.0 + 0.15 * p.on - 0.3 * v, np.float32)
    c.paint(np.abs(circle(u, v, 0.98, 0.20, 0.14)) - 0.045, (0.75, 0.75, 0.80))
    c.paint(box(u, v, -0.38, -0.22, 0.64, 0.20, 0.05), shade(pink, lit))
    c.paint(circle(u, v, 0.32, 0.14, 0.56), shade(pink, lit))
    c.paint(wedge(u, v, [(-0.22, -0.44), (0.12, -0.44), (0.02, -0.10), (-0.16, -0.10)]), (0.25, 0.02, 0.14))
    c.paint(circle(u, v, 0.32, 0.14, 0.34), (0.42, 0.03, 0.24))
    a = np.asarray(2 * np.pi * 3.2 * p.since * p.on + 1.9, np.float32)
    c.paint(circle(u, v, 0.32 + 0.17 * np.cos(a), 0.14 + 0.17 * np.sin(a), 0.14), (1.0, 0.92, 0.75))
    c.paint(capsule(u, v, -0.92, -0.34, -0.35, -0.34, 0.03), (1, 0.8, 0.9), 0.7, 0.06)
    for k in range(3):
        x = -0.26 + 0.20 * k
        c.paint(capsule(u, v, x, -0.62, x + 0.14 * (k - 1), -0.92, 0.045), WHITE, p.on)


def frog(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A green frog whose pale throat swells while it croaks."""
    green = (0.16, 0.68, 0.12)
    v = v + 0.05 * p.hit
    for s in (-1.0, 1.0):
        c.paint(ellipse(u, v, s * 0.66, 0.52, 0.32, 0.30), shade(green, 0.72))
        c.paint(ellipse(u, v, s * 0.72, 0.80, 0.30, 0.09), shade(green, 0.62))
    c.paint(ellipse(u, v, 0, 0.30, 0.66, 0.56), shade(green, 0.9))
    c.paint(ellipse(u, v, 0, -0.18, 0.74, 0.46), shade(green, np.asarray(1.05 - 0.4 * v, np.float32)))
    c.paint(ellipse(u, v, 0, 0.34 + 0.10 * p.on, 0.42 + 0.26 * p.on, 0.16 + 0.28 * p.on), (0.90, 0.95, 0.55))
    for s in (-1.0, 1.0):
        c.paint(circle(u, v, s * 0.42, -0.56, 0.25), shade(green, 1.1))
        c.paint(circle(u, v, s * 0.42, -0.58, 0.17), WHITE)
        c.paint(ellipse(u, v, s * 0.42, -0.57, 0.07, 0.12), DARK)
    c.paint(np.maximum(np.abs(ellipse(u, v, 0, -0.22, 0.52, 0.30)) - 0.03, -v - 0.12), (0.05, 0.25, 0.05))


def phone(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A violet desk telephone with a dial; its handset jumps while it rings."""
    violet = (0.52, 0.20, 0.88)
    body = wedge(u, v, [(-0.46, -0.22), (0.46, -0.22), (0.80, 0.72), (-0.80, 0.72)]) - 0.08
    c.paint(body, shade(violet, np.asarray(0.95 - 0.25 * v, np.float32)))
    c.paint(circle(u, v, 0, 0.27, 0.40), (0.94, 0.92, 0.98))
    for k in range(8):
        a = 0.6 + 2 * np.pi * k / 10
        c.paint(circle(u, v, 0.28 * math.cos(a), 0.27 + 0.28 * math.sin(a), 0.065), shade(violet, 0.55))
    c.paint(circle(u, v, 0, 0.27, 0.14), shade(violet, 0.9))
    x, y = turn(u, v, 0.0, -0.42 - 0.22 * p.on, 0.16 * p.on * np.cos(2 * np.pi * 6 * p.since))
    lit = np.asarray(0.80 + 0.25 * p.on - 0.3 * y, np.float32)
    bow = np.maximum(np.maximum(np.abs(circle(x, y, 0, 0.75, 0.98)) - 0.13, np.abs(x) - 0.72), y - 0.4)
    c.paint(bow, shade(violet, lit))
    for s in (-1.0, 1.0):
        c.paint(box(x, y, s * 0.68, 0.12, 0.22, 0.20, 0.08), shade(violet, lit))
        for k in range(2):
            r = 0.20 + 0.16 * k
            c.paint(capsule(u, v, s * (0.86 + r), -0.78, s * (0.92 + r), -0.42, 0.04), (1.0, 0.95, 0.5), p.on)


def hammer(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A steel hammer that strikes sparks from an anvil."""
    steel, iron = (0.76, 0.80, 0.84), (0.17, 0.18, 0.21)
    c.paint(wedge(u, v, [(-0.85, 0.36), (0.55, 0.36), (0.30, 0.60), (-0.60, 0.60)]), iron)
    c.paint(box(u, v, -0.15, 0.66, 0.30, 0.16), shade(iron, 0.85))
    c.paint(box(u, v, -0.15, 0.86, 0.55, 0.10, 0.03), iron)
    c.paint(capsule(u, v, -0.80, 0.385, 0.50, 0.385, 0.035), (0.62, 0.65, 0.70))
    x, y = turn(u, v, 0.92, 0.0, 0.85 * p.lift)
    c.paint(capsule(x, y, -1.05, 0.0, 0.10, 0.06, 0.105), (0.90, 0.64, 0.30))
    c.paint(box(x, y, -1.18, 0.02, 0.22, 0.36, 0.06), shade(steel, np.asarray(1.05 - 0.5 * (x + 1.18), np.float32)))
    c.paint(box(x, y, -1.18, 0.32, 0.25, 0.07, 0.02), shade(steel, 0.75))
    for k in range(6):
        a = np.pi * (1.08 + 0.17 * k)
        r = 0.30 + 0.9 * np.minimum(p.since, 0.5)
        dx, dy = math.cos(a), math.sin(a)
        x0, y0 = -0.27 + r * dx * 1.2, 0.34 + r * dy
        c.paint(capsule(u, v, x0, y0, x0 + 0.16 * dx, y0 + 0.16 * dy, 0.04), (1.0, 0.95, 0.55), p.hit)


def bee(c: Canvas, u: Field, v: Field, p: Pose) -> None:
    """A yellow and black striped bee; it rises and its white wings beat while it buzzes."""
    yellow, black = (1.0, 0.92, 0.08), (0.06, 0.05, 0.04)
    up = np.clip(1.6 - 2.3 * p.since, 0, 1)  # it jumps up at the event and sinks while it buzzes
    u = u - 0.10 * up * np.sin(2 * np.pi * 2.3 * p.since)
    v = v + 0.24 * up - 0.12
    beat = p.on * np.cos(2 * np.pi * 9 * p.since)
    for s, alpha in ((0.30, 0.75), (-0.12, 0.9)):
        x, y = turn(u, v, 0.02 + 0.2 * s, -0.30, -0.55 + s + 0.42 * beat + 0.7 * (p.on - 1))
        c.paint(ellipse(x, y, 0, -0.42, 0.24, 0.46), (0.92, 0.96, 1.0), alpha)
    body = ellipse(u, v, 0, 0.12, 0.78, 0.48)
    c.paint(wedge(u, v, [(-1.0, 0.16), (-0.70, 0.04), (-0.70, 0.26)]), black)
    c.paint(body, shade(yellow, np.asarray(1.06 - 0.25 * v, np.float32)))
    for band in (-0.46, -0.10, 0.26):
        c.paint(np.maximum(body, np.abs(u - band + 0.05 * v * v) - 0.10), black)
    c.paint(circle(u, v, 0.66, 0.06, 0.31), black)
    c.paint(circle(u, v, 0.76, -0.02, 0.10), WHITE)
    c.paint(circle(u, v, 0.79, -0.02, 0.05), DARK)
    c.paint(capsule(u, v, 0.68, -0.20, 0.88, -0.46, 0.03), black)
    c.paint(capsule(u, v, 0.80, -0.16, 1.04, -0.36, 0.03), black)


DRAW: dict[str, Callable[[Canvas, Field, Field, Pose], None]] = {
    "bell": bell, "drum": drum, "bird": bird, "siren": siren, "horn": horn, "clock": clock,
    "guitar": guitar, "whistle": whistle, "frog": frog, "phone": phone, "hammer": hammer, "bee": bee,
}  # fmt: skip
