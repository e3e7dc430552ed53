"""On the path of a tool that runs beside a CPU build of torch: torchvision's import finds its operators declared.

torchvision's wheel is built for CUDA; its import asks for two operators that only its CUDA library defines. Python
imports this file by its name when it starts.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from typing import Any


class Declaring(MetaPathFinder):
    """Finds nothing itself; the first to be asked for torchvision."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> None:
        if name != "torchvision":
            return
        sys.meta_path.remove(self)
        import torch

        if torch.version.cuda is None:
            library = torch.library.Library("torchvision", "DEF")
            sys.modules["torchvision operators"] = library  # type: ignore[assignment]  # kept alive, or they go
            for operator in ("nms", "qnms"):
                with suppress(RuntimeError):
                    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


sys.meta_path.insert(0, Declaring())
