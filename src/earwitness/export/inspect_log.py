"""A run as an inspect_ai log: what its viewer, its data frames and its scorers read.

One sample per answer. The clip is named by path, never inlined (one 20 MB clip x 80 questions would be 1.6 GB).
A failed answer is a sample with an error and without a score; an unparsed or refused one carries inspect_ai's own
mark of "unscored" (NaN, with a reason), which its metrics leave out. Results stand by protocol, condition and
question, with intervals clustered by source clip: a mean over all conditions would mean nothing.

Written as plain JSON by the format's version 2 (inspect_ai 0.3.x), so that inspect_ai itself is not needed.

Function: ``to_inspect``.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from earwitness import run as runs
from earwitness import stats
from earwitness.export.files import media_name, read_run
from earwitness.interventions import filled
from earwitness.records import REFUSED, UNPARSED, Judged, digest

SCORER = "earwitness"
_REASONS = {UNPARSED: "invalid_response_format", REFUSED: "refusal"}  # inspect_ai's own words for them


def to_inspect(folder: Path, out: Path) -> Path:
    """Write a scored run as an inspect_ai log, ``.eval`` (zipped, a file per sample) or ``.json``; returns ``out``.

    Raises
    ------
    RunError
        Where the folder holds no scored run.
    ValueError
        Where ``out`` ends in neither ``.eval`` nor ``.json``.
    """
    if out.suffix not in (".eval", ".json"):
        raise ValueError(f"an inspect_ai log is called *.eval or *.json, got {out.name!r}")
    info, judged = read_run(folder)
    samples = (_sample(info, folder, j) for j in judged)
    head = _head(info, folder, judged)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".tmp")
    if out.suffix == ".json":
        part.write_text(_json({**head, "samples": list(samples)}))
    else:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("_journal/start.json", _json({k: head[k] for k in ("version", "eval", "plan")}))
            summaries = []
            for sample in samples:
                archive.writestr(f"samples/{sample['id']}_epoch_1.json", _json(sample))
                summaries.append(_summary(sample))
            archive.writestr("summaries.json", _json(summaries))
            archive.writestr("header.json", _json(head))
    part.replace(out)
    return out


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)  # NaN stays NaN: inspect_ai's mark of "unscored"


def _head(info: runs.Info, folder: Path, judged: Sequence[Judged]) -> dict[str, Any]:
    task = "earwitness_" + "_".join(info.protocols)
    own = digest(info.model, info.revision, info.plan)
    planned = info.item_count or len(judged)
    done = sum(j.answer.error is None for j in judged)
    finished = info.finished or info.created
    return {
        "version": 2,
        "status": "success" if len(judged) >= planned else "cancelled",  # an audit that was stopped midway
        "eval": {
            "eval_id": own,
            "run_id": own,
            "created": info.created,
            "task": task,
            "task_id": digest(task, info.plan),
            "task_version": 0,
            "task_args": info.settings,
            "dataset": {
                "name": info.clips or task,
                "samples": planned,
                "sample_ids": [j.item.id for j in judged],
                "shuffled": False,
            },
            "model": info.model,
            "model_args": {"revision": info.revision, "decoding": info.decoding, "view": info.view},
            "config": {"epochs": 1},
            "packages": info.versions,
            "metadata": {"command": info.command, "git": info.git, "plan": info.plan, "ear_and_eye": info.checks},
            "scorers": [{"name": SCORER, "options": {}, "metrics": [], "metadata": {}}],
        },
        "plan": {"name": "plan", "steps": [{"solver": "earwitness", "params": {}}], "config": {}},
        "results": {
            "total_samples": planned,
            "completed_samples": done,
            "scores": list(_results(judged)),
        },
        "stats": {"started_at": info.created, "completed_at": finished, "model_usage": {}},
    }


def _results(judged: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    cells: dict[tuple[str, str, str, str], list[Judged]] = {}
    for j in judged:
        i = j.item
        cells.setdefault((i.protocol, i.condition, i.question, i.style), []).append(j)
    for key, some in sorted(cells.items()):
        scored = [j for j in some if j.answer.error is None]
        right = [j.score.correct for j in scored]
        clusters = stats.merge_clusters([j.item.source for j in scored], [j.item.linked for j in scored])
        share = stats.proportion(right, clusters)
        metrics = {} if share is None else {"accuracy": share.value, "low": share.low, "high": share.high}
        yield {
            "name": "/".join(key),
            "scorer": SCORER,
            "params": {},
            "scored_samples": sum(c is not None for c in right),
            "unscored_samples": sum(c is None for c in right),
            "metrics": {n: {"name": n, "value": v, "params": {}} for n, v in metrics.items()},
            "metadata": {
                "labels": dict(Counter(j.score.label for j in some)),
                "failed": len(some) - len(scored),
                "clusters": len(set(clusters)),
                "interval": None if share is None else share.method,
            },
        }


def _sample(info: runs.Info, folder: Path, j: Judged) -> dict[str, Any]:
    item, answer = j.item, j.answer
    content: list[dict[str, str]] = []
    if item.clip:
        file = (folder / "media" / media_name(item.clip, item.intervention)).resolve()
        content.append({"type": "video", "video": file.as_posix(), "format": "mp4"})
    content.append({"type": "text", "text": filled(item).prompt})
    asked = {"role": "user", "content": content}
    said = {"role": "assistant", "content": answer.text or "", "source": "generate", "model": info.model}
    sample: dict[str, Any] = {
        "id": item.id,
        "epoch": 1,
        "input": [asked],
        "choices": list(item.choices) or None,
        "target": item.target or "",
        "messages": [asked] if answer.error else [asked, said],
        "output": {
            "model": info.model,
            "choices": [] if answer.error else [{"message": said, "stop_reason": "stop"}],
            "completion": answer.text or "",
            "time": answer.seconds,
        },
        "scores": {} if answer.error else {SCORER: _score(j)},
        "metadata": _metadata(j),
        "store": {},
        "events": [],
        "model_usage": {},
        "total_time": answer.seconds,
        "attachments": {},
    }
    if answer.error:
        sample["error"] = {"message": answer.error, "traceback": "", "traceback_ansi": ""}
    return sample


def _score(j: Judged) -> dict[str, Any]:
    score = j.score
    out: dict[str, Any] = {
        "value": float("nan") if score.correct is None else "C" if score.correct else "I",
        "answer": score.label,
        "metadata": {
            "stated_offset": score.offset,
            "recall": score.recall,
            "said_seen": list(score.said_seen),
            "said_heard": list(score.said_heard),
        },
        "history": [],
    }
    if score.correct is None:
        out["reason"] = _REASONS.get(score.label, "no_right_answer")
    return out


def _metadata(j: Judged) -> dict[str, Any]:
    item, fed = j.item, j.answer.fed
    kept = (
        "protocol", "condition", "question", "style", "seed", "clip", "source", "group", "seen", "heard", "asked",
        "offset", "evidence", "absent", "task", "tags",
    )  # fmt: skip
    out = {name: msgspec.to_builtins(getattr(item, name)) for name in kept}
    out["intervention"] = item.intervention.key
    out["fed"] = None if fed is None else msgspec.to_builtins(fed)
    return out


def _summary(sample: dict[str, Any]) -> dict[str, Any]:
    """What the viewer lists without opening the sample."""
    text = sample["input"][0]["content"][-1]["text"]
    short = [{"role": "user", "content": [{"type": "text", "text": "(Video)"}, {"type": "text", "text": text}]}]
    out = {k: sample[k] for k in ("id", "epoch", "choices", "target", "metadata", "scores", "model_usage")}
    out |= {"input": short, "completed": True, "message_count": len(sample["messages"])}
    if "error" in sample:
        out["error"] = sample["error"]["message"]
    return out
