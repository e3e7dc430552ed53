"""A clip in memory as the bytes that a server takes: one mp4 with its sound, a wav, single pictures.

What is sent is what a local model would be given: the pictures at ``Media.times``, the sound from t = 0 on. With
FLAC (the default) the sound is exact to 16 bit. Pictures are H.264 at crf 20: codec noise of a few levels that
local models are not given, but the same in all conditions, since a picture is encoded *once* and every sound is
laid beside the same picture packets. AAC is for servers that do not read FLAC in mp4; it is not exact.
"""

from __future__ import annotations

import io
import tempfile
import threading
import wave as wavefile
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from PIL import Image

from earwitness import media as files
from earwitness.media.timed import write_timed
from earwitness.records import Fed, Frames, Media, Times, Wave

CODECS = ("flac", "aac")


class Packer:
    """Packs clips and remembers the last ones: many questions share a clip, many conditions a picture.

    Thread-safe; what two threads want at the same time is made once.

    Parameters
    ----------
    codec : of the sound in an mp4: "flac" (exact) or "aac".
    max_bytes : packed bytes to remember, at most.
    """

    def __init__(self, codec: str = "flac", *, max_bytes: int = 1 << 28) -> None:
        if codec not in CODECS:
            raise ValueError(f"audio_codec must be flac (exact) or aac, got {codec!r}")
        self.codec = codec
        self._max, self._bytes, self._lock = max_bytes, 0, threading.Lock()
        self._held: OrderedDict[tuple[object, ...], Future[bytes]] = OrderedDict()

    def video(self, media: Media, *, sound: bool = True) -> bytes:
        """An mp4 of the clip; with its sound inside where it has any and ``sound`` is true.

        Equal pictures give bit-identical picture packets. Raises ValueError where the clip has no picture.
        """
        if media.frames is None or media.times is None:
            raise ValueError("no picture to pack: the clip has no video track")
        frames, times, seconds = media.frames, media.times, media.duration
        silent = self._once(("silent", media.video_hash, seconds), lambda: _silent(frames, times, seconds))
        wave = media.wave
        if not sound or wave is None:
            return silent
        key = (self.codec, media.video_hash, seconds, media.audio_hash)
        return self._once(key, lambda: _with_sound(silent, wave, media.rate, self.codec))

    def _once(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        with self._lock:
            future = self._held.get(key)
            mine = future is None
            if future is None:
                future = self._held[key] = Future()
            self._held.move_to_end(key)
        if not mine:
            return future.result()
        try:
            made = make()
        except BaseException as error:
            with self._lock:
                self._held.pop(key, None)
            future.set_exception(error)
            raise
        future.set_result(made)
        with self._lock:
            self._bytes += len(made)
            while self._bytes > self._max and len(self._held) > 1:
                old = next((k for k, f in self._held.items() if k != key and f.done()), None)
                if old is None:
                    break
                self._bytes -= len(self._held.pop(old).result())
        return made


def wav(media: Media) -> bytes:
    """The sound alone as a wav of 16 bit. Raises ValueError where there is none."""
    if media.wave is None:
        raise ValueError("no sound to pack: the clip has no audio track")
    out = io.BytesIO()
    with wavefile.open(out, "wb") as f:
        f.setnchannels(media.wave.shape[0])
        f.setsampwidth(2)
        f.setframerate(media.rate)
        f.writeframes(files.sixteen_bit(media.wave).T.astype("<i2").tobytes())
    return out.getvalue()


def images(media: Media, kind: str = "jpeg") -> list[tuple[float, bytes]]:
    """Each frame as (seconds, bytes of a "jpeg" or an exact "png"). Raises ValueError where there is none."""
    if media.frames is None or media.times is None:
        raise ValueError("no picture to pack: the clip has no video track")
    if kind not in ("jpeg", "png"):
        raise ValueError(f"pictures are packed as jpeg or png, got {kind!r}")
    out = []
    for when, frame in zip(media.times, media.frames, strict=True):
        data = io.BytesIO()
        Image.fromarray(frame).save(data, kind, **({"quality": 95, "subsampling": 0} if kind == "jpeg" else {}))
        out.append((float(when), data.getvalue()))
    return out


def sent(media: Media) -> Fed:
    """Receipt of what goes out to a server; the server's token counts are for the caller to add."""
    frames, wave = media.frames, media.wave
    loud = (
        None if wave is None else float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if wave.size else 0.0
    )
    return Fed(
        measured="sent",
        frames=None if frames is None else frames.shape[0],
        height=None if frames is None else frames.shape[1],
        width=None if frames is None else frames.shape[2],
        audio_seconds=None if wave is None else wave.shape[1] / media.rate,
        audio_rms=loud,
        video_hash=media.video_hash,
        audio_hash=media.audio_hash,
    )


def _silent(frames: Frames, times: Times, seconds: float) -> bytes:
    with tempfile.TemporaryDirectory(prefix="earwitness-") as folder:
        out = Path(folder) / "silent.mp4"
        write_timed(frames, times, seconds, out)
        return out.read_bytes()


def _with_sound(silent: bytes, wave: Wave, rate: int, codec: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="earwitness-") as folder:
        source, out = Path(folder) / "silent.mp4", Path(folder) / "clip.mp4"
        source.write_bytes(silent)
        files.write_sound(source, wave, rate, out, codec)
        return out.read_bytes()
