"""What each process holds of a thinker in training: the whole model (DDP) beside layers in shards (--shard).

Counted, not timed: the thinkers at their published sizes are made without memory for their weights, laid by
``sharding.shard`` over so many processes as torch pretends there are, and what the first of them holds is added up.
Weights in bfloat16, an adapter in float32; what learns with its gradient and Adam's two moments. Not in it:
activations, the features of media, a batch's logits, and what the allocator keeps.

"gathered" is the largest part that is whole for as long as it computes. "while loading": each process holds the
whole model once before it is laid.

    python benchmarks/shards.py                     # LoRA of rank 16 on all linear layers of the text
    python benchmarks/shards.py --trains text       # all of the text model learns
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

sys.path.insert(0, str(Path(__file__).parent))


import full_size
from earwitness.align import forward, recipes, sharding, trainers

GIB = 2**30
LEARNING = 4  # what learns is there four times: weight, gradient and Adam's two moments


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=tuple(full_size.TEXT), default=list(full_size.TEXT))
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--trains", choices=("lora", "text"), default="lora")
    given = parser.parse_args(argv)
    recipe = recipes.named("comm-warmup", trains=given.trains)
    print(f"torch {torch.__version__}; {given.trains}; GiB a process")
    print(" size  processes   whole  shards  ratio  gathered  while loading")
    for size in given.sizes:
        for processes in given.processes:
            distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
            model = learning(size, recipe)
            thinker = forward.inner(model)
            loading = sum(p.numel() for p in thinker.parameters()) * 2 / GIB
            whole = held(model)
            parts = (*thinker.model.language_model.layers, thinker.get_output_embeddings())
            gathered = max(sum(p.numel() * p.element_size() for p in part.parameters()) for part in parts) / GIB
            sharding.shard(model, init_device_mesh("cpu", (processes,)))
            print(
                f"{size:>5} {processes:>10} {whole:>7.1f} {held(model):>7.1f} {whole / held(model):>6.1f} "
                f"{gathered:>9.2f} {loading:>14.1f}",
                flush=True,
            )
            distributed.destroy_process_group()
    return 0


def learning(size: str, recipe: recipes.Recipe) -> Any:
    """A thinker of that size with what the recipe lets learn, without memory for its weights."""
    model = full_size.bare(size, "meta", torch.bfloat16)
    trainers.freeze(recipe, model)
    adapter = trainers.adapter(recipe, model)
    if adapter is None:
        return model
    from peft import get_peft_model  # after what loads torchvision's stand-in

    with torch.device("meta"), trainers.calm():
        return get_peft_model(model, adapter)


def held(model: Any) -> float:
    """GiB of weights and of what learning needs beside them, in this process."""
    total = 0
    for p in model.parameters():
        own = p.to_local() if hasattr(p, "to_local") else p
        total += own.numel() * own.element_size() * (LEARNING if p.requires_grad else 1)
    return total / GIB


if __name__ == "__main__":
    sys.exit(main())
