"""The audit loop against the plain way, on MMA-Bench's conditions x 2 questions x 3 seeds: same answers, how fast?

Plain: one processor call and one ``generate`` per item, as evaluation harnesses do. Ours: each frame stack and
each wave through its tower once, each prompt's media part prefilled once, questions decoded in batches. Both get
their clips from the same loop (each clip made once, conditions from memory), which favours the plain way, and
neither scores choices unless said. CPU time is compared: another process on the machine changes it little. The
model is Hans where its weights are in the package, else a random thinker of the same architecture.

    python benchmarks/audit_loop.py [--clips 4] [--words 400] [--threads 1]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from earwitness import audit, foley, protocols
from earwitness import run as runs
from earwitness.models.load import HANS
from earwitness.models.qwen_omni import QwenOmni
from earwitness.records import Answer, ClipSet, Item

TARGET = 4.0


def main() -> int:
    """Run both ways and print the ratio; 1 where answers differ or the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--words", type=int, default=400, help="of the long-context condition (the paper: 10,000)")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as temporary:
        model = _model(Path(temporary))
        clips = foley.clip_set(given.clips, seed=77)
        settings = protocols.Settings(mma_styles=("standard",), long_context_tokens=given.words)
        items = protocols.load("mma").items(clips.clips, settings)
        print(f"{model.name}: {len(items)} items on {given.clips} clips, {given.threads} thread(s)")
        plain = QwenOmni(model.thinker, name=model.name, plain=True, logprobs=False)
        _warm(model, plain, clips, items)
        scored = QwenOmni(model.thinker, name=model.name)
        ways = {"plain way": plain, "audit loop": model, "  + choice log-probs": scored}
        answers: dict[str, dict[str, Answer]] = {}
        wall, cpu = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
        for name, way in ways.items():
            folder = Path(temporary) / way_folder(name)
            folder.mkdir()
            start, burnt = time.perf_counter(), time.process_time()
            audit.ask(way, clips, items, folder)
            wall[name], cpu[name] = time.perf_counter() - start, time.process_time() - burnt
            answers[name] = runs.read_answers(folder)
    for name in ways:
        ratio = "" if way_folder(name) == "plain" else f"   {cpu['plain way'] / cpu[name]:5.1f} x less CPU time"
        each = 1e3 * cpu[name] / len(items)
        print(f"{name:20} {wall[name]:7.2f} s wall {cpu[name]:7.2f} s CPU {each:7.1f} ms an item{ratio}")
    ours, theirs = answers["audit loop"], answers["plain way"]
    differ = [i for i in items if (ours[i.id].text, ours[i.id].fed) != (theirs[i.id].text, theirs[i.id].fed)]
    for item in differ[:5]:
        print(f"DIFFERENT {item.condition} {item.question}: {ours[item.id]} against {theirs[item.id]}")
    print(f"same answers and receipts: {len(items) - len(differ)} of {len(items)}; target: {TARGET:g} x")
    return int(bool(differ) or cpu["plain way"] / cpu["audit loop"] < TARGET)


def way_folder(name: str) -> str:
    """A folder's name for a way of asking: its first word, or "log-probs"."""
    return name.split()[-1] if name.startswith(" ") else name.split()[0]


def _model(folder: Path) -> QwenOmni:
    if (HANS / "config.json").is_file():
        return QwenOmni(HANS, name="hans", logprobs=False)
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import tiny_thinkers

    tiny_thinkers.save("qwen2.5-omni", folder / "tiny", view={"view": {"fps": 2.0, "size": [112, 112]}})
    return QwenOmni(folder / "tiny", name="random Qwen2.5-Omni thinker", logprobs=False)


def _warm(model: QwenOmni, plain: QwenOmni, clips: ClipSet, items: list[Item]) -> None:
    """First calls allocate and compile: both ways get theirs before the clock starts; caches are emptied."""
    media = clips.media(clips.clips[0], model.view)
    for way in (model, plain):
        way.answer(items[:2], [media, media])
    model.forget()


if __name__ == "__main__":
    raise SystemExit(main())
