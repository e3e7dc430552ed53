"""Tiny random Qwen2.5-Omni and Qwen3-Omni thinkers with real processors, made from config: no download.

``save(family, folder)`` writes a thinker checkpoint as ``save_pretrained`` does, ``full=True`` a full Omni
checkpoint in the layout of the published ones (keys under ``thinker.``, config under ``thinker_config``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from earwitness.models import torchvision_ops  # noqa: F401 - before transformers
from earwitness.models.hans_build import SPECIALS
from earwitness.records import Intervention, Item, Media

Family = Literal["qwen2.5-omni", "qwen3-omni"]

WORDS = (
    "system user assistant You are a helpful assistant. What do you hear? Is there a dog sound? yes no bell drum "
    "Which class best describes the audio content of this video? Options: {bell, drum, dog barking}. "
    "Answer using a single word or phrase. visual None of the above delayed early synchronized muted"
)

PARTS_3 = {
    "image_token": "<|image_pad|>",
    "audio_token": "<|audio_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}


VIEW = {"view": {"fps": 2.0, "size": [112, 112]}}  # the folder's earwitness.json: small and quick


def chat_template(parts: dict[str, str]) -> str:
    """A template in the shape of the published ones: a default system turn, then the turns."""
    slots = "".join(
        "{% "
        + ("if" if kind == "video" else "elif")
        + f" c['type'] == '{kind}' %}}"
        + parts[f"{bos}_bos_token"]
        + parts[f"{kind}_token"]
        + parts[f"{bos}_eos_token"]
        for kind, bos in (("video", "vision"), ("audio", "audio"), ("image", "vision"))
    )
    return (
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\n"
        "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ m['role'] }}\n"
        "{% for c in m['content'] %}" + slots + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def tokenizer(parts: dict[str, str]) -> Any:
    """A byte-level BPE tokenizer trained in-process, with the family's special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Qwen2TokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        [WORDS] * 4,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", *parts.values()],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    out = Qwen2TokenizerFast(
        tokenizer_object=bpe,
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=parts,
    )
    out.padding_side = "left"
    return out


def build(family: Family, seed: int = 0) -> tuple[Any, Any]:
    """A random thinker and its processor."""
    import transformers as t

    old = family == "qwen2.5-omni"
    parts = SPECIALS if old else PARTS_3
    words = tokenizer(parts)
    patch = 14 if old else 16
    size = {"shortest_edge": 4 * (2 * patch) ** 2, "longest_edge": 64 * (2 * patch) ** 2}
    pictures = t.Qwen2VLImageProcessor(size=size, patch_size=patch)
    videos = t.Qwen2VLVideoProcessor(size=size, patch_size=patch)
    ears = t.WhisperFeatureExtractor(feature_size=128, sampling_rate=16000, chunk_length=30, hop_length=160)
    make = t.Qwen2_5OmniProcessor if old else t.Qwen3OmniMoeProcessor
    processor = make(pictures, videos, ears, words, chat_template=chat_template(parts))
    ids = {name: words.convert_tokens_to_ids(token) for name, token in parts.items()}
    hidden = 64
    audio = {
        "num_mel_bins": 128, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "d_model": 32, "output_dim": hidden, "initializer_range": 0.2,
    }  # fmt: skip
    vision = {
        "depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": patch,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": hidden, "initializer_range": 0.2,
    }  # fmt: skip
    text: dict[str, Any] = {
        "vocab_size": len(words), "hidden_size": hidden, "intermediate_size": 2 * hidden,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 8192, "tie_word_embeddings": False, "initializer_range": 0.2,
        "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id,
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 1e6}
    common = {
        "audio_start_token_id": ids["audio_bos_token"],
        "audio_end_token_id": ids["audio_eos_token"],
        "vision_start_token_id": ids["vision_bos_token"],
        "vision_end_token_id": ids["vision_eos_token"],
        "pad_token_id": words.pad_token_id,
        "seconds_per_chunk": 2,
    }
    torch.manual_seed(seed)
    if old:
        config = t.Qwen2_5OmniThinkerConfig(
            audio_config={**audio, "n_window": 100},
            vision_config={**vision, "window_size": 112, "fullatt_block_indexes": [1]},
            text_config={**text, "rope_parameters": {**rope, "mrope_section": [2, 3, 3]}},
            audio_token_index=ids["audio_token"],
            image_token_index=ids["image_token"],
            video_token_index=ids["video_token"],
            position_id_per_seconds=25,
            **common,
        )
        model = t.Qwen2_5OmniThinkerForConditionalGeneration(config)
    else:
        config = t.Qwen3OmniMoeThinkerConfig(
            audio_config={
                **audio, "n_window": 50, "n_window_infer": 400, "downsample_hidden_size": 16, "conv_chunksize": 500,
            },
            vision_config={**vision, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 2304},
            text_config={
                **text, "head_dim": 16, "moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2,
                "rope_parameters": {**rope, "mrope_section": [4, 2, 2], "mrope_interleaved": True},
            },
            audio_token_id=ids["audio_token"],
            image_token_id=ids["image_token"],
            video_token_id=ids["video_token"],
            position_id_per_seconds=13,
            **common,
        )  # fmt: skip
        model = t.Qwen3OmniMoeThinkerForConditionalGeneration(config)
    model.eval()
    model.generation_config.pad_token_id = words.pad_token_id
    model.generation_config.eos_token_id = words.eos_token_id
    return model, processor


def save(
    family: Family, folder: Path, seed: int = 0, *, full: bool = False, view: dict[str, Any] | None = None
) -> Path:
    """Write a checkpoint folder: a thinker's own, or (``full``) one laid out as the published Omni ones."""
    from safetensors.torch import load_file, save_file

    model, processor = build(family, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if full:
        weights = load_file(folder / "model.safetensors")
        save_file({f"thinker.{k}": v for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        kind = "qwen2_5_omni" if family == "qwen2.5-omni" else "qwen3_omni_moe"
        (folder / "config.json").write_text(json.dumps({"model_type": kind, "thinker_config": config}))
    if view is not None:
        (folder / "earwitness.json").write_text(json.dumps(view))
    return folder


def media(
    seed: int = 0, *, seconds: float = 2.0, frames: bool = True, sound: bool = True, size: int = 112
) -> Media:
    """A clip of noise: frames at 2 per second and sound at 16 kHz."""
    rng = np.random.default_rng(seed)
    n = round(seconds * 2)
    times = np.arange(n) / 2.0 if frames else None
    shown = rng.integers(0, 255, (n, size, size, 3), dtype=np.uint8) if frames else None
    wave = (0.1 * rng.standard_normal((1, round(seconds * 16000)))).astype(np.float32) if sound else None
    return Media(frames=shown, times=times, wave=wave, rate=16000, duration=seconds)


def item(n: int, prompt: str, choices: tuple[str, ...] = (), decode: int = 8, **kw: Any) -> Item:
    """An item that only carries what a model needs."""
    return Item(
        id=f"i{n}", protocol="test", condition="original", question="audio", clip="c", source="c", group=f"g{n}",
        intervention=Intervention(), prompt=prompt, choices=choices, target=None, decode=decode, **kw,
    )  # fmt: skip
