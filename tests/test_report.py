"""The page of a run: an honest sentence, escaped text, no network, players and charts from what is there."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import re
import shutil
import time
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from earwitness import foley, protocols, report, scoring, stats
from earwitness import run as runs
from earwitness.export import media_name
from earwitness.questions import wording
from earwitness.records import Answer, Clip, Event, Fed, Intervention, Item, Judged, Row, Table, View, digest
from earwitness.report import cells, charts, figures, players, telling, verdict
from vega_words import warned

CLASSES = ("bell", "drum", "bird", "siren", "horn", "clock")
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
SETTINGS = protocols.Settings(seeds=(0,), long_context_tokens=20, mma_styles=("standard", "abstention"))
Hears = Callable[[random.Random], bool]


def make_clips(n: int, *, names: Sequence[str] = CLASSES) -> list[Clip]:
    out = []
    for i in range(n):
        things: tuple[str, ...] = (names[i % len(names)],)
        if i % 3 == 2:
            things = (*things, names[(i + 1) % len(names)])
        events = (Event(things[0], seen=5.0, heard=5.0),)
        out.append(
            Clip(id=f"clip-{i}", end=10.0, seen=things, heard=things, events=events, stems=(*things, "room"))
        )
    return out


def say(item: Item, listens: bool) -> str:
    """What a listener, or one who only watches, answers."""
    q, kind = item.question, item.intervention.kind
    if q in ("visual", "audio"):
        pool = item.seen if q == "visual" or not listens else item.heard
        if q == "visual" and kind == "black" and listens:
            pool = ()
        fallback = "None of the above" if "None of the above" in item.choices else item.choices[0]
        return wording(q, pool[0] if pool else fallback, item.style)
    if q == "muted":
        return (item.target or "no") if listens else "yes"
    if q == "modified":
        return wording(q, "", item.style, seen=item.seen, heard=item.heard if listens else item.seen)
    label = {"mute": "SOUND_DESCRIBED", "swap": "MATCH", "shift": "SYNC"}[q]
    if listens and item.target:
        label = item.target
    heard = item.heard if listens else item.seen
    return wording(q, label, item.style, seen=item.seen, heard=heard, offset=item.offset or None)


def judge(items: Sequence[Item], hears: Hears, *, fail: float = 0.0, garble: float = 0.0) -> list[Judged]:
    rng, out = random.Random(3), []
    for item in items:
        text: str | None = say(item, hears(rng))
        error = None
        if rng.random() < fail:
            text, error = None, "RuntimeError: out of memory"
        elif rng.random() < garble:
            text = "Lovely weather today."
        silent = item.intervention.kind == "mute"
        fed = Fed(
            frames=4, height=56, width=56, audio_seconds=10.0, audio_rms=0.0 if silent else 0.1, audio_tokens=25,
            video_tokens=16, video_hash=digest(item.clip), audio_hash=digest(item.clip, item.intervention.key),
        )  # fmt: skip
        logprobs = {c: math.log(0.9 if c == text else 0.1 / len(item.choices)) for c in item.choices} or None
        answer = Answer(item=item.id, model="hans", text=text, error=error, logprobs=logprobs, fed=fed)
        out.append(Judged(item, answer, scoring.score(item, answer)))
    return out


def run_of(
    n: int, hears: Hears, names: Sequence[str] = ("mma", "thud", "av_confuse"), **how: float
) -> list[Judged]:
    clips = make_clips(n)
    items = [item for name in names for item in protocols.load(name).items(clips, SETTINGS)]
    return judge(items, hears, **how)


def write_run(folder: Path, judged: Sequence[Judged], *, model: str = "hans", clips: Sequence[Clip] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({j.item.protocol for j in judged})
    checks: list[dict[str, Any]] = [
        {"organ": "audio", "condition": kind, "text": f"I hear {EVIL}", "error": None,
         "fed": {"frames": 4, "audio_seconds": 10.0, "audio_rms": rms, "audio_hash": kind, "video_hash": "v"}}
        for kind, rms in (("original", 0.1), ("mute", 0.0))
    ]  # fmt: skip
    info = runs.Info(
        model=model, revision="r1", plan=runs.plan_digest([j.item for j in judged]), protocols=names,
        created="2026-11-20T10:00:00+00:00", clips="foley", clip_count=len({j.item.clip for j in judged}),
        item_count=len(judged), command="earwitness audit -m hans --out runs/hans",
        versions={"earwitness": "0.1.0"}, checks=checks,
    )  # fmt: skip
    runs.write_info(folder, info)
    runs.write_lines(folder / "clips.jsonl", clips)
    runs.write_lines(folder / "items.jsonl", [j.item for j in judged])
    runs.write_lines(folder / "answers.jsonl", [j.answer for j in judged])
    runs.write_lines(folder / "scores.jsonl", [j.score for j in judged])
    known = [name for name in names if name in protocols.NAMES]
    runs.write_tables(folder, [t for name in known for t in protocols.load(name).tables(judged)])
    return folder


def never(rng: random.Random) -> bool:
    return False


def always(rng: random.Random) -> bool:
    return True


def sometimes(rng: random.Random) -> bool:
    return rng.random() < 0.5


@pytest.fixture(scope="module")
def watcher() -> list[Judged]:
    return run_of(36, never, fail=0.01, garble=0.01)


@pytest.fixture(scope="module")
def page(watcher: list[Judged], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.build(write_run(tmp_path_factory.mktemp("run"), watcher, clips=make_clips(36)))


# The verdict


def test_a_watcher_does_not_listen_and_the_numbers_are_those_of_the_table(watcher: list[Judged]) -> None:
    found = verdict.verdict("hans", watcher)
    assert found.kind == "does not listen"
    assert found.sentence.startswith("Hans does not listen: when the sound was replaced, it named")
    table = next(t for t in protocols.load("mma").tables(watcher) if t.id == "mma_follow")
    row = next(r for r in table.rows if r.label == "audio question")
    assert found.follow is not None
    assert [c.value for c in row.cells[:3]] == pytest.approx(  # type: ignore[union-attr]
        [found.follow.picture.value, found.follow.sound.value, found.follow.other.value]
    )
    assert found.follow.picture == row.cells[0]


def test_a_listener_listens() -> None:
    found = verdict.verdict("m", run_of(36, always))
    assert found.kind == "listens"
    assert "m listens: when the sound was replaced, it named the new sound in 100 %" in found.sentence
    assert all(f.estimate.value == f.listener for f in found.figures if f.key != "leak"), found.figures


def test_a_mixed_model_is_called_mixed() -> None:
    assert verdict.verdict("m", run_of(72, sometimes)).kind == "mixed"


def test_a_listener_that_invents_sounds_in_silence_is_not_praised() -> None:
    judged = []
    for j in run_of(36, always):
        text = say(j.item, j.item.intervention.kind != "mute")
        answer = msgspec.structs.replace(j.answer, text=text)
        judged.append(Judged(j.item, answer, scoring.score(j.item, answer)))
    found = verdict.verdict("m", judged)
    assert found.kind == "mixed"
    assert "makes up sounds in silence" in found.sentence


@pytest.mark.parametrize(("n", "kind"), [(6, "too little"), (36, "does not listen")])
def test_few_clips_are_too_few(n: int, kind: str) -> None:
    assert verdict.verdict("m", run_of(n, never, ("mma",))).kind == kind


def test_many_failures_give_no_verdict() -> None:
    for how in ({"fail": 0.5}, {"garble": 0.5}, {"fail": 1.0}):
        found = verdict.verdict("m", run_of(36, never, **how))
        assert found.kind == "no verdict", how
        assert "failed or could not be read" in found.sentence


def test_one_that_cannot_name_sounds_is_not_said_to_be_deaf() -> None:
    judged = []
    for k, j in enumerate(run_of(36, never, ("mma",))):
        answer = msgspec.structs.replace(j.answer, text=j.item.choices[k % len(j.item.choices)])
        judged.append(Judged(j.item, answer, scoring.score(j.item, answer)))
    found = verdict.verdict("m", judged)
    assert found.kind == "no verdict"
    assert "guessing gives" in found.sentence


def test_one_that_always_says_the_same_follows_neither() -> None:
    judged = []
    for j in run_of(36, always, ("mma",)):
        text = "anvil" if j.item.intervention.kind == "swap" else j.answer.text
        item = msgspec.structs.replace(j.item, choices=(*j.item.choices, "anvil"))
        answer = msgspec.structs.replace(j.answer, text=text)
        judged.append(Judged(item, answer, scoring.score(item, answer)))
    assert verdict.verdict("m", judged).kind == "neither"


def test_without_a_swap_silence_decides_and_without_either_nothing_is_said() -> None:
    thud = run_of(36, never, ("thud",))
    assert "with the sound muted, it still described a sound" in verdict.verdict("m", thud).sentence
    assert "notices silence" in verdict.verdict("m", run_of(36, always, ("thud",))).sentence
    shifts = [j for j in thud if j.item.question == "shift"]
    assert verdict.verdict("m", shifts).kind == "no verdict"
    assert "a sound that was there and was then muted or replaced" in verdict.verdict("m", shifts).sentence
    assert verdict.verdict("m", []).kind == "no verdict"


def test_percent_never_rounds_to_certainty() -> None:
    assert [verdict.percent(v) for v in (0, 0.001, 0.5, 0.999, 1)] == ["0 %", "< 1 %", "50 %", "> 99 %", "100 %"]


# Figures


def test_figures_count_what_is_missing_and_cluster_swapped_clips_in_pairs() -> None:
    judged = run_of(36, never, ("mma",), fail=0.2)
    by_key = {f.key: f for f in figures.figures(judged)}
    swapped = figures.conflicts(judged)
    f = by_key["follow_picture"]
    assert f.missing == sum(j.answer.error is not None for j in swapped) > 0
    assert f.estimate.n + f.missing == len(swapped)
    assert f.estimate.clusters < f.clips <= 2 * f.estimate.clusters
    assert by_key["natural"].estimate.n + by_key["natural"].missing == sum(
        j.item.condition == "aligned" and j.item.style == "standard" and j.item.question == "audio" for j in judged
    )


# Telling items


def test_telling_pairs_are_twins_spread_and_in_proportion(watcher: list[Judged]) -> None:
    chosen = telling.choose(watcher)
    assert len(chosen) == 10
    for before, after in chosen:
        assert before.item.group == after.item.group
        assert before.item.prompt == after.item.prompt
        assert before.item.intervention.kind == "original" != after.item.intervention.kind
    assert len({b.item.clip for b, _ in chosen}) == 10
    assert len({a.item.intervention.kind for _, a in chosen}) >= 4
    everything = telling.comparable(watcher)
    rate = sum(map(telling.was_fooled, everything)) / len(everything)
    assert abs(sum(map(telling.was_fooled, chosen)) - 10 * rate) <= 1


def test_telling_pairs_of_a_listener_show_it_listening() -> None:
    assert not any(map(telling.was_fooled, telling.choose(run_of(36, always))))


def test_telling_choice_does_not_depend_on_the_order(watcher: list[Judged]) -> None:
    shuffled = list(watcher)
    random.Random(1).shuffle(shuffled)
    assert [a.item.id for _, a in telling.choose(watcher)] == [a.item.id for _, a in telling.choose(shuffled)]


def test_telling_leaves_out_failures_and_is_short_where_there_is_little(watcher: list[Judged]) -> None:
    assert all(x.answer.error is None for pair in telling.choose(watcher, 50) for x in pair)
    assert telling.choose([], 5) == []
    assert telling.choose(watcher, 0) == []
    with pytest.raises(ValueError, match="wants 0 or more"):
        telling.choose(watcher, -1)


def test_media_names_are_safe_and_never_shared() -> None:
    mute = Intervention(kind="mute")
    names = [
        media_name(clip, iv)
        for clip in ("a", "a--mute", "a/../b", "a_.._b", "../../etc/passwd", EVIL, "", "x" * 300, "x" * 301, "ä")
        for iv in (Intervention(), mute, Intervention(kind="swap", donor="../c"))
    ]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_+=-][A-Za-z0-9._+=-]{0,220}\.mp4", name) for name in names), names
    assert media_name("clip-1", Intervention()) == "clip-1.mp4"
    assert media_name("clip-1", Intervention(kind="shift", seconds=2.1)) == "clip-1--shift+2.10.mp4"


# Charts


def test_charts_show_what_the_run_holds_and_nothing_else(watcher: list[Judged]) -> None:
    tables = [t for name in protocols.NAMES for t in protocols.load(name).tables(watcher)]
    assert [c.id for c in charts.charts(watcher, tables)] == ["follow", "accuracy", "axes", "offsets", "confuse"]
    assert charts.charts([], []) == []
    assert [c.id for c in charts.charts(run_of(6, never, ("mma",)), [])] == ["follow", "accuracy"]
    assert [c.id for c in charts.charts([j for j in watcher if j.item.question == "muted"], [])] == ["confuse"]


def test_chart_intervals_are_those_of_the_statistics(watcher: list[Judged]) -> None:
    spec = next(c for c in charts.charts(watcher, []) if c.id == "accuracy").spec
    values = spec["layer"][0]["data"]["values"] if "data" in spec["layer"][0] else spec["data"]["values"]
    point = next(v for v in values if v["row"] == "sound replaced" and v["series"] == "asked what it hears")
    some = [
        j
        for j in watcher
        if j.item.condition == "audio_swapped" and j.item.question == "audio" and j.item.style == "standard"
    ]
    expected = stats.proportion([j.score.correct for j in some], figures.cluster_of(some))
    assert expected is not None
    assert (point["value"], point["low"], point["high"]) == (expected.value, expected.low, expected.high)
    assert point["chance"] == pytest.approx(1 / len(some[0].item.choices))


def test_vega_warns_of_no_chart(watcher: list[Judged], page: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert warned(page.parent / "charts", capfd) == []
    # One series alone of two, and rows of one line: heights are reckoned of what is drawn.
    some = [j for j in watcher if j.item.question != "visual"]
    assert warned(charts.charts(some, []), capfd) == []


@pytest.mark.parametrize("rows", [1, 5])
def test_rows_take_what_vega_lite_gives_them(rows: int) -> None:
    """A height in pixels is the height that Vega-Lite reckons of the same step."""
    import vl_convert

    values = [{"row": f"{n}", "series": s, "x": n} for n in range(rows) for s in "ab"]
    padding = {"paddingInner": 0.28, "paddingOuter": 0.15}
    spec: dict[str, Any] = {
        "data": {"values": values}, "mark": "bar",
        "encoding": {
            "y": {"field": "row", "type": "nominal", "scale": padding}, "x": {"field": "x", "type": "quantitative"},
            "yOffset": {"field": "series", "type": "nominal", "scale": {"paddingInner": 0.15}},
        },
    }  # fmt: skip
    pixels = charts.high(rows, 17 * (2 - 0.15) / (1 - 0.28), 0.28, 0.15)
    drawn = [
        re.sub(r"\d+\.\d+", lambda m: f"{float(m[0]):.6g}", vl_convert.vegalite_to_svg(json.dumps(spec | made)))
        for made in ({"height": {"step": 17, "for": "offset"}}, {"height": pixels})
    ]
    assert drawn[0] == drawn[1]


def test_chart_files_are_drawn(page: Path) -> None:
    folder = page.parent / "charts"
    for name in ("follow", "accuracy", "axes", "offsets", "confuse"):
        spec = json.loads((folder / f"{name}.vl.json").read_text())
        assert spec["$schema"].startswith("https://vega.github.io/schema/vega-lite/")
        svg = (folder / f"{name}.svg").read_text()
        assert svg.startswith("<svg")
        assert "var(--" not in svg  # files for papers have colours of their own
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_png_is_vegas_own_and_vega_draws_each_chart_once(
    watcher: list[Judged], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import vl_convert

    found = [c for c in charts.charts(watcher, []) if c.id in ("accuracy", "offsets")]
    specs = [{**c.spec, "config": {**c.spec["config"], "background": charts.PAPER}} for c in found]
    vegas = [vl_convert.vegalite_to_png(json.dumps(spec), scale=charts.PNG_SCALE) for spec in specs]
    asked: list[str] = []
    draw = vl_convert.vegalite_to_svg
    monkeypatch.setattr(vl_convert, "vegalite_to_svg", lambda text: asked.append(text) or draw(text))
    monkeypatch.delattr(vl_convert, "vegalite_to_png")
    charts.write(found, tmp_path)
    assert [(tmp_path / f"{c.id}.png").read_bytes() for c in found] == vegas
    assert len(asked) == len(found) == 2


# Players


def test_waveforms_share_a_scale_and_silence_is_flat() -> None:
    loud = np.sin(np.linspace(0, 400, 8000, dtype=np.float32))[None]
    path = players._outline(0.5 * loud, 1.0)
    heights = [float(y) for _, y in re.findall(r"([\d.]+),([\d.]+)", path)]
    assert min(heights) == pytest.approx(50 - 22.5, abs=0.2)
    flat = [float(y) for _, y in re.findall(r"([\d.]+),([\d.]+)", players._outline(0 * loud, 1.0))]
    assert max(abs(y - 50) for y in flat) < 0.61
    assert players._outline(loud[:, :1], 0.0).startswith("M")


def test_bars_are_probabilities_among_the_options(watcher: list[Judged]) -> None:
    j = next(j for j in watcher if j.item.intervention.kind == "swap" and j.item.question == "audio")
    logprobs = dict.fromkeys(j.item.choices, -9.0) | {j.item.seen[0]: -1.0, j.item.heard[0]: -2.0}
    bars = players._bars(Judged(j.item, msgspec.structs.replace(j.answer, logprobs=logprobs), j.score))
    assert [(b.name, b.who) for b in bars[:2]] == [(j.item.seen[0], "seen"), (j.item.heard[0], "heard")]
    assert bars[0].share == pytest.approx(1 / (1 + math.exp(-1) + (len(logprobs) - 2) * math.exp(-8)))
    nothing = Judged(j.item, msgspec.structs.replace(j.answer, logprobs={"a": -math.inf}), j.score)
    assert players._bars(nothing) == []


def test_event_marks_move_with_a_shift() -> None:
    item = Item(
        id="i", protocol="thud", condition="shift", question="shift", clip="c", source="c", group="g", prompt="p",
        target="DELAY", intervention=Intervention(kind="shift", seconds=2.0),
    )  # fmt: skip
    answer = Answer(item="i", model="m", text="late")
    j = Judged(item, answer, scoring.score(item, answer))
    marks = players._marks(j, [Event("bell", seen=1.0, heard=1.0)], 4.0)
    assert [(m.who, m.at) for m in marks] == [("seen", 0.25), ("heard", 0.75)]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose clips are real files: one original and its muted twin; the others are missing."""
    from earwitness.media import write_clip

    clips = [*foley.clip_set(2, seed=9).clips, *make_clips(12)]
    judged = judge(protocols.load("thud").items(clips, SETTINGS), never)
    folder = write_run(tmp_path_factory.mktemp("played"), judged, clips=clips)
    place = folder / "media"
    place.mkdir()
    view = View(fps=5, size=(48, 64), rate=16000)
    pairs = telling.choose(judged)
    made = 0
    for pair in pairs:
        for j in pair:
            scene = foley.scene(3)
            m = foley.media(scene, view)
            assert m.frames is not None
            assert m.wave is not None
            wave = np.zeros_like(m.wave) if j.item.intervention.kind == "mute" else m.wave
            if made < 4:
                write_clip(m.frames, 5.0, wave, 16000, place / media_name(j.item.clip, j.item.intervention))
            made += 1
    gone = place / media_name(pairs[-1][1].item.clip, pairs[-1][1].item.intervention)
    gone.with_name(f"{gone.stem}.missing.txt").write_text("the source file is gone " + EVIL)
    report.build(folder)
    return folder


def test_players_play_what_is_there_and_say_what_is_not(played: Path) -> None:
    html = (played / "report.html").read_text()
    sources = re.findall(r'<video src="([^"]+)"', html)
    assert sources
    for source in sources:
        assert (played / source).is_file(), source
    assert "This clip is not in the run folder" in html
    assert "the source file is gone &lt;script&gt;" in html
    assert "waveform of the sound" in html


def test_embedded_page_needs_no_file_beside_it(played: Path, tmp_path: Path) -> None:
    html = report.build(shutil.copytree(played, tmp_path / "copy"), embed=True).read_text()
    sources = re.findall(r'<video src="([^"]+)"', html)
    assert sources
    assert all(s.startswith("data:video/mp4;base64,") for s in sources)
    assert base64.b64decode(sources[0].split(",", 1)[1])[4:8] == b"ftyp"
    assert not re.search(r'(?:src|href)="(?:media|charts)/', html)


# The page


class Loads(HTMLParser):
    """Collects what a page would load, its ids, and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.tags: list[str] = []
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "poster", "data", "action", "xlink:href") and value:
                self.urls.append(value)
            if name == "id" and value:
                self.ids.append(value)
            if name.startswith("on"):
                self.handlers.append(name)
        if tag == "meta" and ("http-equiv", "Content-Security-Policy") in attrs:
            self.policy = dict(attrs)["content"] or ""


def test_page_asks_nothing_of_the_network(page: Path) -> None:
    html = page.read_text()
    loads = Loads()
    loads.feed(html)
    outside = [u for u in loads.urls if re.match(r"(?i)[a-z]+:|//", u) and not u.startswith("data:")]
    assert outside == []
    assert not re.search(r"url\(\s*['\"]?(?:https?:)?//|@import", html)
    assert not {"iframe", "object", "embed", "link"} & (set(loads.tags) - {"link"})
    assert "default-src 'none'" in loads.policy
    assert "http" not in loads.policy
    assert len(loads.ids) == len(set(loads.ids))


def test_only_our_scripts_may_run(page: Path) -> None:
    html = page.read_text()
    loads = Loads()
    loads.feed(html)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert len(scripts) == 2
    for script in scripts:
        code = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{code}'" in loads.policy
    assert "unsafe-eval" not in loads.policy
    assert "script-src 'unsafe-inline'" not in loads.policy
    assert loads.handlers == []


def test_page_says_the_verdict_and_how_to_run_it_again(page: Path, watcher: list[Judged]) -> None:
    html = page.read_text()
    sentence = report.headline(page.parent)
    assert sentence == verdict.verdict("hans", watcher).sentence
    plain = re.sub(r"<[^>]+>", "", html.split("<h1", 1)[1].split("</h1>", 1)[0]).split(">", 1)[1]
    assert plain.replace("\u00a0", " ").replace("&lt;", "<").replace("&gt;", ">") == sentence
    assert "earwitness audit -m hans --out runs/hans" in html
    for title in ("Accuracy by condition and question", "Key figures", "What the model was fed", "Run it again"):
        assert title in html
    assert 'class="baseline"' in html


def evil(judged: Sequence[Judged]) -> list[Judged]:
    """The same run, with markup for every text that comes from outside."""
    out = []
    for k, j in enumerate(judged):
        item = msgspec.structs.replace(
            j.item, clip=f"{j.item.clip}{EVIL}", prompt=j.item.prompt + EVIL, condition=j.item.condition + EVIL,
            seen=(*j.item.seen, EVIL), choices=tuple(c + EVIL for c in j.item.choices), style=j.item.style,
        )  # fmt: skip
        answer = msgspec.structs.replace(
            j.answer, text=f"{j.answer.text or ''}{EVIL}</script>\u2028", error=EVIL if k % 50 == 0 else None,
            logprobs=dict.fromkeys(item.choices, -1.0) or None,
        )  # fmt: skip
        out.append(Judged(item, answer, msgspec.structs.replace(j.score, label=j.score.label + EVIL)))
    return out


@pytest.fixture(scope="module")
def evil_page(watcher: list[Judged], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("evil"), evil(watcher[:400]), model=EVIL)
    table = Table(id="x<b>", title=EVIL, caption=EVIL, columns=(EVIL,), rows=(Row(EVIL, (EVIL,)),), unit="mixed")
    runs.write_tables(folder, [table])
    return report.build(folder)


def test_untrusted_text_is_escaped_everywhere(evil_page: Path) -> None:
    html = evil_page.read_text()
    loads = Loads()
    loads.feed(html)
    assert "img" not in loads.tags
    assert loads.handlers == []
    assert "<script>document.title" not in html
    assert "&lt;script&gt;document.title" in html
    assert len(re.findall(r"<script>", html)) == 2


def test_an_empty_run_and_one_without_tables_still_make_a_page(tmp_path: Path, watcher: list[Judged]) -> None:
    html = report.build(write_run(tmp_path / "none", [])).read_text()
    assert "the run holds no answers" in html
    assert "no question that was answered both" in html
    bare = write_run(tmp_path / "bare", watcher[:40])
    (bare / "tables.json").unlink()
    (bare / "clips.jsonl").unlink()
    assert "No tables yet" in report.build(bare).read_text()


def test_cells_show_shares_in_per_cent_and_other_units_as_they_are() -> None:
    e = stats.wilson(9, 10)
    assert cells.cell(e, "share").text == "90.0 %"
    assert cells.cell(e, "share").interval == f"[{100 * e.low:.1f}, {100 * e.high:.1f}]"
    assert cells.cell(None, "share").text == "–"
    assert cells.cell("<b>", "share").text == "<b>"
    units = [
        cells._unit("mixed", "row", c) for c in ("d'", "bias c", "mean error in s", "p (audio)", "PA", "lowest")
    ]
    assert units == ["score", "score", "seconds", "p", "share", "share"]
    counts = (
        "at layer", "at layer (smallest)", "layers that move", "settled from layer", "settled from layer, hans 2",
    )  # fmt: skip
    assert {cells._unit("mixed", "MMA aligned", c) for c in counts} == {"count"}
    assert cells._unit("mixed", "at layer", "hans") == "count"
    about = (
        "layer 3", "layer 3, head 2, video", "layers 0-3", "bricklayer", "a CD player", "cut from layer 2 on: all",
    )  # fmt: skip
    assert {cells._unit("mixed", row, c) for row in about for c in ("attention", "choice changed")} == {"share"}
    assert cells._unit("mixed", "layer 3", "d', largest") == "score"
    assert cells._unit("mixed", "row", "share of the layer") == "share"
    layered = Table(
        id="t", title="T", caption="", columns=("attention", "at layer"), rows=(Row("layer 3", (0.125, 17.0)),),
        unit="mixed",
    )  # fmt: skip
    assert [c.text for c in cells.grid(layered).lines[0].cells] == ["12.5 %", "17"]
    assert cells.cell(-0.25, "share").text == "\u221225.0 %"
    assert cells.cell(0.0000001, "p").text == "< 0.001"
    assert cells.cell(1234, "count").text == "1,234"


def test_receipts_and_failures_are_counted_by_condition() -> None:
    judged = run_of(12, never, ("mma",), fail=0.3)
    fed = cells.fed(judged)
    assert fed is not None
    muted = next(line for line in fed.lines if line.label == "MMA: sound muted")
    assert muted.cells[5].text == "0.000"
    assert muted.cells[7].text == "8 · 8"
    failed = sum(int(line.cells[1].text) for line in cells.failures(judged).lines)
    assert failed == sum(j.answer.error is not None for j in judged) > 0


def test_five_thousand_items_cost_seconds() -> None:
    judged = run_of(40, never)
    many = judged * (5000 // len(judged) + 1)
    for k, j in enumerate(many):
        item = msgspec.structs.replace(j.item, id=f"{j.item.id}{k}", group=f"{j.item.group}{k // len(judged)}")
        many[k] = Judged(item, j.answer, j.score)
    start = time.process_time()
    verdict.verdict("m", many)
    telling.choose(many)
    cells.fed(many)
    cells.failures(many)
    assert time.process_time() - start < 3


# In a real browser


def until(tab: Any, expression: str) -> None:
    """Wait for an expression by asking (the page's policy forbids to plant a watcher in it, and rightly)."""
    for _ in range(200):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(50)
    pytest.fail(f"never true in the page: {expression}")


def opened(browser: Any, path: Path) -> tuple[Any, list[str], list[str]]:
    tab, asked, troubles = browser.new_page(), [], []
    tab.on("request", lambda r: asked.append(r.url))
    tab.on("pageerror", lambda e: troubles.append(str(e)))
    tab.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
    tab.goto(path.as_uri())
    return tab, asked, troubles


def test_browser_draws_the_charts_and_fetches_nothing(browser: Any, page: Path) -> None:
    tab, asked, troubles = opened(browser, page)
    until(tab, "document.querySelectorAll('.live svg').length === 5")
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == []
    assert troubles == []
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    tab.set_viewport_size({"width": 390, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    tab.close()


def test_browser_runs_no_script_from_a_model(browser: Any, evil_page: Path) -> None:
    tab, asked, _ = opened(browser, evil_page)
    tab.wait_for_timeout(500)
    assert "owned" not in tab.title().replace("document.title='owned'", "")
    assert [u for u in asked if not u.startswith(("file:", "data:"))] == []
    tab.close()


def test_browser_plays_both_clips_in_step(browser: Any, played: Path) -> None:
    tab, _, troubles = opened(browser, played / "report.html")
    pair = tab.locator(".pair").first
    until(tab, "[...document.querySelector('.pair').querySelectorAll('video')].every(v => v.readyState > 1)")
    times = "[...document.querySelector('.pair').querySelectorAll('video')].map(v => v.currentTime)"
    pair.locator(".play").focus()
    tab.keyboard.press("Enter")
    until(tab, f"Math.min(...{times}) > 0.3")
    tab.keyboard.press("Enter")
    left, right = tab.evaluate(times)
    assert abs(left - right) < 0.1
    pair.locator(".seek").focus()
    tab.keyboard.press("End")
    until(tab, f"{times}.every(t => t > 3.9)")
    muted = "[...document.querySelector('.pair').querySelectorAll('video')].map(v => v.muted)"
    assert tab.evaluate(muted) == [True, False]
    pair.locator(".mute").first.click()
    assert tab.evaluate(muted) == [False, False]
    assert troubles == []
    tab.close()
