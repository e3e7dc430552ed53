"""Reading many answers behind one clip at once is exact: log-probs, entropies, gradients, samples."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import small_sets  # noqa: E402
from earwitness.align import forward, sampling  # noqa: E402
from earwitness.align.feeding import Feeder  # noqa: E402
from earwitness.align.packing import Row, as_rows, pack  # noqa: E402
from earwitness.align.tree import grow, visible  # noqa: E402
from earwitness.datasets.opening import open_clips  # noqa: E402
from earwitness.models import qwen_plain  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.records import Intervention  # noqa: E402

Tokens = st.lists(st.integers(0, 3), min_size=1, max_size=6)


@given(st.lists(Tokens, min_size=1, max_size=6))
def test_a_tree_holds_each_row_and_shows_it_its_own_past_only(rows: list[list[int]]) -> None:
    tree = grow(rows)
    sees = visible(tree)
    for row, nodes in zip(rows, tree.nodes, strict=True):
        assert [tree.ids[n] for n in nodes] == row
        assert [tree.depths[n] for n in nodes] == list(range(len(row)))
        for i, n in enumerate(nodes):
            assert sorted(int(k) for k in sees[n].nonzero()[0]) == sorted(nodes[: i + 1])
    assert len(tree) == len({tuple(row[: i + 1]) for row in rows for i in range(len(row))})


def test_a_tree_of_one_row_is_a_chain_and_an_empty_row_is_refused() -> None:
    assert grow([[1, 2, 3]]).chain
    assert not grow([[1, 2], [1, 3]]).chain
    with pytest.raises(ValueError, match="row 1 of 2 has no tokens"):
        grow([[1], []])


@pytest.fixture(scope="module")
def feeder(shared: QwenOmni) -> Feeder:
    return Feeder(shared, open_clips("foley", limit=small_sets.CLIPS, seed=small_sets.SEED))


@pytest.fixture(scope="module")
def rows(feeder: Feeder) -> list[Row]:
    """Four pairs on three clips, a clip without a track and one without frames; two answers each."""
    some = small_sets.pairs()[:6]
    items = [p.item for p in some]
    lone = [
        _changed(items[0], kind="no_track"),
        _changed(items[1], kind="no_frames"),
    ]
    asked = [*items, *lone]
    answers = [p.chosen for p in some] + ["bell", "I hear a drum, not a bell."]
    others = [p.rejected or "" for p in some] + ["drum", "I hear nothing."]
    return feeder.rows([*asked, *asked], [*answers, *others])


def _changed(item: Any, kind: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(item, intervention=Intervention(kind=kind))


def test_packed_rows_are_what_separate_rows_are(shared: QwenOmni, rows: list[Row]) -> None:
    with torch.no_grad():
        packed, plain = pack(rows), pack(rows, plain=True)
        a, b = (forward.score(shared.model, p) for p in (packed, plain))
    assert packed.tokens[1] < 0.6 * plain.tokens[1]
    assert torch.equal(a.label_mask, b.label_mask)
    assert torch.allclose(a.log_probs, b.log_probs, atol=1e-5)
    assert torch.allclose(a.entropy, b.entropy, atol=1e-5)
    assert torch.equal(a.is_top1, b.is_top1)
    assert a.loss.item() == pytest.approx(b.loss.item(), abs=1e-5)


def test_packed_gradients_are_those_of_separate_rows(shared: QwenOmni, rows: list[Row]) -> None:
    found = []
    for plain in (False, True):
        shared.model.zero_grad()
        forward.score(shared.model, pack(rows, plain=plain)).loss.backward()
        found.append({n: p.grad.clone() for n, p in shared.model.named_parameters() if p.grad is not None})
    shared.model.zero_grad()
    assert found[0].keys() == found[1].keys()
    assert any("language_model" in name for name in found[0])
    assert not any(name.startswith(("model.visual", "model.audio_tower")) for name in found[0])
    for name, grad in found[0].items():
        assert torch.allclose(grad, found[1][name], atol=1e-5), name
    assert max(g.abs().max() for g in found[0].values()) > 1e-3


def test_log_probs_are_those_of_the_processor_and_the_models_own_forward(
    shared: QwenOmni, feeder: Feeder, rows: list[Row]
) -> None:
    item = small_sets.pairs()[0].item
    answer = feeder.answer("I hear a drum.")
    media = feeder.media(item)
    batch = qwen_plain.process(shared.thinker, item, media)
    told = qwen_plain.media_options(shared.thinker, "av", batch)
    tail = torch.tensor([answer])
    longer = torch.cat([batch["input_ids"], tail], 1)
    mask = torch.cat([batch["attention_mask"], torch.ones_like(tail)], 1)
    with torch.no_grad():
        logits = shared.model(**{**batch, "input_ids": longer, "attention_mask": mask}, **told).logits
        theirs = logits[0, -len(answer) - 1 : -1].log_softmax(-1).gather(-1, tail[0][:, None])[:, 0]
        ours = forward.score(shared.model, pack([*rows, *feeder.rows([item], ["I hear a drum."])]))
    assert torch.allclose(ours.log_probs[-1][ours.label_mask[-1]], theirs, atol=1e-5)


def test_log_probs_change_when_the_sound_changes_and_when_the_picture_does(
    shared: QwenOmni, feeder: Feeder
) -> None:
    """The fault of a released trainer: it scored without any media."""
    item = small_sets.pairs()[0].item
    asked = [item, _changed(item, "mute"), _changed(item, "black"), _changed(item, "original")]
    with torch.no_grad():
        out = forward.score(shared.model, pack(feeder.rows(asked, ["drum"] * 4)))
    sums = out.log_probs.sum(1)
    assert sums[3] == pytest.approx(sums[0].item(), abs=1e-5)
    assert abs(sums[1] - sums[0]) > 1e-3
    assert abs(sums[2] - sums[0]) > 1e-3


def test_the_order_of_rows_does_not_matter(shared: QwenOmni, rows: list[Row]) -> None:
    order = random.Random(1).sample(range(len(rows)), len(rows))
    with torch.no_grad():
        a = forward.score(shared.model, pack(rows)).log_probs.sum(1)
        b = forward.score(shared.model, pack([rows[n] for n in order])).log_probs.sum(1)
    assert torch.allclose(a[order], b, atol=1e-5)


def test_trainers_rows_count_answer_tokens_only(feeder: Feeder, rows: list[Row]) -> None:
    batch = as_rows(rows, feeder.pad)
    packed = pack(rows)
    assert batch["input_ids"].shape == packed.shape
    for row, ids, mask, labels in zip(
        rows, batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True
    ):
        kept = labels[labels != -100].tolist()
        assert tuple(kept) == row.tail[row.first :]
        assert kept[-1] == feeder.end
        assert int(mask.sum()) == len(row)
        assert ids[: len(row.shown.layout)].tolist() == row.shown.layout.ids.tolist()
    assert len(packed.labels) == int((batch["labels"] != -100).sum())


def test_what_a_feeder_holds_is_bounded_and_what_had_to_go_comes_back_the_same(
    shared: QwenOmni, feeder: Feeder
) -> None:
    items = [p.item for p in small_sets.pairs()[:4]]
    clips = open_clips("foley", limit=small_sets.CLIPS, seed=small_sets.SEED)
    plenty = feeder.shown(items)
    largest = max(s.nbytes for shown, _ in plenty for s in (shown.seen, shown.heard) if s is not None)
    small = Feeder(shared, clips, cache_bytes=largest)  # one clip's at a time
    for _ in range(2):
        for (a, question), (b, asked) in zip(plenty, small.shown(items), strict=True):
            assert (a.layout.ids.tolist(), question) == (b.layout.ids.tolist(), asked)
            for one, two in ((a.seen, b.seen), (a.heard, b.heard)):
                assert one is not None
                assert two is not None
                torch.testing.assert_close(one.features, two.features, rtol=0, atol=0)
        assert small._seen.nbytes <= largest
        assert small._heard.nbytes <= largest


def test_answers_with_media_tokens_and_rows_without_answers_are_refused(feeder: Feeder, rows: list[Row]) -> None:
    token = feeder.model.processor.audio_token
    with pytest.raises(ValueError, match="holds a media token"):
        feeder.answer(f"I hear {token}")
    with pytest.raises(ValueError, match="nothing to score"):
        Row(rows[0].shown, (1, 2), 2)
    with pytest.raises(ValueError, match="empty batch"):
        pack([])


def test_a_call_without_a_packed_batch_goes_the_models_own_way(folder: Any) -> None:
    model = QwenOmni(folder)
    feeder = Feeder(model, open_clips("foley", limit=small_sets.CLIPS, seed=small_sets.SEED))
    item = small_sets.pairs()[0].item
    batch = qwen_plain.process(model.thinker, item, feeder.media(item))
    told = qwen_plain.media_options(model.thinker, "av", batch)
    packed = pack(feeder.rows([item], ["bell"]))
    with torch.no_grad():
        before = model.model(**batch, **told).logits
        forward.attach(model.model)
        assert torch.equal(model.model(**batch, **told).logits, before)
        scored = model.model(packed=packed)
        assert scored.log_probs.shape == (1, packed.shape[1] - 1)
        with pytest.raises(ValueError, match="router"):
            model.model(packed=packed, output_router_logits=True)


def test_samples_have_the_log_probs_that_scoring_gives_them(shared: QwenOmni, feeder: Feeder) -> None:
    """|log p at generation - log p at scoring| < 1e-3: where it fails, media were lost on one side."""
    items = [p.item for p in small_sets.pairs()[:5]]
    found = sampling.say(
        feeder, items, tokens=6, samples=3, temperature=1.0, generator=torch.Generator().manual_seed(3)
    )
    assert [len(some) for some in found] == [3] * 5
    flat = [(item, s) for item, some in zip(items, found, strict=True) for s in some]
    with torch.no_grad():
        scored = forward.score(shared.model, pack(feeder.rows([i for i, _ in flat], [s.tokens for _, s in flat])))
    for (_, s), logs, mask in zip(flat, scored.log_probs, scored.label_mask, strict=True):
        assert logs[mask].tolist() == pytest.approx(list(s.logprobs), abs=1e-4)
    assert len({s.tokens for _, s in flat}) > 5  # they are samples, not one answer


def test_media_tokens_are_never_sampled(shared: QwenOmni, feeder: Feeder, monkeypatch: pytest.MonkeyPatch) -> None:
    head = shared.model.get_output_embeddings()
    wanted = torch.tensor(shared.thinker.suppressed)

    def biased(_: Any, __: Any, out: Any) -> Any:
        return out.index_add(-1, wanted, torch.full((*out.shape[:-1], len(wanted)), 50.0))

    hook = head.register_forward_hook(biased)
    try:
        item = small_sets.pairs()[0].item
        (some,) = sampling.say(feeder, [item], tokens=8, samples=4, temperature=1.0)
    finally:
        hook.remove()
    assert not {t for s in some for t in s.tokens} & set(shared.thinker.suppressed)


def test_greedy_answers_are_those_of_an_audit(shared: QwenOmni, feeder: Feeder) -> None:
    import msgspec

    items = [msgspec.structs.replace(p.item, decode=6) for p in small_sets.pairs()[:6]]
    theirs = [a.text or "" for a in shared.answer(items, [feeder.media(i) for i in items])]
    ours = [some[0] for some in sampling.texts(feeder, sampling.say(feeder, items))]
    assert ours == theirs
    with pytest.raises(ValueError, match="temperature 0"):
        sampling.say(feeder, items, samples=2)


def test_top_p_leaves_the_likeliest_alone(feeder: Feeder) -> None:
    item = small_sets.pairs()[0].item
    (greedy,) = sampling.say(feeder, [item], tokens=5)
    (some,) = sampling.say(feeder, [item], tokens=5, samples=3, temperature=1.0, top_p=1e-6)
    assert {s.tokens for s in some} == {greedy[0].tokens}


def test_long_batches_are_scored_in_chunks_with_the_same_gradients(
    shared: QwenOmni, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> tuple[float, Any]:
        shared.model.zero_grad()
        loss = forward.score(shared.model, pack(rows)).loss
        loss.backward()
        return loss.item(), shared.model.get_output_embeddings().weight.grad.clone()

    whole, gradient = run()
    monkeypatch.setattr(forward, "CHUNK", 7)
    parts, other = run()
    shared.model.zero_grad()
    assert parts == pytest.approx(whole, abs=1e-6)
    assert torch.allclose(gradient, other, atol=1e-6)


def test_rows_of_very_different_length_are_read_in_batches_of_like_length(
    shared: QwenOmni, feeder: Feeder, rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    import msgspec

    from earwitness.records import Filler

    item = small_sets.pairs()[0].item
    long = msgspec.structs.replace(item, filler=Filler(words=200))
    some = [*rows, *feeder.rows([long, item], ["drum", "bell"])]
    packed = pack(some)
    assert len(forward.alike(packed.groups)) > 1
    assert sorted(n for part in forward.alike(packed.groups) for n in part) == list(range(len(packed.groups)))
    with torch.no_grad():
        parted = forward.score(shared.model, packed)
        monkeypatch.setattr(forward, "alike", lambda groups: [list(range(len(groups)))])
        whole = forward.score(shared.model, packed)
    assert torch.allclose(parted.log_probs, whole.log_probs, atol=1e-5)
    assert torch.equal(parted.label_mask, whole.label_mask)
