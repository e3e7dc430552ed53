"""People judge clips: two or more annotators, blind to each other, in a browser on this machine.

MMA-Bench kept 658 of 1,102 clips that way: two people, three criteria, both must pass a clip (arXiv 2511.22826);
Thud had people set event times where annotators differ (arXiv 2605.16403, section 2.2). Here is the whole of it::

    with review.opened("candidates/") as desk:
        review.serve(desk)                      # pages for annotators, until Ctrl-C
    review.export("candidates/", "passed/")     # what all passed, why the rest did not, agreement

=================  ================================================================
:mod:`.queue`      what is asked: a labels folder, or a queue that says why
:mod:`.votes`      votes, append-only, never lost
:mod:`.pictures`   frames, wave, spectrogram on one clock (drawn in children with limits)
:mod:`.pages`      the pages: addresses, who may ask what
:mod:`.deciding`   strict consensus, Cohen's kappa, event times
:mod:`.exporting`  the labels file and its tables
:mod:`.tasks`      the same questions for Label Studio, and its answers back
=================  ================================================================

Blinding: every annotator sees the clips in an order of their own (by seed), and no address tells one annotator what
another said. A name belongs to the browser that took it first.

Needs the extra ``earwitness[serve]`` for the pages.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from earwitness.curate.review import queue as review_queue
from earwitness.curate.review import votes as review_votes
from earwitness.curate.review.deciding import Outcome, consensus, tables
from earwitness.curate.review.exporting import export as write_export
from earwitness.curate.review.media import Studio
from earwitness.curate.review.queue import Case, Queue
from earwitness.curate.review.tasks import read_label_studio, write_label_studio
from earwitness.curate.review.votes import Identity, ReviewError, Vote, Votes
from earwitness.records import Table
from earwitness.serve import LOOPBACK

HOME = "review"  # folder beside the manifest that holds votes and cache

__all__ = [
    "Case", "Desk", "Outcome", "Queue", "ReviewError", "Taken", "Vote", "agreement", "annotators", "export",
    "exposed", "import_label_studio", "label_studio", "opened", "running", "serve",
]  # fmt: skip


class Taken(NamedTuple):
    """Votes of one annotator in a file that was read back: how many were new, there already, older than theirs."""

    new: int = 0
    known: int = 0
    older: int = 0


@dataclass
class Place:
    """One annotator's way through the queue: case numbers in order, and a letter each: "." open, "a", "r"."""

    order: list[int]
    states: bytearray
    at: dict[int, int]  # case number -> place

    @property
    def done(self) -> int:
        """How many clips have a vote."""
        return len(self.states) - self.states.count(b".")


@dataclass
class Desk:
    """A review that is open: the queue, the votes (written by this process alone) and what is drawn."""

    queue: Queue
    identity: Identity
    votes: Votes
    studio: Studio
    _places: dict[str, Place] = field(default_factory=dict, repr=False)

    def place(self, name: str) -> Place:
        """An annotator's way; the order is by a digest of seed, name and clip, so that clips added later do not
        shuffle the others."""
        made = self._places.get(name)
        if made is None:
            seed, cases = self.identity.seed, self.queue.cases
            start = hashlib.blake2b(f"{seed}\x1f{name}\x1f".encode(), digest_size=8)
            ranks = [_rank(start, case.clip.id) for case in cases]
            order = sorted(range(len(cases)), key=ranks.__getitem__)
            states = bytearray(self._letter(self.mine(name, cases[number])) for number in order)
            made = Place(order, states, {number: at for at, number in enumerate(order)})
            self._places[name] = made
        return made

    def mine(self, name: str, case: Case) -> Vote | None:
        """An annotator's vote on what is claimed of a clip now; None also where it was on another claim."""
        vote = self.votes.last(name).get(case.clip.id)
        return vote if vote is not None and vote.about == case.about else None

    def take(self, name: str, vote: Vote) -> bool:
        """Check and write a vote; False where it was there already. Raises ReviewError."""
        number = self.queue.number(vote.clip)
        if number is None:
            raise ReviewError(f"no clip {vote.clip!r} in {self.queue.manifest.name} (was the file changed?)")
        case = self.queue.cases[number]
        known = self.studio.known(case.clip)
        cut = case.clip.end  # where it has not been drawn yet, its labels may say how long it is
        length = known.duration if known is not None else None if cut is None else cut - case.clip.start
        review_votes.check_vote(vote, length)
        new = self.votes.add(name, vote)
        place = self.place(name)
        place.states[place.at[number]] = self._letter(self.mine(name, case))
        return new

    @staticmethod
    def _letter(vote: Vote | None) -> int:
        return ord("." if vote is None else "a" if vote.accept else "r")


@contextmanager
def opened(manifest: str | Path, folder: str | Path | None = None, *, seed: int | None = None) -> Iterator[Desk]:
    """Open a review for voting.

    Parameters
    ----------
    manifest : labels folder, labels file or queue (:func:`review_queue.read`).
    folder : where votes and what is drawn are kept; default: ``review`` beside the manifest.
    seed : of the annotators' orders, fixed when a review begins (0 unless given).

    Raises
    ------
    ValueError
        For mistakes in the manifest, another seed than before, or a folder that another process has open.
    """
    queue = review_queue.read(manifest)
    home = _home(queue, folder)
    identity = review_votes.identity(home, seed)
    with Votes(home) as votes, Studio(home / "cache", queue.path) as studio:
        yield Desk(queue, identity, votes, studio)


def serve(
    desk: Desk, host: str = "127.0.0.1", port: int = 8010, *, ready: Callable[[str], None] | None = None
) -> None:
    """Serve the pages until Ctrl-C; ``ready`` is told the address once it listens. ValueError where it cannot."""
    _pages().run(desk, host, port, ready)


def running(desk: Desk, host: str = "127.0.0.1", port: int = 0) -> AbstractContextManager[str]:
    """Serve the pages in a thread while a ``with`` block lasts; yields the address, on a free port by default."""
    made: AbstractContextManager[str] = _pages().running(desk, host, port)
    return made


def agreement(manifest: str | Path, folder: str | Path | None = None, *, need: int = 2) -> list[Table]:
    """What was decided and how far the annotators agree, from the votes as they are now."""
    queue = review_queue.read(manifest)
    votes = review_votes.read_votes(_home(queue, folder))
    return tables(queue, votes, consensus(queue, votes, need=need))


def export(
    manifest: str | Path, out: str | Path, folder: str | Path | None = None, *, need: int = 2
) -> tuple[list[Outcome], list[Table]]:
    """Write what passed as a labels folder, what did not and why, and agreement; see :mod:`.exporting`.

    Raises ValueError where there are no votes, or ``out`` holds other labels.
    """
    queue = review_queue.read(manifest)
    home = _home(queue, folder)
    return write_export(queue, review_votes.read_votes(home), Path(out), home / "cache", need=need)


def label_studio(
    manifest: str | Path, out: str | Path, folder: str | Path | None = None, *, prefix: str | None = None,
    votes: bool = False,
) -> int:  # fmt: skip
    """Write the queue as Label Studio tasks with a labelling configuration; returns how many tasks.

    ``prefix`` stands before each clip's path in the tasks; ``votes`` also writes the votes, as annotations.
    """
    queue = review_queue.read(manifest)
    given = review_votes.read_votes(_home(queue, folder)) if votes else {}
    return write_label_studio(queue, Path(out), prefix=prefix, votes=given)


def import_label_studio(
    manifest: str | Path, exported: str | Path, folder: str | Path | None = None
) -> tuple[dict[str, Taken], list[str]]:
    """Take the annotations of a Label Studio JSON export as votes: how many by annotator, and in words what is odd.

    Reading the same export twice adds nothing, nor does one whose votes came from here. A vote that is older than
    the annotator's own on the same clip is left where it is: the newer one counts.
    """
    queue = review_queue.read(manifest)
    home = _home(queue, folder)
    found, notes = read_label_studio(queue, Path(exported))
    review_votes.identity(home)
    with Votes(home) as book:
        return {name: _take(queue, book, name, votes) for name, votes in found.items()}, notes


def _take(queue: Queue, book: Votes, name: str, votes: Sequence[Vote]) -> Taken:
    new = known = older = 0
    for vote in votes:
        number = queue.number(vote.clip)
        assert number is not None, vote.clip  # read_label_studio leaves others out
        last = book.last(name).get(vote.clip)
        if book.has(name, vote):
            known += 1
        elif last is not None and review_votes.older(vote, last, queue.cases[number].about):
            older += 1
        else:
            new += book.add(name, vote)
    return Taken(new, known, older)


def exposed(host: str) -> str | None:
    """What a person should know before listening on ``host``; None where only this machine gets in."""
    if host in LOOPBACK:
        return None
    return (
        f"{host} is open to the network: whoever reaches it sees the clips and can take a name; keys and votes "
        "travel unencrypted (an SSH tunnel to a review on 127.0.0.1 is better)"
    )


def annotators(desk: Desk, address: str) -> Sequence[tuple[str, int, str]]:
    """Name, clips voted on, and own link of each annotator who has one: for the person who runs the review."""
    return [
        (name, desk.place(name).done, f"{address}/a/{quote(name)}#{desk.votes.key(name)}")
        for name in desk.votes.names
        if desk.votes.key(name)
    ]


def _rank(start: hashlib.blake2b, clip: str) -> bytes:
    own = start.copy()
    own.update(clip.encode())
    return own.digest()


def _home(queue: Queue, folder: str | Path | None) -> Path:
    return Path(folder) if folder is not None else queue.root / HOME


def _pages() -> Any:
    try:
        return importlib.import_module("earwitness.curate.review.pages")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("starlette", "uvicorn", "anyio"):
            raise
        raise ValueError(f"the pages need {error.name}: pip install 'earwitness[serve]'") from error
