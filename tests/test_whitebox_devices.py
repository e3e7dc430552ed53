"""Is a model over several devices looked into where its layers lie? The devices are faked, an offload is real."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import tiny_thinkers as tiny  # noqa: E402
from earwitness.models.qwen_load import spread  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni, wrap  # noqa: E402
from earwitness.records import View  # noqa: E402
from earwitness.whitebox import capture as capturing  # noqa: E402
from earwitness.whitebox import causal, contribution, patching  # noqa: E402
from earwitness.whitebox.attention import Call, text_decoder  # noqa: E402
from earwitness.whitebox.capture import capture  # noqa: E402
from earwitness.whitebox.edges import Cut  # noqa: E402
from placed import Placed, place, several  # noqa: E402

torch.set_num_threads(1)
VIEW = View(fps=2.0, size=(112, 112))
PROMPT = "Which class best describes the *audio content* of this video? Options: {bell, drum}."
CUTS = [Cut("audio<->video", (0, 1))]


def asked() -> tuple[list[Any], list[Any], list[str]]:
    """Two questions of different length, so that one is padded, and their answers."""
    first = tiny.item(0, PROMPT, ("bell", "drum"), seen=("bell",), heard=("drum",))
    items = [first, tiny.item(1, "What do you hear?", ("bell", "drum"), seen=("drum",), heard=("bell",))]
    return items, [tiny.media(0), tiny.media(1)], ["bell", "dog barking"]


def built(family: str) -> tuple[Any, QwenOmni]:
    """A random model; experts computed one by one, which kernels for CPU integers need."""
    model, processor = tiny.build(family)  # type: ignore[arg-type]
    if family == "qwen3-omni":
        model.set_experts_implementation("eager")
    return model, QwenOmni(wrap(model, processor, VIEW))


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


@contextmanager
def spread_out(family: str) -> Iterator[QwenOmni]:
    """Towers on the CPU, embeddings and first layer on one device, the next and the last norm on another, ..."""
    model, _ = built(family)
    decoder = text_decoder(model)
    with several():
        place(model.model.visual, "cpu")
        place(model.model.audio_tower, "cpu")
        for part, device in (
            (decoder.embed_tokens, "xla:1"), (decoder.layers[0], "xla:1"), (decoder.layers[1], "xla:2"),
            (decoder.norm, "xla:2"), (model.lm_head, "xla:3"),
        ):  # fmt: skip
            place(part, device)
        _, processor = tiny.build(family)  # type: ignore[arg-type]
        yield QwenOmni(wrap(model, processor, VIEW))


def test_over_four_devices_it_reads_what_it_reads_on_one(family: str) -> None:
    _, whole = built(family)
    wanted = looked(whole)
    with spread_out(family) as model:
        assert spread(model.model) == 4
        assert str(model.thinker.device) == "xla:1"
        assert model.plain
        same(looked(model), wanted)
        items, media, _ = asked()
        with pytest.raises(ValueError, match="patching needs the whole model on one device"):
            patching.patch(model, [(items[0], items[0])], [(media[0], media[0])], [(0, 1)])


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


@pytest.mark.parametrize("offloaded", [("layers.1", "norm"), ("layers.0", "layers.1", "lm_head")])
def test_with_layers_on_the_disk_it_reads_the_same(offloaded: tuple[str, ...], tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    _, whole = built("qwen2.5-omni")
    wanted = looked(whole)
    model, processor = tiny.build("qwen2.5-omni")
    home = next(name for name, module in model.named_modules() if module is text_decoder(model))
    parts = [name for name, m in model.named_modules() if not list(m.children()) and list(m.parameters())]
    names = [f"{home}.{n}" if n != "lm_head" else n for n in offloaded]
    devices = {p: "disk" if any(p == n or p.startswith(f"{n}.") for n in names) else "cpu" for p in parts}
    made = accelerate.dispatch_model(model, devices, main_device="cpu", offload_dir=str(tmp_path))
    assert spread(made) == 2  # the CPU, and where weights are that are not here: "meta"
    same(looked(QwenOmni(wrap(made, processor, VIEW))), wanted)
