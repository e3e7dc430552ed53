"""Charts of a trace: what is there is drawn with the numbers of the statistics, what is not is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import small_traces as small
from earwitness.report import charts, heat, page
from earwitness.report import inside as drawn
from earwitness.stats import effects
from earwitness.whitebox import effects as inner
from earwitness.whitebox import joined
from earwitness.whitebox.moments import GROUPS, Heat
from vega_words import warned

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> joined.Inside:
    return joined.load(small.write(tmp_path_factory.mktemp("runs") / "small", 18))


@pytest.fixture(scope="module")
def found(inside: joined.Inside) -> list[charts.Chart]:
    """Its charts."""
    return drawn.charts(inside)


def values(spec: Any) -> list[dict[str, Any]]:
    """All data rows of a spec, wherever they lie."""
    if isinstance(spec, dict):
        own = spec.get("values", []) if isinstance(spec.get("values"), list) else []
        return [v for v in own if isinstance(v, dict)] + [v for part in spec.values() for v in values(part)]
    return [v for part in spec for v in values(part)] if isinstance(spec, list) else []


def test_charts_are_those_the_trace_has_data_for(inside: joined.Inside, found: list[charts.Chart]) -> None:
    ids = [c.id for c in found]
    assert ids[:5] == ["trace-moves", "trace-heads", "trace-groups", "trace-parting", "trace-uncertainty"]
    assert ids[5:] == [f"trace-heat-{item}-{layer}" for item, layer in heat.chosen(inside)]
    assert len(ids) == 5 + heat.ITEMS
    asked = inside.picked([i for i in inside.items if i.question == "audio" and i.condition == "aligned"])
    bare = replace(asked, trace=replace(asked.trace, heat={}))
    assert [c.id for c in drawn.charts(bare)] == ["trace-groups"]
    other = bare.picked([])
    assert drawn.charts(replace(other, items=())) == []


def test_vega_warns_of_no_chart(
    inside: joined.Inside, found: list[charts.Chart], capfd: pytest.CaptureFixture[str]
) -> None:
    assert warned([*found, *drawn.change_charts(inside, inside)], capfd) == []


def test_a_browser_is_told_nothing_of_the_charts_it_draws(browser: Any, tmp_path: Path) -> None:
    """Those of several panels too, which cannot be as wide as their box."""
    html = page.build(small.write(tmp_path / "small", 18))
    said: list[str] = []
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.on("console", lambda m: said.append(m.text))
    tab.goto(html.as_uri())
    for _ in range(600):
        made = tab.evaluate("['.plot', '.live svg'].map(s => document.querySelectorAll(s).length)")
        if made[0] == made[1] > 5:
            break
        tab.wait_for_timeout(50)
    assert made[0] == made[1] > 5
    tab.close()
    assert said == []


def test_bands_are_those_of_the_statistics(inside: joined.Inside, found: list[charts.Chart]) -> None:
    chart = found[0]
    sums = inner.moves(inside, ("mma", "aligned", "standard"))
    assert sums is not None
    effect = effects.effect(sums)
    assert effect is not None
    points = [p for p in values(chart.spec) if p.get("series") == "aligned"]
    shown = sorted({(p["layer"], p["value"], p["low"], p["high"]) for p in points})
    wanted = list(zip(range(small.LAYERS), effect.d.value, effect.d.low, effect.d.high, strict=True))
    np.testing.assert_allclose(shown, wanted)


def test_only_heads_that_are_sure_get_a_dot(found: list[charts.Chart]) -> None:
    chart = next(c for c in found if c.id == "trace-heads")
    points = {(p["layer"], p["head"]): p for p in values(chart.spec) if "head" in p}
    assert len(points) == small.LAYERS * small.HEADS
    sure = {key for key, p in points.items() if p["moves"]}
    assert sure == {(small.MOVED, head) for head in range(small.HEADS)}
    assert all(p["p"] <= 0.05 for key, p in points.items() if key in sure)


def domains(spec: Any) -> list[list[float]]:
    """Domains of a spec's scales with numbers."""
    if isinstance(spec, dict):
        own = [d] if isinstance(d := spec.get("domain"), list) and isinstance(d[0], int | float) else []
        return own + [d for part in spec.values() for d in domains(part)]
    return [d for part in spec for d in domains(part)] if isinstance(spec, list) else []


def test_a_null_does_not_look_large(tmp_path: Path, found: list[charts.Chart]) -> None:
    none = joined.load(small.write(tmp_path / "none", 6, aligned=0.0, noise=0.02))
    lines, heads = drawn._moves(none), drawn._heads(none)
    assert lines is not None
    assert heads is not None
    points = [p for p in values(lines.spec) if "low" in p]
    assert max(abs(p["value"]) for p in points) < 0.3
    assert {tuple(d) for d in domains(lines.spec)} == {(-drawn.LARGE, drawn.LARGE)}
    cells = [p for p in values(heads.spec) if "head" in p]
    assert not any(p["moves"] for p in cells)
    assert [0, drawn.LARGE] in domains(heads.spec)
    (low, high), *_ = domains(found[0].spec)  # a find has the room that it takes
    assert low <= -drawn.LARGE
    assert high > 2


# --- heat maps ---------------------------------------------------------------------------------------------------


def panels(chart: charts.Chart) -> list[tuple[str, list[dict[str, Any]]]]:
    """Title and cells of each panel; a chart's data lie in one place, under names."""
    data = chart.spec.get("datasets", {})

    def rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
        own = spec.get("data", {})
        return list(own.get("values") or data.get(own.get("name"), []))

    out = []
    for panel in chart.spec["vconcat"]:
        layers = [panel, *panel.get("layer", [])]
        drawn_first = next(some for layer in layers if (some := [p for p in rows(layer) if "mass" in p]))
        out.append((panel.get("title", {}).get("text", ""), drawn_first))
    return out


def test_a_heat_map_shows_each_word_and_each_media_token_at_its_second(inside: joined.Inside) -> None:
    item, layer = next(iter(inside.trace.heat))
    found = inside.trace.heat[item, layer]
    shown = panels(heat.heat(inside, item, layer))
    assert [title.partition(":")[0] for title, _ in shown] == ["text", "", "picture", "sound"]
    media = [GROUPS.index("video"), GROUPS.index("audio")]
    for row, token in enumerate(("1  a", "2  b", "3  c")):
        text = [p for _, cells in shown[:2] for p in cells if p["token"] == token]
        at = np.flatnonzero(~np.isin(found.groups, media))
        assert [p["word"] for p in text] == [found.words[n].strip() for n in at]
        assert [p["group"] for p in text] == [GROUPS[found.groups[n]] for n in at]
        np.testing.assert_allclose([p["mass"] for p in text], found.mass[row, at], rtol=1e-6)
        for (title, cells), name in zip(shown[2:], ("video", "audio"), strict=True):
            mine = found.groups == GROUPS.index(name)
            cell = [p for p in cells if p["token"] == token]
            assert "a cell for each token" in title
            np.testing.assert_allclose([p["mass"] for p in cell], found.mass[row, mine], rtol=1e-6)
            starts = np.array([p["from"] for p in cell])
            np.testing.assert_array_equal(starts // 1 if name == "video" else starts, found.seconds[mine])
            np.testing.assert_allclose(starts[1:], [p["to"] for p in cell[:-1]], atol=1e-6)
    with pytest.raises(ValueError, match=r"layer 5: kept are \[2\] \(trace --heat\)"):
        heat.heat(inside, item, 5)


def mapped(inside: joined.Inside, found: Heat) -> joined.Inside:
    """The same with another map for its first item."""
    return replace(inside, trace=replace(inside.trace, heat={(inside.items[0].id, 2): found}))


def long(rows: int, grid: int, seconds: int) -> Heat:
    """Many answer tokens, on a filler of 9,000 tokens, and on ``grid`` video and 25 audio tokens a second."""
    said = tuple(f" w{n}" for n in range(rows))
    sound = np.arange(25 * seconds) / 25
    words = ("<|im_start|>", "about time …", "\n\n", " Which", *[""] * (grid * seconds + len(sound)), *said[:-1])
    groups = [0, 2, 2, 2, *[6] * (grid * seconds), *[7] * len(sound), *[8] * (rows - 1)]
    times = [*[np.nan] * 4, *np.repeat(np.arange(float(seconds)), grid), *sound, *[np.nan] * (rows - 1)]
    mass = np.random.default_rng(0).dirichlet(np.ones(len(words)), rows).astype(np.float32)
    mass[:, 0] += 1
    tokens = np.array([1, 9000, *[1] * (len(words) - 2)])
    return Heat(said, words, np.array(groups, np.int8), np.array(times, np.float32), tokens, mass / 2)


def test_what_is_long_is_drawn_as_means_and_sums_that_lose_nothing(inside: joined.Inside) -> None:
    found = long(rows=40, grid=64, seconds=12)
    chart = heat.heat(mapped(inside, found), inside.items[0].id, 2)
    shown = panels(chart)
    rows = list(dict.fromkeys(p["token"] for _, cells in shown for p in cells))
    assert [r.partition(" ")[0] for r in rows[:2]] == ["1–3", "4–6"]
    assert len(rows) == 14
    assert "A row is the mean of 3 tokens" in chart.caption
    means = [found.mass[n : n + 3].sum(1).mean() for n in range(0, 40, 3)]
    for row, mean in zip(rows, means, strict=True):
        cells = [p for _, some in shown for p in some if p["token"] == row]
        assert sum(p["mass"] for p in cells) == pytest.approx(float(mean), rel=1e-4)
    picture = [p for p in shown[-2][1] if p["token"] == rows[0]]
    assert "cells of up to 6 tokens" in shown[-2][0]
    assert len(picture) == 12 * 11
    assert {p["from"] for p in picture} > set(range(12)), "no cell goes over the border of a second"
    assert len([p for p in shown[-1][1] if p["token"] == rows[0]]) <= heat.CELLS / len(rows)
    text = [p for title, some in shown[:-2] for p in some if p["token"] == rows[0]]
    folded = next(p for p in text if "9,000 tokens" in p["word"])
    assert folded["column"].endswith("|9,000 tokens")
    assert "Folded text has the sum of its tokens" in chart.caption
    sink, first = text[0], text[3]
    assert float(sink["over"]) > 40  # off the scale of the other words, it says its per cent
    assert first["over"] == ""
    assert [p["column"].partition("|")[2].partition(" ")[0] for p in text[4:6]] == ["1–3", "4–6"]


def test_a_report_shows_one_clip_asked_about_both_senses(inside: joined.Inside) -> None:
    by_id = {i.id: i for i in inside.items}
    (first, layer), (second, other) = heat.chosen(inside)
    assert (layer, other) == (2, 2)
    assert [by_id[i].question for i in (first, second)] == ["visual", "audio"]
    assert {by_id[i].condition for i in (first, second)} == {"audio_swapped"}
    assert by_id[first].clip == by_id[second].clip
    alone = inside.picked([by_id[second]])
    assert heat.chosen(alone) == [(second, 2)]
    assert heat.chosen(replace(alone, trace=replace(alone.trace, heat={}))) == []


def test_files_are_drawn_and_the_page_gets_its_own_colours(
    inside: joined.Inside, found: list[charts.Chart], tmp_path: Path
) -> None:
    tuned = joined.load(small.write(tmp_path / "tuned", 18, swapped=2.0))
    found = [*found[:6], *drawn.change_charts(inside, tuned)]
    assert {c.id for c in found[6:]} == {
        "trace-change-aligned-standard", "trace-change-audio_swapped-standard",
        "trace-parting-change-audio-standard", "trace-parting-change-visual-standard",
    }  # fmt: skip
    assert sorted(domains(found[7].spec)[0])[0] <= -drawn.LARGE
    pictures = charts.write(found, tmp_path / "charts")
    for chart in found:
        assert pictures[chart.id].startswith("<svg")
        assert (tmp_path / "charts" / f"{chart.id}.png").stat().st_size > 3000
        spec = charts.for_page(json.dumps(chart.spec))
        assert not any(colour in spec for colour in charts.PAGE)
        # A scale between two of the page's colours cannot be computed from CSS variables.
        assert "interpolate" not in spec
        assert "scheme" not in spec
