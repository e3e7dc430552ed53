"""Attention knockout over a run: every cut on every item, written down as it comes, and its tables.

``RUN/knockout.jsonl`` holds a line (:class:`edges.Knockout`) per item, edge and window; what it holds is not
measured again, and a torn last line is. Measured are the run's items that have choices and an answer: log p of that
answer and of each choice, as the model is, with the path cut, and with as many random other tokens hidden.

Nothing here needs torch before :func:`knockout` runs. Tables are made in ``cut_tables``.

Functions: :func:`knockout`, :func:`read`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from earwitness import run as runs
from earwitness.audit import Bank
from earwitness.models import Model
from earwitness.records import Answer, ClipSet, Item, Table
from earwitness.whitebox import opened
from earwitness.whitebox.cut_tables import tables
from earwitness.whitebox.edges import Cut, Knockout, Window, read_edge, read_windows

if TYPE_CHECKING:
    from earwitness.models.qwen_omni import QwenOmni

FILE = "knockout.jsonl"
CHUNK = 64  # items whose media are in memory at once

Progress = Callable[[int, int], None]  # items done, items to do


def knockout(
    folder: Path,
    model: Model,
    *,
    edges: Sequence[str],
    windows: str | Sequence[Window] = "all",
    controls: int = 3,
    limit: int | None = None,
    conditions: Collection[str] = (),
    factor: float = 0.0,
    heads: tuple[int, ...] = (),
    clips: ClipSet | None = None,
    progress: Progress | None = None,
) -> list[Table]:
    """Cut these paths in the run's items, add to RUN/knockout.jsonl what it lacks, and return all its tables.

    Parameters
    ----------
    edges : "audio->answer", "audio<->video", ... (``edges.read_edge``).
    windows : layers, "all", "0-3,4-7", "by 4", or (first, last) pairs.
    controls : random draws beside each cut.
    limit : clips at most, drawn by their ids: the same ones on every call.
    conditions : only items of these ("aligned", "audio_swapped"); none given: all.
    factor, heads : weigh the path instead of cutting it; only in these heads of each layer.
    clips : the run's clips; opened as the audit opened them where not given.

    Raises
    ------
    ValueError
        For an edge, a layer or a head that is none, a model that is not local, and clips that cannot be opened.
    RunError
        Where the model is another revision than the run's, the run has no such items, or someone writes to it.
    """
    edges = ["".join(edge.split()) for edge in edges]  # one name for an edge, however it was typed
    for edge in edges:
        read_edge(edge)
    if not edges:
        raise ValueError("no edge to cut: say for instance audio->answer")
    inside = opened.local(model)
    layers = int(inside.model.config.get_text_config().num_hidden_layers)
    spans = read_windows(windows, layers) if isinstance(windows, str) else list(windows)
    cuts = [Cut(edge, span, factor, tuple(heads)) for edge in edges for span in spans]
    info = runs.read_info(folder)
    opened.same_model(info, model)
    items, answers = opened.chosen(folder, limit=limit, conditions=conditions)
    bank = Bank(opened.clips_of(info) if clips is None else clips, model.view)
    with runs.AnswerLog(folder):  # one writer per run folder
        known = opened.whole(folder / FILE, Knockout, _key)
        enough = {key for key, k in known.items() if len(k.controls) >= controls or not k.control_keys}
        todo = [(i, tuple(c for c in cuts if _wanted(i, c) not in enough)) for i in items]
        with (folder / FILE).open("ab") as file:
            for done, made in _measured(inside, bank, answers, [(i, c) for i, c in todo if c], controls):
                file.write(b"".join(msgspec.json.encode(k) + b"\n" for k in made))
                file.flush()
                if progress:
                    progress(done, sum(bool(c) for _, c in todo))
    return tables(read(folder), runs.read_items(folder))


def _measured(
    model: QwenOmni,
    bank: Bank,
    answers: Mapping[str, Answer],
    todo: Sequence[tuple[Item, tuple[Cut, ...]]],
    controls: int,
) -> Iterator[tuple[int, list[Knockout]]]:
    from earwitness.whitebox.causal import measure

    done = 0
    for cuts, same in groupby(todo, key=lambda one: one[1]):
        left = (item for item, _ in same)
        while items := list(islice(left, CHUNK)):
            media = [bank.condition(i.clip, i.intervention) for i in items]
            said = [answers[i.id].text or "" for i in items]
            made = measure(model, items, media, said, cuts, controls=controls)
            done += len(items)
            yield done, [k for some in made for k in some]


_Key = tuple[str, str, Window, float, tuple[int, ...]]


def _key(k: Knockout) -> _Key:
    return (k.item, k.edge, k.layers, k.factor, k.heads)


def _wanted(item: Item, cut: Cut) -> _Key:
    return (item.id, cut.edge, cut.layers, cut.factor, cut.heads)


def read(folder: Path) -> list[Knockout]:
    """All that was measured, the last of each cut on an item; empty where nothing was."""
    return list(opened.known(folder / FILE, Knockout, _key).values())
