"""The verb that times events: curate events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import typer

from earwitness.cli.app import Out, Seed, fail, pair
from earwitness.cli.auditing import _command
from earwitness.cli.building import Settings, curate
from earwitness.terminal import bar, err, out, plain, show_tables


@curate.command(
    epilog="Examples:\n\n`earwitness curate events my_clips/ --annotator gemini:NAME "
    "--annotator qwen3-omni:PATH --out events/`; `earwitness review events/queue.jsonl`\n\n"
    "`earwitness curate events foley:impact -a fake:annotator:spread=0.1 -a fake:annotator:spread=0.2 --out e/`\n\n"
    "`earwitness audit -m hans --protocol thud --clips events/ --out runs/hans`"
)
def events(
    manifest: Annotated[
        str, typer.Argument(metavar="MANIFEST", help="clips: a folder with a labels file, foley, foley:impact")
    ],
    annotators: Annotated[
        list[str],
        typer.Option("--annotator", "-a", help="a model, repeatable: the first one listens, the others look"),
    ],
    folder: Out,
    seed: Seed = 0,
    limit: Annotated[int | None, typer.Option(min=1, help="clips at most")] = None,
    workers: Annotated[int, typer.Option(min=1, help="processes")] = 1,
    executor: Annotated[
        Literal["process", "ray"], typer.Option(help="process, or ray: RAY_ADDRESS names the cluster")
    ] = "process",
    retry: Annotated[bool, typer.Option("--retry-failed", help="ask again what failed")] = False,
    setting: Settings = None,
) -> None:
    """Label when events are seen and heard; keep what annotators and the sound agree on, queue the rest."""
    from earwitness.audit import EarCheckError
    from earwitness.curate.events import build, wish
    from earwitness.session.settings import MODEL, chosen

    try:
        given = dict(pair(s) for s in setting or [])
        options = chosen({k: given.pop(k) for k in MODEL if k in given}, model="", seed=seed)[1].for_model
        wanted = wish(given, len(annotators))
        with bar() as shown:

            def stage(name: str) -> Callable[[int, int, int], None]:
                task = shown.add_task(name, total=None, failed="")
                return lambda done, failed, total: shown.update(
                    task, completed=done, total=total, failed=f"{failed} failed" if failed else ""
                )

            built = build(
                manifest, folder, annotators, wanted, options=options, limit=limit, seed=seed, workers=workers,
                executor=executor, retry_failed=retry, stage=stage, command=_command(),
            )  # fmt: skip
    except EarCheckError as error:
        fail(error, 3)
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:
        err.print(f"\nstopped; what is answered is kept: the same command goes on in {folder}")
        raise typer.Exit(130) from None
    show_tables(built.tables)
    for line in built.notes:
        err.print(f"[yellow]note:[/] {plain(line)}", highlight=False, soft_wrap=True)
    for file in ("labels.jsonl", "queue.jsonl"):
        out.print(f"{folder / file}", highlight=False, soft_wrap=True)
