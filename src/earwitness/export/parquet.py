"""A run as one Parquet table: one row per answer, flat, with a schema that does not move.

``COLUMNS`` is the schema: name, Arrow type, what stands there. Columns are only ever added at the end, and the
file's metadata names the schema's version. An answer that failed has ``text`` null and ``error`` set; one that
could not be scored has ``correct`` null. Lists that are unknown or empty are empty, never null.

Functions: ``to_parquet``; ``COLUMNS`` and ``VERSION`` describe it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from earwitness import run as runs
from earwitness.export.files import media_name, read_run
from earwitness.records import Fed, Judged

VERSION = "1"
ROWS = 10_000  # in a row group: small enough to stream, large enough to compress

# (column, Arrow type, what it says). "text" is Arrow's string; "texts" a list of them.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("model", "text", "the audited model"),
    ("revision", "text", "its revision or content hash"),
    ("plan", "text", "digest of the run's items: what makes two runs comparable"),
    ("item", "text", "id of the item; the same content has the same id in every run"),
    ("protocol", "text", "mma, thud, av_confuse, benchmark"),
    ("condition", "text", "aligned, mute, shift, ..."),
    ("question", "text", "visual, audio, mute, swap, shift, ..."),
    ("style", "text", "prompt style; styles are never to be mixed"),
    ("seed", "int", "seed of the option order"),
    ("clip", "text", "the source clip's id"),
    ("source", "text", "the recording: the cluster of the statistics"),
    ("linked", "texts", "other sources the item leans on (a swap's donor)"),
    ("group", "text", "ties counterfactual twins"),
    ("intervention", "text", "readable key, e.g. shift+2.10"),
    ("intervention_kind", "text", "what is done to the clip"),
    ("intervention_seconds", "real", "shift in seconds; > 0 = sound late"),
    ("intervention_donor", "text", "clip whose sound is put in"),
    ("intervention_stem", "text", "stem left out"),
    ("intervention_background", "text", "background sound put in"),
    ("media", "text", "file name in the run's media folder (written for the report's clips, or on request)"),
    ("prompt", "text", "the whole question, without the filler that a long context adds"),
    ("filler_words", "int", "words of that filler; null = none"),
    ("filler_position", "text", "before or after the prompt"),
    ("filler_seed", "int", "its seed: interventions.filled writes it out"),
    ("choices", "texts", "the options, in the order asked"),
    ("target", "text", "the right answer; null where nothing right can be said"),
    ("evidence", "texts", "what the question rests on: audio, video, sync, text"),
    ("absent", "text", "the right answer once that evidence is gone"),
    ("seen", "texts", "classes visible after the intervention"),
    ("heard", "texts", "classes audible after the intervention"),
    ("asked", "text", "the thing asked about"),
    ("offset", "real", "true audio-visual offset in seconds; > 0 = sound late"),
    ("task", "text", "the question file's own name of the task"),
    ("tags", "text", "what else the question file says, as a JSON object"),
    ("text", "text", "what the model said; null where the answer failed"),
    ("error", "text", "why the answer failed; null where it did not"),
    ("seconds", "real", "time the answer took"),
    ("logprob", "real", "natural-log probability of the text"),
    ("logprobs", "logprobs", "natural-log probability of each option's whole text"),
    ("label", "text", "what the answer says: an option, a task label, UNPARSED, REFUSED or ERROR"),
    ("correct", "bool", "null = unscored: failed, unparsed, refused, or nothing right to say"),
    ("stated_offset", "real", "offset the answer states, in seconds; > 0 = sound late"),
    ("recall", "real", "keyword recall in [0, 1]"),
    ("said_seen", "texts", "classes that the answer claims to see"),
    ("said_heard", "texts", "classes that the answer claims to hear"),
    ("fed_measured", "text", "where the receipt was taken: model, or sent; null = no receipt"),
    ("fed_frames", "int", "frames fed; null = no picture"),
    ("fed_height", "int", "pixels"),
    ("fed_width", "int", "pixels"),
    ("fed_audio_seconds", "real", "seconds of sound fed; null = no sound"),
    ("fed_audio_rms", "real", "its RMS; 0 = silence"),
    ("fed_video_tokens", "int", "tokens of the picture"),
    ("fed_audio_tokens", "int", "tokens of the sound"),
    ("fed_prompt_tokens", "int", "tokens of the whole prompt"),
    ("fed_video_hash", "text", "content hash of the picture fed"),
    ("fed_audio_hash", "text", "content hash of the sound fed"),
)


def to_parquet(folder: Path, out: Path) -> Path:
    """Write a scored run as one Parquet file, a row per answer in the order of the plan; returns ``out``.

    Raises
    ------
    RunError
        Where the folder holds no scored run.
    ValueError
        Where ``out`` is called otherwise than ``*.parquet``, or pyarrow is missing.
    """
    if out.suffix.lower() != ".parquet":
        raise ValueError(f"a Parquet file is called *.parquet, got {out.name!r}")
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError("Parquet needs pyarrow: pip install 'earwitness[export]'") from None
    info, judged = read_run(folder)
    types = {
        "text": arrow.string(), "texts": arrow.list_(arrow.string()), "int": arrow.int64(),
        "real": arrow.float64(), "bool": arrow.bool_(),
        "logprobs": arrow.list_(arrow.struct([("choice", arrow.string()), ("logprob", arrow.float64())])),
    }  # fmt: skip
    fields = [arrow.field(name, types[kind], metadata={"what": what}) for name, kind, what in COLUMNS]
    about = {"earwitness_schema": VERSION, "earwitness_run": msgspec.json.encode(info).decode()}
    schema = arrow.schema(fields, metadata=about)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".tmp")
    with parquet.ParquetWriter(part, schema, compression="zstd") as writer:
        for rows in _batches(_rows(info, judged)):
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
    part.replace(out)
    return out


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while some := list(itertools.islice(rows, ROWS)):
        yield some


def _rows(info: runs.Info, judged: Sequence[Judged]) -> Iterator[dict[str, Any]]:
    blank: dict[str, Any] = {name: [] if kind in ("texts", "logprobs") else None for name, kind, _ in COLUMNS}
    run = {"model": info.model, "revision": info.revision, "plan": info.plan}
    for j in judged:
        item, answer, score, iv = j.item, j.answer, j.score, j.item.intervention
        plain = {name: getattr(item, name) for name in item.__struct_fields__ if name in blank}
        fed = {f"fed_{name}": getattr(answer.fed, name) for name in Fed.__struct_fields__} if answer.fed else {}
        yield {
            **blank, **run, **plain, **fed,
            "item": item.id,
            "intervention": iv.key,
            "intervention_kind": iv.kind,
            "intervention_seconds": iv.seconds if iv.kind in ("shift", "hush") else None,
            "intervention_donor": iv.donor,
            "intervention_stem": iv.stem,
            "intervention_background": iv.background,
            "filler_words": item.filler.words if item.filler else None,
            "filler_position": item.filler.position if item.filler else None,
            "filler_seed": item.filler.seed if item.filler else None,
            "media": media_name(item.clip, iv) if item.clip else None,
            "tags": msgspec.json.encode(item.tags, order="sorted").decode(),
            "text": answer.text,
            "error": answer.error,
            "seconds": answer.seconds,
            "logprob": answer.logprob,
            "logprobs": [{"choice": c, "logprob": p} for c, p in (answer.logprobs or {}).items()],
            "label": score.label,
            "correct": score.correct,
            "stated_offset": score.offset,
            "recall": score.recall,
            "said_seen": score.said_seen,
            "said_heard": score.said_heard,
        }  # fmt: skip
