"""Lay out the page: run folder in, ``report.html`` and ``charts/`` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from earwitness import run as runs
from earwitness.records import Judged, Table, how_many
from earwitness.report import cells, charts, layout, players, telling
from earwitness.report.figures import unscored
from earwitness.report.published import beside
from earwitness.report.verdict import Verdict, percent, spoken_name, verdict
from earwitness.report.within import within
from earwitness.report.words import GLOSSARY, PROTOCOLS

TELLING = 10
SHOWN_FIRST = 4  # players open at once; the others a click away


def headline(folder: Path) -> str:
    """The verdict on a run, one sentence in plain words."""
    return verdict(runs.read_info(folder).model, runs.judged(folder)).sentence


def build(folder: Path, *, embed: bool = False) -> Path:
    """Write ``report.html`` and ``charts/`` into a run folder; returns the page's path.

    Parameters
    ----------
    embed : put the telling clips into the page (one file to send), instead of pointing to ``media/``.

    Raises
    ------
    RunError
        Where the folder holds no run, or answers without scores.
    """
    info, judged, tables = runs.read_info(folder), runs.judged(folder), runs.read_tables(folder)
    clips = {clip.id: clip for clip in runs.read_clips(folder)} if (folder / "clips.jsonl").exists() else {}
    result = verdict(info.model, judged)
    pairs = telling.choose(judged, TELLING)
    drawn, inside = charts.charts(judged, tables), within(folder)
    pictures = charts.write([*drawn, *inside.charts], folder / "charts")
    page = layout.fill(
        "page.html",
        drawn=bool(pictures),
        info=info,
        name=spoken_name(info.model),
        verdict=result,
        any_chance=any(f.chance is not None for f in result.figures),
        answered=sum(j.answer.error is None for j in judged),
        players=players.make(folder, pairs, clips, embed=embed),
        chosen=_chosen(judged),
        shown_first=SHOWN_FIRST,
        charts=layout.figures(drawn, pictures, folder / "charts", embed=embed),
        protocols=by_protocol([*tables, *beside(spoken_name(info.model), tables)]),
        inside=layout.figures(inside.charts, pictures, folder / "charts", embed=embed),
        inside_grids=[cells.grid(t) for t in inside.tables],
        inside_left=inside.left,
        checks=cells.checks(info.checks),
        check_says=_check_says(info.checks),
        fed=cells.fed(judged),
        sent=_sent(judged),
        failures=cells.failures(judged),
        failure_says=_failure_says(judged, info.item_count),
        facts=_facts(info),
        glossary=GLOSSARY,
        sections=_sections(result, bool(drawn), bool(inside.tables)),
    )
    return layout.write(page, folder / "report.html")


def by_protocol(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Tables under the protocol whose name their id begins with; others under a heading of their own."""
    groups: dict[str, list[Table]] = {}
    for table in tables:
        bare = table.id.removeprefix("compare-").replace("-", "_").removeprefix("av_")
        name = next((name for name in PROTOCOLS if bare.startswith(name.removeprefix("av_"))), "")
        groups.setdefault(name, []).append(table)
    out = []
    for name, group in groups.items():
        title, words, source = PROTOCOLS.get(name, ("More tables", "", ""))
        out.append({"title": title, "words": words, "source": source, "grids": [cells.grid(t) for t in group]})
    return out


def _chosen(judged: Sequence[Judged]) -> str:
    pairs = telling.comparable(judged)
    if not pairs:
        return ""
    wrong = sum(telling.was_fooled(p) for p in pairs)
    return (
        "They were picked by a rule, not by hand: spread over clips and kinds of change, and with as many wrong "
        f"answers, in proportion, as among all {how_many(len(pairs), 'pair')} with a changed sound: there the "
        "answer after "
        f"the change is wrong in {percent(wrong / len(pairs))}."
    )


def _sent(judged: Sequence[Judged]) -> bool:
    """Whether the receipts are of what was sent to a server."""
    return any(j.answer.fed is not None and j.answer.fed.measured == "sent" for j in judged)


def _check_says(checks: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for organ, key, what in (("audio", "audio_hash", "sound"), ("visual", "video_hash", "picture")):
        mine = [c for c in checks if c.get("organ") == organ]
        proof = next((c["proof"] for c in mine if c.get("proof")), None)
        if proof is not None:  # a served model: receipts are of what was sent, and prove nothing
            parts.append(f"The {what}: {proof}.")
            continue
        group = [c for c in mine if (c.get("fed") or {}).get(key)]
        if not group:
            continue
        different = len({c["fed"][key] for c in group})
        said = len({c.get("text") for c in group})
        reached = f"The {what} reaches the model" if different > 1 else f"No change of the {what} reached the model"
        parts.append(
            f"{reached}: {len(group)} different {what}s left {different} different receipts and drew "
            + (f"{said} different answers." if said > 1 else "the same answer each time.")
        )
    return " ".join(parts) or "The model gives no receipts, so only its answers were compared."


def _failure_says(judged: Sequence[Judged], planned: int) -> str:
    errors = sum(j.answer.error is not None for j in judged)
    unread = sum(unscored(j) for j in judged) - errors
    open_ = max(0, planned - len(judged))
    says = (
        f"Of {how_many(len(judged), 'answer')}, {errors:,} failed and {unread:,} could not be read or refused to "
        "say."
    )
    if open_:
        says += f" {how_many(open_, 'question of the plan has', 'questions of the plan have')} not been asked yet."
    return says + " None of these was scored or guessed."


def _facts(info: runs.Info) -> list[tuple[str, str]]:
    def flat(values: Mapping[str, Any]) -> str:
        return ", ".join(f"{k} {_plain(v)}" for k, v in values.items() if v is not None)

    facts = [
        ("model", info.model), ("revision", info.revision), ("protocols", ", ".join(info.protocols)),
        ("clips", f"{info.clips} ({info.clip_count:,})"), ("questions", f"{info.item_count:,}"),
        ("asked before at", ", ".join(info.earlier)), ("seed", str(info.seed)), ("decoding", info.decoding),
        ("what the model sees", flat(info.view)),
        ("settings", flat(info.settings)), ("versions", flat(info.versions)), ("code", info.git),
        ("plan", info.plan), ("work done", flat(info.stats)), ("started", info.created),
        ("finished", info.finished or "not yet"),
    ]  # fmt: skip
    return [(key, value) for key, value in facts if value]


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(_plain(v) for v in value) + ")"
    return str(value)


def _sections(result: Verdict, any_chart: bool, looked_inside: bool) -> list[tuple[str, str]]:
    return [
        *([("figures", "Key figures")] if result.figures else []),
        ("watch", "See and hear"),
        *([("charts", "Charts")] if any_chart else []),
        ("tables", "Tables"),
        *([("inside", "Inside the model")] if looked_inside else []),
        ("trust", "Can it be trusted?"),
        ("again", "Run it again"),
        ("words", "Words"),
    ]
