"""Loading Qwen omni checkpoints: thinkers and full models, what is refused, names, views, revisions; the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="local models are an extra")
pytest.importorskip("transformers")

import tiny_thinkers as tiny  # noqa: E402
from earwitness.models import load, qwen_inputs  # noqa: E402
from earwitness.models.load import load_model  # noqa: E402
from earwitness.models.qwen_cache import FeatureCache, Heard  # noqa: E402
from earwitness.models.qwen_load import load_thinker, wrap  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.records import View  # noqa: E402

CHOICES = ("bell", "drum", "dog barking", "None of the above", "dog")


def test_full_omni_checkpoint_gives_its_thinker(family: Any, shared: QwenOmni, tmp_path: Path) -> None:
    tiny.save(family, tmp_path, full=True, view=tiny.VIEW)
    full = load_model(f"{family}:{tmp_path}", device="cpu", dtype="float32", attn="eager")
    item, media = tiny.item(0, "What do you hear?", CHOICES), tiny.media(1)
    (got,), (want,) = full.answer([item], [media]), shared.answer([item], [media])
    assert got.text == want.text
    assert got.logprobs == pytest.approx(want.logprobs, abs=1e-4)
    assert got.model == full.name == f"{family}:{tmp_path}"
    assert "greedy" in full.decoding  # type: ignore[attr-defined]


def test_missing_weights_and_wrong_families_are_errors(family: Any, folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = {"qwen2.5-omni": "qwen3-omni", "qwen3-omni": "qwen2.5-omni"}[family]
    with pytest.raises(ValueError, match=f"holds a {family} model, not {other}"):
        load_model(f"{other}:{folder}")
    tiny.save(family, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop("audio_tower.ln_post.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights"):
        load_model(f"{family}:{tmp_path}")


def test_the_folders_manual_and_the_options_set_the_view(family: Any, folder: Path, tmp_path: Path) -> None:
    assert QwenOmni(folder).view == View(fps=2.0, size=(112, 112))
    assert QwenOmni(folder, fps=1.0, max_pixels=50_176).view == View(fps=1.0, max_pixels=50_176)
    tiny.save(family, tmp_path)
    assert QwenOmni(tmp_path).view == View(max_pixels=504 * 504)
    (tmp_path / "earwitness.json").write_text(json.dumps({"fps": 2}))
    with pytest.raises(ValueError, match=r"earwitness\.json"):
        load_thinker(tmp_path)


def test_revision_follows_the_weights(family: Any, folder: Path, shared: QwenOmni, tmp_path: Path) -> None:
    assert QwenOmni(folder).revision == shared.revision
    tiny.save(family, tmp_path, seed=1)
    assert QwenOmni(tmp_path).revision != shared.revision


def test_a_thinker_in_memory_is_wrapped(family: Any) -> None:
    model, processor = tiny.build(family)
    thinker = wrap(model, processor, View(size=(112, 112)), system="Listen well.")
    assert "Listen well." in qwen_inputs.chat_text(thinker, tiny.item(0, "?"), "av")
    processor.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        wrap(model, processor, View())
    processor.chat_template = "x"
    with pytest.raises(ValueError, match="8000 Hz"):
        wrap(model, processor, View(rate=8000))


def test_hans_is_loaded_by_the_same_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny.save("qwen2.5-omni", tmp_path / "hans", view=tiny.VIEW)
    monkeypatch.setattr(load, "HANS", tmp_path / "hans")
    model = load.load_model("hans", batch=4, device="cpu")
    assert (model.name, model.view) == ("hans", View(size=(112, 112)))
    (answer,) = model.answer([tiny.item(0, "What do you hear?", CHOICES)], [tiny.media(1)])
    assert answer.model == "hans"
    assert set(answer.logprobs or {}) == set(CHOICES)
    monkeypatch.setattr(load, "HANS", tmp_path / "gone")
    with pytest.raises(ValueError, match="came without Hans"):
        load.load_model("hans")


def test_cache_is_bounded_and_drops_the_least_recently_used() -> None:
    def heard(n: int) -> Heard:
        return Heard(torch.zeros(n, 4), mels=1, seconds=1.0, rms=0.0, digest="")

    cache: FeatureCache[Heard] = FeatureCache(max_bytes=2 * 160)
    cache.put("a", heard(10))
    cache.put("b", heard(10))
    assert cache.get("a") is not None
    cache.put("c", heard(10))
    assert (cache.get("a") is not None, cache.get("b"), len(cache), cache.nbytes) == (True, None, 2, 320)
    cache.put("a", heard(5))
    assert cache.nbytes == 240
    cache.put("huge", heard(100))
    assert cache.get("huge") is None
    assert len(cache) == 2
