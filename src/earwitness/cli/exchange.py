"""Verbs that meet other tools: serve, rescore, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from earwitness.cli.app import Model, app, fail, pair
from earwitness.records import how_many
from earwitness.terminal import bar, err, out, plain, show_tables

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


OF_RUN = ("inspect", "parquet", "lmms-eval")
OF_SET = ("ms-swift", "llama-factory")
OF_CHECKPOINT = ("merged", "full", "vllm-adapter", "peft-adapter")
To = Literal[
    "inspect", "parquet", "lmms-eval", "ms-swift", "llama-factory", "merged", "full", "vllm-adapter", "peft-adapter"
]


@app.command(
    epilog="Examples:\n\n`earwitness export runs/hans --to parquet --out hans.parquet`\n\n"
    "`earwitness export runs/hans --to lmms-eval --out tasks/listens --media`\n\n"
    "`earwitness export sets/thud --to ms-swift --stage dpo --out swift`\n\n"
    "`earwitness export out/checkpoint-100 --to merged --out listens`"
)
def export(
    folder: Annotated[
        Path, typer.Argument(help="a run (an audit's --out), a training set, an adapter, or a thinker's checkpoint")
    ],
    to: Annotated[
        To,
        typer.Option(
            help="of a run: inspect, parquet, lmms-eval; of a training set: ms-swift, llama-factory; of an "
            "adapter: merged, vllm-adapter, peft-adapter; of a thinker's checkpoint: full"
        ),
    ],
    target: Annotated[
        Path, typer.Option("--out", "-o", help="*.eval or *.json; *.parquet; all others: a folder of its own")
    ],
    media: Annotated[
        bool, typer.Option("--media", help="run: also write every clip and condition as a file")
    ] = False,
    stage: Annotated[Literal["sft", "dpo", "grpo"], typer.Option(help="training set: what is trained")] = "sft",
    relative: Annotated[bool, typer.Option("--relative", help="training set: media by relative paths")] = False,
    base: Annotated[
        str | None,
        typer.Option(
            help="training set: the model that the commands train; adapter: what it is merged into (default: what "
            "it was trained on); checkpoint: a full Omni checkpoint to take the talker from"
        ),
    ] = None,
) -> None:
    """Write what others open: a run for inspect_ai, Parquet, lmms-eval; a training set for ms-swift,
    LLaMA-Factory; an adapter or checkpoint for vLLM."""
    try:
        known = _forms(folder)
        if to not in known:
            raise ValueError(f"{folder} is not exported to {to}, only to {', '.join(known)}")
        if to in OF_RUN:
            done, missing = _run(folder, to, target, media)
        elif to in OF_SET:
            done, missing = _training_set(folder, to, target, stage, base, relative)
        else:
            done, missing = _checkpoint(folder, to, target, base), {}
    except (ValueError, ImportError, OSError) as error:
        fail(error)
    out.print(f"{done}", highlight=False, soft_wrap=True)
    for name, why in missing.items():
        err.print(f"not written: {name}: {why}", highlight=False, soft_wrap=True)


def _forms(folder: Path) -> tuple[str, ...]:
    """What a folder can be exported to, by what it holds."""
    held = {"run.json": OF_RUN, "set.json": OF_SET, "adapter_config.json": OF_CHECKPOINT[:1] + OF_CHECKPOINT[2:]}
    for name, forms in {**held, "config.json": ("full",)}.items():
        if (folder / name).is_file():
            return forms
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}")
    raise ValueError(
        f"{folder} holds no run (run.json), training set (set.json), adapter (adapter_config.json) or checkpoint "
        f"(config.json)"
    )


def _run(folder: Path, to: str, target: Path, media: bool) -> tuple[object, dict[str, str]]:
    from earwitness import export as forms
    from earwitness import run as runs
    from earwitness.datasets.opening import open_clips

    done = {"inspect": forms.to_inspect, "parquet": forms.to_parquet, "lmms-eval": forms.to_lmms_eval}[to](
        folder, target
    )
    if not media:
        return done, {}
    info = runs.read_info(folder)
    beside = info.settings.get("media")
    clips = open_clips(
        info.clips, limit=info.clip_count or None, seed=info.seed, media=Path(beside) if beside else None
    )
    place = target / "media" if to == "lmms-eval" else folder / "media"
    return done, forms.write_media(folder, clips, place)


def _training_set(
    folder: Path, to: Any, target: Path, stage: Any, base: str | None, relative: bool
) -> tuple[object, dict[str, str]]:
    from earwitness import export as forms
    from earwitness.align.pairs import training_set

    made = training_set.read(folder)
    with bar() as shown:
        task = shown.add_task("writing media", total=None, failed="")
        done = forms.to_trainer(
            to, {"train": made.train, "valid": made.valid}, training_set.clips_of(made.info), target,
            stage=stage, view=made.info.view, base=base, relative=relative,
            progress=lambda n, of: shown.update(task, completed=n, total=of),
        )  # fmt: skip
    rows = ", ".join(f"{n} in {split}" for split, n in done.rows.items())
    repeated = f", {done.repeated} on an item that has a row" if done.repeated else ""
    return (
        f"{target}: rows: {rows}{repeated}; {how_many(done.files, 'video')}; sh {target}/run_{stage}.sh trains",
        done.left_out,
    )


def _checkpoint(folder: Path, to: str, target: Path, base: str | None) -> object:
    try:
        from earwitness.models import checkpoints
    except ModuleNotFoundError as error:
        raise ValueError(
            f"--to {to} reads weights and needs {error.name}: pip install 'earwitness[local]'"
        ) from error
    if to == "merged":
        return checkpoints.merge(folder, target, base=base)
    if to == "full":
        return checkpoints.to_full(folder, target, base=base)
    return checkpoints.write_adapter(folder, target, form="vllm" if to == "vllm-adapter" else "peft")
