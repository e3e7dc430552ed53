"""Two runs beside each other as a page, with the clips that neither has at hand made again."""

from __future__ import annotations

from pathlib import Path

from earwitness import run as runs
from earwitness.report import compared
from earwitness.whitebox import opened


def compare(run_a: Path, run_b: Path, out: Path, *, embed: bool = False) -> Path:
    """Write the page of two runs into ``out``; returns its path. Raises as :func:`report.compared.build` does."""
    return compared.build(run_a, run_b, out, embed=embed, opens=lambda: opened.clips_of(runs.read_info(run_b)))
