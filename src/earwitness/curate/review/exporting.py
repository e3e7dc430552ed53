"""What people passed, as a labels folder that an audit takes as it is; what they did not, and why.

| file | what |
|---|---|
| labels.jsonl | the clips that passed, with agreed event times; paths lead back to the clips' own files |
| left_out.csv | every other clip: what became of it, why, and each annotator's vote |
| disagreements.jsonl | accepted clips whose times differ, as a queue for ``earwitness review`` |
| agreement.json | the tables: outcomes, kappa by criterion, distances of times |

The labels are read back, strictly, before the export counts as done.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from earwitness import media
from earwitness.curate.review.deciding import Outcome, consensus, reason, tables
from earwitness.curate.review.media import Studio
from earwitness.curate.review.queue import Queue
from earwitness.curate.review.votes import Vote
from earwitness.datasets import folder
from earwitness.datasets.labels import COLUMNS
from earwitness.media import MediaError
from earwitness.records import Clip, Table

LABELS, LEFT_OUT, AGAIN, AGREEMENT = "labels.jsonl", "left_out.csv", "disagreements.jsonl", "agreement.json"


def export(
    queue: Queue, votes: Mapping[str, Sequence[Vote]], out: Path, cache: Path, *, need: int = 2
) -> tuple[list[Outcome], list[Table]]:
    """Write the four files into ``out``; returns the outcomes and the tables.

    Raises
    ------
    ValueError
        Where nobody has voted, nothing passed or ``out`` holds labels of another making; LabelsError where a clip
        that passed cannot be read any more.
    """
    if not any(votes.values()):
        raise ValueError(f"no votes on {queue.manifest} yet: run `earwitness review` and let two people judge it")
    _check_place(out)
    outcomes = consensus(queue, votes, need=need, durations=_durations(queue, cache))
    passed = _among_themselves([o.clip for o in outcomes if o.result == "passed"])
    made = tables(queue, votes, outcomes)
    out.mkdir(parents=True, exist_ok=True)
    _write(out / LEFT_OUT, _left_out([o for o in outcomes if o.result != "passed"], sorted(votes)))
    again = [(o.clip, {"why": o.why}) for o in outcomes if o.result == "times differ"]
    _write(out / AGAIN, _lines(queue, out, again))
    _write(out / AGREEMENT, msgspec.json.format(msgspec.json.encode(made), indent=1))
    for clip in passed:
        _link_stems(queue, clip, out)
    _write(out / LABELS, _lines(queue, out, [(clip, {}) for clip in passed]))
    if passed:
        folder.read(out)
    return outcomes, made


def _check_place(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; the export wants a folder")
    others = [name for name in folder.LABELS if name != LABELS and (out / name).exists()]
    foreign = (out / LABELS).exists() and not (out / LEFT_OUT).exists()
    if others or foreign:
        raise ValueError(f"{out} holds {(*others, LABELS)[0]} already: take a folder of its own for what passed")


def _durations(queue: Queue, cache: Path) -> dict[str, float]:
    """Seconds of the files of clips with events: as drawn for the annotators, or probed now."""
    out = {}
    with Studio(cache, queue.path, children=0) as studio:
        for case in queue.cases:
            if not case.clip.events and case.clip.end is None:
                continue
            known = studio.known(case.clip)
            if known is not None:
                out[case.clip.id] = case.clip.start + known.duration
                continue
            try:
                out[case.clip.id] = media.probe(queue.path(case.clip)).duration
            except MediaError:
                continue  # it has no votes that passed it, or reading the labels back says so
    return out


def _among_themselves(clips: Sequence[Clip]) -> list[Clip]:
    """The clips without swap donors that did not pass: a labels file names none that it does not hold."""
    ids = {clip.id for clip in clips}
    return [msgspec.structs.replace(clip, donors=tuple(d for d in clip.donors if d in ids)) for clip in clips]


def _row(queue: Queue, clip: Clip, out: Path) -> dict[str, Any]:
    """A clip as a row of a labels file in ``out``."""
    given = msgspec.to_builtins(msgspec.structs.replace(clip, path=None))
    row = {key: value for key, value in given.items() if key in COLUMNS and value not in (None, "", (), [])}
    if not clip.start:
        row.pop("start", None)
    path = queue.path(clip).resolve()
    try:
        # Relative, so that the folders can move together.
        row["path"] = Path(os.path.relpath(path, out.resolve())).as_posix()
    except ValueError:  # another drive
        row["path"] = str(path)
    return row


def _lines(queue: Queue, out: Path, clips: Sequence[tuple[Clip, Mapping[str, Any]]]) -> bytes:
    rows = [{**_row(queue, clip, out), **more} for clip, more in clips]
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _link_stems(queue: Queue, clip: Clip, out: Path) -> None:
    """Let ``out/stems/ID`` lead to the clip's stems: a labels file looks for them beside itself."""
    if not clip.stems:
        return
    there, here = queue.root / "stems" / clip.id, out / "stems" / clip.id
    if here.is_symlink():
        here.unlink()
    if there.exists() and not here.exists():
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(os.path.relpath(there.resolve(), here.parent.resolve()), target_is_directory=True)


def _left_out(outcomes: Sequence[Outcome], names: Sequence[str]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["clip", "path", "outcome", "why", *names])
    for o in outcomes:
        said = [_said(o.votes.get(name)) for name in names]
        table.writerow([_cell(v) for v in (o.clip.id, o.clip.path or "", o.result, o.why, *said)])
    return text.getvalue().encode()


def _said(vote: Vote | None) -> str:
    if vote is None:
        return "-"
    if not vote.accept:
        return f"reject: {reason(vote)}"
    return f"accept: {vote.comment.strip()}" if vote.comment.strip() else "accept"


def _cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and text != "-" else text


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
