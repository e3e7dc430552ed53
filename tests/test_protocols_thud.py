"""Thud: known answerers get the known tables; the paper's identities hold whatever is answered."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earwitness import foley, questions, scoring
from earwitness.protocols import Settings, thud
from earwitness.protocols.making import fits
from earwitness.protocols.thud_controls import beyond_alarms, in_the_dark
from earwitness.protocols.thud_tables import AXES, avg_gap, axis, three_class
from earwitness.records import Answer, Clip, Estimate, Event, Item, Judged, Score
from tables import cell, judge, table, value

STRUCK = foley.clip_set(260, seed=2, kind="impact").clips
CENTRAL = [c for c in STRUCK if fits(c, 2.5) and fits(c, -2.5)][:12]  # these allow the published design
CLIPS = [*foley.clip_set(12, seed=1).clips, *CENTRAL]
PUBLISHED = Settings(thud_conditions=("original", "shift", "ladder", "mute", "swap"))
ITEMS = thud.items(CLIPS, PUBLISHED)
CONTROLLED = thud.items(STRUCK[:60], Settings())
NEUTRAL = [i for i in ITEMS if i.style == "neutral"]


def told(items: list[Item], labels: list[str]) -> list[Judged]:
    """Judged by label, without words."""
    out = []
    for item, label in zip(items, labels, strict=True):
        correct = None if label in scoring.UNSCORED else label == item.target
        score = Score(item=item.id, group=item.group, condition=item.condition, label=label, correct=correct)
        out.append(Judged(item, Answer(item=item.id, model="test", text="."), score))
    return out


def listener(item: Item) -> str:
    assert item.target is not None
    return questions.wording(
        item.question, item.target, item.style, seen=item.seen, heard=item.heard, offset=item.offset or None
    )


def watcher(item: Item) -> str:
    natural = {"mute": "SOUND_DESCRIBED", "swap": "MATCH", "shift": "SYNC"}[item.question]
    return questions.wording(item.question, natural, item.style, seen=item.seen, heard=item.seen)


@pytest.mark.parametrize("style", ["neutral", "direct"])
def test_a_listener_is_right_everywhere(style: str) -> None:
    made = thud.tables(judge(ITEMS, listener))
    accuracy = table(made, f"thud_accuracy_{style}")
    for name in ("synchrony", "existence", "consistency"):
        assert value(accuracy, name, "original") == value(accuracy, name, "intervened") == 1.0
        assert value(accuracy, name, "gap") == 0.0
    assert value(accuracy, "Avg Gap", "gap") == 0.0
    axes = table(made, f"thud_axes_{style}")
    assert all(value(axes, name, "rate") == 0.0 for name in AXES)
    bands = table(made, f"thud_bands_{style}")
    assert all(
        r.cells[0].value == 1.0 for r in bands.rows if r.kind == "model" and isinstance(r.cells[0], Estimate)
    )


@pytest.mark.parametrize("style", ["neutral", "direct"])
def test_a_watcher_has_the_largest_gap(style: str) -> None:
    made = thud.tables(judge(ITEMS, watcher))
    accuracy = table(made, f"thud_accuracy_{style}")
    assert value(accuracy, "Avg Gap", "gap") == 1.0
    assert value(accuracy, "synchrony, balanced over in sync / late / early", "original") == pytest.approx(1 / 3)
    axes = table(made, f"thud_axes_{style}")
    want = {"Mute Hallucination": 1.0, "Swap False-Match": 1.0, "Offset Blindness": 1.0}
    for name in AXES:
        if name == "Direction Confusion":
            assert cell(axes, name, "rate") is None  # it never notices a shift
        else:
            assert value(axes, name, "rate") == want.get(name, 0.0)
    confusion = table(made, f"thud_confusion_{style}")
    assert value(confusion, "shift, shift task", "hallucinated sync") == 1.0


def test_baselines_are_in_the_tables() -> None:
    made = thud.tables(judge(NEUTRAL, listener))
    accuracy = table(made, "thud_accuracy_neutral")
    assert value(accuracy, "always in sync, a sound, a match: synchrony", "intervened") == 0.0
    assert value(accuracy, "always late: synchrony", "intervened") == 0.5
    assert {r.kind for r in accuracy.rows} == {"model", "baseline"}


def test_styles_are_never_mixed() -> None:
    made = thud.tables(judge(ITEMS, lambda i: listener(i) if i.style == "neutral" else watcher(i)))
    assert value(table(made, "thud_accuracy_neutral"), "Avg Gap", "gap") == 0.0
    assert value(table(made, "thud_accuracy_direct"), "Avg Gap", "gap") == 1.0
    n = cell(table(made, "thud_accuracy_neutral"), "existence", "answers")
    assert n == sum(i.question == "mute" for i in NEUTRAL)


ALL = {"mute": questions.LABELS["mute"], "swap": questions.LABELS["swap"], "shift": questions.LABELS["shift"]}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_the_identities_hold_for_any_answers(seed: int, gaps: bool) -> None:
    rng = np.random.default_rng(seed)
    pools = {t: (*labels, "UNPARSED", "ERROR") if gaps else labels for t, labels in ALL.items()}
    judged = told(NEUTRAL, [str(rng.choice(pools[i.question])) for i in NEUTRAL])
    rates = {name: axis(judged, name) for name in AXES}
    accuracy = table(thud.tables(judged), "thud_accuracy_neutral")
    blind, confused, alarm = (rates[n] for n in ("Offset Blindness", "Direction Confusion", "False Sync Alarm"))
    assert blind is not None
    assert alarm is not None
    assert value(accuracy, "synchrony", "original") == pytest.approx(1 - alarm.value)
    shift = value(accuracy, "synchrony", "intervened")
    assert shift == pytest.approx((1 - blind.value) * (1 - (confused.value if confused else 0.0)))
    gap = avg_gap(judged)
    if gap is not None and not gaps:
        names = ("synchrony", "existence", "consistency")
        drops = [value(accuracy, n, "original") - value(accuracy, n, "intervened") for n in names]
        assert gap.value == pytest.approx(sum(drops) / 3)
        assert gap.low <= gap.value <= gap.high
        sync = [j.score.correct for j in judged if j.item.question == "shift" and j.item.condition != "ladder"]
        assert np.mean([bool(c) for c in sync]) == pytest.approx(
            three_class(value(accuracy, "synchrony", "original"), shift)
        )


def test_avg_gap_wants_all_three() -> None:
    judged = judge(NEUTRAL, watcher)
    assert avg_gap(judged) is not None
    for gone in ("shift", "mute", "swap"):
        some = [j for j in judged if j.item.condition != gone]
        assert avg_gap(some) is None
        assert "Avg Gap" not in {r.label for t in thud.tables(some) for r in t.rows}
    assert thud.tables([]) == []


def test_errors_are_unscored_and_bounded() -> None:
    made = thud.tables(judge(NEUTRAL, lambda i: None if i.condition == "mute" else listener(i)))
    row = table(made, "thud_accuracy_neutral")
    assert cell(row, "existence", "intervened") is None
    assert cell(row, "existence", "failed") == 24
    assert (cell(row, "existence", "lowest"), cell(row, "existence", "highest")) == (0.5, 1.0)
    assert cell(table(made, "thud_axes_neutral"), "Mute Hallucination", "rate") is None


def test_localisation_counts_missed_and_unnumbered_shifts_as_failed() -> None:
    shifted = [i for i in NEUTRAL if i.condition == "shift"]

    def says(item: Item) -> str:
        if item.offset > 0:
            return f"Not in sync: the audio is delayed by {item.offset + 0.4:.2f} s."
        return (
            "The audio is early." if item.clip < sorted(i.clip for i in shifted)[len(shifted) // 2] else "In sync."
        )

    row = table(
        thud.tables(judge(NEUTRAL, lambda i: says(i) if i in shifted else listener(i))), "thud_localisation_neutral"
    )
    assert value(row, "about 2 s, late", "within 0.5 s") == 1.0
    assert value(row, "about 2 s, both", "within 1.0 s") == 0.5
    assert value(row, "about 2 s, both", "mean error in s") == pytest.approx(0.4)
    assert cell(row, "about 2 s, both", "states an offset") == len(shifted) // 2
    closed = thud.tables(judge([i for i in ITEMS if i.style == "direct"], listener))
    assert "thud_localisation_direct" not in {t.id for t in closed}


def test_the_items_are_the_published_design() -> None:
    shifts = [i for i in NEUTRAL if i.condition == "shift"]
    assert len(shifts) == 24
    for item in shifts:
        assert 1.8 <= abs(item.offset) <= 2.5
        assert item.intervention.seconds == item.offset
        assert item.target == ("DELAY" if item.offset > 0 else "EARLY")
    assert sum(i.offset > 0 for i in shifts) == 12
    by_clip = {i.clip: sorted(j.offset for j in shifts if j.clip == i.clip) for i in shifts}
    assert all(low == -high for low, high in by_clip.values())
    ladder = {i.offset for i in NEUTRAL if i.condition == "ladder"}
    assert ladder == {s * d for s in (1.6, 1.2, 0.8, 0.4) for d in (1, -1)}
    originals = [i for i in NEUTRAL if i.condition == "original" and i.question == "shift"]
    assert {i.clip for i in originals} == {i.clip for i in shifts}
    for item in ITEMS:
        if item.condition == "mute":
            assert (item.target, item.heard) == ("SILENT", ())
        if item.condition == "swap":
            assert item.target == "MISMATCH"
            assert not set(item.seen) & set(item.heard)
    assert len({i.id for i in ITEMS}) == len(ITEMS)
    assert {i.id for i in thud.items(CLIPS[::-1], PUBLISHED)} == {i.id for i in ITEMS}


def test_shifts_that_nobody_could_hear_are_left_out_and_counted() -> None:
    beats = Clip(
        id="beats", path="x", end=8.0, seen=("drum",), heard=("drum",),
        events=tuple(Event("drum", t, t) for t in (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5)),
    )  # fmt: skip
    assert not fits(beats, 0.5)  # each beat falls on the next
    assert not fits(beats, 0.4)
    single = msgspec.structs.replace(beats, id="one", events=(Event("drum", 4.0, 4.0),))
    assert fits(single, 2.0)
    assert fits(single, -0.4)
    assert not fits(single, 3.8)  # 7.8 s of 8: too near to the edge
    assert not fits(msgspec.structs.replace(single, end=None), 0.4)
    assert not fits(msgspec.structs.replace(single, events=(Event("drum", None, 4.0),)), 0.4)
    assert not [i for i in thud.items([beats], Settings()) if i.question == "shift"]
    lines = thud.skipped([beats, single, Clip(id="mum", path="x", seen=("cat",))], Settings())
    assert any("10 of 20 shifts refused" in line for line in lines)
    assert any("no heard class" in line for line in lines)


def test_conditions_can_be_chosen() -> None:
    only = thud.items(CLIPS, Settings(thud_conditions=("original", "mute"), thud_styles=("direct",)))
    assert {(i.condition, i.question, i.style) for i in only} == {
        ("original", "mute", "direct"),
        ("mute", "mute", "direct"),
    }
    few = thud.items(CLIPS, Settings(clip_limit=4))
    assert len({i.clip for i in few}) == 4


@pytest.mark.parametrize(("says", "value"), [(watcher, 1.0), (listener, 0.0)])
def test_avg_gap_has_a_width_where_all_answers_agree(says: Callable[[Item], str], value: float) -> None:
    """A resampled interval would print [1.000, 1.000] here; a few clips do not prove a rate of exactly 1."""
    gap = avg_gap(judge(NEUTRAL, says))
    assert gap is not None
    assert gap.value == value
    assert gap.high - gap.low > 0.1
    assert -1 <= gap.low <= value <= gap.high <= 1


def test_clips_of_one_direction_are_used_as_often_late_as_early() -> None:
    moved = thud.shifts(STRUCK, Settings())
    for level in ("shift", 1.6, 1.2, 0.8, 0.4):
        some = [
            (i, s)
            for i, shifts in moved.items()
            for c, s in shifts
            if (c == level if level == "shift" else (c, abs(s)) == ("ladder", level))
        ]
        late, early = ({i for i, s in some if sign * s > 0} for sign in (1, -1))
        assert len(late) == len(early) > 20
        assert late - early
        assert early - late  # clips of one direction are among them
    clips = {c.id: c for c in STRUCK}
    assert all(fits(clips[i], s) for i, shifts in moved.items() for _, s in shifts)
    assert thud.shifts(STRUCK[::-1], Settings()) == moved


def test_an_untouched_sound_may_lie_wherever_a_moved_one_does() -> None:
    """Else the ear alone tells a shift: in the first set of impacts, all of them lay mid-clip."""
    heard = [e.heard or 0.0 for c in STRUCK for e in c.events]
    asked = [i for i in CONTROLLED if i.condition == "shift"]
    clips = {c.id: c for c in STRUCK}
    moved = [(clips[i.clip].events[0].heard or 0.0) + i.offset for i in asked]
    low, high = np.quantile(moved, (0.25, 0.75))
    assert np.mean([t < low for t in heard]) > 0.05
    assert np.mean([t > high for t in heard]) > 0.05


def test_controls_of_a_shift_change_nothing_that_is_asked_or_everything() -> None:
    by = {c: [i for i in CONTROLLED if i.condition == c] for c in ("hush", "unseen", "dark", "shift", "mute_room")}
    assert all(by.values())
    for item in by["hush"]:
        assert (item.target, item.offset, item.intervention.kind) == ("SYNC", 0.0, "hush")
    assert {(i.clip, i.style, i.offset) for i in by["unseen"]} == {(i.clip, i.style, i.offset) for i in by["shift"]}
    for item in by["unseen"]:
        assert (item.target, item.seen) == (None, ())
        assert item.intervention.unseen
    for item in by["dark"]:
        assert (item.target, item.seen, item.offset, item.intervention.kind) == (None, (), 0.0, "black")
        assert item.heard
    for item in by["mute_room"]:
        assert (item.target, item.heard, item.intervention.fill) == ("SILENT", (), "room")
    assert all(i.intervention.fill == "room" for c in ("hush", "unseen", "shift") for i in by[c])


def test_who_hears_the_fill_is_found_out_by_the_controls() -> None:
    """Right about every shift, by its filled edge: so also in the dark, and where nothing was moved."""

    def edges(item: Item) -> str:
        by = item.intervention.seconds
        label = "SYNC" if item.question != "shift" or by == 0 else "DELAY" if by > 0 else "EARLY"
        if item.question == "shift":
            return questions.wording("shift", label, item.style, seen=("x",), heard=("x",), offset=by or None)
        return listener(item)

    made = table(thud.tables(judge(CONTROLLED, edges)), "thud_controls_direct")
    assert value(made, "moved: direction right", "rate") == 1.0
    assert value(made, "moved, picture black: direction right", "rate") == 1.0
    assert value(made, "picture black: direction right beyond alarms", "rate") == 1.0
    assert value(made, "what the picture adds", "rate") == 0.0
    assert value(made, "untouched: called shifted", "rate") == 0.0
    assert value(made, "filled, not moved: called shifted", "rate") == 1.0

    def looks(item: Item) -> str:
        if item.condition in ("unseen", "dark"):
            return questions.wording("shift", "SYNC", item.style, seen=(), heard=("x",), offset=None)
        return listener(item)

    made = table(thud.tables(judge(CONTROLLED, looks)), "thud_controls_direct")
    assert value(made, "moved, picture black: direction right", "rate") == 0.0
    assert value(made, "picture black: direction right beyond alarms", "rate") == 0.0
    assert value(made, "what the picture adds", "rate") == 1.0
    assert value(made, "filled, not moved: called shifted", "rate") == 0.0
    assert value(made, "only room tone left: hears a sound", "rate") == 0.0


DARK = [i for i in CONTROLLED if i.condition in ("unseen", "dark")]


def test_the_dark_is_asked_once_a_clip_where_a_shift_is_asked_there() -> None:
    moved, still = ([i for i in DARK if i.condition == c] for c in ("unseen", "dark"))
    assert {(i.clip, i.style, i.prompt) for i in still} == {(i.clip, i.style, i.prompt) for i in moved}
    assert len(still) == len({(i.clip, i.style) for i in still}) <= len(moved)
    assert len({(i.clip, i.intervention.key) for i in still}) == len(still) / 2  # one picture for both styles
    without = Settings(thud_conditions=tuple(c for c in Settings().thud_conditions if c != "dark"))
    plain = thud.items(STRUCK[:60], without)
    assert [i for i in CONTROLLED if i.condition != "dark"] == plain  # nothing else is drawn anew
    assert {i.clip for i in thud.items(STRUCK[:60], Settings(thud_conditions=("dark",)))} == {i.clip for i in still}
    paired = in_the_dark(judge(DARK, watcher))
    assert [p.moved for p in paired] == moved


def dark_figure(labels: list[str], style: str = "direct") -> Estimate:
    some = [i for i in DARK if i.style == style]
    found = beyond_alarms(told(some, labels[: len(some)]))
    assert found is not None
    assert found.low <= found.value <= found.high
    return found


@pytest.mark.parametrize("label", ["SYNC", "DELAY", "EARLY", "DESYNC_NO_DIRECTION"])
def test_who_always_says_the_same_in_the_dark_is_right_beyond_no_alarm(label: str) -> None:
    found = dark_figure([label] * len(DARK))
    assert found.value == 0.0
    assert found.low < 0 < found.high


@pytest.mark.parametrize("weights", [(0.3, 0.35, 0.35), (0.3, 0.65, 0.05), (0.0, 0.5, 0.5)])
def test_who_guesses_in_the_dark_is_right_beyond_no_alarm(weights: tuple[float, ...]) -> None:
    """At any rate of alarms, with any leaning: right in a third of the shifts and more, and 0 beyond alarms."""
    rng = np.random.default_rng(5)
    found = [dark_figure(list(rng.choice(["SYNC", "DELAY", "EARLY"], len(DARK), p=weights))) for _ in range(300)]
    assert abs(np.mean([e.value for e in found])) < 0.02
    assert np.mean([e.low <= 0 <= e.high for e in found]) > 0.9
    some = told(DARK, list(rng.choice(["SYNC", "DELAY", "EARLY"], len(DARK), p=weights)))
    made = thud.tables(some)
    assert value(table(made, "thud_controls_direct"), "moved, picture black: direction right", "rate") > 0.15


def by_moment(item: Item, noise: float = 0.0) -> str:
    """Late where the sound lies well in the second half of the clip, early where in the first: no look needed."""
    clip = next(c for c in STRUCK if c.id == item.clip)
    assert clip.end is not None
    heard = (clip.events[0].heard or 0.0) + item.offset - (clip.end - clip.start) / 2 + noise
    return "SYNC" if abs(heard) < 0.5 else "DELAY" if heard > 0 else "EARLY"


def test_who_hears_the_moment_or_the_fill_is_right_beyond_alarms() -> None:
    some = [i for i in DARK if i.style == "direct"]
    moment = dark_figure([by_moment(i) for i in some])
    assert moment.value > 0.5
    assert moment.low > 0.3
    rng = np.random.default_rng(1)
    vague = dark_figure([by_moment(i, float(rng.normal(0, 1))) for i in some])
    assert 0.1 < vague.low < vague.value < moment.value
    edges = dark_figure(["SYNC" if i.offset == 0 else "DELAY" if i.offset > 0 else "EARLY" for i in some])
    assert edges.value == 1.0
    # Hears that something was moved, and guesses which way: half of it, as in the accuracy.
    notices = dark_figure(["SYNC" if i.offset == 0 else str(rng.choice(["DELAY", "EARLY"])) for i in some])
    assert 0.3 < notices.value < 0.7
    against = dark_figure(["SYNC" if i.offset == 0 else "DELAY" if i.offset < 0 else "EARLY" for i in some])
    assert against.value == 0.0  # never the right one: low, as is the direction


def test_the_dark_has_rows_only_where_it_was_asked_and_counts_what_could_not_be_read() -> None:
    made = table(thud.tables(told(DARK, ["DELAY"] * len(DARK))), "thud_controls_direct")
    assert value(made, "untouched, picture black: called shifted", "rate") == 1.0
    assert value(made, "moved, picture black: direction right", "rate") == pytest.approx(0.5)
    assert value(made, "picture black: direction right beyond alarms", "rate") == 0.0
    unseen = [i for i in DARK if i.condition == "unseen"]
    alone = table(thud.tables(told(unseen, ["DELAY"] * len(unseen))), "thud_controls_direct")
    assert "beyond" not in " ".join(r.label for r in alone.rows)
    assert "untouched, picture black: called shifted" not in {r.label for r in alone.rows}
    assert beyond_alarms(told(unseen, ["DELAY"] * len(unseen))) is None
    gone = told(DARK, ["UNPARSED" if i.condition == "dark" else "DELAY" for i in DARK])
    made = table(thud.tables(gone), "thud_controls_direct")
    assert cell(made, "untouched, picture black: called shifted", "rate") is None
    assert cell(made, "untouched, picture black: called shifted", "unparsed") == len(DARK) / 2 - len(unseen) / 2
    assert cell(made, "picture black: direction right beyond alarms", "rate") is None
