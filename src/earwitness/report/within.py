"""What a run folder holds of the model's inside: tables and charts of its trace and of the paths that were cut.

Made from RUN/trace, RUN/knockout.jsonl and RUN/patching.jsonl, without the model; nothing where there are none.

Functions: :func:`within`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from earwitness import run as runs
from earwitness.records import Table
from earwitness.report import inside as pictures
from earwitness.report.charts import Chart
from earwitness.whitebox import cut_tables, knockout, tables, twins
from earwitness.whitebox.joined import Inside, load


class Within(NamedTuple):
    """What is to be shown, and what of the trace could not be used."""

    tables: list[Table]
    charts: list[Chart]
    left: tuple[str, ...]


def within(folder: Path) -> Within:
    """Tables and charts of what was measured inside the model; all empty where nothing was.

    Raises RunError where a trace is there and belongs to another run.
    """
    inside: Inside | None = load(folder) if (folder / "trace").is_dir() else None
    items = runs.read_items(folder)
    cuts, patched = knockout.read(folder), twins.read(folder)
    made: list[Table] = []
    if inside is not None and cuts and (both := cut_tables.beside(inside, cuts)) is not None:
        made.append(both)
    if cuts:
        made += cut_tables.tables(cuts, items)
    if patched:
        made += twins.tables(patched, items)
    if inside is not None:
        made += tables.tables(inside)
    charts = pictures.charts(inside) if inside is not None else []
    return Within(made, charts, inside.left_out if inside is not None else ())
