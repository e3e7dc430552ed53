"""Clips drawn when they are first asked for, kept on the disk, and never decoded in the server's own process.

Review decodes files that nobody has vouched for yet: that is what it is for. So children do it, each with a memory
limit and a deadline (:mod:`earwitness.curate.review.pictures`); whatever a file does to one costs that clip only. A
child stays for the next clip, since starting one costs more than drawing.

The cache (``review/cache``) may be deleted at any time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import LifoQueue

import msgspec

from earwitness.curate.review.pictures import VERSION, Facts, Task
from earwitness.records import Clip, digest

MEMORY = 3 * 2**30  # bytes of a child's address space, as media.load_guarded allows
SECONDS = 90.0  # for one clip
STORED = frozenset({"strip.jpg", "wave.bin", "spectrum.png", "play.mp4", "play.wav"})


class Studio:
    """Draws clips; a context manager. At most ``children`` at once.

    Parameters
    ----------
    cache : folder for what is drawn.
    where : gives a clip's file.
    """

    def __init__(self, cache: Path, where: Callable[[Clip], Path], children: int = 2) -> None:
        self.cache, self.where = cache, where
        self._held: dict[str, Future[Facts]] = {}
        self._lock = threading.Lock()
        self._free: LifoQueue[_Child] = LifoQueue()  # the one that was just busy is warm
        self._all = [_Child() for _ in range(children)]
        for one in self._all:
            self._free.put(one)

    def key(self, clip: Clip) -> str:
        """Names what is drawn of a clip: another one as soon as the file changes. Raises OSError without a file."""
        path = self.where(clip)
        there = path.stat()
        return digest(VERSION, path.resolve(), there.st_size, there.st_mtime_ns, clip.start, clip.end)

    def facts(self, clip: Clip) -> Facts:
        """What was measured of a clip; draws it where that was not done yet. ``error`` says why it cannot be."""
        try:
            key = self.key(clip)
        except OSError as error:
            return Facts(error=f"{self.where(clip).name}: {error.strerror or error} (moved or deleted since?)")
        with self._lock:
            found = self._held.get(key)
            mine = found is None
            if found is None:
                found = self._held[key] = Future()
        if mine:
            facts = Facts(error="drawing was broken off: try again")
            try:
                facts = self._known(key) or self._draw(key, clip)
            finally:
                found.set_result(facts)
                if facts.error is not None:
                    with self._lock:
                        del self._held[key]  # asked again, it is tried again
        return found.result()

    def known(self, clip: Clip) -> Facts | None:
        """What was measured of a clip already; None where it was not drawn."""
        try:
            return self._known(self.key(clip))
        except OSError:
            return None

    def stored(self, key: str, name: str) -> Path | None:
        """A file of the cache; None for what is none. Nothing of an address becomes a path unchecked."""
        if name not in STORED or len(key) != 16 or not key.isalnum():
            return None
        path = self.cache / key[:2] / key / name
        return path if path.is_file() else None

    def _known(self, key: str) -> Facts | None:
        path = self.cache / key[:2] / key / "facts.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Facts)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _draw(self, key: str, clip: Clip) -> Facts:
        home = self.cache / key[:2] / key
        part = home.with_name(f"{key}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        path = self.where(clip)
        child = self._free.get()
        try:
            facts = child.ask(Task(str(path.resolve()), clip.start, clip.end, str(part.resolve())))
        finally:
            self._free.put(child)
        said = facts.error
        if said is not None:
            shutil.rmtree(part, ignore_errors=True)
            return Facts(error=said.replace(f"{path.resolve()}", path.name))  # no paths of this machine on a page
        facts = msgspec.structs.replace(facts, key=key)
        (part / "facts.json").write_bytes(msgspec.json.encode(facts))
        shutil.rmtree(home, ignore_errors=True)
        part.replace(home)  # a folder of the right name is always whole
        return facts

    def close(self) -> None:
        """End the children."""
        for child in self._all:
            child.close()

    def __enter__(self) -> Studio:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Child:
    """One process that draws; started when first asked, and anew after it died."""

    code = "from earwitness.curate.review.pictures import child; child()"

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, task: Task, seconds: float = SECONDS) -> Facts:
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(seconds, process.kill)
        late.daemon = True
        late.start()
        try:
            process.stdin.write(msgspec.json.encode(task) + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except (BrokenPipeError, ValueError):  # ValueError: closed by another thread, at the end
            line = b""
        finally:
            late.cancel()
        if line.endswith(b"\n"):
            return msgspec.json.decode(line, type=Facts)
        self.close()
        why = f"in {seconds:g} s or with {MEMORY / 2**30:g} GB of memory"
        return Facts(error=f"{Path(task.path).name}: could not be decoded {why} (built to hang, or very long?)")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            # Thread pools of numeric libraries reserve address space that the limit would count.
            alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-c", self.code, str(MEMORY)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env={**os.environ, **alone}, start_new_session=True,  # Ctrl-C is for the server
            )  # fmt: skip
        return self._process

    def close(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):  # what a dead child did not read is flushed once more, and lost
                    pipe.close()
        process.wait()
