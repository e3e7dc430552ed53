"""The page of a training stage: every curve that was logged, the recipe with its source, and what was kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from earwitness import run as runs
from earwitness.report import curves, stages
from vega_words import warned

EVIL = "<script>document.title='owned'</script>"
RECIPE: dict[str, Any] = {
    "name": "thud-dpo", "stage": "dpo", "source": "arXiv 2605.16403, appendix E", "quotes": {"rate": "lr 1e-6"},
    "ours": {"rank": "not given"}, "rate": 1e-6, "rank": 16, "rewards": ["format", "arr"], "steps": None,
}  # fmt: skip


def stage(folder: Path, log: list[dict[str, float | None]], *, model: str = "hans", **recipe: Any) -> Path:
    folder.mkdir(parents=True)
    made = {
        "recipe": {**RECIPE, **recipe},
        "data": "runs/set",
        "data_digest": "d",
        "model": model,
        "trained": 1234567,
    }
    (folder / "align.json").write_text(json.dumps(made))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in log))
    return folder


def valid(*scores: float) -> list[dict[str, float | None]]:
    return [{"step": 100 * k, "valid": v, "valid/mma": v, "valid/mute": 1 - v} for k, v in enumerate(scores)]


def logged(n: int, **values: float) -> list[dict[str, float | None]]:
    return [{"step": k, **{key: v / k for key, v in values.items()}} for k in range(1, n + 1)]


def drawn(folder: Path) -> list[str]:
    return [c.id for c in curves.charts(stages.read(folder))]


def test_all_that_was_logged_is_drawn_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sft = stage(
        tmp_path / "sft", [*valid(0.5, 0.7), *logged(5, loss=3.0, learning_rate=1.0, grad_norm=2.0, epoch=1.0)]
    )
    assert drawn(sft) == ["valid", "parts", "loss", "rate", "gradient"]
    keys = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen")
    dpo = stage(tmp_path / "dpo", logged(5, **dict.fromkeys(keys, 1.0)))
    assert drawn(dpo) == ["preference", "margins", "preferred", "logps"]
    keys = ("reward", "reward_std", "rewards/format/mean", "rewards/arr/mean", "rewards/arr/std", "kl", "entropy")
    grpo = stage(tmp_path / "grpo", logged(5, **dict.fromkeys(keys, 1.0)))
    assert drawn(grpo) == ["reward", "rewards", "reward-spread", "kl", "entropy"]
    spec = next(c.spec for c in curves.charts(stages.read(grpo), "one-") if c.id == "one-rewards")
    assert set(spec["layer"][0]["encoding"]["color"]["scale"]["domain"]) == {"format", "arr"}
    for folder in (sft, dpo, grpo):
        assert warned(curves.charts(stages.read(folder)), capfd) == []


def test_a_long_curve_is_thinned_to_means_and_keeps_its_mean(tmp_path: Path) -> None:
    points = [(k, float(k % 7)) for k in range(1, 10001)]
    thin, size = curves._thinned(points)
    assert len(thin) == 400
    assert size == 25
    assert math.isclose(sum(v for _, v in thin) / len(thin), sum(v for _, v in points) / len(points))
    assert curves._thinned(points[:10]) == ([(float(s), v) for s, v in points[:10]], 1)
    assert curves._smoothed([1.0] * 60) == [1.0] * 60


def test_the_best_is_the_earlier_of_equals_and_what_was_kept_is_said(tmp_path: Path) -> None:
    rose = stages.read(stage(tmp_path / "rose", [*valid(0.5, 0.9, 0.9), *logged(200, loss=3.0)]))
    assert rose.best == (100, 0.9)
    assert curves.headline(rose) == (
        "thud-dpo on hans: right in 50 % before and 90 % of the validation at its best, after step 100 of 200."
    )
    fell = stages.read(stage(tmp_path / "fell", valid(0.9, 0.5)))
    assert "no validation was better than the model as it came" in curves.headline(fell)
    grid = curves.validations(rose)
    assert grid is not None
    assert [c.text for c in grid.lines[2].cells] == ["50.0 %", "10.0 %", "\u221240.0"]
    blind = stages.read(stage(tmp_path / "blind", logged(4, loss=2.0)))
    assert blind.best is None
    assert (
        curves.headline(blind) == "thud-dpo on hans: 4 steps, nothing to validate on; the loss went from 2 to 0.5."
    )
    assert curves.validations(blind) is None


def test_page_shows_recipe_with_its_source_and_escapes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = stage(tmp_path / "s", [*valid(0.5, 0.7), *logged(60, loss=3.0)], model=EVIL, quotes={"rate": EVIL})
    html = curves.page(folder).read_text()
    assert "arXiv 2605.16403, appendix E" in html
    assert "not given" in html
    assert "1,234,567" in html
    assert EVIL not in html
    assert "&lt;script&gt;document.title" in html
    assert html.count("<script>") == 2
    assert sorted(p.name for p in (folder / "charts").glob("*.svg")) == ["loss.svg", "parts.svg", "valid.svg"]
    assert warned(folder / "charts", capfd) == []
    bare = curves.page(stage(tmp_path / "bare", [])).read_text()
    assert "fewer than two points" in bare


def test_values_that_are_no_numbers_and_torn_lines_are_left_out(tmp_path: Path) -> None:
    folder = stage(tmp_path / "s", [{"step": 1, "loss": None}, {"step": 2, "loss": 1.0}])
    with (folder / "log.jsonl").open("a") as f:
        f.write('{"step": 3, "lo')
    assert stages.read(folder).curve("loss") == [(2, 1.0)]
    (folder / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 2}\n')
    with pytest.raises(runs.RunError, match="line 2"):
        stages.read(folder)
    with pytest.raises(runs.RunError, match=r"no align\.json"):
        curves.page(tmp_path)


def test_the_chain_of_stages_is_followed_and_has_an_end(tmp_path: Path) -> None:
    one = stage(tmp_path / "one", valid(0.1, 0.2), name="warm-up")
    two = stage(tmp_path / "two", valid(0.1, 0.2), model=f"qwen2.5-omni:{one}/model")
    assert [s.name for s in stages.chain(f"qwen2.5-omni:{two}/model")] == ["warm-up", "thud-dpo"]
    assert [s.name for s in stages.chain("qwen2.5-omni:base+adapter", str(one / "adapter"))] == ["warm-up"]
    assert stages.chain("hans") == stages.chain("openai:http://localhost#m") == []
    loop = stage(tmp_path / "loop", [], model=f"qwen2.5-omni:{tmp_path}/loop/model")
    assert len(stages.chain(f"qwen2.5-omni:{loop}/model")) == 1
