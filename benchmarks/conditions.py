"""Eight conditions of a clip from one decode, against a file per condition written and decoded again.

Arrays: each clip is decoded once and every condition is made in memory (``interventions.apply``). Files: every
condition is written (pictures copied, FLAC) and then decoded as a model's loader would, which is what per-file
evaluation scripts do. ffmpeg: the same with one ffmpeg command per condition (pictures copied, AAC; black
re-encoded), where ffmpeg is installed. All three end with the same frames at 2 a second, 504 x 504, and 16 kHz
mono. CPU time is compared (the children's included): another process on the machine changes it little.

    python benchmarks/conditions.py [--clips 3] [--seconds 10] [--folder CLIPS]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from earwitness import media
from earwitness.interventions import apply, render
from earwitness.interventions.waves import changed
from earwitness.records import Intervention, Media, View, Wave

TARGET = 8.0
VIEW = View(fps=2.0, size=(504, 504), rate=16_000)
CONDITIONS = (
    Intervention(kind="original"),
    Intervention(kind="mute"),
    Intervention(kind="shift", seconds=1.0),
    Intervention(kind="shift", seconds=-1.0),
    Intervention(kind="swap", donor="next"),
    Intervention(kind="background", background="rain"),
    Intervention(kind="tone"),
    Intervention(kind="black"),
)


def arrays(clips: list[Path], _: Path) -> list[Media]:
    """Every condition of every clip from one decode each."""
    decoded = [media.load(clip, VIEW) for clip in clips]
    return [
        apply(one, iv, donor=decoded[(k + 1) % len(decoded)]) for k, one in enumerate(decoded) for iv in CONDITIONS
    ]


def _written(source: Path, iv: Intervention, donor: Path, out: Path) -> None:
    """One condition by our writer, without the measuring that render adds."""
    if iv.kind == "black":
        media.write_black(source, out)
        return
    with media.demux(source) as packets:
        native = media.load_native(packets)
        other = media.load_native(donor).wave if iv.kind == "swap" else None
        wave = changed(native.wave, native.rate, iv, donor=other, hear_rate=VIEW.rate).wave
        assert wave is not None
        media.write_sound(packets, wave, native.rate, out)


def _by_files(
    write: Callable[[Path, Intervention, Path, Path], object],
) -> Callable[[list[Path], Path], list[Media]]:
    def way(clips: list[Path], folder: Path) -> list[Media]:
        made = []
        for k, clip in enumerate(clips):
            for i, iv in enumerate(CONDITIONS):
                out = folder / f"{k}_{i}.mp4"
                write(clip, iv, clips[(k + 1) % len(clips)], out)
                made.append(media.load(out, VIEW))
        return made

    return way


def _rendered(source: Path, iv: Intervention, donor: Path, out: Path) -> None:
    render(source, iv, out, donor=donor if iv.kind == "swap" else None)


def _ffmpeg(source: Path, iv: Intervention, donor: Path, out: Path) -> None:
    """One condition by one ffmpeg command."""
    sound = {
        "original": ["-map", "0:v", "-map", "0:a"],
        "mute": ["-map", "0:v", "-map", "0:a", "-af", "volume=0"],
        "tone": ["-f", "lavfi", "-i", "sine=440", "-map", "0:v", "-map", "1:a", "-shortest"],
        "background": ["-f", "lavfi", "-i", "anoisesrc=c=pink:a=0.1", "-map", "0:v", "-map", "1:a", "-shortest"],
        "swap": ["-i", str(donor), "-map", "0:v", "-map", "1:a", "-af", "loudnorm"],
        "black": ["-map", "0:v", "-map", "0:a", "-vf", "drawbox=c=black:t=fill"],
    }.get(iv.kind)
    if sound is None:
        late = round(abs(iv.seconds) * 1000)
        how = (
            f"adelay={late}:all=1" if iv.seconds > 0 else f"atrim=start={abs(iv.seconds)},asetpts=PTS-STARTPTS,apad"
        )
        sound = ["-map", "0:v", "-map", "0:a", "-af", how, "-shortest"]
    video = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20"] if iv.kind == "black" else ["-c:v", "copy"]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-threads", "1", "-i", source, *sound, *video, "-c:a", "aac", out],
        check=True,
    )


def _cpu() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _made(count: int, seconds: float, folder: Path) -> list[Path]:
    """Clips at 640 x 360, 25 frames a second, whose pictures drift and flicker as footage does."""
    clips = []
    for k in range(count):
        rng = np.random.default_rng(k)
        ground = rng.integers(0, 256, (45 + 40, 80 + 40, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        frames = np.empty((round(seconds * 25), 360, 640, 3), np.uint8)
        for i, frame in enumerate(frames):
            y, x = (int(100 + 90 * np.sin(0.05 * i * s)) for s in (1.0, 1.3))
            frame[:] = ground[y : y + 360, x : x + 640] // 2 + rng.integers(0, 6, (360, 640, 1), np.uint8)
        t = np.arange(round(seconds * 44_100)) / 44_100
        sound = 0.1 * np.sin(2 * np.pi * (300 + 100 * k) * t) * (1 + np.sin(7 * t)) + 0.02 * rng.standard_normal(
            len(t)
        )
        wave: Wave = np.stack([sound, 0.8 * sound]).astype(np.float32)
        clips.append(folder / f"source{k}.mp4")
        media.write_clip(frames, 25, wave, 44_100, clips[-1])
    return clips


def main() -> int:
    """Run the ways, print times and ratios; 1 where the target is missed or the arrays differ from the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=3, help="2 or more: each is the next one's donor")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, help="real clips of one sound rate to use instead of made ones")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.folder:
            clips = [p for p in sorted(given.folder.glob("*.mp4")) if media.load_native(p).wave is not None]
            clips = clips[: given.clips]
        else:
            clips = _made(given.clips, given.seconds, folder)
        ways = {
            "arrays, one decode": arrays,
            "files": _by_files(_written),
            "files, each measured (render)": _by_files(_rendered),
        }
        if shutil.which("ffmpeg"):
            ways["ffmpeg and files"] = _by_files(_ffmpeg)
        arrays(clips[:2], folder)  # imports, the background's cache: both ways use them
        wall: dict[str, float] = {}
        cpu: dict[str, float] = {}
        made: dict[str, list[Media]] = {}
        for name, way in ways.items():
            place = folder / str(len(wall))
            place.mkdir()
            start, burnt = time.perf_counter(), _cpu()
            made[name] = way(clips, place)
            wall[name], cpu[name] = time.perf_counter() - start, _cpu() - burnt
            shutil.rmtree(place)
        _compare(made["arrays, one decode"], made["files"])
    print(f"{len(clips)} clips x {len(CONDITIONS)} conditions, frames 2/s at 504 x 504, 16 kHz mono")
    for name in ways:
        own, base = cpu[name], cpu["arrays, one decode"]
        print(
            f"{name:31} {1e3 * wall[name] / len(clips):8.0f} ms wall {1e3 * own / len(clips):8.0f} ms CPU a clip"
            f"   {own / base:5.1f} x CPU {wall[name] / wall['arrays, one decode']:5.1f} x wall"
        )
    ratio = cpu["files"] / cpu["arrays, one decode"]
    print(f"arrays against files: {ratio:.1f} times less CPU time (target: at least {TARGET:g})")
    return 0 if ratio >= TARGET else 1


def _compare(ours: list[Media], theirs: list[Media]) -> None:
    """Both ways must give the same media: pictures bit for bit, sounds but for 16 bit and
    the order of resampling, looping and mixing down."""
    for a, b, iv in zip(ours, theirs, CONDITIONS * (len(ours) // len(CONDITIONS)), strict=True):
        assert a.frames is not None
        assert b.frames is not None
        assert a.wave is not None
        assert b.wave is not None
        if not np.array_equal(a.frames, b.frames):
            raise SystemExit(f"{iv.key}: the pictures of the two ways differ")
        x, y = (w[0].astype(np.float64) for w in (a.wave, b.wave))
        alike = 1.0 if not x.any() and not y.any() else float(x @ y / np.sqrt((x @ x) * (y @ y)))
        level = float(10 * np.log10(max(x @ x, 1e-9) / max(y @ y, 1e-9)))
        # A peak-bound donor (claps) peaks lower at 16 kHz than in its file, and so may be made a bit louder here.
        if alike < 0.98 or abs(level) > (3 if iv.kind == "swap" else 0.5):
            raise SystemExit(f"{iv.key}: the sounds of the two ways differ: {alike:.3f} alike, {level:+.1f} dB")


if __name__ == "__main__":
    sys.exit(main())
