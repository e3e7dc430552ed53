"""Files in a request to Media: decoded once per content, with limits, since nobody vouches for them.

The same bytes give the same Media *object*, for requests at the same time too, so that the model encodes and
prefills them once. What is held is bounded by bytes; the least recently used clip goes first.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from earwitness import media as files
from earwitness.media import Limits, MediaError
from earwitness.media.decode import fitted
from earwitness.records import Frames, Media, View, Wave
from earwitness.serve.reading import Blob, Parts, Refusal

LIMITS = Limits(seconds=900.0, array_bytes=2**30)
# What Pillow raises on broken pictures; the warning is an error where warnings are.
BROKEN = (
    OSError, ValueError, SyntaxError, EOFError, ArithmeticError, LookupError, MemoryError, struct.error, zlib.error,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


class Clips:
    """Decodes what requests bring, as one view wants it.

    Parameters
    ----------
    guarded : decode in a process of its own with a memory limit (half a second more for each new clip).
    held : bytes of decoded clips to keep.
    """

    def __init__(self, view: View, *, limits: Limits = LIMITS, guarded: bool = True, held: int = 1 << 30) -> None:
        self.view, self.limits, self.guarded, self._max = view, limits, guarded, held
        self._held: OrderedDict[str, Future[Media]] = OrderedDict()
        self._lock = threading.Lock()
        self._cores = threading.Semaphore(max(1, os.cpu_count() or 1))
        self._longest = limits.seconds * view.fps  # pictures in a row
        self.decodes = 0

    def media(self, parts: Parts) -> Media:
        """The clip that these parts make; the same object for the same bytes while it is held. Thread-safe.

        Raises Refusal where a part cannot be decoded or the parts do not belong together.
        """
        if parts.video is None and not parts.images and parts.sound is None:
            return Media(frames=None, times=None, wave=None, rate=self.view.rate, duration=0.0)
        with self._lock:
            made = self._held.get(parts.key)
            mine = made is None
            if made is None:
                made = self._held[parts.key] = Future()
            self._held.move_to_end(parts.key)
        if mine:
            self._make(parts, made)
        return made.result()

    def _make(self, parts: Parts, made: Future[Media]) -> None:
        try:
            with self._cores:
                clip = self._decode(parts)
        except (ValueError, OSError, MemoryError) as error:
            made.set_exception(error)
        else:
            made.set_result(clip)
        finally:
            if not made.done():
                made.cancel()  # nobody waits for ever
            with self._lock:
                self.decodes += 1
                if made.cancelled() or made.exception() is not None:
                    del self._held[parts.key]
                self._trim()

    def _trim(self) -> None:
        size = {key: _bytes(f.result()) for key, f in self._held.items() if f.done() and not f.exception()}
        total = sum(size.values())
        for key in list(size)[:-1]:  # the newest stays, however large
            if total <= self._max:
                return
            total -= size[key]
            del self._held[key]

    def _decode(self, parts: Parts) -> Media:
        heard = None if parts.sound is None else self._load(parts.sound)
        if heard is not None and (heard.wave is None or heard.frames is not None):
            raise Refusal("not a plain sound file", param=parts.sound.where if parts.sound else None)
        if parts.video is not None:
            seen = self._load(parts.video)
            if seen.frames is None:
                raise Refusal(
                    "the video has no picture track (send sounds as input_audio)", param=parts.video.where
                )
            if parts.inside and seen.wave is None:
                raise Refusal(
                    "the video has no sound track, but mm_processor_kwargs.use_audio_in_video is true",
                    param=parts.video.where,
                )
            if not parts.inside:
                seen = seen.with_wave(None)
        elif parts.images:
            frames = self._pictures(parts.images)
            times = np.arange(len(frames)) / self.view.fps
            seen = Media(frames, times, None, self.view.rate, len(frames) / self.view.fps)
        else:
            assert heard is not None
            return heard
        return seen if heard is None or parts.sound is None else self._beside(seen, heard, parts.sound.where)

    def _beside(self, seen: Media, heard: Media, where: str) -> Media:
        """Pictures with a sound sent beside them, on one clock: both begin at 0.

        n pictures at some rate stand for any length that is sampled n times at that rate: the sound says which.
        """
        assert seen.frames is not None
        assert heard.wave is not None
        n, fps = len(seen.frames), self.view.fps
        if not (n - 1) / fps - 1e-3 < heard.duration <= n / fps + 1e-3:
            raise Refusal(
                f"a sound of {heard.duration:.2f} s beside {n} pictures at {fps:g} a second, which take "
                f"{n / fps:.2f} s: they do not belong together",
                param=where,
            )
        return replace(seen, wave=heard.wave, duration=heard.duration)

    def _load(self, blob: Blob) -> Media:
        """Decode a file by path: FFmpeg follows playlists from anything else."""
        with _file(blob.data) as path:
            try:
                if self.guarded:
                    return files.load_guarded(path, self.view, limits=self.limits)
                return files.load(path, self.view, limits=self.limits)
            except MediaError as error:
                said = str(error).replace(str(path), "the file").removeprefix("the file: ")
                raise Refusal(f"{said} (in {blob.where})", param=blob.where, code="bad_media") from error

    def _pictures(self, images: tuple[Blob, ...]) -> Frames:
        frames: list[Frames] = []
        for blob in images:
            frame = self._picture(blob)
            if frames and frame.shape != frames[0].shape:
                raise Refusal(
                    f"pictures of different sizes: {frame.shape[:2]} after {frames[0].shape[:2]} (height, width)",
                    param=blob.where,
                )
            frames.append(frame)
            if len(frames) * frame.nbytes > self.limits.array_bytes or len(frames) > self._longest:
                raise Refusal(f"too many pictures: {len(images)} (cut the clip)", param=blob.where)
        return np.stack(frames)

    def _picture(self, blob: Blob) -> Frames:
        try:
            with Image.open(io.BytesIO(blob.data), formats=("PNG", "JPEG")) as image:
                width, height = image.size
                if width * height > self.limits.pixels:
                    raise ValueError(f"{width} x {height} is above the limit of {self.limits.pixels} pixels")
                rgb = image.convert("RGB")
        except BROKEN as error:
            said = str(error) or type(error).__name__
            if isinstance(error, UnidentifiedImageError):
                said = "neither PNG nor JPEG"
            raise Refusal(
                f"the picture cannot be read: {said} (in {blob.where})", param=blob.where, code="bad_media"
            ) from error
        wanted = fitted(height, width, self.view)
        if wanted != (height, width):
            rgb = rgb.resize(wanted[::-1], Image.Resampling.BICUBIC)
        return np.asarray(rgb)


@contextmanager
def _file(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="earwitness-") as folder:
        path = Path(folder) / "sent"
        path.write_bytes(data)
        yield path


def _bytes(clip: Media) -> int:
    arrays: tuple[Frames | Wave | None, ...] = (clip.frames, clip.wave)
    return sum(0 if a is None else a.nbytes for a in arrays)
