"""Is a model over several devices looked into where its layers lie? The devices are faked, an offload is real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_thinkers as tiny  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni, wrap  # noqa: E402
from earwitness.models.qwen_wrapped import spread, unwrapped  # noqa: E402
from earwitness.whitebox import capture as capturing  # noqa: E402
from earwitness.whitebox import causal, contribution, patching  # noqa: E402
from earwitness.whitebox.attention import Call  # noqa: E402
from earwitness.whitebox.capture import capture  # noqa: E402
from earwitness.whitebox.edges import Cut  # noqa: E402
from earwitness.whitebox.twins import Patched  # noqa: E402
from placed import Placed, several  # noqa: E402
from spread_thinkers import VIEW, on_disk, random_thinker, spread_out, whole  # noqa: E402
from tuned import adapted  # noqa: E402

torch.set_num_threads(1)
PROMPT = "Which class best describes the *audio content* of this video? Options: {bell, drum}."
CUTS = [Cut("audio<->video", (0, 1)), Cut("video->answer", (1, 1))]
WINDOWS = [(0, 0), (1, 1), (0, 1)]


def asked() -> tuple[list[Any], list[Any], list[str]]:
    """Two questions of different length, so that one is padded, and their answers."""
    first = tiny.item(0, PROMPT, ("bell", "drum"), seen=("bell",), heard=("drum",))
    items = [first, tiny.item(1, "What do you hear?", ("bell", "drum"), seen=("drum",), heard=("bell",))]
    return items, [tiny.media(0), tiny.media(1)], ["bell", "dog barking"]


def looked(model: QwenOmni) -> tuple[Any, Any, Any]:
    """All that the white box reads of it."""
    items, media, said = asked()
    seen = capture(model, items, media, said, values=True, keep_layers=(0, 1))
    cut = causal.measure(model, items, media, said, CUTS, controls=1)
    return seen, cut, contribution.contributions(model, items, media)


def same(found: tuple[Any, Any, Any], wanted: tuple[Any, Any, Any]) -> None:
    for a, b in zip(found[0], wanted[0], strict=True):
        for name in ("mass", "mass2", "value", "u_top10", "entropy", "kl", "logp_answer"):
            assert np.abs(getattr(a, name) - getattr(b, name)).max() < 1e-5, name
        assert all(np.abs(a.kept[n] - b.kept[n]).max() < 1e-5 for n in (0, 1))
        assert all(np.abs(p - b.logp_choice[c]).max() < 1e-5 for c, p in a.logp_choice.items())
    for some, others in zip(found[1], wanted[1], strict=True):
        for a, b in zip(some, others, strict=True):
            assert (a.edge, a.keys, a.control_keys) == (b.edge, b.keys, b.control_keys)
            assert abs(a.cut.answer - b.cut.answer) < 1e-5
            assert abs(a.controls[0].answer - b.controls[0].answer) < 1e-5
            assert all(abs(a.cut.choices[c] - p) < 1e-5 for c, p in b.cut.choices.items())
    for a, b in zip(found[2], wanted[2], strict=True):
        assert abs(a.gap - b.gap) < 1e-5
        assert np.abs(a.heads - b.heads).max() < 1e-5


def patched(model: QwenOmni) -> list[list[Patched]]:
    """Two receivers of different length with each other's clip as donor; all parts, layer by layer and together."""
    items, media, _ = asked()
    pairs = [(i, i) for i in items]
    return patching.patch(
        model, pairs, [(media[0], media[1]), (media[1], media[0])], WINDOWS, tuple(patching.MEDIA)
    )


def same_patches(found: list[list[Patched]], wanted: list[list[Patched]]) -> None:
    for some, others in zip(found, wanted, strict=True):
        assert [(p.item, p.part, p.layers) for p in others] == [
            (p.item, part, w)
            for p, (part, w) in zip(some, [(x, w) for x in patching.MEDIA for w in WINDOWS], strict=True)
        ]
        for a, b in zip(some, others, strict=True):
            assert (a.item, a.donor, a.part, a.layers, a.tokens, a.option) == (
                b.item, b.donor, b.part, b.layers, b.tokens, b.option,
            )  # fmt: skip
            assert abs(a.patched - b.patched) < 1e-5
            assert abs(a.plain - b.plain) < 1e-5
            assert abs(a.with_donor - b.with_donor) < 1e-5
        assert min(abs(p.plain - p.with_donor) for p in others) > 1e-3
        one, other, both = (next(p for p in others if p.part == "media" and p.layers == w) for w in WINDOWS)
        assert abs(both.patched - both.with_donor) < 1e-5, "all layers of all media are the donor itself"
        assert min(abs(p.patched - p.plain) for p in (one, other)) > 1e-3, "each device's layer says something"


def test_over_four_devices_it_reads_what_it_reads_on_one(family: str) -> None:
    wanted = looked(whole(family))
    with spread_out(family) as model:
        assert spread(model.model) == 4
        assert str(model.thinker.device) == "xla:1"
        assert not model.plain
        same(looked(model), wanted)


def test_over_four_devices_twins_lend_each_other_keys_and_values(family: str) -> None:
    pytest.importorskip("accelerate")
    wanted = patched(whole(family))
    with spread_out(family, "accelerate") as model:
        same_patches(patched(model), wanted)


def test_what_is_lent_comes_from_the_layers_own_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake devices are strict: places marked on one device are not taken for the keys of another."""
    real = patching._given
    lent_on = set()

    def watched(own: Any, lent: Any, where: Any, window: Any) -> Any:
        made = real(own, lent, where, window)
        lent_on.update((n, str(x.device)) for some in (made.keys, made.values) for n, x in enumerate(some))
        with pytest.raises(RuntimeError, match="same device"):
            torch.where(where.to("xla:1")[:, None, :, None], lent.keys[1], own.keys[1])
        return made

    with spread_out("qwen2.5-omni") as model:
        monkeypatch.setattr(patching, "_given", watched)
        patched(model)
    assert lent_on == {(0, "xla:1"), (1, "xla:2")}


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_with_an_adapter_over_four_devices_twins_lend_what_they_lend_on_one() -> None:
    pytest.importorskip("peft")
    model, processor = random_thinker("qwen2.5-omni")
    tuned = QwenOmni(wrap(adapted(model), processor, VIEW))
    wanted = patched(tuned)
    with tuned.model.disable_adapter():
        without = patched(tuned)
    assert abs(without[0][0].patched - wanted[0][0].patched) > 1e-3
    with spread_out("qwen2.5-omni", changed=adapted) as over:
        assert unwrapped(over.model) is not over.model
        same_patches(patched(over), wanted)
        with over.model.disable_adapter():
            same_patches(patched(over), without)


def test_groups_and_keys_meet_on_the_keys_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake devices are strict, and the groups do follow: left on one device, they would not be taken."""
    items, media, said = asked()
    followed = set()
    hot = capturing._Sorter.one_hot

    def watched(self: Any, call: Call) -> Any:
        made = hot(self, call)
        assert made.device == call.key.device
        followed.add(str(made.device))
        return made

    with spread_out("qwen2.5-omni") as model:
        monkeypatch.setattr(capturing._Sorter, "one_hot", watched)
        capture(model, items, media, said)
        assert followed == {"xla:1", "xla:2"}
        monkeypatch.setattr(capturing._Sorter, "one_hot", lambda self, call: hot(self, call).cpu())
        with pytest.raises(RuntimeError, match="same device"):
            capture(model, items, media, said)


def test_faked_devices_do_not_mix() -> None:
    with several():
        one, other = torch.ones(3, device="xla:1"), torch.ones(3, device="xla:2")
        assert isinstance(one, Placed)
        assert str((one + 1).device) == str(one[torch.tensor([0, 2])].device) == "xla:1"
        for mixed in (lambda: one + other, lambda: one @ torch.ones(3), lambda: torch.stack([one, other])):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        assert float((one + other.to("xla:1")).cpu().sum()) == 6


@pytest.mark.parametrize("offloaded", [("layers.1", "norm"), ("embed_tokens", "layers.0", "layers.1", "lm_head")])
def test_with_layers_on_the_disk_it_reads_the_same(offloaded: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    one = whole("qwen2.5-omni")
    wanted, wanted_patches = looked(one), patched(one)
    model, processor = random_thinker("qwen2.5-omni")
    made = on_disk(model, offloaded, tmp_path)
    assert {p.device.type for p in made.parameters()} == {"cpu", "meta"}
    away = QwenOmni(wrap(made, processor, VIEW))
    assert spread(made) == 1
    same(looked(away), wanted)
    same_patches(patched(away), wanted_patches)
