"""Verbs that make what a model is trained on: pairs, sft-data, references."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from earwitness.cli.app import RunFolder, app, fail, pair
from earwitness.cli.auditing import _command
from earwitness.records import how_many
from earwitness.terminal import bar, out, plain, show_tables

SetFolder = Annotated[Path, typer.Option("--out", "-o", help="folder of the training set")]
Mix = Annotated[
    str,
    typer.Option(help="mma, thud-sft, thud-dpo, thud-dpo-all, rl-comm, ours; or parts with ratios: ctp=2,mute=1"),
]
Count = Annotated[int | None, typer.Option("--n", help="pairs in all (default: what the mixture says)")]
Valid = Annotated[float, typer.Option(help="share of the source clips kept for validation")]
Against = Annotated[
    list[Path] | None,
    typer.Option(help="a run that will test the model: sharing a clip with it is refused; repeatable"),
]
Descriptions = Annotated[
    Path | None, typer.Option(help="timed descriptions of the clips (JSONL), for general rows: docs/pairs.md")
]
Setting = Annotated[list[str] | None, typer.Option("--set", help="key=value, repeatable; keys: see docs/pairs.md")]


@app.command(
    "pairs",
    epilog="Examples:\n\n"
    "`earwitness pairs runs/train --mixture thud-dpo --n 2000 --against runs/test -o sets/dpo`\n\n"
    "`earwitness pairs runs/train --mixture ours --against runs/test --out sets/ours`",
)
def pairs_command(
    folder: RunFolder,
    out_folder: SetFolder,
    mixture: Mix = "ours",
    n: Count = None,
    seed: Annotated[int, typer.Option(help="seed of all draws")] = 0,
    valid: Valid = 0.1,
    against: Against = None,
    descriptions: Descriptions = None,
    setting: Setting = None,
) -> None:
    """Make training pairs from a run on training clips: its clips, and what the model got wrong."""
    from earwitness.session import training_data

    try:
        with _shown() as progress:
            made = training_data.from_run(
                folder, out_folder, mixture=mixture, n=n, seed=seed, valid=valid, against=against or [],
                descriptions=descriptions, settings=dict(pair(s) for s in setting or []), command=_command(),
                progress=progress,
            )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    _closing(made, out_folder)


@app.command(
    "sft-data",
    epilog="Examples:\n\n`earwitness sft-data foley --limit 300 --seed 7 --against runs/hans --out sets/mma`\n\n"
    "`earwitness sft-data my_clips/ --mixture ours --n 5000 --against runs/test --out sets/ours`",
)
def sft_data(
    clips: Annotated[str, typer.Argument(help="foley, a folder with a labels file, or FORMAT:FILE")],
    out_folder: SetFolder,
    mixture: Mix = "mma",
    limit: Annotated[int | None, typer.Option(help="clips at most (foley: 72 unless given)")] = None,
    n: Count = None,
    seed: Annotated[int, typer.Option(help="seed of clips and draws; foley: not your audits' (theirs is 0)")] = 1,
    valid: Valid = 0.1,
    against: Against = None,
    descriptions: Descriptions = None,
    setting: Setting = None,
) -> None:
    """Make training pairs from clips, with no run: which modality was asked for, what is heard, and when."""
    from earwitness.session import training_data

    try:
        with _shown() as progress:
            made = training_data.from_clips(
                clips, out_folder, mixture=mixture, limit=limit, n=n, seed=seed, valid=valid, against=against or [],
                descriptions=descriptions, settings=dict(pair(s) for s in setting or []), command=_command(),
                progress=progress,
            )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    _closing(made, out_folder)


@app.command(
    epilog="Examples:\n\n`earwitness references sets/questions -m openai:http://localhost:8000/v1#Qwen2-Audio`\n\n"
    "`earwitness references sets/questions -m truth`"
)
def references(
    folder: Annotated[Path, typer.Argument(metavar="SET", help="a training set: pairs' or sft-data's --out")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="an audio language model, or truth: a sentence on what is heard")
    ],
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="ask again what failed")] = False,
    setting: Annotated[list[str] | None, typer.Option("--set", help="key=value: the model's own options")] = None,
) -> None:
    """Write the reasoning of an ear alone into a set's pairs: what GRPO's audio reward (arr) compares with."""
    from earwitness.session import training_data

    try:
        with _shown() as progress:
            found = training_data.refer(
                folder, model, settings=dict(pair(s) for s in setting or []), retry_failed=retry_failed,
                progress=progress,
            )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    out.print(
        f"{how_many(found.made, 'pair')} of {folder} with a reference by {plain(found.model)}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for name, why in list(found.failed.items())[:5]:
        out.print(f"[yellow]note:[/] {name} has none: {plain(why)}", highlight=False, soft_wrap=True)
    if len(found.failed) > 5:
        out.print(
            f"[yellow]note:[/] and {len(found.failed) - 5} more: {folder / 'references.json'}", highlight=False
        )


def _closing(made: object, folder: Path) -> None:
    from earwitness.session.training_data import Made

    assert isinstance(made, Made)
    show_tables([made.table])
    for line in made.made.info.left_out:
        out.print(f"[yellow]note:[/] {plain(line)}", highlight=False, soft_wrap=True)
    out.print(f"training set: {folder}", highlight=False, soft_wrap=True)


@contextmanager
def _shown() -> Iterator[Callable[[str, int, int], None]]:
    with bar() as shown:
        tasks: dict[str, int] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = shown.add_task(what, total=total, failed="")
            shown.update(tasks[what], completed=done, total=total)  # type: ignore[arg-type]

        yield progress
