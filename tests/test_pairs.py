"""Training pairs, part by part: the scorer agrees, words alone do not tell them apart, mirrors are exact."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy.stats import rankdata

from earwitness import foley
from earwitness.align import tags
from earwitness.align.pairs import blind, general, mistakes, multiple_choice, phrases, preferences, spans, twins
from earwitness.align.pairs.making import MAKERS
from earwitness.align.pairs.mixtures import STYLES
from earwitness.align.pairs.stock import Span, Stock, Unit, partners, told_apart
from earwitness.datasets.opening import open_clips
from earwitness.foley.scenes import LENGTH
from earwitness.models import Model
from earwitness.models.fake import control
from earwitness.protocols import Settings, av_confuse, mma, thud
from earwitness.protocols.making import class_list
from earwitness.questions import judge_shift
from earwitness.records import (
    NONE_OF_THE_ABOVE,
    Answer,
    Clip,
    Event,
    Intervention,
    Item,
    Judged,
    Media,
    Pair,
    Score,
    View,
    digest,
)
from earwitness.scoring import reward, score

CLIPS = tuple(open_clips("foley", limit=30, seed=41).clips)
SETTINGS = Settings(long_context_tokens=5)
FREE = ("general", "op", "moments")  # no rule can read what is right about them: no target


def stock(clips: Sequence[Clip] = CLIPS, **more: object) -> Stock:
    single = [c for c in clips if len(c.heard) == 1]
    return Stock(tuple(clips), class_list(single, ()), SETTINGS, **{"twins": 3, **more})  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def watched() -> tuple[Judged, ...]:
    """What one who only watches answers in an audit of these clips."""
    items = [*mma.items(CLIPS, SETTINGS), *thud.items(CLIPS, SETTINGS), *av_confuse.items(CLIPS, SETTINGS)]
    model = control("sees")
    frames = np.full((2, 8, 8, 3), 60, np.uint8)
    media = Media(frames, np.array([0.0, 0.5]), np.ones((1, 100), np.float32), 100, 1.0)
    answers = [model.answer([i], [_shown(i, media)])[0] for i in items]
    return tuple(Judged(i, a, score(i, a)) for i, a in zip(items, answers, strict=True))


def _shown(item: Item, media: Media) -> Media:
    return media.with_frames(np.zeros((2, 8, 8, 3), np.uint8)) if item.intervention.kind == "black" else media


def made(part: str, source: Stock | None = None) -> list[Pair]:
    found = MAKERS[part](source or stock(), STYLES[part])
    out = []
    for unit in found.units:
        pairs = unit.make()
        assert len(pairs) == unit.size, f"{unit.key} says {unit.size} and makes {len(pairs)}"
        out += pairs
    return out


@pytest.fixture(scope="module")
def parts() -> dict[str, list[Pair]]:
    """All pairs of all parts of one small stock."""
    whole = stock(judged=watched())
    return {part: made(part, whole) for part in MAKERS}


@pytest.mark.parametrize("part", MAKERS)
def test_the_scorer_finds_chosen_right_and_rejected_wrong(part: str, parts: dict[str, list[Pair]]) -> None:
    assert parts[part]
    for pair in parts[part]:
        if part in FREE:
            assert pair.item.target is None
            continue
        assert reward(pair.item, pair.chosen) == 1.0, (pair.item.prompt, pair.chosen)
        assert pair.rejected is None or reward(pair.item, pair.rejected) == 0.0, (pair.item.prompt, pair.rejected)
        assert told_apart(pair)


def test_the_examples_in_the_guide_are_made(parts: dict[str, list[Pair]]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "pairs.md").read_text()
    table = page.split("## Parts")[1].split("\n\n")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert [row[0].strip("`") for row in rows] == list(MAKERS)
    for name, _, _, chosen, rejected in rows:
        part = name.strip("`")
        if part not in ("questions", "kept"):  # of a question file; without a rejected answer
            there = {(p.chosen, p.rejected) for p in parts[part]}
            assert (chosen, rejected) in there, part


def test_no_row_stands_there_twice_and_all_name_their_part(parts: dict[str, list[Pair]]) -> None:
    for part, pairs in parts.items():
        assert len({p.id for p in pairs}) == len(pairs), part
        assert {p.part for p in pairs} == {part} or part.startswith("avqa")
        assert all(p.why for p in pairs)
        assert all(p.rejected != p.chosen for p in pairs)


def separable(chosen: Sequence[str], rejected: Sequence[str], groups: Sequence[str], folds: int = 5) -> float:
    """AUC of words and pairs of words (naive Bayes, cross-validated by clip): 0.5 = they tell nothing."""
    texts, truth = [*chosen, *rejected], np.array([True] * len(chosen) + [False] * len(rejected))
    fold = np.array([int(digest("fold", g), 16) % folds for g in groups] * 2)
    vocabulary: dict[str, int] = {}
    rows = []
    for text in texts:
        words = re.findall(r"[\w.']+", text.lower())
        features = {*words, *(f"{a} {b}" for a, b in pairwise(words))}
        rows.append([vocabulary.setdefault(f, len(vocabulary)) for f in features])
    x = np.zeros((len(texts), len(vocabulary)))
    for n, row in enumerate(rows):
        x[n, row] = 1
    marks = np.zeros(len(texts))
    for k in range(folds):
        held = fold == k
        if held.any() and not held.all():
            yes, no = x[~held & truth].sum(0) + 0.5, x[~held & ~truth].sum(0) + 0.5
            marks[held] = x[held] @ (np.log(yes / yes.sum()) - np.log(no / no.sum()))
    ranks = rankdata(marks)
    n, m = int(truth.sum()), int((~truth).sum())
    return float((ranks[truth].sum() - n * (n + 1) / 2) / (n * m))


@pytest.mark.parametrize("part", [p for p in MAKERS if p not in ("questions", "kept")])
def test_words_alone_do_not_tell_chosen_from_rejected(part: str, parts: dict[str, list[Pair]]) -> None:
    pairs = [p for p in parts[part] if p.rejected is not None]
    auc = separable([p.chosen for p in pairs], [p.rejected or "" for p in pairs], [p.item.clip for p in pairs])
    assert auc <= 0.6


def test_the_same_test_finds_one_fixed_phrase() -> None:
    said = [f"In the video, {c.heard[0]} is heard." for c in CLIPS]
    chosen = [f"{s} Therefore the correct answer is A." for s in said]
    rejected = [f"{s} Based on this, the answer is B." for s in said]
    assert separable(chosen, rejected, [c.id for c in CLIPS]) > 0.95


@pytest.mark.parametrize("part", ["mute", "swap", "ctp", "shift", "modified", "sp"])
def test_every_pair_has_a_mirror_on_its_twin(part: str, parts: dict[str, list[Pair]]) -> None:
    there = {(p.item.clip, p.item.style, p.chosen, p.rejected) for p in parts[part]}
    for p in parts[part]:
        assert (p.item.clip, p.item.style, p.rejected, p.chosen) in there
        if part in ("mute", "swap", "ctp", "modified"):
            twin = [q for q in parts[part] if (q.chosen, q.rejected) == (p.rejected, p.chosen)]
            touched = {q.item.intervention.kind == "original" for q in twin if q.item.clip == p.item.clip}
            assert (p.item.intervention.kind != "original") in touched


def test_items_are_those_of_an_audit() -> None:
    """Same content, same id: what is trained is what is asked."""
    audit = {i.id for i in (*mma.items(CLIPS, SETTINGS), *thud.items(CLIPS, SETTINGS))}
    audit |= {i.id for i in av_confuse.items(CLIPS, SETTINGS)}
    for part, want in (("mma", 0.1), ("mute", 1.0), ("modified", 0.6), ("abstention", 0.2)):
        items = {p.item.id for p in made(part)}
        assert len(items & audit) >= want * len(items), part
    timed = {p.item.id for p in made("shift") if p.item.style == "neutral" and p.item.condition == "original"}
    assert timed
    assert timed <= audit


def test_partners_are_of_distinct_classes_and_evenly_used() -> None:
    # Of one length: what is heard late in a long clip is no donor for a short one.
    clips = [c for c in open_clips("foley", limit=150, seed=3).clips if len(c.heard) == 1 and c.end == 4.0]
    found = partners(clips, 0, 10)
    assert set(found) == {c.id for c in clips}
    by_id = {c.id: c for c in clips}
    pairs = [(by_id[i], d) for i, donors in found.items() for d in donors]
    for i, donors in found.items():
        classes = [d.heard[0] for d in donors]
        assert len(set(classes)) == len(classes) == 10
        assert by_id[i].heard[0] not in classes
        assert i not in {d.id for d in donors}
    uses = Counter(d.id for _, d in pairs)
    for name in {c.heard[0] for c in clips}:
        own = [uses[c.id] for c in clips if c.heard[0] == name]
        assert max(own) - min(own) <= 2, name
        over = Counter(d.heard[0] for c, d in pairs if c.heard[0] == name)
        assert max(over.values()) - min(over.values()) <= 1, name
    assert partners(list(reversed(clips)), 0, 10) == found
    assert partners(clips, 1, 10) != found


def test_a_donor_is_another_source_and_sounds_within_the_clip() -> None:
    def clip(name: str, heard: str, at: float, source: str = "", end: float = 4.0) -> Clip:
        return Clip(id=name, seen=(heard,), heard=(heard,), end=end, source=source, events=(Event(heard, at, at),))

    clips = [clip("a", "dog", 1.0, "walk"), clip("b", "cat", 1.0, "walk"), clip("c", "cow", 9.0, end=10.0)]
    assert "a" not in partners(clips, 0, 5)  # b is of the same source, c sounds too late
    clips.append(clip("d", "owl", 2.0))
    assert [d.id for d in partners(clips, 0, 5)["a"]] == ["d"]


def test_donors_that_the_labels_name_are_taken_in_their_order() -> None:
    def clip(name: str, heard: str, donors: tuple[str, ...] = ()) -> Clip:
        return Clip(id=name, seen=(heard,), heard=(heard,), end=4.0, donors=donors)

    rest = [clip("b", "cat"), clip("b2", "cat"), clip("c", "cow"), clip("d", "dog"), clip("e", "owl")]
    found = partners([clip("a", "dog", ("b2", "d", "gone", "c", "b")), *rest], 0, 5)
    assert [d.id for d in found["a"]] == ["b2", "c"]  # d is of its own class, b of the class of b2
    assert "a" not in partners([clip("a", "dog", ("d",)), *rest], 0, 5)
    assert len(found["b"]) == 3


def test_aligned_rows_are_as_many_as_misaligned_ones_each_in_another_order(parts: dict[str, list[Pair]]) -> None:
    rows = parts["mma"]
    count = Counter((p.item.condition, p.item.question) for p in rows)
    assert len(set(count.values())) == 1
    assert len(count) == 4
    one = next(c for c in CLIPS if len(c.heard) == 1).id
    aligned = [
        p.item for p in rows if (p.item.clip, p.item.condition, p.item.question) == (one, "aligned", "audio")
    ]
    assert len({i.choices for i in aligned}) == len(aligned) == 3
    for p in rows:
        other = p.item.heard if p.item.question == "audio" else p.item.seen
        assert p.chosen == other[0]
        if p.item.condition == "audio_swapped":
            assert p.rejected == (p.item.seen if p.item.question == "audio" else p.item.heard)[0]
            assert p.item.linked


def test_none_of_the_above_is_right_where_the_asked_stream_is_gone_and_only_there(
    parts: dict[str, list[Pair]],
) -> None:
    rows = parts["abstention"]
    gone = {("visual", "black"), ("audio", "mute")}
    for p in rows:
        assert NONE_OF_THE_ABOVE in p.item.choices
        assert (p.chosen == NONE_OF_THE_ABOVE) == ((p.item.question, p.item.intervention.kind) in gone)
        assert NONE_OF_THE_ABOVE in (p.chosen, p.rejected)
    assert sum(p.chosen == NONE_OF_THE_ABOVE for p in rows) == len(rows) / 2
    wrong = {p.item.intervention.kind for p in rows if p.chosen != NONE_OF_THE_ABOVE}
    assert wrong == {"original", "swap", "mute", "black"}  # also beside a gone stream that was not asked for


def test_a_caption_says_nothing_of_the_clip() -> None:
    clips = tuple(open_clips("foley", limit=200, seed=2).clips)
    rows = made("caption", stock(clips, twins=6))
    said = [p for p in rows if p.item.asked is not None]
    true = [p for p in said if p.item.asked == p.chosen]
    assert len(true) / len(said) == pytest.approx(1 / 12, abs=0.03)
    assert sum(p.rejected == p.item.asked for p in said) / len(said) == pytest.approx(1 / 12, abs=0.03)
    assert {p.item.condition for p in true} == {"true_caption"}
    assert {p.item.condition for p in said if p not in true} == {"misleading_caption"}
    assert all(p.item.prompt.startswith(f"Video_caption: {p.item.asked}. Which class") for p in said)
    assert all(p.chosen == p.item.seen[0] == p.item.heard[0] != p.rejected for p in rows)
    lost = [p for p in rows if p.item.condition == "long_context"]
    assert len(lost) == len(said)
    assert all(p.item.filler is not None for p in lost)


def test_shift_answers_say_direction_gap_and_both_times(parts: dict[str, list[Pair]]) -> None:
    rows = [p for p in parts["shift"] if p.item.style == "neutral"]
    clips = {c.id: c for c in CLIPS}
    wrong_ways = set()
    for p in rows:
        said, wrong = judge_shift(p.chosen), judge_shift(p.rejected or "")
        event = preferences.first_event(clips[p.item.clip])
        assert event is not None
        assert said.t_seen == pytest.approx(event.seen, abs=0.051)
        assert said.t_heard == pytest.approx((event.heard or 0) + p.item.offset, abs=0.11)
        if p.item.offset:
            assert said.offset == pytest.approx(p.item.offset, abs=0.11)
            assert said.t_heard - said.t_seen == pytest.approx(
                said.offset, abs=1e-6
            )  # no sentence contradicts itself
        wrong_ways.add((said.label, wrong.label))
    assert wrong_ways == {(a, b) for a in ("SYNC", "DELAY", "EARLY") for b in ("SYNC", "DELAY", "EARLY") if a != b}
    told = Counter(str(p.item.target) for p in rows)
    assert len(rows) / 3 <= told["SYNC"] <= len(rows) / 2  # a third where clips allow both directions
    assert {p.chosen for p in parts["shift"] if p.item.style == "direct"} == {"A", "B", "C"}


def test_clips_out_of_step_to_begin_with_are_not_shifted() -> None:
    far = Clip(id="far", seen=("thunder",), heard=("thunder",), end=10.0, events=(Event("thunder", 4.0, 4.8),))
    plan = preferences.ctp(stock([far]), ("neutral",))
    assert not plan.units
    assert "off to begin with" in plan.left_out[0]


def test_released_questions_are_asked_word_for_word() -> None:
    clip = next(c for c in CLIPS if preferences.ctp(stock([c]), ("neutral",)).units)
    items = [preferences.asked_when(clip, 0.0, "released", n) for n in range(3)]
    assert [i.prompt for i in items] == list(preferences.RELEASED)
    assert reward(items[0], phrases.shift("bell", 3.0, 0.0, "neutral", 0)) == 1.0


def test_presence_is_asked_where_it_is_right_and_where_it_is_wrong(parts: dict[str, list[Pair]]) -> None:
    rows = parts["confuse"]
    assert sum(p.chosen == "yes" for p in rows) == len(rows) / 2
    kinds = Counter((p.item.intervention.kind, p.chosen) for p in rows)
    assert kinds["drop_stem", "yes"] == kinds["drop_stem", "no"] > 0
    assert kinds["swap", "yes"] == kinds["swap", "no"] > 0
    assert kinds["mute", "no"] > 0
    assert kinds["mute", "yes"] == 0
    assert kinds["original", "no"] > 0  # of something that is not there


def test_what_a_choir_lacks_is_told_by_its_stems() -> None:
    bare = [msgspec.structs.replace(c, stems=()) for c in CLIPS if len(c.heard) > 1]
    assert not MAKERS["confuse"](stock(bare), ("neutral",)).units


# --- general rows ----------------------------------------------------------------------------------------------


def test_general_rows_ask_in_the_papers_words(parts: dict[str, list[Pair]]) -> None:
    prompts = {p.item.style: p.item.prompt for p in parts["general"]}
    assert prompts["description"] == "Describe visible events and audible cues."
    assert prompts["localization"] == "Locate visual/audio events in time."
    assert prompts["attribution"].startswith("Infer the source or material of a cue.")
    assert set(prompts) == set(general.STYLES)


def sounding(clip: Clip, start: float, end: float) -> set[str]:
    """What sounds between two times of a procedural clip, by its own truth."""
    lasts = {s.what: LENGTH[s.what] for s in foley.parse(clip.foley or "").sources}
    return {e.what for e in clip.events if (e.heard or 0) < end and (e.heard or 0) + lasts[e.what] > start}


def test_general_rows_are_true_of_their_clip(parts: dict[str, list[Pair]]) -> None:
    clips = {c.id: c for c in CLIPS}
    words = {sounds: name for name, (_, sounds) in spans.FOLEY.items()}
    for p in parts["general"]:
        clip, texts = clips[p.item.clip], (p.chosen, p.rejected or "")
        assert p.item.tags["reference"] == p.chosen
        if p.item.style == "description":
            for told, text in zip((True, False), texts, strict=True):
                found = re.findall(r"From ([\d.]+)s to ([\d.]+)s.*?[;:] ([^;:]+?)\.(?= From|$)", text)
                assert len(found) == len(clip.heard)
                for start, end, what in found:
                    assert (words[what] in sounding(clip, float(start), float(end))) == told, (clip.foley, text)
        if p.item.style == "localization":
            for told, text in zip((True, False), texts, strict=True):
                for what, times in re.findall(r"([^,.]+): at ((?:[\d.]+s(?:, )?)+)", text):
                    true = [e.heard for e in clip.events if e.what == words[what.strip()] and e.heard is not None]
                    said = [float(t) for t in re.findall(r"[\d.]+(?=s)", times)]
                    if told:
                        assert said == pytest.approx(true, abs=0.051)
                    else:
                        assert sum(min(abs(t - x) for x in true) > 0.1 for t in said) * 2 >= len(said)
        if p.item.style == "audio_qa":
            start, end = (float(x) for x in re.findall(r"[\d.]+(?=s)", p.item.prompt))
            (what,) = sounding(clip, start, end)  # that, and nothing else
            assert p.chosen == f"What is heard then: {spans.sounds_like(what)}."
            assert spans.sounds_like(what) not in (p.rejected or "")


def test_a_time_is_asked_for_where_one_thing_sounds() -> None:
    clip = Clip(id="walk", path="walk.mp4", end=20.0)
    told = [("a bark", 1, 2), ("a horn", 3, 5), ("a bell", 4, 6), ("rain", 8, 9), ("a song", 10, 12)]
    found = {"walk": tuple(Span("walk", a, b, f"{what} is shown", what) for what, a, b in told)}
    rows = [p for u in multiple_choice.choices(stock([clip], spans=found), ("short",)).units for p in u.make()]
    asked = {p.item.tags["asked"]: p.item.tags[p.chosen] for p in rows}
    assert asked == {
        "What is heard from 1.0s to 2.0s?": "a bark",
        "What is heard from 8.0s to 9.0s?": "rain",
        "What is heard from 10.0s to 12.0s?": "a song",
    }  # the horn and the bell sound at once
    wrong = [p.item.tags[p.rejected or ""] for p in rows]
    assert wrong == ["a horn", "a song", "a bark"]  # what is heard next


def test_procedural_events_are_told_exactly() -> None:
    for clip in CLIPS:
        for span in spans.of_foley(clip):
            assert span.start in {e.seen for e in clip.events}
            assert span.audio != span.visual


def test_descriptions_come_from_lines_and_from_finevideo(tmp_path: Path) -> None:
    clips = [Clip(id="walk", path="v/walk.mp4"), Clip(id="cut", path="v/long.mp4", start=10.0, end=30.0)]
    plain = tmp_path / "d.jsonl"
    plain.write_text(
        '{"clip": "walk", "start": 2, "end": 4.5, "visual": "a dog leaps", "audio": "a bark"}\n\n'
        '{"clip": "other", "start": 0, "end": 1, "audio": "a hum"}\n'
    )
    found, lines = spans.read(plain, clips)
    assert found == {"walk": (Span("walk", 2.0, 4.5, "a dog leaps", "a bark"),)}
    assert lines == ["descriptions: 1 of 2 rows are about other clips"]
    fine = {
        "original_video_filename": "long.mp4",
        "content_metadata": {
            "scenes": [
                {
                    "title": "Market",
                    "timestamps": {"start_timestamp": "00:00:00.000", "end_timestamp": "00:01:00.000"},
                    "activities": [
                        {
                            "description": "A man waves.",
                            "timestamp": {"start_timestamp": "00:00:12.000", "end_timestamp": "00:00:15.500"},
                        },
                        {
                            "description": "Before the cut.",
                            "timestamp": {"start_timestamp": "00:00:02.000", "end_timestamp": "00:00:03.000"},
                        },
                    ],
                }
            ]
        },
        "timecoded_text_to_speech": [{"start": "00:00:14.000", "end": "00:00:16.000", "text": " Hello there. "}],
    }
    (tmp_path / "f.json").write_text(json.dumps([fine]))
    found, _ = spans.read(tmp_path / "f.json", clips)
    assert found == {"cut": (Span("cut", 2.0, 5.5, "A man waves", 'a voice says "Hello there."'),)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"clip": "walk", "start": 3, "end": 2, "audio": "x"}', r"d.jsonl, row 1: start 3 and end 2 are no span"),
        ('{"clip": "walk", "start": 1, "end": 2}', "neither visual nor audio"),
        ('{"clip": "walk", "end": 2, "audio": "x"}', "has no 'start'"),
        ('{"clip": "walk", "start": "soon", "end": 2, "audio": "x"}', r"row 1: Expected `float`"),
        ('{"clip": "walk", "start": 0, "end": 1, "audio": "x"}\nnonsense', "line 2: is no JSON"),
        ('{"clip": "gone", "start": 0, "end": 1, "audio": "x"}', "none of its 1 rows .* such as walk"),
        ("[1]", "row 1: wants an object, got int"),
        ('{"content_metadata": {"scenes": [{"activities": [{"description": "x"}]}]}}', "row 1: 'timestamp'"),
    ],
)
def test_descriptions_that_cannot_be_read_are_named(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        spans.read(path, [Clip(id="walk", path="walk.mp4")])


# --- multiple choice -------------------------------------------------------------------------------------------


def test_long_answers_close_alike_and_give_their_reason(parts: dict[str, list[Pair]]) -> None:
    for p in parts["avqa-long"]:
        assert p.item.prompt.endswith("with a brief explanation grounded in the audio and visual cues.")
        for text in (p.chosen, p.rejected or ""):
            assert re.search(r"Therefore the correct answer is [A-D]\. ", text)
        assert p.item.tags[str(p.item.target)] in p.chosen


def test_twins_ask_the_same_with_two_right_answers() -> None:
    units = multiple_choice.choices(stock(), ("short",)).units
    for unit in (u for u in units if u.size == 2):
        a, b = unit.make()
        assert a.item.prompt == b.item.prompt
        assert (a.chosen, a.rejected) == (b.rejected, b.chosen)
        assert {a.item.intervention.kind, b.item.intervention.kind} == {"original", "swap"}


def test_gold_letters_are_even() -> None:
    clips = tuple(open_clips("foley", limit=90, seed=8).clips)
    golds = Counter(p.chosen for p in made("avqa", stock(clips, twins=4)))
    n = sum(golds.values())
    assert n > 400
    assert all(abs(golds[k] / n - 0.25) < 0.06 for k in "ABCD")


def single(n: int, right: str, wrong: Sequence[str]) -> Pair:
    clip = Clip(id=f"c{n}", seen=("dog",), heard=("dog",))
    asked = multiple_choice.Asked(
        clip, f"What is heard at {n}s?", (right, *wrong), right, wrong[0], ("", ""), ("", "")
    )
    order = sorted(asked.options, key=lambda o: digest(n, o))
    item = multiple_choice.item_of(asked, order, "short")
    return Pair(id=str(n), item=item, chosen=str(item.target), part="avqa")


def test_options_that_give_themselves_away_are_dropped() -> None:
    """The right option is the longest, or has a word that only right ones have; a fair set is kept."""
    sounds = ("a bark", "a bell", "a horn", "a song", "a drum", "a hiss", "rain", "wind")

    def lures(n: int) -> list[str]:
        return [sounds[(n + k) % 8] for k in (1, 2, 3)]

    keep = blind.sieve(blind.words())
    long = keep([[single(n, f"{sounds[n % 8]} that goes on for a long while", lures(n))] for n in range(60)])
    telling = keep([[single(n, f"clearly {sounds[n % 8]}", [f"likely {s}" for s in lures(n)])] for n in range(60)])
    fair = keep([[single(n, sounds[n % 8], lures(n))] for n in range(60)])
    assert sum(long) == 0
    assert sum(telling) == 0
    assert sum(fair) > 45


def test_a_question_that_shares_its_words_with_the_answer_is_dropped() -> None:
    def pair(n: int) -> Pair:
        clip = Clip(id=f"c{n}", seen=("dog",), heard=("dog",))
        sounds = ("bark", "bell", "horn", "song", "drum", "hiss")
        right, wrong = sounds[n % 6], [sounds[(n + k) % 6] for k in (1, 2, 3)]
        asked = multiple_choice.Asked(
            clip, f"What is seen while this is heard: {right}?", tuple(f"a {w} is shown" for w in (right, *wrong)),
            f"a {right} is shown", f"a {wrong[0]} is shown", ("", ""), ("", ""),
        )  # fmt: skip
        item = multiple_choice.item_of(asked, sorted(asked.options, key=lambda o: digest(n, o)), "short")
        return Pair(id=str(n), item=item, chosen=str(item.target), part="avqa")

    assert not any(blind.sieve(blind.words())([[pair(n)] for n in range(40)]))


class Stub:
    """A text-only model with a rule; notes what it was given."""

    name, revision, view, abilities = "stub", "1", View(), frozenset[str]()

    def __init__(self, rule: object) -> None:
        self.rule, self.given = rule, list[tuple[Item, Media]]()

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        self.given += zip(items, media, strict=True)
        return [Answer(item=i.id, model=self.name, **self.rule(i)) for i in items]  # type: ignore[operator]


def test_a_model_is_asked_without_media_in_other_orders() -> None:
    knows = Stub(lambda i: {"text": i.target})
    units = [[single(n, "a bark", ("a bell", "a horn", "rain"))] for n in range(3)]
    assert blind.sieve(blind.asked_blind(knows))(units) == [False] * 3
    assert len(knows.given) == 12
    for item, media in knows.given:
        assert media.frames is None
        assert media.wave is None
        assert not item.seen
        assert not item.heard
    assert len({i.prompt for i, _ in knows.given if i.clip == "c0"}) > 1
    luck = Stub(lambda i: {"text": "A"})
    assert sum(blind.sieve(blind.asked_blind(luck))([[single(n, "x", ("y", "z", "w"))] for n in range(50)])) > 40


def test_twins_are_kept_unless_both_are_answered() -> None:
    units = [u.make() for u in multiple_choice.choices(stock(), ("short",)).units if u.size == 2][:20]
    prior = Stub(lambda i: {"text": next(k for k in i.choices if i.tags[k] == min(i.tags[c] for c in i.choices))})
    assert all(blind.sieve(blind.asked_blind(prior))(units))
    assert not any(blind.sieve(blind.asked_blind(Stub(lambda i: {"text": i.target})))(units))


def test_a_text_only_model_that_fails_is_no_proof() -> None:
    broken: Model = Stub(lambda i: {"error": "out of memory"})  # type: ignore[assignment]
    with pytest.raises(ValueError, match="answered none of 4 questions"):
        blind.sieve(blind.asked_blind(broken))([[single(0, "a", ("b", "c", "d"))]])


# --- RL-CoMM ---------------------------------------------------------------------------------------------------


def test_warm_up_answers_are_in_the_format_and_tell_what_is_there(parts: dict[str, list[Pair]]) -> None:
    for p in parts["warm-up"]:
        assert tags.well_formed(p.chosen)
        assert tags.well_formed(p.rejected or "")
        assert p.item.prompt.startswith("You should see clearly the given video and listen clearly")
        said = tags.parts(p.chosen)
        assert all(h in said.heard for h in p.item.heard)
        assert all(s in said.seen for s in p.item.seen)
        if not p.item.heard:
            assert said.heard == "I hear no sound at all."


def test_questions_without_a_file_are_the_protocols_own(parts: dict[str, list[Pair]]) -> None:
    assert all(p.rejected is None for p in parts["questions"])
    assert {p.item.question for p in parts["questions"]} == {"visual", "audio", "muted", "mute", "swap"}


# --- the model's own mistakes ----------------------------------------------------------------------------------


def test_mistakes_are_the_models_own_words(parts: dict[str, list[Pair]]) -> None:
    said = {j.answer.text for j in watched() if j.score.correct is False}
    assert all(p.rejected in said or p.chosen in said for p in parts["sp"])
    assert {p.item.question for p in parts["sp"]} >= {"audio", "mute", "swap", "shift", "muted"}


def test_what_is_not_known_to_be_wrong_is_no_mistake() -> None:
    judged = watched()
    one = next(j for j in judged if j.score.correct is False and j.item.question == "mute")

    def outcome(label: str, text: str | None, error: str | None = None) -> tuple[Judged, ...]:
        bad = Judged(
            one.item,
            Answer(item=one.item.id, model="m", text=text, error=error),
            Score(item=one.item.id, group=one.item.group, condition=one.item.condition, label=label, correct=None),
        )
        return tuple(bad if j.item.id == one.item.id else msgspec_right(j) for j in judged)

    def msgspec_right(j: Judged) -> Judged:
        return Judged(j.item, j.answer, msgspec.structs.replace(j.score, correct=True))

    for label, text, error in (
        ("UNPARSED", "Hm.", None),
        ("REFUSED", "I cannot.", None),
        ("ERROR", None, "timeout"),
    ):
        plan = mistakes.mistakes(stock(judged=outcome(label, text, error)), ("own",))
        assert not plan.units
        assert plan.left_out == ["sp: nothing was answered wrong in the run"]


def test_closed_mistakes_without_a_twin_are_put_beside_their_opposites() -> None:
    def yes_no(n: int, said: str, truth: str) -> Judged:
        item = Item(
            id=f"q{n}", protocol="benchmark", condition="original", question="yes_no", clip="c", source="c",
            group=f"g{n}", prompt="?", choices=("yes", "no"), target=truth,
        )  # fmt: skip
        answer = Answer(item=item.id, model="m", text=said)
        return Judged(item, answer, score(item, answer))

    judged = tuple(yes_no(n, *x) for n, x in enumerate([("yes", "no")] * 3 + [("no", "yes")] * 2))
    plan = mistakes.mistakes(stock([Clip(id="c")], judged=judged), ("own",))
    rows = [p for u in plan.units for p in u.make()]
    assert Counter(p.chosen for p in rows) == {"yes": 2, "no": 2}
    assert plan.left_out == ["sp: 1 of 5 wrong answers are right nowhere in the run: no mirror"]


def test_units_say_what_they_are_about() -> None:
    for part in MAKERS:
        for unit in MAKERS[part](stock(judged=watched()), STYLES[part]).units:
            assert isinstance(unit, Unit)
            assert unit.clip in {c.id for c in CLIPS}


def test_a_class_that_the_scorer_misreads_is_told() -> None:
    """ "Silence" heard is silence to the scorer: the pair would teach the opposite of what it says."""
    clip = Clip(id="s", seen=("Silence",), heard=("Silence",), end=4.0)
    assert not all(told_apart(p) for u in preferences.mute(stock([clip]), ("neutral",)).units for p in u.make())
    assert Intervention(kind="mute") in {p.item.intervention for p in made("mute")}


def test_twins_need_two_classes() -> None:
    plan = twins.content(stock([c for c in CLIPS if c.heard == ("bell",)]), ("standard",))
    assert not plan.units
    assert "at least two classes" in plan.left_out[0]
