"""The files of a built set, and what is asked of it.

::

    OUT/labels.jsonl      the aligned clips (and scenes), donors, split, licence: what audits and training take
    OUT/classes.txt       their classes, one a line
    OUT/variants.jsonl    everything made of them: twins, shifts, replaced and left-out sounds, one a line
    OUT/measured.jsonl    each clip's loudness, length and content hashes
    OUT/left_out.csv      each clip that is not in the set, and why
    OUT/set.json          what was asked for, counts, versions
    OUT/clips/, scenes/, stems/, variants/     where files were written; variants/labels.jsonl labels those
    OUT/work/             logs of what is done

A variant that was not written is made by whoever uses the set, from the same interventions.

Functions: ``wish`` (settings by name), ``write_set``, ``read_variants``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from earwitness import run as runs
from earwitness.curate import opening
from earwitness.curate.jobs import Measured
from earwitness.curate.preprocess import Square
from earwitness.curate.splits import Shares
from earwitness.curate.twins import Wanted
from earwitness.datasets.labels import nearest
from earwitness.records import Clip, Intervention

Purpose = Literal["eval", "train"]
Kind = Literal["swap", "shift", "modified", "muted"]
KINDS: tuple[str, ...] = get_args(Kind)
MODIFIED = 20  # clips whose sound is replaced, by each of five (section 3 of arXiv 2511.10059)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a set; the defaults are the papers', for evaluation.

    ``kinds``: twins (swap), shifts of labelled events, sounds replaced by a background (modified), and scenes of
    several things with one left out (muted). ``scenes``: how many of these, of ``things`` things each, of the
    classes ``mix_classes`` (empty: all). ``modified``: clips whose sound is replaced. ``shift_band`` in s.
    ``panel``: pixels of a scene's panel. ``classes``: another class file than mma-1.
    """

    purpose: Purpose = "eval"
    kinds: tuple[Kind, ...] = ("swap",)
    twins: Wanted = Wanted()
    square: Square = Square(side=0, seconds=0)
    shares: Shares = Shares()
    scenes: int = 0
    things: int = 2
    mix_classes: tuple[str, ...] = ()
    modified: int = MODIFIED
    shift_band: tuple[float, float] = (1.8, 2.5)
    panel: int = 336
    codec: Literal["flac", "aac"] = "flac"
    classes: str = ""
    seed: int = 0

    @property
    def shares_asked(self) -> bool:
        """Whether splits are to be made (else clips keep those of their labels)."""
        return self.shares != Shares()


# name in --set -> (part of the wish, field)
NAMES: Mapping[str, tuple[str, str]] = {
    "twins": ("twins", "n"), "within": ("twins", "within"), "loop": ("twins", "loop"),
    "distance": ("twins", "distance"), "uses": ("twins", "uses"), "side": ("square", "side"),
    "seconds": ("square", "seconds"), "valid": ("shares", "valid"), "test": ("shares", "test"),
    "hold_out": ("shares", "hold_out"), "scenes": ("", "scenes"), "things": ("", "things"),
    "mix_classes": ("", "mix_classes"), "modified": ("", "modified"), "shift_band": ("", "shift_band"),
    "panel": ("", "panel"), "codec": ("", "codec"), "classes": ("", "classes"),
}  # fmt: skip
LISTS = {"mix_classes": "|", "shift_band": ","}


def wish(
    purpose: str = "eval", kinds: Sequence[str] = (), seed: int = 0, settings: Mapping[str, str] | None = None
) -> Wish:
    """What is asked for, from names and texts; what is not given is the paper's.

    Evaluation: one twin a clip, clips as they are. Training: ten twins of distinct classes, 504 x 504, 10 s.

    Raises ValueError for unknown names, with the nearest, and for values that cannot be.
    """
    if purpose not in get_args(Purpose):
        raise ValueError(f"--for {purpose}: wants eval or train")
    if odd := [k for k in kinds if k not in KINDS]:
        raise ValueError(f"--make {odd[0]}: no such kind{nearest(odd[0], KINDS)}; there are {', '.join(KINDS)}")
    train = purpose == "train"
    parts: dict[str, dict[str, Any]] = {
        "": {"purpose": purpose, "kinds": tuple(kinds) or ("swap",), "seed": seed},
        "twins": {"n": 10 if train else 1, "seed": seed},
        "square": {} if train else {"side": 0, "seconds": 0},
        "shares": {},
    }
    if "muted" in kinds:
        parts[""]["scenes"] = 20
    for key, value in (settings or {}).items():
        if key not in NAMES:
            raise ValueError(f"--set {key}: no such setting{nearest(key, list(NAMES))}; known: {', '.join(NAMES)}")
        part, field = NAMES[key]
        mark = LISTS.get(key)
        parts[part][field] = value if mark is None else [v.strip() for v in value.split(mark) if v.strip()]
    try:
        made = msgspec.convert({**parts.pop(""), **parts}, Wish, strict=False)
    except msgspec.ValidationError as error:
        said = opening.plainly(error, Wish, Wanted, Square, Shares)
        raise ValueError(said.replace("--set n: ", "--set twins: ")) from None
    low, high = made.shift_band
    if not 0 < low <= high < 60:
        raise ValueError(f"shift_band={low:g},{high:g}: wants seconds, low to high (milliseconds?)")
    if made.scenes and "muted" not in made.kinds:
        raise ValueError("scenes are for muted ones: --make muted")
    if made.classes and not Path(made.classes).is_file():
        raise ValueError(f"--set classes={made.classes}: no such class file")
    return made


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A clip under an intervention: what is done, what is then seen and heard, and what was measured.

    ``path`` is None while it is not written. ``turn`` numbers a clip's twins; ``distance`` is the kinship of seen
    and heard class (1 one parent, 2 one root, 3 other roots, None unknown). ``residual_lu``: loudness left over
    beside the clip's own; ``residual_db``: how far a scene's sound is from the sum of its stems.
    """

    id: str
    clip: str
    kind: Kind
    intervention: Intervention
    seen: tuple[str, ...]
    heard: tuple[str, ...]
    source: str
    linked: tuple[str, ...] = ()
    split: str = "test"
    licence: str = "unknown"
    turn: int = 0
    distance: int | None = None
    offset: float = 0.0  # s; > 0 = sound late
    gain_db: float | None = None
    residual_lu: float | None = None
    residual_db: float | None = None
    limited_db: float | None = None
    looped: bool = False
    path: str | None = None
    verdict: str | None = None  # of the lag measured on the written file
    video_hash: str | None = None
    audio_hash: str | None = None


class Info(msgspec.Struct, kw_only=True):
    """``set.json``."""

    clips: str  # as given on the command line
    limit: int | None = None
    wish: Wish
    class_file: str
    rendered: bool = False
    counts: dict[str, int] = {}
    licences: dict[str, int] = {}
    left_out: tuple[str, ...] = ()  # in plain words
    command: str = ""
    versions: dict[str, str] = {}


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of measured.jsonl."""

    clip: str
    path: str
    licence: str
    found: Measured


def read_info(folder: Path) -> Info | None:
    """``set.json``; None where there is none. Raises RunError where it cannot be read."""
    return runs.read_json(folder / "set.json", Info)


def write_info(folder: Path, info: Info) -> None:
    """Write ``set.json``."""
    runs.write_json(folder / "set.json", info)


def write_set(
    folder: Path,
    clips: Sequence[Clip],
    variants: Sequence[Variant],
    measured: Mapping[str, tuple[str, str, Measured]],
    left_out: Iterable[tuple[str, str]],
) -> None:
    """Write labels, classes, variants, measurements, who is left out; and labels of the written variants.

    ``measured`` has path, licence and measurements of each clip of the manifest, those left out among them.
    """
    runs.write_lines(folder / "labels.jsonl", clips)
    names = sorted({n for c in clips for n in (*c.seen, *c.heard)}, key=str.casefold)
    (folder / "classes.txt").write_text("".join(f"{n}\n" for n in names), "utf-8")
    runs.write_lines(folder / "variants.jsonl", variants)
    runs.write_lines(
        folder / "measured.jsonl",
        (_Row(clip=i, path=path, licence=owner, found=m) for i, (path, owner, m) in measured.items()),
    )
    with (folder / "left_out.csv.tmp").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("clip", "why"))
        lines.writerows(left_out)
    (folder / "left_out.csv.tmp").replace(folder / "left_out.csv")
    written = [v for v in variants if v.path is not None]
    if written:
        (folder / "variants").mkdir(exist_ok=True)
        runs.write_lines(folder / "variants" / "labels.jsonl", map(_labelled, written))


def _labelled(variant: Variant) -> Clip:
    """A written variant as a clip with labels. Without events: labels files hold untouched clips to their times."""
    assert variant.path is not None
    return Clip(
        id=variant.id, path=Path(variant.path).name, seen=variant.seen, heard=variant.heard, source=variant.source,
        split=variant.split, licence=variant.licence,
    )  # fmt: skip


def read_variants(folder: Path) -> list[Variant]:
    """The variants of a set. Raises RunError where there are none."""
    return runs.read_lines(Path(folder) / "variants.jsonl", Variant)
