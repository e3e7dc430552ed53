"""The verb that trains, as it is typed: what it leaves, how it goes on, and what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("trl")

import small_sets
from earwitness.cli import app

QUICK = ("--set", "steps=2", "--set", "validation=4", "--set", "precision=float32", "--set", "accumulate=1")


def _run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "300", "NO_COLOR": "1"})
    return done.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", done.output)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_sets.write(tmp_path_factory.mktemp("set"))


def test_a_stage_leaves_a_model_and_the_same_command_goes_on(data: Path, tmp_path: Path) -> None:
    words = ("align", "sft", "mma-sft", "--data", str(data), "-m", "hans", "--out", str(tmp_path / "out"), *QUICK)
    for _ in range(2):  # the second time it is done already
        code, text = _run(*words, "--readers", "0")
        assert code == 0, text
        assert re.search(r"validation: [\d.]+ before, [\d.]+ at its best", text)
        assert (tmp_path / "out" / "model" / "config.json").exists()
        assert (tmp_path / "out" / "report.html").exists()
    code, text = _run(*words, "--set", "rank=4", "--readers", "0")
    assert code == 2
    assert "holds another stage" in text
    assert "take another --out" in text


def test_a_dry_run_shows_each_setting_with_its_source(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text = _run("align", "dpo", "thud-dpo", "--data", str(data), "-m", "hans", "--out", str(out), "--dry-run")
    assert code == 0
    assert "LoRA r 32" in text
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": "thud-dpp"}, "no recipe 'thud-dpp'"),
        ({"recipe": "thud-dpo"}, "thud-dpo is a recipe for dpo: earwitness align dpo thud-dpo"),
        ({"-m": "openai:http://127.0.0.1:1/v1#x"}, "cannot be trained here"),
        ({"--data": "nowhere"}, "nowhere holds no training set"),
        ({"--set": "rnak=4"}, "a recipe has no setting 'rnak' (did you mean rank?)"),
        ({"--set": "learning_rate=1e-4"}, "a recipe has no setting 'learning_rate' (did you mean rate?)"),
        ({"--set": "batch=0"}, "--set batch=0: Expected `int` >= 1"),
        ({"--set": "back=0.9,1.5"}, "--set back=0.9,1.5: Expected `float` < 1.0"),
        ({"--readers": "999"}, "999 readers on "),
    ],
)
def test_bad_words_are_named(changes: dict[str, str], said: str, data: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    given = {"stage": "sft", "recipe": "mma-sft", "--data": str(data), "-m": "hans", "--out": out, **changes}
    words = [w for key, value in given.items() for w in ((key, value) if key.startswith("-") else (value,))]
    code, text = _run("align", *words)
    assert code == 2
    assert said in text
    assert "Traceback" not in text
