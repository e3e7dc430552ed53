"""Inside a run: ``trace`` and ``knockout``, and the report written again with what they found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from earwitness import report as pages
from earwitness import run as runs
from earwitness.models import Model
from earwitness.models.load import load_model
from earwitness.records import Table
from earwitness.whitebox import knockout as cutting
from earwitness.whitebox import opened, tracing
from earwitness.whitebox.edges import read_edge
from earwitness.whitebox.tracing import Traced

Progress = Callable[[int, int], None]
KEPT = (
    "device",
    "dtype",
    "attn",
    "fps",
    "max_pixels",
    "batch",
    "adapter",
)  # of a run's settings, for its model loaded again


def trace(
    folder: Path, model: str | None = None, *, limit: int | None = tracing.CLIPS, conditions: Sequence[str] = (),
    values: bool = False, heat_layers: Sequence[int] = (), progress: Progress | None = None,
) -> Traced:  # fmt: skip
    """Trace a run with its own model, or with a local copy of it; the report is written again.

    Raises
    ------
    ValueError
        For a model that is not local, or another one than the run's.
    RunError
        Where the folder holds no run, or another model's trace.
    """
    opened.chosen(folder, limit=limit, conditions=conditions, choices=False)  # what is amiss is told at once
    found = tracing.trace(
        folder, _opened(folder, model), limit=limit, conditions=conditions, values=values, heat_layers=heat_layers,
        progress=progress,
    )  # fmt: skip
    if (folder / "scores.jsonl").exists():
        pages.build(folder)
    return found


def knockout(
    folder: Path, model: str | None = None, *, edges: Sequence[str], layers: str = "all", controls: int = 3,
    limit: int | None = None, conditions: Sequence[str] = (), weight: float = 0.0, heads: Sequence[int] = (),
    progress: Progress | None = None,
) -> list[Table]:  # fmt: skip
    """Cut paths in a run's model (or a local copy of it) and say what the answers lose; writes the report again.

    Raises as :func:`earwitness.whitebox.knockout.knockout` does.
    """
    for edge in edges:
        read_edge(edge)
    opened.chosen(folder, limit=limit, conditions=conditions)  # before the model is loaded
    tables = cutting.knockout(
        folder, _opened(folder, model), edges=edges, windows=layers, controls=controls, limit=limit,
        conditions=conditions, factor=weight, heads=tuple(heads), progress=progress,
    )  # fmt: skip
    if (folder / "scores.jsonl").exists():
        pages.build(folder)
    return tables


def _opened(folder: Path, name: str | None) -> Model:
    """The model to look into, with the run's own options where it is the run's own."""
    info = runs.read_info(folder)
    if name is None and info.model.startswith(("openai:", "gemini:", "vllm:", "fake:")):
        raise ValueError(
            f"{info.model} cannot be looked into: its weights are not in this process. With --model "
            f"qwen2.5-omni:PATH (or qwen3-omni:PATH) its answers are replayed in a local copy"
        )
    own = name is None or name == info.model
    options = {k: v for k in KEPT if own and (v := info.settings.get(k)) is not None}
    adapter = options.get("adapter")
    kept = info.model if adapter is None else info.model.removesuffix(f"+{Path(str(adapter)).resolve().name}")
    return load_model(name if name and not own else kept, **options)
