"""Is what the probe reads what eager attention would have said, in every way that a model can be run?

Reference everywhere: the same weights with ``attn_implementation="eager"`` and ``output_attentions=True``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from eager_reference import NEAR, by_group, eager  # noqa: E402
from earwitness.whitebox.attention import text_decoder  # noqa: E402
from earwitness.whitebox.capture import Edit, Taken, probe  # noqa: E402
from earwitness.whitebox.moments import GROUPS  # noqa: E402

from transformers import DynamicCache, StaticCache  # noqa: E402  # isort: skip
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as TABLE  # noqa: E402  # isort: skip

torch.set_num_threads(1)
T, PAD, HIDDEN = 90, 17, 64


def text_model(family: str, *, sliding: bool = False, seed: int = 0) -> Any:
    """A text decoder alone: 4 layers, 8 heads on 2 key heads; ``sliding``: every second one sees 48 tokens."""
    import transformers as t

    torch.manual_seed(seed)
    common: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": HIDDEN, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 8, "num_key_value_heads": 2, "initializer_range": 0.2,
        "max_position_embeddings": 512, "pad_token_id": 0, "eos_token_id": 1, "attn_implementation": "sdpa",
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 1e4}
    if family == "qwen2.5-omni":
        from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as code

        way: dict[str, Any] = {"rope_parameters": {**rope, "mrope_section": [1, 1, 2]}}
        if sliding:
            kinds = ["full_attention", "sliding_attention"] * 2
            way |= {"use_sliding_window": True, "sliding_window": 48, "layer_types": kinds}
        config = t.models.qwen2_5_omni.configuration_qwen2_5_omni.Qwen2_5OmniTextConfig(**common, **way)
        return code.Qwen2_5OmniThinkerTextModel(config).eval()
    from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as moe

    config = t.models.qwen3_omni_moe.configuration_qwen3_omni_moe.Qwen3OmniMoeTextConfig(
        **common, head_dim=16, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2,
        rope_parameters={**rope, "mrope_section": [4, 2, 2], "mrope_interleaved": True},
    )  # fmt: skip
    return moe.Qwen3OmniMoeThinkerTextModel(config).eval()


def inputs(batch: int = 1, *, padded: bool = False) -> tuple[Any, Any, Any]:
    """Embeddings, mask and random groups of a batch; ``padded``: all but the first row begin with padding."""
    made = torch.Generator().manual_seed(5)
    embeds = torch.randn(batch, T, HIDDEN, generator=made)
    mask = torch.ones(batch, T, dtype=torch.long)
    groups = torch.randint(0, len(GROUPS), (batch, T), generator=made)
    if padded:
        mask[1:, :PAD] = 0
        groups[1:, :PAD] = -1
    return embeds, mask, groups


def decoded(model: Any, embeds: Any, mask: Any, rows: int, steps: int, **kw: Any) -> list[Any]:
    """Prefill all but the last ``steps`` tokens, then one by one with the cache; outputs of each pass."""
    cache = DynamicCache(config=model.config)
    cuts = [0, *range(embeds.shape[1] - steps, embeds.shape[1] + 1)]
    return [
        model(inputs_embeds=embeds[:, a:b], attention_mask=mask[:, :b], past_key_values=cache, use_cache=True, **kw)
        for a, b in pairwise(cuts)
    ]


CASES = [
    ("qwen2.5-omni", False, False), ("qwen2.5-omni", False, True), ("qwen2.5-omni", True, False),
    ("qwen2.5-omni", True, True), ("qwen3-omni", False, False), ("qwen3-omni", False, True),
]  # fmt: skip


@pytest.mark.parametrize(("family", "sliding", "padded"), CASES)
def test_rows_of_one_pass_are_those_of_eager_attention(family: str, sliding: bool, padded: bool) -> None:
    model = text_model(family, sliding=sliding)
    embeds, mask, groups = inputs(2 if padded else 1, padded=padded)
    with torch.no_grad():
        plain = model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        with probe(model, groups, T - 6, values=True, keep=(1,)) as taken:
            watched = model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        with eager(model):
            told = model(inputs_embeds=embeds, attention_mask=mask, output_attentions=True).attentions
    assert torch.equal(plain, watched)
    wanted = torch.stack([by_group(a[:, :, T - 6 :], groups) for a in told])
    squares = torch.stack([by_group(a[:, :, T - 6 :], groups, 2) for a in told])
    near = NEAR[family]
    assert taken.mass.shape == (4, len(embeds), 8, 6, len(GROUPS))
    assert float((taken.mass - wanted).abs().max()) < near
    assert float((taken.mass2 - squares).abs().max()) < near
    assert float((taken.mass.sum(-1) - 1).abs().max()) < 1e-5
    assert float((taken.rows(1) - told[1][:, :, T - 6 :].mean(1)).abs().max()) < near
    if sliding:
        assert float(taken.rows(1)[:, :, : T - 6 - 48].abs().max()) == 0 < float(told[0][0, 0, -1, :20].max())


@pytest.mark.parametrize(("family", "sliding", "padded"), CASES)
def test_rows_of_decoding_with_a_cache_are_those_of_eager_attention(
    family: str, sliding: bool, padded: bool
) -> None:
    model = text_model(family, sliding=sliding)
    embeds, mask, groups = inputs(2 if padded else 1, padded=padded)
    prompt = T - 5
    with torch.no_grad():
        with probe(model, groups, prompt - 1, values=True, keep=(1, 2)) as taken:
            decoded(model, embeds, mask, prompt - 1, 5)
        with eager(model):
            told = [o.attentions for o in decoded(model, embeds, mask, prompt - 1, 5, output_attentions=True)]
    near = NEAR[family]
    assert taken.mass.shape[3] == 6
    for layer in range(4):
        rows = [told[0][layer][:, :, -1:], *(t[layer] for t in told[1:])]
        wanted = torch.cat([by_group(r, groups[:, : prompt + n]) for n, r in enumerate(rows)], 2)
        assert float((taken.mass[layer] - wanted).abs().max()) < near
    whole = taken.rows(1)[:, -1]
    width = told[-1][1].shape[-1]  # a sliding cache has dropped the first tokens
    assert float((whole[:, T - width :] - told[-1][1][:, :, 0].mean(1)).abs().max()) < near
    assert torch.isfinite(taken.value).all()


def test_value_norms_are_lengths_of_the_groups_parts_and_the_parts_make_the_output() -> None:
    model = text_model("qwen2.5-omni")
    embeds, mask, groups = inputs(2, padded=True)
    seen: dict[str, Any] = {}

    def spy(module: Any, query: Any, key: Any, value: Any, mask: Any, **kw: Any) -> Any:
        out = standing(module, query, key, value, mask, **kw)
        if module.layer_idx == 2:
            seen.update(value=value, out=out[0])
        return out

    standing = TABLE["sdpa"]
    TABLE["sdpa"] = spy
    try:
        with torch.no_grad(), probe(model, groups, T - 3, values=True) as taken:
            model(inputs_embeds=embeds, attention_mask=mask)
        assert TABLE["sdpa"] is spy  # someone else's entry is put back
    finally:
        del TABLE["sdpa"]
    with torch.no_grad(), eager(model):
        told = model(inputs_embeds=embeds, attention_mask=mask, output_attentions=True).attentions[2][:, :, -3:]
    hot = torch.stack([groups == n for n in range(len(GROUPS))], 1).float()  # [B, G, T]
    value = seen["value"].repeat_interleave(4, 1)
    parts = (told[:, :, :, None] * hot[:, None, None]) @ value[:, :, None]  # [B, H, R, G, D]
    assert float((taken.value[2] - parts.norm(dim=-1)).abs().max()) < 1e-4
    assert float((parts.sum(3).transpose(1, 2) - seen["out"][:, -3:]).abs().max()) < 1e-5


def test_left_padding_changes_nothing() -> None:
    model = text_model("qwen2.5-omni")
    embeds, mask, groups = inputs(2, padded=True)
    at = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        with probe(model, groups, T - 4, values=True) as both:
            model(inputs_embeds=embeds, attention_mask=mask, position_ids=at[None].expand(3, -1, -1))
        with probe(model, groups[1:, PAD:], T - PAD - 4, values=True) as alone:
            model(inputs_embeds=embeds[1:, PAD:], attention_mask=mask[1:, PAD:])
    assert float((both.mass[:, 1:] - alone.mass).abs().max()) < 5e-6
    assert float((both.value[:, 1:] - alone.value).abs().max()) < 1e-4


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("sliding", [False, True])
def test_the_masks_of_flash_attention_are_read_as_it_reads_them(sliding: bool, padded: bool) -> None:
    """Its way: no mask, or the padding mask [B, K], and the window as an argument. The kernel is emulated."""

    def kernel(module: Any, query: Any, key: Any, value: Any, mask: Any, **kw: Any) -> Any:
        assert mask is None or mask.ndim == 2
        rows, width = torch.arange(query.shape[2])[:, None], torch.arange(key.shape[2])[None]
        ok = width <= rows + key.shape[2] - query.shape[2]
        if kw.get("sliding_window"):
            ok = ok & (width > rows - kw["sliding_window"])
        ok = ok[None, None] if mask is None else ok[None, None] & mask[:, None, None].bool()
        more = {"key": key.repeat_interleave(4, 1), "value": value.repeat_interleave(4, 1)}
        out = torch.nn.functional.scaled_dot_product_attention(query, **more, attn_mask=ok, scale=kw["scaling"])
        return out.transpose(1, 2).nan_to_num(), None

    model = text_model("qwen2.5-omni", sliding=sliding)
    embeds, mask, groups = inputs(2, padded=padded)
    with torch.no_grad(), eager(model):
        told = model(inputs_embeds=embeds, attention_mask=mask, output_attentions=True).attentions
    TABLE["flash_attention_2"] = kernel
    try:
        model.config._attn_implementation = "flash_attention_2"
        with torch.no_grad(), probe(model, groups, T - 6) as taken:
            model(inputs_embeds=embeds, attention_mask=mask)
    finally:
        del TABLE["flash_attention_2"]
    wanted = torch.stack([by_group(a[:, :, -6:], groups) for a in told])
    assert float((taken.mass - wanted).abs().max()) < 1e-5


def test_rows_are_read_in_float32_whatever_the_model_computes_in() -> None:
    model = text_model("qwen2.5-omni").to(torch.bfloat16)
    embeds, mask, groups = inputs()
    seen: dict[str, Any] = {}

    def spy(module: Any, query: Any, key: Any, value: Any, mask: Any, **kw: Any) -> Any:
        if module.layer_idx == 1:
            seen.update(q=query.double(), k=key.double().repeat_interleave(4, 1), scaling=kw["scaling"])
        return standing(module, query, key, value, mask, **kw)

    standing = TABLE["sdpa"]
    TABLE["sdpa"] = spy
    try:
        with torch.no_grad(), probe(model, groups, T - 1) as taken:
            model(inputs_embeds=embeds.bfloat16(), attention_mask=mask)
    finally:
        del TABLE["sdpa"]
    truth = (seen["q"][:, :, -1:] @ seen["k"].transpose(2, 3) * seen["scaling"]).softmax(-1)
    rounded = (seen["q"][:, :, -1:].bfloat16() @ seen["k"].bfloat16().transpose(2, 3) * seen["scaling"]).softmax(-1)
    mine = float((taken.mass[1] - by_group(truth, groups)).abs().max())
    theirs = float((by_group(rounded, groups) - by_group(truth, groups)).abs().max())
    assert mine < 1e-6 < theirs


def test_gradient_checkpointing_is_read_once_and_its_gradients_stay() -> None:
    model = text_model("qwen2.5-omni").train()
    embeds, mask, groups = inputs()

    def gradient(watch: bool, edit: bool) -> tuple[Any, Taken | None]:
        model.zero_grad()
        bias = {1: [Edit(torch.ones(T, dtype=torch.bool), groups[0] == 3)]} if edit else None
        if watch or edit:
            with probe(model, groups if watch else None, T - 2, bias) as taken:
                model(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state.sum().backward()
        else:
            model(inputs_embeds=embeds, attention_mask=mask, use_cache=False).last_hidden_state.sum().backward()
            taken = None
        return model.layers[0].self_attn.q_proj.weight.grad.clone(), taken

    plain, _ = gradient(watch=False, edit=False)
    cut, _ = gradient(watch=False, edit=True)
    for reentrant in (False, True):
        model.activation_checkpointing_enable({"use_reentrant": reentrant})
        embeds.requires_grad_(reentrant)
        made, taken = gradient(watch=True, edit=False)
        assert taken is not None
        assert taken.mass.shape[3] == 2
        torch.testing.assert_close(made, plain)
        torch.testing.assert_close(gradient(watch=True, edit=True)[0], cut)
        embeds.requires_grad_(False)
        model.activation_checkpointing_disable()
    assert float((cut - plain).abs().max()) > 1e-3


def test_an_edit_equals_a_dense_mask() -> None:
    """Cut and weighed paths, few rows (plain products) and many (the fused kernel), padded, one head alone."""
    model = text_model("qwen2.5-omni")
    embeds, mask, groups = inputs(2, padded=True)
    keys, late, standing = groups == 6, torch.arange(T) >= T - 3, TABLE["sdpa"]
    for queries, value, heads in (
        (late, -torch.inf, None), (late, 0.7, (1, 5)), (groups == 7, -torch.inf, None), (groups != 2, -1.5, (2,)),
    ):  # fmt: skip
        edit = Edit(queries, keys, value, heads)
        rows = torch.arange(PAD, T)
        asking = queries[None].expand(2, -1) if queries.ndim == 1 else queries
        dense = torch.zeros(2, 8, T, T).masked_fill_(
            (asking[:, :, None] & keys[:, None])[:, None], max(value, -1e9)
        )
        if heads is not None:
            dense[:, [h for h in range(8) if h not in heads]] = 0

        def masked(module: Any, query: Any, key: Any, val: Any, mask: Any, dense: Any = dense, **kw: Any) -> Any:
            own = torch.zeros(mask.shape).masked_fill_(~mask, -torch.inf)
            return standing(module, query, key, val, own + dense * (module.layer_idx in (1, 2)), **kw)

        with torch.no_grad():
            TABLE["sdpa"] = masked
            try:
                wanted = model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
            finally:
                del TABLE["sdpa"]
            with probe(model, groups, rows, {1: [edit], 2: [edit]}) as taken:
                made = model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
            plain = model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        real = mask.bool()
        assert float((made - wanted)[real].abs().max()) < 1e-5
        assert float((made - plain)[real].abs().max()) > 1e-2
        if value == -torch.inf:
            cut = taken.mass[1:3, 0][:, :, asking[0, PAD:], 6]
            assert float(cut.abs().max()) == 0 < float(taken.mass[0, 0][:, asking[0, PAD:], 6].max())
            own = taken.mass[:, 0].sum(-1)
            assert float((own - 1).abs().max()) < 1e-5


def test_a_row_left_with_nothing_to_see_takes_in_nothing() -> None:
    model = text_model("qwen2.5-omni")
    embeds, mask, groups = inputs()
    for few in (True, False):
        queries = torch.arange(T) == 3 if few else torch.arange(T) < 60
        edit = {0: [Edit(queries, torch.arange(T) >= 0)]}
        with torch.no_grad(), probe(model, groups, 3, edit) as taken:
            out = model(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        assert torch.isfinite(out).all()
        assert float(taken.mass[0, :, :, 0].abs().max()) == 0


@pytest.mark.slow
def test_a_compiled_model_is_read_too() -> None:
    model = text_model("qwen2.5-omni")
    embeds, mask, groups = inputs()
    with torch.no_grad():
        with probe(model, groups, T - 6) as plain:
            model(inputs_embeds=embeds, attention_mask=mask)
        compiled = torch.compile(model, backend="eager")
        compiled(inputs_embeds=embeds, attention_mask=mask)
        with probe(text_decoder(compiled), groups, T - 6) as taken:
            compiled(inputs_embeds=embeds, attention_mask=mask)
    assert float((taken.mass - plain.mass).abs().max()) < 1e-6


def test_the_table_is_put_back_and_other_models_are_left_alone() -> None:
    mine, other = text_model("qwen2.5-omni"), text_model("qwen3-omni", seed=1)
    embeds, mask, groups = inputs()
    before, local = TABLE["sdpa"], dict(TABLE._local_mapping)
    with torch.no_grad():
        wanted = other(inputs_embeds=embeds, attention_mask=mask).last_hidden_state
        with probe(mine, groups, T - 1) as taken:
            assert torch.equal(other(inputs_embeds=embeds, attention_mask=mask).last_hidden_state, wanted)
        with pytest.raises(ValueError, match="no wanted row"):
            _ = taken.mass
        with pytest.raises(RuntimeError), probe(mine, groups, T - 1):
            mine(inputs_embeds=embeds[..., :5], attention_mask=mask)
        assert TABLE["sdpa"] is before
        assert dict(TABLE._local_mapping) == local
        assert not mine._forward_pre_hooks
        with probe(mine, groups, T - 2) as outer, probe(mine, groups, T - 1) as inner:
            mine(inputs_embeds=embeds, attention_mask=mask)
    assert float((outer.mass[:, :, :, 1:] - inner.mass).abs().max()) < 1e-6
    assert TABLE["sdpa"] is before


def test_eager_attention_can_be_read_too() -> None:
    model = text_model("qwen2.5-omni")
    embeds, mask, groups = inputs(2, padded=True)
    with torch.no_grad(), eager(model), probe(model, groups, T - 2) as outer:
        with probe(model, groups, T - 1) as taken:
            told = model(inputs_embeds=embeds, attention_mask=mask, output_attentions=True).attentions
        assert "eager" in TABLE  # the outer one still stands
        model(inputs_embeds=embeds, attention_mask=mask)
    wanted = torch.stack([by_group(a[:, :, -1:], groups) for a in told])
    assert float((taken.mass - wanted).abs().max()) < 1e-6
    assert outer.mass.shape[3] == 4
    assert "eager" not in TABLE


def test_what_cannot_be_read_is_refused() -> None:
    model = text_model("qwen2.5-omni")
    _, _, groups = inputs()
    with pytest.raises(ValueError, match="no layer 4: the model has 4"), probe(model, groups, 0, keep=(4,)):
        pass
    model.config._attn_implementation = "no_such_kernel"
    with pytest.raises(ValueError, match=r"'no_such_kernel'.*attn='sdpa'"), probe(model, groups, 0):
        pass
    with pytest.raises(ValueError, match="no stack of text layers found in Linear"):
        text_decoder(torch.nn.Linear(2, 2))


def test_a_static_cache_filled_by_hand_reads_the_same() -> None:
    model = text_model("qwen2.5-omni")
    embeds, mask, groups = inputs()
    with torch.no_grad():
        with probe(model, groups, T - 6) as one:
            decoded(model, embeds, mask, T - 6, 5)
        cache = StaticCache(config=model.config, max_cache_len=T + 40)
        with probe(model, groups, T - 6) as other:
            for a, b in ((0, 30), (30, T - 5), *((n, n + 1) for n in range(T - 5, T))):
                model(inputs_embeds=embeds[:, a:b], past_key_values=cache, use_cache=True)
    assert float((one.mass - other.mass).abs().max()) < 5e-6
