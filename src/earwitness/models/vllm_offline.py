"""Qwen omni models through vLLM's offline engine: the same prompts and the same arrays, another way to compute.

vLLM batches and pages by itself, which suits long runs on large GPUs. It gets token ids, frames and a wave, no
files: what travels is what a model in this process would be given. What comes back holds the expanded prompt, in
which the picture's and the sound's tokens are counted behind vLLM's own preprocessing. The arrays' hashes prove
only what was handed over, so a receipt is marked "sent", as a server's is.

Written against vLLM 0.33 as read, and tested against a stand-in with that surface; no GPU has run it here yet.
Three traps it steers around (all read in vLLM's sources): the cache of processed media breaks where one item
brings a known sound with a new picture, so it is off, and each pair of picture and sound bears one id; frames have
no times, so ``fps`` is said and nothing is sampled again; and ``use_audio_in_video`` is said for each request.

vLLM pins another transformers than ``earwitness[local]``: ``pip install earwitness vllm`` in its own environment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import vllm  # type: ignore[import-not-found, unused-ignore]

from earwitness.models import qwen_inputs as inputs
from earwitness.models.qwen_inputs import Thinker
from earwitness.models.qwen_load import DTYPES, load_reader
from earwitness.records import Answer, Fed, Item, Media, View, digest

ONE_OF_EACH = {"image": 0, "video": 1, "audio": 1}


class VllmOmni:
    """A full Qwen omni checkpoint behind the Model protocol, asked through ``vllm.LLM``.

    Parameters
    ----------
    path : a folder or hub id of a *full* Omni checkpoint (vLLM reads no thinker's own; its talker is left out).
    device : None for one GPU (which: CUDA_VISIBLE_DEVICES), "auto" to split the model over all of them.
    dtype : "auto" (default), "bfloat16", "float16", "float32".
    fps, max_pixels : as for ``qwen_load.load_thinker``.
    batch : sequences decoded together, at most; default: vLLM's own.
    choice_logprobs : "off", or "prompt": one more request for each choice, whose log-probs are read off the prompt.
    engine : further arguments of ``vllm.LLM`` (gpu_memory_utilization, max_model_len ...); they go before ours.

    Raises
    ------
    ValueError
        Where the checkpoint is none that vLLM reads, or an option does not fit.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        fps: float | None = None,
        max_pixels: int | None = None,
        batch: int | None = None,
        choice_logprobs: Literal["off", "prompt"] = "off",
        engine: Mapping[str, Any] | None = None,
    ) -> None:
        if device not in (None, "auto"):
            raise ValueError(f"device {device!r}: vLLM takes CUDA_VISIBLE_DEVICES, or device=auto for all GPUs")
        if dtype not in (None, *DTYPES):
            raise ValueError(f"dtype {dtype!r} is not known; known: {', '.join(DTYPES)}")
        if choice_logprobs not in ("off", "prompt"):
            raise ValueError(f"choice_logprobs must be off or prompt with vLLM, got {choice_logprobs!r}")
        self.thinker, manual, self.revision = load_reader(path, fps=fps, max_pixels=max_pixels)
        _name_the_media_tokens(self.thinker)
        if not _whole(path):
            raise ValueError(
                f"{path} is a thinker alone: vLLM reads full Omni checkpoints (say {self._family}:{path})"
            )
        self.name = name or manual.name or f"vllm:{path}"
        self.view: View = self.thinker.view
        self._scores = choice_logprobs == "prompt"
        self.abilities = frozenset({"tokens", "generates"} | ({"logprobs"} if self._scores else set()))
        self.gpus = max(1, torch.cuda.device_count()) if device == "auto" else 1
        options: dict[str, Any] = {
            "model": str(path), "dtype": dtype or "auto", "seed": 0, "tensor_parallel_size": self.gpus,
            "limit_mm_per_prompt": ONE_OF_EACH, "mm_processor_cache_gb": 0,
        }  # fmt: skip
        if batch is not None:
            options["max_num_seqs"] = batch
        self._llm = vllm.LLM(**{**options, **(engine or {})})
        self._dtype = options["dtype"]

    @property
    def _family(self) -> str:
        return self.thinker.family

    @property
    def decoding(self) -> str:
        """How answers are decoded and computed, in words for the run's record."""
        where = f"{self.gpus} GPU{'s' if self.gpus > 1 else ''}"
        return f"greedy, media tokens suppressed; vLLM {vllm.__version__}, {self._dtype}, {where}"

    def tokens(self, item: Item, media: Media) -> int:
        """Prompt tokens of an item on media of this shape, by arithmetic: nothing runs."""
        kind = inputs.kind_of(media)
        before, after = inputs.split_prompt(self.thinker, item, kind)
        video, audio = inputs.media_tokens(self.thinker, media)
        slot, marks = (0 if kind == "t" else -1), (2 if kind == "av" else 0)
        return len(before) + slot + video + audio + marks + len(after)

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """Answers to the items, in their order; vLLM batches them.

        Raises
        ------
        ValueError
            Where items and media differ in number, media do not fit the model's view, or vLLM refuses a request
            (its own words).
        """
        if len(items) != len(media):
            raise ValueError(f"{len(items)} items for {len(media)} media")
        for m in {id(m): m for m in media}.values():
            inputs.check_media(self.thinker, m)
        start = time.perf_counter()
        prompts = [prompt(self.thinker, i, m) for i, m in zip(items, media, strict=True)]
        said = self._llm.generate(prompts, [self._greedy(i.decode) for i in items], use_tqdm=False)
        scores = self._score(items, prompts) if self._scores else [None] * len(items)
        each = (time.perf_counter() - start) / max(1, len(items))
        return [self._read(*four, each) for four in zip(items, media, said, scores, strict=True)]

    def _greedy(self, limit: int) -> Any:
        return vllm.SamplingParams(
            temperature=0.0,
            max_tokens=limit,
            logprobs=0,  # of the token said, and of no other
            stop_token_ids=list(self.thinker.ends),
            logit_bias=dict.fromkeys(self.thinker.suppressed, -100.0),
            skip_special_tokens=True,
        )

    def _score(self, items: Sequence[Item], prompts: Sequence[Mapping[str, Any]]) -> list[dict[str, float] | None]:
        """Log-prob of each choice's whole text: one request each, ending in the choice, read off its prompt."""
        asked = [(n, choice, self._ids(choice)) for n, item in enumerate(items) for choice in item.choices]
        longer = [
            {**prompts[n], "prompt_token_ids": [*prompts[n]["prompt_token_ids"], *ids]} for n, _, ids in asked
        ]
        read = vllm.SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
        out: list[dict[str, float] | None] = [None if not item.choices else {} for item in items]
        for (n, choice, ids), made in zip(asked, self._llm.generate(longer, read, use_tqdm=False), strict=True):
            last = zip(made.prompt_logprobs[-len(ids) :], ids, strict=True)
            found = out[n]
            assert found is not None
            found[choice] = sum(float(place[token].logprob) for place, token in last)
        return out

    def _ids(self, text: str) -> list[int]:
        return [int(t) for t in self.thinker.processor.tokenizer(text)["input_ids"]]

    def _read(self, item: Item, media: Media, made: Any, scores: dict[str, float] | None, seconds: float) -> Answer:
        fed = receipt(self.thinker, media, [int(t) for t in made.prompt_token_ids])
        (best,) = made.outputs
        text = best.text.strip()
        error = fault(self.thinker, media, fed)
        if error is None and not text:
            error = f"empty answer: vLLM generated {len(best.token_ids)} tokens without any text"
        steps = zip(best.token_ids, best.logprobs or (), strict=True)
        said = sum(float(place[token].logprob) for token, place in steps if token not in self.thinker.ends)
        return Answer(
            item=item.id,
            model=self.name,
            text=None if error else text,
            logprobs=None if error else scores,
            logprob=None if error else said,
            fed=fed,
            error=error,
            seconds=seconds,
        )


def prompt(thinker: Thinker, item: Item, media: Media) -> dict[str, Any]:
    """One request for ``LLM.generate``: token ids with one placeholder, the arrays, how they are to be taken."""
    kind = inputs.kind_of(media)
    before, after = inputs.split_prompt(thinker, item, kind)
    made: dict[str, Any] = {"prompt_token_ids": [*before, *after]}
    data: dict[str, Any] = {}
    if media.frames is not None:
        fps, count = thinker.view.fps, len(media.frames)
        data["video"] = (
            np.ascontiguousarray(media.frames),
            {
                "fps": fps, "total_num_frames": count, "duration": count / fps, "video_backend": "earwitness",
                "frames_indices": list(range(count)), "do_sample_frames": False,
            },
        )  # fmt: skip
    if media.wave is not None:
        data["audio"] = (np.ascontiguousarray(media.wave[0]), float(media.rate))
    if data:
        pair = digest(media.video_hash, media.audio_hash, thinker.video_options)
        made["multi_modal_data"] = data
        made["multi_modal_uuids"] = {what: [f"{pair}:{what}"] for what in data}
        options = thinker.video_options if media.frames is not None else {}
        made["mm_processor_kwargs"] = {**options, "use_audio_in_video": kind == "av"}
    return made


def receipt(thinker: Thinker, media: Media, ids: Sequence[int]) -> Fed:
    """What went in: tokens counted in vLLM's expanded prompt; hashes, shapes and loudness of what it was handed.

    A medium without a token in the prompt did not arrive, and gets no hash.
    """
    video, audio = ids.count(thinker.processor.video_token_id), ids.count(thinker.processor.audio_token_id)
    frames, wave = (media.frames if video else None), (media.wave if audio else None)
    return Fed(
        measured="sent",
        frames=None if frames is None else len(frames),
        height=None if frames is None else int(frames.shape[1]),
        width=None if frames is None else int(frames.shape[2]),
        audio_seconds=None if wave is None else wave.shape[1] / media.rate,
        audio_rms=None if wave is None else float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))),
        video_tokens=video or None,
        audio_tokens=audio or None,
        prompt_tokens=len(ids),
        video_hash=None if frames is None else media.video_hash,
        audio_hash=None if wave is None else media.audio_hash,
    )


def fault(thinker: Thinker, media: Media, fed: Fed) -> str | None:
    """Why an answer on this prompt is none: media that are not in it, or with another number of tokens."""
    video, audio = inputs.media_tokens(thinker, media)
    for what, due, found in (("picture", video, fed.video_tokens or 0), ("sound", audio, fed.audio_tokens or 0)):
        # One sound token more or less: vLLM fills a sound up to whole mel frames before it counts them.
        slack = 1 if what == "sound" and found else 0
        if abs(due - found) > slack:
            return f"vLLM's prompt has {found} tokens of the {what} where {due} are due: " + (
                "it was left out" if not found else "it was sampled or resized once more"
            )
    return None


def _whole(path: str | Path) -> bool:
    import transformers

    return not str(transformers.AutoConfig.from_pretrained(str(path)).model_type).endswith("_thinker")


def _name_the_media_tokens(thinker: Thinker) -> None:
    """Ids of the placeholders, which processors of older transformers do not have."""
    p = thinker.processor
    for what in ("image", "audio", "video"):
        if not hasattr(p, f"{what}_token_id"):
            setattr(p, f"{what}_token_id", p.tokenizer.convert_tokens_to_ids(getattr(p, f"{what}_token")))


__all__ = ["VllmOmni", "fault", "prompt", "receipt"]
