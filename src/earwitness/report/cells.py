"""Tables as a reader sees them: shares in per cent, seconds in s, every Estimate with its interval and count.

Functions: :func:`grid` one table, :func:`fed` what the model was given by condition, :func:`failures` what went
wrong by condition, :func:`checks` the ear and eye check.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from earwitness import stats
from earwitness.records import Cell, Estimate, Fed, Judged, Table, how_many
from earwitness.report.words import condition_name, protocol_name

DASH = "–"


@dataclass(frozen=True)
class Shown:
    """A cell: the number, its interval, how much it rests on, and a hint for the pointer."""

    text: str
    interval: str = ""
    count: str = ""
    hint: str = ""
    number: bool = True


@dataclass(frozen=True)
class Line:
    """A row of a table."""

    label: str
    cells: tuple[Shown, ...]
    kind: str = "model"


@dataclass(frozen=True)
class Grid:
    """A table ready to be laid out."""

    id: str
    title: str
    caption: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


SIGN = {"share": " %", "seconds": " s"}
# Which layer, or how many: "at layer (smallest)", "settled from layer, A", "layers that move". Not "layer 3",
# "from layer 2 on" or "bricklayer": those name what a number is about.
LAYERS = re.compile(r"(settled )?(at|from) layer\b(?! ?\d)|layers\b(?! ?\d)")


def _number(value: float, unit: str) -> str:
    text = {
        "share": f"{100 * value:.1f}", "count": f"{value:,.0f}",
        "p": f"{value:.3f}" if value >= 0.001 else "< 0.001",
    }.get(unit, f"{value:.2f}")  # fmt: skip
    return text.replace("-", "\u2212") if text.strip("-0.") else text.lstrip("-")


def _unit(table: str, row: str, column: str) -> str:
    """What a number of a mixed table counts, by the names over and beside it; shares have no name of their own."""
    if table != "mixed":
        return table
    for name in (column.lower(), row.lower()):
        if name == "p" or name.startswith("p ("):
            return "p"
        if name.endswith((" in s", "(s)")) or "seconds" in name:
            return "seconds"
        if LAYERS.match(name):
            return "count"
        if "nats" in name:
            return "score"
        if name.startswith(("d'", "d′", "dprime", "bias", "cohen", "kappa")):
            return "score"
    return "share"


def cell(value: Cell, unit: str) -> Shown:
    """One cell, shares in per cent, Estimates with interval, answers and clips."""
    if value is None:
        return Shown(DASH, hint="nothing to estimate this from")
    if isinstance(value, str):
        return Shown(value, number=False)
    if isinstance(value, Estimate):
        clips = f"{value.clusters} clip{'s' if value.clusters != 1 else ''}"
        hint = f"{value.method}; {how_many(value.n, 'answer')}, {clips}"
        if value.p is not None:
            hint += f"; p = {value.p:.3g}"
        return Shown(
            _number(value.value, unit) + SIGN.get(unit, ""),
            f"[{_number(value.low, unit)}, {_number(value.high, unit)}]",
            f"n {value.n:,} · {clips}" + ("" if value.p is None else f" · p {_number(value.p, 'p')}"),
            hint,
        )
    if isinstance(value, int):
        return Shown(f"{value:,}")
    return Shown(_number(value, unit) + SIGN.get(unit, ""))


UNREAD = ("unparsed", "refused", "failed")
BOUNDS = ("lowest", "highest")


def grid(table: Table) -> Grid:
    """A protocol's table; rows of prior-only answerers keep their kind, to be greyed.

    The columns that count what could not be scored are drawn together into one, and worst-case bounds into a range:
    a reader should see them beside every figure without scrolling.
    """
    unread = _together(table.columns, UNREAD)
    bounds = _together(table.columns, BOUNDS)
    lines = []
    for row in table.rows:
        cells = [
            cell(value, _unit(table.unit, row.label, name))
            for value, name in zip(row.cells, table.columns, strict=False)
        ]
        if bounds is not None and len(cells) > bounds + 1:
            low, high = row.cells[bounds], row.cells[bounds + 1]
            known = isinstance(low, float) and isinstance(high, float)
            cells[bounds : bounds + 2] = [Shown(_bounds(low, high) if known else DASH)]  # type: ignore[arg-type]
        if unread is not None and len(cells) > unread + 2:
            counts = cells[unread : unread + 3]
            trouble = any(c.text not in ("0", DASH) for c in counts)
            text = " · ".join(c.text for c in counts) if trouble else "0" if counts[0].text == "0" else DASH
            cells[unread : unread + 3] = [Shown(text, hint="unparsed · refused · failed")]
        lines.append(Line(row.label, tuple(cells), row.kind))
    columns = list(table.columns)
    if bounds is not None:
        columns[bounds : bounds + 2] = ["worst – best case"]
    if unread is not None:
        columns[unread : unread + 3] = ["unparsed · refused · failed"]
    return Grid(table.id, table.title, table.caption, tuple(columns), tuple(lines))


def _together(columns: Sequence[str], wanted: tuple[str, ...]) -> int | None:
    """Where these columns stand side by side, if they do."""
    starts = range(len(columns) - len(wanted) + 1)
    return next((i for i in starts if tuple(columns[i : i + len(wanted)]) == wanted), None)


def _by_condition(judged: Iterable[Judged]) -> dict[tuple[str, str], list[Judged]]:
    groups: dict[tuple[str, str], list[Judged]] = {}
    for j in judged:
        groups.setdefault((j.item.protocol, j.item.condition), []).append(j)
    return groups


def _spread(values: Sequence[float | int | None], form: str, unit: str = "") -> Shown:
    """The usual value, and under it the range where there is one."""
    known = [float(v) for v in values if v is not None]
    if not known:
        return Shown("none")
    low, middle, high = (format(v, form) for v in (min(known), statistics.median(known), max(known)))
    return Shown(middle + unit, count="" if low == high else f"{low} – {high}")


def fed(judged: Sequence[Judged]) -> Grid | None:
    """What the model really got, by condition, from its receipts; None where it gave none."""
    lines = []
    for (protocol, condition), group in _by_condition(judged).items():
        receipts: list[Fed] = [j.answer.fed for j in group if j.answer.fed is not None]
        if not receipts:
            continue
        clips = len({j.item.clip for j in group})

        def usual(name: str, form: str, unit: str = "", of: list[Fed] = receipts) -> Shown:
            return _spread([getattr(f, name) for f in of], form, unit)

        sizes = sorted({f"{f.width} × {f.height}" for f in receipts if f.width is not None})
        size = ", ".join(sizes[:2]) + (" …" if len(sizes) > 2 else "")
        pictures, sounds = (len({getattr(f, n) for f in receipts} - {None}) for n in ("video_hash", "audio_hash"))
        cells = (
            Shown(f"{len(receipts):,}"),
            Shown(f"{clips:,}"),
            usual("frames", ".0f"),
            Shown(size or "none"),
            usual("audio_seconds", ".2f", " s"),
            usual("audio_rms", ".3f"),
            Shown(f"{usual('video_tokens', '.0f').text} · {usual('audio_tokens', '.0f').text}"),
            Shown(f"{pictures:,} · {sounds:,}"),
        )
        lines.append(Line(f"{protocol_name(protocol).split(':')[0]}: {condition_name(condition)}", cells))
    if not lines:
        return None
    columns = (
        "answers", "clips", "frames", "size", "sound", "loudness (RMS)", "tokens: picture · sound",
        "different pictures · sounds",
    )  # fmt: skip
    return Grid("fed", "What the model was fed", "", columns, tuple(lines))


def _bounds(low: float, high: float) -> str:
    return f"{100 * low:.1f} %" if low == high else f"{100 * low:.1f} – {100 * high:.1f} %"


def failures(judged: Sequence[Judged]) -> Grid:
    """Answers that failed or could not be read, by condition, with worst-case bounds of the accuracy."""
    lines = []
    for (protocol, condition), group in _by_condition(judged).items():
        errors = sum(j.answer.error is not None for j in group)
        labels = [j.score.label for j in group if j.answer.error is None]
        gradable = [j.score.correct for j in group if j.item.target is not None]
        low, high = stats.bounds(gradable)
        cells = (
            Shown(f"{len(group):,}"),
            Shown(f"{errors:,}"),
            Shown(f"{labels.count('UNPARSED'):,}"),
            Shown(f"{labels.count('REFUSED'):,}"),
            Shown(_bounds(low, high) if gradable else DASH),
        )
        trouble = errors or labels.count("UNPARSED") or labels.count("REFUSED")
        name = f"{protocol_name(protocol).split(':')[0]}: {condition_name(condition)}"
        lines.append(Line(name, cells, "model" if trouble else "baseline"))
    columns = ("asked", "failed", "unparsed", "refused", "share right, at worst – at best")
    return Grid("failures", "What went wrong", "", columns, tuple(lines))


def checks(found: Sequence[dict[str, Any]]) -> Grid | None:
    """The ear and eye check, a line per condition; None where the run holds none."""
    if not found:
        return None
    lines = []
    for check in found:
        receipt = check.get("fed") or {}
        rms, seconds = receipt.get("audio_rms"), receipt.get("audio_seconds")
        organ = "ear" if check.get("organ") == "audio" else "eye"
        key = receipt.get("audio_hash" if organ == "ear" else "video_hash")
        said = check.get("text") or (f"failed: {check.get('error')}" if check.get("error") else DASH)
        cells = (
            Shown("none" if seconds is None else f"{float(seconds):.2f} s"),
            Shown(DASH if rms is None else f"{float(rms):.3f}"),
            Shown("none" if receipt.get("frames") is None else f"{receipt['frames']}"),
            Shown("none" if key is None else str(key)[:8], number=False),
            Shown(str(said), number=False),
        )
        what = {
            "original": "the clip as it is", "tone": "a 440 Hz tone as sound", "mute": "silence as sound",
            "noise": "white noise as sound", "no_track": "no sound track", "black": "black pictures",
            "no_frames": "no pictures", "original again": "the clip once more",
            "black+original": "black pictures, its own sound", "black+tone": "black pictures, a tone",
            "black+mute": "black pictures, silence", "mute+original": "silence, its own pictures",
            "mute+black": "silence, black pictures", "mute+no_frames": "silence, no pictures",
        }.get(str(check.get("condition")), str(check.get("condition")))  # fmt: skip
        lines.append(Line(f"{organ}: {what}", cells))
    return Grid(
        "checks", "Ear and eye check", "", ("sound", "loudness (RMS)", "frames", "receipt", "it said"), tuple(lines)
    )
