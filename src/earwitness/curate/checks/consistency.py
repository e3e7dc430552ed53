"""MMA-Bench's four consistency checks: is the thing seen without its sound, heard without its picture, named in
both?

====================  ===================  =========================================================================
check                 what is done         what is asked (arXiv 2511.22826, appendix B.1)
====================  ===================  =========================================================================
``visible``           sound removed        "Is the [class] clearly visible in this video?"
``audible``           black frames         "Is the sound of [class] clearly audible in this video?"
``visual_question``   nothing              the benchmark's visual question, over the class list
``audio_question``    nothing              the benchmark's audio question, over the class list
====================  ===================  =========================================================================

A clip keeps its label where the answer is yes to all four. The judge is any model, asked by the audit's own loop;
what it says is read by :mod:`earwitness.questions`. A judge that fails, declines or cannot be read has said
nothing: that is never a yes, and never a no either (``passed`` None).

Differs from the source: there whatever is not "Yes" rejects a clip, so that a judge that crashes shrinks the
benchmark; here such clips go to people. Sound is removed by silence of the same length (the benchmark's own
condition), since a file without a track is another prompt to most models. A clip with several labels is asked about
each, and either of its names answers the last two questions.

Functions: ``items`` (what is asked), ``verdicts`` (what was answered), ``agreement`` (of witnesses and judges).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from earwitness import scoring, stats
from earwitness.curate.checks.verdict import Verdict
from earwitness.protocols.making import finish, in_list, shuffled
from earwitness.questions import clean, content_prompt, plain
from earwitness.records import REFUSED, UNPARSED, Answer, Clip, Evidence, Intervention, Item, Row, Table
from earwitness.records import InterventionKind as Kind

VISIBLE = "Is the {thing} clearly visible in this video?"
AUDIBLE = "Is the sound of {thing} clearly audible in this video?"
CHECKS = ("visible", "audible", "visual_question", "audio_question")
NAMES = {
    "visible": "visible, with the sound removed",
    "audible": "audible, with the frames black",
    "visual_question": "named by what is seen, in the whole clip",
    "audio_question": "named by what is heard, in the whole clip",
}
# Checks that ask the same of a clip, so that those who made them can be compared.
SENSES = {
    "seen": ("classifier", "visible"), "heard": ("tagger", "audible"),
    "visual question": ("visual_question",), "audio question": ("audio_question",),
}  # fmt: skip
SAID = 60  # characters of an answer that a verdict repeats


def items(
    clips: Sequence[Clip], classes: Sequence[str], *, seed: int = 0, stamps: Mapping[str, str] | None = None
) -> list[Item]:
    """The questions of all clips, clip by clip.

    Parameters
    ----------
    classes : the options of the last two questions; a clip whose class is not among them is not asked these.
    seed : of the order of the options, which is drawn for each clip.
    stamps : what tells a clip's file from a changed one, by clip id: a changed file is asked about anew.
    """
    return [item for clip in clips for item in _of(clip, classes, seed, (stamps or {}).get(clip.id, ""))]


def _of(clip: Clip, classes: Sequence[str], seed: int, stamp: str) -> Iterator[Item]:
    for check, kind, names, words in (
        ("visible", "mute", clip.seen, VISIBLE), ("audible", "black", clip.heard, AUDIBLE),
    ):  # fmt: skip
        for name in dict.fromkeys(names):
            yield _existence(clip, check, kind, name, words, stamp)  # type: ignore[arg-type]
    for check, modality, names in (
        ("visual_question", "visual", clip.seen), ("audio_question", "audio", clip.heard),
    ):  # fmt: skip
        listed = [known for name in names if (known := in_list(name, classes)) is not None]
        if listed and len(classes) > 1:
            choices = shuffled(classes, "options", seed, clip.id)
            yield finish(
                Item(
                    id="", protocol="mma", condition="aligned", question=modality, clip=clip.id,
                    source=clip.cluster, group=clip.id, choices=choices, target=listed[0], seen=clip.seen,
                    prompt=content_prompt(modality, choices), heard=clip.heard,  # type: ignore[arg-type]
                    evidence=("video",) if modality == "visual" else ("audio",), task=check, tags=_tags(stamp),
                )
            )  # fmt: skip


def _existence(clip: Clip, check: str, kind: Kind, name: str, words: str, stamp: str) -> Item:
    """One yes/no question. It is a question file's kind, so that controls answer it by what it rests on."""
    evidence: tuple[Evidence, ...] = ("video",) if check == "visible" else ("audio",)
    return finish(
        Item(
            id="", protocol="benchmark", condition="audio_removed" if kind == "mute" else "frames_zeroed",
            question="yes_no", clip=clip.id, source=clip.cluster, group=clip.id,
            intervention=Intervention(kind=kind), prompt=words.format(thing=plain(name)), choices=("yes", "no"),
            target="yes", evidence=evidence, seen=() if kind == "black" else clip.seen,
            heard=() if kind == "mute" else clip.heard, asked=name, task=check, tags=_tags(stamp),
        )
    )  # fmt: skip


def _tags(stamp: str) -> dict[str, str]:
    return {"file": stamp} if stamp else {}


def verdicts(
    clips: Sequence[Clip], asked: Sequence[Item], answers: Mapping[str, Answer], by: str
) -> dict[str, list[Verdict]]:
    """The four verdicts on each clip by one judge, by clip id; ``by`` is the judge's id and revision.

    A clip with several labels passes ``visible`` where each of them is seen, ``audible`` where each is heard.
    """
    mine: dict[tuple[str, str], list[Item]] = {}
    for item in asked:
        mine.setdefault((item.clip, item.task), []).append(item)
    return {
        clip.id: [_verdict(clip, check, mine.get((clip.id, check), ()), answers, by) for check in CHECKS]
        for clip in clips
    }


def _verdict(clip: Clip, check: str, asked: Sequence[Item], answers: Mapping[str, Answer], by: str) -> Verdict:
    if not asked:
        return Verdict(clip=clip.id, check=check, passed=None, by=by, why=_not_asked(clip, check))
    said = [_read(item, answers.get(item.id)) for item in asked]
    worst = min(said, key=lambda s: (False, None, True).index(s[0]))
    known = [p for _, _, p in said if p is not None]
    return Verdict(
        clip=clip.id, check=check, passed=worst[0], why=worst[1], by=by,
        value=round(min(known), 4) if len(known) == len(said) else None, unit="probability" if known else "",
    )  # fmt: skip


def _not_asked(clip: Clip, check: str) -> str:
    names, sense = (clip.seen, "seen") if check in ("visible", "visual_question") else (clip.heard, "heard")
    if not names:
        return f"nothing is labelled as {sense}"
    return f"the class list does not have {', '.join(names)}, or has one class only"


def _read(item: Item, answer: Answer | None) -> tuple[bool | None, str, float | None]:
    """Whether an answer says what the label says, in words, and the probability of that answer where it is
    known."""
    if answer is None:
        return None, "not asked", None
    label = scoring.score(item, answer).label
    if label == scoring.ERROR:
        return None, f"the judge failed: {answer.error or 'empty answer'}", None
    quoted = _quoted(answer.text or "")
    if label in (UNPARSED, REFUSED):
        return None, f"the judge {'declined' if label == REFUSED else 'gave no readable answer'}: {quoted}", None
    if item.question == "yes_no":
        right = {"yes"}
        about = f"{plain(item.asked or '')}: {quoted}"
    else:
        right = {clean(name) for name in (item.seen if item.question == "visual" else item.heard)}
        about = f"says {label}"
    passed = clean(label) in right
    return passed, about if not passed or item.question == "yes_no" else f"says {label}", _share(answer, right)


def _share(answer: Answer, right: set[str]) -> float | None:
    """Probability of the right answers among the options, where the judge gives log-probabilities."""
    if not answer.logprobs:
        return None
    top = max(answer.logprobs.values())
    weights = {clean(name): math.exp(value - top) for name, value in answer.logprobs.items()}
    return sum(w for name, w in weights.items() if name in right) / sum(weights.values())


def _quoted(text: str) -> str:
    words = " ".join(text.split())
    return f"“{words[:SAID]}{'…' if len(words) > SAID else ''}”"


def agreement(verdicts: Sequence[Verdict], clips: Sequence[Clip]) -> Table | None:
    """How far each two agree, on what is heard and on what is seen; None where there are no two.

    Judges are held against each other on all four questions, and a witness against each judge on the question about
    the same sense. Cohen's kappa, clustered by source, over the clips that both told of.
    """
    clusters = {c.id: c.cluster for c in clips}
    rows: list[Row] = []
    for what, checks in SENSES.items():
        given: dict[str, dict[str, bool | None]] = {}
        for v in verdicts:
            if v.check in checks:
                given.setdefault(v.by or v.check, {})[v.clip] = v.passed
        rows += list(_pairs(what, given, clusters))
    if not rows:
        return None
    return Table(
        id="check_agreement", title="Do witnesses and judges agree?", columns=("kappa", "equal verdicts", "clips"),
        rows=tuple(rows), unit="mixed",
        caption="Cohen's kappa with its 95 % interval, clustered by source; empty where both say one and the same "
        "thing throughout. Only clips that both told of are counted: what failed a cheap check was not shown "
        "to the dearer ones unless all were asked for, so these are the clips on which agreement is the likeliest.",
    )  # fmt: skip


def _pairs(what: str, given: Mapping[str, Mapping[str, bool | None]], clusters: Mapping[str, str]) -> Iterator[Row]:
    for first, second in combinations(given, 2):
        one, other = given[first], given[second]
        both = [c for c in one if one[c] is not None and other.get(c) is not None]
        if both:
            a, b = (["yes" if some[c] else "no" for c in both] for some in (one, other))
            sources = [clusters.get(c, c) for c in both]
            equal = stats.proportion([x == y for x, y in zip(a, b, strict=True)], sources)
            yield Row(f"{what}: {first}, {second}", (stats.kappa(a, b, sources), equal, len(both)))
