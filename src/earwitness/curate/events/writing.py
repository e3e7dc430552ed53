"""The files of labelled events.

::

    OUT/events.jsonl    a line a clip: verdict, why, label, each annotation with its raw answer, onset, change, room
    OUT/labels.jsonl    the clips kept, events filled in: what audits, ``pairs`` and ``curate twins`` read
    OUT/queue.jsonl     the clips for people, with the proposal and all that was said: what ``review`` reads
    OUT/tables.json     the tables shown
    OUT/events.json     what was asked, of whom, counts, versions, costs
    OUT/clips/          files of procedural clips; clips that are files stay where they are
    OUT/work/           what each annotator answered, and what was measured: going on repeats nothing

Functions: ``write_events``, ``lines_of``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from earwitness import run as runs
from earwitness.curate.events.agreement import Annotation, Decision
from earwitness.records import Clip, ClipSet, Table


class Queued(msgspec.Struct, frozen=True, kw_only=True):
    """A line of queue.jsonl: the clip with the proposal among its events, and why people are asked."""

    clip: Clip
    why: tuple[str, ...]
    proposals: tuple[dict[str, Any], ...] = ()


def write_events(
    folder: Path, clips: ClipSet, decisions: Sequence[Decision], tables: Sequence[Table], *, files: bool = True,
    progress: Callable[[int, int, int], None] | None = None,
) -> None:  # fmt: skip
    """Write what was decided, then labels and queue; for these, clips in memory become files (where ``files``)."""
    runs.write_lines(folder / "events.jsonl", decisions)
    runs.write_tables(folder, tables)
    by_id = {c.id: c for c in clips.clips}
    told = [d for d in decisions if d.verdict != "dropped" and (files or by_id[d.clip].path is not None)]
    placed: dict[str, Clip] = {}
    for number, d in enumerate(told, 1):
        placed[d.clip] = _in_place(clips, by_id[d.clip], folder)
        if progress is not None:
            progress(number, 0, len(told))
    kept = {d.clip: d for d in told if d.verdict == "kept"}
    queued = [d for d in told if d.verdict == "queued"]
    runs.write_lines(folder / "labels.jsonl", [_labelled(placed[i], d, kept) for i, d in kept.items()])
    runs.write_lines(folder / "queue.jsonl", [_asked(placed[d.clip], d) for d in queued])


def _in_place(clips: ClipSet, clip: Clip, folder: Path) -> Clip:
    """The clip as a labels file in ``folder`` has it. Stems stay behind: their files would have to come along."""
    root = getattr(clips, "root", Path())
    file = clips.file(clip, folder / "clips") if clip.path is None else root / clip.path
    path = os.path.relpath(Path(file).resolve(), folder.resolve())
    return msgspec.structs.replace(clip, path=path, stems=())


def _labelled(clip: Clip, decision: Decision, kept: Mapping[str, Decision]) -> Clip:
    assert decision.event is not None
    donors = tuple(d for d in clip.donors if d in kept)
    return msgspec.structs.replace(clip, events=(decision.event,), donors=donors)


def _asked(clip: Clip, decision: Decision) -> Queued:
    proposed = () if decision.event is None else (decision.event,)
    return Queued(
        clip=msgspec.structs.replace(clip, events=proposed, donors=()), why=tuple(r.says for r in decision.why),
        proposals=tuple(map(_proposal, decision.annotations)),
    )  # fmt: skip


def _proposal(a: Annotation) -> dict[str, Any]:
    given = {"annotator": a.annotator, "outcome": a.outcome}
    more = {k: getattr(a, k) for k in ("visual_event", "seen", "unit", "audio_event", "heard", "confidence")}
    return {**given, **{k: v for k, v in more.items() if v not in (None, "")}}


def lines_of(folder: Path) -> list[Decision]:
    """The decisions of a folder. Raises RunError where there are none."""
    return runs.read_lines(Path(folder) / "events.jsonl", Decision)
