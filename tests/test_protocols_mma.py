"""MMA: answerers of known wiring get the tables that it implies; nothing is asked twice or guessed."""

from __future__ import annotations

import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earwitness import foley, interventions, stats
from earwitness.protocols import Settings, load, mma
from earwitness.protocols.making import donors, finish
from earwitness.protocols.settings import MMA_CONDITIONS
from earwitness.questions import clean, same
from earwitness.records import NONE_OF_THE_ABOVE, Clip, Estimate, Item, Table
from tables import cell, judge, table, value

QUICK = Settings(long_context_tokens=50, extra_seeds=(0,))
CLIPS = foley.clip_set(24, seed=3).clips


def listener(item: Item) -> str:
    """Sees and hears what is there; abstains where nothing is, if it may."""
    there = item.seen if item.question == "visual" else item.heard
    if there:
        return f"Final Answer: {there[0]}" if item.style == "cot" else there[0]
    return NONE_OF_THE_ABOVE if NONE_OF_THE_ABOVE in item.choices else "I cannot tell."


def watcher(item: Item) -> str:
    """Answers everything from the picture; where that is black, from the sound."""
    name = (item.seen or item.heard)[0]
    return f"Final Answer: {name}" if item.style == "cot" else name


ITEMS = mma.items(CLIPS, QUICK)


def test_a_listener_is_right_everywhere() -> None:
    made = mma.tables(judge(ITEMS, listener))
    accuracy = table(made, "mma_accuracy")
    for row in accuracy.rows:
        if row.kind == "model":
            assert all(c.value == 1.0 for c in row.cells[:2] if isinstance(c, Estimate))
    follow = table(made, "mma_follow")
    assert value(follow, "visual question", "follows the picture") == 1.0
    assert value(follow, "audio question", "follows the sound") == 1.0
    leaks = table(made, "mma_leaks")
    assert value(leaks, "audio removed, audio question, may abstain", "abstains") == 1.0
    assert value(leaks, "audio removed, audio question, may abstain", "leak") == 0.0
    # Where it may not abstain the listener declines: counted as refused, never as a leak.
    assert cell(leaks, "audio removed, audio question", "leak") is None
    assert cell(leaks, "audio removed, audio question", "refused") == 72


def test_a_watcher_is_unmasked_by_the_swap_and_leaks() -> None:
    made = mma.tables(judge(ITEMS, watcher))
    accuracy = table(made, "mma_accuracy")
    assert value(accuracy, "aligned", "audio question") == 1.0
    assert value(accuracy, "audio swapped", "audio question") == 0.0
    assert value(accuracy, "audio swapped", "visual question") == 1.0
    costs = table(made, "mma_differences")
    assert value(costs, "audio swapped", "audio question") == -1.0
    assert value(costs, "sham", "audio question") == 0.0
    p = cell(costs, "audio swapped", "p (audio)")
    assert isinstance(p, float)
    assert p < 0.01
    leaks = table(made, "mma_leaks")
    assert value(leaks, "audio removed, audio question", "leak") == 1.0
    assert value(leaks, "frames zeroed, visual question", "leak") == 1.0
    assert cell(leaks, "audio removed, audio question", "chance") == pytest.approx(1 / 12)
    assert value(leaks, "audio removed, audio question, may abstain", "abstains") == 0.0


def test_a_parrot_of_captions_is_seen() -> None:
    def parrot(item: Item) -> str:
        said = re.match(r"Video_caption: ([^.]+)\. ", item.prompt)
        return said.group(1) if said else listener(item)

    captions = table(mma.tables(judge(ITEMS, parrot)), "mma_captions")
    assert value(captions, "audio question", "names the false class") == 1.0
    assert value(captions, "audio question", "right") == 0.0


def test_failures_are_counted_and_bounded_never_scored() -> None:
    made = mma.tables(judge(ITEMS, lambda item: None if item.condition == "aligned" else listener(item)))
    accuracy = table(made, "mma_accuracy")
    assert cell(accuracy, "aligned", "visual question") is None
    assert cell(accuracy, "aligned", "failed") == cell(accuracy, "aligned", "answers") == 144
    assert (cell(accuracy, "aligned", "lowest"), cell(accuracy, "aligned", "highest")) == (0.0, 1.0)
    assert cell(table(made, "mma_differences"), "sham", "visual question") is None
    half = mma.tables(judge(ITEMS, lambda item: "" if item.seed == 0 else listener(item)))
    row = table(half, "mma_accuracy")
    assert value(row, "aligned", "audio question") == 1.0
    assert cell(row, "aligned", "lowest") == pytest.approx(2 / 3)
    assert cell(row, "aligned", "highest") == 1.0


def test_missing_conditions_leave_no_rows() -> None:
    assert mma.tables([]) == []
    few = [i for i in ITEMS if i.condition == "audio_swapped" and i.style == "standard"]
    made = mma.tables(judge(few, listener))
    assert {r.label for r in table(made, "mma_accuracy").rows if r.kind == "model"} == {"audio swapped"}
    assert "mma_differences" not in {t.id for t in made}


def test_the_items_are_the_published_design() -> None:
    assert {i.condition for i in ITEMS} == set(MMA_CONDITIONS)
    standard = [i for i in ITEMS if i.style == "standard"]
    assert len(standard) == 24 * 7 * 2 * 3
    for item in ITEMS:
        assert sorted(item.choices) == sorted({*foley.CLASSES} | set(item.choices[12:]))
        assert ", ".join(item.choices) in item.prompt
        clip = next(c for c in CLIPS if c.id == item.clip)
        gone = {"frames_zeroed": "visual", "audio_removed": "audio"}.get(item.condition) == item.question
        if gone:
            assert item.target == (NONE_OF_THE_ABOVE if item.style == "abstention" else None)
        elif item.condition == "audio_swapped" and item.question == "audio":
            assert item.target == item.heard[0] != clip.heard[0]
            assert len(item.linked) == 1
        else:
            assert item.target == clip.seen[0]
        if item.condition == "misleading_caption":
            assert item.prompt.startswith(f"Video_caption: {item.asked}. Which class")
            assert item.asked not in (*clip.seen, *clip.heard)
    after = mma.items(CLIPS[:2], msgspec.structs.replace(QUICK, context_position="after"))
    long = [interventions.filled(i) for i in after if i.condition == "long_context"]
    assert all(i.prompt.startswith("Which class") and len(i.prompt.split("\n\n")[1].split()) == 50 for i in long)
    before = [interventions.filled(i) for i in ITEMS if i.condition == "long_context"]
    assert all(len(i.prompt) < 1000 for i in ITEMS)  # the filler is data until it is asked
    assert all(i.prompt.split("\n\n")[1].startswith("Which class") for i in before)


def test_twins_share_a_group_and_an_option_order() -> None:
    groups: dict[str, list[Item]] = {}
    for item in ITEMS:
        groups.setdefault(item.group, []).append(item)
    for twins in groups.values():
        assert len({(t.prompt, t.choices, t.question, t.clip, t.seed) for t in twins}) == 1
        assert sum(t.intervention.kind == "original" for t in twins) == 1
    orders = {i.choices for i in ITEMS if i.clip == CLIPS[0].id and i.style == "standard"}
    assert len(orders) == 3


def test_ids_follow_from_the_content_alone() -> None:
    ids = {i.id for i in ITEMS}
    assert len(ids) == len(ITEMS)
    assert {i.id for i in mma.items(list(reversed(CLIPS)), QUICK)} == ids
    assert not ids & {i.id for i in mma.items(CLIPS, msgspec.structs.replace(QUICK, seed=1)) if i.choices}
    assert all(finish(i).id == i.id for i in ITEMS)
    again = msgspec.json.decode(msgspec.json.encode(ITEMS[0]), type=Item)
    assert finish(msgspec.structs.replace(again, id="other")).id == ITEMS[0].id


NAMES = ["dog", "cat", "bell", "rain"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 6)), max_size=14),
    st.integers(0, 3),
    st.integers(1, 3),
)
def test_donors_are_others_bounded_and_order_free(labels: list[tuple[str, int]], seed: int, uses: int) -> None:
    clips = [
        Clip(id=f"c{i}", path="x", seen=(name,), heard=(name,), source=f"s{source}")
        for i, (name, source) in enumerate(labels)
    ]
    found = donors(clips, seed, uses)
    assert {k: v.id for k, v in donors(clips[::-1], seed, uses).items()} == {k: v.id for k, v in found.items()}
    by_id = {c.id: c for c in clips}
    counts: dict[str, int] = {}
    for taker, giver in found.items():
        counts[giver.id] = counts.get(giver.id, 0) + 1
        assert giver.cluster != by_id[taker].cluster
        assert same(giver.heard[0]) != same(by_id[taker].heard[0])
    assert all(n <= max(uses, 1) for n in counts.values())


def test_donors_pair_off_so_that_clusters_stay_small() -> None:
    found = donors(CLIPS, 0, 2)
    assert len(found) == 24
    assert all(found[found[c.id].id].id == c.id for c in CLIPS)
    swapped = [i for i in ITEMS if i.condition == "audio_swapped"]
    clusters = stats.merge_clusters([i.source for i in swapped], [i.linked for i in swapped])
    assert len(set(clusters)) == 12


def test_a_donor_is_heard_within_the_clip() -> None:
    late = foley.clip(foley.scene(4, kind="impact", classes=("drum",), duration=8.0))
    short = Clip(id="short", path="x", end=2.0, seen=("cat",), heard=("cat",))
    assert donors([late, short], 0, 2).get("short") is None
    assert donors([late, msgspec.structs.replace(short, end=8.0)], 0, 2)["short"].id == late.id


def test_clips_of_unknown_sight_are_asked_about_their_sound_only() -> None:
    clips = [Clip(id=n, path=f"{n}.mp4", heard=(n,)) for n in ("Cat", "Frog", "Didgeridoo")]
    items = mma.items(clips, QUICK)
    assert {i.question for i in items} == {"audio"}
    assert {i.condition for i in items} == {"found", "sham", "long_context", "frames_zeroed", "audio_removed"}
    made = mma.tables(judge(items, lambda i: (i.heard or ("I cannot tell",))[0]))
    assert value(table(made, "mma_accuracy"), "found", "audio question") == 1.0
    assert cell(table(made, "mma_leaks"), "audio removed, audio question", "leak") is None


def test_what_is_left_out_is_said() -> None:
    clips = [*CLIPS[:3], Clip(id="two", path="x", seen=("a",), heard=("a", "b")), Clip(id="none", path="x")]
    assert any("2 of 5 clips left out" in line for line in mma.skipped(clips, QUICK))
    odd = [Clip(id="odd", path="x", seen=("cat",), heard=("dog",))]
    assert any("differ" in line for line in mma.skipped([*CLIPS[:3], *odd], QUICK))
    assert mma.items([CLIPS[0]], Settings()) == []
    assert any("two classes" in line for line in mma.skipped([CLIPS[0]], Settings()))
    limited = mma.items(CLIPS, msgspec.structs.replace(QUICK, clip_limit=5))
    assert len({i.clip for i in limited}) == 5


def test_given_classes_are_the_choices() -> None:
    chosen = (*foley.CLASSES, "Accordion")
    items = mma.items(CLIPS[:4], msgspec.structs.replace(QUICK, classes=chosen))
    assert {clean(c) for c in items[0].choices} == {clean(c) for c in chosen}
    with pytest.raises(ValueError, match="twice"):
        mma.items(CLIPS[:4], msgspec.structs.replace(QUICK, classes=("bell", "Bell")))


def test_settings_and_names_are_checked() -> None:
    assert load("av-confuse").NAME == load("av_confuse").NAME == "av_confuse"
    with pytest.raises(ValueError, match="there are mma, thud"):
        load("mmma")
    with pytest.raises(ValueError, match="audio_swapped"):
        Settings(mma_conditions=("swapped",))
    with pytest.raises(ValueError, match="milliseconds"):
        Settings(ladder=(400.0,))
    with pytest.raises(ValueError, match="at least one seed"):
        Settings(seeds=())


def test_ignoring_the_sound_is_shown_by_equivalence_not_by_a_large_p() -> None:
    clips = foley.clip_set(60, seed=4).clips
    items = mma.items(clips, Settings(long_context_tokens=20, seeds=(0,), mma_styles=("standard",)))
    watched = table(mma.tables(judge(items, watcher)), "mma_ignores")
    heard = table(mma.tables(judge(items, listener)), "mma_ignores")
    few = {c.id for c in clips[:16]}
    little = table(mma.tables(judge([i for i in items if i.clip in few], watcher)), "mma_ignores")

    def p(t: Table) -> float:
        found = cell(t, "audio swapped", "p")
        assert isinstance(found, float)
        return found

    assert p(watched) < 0.05
    assert value(watched, "audio swapped", "difference") == 0
    assert p(heard) > 0.9
    assert value(heard, "audio swapped", "difference") == -1
    assert cell(little, "audio swapped", "p") is None or p(little) > 0.05
