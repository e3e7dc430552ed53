"""AV-Confuse: always-no no longer wins, positive controls count, a replaced sound must be named as heard."""

from __future__ import annotations

import pytest

from earwitness import foley, questions
from earwitness.interventions import backgrounds
from earwitness.protocols import Settings, av_confuse
from earwitness.records import Clip, Item
from tables import cell, judge, table, value

CLIPS = [*foley.clip_set(10, seed=1, sources=2).clips, *foley.clip_set(4, seed=2, sources=3).clips]
ITEMS = av_confuse.items(CLIPS, Settings())
ASKED = [i for i in ITEMS if i.question == "muted"]


def listener(item: Item) -> str:
    if item.question == "modified":
        return questions.wording("modified", "", seen=item.seen, heard=item.heard)
    assert item.asked is not None
    return "Yes, I can hear it." if item.asked in item.heard else f"No, there is no {item.asked} sound."


def watcher(item: Item) -> str:
    if item.question == "modified":
        return questions.wording("modified", "", seen=item.seen, heard=item.seen)
    return "yes" if item.asked in item.seen else "no"


TWINS = "left-out things, and the same with the sound on"
PUBLISHED = "left-out things only (as published)"


def test_every_left_out_thing_has_its_twin_and_its_controls() -> None:
    dropped = [i for i in ASKED if i.target == "no" and i.style == "neutral"]
    assert len(dropped) == 10 * 2 + 4 * 3
    for item in dropped:
        assert item.intervention.kind == "drop_stem"
        assert item.intervention.stem == item.asked
        assert item.asked not in item.heard
        twin = [i for i in ASKED if i.group == item.group and i.condition == "full"]
        assert [(t.target, t.prompt, t.intervention.kind) for t in twin] == [("yes", item.prompt, "original")]
        still = [
            i for i in ASKED if i.intervention == item.intervention and i.clip == item.clip and i.target == "yes"
        ]
        assert {i.asked for i in still} == set(item.heard)
    assert {i.style for i in ASKED} == {"leading", "neutral"}
    assert all(("muted" in i.prompt) == (i.style == "leading") for i in ASKED)
    assert all("room" not in (i.asked or "") for i in ASKED)
    assert len({i.id for i in ITEMS}) == len(ITEMS)


@pytest.mark.parametrize("style", ["leading", "neutral"])
def test_answerers_get_their_tables(style: str) -> None:
    name = f"confuse_muted_{style}"
    good = table(av_confuse.tables(judge(ITEMS, listener)), name)
    assert value(good, TWINS, "PA") == value(good, TWINS, "HR") == 1.0
    assert value(good, TWINS, "d'") > 3
    assert value(good, TWINS, "says yes") == 0.5
    seeing = table(av_confuse.tables(judge(ITEMS, watcher)), name)
    assert value(seeing, TWINS, "PA") == 1.0
    assert value(seeing, TWINS, "HR") == 0.0
    assert value(seeing, TWINS, "balanced accuracy") == 0.5
    assert value(seeing, TWINS, "d'") == pytest.approx(0.0)
    assert value(seeing, TWINS, "bias c") < -1
    assert value(seeing, TWINS, "says yes") == 1.0
    never = table(av_confuse.tables(judge(ITEMS, lambda i: "no")), name)
    assert value(never, PUBLISHED, "HR") == 1.0  # 100 % on the published questions ...
    assert value(never, TWINS, "balanced accuracy") == 0.5  # ... and nothing heard
    assert value(never, TWINS, "d'") == pytest.approx(0.0)
    assert value(never, "always no", "balanced accuracy") == 0.5


def test_yes_percent_is_measured_not_the_rest_of_accuracy() -> None:
    def shy(item: Item) -> str:
        return "I do not know." if item.clip == CLIPS[0].id else "no"

    shown = table(av_confuse.tables(judge(ITEMS, shy)), "confuse_muted_neutral")
    assert value(shown, PUBLISHED, "HR") == 1.0
    assert value(shown, PUBLISHED, "says yes") == 0.0
    assert cell(shown, PUBLISHED, "refused") == 2
    assert cell(shown, PUBLISHED, "lowest") == pytest.approx(30 / 32)


def test_replaced_sounds_must_be_named_as_heard() -> None:
    good = table(av_confuse.tables(judge(ITEMS, listener)), "confuse_modified")
    assert value(good, "sound replaced, all", "names the sound") == 1.0
    assert value(good, "sound replaced, all", "recall (seen)") == 1.0
    assert value(good, "sound replaced, all", "hears the picture") == 0.0
    assert value(good, "untouched (control)", "names the sound") == 1.0
    for name in backgrounds():
        assert value(good, f"replaced by {name}", "recall (heard)") == 1.0
    seeing = table(av_confuse.tables(judge(ITEMS, watcher)), "confuse_modified")
    assert value(seeing, "sound replaced, all", "names the sound") == 0.0
    assert value(seeing, "sound replaced, all", "hears the picture") == 1.0
    assert value(seeing, "untouched (control)", "names the sound") == 1.0


def test_a_background_is_not_put_where_the_picture_suggests_it() -> None:
    birds = Clip(id="b", path="x", seen=("bird",), heard=("bird",))
    used = {i.intervention.background for i in av_confuse.items([birds], Settings()) if i.condition == "modified"}
    assert used == set(backgrounds()) - {"bird"}
    two = av_confuse.items([birds], Settings(backgrounds=("wind", "rain"), confuse_conditions=("modified",)))
    assert sorted(str(i.intervention.background) for i in two) == ["rain", "wind"]
    with pytest.raises(ValueError, match="sea"):
        av_confuse.items([birds], Settings(backgrounds=("sea",)))


def test_failures_and_missing_conditions() -> None:
    shown = table(av_confuse.tables(judge(ASKED, lambda i: None)), "confuse_muted_leading")
    assert cell(shown, TWINS, "PA") is None
    assert cell(shown, TWINS, "failed") == cell(shown, TWINS, "answers")
    assert av_confuse.tables([]) == []
    alone = av_confuse.items(CLIPS, Settings(confuse_conditions=("muted",)))
    made = av_confuse.tables(judge(alone, listener))
    assert [t.id for t in made] == ["confuse_muted_leading", "confuse_muted_neutral"]
    assert TWINS not in {r.label for r in made[0].rows}
    one = foley.clip_set(3, seed=1).clips
    assert any("no two heard things" in line for line in av_confuse.skipped(one, Settings()))
    assert not [i for i in av_confuse.items(one, Settings()) if i.question == "muted"]
