"""How the command line shows things: plans, tables, progress."""

from __future__ import annotations

import os
from collections.abc import Iterable

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as Grid

from earwitness.records import Estimate, Table

WIDE = 400  # columns where the output is no terminal: nothing is cut off for a file or a pipe


def _console() -> Console:
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDE
    return console


out = _console()
err = Console(stderr=True)
COUNTS = {"unparsed", "refused", "failed"}  # columns of what could not be scored


def show_plan(plan: object, skipped: Iterable[str]) -> None:
    """Print what an audit will do."""
    grid = Grid(show_header=False, box=None, pad_edge=False)
    for name in plan.__struct_fields__:  # type: ignore[attr-defined]
        value = getattr(plan, name)
        if name == "by_condition":
            value = "  ".join(f"{k} {v}" for k, v in value.items())
        if value is not None:
            grid.add_row(f"[dim]{name.replace('_', ' ')}[/]", plain(show(value)))
    out.print(grid)
    for line in skipped:
        out.print(f"[yellow]left out:[/] {plain(line)}", highlight=False)


def show_tables(tables: Iterable[Table]) -> None:
    """Print tables with their intervals; columns of counts that are all nought are said below, not drawn."""
    for table in tables:
        kept, empty = _columns(table)
        grid = Grid(title=f"[bold]{plain(table.title)}[/]", title_justify="left", box=SIMPLE, pad_edge=False)
        grid.add_column("", min_width=20, overflow="fold")
        for n in kept:
            grid.add_column(table.columns[n], justify="right", vertical="middle")
        for row in table.rows:
            style = "dim" if row.kind != "model" else ""
            grid.add_row(plain(row.label), *(_cell(row.cells[n], table.unit) for n in kept), style=style)
        out.print(grid)
        note = f" (None: {', '.join(empty)}.)" if empty else ""
        out.print(f"[dim]{plain(table.caption + note)}[/]\n", highlight=False)


def _columns(table: Table) -> tuple[list[int], list[str]]:
    """Indices of the columns worth drawing, and the names of those counts that are nought in every row."""
    zero = [n for n, name in enumerate(table.columns) if name in COUNTS and not any(r.cells[n] for r in table.rows)]
    settled = len(zero) == len(COUNTS.intersection(table.columns))  # nothing unscored: the bounds say nothing new
    bounds = {n for n, name in enumerate(table.columns) if name in ("lowest", "highest") and settled}
    kept = [n for n in range(len(table.columns)) if n not in bounds and n not in zero]
    return kept, [table.columns[n] for n in zero]


def _cell(cell: object, unit: str) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, Estimate):
        return f"{cell.value:.2f}\n[dim]\\[{cell.low:.2f}, {cell.high:.2f}][/]"
    if isinstance(cell, float):
        return f"{cell:.2f}" if unit in ("share", "mixed") else f"{cell:.3g}"
    return plain(cell)


def show(value: object) -> str:
    """A value in a few characters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(show(v) for v in value)
    return str(value)


def bar(said: str = "[red]{task.fields[failed]}", *, shown: bool = True) -> Progress:
    """A progress bar; ``said`` is what stands behind it: a count of failures, unless said otherwise."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), TextColumn(said), console=err, disable=not shown,
    )  # fmt: skip


def plain(text: object) -> str:
    """Text as it is: no markup is read from it."""
    return escape(str(text))
