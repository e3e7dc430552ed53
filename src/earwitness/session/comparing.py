"""Two runs beside each other as a page, with the clips that neither has at hand made again; more as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from earwitness import run as runs
from earwitness import scorecard
from earwitness.records import Cell, Estimate, Table
from earwitness.report import compared
from earwitness.whitebox import opened


def compare(run_a: Path, run_b: Path, out: Path, *, embed: bool = False) -> Path:
    """Write the page of two runs into ``out``; returns its path. Raises as :func:`report.compared.build` does."""
    return compared.build(run_a, run_b, out, embed=embed, opens=lambda: opened.clips_of(runs.read_info(run_b)))


def line_up(folders: Sequence[Path], out: Path | None = None) -> tuple[Table, Path | None]:
    """The scorecard of several runs on the items that all have, and where it was written (``out``/scorecard.md).

    Runs are called by their folders' names. Raises ValueError where two are called the same, one was not scored, or
    they share no item.
    """
    names = [folder.resolve().name for folder in folders]
    if twice := [n for n in names if names.count(n) > 1]:
        raise ValueError(
            f"two of the runs are called {twice[0]!r}: rename a folder, so that the table can name them"
        )
    judged = {name: runs.judged(folder) for name, folder in zip(names, folders, strict=True)}
    common = set.intersection(*({j.item.id for j in some} for some in judged.values()))
    if not common:
        lone = min(judged, key=lambda name: len(judged[name]))
        raise ValueError(f"the runs share no item (other clips, protocols or settings in {lone}?)")
    table = scorecard.table({name: [j for j in some if j.item.id in common] for name, some in judged.items()})
    if out is None:
        return table, None
    out.mkdir(parents=True, exist_ok=True)
    target = out / "scorecard.md"
    target.write_text(_markdown(table), encoding="utf-8")
    return table, target


def _markdown(table: Table) -> str:
    lines = [f"# {table.title}", "", table.caption, "", "| | " + " | ".join(table.columns) + " |"]
    lines.append("|---" * (len(table.columns) + 1) + "|")
    for row in table.rows:
        lines.append(f"| {row.label} | " + " | ".join(map(_cell, row.cells)) + " |")
    return "\n".join(lines) + "\n"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Estimate):
        return f"{cell.value:.2f} [{cell.low:.2f}, {cell.high:.2f}]"
    return "-" if cell is None else f"{cell:.2f}" if isinstance(cell, float) else str(cell)
