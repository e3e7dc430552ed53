"""Input tokens become the columns of a heat map: words one by one, filler and long text folded, nothing lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earwitness.interventions import long_context
from earwitness.whitebox.columns import FILLER, HEAD, LONG, TAIL, columns
from earwitness.whitebox.moments import GROUPS

ID = {name: n for n, name in enumerate(GROUPS)}
QUESTION = "Which class best describes the *audio content* of this video?"


def grouped(*parts: tuple[str, list[str]]) -> tuple[list[str], Any]:
    words = [w for _, some in parts for w in some]
    return words, np.array([ID[group] for group, some in parts for _ in some], np.int8)


def split(text: str) -> list[str]:
    """As a tokenizer would: a word with the space before it, line ends and marks apart."""
    return [w for part in text.replace("\n\n", " \n\n ").split(" ") for w in ([f" {part}"] if part else [])]


def test_a_filler_is_one_column_and_the_question_behind_it_is_not() -> None:
    text = long_context(QUESTION, 3000, "before")
    words, groups = grouped(
        ("sink", ["<|im_start|>"]), ("template", ["user", "\n"]), ("video", [""] * 8), ("instruction", split(text))
    )
    names, of = columns(words, groups)
    assert np.bincount(of).max() == 3000
    folded = int(np.bincount(of).argmax())
    assert names[folded].endswith("…")
    assert names[folded + 1].strip() == ""
    assert [n.strip() for n in names[folded + 2 :]] == QUESTION.split()
    assert len(names) == len(words) - 2999
    after, of = columns(*grouped(("instruction", split(long_context(QUESTION, 3000, "after")))))
    assert [n.strip() for n in after[:-2]] == QUESTION.split()
    assert int(np.bincount(of)[-1]) == 3000


def test_a_long_system_turn_is_folded_in_its_middle() -> None:
    names, of = columns(*grouped(("template", [f" W{n}" for n in range(LONG + 1)]), ("instruction", ["Why?"])))
    sizes = np.bincount(of)
    assert len(names) == HEAD + 1 + TAIL + 1
    assert int(sizes[HEAD]) == LONG + 1 - HEAD - TAIL
    assert names[HEAD].startswith(f"W{HEAD}")
    assert names[HEAD + 1] == f" W{LONG + 1 - TAIL}"
    whole, of = columns(*grouped(("template", [f" W{n}" for n in range(LONG)])))
    assert len(whole) == LONG
    assert of.tolist() == list(range(LONG))


def test_media_are_never_folded_nor_is_what_lies_on_both_sides_of_them() -> None:
    some = [" about"] * (FILLER - 1)
    names, of = columns(*grouped(("instruction", some), ("audio", [""] * 500), ("instruction", some)))
    assert len(names) == 500 + 2 * len(some) == len(set(of.tolist()))
    both, _ = columns(*grouped(("instruction", some), ("options", some)))
    assert len(both) == 2 * len(some)


@given(
    st.lists(
        st.tuples(st.sampled_from(GROUPS), st.integers(1, 300), st.sampled_from([" a", " B", "\n"])), min_size=1
    )
)
def test_every_token_is_in_one_column_of_its_own_group(runs: list[tuple[str, int, str]]) -> None:
    words, groups = grouped(*((g, ["" if g in ("video", "audio") else w] * n) for g, n, w in runs))
    names, of = columns(words, groups)
    assert len(of) == len(words)
    assert of[0] == 0
    assert set(np.diff(of).tolist()) <= {0, 1}
    assert of[-1] == len(names) - 1
    assert all(len(set(groups[of == c].tolist())) == 1 for c in range(len(names)))


def test_characters_of_several_tokens_are_told_whole() -> None:
    pytest.importorskip("torch")
    import tiny_thinkers as tiny
    from earwitness.whitebox.groups import spelled

    _, processor = tiny.build("qwen2.5-omni")
    text = "bell 你好 🎸 drum"
    ids = processor.tokenizer(text)["input_ids"]
    said = spelled(processor.tokenizer, ids)
    assert len(said) == len(ids)
    assert not any("\ufffd" in word for word in said)
    assert "".join(dict.fromkeys(said)).replace(" ", "") == text.replace(" ", "")
    assert spelled(processor.tokenizer, ids[:-6]), "cut off in a character, too"
