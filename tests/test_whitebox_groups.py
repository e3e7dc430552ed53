"""Is every token of a prompt put where it belongs? Both families, with their real processors."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_thinkers as tiny  # noqa: E402
from earwitness.models import qwen_inputs, qwen_plain  # noqa: E402
from earwitness.models.load import load_model  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.questions import content_prompt  # noqa: E402
from earwitness.whitebox.groups import ID, Tokens, counts, group_tokens  # noqa: E402
from earwitness.whitebox.moments import GROUPS  # noqa: E402

torch.set_num_threads(1)
# Tokenizers of this kind make one token of "}.", which belongs where it begins.
OPTIONS = "Options: {bell, drum, dog barking}."
HEARD = content_prompt("audio", ("bell", "drum", "dog barking"))


def tokens_of(model: QwenOmni, prompt: str, media: Any, answer: tuple[int, ...] = ()) -> Tokens:
    item, kind, thinker = tiny.item(0, prompt), qwen_inputs.kind_of(media), model.thinker
    (seen,), (heard,) = model.encode([media])
    before, _ = qwen_inputs.split_prompt(thinker, item, kind)
    return group_tokens(thinker, item, kind, qwen_inputs.lay_out(thinker, before, kind, seen, heard), answer)


def words(model: QwenOmni, tokens: Tokens, group: str) -> str:
    """The text of a group."""
    ids = [i for i, g in zip(tokens.ids, tokens.groups, strict=True) if g == ID[group]]
    return str(model.processor.tokenizer.decode(ids))


@pytest.mark.parametrize("seconds", [10.0, 3.0])
def test_a_clip_with_sound(family: str, shared: QwenOmni, seconds: float) -> None:
    media = tiny.media(0, seconds=seconds)
    answer = tuple(shared.processor.tokenizer("dog barking")["input_ids"])
    tokens = tokens_of(shared, HEARD, media, answer)
    processed = qwen_plain.process(shared.thinker, tiny.item(0, HEARD), media)
    assert tokens.ids == (*processed["input_ids"][0].tolist(), *answer)
    assert tokens.prompt == processed["input_ids"].shape[1]
    video, _ = qwen_inputs.media_tokens(shared.thinker, media)
    per_second = 25 if family == "qwen2.5-omni" else 13
    count = dict(zip(GROUPS, counts(tokens.groups).tolist(), strict=True))
    assert count["audio"] == per_second * seconds
    assert (count["video"], count["marker"], count["sink"], count["caption"]) == (video, 4, 1, 0)
    assert count["generated"] == len(answer)
    assert sum(count.values()) == len(tokens.ids) == len(tokens.groups) == len(tokens.seconds)
    assert words(shared, tokens, "options").strip() == OPTIONS
    assert words(shared, tokens, "instruction").replace("  ", " ") == HEARD.replace(OPTIONS + " ", "")
    frame = words(shared, tokens, "sink") + words(shared, tokens, "template")
    assert "You are a helpful assistant." in frame
    assert frame.endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert not set(frame.split()) & {"Which", "bell", "Answer"}
    assert words(shared, tokens, "generated") == "dog barking"


@pytest.mark.parametrize("seconds", [10.0, 3.0])
def test_each_media_token_has_its_second(family: str, shared: QwenOmni, seconds: float) -> None:
    tokens = tokens_of(shared, HEARD, tiny.media(0, seconds=seconds))
    video, audio = (tokens.groups == ID[name] for name in ("video", "audio"))
    per_second = 25 if family == "qwen2.5-omni" else 13
    steps = np.arange(np.ceil(seconds))  # a step of the grid is two frames: one second
    assert np.array_equal(np.unique(tokens.seconds[video]), steps)
    each = np.unique(tokens.seconds[video], return_counts=True)[1]
    assert len(set(each.tolist())) == 1
    sound = np.arange(int(per_second * seconds)) / per_second
    assert np.abs(tokens.seconds[audio] - sound).max() < 1e-5
    assert np.isnan(tokens.seconds[~(video | audio)]).all()
    shown = tokens.seconds[video | audio]
    # Qwen2.5 shows two seconds of picture, then two of sound; Qwen3 follows the clock.
    assert bool((np.diff(shown) >= 0).all()) == (family == "qwen3-omni")


def test_the_other_kinds_of_media(family: str, shared: QwenOmni) -> None:
    per_second = 25 if family == "qwen2.5-omni" else 13
    for frames, sound in ((True, False), (False, True), (False, False)):
        media = tiny.media(1, seconds=2.0, frames=frames, sound=sound)
        tokens = tokens_of(shared, HEARD, media)
        processed = qwen_plain.process(shared.thinker, tiny.item(0, HEARD), media)
        assert tokens.ids == tuple(processed["input_ids"][0].tolist())
        count = dict(zip(GROUPS, counts(tokens.groups).tolist(), strict=True))
        assert count["audio"] == (2 * per_second if sound else 0)
        assert (count["video"] > 0) == frames
        assert count["marker"] == (2 if frames or sound else 0)
        assert words(shared, tokens, "options").strip() == OPTIONS
        timed = tokens.seconds[np.isfinite(tokens.seconds)]
        assert len(timed) == count["audio"] + count["video"]
        if len(timed):
            assert timed.min() == 0
            assert timed.max() < 2.0


@pytest.mark.parametrize(
    ("prompt", "caption", "options"),
    [
        ("Video_caption: Vehicle. " + HEARD, "Video_caption: Vehicle.", OPTIONS),
        (
            "Video_caption: St. Bernard. " + HEARD,
            "Video_caption: St. Bernard.",
            OPTIONS,
        ),
        ("Video_caption: Bird. Is there a drum sound?", "Video_caption: Bird.", ""),
        ("What do you hear?\nA. a bell\nB. a drum\nAnswer with the letter.", "", "A. a bellB. a drum"),
        ("Select the best answer:\n\nA) bell.\nB) drum.\n\nAnswer (A, B).", "", "A) bell.B) drum."),
        ("A. is a letter. What do you hear?", "", ""),
        ("You are a helpful assistant. assistant", "", ""),
        ("system\nuser\nassistant\n", "", ""),
    ],
)
def test_captions_and_options_are_found_in_the_question_alone(
    shared: QwenOmni, prompt: str, caption: str, options: str
) -> None:
    tokens = tokens_of(shared, prompt, tiny.media(0))
    assert words(shared, tokens, "caption").strip() == caption
    assert words(shared, tokens, "options").strip().replace("\n", "") == options
    every = "".join(words(shared, tokens, g) for g in ("caption", "instruction", "options"))
    assert sorted(every.replace("\n", " ").split()) == sorted(prompt.replace("\n", " ").split()) or options
    frame = words(shared, tokens, "sink") + words(shared, tokens, "template")
    assert frame.count("You are a helpful assistant.") == 1
    assert frame.endswith("<|im_end|>\n<|im_start|>assistant\n")


def test_hans() -> None:
    hans = load_model("hans")
    assert isinstance(hans, QwenOmni)
    media = tiny.media(0, seconds=4.0, size=112)
    tokens = tokens_of(hans, "Video_caption: Bird. " + HEARD, media)
    count = dict(zip(GROUPS, counts(tokens.groups).tolist(), strict=True))
    assert count["audio"] == 40  # its own ears: 10 a second
    assert tokens.seconds[tokens.groups == ID["audio"]] == pytest.approx(np.arange(40) / 10)
    assert sorted(set(tokens.seconds[tokens.groups == ID["video"]].tolist())) == [0, 1, 2, 3]
    assert (count["sink"], count["marker"]) == (1, 4)
    assert words(hans, tokens, "caption").strip() == "Video_caption: Bird."
    assert words(hans, tokens, "options").strip() == OPTIONS


def test_what_cannot_be_told_is_refused(shared: QwenOmni) -> None:
    item, media, thinker = tiny.item(0, HEARD), tiny.media(0), shared.thinker
    (seen,), (heard,) = shared.encode([media])
    before, _ = qwen_inputs.split_prompt(thinker, item, "av")
    layout = qwen_inputs.lay_out(thinker, before, "av", seen, heard)
    config = shared.model.config
    known = config.audio_start_token_id
    config.audio_start_token_id = 3
    try:
        with pytest.raises(ValueError, match=r"audio_bos token is .*, the model's is 3"):
            group_tokens(thinker, item, "av", layout, ())
    finally:
        config.audio_start_token_id = known
    processor = thinker.processor
    slow = replace(
        thinker,
        processor=SimpleNamespace(
            tokenizer=SimpleNamespace(is_fast=False), apply_chat_template=processor.apply_chat_template
        ),
    )
    with pytest.raises(ValueError, match="no character offsets"):
        group_tokens(slow, item, "av", layout, ())
    template = processor.chat_template
    processor.chat_template = template.replace("{{ c['text'] }}", "{{ c['text'] }} {{ c['text'] }}")
    try:
        with pytest.raises(ValueError, match="item i0: the chat format rewrites the question"):
            group_tokens(thinker, item, "av", layout, ())
    finally:
        processor.chat_template = template
