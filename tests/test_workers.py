"""Several workers, one audit: the same answers, none lost and none twice, whoever dies on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ctrl_c import hears_ctrl_c
from earwitness import audit, foley
from earwitness import run as runs
from earwitness.audit import asking, workers
from earwitness.audit.bank import Bank
from earwitness.audit.shares import Share, Work, in_order
from earwitness.audit.workers import Recipe, WorkerError, ask_many
from earwitness.models.load import load_model
from earwitness.records import Answer, Clip, Intervention, Item, Media, View, digest

ZOO = '''
import os, signal, time
from pathlib import Path
from earwitness.models.fake import control


class Animal:
    """fake:hears that says who it is, and may be slow, or kill itself on an item."""

    revision, abilities = "1", frozenset({"generates"})

    def __init__(self, folder=None, slow=0.0, poison=None):
        self._hears = control("hears")
        self.name, self.view = "animal", self._hears.view
        self.counts = {"encoded": 0.0}
        self._slow, self._poison = slow, poison
        if "ZOO_FOLDER" in os.environ:
            Path(os.environ["ZOO_FOLDER"], str(os.getpid())).touch()

    def answer(self, items, media):
        time.sleep(self._slow)
        self.counts["encoded"] += len(items)
        if any(self._poison == (i.clip, i.condition) for i in items):
            os.kill(os.getpid(), signal.SIGKILL)
        return self._hears.answer(items, media)


def quick(): return Animal()
def slow(): return Animal(slow=0.15)
def slower(): return Animal(slow=0.5)
def together():
    """Ready when two of its kind are: a busy machine starts one worker long before the other."""
    animal, end = Animal(slow=0.15), time.monotonic() + 30
    while len(os.listdir(os.environ["ZOO_FOLDER"])) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    return animal
def poisonous(): return Animal(poison=tuple(os.environ["ZOO_POISON"].split("|")))
def stillborn(): raise OSError("no such checkpoint: zoo/stillborn")
def crashing(): os._exit(3)
def served():
    animal = Animal()
    animal.abilities = frozenset({"streams"})
    return animal
'''


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A package of models that workers can import, too."""
    root = tmp_path_factory.mktemp("zoo")
    (root / "zoo").mkdir()
    (root / "zoo" / "__init__.py").touch()
    (root / "zoo" / "animals.py").write_text(ZOO)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        yield root


@pytest.fixture(scope="module")
def clips() -> foley.FoleyClips:
    return foley.clip_set(8, seed=3, duration=1.0)


def items_of(clips: foley.FoleyClips, kinds: Sequence[str] = ("original", "mute", "black", "swap")) -> list[Item]:
    """A question on what is heard, of each clip under each intervention; clip k swaps with clip n - 1 - k."""
    out = []
    for clip, donor in zip(clips.clips, reversed(clips.clips), strict=True):
        for kind in kinds:
            iv = Intervention(kind=kind, donor=donor.id if kind == "swap" else None)  # type: ignore[arg-type]
            heard = {"mute": (), "swap": donor.heard}.get(kind, clip.heard)
            out.append(
                Item(
                    id=digest(clip.id, kind), protocol="mma", condition=kind, question="audio", clip=clip.id,
                    source=clip.cluster, group=clip.id, intervention=iv, prompt="?", choices=foley.CLASSES,
                    target=None, seen=clip.seen, heard=heard,
                )
            )  # fmt: skip
    return out


def outcome(folder: Path) -> dict[str, tuple[object, ...]]:
    """What was answered, without the seconds; every line of the file counts once."""
    answers = runs.read_answers(folder)
    lines = (folder / "answers.jsonl").read_text().splitlines()
    assert len(lines) == len(answers), "an item was answered twice"
    return {a.item: (a.text, a.fed, a.error) for a in answers.values()}


@pytest.fixture(scope="module")
def alone(clips: foley.FoleyClips, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, ...]]:
    """The answers of one process."""
    folder = tmp_path_factory.mktemp("alone")
    audit.ask(load_model("zoo.animals:quick"), clips, items_of(clips), folder)
    return outcome(folder)


def test_two_workers_answer_as_one_does(
    clips: foley.FoleyClips, alone: dict[str, tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pids").mkdir()
    monkeypatch.setenv("ZOO_FOLDER", str(tmp_path / "pids"))
    seen: list[tuple[int, int, int]] = []
    recipe = Recipe("zoo.animals:together", revision="1")
    counts = ask_many(
        recipe, clips, items_of(clips), tmp_path, workers=2, chunk=4, progress=lambda *n: seen.append(n)
    )
    assert outcome(tmp_path) == alone
    assert len(list((tmp_path / "pids").iterdir())) == 2
    assert counts["workers"] == 2
    assert counts["asked"] == counts["encoded"] == 32
    assert counts["deaths"] == counts["failed"] == 0
    assert seen[-1] == (32, 0, 32)
    again = ask_many(recipe, clips, items_of(clips), tmp_path, workers=2)
    assert again["asked"] == 0


@pytest.mark.timeout(300)  # torch is loaded three times
def test_hans_answers_alike_with_two_workers(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from earwitness.models.load import HANS

    if not (HANS / "config.json").is_file():
        pytest.skip("the package came without Hans")
    clips = foley.clip_set(2, seed=8)
    model, items = load_model("hans"), items_of(clips, ("original", "mute"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    audit.ask(model, clips, items, tmp_path / "one")
    ask_many(Recipe("hans", revision=model.revision), clips, items, tmp_path / "two", workers=2)
    one, two = outcome(tmp_path / "one"), outcome(tmp_path / "two")
    assert {k: v[0] for k, v in one.items()} == {k: v[0] for k, v in two.items()}
    assert all(error is None for _, _, error in two.values())


def test_a_killed_worker_costs_nothing_but_time(
    clips: foley.FoleyClips, alone: dict[str, tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pids").mkdir()
    monkeypatch.setenv("ZOO_FOLDER", str(tmp_path / "pids"))
    killed: list[int] = []

    def kill(done: int, failed: int, total: int) -> None:
        if done >= 8 and not killed:
            killed.append(int(next((tmp_path / "pids").iterdir()).name))
            os.kill(killed[0], signal.SIGKILL)

    counts = ask_many(
        Recipe("zoo.animals:together"), clips, items_of(clips), tmp_path, workers=2, chunk=2, progress=kill
    )
    assert killed
    assert counts["deaths"] == 1
    assert outcome(tmp_path) == alone


def test_an_item_that_kills_its_worker_fails_and_takes_nothing_with_it(
    clips: foley.FoleyClips, alone: dict[str, tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = items_of(clips)
    bad = items[9]
    monkeypatch.setenv("ZOO_POISON", f"{bad.clip}|{bad.condition}")
    counts = ask_many(Recipe("zoo.animals:poisonous"), clips, items, tmp_path, workers=2)
    got = outcome(tmp_path)
    assert set(got) == {i.id for i in items}
    text, _, error = got.pop(bad.id)
    assert text is None
    assert "the worker died, 2 times" in str(error)
    assert "killed by SIGKILL" in str(error)
    assert got == {k: v for k, v in alone.items() if k != bad.id}
    assert counts["failed"] == 1
    assert counts["deaths"] <= 4


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (Recipe("zoo.animals:stillborn"), "OSError: no such checkpoint: zoo/stillborn"),
        (Recipe("zoo.animals:crashing"), "exit code 3"),
    ],
)
def test_workers_that_cannot_start_are_one_clear_error(
    recipe: Recipe, says: str, clips: foley.FoleyClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "STARTS", 2)
    with pytest.raises(WorkerError, match=says):
        ask_many(recipe, clips, items_of(clips), tmp_path, workers=1)
    assert runs.read_answers(tmp_path) == {}
    with runs.AnswerLog(tmp_path):
        pass  # the folder is free again


def test_a_worker_refuses_another_checkpoint_and_a_served_model() -> None:
    with pytest.raises(ValueError, match="revision 1 here, and other in the plan"):
        Recipe("zoo.animals:quick", revision="other").load()
    with pytest.raises(ValueError, match="Leave --workers out"):
        Recipe("zoo.animals:served").load()


def test_each_worker_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert workers._gpus() == ["2", "5"]
    for none in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", none)
        assert workers._gpus() == []


def test_bad_words_are_refused_before_anything_starts(
    clips: foley.FoleyClips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, items = Recipe("zoo.animals:quick"), items_of(clips)
    with pytest.raises(ValueError, match="at least one"):
        ask_many(recipe, clips, items, tmp_path, workers=0)
    held = foley.FoleyClips(clips.clips)
    held.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"FoleyClips.*cannot be sent to workers"):
        ask_many(recipe, held, items, tmp_path, workers=2)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="without torchrun, with --workers 4"):
        ask_many(recipe, clips, items, tmp_path, workers=2)
    with pytest.raises(ValueError, match="without torchrun, with --workers 4"):
        audit.ask(load_model("fake:hears"), clips, items, tmp_path)


def test_ctrl_c_ends_the_workers_and_keeps_what_was_answered(
    clips: foley.FoleyClips, alone: dict[str, tuple[object, ...]], zoo: Path, tmp_path: Path
) -> None:
    (tmp_path / "pids").mkdir()
    script = tmp_path / "audit_it.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            sys.path[:0] = {[str(Path(__file__).parent), str(zoo)]!r}
            from pathlib import Path
            from test_workers import items_of
            from earwitness import foley
            from earwitness.audit.workers import Recipe, ask_many

            if __name__ == "__main__":
                clips, folder = foley.clip_set(8, seed=3, duration=1.0), Path({str(tmp_path)!r})
                ask_many(Recipe("zoo.animals:slower"), clips, items_of(clips), folder, workers=2, chunk=2)
            """
        )
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        preexec_fn=hears_ctrl_c,
        start_new_session=True,  # a group of its own: Ctrl-C goes to all of it, as in a terminal
        env={**os.environ, "ZOO_FOLDER": str(tmp_path / "pids")},
        stderr=subprocess.PIPE,
        text=True,
    )
    log, pids, deadline = tmp_path / "answers.jsonl", tmp_path / "pids", time.monotonic() + 60
    while (not log.exists() or log.stat().st_size == 0 or len(list(pids.iterdir())) < 2) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode != 0
    assert said.count("KeyboardInterrupt") == 1, said  # this process's, not the workers'
    assert len(list(pids.iterdir())) == 2
    for file in pids.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(file.name), 0)
    before = runs.read_answers(tmp_path)
    assert 0 < len(before) < 32
    counts = audit.ask(load_model("zoo.animals:quick"), clips, items_of(clips), tmp_path)
    assert counts["asked"] == 32 - len(before)
    assert outcome(tmp_path) == alone


# --- who asks what -------------------------------------------------------------------------------------------


def test_takers_and_donors_are_neighbours_and_each_clip_is_decoded_once(clips: foley.FoleyClips) -> None:
    items = items_of(clips)
    order = in_order(items)
    ids = [group[0].clip for group in order]
    assert sorted(i.id for group in order for i in group) == sorted(i.id for i in items)
    pairs = {frozenset(ids[k : k + 2]) for k in range(0, 8, 2)}
    assert pairs == {frozenset((a.id, b.id)) for a, b in zip(clips.clips, reversed(clips.clips), strict=True)}
    view = View(size=(28, 28))
    bank = Bank(clips, view, max_bytes=1)  # holds two clips, no more
    for group in order:
        for item in group:
            bank.condition(item.clip, item.intervention)
    assert bank.decodes == len(clips.clips)


def test_a_donor_that_is_not_asked_itself_still_ties_its_takers(clips: foley.FoleyClips) -> None:
    donor = clips.clips[0].id
    items = [
        Item(
            id=str(n), protocol="mma", condition="c", question="audio", clip=c.id, source=c.id, group="g",
            intervention=Intervention(kind="swap", donor=donor) if n in (1, 4) else Intervention(), prompt="",
            target=None,
        )
        for n, c in enumerate(clips.clips) if n
    ]  # fmt: skip
    assert [group[0].id for group in in_order(items)] == ["1", "4", "2", "3", "5", "6", "7"]


def test_shares_are_full_at_first_and_small_at_the_end(clips: foley.FoleyClips) -> None:
    work = Work(items_of(clips), askers=2, size=10)
    sizes = []
    while share := work.take():
        sizes.append(len(share.left))
    assert sizes == [8, 4, 4, 4, 4, 4, 4]  # of 32: at most a fourth of what is left, whole clips, 10 at most
    assert not work


def test_a_share_comes_back_by_clip_then_by_item_and_then_is_given_up(clips: foley.FoleyClips) -> None:
    items = items_of(clips)[:8]
    work = Work(items, askers=1, size=16)
    share = Share(items)
    work.take()
    work.take()
    assert not work
    share.settle([Answer(item=items[0].id, model="m", text="x")])
    assert work.died(share) == []
    clip = work.take()
    assert clip is not None
    assert list(clip.left) == [i.id for i in in_order(items[1:4])[0]]  # what was answered does not come back
    assert work.died(clip) == []
    single = work.take()
    assert single is not None
    assert single.alone
    assert work.died(single) == []
    again = work.take()
    assert again is not None
    assert list(again.left) == list(single.left)
    assert [i.id for i in work.died(again)] == list(single.left)
    rest = 0
    while share_left := work.take():
        rest += len(share_left.left)
    assert rest == 2 + 4


def test_a_clip_that_kills_under_two_interventions_is_given_up_whole(clips: foley.FoleyClips) -> None:
    items = items_of(clips)[:4]
    work = Work(items, askers=1, size=4)
    lost: list[str] = []
    deaths = 0
    while share := work.take():
        lost += [i.id for i in work.died(share)]
        deaths += 1
    assert sorted(lost) == sorted(i.id for i in items)
    assert deaths == 6  # twice together, twice each under two interventions; the other two die without a test


def test_an_answer_that_was_not_asked_is_an_error(clips: foley.FoleyClips) -> None:
    share = Share(items_of(clips)[:1])
    with pytest.raises(ValueError, match="not asked"):
        share.settle([Answer(item="x", model="m", text="y")])


# --- memory --------------------------------------------------------------------------------------------------


class Long:
    """Clips of 10 MB each, one question each, as a file of questions on long videos has them."""

    def __init__(self, n: int) -> None:
        self.clips = [Clip(id=f"c{k}") for k in range(n)]

    def media(self, clip: Clip, view: View) -> Media:
        frames = np.full((20, 400, 420, 3), int(clip.id[1:]), np.uint8)
        return Media(frames=frames, times=np.arange(20) / 2, wave=None, rate=16_000, duration=10.0)

    def stems(self, clip: Clip, view: View) -> dict[str, object]:
        return {}


def test_a_batch_is_bounded_by_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "BATCH_BYTES", 25_000_000)
    clips = Long(7)
    sizes: list[int] = []

    class Counting:
        name, revision, abilities, view = "counting", "1", frozenset[str](), View()

        def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
            sizes.append(sum(m.frames.nbytes for m in media if m.frames is not None))
            return [Answer(item=i.id, model="counting", text="x") for i in items]

    items = [
        Item(
            id=c.id, protocol="p", condition="c", question="q", clip=c.id, source=c.id, group=c.id, prompt="",
            target=None,
        )
        for c in clips.clips
    ]  # fmt: skip
    audit.ask(Counting(), clips, items, tmp_path)  # type: ignore[arg-type]
    assert len(sizes) == 3
    assert max(sizes) <= 25_000_000 + 10_080_000


def test_a_torn_line_longer_than_a_block_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    whole = json.dumps({"item": "a", "model": "m", "text": "x" * 200_000}) + "\n"
    path.write_text(whole + whole.replace('"a"', '"b"')[:150_000])
    assert runs.failures(tmp_path) == {"a": False}
    with runs.AnswerLog(tmp_path) as log:
        log.append([Answer(item="b", model="m", error="boom")])
    assert runs.failures(tmp_path) == {"a": False, "b": True}
    path.write_text("x" * 200_000)
    with runs.AnswerLog(tmp_path):
        pass
    assert path.read_text() == ""
