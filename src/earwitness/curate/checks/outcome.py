"""What becomes of a clip on which several have given their verdicts, and how many are left after each check.

A clip is **dropped** by the first check that it fails; **undecided** where it fails none, but a question that must
be answered was not; else **passed**. What must be answered: every question that was put to a judge; and where a
witness does not know the class, the judge's question on the same sense. A gate looks for a fault: where it finds
nothing to look at (no labelled event, no onset), it has found none.

Several judges must agree on a check: where one says yes and another no, it is not told, and people see both
reasons.

Functions: ``outcomes``, ``rungs`` (the funnel), ``by_checker`` (what each said, for agreement).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from earwitness.curate.checks.consistency import CHECKS, NAMES
from earwitness.curate.checks.verdict import Verdict
from earwitness.records import Clip

Result = Literal["passed", "dropped", "undecided"]
# A witness -> the judge's question on the same sense, whose yes stands for it where it does not know the class.
STANDS_FOR = {"tagger": "audible", "classifier": "visible"}
# What is true of a clip that passed. A gate is named after its fault.
PASSED = {
    "manifest": "in the manifest", "told": "every question answered", "people": "passed by people",
    "decodes": "can be decoded", "picture_track": "has pictures", "sound_track": "has sound",
    "length": "neither too short nor a film", "silent": "not silent", "quiet": "loud enough",
    "clipped": "not clipped", "still": "something moves", "dark": "not dark", "sync": "labelled events in step",
    "offset": "tracks begin together", "same_picture": "shares no picture alone",
    "same_sound": "shares no sound alone", "duplicate": "no copy of another clip", "speech": "nobody talks over it",
    "music": "no music over it", "tagger": "heard by the tagger", "classifier": "seen by the classifier", **NAMES,
}  # fmt: skip
# Written down, and no reason to drop a clip: twins share pictures, and libraries lend one sound to many.
REMARKS = ("same_picture", "same_sound")
STEPS = ("gates", *STANDS_FOR)  # what a step that failed as a whole leaves untold


class Outcome(NamedTuple):
    """What became of a clip: by which check, and why; every verdict on it."""

    clip: Clip
    result: Result
    check: str
    why: str
    verdicts: tuple[Verdict, ...]


class Rung(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the funnel: of the clips that came this far, how many were looked at, failed and were not told.

    ``left`` is what goes on: all but those that failed. The last rung takes away the undecided ones.
    """

    name: str
    asked: int
    failed: int
    untold: int
    left: int
    by: str = ""


class _Said(NamedTuple):
    passed: bool | None
    why: str


def _merged(verdicts: Iterable[Verdict]) -> dict[str, _Said]:
    """One verdict a check: what all who made it say, and not told where they differ."""
    of: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        of.setdefault(verdict.check, []).append(verdict)
    out = {}
    for check, some in of.items():
        said = {v.passed for v in some}
        passed = said.pop() if len(said) == 1 else None
        mine = [v for v in some if v.passed is not True] if passed is None else some
        many = len(some) > 1
        why = "; ".join(dict.fromkeys(f"{v.by}: {v.why}" if many and v.by else v.why for v in mine if v.why))
        out[check] = _Said(passed, why)
    return out


def outcomes(clips: Sequence[Clip], given: Mapping[str, Sequence[Verdict]], order: Sequence[str]) -> list[Outcome]:
    """What became of each clip; ``order`` are the checks, cheapest first."""
    out = []
    for clip in clips:
        verdicts = tuple(given.get(clip.id, ()))
        said = _merged(verdicts)
        made = [check for check in order if check in said]
        failed = next((check for check in made if said[check].passed is False), None)
        if failed is not None:
            out.append(Outcome(clip, "dropped", failed, said[failed].why, verdicts))
            continue
        untold = [check for check in made if said[check].passed is None and _needed(check, said)]
        why = "; ".join(f"{spoken(check)}: {said[check].why or 'not told'}" for check in untold)
        if untold or not made:
            first = untold[0] if untold else ""
            out.append(Outcome(clip, "undecided", first, why or "nothing was checked", verdicts))
        else:
            out.append(Outcome(clip, "passed", "", "", verdicts))
    return out


def _needed(check: str, said: Mapping[str, _Said]) -> bool:
    """Whether a clip stays undecided where this check was not told."""
    if check in STANDS_FOR:
        other = said.get(STANDS_FOR[check])
        return other is None or other.passed is not True
    return check in CHECKS or check in STEPS or check == "people"


def rungs(found: Sequence[Outcome], order: Sequence[str]) -> list[Rung]:
    """The funnel, from all clips of the manifest to those that passed every check."""
    here = [(o, _merged(o.verdicts)) for o in found]
    out = [Rung(name="manifest", asked=len(here), failed=0, untold=0, left=len(here))]
    for check in order:
        asked = [said[check] for _, said in here if check in said]
        failed = sum(s.passed is False for s in asked)
        here = [(o, said) for o, said in here if check not in said or said[check].passed is not False]
        who = dict.fromkeys(v.by for o in found for v in o.verdicts if v.check == check and v.by)
        out.append(
            Rung(
                name=check, asked=len(asked), failed=failed, untold=sum(s.passed is None for s in asked),
                left=len(here), by=", ".join(who),
            )
        )  # fmt: skip
    passed = sum(o.result == "passed" for o, _ in here)
    out.append(Rung(name="told", asked=len(here), failed=0, untold=len(here) - passed, left=passed))
    return out


def by_checker(found: Sequence[Outcome], checks: Iterable[str]) -> dict[str, dict[str, bool | None]]:
    """By who checked: whether each clip passed all of these checks that this one made (None: some not told)."""
    wanted = set(checks)
    out: dict[str, dict[str, bool | None]] = {}
    for outcome in found:
        mine: dict[str, list[bool | None]] = {}
        for v in outcome.verdicts:
            if v.check in wanted:
                mine.setdefault(v.by or v.check, []).append(v.passed)
        for who, said in mine.items():
            out.setdefault(who, {})[outcome.clip.id] = False if False in said else None if None in said else True
    return out


def spoken(check: str) -> str:
    """What is true of a clip that passed a check, in words."""
    return PASSED.get(check, check.replace("_", " "))
