"""Interventions as files: ``render`` on the command line, and the clips that a report plays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np

from earwitness import interventions, media
from earwitness import run as runs
from earwitness.export.files import media_name, write_one
from earwitness.interventions import Rendered
from earwitness.records import ClipSet, Fill, Intervention
from earwitness.report import telling

TELLING = 10


def write_media(folder: Path, clips: ClipSet) -> None:
    """Write the most telling items' clips, original and intervened, into the run's media/ folder.

    What cannot be written (a source that is gone, an intervention that has no file form) is left out; the
    report says that it is missing.
    """
    place = folder / "media"
    place.mkdir(exist_ok=True)
    by_id = {clip.id: clip for clip in clips.clips}
    for pair in telling.choose(runs.judged(folder), TELLING):
        for judged in pair:
            item = judged.item
            target = place / media_name(item.clip, item.intervention)
            if target.exists():
                continue
            try:
                write_one(clips, by_id, item.clip, item.intervention, target)
            except (ValueError, OSError) as error:
                (place / f"{target.stem}.missing.txt").write_text(str(error))


def render(
    kind: str, files: Sequence[Path], out: Path, *, by: float = 0.0, name: str | None = None,
    fill: Fill = "silence", unseen: bool = False, codec: str = "flac", overwrite: bool = False,
) -> Rendered:  # fmt: skip
    """``earwitness render``: an intervention from files to a file. Raises ValueError for a bad combination."""
    kind = kind.replace("-", "_")
    known = get_args(get_type_hints(Intervention)["kind"])
    if kind not in known or kind == "original":
        raise ValueError(f"render {kind}: unknown; choose from {', '.join(k for k in known if k != 'original')}")
    if not files:
        raise ValueError("render: name the clip to change")
    if kind == "swap" and len(files) != 2:
        raise ValueError(f"render swap: name two files, the clip and the donor of the sound (got {len(files)})")
    if kind not in ("swap", "drop_stem") and len(files) != 1:
        raise ValueError(f"render {kind}: takes one file, got {len(files)}")
    if (fill != "silence" and kind not in ("mute", "shift", "hush")) or (unseen and kind != "shift"):
        raise ValueError(f"render {kind}: --fill is for mute, shift and hush, --unseen for shift")
    if kind in ("shift", "hush") and not by:
        raise ValueError(f"render {kind}: by how many seconds? --by, for instance 0.4")
    if kind == "background" and name is None:
        raise ValueError(f"render background: which one? --name, one of {', '.join(interventions.backgrounds())}")
    stems = None
    if kind == "drop_stem":
        if len(files) < 3 or name is None:
            raise ValueError(
                "render drop-stem: name the clip, then all of its stems, and with --name the stem to drop"
            )
        stems = {f.stem: _wave(f) for f in files[1:]}
    iv = Intervention(
        kind=kind,  # type: ignore[arg-type]
        seconds=by,
        donor=str(files[1]) if kind == "swap" else None,
        stem=name if kind == "drop_stem" else None,
        background=name if kind == "background" else None,
        fill=fill,
        unseen=unseen,
    )
    donor = files[1] if kind == "swap" else None
    return interventions.render(files[0], iv, out, donor=donor, stems=stems, codec=codec, overwrite=overwrite)


def _wave(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    wave = media.load_native(path).wave
    if wave is None:
        raise ValueError(f"{path} has no audio track: a stem is a sound file")
    return wave
