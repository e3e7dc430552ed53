"""The files of lmms-eval, inspect_ai, Thud, CMM and MAD, as those harnesses write them, read and scored again."""

from __future__ import annotations

import json
import re
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import small_runs
import tables as tt
from earwitness import export, rescore
from earwitness import run as runs
from earwitness.records import Question
from earwitness.rescore.legacy import default_a, default_synced
from small_runs import rows_file, yes_no

# CMM


def cmm_row(question: str, answer: str, pred: str, **more: str) -> dict[str, str | None]:
    return {"category": "over-reliance_unimodal_priors", "sub_category": "overrely_visual_ignore_audio",
            "modality": "visual-audio", "granularity": "event-level", "correlation_type": None,
            "video_path": "./raw_files/x/1078.mp4", "audio_path": "./raw_files/x/1078.wav", "question": question,
            "answer": answer, "pred": pred, **more}  # fmt: skip


def test_cmm_is_known_by_its_columns(tmp_path: Path) -> None:
    rows = [
        cmm_row("Did you hear dog barking in the audio? Answer with yes or no.", "yes", "Not sure."),
        cmm_row("Did you see a cat in the video? Answer with yes or no.", "no", "No, I did not."),
        cmm_row("Did you see a dog in the video? Answer with yes or no.", "yes", "Yes."),
        cmm_row("Did you hear rain in the audio? Answer with yes or no.", "no", "None"),
    ]
    found = rescore.read(rows_file(tmp_path / "output.json", rows))
    assert found.format == "cmm"
    assert [r.item.evidence for r in found.replies] == [("audio",), ("video",), ("video",), ("audio",)]
    assert [r.item.asked for r in found.replies] == ["dog barking", "cat", "dog", "rain"]
    assert {r.item.clip for r in found.replies} == {"x__1078"}
    made = rescore.tables(found, "cmm")
    sides = tt.table(made, "rescore_sides")
    assert tt.value(sides, "as published (cmm)", "accuracy") == 0.75  # "None" is "no" in its first five characters
    assert tt.value(sides, "here", "accuracy") == 1.0
    assert tt.cell(sides, "here", "not scored") == 2
    matrix = tt.table(made, "benchmark_yes_no")
    assert tt.value(matrix, "overrely_visual_ignore_audio", "recall (PA)") == 1.0


def test_mads_results_on_avhbench(tmp_path: Path) -> None:
    tasks = ["Video-driven Audio Hallucination", "Audio-driven Video Hallucination", "AV Matching"]
    rows = [
        {
            "video_id": f"{n}",
            "task": t,
            "question": "Is it?",
            "ground_truth": g,
            "prediction": p,
            "inference_time": 1.5,
        }
        for n, (t, g, p) in enumerate(
            (t, g, p)
            for t in tasks
            for g, p in [("Yes", "ERROR: boom"), ("No", "No, that is correct."), ("Yes", "Yes")]
        )
    ]
    (tmp_path / "results.json").write_text(json.dumps(rows, indent=2))
    made = rescore.tables(rescore.read(tmp_path / "results.json"), "mad")
    sides = tt.table(made, "rescore_sides")
    assert tt.value(sides, "as published (mad)", "accuracy") == 0.5
    assert tt.cell(sides, "as published (mad)", "not scored") == 3
    assert tt.value(sides, "here", "accuracy") == 1.0
    assert tt.cell(tt.table(made, "benchmark_accuracy"), tasks[0], "failed") == 1


# lmms-eval


def sample(n: int, text: str, target: str = "D", **more: Any) -> dict[str, Any]:
    """One line of ``*_samples_*.jsonl`` as version 0.7 writes it."""
    prompt = "Carefully watch this video.\nWhat is heard?\nA. A dog\nB. A cat barking\nC. No sound\nD. A bird\n"
    return {"doc_id": n, "target": target, "filtered_resps": text, "token_counts": [None], "doc_hash": "x",
            "input_media": [f"/data/videos/v{n}.mp4"], "input": prompt, **more}  # fmt: skip


def worldsense(n: int, text: str, score: float) -> dict[str, Any]:
    record = {"question_id": n, "category": "Audio Change", "score": score, "domain": "Music", "audio_class": ["x"]}
    return sample(n, text, "utils.worldsense_doc_to_target", worldsense_score=record)


CRASHES = ["", "[REQUEST FAILED]", "I cannot hear any audio in this video.", "D. A bird"]


def test_lmms_evals_parser_says_a_four_times(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "x_samples_worldsense.jsonl", (sample(n, t) for n, t in enumerate(CRASHES)))
    found = rescore.read(path)
    assert found.format == "lmms-eval"
    options = {"A": "A dog", "B": "A cat barking", "C": "No sound", "D": "A bird"}
    assert [default_a(t, options) for t in CRASHES] == ["A"] * 4
    made = rescore.tables(found, "lmms-eval-default-a")
    sides = tt.table(made, "rescore_sides")
    assert tt.value(sides, "as published (lmms-eval-default-a)", "accuracy") == 0.0
    assert tt.value(sides, "here", "accuracy") == 1.0
    assert [tt.cell(sides, "here", c) for c in ("right", "wrong", "not scored")] == [1, 0, 3]
    texts = tt.table(made, "rescore_texts")
    assert [r.label for r in texts.rows] == [f"\u201c{t}\u201d" for t in CRASHES]
    assert texts.rows[3].cells == ("D", "wrong", "right (D)", 1)
    assert [r.cells[2] for r in texts.rows[:3]] == ["failed", "failed", "unparsed"]


def test_a_run_that_crashed_throughout_scores_the_share_of_a(tmp_path: Path) -> None:
    """Gold A is 25.2 %: so is the published score of nothing at all. Here there is no score."""
    gold = ["A"] * 252 + ["B"] * 250 + ["C"] * 249 + ["D"] * 249
    path = rows_file(tmp_path / "s.jsonl", (sample(n, "[REQUEST FAILED]", g) for n, g in enumerate(gold)))
    made = rescore.tables(rescore.read(path), "lmms-eval-default-a")
    sides = tt.table(made, "rescore_sides")
    assert tt.value(sides, "as published (lmms-eval-default-a)", "accuracy") == pytest.approx(0.252)
    assert tt.cell(sides, "here", "accuracy") is None
    assert tt.cell(sides, "here", "not scored") == 1000
    t = tt.table(made, "benchmark_accuracy")
    assert tt.cell(t, "all questions", "accuracy") is None
    assert tt.cell(t, "all questions", "failed") == 1000


def test_a_log_without_truth_wants_the_questions(tmp_path: Path) -> None:
    path = rows_file(tmp_path / "x.jsonl", [worldsense(1, "D. A bird", 0.0), worldsense(2, "", 1.0)])
    with pytest.raises(ValueError, match=r"holds no truth .*utils\.worldsense"):
        rescore.read(path)
    questions = [
        Question(id=str(n), clip=f"c{n}", task="Audio Change", kind="choice", text="?", answer=a,
                 choices=("A. A dog", "B. A cat barking", "C. No sound", "D. A bird"))
        for n, a in ((1, "D"), (2, "A"))
    ]  # fmt: skip
    found = rescore.read(path, questions=questions)
    sides = tt.table(rescore.tables(found, "lmms-eval-default-a"), "rescore_sides")
    assert tt.value(sides, "as published (lmms-eval-default-a)", "accuracy") == 0.5
    assert tt.value(sides, "the file's own score", "accuracy") == 0.5
    assert tt.value(sides, "here", "accuracy") == 1.0
    with pytest.raises(ValueError, match="question 2 is not in the question file"):
        rescore.read(path, questions=questions[:1])


def test_lmms_eval_logs_of_other_ages_are_read(tmp_path: Path) -> None:
    old = {"doc_id": 5, "doc": {"question": "Is there a dog?", "answer": "yes", "video_name": "a.mp4", "type": "x"},
           "target": "yes", "arguments": [["Is there a dog?", {}]], "resps": [["<think>no</think> Yes."]],
           "filtered_resps": ["no"], "exact_match": 1.0}  # fmt: skip
    (reply,) = rescore.read(rows_file(tmp_path / "old.jsonl", [old])).replies
    assert reply.raw == "<think>no</think> Yes.", "what the model said, not what a filter made of it"
    assert (reply.item.target, reply.item.clip, reply.published) == ("yes", "a", True)
    own = {"doc_id": 1, "target": "", "filtered_resps": "B",
           "my_score": {"question_id": "q", "answer": "B", "pred_answer": "A", "score": 0}}  # fmt: skip
    (reply,) = rescore.read(rows_file(tmp_path / "own.jsonl", [own])).replies
    assert (reply.item.target, reply.raw, reply.published) == ("B", "B", False)
    for bad, message in [
        ({**old, "resps": ["a", "b"]}, "2 answers to one question"),
        ({**old, "resps": [[-1.0, False], [-2.0, True]]}, "judged by likelihoods"),
    ]:
        with pytest.raises(ValueError, match=message):
            rescore.read(rows_file(tmp_path / "bad.jsonl", [bad]))
    with pytest.raises(ValueError, match="not a samples file"):
        rescore.read(yes_no(tmp_path / "x.jsonl", ["yes"]), "lmms-eval")


def test_the_log_of_an_exported_task_is_an_answer_to_the_runs_items(tmp_path: Path) -> None:
    folder = small_runs.write(tmp_path / "run")
    items = runs.read_items(folder)
    rows = [
        {**sample(n, "bell" if n % 3 else "[REQUEST FAILED]", i.target or ""), "earwitness_right": {"item": i.id}}
        for n, i in enumerate(items)
    ]
    path = tmp_path / "org__model" / "1_samples_listens.jsonl"
    path.parent.mkdir()
    found = rescore.read(rows_file(path, rows), plan=folder)
    assert found.model == "org/model"
    assert [r.item for r in found.replies] == items
    assert sum(r.answer.error is not None for r in found.replies) == len(range(0, len(items), 3))
    rows[0]["earwitness_right"]["item"] = "other"
    with pytest.raises(ValueError, match="exported from another"):
        rescore.read(rows_file(path, rows), plan=folder)


# inspect_ai


def inspect_log(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {"version": 2, "status": "success", "eval": {"task": "sounds", "model": "org/m"}, "samples": samples}


SAMPLES: list[dict[str, Any]] = [
    {"id": "a", "epoch": 1, "input": "What is heard?", "choices": ["dog", "cat"], "target": "B",
     "output": {"completion": "B"}, "scores": {"choice": {"value": "C"}}, "metadata": {"video_id": "v1"}},
    {"id": "b", "epoch": 1, "choices": ["dog", "cat"], "target": "A", "total_time": 2.5,
     "input": [{"role": "user", "content": [{"type": "video", "video": "/x/v2.mp4", "format": "mp4"},
                                            {"type": "text", "text": "What is heard?"}]}],
     "output": {"choices": [{"message": {"content": [{"type": "text", "text": "A dog or a cat"}]}}]},
     "scores": {"choice": {"value": "I"}}},
    {"id": "c", "epoch": 1, "input": "What is heard?", "choices": ["dog", "cat"], "target": "A",
     "output": {"completion": ""}, "error": {"message": "rate limit", "traceback": "", "traceback_ansi": ""},
     "scores": {}},
    {"id": "a", "epoch": 2, "input": "What is heard?", "choices": ["dog", "cat"], "target": "B",
     "output": {"completion": "the dog"}, "scores": {"choice": {"value": "C"}}, "metadata": {"video_id": "v1"}},
    {"id": "d", "epoch": 1, "input": "What is heard?", "choices": ["dog", "cat"], "target": "A",
     "output": {"completion": ""}, "limit": {"type": "token"}, "scores": {"choice": {"value": "I"}}},
]  # fmt: skip


def check_samples(found: rescore.Rescored) -> None:
    assert (found.format, found.model) == ("inspect", "org/m")
    assert [r.item.clip for r in found.replies] == ["v1", "v2", "c", "v1", "d"]
    assert [r.answer.error for r in found.replies][2] == "rate limit"
    assert "token limit" in str(found.replies[4].answer.error)
    assert [r.published for r in found.replies] == [True, False, None, True, False]
    assert found.replies[1].answer.seconds == 2.5
    made = rescore.tables(found)
    sides = tt.table(made, "rescore_sides")
    assert [tt.cell(sides, "here", c) for c in ("right", "wrong", "not scored")] == [1, 1, 2]
    assert tt.cell(tt.table(made, "benchmark_accuracy"), "sounds", "failed") == 2


def test_an_inspect_log_as_json(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(inspect_log(SAMPLES)))
    check_samples(rescore.read(path))
    path.write_text(json.dumps(inspect_log([])))
    with pytest.raises(ValueError, match="holds no samples"):
        rescore.read(path)
    with pytest.raises(ValueError, match="has no 'eval'"):
        rescore.read(rows_file(tmp_path / "x.json", [{"a": 1}]), "inspect")


def eval_zip(path: Path, samples: list[dict[str, Any]], *, zstandard: bool) -> Path:
    """A log as inspect_ai zips it: deflated, or with zstandard as since 2026 (method 93, patched in)."""
    whole = inspect_log(samples)
    files = {f"samples/{s['id']}_epoch_{s['epoch']}.json": s for s in whole.pop("samples")}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if zstandard else zipfile.ZIP_DEFLATED) as archive:
        for name, value in {**files, "header.json": whole}.items():
            data = json.dumps(value).encode()
            if zstandard:
                arrow = pytest.importorskip("pyarrow")
                data = arrow.compress(data, codec="zstd", asbytes=True)
            archive.writestr(name, data)
    if zstandard:
        raw = bytearray(path.read_bytes())
        sizes = {n: len(json.dumps(v)) for n, v in {**files, "header.json": whole}.items()}
        for mark, method, size, name in ((b"PK\x03\x04", 8, 22, 30), (b"PK\x01\x02", 10, 24, 46)):
            for at in [m.start() for m in re.finditer(re.escape(mark), bytes(raw))]:
                long = struct.unpack_from("<H", raw, at + name - (4 if name == 30 else 18))[0]
                which = bytes(raw[at + name : at + name + long]).decode()
                struct.pack_into("<H", raw, at + method, 93)
                struct.pack_into("<I", raw, at + size, sizes[which])
        path.write_bytes(raw)
    return path


@pytest.mark.parametrize("zstandard", [False, True])
def test_an_inspect_log_as_zip(tmp_path: Path, zstandard: bool) -> None:
    check_samples(rescore.read(eval_zip(tmp_path / "log.eval", SAMPLES, zstandard=zstandard)))


def test_zstandard_without_a_reader_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = eval_zip(tmp_path / "log.eval", SAMPLES, zstandard=True)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"earwitness\[export\].*inspect log dump"):
        rescore.read(path)


def test_a_broken_inspect_log_says_so(tmp_path: Path) -> None:
    path = eval_zip(tmp_path / "log.eval", SAMPLES, zstandard=False)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="no whole inspect_ai log"):
        rescore.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "y")
    with pytest.raises(ValueError, match=r"neither header\.json"):
        rescore.read(path)


def test_our_own_export_comes_back_whole(tmp_path: Path) -> None:
    folder = small_runs.write(tmp_path / "run")
    for name in ("run.eval", "run.json"):
        found = rescore.read(export.to_inspect(folder, tmp_path / name), plan=folder)
        answers = runs.read_answers(folder)
        for r in found.replies:
            assert (r.answer.text, r.answer.error) == (answers[r.item.id].text, answers[r.item.id].error)
    scores = [j.score for j in runs.judged(folder)]
    rescore.write(found, tmp_path / "again")
    assert [j.score for j in runs.judged(tmp_path / "again")] == scores


# Thud


def thud_row(video: str, text: str, **more: Any) -> dict[str, Any]:
    """One line of eval_results.jsonl, with what its parser makes of the text."""
    way = "delay" if "_delay_" in video else "early" if "_early_" in video else "none"
    size = float(found[1]) if (found := re.search(r"_([\d.]+)s\.mp4", video)) else 0.0
    label = default_synced(text)
    said = {"SYNC": "none", "DELAY": "delay", "EARLY": "early"}.get(label, "none")
    return {"video": video, "video_path": f"/d/{video}", "gt_synced": way == "none", "gt_direction": way,
            "gt_offset_sec": size, "gt_t_v": None, "gt_t_a": None, "pred_synced": label == "SYNC",
            "pred_direction": said, "pred_offset_sec": 0.0, "pred_t_v": None, "pred_t_a": None,
            "pred_explanation": "", "parse_method": "regex_fallback", "raw_output": text, **more}  # fmt: skip


def test_thuds_results_give_thuds_tables(tmp_path: Path) -> None:
    rows = []
    for n in range(6):
        rows.append(thud_row(f"s{n}.mp4", "The audio and video are synchronized."))
        rows.append(thud_row(f"s{n}_delay_2.16s.mp4", "The audio is delayed by about 2.0 seconds."))
        rows.append(thud_row(f"s{n}_early_1.92s.mp4", "" if n < 3 else "They are synchronized."))
    found = rescore.read(rows_file(tmp_path / "eval_results.jsonl", rows))
    assert found.format == "thud"
    assert found.model == tmp_path.name
    assert {r.item.clip for r in found.replies} == {f"s{n}" for n in range(6)}
    late = found.replies[1].item
    assert (late.target, late.offset, late.condition, late.intervention.key) == (
        "DELAY",
        2.16,
        "shift",
        "shift+2.16",
    )
    assert found.replies[2].item.offset == -1.92
    made = rescore.tables(found, "thud-default-synced")
    t = tt.table(made, "thud_accuracy_neutral")
    assert tt.value(t, "synchrony", "original") == 1.0
    assert tt.value(t, "synchrony", "intervened") == pytest.approx(6 / 9)  # three crashed: not "in sync"
    assert tt.cell(t, "synchrony", "failed") == 3
    blind = tt.table(made, "thud_axes_neutral")
    assert tt.value(blind, "Offset Blindness", "rate") == pytest.approx(3 / 9)
    sides = tt.table(made, "rescore_sides")
    published = "as published (thud-default-synced)"
    # "delayed" alone is no key phrase of theirs: the right answers on late clips are "in sync" as well
    assert tt.value(sides, published, "accuracy") == pytest.approx(6 / 18)
    assert tt.value(sides, "the file's own score", "accuracy") == pytest.approx(6 / 18)
    assert tt.value(sides, "here", "accuracy") == pytest.approx(12 / 15)


@pytest.mark.parametrize("shuffled", [False, True])
def test_thuds_letters_stand_for_what_was_offered(tmp_path: Path, shuffled: bool) -> None:
    """eval_vggsoundsync.py may shuffle the options; the letters recorded show it."""
    offered = {"A": "early", "B": "none", "C": "delay"} if shuffled else {"A": "none", "B": "delay", "C": "early"}
    rows = []
    for n, (letter, way) in enumerate(
        [("A", "none"), ("B", "delay"), ("C", "early"), ("B", "none"), ("", "early")]
    ):
        said = offered.get(letter, "none")
        rows.append(
            {"uid": f"u{n}", "ytid": f"y{n}", "label": "dog barking", "difficulty": "easy",
             "gt_synced": way == "none", "gt_direction": way, "gt_offset_sec": 0.0 if way == "none" else 1.2,
             "pred_synced": said == "none",
             "pred_direction": said, "pred_offset_sec": 0.0, "parse_method": "mcq" if letter else "mcq_failed",
             "raw_output": f"{letter}." if letter else "", "pred_letter": letter}
        )  # fmt: skip
    found = rescore.read(rows_file(tmp_path / "eval_results.jsonl", rows))
    got = {r.item.clip: rescore.judge(r).score for r in found.replies}
    names = {"none": "SYNC", "delay": "DELAY", "early": "EARLY"}
    assert [got[f"y{n}"].label for n in range(4)] == [names[offered[x]] for x in "ABCB"]
    assert got["y4"].label == "ERROR"
    assert found.replies[1].item.condition == "ladder"
    assert {r.item.style for r in found.replies} == {"direct"}


def test_a_row_of_thuds_without_truth_is_named(tmp_path: Path) -> None:
    rows = [thud_row("a.mp4", "x"), thud_row("b_delay_2.00s.mp4", "x")]
    del rows[1]["raw_output"]
    with pytest.raises(ValueError, match="line 2: no 'raw_output'"):
        rescore.read(rows_file(tmp_path / "x.jsonl", rows))
    rows[1] |= {"raw_output": "x", "gt_direction": "none"}
    with pytest.raises(ValueError, match="neither delay nor early"):
        rescore.read(rows_file(tmp_path / "x.jsonl", rows))
