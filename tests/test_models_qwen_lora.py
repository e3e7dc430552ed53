"""Does a thinker in PEFT's wrapper answer with its adapter, and without it where it is switched off?"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="local models are an extra")

import tiny_thinkers as tiny  # noqa: E402 - before peft, which loads transformers

peft = pytest.importorskip("peft")

from earwitness.models.load import load_model  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni, wrap  # noqa: E402
from earwitness.records import Answer, Item, Media  # noqa: E402
from spread_thinkers import VIEW, random_thinker  # noqa: E402
from tuned import adapted  # noqa: E402

# PEFT 0.21.2 asks for a name that transformers is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
torch.set_num_threads(1)
PROMPT = "Which class best describes the *audio content* of this video? Options: {bell, drum}."
CHOICES = ("bell", "drum", "dog barking")


def fresh(kind: str) -> tuple[Any, Any]:
    """A model of its own copy of the weights, and how it is fed."""
    if kind == "hans":
        hans = load_model("hans")
        assert isinstance(hans, QwenOmni)
        return hans.model, hans
    model, processor = random_thinker(kind)
    return model, QwenOmni(wrap(model, processor, VIEW))


def asked() -> tuple[list[Item], list[Media]]:
    """Two clips of different length, one padded; choices and free text."""
    media = [tiny.media(0), tiny.media(1, seconds=4.0)]
    prompts: list[tuple[str, tuple[str, ...]]] = [(PROMPT, CHOICES), ("What do you hear?", ())]
    items = [tiny.item(2 * m + n, p, c, decode=6) for m in range(2) for n, (p, c) in enumerate(prompts)]
    return items, [m for m in media for _ in prompts]


def far(some: list[Answer], others: list[Answer]) -> float:
    """The largest difference of two log-probs of the same choice; answers and receipts are the same below 1e-3."""
    gap = max(
        float(np.abs(np.subtract(list(a.logprobs.values()), list(b.logprobs.values()))).max())
        for a, b in zip(some, others, strict=True)
        if a.logprobs and b.logprobs
    )
    if gap < 1e-3:
        assert [(a.text, a.fed, a.error) for a in some] == [(b.text, b.fed, b.error) for b in others]
    return gap


@pytest.mark.parametrize("kind", ["qwen2.5-omni", "qwen3-omni", "hans"])
def test_it_answers_with_its_adapter_and_without_it_when_it_is_off(kind: str) -> None:
    items, media = asked()
    _, bare = fresh(kind)
    model, other = fresh(kind)
    thinker = wrap(adapted(model), other.processor, other.view, system=other.thinker.system)
    assert isinstance(thinker.model, peft.PeftModel)
    assert thinker.bare is model
    tuned = QwenOmni(thinker, name=bare.name)
    before = bare.answer(items, media)
    on = {}
    for way in ("on", "off", "on again"):
        with thinker.model.disable_adapter() if way == "off" else nullcontext():
            shared = tuned.answer(items, media)
            plain = QwenOmni(thinker, name=bare.name, plain=True).answer(items, media)
        assert far(shared, plain) < 1e-4, "what is shared changes nothing"
        on[way] = shared
    assert far(on["off"], before) < 1e-5
    assert far(on["on"], before) > 1e-3
    assert far(on["on again"], on["on"]) == 0.0
    # PEFT's own: the adapter's product added to the weights, on a model without any wrapper.
    merged = QwenOmni(wrap(thinker.model.merge_and_unload(), other.processor, other.view, system=thinker.system))
    assert far(merged.answer(items, media), on["on"]) < 1e-3


def test_an_adapter_in_the_towers_is_not_answered_from_features_of_another_setting() -> None:
    """What the towers made is kept: with the adapter off it must be made anew, and found again with it on."""
    items, media = asked()
    model, other = fresh("qwen2.5-omni")
    _, bare = fresh("qwen2.5-omni")
    thinker = wrap(adapted(model, towers=True), other.processor, VIEW)
    tuned = QwenOmni(thinker, name=bare.name)
    on = tuned.answer(items, media)
    with thinker.model.disable_adapter():
        assert far(tuned.answer(items, media), bare.answer(items, media)) < 1e-5
    hits = tuned.seen.hits
    assert hits == 0
    assert far(tuned.answer(items, media), on) == 0.0
    assert tuned.seen.hits == 2
    seen, heard = bare.encode(media)
    mine, ours = tuned.encode(media)
    assert not torch.equal(mine[0].features, seen[0].features)  # type: ignore[union-attr]
    assert not torch.equal(ours[0].features, heard[0].features)  # type: ignore[union-attr]


def test_text_adapters_leave_the_towers_features_where_they_are() -> None:
    items, media = asked()
    model, other = fresh("qwen2.5-omni")
    thinker = wrap(adapted(model), other.processor, VIEW)
    tuned = QwenOmni(thinker)
    tuned.answer(items, media)
    with thinker.model.disable_adapter():
        tuned.answer(items, media)
    assert (tuned.seen.misses, tuned.seen.hits) == (2, 2)


def test_a_prompt_that_is_learned_is_refused() -> None:
    """It lies in the wrapper's own forward, which answering in parts does not go through."""
    model, other = fresh("qwen2.5-omni")
    config = peft.PromptTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=2, token_dim=64, num_layers=2, num_attention_heads=4
    )
    made = peft.get_peft_model(model, config)
    with pytest.raises(ValueError, match=r"'default' is PROMPT_TUNING, which lies before.*LoRA and its kin"):
        wrap(made, other.processor, VIEW)
