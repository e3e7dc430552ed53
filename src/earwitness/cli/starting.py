"""The verb that makes a starter set: curate starter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from earwitness.cli.app import Out, Seed, fail
from earwitness.cli.auditing import _command
from earwitness.cli.building import curate
from earwitness.records import how_many
from earwitness.terminal import bar, err, out, plain


@curate.command(
    epilog="Examples:\n\n`earwitness curate starter --out starter/`; "
    "`earwitness audit -m cascade:0.5 --clips starter/ --out runs/half`\n\n"
    "`earwitness curate starter --more --out more/` (fetches packages by name: apt-get, pip)"
)
def starter(
    folder: Out,
    more: Annotated[
        bool, typer.Option("--more", help="also pairs out of packages, under GPL and CC licences")
    ] = False,
    seed: Seed = 0,
    clips: Annotated[int, typer.Option(min=1, help="clips of each photo and recording")] = 4,
    packages: Annotated[
        Path | None, typer.Option(help="where packages lie, or are brought; default: OUT/packages")
    ] = None,
    witnesses: Annotated[
        bool, typer.Option("--witnesses/--no-witnesses", help="ask tagger and classifier of each pair")
    ] = True,
) -> None:
    """Make photo-and-sound clips of real animals and instruments from freely licensed material, offline."""
    from earwitness.curate.starter import at_hand, build

    try:
        pair = at_hand() if witnesses else None
        with bar() as shown:
            task = shown.add_task("rendering", total=None, failed="")
            built = build(
                folder, more=more, seed=seed, per_source=clips, packages=packages, witnesses=pair,
                command=_command(),
                told=lambda name: shown.update(task, description=f"fetching {name}"),
                progress=lambda n, total: shown.update(task, description="rendering", completed=n, total=total),
            )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print(f"\nstopped; what is rendered is kept: the same command goes on in {folder}")
        raise typer.Exit(130) from None
    for line in built.notes:
        err.print(f"[yellow]note:[/] {plain(line)}", highlight=False, soft_wrap=True)
    kinds = len({n for c in built.clips for n in c.seen})
    out.print(
        f"{how_many(len(built.clips), 'clip')} of {how_many(len(built.sources), 'pair')}, "
        f"{how_many(kinds, 'class', 'classes')}; {len(built.left_out)} left out "
        f"(left_out.csv); credits: {folder / 'CREDITS.md'}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    out.print(f"{folder / 'labels.jsonl'}", highlight=False, soft_wrap=True)
