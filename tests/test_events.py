"""Event times: answers read, sights compared, onsets through files, verdicts of whole builds by fake annotators."""

from __future__ import annotations

import json
import os
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from earwitness import audit, foley, media
from earwitness import run as runs
from earwitness.cli import app
from earwitness.curate.events import Built, asked, build, wish, witness
from earwitness.curate.events.agreement import Annotation, Decision, apart, decide, room, spread
from earwitness.curate.events.asked import ANNOTATE, FRAME_UNIT, units
from earwitness.curate.events.habits import heaping
from earwitness.curate.events.read import moment, read_event, read_unit
from earwitness.curate.events.truth import detector
from earwitness.curate.events.wish import Wish
from earwitness.curate.events.witness import Measured, Onset, covered, measured, moving, nearest, salient
from earwitness.curate.events.writing import lines_of
from earwitness.datasets import folder as folders
from earwitness.models.load import load_model
from earwitness.protocols import Settings, load
from earwitness.records import Clip, Event, Media, View

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data" / "clips"
RATE = 16_000
GOOD = {
    "visual_event": "a drum is hit", "visual_time": 2.1, "audio_event": "a thud", "audio_time": 2.2,
    "confidence": "high",
}  # fmt: skip


def said(**changed: Any) -> str:
    return json.dumps({**GOOD, **changed})


class TestAnswers:
    @pytest.mark.parametrize(
        "text",
        [
            said(),
            f"```json\n{said()}\n```",
            f"<think>{{maybe 3 s}}</think>Sure! {said()} Let me know if that helps. {{:-)",
            said(visual_time="2.1s", audio_time="2.2 seconds"),
            said(visual_time="0:02.1", audio_time="00:00:02.2"),
            said(visual_time="2100 ms", audio_time="~2.2 s"),
            said(visual_time=[2.0, 2.2], audio_time="2.1-2.3 s"),
            said().replace('"', "'"),
            said().replace("}", ",}"),
            json.dumps({"annotation": GOOD}),
            f"{said()}\nAs I said:\n{said()}",
            "visual_event: a drum is hit\nvisual_time: 2.1 s\naudio_event: a thud\n**audio_time**: 2.2\n"
            "confidence: high",
            json.dumps({k.replace("_", " ").title(): v for k, v in GOOD.items()}),
        ],
    )
    def test_form_is_forgiven(self, text: str) -> None:
        found = read_event(text, 6.0)
        assert (found.outcome, found.seen, found.heard) == ("placed", pytest.approx(2.1), pytest.approx(2.2)), found
        assert (found.visual_event, found.confidence) == ("a drum is hit", "high")

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (ANNOTATE, "repeats"),
            ("I see a drum.", "no JSON"),
            ("", "no JSON"),
            (said()[:60], "no JSON"),
            (said() + said(audio_time=4.0), "2 different"),
            (json.dumps({k: v for k, v in GOOD.items() if k != "audio_time"}), "audio_time"),
            (said(audio_time="soon"), "no time"),
            (said(audio_time=True), "no time"),
            (said(audio_time=-1), "no time"),
            (said(audio_time=2200), "milliseconds"),
            (said(visual_time="1:05"), "outside"),
            (said(visual_time="1-4 s"), "range"),
            ('{"visual_time": NaN, "visual_event": "a", "audio_event": "b", "audio_time": 1}', "no time"),
        ],
    )
    def test_content_is_not_made_up(self, text: str, why: str) -> None:
        found = read_event(text, 6.0)
        assert found.outcome == "UNPARSED"
        assert why in found.why
        assert found.seen is None
        assert found.heard is None

    @pytest.mark.parametrize(
        "text",
        [
            "uncertain", "Uncertain.", '"uncertain"', "The answer is uncertain", said(audio_time="uncertain"),
            said(confidence="uncertain"), said(visual_time=None), '{"result": "uncertain"}',
        ],
    )  # fmt: skip
    def test_uncertain_is_an_answer(self, text: str) -> None:
        assert read_event(text, 6.0).outcome == "uncertain"

    def test_a_refusal_is_not_uncertain_and_a_missing_confidence_stays_missing(self) -> None:
        assert read_event("I cannot watch videos, I'm sorry.", 6.0).outcome == "REFUSED"
        assert read_event(said(confidence="0.9"), 6.0).confidence is None

    @pytest.mark.parametrize(
        "text",
        [
            "unit_id: 3\ntimestamp_range: 2.00-3.00 s\njustification: it moves.",
            "Unit 3", "unit_id: unit_3", '{"unit_id": 3, "timestamp_range": [2.0, 3.0], "justification": "x"}',
            '{"unit_id": "U3"}', "3, 2.00-3.00 s, because it moves", '{"timestamp_range": "2.00 to 3.00 s"}',
            "The event is seen in **unit 3** (2.00 to 3.00 s).", '{"unit_id": "3", "timestamp_range": "0:02-0:03"}',
        ],
    )  # fmt: skip
    def test_units_are_read(self, text: str) -> None:
        assert (read_unit(text, units(6.0)).outcome, read_unit(text, units(6.0)).unit) == ("placed", 3)

    @pytest.mark.parametrize(
        "text",
        [
            "unit 3 or unit 4", '{"unit_id": 9}', '{"unit_id": 3, "timestamp_range": "4.0-5.0"}', "a drum", "2.5",
            "Unit 0", '{"timestamp_range": "0-6 s"}',
        ],
    )  # fmt: skip
    def test_units_that_are_none_are_unparsed(self, text: str) -> None:
        assert read_unit(text, units(6.0)).outcome == "UNPARSED"

    def test_a_watchers_uncertain_and_the_repeated_question(self) -> None:
        item = asked.unit_item(Clip(id="a", end=6.0), "a drum is hit.", View(fps=2.0))
        assert read_unit(item.prompt, units(6.0)).outcome == "UNPARSED"
        assert item.prompt.startswith(FRAME_UNIT.format(event="a drum is hit"))
        assert "unit 6: 5.00 to 6.00 s (frames 11 to 12)" in item.prompt
        assert item.intervention.kind == "no_track"
        assert read_unit("uncertain", units(6.0)).outcome == read_unit('{"unit_id": null}', units(6.0)).outcome

    @given(st.floats(0, 599.99, allow_nan=False))
    def test_a_time_in_any_form_is_the_same_time(self, seconds: float) -> None:
        at = round(seconds, 2)
        minutes, rest = divmod(round(at * 100), 6000)
        forms: list[object] = [
            at,
            f"{at:.2f}",
            f"{at:.2f} s",
            f"{at * 1000:.0f} ms",
            f"{minutes}:{rest / 100:05.2f}",
        ]
        assert [moment(f) for f in forms] == pytest.approx([at] * len(forms), abs=1e-6)

    def test_units_cover_the_clip_and_none_is_empty(self) -> None:
        windows = units(10.03)
        assert len(windows) == 11
        assert windows[0][0] == 0
        assert windows[-1][1] == 10.03
        assert len({round(b - a, 3) for a, b in windows}) == 1
        assert len(units(6.0)) == 6
        assert len(units(0.4)) == 1
        with pytest.raises(ValueError, match="milliseconds"):
            units(float("nan"))


def click_at(times: list[float], seconds: float = 6.0, level: float = 0.5) -> Media:
    """Clicks of 20 ms in noise at -54 dB, and a white square that jumps with them."""
    rng = np.random.default_rng(5)
    wave = (0.002 * rng.standard_normal((1, round(seconds * RATE)))).astype(np.float32)
    frames = np.full((round(seconds * 25), 64, 64, 3), 60, np.uint8)
    for n, t in enumerate(times):
        at = round(t * RATE)
        wave[0, at : at + RATE // 50] += level * rng.standard_normal(RATE // 50).astype(np.float32)
        frames[round(t * 25) :, 10 + 20 * (n % 2) : 26 + 20 * (n % 2), 8:24] = 250
    return Media(frames, np.arange(len(frames)) / 25, np.clip(wave, -1, 1), RATE, seconds)


def written(one: Media, path: Path) -> Path:
    assert one.frames is not None
    media.write_clip(one.frames, 25.0, one.wave, one.rate, path)
    return path


class TestWitness:
    def test_clicks_are_found_where_they_are_in_a_file(self, tmp_path: Path) -> None:
        times = [0.7, 1.934, 3.5, 5.217]
        found = measured(media.load(written(click_at(times), tmp_path / "a.mp4"), witness.LOOK))
        some = salient(found, 6.0)
        assert [o.at for o in some] == pytest.approx(times, abs=0.003)
        assert min(o.rise for o in some) > 20
        one = detector([o.at for o in some], times)
        assert (one.missed, one.false) == (0, 0)

    def test_the_picture_changes_where_it_jumps_and_stands_still_elsewhere(self, tmp_path: Path) -> None:
        found = measured(media.load(written(click_at([3.5]), tmp_path / "a.mp4"), witness.LOOK))
        here, there = moving(found, 3.4, 0.8), moving(found, 1.5, 0.8)
        assert here is not None
        assert there is not None
        assert here.at == pytest.approx(3.5, abs=0.11)
        assert not here.still
        assert there.still
        assert moving(measured(Media(None, None, None, RATE, 2.0)), 1.0, 0.8) is None

    def test_silence_and_noise_have_no_salient_onsets(self) -> None:
        rng = np.random.default_rng(0)
        noise = Media(None, None, (0.1 * rng.standard_normal((1, 6 * RATE))).astype(np.float32), RATE, 6.0)
        assert not salient(measured(noise), 6.0)
        mute = measured(Media(None, None, np.zeros((1, RATE), np.float32), RATE, 1.0))
        assert mute.silent
        assert not mute.onsets
        assert measured(Media(None, None, None, RATE, 1.0)).loudest is None

    @pytest.mark.parametrize("difficulty", ["easy", "hard"])
    def test_the_detector_on_impacts_of_known_time(self, difficulty: Any) -> None:
        for clip in foley.clip_set(6, seed=3, kind="impact", difficulty=difficulty).clips:
            found = measured(foley.media(foley.parse(clip.foley or ""), witness.LOOK))
            one = detector([o.at for o in salient(found, 6.0)], [clip.events[0].heard or 0.0])
            assert (one.missed, one.false) == (0, 0), clip.foley
            assert one.errors[0] < 0.005

    def test_chance_is_the_share_of_the_clip_near_an_onset(self) -> None:
        some = [Onset(1.0, 9, -20), Onset(1.5, 9, -20), Onset(5.9, 9, -20)]
        assert covered(some, 6.0, 0.5) == pytest.approx((1.5 + 0.6) / 6)
        assert covered([], 6.0, 0.5) == 0
        assert nearest(some, 1.3) == some[1]
        assert nearest([], 1.0) is None


def heard_at(*times: float, seconds: float = 6.0, moves: bool = True) -> Measured:
    changes = tuple((round(k / 10, 1), 40.0 if moves else 0.5) for k in range(1, round(seconds * 10)))
    return Measured(
        seconds=seconds,
        loudest=-10.0,
        frames=60,
        changes=changes,
        onsets=tuple(Onset(t, 20.0, -12.0) for t in times),
    )


def listener(name: str, seen: float, heard: float, **more: Any) -> Annotation:
    more = {"confidence": "high", "visual_event": "a hit", "audio_event": "a thud", **more}
    return Annotation(annotator=name, kind="event", outcome="placed", seen=seen, heard=heard, **more)


def watcher(name: str, unit: tuple[float, float] | None, outcome: Any = "placed") -> Annotation:
    return Annotation(annotator=name, kind="unit", outcome=outcome, unit=unit)


CLIP = Clip(id="a", path="a.mp4", end=6.0, seen=("drum",), heard=("drum",))


def gates(d: Decision) -> set[str]:
    return {r.gate for r in d.why}


class TestAgreement:
    def test_what_agrees_is_kept_with_its_times(self) -> None:
        d = decide(CLIP, [listener("a", 3.0, 3.1), watcher("b", (3.0, 4.0))], heard_at(3.12), Wish())
        assert (d.verdict, d.event, gates(d)) == ("kept", Event("a hit", 3.0, 3.1), set())
        assert (d.spread_v, d.spread_a, d.away) == (0.5, None, pytest.approx(0.02))

    def test_one_that_is_off_by_a_second_is_queued(self) -> None:
        two = [listener("a", 3.0, 3.0), listener("b", 4.0, 4.0)]
        assert gates(decide(CLIP, two, heard_at(3.0), Wish(listeners=2))) >= {"seen", "heard"}
        near = [listener("a", 3.0, 3.0), listener("b", 3.8, 3.5)]  # at the tolerances exactly
        assert decide(CLIP, near, heard_at(3.25), Wish(listeners=2)).verdict == "kept"

    def test_a_unit_counts_by_its_nearest_point_or_its_middle(self) -> None:
        two = [listener("a", 2.3, 2.3), watcher("b", (3.0, 4.0))]
        assert decide(CLIP, two, heard_at(2.3), Wish(interval="gap")).verdict == "kept"
        assert gates(decide(CLIP, two, heard_at(2.3), Wish())) == {"seen"}
        assert spread([2.0]) is None
        assert apart((1.0, 2.0), (4.0, 5.0), "gap") == 2.0
        assert apart((1.0, 2.0), (4.0, 5.0)) == 3.0

    def test_a_single_annotator_is_queued_but_where_the_manifest_agrees(self) -> None:
        one, own = [listener("a", 3.0, 3.0)], (Event("drum", 3.1, 3.1), Event("drum", 0.4, 0.4))
        assert gates(decide(CLIP, one, heard_at(3.0), Wish(), own)) == {"sources"}
        assert decide(CLIP, one, heard_at(3.0), Wish(given=True), own).verdict == "kept"
        assert gates(decide(CLIP, one, heard_at(3.0), Wish(given=True), own[1:])) == {"seen", "heard"}

    def test_without_an_onset_there_no_label_is_kept_and_refining_moves_it_within_the_tolerance(self) -> None:
        two = [listener("a", 3.0, 3.0), watcher("b", (3.0, 4.0))]
        d = decide(CLIP, two, heard_at(1.0, 3.6), Wish())
        assert gates(d) == {"onset"}
        assert "3.60 s" in d.why[0].says
        moved = decide(CLIP, two, heard_at(1.0, 3.3), Wish(refine=True))
        assert moved.event == Event("a hit", 3.0, 3.3)
        assert moved.refined == 3.0
        assert moved.away == pytest.approx(0.3)

    def test_gates(self) -> None:
        b, on = watcher("b", (3.0, 4.0)), heard_at(3.0)
        sure = [listener("a", 3.0, 3.0), b]
        low, bare = (listener("a", 3.0, 3.0, confidence=c) for c in ("low", None))
        assert gates(decide(CLIP, [low, b], on, Wish())) == {"clarity"}
        assert gates(decide(CLIP, [bare, b], on, Wish())) == {"clarity"}
        assert gates(decide(CLIP, sure, heard_at(3.0, moves=False), Wish())) == {"clarity"}
        assert gates(decide(CLIP, [*sure, watcher("c", None, "uncertain")], heard_at(3.0), Wish())) == {"clarity"}
        d = decide(CLIP, [*sure, watcher("c", None, "UNPARSED")], heard_at(3.0), Wish())
        assert d.verdict == "kept"
        assert "c gave no readable answer" in d.notes[0]
        long = clip_of(12.0)
        late = decide(long, [listener("a", 3.0, 4.6), b], heard_at(4.6, seconds=12.0), Wish())
        assert gates(late) == {"times"}  # a labels file would refuse it

    def test_what_nobody_can_settle_is_dropped(self) -> None:
        two = [listener("a", 3.0, 3.0), watcher("b", (3.0, 4.0))]
        silent = Measured(seconds=6.0, loudest=-80.0, frames=60)
        for found in ("no such file", silent, Measured(seconds=6.0, loudest=None, frames=60)):
            assert (decide(CLIP, two, found, Wish()).verdict, gates(decide(CLIP, two, found, Wish()))) == (
                "dropped", {"media"},
            )  # fmt: skip
        none = [Annotation(annotator="a", kind="event", outcome="uncertain")]
        assert decide(CLIP, none, heard_at(3.0), Wish()).verdict == "dropped"
        failed = [Annotation(annotator="a", kind="event", outcome="failed", why="out of memory")]
        d = decide(CLIP, failed, heard_at(3.0), Wish())
        assert d.verdict == "queued"
        assert d.event is None
        assert "out of memory" in d.why[0].says

    def test_an_event_must_bear_the_interventions(self) -> None:
        early = [listener("a", 0.5, 0.5), watcher("b", (0.0, 1.0))]
        d = decide(CLIP, early, heard_at(0.5), Wish())
        assert d.room is not None
        assert (d.room.late, d.room.early, d.verdict) == (True, False, "kept")
        assert gates(decide(CLIP, early, heard_at(0.5), Wish(shift="both"))) == {"validity"}
        short = clip_of(3.0)
        middle = [listener("a", 1.5, 1.5), watcher("b", (1.0, 2.0))]
        assert decide(short, middle, heard_at(1.5, seconds=3.0), Wish()).verdict == "dropped"
        assert decide(short, middle, heard_at(1.5, seconds=3.0), Wish(shift="no")).verdict == "kept"
        assert room(clip_of(6.0, Event("x", 3.0, 3.0)), (1.8, 2.5)) == (True, True)

    def test_a_rival_sound_makes_a_shift_look_in_step(self) -> None:
        two = [listener("a", 3.0, 3.0), watcher("b", (3.0, 4.0))]
        ticks = heard_at(*(0.5 * k for k in range(1, 12)))
        d = decide(CLIP, two, ticks, Wish())
        assert d.room is not None
        assert d.room.clear == 0
        assert d.verdict == "kept"
        assert gates(decide(CLIP, two, ticks, Wish(rivals="drop"))) == {"validity"}
        assert decide(CLIP, two, heard_at(3.0), Wish(rivals="drop")).verdict == "kept"

    outcomes = st.sampled_from(["placed", "uncertain", "UNPARSED"])
    sights = st.lists(
        st.tuples(st.floats(0, 6), st.floats(0, 6), st.booleans(), outcomes),
        min_size=1, max_size=4,
    )  # fmt: skip

    @settings(max_examples=60, deadline=None)
    @given(sights, st.lists(st.floats(0, 5.9), max_size=4), st.booleans())
    def test_the_order_of_annotators_changes_nothing(
        self, some: list[tuple[float, float, bool, Any]], onsets: list[float], refine: bool
    ) -> None:
        said_ = [
            (listener(str(n), a, b) if listens else watcher(str(n), (min(a, b), max(a, b))))
            if outcome == "placed"
            else Annotation(annotator=str(n), kind="event" if listens else "unit", outcome=outcome)
            for n, (a, b, listens, outcome) in enumerate(some)
        ]
        found, wanted = heard_at(*sorted(onsets)), Wish(refine=refine)
        first = decide(CLIP, said_, found, wanted)
        for order in permutations(said_):
            other = decide(CLIP, order, found, wanted)
            assert (other.verdict, other.why, other.event) == (first.verdict, first.why, first.event)


def clip_of(seconds: float, *events: Event) -> Clip:
    return Clip(id="a", path="a.mp4", end=seconds, seen=("drum",), heard=("drum",), events=events)


class TestHeaping:
    def test_whole_seconds_are_flagged_and_tenths_are_not(self) -> None:
        rng = np.random.default_rng(1)
        fine = [round(float(t), 1) for t in rng.uniform(0, 10, 80)]
        whole = [float(round(t)) for t in fine]
        half = [round(t * 2) / 2 for t in fine]
        own = [str(n) for n in range(80)]
        given_ = [("fine", "seen", fine, own), ("whole", "seen", whole, own), ("half", "seen", half, own)]
        flags = {(h.annotator, h.place): h.flagged for h in heaping(given_)}
        assert flags == {
            ("fine", "whole"): False, ("fine", "half"): False, ("whole", "whole"): True, ("whole", "half"): False,
            ("half", "whole"): True, ("half", "half"): True,
        }  # fmt: skip
        assert not heaping([("few", "seen", whole[:9], own[:9])])
        with pytest.raises(ValueError, match="resolution"):
            heaping(given_, 1.0)

    def test_the_test_holds_its_level(self) -> None:
        rng = np.random.default_rng(2)
        own = [str(n) for n in range(100)]
        flagged = 0
        for _ in range(100):
            times = [float(t) for t in rng.uniform(0, 10, 100)]
            flagged += any(h.flagged for h in heaping([("a", "seen", times, own)]))
        assert flagged <= 5  # 1 expected


# ---------------------------------------------------------------- whole builds


def fake(habits: str = "") -> str:
    return "fake:annotator" + (f":{habits}" if habits else "")


def made(out: Path, *annotators: str, limit: int = 8, **more: Any) -> Built:
    more.setdefault("files", "no")
    return build("foley:impact", out, annotators, wish(more), limit=limit)


def verdicts(built: Built) -> dict[str, int]:
    names = [d.verdict for d in built.decisions]
    return {name: names.count(name) for name in ("kept", "queued", "dropped") if name in names}


class TestBuilds:
    def test_two_that_agree_are_kept_and_right(self, tmp_path: Path) -> None:
        built = made(tmp_path / "e", fake(), fake("spread=0.05"), shift="no")
        assert verdicts(built) == {"kept": 8}
        truth = {c.id: c.events[0] for c in foley.clip_set(8, kind="impact").clips}
        for d in built.decisions:
            assert d.event is not None
            assert d.onset is not None
            assert d.event.heard == pytest.approx(truth[d.clip].heard, abs=0.002)
            assert d.onset.at == pytest.approx(truth[d.clip].heard, abs=0.006)
            assert {a.kind for a in d.annotations} == {"event", "unit"}
        shown = {t.id for t in built.tables}
        assert shown >= {"events_verdicts", "events_truth", "events_detector", "events_agreement"}
        assert lines_of(tmp_path / "e") == built.decisions

    def test_one_that_is_off_by_a_second_sends_all_to_people(self, tmp_path: Path) -> None:
        built = made(tmp_path / "e", fake(), fake("late=1.0"), listeners="2", shift="no")
        late = [d for d in built.decisions if not {"seen", "heard"} <= gates(d)]
        assert verdicts(built) == {"queued": 8}
        assert all((d.spread_v or 0) < 1 for d in late)  # only where the clip's end cut the lateness short

    def test_a_heaper_is_flagged_and_an_inventor_is_not_kept(self, tmp_path: Path) -> None:
        built = made(tmp_path / "h", fake("grid=1"), fake("spread=0.1"), shift="no", limit=12)
        assert any("grid=1" in n and "whole seconds" in n for n in built.notes)
        assert "events_heaping" in {t.id for t in built.tables}
        assert not any("spread=0.1" in n for n in built.notes)
        invented = made(tmp_path / "i", fake("invents"), fake(), shift="no")
        assert verdicts(invented) == {"queued": 8}
        assert all("clarity" in gates(d) for d in invented.decisions)  # the watcher does not find what was made up

    def test_parrots_are_unparsed_crashers_fail_and_the_run_goes_on(self, tmp_path: Path) -> None:
        four = fake("chats"), "fake:parrot", "fake:crashes", fake("seed=1")
        built = made(tmp_path / "e", *four, shift="no", limit=9)
        rows = {r.label: r.cells for t in built.tables if t.id == "events_annotators" for r in t.rows}
        assert rows[fake("chats")][1:] == (9, 9, 0, 0, 0, 0)
        assert rows["fake:parrot"][1:] == (9, 0, 0, 9, 0, 0)
        assert rows["fake:crashes"][6] == 3
        assert rows["fake:crashes"][4] == 6
        assert verdicts(built) == {"kept": 9}
        assert any("fake:crashes failed on 3" in n for n in built.notes)
        alone = made(tmp_path / "p", "fake:parrot", fake(), limit=3)
        assert verdicts(alone) == {"queued": 3}
        assert all(d.event is None for d in alone.decisions)

    def test_a_deaf_listener_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(audit.EarCheckError):
            made(tmp_path / "e", "fake:deaf", fake(), limit=2)

    def test_going_on_repeats_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out = tmp_path / "e"
        asked_: list[tuple[str, str]] = []
        two = fake(), fake("spread=0.1")
        kind = type(load_model(two[0]))
        plain = kind.answer

        def counted(self: Any, items: Any, some: Any) -> Any:
            asked_.extend((self.name, i.clip) for i in items if i.protocol == "events")
            assert all(
                (m.wave is None) == (i.question == "unit") for i, m in zip(items, some, strict=True) if i.tags
            )
            if len(asked_) == 20:
                raise KeyboardInterrupt
            return plain(self, items, some)

        monkeypatch.setattr(kind, "answer", counted)
        monkeypatch.setattr("earwitness.curate.events.building.CHUNK", 1)
        with pytest.raises(KeyboardInterrupt):
            made(out, *two, shift="no", limit=12)
        first = made(out, *two, shift="no", limit=12)
        assert len(asked_) == 2 * 12 + 1  # the one in flight is asked again
        again = made(out, *two, shift="no", limit=12)
        assert len(asked_) == 2 * 12 + 1
        assert again.decisions == first.decisions
        stricter = made(out, *two, fake("seed=3"), shift="no", eps_v="0.6", limit=12)
        assert len(asked_) == 3 * 12 + 1  # deciding anew is free; only the third one was asked
        assert len(stricter.decisions[0].annotations) == 3
        with pytest.raises(runs.RunError, match="limit"):
            made(out, *two, limit=5)

    def test_what_is_written_is_read_by_audits_and_by_review(self, tmp_path: Path) -> None:
        source = tmp_path / "clips"
        source.mkdir()
        rows = []
        for name, at in (("one", 3.0), ("tail", 5.0)):
            written(click_at([at]), source / f"{name}.mp4")
            rows.append({"path": f"{name}.mp4", "seen": ["drum"], "heard": ["drum"], "licence": "CC0-1.0",
                         "events": [{"what": "drum", "seen": at, "heard": at}]})  # fmt: skip
        (source / "labels.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        out = tmp_path / "events"
        built = build(str(source), out, [fake("spread=0.02"), fake()], wish({"refine": "yes", "shift": "both"}))
        assert {d.clip: d.verdict for d in built.decisions} == {"one": "kept", "tail": "dropped"}
        kept = folders.read(out)
        assert kept.clips[0].events[0].heard == pytest.approx(3.0, abs=0.003)
        thud = load("thud").items(kept.clips, Settings())
        assert {i.condition for i in thud if i.question == "shift"} >= {"original", "shift"}
        late = build(str(source), tmp_path / "l", [fake(), fake("late=1.5")], wish({"listeners": "2"}))
        from earwitness.curate import review

        with review.opened(tmp_path / "l" / "queue.jsonl") as desk:
            cases = desk.queue.cases
        assert {c.clip.id for c in cases} == {d.clip for d in late.decisions if d.verdict == "queued"}
        assert "differ" in cases[0].why
        assert cases[0].clip.events

    def test_files_of_procedural_clips(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("earwitness.foley.files.FILE_VIEW", View(fps=10.0, size=(64, 64), rate=RATE))
        out = tmp_path / "e"
        built = made(out, fake(), fake("spread=0.05"), shift="no", files="yes", what="class", limit=1)
        (clip,) = folders.read(out).clips
        assert clip.path == f"clips/{built.decisions[0].clip}.mp4"
        assert clip.events[0].what == clip.seen[0]
        assert clip.foley


class TestCommand:
    def test_the_verb(self, tmp_path: Path) -> None:
        out = tmp_path / "e"
        args = ["curate", "events", "foley:impact", "-a", fake(), "-a", fake("spread=0.1"), "--limit", "3"]
        done = CliRunner().invoke(app, [*args, "--set", "files=no", "--out", str(out)])
        assert done.exit_code == 0, done.output
        assert (out / "tables.json").exists()
        assert (out / "labels.jsonl").exists()

    @pytest.mark.parametrize(
        ("more", "says"),
        [
            (["--set", "eps=1"], "no such setting"),
            (["--set", "eps_a=500"], "milliseconds"),
            (["--set", "listeners=3"], "listeners"),
            (["--set", "unit=2"], "interval=gap"),
            (["--set", "interval=centre"], "wants middle or gap"),
            (["-a", fake()], "named twice"),
            (["-a", "fake:annotator:speed=1"], "no habit"),
            (["-a", "genimi:pro"], "unknown model 'genimi:pro'"),
            (["-a", "qwen3-omni:./nowhere"], "no folder ./nowhere"),
        ],
    )
    def test_mistakes_are_named_before_any_work(self, tmp_path: Path, more: list[str], says: str) -> None:
        args = ["curate", "events", "foley:impact", "-a", fake(), "--limit", "1", "--out", str(tmp_path / "e")]
        done = CliRunner().invoke(app, [*args, *more])
        assert done.exit_code == 2
        assert says in " ".join(done.output.split())
        assert not (tmp_path / "e").exists()


@pytest.mark.real
@pytest.mark.skipif(
    not SHARED.is_dir(), reason="no real clips: set EARWITNESS_SHARED to the folder that holds data"
)
def test_real_clips_are_measured() -> None:
    found = {}
    for file in (SHARED / "canidae_aligned.mp4", SHARED / "no_audio_track.mp4"):
        found[file.stem] = measured(media.load(file, witness.LOOK))
    for one in found.values():
        assert one.frames > 0
        assert len(one.changes) == one.frames - 1
        assert list(one.onsets) == sorted(one.onsets, key=lambda o: o.at)
    assert any(one.loudest is None for one in found.values())
    assert any(salient(one, 6.0) for one in found.values())
