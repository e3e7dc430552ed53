"""From words to page: each control gets exactly the table that its wiring implies, and a run can be resumed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from earwitness import run as runs
from earwitness import session
from earwitness.records import Estimate, Table
from tables import cell, value

CLIPS = 12  # every class once
QUICK = {"long_context_tokens": "50", "seeds": "0"}


@pytest.fixture(scope="module")
def audited(conditions_once: None) -> dict[str, Path]:
    """Run folders of all controls, made once."""
    return {}


def _tables(kind: str, audited: dict[str, Path], factory: pytest.TempPathFactory) -> dict[str, Table]:
    if kind not in audited:
        folder = factory.mktemp("runs") / kind
        job = session.prepare(model=f"fake:{kind}", clips="foley", limit=CLIPS, seed=5, settings=QUICK)
        folder.mkdir()
        runs.write_info(folder, job.info)
        runs.write_lines(folder / "items.jsonl", job.items)
        from earwitness import audit

        audit.ask(job.model, job.clips, job.items, folder)
        audited[kind] = folder
    return {t.id: t for t in session.score(audited[kind])}


def test_a_listener_is_right_everywhere(audited: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    t = _tables("hears", audited, tmp_path_factory)
    for row in ("aligned", "sham", "audio swapped", "misleading caption", "long context"):
        assert value(t["mma_accuracy"], row, "visual question") == 1
        assert value(t["mma_accuracy"], row, "audio question") == 1
    assert value(t["mma_follow"], "audio question", "follows the sound") == 1
    assert value(t["mma_follow"], "audio question", "follows the picture") == 0
    assert value(t["mma_leaks"], "audio removed, audio question, may abstain", "abstains") == 1


def test_a_watcher_follows_the_picture_everywhere(
    audited: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    t = _tables("sees", audited, tmp_path_factory)
    assert value(t["mma_accuracy"], "aligned", "audio question") == 1
    assert value(t["mma_accuracy"], "audio swapped", "audio question") == 0
    assert value(t["mma_accuracy"], "audio swapped", "visual question") == 1
    assert value(t["mma_follow"], "audio question", "follows the picture") == 1
    assert value(t["mma_leaks"], "audio removed, audio question", "leak") == 1


def test_always_yes_has_no_sensitivity(audited: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    t = _tables("yes", audited, tmp_path_factory)
    muted = t["confuse_muted_leading"]
    row = muted.rows[0].label
    assert value(muted, row, "PA") == 1
    assert value(muted, row, "HR") == 0
    assert value(muted, row, "balanced accuracy") == 0.5
    assert abs(value(muted, row, "d'")) < 1e-9


def test_always_no_scores_full_marks_only_as_published(
    audited: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    t = _tables("no", audited, tmp_path_factory)
    muted = t["confuse_muted_leading"]
    published = next(r.label for r in muted.rows if "as published" in r.label)
    assert value(muted, published, "HR") == 1
    assert value(muted, muted.rows[0].label, "balanced accuracy") == 0.5


def test_always_synced_sees_no_shift(audited: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    t = _tables("synced", audited, tmp_path_factory)
    axes = t["thud_axes_neutral"]
    rows = {r.label: r for r in axes.rows if r.kind == "model"}
    blind = next(label for label in rows if label.lower().startswith("offset blindness"))
    alarm = next(label for label in rows if label.lower().startswith("false sync alarm"))
    estimates = {k: next(c for c in rows[k].cells if isinstance(c, Estimate)) for k in (blind, alarm)}
    assert estimates[blind].value == 1
    assert estimates[alarm].value == 0


@pytest.mark.parametrize("kind", ["crashes", "silent", "parrot"])
def test_failures_are_counted_and_bounded_never_scored(
    kind: str, audited: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = _tables(kind, audited, tmp_path_factory)["mma_accuracy"]
    aligned = table.rows[0]
    unscored = sum(int(cell(table, aligned.label, c) or 0) for c in ("unparsed", "refused", "failed"))  # type: ignore[arg-type]
    answers = cell(table, aligned.label, "answers")
    assert isinstance(answers, int)
    low, high = cell(table, aligned.label, "lowest"), cell(table, aligned.label, "highest")
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert unscored > 0
    assert high - low == pytest.approx(unscored / answers)
    if kind != "crashes":
        assert unscored == answers


def test_a_deaf_harness_is_refused_before_any_question(tmp_path: Path) -> None:
    job = session.prepare(model="fake:deaf", clips="foley", protocols=["mma"], limit=2, settings=QUICK)
    with pytest.raises(session.Refused, match="deaf"):
        session.run(job, tmp_path / "run")
    assert not (tmp_path / "run" / "answers.jsonl").exists()


@pytest.mark.usefixtures("few_media")
def test_a_run_ends_in_a_page_and_the_same_call_asks_nothing_again(tmp_path: Path) -> None:
    job = session.prepare(model="fake:sees", clips="foley", protocols=["mma"], limit=3, settings=QUICK)
    result = session.run(job, tmp_path / "run")
    assert "does not listen" in result.headline or "too few" in result.headline.lower()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<video" in page
    before = (tmp_path / "run" / "answers.jsonl").read_bytes()
    session.run(job, tmp_path / "run")
    assert (tmp_path / "run" / "answers.jsonl").read_bytes() == before
    assert runs.read_info(tmp_path / "run").stats["asked"] == len(job.items)


def test_another_audit_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    job = session.prepare(model="fake:sees", clips="foley", protocols=["mma"], limit=2, settings=QUICK)
    tmp_path.joinpath("run").mkdir()
    runs.write_info(tmp_path / "run", msgspec.structs.replace(job.info, plan="other"))
    with pytest.raises(runs.RunError, match="another plan"):
        session.run(job, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "fake:nobody"}, "nobody"),
        ({"protocols": ["mmma"]}, "mmma"),
        ({"clips": "no/such/folder"}, "no such folder"),
        ({"settings": {"sedes": "1"}}, "sedes"),
        ({"settings": {"ladder": "400"}}, "milliseconds"),
        ({"limit": 0}, "at least one"),
    ],
)
def test_bad_words_are_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        session.prepare(**{"model": "fake:sees", "limit": 2, **change})  # type: ignore[arg-type]
