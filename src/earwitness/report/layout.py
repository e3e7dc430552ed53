"""What all pages have in common: templates, styles, scripts by hash, charts with their files, writing in one piece.

A page is one file that asks nothing of the network. Its content policy names its own scripts by hash, so that no
other one can run, whatever a model, a label or a file name says; all text is escaped.

Functions: :func:`fill` a template, :func:`figures` drawn charts for it, :func:`write` the page.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from earwitness.records import Estimate, how_many
from earwitness.report import charts
from earwitness.report.verdict import clips_of, interval, percent

FILES = (
    ("PNG", "png", "image/png"),
    ("SVG", "svg", "image/svg+xml"),
    ("Vega-Lite", "vl.json", "application/json"),
)


def fill(template: str, *, drawn: bool, **values: Any) -> str:
    """The page of a template of this folder. ``drawn``: it has charts, and needs what draws them."""
    runtime = Markup(charts.runtime()) if drawn else Markup("")
    script = Markup(_own("players.js"))
    return _environment().get_template(template).render(
        **values, drawn=drawn, style=Markup(_own("style.css")), runtime=runtime, script=script,
        policy=_policy([str(runtime), str(script)] if drawn else [str(script)]),
    )  # fmt: skip


def write(page: str, path: Path) -> Path:
    """Write a page whole or not at all; returns its path."""
    part = path.with_suffix(".html.tmp")
    part.write_text(page, encoding="utf-8")
    part.replace(path)
    return path


def figures(
    found: Sequence[charts.Chart], pictures: Mapping[str, str], place: Path, *, embed: bool = False
) -> list[dict[str, Any]]:
    """Charts for a template. ``pictures`` and the files in ``place`` (beside the page) are of ``charts.write``."""
    return [_figure(chart, pictures[chart.id], place, embed) for chart in found]


def _figure(chart: charts.Chart, svg: str, place: Path, embed: bool) -> dict[str, Any]:
    files = []
    for label, ending, kind in FILES:
        name = f"{chart.id}.{ending}"
        href = f"{place.name}/{name}"
        if embed:
            data = base64.b64encode((place / name).read_bytes()).decode("ascii")
            href = f"data:{kind};base64,{data}"
        files.append((label, href, f"earwitness-{name}"))
    # Inside a script element only "<" can end it; as an escape it means the same to a JSON reader.
    spec = charts.for_page(json.dumps(chart.spec)).replace("<", "\\u003c")
    return {
        "id": chart.id, "title": chart.title, "caption": chart.caption, "svg": Markup(charts.for_page(svg)),
        "json": Markup(spec), "files": files,
    }  # fmt: skip


def _own(name: str) -> str:
    return resources.files("earwitness.report").joinpath(name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False, loader=jinja2.FunctionLoader(_own)
    )
    env.filters.update(
        percent=percent, interval=interval, clips_of=clips_of, day=_day, tight=_tight, points=_points, minus=_minus,
        how_many=how_many,
    )  # fmt: skip
    return env


def _points(e: Estimate) -> str:
    """A difference of two shares in points of per cent, with its sign."""
    text = f"{100 * e.value:+.0f}"
    return "0" if text in ("+0", "-0") else _minus(text)


def _minus(text: str) -> str:
    return text.replace("-", "\u2212")


def _tight(text: str) -> str:
    """No line break between a number and its unit."""
    return text.replace(" %", "\u00a0%")


def _day(stamp: str) -> str:
    try:
        at = datetime.fromisoformat(stamp)
    except ValueError:
        return stamp
    return f"{at.day} {at:%B %Y}"


def _policy(scripts: Sequence[str]) -> str:
    """Content policy: nothing from the network, and of all scripts only these, by hash.

    Styles may be inline since the charts set their own; ``file:`` lets a page from the disk play its clips.
    """
    hashes = (base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts)
    allowed = " ".join(f"'sha256-{h}'" for h in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "media-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )
