"""A clip drawn for a person: frames, wave and spectrogram on the canonical clock, and a file that browsers play.

``draw`` decodes one clip and leaves in a folder: ``facts.json``, ``strip.jpg`` (frames in a grid, row by row),
``wave.bin`` (int8 pairs lowest, highest a bin), ``spectrum.png`` (grey, rows from high to low frequency) and, where
the clip's own file would not play or would not keep our clock, ``play.mp4``. The page only places what was measured
here: no browser's idea of a file's time is asked.

``child`` is the other end of :class:`earwitness.curate.review.media.Studio`: a process with a memory limit that
draws one clip after another."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earwitness import media
from earwitness.media.clock import clock
from earwitness.media.decode import fitted, load_native, pictures_at, window
from earwitness.media.opening import Demuxed, Limits, held
from earwitness.media.probe import Probe
from earwitness.media.signal import loudness_lufs, onsets
from earwitness.records import Frames, Times, View, Wave

VERSION = 1  # of what is drawn: another one draws again
CELLS, COLUMNS, CELL = 120, 20, 72  # frames of a strip at most, in rows of 20, each 72 pixels high
BINS, BIN = 16_000, 0.001  # of the wave at most; seconds a bin at least
STEPS, STEP, ROWS = 2_000, 0.004, 96  # spectrogram: columns at most, seconds a column at least, rows
LOWEST, HIGHEST, DEPTH = 60.0, 12_000.0, 70.0  # Hz, Hz, dB below the loudest
RECODED = 854 * 480  # pixels of a clip that has to be encoded anew
# Codecs that Chromium, Firefox and Safari play in these containers; FLAC in mp4 is exact and plays in all three.
PICTURES, SOUNDS = {"h264", "vp8", "vp9", "av1", "libdav1d"}, {"aac", "mp3", "mp3float", "opus", "vorbis", "flac"}
PLANAR = {"yuv420p", "yuvj420p"}  # ten-bit and 4:4:4 H.264 stays black in most browsers
ALIKE = 0.002  # seconds by which a player's zero may differ from ours
KINDS = {".mp4": "video/mp4", ".m4v": "video/mp4", ".webm": "video/webm", ".wav": "audio/wav"}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a clip. ``times``: when each picture is shown. ``play``: "" for the clip's own file."""

    duration: float = 0.0
    times: tuple[float, ...] = ()
    width: int = 0
    height: int = 0
    cells: int = 0
    sound: bool = False
    silent: bool = False
    bins: int = 0
    onsets: tuple[float, ...] = ()
    loudness: float | None = None
    flags: tuple[str, ...] = ()
    play: str = ""
    kind: str = ""
    key: str = ""  # of the cache: changes with the file
    error: str | None = None


class Task(msgspec.Struct, frozen=True):
    """What the child is asked: one clip, and the folder to draw into."""

    path: str
    start: float
    end: float | None
    folder: str


def draw(path: Path, start: float, end: float | None, folder: Path) -> Facts:
    """Draw [start, end) of a file into ``folder``. Raises MediaError where it cannot be decoded."""
    limits = Limits()
    with held(path, limits) as source:
        probed = media.probe(source, limits=limits)
        first, last = window(path, probed.duration, start, end)
        crop = first > 0 or last < probed.duration - 1e-3
        heard = load_native(source, start=first, end=last, limits=limits)
        length = heard.duration
        times, cells = np.zeros(0), 0
        if probed.picture is not None:
            ticking = clock(source)
            assert ticking is not None
            times = ticking.times[(ticking.times >= first - 1e-6) & (ticking.times < last - 1e-6)] - first
            cells = _strip(source, probed, first, length, max(1, len(times)), folder / "strip.jpg")
        bins = 0
        if heard.wave is not None:
            bins = _wave(heard.wave, length, folder / "wave.bin")
            _spectrum(heard.wave, heard.rate, length, folder / "spectrum.png")
        play, kind, times = _player(source, probed, first, last, crop, times, heard.wave, heard.rate, folder)
    wave = heard.wave
    return Facts(
        duration=round(length, 6),
        times=tuple(round(float(t), 5) for t in times),
        width=probed.picture.width if probed.picture else 0,
        height=probed.picture.height if probed.picture else 0,
        cells=cells,
        sound=wave is not None,
        silent=wave is not None and not wave.any(),
        bins=bins,
        onsets=() if wave is None else tuple(round(float(t), 4) for t in onsets(wave, heard.rate)),
        loudness=_loudness(wave, heard.rate),
        flags=probed.flags,
        play=play,
        kind=kind,
    )


def _loudness(wave: Wave | None, rate: int) -> float | None:
    if wave is None or rate < 4000:
        return None
    found = loudness_lufs(wave, rate)
    return round(found, 1) if np.isfinite(found) else None


def _strip(source: Demuxed, probed: Probe, first: float, length: float, shown: int, out: Path) -> int:
    """Frames at the middles of equal parts of the clip, in a grid; returns how many."""
    assert probed.picture is not None
    count = min(CELLS, shown)
    wide = int(np.clip(round(CELL * probed.picture.width / probed.picture.height), 24, 256))
    middles = first + (np.arange(count) + 0.5) * length / count
    frames = pictures_at(source, middles, View(size=(CELL, wide)))
    grid = np.zeros((-(-count // COLUMNS) * CELL, min(count, COLUMNS) * wide, 3), np.uint8)
    for index, pixels in enumerate(frames):
        y, x = index // COLUMNS * CELL, index % COLUMNS * wide
        grid[y : y + CELL, x : x + wide] = pixels
    Image.fromarray(grid).save(out, "JPEG", quality=82)
    return count


def _wave(wave: Wave, length: float, out: Path) -> int:
    """Lowest and highest sample of each bin, scaled to the peak, as int8 pairs; returns how many bins."""
    mono: NDArray[np.float32] = wave.mean(axis=0)
    count = max(1, min(BINS, round(length / BIN), len(mono)))
    starts = np.linspace(0, len(mono), count + 1)[:-1].astype(int)
    # Channels that cancel in the mix must not be blown up to full height.
    full = max(float(np.abs(mono).max(initial=0)), 0.02 * float(np.abs(wave).max(initial=0)), 1e-9)
    pairs = np.stack([np.minimum.reduceat(mono, starts), np.maximum.reduceat(mono, starts)], axis=1)
    out.write_bytes(np.round(127 * pairs / full).astype(np.int8).tobytes())
    return count


def _spectrum(wave: Wave, rate: int, length: float, out: Path) -> None:
    """Log-power over log-frequency as a grey picture: 255 is the loudest, 0 is 70 dB below it or less.

    Windows of 20 ms (Hann), zero-padded to 4096 samples at 48 kHz: a click stays 20 ms wide.
    """
    mono: NDArray[np.float32] = wave.mean(axis=0)
    size = max(64, round(0.02 * rate))
    padded = 2 ** int(np.ceil(np.log2(4 * size)))
    count = max(1, min(STEPS, round(length / STEP)))
    centres = (np.arange(count) + 0.5) * len(mono) / count
    around = np.pad(mono, (size, size))
    starts = np.round(centres).astype(int) + size - size // 2
    highest = min(HIGHEST, 0.49 * rate)
    wanted = np.geomspace(highest, min(LOWEST, 0.5 * highest), ROWS)
    place = wanted * padded / rate
    below = np.floor(place).astype(int)
    part = (place - below)[None]
    taper = np.hanning(size).astype(np.float32)
    rows = np.empty((count, ROWS), np.float32)
    spans = np.lib.stride_tricks.sliding_window_view(around, size)
    for begin in range(0, count, 256):  # not all at once: long clips
        power = np.abs(np.fft.rfft(spans[starts[begin : begin + 256]] * taper, padded, axis=1)) ** 2
        rows[begin : begin + 256] = power[:, below] * (1 - part) + power[:, below + 1] * part
    loudest = float(rows.max(initial=0))
    if loudest <= 0:
        grey = np.zeros((count, ROWS), np.uint8)
    else:
        level = 10 * np.log10(np.maximum(rows / loudest, 10 ** (-DEPTH / 10)))
        grey = np.round(255 * (1 + level / DEPTH)).astype(np.uint8)
    Image.fromarray(np.ascontiguousarray(grey.T)).save(out, "PNG", compress_level=6)


def _player(
    source: Demuxed, probed: Probe, first: float, last: float, crop: bool, times: Times, wave: Wave | None,
    rate: int, folder: Path,
) -> tuple[str, str, Times]:  # fmt: skip
    """Name and kind of a file that browsers play on our clock, and the times of its pictures.

    The clip's own file where that will do; else its pictures copied bit by bit beside the exact sound; else, for
    crops and codecs that browsers lack, encoded anew.
    """
    picture, sound = probed.picture, probed.sound
    suffix = Path(probed.path).suffix.lower()
    if picture is None:
        if not crop and suffix == ".wav":
            return "", KINDS[suffix], times
        import scipy.io.wavfile  # here: few clips are without pictures, and every child would load it

        assert wave is not None
        scipy.io.wavfile.write(folder / "play.wav", rate, media.sixteen_bit(wave).T)
        return "play.wav", KINDS[".wav"], times
    shows = picture.codec in PICTURES and (picture.codec != "h264" or picture.pixel_format in PLANAR)
    in_step = abs(picture.start) <= ALIKE and (sound is None or sound.start >= -ALIKE) and not picture.hidden
    if not crop and shows and in_step and suffix in KINDS and (sound is None or sound.codec in SOUNDS):
        return "", KINDS[suffix], times
    out = folder / "play.mp4"
    if not crop and shows and wave is not None:
        media.write_sound(source, wave, rate, out)
        return out.name, KINDS[".mp4"], times
    pace = float(np.clip(picture.fps, 1.0, 60.0))
    size = fitted(picture.height, picture.width, View(max_pixels=RECODED))
    clip = media.load(source, View(fps=pace, size=size, rate=48_000), start=first, end=last)
    assert clip.frames is not None
    heard = clip.wave
    if heard is not None:  # exactly as long as whole frames are
        count = round(len(clip.frames) / pace * clip.rate)
        heard = np.pad(heard, ((0, 0), (0, max(0, count - heard.shape[1]))))[:, :count]
    media.write_clip(_even(clip.frames), pace, heard, clip.rate, out)
    return out.name, KINDS[".mp4"], np.arange(len(clip.frames)) / pace


def _even(frames: Frames) -> Frames:
    return frames[:, : max(2, frames.shape[1] & ~1), : max(2, frames.shape[2] & ~1)]


def child() -> None:
    """The child's side: a Task a line on standard input, the Facts a line on standard output."""
    if os.name == "posix":
        import resource

        memory = int(sys.argv[-1]) if sys.argv[-1].isdigit() else 3 * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    decode = msgspec.json.Decoder(Task).decode
    for line in sys.stdin.buffer:
        task = decode(line)
        try:
            facts = draw(Path(task.path), task.start, task.end, Path(task.folder))
        except ValueError as error:  # MediaError is one
            facts = Facts(error=str(error))
        except MemoryError:
            facts = Facts(error=f"{task.path}: takes more memory than it may (a decompression bomb?)")
        sys.stdout.buffer.write(msgspec.json.encode(facts) + b"\n")
        sys.stdout.buffer.flush()
