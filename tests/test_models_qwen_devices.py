"""Does a thinker over several devices, or partly on the disk, answer as it does on one?

The devices are faked on the CPU, but what is on one does not meet what is on another (see ``placed``); accelerate's
hooks, which move what a layer is called with, and its offload are real.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="local models are an extra")
pytest.importorskip("transformers")

import tiny_thinkers as tiny  # noqa: E402
from earwitness.models import adapters, qwen_decode, qwen_wrapped  # noqa: E402
from earwitness.models import qwen_inputs as inputs  # noqa: E402
from earwitness.models.qwen_decode import Row  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni, wrap  # noqa: E402
from earwitness.records import Answer, Item, Media  # noqa: E402
from placed import Placed  # noqa: E402
from spread_thinkers import STACK, VIEW, on_disk, random_thinker, spread_out, whole  # noqa: E402

torch.set_num_threads(1)
LONG = "bell drum yes no what do you hear " * 10  # more than 64 tokens
# transformers looks at the first weight, here a tower's, to tell where a model is; accelerate does the moving.
ELSEWHERE = "ignore:You are calling .generate.. with the `input_ids` being on a device type:UserWarning"
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")


def asked() -> tuple[list[Item], list[Media]]:
    """A clip, and it without its sound; choices, free text, a long text that two questions share."""
    media = [tiny.media(0), tiny.media(0, sound=False)]
    questions: list[tuple[str, tuple[str, ...]]] = [
        ("What do you hear?", ("bell", "dog barking", "drum")),
        (LONG + "yes or no?", ("yes", "no")),
        (LONG + "What is there?", ()),
    ]
    items = [
        tiny.item(3 * m + q, prompt, choices, decode=2 + 2 * q)
        for m in range(len(media))
        for q, (prompt, choices) in enumerate(questions)
    ]
    return items, [m for m in media for _ in questions]


def assert_same(got: list[Answer], want: list[Answer]) -> None:
    for a, b in zip(got, want, strict=True):
        assert (a.item, a.text, a.error, a.fed) == (b.item, b.text, b.error, b.fed)
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        np.testing.assert_allclose(list((a.logprobs or {}).values()), list((b.logprobs or {}).values()), atol=1e-5)


@pytest.mark.filterwarnings(ELSEWHERE)
def test_over_four_devices_it_answers_as_on_one_and_shares(family: str) -> None:
    pytest.importorskip("accelerate")
    items, media = asked()
    want = whole(family).answer(items, media)
    assert len({a.text for a in want}) > 3
    with spread_out(family, "accelerate") as model:
        assert str(model.thinker.device) == "xla:1"
        assert [str(d) for d in qwen_wrapped.homes(model.model)] == ["xla:1", "xla:2"]
        assert not model.plain
        assert "on 4 devices" in model.decoding
        assert "shared" in model.decoding
        assert_same(model.answer(items, media), want)
        seen = model.seen.get(((model._fed_as, ()), media[0].video_hash))
        assert seen is not None
        assert not isinstance(seen.features, Placed), "the towers are here, and so is what they made"
        model.plain = True
        assert_same(model.answer(items[:2], media[:2]), want[:2])


def test_keys_and_values_stay_with_their_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake devices are strict: rows picked by an index that is elsewhere are refused."""
    items, media = asked()
    where = []
    real = qwen_decode.spread

    def watched(prefix: qwen_decode.Prefix, at: Any) -> Any:
        cache = real(prefix, at)
        where.extend(str(layer.keys.device) for layer in cache.layers)
        return cache

    def careless(prefix: qwen_decode.Prefix, at: Any) -> Any:
        return [keys[at] for keys in prefix.keys]

    with spread_out("qwen2.5-omni") as model:
        monkeypatch.setattr(qwen_decode, "spread", watched)
        model.answer(items[:1], media[:1])
        assert where == ["xla:1", "xla:2"]
        monkeypatch.setattr(qwen_decode, "spread", careless)
        with pytest.raises(RuntimeError, match="same device"):
            model.answer(items[:1], media[:1])


def written(model: QwenOmni, limits: list[int]) -> list[list[int]]:
    """Tokens said to one question, asked at once with these limits."""
    items, media = asked()
    with torch.no_grad():
        seen, heard = model.encode(media[:1])
        before, after = inputs.split_prompt(model.thinker, items[0], "av")
        layout = inputs.lay_out(model.thinker, before, "av", seen[0], heard[0])
        prefix = qwen_decode.prefill(model.thinker, [layout], seen, heard)
        said = qwen_decode.ask(model.thinker, prefix, [Row(0, after, (), n) for n in limits], top=3)
    return [[s.token for s in one.steps] for one in said]


def test_rows_that_are_done_leave_every_layers_cache() -> None:
    want = written(whole("qwen2.5-omni"), [1, 6, 1, 1])
    assert [len(w) for w in want] == [1, 6, 1, 1]
    with spread_out("qwen2.5-omni") as model:
        assert written(model, [1, 6, 1, 1]) == want


# --- weights on the disk ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [("embed_tokens",), ("embed_tokens", "layers", "norm", "lm_head"), ("model.visual", "model.audio_tower")],
)
def test_with_weights_on_the_disk_it_answers_the_same(family: str, names: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    items, media = asked()
    want = whole(family).answer(items, media)
    model, processor = random_thinker(family)
    made = on_disk(model, names, tmp_path)
    assert (made.get_input_embeddings().weight.device.type == "meta") == ("embed_tokens" in names)
    asking = QwenOmni(wrap(made, processor, VIEW))
    assert asking.thinker.device == torch.device("cpu")
    assert "on cpu (weights offloaded)" in asking.decoding
    assert_same(asking.answer(items, media), want)


def test_embeddings_that_transformers_offloads_are_run_where_the_hook_says(folder: Path, shared: QwenOmni) -> None:
    """As ``device_map="auto"`` does with a checkpoint that is too large for the GPUs."""
    pytest.importorskip("accelerate")
    items, media = asked()
    where = {"model.visual": "cpu", "model.audio_tower": "cpu", STACK: "disk", "lm_head": "cpu"}
    made = type(shared.model).from_pretrained(folder, device_map=where, offload_folder=str(folder / "away"))
    assert made.get_input_embeddings().weight.device.type == "meta"
    model = QwenOmni(wrap(made, shared.processor, shared.view), name=shared.name)
    assert_same(model.answer(items[:3], media[:3]), shared.answer(items[:3], media[:3]))


def test_an_adapter_is_put_on_weights_that_are_on_the_disk(tmp_path: Path) -> None:
    """Its own weights belong where the layer computes: on "meta" beside the base's they would be nothing."""
    pytest.importorskip("accelerate")
    peft = pytest.importorskip("peft")
    items, media = asked()
    model, processor = random_thinker("qwen2.5-omni")
    tuned = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=adapters.text_linear_names(model, "all"))
    )
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    adapters.save_adapter(tuned, tmp_path / "adapter")
    want = QwenOmni(wrap(tuned, processor, VIEW)).answer(items, media)
    with tuned.disable_adapter():
        base = QwenOmni(wrap(tuned, processor, VIEW)).answer(items, media)
    assert [a.logprobs for a in want] != [a.logprobs for a in base]
    bare, _ = random_thinker("qwen2.5-omni")
    made = adapters.attach(
        on_disk(bare, ["layers.1"], tmp_path / "away"), adapters.read_adapter(tmp_path / "adapter")
    )
    assert_same(QwenOmni(wrap(made, processor, VIEW)).answer(items, media), want)


def test_weights_that_nothing_fetches_are_one_clear_error(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    model, processor = random_thinker("qwen2.5-omni")
    with torch.device("meta"):
        empty = type(model)(model.config)
    with pytest.raises(ValueError, match=r"no weights in memory and no hook that would fetch them.*unloaded"):
        wrap(empty, processor, VIEW)
    # A single layer without weights computes without an error, and answers anything.
    model.model.language_model.layers[1].mlp.up_proj.to("meta")
    with pytest.raises(ValueError, match=r"language_model\.layers\.1\.mlp\.up_proj has no weights in memory"):
        wrap(model, processor, VIEW)
    whole_one, _ = random_thinker("qwen2.5-omni")
    made = on_disk(whole_one, ["layers.0"], tmp_path)
    wrap(made, processor, VIEW)
    first = made.model.language_model.layers[0].self_attn.q_proj
    accelerate.hooks.add_hook_to_module(first, accelerate.hooks.ModelHook(), append=True)  # now several in one
    wrap(made, processor, VIEW)
    del first._hf_hook
    with pytest.raises(ValueError, match=r"layers\.0\.self_attn\.q_proj has no weights"):
        wrap(made, processor, VIEW)


@pytest.mark.parametrize("way", ["here", "on the disk", "adapted"])
def test_unloading_gives_all_weights_back(way: str, tmp_path: Path) -> None:
    model, processor = random_thinker("qwen2.5-omni")
    made = model
    if way == "on the disk":
        pytest.importorskip("accelerate")
        made = on_disk(model, ["layers.1", "lm_head"], tmp_path)
    elif way == "adapted":
        peft = pytest.importorskip("peft")
        made = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=adapters.text_linear_names(model)))
    asking = QwenOmni(wrap(made, processor, VIEW))
    told = json.dumps(asking.decoding)
    asking.unload()
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert not any(hasattr(m, "_hf_hook") for m in model.modules()), "a hook holds what it would fetch"
    assert ("offloaded" in told) == (way == "on the disk")
    with pytest.raises(ValueError, match="was it unloaded"):
        wrap(made, processor, VIEW)
