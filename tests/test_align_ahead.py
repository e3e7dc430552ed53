"""Readers that work ahead of a trainer: what they make is what the trainer would have made, and they may fail."""

from __future__ import annotations

import json
import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import small_sets  # noqa: E402
from earwitness.align import ahead, recipes, sharding, trainers, training  # noqa: E402
from earwitness.align.feeding import Feeder  # noqa: E402
from earwitness.align.order import Together  # noqa: E402
from earwitness.audit.workers import Recipe as ToLoad  # noqa: E402
from earwitness.datasets.opening import open_clips  # noqa: E402
from earwitness.models.load import HANS  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.records import Intervention, Item  # noqa: E402


@pytest.fixture(scope="module")
def items() -> list[Item]:
    torch.set_num_threads(1)
    return [pair.item for pair in small_sets.pairs()]


@pytest.fixture(scope="module")
def feeder() -> Feeder:
    return Feeder(QwenOmni(HANS), open_clips("foley", limit=small_sets.CLIPS, seed=small_sets.SEED))


@pytest.fixture(scope="module")
def reading(items: list[Item]) -> Iterator[Feeder]:
    made = Feeder(QwenOmni(HANS), open_clips("foley", limit=small_sets.CLIPS, seed=small_sets.SEED))
    made.read_ahead(1, batch=4, load=ToLoad("hans"))
    yield made
    made.close()


def features(feeder: Feeder, some: list[Item]) -> list[tuple[Any, Any]]:
    return [(shown.seen, shown.heard) for shown, _ in feeder.shown(some)]


def equal(a: list[tuple[Any, Any]], b: list[tuple[Any, Any]]) -> bool:
    return all(
        (x is None) == (y is None)
        and (x is None or (x.digest == y.digest and torch.allclose(x.features, y.features, atol=1e-6)))
        for one, other in zip(a, b, strict=True)
        for x, y in zip(one, other, strict=True)
    )


def by_hand(feeder: Feeder, monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    """What a feeder has to make itself from now on."""
    made: list[Item] = []
    plain = Feeder.media
    monkeypatch.setattr(Feeder, "media", lambda self, item: (made.append(item), plain(self, item))[1])
    return made


def test_readers_make_what_the_feeder_would_have_made(
    feeder: Feeder, reading: Feeder, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order told, after a part that is skipped, where nobody was told, and where nothing can be made."""
    plain = features(feeder, items)
    made = by_hand(reading, monkeypatch)
    reading.expect(items[:24])
    assert equal(features(reading, items[:4]), plain[:4])
    assert equal(features(reading, items[20:24]), plain[20:24])  # as a stage that goes on in the middle
    assert not made
    assert equal(features(reading, items[30:32]), plain[30:32])
    assert {i.clip for i in made} == {i.clip for i in items[30:32]}
    wrong = msgspec.structs.replace(items[25], intervention=Intervention(kind="swap", donor="nobody"))
    reading.expect([wrong])
    with pytest.raises(ValueError, match="no clip 'nobody'"):
        reading.shown([wrong])


def test_a_reader_that_dies_costs_nothing_but_time(feeder: Feeder, reading: Feeder, items: list[Item]) -> None:
    reading.expect(items[24:])
    loader = reading._ahead._loader  # type: ignore[union-attr]
    for process in loader._iterator._workers:  # type: ignore[union-attr]
        status = Path(f"/proc/{process.pid}/status").read_text()
        blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
        assert blocked >> (signal.SIGINT - 1) & 1, "Ctrl-C is for the one who learns"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with pytest.warns(RuntimeWarning, match="this process goes on alone"):
        assert equal(features(reading, items[24:]), features(feeder, items[24:]))
    reading.expect(items)  # of the next epoch: nobody reads ahead any more
    assert equal(features(reading, items[:2]), features(feeder, items[:2]))


def test_without_towers_a_reader_makes_media(feeder: Feeder, items: list[Item], tmp_path: Path) -> None:
    """As beside a model on a GPU, whose towers run where it lies."""
    told = tmp_path / "told"
    told.write_bytes(pickle.dumps((feeder._clips, feeder.model.view, None)))
    made = ahead._Reader(str(told)).__getitems__(items[:3])
    for item, one in zip(items, pickle.loads(ahead._packed(made)), strict=False):
        assert one.fed is None
        plain = feeder.media(item)
        assert (one.media.video_hash, one.media.audio_hash) == (plain.video_hash, plain.audio_hash)


def test_what_is_sent_holds_no_more_than_itself(feeder: Feeder, items: list[Item], tmp_path: Path) -> None:
    """Features are slices of a batch's; a slice's storage is the whole batch."""
    told = tmp_path / "told"
    told.write_bytes(pickle.dumps((feeder._clips, feeder.model.view, ToLoad("hans"))))
    made = ahead._Reader(str(told)).__getitems__(items[:8])
    need = sum(part.nbytes for m in made for part in (m.fed or ())[3:] if part is not None)  # type: ignore[union-attr]
    assert len(ahead._packed(made)) < 1.2 * need


def test_a_stage_with_readers_learns_the_same(tmp_path: Path) -> None:
    data = small_sets.write(tmp_path / "set")
    recipe = recipes.named("thud-dpo", batch=4, accumulate=1, precision="float32", validation=0, steps=3, rate=1e-3)
    losses = []
    for readers in (0, 1):
        out = tmp_path / str(readers)
        training.align(recipe, data, QwenOmni(HANS), out, readers=readers, load=ToLoad("hans"))
        lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)


def test_each_process_expects_its_own_batches(items: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch 0 is the first process's, batch 1 the second's, and so on."""
    pairs, told = small_sets.pairs(), []
    monkeypatch.setattr(sharding, "world", lambda: 2)
    monkeypatch.setattr(sharding, "rank", lambda: 1)

    class Listener:
        def expect(self, some: list[Item]) -> None:
            told.append([i.id for i in some])

    order = trainers.order(recipes.named("mma-sft", batch=4), Listener(), pairs)  # type: ignore[arg-type]
    places = list(order)
    theirs = [n for at in range(4, len(places), 8) for n in places[at : at + 4]]
    assert told == [[pairs[n].item.id for n in theirs]]


def test_the_order_is_told_whole_and_anew_for_each_epoch() -> None:
    told: list[list[int]] = []
    order = Together("aabbcc", 2, seed=3, tell=told.append)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    assert told == [first, second]
    assert sorted(first) == sorted(second) == list(range(6))


@pytest.mark.parametrize("readers", [0, -1, 10_000])
def test_how_many_readers(readers: int, feeder: Feeder) -> None:
    with pytest.raises(ValueError, match=f"{readers} readers on "):
        feeder.read_ahead(readers, batch=4, load=ToLoad("hans"))
