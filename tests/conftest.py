"""Fixtures that several test files share: tiny random checkpoints of both Qwen omni families, a browser."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; skips where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if path is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as p:
        opened = p.chromium.launch(
            executable_path=path,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        yield opened
        opened.close()
