"""Published questions under our conditions: what is right then, how answers are read, what the tables say."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from earwitness import audit, foley, media, scoring
from earwitness import run as runs
from earwitness.datasets.opening import open_clips
from earwitness.datasets.question_clips import QuestionClips
from earwitness.models.fake import control
from earwitness.protocols import Settings, benchmark, items_of, load, skipped_of
from earwitness.questions import captions
from earwitness.records import (
    NONE_OF_THE_ABOVE,
    REFUSED,
    UNPARSED,
    Answer,
    Clip,
    Estimate,
    Evidence,
    Intervention,
    Item,
    Judged,
    Question,
    Table,
    View,
)

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "clips"
SOUND: tuple[Evidence, ...] = ("audio",)
PICTURE: tuple[Evidence, ...] = ("video",)
BOTH: tuple[Evidence, ...] = ("audio", "video")


def _question(**more: object) -> Question:
    given: dict[str, object] = {
        "id": "1", "clip": "c", "task": "t", "kind": "choice", "text": "Which?", "choices": ("A. drum", "B. bell"),
        "answer": "B", "evidence": BOTH,
    }  # fmt: skip
    return Question(**{**given, **more})  # type: ignore[arg-type]


def _presence(answer: str, evidence: tuple[Evidence, ...] = SOUND, **more: object) -> Question:
    return _question(kind="yes_no", choices=(), answer=answer, evidence=evidence, asked="drum", **more)


def _judged(item: Item, text: str | None, error: str | None = None) -> Judged:
    answer = Answer(item=item.id, model="m", text=text, error=error)
    return Judged(item, answer, scoring.score(item, answer))


def _cell(table: Table, row: str, column: str) -> float | None:
    cells = next(r.cells for r in table.rows if r.label == row)
    value = cells[table.columns.index(column)]
    assert not isinstance(value, str)
    return value.value if isinstance(value, Estimate) else value


def _table(tables: Sequence[Table], name: str) -> Table:
    return next(t for t in tables if t.id == name)


# --- what is right -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "original", "mute", "black"),
    [
        (_presence("yes"), "yes", "no", "yes"),
        (_presence("no"), "no", "no", "no"),
        (_presence("Yes", PICTURE), "yes", "yes", "no"),
        (_question(kind="yes_no", choices=(), answer="No", evidence=BOTH), "no", None, None),
        (_question(kind="yes_no", choices=(), answer="yes", evidence=SOUND), "yes", None, "yes"),  # not presence
        (_question(), "B", None, None),
        (_question(evidence=SOUND), "B", None, "B"),
        (_question(evidence=()), "B", None, None),  # the file does not say what it rests on
        (_question(choices=("A. drum", "B. bell", f"C. {NONE_OF_THE_ABOVE}")), "B", "C", "C"),
        (_question(choices=("drum", "bell"), answer="bell", evidence=PICTURE), "bell", "bell", None),
        (_question(kind="mute", choices=(), answer="SOUND_DESCRIBED", evidence=()), "SOUND_DESCRIBED", "SILENT",
         "SOUND_DESCRIBED"),
        (_question(kind="shift", choices=("A", "B", "C"), answer="DELAY", evidence=()), "DELAY", None, None),
        (_question(kind="caption", choices=(), answer="A man sings."), None, None, None),
        (_question(kind="caption", choices=(), answer="x", asked="rain", evidence=SOUND), "HEARD", None, "HEARD"),
    ],
)  # fmt: skip
def test_what_is_right_follows_from_what_the_question_rests_on(
    question: Question, original: str | None, mute: str | None, black: str | None
) -> None:
    found = [benchmark.item(question, "s", c).target for c in ("original", "mute", "black")]
    assert found == [original, mute, black]


def test_items_are_twins_with_the_files_prompt() -> None:
    question = _presence("yes", tags={"domain": "x"}, decode=7)
    clip = Clip(id="c", seen=("drum",), heard=("bell",), source="s")
    plain, silent = (benchmark.item(question, "s", c, clip=clip) for c in ("original", "mute"))
    assert plain.group == silent.group
    assert plain.id != silent.id
    assert plain.id == benchmark.item(question, "s", clip=clip).id
    assert (plain.prompt, plain.decode, plain.task, plain.source) == ("Which?", 7, "t", "s")
    assert plain.tags == {"domain": "x", "answer": "yes"}
    assert (plain.heard, silent.heard, silent.seen) == (("bell",), (), ("drum",))
    assert silent.intervention == Intervention(kind="mute")


def test_what_the_file_says_to_do_is_done_only_for_the_original() -> None:
    shift = Intervention(kind="shift", seconds=1.2)
    question = _question(kind="shift", choices=(), answer="DELAY", evidence=("sync",), intervention=shift)
    plain, silent = benchmark.item(question, "s"), benchmark.item(question, "s", "mute")
    assert (plain.intervention, plain.offset, plain.target) == (shift, 1.2, "DELAY")
    assert (silent.intervention.kind, silent.offset, silent.target) == ("mute", 0.0, None)
    made = benchmark.items([Clip(id="c")], Settings(benchmark_conditions=("original", "sham")), [question])
    assert [i.condition for i in made] == ["original"]


@pytest.mark.parametrize(
    ("question", "says"),
    [
        (_question(answer="E"), r"question 1 \(t\): the answer 'E' is none of"),
        (_presence("maybe"), "a yes/no question has the answer 'maybe'"),
        (_question(kind="shift", answer="LATE"), "'LATE' is no label of SYNC"),
    ],
)
def test_an_answer_that_cannot_be_right_is_refused(question: Question, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        benchmark.item(question, "s")
    with pytest.raises(ValueError, match="unknown condition 'louder'"):
        benchmark.item(_question(), "s", "louder")
    with pytest.raises(ValueError, match="benchmark_conditions: 'louder' is not known"):
        Settings(benchmark_conditions=("louder",))


@pytest.mark.parametrize("choices", [("A. drum", "B. bell"), ("(A) drum", "(B) bell"), ("A)drum", "B)bell")])
@pytest.mark.parametrize("answer", ["B", "b", "bell", "B. bell"])
def test_letters_and_texts_are_one_answer(choices: tuple[str, ...], answer: str) -> None:
    item = benchmark.item(_question(choices=choices, answer=answer), "s")
    assert (item.target, item.choices, item.style) == ("B", ("A", "B"), "letter")
    assert (item.tags["A"], item.tags["B"]) == ("drum", "bell")


def test_choices_without_letters_stay_words() -> None:
    assert benchmark.lettered(("A dog", "Bell")) == {}
    assert benchmark.lettered(("A", "B", "C")) == {"A": "", "B": "", "C": ""}
    assert benchmark.lettered(("B. x", "A. y")) == {}


# --- reading answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("B", "B"), ("(B)", "B"), ("B. bell", "B"), ("The answer is B.", "B"), ("The bell.", "B"), ("drum", "A"),
        ("<think>A?</think>B", "B"), ("A bell rings", "B"), ("A or B", UNPARSED), ("drum and bell", UNPARSED),
        ("Something else", UNPARSED), ("I cannot tell.", REFUSED),
    ],
)  # fmt: skip
def test_a_lettered_answer_is_read_and_never_guessed(text: str, label: str) -> None:
    assert _judged(benchmark.item(_question(), "s"), text).score.label == label


@pytest.mark.parametrize(
    ("text", "label"), [("two", "two"), ("2", "two"), ("There are 2.", "two"), ("12", UNPARSED)]
)
def test_counts_may_be_digits(text: str, label: str) -> None:
    question = _question(choices=("one", "three", "two"), answer="two")
    assert _judged(benchmark.item(question, "s"), text).score.label == label


def test_failures_are_no_answers() -> None:
    item = benchmark.item(_question(), "s")
    assert _judged(item, None, "timeout").score.label == scoring.ERROR
    assert _judged(item, "  ").score.correct is None


def test_a_replaced_sound_is_right_when_it_is_heard_not_when_it_is_seen() -> None:
    item = benchmark.item(_question(kind="caption", choices=(), answer="ref", asked="bird", evidence=SOUND), "s")
    assert _judged(item, "Based on the audio, birds are chirping.").score.correct is True
    assert _judged(item, "I see a bird. I hear a guitar.").score.correct is False
    assert item.tags["reference"] == "ref"


# --- captions ------------------------------------------------------------------------------------------------


def test_meteor_of_captions() -> None:
    pytest.importorskip("nltk")
    said = "a man sings in the street"
    assert captions.meteor(said, said) == pytest.approx(1 - 0.5 * (1 / 6) ** 3)  # one chunk of six words
    assert captions.meteor("dogs bark", "the dog barks") == pytest.approx(
        # two stems of two words said and three wanted, in one chunk: P 1, R 2/3
        (10 * 1 * (2 / 3) / (2 / 3 + 9)) * (1 - 0.5 * (1 / 2) ** 3)
    )
    assert captions.meteor("nothing alike", "quite different words") == 0.0
    assert captions.meteor("", "words") == 0.0
    item = benchmark.item(_question(kind="caption", choices=(), answer="A man sings."), "s")
    scored = _judged(item, "A man sings!").score
    assert (scored.label, scored.correct) == ("DESCRIBED", None)
    assert scored.recall == pytest.approx(1 - 0.5 / 27)


def test_captions_without_nltk_are_unscored_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "available", lambda: False)
    item = benchmark.item(_question(kind="caption", choices=(), answer="A man sings."), "s")
    judged = _judged(item, "A man sings.")
    assert judged.score.recall is None
    table = _table(benchmark.tables([judged]), "benchmark_captions")
    assert "pip install 'earwitness[caption]'" in table.caption
    assert table.rows[0].cells[0] is None


# --- tables --------------------------------------------------------------------------------------------------


def _many(question: Callable[[int], Question], answers: dict[str, Callable[[int], str]], n: int) -> list[Judged]:
    return [
        _judged(benchmark.item(question(k), f"s{k}", condition), says(k))
        for condition, says in answers.items()
        for k in range(n)
    ]


def test_yes_no_figures_come_from_one_matrix() -> None:
    """12 yes and 8 no; 9 hits, 2 false alarms: P 9/11, R 9/12, F1 2*9/(18+2+3), Acc 15/20, Yes 11/20."""

    def says(k: int) -> str:
        return "Yes." if k < 9 or k in (12, 13) else "No."

    judged = _many(lambda k: _presence("yes" if k < 12 else "no", id=str(k), clip=f"c{k}"), {"original": says}, 20)
    judged.append(_judged(benchmark.item(_presence("yes", id="u", clip="cu"), "su"), "Perhaps."))
    table = _table(benchmark.tables(judged), "benchmark_yes_no")
    row = {c: _cell(table, "t", c) for c in table.columns}
    assert row["accuracy"] == pytest.approx(15 / 20)
    assert row["precision"] == pytest.approx(9 / 11)
    assert row["recall (PA)"] == pytest.approx(9 / 12)
    assert row["F1"] == pytest.approx(18 / 23)
    assert row["says yes"] == pytest.approx(11 / 20)
    assert row["HR"] == pytest.approx(6 / 8)
    assert row["balanced accuracy"] == pytest.approx(0.75)
    assert (row["answers"], row["unparsed"]) == (21, 1)
    f1 = next(r for r in table.rows if r.label == "t").cells[3]
    assert isinstance(f1, Estimate)
    assert f1.low < 18 / 23 < f1.high
    assert (f1.n, f1.clusters) == (20, 14)  # 14 clips are in TP, FP or FN
    assert _cell(table, "always no", "accuracy") == pytest.approx(8 / 21)


def test_all_no_answers_leave_precision_and_f1_empty() -> None:
    judged = _many(lambda k: _presence("no", id=str(k), clip=f"c{k}"), {"original": lambda _: "no"}, 3)
    table = _table(benchmark.tables(judged), "benchmark_yes_no")
    assert _cell(table, "t", "precision") is None
    assert _cell(table, "t", "F1") is None
    assert _cell(table, "t", "HR") == 1.0
    assert _cell(table, "always no", "accuracy") == 1.0  # the reader sees what it is worth


def test_how_much_the_sound_matters_is_paired_by_question() -> None:
    """40 questions: right with sound 30; without, 10 of those still right and 5 of the others."""
    judged = _many(
        lambda k: _question(id=str(k), clip=f"c{k}"),
        {
            "original": lambda k: "B" if k < 30 else "A",
            "mute": lambda k: "B" if k < 10 or k >= 35 else "I cannot tell." if k < 20 else "A",
        },
        40,
    )
    table = _table(benchmark.tables(judged), "benchmark_without_sound")
    assert _cell(table, "t", "with sound") == pytest.approx(30 / 40)
    assert _cell(table, "t", "without sound") == pytest.approx(15 / 40)  # declining is not giving the answer
    assert _cell(table, "t", "difference") == pytest.approx(15 / 40)
    assert _cell(table, "t", "still right") == pytest.approx(10 / 30)
    assert _cell(table, "t", "chance") == 0.5
    assert _cell(table, "t", "refused") == 10
    p = _cell(table, "t", "p")
    assert p is not None
    assert p < 0.01
    accuracy = _table(benchmark.tables(judged), "benchmark_accuracy")
    assert _cell(accuracy, "t", "answers") == 40  # no answer without sound counts as accuracy
    assert not any(t.id == "benchmark_gone" for t in benchmark.tables(judged))


def test_tables_by_tag_and_task() -> None:
    def question(k: int) -> Question:
        tags = {"domain": "ab"[k % 2], "sound": "Speech|Music" if k < 4 else "Music", "id": str(k)}
        return _question(id=str(k), clip=f"c{k}", task="xy"[k % 2], tags=tags)

    tables = benchmark.tables(_many(question, {"original": lambda k: "B" if k % 2 else "A"}, 12))
    by_domain = _table(tables, "benchmark_by_domain")
    assert [(r.label, _cell(by_domain, r.label, "accuracy")) for r in by_domain.rows] == [("a", 0.0), ("b", 1.0)]
    by_sound = _table(tables, "benchmark_by_sound")
    assert [(r.label, _cell(by_sound, r.label, "answers")) for r in by_sound.rows] == [("Music", 12), ("Speech", 4)]
    assert [r.label for r in _table(tables, "benchmark_accuracy").rows] == [
        "x", "y", "all tasks", "most common answer of each task",
    ]  # fmt: skip
    assert {t.id for t in tables} == {"benchmark_accuracy", "benchmark_by_domain", "benchmark_by_sound"}


def test_offsets_are_shown_by_direction_and_size() -> None:
    def question(k: int) -> Question:
        late = (-2.0, -0.4, 0.0, 0.4, 2.0)[k % 5]
        label = "SYNC" if late == 0 else "DELAY" if late > 0 else "EARLY"
        return _question(
            id=str(k), clip=f"c{k}", kind="shift", choices=("A", "B", "C"), answer=label, evidence=("sync",),
            tags={"offset": str(late)},
        )  # fmt: skip

    judged = _many(question, {"original": lambda k: "ACABB"[k % 5]}, 10)
    table = _table(benchmark.tables(judged), "benchmark_sync")
    right = {r.label: _cell(table, r.label, "right") for r in table.rows}
    assert right == {
        "in sync": 1.0, "sound late, 0.2 to 0.6 s": 1.0, "sound early, 0.2 to 0.6 s": 1.0,
        "sound late, beyond": 1.0,
        "sound early, beyond": 0.0, "all": 0.8, "always in sync": 0.2,
    }  # fmt: skip
    assert _cell(table, "all", "balanced accuracy") == pytest.approx((1 + 1 + 0.5) / 3)
    assert _cell(table, "sound early, beyond", "called in sync") == 1.0


# --- end to end ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> QuestionClips:
    """A folder as AVHBench is one: twelve Foley clips, half with another's sound, their questions, one missing."""
    folder = tmp_path_factory.mktemp("avh")
    clips = foley.clip_set(12, seed=5)
    view = View(fps=8.0, size=(48, 48), rate=16_000)
    rows = []
    ring = [*clips.clips, *clips.clips]
    for n, clip in enumerate(clips.clips):
        other = next(c for c in ring[n:] if c.heard != clip.heard) if n % 2 else clip
        shown = clips.media(clip, view).with_wave(clips.media(other, view).wave)
        assert shown.frames is not None
        (folder / "videos").mkdir(exist_ok=True)
        media.write_clip(shown.frames, view.fps, shown.wave, view.rate, folder / "videos" / f"{n:05}.mp4")
        there, heard = clip.seen[0], other.heard[0]
        for task, thing, right in (
            ("Video-driven Audio Hallucination", there, there == heard),
            ("Video-driven Audio Hallucination", heard, True),
            ("Audio-driven Video Hallucination", heard, there == heard),
            ("Audio-driven Video Hallucination", there, True),
        ):
            does = "making sound in the audio" if task.startswith("Video") else "visible in the video"
            rows.append(
                {"video_id": f"{n:05}", "task": task, "text": f"Is the {thing} {does}?",
                 "label": "Yes" if right else "No"}
            )  # fmt: skip
        rows.append(
            {"video_id": f"{n:05}", "task": "AV Matching", "label": "Yes" if there == heard else "No",
             "text": "Are the contexts of audio and visual content matching?"}
        )  # fmt: skip
        rows.append(
            {"video_id": f"{n:05}", "task": "AV Captioning", "label": f"A {there} is seen and a {heard} is heard.",
             "text": "Describe what you see and hear in a single sentence."}
        )  # fmt: skip
    rows.append({**rows[0], "video_id": "99999"})
    (folder / "QA.json").write_text(json.dumps(rows))
    found = open_clips(f"avhbench:{folder / 'QA.json'}")
    assert isinstance(found, QuestionClips)
    return found


def _tables(clips: QuestionClips, model: str, out: Path) -> tuple[list[Table], list[Judged]]:
    out.mkdir(exist_ok=True)
    items = items_of(load("benchmark"), clips.clips, Settings(), clips.questions)
    counts = audit.ask(control(model), clips, items, out)
    assert counts["failed"] == 0
    answers = runs.read_answers(out)
    judged = [Judged(i, answers[i.id], scoring.score(i, answers[i.id])) for i in items]
    return load("benchmark").tables(judged), judged


def test_the_missing_are_named_and_the_rest_is_asked(asked: QuestionClips) -> None:
    assert asked.missing == ("99999",)
    assert len(asked.clips) == 12
    items = items_of(load("benchmark"), asked.clips, Settings(), asked.questions)
    assert len(items) == 3 * 12 * 6
    assert skipped_of(load("benchmark"), asked.clips, Settings(), asked.questions) == []
    lines = skipped_of(load("benchmark"), asked.clips, Settings(), asked.about.questions)
    assert lines == ["benchmark: 1 of 73 questions are about 1 clips that are not there: not asked"]
    limited = items_of(load("benchmark"), asked.clips, Settings(clip_limit=3), asked.questions)
    assert len({i.clip for i in limited}) == 3


def test_a_listener_needs_the_sound_and_notices_that_it_is_gone(asked: QuestionClips, tmp_path: Path) -> None:
    tables, _ = _tables(asked, "hears", tmp_path)
    accuracy = _table(tables, "benchmark_accuracy")
    assert _cell(accuracy, "all tasks", "accuracy") == 1.0
    sound = _table(tables, "benchmark_without_sound")
    assert _cell(sound, "Audio-driven Video Hallucination", "difference") == 0.0
    lost = _cell(sound, "Video-driven Audio Hallucination", "difference")
    assert lost == pytest.approx(18 / 24)  # "no" is right of 6 questions with sound and of all without
    gone = _table(tables, "benchmark_gone")
    assert {r.label: _cell(gone, r.label, "right now") for r in gone.rows} == {
        "Audio-driven Video Hallucination, black frames": 1.0, "Video-driven Audio Hallucination, muted": 1.0,
    }  # fmt: skip
    yes_no = _table(tables, "benchmark_yes_no")
    assert _cell(yes_no, "all yes/no questions", "F1") == 1.0
    caption = _table(tables, "benchmark_captions")
    if captions.available():
        said = _cell(caption, "as it is", "METEOR")
        without = _cell(caption, "mute", "METEOR")
        assert said is not None
        assert without is not None
        assert said > 0.95 > without


def test_a_watcher_does_not_need_it_and_hears_silence(asked: QuestionClips, tmp_path: Path) -> None:
    tables, _ = _tables(asked, "sees", tmp_path)
    sound = _table(tables, "benchmark_without_sound")
    assert {_cell(sound, r.label, "difference") for r in sound.rows} == {0.0}
    assert _cell(sound, "all tasks", "still right") == 1.0
    yes_no = _table(tables, "benchmark_yes_no")
    assert _cell(yes_no, "Video-driven Audio Hallucination", "recall (PA)") == 1.0
    assert _cell(yes_no, "Video-driven Audio Hallucination", "HR") == 0.0
    assert _cell(yes_no, "Audio-driven Video Hallucination", "HR") == 1.0
    assert _cell(yes_no, "AV Matching", "HR") == 0.0
    gone = _table(tables, "benchmark_gone")
    assert _cell(gone, "Video-driven Audio Hallucination, muted", "right now") == 0.0


@pytest.mark.parametrize(("model", "right"), [("yes", 1.0), ("no", 0.0)])
def test_habits_show_as_such(model: str, right: float, asked: QuestionClips, tmp_path: Path) -> None:
    tables, judged = _tables(asked, model, tmp_path)
    yes_no = _table(tables, "benchmark_yes_no")
    assert _cell(yes_no, "all yes/no questions", "says yes") == right
    assert _cell(yes_no, "all yes/no questions", "balanced accuracy") == 0.5
    dprime = _cell(yes_no, "all yes/no questions", "d'")
    assert dprime is not None
    assert abs(dprime) < 0.6  # log-linear rates of unequal counts
    assert {j.score.label for j in judged if j.item.question == "yes_no"} == {model}


def test_other_controls_give_no_made_up_labels(asked: QuestionClips, tmp_path: Path) -> None:
    _, parrot = _tables(asked, "parrot", tmp_path / "p")
    assert {j.score.label for j in parrot if j.item.question == "yes_no"} == {UNPARSED}
    _, common = _tables(asked, "common", tmp_path / "c")
    assert {j.score.label for j in common if j.item.question == "yes_no"} == {"yes"}


def test_clips_without_questions_are_told_what_is_missing() -> None:
    clips = foley.clip_set(2, seed=1)
    module = load("benchmark")
    assert items_of(module, clips.clips, Settings()) == []
    assert "name a question file" in skipped_of(module, clips.clips, Settings())[0]
    assert items_of(load("mma"), clips.clips, Settings()) == load("mma").items(clips.clips, Settings())


def test_one_track_clips_are_not_asked_to_lose_it() -> None:
    clips = [Clip(id="v"), Clip(id="a")]
    questions = [
        _presence("yes", PICTURE, clip="v", tags={"tracks": "video"}),
        _presence("yes", clip="a", tags={"tracks": "audio"}),
    ]
    made = benchmark.items(clips, Settings(), questions)
    assert [(i.clip, i.condition) for i in made] == [
        ("v", "original"), ("v", "black"), ("a", "original"), ("a", "mute"),
    ]  # fmt: skip


@pytest.mark.real
@pytest.mark.skipif(
    not SHARED.is_dir(), reason="no real clips: set EARWITNESS_SHARED to the folder with data/clips"
)
def test_real_clips_by_mma_names(tmp_path: Path) -> None:
    clips = open_clips(f"mma_names:{SHARED}")
    assert isinstance(clips, QuestionClips)
    tables, judged = _tables(clips, "hears", tmp_path)
    assert _cell(_table(tables, "benchmark_accuracy"), "audio, sound swapped", "accuracy") == 1.0
    silent = [j for j in judged if j.item.condition == "mute"]
    assert {j.score.label for j in silent} == {REFUSED}
    assert {j.item.target for j in silent} == {None}
    assert _cell(_table(tables, "benchmark_without_sound"), "audio, sound swapped", "without sound") == 0.0
