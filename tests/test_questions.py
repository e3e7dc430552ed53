"""Prompts are the published ones; parsers give a label, UNPARSED or REFUSED, and never guess."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earwitness import questions as q
from earwitness.records import NONE_OF_THE_ABOVE, REFUSED, UNPARSED

CLASSES = ("bell", "drum", "guitar", "acoustic_guitar", "Bird", "Cat", "wind chime", "Male speech, man speaking")
U, R = UNPARSED, REFUSED

CHOICE = [
    ("bell", "bell"),
    ("Bell", "bell"),
    ("BELL.", "bell"),
    ("  drum\n", "drum"),
    ("drums", "drum"),
    ("Birds", "Bird"),
    ("acoustic guitar", "acoustic_guitar"),
    ("Acoustic_Guitar", "acoustic_guitar"),
    ("guitars", "guitar"),
    ("acoustic-guitar", "acoustic_guitar"),
    ("**Drum**", "drum"),
    ('"drum"', "drum"),
    ("{bell}", "bell"),
    ("windchime", "wind chime"),
    ("Wind chimes", "wind chime"),
    ("Male speech, man speaking", "Male speech, man speaking"),
    ("Bird If you have any other questions, feel free to ask", "Bird"),
    ("Bird. If you have any other questions about cats, feel free to ask!", "Bird"),
    ("The audio content of this video is best described as a drum.", "drum"),
    ("The class that best describes the *audio content* is: Cat", "Cat"),
    ("Based on the audio, this is a bell.", "bell"),
    ("It sounds like a bell being struck.", "bell"),
    ("drum, because the rhythm is steady, unlike a bell", "drum"),
    ("A bell, not a drum.", "bell"),
    ("no bell but a drum", "drum"),
    ("There is no bell, but a drum.", "drum"),
    ("a drum rather than a bell", "drum"),
    ("It isn't a bell; it is a drum.", "drum"),
    ("This is not a drum but a cat.", "Cat"),
    ("neither bell nor drum", U),
    ("bell or drum", U),
    ("bell, drum", U),
    ("Bell. Drum.", U),
    ("bell\ndrum", U),
    ("Both a cat and a bird.", U),
    ("Drum. Actually, it is a bell.", U),
    ("Cat\nOptions: bell, drum, guitar", "Cat"),
    ("<answer>drum</answer>", "drum"),
    ("<think>a bell? a cat?</think><answer>drum</answer>", "drum"),
    ("<a-think>I hear a bell</a-think><v-think>I see a cat</v-think><answer>bell</answer>", "bell"),
    ("<answer>drum", "drum"),
    ("<answer>drum</answer> <answer>bell</answer>", U),
    ("<answer></answer>", U),
    ("I see a cat and a bird moving. Final Answer: Bird", "Bird"),
    ("Final Answer: <drum>", "drum"),
    ("**Final Answer:** bell", "bell"),
    ("The answer is drum.", "drum"),
    ("Answer: cat", "Cat"),
    ("My first idea was a bell.\nFinal Answer: drum\n", "drum"),
    ("Final answer: bell or drum", U),
    ("trumpet", U),
    ("dumbbell", U),
    ("drumlin", U),
    ("the catalogue", U),
    ("birdie", U),
    ("", U),
    ("...", U),
    ("🤷", U),
    ("not a bell", U),
    ("I do not know.", R),
    ("I don't know", R),
    ("I'm sorry, but I cannot determine that.", R),
    ("As an AI language model, I can't listen to audio.", R),
    ("I am not sure if it is a bell.", R),
    ("None of the above", R),
    ("I cannot assist with that request.", R),
    ("unknown", R),
    ("I'm not sure, but it sounds like a bell.", "bell"),
    ("the bell is absent", U),
    ("No sound of a bell; a drum.", "drum"),
    ("I hear no doubt a drum", "drum"),
    ("The cat's meow", "Cat"),
]


@pytest.mark.parametrize(("text", "label"), CHOICE)
def test_choice(text: str, label: str) -> None:
    assert q.parse_choice(text, CLASSES) == label


@pytest.mark.parametrize(
    ("text", "modality", "label"),
    [
        ("The video shows a cat. The audio is a bell.", "audio", "bell"),
        ("The video shows a cat. The audio is a bell.", "visual", "Cat"),
        ("The video shows a cat, but the sound is that of a bell.", "audio", "bell"),
        ("Although I hear a bell, the visuals show a cat.", "visual", "Cat"),
        ("The video shows a cat.", "audio", "Cat"),
        ("I see a cat and I hear a drum", "audio", "drum"),
        ("There is no sound in this video.", "audio", R),
        ("The screen is completely black.", "visual", R),
        ("The screen is completely black.", "audio", U),
    ],
)
def test_choice_keeps_to_the_modality_that_was_asked(text: str, modality: str, label: str) -> None:
    assert q.parse_choice(text, CLASSES, modality=modality) == label  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "modality", "label"),
    [
        ("None of the above", None, NONE_OF_THE_ABOVE),
        ("none of the above.", "audio", NONE_OF_THE_ABOVE),
        ("None of these options fits", "audio", NONE_OF_THE_ABOVE),
        ("None", "audio", NONE_OF_THE_ABOVE),
        ("The audio is silent.", "audio", NONE_OF_THE_ABOVE),
        ("I cannot hear any audio.", "audio", NONE_OF_THE_ABOVE),
        ("The video is a black screen", "visual", NONE_OF_THE_ABOVE),
        ("The video is a black screen", "audio", U),
        ("None of the above, maybe bell", "audio", U),
        ("bell", "audio", "bell"),
        ("I don't know", "audio", R),
        ("nonetheless", "audio", U),
        ("one of the above", "audio", U),
    ],
)
def test_none_of_the_above(text: str, modality: str | None, label: str) -> None:
    assert q.parse_choice(text, (*CLASSES, NONE_OF_THE_ABOVE), modality=modality) == label  # type: ignore[arg-type]


def test_reasoned_answers_need_a_marked_end() -> None:
    thought = "The visual content shows a cat that walks past. I also notice"
    assert q.parse_choice(thought, CLASSES, reasoned=True) == UNPARSED
    assert q.parse_choice(thought + " a bell. Final Answer: bell", CLASSES, reasoned=True) == "bell"
    assert q.parse_choice("It is a bell", CLASSES, reasoned=True) == "bell"


def test_choice_refuses_options_that_read_the_same() -> None:
    with pytest.raises(ValueError, match="differ in more than case"):
        q.parse_choice("bell", ("bell", "Bell"))
    with pytest.raises(ValueError, match="differ"):
        q.parse_choice("bell", ())


YES_NO = [
    ("yes", "yes"),
    ("Yes.", "yes"),
    ("YES", "yes"),
    ("no", "no"),
    ("No.", "no"),
    ("Nope", "no"),
    ("yeah!", "yes"),
    ("Yes, there is a piano sound", "yes"),
    ("Yes, there is a piano sound, no violin.", "yes"),
    ("No, there is no piano sound.", "no"),
    ("No, I hear a violin. Yes, it is loud.", "no"),
    ("'no'", "no"),
    ("**Yes**", "yes"),
    ("The answer is no.", "no"),
    ("<answer>no</answer>", "no"),
    ("Final Answer: yes", "yes"),
    ("Answer: No", "no"),
    ("I would say yes.", "yes"),
    ("There is a piano sound.", "yes"),
    ("There is no piano sound.", "no"),
    ("There isn't any piano sound", "no"),
    ("I cannot hear a piano.", "no"),
    ("I can hear a piano", "yes"),
    ("The piano is not audible.", "no"),
    ("A piano can be heard clearly.", "yes"),
    ("The piano sound is muted.", "no"),
    ("There is a violin sound, but no piano.", "no"),
    ("There is a violin.", U),
    ("The piano is absent.", "no"),
    ("yes or no", U),
    ("Yes and no.", U),
    ("yes/no", U),
    ("Yes. No.", U),
    ("Yes... actually no", U),
    ("maybe", U),
    ("none", U),
    ("", U),
    ("Notes", U),
    ("I notice nothing", U),
    ("know", U),
    ("yesterday", U),
    ("piano", U),
    ("?", U),
    ("I do not know", R),
    ("I don't know.", R),
    ("No idea.", R),
    ("Not sure", R),
    ("I am not sure if there is a piano.", R),
    ("I cannot determine whether there is a piano sound.", R),
    ("As an AI model I can't process audio.", R),
    ("I'm sorry, but I can't help with that.", R),
    ("No doubt, a piano is playing.", "yes"),
]


@pytest.mark.parametrize(("text", "label"), YES_NO)
def test_yes_no(text: str, label: str) -> None:
    assert q.parse_yes_no(text, "piano") == label


LETTER = [
    ("B", "B"),
    ("b", "B"),
    ("B)", "B"),
    ("(B)", "B"),
    ("B.", "B"),
    ("**B**", "B"),
    ("B) The audio is delayed", "B"),
    ("Answer: B", "B"),
    ("The answer is C.", "C"),
    ("The best answer is: (A)", "A"),
    ("Option B", "B"),
    ("<answer>C</answer>", "C"),
    ("Final Answer: A", "A"),
    ("B\n\nThe audio comes later.", "B"),
    ("A dog barks", U),
    ("A or B", U),
    ("Both (A) and (B)", U),
    ("D", U),
    ("", U),
    ("I don't know", R),
    ("A: the audio and video are synchronized", "A"),
    ("AB", U),
    ("Because", U),
]


@pytest.mark.parametrize(("text", "label"), LETTER)
def test_letter(text: str, label: str) -> None:
    assert q.parse_letter(text) == label


ANY = st.one_of(
    st.text(max_size=200),
    st.lists(
        st.sampled_from(
            (
                "no not yes the a audio video silent sound bell drum delayed early synchronized by at 2.1 s "
                "seconds , . ; but hear see I cannot any match mismatch None of above <answer> </answer> Final "
                "Answer: \n ( ) A B C & - : ' **"
            ).split(" ")
        ),
        max_size=25,
    ).map(" ".join),
)


@settings(max_examples=300, deadline=None)
@given(ANY)
def test_any_text_gives_a_declared_outcome(text: str) -> None:
    three = {UNPARSED, REFUSED}
    assert q.parse_choice(text, CLASSES, modality="audio") in {*CLASSES, *three}
    assert q.parse_choice(text, (*CLASSES, NONE_OF_THE_ABOVE), reasoned=True) in {
        *CLASSES,
        NONE_OF_THE_ABOVE,
        *three,
    }
    assert q.parse_yes_no(text, "bell") in {"yes", "no", *three}
    assert q.parse_letter(text) in {"A", "B", "C", *three}
    for task, judge in (("mute", q.judge_mute), ("swap", q.judge_swap), ("shift", q.judge_shift)):
        verdict = judge(text)  # type: ignore[operator]
        assert verdict.label in {*q.LABELS[task], *three}
        assert verdict.offset is None or verdict.label in ("DELAY", "EARLY")
    assert 0.0 <= q.recall(text, ("bell", "rain")) <= 1.0


@given(
    st.sampled_from(CLASSES),
    st.sampled_from(["{}", "{}.", " {} ", "The answer is {}.", "<answer>{}</answer>", "It is a {}."]),
)
def test_a_named_option_is_found_however_it_is_dressed(name: str, form: str) -> None:
    assert q.parse_choice(form.format(name), CLASSES) == name
    assert q.parse_choice(form.format(name.upper()), CLASSES) == name


@pytest.mark.parametrize("style", ["neutral", "direct"])
@pytest.mark.parametrize("task", ["mute", "swap", "shift"])
def test_wording_says_its_label(task: str, style: str) -> None:
    labels = q.LABELS[task] if style == "neutral" else tuple(q.DIRECT[task].values())
    for label in labels:
        text = q.wording(
            task, label, style, seen=("drum",), heard=("drum" if label == "MATCH" else "bell",), offset=2.1
        )
        if task == "shift" and style == "direct":
            assert q.DIRECT["shift"][q.parse_letter(text)] == label
            continue
        verdict = {"mute": q.judge_mute, "swap": q.judge_swap, "shift": q.judge_shift}[task](text)  # type: ignore[operator]
        assert verdict.label == label
        if label in ("DELAY", "EARLY"):
            assert verdict.offset == pytest.approx(2.1 if label == "DELAY" else -2.1)


def test_prompts_are_the_published_ones() -> None:
    assert q.content_prompt("visual", ["Accordion", "Bird"]) == (
        "Which class best describes the *visual content* of this video? Options: {Accordion, Bird}. "
        "Answer using a single word or phrase."
    )
    cot = q.content_prompt("audio", ["Accordion", "Bird"], "cot")
    assert cot.startswith(
        "Think step by step about what the audio content shows. First provide your thinking process, then "
    )
    assert "Answer using" not in cot
    assert q.thud_prompt("mute") == "Describe the audio you hear in this video."
    assert q.thud_prompt("swap") == "Describe what you see in the video and what you hear in the audio."
    assert q.thud_prompt("shift").endswith("estimate the offset in seconds. Explain your reasoning.")
    assert q.thud_prompt("shift", "direct").count("\n") == 8
    assert q.instrument_prompt("acoustic_guitar") == (
        "This is a video of audio corruption where some instrument sound is muted. question: "
        "Is there an acoustic guitar sound? Your answer can only be 'yes' or 'no'."
    )
    assert q.instrument_prompt("ukulele", "neutral").startswith("Is there a ukulele sound?")
    assert q.describe_prompt() == "Describe what you see and what you hear."


def test_prompts_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="known: visual, audio"):
        q.content_prompt("sound", ["a", "b"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two or more"):
        q.content_prompt("audio", ["a"])
    with pytest.raises(ValueError, match="neutral, direct"):
        q.thud_prompt("mute", "leading")
    with pytest.raises(ValueError, match="name of a thing"):
        q.instrument_prompt("_")
    with pytest.raises(ValueError, match="SILENT"):
        q.wording("mute", "DELAY")


@pytest.mark.parametrize(
    ("text", "expected", "share"),
    [
        ("Based on the video, two people play. Based on the audio, birds are chirping.", ("bird",), 1.0),
        ("A power drill is running.", ("electric drill",), 1.0),
        ("I hear thunder.", ("thunder", "rain"), 0.5),
        ("There is no rain.", ("rain",), 0.0),
        ("A saxophone.", ("wind",), 0.0),
        ("Windy weather", ("wind",), 1.0),
        ("a window", ("wind",), 0.0),
        ("training", ("rain",), 0.0),
    ],
)
def test_recall_counts_synonyms_and_no_substrings(text: str, expected: tuple[str, ...], share: float) -> None:
    assert q.recall(text, expected) == share
