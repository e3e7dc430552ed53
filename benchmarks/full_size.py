"""Thinkers at their published sizes: items a second against the plain way, memory, and whether answers stay equal.

Without weights at hand the thinker is random, built on the device at the size that its published config.json gives.
That changes no shape and no time; only what it says means nothing. The tokenizer is a small one trained on the
spot, so a question has two to three times the tokens it would have with the published one (the output says how
many).

Plain: one processor call and one ``generate`` an item. Ours: towers once a picture or sound, media read once for
all questions, batches as large as fit. Both answer MMA-Bench's conditions on procedural clips; the plain way is
asked an even share of them. In float32 both must agree to the letter. In bfloat16 a random model has near-ties
that the batch decides, so there the share of equal texts and the largest difference of a choice's log-probability
are numbers, not a verdict.

    python benchmarks/full_size.py --size 7b                  # on a GPU
    python benchmarks/full_size.py --size 30b --clips 8
    python benchmarks/full_size.py --checkpoint PATH          # real weights
    python benchmarks/full_size.py --size tiny                # anywhere: tries the script, measures nothing real
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import tiny_thinkers
from earwitness import audit, foley, protocols
from earwitness import run as runs
from earwitness.models.qwen_inputs import Thinker
from earwitness.models.qwen_load import load_thinker, wrap
from earwitness.models.qwen_omni import QwenOmni
from earwitness.records import Answer, ClipSet, Item, View

ROPE = {"rope_type": "default", "rope_theta": 1_000_000.0}
EARS = {
    "num_mel_bins": 128, "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120, "max_source_positions": 1500,
}  # fmt: skip
EYES_25 = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip
EYES_3 = {
    "depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "deepstack_visual_indexes": [8, 16, 24],
    "num_position_embeddings": 2304, "hidden_act": "gelu_pytorch_tanh",
}  # fmt: skip
# Text layers as in the config.json of Qwen/Qwen2.5-Omni-3B, -7B and Qwen/Qwen3-Omni-30B-A3B-Instruct.
TEXT: dict[str, dict[str, Any]] = {
    "3b": {
        "vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 2,
        "rope_parameters": {**ROPE, "mrope_section": [16, 24, 24]},
    },
    "7b": {
        "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4,
        "rope_parameters": {**ROPE, "mrope_section": [16, 24, 24]},
    },
    "30b": {
        "vocab_size": 152_064, "hidden_size": 2048, "intermediate_size": 768, "moe_intermediate_size": 768,
        "num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": True, "num_hidden_layers": 48,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
        "rope_parameters": {**ROPE, "mrope_section": [24, 20, 20], "mrope_interleaved": True},
    },
}  # fmt: skip
SIZES = ("tiny", "tiny3", *TEXT)


def main(argv: list[str] | None = None) -> int:
    """Measure and print the table; 1 where float32 answers of the two ways differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--checkpoint", help="a folder or hub id: real weights in place of random ones")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: bfloat16 on a GPU")
    parser.add_argument("--batch", type=int, help="questions together; default: found by trying on a GPU")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--plain-items", type=int, default=42, help="items that the plain way is asked, at most")
    parser.add_argument("--threads", type=int, default=1, help="of a CPU")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--side", type=int, default=504, help="pixels of a frame's side")
    parser.add_argument("--words", type=int, default=2000, help="of the long-context condition (the paper: 10,000)")
    given = parser.parse_args(argv)
    if given.size.startswith("tiny") and not given.checkpoint:
        given.side, given.seconds, given.words = min(given.side, 112), min(given.seconds, 4.0), min(given.words, 60)
    torch.set_num_threads(given.threads)
    dtype = given.dtype or ("bfloat16" if given.device.startswith("cuda") else "float32")
    view = View(max_pixels=given.side**2)
    start = time.perf_counter()
    if given.checkpoint:
        thinker, _, _ = load_thinker(given.checkpoint, device=given.device, dtype=dtype, max_pixels=given.side**2)
    else:
        thinker = random_thinker(given.size, given.device, getattr(torch, dtype), view)
    print(described(given, thinker, time.perf_counter() - start), flush=True)
    clips = foley.clip_set(given.clips, seed=77, duration=given.seconds)
    items = protocols.load("mma").items(
        clips.clips, protocols.Settings(mma_styles=("standard",), long_context_tokens=given.words)
    )
    if not items:
        parser.error("--clips: at least two, since sounds are swapped between them")
    some = items[:: max(1, -(-len(items) // given.plain_items))]  # an even share: of every condition
    ways = {
        "plain way": (QwenOmni(thinker, plain=True), some),
        "audit loop": (QwenOmni(thinker, batch=given.batch, logprobs=False), items),
        "audit loop, choices scored": (QwenOmni(thinker, batch=given.batch), items),
    }
    first = clips.media(clips.clips[0], view)
    ways["plain way"][0].answer(some[:1], [first])  # the first call compiles and allocates
    print("| way | items | seconds | items a second | peak memory | batch | out of memory |\n|" + "---|" * 7)
    answers, rates = {}, {}
    for name, (model, asked) in ways.items():
        answers[name], seconds, peak = timed(model, clips, asked)
        rates[name] = len(asked) / seconds
        print(
            f"| {name} | {len(asked)} | {seconds:.1f} | {rates[name]:.2f} | {peak} | {model.batch} "
            f"| {model.counts['out of memory']:.0f} |",
            flush=True,
        )
    return compared(answers["plain way"], answers["audit loop, choices scored"], some, rates, dtype)


def described(given: argparse.Namespace, thinker: Thinker, seconds: float) -> str:
    """The first lines: what is measured, on what, with which versions."""
    weights = sum(p.numel() for p in thinker.model.parameters())
    held = sum(p.numel() * p.element_size() for p in thinker.model.parameters())
    versions = ", ".join(f"{n} {metadata.version(n)}" for n in ("earwitness", "torch", "transformers"))
    where = torch.cuda.get_device_name(thinker.device) if thinker.device.type == "cuda" else "CPU"
    what = given.checkpoint or f"{given.size}, random weights"
    return (
        f"{what}: {thinker.family} thinker, {weights / 1e9:.2f} billion parameters, {held / 1e9:.1f} GB as "
        f"{str(thinker.dtype).removeprefix('torch.')}, ready after {seconds:.0f} s\n{where}; Python "
        f"{platform.python_version()}, {versions}; attention {thinker.model.config._attn_implementation}\n"
        f"{given.clips} clips of {given.seconds:g} s at {given.side} x {given.side}, two frames a second\n"
    )


def timed(model: QwenOmni, clips: ClipSet, items: list[Item]) -> tuple[dict[str, Answer], float, str]:
    """Answers, wall seconds, and the highest memory of the GPU while they were made."""
    on_gpu = model.thinker.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(model.thinker.device)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        audit.ask(model, clips, items, Path(folder))
        seconds = time.perf_counter() - start
        answers = runs.read_answers(Path(folder))
    peak = f"{torch.cuda.max_memory_allocated(model.thinker.device) / 1e9:.1f} GB" if on_gpu else "not measured"
    return answers, seconds, peak


def compared(
    plain: dict[str, Answer], ours: dict[str, Answer], items: list[Item], rates: dict[str, float], dtype: str
) -> int:
    """Print what is equal between the two ways; 1 where float32 answers differ."""
    failed = [a for way in (plain, ours) for a in way.values() if a.error is not None]
    texts = sum(plain[i.id].text == ours[i.id].text for i in items)
    receipts = sum(plain[i.id].fed == ours[i.id].fed for i in items)
    gaps = [
        abs(p - (ours[i.id].logprobs or {})[c])
        for i in items
        for c, p in (plain[i.id].logprobs or {}).items()
        if plain[i.id].error is None and ours[i.id].error is None
    ]
    tokens = [a.fed.prompt_tokens for a in plain.values() if a.fed and a.fed.prompt_tokens]
    faster = rates["audit loop, choices scored"] / rates["plain way"]
    length = statistics.median(tokens) if tokens else 0
    print(f"\n{faster:.1f} times the plain way's items a second, both with scored choices")
    print(f"prompts of {length:.0f} tokens (median); failed {len(failed)}")
    print(f"same text {texts} of {len(items)}, same receipt {receipts} of {len(items)}")
    print(f"largest difference of a choice's log-probability {max(gaps, default=0.0):.2g}")
    for answer in failed[:3]:
        print(f"FAILED {answer.item}: {answer.error}")
    exact = texts == receipts == len(items) and max(gaps, default=0.0) < 1e-3
    return int(bool(failed) or (dtype == "float32" and not exact))


# --- random thinkers at published sizes ------------------------------------------------------------------------


def random_thinker(size: str, device: str, dtype: torch.dtype, view: View) -> Thinker:
    """A thinker of that size with random weights, made on the device in that type."""
    if size.startswith("tiny"):
        model, processor = tiny_thinkers.build("qwen3-omni" if size == "tiny3" else "qwen2.5-omni")
        return wrap(model.to(device, dtype), processor, view)
    processor, ids = _processor(size != "30b")
    model = bare(size, device, dtype, ids)
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    return wrap(model, processor, view)


def bare(size: str, device: str, dtype: torch.dtype, ids: dict[str, int] | None = None) -> Any:
    """The model alone; on "meta" it is made without memory for its weights."""
    import transformers as t

    old = size != "30b"
    config = config_of(size, _processor(old)[1] if ids is None else ids)
    torch.manual_seed(0)
    maker = t.Qwen2_5OmniThinkerForConditionalGeneration if old else t.Qwen3OmniMoeThinkerForConditionalGeneration
    with _made_as(device, dtype):
        return maker(config)


def config_of(size: str, ids: dict[str, int]) -> Any:
    """The thinker's config at a published size; token ids as the small tokenizer has them."""
    import transformers as t

    text = {**TEXT[size], "max_position_embeddings": 32_768, "tie_word_embeddings": False}
    out = text["hidden_size"]
    marks = {
        "audio_start_token_id": ids["audio_bos_token"], "audio_end_token_id": ids["audio_eos_token"],
        "vision_start_token_id": ids["vision_bos_token"], "vision_end_token_id": ids["vision_eos_token"],
        "seconds_per_chunk": 2,
    }  # fmt: skip
    if size != "30b":
        return t.Qwen2_5OmniThinkerConfig(
            audio_config={**EARS, "n_window": 100, "output_dim": out},
            vision_config={**EYES_25, "out_hidden_size": out}, text_config=text, position_id_per_seconds=25,
            audio_token_index=ids["audio_token"], image_token_index=ids["image_token"],
            video_token_index=ids["video_token"], **marks,
        )  # fmt: skip
    ears = {"n_window": 50, "n_window_infer": 800, "conv_chunksize": 500, "downsample_hidden_size": 480}
    return t.Qwen3OmniMoeThinkerConfig(
        audio_config={**EARS, **ears, "output_dim": out}, vision_config={**EYES_3, "out_hidden_size": out},
        text_config=text, position_id_per_seconds=13, audio_token_id=ids["audio_token"],
        image_token_id=ids["image_token"], video_token_id=ids["video_token"], **marks,
    )  # fmt: skip


def _processor(old: bool) -> tuple[Any, dict[str, int]]:
    import transformers as t

    parts = tiny_thinkers.SPECIALS if old else tiny_thinkers.PARTS_3
    words = tiny_thinkers.tokenizer(parts)
    patch = 14 if old else 16
    size = {"shortest_edge": 4 * (2 * patch) ** 2, "longest_edge": 12_845_056}
    made = (t.Qwen2_5OmniProcessor if old else t.Qwen3OmniMoeProcessor)(
        t.Qwen2VLImageProcessor(size=size, patch_size=patch),
        t.Qwen2VLVideoProcessor(size=size, patch_size=patch),
        t.WhisperFeatureExtractor(feature_size=128, sampling_rate=16_000, chunk_length=300, hop_length=160),
        words,
        chat_template=tiny_thinkers.chat_template(parts),
    )
    return made, {name: words.convert_tokens_to_ids(token) for name, token in parts.items()}


@contextmanager
def _made_as(device: str, dtype: torch.dtype) -> Any:
    """Parameters made in here lie on that device in that type at once, with no copy of 60 GB on the way."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


if __name__ == "__main__":
    raise SystemExit(main())
