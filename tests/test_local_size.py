"""Local models at full size, tried small: what fits is found by trying; where checkpoints go, and as what."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="local models are an extra")
transformers = pytest.importorskip("transformers")

import tiny_thinkers as tiny  # noqa: E402
from earwitness.models import qwen_decode, qwen_load, qwen_memory, qwen_plain, qwen_towers  # noqa: E402
from earwitness.models.load import load_model  # noqa: E402
from earwitness.models.qwen_memory import Room, ran_out, room_for  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.records import Answer, Item, Media  # noqa: E402

LONG = "bell drum yes no what do you hear " * 30
PROMPTS = ("What do you hear?", "Is there a dog sound?", LONG + "What do you see?", LONG + "yes or no?")


def asked(clips: int = 3) -> tuple[list[Item], list[Media]]:
    """Four questions on each clip, two of which share a long text; one clip has no sound."""
    media = [tiny.media(n) for n in range(clips - 1)]
    media.append(media[0].with_wave(None))
    items = [
        tiny.item(10 * m + q, prompt, ("yes", "no", "dog barking"), decode=4)
        for m in range(clips)
        for q, prompt in enumerate(PROMPTS)
    ]
    return items, [m for m in media for _ in PROMPTS]


def assert_same(got: list[Answer], want: list[Answer]) -> None:
    for a, b in zip(got, want, strict=True):
        assert (a.item, a.text, a.error, a.fed) == (b.item, b.text, b.error, b.fed)
        np.testing.assert_allclose(list((a.logprobs or {}).values()), list((b.logprobs or {}).values()), atol=1e-4)


def model_tokens(answer: Answer) -> int:
    assert answer.fed is not None
    assert answer.fed.prompt_tokens is not None
    return answer.fed.prompt_tokens


def short(real: Callable[..., Any], size: Callable[..., int], limit: int, met: list[int]) -> Callable[..., Any]:
    """A step that runs out of memory where its work is larger than the limit; ``met`` notes each size tried."""

    def step(*args: Any, **kw: Any) -> Any:
        met.append(size(*args))
        if met[-1] > limit:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {met[-1]} tokens")
        return real(*args, **kw)

    return step


@pytest.fixture(scope="module")
def want(shared: QwenOmni) -> list[Answer]:
    """The answers where there is room for all."""
    found = shared.answer(*asked())
    assert all(a.error is None for a in found)
    return found


@pytest.fixture(scope="module")
def want_of_two(shared: QwenOmni) -> list[Answer]:
    """The same for two clips, one of them without sound."""
    return shared.answer(*asked(2))


STEPS: list[tuple[Any, str, Callable[..., int], int]] = [
    (qwen_decode, "ask", lambda thinker, prefix, rows: len(rows) * prefix.mask.shape[1], 500),
    (qwen_decode, "prefill", lambda thinker, layouts, seen, heard: len(layouts), 1),
    (qwen_decode, "extend", lambda thinker, prefix, at, texts: len(at), 1),
    (qwen_towers, "encode_videos", lambda thinker, stacks: len(stacks), 1),
    (qwen_towers, "encode_audios", lambda thinker, waves: len(waves), 1),
]


@pytest.mark.parametrize(("module", "name", "size", "limit"), STEPS, ids=[s[1] for s in STEPS])
def test_out_of_memory_lowers_the_batch_and_loses_nothing(
    folder: Path, want: list[Answer], monkeypatch: pytest.MonkeyPatch, module: Any, name: str, size: Any, limit: int
) -> None:
    items, media = asked()
    model, met = QwenOmni(folder), []  # type: tuple[QwenOmni, list[int]]
    monkeypatch.setattr(module, name, short(getattr(module, name), size, limit, met))
    got = model.answer(items, media)
    assert max(met) > limit, "the limit was never met: this test tested nothing"
    assert_same(got, want)
    assert model.room.shortages >= 1
    assert model.room.rows < qwen_memory.BATCH
    assert model.room.tokens < qwen_memory.TOKENS
    assert model.counts == {"out of memory": model.room.shortages}
    assert model.batch == model.room.rows
    met.clear()
    assert_same(model.answer(items, media), want)
    if name in ("ask", "prefill"):
        assert sum(m > limit for m in met) <= 1, "what was learnt is kept for the batches that follow"


def test_an_item_that_does_not_fit_alone_fails_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items, media = asked(2)
    items.append(tiny.item(99, "What do you hear?", ("yes",), decode=4))
    media.append(tiny.media(5, seconds=6.0))
    want = QwenOmni(folder).answer(items, media)
    limit = max(model_tokens(a) for a in want[:2])  # of the questions without a long text

    def held(thinker: Any, layouts: Any, seen: Any, heard: Any) -> int:
        return max(len(x) for x in layouts)

    model, met = QwenOmni(folder), []  # type: tuple[QwenOmni, list[int]]
    monkeypatch.setattr(qwen_decode, "prefill", short(qwen_decode.prefill, held, limit, met))
    got = model.answer(items, media)
    assert_same(got[:-1], want[:-1])
    assert got[-1].text is None
    assert "out of memory with this item alone" in str(got[-1].error)
    assert "max_pixels" in str(got[-1].error)
    assert "Tried to allocate" in str(got[-1].error)
    assert (model.room.rows, model.room.tokens) == (qwen_memory.BATCH, qwen_memory.TOKENS)


def test_the_plain_way_names_the_item_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items, media = asked(2)
    model = QwenOmni(folder, plain=True)
    want = model.answer(items[:2], media[:2])

    def size(thinker: Any, item: Item, medium: Media) -> int:
        return len(item.prompt)

    monkeypatch.setattr(qwen_plain, "ask", short(qwen_plain.ask, size, len(LONG), []))
    got = model.answer(items[:3], media[:3])
    assert_same(got[:2], want)
    assert "alone" in str(got[2].error)


def test_other_errors_are_not_taken_for_a_lack_of_memory(shared: QwenOmni, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kw: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(qwen_decode, "prefill", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        shared.answer([tiny.item(0, "?")], [tiny.media(1)])


def test_a_cpu_that_has_no_memory_left_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert ran_out(caught.value)
    assert ran_out(torch.OutOfMemoryError("CUDA out of memory."))
    assert ran_out(MemoryError())
    assert not ran_out(ValueError("out of memory"))


def test_a_full_batch_that_went_through_is_followed_by_a_larger_one(shared: QwenOmni, want: list[Answer]) -> None:
    items, media = asked()
    model = QwenOmni(shared.thinker, name=shared.name)
    model.room = Room(rows=2, tokens=4096, grows=True)
    assert_same(model.answer(items, media), want)
    assert model.room.rows > 2
    grown = model.room.rows
    model.room.lower()
    assert (model.room.rows, model.room.grows) == (grown // 2, False)
    assert_same(model.answer(items, media), want)
    assert model.room.rows == grown // 2, "after a shortage nothing grows again"


def test_room_grows_only_where_it_was_used_and_ends_at_its_most() -> None:
    room = Room(rows=32, tokens=1 << 17, grows=True)
    room.raised(3, 100)
    assert room.rows == 32
    for _ in range(10):
        room.raised(room.rows, 100)
    assert (room.rows, room.grows) == (qwen_memory.MOST, False)
    for _ in range(30):
        room.lower()
    assert (room.rows, room.tokens) == (1, qwen_memory.FEWEST)


def test_the_users_batch_is_where_it_begins_and_never_grows(shared: QwenOmni) -> None:
    assert (shared.room.rows, shared.room.grows) == (qwen_memory.BATCH, False)
    model = QwenOmni(shared.thinker, batch=4)
    assert (model.room.rows, model.room.grows) == (4, False)
    assert "shared, batch 4" in model.decoding


def test_a_gpus_free_memory_sets_the_first_bounds(shared: QwenOmni, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = {}
    for free in (1 << 30, 1 << 34):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 1 << 40))
        rooms[free] = room_for(shared.model, [torch.device("cuda", 0)] * 2, None)
    assert rooms[1 << 34].tokens == pytest.approx(16 * rooms[1 << 30].tokens, rel=0.01)
    assert rooms[1 << 30].grows
    assert not room_for(shared.model, [torch.device("cuda", 0)] * 2, 8).grows


def test_of_several_gpus_the_one_with_the_least_room_for_its_layers_decides(
    shared: QwenOmni, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = torch.device("cuda", 0), torch.device("cuda", 1)
    free = {one: 1 << 34, other: 1 << 30}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device], 1 << 40))
    small = room_for(shared.model, [other], None).tokens
    assert room_for(shared.model, [one, other], None).tokens == small, "its own layer's share, not that of both"
    assert (
        room_for(shared.model, [one, one], None).tokens > small > room_for(shared.model, [other] * 2, None).tokens
    )
    assert room_for(shared.model, [torch.device("cpu"), other], None).grows
    assert room_for(shared.model, [torch.device("cpu")] * 2, None).tokens == qwen_memory.TOKENS


# --- where the weights go, and as what -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype 'int8' is not known; known: auto, float32, bfloat16, float16"),
        ({"device": "gpu"}, "device 'gpu' is not known"),
        ({"device": "cuda:7"}, "sees 0 GPUs here"),
        ({"attn": "flash"}, "attention 'flash' is not known here; known: sdpa, eager, flash_attention_2"),
        ({"attn": "flash_attention_2"}, "needs a GPU and flash-attn"),
    ],
)
def test_an_option_that_cannot_be_had_is_one_clear_error(
    folder: Path, family: str, options: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        load_model(f"{family}:{folder}", **options)


def test_towers_and_text_may_attend_differently(
    folder: Path, shared: QwenOmni, want_of_two: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As flash attention is set, for the towers alone; here with another kind that runs on a CPU."""
    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda: True)
    real = qwen_load._attention
    ways = real("flash_attention_2", torch.device("cuda"), torch.bfloat16)
    assert isinstance(ways, dict)
    swapped = {part: "eager" if way == "flash_attention_2" else way for part, way in ways.items()}
    assert list(swapped.values()).count("eager") == 2
    monkeypatch.setattr(qwen_load, "_attention", lambda *a: swapped)
    model = QwenOmni(folder, name=shared.name)
    config = model.model.config
    assert config.text_config._attn_implementation == "sdpa"
    assert {config.vision_config._attn_implementation, config.audio_config._attn_implementation} == {"eager"}
    assert "sdpa (towers eager)" in model.decoding
    items, media = asked(2)
    for got, want in zip(model.answer(items, media), want_of_two, strict=True):
        assert got.text == want.text
        assert got.logprobs == pytest.approx(want.logprobs, abs=1e-3)
    for where, dtype in (("cpu", torch.bfloat16), ("cuda", torch.float32)):
        with pytest.raises(ValueError, match="bfloat16 or float16 on a GPU"):
            real("flash_attention_2", torch.device(where), dtype)


def test_all_gpus_need_accelerate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "accelerate" else real(name, *a)
    )
    with pytest.raises(ValueError, match="needs accelerate: pip install accelerate"):
        QwenOmni(folder, device="auto")


def test_spread_over_all_there_is_gives_the_same_answers(
    folder: Path, shared: QwenOmni, want_of_two: list[Answer]
) -> None:
    pytest.importorskip("accelerate", reason="device='auto' needs accelerate, which is not installed here")
    model = QwenOmni(folder, name=shared.name, device="auto", dtype="float32")
    assert_same(model.answer(*asked(2)), want_of_two)


def test_dtype_auto_is_what_the_checkpoint_says(family: Any, folder: Path, tmp_path: Path) -> None:
    half = QwenOmni(folder, dtype="bfloat16")
    assert half.thinker.dtype == torch.bfloat16
    half.model.save_pretrained(tmp_path)
    half.processor.save_pretrained(tmp_path)
    assert QwenOmni(tmp_path, dtype="auto").thinker.dtype == torch.bfloat16
    assert QwenOmni(tmp_path).thinker.dtype == torch.float32, "a CPU computes in float32 unless told otherwise"
    (answer,) = half.answer([tiny.item(0, "What do you hear?", ("yes", "no"))], [tiny.media(1)])
    assert answer.error is None
    assert "bfloat16 on cpu" in half.decoding


def test_a_sharded_full_checkpoint_gives_its_thinker_and_no_talker(
    family: Any, shared: QwenOmni, want_of_two: list[Answer], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    tiny.save(family, tmp_path, full=True, view=tiny.VIEW)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(weights)
    talker = {"talker.model.embed_tokens.weight": torch.zeros(8, 8), "token2wav.proj.weight": torch.zeros(4, 4)}
    parts = [{n: weights[n] for n in names[0::2]}, {n: weights[n] for n in names[1::2]}, talker]
    where = {}
    for n, part in enumerate(parts):
        file = f"model-{n + 1:05d}-of-{len(parts):05d}.safetensors"
        save_file(part, tmp_path / file, {"format": "pt"})
        where |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    capsys.readouterr()
    model = QwenOmni(tmp_path, name=shared.name)
    assert "token2wav" not in capsys.readouterr().err, "the parts left out are not listed on the screen"
    assert not [n for n, _ in model.model.named_parameters() if "talker" in n]
    assert_same(model.answer(*asked(2)), want_of_two)
    (part,) = tmp_path.glob("model-00002*")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(ValueError, match="missing or half downloaded"):
        QwenOmni(tmp_path)
    part.unlink()
    with pytest.raises(ValueError, match=r"model-00002-of-00003.*missing or half downloaded"):
        QwenOmni(tmp_path)


def test_a_quantised_checkpoint_without_its_package_is_named(family: Any, folder: Path, tmp_path: Path) -> None:
    tiny.save(family, tmp_path, view=tiny.VIEW)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    if importlib.util.find_spec("bitsandbytes") is not None:
        pytest.skip("bitsandbytes is installed here")
    with pytest.raises(ValueError, match=r"cannot be loaded.*(bitsandbytes|accelerate)"):
        QwenOmni(tmp_path)


# --- the benchmark for a GPU -------------------------------------------------------------------------------------


@pytest.fixture
def full_size(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return pytest.importorskip("full_size")


def test_the_benchmark_runs_small(full_size: Any, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    try:
        assert full_size.main(["--size", "tiny3", "--clips", "2", "--plain-items", "6"]) == 0
    finally:
        torch.set_num_threads(threads)
    out = capsys.readouterr().out
    assert "same text 6 of 6, same receipt 6 of 6" in out
    assert "| audit loop, choices scored | 84 |" in out


def test_the_benchmark_tells_when_answers_differ(full_size: Any, capsys: pytest.CaptureFixture[str]) -> None:
    item = tiny.item(0, "?")
    plain = {"i0": Answer(item="i0", model="m", text="yes", logprobs={"yes": -1.0})}
    rates = {"plain way": 1.0, "audit loop, choices scored": 2.0}
    other_text = Answer(item="i0", model="m", text="no", logprobs={"yes": -1.0})
    for other in (other_text, Answer(item="i0", model="m", error="gone")):
        assert full_size.compared(plain, {"i0": other}, [item], rates, "float32") == 1
    assert "FAILED i0: gone" in capsys.readouterr().out


def test_the_benchmarks_sizes_are_the_published_ones(full_size: Any) -> None:
    """Parameters of the text part, built without memory.

    7b: those of Qwen2.5-7B. 30b: those of Qwen3-30B-A3B, 30,532,122,624, and 128 more words, once in and once out.
    3b: those of Qwen2.5-3B with an output layer of its own.
    """
    import transformers

    published = {"3b": 3_397_103_616, "7b": 7_615_616_512, "30b": 30_532_646_912}
    for size, parameters in published.items():
        _, ids = full_size._processor(size != "30b")
        config = full_size.config_of(size, ids)
        maker = getattr(transformers, qwen_load.FAMILIES[config.model_type.removesuffix("_thinker")][1])
        with full_size._made_as("meta", torch.bfloat16):
            model = maker(config)
        text = [model.model.language_model, model.lm_head]
        assert sum(p.numel() for part in text for p in part.parameters()) == parameters
        assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
