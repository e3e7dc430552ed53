"""What every builder of a set does first: open the clips, find their files, and open the folder again.

The words of a command line are turned into errors here as well, so that an error names the setting that the user
typed and not a field of a record.

Functions: ``manifest`` (words -> clips), ``file_of``, ``named`` (may an id name a file?), ``folder`` (is it empty,
or does it hold this very set?), ``plainly`` (a wrong value of ``--set``, in words).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from earwitness import run as runs
from earwitness.datasets.opening import open_clips
from earwitness.records import Clip, ClipSet

Record = TypeVar("Record", bound=msgspec.Struct)
AT = re.compile(r"^(.*?)(?: - at `\$\.?(.*)`)?$", re.DOTALL)  # msgspec: what is wrong, and where


def manifest(spec: str, *, limit: int | None, seed: int, limited: str = "--limit ") -> ClipSet:
    """The clips of a manifest, which stands on the command line without a flag.

    ``limited`` is how the limit was typed. Raises ValueError where the clips cannot be opened.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"{limited}{limit}: wants at least one clip")
    return open_clips(spec, limit=limit, seed=seed, elsewhere="put them there")  # builders have no setting for it


def named(clip: Clip) -> None:
    """Raise ValueError for an id that cannot be a file's name."""
    if clip.id != Path(clip.id).name or clip.id.startswith("."):
        raise ValueError(f"clip id {clip.id!r} cannot be a file's name; give it another one (column id)")


def file_of(clips: ClipSet, clip: Clip, out: Path) -> Path:
    """Where a clip's file lies; a procedural clip is written into ``out/sources``.

    Raises ValueError for a procedural clip whose id cannot be a file's name.
    """
    if clip.path is not None:
        return (Path(getattr(clips, "root", Path())) / clip.path).resolve()
    named(clip)
    return clips.file(clip, out / "sources").resolve()


def folder(
    out: Path, what: str, now: Record, before: Record | None, alike: Callable[[Record], Mapping[str, object]],
    free: Sequence[str] = (),
) -> None:  # fmt: skip
    """Make a set's folder where it is not there; else it holds this very set, or nothing.

    Parameters
    ----------
    what : a set of this kind holds, in words ("events", "a set").
    now, before : what is asked for, and the folder's own record (None: it has none).
    alike : what must be the same in both, by name.
    free : names that may lie in a folder without a record.

    Raises RunError where the folder is a file, holds something else, or the same from other wishes.
    """
    if out.exists() and not out.is_dir():
        raise runs.RunError(f"--out {out}: is a file; wants a folder")
    out.mkdir(parents=True, exist_ok=True)
    if before is None:
        if any(p.name not in free for p in out.iterdir()):
            raise runs.RunError(f"{out} is not empty and holds no {what.removeprefix('a ')}: take another --out")
        return
    was, command = alike(before), getattr(before, "command", "")
    for name, mine in alike(now).items():
        if mine != (theirs := was[name]):
            old = f", or the old command: {command}" if command else ""
            raise runs.RunError(
                f"{out} holds {what} with another {name} ({theirs}, now {mine}): take another --out{old}"
            )


def plainly(error: msgspec.ValidationError, *kinds: type[msgspec.Struct]) -> str:
    """What is wrong with a value of ``--set``: its own name, and where it is one of a few words, these.

    ``kinds`` are the records in which the setting may be.
    """
    found = AT.match(str(error))
    assert found is not None
    said, field = found[1], (found[2] or "").rpartition(".")[2]
    name = field.partition("[")[0]
    if not said.startswith(("Expected", "Invalid")):  # a record's own words, which name the setting
        return f"--set {said}"
    for kind in kinds:
        for one in msgspec.structs.fields(kind):
            words: tuple[Any, ...] = get_args(one.type)
            if one.name == name and words and all(isinstance(w, str) for w in words):
                return f"--set {name}: {said[0].lower()}{said[1:]}; wants {', '.join(words)}"
    return f"--set {name}: {said[0].lower()}{said[1:]}"
