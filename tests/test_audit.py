"""The audit loop: asked once, resumed after any stop, failures kept apart; and the ear and eye check."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from earwitness import audit, foley
from earwitness import run as runs
from earwitness.audit import check
from earwitness.records import Answer, Fed, Intervention, Item, Media, View, digest


class Ear:
    """Answers with the hash of what it was fed; optionally deaf, blind, lying or failing."""

    name, revision, abilities = "ear", "1", frozenset[str]()
    view = View(size=(28, 28))

    def __init__(self, *, deaf: bool = False, blind: bool = False, fails: str = "", receipts: bool = True) -> None:
        self.deaf, self.blind, self.fails, self.receipts = deaf, blind, fails, receipts
        self.asked: list[str] = []
        self.media: list[int] = []

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        for item in items:
            if self.fails and self.fails in item.condition:
                raise RuntimeError(f"cannot do {item.condition}")
        self.asked += [i.id for i in items]
        self.media += [id(m) for m in media]
        out = []
        for item, one in zip(items, media, strict=True):
            audio, video = (None if self.deaf else one.audio_hash), (None if self.blind else one.video_hash)
            fed = Fed(audio_hash=audio, video_hash=video) if self.receipts else None
            out.append(Answer(item=item.id, model=self.name, text=f"{audio} {video}", fed=fed))
        return out


def _items(clips: foley.FoleyClips, kinds: Sequence[str] = ("original", "mute", "black", "sham")) -> list[Item]:
    return [
        Item(
            id=digest(clip.id, kind, seed), protocol="mma", condition=kind, question="audio", seed=seed,
            clip=clip.id, source=clip.cluster, group=clip.id, intervention=Intervention(kind=kind), prompt="?",
            target=None,
        )
        for seed in (0, 1) for clip in clips.clips for kind in kinds
    ]  # fmt: skip


@pytest.fixture
def clips() -> foley.FoleyClips:
    return foley.clip_set(5, seed=3, duration=2.0)


def test_everything_is_asked_once_and_items_on_the_same_media_share_it(
    clips: foley.FoleyClips, tmp_path: Path
) -> None:
    model, items = Ear(), _items(clips)
    counts = audit.ask(model, clips, items, tmp_path)
    assert sorted(model.asked) == sorted(i.id for i in items)
    assert counts["decodes"] == 5
    assert set(runs.read_answers(tmp_path)) == {i.id for i in items}
    again = audit.ask(model, clips, items, tmp_path)
    assert again["asked"] == 0
    assert len(model.asked) == len(items)
    assert all(a == b for a, b in zip(model.media[::2], model.media[1::2], strict=True))


def test_the_order_of_items_does_not_matter(clips: foley.FoleyClips, tmp_path: Path) -> None:
    items = _items(clips)
    for name, some in (("a", items), ("b", items[::-1])):
        (tmp_path / name).mkdir()
        audit.ask(Ear(), clips, some, tmp_path / name, chunk=3)
    a, b = ({k: (v.text, v.fed) for k, v in runs.read_answers(tmp_path / n).items()} for n in ("a", "b"))
    assert a == b


def test_a_failing_item_costs_only_itself(clips: foley.FoleyClips, tmp_path: Path) -> None:
    items = _items(clips)
    audit.ask(Ear(fails="mute"), clips, items, tmp_path)
    answers = runs.read_answers(tmp_path)
    for item in items:
        assert (answers[item.id].error is not None) == (item.condition == "mute")
        assert (answers[item.id].text is None) == (item.condition == "mute")
    counts = audit.ask(Ear(), clips, items, tmp_path, retry_failed=True)
    assert counts["asked"] == 10
    assert counts["failed"] == 0


def test_a_broken_clip_is_named_and_the_run_goes_on(clips: foley.FoleyClips, tmp_path: Path) -> None:
    broken = msgspec.structs.replace(clips.clips[1], foley="foley:nonsense")
    damaged = foley.FoleyClips([clips.clips[0], broken, *clips.clips[2:]])
    items = _items(clips)
    audit.ask(Ear(), damaged, items, tmp_path)
    answers = runs.read_answers(tmp_path)
    for item in items:
        error = answers[item.id].error
        assert (error is not None) == (item.clip == broken.id)
        assert error is None or broken.id in error


def test_answers_for_other_items_and_empty_answers_are_errors(clips: foley.FoleyClips, tmp_path: Path) -> None:
    class Mixed(Ear):
        def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
            answers = super().answer(items, media)
            if items[0].condition == "mute":
                return [msgspec.structs.replace(a, text="  ") for a in answers]
            return answers[::-1] if len(answers) > 1 else [msgspec.structs.replace(a, item="x") for a in answers]

    items = _items(clips, ("mute", "black"))
    audit.ask(Mixed(), clips, items, tmp_path, chunk=2)
    errors = [runs.read_answers(tmp_path)[i.id].error or "" for i in items]
    assert all("empty answer" in e or "other items" in e for e in errors)


def test_kill_9_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    code = textwrap.dedent(
        f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_audit import Ear, _items
        from earwitness import audit, foley
        class Slow(Ear):
            def answer(self, items, media):
                time.sleep(0.05)
                return super().answer(items, media)
        clips = foley.clip_set(5, seed=3, duration=2.0)
        audit.ask(Slow(), clips, _items(clips), Path({str(tmp_path)!r}), chunk=2)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    log = tmp_path / "answers.jsonl"
    deadline = time.monotonic() + 60
    while (not log.exists() or log.stat().st_size < 900) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = runs.read_answers(tmp_path)
    clips = foley.clip_set(5, seed=3, duration=2.0)
    items, model = _items(clips), Ear()
    assert 0 < len(before) < len(items)
    audit.ask(model, clips, items, tmp_path, chunk=2)
    assert set(model.asked) == {i.id for i in items} - set(before)
    after = runs.read_answers(tmp_path)
    assert set(after) == {i.id for i in items}
    assert all(after[k] == v for k, v in before.items())


def _clip() -> Media:
    return foley.media(foley.scene(11, duration=2.0), Ear.view)


def test_a_working_model_passes_the_check() -> None:
    rows = audit.check_model(Ear(), _clip())
    assert len(rows) == len(check.CHECK_SOUNDS) + len(check.CHECK_PICTURES)


@pytest.mark.parametrize("receipts", [True, False])
@pytest.mark.parametrize(("organ", "word"), [("deaf", "deaf"), ("blind", "blind")])
def test_deaf_and_blind_harnesses_are_refused(organ: str, word: str, receipts: bool) -> None:
    with pytest.raises(audit.EarCheckError, match=word):
        audit.check_model(Ear(receipts=receipts, **{organ: True}), _clip())  # type: ignore[arg-type]


def test_a_harness_that_feeds_one_and_the_same_sound_is_refused() -> None:
    class Stale(Ear):
        def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
            return [
                msgspec.structs.replace(a, fed=Fed(audio_hash="cached", video_hash=m.video_hash))
                for a, m in zip(super().answer(items, media), media, strict=True)
            ]

    with pytest.raises(audit.EarCheckError, match="identical receipts"):
        audit.check_model(Stale(), _clip())


def test_a_model_that_ignores_the_sound_is_no_deaf_harness() -> None:
    class Horse(Ear):
        def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
            return [msgspec.structs.replace(a, text="a drum") for a in super().answer(items, media)]

    audit.check_model(Horse(), _clip())


def test_the_plan_counts_decodes_and_passes(clips: foley.FoleyClips) -> None:
    plan = audit.plan(_items(clips))
    assert (plan.clips, plan.items, plan.media, plan.decodes) == (5, 40, 20, 5)
    assert (plan.video_passes, plan.audio_passes) == (10, 15)


def test_black_is_one_picture_of_a_clip_whatever_is_done_to_its_sound(clips: foley.FoleyClips) -> None:
    one = _items(clips)[0]
    changes = (Intervention(kind="shift", seconds=2.0, unseen=True), Intervention(kind="black"), one.intervention)
    some = [msgspec.structs.replace(one, id=str(n), intervention=iv) for n, iv in enumerate(changes)]
    plan = audit.plan(some)
    assert (plan.media, plan.video_passes, plan.audio_passes) == (3, 2, 2)
