"""What the three papers published, as data: every figure with its source, its n and what is wrong with it.

A figure is found by paper ("mma", "thud", "av_confuse"), table, model, metric and condition, e.g.
``value("mma", "Table 3", "Gemini-2.5-Pro", "audio accuracy", "audio_swapped").value == 0.2495``. Shares lie in
[0, 1] whatever the print's unit; the judge's marks of AV-ConfuseBench stay on 0 to 5; differences of shares lie in
[-1, 1]. Conditions bear the names that our protocols use. Intervals (:meth:`Result.interval`) are ours, where n is
known. Known misprints are in ``notes``, figures that contradict each other are marked ``suspect``.

Functions: :func:`tables`, :func:`rows` (all figures of a metric), :func:`value` (one figure).
"""

from __future__ import annotations

from earwitness.published import av_confuse, mma_bench, thud
from earwitness.published.reading import PublishedTable, Result

_PAPERS = (mma_bench, thud, av_confuse)


def tables(paper: str | None = None) -> tuple[PublishedTable, ...]:
    """All tables, or those of one paper ("mma", "thud", "av_confuse"). Raises ValueError for another name."""
    known: dict[str, tuple[PublishedTable, ...]] = {module.PAPER: module.TABLES for module in _PAPERS}
    if paper is None:
        return tuple(t for tables in known.values() for t in tables)
    if paper not in known:
        raise ValueError(f"no published figures of {paper!r}; there are {', '.join(known)}")
    return known[paper]


def rows(metric: str, condition: str | None = None, *, paper: str | None = None) -> tuple[Result, ...]:
    """All figures of a metric, optionally under one condition, in the order of the papers' tables."""
    return tuple(
        r for t in tables(paper) for r in t.results if r.metric == metric and condition in (None, r.condition)
    )


def value(paper: str, table: str, model: str, metric: str, condition: str) -> Result:
    """The figure at that place. Raises ValueError saying which part of the address leads nowhere."""
    left = [r for t in tables(paper) for r in t.results]
    for name, wanted in (("table", table), ("model", model), ("metric", metric), ("condition", condition)):
        kept = [r for r in left if getattr(r, name) == wanted]
        if not kept:
            there = ", ".join(sorted({str(getattr(r, name)) for r in left}))
            raise ValueError(f"{paper}: no {name} {wanted!r} there; there are {there}")
        left = kept
    return left[0]


__all__ = ["PublishedTable", "Result", "rows", "tables", "value"]
