"""Checkpoint folder or hub id -> a thinker ready to be asked, and a revision that names its weights.

Both layouts load: a thinker's own checkpoint, and a full Omni checkpoint, of which only the thinker is read
(its talker and vocoder are left on the disk). Weights that the checkpoint lacks would be random numbers: that
is an error here, not a warning.

Weights go straight to their device, without a copy in the machine's memory, where accelerate is installed; a
checkpoint may be sharded. ``device="auto"`` spreads the layers over all GPUs (accelerate again). A quantised
checkpoint is left to transformers and its packages: it comes on the device and in the types it brings.

A folder may hold ``earwitness.json``, how this checkpoint wants to be fed (without it, a video processor whose
smallest and largest size are one square gets frames of that size, any other frames of at most 504 x 504)::

    {"name": "hans", "view": {"fps": 2.0, "size": [112, 112], "rate": 16000}, "system": null}
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError

from earwitness.models import torchvision_ops  # noqa: F401 - must come before transformers
from earwitness.models.adapters import attach, read_adapter
from earwitness.models.quiet import quiet as quiet
from earwitness.models.qwen_inputs import Family, Thinker
from earwitness.models.qwen_wrapped import check_filled, check_wrapper, runs_on
from earwitness.records import View

import transformers  # isort: skip

FAMILIES: dict[str, tuple[Family, str, str]] = {
    "qwen2_5_omni": ("qwen2.5-omni", "Qwen2_5OmniThinkerForConditionalGeneration", "Qwen2_5OmniProcessor"),
    "qwen3_omni_moe": ("qwen3-omni", "Qwen3OmniMoeThinkerForConditionalGeneration", "Qwen3OmniMoeProcessor"),
}
MAX_PIXELS = 504 * 504  # per frame: the size MMA-Bench trains and tests at (arXiv 2511.22826, appendix C)
ATTENTION = ("sdpa", "eager", "flash_attention_2")
DTYPES = ("auto", "float32", "bfloat16", "float16")


class Manual(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``earwitness.json``: how a checkpoint wants to be fed. All fields may be left out."""

    name: str | None = None
    view: View | None = None
    system: str | None = None
    context: int | None = None  # words of a long context that it was ever shown: what an audit asks by default


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
    adapter: str | Path | None = None,
) -> tuple[Thinker, Manual, str]:
    """Load a thinker and its processor; also the folder's manual and a revision that names the weights.

    Parameters
    ----------
    device : "cpu", "cuda", "cuda:1" ...; "auto" spreads the layers over all GPUs; default: the first GPU where
        there is one.
    dtype : "float32", "bfloat16", "float16", or "auto", what the checkpoint says; default: bfloat16 on a GPU,
        float32 on a CPU.
    attn : "sdpa" (default), "eager", or "flash_attention_2": that is for the towers, the text layers keep "sdpa",
        since flash attention takes no tree of choices as a mask.
    fps, max_pixels : frames per second and pixels per frame; default: the folder's manual, else 2 and 504 x 504.
    adapter : folder of a LoRA adapter of this thinker, put on it unmerged; the revision names its weights too.

    Raises
    ------
    ValueError
        Where the path is no Qwen omni checkpoint, of another family than said, or lacks weights; where an option
        is unknown, or needs a GPU or a package that is not there.
    """
    path = str(path)
    where = _place(device)
    kept = _dtype(dtype, where)
    tuned = None if adapter is None else read_adapter(adapter)
    ways = _attention(attn, where, kept)
    config = _config(path)
    found, model_class, _ = _family(config, path)
    if family is not None and family != found:
        raise ValueError(f"{path} holds a {found} model, not {family} (say {found}:{path})")
    quantised = getattr(config, "quantization_config", None) is not None
    placed = _device_map(where, quantised)
    kind = getattr(transformers, model_class)
    with quiet(), _blaming(path):
        model, info = kind.from_pretrained(
            path,
            # Read already, where it is the thinker's own; a whole Omni model's config holds it further in.
            config=config if isinstance(config, kind.config_class) else None,
            dtype="auto" if quantised and dtype is None else kept,
            attn_implementation=ways,
            device_map=placed,
            output_loading_info=True,
        )
        processor = _processor(config, path)
    lacking = sorted(info["missing_keys"])
    if lacking or info["mismatched_keys"]:
        raise ValueError(
            f"{path} lacks {len(lacking)} weights of its thinker ({', '.join(lacking[:3])} ...) and has "
            f"{len(info['mismatched_keys'])} of another shape: they would be random numbers"
        )
    if tuned is not None:
        model = attach(model, tuned)
    manual = _manual(path)
    view = _view(manual, processor, fps, max_pixels)
    if placed is None:
        model = model.to(where)
    thinker = wrap(
        model, processor, view, system=manual.system if system is None else system, context=manual.context
    )
    revision = _revision(path, config)
    return thinker, manual, revision if tuned is None else f"{revision}+{tuned.digest}"


def load_reader(
    path: str | Path, *, fps: float | None = None, max_pixels: int | None = None, system: str | None = None
) -> tuple[Thinker, Manual, str]:
    """A thinker without its weights, for those who only write its prompts and count its tokens: ``model.config``
    is there, nothing else of the model. Arguments and errors as ``load_thinker``'s.
    """
    path = str(path)
    config = _config(path)
    _family(config, path)
    with quiet(), _blaming(path):
        processor = _processor(config, path)
        try:
            told = transformers.GenerationConfig.from_pretrained(path).eos_token_id
        except OSError:
            told = None  # a checkpoint need not have one: the tokenizer's own end tokens hold
    manual = _manual(path)
    view = _view(manual, processor, fps, max_pixels)
    shell = SimpleNamespace(config=getattr(config, "thinker_config", config))
    system = manual.system if system is None else system
    thinker = _thinker(shell, told, processor, view, system, torch.bfloat16, torch.device("cpu"))
    return thinker, manual, _revision(path, config)


def wrap(
    model: Any, processor: Any, view: View, *, system: str | None = None, context: int | None = None
) -> Thinker:
    """A thinker in memory (freshly trained, say) and its processor, ready to be asked.

    The thinker may lie in PEFT's wrapper, over several devices, or offloaded by accelerate. With an adapter it is
    asked as it then is: inside ``thinker.model.disable_adapter()`` without it.

    Raises
    ------
    ValueError
        Where it is no Qwen omni thinker, its weights are not there, or its adapter does not lie in its layers;
        where processor or view belong to another model.
    """
    model.eval()
    told = getattr(model.generation_config, "eos_token_id", None)
    # The dtype is that of the floating weights: a quantised checkpoint's first ones need not be.
    check_wrapper(model)
    check_filled(model)
    device = runs_on(model.get_input_embeddings())
    return replace(_thinker(model, told, processor, view, system, model.dtype, device), context=context)


def _thinker(
    model: Any, told: Any, processor: Any, view: View, system: str | None, dtype: torch.dtype, device: torch.device
) -> Thinker:
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
    tokenizer = processor.tokenizer
    vocabulary = tokenizer.get_vocab()
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
        dtype=dtype,
        device=device,
        system=system,
        ends=tuple(sorted(int(e) for e in ends if e is not None)),
        suppressed=tuple(sorted({int(vocabulary[n]) for n in names if n in vocabulary})),
    )


def _place(device: str | None) -> torch.device | str:
    """The device of that name; "auto" stays a word. Refuses what this machine or this torch has not."""
    if device == "auto":
        if importlib.util.find_spec("accelerate") is None:
            raise ValueError("device 'auto' spreads a model over GPUs and needs accelerate: pip install accelerate")
        return "auto"
    try:
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ValueError(f"device {device!r} is not known; known: cpu, cuda, cuda:1, auto") from error
    if where.type == "cuda" and (where.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {device!r}: torch {torch.__version__} sees {torch.cuda.device_count()} GPUs here "
            f"(numbered from 0; is this a CPU build of torch, or CUDA_VISIBLE_DEVICES set?)"
        )
    return where


def _dtype(name: str | None, where: torch.device | str) -> torch.dtype | str:
    if name is not None and name not in DTYPES:
        raise ValueError(f"dtype {name!r} is not known; known: {', '.join(DTYPES)}")
    on_gpu = torch.cuda.is_available() if where == "auto" else torch.device(where).type != "cpu"
    name = name or ("bfloat16" if on_gpu else "float32")
    return name if name == "auto" else getattr(torch, name)


def _attention(name: str | None, where: torch.device | str, dtype: torch.dtype | str) -> str | dict[str, str]:
    if name not in (None, *ATTENTION):
        raise ValueError(f"attention {name!r} is not known here; known: {', '.join(ATTENTION)}")
    if name != "flash_attention_2":
        return name or "sdpa"
    if not transformers.utils.is_flash_attn_2_available():
        raise ValueError(
            "attention 'flash_attention_2' needs a GPU and flash-attn 2.3.3 or later, which are not both here: "
            "pip install flash-attn --no-build-isolation, or say sdpa (the default)"
        )
    if dtype == torch.float32 or (where != "auto" and torch.device(where).type != "cuda"):
        raise ValueError("attention 'flash_attention_2' computes in bfloat16 or float16 on a GPU, nowhere else")
    return {"": "sdpa", "text_config": "sdpa", "vision_config": name, "audio_config": name}


def _device_map(where: torch.device | str, quantised: bool) -> Any:
    """Where from_pretrained puts the weights at once; None: into the machine's memory, to be moved afterwards."""
    if where == "auto":
        return "auto"
    at_once = quantised or torch.device(where).type != "cpu"
    return {"": where} if at_once and importlib.util.find_spec("accelerate") is not None else None


@contextmanager
def _blaming(path: str) -> Iterator[None]:
    """What goes wrong while weights load, in one line: a package to add, a file that is gone or cut short."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{path} cannot be loaded: {str(error).strip().splitlines()[0]}") from error
    except (OSError, SafetensorError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} cannot be loaded ({said}): is a part of it missing or half downloaded?"
        ) from error


def _view(manual: Manual, processor: Any, fps: float | None, max_pixels: int | None) -> View:
    """The manual's view, else the processor's one size, or up to 504 x 504 pixels; what was said goes before."""
    size, rate = processor.video_processor.size, int(processor.feature_extractor.sampling_rate)
    side = math.isqrt(size["longest_edge"])
    view = View(max_pixels=MAX_PIXELS, rate=rate)
    if size["shortest_edge"] == size["longest_edge"] == side**2:
        view = View(size=(side, side), rate=rate)
    view = manual.view or view
    if fps is not None:
        view = msgspec.structs.replace(view, fps=fps)
    if max_pixels is not None:
        view = msgspec.structs.replace(view, size=None, max_pixels=max_pixels)
    return view


def _family(config: Any, path: str) -> tuple[Family, str, str]:
    kind = str(config.model_type).removesuffix("_thinker")
    if kind not in FAMILIES:
        raise ValueError(f"{path} holds a {config.model_type!r} model; known: {', '.join(FAMILIES)}")
    return FAMILIES[kind]


def _processor(config: Any, path: str) -> Any:
    return getattr(transformers, _family(config, path)[2]).from_pretrained(path)


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
