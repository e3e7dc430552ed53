"""Verbs on data: lint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.box import SIMPLE
from rich.table import Table as Grid

from earwitness.cli.app import app, fail
from earwitness.records import how_many
from earwitness.terminal import out, plain

if TYPE_CHECKING:
    from earwitness.curate.lint import Report

COLOURS = {"fails": "bold red", "warns": "yellow", "fine": "green", "not applicable": "dim"}


@app.command(
    epilog="Examples:\n\n`earwitness lint dpo.json`\n\n`earwitness lint sets/mix --against avhbench:QA.json`\n\n"
    "`earwitness lint my_clips/ --json`"
)
def lint(
    file: Annotated[
        str,
        typer.Argument(help="training rows (LLaMA-Factory, ms-swift), a training set, FORMAT:FILE, labelled clips"),
    ],
    against: Annotated[str | None, typer.Option(help="a second set: which clips stand in both?")] = None,
    media: Annotated[Path | None, typer.Option(help="folder below which the media are")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> None:
    """Check a data set for ways of being right without listening. Exit code 1 where a check fails."""
    from earwitness.curate.lint import lint as check

    try:
        report = check(file, against=against, media=media)
    except (ValueError, OSError) as error:
        fail(error)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=1))
    else:
        _show(report)
    raise typer.Exit(int(report.failed))


def _show(report: Report) -> None:
    of = f"{how_many(report.rows, 'row')}, {how_many(report.sources, 'source clip')}"
    grid = Grid(
        title=f"[bold]{plain(report.name)}[/]: {report.form}, {of}",
        title_justify="left",
        box=SIMPLE,
        pad_edge=False,
    )
    grid.add_column("check")
    grid.add_column("verdict")
    grid.add_column("found", justify="right")
    grid.add_column("of", justify="right")
    grid.add_column("example", overflow="fold")
    grid.add_column("what was found", overflow="fold")
    order = list(COLOURS)
    for f in sorted(report.findings, key=lambda f: order.index(f.verdict)):
        counts = ("–", "–") if f.verdict == "not applicable" else (f"{f.found:,}", f"{f.total:,}")
        verdict = f"[{COLOURS[f.verdict]}]{f.verdict}[/]"
        grid.add_row(f.check, verdict, *counts, plain(f.example), plain(f.says))
    out.print(grid)
    for note in report.notes:
        out.print(f"[dim]{plain(note)}[/]", highlight=False, soft_wrap=True)
    for f in report.findings:
        if f.verdict in ("fails", "warns"):
            out.print(f"[{COLOURS[f.verdict]}]{f.check}[/]: {plain(f.why)}", highlight=False, soft_wrap=True)
