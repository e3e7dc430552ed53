"""Lets torchvision load beside a CPU build of torch that does not match its binary.

Qwen's omni processors need torchvision for their video processor, and use nothing of it but pure-tensor
resizing. torchvision's import, however, registers fake kernels for two of its compiled operators, and fails
with "operator torchvision::nms does not exist" where its binary could not be loaded. Declaring the two schemas
first makes the import succeed; the operators themselves stay uncallable, and nothing here calls them.
"""

from __future__ import annotations

import importlib

import torch

_KEPT: list[torch.library.Library] = []  # a Library undoes its definitions when it is collected


def declare() -> None:
    """Declare the operator schemas that ``import torchvision`` needs, on CPU builds of torch only."""
    if _KEPT or torch.version.cuda is not None:
        return
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        try:
            schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(schema)  # type: ignore[no-untyped-call]
        except RuntimeError:  # already there: a torchvision whose binary fits
            continue
    _KEPT.append(library)
    importlib.import_module("torchvision")


declare()
