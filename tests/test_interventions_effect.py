"""The EFFECT table, its rule, and the interventions on words."""

from __future__ import annotations

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earwitness.interventions import EFFECT, long_context, misleading_caption, right_answer, with_none_option
from earwitness.interventions.text import _WORDS
from earwitness.records import NONE_OF_THE_ABOVE, Evidence, InterventionKind

KINDS = get_args(InterventionKind)
EVIDENCE = get_args(Evidence)


def test_the_table_is_complete_and_read_only() -> None:
    assert set(EFFECT) == set(KINDS)
    for kind in KINDS:
        assert set(EFFECT[kind]) == set(EVIDENCE)
        assert EFFECT[kind]["text"] == "untouched"
    with pytest.raises(TypeError):
        EFFECT["mute"]["audio"] = "untouched"  # type: ignore[index]


def test_a_stream_that_is_left_alone_is_untouched() -> None:
    for kind in ("mute", "no_track", "shift", "swap", "drop_stem", "background", "tone", "noise"):
        assert EFFECT[kind]["video"] == "untouched"
        assert EFFECT[kind]["audio"] != "untouched"
    for kind in ("black", "no_frames", "freeze"):
        assert EFFECT[kind]["audio"] == "untouched"
        assert EFFECT[kind]["video"] != "untouched"


def test_touching_either_stream_touches_their_relation() -> None:
    for kind in KINDS:
        touched = EFFECT[kind]["audio"] != "untouched" or EFFECT[kind]["video"] != "untouched"
        assert (EFFECT[kind]["sync"] != "untouched") == touched


@pytest.mark.parametrize(
    ("kind", "evidence", "expected"),
    [
        ("original", "audio", "bell"),
        ("sham", ("audio", "video", "sync"), "bell"),
        ("mute", "audio", "nothing"),
        ("mute", "video", "bell"),
        ("mute", ("audio", "video"), "nothing"),
        ("no_track", ("audio",), "nothing"),
        ("mute", "sync", "nothing"),
        ("black", "video", "nothing"),
        ("black", "audio", "bell"),
        ("no_frames", ["video", "audio"], "nothing"),
        ("freeze", "sync", "nothing"),
        ("shift", "audio", "bell"),
        ("shift", "video", "bell"),
        ("swap", "video", "bell"),
        ("background", ("video", "text"), "bell"),
    ],
)
def test_right_answer_by_the_table(kind: InterventionKind, evidence: Evidence, expected: str) -> None:
    assert right_answer(kind, evidence, "bell", "nothing") == expected


def test_gone_evidence_without_an_absent_answer_leaves_nothing_right() -> None:
    assert right_answer("mute", "audio", "bell", None) is None


@pytest.mark.parametrize("kind", ["swap", "drop_stem", "background", "tone", "noise"])
@pytest.mark.parametrize("evidence", ["audio", "sync"])
def test_replaced_evidence_needs_a_new_truth(kind: InterventionKind, evidence: Evidence) -> None:
    with pytest.raises(ValueError, match=f"{kind} replaces .* give new_truth"):
        right_answer(kind, evidence, "bell", "nothing")
    assert right_answer(kind, evidence, "bell", "nothing", new_truth="drum") == "drum"


def test_a_shift_never_keeps_the_truth_about_synchrony_or_time() -> None:
    with pytest.raises(ValueError, match="new_truth"):
        right_answer("shift", "sync", "synchronized", None)
    assert right_answer("shift", "sync", "synchronized", None, new_truth="delayed") == "delayed"
    with pytest.raises(ValueError, match="asks when"):
        right_answer("shift", "audio", "2.0 s", None, asks_when=True)
    assert right_answer("shift", "audio", "2.0 s", None, new_truth="3.0 s", asks_when=True) == "3.0 s"


def test_a_new_truth_against_the_table_is_a_slip() -> None:
    with pytest.raises(ValueError, match="wrong kind, wrong evidence"):
        right_answer("swap", "video", "bell", None, new_truth="drum")
    with pytest.raises(ValueError, match="asks_when forgotten"):
        right_answer("shift", "audio", "2.0 s", None, new_truth="3.0 s")
    with pytest.raises(ValueError, match="as absent"):
        right_answer("mute", "audio", "bell", "nothing", new_truth="drum")
    assert right_answer("mute", "audio", "bell", "nothing", new_truth="nothing") == "nothing"


def test_wrong_words_are_named() -> None:
    with pytest.raises(ValueError, match="unknown intervention 'silence'; known: original"):
        right_answer("silence", "audio", "a", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown evidence 'sound'; known: audio"):
        right_answer("mute", "sound", "a", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no evidence"):
        right_answer("mute", (), "a", None)


def test_every_cell_gives_an_answer_or_asks_for_the_truth() -> None:
    for kind, evidence in itertools.product(KINDS, EVIDENCE):
        effect = EFFECT[kind][evidence]
        if effect == "replaced":
            assert right_answer(kind, evidence, "t", "a", new_truth="n") == "n"
        else:
            assert right_answer(kind, evidence, "t", "a") == ("a" if effect == "removed" else "t")


# ---------------------------------------------------------------- words


def test_misleading_caption_in_the_papers_words() -> None:
    question = "Which class best describes the *visual* content of this video?"
    assert misleading_caption(question, "Vehicle") == f"Video_caption: Vehicle. {question}"
    with pytest.raises(ValueError, match="empty"):
        misleading_caption(question, " ")
    with pytest.raises(ValueError, match="true of this clip"):
        misleading_caption(question, "vehicle", truths=("Bird", "Vehicle"))


@given(st.integers(0, 400), st.sampled_from(["before", "after"]), st.integers(0, 2**32))
def test_long_context_is_exact_in_words(tokens: int, position: str, seed: int) -> None:
    prompt = "What do you hear?\nOptions: {a, b}"
    text = long_context(prompt, tokens, position, seed)  # type: ignore[arg-type]
    assert len(text.split()) == tokens + len(prompt.split())
    assert text.endswith(prompt) if position == "before" else text.startswith(prompt)
    assert text == long_context(prompt, tokens, position, seed)  # type: ignore[arg-type]


def test_long_context_of_one_seed_grows_at_its_end() -> None:
    short, long = (long_context("", n, "after", 3).split() for n in (50, 10_000))
    assert long[:50] == short
    assert len(long) == 10_000
    assert long_context("q", 50, seed=1) != long_context("q", 50, seed=2)
    assert len(set(long)) > 300


def test_long_context_by_a_tokenizer() -> None:
    def letters(text: str) -> int:  # a tokenizer of three-letter pieces
        return sum(-(-len(w) // 3) for w in text.split())

    for tokens in range(1, 60):
        filler = long_context("PROMPT", tokens, "before", 7, count=letters).removesuffix("\n\nPROMPT")
        assert letters(filler) == tokens

    def even(text: str) -> int:  # one that cannot hit odd counts
        return 2 * len(text.split())

    assert even(long_context("", 101, "after", count=even)) == 100


def test_long_context_argues_for_no_option() -> None:
    assert len(set(_WORDS)) == len(_WORDS)
    assert not {"yes", "no", "silent", "early", "late", "delayed", "sound", "dog", "a", "b", "none"} & set(_WORDS)
    assert "about" in long_context("", 5000, "after").split()
    assert "about" not in long_context("", 5000, "after", avoid=("How About", "x_above")).split()


def test_long_context_slips() -> None:
    with pytest.raises(ValueError, match="-1 tokens"):
        long_context("q", -1)
    with pytest.raises(ValueError, match="'before' or 'after'"):
        long_context("q", 1, "append")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no word"):
        long_context("q", 1, avoid=_WORDS)
    assert long_context("q", 0) == "q"


@given(st.lists(st.text(min_size=1), min_size=1))
def test_none_option_is_added_once(choices: list[str]) -> None:
    once = with_none_option(choices)
    assert with_none_option(once) == once
    assert sum(c.strip().casefold() == NONE_OF_THE_ABOVE.casefold() for c in once) >= 1
    assert once[: len(choices)] == tuple(choices)


def test_none_option_slips() -> None:
    with pytest.raises(ValueError, match="at least one"):
        with_none_option(())
    with pytest.raises(ValueError, match="as a sequence"):
        with_none_option("Bird")
