"""The media behind a data set, where they are at hand; and clips that two sets share.

A row whose file has no sound track, or a silent one, teaches the picture whatever it says about the sound. A clip
that is trained on and tested on measures memory.

Checks: ``media_missing``, ``no_sound_track``, ``silent_track``, ``clip_times``; ``overlap`` takes the second set.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from earwitness import media
from earwitness.curate.lint.findings import FEW, SOME, Finding, Verdict, amount, finding, idle
from earwitness.curate.lint.rows import Material, Sample, stem
from earwitness.datasets.labels import check_times
from earwitness.media import MediaError
from earwitness.questions import clean, judge_mute
from earwitness.records import digest, how_many

MOST = 300  # files that are opened: a share of 1 % then shows with 95 % certainty
QUIET = 10 ** (-60 / 20)  # peak; 16-bit dither lies at -90 dBFS, the noise of a quiet room above -60
SPECIFIC = 8  # words from which on a question is no template
_YOUTUBE = re.compile(r"Y?(?P<id>[A-Za-z0-9_-]{11})(?:_\d+(?:_\d+)?)?")


class _Sound(NamedTuple):
    """What a file's sound is: its track there or not, its peak; ``error`` where it cannot be opened."""

    track: bool
    peak: float = 0.0
    error: str = ""


@lru_cache(maxsize=4096)
def _sound(path: Path, start: float = 0.0, end: float | None = None) -> _Sound:
    try:
        wave = media.load_native(path, start=start, end=end).wave
    except (MediaError, OSError) as error:
        return _Sound(False, error=str(error))
    return _Sound(False) if wave is None else _Sound(True, float(np.abs(wave).max(initial=0.0)))


def _opened(m: Material) -> dict[str, _Sound]:
    """The sound of the files that are here, of at most 300 drawn by hash, by the name that rows give."""
    here = [name for name, path in m.files.items() if path is not None]
    drawn = here if len(here) <= MOST else sorted(here, key=lambda n: digest("lint", n))[:MOST]
    out = {}
    for name in sorted(drawn):
        clip, path = m.clips.get(name), m.files[name]
        assert path is not None
        out[name] = _sound(path) if clip is None else _sound(path, clip.start, clip.end)
    return out


def _nothing(m: Material) -> str | None:
    if not m.files:
        return "its clips are procedural" if m.clips else "no row names a media file"
    if not any(m.files.values()):
        return f"none of its {len(m.files):,} media files is at hand (name their folder: --media FOLDER)"
    return None


def media_missing(m: Material) -> Finding:
    """Files that rows name and that are not there, or cannot be opened."""
    check = "media_missing"
    why = "a row without its file stops a trainer, or is dropped in silence and changes what is measured"
    if (reason := _nothing(m)) and (m.form != "clips" or not m.files):
        return idle(check, reason, why)
    broken = {n: s.error for n, s in _opened(m).items() if s.error}
    gone = [n for n, path in m.files.items() if path is None]
    says = f"{len(gone):,} of {how_many(len(m.files), 'file')} are not there, {len(broken):,} cannot be opened"
    if broken:
        says += f" ({next(iter(broken.values()))})"
    wrong = [*gone, *broken]
    # A labels file lies beside its clips; of a public data set some videos are always gone.
    verdict = amount(len(wrong) / len(m.files), FEW if m.form == "clips" else SOME)
    return finding(check, verdict, wrong, len(m.files), says, why)


def _rows(m: Material, opened: Mapping[str, _Sound]) -> list[tuple[str, list[_Sound], bool]]:
    """(id, sounds, whether it says that there is none) of the rows all of whose files were opened."""
    if m.form == "clips":
        return [(n, [s], not m.clips[n].heard) for n, s in opened.items() if not s.error]
    out = []
    for s in m.samples:
        sounds = [opened[n] for n in s.files if n in opened]
        if sounds and len(sounds) == len(s.files) and not any(x.error for x in sounds):
            out.append((s.id, sounds, _says_silent(s, m)))
    return out


def _says_silent(s: Sample, m: Material) -> bool:
    """Whether the row tells of silence. A pair's file is its untouched clip: it is muted in memory only."""
    return not m.clips and s.chosen is not None and judge_mute(s.chosen).label == "SILENT"


def _drawn(m: Material, opened: Mapping[str, _Sound]) -> str:
    here = sum(p is not None for p in m.files.values())
    return "" if len(opened) == here else f" ({len(opened):,} of {how_many(here, 'file')} opened, drawn by hash)"


def no_sound_track(m: Material) -> Finding:
    """Rows none of whose files has a sound track."""
    check = "no_sound_track"
    why = "no track is another condition than silence: loaders drop such rows, or shift every position behind them"
    if reason := _nothing(m):
        return idle(check, reason, why)
    opened = _opened(m)
    rows = _rows(m, opened)
    if not rows:
        return idle(check, "no row has all of its files at hand", why)
    bare = [i for i, sounds, _ in rows if not any(s.track for s in sounds)]
    return finding(
        check, amount(len(bare) / len(rows), FEW), bare, len(rows),
        f"{len(bare):,} of {how_many(len(rows), 'row')} have no sound track" + _drawn(m, opened), why,
    )  # fmt: skip


def silent_track(m: Material) -> Finding:
    """Rows whose track is silent though they tell of a sound, and rows that tell of silence and sound."""
    check = "silent_track"
    why = "what is heard contradicts what is taught: the row trains the fault that it was meant to cure"
    if reason := _nothing(m):
        return idle(check, reason, why)
    opened = _opened(m)
    rows = [
        (name, max(s.peak for s in sounds if s.track), silent)
        for name, sounds, silent in _rows(m, opened)
        if any(s.track for s in sounds)
    ]
    if not rows:
        return idle(check, "no row has all of its files at hand, with a sound track", why)
    quiet = [i for i, peak, silent in rows if peak < QUIET and not silent]
    loud = [i for i, peak, silent in rows if peak >= QUIET and silent and m.form != "clips"]
    return finding(
        check, amount(len(quiet + loud) / len(rows), FEW), quiet + loud, len(rows),
        f"{len(quiet):,} of {how_many(len(rows), 'row')} are silent (peak below -60 dBFS) and do not say so, "
        f"{len(loud):,} "
        f"say that they are silent and are not" + _drawn(m, opened),
        why, counts={"silent": len(quiet), "said to be silent": len(loud)},
    )  # fmt: skip


def clip_times(m: Material) -> Finding:
    """Labelled events outside of their clip, or too far from their sound for an untouched recording."""
    check = "clip_times"
    why = "an event outside of its clip cannot be seen or heard; far from its sound, the clip was shifted already"
    if m.form != "clips":
        return idle(check, "no labelled clips", why)
    told = [c for c in m.clips.values() if c.events]
    lengths = {c.id: _duration(m.files[c.id]) if c.end is None else c.end for c in told[:MOST]}
    timed = [(c, end) for c in told[:MOST] if (end := lengths[c.id]) is not None]
    if not timed:
        return idle(check, "no clip states events, or the lengths of their files are not known", why)
    wrong = {c.id: found[0] for c, end in timed if (found := check_times(c, end))}
    says = f"{len(wrong):,} of {how_many(len(timed), 'clip')} with events" + "".join(
        f": {w}" for w in [*wrong.values()][:1]
    )
    says += "" if len(timed) == len(told) else f" (of {len(told):,}, the first {MOST} whose lengths are known)"
    return finding(check, amount(len(wrong) / len(timed), FEW), list(wrong), len(timed), says, why)


@lru_cache(maxsize=4096)
def _duration(path: Path | None) -> float | None:
    try:
        return None if path is None else media.probe(path).duration
    except (MediaError, OSError):
        return None  # media_missing tells of it


def same_source(name: str) -> str:
    """A source clip's name without what files add to it: a YouTube id stands alone.

    >>> same_source("Y9ivV2chJLa4"), same_source("---g-f_I2yQ_1000_11000")
    ('9ivV2chJLa4', '---g-f_I2yQ')
    """
    found = _YOUTUBE.fullmatch(name)
    return found["id"] if found else name


def overlap(m: Material, other: Material | None) -> Finding:
    """Source clips, media and questions that stand in both sets (or on both sides of this one's own split)."""
    check = "overlap"
    why = "a clip that is trained on and tested on measures memory; its picture alone then gives the answer away"
    if other is None:
        return _split(m, check, why)
    mine, theirs = _sources(m), set(_sources(other))
    numbers = (
        {k for k in theirs if k.isdigit()}
        if m.name != other.name and "questions" in (m.form, other.form)
        else set()
    )
    theirs -= numbers
    shared = list(dict.fromkeys(i for k in sorted(mine.keys() & theirs) for i in mine[k]))
    prints = m.prints & other.prints
    copies = _copies(m, other)
    asked = _specific(other)
    same = [i for q, i in _specific(m).items() if q in asked]
    total = len(m.clips) if m.form == "clips" else len(m.samples)
    words = [
        f"{how_many(len(mine.keys() & theirs), 'source clip')} ({len(shared):,} of {how_many(total, 'row')}) also "
        f"in {other.name}",
        f"{how_many(len(prints), 'picture or sound is', 'pictures or sounds are')} the same" if prints else "",
        f"{how_many(len(copies), 'file has', 'files have')} the same bytes" if copies else "",
        f"{how_many(len(same), 'specific question is', 'specific questions are')} the same" if same else "",
    ]
    ids = list(dict.fromkeys([*shared, *copies, *same]))
    verdict: Verdict = "fails" if shared or prints or copies else "warns" if same else "fine"
    both = any(k.isdigit() for k in mine) and bool(numbers)
    left = " (clips named by bare numbers are not compared across data sets)" if both else ""
    counts = {
        "sources": len(mine.keys() & theirs), "prints": len(prints), "files": len(copies), "questions": len(same)
    }  # fmt: skip
    return finding(check, verdict, ids, total, "; ".join(w for w in words if w) + left, why, counts=counts)


def _split(m: Material, check: str, why: str) -> Finding:
    if m.valid:
        seen = {s.source for s in m.valid}
        ids = [s.id for s in m.samples if s.source in seen]
        says = (
            f"{len(ids):,} of {how_many(len(m.samples), 'row')} share a source clip with valid.jsonl "
            f"({len(m.valid):,} rows)"
        )
        return finding(check, "fails" if ids else "fine", ids, len(m.samples), says, why)
    splits: dict[str, set[str]] = defaultdict(set)
    for clip in m.clips.values() if m.form == "clips" else ():
        splits[clip.cluster].add(clip.split)
    if len({s for some in splits.values() for s in some}) > 1:
        ids = [c.id for c in m.clips.values() if len(splits[c.cluster]) > 1]
        says = f"{len(ids):,} of {how_many(len(m.clips), 'clip')} have their source in more than one split"
        return finding(check, "fails" if ids else "fine", ids, len(m.clips), says, why)
    return idle(check, "no second set to compare with (--against FILE)", why)


def _sources(m: Material) -> dict[str, list[str]]:
    """Rows (or clips) by their source clip."""
    out: dict[str, list[str]] = defaultdict(list)
    for s in m.samples:
        for source in dict.fromkeys((s.source, *s.linked)):
            out[same_source(source)].append(s.id)
    for clip in m.clips.values() if m.form == "clips" else ():
        out[same_source(clip.cluster)].append(clip.id)
    return out


def _copies(m: Material, other: Material) -> list[str]:
    """Names of this set's files whose bytes are those of one of the other's."""
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in other.files.values():
        if path is not None:
            sizes[path.stat().st_size].append(path)
    return [
        name for name, path in m.files.items()
        if path is not None and any(_bytes(path) == _bytes(twin) for twin in sizes.get(path.stat().st_size, ()))
    ]  # fmt: skip


@lru_cache(maxsize=65_536)
def _bytes(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _specific(m: Material) -> dict[str, str]:
    """Questions of eight words or more that are asked once in the set -> the row's id."""
    asked = [(clean(own), s.id) for s in m.samples if len((own := stem(s.prompt)).split()) >= SPECIFIC]
    times = Counter(q for q, _ in asked)
    return {q: i for q, i in asked if times[q] == 1}


CHECKS: Sequence[Callable[[Material], Finding]] = (media_missing, no_sound_track, silent_track, clip_times)
