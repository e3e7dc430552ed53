"""AV-ConfuseBench's tables: accuracy on yes and on no, d' and bias, Yes %; recall of a replaced sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from earwitness import stats
from earwitness.protocols.cells import COUNTS, Hit, baseline, cluster_of, counts, is_label, share
from earwitness.questions import clean, same
from earwitness.records import Estimate, Item, Judged, Row, Table
from earwitness.scoring import UNSCORED


def tables(judged: Sequence[Judged]) -> list[Table]:
    """All tables that the answers allow; leading and neutral questions apart."""
    mine = [j for j in judged if j.item.protocol == "av_confuse"]
    asked = [j for j in mine if j.item.question == "muted"]
    out = [_muted([j for j in asked if j.item.style == s], s) for s in sorted({j.item.style for j in asked})]
    described = [j for j in mine if j.item.question == "modified"]
    if described:
        out.append(_modified(described))
    return out


_says_yes: Hit = is_label("yes")


def _detection_row(label: str, judged: Sequence[Judged], kind: str = "model") -> Row:
    truth = [clean(j.item.target or "") == "yes" for j in judged]
    found = stats.detection([_says_yes(j) for j in judged], truth, cluster_of(judged))
    cells = (
        found.hit_rate,
        share([j for j, yes in zip(judged, truth, strict=True) if not yes]),
        found.balanced_accuracy,
        found.dprime,
        found.bias,
        found.yes_rate,
    )
    return Row(label, (*cells, *counts(judged)), kind)  # type: ignore[arg-type]


def _always(word: str) -> Callable[[Item], str | None]:
    return lambda _: word


def _muted(judged: Sequence[Judged], style: str) -> Table:
    muted = [j for j in judged if j.item.condition == "muted"]
    full = [j for j in judged if j.item.condition == "full"]
    dropped = [j for j in muted if clean(j.item.target or "") == "no"]
    asked_twice = {(j.item.clip, clean(j.item.asked or "")) for j in dropped}
    twins = [*dropped, *(j for j in full if (j.item.clip, clean(j.item.asked or "")) in asked_twice)]
    rows = []
    for label, some in (
        ("left-out things, and the same with the sound on", twins if full else []),
        ("all questions", judged if full and muted else []),
        ("clips with one left out", muted),
        ("untouched clips", full),
        ("left-out things only (as published)", dropped),
    ):
        if some:
            rows.append(_detection_row(label, some))
    for word in ("yes", "no"):
        rows.append(_detection_row(f"always {word}", baseline(twins or judged, _always(word)), "baseline"))
    return Table(
        id=f"confuse_muted_{style}",
        title=f"Is there a sound of it? ({style} questions)",
        caption=(
            "PA: accuracy where yes is right; HR: accuracy where no is right; d' = 0 is a model that "
            "cannot tell the two "
            "apart, bias below 0 leans to yes. The published benchmark asks only about left-out things, "
            "where always "
            "saying no scores 100 %."
        ),
        columns=("PA", "HR", "balanced accuracy", "d'", "bias c", "says yes", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )


def _hears_picture(j: Judged) -> bool | None:
    """Whether it says that it hears what it sees, though that is not there to be heard."""
    if j.score.label in UNSCORED:
        return None
    gone = {same(n) for n in j.item.seen} - {same(n) for n in j.item.heard}
    return bool(gone & set(j.score.said_heard))


def _sees(judged: Sequence[Judged]) -> Estimate | None:
    shares: list[float | None] = []
    for j in judged:
        wanted = {same(n) for n in j.item.seen}
        said = {same(n) for n in j.score.said_seen}
        shares.append(None if j.score.label in UNSCORED or not wanted else len(wanted & said) / len(wanted))
    return stats.proportion(shares, cluster_of(judged))


def _modified(judged: Sequence[Judged]) -> Table:
    replaced = [j for j in judged if j.item.condition == "modified"]
    groups = [("sound replaced, all", replaced)]
    names = sorted({j.item.asked for j in replaced if j.item.asked})
    groups += [(f"replaced by {name}", [j for j in replaced if j.item.asked == name]) for name in names]
    groups.append(("untouched (control)", [j for j in judged if j.item.condition == "full"]))
    rows = []
    for label, some in groups:
        if some:
            recall = stats.proportion(
                [j.score.recall if j.score.label not in UNSCORED else None for j in some], cluster_of(some)
            )
            rows.append(Row(label, (share(some), recall, _hears_gone(some), _sees(some), *counts(some))))
    if replaced:
        silly = baseline(replaced, lambda _: "NOT_HEARD")
        rows.append(Row("always what is seen", (share(silly), 0.0, 1.0, 1.0, *counts(silly)), "baseline"))
    return Table(
        id="confuse_modified",
        title="Does it name a sound that the picture does not suggest?",
        caption=(
            "The whole sound is replaced; the answer describes what is seen and heard. Keyword recall, no "
            "judge: the new "
            "sound is named as heard; the visible thing is named as heard although it is silent; it is "
            "named as seen."
        ),
        columns=("names the sound", "recall (heard)", "hears the picture", "recall (seen)", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )


def _hears_gone(judged: Sequence[Judged]) -> Estimate | None:
    if all(j.item.condition == "full" for j in judged):
        return None  # what is seen is there to be heard
    return share(judged, _hears_picture)
