"""Moments, exchanges and kept clips: truths from the labels, media shared with ``hush``, donors as in an audit."""

from __future__ import annotations

import pytest

from earwitness.align.pairs import exchange, kept, moments, preferences
from earwitness.align.pairs.stock import Plan, Stock
from earwitness.datasets.opening import open_clips
from earwitness.protocols import Settings, thud
from earwitness.records import Clip, Event, Pair
from earwitness.scoring import reward

CLIPS = {c.id: c for c in open_clips("foley", limit=30, seed=41).clips}
STOCK = Stock(tuple(CLIPS.values()), (), Settings())


def rows(made: Plan) -> list[Pair]:
    return [p for u in made.units for p in u.make()]


@pytest.mark.parametrize("style", ["seen", "heard"])
def test_a_moment_is_the_second_of_the_label_and_what_was_moved(style: str) -> None:
    found = rows(moments.moments(STOCK, (style,)))
    assert {p.item.intervention.kind for p in found} == {"shift", "hush"}
    for p in found:
        (event,) = CLIPS[p.item.clip].events
        at = event.seen or 0.0
        moved = p.item.intervention.kind == "shift"
        by = p.item.intervention.seconds if moved else 0.0
        assert p.item.offset == by
        assert p.chosen == str(int(at + (by if style == "heard" else 0.0)))
        assert p.rejected != p.chosen
        if moved:
            assert p.rejected == str(int(at + (by if style == "seen" else 0.0)))
        assert p.item.target is None


def test_moments_are_asked_for_on_the_media_of_hush() -> None:
    asked, judged = (
        {(p.item.clip, p.item.intervention.key) for p in rows(made)}
        for made in (moments.moments(STOCK, ("seen",)), preferences.hush(STOCK, ("direct",)))
    )
    assert asked == judged


def test_clips_without_one_timed_event_are_counted() -> None:
    two = Clip(id="two", seen=("bell",), heard=("bell",), end=6.0, events=tuple(
        Event("bell", seen=t, heard=t) for t in (1.0, 4.0)
    ))  # fmt: skip
    plan = moments.moments(Stock((two,), (), Settings()), ("seen",))
    assert not plan.units
    assert plan.left_out == ["1 of 1 clips have not one event that is seen and heard in step: no moments"]


def test_kept_rows_are_of_untouched_clips_and_have_no_wrong_answer() -> None:
    found = rows(kept.kept(STOCK, ("plain", "direct", "leading", "neutral")))
    assert {p.item.intervention.kind for p in found} == {"original"}
    assert all(p.rejected is None for p in found)
    assert all(reward(p.item, p.chosen) == 1.0 for p in found)
    assert {p.item.question for p in found} == {"swap", "muted"}
    things = {len(p.item.heard) for p in found}
    assert things == {1, 2, 3}


def test_kept_draws_as_many_scenes_of_three_things_as_of_one() -> None:
    units = kept.kept(STOCK, ("direct",)).units
    assert {u.kind.split("/")[0] for u in units} == {"1", "2", "3"}
    strange = Clip(id="s", seen=("dog",), heard=("cat",), end=4.0)
    plan = kept.kept(Stock((strange,), (), Settings()), ("direct",))
    assert not plan.units
    assert plan.left_out == ["1 of 1 clips do not show what they sound like: nothing to keep"]


def test_exchanges_are_the_swaps_of_an_audit_and_each_has_its_mirror() -> None:
    found = rows(exchange.exchange(STOCK, ("plain", "direct")))
    audited = {
        (i.clip, i.intervention.donor)
        for i in thud.items(tuple(CLIPS.values()), Settings())
        if i.condition == "swap"
    }
    swapped = {(p.item.clip, p.item.intervention.donor) for p in found if p.item.condition == "swap"}
    assert audited <= swapped
    there = {(p.item.clip, p.item.style, p.chosen, p.rejected) for p in found}
    assert all((p.item.clip, p.item.style, p.rejected, p.chosen) in there for p in found)
    assert all(reward(p.item, p.chosen) == 1.0 and reward(p.item, p.rejected or "") == 0.0 for p in found)
    assert len({p.id for p in found}) == len(found)
    assert len([p for p in found if p.item.style == "direct"]) == len(found) / 2


def test_clips_that_cannot_be_exchanged_are_counted() -> None:
    strange = Clip(id="s", seen=("dog",), heard=("cat",), end=4.0)
    alone = Clip(id="a", seen=("dog",), heard=("dog",), end=4.0)
    plan = exchange.exchange(Stock((strange, alone), (), Settings()), ("direct",))
    assert not plan.units
    assert plan.left_out == [
        "1 of 2 clips do not show what they sound like: not exchanged",
        "1 of 1 clips have no donor of another source and class: not exchanged",
    ]
