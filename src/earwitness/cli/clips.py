"""Verbs on clips: look, render, foley."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table as Grid

from earwitness.cli.app import Out, Seed, app, fail
from earwitness.terminal import out, plain, show


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
    "`earwitness render shift clip.mp4 --by 0.4 --fill room -o late.mp4`\n\n"
    "`earwitness render swap clip.mp4 donor.mp4 -o swapped.mp4`"
)
def render(
    kind: Annotated[
        str, typer.Argument(help="sham, mute, no-track, shift, hush, swap, drop-stem, background, black, freeze")
    ],
    files: Annotated[list[Path], typer.Argument(help="the clip; for swap also the donor; for drop-stem its stems")],
    out_file: Annotated[Path, typer.Option("--out", "-o", help="file to write (.mp4)")],
    by: Annotated[
        float, typer.Option(help="shift: seconds, positive = sound late; hush: so much of the beginning (end: < 0)")
    ] = 0.0,
    fill: Annotated[
        Literal["silence", "room"], typer.Option(help="mute, shift, hush: zeros, or the clip's room tone")
    ] = "silence",
    unseen: Annotated[bool, typer.Option(help="shift: the picture black as well")] = False,
    name: Annotated[str | None, typer.Option(help="background: which; drop-stem: which stem")] = None,
    codec: Annotated[str, typer.Option(help="flac (exact) or aac")] = "flac",
    overwrite: Annotated[bool, typer.Option(help="replace an existing file")] = False,
) -> None:
    """Write an intervened copy of a clip; the picture is copied bit by bit wherever only the sound changes."""
    from earwitness import session

    try:
        done = session.render(
            kind, files, out_file, by=by, name=name, fill=fill, unseen=unseen, codec=codec, overwrite=overwrite
        )
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
    n: Annotated[int, typer.Option("--n", min=1, help="clips")] = 12,
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
