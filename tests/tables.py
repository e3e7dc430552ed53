"""What tests of tables share: answers by a rule, and one cell by table, row and column."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from earwitness import scoring
from earwitness.records import Answer, Cell, Estimate, Item, Judged, Table


def judge(items: Sequence[Item], says: Callable[[Item], str | None]) -> list[Judged]:
    """Items answered by a rule and scored; None = a failed answer."""
    out = []
    for item in items:
        text = says(item)
        answer = Answer(item=item.id, model="test", text=text, error=None if text is not None else "boom")
        out.append(Judged(item, answer, scoring.score(item, answer)))
    return out


def table(tables: Iterable[Table], name: str) -> Table:
    """The table of that id."""
    found = {t.id: t for t in tables}
    assert name in found, f"no table {name!r}, only {sorted(found)}"
    return found[name]


def cell(t: Table, row: str, column: str) -> Cell:
    """One cell."""
    found = [r for r in t.rows if r.label == row]
    assert found, f"{t.id} has no row {row!r}, only {[r.label for r in t.rows]}"
    return found[0].cells[t.columns.index(column)]


def value(t: Table, row: str, column: str) -> float:
    """The value of a cell that must be an Estimate with its interval around it."""
    got = cell(t, row, column)
    assert isinstance(got, Estimate), f"{t.id}/{row}/{column} is {got!r}"
    assert got.low <= got.value <= got.high
    return got.value
