"""Clips a second through the cheap gates, and how many times faster than the plain ways, in one run.

Run ``python benchmarks/gates.py`` (12 clips, half a minute) or ``--clips 1000`` for the figures in
docs/checks_gates.md. The clips are procedural (Foley), 5 s of 640 x 360 at 25 frames a second with AAC at 44.1 kHz.

- ours: one opening a clip; two small pictures a second, sound once at 16 kHz and once at its own rate, offset,
  every gate, and the print;
- plain, PyAV: every picture decoded to RGB at full size, all sound, then the same gates on all of it;
- plain, FFmpeg: a process a gate (ffprobe; volumedetect and silencedetect; freezedetect; blackdetect).

Every 4th clip goes the plain ways. Then all of them go through ``earwitness curate check`` itself, with one process
and with two: the gates, the log, the search for copies and the labels file, but not the card. Verdicts must be the
same. What two processes bring is told on a machine with two cores to spare only; ``load`` says how busy it was.

The search for copies is timed apart, on random prints: 10,000 and 40,000.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from earwitness import media
from earwitness.curate.checks import checking, gates, prints, wishes
from earwitness.records import Clip, Media

FPS, RATE, SECONDS = 25, 44_100, 5
HIGH, WIDE = 360, 640


class Took(NamedTuple):
    """How long a way took for so many clips; ``cpu`` seconds are those of its child processes too."""

    clips: int
    seconds: float
    cpu: float

    @property
    def rate(self) -> float:
        """Clips a second."""
        return self.clips / self.seconds

    @property
    def cost(self) -> float:
        """CPU milliseconds a clip: the steadier figure on a shared machine, and fair to ways with many threads."""
        return 1000 * self.cpu / self.clips


def write(path: Path, seed: int) -> None:
    """A drifting texture with grain, and noise that swells."""
    rng = np.random.default_rng(seed)
    texture = np.kron(rng.integers(30, 220, (30, 50, 3)), np.ones((24, 24, 1))).astype(np.int16)
    frames = np.empty((FPS * SECONDS, HIGH, WIDE, 3), np.uint8)
    grain = rng.integers(-4, 5, (HIGH + 40, WIDE + 60, 1), np.int16)
    for k in range(len(frames)):
        part = np.roll(texture, (k, 2 * k), (0, 1))[:HIGH, :WIDE]
        frames[k] = np.clip(part + grain[k % 40 :, k % 60 :][:HIGH, :WIDE], 0, 255)
    swell = np.repeat(rng.uniform(0.05, 0.5, SECONDS * 10), RATE // 10)
    wave = (swell * rng.normal(0, 0.2, len(swell))).astype(np.float32)[None]
    media.write_clip(frames, FPS, wave, RATE, path, "aac")


def ours(path: Path) -> prints.Print:
    """Every gate, and the print, from one opening."""
    with media.demux(path) as packets:
        probed = media.probe(packets)
        seen = media.load(packets, gates.LOOK)
        native = media.load_native(packets)
    gates.gates(Clip(id=path.stem), seen, probe=probed, native=native)
    return prints.print_of(seen)


def plain(path: Path) -> None:
    """Decode all of it at full size and rate, then look."""
    with av.open(str(path)) as held:
        pictures = [f.to_ndarray(format="rgb24") for f in held.decode(video=0)]
    with av.open(str(path)) as held:
        wave = np.concatenate([f.to_ndarray() for f in held.decode(audio=0)], axis=1).astype(np.float32)
    frames = np.stack(pictures)
    whole = Media(frames, np.arange(len(frames)) / FPS, wave, RATE, len(frames) / FPS)
    gates.gates(Clip(id=path.stem), whole)


def subprocesses(path: Path) -> None:
    """A process of FFmpeg for each question."""
    probe = ["ffprobe", "-v", "error", "-show_streams", "-show_format", str(path)]
    look: list[Sequence[str]] = [
        ["-af", "volumedetect,silencedetect=noise=-60dB:d=0.5", "-vn"],
        ["-vf", "freezedetect=n=-60dB:d=1", "-an"],
        ["-vf", "blackdetect=d=0.5", "-an"],
    ]
    subprocess.run(probe, check=True, capture_output=True)
    for how in look:
        command = ["ffmpeg", "-v", "info", "-nostats", "-i", str(path), *how, "-f", "null", "-"]
        subprocess.run(command, check=True, capture_output=True)


def timed(files: Sequence[Path], way: Callable[[Path], object]) -> Took:
    """One way over these files."""
    began, used = time.perf_counter(), sum(os.times()[:4])
    for file in files:
        way(file)
    return Took(len(files), time.perf_counter() - began, sum(os.times()[:4]) - used)


def copies(count: int) -> float:
    """Seconds that the search for copies takes among so many random prints, a tenth of them copies."""
    rng = np.random.default_rng(0)
    shown, heard = rng.integers(0, 2**63, (count, 10)), rng.integers(0, 2**16, (count, 38))
    shown[count - count // 10 :] = shown[: count // 10] ^ 5
    heard[count - count // 10 :] = heard[: count // 10] ^ 1
    held = {
        str(i): prints.Print(pictures=tuple(map(int, shown[i])), sounds=tuple(map(int, heard[i])))
        for i in range(count)
    }
    began = time.perf_counter()
    found = prints.duplicates(held)
    took = time.perf_counter() - began
    assert sum(v.passed is False for v in found) == count // 10, "copies were missed, or others taken for copies"
    return took


def through_the_verb(files: Sequence[Path], folder: Path, workers: int) -> tuple[Took, bytes]:
    """``curate check`` over these files, each a clip of its own; how long it took, and its verdicts."""
    manifest = folder / "manifest"
    manifest.mkdir(exist_ok=True)
    for k, file in enumerate(files):
        if not (manifest / f"{k}.mp4").exists():
            os.link(file, manifest / f"{k}.mp4")
    rows = [f"{k}.mp4,noise,noise" for k in range(len(files))]
    (manifest / "labels.csv").write_text("\n".join(["path,seen,heard", *rows]) + "\n")
    out = folder / f"checked-{workers}"
    began, used = time.perf_counter(), sum(os.times()[:4])
    checking.check(str(manifest), out, wishes.asked(), workers=workers)
    took = Took(len(files), time.perf_counter() - began, sum(os.times()[:4]) - used)
    return took, (out / "verdicts.jsonl").read_bytes()


def measure(clips: int, prints_of: int = 10_000) -> tuple[Took, Took]:
    """Measure and print; returns our figure and the plain one of PyAV."""
    with tempfile.TemporaryDirectory() as folder:
        # Eight different files are enough: each is read as often as it takes, from the page cache for every way.
        made = [Path(folder) / f"{k}.mp4" for k in range(min(clips, 8))]
        for seed, path in enumerate(made):
            write(path, seed)
        files = [made[k % len(made)] for k in range(clips)]
        some = files[:: 4 if clips > 8 else 1]
        own = timed(files, ours)
        whole = timed(some, plain)
        rows = [("gates and print", own), ("PyAV, all at full size", whole)]
        if shutil.which("ffmpeg") and shutil.which("ffprobe"):
            rows.append(("FFmpeg, a process a gate", timed(some, subprocesses)))
        one, said = through_the_verb(files, Path(folder), 1)
        two, again = through_the_verb(files, Path(folder), 2)
        assert said == again, "two processes found something else than one"
        rows += [("curate check", one), ("curate check --workers 2", two)]
        print("                            clips  a second  CPU ms a clip  times ours (CPU)")
        for name, took in rows:
            print(f"{name:26s} {took.clips:6d} {took.rate:9.1f} {took.cost:14.0f} {took.cost / own.cost:17.1f}")
    print(
        f"two processes: {two.rate / one.rate:.2f} times the clips a second of one; load {os.getloadavg()[0]:.1f} "
        f"on {os.cpu_count()} cores"
    )
    few, many = copies(prints_of), copies(4 * prints_of)
    print(f"copies among {prints_of}: {few:.1f} s; among {4 * prints_of}: {many:.1f} s, {many / few:.1f} times")
    return own, whole


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=12)
    measure(parser.parse_args().clips)
