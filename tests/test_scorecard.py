"""The scorecard of a repair: controls with a known grounding get the marks that they deserve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import msgspec
import numpy as np
import pytest

from earwitness import scorecard, scoring
from earwitness.audit import Bank
from earwitness.datasets.opening import open_clips
from earwitness.models.fake import control
from earwitness.protocols import Settings, items_of, load
from earwitness.records import Estimate, Judged

LIMIT = 30
QUICK = Settings(seeds=(0,), long_context_tokens=5, ladder=(), donor_uses=2)


@pytest.fixture(scope="module")
def asked() -> dict[str, list[Judged]]:
    """All protocols' items, answered by a listener, a watcher and one that guesses."""
    clips = open_clips("foley", limit=LIMIT, seed=3)
    items = [i for name in ("mma", "thud", "av-confuse") for i in items_of(load(name), clips.clips, QUICK, ())]
    out = {}
    bank = Bank(clips, control("hears").view)
    condition = cache(bank.condition)  # several questions are asked about each
    media = [condition(i.clip, i.intervention) for i in items]
    for kind in ("hears", "sees", "random"):
        answers = control(kind).answer(items, media)
        out[kind] = [Judged(i, a, scoring.score(i, a)) for i, a in zip(items, answers, strict=True)]
    return out


def _value(card: Mapping[str, Estimate | None], label: str) -> float:
    found = card[label]
    assert isinstance(found, Estimate)
    assert found.low <= found.value <= found.high
    return found.value


def test_a_listener_and_a_watcher_get_opposite_cards(asked: dict[str, list[Judged]]) -> None:
    hears, sees = scorecard.card(asked["hears"]), scorecard.card(asked["sees"])
    for card, heard in ((hears, 1.0), (sees, 0.0)):
        assert _value(card, "conflict, asked what is heard: right") == heard
        assert _value(card, "conflict, asked what is heard: names what is seen") == 1 - heard
        assert _value(card, "Mute Hallucination (neutral)") == 1 - heard
        assert _value(card, "sound muted, may abstain: abstains") == heard
        assert _value(card, "sound left out: says no (neutral)") == heard
        assert _value(card, "untouched clips: right") > 0.9
    assert _value(hears, "is there a sound of it: d' (neutral)") > 2
    assert abs(_value(sees, "is there a sound of it: d' (neutral)")) < 0.5


def test_every_measure_has_answers_in_a_whole_audit(asked: dict[str, list[Judged]]) -> None:
    missing = {label for label, found in scorecard.card(asked["hears"]).items() if found is None}
    assert not missing
    blind = {label for label, found in scorecard.card(asked["sees"]).items() if found is None}
    nothing_to_see = "picture black, asked what is heard: right"
    assert blind <= {nothing_to_see, "Direction Confusion (neutral)", "Direction Confusion (direct)"}


def test_two_runs_stand_side_by_side_with_their_difference(asked: dict[str, list[Judged]]) -> None:
    table = scorecard.table({"before": asked["sees"], "after": asked["hears"]})
    assert table.columns == ("before", "after", "difference", "goal")
    row = next(r for r in table.rows if r.label == "conflict, asked what is heard: right")
    assert isinstance(row.cells[2], Estimate)
    assert row.cells[2].value == 1.0
    assert row.cells[2].low > 0.5
    assert row.cells[3] == "at least 0.85"
    assert "Untouched clips" in table.caption
    assert scorecard.table({"one": asked["sees"]}).columns == ("one", "goal")
    with pytest.raises(ValueError, match="at least one run"):
        scorecard.table({})


def test_the_same_run_twice_is_no_difference_but_no_proof_on_few_clips(asked: dict[str, list[Judged]]) -> None:
    same = scorecard.natural(asked["hears"], asked["hears"])
    assert same is not None
    assert same.value == 0
    assert same.p is not None
    assert same.p > 0.05  # 30 clips do not show a margin of two points
    assert scorecard.natural(asked["hears"], asked["hears"], margin=0.2).p < 0.05  # type: ignore[union-attr]


def guessing(judged: Sequence[Judged], seed: int, alarms: float) -> list[Judged]:
    """The same answers, but in the dark a guess: shifted in ``alarms`` of the clips, late or early."""
    rng = np.random.default_rng(seed)
    out = []
    for j in judged:
        if j.item.protocol == "thud" and j.item.condition in ("unseen", "dark"):
            label = str(rng.choice(["DELAY", "EARLY"])) if rng.random() < alarms else "SYNC"
            j = Judged(j.item, j.answer, msgspec.structs.replace(j.score, label=label))
        out.append(j)
    return out


def by_trace(judged: Sequence[Judged]) -> list[Judged]:
    """The same answers, but in the dark the direction is known, and untouched clips are in sync."""
    return [
        Judged(j.item, j.answer, msgspec.structs.replace(j.score, label="DELAY" if j.item.offset > 0 else "EARLY"))
        if j.item.condition == "unseen"
        else j
        for j in judged
    ]


def test_guessing_more_in_the_dark_is_neither_better_nor_worse(asked: dict[str, list[Judged]]) -> None:
    before, after = asked["hears"], guessing(asked["hears"], 1, 0.9)
    rows = {r.label: r for r in scorecard.table({"before": before, "after": after}).rows}
    for style in ("neutral", "direct"):
        right, alarms, beyond = (
            rows[f"{what} ({style})"].cells
            for what in (
                "moved, picture black: direction right", "untouched, picture black: called shifted",
                "picture black: direction right beyond alarms",
            )
        )  # fmt: skip
        for one in (right, alarms):
            assert one[-1] == "neither"
            assert isinstance(one[2], Estimate)
            assert one[2].value > 0.2  # it is more, and that is no verdict
        assert beyond[-1] == "low"
        assert all(isinstance(c, Estimate) and c.low <= 0 <= c.high for c in beyond[:3])
    told = {r.label: r for r in scorecard.table({"before": before, "after": by_trace(before)}).rows}
    learned = told["picture black: direction right beyond alarms (direct)"].cells
    assert [c.value for c in learned[:3] if isinstance(c, Estimate)] == [0.0, 1.0, 1.0]
    added = told["what the picture adds to the direction (direct)"].cells
    assert [c.value for c in added[:3] if isinstance(c, Estimate)] == [1.0, 0.0, -1.0]
    assert added[-1] == "high"


@pytest.mark.parametrize("kind", ["hears", "sees", "random"])
def test_controls_that_hear_no_trace_are_right_beyond_no_alarm(asked: dict[str, list[Judged]], kind: str) -> None:
    for style in ("neutral", "direct"):
        found = scorecard.card(asked[kind])[f"picture black: direction right beyond alarms ({style})"]
        assert found is not None
        assert found.low < 0 < found.high
        assert kind == "random" or found.value == 0


def test_a_run_that_was_never_asked_in_the_dark_has_no_such_line(asked: dict[str, list[Judged]]) -> None:
    old = [j for j in asked["hears"] if j.item.condition != "dark"]
    rows = {r.label for r in scorecard.table({"old": old, "new": asked["hears"]}).rows}
    assert "picture black: direction right beyond alarms (direct)" in rows
    m = next(m for m in scorecard.DARK if m.label == "picture black: direction right beyond alarms (direct)")
    assert scorecard.of_run(m, old) is None
    assert scorecard.change(m, old, asked["hears"]) is None


def test_parts_that_were_not_asked_are_left_out(asked: dict[str, list[Judged]]) -> None:
    some = [j for j in asked["hears"] if j.item.protocol == "mma"]
    table = scorecard.table({"mma": some})
    assert not [r for r in table.rows if "neutral" in r.label]
    assert [r for r in table.rows if r.label.startswith("conflict")]
