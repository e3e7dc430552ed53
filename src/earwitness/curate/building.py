"""From aligned clips to a set: measured, split, twinned, and, where asked for, written out as files.

``manifest -> measured -> usable -> split -> donors -> variants -> labels.jsonl (-> files)``

What comes out is a labels file that audits and training read as it is: each clip names the donors whose sound it
gets in a swap, and scenes bring their stems. Nothing has to be written for that: an audit makes every condition in
memory. ``render`` writes all of it as files, for people and other tools.

Building again goes on where it was (:mod:`earwitness.curate.jobs`); with other wishes it needs another folder.

Functions: ``build``.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import msgspec

from earwitness import media
from earwitness.audit.workers import Executor
from earwitness.curate import classes, mixtures, opening, splits, variants
from earwitness.curate.jobs import Bench, Key, Measure, Measured, Stage, cluster, stamp
from earwitness.curate.manifest import Info, Wish, read_info, write_info, write_set
from earwitness.curate.preprocess import long_enough, rate_of
from earwitness.curate.twins import Sound, twins
from earwitness.curate.writing import Built, in_place, write_files
from earwitness.interventions import matched
from earwitness.questions import clean
from earwitness.records import Clip, ClipSet, View, Wave

HEARD = View(fps=0.1, size=(16, 16), rate=16_000)  # a clip's sound as a model hears it, with next to no picture
WAVES = 64  # sounds held while pairs are measured: 40 MB of ten seconds


def build(
    manifest: str,
    out: Path,
    wanted: Wish,
    *,
    render: bool = False,
    limit: int | None = None,
    workers: int = 1,
    executor: Executor = "process",
    retry_failed: bool = False,
    stage: Stage | None = None,
    command: str = "",
) -> Built:
    """Build a set, or go on with one.

    Parameters
    ----------
    manifest : aligned clips, as an audit's ``--clips`` takes them: a folder with a labels file, or ``foley``.
    out : the set's folder.
    render : write clips, twins, shifts, replaced and left-out sounds as files.
    workers, executor : as in an audit (``audit.ask_many``).
    stage : called with the name of each stage; what it returns is told how far that is.

    Raises ValueError where the manifest cannot be read, the folder holds another set, or nothing can be made.
    """
    out = Path(out)
    table = classes.read(wanted.classes or classes.CLASSES)
    clips = opening.manifest(manifest, limit=limit, seed=wanted.seed)
    asked = Info(clips=manifest, limit=limit, wish=wanted, class_file=table.version, command=command)
    old = read_info(out)
    opening.folder(out, "a set", asked, old, _wishes, free=("work", "sources"))
    info = old or asked
    bench = Bench(out / "work", workers, executor, retry_failed, stage)
    with cluster(executor):
        built, files = _built(manifest, clips, out, wanted, table, bench)
        write_info(out, info)  # not before something can be made: a slip would else bar the folder to its remedy
        if render:
            write_files(built, wanted, files, bench)
        else:
            built.clips = [in_place(c, files[c.id], built.measured[c.id], out) for c in built.clips]
    _finish(built, info)
    return built


def _wishes(info: Info) -> dict[str, object]:
    """What two builds in one folder must have in common."""
    return {
        "clips": info.clips,
        "limit": info.limit,
        "class_file": info.class_file,
        **msgspec.structs.asdict(info.wish),
    }


def _built(
    manifest: str, clips: ClipSet, out: Path, wanted: Wish, table: classes.ClassTable, bench: Bench
) -> tuple[Built, dict[str, str]]:
    """The set as it is planned, and each clip's file."""
    files = {}
    for clip in clips.clips:
        opening.named(clip)  # what is made of it is called by its id
        files[clip.id] = str(opening.file_of(clips, clip, out))
    cut = [_cut(c, wanted) for c in clips.clips]
    asked = {
        Key(c.id, "measure"): Measure(path=files[c.id], start=c.start, end=c.end, stamp=stamp(Path(files[c.id])))
        for c in cut
    }
    found, broken = bench.do("measuring", asked, Measured)
    measured = {key.clip: m for key, m in found.items()}
    kept, left_out = _usable(cut, measured, {k.clip: why for k, why in broken.items()}, wanted)
    if not kept:
        why = "; ".join(f"{n} {why}" for why, n in Counter(why for _, why in left_out).most_common(3))
        raise ValueError(f"{manifest}: none of {len(cut)} clips can be used: {why}")
    if wanted.shares_asked or (wanted.purpose == "train" and {c.split for c in kept} == {"test"}):
        kept = splits.split(kept, wanted.shares, wanted.seed)  # labels that name splits of their own keep them
    owners = {c.id: (files[c.id], c.licence) for c in clips.clips}
    built = Built(out, kept, [], [], measured, left_out, owners)
    _plan(built, wanted, table, files)
    if not built.clips:
        why = "; ".join(f"{n} {why}" for why, n in Counter(why for _, why in built.left_out).most_common(3))
        raise ValueError(f"{manifest}: no clip of {len(cut)} is left: {why} ({'; '.join(built.notes)})")
    return built, files


def _cut(clip: Clip, wanted: Wish) -> Clip:
    """The clip, cut to the wanted length where it is longer; what happens after the cut is gone."""
    seconds = wanted.square.seconds
    if not seconds or clip.end is None or clip.end - clip.start <= seconds:
        return clip
    kept = tuple(e for e in clip.events if max(e.seen or 0.0, e.heard or 0.0) < seconds)
    return msgspec.structs.replace(clip, end=round(clip.start + seconds, 6), events=kept)


def _usable(
    clips: Sequence[Clip], measured: Mapping[str, Measured], broken: Mapping[str, str], wanted: Wish
) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Clips of one thing that is seen and heard, and of the others why not."""
    kept, left_out = [], []
    owners: dict[str, str] = {}
    for clip in clips:
        why = broken.get(clip.id) or _why_not(clip, measured[clip.id], wanted)
        hashed = measured[clip.id].audio_hash if clip.id in measured else None
        if not why and hashed is not None and owners.setdefault(hashed, clip.id) != clip.id:
            why = f"has the very same sound as {owners[hashed]}"
        if why:
            left_out.append((clip.id, why))
        else:
            kept.append(clip)
    return kept, left_out


def _why_not(clip: Clip, found: Measured, wanted: Wish) -> str:
    if not found.width:
        return "has no pictures"
    if not found.sound:
        return "has no sound track"
    if len(clip.seen) != 1 or len(clip.heard) != 1 or clean(clip.seen[0]) != clean(clip.heard[0]):
        return "is not of exactly one class that is both seen and heard"
    if _sound(found).silent:
        return "is silent"
    seconds = wanted.square.seconds
    if seconds and not long_enough(found.seconds, min(rate_of(found.fps), found.fps), seconds):
        return f"is shorter than {seconds:g} s"
    return ""


def _sound(found: Measured) -> Sound:
    return Sound(lufs=found.lufs, peak=found.peak, seconds=found.seconds)


# ---------------------------------------------------------------- planning


def _plan(built: Built, wanted: Wish, table: classes.ClassTable, files: Mapping[str, str]) -> None:
    """Donors, and everything that is made of the clips."""
    sounds = {c.id: _sound(built.measured[c.id]) for c in built.clips}
    if "swap" in wanted.kinds:
        measure = _measure({c.id: c for c in built.clips}, files)
        for side in sorted({c.split for c in built.clips}):
            mine = [c for c in built.clips if c.split == side]
            found = twins(mine, sounds, table, wanted.twins, measure)
            built.twins += found.twins
            built.notes += [f"{side}: {line}" for line in found.left_out]
        _settle(built)
    by_id = {c.id: c for c in built.clips}
    built.variants += variants.swaps(by_id, built.twins)
    if "shift" in wanted.kinds:
        made, lines = variants.shifts(built.clips, wanted.shift_band, wanted.seed)
        built.variants, built.notes = built.variants + made, built.notes + lines
    if "modified" in wanted.kinds:
        made, lines = variants.modified(built.clips, wanted.modified, wanted.seed)
        built.variants, built.notes = built.variants + made, built.notes + lines
    if "muted" in wanted.kinds:
        built.scenes, lines = mixtures.plan(
            built.clips, files, sounds, wanted.scenes, things=wanted.things, classes=wanted.mix_classes,
            seed=wanted.seed,
        )  # fmt: skip
        built.notes += lines
        built.variants += variants.muted(built.scenes)


def _settle(built: Built) -> None:
    """Clips get their donors; who has none and is nobody's donor is left out."""
    mine: dict[str, list[str]] = {}
    for twin in built.twins:
        mine.setdefault(twin.clip, []).append(twin.donor)
    lent = {t.donor for t in built.twins}
    kept = []
    for clip in built.clips:
        if clip.id in mine or clip.id in lent:
            kept.append(msgspec.structs.replace(clip, donors=tuple(mine.get(clip.id, ()))))
        else:
            built.left_out.append((clip.id, "no donor fits it, and it is nobody's"))
    built.clips = kept


def _measure(clips: Mapping[str, Clip], files: Mapping[str, str]) -> Callable[[Clip, Clip], float | None]:
    """Match a donor to a clip as a swap does, and say how many LU are left over."""

    @lru_cache(maxsize=WAVES)
    def wave(name: str) -> Wave | None:
        clip = clips[name]
        return media.load(files[name], HEARD, start=clip.start, end=clip.end).wave

    def left(clip: Clip, donor: Clip) -> float | None:
        own, other = wave(clip.id), wave(donor.id)
        if own is None or other is None:
            return None
        residual = matched(other, own, HEARD.rate).residual_lu
        return None if residual is None else round(residual, 3)

    return left


# ---------------------------------------------------------------- the set's files


def _finish(built: Built, info: Info) -> None:
    """Write the set's files."""
    home = built.folder.resolve()
    rows = {
        i: (os.path.relpath(built.owners[i][0], home), built.owners[i][1], m) for i, m in built.measured.items()
    }
    write_set(built.folder, built.clips, built.variants, rows, built.left_out)
    counts = Counter(v.kind for v in built.variants)
    info.rendered = built.rendered
    info.counts = {
        "clips": len(built.clips),
        **{k: counts[k] for k in sorted(counts)},
        "left out": len(built.left_out),
    }
    info.licences = dict(Counter(c.licence for c in built.clips).most_common())
    info.left_out = tuple(built.notes)
    info.versions = {"earwitness": version("earwitness"), "av": version("av"), "python": platform.python_version()}
    write_info(built.folder, info)
