"""How published tables are written down and read: one text block a table, as it is printed.

A block has one line a model (or method), ``name | number number ...``, in the units of the print. ``-`` is a figure
that the paper leaves out. ``column`` and ``table`` turn that into :class:`Result` records with their units, so that
a figure typed wrong can be found by holding the block beside the paper.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from earwitness import stats
from earwitness.records import Estimate

Unit = Literal["share", "score", "difference"]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One published figure. ``value``: a share in [0, 1], a score on the paper's scale, or a difference of shares.

    ``n`` is the number of answers that an interval may count as independent, ``clips`` that of the clips they are
    about; None where the paper does not let them be known. ``suspect`` says why the figure should not be used.
    """

    paper: str
    table: str
    model: str
    metric: str
    condition: str
    value: float
    unit: Unit = "share"
    n: int | None = None
    clips: int | None = None
    suspect: str = ""

    def interval(self, level: float = 0.95) -> Estimate | None:
        """Wilson's interval at ``level`` of the nearest whole count of ``n``, made by us: the papers print none.

        None where n is unknown, the figure is no share, or it is suspect.
        """
        if self.n is None or self.unit != "share" or self.suspect:
            return None
        found = stats.wilson(round(self.value * self.n), self.n, level)
        return Estimate(
            self.value, found.low, found.high, self.n, self.clips or self.n, "Wilson, ours: the paper prints none"
        )


class PublishedTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table of a paper (or a figure, or the figures its text states), with what is known to be wrong with it."""

    paper: str
    table: str
    title: str
    source: str
    results: tuple[Result, ...]
    notes: tuple[str, ...] = ()


class Column(msgspec.Struct, frozen=True):
    """What one column of a block holds; ``scale`` is what a printed 1 means (0.01: per cent)."""

    metric: str
    condition: str
    unit: Unit = "share"
    scale: float = 0.01
    n: int | None = None
    clips: int | None = None


def columns(
    metrics: Sequence[str], conditions: Sequence[str], *, n: int | None = None, clips: int | None = None
) -> tuple[Column, ...]:
    """Columns in per cent: for each metric, each condition."""
    return tuple(Column(m, c, n=n, clips=clips) for m in metrics for c in conditions)


def table(
    paper: str,
    name: str,
    title: str,
    source: str,
    cols: Sequence[Column],
    block: str,
    *,
    notes: Sequence[str] = (),
    suspect: Mapping[tuple[str, str], str] | None = None,
) -> PublishedTable:
    """Read one block. ``suspect``: (model, condition) -> why those figures should not be used.

    Raises ValueError naming table and line where a line has more or fewer figures than there are columns, a figure
    is no number, or ``suspect`` names a row that is not there.
    """
    wrong = dict(suspect or {})
    results, met = [], set()
    for line in block.strip().splitlines():
        model, _, figures = (part.strip() for part in line.partition("|"))
        printed = figures.split()
        if len(printed) != len(cols):
            raise ValueError(f"{paper}, {name}, {model}: {len(printed)} figures for {len(cols)} columns")
        for col, text in zip(cols, printed, strict=True):
            met.add((model, col.condition))
            if text == "-":
                continue
            try:
                value = round(float(text) * col.scale, 6)  # 97.9 * 0.01 is not 0.979
            except ValueError:
                raise ValueError(f"{paper}, {name}, {model}, {col.metric}: {text!r} is no number") from None
            results.append(
                Result(
                    paper=paper, table=name, model=model, metric=col.metric, condition=col.condition, value=value,
                    unit=col.unit, n=col.n, clips=col.clips, suspect=wrong.get((model, col.condition), ""),
                )
            )  # fmt: skip
    odd = set(wrong) - met
    if odd:
        raise ValueError(f"{paper}, {name}: marked suspect, and not in the table: {sorted(odd)}")
    return PublishedTable(
        paper=paper, table=name, title=title, source=source, results=tuple(results), notes=tuple(notes)
    )
