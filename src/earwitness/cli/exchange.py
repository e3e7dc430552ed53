"""Verbs that meet other tools: serve, rescore, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from earwitness.cli.app import Model, RunFolder, app, fail, pair
from earwitness.terminal import err, out, plain, show_tables

UNTRUE = (
    "answers from what is true of a clip, and no truth travels over HTTP: behind this address its answers show how "
    "requests travel, not how it listens"
)


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
        if loaded.name.startswith("fake:"):
            err.print(f"[yellow]warning:[/] {plain(loaded.name)} {UNTRUE}", highlight=False, soft_wrap=True)
        said = "serving {name}; audit it with -m 'openai:{url}#{name}'; Ctrl-C stops"
        server.run(
            loaded, host, port,
            ready=lambda url: out.print(said.format(name=loaded.name, url=url), highlight=False, soft_wrap=True),
        )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)


@app.command(
    epilog="Examples:\n\n`earwitness rescore output.json --legacy-parser cmm`\n\n"
    "`earwitness rescore logs/x_samples_worldsense.jsonl --questions worldsense:test.parquet`\n\n"
    "`earwitness rescore eval_results.jsonl --out runs/theirs`"
)
def rescore(
    file: Annotated[Path, typer.Argument(help="what another harness wrote: JSON lines, JSON, an inspect_ai log")],
    format: Annotated[str, typer.Option("--format", help="auto, lmms-eval, inspect, jsonl, thud, cmm")] = "auto",
    legacy_parser: Annotated[
        str | None,
        typer.Option(
            help="count as the published code did, beside ours: av-confuse, thud-default-synced, "
            "lmms-eval-default-a, cmm, avcd, mad"
        ),
    ] = None,
    out_folder: Annotated[Path | None, typer.Option("--out", "-o", help="also leave a run folder")] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="its name, where the file does not say")] = "",
    questions: Annotated[
        str | None, typer.Option(help="FORMAT:FILE, where the file holds no truth (docs/question_files.md)")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="the run whose items it answers (an exported task)")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="role=key, e.g. prediction=response; see docs/rescore.md")
    ] = None,
) -> None:
    """Score another harness's answers again, with its failures as failures, and beside its own scorer."""
    from earwitness import rescore as again
    from earwitness.datasets.opening import read_questions

    try:
        asked = []
        if questions is not None:
            name, colon, at = questions.partition(":")
            if not colon:
                raise ValueError(f"--questions {questions}: wants FORMAT:FILE, e.g. worldsense:test.parquet")
            asked = list(read_questions(name, Path(at)).questions)
        found = again.read(
            file, format, keys=dict(pair(s) for s in setting or []), model=model, questions=asked, plan=plan
        )
        made = again.write(found, out_folder, legacy_parser) if out_folder else again.tables(found, legacy_parser)
    except (ValueError, OSError) as error:
        fail(error)
    for note in found.notes:
        err.print(note, highlight=False)
    show_tables(made)


@app.command(
    epilog="Examples:\n\n`earwitness export runs/hans --to parquet --out hans.parquet`\n\n"
    "`earwitness export runs/hans --to lmms-eval --out tasks/listens --media`"
)
def export(
    folder: RunFolder,
    to: Annotated[Literal["inspect", "parquet", "lmms-eval"], typer.Option(help="the form")],
    target: Annotated[Path, typer.Option("--out", "-o", help="*.eval or *.json; *.parquet; a task's folder")],
    media: Annotated[bool, typer.Option("--media", help="also write every clip and condition as a file")] = False,
) -> None:
    """Write a run as an inspect_ai log, a Parquet table, or a task for lmms-eval."""
    from earwitness import export as forms
    from earwitness import run as runs
    from earwitness.datasets.opening import open_clips

    make = {"inspect": forms.to_inspect, "parquet": forms.to_parquet, "lmms-eval": forms.to_lmms_eval}[to]
    try:
        done = make(folder, target)
        missing: dict[str, str] = {}
        if media:
            info = runs.read_info(folder)
            beside = info.settings.get("media")
            clips = open_clips(
                info.clips, limit=info.clip_count or None, seed=info.seed, media=Path(beside) if beside else None
            )
            place = target / "media" if to == "lmms-eval" else folder / "media"
            missing = forms.write_media(folder, clips, place)
    except (ValueError, OSError) as error:
        fail(error)
    out.print(f"{done}", highlight=False, soft_wrap=True)
    for name, why in missing.items():
        err.print(f"not written: {name}: {why}", highlight=False, soft_wrap=True)
