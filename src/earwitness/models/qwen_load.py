"""Checkpoint folder or hub id -> a thinker ready to be asked, and a revision that names its weights.

Both layouts load: a thinker's own checkpoint, and a full Omni checkpoint, of which only the thinker is read
(its talker and vocoder are left on the disk). Weights that the checkpoint lacks would be random numbers: that
is an error here, not a warning.

A folder may hold ``earwitness.json``, how this checkpoint wants to be fed (without it, a video processor whose
smallest and largest size are one square gets frames of that size, any other frames of at most 504 x 504)::

    {"name": "hans", "view": {"fps": 2.0, "size": [112, 112], "rate": 16000}, "system": null}
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import torch

from earwitness.models import torchvision_ops  # noqa: F401 - must come before transformers
from earwitness.models.qwen_inputs import Family, Thinker
from earwitness.records import View

import transformers  # isort: skip

FAMILIES: dict[str, tuple[Family, str, str]] = {
    "qwen2_5_omni": ("qwen2.5-omni", "Qwen2_5OmniThinkerForConditionalGeneration", "Qwen2_5OmniProcessor"),
    "qwen3_omni_moe": ("qwen3-omni", "Qwen3OmniMoeThinkerForConditionalGeneration", "Qwen3OmniMoeProcessor"),
}
MAX_PIXELS = 504 * 504  # per frame: the size MMA-Bench trains and tests at (arXiv 2511.22826, appendix C)
ATTENTION = ("sdpa", "eager")  # those that take a tree of choices as a mask


class Manual(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``earwitness.json``: how a checkpoint wants to be fed. All fields may be left out."""

    name: str | None = None
    view: View | None = None
    system: str | None = None


def load_thinker(
    path: str | Path,
    *,
    family: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    attn: str | None = None,
    fps: float | None = None,
    max_pixels: int | None = None,
    system: str | None = None,
) -> tuple[Thinker, Manual, str]:
    """Load a thinker and its processor; also the folder's manual and a revision that names the weights.

    Parameters
    ----------
    device : "cpu", "cuda", "cuda:1" ...; default: the first GPU where there is one.
    dtype : "float32", "bfloat16", "float16"; default: the checkpoint's own on a GPU, float32 on a CPU.
    attn : "sdpa" (default) or "eager".
    fps, max_pixels : frames per second and pixels per frame; default: the folder's manual, else 2 and 504 x 504.

    Raises
    ------
    ValueError
        Where the path is no Qwen omni checkpoint, of another family than said, or lacks weights.
    """
    path = str(path)
    if attn not in (None, *ATTENTION):
        raise ValueError(f"attention {attn!r} is not known here; known: {', '.join(ATTENTION)}")
    config = _config(path)
    kind = str(config.model_type).removesuffix("_thinker")
    if kind not in FAMILIES:
        raise ValueError(f"{path} holds a {config.model_type!r} model; known: {', '.join(FAMILIES)}")
    found, model_class, processor_class = FAMILIES[kind]
    if family is not None and family != found:
        raise ValueError(f"{path} holds a {found} model, not {family} (say {found}:{path})")
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    kept = getattr(torch, dtype, None) if dtype else (torch.float32 if where.type == "cpu" else "auto")
    if kept != "auto" and not (isinstance(kept, torch.dtype) and kept.is_floating_point):
        raise ValueError(f"dtype {dtype!r} is not known; known: float32, bfloat16, float16")
    with _no_bars():
        model, info = getattr(transformers, model_class).from_pretrained(
            path, dtype=kept, attn_implementation=attn or "sdpa", output_loading_info=True
        )
        processor = getattr(transformers, processor_class).from_pretrained(path)
    lacking = sorted(info["missing_keys"])
    if lacking or info["mismatched_keys"]:
        raise ValueError(
            f"{path} lacks {len(lacking)} weights of its thinker ({', '.join(lacking[:3])} ...) and has "
            f"{len(info['mismatched_keys'])} of another shape: they would be random numbers"
        )
    manual = _manual(path)
    view = manual.view or _view(processor)
    if fps is not None:
        view = msgspec.structs.replace(view, fps=fps)
    if max_pixels is not None:
        view = msgspec.structs.replace(view, size=None, max_pixels=max_pixels)
    thinker = wrap(model.to(where), processor, view, system=manual.system if system is None else system)
    return thinker, manual, _revision(path, config)


def wrap(model: Any, processor: Any, view: View, *, system: str | None = None) -> Thinker:
    """A thinker in memory (freshly trained, say) and its processor, ready to be asked."""
    kind = str(model.config.model_type).removesuffix("_thinker")
    if kind not in FAMILIES:
        raise ValueError(
            f"a {model.config.model_type!r} model is no Qwen omni thinker; known: {', '.join(FAMILIES)}"
        )
    if not processor.chat_template:
        raise ValueError(
            "the processor has no chat template: prompts cannot be written (chat_template.jinja missing?)"
        )
    rate = int(processor.feature_extractor.sampling_rate)
    if view.rate != rate:
        raise ValueError(f"a view at {view.rate} Hz for a model that hears at {rate} Hz")
    model.eval()
    tokenizer = processor.tokenizer
    vocabulary = tokenizer.get_vocab()
    told = getattr(model.generation_config, "eos_token_id", None)
    ends = {tokenizer.eos_token_id, *(told if isinstance(told, list | tuple) else [told])}
    ends |= {vocabulary.get(name) for name in ("<|im_end|>", "<|endoftext|>")}
    media = ("image_token", "audio_token", "video_token", "vision_bos_token", "vision_eos_token")
    names = [getattr(processor, name) for name in (*media, "audio_bos_token", "audio_eos_token")]
    for name, config_id in (("video_token", "video_token_id"), ("audio_token", "audio_token_id")):
        ours, theirs = vocabulary.get(getattr(processor, name)), getattr(model.config, config_id)
        if ours != theirs:
            raise ValueError(
                f"the tokenizer's {name} is {ours}, the model's is {theirs}: they do not belong together"
            )
    return Thinker(
        family=FAMILIES[kind][0],
        model=model,
        processor=processor,
        view=view,
        dtype=next(model.parameters()).dtype,
        device=next(model.parameters()).device,
        system=system,
        ends=tuple(sorted(int(e) for e in ends if e is not None)),
        suppressed=tuple(sorted({int(vocabulary[n]) for n in names if n in vocabulary})),
    )


def _view(processor: Any) -> View:
    """What a checkpoint without a manual wants: its processor's one size, or up to 504 x 504 pixels."""
    size, rate = processor.video_processor.size, int(processor.feature_extractor.sampling_rate)
    side = math.isqrt(size["longest_edge"])
    if size["shortest_edge"] == size["longest_edge"] == side**2:
        return View(size=(side, side), rate=rate)
    return View(max_pixels=MAX_PIXELS, rate=rate)


def _config(path: str) -> Any:
    if path.startswith((".", "/", "~")) and not Path(path).expanduser().is_dir():
        raise ValueError(f"no folder {path}")
    try:
        return transformers.AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is neither a checkpoint folder with a config.json nor a hub id that can be reached: "
            f"{str(error).splitlines()[0]}"
        ) from error


def _manual(path: str) -> Manual:
    file = Path(path) / "earwitness.json"
    if not file.is_file():
        return Manual()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manual)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file}: {error}") from error


def _revision(path: str, config: Any) -> str:
    """The hub's commit, or a digest of a folder: its config, and size, head and tail of each weight file."""
    commit = getattr(config, "_commit_hash", None)
    if commit:
        return str(commit)
    h = hashlib.sha256()
    for file in sorted(Path(path).glob("*.safetensors")) + sorted(Path(path).glob("config.json")):
        size = file.stat().st_size
        h.update(f"{file.name}:{size}".encode())
        with file.open("rb") as f:
            h.update(f.read(1 << 23))
            f.seek(max(size - (1 << 20), 0))
            h.update(f.read())
    return h.hexdigest()[:16]


@contextmanager
def _no_bars() -> Iterator[None]:
    """The library never prints: transformers' progress bars are switched off while weights load."""
    log = transformers.utils.logging
    shown = log.is_progress_bar_enabled()
    log.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            log.enable_progress_bar()
