"""Video-LLaMA2.1-AV as a third party's model: UNTESTED, no weights were run; written after its code.

    git clone -b audio_visual https://github.com/DAMO-NLP-SG/VideoLLaMA2
    pip install earwitness -r VideoLLaMA2/requirements.txt
    PYTHONPATH=VideoLLaMA2 earwitness doctor -m examples.video_llama2:load

It needs its own environment (torch 2.2, transformers 4.42) and the ffmpeg command. Its loader returns *silence*
where it cannot read a file's sound, with a line on the screen and no error: a harness with a wrong path is deaf and
does not know it. Here it gets a wave file that was just written, and the ear check looks at what came of it.
"""

from __future__ import annotations

import tempfile
import time
import wave as wav
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from earwitness.records import Answer, Fed, Item, Media, View, Wave, digest

WEIGHTS = "DAMO-NLP-SG/VideoLLaMA2.1-7B-AV"


class VideoLlama2:
    """Video-LLaMA2 behind the Model protocol: its own preprocessing, one ``mm_infer`` an item."""

    abilities = frozenset({"generates"})
    decoding = "greedy"

    def __init__(self, path: str = WEIGHTS, fps: float = 2.0) -> None:
        from videollama2 import mm_infer, model_init  # type: ignore[import-not-found, unused-ignore]

        self._model, self._processor, self._tokenizer = model_init(path)
        self._infer, self._frames = mm_infer, int(self._model.config.num_frames)
        self.name, self.revision = f"video-llama2:{path}", str(getattr(self._model.config, "_commit_hash", None))
        self.view = View(fps=fps, max_pixels=384 * 384, rate=16_000)
        self._last: tuple[object, Any, str] | None = None

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """One answer an item, in order."""
        return [self._one(item, m) for item, m in zip(items, media, strict=True)]

    def _one(self, item: Item, media: Media) -> Answer:
        start = time.perf_counter()
        fed, kind = self._prepared(media)
        text = self._infer(
            fed, item.prompt, model=self._model, tokenizer=self._tokenizer, modal=kind, do_sample=False,
            max_new_tokens=item.decode,
        )  # fmt: skip
        error = None if text.strip() else "empty answer: the model generated nothing"
        return Answer(
            item=item.id, model=self.name, text=text.strip() or None, error=error, fed=receipt(fed, kind, media),
            seconds=time.perf_counter() - start,
        )  # fmt: skip

    def _prepared(self, media: Media) -> tuple[Any, str]:
        """The tensors that ``mm_infer`` takes, and the name it has for their kind; made once for a clip."""
        key = (media.video_hash, media.audio_hash)
        if self._last is None or self._last[0] != key:
            picture = None if media.frames is None else self._processor["video"](spread(media.frames, self._frames))
            sound = None if media.wave is None else fbank(media.wave, media.rate)
            if picture is not None and sound is not None:
                self._last = key, {"video": picture, "audio": sound}, "video"
            elif picture is not None:
                self._last = key, picture, "video"
            else:
                self._last = key, sound, "text" if sound is None else "audio"
        return self._last[1], self._last[2]


def spread(frames: np.ndarray, count: int) -> np.ndarray:
    """``count`` frames from the middles of equal parts, as its own loader samples a file."""
    part = (len(frames) - 1) / count
    return np.ascontiguousarray(frames[[round(part * (n + 0.5) + 1e-6) for n in range(count)]])


def fbank(wave: Wave, rate: int) -> Any:
    """Its own filter bank of a wave: it reads files only, through ffmpeg, so one is written for it."""
    from videollama2.mm_utils import process_audio_from_video  # type: ignore[import-not-found, unused-ignore]

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "sound.wav")
        with wav.open(path, "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(rate)
            out.writeframes((np.clip(wave[0], -1, 1) * 32767).round().astype("<i2").tobytes())
        return process_audio_from_video(path, wave.shape[1] / rate)


def receipt(fed: Any, kind: str, media: Media) -> Fed:
    """Read off the tensors that go into the model."""
    parts = fed if isinstance(fed, dict) else {kind: fed}
    picture, sound = parts.get("video"), parts.get("audio")
    return Fed(
        frames=None if picture is None else int(picture.shape[0]),
        height=None if picture is None else int(picture.shape[-2]),
        width=None if picture is None else int(picture.shape[-1]),
        audio_seconds=None if sound is None or media.wave is None else media.wave.shape[1] / media.rate,
        video_hash=None if picture is None else digest(picture.float().cpu().numpy()),
        audio_hash=None if sound is None else digest(sound.float().cpu().numpy()),
    )


def load(fps: float = 2.0) -> VideoLlama2:
    """The factory that ``-m examples.video_llama2:load`` calls; of ``--set`` it takes what is named here."""
    return VideoLlama2(WEIGHTS, fps)
