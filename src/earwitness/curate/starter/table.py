"""The table of sources: which photo and which recording make a clip's picture and sound, and under which licence.

``sources.csv`` has one row for each pair. A pair is the cluster of the statistics: all clips of a photo and its
recording have one ``source``, and no photo and no recording is in two pairs that are used. A row that is not used
says why (``out``) and stays, so that nobody adds it again.

=================  ============================================================================================
column             what it says
=================  ============================================================================================
id, what           the pair's name; the class that is seen and heard
core               yes: photo and sound are CC0 or in the public domain by the packages' notes, and committed here
motion             how the photo moves with the sound: zoom, hop or shake
photo, sound       PACKAGE!PATH, a path inside the package; ``!`` once more for a file inside a Qt resource file
part               of the recording, in s (from-until); empty: all of it
crop               x,y,side in pixels of the photo; empty: the largest square in the middle, a cut-out with a margin
*_sha256           of the file's bytes
*_licence          under which it may be used, by the note
*_credit, *_note   who made it, and the package's own words about it (file: quotation)
overruled          why a person keeps the pair against a witness
out                why the pair is not used
=================  ============================================================================================

Functions: ``read``.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec

SOURCES = Path(__file__).with_name("sources.csv")
MEDIA = Path(__file__).with_name("media")
Motion = Literal["zoom", "hop", "shake"]


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a package: ``package`` is its name (and version, for pip), ``inside`` the path down to the file."""

    package: str
    inside: tuple[str, ...]
    sha256: str
    licence: str
    credit: str
    note: str

    @property
    def free(self) -> bool:
        """Whether the note says CC0 or public domain."""
        return self.licence.casefold().startswith(("cc0", "public domain"))


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A photo and the recording that belongs to it; see the module's table."""

    id: str
    what: str
    core: bool
    motion: Motion
    crop: tuple[int, int, int] | None
    part: tuple[float, float] | None = None
    photo: Origin
    sound: Origin
    overruled: str = ""
    out: str = ""

    @property
    def licence(self) -> str:
        """Of a clip made of both."""
        return " + ".join(dict.fromkeys((self.photo.licence, self.sound.licence)))

    def committed(self, kind: Literal["photo", "sound"]) -> Path:
        """Where the file lies in this package, if it is committed."""
        origin = self.photo if kind == "photo" else self.sound
        return MEDIA / f"{self.id}{Path(origin.inside[-1]).suffix}"


def read(path: Path = SOURCES) -> list[Source]:
    """All rows, also those that are not used.

    Raises ValueError for a row that cannot be right: an unknown motion, a checksum that is none, a core row whose
    notes do not both say CC0 or public domain, a photo or a recording used twice.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = [_source(row, path) for row in csv.DictReader(line for line in file if not line.startswith("#"))]
    used = [s for s in rows if not s.out]
    for label, things in (
        ("id", [s.id for s in rows]),
        ("photo", [s.photo.sha256 for s in used]),
        ("sound", [s.sound.sha256 for s in used]),
    ):
        if double := _first_double(things):
            raise ValueError(f"{path.name}: the {label} {double} is in two rows that are used (one must be out)")
    return rows


def _first_double(things: Sequence[str]) -> str | None:
    return next((t for n, t in enumerate(things) if t in things[:n]), None)


def _source(row: dict[str, str], path: Path) -> Source:
    where = f"{path.name}, {row.get('id') or 'a row without id'}"
    if row["motion"] not in get_args(Motion):
        raise ValueError(f"{where}: motion {row['motion']!r}; known: {', '.join(get_args(Motion))}")
    crop = [int(n) for n in row["crop"].split(",")] if row["crop"] else None
    if crop is not None and len(crop) != 3:
        raise ValueError(f"{where}: crop wants x,y,side in pixels, got {row['crop']!r}")
    part = [float(t) for t in row["part"].split("-")] if row["part"] else None
    if part is not None and not (len(part) == 2 and 0 <= part[0] < part[1]):
        raise ValueError(f"{where}: part wants from-until in seconds, got {row['part']!r}")
    found = Source(
        id=row["id"], what=row["what"], core=row["core"] == "yes", motion=row["motion"],  # type: ignore[arg-type]
        crop=None if crop is None else (crop[0], crop[1], crop[2]),
        part=None if part is None else (part[0], part[1]), photo=_origin(row, "photo", where),
        sound=_origin(row, "sound", where), overruled=row["overruled"], out=row["out"],
    )  # fmt: skip
    if found.core and not found.out and not (found.photo.free and found.sound.free):
        raise ValueError(f"{where}: is core, but not both notes say CC0 or public domain ({found.licence})")
    return found


def _origin(row: dict[str, str], kind: str, where: str) -> Origin:
    package, *inside = row[kind].split("!")
    sha = row[f"{kind}_sha256"]
    if not inside or len(sha) != 2 * hashlib.sha256().digest_size:
        raise ValueError(f"{where}: {kind} wants PACKAGE!PATH and a SHA-256, got {row[kind]!r} and {sha!r}")
    return Origin(
        package=package, inside=tuple(inside), sha256=sha, licence=row[f"{kind}_licence"],
        credit=row[f"{kind}_credit"], note=row[f"{kind}_note"],
    )  # fmt: skip
