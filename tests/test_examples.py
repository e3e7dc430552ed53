"""The guide's code runs: the toy family as the guide prints it; two published models' loading code on stand-ins."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from earwitness import audit, foley, protocols
from earwitness import run as runs
from earwitness.models.load import load_model
from earwitness.records import Intervention, Item, Media, View

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])


def item(n: int = 0, prompt: str = "What do you hear?", choices: tuple[str, ...] = ()) -> Item:
    return Item(
        id=f"i{n}", protocol="test", condition="original", question="audio", clip="c", source="c", group="g",
        intervention=Intervention(), prompt=prompt, choices=choices, target=None, decode=7,
    )  # fmt: skip


def clip(view: View) -> Media:
    return foley.media(foley.scene(11), view)


# --- the guide's family ----------------------------------------------------------------------------------------


def test_the_guide_prints_the_example_as_it_is() -> None:
    page = (ROOT / "docs" / "adding_a_model.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert (ROOT / "examples" / "toy_listener.py").read_text() in blocks
    assert len((ROOT / "examples" / "toy_listener.py").read_text().splitlines()) <= 90


def test_the_guides_own_test_runs() -> None:
    from examples.toy_listener import load

    page = (ROOT / "docs" / "adding_a_model.md").read_text()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "check_model" in b]
    told: dict[str, Any] = {"load": load}
    exec(block, told)
    assert {row["organ"] for row in told["report"]} == {"audio", "visual"}


def test_the_toy_family_passes_the_check_and_a_deaf_or_blind_one_does_not() -> None:
    model: Any = load_model("examples.toy_listener:load", fps=2.0)
    assert audit.check_model(model, clip(model.view))
    whole = model.answer
    model.answer = lambda items, media: whole(items, [m.with_wave(None) for m in media])
    with pytest.raises(audit.EarCheckError, match="deaf"):
        audit.check_model(model, clip(model.view))
    model.answer = lambda items, media: whole(items, [m.with_frames(None) for m in media])
    with pytest.raises(audit.EarCheckError, match="blind"):
        audit.check_model(model, clip(model.view))


def test_the_toy_family_is_audited(tmp_path: Path) -> None:
    model = load_model("examples.toy_listener:load")
    clips = foley.clip_set(3, seed=5)
    items = protocols.load("mma").items(clips.clips, protocols.Settings(mma_styles=("standard",)))
    audit.ask(model, clips, items, tmp_path)
    answers = runs.read_answers(tmp_path)
    assert len(answers) == len(items)
    assert all(a.error is None for a in answers.values())
    assert sum(np.exp(list((answers[items[0].id].logprobs or {}).values()))) == pytest.approx(1.0)
    texts = {answers[i.id].text for i in items if i.condition != "text"}
    assert len(texts) > 1, "the answers depend on nothing"


def test_an_option_the_factory_does_not_take_is_named() -> None:
    with pytest.raises(ValueError, match="takes no batch; its options: device, dtype, fps, path"):
        load_model("examples.minicpm_o:MiniCPMo", batch=3)
    with pytest.raises(ValueError, match="WEIGHTS is a str, nothing that makes a model"):
        load_model("examples.minicpm_o:WEIGHTS")


def test_a_factory_that_hides_its_options_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hidden_ears.py").write_text(
        "from earwitness.models.fake import control\ndef ears(**options): return control('hears', **options)\n"
        "def gone(): import no_such_package_here\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="hidden_ears:ears does not take an option it was given"):
        load_model("hidden_ears:ears", dtype="float16")
    with pytest.raises(ValueError, match=r"needs the package no_such_package_here.* top of hidden_ears\.py"):
        load_model("hidden_ears:gone")
    with pytest.raises(ValueError, match="takes no dtype; its options: fps, max_pixels"):
        load_model("examples.toy_listener:load", dtype="float16")


def test_a_module_in_the_working_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "my_ears.py").write_text(
        "from earwitness.models.fake import control\nears = lambda: control('hears')\n"
    )
    code = "from earwitness.models.load import load_model; print(load_model('my_ears:ears').name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fake:hears", done.stderr


# --- MiniCPM-o -------------------------------------------------------------------------------------------------


class Chatty:
    """Stands in for MiniCPM-o: notes what ``chat`` is handed, and answers from the sound and the picture."""

    config = SimpleNamespace(_commit_hash="abc")

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def eval(self) -> Chatty:
        return self

    def to(self, device: str) -> Chatty:
        return self

    def chat(self, **given: Any) -> str:
        self.calls.append(given)
        content = given["msgs"][0]["content"]
        loud = [float(np.abs(p).mean()) for p in content if isinstance(p, np.ndarray)]
        bright = [float(np.asarray(p).mean()) for p in content if not isinstance(p, str | np.ndarray)]
        return f"{sum(loud):.5f} {sum(bright):.3f}"


@pytest.fixture
def chatty(monkeypatch: pytest.MonkeyPatch) -> Chatty:
    pytest.importorskip("torch", reason="the example names a torch dtype")
    made, module = Chatty(), ModuleType("transformers")
    module.AutoModel = SimpleNamespace(from_pretrained=lambda path, **kw: made)  # type: ignore[attr-defined]
    module.AutoTokenizer = SimpleNamespace(from_pretrained=lambda path, **kw: "words")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", module)
    return made


def test_minicpm_o_gets_seconds_of_picture_and_sound_in_turn(chatty: Chatty) -> None:
    model = load_model("examples.minicpm_o:load", device="cpu")
    media = clip(model.view)
    assert media.wave is not None
    silent, unseen = media.with_wave(None), media.with_frames(None)
    answers = model.answer([item(n) for n in range(4)], [media, silent, unseen, unseen.with_wave(None)])
    whole, shown, heard, text = (c["msgs"][0]["content"] for c in chatty.calls)
    kinds = ["text" if isinstance(p, str) else "sound" if isinstance(p, np.ndarray) else "picture" for p in whole]
    seconds = round(media.duration)
    assert kinds == ["text", "picture", "sound"] * seconds + ["text"]
    assert whole[-1] == "What do you hear?"
    np.testing.assert_array_equal(np.concatenate(whole[2:-1:3]), media.wave[0])
    assert not any(isinstance(p, np.ndarray) for p in shown)
    assert len(shown) == seconds + 1
    assert not any(isinstance(p, str) for p in shown[:-1])
    assert len(heard) == 2
    np.testing.assert_array_equal(heard[0], media.wave[0])
    assert text == ["What do you hear?"]
    assert [c["omni_input"] for c in chatty.calls] == [True, False, False, False]
    first = chatty.calls[0]
    assert (first["sampling"], first["num_beams"], first["max_new_tokens"]) == (False, 1, 7)
    fed = [a.fed for a in answers]
    assert all(f is not None and f.measured == "sent" for f in fed)
    assert [(f.frames, f.audio_hash is None) for f in fed if f] == [
        (seconds, False), (seconds, True), (None, False), (None, True),
    ]  # fmt: skip
    assert audit.check_model(model, media)
    with pytest.raises(ValueError, match="one picture a second"):
        load_model("examples.minicpm_o:load", device="cpu", fps=2.0)


# --- Video-LLaMA2 ----------------------------------------------------------------------------------------------


@pytest.fixture
def videollama2(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The package's two calls and its sound loader, as its audio_visual branch has them; notes what is inferred."""
    torch = pytest.importorskip("torch", reason="the stand-in's tensors")
    import wave

    calls: list[dict[str, Any]] = []

    def loader(path: str, duration: float) -> Any:
        with wave.open(path) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            assert duration == pytest.approx(file.getnframes() / 16_000)
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
        return torch.from_numpy(sound[: len(sound) // 128 * 128].reshape(1, -1, 128).astype(np.float32))

    def video(frames: np.ndarray) -> Any:
        assert frames.shape[0] == 16
        return torch.from_numpy(frames.transpose(0, 3, 1, 2).astype(np.float32))

    def infer(fed: Any, instruct: str, **given: Any) -> str:
        calls.append({"fed": fed, "instruct": instruct, **given})
        parts = fed if isinstance(fed, dict) else {given["modal"]: fed}
        return " ".join(f"{k} {float(v.abs().mean()):.5f}" for k, v in parts.items() if v is not None) or "nothing"

    package, tools = ModuleType("videollama2"), ModuleType("videollama2.mm_utils")
    model = SimpleNamespace(config=SimpleNamespace(num_frames=16))
    package.model_init = lambda path: (model, {"video": video}, "words")  # type: ignore[attr-defined]
    package.mm_infer, tools.process_audio_from_video = infer, loader  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "videollama2", package)
    monkeypatch.setitem(sys.modules, "videollama2.mm_utils", tools)
    return calls


def test_video_llama2_gets_each_kind_as_its_own_code_wants_it(videollama2: list[dict[str, Any]]) -> None:
    model = load_model("examples.video_llama2:load")
    media = clip(model.view)
    unseen = media.with_frames(None)
    kinds = [media, media, media.with_wave(None), unseen, unseen.with_wave(None)]
    answers = model.answer([item(n) for n in range(5)], kinds)
    assert [c["modal"] for c in videollama2] == ["video", "video", "video", "audio", "text"]
    assert set(videollama2[0]["fed"]) == {"video", "audio"}
    assert videollama2[0]["fed"] is videollama2[1]["fed"], "questions on the same clip share its tensors"
    assert videollama2[4]["fed"] is None
    assert (videollama2[0]["do_sample"], videollama2[0]["max_new_tokens"]) == (False, 7)
    fed = [a.fed for a in answers]
    assert [(f.frames, f.audio_hash is None) for f in fed if f] == [
        (16, False), (16, False), (16, True), (None, False), (None, True),
    ]  # fmt: skip
    assert fed[0] is not None
    assert fed[2] is not None
    assert fed[0].video_hash == fed[2].video_hash
    assert audit.check_model(model, media)


def test_a_loader_that_turns_every_sound_into_silence_is_found_out(
    videollama2: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Video-LLaMA2's loader does where it cannot read a file: zeros, and no error."""
    import torch

    monkeypatch.setattr(
        sys.modules["videollama2.mm_utils"], "process_audio_from_video", lambda path, s: torch.zeros(1, 200, 128)
    )
    model = load_model("examples.video_llama2:load")
    with pytest.raises(audit.EarCheckError, match="deaf"):
        audit.check_model(model, clip(model.view))


# --- names and options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("openai:http://127.0.0.1:9/v1#x", {"device": "cpu"}, "takes no device; its options: .*concurrency"),
        ("gemini:some-model", {"attn": "sdpa"}, "takes no attn; its options: .*max_cost"),
        (
            "hans",
            {"parts": "video", "retries": 2},
            "hans takes no parts, retries; its options: adapter, attn, batch, device",
        ),
        ("fake:hears", {"timeout": 3.0}, "fake:hears takes no timeout"),
        ("openai:", {}, "say openai:URL#MODEL"),
        ("gemini:", {}, "say gemini:MODEL"),
        ("no_such_module_here:load", {}, "unknown model 'no_such_module_here:load'; known: hans"),
        ("some/path:x", {}, "unknown model"),
    ],
)
def test_an_option_goes_to_the_family_that_has_it(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_model(name, **options)


@pytest.mark.parametrize(
    ("name", "package"), [("openai:http://127.0.0.1:9/v1#x", "openai"), ("gemini:x", "google")]
)
def test_a_missing_package_of_a_served_model_is_named(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "k")
    for module in [m for m in sys.modules if m == package or m.startswith(package + ".")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"pip install 'earwitness\[api\]'"):
        load_model(name)
