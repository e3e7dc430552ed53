"""Fixtures that several test files share: tiny random checkpoints of both Qwen omni families, a browser.

And what keeps the tests quick: processes that run side by side compute with one thread each, the garbage collector
does not look through the packages that were loaded, bytecode is kept, a procedural clip is made and Hans
read once.
"""

from __future__ import annotations

import copy
import gc
import os
import shutil
import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from earwitness.foley import FoleyClips
    from earwitness.models.qwen_omni import QwenOmni
    from earwitness.records import Clip, Intervention, Media, View

# Beside other workers, a second thread waits for a core that they have; set before numpy and torch are loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

MEDIA_KEPT = 200_000_000  # bytes of procedural clips that are kept to be asked for again

# Told to keep no bytecode, every process that tests start compiles the package anew, and pytest all tests: a tenth
# of the time of a run. What is kept lies in __pycache__, which git ignores.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_finish() -> None:
    """A full collection looks at a million objects of torch and its kin; trainers ask for one at every turn."""
    gc.collect()
    gc.freeze()


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


@pytest.fixture(scope="session", autouse=True)
def _drawn_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A procedural clip is a function of its recipe: who asks again, for media or for a file, gets a copy."""
    from earwitness.foley import files
    from earwitness.records import digest

    drawn: OrderedDict[tuple[str, View], Media] = OrderedDict()
    draw, write, kept = files.FoleyClips.media, files.FoleyClips.file, tmp_path_factory.mktemp("foley")

    def media(self: FoleyClips, clip: Clip, view: View) -> Media:
        if clip.foley is None:
            return draw(self, clip, view)
        key = (clip.foley, view)
        made = drawn[key] if key in drawn else draw(self, clip, view)
        drawn[key] = made
        drawn.move_to_end(key)
        while sum(m.frames.nbytes + m.wave.nbytes for m in drawn.values()) > MEDIA_KEPT:  # type: ignore[union-attr]
            drawn.popitem(last=False)
        arrays = {name: getattr(made, name).copy() for name in ("frames", "times", "wave")}
        return replace(made, **arrays)

    def file(self: FoleyClips, clip: Clip, folder: Path) -> Path:
        path = Path(folder) / f"{clip.id}.mp4"
        if clip.foley is None or path.exists():
            return write(self, clip, folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(write(self, clip, kept / digest(clip.foley, files.FILE_VIEW)), path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.FoleyClips, "media", media)
        patch.setattr(files.FoleyClips, "file", file)
        yield


@pytest.fixture(scope="session", autouse=True)
def _hans_read_once() -> Iterator[None]:
    """Who asks for Hans as it ships gets a copy of the one read first: seven times as quick as its files."""
    opened = sys.modules.get("earwitness.models.qwen_omni")  # a session without torch loads none here
    if opened is None:
        yield
        return
    from earwitness.models.load import HANS

    read, kept = opened.load_thinker, {}

    def load_thinker(path: Any, **how: Any) -> Any:
        if Path(path) != HANS:
            return read(path, **how)
        told = tuple(sorted(how.items()))
        if told not in kept:
            kept[told] = read(path, **how)
        return copy.deepcopy(kept[told])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opened, "load_thinker", load_thinker)
        yield


@pytest.fixture(scope="module")
def conditions_once() -> Iterator[None]:
    """Audits of several models on the same clips: each condition of a clip is made once for all of them."""
    from earwitness.audit import asking
    from earwitness.audit.bank import Bank

    made: dict[tuple[str, Intervention, View], Media] = {}

    class Kept(Bank):
        def condition(self, clip_id: str, iv: Intervention) -> Media:
            key = (clip_id, iv, self._view)
            if key not in made:
                made[key] = super().condition(clip_id, iv)
            return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "Bank", Kept)
        yield


@pytest.fixture(scope="module")
def few_media() -> Iterator[None]:
    """Runs that write clips of two telling items, not of ten: each clip is drawn, encoded, changed and measured."""
    from earwitness.session import files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "TELLING", 2)
        yield


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
