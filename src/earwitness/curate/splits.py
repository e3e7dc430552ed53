"""Which clips are for training, which for testing? By source recording; and, on request, by class.

Clips of one source never stand on two sides, and a twin's donor comes from the clip's own side: else a sound would
be trained on and tested on. Held-out classes (appendix H of arXiv 2511.22826: 29 of 58 are trained on, both halves
tested) have their clips in the split "unseen" and are neither seen nor heard in "train".

Functions: ``split``, ``held_out``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from earwitness.questions import same
from earwitness.records import Clip, digest

UNSEEN = "unseen"


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of the sources for validation and test, and of the classes that are held out; the rest is "train"."""

    valid: float = 0.0
    test: float = 0.0
    hold_out: float = 0.0

    def __post_init__(self) -> None:
        if min(self.valid, self.test, self.hold_out) < 0 or self.valid + self.test >= 1 or self.hold_out >= 1:
            raise ValueError(
                f"valid={self.valid:g}, test={self.test:g}, hold_out={self.hold_out:g}: want shares from 0 to "
                f"below 1 that leave something to train on (per cent? 0.1 is ten)"
            )


def held_out(clips: Sequence[Clip], share: float, seed: int) -> frozenset[str]:
    """The classes (as ``questions.same`` has them) that are held out: a share of all, drawn by seed."""
    kinds = sorted({same(n) for c in clips for n in c.heard}, key=lambda k: digest("held out", seed, k))
    return frozenset(kinds[: round(share * len(kinds))])


def split(clips: Sequence[Clip], shares: Shares, seed: int) -> list[Clip]:
    """The clips with their split, in the order given.

    Sources are dealt class by class, so that each class has about its share on each side. A source with a clip of a
    held-out class is "unseen" with all its clips.
    """
    gone = held_out(clips, shares.hold_out, seed)
    kinds: dict[str, set[str]] = {}
    for clip in clips:
        kinds.setdefault(clip.cluster, set()).update(same(n) for n in (*clip.heard, *clip.seen))
    side: dict[str, str] = {}
    by_kind: dict[str, list[str]] = {}
    for source, some in kinds.items():
        if some & gone:
            side[source] = UNSEEN
        else:
            by_kind.setdefault(min(some, default=""), []).append(source)
    # The first sources of each class are its test and validation ones; ranks are relative, so small classes are
    # dealt together and the shares come out over all of them.
    ranked = sorted(
        ((n + 0.5) / len(some), digest("side", seed, source), source)
        for some in by_kind.values()
        for n, source in enumerate(sorted(some, key=lambda s: digest("side", seed, s)))
    )
    tests, valids = round(shares.test * len(ranked)), round(shares.valid * len(ranked))
    for n, (_, _, source) in enumerate(ranked):
        side[source] = "test" if n < tests else "valid" if n < tests + valids else "train"
    return [msgspec.structs.replace(c, split=side[c.cluster]) for c in clips]
