"""The papers' own numbers come out of our functions, and their released texts are read as they were meant."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from earwitness import published, questions
from earwitness.protocols import av_confuse, mma, thud
from earwitness.protocols.thud_tables import AXES, avg_gap, axis, three_class
from earwitness.records import Answer, Cell, Estimate, Intervention, Item, Judged, Score, Table

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def judged(item: Item, label: str) -> Judged:
    correct = None if item.target is None else label == item.target
    score = Score(item=item.id, group=item.group, condition=item.condition, label=label, correct=correct)
    return Judged(item, Answer(item=item.id, model="golden", text=label), score)


def cell(t: Table, row: str, column: str) -> Cell:
    return next(r for r in t.rows if r.label == row).cells[t.columns.index(column)]


def estimate(tables: list[Table], name: str, row: str, column: str) -> Estimate:
    got = cell(next(t for t in tables if t.id == name), row, column)
    assert isinstance(got, Estimate)
    return got


# --- Thud, arXiv 2605.16403, Figure 3: eight axes of six models, as they are in ``published`` ---
MODELS = tuple(r.model for r in published.rows("Mute Hallucination"))
# Avg Gap as the text prints it (section 3.2); the other rows of Table 1 are not in the copy at hand.
AVG_GAP = {r.model: r.value for r in published.rows("Avg Gap")}
N = 1000  # clips: enough for two decimals to be whole counts


def figure_3(model: str) -> dict[str, float]:
    return {name: next(r.value for r in published.rows(name) if r.model == model) for name in AXES}


def thud_item(clip: int, condition: str, task: str, target: str, offset: float = 0.0) -> Item:
    kinds = {"original": "original", "mute": "mute", "swap": "swap", "shift": "shift"}
    return Item(
        id=f"{clip}{condition}{task}{offset}", protocol="thud", condition=condition, question=task, style="neutral",
        clip=f"c{clip}", source=f"c{clip}", group=f"{clip}{task}", prompt="?", target=target, offset=offset,
        intervention=Intervention(kind=kinds[condition], seconds=offset),  # type: ignore[arg-type]
    )  # fmt: skip


def spread(n: int, **shares: float) -> list[str]:
    """n labels in these shares, the last label taking the rest."""
    labels: list[str] = []
    *most, last = shares
    for name in most:
        labels += [name] * round(n * shares[name])
    return labels + [last] * (n - len(labels))


def answers_of(model: str) -> list[Judged]:
    rate = figure_3(model)
    dodge = rate["Audio Dodge"]  # as large on silenced as on original clips: the figure gives their mean
    hidden = min(dodge, 1 - rate["Mute Hallucination"])
    plan: list[tuple[str, str, str, list[str], float]] = [
        (
            "mute", "mute", "SILENT",
            spread(N, SOUND_DESCRIBED=rate["Mute Hallucination"], VISUAL_ONLY=hidden, SILENT=1), 0,
        ),
        (
            "original", "mute", "SOUND_DESCRIBED",
            spread(N, SILENT=rate["False Silence"], VISUAL_ONLY=2 * dodge - hidden, SOUND_DESCRIBED=1), 0,
        ),
        ("swap", "swap", "MISMATCH", spread(N, MATCH=rate["Swap False-Match"], MISMATCH=1), 0),
        ("original", "swap", "MATCH", spread(N, MISMATCH=rate["Swap False-Mismatch"], MATCH=1), 0),
        ("original", "shift", "SYNC", spread(N, DESYNC_NO_DIRECTION=rate["False Sync Alarm"], SYNC=1), 0),
    ]  # fmt: skip
    blind, confused = rate["Offset Blindness"], rate["Direction Confusion"]
    for target, other, offset in (("DELAY", "EARLY", 2.0), ("EARLY", "DELAY", -2.0)):
        labels = spread(N, **{"SYNC": blind, other: (1 - blind) * confused, target: 1.0})
        plan.append(("shift", "shift", target, labels, offset))
    return [
        judged(thud_item(i, condition, task, target, offset), label)
        for condition, task, target, labels, offset in plan
        for i, label in enumerate(labels)
    ]


@pytest.mark.parametrize("model", MODELS)
def test_figure_3_and_its_identities(model: str) -> None:
    answers = answers_of(model)
    rate = figure_3(model)
    for name in AXES:
        got = axis(answers, name)
        assert got is not None
        # whole answers: of the few shifts that a model notices, half an answer is a coarse step
        step = 0.5 / (N * (1 - rate["Offset Blindness"])) if name == "Direction Confusion" else 0.5 / N
        assert got.value == pytest.approx(rate[name], abs=step + 1e-9), name
    made = thud.tables(answers)

    def share(row: str, column: str) -> float:
        return estimate(made, "thud_accuracy_neutral", row, column).value

    assert share("synchrony", "original") == pytest.approx(1 - rate["False Sync Alarm"])
    shift = share("synchrony", "intervened")
    assert shift == pytest.approx((1 - rate["Offset Blindness"]) * (1 - rate["Direction Confusion"]), abs=1e-3)
    assert share("consistency", "original") == pytest.approx(1 - rate["Swap False-Mismatch"])
    assert share("consistency", "intervened") == pytest.approx(1 - rate["Swap False-Match"])
    gap = avg_gap(answers)
    assert gap is not None
    drops = [share(n, "original") - share(n, "intervened") for n in ("synchrony", "existence", "consistency")]
    assert gap.value == pytest.approx(sum(drops) / 3)
    assert gap.low < gap.value < gap.high
    if model in AVG_GAP:  # six rates, each rounded to two decimals in the figure
        assert gap.value == pytest.approx(AVG_GAP[model], abs=0.01)
    if model == "Qwen3-Omni":
        assert share("synchrony", "original") == 1.0
        assert shift == pytest.approx(0.014, abs=0.005)


def test_always_desync_scores_two_thirds_of_a_one_to_two_set() -> None:
    assert three_class(0.0, 1.0) == pytest.approx(2 / 3)
    assert three_class(1.0, 0.014) == pytest.approx(0.343, abs=0.001)  # Qwen3-Omni's Sync of 34.3 in Table 2


# --- MMA-Bench, arXiv 2511.22826, Table 3: 658 clips, each aligned and misaligned ---
TABLE_3 = tuple(dict.fromkeys(r.model for t in published.tables("mma") if t.table == "Table 3" for r in t.results))
BASE = "Qwen2.5-Omni-7B"
TABLE_5 = [(text, sense) for text in ("misleading_caption", "long_context") for sense in ("visual", "audio")]


def percent(table: str, model: str, metric: str, condition: str) -> float:
    return 100 * published.value("mma", table, model, metric, condition).value


def mma_answers(share: float, condition: str, question: str, clips: int = 658) -> list[Judged]:
    total = clips * 3
    right = round(share / 100 * total)
    out = []
    for k in range(total):
        clip, seed = k % clips, k // clips
        item = Item(
            id=f"{condition}{question}{k}", protocol="mma", condition=condition, question=question,
            style="standard",
            seed=seed, clip=f"c{clip}", source=f"c{clip}", group=f"{clip}{question}{seed}", prompt="?",
            choices=("a", "b"), target="a", seen=("a",), heard=("a" if condition == "aligned" else "b",),
        )  # fmt: skip
        out.append(judged(item, "a" if k < right else "b"))
    return out


@pytest.mark.parametrize("model", TABLE_3)
def test_mma_table_3(model: str) -> None:
    va, vm, aa, am = (
        percent("Table 3", model, f"{sense} accuracy", condition)
        for sense in ("visual", "audio")
        for condition in ("aligned", "audio_swapped")
    )
    answers = [
        *mma_answers(va, "aligned", "visual"), *mma_answers(vm, "audio_swapped", "visual"),
        *mma_answers(aa, "aligned", "audio"), *mma_answers(am, "audio_swapped", "audio"),
    ]  # fmt: skip
    made = mma.tables(answers)
    for row, question, printed in (
        ("aligned", "visual question", va), ("audio swapped", "visual question", vm),
        ("aligned", "audio question", aa), ("audio swapped", "audio question", am),
    ):  # fmt: skip
        got = estimate(made, "mma_accuracy", row, question)
        assert 100 * got.value == pytest.approx(printed, abs=0.03)
        assert got.low < got.value < got.high
        assert (got.n, got.clusters) == (1974, 658)
    drop = estimate(made, "mma_differences", "audio swapped", "audio question")
    assert 100 * drop.value == pytest.approx(am - aa, abs=0.06)


@pytest.mark.parametrize(("text", "sense"), TABLE_5)
def test_mma_table_5_gains(text: str, sense: str) -> None:
    before, after = (percent("Table 5", m, f"{sense} accuracy", text) for m in (BASE, f"{BASE} tuned"))
    answers = [*mma_answers(before, "aligned", "visual"), *mma_answers(after, "long_context", "visual")]
    got = estimate(mma.tables(answers), "mma_differences", "long context", "visual question")
    gain = percent("Table 5, gains", f"{BASE} tuned", f"{sense} accuracy gain", text)
    assert 100 * got.value == pytest.approx(gain, abs=0.06)


# --- AV-ConfuseBench, arXiv 2511.10059, Table 6: 73 questions, all of them on muted instruments ---
@pytest.mark.parametrize(("right", "model", "low", "high"), [(6, "", 3.8, 16.8), (20, " RL-CoMM", 18.5, 38.6)])
def test_av_confuse_table_6(right: int, model: str, low: float, high: float) -> None:
    printed, yes = (
        published.value("av_confuse", "Table 6", f"Qwen2.5-Omni-3B{model}", metric, "muted")
        for metric in ("accuracy", "says yes")
    )
    own = printed.interval()
    assert own is not None
    assert (round(100 * own.low, 1), round(100 * own.high, 1)) == (low, high)
    answers = [
        judged(
            Item(
                id=f"q{k}", protocol="av_confuse", condition="muted", question="muted", style="leading",
                clip=f"c{k}", source=f"c{k}", group=f"g{k}", prompt="?", target="no", asked="violin",
                choices=("yes", "no"),
            ),
            "no" if k < right else "yes",
        )
        for k in range(73)
    ]  # fmt: skip
    made = av_confuse.tables(answers)
    row = "left-out things only (as published)"
    got = estimate(made, "confuse_muted_leading", row, "HR")
    assert got.value == pytest.approx(printed.value, abs=5e-5)
    assert (round(100 * got.low, 1), round(100 * got.high, 1)) == (low, high)
    said = estimate(made, "confuse_muted_leading", row, "says yes")
    assert said.value == pytest.approx(yes.value, abs=5e-5)
    assert estimate(made, "confuse_muted_leading", "always no", "HR").value == 1.0


# --- released question files and texts ---
def released(name: str) -> Any:
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not at hand (set EARWITNESS_SHARED)")
    return json.loads((SHARED / name).read_text("utf-8"))


@pytest.mark.real
def test_every_gold_answer_of_the_muted_set_is_no() -> None:
    rows = released("avconfusebench_test_m1.json")
    assert len(rows) == 73
    for row in rows:
        thing = re.search(r"ther[ea] an? (.+?) sound", row["question"])
        assert thing is not None
        name = questions.plain(thing.group(1))
        assert questions.parse_yes_no(row["answer"], name) == "no"
        assert questions.parse_yes_no(f"Yes, there is a {name} sound.", name) == "yes"
        assert questions.parse_yes_no("I do not know", name) == "REFUSED"


@pytest.mark.real
def test_annotations_of_the_modified_set_name_their_sounds() -> None:
    rows = released("avconfusebench_test_m2.json")
    assert len(rows) == 100
    kinds = {"drill": "electric drill"}
    found = [questions.recall(r["annotation"], (kinds.get(r["sound_type"], r["sound_type"]),)) for r in rows]
    assert sum(found) / len(found) >= 0.95


@pytest.mark.real
def test_labels_of_avhbench_parse_to_themselves() -> None:
    labels = Counter(
        (r["label"], questions.parse_yes_no(r["label"]))
        for r in released("avhbench_qa.json")
        if r["task"] != "AV Captioning"
    )
    assert labels == {("Yes", "yes"): 2651, ("No", "no"): 2651}


@pytest.mark.real
def test_released_sync_texts_are_read_as_their_file_names_say() -> None:
    """Thud's training answers, a third of them: the truth is in the file name. Texts that contradict it remain."""
    seen: dict[str, Counter[str]] = {"DELAY": Counter(), "EARLY": Counter(), "SYNC": Counter()}
    for i, row in enumerate(released("thud_sft_video_train_with_audio.json")):
        if i // 3 % 3:  # original, delayed and early take turns in the file
            continue
        shift = re.search(r"_(delay|early)_[\d.]+s", row["videos"][0])
        truth = {"delay": "DELAY", "early": "EARLY"}[shift.group(1)] if shift else "SYNC"
        seen[truth][questions.judge_shift(row["messages"][-1]["content"]).label] += 1
    for truth, opposite in (("DELAY", "EARLY"), ("EARLY", "DELAY")):
        total = seen[truth].total()
        assert total > 400
        assert seen[truth][truth] / total > 0.94
        assert seen[truth][opposite] / total < 0.01
    synced = seen["SYNC"]
    assert synced["SYNC"] / synced.total() > 0.83
    assert (synced["DELAY"] + synced["EARLY"]) / synced.total() < 0.045
