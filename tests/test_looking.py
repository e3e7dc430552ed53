"""Looking inside a run, as the verbs do it: trace and knockout with Hans, resumed, refused, and in the report."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from earwitness import run as runs
from earwitness import session
from earwitness.cli import app
from earwitness.compare import compare_runs
from earwitness.whitebox import knockout, store

pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("few_media")
QUICK = {
    "mma_styles": "standard", "seeds": "0", "mma_conditions": "aligned,audio_swapped,long_context",
    "long_context_tokens": "20",
}  # fmt: skip


@pytest.fixture(scope="module")
def audited(few_media: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inside") / "run"
    job = session.prepare(model="hans", clips="foley", protocols=["mma"], limit=3, seed=3, settings=QUICK)
    session.run(job, folder)
    return folder


@pytest.fixture
def run(audited: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(audited, tmp_path / "run"))


def test_a_run_is_traced_once_and_its_report_shows_the_inside(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Inside the model" not in (run / "report.html").read_text()
    calls: list[tuple[int, int]] = []
    first = session.trace(run, heat_layers=[2], progress=lambda *n: calls.append(n))
    answered = [a for a in runs.read_answers(run).values() if a.text]
    assert first.items == first.new == len(answered) == calls[-1][0] == calls[-1][1]
    assert first.drift is not None
    assert first.drift < 1e-3, "Hans replays what he said"
    assert first.far == 0
    assert not first.failed
    assert "Inside the model" in (run / "report.html").read_text()
    written: list[Path] = []
    # From here on the same page would be drawn again: seconds of charts.
    monkeypatch.setattr("earwitness.session.looking.pages.build", written.append)
    again = session.trace(run, heat_layers=[2])
    assert (again.items, again.new) == (first.items, 0)
    assert session.trace(run, limit=1).new == 0
    assert written == [run, run]


def test_a_long_context_is_read_as_it_was_asked(run: Path) -> None:
    session.trace(run, conditions=["aligned", "long_context"])
    trace, items = store.read(run), {i.id: i for i in runs.read_items(run)}
    length = {items[name].condition: int(count.sum()) for name, count in zip(trace.items, trace.count, strict=True)}
    assert length["long_context"] >= length["aligned"] + 20


def test_answers_of_another_model_are_flagged(run: Path) -> None:
    path = run / "answers.jsonl"
    answers = runs.read_answers(run).values()
    off = [msgspec.structs.replace(a, logprob=(a.logprob or 0.0) - 5.0) for a in answers]
    path.unlink()
    runs.write_lines(path, off)
    found = session.trace(run, conditions=["aligned"])
    assert found.far == found.new > 0


def test_a_clip_that_is_gone_is_named_and_the_others_are_traced(run: Path) -> None:
    clips = run / "items.jsonl"
    items = runs.read_items(run)
    gone = items[0].clip
    renamed = [msgspec.structs.replace(i, clip="no-such-clip") if i.clip == gone else i for i in items]
    runs.write_lines(clips, renamed)
    found = session.trace(run)
    assert found.failed
    assert all("no-such-clip" in why for why in found.failed.values())
    assert found.items == len(items) - len(found.failed)


def test_two_traced_runs_are_compared_inside(run: Path, tmp_path: Path) -> None:
    session.trace(run)
    other = Path(shutil.copytree(run, tmp_path / "other"))
    ids = {t.id for t in compare_runs(run, other)}
    assert any(name.startswith("trace_") for name in ids)


def test_paths_are_cut_and_shown(run: Path) -> None:
    tables = session.knockout(
        run, edges=["video->answer"], layers="all", controls=1, limit=2, conditions=["audio_swapped"]
    )
    assert tables
    cuts = knockout.read(run)
    assert cuts
    assert all(c.edge == "video->answer" for c in cuts)
    session.knockout(run, edges=["video->answer"], layers="all", controls=1, limit=2, conditions=["audio_swapped"])
    assert len(knockout.read(run)) == len(cuts), "nothing is measured twice"
    assert "Inside the model" in (run / "report.html").read_text()


def test_what_cannot_be_looked_into_says_so(run: Path) -> None:
    info = runs.read_info(run)
    for name in ("openai:http://127.0.0.1:1/v1#m", "gemini:x", "fake:hears"):
        info.model = name
        runs.write_info(run, info)
        done = CliRunner().invoke(app, ["trace", str(run)])
        assert done.exit_code == 2
        assert "cannot be looked into" in " ".join(done.output.split())
    done = CliRunner().invoke(app, ["trace", str(run), "-m", "fake:hears"])
    assert done.exit_code == 2


def test_what_is_amiss_is_told_before_the_model_is_loaded(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(*_: object, **__: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("earwitness.session.looking.load_model", loads)
    for inside in (session.trace, lambda *a, **k: session.knockout(*a, edges=["audio->answer"], **k)):
        with pytest.raises(ValueError, match="a limit of 0 clips"):
            inside(run, limit=0)
        with pytest.raises(runs.RunError, match="no item of condition 'swaped'; there are aligned"):
            inside(run, conditions=["swaped"])
    with pytest.raises(ValueError, match="no tokens called 'sound'"):
        session.knockout(run, edges=["sound->answer"])


def test_the_verbs_say_what_they_did(run: Path) -> None:
    done = CliRunner().invoke(app, ["trace", str(run), "--condition", "aligned", "--heat", "1"])
    assert done.exit_code == 0, done.output
    assert "items traced" in done.output
    for wrong in (["--heat", "99"], ["--heat", "x"], ["--condition", "nothing"]):
        assert CliRunner().invoke(app, ["trace", str(run), *wrong]).exit_code == 2
    wrong_edge = CliRunner().invoke(app, ["knockout", str(run), "--edge", "smell->answer"])
    assert wrong_edge.exit_code == 2


def test_an_audit_may_trace_at_once_and_refuses_what_has_no_inside(tmp_path: Path) -> None:
    quick = [f"--set={k}={v}" for k, v in {**QUICK, "mma_conditions": "aligned"}.items()]
    common = ["--clips", "foley", "--protocol", "mma", "--limit", "2", "--trace", *quick]
    done = CliRunner().invoke(app, ["audit", "-m", "hans", "--out", str(tmp_path / "a"), *common])
    assert done.exit_code == 0, done.output
    assert store.read(tmp_path / "a").items
    refused = CliRunner().invoke(app, ["audit", "-m", "fake:hears", "--out", str(tmp_path / "b"), *common])
    assert refused.exit_code == 2
    assert not (tmp_path / "b").exists(), "refused before anything is asked"
