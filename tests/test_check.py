"""Checking clips: judges of known grounding give known verdicts; what is killed goes on; nothing is guessed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from earwitness import audit, foley, media
from earwitness import run as runs
from earwitness.cli import app
from earwitness.curate import review
from earwitness.curate.checks import checking, consistency, files, gates, lineage, outcome, steps, wishes
from earwitness.curate.checks.verdict import Verdict
from earwitness.datasets import folder
from earwitness.models.fake import control
from earwitness.models.load import load_model
from earwitness.records import Answer, Clip, Item, View

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "clips"
RATE, FPS, LONG = 16_000, 8.0, 1.5


def verdict(clip: str, check: str, passed: bool | None, by: str = "", why: str = "because") -> Verdict:
    return Verdict(clip=clip, check=check, passed=passed, by=by, why=why)


# ---------------------------------------------------------------- the four questions


def clip_of(name: str, seen: str = "Cat", heard: str = "Cat", **more: Any) -> Clip:
    return Clip(id=name, path=f"{name}.mp4", seen=(seen,), heard=(heard,), **more)


def test_the_four_questions_are_the_papers() -> None:
    asked = consistency.items([clip_of("a", "acoustic_guitar", "Cat")], ["acoustic_guitar", "Cat", "Rain"])
    by_check = {i.task: i for i in asked}
    assert list(by_check) == list(consistency.CHECKS)
    assert by_check["visible"].prompt == "Is the acoustic guitar clearly visible in this video?"
    assert by_check["audible"].prompt == "Is the sound of cat clearly audible in this video?"
    assert [by_check[c].intervention.kind for c in consistency.CHECKS] == ["mute", "black", "original", "original"]
    for check, modality in (("visual_question", "visual"), ("audio_question", "audio")):
        item = by_check[check]
        assert item.prompt.startswith(
            f"Which class best describes the *{modality} content* of this video? Options: {{"
        )
        assert set(item.choices) == {"acoustic_guitar", "Cat", "Rain"}
    assert by_check["visual_question"].choices == by_check["audio_question"].choices


def test_a_changed_file_is_asked_about_anew_and_the_order_follows_the_seed() -> None:
    clips, classes = [clip_of("a")], ["Cat", "Rain", "Bird", "Door"]
    plain = consistency.items(clips, classes, stamps={"a": "1"})
    assert [i.id for i in plain] == [i.id for i in consistency.items(clips, classes, stamps={"a": "1"})]
    assert not {i.id for i in plain} & {i.id for i in consistency.items(clips, classes, stamps={"a": "2"})}
    orders = {consistency.items(clips, classes, seed=s)[2].choices for s in range(9)}
    assert len(orders) > 1


def asked_of(kind: str, clips: Sequence[Clip], at: Path, labels: Sequence[Clip] = ()) -> dict[str, dict[str, Any]]:
    """Verdicts of a control on procedural clips, by clip and check; ``labels``: what is claimed of them instead."""
    claimed = list(labels or clips)
    model = control(kind)
    questions = consistency.items(claimed, foley.CLASSES)
    at.mkdir(exist_ok=True)
    audit.ask(model, foley.FoleyClips(clips), questions, at)
    found = consistency.verdicts(claimed, questions, runs.read_answers(at), f"{model.name} {model.revision}")
    return {name: {v.check: v.passed for v in some} for name, some in found.items()}


TABLE = {  # control -> visible, audible, visual question, audio question, on clips whose sound and picture agree
    "hears": (True, True, True, True),
    "sees": (True, None, True, True),  # "I cannot tell" of black pictures is no no
    "yes": (True, True, None, None),
    "no": (False, False, None, None),
    "silent": (None, None, None, None),
}


@pytest.mark.parametrize("kind", TABLE)
def test_controls_give_the_known_verdicts(kind: str, tmp_path: Path) -> None:
    clips = foley.clip_set(2, seed=5).clips
    for said in asked_of(kind, clips, tmp_path / kind).values():
        assert tuple(said[c] for c in consistency.CHECKS) == TABLE[kind]


def test_who_only_watches_hears_what_it_sees(tmp_path: Path) -> None:
    clips = foley.clip_set(2, seed=5).clips
    swapped = [msgspec.structs.replace(c, heard=d.heard) for c, d in zip(clips, reversed(clips), strict=True)]
    assert clips[0].seen != clips[1].seen
    for said in asked_of("sees", clips, tmp_path / "sees", swapped).values():
        assert said["visual_question"] is True
        assert said["audio_question"] is False  # it names the picture


def answered(items: Sequence[Item], texts: Mapping[str, str], **more: Any) -> dict[str, Answer]:
    return {i.id: Answer(item=i.id, model="m", text=texts.get(i.task), **more) for i in items if i.task in texts}


def said(texts: Mapping[str, str], clip: Clip | None = None, **more: Any) -> dict[str, Verdict]:
    clip = clip or clip_of("a")
    asked = consistency.items([clip], ["Cat", "Rain", "Bird"])
    return {v.check: v for v in consistency.verdicts([clip], asked, answered(asked, texts, **more), "m 1")["a"]}


def test_what_cannot_be_read_is_neither_yes_nor_no() -> None:
    found = said(
        {"visible": "I am not able to say.", "audible": "yes or no", "visual_question": "Cat or Rain",
         "audio_question": "Rain"}
    )  # fmt: skip
    assert [found[c].passed for c in consistency.CHECKS] == [None, None, None, False]
    assert "declined" in found["visible"].why
    assert "no readable answer: “yes or no”" in found["audible"].why
    assert found["audio_question"].why == "says Rain"
    assert {v.by for v in found.values()} == {"m 1"}


def test_an_error_is_not_told_and_says_why() -> None:
    clip = clip_of("a")
    asked = consistency.items([clip], ["Cat", "Rain"])
    broken = {i.id: Answer(item=i.id, model="m", error="RuntimeError: out of memory") for i in asked[:1]}
    found = consistency.verdicts([clip], asked, broken, "m")["a"]
    assert [v.passed for v in found] == [None] * 4
    assert found[0].why == "the judge failed: RuntimeError: out of memory"
    assert found[1].why == "not asked"


def test_probabilities_are_of_the_right_answers() -> None:
    clip = clip_of("a")
    asked = consistency.items([clip], ["Cat", "Rain"])
    answers = {
        asked[0].id: Answer(
            item=asked[0].id, model="m", text="yes", logprobs={"yes": np.log(0.3), "no": np.log(0.1)}
        )
    }
    one = consistency.verdicts([clip], asked, answers, "m")["a"][0]
    assert (one.value, one.unit) == (0.75, "probability")


def test_several_labels_must_all_be_there_and_either_answers() -> None:
    clip = Clip(id="a", path="a.mp4", seen=("Cat", "Bird"), heard=("Cat",))
    asked = consistency.items([clip], ["Cat", "Bird", "Rain"])
    assert [i.asked for i in asked if i.task == "visible"] == ["Cat", "Bird"]
    answers = {}
    for item in asked:
        text = {"visible": "No." if item.asked == "Bird" else "Yes.", "visual_question": "Bird"}.get(item.task)
        if text:
            answers[item.id] = Answer(item=item.id, model="m", text=text)
    found = {v.check: v for v in consistency.verdicts([clip], asked, answers, "m")["a"]}
    assert found["visible"].passed is False
    assert "bird: “No.”" in found["visible"].why
    assert found["visual_question"].passed is True


def test_what_is_not_labelled_is_not_asked() -> None:
    clip = Clip(id="a", path="a.mp4", heard=("Cat",))
    assert {i.task for i in consistency.items([clip], ["Cat", "Rain"])} == {"audible", "audio_question"}
    found = {v.check: v for v in consistency.verdicts([clip], [], {}, "m")["a"]}
    assert found["visible"].why == "nothing is labelled as seen"
    lone = consistency.items([clip_of("b")], ["Cat"])
    assert {i.task for i in lone} == {"visible", "audible"}  # a choice of one is none
    assert "one class only" in consistency.verdicts([clip_of("b")], lone, {}, "m")["b"][2].why


def test_agreement_is_kappa_over_what_both_told() -> None:
    names = [f"c{k}" for k in range(40)]
    one = {n: k % 2 == 0 for k, n in enumerate(names)}
    other: dict[str, bool | None] = {**one, "c0": False, "c1": None}
    said = [verdict(n, "visible", p, by) for by, some in (("x", one), ("y", other)) for n, p in some.items()]
    found = consistency.agreement(said, [clip_of(n) for n in names])
    assert found is not None
    row = found.rows[0]
    kappa, equal, both = row.cells
    assert row.label == "seen: x, y"
    assert both == 39
    assert equal.value == pytest.approx(38 / 39)  # type: ignore[union-attr]
    assert kappa.value == pytest.approx(0.949, abs=0.002)  # type: ignore[union-attr]
    assert kappa.low < 0.949 < kappa.high  # type: ignore[union-attr]


# ---------------------------------------------------------------- whose judge


@pytest.mark.parametrize(
    ("judge", "audited", "rule"),
    [
        ("hans", "hans", "the audited model itself"),
        ("hans", "hans-cured", "family hans"),
        ("hans", "qwen2.5-omni:Qwen/Qwen2.5-Omni-7B", "architecture qwen25omni"),
        ("openai:http://h/v1#Qwen/Qwen3-30B", "qwen2.5-omni:/models/foo", "line qwen"),
        ("vllm:Qwen/Qwen2.5-Omni-7B", "qwen3-omni:Qwen/Qwen3-Omni-30B", "line qwen"),
        ("gemini:gemini-2.5-pro", "gemini:gemini-2.0-flash", "family gemini"),
        ("openai:http://h/v1#google/gemini-2", "gemini:gemini-2.0-flash", "line gemini"),
        ("my.models:big", "my.models:small", "made by my.models"),
        ("gemini:gemini-2.5-pro", "qwen2.5-omni:Qwen/Qwen2.5-Omni-7B", ""),
        ("openai:http://h/v1#openbmb/MiniCPM-o", "qwen2.5-omni:Qwen/Qwen2.5-Omni-7B", ""),
        ("fake:hears", "fake:sees", ""),
        ("fake:hears", "hans", ""),
    ],
)
def test_a_judge_of_the_audited_family_is_told_by_a_rule(judge: str, audited: str, rule: str) -> None:
    found = lineage.related(judge, audited)
    assert rule in found
    assert bool(found) == bool(rule) == bool(lineage.related(audited, judge))


def test_a_local_checkpoint_is_known_by_its_files(tmp_path: Path) -> None:
    for name, config in (
        ("mine", {"model_type": "qwen2_5_omni_thinker"}),
        ("full", {"model_type": "qwen2_5_omni"}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-Omni-7B"}')
    assert "architecture" in lineage.related(f"vllm:{tmp_path}/mine", f"vllm:{tmp_path}/full")
    assert "line qwen" in lineage.related(f"vllm:{tmp_path}/tuned", "openai:http://h/v1#Qwen3-30B")
    (tmp_path / "full" / "config.json").write_text("{broken")
    assert lineage.related(f"vllm:{tmp_path}/mine", f"vllm:{tmp_path}/full") == ""


def test_such_a_judge_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["curate", "check", "nowhere", "--judge", "hans", "--audited", "hans-cured", "--out", str(tmp_path / "o")],
    )
    assert done.exit_code == 2
    assert "family hans" in done.output
    assert not (tmp_path / "o").exists()


def test_an_unknown_judge_is_told_before_any_work(tmp_path: Path) -> None:
    words = ["curate", "check", "foley", "--judge", "fake:hears", "--judge", "genimi:pro", "--set", "limit=1"]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "o")])
    assert (done.exit_code, "unknown model 'genimi:pro'" in done.output) == (2, True)
    assert not (tmp_path / "o").exists()


# ---------------------------------------------------------------- what becomes of a clip


def fates(given: dict[str, list[Verdict]], order: Sequence[str]) -> dict[str, outcome.Outcome]:
    return {o.clip.id: o for o in outcome.outcomes([clip_of(name) for name in given], given, order)}


def test_the_first_failure_drops_and_no_answer_does_not() -> None:
    order = ["silent", "sync", "visible", "audible"]
    found = fates(
        {
            "a": [verdict("a", "silent", True), verdict("a", "sync", None), verdict("a", "visible", True)],
            "b": [verdict("b", "silent", True), verdict("b", "audible", False, why="no"),
                  verdict("b", "visible", False, why="not there")],
            "c": [verdict("c", "silent", True), verdict("c", "visible", None, why="crashed")],
            "d": [],
        },
        order,
    )  # fmt: skip
    assert {k: o.result for k, o in found.items()} == {
        "a": "passed", "b": "dropped", "c": "undecided", "d": "undecided",
    }  # fmt: skip
    assert (found["b"].check, found["b"].why) == ("visible", "not there")
    assert "crashed" in found["c"].why
    assert found["d"].why == "nothing was checked"


def test_judges_who_differ_leave_it_to_people() -> None:
    both = [verdict("a", "visible", True, "x 1"), verdict("a", "visible", False, "y 2", why="No.")]
    found = fates({"a": both, "b": both[1:]}, ["visible"])
    assert found["a"].result == "undecided"
    assert "y 2: No." in found["a"].why
    assert found["b"].result == "dropped"


def test_a_witness_that_does_not_know_the_class_is_stood_for_by_the_judge() -> None:
    blank = verdict("a", "tagger", None, "yamnet", why="no label")
    order = ["tagger", "audible"]
    assert fates({"a": [blank]}, order)["a"].result == "undecided"
    assert fates({"a": [blank, verdict("a", "audible", True)]}, order)["a"].result == "passed"
    assert fates({"a": [blank, verdict("a", "audible", None)]}, order)["a"].result == "undecided"


def test_the_funnel_counts_every_clip_once() -> None:
    order = ["silent", "visible"]
    given = {
        "a": [verdict("a", "silent", False), verdict("a", "visible", False)],
        "b": [verdict("b", "silent", True), verdict("b", "visible", False)],
        "c": [verdict("c", "silent", True), verdict("c", "visible", None)],
        "d": [verdict("d", "silent", True), verdict("d", "visible", True)],
    }
    found = outcome.rungs(list(fates(given, order).values()), order)
    assert [(r.name, r.left, r.failed, r.untold) for r in found] == [
        ("manifest", 4, 0, 0), ("silent", 3, 1, 0), ("visible", 2, 1, 1), ("told", 1, 0, 1),
    ]  # fmt: skip


# ---------------------------------------------------------------- the whole way


def video(path: Path, seed: int = 0, level: float = 0.2, noise: int | None = None, long: float = LONG) -> Path:
    """A small clip: a pattern of its own (by ``seed``) over which something moves, and noise (by ``noise``)."""
    pattern = np.random.default_rng(100 + seed).integers(20, 220, (6, 8, 3), dtype=np.uint8)
    frames = np.repeat(np.kron(pattern, np.ones((8, 8, 1), np.uint8))[None], round(long * FPS), axis=0)
    for n, frame in enumerate(frames):
        frame[20:28, 2 * n : 2 * n + 8] = 255
    sound = np.random.default_rng(seed if noise is None else noise).standard_normal((1, round(long * RATE)))
    media.write_clip(frames, FPS, np.clip(level * sound, -1, 1).astype(np.float32), RATE, path)
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four good clips and a silent one; the first lends its sound to the third, and to the silent one."""
    at = tmp_path_factory.mktemp("home")
    rows = ["path,seen,heard,donors,source,licence,split"]
    for n, kind in enumerate(("Cat", "Rain", "Bird", "Cat")):
        video(at / f"k{n}.mp4", seed=n + 1)
        donors = {0: "mum|k1", 2: "k0"}.get(n, "")
        rows.append(f"k{n}.mp4,{kind},{kind},{donors},v{n},CC0-1.0,{'train' if n % 2 else 'test'}")
    video(at / "mum.mp4", seed=9, level=0.0)
    rows.append("mum.mp4,Frog,Frog,,v9,CC-BY-4.0,test")
    (at / "labels.csv").write_text("\n".join(rows) + "\n")
    return at


def checked(home: Path, out: Path, *judges: str, **more: Any) -> checking.Checked:
    return checking.check(str(home), out, wishes.asked(judges, **more))


@pytest.fixture(scope="module")
def made(home: Path, tmp_path_factory: pytest.TempPathFactory) -> checking.Checked:
    return checked(home, tmp_path_factory.mktemp("checked"), "fake:hears", audited=["hans"])


def test_what_passes_is_a_labels_folder_with_all_that_was_known(made: checking.Checked) -> None:
    assert made.counts == {"passed": 4, "dropped": 1, "undecided": 0}
    kept = {c.id: c for c in folder.read(made.folder).clips}
    assert set(kept) == {"k0", "k1", "k2", "k3"}
    assert (kept["k1"].licence, kept["k1"].split, kept["k1"].source) == ("CC0-1.0", "train", "v1")
    assert kept["k2"].donors == ("k0",)
    assert kept["k0"].donors == ("k1",)  # the silent one is gone, and may not be named
    assert (made.folder / "classes.txt").read_text().split() == ["Bird", "Cat", "Rain"]


def test_who_is_dropped_is_told_with_the_first_reason(made: checking.Checked) -> None:
    with (made.folder / "dropped.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["clip"], r["check"]) for r in rows] == [("mum", "silent")]
    assert rows[0]["why"]


def test_every_verdict_is_there_with_who_made_it(made: checking.Checked) -> None:
    found = files.read_verdicts(made.folder)
    judged = [v for v in found if v.check in consistency.CHECKS]
    assert {v.clip for v in found} == {"k0", "k1", "k2", "k3", "mum"}
    assert {v.by for v in judged} == {"fake:hears 1"}
    assert "mum" not in {v.clip for v in judged}  # cheap first: it had failed already
    assert made.info.judges[0].checks  # its ear and eye check


def test_the_funnel_is_kept(made: checking.Checked) -> None:
    rungs = files.read_rungs(made.folder)
    assert rungs == made.rungs
    assert (rungs[0].left, rungs[-1].left) == (5, 4)
    assert all(a.left - b.failed - (b.untold if b.name == "told" else 0) == b.left for a, b in pairwise(rungs))


def test_all_checks_on_all_clips(home: Path, made: checking.Checked, tmp_path: Path) -> None:
    again = checked(home, tmp_path, "fake:hears", every=True)
    judged = [v for v in files.read_verdicts(tmp_path) if v.check in consistency.CHECKS]
    assert {v.clip for v in judged} == {"k0", "k1", "k2", "k3", "mum"}
    assert again.counts == made.counts
    assert "no audited model was named" in " ".join(again.notes)


def logs(at: Path) -> dict[str, bytes]:
    return {str(p.relative_to(at)): p.read_bytes() for p in sorted(at.glob("work/*/answers.jsonl"))}


def test_again_asks_nothing_and_loads_nobody(
    home: Path, made: checking.Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = logs(made.folder)
    assert len(before) == 2
    monkeypatch.setattr(checking, "load_model", lambda *_, **__: pytest.fail("the judge was loaded again"))
    again = checked(home, made.folder, "fake:hears", audited=["hans"])
    assert again.counts == made.counts
    assert logs(made.folder) == before


@pytest.mark.parametrize("after", [2, 7])
def test_what_is_stopped_goes_on_and_repeats_nothing(
    home: Path, made: checking.Checked, tmp_path: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "CHUNK", 3)
    told = 0

    def stage(name: str) -> audit.Progress:
        def progress(done: int, failed: int, total: int) -> None:
            nonlocal told
            told += 1
            if told == after:
                raise KeyboardInterrupt

        return progress

    with pytest.raises(KeyboardInterrupt):
        checking.check(str(home), tmp_path, wishes.asked(["fake:hears"]), stage=stage)
    kept = logs(tmp_path)
    assert not (tmp_path / "labels.jsonl").exists()
    again = checked(home, tmp_path, "fake:hears")
    assert again.counts == made.counts
    for name, text in logs(tmp_path).items():
        assert text.startswith(kept.get(name, b""))
        ids = [json.loads(line)["item"] for line in text.splitlines()]
        assert len(ids) == len(set(ids))


def test_a_judge_that_crashes_leaves_clips_undecided(home: Path, tmp_path: Path) -> None:
    found = checked(home, tmp_path, "fake:crashes")
    assert found.counts["dropped"] == 1  # the silent one
    assert found.counts["undecided"] > 0
    assert found.failed_share == pytest.approx(5 / 16)
    queue = review.opened(tmp_path / "undecided.jsonl")
    with queue as desk:
        assert len(desk.queue.cases) == found.counts["undecided"]
        assert all("breaks on every third item" in case.why for case in desk.queue.cases)


def vote(out: Path, name: str, accept: Mapping[str, bool]) -> None:
    with review.opened(out / "undecided.jsonl") as desk:
        for case in desk.queue.cases:
            if case.clip.id in accept:
                said = review.Vote(
                    id=f"{name}{case.clip.id}", clip=case.clip.id, about=case.about, accept=accept[case.clip.id],
                    object_visibility=accept[case.clip.id],
                )  # fmt: skip
                desk.votes.add(name, said)


def test_people_decide_what_no_check_could(home: Path, tmp_path: Path) -> None:
    first = checked(home, tmp_path, "fake:silent")
    assert first.counts == {"passed": 0, "dropped": 1, "undecided": 4}
    vote(tmp_path, "anna", {"k0": True, "k1": True, "k2": False})
    vote(tmp_path, "bob", {"k0": True, "k1": False, "k2": False})
    queue = (tmp_path / "undecided.jsonl").read_bytes()
    for _ in range(2):  # and so it stays
        found = checked(home, tmp_path, "fake:silent")
        assert {o.clip.id: o.result for o in found.found} == {
            "k0": "passed", "k1": "dropped", "k2": "dropped", "k3": "undecided", "mum": "dropped",
        }  # fmt: skip
        assert (tmp_path / "undecided.jsonl").read_bytes() == queue
    assert [c.id for c in folder.read(tmp_path).clips] == ["k0"]
    told = {v.clip: v for v in files.read_verdicts(tmp_path) if v.check == "people"}
    assert told["k0"].by == "anna, bob"
    assert told["k1"].why == "bob: not object visibility"
    assert any("decided 3 of the 4" in note for note in found.notes)


def test_another_manifest_needs_another_folder(made: checking.Checked, home: Path, tmp_path: Path) -> None:
    with pytest.raises(runs.RunError, match="another clips"):
        checked(home / "labels.csv", made.folder, "fake:hears")
    with pytest.raises(runs.RunError, match="another limit"):
        checked(home, made.folder, "fake:hears", settings={"limit": "2"})
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(runs.RunError, match="is not empty"):
        checked(home, tmp_path, "fake:hears")


def test_procedural_clips_become_files_where_they_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("earwitness.foley.files.FILE_VIEW", View(fps=4.0, size=(36, 64), rate=16_000))
    found = checked(Path("foley:bell+drum"), tmp_path, "fake:hears", settings={"limit": "2", "seed": "3"})
    assert found.counts["passed"] == 2
    for clip in folder.read(tmp_path).clips:
        assert clip.path == f"sources/{clip.id}.mp4"
        assert clip.foley


def test_settings_are_told_apart() -> None:
    found = wishes.asked(["hans"], settings={"silent": "-50", "limit": "7", "judge.fps": "1.5", "judge.batch": "4"})
    assert (found.limits.silent, found.limit, found.judge_options) == (-50.0, 7, {"fps": 1.5, "batch": 4})
    with pytest.raises(ValueError, match="did you mean 'silent'"):
        wishes.asked(settings={"silnt": "3"})
    with pytest.raises(ValueError, match="named twice"):
        wishes.asked(["hans", "hans"])
    with pytest.raises(ValueError, match="no --judge"):
        wishes.asked(settings={"judge.fps": "1"})
    with pytest.raises(ValueError, match="no such file"):
        wishes.asked(settings={"classes": "nowhere.txt"})


def test_a_step_that_fails_tells_nothing_and_a_broken_file_fails() -> None:
    step = steps.wanted(wishes.asked())[0]
    item = step.items([clip_of("a")], {}, Path())[0]
    broken = step.read(item, Answer(item=item.id, model="gates", error="clip a: MediaError: a.mp4: ends early"))
    assert [(v.check, v.passed) for v in broken] == [("decodes", False)]
    assert "ends early" in broken[0].why
    died = step.read(item, Answer(item=item.id, model="gates", error="the worker died"))
    assert [(v.check, v.passed) for v in died] == [("gates", None)]
    assert outcome.outcomes([clip_of("a")], {"a": died}, ["gates"])[0].result == "undecided"
    assert steps.wanted(wishes.asked(tagger="yamnet", classifier="efficientnet"))[1].name == "tagger"


def test_a_copy_is_dropped_and_a_shared_picture_is_told(home: Path, tmp_path: Path) -> None:
    place = tmp_path / "clips"
    place.mkdir()
    video(place / "a.mp4", seed=3, long=3.0)
    shutil.copy(place / "a.mp4", place / "b.mp4")
    video(place / "c.mp4", seed=3, noise=7, long=3.0)  # the same pictures, another sound
    rows = [f"{n}.mp4,{k},{k}" for n, k in (("a", "Cat"), ("b", "Cat"), ("c", "Rain"))]
    (place / "labels.csv").write_text("\n".join(["path,seen,heard", *rows]) + "\n")
    found = {o.clip.id: o for o in checked(place, tmp_path / "out", "fake:hears").found}
    assert {k: o.result for k, o in found.items()} == {"a": "passed", "b": "dropped", "c": "passed"}
    assert found["b"].check == "duplicate"
    assert "repeats a" in found["b"].why
    assert [v.check for v in found["c"].verdicts if v.passed is False] == ["same_picture"]
    assert "same_picture" not in {r.name for r in files.read_rungs(tmp_path / "out")}


def test_workers_can_make_the_steps() -> None:
    made = load_model(f"{steps.HERE}:gatekeeper")
    assert made.view == gates.LOOK
    assert made.revision == gates.REVISION


class TestVerb:
    def invoke(self, *words: str) -> Any:
        return CliRunner().invoke(app, ["curate", "check", *words])

    def test_says_what_is_left_and_writes_the_card(self, home: Path, tmp_path: Path) -> None:
        done = self.invoke(str(home), "--judge", "fake:hears", "--audited", "hans", "--out", str(tmp_path / "o"))
        assert done.exit_code == 0, done.output
        assert "4 clips passed, 1 dropped, 0 undecided" in done.output
        assert (tmp_path / "o" / "card.html").exists()
        assert (tmp_path / "o" / "card" / "funnel.svg").exists()

    def test_too_many_failed_questions_are_exit_code_1(self, home: Path, tmp_path: Path) -> None:
        done = self.invoke(str(home), "--judge", "fake:crashes", "--out", str(tmp_path / "o"))
        assert done.exit_code == 1
        assert "none was dropped for it" in done.output

    def test_a_deaf_judge_is_exit_code_3(self, home: Path, tmp_path: Path) -> None:
        done = self.invoke(str(home), "--judge", "fake:deaf", "--out", str(tmp_path / "o"))
        assert done.exit_code == 3
        assert "deaf" in done.output
        assert not (tmp_path / "o" / "labels.jsonl").exists()

    def test_bad_words_are_exit_code_2(self, home: Path, tmp_path: Path) -> None:
        for words in (["--tagger", "nobody"], ["--judge", "nobody"], ["--set", "silnt=1"]):
            assert self.invoke(str(home), *words, "--out", str(tmp_path / "o")).exit_code == 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_kill_9_and_again_repeats_nothing(home: Path, made: checking.Checked, tmp_path: Path) -> None:
    out = tmp_path / "o"
    words = [sys.executable, "-m", "earwitness.cli", "curate", "check", str(home), "--judge", "fake:hears"]
    words += ["--out", str(out)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log, end = out / "work" / "gates" / "answers.jsonl", time.monotonic() + 200
    while not log.exists() or log.read_bytes().count(b"\n") < 2:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = log.read_bytes()
    kept = kept[: kept.rfind(b"\n") + 1]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 clips passed, 1 dropped, 0 undecided" in done.stdout
    for name, text in logs(out).items():
        ids = [json.loads(line)["item"] for line in text.splitlines()]
        assert len(ids) == len(set(ids)), name
    assert logs(out)["work/gates/answers.jsonl"].startswith(kept)


@pytest.fixture
def real(tmp_path: Path) -> Path:
    if not SHARED.is_dir():
        pytest.skip("no real clips at hand (set EARWITNESS_SHARED)")
    rows = [
        {"path": str(SHARED / name), "seen": [seen], "heard": [heard] if heard else []}
        for name, seen, heard in (
            ("canidae_aligned.mp4", "Canidae", "Canidae"), ("no_audio_track.mp4", "Teddy bear", ""),
            ("YRz7RBslEAG0_repDiff_Frog_0.mp4", "Accordion", "Frog"),
        )
    ]  # fmt: skip
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "real"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("judge", ["fake:hears", "fake:sees", "hans"])
def test_real_clips_with_every_kind_of_judge(real: Path, tmp_path: Path, judge: str) -> None:
    found = {o.clip.id: o for o in checked(real, tmp_path / "out", judge).found}
    assert found["no_audio_track"].check == "sound_track"
    mine = found["YRz7RBslEAG0_repDiff_Frog_0"]
    if judge == "fake:hears":
        assert mine.result == found["canidae_aligned"].result == "passed"
    if judge == "fake:sees":
        assert (mine.result, mine.check) == ("dropped", "audio_question")
        assert found["canidae_aligned"].result == "undecided"
    if judge == "hans":  # he knows eight procedural things, and no other
        assert not any(o.result == "passed" for o in found.values())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("executor", ["process", "ray"])
def test_several_workers_find_the_same(executor: Any, home: Path, made: checking.Checked, tmp_path: Path) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
    many = checking.check(
        str(home), tmp_path, wishes.asked(["fake:hears"], audited=["hans"]), workers=2, executor=executor
    )
    assert many.counts == made.counts
    assert (tmp_path / "verdicts.jsonl").read_bytes() == (made.folder / "verdicts.jsonl").read_bytes()
