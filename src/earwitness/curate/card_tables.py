"""The tables of a dataset card, each from the set's own files: classes, lengths, splits, licences, duplicates,
lint.

Functions: ``contents``, ``splits``, ``licences``, ``duplicates``, ``funnel_table``, ``verdict_table``,
``findings``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from earwitness.curate.checks.outcome import Rung, spoken
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.jobs import Measured
from earwitness.curate.lint import Report
from earwitness.questions import clean
from earwitness.records import Cell, Clip, Row, Table, how_many

HASHES = (
    ("the very same sound", "audio_hash"), ("the very same picture", "video_hash"),
    ("the very same file", "sha256"),
)  # fmt: skip
NAMED = 3  # groups of equal clips that a caption names


def classes_of(clips: Sequence[Clip]) -> dict[str, tuple[int, int]]:
    """Clips in which a class is labelled as seen, and as heard; commonest first."""
    seen = Counter(n for c in clips for n in dict.fromkeys(c.seen))
    heard = Counter(n for c in clips for n in dict.fromkeys(c.heard))
    names = sorted({*seen, *heard}, key=lambda n: (-max(seen[n], heard[n]), n.casefold()))
    return {n: (seen[n], heard[n]) for n in names}


def evenness(counts: Sequence[int]) -> float:
    """To how many equally common classes the balance comes: ``exp(H)`` of their shares (Hill 1973, order 1)."""
    total = sum(counts)
    return math.exp(-sum(n / total * math.log(n / total) for n in counts if n)) if total else 0.0


def contents(clips: Sequence[Clip], measured: Mapping[str, Measured]) -> Table:
    """Lengths, loudness, pictures: least, middle and most."""
    here = [measured[c.id] for c in clips if c.id in measured]
    rows = []
    for name, values, digits in (
        ("length, s", [m.seconds for m in here], 2), ("loudness, LUFS", [m.lufs for m in here], 1),
        ("highest sample, of full scale", [m.peak for m in here], 3),
        ("pictures a second", [m.fps for m in here], 2),
        ("width, pixels", [m.width for m in here], 0), ("height, pixels", [m.height for m in here], 0),
    ):  # fmt: skip
        known = [float(v) for v in values if v is not None]
        cells: tuple[Cell, ...] = (None, None, None, len(known))
        if known:
            low, mid, high = (float(f(known)) for f in (np.min, np.median, np.max))
            cells = (*(f"{v:,.{digits}f}".replace("-", "\u2212") for v in (low, mid, high)), len(known))
        rows.append(Row(name, cells))
    silent = sum(m.lufs is None for m in here)
    return Table(
        id="card_contents", title="Lengths, loudness, pictures", columns=("least", "median", "most", "clips"),
        rows=tuple(rows), unit="mixed",
        caption="Measured on the decoded clips; loudness by ITU-R BS.1770 at 16 kHz mono. "
        + (f"{how_many(silent, 'clip')} silent or without a track: no loudness." if silent else "None is silent."),
    )  # fmt: skip


def splits(clips: Sequence[Clip]) -> Table:
    """Clips, sources and classes by split; and whether a source stands in two of them."""
    sides = sorted({c.split for c in clips})
    where: dict[str, set[str]] = {}
    for clip in clips:
        where.setdefault(clip.cluster, set()).add(clip.split)
    torn = sorted(s for s, some in where.items() if len(some) > 1)
    rows = []
    for side in sides:
        mine = [c for c in clips if c.split == side]
        kinds = {clean(n) for c in mine for n in (*c.seen, *c.heard)}
        rows.append(Row(side, (len(mine), len({c.cluster for c in mine}), len(kinds))))
    caption = "No source recording stands in two splits."
    if torn:
        caption = (
            f"{how_many(len(torn), 'source recording stands', 'source recordings stand')} in two splits "
            f"({', '.join(torn[:NAMED])}): a leak."
        )
    elif len(sides) == 1:
        caption = "There is one split only."
    return Table(
        id="card_splits", title="Splits", columns=("clips", "sources", "classes"), rows=tuple(rows), unit="count",
        caption=caption,
    )  # fmt: skip


def licences(clips: Sequence[Clip]) -> Table:
    """Clips and sources under each licence."""
    count = Counter(c.licence for c in clips)
    rows = [Row(name, (n, len({c.cluster for c in clips if c.licence == name}))) for name, n in count.most_common()]
    return Table(
        id="card_licences", title="Licences", columns=("clips", "sources"), rows=tuple(rows), unit="count",
        caption="As the labels have them; a twin is under the licences of both its clips.",
    )  # fmt: skip


def duplicates(clips: Sequence[Clip], measured: Mapping[str, Measured]) -> Table:
    """Clips with the very same sound, picture or file as another one, by content hash."""
    here = [c for c in clips if c.id in measured]
    split = {c.id: c.split for c in here}
    rows, told = [], []
    for name, key in HASHES:
        groups: dict[str, list[str]] = {}
        for clip in here:
            found = getattr(measured[clip.id], key)
            if found is not None:
                groups.setdefault(found, []).append(clip.id)
        same = [g for g in groups.values() if len(g) > 1]
        across = sum(len({split[i] for i in g}) > 1 for g in same)
        rows.append(Row(name, (sum(map(len, same)), len(same), across)))
        told += [" = ".join(g) for g in same[:NAMED]]
    return Table(
        id="card_duplicates", title="Equal clips", columns=("clips", "groups", "groups over two splits"),
        rows=tuple(rows), unit="count",
        caption="By content hashes: equal samples, equal picture packets, equal files. "
        + (f"For example {'; '.join(dict.fromkeys(told))}." if told else "There are none."),
    )  # fmt: skip


def funnel_table(found: Sequence[Rung]) -> Table:
    """The funnel as a table."""
    first = max(found[0].left, 1) if found else 1
    rows = [Row(r.name, (r.left, f"{100 * r.left / first:.1f} %", r.failed, r.untold, r.by or None)) for r in found]
    return Table(
        id="card_funnel", title="From the first manifest to this set",
        columns=("left", "of all", "dropped here", "not told here", "by"), rows=tuple(rows), unit="count",
        caption="Dropped: of the clips that came this far. Not told: there was nothing to look at (a gate lets "
        "such clips pass), or a judge gave no answer; those leave at the end, unless people pass them.",
    )  # fmt: skip


def verdict_table(verdicts: Sequence[Verdict]) -> Table:
    """What each check said, over all clips that it was shown: the four answers of MMA-Bench's step among them."""
    rows = []
    for (check, by), some in _grouped(verdicts).items():
        rows.append(
            Row(
                spoken(check),
                (
                    sum(v.passed is True for v in some), sum(v.passed is False for v in some),
                    sum(v.passed is None for v in some), by or None,
                ),
            )
        )  # fmt: skip
    return Table(
        id="card_verdicts", title="What each check said", columns=("passed", "failed", "not told", "by"),
        rows=tuple(rows), unit="count",
        caption="Of all clips that a check was shown. A clip that had failed a cheaper check was not shown to the "
        "dearer ones, unless all were asked for (--all).",
    )  # fmt: skip


def _grouped(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    out: dict[tuple[str, str], list[Verdict]] = {}
    for v in verdicts:
        out.setdefault((v.check, v.by), []).append(v)
    return out


def findings(report: Report) -> Table:
    """What the linter found: what fails first; what does not apply is named in the caption."""
    order = ("fails", "warns", "fine")
    kept = sorted((f for f in report.findings if f.verdict in order), key=lambda f: order.index(f.verdict))
    idle = [f.check for f in report.findings if f.verdict not in order]
    rows = [Row(f.check, (f.verdict, f"{f.found:,} of {f.total:,}", f.says)) for f in kept]
    return Table(
        id=f"card_lint_{report.form}", title=f"{report.name} ({report.form}, {how_many(report.rows, 'row')})",
        columns=("verdict", "rows at fault", "what was found"), rows=tuple(rows), unit="mixed",
        caption=f"Did not apply: {', '.join(idle)}." if idle else "",
    )  # fmt: skip
