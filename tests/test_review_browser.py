"""The review in a real browser: keys, markers, playback; a session of two people over a server that is killed."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from earwitness import foley, media
from earwitness.curate import review
from earwitness.curate.review import queue as review_queue
from earwitness.curate.review import votes as review_votes
from earwitness.datasets import folder

pytest.importorskip("uvicorn", reason="the pages are the extra earwitness[serve]")


def until(tab: Any, expression: str, seconds: float = 40.0) -> None:
    """Wait for an expression by asking (the page's policy forbids to plant a watcher in it, and rightly)."""
    for _ in range(round(seconds / 0.05)):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(50)
    pytest.fail(
        f"never true in the page: {expression}; it says {tab.inner_text('#say')!r}, {tab.inner_text('#saved')!r}"
    )


def text_of(tab: Any, selector: str) -> str:
    return str(tab.inner_text(selector)).replace("\xa0", " ")


class Person:
    """An annotator at a page of an own browser profile."""

    def __init__(self, browser: Any, address: str, name: str) -> None:
        self.address, self.name = address, name
        self.context = browser.new_context(viewport={"width": 1440, "height": 900})
        self.troubles: list[str] = []
        self.asked: list[str] = []
        self.tab = self.new_tab()
        self.tab.goto(address)
        self.tab.fill("#door-name", name)
        self.tab.keyboard.press("Enter")
        self.tab.wait_for_url(f"{address}/a/{name}")
        self.ready()

    def new_tab(self) -> Any:
        tab = self.context.new_page()
        tab.on("pageerror", lambda e: self.troubles.append(str(e)))
        tab.on("request", lambda r: self.asked.append(r.url))
        return tab

    def ready(self) -> None:
        """Until the clip is there: drawn, and loaded by the player."""
        until(self.tab, "!document.getElementById('desk').hidden")
        until(
            self.tab, "document.getElementById('video').readyState >= 2 && document.getElementById('busy').hidden"
        )

    @property
    def clip(self) -> str:
        return text_of(self.tab, "#title small").strip()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.keyboard.press(key)

    def judge(self, *keys: str) -> None:
        """Press keys that end in a verdict, and wait for the next clip."""
        before = self.clip
        self.press(*keys)
        until(
            self.tab,
            f"document.querySelector('#title small')?.textContent.trim() !== {json.dumps(before)} "
            "|| document.getElementById('say').textContent.startsWith('All clips')",
        )
        if not text_of(self.tab, "#say").startswith("All clips"):
            self.ready()

    def time(self) -> float:
        return float(text_of(self.tab, "#time").split(" s")[0])

    def marker(self, sense: str, number: int = 1) -> Any:
        return self.tab.locator(f"[data-marker='{number - 1}-{sense}']")

    def at(self, sense: str) -> float:
        return float(self.marker(sense).get_attribute("aria-valuenow"))


@pytest.mark.timeout(
    600
)  # seconds on a machine of one's own; a crowded one takes minutes to draw video in software
def test_the_page_is_worked_by_keys_and_says_what_it_is(browser: Any, tmp_path: Path) -> None:
    frames = np.full((50, 90, 160, 3), 90, np.uint8)
    frames[25:] = 200
    wave = np.zeros((1, 32_000), np.float32)
    wave[0, 16_000:17_600] = 0.5 * np.sin(np.arange(1600) / 3)
    for name in ("a", "b"):
        media.write_clip(frames, 25, wave, 16_000, tmp_path / f"{name}.mp4")
    (tmp_path / "a<img src=x onerror=alert(1)>.mp4").write_bytes((tmp_path / "b.mp4").read_bytes())
    rows = [
        {
            "path": f"{name}.mp4",
            "heard": ["<b>bell</b>"],
            "events": [{"what": "<i>ring", "seen": 1.0, "heard": 1.0}],
        }
        for name in ("a", "b", "a<img src=x onerror=alert(1)>")
    ]
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with review.opened(tmp_path) as desk, review.running(desk) as address:
        anna = Person(browser, address, "anna")
        tab = anna.tab
        assert text_of(tab, "#claim").split() == ["Claimed:", "seen", "nothing", "heard", "<b>bell</b>"]
        assert tab.locator("#claim b, .chip i, #title img").count() == 0, "names are text, never markup"
        first = anna.clip
        anna.press("ArrowRight", "ArrowRight")
        assert anna.time() == 0.08
        anna.press("ArrowLeft", "Shift+ArrowRight")
        assert anna.time() == 0.54
        anna.press("Space")
        until(tab, "document.getElementById('video').currentTime > 0.7")
        anna.press("x", "Space")
        assert tab.evaluate("[video.playbackRate, video.paused]") == [0.5, True]
        anna.press("m", "v")
        assert tab.evaluate("video.muted")
        assert tab.is_visible("#veil")
        anna.press("m", "v")
        anna.press("a", "p")  # nothing marked yet: accepting marks all; then back
        until(tab, f"document.querySelector('#title small')?.textContent.trim() === {json.dumps(first)}")
        anna.ready()
        assert tab.get_attribute("#accept", "aria-pressed") == "true"
        anna.press("r")
        assert text_of(tab, "#say").startswith("Why?"), "rejecting needs a reason"
        anna.press("2")
        assert tab.locator("[data-name=audio_purity].no").count() == 1
        anna.press("2")
        assert tab.locator("[data-name=audio_purity].yes").count() == 1
        anna.press("2")
        anna.press("a")
        assert "marked “no”" in text_of(tab, "#say")
        anna.press("c")
        tab.keyboard.type("a n r 2 ?")  # keys in a comment are letters
        anna.press("Escape", "?")
        assert tab.is_visible("#keys")
        anna.press("Escape")
        anna.marker("seen").focus()
        anna.press("ArrowRight")
        assert (anna.at("seen"), anna.time()) == (1.04, 1.04)
        anna.marker("heard").focus()
        anna.press("Alt+ArrowLeft", "Alt+ArrowLeft", "Shift+ArrowLeft")
        assert anna.at("heard") == 0.59
        anna.press("Delete")
        assert "heard never" in text_of(tab, ".chip")
        anna.press("h")  # at the playhead again
        assert anna.at("heard") == anna.time()
        names = tab.evaluate(
            "[...document.querySelectorAll('#desk button, #desk textarea, #desk canvas:not([aria-hidden])')]"
            ".filter(e => !(e.getAttribute('aria-label') || e.labels?.[0]?.textContent || e.textContent.trim()))"
            ".map(e => e.outerHTML)"
        )
        assert names == []
        for width, height in ((1440, 900), (1000, 700)):
            tab.set_viewport_size({"width": width, "height": height})
            tab.wait_for_timeout(50)
            assert tab.evaluate(
                "(d => [d.scrollWidth <= innerWidth, d.scrollHeight <= innerHeight])(document.documentElement)"
            ) == [True, True]
        anna.judge("r")
        until(tab, "document.getElementById('saved').textContent === 'all saved'")
        last = desk.votes.last("anna")[first]
        assert (last.accept, last.audio_purity, last.comment) == (False, False, "a n r 2 ?")
        assert (last.events[0].what, last.events[0].seen) == ("<i>ring", 1.04)
        assert anna.troubles == []
        assert all(url.startswith((address, "data:")) for url in anna.asked)


class Server:
    """The verb in a process of its own."""

    def __init__(self, clips: Path, port: int = 0) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "earwitness.cli", "review", str(clips), "--port", str(port)],
            stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://[\d.]+:(\d+)", line)
        assert found, line
        self.address, self.port = found[0], int(found[1])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        told, _ = self.process.communicate(timeout=60)
        return told


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Any]:
    """Starts servers; none outlives the test."""
    started: list[Server] = []

    def start(port: int = 0) -> Server:
        started.append(Server(tmp_path / "clips", port))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.kill()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_two_people_from_start_to_consensus_over_a_killed_server(
    browser: Any, servers: Any, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    made = foley.clip_set(5, seed=11, kind="impact")
    foley.write(clips, made)
    truth = {c.id: c.events[0] for c in made.clips}
    agreed, split, dragged, apart, never = truth
    server = servers()
    anna, bob = (Person(browser, server.address, name) for name in ("anna", "bob"))

    moved = {}
    for _ in range(5):
        clip = anna.clip
        event = truth[clip]
        assert anna.at("heard") == pytest.approx(event.heard, abs=1e-3)
        if clip == dragged:  # with the mouse, by about 0.2 s
            box = anna.tab.locator("#lanes").bounding_box()
            flag = anna.marker("heard").locator("span").bounding_box()
            x, y = flag["x"] + flag["width"] / 2, flag["y"] + flag["height"] / 2
            anna.tab.mouse.move(x, y)
            anna.tab.mouse.down()
            anna.tab.mouse.move(x + 0.2 / 6 * box["width"] / 2, y, steps=3)
            anna.tab.mouse.move(x + 0.2 / 6 * box["width"], y, steps=3)
            anna.tab.mouse.up()
            moved[clip] = anna.at("heard")
            assert moved[clip] == pytest.approx(event.heard + 0.2, abs=0.01)
            anna.judge("a")
        elif clip == apart:  # with the keys, by 20 pictures
            anna.marker("heard").focus()
            anna.press("Shift+ArrowRight", "Shift+ArrowRight")
            moved[clip] = anna.at("heard")
            assert moved[clip] == pytest.approx(event.heard + 0.8, abs=0.01)
            anna.judge("a")
        elif clip == never:
            anna.judge("3", "r")
        else:
            anna.press("Space")
            until(anna.tab, "document.getElementById('video').currentTime > 0.3")
            anna.press("Space")
            anna.judge("a")
    assert text_of(anna.tab, "#count") == "5 of 5 judged"

    def decide(clip: str) -> None:
        bob.judge(*(("2", "r") if clip in (split, never) else ("a",)))

    decide(bob.clip)
    until(bob.tab, "document.getElementById('saved').textContent === 'all saved'")
    server.kill()
    decide_offline = bob.clip
    bob.press(*(("2", "r") if decide_offline in (split, never) else ("a",)))
    until(bob.tab, "document.getElementById('saved').textContent.includes('1 vote kept here')")
    with (clips / "review/annotators/bob/votes.jsonl").open("ab") as file:
        file.write(b'{"id": "torn by a power cut')
    bob.tab.wait_for_timeout(300)
    bob.tab.close()  # and the tab dies as well
    assert len(review_votes.read_votes(clips / "review")["bob"]) == 1
    server = servers(server.port)
    bob.tab = bob.new_tab()
    bob.tab.goto(f"{server.address}/a/bob")
    bob.ready()
    until(bob.tab, "document.getElementById('saved').textContent === 'all saved'")
    until(bob.tab, "document.getElementById('count').textContent === '2 of 5 judged'")
    bob.press("c")
    bob.tab.keyboard.type("half a thought")
    bob.press("Escape", "n")  # a draft outlives leaving and reloading
    bob.tab.wait_for_timeout(200)
    bob.tab.reload()
    bob.ready()
    bob.press("p")
    until(bob.tab, "document.getElementById('comment').value === 'half a thought'")
    bob.ready()
    while not text_of(bob.tab, "#count").startswith("5 of 5"):
        decide(bob.clip)
    until(bob.tab, "document.getElementById('count').textContent === '5 of 5 judged'")
    until(bob.tab, "document.getElementById('saved').textContent === 'all saved'")
    assert anna.troubles == bob.troubles == []
    outside = [u for u in anna.asked + bob.asked if not u.startswith((server.address, "data:", "blob:"))]
    assert outside == []
    told = server.stop()
    assert "What became of the clips" in told
    assert server.process.returncode == 0

    votes = review_votes.read_votes(clips / "review")
    assert {name: len(v) for name, v in votes.items()} == {"anna": 5, "bob": 5}, "nothing lost, nothing twice"
    run = [sys.executable, "-m", "earwitness.cli", "review", str(clips), "--export", str(tmp_path / "passed")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    passed = {c.id: c for c in folder.read(tmp_path / "passed").clips}
    assert set(passed) == {agreed, dragged}
    assert passed[agreed].events == (truth[agreed],)
    assert passed[dragged].events[0].heard == pytest.approx((truth[dragged].heard + moved[dragged]) / 2, abs=1e-4)
    assert passed[dragged].events[0].seen == truth[dragged].seen
    rows = csv.DictReader(io.StringIO((tmp_path / "passed/left_out.csv").read_text()))
    assert {row["clip"]: row["outcome"] for row in rows} == {
        split: "split", apart: "times differ", never: "rejected"
    }  # fmt: skip
    (again,) = review_queue.read(tmp_path / "passed/disagreements.jsonl").cases
    assert again.clip.id == apart
    assert "heard: anna" in again.why
