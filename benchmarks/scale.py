"""Does an audit of 10,000 clips cost what ten audits of 1,000 clips cost, and how much memory does it take?

For each number of clips, in a process of its own: plan MMA-Bench's seven conditions x two questions on procedural
clips (2 s, 112 x 112), print the plan as ``--dry-run`` does, ask a model that costs nothing (``fake:hears``), score
and make the tables. What is measured is everything around a model: clips made, conditions made, hashes, answers
written, tables counted. Time is CPU time (of the workers, too), which other processes on the machine change little.
Peak memory is that of the whole process up to the end of each step; the media that passed through are counted
beside it, to show that they do not stay.

    python benchmarks/scale.py [--clips 1000,2500,5000,10000] [--words 10000] [--workers 1]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
MOST_GROWTH = 1.25  # CPU time a clip at the most clips against the fewest: above it is no longer linear


def main() -> int:
    """Measure each size; 1 where the cost a clip grows by more than a quarter."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", default="250,500,1000")
    parser.add_argument("--words", type=int, default=10_000, help="of the long-context condition")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--one", type=int, help="measure this number of clips here, print JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.words, given.workers)))
        return 0
    rows = []
    for n in (int(word) for word in given.clips.split(",")):
        sizes = ["--one", str(n), "--words", str(given.words), "--workers", str(given.workers)]
        done = subprocess.run([sys.executable, __file__, *sizes], stdout=subprocess.PIPE, check=True)
        rows.append(json.loads(done.stdout))
        print(_line(rows[-1]), flush=True)
    steps = [name for name in rows[0] if name.endswith("_s")]
    print("\nCPU ms a clip " + "".join(f"{row['clips']:>10,}" for row in rows))
    for name in steps:
        print(f"{name[:-2]:14}" + "".join(f"{1e3 * row[name] / row['clips']:10.2f}" for row in rows))
    print("\npeak MB after " + "".join(f"{row['clips']:>10,}" for row in rows))
    for name in [name for name in rows[0] if name.endswith("_mb")]:
        print(f"{name[:-3]:14}" + "".join(f"{row[name]:10,.0f}" for row in rows))
    growth = (rows[-1]["all_s"] / rows[-1]["clips"]) / (rows[0]["all_s"] / rows[0]["clips"])
    print(f"\na clip costs {growth:.2f} times as much among the most as among the fewest (target {MOST_GROWTH:g})")
    return int(growth > MOST_GROWTH)


def measure(n: int, words: int, workers: int) -> dict[str, Any]:
    """Seconds and peak memory (MB) of each step of one audit of n clips."""
    from earwitness import audit, foley, protocols
    from earwitness import run as runs
    from earwitness.audit.workers import Recipe, ask_many
    from earwitness.models.load import load_model
    from earwitness.records import Judged
    from earwitness.scoring import score

    out: dict[str, Any] = {"clips": n, "workers": workers}
    start = time.perf_counter()

    def step(name: str, do: Callable[[], T]) -> T:
        begin = _burnt()
        made = do()
        out[f"{name}_s"] = _burnt() - begin
        out[f"{name}_mb"] = _peak()
        return made

    out["start_mb"] = _peak()
    model, mma = load_model("fake:hears"), protocols.load("mma")
    settings = protocols.Settings(seeds=(0,), mma_styles=("standard",), long_context_tokens=words)
    clips = step("clips", lambda: foley.clip_set(n, seed=5, duration=2.0))
    items = step("items", lambda: mma.items(clips.clips, settings))
    plan = step("plan", lambda: audit.priced(audit.plan(items), items, clips, model))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        step("write", lambda: runs.write_lines(folder / "items.jsonl", items))

        def ask() -> dict[str, float]:
            if workers > 1:
                return ask_many(Recipe("fake:hears"), clips, items, folder, workers=workers)
            return audit.ask(model, clips, items, folder)

        counts = step("ask", ask)
        answers = step("read", lambda: runs.read_answers(folder))
        judged = step("score", lambda: [Judged(i, answers[i.id], score(i, answers[i.id])) for i in items])
        tables = step("tables", lambda: mma.tables(judged))
        out["items_file_mb"], out["answers_file_mb"] = (
            (folder / f).stat().st_size / 1e6 for f in ("items.jsonl", "answers.jsonl")
        )
    media = clips.media(clips.clips[0], model.view)
    assert media.frames is not None
    assert media.wave is not None
    passed = plan.media * (media.frames.nbytes + media.wave.nbytes) / 1e6
    spent = [value for name, value in out.items() if name.endswith("_s")]
    right = sum(j.score.correct is True for j in judged)
    out |= {"items": len(items), "decodes": counts["decodes"], "tables": len(tables), "right": right}
    return out | {"media_passed_mb": passed, "all_s": sum(spent), "wall": time.perf_counter() - start}


def _burnt() -> float:
    """CPU seconds of this process and of the workers that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _peak() -> float:
    """Peak resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['clips']:>7,} clips {row['items']:>8,} items ({row['right']:,} right) {row['wall']:7.1f} s wall, "
        f"{row['all_s']:7.1f} s CPU: {row['items'] / row['all_s']:5.0f} items a second and core; "
        f"{row['decodes']:,.0f} decodes"
    )


if __name__ == "__main__":
    raise SystemExit(main())
