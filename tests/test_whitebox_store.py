"""What was captured comes back as it was, readable by other tools; torn parts are redone, others' refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import small_traces as small
from earwitness.records import Item
from earwitness.run import RunError
from earwitness.whitebox import store
from earwitness.whitebox.moments import GROUPS, About, Captured, Trace

pytest.importorskip("pyarrow")


def item(name: str, **more: Any) -> Item:
    given = {
        "protocol": "mma",
        "condition": "aligned",
        "question": "visual",
        "prompt": "?",
        "choices": ("Dog", "Cat"),
    }
    return Item(id=name, clip=name, source=name, group=name, target="Dog", seen=("Dog",), **{**given, **more})


@pytest.fixture(scope="module")
def three() -> list[Captured]:
    return [small.captured(item(f"i{n}"), f"said {n}") for n in range(3)]


def same(trace: Trace, n: int, one: Captured) -> None:
    for at, rows in ((trace.prompt, slice(0, 1)), (trace.answer, slice(0, 3))):
        assert at.value is not None
        assert one.value is not None
        np.testing.assert_allclose(at.mass[n], one.mass[:, :, rows].mean(2), rtol=1e-6)
        np.testing.assert_allclose(at.mass2[n], one.mass2[:, :, rows].mean(2), rtol=1e-6)
        np.testing.assert_allclose(at.value[n], one.value[:, :, rows].mean(2), rtol=1e-6)
        for name in ("entropy", "u_top10", "kl", "logp_answer"):
            np.testing.assert_allclose(getattr(at, name)[n], getattr(one, name)[:, rows].mean(1), rtol=1e-6)
    np.testing.assert_array_equal(trace.count[n], one.count)
    assert list(trace.logp_choice[n]) == list(one.logp_choice)
    for choice, values in one.logp_choice.items():
        np.testing.assert_array_equal(trace.logp_choice[n][choice], values)


def test_what_was_captured_comes_back(tmp_path: Path, three: list[Captured]) -> None:
    assert store.append(tmp_path, three[:2], small.ABOUT).name == "part-00001.parquet"
    assert store.append(tmp_path, three[2:], small.ABOUT).name == "part-00002.parquet"
    trace = store.read(tmp_path)
    assert trace.items == ("i0", "i1", "i2")
    assert trace.answers == ("said 0", "said 1", "said 2")
    assert trace.about == small.ABOUT == store.about(tmp_path)
    assert trace.rows.tolist() == [3, 3, 3]
    for n, one in enumerate(three):
        same(trace, n, one)
    np.testing.assert_array_equal(trace.prompt.mass[1], three[1].mass[:, :, 0])  # exactly: nothing is averaged
    assert store.read(tmp_path, only={"i1"}).items == ("i1",)


def test_without_values_and_lens_they_are_none(tmp_path: Path, three: list[Captured]) -> None:
    bare = replace(
        three[0], value=None, entropy=None, u_top10=None, kl=None, logp_answer=None, logp_choice={}, kept={}
    )
    store.append(tmp_path, [bare], small.ABOUT)
    trace = store.read(tmp_path)
    assert trace.prompt.value is trace.answer.value is trace.prompt.entropy is trace.answer.kl is None
    assert trace.logp_choice == ({},)
    assert trace.heat == {}
    store.append(tmp_path, three[1:], small.ABOUT)  # one item without: the whole cannot be averaged
    assert store.read(tmp_path).prompt.value is None
    assert store.read(tmp_path, only=["i1", "i2"]).prompt.value is not None


def test_kept_rows_are_summed_by_second(tmp_path: Path, three: list[Captured]) -> None:
    one = three[0]
    assert one.groups is not None
    assert one.seconds is not None
    store.append(tmp_path, [one], small.ABOUT)
    rows = parquet(tmp_path).to_pylist()
    (row,) = [r for r in rows if r["said"]]
    assert (row["layer"], row["at"], row["said"]) == (2, "answer", ["a", " b", " c"])
    assert row["seconds_video"] == [0, 1, 2, 3]
    assert len(row["seconds_audio"]) == 100
    second = one.kept[2][:, (one.groups == GROUPS.index("video")) & (one.seconds == 2)].sum(1)
    shown = np.reshape(row["heat_video"], (3, 4))
    np.testing.assert_allclose(shown[:, 2], second, rtol=1e-6)
    text = np.reshape(row["heat_text"], (3, len(GROUPS)))
    np.testing.assert_allclose(text.sum(1), 1, rtol=1e-5)
    for name in ("video", "audio"):
        own = np.reshape(row[f"heat_{name}"], (3, -1))
        np.testing.assert_allclose(own.sum(1), text[:, GROUPS.index(name)], rtol=1e-5)


def parquet(folder: Path) -> Any:
    import pyarrow.parquet as files

    return files.read_table(folder / "trace" / "part-00001.parquet")


def test_kept_rows_come_back_token_by_token(tmp_path: Path, three: list[Captured]) -> None:
    one = three[0]
    store.append(tmp_path, [one], small.ABOUT)
    heat = store.read(tmp_path).heat["i0", 2]
    assert heat.said == ("a", " b", " c")
    np.testing.assert_array_equal(heat.mass, one.kept[2])
    np.testing.assert_array_equal(heat.seconds, one.seconds)
    np.testing.assert_array_equal(heat.groups, one.groups)
    assert heat.words == one.words
    assert set(heat.tokens.tolist()) == {1}


def test_maps_without_single_tokens_are_read_and_redone(tmp_path: Path, three: list[Captured]) -> None:
    """Parts as they were before: text by group. They are drawn, but count as lacking their map."""
    import pyarrow.parquet as files

    path = store.append(tmp_path, three[:1], small.ABOUT)
    old = parquet(tmp_path).drop_columns(["input", "input_group", "input_second", "input_tokens", "heat_input"])
    files.write_table(old, path)
    assert store.resume(tmp_path, small.ABOUT)["i0"] == ("said 0", True, frozenset())
    store.append(tmp_path, three[1:], small.ABOUT)
    maps = store.read(tmp_path).heat
    kept = three[0].kept[2]
    folded, whole = maps["i0", 2], maps["i1", 2]
    assert len(whole.words) == len(kept[0])
    np.testing.assert_allclose(folded.mass.sum(1), 1, rtol=1e-5)
    at = folded.words.index("options")
    assert folded.tokens[at] == small.COUNT[GROUPS.index("options")]
    options = kept[:, three[0].groups == GROUPS.index("options")].sum(1)
    np.testing.assert_allclose(folded.mass[:, at], options, rtol=1e-5)
    assert (folded.groups == GROUPS.index("audio")).sum() == 100
    assert store.resume(tmp_path, small.ABOUT)["i1"].heat == {2}


def test_other_tools_read_it(tmp_path: Path, three: list[Captured]) -> None:
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    store.append(tmp_path, three, small.ABOUT)
    parts = str(tmp_path / "trace" / "part-*.parquet")
    query = (
        f"""SELECT layer, avg(list_avg(mass_video)) FROM '{parts}' WHERE "at" = 'prompt' GROUP BY 1 ORDER BY 1"""
    )
    found = duckdb.sql(query).fetchall()
    wanted = np.mean([one.mass[:, :, 0, GROUPS.index("video")].mean(1) for one in three], 0)
    np.testing.assert_allclose([v for _, v in found], wanted, rtol=1e-6)
    frame = pandas.read_parquet(next((tmp_path / "trace").glob("part-*.parquet")))
    assert len(frame) == 3 * 2 * small.LAYERS
    assert frame.set_index(["item", "at", "layer"]).loc[("i1", "answer", 4), "tokens_video"] == 64
    assert [name for name, _, _ in store._columns()] == list(frame.columns)


@pytest.mark.parametrize("how", ["short", "empty", "middle"])
def test_a_torn_part_is_ignored_and_redone(tmp_path: Path, three: list[Captured], how: str) -> None:
    store.append(tmp_path, three[:1], small.ABOUT)
    torn = store.append(tmp_path, three[1:], small.ABOUT)
    data = bytearray(torn.read_bytes())
    if how == "middle":
        data[len(data) // 4 : len(data) // 4 + 200] = bytes(200)
    torn.write_bytes(data if how == "middle" else data[: 0 if how == "empty" else len(data) // 2])
    left = torn.with_name("part-00003.parquet.tmp")
    left.write_bytes(b"PAR1")
    trace = store.read(tmp_path)
    assert trace.items == ("i0",)
    assert trace.torn == (torn.name,)
    assert torn.exists(), "reading changes nothing"
    assert store.resume(tmp_path, small.ABOUT) == {"i0": ("said 0", True, frozenset({2}))}
    assert not torn.exists()
    assert not left.exists()
    store.append(tmp_path, three[1:], small.ABOUT)
    assert store.read(tmp_path).items == ("i0", "i1", "i2")


def test_an_item_traced_again_counts_as_it_was_last(tmp_path: Path, three: list[Captured]) -> None:
    store.append(tmp_path, three, small.ABOUT)
    again = small.captured(item("i1", condition="x", question="visual"), "another answer", swapped=1.0)
    store.append(tmp_path, [again], small.ABOUT)
    trace = store.read(tmp_path)
    assert sorted(trace.items) == ["i0", "i1", "i2"]
    n = trace.items.index("i1")
    assert trace.answers[n] == "another answer"
    same(trace, n, again)
    assert store.resume(tmp_path, small.ABOUT)["i1"].answer == "another answer"


def test_traces_of_two_models_are_kept_apart(tmp_path: Path, three: list[Captured]) -> None:
    store.append(tmp_path, three[:1], small.ABOUT)
    tuned = msgspec.structs.replace(small.ABOUT, settings={"adapter": "lora"})
    with pytest.raises(RunError, match=r"of settings \{\}, not \{'adapter': 'lora'\}: take another run folder"):
        store.resume(tmp_path, tuned)
    store.append(tmp_path, three[1:], tuned)
    with pytest.raises(RunError, match="the trace there is of settings"):
        store.read(tmp_path)


def test_no_trace_is_said_with_the_command_that_makes_one(tmp_path: Path, three: list[Captured]) -> None:
    assert store.resume(tmp_path, small.ABOUT) == {}
    assert store.about(tmp_path) is None
    with pytest.raises(RunError, match="holds no trace that can be read: run `earwitness trace"):
        store.read(tmp_path)
    store.append(tmp_path, three, small.ABOUT)
    with pytest.raises(RunError, match="holds no trace of these items"):
        store.read(tmp_path, only=["other"])


def test_a_foreign_parquet_file_is_refused(tmp_path: Path) -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    (tmp_path / "trace").mkdir()
    parquet.write_table(arrow.table({"item": ["x"], "layer": [1]}), tmp_path / "trace" / "part-00001.parquet")
    with pytest.raises(RunError, match=r"part-00001.parquet is no part of a trace"):
        store.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tokens": ("a",)}, "1 tokens for 3 rows"),
        ({"mass2": np.zeros((1, 1, 3, 9), np.float32)}, "different shapes"),
        ({"groups": None}, "kept rows without"),
        ({"mass": "half"}, "does not add up to 1"),
        ({"mass": "fewer"}, "mass .* beside"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    tmp_path: Path, three: list[Captured], change: dict[str, Any], why: str
) -> None:
    if change.get("mass") == "half":
        change = {"mass": three[1].mass / 2}
    elif change.get("mass") == "fewer":
        change = {"mass": three[1].mass[:2], "mass2": three[1].mass2[:2]}
    with pytest.raises(ValueError, match=f"item i1: .*{why}"):
        store.append(tmp_path, [three[0], replace(three[1], **change)], small.ABOUT)
    assert not (tmp_path / "trace").exists()
    with pytest.raises(ValueError, match="no item was captured"):
        store.append(tmp_path, [], small.ABOUT)


def test_a_missing_extra_is_named(tmp_path: Path, three: list[Captured], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'earwitness\[export\]'"):
        store.append(tmp_path, three, small.ABOUT)


def test_two_hundred_items_of_a_7b_model_take_fifteen_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    some, items = np.array([50, 10, 5, 1e-3, 5, 1, 15, 8, 1e-3]), 20
    made = []
    for n in range(items):
        mass = rng.dirichlet(some, (28, 28, 2)).astype(np.float32)
        mass[..., GROUPS.index("caption")] = 0
        mass /= mass.sum(-1, keepdims=True)
        square = mass**2 / rng.uniform(5, 500, mass.shape).astype(np.float32)
        made.append(
            Captured(item=f"{n:016x}", answer="x", tokens=("x", "y"), count=small.COUNT, mass=mass, mass2=square)
        )
    size = store.append(tmp_path, made, About(model="m", revision="r")).stat().st_size
    assert size * 200 / items < 16e6


def test_the_room_of_types_and_statistics_loads_neither_torch_nor_pyarrow() -> None:
    code = (
        "import sys, earwitness.whitebox.tables, earwitness.whitebox.store, earwitness.report.inside; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pyarrow')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "torch, transformers or pyarrow was imported"
