"""The page of two runs: both verdicts, the card, what turned in proportion, one page that fetches nothing."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from html import unescape
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

import small_runs
from earwitness import run as runs
from earwitness import scorecard, scoring
from earwitness.cli import app
from earwitness.records import Answer, Estimate, Item, Judged
from earwitness.report import card, compared, telling
from test_report_curves import stage, valid
from vega_words import warned

EVIL = "<script>document.title='owned'</script>"
OLD, NEW = "old", "new"


def answered(folder: Path, model: str, *, hears: bool, text: str = "") -> Path:
    """The small run, answered by one that hears, or by one that names the first option and hears nothing amiss."""
    small_runs.write(folder, n=12)
    items = runs.read_items(folder)
    answers = [_say(n, item, model, hears, text) for n, item in enumerate(items)]
    info = msgspec.structs.replace(runs.read_info(folder), model=model, command=f"earwitness audit -m {model}")
    runs.write_info(folder, info)
    runs.write_lines(folder / "answers.jsonl", answers)
    runs.write_lines(folder / "scores.jsonl", [scoring.score(i, a) for i, a in zip(items, answers, strict=True)])
    return folder


def _say(number: int, item: Item, model: str, hears: bool, text: str) -> Answer:
    if hears == (number % 9 != 0):  # either is now and then what the other is
        return msgspec.structs.replace(small_runs.says(1, item), model=model)
    blind = (item.seen[0] if item.seen else item.choices[0]) if item.choices else "A"
    return Answer(item=item.id, model=model, text=f"{blind}{text}")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("pair")
    trained = stage(place / "cure", valid(0.5, 0.8))
    before = answered(place / "before", OLD, hears=False, text=EVIL)
    return before, answered(place / "after", f"qwen2.5-omni:{trained}/model", hears=True)


@pytest.fixture(scope="module")
def page(pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared.build(*pair, tmp_path_factory.mktemp("out"))


def line(before: float, after: Estimate | None, difference: Estimate | None, *, high: bool) -> card.Line:
    e = Estimate(before, before, before, 20, 20, "m")
    return card.Line("l", "high" if high else "low", e, after, difference, 0.5, "share")


def test_a_line_is_better_only_where_its_interval_leaves_out_0() -> None:
    def moved(value: float, half: float) -> Estimate:
        return Estimate(value, value - half, value + half, 20, 20, "m")

    assert line(0.2, moved(0.6, 0.1), moved(0.4, 0.1), high=True).turn == card.BETTER
    assert line(0.2, moved(0.6, 0.1), moved(0.4, 0.1), high=False).turn == card.WORSE
    assert line(0.2, moved(0.3, 0.1), moved(0.1, 0.1), high=True).turn == card.ALIKE
    assert line(0.2, None, None, high=True).turn == ""
    assert line(0.2, moved(0.6, 0.1), None, high=True).reached is True
    assert line(0.2, moved(0.6, 0.1), None, high=False).reached is False
    assert line(0.2, None, None, high=False).reached is None
    two = [line(0.2, moved(0.6, 0.1), moved(0.4, 0.1), high=h) for h in (True, False)]
    assert card.said(two) == (
        "of 2 measures of listening, 1 is clearly better and 1 is clearly worse; 1 of 2 goals of a repair is "
        "reached."
    )
    assert card.said([]) == "they share no measure of the scorecard."


def test_what_is_neither_better_nor_worse_is_shown_apart_and_not_counted() -> None:
    more = Estimate(0.45, 0.35, 0.55, 40, 40, "m")
    dark = [
        dataclasses.replace(
            line(0.0, more, more, high=False), label=m.label, better=m.better, unit=m.unit, goal=None
        )
        for m in scorecard.DARK[:3]
    ]
    assert [d.turn for d in dark] == ["", "", card.WORSE]
    assert card.said(dark) == "of 1 measure of listening, none is clearly better and 1 is clearly worse."
    assert [(title[:7], len(some)) for title, some in card.groups(dark)] == [("Lower i", 1), ("Neither", 2)]
    drawn = card.charts(dark, ("old", "new"))
    assert [c.id for c in drawn] == ["card-beside"]  # a difference may lie below 0: it is not drawn from 0 to 1


def test_turned_items_are_shown_in_proportion_and_at_least_one_of_each(pair: tuple[Path, Path]) -> None:
    before, after = (runs.judged(folder) for folder in pair)
    better, worse = telling.turned(before, after)
    assert len(better) > len(worse) > 0
    picked = telling.choose_turned(before, after, 10)
    old = {j.item.id: j for j in before}
    turns = Counter(j.score.correct is True and old[j.item.id].score.correct is False for _, j in picked)
    share = len(better) / (len(better) + len(worse))
    assert turns[True] == min(max(round(10 * share), 1), 9)
    assert turns[False] >= 1
    assert picked == telling.choose_turned(before[::-1], after[::-1], 10)
    assert telling.choose_turned(before, before) == []
    few = [j for j in after if j.item.id not in {b.item.id for _, b in better[1:]}]
    assert Counter(_right(j) for _, j in telling.choose_turned(before, few, 10))[True] == 1
    with pytest.raises(ValueError, match="n is the number"):
        telling.choose_turned(before, after, -1)


def _right(j: Judged) -> bool:
    return j.score.correct is True


def test_page_shows_both_verdicts_the_card_and_both_answers(page: Path) -> None:
    html = page.read_text()
    assert re.search(r"<h1>From old to \S*cure: <span>of \d+ measures of listening", html)
    assert html.count('<article class="run">') == 2
    for measure in ("conflict, asked what is heard: right", "Higher is better", "Lower is better"):
        assert measure in html
    assert html.count('class="duo"') > 5
    players = html.split('<article class="pair"')[1:]
    assert 2 <= len(players) <= 10
    for player in players:
        assert player.count("<h5>Before: old</h5>") == len(re.findall(r"<h5>After: \S*cure</h5>", player)) == 2
    assert '<span class="turn better">' in players[0]
    assert '<span class="turn worse">' in players[-1]
    assert "How it was trained" in html
    assert "stage-1-valid" in html
    assert (page.parent / "charts" / "card-up.svg").is_file()
    assert (page.parent / "charts" / "follow-before.png").is_file()
    assert "MMA: which sense does it use?" in html


def test_vega_warns_of_no_chart(page: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert warned(page.parent / "charts", capfd) == []


def test_page_asks_nothing_of_the_network_and_escapes(page: Path) -> None:
    html = page.read_text()
    assert EVIL not in html
    assert "&lt;script&gt;document.title" in html
    assert html.count("<script>") == 2
    assert "default-src 'none'" in unescape(html)
    urls = re.findall(r'(?:src|href)="([^"#]+)', re.sub(r"<script.*?</script>", "", html, flags=re.S))
    assert all(u.startswith(("data:", "charts/", "media/")) for u in urls)
    ids = re.findall(r'\sid="([^"]+)"', re.sub(r"<(script|svg).*?</\1>", "", html, flags=re.S))
    assert len(ids) == len(set(ids))


def test_media_come_from_either_run_or_are_made_or_said_to_be_missing(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    before, after = pair
    picked = telling.choose_turned(*(runs.judged(f) for f in pair), 10)
    names = list(dict.fromkeys(compared.media_name(j.item.clip, j.item.intervention) for p in picked for j in p))
    for folder, name in ((before, names[0]), (after, names[1])):
        (folder / "media").mkdir(exist_ok=True)
        (folder / "media" / name).write_bytes(b"clip")

    def gone() -> compared.ClipSet:
        raise ValueError("the clips are gone")

    compared._gather(picked, (after, before), tmp_path / "media", gone)
    for name in names[:2]:
        assert (tmp_path / "media" / name).read_bytes() == b"clip"
    note = tmp_path / "media" / f"{Path(names[2]).stem}.missing.txt"
    assert note.read_text() == "the clips are gone"
    two = [p for p in picked if compared.media_name(p[1].item.clip, p[1].item.intervention) == names[3]][:1]
    made = tmp_path / "made"
    compared._gather(two, (), made, lambda: small_runs.clips(12))
    assert len(list(made.glob("*"))) == 2
    assert (made / names[3]).read_bytes()[4:8] == b"ftyp"


def test_what_cannot_be_compared_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="another --out"):
        compared.build(*pair, pair[1])
    with pytest.raises(ValueError, match="compared with itself"):
        compared.build(pair[0], pair[0], tmp_path)
    assert CliRunner().invoke(app, ["compare", *map(str, pair), "--embed"]).exit_code == 2


def test_the_terminal_shows_the_card_first(pair: tuple[Path, Path]) -> None:
    shown = CliRunner().invoke(app, ["compare", *map(str, pair)])
    assert shown.exit_code == 0, shown.output
    assert 0 <= shown.output.index("Does it listen?") < shown.output.index("What is compared")
    both = card.shared(*(runs.judged(f) for f in pair))
    assert len(both[0]) == len(both[1])
    assert scorecard.table({OLD: both[0], NEW: both[1]}).rows
