"""Files uploaded to Gemini: each content once, never one left behind that can still be deleted.

The Files API keeps an upload for 48 hours and 20 GB a project. So a content is uploaded when it is first wanted,
shared by all questions on it, uploaded again shortly before it expires, and deleted as soon as it has not been
asked about for a while; what is left is deleted by :meth:`Uploads.clear`. Thread-safe.

Protocol (ai.google.dev/api/files): resumable upload, then ``files.get`` until the state is ACTIVE or FAILED.
"""

from __future__ import annotations

import io
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from earwitness.models.served import ItemFault, Transient

HELD = 16  # files kept for questions to come: those on one clip come one after the other
EARLY = timedelta(minutes=15)  # before it expires, a file is uploaded anew
SLOWEST = 5.0  # seconds between two looks at a file that is being processed
PATIENCE = 10.0  # seconds that clearing waits for uploads under way
DELETION = {"http_options": {"timeout": 10_000}}  # milliseconds: whoever stops a run does not want to wait


class Uploaded(NamedTuple):
    """A file that can be asked about."""

    name: str
    uri: str
    expires: datetime | None


@dataclass(eq=False)
class _Place:
    file: Future[Uploaded] = field(default_factory=Future)
    users: int = 0


class Uploads:
    """The files of one client.

    Parameters
    ----------
    files : ``genai.Client().files``, or anything with its ``upload``, ``get`` and ``delete``.
    faults : the exceptions with which these may fail.
    tally : counts "uploads" and "files deleted".
    poll : seconds before the first look at a file that is being processed; doubled up to SLOWEST.
    timeout : seconds until it must be ready.
    """

    def __init__(
        self,
        files: Any,
        faults: tuple[type[Exception], ...],
        tally: Callable[[str], None],
        *,
        poll: float = 0.5,
        timeout: float = 300.0,
    ) -> None:
        self._files, self._faults, self._tally = files, faults, tally
        self._poll, self._timeout = poll, timeout
        self._lock = threading.Condition()
        self._held: OrderedDict[str, _Place] = OrderedDict()
        self._there: set[str] = set()  # names of all that was uploaded and not deleted
        self._epoch = self._busy = 0  # grows with each clearing; uploads under way

    @contextmanager
    def held(self, key: str, data: bytes, mime: str) -> Iterator[Uploaded]:
        """The file of the content ``key``, uploaded if need be; it is not deleted inside of the ``with``.

        Raises
        ------
        ItemFault
            Where the service cannot process it.
        Transient
            Where it takes too long.
        Other faults of the client come as they are; the next caller tries the upload again.
        """
        place, mine = self._place(key)
        try:
            if mine:
                try:
                    place.file.set_result(self._upload(key, data, mime))
                except BaseException as error:
                    with self._lock:
                        if self._held.get(key) is place:
                            del self._held[key]
                    place.file.set_exception(error)
                    raise
            yield place.file.result()
        finally:
            with self._lock:
                place.users -= 1
            self._evict()

    def forget(self, key: str) -> None:
        """Upload that content anew when it is next wanted: the service says that the file is gone."""
        with self._lock:
            place = self._held.pop(key, None)
            if place is not None and _made(place):
                self._there.discard(place.file.result().name)

    def clear(self) -> int:
        """Delete every file, best effort; returns how many could not be deleted (they expire after 48 hours)."""
        with self._lock:
            self._epoch += 1
            self._held.clear()
            self._lock.notify_all()
            self._lock.wait_for(lambda: not self._busy, timeout=PATIENCE)  # each deletes its own and is gone
            names = sorted(self._there)
        return sum(not self._delete(name) for name in names)

    def _place(self, key: str) -> tuple[_Place, bool]:
        with self._lock:
            place = self._held.get(key)
            if place is not None and _expired(place):
                place = None
            mine = place is None
            if place is None:
                place = self._held[key] = _Place()
            place.users += 1
            self._held.move_to_end(key)
        return place, mine

    def _upload(self, key: str, data: bytes, mime: str) -> Uploaded:
        with self._lock:
            epoch, self._busy = self._epoch, self._busy + 1
        try:
            return self._ready(key, data, mime, epoch)
        finally:
            with self._lock:
                self._busy -= 1
                self._lock.notify_all()

    def _ready(self, key: str, data: bytes, mime: str, epoch: int) -> Uploaded:
        file = self._files.upload(
            file=io.BytesIO(data), config={"mime_type": mime, "display_name": f"earwitness {key}"}
        )
        name = str(file.name)
        with self._lock:
            self._there.add(name)
        self._tally("uploads")
        wait, end = self._poll, time.monotonic() + self._timeout
        while (state := _state(file)) != "ACTIVE":
            if state == "FAILED":
                why = getattr(getattr(file, "error", None), "message", None) or "no reason given"
                self._delete(name)
                raise ItemFault(f"upload failed: the service could not process the clip ({why})")
            if time.monotonic() + wait > end:
                self._delete(name)
                raise Transient(f"upload slow: the clip was not processed within {self._timeout:g} s")
            with self._lock:
                if self._lock.wait_for(lambda: epoch != self._epoch, timeout=wait):
                    break
            wait = min(SLOWEST, 2 * wait)
            file = self._files.get(name=name)
        if epoch != self._epoch:  # the run ended while this one was on its way
            self._delete(name)
            raise ItemFault("upload stopped: the run ended")
        return Uploaded(name, str(file.uri), file.expiration_time)

    def _evict(self) -> None:
        """Delete the files longest unasked for, beyond HELD."""
        old = []
        with self._lock:
            for key in [k for k, p in self._held.items() if not p.users and _made(p)]:
                if len(self._held) <= HELD:
                    break
                old.append(self._held.pop(key).file.result().name)
        for name in old:
            self._delete(name)

    def _delete(self, name: str) -> bool:
        try:
            self._files.delete(name=name, config=DELETION)
        except self._faults as error:
            if getattr(error, "code", None) not in (403, 404):  # these: gone already
                return False
        with self._lock:
            self._there.discard(name)
        self._tally("files deleted")
        return True


def _state(file: Any) -> str:
    """ACTIVE where the service names no state, as for files that need no processing."""
    state = getattr(file, "state", None)
    return "ACTIVE" if state is None else str(getattr(state, "value", state))


def _made(place: _Place) -> bool:
    return place.file.done() and place.file.exception() is None


def _expired(place: _Place) -> bool:
    expires = place.file.result().expires if _made(place) else None
    return expires is not None and datetime.now(UTC) > expires - EARLY
