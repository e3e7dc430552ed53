"""What Earwitness exports, opened by the real inspect_ai and lmms-eval; what they write, read back.

Not part of the default suite (its name is none that pytest collects): ``make interop`` builds the environment.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import small_runs
from earwitness import export, rescore
from earwitness import run as runs
from earwitness.interventions import filled

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.write(tmp_path_factory.mktemp("runs") / "small", 2)


# inspect_ai


@pytest.mark.parametrize("name", ["run.eval", "run.json"])
def test_inspect_ai_reads_the_log(run: Path, tmp_path: Path, name: str) -> None:
    from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries
    from inspect_ai.model import ContentVideo

    judged = runs.judged(run)
    out = export.to_inspect(run, tmp_path / name)
    log = read_eval_log(str(out))
    assert (log.status, log.eval.model, len(log.samples or [])) == ("success", "rule", len(judged))
    assert log.results is not None
    assert log.results.completed_samples == sum(j.answer.error is None for j in judged)
    assert sum(s.scored_samples or 0 for s in log.results.scores) == sum(
        j.score.correct is not None for j in judged
    )
    assert len(read_eval_log_sample_summaries(str(out))) == len(judged)
    samples = {s.id: s for s in log.samples or []}
    for j in judged:
        sample = samples[j.item.id]
        assert isinstance(sample.input, list)
        assert isinstance(sample.input[0].content[0], ContentVideo)
        assert sample.input[0].text.strip() == filled(j.item).prompt
        assert (sample.error is None) == (j.answer.error is None)
        assert sample.metadata["condition"] == j.item.condition
        if j.answer.error is not None:
            assert sample.scores == {}
            continue
        score = (sample.scores or {})["earwitness"]
        if j.score.correct is None:
            assert isinstance(score.value, float)
            assert math.isnan(score.value)
            assert score.reason
        else:
            assert score.value == ("C" if j.score.correct else "I")


def test_inspect_ais_own_metric_counts_the_same(run: Path, tmp_path: Path) -> None:
    from inspect_ai.analysis import samples_df

    frame = samples_df(str(export.to_inspect(run, tmp_path / "run.eval")))
    judged = runs.judged(run)
    assert len(frame) == len(judged)
    assert (frame["score_earwitness"] == "C").sum() == sum(j.score.correct is True for j in judged)
    assert frame["error"].fillna("").ne("").sum() == sum(j.answer.error is not None for j in judged)


def test_inspect_log_dump_and_convert_and_back_again(run: Path, tmp_path: Path) -> None:
    """The command line dumps our zip; its own zip (zstandard) of our JSON comes back as the same answers."""
    out = export.to_inspect(run, tmp_path / "run.eval")
    done = subprocess.run([BIN / "inspect", "log", "dump", out], capture_output=True, text=True, check=True)
    dumped = json.loads(done.stdout)
    assert len(dumped["samples"]) == len(runs.judged(run))
    plain = export.to_inspect(run, tmp_path / "plain.json")
    converted = tmp_path / "converted"
    command = [BIN / "inspect", "log", "convert", plain, "--to", "eval", "--output-dir", converted]
    subprocess.run(command, capture_output=True, check=True)
    found = rescore.read(next(converted.glob("*.eval")), plan=run)
    answers = runs.read_answers(run)
    assert {r.item.id: r.answer.text for r in found.replies} == {i: a.text for i, a in answers.items()}
    assert {r.item.id: r.answer.error for r in found.replies} == {i: a.error for i, a in answers.items()}


# lmms-eval


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = str(tmp_path_factory.mktemp("home"))
    return {**os.environ, "HF_HOME": home, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


@pytest.fixture(scope="module")
def task(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.to_lmms_eval(run, tmp_path_factory.mktemp("lmms") / "listens")


def test_lmms_eval_loads_the_task_and_calls_its_functions(
    run: Path, task: Path, offline: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("HF_HOME", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(key, offline[key])
    from lmms_eval.tasks import TaskManager, get_task_dict

    manager = TaskManager(include_path=str(task.parent), include_defaults=False)
    assert manager.all_tasks == ["listens"]
    loaded = get_task_dict(["listens"], manager)["listens"]
    docs, judged = loaded.test_docs(), runs.judged(run)
    assert len(docs) == len(judged)
    media = task.parent / "media"
    media.mkdir()
    for j in judged:  # stand-ins: lmms-eval wants a PyAV below 16, with which Earwitness writes no media
        (media / export.media_name(j.item.clip, j.item.intervention)).write_bytes(b"mp4")
    names: set[str] = set()
    for doc, j in zip(docs, judged, strict=True):
        assert loaded.doc_to_text(doc) == filled(j.item).prompt
        assert loaded.doc_to_target(doc) == (j.item.target or "")
        (path,) = loaded.doc_to_visual(doc)
        assert Path(path).is_file()
        got: dict[str, Any] = loaded.process_results(doc, [j.answer.text or ""])
        assert got["earwitness_right"]["label"] == j.score.label
        names |= set(got)
    assert set(loaded.aggregation()) == names
    assert loaded.higher_is_better()["earwitness_unscored"] is False


def test_lmms_eval_runs_the_task_and_its_log_is_scored_again(
    run: Path, task: Path, offline: dict[str, str], tmp_path: Path
) -> None:
    """Its command line with its dummy model, which says the same word to everything."""
    command = [
        sys.executable, "-m", "lmms_eval", "--model", "dummy", "--model_args", "response=drum",
        "--tasks", "listens", "--include_path", str(task.parent),
        "--log_samples", "--output_path", str(tmp_path), "--batch_size", "1",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=offline)
    assert done.returncode == 0, done.stderr[-2000:]
    (log,) = tmp_path.rglob("*_samples_listens.jsonl")
    (summary,) = tmp_path.rglob("*_results.json")
    found = rescore.read(log, plan=run)
    assert found.format == "lmms-eval"
    assert [r.item for r in found.replies] == runs.read_items(run)
    assert {r.answer.text for r in found.replies} == {"drum"}
    results = json.loads(summary.read_text())["results"]["listens"]
    marks = [rescore.judge(r).score.correct for r in found.replies]
    right, scored = sum(m is True for m in marks), sum(m is not None for m in marks)
    assert results["earwitness_right,none"] == pytest.approx(right / scored)
    assert results["earwitness_unscored,none"] == pytest.approx(1 - scored / len(marks))
    # Without the run it cannot: some of the run's items have no right answer.
    with pytest.raises(ValueError, match=r"its truth is empty|holds no truth"):
        rescore.read(log)
