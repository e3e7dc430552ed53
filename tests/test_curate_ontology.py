"""From labels to classes to samples: each rule by itself, the real ontology, the paper's figures beside ours."""

from __future__ import annotations

import csv
import json
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from earwitness import media
from earwitness.cli import app
from earwitness.curate import card, classes, funnel, label_files, names, samples
from earwitness.curate.classes import Decision
from earwitness.curate.ontology import Ontology, OntologyError, above, lineage, named, read, roots_of, ways
from earwitness.curate.pruning import Rules, pruned
from earwitness.curate.samples import Reading, Segment, choose, read_segments
from earwitness.datasets import folder

SHARED = Path(os.environ.get("EARWITNESS_SHARED", Path(__file__).parents[2] / "shared")) / "data"
real = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (SHARED / "audioset_ontology.json").is_file(),
        reason="no AudioSet files: set EARWITNESS_SHARED to the folder that holds data",
    ),
]

# A little forest: name -> children. "hiss" lies below two roots, "bark" below dog, "howl" below dog and wolf.
TREE: dict[str, list[str]] = {
    "animal": ["pet", "wild"], "pet": ["dog", "cat"], "wild": ["wolf", "snake"], "dog": ["bark", "howl"],
    "wolf": ["howl"], "cat": ["hiss", "meow"], "snake": ["hiss"], "bark": ["yap"], "yap": [], "howl": [],
    "meow": [], "hiss": [], "things": ["engine", "tool, device"], "engine": ["steam engine"],
    "steam engine": ["hiss"],
    "tool, device": ["drill (power)", "hammer"], "drill (power)": [], "hammer": [],
}  # fmt: skip


def forest(
    tmp_path: Path, marks: dict[str, list[str]] | None = None, tree: dict[str, list[str]] = TREE
) -> Ontology:
    rows = [
        {
            "id": f"/m/{n}",
            "name": n,
            "child_ids": [f"/m/{c}" for c in kids],
            "restrictions": (marks or {}).get(n, []),
        }
        for n, kids in tree.items()
    ]
    path = tmp_path / "ontology.json"
    path.write_text(json.dumps(rows))
    return read(path)


@pytest.fixture
def graph(tmp_path: Path) -> Ontology:
    return forest(tmp_path)


def decide(*made: tuple[str, str, str]) -> list[Decision]:
    return [Decision(name=n, do=do, to=to, ground="unseen", why="because") for n, do, to in made]  # type: ignore[arg-type]


def fate(table: classes.ClassTable, name: str) -> tuple[str, str]:
    entry = table.entries[f"/m/{name}"]
    return entry.fate, entry.into


class TestOntology:
    def test_ways_levels_and_ancestors(self, graph: Ontology) -> None:
        assert {graph.nodes[r].name for r in graph.roots} == {"animal", "things"}
        assert len(ways(graph, "/m/hiss")) == 3
        assert {graph.nodes[r].name for r in roots_of(graph, "/m/hiss")} == {"animal", "things"}
        assert "/m/dog" in above(graph, "/m/yap")
        assert "/m/yap" not in above(graph, "/m/yap")
        assert lineage(graph, "/m/yap") == "animal > pet > dog > bark > yap"

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("YTID, start", "is no JSON"),
            ('{"a": 1}', "wants a list of nodes, got dict"),
            ('[{"name": "x"}]', "node 1: wants an object with id, name and child_ids"),
            ('[{"id": "a", "name": "a", "child_ids": ["b"]}]', "has a child b that is no node"),
            ('[{"id": "a", "name": "a"}, {"id": "a", "name": "b"}]', "a stands there twice"),
            ('[{"id": "a", "name": "a", "child_ids": ["a"]}]', "below themselves"),
            ('[{"id": "a", "name": "a", "child_ids": "b"}]', "child_ids wants a list of texts"),
        ],
    )
    def test_what_is_no_ontology_says_so(self, tmp_path: Path, text: str, says: str) -> None:
        path = tmp_path / "x.json"
        path.write_text(text)
        with pytest.raises(OntologyError, match=says):
            read(path)

    def test_names_are_found_or_the_nearest_is_named(self, graph: Ontology, tmp_path: Path) -> None:
        assert named(graph, "HAMMER").id == "/m/hammer"
        with pytest.raises(OntologyError, match="did you mean 'hammer'"):
            named(graph, "hamer")
        with pytest.raises(OntologyError, match="no such file"):
            read(tmp_path / "none.json")


class TestPruning:
    def test_below_the_depth_nodes_are_absorbed(self, graph: Ontology) -> None:
        table = pruned(graph)
        assert fate(table, "dog") == ("kept", "dog")
        assert fate(table, "yap") == ("absorbed", "dog")
        assert fate(table, "meow") == ("absorbed", "cat")
        assert fate(pruned(graph, Rules(depth=2)), "meow") == ("absorbed", "pet")

    def test_a_node_whose_ways_end_in_different_classes_is_ambiguous(self, graph: Ontology) -> None:
        table = pruned(graph)
        assert fate(table, "hiss") == ("dropped", "")
        assert table.entries["/m/hiss"].why == "would be cat or snake or steam engine"
        assert fate(table, "howl") == ("dropped", "")
        merged = pruned(graph, made=decide(("dog", "merge", "wolf")))
        assert fate(merged, "howl") == ("merged", "wolf")  # both of its ways end there now

    def test_readings_of_several_parents(self, graph: Ontology) -> None:
        got = {p: fate(pruned(graph, Rules(parents=p)), "howl")[0] for p in ("classes", "roots", "any", "keep")}
        assert got == {"classes": "dropped", "roots": "absorbed", "any": "dropped", "keep": "absorbed"}
        assert fate(pruned(graph, Rules(parents="roots")), "hiss")[0] == "dropped"
        assert fate(pruned(graph, Rules(parents="keep")), "hiss") == ("absorbed", "cat")
        assert fate(pruned(graph, Rules(without=("things",))), "engine") == ("dropped", "")
        assert pruned(graph, Rules(without=("things",))).entries["/m/hiss"].why == "would be cat or snake"

    def test_marked_nodes_are_dropped_and_their_children_are_not(self, tmp_path: Path) -> None:
        marked = forest(tmp_path, {"pet": ["abstract"], "bark": ["blacklist"]})
        table = pruned(marked)
        assert fate(table, "pet") == ("dropped", "")
        assert fate(table, "bark") == ("dropped", "")
        assert fate(table, "yap") == ("absorbed", "dog")
        assert fate(pruned(marked, Rules(restricted="classes")), "bark") == ("absorbed", "dog")
        assert fate(pruned(marked, Rules(restricted="keep")), "pet") == ("kept", "pet")

    def test_decisions_by_hand(self, graph: Ontology) -> None:
        made = decide(
            ("animal", "drop", ""), ("engine", "branch", ""), ("hammer", "merge", "drill (power)"),
            ("hiss", "keep", ""), ("dog", "name", "hound"),
        )  # fmt: skip
        table = pruned(graph, made=made)
        assert fate(table, "animal") == ("dropped", "")
        assert fate(table, "steam engine") == ("dropped", "")
        assert table.entries["/m/steam engine"].why == "with engine: because"
        assert fate(table, "hammer") == ("merged", "drill power")
        assert fate(table, "hiss") == ("absorbed", "cat")  # kept against the rule: its first way that is left
        assert fate(table, "bark") == ("absorbed", "hound")
        assert "hound" in table.classes

    @pytest.mark.parametrize(
        ("made", "says"),
        [
            ([("dog", "merge", "cat"), ("cat", "merge", "dog")], "merged into itself"),
            ([("dog", "merge", "cat"), ("cat", "drop", "")], "dog is merged into cat, which is dropped"),
            ([("dogg", "drop", "")], "the decision on 'dogg' is not in the ontology.*did you mean 'dog'"),
            ([("dog", "name", "cat")], "would both be called 'cat'"),
        ],
    )
    def test_decisions_that_cannot_be(self, graph: Ontology, made: Any, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            pruned(graph, made=decide(*made))

    @pytest.mark.parametrize(
        ("line", "says"),
        [
            ("dog,kill,,,why", "line 2: do wants drop"),
            ("dog,drop,,ugly,why", "line 2: ground wants"),
            ("dog,drop,,,", "needs its reason"),
            ("dog,merge,,,why", "to is for merge and name"),
            ("dog,drop,,,a\ndog,branch,,,b", "line 3: dog is decided on line 2 already"),
            ("a, b,drop,,,why", "has 6 fields, the header 5"),
        ],
    )
    def test_a_decisions_file_is_read_strictly(self, tmp_path: Path, line: str, says: str) -> None:
        path = tmp_path / "hand.csv"
        path.write_text(f"name,do,to,ground,why\n{line}\n")
        with pytest.raises(ValueError, match=says):
            classes.decisions(path)

    def test_the_class_file_comes_back_as_it_was(self, graph: Ontology, tmp_path: Path) -> None:
        table = pruned(graph, made=decide(("dog", "merge", "wolf")), version="mine-2")
        classes.write(table, tmp_path / "c.csv")
        again = classes.read(tmp_path / "c.csv")
        assert again.entries == table.entries
        assert again.version == "mine-2"
        assert "CC BY-SA" in (tmp_path / "c.csv").read_text()
        broken = (tmp_path / "c.csv").read_text().replace(",wolf,merged", ",wof,merged")
        (tmp_path / "c.csv").write_text(broken)
        with pytest.raises(ValueError, match=r"dog goes into 'wof'.*did you mean 'wolf'"):
            classes.read(tmp_path / "c.csv")

    def test_kinship(self, graph: Ontology) -> None:
        table = pruned(graph)
        pairs = {("dog", "Dog"): 0, ("dog", "cat"): 1, ("dog", "wolf"): 2, ("dog", "hammer"): 3, ("dog", "x"): None}
        assert {p: classes.kin(table, *p) for p in pairs} == pairs
        assert classes.kin(table, "bark", "cat") == 1  # the name of a node stands for its class

    def test_short_names_are_those_of_the_released_files(self) -> None:
        assert [classes.short(n) for n in ("Frying (food)", "Canidae, dogs, wolves", "Cash register")] == [
            "Frying food", "Canidae", "Cash register",
        ]  # fmt: skip
        assert classes.short("Roaring cats (lions, tigers)") == "Roaring cats"


def segment(number: int, *labels: str, seen: Sequence[str] | None = None) -> Segment:
    return Segment(
        id=f"s{number}", source=f"v{number}", labels=tuple(f"/m/{n}" for n in labels),
        seen=None if seen is None else tuple(f"/m/{n}" for n in seen),
    )  # fmt: skip


class TestSamples:
    def test_each_rule_drops_what_it_should(self, graph: Ontology) -> None:
        table = pruned(graph, made=decide(("engine", "branch", "")))
        chosen = choose(
            graph, table,
            [
                segment(0, "animal", "pet", "dog", "bark"),  # ancestors go, one is left
                segment(1, "bark", "yap", "dog"),  # all of one class
                segment(2, "dog", "hammer"),  # two roots
                segment(3, "engine"),  # a class that was removed
                segment(4, "dog", "cat"),  # two classes of one root
                segment(5, "hiss"),  # ambiguous
                segment(6, "cat", "meow", "hiss"),  # its most specific labels touch a removed one
            ],
        )  # fmt: skip
        assert [(s.segment.id, s.klass) for s in chosen.samples] == [("s0", "dog"), ("s1", "dog")]
        assert list(chosen.steps.values()) == [7, 6, 3, 2]
        assert chosen.lost["dog"]["cat"] == 1
        assert chosen.lost["dog"]["hammer"] == 1

    def test_other_readings(self, graph: Ontology) -> None:
        table = pruned(graph, made=decide(("engine", "branch", ""), ("hammer", "merge", "dog")))
        mixed = [segment(0, "dog", "engine"), segment(1, "dog", "hammer"), segment(2, "pet", "dog")]
        assert [s.segment.id for s in choose(graph, table, mixed).samples] == ["s2"]
        assert [s.segment.id for s in choose(graph, table, mixed, Reading(one_root=False)).samples] == ["s1", "s2"]
        assert [s.segment.id for s in choose(graph, table, mixed, Reading(removed="ignored")).samples] == [
            "s0",
            "s2",
        ]
        assert not choose(graph, table, mixed[2:], Reading(ancestors=False)).samples

    def test_what_is_seen_must_be_the_class_too(self, graph: Ontology) -> None:
        table = pruned(graph)
        chosen = choose(
            graph, table,
            [
                segment(0, "bark", seen=["dog"]), segment(1, "bark", seen=[]), segment(2, "bark", seen=["cat"]),
                segment(3, "bark", seen=["dog", "cat"]), segment(4, "bark"),
            ],
        )  # fmt: skip
        assert [s.segment.id for s in chosen.samples] == ["s0", "s4"]
        assert list(chosen.steps.items())[-1] == ("seen as well as heard", 2)

    def test_segments_are_read_strictly(self, graph: Ontology, tmp_path: Path) -> None:
        path = tmp_path / "seg.csv"
        path.write_text('# c\nabc, 30.000, 40.000, "/m/dog,/m/bark"\n-x, 0.0, 10.0, "/m/cat"\n')
        first, second = read_segments(path, graph)
        assert (first.id, first.start, first.end, first.labels) == ("abc_000030", 30.0, 40.0, ("/m/dog", "/m/bark"))
        assert second.source == "-x"
        for row, says in (
            ('abc, 30, 40, "/m/zebra"', "label '/m/zebra' is not in the ontology"),
            ("abc,30,40,/m/dog,/m/cat", "got 5 fields"),
            ('abc, 30000, 40000.0, "/m/dog"', "milliseconds"),
            ('YTID, start, end, "x"', "a header line"),
            ('abc, 0, 10, ""', "has no labels"),
        ):
            path.write_text(row + "\n")
            with pytest.raises(samples.SegmentsError, match=says):
                read_segments(path, graph)
        path.write_text('a, 0, 10, "/m/dog"\na, 0, 10, "/m/cat"\n')
        with pytest.raises(samples.SegmentsError, match="stands on line 1 already"):
            read_segments(path, graph)

    @given(st.lists(st.lists(st.sampled_from(list(TREE)), min_size=1, max_size=4, unique=True), max_size=12))
    @settings(max_examples=40, deadline=None)
    def test_a_chosen_sample_has_labels_of_one_class_only(
        self, tmp_path_factory: pytest.TempPathFactory, sets: list[list[str]]
    ) -> None:
        graph = forest(tmp_path_factory.mktemp("f"))
        table = pruned(graph)
        given_ = [segment(n, *labels) for n, labels in enumerate(sets)]
        chosen = choose(graph, table, given_)
        for sample in chosen.samples:
            left = [
                i for i in sample.segment.labels if not any(i in above(graph, j) for j in sample.segment.labels)
            ]
            assert {table.entries[i].into for i in left} == {sample.klass}
        back = choose(graph, table, given_[::-1])
        assert {(s.segment.id, s.klass) for s in back.samples} == {(s.segment.id, s.klass) for s in chosen.samples}
        assert chosen.steps == back.steps


class TestNames:
    @pytest.mark.parametrize(
        ("label", "node", "how"),
        [
            ("/m/dog", "dog", "id"), ("Steam_engine", "steam engine", "name"), ("tool", "tool, device", "part"),
            ("dog barking", "bark", "words"), ("playing hammers", "hammer", "words"),
            ("power drills", "drill (power)", "words"),
        ],
    )  # fmt: skip
    def test_a_label_that_means_one_node(self, graph: Ontology, label: str, node: str, how: str) -> None:
        found = names.match(graph, label)
        assert (found.node, found.how) == (f"/m/{node}", how)

    def test_an_unknown_label_has_its_nearest_names_and_no_node(self, graph: Ontology) -> None:
        found = names.match(graph, "hamer")
        assert (found.node, found.how, found.near) == ("", "unknown", ("hammer",))
        assert names.match(graph, "zeppelin").near == ()
        both = names.match(graph, "dog and cat")
        assert both.how == "unknown"
        assert {"dog", "cat"} <= set(both.near)

    def test_your_decisions_go_first(self, graph: Ontology, tmp_path: Path) -> None:
        path = tmp_path / "map.csv"
        path.write_text("# mine\nlabel,name\nwoof,Bark\nzeppelin,\n")
        given_ = names.read_map(path, graph)
        found = names.matched(graph, ["Woof", "zeppelin", "dog"], given_)
        assert [(m.node, m.how) for m in found.values()] == [
            ("/m/bark", "given"),
            ("", "given"),
            ("/m/dog", "name"),
        ]
        path.write_text("woof,Barkk\n")
        with pytest.raises(ValueError, match=r"map.csv, line 1: .*did you mean 'bark'"):
            names.read_map(path, graph)


class TestLabelFiles:
    def test_the_kinds_are_told_apart(self, graph: Ontology, tmp_path: Path) -> None:
        texts = {
            "VGGSound": "--gvEEMUfLk,30,dog barking,train\n-0H_ABCDEFG,5,zeppelin,test\n",
            "VGGSounder": "video_id,label,modality\n--gvEEMUfLk_000030,dog barking,AV\n--gvEEMUfLk_000030,cat,V\n",
            "labels file": "path,seen,heard\na.mp4,dog,dog barking\nb.mp4,,cat\n",
            "names": "label\ndog barking\ncat\n",
        }
        for kind, text in texts.items():
            path = tmp_path / "x.csv"
            path.write_text(text)
            monkey = label_files.VGGSOUND_MAP
            try:
                label_files.VGGSOUND_MAP = tmp_path / "none.csv"  # of the real ontology's names
                (tmp_path / "none.csv").write_text("label,name\n")
                found = label_files.read_labels(path, graph)
            finally:
                label_files.VGGSOUND_MAP = monkey
            assert found.kind == kind
            assert found.matches["dog barking"].node == "/m/bark"
            if kind == "VGGSound":
                assert [m.label for m in found.unknown] == ["zeppelin"]
                assert [s.labels for s in found.segments] == [("/m/bark",), ("",)]
                assert [s.split for s in found.segments] == ["train", "test"]
            if kind == "VGGSounder":
                assert found.segments[0].seen == ("/m/bark", "/m/cat")
            if kind == "labels file":
                assert [s.seen for s in found.segments] == [("/m/dog",), None]
        path.write_text("a,b,c\n1,2,3\n")
        with pytest.raises(ValueError, match="cannot tell what it is"):
            label_files.read_labels(path, graph)

    def test_a_sample_with_an_unknown_label_is_dropped_and_counted(self, graph: Ontology) -> None:
        some = [Segment(id="a", source="a", labels=("/m/dog", "")), Segment(id="b", source="b", labels=("/m/dog",))]
        chosen = choose(graph, pruned(graph), some)
        assert [s.segment.id for s in chosen.samples] == ["b"]
        assert chosen.steps["every label known"] == 1


def _video(path: Path, seconds: float) -> None:
    frames = np.zeros((round(4 * seconds), 16, 16, 3), np.uint8)
    wave = (0.1 * np.random.default_rng(0).standard_normal((1, round(8000 * seconds)))).astype(np.float32)
    media.write_clip(frames, 4.0, wave, 8000, path)


class TestWhole:
    def test_videos_are_found_by_their_usual_names(self, graph: Ontology, tmp_path: Path) -> None:
        place = tmp_path / "videos"
        place.mkdir()
        _video(place / "aaa_000003.mp4", 2)  # a cut
        _video(place / "Ybbb.mp4", 2)  # MMA-Bench's
        _video(place / "ccc.mp4", 6)  # the whole recording
        _video(place / "ddd.mp4", 2)  # a cut under the recording's name
        rows = [f'{v}, 3.0, 5.0, "/m/dog"' for v in ("aaa", "bbb", "ccc", "ddd", "eee")]
        (tmp_path / "seg.csv").write_text("\n".join(rows) + "\n")
        found = funnel.select(
            tmp_path / "ontology.json", tmp_path / "out", segments=tmp_path / "seg.csv", media=place,
            hand=_no_hand(tmp_path),
        )  # fmt: skip
        assert any("4 of 5 samples have their video" in note for note in found.notes)
        clips = folder.read(tmp_path / "out")  # what audits read
        assert {c.source: (c.start, round(c.end or 0, 1)) for c in clips.clips} == {
            "aaa": (0.0, 2.0), "bbb": (0.0, 2.0), "ccc": (3.0, 5.0), "ddd": (0.0, 2.0),
        }  # fmt: skip
        assert {c.heard for c in clips.clips} == {("dog",)}
        assert (tmp_path / "out" / "missing.txt").read_text() == "eee_000003\n"

    def test_a_labels_file_keeps_its_paths_and_gets_classes(self, graph: Ontology, tmp_path: Path) -> None:
        _video(tmp_path / "a.mp4", 1)
        _video(tmp_path / "b.mp4", 1)
        (tmp_path / "labels.csv").write_text("path,seen,heard,licence\na.mp4,dog,dog barking,CC0\nb.mp4,,hiss,\n")
        funnel.select(
            tmp_path / "ontology.json", tmp_path / "out", labels=tmp_path / "labels.csv", hand=_no_hand(tmp_path)
        )
        (clip,) = folder.read(tmp_path / "out").clips
        assert (clip.seen, clip.heard, clip.licence) == (("dog",), ("dog",), "CC0")

    def test_the_card_says_by_which_command(
        self, graph: Ontology, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _video(tmp_path / "a.mp4", 1)
        (tmp_path / "labels.csv").write_text("path,seen,heard,licence\na.mp4,dog,dog,CC0\n")
        words = [
            "curate", "ontology", str(tmp_path / "ontology.json"), "--labels", str(tmp_path / "labels.csv"),
            "--hand", str(_no_hand(tmp_path)), "--set", "depth=2", "--out", str(tmp_path / "mine"),
        ]  # fmt: skip
        monkeypatch.setattr("sys.argv", ["earwitness", *words])
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        info = msgspec.json.decode((tmp_path / "mine" / "selection.json").read_bytes(), type=funnel.Info)
        assert (info.wish.rules.depth, info.counts["samples"]) == (2, 1)
        facts = dict(card.read(tmp_path / "mine").facts)
        assert facts["curate ontology (mine)"] == shlex.join(["earwitness", *words])
        assert facts["made from"] == str(tmp_path / "labels.csv")
        assert facts["versions"].startswith("earwitness ")

    def test_settings_are_checked(self) -> None:
        made = funnel.choices(
            {"depth": "2", "parents": "any", "one_root": "false", "without": "a|b", "split": "train"}
        )
        assert (made.rules.depth, made.rules.without, made.reading.one_root) == (2, ("a", "b"), False)
        for key, value, says in (
            ("dept", "2", "did you mean 'depth'"),
            ("parents", "some", "--set parents: invalid enum value 'some'; wants classes, roots, any, keep"),
            ("depth", "x", "int"),
            ("depth", "0", "wants 1 to 10"),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=says):
                funnel.choices({key: value})

    def test_the_verb_says_what_is_wrong(self, graph: Ontology, tmp_path: Path) -> None:
        runner = CliRunner()
        onto = str(tmp_path / "ontology.json")
        (tmp_path / "n.txt").write_text("dog barking\nzeppelin\n")
        hand = ["--hand", str(_no_hand(tmp_path)), "--out", str(tmp_path / "o")]
        done = runner.invoke(app, ["curate", "ontology", onto, "--labels", str(tmp_path / "n.txt"), *hand])
        assert done.exit_code == 0, done.output
        assert "'zeppelin' is not in the ontology" in done.output
        more = ["--media", str(tmp_path)]  # of names alone there are no clips, and so no card
        done = runner.invoke(app, ["curate", "ontology", onto, "--labels", str(tmp_path / "n.txt"), *hand, *more])
        assert done.exit_code == 0, done.output
        rows = list(csv.DictReader((tmp_path / "o" / "labels_map.csv").read_text().splitlines()))
        assert [(r["label"], r["class"]) for r in rows] == [("dog barking", "dog"), ("zeppelin", "")]
        for words, says in (
            (["--readings"], "give --segments"),
            (["--segments", "x.csv", "--labels", "y.csv"], "not both"),
            (["--set", "depht=2"], "did you mean 'depth'"),
            (["--segments", str(tmp_path / "none.csv")], "no such file"),
        ):
            done = runner.invoke(app, ["curate", "ontology", onto, *hand, *words])
            assert done.exit_code == 2
            assert says in " ".join(done.output.split())


def _no_hand(tmp_path: Path) -> Path:
    path = tmp_path / "hand.csv"
    path.write_text("name,do,to,ground,why\n")
    return path


class TestReal:
    """The real ontology and the real evaluation segments, beside the paper's figures."""

    pytestmark = real

    def test_the_class_file_that_ships_is_what_rules_and_decisions_make(self) -> None:
        graph = read(SHARED / "audioset_ontology.json")
        made = pruned(graph, Rules(), classes.decisions())
        shipped = classes.read()
        assert shipped.entries == made.entries
        assert shipped.version == classes.VERSION == "mma-1"
        assert len(graph.nodes) == 632
        assert len(graph.roots) == 7
        assert sum(len(p) > 1 for p in graph.parents.values()) == 38
        # Every decision by hand changes something, or says why the rule that does it anyway is right.
        bare = pruned(graph)
        for one in classes.decisions():
            node = named(graph, one.name).id
            if one.do in ("merge", "keep") and one.name != "Speech":
                assert made.entries[node].into, one.name
            assert one.why
        assert len(bare.classes) > 3 * len(made.classes)

    def test_the_funnel(self) -> None:
        begin = time.process_time()
        found = funnel.select(
            SHARED / "audioset_ontology.json", segments=SHARED / "audioset_eval_segments.csv", compare=True
        )
        assert time.process_time() - begin < 10
        by_id = {t.id: {r.label: r.cells for r in t.rows} for t in found.tables}
        labels = by_id["curate_classes"]
        assert labels["labels in use"] == (527, 527, 527)
        assert labels["merged by hand"] == (264, 75, 61)  # the paper's list is not published
        steps = by_id["curate_samples"]
        assert [cells[0] for cells in steps.values()] == [20_371, 12_261, 6_004, 5_233]
        assert steps["labels of one class"][2] == 3_518
        readings = by_id["curate_readings"]
        # classes, with samples, samples, classes that the paper names, clips that its page shows
        assert readings["ours"] == (75, 72, 5_233, 20, 12)
        assert readings["2 levels"][4] == 1
        assert readings["4 levels (a root is level 0)"][4] == 3
        assert (
            readings["several parents: always dropped"][3] == 19
        )  # Clapping has two parents, and is a class there
        assert readings["labels above others stay"][4] == 10
        assert readings["labels of several roots may stay"][2] == 5_233  # the last rule drops them anyway

    def test_the_released_clips_are_chosen_under_the_class_they_are_shown_under(self) -> None:
        graph = read(SHARED / "audioset_ontology.json")
        chosen = choose(graph, classes.read(), read_segments(SHARED / "audioset_eval_segments.csv", graph))
        shown = {s.segment.source: s.klass for s in chosen.samples}
        assert {i: shown.get(i) for i in funnel.RELEASED} == funnel.RELEASED

    def test_vggsounder(self, tmp_path: Path) -> None:
        found = funnel.select(SHARED / "audioset_ontology.json", tmp_path, labels=SHARED / "vggsounder.csv")
        assert found.labels is not None
        assert found.chosen is not None
        assert len(found.labels.matches) == 309
        assert not found.labels.unknown
        assert sum(m.how == "given" for m in found.labels.matches.values()) < 165  # the rest by their own words
        assert list(found.chosen.steps.values()) == [11_917, 10_066, 6_608, 4_402, 3_581, 2_696]
        assert len(found.chosen.by_class) == 59

    def test_every_label_of_audioset_means_itself(self) -> None:
        graph = read(SHARED / "audioset_ontology.json")
        with (SHARED / "audioset_class_labels_indices.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 527
        assert all(names.match(graph, r["display_name"]).node == r["mid"] for r in rows)
