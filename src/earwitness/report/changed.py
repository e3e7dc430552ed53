"""Charts of two traced runs beside each other, as files: what ``earwitness compare`` draws.

Function: :func:`write_changes`.
"""

from __future__ import annotations

from pathlib import Path

from earwitness.compare import names_of
from earwitness.report import charts, inside
from earwitness.whitebox.joined import load, unlike


def write_changes(folder_a: Path, folder_b: Path) -> Path | None:
    """Draw what changed inside from one run to the other, as PNG, SVG and Vega-Lite; returns the files' folder.

    They lie in ``compare/NAME`` of the second run, NAME being the first run's folder. None where either is not
    traced, the two cannot be compared layer by layer, or share nothing to draw.

    Raises RunError where a trace belongs to another run.
    """
    if not all((folder / "trace").is_dir() for folder in (folder_a, folder_b)):
        return None
    sides = (load(folder_a), load(folder_b))
    found = [] if unlike(*sides) else inside.change_charts(*sides, names_of(folder_a, folder_b))
    if not found:
        return None
    place = folder_b / "compare" / folder_a.resolve().name
    charts.write(found, place)
    return place
