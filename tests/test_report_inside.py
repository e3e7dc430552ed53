"""Charts of a trace: what is there is drawn with the numbers of the statistics, what is not is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_traces as small
from earwitness.report import charts
from earwitness.report import inside as drawn
from earwitness.stats import effects
from earwitness.whitebox import effects as inner
from earwitness.whitebox import joined

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> joined.Inside:
    return joined.load(small.write(tmp_path_factory.mktemp("runs") / "small", 24))


def values(spec: Any) -> list[dict[str, Any]]:
    """All data rows of a spec, wherever they lie."""
    if isinstance(spec, dict):
        own = spec.get("values", []) if isinstance(spec.get("values"), list) else []
        return [v for v in own if isinstance(v, dict)] + [v for part in spec.values() for v in values(part)]
    return [v for part in spec for v in values(part)] if isinstance(spec, list) else []


def test_charts_are_those_the_trace_has_data_for(inside: joined.Inside) -> None:
    ids = [c.id for c in drawn.charts(inside)]
    assert ids[:5] == ["trace-moves", "trace-heads", "trace-groups", "trace-parting", "trace-uncertainty"]
    assert len(ids) == 5 + drawn.HEATS
    asked = inside.picked([i for i in inside.items if i.question == "audio" and i.condition == "aligned"])
    bare = replace(asked, trace=replace(asked.trace, heat={}))
    assert [c.id for c in drawn.charts(bare)] == ["trace-groups"]
    other = bare.picked([])
    assert drawn.charts(replace(other, items=())) == []


def test_bands_are_those_of_the_statistics(inside: joined.Inside) -> None:
    chart = drawn.charts(inside)[0]
    sums = inner.moves(inside, ("mma", "aligned", "standard"))
    assert sums is not None
    found = effects.effect(sums)
    assert found is not None
    points = [p for p in values(chart.spec) if p.get("series") == "aligned"]
    shown = sorted({(p["layer"], p["value"], p["low"], p["high"]) for p in points})
    wanted = list(zip(range(small.LAYERS), found.d.value, found.d.low, found.d.high, strict=True))
    np.testing.assert_allclose(shown, wanted)


def test_only_heads_that_are_sure_get_a_dot(inside: joined.Inside) -> None:
    chart = next(c for c in drawn.charts(inside) if c.id == "trace-heads")
    points = {(p["layer"], p["head"]): p for p in values(chart.spec) if "head" in p}
    assert len(points) == small.LAYERS * small.HEADS
    sure = {key for key, p in points.items() if p["p"] <= 0.05}
    assert sure == {(small.MOVED, head) for head in range(small.HEADS)}


def test_a_heat_map_keeps_all_the_mass_at_its_second(inside: joined.Inside) -> None:
    item, layer = next(iter(inside.trace.heat))
    found = inside.trace.heat[item, layer]
    chart = drawn.heat(inside, item, layer)
    points = values(chart.spec)
    for name, label in (("sound", "audio"), ("picture", "video")):
        panel = next(p for p in chart.spec["hconcat"] if p["title"]["text"] == name)
        cells = values(panel) or [p for p in points if "from" in p]
        first = [p for p in cells if p["token"].startswith("1 ")]
        assert sum(p["mass"] for p in first) == pytest.approx(float(found.mass[label][0].sum()), rel=1e-5)
        assert max(p["to"] for p in first) == pytest.approx(4.0, abs=0.3)
    with pytest.raises(ValueError, match=r"layer 5: kept are \[2\]"):
        drawn.heat(inside, item, 5)


def test_files_are_drawn_and_the_page_gets_its_own_colours(inside: joined.Inside, tmp_path: Path) -> None:
    tuned = joined.load(small.write(tmp_path / "tuned", 24, swapped=2.0))
    found = [*drawn.charts(inside)[:6], *drawn.change_charts(inside, tuned)]
    assert [c.id for c in found][-2:] == ["trace-change-aligned-standard", "trace-change-audio_swapped-standard"]
    pictures = charts.write(found, tmp_path / "charts")
    for chart in found:
        assert pictures[chart.id].startswith("<svg")
        assert (tmp_path / "charts" / f"{chart.id}.png").stat().st_size > 3000
        spec = charts.for_page(json.dumps(chart.spec))
        assert not any(colour in spec for colour in charts.PAGE)
        # A scale between two of the page's colours cannot be computed from CSS variables.
        assert "interpolate" not in spec
        assert "scheme" not in spec
