"""Is a cut path really cut, and nothing else; and what does Hans lose by it?

References: one processor call and one pass with a dense mask of all tokens by all tokens, token groups found by id.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_thinkers as tiny  # noqa: E402 - before transformers
from earwitness import protocols  # noqa: E402
from earwitness import run as runs  # noqa: E402
from earwitness.audit import Bank  # noqa: E402
from earwitness.datasets.opening import open_clips  # noqa: E402
from earwitness.models import qwen_plain  # noqa: E402
from earwitness.models.load import load_model  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.protocols import Settings  # noqa: E402
from earwitness.records import Estimate, Item, Media, Table  # noqa: E402
from earwitness.whitebox import (  # noqa: E402
    causal,
    contribution,
    cut_tables,
    forward,
    knockout,
    store,
    tracing,
    twins,
)
from earwitness.whitebox.capture import capture, probe  # noqa: E402
from earwitness.whitebox.edges import (  # noqa: E402
    Cut,
    drawn,
    groups_of,
    path,
    read_edge,
    read_windows,
    seen_and_heard,
)
from earwitness.whitebox.joined import load  # noqa: E402
from earwitness.whitebox.moments import GROUPS, About  # noqa: E402
from earwitness.whitebox.patching import odds, patch  # noqa: E402

from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS as TABLE  # noqa: E402  # isort: skip

NEAR = {"qwen2.5-omni": 1e-5, "qwen3-omni": 1e-4}  # the mixture of experts enlarges what the two ways differ by
CHOICES = ("bell", "drum", "dog barking")
PROMPT = "Which class best describes the audio content of this video? Options: {bell, drum, dog barking}."
EVERY = (
    "video->answer", "audio->answer", "text->answer", "options->answer", "sink->answer", "audio<->video",
    "video->question", "video+audio->text", "audio->rest",
)  # fmt: skip


def asked() -> tuple[list[Item], list[Media], list[str]]:
    """Three questions of different length on clips of different length, and answers of one to three words."""
    prompts = [PROMPT, "Is there a dog sound?", "What do you hear? " + PROMPT]
    items = [tiny.item(n, p, CHOICES, seen=("bell",), heard=("drum",)) for n, p in enumerate(prompts)]
    return items, [tiny.media(0), tiny.media(1, seconds=4.0), tiny.media(2)], ["bell", "dog barking", "a bell drum"]


# --- which tokens ------------------------------------------------------------------------------------------------


def row(*names: str) -> Any:
    return np.array([GROUPS.index(n) for n in names], np.int8)


LINE = row(
    "sink", "template", "marker", *["video"] * 4, *["audio"] * 3, "marker", "instruction", "options", "template"
)


def test_an_edge_is_read_and_a_wrong_one_refused() -> None:
    assert read_edge("audio->answer") == (("audio", "answer"),)
    assert read_edge("audio<->video") == (("audio", "video"), ("video", "audio"))
    for wrong, why in (
        ("audio", "expected SOURCE->TARGET"), ("sound->answer", "no tokens called 'sound'.*video"),
        ("answer->video", "can only be targets"), ("video->media", "video on both sides"),
        ("generated->answer", "no tokens called"), ("->answer", "expected"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            read_edge(wrong)


def test_windows_are_read_and_wrong_ones_refused() -> None:
    assert read_windows("all,0-3, 4-7,5", 8) == [(0, 7), (0, 3), (4, 7), (5, 5)]
    assert read_windows("by 3", 8) == [(0, 2), (3, 5), (6, 7)]
    for wrong in ("8", "3-1", "a-b", "-1", "", "by 0"):
        with pytest.raises(ValueError, match="layers"):
            read_windows(wrong, 8)


def test_the_tokens_of_an_edge() -> None:
    count = len(LINE)
    answer = path("video", "answer", LINE)
    assert answer.queries.nonzero()[0].tolist() == [count - 1, count]
    assert answer.keys.nonzero()[0].tolist() == [3, 4, 5, 6]
    text = path("text", "answer", LINE)  # the asking token, of the template, is not hidden from itself
    assert text.keys.nonzero()[0].tolist() == [1, 11, 12]
    assert not path("options", "video", LINE).keys.any()  # nobody sees what comes later
    assert path("audio", "video", LINE).keys.sum() == 0
    assert path("video", "audio", LINE).keys.sum() == 4
    rest = path("audio", "rest", LINE)
    assert rest.queries.sum() == count + 1 - 3
    assert not rest.queries[7:10].any()


@pytest.mark.parametrize("edge", ["video->answer", "audio->question", "text->answer", "video->audio"])
def test_a_control_hides_as_many_others_that_can_be_seen(edge: str) -> None:
    ((source, target),) = read_edge(edge)
    real = path(source, target, LINE)
    made = [drawn(source, real, LINE, f"{seed:04x}") for seed in range(40)]
    last = int(real.queries.nonzero()[0][-1])
    pool = [n for n in range(1, len(LINE) - 1) if n < last and not real.keys[n]]
    pool = [n for n in pool if GROUPS[LINE[n]] not in groups_of(source)]
    assert all(m.keys.sum() == min(real.keys.sum(), len(pool)) for m in made)
    assert not any((m.keys & real.keys).any() for m in made)
    assert all((m.queries == real.queries).all() for m in made)
    hit = np.any([m.keys for m in made], 0)
    assert hit.nonzero()[0].tolist() == pool  # all of them are drawn at times, and no other ever
    again = drawn(source, real, LINE, "0003")
    assert (again.keys == made[3].keys).all()


def test_what_is_seen_and_heard() -> None:
    item = tiny.item(0, PROMPT, CHOICES, seen=("Dog barking",), heard=("drum",))
    assert seen_and_heard(item) == ("dog barking", "drum")
    assert seen_and_heard(tiny.item(0, PROMPT, CHOICES, seen=("bell",), heard=("bell",))) is None
    assert seen_and_heard(tiny.item(0, PROMPT, CHOICES, seen=("bell",), heard=("siren",))) is None


# --- cuts are exact ----------------------------------------------------------------------------------------------


@contextmanager
def dense(hidden: Any, layers: Sequence[int]) -> Iterator[None]:
    """A mask of all tokens by all tokens [T, T] (True: hidden) in these layers of the text decoder."""
    standing = TABLE["sdpa"]

    def masked(module: Any, query: Any, key: Any, value: Any, *mask: Any, **kw: Any) -> Any:
        if query.shape[2] != len(hidden) or getattr(module, "layer_idx", None) not in layers:
            return standing(module, query, key, value, *mask, **kw)
        sees = torch.ones(hidden.shape, dtype=torch.bool).tril() & ~hidden
        return standing(module, query, key, value, sees[None, None], **kw)

    TABLE["sdpa"] = masked
    try:
        yield
    finally:
        del TABLE["sdpa"]


def by_dense_mask(model: QwenOmni, item: Item, media: Media, text: str, cut: Cut) -> float:
    """Log p of a text: one processor call, one pass, tokens told apart by their ids."""
    thinker = model.thinker
    batch = qwen_plain.process(thinker, item, media)
    ids = batch["input_ids"][0]
    told = qwen_plain.media_options(thinker, "av", batch)
    count = len(ids) + len(thinker.processor.tokenizer(text)["input_ids"])
    at = {"video": ids == thinker.processor.video_token_id, "audio": ids == thinker.processor.audio_token_id}
    hidden = torch.zeros(count, count, dtype=torch.bool)
    for source, target in read_edge(cut.edge):
        asking = torch.zeros(count, dtype=torch.bool)
        if target == "answer":
            asking[len(ids) - 1 :] = True
        else:
            asking[: len(ids)] = at[target]
        keys = torch.zeros(count, dtype=torch.bool)
        keys[: len(ids)] = at[source]
        hidden |= asking[:, None] & keys[None]
    with torch.no_grad(), dense(hidden, range(cut.layers[0], cut.layers[1] + 1)):
        return qwen_plain.score(thinker, batch, told, text)


def test_a_cut_equals_a_dense_mask_in_a_plain_pass(family: str, shared: QwenOmni) -> None:
    items, media, answers = asked()
    cuts = [Cut(e, w) for e in ("video->answer", "audio->answer", "audio<->video") for w in ((0, 1), (1, 1))]
    made = causal.measure(shared, items, media, answers, cuts, controls=0)
    moved = 0.0
    for item, m, answer, found in zip(items, media, answers, made, strict=True):
        assert [(k.edge, k.layers) for k in found] == [(c.edge, c.layers) for c in cuts]
        for k, cut in zip(found, cuts, strict=True):
            assert abs(k.cut.answer - by_dense_mask(shared, item, m, answer, cut)) < NEAR[family]
            choice = by_dense_mask(shared, item, m, "dog barking", cut)
            assert abs(k.cut.choices["dog barking"] - choice) < NEAR[family]
            moved = max(moved, abs(k.cut.answer - k.plain.answer))
            assert k.controls == ()
    assert moved > 0.01


def test_what_is_shared_is_what_whole_passes_give(family: str, shared: QwenOmni) -> None:
    """Every kind of edge, with controls, weighed ones too, in a left-padded batch of unlike lengths."""
    items, media, answers = asked()
    cuts = [*(Cut(e, (0, 1)) for e in EVERY), Cut("audio->answer", (1, 1), 2.5, (0, 3)), Cut("video->text", (0, 0))]
    table = TABLE["sdpa"]
    made = causal.measure(shared, items, media, answers, cuts, controls=2)
    plain = causal.measure(shared, items, media, answers, cuts, controls=2, plain=True)
    alone = causal.measure(shared, items[1:2], media[1:2], answers[1:2], cuts, controls=2)
    assert TABLE["sdpa"] is table
    worst = 0.0
    for one, other in [*zip(made, plain, strict=True), (made[1], alone[0])]:
        assert [(k.edge, k.keys, k.control_keys) for k in one] == [(k.edge, k.keys, k.control_keys) for k in other]
        for a, b in zip(one, other, strict=True):
            assert len(a.controls) == len(b.controls) == 2
            for x, y in ((a.plain, b.plain), (a.cut, b.cut), *zip(a.controls, b.controls, strict=True)):
                worst = max(worst, abs(x.answer - y.answer), *(abs(x.choices[c] - y.choices[c]) for c in CHOICES))
    assert worst < NEAR[family]
    assert {k.edge for k in made[0]} == {c.edge for c in cuts}
    assert all(k.control_keys <= k.keys for some in made for k in some)


def test_with_eager_attention_it_is_the_same(family: str, folder: Path, shared: QwenOmni) -> None:
    items, media, answers = asked()
    cuts = [Cut(e, (0, 1)) for e in ("video->answer", "audio<->video", "video->question")]
    made = causal.measure(shared, items, media, answers, cuts, controls=1)
    eager = causal.measure(QwenOmni(folder, attn="eager"), items, media, answers, cuts, controls=1)
    for one, other in zip(made, eager, strict=True):
        for a, b in zip(one, other, strict=True):
            assert abs(a.cut.answer - b.cut.answer) < NEAR[family]
            assert abs(a.controls[0].answer - b.controls[0].answer) < NEAR[family]


def test_uncut_log_probs_are_the_answers_own(shared: QwenOmni) -> None:
    items, media, _ = asked()
    said = shared.answer(items, media)
    made = causal.measure(shared, items, media, [a.text or "" for a in said], [Cut("video->answer", (0, 1))])
    for answer, (k,) in zip(said, made, strict=True):
        assert answer.logprobs is not None
        assert all(abs(k.plain.choices[c] - answer.logprobs[c]) < 1e-5 for c in CHOICES)
        assert k.plain.choice == max(answer.logprobs, key=lambda c: answer.logprobs[c])


def test_hidden_tokens_get_no_attention_at_all_and_others_all_of_it(shared: QwenOmni) -> None:
    items, media, answers = asked()
    cut = Cut("video->answer", (1, 1))

    def work(batch: forward.Batch) -> list[Any]:
        ways = [[path("video", "answer", t.groups[: t.prompt])] for t in batch.tokens]
        with probe(batch.decoder, batch.groups, batch.rows, causal.places(batch).bias(cut, ways)) as taken:
            forward.run(batch)
        return [taken.mass[:, n, :, batch.own(n)] for n in range(len(batch.asked))]

    video = GROUPS.index("video")
    for mass in forward.each_batch(shared, items, media, answers, work):
        assert float(mass[1, ..., video].abs().max()) == 0
        assert float(mass[0, ..., video].min()) > 0  # the other layer sees them as ever
        assert float((mass.sum(-1) - 1).abs().max()) < 1e-5


def test_a_weight_of_one_changes_nothing_and_of_almost_none_is_a_cut(shared: QwenOmni) -> None:
    items, media, answers = asked()
    heads = int(shared.model.config.get_text_config().num_attention_heads)
    cuts = [
        Cut("audio->answer", (0, 1), factor, some)
        for factor, some in ((1.0, ()), (1e-30, ()), (0.0, ()), (0.0, tuple(range(heads))), (0.0, (1,)))
    ]
    for one, tiny_, cut, all_heads, head in causal.measure(shared, items, media, answers, cuts, controls=0):
        assert abs(one.cut.answer - one.plain.answer) < 1e-5
        assert abs(tiny_.cut.answer - cut.cut.answer) < 1e-5
        assert abs(all_heads.cut.answer - cut.cut.answer) < 1e-5
        assert abs(head.cut.answer - cut.cut.answer) > 1e-4


def test_a_cut_that_hides_nothing_is_left_out(shared: QwenOmni) -> None:
    items = [tiny.item(n, PROMPT, CHOICES) for n in range(3)]
    media = [tiny.media(0), tiny.media(1, sound=False), tiny.media(2, frames=False)]
    cuts = [Cut("video->answer", (0, 1)), Cut("audio->answer", (0, 1)), Cut("caption->answer", (0, 1))]
    made = causal.measure(shared, items, media, ["bell"] * 3, cuts, controls=1)
    assert [[k.edge for k in some] for some in made] == [
        ["video->answer", "audio->answer"], ["video->answer"], ["audio->answer"],
    ]  # fmt: skip


def test_controls_are_several_draws_the_same_every_time(shared: QwenOmni) -> None:
    items, media, answers = asked()
    cuts = [Cut("options->answer", (0, 1)), Cut("options->answer", (0, 0))]

    def controls(seed: int, some: slice, wanted: list[Cut]) -> list[Any]:
        made = causal.measure(shared, items[some], media[some], answers[some], wanted, controls=3, seed=seed)
        return [[r.answer for r in k.controls] for found in made for k in found if k.layers == (0, 1)]

    first = controls(0, slice(0, 1), cuts)
    assert len(set(first[0])) == 3
    assert controls(0, slice(0, 3), cuts[:1])[0] == pytest.approx(first[0], abs=1e-5)
    assert controls(1, slice(0, 1), cuts)[0] != pytest.approx(first[0], abs=1e-5)


def test_where_nothing_else_is_left_there_is_no_control(shared: QwenOmni) -> None:
    items, media, answers = asked()
    all_of_it = Cut("media+marker+text->answer", (0, 1))
    for (k,) in causal.measure(shared, items, media, answers, [all_of_it]):
        assert k.controls == ()
        assert k.control_keys == 0 < k.keys


def test_what_cannot_be_cut_is_refused(shared: QwenOmni) -> None:
    items, media, answers = asked()
    for cut, why in (
        (Cut("video->answer", (0, 2)), "layers 0-2: the model has 2"), (Cut("x->answer", (0, 1)), "'x'"),
        (Cut("video->answer", (0, 1), -1.0), "factor -1"), (Cut("video->answer", (0, 1), 0.0, (4,)), "4 heads"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=why):
            causal.measure(shared, items, media, answers, [cut])
    with pytest.raises(ValueError, match="-1 controls"):
        causal.measure(shared, items, media, answers, [Cut("video->answer", (0, 1))], controls=-1)


# --- patching ----------------------------------------------------------------------------------------------------


def test_a_patch_with_itself_changes_nothing_and_with_all_of_another_is_that_one(
    family: str, shared: QwenOmni
) -> None:
    items, media, _ = asked()
    others = [tiny.media(10), tiny.media(11, seconds=4.0), tiny.media(12)]
    pairs = [(i, i) for i in items]
    for some in patch(shared, pairs, list(zip(media, media, strict=True)), [(0, 1), (1, 1)], ("audio", "media")):
        assert all(p.plain == p.with_donor == p.patched for p in some)
    made = patch(shared, pairs, list(zip(media, others, strict=True)), [(0, 1), (0, 0), (1, 1)], ("audio", "media"))
    near = NEAR[family]
    for some in made:
        found = {(p.part, p.layers): p for p in some}
        whole = found["media", (0, 1)]
        assert abs(whole.plain - whole.with_donor) > 1e-3
        assert abs(whole.patched - whole.with_donor) < near
        parts = [found["media", (0, 0)], found["media", (1, 1)], found["audio", (0, 1)]]
        assert all(abs(p.patched - p.plain) > near and abs(p.patched - p.with_donor) > near for p in parts)
        assert found["audio", (0, 1)].tokens < whole.tokens


def test_twins_that_are_not_laid_out_alike_are_refused(shared: QwenOmni) -> None:
    items, media, _ = asked()
    with pytest.raises(ValueError, match=r"items i0 and i0 are not laid out alike .*'audio'"):
        patch(shared, [(items[0], items[0])], [(media[0], media[1])], [(0, 1)])
    with pytest.raises(ValueError, match="i0 and i2 are not laid out alike"):
        patch(shared, [(items[0], items[2])], [(media[0], media[0])], [(0, 1)])
    with pytest.raises(ValueError, match="'text' cannot be patched"):
        patch(shared, [(items[0], items[0])], [(media[0], media[0])], [(0, 1)], ("text",))
    with pytest.raises(ValueError, match="the model has 2 layers"):
        patch(shared, [(items[0], items[0])], [(media[0], media[0])], [(0, 2)])
    with pytest.raises(ValueError, match="at least two choices"):
        patch(shared, [(tiny.item(0, PROMPT), items[0])], [(media[0], media[0])], [(0, 1)])


def test_log_odds_are_of_the_option_against_all_others() -> None:
    p = {"a": math.log(0.2), "b": math.log(0.1), "c": math.log(0.1)}
    assert odds(p, "a") == pytest.approx(0.0)
    assert odds(p, "b") == pytest.approx(math.log(0.1 / 0.3))


def test_what_is_recovered_is_a_ratio_of_sums_and_empty_without_a_difference() -> None:
    def one(n: int, plain: float, donor: float, patched: float) -> twins.Patched:
        return twins.Patched(
            item=str(n), donor="d", part="audio", layers=(0, 1), tokens=3, option="bell", with_donor=donor,
            plain=plain, patched=patched,
        )  # fmt: skip

    names = [str(n) for n in range(6)]
    half = [one(n, 0.0, 1.0 + n, 0.5 + n / 2) for n in range(6)]
    found = twins.recovered(half, names)
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    uneven = twins.recovered([one(n, 0.0, 2.0, float(n % 2)) for n in range(6)], names)
    assert uneven is not None
    assert uneven.value == pytest.approx(0.25)
    assert uneven.low < 0.25 < uneven.high
    assert twins.recovered([one(n, 0.0, (-1.0) ** n, 0.3) for n in range(6)], names) is None


# --- contributions -----------------------------------------------------------------------------------------------


def test_contributions_add_up_to_the_gap_and_the_gap_is_the_models(family: str, shared: QwenOmni) -> None:
    items, media, _ = asked()
    for item, m, c in zip(items, media, contribution.contributions(shared, items, media), strict=True):
        assert c is not None
        parts = float(c.heads.sum(dtype=np.float64)) + float(c.blocks.sum(dtype=np.float64)) + c.embedding
        assert parts == pytest.approx(c.gap, abs=1e-4)
        batch = qwen_plain.process(shared.thinker, item, m)
        told = qwen_plain.media_options(shared.thinker, "av", batch)
        with torch.no_grad():
            logits = shared.model(**batch, **told).logits[0, -1]
        first = [int(shared.processor.tokenizer(o)["input_ids"][0]) for o in (c.seen, c.heard)]
        assert c.gap == pytest.approx(float(logits[first[0]] - logits[first[1]]), abs=NEAR[family])
        assert c.heads.shape == (2, 4, len(GROUPS))
        assert abs(c.side("video")) > 1e-4
        assert not c.heads[..., GROUPS.index("generated")].any()


def test_options_that_begin_alike_are_told_apart_behind_that(shared: QwenOmni) -> None:
    both = ("dog barking", "dog sound")
    item, media = tiny.item(0, PROMPT, both, seen=both[:1], heard=both[1:]), tiny.media(0)
    a, b = (shared.processor.tokenizer(o)["input_ids"] for o in both)
    alike = next(n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    assert alike > 0
    (c,) = contribution.contributions(shared, [item], [media])
    batch = qwen_plain.process(shared.thinker, item, media)
    told = qwen_plain.media_options(shared.thinker, "av", batch)
    batch["input_ids"] = torch.cat([batch["input_ids"], torch.tensor([a[:alike]])], 1)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    with torch.no_grad():
        logits = shared.model(**batch, **told).logits[0, -1]
    assert c is not None
    assert c.gap == pytest.approx(float(logits[a[alike]] - logits[b[alike]]), abs=1e-4)
    none = tiny.item(0, PROMPT, ("dog", "dog sound"), seen=("dog",), heard=("dog sound",))
    assert contribution.contributions(shared, [none, tiny.item(1, PROMPT, CHOICES)], [media] * 2) == [None, None]


# --- over a run: what Hans does ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hans() -> QwenOmni:
    torch.set_num_threads(1)
    return load_model("hans")  # type: ignore[return-value]


@pytest.fixture(scope="module")
def asked_hans(hans: QwenOmni, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder: both questions on 16 clips as they are, with another's sound, and with black frames."""
    folder = tmp_path_factory.mktemp("hans")
    clips = open_clips("foley", limit=32, seed=0)
    settings = Settings(
        seeds=(0,), mma_styles=("standard",), mma_conditions=("aligned", "audio_swapped", "frames_zeroed")
    )
    items = protocols.load("mma").items(clips.clips, settings)
    bank = Bank(clips, hans.view)
    answers = hans.answer(items, [bank.condition(i.clip, i.intervention) for i in items])
    info = runs.Info(
        model=hans.name, revision=hans.revision, plan=runs.plan_digest(items), created="", protocols=["mma"],
        clips="foley", clip_count=32, item_count=len(items),
    )  # fmt: skip
    runs.write_lines(folder / "items.jsonl", items)
    runs.write_info(folder, info)
    with runs.AnswerLog(folder) as log:
        log.append(answers)
    return folder


def cell(table: Table, label: str, column: str) -> Estimate:
    (found,) = [r for r in table.rows if r.label == label]
    value = found.cells[table.columns.index(column)]
    assert isinstance(value, Estimate)
    return value


def test_cutting_the_picture_changes_what_hans_hears_and_cutting_the_sound_does_not(
    hans: QwenOmni, asked_hans: Path
) -> None:
    seen, heard = knockout.knockout(
        asked_hans, hans, edges=["video->answer", "audio->answer"], windows="all,0-1,2-3", limit=12,
        conditions=("aligned", "audio_swapped"),
    )  # fmt: skip
    for question in ("visual", "audio"):
        what = f"audio_swapped, {question}: L0-3"
        picture, sound = cell(seen, what, "choice changed"), cell(heard, what, "choice changed")
        assert picture.n >= 8
        assert picture.value > 0.7 > 0.2 > sound.value
        assert picture.low > sound.high
        lost = cell(seen, what, "nats: cut beyond random tokens")
        assert lost.high < -2
        assert cell(seen, what, "nats towards the heard option").low > 0  # with the picture cut, it listens
        assert cell(heard, what, "nats: cut").value > -1.5
        same = cell(seen, f"aligned, {question}: L0-3", "choice changed")
        assert same.value < 0.2  # where the sound says the same, the picture is not needed
    sizes = {(k.edge, k.keys, k.control_keys) for k in knockout.read(asked_hans)}
    assert all(keys == control for _, keys, control in sizes)


def test_attention_and_cut_stand_side_by_side(hans: QwenOmni, asked_hans: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for name in ("items.jsonl", "answers.jsonl", "run.json"):
        (tmp_path / name).write_bytes((asked_hans / name).read_bytes())
    knockout.knockout(
        tmp_path, hans, edges=["video -> answer", "audio->answer"], windows="all,3", limit=6,
        conditions=("audio_swapped",),
    )  # fmt: skip
    found = knockout.read(tmp_path)
    by_id, said = {i.id: i for i in runs.read_items(tmp_path)}, runs.read_answers(tmp_path)
    items = [by_id[name] for name in dict.fromkeys(k.item for k in found)]
    clips = open_clips("foley", limit=32, seed=0)
    bank = Bank(clips, hans.view)
    seen = capture(
        hans, items, [bank.condition(i.clip, i.intervention) for i in items], [said[i.id].text or "" for i in items]
    )
    store.append(tmp_path, seen, About(model=hans.name, revision=hans.revision))
    table = cut_tables.beside(load(tmp_path), found)
    assert table is not None
    assert len(table.rows) == 2 * 2 * 2
    mine = [c for c in seen if by_id[c.item].question == "audio"]
    mass = np.mean([c.mass[3, :, 0, GROUPS.index("audio")].mean() for c in mine])
    tokens = np.mean([c.count[GROUPS.index("audio")] / c.count[:-1].sum() for c in mine])
    (row_,) = [r for r in table.rows if r.label == "audio_swapped, audio, audio→answer: L3"]
    share, part = row_.cells[0], row_.cells[1]
    assert isinstance(share, Estimate)
    assert share.value == pytest.approx(mass, abs=1e-5)
    assert part == pytest.approx(tokens, abs=1e-6)
    (whole,) = [t for t in cut_tables.tables(found, items) if "audio->answer" in t.title]
    what = "audio_swapped, audio: L3"
    assert row_.cells[5] == cell(whole, what, "choice changed")
    assert cut_tables.beside(load(tmp_path), []) is None


def test_a_trace_that_lacks_what_is_asked_for_now_is_made_again_with_all_it_had(
    hans: QwenOmni, asked_hans: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow")
    for name in ("items.jsonl", "answers.jsonl", "run.json"):
        (tmp_path / name).write_bytes((asked_hans / name).read_bytes())
    how: dict[str, Any] = {"limit": 2, "conditions": ("aligned",)}
    assert tracing.trace(tmp_path, hans, **how).new == 4
    assert tracing.trace(tmp_path, hans, **how).new == 0
    assert store.read(tmp_path).heat == {}
    assert tracing.trace(tmp_path, hans, heat_layers=[1], **how).new == 4  # no item has its map yet
    assert tracing.trace(tmp_path, hans, heat_layers=[1], **how).new == 0
    assert tracing.trace(tmp_path, hans, values=True, limit=1, conditions=("aligned",)).new == 2
    kept = store.resume(tmp_path, store.about(tmp_path) or About(model="", revision=""))
    assert sorted((k.values, k.heat) for k in kept.values()) == [(False, {1})] * 2 + [(True, {1})] * 2
    found = tracing.trace(tmp_path, hans, values=True, heat_layers=[3], **how)
    assert (found.new, found.items) == (4, 4)
    trace = store.read(tmp_path)
    assert trace.prompt.value is not None
    assert {layer for _, layer in trace.heat} == {1, 3}
    heat = trace.heat[trace.items[0], 1]
    assert "".join(heat.words).startswith("<|im_start|>user")
    np.testing.assert_allclose(heat.mass.sum(1), 1, atol=1e-5)


def test_a_knockout_goes_on_where_it_was_killed(hans: QwenOmni, asked_hans: Path, tmp_path: Path) -> None:
    for name in ("items.jsonl", "answers.jsonl", "run.json"):
        (tmp_path / name).write_bytes((asked_hans / name).read_bytes())
    how: dict[str, Any] = {"edges": ["audio<->video"], "limit": 4, "conditions": ("audio_swapped",), "controls": 1}
    wanted = knockout.knockout(tmp_path, hans, **how)
    path = tmp_path / knockout.FILE
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    counted: list[tuple[int, int]] = []
    again = knockout.knockout(tmp_path, hans, progress=lambda done, total: counted.append((done, total)), **how)
    assert counted[-1] == (len(lines) - 3, len(lines) - 3)
    assert sorted(k.item for k in knockout.read(tmp_path)) == sorted({k.item for k in knockout.read(tmp_path)})
    assert path.read_bytes().startswith(b"".join(lines[:3]))
    assert [r.label for r in again[0].rows] == [r.label for r in wanted[0].rows]
    for a, b in zip(again[0].rows, wanted[0].rows, strict=True):
        assert cell(again[0], a.label, "nats: cut").value == pytest.approx(
            cell(wanted[0], b.label, "nats: cut").value, abs=1e-5
        )
    counted.clear()
    knockout.knockout(tmp_path, hans, progress=lambda *n: counted.append(n), **how)
    assert not counted  # nothing left to do
    more = knockout.knockout(tmp_path, hans, **{**how, "controls": 2})
    assert {len(k.controls) for k in knockout.read(tmp_path)} == {2}
    assert len(more) == 1


def test_a_run_that_cannot_be_looked_into_is_refused(hans: QwenOmni, asked_hans: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fake:hears cannot be looked into: that needs a local model"):
        knockout.knockout(asked_hans, load_model("fake:hears"), edges=["video->answer"])
    with pytest.raises(ValueError, match="layers 0-9: the model has 4"):
        knockout.knockout(asked_hans, hans, edges=["video->answer"], windows="0-9")
    with pytest.raises(ValueError, match="no edge to cut"):
        knockout.knockout(asked_hans, hans, edges=[])
    with pytest.raises(runs.RunError, match="no item of condition 'swapped'; there are aligned"):
        knockout.knockout(asked_hans, hans, edges=["video->answer"], conditions=("swapped",))
    with pytest.raises(runs.RunError, match=r"no run\.json"):
        knockout.knockout(tmp_path, hans, edges=["video->answer"])
    info = runs.read_info(asked_hans)
    for name in ("items.jsonl", "answers.jsonl"):
        (tmp_path / name).write_bytes((asked_hans / name).read_bytes())
    info.revision = "another"
    runs.write_info(tmp_path, info)
    with pytest.raises(runs.RunError, match="revision another"):
        knockout.knockout(tmp_path, hans, edges=["video->answer"])


def test_the_picture_carries_what_black_frames_take_from_hans(hans: QwenOmni, asked_hans: Path) -> None:
    (table,) = twins.patching(
        asked_hans, hans, windows="all,0-1,2-3", limit=12, conditions=("frames_zeroed",),
        parts=("audio", "video", "media"),
    )  # fmt: skip
    what = "frames_zeroed, visual"

    def back(part: str, window: str) -> Estimate:
        return cell(table, f"{what}, {part} of the untouched clip: L{window}", "recovered")

    assert back("media", "0-3").value == pytest.approx(1, abs=1e-3)
    assert back("video", "0-3").value > 0.8 > 0.3 > back("audio", "0-3").value
    assert back("video", "2-3").value < back("video", "0-3").value
    before = (asked_hans / twins.FILE).read_bytes()
    twins.patching(asked_hans, hans, windows="2-3", limit=12, conditions=("frames_zeroed",), parts=("video",))
    assert (asked_hans / twins.FILE).read_bytes() == before


def test_hans_writes_its_answer_from_the_picture_whatever_is_asked(hans: QwenOmni, asked_hans: Path) -> None:
    sides, *heads = contribution.contribution(asked_hans, hans, limit=12)
    for question in ("visual", "audio"):
        what = f"audio_swapped, {question}"
        assert cell(sides, what, "from video").low > abs(cell(sides, what, "from audio").value)
        names = [c for c in sides.columns if c not in ("gap", "items")]
        total = sum(cell(sides, what, name).value for name in names)
        assert total == pytest.approx(cell(sides, what, "gap").value, abs=1e-3)
    assert len(heads) == 2
    assert heads[0].rows[0].label.endswith(", video")


class _Lora(torch.nn.Module):
    """An output projection with a low-rank addition, as PEFT wraps one."""

    def __init__(self, base: Any) -> None:
        super().__init__()
        made = torch.Generator().manual_seed(2)
        self.base_layer = base
        self.down = torch.nn.Parameter(0.3 * torch.randn(base.in_features, 2, generator=made))
        self.up = torch.nn.Parameter(0.3 * torch.randn(2, base.out_features, generator=made))

    def forward(self, x: Any) -> Any:
        return self.base_layer(x) + x @ self.down @ self.up


def test_with_an_adapter_on_contributions_still_add_up_and_cuts_still_match(folder: Path) -> None:
    model = QwenOmni(folder)
    items, media, answers = asked()
    cuts = [Cut("video->answer", (0, 1)), Cut("audio<->video", (1, 1))]
    before = contribution.contributions(model, items, media)
    for layer in model.model.model.language_model.layers:
        layer.self_attn.o_proj = _Lora(layer.self_attn.o_proj)
    after = contribution.contributions(model, items, media)
    for a, b in zip(before, after, strict=True):
        assert a is not None
        assert b is not None
        assert abs(a.gap - b.gap) > 1e-3
        parts = float(b.heads.sum(dtype=np.float64)) + float(b.blocks.sum(dtype=np.float64)) + b.embedding
        assert parts == pytest.approx(b.gap, abs=1e-4)
    shared = causal.measure(model, items, media, answers, cuts, controls=1)
    plain = causal.measure(model, items, media, answers, cuts, controls=1, plain=True)
    for one, other in zip(shared, plain, strict=True):
        for x, y in zip(one, other, strict=True):
            assert abs(x.cut.answer - y.cut.answer) < 1e-4
            assert abs(x.controls[0].answer - y.controls[0].answer) < 1e-4
