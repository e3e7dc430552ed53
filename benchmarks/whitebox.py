"""What does looking inside cost? Capture, knockout and lens against the plain pass, in one run.

The text layers of a random Qwen2.5-Omni thinker with the proportions of a 0.5B model (fewer layers: each costs the
same) read random embeddings: no tower and no output matrix dilutes what is measured. Each way runs in turn, several
times; the first round is not counted. CPU time on one thread is compared, two ways: the median ratio of a pass to
the plain pass of its round, and, since neighbours on the machine move that by more than a per cent, the share of a
pass that was spent in our own code, by a clock inside: pass / (pass - inside). The targets hold for the second.

Memory is the highest sum of live tensors above the weights. The peer's way is eager attention with
``output_attentions=True``, at a length where it fits. Then Hans is traced, towers and lens and all.

    python benchmarks/whitebox.py [--tokens 2048] [--layers 4] [--rounds 5] [--clips 100]
"""

from __future__ import annotations

import argparse
import statistics
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from earwitness import foley, protocols
from earwitness.models import torchvision_ops  # noqa: F401 - before transformers
from earwitness.models.load import load_model
from earwitness.models.qwen_omni import QwenOmni
from earwitness.whitebox import capture as captures
from earwitness.whitebox import lens
from earwitness.whitebox.capture import Edit, capture, probe
from earwitness.whitebox.moments import GROUPS

TARGETS = {"capture, last row": 1.01, "capture, 32 rows": 1.05, "knockout, last row": 1.02}
MEMORY = 1.02
HANS_SECONDS = 120.0  # 100 clips x 2 prompts
VOCABULARY = 152_064
OURS = ((captures, "_read"), (captures, "_edited"), (lens, "read"))


class Live(TorchDispatchMode):
    """Bytes of tensors alive that were made since it began, and the most there were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._see((args, kwargs), new=False)  # weights, and what came in: outputs may be views of them
        out = func(*args, **(kwargs or {}))
        self._see(out, new=True)
        return out

    def _see(self, tensors: Any, new: bool) -> None:
        for leaf in tree_leaves(tensors):
            storage = leaf.untyped_storage() if isinstance(leaf, torch.Tensor) else None
            if storage is None or id(storage) in self._known:
                continue
            key, size = id(storage), storage.nbytes() if new else 0
            self._known.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@contextmanager
def inside() -> Iterator[list[float]]:
    """CPU seconds spent in our own code while the context lasts, as the sum of the list."""
    spent: list[float] = []
    real = {(module, name): getattr(module, name) for module, name in OURS}

    def timed(work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            begun = time.process_time()
            try:
                return work(*args)
            finally:
                spent.append(time.process_time() - begun)

        return run

    try:
        for (module, name), work in real.items():
            setattr(module, name, timed(work))
        yield spent
    finally:
        for (module, name), work in real.items():
            setattr(module, name, work)


def decoder_of(layers: int, attention: str = "sdpa") -> Any:
    """Text layers as wide as a 0.5B model's: 896 wide, 14 heads on 2 key heads, 4,864 in between."""
    from transformers.models.qwen2_5_omni import configuration_qwen2_5_omni as configs
    from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as code

    torch.manual_seed(0)
    config = configs.Qwen2_5OmniTextConfig(
        vocab_size=64, hidden_size=896, intermediate_size=4864, num_hidden_layers=layers, num_attention_heads=14,
        num_key_value_heads=2, max_position_embeddings=32768, attn_implementation=attention,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]},
    )  # fmt: skip
    return code.Qwen2_5OmniThinkerTextModel(config).eval()


def grouped(tokens: int) -> torch.Tensor:
    """Groups as in a prompt on a clip: media first, in chunks, then 200 tokens of text."""
    out = torch.full((1, tokens), GROUPS.index("instruction"))
    media = torch.arange(10, tokens - 200)
    out[0, 10 : tokens - 200] = torch.where(
        media % 140 < 90, torch.tensor(GROUPS.index("video")), torch.tensor(GROUPS.index("audio"))
    )
    out[0, 0], out[0, 1:10] = GROUPS.index("sink"), GROUPS.index("template")
    return out


def compare(tokens: int, layers: int, rounds: int) -> bool:
    """Time and memory of each way against the plain pass; whether the targets are met."""
    decoder, groups = decoder_of(layers), grouped(tokens)
    embeds = torch.randn(1, tokens, 896)
    head = torch.nn.Linear(896, VOCABULARY, bias=False)
    last = torch.arange(tokens) == tokens - 1
    cut = {n: [Edit(last, groups == GROUPS.index("audio"))] for n in range(layers)}

    def run() -> None:
        decoder(inputs_embeds=embeds, use_cache=False)

    def captured(rows: int, **how: Any) -> None:
        with probe(decoder, groups, tokens - rows, **how):
            run()

    def lensed() -> None:
        with lens.states(decoder, tokens - 1) as kept:
            run()
        lens.read(decoder, head, kept, torch.zeros(1, 1, 1, dtype=torch.long))

    ways: dict[str, Callable[[], None]] = {
        "plain": run,
        "capture, last row": lambda: captured(1),
        "capture, 32 rows": lambda: captured(32),
        "  with value norms": lambda: captured(32, values=True),
        "  with rows kept": lambda: captured(32, keep=range(layers)),
        "knockout, last row": lambda: _knocked(decoder, cut, run),
        "lens, last row": lensed,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    shares: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways)
    with torch.no_grad():
        for number in range(rounds + 1):
            for name in order if number % 2 else reversed(order):
                with inside() as spent:
                    begun = time.process_time()
                    ways[name]()
                    took = time.process_time() - begun
                if number:
                    seconds[name].append(took)
                    shares[name].append(took / (took - sum(spent)))
        most = {name: _most(work) for name, work in ways.items()}
    print(f"{tokens} tokens, {layers} layers, {rounds} rounds, 1 thread")
    good = True
    for name in ways:
        whole = statistics.median(a / b for a, b in zip(seconds[name], seconds["plain"], strict=True))
        own, memory = statistics.median(shares[name]), most[name] / most["plain"]
        goal, verdict = TARGETS.get(name), ""
        if goal is not None:
            met = own <= goal and memory <= MEMORY
            good, verdict = good and met, f"   target {goal:g}, memory {MEMORY:g}: {'met' if met else 'MISSED'}"
        print(
            f"{name:20} {statistics.median(seconds[name]):7.2f} s  pass {whole:6.3f} x  inside {own:7.4f} x  "
            f"memory {most[name] / 1e6:7.1f} MB {memory:6.3f} x{verdict}"
        )
    return good


def _knocked(decoder: Any, cut: captures.Bias, run: Callable[[], None]) -> None:
    with probe(decoder, None, 0, cut):
        run()


def _most(work: Callable[[], Any]) -> int:
    with Live() as live:
        work()
    return live.most


def peer(tokens: int, layers: int, rounds: int) -> None:
    """Eager attention that hands out all its weights, against the same pass captured."""
    fused, eager, groups = decoder_of(layers), decoder_of(layers, "eager"), grouped(tokens)
    embeds = torch.randn(1, tokens, 896)

    def ours() -> None:
        with probe(fused, groups, tokens - 32):
            fused(inputs_embeds=embeds, use_cache=False)

    def theirs() -> None:
        eager(inputs_embeds=embeds, use_cache=False, output_attentions=True)

    took: dict[str, list[float]] = {"ours": [], "theirs": []}
    with torch.no_grad():
        for number in range(rounds + 1):
            for name, work in (("ours", ours), ("theirs", theirs)):
                begun = time.process_time()
                work()
                if number:
                    took[name].append(time.process_time() - begun)
        memory = _most(theirs) / _most(ours)
    times = statistics.median(took["theirs"]) / statistics.median(took["ours"])
    what = f"eager with all weights, {tokens} tokens, {layers} layers"
    print(f"{what}: {times:.1f} x the time, {memory:.1f} x the memory of 32 rows captured")


def hans(clips: int) -> bool:
    """Trace clips x MMA's two prompts, towers, lens and all; whether 100 clips fit the target."""
    model = load_model("hans")
    assert isinstance(model, QwenOmni)
    made = foley.clip_set(clips, seed=77)
    settings = protocols.Settings(mma_styles=("standard",))
    items = [
        i for i in protocols.load("mma").items(made.clips, settings) if i.condition == "aligned" and i.seed == 0
    ]
    begun = time.perf_counter()
    media = {c.id: made.media(c, model.view) for c in made.clips}
    fed = [media[i.clip] for i in items]
    ready = time.perf_counter()
    answers = [a.text or "" for a in model.answer(items, fed)]
    asked = time.perf_counter()
    model.forget()
    out = capture(model, items, fed, answers)
    done = time.perf_counter()
    per_hundred = (done - asked) / len(items) * 200
    print(
        f"Hans: {len(out)} items on {clips} clips: clips made {ready - begun:.1f} s, asked {asked - ready:.1f} s, "
        f"traced {done - asked:.1f} s; 100 clips x 2 prompts {per_hundred:.1f} s, target {HANS_SECONDS:g} s"
    )
    return per_hundred < HANS_SECONDS


def main() -> int:
    """Print the comparison; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=100)
    given = parser.parse_args()
    torch.set_num_threads(1)
    good = compare(given.tokens, given.layers, given.rounds)
    peer(min(1024, given.tokens), given.layers, 2)
    return int(not (hans(given.clips) and good))


if __name__ == "__main__":
    raise SystemExit(main())
