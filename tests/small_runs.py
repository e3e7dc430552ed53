"""Small inputs without a model: a run folder (items answered by a rule, some wrong), other harnesses' rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from earwitness import foley, protocols, scoring
from earwitness import run as runs
from earwitness.protocols import Settings
from earwitness.records import Answer, ClipSet, Fed, Item

QUICK = Settings(
    seeds=(0,), mma_styles=("standard",), thud_styles=("direct",), long_context_tokens=5, ladder=(0.8,)
)


def clips(n: int = 4) -> ClipSet:
    """Procedural clips, the same every time."""
    return foley.clip_set(n, seed=3)


def says(number: int, item: Item) -> Answer:
    """Every fifth answer fails, every sixth refuses, every seventh is empty talk; the rest name the target."""
    if number % 5 == 0:
        return Answer(item=item.id, model="rule", error="cuda: out of memory \u2014 \u201c0 bytes\u201d")
    text = "I do not know." if number % 6 == 0 else "Hm \u2026" if number % 7 == 0 else item.target or "something"
    if item.protocol == "thud" and item.question == "shift":
        text = {"SYNC": "A", "DELAY": "B", "EARLY": "C"}.get(text, text)
    elif item.protocol == "thud":
        text = {"SOUND_DESCRIBED": "sound", "SILENT": "silent", "MATCH": "yes", "MISMATCH": "no"}.get(text, text)
    fed = Fed(frames=8, height=64, width=64, audio_seconds=4.0, audio_rms=0.1, audio_tokens=100)
    fed = Fed(frames=8, height=64, width=64) if item.intervention.kind == "no_track" else fed
    logprobs = {c: -float(n + 1) for n, c in enumerate(item.choices)} if item.protocol == "mma" else None
    return Answer(item=item.id, model="rule", text=text, logprobs=logprobs, fed=fed, seconds=0.25)


def write(folder: Path, n: int = 4, names: tuple[str, ...] = ("mma", "thud")) -> Path:
    """The folder as an audit would leave it after ``earwitness score``."""
    found = clips(n)
    items = [i for name in names for i in protocols.load(name).items(found.clips, QUICK)]
    answers = [says(number, item) for number, item in enumerate(items, 1)]
    info = runs.Info(
        model="rule", revision="1", plan=runs.plan_digest(items), created="2026-11-21T08:00:00+00:00",
        protocols=list(names), clips="foley", clip_count=n, item_count=len(items), settings={"seed": 0},
        versions={"earwitness": "0.1.0"}, finished="2026-11-21T08:05:00+00:00",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    runs.write_lines(folder / "clips.jsonl", found.clips)
    runs.write_lines(folder / "items.jsonl", items)
    runs.write_info(folder, info)
    with runs.AnswerLog(folder) as log:
        log.append(answers)
    runs.write_lines(folder / "scores.jsonl", [scoring.score(i, a) for i, a in zip(items, answers, strict=True)])
    return folder


def rows_file(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Rows as JSON lines; returns the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def yes_no(path: Path, answers: Iterable[str], truth: str = "no") -> Path:
    """Answers to yes/no questions with that truth, as another harness might write them."""
    return rows_file(
        path,
        (
            {"video_id": f"v{n}", "question": f"Is there a piano sound? ({n})", "answer": truth, "pred": text}
            for n, text in enumerate(answers)
        ),
    )
