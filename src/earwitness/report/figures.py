"""The few numbers that say whether a model listens, whatever the protocol they come from.

Each :class:`Figure` is one question of the kind "the sound was taken away: does it still name one?", answered by
one Estimate, clustered by clip. The figures read items by what was done to the clip and what was asked, so they
exist wherever a run holds such items. Failed and unparsed answers are left out of the estimate and counted
in ``Figure.missing``: a failure is not an answer.

Functions: :func:`follow` (whom does it believe when picture and sound disagree), :func:`figures` (all key figures),
:func:`named` (the class an answer names, picture's or sound's).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from earwitness import stats
from earwitness.questions import clean
from earwitness.records import Estimate, Item, Judged
from earwitness.scoring import UNSCORED

Sense = Literal["seen", "heard", "both"]
Named = Literal["picture", "sound", "other"]

# Prompts that neither announce the trick nor change the options: what a figure speaks for.
PLAIN_STYLES = ("standard", "neutral")
# MMA-Bench's conditions that change the prompt and leave the clip alone: untouched media, but no control.
TEXT_CONDITIONS = ("misleading_caption", "long_context")


@dataclass(frozen=True)
class Figure:
    """A key figure: ``estimate`` of ``title``; ``listener`` is what a model that listens would score."""

    key: str
    title: str
    plain: str
    estimate: Estimate
    listener: float
    sense: Sense
    clips: int = 0  # distinct clips asked about (a swap ties two clips into one cluster)
    missing: int = 0
    chance: float | None = None


@dataclass(frozen=True)
class Follow:
    """Whom answers about a clip with another clip's sound follow. The three shares add up to one."""

    picture: Estimate
    sound: Estimate
    other: Estimate
    clips: int
    missing: int

    @property
    def missing_share(self) -> float:
        """Share of the answers that failed or could not be read."""
        return self.missing / (self.missing + self.picture.n)


def control_only(item: Item) -> bool:
    """Whether the item is a control of another one: a shift in the dark, a mute with room tone left."""
    return item.intervention.unseen or (item.intervention.kind == "mute" and item.intervention.fill == "room")


def natural(item: Item, *kinds: str) -> bool:
    """Whether the item asks plainly about the untouched clip, or one under an intervention of these kinds."""
    kind = item.intervention.kind
    untouched = kind == "original" and item.condition not in TEXT_CONDITIONS
    return not control_only(item) and (untouched or kind in kinds)


def unscored(j: Judged) -> bool:
    """Whether the answer failed, was refused or could not be read."""
    return j.answer.error is not None or j.score.label in UNSCORED


def named(j: Judged) -> Named | None:
    """What the chosen class belongs to after the intervention; None where the answer names no class."""
    if unscored(j):
        return None
    said = clean(j.score.label)
    if said in {clean(s) for s in j.item.heard}:
        return "sound"
    return "picture" if said in {clean(s) for s in j.item.seen} else "other"


def conflicts(
    judged: Iterable[Judged], question: str = "audio", styles: Sequence[str] = PLAIN_STYLES
) -> list[Judged]:
    """Answers to a closed class question on clips whose sound is that of something else than is seen."""
    return [
        j
        for j in judged
        if j.item.question == question
        and j.item.intervention.kind == "swap"
        and j.item.style in styles
        and len(j.item.choices) > 2
        and not {clean(s) for s in j.item.seen} & {clean(s) for s in j.item.heard}
    ]


def follow(
    judged: Iterable[Judged], question: str = "audio", styles: Sequence[str] = PLAIN_STYLES
) -> Follow | None:
    """Share of answers that follow the picture, the sound, neither; None where no such answer could be read."""
    chosen = conflicts(judged, question, styles)
    read = [(j, name) for j in chosen if (name := named(j)) is not None]
    if not read:
        return None
    clusters = cluster_of([j for j, _ in read])
    picture, sound, other = (
        stats.proportion([name == who for _, name in read], clusters) for who in ("picture", "sound", "other")
    )
    assert picture is not None
    assert sound is not None
    assert other is not None
    return Follow(picture, sound, other, len({j.item.clip for j, _ in read}), len(chosen) - len(read))


def cluster_of(judged: Sequence[Judged]) -> list[str]:
    """Cluster of each answer: its source, with the sources that a swap ties together merged into one."""
    return stats.merge_clusters([j.item.source for j in judged], [j.item.linked for j in judged])


def share(chosen: Sequence[Judged], hit: Callable[[Judged], bool]) -> tuple[Estimate | None, int]:
    """Share of readable answers that are a hit, clustered; and how many answers could not be read."""
    read = [j for j in chosen if not unscored(j)]
    if not read:
        return None, len(chosen)
    return stats.proportion([hit(j) for j in read], cluster_of(read)), len(chosen) - len(read)


def figures(judged: Sequence[Judged]) -> list[Figure]:
    """All key figures that the run has answers for, in the order in which they should be read."""
    plainly = [j for j in judged if j.item.style in PLAIN_STYLES and not control_only(j.item)]

    def some(question: str, kinds: Sequence[str]) -> list[Judged]:
        return [j for j in plainly if j.item.question == question and j.item.intervention.kind in kinds]

    out: list[Figure] = []

    def add(
        key: str, title: str, words: str, chosen: list[Judged], hit: Callable[[Judged], bool], listener: float,
        sense: Sense, chance: float | None = None,
    ) -> None:  # fmt: skip
        estimate, missing = share(chosen, hit)
        if estimate is not None:
            clips = len({j.item.clip for j in chosen if not unscored(j)})
            out.append(Figure(key, title, words, estimate, listener, sense, clips, missing, chance))

    control = [j for j in some("audio", ("original",)) if natural(j.item)]
    add(
        "natural", "Names the sound when picture and sound agree",
        "The control. On untouched clips the right answer can be had from either.",
        control, _right, 1.0, "both", _chance(control),
    )  # fmt: skip
    black = some("audio", ("black", "no_frames"))
    add(
        "ear", "Names the sound with eyes closed",
        "The picture is black, the sound is there: can the model hear at all?",
        black, _right, 1.0, "heard", _chance(black),
    )  # fmt: skip
    swapped = conflicts(judged)
    add(
        "follow_picture", "Believes its eyes when the sound is another clip's",
        "Asked what it hears, it names the sound of what it sees.",
        swapped, lambda j: named(j) == "picture", 0.0, "seen", _chance(swapped),
    )  # fmt: skip
    add(
        "follow_sound", "Believes its ears when the sound is another clip's",
        "Asked what it hears, it names what really sounds.",
        swapped, lambda j: named(j) == "sound", 1.0, "heard", _chance(swapped),
    )  # fmt: skip
    silent = some("audio", ("mute",))
    add(
        "leak", "Names the sound of the thing it sees, in silence",
        "The sound is muted, and the answer to “what do you hear?” is the visible thing. A blind guess may hit it.",
        silent, lambda j: named(j) == "picture", _chance(silent) or 0.0, "seen", _chance(silent),
    )  # fmt: skip
    add(
        "mute", "Describes sounds in silence",
        "Asked to describe the sound of a muted clip, it describes one.",
        some("mute", ("mute",)), lambda j: j.score.label == "SOUND_DESCRIBED", 0.0, "seen",
    )  # fmt: skip
    add(
        "match", "Takes a foreign sound for the clip's own",
        "The sound is another clip's, and the model finds nothing amiss.",
        some("swap", ("swap",)), lambda j: j.score.label == "MATCH", 0.0, "seen",
    )  # fmt: skip
    add(
        "sync", "Calls a shifted sound “in sync”",
        "The sound was moved against the picture, and the model does not notice.",
        some("shift", ("shift",)), lambda j: j.score.label == "SYNC", 0.0, "seen",
    )  # fmt: skip
    stems = [j for j in some("muted", ("drop_stem",)) if _no(j)]
    add(
        "confuse", "Hears an instrument that was taken out",
        "Several things are seen; one of them was removed from the sound, and the model still hears it.",
        stems, lambda j: j.score.correct is False, 0.0, "seen", 0.5,
    )  # fmt: skip
    asked = [j for j in some("yes_no", ("mute", "no_track")) if _no(j) and j.item.tags.get("answer") == "yes"]
    add(
        "presence", "Hears in silence what it is asked about",
        "The sound is muted. Asked whether a thing that the untouched clip sounds like is heard, it says yes.",
        asked, lambda j: j.score.correct is False, 0.0, "seen", 0.5,
    )  # fmt: skip
    return out


def _right(j: Judged) -> bool:
    return j.score.correct is True


def _no(j: Judged) -> bool:
    return j.item.target is not None and clean(j.item.target) == "no"


def _chance(chosen: Sequence[Judged]) -> float | None:
    """Chance of a random option; None where the items differ in their number of options."""
    sizes = {len(j.item.choices) for j in chosen if j.item.choices}
    return 1 / sizes.pop() if len(sizes) == 1 else None
