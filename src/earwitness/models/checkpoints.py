"""How does what was trained reach a server? Merging, re-laying and renaming weights, from disk to disk.

Weights are read and written one file at a time, so that a model of 30 billion parameters needs the memory of its
largest file, no GPU and no transformers class. What is not touched is copied bit by bit. A result appears under its
name only when it is whole.

- ``merge``: base + adapter -> a checkpoint in the base's own layout (of a full Omni checkpoint the talker stays).
- ``to_full``: a thinker's checkpoint -> a full Omni checkpoint (names under ``thinker.``), which is what vLLM, the
  full classes of transformers, ms-swift and LLaMA-Factory load. Talker and vocoder come from the published
  checkpoint where it is given; without it the model answers in text alone.
- ``write_adapter``: an adapter under the names that vLLM looks for, or under PEFT's.

vLLM's weight mappers of both thinkers take ``thinker.model.`` for their ``language_model.model.`` (read in its
sources, 0.33; not run).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from earwitness.models.adapters import Adapter, Part, read_adapter
from earwitness.models.weight_names import PEFT, bare, in_full, in_memory, is_text

FULL = {  # a thinker's model_type -> the full model's, and its class
    "qwen2_5_omni_thinker": ("qwen2_5_omni", "Qwen2_5OmniForConditionalGeneration"),
    "qwen3_omni_moe_thinker": ("qwen3_omni_moe", "Qwen3OmniMoeForConditionalGeneration"),
}
NOT_COPIED = (".safetensors", ".md", ".bin", ".gguf")  # weights are written anew; a model card speaks of the base
KEPT = ("spk_dict.pt",)  # the talker's speakers

Form = Literal["vllm", "peft"]


def merge(adapter: str | Path, out: Path, *, base: str | Path | None = None) -> Path:
    """Write ``W + scale * B @ A`` for every module of the adapter, everything else as it is in the base.

    The sum is taken in float32 and rounded once to the base's type. The result is laid out as the base: what loaded
    the base loads it.

    Parameters
    ----------
    base : a folder or hub id; default: the checkpoint that the adapter says it was trained on.

    Raises
    ------
    ValueError
        Where the base is not there, is quantised, has no such weight or one of another shape; where the result is
        not finite; where ``out`` exists.
    """
    tuned = read_adapter(adapter)
    if base is None and not tuned.base:
        raise ValueError(f"{tuned.folder} does not say what it was trained on: give the base")
    at = _local(base if base is not None else str(tuned.base))
    config = _config(at)
    if config.get("quantization_config"):
        raise ValueError(f"{at} is quantised: an adapter is merged into the checkpoint that it was quantised from")
    found = {bare(name): name for names in _names(at).values() for name in names}
    lacking = [module for module in tuned.parts if f"{module}.weight" not in found]
    if lacking:
        raise ValueError(
            f"{at} has no weight of {lacking[0]} and {len(lacking) - 1} more of the {len(tuned.parts)} modules "
            f"that {tuned.folder} tunes: is it another model's adapter?"
        )

    def changed(name: str, weight: torch.Tensor) -> torch.Tensor:
        part = tuned.parts.get(bare(name).removesuffix(".weight"))
        return weight if part is None else _sum(name, weight, part, tuned.folder)

    with _whole(out) as folder:
        _copy_files(at, folder)
        _drop_name(folder)
        _rewrite(at, folder, lambda name: name, changed)
    return out


def _sum(name: str, weight: torch.Tensor, part: Part, source: Path) -> torch.Tensor:
    if weight.shape != (part.b.shape[0], part.a.shape[1]):
        raise ValueError(
            f"{source} adds {part.b.shape[0]} x {part.a.shape[1]} numbers to {name}, which is "
            f"{' x '.join(map(str, weight.shape))}: it is an adapter of another model"
        )
    made = weight.float() + (part.b.float() @ part.a.float()) * part.scale
    if not torch.isfinite(made).all():
        raise ValueError(
            f"{source}: {name} is not finite after merging; the adapter is broken (a diverged training?)"
        )
    return made.to(weight.dtype)


def to_full(checkpoint: str | Path, out: Path, *, base: str | Path | None = None) -> Path:
    """Write a thinker's checkpoint in the layout of the full Omni model.

    Parameters
    ----------
    base : a full Omni checkpoint (folder or hub id) of the same thinker: its talker, vocoder and settings are taken
        over. Without one the configuration switches speech off.

    Raises
    ------
    ValueError
        Where the checkpoint is no thinker's, the base is not full or its thinker has other weights, or ``out``
        exists.
    """
    at = _local(checkpoint)
    config = _config(at)
    if config.get("model_type") not in FULL:
        raise ValueError(
            f"{at} holds a {config.get('model_type')!r} model, no thinker"
            + (": it is full already" if "thinker_config" in config else f"; known: {', '.join(FULL)}")
        )
    kind, architecture = FULL[config["model_type"]]
    with _whole(out) as folder:
        if base is None:
            whole: dict[str, Any] = {"architectures": [architecture], "model_type": kind, "thinker_config": config}
            whole |= {key: config[key] for key in ("dtype", "transformers_version") if key in config}
            whole["enable_audio_output"] = False
            _copy_files(at, folder)
            _rewrite(at, folder, in_full)
            if kind == "qwen2_5_omni":  # its class wants the talker's speakers even where there is no talker
                torch.save({}, folder / "spk_dict.pt")
        else:
            above = _local(base)
            whole = _config(above)
            if whole.get("model_type") != kind:
                raise ValueError(f"{above} holds a {whole.get('model_type')!r} model, not the {kind!r} of {at}")
            _copy_files(above, folder)
            _copy_files(at, folder)
            _fill(at, above, folder)
            whole["thinker_config"] = {**whole["thinker_config"], **config}
        (folder / "config.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return out


def _fill(thinker: Path, above: Path, folder: Path) -> None:
    """The base's weight files with the thinker's weights in place of its own."""
    of = {in_full(name): file for file, names in _names(thinker).items() for name in names}
    theirs = {name for names in _names(above).values() for name in names if name.startswith("thinker.")}
    if theirs != of.keys():
        odd = sorted(theirs ^ of.keys())
        raise ValueError(f"{above} and {thinker} differ in {len(odd)} weights of the thinker, such as {odd[0]}")

    def taken(name: str, weight: torch.Tensor) -> torch.Tensor:
        if name not in of:
            return weight
        with safe_open(of[name], framework="pt") as file:
            ours: torch.Tensor = file.get_tensor(name.removeprefix("thinker."))
        if ours.shape != weight.shape:
            raise ValueError(f"{name} is {tuple(ours.shape)} in {thinker} and {tuple(weight.shape)} in {above}")
        return ours.to(weight.dtype)

    _rewrite(above, folder, lambda name: name, taken)


def write_adapter(adapter: str | Path, out: Path, *, form: Form) -> Path:
    """Write an adapter under the names that vLLM maps ("vllm"), or that PEFT has for the thinker class ("peft").

    vLLM knows one scale for all modules, so where they differ it is worked into the weights.

    Raises
    ------
    ValueError
        Where there is no adapter, ``out`` exists, or vLLM would not serve it: on a tower, or on single experts.
    """
    tuned = read_adapter(adapter)
    odd = [name for name in tuned.parts if not is_text(name) or ".experts." in name]
    if form == "vllm" and odd:
        raise ValueError(
            f"{tuned.folder} tunes {len(odd)} modules that vLLM puts no adapter on, such as {odd[0]}: merge it and "
            f"serve the merged checkpoint"
        )
    named: Callable[[str], str] = in_full if form == "vllm" else in_memory
    common = tuned.alpha / (tuned.rank**0.5 if tuned.stabilised else tuned.rank)
    weights: dict[str, torch.Tensor] = {}
    for module, part in tuned.parts.items():
        weights[f"{PEFT}{named(module)}.lora_A.weight"] = part.a.contiguous()
        same = abs(part.scale - common) < 1e-12
        weights[f"{PEFT}{named(module)}.lora_B.weight"] = (
            part.b if same else (part.b.float() * (part.scale / common)).to(part.b.dtype)
        ).contiguous()
    with _whole(out) as folder:
        save_file(weights, folder / "adapter_model.safetensors", {"format": "pt"})
        told = _adapter_config(tuned, [named(module) for module in tuned.parts], form)
        (folder / "adapter_config.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return out


def _adapter_config(tuned: Adapter, modules: list[str], form: Form) -> dict[str, Any]:
    leaves = sorted({module.rpartition(".")[2] for module in modules})
    ranks = {p.a.shape[0] for p in tuned.parts.values()}
    told: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": tuned.base,
        "r": tuned.rank,
        "lora_alpha": int(tuned.alpha) if tuned.alpha == int(tuned.alpha) else tuned.alpha,
        "lora_dropout": 0.0,
        "use_rslora": tuned.stabilised,
        "bias": "none",
        "target_modules": leaves if form == "vllm" else sorted(modules),
        "inference_mode": True,
    }
    if ranks != {tuned.rank}:
        told["rank_pattern"] = {
            name: p.a.shape[0] for name, p in zip(modules, tuned.parts.values(), strict=True)
        }  # the scale stays that of r: see write_adapter
        power = 0.5 if tuned.stabilised else 1.0
        told["alpha_pattern"] = {
            n: r**power * tuned.alpha / tuned.rank**power for n, r in told["rank_pattern"].items()
        }
    return told


# --- folders and files --------------------------------------------------------------------------------------------


def _local(path: str | Path) -> Path:
    """The folder of a checkpoint; of a hub id, its copy on this disk (fetched where it is not there)."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if str(path).startswith((".", "/", "~")):
        raise ValueError(f"no folder {path}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(path)))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"{path} is neither a checkpoint folder nor a hub id that can be reached: {str(error).splitlines()[0]}"
        ) from error


def _config(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "config.json").read_bytes())
    except FileNotFoundError as error:
        raise ValueError(f"{folder} holds no checkpoint (no config.json)") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error
    return found


def _names(folder: Path) -> dict[Path, list[str]]:
    """The weights' names by file."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(
            f"{folder} holds no weights as *.safetensors (a part of it missing, or older *.bin files?)"
        )
    out = {}
    for file in files:
        try:
            with safe_open(file, framework="pt") as weights:
                out[file] = list(weights.keys())
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} cannot be read ({error}): half downloaded?") from error
    return out


def _rewrite(
    source: Path,
    folder: Path,
    renamed: Callable[[str], str],
    changed: Callable[[str, torch.Tensor], torch.Tensor] = lambda name, weight: weight,
) -> None:
    """Copy the weight files, one at a time, under other names, with other weights; an index where they are many."""
    where: dict[str, str] = {}
    size = 0
    for file, names in _names(source).items():
        with safe_open(file, framework="pt") as weights:
            tensors = {renamed(name): changed(name, weights.get_tensor(name)) for name in names}
        save_file(tensors, folder / file.name, {"format": "pt"})
        where |= dict.fromkeys(tensors, file.name)
        size += sum(t.numel() * t.element_size() for t in tensors.values())
        del tensors  # before the next file is read
    if len(set(where.values())) > 1:
        index: Mapping[str, Any] = {"metadata": {"total_size": size}, "weight_map": dict(sorted(where.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _copy_files(source: Path, folder: Path) -> None:
    """Configuration, processor and tokenizer files, licences; a copy that is there already is written over."""
    for file in sorted(source.iterdir()):
        skipped = file.suffix in NOT_COPIED or file.name.startswith(".") or file.name.endswith(".index.json")
        pickled = file.suffix in (".pt", ".pth") and file.name not in KEPT
        if file.is_file() and not skipped and not pickled:
            shutil.copyfile(file, folder / file.name)


def _drop_name(folder: Path) -> None:
    """A tuned model is fed as its base is, and is not it: the base's own name does not go with it."""
    file = folder / "earwitness.json"
    if file.is_file():
        told = json.loads(file.read_bytes())
        told.pop("name", None)
        file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder to write into, which gets its name when all of it is written."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already: give another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    part.mkdir()
    try:
        yield part
        if out.exists():
            out.rmdir()
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
