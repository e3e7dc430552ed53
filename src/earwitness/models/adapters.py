"""What does training leave of a thinker, and how is it taken up again? A low-rank adapter, or a checkpoint.

An adapter (LoRA, arXiv 2106.09685, section 4.1) adds ``scale * B @ A`` to the weight of a linear module; ``scale``
is alpha / r, or alpha / sqrt(r) with rank-stabilised ones. It belongs on the text model only: eyes and ears stay as
they are, so what they make of a clip can be computed once. PEFT 0.21.2 does not help there: a regular expression as
``target_modules`` is rewritten on Qwen3-Omni and then also meets the audio tower's ``q_proj``, and "all-linear"
raises. Full module names hold: ``text_linear_names``.

An adapter is read from any trainer's folder (PEFT here, ms-swift, LLaMA-Factory, or renamed for vLLM): names are
brought to one form (``weight_names``), and where one weight of it would land nowhere, that is an error and not a
model that was never tuned.

Functions: ``text_linear_names``, ``fused_experts``, ``read_adapter``, ``attach``, ``save_adapter``,
``save_thinker``. Merging and renaming on the disk: ``checkpoints``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from earwitness.models.qwen_inputs import Thinker
from earwitness.models.qwen_wrapped import runs_on
from earwitness.models.weight_names import TOWERS, bare, in_memory

Which = Literal["attention", "qv", "all"]
TARGETS: dict[str, tuple[str, ...]] = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "qv": ("q_proj", "v_proj"),  # MMA-Bench's own tuning (arXiv 2511.22826, table 8)
    "all": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
}
# Of a PEFT configuration: what is more than plain LoRA on linear modules, and would be lost without a word.
BEYOND = (
    "use_dora", "modules_to_save", "target_parameters", "trainable_token_indices", "lora_bias", "use_qalora",
    "layer_replication", "alora_invocation_tokens", "fan_in_fan_out", "use_bdlora", "arrow_config", "kasa_config",
    "velora_config", "monteclora_config",
)  # fmt: skip


class Part(NamedTuple):
    """What is added to one module's weight: ``scale * b @ a``."""

    a: torch.Tensor  # [rank, in]
    b: torch.Tensor  # [out, rank]
    scale: float


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter of a thinker, as read: module (by its name in a thinker's checkpoint) -> what is added."""

    folder: Path
    base: str | None  # the checkpoint it was trained on, as its trainer wrote it down
    rank: int
    alpha: float
    stabilised: bool  # scale is alpha / sqrt(rank)
    parts: Mapping[str, Part]
    digest: str  # of names, scales and weights

    @property
    def towers(self) -> list[str]:
        """Its modules that lie in the vision or the audio tower."""
        return [name for name in self.parts if name.startswith(TOWERS)]


def text_linear_names(model: Any, which: Which = "attention") -> list[str]:
    """Full names of the text layers' linear modules, as ``target_modules`` for PEFT.

    Parameters
    ----------
    model : a thinker of transformers (not wrapped by PEFT).
    which : "attention" (queries, keys, values, output), "qv" (queries and values), or "all" (the MLP too). The
        experts of a mixture are fused parameters and no modules: "all" is the attention there, see
        ``fused_experts``.

    Raises
    ------
    ValueError
        Where ``which`` is not known, or the model is no thinker.
    """
    if which not in TARGETS:
        raise ValueError(f"LoRA on {which!r} is not known; known: {', '.join(TARGETS)}")
    names = [name for name, _ in model.named_modules()]
    inside = "model.language_model.layers."
    if not any(name.startswith(inside) for name in names):
        raise ValueError(
            f"a {type(model).__name__} has no text layers under {inside}: give the thinker itself (a full Omni "
            f"model's `.thinker`, a PEFT model's `.get_base_model()`)"
        )
    # A mixture's few dense layers are left out with its experts: PEFT would read their names as the experts'.
    wanted = TARGETS["attention"] if which == "all" and fused_experts(model) else TARGETS[which]
    return [
        name
        for name, module in model.named_modules()
        if name.startswith(inside) and name.rpartition(".")[2] in wanted and isinstance(module, torch.nn.Linear)
    ]


def fused_experts(model: Any) -> int:
    """How many layers keep their experts as fused parameters, where an adapter by module names cannot go.

    For the record of a training: with "all" on such a model only the attention is tuned.
    """
    layers = (name for name, _ in model.named_parameters() if ".language_model.layers." in name)
    return len({name.partition(".mlp.experts.")[0] for name in layers if ".mlp.experts." in name})


def read_adapter(folder: str | Path) -> Adapter:
    """The adapter of a folder (adapter_config.json, adapter_model.safetensors), whoever trained it.

    Raises
    ------
    ValueError
        Where there is none, it is more than LoRA on linear modules, or its weights are damaged.
    """
    folder = Path(folder).expanduser()
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
        weights = load_file(folder / "adapter_model.safetensors")
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} holds no adapter: there is no {Path(error.filename or 'adapter_model.safetensors').name} "
            f"(a trainer's folder has one for every step it saved at, such as checkpoint-100)"
        ) from error
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder}: the adapter cannot be read ({str(error).splitlines()[0]})") from error
    beyond = [key for key in BEYOND if config.get(key)]
    if config.get("peft_type") != "LORA" or beyond or config.get("bias", "none") != "none":
        what = config.get("peft_type") if config.get("peft_type") != "LORA" else ", ".join(beyond) or "bias"
        raise ValueError(
            f"{folder} is more than a plain LoRA adapter ({what}): merge it with what trained it, and give the "
            f"merged checkpoint"
        )
    return _adapter(folder, config, weights)


def _adapter(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor]) -> Adapter:
    halves: dict[str, dict[str, torch.Tensor]] = {}
    called: dict[str, str] = {}
    for name, weight in weights.items():
        found = re.fullmatch(r"(.+)\.lora_(A|B)(?:\.default)?\.weight", name)
        if found is None or weight.ndim != 2:
            raise ValueError(f"{folder}: {name} is no half of a LoRA weight of a linear module")
        module = bare(found[1])
        halves.setdefault(module, {})[found[2]] = weight
        called[module] = found[1].removeprefix("base_model.model.")
    if not halves:
        raise ValueError(f"{folder}: the adapter is empty")
    parts, h = {}, hashlib.sha256()
    for module in sorted(halves):
        a, b = (halves[module].get(half) for half in "AB")
        if a is None or b is None or a.shape[0] != b.shape[1]:
            raise ValueError(f"{folder}: of {module} the two halves do not belong together, or one is missing")
        parts[module] = Part(a, b, _scale(config, called[module], a.shape[0]))
        h.update(f"{module} {parts[module].scale} {a.dtype}".encode())
        h.update(a.contiguous().view(torch.uint8).numpy().data)
        h.update(b.contiguous().view(torch.uint8).numpy().data)
    return Adapter(
        folder=folder,
        base=config.get("base_model_name_or_path"),
        rank=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        stabilised=bool(config.get("use_rslora")),
        parts=parts,
        digest=h.hexdigest()[:16],
    )


def _scale(config: dict[str, Any], module: str, rank: int) -> float:
    """alpha / r of a module; patterns of other alphas match as PEFT's do, from the end of the name."""
    own = [a for p, a in (config.get("alpha_pattern") or {}).items() if re.match(rf"(.*\.)?({p})$", module)]
    alpha = own[0] if own else config["lora_alpha"]
    return float(alpha / rank**0.5 if config.get("use_rslora") else alpha / rank)


def attach(model: Any, adapter: Adapter, *, trainable: bool = False) -> Any:
    """Put an adapter on a thinker, in place and unmerged; returns the same model.

    The adapter's weights are float32 whatever the model's are, as PEFT trains them. ``trainable`` leaves them to be
    trained further; everything else is frozen then.

    Raises
    ------
    ValueError
        Where PEFT is not installed, or the adapter is of another model: a module it names is not there, or is of
        another shape.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict
    except ModuleNotFoundError as error:
        raise ValueError(f"an adapter needs {error.name}: pip install 'earwitness[train]'") from error
    for name, part in adapter.parts.items():
        _check_fits(model, name, part, adapter.folder)
    modules = {in_memory(name): part for name, part in adapter.parts.items()}
    power = 0.5 if adapter.stabilised else 1.0
    alpha: Any = adapter.alpha  # PEFT calls it an int and takes any number
    alphas = {re.escape(m): p.scale * p.a.shape[0] ** power for m, p in modules.items()}
    config = LoraConfig(
        r=adapter.rank,
        lora_alpha=alpha,
        use_rslora=adapter.stabilised,
        target_modules=list(modules),
        rank_pattern={re.escape(m): p.a.shape[0] for m, p in modules.items() if p.a.shape[0] != adapter.rank},
        alpha_pattern={m: own for m, own in alphas.items() if abs(own - adapter.alpha) > 1e-9},
        inference_mode=not trainable,
        base_model_name_or_path=adapter.base,
    )
    training = model.training
    inject_adapter_in_model(config, model)
    for layer in (model.get_submodule(module) for module in modules):
        for half in (*layer.lora_A.values(), *layer.lora_B.values()):
            if half.weight.device.type == "meta":  # as offloaded weights of the base are, but no hook fetches these
                half.to_empty(device=runs_on(layer))
    for name, weight in model.named_parameters():
        if ".lora_" in name:
            weight.data = weight.data.float()
    state = {f"{m}.lora_{h}.weight": w for m, p in modules.items() for h, w in (("A", p.a), ("B", p.b))}
    done: Any = set_peft_model_state_dict(model, state)
    lost = [name for name in done.missing_keys if ".lora_" in name] + list(done.unexpected_keys)
    assert not lost, f"{len(lost)} weights of the adapter found no place, such as {lost[0]}"
    model.train(training)
    return model


def _check_fits(model: Any, name: str, part: Part, folder: Path) -> None:
    try:
        module = model.get_submodule(in_memory(name))
    except AttributeError:
        module = None
    want = (part.b.shape[0], part.a.shape[1])
    have = None if module is None else (getattr(module, "out_features", 0), getattr(module, "in_features", 0))
    if have != want:
        what = "which the model has not" if have is None else f"which is {have[0]} x {have[1]} in the model"
        raise ValueError(
            f"{folder} is an adapter of another model: it adds {want[0]} x {want[1]} numbers to {name}, {what}"
        )


def save_adapter(model: Any, folder: Path, *, state: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write the adapter of a PEFT model: adapter_config.json and adapter_model.safetensors.

    ``state``: its weights by the names of the model's parameters, where the model itself holds but parts of them.
    """
    # Without the flag PEFT asks the hub whether the base's vocabulary has grown.
    model.save_pretrained(folder, save_embedding_layers=False, state_dict=None if state is None else dict(state))


def save_thinker(
    thinker: Thinker, folder: Path, *, model: Any = None, state: Mapping[str, torch.Tensor] | None = None
) -> None:
    """Write a thinker as a checkpoint: weights, configurations, processor files and ``earwitness.json``.

    It loads by ``qwen2.5-omni:FOLDER`` or ``qwen3-omni:FOLDER``, and is fed then as it is fed now.

    Parameters
    ----------
    model : the transformers thinker to write instead of ``thinker.model`` (a PEFT model's ``merge_and_unload()``).
    state : all its weights by name, to be written instead of its own: the model may hold but parts of them then.

    Raises
    ------
    ValueError
        Where an adapter still lies on the model, or the folder holds a model already.
    """
    model = thinker.model if model is None else model
    if state is not None:
        model = _remade(model, state)
    if any(".lora_" in name for name, _ in model.named_parameters()):
        raise ValueError("an adapter lies on this model: merge it first (PEFT's merge_and_unload), or save_adapter")
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a model already: give another folder")
    from earwitness.models.quiet import quiet  # here: it loads transformers, which the rest of this does without

    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
    thinker.processor.save_pretrained(folder)
    manual = {"view": msgspec.to_builtins(thinker.view), "system": thinker.system, "context": thinker.context}
    (folder / "earwitness.json").write_text(json.dumps(manual, indent=1) + "\n", encoding="utf-8")


def _remade(model: Any, state: Mapping[str, torch.Tensor]) -> Any:
    """A thinker of the model's kind that holds these weights, all of them and no others."""
    with torch.device("meta"):
        made = type(model)(model.config)
    made.load_state_dict(state, strict=True, assign=True)
    made.generation_config = model.generation_config
    if (how := getattr(model, "_weight_conversions", None)) is not None:
        made._weight_conversions = how  # under which names it came
    return made
