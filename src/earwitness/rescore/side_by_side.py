"""The same answers as scored elsewhere and as scored here, side by side, and the texts that make the difference.

Function: ``side_by_side``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from earwitness import scoring, stats
from earwitness.records import Estimate, Judged, Row, Table, how_many
from earwitness.rescore.legacy import PARSERS, legacy, truth
from earwitness.rescore.rows import Reply

Outcome = bool | None
SHOWN = 10  # texts of the difference that are listed
_LONGEST = 90  # characters of a text in a row's label
_WORDS = {True: "right", False: "wrong", None: "not scored"}


def side_by_side(replies: Sequence[Reply], parser: str | None = None) -> list[Table]:
    """Tables of the replies as scored elsewhere against here: by ``parser``'s rule, else as the file itself says.

    ``rescore_sides`` has the accuracies, ``rescore_differences`` counts what changes sides, ``rescore_texts`` lists
    the first ten differing texts. Empty where there is no parser and the file says nothing.

    Raises ValueError where the parser is unknown, or reads no question of this file.
    """
    if parser is not None and parser not in PARSERS:
        raise ValueError(f"--legacy-parser {parser}: no such parser; there are {', '.join(PARSERS)}")
    said = [r for r in replies if r.published is not None]
    if parser is None:
        return _tables(said, [r.published for r in said], "the file's own score", "") if said else []
    fit = [r for r in replies if PARSERS[parser].fits(r.item)]
    if not fit:
        kinds = ", ".join(sorted({r.item.question for r in replies}))
        raise ValueError(f"--legacy-parser {parser} reads no question of this file (it has: {kinds})")
    theirs = [legacy(parser, r.item, r.raw) for r in fit]
    rule = f"Published rule: {PARSERS[parser].rule}. "
    if len(fit) < len(replies):
        rule += (
            f"{len(replies) - len(fit)} of {how_many(len(replies), 'answer')} are to questions that it does not "
            "read. "
        )
    return _tables(fit, theirs, f"as published ({parser})", rule)


def _tables(replies: Sequence[Reply], theirs: Sequence[Outcome], name: str, rule: str) -> list[Table]:
    judged = [judge(r) for r in replies]
    ours = [j.score.correct for j in judged]
    clusters = stats.merge_clusters([r.item.source for r in replies], [r.item.linked for r in replies])
    rows = [Row(name, _cells(theirs, clusters)), Row("here", _cells(ours, clusters))]
    own = [r.published for r in replies]
    if any(o is not None for o in own) and not name.startswith("the file"):
        rows.append(Row("the file's own score", _cells(own, clusters), "reference"))
    differ = [n for n, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]
    sides = Table(
        id="rescore_sides",
        title="Scored elsewhere and here",
        caption=(
            f"{rule}{len(differ):,} of {how_many(len(replies), 'answer')} are scored differently. Accuracy is "
            "over right and "
            f"wrong; what could not be scored (failed, unparsed, refused) is counted beside it, never guessed."
        ),
        columns=("accuracy", "answers", "right", "wrong", "not scored"),
        rows=tuple(rows),
        unit="mixed",
    )
    changes = Counter((_WORDS[theirs[n]], _seen(judged[n])) for n in differ)
    moved = Table(
        id="rescore_differences",
        title="What changes sides",
        caption=f"Answers that {name} and this tool score differently.",
        columns=("answers",),
        rows=tuple(
            Row(f"{a} there, {b} here", (n,)) for (a, b), n in sorted(changes.items(), key=lambda c: (-c[1], c[0]))
        ),
        unit="count",
    )
    texts = Table(
        id="rescore_texts",
        title="Texts that are scored differently",
        caption=f"The first {SHOWN} different texts, in the order of the file.",
        columns=("truth", "there", "here", "answers"),
        rows=tuple(_texts(replies, judged, theirs, differ)),
        unit="mixed",
    )
    return [t for t in (sides, moved, texts) if t.rows]


def judge(reply: Reply) -> Judged:
    """A reply with our score."""
    return Judged(reply.item, reply.answer, scoring.score(reply.item, reply.answer))


def _cells(outcomes: Sequence[Outcome], clusters: Sequence[str]) -> tuple[Estimate | int | None, ...]:
    share = stats.proportion(list(outcomes), list(clusters))
    right, wrong = sum(o is True for o in outcomes), sum(o is False for o in outcomes)
    return share, len(outcomes), right, wrong, len(outcomes) - right - wrong


def _seen(j: Judged) -> str:
    """Our outcome in words: right, wrong, or why it was not scored."""
    if j.score.correct is not None:
        return _WORDS[j.score.correct]
    return {"ERROR": "failed", "UNPARSED": "unparsed", "REFUSED": "refused"}.get(j.score.label, "not scored")


def _texts(
    replies: Sequence[Reply], judged: Sequence[Judged], theirs: Sequence[Outcome], differ: Sequence[int]
) -> Iterator[Row]:
    groups: dict[tuple[str, str, Outcome], list[int]] = {}
    for n in differ:
        groups.setdefault((replies[n].raw, truth(replies[n].item), theirs[n]), []).append(n)
    for (raw, gold, there), some in list(groups.items())[:SHOWN]:
        text = " ".join(raw.split())
        short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "\u2026"
        first = judged[some[0]]
        here = _seen(first) + (f" ({first.score.label})" if first.score.correct is not None else "")
        yield Row(f"\u201c{short}\u201d", (gold, _WORDS[there], here, len(some)))
