"""The commands and settings that go with exported rows: ready to run, plain to change.

They say what these tools would otherwise take otherwise, without a word:

- sound and picture interleaved (neither does it by itself);
- frames a second and pixels of a frame as the training set's own view has them. ms-swift's smallest frame is
  128 x 28 x 28 pixels unless it is told, and a largest one below that is then ignored;
- low-rank additions on the language model's attention alone, eyes and ears frozen. The audio tower has a ``q_proj``
  too, so ms-swift is given a regular expression and not that name;
- no shortening of prompts, which would cut into the media (LLaMA-Factory: 2,048 tokens unless it is told).

Rate, warm-up and schedule are MMA-Bench's (arXiv 2511.22826, table 8); a preference's beta is DPO's 0.1; GRPO has
no KL term, as RL-CoMM's. They are places to start from, not findings of ours.

Functions: ``model_of`` (which model a tool can train), ``write``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from earwitness.records import View

MODEL = "Qwen/Qwen2.5-Omni-7B"  # what the commands train unless told otherwise
FAMILIES = ("qwen2.5-omni:", "qwen3-omni:")  # as models are called here; the tools know the path alone
MAX_FRAMES = 768  # of a video: more would be thinned out, and the frames a second with them
MAX_PIXELS = 504 * 504  # of a frame, where the view says nothing: MMA-Bench's
MIN_PIXELS = 4 * 28 * 28  # four visual tokens: no frame is made larger than it is
TARGETS = "q_proj,k_proj,v_proj,o_proj"
CUTOFF = 32_768  # tokens: what Qwen2.5-Omni's text model takes


def model_of(tool: str, base: str | None) -> str:
    """The model as the tool is told it: a hub id, or the full path of a full Omni checkpoint.

    Raises
    ------
    ValueError
        Where it is a folder of something else, or Qwen3-Omni for LLaMA-Factory.
    """
    name = (base or MODEL).strip()
    for family in FAMILIES:
        name = name.removeprefix(family)
    folder = Path(name).expanduser()
    kind = ""
    if folder.is_dir():
        kind = _kind(folder)
        name = str(folder.resolve())
    elif name.startswith((".", "/", "~")):
        raise ValueError(f"no folder {name}")
    if tool == "llama-factory" and (kind.startswith("qwen3") or (not kind and "qwen3-omni" in name.lower())):
        raise ValueError(
            f"{name}: LLaMA-Factory (0.9.5) puts the sound and picture of Qwen3-Omni together in Qwen2.5-Omni's "
            "chunks of two seconds, not step by step in time as the model was trained, and no error says so: "
            "export to ms-swift, which has an order for each of the two"
        )
    return name


def _kind(folder: Path) -> str:
    try:
        kind = str(json.loads((folder / "config.json").read_bytes()).get("model_type"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder} holds no checkpoint to train (no readable config.json)") from error
    if kind.endswith("_thinker"):
        raise ValueError(
            f"{folder} is a thinker's own checkpoint, and these tools load full Omni checkpoints: "
            f"`earwitness export {folder} --to full --out FOLDER` makes it one"
        )
    return kind


def write(tool: str, stage: str, model: str, view: View, out: Path, *, valid: bool, tagged: bool) -> None:
    """Write ``run_<stage>.sh``, for LLaMA-Factory ``train_<stage>.yaml``, for GRPO the rewards' plug-in.

    ``tagged``: answers are asked for in RL-CoMM's three parts, so that its rewards apply; else right or wrong does.
    """
    pixels = view.size[0] * view.size[1] if view.size is not None else view.max_pixels or MAX_PIXELS
    if tool == "ms-swift":
        text = _swift(stage, model, f"{view.fps:g}", max(pixels, MIN_PIXELS), valid, tagged)
        if stage == "grpo":
            (out / "earwitness_rewards.py").write_text(_PLUG_IN, encoding="utf-8")
    else:
        settings = _settings(stage, model, view.fps, max(pixels, MIN_PIXELS), valid)
        lines = [f"{key}: {_scalar(value)}" for key, value in settings.items()]
        head = (
            "# Made by `earwitness export` for LLaMA-Factory 0.9.5. Media are found from this folder: sh run_{}.sh"
        )
        (out / f"train_{stage}.yaml").write_text("\n".join([head.format(stage), *lines]) + "\n", encoding="utf-8")
        text = _FACTORY.format(stage=stage)
    (out / f"run_{stage}.sh").write_text(text, encoding="utf-8")
    (out / f"run_{stage}.sh").chmod(0o755)


def _scalar(value: object) -> str:
    """As YAML: JSON's scalars are YAML's too, but for 5e-06, which is a word there without a point."""
    text = json.dumps(value)
    return text.replace("e-", ".0e-") if isinstance(value, float) and "." not in text else text


def _swift(stage: str, model: str, fps: str, pixels: int, valid: bool, tagged: bool) -> str:
    verb = {"sft": "sft", "dpo": "rlhf --rlhf_type dpo --beta 0.1", "grpo": "rlhf --rlhf_type grpo --beta 0"}[stage]
    options = [f"--dataset {stage}_train.jsonl"]
    if valid:
        options.append(f"--val_dataset {stage}_valid.jsonl")
    options += [
        "--tuner_type lora --lora_rank 16 --lora_alpha 32",
        r"--target_regex '^thinker\.model\.layers\..*\.(q|k|v|o)_proj$'",
        "--torch_dtype bfloat16 --gradient_checkpointing true",
        "--learning_rate 1e-4 --warmup_ratio 0.1 --lr_scheduler_type cosine --num_train_epochs 5"
        if stage == "sft"
        else "--learning_rate 5e-6 --warmup_ratio 0.1 --num_train_epochs 1",
    ]
    if stage == "grpo":
        rewards = ("format", "arr", "avc") if tagged else ("correct", "abstains")
        options += [
            "--external_plugins earwitness_rewards.py",
            "--reward_funcs " + " ".join(f"earwitness_{name}" for name in rewards),
            "--num_generations 8 --per_device_train_batch_size 8 --gradient_accumulation_steps 1",
            "--per_device_eval_batch_size 8",  # with validation it must hold whole groups too
            "--max_completion_length 256 --temperature 1.0 --remove_unused_columns false",
        ]
    else:
        options.append("--per_device_train_batch_size 1 --gradient_accumulation_steps 16")
    options.append(f"--output_dir out_{stage}")
    return _SWIFT.format(
        stage=stage, verb=verb, model=model, fps=fps, pixels=pixels, least=MIN_PIXELS, frames=MAX_FRAMES,
        options=" \\\n  ".join(options),
    )  # fmt: skip


def _settings(stage: str, model: str, fps: float, pixels: int, valid: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "model_name_or_path": model,
        "stage": stage,
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_target": TARGETS,
        "freeze_vision_tower": True,
        "freeze_multi_modal_projector": True,
        "template": "qwen2_omni",
        "use_audio_in_video": True,
        "video_fps": fps,
        "video_maxlen": MAX_FRAMES,
        "video_max_pixels": pixels,
        "dataset_dir": ".",
        "dataset": f"{stage}_train",
        "cutoff_len": CUTOFF,
        "bf16": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 16,
        "learning_rate": 1e-4 if stage == "sft" else 5e-6,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.1,
        "num_train_epochs": 5 if stage == "sft" else 1,
        "logging_steps": 10,
        "save_steps": 500,
        "output_dir": f"out_{stage}",
        "report_to": "none",
    }
    if valid:
        settings |= {"eval_dataset": f"{stage}_valid", "eval_strategy": "epoch", "per_device_eval_batch_size": 1}
    if stage == "dpo":
        settings |= {"pref_loss": "sigmoid", "pref_beta": 0.1}
    return settings


_SWIFT = """\
#!/bin/sh
# Made by `earwitness export` for ms-swift 4.6. What you add is passed on and goes before what stands here:
#   MODEL=/path/to/checkpoint sh run_{stage}.sh --learning_rate 1e-5
# Several GPUs: NPROC_PER_NODE=8 sh run_{stage}.sh --deepspeed zero2   (zero3 hangs on sound)
cd "$(dirname "$0")" || exit 1
export USE_AUDIO_IN_VIDEO=True ENABLE_AUDIO_OUTPUT=0
export FPS={fps} FPS_MIN_FRAMES=2 FPS_MAX_FRAMES={frames} VIDEO_MIN_PIXELS={least} VIDEO_MAX_PIXELS={pixels}
exec swift {verb} \\
  --model "${{MODEL:-{model}}}" \\
  {options} \\
  "$@"
"""

_FACTORY = """\
#!/bin/sh
# Made by `earwitness export` for LLaMA-Factory 0.9.5. Added settings go before those of the file:
#   sh run_{stage}.sh learning_rate=1e-5
cd "$(dirname "$0")" || exit 1
exec llamafactory-cli train train_{stage}.yaml "$@"
"""

_PLUG_IN = '''\
"""Made by `earwitness export`: Earwitness's rewards under the names earwitness_<reward>, for ms-swift's GRPO.

What judges an answer is what judges it in an audit. Beside ms-swift:
    pip install --no-deps earwitness; pip install msgspec

earwitness_arr and earwitness_avc compare sentences: EARWITNESS_SIMILARITY says how ("words", or
"qwen3-embedding:PATH-OR-HUB-ID"; see earwitness.align.embedding).
"""

import os

from swift.rewards import orms

from earwitness.align.embedding import ARR_TASK, AVC_TASK, sentence_similarity
from earwitness.align.rewards import NAMES, for_swift

HOW = os.environ.get("EARWITNESS_SIMILARITY", "words")


def reward(name):
    """The reward, fed with the exported columns: item (JSON) and a_ref (the reference's reasoning)."""
    judged = for_swift(name, sentence_similarity(HOW, task=AVC_TASK if name == "avc" else ARR_TASK))

    class Reward(judged):
        def __call__(self, completions, a_ref=None, **columns):
            return super().__call__(completions, **{**columns, "reference": a_ref or [""] * len(completions)})

    Reward.__name__ = Reward.__qualname__ = f"earwitness_{name}"
    return Reward


for name in NAMES:
    orms[f"earwitness_{name}"] = reward(name)
'''
