"""The example that cures Hans: its clips tell the truth, its loss is the plain one, two steps make a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earwitness import foley, questions
from earwitness.models.hans_card import Fact
from earwitness.models.load import HANS, load_model
from earwitness.records import NONE_OF_THE_ABOVE, Intervention, Item

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT))

from examples import hans_that_listens as cure  # noqa: E402

from earwitness.models import hans_recipe as recipe  # noqa: E402

# transformers 5.23 hands numpy a tensor the old way
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


FEW = {"aligned": 1, "swapped": 2, "muted": 1, "black": 1}


@pytest.fixture(scope="module")
def shots() -> list[recipe.Shot]:
    """Clips of one thing and of four seconds."""
    return recipe.pool(40, seed=cure.POOL_SEED)[False, 4.0]


@pytest.fixture(scope="module")
def drawn(shots: list[recipe.Shot]) -> list[cure.Taught]:
    return cure.draw(shots, np.random.default_rng(0))


def test_the_clips_of_a_step_say_what_is_in_them(shots: list[recipe.Shot], drawn: list[cure.Taught]) -> None:
    pictures = {s.frames.numpy().tobytes(): s.things[0] for s in shots}
    sounds = {s.wave.numpy().tobytes(): s.things[0] for s in shots}
    for clip in drawn:
        assert clip.seen == (pictures[clip.frames.numpy().tobytes()] if clip.frames.any() else None)
        assert clip.heard == (sounds[clip.wave.numpy().tobytes()] if clip.wave.any() else None)
    assert sum(c.seen != c.heard and None not in (c.seen, c.heard) for c in drawn) == cure.CLIPS_A_STEP["swapped"]
    assert sum(c.heard is None for c in drawn) == cure.CLIPS_A_STEP["muted"]
    assert sum(c.seen is None for c in drawn) == cure.CLIPS_A_STEP["black"]


def test_every_answer_is_among_the_options_and_right(drawn: list[cure.Taught]) -> None:
    rng = np.random.default_rng(1)
    offered = []
    for clip in drawn:
        (look, seen), (listen, heard) = cure.asked(clip, rng)
        assert "audio" not in look.split(":")[0]
        assert (seen, heard) == (clip.seen or NONE_OF_THE_ABOVE, clip.heard or NONE_OF_THE_ABOVE)
        assert seen in look
        assert heard in listen
        offered += [NONE_OF_THE_ABOVE in q for q, truth in ((look, clip.seen), (listen, clip.heard)) if truth]
    assert 0.2 < np.mean(offered) < 0.8  # where it is not the answer it does not give the answer away


def test_the_loss_is_that_of_the_models_own_forward(drawn: list[cure.Taught]) -> None:
    """One clip through transformers' processor and forward: the same mean log-prob of the same answer tokens."""
    model, processor = cure._opened(HANS)
    clip, rng = drawn[5], np.random.default_rng(3)
    pairs = cure.asked(clip, np.random.default_rng(3))
    total, n = 0.0, 0
    for question, answer in pairs:
        turn = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}]
        text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        fed = processor(
            text=[text + answer + "<|im_end|>"], videos=[clip.frames.permute(0, 3, 1, 2)],
            audio=[clip.wave.numpy().astype(np.float32) / 32767], return_tensors="pt", padding=True,
            load_audio_from_video=True, audio_from_video_indices=[0],
            videos_kwargs={
                "fps": 2.0, "size": {"shortest_edge": 56 * 56, "longest_edge": 56 * 56},
                "cap_pixels_per_frame": True,
            },
        )  # fmt: skip
        k = len(processor.tokenizer(answer, add_special_tokens=False)["input_ids"]) + 1
        with torch.no_grad():
            logits = model(**fed, use_audio_in_video=True).logits[0, -k - 1 : -1]
        words = fed["input_ids"][0, -k:]
        total -= float(logits.log_softmax(-1)[torch.arange(k), words].sum())
        n += k
    with torch.no_grad():
        mine = cure.batch_loss(model, processor.tokenizer, [clip], rng)
    assert float(mine) == pytest.approx(total / n, abs=2e-4)


def test_two_steps_change_the_text_layers_and_words_alone(
    shots: list[recipe.Shot], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cure, "CLIPS_A_STEP", FEW)
    model, processor = cure._opened(HANS)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = cure.cure(model, processor.tokenizer, {4.0: shots}, 2)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if ".language_model." in name}
    assert all(np.isfinite(losses))


def test_the_command_writes_a_checkpoint_that_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def count(model: Any, processor: Any, clips: Any, media: Any) -> list[Fact]:
        asked.append(clips[0].id)
        return [Fact("natural: visual question right", len(media), len(clips))]

    monkeypatch.setattr(cure, "CLIPS_A_STEP", FEW)
    monkeypatch.setattr(cure.hans_card, "mma_facts", count)
    assert cure.main(["--out", str(tmp_path / "m"), "--steps", "2", "--clips", "60", "--held-out", "4"]) == 0
    told = capsys.readouterr().out
    assert "step 2: loss" in told
    assert "4/4" in told
    assert asked == [foley.clip_set(1, seed=cure.HELD_OUT).clips[0].id] * 2
    model: Any = load_model(f"qwen2.5-omni:{tmp_path / 'm'}")
    item = Item(
        id="i", protocol="mma", condition="aligned", question="audio", clip="c", source="c", group="g",
        intervention=Intervention(), prompt=questions.content_prompt("audio", foley.CLASSES), choices=foley.CLASSES,
        target=None, decode=12,
    )  # fmt: skip
    (answer,) = model.answer([item], [foley.media(foley.scene(3), model.view)])
    assert answer.error is None
    assert answer.text
    assert load_model("hans").revision != model.revision


def test_too_few_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 clips are too few"):
        cure.make(tmp_path, steps=1, clips=1)
