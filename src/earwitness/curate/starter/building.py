"""From the table of sources to a folder that audits take: files, clips, witnesses, labels, credits.

::

    OUT/labels.jsonl    the clips: class seen and heard, when something starts, source, licence
    OUT/clips/          their files: H.264 and FLAC, 336 x 336, 25 frames a second
    OUT/stems/          of scenes of two, each sound apart
    OUT/CREDITS.md      who made each photo and recording, the licence, the package's own words
    OUT/verdicts.jsonl  what the witnesses say of each pair
    OUT/left_out.csv    each pair that is not in the set, and why
    OUT/classes.txt, OUT/starter.json      the classes; what was asked for, counts, versions
    OUT/packages/       fetched packages (with ``more``); may be deleted, or filled by hand

Of each pair there are clips of several views, phrases and levels, all of one ``source``. Pairs stand two by two
(mates): they lend each other their sounds in a swap, and make a scene side by side whose sounds are known apart. A
scene is a source of its own ("a+b"), though its sounds are also in single clips: only overall figures hold both.

The same command goes on where it was; what is rendered already is kept.

Functions: ``build``.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from earwitness import media
from earwitness import run as runs
from earwitness.curate import mixtures, opening
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.starter import rendering, sounding, table, vouching
from earwitness.curate.starter.packages import taken
from earwitness.curate.starter.table import Source
from earwitness.media import MediaError
from earwitness.models.cascade import Ear, Eye, read_words
from earwitness.questions import same
from earwitness.records import Clip, Event, Frames, View, Wave, digest, how_many

KNOWN = Path(__file__).with_name("verdicts.jsonl")  # the witnesses' verdicts as they were when the table was made
CLIPS = 4  # of a pair: three calls and a long one
LONGEST = 60.0  # s of a recording that are used, where the table says nothing

Progress = Callable[[int, int], None]


class Info(msgspec.Struct, kw_only=True):
    """``starter.json``."""

    more: bool = False
    seed: int = 0
    clips: int = CLIPS  # of a pair
    scenes: bool = True
    table: str = ""  # digest of sources.csv
    counts: dict[str, int] = {}
    licences: dict[str, int] = {}
    witnesses: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    versions: dict[str, str] = {}


@dataclass
class Started:
    """What was built: clips, verdicts, and in plain words what is not in it."""

    folder: Path
    clips: list[Clip] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Pair:
    """A pair's clips, before they are written."""

    source: Source
    picture: Any
    recording: Wave
    key: str
    sounds: list[sounding.Sound] = field(default_factory=list)

    def frames(self, number: int, every: int = 1) -> Frames:
        made = self.sounds[number]
        curve = sounding.envelope(made.wave)
        return rendering.frames(self.picture, curve, made.onsets, self.source.motion, number, self.key, every=every)


def build(
    out: Path, *, more: bool = False, seed: int = 0, per_source: int = CLIPS, scenes: bool = True,
    packages: Path | None = None, witnesses: tuple[Ear, Eye] | None = None, sources: Sequence[Source] | None = None,
    told: Callable[[str], None] = lambda _: None, progress: Progress = lambda _, __: None, command: str = "",
) -> Started:  # fmt: skip
    """Build the set, or go on with one.

    Parameters
    ----------
    more : also what has to be fetched out of packages (GPL and CC licences among them).
    per_source : clips of a pair; every fourth is a long one.
    packages : where packages lie or are brought; default: OUT/packages.
    witnesses : an ear and an eye that vouch for each pair; without them their verdicts of when the table was made.
    told, progress : are told which package is fetched; how many pairs of all are done.
    command : as typed, for the record.

    Raises ValueError where the folder holds something else, or nothing can be built.
    """
    if per_source < 1:
        raise ValueError(f"clips={per_source}: a pair has at least 1 clip")
    rows = list(table.read() if sources is None else sources)
    asked = Info(more=more, seed=seed, clips=per_source, scenes=scenes, table=digest(table.SOURCES.read_bytes()))
    record = out / "starter.json"
    before = runs.read_json(record, Info)
    opening.folder(out, "a starter set", asked, before, _wishes, free=("packages",))
    asked.command = command or (before.command if before is not None else "")
    runs.write_json(record, asked)
    built = Started(out)
    wanted = [s for s in rows if s.core or more]
    built.left_out += [(s.id, s.out) for s in wanted if s.out]
    held, lost = _files([s for s in wanted if not s.out], packages or out / "packages", told)
    usable = []
    for source in wanted:
        why = source.out or lost.get(source.photo.sha256) or lost.get(source.sound.sha256)
        if why and not source.out:
            built.left_out.append((source.id, why))
        elif not why:
            usable.append(source)
    if missing := sorted(set(lost.values())):
        built.notes += [
            f"{how_many(sum(w == why for _, w in built.left_out), 'pair')} left out: {why}" for why in missing
        ]
    classes = sorted({s.what for s in usable})
    known = {} if witnesses is not None else _known()
    by: set[str] = set()
    for n, source in enumerate(usable):
        progress(n, len(usable))
        _one(source, held, built, classes, witnesses, known, seed, per_source)
        by |= {v.by for v in built.verdicts}
    if not built.clips:
        raise ValueError(
            f"{out}: no clip could be built: {built.left_out[0][1] if built.left_out else 'no sources'}"
        )
    if witnesses is None:
        built.notes.append(
            "no witness was asked here: pairs stand by the verdicts that came with the table (the weights: "
            "python -m earwitness.curate.checks.witnesses_fetch)"
        )
    mates = _mates(built.sources, seed)
    built.clips = _lend(built.clips, mates)
    if scenes:
        _scenes(built, mates)
    progress(len(usable), len(usable))
    _finish(built, asked, tuple(sorted(by)))
    return built


def _wishes(info: Info) -> dict[str, object]:
    """What two builds in one folder must have in common."""
    return {n: getattr(info, n) for n in ("more", "seed", "clips", "scenes", "table")}


def _files(
    sources: Sequence[Source], packages: Path, told: Callable[[str], None]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Bytes by SHA-256: committed files as they lie here, the others out of packages."""
    held: dict[str, bytes] = {}
    wanted = []
    for source in sources:
        for kind, origin in (("photo", source.photo), ("sound", source.sound)):
            path = source.committed(kind)  # type: ignore[arg-type]
            raw = path.read_bytes() if source.core and path.exists() else None
            if raw is not None and _sha256(raw) == origin.sha256:
                held[origin.sha256] = raw
            else:
                wanted.append(origin)
    found, lost = taken(wanted, packages, told) if wanted else ({}, {})
    return {**held, **found}, lost


def _sha256(raw: bytes) -> str:
    import hashlib

    return hashlib.sha256(raw).hexdigest()


def _known() -> dict[str, list[Verdict]]:
    """The witnesses' verdicts of when the table was made, by pair."""
    out: dict[str, list[Verdict]] = {}
    if KNOWN.exists():
        for verdict in runs.read_lines(KNOWN, Verdict):
            out.setdefault(verdict.clip, []).append(verdict)
    return out


# ---------------------------------------------------------------- a pair


def _one(
    source: Source, held: dict[str, bytes], built: Started, classes: Sequence[str],
    witnesses: tuple[Ear, Eye] | None, known: dict[str, list[Verdict]], seed: int, per_source: int,
) -> None:  # fmt: skip
    """Plan a pair's clips, ask the witnesses, and write the clips where they do not object."""
    try:
        pair = _pair(source, held, built.folder, seed)
        for number in range(per_source):
            made = sounding.sound(pair.recording, number, pair.key, long=number % CLIPS == CLIPS - 1)
            pair.sounds.append(made)
    except (MediaError, ValueError) as error:
        built.left_out.append((source.id, str(error)))
        return
    verdicts = known.get(source.id, [])
    stacks = [pair.frames(n, every=60) for n in range(len(pair.sounds))] if witnesses is not None else []
    if witnesses is not None:
        verdicts = vouching.vouched(
            source.id, source.what, classes, [s.wave for s in pair.sounds], stacks, *witnesses, read_words()
        )
    built.verdicts += verdicts
    if why := vouching.left_out(verdicts, source.overruled):
        built.left_out.append((source.id, why))
        return
    built.sources.append(source)
    for number in range(len(pair.sounds)):
        built.clips.append(_written(pair, number, built.folder))


def _pair(source: Source, held: dict[str, bytes], folder: Path, seed: int) -> _Pair:
    picture = rendering.opened(held[source.photo.sha256], source.crop)
    raw = folder / f".{source.id}{Path(source.sound.inside[-1]).suffix}"
    raw.write_bytes(held[source.sound.sha256])
    try:
        wave = media.load(raw, View(rate=sounding.RATE), end=None).wave
    finally:
        raw.unlink()
    if wave is None:
        raise MediaError(f"{source.id}: the recording has no sound track")
    begin, end = (round(t * sounding.RATE) for t in source.part or (0.0, LONGEST))
    return _Pair(source, picture, wave[:, begin:end], f"{seed}/{source.id}")


def _written(pair: _Pair, number: int, folder: Path) -> Clip:
    made, source = pair.sounds[number], pair.source
    name = f"{source.id}-{number + 1}"
    path = folder / "clips" / f"{name}.mp4"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        media.write_clip(pair.frames(number), sounding.FPS, made.wave, sounding.RATE, path)
    return Clip(
        id=name, path=f"clips/{path.name}", end=made.seconds, seen=(source.what,), heard=(source.what,),
        events=tuple(Event(source.what, t, t) for t in made.onsets), source=source.id, licence=source.licence,
    )  # fmt: skip


# ---------------------------------------------------------------- two by two


def _mates(sources: Sequence[Source], seed: int) -> list[tuple[Source, Source]]:
    """The pairs of photo and recording, two by two, of different things; each once."""
    waiting = sorted(sources, key=lambda s: digest("mate", seed, s.id))
    out = []
    while waiting:
        # Whose class has most left goes first: else the last ones are all of one class.
        common = {s.what: sum(same(o.what) == same(s.what) for o in waiting) for s in waiting}
        first = max(waiting, key=lambda s: common[s.what])
        waiting.remove(first)
        others = [s for s in waiting if same(s.what) != same(first.what)]
        if others:
            other = max(others, key=lambda s: common[s.what])
            waiting.remove(other)
            out.append((first, other))
    return out


def _lend(clips: Sequence[Clip], mates: Sequence[tuple[Source, Source]]) -> list[Clip]:
    """In a swap, two mates lend each other their sounds; who has none borrows from the first mate of another class.

    So a cluster of the statistics is two sources (once: three), and not one chain through the whole set.
    """
    lender = {a.id: b.id for one, two in mates for a, b in ((one, two), (two, one))}
    by_source: dict[str, list[Clip]] = {}
    for clip in clips:
        by_source.setdefault(clip.source, []).append(clip)
    out = []
    for clip in clips:
        given = lender.get(clip.source) or next(
            (s.id for pair in mates for s in pair if same(s.what) != same(clip.seen[0])), ""
        )
        there = by_source.get(given, [])
        number = by_source[clip.source].index(clip)
        donors = (there[number % len(there)].id,) if there else ()
        out.append(msgspec.structs.replace(clip, donors=donors))
    return out


def _scenes(built: Started, mates: Sequence[tuple[Source, Source]]) -> None:
    """A scene of each two mates, from their last clips."""
    last = {s.id: [c for c in built.clips if c.source == s.id][-1] for s in built.sources}
    for first, other in mates:
        parts = tuple(
            mixtures.Part(last[s.id].id, str(built.folder / str(last[s.id].path)), 0.0, None, s.what)
            for s in (first, other)
        )
        name = f"scene-{first.id}-{other.id}"
        scene = mixtures.Scene(
            id=name, parts=parts, seconds=round(min(last[s.id].end or 0.0 for s in (first, other)), 2),
            split="test", licence=" + ".join(dict.fromkeys((first.licence, other.licence))),
        )  # fmt: skip
        path, stems = built.folder / "clips" / f"{name}.mp4", built.folder / "stems" / name
        if not path.exists():
            try:
                mixtures.write(scene, path, stems, side=rendering.SIDE)
            except (MediaError, ValueError) as error:
                built.left_out.append((name, str(error)))
                continue
        whats = (first.what, other.what)
        built.clips.append(
            Clip(
                id=name, path=f"clips/{name}.mp4", seen=whats, heard=whats, stems=whats,
                source=f"{first.id}+{other.id}", licence=scene.licence,
            )
        )  # fmt: skip


# ---------------------------------------------------------------- the set's files


def _finish(built: Started, info: Info, by: tuple[str, ...]) -> None:
    folder = built.folder
    runs.write_lines(folder / "labels.jsonl", built.clips)
    runs.write_lines(folder / "verdicts.jsonl", built.verdicts)
    classes = sorted({n for c in built.clips for n in c.seen}, key=str.casefold)
    (folder / "classes.txt").write_text("".join(f"{n}\n" for n in classes), "utf-8")
    with (folder / "left_out.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("pair", "why"))
        lines.writerows(built.left_out)
    (folder / "CREDITS.md").write_text(credits_of(built.sources), "utf-8")
    info.counts = {
        "clips": len(built.clips), "pairs": len(built.sources), "classes": len(classes),
        "scenes": sum(len(c.seen) > 1 for c in built.clips), "left out": len(built.left_out),
    }  # fmt: skip
    licences: dict[str, int] = {}
    for clip in built.clips:
        licences[clip.licence] = licences.get(clip.licence, 0) + 1
    info.licences = licences
    info.witnesses, info.notes = by, tuple(built.notes)
    info.versions = {"earwitness": version("earwitness"), "av": version("av"), "pillow": version("pillow")}
    runs.write_json(folder / "starter.json", info)


def credits_of(sources: Sequence[Source]) -> str:
    """CREDITS.md: who made what, under which licence, in the words of the package it comes from."""
    lines = [
        "# Credits", "",
        "Photos and recordings of this set, as the packages that carry them say. Each clip is a photo set in",
        "motion and a part of a recording, cut, faded and turned down; nothing else was changed.", "",
        "| pair | file | made by | licence | the package's words |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for source in sources:
        for origin in (source.photo, source.sound):
            cells = (source.id, f"{origin.package}: {origin.inside[-1].rsplit('/', 1)[-1]}", origin.credit,
                     origin.licence, origin.note)  # fmt: skip
            lines.append("| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |")
    return "\n".join(lines) + "\n"
