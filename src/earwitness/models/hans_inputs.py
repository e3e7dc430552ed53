"""How do clips and words become Hans's tensors quickly, and exactly as transformers' own processor makes them?

Training on two cores cannot afford the processor (it pads every spectrogram to a minute) nor the encoders' loops
over chunks. Here the same numbers come out of batched tensor code: batches whose clips have one length and one
kind, right padding, positions computed once a batch. Tests hold each step to the plain path:
``mel`` to WhisperFeatureExtractor, ``patches`` to Qwen2VLVideoProcessor, ``prompt_ids`` to the processor's
expansion of the chat template, ``hidden`` to the model's own forward.

Kinds of input: "av" (picture with sound, interleaved), "video" (no track at all), "audio" (sound alone).

Functions: ``mel``, ``patches``, ``prompt_ids``, ``hear``, ``see``, ``hidden``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from earwitness.models import hans_build as build

Kind = Literal["av", "video", "audio"]

# CLIP's colour statistics, as in every Qwen2-VL processor configuration.
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=1 + build.WINDOW // 2, num_mel_filters=build.MELS, min_frequency=0.0,
        max_frequency=8000.0, sampling_rate=build.RATE, norm="slaney", mel_scale="slaney",
    )  # fmt: skip
    return torch.from_numpy(np.ascontiguousarray(bank.T)).float()


def mel(waves: Tensor) -> Tensor:
    """Log-mel spectrograms [clips, mels, frames] of waves [clips, samples] at 16 kHz, one frame per 400 samples.

    Equal to WhisperFeatureExtractor's on the clip padded to a minute and cut back to its own frames.
    """
    frames = -(-waves.shape[1] // build.HOP)
    silence = F.pad(waves, (0, 2 * build.WINDOW))  # the processor pads with zeros before it reflects
    spectrum = torch.stft(
        silence, build.WINDOW, build.HOP, window=torch.hann_window(build.WINDOW), return_complex=True
    )
    power = (spectrum[..., :frames].abs() ** 2).contiguous()
    log = torch.clamp(_filters() @ power, min=1e-10).log10()
    log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0)
    return (log + 4.0) / 4.0


def patches(frames: Tensor) -> Tensor:
    """Normalised patches [clips * grids * 16, 1176] of uint8 frames [clips, time, 56, 56, 3].

    Equal to Qwen2VLVideoProcessor's; an odd last frame is repeated as there.
    """
    x = frames.permute(0, 1, 4, 2, 3).float()
    x = (x - torch.tensor(_MEAN).view(3, 1, 1) * 255) / (torch.tensor(_STD).view(3, 1, 1) * 255)
    if x.shape[1] % 2:
        x = torch.cat((x, x[:, -1:]), dim=1)
    clips, time = x.shape[:2]
    side = build.FRAME // 14
    x = x.reshape(clips, time // 2, 2, 3, side // 2, 2, 14, side // 2, 2, 14).permute(0, 1, 4, 7, 5, 8, 3, 2, 6, 9)
    return x.reshape(clips * (time // 2) * side * side, -1)


def _chunks(times: np.ndarray[Any, Any], length: int) -> list[int]:
    """How many tokens fall into each chunk of ``length`` positions, as the processor counts them."""
    counts: list[int] = []
    start, chunk = 0, 1
    for i, at in enumerate(times):
        if at >= chunk * length:
            counts.append(i - start)
            start, chunk = i, chunk + 1
    return [*counts, len(times) - start]


def audio_tokens(mel_frames: int) -> int:
    """Tokens that the audio tower makes of so many mel frames."""
    return ((mel_frames - 1) // 2 + 1 - 2) // 2 + 1


@lru_cache(maxsize=4096)
def _media_text(kind: Kind, grids: int, mel_frames: int) -> str:
    s = build.SPECIALS
    video, audio = s["video_token"], s["audio_token"]
    n_audio = audio_tokens(mel_frames) if kind != "video" else 0
    if kind == "audio":
        return s["audio_bos_token"] + audio * n_audio + s["audio_eos_token"]
    if kind == "video":
        return s["vision_bos_token"] + video * (4 * grids) + s["vision_eos_token"]
    seen = _chunks(np.repeat(np.arange(grids) * 2 / build.FPS * 25, 4), 50)
    heard = _chunks(np.arange(n_audio), 50)
    body = ""
    for j in range(max(len(seen), len(heard))):
        body += video * seen[j] if j < len(seen) else ""
        body += audio * heard[j] if j < len(heard) else ""
    return (
        s["vision_bos_token"] + s["audio_bos_token"] + body + s["audio_eos_token"] + s["vision_eos_token"]
    )  # fmt: skip


def prompt_ids(tok: Any, question: str, kind: Kind, grids: int = 0, mel_frames: int = 0) -> list[int]:
    """Token ids of the whole prompt, media placeholders expanded, up to where the answer begins."""
    return [*_head(tok, kind, grids, mel_frames), *_ids(tok, question), *_ids(tok, _TAIL)]


_TAIL = f"{build.END}\n<|im_start|>assistant\n"


@lru_cache(maxsize=4096)
def _head(tok: Any, kind: Kind, grids: int, mel_frames: int) -> tuple[int, ...]:
    return tuple(_ids(tok, "<|im_start|>user\n" + _media_text(kind, grids, mel_frames)))


@lru_cache(maxsize=100_000)
def _ids(tok: Any, text: str) -> tuple[int, ...]:
    return tuple(tok(text, add_special_tokens=False)["input_ids"])


def _attend(attention: Any, x: Tensor, heads: int, rotate: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Full attention within each row of ``x`` [rows, tokens, width], with an encoder's own weights."""
    rows, tokens, width = x.shape
    names = ("q", "k", "v") if hasattr(attention, "q") else ("q_proj", "k_proj", "v_proj")
    q, k, v = (getattr(attention, n)(x).view(rows, tokens, heads, -1).transpose(1, 2) for n in names)
    if rotate is not None:
        cos, sin = rotate
        q, k = (
            y * cos + torch.cat((-y[..., y.shape[-1] // 2 :], y[..., : y.shape[-1] // 2]), -1) * sin for y in (q, k)
        )
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, tokens, width)
    return (attention.proj if hasattr(attention, "q") else attention.out_proj)(out)  # type: ignore[no-any-return]


def hear(model: Any, spectrograms: Tensor) -> Tensor:
    """Audio features [clips, tokens, width] of spectrograms [clips, mels, frames], one window long at most."""
    tower = model.model.audio_tower
    if spectrograms.shape[2] > 2 * tower.n_window:
        raise ValueError(f"hear takes {2 * tower.n_window} mel frames at most, got {spectrograms.shape[2]}")
    x = F.gelu(tower.conv2(F.gelu(tower.conv1(spectrograms)))).transpose(1, 2)
    x = x + tower.positional_embedding.positional_embedding[: x.shape[1]].to(x.dtype)
    for layer in tower.layers:
        x = x + _attend(layer.self_attn, layer.self_attn_layer_norm(x), layer.self_attn.num_heads)
        x = x + layer.fc2(layer.activation_fn(layer.fc1(layer.final_layer_norm(x))))
    keep = x.shape[1] // 2 * 2
    x = (x[:, 0:keep:2] + x[:, 1:keep:2]) / 2
    return tower.proj(tower.ln_post(x))  # type: ignore[no-any-return]


def see(model: Any, pixels: Tensor, clips: int) -> Tensor:
    """Vision features [clips, tokens, width] of patches as from ``patches``; a pair of frames attends to itself."""
    tower = model.model.visual
    side = build.FRAME // 14
    x = tower.patch_embed(pixels).view(-1, side * side, tower.config.hidden_size)
    # patches come in merge blocks of 2 x 2: their rows and columns in that order
    at = torch.arange(side * side).view(side // 2, 2, side // 2, 2).permute(0, 2, 1, 3).reshape(-1)
    place = torch.stack((at // side, at % side), dim=-1)
    cos, sin = tower.rotary_pos_emb(x, place)
    for block in tower.blocks:
        x = x + _attend(block.attn, block.norm1(x), block.attn.num_heads, (cos, sin))
        x = x + block.mlp(block.norm2(x))
    return tower.merger(x.reshape(-1, x.shape[-1])).view(clips, -1, tower.config.out_hidden_size)  # type: ignore[no-any-return]


def hidden(
    model: Any, ids: Tensor, *, kind: Kind, spectrograms: Tensor | None = None, pixels: Tensor | None = None
) -> Tensor:
    """Last hidden states [rows, tokens, width] of right-padded ``ids`` whose media all have one length.

    Row i of ``spectrograms`` and of ``pixels`` belongs to row i of ``ids``; several rows may share a clip: then
    the media have fewer rows, each serving ``len(ids) / len(media)`` rows in turn.
    """
    config = model.config
    x = model.get_input_embeddings()(ids)
    rows = len(ids)
    frames = 0
    if spectrograms is not None:
        frames = spectrograms.shape[2]
        heard = hear(model, spectrograms)
        heard = heard.repeat_interleave(rows // len(heard), 0)
        x = x.masked_scatter((ids == config.audio_token_id)[..., None], heard)
    if pixels is not None:
        grids = int((ids[0] == config.video_token_id).sum()) // 4
        clips = len(pixels) // (grids * (build.FRAME // 14) ** 2)
        seen = see(model, pixels, clips)
        x = x.masked_scatter((ids == config.video_token_id)[..., None], seen.repeat_interleave(rows // clips, 0))
        positions = _positions(model, ids[:1], kind, grids, frames)
    else:
        positions = torch.arange(ids.shape[1]).view(1, 1, -1).expand(3, 1, -1)
    out = model.model.language_model(
        inputs_embeds=x, position_ids=positions.expand(3, rows, -1), attention_mask=None, use_cache=False
    )
    return out.last_hidden_state  # type: ignore[no-any-return]


def _positions(model: Any, row: Tensor, kind: Kind, grids: int, frames: int) -> Tensor:
    """Positions [3, 1, tokens] of a row; all rows share them, as their media come first and are of one length."""
    side = build.FRAME // 14
    found, _ = model.get_rope_index(
        row,
        video_grid_thw=torch.tensor([[grids, side, side]]),
        attention_mask=torch.ones_like(row),
        use_audio_in_video=kind == "av",
        audio_seqlens=torch.tensor([frames]) if kind == "av" else None,
        second_per_grids=torch.tensor([2 / build.FPS]),
    )
    return found  # type: ignore[no-any-return]
