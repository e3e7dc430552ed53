"""People: queues, votes that are never lost, strict consensus, export, Label Studio, who may ask what over HTTP."""

from __future__ import annotations

import csv
import http.client
import io
import json
import os
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from earwitness import media, stats
from earwitness.cli import app
from earwitness.curate import review
from earwitness.curate.review import deciding as review_consensus
from earwitness.curate.review import exporting as review_export
from earwitness.curate.review import queue as review_queue
from earwitness.curate.review import tasks as review_label_studio
from earwitness.curate.review import votes as review_votes
from earwitness.curate.review.media import Studio
from earwitness.curate.review.queue import Queue
from earwitness.curate.review.votes import ReviewError, Vote, Votes, check_vote
from earwitness.datasets import folder
from earwitness.records import Clip, Estimate, Event, View

FPS, RATE = 25.0, 16_000
MET = {"object_visibility": True, "audio_purity": True, "action_dynamics": True}


# --- clips and votes -------------------------------------------------------------------------------------------


def flash(at: float = 1.0, seconds: float = 2.0, size: tuple[int, int] = (48, 64)) -> tuple[Any, Any]:
    """Grey pictures with one white frame at ``at``, and a wave with a beep then."""
    frames = np.full((round(seconds * FPS), *size, 3), 90, np.uint8)
    frames[round(at * FPS)] = 255
    wave = np.zeros((1, round(seconds * RATE)), np.float32)
    begin = round(at * RATE)
    wave[0, begin : begin + 1600] = 0.5 * np.sin(np.arange(1600) * 2 * np.pi * 880 / RATE)
    return frames, wave


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a labels file: a beep, muted, without a track, without pictures, a crop, and junk."""
    home = tmp_path_factory.mktemp("clips")
    frames, wave = flash()
    media.write_clip(frames, FPS, wave, RATE, home / "beep.mp4")
    media.write_clip(frames, FPS, np.zeros_like(wave), RATE, home / "muted.mp4")
    media.write_clip(frames, FPS, None, 0, home / "no_track.mp4")
    media.write_clip(frames, FPS, wave, RATE, home / "plain.mkv")
    import scipy.io.wavfile

    scipy.io.wavfile.write(home / "sound.wav", RATE, wave[0])
    (home / "junk.mp4").write_bytes(b"#EXTM3U\nhttp://localhost/x\n" * 40)
    rows: list[dict[str, Any]] = [
        {"path": "beep.mp4", "seen": ["bell"], "heard": ["bell"],
         "events": [{"what": "bell", "seen": 1.0, "heard": 1.0}], "source": "a"},
        {"path": "muted.mp4", "seen": ["bell"], "source": "b"},
        {"path": "no_track.mp4", "seen": ["bell"], "source": "c"},
        {"path": "plain.mkv", "seen": ["bell"], "heard": ["bell"], "source": "d"},
        {"path": "sound.wav", "heard": ["bell"], "source": "e"},
        {"path": "beep.mp4", "id": "crop", "start": 0.6, "end": 1.8, "seen": ["bell"], "heard": ["bell"],
         "events": [{"what": "bell", "seen": 0.4, "heard": 0.4}], "source": "a"},
        {"path": "junk.mp4", "source": "f"},
    ]  # fmt: skip
    (home / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


def queue_of(*made: Clip) -> Queue:
    """A queue in memory."""
    cases = tuple(review_queue.Case(clip, review_queue.about(clip)) for clip in made)
    return Queue(Path("q/labels.jsonl"), Path("q"), cases)


def bell(name: str, *events: Event, **more: Any) -> Clip:
    return Clip(id=name, path=f"{name}.mp4", seen=("bell",), heard=("bell",), events=events, **more)


_count = iter(range(10**9))


def vote(clip: Clip, accept: bool = True, *, events: tuple[Event, ...] | None = None, **more: Any) -> Vote:
    said = MET if accept else {"audio_purity": False}
    return Vote(
        id=f"vote-{next(_count):08d}", clip=clip.id, about=review_queue.about(clip), accept=accept,
        events=clip.events if events is None else events, **{**said, **more},
    )  # fmt: skip


# --- queues ----------------------------------------------------------------------------------------------------


def test_a_labels_folder_is_read_without_opening_its_files(clips: Path) -> None:
    queue = review_queue.read(clips)
    assert [case.clip.id for case in queue.cases] == ["beep", "muted", "no_track", "plain", "sound", "crop", "junk"]
    assert queue.number("crop") == 5
    assert queue.number("other") is None
    assert review_queue.read(clips / "labels.jsonl").cases == queue.cases


def test_a_csv_and_a_queue_with_reasons_are_read(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("path,seen,heard,events\nx.mp4,dog,dog,bark@1.0/1.1\n")
    (case,) = review_queue.read(tmp_path).cases
    assert case.clip.events == (Event("bark", 1.0, 1.1),)
    rows: list[Any] = [
        {"path": "x.mp4", "why": ["two models disagree", "an odd onset"]},
        {"clip": {"path": "x.mp4", "id": "y", "start": 0.5}, "why": "the judge said no", "checks": {"a": 1}},
    ]
    (tmp_path / "queue.jsonl").write_text("# a comment\n" + "".join(json.dumps(r) + "\n" for r in rows))
    first, second = review_queue.read(tmp_path / "queue.jsonl").cases
    assert (first.why, second.why) == ("two models disagree; an odd onset", "the judge said no")
    assert second.clip.start == 0.5
    assert first.about != second.about


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"path": "x.mp4", "sen": ["dog"]}], "did you mean 'seen'"),
        ([{"path": "x.mp3"}], "did you mean 'x.mp4'"),
        ([{"path": "x.mp4"}, {"path": "x.mp4", "id": "other"}], "line 1 already"),
        ([{"path": "x.mp4", "id": "a"}, {"path": "x.mp4", "id": "a", "start": 1}], "ids of their own"),
        ([{"path": "x.mp4", "why": 3}], "why wants text"),
        ([{"clip": "x.mp4"}], "clip wants"),
        (["x.mp4"], "wants an object"),
        ([], "holds no clips"),
    ],
)
def test_mistakes_in_a_queue_are_named(tmp_path: Path, rows: list[Any], message: str) -> None:
    (tmp_path / "x.mp4").write_bytes(b"x")
    (tmp_path / "queue.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=message):
        review_queue.read(tmp_path / "queue.jsonl")


def test_what_is_no_queue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        review_queue.read(tmp_path / "none")
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(ValueError, match="CSV or JSONL"):
        review_queue.read(tmp_path / "clip.mp4")
    with pytest.raises(ValueError, match="no labels file"):
        review_queue.read(tmp_path)


# --- votes -----------------------------------------------------------------------------------------------------


def test_votes_outlive_the_server_and_the_last_one_counts(tmp_path: Path) -> None:
    clip = bell("one")
    first, second = vote(clip), vote(clip, False, comment="music")
    with Votes(tmp_path) as book:
        key = book.claim("anna")
        assert book.add("anna", first)
        assert book.add("anna", second)
        assert not book.add("anna", first), "sent again after a lost reply: the same vote"
        assert book.last("anna")["one"] == second
    with Votes(tmp_path) as book:
        assert book.last("anna")["one"] == second
        assert book.holds("anna", key)
        assert not book.add("anna", msgspec.structs.replace(second, at="later"))
    assert review_votes.read_votes(tmp_path) == {"anna": [first, second]}
    assert len((tmp_path / "annotators/anna/votes.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "annotators/anna/key").stat().st_mode & 0o077 == 0


def test_a_vote_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (forced.append(os.fstat(fd).st_size), real(fd))[1])
    with Votes(tmp_path) as book:
        book.claim("anna")
        forced.clear()
        book.add("anna", vote(bell("one")))
        size = (tmp_path / "annotators/anna/votes.jsonl").stat().st_size
        assert forced == [size]

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            book.add("anna", vote(bell("two")))
        assert "two" not in book.last("anna")
        assert (tmp_path / "annotators/anna/votes.jsonl").stat().st_size == size


def test_a_torn_last_line_is_cut_and_a_torn_middle_is_told(tmp_path: Path) -> None:
    with Votes(tmp_path) as book:
        book.claim("anna")
        book.add("anna", vote(bell("one")))
    path = tmp_path / "annotators/anna/votes.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"id": "half')
    assert len(review_votes.read_votes(tmp_path)["anna"]) == 1
    with Votes(tmp_path) as book:
        book.add("anna", vote(bell("two")))
    assert [v.clip for v in review_votes.read_votes(tmp_path)["anna"]] == ["one", "two"]
    path.write_bytes(b'{"id": "half\n' + whole)
    with pytest.raises(ReviewError, match=r"votes\.jsonl, line 1"):
        review_votes.read_votes(tmp_path)
    with pytest.raises(ReviewError, match="line 1"):
        Votes(tmp_path)
    path.write_bytes(whole)
    Votes(tmp_path).close()  # the failed opening let go of the lock


def test_one_process_writes(tmp_path: Path) -> None:
    with Votes(tmp_path), pytest.raises(ReviewError, match="another `earwitness review`"):
        Votes(tmp_path)


@pytest.mark.parametrize(
    "name", ["", " ", "../up", "a/b", ".", "..", "a..b", "x" * 41, "-x", "a\nb", "a@b", "a\\b"]
)
def test_what_is_no_name_becomes_no_folder(tmp_path: Path, name: str) -> None:
    with Votes(tmp_path) as book, pytest.raises(ReviewError, match="no name"):
        book.claim(name)
    assert not list(tmp_path.glob("annotators/*"))


def test_a_name_belongs_to_who_took_it(tmp_path: Path) -> None:
    with Votes(tmp_path) as book:
        key = book.claim("Zoë K.-M".strip("."))
        with pytest.raises(KeyError):
            book.claim("ZOË K.-M")
        assert book.holds("Zoë K.-M", key)
        assert not book.holds("Zoë K.-M", "")
        assert not book.holds("bob", key)
        book.add("ls user", vote(bell("one")))  # imported: votes, but no key
        assert not book.holds("ls user", "")
        with pytest.raises(KeyError):
            book.claim("ls user")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"audio_purity": None}, "audio purity not met"),
        ({"object_visibility": False}, "object visibility not met"),
        ({"accept": False}, "without a reason"),
        ({"accept": False, "comment": "  "}, "without a reason"),
        ({"events": (Event("x", 2.5),)}, "outside of the clip"),
        ({"events": (Event("x", None, -0.1),)}, "outside of the clip"),
        ({"events": (Event("x", float("nan")),)}, "outside of the clip"),
        ({"events": (Event("x"),) * 65}, "at most 64"),
        ({"comment": "x" * 4001}, "at most 4,000"),
        ({"id": "../../etc"}, "vote id"),
        ({"seconds": -1.0}, "no time spent"),
    ],
)
def test_a_vote_that_contradicts_itself_is_refused(change: dict[str, Any], message: str) -> None:
    good = vote(bell("one", Event("bell", 1.0, 1.0)))
    check_vote(good, 2.0)
    with pytest.raises(ReviewError, match=message):
        check_vote(msgspec.structs.replace(good, **change), 2.0)


def test_the_seed_is_fixed_when_a_review_begins(tmp_path: Path) -> None:
    made = review_votes.identity(tmp_path, 3)
    assert review_votes.identity(tmp_path) == made == review_votes.identity(tmp_path, 3)
    with pytest.raises(ReviewError, match="began with seed 3, not 4"):
        review_votes.identity(tmp_path, 4)
    (tmp_path / "review.json").write_text("{}")
    with pytest.raises(ReviewError, match="edited by hand"):
        review_votes.identity(tmp_path)


# --- consensus -------------------------------------------------------------------------------------------------


def outcome(clip: Clip, *votes: Vote, need: int = 2, **more: Any) -> review_consensus.Outcome:
    given = {f"annotator {n}": [v] for n, v in enumerate(votes)}
    (found,) = review_consensus.consensus(queue_of(clip), given, need=need, **more)
    return found


def test_all_must_pass_a_clip() -> None:
    clip = bell("one")
    yes, no = vote(clip), vote(clip, False)
    assert outcome(clip, yes, yes).result == "passed"
    assert outcome(clip, yes, no).result == "split"
    assert outcome(clip, yes, yes, no).result == "split"
    assert outcome(clip, no, no).result == "rejected"
    assert outcome(clip, yes).result == outcome(clip, no).result == "open"
    assert outcome(clip).why == "0 of 2 votes"
    assert outcome(clip, yes, need=1).result == "passed"
    assert outcome(clip, yes, no).why == "annotator 1: not audio purity"
    with pytest.raises(ValueError, match="need=0"):
        outcome(clip, yes, need=0)


def test_the_last_vote_counts_and_votes_on_earlier_claims_do_not() -> None:
    clip, before = bell("one", Event("bell", 1.0, 1.0)), bell("one", Event("bell", 0.5, 0.5))
    queue = queue_of(clip)
    changed = {"anna": [vote(clip, False), vote(clip)], "bob": [vote(clip)]}
    assert review_consensus.consensus(queue, changed)[0].result == "passed"
    old = {"anna": [vote(before), vote(before)], "bob": [vote(clip)], "eve": [vote(bell("gone"))]}
    (found,) = review_consensus.consensus(queue, old)
    assert (found.result, found.old) == ("open", 1)
    assert "1 on what was claimed of it before" in found.why
    withdrawn = {"anna": [vote(clip), vote(before)], "bob": [vote(clip)]}
    assert review_consensus.consensus(queue, withdrawn)[0].result == "open"


@pytest.mark.parametrize(
    ("first", "second", "agreed"),
    [
        ((1.0, 1.1), (1.8, 1.6), (1.4, 1.35)),  # on the tolerance: 0.8 s seen, 0.5 s heard
        ((1.0, 1.1), (1.81, 1.1), None),
        ((1.0, 1.1), (1.0, 1.61), None),
        ((1.0, None), (1.2, None), (1.1, None)),
        ((None, 1.0), (None, 1.4), (None, 1.2)),
        ((1.0, 1.1), (None, 1.1), None),
        ((1.0, 1.1), (1.0, None), None),
    ],
)
def test_times_agree_within_the_tolerance_or_go_back(first: Any, second: Any, agreed: Any) -> None:
    clip = bell("one", Event("bell", 1.0, 1.1))
    found = outcome(clip, *(vote(clip, events=(Event("bell", *t),)) for t in (first, second)))
    if agreed is None:
        assert found.result == "times differ"
        assert found.why.startswith("event 1, 'bell', ")
        assert found.clip == clip
    else:
        assert found.result == "passed"
        (event,) = found.clip.events
        assert (event.seen, event.heard) == agreed


def test_the_median_of_three_and_the_widest_of_three() -> None:
    clip = bell("one", Event("bell", 1.0, 1.0))
    three = [vote(clip, events=(Event("bell", t, t),)) for t in (1.0, 1.1, 1.4)]
    assert outcome(clip, *three).clip.events == (Event("bell", 1.1, 1.1),)
    wide = [
        vote(clip, events=(Event("bell", 1.0, t),)) for t in (1.0, 1.3, 1.6)
    ]  # neighbours agree, the ends do not
    assert outcome(clip, *wide).result == "times differ"


def test_events_that_only_one_marked_go_back_and_those_that_nobody_sees_go() -> None:
    clip = bell("one", Event("bell", 1.0, 1.0))
    more = (*clip.events, Event("bell", 1.5, 1.5))
    found = outcome(clip, vote(clip), vote(clip, events=more))
    assert found.result == "times differ"
    assert "event 2, 'bell': only annotator 1 marked it" in found.why
    assert outcome(clip, *(vote(clip, events=more) for _ in "ab")).clip.events == more
    never = (Event("bell"),)
    found = outcome(clip, *(vote(clip, events=never) for _ in "ab"))
    assert (found.result, found.clip.events) == ("passed", ())


def test_agreed_times_that_no_labels_file_may_hold_go_back() -> None:
    clip = bell("one", Event("bell", 1.0, 1.0))
    early = vote(clip, events=(Event("bell", 1.5, 1.0),))
    assert "sound and picture" in outcome(clip, early, early).why
    late = vote(clip, events=(Event("bell", 2.5, 2.5),))
    found = outcome(clip, late, late, durations={"one": 2.0})
    assert (found.result, "outside of the clip" in found.why) == ("times differ", True)


def test_kappa_is_cohens_with_an_interval() -> None:
    made = [bell(f"c{n}") for n in range(50)]
    pattern = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    votes: dict[str, list[Vote]] = {"anna": [], "bob": []}
    for clip, (a, b) in zip(made, pattern, strict=True):
        votes["anna"].append(vote(clip, a))
        votes["bob"].append(vote(clip, b))
    queue = queue_of(*made)
    decided, agreement, _ = review_consensus.tables(queue, votes, review_consensus.consensus(queue, votes))
    assert {row.label: row.cells[0] for row in decided.rows} == {
        "passed": 20, "rejected": 15, "split": 15, "times differ": 0, "open": 0
    }  # fmt: skip
    rows = {row.label: row.cells for row in agreement.rows}
    kappa, equal, clips_ = rows["anna and bob: accepted"]
    assert isinstance(kappa, Estimate)
    assert kappa.value == pytest.approx(0.4)  # the textbook's table: (0.7 - 0.5) / (1 - 0.5)
    assert kappa.low < 0.4 < kappa.high
    assert kappa == stats.kappa(
        ["yes" if a else "no" for a, _ in pattern], ["yes" if b else "no" for _, b in pattern]
    )
    assert isinstance(equal, Estimate)
    assert (equal.value, clips_) == (0.7, 50)
    # Those who reject for one criterion said nothing of the others: left out, not counted as met.
    seen = rows["anna and bob: object visibility"]
    assert (seen[0], seen[2]) == (None, 20)
    purity = rows["anna and bob: audio purity"]
    assert isinstance(purity[0], Estimate)
    assert (purity[0].value, purity[2]) == (pytest.approx(0.4), 50)


def test_distances_of_times_are_counted_on_clips_that_both_accept() -> None:
    made = [bell(f"c{n}", Event("bell", 1.0, 1.0)) for n in range(3)]
    votes = {
        "anna": [vote(clip) for clip in made],
        "bob": [
            vote(made[0], events=(Event("bell", 1.2, 1.6),)),
            vote(made[1], events=(Event("bell", 1.1, None),)),
            vote(made[2], False, events=(Event("bell", 9.0, 9.0),)),
        ],
    }
    queue = queue_of(*made)
    times = review_consensus.tables(queue, votes, review_consensus.consensus(queue, votes))[2]
    (seen, heard) = (row.cells for row in times.rows)
    assert isinstance(seen[0], Estimate)
    assert (seen[0].value, seen[1], seen[2], seen[3]) == (1.0, pytest.approx(0.15), pytest.approx(0.2), 2)
    assert isinstance(heard[0], Estimate)
    assert (heard[0].value, heard[3]) == (0.0, 1)


# --- export ----------------------------------------------------------------------------------------------------


def cast(clips: Path, home: Path, **votes: dict[str, Any]) -> None:
    """Write votes: ``anna={"beep": True, "crop": (Event(...),), "muted": "a comment: reject"}``."""
    queue = review_queue.read(clips)
    with Votes(home) as book:
        for name, said in votes.items():
            for clip_id, what in said.items():
                number = queue.number(clip_id)
                assert number is not None
                clip = queue.cases[number].clip
                if isinstance(what, str):
                    made = vote(clip, False, comment=what)
                else:
                    made = vote(clip, events=what if isinstance(what, tuple) else None)
                check_vote(made)
                book.add(name, made)


def test_what_passed_is_a_labels_folder_and_the_rest_says_why(clips: Path, tmp_path: Path) -> None:
    home, out = tmp_path / "review", tmp_path / "passed"
    far = (Event("bell", 0.4, 1.0),)
    cast(
        clips, home,
        anna={"beep": (Event("bell", 1.0, 0.96),), "crop": True, "muted": "=1+1", "plain": True, "sound": True},
        bob={"beep": (Event("bell", 1.04, 1.0),), "crop": far, "muted": "silent", "plain": "logo", "no_track": 1},
    )  # fmt: skip
    outcomes, tables = review.export(clips, out, home)
    assert {o.clip.id: o.result for o in outcomes} == {
        "beep": "passed", "crop": "times differ", "muted": "rejected", "plain": "split", "sound": "open",
        "no_track": "open", "junk": "open",
    }  # fmt: skip
    passed = folder.read(out)
    (clip,) = passed.clips
    assert (clip.id, clip.events, clip.source) == ("beep", (Event("bell", 1.02, 0.98),), "a")
    assert passed.path(clip).samefile(clips / "beep.mp4")
    assert not Path(str(clip.path)).is_absolute(), "the folders can move together"
    rows = {row["clip"]: row for row in csv.DictReader(io.StringIO((out / "left_out.csv").read_text()))}
    assert set(rows) == {"crop", "muted", "plain", "sound", "no_track", "junk"}
    assert rows["plain"]["why"] == "bob: not audio purity, logo"
    assert (rows["plain"]["anna"], rows["plain"]["bob"]) == ("accept", "reject: not audio purity, logo")
    assert rows["sound"]["outcome"] == "open"
    assert "anna 0.40 s bob 1.00 s" in rows["crop"]["why"]
    again = review_queue.read(out / "disagreements.jsonl")
    (case,) = again.cases
    assert (case.clip.id, case.clip.start, case.why) == ("crop", 0.6, rows["crop"]["why"])
    assert again.path(case.clip).samefile(clips / "beep.mp4")
    told = json.loads((out / "agreement.json").read_text())
    assert [table["id"] for table in told] == ["review_outcomes", "review_agreement", "review_times"]
    assert tables[0].rows[0].cells[0] == 1
    before = (out / "labels.jsonl").read_bytes()
    review.export(clips, out, home)  # again, over its own files
    assert (out / "labels.jsonl").read_bytes() == before


def test_stems_are_found_from_the_export(clips: Path, tmp_path: Path) -> None:
    import shutil

    source = tmp_path / "with_stems"
    source.mkdir()
    shutil.copy(clips / "beep.mp4", source)
    (source / "stems/beep").mkdir(parents=True)
    shutil.copy(clips / "sound.wav", source / "stems/beep/bell.wav")
    (source / "labels.jsonl").write_text(
        '{"path": "beep.mp4", "seen": ["bell"], "heard": ["bell"], "stems": ["bell"]}\n'
    )
    cast(source, source / "review", anna={"beep": True}, bob={"beep": True})
    review.export(source, tmp_path / "out")
    passed = folder.read(tmp_path / "out")
    assert set(passed.stems(passed.clips[0], View())) == {"bell"}
    review.export(source, tmp_path / "out")  # links are made again


def test_donors_that_did_not_pass_are_not_named(clips: Path, tmp_path: Path) -> None:
    rows = [{"path": str(clips / f"{name}.mp4"), "seen": ["bell"]} for name in ("beep", "muted", "no_track")]
    rows[0]["donors"] = ["muted", "no_track"]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said: dict[str, Any] = {"beep": True, "muted": True, "no_track": "blurred"}
    cast(tmp_path / "q.jsonl", tmp_path / "v", anna=said, bob=said)
    review.export(tmp_path / "q.jsonl", tmp_path / "out", tmp_path / "v")
    assert {c.id: c.donors for c in folder.read(tmp_path / "out").clips} == {"beep": ("muted",), "muted": ()}


def test_a_spreadsheet_takes_no_comment_for_a_formula() -> None:
    assert review_export._cell("=HYPERLINK(1)") == "'=HYPERLINK(1)"
    assert review_export._cell("-") == "-"
    assert review_export._cell("reject: =1") == "reject: =1"


def test_an_export_goes_into_a_folder_of_its_own(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no votes on"):
        review.export(clips, tmp_path / "out", tmp_path / "review")
    cast(clips, tmp_path / "review", anna={"beep": True}, bob={"beep": True})
    with pytest.raises(ValueError, match="a folder of its own"):
        review.export(clips, clips, tmp_path / "review")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="wants a folder"):
        review.export(clips, tmp_path / "file", tmp_path / "review")
    assert not (clips / "left_out.csv").exists()


# --- Label Studio ----------------------------------------------------------------------------------------------


def test_the_labelling_configuration_names_what_the_answers_come_back_as() -> None:
    root = ElementTree.fromstring(review_label_studio.configuration(2))
    video = root.find("Video")
    assert video is not None
    assert video.attrib == {"name": "video", "value": "$video", "frameRate": "$fps"}
    controls = {e.attrib["name"]: e for e in root if "toName" in e.attrib}
    assert set(controls) == {"moments", *review_votes.CRITERIA, "verdict", "comment"}
    assert {e.attrib["toName"] for e in controls.values()} == {"video"}
    labels = [e.attrib["value"] for e in controls["moments"]]
    assert labels == [f"{sense} {n}" for n in (1, 2, 3) for sense in ("seen", "heard")]


def annotated(task: dict[str, Any], verdict: str = "accept", **change: Any) -> dict[str, Any]:
    """What Label Studio hands back where an annotator takes the prediction over and answers."""
    result = json.loads(json.dumps(task["predictions"][0]["result"]))
    answers = {**dict.fromkeys(review_votes.CRITERIA, "yes"), "verdict": verdict, **change.pop("answers", {})}
    result += [
        {"id": f"r{n}", "from_name": name, "to_name": "video", "type": "choices", "origin": "manual",
         "value": {"choices": [value]}}
        for n, (name, value) in enumerate(answers.items())
    ]  # fmt: skip
    return {
        "id": 17, "result": result, "was_cancelled": False, "completed_by": 3, "lead_time": 12.5,
        "updated_at": "2026-01-01T00:00:00Z", **change,
    }  # fmt: skip


def test_votes_go_to_label_studio_and_come_back_the_same(clips: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    rows = [r for r in (clips / "labels.jsonl").read_text().splitlines() if "junk" not in r]
    whole.write_text("\n".join(rows).replace('"path": "', f'"path": "{clips}/'))
    exact = (Event("bell", 0.4137, None), Event("bell", 0.8, 0.9001))
    cast(whole, tmp_path / "a", anna={"beep": True, "crop": exact, "muted": "silent"}, bob={"crop": True})
    assert review.label_studio(whole, tmp_path / "ls", tmp_path / "a", votes=True) == 6
    exported = tmp_path / "ls" / "tasks.json"
    task = json.loads(exported.read_text())[0]
    assert task["data"]["video"].startswith("/data/local-files/?d=")
    assert task["data"]["fps"] == 25.0
    assert task["predictions"][0]["result"][0]["value"] == {
        "ranges": [{"start": 26, "end": 26}], "timelinelabels": ["seen 1"]
    }  # fmt: skip
    added, notes = review.import_label_studio(whole, exported, tmp_path / "b")
    assert (added, notes) == ({"anna": (3, 0, 0), "bob": (1, 0, 0)}, [])

    def content(home: Path) -> dict[str, list[Any]]:
        return {k: sorted(votes, key=lambda v: v.clip) for k, votes in review_votes.read_votes(home).items()}

    for home in (tmp_path / "b", tmp_path / "a"):  # also where they went out from, nothing is new
        assert review.import_label_studio(whole, exported, home)[0] == {"anna": (0, 3, 0), "bob": (0, 1, 0)}
        assert content(home) == content(tmp_path / "a")
    # As an export of before votes carried ids: told by what they say.
    for task in (tasks := json.loads(exported.read_text())):
        for annotation in task.get("annotations", ()):
            for result in annotation["result"]:
                if result["from_name"] == "verdict":
                    result["meta"]["text"][0] = result["meta"]["text"][0].partition(",")[0]
    exported.write_text(json.dumps(tasks))
    assert review.import_label_studio(whole, exported, tmp_path / "a")[0] == {"anna": (0, 3, 0), "bob": (0, 1, 0)}


def test_an_old_export_replaces_no_newer_vote(clips: Path, tmp_path: Path) -> None:
    home, out = tmp_path / "v", tmp_path / "ls"
    claimed = {"path": str(clips / "beep.mp4"), "events": [{"what": "bell", "seen": 1.0, "heard": 1.0}]}

    def said() -> tuple[int, bool, str]:
        votes = review_votes.read_votes(home)["anna"]
        return len(votes), votes[-1].accept, votes[-1].comment

    def back(change: Any, updated: str) -> Any:
        (task,) = (t for t in json.loads((out / "tasks.json").read_text()) if t["data"]["clip"] == "beep")
        for annotation in task["annotations"]:
            annotation.update(id=5, updated_at=updated)  # Label Studio dates what it imports anew
            change(annotation["result"])
        (tmp_path / "x.json").write_text(json.dumps([task]))
        return review.import_label_studio(tmp_path / "q.jsonl", tmp_path / "x.json", home)[0]["anna"]

    def moved(result: list[Any]) -> None:
        at = next(r for r in result if r["type"] == "timelinelabels")["value"]["ranges"][0]
        at.update(start=at["start"] + 1, end=at["end"] + 1)

    (tmp_path / "q.jsonl").write_text(json.dumps(claimed))
    asked = review_queue.read(tmp_path / "q.jsonl").cases[0].clip
    with Votes(home) as book:
        book.add("anna", msgspec.structs.replace(vote(asked), at="2026-01-01T10:00:00Z"))
    review.label_studio(tmp_path / "q.jsonl", out, home, prefix="https://x/", votes=True)
    with Votes(home) as book:
        newer = vote(asked, False, comment="a voice-over")
        book.add("anna", msgspec.structs.replace(newer, at="2026-01-03T10:00:00Z"))
    assert back(lambda _: None, "2026-01-05T10:00:00.1Z") == (0, 1, 0)  # the first vote, as it was
    assert back(moved, "2026-01-02T10:00:00.1Z") == (0, 0, 1)
    assert back(moved, "") == (0, 0, 1)
    assert said() == (2, False, "a voice-over")
    assert back(moved, "2026-01-05T10:00:00.1Z") == (1, 0, 0)  # changed over there, after that
    assert back(moved, "2026-01-05T10:00:00.1Z") == (0, 1, 0)
    assert said() == (3, True, "")
    (tmp_path / "q.jsonl").write_text(json.dumps({**claimed, "heard": ["horn"]}))
    relabelled = review_queue.read(tmp_path / "q.jsonl").cases[0].clip
    with Votes(home) as book:
        book.add("anna", msgspec.structs.replace(vote(relabelled), at="2026-01-06T10:00:00Z"))
    assert back(lambda r: [moved(r), moved(r)], "2026-01-07T10:00:00.1Z") == (0, 0, 1)  # on the earlier claim
    assert said()[0] == 4


def test_without_votes_the_tasks_are_blind(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(json.dumps({"path": str(clips / "beep.mp4"), "why": "an odd onset"}))
    cast(tmp_path / "q.jsonl", tmp_path / "v", anna={"beep": True})
    review.label_studio(
        tmp_path / "q.jsonl", tmp_path / "ls", tmp_path / "v", prefix="https://media.example.org/a b/"
    )
    (task,) = json.loads((tmp_path / "ls/tasks.json").read_text())
    assert "annotations" not in task
    assert task["data"]["ask"] == "an odd onset"
    assert task["data"]["video"].startswith("https://media.example.org/a b/")


def test_local_paths_stay_below_what_label_studio_serves(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "checked").mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "beep.mp4").write_bytes((clips / "beep.mp4").read_bytes())
    queue = tmp_path / "checked" / "undecided.jsonl"
    queue.write_text(json.dumps({"path": "../videos/beep.mp4"}))
    review.label_studio(queue, tmp_path / "ls", tmp_path / "v")
    (task,) = json.loads((tmp_path / "ls/tasks.json").read_text())
    assert task["data"]["video"] == "/data/local-files/?d=videos/beep.mp4"
    queue.write_text(json.dumps({"path": str(clips / "beep.mp4")}))
    with pytest.raises(ValueError, match=r"clip beep: .* lies outside of .*give --media-prefix"):
        review.label_studio(queue, tmp_path / "ls", tmp_path / "v")
    with pytest.raises(ValueError, match=r"nowhere\.json: no such file"):
        review.import_label_studio(queue, tmp_path / "nowhere.json", tmp_path / "v")


def test_a_moved_region_moves_the_time_and_a_deleted_one_means_never(clips: Path, tmp_path: Path) -> None:
    queue = review_queue.read(clips)
    review_label_studio.write_label_studio(
        Queue(queue.manifest, queue.root, tuple(c for c in queue.cases if c.clip.id == "crop")), tmp_path
    )
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    made = annotated(task, completed_by={"id": 3, "email": "eve@example.org"})
    seen = made["result"][0]
    assert seen["value"]["ranges"] == [{"start": 26, "end": 26}]  # 0.6 + 0.4 s in the whole file
    seen["value"]["ranges"] = [{"start": 29, "end": 29}]
    del made["result"][1]
    made["result"].append(
        {"id": "n", "from_name": "moments", "to_name": "video", "type": "timelinelabels",
         "value": {"ranges": [{"start": 31, "end": 33}], "timelinelabels": ["heard 2"]}}
    )  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps([{**task, "annotations": [made]}]))
    votes, notes = review_label_studio.read_label_studio(queue, tmp_path / "x.json")
    assert notes == []
    ((name, (got,)),) = votes.items()
    assert name == "eve at example.org"
    assert got.events == (
        Event("bell", 0.52, None),
        Event("bell", None, 0.6),
    )  # (29 - 1) / 25 - 0.6, (31 - 1) / 25 - 0.6
    assert (got.accept, got.seconds, got.at) == (True, 12.5, "2026-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"result": []}, "no verdict"),
        ({"answers": {"audio_purity": "no"}}, "audio purity not met"),
        ({"verdict": "reject"}, "without a reason"),
        ({"drop": True}, "prelabel"),
        ({"result": [{"type": "choices"}]}, "KeyError"),
    ],
)
def test_annotations_that_are_no_votes_are_named(
    clips: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    queue = review_queue.read(clips)
    one = Queue(queue.manifest, queue.root, queue.cases[:1])
    review_label_studio.write_label_studio(one, tmp_path)
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    drop = change.pop("drop", False) if "drop" in change else False
    made = annotated(task, **change)
    if drop:
        made["result"] = [r for r in made["result"] if r["from_name"] != "moments"]
    skipped = annotated(task, was_cancelled=True)
    foreign = {"id": 9, "data": {"clip": "elsewhere"}, "annotations": [annotated(task)]}
    (tmp_path / "x.json").write_text(json.dumps([{**task, "annotations": [made, skipped]}, foreign]))
    votes, notes = review_label_studio.read_label_studio(one, tmp_path / "x.json")
    assert votes == {}
    assert len(notes) == 2
    assert message in notes[0]
    assert notes[0].startswith("task 1, annotation 17")
    assert notes[1] == "task 9: its clip is not in " + queue.manifest.name


def test_what_is_no_export_is_refused(clips: Path, tmp_path: Path) -> None:
    queue = review_queue.read(clips)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="JSON-MIN"):
        review_label_studio.read_label_studio(queue, tmp_path / "x.json")
    (tmp_path / "x.json").write_text('[{"data": {"clip": "elsewhere"}}]')
    with pytest.raises(ValueError, match="none of its 1 tasks"):
        review_label_studio.read_label_studio(queue, tmp_path / "x.json")


# --- what is drawn ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[review.Desk]:
    """A review that is open for this file's tests, its clips drawn when first asked for."""
    with review.opened(clips, tmp_path_factory.mktemp("review"), seed=5) as made:
        yield made


def clip_of(desk: review.Desk, name: str) -> Clip:
    number = desk.queue.number(name)
    assert number is not None
    return desk.queue.cases[number].clip


def test_a_clip_is_drawn_on_its_own_clock(desk: review.Desk) -> None:
    facts = desk.studio.facts(clip_of(desk, "beep"))
    assert facts.error is None
    assert (facts.duration, len(facts.times), facts.times[25], facts.play) == (2.0, 50, 1.0, "")
    assert facts.onsets == pytest.approx([1.0], abs=0.003)
    wave = desk.studio.stored(facts.key, "wave.bin")
    assert wave is not None
    pairs = np.frombuffer(wave.read_bytes(), np.int8).reshape(-1, 2)
    assert len(pairs) == facts.bins == 2000
    loud = np.flatnonzero(np.abs(pairs.astype(int)).max(axis=1) > 20)
    assert loud[0] / 1000 == pytest.approx(1.0, abs=0.002)
    assert loud[-1] / 1000 == pytest.approx(1.1, abs=0.002)
    spectrum = desk.studio.stored(facts.key, "spectrum.png")
    assert spectrum is not None
    grey = np.asarray(Image.open(spectrum))
    assert grey.shape[0] == 96
    at = np.flatnonzero(grey.max(axis=0) > 200) / grey.shape[1] * 2.0
    assert at[0] == pytest.approx(1.0, abs=0.02)
    tone = np.geomspace(0.49 * RATE, 60, 96)[np.argmax(grey[:, round(1.05 / 2 * grey.shape[1])])]
    assert tone == pytest.approx(880, rel=0.1)
    strip = desk.studio.stored(facts.key, "strip.jpg")
    assert strip is not None
    grid = np.asarray(Image.open(strip).convert("L")).astype(int)
    cell = grid.shape[1] // 20
    means = [grid[72 * (k // 20) :, :][:72, cell * (k % 20) :][:, :cell].mean() for k in range(facts.cells)]
    assert (facts.cells, int(np.argmax(means))) == (50, 25), "the flash is the frame on show at 1.0 s"


def test_a_crop_plays_from_its_own_start(desk: review.Desk) -> None:
    facts = desk.studio.facts(clip_of(desk, "crop"))
    assert (facts.duration, facts.play, facts.kind) == (1.2, "play.mp4", "video/mp4")
    assert facts.onsets == pytest.approx([0.4], abs=0.003)
    played = desk.studio.stored(facts.key, "play.mp4")
    assert played is not None
    there = media.load(played)
    assert there.duration == pytest.approx(1.2)
    assert media.signal.onsets(there.wave, there.rate) == pytest.approx([0.4], abs=0.003)  # type: ignore[arg-type]


def test_what_a_browser_lacks_is_copied_beside_exact_sound(desk: review.Desk) -> None:
    facts = desk.studio.facts(clip_of(desk, "plain"))
    assert (facts.error, facts.play) == (None, "play.mp4")
    played = desk.studio.stored(facts.key, "play.mp4")
    assert played is not None
    old, new = media.load(desk.queue.path(clip_of(desk, "plain"))), media.load(played)
    assert (old.video_hash, old.audio_hash) == (new.video_hash, new.audio_hash)


def test_silence_and_missing_tracks_are_told_apart(desk: review.Desk) -> None:
    muted, bare, sound = (desk.studio.facts(clip_of(desk, name)) for name in ("muted", "no_track", "sound"))
    assert (muted.sound, muted.silent, muted.onsets, muted.loudness) == (True, True, (), None)
    assert (bare.sound, bare.bins, bare.play) == (False, 0, "")
    assert (sound.cells, sound.times, sound.kind, sound.sound) == (0, (), "audio/wav", True)


def test_junk_is_told_without_this_machine_s_paths(desk: review.Desk) -> None:
    facts = desk.studio.facts(clip_of(desk, "junk"))
    assert facts.error is not None
    assert facts.error.startswith("junk.mp4: ")
    assert str(desk.queue.root) not in facts.error
    assert not list(desk.studio.cache.glob("*/*.part"))
    assert desk.studio.facts(clip_of(desk, "beep")).error is None


def test_a_clip_that_changed_is_drawn_again(desk: review.Desk, clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes((clips / "beep.mp4").read_bytes())
    clip, studio = Clip(id="x", path=str(path)), desk.studio
    first = studio.facts(clip)
    assert studio.known(clip) == first
    os.utime(path, (1, 1))
    assert studio.known(clip) is None
    second = studio.facts(clip)
    assert (second.error, second.key != first.key) == (None, True)
    path.unlink()
    assert "moved or deleted" in str(studio.facts(clip).error)
    for name in ("facts.json", "../votes.jsonl", "x"):
        assert studio.stored(first.key, name) is None
    assert studio.stored("../" * 5 + "x", "wave.bin") is None


@pytest.mark.parametrize("code", ["import time; time.sleep(99)", "raise SystemExit(9)"], ids=["hangs", "dies"])
def test_a_clip_that_hangs_or_kills_its_child_costs_only_itself(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    with Studio(tmp_path, lambda clip: clips / str(clip.path), children=1) as studio:
        (child,) = studio._all
        monkeypatch.setattr(child, "code", code)
        monkeypatch.setattr(child, "ask", lambda task: type(child).ask(child, task, 0.5))
        clip = Clip(id="x", path="beep.mp4")
        assert "beep.mp4: could not be decoded in 0.5 s" in str(studio.facts(clip).error)
        assert studio.known(clip) is None
        assert child._process is None
        # A new child, a new try: what a child answers counts again.
        answer = '{"duration": 2.0}'
        monkeypatch.setattr(child, "code", f"import sys\nfor _ in sys.stdin: print({answer!r}, flush=True)")
        monkeypatch.setattr(child, "ask", lambda task: type(child).ask(child, task, 60.0))
        assert studio.facts(clip).duration == 2.0
        assert studio.known(clip) == studio.facts(clip)


# --- over HTTP -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(desk: review.Desk) -> Iterator[str]:
    pytest.importorskip("uvicorn", reason="the pages are the extra earwitness[serve]")
    with review.running(desk) as url:
        yield url


def ask(
    url: str, method: str = "GET", body: Any = None, **headers: str
) -> tuple[int, Any, http.client.HTTPMessage]:
    parts = urlsplit(url)
    sent = {k.replace("_", "-"): v for k, v in headers.items()}
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    if content is not None:
        sent = {"Content-Type": "application/json", **sent}
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=60)
    connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), content, sent)
    reply = connection.getresponse()
    got = reply.read()
    connection.close()
    kind = reply.headers.get("Content-Type", "")
    return reply.status, json.loads(got) if "json" in kind else got, reply.headers


def joined(address: str, name: str) -> str:
    status, told, _ = ask(f"{address}/api/names", "POST", {"name": name})
    assert status == 200, told
    return str(told["key"])


def test_no_annotator_is_told_what_another_said(address: str, desk: review.Desk) -> None:
    anna, bob = joined(address, "anna"), joined(address, "bob")
    said = "this is what anna thinks"
    case = desk.queue.cases[0]
    sent = msgspec.to_builtins(vote(case.clip, False, comment=said, events=(Event("bell", 1.4437, 1.44),)))
    status, told, _ = ask(f"{address}/api/a/anna/votes", "POST", sent, x_review_key=anna)
    assert (status, told["new"], told["done"]) == (200, True, 1)
    hers = ask(f"{address}/api/a/anna/clips/{desk.place('anna').at[0]}", x_review_key=anna)[1]
    assert (hers["vote"]["comment"], hers["vote"]["events"][0]["seen"]) == (said, 1.4437)

    for key in ("", bob, "x"):
        for path in ("", "/clips/0"):
            status, told, _ = ask(f"{address}/api/a/anna{path}", **({"x_review_key": key} if key else {}))
            assert (status, "shown to that annotator only" in told["error"]) == (403, True)
        assert ask(f"{address}/api/a/anna/votes", "POST", sent, x_review_key=key)[0] == 403
    status, told, _ = ask(f"{address}/api/a/bob", x_review_key=bob)
    assert (told["done"], set(told["states"])) == (0, {"."})
    everything = [f"/api/a/bob/clips/{n}" for n in range(len(desk.queue.cases))]
    everything += ["/", "/a/anna", "/a/bob", "/api/review", "/api/a/bob", "/media/0/facts"]
    for path in everything:
        status, told, _ = ask(f"{address}{path}", x_review_key=bob)
        text = told.decode() if isinstance(told, bytes) else json.dumps(told)
        assert status == 200
        assert said not in text
        assert "1.4437" not in text
        assert "anna" not in text
    assert ask(f"{address}/api/names", "POST", {"name": "Anna"})[0] == 409
    assert ask(f"{address}/api/names", "POST", {"name": "../x"})[0] == 400


def test_each_annotator_has_an_order_and_keeps_it(address: str, desk: review.Desk) -> None:
    for name in ("one", "two", "three"):
        joined(address, name)
    orders = {name: tuple(desk.place(name).order) for name in ("one", "two", "three")}
    assert all(sorted(order) == list(range(7)) for order in orders.values())
    assert len(set(orders.values())) > 1
    desk._places.clear()  # as after a restart
    assert {name: tuple(desk.place(name).order) for name in orders} == orders
    other = review.Desk(desk.queue, review_votes.Identity("x", 6), desk.votes, desk.studio)
    assert {tuple(other.place(name).order) for name in orders} != set(orders.values())
    fewer = Queue(desk.queue.manifest, desk.queue.root, desk.queue.cases[:-1])
    grown = review.Desk(fewer, desk.identity, desk.votes, desk.studio)
    assert [n for n in orders["one"] if n != 6] == grown.place("one").order, "a clip added later shuffles nothing"


def test_a_vote_sent_twice_is_one_and_a_wrong_one_is_refused(address: str, desk: review.Desk) -> None:
    key = joined(address, "cleo")
    url = f"{address}/api/a/cleo/votes"
    clip = clip_of(desk, "crop")
    good = msgspec.to_builtins(vote(clip))
    assert ask(url, "POST", good, x_review_key=key)[1]["new"] is True
    status, told, _ = ask(url, "POST", good, x_review_key=key)
    assert (status, told["new"], told["saved"]) == (200, False, good["id"])
    assert len(review_votes.read_votes(desk.votes.folder)["cleo"]) == 1
    for change, message in (
        ({"comment": "other"}, "says something else"),
        ({"id": "another-id", "clip": "elsewhere"}, "no clip 'elsewhere'"),
        ({"id": "another-id", "audio_purity": False}, "not met"),
        ({"id": "another-id", "events": [{"what": "x", "seen": 1.5}]}, "outside of the clip's 1.30 s"),
        ({"id": "another-id", "extra": 1}, "extra"),
        ({"id": "another-id", "accept": "yes"}, "accept"),
    ):
        status, told, _ = ask(url, "POST", {**good, **change}, x_review_key=key)
        assert (status, message in told["error"]) == (400, True), told
    assert ask(url, "POST", b"{", x_review_key=key)[0] == 400
    assert ask(url, "POST", b"x" * 70_000, x_review_key=key)[0] == 413
    assert ask(url, "POST", json.dumps(good).encode(), x_review_key=key, Content_Type="text/plain")[0] == 415
    assert ask(url, x_review_key=key)[0] == 405
    states = ask(f"{address}/api/a/cleo", x_review_key=key)[1]["states"]
    assert states[desk.place("cleo").at[5]] == "a"
    assert states.count(".") == 6


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),  # DNS rebinding
        ({"Host": "evil.example:8010"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "192.168.1.9:8010"}, 403),  # another machine's
        ({"Host": "localhost:9"}, 200),  # a tunnel
        ({"Host": "[::1]:9"}, 200),
        ({"Host": "127.0.0.2"}, 200),
        ({"Host": "127.0.0.1"}, 200),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_sites_get_nothing(address: str, headers: dict[str, str], status: int) -> None:
    given = {k.replace("-", "_"): v for k, v in headers.items()}
    assert ask(f"{address}/api/review", **given)[0] == status
    assert ask(f"{address}/media/0/facts", **given)[0] == status
    if status == 403:
        assert ask(f"{address}/api/names", "POST", {"name": "mallory"}, **given)[0] == 403


def test_pages_carry_their_policy_and_load_only_their_own(address: str) -> None:
    own = re.findall(r'(?:src|href)="(/[^"]+)"', ask(f"{address}/")[1].decode())
    assert len(own) == 6, "a style sheet and five scripts"
    for path in ("/", "/a/anna", "/nothing", *own):
        status, content, headers = ask(f"{address}{path}")
        assert status == (404 if path == "/nothing" else 200)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        if isinstance(content, bytes):
            assert b"http:" not in content.replace(b"http://www.w3.org", b"")
            assert b"https:" not in content
    page = ask(f"{address}/")[1].decode()
    assert "style=" not in page
    assert " on" + "click" not in page
    assert ask(f"{address}/static/..%2Freview.py")[0] == 404
    assert ask(f"{address}/static/review.py")[0] == 404


def test_media_are_served_in_parts_and_nothing_else_is(address: str, desk: review.Desk) -> None:
    facts = ask(f"{address}/media/0/facts")[1]
    base = f"{address}/media/0/{facts['key']}"
    status, content, headers = ask(f"{base}/play", Range="bytes=4-7")
    assert (status, content, headers["Content-Type"]) == (206, b"ftyp", "video/mp4")
    assert "immutable" in headers["Cache-Control"]
    whole = ask(f"{base}/play")[1]
    assert whole == (desk.queue.root / "beep.mp4").read_bytes()
    assert ask(f"{base}/strip.jpg")[1][:2] == b"\xff\xd8"
    for path in ("/facts.json", "/..%2f..%2freview.json", "/play.mp4", "/%2e%2e", "/wave.bin/x"):
        assert ask(f"{base}{path}")[0] in (404,)
    assert ask(f"{address}/media/0/{'0' * 16}/play")[0] == 404
    assert ask(f"{address}/media/99/facts")[0] == 404
    assert ask(f"{address}/media/-1/facts")[0] == 404
    junk = ask(f"{address}/media/6/facts")[1]
    assert "junk.mp4" in junk["error"]
    assert ask(f"{address}/media/6/{'0' * 16}/play")[0] == 404, "what is no clip is never sent"


def test_a_full_disk_is_said_and_the_vote_is_not_counted(
    address: str, desk: review.Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = joined(address, "dora")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    sent = msgspec.to_builtins(vote(clip_of(desk, "muted")))
    monkeypatch.setattr(os, "fsync", full)
    status, told, _ = ask(f"{address}/api/a/dora/votes", "POST", sent, x_review_key=key)
    assert (status, "No space" in told["error"]) == (507, True)
    monkeypatch.undo()
    assert ask(f"{address}/api/a/dora", x_review_key=key)[1]["done"] == 0
    assert ask(f"{address}/api/a/dora/votes", "POST", sent, x_review_key=key)[1]["new"] is True


def test_ten_thousand_clips_are_answered_at_once(desk: review.Desk) -> None:
    case = desk.queue.cases[0]
    many = [msgspec.structs.replace(case.clip, id=f"c{n}") for n in range(10_000)]
    large = review.Desk(queue_of(*many), desk.identity, desk.votes, desk.studio)
    with review.running(large) as url:
        key = joined(url, "max")
        headers = {"X-Review-Key": key, "Content-Type": "application/json"}
        line = http.client.HTTPConnection(str(urlsplit(url).hostname), urlsplit(url).port or 80, timeout=60)
        for path, sent in (("", False), ("/clips/77", False), ("/votes", True)):
            taken = []
            for n in range(12):
                body = msgspec.json.encode(vote(many[n])) if sent else None
                start = time.perf_counter()
                line.request("POST" if sent else "GET", f"/api/a/max{path}", body, headers)
                reply = line.getresponse()
                assert reply.status == 200, reply.read()
                reply.read()
                taken.append(time.perf_counter() - start)
            # The best of twelve, for a busy machine; without TCP_NODELAY each waits 40 ms for an acknowledgement.
            assert min(taken) < (0.1 if sent else 0.035), (path, taken)
        line.close()
    assert large.place("max").done == 12


# --- the verb --------------------------------------------------------------------------------------------------


def test_the_verb_exports_imports_and_refuses(clips: Path, tmp_path: Path) -> None:
    run = CliRunner()
    home = tmp_path / "v"
    cast(clips, home, anna={"beep": True, "crop": True}, bob={"beep": True, "crop": "logo"})
    done = run.invoke(app, ["review", str(clips), "--votes", str(home), "--export", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "What became of the clips" in done.output
    assert len(folder.read(tmp_path / "out").clips) == 1
    alone = run.invoke(
        app, ["review", str(clips), "--votes", str(home), "--export", str(tmp_path / "o3"), "--annotators", "3"]
    )
    assert alone.exit_code == 0
    assert (tmp_path / "o3/labels.jsonl").read_bytes() == b""
    (tmp_path / "q.jsonl").write_text(json.dumps({"path": str(clips / "beep.mp4")}))
    args = ["review", str(tmp_path / "q.jsonl"), "--votes", str(tmp_path / "w")]
    done = run.invoke(app, [*args, "--export", str(tmp_path / "ls"), "--to", "label-studio"])
    assert (done.exit_code, "1 task, and" in done.output) == (0, True)
    tasks = json.loads((tmp_path / "ls/tasks.json").read_text())
    tasks[0]["annotations"] = [annotated(tasks[0])]
    (tmp_path / "back.json").write_text(json.dumps(tasks))
    done = run.invoke(app, [*args, "--import", str(tmp_path / "back.json")])
    assert (done.exit_code, "user 3: 1 new vote, 0 known, 0 older" in done.output) == (0, True)
    for wrong in (
        ["review", str(tmp_path / "nothing")],
        ["review", str(clips), "--export", "x", "--import", "y"],
        ["review", str(clips), "--votes", str(tmp_path / "empty"), "--export", str(tmp_path / "o4")],
        ["review", str(clips), "--votes", str(tmp_path / "p"), "--port", "99999"],
    ):
        done = run.invoke(app, wrong)
        assert done.exit_code == 2, wrong
        assert "error:" in done.output


def test_what_is_open_is_said() -> None:
    assert review.exposed("127.0.0.1") is None
    assert "SSH tunnel" in (review.exposed("0.0.0.0") or "")


def test_links_to_go_on_are_for_the_terminal_only(desk: review.Desk, address: str) -> None:
    name = "eva maria"
    key = joined(address, name)
    links = {n: link for n, _, link in review.annotators(desk, address)}
    assert links[name] == f"{address}/a/eva%20maria#{key}"
    status, page, _ = ask(f"{address}/a/eva%20maria")
    assert (status, key.encode() in page) == (200, False)


def test_a_spectrum_of_silence_is_dark(desk: review.Desk) -> None:
    facts = desk.studio.facts(clip_of(desk, "muted"))
    path = desk.studio.stored(facts.key, "spectrum.png")
    assert path is not None
    assert np.asarray(Image.open(io.BytesIO(path.read_bytes()))).max() == 0


def test_the_page_s_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "review.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "review.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["1 True", "What became of the clips"]


def test_a_child_that_died_with_a_task_unread_is_closed_without_a_word(tmp_path: Path) -> None:
    """What it did not read is still in the pipe's buffer, and closing flushes it into nothing."""
    with Studio(tmp_path, lambda clip: tmp_path, children=1) as studio:
        (child,) = studio._all
        child.code = "raise SystemExit(9)"
        process = child._started()
        process.wait()
        assert process.stdin is not None
        process.stdin.write(b"x" * 10)
        child.close()
        assert child._process is None
