"""Lint: planted faults are found, clean sets pass, and the published files fail for the reasons that are known."""

from __future__ import annotations

import doctest
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse, stats

from earwitness.curate.lint import answers as lint_answers
from earwitness.curate.lint import lint
from earwitness.curate.lint import media as lint_media
from earwitness.curate.lint import rows as lint_rows
from earwitness.curate.lint import text as lint_text
from earwitness.curate.lint import times as lint_times
from earwitness.curate.lint import words as lint_words
from earwitness.curate.lint.findings import Finding
from earwitness.curate.lint.reading import read
from earwitness.curate.lint.rows import Form, Material, Sample, stem, types
from earwitness.curate.lint.times import stated

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data"
SFT, DPO = SHARED / "thud_sft_video_train_with_audio.json", SHARED / "thud_dpo_finevideo_av_mcqa_longform.json"
real = pytest.mark.skipif(
    not SHARED.is_dir(), reason="no question files: set EARWITNESS_SHARED to the folder that holds data"
)
THINGS = ("bell", "drum", "bird", "horn", "frog", "phone", "siren", "guitar")


def row(n: int, **given: Any) -> Sample:
    """A yes/no row of source clip n // 2, or what is given."""
    usual: dict[str, Any] = {
        "id": f"r{n}",
        "source": f"c{n // 2}",
        "shown": f"c{n // 2}",
        "media": f"c{n // 2}|{n % 2}",
        "task": "sound",
        "kind": "yes_no",
        "prompt": "Is there a sound?",
        "options": ("yes", "no"),
        "gold": ("yes", "no")[n % 2],
    }
    return Sample(**(usual | given))


def rows(count: int = 80, **given: Any) -> Material:
    """Rows in which nothing is wrong; callables of ``given`` are asked with the row's number."""
    made = [row(n, **{k: v(n) if callable(v) else v for k, v in given.items()}) for n in range(count)]
    form: Form = (
        "questions" if made[0].chosen is None else "supervised" if made[0].rejected is None else "preference"
    )
    return Material(name="made", form=form, samples=tuple(made))


def pairs(count: int = 120, **given: Any) -> Material:
    """Preferences with nothing wrong: each sentence is chosen on one clip and rejected on its twin."""

    def said(n: int) -> str:
        return f"I hear the {THINGS[(n // 2) % 8]}." if n % 2 else f"I hear no {THINGS[(n // 2) % 8]}."

    return rows(count, **({"chosen": said, "rejected": lambda n: said(n + 1 - 2 * (n % 2))} | given))


def every(m: Material) -> dict[str, Finding]:
    checks = (*lint_answers.CHECKS, *lint_words.CHECKS, *lint_times.CHECKS, *lint_media.CHECKS)
    return {f.check: f for f in (check(m) for check in checks)}


# --- clean sets, and one planted fault each -------------------------------------------------------------------


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    for m in (rows(), pairs()):
        assert {f.check: f.says for f in every(m).values() if f.verdict in ("fails", "warns")} == {}


def test_every_finding_says_why_and_every_idle_check_its_reason() -> None:
    for m in (rows(), pairs(), rows(3, gold=None, kind="open"), Material(name="none", form="clips")):
        for f in every(m).values():
            assert f.why, f.check
            assert f.says, f.check
            assert f.found <= f.total


PLANTED: list[tuple[str, str, Material]] = [
    ("constant_gold", "fails", rows(gold=lambda n: "no" if n else "yes")),
    ("constant_gold", "warns", rows(gold=lambda n: "no" if n % 5 else "yes")),
    (
        "never_right",
        "fails",
        rows(gold=lambda n: "no" if n % 4 < 2 else ("yes", "no")[n % 2], task=lambda n: f"t{n % 4 < 2}"),
    ),
    ("class_balance", "warns", rows(gold=lambda n: "no" if n % 5 else "yes")),
    ("picture_alone", "warns", rows(gold=lambda n: ("yes", "no")[n // 2 % 2])),
    ("contradictions", "fails", rows(media=lambda n: f"c{n // 2}")),
    (
        "contradictions",
        "fails",
        pairs(rejected=lambda n: "I hear  the Bell." if n == 1 else "Nothing.", chosen="I hear the bell."),
    ),
    ("duplicates", "fails", rows(media=lambda n: f"c{n % 4}", gold=lambda n: ("yes", "no")[n % 2])),
    ("empty_text", "fails", pairs(chosen=lambda n: " " if n == 7 else "I hear it.")),
    ("prompt_leak", "fails", rows(prompt="The sound of this video was muted. Is there a sound?", gold="no")),
    ("prompt_leak", "warns", rows(prompt="The sound of this video was muted. Is there a sound?")),
    ("length_bias", "fails", pairs(chosen=lambda n: "I hear it well enough." if n % 4 else "No.")),
    (
        "fixed_phrase",
        "fails",
        pairs(
            chosen=lambda n: f"Therefore it is the {THINGS[n % 8]}.",
            rejected=lambda n: f"So it is the {THINGS[(n + 3) % 8]}.",
        ),
    ),
    (
        "text_alone",
        "fails",
        pairs(chosen=lambda n: f"The {THINGS[n % 4]}.", rejected=lambda n: f"The {THINGS[4 + n % 4]}."),
    ),
    (
        "prompt_alone",
        "fails",
        rows(prompt=lambda n: f"Is there a {THINGS[n % 8]}?", gold=lambda n: ("yes", "no")[n % 8 < 4]),
    ),
    (
        "stated_offset",
        "fails",
        rows(
            offset=lambda n: 2.0 * (n % 2),
            chosen="It is late by 2.0 s.",
            kind="label",
            gold=lambda n: ("SYNC", "DELAY")[n % 2],
        ),
    ),
    (
        "stated_verdict",
        "fails",
        rows(
            offset=lambda n: 2.0 * (n % 2),
            chosen="Both are in sync.",
            kind="label",
            gold=lambda n: ("SYNC", "DELAY")[n % 2],
        ),
    ),
    (
        "whole_seconds",
        "warns",
        rows(
            offset=0.0,
            chosen=lambda n: f"Seen at {n % 9}.0s and heard at the same time.",
            kind="label",
            gold="SYNC",
        ),
    ),
    (
        "off_clip",
        "fails",
        rows(
            offset=lambda n: -2.0,
            chosen=lambda n: f"Seen at 2.0s, heard at {0 if n % 9 else 1}.0s.",
            kind="label",
            gold="EARLY",
        ),
    ),
]


@pytest.mark.parametrize(
    ("check", "verdict", "m"), PLANTED, ids=[f"{c}-{v}-{i}" for i, (c, v, _) in enumerate(PLANTED)]
)
def test_a_planted_fault_is_found(check: str, verdict: str, m: Material) -> None:
    found = every(m)[check]
    assert found.verdict == verdict, found.says
    assert found.found > 0
    assert found.example in {s.id for s in m.samples}


def test_options_that_are_never_right_are_named() -> None:
    options = ("bell", "drum", "bird", "horn")
    m = rows(options=options, kind="choice", place=lambda n: n % 3, gold=lambda n: options[n % 3])
    found = lint_answers.never_right(m)
    assert found.verdict == "warns"
    assert "horn" in found.says


def test_none_of_the_above_is_no_place_and_no_class() -> None:
    """Half of the answers may be "none": where it stands and how often it is right says nothing of the others."""
    classes = THINGS[:4]
    options = [(*(classes[(k + i) % 4] for i in range(4)), "None of the above") for k in range(4)]
    m = rows(
        160, kind="choice", options=lambda n: options[n % 4], place=lambda n: 4 if n % 2 else (n // 8) % 4,
        gold=lambda n: options[n % 4][4 if n % 2 else (n // 8) % 4],
    )  # fmt: skip
    assert lint_answers.letter_bias(m).verdict == "fine"
    assert lint_answers.class_balance(m).verdict == "fine"


# --- letters --------------------------------------------------------------------------------------------------


def _lettered(places: list[int], clips: int | None = None) -> Material:
    return Material(
        name="letters", form="questions",
        samples=tuple(
            row(n, kind="choice", options=tuple(f"{n} {k}" for k in "wxyz"), place=p, gold="ABCD"[p],
                source=f"c{n if clips is None else n % clips}")
            for n, p in enumerate(places)
        ),
    )  # fmt: skip


def test_letter_bias_is_a_chi_square_with_an_effect_size() -> None:
    places = [0] * 20 + [1] * 80 + [2] * 20 + [3] * 20
    found = lint_answers.letter_bias(_lettered(places))
    expected = stats.chisquare(np.bincount(places))
    assert found.verdict == "fails"
    assert found.numbers["chi_square"] == pytest.approx(expected.statistic)
    assert found.numbers["p"] == pytest.approx(expected.pvalue)
    assert found.numbers["w"] == pytest.approx(np.sqrt(expected.statistic / 140))
    assert found.counts == {"A": 20, "B": 80, "C": 20, "D": 20}


def test_rows_of_one_clip_are_no_independent_draws() -> None:
    """Ten rows a clip, all at one letter: 140 rows are worth 14, and a lean of 14 draws is luck."""
    drawn = [0, 1, 1, 1, 1, 1, 1, 2, 3, 2, 3, 0, 1, 2]
    places = [drawn[n % 14] for n in range(140)]
    assert lint_answers.letter_bias(_lettered(places)).verdict == "fails"
    assert lint_answers.letter_bias(_lettered(places, clips=14)).verdict == "fine"


# --- the words ------------------------------------------------------------------------------------------------


def test_folds_keep_sources_whole_and_strata_even() -> None:
    groups = [f"s{n // 3}" for n in range(300)]
    strata = [("a", "b", "c")[n % 3 if n < 150 else 0] for n in range(300)]
    fold = lint_text.folds(groups, strata)
    assert all(len({f for g, f in zip(groups, fold, strict=True) if g == name}) == 1 for name in set(groups))
    for name in "abc":
        counts = np.bincount([f for s, f in zip(strata, fold, strict=True) if s == name], minlength=5)
        assert counts.max() - counts.min() <= 3
    assert np.array_equal(fold, lint_text.folds(groups, strata))
    with pytest.raises(ValueError, match="source clips make no 5 folds"):
        lint_text.folds(["one"] * 9, ["a"] * 9)


def test_the_fit_is_at_its_optimum_and_two_candidates_are_logistic_regression() -> None:
    rng = np.random.default_rng(0)
    x = sparse.csr_matrix(rng.integers(0, 2, (80, 6)).astype(float))
    number, hit = np.repeat(np.arange(40), 2), np.tile([True, False], 40)
    w = lint_text._fitted(x, number, hit)
    difference = (x[::2] - x[1::2]).toarray()
    gradient = -difference.T @ (1 / (1 + np.exp(difference @ w))) + lint_text.PENALTY * w
    assert np.abs(gradient).max() < 1e-3


def test_auc_is_mann_whitneys_and_its_interval_holds() -> None:
    rng = np.random.default_rng(1)
    score, kind = rng.normal(size=60).round(1), rng.random(60) < 0.4
    found = lint_text.auc(list(score), list(kind), [f"c{n}" for n in range(60)])
    u = stats.mannwhitneyu(score[kind], score[~kind]).statistic / (kind.sum() * (~kind).sum())
    assert found.value == pytest.approx(u)
    inside = 0
    for _ in range(200):  # clips of two rows that share their score's mean
        kind = np.tile([True, False], 30)
        score = np.repeat(rng.normal(size=30), 2) + rng.normal(size=60) + 0.5 * kind
        one = lint_text.auc(list(score), list(kind), [f"c{n // 2}" for n in range(60)])
        inside += one.low <= stats.norm.cdf(0.5 / 2) <= one.high
    assert 0.90 <= inside / 200 <= 0.99


def test_auc_compares_within_folds_only() -> None:
    found = lint_text.auc([1, 0, 11, 10], [True, False, True, False], list("abcd"), np.array([0, 0, 1, 1]))
    assert found.value == 1.0
    with pytest.raises(ValueError, match="both kinds"):
        lint_text.auc([1, 2], [True, False], ["a", "b"], np.array([0, 1]))


def test_a_phrase_is_tried_on_clips_that_it_was_not_chosen_on() -> None:
    """Words drawn by chance: the best of thousands of phrases separates many pairs, and none on other clips."""
    rng = np.random.default_rng(2)
    vocabulary = [f"w{chr(97 + i)}{chr(97 + j)}" for i in range(8) for j in range(8)]
    texts = [" ".join(rng.choice(vocabulary, 12)) for _ in range(160)]
    fold = lint_text.folds([f"c{n}" for n in range(80)], ["a"] * 80)
    found = lint_text.phrase(texts[:80], texts[80:], fold)
    assert sum(found.marked) > 10
    assert np.mean(found.beaten) < 0.6
    found = lint_text.phrase([f"{t} so it is" for t in texts[:80]], texts[80:], fold)
    assert found.text.endswith("so it is")
    assert (found.where, set(found.beaten)) == ("chosen", {1.0})
    same = lint_text.phrase(texts[:80], texts[:80], fold)
    assert set(same.beaten) == {0.5}


def test_words_that_are_right_to_one_prompt_and_wrong_to_another_are_found() -> None:
    """Each word is chosen as often as rejected, so that only with its prompt it says anything."""
    m = pairs(
        160, prompt=lambda n: "Is it muted?" if n % 2 else "Is it loud?",
        chosen=lambda n: "Silent." if n % 2 else "Loud.", rejected=lambda n: "Loud." if n % 2 else "Silent.",
    )  # fmt: skip
    assert lint_words.fixed_phrase(m).verdict == "fine"
    assert lint_words.text_alone(m).verdict == "fails"


def test_one_bad_prompt_fails_a_mixture() -> None:
    bad = pairs(60, prompt="Describe it.", chosen="It barks.", rejected="It rings.")
    renamed = [replace(s, id=f"b{s.id}", source=f"b{s.source}") for s in bad.samples]
    m = Material(name="mix", form="preference", samples=(*pairs(400).samples, *renamed))
    found = lint_words.text_alone(m)
    assert found.verdict == "fails"
    assert "describe it." in found.says
    assert found.example.startswith("b")


def test_own_options_are_guessed_by_their_words() -> None:
    def options(n: int) -> tuple[str, ...]:
        return tuple(f"the {THINGS[(n + k) % 8]} {'clearly' if k == n % 4 else 'maybe'} {n}" for k in range(4))

    m = rows(120, kind="choice", options=options, place=lambda n: n % 4, gold=lambda n: "ABCD"[n % 4])
    found = lint_words.prompt_alone(m)
    assert found.verdict == "fails"
    assert found.numbers["accuracy"] > 0.95


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (
            "This is a video of audio corruption where some instrument sound is muted. Is thera a violin sound?",
            True,
        ),
        ("The audio has been replaced with rain. What do you hear?", True),
        ("The correct answer is B. What is heard?", True),
        ("Is there any noticeable audio delay or temporal manipulation in this clip?", False),
        (
            "Determine whether the audio and video tracks are synchronized. If they are not synchronized, say how.",
            False,
        ),
        ("What is heard?\nA) The audio is delayed.\nB) The audio is muted.", False),
        ("Describe the audio you hear in this video.", False),
        ("Which is right? The best answer is:", False),
    ],
)
def test_what_a_prompt_announces(prompt: str, told: bool) -> None:
    assert (lint_words.announced(prompt) is not None) is told


def test_a_question_that_names_the_right_option() -> None:
    m = rows(
        40, kind="choice", options=("a barking dog", "rain", "a bell"), place=lambda n: 0, gold="A",
        prompt="Where is a barking dog heard?",
    )  # fmt: skip
    found = lint_words.prompt_leak(m)
    assert found.verdict == "fails"
    assert found.counts["name the right one"] == 40


def test_types_are_what_may_be_answered() -> None:
    labels = [("SYNC", "a"), ("EARLY", "a"), ("SYNC", "b"), ("SILENT", "c")]
    made = [row(n, kind="label", gold=gold, task=task, options=()) for n, (gold, task) in enumerate(labels)]
    made.append(row(4))
    assert {k: len(v) for k, v in types(made).items()} == {"EARLY, SYNC": 3, "SILENT": 1, "no / yes": 1}
    assert stem("What?\n(A) a dog\nB) a cat") == "What?"


# --- times ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("Seen at about 2.5s, while the thud is heard around 5.3s.", 2.8),
        ("Seen at 5.0s, heard at 4.0s, a gap of about 1.0s.", 1.0),
        ("The crash follows about 1.0 second later.", 1.0),
        ("It lands about 1.0s from the visual peak.", 1.0),
        ("It lines up at about 4.0s; any offset is within negligible natural tolerance, about 0.0s.", 0.0),
        ("Both happen at 3.0s.", None),
        ("A second child slides down at 4.0s and the splash is heard at 4.0s.", None),
        ("The visual is at 10.0s and the audio at 9.0s.", 1.0),
        ("It is heard at t_audio = 0.0s, giving an estimated gap of about 1.0s.", 1.0),
        ("They line up well.", None),
    ],
)
def test_stated_gaps(text: str, gap: float | None) -> None:
    assert stated(text).gap == (None if gap is None else pytest.approx(gap))


# --- the published files --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sft() -> Material:
    return read(str(SFT))


@pytest.mark.real
@real
class TestPublished:
    def test_thud_sft_puts_early_sounds_at_the_very_edge(self, sft: Material) -> None:
        found = lint_times.off_clip(sft)
        assert found.verdict == "fails"
        assert (found.counts["early gone"], found.counts["early"]) == (302, 1278)

    def test_thud_sft_states_gaps_in_clips_that_are_in_step(self, sft: Material) -> None:
        """130 texts where the amount stands right before its noun ("a 1.0s gap"); ours reads the others as well."""
        found = lint_times.stated_offset(sft)
        assert found.verdict == "fails"
        assert (found.counts["in step wrong"], found.counts["in step"]) == (208, 1278)
        narrow = re.compile(
            r"(\d+(?:\.\d+)?)[\s-]*(?:s|seconds?)\s+(?:gap|offset|separation|difference|delay|lag|mismatch"
            r"|discrepancy|apart|later|after)"
        )
        texts = [s.chosen or "" for s in sft.samples if s.offset == 0]
        plain = [t for t in texts if any(float(x) >= 0.9 for x in narrow.findall(t))]
        assert len(plain) == 130
        assert all((stated(t).gap or 0) >= 0.9 - 1e-6 for t in plain)

    def test_thud_sft_counts_frames_and_is_balanced(self, sft: Material) -> None:
        assert lint_times.whole_seconds(sft).verdict == "warns"
        assert lint_answers.constant_gold(sft).numbers["best trivial answerer"] == pytest.approx(1 / 3)
        assert lint_answers.picture_alone(sft).found == 0
        assert lint_words.prompt_alone(sft).verdict == "fine"

    @pytest.mark.slow
    def test_thud_sft_whole(self) -> None:
        report = lint(str(SFT))
        assert report.of("stated_verdict").verdict == "warns"
        assert {f.check for f in report.findings if f.verdict == "fails"} == {"off_clip", "stated_offset"}

    def test_thud_dpo_is_separable_by_one_phrase(self) -> None:
        m = read(str(DPO))
        found = lint_words.fixed_phrase(m)
        assert (found.verdict, found.found, found.total) == ("fails", 1316, 1316)
        assert found.numbers["auc"] == 1.0
        assert "answer is" in found.says
        assert lint_words.text_alone(m).verdict == "fails"
        letters = lint_answers.letter_bias(m)
        assert letters.verdict == "fails"
        assert letters.counts["B"] == 773
        assert round(letters.numbers["share"], 2) == 0.59
        assert lint_answers.picture_alone(m).found == 1316

    def test_av_confuse_m1_is_always_no_and_says_so(self) -> None:
        report = lint(str(SHARED / "avconfusebench_test_m1.json"))
        for check in ("constant_gold", "never_right", "prompt_leak"):
            assert (report.of(check).verdict, report.of(check).found) == ("fails", 73), check
        assert "audio corruption" in report.of("prompt_leak").says

    def test_avhbench_contradicts_itself_twice(self) -> None:
        m = read(f"avhbench:{SHARED / 'avhbench_qa.json'}")
        assert lint_answers.constant_gold(m).verdict == "fine"
        assert lint_answers.contradictions(m).found == 4
        some = replace(m, samples=m.samples[:1500])
        assert lint_words.prompt_alone(some).verdict == "fails"

    @pytest.mark.slow
    def test_avhbench_can_be_guessed_from_its_questions(self) -> None:
        found = lint_words.prompt_alone(read(f"avhbench:{SHARED / 'avhbench_qa.json'}"))
        assert found.verdict == "fails"
        assert 0.64 < found.numbers["auc_low"] < found.numbers["auc"] < 0.72

    @pytest.mark.slow
    def test_vggsounder_and_synchformer_share_their_videos(self) -> None:
        one = read(str(SHARED / "vggsounder.csv"))
        other = read(str(SHARED / "synchformer_vggsound_test_offsets.csv"))
        found = lint_media.overlap(other, one)
        assert found.verdict == "fails"
        assert found.counts["sources"] > 10_000
        assert lint_answers.never_right(one).verdict == "fails"  # what is seen and heard is asked with yes only

    def test_numbered_clips_of_two_files_are_not_the_same(self) -> None:
        one, other = (
            read(str(SHARED / name)) for name in ("avconfusebench_test_m1.json", "avconfusebench_test_m2.json")
        )
        assert lint_media.overlap(one, other).verdict == "fine"

    def test_real_clips(self) -> None:
        report = lint(str(SHARED / "clips"))
        assert report.of("no_sound_track").example == "no_audio_track"
        assert report.of("silent_track").verdict == report.of("media_missing").verdict == "fine"


@pytest.mark.parametrize("module", [lint_media, lint_rows, lint_text, lint_times, lint_words])
def test_the_examples_of_the_docstrings_run(module: Any) -> None:
    done = doctest.testmod(module)
    assert done.attempted
    assert not done.failed
