"""The command line: thin verbs, no logic. Exit codes: 0 done, 1 done with too many failed items,
2 bad usage or input, 3 refused by the ear or eye check, 130 stopped by Ctrl-C."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.table import Table as Grid

from earwitness.terminal import bar, err, out, plain, show, show_plan, show_tables

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Find out whether a model that takes video with sound listens, or guesses the sound from the picture.",
)

MORE = "Scale, cost and judges"

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="hans, fake:hears, qwen2.5-omni:PATH, qwen3-omni:PATH, vllm:PATH, openai:URL#MODEL, gemini:MODEL, "
        "module:factory",
    ),
]
Seed = Annotated[int, typer.Option(help="seed of clips, donors and orders")]
Out = Annotated[Path, typer.Option("--out", "-o", help="where to write")]
RunFolder = Annotated[Path, typer.Argument(help="the folder of a run (an audit's --out)")]


def fail(message: object, code: int = 2) -> NoReturn:
    """Say what is wrong on stderr and exit."""
    err.print(f"[bold red]error:[/] {plain(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


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
    workers: Annotated[
        int, typer.Option(help="processes, each with the model (one a GPU)", rich_help_panel=MORE)
    ] = 1,
    executor: Annotated[
        Literal["process", "ray"], typer.Option(help="where workers run", rich_help_panel=MORE)
    ] = "process",
) -> None:
    """Ask a model every protocol's questions on untouched and intervened clips, score, and write the report."""
    from earwitness import session

    given = {"judge": judge, "max_cost": max_cost, "workers": workers, "executor": executor}
    flags = {key: str(value) for key, value in given.items() if value not in (None, 1, "process")}
    try:
        job = session.prepare(
            model=model, clips=clips, protocols=protocol.split(",") if protocol else None, limit=limit, seed=seed,
            settings={**dict(_pair(s) for s in setting or []), **flags}, command=_command(),
        )  # fmt: skip
        show_plan(job.plan, job.skipped)
        if dry_run:
            return
        with bar() as shown:
            task = shown.add_task(f"asking {job.model.name}", total=len(job.items), failed="")

            def progress(done: int, failed: int, total: int) -> None:
                shown.update(task, completed=done, total=total, failed=f"{failed} failed" if failed else "")

            result = session.run(job, out_folder, progress=progress)
    except session.Refused as error:
        fail(error, 3)
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print(f"\nstopped; nothing answered is lost: the same command goes on in {out_folder}")
        raise typer.Exit(130) from None
    for line in result.warnings:
        err.print(f"[yellow]warning:[/] {plain(line)}", highlight=False, soft_wrap=True)
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
        tables = session.score(folder, judge)
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


@app.command(epilog="Example: `earwitness compare runs/before runs/after`")
def compare(run_a: RunFolder, run_b: RunFolder) -> None:
    """Compare two runs on the same items, paired and clustered by clip (before/after, model A/B)."""
    from earwitness.compare import compare_runs

    try:
        tables = compare_runs(run_a, run_b)
    except (ValueError, OSError) as error:
        fail(error)
    show_tables(tables)


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


@app.command(epilog="Example: `earwitness look clip.mp4 --png clip.png`")
def look(
    file: Annotated[Path, typer.Argument(help="a video or sound file")],
    png: Annotated[Path | None, typer.Option(help="also draw frames over the waveform")] = None,
) -> None:
    """Tracks, durations, offsets, loudness and onsets of a file; a strip of frames with the waveform as PNG."""
    from earwitness import media

    try:
        seen = media.strip_png(file, png) if png else media.look.look(file)
    except (ValueError, OSError) as error:
        fail(error)
    out.print(plain(media.describe(seen)), highlight=False, soft_wrap=True)
    if png:
        out.print(f"picture   {png}", highlight=False, soft_wrap=True)


@app.command(
    epilog="Examples:\n\n`earwitness render mute clip.mp4 -o muted.mp4`\n\n"
    "`earwitness render shift clip.mp4 --by 0.4 -o late.mp4`\n\n"
    "`earwitness render swap clip.mp4 donor.mp4 -o swapped.mp4`"
)
def render(
    kind: Annotated[
        str, typer.Argument(help="sham, mute, no-track, shift, swap, drop-stem, background, black, freeze")
    ],
    files: Annotated[list[Path], typer.Argument(help="the clip; for swap also the donor; for drop-stem its stems")],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="file to write (.mp4)")],
    by: Annotated[float, typer.Option(help="shift: seconds; positive = sound late")] = 0.0,
    name: Annotated[str | None, typer.Option(help="background: which; drop-stem: which stem")] = None,
    codec: Annotated[str, typer.Option(help="flac (exact) or aac")] = "flac",
    overwrite: Annotated[bool, typer.Option(help="replace an existing file")] = False,
) -> None:
    """Write an intervened copy of a clip; the picture is copied bit by bit wherever only the sound changes."""
    from earwitness import session

    try:
        done = session.render(kind, files, out_file, by=by, name=name, codec=codec, overwrite=overwrite)
    except (ValueError, OSError) as error:
        fail(error)
    grid = Grid(show_header=False, box=None, pad_edge=False)
    for field in done.__struct_fields__:
        value = getattr(done, field)
        if value is not None and value is not False:
            grid.add_row(f"[dim]{field.replace('_', ' ')}[/]", plain(show(getattr(value, "key", value))))
    out.print(grid)


@app.command("foley", epilog="Example: `earwitness foley --n 12 --out clips/`")
def foley_command(
    folder: Out,
    n: Annotated[int, typer.Option("--n", help="clips")] = 12,
    seed: Seed = 0,
    kind: Annotated[Literal["natural", "impact"], typer.Option(help="what happens")] = "natural",
    sources: Annotated[int, typer.Option(help="things that sound in a scene: 1, 2 or 3")] = 1,
    difficulty: Annotated[Literal["easy", "medium", "hard"], typer.Option(help="how hard to tell")] = "easy",
    duration: Annotated[float | None, typer.Option(help="seconds (4, impacts 6)")] = None,
    sheet: Annotated[Path | None, typer.Option(help="also draw a contact sheet of all classes (PNG)")] = None,
) -> None:
    """Write procedural clips with exact truth: mp4 files, their stems, and a labels file."""
    from earwitness import foley

    try:
        clips = foley.clip_set(n, seed=seed, kind=kind, sources=sources, difficulty=difficulty, duration=duration)
        manifest = foley.write(folder, clips)
        if sheet:
            foley.contact_sheet(sheet)
    except (ValueError, OSError) as error:
        fail(error)
    out.print(f"{manifest}", highlight=False, soft_wrap=True)


@app.command(epilog="Example: `earwitness serve --model hans --port 8000`")
def serve(
    model: Model,
    port: Annotated[int, typer.Option(help="port; 0 takes a free one")] = 8000,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 = the whole network")] = "127.0.0.1",
) -> None:
    """Serve a model at an OpenAI-compatible address: for other tools, and for audits over HTTP."""
    from earwitness import serve as server
    from earwitness.models.load import load_model

    try:
        if warning := server.exposed(host):
            err.print(f"[yellow]warning:[/] {plain(warning)}", highlight=False, soft_wrap=True)
        loaded = load_model(model)
        said = "serving {name}; audit it with -m 'openai:{url}#{name}'; Ctrl-C stops"
        server.run(
            loaded, host, port,
            ready=lambda url: out.print(said.format(name=loaded.name, url=url), highlight=False, soft_wrap=True),
        )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)


@app.command(epilog="Example: `earwitness doctor -m qwen2.5-omni:PATH`")
def doctor(model: Model) -> None:
    """Self-tests of a model as wired here: does sound reach it, does picture reach it, are receipts honest?"""
    from earwitness import session

    try:
        rows = session.doctor(model)
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


def _pair(text: str) -> tuple[str, str]:
    key, sep, value = text.partition("=")
    if not sep:
        raise ValueError(f"--set {text}: expected key=value (did you forget the equals sign?)")
    return key.strip(), value.strip()


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


def main() -> None:
    """Entry point."""
    app()
