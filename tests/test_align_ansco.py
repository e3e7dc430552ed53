"""Ans-CO on TRL's loop: eq. 6 on the tokens of the answer and no others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import small_sets  # noqa: E402
from earwitness.align import ansco, forward, losses, recipes, tags, trainers, training  # noqa: E402
from earwitness.align.feeding import Feeder  # noqa: E402
from earwitness.align.packing import pack  # noqa: E402
from earwitness.align.pairs import training_set  # noqa: E402
from earwitness.align.recipes import Recipe  # noqa: E402
from earwitness.datasets.opening import open_clips  # noqa: E402
from earwitness.models.load import HANS  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.records import ClipSet, Pair  # noqa: E402


def quick(**changes: object) -> Recipe:
    kept: dict[str, object] = {
        "batch": 4, "accumulate": 1, "steps": 2, "rate": 1e-3, "warmup": 0.0, "schedule": "constant",
        "precision": "float32", "validate_every": 2, "validation": 2,
    }  # fmt: skip
    return recipes.named("comm-ansco", **{**kept, **changes})


def tagged(n: int = 4) -> list[Pair]:
    return [
        msgspec.structs.replace(
            p, chosen=tags.written(p.reference, f"I see a {p.item.seen[0]}.", p.chosen), rejected=None
        )
        for p in small_sets.pairs()[:n]
    ]


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    torch.set_num_threads(1)
    return open_clips("foley", limit=small_sets.CLIPS, seed=small_sets.SEED)


@pytest.fixture(scope="module")
def model(clips: ClipSet) -> QwenOmni:
    """Hans for the tests that change nothing."""
    return QwenOmni(HANS)


def batch_of(feeder: Feeder, pairs: list[Pair], plain: bool = False) -> Any:
    return ansco.Answers(feeder, pairs, plain=plain)([{"row": n} for n in range(len(pairs))])


def test_the_answers_tokens_are_found_and_no_others(model: QwenOmni, clips: ClipSet) -> None:
    """By what they spell: the answer, no tag but where a token holds both."""
    feeder = Feeder(model, clips)
    pairs = [*tagged(3), small_sets.pairs()[3]]  # the last one without tags: all of it is the answer
    batch = batch_of(feeder, pairs)
    rows = feeder.sft_rows(pairs)
    for pair, row, mask in zip(pairs, rows, batch["answer"], strict=True):
        start = len(row.shown.layout) - 1  # the column of a token is the place before it
        said = [row.tail[n - start] for n in range(len(row) - 1) if mask[n]]
        text = model.processor.tokenizer.decode(said)
        answer = tags.answer_of(pair.chosen)
        assert answer in text
        assert len(text) <= len(answer) + 4  # a token may begin in the tag
        assert feeder.end not in said
    assert batch["answer"].shape == (4, batch["packed"].shape[1] - 1)
    assert (batch["answer"].sum(1) > 0).all()


@pytest.mark.parametrize("kind", ["full", "top10"])
def test_the_loss_is_eq_6_of_the_models_own_logits(kind: str, clips: ClipSet, tmp_path: Path) -> None:
    """Against logits by the plain path, row by row; with a gate that some rows pass and some do not."""
    pairs = tagged(4)
    feeder = Feeder(QwenOmni(HANS), clips)
    made = ansco.trainer(quick(uncertainty=kind, gate=0.0), feeder, pairs, tmp_path)
    batch = batch_of(feeder, pairs)
    logits = []
    head = feeder.model.model.get_output_embeddings()
    hook = head.register_forward_hook(lambda _, __, out: logits.append(out.detach().float()))
    with torch.no_grad():
        made.model(packed=pack(feeder.sft_rows(pairs), plain=True))
    hook.remove()
    each = iter(logits[0])  # [scored tokens of all rows, V], in order
    terms, unsure = [], []
    vocabulary = head.weight.shape[0]
    for row, mask in zip(feeder.sft_rows(pairs), batch["answer"], strict=True):
        start = len(row.shown.layout)
        p = torch.stack([next(each).softmax(-1) for _ in row.scored])
        inside = torch.stack([mask[start + i - 1] for i in row.scored])
        nll = -torch.stack([q[row.tail[i]].log() for q, i in zip(p, row.scored, strict=True)]).mean()
        h = -(p * p.clamp(min=1e-45).log()).sum(-1)
        ten = p.topk(10, -1).values
        ten = ten / ten.sum(-1, keepdim=True)
        u = (
            h / math.log(vocabulary)
            if kind == "full"
            else -(ten * ten.clamp(min=1e-45).log()).sum(-1) / math.log(10)
        )
        terms.append((nll, h[inside].mean()))
        unsure.append(u[inside].mean())
    gate = sum(sorted(float(u) for u in unsure)[1:3]) / 2
    made.recipe = quick(uncertainty=kind, gate=gate)
    with torch.no_grad():
        theirs = made.compute_loss(made.model, dict(batch))
    ours = torch.stack(
        [n + (0.5 * h if u <= gate else 0.0) for (n, h), u in zip(terms, unsure, strict=True)]
    ).mean()
    assert 0 < sum(bool(u <= gate) for u in unsure) < 4
    assert theirs.item() == pytest.approx(ours.item(), abs=1e-5)
    kept = made._metrics["train"]
    assert kept["sharpened"][-1] == sum(bool(u <= gate) for u in unsure) / 4
    assert kept["answer_uncertainty"][-1] == pytest.approx(float(torch.stack(unsure).mean()), abs=1e-5)
    assert kept["answer_entropy"][-1] == pytest.approx(float(torch.stack([h for _, h in terms]).mean()), abs=1e-5)


def test_packed_is_plain_in_losses_and_gradients(folder: Path, clips: ClipSet, tmp_path: Path) -> None:
    found = []
    for plain in (False, True):
        feeder = Feeder(QwenOmni(folder), clips)
        recipe = quick(trains="text", uncertainty="top10", gate=1.0)
        made = ansco.trainer(recipe, feeder, tagged(), tmp_path, plain=plain)
        loss = made.compute_loss(made.model, batch_of(feeder, tagged(), plain))
        loss.backward()
        found.append((loss.item(), {n: p.grad for n, p in made.model.named_parameters() if p.grad is not None}))
    (loss, grads), (other, plainly) = found
    assert loss == pytest.approx(other, abs=1e-5)
    assert grads.keys() == plainly.keys()
    for name, g in grads.items():
        assert torch.allclose(g, plainly[name], atol=1e-5), name


def test_the_entropy_term_pulls_on_the_answer_alone(clips: ClipSet, tmp_path: Path) -> None:
    """The loss's gradient in the entropies is zero outside the answer, and half of the mean inside."""
    feeder = Feeder(QwenOmni(HANS), clips)
    made = ansco.trainer(quick(gate=1.0), feeder, tagged(), tmp_path)
    kept: dict[str, Any] = {}
    real = forward.score

    def seen(*args: Any, **kwargs: Any) -> Any:
        out = real(*args, **kwargs)
        out.entropy.retain_grad()
        kept["out"] = out
        return out

    forward.score = seen
    try:
        batch = batch_of(feeder, tagged())
        answer = batch["answer"].clone()
        made.compute_loss(made.model, batch).backward()
    finally:
        forward.score = real
    pulled = kept["out"].entropy.grad
    assert torch.equal(pulled != 0, answer)
    assert torch.allclose(pulled.sum(1), torch.full((4,), 0.5 / 4))


def test_training_makes_answers_likelier_and_surer_than_without_the_term(clips: ClipSet, tmp_path: Path) -> None:
    last = {}
    for weight in (0.0, 2.0):
        feeder = Feeder(QwenOmni(HANS), clips)
        made = ansco.trainer(quick(steps=6, rate=3e-3, gate=1.0, weight=weight), feeder, tagged(), tmp_path)
        with trainers.calm():
            made.train()
        first, *_, last[weight] = [line for line in made.state.log_history if "loss" in line]
        assert last[weight]["nll"] < 0.7 * first["nll"]
    assert last[2.0]["answer_entropy"] < 0.7 * last[0.0]["answer_entropy"]


def test_a_batch_in_parts_is_the_batch(clips: ClipSet, tmp_path: Path) -> None:
    grads = []
    for batch, parts in ((4, 1), (2, 2)):
        feeder = Feeder(QwenOmni(HANS), clips)
        made = ansco.trainer(quick(steps=1, batch=batch, accumulate=parts), feeder, tagged(), tmp_path)
        with trainers.calm():
            made.train()
        grads.append(made.state.log_history[0])
    assert grads[0]["loss"] == pytest.approx(grads[1]["loss"], abs=1e-4)
    assert grads[0]["grad_norm"] == pytest.approx(grads[1]["grad_norm"], rel=1e-3)


def test_a_stage_runs_on_both_families_and_broken_tags_are_named(folder: Path, tmp_path: Path) -> None:
    data = small_sets.write(tmp_path / "plain")
    made = training_set.read(data)
    known = {p.id: p for p in tagged(2 * small_sets.CLIPS)}
    train = tuple(known.get(p.id, p) for p in made.train)
    training_set.write(tmp_path / "set", training_set.TrainingSet(made.info, train, made.valid))
    done = training.align(quick(), tmp_path / "set", QwenOmni(folder), tmp_path / "out")
    assert done.steps == 2
    line = next(line for line in training.read_log(tmp_path / "out") if "loss" in line)
    assert {"nll", "answer_entropy", "answer_uncertainty", "sharpened"} <= set(line)
    broken = msgspec.structs.replace(train[0], chosen="<a-think>I hear a bell.</a-think><answer>bell")
    training_set.write(tmp_path / "broken", training_set.TrainingSet(made.info, (broken, *train[1:]), made.valid))
    with pytest.raises(ValueError, match=rf"pair {broken.id}: no answer in"):
        training.align(quick(), tmp_path / "broken", QwenOmni(folder), tmp_path / "other")


def test_uncertainty_is_measured_where_it_is_asked_for(model: QwenOmni, clips: ClipSet) -> None:
    feeder = Feeder(model, clips)
    packed = pack(feeder.sft_rows(tagged()))
    with torch.no_grad():
        out = forward.score(model.model, packed, unsure=True)
        assert forward.score(model.model, packed).uncertainty is None
        hot = forward.score(model.model, packed, unsure=True, temperature=3.0)
    assert torch.equal(out.uncertainty != 0, out.label_mask & (out.uncertainty != 0))
    assert 0 < float(out.uncertainty.max()) <= 1
    assert torch.allclose(out.uncertainty, hot.uncertainty)  # of the model, not of the sampler
    assert losses.TOP == 10
