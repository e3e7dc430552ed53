"""A small training set on procedural clips, made by hand: MMA's two questions, a wrong option rejected."""

from __future__ import annotations

from pathlib import Path

from earwitness.align.pairs import training_set
from earwitness.datasets.opening import open_clips
from earwitness.protocols import mma
from earwitness.protocols.settings import Settings
from earwitness.records import Pair, View

CLIPS, SEED = 20, 700


def pairs(n: int = CLIPS) -> list[Pair]:
    """Pairs on aligned and swapped clips, both questions."""
    clips = open_clips("foley", limit=n, seed=SEED).clips
    settings = Settings(seeds=(0,), mma_conditions=("aligned", "audio_swapped"), mma_styles=("standard",))
    return [
        Pair(
            id=i.id,
            item=i,
            chosen=i.target,
            rejected=next(c for c in i.choices if c != i.target),
            part=f"mma-{i.question}",
            reference=f"I hear a {i.heard[0]}.",
        )
        for i in mma.items(clips, settings)
        if i.target is not None
    ]


def write(folder: Path, n: int = CLIPS) -> Path:
    """The folder; a quarter of the sources to validate on."""
    made = pairs(n)
    sources = sorted({p.item.source for p in made})
    kept = set(sources[: len(sources) // 4])
    valid = [p for p in made if {p.item.source, *p.item.linked} <= kept]
    train = [p for p in made if not {p.item.source, *p.item.linked} & kept]
    info = training_set.Info(
        sources=(training_set.Source(clips="foley", limit=n, seed=SEED),), mixture="by hand", seed=0,
        view=View(size=(56, 56)),
    )  # fmt: skip
    training_set.write(folder, training_set.TrainingSet(info, tuple(train), tuple(valid)))
    return folder
