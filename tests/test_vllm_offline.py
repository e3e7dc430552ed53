"""vLLM's offline engine, against a stand-in that has the surface read in vLLM 0.33 and computes with transformers.

The stand-in takes requests as ``vllm.LLM`` does (unknown arguments raise), expands and feeds them through the real
processor and a tiny thinker, and replies in vLLM's shapes: so a request that said something else than the local
adapter says would get another answer.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="local models are an extra")
pytest.importorskip("transformers")

import tiny_thinkers as tiny  # noqa: E402
from earwitness import audit  # noqa: E402
from earwitness.models import load  # noqa: E402
from earwitness.models.qwen_load import load_thinker  # noqa: E402
from earwitness.models.qwen_omni import QwenOmni  # noqa: E402
from earwitness.records import Answer, Item, Media  # noqa: E402

# transformers 5.23 counts audio tokens with np.arange(a torch tensor): right, but numpy 2 complains
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SAMPLING = {
    "temperature", "max_tokens", "logprobs", "prompt_logprobs", "stop_token_ids", "logit_bias",
    "skip_special_tokens",
}  # fmt: skip
ENGINE = {
    "model", "dtype", "seed", "tensor_parallel_size", "limit_mm_per_prompt", "mm_processor_cache_gb",
    "max_num_seqs", "gpu_memory_utilization", "max_model_len",
}  # fmt: skip


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]


class SamplingParams:
    def __init__(self, **given: Any) -> None:
        assert set(given) <= SAMPLING, set(given) - SAMPLING
        self.__dict__.update(dict.fromkeys(SAMPLING), **given)


class LLM:
    """What vllm.LLM does with a request, one at a time, through transformers."""

    made: ClassVar[list[LLM]] = []
    drops_sound = says_nothing = resizes = False
    most = 1000  # tokens of an answer at most: each is a whole pass here

    def __init__(self, **given: Any) -> None:
        assert set(given) <= ENGINE, set(given) - ENGINE
        self.options = given
        self.requests: list[dict[str, Any]] = []
        self.thinker, _, _ = load_thinker(given["model"], device="cpu")
        LLM.made.append(self)

    def generate(self, prompts: Any, sampling_params: Any = None, *, use_tqdm: bool = True) -> list[RequestOutput]:
        assert use_tqdm is False, "the library never prints"
        params = sampling_params if isinstance(sampling_params, list) else [sampling_params] * len(prompts)
        assert len(params) == len(prompts)
        self.requests += prompts
        return [self._one(p, s) for p, s in zip(prompts, params, strict=True)]

    @torch.no_grad()
    def _one(self, prompt: dict[str, Any], params: Any) -> RequestOutput:
        t = self.thinker
        unknown = set(prompt) - {"prompt_token_ids", "multi_modal_data", "mm_processor_kwargs", "multi_modal_uuids"}
        assert not unknown, unknown
        data, kwargs = dict(prompt.get("multi_modal_data", {})), dict(prompt.get("mm_processor_kwargs", {}))
        uuids = prompt.get("multi_modal_uuids", {})
        assert {k: len(v) for k, v in uuids.items()} == dict.fromkeys(data, 1)
        interleaved = kwargs.pop("use_audio_in_video", False)
        given: dict[str, Any] = {"text": [t.processor.tokenizer.decode(prompt["prompt_token_ids"])]}
        if "video" in data:
            frames, told = data["video"]
            assert frames.ndim == 4
            assert frames.shape[-1] == 3
            assert told["fps"] == kwargs["fps"]
            frames = frames[:, : frames.shape[1] // 2] if self.resizes else frames
            given |= {"videos": [torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())], "videos_kwargs": kwargs}
        if "audio" in data:
            wave, rate = data["audio"]
            assert wave.ndim == 1
            assert rate == t.processor.feature_extractor.sampling_rate
            if self.drops_sound and interleaved:
                interleaved = False
            else:
                given["audio"] = [wave]
        if interleaved:
            given |= {"load_audio_from_video": True, "audio_from_video_indices": [0]}
        batch = t.processor(**given, padding=True, return_tensors="pt")
        told_model = {"use_audio_in_video": True} if interleaved else {}
        ids = [int(i) for i in batch["input_ids"][0]]
        first = t.model(**batch, **told_model).logits[0].float().log_softmax(-1)
        prompt_logprobs: list[dict[int, Logprob] | None] | None = None
        if params.prompt_logprobs is not None:
            prompt_logprobs = [None, *({i: Logprob(float(first[n, i]))} for n, i in enumerate(ids[1:]))]
        tokens, steps = self._decode(batch, told_model, params)
        if self.says_nothing:
            tokens, steps = [t.ends[0]], steps[:1]
            steps = [{t.ends[0]: Logprob(-1.0)}]
        words = t.processor.tokenizer.decode([i for i in tokens if i not in t.ends], skip_special_tokens=True)
        total = sum(s[i].logprob for i, s in zip(tokens, steps, strict=True))
        return RequestOutput("0", ids, prompt_logprobs, [CompletionOutput(0, words, tokens, total, steps, "stop")])

    def _decode(self, batch: Any, told: Any, params: Any) -> tuple[list[int], list[dict[int, Logprob]]]:
        made = dict(batch)
        tokens: list[int] = []
        steps: list[dict[int, Logprob]] = []
        for _ in range(min(params.max_tokens, self.most)):
            scores = self.thinker.model(**made, **told).logits[0, -1].float().log_softmax(-1)
            biased = scores.clone()
            for token, bias in (params.logit_bias or {}).items():
                biased[token] += bias
            token = int(biased.argmax())
            tokens.append(token)
            steps.append({token: Logprob(float(scores[token]))})
            if token in (params.stop_token_ids or ()):
                break
            made["input_ids"] = torch.cat([made["input_ids"], torch.tensor([[token]])], 1)
            made["attention_mask"] = torch.ones_like(made["input_ids"])
        return tokens, steps


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in as the module ``vllm``, its faults off."""
    module: Any = ModuleType("vllm")
    module.LLM, module.SamplingParams, module.__version__ = LLM, SamplingParams, "0.33.0"
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.delitem(sys.modules, "earwitness.models.vllm_offline", raising=False)
    LLM.made.clear()
    for fault in ("drops_sound", "says_nothing", "resizes"):
        monkeypatch.setattr(LLM, fault, False)
    return module


@pytest.fixture(scope="module")
def whole(family: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny full Omni checkpoint."""
    return tiny.save(family, tmp_path_factory.mktemp(f"full-{family}"), full=True, view=tiny.VIEW)


def asked() -> tuple[list[Item], list[Media]]:
    av = tiny.media(1)
    kinds = [av, av, av.with_wave(None), av.with_frames(None), tiny.media(2, frames=False, sound=False)]
    kinds.append(av.with_wave(np.zeros_like(av.wave)))
    items = [tiny.item(n, f"What do you hear? bell {n}", ("yes", "dog barking"), decode=5) for n in range(6)]
    return items, kinds


def test_it_asks_what_the_local_adapter_asks(vllm: Any, whole: Path) -> None:
    local = QwenOmni(whole)
    items, media = asked()
    want = local.answer(items, media)
    model: Any = load.load_model(f"vllm:{whole}", choice_logprobs="prompt", batch=8)
    got = model.answer(items, media)
    assert [a.text for a in got] == [a.text for a in want]
    for a, b in zip(got, want, strict=True):
        assert a.error is None
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
        assert a.fed is not None
        assert b.fed is not None
        for count in ("prompt_tokens", "video_tokens", "audio_tokens", "frames", "audio_seconds"):
            assert getattr(a.fed, count) == getattr(b.fed, count), count
        assert a.fed.measured == "sent"
    assert model.abilities == {"tokens", "generates", "logprobs"}
    assert [model.tokens(i, m) for i, m in zip(items, media, strict=True)] == [a.fed.prompt_tokens for a in got]
    (engine,) = LLM.made
    assert engine.options["max_num_seqs"] == 8
    assert engine.options["limit_mm_per_prompt"] == {"image": 0, "video": 1, "audio": 1}
    assert "vLLM 0.33.0" in model.decoding


def test_one_id_for_each_pair_of_picture_and_sound(vllm: Any, whole: Path) -> None:
    """The same silence under a new picture must not look known to vLLM's caches."""
    model: Any = load.load_model(f"vllm:{whole}")
    items, media = asked()
    model.answer(items, media)
    requests = LLM.made[0].requests
    ids = [tuple(sorted(u[0] for u in r.get("multi_modal_uuids", {}).values())) for r in requests]
    assert ids[0] == ids[1], "questions on the same media share it"
    assert len(set(ids)) == len(ids) - 1
    flat = {one for some in ids for one in some}
    assert len(flat) == sum(len(i) for i in ids[1:]), "no id is shared by two media, nor by picture and sound"
    assert LLM.made[0].options["mm_processor_cache_gb"] == 0
    assert [r.get("mm_processor_kwargs", {}).get("use_audio_in_video") for r in requests] == [
        True, True, False, False, None, True,
    ]  # fmt: skip


def test_the_ear_and_eye_check_hears_it(vllm: Any, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LLM, "most", 4)
    report = audit.check_model(load.load_model(f"vllm:{whole}"), tiny.media(3))
    assert all(r["error"] is None for r in report)


def test_a_dropped_sound_is_no_answer(vllm: Any, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LLM, "drops_sound", True)
    monkeypatch.setattr(LLM, "most", 4)
    model = load.load_model(f"vllm:{whole}")
    (answer,) = model.answer([tiny.item(0, "What?")], [tiny.media(1)])
    assert answer.text is None
    assert "0 tokens of the sound" in str(answer.error)
    assert "left out" in str(answer.error)
    assert answer.fed is not None
    assert answer.fed.audio_hash is None
    with pytest.raises(audit.EarCheckError):
        audit.check_model(model, tiny.media(3))


def answer_of(model: Any) -> Answer:
    (answer,) = model.answer([tiny.item(0, "What?")], [tiny.media(1)])
    return answer


def test_a_resized_picture_and_an_empty_text_are_no_answers(
    vllm: Any, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load.load_model(f"vllm:{whole}")
    monkeypatch.setattr(LLM, "says_nothing", True)
    assert "empty answer: vLLM generated 1 tokens" in str(answer_of(model).error)
    monkeypatch.setattr(LLM, "resizes", True)
    assert "sampled or resized once more" in str(answer_of(model).error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda:1"}, "CUDA_VISIBLE_DEVICES"),
        ({"dtype": "int4"}, "dtype 'int4'"),
        ({"choice_logprobs": "top"}, "off or prompt"),
        ({"attn": "sdpa"}, "takes no attn; its options: batch, choice_logprobs, device, dtype"),
        ({"parts": "video"}, "takes no parts"),
    ],
)
def test_options_that_do_not_fit_are_named(vllm: Any, whole: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load.load_model(f"vllm:{whole}", **options)


def test_a_thinkers_own_checkpoint_is_refused(vllm: Any, folder: Path, family: str) -> None:
    with pytest.raises(ValueError, match=f"full Omni checkpoints .say {family}:"):
        load.load_model(f"vllm:{folder}")


def test_without_vllm_the_way_to_it_is_said(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "earwitness.models.vllm_offline", raising=False)
    with pytest.raises(ValueError, match="needs vllm: pip install earwitness vllm, in an environment of its own"):
        load.load_model(f"vllm:{whole}")
    with pytest.raises(ValueError, match="say vllm:PATH-OR-HUB-ID"):
        load.load_model("vllm:")
