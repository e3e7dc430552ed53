"""The field's question files: read whole where they are at hand, in their documented form where they are not."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earwitness import media
from earwitness.datasets import mma_names, music_avqa, thud_files, vggsounder
from earwitness.datasets.opening import FORMATS, open_clips, read_questions
from earwitness.datasets.question_clips import QuestionClips, drawn
from earwitness.datasets.question_file import KEYS, QuestionFile, looks_like
from earwitness.protocols import benchmark
from earwitness.records import Clip, Question, View

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data"
real = [
    pytest.mark.real,
    pytest.mark.skipif(
        not SHARED.is_dir(), reason="no question files: set EARWITNESS_SHARED to the folder that holds data"
    ),
]


def _json(folder: Path, value: object, name: str = "qa.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(value))
    return path


def _lines(folder: Path, rows: list[dict[str, Any]], name: str = "qa.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _clip(path: Path, seconds: float = 1.0, *, beep: float | None = None, flash: float | None = None) -> Path:
    """A small clip, grey and silent but for a beep of 0.1 s and a white picture from ``flash`` on."""
    fps, rate = 20.0, 16_000
    frames = np.full((round(seconds * fps), 32, 32, 3), 60, np.uint8)
    wave = np.zeros((1, round(seconds * rate)), np.float32)
    if flash is not None:
        frames[round(flash * fps) :] = 250
    if beep is not None:
        at = round(beep * rate)
        wave[0, at : at + rate // 10] = 0.5 * np.sin(2 * np.pi * 1000 / rate * np.arange(rate // 10))
    path.parent.mkdir(parents=True, exist_ok=True)
    media.write_clip(frames, fps, wave, rate, path)
    return path


def _all_items(file: QuestionFile) -> Counter[str]:
    """Every question becomes an item under every default condition; the labels that are right as it is."""
    right: Counter[str] = Counter()
    for question in file.questions:
        for condition in ("original", "mute", "black"):
            item = benchmark.item(question, question.clip, condition)
            if condition == "original":
                right[item.target or ""] += 1
    return right


# --- read whole ----------------------------------------------------------------------------------------------


class TestWhole:
    pytestmark = real

    def test_avhbench(self) -> None:
        file = read_questions("avhbench", SHARED / "avhbench_qa.json")
        assert Counter((q.task, q.answer if q.kind == "yes_no" else "") for q in file.questions) == {
            ("Video-driven Audio Hallucination", "yes"): 1145, ("Video-driven Audio Hallucination", "no"): 1145,
            ("Audio-driven Video Hallucination", "yes"): 568, ("Audio-driven Video Hallucination", "no"): 568,
            ("AV Matching", "yes"): 938, ("AV Matching", "no"): 938, ("AV Captioning", ""): 1106,
        }  # fmt: skip
        assert len(file.clips) == len(file.missing) == 2136
        asked = [q for q in file.questions if "Hallucination" in q.task]
        assert all(q.asked for q in asked)  # each names its thing, so that silence has a right answer
        assert all(q.text.endswith("? Answer yes or no.") for q in asked)
        assert _all_items(file) == {"yes": 2651, "no": 2651, "": 1106}

    def test_avconfuse(self) -> None:
        first = read_questions("avconfuse", SHARED / "avconfusebench_test_m1.json")
        assert (first.name, len(first.questions), {q.answer for q in first.questions}) == (
            "avconfuse_m1", 73, {"no"},
        )  # fmt: skip
        assert all(q.asked in c.seen for q, c in zip(first.questions, first.clips, strict=True))
        second = read_questions("avconfuse", SHARED / "avconfusebench_test_m2.json")
        assert Counter(q.asked for q in second.questions) == dict.fromkeys(
            ("bird", "drill", "rain", "thunderstorm", "wind"), 20
        )
        assert _all_items(second) == {"HEARD": 100}

    def test_vggsounder(self) -> None:
        file = read_questions("vggsounder", SHARED / "vggsounder.csv")
        assert len(file.clips) == 12_014
        assert Counter(q.task for q in file.questions) == {
            "visible and audible": 2 * 18_377, "audible only": 2 * 10_149, "visible only": 2 * 983,
        }  # fmt: skip
        assert len(file.questions) == 2 * 29_509
        silent = [q for q in file.questions if q.task == "visible only" and q.evidence == ("audio",)]
        assert {q.answer for q in silent} == {"no"}
        by_id = {c.id: c for c in file.clips}
        assert all(q.asked in by_id[q.clip].seen and q.asked not in by_id[q.clip].heard for q in silent)

    def test_synchformer_signs_are_flipped(self) -> None:
        path = SHARED / "synchformer_vggsound_test_offsets.csv"
        file = read_questions("synchformer", path)
        with path.open() as lines:
            listed = {row["path"]: float(row["offset_sec"]) for row in csv.DictReader(lines)}
        assert len(file.questions) == 14_022
        assert len(set(listed.values())) == 21
        items = [benchmark.item(q, q.clip) for q in file.questions]
        assert all(i.offset == pytest.approx(-listed[i.clip]) for i in items)  # theirs > 0: sound early
        assert {i.target for i in items if listed[i.clip] > 0} == {"EARLY"}
        assert {i.target for i in items if listed[i.clip] < 0} == {"DELAY"}
        assert {i.target for i in items if listed[i.clip] == 0} == {"SYNC"}

    def test_thud(self) -> None:
        sft = read_questions("thud-files", SHARED / "thud_sft_video_train_with_audio.json")
        assert Counter(q.answer for q in sft.questions) == {"SYNC": 1278, "DELAY": 1278, "EARLY": 1278}
        assert len({c.cluster for c in sft.clips}) == 1278  # the three of one source are one cluster
        offsets = [abs(float(q.tags["offset"])) for q in sft.questions if q.answer != "SYNC"]
        assert min(offsets) >= 1.7
        assert max(offsets) <= 2.6
        dpo = read_questions("thud_files", SHARED / "thud_dpo_finevideo_av_mcqa_longform.json")
        assert Counter(q.answer for q in dpo.questions) == {"B": 773, "C": 277, "A": 234, "D": 32}
        assert all(len(q.choices) == 4 for q in dpo.questions)

    def test_mma_names(self) -> None:
        file = mma_names.read(SHARED / "clips")
        assert {q.answer for q in file.questions} == {"Cat", "Clapping", "Frog", "Didgeridoo"}
        assert file.notes == ("2 clips with other names are not asked about",)


# --- samples in the documented form --------------------------------------------------------------------------

CMM = {
    "category": "inter-modality_spurious_correlation", "sub_category": "visual-audio-language", "modality": "audio",
    "granularity": "event-level", "correlation_type": "global_frequency",
    "video_path": "./raw_files/a/b/1.mp4", "audio_path": "./raw_files/a/b/1.wav",
    "question": "Did you hear dog barking in the audio? Answer with yes or no.", "answer": "no", "pred": "No.",
}  # fmt: skip
DAILY = {
    "Question": "What happened at {the} same time?", "Choice": ["A. One", "B. Two", "C. Three", "D. Four"],
    "Answer": "B", "video_id": "vid1", "Type": "AV Event Alignment", "content_parent_category": "Lifestyle",
    "content_fine_category": "Routines", "video_category": "People", "video_duration": "30s",
}  # fmt: skip
OMNI = {
    "video": "video_1", "video_type": "Vlog", "duration": "03:28",
    "questions": [
        {
            "question": "How many?", "question_type": "counting", "audio_type": "Speech",
            "reasoning_steps": [{"modality": "audio", "evidence": "", "inference": ""}],
            "answer": "2", "options": ["A.0", "B.1", "C.2", "D.3"], "correct_option": "C",
        },
        {
            "question": "Which?", "question_type": "spatial understanding", "audio_type": "Music",
            "reasoning_steps": [{"modality": "vision"}, {"modality": "audio"}],
            "answer": "Northeast", "options": ["A.Northwest", "B.Northeast"], "correct_option": "B",
        },
    ],
}  # fmt: skip
SENSE = {
    "domain": "Music", "sub_category": "Live", "audio_class": ["Speech", "Music"], "duration": "<1min",
    "task0": {
        "task_domain": "Recognition", "task_type": "Audio Recognition", "question": "Which instrument?",
        "candidates": ["A. Drum", "B. Bell", "C. Harp", "D. Horn"], "answer": "D",
    },
    "task1": {
        "task_domain": "Understanding", "task_type": "Event Sorting", "question": "What first?",
        "candidates": ["A. This", "B. That"], "answer": "A",
    },
}  # fmt: skip
MUSIC = [
    {
        "video_id": f"0000{n}", "question_id": n, "type": json.dumps(kind), "question_content": text,
        "templ_values": json.dumps(values), "question_deleted": 0, "anser": answer,
    }
    for n, (kind, text, values, answer) in enumerate(
        [
            (["Audio-Visual", "Counting"], "How many instruments are sounding in the video?", [], "two"),
            (["Audio-Visual", "Counting"], "How many types of <Object> sound?", ["ukulele"], "three"),
            (["Audio-Visual", "Counting"], "How many types of <Object> sound?", ["cello"], "two"),
            (["Audio-Visual", "Existential"], "Is the <Object> in the video always playing?", ["cello"], "yes"),
            (["Visual", "Location"], "Where is the <LR>?", ["piano"], "left"),
            (["Audio", "Comparative"], "Is the <Object> louder than the <Object>?", ["flute", "drum"], "no"),
        ]
    )
]  # fmt: skip
AVQA = {
    "id": 183, "video_name": "-HG3Omg_89c_000030", "video_id": 341, "question_text": "What happened in the video?",
    "multi_choice": ["motorboat", "Yacht consignment", "Sailboat set sail", "Consignment car"], "answer": 1,
    "question_relation": "Both", "question_type": "Happening",
}  # fmt: skip
MME = {
    "video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "Humanity & History",
    "url": "", "videoID": "fFjv93ACGo8", "question_id": "001-1", "task_type": "Counting Problem",
    "question": "Which decoration appears most?",
    "options": ["A. Apples.", "B. Candles.", "C. Berries.", "D. The three kinds are equal."], "answer": "C",
}  # fmt: skip
LV = {
    "key": "Cm73ma6Ibcs", "type": "cartoon",
    "qa": [
        {
            "uid": "55", "question": "What year appears?\n(A) 1636\n(B) 1366\n(C) 1363\n(D) 1633", "answer": "D",
            "question_type": ["key information retrieval", "reasoning"], "time_reference": "00:15-00:19",
        }
    ],
}  # fmt: skip
SAMPLES: dict[str, Callable[[Path], Path]] = {
    "cmm": lambda f: _lines(f, [CMM, {**CMM, "answer": "yes"}], "output.json"),  # JSON Lines named .json, as theirs
    "daily_omni": lambda f: _json(f, [DAILY]),
    "omnivideobench": lambda f: _json(f, [OMNI]),
    "worldsense": lambda f: _json(f, {"vid": SENSE}),
    "music_avqa": lambda f: _json(f, MUSIC),
    "avqa": lambda f: _json(f, [AVQA]),
    "video_mme": lambda f: _lines(f, [MME]),
    "lvbench": lambda f: _lines(f, [LV]),
}
EXPECTED = {
    "cmm": ["no", "yes"], "daily_omni": ["B"], "omnivideobench": ["C", "B"], "worldsense": ["D", "A"],
    "music_avqa": ["two", "three", "two", "yes", "left", "no"], "avqa": ["B"], "video_mme": ["C"], "lvbench": ["D"],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_sample_of_each_documented_format(name: str, tmp_path: Path) -> None:
    file = read_questions(name, SAMPLES[name](tmp_path))
    assert [q.answer for q in file.questions] == EXPECTED[name]
    assert file.source
    assert file.licence
    for question in file.questions:
        item = benchmark.item(question, question.clip)
        assert item.target == question.answer
        assert item.style == ("standard" if name in ("cmm", "music_avqa") else "letter")
        assert question.tags["benchmark"] == name


def test_prompts_hold_question_and_options(tmp_path: Path) -> None:
    (daily,) = read_questions("daily-omni", _json(tmp_path, [DAILY])).questions
    assert "Question: What happened at {the} same time?\n" in daily.text
    assert "Choices: ['A. One', 'B. Two', 'C. Three', 'D. Four']\n" in daily.text
    (mme,) = read_questions("video_mme", _lines(tmp_path, [MME])).questions
    assert mme.text.startswith(
        "Select the best answer to the following multiple-choice question based on the video."
    )
    assert mme.text.endswith("D. The three kinds are equal.\nThe best answer is:")
    (lv,) = read_questions("lvbench", _lines(tmp_path, [LV], "lv.jsonl")).questions
    assert "What year appears?\nA. 1636\nB. 1366" in lv.text
    assert lv.tags["type"] == "key information retrieval|reasoning"


def test_what_questions_rest_on(tmp_path: Path) -> None:
    omni = read_questions("omnivideobench", _json(tmp_path, [OMNI])).questions
    assert [q.evidence for q in omni] == [("audio",), ("audio", "video")]
    cmm = read_questions("cmm", _lines(tmp_path, [CMM], "c.jsonl")).questions[0]
    assert (cmm.evidence, cmm.asked, cmm.tags["tracks"]) == (("audio",), "dog barking", "both")
    mme = read_questions("video_mme", _lines(tmp_path, [MME])).questions[0]
    assert mme.evidence == ()  # the file does not say
    assert benchmark.item(mme, "c", "mute").target is None


def test_music_avqa_has_closed_answers_by_type(tmp_path: Path) -> None:
    questions = read_questions("music_avqa", _json(tmp_path, MUSIC)).questions
    assert [q.kind for q in questions] == ["choice"] * 3 + ["yes_no", "choice", "yes_no"]
    assert questions[0].choices == ("three", "two")
    assert questions[5].text.startswith("Is the flute louder than the drum? ")
    assert questions[0].tags == {"benchmark": "music_avqa", "modality": "Audio-Visual", "type": "Count"}
    with pytest.raises(ValueError, match="1 values for 2 blanks"):
        music_avqa.filled("Is the <Object> louder than the <Object>?", ["flute"])


def test_music_avqa_r_tells_head_from_tail(tmp_path: Path) -> None:
    _json(tmp_path, MUSIC[:3], "avqa-test-head.json")
    _json(tmp_path, MUSIC[3:], "avqa-test-tail.json")
    both = read_questions("music_avqa_r", tmp_path)
    assert Counter(q.tags["split"] for q in both.questions) == {"head": 3, "tail": 3}
    assert both.name == "music_avqa_r"
    rows = [{**MUSIC[0], "question_id": 7, "anser": "two" if n < 8 else "five"} for n in range(10)]
    mixed = read_questions("music_avqa_r", _json(tmp_path, rows, "avqa-test-headtail.json"))
    assert len({q.id for q in mixed.questions}) == 10
    # 8 and 2 answers: mean 5, so only "two" is above 1.2 times it
    assert {(q.answer, q.tags["split"]) for q in mixed.questions} == {("two", "head"), ("five", "tail")}


def test_parquet_rows_are_read_like_others(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import Table, parquet

    parquet.write_table(Table.from_pylist([MME]), tmp_path / "test.parquet")
    (question,) = read_questions("video_mme", tmp_path / "test.parquet").questions
    assert question.choices[2] == "C. Berries."
    (tmp_path / "bad.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ValueError, match=r"bad\.parquet: is no Parquet file"):
        read_questions("video_mme", tmp_path / "bad.parquet")


def test_unknown_keys_are_tolerated(tmp_path: Path) -> None:
    row = {
        "video_id": "1",
        "task": "AV Matching",
        "text": "Do they match?",
        "label": "No",
        "extra": [1],
        "note": None,
    }
    assert len(read_questions("avhbench", _json(tmp_path, [row])).questions) == 1


# --- mistakes ------------------------------------------------------------------------------------------------

AVH = {"video_id": "00001", "task": "AV Matching", "text": "Do they match?", "label": "Yes"}


@pytest.mark.parametrize(
    ("name", "rows", "says"),
    [
        ("avhbench", [AVH, {**AVH, "label": "maybe"}], r"qa\.json, row 2: label wants Yes or No, got 'maybe'"),
        ("avhbench", [AVH, {**AVH, "task": "AV Guessing"}], r"row 2: task 'AV Guessing' is not known"),
        ("avhbench", [AVH, {**AVH, "text": None}], r"row 2: text wants a text, got None"),
        ("daily_omni", [{**DAILY, "Answer": "E"}], r"row 1: the answer 'E' is none of the options"),
        ("daily_omni", [{**DAILY, "Choice": "A or B"}], r"row 1: Choice wants a list of two or more texts"),
        ("avqa", [{**AVQA, "answer": 4}], r"row 1: answer wants 0 to 3, got 4 \(counted from 1\?\)"),
        ("avqa", [{**AVQA, "video_name": "x"}], r"row 1: video_id 'x' is not <11 characters>_<start"),
        ("omnivideobench", [{**OMNI, "duration": "long"}], r"row 1: question 1: duration wants minutes:seconds"),
        ("music_avqa", [{**MUSIC[0], "type": "Counting"}], r"row 1: type wants a list written as text"),
        ("lvbench", [{**LV, "qa": [{"question": "What?", "answer": "A"}]}], r"question has no options"),
        ("cmm", [{**CMM, "video_path": None, "audio_path": ""}], r"row 1: has neither video_path nor audio_path"),
        ("thud_files", [{"messages": [], "videos": ["a", "b"]}], r"row 1: videos wants one path"),
    ],
)
def test_a_bad_row_is_named(name: str, rows: list[dict[str, Any]], says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        read_questions(name, _json(tmp_path, rows))


def test_ten_mistakes_are_named_at_once(tmp_path: Path) -> None:
    rows = [AVH, *({**AVH, "label": "maybe"} for _ in range(12))]
    with pytest.raises(ValueError, match="row 2") as caught:
        read_questions("avhbench", _json(tmp_path, rows))
    assert str(caught.value).count("\n") == 10
    assert str(caught.value).endswith("... and 2 more")


def test_another_format_is_recognised(tmp_path: Path) -> None:
    path = _json(tmp_path, [AVH])
    with pytest.raises(ValueError, match=r"is no daily_omni file, it lacks .*; it looks like avhbench"):
        read_questions("daily_omni", path)
    with pytest.raises(ValueError, match="it has colour, shape"):
        read_questions("avhbench", _json(tmp_path, [{"colour": 1, "shape": 2}], "other.json"))
    assert [looks_like({*keys, "another key"}) for keys in KEYS.values()] == list(KEYS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "holds no rows"),
        ("[1, 2]", "wants a list of objects"),
        ('{"a": ', "line 1: is no JSON"),
        ('{"a": 1}\n{"b"', "line 2: is no JSON"),
    ],
)
def test_a_broken_file_says_where(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "qa.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_questions("avhbench", path)


def test_a_media_file_given_as_questions(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"\xff\xd8\xff\x00")
    with pytest.raises(ValueError, match=r"is not UTF-8 text \(a media file"):
        read_questions("avhbench", tmp_path / "clip.mp4")


def test_a_csv_with_too_many_fields(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text("video_id,label,modality\naaaaaaaaaaa_000001,child speech, kid speaking,AV\n")
    with pytest.raises(ValueError, match=r"line 2: has more or fewer fields than the header \(an unquoted comma"):
        read_questions("vggsounder", path)


def test_formats_are_named(tmp_path: Path) -> None:
    path = _json(tmp_path, [AVH])
    with pytest.raises(ValueError, match=r"no such format \(did you mean avhbench\?\)"):
        open_clips(f"avhbensh:{path}")
    with pytest.raises(ValueError, match="no such file"):
        open_clips(f"avhbench:{tmp_path / 'nothing.json'}")
    assert set(KEYS) - set(FORMATS) == {"worldsense_by_video"}


# --- media ---------------------------------------------------------------------------------------------------


def test_media_are_found_by_the_files_own_naming_and_missing_ones_are_named(tmp_path: Path) -> None:
    path = _json(tmp_path, [{**AVH, "video_id": f"0000{n}"} for n in range(4)])
    _clip(tmp_path / "videos" / "00001.mp4")
    _clip(tmp_path / "videos" / "deeper" / "00002.mkv")
    _clip(tmp_path / "00003.mp4")
    clips = open_clips(f"avhbench:{path}")
    assert isinstance(clips, QuestionClips)
    assert [c.id for c in clips.clips] == ["00001", "00002", "00003"]
    assert clips.missing == ("00000",)
    assert clips.left_out == ["avhbench: media of 1 of 4 clips are not there (00000): 1 of 4 questions not asked"]
    fewer = open_clips(f"avhbench:{path}", limit=2)
    assert isinstance(fewer, QuestionClips)
    assert fewer.left_out[1] == "avhbench: 2 of 3 clips drawn, balanced over tasks"
    assert {q.clip for q in fewer.questions} == {c.id for c in fewer.clips}
    assert [q.clip for q in clips.questions] == ["00001", "00002", "00003"]
    shown = clips.media(clips.clips[0], View(fps=4.0))
    assert shown.frames is not None
    assert shown.wave is not None
    assert clips.file(clips.clips[1], tmp_path / "out").name == "00002.mkv"
    elsewhere = tmp_path / "elsewhere"
    _clip(elsewhere / "00000.mp4")
    assert [c.id for c in open_clips(f"avhbench:{path}", media=elsewhere).clips] == ["00000"]


def test_no_media_at_all_is_an_error_that_tells_what_to_do(tmp_path: Path) -> None:
    path = _json(tmp_path, [AVH])
    with pytest.raises(
        ValueError, match=r"none of the media of its 1 clip are in .*\(wanted: 00001\.mp4\).*media=FOLDER"
    ):
        open_clips(f"avhbench:{path}")
    with pytest.raises(ValueError, match="no such media folder"):
        open_clips(f"avhbench:{path}", media=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty \(wanted: 00001\.mp4\); is that their folder"):
        open_clips(f"avhbench:{path}", media=tmp_path / "empty")


def test_two_files_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    path = _json(tmp_path, [AVH])
    for folder in ("a", "b"):
        _clip(tmp_path / "videos" / folder / "00001.mp4")
    with pytest.raises(ValueError, match="two files have that name"):
        open_clips(f"avhbench:{path}")


def test_daily_omni_and_cmm_naming(tmp_path: Path) -> None:
    daily = _json(tmp_path, [DAILY])
    _clip(tmp_path / "Videos" / "vid1" / "vid1_video.mp4")
    assert open_clips(f"daily_omni:{daily}").clips[0].path == str(tmp_path / "Videos" / "vid1" / "vid1_video.mp4")
    cmm = _lines(tmp_path, [CMM, {**CMM, "video_path": "./raw_files/a/c/1.mp4", "answer": "yes"}], "cmm.jsonl")
    for folder in ("b", "c"):  # the same name in two folders: the path of the row tells them apart
        _clip(tmp_path / "media" / "a" / folder / "1.mp4")
    found = open_clips(f"cmm:{cmm}", media=tmp_path / "media").clips
    assert [Path(c.path or "").parent.name for c in found] == ["b", "c"]
    assert [c.id for c in found] == ["a__b__1", "a__c__1"]


def test_vggsounder_takes_the_cut_clip_or_its_part_of_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "v.csv"
    path.write_text(
        "video_id,label,modality,background_music,static_image,voice_over\n"
        'aaaaaaaaaaa_000002,"child speech, kid speaking",AV,False,False,True\n'
        "bbbbbbbbbbb_000001,dog barking,V,True,False,False\n"
    )
    _clip(tmp_path / "aaaaaaaaaaa_000002.mp4")
    _clip(tmp_path / "bbbbbbbbbbb.mp4", 12.0, flash=6.0)
    clips = open_clips(f"vggsounder:{path}")
    cut, part = clips.clips
    assert (cut.start, cut.end) == (0.0, None)
    assert (part.start, part.end, part.source) == (1.0, 11.0, "bbbbbbbbbbb")
    shown = clips.media(part, View(fps=2.0))
    assert shown.duration == pytest.approx(10.0)
    assert shown.frames is not None
    bright = shown.frames.mean((1, 2, 3)) > 150
    assert bright.tolist() == [t >= 5.0 for t in np.arange(20) / 2]  # the flash at 6 s is at 5 s of the part
    assert part.seen == ("dog barking",)
    assert part.heard == ()
    with pytest.raises(ValueError, match="is not <11 characters>_<start in seconds>"):
        vggsounder.parts("short_000001")


@pytest.mark.parametrize(("offset", "at"), [(1.0, 1.5), (-1.0, 3.5), (0.0, 2.5)])
def test_synchformer_cuts_sound_and_picture_from_their_own_starts(offset: float, at: float, tmp_path: Path) -> None:
    """A flash and a beep at 4 s; the picture is cut from 1.5 s on: it flashes at 2.5 s, the sound by the offset."""
    path = tmp_path / "list.csv"
    path.write_text(f"path,offset_sec,vstart_sec\naaaaaaaaaaa_2000_12000,{offset},1.5\n")
    _clip(tmp_path / "aaaaaaaaaaa_000002.mp4", 10.0, beep=4.0, flash=4.0)
    clips = open_clips(f"synchformer:{path}")
    assert isinstance(clips, QuestionClips)
    shown = clips.media(clips.clips[0], View(fps=20.0))
    assert shown.frames is not None
    assert shown.wave is not None
    assert shown.duration == pytest.approx(5.0)
    assert shown.wave.shape == (1, 80_000)
    assert np.flatnonzero(shown.frames.mean((1, 2, 3)) > 150)[0] / 20 == pytest.approx(2.5, abs=0.051)
    beep = np.flatnonzero(np.abs(shown.wave[0]) > 0.1)[0] / 16_000
    assert beep == pytest.approx(at, abs=0.01)
    item = benchmark.item(clips.questions[0], "s")
    assert item.offset == pytest.approx(beep - 2.5, abs=0.06)  # > 0: the sound comes after the picture
    assert item.target == ("SYNC" if offset == 0 else "EARLY" if offset > 0 else "DELAY")
    written = media.load(clips.file(clips.clips[0], tmp_path / "out"), View(fps=20.0))
    assert written.wave is not None
    assert np.flatnonzero(np.abs(written.wave[0]) > 0.1)[0] / 16_000 == pytest.approx(at, abs=0.02)


def test_an_offset_that_leaves_the_clip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,offset_sec,vstart_sec\naaaaaaaaaaa_0_10000,-1.0,0.5\nbbbbbbbbbbb_0_10000,400,0\n")
    with pytest.raises(ValueError, match=r"line 2: .*starts before the clip") as caught:
        read_questions("synchformer", path)
    assert "line 3: offset_sec=400 s is beyond 3 s (milliseconds?)" in str(caught.value)


def test_thud_names_carry_the_truth() -> None:
    assert thud_files.truth("Funny (May 2017)10_delay_2.16s.mp4") == ("Funny (May 2017)10", 2.16)
    assert thud_files.truth("fall_early_1.92s") == ("fall", -1.92)
    assert thud_files.truth("a.b_delayed.mp4") == ("a.b_delayed", 0.0)


def test_mma_names_needs_two_classes_and_known_ones(tmp_path: Path) -> None:
    for name in ("Yaaaaaaaaaaa_repDiff_Cat_0.mp4", "Ybbbbbbbbbbb_repDiff_Cat_1.mp4", "Yaaaaaaaaaaa.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="a choice needs two classes"):
        mma_names.read(tmp_path)
    (tmp_path / "classes.txt").write_text("Cat\nChurch_bell\n")
    file = mma_names.read(tmp_path)
    assert [q.answer for q in file.questions] == ["Cat", "Cat"]
    assert set(file.questions[0].choices) == {"Cat", "Church_bell"}
    (tmp_path / "classes.txt").write_text("Dog\nChurch_bell\n")
    with pytest.raises(ValueError, match=r"its class 'Cat' is not in"):
        mma_names.read(tmp_path)


# --- limit ---------------------------------------------------------------------------------------------------


def _file(tasks: dict[str, list[str]]) -> QuestionFile:
    questions = [
        Question(id=f"{task}{n}", clip=clip, task=task, kind="yes_no", text="?", answer="no")
        for task, clips in tasks.items()
        for n, clip in enumerate(clips)
    ]
    ids = dict.fromkeys(q.clip for q in questions)
    return QuestionFile(
        name="x", source="x", licence="x", clips=tuple(Clip(id=i) for i in ids), questions=tuple(questions)
    )


def test_a_limit_keeps_rare_tasks_and_depends_on_the_seed_alone() -> None:
    file = _file({"common": [f"c{n}" for n in range(200)], "rare": [f"r{n}" for n in range(8)]})
    chosen = drawn(file, file.clips, 10, seed=0)
    assert len(chosen) == 10
    assert sum(c.id.startswith("r") for c in chosen) == 5
    assert [c.id for c in chosen] == [c.id for c in file.clips if c in chosen]  # in the file's order
    assert [c.id for c in drawn(file, tuple(reversed(file.clips)), 10, 0)] == [c.id for c in reversed(chosen)]
    assert drawn(file, file.clips, 10, seed=1) != chosen
    assert len(drawn(file, file.clips, 100, seed=0)) == 100  # the rare task is used up
    assert drawn(file, file.clips, 500, seed=0) == list(file.clips)
