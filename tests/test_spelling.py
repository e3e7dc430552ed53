"""What was said, token by token: the quick way's log-probs are the plain way's, and those of scored choices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="local models are an extra")
pytest.importorskip("transformers", reason="local models are an extra")

import tiny_thinkers as tiny  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.models.spelling import Spelled  # noqa: E402
from earwitness.records import Answer, Item, Media  # noqa: E402


@pytest.fixture(scope="module")
def asked() -> tuple[list[Item], list[Media]]:
    """Four kinds of media, answers of different lengths: rows leave the batch on the way."""
    av = tiny.media(1)
    kinds = [av, av.with_wave(None), av.with_frames(None), tiny.media(2, seconds=3.37)]
    media = [m for m in kinds for _ in range(2)]
    items = [tiny.item(n, "What do you hear?", ("bell", "drum"), decode=1 + 3 * n) for n in range(len(media))]
    return items, media


def test_log_probs_of_what_is_said_are_those_of_the_plain_way(folder: Path, shared: QwenOmni, asked: Any) -> None:
    items, media = asked
    plain = QwenOmni(shared.thinker, name=shared.name, plain=True)
    quick, slow = shared.spell(items, media, top=5), plain.spell(items, media, top=5)
    for got, want, item in zip(quick, slow, items, strict=True):
        assert isinstance(got, Spelled)
        assert isinstance(want, Spelled)
        assert [t.text for t in got.tokens] == [t.text for t in want.tokens]
        assert 0 < len(got.tokens) <= item.decode
        assert got.logprob == pytest.approx(want.logprob, abs=1e-4)
        assert got.logprob == pytest.approx(sum(t.logprob for t in got.tokens), abs=1e-6)
        for a, b in zip(got.tokens, want.tokens, strict=True):
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
            best = [p for _, p in a.likeliest]
            assert best == sorted(best, reverse=True)
            np.testing.assert_allclose(best, [p for _, p in b.likeliest], atol=1e-4)
            assert a.logprob <= best[0] < 0
            assert len(best) == 5
    assert len({len(a.tokens) for a in quick if isinstance(a, Spelled)}) > 2


def test_spelled_answers_are_the_answers(shared: QwenOmni, asked: Any) -> None:
    items, media = asked
    for spelled, answer in zip(shared.spell(items, media), shared.answer(items, media), strict=True):
        assert type(answer) is Answer, "a run's log holds no tokens"
        assert (spelled.text, spelled.fed, spelled.error) == (answer.text, answer.fed, answer.error)
        assert spelled.logprob == pytest.approx(answer.logprob, abs=1e-5)
        assert isinstance(spelled, Spelled)
        assert all(t.likeliest == () for t in spelled.tokens)


def test_the_text_s_log_prob_is_that_of_a_choice_with_these_tokens(shared: QwenOmni, asked: Any) -> None:
    """One token said, scored as a choice: one number by two ways, where a text is that one token again."""
    _, (medium, *_) = asked
    words = shared.processor.tokenizer
    compared = 0
    items = [tiny.item(n, f"{n}. What do you hear?", decode=1) for n in range(24)]
    for item, said in zip(items, shared.answer(items, [medium] * len(items)), strict=True):
        if said.text is None or len(words.tokenize(said.text)) != 1:
            continue
        (scored,) = shared.answer([tiny.item(99, item.prompt, (said.text,), decode=1)], [medium])
        (spelled,) = shared.spell([item], [medium])
        assert isinstance(spelled, Spelled)
        if [t.text for t in spelled.tokens] == [said.text] and scored.logprobs is not None:
            assert scored.logprobs[said.text] == pytest.approx(said.logprob, abs=1e-4)
            compared += 1
    assert compared, "no text of this model is tokenized as it was said: choose another prompt"
