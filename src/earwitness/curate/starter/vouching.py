"""Is a pair's photo, is its recording what the table says? Asked of witnesses that know nothing of the table.

A sound tagger hears each recording as its clips have it, a picture classifier sees them; what they say is brought
to the set's classes by the words that ``models.cascade`` knows. One of three things comes out of each witness:

- *passed*: the class is among the first three of the set's classes and has a score of at least 0.1;
- *failed*: it has less than 0.1, and another class of the set at least 0.5: the witness names something else;
- *not told*: neither; or the witness has no word for the class.

A pair stays where the ear passes it, and the eye passes it or has no word for it (ImageNet knows no crow). Else it
is left out with the reason, unless the table says why a person overrules the witness. All verdicts are written
down.

Functions: ``vouched``, ``left_out`` (why a pair does not stay), ``at_hand`` (the witnesses, where their weights
are).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.checks.witnesses import open_classifier, open_tagger
from earwitness.curate.starter.sounding import RATE
from earwitness.models.cascade import Ear, Eye, Words, scores_of
from earwitness.questions import clean, same
from earwitness.records import Frames, Wave

FIRST, LEAST, SURE = 3, 0.1, 0.5


def at_hand() -> tuple[Ear, Eye] | None:
    """Tagger and classifier; None where their weights or the packages they need are not there."""
    try:
        return open_tagger("yamnet"), open_classifier("efficientnet")
    except ValueError:
        return None


def vouched(
    source: str, what: str, classes: Sequence[str], waves: Sequence[Wave], stacks: Sequence[Frames], ear: Ear,
    eye: Eye, words: Words,
) -> list[Verdict]:  # fmt: skip
    """What ear and eye say of a pair: the best of its clips' sounds, the mean of its clips' pictures."""
    heard = np.max([ear.hear(w, RATE) for w in waves], axis=0)
    seen = np.mean([eye.see(f) for f in stacks], axis=0)
    return [
        _verdict(source, what, classes, "tagger", ear.id, scores_of(classes, ear.labels, heard, words, "ear")),
        _verdict(source, what, classes, "classifier", eye.id, scores_of(classes, eye.labels, seen, words, "eye")),
    ]


def _verdict(
    source: str, what: str, classes: Sequence[str], check: str, by: str, found: Sequence[float | None]
) -> Verdict:
    known = {c: s for c, s in zip(classes, found, strict=True) if s is not None}
    mine = next((s for c, s in known.items() if clean(c) == clean(what)), None)
    if mine is None:
        return Verdict(clip=source, check=check, passed=None, why=f"the witness has no word for {what}", by=by)
    rivals = {c: s for c, s in known.items() if clean(c) != clean(what) and same(c) != same(what)}
    best = max(rivals, key=lambda c: rivals[c])
    place = 1 + sum(s > mine for s in rivals.values())
    passed = True if place <= FIRST and mine >= LEAST else False if mine < LEAST and rivals[best] >= SURE else None
    why = f"{what} is number {place} of {len(known)} at {mine:.2f}"
    if place > 1:
        why += f", after {best} at {rivals[best]:.2f}"
    return Verdict(
        clip=source, check=check, passed=passed, value=round(float(mine), 4), limit=LEAST, unit="score", why=why,
        by=by,
    )  # fmt: skip


def left_out(verdicts: Sequence[Verdict], overruled: str) -> str:
    """Why a pair is left out; "" where it stays."""
    if overruled:
        return ""
    for verdict in verdicts:
        if verdict.passed is False:
            return f"{verdict.by} contradicts: {verdict.why}"
        if verdict.passed is None and (verdict.check == "tagger" or verdict.value is not None):
            return f"{verdict.by} does not vouch for it: {verdict.why}"
    return "" if verdicts else "no witness was ever asked"
