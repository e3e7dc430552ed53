"""Training stages as ``earwitness align`` leaves them: what each was, its log, and which stages made a model.

Read from OUT/align.json and OUT/log.jsonl, without the model and without torch.

Functions: :func:`read` a stage, :func:`chain` the stages that made a model.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from earwitness import run as runs


class Made(msgspec.Struct, kw_only=True):
    """What ``align.json`` says of a stage."""

    recipe: dict[str, Any]
    data: str
    model: str
    data_digest: str = ""
    revision: str = ""
    trained: int = 0
    skipped: int = 0
    way: float = 1.0
    ways: dict[str, float] = {}
    versions: dict[str, str] = {}


@dataclass(frozen=True)
class Stage:
    """A training stage: what it was, and the lines of its log."""

    folder: Path
    made: Made
    log: tuple[dict[str, float | None], ...]

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.made.recipe.get("name", "training"))

    @property
    def last(self) -> int:
        """The last step that was logged."""
        return int(max((line["step"] or 0 for line in self.log), default=0))

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and score of the best validation, the earlier of equals; None where nothing was validated."""
        found = self.curve("valid")
        return max(found, key=lambda p: (p[1], -p[0])) if found else None

    def curve(self, key: str) -> list[tuple[int, float]]:
        """(step, value) of a key of the log, finite values only."""
        return [
            (int(line["step"] or 0), float(v))
            for line in self.log
            if (v := line.get(key)) is not None and math.isfinite(v)
        ]

    def keys(self, start: str, end: str = "") -> list[str]:
        """Keys of the log that begin and end so, in the order in which they came."""
        every = dict.fromkeys(k for line in self.log for k in line)
        return [k for k in every if k.startswith(start) and k.endswith(end)]


def read(folder: Path) -> Stage:
    """A stage from its folder. Raises RunError where it is not the --out of an ``earwitness align``."""
    file, log = folder / "align.json", folder / "log.jsonl"
    for path in (file, log):
        if not path.is_file():
            raise runs.RunError(f"{folder} holds no {path.name}: is it the --out of an `earwitness align`?")
    try:
        made = msgspec.json.decode(file.read_bytes(), type=Made)
    except msgspec.MsgspecError as error:
        raise runs.RunError(f"{file}: {error}") from None
    lines = []
    for number, text in enumerate(log.read_text().split("\n")[:-1], 1):  # a torn last line has no end
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError as error:
            raise runs.RunError(f"{log}, line {number}: {error} (edited by hand?)") from None
    return Stage(folder, made, tuple(line for line in lines if line.get("step") is not None))


def chain(model: str, adapter: str | None = None) -> list[Stage]:
    """The stages that made a model, first to last; empty where its folder is not the output of one.

    ``model``: its name, as ``qwen2.5-omni:OUT/model``; ``adapter``: the adapter that it was loaded with, if any.
    """
    out: list[Stage] = []
    place: Path | None = Path(adapter) if adapter else _place(model)
    while place is not None:
        folder = place.parent
        if not all((folder / name).is_file() for name in ("align.json", "log.jsonl")):
            break
        if any(folder.resolve() == stage.folder.resolve() for stage in out):
            break  # a stage that claims to come from itself
        out.append(read(folder))
        place = _place(out[-1].made.model)
    return out[::-1]


def _place(model: str) -> Path | None:
    _, colon, rest = model.partition(":")
    return Path(rest) if colon and rest else None
