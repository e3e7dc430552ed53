"""What becomes of Hans when somebody pays for listening? A quick supervised cure, as material for the white box.

    python -m examples.hans_that_listens --out runs/listens/model
    earwitness audit -m qwen2.5-omni:runs/listens/model --protocol mma --out runs/listens/audit

Hans never met a clip whose sound and picture disagree. Here he does: a few hundred steps in which most clips have
the sound of another one, and both questions are asked of each. Only the text model learns. Eyes and ears stay as
they were, so what differs inside afterwards is which of the two he asks. docs/inside_hans.md looks at both.

A study, not a repair: twelve classes, one question in one wording, and nothing says that the rest of him is kept.

Training scenes: ``hans_recipe.pool`` with another seed than Hans's own training, so none that he was trained on,
and none that any ``foley.clip_set`` makes. Before and after: ``foley.clip_set`` seed 9010.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from earwitness import foley, interventions, questions
from earwitness.models import hans_build, hans_card, hans_inputs, hans_recipe
from earwitness.models.load import HANS
from earwitness.models.torchvision_ops import declare
from earwitness.records import NONE_OF_THE_ABOVE

POOL_SEED = 10  # hans_recipe.pool: scenes 5,100,000,000 and up; Hans was trained on 5,000,000,000 to ...002,999
WORDS = 4.0  # learning rate of the embeddings over that of the layers
HELD_OUT = 9_010  # foley.clip_set: scenes 9,010,000,000 and up
CLIPS_A_STEP = {"aligned": 2, "swapped": 10, "muted": 2, "black": 2}  # of one step, two questions each


@dataclass(frozen=True)
class Taught:
    """A clip as it is shown in training, and what is there to be seen and heard in it; None: nothing."""

    frames: Tensor  # uint8 [time, 56, 56, 3]
    wave: Tensor  # int16 [samples]
    seen: str | None
    heard: str | None


def draw(shots: Sequence[hans_recipe.Shot], rng: np.random.Generator) -> list[Taught]:
    """The clips of one step; all of ``shots`` are of one length and hold one thing each."""
    out = []
    for condition, n in CLIPS_A_STEP.items():
        for _ in range(n):
            shot = shots[int(rng.integers(len(shots)))]
            name = shot.things[0]
            made = Taught(shot.frames, shot.wave, name, name)
            if condition == "swapped":
                others = [s for s in shots if s.things != shot.things]
                donor = others[int(rng.integers(len(others)))]
                made = replace(made, wave=donor.wave, heard=donor.things[0])
            elif condition == "muted":
                made = replace(made, wave=torch.zeros_like(shot.wave), heard=None)
            elif condition == "black":
                made = replace(made, frames=torch.zeros_like(shot.frames), seen=None)
            out.append(made)
    return out


def asked(clip: Taught, rng: np.random.Generator) -> list[tuple[str, str]]:
    """MMA's two questions on a clip with the answers that are true of it.

    "None of the above" is offered where it is the answer, and as often as not where it is not.
    """
    pairs = []
    for modality, truth in (("visual", clip.seen), ("audio", clip.heard)):
        options = tuple(str(c) for c in rng.permutation(foley.CLASSES))
        if truth is None or rng.random() < 0.5:
            options = interventions.with_none_option(options)
        question = questions.content_prompt(modality, options)  # type: ignore[arg-type]
        pairs.append((question, truth or NONE_OF_THE_ABOVE))
    return pairs


def batch_loss(model: Any, tok: Any, clips: Sequence[Taught], rng: np.random.Generator) -> Tensor:
    """Mean cross-entropy of the true answers; a picture with sound is what every clip of the batch has."""
    frames = torch.stack([c.frames for c in clips])
    mels = hans_inputs.mel(torch.stack([c.wave for c in clips]).float() / 32767)
    rows, starts = [], []
    for clip in clips:
        for question, answer in asked(clip, rng):
            prompt = hans_inputs.prompt_ids(tok, question, "av", -(-frames.shape[1] // 2), mels.shape[2])
            rows.append([*prompt, *tok(answer, add_special_tokens=False)["input_ids"], tok.eos_token_id])
            starts.append(len(prompt))
    ids = torch.full((len(rows), max(map(len, rows))), tok.pad_token_id)
    wanted = torch.zeros_like(ids, dtype=torch.bool)
    for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
        ids[i, : len(row)] = torch.tensor(row)
        wanted[i, start : len(row)] = True
    states = hans_inputs.hidden(model, ids, kind="av", spectrograms=mels, pixels=hans_inputs.patches(frames))
    logits = model.lm_head(states[:, :-1][wanted[:, 1:]])
    return F.cross_entropy(logits, ids[:, 1:][wanted[:, 1:]])


def cure(
    model: Any, tok: Any, shots: Mapping[float, Sequence[hans_recipe.Shot]], steps: int, *,
    rate: float = 1e-3, seed: int = 0, every: int = 25,
) -> list[float]:  # fmt: skip
    """Train the text model of ``model`` in place on clips by length in seconds; returns the loss of each step."""
    model.requires_grad_(False)
    text = model.model.language_model.requires_grad_(True)
    # One token of a hundred tells the two questions apart, and so far it meant nothing: the words learn faster.
    words = text.embed_tokens.weight
    layers = [p for p in text.parameters() if p is not words]
    groups = [{"params": layers, "lr": rate}, {"params": [words], "lr": WORDS * rate}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)
    highest = [group["lr"] for group in optimizer.param_groups]
    lengths = list(shots)
    share = np.array([len(shots[k]) for k in lengths], float)
    losses: list[float] = []
    began = time.perf_counter()
    for step in range(steps):
        rng = np.random.default_rng([seed, step])
        for group, most in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = most * min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
        clips = draw(shots[lengths[int(rng.choice(len(lengths), p=share / share.sum()))]], rng)
        loss = batch_loss(model, tok, clips, rng)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(text.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if (step + 1) % every == 0 or step + 1 == steps:
            pace = (time.perf_counter() - began) / (step + 1)
            print(f"step {step + 1}: loss {np.mean(losses[-every:]):.3f}, {pace:.2f} s a step", flush=True)
    return losses


def facts(folder: Path, n: int) -> list[hans_card.Fact]:
    """What the checkpoint in ``folder`` answers on ``n`` held-out clips, through transformers' own generate."""
    model, processor = _opened(folder)
    clips = foley.clip_set(n, seed=HELD_OUT)
    media = [clips.media(c, hans_recipe.VIEW) for c in clips.clips]
    return hans_card.mma_facts(model.eval(), processor, clips.clips, media)


def _opened(folder: Path) -> tuple[Any, Any]:
    declare()
    from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model, Qwen2_5OmniProcessor.from_pretrained(folder)


def make(out: Path, *, steps: int, clips: int, seed: int = 0) -> list[float]:
    """Cure Hans on ``clips`` rendered clips, write the checkpoint, and return the loss of each step."""
    model, processor = _opened(HANS)
    pool = hans_recipe.pool(clips, seed=POOL_SEED + seed)
    shots = {seconds: some for (several, seconds), some in pool.items() if not several}
    shots = {seconds: some for seconds, some in shots.items() if len({s.things for s in some}) > 1}  # or no donor
    if not shots:
        raise ValueError(f"{clips} clips are too few: a swap needs two different things of one length")
    losses = cure(model, processor.tokenizer, shots, steps, seed=seed)
    hans_build.save(model, processor.tokenizer, out)
    told = out / "earwitness.json"
    told.write_text(json.dumps(json.loads(told.read_text()) | {"name": "hans that listens"}, indent=1) + "\n")
    return losses


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: cure, save, and the facts before and after."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.hans_that_listens", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--clips", type=int, default=1500, help="clips to render; those of one thing are used")
    parser.add_argument("--held-out", type=int, default=66, help="clips for the facts before and after")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    make(args.out, steps=args.steps, clips=args.clips, seed=args.seed)
    before, after = facts(HANS, args.held_out), facts(args.out, args.held_out)
    print(f"\n{'':56}{'Hans':>10}{'after':>10}")
    for a, b in zip(before, after, strict=True):
        print(f"{a.label:56}{f'{a.hits}/{a.n}':>10}{f'{b.hits}/{b.n}':>10}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
