"""A dataset card as Markdown: what hubs show beside a data set, with the same content as the page.

Function: ``markdown``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from earwitness.curate.card import Card
from earwitness.curate.card_tables import funnel_table
from earwitness.records import Cell, Estimate, Row, Table

TITLES = {
    "contents": "What is in it", "checks": "The checks", "agreement": "Agreement",
    "origin": "Splits and licences", "lint": "What the linter finds",
}  # fmt: skip
MOST = 60  # classes that the text lists


def markdown(card: Card, picture: str = "") -> str:
    """The card as text; ``picture`` is the path of the funnel's chart from the card, where it was drawn."""
    return "\n".join(_lines(card, picture)).rstrip() + "\n"


def _lines(card: Card, picture: str) -> Iterator[str]:
    yield from (f"# {_plain(card.name)}", "", f"{card.sentence}.", "")
    for figure in card.figures:
        yield f"- **{figure.title}**: {figure.value} {figure.plain}".rstrip()
    yield from ("", "## Known limits", "")
    yield from (f"- {_plain(line, code=True)}" for line in card.limits)
    yield ""
    if card.funnel:
        yield from ("## Where the clips came from, and where they went", "")
        if picture:
            yield from (f"![How many clips each step left]({picture})", "")
        yield from _table(funnel_table(card.funnel))
    for key in ("checks", "agreement"):
        yield from _section(card, key)
    if card.clips:
        yield from ("## Classes", "")
        yield from _table(_classes(card))
    for key in ("contents", "origin", "lint"):
        yield from _section(card, key)
        if key == "origin" and card.credits:
            yield from (f"Credits: [{card.credits}]({card.credits}).", "")
    yield from ("## How it was made", "")
    yield from (f"- {_plain(key)}: `{value.replace('`', '')}`" for key, value in card.facts)


def _section(card: Card, key: str) -> Iterator[str]:
    tables = card.sections.get(key, [])
    if not tables:
        return
    yield from (f"## {TITLES[key]}", "")
    for table in tables:
        yield from (f"### {_plain(table.title)}", "")
        yield from _table(table)


def _classes(card: Card) -> Table:
    found = list(card.classes.items())
    rows = [Row(name, (seen, heard)) for name, (seen, heard) in found[:MOST]]
    if len(found) > MOST:
        seen, heard = (sum(pair[k] for _, pair in found[MOST:]) for k in (0, 1))
        rows.append(Row(f"{len(found) - MOST} more", (seen, heard)))
    return Table(
        id="card_classes", title="Classes", caption="Clips in which a class is labelled as seen, and as heard.",
        columns=("seen", "heard"), rows=tuple(rows), unit="count",
    )  # fmt: skip


def _table(table: Table) -> Iterator[str]:
    if table.rows:
        yield f"| | {' | '.join(map(_plain, table.columns))} |"
        yield f"|---|{'|'.join(_side(table, n) for n in range(len(table.columns)))}|"
        for row in table.rows:
            cells = [_cell(c, table.unit, name) for c, name in zip(row.cells, table.columns, strict=False)]
            yield f"| {_plain(row.label)} | {' | '.join(cells)} |"
        yield ""
    if table.caption:
        yield from (_plain(table.caption), "")


def _side(table: Table, column: int) -> str:
    """Numbers stand to the right."""
    found = [row.cells[column] for row in table.rows if len(row.cells) > column]
    return "---:" if any(isinstance(c, int | float | Estimate) for c in found) else "---"


def _cell(value: Cell, unit: str, column: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return _plain(value)
    share = unit == "share" or (unit == "mixed" and not column.startswith("kappa") and " s" not in column)
    if isinstance(value, Estimate):
        spoken: Sequence[str] = [_number(v, share) for v in (value.value, value.low, value.high)]
        return f"{spoken[0]} [{spoken[1]}, {spoken[2]}], n {value.n}"
    if isinstance(value, int):
        return f"{value:,}"
    return _number(value, share)


def _number(value: float, share: bool) -> str:
    return (f"{100 * value:.1f} %" if share else f"{value:.2f}").replace("-", "\u2212")


def _plain(text: str, *, code: bool = False) -> str:
    """Text that Markdown shows as it is, in one line: labels and file names come from anywhere.

    ``code``: backticks stay what they are.
    """
    for mark in ("\\", "|", "*", "_", "[", "]", "<", ">", "#", *(() if code else ("`",))):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
