"""The Qwen omni adapter: each shortcut is held to the plain path, both families, on tiny random checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="local models are an extra")
pytest.importorskip("transformers")

import tiny_thinkers as tiny  # noqa: E402
from earwitness.models import load, qwen_decode, qwen_inputs, qwen_plain, qwen_towers  # noqa: E402
from earwitness.models.qwen_load import wrap  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.records import Answer, Item, Media, View  # noqa: E402

CHOICES = ("bell", "drum", "dog barking", "None of the above", "dog")
QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("What do you hear?", ()),
    ("Which class best describes the audio content of this video? Options: {bell, drum}.", CHOICES),
    ("yes or no?", ("yes", "no")),
)


@pytest.fixture(scope="module")
def plain(shared: QwenOmni) -> QwenOmni:
    return QwenOmni(shared.thinker, name=shared.name, revision=shared.revision, plain=True)


def every_kind() -> dict[str, Media]:
    av = tiny.media(1)
    return {
        "av": av,
        "longer": tiny.media(2, seconds=4.5),
        "odd length": tiny.media(3, seconds=2.37),
        "muted": av.with_wave(np.zeros_like(av.wave)),
        "black": av.with_frames(np.zeros_like(av.frames)),
        "no track": av.with_wave(None),
        "no frames": av.with_frames(None),
        "text": tiny.media(4, frames=False, sound=False),
    }


def asked(media: dict[str, Media]) -> tuple[list[Item], list[Media]]:
    items, their = [], []
    for m, (_, medium) in enumerate(media.items()):
        for q, (prompt, choices) in enumerate(QUESTIONS):
            items.append(tiny.item(10 * m + q, prompt, choices, decode=4 + 3 * q))
            their.append(medium)
    return items, their


def assert_same(got: Answer, want: Answer) -> None:
    assert (got.item, got.text, got.error, got.fed) == (want.item, want.text, want.error, want.fed)
    assert (got.logprobs is None) == (want.logprobs is None)
    if got.logprobs and want.logprobs:
        assert list(got.logprobs) == list(want.logprobs)
        np.testing.assert_allclose(list(got.logprobs.values()), list(want.logprobs.values()), atol=1e-4)


@pytest.fixture(scope="module")
def both(shared: QwenOmni, plain: QwenOmni) -> tuple[list[Item], list[Answer], list[Answer]]:
    items, media = asked(every_kind())
    return items, shared.answer(items, media), plain.answer(items, media)


def test_shared_way_gives_the_plain_answers_log_probs_and_receipts(
    both: tuple[list[Item], list[Answer], list[Answer]],
) -> None:
    items, shared, plain = both
    assert [a.item for a in shared] == [i.id for i in items]
    for got, want in zip(shared, plain, strict=True):
        assert_same(got, want)


def test_answers_depend_on_sound_and_picture(both: tuple[list[Item], list[Answer], list[Answer]]) -> None:
    _, answers, _ = both
    by_medium = [tuple((a.logprobs or {}).values()) for a in answers[1::3]]
    assert len({tuple(round(p, 3) for p in some) for some in by_medium}) == len(by_medium)


def test_small_batches_and_other_orders_change_nothing(shared: QwenOmni, both: Any) -> None:
    items, want, _ = both
    _, media = asked(every_kind())
    order = list(np.random.default_rng(0).permutation(len(items)))
    small = QwenOmni(shared.thinker, name=shared.name, batch=2)
    got = small.answer([items[n] for n in order], [media[n] for n in order])
    for n, answer in zip(order, got, strict=True):
        assert_same(answer, want[n])


def test_receipts_say_what_went_in(both: Any, family: str) -> None:
    _, answers, _ = both
    fed = dict(zip(every_kind(), [a.fed for a in answers[::3]], strict=True))
    side = 112 if family == "qwen2.5-omni" else 96  # 28- and 32-pixel blocks
    per_second, grid = (25, 16) if family == "qwen2.5-omni" else (13, 9)
    av = fed["av"]
    assert (av.frames, av.height, av.width) == (4, side, side)
    assert (av.audio_tokens, av.video_tokens) == (2 * per_second, 2 * grid)
    assert av.audio_seconds == pytest.approx(2.0)
    assert av.audio_rms == pytest.approx(0.1, rel=0.02)
    assert fed["muted"].audio_rms == 0
    assert fed["muted"].audio_tokens == av.audio_tokens, "mute keeps its track"
    assert fed["muted"].audio_hash not in (None, av.audio_hash)
    assert fed["muted"].video_hash == av.video_hash == fed["no track"].video_hash
    assert fed["black"].video_hash not in (None, av.video_hash)
    assert fed["black"].audio_hash == av.audio_hash == fed["no frames"].audio_hash
    none = fed["no track"]
    assert (none.audio_tokens, none.audio_hash, none.audio_rms, none.audio_seconds) == (None,) * 4
    assert none.video_tokens == av.video_tokens
    assert fed["no frames"].video_tokens is None
    assert (fed["text"].audio_hash, fed["text"].video_hash) == (None, None)


def test_token_estimate_is_the_measured_count(shared: QwenOmni, both: Any) -> None:
    items, answers, _ = both
    _, media = asked(every_kind())
    assert [shared.tokens(i, m) for i, m in zip(items, media, strict=True)] == [
        a.fed.prompt_tokens for a in answers
    ]


def test_untouched_stream_is_never_encoded_again(folder: Path) -> None:
    model = QwenOmni(folder, logprobs=False)
    kinds = every_kind()
    for name in ("av", "muted", "black", "av", "no track", "no frames"):
        model.answer([tiny.item(0, "?", decode=1)], [kinds[name]])
    assert (model.seen.misses, model.heard.misses) == (2, 2)  # its frames, black; its wave, silence
    assert (model.seen.hits, model.heard.hits) == (3, 3)
    model.forget()
    model.answer([tiny.item(0, "?", decode=1)], [kinds["av"]])
    assert (model.seen.misses, model.heard.misses) == (3, 3)


def test_cached_features_equal_fresh_ones_to_the_bit(shared: QwenOmni) -> None:
    media = tiny.media(11)
    with torch.no_grad():
        first, again = (qwen_towers.encode_videos(shared.thinker, [media.frames])[0] for _ in range(2))
        among = qwen_towers.encode_videos(shared.thinker, [tiny.media(12).frames, media.frames])[1]
    assert torch.equal(first.features, again.features)
    assert len(first.deep) == (0 if shared.thinker.family == "qwen2.5-omni" else 2)
    torch.testing.assert_close(among.features, first.features, atol=1e-5, rtol=1e-5)


def test_trimmed_mel_features_are_the_processors_own(shared: QwenOmni) -> None:
    for seconds in (0.5, 2.0, 2.377):
        media = tiny.media(5, seconds=seconds)
        batch = qwen_plain.process(shared.thinker, tiny.item(0, "?"), media.with_frames(None))
        kept = int(batch["feature_attention_mask"].sum())
        ours = qwen_towers.mel_features(shared.thinker, media.wave)
        np.testing.assert_allclose(ours, batch["input_features"][0, :, :kept].numpy(), atol=2e-6)
        assert qwen_inputs.audio_tokens(shared.thinker, kept) == int(
            (batch["input_ids"] == shared.processor.audio_token_id).sum()
        )


def test_interleaved_positions_share_one_clock_and_a_forgotten_flag_is_caught(shared: QwenOmni) -> None:
    thinker = shared.thinker
    batch = qwen_plain.process(thinker, tiny.item(0, "What?"), tiny.media(6))
    ids = batch["input_ids"]
    sounds, grid = batch["feature_attention_mask"].sum(-1), batch["video_grid_thw"]
    right, wrong = (
        thinker.model.get_rope_index(
            ids, None, grid, batch["attention_mask"], f, sounds, batch["video_second_per_grid"]
        )[0]
        for f in (True, False)
    )
    assert float(right.max()) < ids.shape[1] - 1
    qwen_inputs.check_interleaved(thinker, ids[0], right[:, 0])
    with pytest.raises(ValueError, match="use_audio_in_video"):
        qwen_inputs.check_interleaved(thinker, ids[0], wrong[:, 0])


def test_shared_layout_equals_the_processors_tokens(shared: QwenOmni) -> None:
    for name, media in every_kind().items():
        item, kind = tiny.item(0, "What do you hear?"), qwen_inputs.kind_of(media)
        before, after = qwen_inputs.split_prompt(shared.thinker, item, kind)
        with torch.no_grad():
            (seen,), (heard,) = shared.encode([media])
        layout = qwen_inputs.lay_out(shared.thinker, before, kind, seen, heard)
        whole = qwen_plain.process(shared.thinker, item, media)["input_ids"][0]
        assert [*layout.ids.tolist(), *after] == whole.tolist(), name


def test_a_long_question_behind_short_ones_changes_nothing(shared: QwenOmni, plain: QwenOmni) -> None:
    media = tiny.media(7)
    prompts = ["What?", "bell drum yes no " * 120 + "What do you hear?", "Is there a dog sound?"]
    items = [tiny.item(n, p, ("yes", "no"), decode=5) for n, p in enumerate(prompts)]
    for got, want in zip(shared.answer(items, [media] * 3), plain.answer(items, [media] * 3), strict=True):
        assert_same(got, want)


def test_a_long_text_that_questions_share_is_read_once(
    shared: QwenOmni, plain: QwenOmni, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "bell drum yes no what do you hear " * 30
    ends = ["Is there a dog sound?", "What do you see?", "", "Is there a bell sound? yes or no"]
    one, other = tiny.media(7), tiny.media(8)
    items = [tiny.item(n, noise + end, ("yes", "no", "dog barking"), decode=5) for n, end in enumerate(ends * 2)]
    items.append(tiny.item(9, "drum " + noise, ("yes",)))
    media = [one] * 4 + [other] * 5
    read: list[int] = []
    run = qwen_decode._run

    def counting(thinker: Any, cache: Any, ids: Any, mask: Any, positions: Any) -> Any:
        read.append(ids.shape[0] * ids.shape[1])
        return run(thinker, cache, ids, mask, positions)

    monkeypatch.setattr(qwen_decode, "_run", counting)
    got = shared.answer(items, media)
    for answer, want in zip(got, plain.answer(items, media), strict=True):
        assert_same(answer, want)
    whole = sum(a.fed.prompt_tokens for a in got if a.fed)
    assert sum(read) < whole / 2, "eight questions read two long texts, the ninth its own"


def test_text_that_begins_below_the_pictures_last_position(shared: QwenOmni) -> None:
    """A frame more patches wide than its sound has tokens: the question starts, and may end, below the picture."""
    thinker = wrap(shared.model, shared.processor, View(max_pixels=200 * 1400))
    frames = np.random.default_rng(0).integers(0, 255, (2, 64, 1280, 3), dtype=np.uint8)
    wide = Media(
        frames=frames, times=np.arange(2) / 2, wave=tiny.media(3, seconds=1.0).wave, rate=16_000, duration=1
    )
    items = [tiny.item(0, "?", ("yes", "no", "dog barking")), tiny.item(1, QUESTIONS[1][0], CHOICES)]
    with torch.no_grad():
        ((seen,), (heard,)) = QwenOmni(thinker).encode([wide])
    before, after = qwen_inputs.split_prompt(thinker, items[0], "av")
    layout = qwen_inputs.lay_out(thinker, before, "av", seen, heard)
    assert layout.positions.max() > len(layout) + len(after) + layout.shift
    ways = [QwenOmni(thinker, plain=plain) for plain in (False, True)]
    for got, want in zip(*(way.answer(items, [wide, wide]) for way in ways), strict=True):
        assert_same(got, want)


def test_choice_log_prob_is_the_sum_over_its_tokens(shared: QwenOmni) -> None:
    """By hand: the whole prompt and the choice in one forward of the model as transformers runs it."""
    item, media = tiny.item(0, "What do you hear?", ("None of the above",)), tiny.media(8)
    batch = qwen_plain.process(shared.thinker, item, media)
    ids = shared.processor.tokenizer("None of the above")["input_ids"]
    assert len(ids) > 1
    total = 0.0
    with torch.no_grad():
        for n, token in enumerate(ids):
            tail = torch.tensor([ids[:n]], dtype=torch.long)
            given = {**batch, "input_ids": torch.cat([batch["input_ids"], tail], 1)}
            given["attention_mask"] = torch.ones_like(given["input_ids"])
            logits = shared.model(**given, use_audio_in_video=True).logits[0, -1]
            total += float(logits.log_softmax(-1)[token])
    (answer,) = shared.answer([item], [media])
    assert answer.logprobs is not None
    assert answer.logprobs["None of the above"] == pytest.approx(total, abs=1e-4)


def test_media_tokens_are_never_generated_and_end_tokens_end(
    shared: QwenOmni, monkeypatch: pytest.MonkeyPatch
) -> None:
    thinker, item, media = shared.thinker, tiny.item(0, "What?", decode=6), tiny.media(9)
    audio, end = int(shared.processor.audio_token_id), thinker.ends[0]

    def favour(order: list[int]) -> Any:
        bias = torch.zeros(thinker.model.lm_head.out_features)
        for rank, token in enumerate(order):
            bias[token] = 1e4 - 10 * rank
        return thinker.model.lm_head.register_forward_hook(lambda m, i, out: out + bias)

    word = int(shared.processor.tokenizer("bell")["input_ids"][0])
    hook = favour([audio, word])
    try:
        (answer,) = shared.answer([item], [media])
    finally:
        hook.remove()
    assert answer.text == shared.processor.tokenizer.decode([word] * 6).strip()
    hook = favour([end])
    try:
        (answer,) = shared.answer([item], [media])
        (same,) = QwenOmni(thinker, plain=True, name=shared.name).answer([item], [media])
    finally:
        hook.remove()
    assert answer.text is None, "an empty generation is no answer"
    assert "nothing but its end token" in str(answer.error)
    assert answer.fed is not None
    assert_same(answer, same)


def test_a_media_token_in_the_question_is_refused(shared: QwenOmni) -> None:
    with pytest.raises(ValueError, match="2 media placeholders"):
        shared.answer([tiny.item(0, f"What is {shared.processor.video_token}?")], [tiny.media(1)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 44_100}, "44100 Hz"),
        ({"wave": np.zeros((2, 32_000), np.float32)}, "mono"),
        ({"wave": np.zeros((1, 100), np.float32)}, "too short"),
        ({"times": np.arange(4) / 8}, "0.125 s apart"),
    ],
)
def test_media_of_another_view_are_refused(shared: QwenOmni, change: dict[str, Any], message: str) -> None:
    good = tiny.media(1)
    fields = {k: getattr(good, k) for k in ("frames", "times", "wave", "rate", "duration")}
    with pytest.raises(ValueError, match=message):
        shared.answer([tiny.item(0, "?")], [Media(**{**fields, **change})])


def test_a_sound_past_the_longest_input_is_refused_not_cut(shared: QwenOmni) -> None:
    if shared.thinker.family == "qwen3-omni":
        pytest.skip("Qwen3 has no longest sound")
    long = Media(frames=None, times=None, wave=np.zeros((1, 31 * 16_000), np.float32), rate=16_000, duration=31.0)
    with pytest.raises(ValueError, match="30 s at most"):
        shared.answer([tiny.item(0, "?")], [long])


@pytest.mark.skipif(not (load.HANS / "config.json").is_file(), reason="Hans is not in the package yet")
def test_the_hans_that_ships_answers_the_same_both_ways() -> None:
    model: Any = load.load_model("hans")
    plain = QwenOmni(model.thinker, name="hans", plain=True)
    height, width = model.view.size
    assert height == width
    media = [tiny.media(n, size=height) for n in range(2)]
    media = [*media, media[0].with_wave(None), media[0].with_wave(np.zeros_like(media[0].wave))]
    items = [tiny.item(n, QUESTIONS[1][0], ("bell", "drum")) for n in range(4)]
    for got, want in zip(model.answer(items, media), plain.answer(items, media), strict=True):
        assert_same(got, want)


def test_hopeless_options_are_refused(shared: QwenOmni) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        QwenOmni(shared.thinker, batch=0)
    with pytest.raises(ValueError, match="2 items for 1 media"):
        shared.answer([tiny.item(0, "?"), tiny.item(1, "?")], [tiny.media(1)])


def test_rows_that_end_early_leave_the_others_alone(shared: QwenOmni) -> None:
    """Greedy rows of very different lengths: the batch shrinks on the way, and each row keeps its own text."""
    media = [tiny.media(n) for n in range(5)]
    items = [tiny.item(n, "What do you hear?", decode=d) for n, d in enumerate((1, 2, 3, 20, 20))]
    together = shared.answer(items, media)
    for item, medium, got in zip(items, media, together, strict=True):
        (alone,) = shared.answer([item], [medium])
        assert_same(got, alone)
    assert qwen_decode.whole_text(shared.thinker, []) == ""
