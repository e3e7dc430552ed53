"""How fast the review answers: 10,000 clips, 20,000 votes, over HTTP on this machine.

Run ``python benchmarks/review.py [CLIPS]``. Rows are latencies of requests that an annotator waits for, each sent
200 times on one connection; beside them what merely opening the manifest costs, and as a floor a vote's bytes
forced to the disk by themselves. A clip's first drawing (in a child) and its second (from the disk) are shown
apart: the page asks for the next clip while this one is looked at. Everything must stay below 100 ms but that first
drawing.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from earwitness import foley
from earwitness.curate import review
from earwitness.curate.review import queue as review_queue
from earwitness.curate.review import votes as review_votes
from earwitness.curate.review.votes import Vote

TIMES = 200
MOST = 100.0  # milliseconds


def manifest(home: Path, count: int) -> Path:
    """A labels file of ``count`` clips that are links to one file, so that only the number of clips counts."""
    (home / "one").mkdir(parents=True)
    foley.write(home / "one", foley.clip_set(1, seed=1, kind="impact"))
    (source,) = (home / "one").glob("*.mp4")
    with (home / "labels.jsonl").open("w") as file:
        for number in range(count):
            os.link(source, home / f"c{number}.mp4")
            row = {"path": f"c{number}.mp4", "seen": ["bell"], "heard": ["bell"], "source": f"s{number // 3}",
                   "events": [{"what": "bell", "seen": 3.0, "heard": 3.0}]}  # fmt: skip
            file.write(json.dumps(row) + "\n")
    return home / "labels.jsonl"


def vote(case: review_queue.Case, number: int) -> Vote:
    """A vote that takes everything as claimed."""
    said = dict.fromkeys(review_votes.CRITERIA, True)
    return Vote(
        id=f"vote-{number:08d}", clip=case.clip.id, about=case.about, accept=True, events=case.clip.events, **said
    )


def voted(queue: review_queue.Queue, home: Path) -> None:
    """Votes of two people on every clip, written at once: what a server finds when it is started again."""
    for name in ("bob", "eve"):
        (home / "annotators" / name).mkdir(parents=True)
        lines = [msgspec.json.encode(vote(case, n)) + b"\n" for n, case in enumerate(queue.cases)]
        (home / "annotators" / name / "votes.jsonl").write_bytes(b"".join(lines))


def timed(does: Callable[[], object], times: int = TIMES) -> tuple[float, float]:
    """Median and 99th percentile in milliseconds."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        does()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken), sorted(taken)[min(times - 1, round(0.99 * times))]


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        path = manifest(home, count)
        start = time.perf_counter()
        queue = review_queue.read(path)
        reading = time.perf_counter() - start
        voted(queue, home / "review")
        start = time.perf_counter()
        with review.opened(path) as desk:
            opening = time.perf_counter() - start
            with review.running(desk) as address:
                measure(desk, address, home, count)
        start = time.perf_counter()
        review.agreement(path)
        deciding = time.perf_counter() - start
    print(f"\nreading the manifest of {count:,} clips  {reading:7.2f} s")
    print(f"opening it with {2 * count:,} votes      {opening:7.2f} s")
    print(f"consensus and kappa of all        {deciding:7.2f} s")


def measure(desk: review.Desk, address: str, home: Path, count: int) -> None:
    """The table of latencies."""
    key = desk.votes.claim("anna")
    parts = urlsplit(address)
    line = http.client.HTTPConnection(str(parts.hostname), parts.port or 80, timeout=60)

    def ask(path: str, body: Any = None) -> Any:
        content = None if body is None else msgspec.json.encode(body)
        headers = {"X-Review-Key": key, "Content-Type": "application/json"}
        line.request("GET" if body is None else "POST", path, content, headers)
        reply = line.getresponse()
        got = reply.read()
        assert reply.status == 200, got
        return got

    start = time.perf_counter()
    ask("/api/a/anna")
    first = 1000 * (time.perf_counter() - start)
    start = time.perf_counter()
    facts = msgspec.json.decode(ask("/media/0/facts"))
    cold = 1000 * (time.perf_counter() - start)
    start = time.perf_counter()
    ask("/media/1/facts")
    warm = 1000 * (time.perf_counter() - start)
    numbers = iter(range(10**8, 10**9))
    places = iter(range(10**9))
    cases = desk.queue.cases
    alone = (home / "floor").open("ab", buffering=0)
    line_of_vote = msgspec.json.encode(vote(cases[0], 1)) + b"\n"

    def floor() -> None:
        alone.write(line_of_vote)
        os.fsync(alone.fileno())

    base = f"/media/0/{facts['key']}"
    rows: dict[str, Callable[[], object]] = {
        "one's own way (all states)": lambda: ask("/api/a/anna"),
        "a clip": lambda: ask(f"/api/a/anna/clips/{next(places) * 37 % count}"),
        "a vote, on the disk": lambda: ask("/api/a/anna/votes", vote(cases[next(places) % count], next(numbers))),
        "floor: its bytes and an fsync": floor,
        "facts of a drawn clip": lambda: ask("/media/0/facts"),
        "frames": lambda: ask(f"{base}/strip.jpg"),
        "wave": lambda: ask(f"{base}/wave.bin"),
        "spectrogram": lambda: ask(f"{base}/spectrum.png"),
        "the clip's file": lambda: ask(f"{base}/play"),
    }
    print(f"{count:,} clips; {TIMES} requests each        median    99 %  (ms)")
    slow = []
    for name, does in rows.items():
        middle, late = timed(does)
        slow += [name] if middle > MOST else []
        print(f"{name:34}{middle:10.2f}{late:8.2f}")
    alone.close()
    print(f"{'first way of an annotator (order)':34}{first:10.2f}")
    print(f"{'first clip drawn (child starts)':34}{cold:10.2f}")
    print(f"{'next clip drawn':34}{warm:10.2f}")
    if slow:
        sys.exit(f"above {MOST:g} ms: {', '.join(slow)}")


if __name__ == "__main__":
    main()
