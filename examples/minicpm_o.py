"""MiniCPM-o 2.6 as a third party's model: UNTESTED, no weights were run; written after its model card.

    pip install earwitness "transformers==4.44.2" torch torchvision torchaudio pillow vector-quantize-pytorch vocos
    earwitness doctor -m examples.minicpm_o:load

Its code comes with its weights (``trust_remote_code``): read that code before you run it. The model takes one
picture and one second of sound in turn; ``msgs`` is what it is handed here, so the receipts say "sent".
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from earwitness.records import Answer, Fed, Item, Media, View, digest

WEIGHTS = "openbmb/MiniCPM-o-2_6"


class MiniCPMo:
    """MiniCPM-o behind the Model protocol: one ``chat`` an item."""

    abilities = frozenset({"generates"})
    # Without sampling its ``chat`` searches with 3 beams and a repetition penalty of 1.2; both are switched off.
    decoding = "greedy (one beam, no repetition penalty)"

    def __init__(
        self, path: str = WEIGHTS, device: str = "cuda", dtype: str = "bfloat16", fps: float = 1.0
    ) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        if fps != 1.0:
            raise ValueError(f"fps={fps:g}: MiniCPM-o 2.6 takes one picture a second, with that second's sound")
        self.name, self.view = f"minicpm-o:{path}", View(fps=fps, max_pixels=448 * 448, rate=16_000)
        self._tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
        self._model = (
            AutoModel.from_pretrained(
                path, trust_remote_code=True, attn_implementation="sdpa", torch_dtype=getattr(torch, dtype),
                init_vision=True, init_audio=True, init_tts=False,
            )
            .eval()
            .to(device)
        )  # fmt: skip
        self.revision = getattr(self._model.config, "_commit_hash", None) or "unknown"

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """One answer an item, in order."""
        return [self._one(item, m) for item, m in zip(items, media, strict=True)]

    def _one(self, item: Item, media: Media) -> Answer:
        start = time.perf_counter()
        parts, both = units(media), media.frames is not None and media.wave is not None
        said = self._model.chat(
            msgs=[{"role": "user", "content": [*parts, item.prompt]}], tokenizer=self._tokenizer,
            sampling=False, num_beams=1, repetition_penalty=1.0, max_new_tokens=item.decode,
            omni_input=both, use_tts_template=False, generate_audio=False, max_slice_nums=1, use_image_id=False,
        )  # fmt: skip
        text = str(getattr(said, "text", said)).strip()
        error = None if text else "empty answer: the model generated nothing"
        return Answer(
            item=item.id, model=self.name, text=text or None, error=error, fed=receipt(parts),
            seconds=time.perf_counter() - start,
        )  # fmt: skip


def units(media: Media) -> list[Any]:
    """The clip as ``chat`` takes it, second by second: "<unit>", a picture, that second's sound [samples].

    Without sound, pictures alone, and without pictures, the whole sound alone, as its card does for these.
    """
    from PIL import Image

    frames = [] if media.frames is None else [Image.fromarray(frame) for frame in media.frames]
    if media.wave is None:
        return frames
    if not frames:
        return [np.ascontiguousarray(media.wave[0])]
    out: list[Any] = []
    for n, frame in enumerate(frames):  # the last unit takes what is left over
        end = media.wave.shape[1] if n + 1 == len(frames) else (n + 1) * media.rate
        out += ["<unit>", frame, np.ascontiguousarray(media.wave[0, n * media.rate : end])]
    return out


def receipt(parts: Sequence[Any]) -> Fed:
    """Read off what is handed over: hashes of the very pictures and sounds in the message."""
    sounds = [p for p in parts if isinstance(p, np.ndarray)]
    pictures = [np.asarray(p) for p in parts if not isinstance(p, np.ndarray | str)]
    wave = np.concatenate(sounds) if sounds else None
    return Fed(
        measured="sent",
        frames=len(pictures) or None,
        height=int(pictures[0].shape[0]) if pictures else None,
        width=int(pictures[0].shape[1]) if pictures else None,
        audio_seconds=None if wave is None else len(wave) / 16_000,
        audio_rms=None if wave is None else float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))),
        video_hash=digest(*pictures) if pictures else None,
        audio_hash=None if wave is None else digest(wave),
    )


def load(device: str = "cuda", dtype: str = "bfloat16", fps: float = 1.0) -> MiniCPMo:
    """The factory that ``-m examples.minicpm_o:load`` calls; of ``--set`` it takes what is named here."""
    return MiniCPMo(WEIGHTS, device, dtype, fps)
