"""The verb that trains: align."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table as Grid

from earwitness.cli.app import Model, app, fail, pair
from earwitness.terminal import bar, err, out, plain, show


@app.command(
    epilog="Examples:\n\n`earwitness align sft hans-sft --data runs/set -m hans --out runs/cured`\n\n"
    "`earwitness align dpo thud-dpo --data runs/pairs -m qwen2.5-omni:runs/sft/model --out runs/dpo`\n\n"
    "`torchrun --nproc_per_node 8 -m earwitness.cli align sft mma-sft --data runs/set -m qwen2.5-omni:PATH "
    "--out runs/mma`"
)
def align(
    stage: Annotated[Literal["sft", "dpo", "grpo", "ansco"], typer.Argument(help="what kind of training")],
    recipe: Annotated[str, typer.Argument(help="its settings by name (docs/recipes.md)")],
    data: Annotated[Path, typer.Option(help="a training set: the --out of `pairs` or `sft-data`")],
    model: Model,
    out_folder: Annotated[Path, typer.Option("--out", "-o", help="folder; the same command goes on from it")],
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value, repeatable: fields of the recipe, device, dtype, max_pixels ..."),
    ] = None,
    readers: Annotated[
        int | None, typer.Option(help="processes that decode ahead of the learning; 0: none  [default: 1]")
    ] = None,
    shard: Annotated[
        bool, typer.Option("--shard", help="the text model in shards over torchrun's processes (FSDP2): 30B")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the settings and where they come from")] = False,
) -> None:
    """Train a local model on pairs: a published recipe or your own; the result loads as any checkpoint."""
    from earwitness import session

    first = os.environ.get("RANK", "0") == "0"  # of torchrun's processes one speaks
    try:
        settings = dict(pair(s) for s in setting or [])
        made, _ = session.settle(stage, recipe, settings)
        if dry_run:
            out.print(_settings(made))
            return
        with bar("{task.fields[said]}", shown=first) as shown:
            task = shown.add_task("preparing", total=None, said="")

            def progress(step: int, total: int, numbers: dict[str, float]) -> None:
                if total > 0:
                    shown.update(task, description=f"{made.name}", completed=step, total=total)
                keys = [k for k in ("loss", "valid", "reward") if k in numbers]
                if keys:
                    shown.update(task, said="  ".join(f"{k} {numbers[k]:.3f}" for k in keys))

            done = session.align(
                stage, recipe, data, model, out_folder, settings=settings, progress=progress, readers=readers,
                shard=shard,
            )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print(f"\nstopped: the same command goes on from the last checkpoint in {out_folder}", soft_wrap=True)
        raise typer.Exit(130) from None
    if not first:
        return
    if done.best is not None:
        out.print(f"validation: {show(done.before)} before, {show(done.best)} at its best", highlight=False)
    out.print(f"model: {out_folder / 'model'}", highlight=False, soft_wrap=True)
    out.print(f"report: {out_folder / 'report.html'}", highlight=False, soft_wrap=True)


def _settings(recipe: object) -> Grid:
    """A recipe's fields with the source's words for them."""
    grid = Grid("setting", "value", "where it comes from", title=plain(f"{recipe.name}: {recipe.source}"))  # type: ignore[attr-defined]
    for field in recipe.__struct_fields__:  # type: ignore[attr-defined]
        if field in ("name", "source", "quotes", "ours"):
            continue
        said = recipe.quotes.get(field, "")  # type: ignore[attr-defined]
        note = recipe.ours.get(field, "")  # type: ignore[attr-defined]
        why = " / ".join(filter(None, [said, f"ours: {note}" if note else ""]))
        grid.add_row(field, plain(show(getattr(recipe, field))), plain(why))
    return grid
