"""What a built set looks like: how far its twins are apart, how evenly sounds are used, what was refused.

Functions: ``tables``, ``lines``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from earwitness.curate.manifest import Variant
from earwitness.curate.writing import Built
from earwitness.records import Cell, Row, Table, how_many

APART = {0: "the same class", 1: "of one parent", 2: "of one root", 3: "of different roots", None: "unknown"}
NAMED = 5  # clips that a line names


def tables(built: Built) -> list[Table]:
    """Counts by split and kind; twins by kinship of what is seen and heard; how often each sound is used."""
    out = [_counts(built)]
    if built.twins:
        out += [_kinship(built), _uses(built)]
    if built.rendered:
        out.append(_measured(built.variants))
    return out


def _counts(built: Built) -> Table:
    sides = sorted({c.split for c in built.clips})
    rows = [Row("clips", tuple(sum(c.split == s for c in built.clips) for s in sides))]
    rows.append(Row("classes", tuple(len({c.heard for c in built.clips if c.split == s}) for s in sides)))
    for kind in dict.fromkeys(v.kind for v in built.variants):
        rows.append(Row(kind, tuple(sum(v.split == s and v.kind == kind for v in built.variants) for s in sides)))
    total = [Row(r.label, (*r.cells, None if r.label == "classes" else _sum(r.cells))) for r in rows]
    return Table(
        id="set_counts", title="The set", columns=(*sides, "all"), rows=tuple(total), unit="count",
        caption=how_many(len(built.left_out), "clip is", "clips are") + " not in it: left_out.csv says why.",
    )  # fmt: skip


def _sum(cells: Iterable[Cell]) -> int:
    return sum(c for c in cells if isinstance(c, int))


def _kinship(built: Built) -> Table:
    count = Counter(t.distance for t in built.twins)
    rows = [
        Row(APART[d], (count[d], count[d] / len(built.twins)))
        for d in sorted(count, key=lambda d: 9 if d is None else d)
    ]
    pressed, looped = sum(t.pressed_db > 0 for t in built.twins), sum(t.looped for t in built.twins)
    worst = max((abs(t.left_lu or 0.0) for t in built.twins), default=0.0)
    return Table(
        id="set_kinship", title="Twins: the classes seen and heard are ...", columns=("twins", "share"),
        rows=tuple(rows), unit="mixed",
        caption=f"Gains {_span([t.gain_db for t in built.twins])} dB. {how_many(pressed, 'donor')} with peaks "
        f"turned down; of those the loudness is off by {worst:.1f} LU at most. {looped} are looped.",
    )  # fmt: skip


def _uses(built: Built) -> Table:
    lent = Counter(t.donor for t in built.twins)
    rows = []
    for side in sorted({c.split for c in built.clips}):
        uses = [lent[c.id] for c in built.clips if c.split == side and len(c.heard) == 1 and c.id in built.measured]
        if uses:
            rows.append(Row(side, (len(uses), min(uses), round(float(np.mean(uses)), 2), max(uses))))
    return Table(
        id="set_uses", title="How often each sound is used", columns=("sounds", "least", "mean", "most"),
        rows=tuple(rows), unit="mixed",
        caption="Where the use is even, what is heard in twins tells no more than what is heard at all.",
    )  # fmt: skip


def _measured(variants: Iterable[Variant]) -> Table:
    """What was measured on the written files, by kind."""
    rows = []
    by_kind: dict[str, list[Variant]] = {}
    for v in variants:
        if v.path is not None:
            by_kind.setdefault(v.kind, []).append(v)
    for kind, some in by_kind.items():
        residual = [abs(v.residual_lu) for v in some if v.residual_lu is not None]
        sums = [v.residual_db for v in some if v.residual_db is not None]
        rows.append(
            Row(
                kind,
                (
                    len(some), sum(v.verdict == "found" for v in some), max(residual, default=None),
                    max(sums, default=None),
                ),
            )
        )  # fmt: skip
    return Table(
        id="set_measured", title="Measured on the written files", unit="mixed", rows=tuple(rows),
        columns=("files", "lag found", "LU off, most", "scene less stems, dB"),
        caption="Every written sound was found where it was meant to be, to 1 ms, or no lag can be told in it "
        "(steady tones); others are refused.",
    )  # fmt: skip


def _span(values: Iterable[float]) -> str:
    found = list(values)
    return f"{min(found):+.1f} to {max(found):+.1f}"


def lines(built: Built) -> list[str]:
    """In plain words: what was refused or left out, by reason, and what could not be written."""
    out = list(built.notes)
    for why, n in Counter(why for _, why in built.left_out).most_common():
        names = [i for i, other in built.left_out if other == why]
        out.append(
            f"{how_many(n, 'clip')} left out: {why} ({', '.join(names[:NAMED])}{' ...' if n > NAMED else ''})"
        )
    for name, why in list(built.failed.items())[:NAMED]:
        out.append(f"not written: {name}: {why}")
    if len(built.failed) > NAMED:
        out.append(f"not written: {len(built.failed) - NAMED} more")
    return out
