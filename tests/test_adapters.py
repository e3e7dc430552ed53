"""What training leaves of a thinker: adapters on the text model alone, merged, renamed, loaded, bit by bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_thinkers
from earwitness.models import adapters, checkpoints, weight_names
from earwitness.models.load import load_model
from earwitness.models.qwen_load import load_thinker
from earwitness.models.qwen_omni import QwenOmni

FAMILIES: list[tiny_thinkers.Family] = ["qwen2.5-omni", "qwen3-omni"]
# PEFT 0.21 asks transformers 5.23 by an old name.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
CHOICES = ("bell", "drum", "dog barking")


def lora(model: Any, names: list[str], seed: int = 1, **kw: Any) -> Any:
    """A PEFT model with an adapter that says something (PEFT's own starts at zero)."""
    from peft import LoraConfig, get_peft_model

    tuned = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=names, **kw))
    torch.manual_seed(seed)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return tuned


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder per family with a base checkpoint, an adapter of it, and the logits that both give together."""
    made: dict[str, Path] = {}

    def folder(family: Any) -> Path:
        if family not in made:
            at = tmp_path_factory.mktemp(family.replace(".", "_"))
            tiny_thinkers.save(family, at / "base", view=tiny_thinkers.VIEW)
            thinker, _, _ = load_thinker(at / "base")
            tuned = lora(thinker.model, adapters.text_linear_names(thinker.model))
            adapters.save_adapter(tuned, at / "adapter")
            adapters.save_thinker(thinker, at / "peft", model=tuned.merge_and_unload())
            made[family] = at
        return made[family]

    return folder


def said(model: QwenOmni) -> dict[str, float]:
    item = tiny_thinkers.item(0, "What do you hear?", CHOICES, decode=2)
    (answer,) = model.answer([item], [tiny_thinkers.media(3)])
    assert answer.logprobs
    return answer.logprobs


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for file in folder.glob("*.safetensors") for k, v in load_file(file).items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# targets


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("which", ["attention", "qv", "all"])
def test_lora_lands_on_the_text_model_and_the_towers_stay_as_they_are(family: Any, which: Any) -> None:
    model, _ = tiny_thinkers.build(family)
    names = adapters.text_linear_names(model, which)
    assert len(set(names)) == len(names) > 0
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tuned = lora(model, names)
    on = {
        n.partition(".lora_")[0].removeprefix("base_model.model.")
        for n, _ in tuned.named_parameters()
        if "lora" in n
    }
    assert on == set(names)
    optimiser = torch.optim.SGD([p for p in tuned.parameters() if p.requires_grad], lr=0.1)
    ids = torch.arange(8)[None]
    tuned(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss.backward()
    optimiser.step()
    merged = tuned.merge_and_unload().state_dict()
    moved = {k for k in before if not torch.equal(before[k], merged[k])}
    assert moved == {f"{n}.weight" for n in names}
    assert not any(weight_names.bare(k).startswith(weight_names.TOWERS) for k in moved)


def test_all_is_the_attention_where_experts_are_fused_and_says_so() -> None:
    dense, mixture = (tiny_thinkers.build(family)[0] for family in FAMILIES)
    assert adapters.fused_experts(dense) == 0
    assert adapters.fused_experts(mixture) == 2
    assert adapters.text_linear_names(mixture, "all") == adapters.text_linear_names(mixture)
    assert len(adapters.text_linear_names(dense, "all")) == 2 * 7
    assert len(adapters.text_linear_names(dense, "qv")) == 2 * 2


def test_targets_of_what_is_no_thinker_or_not_known() -> None:
    model, _ = tiny_thinkers.build("qwen2.5-omni")
    with pytest.raises(ValueError, match="'everything' is not known; known: attention, qv, all"):
        adapters.text_linear_names(model, "everything")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"give the thinker itself .*get_base_model"):
        adapters.text_linear_names(lora(model, adapters.text_linear_names(model)))


# merging and loading


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_on_disk_is_merged_in_memory_bit_by_bit_and_loads_again(
    family: Any, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    at = saved(family)
    checkpoints.merge(at / "adapter", tmp_path / "merged")
    assert same(weights(tmp_path / "merged"), weights(at / "peft"))
    assert not same(weights(tmp_path / "merged"), weights(at / "base"))
    merged = load_model(f"{family}:{tmp_path / 'merged'}")
    again = load_model(f"{family}:{at / 'peft'}")
    assert said(merged) == said(again)  # type: ignore[arg-type]
    assert merged.view == load_model(f"{family}:{at / 'base'}").view
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_with_an_adapter_answers_as_the_merged_one(
    family: Any, saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = saved(family)
    base, plain = f"{family}:{at / 'base'}", load_model(f"{family}:{at / 'base'}")
    tuned = load_model(base, adapter=str(at / "adapter"))
    assert any(".lora_A" in name for name, _ in tuned.model.named_parameters())  # type: ignore[attr-defined]
    assert tuned.name == f"{base}+adapter"
    assert tuned.revision == f"{plain.revision}+{adapters.read_adapter(at / 'adapter').digest}"
    both, merged = said(tuned), said(QwenOmni(at / "peft"))  # type: ignore[arg-type]
    assert both == pytest.approx(merged, abs=1e-4)
    assert max(abs(both[c] - said(plain)[c]) for c in CHOICES) > 0.01  # type: ignore[arg-type]
    other = at / "other"
    if not other.exists():
        thinker, _, _ = load_thinker(at / "base")
        adapters.save_adapter(lora(thinker.model, adapters.text_linear_names(thinker.model), seed=2), other)
    assert load_model(base, adapter=str(other)).revision != tuned.revision


def test_the_setting_reaches_the_model(saved: Callable[[str], Path]) -> None:
    from earwitness.session.settings import chosen

    at = saved("qwen2.5-omni")
    _, options = chosen({"adapter": str(at / "adapter")}, model="qwen2.5-omni:x", seed=0)
    assert load_model(f"qwen2.5-omni:{at / 'base'}", **options.for_model).name.endswith("+adapter")
    assert all(chosen({}, model=m, seed=0)[0].long_context_tokens == 400 for m in ("hans", "hans+adapter"))
    with pytest.raises(ValueError, match="fake:hears takes no adapter"):
        load_model("fake:hears", **options.for_model)


def test_scales_ranks_and_patterns_are_those_of_peft(tmp_path: Path) -> None:
    tiny_thinkers.save("qwen2.5-omni", tmp_path / "base")
    thinker, _, _ = load_thinker(tmp_path / "base")
    names = adapters.text_linear_names(thinker.model, "all")
    tuned = lora(
        thinker.model, names, use_rslora=True,
        rank_pattern={"q_proj": 2, "layers.1.self_attn.v_proj": 8}, alpha_pattern={"o_proj": 3, "q_proj": 5},
    )  # fmt: skip
    adapters.save_adapter(tuned, tmp_path / "adapter")
    adapters.save_thinker(thinker, tmp_path / "peft", model=tuned.merge_and_unload())
    checkpoints.merge(tmp_path / "adapter", tmp_path / "merged")
    theirs, ours = weights(tmp_path / "peft"), weights(tmp_path / "merged")
    assert all(torch.allclose(theirs[k], ours[k], atol=1e-6) for k in theirs)
    fresh, _, _ = load_thinker(tmp_path / "base", adapter=tmp_path / "adapter")
    scales = {n: m.scaling["default"] for n, m in fresh.model.named_modules() if hasattr(m, "lora_A")}
    found = adapters.read_adapter(tmp_path / "adapter")
    assert {weight_names.bare(n): s for n, s in scales.items()} == pytest.approx(
        {n: p.scale for n, p in found.parts.items()}
    )
    # One scale for all in vLLM: worked into the weights there, and back.
    checkpoints.write_adapter(tmp_path / "adapter", tmp_path / "vllm", form="vllm")
    other = adapters.read_adapter(tmp_path / "vllm")
    told = json.loads((tmp_path / "vllm" / "adapter_config.json").read_text())
    assert told["r"] == 4
    for name, part in found.parts.items():
        served = other.parts[name]
        assert torch.allclose(served.b @ served.a * (8 / 4**0.5), part.b @ part.a * part.scale, atol=1e-5)


def test_a_sharded_bfloat16_base_is_rounded_once_and_indexed(saved: Callable[[str], Path], tmp_path: Path) -> None:
    at = saved("qwen2.5-omni")
    thinker, _, _ = load_thinker(at / "base", dtype="bfloat16")
    thinker.model.save_pretrained(tmp_path / "base", max_shard_size="200KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    checkpoints.merge(at / "adapter", tmp_path / "merged", base=tmp_path / "base")
    base, merged = weights(tmp_path / "base"), weights(tmp_path / "merged")
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == merged.keys() == base.keys()
    for name, part in adapters.read_adapter(at / "adapter").parts.items():
        exact = base[f"{name}.weight"].float() + part.b @ part.a * part.scale
        assert torch.equal(merged[f"{name}.weight"], exact.to(torch.bfloat16))


def test_save_thinker_keeps_how_it_is_fed(saved: Callable[[str], Path], tmp_path: Path) -> None:
    thinker, _, _ = load_thinker(saved("qwen2.5-omni") / "base", fps=1.0, max_pixels=50_000, system="Listen.")
    adapters.save_thinker(thinker, tmp_path / "new")
    again, manual, _ = load_thinker(tmp_path / "new")
    assert (again.view, again.system, manual.name) == (thinker.view, "Listen.", None)
    with pytest.raises(ValueError, match="holds a model already"):
        adapters.save_thinker(thinker, tmp_path / "new")
    tuned = lora(thinker.model, adapters.text_linear_names(thinker.model))
    with pytest.raises(ValueError, match="an adapter lies on this model"):
        adapters.save_thinker(thinker, tmp_path / "lora", model=tuned)


# layouts and names


@pytest.mark.parametrize("family", FAMILIES)
def test_a_full_layout_loads_in_the_full_class_and_here(
    family: Any, saved: Callable[[str], Path], tmp_path: Path
) -> None:
    import transformers

    at = saved(family)
    checkpoints.to_full(at / "peft", tmp_path / "full")
    full = weights(tmp_path / "full")
    assert same({k.removeprefix("thinker."): v for k, v in full.items()}, weights(at / "peft"))
    config = json.loads((tmp_path / "full" / "config.json").read_text())
    whole = getattr(transformers, config["architectures"][0]).from_pretrained(tmp_path / "full")
    thinker, _, _ = load_thinker(at / "peft")
    assert same(whole.thinker.state_dict(), thinker.model.state_dict())
    assert not whole.has_talker
    assert said(load_model(f"{family}:{tmp_path / 'full'}")) == said(QwenOmni(at / "peft"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no thinker: it is full already"):
        checkpoints.to_full(tmp_path / "full", tmp_path / "more")


def test_a_full_base_keeps_its_talker(saved: Callable[[str], Path], tmp_path: Path) -> None:
    at = saved("qwen2.5-omni")
    full = tiny_thinkers.save("qwen2.5-omni", tmp_path / "published", full=True)
    with_talker = weights(full) | {"talker.model.layers.0.self_attn.q_proj.weight": torch.ones(64, 64)}
    save_file(with_talker, full / "model.safetensors", {"format": "pt"})
    torch.save({"Chelsie": {}}, full / "spk_dict.pt")
    # An adapter merges straight into it; a thinker's checkpoint is put into it.
    checkpoints.merge(at / "adapter", tmp_path / "merged", base=full)
    checkpoints.to_full(at / "peft", tmp_path / "refilled", base=full)
    merged, refilled = weights(tmp_path / "merged"), weights(tmp_path / "refilled")
    assert same(merged, refilled)
    assert torch.equal(merged["talker.model.layers.0.self_attn.q_proj.weight"], torch.ones(64, 64))
    assert same(
        {k.removeprefix("thinker."): v for k, v in merged.items() if k.startswith("thinker.")}, weights(at / "peft")
    )
    assert (tmp_path / "refilled" / "spk_dict.pt").is_file()
    with pytest.raises(ValueError, match="not the 'qwen3_omni_moe' of"):
        checkpoints.to_full(saved("qwen3-omni") / "peft", tmp_path / "mixed", base=full)


@pytest.mark.parametrize("family", FAMILIES)
def test_vllm_names_and_back(family: Any, saved: Callable[[str], Path], tmp_path: Path) -> None:
    at = saved(family)
    checkpoints.write_adapter(at / "adapter", tmp_path / "vllm", form="vllm")
    served = weights(tmp_path / "vllm")
    assert all(name.startswith("base_model.model.thinker.model.layers.") for name in served)
    # As vLLM 0.33 reads them: the wrapper's prefix off, the first fitting rule of the thinker's weight mapper on.
    mapper = {
        "thinker.lm_head.": "language_model.lm_head.",
        "thinker.model.": "language_model.model.",
        "thinker.": "",
    }
    for name in served:
        inner = name.removeprefix("base_model.model.")
        rule = next(old for old in mapper if inner.startswith(old))
        module = (mapper[rule] + inner.removeprefix(rule)).partition(".lora_")[0]
        assert module.startswith("language_model.model.layers.")
        assert module.rpartition(".")[2] in {"q_proj", "k_proj", "v_proj", "o_proj"}
    checkpoints.write_adapter(tmp_path / "vllm", tmp_path / "peft", form="peft")
    assert same(weights(tmp_path / "peft"), weights(at / "adapter"))
    digests = {adapters.read_adapter(p).digest for p in (at / "adapter", tmp_path / "vllm", tmp_path / "peft")}
    assert len(digests) == 1
    from peft import PeftModel

    thinker, _, _ = load_thinker(at / "base")
    theirs = PeftModel.from_pretrained(thinker.model, tmp_path / "peft").merge_and_unload()
    adapters.save_thinker(thinker, tmp_path / "again", model=theirs)
    assert same(weights(tmp_path / "again"), weights(at / "peft"))


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("model.language_model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("base_model.model.thinker.model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("base_model.model.model.language_model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("base_model.model.thinker.model.language_model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("language_model.model.layers.0.mlp.up_proj", "model.layers.0.mlp.up_proj"),
        ("language_model.lm_head", "lm_head"),
        ("thinker.lm_head", "lm_head"),
        ("thinker.visual.blocks.0.attn.q", "visual.blocks.0.attn.q"),
        ("model.audio_tower.layers.0.fc1", "audio_tower.layers.0.fc1"),
        ("talker.model.layers.0.self_attn.q_proj", "talker.model.layers.0.self_attn.q_proj"),
    ],
)
def test_names_come_to_one_form(name: str, own: str) -> None:
    assert weight_names.bare(name) == own
    assert weight_names.bare(weight_names.in_memory(own)) == own
    assert weight_names.is_text(own) == own.startswith(("model.", "lm_head"))


# refusals


def altered(source: Path, target: Path, config: dict[str, Any] | None = None, **renamed: str) -> Path:
    target.mkdir()
    told = json.loads((source / "adapter_config.json").read_text()) | (config or {})
    (target / "adapter_config.json").write_text(json.dumps(told))
    old, new = renamed.get("old", ""), renamed.get("new", "")
    tensors = {k.replace(old, new): v for k, v in load_file(source / "adapter_model.safetensors").items()}
    save_file(tensors, target / "adapter_model.safetensors")
    return target


def test_what_is_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    at = saved("qwen2.5-omni")
    good, base = at / "adapter", at / "base"
    with pytest.raises(ValueError, match=r"no adapter: there is no adapter_config.json \(a trainer's folder"):
        adapters.read_adapter(base)
    with pytest.raises(ValueError, match=r"more than a plain LoRA adapter \(use_dora\)"):
        adapters.read_adapter(altered(good, tmp_path / "dora", {"use_dora": True}))
    with pytest.raises(ValueError, match=r"more than a plain LoRA adapter \(IA3\)"):
        adapters.read_adapter(altered(good, tmp_path / "ia3", {"peft_type": "IA3"}))
    with pytest.raises(ValueError, match="is no half of a LoRA weight"):
        adapters.read_adapter(altered(good, tmp_path / "odd", old="lora_A.weight", new="lora_magnitude_vector"))
    deeper = altered(good, tmp_path / "deeper", old="layers.1.", new="layers.7.")
    with pytest.raises(
        ValueError, match=r"adapter of another model: it adds .*layers\.7.*, which the model has not"
    ):
        load_thinker(base, adapter=deeper)
    with pytest.raises(ValueError, match=r"has no weight of model.layers.7.* and 3 more of the 8 modules"):
        checkpoints.merge(deeper, tmp_path / "x")
    shape = altered(good, tmp_path / "shape", old="layers.1.self_attn.k_proj", new="layers.1.mlp.up_proj")
    with pytest.raises(ValueError, match=r"adds 32 x 64 numbers to .*up_proj, which is 128 x 64 in the model"):
        load_thinker(base, adapter=shape)
    with pytest.raises(ValueError, match=r"up_proj.weight, which is 128 x 64: it is an adapter of another model"):
        checkpoints.merge(shape, tmp_path / "x")
    eyes = altered(
        good, tmp_path / "eyes", old="language_model.layers.0.self_attn.q_proj", new="visual.blocks.0.attn.q"
    )
    with pytest.raises(ValueError, match=r"tunes 1 modules that vLLM puts no adapter on, such as visual.blocks.0"):
        checkpoints.write_adapter(eyes, tmp_path / "y", form="vllm")
    assert adapters.read_adapter(eyes).towers == ["visual.blocks.0.attn.q"]
    with pytest.raises(ValueError, match="exists already"):
        checkpoints.merge(good, base)
    with pytest.raises(ValueError, match="does not say what it was trained on"):
        checkpoints.merge(altered(good, tmp_path / "orphan", {"base_model_name_or_path": None}), tmp_path / "z")
    with pytest.raises(ValueError, match="no folder /nowhere"):
        checkpoints.merge(good, tmp_path / "z", base="/nowhere")
    broken = load_file(good / "adapter_model.safetensors")
    next(iter(broken.values()))[0, 0] = float("nan")
    nan = altered(good, tmp_path / "nan")
    save_file(broken, nan / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="not finite after merging"):
        checkpoints.merge(nan, tmp_path / "z")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".") or p.name in "xyz"]
