"""Votes of people: append-only files that outlive tabs, servers and power cuts, one folder an annotator.

::

    review/annotators/anna/votes.jsonl    one line a vote, forced to the disk before the page hears "saved"
    review/annotators/anna/key            what the browser shows that took the name first (no account, no password)
    review/review.json                    which review this is

The last vote of an annotator on a clip counts. A vote carries an id of the page's making: sent again after a lost
reply, it is the same vote. It also carries a digest of what was claimed of the clip then: where labels or times
were changed since, the vote is old, is counted as such, and says nothing about the new claim. A torn last line
(power cut while writing) is cut off when a server opens the folder, and ignored by readers; a torn line elsewhere
is an error.

The criteria are those of MMA-Bench's manual inspection (arXiv 2511.22826, appendix on annotation): the sounding
object is the primary focus of the frame; the track is clean and the target sound the dominant event; the picture
shows a dynamic action that corresponds to the sound.
"""

from __future__ import annotations

import datetime
import fcntl
import hmac
import os
import re
import secrets
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import msgspec

from earwitness.records import Event

CRITERIA = ("object_visibility", "audio_purity", "action_dynamics")
NAME = re.compile(r"\w(?:[\w .-]{0,38}[\w-])?")  # letters and digits of any script: also a folder's name
COMMENT = 4_000  # characters
EVENTS = 64
HOUR = 3600.0  # seconds: longer files are not opened (media.Limits), so no event lies later


class ReviewError(ValueError):
    """A folder of votes that cannot be used, or a vote that cannot be right."""


class Vote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One annotator's judgement of one clip: the criteria (None: not said), the decision, the events as moved.

    ``seconds`` is the time that the clip's page was in front of the annotator; ``at`` when the vote arrived (UTC).
    """

    id: str
    clip: str
    about: str
    accept: bool
    object_visibility: bool | None = None
    audio_purity: bool | None = None
    action_dynamics: bool | None = None
    events: tuple[Event, ...] = ()
    comment: str = ""
    seconds: float = 0.0
    at: str = ""

    @property
    def failed(self) -> tuple[str, ...]:
        """The criteria that were said not to be met."""
        return tuple(name for name in CRITERIA if getattr(self, name) is False)


class Identity(msgspec.Struct, frozen=True):
    """What review.json holds: the id by which pages keep unsent votes apart, and the seed of the orders."""

    review: str
    seed: int


def check_vote(vote: Vote, duration: float | None = None) -> None:
    """Raise ReviewError where a vote contradicts itself or the clip's ``duration`` in seconds."""
    if not re.fullmatch(r"[\w-]{8,80}", vote.id):
        raise ReviewError(f"vote id {vote.id!r}: wants 8 to 80 letters and digits")
    values = [getattr(vote, name) for name in CRITERIA]
    if vote.accept and values != [True] * len(values):
        missing = [name.replace("_", " ") for name in CRITERIA if getattr(vote, name) is not True]
        raise ReviewError(f"accepted, but {' and '.join(missing)} not met: all criteria must be")
    if not vote.accept and not vote.failed and not vote.comment.strip():
        raise ReviewError("rejected without a reason: mark a criterion as not met, or say why in a comment")
    if len(vote.comment) > COMMENT:
        raise ReviewError(f"a comment of {len(vote.comment):,} characters; at most {COMMENT:,}")
    if len(vote.events) > EVENTS:
        raise ReviewError(f"{len(vote.events)} events; at most {EVENTS}")
    latest = HOUR if duration is None else duration + 0.1
    for number, event in enumerate(vote.events, 1):
        for sense, time in (("seen", event.seen), ("heard", event.heard)):
            if time is not None and not 0 <= time <= latest:  # also refuses nan
                raise ReviewError(f"event {number} is {sense} at {time:g} s, outside of the clip's {latest:.2f} s")
    if not 0 <= vote.seconds < 1e7:
        raise ReviewError(f"seconds={vote.seconds:g} is no time spent on a clip")


def when(vote: Vote) -> datetime.datetime | None:
    """The moment of a vote; None where it bears no date."""
    try:
        moment = datetime.datetime.fromisoformat(vote.at)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


def older(vote: Vote, than: Vote, about: str) -> bool:
    """Whether a vote comes before another of the same annotator on a clip of which ``about`` is claimed now.

    One on an earlier claim comes before one on what is claimed now; one without a date before any.
    """
    if (vote.about == about) != (than.about == about):
        return than.about == about
    mine, theirs = when(vote), when(than)
    return mine is None or (theirs is not None and mine < theirs)


def spelled(name: str) -> str:
    """An annotator's name as kept. Raises ReviewError where it is none."""
    name = unicodedata.normalize("NFC", name.strip())
    if not NAME.fullmatch(name) or ".." in name:
        raise ReviewError(f"{name!r} is no name: 1 to 40 letters, digits, spaces, dots, hyphens, a letter first")
    return name


def identity(folder: Path, seed: int | None = None) -> Identity:
    """The review's identity; made where there is none yet (seed 0 unless given).

    Raises ReviewError where another seed is asked for than the review began with: the orders would change midway.
    """
    path = folder / "review.json"
    if path.exists():
        try:
            known = msgspec.json.decode(path.read_bytes(), type=Identity)
        except msgspec.MsgspecError as error:
            raise ReviewError(f"{path}: {error} (edited by hand?)") from None
        if seed is not None and seed != known.seed:
            raise ReviewError(f"{folder}: this review began with seed {known.seed}, not {seed}: leave --seed out")
        return known
    folder.mkdir(parents=True, exist_ok=True)
    made = Identity(secrets.token_hex(6), seed or 0)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(made))
    part.replace(path)
    return made


def read_votes(folder: Path) -> dict[str, list[Vote]]:
    """All votes by annotator, in the order of their files. Raises ReviewError naming file and line."""
    return {path.parent.name: list(_lines(path)) for path in sorted(folder.glob("annotators/*/votes.jsonl"))}


def _lines(path: Path) -> Iterator[Vote]:
    decode = msgspec.json.Decoder(Vote).decode
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") or line == b"\n":
                continue
            try:
                yield decode(line)
            except msgspec.MsgspecError as error:
                raise ReviewError(f"{path}, line {number}: {error} (edited by hand?)") from None


class _Book:
    """One annotator: the open file, the ids that were seen, the last vote of each clip."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.path = home / "votes.jsonl"
        self.by_id: dict[str, Vote] = {}
        self.last: dict[str, Vote] = {}
        whole = 0
        if self.path.exists():
            whole = self.path.read_bytes().rfind(b"\n") + 1
            for vote in _lines(self.path):
                self.by_id[vote.id] = self.last[vote.clip] = vote
        self.file = self.path.open("ab", buffering=0)
        self.file.truncate(whole)
        _force_folder(home)


class Votes:
    """The votes of a review, open for writing by this process alone. Thread-safe; a context manager."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._lock = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ReviewError(
                f"{folder}: another `earwitness review` has these votes open; stop it first"
            ) from None
        self._turn = threading.Lock()
        self._books: dict[str, _Book] = {}
        self._keys: dict[str, str] = {}
        try:
            for home in sorted(folder.glob("annotators/*")):
                if home.is_dir():
                    self._books[home.name] = _Book(home)
                    if (home / "key").exists():
                        self._keys[home.name] = (home / "key").read_text().strip()
        except ReviewError:
            self.close()
            raise

    @property
    def names(self) -> list[str]:
        """The annotators, in alphabetical order."""
        return sorted(self._books)

    def key(self, name: str) -> str:
        """The key of an annotator; "" of one whose votes were only imported."""
        return self._keys.get(name, "")

    def claim(self, name: str) -> str:
        """Take a name that nobody has; returns its key.

        Raises ReviewError for what is no name; KeyError where the name is taken, also in other letters' case.
        """
        name = spelled(name)
        with self._turn:
            if name.casefold() in {known.casefold() for known in self._books}:
                raise KeyError(name)
            book = _Book(self.folder / "annotators" / name)
            key = secrets.token_urlsafe(16)
            with open(book.path.with_name("key"), "w", opener=_private) as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            self._books[name], self._keys[name] = book, key
        return key

    def holds(self, name: str, key: str) -> bool:
        """Whether this is the annotator's key."""
        known = self._keys.get(name)
        return known is not None and hmac.compare_digest(known.encode(), key.encode())

    def last(self, name: str) -> dict[str, Vote]:
        """The vote of an annotator that counts, by clip; none where nobody has the name."""
        book = self._books.get(name)
        return {} if book is None else book.last

    def add(self, name: str, vote: Vote) -> bool:
        """Write a vote and force it to the disk; False where it was there already (sent twice).

        Raises ReviewError where another vote has its id. OSError (a full disk) leaves the file as it was.
        """
        with self._turn:
            book = self._books.get(name) or self._books.setdefault(name, _Book(self.folder / "annotators" / name))
            if (known := book.by_id.get(vote.id)) is not None:
                if msgspec.structs.replace(known, at=vote.at) != vote:
                    raise ReviewError(f"vote {vote.id} is there already, and says something else")
                return False
            size = os.fstat(book.file.fileno()).st_size
            try:
                left = memoryview(msgspec.json.encode(vote) + b"\n")
                while left:
                    left = left[book.file.write(left) :]
                os.fsync(book.file.fileno())
            except OSError:
                book.file.truncate(size)
                raise
            book.by_id[vote.id] = book.last[vote.clip] = vote
        return True

    def has(self, name: str, vote: Vote) -> bool:
        """Whether an annotator's vote is there: by its id or, without a date, by what it says."""
        book = self._books.get(name)
        if book is None:
            return False
        if vote.id in book.by_id:
            return True
        blank = {"id": "", "at": "", "seconds": 0.0}
        mine = msgspec.structs.replace(vote, **blank)
        return when(vote) is None and any(
            msgspec.structs.replace(v, **blank) == mine for v in book.by_id.values() if v.clip == vote.clip
        )

    def close(self) -> None:
        """Let go of files and folder."""
        for book in self._books.values():
            book.file.close()
        self._lock.close()

    def __enter__(self) -> Votes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _force_folder(folder: Path) -> None:
    """Force a folder's entries to the disk: a new file's content alone does not survive a power cut."""
    at = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
