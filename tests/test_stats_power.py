"""How many clips: statsmodels as the oracle, and the formula against the simulated test."""

from __future__ import annotations

import math

from statsmodels.stats.power import TTestPower

from earwitness import stats
from earwitness.records import Estimate


def test_clips_needed_is_the_t_tests_power() -> None:
    for gap, share in ((0.1, 0.3), (0.3, 0.5), (0.05, 0.2)):
        theirs = TTestPower().solve_power(gap / math.sqrt(share - gap**2), alpha=0.05, power=0.8)
        assert stats.clips_needed(gap, discordant=share) == math.ceil(theirs)


def test_the_formula_holds_in_simulation() -> None:
    for per_clip, icc in ((1, 0.0), (4, 0.2), (8, 0.5)):
        needed = stats.clips_needed(0.15, per_clip=per_clip, icc=icc, discordant=0.4)
        found = stats.simulated_power(needed, 0.15, per_clip=per_clip, icc=icc, discordant=0.4, sims=4000)
        assert 0.77 < found.value < 0.83


def test_detectable_gap_is_the_inverse_and_more_questions_help_less_than_more_clips() -> None:
    gap = stats.detectable_gap(60, per_clip=4)
    assert gap is not None
    assert stats.clips_needed(gap, per_clip=4) <= 60 < stats.clips_needed(gap - 0.001, per_clip=4)
    assert stats.detectable_gap(9) is None
    assert stats.clips_needed(0.1, per_clip=8) > stats.clips_needed(0.1) / 4
    assert stats.clips_needed(1.0) == 10


def test_the_power_table_has_a_row_for_each_gap_and_number_of_answers() -> None:
    table = stats.power_table([0.1, 0.2], base=0.8, per_clip=(1, 4), sims=500)
    assert len(table.rows) == 4
    assert all(len(row.cells) == len(table.columns) for row in table.rows)
    clips_1, answers, half, found = table.rows[0].cells
    assert clips_1 == answers == stats.clips_needed(0.1, discordant=stats.discordance(0.1, 0.8))
    assert isinstance(half, float)
    assert half < 0.1
    assert isinstance(found, Estimate)
    assert stats.power_table(0.2, sims=0).rows[0].cells[3] is None
