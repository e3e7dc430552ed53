"""A run that is taken up again: what was spent counts, what was left out is said, a server may have moved."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from earwitness import foley, session
from earwitness import run as runs
from faulty_server import Server, running

pytest.importorskip("openai")
pytestmark = pytest.mark.usefixtures("few_media")

QUICK = {"seeds": "0", "mma_styles": "standard", "mma_conditions": "aligned,audio_swapped", "max_pixels": "3136"}
PRICES = {"price_in": "1", "price_out": "1"}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("EARWITNESS_API_KEY", raising=False)


def _job(server: Server, command: str = "", **settings: Any) -> session.Job:
    return session.prepare(
        model=f"openai:{server.url}#m", protocols=["mma"], limit=2, settings={**QUICK, **settings}, command=command
    )


def test_what_a_stopped_run_has_cost_counts_and_its_server_may_move(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with running(Server()) as server, pytest.raises(ValueError, match="spent in the ear and eye check"):
        session.run(_job(server, max_tokens="300"), folder)
    spent = runs.read_info(folder).stats
    tokens = spent["prompt_tokens"] + spent["completion_tokens"]
    assert tokens > 0, "the check is paid for too"
    with running(Server()) as server:
        with pytest.raises(ValueError, match=rf"of which {tokens:.0f} earlier\) of 301 tokens"):
            session.run(_job(server, max_tokens="301"), folder)
        moved = _job(server, "the new command", max_cost="5", **PRICES)
        session.run(moved, folder)
        info = runs.read_info(folder)
        assert info.model == moved.model.name
        assert len(info.earlier) == 1
        assert info.earlier[0].endswith("#m")
        assert info.command == "the new command"
        assert info.settings["max_cost"] == 5
        assert info.stats["prompt_tokens"] > spent["prompt_tokens"]
        assert info.earlier[0] in (folder / "report.html").read_text()
        with pytest.raises(runs.RunError, match="sampled otherwise"):
            session.run(_job(server, fps="1"), folder)
    with running(Server(models=("n", "m"))) as server:
        other = session.prepare(model=f"openai:{server.url}#n", protocols=["mma"], limit=2, settings=QUICK)
        with pytest.raises(runs.RunError, match="another model"):
            session.run(other, folder)


def test_hans_is_known_by_the_name_that_the_server_gives() -> None:
    with running(Server(models=("hans",))) as server:
        job = session.prepare(model=f"openai:{server.url}", protocols=["mma"], limit=2, settings=QUICK)
        job.model.close()  # type: ignore[attr-defined]
        assert job.info.settings["long_context_tokens"] == 400
        told = {**QUICK, "long_context_tokens": "7"}
        job = session.prepare(model=f"openai:{server.url}", protocols=["mma"], limit=2, settings=told)
        job.model.close()  # type: ignore[attr-defined]
        assert job.info.settings["long_context_tokens"] == 7


def test_a_judge_with_nothing_to_read_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(ValueError, match="no question that is answered freely"):
        session.prepare(model="fake:hears", protocols=["mma"], limit=2, settings={**QUICK, "judge": "fake:hears"})
    with pytest.raises(ValueError, match="--judge: no server answers"):
        session.prepare(
            model="fake:hears", protocols=["thud"], limit=2, settings={"judge": "openai:http://127.0.0.1:9/v1#m"}
        )


def test_the_way_on_after_a_judge_that_stops_is_a_command(tmp_path: Path) -> None:
    with running(Server(fault=lambda c: "status 401")) as server:
        judge = f"openai:{server.url}#m"
        job = session.prepare(
            model="fake:hears", protocols=["thud"], limit=2,
            settings={"judge": judge, "ladder": "1.2", "thud_conditions": "original,mute"},
        )  # fmt: skip
        result = session.run(job, tmp_path / "a run")
    assert f"go on with: earwitness score '{tmp_path}/a run' --judge '{judge}'" in result.warnings[0]


def test_the_report_says_what_is_missing_and_shows_no_truth_that_is_not_known(tmp_path: Path) -> None:
    scene = foley.FoleyClips(list(foley.clip_set(1, seed=3, duration=1.0).clips))
    scene.file(scene.clips[0], tmp_path / "videos").rename(tmp_path / "videos" / "v1.mp4")
    rows = [
        {
            "video_id": f"v{n}",
            "task": "AV Captioning",
            "text": "Describe what you see and hear.",
            "label": "A thing.",
        }
        if n > 2
        else {"video_id": f"v{n}", "task": "Audio-driven Video Hallucination", "text": "Is it?", "label": "Yes"}
        for n in (1, 2)
    ]
    (tmp_path / "qa.json").write_text(json.dumps(rows))
    job = session.prepare(model="fake:hears", clips=f"avhbench:{tmp_path / 'qa.json'}")
    session.run(job, tmp_path / "run")
    info = runs.read_info(tmp_path / "run")
    assert (info.clips_named, info.clips_missing) == (2, 1)
    assert any("media of 1 of 2 clips are not there" in line for line in info.left_out)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Of the 2 clips that the question file names, the media of 1 were there" in page
    assert "What was left out" in page
    assert '<dl class="truth">' not in page
    assert 'class="pair"' in page, "there is a card, and it says nothing of what is seen or heard"
    known = msgspec.structs.replace(info, clips_missing=0, left_out=[])
    runs.write_info(tmp_path / "run", known)
    again = session.report(tmp_path / "run").read_text()
    assert not re.search("What was left out|that the question file names", again)
