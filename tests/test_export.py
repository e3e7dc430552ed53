"""A run in other tools' forms: Parquet opened by four readers, inspect_ai's layout, lmms-eval's task folder.

inspect_ai and lmms-eval themselves open the same exports in tests/interop.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import shutil
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

import small_runs
from earwitness import export, media
from earwitness import run as runs
from earwitness.interventions import filled
from earwitness.records import Answer, Clip, Intervention, Item, Judged, View

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_runs.write(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def judged(run: Path) -> list[Judged]:
    found = runs.judged(run)
    outcomes = {j.score.correct for j in found if j.answer.error is None}
    assert outcomes == {True, None}, "the rule's answers are right or unscored"
    assert any(j.answer.error for j in found)
    return found


# Parquet


@pytest.fixture(scope="module")
def table(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pyarrow")
    return export.to_parquet(run, tmp_path_factory.mktemp("parquet") / "run.parquet")


def test_parquet_says_of_every_answer_what_the_run_says(table: Path, judged: list[Judged]) -> None:
    import pyarrow.parquet as parquet

    rows = parquet.read_table(table).to_pylist()
    assert [r["item"] for r in rows] == [j.item.id for j in judged]
    for row, j in zip(rows, judged, strict=True):
        assert row["text"] == j.answer.text
        assert row["error"] == j.answer.error
        assert (row["text"] is None) != (row["error"] is None)
        assert row["correct"] is j.score.correct
        assert row["label"] == j.score.label
        assert tuple(row["choices"]) == j.item.choices
        assert tuple(row["heard"]) == j.item.heard
        assert row["intervention"] == j.item.intervention.key
        assert (row["fed_frames"] is None) == (j.answer.fed is None)
        assert {p["choice"]: p["logprob"] for p in row["logprobs"]} == (j.answer.logprobs or {})
        assert json.loads(row["tags"]) == j.item.tags
        assert row["model"] == "rule"


def test_parquet_keeps_its_schema_whatever_the_run_holds(run: Path, table: Path, tmp_path: Path) -> None:
    """A run without receipts, log-probs or donors has the same columns of the same types."""
    import pyarrow.parquet as parquet

    bare = tmp_path / "bare"
    shutil.copytree(run, bare)
    first = runs.read_items(bare)[0]
    runs.write_lines(bare / "items.jsonl", [first])
    runs.write_lines(bare / "answers.jsonl", [Answer(item=first.id, model="rule", text="drum")])
    out = export.to_parquet(bare, tmp_path / "bare.parquet")
    a, b = parquet.read_schema(table), parquet.read_schema(out)
    assert a.equals(b)
    assert a.names == [name for name, _, _ in export.COLUMNS]
    assert a.metadata[b"earwitness_schema"] == b"1"
    assert msgspec.json.decode(a.metadata[b"earwitness_run"], type=runs.Info).model == "rule"
    assert parquet.read_table(out).num_rows == 1


def test_parquet_comes_in_row_groups(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as parquet

    from earwitness.export import parquet as room

    monkeypatch.setattr(room, "ROWS", 30)
    file = parquet.ParquetFile(export.to_parquet(run, tmp_path / "run.parquet"))
    n = file.metadata.num_rows
    assert [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)] == [30, 30, n - 60]


def test_pandas_duckdb_and_datasets_read_it_alike(table: Path, judged: list[Judged], tmp_path: Path) -> None:
    pandas, duckdb, datasets = (pytest.importorskip(n) for n in ("pandas", "duckdb", "datasets"))
    right = sum(j.score.correct is True for j in judged)
    unscored = sum(j.score.correct is None for j in judged)
    failed = sum(j.answer.error is not None for j in judged)
    frame = pandas.read_parquet(table)
    assert (frame["correct"].isna().sum(), (frame["correct"] == True).sum()) == (unscored, right)  # noqa: E712
    assert frame["error"].notna().sum() == failed
    with duckdb.connect() as base:
        query = "select count(*) filter (correct), count(*) filter (correct is null), count(error), count(*) from ?"
        counts = base.execute(query.replace("?", f"'{table}'")).fetchone()
        assert counts == (right, unscored, failed, len(judged))
        seen = base.execute(f"select condition, avg(correct::int) from '{table}' group by 1").fetchall()
        assert {c for c, _ in seen} == {j.item.condition for j in judged}
    rows = datasets.Dataset.from_parquet(str(table), cache_dir=str(tmp_path), keep_in_memory=True)
    assert len(rows) == len(judged)
    assert sum(r["correct"] is True for r in rows) == right
    assert rows[0]["choices"] == list(judged[0].item.choices)


def test_every_column_is_in_the_docs() -> None:
    page = (DOCS / "export.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", page, re.M)
    assert listed == [(name, kind, what) for name, kind, what in export.COLUMNS]


def test_parquet_names_the_extra_where_pyarrow_is_missing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"earwitness\[export\]"):
        export.to_parquet(run, tmp_path / "x.parquet")


# inspect_ai


def _unzip(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return {name: json.loads(archive.read(name)) for name in archive.namelist()}


@pytest.fixture(scope="module")
def log(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _unzip(export.to_inspect(run, tmp_path_factory.mktemp("inspect") / "run.eval"))


def test_an_eval_log_has_a_sample_for_every_answer(log: dict[str, Any], judged: list[Judged]) -> None:
    assert {"header.json", "summaries.json", "_journal/start.json"} <= set(log)
    head = log["header.json"]
    assert (head["version"], head["status"], head["eval"]["model"]) == (2, "success", "rule")
    assert log["_journal/start.json"]["eval"] == head["eval"]
    assert [s["id"] for s in log["summaries.json"]] == [j.item.id for j in judged]
    for j in judged:
        sample = log[f"samples/{j.item.id}_epoch_1.json"]
        video, text = sample["input"][0]["content"]
        assert text["text"] == filled(j.item).prompt
        assert Path(video["video"]).name == export.media_name(j.item.clip, j.item.intervention)
        assert sample["target"] == (j.item.target or "")
        assert sample["metadata"]["condition"] == j.item.condition
        assert sample["metadata"]["group"] == j.item.group
        assert sample["metadata"]["clip"] == j.item.clip


def test_a_failed_answer_is_an_error_and_never_scored(log: dict[str, Any], judged: list[Judged]) -> None:
    for j in judged:
        sample = log[f"samples/{j.item.id}_epoch_1.json"]
        assert ("error" in sample) == (j.answer.error is not None)
        if j.answer.error:
            assert sample["error"]["message"] == j.answer.error
            assert sample["scores"] == {}
            assert sample["output"]["completion"] == ""
        elif j.score.correct is None:
            score = sample["scores"]["earwitness"]
            assert math.isnan(score["value"])
            wanted = {"REFUSED": "refusal", "UNPARSED": "invalid_response_format"}
            assert score["reason"] == wanted.get(j.score.label, "no_right_answer")
        else:
            assert sample["scores"]["earwitness"]["value"] == "CI"[not j.score.correct]


def test_results_stand_by_condition_with_their_intervals(log: dict[str, Any], judged: list[Judged]) -> None:
    results = log["header.json"]["results"]
    assert results["total_samples"] == len(judged)
    assert results["completed_samples"] == sum(j.answer.error is None for j in judged)
    assert sum(s["scored_samples"] for s in results["scores"]) == sum(j.score.correct is not None for j in judged)
    for score in results["scores"]:
        assert set(score["metrics"]) in (set(), {"accuracy", "low", "high"})
        if score["metrics"]:
            low, value, high = (score["metrics"][k]["value"] for k in ("low", "accuracy", "high"))
            assert low <= value <= high
            assert low < high


def test_media_are_named_never_inlined(log: dict[str, Any]) -> None:
    text = json.dumps(log)
    assert "data:" not in text
    assert "base64" not in text


def test_json_and_zip_say_the_same(run: Path, log: dict[str, Any], tmp_path: Path) -> None:
    whole = json.loads(export.to_inspect(run, tmp_path / "run.json").read_text())
    samples = whole.pop("samples")
    assert whole == log["header.json"]
    assert json.dumps(samples) == json.dumps([log[f"samples/{s['id']}_epoch_1.json"] for s in samples])


def test_a_stopped_run_is_no_success(run: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(run, half)
    lines = (half / "answers.jsonl").read_bytes().splitlines(keepends=True)
    (half / "answers.jsonl").write_bytes(b"".join(lines[:10]))
    head = _unzip(export.to_inspect(half, tmp_path / "half.eval"))["header.json"]
    assert head["status"] == "cancelled"
    assert head["results"]["total_samples"] == len(lines)
    assert len(head["eval"]["dataset"]["sample_ids"]) == 10


def test_an_inspect_log_is_called_as_inspect_wants_it(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\*\.eval or \*\.json"):
        export.to_inspect(run, tmp_path / "run.log")


# lmms-eval


@pytest.fixture(scope="module")
def task(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.to_lmms_eval(run, tmp_path_factory.mktemp("lmms") / "listens")


@pytest.fixture(scope="module")
def functions(task: Path) -> ModuleType:
    """The generated module, loaded as lmms-eval does: from its file."""
    spec = importlib.util.spec_from_file_location("exported_task", task.parent / "utils.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _docs(task: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (task.parent / "docs.jsonl").read_text().splitlines()]


def test_the_task_asks_every_item_of_the_run(run: Path, task: Path, functions: ModuleType) -> None:
    items, docs = runs.read_items(run), _docs(task)
    assert [msgspec.json.decode(d["item"], type=Item) for d in docs] == items
    assert [functions.doc_to_text(d) for d in docs] == [filled(i).prompt for i in items]
    assert [functions.doc_to_target(d) for d in docs] == [i.target or "" for i in items]
    assert len({tuple(sorted(d)) for d in docs}) == 1, "all rows have the same columns"


def test_the_task_file_is_yaml_that_names_functions_and_metrics_that_exist(
    task: Path, functions: ModuleType
) -> None:
    yaml = pytest.importorskip("yaml")

    class Loader(yaml.SafeLoader):  # type: ignore[misc,name-defined]
        pass

    Loader.add_constructor("!function", lambda loader, node: getattr(functions, node.value.split(".")[1]))
    config = yaml.load(task.read_text(), Loader)
    assert config["task"] == "listens"
    assert Path(config["dataset_kwargs"]["data_files"]["test"]) == (task.parent / "docs.jsonl").resolve()
    assert config["doc_to_visual"] is functions.doc_to_visual
    assert config["process_results"] is functions.process_results
    named = {m["metric"] for m in config["metric_list"]}
    given = {name for doc in _docs(task) for name in functions.process_results(doc, ["drum"])}
    assert named == given
    assert all(m["aggregation"] is functions.mean for m in config["metric_list"])


@pytest.mark.parametrize("text", ["", " ", "[REQUEST FAILED]", "ERROR: boom", "I do not know.", "zebra crossing"])
def test_the_tasks_scorer_never_defaults(task: Path, functions: ModuleType, text: str) -> None:
    for doc in _docs(task):
        if doc["condition"].startswith("mma"):
            got = functions.process_results(doc, [text])
            assert got["earwitness_right"]["value"] is None
            assert got["earwitness_unscored"]["value"] == 1.0
            assert functions.mean([got["earwitness_unscored"]]) == 1.0
            assert math.isnan(functions.mean([got["earwitness_right"]]))


def test_the_tasks_scorer_is_the_audits(judged: list[Judged], task: Path, functions: ModuleType) -> None:
    for j, doc in zip(judged, _docs(task), strict=True):
        got = functions.process_results(doc, [j.answer.text])["earwitness_right"]
        assert got["label"] == j.score.label
        assert got["value"] == (None if j.score.correct is None else float(j.score.correct))


def test_a_clip_that_is_not_written_stops_the_task(task: Path, functions: ModuleType) -> None:
    with pytest.raises(FileNotFoundError, match="--media"):
        functions.doc_to_visual(_docs(task)[0])
    assert functions.doc_to_visual({"media": ""}) == []


@pytest.mark.parametrize("name", ["has space", "7up", "a-b"])
def test_a_task_needs_a_name(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="task's"):
        export.to_lmms_eval(run, tmp_path / name)


# media


def test_media_are_written_once_and_what_cannot_be_is_said(tmp_path: Path) -> None:
    clips = small_runs.clips(2)
    clip, donor = clips.clips
    base = {"protocol": "thud", "condition": "c", "question": "mute", "source": "s", "group": "g", "target": None}
    wanted = [
        (clip.id, Intervention()),
        (clip.id, Intervention(kind="mute")),
        (clip.id, Intervention(kind="mute")),
        (clip.id, Intervention(kind="noise")),
        (clip.id, Intervention(kind="swap", donor="nobody")),
        ("gone", Intervention()),
        ("", Intervention()),
    ]
    items = [
        Item(id=str(n), clip=c, intervention=iv, prompt="?", **base)  # type: ignore[arg-type]
        for n, (c, iv) in enumerate(wanted)
    ]
    runs.write_lines(tmp_path / "items.jsonl", items)
    steps: list[tuple[int, int]] = []
    place = tmp_path / "media"
    missing = export.write_media(tmp_path, clips, place, progress=lambda *step: steps.append(step))
    assert steps == [(n, 5) for n in range(1, 6)]
    names = {export.media_name(c, iv) for c, iv in wanted if c}
    assert {p.name for p in place.glob("*.mp4")} == names - set(missing)
    assert set(missing) == {
        export.media_name(clip.id, Intervention(kind="swap", donor="nobody")),
        "gone.mp4",
    }
    assert "'gone' is not among the clips" in missing["gone.mp4"]
    muted = media.load(place / export.media_name(clip.id, Intervention(kind="mute")), View(size=(36, 36)))
    assert muted.wave is not None
    assert not muted.wave.any()
    before = {p: p.stat().st_mtime_ns for p in place.glob("*.mp4")}
    export.write_media(tmp_path, clips, place)
    assert before == {p: p.stat().st_mtime_ns for p in place.glob("*.mp4")}
    assert donor.id not in {p.stem for p in place.glob("*.mp4")}


def test_other_clips_than_the_runs_are_refused(tmp_path: Path, run: Path) -> None:
    class Nothing:
        clips = (Clip(id="other"),)

    with pytest.raises(runs.RunError, match="another --clips"):
        export.write_media(run, Nothing(), tmp_path)  # type: ignore[arg-type]


def test_a_run_that_was_not_scored_says_what_to_do(run: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(run, bare)
    (bare / "scores.jsonl").unlink()
    with pytest.raises(runs.RunError, match=r"scores\.jsonl"):
        export.to_inspect(bare, tmp_path / "x.eval")
    (bare / "answers.jsonl").unlink()
    runs.write_lines(bare / "scores.jsonl", [])
    with pytest.raises(runs.RunError, match="no answers"):
        export.to_inspect(bare, tmp_path / "x.eval")
