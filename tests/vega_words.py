"""What Vega-Lite warns of in charts, as a page draws them: the words that a browser's console would show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from earwitness.report.charts import Chart


def warned(charts: Iterable[Chart] | Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The warnings on charts, or on all specs of a folder; as wide as their box, as players.js sets it."""
    import vl_convert

    if isinstance(charts, Path):
        specs = {path.name: json.loads(path.read_text()) for path in sorted(charts.glob("*.vl.json"))}
    else:
        specs = {chart.id: chart.spec for chart in charts}
    assert specs
    out = []
    for name, spec in specs.items():
        capfd.readouterr()
        wide = {"width": "container"} if "layer" in spec or "mark" in spec else {}
        vl_convert.vegalite_to_vega(json.dumps({**spec, **wide}), show_warnings=True)
        out += [f"{name}: {line}" for line in capfd.readouterr().err.splitlines() if "WARN" in line]
    return out
