"""Run folders: torn lines, locks, and errors that name the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from earwitness import run as runs
from earwitness.records import Answer, how_many


def _answers(n: int) -> list[Answer]:
    return [Answer(item=f"i{k}", model="m", text=f"drum {k}") for k in range(n)]


def test_answers_are_read_back(tmp_path: Path) -> None:
    with runs.AnswerLog(tmp_path) as log:
        log.append(_answers(3))
    assert list(runs.read_answers(tmp_path)) == ["i0", "i1", "i2"]


def test_a_torn_last_line_is_cut_and_nothing_else_is_lost(tmp_path: Path) -> None:
    with runs.AnswerLog(tmp_path) as log:
        log.append(_answers(3))
    path = tmp_path / "answers.jsonl"
    whole = path.read_bytes()
    for cut in range(len(whole) - 40, len(whole)):
        path.write_bytes(whole[:cut])
        assert len(runs.read_answers(tmp_path)) == 2
        with runs.AnswerLog(tmp_path) as log:
            log.append(_answers(3)[2:])
        assert path.read_bytes() == whole


def test_a_torn_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(b'{"item":"a","model":"m"}\n{"item":"b","mo\n{"item":"c","model":"m"}\n')
    with pytest.raises(runs.RunError, match="line 2"):
        runs.read_answers(tmp_path)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with runs.AnswerLog(tmp_path), pytest.raises(runs.RunError, match="another audit"):
        runs.AnswerLog(tmp_path)


def test_a_retried_answer_replaces_the_failure(tmp_path: Path) -> None:
    with runs.AnswerLog(tmp_path) as log:
        log.append([Answer(item="a", model="m", error="boom"), Answer(item="a", model="m", text="drum")])
    assert runs.read_answers(tmp_path)["a"].text == "drum"


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(runs.RunError, match=r"no run\.json"):
        runs.read_info(tmp_path)


def test_a_count_is_said_with_its_noun() -> None:
    assert [how_many(n, "clip") for n in (0, 1, 2, 2000)] == ["0 clips", "1 clip", "2 clips", "2,000 clips"]
    assert [how_many(n, "clip has", "clips have") for n in (1, 3)] == ["1 clip has", "3 clips have"]
