"""What a check says: a verdict, how many of how many, an example, and why anybody should care.

Functions: ``finding`` (found among rows), ``idle`` (a check that has nothing to look at, with the reason);
``amount`` and ``certain`` turn a share and an estimate into a verdict, ``spelled`` and ``interval`` write one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from earwitness.records import Estimate

Verdict = Literal["fails", "warns", "fine", "not applicable"]
ORDER: tuple[Verdict, ...] = ("not applicable", "fine", "warns", "fails")  # the worse, the later
# Shares of rows at fault: careful hands slip in fewer than one of a hundred; one of twenty is a method's doing.
FEW, SOME = 0.01, 0.05


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check's result. ``found`` of ``total`` rows show the fault; ``numbers`` are what the verdict rests on."""

    check: str
    verdict: Verdict
    found: int = 0
    total: int = 0
    example: str = ""  # id of a row that shows it
    says: str  # what was found, in a sentence
    why: str  # why it matters
    numbers: dict[str, float] = {}
    counts: dict[str, int] = {}


def finding(
    check: str, verdict: Verdict, found: Sequence[str], total: int, says: str, why: str, *,
    numbers: Mapping[str, float] | None = None, counts: Mapping[str, int] | None = None,
) -> Finding:  # fmt: skip
    """A finding about the rows whose ids are ``found``; the first is the example."""
    return Finding(
        check=check, verdict=verdict, found=len(found), total=total, example=found[0] if found else "", says=says,
        why=why, numbers={k: float(v) for k, v in (numbers or {}).items()}, counts=dict(counts or {}),
    )  # fmt: skip


def idle(check: str, reason: str, why: str) -> Finding:
    """A check that does not apply here, and the reason."""
    return Finding(check=check, verdict="not applicable", says=reason, why=why)


def amount(share: float, fails: float, warns: float = 0.0) -> Verdict:
    """The verdict of a share of rows: fails from ``fails`` on, warns from ``warns`` on (by default at any)."""
    if share >= fails:
        return "fails"
    return "warns" if share > 0 and share >= warns else "fine"


def certain(value: Estimate, chance: float, fails: float) -> Verdict:
    """The verdict of an estimate: fails where it reaches ``fails`` and its interval leaves out ``chance``.

    Warns where only one of the two holds: too small a set to be sure, or a leak too small to matter much.
    """
    surely = value.low > chance
    if value.value >= fails and surely:
        return "fails"
    return "warns" if value.value >= fails or surely else "fine"


def spelled(value: Estimate) -> str:
    """An estimate in a sentence."""
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"


def interval(name: str, value: Estimate) -> dict[str, float]:
    """An estimate as numbers of a finding."""
    return {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
