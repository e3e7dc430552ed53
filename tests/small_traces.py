"""A traced run without a model: real items on procedural clips, attention drawn around planted effects.

Planted: on aligned clips the log ratio of attention on video and audio is 1.5 higher in layer ``MOVED`` when asked
about the picture, in head ``HEAD`` alone 3.75, and nowhere else; on swapped clips nothing moves. Options part at
layer ``PARTED``: before, the one heard is favoured, from there on the one seen. A tampered sound adds 0.2 to the
entropy of the last layer.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

import small_runs
from earwitness import run as runs
from earwitness.questions import clean
from earwitness.records import Item
from earwitness.whitebox import store
from earwitness.whitebox.moments import GROUPS, About, Captured

LAYERS, HEADS, MOVED, HEAD, PARTED = 6, 4, 3, 1, 4
ABOUT = About(model="rule", revision="1", plan="p")
COUNT = np.array([1, 12, 9, 0, 30, 4, 64, 100, 2])


def _drawn(*parts: str) -> np.random.Generator:
    """Chance that hangs on these names alone."""
    return np.random.default_rng(int(hashlib.sha256("|".join(parts).encode()).hexdigest()[:8], 16))


def captured(
    item: Item, answer: str = "a b c", *, aligned: float = 1.5, swapped: float = 0.0, noise: float = 0.5
) -> Captured:
    """One item: three answer rows; the clip's own leaning is the same under both prompts."""
    own = _drawn(item.clip)
    rng = _drawn(item.clip, item.condition, item.question, item.style, str(item.seed))
    logits = np.zeros((LAYERS, HEADS, 3, len(GROUPS)))
    logits[..., 0] = 3.0
    video, audio = GROUPS.index("video"), GROUPS.index("audio")
    logits[..., video] += own.normal(0, 0.5, (LAYERS, HEADS, 1)) + rng.normal(0, noise, (LAYERS, HEADS, 1))
    if item.question == "visual":
        move = aligned if item.condition == "aligned" else swapped
        logits[MOVED, :, :, video] += move
        logits[MOVED, HEAD, :, video] += 1.5 * move
    logits[..., COUNT == 0] = -np.inf
    logits[..., 0, GROUPS.index("generated")] = -np.inf
    weights = np.exp(logits)
    if item.intervention.kind == "no_track":
        weights[..., audio] = 0
    mass = weights / weights.sum(-1, keepdims=True)
    count = np.where(np.arange(len(GROUPS)) == audio, 0, COUNT) if item.intervention.kind == "no_track" else COUNT
    entropy = np.full((LAYERS, 3), 0.5) + rng.normal(0, 0.01, (LAYERS, 3))
    if item.intervention.kind in ("mute", "swap"):
        entropy[-1] += 0.2
    sign = np.where(np.arange(LAYERS) >= PARTED, 1.0, -1.0)
    seen, heard = {clean(n) for n in item.seen}, {clean(n) for n in item.heard}
    gap = {c: sign * ((clean(c) in seen) - (clean(c) in heard)) + rng.normal(0, 0.2, LAYERS) for c in item.choices}
    groups = np.repeat(np.arange(len(GROUPS)), count).astype(np.int8)
    seconds = np.full(len(groups), np.nan)
    seconds[groups == video] = np.repeat(np.arange(4.0), 16)
    seconds[groups == audio] = np.arange((groups == audio).sum()) / 25
    words = tuple("" if g in (video, audio) else f" {GROUPS[g]}{n}" for n, g in enumerate(groups))
    rows = np.stack([mass[2].mean(0)[:, g] / max(count[g], 1) for g in groups], -1)
    return Captured(
        item=item.id,
        answer=answer,
        tokens=("a", " b", " c"),
        count=count,
        mass=mass.astype(np.float32),
        mass2=(mass**2 / np.maximum(count, 1)).astype(np.float32),
        value=mass.astype(np.float32) * 2,
        entropy=entropy.astype(np.float32),
        u_top10=entropy.astype(np.float32),
        kl=entropy.astype(np.float32),
        logp_answer=-entropy.astype(np.float32),
        logp_choice={c: (-3 + g).astype(np.float32) for c, g in gap.items()},
        words=words,
        groups=groups,
        seconds=seconds.astype(np.float32),
        kept={2: rows.astype(np.float32)},
    )


def write(folder: Path, n: int = 12, **planted: float) -> Path:
    """A run folder with its trace, in two parts; all of MMA-Bench's items that were answered."""
    small_runs.write(folder, n, ("mma",))
    answers = runs.read_answers(folder)
    items = [i for i in runs.read_items(folder) if answers[i.id].text is not None]
    made = [captured(i, str(answers[i.id].text), **planted) for i in items]
    store.append(folder, made[: len(made) // 2], ABOUT)
    store.append(folder, made[len(made) // 2 :], ABOUT)
    return folder
