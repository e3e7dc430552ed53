"""The logs of lmms-eval and inspect_ai.

lmms-eval's ``*_samples_<task>.jsonl`` (``--log_samples``) has per line ``target``, ``input`` (the prompt) and
``filtered_resps`` (and ``resps``, where a filter changed them: the raw text is what is judged here). Some of its
tasks log no truth (WorldSense's target is the name of a function, as text): then the truth is taken from the task's
own record of the sample, or the questions must be given. A log of our own exported task names the run's items.

inspect_ai's ``.eval`` is a zip with a file per sample, compressed with zstandard since 2026; its ``.json`` is one
object. A sample with an error is a failure; its scores are kept as what the file says.

Functions: ``is_lmms_eval``, ``lmms_eval``, ``is_inspect``, ``inspect_ai``.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from earwitness.questions import clean
from earwitness.records import Item, Question
from earwitness.rescore import plain
from earwitness.rescore.rows import Reply, Row

ZSTANDARD = 93  # the zip format's number for it, which Python's zipfile reads from 3.14 on
LARGEST = 1 << 30  # bytes that one file of a log may have, unpacked
_METRICS_ONLY = ("doc_id", "target", "input", "filtered_resps", "resps", "doc_hash", "token_counts", "input_media")


def is_lmms_eval(row: Row) -> bool:
    """Whether a row is a sample that lmms-eval logged."""
    return "doc_id" in row and ("filtered_resps" in row or "resps" in row)


def lmms_eval(
    rows: Sequence[tuple[str, Row]], model: str, keys: Mapping[str, str] | None = None,
    questions: Mapping[str, Question] | None = None, items: Mapping[str, Item] | None = None,
) -> list[Reply]:  # fmt: skip
    """Samples as replies; ``items`` are those of the run that the task was exported from.

    Raises ValueError for a sample without a text, and for a task that logs no truth.
    """
    flat = [(where, _flat(where, row)) for where, row in rows]
    if items is not None:
        return [_to_item(where, row, model, items) for where, row in flat]
    for where, row in flat:
        if questions is None and "truth" not in (keys or {}) and _no_truth(row.get("target")):
            raise ValueError(
                f"{where}: this task's log holds no truth (its target is {row.get('target')!r}): give the "
                f"questions, or name the key that has it: truth=KEY"
            )
    known = {"prediction": "prediction", "truth": "target", "question": "input", **(keys or {})}
    if "input" not in flat[0][1]:
        known.pop("question")
    if questions is not None:
        known.pop("truth")
    return plain.replies(flat, model, known, questions)


def _flat(where: str, row: Row) -> Row:
    """A sample as one row: the doc and the task's own record spread out, and the text that was answered."""
    out: Row = {}
    records = [v for k, v in row.items() if isinstance(v, dict) and k not in _METRICS_ONLY]
    for record in [row.get("doc"), *records]:
        if isinstance(record, dict):
            out |= {k: v for k, v in record.items() if k not in ("score", "value")}
    doc_media = row.get("input_media")
    if isinstance(doc_media, list) and doc_media:
        out.setdefault("video", doc_media[0])
    said = row["resps"] if "resps" in row else row["filtered_resps"]
    while isinstance(said, list) and len(said) == 1:
        said = said[0]
    if isinstance(said, list) and said and all(isinstance(s, str) for s in said):
        raise ValueError(f"{where}: {len(said)} answers to one question (repeats): keep one of them")
    if isinstance(said, list) and said:
        raise ValueError(f"{where}: a task judged by likelihoods logs no text that could be scored again")
    target = row.get("target")
    if _no_truth(target):
        target = next((out[k] for k in ("answer", "gt_answer", "gt", "ground_truth") if out.get(k)), target)
    question_id = out.get("question_id", out.get("id", out.get("index", row["doc_id"])))
    # What the task's own parser made of the text must not be taken for the text.
    for key in ("pred", "pred_answer", "parsed_pred", "answer", "prediction", "gt", "gt_answer", "ground_truth"):
        out.pop(key, None)
    scores = [v for k, v in row.items() if k not in _METRICS_ONLY and isinstance(v, (int, float, bool))]
    scores += [r["score"] for r in records if isinstance(r.get("score"), (int, float, bool))]
    if len(scores) == 1 and scores[0] in (0, 1):
        out["correct"] = bool(scores[0])
    out |= {"id": question_id, "prediction": said, "target": target}
    if isinstance(row.get("input"), str):
        out["input"] = row["input"]
    return out


def _no_truth(target: object) -> bool:
    text = str(target or "").strip()
    return not text or text.startswith("utils.")


def _to_item(where: str, row: Row, model: str, items: Mapping[str, Item]) -> Reply:
    item = items.get(str(row.get("item", "")))
    if item is None:
        raise ValueError(
            f"{where}: item {row.get('item')!r} is not of that run (was the task exported from another?)"
        )
    return plain.reply(item, row["prediction"], model, where)


def is_inspect(path: Path) -> bool:
    """Whether the file is an inspect_ai log: by its ending, or a JSON object with ``eval`` and ``version``."""
    if path.suffix == ".eval":
        return True
    if path.suffix != ".json":
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.read(4000)
    return head.lstrip().startswith("{") and '"version"' in head and '"eval"' in head


def inspect_ai(path: Path, model: str = "", items: Mapping[str, Item] | None = None) -> tuple[str, list[Reply]]:
    """(model, replies) of an inspect_ai log.

    Raises ValueError for a broken log, one without samples, and one whose zstandard cannot be read here.
    """
    head, samples = _read_zip(path) if path.suffix == ".eval" else _read_json(path)
    model = model or str(head.get("eval", {}).get("model", "")) or path.stem
    if not samples:
        raise ValueError(f"{path} holds no samples (was it stopped, or written with --no-log-samples?)")
    rows = [(f"{path.name}, sample {s.get('id')}", s) for s in samples]
    if items is not None:
        made = [_known(where, s, model, items) for where, s in rows]
    else:
        flat = [(where, _sample(s, str(head.get("eval", {}).get("task", "")))) for where, s in rows]
        made = plain.replies(flat, model, {"prediction": "prediction", "truth": "target", "question": "input"})
    out = []
    for reply, (where, s) in zip(made, rows, strict=True):
        error = (s.get("error") or {}).get("message")
        limit = (s.get("limit") or {}).get("type")
        why = error or (f"stopped at the {limit} limit" if limit and not reply.raw.strip() else None)
        seconds = float(s.get("total_time") or 0.0)
        out.append(
            plain.reply(reply.item, reply.raw, model, where, published=_right(s), error=why, seconds=seconds)
        )
    return model, out


def _known(where: str, sample: Row, model: str, items: Mapping[str, Item]) -> Reply:
    item = items.get(str(sample.get("id")))
    if item is None:
        raise ValueError(f"{where} is not an item of that run")
    return plain.reply(item, _completion(sample), model, where)


def _sample(sample: Row, task: str) -> Row:
    text, clip = _asked(sample.get("input"))
    meta = sample.get("metadata") or {}
    row: Row = {
        k: v for k, v in meta.items() if isinstance(v, (str, int)) and k not in ("input", "prediction", "target")
    }
    for key in ("clip", "video_id", "video"):
        clip = str(meta.get(key) or clip) if isinstance(meta.get(key), str) else clip
    name = str(sample.get("id")) + (f":{sample['epoch']}" if sample.get("epoch", 1) != 1 else "")
    choices = sample.get("choices") or None
    target = sample.get("target")
    row |= {"id": name, "input": text, "target": target, "prediction": _completion(sample), "clip": clip or name}
    if choices:
        row["choices"] = choices
    row.setdefault("task", task)
    return row


def _asked(given: object) -> tuple[str, str]:
    """(text, first media file) of a sample's input: a text, or chat messages with parts."""
    if isinstance(given, str):
        return given, ""
    texts, clip = [], ""
    for message in given if isinstance(given, list) else []:
        parts = message.get("content", "")
        for part in [{"type": "text", "text": parts}] if isinstance(parts, str) else parts:
            if part.get("type") == "text":
                texts.append(str(part.get("text", "")))
            elif part.get("type") in ("video", "audio") and not clip:
                clip = str(part.get(part["type"], ""))
    return "\n".join(texts), "" if clip.startswith("data:") else clip


def _completion(sample: Row) -> str:
    output = sample.get("output") or {}
    if output.get("completion"):
        return str(output["completion"])
    choices = output.get("choices") or []
    content = choices[0].get("message", {}).get("content", "") if choices else ""
    if isinstance(content, list):
        return "".join(p.get("text", "") for p in content if p.get("type") == "text")
    return str(content)


def _right(sample: Row) -> bool | None:
    """What the log's only scorer says; None where there are several, or it says neither right nor wrong."""
    scores = list((sample.get("scores") or {}).values())
    if len(scores) != 1 or sample.get("error"):
        return None
    value = scores[0].get("value")
    text = clean(str(value))
    return True if text in ("c", "1", "1.0", "true") else False if text in ("i", "0", "0.0", "false") else None


def _read_json(path: Path) -> tuple[dict[str, Any], list[Row]]:
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no inspect_ai log: {error}") from None
    if not isinstance(whole, dict) or "eval" not in whole:
        raise ValueError(f"{path} is no inspect_ai log: it has no 'eval'")
    return whole, list(whole.get("samples") or [])


def _read_zip(path: Path) -> tuple[dict[str, Any], list[Row]]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {info.filename: info for info in archive.infolist()}
            start = "header.json" if "header.json" in names else "_journal/start.json"
            if start not in names:
                raise ValueError(
                    f"{path} is no inspect_ai log: neither header.json nor _journal/start.json is in it"
                )
            head = json.loads(_member(path, archive, names[start]))
            inside = [info for name, info in names.items() if name.startswith("samples/")]
            return head, [json.loads(_member(path, archive, info)) for info in inside]
    except (OSError, zipfile.BadZipFile, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no whole inspect_ai log: {error}") from None


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    if info.file_size > LARGEST:
        raise ValueError(f"{path}: {info.filename} says it is {info.file_size:,} bytes; a sample has far fewer")
    if info.compress_type != ZSTANDARD:
        return archive.read(info)
    try:
        arrow = import_module("pyarrow")
    except ImportError:
        raise ValueError(
            f"{path} is compressed with zstandard: pip install 'earwitness[export]', or make it JSON first: "
            f"inspect log dump {path.name} > log.json"
        ) from None
    # The local header repeats the name; its own lengths say where the data begin (zip format, section 4.3.7).
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        lengths = file.read(4)
        file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
        packed = file.read(info.compress_size)
    with arrow.CompressedInputStream(arrow.BufferReader(packed), "zstd") as stream:
        return bytes(stream.read(info.file_size))
