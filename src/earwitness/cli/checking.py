"""Verbs that check what a set says of itself: curate check, curate card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from earwitness.cli.app import Out, fail, pair
from earwitness.cli.auditing import _command
from earwitness.cli.building import Settings, curate
from earwitness.records import how_many
from earwitness.terminal import bar, err, out, plain, show_tables

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from earwitness.audit import Progress

Workers = Annotated[int, typer.Option(min=1, help="processes")]
Executor = Annotated[
    Literal["process", "ray"], typer.Option(help="process, or ray: RAY_ADDRESS names the cluster")
]  # fmt: skip


@curate.command(
    epilog="Examples:\n\n"
    "`earwitness curate check mma/ --judge openai:URL#MODEL --audited qwen2.5-omni:PATH --out ok/`\n\n"
    "`earwitness curate check videos/ --tagger yamnet --classifier efficientnet --out ok/`\n\n"
    "`earwitness curate check foley --judge fake:hears --set limit=12 --out ok/`"
)
def check(
    manifest: Annotated[
        str, typer.Argument(metavar="MANIFEST", help="clips with labels: a folder with a labels file, or foley")
    ],
    folder: Out,
    judge: Annotated[
        list[str] | None, typer.Option(help="a model that is asked MMA-Bench's four questions; repeatable")
    ] = None,
    audited: Annotated[
        list[str] | None, typer.Option(help="a model to be audited on this set: no judge of its family; repeatable")
    ] = None,
    tagger: Annotated[str, typer.Option(help="who hears: yamnet, or transformers:PATH")] = "",
    classifier: Annotated[str, typer.Option(help="who sees: efficientnet, or transformers:PATH")] = "",
    every: Annotated[bool, typer.Option("--all", help="all checks on all clips, also after one failed")] = False,
    setting: Settings = None,
    workers: Workers = 1,
    executor: Executor = "process",
) -> None:
    """Keep the clips that show and sound like their labels: gates, witnesses, a judge, and a queue for people."""
    from earwitness.audit import EarCheckError
    from earwitness.curate.checks import checking, wishes
    from earwitness.report import dataset

    try:
        asked = wishes.asked(
            judge or (), audited or (), tagger=tagger, classifier=classifier, every=every,
            settings=dict(pair(s) for s in setting or []),
        )  # fmt: skip
        with bar() as shown:
            made = checking.check(
                manifest, folder, asked, workers=workers, executor=executor, stage=stage_of(shown),
                command=_command(),
            )  # fmt: skip
            page = dataset.build(folder, workers=workers, executor=executor, stage=stage_of(shown))
    except EarCheckError as error:
        fail(error, 3)
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print(f"\nstopped; what is done is kept: the same command goes on in {folder}")
        raise typer.Exit(130) from None
    show_tables(dataset.funnel_of(made.rungs))
    for note in made.notes:
        err.print(f"[yellow]note:[/] {plain(note)}", highlight=False, soft_wrap=True)
    counts = made.counts
    out.print(
        f"{how_many(counts['passed'], 'clip')} passed, {counts['dropped']:,} dropped, {counts['undecided']:,} "
        "undecided",
        highlight=False,
    )
    out.print(f"{folder / 'labels.jsonl'}", highlight=False, soft_wrap=True)
    if counts["undecided"]:
        out.print(f"for people: earwitness review {folder / 'undecided.jsonl'}", highlight=False, soft_wrap=True)
    out.print(f"card: {page}", highlight=False, soft_wrap=True)
    if made.failed_share > checking.ALLOWED_FAILED:
        fail(
            f"{made.failed_share:.1%} of the questions to judges failed (allowed: {checking.ALLOWED_FAILED:.0%}); "
            "those clips are undecided, none was dropped for it. Ask them again with --set retry_failed=true",
            1,
        )


@curate.command(
    epilog="Examples:\n\n`earwitness curate card sets/mma`\n\n`earwitness curate card my_clips/labels.csv`"
)
def card(
    place: Annotated[Path, typer.Argument(metavar="SET", help="a set's folder, or its labels file")],
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="measure lengths and loudness where the set lacks them")
    ] = True,
    workers: Workers = 1,
    executor: Executor = "process",
) -> None:
    """Write the card of a set: counts, funnel, balance, agreement, licences, and what was not checked."""
    from earwitness.report import dataset

    try:
        with bar() as shown:
            page = dataset.build(
                place, measure=measure, workers=workers, executor=executor, stage=stage_of(shown)
            )  # fmt: skip
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print("\nstopped; what was measured is kept")
        raise typer.Exit(130) from None
    out.print(f"card: {page}", highlight=False, soft_wrap=True)


def stage_of(shown: Bar) -> Callable[[str], Progress]:
    """A bar for each stage, by its name."""

    def stage(name: str) -> Progress:
        task = shown.add_task(name, total=None, failed="")
        return lambda done, failed, total: shown.update(
            task, completed=done, total=total, failed=f"{failed} failed" if failed else ""
        )

    return stage
