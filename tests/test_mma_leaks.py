"""Who says "None of the above" unasked abstains: an outcome of the leak table, and of no other."""

from __future__ import annotations

import pytest

from earwitness import foley
from earwitness.protocols import Settings, mma
from earwitness.records import NONE_OF_THE_ABOVE, Estimate, Item, Judged
from tables import cell, judge, table, value

QUICK = Settings(long_context_tokens=50, extra_seeds=(0,))
ITEMS = mma.items(foley.clip_set(24, seed=3).clips, QUICK)
GONE = [i for i in ITEMS if (i.condition, i.question) == ("audio_removed", "audio") and i.style == "standard"]
SILENT = "audio removed, audio question"


def cured(said: str) -> list[Judged]:
    """A model that names what is there, and says this where nothing is."""

    def answers(item: Item) -> str:
        there = item.seen if item.question == "visual" else item.heard
        return there[0] if there else said

    return judge(ITEMS, answers)


@pytest.mark.parametrize(
    "said",
    [NONE_OF_THE_ABOVE, "None of the above.", "Final Answer: none of the options", "There is no sound.", "silence"],
)
def test_an_unoffered_none_of_the_above_is_told_as_abstaining(said: str) -> None:
    leaks = table(mma.tables(cured(said)), "mma_leaks")
    assert NONE_OF_THE_ABOVE not in GONE[0].choices
    assert value(leaks, SILENT, "abstains") == 1.0
    assert value(leaks, SILENT, "leak") == 0.0
    assert cell(leaks, SILENT, "refused") == cell(leaks, SILENT, "unparsed") == 0
    assert cell(leaks, SILENT, "answers") == len(GONE)


@pytest.mark.parametrize(("said", "counted"), [("I cannot tell.", "refused"), ("Something blue.", "unparsed")])
def test_who_does_not_say_that_nothing_fits_stays_unscored(said: str, counted: str) -> None:
    leaks = table(mma.tables(cured(said)), "mma_leaks")
    assert cell(leaks, SILENT, "leak") is None
    assert cell(leaks, SILENT, "abstains") is None
    assert cell(leaks, SILENT, counted) == len(GONE)


def test_an_option_beside_it_or_a_failure_is_no_abstaining() -> None:
    seen = {i.id: i.seen[0] for i in GONE}
    both = judge(GONE, lambda i: f"None of the above, or {seen[i.id]}")
    failed = judge(GONE, lambda i: None)
    for judged in (both, failed):
        leaks = table(mma.tables(judged), "mma_leaks")
        assert cell(leaks, SILENT, "abstains") is None
    half = judge(GONE, lambda i: seen[i.id] if int(i.clip[-1], 36) % 2 else NONE_OF_THE_ABOVE)
    leaks = table(mma.tables(half), "mma_leaks")
    assert value(leaks, SILENT, "leak") + value(leaks, SILENT, "abstains") == pytest.approx(1)
    assert 0 < value(leaks, SILENT, "leak") < 1


def test_nothing_else_counts_it() -> None:
    """Accuracy, what is unscored in it, and the score itself are those of an answer that declines."""
    judged, declined = cured(NONE_OF_THE_ABOVE), cured("I cannot tell.")
    silent = [j for j in judged if j.item.id == GONE[0].id]
    assert (silent[0].score.label, silent[0].score.correct) == ("REFUSED", None)
    for made, other in zip(mma.tables(judged), mma.tables(declined), strict=True):
        if made.id == "mma_leaks":
            continue
        standard = [r for r in made.rows if "may abstain" not in r.label]
        assert standard == [r for r in other.rows if "may abstain" not in r.label], made.id


def test_where_it_is_offered_nothing_changes() -> None:
    leaks = table(mma.tables(cured(NONE_OF_THE_ABOVE)), "mma_leaks")
    row = f"{SILENT}, may abstain"
    assert value(leaks, row, "abstains") == 1.0
    assert isinstance(cell(leaks, row, "leak"), Estimate)
    again = table(mma.tables(cured("silence")), "mma_leaks")
    assert value(again, row, "abstains") == 1.0
