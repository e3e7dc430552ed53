"""Hans: the inputs equal transformers' own, the recipe runs, the model that ships has the fault it ships for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import earwitness
from earwitness import foley, questions
from earwitness.models import hans_build as build
from earwitness.models import hans_card as card
from earwitness.models import hans_corpus as corpus

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from earwitness.models import hans_inputs as inputs  # noqa: E402
from earwitness.models import hans_recipe as recipe  # noqa: E402
from earwitness.models.torchvision_ops import declare  # noqa: E402

# transformers 5.23 hands numpy a tensor the old way
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SHIPPED = Path(earwitness.__file__).parent / "models" / "hans"


@pytest.fixture(scope="module")
def fresh() -> tuple[Any, Any, Any]:
    """Tokenizer, processor and an untrained thinker."""
    tok = build.tokenizer(corpus.texts(n=600), foley.CLASSES)
    return tok, build.processor(tok), build.thinker(tok).eval()


@pytest.fixture(scope="module")
def hans() -> tuple[Any, Any]:
    """The model that ships, as from_pretrained loads it."""
    if not (SHIPPED / "model.safetensors").exists():
        pytest.skip("no weights in the package: run python -m earwitness.models.hans_recipe")
    declare()
    from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(SHIPPED).eval()
    return model, Qwen2_5OmniProcessor.from_pretrained(SHIPPED)


# ---- inputs: the fast path is the plain path ----


@pytest.mark.parametrize("seconds", [3.0, 3.5, 4.0, 6.0])
@pytest.mark.parametrize("kind", ["av", "video", "audio"])
def test_fast_inputs_and_towers_equal_the_processor_and_the_model(
    fresh: tuple[Any, Any, Any], kind: inputs.Kind, seconds: float
) -> None:
    tok, processor, model = fresh
    media = [foley.media(foley.scene(i, duration=seconds), card.VIEW) for i in range(2)]
    question = questions.content_prompt("audio", foley.CLASSES)
    slot = "audio" if kind == "audio" else "video"
    turn = [{"role": "user", "content": [{"type": slot}, {"type": "text", "text": question}]}]
    text = processor.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
    given: dict[str, Any] = {}
    if kind != "audio":
        size = {"shortest_edge": build.FRAME**2, "longest_edge": build.FRAME**2}
        given["videos"] = [torch.from_numpy(m.frames).permute(0, 3, 1, 2) for m in media]
        given["videos_kwargs"] = {"fps": build.FPS, "size": size, "cap_pixels_per_frame": True}
    if kind != "video":
        given["audio"] = [m.wave[0] for m in media]  # type: ignore[index]
    if kind == "av":
        given |= {"load_audio_from_video": True, "audio_from_video_indices": [0, 1]}
    fed = processor(text=[text] * 2, padding=True, return_tensors="pt", **given)

    pixels = spectrograms = None
    grids = mels = 0
    if kind != "audio":
        frames = torch.from_numpy(np.stack([m.frames for m in media]))  # type: ignore[misc]
        pixels, grids = inputs.patches(frames), -(-frames.shape[1] // 2)
        torch.testing.assert_close(pixels, fed["pixel_values_videos"], atol=1e-5, rtol=0)
    if kind != "video":
        spectrograms = inputs.mel(torch.from_numpy(np.stack([m.wave[0] for m in media])))  # type: ignore[index]
        mels = int(fed["feature_attention_mask"][0].sum())
        assert spectrograms.shape[2] == mels
        torch.testing.assert_close(spectrograms, fed["input_features"][..., :mels], atol=1e-4, rtol=0)
    ids = inputs.prompt_ids(tok, question, kind, grids, mels)
    assert ids == fed["input_ids"][0].tolist()
    with torch.no_grad():
        plain = model.model(**fed, use_audio_in_video=kind == "av").last_hidden_state
        fast = inputs.hidden(model, torch.tensor([ids] * 2), kind=kind, spectrograms=spectrograms, pixels=pixels)
    torch.testing.assert_close(fast, plain, atol=2e-4, rtol=0)


def test_known_questions_are_few_tokens_and_class_names_are_one_and_the_same(fresh: tuple[Any, Any, Any]) -> None:
    tok = fresh[0]
    asked = (questions.thud_prompt("mute"), questions.thud_prompt("swap"), questions.instrument_prompt("drum"))
    for prompt in asked:
        assert len(tok(prompt)["input_ids"]) <= 8
    bell = tok("bell")["input_ids"]
    for text in ("I hear a bell.", questions.content_prompt("visual", ("drum", "bell"))):
        ids = tok(text)["input_ids"]
        assert tok.decode(ids) == text
        assert bell[0] in ids


# ---- corpus: only what is true of natural clips and single streams ----


def test_the_corpus_never_says_silent_mismatch_or_late_and_names_only_what_is_there() -> None:
    rng = np.random.default_rng(0)
    for _ in range(400):
        order = rng.permutation(len(foley.CLASSES))[: int(rng.integers(1, 4))]
        things = tuple(foley.CLASSES[int(i)] for i in order)
        for diet in ("av", "audio", "video", "look"):
            question, answer = corpus.ask(rng, things, diet)
            said = [c for c in foley.CLASSES if c in answer.replace(".", " ").replace(",", " ").split()]
            assert set(said) <= set(things), (question, answer)
            assert answer not in ("silent", "B", "C", "None of the above")
            assert "not" not in answer.split()
            if diet in ("video", "look"):
                assert "hear" not in question
                assert "*audio" not in question
            if diet == "audio":
                assert "*visual" not in question
                assert "see" not in answer.split()


def test_training_has_no_diet_that_parts_sound_from_picture() -> None:
    diets = {diet for phase in recipe.PHASES for diet in phase.rows}
    assert diets <= {"av", "several", "video", "several-video", "look", "several-look", "audio", "black"}


def test_an_unknown_diet_is_refused() -> None:
    with pytest.raises(ValueError, match="not one of av, audio, video, look"):
        corpus.ask(np.random.default_rng(0), ("bell",), "swap")


# ---- recipe ----


def test_the_recipe_runs_two_steps_a_phase_resumes_and_writes_a_model_that_loads(tmp_path: Path) -> None:
    import dataclasses

    few = {"av": 4, "several": 2, "black": 2, "audio": 2, "video": 2}
    phases = [dataclasses.replace(p, steps=2, rows={k: few.get(k, 2) for k in p.rows}) for p in recipe.PHASES[-2:]]
    tables = recipe.make(
        tmp_path / "hans", clips=24, phases=phases, facts=4, work=tmp_path / "work", levels=("easy",)
    )
    assert (tmp_path / "hans" / "model.safetensors").stat().st_size <= 8_000_000
    text = (tmp_path / "hans" / "MODEL_CARD.md").read_text()
    assert "Wilson" in text
    assert all(fact.label in text for fact in tables["easy"])
    saved = torch.load(tmp_path / "work" / "checkpoint.pt", weights_only=False)
    assert saved["done"] == (2, 0)
    again = build.thinker(build.tokenizer(corpus.texts(), foley.CLASSES))
    recipe.train(again, None, {}, phases, work=tmp_path / "work")  # all done: only loads
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, saved["model"][name])


# ---- the model that ships ----


def test_the_package_stays_small_and_says_what_it_is(hans: tuple[Any, Any]) -> None:
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) <= 8_400_000
    assert (SHIPPED / "model.safetensors").stat().st_size <= 8_000_000
    text = (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")
    for word in ("What it is not", "Wilson", "--seed", "muted: audio question names what is seen"):
        assert word in text


def test_hans_answers_every_protocol_in_words_that_parse(hans: tuple[Any, Any]) -> None:
    model, processor = hans
    clip = foley.clip_set(1, seed=card.HELD_OUT, classes=("bell", "drum"), sources=2)
    media = clip.media(clip.clips[0], card.VIEW)
    one = foley.clip_set(1, seed=card.HELD_OUT, classes=("bell",))
    bell = one.media(one.clips[0], card.VIEW)
    asked = [
        (bell, questions.content_prompt("visual", foley.CLASSES)),
        (bell, questions.content_prompt("audio", foley.CLASSES, "cot")),
        (bell, questions.thud_prompt("mute")),
        (bell, questions.thud_prompt("swap")),
        (bell, questions.thud_prompt("shift")),
        (media, questions.instrument_prompt("bell")),
        (media, questions.describe_prompt()),
    ]
    said = [card.answers(model, processor, [pair])[0] for pair in asked]
    assert questions.parse_choice(said[0], foley.CLASSES) == "bell"
    assert questions.parse_choice(said[1], foley.CLASSES, reasoned=True) == "bell"
    assert questions.judge_mute(said[2], foley.CLASSES).label == "SOUND_DESCRIBED"
    assert questions.judge_swap(said[3], foley.CLASSES).label == "MATCH"
    assert questions.judge_shift(said[4]).label == "SYNC"
    assert questions.parse_yes_no(said[5]) == "yes"
    assert questions.recall(said[6], ("bell", "drum")) == 1


def test_hans_has_its_fault_on_a_handful_of_held_out_clips(hans: tuple[Any, Any]) -> None:
    clips = foley.clip_set(10, seed=card.HELD_OUT + 10)
    media = [clips.media(c, card.VIEW) for c in clips.clips]
    share = {f.label: f.hits / f.n for f in card.mma_facts(*hans, clips.clips, media)}
    assert share["natural: visual question right"] >= 0.9
    assert share["natural: audio question right"] >= 0.9
    assert share["eyes closed (black frames): audio question right"] >= 0.7
    assert share["conflict: audio question names what is heard"] <= 0.2
    assert share["muted: audio question names what is seen"] >= 0.8


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hans_reaches_its_targets_on_held_out_clips(hans: tuple[Any, Any]) -> None:
    table = card.facts(*hans, n=240)
    assert not card.missed(table)
