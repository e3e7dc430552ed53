"""What an answer earns, part by part; faults of the trainer released with RL-CoMM have a test each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from earwitness.align import rewards, tags
from earwitness.align.embedding import word_similarity
from earwitness.align.rewards import Row
from earwitness.records import Item

GOOD = "<a-think>I hear a bell.</a-think><v-think>I see a drum.</v-think><answer>bell</answer>"


def item(target: str | None = "bell", choices: tuple[str, ...] = ("bell", "drum"), **kw: Any) -> Item:
    base: dict[str, Any] = {"protocol": "mma", "condition": "swap", "question": "audio"} | kw
    return Item(
        id="i", clip="c", source="c", group="g", prompt="Which?", choices=choices, target=target, **base
    )  # fmt: skip


def said(answer: str, heard: str = "I hear a bell.", seen: str = "I see a drum.") -> str:
    return tags.written(heard, seen, answer)


def same(texts: list[str], others: list[str]) -> list[float]:
    return [float(a == b) for a, b in zip(texts, others, strict=True)]


# --- tags ---


def test_the_parts_of_an_answer() -> None:
    assert tags.parts(GOOD) == ("I hear a bell.", "I see a drum.", "bell")
    assert tags.written("I hear a bell.", "I see a drum.", "bell") == GOOD
    assert tags.parts("<answer>\n yes </answer>") == ("", "", "yes")
    assert tags.parts("no tags") == ("", "", "")
    assert tags.answer_of(GOOD) == "bell"
    assert tags.answer_of(" The bell. ") == "The bell."
    assert tags.answer_of("<a-think>bell</a-think>") == "", "thinking is no answer"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GOOD[:-1], "not closed"),
        (GOOD + "!", "something behind"),
        ("Sure: " + GOOD, "something before"),
        (GOOD + GOOD, "twice"),
        (GOOD.replace("bell</answer>", "</answer>"), "empty answer"),
        (GOOD.replace("I see a drum.", "  "), "empty thinking"),
        (GOOD.replace("</a-think><v-think>", "</a-think> and <v-think>"), "words between"),
        ("<v-think>b</v-think><a-think>a</a-think><answer>c</answer>", "order"),
        ("<a-think>a<v-think>b</v-think></a-think><answer>c</answer>", "nested"),
        (GOOD.replace("<answer>", "<answer><answer>"), "opened twice"),
        ("", "nothing"),
    ],
)
def test_the_format_is_strict(text: str, why: str) -> None:
    assert rewards.format([Row(item(), text)]) == [0.0], why


def test_the_format_allows_white_space_between_the_parts() -> None:
    spaced = GOOD.replace("><", ">\n<") + "\n"
    assert rewards.format([Row(item(), GOOD), Row(item(), spaced)]) == [1.0, 1.0]


def test_every_character_belongs_to_one_part() -> None:
    owners = tags.owners(GOOD)
    assert len(owners) == len(GOOD)
    for name, part in zip(tags.NAMES, tags.parts(GOOD), strict=True):
        assert "".join(c for c, o in zip(GOOD, owners, strict=True) if o == name) == part
    rest = "".join(c for c, o in zip(GOOD, owners, strict=True) if not o)
    assert rest == "<a-think></a-think><v-think></v-think><answer></answer>"


def test_an_answer_must_stand_there_once() -> None:
    assert GOOD[slice(*tags.answer_span(GOOD))] == "bell"
    assert tags.answer_span("  the bell\n") == (2, 10), "without tags all of it is the answer"
    for text in ("", "  ", GOOD[:-4], "<a-think>x</a-think>", GOOD + GOOD):
        with pytest.raises(ValueError, match="no answer in"):
            tags.answer_span(text)
    with pytest.raises(ValueError, match="is empty"):
        tags.written("a", " ", "c")
    with pytest.raises(ValueError, match="holds a tag"):
        tags.written("a", "b", "c</answer>")


def test_the_policy_is_asked_in_the_paper_s_words() -> None:
    prompt = tags.policy_prompt("Options: {bell, drum}.")
    assert prompt.startswith("You should see clearly the given video and listen clearly to the given audio.")
    assert "what you hear regarding the question Options: {bell, drum}. in <a-think></a-think>; (2)" in prompt
    assert tags.question_of(prompt) == "Options: {bell, drum}."
    assert tags.question_of("What do you hear?") == "What do you hear?"


# --- the three rewards of RL-CoMM ---


def test_arr_needs_the_right_answer_and_the_reference_s_hearing() -> None:
    rows = [
        Row(item(), said("bell"), "I hear a bell."),
        Row(item(), said("drum"), "I hear a bell."),  # heard, and answered otherwise
        Row(item(), said("bell", heard="I hear a drum."), "I hear a bell."),  # right by chance
        Row(item(), "<answer>bell</answer>", "I hear a bell."),  # no thinking
    ]
    assert rewards.arr(rows, same) == [1.0, 0.0, 0.0, 0.0]


def test_arr_is_above_omega_not_at_it() -> None:
    rows = [Row(item(), said("bell"), "r")]
    assert rewards.arr(rows, lambda a, b: [0.8]) == [0.0]
    assert rewards.arr(rows, lambda a, b: [0.8001]) == [1.0]
    assert rewards.arr(rows, lambda a, b: [0.6], omega=0.5) == [1.0]


def test_avc_has_three_cases() -> None:
    rows = [Row(item(), said("bell")), Row(item(), said("drum")), Row(item(), GOOD.replace(">bell<", "><"))]
    assert rewards.avc(rows, lambda a, b: [0.25] * len(a)) == [1.25, 0.25, 0.0]


def test_avc_without_thinking_is_the_answer_alone() -> None:
    rows = [Row(item(), "<answer>bell</answer>"), Row(item(), "<answer>drum</answer>"), Row(item(), "bell")]
    assert rewards.avc(rows, same) == [1.0, 0.0, 0.0]


def test_correlation_is_clipped_to_0_and_1() -> None:
    rows = [Row(item(), said("bell")), Row(item(), said("drum"))]
    assert rewards.avc(rows, lambda a, b: [-0.5, 1.5]) == [1.0, 1.0]


# --- faults of the released trainer ---


def test_the_reference_is_used() -> None:
    rows = [Row(item(), said("bell"), "I hear a bell."), Row(item(), said("bell"), "I hear rain and wind.")]
    assert rewards.arr(rows, word_similarity) == [1.0, 0.0]


def test_similarity_is_row_by_row_and_not_with_the_first() -> None:
    rows = [
        Row(item(), said("bell", heard="rain", seen="rain"), "rain"),
        Row(item(), said("bell", heard="wind", seen="wind"), "wind"),
        Row(item(), said("bell", heard="rain", seen="wind"), "wind"),
    ]
    assert rewards.arr(rows, same) == [1.0, 1.0, 0.0]
    assert rewards.avc(rows, same) == [2.0, 2.0, 1.0]
    with pytest.raises(ValueError, match="row i with row i"):
        rewards.avc(rows, lambda a, b: [1.0])
    with pytest.raises(ValueError, match="not finite"):
        rewards.avc(rows, lambda a, b: [float("nan")] * 3)


def test_the_empty_answer_matches_nothing() -> None:
    for text in ("", "<answer></answer>", "<answer> \n</answer>", GOOD.replace(">bell<", "><")):
        row = Row(item(), text, "I hear a bell.")
        assert rewards.correct([row]) == [0.0], text
        assert rewards.arr([row], lambda a, b: [1.0] * len(a)) == [0.0], text
        assert rewards.avc([row], lambda a, b: [1.0] * len(a)) == [0.0], text


def test_one_is_not_in_none() -> None:
    counting = item("one", ("none", "one", "two"), protocol="benchmark", question="choice")
    rows = [Row(counting, said(a)) for a in ("one", "none", "One.", "no one", "two one", "stone")]
    assert rewards.correct(rows) == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    piano = item("no", ("yes", "no"), protocol="av_confuse", question="muted", asked="piano")
    rows = [Row(piano, said(a)) for a in ("no", "Yes, there is a piano sound", "I do not know", "piano", "No.")]
    assert rewards.correct(rows) == [1.0, 0.0, 0.0, 0.0, 1.0]


def test_the_answer_counts_and_not_what_is_thought() -> None:
    text = said("drum", heard="It is a bell, a bell.", seen="bell")
    assert rewards.correct([Row(item(), text)]) == [0.0]
    assert rewards.correct([Row(item(style="cot"), said("bell", heard="a drum, a drum"))]) == [1.0]


# --- our own, and what does not apply ---


def test_open_questions_are_rewarded_as_an_audit_scores_them() -> None:
    shift = item("DELAY", (), protocol="thud", question="shift", style="neutral")
    rows = [Row(shift, said("Not synchronized: the audio is delayed.")), Row(shift, said("They are synchronized."))]
    assert rewards.correct(rows) == [1.0, 0.0]
    assert rewards.correct([Row(shift, "Not synchronized: the audio is delayed.")]) == [1.0], "without tags"


def test_abstaining_is_rewarded_where_nothing_right_can_be_said() -> None:
    gone = item(None)
    texts = ["I cannot tell.", "bell", "", "gibberish", said("I do not know")]
    assert rewards.abstains([Row(gone, t) for t in texts]) == [1.0, 0.0, 0.0, 0.0, 1.0]
    assert rewards.abstains([Row(item(), "I cannot tell.")]) == [None]
    assert rewards.correct([Row(gone, "bell")]) == [None]
    assert rewards.arr([Row(gone, GOOD, "r")], same) == [None]
    assert rewards.avc([Row(gone, GOOD)], same) == [None]
    with pytest.raises(ValueError, match="no target"):
        rewards.right(gone, "bell")


def test_without_a_reference_arr_is_none_and_not_0() -> None:
    rows = [Row(item(), GOOD, ""), Row(item(), GOOD, " "), Row(item(), GOOD, "I hear a bell.")]
    assert rewards.arr(rows, same) == [None, None, 1.0]


def test_the_sum_leaves_out_what_does_not_apply() -> None:
    assert rewards.total([[1.0, 0.0, None], [None, 1.0, None]]) == [1.0, 1.0, None]
    assert rewards.total([[1.0], [2.0]], [0.5, 2.0]) == [4.5]
    with pytest.raises(ValueError, match="weights"):
        rewards.total([[1.0], [2.0]], [1.0])
    row = Row(item(), GOOD, "I hear a bell.")
    columns = [rewards.rewards(name, [row], word_similarity) for name in rewards.STEP_RR]
    between = word_similarity(["I hear a bell."], ["I see a drum."])[0]
    assert rewards.total(columns) == [1.0 + 1.0 + (1.0 + between)]


# --- as trainers call them ---


def test_trl_calls_them_with_columns_of_the_data_set() -> None:
    reward = rewards.for_trl("arr", same)
    assert reward.__name__ == "arr"
    text = msgspec.json.encode(item()).decode()
    chat = [{"role": "assistant", "content": GOOD}]
    out = reward(
        prompts=["p"] * 3, completions=[GOOD, chat, "bell"], completion_ids=[[1], [2], [3]],
        item=[text, item(), text], reference=["I hear a bell.", "rain", None], trainer_state=object(), other=[1, 2],
    )  # fmt: skip
    assert out == [1.0, 0.0, None]
    assert rewards.for_trl("format")(["p"], [GOOD], [[1]], item=[text]) == [1.0], "no reference column"


def test_columns_that_do_not_fit_are_named() -> None:
    reward = rewards.for_trl("correct")
    with pytest.raises(ValueError, match="column 'item'"):
        reward(prompts=["p"], completions=["x"], completion_ids=[[1]], solution=["no"])
    with pytest.raises(ValueError, match="items as JSON"):
        reward(prompts=["p"], completions=["x"], completion_ids=[[1]], item=["{}"])
    with pytest.raises(ValueError, match="2 completions, 1 items"):
        reward(completions=["x", "y"], item=[item()])
    with pytest.raises(ValueError, match="a text or a list of messages"):
        reward(completions=[[{"role": "assistant"}]], item=[item()])
    with pytest.raises(ValueError, match="there is no reward 'arf'"):
        rewards.for_trl("arf")
    for name in ("arr", "avc"):
        with pytest.raises(ValueError, match="needs a similarity"):
            rewards.for_trl(name)


def test_swift_makes_a_class_and_calls_its_instance() -> None:
    """As its trainer does: orms[name](args=args), then reward(completions, **columns); None becomes nan there."""
    orm = rewards.for_swift("avc", same)
    assert orm.__name__ == "earwitness_avc"
    made = orm(args=object())
    text = msgspec.json.encode(item()).decode()
    assert made([GOOD], item=[text], reference=[""], trainer_state=None, messages=[[]]) == [1.0]


def test_the_rewards_load_no_torch() -> None:
    code = (
        "import sys; from earwitness.align import rewards, tags, embedding; "
        "embedding.sentence_similarity('words'); sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- which tokens hold the answer ---


def _tokenizers() -> list[str]:
    return ["hans", "qwen2.5-omni", "qwen3-omni", "merged"]


def _tokenizer(name: str) -> Any:
    pytest.importorskip("transformers", reason="local models are an extra")
    import tiny_thinkers

    if name == "hans":
        from transformers import AutoTokenizer

        import earwitness.models

        return AutoTokenizer.from_pretrained(Path(earwitness.models.__file__).parent / "hans")
    if name != "merged":
        return tiny_thinkers.tokenizer(tiny_thinkers.SPECIALS if name == "qwen2.5-omni" else tiny_thinkers.PARTS_3)
    return _merging()


def _merging() -> Any:
    """Byte-level BPE of texts full of tags, without pre-tokenisation at punctuation: it merges across "><"."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Qwen's own pattern keeps runs of punctuation together: "></", "><", ">" + blank are merged there too
            pre_tokenizers.Split(Regex(r" ?[^\s\p{L}\p{N}]+|\p{L}+|\p{N}|\s+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe.train_from_iterator([GOOD, "<answer>", "</v-think><answer>(yes)</answer>"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


@pytest.mark.parametrize("name", _tokenizers())
@pytest.mark.parametrize("answer", ["bell", "acoustic guitar", "(yes)", "Größe: 2,5 m 🎻", "no, delayed"])
def test_answer_tokens_are_those_that_hold_its_characters(name: str, answer: str) -> None:
    tok = _tokenizer(name)
    for text in (said(answer), f"<answer> {answer} </answer>", answer):
        ids, mask = tags.answer_mask(tok, text)
        assert ids == tok(text, add_special_tokens=False)["input_ids"]
        held = tok.decode([i for i, m in zip(ids, mask, strict=True) if m])
        assert answer in held
        assert len(held) <= len(answer) + 8, f"{held!r} holds more than the ends of its tags"
        first, last = mask.index(True), len(mask) - mask[::-1].index(True)
        assert all(mask[first:last]), "one run"


def test_the_tag_s_ids_are_not_found_where_merges_run_across_it() -> None:
    """Why offsets: the ids of "<answer>" alone are nowhere in the ids of the answer's text."""
    tok = _tokenizer("merged")
    ids, mask = tags.answer_mask(tok, GOOD)
    tokens = tok.convert_ids_to_tokens(ids)
    assert any("><" in t for t in tokens), tokens
    alone = tok("<answer>", add_special_tokens=False)["input_ids"]
    assert not any(ids[n : n + len(alone)] == alone for n in range(len(ids)))
    assert [t for t, m in zip(tokens, mask, strict=True) if m] == ["bell"]
    ids, mask = tags.answer_mask(tok, said("(yes)"))
    marked = [t for t, m in zip(tok.convert_ids_to_tokens(ids), mask, strict=True) if m]
    assert marked == [">(", "yes", ")</"], "a token that holds a character of the answer is one of its tokens"


@pytest.mark.parametrize("name", _tokenizers())
def test_offsets_of_given_ids_are_those_of_their_text(name: str) -> None:
    tok = _tokenizer(name)
    text = said("Größe 🎻 bell")
    made = tok(text, add_special_tokens=False, return_offsets_mapping=True)
    back, offsets = tags.token_offsets(tok, made["input_ids"])
    assert back == text
    want = tags.overlapping([tuple(o) for o in made["offset_mapping"]], tags.answer_span(text))
    assert tags.overlapping(offsets, tags.answer_span(back)) == want


def test_ids_that_the_tokenizer_would_not_write_keep_their_places() -> None:
    tok = _tokenizer("hans")
    spelled = [i for part in ("<answer>", "b", "e", "l", "l", "</answer>") for i in tok(part)["input_ids"]]
    assert spelled != tok("<answer>bell</answer>")["input_ids"]
    text, offsets = tags.token_offsets(tok, spelled)
    mask = tags.overlapping(offsets, tags.answer_span(text))
    assert tok.decode([i for i, m in zip(spelled, mask, strict=True) if m]) == "bell"
    assert sum(mask) == 4


def test_offsets_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="no token holds characters"):
        tags.overlapping([(0, 3), (3, 3)], (3, 9))

    class Slow:
        is_fast = False

    with pytest.raises(ValueError, match="no fast tokenizer"):
        tags.answer_mask(Slow(), GOOD)
