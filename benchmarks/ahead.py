"""How much faster does a stage of training learn when other processes read ahead of it?

    python benchmarks/ahead.py [--clips 300] [--steps 40] [--readers 1]

Hans, our recipe, supervised rows on procedural clips in their first epoch (each medium is new): decoded,
intervened and sent through the towers by the learning process itself, or by readers. Prints seconds of the clock
and of the learning process's CPU from the first step to the last. On a machine that does nothing else the clock's
ratio is what a user gets; on a shared one the CPU says what readers take off the learning. Losses must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch

from earwitness.align import recipes, training
from earwitness.audit.workers import Recipe as ToLoad
from earwitness.models.load import load_model
from earwitness.session import training_data


def learn(recipe: recipes.Recipe, data: Path, out: Path, readers: int) -> tuple[float, float, list[float]]:
    """Seconds of the clock and of this process's CPU after the first step, and all losses."""
    begun: list[tuple[float, float]] = []

    def progress(*_: object) -> None:
        if not begun:
            begun.append((time.perf_counter(), time.process_time()))

    model = load_model("hans")
    load = ToLoad("hans", {}, model.revision)
    training.align(recipe, data, model, out, readers=readers, load=load, progress=progress)  # type: ignore[arg-type]
    wall, cpu = time.perf_counter() - begun[0][0], time.process_time() - begun[0][1]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return wall, cpu, [line["loss"] for line in log if "loss" in line]


def main(argv: list[str] | None = None) -> int:
    """Print the table; 1 where losses differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--readers", type=int, default=1)
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    training_data.from_clips(
        "foley", folder / "set", limit=given.clips, seed=480, mixture="hans", valid=0.1, against=[], command=""
    )
    recipe = recipes.named("hans-sft", steps=given.steps, validation=0)
    print(f"{given.steps} steps of {recipe.batch} rows, {os.cpu_count()} cores, one thread")
    print("| readers | clock, s | against none | CPU of the learning process, s | against none |\n|" + "---|" * 5)
    found = {n: learn(recipe, folder / "set", folder / str(n), n) for n in (0, given.readers)}
    for n, (wall, cpu, _) in found.items():
        print(f"| {n} | {wall:.1f} | {found[0][0] / wall:.2f} x | {cpu:.1f} | {found[0][1] / cpu:.2f} x |")
    gap = max(abs(a - b) for a, b in zip(found[0][2], found[given.readers][2], strict=True))
    print(f"largest difference of a loss: {gap:.1e}")
    return int(gap > 1e-5)


if __name__ == "__main__":
    raise SystemExit(main())
