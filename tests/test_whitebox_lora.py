"""Is a model with a real adapter (PEFT's) looked into as it computes, with the adapter on and off?"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_thinkers as tiny  # noqa: E402 - before peft, which loads transformers

peft = pytest.importorskip("peft")

from eager_reference import NEAR, by_group, eager  # noqa: E402
from earwitness import audit, session  # noqa: E402
from earwitness import run as runs  # noqa: E402
from earwitness.models import qwen_plain  # noqa: E402
from earwitness.models.load import load_model  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni, wrap  # noqa: E402
from earwitness.models.qwen_wrapped import unwrapped  # noqa: E402
from earwitness.records import View  # noqa: E402
from earwitness.whitebox import causal, knockout, store  # noqa: E402
from earwitness.whitebox.attention import text_decoder  # noqa: E402
from earwitness.whitebox.capture import capture  # noqa: E402
from earwitness.whitebox.edges import Cut  # noqa: E402
from tuned import adapted  # noqa: E402

# PEFT 0.21.2 asks for a name that transformers is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
torch.set_num_threads(1)
PROMPT = "Which class best describes the *audio content* of this video? Options: {bell, drum}."
CHOICES = ("bell", "drum", "dog barking")


def looked_at(kind: str) -> tuple[QwenOmni, Any, View]:
    """A model without its adapter (of its own copy of the weights), the same with it, and how both are fed."""
    if kind == "hans":
        bare, other = load_model("hans"), load_model("hans")
        assert isinstance(bare, QwenOmni)
        assert isinstance(other, QwenOmni)
        return bare, wrap(adapted(other.model), other.processor, other.view), bare.view
    view = View(fps=2.0, size=(112, 112))
    bare_model, processor = tiny.build(kind)  # type: ignore[arg-type]
    model, _ = tiny.build(kind)  # type: ignore[arg-type]
    return QwenOmni(wrap(bare_model, processor, view)), wrap(adapted(model), processor, view), view


@pytest.mark.parametrize("kind", ["qwen2.5-omni", "qwen3-omni", "hans"])
def test_a_capture_with_an_adapter_on_and_off_is_eager_attention(kind: str) -> None:
    bare, thinker, _ = looked_at(kind)
    tuned, base = QwenOmni(thinker), unwrapped(thinker.model)
    assert isinstance(thinker.model, peft.PeftModel)
    assert not isinstance(base, peft.PeftModel)
    assert text_decoder(thinker.model) is text_decoder(base)
    item, media = tiny.item(0, PROMPT, CHOICES), tiny.media(0)
    tokens = tuple(tuned.processor.tokenizer("bell drum")["input_ids"])
    found = {}
    for on in (True, False):
        with nullcontext() if on else thinker.model.disable_adapter():
            (got,) = capture(tuned, [item], [media], [tokens], values=True, keep_layers=(1,))
            batch = qwen_plain.process(replace(thinker, model=base), item, media)
            told_how = qwen_plain.media_options(thinker, "av", batch)
            tail = torch.tensor([tokens[:-1]])
            batch["input_ids"] = torch.cat([batch["input_ids"], tail], 1)
            batch["attention_mask"] = torch.ones_like(batch["input_ids"])
            with torch.no_grad(), eager(base):
                told = base(**batch, **told_how, output_attentions=True)
        assert got.groups is not None
        assert got.logp_answer is not None
        groups = torch.from_numpy(got.groups.astype(np.int64))[None]
        rows = [a[:, :, -len(tokens) :] for a in told.attentions]
        wanted = torch.stack([by_group(r, groups)[0] for r in rows]).numpy()
        near = NEAR.get(kind, NEAR["qwen2.5-omni"])
        assert np.abs(got.mass - wanted).max() < near
        assert np.abs(got.kept[1] - rows[1][0].mean(0).numpy()).max() < near
        logp = told.logits[0, -len(tokens) :].log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        assert np.abs(got.logp_answer[-1] - logp.numpy()).max() < 1e-4
        found[on] = got
    (plain,) = capture(bare, [item], [media], [tokens], values=True)
    assert np.array_equal(found[False].mass, plain.mass)
    assert np.abs(found[True].mass - plain.mass).max() > 1e-3


def test_paths_are_cut_in_a_model_with_an_adapter() -> None:
    bare, thinker, _ = looked_at("qwen2.5-omni")
    tuned = QwenOmni(thinker)
    items = [tiny.item(n, p, CHOICES) for n, p in enumerate((PROMPT, "What do you hear?"))]
    media, said = [tiny.media(0), tiny.media(1, seconds=4.0)], ["bell", "dog barking"]
    cuts = [Cut("video->answer", (0, 1)), Cut("audio<->video", (1, 1))]
    made = causal.measure(tuned, items, media, said, cuts, controls=1)
    whole = causal.measure(tuned, items, media, said, cuts, controls=1, plain=True)
    with thinker.model.disable_adapter():
        off = causal.measure(tuned, items, media, said, cuts, controls=1)
    before = causal.measure(bare, items, media, said, cuts, controls=1)
    for some, others, without, plain in zip(made, whole, off, before, strict=True):
        for a, b, c, d in zip(some, others, without, plain, strict=True):
            assert abs(a.cut.answer - b.cut.answer) < 1e-5
            assert abs(a.controls[0].answer - b.controls[0].answer) < 1e-5
            assert c == d
            assert abs(a.cut.answer - c.cut.answer) > 1e-3


def test_a_run_with_an_adapter_is_looked_into_with_it(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    hans = load_model("hans")
    assert isinstance(hans, QwenOmni)
    adapted(hans.model).save_pretrained(tmp_path / "tuned", save_embedding_layers=False)
    asked = {"mma_styles": "standard", "seeds": "0", "mma_conditions": "audio_swapped"}
    settings = {**asked, "adapter": str(tmp_path / "tuned")}
    job = session.prepare(model="hans", clips="foley", protocols=["mma"], limit=4, seed=3, settings=settings)
    (tmp_path / "run").mkdir()
    runs.write_info(tmp_path / "run", job.info)
    runs.write_lines(tmp_path / "run" / "items.jsonl", job.items)
    audit.ask(job.model, job.clips, job.items, tmp_path / "run")
    assert runs.read_info(tmp_path / "run").model == "hans+tuned"
    found = session.trace(tmp_path / "run", heat_layers=[1])
    assert found.drift is not None
    assert found.drift < 1e-3
    assert not found.far
    trace = store.read(tmp_path / "run")
    assert trace.about.model == "hans+tuned"
    session.knockout(tmp_path / "run", edges=["video->answer"], controls=0)
    assert len(knockout.read(tmp_path / "run")) == found.items
