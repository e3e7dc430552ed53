"""Does the lens read each layer right? Against the model's own logits and hidden states."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_thinkers as tiny  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.whitebox import lens  # noqa: E402
from earwitness.whitebox.attention import text_decoder  # noqa: E402
from earwitness.whitebox.capture import capture  # noqa: E402

from transformers import DynamicCache  # noqa: E402  # isort: skip

torch.set_num_threads(1)


def ids(length: int = 40) -> Any:
    return torch.randint(30, 400, (2, length), generator=torch.Generator().manual_seed(3))


def test_each_layer_is_normed_and_projected_and_the_last_is_the_model(family: str, shared: QwenOmni) -> None:
    model, tokens = shared.model, ids()
    decoder, head = text_decoder(model), model.lm_head
    picks = torch.randint(0, 400, (2, 5, 3), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        out = model(input_ids=tokens, output_hidden_states=True)
        hooks = [len(x._forward_hooks) + len(x._forward_pre_hooks) for x in (decoder, *decoder.layers)]
        with lens.states(decoder, 35) as kept:
            model(input_ids=tokens)
        got = lens.read(decoder, head, kept, picks)
        # hidden_states[-1] is normed already, those before are not
        layers = [head(decoder.norm(out.hidden_states[1][:, 35:])), out.logits[:, 35:]]
    last = layers[-1].log_softmax(-1)
    for n, logits in enumerate(layers):
        logp = logits.log_softmax(-1)
        p = logp.exp()
        entropy = -(p * logp).sum(-1) / math.log(logits.shape[-1])
        ten = logits.topk(10).values.softmax(-1)
        assert torch.allclose(got.entropy[n], entropy, atol=1e-5)
        assert torch.allclose(got.u_top10[n], -(ten * ten.log()).sum(-1) / math.log(10), atol=1e-5)
        assert torch.allclose(got.kl[n], (p * (logp - last)).sum(-1), atol=1e-4)
        assert torch.allclose(got.logp[n], logp.gather(-1, picks), atol=1e-4)
    assert float(got.kl[-1].abs().max()) < 1e-6 < float(got.kl[0].min())
    assert hooks == [len(x._forward_hooks) + len(x._forward_pre_hooks) for x in (decoder, *decoder.layers)]


def test_entropies_of_known_distributions() -> None:
    """A stack of one layer that hands through what it gets: logits are what we say."""
    decoder = torch.nn.Module()
    decoder.norm = torch.nn.Identity()
    decoder.norm.weight = torch.ones(1)
    head = torch.nn.Linear(50, 50, bias=False)
    torch.nn.init.eye_(head.weight)
    even = torch.zeros(50)
    sure = torch.zeros(50)
    sure[7] = 100.0
    two = torch.full((50,), -100.0)
    two[[3, 4]] = 0.0
    kept = lens.States()
    kept.add(0, torch.stack([even, sure, two])[None])
    got = lens.read(decoder, head, kept, torch.tensor([[[0], [7], [3]]]))
    assert got.u_top10[0, 0].tolist() == pytest.approx([1, 0, math.log(2) / math.log(10)], abs=1e-6)
    assert got.entropy[0, 0].tolist() == pytest.approx([1, 0, math.log(2) / math.log(50)], abs=1e-6)
    assert got.logp[0, 0, :, 0].tolist() == pytest.approx([-math.log(50), 0, -math.log(2)], abs=1e-6)


def test_states_while_decoding_are_those_of_one_pass(family: str, shared: QwenOmni) -> None:
    model, tokens = shared.model, ids()
    decoder = text_decoder(model)
    with torch.no_grad():
        with lens.states(decoder, 35) as once:
            model(input_ids=tokens)
        cache = DynamicCache(config=decoder.config)
        with lens.states(decoder, torch.tensor([35, 37, 39])) as stepped:
            for a, b in ((0, 36), (36, 37), (37, 38), (38, 39), (39, 40)):
                model(input_ids=tokens[:, a:b], past_key_values=cache, use_cache=True)
    for n in once:
        assert float((once[n][:, [0, 2, 4]] - stepped[n]).abs().max()) < 1e-4
    with lens.states(decoder, 0, layers=[1]) as one, torch.no_grad():
        model(input_ids=tokens)
    assert list(one) == [1]


def test_only_the_needed_rows_are_projected_and_how_many_at_once_does_not_matter(
    shared: QwenOmni, monkeypatch: pytest.MonkeyPatch
) -> None:
    item, media = tiny.item(0, "What do you hear?", ("bell", "drum")), tiny.media(0)
    projected: list[int] = []
    hook = shared.model.lm_head.register_forward_hook(lambda m, a, out: projected.append(out.shape[0]))
    try:
        (wanted,) = capture(shared, [item], [media], ["dog barking"])
        rows = wanted.mass.shape[2]
        assert sum(projected) == rows * (1 + 2)  # the last layer first, as what the others are held to
        monkeypatch.setattr(lens, "LOGITS", 1)
        projected.clear()
        (got,) = capture(shared, [item], [media], ["dog barking"])
        assert set(projected) == {1}
    finally:
        hook.remove()
    for name in ("u_top10", "entropy", "kl", "logp_answer"):
        a, b = getattr(got, name), getattr(wanted, name)
        assert a.shape == (2, rows)
        assert np.abs(a - b).max() < 1e-5
    for choice, by_layer in got.logp_choice.items():
        assert by_layer.shape == (2,)
        assert np.abs(by_layer - wanted.logp_choice[choice]).max() < 1e-5
    (without,) = capture(shared, [item], [media], ["dog barking"], lens=False)
    assert without.entropy is None
    assert without.logp_choice == {}
    assert np.array_equal(without.mass, wanted.mass)


def test_picks_must_be_of_the_rows_kept() -> None:
    kept = lens.States()
    kept.add(0, torch.zeros(1, 3, 4))
    with pytest.raises(ValueError, match=r"picks for \(1, 2\) rows, but the states are of \(1, 3\)"):
        lens.read(torch.nn.Module(), torch.nn.Linear(4, 4), kept, torch.zeros(1, 2, 1, dtype=torch.long))
