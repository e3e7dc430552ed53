"""Comparing runs: pairing, differences, differences in differences, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import small_traces as small
from earwitness import run, stats
from earwitness.compare import compare, compare_runs, names_of
from earwitness.records import Answer, Estimate, Fed, Intervention, Item, Judged, Row, Score, Table
from earwitness.report.changed import write_changes
from earwitness.session.comparing import line_up
from earwitness.whitebox import knockout
from earwitness.whitebox.edges import Knockout, Reading

Right = Callable[[Item], bool | None]


def item(clip: int, condition: str, question: str = "audio", **more: object) -> Item:
    fields: dict[str, object] = {
        "id": f"{clip}-{condition}-{question}-{more.get('style', 'standard')}",
        "protocol": "mma",
        "condition": condition,
        "question": question,
        "clip": f"clip{clip}",
        "source": f"source{clip}",
        "group": f"{clip}-{question}-{more.get('style', 'standard')}",
        "prompt": "Which class?",
        "target": "Bell",
        **more,
    }
    return Item(**fields)  # type: ignore[arg-type]


def judge(items: list[Item], right: Right, model: str = "m", sound: str = "s") -> list[Judged]:
    out = []
    for i in items:
        correct = right(i)
        fed = Fed(audio_hash=sound, video_hash="v")
        answer = Answer(item=i.id, model=model, text=None if correct is None else "Bell", fed=fed)
        answer = msgspec.structs.replace(answer, error="crashed" if correct is None else None)
        label = "ERROR" if correct is None else "Bell"
        score = Score(item=i.id, group=i.group, condition=i.condition, label=label, correct=correct)
        out.append(Judged(i, answer, score))
    return out


def plan(clips: int = 24) -> list[Item]:
    return [
        item(c, condition, question, intervention=Intervention(kind="mute" if condition == "muted" else "original"))
        for c in range(clips)
        for question in ("visual", "audio")
        for condition in ("aligned", "muted")
    ]


def table(tables: list[Table], name: str) -> Table:
    return next(t for t in tables if t.id == name)


def row(found: Table, label: str) -> Row:
    return next(r for r in found.rows if r.label == label)


def cell(found: Table, label: str, column: str) -> object:
    return row(found, label).cells[found.columns.index(column)]


def estimate(found: Table, label: str, column: str) -> Estimate:
    value = cell(found, label, column)
    assert isinstance(value, Estimate)
    return value


def watcher(i: Item) -> bool:
    return i.condition == "aligned" or i.question == "visual"


def listener(i: Item) -> bool:
    return True


def test_training_that_teaches_to_listen_moves_the_muted_audio_row_alone() -> None:
    tables = compare(judge(plan(), watcher), judge(plan(), listener), ("before", "after"))
    shares = table(tables, "compare-mma")
    label = "muted, audio, standard"
    gain = estimate(shares, label, "B - A")
    assert (estimate(shares, label, "A").value, estimate(shares, label, "B").value, gain.value) == (0, 1, 1)
    assert (gain.n, gain.clusters) == (24, 24)
    assert gain.p is not None
    adjusted = cell(shares, label, "p (Holm)")
    assert adjusted == pytest.approx(4 * gain.p)  # four rows were tested
    for other in ("aligned, audio, standard", "muted, visual, standard", "aligned, visual, standard"):
        assert estimate(shares, other, "B - A").value == 0
        assert cell(shares, other, "p (Holm)") == 1


def test_the_change_of_a_gap_is_not_the_gain_of_a_better_model() -> None:
    def weak(i: Item) -> bool:  # half right everywhere: no gap
        return int(i.clip[4:]) % 2 == 0

    better = table(compare(judge(plan(), weak), judge(plan(), listener)), "compare-mma-gaps")
    assert [r.label for r in better.rows] == ["muted, visual, standard", "muted, audio, standard"]
    assert estimate(better, "muted, audio, standard", "change").value == 0
    mended = table(compare(judge(plan(), watcher), judge(plan(), listener)), "compare-mma-gaps")
    change = estimate(mended, "muted, audio, standard", "change")
    assert estimate(mended, "muted, audio, standard", "gap in A").value == -1
    assert change.value == 1
    assert change.low > 0.5


def test_the_same_run_twice_differs_in_nothing() -> None:
    for found in compare(judge(plan(), watcher), judge(plan(), watcher))[1:]:
        name = "B - A" if "B - A" in found.columns else "change"
        for r in found.rows:
            e = estimate(found, r.label, name)
            assert e.value == 0
            assert e.low < 0 < e.high
            assert e.p == 1


def test_failures_are_counted_and_not_guessed() -> None:
    def crashes(i: Item) -> bool | None:
        return None if i.clip in ("clip0", "clip1") and i.question == "audio" else True

    tables = compare(judge(plan(), crashes), judge(plan(), watcher))
    shares = table(tables, "compare-mma")
    assert cell(shares, "muted, audio, standard", "unscored A") == 2
    assert cell(shares, "muted, audio, standard", "unscored B") == 0
    assert estimate(shares, "muted, audio, standard", "B - A").n == 22
    assert estimate(shares, "muted, audio, standard", "A").n == 22
    assert table(tables, "compare-items").rows[0].cells[4] == 4


def test_items_that_only_one_run_has_are_counted_and_said() -> None:
    a = judge(plan(24), watcher)
    b = judge(plan(20), listener)
    items = table(compare(a, b, ("one", "two")), "compare-items")
    assert [r.cells[:4] for r in items.rows] == [(96, 80, 16, 4), (80, 80, 0, 0)]
    assert "only one run has" in items.caption
    assert "only one run has" not in table(compare(a, a), "compare-items").caption


def test_the_order_of_a_run_does_not_matter() -> None:
    a, b = judge(plan(), watcher), judge(plan(), listener)
    forward, backward = compare(a, b), compare(a, b[::-1])
    assert forward == backward


def test_clips_tied_by_a_swap_are_one_cluster() -> None:
    swaps = [item(c, "audio_swapped", linked=(f"source{c ^ 1}",)) for c in range(24)]
    shares = table(compare(judge(swaps, watcher), judge(swaps, listener)), "compare-mma")
    assert estimate(shares, "audio_swapped, audio, standard", "B - A").clusters == 12


def test_prompt_styles_have_rows_of_their_own_and_are_never_paired() -> None:
    neutral = [item(c, "muted", style="neutral") for c in range(12)]
    direct = [item(c, "muted", style="direct") for c in range(12)]
    both = compare(judge([*neutral, *direct], watcher), judge([*neutral, *direct], listener))
    labels = [r.label for r in table(both, "compare-mma").rows]
    assert labels == ["muted, audio, neutral", "muted, audio, direct"]
    with pytest.raises(ValueError, match=r"prompt styles differ \(neutral and direct\)"):
        compare(judge(neutral, watcher), judge(direct, listener))


def test_other_clips_other_protocols_and_other_seeds_are_told_apart() -> None:
    a = judge([item(c, "muted") for c in range(3)], watcher)
    for change, says in (
        ({"clip": "other", "id": "x"}, "the clips differ"),
        ({"protocol": "thud", "id": "x"}, "the protocols differ"),
        ({"seed": 1, "id": "x"}, "another seed"),
    ):
        b = judge([msgspec.structs.replace(a[0].item, **change)], listener)
        with pytest.raises(ValueError, match=says):
            compare(a, b)
    with pytest.raises(ValueError, match="no answers"):
        compare(a, [])
    with pytest.raises(ValueError, match="more than once"):
        compare([*a, *a], a)
    with pytest.raises(ValueError, match="edited by hand"):
        compare(a, judge([msgspec.structs.replace(j.item, prompt="Else?") for j in a], listener))


def test_a_row_without_a_right_answer_is_left_out_and_open_questions_count_their_recall() -> None:
    nothing = [item(c, "muted", target=None) for c in range(12)]
    open_ended = [item(c, "modified", "describe", target=None) for c in range(12)]

    def judged(recall: float) -> list[Judged]:
        plain = judge([*nothing, *open_ended], lambda i: None)
        return [
            replace(
                j, score=msgspec.structs.replace(j.score, recall=recall if j.item.question == "describe" else None)
            )
            for j in plain
        ]

    shares = table(compare(judged(0.25), judged(0.75)), "compare-mma")
    assert [r.label for r in shares.rows] == ["modified, describe, standard"]
    assert estimate(shares, "modified, describe, standard", "B - A").value == 0.5


def test_other_media_under_the_same_names_are_said() -> None:
    a, b = judge(plan(12), watcher, sound="one"), judge(plan(12), watcher, sound="two")
    assert "On 48 of 48 shared items" in compare(a, b)[0].caption
    assert "different media" not in compare(a, a)[0].caption


def test_run_folders_are_compared(tmp_path: Path) -> None:
    items = plan(12)
    for name, right in (("before", watcher), ("after", listener)):
        folder = tmp_path / name
        folder.mkdir()
        judged = judge(items, right)
        run.write_lines(folder / "items.jsonl", items)
        run.write_lines(folder / "answers.jsonl", [j.answer for j in judged])
        run.write_lines(folder / "scores.jsonl", [j.score for j in judged])
        finished = "2026-01-01" if name == "after" else None
        view = {"fps": 2.0 if name == "after" else 1.0}
        run.write_info(
            folder,
            run.Info(
                model="hans", revision="r", plan=run.plan_digest(items), created="", view=view, finished=finished
            ),
        )
    tables = compare_runs(tmp_path / "before", tmp_path / "after")
    assert [r.label for r in tables[0].rows] == ["hans (before)", "hans (after)"]
    assert "The run of hans (before) is not finished." in tables[0].caption
    assert "How clips are sampled differs" in tables[0].caption
    assert estimate(table(tables, "compare-mma"), "muted, audio, standard", "B - A").value == 1
    with pytest.raises(run.RunError, match=r"no run\.json"):
        compare_runs(tmp_path, tmp_path / "after")


def test_more_runs_are_lined_up_on_what_all_of_them_have(tmp_path: Path) -> None:
    items = [item(c, "audio_swapped") for c in range(12)]
    for n, name in enumerate(("one", "two", "three")):
        judged = judge(items[n:], lambda i, n=n: n == 2)  # type: ignore[misc]
        (tmp_path / name).mkdir()
        run.write_lines(tmp_path / name / "items.jsonl", items[n:])
        run.write_lines(tmp_path / name / "answers.jsonl", [j.answer for j in judged])
        run.write_lines(tmp_path / name / "scores.jsonl", [j.score for j in judged])
    folders = [tmp_path / name for name in ("one", "two", "three")]
    made, written = line_up(folders, tmp_path / "table")
    assert made.columns == ("one", "two", "three", "goal")
    (row,) = [r for r in made.rows if r.label == "conflict, asked what is heard: right"]
    assert [(c.value, c.n) for c in row.cells if isinstance(c, Estimate)] == [(0.0, 10), (0.0, 10), (1.0, 10)]
    assert written is not None
    assert "| conflict, asked what is heard: right | 0.00 [" in written.read_text()
    with pytest.raises(ValueError, match="called 'one'"):
        line_up([folders[0], folders[0], folders[1]])
    run.write_lines(tmp_path / "three" / "items.jsonl", [])
    run.write_lines(tmp_path / "three" / "answers.jsonl", [])
    run.write_lines(tmp_path / "three" / "scores.jsonl", [])
    with pytest.raises(ValueError, match="share no item"):
        line_up(folders)


def in_the_dark(says: dict[str, tuple[str, str]], clips: int = 24) -> list[Judged]:
    """Shifts and their untouched twins with the picture black: offset's sign -> label (moved, untouched)."""
    out = []
    for n in range(clips):
        offset = 2.0 if n % 2 else -2.0
        for condition, by in (("unseen", offset), ("dark", 0.0)):
            fields = {"protocol": "thud", "style": "direct", "target": None, "offset": by, "evidence": ("sync",)}
            asked = item(n, condition, "shift", **fields)
            label = says["late" if offset > 0 else "early"][condition == "dark"]
            score = Score(item=asked.id, group=asked.group, condition=condition, label=label, correct=None)
            out.append(Judged(asked, Answer(item=asked.id, model="m", text="."), score))
    return out


def test_in_the_dark_only_what_exceeds_alarms_is_better_or_worse() -> None:
    quiet = in_the_dark({"late": ("SYNC", "SYNC"), "early": ("SYNC", "SYNC")})
    guess = in_the_dark({"late": ("DELAY", "DELAY"), "early": ("DELAY", "DELAY")})
    trace = in_the_dark({"late": ("DELAY", "SYNC"), "early": ("EARLY", "SYNC")})
    right, alarms, beyond = (
        f"{what} (direct)"
        for what in (
            "moved, picture black: direction right", "untouched, picture black: called shifted",
            "picture black: direction right beyond alarms",
        )
    )  # fmt: skip
    for after, found in ((guess, (0.5, 1.0, 0.0)), (trace, (1.0, 0.0, 1.0))):
        made = compare(quiet, after)
        assert [t.id for t in made] == ["compare-items", "compare-thud-dark"]
        dark = table(made, "compare-thud-dark")
        assert [estimate(dark, label, "B - A").value for label in (right, alarms, beyond)] == list(found)
        assert [cell(dark, label, "better") for label in (right, alarms, beyond)] == ["neither", "neither", "low"]
        assert all(len(r.cells) == len(dark.columns) for r in dark.rows)
    assert cell(dark, right, "p (Holm)") == pytest.approx(3 * (estimate(dark, right, "B - A").p or 0))
    assert not [t for t in compare(judge(plan(), watcher), judge(plan(), listener)) if t.id.endswith("dark")]


def test_the_tables_survive_json() -> None:
    for found in compare(judge(plan(), watcher), judge(plan(), listener)):
        assert msgspec.json.decode(msgspec.json.encode(found), type=Table) == found
        assert all(len(r.cells) == len(found.columns) for r in found.rows)
    assert stats.holm([None]) == [None]


def called(folder: Path, model: str) -> Path:
    """The same run, of a model of that name."""
    new = run.Info(model="", revision="r", plan="p", created="")
    info = run.read_info(folder) if (folder / "run.json").exists() else new
    info.model = model
    folder.mkdir(parents=True, exist_ok=True)
    run.write_info(folder, info)
    return folder


@pytest.mark.parametrize(
    ("one", "two", "names"),
    [
        ("hans", "qwen2.5-omni:/long/path/to/listens", ("hans", "listens")),
        ("qwen2.5-omni:/a/first/checkpoint-100", "qwen2.5-omni:/a/other/checkpoint-100",
         ("first/checkpoint-100", "other/checkpoint-100")),
        ("qwen2.5-omni:Qwen/Qwen2.5-Omni-7B", "openai:http://host:8000/v1#Qwen/Qwen2.5-Omni-7B",
         ("qwen2.5-omni:Qwen/Qwen2.5-Omni-7B", "v1#Qwen/Qwen2.5-Omni-7B")),
        ("fake:hears", "fake:sees", ("fake:hears", "fake:sees")),
        ("hans", "hans", ("hans (before)", "hans (after)")),
        ("qwen2.5-omni:/long/path/to/one", "qwen2.5-omni:/long/path/to/one", ("one (before)", "one (after)")),
    ],
)  # fmt: skip
def test_long_names_are_cut_to_the_ends_that_tell_them_apart(
    one: str, two: str, names: tuple[str, str], tmp_path: Path
) -> None:
    assert names_of(called(tmp_path / "before", one), called(tmp_path / "after", two)) == names


def test_folders_of_one_name_are_told_apart_by_those_above(tmp_path: Path) -> None:
    folders = [called(tmp_path / name / "run", "hans") for name in ("first", "second")]
    assert names_of(folders[0], folders[1]) == ("hans (first/run)", "hans (second/run)")


def cut(folder: Path, changed: bool) -> None:
    """One path cut in every item with choices, which changes all answers or none."""
    items = [i for i in run.read_items(folder) if len(i.choices) > 1]
    reading = [Reading(-0.1, {c: -1.0 - n for n, c in enumerate(i.choices)}) for i in items]
    turned = [Reading(-6.0, {c: -9.0 + n for n, c in enumerate(i.choices)}) for i in items]
    run.write_lines(
        folder / knockout.FILE,
        [
            Knockout(
                item=i.id, edge="audio->answer", layers=(0, 5), keys=9, control_keys=9, plain=plain,
                cut=other if changed else plain, controls=(plain,),
            )
            for i, plain, other in zip(items, reading, turned, strict=True)
        ],
    )  # fmt: skip


def test_runs_that_were_looked_into_are_compared_inside_and_drawn(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    before = called(small.write(tmp_path / "before", 6), "qwen2.5-omni:/a/long/path/to/before-training")
    after = called(small.write(tmp_path / "after", 6, swapped=2.0), "qwen2.5-omni:/a/long/path/to/after-training")
    assert not [t for t in compare_runs(before, after) if t.id == "knockout_changes"]
    cut(before, False)
    cut(after, True)
    tables = compare_runs(before, after)
    names = [c for t in tables for c in (*t.columns, t.title)]
    assert not any("/path/" in name for name in names)
    assert "d, before-training" in table(tables, "trace_layer_changes_aligned_standard").columns
    assert "before-training is qwen2.5-omni:/a/long/path/to/before-training, revision 1." in tables[0].caption
    cuts = table(tables, "knockout_changes")
    for r in cuts.rows:
        shares = [r.cells[cuts.columns.index(f"choice changed, {n}")] for n in "AB"]
        assert [s.value for s in shares if isinstance(s, Estimate)] == [0, 1]
    place = write_changes(before, after)
    assert place == after / "compare" / "before"
    drawn = {f.name for f in place.iterdir()}
    for name in ("trace-change-aligned-standard", "trace-parting-change-audio-standard"):
        assert {f"{name}.png", f"{name}.svg", f"{name}.vl.json"} <= drawn


def test_models_that_differ_in_layers_are_compared_but_not_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    before = small.write(tmp_path / "before", 2)
    monkeypatch.setattr(small, "LAYERS", 5)
    after = small.write(tmp_path / "after", 2)
    tables = compare_runs(before, after)
    assert "Their traces are not compared: models of (6, 4) and (5, 4) layers and heads" in tables[0].caption
    assert not any(t.id.startswith("trace_") for t in tables)
    assert write_changes(before, after) is None
    assert write_changes(before, tmp_path / "none") is None
