"""Through which layers does a clip's sound (or picture) reach the answer? Give the question another clip's.

Twins are two items that ask the same of one clip under two interventions: words, length and layout are the same,
only what is heard or seen differs. Both are read; then, in a window of layers, the keys and values of the changed
clip's audio (or video) tokens are replaced by the untouched one's, and the question is read behind that (activation
patching of Vig et al. 2020, arXiv 2004.12265, and Meng et al. 2022, arXiv 2202.05262, on keys and values). So what
is patched is what *question and answer* read from the media; what media tokens read from each other stays.

Read is the log-odds, among the choices, of the choice that is likeliest with the untouched clip (the donor)::

    recovered = (patched - changed) / (untouched - changed)

1: all that the twins differ by goes through these tokens in these layers; 0: none of it. Windows need not add up to
1: what one layer misses another may bring. All layers of all media tokens together are the donor itself.

Nothing here needs torch before :func:`patching` runs; what is done to the model is in ``patching.patch``.

Functions: ``twins`` (pairs of a run's items), ``patching`` (over a run folder: adds to ``RUN/patching.jsonl``),
``read``, ``tables``, ``recovered``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from earwitness import run as runs
from earwitness import stats
from earwitness.audit import Bank
from earwitness.models import Model
from earwitness.records import ClipSet, Estimate, Item, Row, Table
from earwitness.stats.intervals import cluster_sums, quantile, ratio_variance
from earwitness.whitebox import opened
from earwitness.whitebox.edges import Window, layers_of, read_windows
from earwitness.whitebox.joined import Key, clusters

FILE = "patching.jsonl"
CHUNK = 32  # pairs whose media are in memory at once
Pair = tuple[Item, Item]  # the changed clip's item (receiver), the untouched one's (donor)


class Patched(msgspec.Struct, frozen=True, kw_only=True):
    """One item that was given part of its twin's media: log-odds (nats) of ``option`` among the choices."""

    item: str
    donor: str
    part: str
    layers: Window
    tokens: int  # how many were patched
    option: str  # the likeliest choice with the donor's clip
    with_donor: float
    plain: float
    patched: float


def twins(items: Iterable[Item]) -> list[Pair]:
    """Receivers with their donor: the item of the same group on the untouched clip."""
    found = list(items)
    natural = {i.group: i for i in found if i.intervention.kind == "original"}
    # Where a track is gone there are no tokens to give anything to.
    lacking = ("original", "no_track", "no_frames")
    return [(i, natural[i.group]) for i in found if i.intervention.kind not in lacking and i.group in natural]


def patching(
    folder: Path,
    model: Model,
    *,
    windows: str | Sequence[Window] = "all",
    parts: Sequence[str] = ("audio", "video"),
    limit: int | None = None,
    conditions: Collection[str] = (),
    clips: ClipSet | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Table]:
    """Patch the run's twins, add to RUN/patching.jsonl what it lacks, and return all its tables.

    ``conditions`` are the receivers' ("audio_swapped"); the other arguments, and what is raised: as in
    ``knockout.knockout`` and ``patching.patch``.
    """
    from earwitness.whitebox.patching import patch

    inside = opened.local(model)
    layers = int(inside.model.config.get_text_config().num_hidden_layers)
    spans = read_windows(windows, layers) if isinstance(windows, str) else list(windows)
    info = runs.read_info(folder)
    opened.same_model(info, model)
    items, _ = opened.chosen(folder, limit=limit)
    pairs = [p for p in twins(items) if not conditions or p[0].condition in conditions]
    if not pairs:
        raise runs.RunError(f"{folder}: no twins to patch: it needs untouched clips and the same ones changed")
    bank = Bank(opened.clips_of(info) if clips is None else clips, model.view)
    with runs.AnswerLog(folder):  # one writer per run folder
        known = opened.whole(folder / FILE, Patched, _key)
        wanted = [(part, span) for part in parts for span in spans]
        todo = iter([p for p in pairs if any((p[0].id, part, span) not in known for part, span in wanted)])
        done = 0
        with (folder / FILE).open("ab") as file:
            while some := list(islice(todo, CHUNK)):
                media = [
                    (bank.condition(a.clip, a.intervention), bank.condition(b.clip, b.intervention))
                    for a, b in some
                ]
                made = patch(inside, some, media, spans, parts)
                file.write(b"".join(msgspec.json.encode(p) + b"\n" for one in made for p in one))
                file.flush()
                done += len(some)
                if progress:
                    progress(done, len(pairs))
    return tables(read(folder), runs.read_items(folder))


def _key(p: Patched) -> tuple[str, str, Window]:
    return (p.item, p.part, p.layers)


def read(folder: Path) -> list[Patched]:
    """All that was measured; empty where nothing was."""
    return list(opened.known(folder / FILE, Patched, _key).values())


def tables(found: Iterable[Patched], items: Iterable[Item]) -> list[Table]:
    """One table: what was asked, under which condition, which part in which layers, and what it recovered."""
    by_id = {i.id: i for i in items}
    order = {name: n for n, name in enumerate(by_id)}
    groups: dict[tuple[Key, str, Window], list[Patched]] = {}
    for p in sorted((p for p in found if p.item in by_id), key=lambda p: order[p.item]):
        i = by_id[p.item]
        groups.setdefault((Key(i.protocol, i.condition, i.question, i.style), p.part, p.layers), []).append(p)
    if not groups:
        return []
    rows = [
        Row(
            f"{key}, {part} of the untouched clip: {layers_of(window)}",
            _cells(some, clusters([by_id[p.item] for p in some])),
        )
        for (key, part, window), some in groups.items()
    ]
    return [
        Table(
            id="patching",
            title="What comes back when a changed clip is given the untouched one's keys and values",
            caption=(
                "Log-odds (nats) of the answer that the untouched clip gets: with the changed clip, with the "
                "untouched one, and with the changed one after its tokens' keys and values were replaced, in these "
                "layers (L, counted from 0), by the untouched one's. Recovered: sum of what came back over the sum "
                "of what was lost; empty where the twins do not differ (their difference's interval holds 0)."
            ),
            columns=("nats: changed clip", "nats: untouched clip", "nats: patched", "recovered", "items"),
            rows=tuple(rows),
            unit="mixed",
        )
    ]


def _cells(found: Sequence[Patched], names: Sequence[str]) -> tuple[Estimate | int | None, ...]:
    return (
        stats.mean([p.plain for p in found], names),
        stats.mean([p.with_donor for p in found], names),
        stats.mean([p.patched for p in found], names),
        recovered(found, names),
        len(found),
    )


def recovered(found: Sequence[Patched], names: Sequence[str], level: float = 0.95) -> Estimate | None:
    """Sum of what came back over the sum of what there was to come back, with a clip-clustered interval.

    A ratio of sums, linearised (Cochran 1977, section 6.3): fractions of single items explode where twins hardly
    differ. None below two clips, and where the interval of the difference itself holds 0.
    """
    lost = [p.with_donor - p.plain for p in found]
    gap = stats.mean(lost, names, level)
    if gap is None or gap.low <= 0 <= gap.high:
        return None
    back = np.array([p.patched - p.plain for p in found])
    value, variance = ratio_variance(cluster_sums(back, names)[0], cluster_sums(np.array(lost), names)[0])
    half = float(quantile(level, gap.clusters - 1) * np.sqrt(variance))
    method = "ratio of sums, clip-clustered t(G-1)"
    return Estimate(float(value), float(value) - half, float(value) + half, len(found), gap.clusters, method)
