"""Part of what was learned is taken back, as far as validation allows; never chosen on what tests the model."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from safetensors.torch import load_file  # noqa: E402

import many_processes  # noqa: E402
import small_sets  # noqa: E402
from earwitness.align import part_way, recipes, training  # noqa: E402
from earwitness.models.load import HANS  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.report import curves, stages  # noqa: E402


def weights(*names: str) -> list[tuple[str, torch.Tensor]]:
    return [(name, torch.nn.Parameter(torch.zeros(3))) for name in names]


def learn(learning: list[tuple[str, torch.Tensor]]) -> None:
    for _, value in learning:
        value.data.fill_(2.0)


def test_the_smallest_share_that_is_no_worse_is_kept() -> None:
    learning = weights("norm.weight")
    came = part_way.origin(learning)
    learn(learning)
    seen = []

    def validate() -> float:
        seen.append(float(learning[0][1].detach()[0]))
        return {1.8: 0.9, 1.6: 0.8, 1.2: 0.7, 0.8: 0.9}[round(seen[-1], 6)]

    share, found = part_way.take_back(learning, came, (0.4, 0.6, 0.9, 0.8), 0.8, validate)
    assert share == 0.8
    assert found == {1.0: 0.8, 0.9: 0.9, 0.8: 0.8, 0.6: 0.7}  # 0.4 is not asked: from the first that is worse on
    assert torch.allclose(learning[0][1], torch.full((3,), 1.6))


def test_nothing_is_taken_back_where_less_is_worse() -> None:
    learning = weights("norm.weight", "q_proj.lora_A.default.weight", "q_proj.lora_B.default.weight")
    came = part_way.origin(learning)
    learn(learning)
    share, _ = part_way.take_back(learning, came, (0.9,), 0.8, lambda: 0.79)
    assert share == 1
    assert all(torch.equal(value, torch.full((3,), 2.0)) for _, value in learning)


def test_of_a_low_rank_addition_one_half_is_scaled() -> None:
    """B @ A at half the way is half of B @ A."""
    learning = weights("q_proj.lora_A.default.weight", "q_proj.lora_B.default.weight")
    assert part_way.origin(learning) == {}
    learn(learning)
    part_way.take_back(learning, {}, (0.5,), 0.0, lambda: 1.0)
    assert [float(value.detach()[0]) for _, value in learning] == [2.0, 1.0]


def test_shares_are_told_in_words() -> None:
    assert recipes.changed("mma-sft", {"back": "0.9,0.8"}).back == (0.9, 0.8)
    assert recipes.named("hans-carry").back
    assert recipes.changed("hans-carry", {"back": ""}).back == ()


def test_a_stage_saves_part_of_the_way(tmp_path: Path) -> None:
    """Hans by LoRA: the saved model lies between Hans and what was learned; record and page say where."""
    data = small_sets.write(tmp_path / "set")
    made = many_processes.recipe("sft", 2)
    whole, part = (
        training.align(msgspec.structs.replace(made, back=back), data, QwenOmni(HANS), tmp_path / name)
        for name, back in (("whole", ()), ("part", (0.5,)))
    )
    info = json.loads((part.folder / "align.json").read_text())
    assert info["ways"] == {"1": part.best, "0.5": info["ways"]["0.5"]}
    assert info["way"] == (0.5 if info["ways"]["0.5"] >= part.best else 1)
    assert info["way"] == 0.5  # Hans is right on these, before and after
    assert "50 % is kept" in curves.headline(stages.read(part.folder))
    before, all_, half = (
        load_file(folder / "model.safetensors") for folder in (HANS, whole.folder / "model", part.folder / "model")
    )
    moved = [name for name in all_ if name in before and not torch.equal(all_[name], before[name].float())]
    assert moved
    for name in moved:
        middle = (before[name].float() + all_[name].float()) / 2
        assert torch.allclose(half[name].float(), middle, atol=1e-5), name


def test_a_page_shows_what_each_share_gave(tmp_path: Path) -> None:
    made = {
        "recipe": {"name": "hans-carry"},
        "data": "",
        "model": "hans",
        "way": 0.9,
        "ways": {"1": 0.98, "0.9": 0.99},
    }
    (tmp_path / "align.json").write_text(json.dumps(made))
    (tmp_path / "log.jsonl").write_text('{"step": 0, "valid": 0.5}\n{"step": 2, "valid": 0.98}\n')
    stage = stages.read(tmp_path)
    assert "Of what was learned 90 % is kept, which is right in 99 %." in curves.headline(stage)
    spec = json.dumps(next(c for c in curves.charts(stage) if c.id == "ways").spec)
    assert "98.0 %" in spec
    assert "99.0 %" in spec
