"""How is Hans built: tokenizer, processor and thinker, all from code, none downloaded?

Hans is transformers' own ``Qwen2_5OmniThinkerForConditionalGeneration`` at about two million parameters, with
the real ``Qwen2_5OmniProcessor`` before it. What differs from the large checkpoints is configuration only:

- frames are 56 x 56 px at 2 fps (4 vision tokens a second);
- the mel spectrogram hops 25 ms instead of 10 ms, so that a second of sound is 10 tokens instead of 25. The
  order and positions of tokens stay those that transformers computes, in training and in use alike. Since the
  processor's 25 positions a second cannot be configured, audio positions run at 10 a second beside them;
- the tokenizer is a byte-level BPE of about a thousand entries, trained on the recipe's own prompts. It cuts text
  into clauses, so that a known question is one or two tokens; every class name is a piece of its own, the
  same in a list of options, in a question and in an answer. Any other text falls back to bytes.

Functions: ``tokenizer``, ``processor``, ``thinker``, ``save``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from earwitness.models.torchvision_ops import declare

FRAME = 56  # px, height and width of a frame
FPS = 2.0
RATE = 16_000
MELS = 64
HOP = 400  # samples between mel frames: 25 ms
WINDOW = 800  # samples under one spectrum
CONTEXT = 400  # words around a question; Hans is never shown more, and 10,000 would only measure that
SECONDS_MAX = 60  # longest sound; the processor pads every mel spectrogram to it

SPECIALS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
END = "<|im_end|>"
PAD = "<|endoftext|>"

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif c['type'] == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif c['type'] == 'image' %}<|vision_bos|><|IMAGE|><|vision_eos|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(corpus: Sequence[str], names: Sequence[str], *, vocab: int = 1200) -> Any:
    """Byte-level BPE trained on ``corpus``; the class ``names`` are pieces that no merge crosses.

    Parameters
    ----------
    corpus : texts as Hans meets them, prompts and answers.
    names : class names; a name is cut out wherever it stands as a whole word.
    vocab : entries, the 256 bytes and the special tokens included.
    """
    declare()
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    longest_first = sorted(names, key=len, reverse=True)
    classes = r"\b(?:" + "|".join(re.escape(name) for name in longest_first) + r")\b"
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(classes), behavior="isolated"),
            pre_tokenizers.Split(Regex(r"[0-9]"), behavior="isolated"),
            pre_tokenizers.Split(Regex(r"[^.,:;?!\n(){}]*[.,:;?!\n(){}]+ ?"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[PAD, "<|im_start|>", END, *SPECIALS.values()],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=END, pad_token=PAD, padding_side="left", extra_special_tokens=SPECIALS
    )
    made.chat_template = CHAT_TEMPLATE
    return made


def processor(tok: Any) -> Any:
    """The real Qwen2.5-Omni processor around ``tok``, set to Hans's frame size and mel spectrogram."""
    declare()
    from transformers import (
        Qwen2_5OmniProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        WhisperFeatureExtractor,
    )

    size = {"shortest_edge": FRAME * FRAME, "longest_edge": FRAME * FRAME}
    hear = WhisperFeatureExtractor(
        feature_size=MELS, sampling_rate=RATE, hop_length=HOP, chunk_length=SECONDS_MAX, n_fft=WINDOW
    )
    image = Qwen2VLImageProcessor(size=dict(size))
    video = Qwen2VLVideoProcessor(size=dict(size))
    return Qwen2_5OmniProcessor(image, video, hear, tok, chat_template=CHAT_TEMPLATE)


def thinker(tok: Any, *, seed: int = 0, width: int = 128, layers: int = 4) -> Any:
    """A thinker of about two million random parameters, for the vocabulary of ``tok``."""
    declare()
    import torch
    from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

    token = tok.convert_tokens_to_ids
    heads = 4
    half = width // heads // 2  # rotary frequencies a head; mrope_section shares them out: time, height, width
    config = Qwen2_5OmniThinkerConfig(
        audio_config={
            "num_mel_bins": MELS,
            "encoder_layers": 3,
            "encoder_attention_heads": 4,
            "encoder_ffn_dim": 256,
            "d_model": 128,
            "n_window": 120,  # half an attention window in mel frames: 6 s hear each other
            "output_dim": width,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_heads": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "out_hidden_size": width,
            "fullatt_block_indexes": [0, 1],
        },
        text_config={
            "vocab_size": len(tok),
            "hidden_size": width,
            "intermediate_size": width * 3,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32_768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1_000_000.0,
                "mrope_section": [half // 4, half * 3 // 8, half * 3 // 8],
            },
            "tie_word_embeddings": True,
            "pad_token_id": tok.pad_token_id,
            "eos_token_id": tok.eos_token_id,
        },
        audio_token_index=token(SPECIALS["audio_token"]),
        image_token_index=token(SPECIALS["image_token"]),
        video_token_index=token(SPECIALS["video_token"]),
        audio_start_token_id=token(SPECIALS["audio_bos_token"]),
        audio_end_token_id=token(SPECIALS["audio_eos_token"]),
        vision_start_token_id=token(SPECIALS["vision_bos_token"]),
        vision_end_token_id=token(SPECIALS["vision_eos_token"]),
        pad_token_id=tok.pad_token_id,
        tie_word_embeddings=True,
        position_id_per_seconds=25,
        seconds_per_chunk=2,
    )
    torch.manual_seed(seed)
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    model.generation_config.pad_token_id = tok.pad_token_id
    model.generation_config.eos_token_id = tok.eos_token_id
    model.generation_config.do_sample = False
    return model


def save(model: Any, tok: Any, folder: Path) -> None:
    """Write weights (safetensors, float32), configuration and processor files that ``from_pretrained`` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    processor(tok).save_pretrained(folder)
    view = {"fps": FPS, "size": [FRAME, FRAME], "rate": RATE}
    manual = {"name": "hans", "view": view, "system": None, "context": CONTEXT}
    (folder / "earwitness.json").write_text(json.dumps(manual, indent=1) + "\n", encoding="utf-8")
