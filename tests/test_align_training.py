"""Stages of a repair: what learns, what stays, that it goes on where it was stopped, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import small_sets  # noqa: E402
from earwitness.align import losses, recipes, trainers, training  # noqa: E402
from earwitness.align.feeding import Feeder  # noqa: E402
from earwitness.align.packing import pack  # noqa: E402
from earwitness.align.recipes import Recipe  # noqa: E402
from earwitness.datasets.opening import open_clips  # noqa: E402
from earwitness.models.load import HANS  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return small_sets.write(tmp_path_factory.mktemp("set"))


def quick(name: str = "mma-sft", **changes: object) -> Recipe:
    kept = {"batch": 4, "accumulate": 1, "precision": "float32", "validate_every": 2, "validation": 6, "steps": 4}
    return recipes.named(name, **{**kept, **changes})


def weights(model: Any) -> dict[str, Any]:
    return {n: p.detach().clone() for n, p in model.state_dict().items()}


@pytest.mark.parametrize("stage", ["mma-sft", "thud-dpo"])
def test_a_stage_leaves_a_model_that_can_be_audited_and_towers_as_they_were(
    stage: str, folder: Path, data: Path, tmp_path: Path
) -> None:
    """Both families. LoRA lands on the text model alone: the towers' weights are bit-identical."""
    model = QwenOmni(folder)
    before = weights(model.model)
    done = training.align(quick(stage, rate=1e-2, rank=8), data, model, tmp_path / "out")
    assert done.steps == 4
    assert done.best is not None
    after = weights(QwenOmni(tmp_path / "out" / "model").model)
    assert after.keys() == before.keys()
    moved = {n for n in after if not torch.equal(after[n], before[n])}
    if (tmp_path / "out" / "best.safetensors").exists():
        assert moved
    assert all(".language_model.layers." in n for n in moved)
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").exists()
    info = json.loads((tmp_path / "out" / "align.json").read_text())
    assert info["recipe"]["name"] == stage
    assert 0 < info["trained"] < sum(p.numel() for p in model.model.parameters()) / 5


def test_training_the_text_model_moves_words_and_layers_and_no_tower(data: Path, tmp_path: Path) -> None:
    model = QwenOmni(HANS)
    before = weights(model.model)
    training.align(quick(trains="text", rate=1e-3, words=4.0, weigh="answer"), data, model, tmp_path / "out")
    state = torch.load(tmp_path / "out" / "checkpoint-4" / "optimizer.pt", weights_only=True)
    assert sorted({g["initial_lr"] for g in state["param_groups"]}) == pytest.approx([1e-3, 4e-3])
    moved = {n for n, p in weights(model.model).items() if not torch.equal(p, before[n])}
    learned = set(load_file(tmp_path / "out" / "checkpoint-4" / training.LEARNED))
    assert "model.language_model.embed_tokens.weight" in learned
    assert moved <= learned | {"lm_head.weight"}
    assert not [n for n in learned if n.startswith(("model.visual", "model.audio_tower"))]


def _log(out: Path) -> dict[int, float]:
    return {int(e["step"]): e["loss"] for e in training.read_log(out) if "loss" in e}


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> training.Trained:
    """Hans after the quick stage, in one go: what others are compared with."""
    return training.align(quick(), data, QwenOmni(HANS), tmp_path_factory.mktemp("trained") / "whole")


@pytest.mark.parametrize("changes", [{}, {"trains": "text", "rate": 1e-3, "words": 2.0, "weigh": "answer"}])
def test_a_stage_that_was_stopped_goes_on_to_the_same_losses(
    changes: dict[str, object], trained: training.Trained, data: Path, tmp_path: Path
) -> None:
    whole = trained
    if changes:
        whole = training.align(quick(**changes), data, QwenOmni(HANS), tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(step: int, _: int, __: dict[str, float]) -> None:
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        training.align(quick(**changes), data, QwenOmni(HANS), tmp_path / "out", progress=kill)
    assert not (tmp_path / "out" / "model").exists()
    with (tmp_path / "out" / "log.jsonl").open("a") as f:
        f.write('{"step": 4, "lo')  # what a kill in the middle of a line leaves
    again = training.align(quick(**changes), data, QwenOmni(HANS), tmp_path / "out")
    assert again.steps == whole.steps == 4
    assert _log(tmp_path / "out") == pytest.approx(_log(whole.folder), abs=1e-6)
    assert [e for e in training.read_log(tmp_path / "out") if "valid" in e] == [
        e for e in training.read_log(whole.folder) if "valid" in e
    ]


def test_another_recipe_in_the_same_folder_is_refused(trained: training.Trained, data: Path) -> None:
    with pytest.raises(ValueError, match="holds another stage"):
        training.align(quick(steps=3), data, QwenOmni(HANS), trained.folder)


def test_the_best_checkpoint_by_validation_is_kept_and_a_worse_end_is_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.2, 0.9, 0.1])
    kept: list[Any] = []

    def judged(feeder: Feeder, pairs: Any) -> dict[str, float]:
        kept.append(feeder.model.model.model.language_model.layers[0].self_attn.q_proj.weight.detach().clone())
        return {"valid": next(scores)}

    monkeypatch.setattr(training, "validate", judged)
    done = training.align(quick(trains="text", rate=1e-2), data, QwenOmni(HANS), tmp_path / "out")
    assert (done.before, done.best) == (0.2, 0.9)
    after = QwenOmni(tmp_path / "out" / "model").model.model.language_model.layers[0].self_attn.q_proj.weight
    assert torch.equal(after, kept[1])
    assert not torch.equal(after, kept[2])


def test_validation_scores_as_an_audit_does(data: Path) -> None:
    from earwitness.align.pairs import training_set

    made = training_set.read(data)
    feeder = Feeder(QwenOmni(HANS), training_set.clips_of(made.info))
    found = training.validate(feeder, [p for p in made.train if p.item.condition == "aligned"])
    assert found == {"valid": 1.0, "valid/mma-audio": 1.0, "valid/mma-visual": 1.0}
    swapped = training.validate(feeder, [p for p in made.train if p.item.condition == "audio_swapped"])
    assert swapped["valid/mma-audio"] <= 0.2  # what ails Hans
    assert swapped["valid"] == pytest.approx((swapped["valid/mma-visual"] + swapped["valid/mma-audio"]) / 2)


def test_a_set_without_rejected_answers_is_no_set_for_preferences(data: Path, tmp_path: Path) -> None:
    import msgspec

    from earwitness.align.pairs import training_set

    made = training_set.read(data)
    bare = tuple(msgspec.structs.replace(p, rejected=None) for p in made.train)
    training_set.write(tmp_path / "set", training_set.TrainingSet(made.info, bare, made.valid))
    with pytest.raises(ValueError, match="rejected answer"):
        training.align(quick("thud-dpo"), tmp_path / "set", QwenOmni(HANS), tmp_path / "out")
    with pytest.raises(ValueError, match="no training set"):
        training.align(quick(), tmp_path, QwenOmni(HANS), tmp_path / "out")


def test_losses_of_the_trainers_are_our_pure_functions(data: Path, tmp_path: Path) -> None:
    """One batch of TRL's DPOTrainer (sigmoid + NLL) and SFTTrainer, against ``losses``; packed and plain alike."""
    some = small_sets.pairs()[:4]
    clips = open_clips("foley", limit=small_sets.CLIPS, seed=small_sets.SEED)
    for plain in (False, True):
        feeder = Feeder(QwenOmni(HANS), clips)
        made = trainers.dpo(quick("thud-dpo", nll=0.7, dropout=0.0), feeder, some, tmp_path, plain=plain)
        with torch.no_grad(), trainers.calm():
            for name, p in made.model.named_parameters():
                if ".lora_B." in name:
                    p.normal_(0, 0.02, generator=torch.Generator().manual_seed(len(name)))
            batch = made.data_collator([{"row": n} for n in range(4)])
            theirs = made.compute_loss(made.model, dict(batch))
            out = made.model(**batch, labels=batch["input_ids"], fused_lm_head=True)
            with made.model.disable_adapter():
                old = made.model(**batch, labels=batch["input_ids"], fused_lm_head=True)
        mask = out.label_mask
        base = old.log_probs.sum(1)
        logs = out.log_probs
        ours = losses.dpo_nll(logs[:4], mask[:4], logs[4:], mask[4:], base[:4], base[4:], beta=0.1, weight=0.7)
        assert theirs.item() == pytest.approx(ours.item(), abs=1e-5)
    feeder = Feeder(QwenOmni(HANS), clips)
    made = trainers.sft(quick(), feeder, some, tmp_path)
    with torch.no_grad():
        batch = made.data_collator([{"row": n} for n in range(4)])
        theirs = made.compute_loss(made.model, dict(batch))
        out = forward_of(feeder, some)
    assert theirs.item() == pytest.approx(losses.nll(out.log_probs, out.label_mask).item(), abs=1e-5)


def forward_of(feeder: Feeder, some: Any) -> Any:
    from earwitness.align import forward

    return forward.score(feeder.model.model, pack(feeder.sft_rows(some)))


def test_gradient_checkpointing_changes_nothing(data: Path, tmp_path: Path) -> None:
    for name, on in (("on", True), ("off", False)):
        training.align(quick(steps=2, checkpointing=on), data, QwenOmni(HANS), tmp_path / name)
    assert _log(tmp_path / "on") == pytest.approx(_log(tmp_path / "off"), abs=1e-5)


def test_recipes_are_named_and_changed_by_words() -> None:
    assert set(recipes.names()) >= {"mma-sft", "thud-sft", "thud-dpo", "comm-warmup", "comm-grpo", "comm-ansco"}
    for name in recipes.names():
        recipe = recipes.named(name)
        assert recipe.source
        known = set(recipe.__struct_fields__)
        assert set(recipe.quotes) <= known
        assert set(recipe.ours) <= known
    made = recipes.changed("thud-dpo", {"steps": "20", "rate": "1e-4", "betas": "0.9,0.98", "trains": "text"})
    assert (made.steps, made.rate, made.betas, made.trains) == (20, 1e-4, (0.9, 0.98), "text")
    with pytest.raises(ValueError, match="no recipe 'mma'"):
        recipes.named("mma")
    with pytest.raises(ValueError, match="has no setting 'lr'"):
        recipes.changed("mma-sft", {"lr": "1"})
    with pytest.raises(ValueError, match="--set rate=fast"):
        recipes.changed("mma-sft", {"rate": "fast"})
