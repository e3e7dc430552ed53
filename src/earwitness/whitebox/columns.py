"""Input tokens as the columns of a heat map: one each, but for long text, which is folded into one.

A question is read token by token, and so is a system turn; the 10,000 words of a long context are not: nobody can
read them, and a number for each of them and each answer token is most of a trace. So text is folded where

- 60 or more tokens in a row are plain lower-case words, no mark and no capital among them: filler;
- more than 200 tokens in a row are of one group: their middle, from the 41st to the 121st from behind.

A folded column has the sum of its tokens, and says how many they are. Video and audio are never folded here.

Functions: :func:`columns`; :func:`map_of` a captured item for the store, :func:`maps_of` what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earwitness.whitebox.moments import GROUPS, MEDIA, Captured, Heat

FILLER = 60  # tokens: no sentence of a question goes on so long without a mark
LONG, HEAD, TAIL = 200, 40, 120  # tokens of one group; what of more than LONG is still shown one by one
BEGIN = 24  # characters that a folded column shows of its text
_PLAIN = re.compile(r"[a-z ]+")


def columns(words: Sequence[str], groups: NDArray[np.int8]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """What each column says, and the column of each token [T], from words and groups [T] of the tokens."""
    starts = np.ones(len(groups), bool)
    for first, end in _folds(words, groups):
        starts[first + 1 : end] = False
    of = np.cumsum(starts) - 1
    begins = np.flatnonzero(starts).tolist()
    out = []
    for first, end in zip(begins, [*begins[1:], len(groups)], strict=True):
        text = "".join(words[first:end])
        out.append(f"{text[:BEGIN].strip()} …" if end - first > 1 and len(text) > BEGIN else text)
    return tuple(out), of


def _folds(words: Sequence[str], groups: NDArray[np.int8]) -> Iterator[tuple[int, int]]:
    media = {GROUPS.index(name) for name in MEDIA}
    edges = np.flatnonzero(np.diff(groups)) + 1
    for first, end in zip([0, *edges.tolist()], [*edges.tolist(), len(groups)], strict=True):
        if int(groups[first]) in media:
            continue
        at = first
        for a, b in [*_fillers(words, first, end), (end, end)]:
            if a - at > LONG:
                yield at + HEAD, a - TAIL
            if a < b:
                yield a, b
            at = b


def _fillers(words: Sequence[str], first: int, end: int) -> Iterator[tuple[int, int]]:
    begun = first
    for n in range(first, end + 1):
        if n == end or not _PLAIN.fullmatch(words[n]):
            if n - begun >= FILLER:
                yield begun, n
            begun = n + 1


def map_of(one: Captured, layer: int) -> dict[str, Any]:
    """A kept layer's rows, by input token, and summed: media by second, all else by group."""
    assert one.groups is not None
    assert one.seconds is not None
    kept = one.kept[layer].astype(np.float64)
    out: dict[str, Any] = {"said": list(one.tokens)}
    text = np.stack([kept[:, one.groups == n].sum(1) for n in range(len(GROUPS))], -1)
    for name in MEDIA:
        mine = one.groups == GROUPS.index(name)
        times, which = np.unique(one.seconds[mine], return_inverse=True)
        heat = np.zeros((len(kept), len(times)))
        np.add.at(heat.T, which, kept[:, mine].T)
        out[f"seconds_{name}"], out[f"heat_{name}"] = times, heat.ravel().astype(np.float32)
    out["heat_text"] = text.ravel().astype(np.float32)
    words, of = columns(one.words, one.groups)
    first = np.unique(of, return_index=True)[1]
    heat = np.zeros((len(kept), len(words)))
    np.add.at(heat.T, of, kept.T)
    out |= {"input": list(words), "input_group": [GROUPS[n] for n in one.groups[first]]}
    out |= {"input_second": one.seconds[first], "input_tokens": np.bincount(of).astype(np.int32)}
    out["heat_input"] = heat.ravel().astype(np.float32)
    return out


def maps_of(table: Any) -> Iterator[tuple[tuple[str, int], Heat]]:
    """The heat maps of a trace's rows, by item and layer."""
    compute = import_module("pyarrow.compute")
    for row in table.filter(compute.is_valid(table["said"])).to_pylist():
        said = tuple(row["said"])
        if row.get("heat_input") is not None:
            yield (
                (row["item"], row["layer"]),
                Heat(
                    said,
                    tuple(row["input"]),
                    np.array([GROUPS.index(g) for g in row["input_group"]], dtype=np.int8),
                    np.array(row["input_second"], dtype=np.float32),
                    np.array(row["input_tokens"], dtype=np.int64),
                    np.array(row["heat_input"], dtype=np.float32).reshape(len(said), -1),
                ),
            )
        else:
            yield (row["item"], row["layer"]), _folded_heat(row, said)


def _folded_heat(row: Mapping[str, Any], said: tuple[str, ...]) -> Heat:
    """A heat map of before single input tokens were kept: a column for each group of text, and for each second."""
    part = {n: np.array(row[f"heat_{n}"], dtype=np.float32).reshape(len(said), -1) for n in ("text", *MEDIA)}
    used = [n for n, name in enumerate(GROUPS) if row[f"tokens_{name}"] and name not in MEDIA]
    times = [row[f"seconds_{name}"] for name in MEDIA]
    groups = [*used, *(GROUPS.index(name) for name, some in zip(MEDIA, times, strict=True) for _ in some)]
    return Heat(
        said,
        (*(GROUPS[n] for n in used), *[""] * sum(map(len, times))),
        np.array(groups, dtype=np.int8),
        np.array([*[np.nan] * len(used), *times[0], *times[1]], dtype=np.float32),
        np.array([*(row[f"tokens_{GROUPS[n]}"] for n in used), *[1] * sum(map(len, times))], dtype=np.int64),
        np.concatenate([part["text"][:, used], *(part[name] for name in MEDIA)], 1),
    )
