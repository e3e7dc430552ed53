"""Verbs that build benchmarks: curate ontology, curate twins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from earwitness.cli.app import Out, Seed, app, fail, pair
from earwitness.cli.auditing import _command
from earwitness.terminal import bar, err, out, plain, show_tables

curate = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Build a benchmark or a training set whose truth is known: from labels to clips, twins and a manifest.",
    epilog="Examples:\n\n`earwitness curate ontology ontology.json --segments eval_segments.csv --out mma/`\n\n"
    "`earwitness curate twins mma/ --out twins/`",
)
app.add_typer(curate, name="curate")

Settings = Annotated[
    list[str] | None, typer.Option("--set", help="key=value, repeatable; keys: see the page of this verb in docs/")
]


@curate.command(
    epilog="Examples:\n\n"
    "`earwitness curate ontology ontology.json --segments eval_segments.csv --readings --out mma/`\n\n"
    "`earwitness curate ontology ontology.json --labels vggsounder.csv --media videos/ --out vgg/`"
)
def ontology(
    graph: Annotated[Path, typer.Argument(metavar="ONTOLOGY", help="AudioSet's ontology.json, where you have it")],
    folder: Out,
    segments: Annotated[Path | None, typer.Option(help="AudioSet's segments CSV")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="VGGSound, VGGSounder, a labels file, or names, one a line")
    ] = None,
    label_map: Annotated[
        Path | None, typer.Option("--map", help="your decisions on unknown labels: a CSV label,name")
    ] = None,
    hand: Annotated[Path | None, typer.Option(help="other decisions by hand than ours (mma-1)")] = None,
    media: Annotated[
        Path | None, typer.Option(help="the videos' folder: labels.jsonl has those that are there")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--readings", help="also count under other readings of the paper")
    ] = False,
    setting: Settings = None,
) -> None:
    """Prune AudioSet's ontology to classes that are seen and heard, and choose samples with one of them."""
    from earwitness.curate import funnel
    from earwitness.curate.classes import DECISIONS
    from earwitness.report import dataset

    try:
        found = funnel.select(
            graph, folder, segments=segments, labels=labels, label_map=label_map, hand=hand or DECISIONS,
            media=media, wanted=funnel.choices(dict(pair(s) for s in setting or [])), compare=compare,
            command=_command(),
        )  # fmt: skip
        if folder / "labels.jsonl" in found.files and media is not None:
            # Lengths and loudness are for `curate card`: to decode all of them takes its time.
            found.files.append(dataset.build(folder, measure=False))
    except (ValueError, OSError) as error:
        fail(error)
    show_tables(found.tables)
    for note in found.notes:
        err.print(f"[yellow]note:[/] {plain(note)}", highlight=False, soft_wrap=True)
    for file in found.files:
        out.print(f"{file}", highlight=False, soft_wrap=True)


@curate.command(
    epilog="Examples:\n\n`earwitness curate twins my_clips/ --out twins/`\n\n"
    "`earwitness curate twins foley --make swap,shift,muted --render --out sets/all`\n\n"
    "`earwitness curate twins audioset/ --for train --set hold_out=0.5 --render --workers 8 --out sets/train`"
)
def twins(
    manifest: Annotated[
        str, typer.Argument(metavar="MANIFEST", help="aligned clips: a folder with a labels file, or foley")
    ],
    folder: Out,
    purpose: Annotated[
        str, typer.Option("--for", help="eval: one twin a clip; train: ten, 504 x 504, 10 s")
    ] = "eval",
    make: Annotated[
        str, typer.Option(help="swap, shift, modified (sound replaced), muted (scenes), by comma")
    ] = "swap",
    render: Annotated[bool, typer.Option("--render", help="write all of it as files, each measured")] = False,
    seed: Seed = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="clips at most")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
    executor: Annotated[
        Literal["process", "ray"], typer.Option(help="process, or ray: RAY_ADDRESS names the cluster")
    ] = "process",
    setting: Settings = None,
) -> None:
    """Pair aligned clips with other clips' sounds, balanced and loudness-matched; the same command goes on."""
    from earwitness.curate import building, reporting
    from earwitness.curate.manifest import wish
    from earwitness.report import dataset

    try:
        wanted = wish(purpose, [k.strip() for k in make.split(",")], seed, dict(pair(s) for s in setting or []))
        with bar() as shown:

            def stage(name: str) -> Callable[[int, int, int], None]:
                task = shown.add_task(name, total=None, failed="")
                return lambda done, failed, total: shown.update(
                    task, completed=done, total=total, failed=f"{failed} failed" if failed else ""
                )

            built = building.build(
                manifest, folder, wanted, render=render, limit=limit, workers=workers, executor=executor,
                stage=stage, command=_command(),
            )  # fmt: skip
            page = dataset.build(folder, workers=workers, executor=executor, stage=stage)
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print(f"\nstopped; what is done is kept: the same command goes on in {folder}")
        raise typer.Exit(130) from None
    show_tables(reporting.tables(built))
    for line in reporting.lines(built):
        err.print(f"[yellow]note:[/] {plain(line)}", highlight=False, soft_wrap=True)
    out.print(f"{folder / 'labels.jsonl'}", highlight=False, soft_wrap=True)
    out.print(f"card: {page}", highlight=False, soft_wrap=True)
    if built.failed:
        fail(f"{len(built.failed)} could not be written: see left_out.csv and the notes", 1)
