"""What was planted in a trace is found: the move, its layer and head, the parting, the sound tampered with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

import small_runs
import small_traces as small
from earwitness import run as runs
from earwitness.records import Answer, Estimate, Item, Table
from earwitness.stats import effects, many
from earwitness.whitebox import effects as inner
from earwitness.whitebox import joined, store, tables
from earwitness.whitebox.moments import GROUPS

pytest.importorskip("pyarrow")

WHAT = ("mma", "aligned", "standard")
SWAPPED = ("mma", "audio_swapped", "standard")


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> joined.Inside:
    return joined.load(small.write(tmp_path_factory.mktemp("runs") / "small", 24))


def test_the_planted_move_is_found_in_its_layer_and_head(inside: joined.Inside) -> None:
    sums = inner.moves(inside, WHAT)
    assert sums is not None
    found = effects.effect(sums)
    assert found is not None
    assert np.argmax(found.d.value) == small.MOVED
    at = inner.peak(sums)
    assert (at.value, at.low, at.high) == (small.MOVED,) * 3
    adjusted = many.benjamini_hochberg(found.d.p)
    assert adjusted[small.MOVED] < 0.001
    by_head = inner.moves(inside, WHAT, heads=True)
    assert by_head is not None
    single = many.max_t(by_head.shifts)
    assert (single[small.MOVED] < 0.05).all()
    shift = by_head.shifts.mean(0)
    assert np.unravel_index(shift.argmax(), shift.shape) == (small.MOVED, small.HEAD)
    assert shift[small.MOVED, small.HEAD] == pytest.approx(3.75, abs=0.6)
    swapped = inner.moves(inside, SWAPPED)
    assert swapped is not None
    none = effects.effect(swapped)
    assert none is not None
    assert abs(none.d.value[small.MOVED]) < 1


def test_x_is_the_log_ratio_per_clip_with_option_orders_averaged(tmp_path: Path) -> None:
    folder = small_runs.write(tmp_path, 6, ("mma",))
    items = [i for i in runs.read_items(folder) if (i.condition, i.style) == ("aligned", "standard")]
    again = [replace_seed(i) for i in items]
    runs.write_lines(folder / "items.jsonl", [*items, *again])
    made = [small.captured(i) for i in (*items, *again)]
    (folder / "answers.jsonl").unlink()
    store.append(folder, made, small.ABOUT)
    inside = joined.load(folder)
    sums = inner.moves(inside, WHAT)
    assert sums is not None
    video, audio = GROUPS.index("video"), GROUPS.index("audio")
    x = {
        (i.clip, i.question, i.seed): np.log(
            c.mass[:, :, 0, video].mean(1, dtype=np.float64) / c.mass[:, :, 0, audio].mean(1, dtype=np.float64)
        )
        for i, c in zip((*items, *again), made, strict=True)
    }
    clips = sorted({i.clip for i in items})
    sides = [np.mean([[x[c, q, s] for c in clips] for s in (0, 1)], 0) for q in ("visual", "audio")]
    found = effects.effect(sums)
    assert found is not None
    np.testing.assert_allclose(found.d.value, effects.cohens_d(sides[0], sides[1]), rtol=1e-5)
    assert found.n == len(clips)


def replace_seed(item: Item) -> Item:
    return msgspec.structs.replace(item, id=item.id + "s", seed=1)


def test_a_clip_without_sound_has_no_ratio(inside: joined.Inside) -> None:
    count = inside.trace.count.copy()
    gone = [n for n, i in enumerate(inside.items) if i.clip == inside.items[0].clip]
    count[gone, GROUPS.index("audio")] = 0
    deaf = replace(inside, trace=replace(inside.trace, count=count))
    assert inner.conditions(deaf)[WHAT] == inner.conditions(inside)[WHAT] - 1


def test_token_mode_gives_the_two_modalities_opposite_signs(inside: joined.Inside) -> None:
    video, audio = (inner.token_moves(inside, WHAT, m) for m in ("video", "audio"))  # type: ignore[arg-type]
    assert video is not None
    assert audio is not None
    assert video.value[small.MOVED] > 0 > audio.value[small.MOVED]
    own = effects.effect(inner.moves(inside, WHAT))  # type: ignore[arg-type]
    assert own is not None
    assert np.argmax(np.abs(video.value)) == small.MOVED


def test_shares_add_up_and_enrichment_is_relative_to_the_tokens(inside: joined.Inside) -> None:
    mass, bare, rich, value = (inner.shares(inside, m) for m in ("mass", "without sink", "enrichment", "value"))  # type: ignore[arg-type]
    assert mass is not None
    assert bare is not None
    assert rich is not None
    assert value is not None
    caption, generated, text = GROUPS.index("caption"), GROUPS.index("generated"), len(GROUPS)
    for found in (mass, bare, rich, value):
        assert np.isnan(found[:, [caption, generated]]).all(), "no tokens, no share"
    for found in (mass, bare, value):
        np.testing.assert_allclose(np.nansum(found[:, :text], 1), 1, rtol=1e-5)
        np.testing.assert_allclose(
            found[:, text], 1 - found[:, GROUPS.index("video")] - found[:, GROUPS.index("audio")], rtol=1e-5
        )
    seen = small.COUNT.sum() - small.COUNT[generated]
    np.testing.assert_allclose(rich[:, 0], mass[:, 0] * seen, rtol=1e-6)
    weights = np.where(np.arange(text) == generated, 0, small.COUNT) / seen
    np.testing.assert_allclose(np.nansum(rich[:, :text] * weights, 1), 1, rtol=1e-5)
    np.testing.assert_allclose(inner.layer_shares(inside, range(5)).sum(1), 1, rtol=1e-5)


def test_the_layer_where_the_options_part(inside: joined.Inside) -> None:
    found = list(inner.parting(inside))
    assert {one.key.condition for one in found} == {"audio_swapped"}
    for one in found:
        assert (one.settled.value, one.settled.low, one.settled.high) == (small.PARTED,) * 3
        assert (one.gap.value[: small.PARTED] < 0).all()
        assert (one.gap.value[small.PARTED :] > 0).all()
        assert one.seen.value > 0.95
    curves = np.array([[1, -1, 1, 1], [1, 1, 1, 1], [-1, -1, -1, 2], [0, 0, 0, 0.0]])
    assert inner.settled(curves).tolist() == [2, 0, 3, 0]


def test_tampering_shows_in_the_last_layer(inside: joined.Inside) -> None:
    found = {str(one.key): one for one in inner.uncertainty(inside)}
    assert "audio_swapped, audio" in found
    assert "audio_removed, audio" in found
    assert not any(key.startswith(("aligned", "frames_zeroed", "long_context")) for key in found)
    one = found["audio_swapped, audio"].change
    assert one.value[-1] == pytest.approx(0.2, abs=0.02)
    assert one.low[-1] > 0.15
    assert (np.abs(one.value[:-1]) < 0.02).all()


def columns(table: Table, label: str) -> dict[str, object]:
    row = next(r for r in table.rows if r.label == label)
    return dict(zip(table.columns, row.cells, strict=True))


def test_tables_say_what_was_planted(inside: joined.Inside) -> None:
    found = {t.id: t for t in tables.tables(inside)}
    assert list(found) == [
        "trace_mass", "trace_without_sink", "trace_enrichment", "trace_value", "trace_moves",
        "trace_layers_standard", "trace_paper_standard", "trace_uncertainty", "trace_parting",
    ]  # fmt: skip
    for table in found.values():
        assert all(len(row.cells) == len(table.columns) for row in table.rows), table.id
    row = columns(found["trace_moves"], "aligned")
    assert isinstance(row["at layer"], Estimate)
    assert row["at layer"].value == small.MOVED
    assert (row["layers that move"], row["heads that move"]) == ("1 of 6", "4 of 24")
    shift = row["largest shift, nats"]
    assert isinstance(shift, Estimate)
    assert shift.low > inner.SMALLEST
    layer = columns(found["trace_layers_standard"], f"layer {small.MOVED}")
    aligned, gap = layer["d, aligned"], layer["d, misaligned - aligned"]
    assert isinstance(aligned, Estimate)
    assert isinstance(gap, Estimate)
    assert aligned.low > 1
    assert gap.high < 0
    assert gap.clusters < aligned.clusters, "a swap ties two clips"
    share = columns(found["trace_mass"], "aligned, visual")["all text"]
    assert isinstance(share, Estimate)
    assert share.low < share.value < share.high


def test_a_shift_that_is_sure_but_small_is_not_counted_as_a_move(tmp_path: Path) -> None:
    """The same 2 per cent in every clip: p is tiny, d_z is large, and nothing moves."""
    sure = joined.load(small.write(tmp_path / "sure", 24, aligned=0.02, noise=0.001))
    sums = inner.moves(sure, WHAT)
    assert sums is not None
    found = effects.effect(sums)
    assert found is not None
    assert found.shift.p[small.MOVED] < 1e-6
    assert found.dz.value[small.MOVED] > 3
    assert not inner.matters(found.shift).any()
    row = columns({t.id: t for t in tables.tables(sure)}["trace_moves"], "aligned")
    assert row["layers that move"] == "0 of 6 (1 too little to matter)"
    assert str(row["heads that move"]).startswith("0 of 24 (")


def test_a_shift_matters_where_its_whole_interval_is_large() -> None:
    low, high = np.array([0.1, 0.09, -0.5, -0.5, np.nan]), np.array([0.3, 0.9, -0.1, 0.5, np.nan])
    band = effects.Band((low + high) / 2, low, high, np.zeros(5))
    assert inner.matters(band).tolist() == [True, False, True, False, False]


def test_two_traced_runs_are_compared_item_by_item(inside: joined.Inside, tmp_path: Path) -> None:
    tuned = joined.load(small.write(tmp_path / "tuned", 24, swapped=2.0))
    found = {t.id: t for t in tables.changes(inside, tuned)}
    assert list(found) == [
        "trace_share_changes", "trace_layer_changes_aligned_standard", "trace_layer_changes_audio_swapped_standard",
        "trace_parting_changes",
    ]  # fmt: skip
    same = columns(found["trace_layer_changes_aligned_standard"], f"layer {small.MOVED}")["difference"]
    more = columns(found["trace_layer_changes_audio_swapped_standard"], f"layer {small.MOVED}")["difference"]
    assert isinstance(same, Estimate)
    assert isinstance(more, Estimate)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert more.low > 0.5
    half = tuned.picked(tuned.items[::-2])
    assert len(joined.common(inside, half)[0].items) == len(half.items)
    assert tables.changes(inside, half)[0].rows
    other = replace(tuned, items=tuple(replace_seed(i) for i in tuned.items))
    with pytest.raises(ValueError, match="share no item"):
        tables.changes(inside, other)


def test_a_changed_answer_leaves_its_trace_out(tmp_path: Path) -> None:
    folder = small.write(tmp_path, 4)
    first = joined.load(folder)
    assert first.left_out == ()
    with runs.AnswerLog(folder) as log:
        log.append([Answer(item=first.items[0].id, model="rule", text="something else")])
        log.append([Answer(item=first.items[1].id, model="rule", text=f" {first.trace.answers[1]}\n")])
    second = joined.load(folder)
    assert first.items[0] not in second.items
    assert len(second.items) == len(first.items) - 1
    assert second.left_out == ("1 traced answers were replaced since: trace again to redo them",)
    runs.write_lines(folder / "items.jsonl", [])
    with pytest.raises(runs.RunError, match="nothing of the trace belongs to this run"):
        joined.load(folder)
