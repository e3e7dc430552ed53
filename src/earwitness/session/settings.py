"""What ``--set key=value`` may say: the audit's own options here, the protocols' in ``protocols.Settings``."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, get_type_hints

import msgspec

from earwitness.protocols import Settings

ALLOWED_FAILED = 0.02  # share of failed items above which an audit exits with 1
HANS_CONTEXT = 400  # words; what his manual says (earwitness.json), for a Hans behind a server


class Options(msgspec.Struct, frozen=True):
    """How the model is asked, and by whom its answers are judged.

    ``max_failed`` is the share of failed items above which an audit exits with 1; ``retry_failed`` asks failed
    items again; ``chunk`` items go to a local model in one call.

    Local models: ``device`` (cuda:1, cpu, auto: over all GPUs), ``dtype``, ``attn`` (sdpa, eager,
    flash_attention_2), ``batch`` (questions together; found by trying where not given), ``adapter`` (folder of a
    LoRA adapter to put on it). Every model: ``fps`` and ``max_pixels`` of a frame.

    Served models: ``parts`` (how media travel: video, video+audio, frames+audio), ``concurrency`` (requests at
    once, at most), ``timeout`` in seconds, ``retries``, ``max_cost`` in dollars with ``price_in`` and
    ``price_out`` (dollars a million tokens), ``max_tokens`` of the whole run, ``choice_logprobs``,
    ``audio_codec`` (flac, aac).
    Gemini: ``upload`` (auto, always, never), ``thinking`` (tokens, -1, or minimal, low, medium, high).

    ``workers`` and ``executor`` as the flags say; ``judge`` names the model that reads free answers; ``media``
    is the folder of a question file's videos.
    """

    max_failed: float = ALLOWED_FAILED
    retry_failed: bool = False
    chunk: int = 256
    device: str | None = None
    dtype: str | None = None
    attn: str | None = None
    fps: float | None = None
    max_pixels: int | None = None
    batch: int | None = None
    adapter: str | None = None
    # served models
    parts: str | None = None
    concurrency: int | None = None
    timeout: float | None = None
    retries: int | None = None
    max_cost: float | None = None
    max_tokens: int | None = None
    price_in: float | None = None
    price_out: float | None = None
    choice_logprobs: str | None = None
    audio_codec: str | None = None
    upload: str | None = None
    thinking: str | None = None
    # where the work is done, and who judges
    workers: int = 1
    executor: Literal["process", "ray"] = "process"
    judge: str | None = None
    media: str | None = None

    @property
    def for_model(self) -> dict[str, Any]:
        """What was said of the model: keyword arguments of ``load_model``."""
        return {key: value for key in MODEL if (value := getattr(self, key)) is not None}


MODEL = (
    "device", "dtype", "attn", "fps", "max_pixels", "batch", "adapter", "parts", "concurrency", "timeout",
    "retries", "max_cost", "max_tokens", "price_in", "price_out", "choice_logprobs", "audio_codec", "upload",
    "thinking",
)  # fmt: skip

T = TypeVar("T")
# By the name of the type: what a person should write. Of several that fit the first one stands.
WANTED = {
    "Literal['process', 'ray']": "process or ray", "bool": "true or false", "tuple[int": "whole numbers, by comma",
    "tuple[float": "numbers, by comma", "int": "a whole number", "float": "a number",
}  # fmt: skip


def chosen(given: dict[str, str], *, model: str, seed: int, context: int | None = None) -> tuple[Settings, Options]:
    """The protocols' settings and the audit's options from key=value pairs; ValueError for an unknown key.

    ``context``: words of a long context that the model was ever shown, the default of long_context_tokens.
    """
    own = {k: given.pop(k) for k in list(given) if k in Options.__struct_fields__}
    base: dict[str, Any] = {"seed": seed}
    if model.rpartition("#")[2].partition("+")[0] == "hans":  # with an adapter, too
        base["long_context_tokens"] = HANS_CONTEXT
    if context is not None:
        base["long_context_tokens"] = context
    for key, value in given.items():
        if key not in Settings.__struct_fields__:
            names = ", ".join(sorted({*Settings.__struct_fields__, *Options.__struct_fields__}))
            raise ValueError(f"--set {key}: no such setting; there are {names}")
        hint = str(get_type_hints(Settings)[key])
        base[key] = [v for v in value.split(",") if v] if "tuple" in hint else value
    settings, options = _converted(base, Settings), _converted(own, Options)
    for key in ("fps", "max_pixels", "batch", "chunk", "workers"):
        value = getattr(options, key)
        if value is not None and not value > 0:
            raise ValueError(f"--set {key}={value:g}: must be above 0")
    return settings, options


def _converted(given: dict[str, Any], kind: type[T]) -> T:
    """The struct that holds what was given as text; ValueError that names the key, the value and what it wants."""
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        key = where.partition("[")[0].strip("`.")
        if key not in given:
            raise ValueError(f"--set: {error}") from None
        hint = str(get_type_hints(kind)[key])
        wanted = next((f"wants {words}" for name, words in WANTED.items() if name in hint), what)
        shown = ",".join(given[key]) if isinstance(given[key], list) else given[key]
        raise ValueError(f"--set {key}={shown}: {wanted}") from None
