"""Do an annotator's times heap on whole and half seconds? A model that looks at one frame a second says so.

Times are taken at the resolution r at which they are meant to be stated (0.1 s): moments that know nothing of
seconds fall on a whole one with probability r, and on a half one with r. The count among n clips is held against
the binomial distribution, one-sided, with Holm's correction over all rows of the table; the share has Wilson's
interval. Flagged is what is both: p < 0.01, and an interval wholly above r. A flag moves no label: the table and a
note say so.

Functions: ``heaping``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from scipy import stats as distributions

from earwitness import stats
from earwitness.records import Estimate

LEAST = 10  # times; fewer are not tested
LEVEL = 0.01


class Heap(msgspec.Struct, frozen=True, kw_only=True):
    """How many of an annotator's times fall on whole (or half) seconds; ``share.p`` is Holm's adjusted p."""

    annotator: str
    sense: str  # seen or heard
    place: str  # whole or half
    share: Estimate
    expected: float

    @property
    def flagged(self) -> bool:
        """Whether they heap."""
        return self.share.p is not None and self.share.p < LEVEL and self.share.low > self.expected


def heaping(
    times: Sequence[tuple[str, str, Sequence[float], Sequence[str]]], resolution: float = 0.1
) -> list[Heap]:
    """The test on each (annotator, sense, times in s, sources); those with fewer than ten times are left out.

    Raises ValueError for a resolution that is no share of a half second.
    """
    if not 0 < resolution <= 0.25:
        raise ValueError(f"resolution={resolution:g}: wants seconds up to 0.25, to which times are stated")
    found = []
    for annotator, sense, some, sources in times:
        if len(some) < LEAST:
            continue
        for place, at in (("whole", 0.0), ("half", 0.5)):
            on = [abs((t - at) - round(t - at)) < resolution / 2 - 1e-9 for t in some]
            test = distributions.binomtest(sum(on), len(on), resolution, alternative="greater")
            share = stats.proportion(on, sources)
            assert share is not None
            found.append((annotator, sense, place, share, float(test.pvalue)))
    adjusted = stats.holm([p for *_, p in found])
    return [
        Heap(
            annotator=name, sense=sense, place=place, expected=resolution,
            share=Estimate(e.value, e.low, e.high, e.n, e.clusters, e.method, p),
        )
        for (name, sense, place, e, _), p in zip(found, adjusted, strict=True)
    ]  # fmt: skip
