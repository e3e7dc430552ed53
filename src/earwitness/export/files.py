"""Every (clip, intervention) of a run as a media file, for tools that read files.

Functions: ``write_media`` (what cannot be written is said, not left out in silence), ``write_one``, ``media_name``,
``read_run``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from earwitness import interventions, media
from earwitness import run as runs
from earwitness.records import Clip, ClipSet, Intervention, Judged, View, digest

_SAFE = re.compile(r"[^A-Za-z0-9._+=-]+")
_LONGEST = 80  # characters of a file name's part; the rest of it is told apart by a hash


def media_name(clip: str, intervention: Intervention) -> str:
    """File name of a clip under an intervention, as in a run's ``media/``: ``<clip>--<intervention>.mp4``.

    The untouched clip is ``<clip>.mp4``. Only letters, digits and ``._+=-`` are kept; a name that had to be
    changed carries a hash of the whole, so that two clips never share a file.
    """
    stem = _safe(clip)
    return f"{stem}.mp4" if intervention.kind == "original" else f"{stem}--{_safe(intervention.key)}.mp4"


def _safe(name: str) -> str:
    kept = _SAFE.sub("_", name).replace("--", "_").strip(".")
    changed = kept != name or len(kept) > _LONGEST or not kept
    return f"{kept[:_LONGEST]}_{digest(name)[:8]}" if changed else kept


def read_run(folder: Path) -> tuple[runs.Info, list[Judged]]:
    """run.json and the judged answers of a run. Raises RunError where it has no answers or was not scored."""
    info = runs.read_info(folder)
    judged = runs.judged(folder)
    if not judged:
        raise runs.RunError(f"{folder} has no answers to export: run the audit first")
    return info, judged


def write_media(
    folder: Path, clips: ClipSet, place: Path, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, str]:
    """Write every distinct (clip, intervention) of a run's items into ``place``, under ``media_name``.

    Files that are there already are kept. Returns name -> why, for what could not be written (a source that is
    gone, a donor or a stem that is not known); ``progress`` gets (done, total).

    Raises
    ------
    RunError
        Where the folder holds no run, or none of whose clips are among ``clips``.
    """
    by_id = {clip.id: clip for clip in clips.clips}
    wanted = {
        media_name(i.clip, i.intervention): (i.clip, i.intervention) for i in runs.read_items(folder) if i.clip
    }
    if wanted and not any(clip in by_id for clip, _ in wanted.values()):
        raise runs.RunError(f"{folder} asks about none of these {len(by_id)} clips (another --clips or --seed?)")
    (place / "sources").mkdir(parents=True, exist_ok=True)
    missing: dict[str, str] = {}
    for done, (name, (clip, intervention)) in enumerate(sorted(wanted.items()), 1):
        target = place / name
        if not target.exists():
            try:
                write_one(clips, by_id, clip, intervention, target)
            except (ValueError, OSError) as error:
                missing[name] = str(error)
        if progress is not None:
            progress(done, len(wanted))
    return missing


def write_one(clips: ClipSet, by_id: Mapping[str, Clip], clip_id: str, iv: Intervention, target: Path) -> None:
    """Write one clip under an intervention; sources that had to be written are kept beside it in ``sources/``.

    Raises ValueError or OSError (MediaError among them) for a clip or donor that is not known, or not readable.
    """
    lost = [name for name in (clip_id, iv.donor) if name and name not in by_id]
    if lost:
        raise ValueError(f"clip {lost[0]!r} is not among the clips given")
    clip, sources = by_id[clip_id], target.parent / "sources"
    source = clips.file(clip, sources)
    donor = clips.file(by_id[iv.donor], sources) if iv.donor else None
    stems = clips.stems(clip, View(rate=media.load_native(source).rate)) if iv.kind == "drop_stem" else None
    # The untouched clip goes through the same writer: else its container alone would give a twin away.
    kind = "sham" if iv.kind == "original" else iv.kind
    interventions.render(
        source, msgspec.structs.replace(iv, kind=kind), target, donor=donor, stems=stems, events=clip.events
    )
