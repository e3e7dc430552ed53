"""A trace on the disk: what was captured of a run's items, in Parquet parts that any tool reads.

``RUN/trace/part-*.parquet`` has **one row per item, layer and ``at``**, joined to items and answers by item id;
:data:`COLUMNS` says what stands where. ``at`` says which rows of the attention matrix were summed: "prompt", the
last row of the prompt, which predicts the first answer token and has the same place under every question;
"answer", the mean over all rows that predict answer tokens. Heads lie in lists. In DuckDB::

    SELECT layer, avg(list_avg(mass_video)) FROM 'RUN/trace/part-*.parquet' WHERE "at" = 'prompt' GROUP BY layer

Parts are written whole or not at all (by rename) and never changed. A torn one (a copy that broke off) is ignored
when read, and taken away and done again when the trace goes on. One writer per run folder.

Functions: :func:`append` a part, :func:`resume` what is done, :func:`read` all of it, :func:`about` whose it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from earwitness.run import RunError
from earwitness.whitebox.columns import map_of, maps_of
from earwitness.whitebox.moments import AT, GROUPS, About, Captured, Floats, Looked, Trace

VERSION = "1"
# Columns of a part beside those of GROUPS: name, Arrow type, what stands there. Only ever added to, at the end.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("item", "text", "Item.id"),
    ("at", "text", "rows of the attention matrix: prompt (the last one) or answer (mean over all answer rows)"),
    ("layer", "small", "0 is the first"),
    ("rows", "int", "rows in the mean"),
    ("answer", "text", "the answer that was read"),
    ("entropy", "real", "of what the layer would answer, / ln |vocabulary|"),
    ("u_top10", "real", "of its ten likeliest tokens alone, / ln 10"),
    ("kl", "real", "nats from the last layer's answer"),
    ("logp_answer", "real", "natural log-probability a token of the answer"),
    ("logp_choice", "choices", "natural log-probability of each choice's first token; at prompt only"),
    ("said", "texts", "the answer's tokens; heat maps have them, at answer, in the layers that were kept"),
    ("heat_text", "reals", "[tokens, groups] attention of each row on each group, mean over heads"),
    ("seconds_video", "reals", "times of the picture, ascending"),
    ("heat_video", "reals", "[tokens, times] attention of each row on the picture at that time"),
    ("seconds_audio", "reals", "times of the sound, ascending"),
    ("heat_audio", "reals", "[tokens, times] attention of each row on the sound at that time"),
    ("input", "texts", "the input's tokens in reading order, empty for media; long text is folded"),
    ("input_group", "texts", "group of each"),
    ("input_second", "reals", "time of each media token; nan for others"),
    ("input_tokens", "ints", "how many tokens each one is: 1, more where folded"),
    ("heat_input", "reals", "[tokens, input tokens] attention of each row on each input token"),
)
PER_GROUP: tuple[tuple[str, str, str], ...] = (
    ("tokens", "int", "tokens of the group in prompt and answer"),
    ("mass", "reals", "share of the attention, by head"),
    ("mass2", "reals", "sum of the squares of the tokens' shares, by head"),
    ("value", "reals", "norm of the group's part of the output, by head; null where not asked for"),
)


def append(folder: Path, captured: Sequence[Captured], about: About) -> Path:
    """Write one more part of a run's trace, whole or not at all; returns its path.

    Parameters
    ----------
    folder : the run's folder; parts go into its ``trace``.
    captured : any number of items of one model, at least one.

    Raises
    ------
    ValueError
        Where pyarrow is missing, nothing was captured, or arrays of an item do not fit together.
    """
    arrow, parquet = _arrow()
    if not captured:
        raise ValueError("append: no item was captured: a part of a trace holds at least one")
    for one in captured:
        _check(one, captured[0])
    fields = [arrow.field(name, _type(arrow, kind), metadata={"what": what}) for name, kind, what in _columns()]
    said = {"earwitness_trace": VERSION, "earwitness_about": msgspec.json.encode(about).decode()}
    schema = arrow.schema(fields, metadata=said)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for one in captured:
        for row in _rows_of(one):
            for name, values in columns.items():
                values.append(row.get(name))
    table = arrow.table([arrow.array(columns[f.name], f.type) for f in schema], schema=schema)
    place = folder / "trace"
    place.mkdir(parents=True, exist_ok=True)
    numbers = [int(p.stem.removeprefix("part-")) for p in _parts(folder)]
    path = place / f"part-{max(numbers, default=0) + 1:05d}.parquet"
    # Shares differ in all digits: split by bytes they pack to 60 %, and with a dictionary hardly at all.
    split = {f"{f.name}.list.element": "BYTE_STREAM_SPLIT" for f in schema if f.name.startswith(("mass", "value"))}
    part = path.with_name(path.name + ".tmp")
    parquet.write_table(
        table, part, compression="zstd", use_dictionary=["item", "at", "answer"], column_encoding=split,
        write_page_checksum=True,
    )  # fmt: skip
    part.replace(path)
    return path


class Kept(NamedTuple):
    """What a trace holds of an item: the answer that was read, the values or not, the layers with heat maps."""

    answer: str
    values: bool
    heat: frozenset[int]


def resume(folder: Path, about: About) -> dict[str, Kept]:
    """Items whose look inside is kept, and what of it; takes torn parts away.

    Raises
    ------
    RunError
        Where the trace is of another model, plan or setting: two cannot lie in one folder.
    ValueError
        Where pyarrow is missing.
    """
    done: dict[str, Kept] = {}
    for path in _parts(folder):
        table = _open(path)
        if table is None:
            path.unlink()
            continue
        _same(folder, _about(table, path), about)
        done |= _kept(table)
    for left in (folder / "trace").glob("part-*.parquet.tmp"):
        left.unlink()
    return done


def _kept(table: Any) -> dict[str, Kept]:
    items, answers = table["item"].to_pylist(), table["answer"].to_pylist()
    values = table[f"value_{GROUPS[0]}"].is_valid().to_pylist()
    heat: dict[str, set[int]] = {}
    if "heat_input" in table.column_names:  # older maps do not count: they have no single tokens
        mapped = table["heat_input"].is_valid().to_pylist()
        for item, layer, there in zip(items, table["layer"].to_pylist(), mapped, strict=True):
            if there:
                heat.setdefault(item, set()).add(layer)
    return {
        item: Kept(answer, value, frozenset(heat.get(item, ())))
        for item, answer, value in zip(items, answers, values, strict=True)
    }


def about(folder: Path) -> About | None:
    """Whose attention a run's trace holds; None where there is none."""
    for path in _parts(folder):
        table = _open(path, ["layer"])
        if table is not None:
            return _about(table, path)
    return None


def read(folder: Path, only: Collection[str] | None = None) -> Trace:
    """All parts of a run's trace as arrays; an item that was traced twice counts as it was last.

    An item's arrays take 4 bytes x layers x heads x 36 (28 x 28: 113 kB; a half more with values). ``only``: ids of
    the items wanted.

    Raises
    ------
    RunError
        Where there is no trace, or its parts are of different models.
    ValueError
        Where pyarrow is missing.
    """
    torn, kept, whose, seen = [], [], None, set()
    for path in reversed(_parts(folder)):
        table = _open(path)
        if table is None:
            torn.append(path.name)
            continue
        mine = _about(table, path)
        whose = whose or mine
        _same(folder, mine, whose)
        new = [i for i in dict.fromkeys(table["item"].to_pylist()) if i not in seen and (only is None or i in only)]
        seen.update(new)
        if new:
            kept.append((table, new))
    if whose is None or not kept:
        what = "of these items" if whose is not None else "that can be read"
        raise RunError(f"{folder} holds no trace {what}: run `earwitness trace {folder}` first")
    arrow, compute = _arrow()[0], import_module("pyarrow.compute")
    kept.reverse()
    tables = [t.filter(compute.is_in(t["item"], value_set=arrow.array(new))) for t, new in kept]
    shapes = {(len(set(t["layer"].to_pylist())), len(t["mass_sink"][0])) for t in tables}
    if len(shapes) > 1:
        raise RunError(f"{folder}: parts of the trace have different layers and heads: {sorted(shapes)}")
    names = tuple(i for _, new in kept for i in new)
    whole = arrow.concat_tables(tables, promote_options="default")  # columns came to later versions
    return _trace(whose, names, whole, shapes.pop(), tuple(sorted(torn)))


def _trace(
    whose: About, names: tuple[str, ...], table: Any, shape: tuple[int, int], torn: tuple[str, ...]
) -> Trace:
    layers, heads = shape
    place = {name: i for i, name in enumerate(names)}
    at = np.array([AT.index(a) for a in table["at"].to_pylist()])
    item = np.array([place[i] for i in table["item"].to_pylist()])
    order = np.lexsort((table["layer"].to_numpy(), item, at))
    table = table.take(order)
    half = len(names) * layers
    if len(table) != 2 * half:
        raise RunError(
            f"a trace with {len(table)} rows for {len(names)} items of {layers} layers: a part is not ours"
        )

    def lists(name: str, side: slice) -> Floats | None:
        column = table[name][side].combine_chunks()
        if column.null_count:
            return None
        flat: Floats = column.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(names), layers, heads)

    def by_group(name: str, side: slice) -> Floats | None:
        found = [lists(f"{name}_{group}", side) for group in GROUPS]
        return None if any(f is None for f in found) else np.stack([f for f in found if f is not None], -1)

    def reals(name: str, side: slice) -> Floats | None:
        column = table[name][side]
        return None if column.null_count else column.to_numpy().reshape(len(names), layers)

    def looked(side: slice) -> Looked:
        mass, mass2 = by_group("mass", side), by_group("mass2", side)
        assert mass is not None
        assert mass2 is not None
        lens = (reals(name, side) for name in ("entropy", "u_top10", "kl", "logp_answer"))
        return Looked(mass, mass2, by_group("value", side), *lens)

    prompt, answer = slice(0, half), slice(half, 2 * half)
    first = table.slice(half, half).take(np.arange(0, half, layers))
    choices = table["logp_choice"][prompt].to_pylist()
    return Trace(
        about=whose,
        items=names,
        answers=tuple(first["answer"].to_pylist()),
        rows=first["rows"].to_numpy().astype(np.int64),
        count=np.stack([first[f"tokens_{group}"].to_numpy() for group in GROUPS], -1).astype(np.int64),
        prompt=looked(prompt),
        answer=looked(answer),
        logp_choice=tuple(_by_choice(choices[n * layers : (n + 1) * layers]) for n in range(len(names))),
        heat=dict(maps_of(table)),
        torn=torn,
    )


def _by_choice(layers: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Floats]:
    found: dict[str, list[float]] = {}
    for one in layers:
        for choice in one:
            found.setdefault(choice["choice"], []).append(choice["logprob"])
    return {choice: np.array(values, dtype=np.float32) for choice, values in found.items()}


def _rows_of(one: Captured) -> Iterator[dict[str, Any]]:
    """The rows of a part that an item makes: for either kind of attention row, one a layer."""
    count = {f"tokens_{group}": int(n) for group, n in zip(GROUPS, one.count, strict=True)}
    lens = {name: getattr(one, name) for name in ("entropy", "u_top10", "kl", "logp_answer")}
    layers, _, rows, _ = one.mass.shape
    for at in AT:
        some = slice(0, 1) if at == "prompt" else slice(0, rows)
        sums = {name: getattr(one, name) for name in ("mass", "mass2", "value")}
        means = {k: None if v is None else v[:, :, some].mean(2, dtype=np.float64) for k, v in sums.items()}
        reals = {k: None if v is None else v[:, some].mean(1, dtype=np.float64) for k, v in lens.items()}
        for layer in range(layers):
            row: dict[str, Any] = {"item": one.item, "at": at, "layer": layer, "answer": one.answer, **count}
            row["rows"] = 1 if at == "prompt" else rows
            for name, mean in means.items():
                if mean is not None:
                    row |= {f"{name}_{g}": mean[layer, :, n].astype(np.float32) for n, g in enumerate(GROUPS)}
            row |= {name: float(values[layer]) for name, values in reals.items() if values is not None}
            if at == "prompt":
                row["logp_choice"] = [{"choice": c, "logprob": float(p[layer])} for c, p in one.logp_choice.items()]
            elif layer in one.kept:
                row |= map_of(one, layer)
            yield row


def _check(one: Captured, first: Captured) -> None:
    """Raise ValueError where an item's arrays do not fit together, or do not fit those of the part's first item."""
    layers, heads, rows, groups = one.mass.shape
    wrong = ""
    if (layers, heads, groups) != (*first.mass.shape[:2], len(GROUPS)):
        wrong = f"mass {one.mass.shape} beside {first.mass.shape}, and {len(GROUPS)} groups"
    elif one.mass2.shape != one.mass.shape or (one.value is not None and one.value.shape != one.mass.shape):
        wrong = "mass, mass2 and value of different shapes"
    elif len(one.tokens) != rows:
        wrong = f"{len(one.tokens)} tokens for {rows} rows"
    elif one.kept and (one.groups is None or one.seconds is None or len(one.words) != len(one.groups)):
        wrong = "kept rows without the words, groups and seconds of their tokens"
    elif not np.isfinite(one.mass).all() or np.abs(one.mass.sum(-1, dtype=np.float64) - 1).max() > 1e-3:
        wrong = "attention that does not add up to 1 (are the groups those of this item, padding apart?)"
    if wrong:
        raise ValueError(f"item {one.item}: {wrong}")


def _columns() -> list[tuple[str, str, str]]:
    return [*COLUMNS, *((f"{name}_{group}", kind, what) for name, kind, what in PER_GROUP for group in GROUPS)]


def _type(arrow: Any, kind: str) -> Any:
    return {
        "text": arrow.string(), "texts": arrow.list_(arrow.string()), "small": arrow.int16(), "int": arrow.int32(),
        "ints": arrow.list_(arrow.int32()),
        "real": arrow.float32(), "reals": arrow.list_(arrow.float32()),
        "choices": arrow.list_(arrow.struct([("choice", arrow.string()), ("logprob", arrow.float32())])),
    }[kind]  # fmt: skip


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / "trace").glob("part-[0-9]*.parquet"))


def _open(path: Path, columns: list[str] | None = None) -> Any:
    """A part as a table; None where it is torn. Errors of the disk itself are raised as they are."""
    arrow, parquet = _arrow()
    try:
        return parquet.read_table(path, columns=columns, page_checksum_verification=True)
    except arrow.ArrowInvalid:
        return None
    except OSError as error:  # what pyarrow raises where packed data are damaged
        if error.errno is not None:
            raise
        return None


def _about(table: Any, path: Path) -> About:
    said = table.schema.metadata or {}
    if said.get(b"earwitness_trace", b"").decode() != VERSION:
        raise RunError(f"{path} is no part of a trace, or one of another version of this program (wants {VERSION})")
    return msgspec.json.decode(said[b"earwitness_about"], type=About)


def _same(folder: Path, mine: About, other: About) -> None:
    for name in About.__struct_fields__:
        if getattr(mine, name) != getattr(other, name):
            raise RunError(
                f"{folder}: the trace there is of {name} {getattr(mine, name)!r}, not {getattr(other, name)!r}: "
                "take another run folder, or delete its trace folder"
            )


def _arrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise ValueError(
            "a trace is kept in Parquet, which needs pyarrow: pip install 'earwitness[export]'"
        ) from None
