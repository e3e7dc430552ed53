"""Ratios of the media room, measured in one run: writing sound, sampling pictures.

Run ``python benchmarks/media.py [CLIP]``; without a clip it makes one of 10 s at 640 x 360 from moving texture.
Every method runs once a round, the rounds are interleaved, and the fastest of each counts (a busy machine only
adds). Both wall and CPU time (children's too) are shown: on a shared machine the CPU column is the steadier one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from earwitness import media
from earwitness.media import decode as decoding
from earwitness.media.clock import clock
from earwitness.records import View

ROUNDS = 7


def clip(path: Path) -> Path:
    """Ten seconds of 360p: a drifting, slightly noisy texture with stereo sound, B-frames, long groups."""
    rng = np.random.default_rng(0)
    texture = np.kron(rng.integers(40, 215, (90, 160, 3)), np.ones((8, 8, 1))).astype(np.int16)
    frames = np.empty((300, 360, 640, 3), np.uint8)
    for index in range(300):
        part = np.roll(texture, (index, 2 * index), (0, 1))[:360, :640]
        frames[index] = np.clip(part + rng.integers(-4, 5, (360, 640, 1)), 0, 255)
    wave = rng.normal(0, 0.1, (2, 441_000)).cumsum(axis=1)
    wave = (0.3 * (wave - wave.mean()) / np.abs(wave).max()).astype(np.float32)
    ffmpeg = shutil.which("ffmpeg")
    media.write_clip(frames, 30, wave, 44_100, path, "aac")
    if ffmpeg:  # with reordered pictures, as clips from the wild have
        again = path.with_name("clip_b.mp4")
        command = [ffmpeg, "-y", "-v", "error", "-i", str(path), "-c:v", "libx264", "-crf", "23", "-bf", "2"]
        subprocess.run([*command, "-c:a", "copy", str(again)], check=True)
        return again
    return path


def durable(path: Path, content: bytes) -> None:
    """Write bytes and wait until the disk has them: what merely writing costs at the least."""
    with path.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def fastest(methods: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Least (wall, CPU) milliseconds of each method over interleaved rounds."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for _ in range(ROUNDS):
        for name, method in methods.items():
            wall, cpu = time.perf_counter(), sum(os.times()[:4])
            fine = time.process_time()
            method()
            alone = time.process_time() - fine
            # os.times counts children but ticks in 10 ms; without children the fine clock says it all.
            used = sum(os.times()[:4]) - cpu
            taken[name].append(
                (1000 * (time.perf_counter() - wall), 1000 * (used if used > alone + 0.02 else alone))
            )
    return {name: (min(w for w, _ in v), min(c for _, c in v)) for name, v in taken.items()}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        source = Path(sys.argv[1]) if len(sys.argv) > 1 else clip(home / "clip.mp4")
        native = media.load_native(source)
        wave, rate = native.wave, native.rate
        if wave is None:
            wave, rate = np.zeros((1, round(native.duration * 48_000)), np.float32), 48_000
        demuxed = media.demux(source)
        out = home / "o.mp4"
        media.write_sound(source, wave, rate, out)
        written = out.read_bytes()
        view = View(fps=2.0)

        def plain() -> np.ndarray:
            """Decode every picture to RGB and pick by stamp, as evaluation scripts do."""
            import av

            with av.open(str(source)) as held:
                pictures = [(float(f.time), f.to_ndarray(format="rgb24")) for f in held.decode(video=0)]
            stamps = np.array([t for t, _ in pictures])
            times = decoding.sample_times(view.fps, native.duration)
            index = np.searchsorted(stamps - stamps[0], times + 1e-4, side="right") - 1
            return np.stack([pictures[i][1] for i in index])

        def sampled(skip: bool) -> np.ndarray:
            with media.demux(source) as held:
                ticking = clock(held)
                assert ticking is not None
                times = decoding.sample_times(view.fps, ticking.duration)
                return decoding._sample(held, ticking, times, view, skip=skip)

        assert np.array_equal(plain(), sampled(True)), "sampling is not bit-equal to decoding all"
        assert np.array_equal(sampled(False), sampled(True))
        methods: dict[str, Callable[[], object]] = {
            "write the same bytes, page cache": lambda: (home / "raw").write_bytes(written),
            "write the same bytes, to the disk": lambda: durable(home / "raw2", written),
            "write_sound, FLAC": lambda: media.write_sound(source, wave, rate, out),
            "write_sound, FLAC, demuxed once": lambda: media.write_sound(demuxed, wave, rate, out),
            "write_sound, AAC": lambda: media.write_sound(source, wave, rate, out, "aac"),
            "sample 2 a second": lambda: sampled(True),
            "sample 2 a second, no skipping": lambda: sampled(False),
            "PyAV: decode all to RGB, pick": plain,
        }
        ffmpeg = shutil.which("ffmpeg")
        if ffmpeg:
            command = [
                ffmpeg,
                "-y",
                "-v",
                "error",
                "-i",
                str(source),
                "-c:v",
                "libx264",
                "-c:a",
                "aac",
                str(home / "x.mp4"),
            ]
            methods["ffmpeg, full libx264 re-encode"] = lambda: subprocess.run(command, check=True)
        took = fastest(methods)
        print(f"{source.name}: {native.duration:.2f} s, {len(written) / 1e6:.2f} MB with FLAC, {ROUNDS} rounds")
        for name, value in took.items():
            print(f"  {name:34s} {value[0]:9.1f} ms wall {value[1]:9.1f} ms CPU")
        ratios = [
            (
                "write_sound (demuxed once) against the bytes in the page cache (<= 12)",
                "write_sound, FLAC, demuxed once",
                "write the same bytes, page cache",
            ),
            (
                "write_sound (demuxed once) against the bytes to the disk (no target)",
                "write_sound, FLAC, demuxed once",
                "write the same bytes, to the disk",
            ),
            ("sampling against decoding all (> 1)", "PyAV: decode all to RGB, pick", "sample 2 a second"),
            (
                "sampling against the same without skipping (> 1)",
                "sample 2 a second, no skipping",
                "sample 2 a second",
            ),
        ]
        if ffmpeg:
            ratios.insert(
                0, ("re-encode against write_sound (>= 30)", "ffmpeg, full libx264 re-encode", "write_sound, FLAC")
            )
        for name, above, below in ratios:
            wall, cpu = (a / max(b, 1e-3) for a, b in zip(took[above], took[below], strict=True))
            print(f"  {name:64s} {wall:7.2f} x wall {cpu:7.2f} x CPU")
        demuxed.close()


if __name__ == "__main__":
    main()
