"""A training set in the forms that other trainers read: rows, the media they name, and the commands to run.

=============  ========  ==============================  ==========================================================
tool           stages    rows                            how sound and picture come together
=============  ========  ==============================  ==========================================================
ms-swift       sft,      ``sft_train.jsonl``; a row      read out of the video file, interleaved where the
               dpo,      names one video                 environment says ``USE_AUDIO_IN_VIDEO=True`` (its default
               grpo                                      is False: ``run_*.sh`` sets it)
llama-factory  sft, dpo  ``sft_train.json`` and          a ``.wav`` beside the video, interleaved where the
                         ``dataset_info.json``           settings say ``use_audio_in_video: true``
=============  ========  ==============================  ==========================================================

What a pair becomes: its item's prompt is asked on the item's clip under its intervention, ``chosen`` is the answer.
"dpo" also takes ``rejected`` (pairs without one are left out). "grpo" has no answer: each item stands there once,
with the columns ``solution`` (its target, "" where nothing right can be said), ``item`` (as JSON, for the rewards)
and ``a_ref`` (the reference's reasoning).

The formats are those that ms-swift 4.6.0 and LLaMA-Factory 0.9.5 were seen to train on. LLaMA-Factory puts
Qwen3-Omni's sound and picture together in Qwen2.5-Omni's order of chunks, which is not what Qwen3-Omni was trained
with: that is refused here.

Functions: ``to_trainer``; the media are written by ``training_media``, the commands are in ``training_commands``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from earwitness.export import training_commands as commands
from earwitness.export.files import media_name
from earwitness.export.training_media import Progress, write_clips, write_wavs
from earwitness.interventions import filled
from earwitness.records import ClipSet, Pair, View

Tool = Literal["ms-swift", "llama-factory"]
Stage = Literal["sft", "dpo", "grpo"]
Row = dict[str, Any]

STAGES: dict[str, tuple[str, ...]] = {"ms-swift": ("sft", "dpo", "grpo"), "llama-factory": ("sft", "dpo")}
MARKS = ("<video>", "<audio>", "<image>", "<bbox>", "<ref-object>")  # what these tools put media in place of


class Exported(msgspec.Struct, kw_only=True):
    """What was written; also kept as ``export_<stage>.json``."""

    tool: str
    stage: str
    rows: dict[str, int] = {}  # by split
    files: int = 0  # videos
    left_out: dict[str, str] = {}  # pair -> why
    repeated: int = 0  # grpo: pairs on an item that stands there already


def to_trainer(
    tool: Tool,
    pairs: Mapping[str, Sequence[Pair]],
    clips: ClipSet,
    out: Path,
    *,
    stage: Stage = "sft",
    view: View | None = None,
    base: str | None = None,
    relative: bool = False,
    progress: Progress | None = None,
) -> Exported:
    """Write pairs for a trainer into the folder ``out``; several stages may share it, and its media.

    Parameters
    ----------
    pairs : by split, "train" and maybe "valid"; one without pairs makes no file.
    view : frames per second and size of frames that the commands ask the trainer for.
    base : the model that the commands train: a hub id, or the folder of a full Omni checkpoint.
    relative : name media relative to ``out`` (the commands change into it first); else by full path.
    progress : gets (done, total) while media are written.

    Raises
    ------
    ValueError
        Where the tool has no such stage or cannot train the base, or no pair of "train" can be written (the first
        reason is given).
    """
    if stage not in STAGES[tool]:
        raise ValueError(f"{tool} trains {', '.join(STAGES[tool])}; for {stage} export to ms-swift")
    model = commands.model_of(tool, base)
    done = Exported(tool=tool, stage=stage)
    kept = {split: _kept(some, stage, done) for split, some in pairs.items()}
    missing = write_clips(
        clips,
        ((p.item.clip, p.item.intervention) for some in kept.values() for p in some if p.item.clip),
        out / "media",
        progress=progress,
    )
    for split, some in kept.items():
        for pair in some:
            if (why := missing.get(_file(pair))) is not None:
                done.left_out[pair.id] = why
        kept[split] = [p for p in some if p.id not in done.left_out]
    if not kept.get("train"):
        why = next(iter(done.left_out.values()), "there are none")
        raise ValueError(f"no pair can be exported to {tool} for {stage}: {why}")
    files = {_file(p) for some in kept.values() for p in some if p.item.clip}
    if tool == "llama-factory":
        write_wavs(out / "media", files)
    done.files = len(files)
    place = "media" if relative else str((out / "media").resolve())
    for split, some in kept.items():
        done.rows[split] = len(some)
        if some:
            _write_rows(tool, stage, split, [_row(tool, stage, p, place) for p in some], out)
    if tool == "llama-factory":
        _list_datasets(stage, [split for split, some in kept.items() if some], out)
    tagged = all("<a-think>" in p.item.prompt for p in kept["train"])
    commands.write(tool, stage, model, view or View(), out, valid=bool(kept.get("valid")), tagged=tagged)
    (out / f"export_{stage}.json").write_bytes(msgspec.json.format(msgspec.json.encode(done), indent=1) + b"\n")
    return done


def _kept(pairs: Sequence[Pair], stage: Stage, done: Exported) -> list[Pair]:
    """The pairs that have a row in this stage; why the others have none goes into ``done``."""
    kept: list[Pair] = []
    items: set[str] = set()
    for pair in pairs:
        marks = [mark for mark in MARKS if any(mark in text for text in _texts(pair))]
        if stage == "dpo" and pair.rejected is None:
            done.left_out[pair.id] = "it has no rejected answer: a preference needs one"
        elif marks:
            done.left_out[pair.id] = f"its text holds {marks[0]}, in whose place the tool would put media"
        elif stage == "grpo" and pair.item.id in items:
            done.repeated += 1
        else:
            items.add(pair.item.id)
            kept.append(pair)
    return kept


def _texts(pair: Pair) -> Iterator[str]:
    yield from (pair.item.prompt, pair.chosen, pair.rejected or "")


def _file(pair: Pair) -> str:
    return media_name(pair.item.clip, pair.item.intervention) if pair.item.clip else ""


def _row(tool: Tool, stage: Stage, pair: Pair, place: str) -> Row:
    """One row; a question without a clip names no media."""
    video = f"{place}/{_file(pair)}" if pair.item.clip else ""
    slot = "" if not video else "<video>" if tool == "ms-swift" else "<video><audio>"
    asked = {"role": "user", "content": slot + filled(pair.item).prompt}
    said = {"role": "assistant", "content": pair.chosen}
    row: Row
    if stage == "grpo":
        row = {
            "messages": [asked],
            "solution": pair.item.target or "",
            "item": msgspec.json.encode(pair.item).decode(),  # as text: a column's values must all be alike
            "a_ref": pair.reference,
        }
    elif stage == "sft":
        row = {"messages": [asked, said]}
    elif tool == "ms-swift":
        row = {"messages": [asked, said], "rejected_response": pair.rejected}
    else:
        row = {"messages": [asked], "chosen": said, "rejected": {"role": "assistant", "content": pair.rejected}}
    if video or tool == "llama-factory":
        row["videos"] = [video] if video else []
    if tool == "llama-factory":
        row["audios"] = [video.removesuffix(".mp4") + ".wav"] if video else []
    return row


def _write_rows(tool: Tool, stage: Stage, split: str, rows: Sequence[Row], out: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "\n".join(lines) if tool == "ms-swift" else "[" + ",\n".join(lines) + "]"
    name = f"{stage}_{split}.jsonl" if tool == "ms-swift" else f"{stage}_{split}.json"
    part = out / f".{name}.part"
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(out / name)


def _list_datasets(stage: Stage, splits: Sequence[str], out: Path) -> None:
    """``dataset_info.json``: what LLaMA-Factory needs to know of each file; other stages' entries stay."""
    file = out / "dataset_info.json"
    try:
        listed: dict[str, Any] = json.loads(file.read_bytes()) if file.exists() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{file}: {error}; it lists the exported data sets: delete it and export again") from error
    columns = {"messages": "messages", "videos": "videos", "audios": "audios"}
    if stage == "dpo":
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    for split in splits:
        listed[f"{stage}_{split}"] = {
            "file_name": f"{stage}_{split}.json",
            "formatting": "sharegpt",
            **({"ranking": True} if stage == "dpo" else {}),
            "columns": columns,
            "tags": {
                "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
            },
        }  # fmt: skip
    file.write_text(json.dumps(listed, indent=2) + "\n", encoding="utf-8")
