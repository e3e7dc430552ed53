"""The votes of people on the clips that no check could tell, taken in as one more verdict.

``earwitness review OUT/undecided.jsonl`` keeps its votes in ``OUT/review``. A clip that all annotators pass is
passed, with the event times that they agree on; one that any of them rejects is dropped; where votes are missing,
or times differ, it stays undecided. The queue keeps its clips when that is done: votes belong to places in it.

Function: ``voted``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from earwitness.curate import review
from earwitness.curate.checks.outcome import Outcome
from earwitness.curate.checks.verdict import Verdict
from earwitness.records import how_many

QUEUE, PLACE = "undecided.jsonl", "people"
FATE = {"passed": True, "rejected": False, "split": False}  # strict consensus: one against a clip discards it


def voted(found: Sequence[Outcome], out: Path) -> tuple[list[Outcome], list[str]]:
    """The outcomes with what people say of the undecided ones, and in words how far they are.

    Writes ``OUT/people``: what they passed, what not and why, and how far they agree. Raises ValueError where votes
    cannot be read.
    """
    waiting = {o.clip.id for o in found if o.result == "undecided"}
    if not waiting or not (out / QUEUE).exists() or not any((out / review.HOME).glob("annotators/*/votes.jsonl")):
        return list(found), []
    said, _ = review.export(out / QUEUE, out / PLACE, out / review.HOME)
    by_clip = {o.clip.id: o for o in said if o.clip.id in waiting}
    result = []
    for outcome in found:
        theirs = by_clip.get(outcome.clip.id)
        if theirs is None or not theirs.votes:
            result.append(outcome)
            continue
        passed = FATE.get(theirs.result)
        verdict = Verdict(
            clip=outcome.clip.id, check="people", passed=passed, by=", ".join(sorted(theirs.votes)),
            why=theirs.why or f"all {len(theirs.votes)} passed it",
        )  # fmt: skip
        verdicts = (*outcome.verdicts, verdict)
        if passed is None:
            result.append(outcome._replace(verdicts=verdicts))
        elif passed:
            clip = msgspec.structs.replace(outcome.clip, events=theirs.clip.events)
            result.append(Outcome(clip, "passed", "", "", verdicts))
        else:
            result.append(Outcome(outcome.clip, "dropped", "people", verdict.why, verdicts))
    done = sum(FATE.get(o.result) is not None for o in by_clip.values())
    return result, [f"people have decided {done} of the {how_many(len(waiting), 'clip')} that no check could tell"]
