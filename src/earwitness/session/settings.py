"""What ``--set key=value`` may say: the audit's own options here, the protocols' in ``protocols.Settings``."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec

from earwitness.protocols import Settings

ALLOWED_FAILED = 0.02  # share of failed items above which an audit exits with 1
HANS_CONTEXT = 400  # words; Hans was never shown more, and 10,000 would only measure that


class Options(msgspec.Struct, frozen=True):
    """Settings of the audit itself (``--set``); the protocols' own are protocols.Settings."""

    max_failed: float = ALLOWED_FAILED
    retry_failed: bool = False
    chunk: int = 256
    device: str | None = None
    dtype: str | None = None
    attn: str | None = None
    fps: float | None = None
    max_pixels: int | None = None
    batch: int | None = None


def chosen(given: dict[str, str], *, model: str, seed: int) -> tuple[Settings, Options]:
    """The protocols' settings and the audit's options from key=value pairs; ValueError for an unknown key."""
    own = {k: given.pop(k) for k in list(given) if k in Options.__struct_fields__}
    base: dict[str, Any] = {"seed": seed}
    if model == "hans":
        base["long_context_tokens"] = HANS_CONTEXT
    for key, value in given.items():
        if key not in Settings.__struct_fields__:
            names = ", ".join((*Settings.__struct_fields__, *Options.__struct_fields__))
            raise ValueError(f"--set {key}: no such setting; there are {names}")
        hint = str(get_type_hints(Settings)[key])
        base[key] = [v for v in value.split(",") if v] if "tuple" in hint else value
    try:
        return msgspec.convert(base, Settings, strict=False), msgspec.convert(own, Options, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"--set: {error}") from None
