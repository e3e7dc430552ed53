"""Verbs on runs: audit, score, report, compare, power, doctor."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table as Grid

from earwitness.cli.app import Model, RunFolder, Seed, app, fail, pair
from earwitness.terminal import bar, err, out, plain, show, show_plan, show_tables

MORE = "Scale, cost, judges, the inside"


@app.command(
    epilog="Examples:\n\n`earwitness audit -m hans --out runs/hans`\n\n"
    "`earwitness audit -m qwen2.5-omni:Qwen/Qwen2.5-Omni-7B --clips my_clips/ --out runs/q7 --dry-run`\n\n"
    "`earwitness audit -m fake:sees --protocol mma --limit 12 --set mma_styles=standard --out runs/f`"
)
def audit(
    model: Model,
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="run folder; the same command resumes it")],
    clips: Annotated[
        str, typer.Option(help="foley, a folder with a labels file, or FORMAT:FILE (docs/question_files.md)")
    ] = "foley",
    protocol: Annotated[
        str | None,
        typer.Option(help="mma, thud, av-confuse (default: all three), benchmark (default for question files)"),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="clips at most (foley: 72 unless given)")] = None,
    seed: Seed = 0,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, repeatable; keys: see docs/settings.md")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    judge: Annotated[
        str | None, typer.Option(help="a model that judges free answers: openai:URL#MODEL", rich_help_panel=MORE)
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(help="served models: dollars at most; needs price_in, price_out", rich_help_panel=MORE),
    ] = None,
    trace: Annotated[
        bool, typer.Option("--trace", help="then look inside, as `trace` does (local models)", rich_help_panel=MORE)
    ] = False,
    workers: Annotated[
        int,
        typer.Option(min=1, help="processes with a model each, one a GPU (docs/scale.md)", rich_help_panel=MORE),
    ] = 1,
    executor: Annotated[
        Literal["process", "ray"],
        typer.Option(help="process, or ray: RAY_ADDRESS names the cluster", rich_help_panel=MORE),
    ] = "process",
) -> None:
    """Ask a model every protocol's questions on untouched and intervened clips, score, and write the report."""
    from earwitness import session
    from earwitness.whitebox import opened

    given = {"judge": judge, "max_cost": max_cost, "workers": workers, "executor": executor}
    flags = {key: str(value) for key, value in given.items() if value not in (None, 1, "process")}
    try:
        job = session.prepare(
            model=model, clips=clips, protocols=protocol.split(",") if protocol else None, limit=limit, seed=seed,
            settings={**dict(pair(s) for s in setting or []), **flags}, command=_command(),
        )  # fmt: skip
        show_plan(job.plan, job.skipped)
        if dry_run:
            return
        if trace:
            opened.local(job.model)
        with bar() as shown:
            task = shown.add_task(f"asking {job.model.name}", total=len(job.items), failed="")

            def progress(done: int, failed: int, total: int) -> None:
                shown.update(task, completed=done, total=total, failed=f"{failed} failed" if failed else "")

            result = session.run(job, out_folder, progress=progress)
        if trace:
            err.print("looking inside", highlight=False)
            session.trace(out_folder)
    except session.Refused as error:
        fail(error, 3)
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print(f"\nstopped; nothing answered is lost: the same command goes on in {out_folder}")
        raise typer.Exit(130) from None
    for line in result.warnings:
        _warn(line)
    _closing(out_folder, result.headline, result.failed_share, result.allowed)


@app.command(
    epilog="Examples:\n\n`earwitness score runs/hans`\n\n"
    "`earwitness score runs/hans --judge openai:http://localhost:8000/v1#Qwen/Qwen3-30B`"
)
def score(
    folder: RunFolder,
    judge: Annotated[str | None, typer.Option(help="a model that reads free answers too: openai:URL#MODEL")] = None,
) -> None:
    """Score a run's answers again, without the model, and make its tables."""
    from earwitness import session

    try:
        tables = session.score(folder, judge, warn=_warn)
    except (ValueError, OSError) as error:
        fail(error)
    show_tables(tables)


@app.command(epilog="Example: `earwitness report runs/hans --embed`")
def report(
    folder: RunFolder,
    embed: Annotated[bool, typer.Option(help="put the clips into the page: one file to send")] = False,
) -> None:
    """Write the report of a run: one page that opens from the disk."""
    from earwitness import session

    try:
        page = session.report(folder, embed=embed)
    except (ValueError, OSError) as error:
        fail(error)
    out.print(f"{page}", highlight=False, soft_wrap=True)


@app.command(
    epilog="Examples:\n\n`earwitness compare runs/before runs/after`\n\n"
    "`earwitness compare runs/before runs/after --out runs/repair`\n\n"
    "`earwitness compare runs/hans runs/mma runs/thud runs/ours --out runs/table`"
)
def compare(
    run_a: RunFolder,
    run_b: RunFolder,
    more: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN...]", help="further runs: then the scorecard of all of them"),
    ] = None,
    out_folder: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="folder for a page of both, not all tables here; of more: a table"),
    ] = None,
    embed: Annotated[bool, typer.Option(help="put the clips into the page: one file to send")] = False,
) -> None:
    """Compare two runs on the same items, paired and clustered by clip (before/after, A/B); or line up more."""
    from earwitness import run as runs
    from earwitness import scorecard
    from earwitness.compare import compare_runs, names_of
    from earwitness.report import card
    from earwitness.report.changed import write_changes
    from earwitness.session.comparing import compare as write_page

    if embed and (out_folder is None or more):
        fail("--embed is of the page of two runs: with --out")
    if more:
        _line_up([run_a, run_b, *more], out_folder)
        return
    try:
        names = names_of(run_a, run_b)
        if names[0] == names[1]:
            if out_folder is not None:
                raise ValueError(f"{run_a} and {run_b} are one run: a page needs two")
            names = (f"{names[0]} (A)", f"{names[1]} (B)")
        both = card.shared(runs.judged(run_a), runs.judged(run_b))
        marks = scorecard.table(dict(zip(names, both, strict=True)))
        if out_folder is not None:
            page = write_page(run_a, run_b, out_folder, embed=embed)
        else:
            tables, drawn = compare_runs(run_a, run_b), write_changes(run_a, run_b)
    except (ValueError, OSError) as error:
        fail(error)
    show_tables([marks] if marks.rows else [])
    if out_folder is not None:
        out.print(f"From {plain(names[0])} to {plain(names[1])}: {card.said(card.lines(marks))}", highlight=False)
        out.print(f"report: {page}", highlight=False, soft_wrap=True)
        return
    show_tables(tables)
    if drawn is not None:
        out.print(f"charts: {drawn}", highlight=False, soft_wrap=True)


def _line_up(folders: list[Path], out_folder: Path | None) -> None:
    from earwitness.session.comparing import line_up

    try:
        marks, written = line_up(folders, out_folder)
    except (ValueError, OSError) as error:
        fail(error)
    show_tables([marks])
    if written is not None:
        out.print(f"table: {written}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: `earwitness power --gap 0.1`")
def power(
    gap: Annotated[
        float, typer.Option(help="difference of two shares that you want to see, 0.1 = ten points")
    ] = 0.1,
    base: Annotated[float, typer.Option(help="share in the untouched condition")] = 0.8,
) -> None:
    """How many clips a given gap needs."""
    from earwitness import stats

    try:
        show_tables([stats.power_table(gap, base=base)])
    except ValueError as error:
        fail(error)


@app.command(epilog="Example: `earwitness doctor -m qwen2.5-omni:PATH --set device=cuda:1`")
def doctor(
    model: Model,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, repeatable: the model's options, as in an audit")
    ] = None,
) -> None:
    """Self-tests of a model as wired here: does sound reach it, does picture reach it, are receipts honest?"""
    from earwitness import session

    try:
        rows = session.doctor(model, dict(pair(s) for s in setting or []))
    except session.Refused as error:
        fail(error, 3)
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    grid = Grid("asked about", "fed with", "answer", "receipt")
    for row in rows:
        fed = row["fed"]
        receipt = (
            ", ".join(f"{k} {show(v)}" for k, v in fed.items() if v is not None) if isinstance(fed, dict) else "-"
        )
        grid.add_row(str(row["organ"]), str(row["condition"]), plain(row["text"] or row["error"]), plain(receipt))
    out.print(grid)
    out.print("[green]sound and picture reach the model[/]")


def _warn(line: str) -> None:
    err.print(f"[yellow]warning:[/] {plain(line)}", highlight=False, soft_wrap=True)


def _closing(folder: Path, headline: str, failed: float, allowed: float) -> None:
    out.print(f"\n[bold]{plain(headline)}[/]", highlight=False)
    out.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    if failed > allowed:
        fail(
            f"{failed:.1%} of the items failed (allowed: {allowed:.1%}); the report counts and bounds them. "
            "See answers.jsonl, or retry them with --set retry_failed=true",
            1,
        )


def _command() -> str:
    """The command as typed, without a password that may stand in an address."""
    return re.sub(r"//[^/@\s']+@", "//", shlex.join(["earwitness", *sys.argv[1:]]))
