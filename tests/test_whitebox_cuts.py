"""Tables of cut paths say what a row shows: a find only where the cut costs more than random tokens do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from earwitness.records import Estimate, Item, Row, Table
from earwitness.report import cells as shown_cells
from earwitness.whitebox import cut_tables
from earwitness.whitebox.cut_tables import AS_RANDOM, LESS, MATTERS, NOTHING, UNKNOWN
from earwitness.whitebox.edges import Knockout, Reading

CHOICES = ("bell", "drum")


def items(clips: int, question: str = "audio") -> list[Item]:
    return [
        Item(
            id=f"{question}{n}", protocol="mma", condition="audio_swapped", question=question, clip=f"c{n}",
            source=f"c{n}", group=f"g{n}", prompt="?", choices=CHOICES, target="drum", seen=("bell",),
            heard=("drum",),
        )
        for n in range(clips)
    ]  # fmt: skip


def cuts(
    some: Sequence[Item], cut: float, random: float | None, *, flips: bool = False, spread: float = 0.1, **more: Any
) -> list[Knockout]:
    """A path that costs each answer about ``cut`` nats, where as many random tokens cost about ``random``."""
    rng = np.random.default_rng(0)

    def reading(loss: float, flipped: bool = False) -> Reading:
        first = -5.0 if flipped else -0.1
        return Reading(-1.0 + loss, {"bell": first, "drum": -1.0})

    return [
        Knockout(
            item=i.id, edge=more.get("edge", "audio->answer"), layers=more.get("layers", (0, 3)), keys=50,
            control_keys=0 if random is None else 47, plain=reading(0.0),
            cut=reading(cut + spread * float(rng.normal()), flips),
            controls=() if random is None else (reading(random + spread * float(rng.normal())),),
        )
        for i in some
    ]  # fmt: skip


def only(found: Sequence[Knockout], some: Sequence[Item]) -> tuple[Table, Row]:
    (table,) = cut_tables.tables(found, some)
    (row,) = table.rows
    return table, row


def cell(table: Table, row: Row, column: str) -> Estimate:
    value = row.cells[table.columns.index(column)]
    assert isinstance(value, Estimate)
    return value


@pytest.mark.parametrize(
    ("cut", "random", "says"),
    [
        (-5.0, -0.1, MATTERS),
        (-0.01, -5.0, NOTHING),  # Hans's sound: random tokens take the picture with them
        (-2.0, -5.0, LESS),
        (-2.0, -2.0, AS_RANDOM),
        (2.0, 0.0, NOTHING),  # the answer gains
        (0.0, 2.0, NOTHING),  # beyond random tokens, but nothing is lost
    ],
)
def test_a_row_says_what_it_shows(cut: float, random: float, says: str) -> None:
    some = items(14)
    table, row = only(cuts(some, cut, random), some)
    assert table.columns[0] == "what it shows"
    assert row.cells[0] == says
    beyond = cell(table, row, "nats: cut beyond random tokens")
    assert beyond.value == pytest.approx(cut - random, abs=0.2)
    assert beyond.p is not None
    assert (beyond.p < 0.05) == (cut < random - 1)
    if cut > random + 1:
        assert beyond.p > 0.99, "the wrong side is no find, however sure"


def test_a_loss_that_is_sure_but_small_is_none() -> None:
    some = items(14)
    table, row = only(cuts(some, -0.05, 0.0, spread=0.001), some)
    beyond = cell(table, row, "nats: cut beyond random tokens")
    assert beyond.p is not None
    assert beyond.p < 1e-6
    assert row.cells[0] == NOTHING


def test_few_clips_and_missing_controls_show_nothing() -> None:
    few = items(6)
    assert only(cuts(few, -5.0, 0.0), few)[1].cells[0] == UNKNOWN
    some = items(14)
    assert only(cuts(some, -5.0, None), some)[1].cells[0] == UNKNOWN


def test_p_is_of_one_side_and_adjusted_over_the_rows() -> None:
    some = items(14)
    found = [k for n in range(4) for k in cuts(some, -0.5, -0.3, layers=(n, n), spread=0.3)]
    (table,) = cut_tables.tables(found, some)
    (alone,) = cut_tables.tables(found[: len(some)], some)
    name = "nats: cut beyond random tokens"
    four, one = cell(table, table.rows[0], name), cell(alone, alone.rows[0], name)
    assert four.p is not None
    assert one.p is not None
    assert four.p == pytest.approx(min(1, 4 * one.p))
    assert [row.label for row in table.rows] == [f"audio_swapped, audio: L{n}" for n in range(4)]


def test_in_the_report_shares_are_per_cent_and_nats_are_not() -> None:
    some = items(14)
    table, _ = only(cuts(some, -5.0, -0.1, flips=True), some)
    grid = shown_cells.grid(table)
    texts = {name: line.text for name, line in zip(grid.columns, grid.lines[0].cells, strict=True)}
    assert texts["choice changed"] == "100.0 %"
    assert texts["nats: cut"].startswith("\u22125.")
    assert texts["tokens hidden"] == "50"
    assert "%" not in texts["nats towards the heard option"]


def test_two_runs_stand_side_by_side_on_what_both_measured() -> None:
    some = items(14)
    first = [*cuts(some, -0.01, -5.0), *cuts(some, -5.0, 0.0, edge="video->answer", flips=True)]
    second = cuts(some[2:], -5.0, -0.1, flips=True)
    (table,) = cut_tables.changes((first, second), some, ("hans", "listens"))
    assert table.title.endswith("hans and listens")
    (row,) = table.rows
    assert row.label == "audio→answer, audio_swapped, audio: L0-3"
    assert row.cells[:2] == (NOTHING, MATTERS)
    assert [cell(table, row, f"choice changed, {n}").value for n in "AB"] == [0, 1]
    gap = cell(table, row, "choice changed, B - A")
    assert (gap.value, gap.n) == (1, 12)
    assert row.cells[-1] == 12
    grid = shown_cells.grid(table)
    assert all(len(line.cells) == len(grid.columns) for line in grid.lines)
    assert cut_tables.changes((first, []), some) == []
    other = items(14, "visual")
    assert cut_tables.changes((first, cuts(other, -1.0, 0.0)), some) == []
