"""Decoding hostile files in a process of their own, with a memory limit and a deadline.

A few hundred kilobytes can make FFmpeg take gigabytes while it merely looks at a file, before any limit of ours is
asked. ``load_guarded`` does what ``load`` does, in a child that the system stops: at worst one clip is lost.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from earwitness.media.decode import load
from earwitness.media.opening import Limits, MediaError
from earwitness.records import Media, View


class Task(msgspec.Struct, frozen=True):
    """What the child is asked: one ``load``, its memory limit, and where the result goes."""

    path: str
    view: View
    start: float
    end: float | None
    limits: Limits
    memory: int
    folder: str


class Reply(msgspec.Struct, frozen=True):
    """What the child found: the arrays lie beside it as .npy files."""

    error: str | None = None
    frames: bool = False
    wave: bool = False
    rate: int = 0
    duration: float = 0.0


def load_guarded(
    path: str | Path,
    view: View | None = None,
    *,
    start: float = 0.0,
    end: float | None = None,
    limits: Limits | None = None,
    memory: int = 3 * 2**30,
    seconds: float = 60.0,
) -> Media:
    """``load`` in a child process of at most ``memory`` bytes of address space, stopped after ``seconds``.

    Costs about a third of a second more than ``load``; for folders that nobody vouches for. Raises MediaError for
    whatever happens to the child. Address-space limits need a POSIX system; elsewhere only the deadline holds.
    """
    with tempfile.TemporaryDirectory(prefix="earwitness-") as folder:
        task = Task(str(path), view or View(), start, end, limits or Limits(), memory, folder)
        # Thread pools of numeric libraries reserve address space that the limit would count.
        alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                [sys.executable, "-c", "from earwitness.media.guard import child; child()"],
                input=msgspec.json.encode(task),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=seconds,
                env={**os.environ, **alone},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MediaError(
                f"{path}: not decoded within {seconds:g} s, stopped (built to hang, or very long?)"
            ) from None
        told = Path(folder, "reply.json")
        if not told.exists():
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise MediaError(
                f"{path}: the decoder died with code {done.returncode} under a limit of {memory / 2**20:.0f} MB"
                f"{': ' + last[0] if last else ''} (a decompression bomb? raise memory if not)"
            )
        reply = msgspec.json.decode(told.read_bytes(), type=Reply)
        if reply.error is not None:
            raise MediaError(reply.error)
        return Media(
            frames=np.load(Path(folder, "frames.npy")) if reply.frames else None,
            times=np.load(Path(folder, "times.npy")) if reply.frames else None,
            wave=np.load(Path(folder, "wave.npy")) if reply.wave else None,
            rate=reply.rate,
            duration=reply.duration,
        )


def child() -> None:
    """The child's side: reads a Task from standard input, writes the arrays and a Reply into its folder."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    folder = Path(task.folder)
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (task.memory, task.memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        media = load(task.path, task.view, start=task.start, end=task.end, limits=task.limits)
        for name in ("frames", "times", "wave"):
            array = getattr(media, name)
            if array is not None:
                np.save(folder / f"{name}.npy", array)
        reply = Reply(None, media.frames is not None, media.wave is not None, media.rate, media.duration)
    except ValueError as error:
        reply = Reply(error=str(error))
    except MemoryError:
        reply = Reply(error=f"{task.path}: takes more than {task.memory / 2**20:.0f} MB to decode (a bomb?)")
    (folder / "reply.json").write_bytes(msgspec.json.encode(reply))
