"""Other harnesses' outputs read and scored again: formats, keys, failures, the published parsers side by side."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

import tables as tt
from earwitness import compare, export, report, rescore
from earwitness import run as runs
from earwitness.rescore.legacy import default_synced, mad_reading
from small_runs import rows_file, yes_no

DATA = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data"
FAILURES = ["", "  ", "[REQUEST FAILED]", "ERROR: CUDA out of memory", "Error: timed out", "<error>", "nan",
            "RuntimeError: CUDA error: device-side assert", "torch.OutOfMemoryError: CUDA out of memory.",
            "Traceback (most recent call last):\n  File", "Failed to obtain answer via API.", "[ERROR]",
            "API error 429: slow down", "503 Service Unavailable"]  # fmt: skip
ANSWERS = ["no", "I cannot hear any audio in this video.", "No error can be heard.", "A computer's error sound.",
           "A. dog", "None", "N", "I do not know", "Failed brakes screech.", "500 people clap.",
           "Terror: a horror film.", "Request denied"]  # fmt: skip


# What is no answer


@pytest.mark.parametrize("text", FAILURES)
def test_what_a_program_wrote_is_a_failure(text: str, tmp_path: Path) -> None:
    assert rescore.failure(text)
    (reply,) = rescore.read(yes_no(tmp_path / "x.jsonl", [text])).replies
    assert reply.answer.text is None
    assert reply.answer.error
    assert reply.raw == text


@pytest.mark.parametrize("text", ANSWERS)
def test_what_a_model_said_is_an_answer(text: str) -> None:
    assert rescore.failure(text) is None


@pytest.mark.parametrize("value", [None, 3, ["no"]])
def test_what_is_no_text_is_a_failure(value: object) -> None:
    assert rescore.failure(value)


# Keys


def test_keys_are_found_by_their_usual_names(tmp_path: Path) -> None:
    for prediction, truth in [("pred", "answer"), ("response", "gt"), ("answer", "label"), ("output", "label")]:
        path = rows_file(tmp_path / "x.jsonl", [{"question": "Is there a dog?", prediction: "Yes.", truth: "no"}])
        if (prediction, truth) == ("answer", "label"):
            with pytest.raises(ValueError, match="prediction or truth"):
                rescore.read(path)
            continue
        (reply,) = rescore.read(path).replies
        assert (reply.answer.text, reply.item.target) == ("Yes.", "no")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"pred": "a", "response": "b", "gt": "yes"}, "prediction and response|pred and response"),
        ({"pred": "a", "gt": "yes", "truth": "no"}, "truth and gt could both be the truth"),
        ({"pred": "yes"}, "no truth"),
        ({"gt": "yes"}, "no prediction"),
        ({"answer": "yes"}, "prediction or truth"),
        ({"pred": "a", "answer": "yes", "label": "no"}, "answer and label could both be the truth"),
    ],
)
def test_what_could_be_two_things_is_asked_back(row: dict[str, str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        rescore.read(rows_file(tmp_path / "x.jsonl", [row]))


def test_two_names_for_the_same_value_are_no_riddle(tmp_path: Path) -> None:
    (reply,) = rescore.read(
        rows_file(tmp_path / "x.jsonl", [{"pred": "Yes", "response": "yes", "gt": "yes"}])
    ).replies
    assert reply.item.target == "yes"


def test_keys_can_be_named(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "x.jsonl", [{"said": "no", "gold_label": "yes", "response": "yes", "nr": 7}])
    keys = {"prediction": "said", "truth": "gold_label", "id": "nr"}
    (reply,) = rescore.read(path, keys=keys).replies
    assert (reply.answer.text, reply.item.target) == ("no", "yes")
    with pytest.raises(ValueError, match="no such role"):
        rescore.read(path, keys={"guess": "said"})
    with pytest.raises(ValueError, match="no row has that key"):
        rescore.read(path, keys={"prediction": "sayd"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ('{"pred": "a", "gt": "yes"}\n{"pred": "b", "gt"\n', "line 2"),
        ("{'pred': 'a'}\n{'pred': 'b'}\n", "Python dict"),
        ('[{"pred": "a"', "line 1"),
        ('["a", "b"]', "entry 1: a row is an object"),
        ('{"pred": "a", "gt": "yes"}\n{"pred": "b"}\n', "line 2: no 'gt'"),
        ('{"pred": "a", "gt": null}\n', "truth is empty"),
        ('{"pred": "a", "gt": 1.5}\n', "truth must be a text"),
        ('{"pred": "a", "gt": "E", "choices": ["x", "y"]}\n', "none of"),
        ('{"pred": "a", "gt": "x", "choices": "x or y"}\n', "neither a list nor lettered lines"),
    ],
)
def test_a_bad_file_is_named_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        rescore.read(path)
    assert "bad.json" in str(error.value)


def test_arrays_objects_and_lines_are_one(tmp_path: Path) -> None:
    rows = [{"pred": "yes", "gt": "yes", "id": "a"}, {"pred": "no", "gt": "yes", "id": "b"}]
    items = []
    for text in (
        json.dumps(rows),
        json.dumps(rows, indent=2),
        json.dumps({"config": {}, "results": rows}),
        "\n\n".join(json.dumps(r) for r in rows),
        "\ufeff" + json.dumps(rows),
    ):
        (tmp_path / "x.json").write_text(text, encoding="utf-8")
        items.append([(r.item, r.answer.text) for r in rescore.read(tmp_path / "x.json").replies])
    assert all(some == items[0] for some in items)
    (tmp_path / "one.jsonl").write_text(json.dumps({**rows[0], "answers": ["x"]}))
    assert len(rescore.read(tmp_path / "one.jsonl").replies) == 1


def test_no_file_and_a_folder_say_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no file"):
        rescore.read(tmp_path / "nothing.jsonl")
    with pytest.raises(ValueError, match="but a folder"):
        rescore.read(tmp_path)
    with pytest.raises(ValueError, match="no such format"):
        rescore.read(tmp_path, "xml")


# What kind of question a row is


OPTIONS = ["dog", "cat", "bird", "rain"]


@pytest.mark.parametrize(
    "row",
    [
        {"choices": OPTIONS, "gt": "cat"},
        {"choices": OPTIONS, "gt": "B"},
        {"choices": ["B", "cat", "bird", "rain"], "gt": "cat"},
        {"choices": [f"{c}. {o}" for c, o in zip("ABCD", OPTIONS, strict=True)], "gt": "B"},
        {"choices": dict(zip("ABCD", OPTIONS, strict=True)), "gt": "cat"},
        {"choices": "A. dog\nB. cat\nC. bird\nD. rain", "gt": "(B)"},
        {"question": "What is heard?\nA. dog\nB. cat\nC. bird\nD. rain\nAnswer with the letter.", "gt": "B"},
        {"question": "Say A. x\nB. y\nWhat is heard?\n(A) dog\n(B) cat\n(C) bird\n(D) rain", "gt": "B."},
    ],
)
def test_options_are_found_where_they_stand(row: dict[str, Any], tmp_path: Path) -> None:
    texts = ["cat", "B" if row["gt"] != "cat" or isinstance(row["choices"], dict) else "a cat", "rain", "Hm.", ""]
    path = rows_file(tmp_path / "x.jsonl", ({"pred": t, "id": n, **row} for n, t in enumerate(texts)))
    found = rescore.read(path)
    marks = [rescore.judge(r).score for r in found.replies]
    assert [m.correct for m in marks] == [True, True, False, None, None]
    assert len(found.replies[0].item.choices) == 4


def test_bare_letters_are_a_choice_among_letters(tmp_path: Path) -> None:
    rows = [{"pred": "B. a dog", "gt": "B"}, {"pred": "(E)", "gt": "A"}, {"pred": "What a day", "gt": "E"}]
    found = rescore.read(rows_file(tmp_path / "x.jsonl", rows))
    assert found.replies[0].item.choices == tuple("ABCDE")
    t = tt.table(rescore.tables(found), "benchmark_accuracy")
    assert tt.cell(t, "all questions", "unparsed") == 1
    assert tt.value(t, "all questions", "accuracy") == 0.5


def test_short_truths_are_the_options_of_their_task(tmp_path: Path) -> None:
    rows = [
        {"task": "count", "gt": t, "pred": p}
        for t, p in [("two", "There are two."), ("three", "two"), ("one", "no idea")]
    ]
    rows += [{"task": "where", "gt": t, "pred": p} for t, p in [("left", "on the left"), ("right", "left")]]
    found = rescore.read(rows_file(tmp_path / "x.jsonl", rows))
    assert found.replies[0].item.choices == ("one", "three", "two")
    assert found.replies[3].item.choices == ("left", "right")
    t = tt.table(rescore.tables(found), "benchmark_accuracy")
    assert tt.value(t, "count", "accuracy") == 0.5
    assert tt.value(t, "where", "accuracy") == 0.5


def test_long_truths_are_captions(tmp_path: Path) -> None:
    rows = [{"gt": "A man plays the drums in a garage while it rains.", "pred": "A man plays drums."}] * 1
    found = rescore.read(rows_file(tmp_path / "x.jsonl", rows))
    assert found.replies[0].item.question == "caption"
    assert found.replies[0].item.tags["reference"].startswith("A man plays")


def test_repeated_ids_stay_apart_and_repeated_rows_are_read_once(tmp_path: Path) -> None:
    """AVCD's ids are clips; a log appended to twice holds rows twice; repeated epochs are answers of their own."""
    rows = [
        {"id": "00191.mp4", "question": "Is there a dog sound?", "answer": "yes", "pred": "yes"},
        {"id": "00191.mp4", "question": "Is there a cat sound?", "answer": "no", "pred": "yes"},
        {"id": "00191.mp4", "question": "Is there a cat sound?", "answer": "no", "pred": "no"},
        {"id": "00191.mp4", "question": "Is there a dog sound?", "answer": "yes", "pred": "yes"},
    ]
    found = rescore.read(rows_file(tmp_path / "avcd.jsonl", rows))
    assert found.notes == ("1 row stood there twice, word for word: read once",)
    assert len({r.item.id for r in found.replies}) == 3
    assert {r.item.source for r in found.replies} == {"00191"}, "one clip is one cluster"


def test_the_same_questions_pair_between_two_models(tmp_path: Path) -> None:
    a = rescore.read(yes_no(tmp_path / "a.jsonl", ["yes", "no", ""]))
    b = rescore.read(yes_no(tmp_path / "b.jsonl", ["no", "no", "no"]))
    assert (a.model, b.model) == ("a", "b")
    assert [r.item for r in a.replies] == [r.item for r in b.replies]


# The published parsers. Golden: what the released functions return for these texts.


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", "SYNC"),
        ("I cannot tell.", "SYNC"),
        ("The sound is delayed by two seconds.", "SYNC"),
        ("The audio and video are synchronized.", "SYNC"),
        ("They are not synchronized.", "DESYNC_NO_DIRECTION"),
        ("They are not synchronized: the audio is delayed.", "DELAY"),
        ("Out of sync; the sound precedes the fall.", "EARLY"),
        ("Not synchronized: seen at 3.0s, heard at 5.1 s.", "DELAY"),
        ("There is no mismatch at all.", "DESYNC_NO_DIRECTION"),
        ('{"synced": false, "direction": "early", "offset_sec": 1.0}', "EARLY"),
        ('{"synced": "true"}', "SYNC"),
        ('{"synced": false, "direction": "late"}', "DESYNC_NO_DIRECTION"),
    ],
)
def test_thuds_parser_defaults_to_synced(text: str, label: str) -> None:
    assert default_synced(text) == label


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("Yes.", "yes"),
        ("No, that is not correct.", "yes"),
        ("That is incorrect.", "no"),
        ("Nothing is heard.", "no"),
        ("y", "yes"),
        ("A dog barks.", "a"),
    ],
)
def test_mads_parser_takes_correct_for_yes(text: str, said: str) -> None:
    assert mad_reading(text) == said


@pytest.mark.parametrize(
    ("parser", "text", "right"),
    [
        ("av-confuse", "Yes, there is a piano sound", True),
        ("av-confuse", "I do not know", True),
        ("av-confuse", "", True),
        ("av-confuse", "Yes.", False),
        ("cmm", "Not sure", True),
        ("cmm", "None", True),
        ("cmm", "There is no piano.", False),
        ("avcd", "Yes, I notice a piano.", True),
        ("avcd", "It is silent.", False),
        ("mad", "ERROR: boom", None),
        ("mad", "No, that is correct.", False),
        ("mad", "Nothing.", True),
    ],
)
def test_the_published_rules_where_no_is_right(parser: str, text: str, right: bool | None, tmp_path: Path) -> None:
    found = rescore.read(yes_no(tmp_path / "x.jsonl", [text]))
    made = rescore.side_by_side(found.replies, parser)
    sides = tt.table(made, "rescore_sides")
    row = f"as published ({parser})"
    got = [tt.cell(sides, row, c) for c in ("right", "wrong", "not scored")]
    assert got == [right is True, right is False, right is None]


def test_a_parser_is_for_its_questions(tmp_path: Path) -> None:
    found = rescore.read(yes_no(tmp_path / "x.jsonl", ["yes"]))
    with pytest.raises(ValueError, match="reads no question of this file"):
        rescore.tables(found, "thud-default-synced")
    with pytest.raises(ValueError, match="no such parser"):
        rescore.tables(found, "vlmevalkit")


def test_differences_are_counted_and_long_texts_cut(tmp_path: Path) -> None:
    texts = ["Yes, there is a piano sound"] * 3 + [
        "x" * 200 + " no idea",
        "no",
        "",
        "",
        *(f"not {n}" for n in range(12)),
    ]
    made = rescore.tables(rescore.read(yes_no(tmp_path / "x.jsonl", texts)), "av-confuse")
    moved = {r.label: r.cells[0] for r in tt.table(made, "rescore_differences").rows}
    assert moved["right there, wrong here"] == 3
    assert moved["right there, failed here"] == 2
    listed = tt.table(made, "rescore_texts").rows
    assert len(listed) == 10
    assert listed[0].cells == ("no", "right", "wrong (yes)", 3)
    assert all(len(r.label) <= 92 for r in listed)
    caption = tt.table(made, "rescore_sides").caption
    assert caption.startswith("Published rule: ")
    assert f"{sum(moved.values())} of {len(texts)} answers are scored differently" in caption  # type: ignore[arg-type]


# A run folder


def test_a_rescored_file_is_a_run_like_any_other(tmp_path: Path) -> None:
    paths = [yes_no(tmp_path / f"{m}.jsonl", [a] * 8 + ["", "no"]) for m, a in (("deaf", "yes"), ("hears", "no"))]
    folders = []
    for path in paths:
        folder = tmp_path / f"run_{path.stem}"
        made = rescore.write(rescore.read(path), folder, "av-confuse")
        assert runs.read_tables(folder) == made
        assert "rescore_sides" in {t.id for t in made}
        folders.append(folder)
    info = runs.read_info(folders[0])
    assert (info.model, info.item_count, info.protocols) == ("deaf", 10, ["benchmark"])
    judged = runs.judged(folders[0])
    assert sum(j.answer.error is not None for j in judged) == 1
    page = report.build(folders[0]).read_text()
    assert "deaf" in page
    assert any(t.rows for t in compare.compare_runs(*folders))
    export.to_inspect(folders[0], tmp_path / "x.eval")
    with pytest.raises(runs.RunError, match="not empty"):
        rescore.write(rescore.read(paths[0]), folders[0])


# The docs


def test_the_page_names_every_format_key_and_parser_and_its_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "rescore.md").read_text()
    for name in (*rescore.FORMATS, *rescore.PARSERS):
        assert f"`{name}`" in page, name
    for role, names in rescore.KEYS.items():
        assert f"| {role} | {', '.join(f'`{n}`' for n in names)} |" in page
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/rescore.md", "exec"), {})


# The field's own files


@pytest.mark.real
@pytest.mark.skipif(
    not (DATA / "avconfusebench_test_m1.json").is_file(),
    reason="no question files: set EARWITNESS_SHARED to the folder that holds data",
)
def test_av_confuses_own_scorer_gives_everything_to_the_parrot(tmp_path: Path) -> None:
    """Its 73 questions answered as its script writes them down: "output" beside "yes/no"."""
    rows = json.loads((DATA / "avconfusebench_test_m1.json").read_text())
    assert len(rows) == 73
    says = ["Yes, there is a piano sound.", "I do not know.", "Yes."]
    for n, row in enumerate(rows):
        row["output"] = says[n % 3].lower()
        row["yes/no"] = int("no" in row["output"])
    (tmp_path / "omni.json").write_text(json.dumps(rows))
    found = rescore.read(tmp_path / "omni.json")
    assert len(found.replies) == 73
    assert len({r.item.source for r in found.replies}) == len({r["video_id"] for r in rows})
    made = rescore.tables(found, "av-confuse")
    sides = tt.table(made, "rescore_sides")
    share = sum(n % 3 != 2 for n in range(73)) / 73
    assert tt.value(sides, "as published (av-confuse)", "accuracy") == pytest.approx(share)
    assert tt.value(sides, "the file's own score", "accuracy") == pytest.approx(share)
    assert tt.value(sides, "here", "accuracy") == 0.0
    assert tt.cell(sides, "here", "not scored") == sum(n % 3 == 1 for n in range(73))
