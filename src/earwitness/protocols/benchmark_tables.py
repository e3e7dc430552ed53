"""A benchmark's tables: accuracy by task, what of it is left without the sound, and what is said of silence.

Three questions, kept apart because one accuracy hides them:

- *How often is it right?* ``benchmark_accuracy``, the clips as they are.
- *How much of that is owed to the sound, or the picture?* ``benchmark_without_sound``,
  ``benchmark_without_picture``: the file's answer given all the same, paired by question, beside chance.
- *Does it notice that the evidence is gone?* ``benchmark_gone``: where something is right then ("no", "silent").

The rows by domain, duration, modality ... come from the tags of the question file. Yes/no questions, captions,
offsets and replaced sounds have tables of their own: :mod:`earwitness.protocols.benchmark_kinds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from earwitness.interventions import EFFECT
from earwitness.protocols.benchmark_kinds import kind_tables
from earwitness.protocols.cells import COUNTS, baseline, counts, holm, most_common, paired, right, share
from earwitness.questions import clean
from earwitness.records import REFUSED, Estimate, Item, Judged, Row, Table
from earwitness.scoring import UNSCORED

SOUND_GONE, PICTURE_GONE = ("mute", "no_track"), ("black", "no_frames")
WORDS = {
    "mute": "muted", "no_track": "without a sound track", "black": "black frames", "no_frames": "without frames",
    "sham": "sham", "original": "as it is",
}  # fmt: skip
# Tags that make a table, and its title; most (domain ...) as the published tables have them.
GROUPS = {
    "modality": "By modality of the question", "type": "By type of the question", "domain": "By domain",
    "category": "By category", "sub_category": "By sub-category", "granularity": "By granularity",
    "correlation": "By correlation", "duration": "By duration", "sound": "By kind of sound",
    "split": "By split (head and tail)", "video": "By kind of video", "relation": "By what the answer needs",
}  # fmt: skip
MOST = 40  # groups a table may have: more are ids, not groups


def tables(judged: Sequence[Judged]) -> list[Table]:
    """All tables that the answers allow; conditions that were not run are left out, not filled in."""
    mine = [j for j in judged if j.item.protocol == "benchmark"]
    plain = [j for j in mine if j.item.condition == "original"]
    made = [_accuracy(plain)]
    made += [_without(mine, c, "sound", "without_sound") for c in SOUND_GONE]
    made += [_without(mine, c, "picture", "without_picture") for c in PICTURE_GONE]
    made += [_gone(mine), *kind_tables(mine), *_groups(mine, plain)]
    return [t for t in made if t.rows]


def by_task(judged: Sequence[Judged]) -> Iterator[tuple[str, list[Judged]]]:
    """Task name and its answers, in order of the names; "all tasks" last, where there are several."""
    names = sorted({j.item.task for j in judged})
    for name in names:
        yield name or "all questions", [j for j in judged if j.item.task == name]
    if len(names) > 1:
        yield "all tasks", list(judged)


def chance(judged: Sequence[Judged]) -> float | None:
    """What guessing among the choices gets, on average; None where a question has no choices."""
    sizes = [3 if j.item.question == "shift" else len(j.item.choices) for j in judged]
    return sum(1 / n for n in sizes) / len(sizes) if sizes and all(sizes) else None


def given(j: Judged) -> bool | None:
    """Whether the answer is the file's own, whatever was done to the clip. Declining is not giving it."""
    if j.score.label == REFUSED:
        return False
    return None if j.score.label in UNSCORED else clean(j.score.label) == clean(j.item.tags.get("answer", ""))


def _scored(judged: Sequence[Judged]) -> list[Judged]:
    return [j for j in judged if j.item.target is not None]


def _accuracy(plain: Sequence[Judged]) -> Table:
    asked = _scored(plain)
    rows = [Row(name, (share(some), chance(some), *counts(some))) for name, some in by_task(asked)]
    if asked:
        common = {name: most_common(some) for name, some in by_task(asked)}
        prior = baseline(asked, lambda i: common.get(i.task or "all questions"))
        rows.append(Row("most common answer of each task", (share(prior), None, *counts(prior)), "baseline"))
    return Table(
        id="benchmark_accuracy",
        title="Accuracy by task, clips as they are",
        caption=(
            "Share of right answers among those that could be read; lowest and highest: had all the others "
            "been wrong, or right. Chance: guessing among the choices. An answer that names no choice is "
            "unparsed, never a default letter."
        ),
        columns=("accuracy", "chance", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )


def _twin(item: Item) -> tuple[object, ...]:
    return (item.group, item.style, item.seed)


def _kept(plain: Sequence[Judged], gone: Sequence[Judged]) -> Estimate | None:
    """Of the questions answered with the file's answer as they are: the share that still is."""
    knew = {_twin(j.item) for j in plain if given(j)}
    return share([j for j in gone if _twin(j.item) in knew], given)


def _without(judged: Sequence[Judged], condition: str, what: str, name: str) -> Table:
    """The file's answer with and without the sound (picture). Captions have none, so they are left out."""
    ours = [j for j in judged if j.item.tags.get("answer") and j.item.question != "modified"]
    gone = [j for j in ours if j.item.condition == condition]
    plain = [j for j in ours if j.item.condition == "original"]
    found: list[tuple[str, list[Judged], list[Judged], Estimate | None]] = []
    for label, some in by_task(gone):
        twins = {_twin(j.item) for j in some}
        before = [j for j in plain if _twin(j.item) in twins]
        found.append((label, before, some, paired(before, some, _twin, given)))
    rows = tuple(
        Row(
            label,
            (share(a, given), share(b, given), e, p, _kept(a, b), chance(b), *counts(b, given)[:4]),
        )
        for (label, a, b, e), p in zip(found, holm([e for *_, e in found]), strict=True)
    )
    return Table(
        id=f"benchmark_{name}" + ("" if condition in ("mute", "black") else f"_{condition}"),
        title=f"How much does the {what} matter? ({WORDS[condition]})",
        caption=(
            f"How often the file's own answer is given, with the {what} and without it, and the difference "
            f"paired by question: near 0, the {what} was not needed or not used. Still right: of the "
            f"questions answered rightly with the {what}, those answered the same without. Declining counts "
            "as not giving the answer. p: adjusted for testing all rows (Holm); empty below ten clips."
        ),
        columns=(f"with {what}", f"without {what}", "difference", "p", "still right", "chance", *COUNTS[:4]),
        rows=rows,
        unit="mixed",
    )


def _gone(judged: Sequence[Judged]) -> Table:
    """Questions whose evidence was taken away and that still have a right answer: no, silent, none of the "
    "above."""
    rows = []
    groups: dict[tuple[str, str], list[Judged]] = {}
    for j in _scored(judged):
        effects = {EFFECT[j.item.intervention.kind][e] for e in j.item.evidence}
        if "removed" in effects:
            groups.setdefault((j.item.condition, j.item.task), []).append(j)
    for (condition, task), some in sorted(groups.items()):
        rows.append(Row(f"{task}, {WORDS[condition]}", (share(some), share(some, given), *counts(some))))
    return Table(
        id="benchmark_gone",
        title="Does it notice that the evidence is gone?",
        caption=(
            "Questions about the sound on clips without sound, and about the picture on clips without picture, "
            "where something is right all the same: nothing is heard in silence. Second column: the answer "
            "that was right on the untouched clip."
        ),
        columns=("right now", "the old answer", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )


def _groups(judged: Sequence[Judged], plain: Sequence[Judged]) -> Iterator[Table]:
    """A table per tag that divides the questions: accuracy as it is, and the file's answer without sound."""
    muted = [j for j in judged if j.item.condition == "mute" and j.item.question != "modified"]
    for tag, title in GROUPS.items():
        values = sorted({v for j in plain for v in _values(j, tag)}, key=_natural)
        if not 2 <= len(values) <= MOST:
            continue
        rows = []
        for value in values:
            some = [j for j in _scored(plain) if value in _values(j, tag)]
            twins = {_twin(j.item) for j in some}
            silent = [j for j in muted if _twin(j.item) in twins and j.item.tags.get("answer")]
            if some:
                cells = (share(some), share(silent, given), paired(some, silent, _twin, given), chance(some))
                rows.append(Row(value, (*cells, *counts(some, right))))
        yield Table(
            id=f"benchmark_by_{tag}",
            title=title,
            caption="Accuracy, clips as they are; the file's answer given without sound; the paired difference.",
            columns=("accuracy", "without sound", "difference", "chance", *COUNTS),
            rows=tuple(rows),
            unit="mixed",
        )


def _values(j: Judged, tag: str) -> list[str]:
    """A tag's values: "Speech|Music" stands for both."""
    return [v for v in j.item.tags.get(tag, "").split("|") if v]


def _natural(value: str) -> tuple[float, str]:
    """Durations by length ("30s" before "60s", "(0,1]min" by its first number), names by the alphabet."""
    digits = "".join(c if c.isdigit() or c == "." else " " for c in value).split()
    named = {"short": 1.0, "medium": 2.0, "long": 3.0}.get(value)
    return (named if named is not None else float(digits[0]) if digits and _number(digits[0]) else 0.0, value)


def _number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
