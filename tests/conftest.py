"""Fixtures that several test files share: tiny random checkpoints of both Qwen omni families."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from earwitness.models.qwen_omni import QwenOmni


@pytest.fixture(scope="module", params=["qwen2.5-omni", "qwen3-omni"])
def family(request: pytest.FixtureRequest) -> str:
    """Both families, one after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def folder(family: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint of the family."""
    torch = pytest.importorskip("torch")
    import tiny_thinkers

    torch.set_num_threads(1)
    return tiny_thinkers.save(family, tmp_path_factory.mktemp(family), view=tiny_thinkers.VIEW)


@pytest.fixture(scope="module")
def shared(folder: Path) -> QwenOmni:
    """One adapter on it for the tests that change nothing."""
    from earwitness.models.qwen_omni import QwenOmni

    return QwenOmni(folder)
