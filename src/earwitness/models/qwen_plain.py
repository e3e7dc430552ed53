"""The plain way to ask an omni thinker: one processor call and one ``generate`` per item, nothing shared.

This is what harnesses usually do, and what every shortcut of this package is held to: same text, same
log-probs, same receipts. ``QwenOmni(..., plain=True)`` asks everything like this.

The model cards' ``processor(text, videos=, audio=, use_audio_in_video=True)`` raises with arrays in transformers
5.23; what works, and is done here, is the chat template on a turn with a video and no audio entry, then the
processor with ``load_audio_from_video`` and the wave named as the sound of video 0. The *model* still wants
``use_audio_in_video`` in each call, and says nothing where it is missing: here it follows from the media, and
the positions are checked.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig

from earwitness.models import qwen_inputs as inputs
from earwitness.models import qwen_towers as towers
from earwitness.models.qwen_decode import Step, read_steps
from earwitness.models.qwen_inputs import Kind, Thinker
from earwitness.records import Fed, Item, Media


def process(thinker: Thinker, item: Item, media: Media) -> dict[str, Any]:
    """One processor call: all tensors of a prompt, on the model's device."""
    kind = inputs.kind_of(media)
    inputs.split_prompt(thinker, item, kind)  # refuses media tokens in the question
    given: dict[str, Any] = {"text": [inputs.chat_text(thinker, item, kind)]}
    if media.frames is not None:
        given["videos"] = [torch.from_numpy(np.ascontiguousarray(media.frames.transpose(0, 3, 1, 2)))]
        given["videos_kwargs"] = thinker.video_options
    if media.wave is not None:
        given["audio"] = [media.wave[0]]
    if kind == "av":
        given |= {"load_audio_from_video": True, "audio_from_video_indices": [0]}
    with warnings.catch_warnings():
        # transformers 5.23 counts audio tokens with np.arange(a torch tensor): right, but numpy 2 complains
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy", DeprecationWarning)
        batch = thinker.processor(**given, padding=True, return_tensors="pt")
    out = {name: tensor.to(thinker.device) for name, tensor in batch.items()}
    if "input_features" in out:
        out["input_features"] = out["input_features"].to(thinker.dtype)
    return out


def media_options(thinker: Thinker, kind: Kind, batch: dict[str, Any]) -> dict[str, Any]:
    """What the model itself must be told beside the tensors, checked on the positions it leads to."""
    told = {"use_audio_in_video": True} if kind == "av" else {}
    if kind == "av":
        positions, _ = thinker.bare.get_rope_index(
            batch["input_ids"],
            None,
            batch["video_grid_thw"],
            batch["attention_mask"],
            told.get("use_audio_in_video", False),
            batch["feature_attention_mask"].sum(-1),
            batch["video_second_per_grid"],
        )
        inputs.check_interleaved(thinker, batch["input_ids"][0], positions[:, 0])
    return told


def ask(
    thinker: Thinker, item: Item, media: Media, *, logprobs: bool, top: int = 0
) -> tuple[tuple[Step, ...], tuple[float, ...], Fed]:
    """Generated tokens (with ``top`` likeliest each), a log-prob per choice (one forward each), the receipt."""
    batch = process(thinker, item, media)
    kind = inputs.kind_of(media)
    told = media_options(thinker, kind, batch)
    pad = thinker.processor.tokenizer.pad_token_id
    greedy = GenerationConfig(
        max_new_tokens=item.decode,
        do_sample=False,
        num_beams=1,
        eos_token_id=list(thinker.ends),
        pad_token_id=pad,
        suppress_tokens=list(thinker.suppressed),
        return_dict_in_generate=True,
        output_logits=True,  # before media tokens are suppressed
    )
    made = thinker.bare.generate(**batch, **told, generation_config=greedy)
    new = made.sequences[0, batch["input_ids"].shape[1] :]
    stops = [n for n, token in enumerate(new.tolist()) if token in thinker.ends]
    count = stops[0] if stops else len(new)
    steps = [
        step
        for logits, token in zip(made.logits[:count], new[:count], strict=True)
        for step in read_steps(logits.float().log_softmax(-1), token[None], top)
    ]
    scored = tuple(score(thinker, batch, told, choice) for choice in item.choices) if logprobs else ()
    return tuple(steps), scored, receipt(thinker, batch, media)


def score(thinker: Thinker, batch: dict[str, Any], told: dict[str, Any], choice: str) -> float:
    """Log-prob of a choice's whole text behind the prompt: one forward over prompt and choice."""
    ids = thinker.processor.tokenizer(choice)["input_ids"]
    tail = torch.tensor([ids], device=thinker.device)
    longer = torch.cat([batch["input_ids"], tail], 1)
    mask = torch.cat([batch["attention_mask"], torch.ones_like(tail)], 1)
    logits = thinker.bare(**{**batch, "input_ids": longer, "attention_mask": mask}, **told).logits
    rows = logits[0, -len(ids) - 1 : -1].float().log_softmax(-1)
    return float(rows.gather(-1, tail[0][:, None]).sum())


def receipt(thinker: Thinker, batch: dict[str, Any], media: Media) -> Fed:
    """What the model got, read off the tensors of its processor call."""
    ids, p = batch["input_ids"][0], thinker.processor
    video = batch.get("pixel_values_videos")
    grid = None if video is None else [int(x) for x in batch["video_grid_thw"][0]]
    side = int(p.video_processor.patch_size)
    mels = None
    if "input_features" in batch:
        kept = int(batch["feature_attention_mask"][0].sum())
        mels = batch["input_features"][0, :, :kept].float().cpu().numpy()
    per_second = p.feature_extractor.sampling_rate / p.feature_extractor.hop_length
    return Fed(
        frames=None if media.frames is None else len(media.frames),
        height=None if grid is None else grid[1] * side,
        width=None if grid is None else grid[2] * side,
        audio_seconds=None if mels is None else mels.shape[1] / per_second,
        audio_rms=None if media.wave is None else towers.rms(media.wave),
        video_tokens=None if video is None else int((ids == p.video_token_id).sum()),
        audio_tokens=None if mels is None else int((ids == p.audio_token_id).sum()),
        prompt_tokens=len(ids),
        video_hash=None if video is None else towers.pixel_digest(video),
        audio_hash=None if mels is None else towers.mel_digest(mels),
    )
