"""Part of the way: what was learned, taken back toward the model as it came, for as long as validation allows.

Weights between a model and its tuned self often keep what tuning gave, and more of what it cost elsewhere (WiSE-FT:
Wortsman et al., arXiv 2109.01903, section 3). A low-rank addition begins at nothing, so part of the way is part of
the addition; of other weights the beginning is remembered.

Differs from the paper, which fixes the share at one half or sweeps it on what tests the model: here it is the
smallest share whose validation, on the training set's own valid pairs, is not below that of the whole way. Shares
are tried in falling order, and the first that is worse ends it.

Functions: ``origin``, ``take_back``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

Learning = Sequence[tuple[str, torch.Tensor]]  # what learns, by name


def origin(learning: Learning) -> dict[str, torch.Tensor]:
    """Where weights are before they learn; call it then. A low-rank addition is nothing there."""
    return {name: value.detach().clone() for name, value in learning if ".lora_" not in name}


def take_back(
    learning: Learning, came: Mapping[str, torch.Tensor], shares: Sequence[float], best: float,
    validate: Callable[[], float],
) -> tuple[float, dict[float, float]]:  # fmt: skip
    """Leave the weights at the smallest share of the way that validates no worse; that share, and what each gave.

    Parameters
    ----------
    came : of ``origin``.
    shares : in (0, 1).
    best : validation of the weights as they are, the whole way.
    validate : validation of the weights as they are when it is called.
    """
    learned = {name: value.detach().clone() for name, value in learning}
    kept, found = 1.0, {1.0: best}
    for share in sorted(set(shares), reverse=True):
        _go(learning, came, learned, share)
        found[share] = validate()
        if found[share] < best:
            break
        kept = share
    _go(learning, came, learned, kept)
    return kept, found


def _go(
    learning: Learning, came: Mapping[str, torch.Tensor], learned: Mapping[str, torch.Tensor], share: float
) -> None:
    with torch.no_grad():
        for name, value in learning:
            if ".lora_B." in name:  # the addition is B @ A: one of the two is enough
                value.copy_(learned[name] * share)
            elif name in came:
                value.copy_(torch.lerp(came[name], learned[name], share) if share < 1 else learned[name])
