"""The verb for people: review."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from earwitness.cli.app import app, fail
from earwitness.records import how_many
from earwitness.terminal import err, out, plain, show_tables


@app.command(
    epilog="Examples:\n\n`earwitness review candidates/`\n\n"
    "`earwitness review candidates/ --export passed/`; `earwitness audit -m hans --clips passed/ --out runs/h`\n\n"
    "`earwitness review candidates/ --export tasks/ --to label-studio`"
)
def review(
    manifest: Annotated[
        Path, typer.Argument(help="a folder with a labels file, a labels file, or a queue (JSONL)")
    ],
    votes: Annotated[
        Path | None, typer.Option(help="folder of the votes; default: review/ beside the manifest")
    ] = None,
    need: Annotated[int, typer.Option("--annotators", min=1, help="who must judge a clip before it can pass")] = 2,
    export: Annotated[
        Path | None, typer.Option(help="do not serve: write what passed, and what not and why, into this folder")
    ] = None,
    to: Annotated[
        Literal["labels", "label-studio", "label-studio-votes"],
        typer.Option(help="form of --export: labels for an audit, tasks for Label Studio (-votes: with the votes)"),
    ] = "labels",
    taken: Annotated[
        Path | None, typer.Option("--import", help="do not serve: take a Label Studio JSON export as votes")
    ] = None,
    prefix: Annotated[
        str | None, typer.Option("--media-prefix", help="before each path in Label Studio tasks: https://HOST/")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="of each annotator's order (0); kept from the first start on")
    ] = None,
    port: Annotated[int, typer.Option(help="port; 0 takes a free one")] = 8010,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 = the whole network")] = "127.0.0.1",
) -> None:
    """Let people judge clips in a browser, blind to each other, and keep what all of them pass."""
    from earwitness.curate import review as people

    try:
        if export is not None and taken is not None:
            raise ValueError("--export and --import: one at a time")
        if taken is not None:
            added, notes = people.import_label_studio(manifest, taken, votes)
            for name, (new, known, older) in added.items():
                kept = " (the newer one of the same person counts)" if older else ""
                out.print(
                    f"{plain(name)}: {how_many(new, 'new vote')}, {known} known, {older} older{kept}",
                    highlight=False,
                )
            for note in notes:
                err.print(f"not taken: {plain(note)}", highlight=False, soft_wrap=True)
        elif export is not None and to == "labels":
            _, made = people.export(manifest, export, votes, need=need)
            show_tables(made)
            out.print(f"{export}", highlight=False, soft_wrap=True)
        elif export is not None:
            count = people.label_studio(manifest, export, votes, prefix=prefix, votes=to == "label-studio-votes")
            out.print(f"{how_many(count, 'task')}, and config.xml: {export}", highlight=False, soft_wrap=True)
        else:
            _serve(manifest, votes, seed, host, port, need)
    except (ValueError, OSError) as error:
        fail(error)


def _serve(manifest: Path, votes: Path | None, seed: int | None, host: str, port: int, need: int) -> None:
    from earwitness.curate import review as people

    if warning := people.exposed(host):
        err.print(f"[yellow]warning:[/] {plain(warning)}", highlight=False, soft_wrap=True)
    with people.opened(manifest, votes, seed=seed) as desk:

        def ready(url: str) -> None:
            out.print(
                f"{how_many(len(desk.queue.cases), 'clip')} to judge at {url}; Ctrl-C stops",
                highlight=False, soft_wrap=True,
            )  # fmt: skip
            for name, done, link in people.annotators(desk, url):
                out.print(f"{plain(name)} goes on ({done:,} judged): {link}", highlight=False, soft_wrap=True)

        people.serve(desk, host, port, ready=ready)
        home = desk.votes.folder
    show_tables(people.agreement(manifest, home, need=need))
