"""The audited model beside published results: what the field's tables say where the run has measured the same.

A table here has the audited model's row first and then the papers' rows, of kind "reference", with our intervals
where n is known. Only figures of the same kind stand in one column: prompts of one style, the same condition, the
same question. What a paper measured otherwise (marks by a judge, other benchmarks) is left to
``earwitness.published``.

Function: :func:`beside`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from earwitness import published
from earwitness.records import Cell, Row, Table

CAUTION = (
    "The published rows rest on other clips, other numbers of clips and other ways of reading an answer, so this "
    "is no ranking: it shows where the field stands. The papers print no intervals; those shown are ours, where n "
    "is known."
)


class _Twin(NamedTuple):
    """A column: where the run has the figure, and what the papers call the same."""

    title: str
    table: str
    row: str
    column: str
    metric: str
    condition: str


class _Sheet(NamedTuple):
    """A table to be made: its columns, and which of the papers' tables they are from."""

    id: str
    title: str
    caption: str
    sources: tuple[tuple[str, str], ...]  # paper, table
    twins: tuple[_Twin, ...]
    unit: Literal["share", "score"] = "share"


def _mma(row: str, condition: str, *, table: str = "mma_accuracy") -> tuple[_Twin, _Twin]:
    visual, audio = (
        _Twin(f"{sense}, {row}", table, row, f"{sense} question", f"{sense} accuracy", condition)
        for sense in ("visual", "audio")
    )
    return visual, audio


_AXES = (
    "Mute Hallucination", "Swap False-Match", "False Silence", "Swap False-Mismatch", "Audio Dodge",
    "Offset Blindness", "Direction Confusion", "False Sync Alarm",
)  # fmt: skip
_CONDITIONS = {r.metric: r.condition for name in _AXES for r in published.rows(name, paper="thud")}
_LEFT_OUT = "left-out things only (as published)"
_CONFUSE = (("av_confuse", "Table 1"), ("av_confuse", "Table 6"))
_AVHBENCH = {
    "Video-driven Audio Hallucination": "video-driven audio hallucination",
    "Audio-driven Video Hallucination": "audio-driven video hallucination",
    "AV Matching": "matching",
}

SHEETS = (
    _Sheet(
        "mma_published", "accuracy when sound and picture agree, and when not",
        "MMA-Bench, Table 3: 658 clips.", (("mma", "Table 3"),),
        (*_mma("aligned", "aligned"), *_mma("audio swapped", "audio_swapped")),
    ),
    _Sheet(
        "mma_published_changes", "accuracy with one sense gone, or misleading text",
        "MMA-Bench, Tables 4 and 5 and Appendix I.2. Its long context has 10,000 tokens.",
        (("mma", "Table 4"), ("mma", "Table 5"), ("mma", "Appendix I.2")),
        (
            _mma("audio removed", "audio_removed")[0], _mma("frames zeroed", "frames_zeroed")[1],
            *_mma("misleading caption", "misleading_caption"), *_mma("long context", "long_context"),
        ),
    ),
    _Sheet(
        "mma_published_styles", "allowed to abstain, or asked to think aloud",
        "MMA-Bench, Tables 10 and 11. Abstains: says “none of the above” where the asked sense is not there.",
        (("mma", "Table 10"), ("mma", "Table 11")),
        (
            _Twin("abstains, picture black", "mma_styles", "frames zeroed, may abstain", "visual question",
                  "visual abstention", "frames_zeroed"),
            _Twin("abstains, sound muted", "mma_styles", "audio removed, may abstain", "audio question",
                  "audio abstention", "audio_removed"),
            *_mma("aligned, step by step", "aligned, cot", table="mma_styles"),
            *_mma("audio swapped, step by step", "audio_swapped, cot", table="mma_styles"),
        ),
    ),
    _Sheet(
        "thud_published", "eight ways to fail",
        "Thud, Figure 3, neutral prompts; rates, higher is worse. 142 sources, almost surely.",
        (("thud", "Figure 3"), ("thud", "Table 1")),
        (
            *(_Twin(name, "thud_axes_neutral", name, "rate", name, _CONDITIONS[name]) for name in _AXES),
            _Twin("Avg Gap", "thud_accuracy_neutral", "Avg Gap", "gap", "Avg Gap", "shift, mute, swap"),
        ),
    ),
    _Sheet(
        "confuse_published", "hears an instrument that was taken out",
        "AV-ConfuseBench, Tables 1 and 6: 73 questions on 39 videos, each rightly answered with no, so that always "
        "saying no scores 100 %. Leading questions.",
        _CONFUSE,
        (
            _Twin("right (HR)", "confuse_muted_leading", _LEFT_OUT, "HR", "accuracy", "muted"),
            _Twin("says yes", "confuse_muted_leading", _LEFT_OUT, "says yes", "says yes", "muted"),
        ),
    ),
    _Sheet(
        "confuse_published_marks", "describes what replaced the sound, marked from 0 to 5",
        "AV-ConfuseBench, Tables 1 and 6: 100 descriptions of 20 videos. Another judge marked them, which alone "
        "can move all marks.",
        _CONFUSE,
        tuple(
            _Twin(f"{sense} score", "judge_confuse_scores", "sound replaced, all", f"{sense[0].upper()}-score",
                  f"{sense} score", "modified")
            for sense in ("audio", "visual")
        ),
        "score",
    ),
    _Sheet(
        "benchmark_published_avhbench", "AVHBench, accuracy",
        "MMA-Bench, Table 6, and AV-Confuse, Table 5, whose rows that contradict themselves are left out.",
        (("mma", "Table 6"), ("av_confuse", "Table 5")),
        tuple(
            _Twin(task, "benchmark_accuracy", task, "accuracy", "accuracy", f"avhbench, {name}")
            for task, name in _AVHBENCH.items()
        ),
    ),
)  # fmt: skip


def beside(model: str, tables: Iterable[Table]) -> list[Table]:
    """The run's figures with the papers' beside them, one table for each published one that the run has a twin of.

    ``model`` names the first row. A column is there where the run has a figure for it, a reference row where its
    paper has one for one of those columns.
    """
    made = {table.id: table for table in tables}
    out = []
    for sheet in SHEETS:
        found = [(twin, cell) for twin in sheet.twins if (cell := _measured(made, twin)) is not None]
        if found:
            out.append(_table(sheet, model, [t for t, _ in found], [c for _, c in found]))
    return [table for table in out if len(table.rows) > 1]


def _measured(made: dict[str, Table], twin: _Twin) -> Cell:
    table = made.get(twin.table)
    if table is None or twin.column not in table.columns:
        return None
    row = next((r for r in table.rows if r.label == twin.row and r.kind == "model"), None)
    return None if row is None else row.cells[table.columns.index(twin.column)]


def _table(sheet: _Sheet, model: str, twins: Sequence[_Twin], cells: Sequence[Cell]) -> Table:
    tables = (t for t in published.tables() if (t.paper, t.table) in sheet.sources)
    sound = [r for t in tables for r in t.results if not r.suspect]
    printed = {(r.model, r.metric, r.condition): r for r in reversed(sound)}  # of repeated figures the first
    rows = [Row(model, tuple(cells))]
    for name in dict.fromkeys(r.model for r in sound):
        found = [printed.get((name, twin.metric, twin.condition)) for twin in twins]
        cells = [None if r is None else r.interval() or r.value for r in found]
        if any(cell is not None for cell in cells):
            rows.append(Row(name, tuple(cells), "reference"))
    return Table(
        id=sheet.id, title=f"Beside published results: {sheet.title}", caption=f"{sheet.caption} {CAUTION}",
        columns=tuple(t.title for t in twins), rows=tuple(rows), unit=sheet.unit,
    )  # fmt: skip
