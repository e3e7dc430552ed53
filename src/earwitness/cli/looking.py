"""Verbs that look inside a local model: trace, knockout."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from earwitness.cli.app import RunFolder, app, fail
from earwitness.records import how_many
from earwitness.terminal import bar, err, out, plain, show_tables

Copy = Annotated[
    str | None, typer.Option("--model", "-m", help="a local copy of the run's model; default: the run's own")
]
Conditions = Annotated[str, typer.Option("--condition", help="only these, by comma: aligned,audio_swapped")]
Limit = Annotated[int, typer.Option(help="clips at most, the same ones on every call")]
Layers = Annotated[str, typer.Option("--layers", help="all, 0-3,4-7 (windows), or 'by 4'")]


@app.command(
    epilog="Examples:\n\n`earwitness trace runs/hans`\n\n"
    "`earwitness trace runs/served -m qwen2.5-omni:/models/q7 --values --heat 17,22`"
)
def trace(
    folder: RunFolder,
    model: Copy = None,
    limit: Limit = 100,
    condition: Conditions = "",
    values: Annotated[bool, typer.Option("--values", help="also what each group of tokens carries")] = False,
    heat: Annotated[str, typer.Option(help="layers to keep whole for heat maps, by comma: 17,22")] = "",
) -> None:
    """Where does attention go, layer by layer, while the model gives the answers it gave? Adds to the report."""
    from earwitness import session

    try:
        with _shown("looking into") as progress:
            found = session.trace(
                folder, model, limit=limit, conditions=_listed(condition), values=values,
                heat_layers=_numbers(heat), progress=progress,
            )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print("\nstopped; what is traced is kept: the same command goes on")
        raise typer.Exit(130) from None
    out.print(f"{how_many(found.items, 'item')} traced, {found.new} of them now", highlight=False)
    if found.drift is not None:
        out.print(f"replayed answers are as likely as when they were given: {found.drift:.2g} nats a token apart")
    if found.far:
        err.print(
            f"[yellow]warning:[/] {found.far} of {how_many(found.new, 'answer')} are not what this copy would say "
            "with that "
            "probability: other weights, other media, or a quantised server. Do not trust what is inside.",
            highlight=False,
        )
    for item, why in list(found.failed.items())[:5]:
        err.print(f"[yellow]not traced:[/] {item}: {plain(why)}", highlight=False, soft_wrap=True)
    if found.failed:
        err.print(f"{how_many(len(found.failed), 'item')} could not be traced", highlight=False)
    out.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


@app.command(
    epilog="Examples:\n\n`earwitness knockout runs/hans --edge audio->answer --edge video->answer`\n\n"
    "`earwitness knockout runs/q7 --edge 'audio<->video' --layers 'by 4' --condition audio_swapped --limit 50`"
)
def knockout(
    folder: RunFolder,
    edge: Annotated[
        list[str],
        typer.Option(help="audio->answer, video->answer, 'audio<->video' ...; repeatable; see docs/knockout.md"),
    ],
    layers: Layers = "all",
    model: Copy = None,
    controls: Annotated[int, typer.Option(help="random cuts of the same size beside each")] = 3,
    limit: Limit = 50,
    condition: Conditions = "",
    weight: Annotated[float, typer.Option(help="0 cuts the path; another number weighs it by that")] = 0.0,
    head: Annotated[str, typer.Option(help="only these heads of each layer, by comma")] = "",
) -> None:
    """What happens to the answer when a path inside the model is cut? Adds to the report."""
    from earwitness import session

    try:
        with _shown("cutting in") as progress:
            tables = session.knockout(
                folder, model, edges=edge, layers=layers, controls=controls, limit=limit,
                conditions=_listed(condition), weight=weight, heads=_numbers(head), progress=progress,
            )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print("\nstopped; what was measured is kept: the same command goes on")
        raise typer.Exit(130) from None
    show_tables(tables)
    out.print(f"report: {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[int]:
    if not all(part.isdigit() for part in _listed(text)):
        raise ValueError(f"{text}: wants numbers by comma, e.g. 17,22")
    return [int(part) for part in _listed(text)]


@contextmanager
def _shown(what: str) -> Iterator[Callable[[int, int], None]]:
    with bar() as shown:
        task = shown.add_task(what, total=None, failed="")
        yield lambda done, total: shown.update(task, completed=done, total=total)
