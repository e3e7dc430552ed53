"""A folder of real clips as a clip set: media files with a labels file, or files named as MMA-Bench names its own.

The labels file (``labels.csv``, ``labels.jsonl``, ``clips.csv`` or ``clips.jsonl``) says of each clip what is seen
and heard, when, and which stems there are; docs/labels.md tells the format. It is read strictly: see
:mod:`earwitness.datasets.labels`. Files are probed when the folder is read, so that a missing track, a time beyond
the end or a broken file is an error with a line number now, not a failed item later.

Without a labels file the names of MMA-Bench's release are understood: ``Y<id>_repDiff_<AudioClass>_<k>.mp4`` is a
clip whose sound was replaced by one of that class; what it shows is not said there, and stays unknown.

Functions: ``read`` -> :class:`FolderClips`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

import msgspec

from earwitness import media
from earwitness.datasets.labels import LabelsError, check_times, clip_of, nearest, rows
from earwitness.media import MediaError
from earwitness.records import Clip, Media, View, Wave

LABELS = ("labels.csv", "labels.jsonl", "clips.csv", "clips.jsonl")
CLASSES = "classes.txt"
MEDIA = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
RELEASE = re.compile(r"Y(?P<youtube>.{11})_repDiff_(?P<heard>.+)_(?P<k>\d+)")  # MMA-Bench's release
CUT_VIEW = View(fps=25.0, rate=48_000)  # how a crop is written out as a file of its own


class FolderClips:
    """Clips in files; a :class:`~earwitness.records.ClipSet`. ``root`` is what relative paths start from."""

    def __init__(self, root: Path, clips: Sequence[Clip], whole: Mapping[str, float] | None = None) -> None:
        self.root = root
        self.clips: Sequence[Clip] = tuple(clips)
        self._whole = dict(whole or {})  # clip id -> duration, of clips that are a whole file

    def path(self, clip: Clip) -> Path:
        """Where a clip's file lies."""
        if clip.path is None:
            raise ValueError(f"clip {clip.id} has no path (a procedural clip? use foley.FoleyClips)")
        return self.root / clip.path

    def media(self, clip: Clip, view: View) -> Media:
        """Decode one clip. Raises MediaError where the file cannot be read."""
        end = None if clip.id in self._whole else clip.end
        return media.load(self.path(clip), view, start=clip.start, end=end)

    def stems(self, clip: Clip, view: View) -> Mapping[str, Wave]:
        """The clip's stems from ``stems/<id>/<name>.wav``, each [1, samples] at ``view.rate``; empty without."""
        out = {}
        end = None if clip.id in self._whole else clip.end
        for name in clip.stems:
            sound = media.load(self._stem(clip, name), view, start=clip.start, end=end)
            if sound.wave is None:
                raise MediaError(f"{self._stem(clip, name)}: the stem of clip {clip.id} has no sound track")
            out[name] = sound.wave
        return out

    def _stem(self, clip: Clip, name: str) -> Path:
        return self.root / "stems" / clip.id / f"{name}.wav"

    def file(self, clip: Clip, folder: Path) -> Path:
        """The clip's own file; a crop is cut out into ``folder`` (encoded anew, once)."""
        if clip.id in self._whole or (clip.start == 0.0 and clip.end is None):
            return self.path(clip)
        out = Path(folder) / f"{clip.id}.mp4"
        if not out.exists():
            out.parent.mkdir(parents=True, exist_ok=True)
            cut = self.media(clip, CUT_VIEW)
            if cut.frames is None:
                raise MediaError(f"{self.path(clip)}: clip {clip.id} has no pictures to cut out")
            part = out.with_name(f"{out.stem}.part.mp4")  # a file of the right name is always whole
            media.write_clip(cut.frames, CUT_VIEW.fps, cut.wave, cut.rate, part)
            part.replace(out)
        return out


def read(path: str | Path, *, classes: Sequence[str] | None = None) -> FolderClips:
    """Clips of a folder, or of a labels file.

    Parameters
    ----------
    path : the folder (with one labels file, or with files named as in MMA-Bench's release) or the labels file.
    classes : the names that labels may use; default: ``classes.txt`` beside the labels file, one a line, where
    there
        is one; else any name.

    Raises
    ------
    LabelsError
        For mistakes in the labels file, each with its line.
    ValueError
        Where there is nothing to read.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such folder or labels file")
    labels = path if path.is_file() else _labels_file(path)
    if labels is None:
        return _named(path)
    if labels.suffix.lower() not in (".csv", ".tsv", ".jsonl", ".ndjson"):
        raise ValueError(
            f"{labels}: a labels file is CSV or JSONL, got {labels.suffix or 'no suffix'} (a media file?)"
        )
    root = labels.parent
    if classes is None and (root / CLASSES).exists():
        classes = [line.strip() for line in (root / CLASSES).read_text("utf-8-sig").splitlines() if line.strip()]
    clips: list[Clip] = []
    whole: dict[str, float] = {}
    wrong: list[tuple[int, str]] = []
    ids: dict[str, int] = {}
    places: dict[tuple[Path, float, float | None], int] = {}
    for line, row in rows(labels):
        try:
            clip = _located(clip_of(row), root)
        except ValueError as error:
            wrong.append((line, str(error)))
            continue
        place = ((root / str(clip.path)).resolve(), clip.start, clip.end)
        if place in places:
            wrong.append(
                (line, f"path {clip.path!r} stands on line {places[place]} already (with the same start and end)")
            )
            continue
        if clip.id in ids:
            why = "give crops of one file ids of their own" if "id" not in row else "ids must differ"
            wrong.append((line, f"id {clip.id!r} stands on line {ids[clip.id]} already ({why})"))
            continue
        places[place] = ids[clip.id] = line
        mistakes, clip, duration = _checked(clip, root, classes)
        wrong += [(line, m) for m in mistakes]
        if duration is not None:
            whole[clip.id] = duration
        clips.append(clip)
    for clip in clips:
        lost = next((d for d in clip.donors if d not in ids or d == clip.id), None)
        if lost is not None:
            why = "is the clip itself" if lost == clip.id else f"is no clip of this file{nearest(lost, list(ids))}"
            wrong.append((ids[clip.id], f"donors: {lost!r} {why}"))
    if wrong:
        raise LabelsError(labels, wrong)
    return FolderClips(root, clips, whole)


def _labels_file(folder: Path) -> Path | None:
    found = [folder / name for name in LABELS if (folder / name).exists()]
    if len(found) > 1:
        raise ValueError(f"{folder} has {' and '.join(f.name for f in found)}: name the one to read")
    if not found:
        others = sorted(f.name for f in folder.iterdir() if f.suffix.lower() in (".csv", ".tsv", ".jsonl"))
        if others:
            raise ValueError(
                f"{folder} has no {' or '.join(LABELS)}, but {', '.join(others[:3])}: name it if it is "
                f"the labels file"
            )
    return found[0] if found else None


def _located(clip: Clip, root: Path) -> Clip:
    """The clip with a path that exists; raises ValueError with the nearest name where it does not."""
    given = str(clip.path)
    if PureWindowsPath(given).drive:
        raise ValueError(f"path {given!r} is a Windows path; write it relative to the labels file")
    path = given
    if "\\" in path and not (root / path).exists():
        path = path.replace("\\", "/")  # the same relative path, as Windows writes it
    at = root / path
    if at.is_dir():
        raise ValueError(f"path {given!r} is a folder, wants a media file")
    if not at.exists():
        folder = at.parent if at.parent.is_dir() else root
        names = [f.name for f in folder.iterdir() if f.is_file()]
        raise ValueError(f"path {given!r}: no such file under {root}{nearest(at.name, names)}")
    return msgspec.structs.replace(clip, path=path)


def _checked(clip: Clip, root: Path, classes: Sequence[str] | None) -> tuple[list[str], Clip, float | None]:
    """Mistakes against file and class list; the clip with its end; its duration where it is a whole file."""
    wrong = []
    if classes is not None:
        known = {c.casefold().replace("_", " ") for c in classes}
        for field in ("seen", "heard"):
            for name in getattr(clip, field):
                if name.casefold().replace("_", " ") not in known:
                    wrong.append(f"{field}: {name!r} is not in the class list{nearest(name, classes)}")
    for name in clip.stems:
        if not (root / "stems" / clip.id / f"{name}.wav").exists():
            wrong.append(f"stem {name!r}: there is no stems/{clip.id}/{name}.wav")
    try:
        found = media.probe(root / str(clip.path))
    except MediaError as error:
        return [*wrong, str(error)], clip, None
    if found.sound is None and clip.heard:
        wrong.append(f"heard is {', '.join(clip.heard)}, but the file has no sound track")
    if found.picture is None and clip.seen:
        wrong.append(f"seen is {', '.join(clip.seen)}, but the file has no pictures")
    wrong += check_times(clip, found.duration)
    whole = clip.start == 0.0 and (clip.end is None or abs(clip.end - found.duration) < 1e-3)
    if clip.end is None:
        clip = msgspec.structs.replace(clip, end=found.duration)
    return wrong, clip, found.duration if whole else None


def _named(folder: Path) -> FolderClips:
    """Clips by their file names alone. Files with other names are clips without labels."""
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in MEDIA and f.is_file())
    if not files:
        raise ValueError(f"{folder}: no labels file ({', '.join(LABELS)}) and no media files ({', '.join(MEDIA)})")
    if not any(RELEASE.fullmatch(f.stem) for f in files):
        raise ValueError(
            f"{folder}: {len(files)} media files, but no labels file ({', '.join(LABELS)}), and none is "
            f"named as in "
            "MMA-Bench's release (Y<id>_repDiff_<AudioClass>_<k>.mp4): nothing says what they show and sound like"
        )
    clips, whole, wrong = [], {}, []
    for file in files:
        m = RELEASE.fullmatch(file.stem)
        clip = Clip(id=file.stem, path=file.name)
        if m:
            clip = msgspec.structs.replace(clip, heard=(m["heard"].replace("_", " "),), source=m["youtube"])
        mistakes, clip, duration = _checked(clip, folder, None)
        wrong += [f"{file.name}: {what}" for what in mistakes]
        clips.append(clip)
        whole[clip.id] = duration or 0.0
    if wrong:
        raise ValueError("\n".join(wrong))
    return FolderClips(folder, clips, whole)
