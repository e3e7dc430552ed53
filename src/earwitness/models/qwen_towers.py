"""Pictures and sounds -> features: the processor's arithmetic, then the model's two towers, and what went in.

A receipt is made of the very tensors that enter a tower: their content hash, and the size, length and loudness
that belong to them. The same hash twice means that the model was given the same picture, or sound, twice.

Functions: ``mel_features``, ``patches``; ``encode_videos``, ``encode_audios``; ``mel_digest``, ``pixel_digest``,
``rms``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from earwitness.models.qwen_cache import Heard, Seen
from earwitness.models.qwen_inputs import Thinker, audio_tokens
from earwitness.records import Frames, Wave, digest

MAX_PATCHES = 32_768  # patches through the vision tower at once: about 16 clips of 10 s at 2 fps and 224 px


def mel_features(thinker: Thinker, wave: Wave) -> NDArray[np.float32]:
    """Log-mel features [mels, frames] of a mono wave [1, n], equal to the processor's own, without its padding.

    Qwen2.5's processor pads every sound to 300 s and masks the rest. The last frames look into that padding, so
    the wave gets a short tail of zeros here, and the frames that the mask would keep are kept: ceil(n / hop).
    Qwen3's does not pad a single sound.
    """
    extractor = thinker.processor.feature_extractor
    sound = np.ascontiguousarray(wave[0], dtype=np.float32)
    if thinker.family == "qwen2.5-omni":
        frames = math.ceil(len(sound) / extractor.hop_length)
        room = max(extractor.n_samples - len(sound), 0)
        sound = np.concatenate([sound, np.zeros(min(3 * extractor.n_fft, room), np.float32)])
        out = extractor([sound], sampling_rate=extractor.sampling_rate, padding="longest", truncation=False)
        return np.asarray(out["input_features"][0][:, :frames], dtype=np.float32)
    out = extractor(
        [sound], sampling_rate=extractor.sampling_rate, padding=True, truncation=False, return_attention_mask=True
    )
    kept = int(np.asarray(out["attention_mask"][0]).sum())
    return np.asarray(out["input_features"][0][:, :kept], dtype=np.float32)


def patches(thinker: Thinker, frames: Frames) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Patches [n, values] of frames [time, height, width, 3], by the model's own processor, and their grid."""
    video = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    out = thinker.processor.video_processor([video], return_tensors="pt", **thinker.video_options)
    t, h, w = (int(x) for x in out["video_grid_thw"][0])
    return out["pixel_values_videos"], (t, h, w)


def mel_digest(mels: NDArray[np.float32]) -> str:
    """Content hash of mel features [mels, frames]."""
    return digest(np.ascontiguousarray(mels))


def pixel_digest(pixels: torch.Tensor) -> str:
    """Content hash of patches [n, values]."""
    return digest(pixels.float().cpu().numpy())


def rms(wave: Wave) -> float:
    """Root mean square of a wave, full scale = 1."""
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def encode_videos(thinker: Thinker, stacks: Sequence[Frames]) -> list[Seen]:
    """Each frame stack through the vision tower, several at a time."""
    out: list[Seen] = []
    batch: list[tuple[Frames, torch.Tensor, tuple[int, int, int]]] = []
    for n, frames in enumerate(stacks):
        batch.append((frames, *patches(thinker, frames)))
        last = n + 1 == len(stacks)
        if last or sum(len(pixels) for _, pixels, _ in batch) >= MAX_PATCHES:
            out += _look(thinker, batch)
            batch = []
    return out


def _look(thinker: Thinker, batch: list[tuple[Frames, torch.Tensor, tuple[int, int, int]]]) -> list[Seen]:
    pixels = torch.cat([p for _, p, _ in batch]).to(thinker.device)
    grid = torch.tensor([g for _, _, g in batch], device=thinker.device)
    made = thinker.bare.get_video_features(pixels, grid, return_dict=True)
    deep = getattr(made, "deepstack_features", None) or ()
    side = int(thinker.processor.video_processor.patch_size)
    return [
        Seen(
            features=made.pooler_output[i],
            deep=tuple(level[i] for level in deep),
            grid=g,
            frames=len(frames),
            height=g[1] * side,
            width=g[2] * side,
            digest=pixel_digest(p),
        )
        for i, (frames, p, g) in enumerate(batch)
    ]


def encode_audios(thinker: Thinker, waves: Sequence[Wave]) -> list[Heard]:
    """Each wave [1, n] through the audio tower, all at once: masked frames are not computed on."""
    if not waves:
        return []
    mels = [mel_features(thinker, wave) for wave in waves]
    lengths = [m.shape[1] for m in mels]
    features = torch.zeros(len(mels), mels[0].shape[0], max(lengths))
    mask = torch.zeros(len(mels), max(lengths), dtype=torch.long)
    for i, m in enumerate(mels):
        features[i, :, : lengths[i]] = torch.from_numpy(m)
        mask[i, : lengths[i]] = 1
    made = thinker.bare.get_audio_features(
        features.to(thinker.device, thinker.dtype), mask.to(thinker.device), return_dict=True
    ).last_hidden_state
    counts = [audio_tokens(thinker, n) for n in lengths]
    if sum(counts) != made.shape[0]:
        raise ValueError(f"the audio tower made {made.shape[0]} tokens where {sum(counts)} were due")
    extractor = thinker.processor.feature_extractor
    per_second = extractor.sampling_rate / extractor.hop_length
    return [
        Heard(part, n, n / per_second, rms(wave), mel_digest(m))
        for part, n, wave, m in zip(torch.split(made, counts), lengths, waves, mels, strict=True)
    ]
