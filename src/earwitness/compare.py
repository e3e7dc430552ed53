"""Two runs on the same items: what is different, by how much, and is it more than chance?

Before and after training, or model A and model B. Items are paired by ``Item.id``, which follows from everything in
the item (clip, intervention, prompt, options), so a pair is the same question in the same words about the same
media; prompt styles cannot be mixed in a row. Rows are protocol, condition, question and style; differences are
paired and clustered by source clip (:mod:`earwitness.stats`), p values adjusted over the rows of a table (Holm).

The tables of each protocol: the shares of A and B with their difference, B - A; and the difference in differences,
the change of (intervened - original): training that only makes a model better at everything moves the first, not
the second. Above 0: the intervention costs B less than A. Of a sound moved in the dark nothing right can be said,
so it is in neither of them: directions and alarms with the picture black have a table of their own, where only what
the first exceed the second by is better or worse (low is better, :func:`.thud_controls.beyond_alarms`).

Two runs that were looked into are compared inside, too: their traces (:func:`whitebox.tables.changes`) and the
paths that were cut in both (:func:`whitebox.cut_tables.changes`). Charts of that: :mod:`earwitness.report.changed`.

Functions: :func:`compare` over judged items, :func:`compare_runs` over run folders, :func:`names_of` what two runs
are called.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from earwitness import run, scorecard, stats
from earwitness.records import Cell, Estimate, Item, Judged, Row, Table
from earwitness.whitebox import cut_tables, joined, knockout
from earwitness.whitebox import tables as insides

# Names of the untouched condition in the three protocols: the twin that an intervened item is held against.
UNTOUCHED = ("original", "aligned", "found", "full")
Key = tuple[str, str, str, str]  # protocol, condition, question, style
SHORT = 24  # characters of a name that are not cut: it stands over columns


@dataclass(frozen=True)
class Pair:
    """One item with what each run made of it; a value is None where it could not be scored."""

    item: Item
    a: float | None
    b: float | None


def compare(
    run_a: Sequence[Judged], run_b: Sequence[Judged], names: tuple[str, str] = ("A", "B"), note: str = ""
) -> list[Table]:
    """Tables of the differences B - A on the items that both runs have.

    A right answer counts 1, a wrong one 0; open questions without a right answer count their keyword recall.

    Parameters
    ----------
    run_a, run_b
        Judged items of the two runs.
    names
        What the runs are called in titles and captions.
    note
        Added to the first table's caption.

    Raises
    ------
    ValueError
        Where the runs share no item (with the reason: other clips, other prompt styles, other protocols or seeds),
        a run has an item twice, or one id stands for two different items.
    """
    of_a, of_b = _by_id("A", run_a), _by_id("B", run_b)
    shared = [i for i in of_a if i in of_b]
    if not shared:
        raise ValueError(_nothing_shared(run_a, run_b, names))
    changed = [i for i in shared if of_a[i].item != of_b[i].item]
    if changed:
        raise ValueError(
            f"compare: item {changed[0]} is not the same in {names[0]} and {names[1]}, and neither are "
            f"{len(changed) - 1} others (was an items.jsonl edited by hand?)"
        )
    pairs = [Pair(of_a[i].item, _value(of_a[i]), _value(of_b[i])) for i in shared]
    tables = [_items_table(run_a, run_b, of_a, of_b, shared, names, note)]
    for protocol in dict.fromkeys(p.item.protocol for p in pairs):
        mine = [p for p in pairs if p.item.protocol == protocol]
        made = [_differences(protocol, mine, names), _changes(protocol, mine, names)]
        if protocol == "thud":
            made.append(_dark([of_a[i] for i in shared], [of_b[i] for i in shared], names))
        tables += [t for t in made if t.rows]
    return tables


def compare_runs(folder_a: Path, folder_b: Path) -> list[Table]:
    """:func:`compare` over two run folders (scored runs: ``earwitness score`` makes scores.jsonl again).

    What the runs differ in besides the model (sampling of the clips, decoding, an unfinished run) is said in the
    first caption, and there models have their whole names. Two traced runs are compared inside, too (or it is said
    why they cannot be), and paths that were cut in both stand side by side.

    Raises RunError where a folder is not a scored run, ValueError as :func:`compare` does.
    """
    infos = (run.read_info(folder_a), run.read_info(folder_b))
    names = names_of(folder_a, folder_b)
    notes = [
        f"{name} is {info.model}, revision {info.revision or 'unknown'}."
        for name, info in zip(names, infos, strict=True)
        if not name.startswith(info.model)
    ]
    notes += [
        f"{what} differs: {one!r} and {two!r}."
        for what, one, two in (
            ("How clips are sampled", infos[0].view, infos[1].view),
            ("Decoding", infos[0].decoding, infos[1].decoding),
        )
        if one != two
    ]
    notes += [f"The run of {n} is not finished." for n, i in zip(names, infos, strict=True) if i.finished is None]
    inside: list[Table] = []
    if all((folder / "trace").is_dir() for folder in (folder_a, folder_b)):
        sides = (joined.load(folder_a), joined.load(folder_b))
        why = joined.unlike(*sides)
        if why:
            notes.append(f"Their traces are not compared: {why}.")
        else:
            inside = insides.changes(*sides, names)
    tables = compare(run.judged(folder_a), run.judged(folder_b), names, " ".join(notes)) + inside
    cuts = (knockout.read(folder_a), knockout.read(folder_b))
    if all(cuts):
        shared = {i.id for i in run.read_items(folder_b)}
        tables += cut_tables.changes(cuts, [i for i in run.read_items(folder_a) if i.id in shared], names)
    return tables


def names_of(folder_a: Path, folder_b: Path) -> tuple[str, str]:
    """What two runs are called in tables: their models, long names by the shortest end that tells them apart.

    Runs of one model are told apart by their folders. Raises RunError where a folder holds no run.
    """
    # What `align` leaves is called OUT/model: the folder above it tells.
    one, two = (run.read_info(f).model.removesuffix("/model") for f in (folder_a, folder_b))
    if one == two:
        name = _tails(one, "")[0]
        a, b = _tails(str(folder_a.resolve()), str(folder_b.resolve()), short=0)
        return f"{name} ({a})", f"{name} ({b})"
    return _tails(one, two)


def _tails(one: str, two: str, short: int = SHORT) -> tuple[str, str]:
    """Both names, those longer than ``short`` cut to the fewest parts at their end in which they differ."""
    parts = [re.split(r"(?<=[:/#])(?=[^:/#])", name.rstrip("/")) for name in (one, two)]
    count = 1
    while count < max(map(len, parts)) and "".join(parts[0][-count:]) == "".join(parts[1][-count:]):
        count += 1
    cut = ["".join(p[-count:]) for p in parts]
    return tuple(  # type: ignore[return-value]
        name if len(name) <= short else end for name, end in zip((one, two), cut, strict=True)
    )


def _by_id(who: str, judged: Sequence[Judged]) -> dict[str, Judged]:
    out = {j.item.id: j for j in judged}
    if len(out) != len(judged):
        twice = next(i for i, n in Counter(j.item.id for j in judged).items() if n > 1)
        raise ValueError(f"compare: run {who} has item {twice} more than once (two runs put together?)")
    return out


def _nothing_shared(run_a: Sequence[Judged], run_b: Sequence[Judged], names: tuple[str, str]) -> str:
    """Why two runs have no item in common, in words."""
    start = f"compare: {names[0]} ({len(run_a)} items) and {names[1]} ({len(run_b)} items) share no item: "
    if not run_a or not run_b:
        return start + "one of them has no answers (is that run finished?)"

    def sets(field: str) -> tuple[set[object], set[object]]:
        return {getattr(j.item, field) for j in run_a}, {getattr(j.item, field) for j in run_b}

    for field, said in (("clip", "the clips differ"), ("protocol", "the protocols differ")):
        one, two = sets(field)
        if not one & two:
            return start + (
                f"{said} (for example {min(map(str, one))} and {min(map(str, two))}); give both audits the same "
                "--clips and --protocol"
            )
    one, two = sets("style")
    if not one & two:
        first, second = (", ".join(sorted(map(str, styles))) for styles in (one, two))
        return start + f"the prompt styles differ ({first} and {second}); a comparison never mixes prompt styles"
    return start + "prompts, options or interventions differ (another seed, or other settings?)"


def _value(judged: Judged) -> float | None:
    if judged.score.correct is not None:
        return float(judged.score.correct)
    return judged.score.recall if judged.item.target is None else None


def _rows(pairs: Sequence[Pair]) -> dict[Key, list[Pair]]:
    """Pairs by row, in the order of the plan; rows in which nothing could be right are left out."""
    out: dict[Key, list[Pair]] = {}
    for pair in pairs:
        item = pair.item
        out.setdefault((item.protocol, item.condition, item.question, item.style), []).append(pair)
    return {
        key: row
        for key, row in out.items()
        if any(p.item.target is not None or p.a is not None or p.b is not None for p in row)
    }


def _label(key: Key) -> str:
    _, condition, question, style = key
    return f"{condition}, {question}, {style}"


def _clusters(items: Sequence[Item]) -> list[str]:
    return stats.merge_clusters([i.source for i in items], [i.linked for i in items])


def _with_holm(rows: list[tuple[str, list[Cell], Estimate | None, list[Cell]]]) -> tuple[Row, ...]:
    """Rows of (label, cells before, tested estimate, cells after) with the adjusted p after the estimate."""
    adjusted = stats.holm([None if tested is None else tested.p for _, _, tested, _ in rows])
    return tuple(
        Row(label, (*before, tested, p, *after))
        for (label, before, tested, after), p in zip(rows, adjusted, strict=True)
    )


def _differences(protocol: str, pairs: Sequence[Pair], names: tuple[str, str]) -> Table:
    rows: list[tuple[str, list[Cell], Estimate | None, list[Cell]]] = []
    for key, row in _rows(pairs).items():
        clusters = _clusters([p.item for p in row])
        a, b = [p.a for p in row], [p.b for p in row]
        before: list[Cell] = [len(row), stats.proportion(a, clusters), stats.proportion(b, clusters)]
        after: list[Cell] = [sum(v is None for v in a), sum(v is None for v in b)]
        rows.append((_label(key), before, stats.difference(b, a, clusters), after))
    return Table(
        id=f"compare-{protocol}",
        title=f"{protocol}: {names[1]} against {names[0]}",
        caption=(
            f"A = {names[0]}, B = {names[1]}. The same items in both; B - A is taken over the items that both "
            "could be scored on, paired and clustered by source clip, with t(G-1) intervals. p is adjusted over "
            "the rows (Holm), and not given below 10 clips."
        ),
        columns=("items", "A", "B", "B - A", "p (Holm)", "unscored A", "unscored B"),
        rows=_with_holm(rows),
        unit="mixed",
    )


def _changes(protocol: str, pairs: Sequence[Pair], names: tuple[str, str]) -> Table:
    """Difference in differences: an intervened item against the untouched twin of its group, in both runs."""
    untouched: dict[tuple[str, str, str, int], Pair] = {}
    for pair in pairs:
        if pair.item.condition in UNTOUCHED:
            untouched.setdefault(_twin(pair.item), pair)
    rows: list[tuple[str, list[Cell], Estimate | None, list[Cell]]] = []
    for key, row in _rows(pairs).items():
        both = [(p, untouched[_twin(p.item)]) for p in row if _twin(p.item) in untouched]
        if key[1] in UNTOUCHED or not both:
            continue
        clusters = _clusters([p.item for p, _ in both])
        a, b = [p.a for p, _ in both], [p.b for p, _ in both]
        plain_a, plain_b = [q.a for _, q in both], [q.b for _, q in both]
        before: list[Cell] = [
            len(both), stats.difference(a, plain_a, clusters), stats.difference(b, plain_b, clusters),
        ]  # fmt: skip
        change = stats.diff_in_diff(a, plain_a, b, plain_b, clusters)
        if before[1] is None and before[2] is None:
            continue  # nothing right can be said of one of the two conditions
        rows.append((_label(key), before, change, []))
    return Table(
        id=f"compare-{protocol}-gaps",
        title=f"{protocol}: did the cost of each intervention change?",
        caption=(
            f"Intervened minus original in A = {names[0]} and B = {names[1]}, and the change from A to B. Above 0: "
            "the intervention costs B less. Paired by item and untouched twin, clustered by source clip; p is "
            "adjusted over the rows (Holm), and not given below 10 clips."
        ),
        columns=("pairs", "gap in A", "gap in B", "change", "p (Holm)"),
        rows=_with_holm(rows),
        unit="mixed",
    )


def _dark(run_a: Sequence[Judged], run_b: Sequence[Judged], names: tuple[str, str]) -> Table:
    """Thud's answers with the picture black: directions, alarms, and what the first exceed the second by."""
    rows: list[tuple[str, list[Cell], Estimate | None, list[Cell]]] = []
    for m in scorecard.DARK:
        before: list[Cell] = [scorecard.of_run(m, run_a), scorecard.of_run(m, run_b)]
        if any(cell is not None for cell in before):
            rows.append((m.label, before, scorecard.change(m, run_a, run_b), [m.better]))
    return Table(
        id="compare-thud-dark",
        title="thud: what is said of moved and untouched clips with the picture black",
        caption=(
            f"A = {names[0]}, B = {names[1]}. In the dark nobody can know, so more right directions or more alarms "
            "are neither better nor worse. Beyond alarms: how much more often a direction is said of the clip "
            "moved that way than of the same clip untouched; 0 for whoever guesses, lower is better. What the "
            "picture adds: the direction's share with the picture minus that without it, on the same shifts. "
            "Differences are paired and clustered by source clip; p is adjusted over the rows (Holm), and not "
            "given below 10 clips."
        ),
        columns=("A", "B", "B - A", "p (Holm)", "better"),
        rows=_with_holm(rows),
        unit="mixed",
    )


def _twin(item: Item) -> tuple[str, str, str, int]:
    return item.group, item.question, item.style, item.seed


def _items_table(
    run_a: Sequence[Judged], run_b: Sequence[Judged], of_a: dict[str, Judged], of_b: dict[str, Judged],
    shared: Sequence[str], names: tuple[str, str], note: str,
) -> Table:  # fmt: skip
    rows = []
    for name, judged, other in ((names[0], run_a, of_b), (names[1], run_b, of_a)):
        alone = [j for j in judged if j.item.id not in other]
        missing = [j for j in judged if j.item.id in other and j.answer.error is not None]
        rows.append(
            Row(name, (len(judged), len(shared), len(alone), len({j.item.clip for j in alone}), len(missing)))
        )
    other_media = sum(_other_media(of_a[i], of_b[i]) for i in shared)
    said = [note] if note else []
    if other_media:
        said.append(
            f"On {other_media} of {len(shared)} shared items the two models were fed different media (sampled "
            "differently, or other files under the same names)."
        )
    if any(row.cells[2] for row in rows):
        said.append("Items that only one run has are left out of all comparisons.")
    return Table(
        id="compare-items",
        title="What is compared",
        caption=" ".join(["Items are paired by their content.", *said]),
        columns=("items", "shared", "only here", "clips of those", "failed among shared"),
        rows=tuple(rows),
        unit="count",
    )


def _other_media(a: Judged, b: Judged) -> bool:
    one, two = a.answer.fed, b.answer.fed
    if one is None or two is None:
        return False
    return (one.audio_hash, one.video_hash) != (two.audio_hash, two.video_hash)


__all__ = ["compare", "compare_runs", "names_of"]
