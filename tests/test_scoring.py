"""One function says whether an answer is right; what it cannot read, it does not score."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earwitness import foley, questions, scoring
from earwitness.protocols import Settings, load
from earwitness.records import NONE_OF_THE_ABOVE, Answer, Clip, Item

SOME = Settings(long_context_tokens=20)
CLIPS = [
    *foley.clip_set(6, seed=1).clips,
    *foley.clip_set(4, seed=2, kind="impact").clips,
    *foley.clip_set(3, seed=3, sources=2).clips,
]
ITEMS = [item for name in ("mma", "thud", "av_confuse") for item in load(name).items(CLIPS, SOME)]


def item(question: str, style: str = "neutral", **fields: object) -> Item:
    base = Item(
        id="i",
        protocol="thud",
        condition="c",
        question=question,
        style=style,
        clip="c",
        source="c",
        group="g",
        prompt="?",
        target=None,
    )
    return msgspec.structs.replace(base, **fields)


def label(asked: Item, text: str) -> tuple[str, bool | None]:
    score = scoring.score(asked, Answer(item=asked.id, model="m", text=text))
    return score.label, score.correct


def test_the_right_wording_is_right_and_nothing_else_is() -> None:
    for asked in ITEMS:
        if asked.target is None:
            continue
        text = questions.wording(
            asked.question,
            asked.target,
            asked.style,
            seen=asked.seen,
            heard=asked.heard,
            offset=asked.offset or None,
        )
        score = scoring.score(asked, Answer(item=asked.id, model="m", text=text))
        assert score.correct is True, (asked.question, asked.style, asked.condition, text)
        assert scoring.reward(asked, text) == 1.0
        if asked.question == "shift" and asked.style == "neutral" and asked.offset:
            assert score.offset == pytest.approx(asked.offset, abs=0.051)


def test_each_other_choice_is_wrong() -> None:
    for asked in ITEMS:
        if asked.target is None or not asked.choices or asked.question in questions.DIRECT:
            continue
        for choice in asked.choices:
            if choice != asked.target:
                text = f"Final Answer: {choice}" if asked.style == "cot" else choice
                assert label(asked, text) == (choice, False)


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_empty_answers_are_failures(text: str) -> None:
    assert label(item("mute", target="SILENT"), text) == ("ERROR", None)


def test_errors_and_missing_targets_are_unscored() -> None:
    asked = item("audio", protocol="mma", choices=("bell", "drum"))
    failed = scoring.score(asked, Answer(item="i", model="m", error="out of memory"))
    assert (failed.label, failed.correct) == ("ERROR", None)
    assert label(asked, "bell") == ("bell", None)  # no right answer there: the label still counts for the leak
    with pytest.raises(ValueError, match="no target"):
        scoring.reward(asked, "bell")
    with pytest.raises(ValueError, match="not to"):
        scoring.score(asked, Answer(item="other", model="m", text="bell"))
    with pytest.raises(ValueError, match="no choices"):
        label(item("new question"), "bell")


@pytest.mark.parametrize(
    ("asked", "text", "want"),
    [
        (item("audio", choices=("bell", "drum"), target="bell"), "Bells.", ("bell", True)),
        (item("audio", choices=("bell", "drum"), target="bell"), "bell and drum", ("UNPARSED", None)),
        (
            item("audio", choices=("bell", NONE_OF_THE_ABOVE), target=NONE_OF_THE_ABOVE),
            "It is silent.",
            (NONE_OF_THE_ABOVE, True),
        ),
        (
            item("audio", choices=("bell", "drum"), target="bell"),
            "The video shows a drum. The audio is a bell.",
            ("bell", True),
        ),
        (item("mute", target="SILENT"), "I cannot hear any audio.", ("SILENT", True)),
        (item("mute", target="SILENT", seen=("kettle",)), "kettle", ("SOUND_DESCRIBED", False)),
        (item("mute", "direct", target="SILENT", choices=("sound", "silent")), "Silent.", ("SILENT", True)),
        (
            item("swap", target="MISMATCH", seen=("kettle",), heard=("zither",)),
            "I see a kettle and hear a zither.",
            ("MISMATCH", True),
        ),
        (
            item("swap", target="MISMATCH", seen=("kettle",), heard=("zither",)),
            "I see a kettle and hear a kettle.",
            ("MATCH", False),
        ),
        (item("swap", "direct", target="MISMATCH", choices=("yes", "no")), "no", ("MISMATCH", True)),
        (item("shift", target="DELAY"), "They are out of sync.", ("DESYNC_NO_DIRECTION", False)),
        (item("shift", "direct", target="DELAY", choices=("A", "B", "C")), "B", ("DELAY", True)),
        (
            item("shift", "direct", target="DELAY", choices=("A", "B", "C")),
            "The audio is delayed.",
            ("DELAY", True),
        ),
        (
            item("shift", "direct", target="DELAY", choices=("A", "B", "C")),
            "C) The audio is delayed.",
            ("UNPARSED", None),
        ),
        (item("shift", "direct", target="DELAY", choices=("A", "B", "C")), "I don't know", ("REFUSED", None)),
        (item("muted", asked="piano", target="no"), "Yes, there is a piano sound.", ("yes", False)),
        (item("muted", asked="piano", target="no"), "I do not know.", ("REFUSED", None)),
        (item("muted", asked="piano", target="no"), "There is a violin but no piano.", ("no", True)),
        (
            item("modified", target="HEARD", heard=("rain",), seen=("dog",)),
            "I see a dog. I hear rain.",
            ("HEARD", True),
        ),
        (
            item("modified", target="HEARD", heard=("rain",), seen=("dog",)),
            "I see a dog. It barks.",
            ("NOT_HEARD", False),
        ),
        (
            item("modified", target="HEARD", heard=("bird",), seen=("dog",)),
            "I see a bird. I hear a dog.",
            ("NOT_HEARD", False),
        ),
        (item("modified", target="HEARD", heard=("rain",)), "I can't help with that.", ("REFUSED", None)),
    ],
)
def test_by_question(asked: Item, text: str, want: tuple[str, bool | None]) -> None:
    assert label(asked, text) == want


def test_sections_of_the_released_format_are_told_apart() -> None:
    asked = item("modified", target="HEARD", heard=("thunder",), seen=("dog",))
    text = "Based on the video, a dog is running on grass.\nBased on the audio, there is thunder and rain."
    score = scoring.score(asked, Answer(item="i", model="m", text=text))
    assert (score.label, score.recall) == ("HEARD", 1.0)
    assert score.said_seen == ("dog",)
    assert score.said_heard == ("thunder", "rain")


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=120), st.integers(0, len(ITEMS) - 1))
def test_any_text_is_scored_or_left_unscored(text: str, index: int) -> None:
    asked = ITEMS[index]
    score = scoring.score(asked, Answer(item=asked.id, model="m", text=text))
    assert (score.correct is None) == (score.label in scoring.UNSCORED or asked.target is None)
    if asked.target is not None:
        assert scoring.reward(asked, text) == float(score.correct is True)


def test_real_clips_without_foley_names_score_too() -> None:
    clips = [Clip(id=n, path="x", seen=(n,), heard=(n,), end=9.0) for n in ("Acoustic_guitar", "Didgeridoo", "Cat")]
    for asked in load("mma").items(clips, SOME):
        if asked.target is not None and asked.style == "standard":
            assert label(asked, f"the {asked.target.lower().replace('_', ' ')}s") == (asked.target, True)
