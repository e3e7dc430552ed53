"""Is a capture of whole thinkers, with pictures and sounds, what the plain way attends to and says?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_thinkers as tiny  # noqa: E402
from eager_reference import NEAR, by_group, eager  # noqa: E402
from earwitness import foley, protocols  # noqa: E402
from earwitness.models import qwen_plain  # noqa: E402
from earwitness.models.load import load_model  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.whitebox import forward  # noqa: E402
from earwitness.whitebox.attention import text_decoder  # noqa: E402
from earwitness.whitebox.capture import Edit, answer_logprobs, capture, probe  # noqa: E402
from earwitness.whitebox.moments import GROUPS  # noqa: E402

torch.set_num_threads(1)
Q2 = (
    "Which class best describes the *audio content* of this video? Options: {bell, drum}. "
    "Answer using a single word or phrase."
)


def _asked(model: QwenOmni) -> tuple[list[Any], list[Any], list[Any]]:
    prompts = [Q2, "Is there a dog sound?", "Video_caption: Bird. " + Q2]
    items = [tiny.item(n, p, ("bell", "drum", "dog barking"), decode=6) for n, p in enumerate(prompts)]
    media = [tiny.media(0), tiny.media(1, seconds=4.0), tiny.media(2)]
    return items, media, model.answer(items, media)


def _said(model: QwenOmni, item: Any, media: Any) -> tuple[int, ...]:
    with torch.no_grad():
        steps, _, _ = qwen_plain.ask(model.thinker, item, media, logprobs=False)
    return tuple(s.token for s in steps)


def test_a_capture_is_what_the_plain_way_attends_to(family: str, shared: QwenOmni) -> None:
    """Against one processor call and one eager pass per item: nothing cached, nothing padded."""
    items, media, answers = _asked(shared)
    said = [_said(shared, i, m) for i, m in zip(items, media, strict=True)]
    made = capture(shared, items, media, said, values=True, keep_layers=(1,))
    thinker = shared.thinker
    for item, m, tokens, got, answer in zip(items, media, said, made, answers, strict=True):
        batch = qwen_plain.process(thinker, item, m)
        told_how = qwen_plain.media_options(thinker, "av", batch)
        tail = torch.tensor([tokens[:-1]])
        longer = torch.cat([batch["input_ids"], tail], 1)
        mask = torch.cat([batch["attention_mask"], torch.ones_like(tail)], 1)
        with torch.no_grad(), eager(thinker.model):
            told = thinker.model(
                **{**batch, "input_ids": longer, "attention_mask": mask}, **told_how, output_attentions=True
            )
        assert got.groups is not None
        assert got.groups.shape == (longer.shape[1],)
        groups = torch.from_numpy(got.groups.astype(np.int64))[None]
        rows = [a[:, :, -len(tokens) :] for a in told.attentions]
        wanted = torch.stack([by_group(r, groups)[0] for r in rows]).numpy()
        assert got.mass.shape == wanted.shape == (2, 4, len(tokens), len(GROUPS))
        assert np.abs(got.mass - wanted).max() < NEAR[family]
        assert np.abs(got.mass.sum(-1) - 1).max() < 1e-5
        assert np.abs(got.kept[1] - rows[1][0].mean(0).numpy()).max() < NEAR[family]
        logp = told.logits[0, -len(tokens) :].log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        assert got.logp_answer is not None
        assert np.abs(got.logp_answer[-1] - logp.numpy()).max() < 1e-4
        drift = forward.drift(got, answer)
        assert drift is not None
        assert drift < 1e-4
        assert got.answer.strip() == answer.text
        assert got.count.sum() == longer.shape[1]


def test_a_texts_log_prob_is_the_one_the_model_gives_its_choices(shared: QwenOmni) -> None:
    items, media, answers = _asked(shared)
    for choice in items[0].choices:
        made = capture(shared, items, media, [choice] * 3)
        for got, answer in zip(made, answers, strict=True):
            assert got.logp_answer is not None
            assert answer.logprobs is not None
            assert float(got.logp_answer[-1].sum()) == pytest.approx(answer.logprobs[choice], abs=1e-4)
            first = got.logp_choice[choice][-1]
            assert float(first) == pytest.approx(float(got.logp_answer[-1, 0]), abs=1e-5)


def test_batches_and_order_change_nothing(shared: QwenOmni, family: str) -> None:
    items, media, _ = _asked(shared)
    mute = tiny.item(3, "What do you hear?")
    words = tiny.item(4, "Is there a dog sound? yes no")
    items = [items[0], mute, items[1], words, items[2]]
    media = [media[0], tiny.media(3, frames=False), media[1], tiny.media(0, frames=False, sound=False), media[2]]
    said = ["bell", "drum dog", "yes", "no yes no", "dog barking"]
    before = (shared.room.rows, shared.room.tokens)
    together = capture(shared, items, media, said)
    shared.room.rows = 1
    alone = capture(shared, items, media, said)
    shared.room.rows = before[0]
    for a, b, item, text in zip(together, alone, items, said, strict=True):
        assert a.item == b.item == item.id
        assert a.answer == text
        assert np.abs(a.mass - b.mass).max() < NEAR[family]
        assert (a.count == b.count).all()
        assert a.entropy is not None
        assert b.entropy is not None
        assert np.abs(a.entropy - b.entropy).max() < NEAR[family]


def test_where_memory_runs_out_a_batch_is_halved(shared: QwenOmni, monkeypatch: pytest.MonkeyPatch) -> None:
    items, media, _ = _asked(shared)
    run, sizes = forward.run, []

    def short(batch: forward.Batch) -> None:
        sizes.append(len(batch.asked))
        if len(batch.asked) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        run(batch)

    before = (shared.room.rows, shared.room.tokens)
    wanted = capture(shared, items, media, ["bell"] * 3)
    monkeypatch.setattr(forward, "run", short)
    made = capture(shared, items, media, ["bell"] * 3)
    assert sizes == [3, 1, 2, 1, 1]
    assert [c.item for c in made] == [i.id for i in items]
    assert all(np.abs(a.mass - b.mass).max() < 1e-4 for a, b in zip(made, wanted, strict=True))

    def never(batch: forward.Batch) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(forward, "run", never)
    with pytest.raises(ValueError, match="item i0: out of memory with this item alone"):
        capture(shared, items[:1], media[:1], ["bell"])
    shared.room.rows, shared.room.tokens = before


def test_bad_answers_are_named(shared: QwenOmni) -> None:
    item, media = tiny.item(7, Q2), tiny.media(0)
    with pytest.raises(ValueError, match="item i7: an empty answer"):
        capture(shared, [item], [media], [""])
    with pytest.raises(ValueError, match=r"item i7: the answer .* contains a media token"):
        capture(shared, [item], [media], ["a " + shared.processor.video_token])
    with pytest.raises(ValueError, match="1 items, 1 media, 2 answers"):
        capture(shared, [item], [media], ["a", "b"])


def test_a_model_that_is_elsewhere_is_refused() -> None:
    far = load_model("fake:hears")
    with pytest.raises(ValueError, match="fake:hears cannot be looked into: its weights are not on this machine"):
        capture(far, [tiny.item(0, Q2)], [tiny.media(0)], ["bell"])  # type: ignore[arg-type]


def test_hans_replayed_says_what_he_said() -> None:
    hans = load_model("hans")
    assert isinstance(hans, QwenOmni)
    clips = foley.clip_set(3, seed=5)
    settings = protocols.Settings(mma_styles=("standard",))
    wanted = ("aligned", "misleading_caption")
    items = [i for i in protocols.load("mma").items(clips.clips, settings) if i.condition in wanted]
    media = {c.id: clips.media(c, hans.view) for c in clips.clips}
    fed = [media[i.clip] for i in items]
    answers = hans.answer(items, fed)
    said = [a.text or "" for a in answers]
    for item, answer, got in zip(items, answers, capture(hans, items, fed, said), strict=True):
        assert got.answer == answer.text
        drift = forward.drift(got, answer)
        assert drift is not None
        assert drift < 1e-4
        assert (got.count[GROUPS.index("caption")] > 0) == (item.condition == "misleading_caption")
        assert got.mass.shape[:2] == (4, 4)
        assert np.abs(got.mass.sum(-1) - 1).max() < 1e-5


def test_generating_and_reading_afterwards_see_the_same_rows(family: str, shared: QwenOmni) -> None:
    """With a dynamic and a static cache, and read in chunks; and the tokens stay what they were."""
    thinker, decoder = shared.thinker, text_decoder(shared.model)
    greedy = {
        "max_new_tokens": 12, "min_new_tokens": 12, "do_sample": False, "suppress_tokens": list(thinker.suppressed),
        "disable_compile": True,
    }  # fmt: skip
    words = tiny.media(0, frames=False, sound=False)  # raw media cannot be read in chunks
    ways: list[tuple[Any, dict[str, Any]]] = [
        (tiny.media(4), {}), (tiny.media(4), {"cache_implementation": "static"}),
        (words, {"prefill_chunk_size": 32}),
    ]  # fmt: skip
    for media, more in ways:
        item = tiny.item(0, Q2, decode=12)
        batch = qwen_plain.process(thinker, item, media)
        how = qwen_plain.media_options(thinker, "t" if media is words else "av", batch)
        length = batch["input_ids"].shape[1]
        with torch.no_grad():
            plain = thinker.model.generate(**batch, **how, **greedy)
        said = tuple(plain[0, length:].tolist())
        (replayed,) = capture(shared, [item], [media], [said], keep_layers=(0,), lens=False)
        assert replayed.groups is not None
        groups = torch.from_numpy(replayed.groups[:length].astype(np.int64))[None]
        with torch.no_grad(), probe(decoder, groups, length - 1) as taken:
            made = thinker.model.generate(**batch, **how, **greedy, **more)
        assert torch.equal(made, plain)
        rows = taken.mass[:, 0].numpy()
        assert rows.shape == replayed.mass.shape == (2, 4, 12, len(GROUPS))
        assert np.abs(rows - replayed.mass).max() < NEAR[family]


def test_an_edit_of_the_last_row_moves_the_answer(shared: QwenOmni) -> None:
    items, media, _ = _asked(shared)

    def work(batch: forward.Batch) -> list[tuple[Any, Any]]:
        nothing = answer_logprobs(batch)
        own = torch.arange(batch.groups.shape[1]) >= int(batch.rows[0])
        cut = answer_logprobs(batch, {n: [Edit(own, batch.groups == GROUPS.index("audio"))] for n in range(2)})
        return list(zip(nothing, cut, strict=True))

    made = forward.each_batch(shared, items, media, ["bell", "dog barking", "drum"], work)
    plain = capture(shared, items, media, ["bell", "dog barking", "drum"])
    for (nothing, cut), got in zip(made, plain, strict=True):
        assert got.logp_answer is not None
        assert np.abs(nothing - got.logp_answer[-1]).max() < 1e-4
        assert np.abs(nothing - cut).max() > 1e-3
