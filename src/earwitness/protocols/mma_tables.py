"""MMA-Bench's tables: accuracy by condition and question, whom it follows, what leaks, what abstains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Literal

import msgspec

from earwitness.protocols.cells import (
    COUNTS,
    Hit,
    alike,
    baseline,
    counts,
    holm,
    is_label,
    most_common,
    paired,
    right,
    share,
)
from earwitness.questions import clean, parse_choice
from earwitness.records import NONE_OF_THE_ABOVE, Estimate, Item, Judged, Row, Table
from earwitness.scoring import UNSCORED

ORDER = (
    "aligned", "found", "sham", "audio_swapped", "misleading_caption", "long_context", "frames_zeroed",
    "audio_removed",
)  # fmt: skip
QUESTIONS = ("visual", "audio")
STYLE_BASELINE = ("aligned", "frames_zeroed", "audio_removed")
MARGIN = 0.1  # points of a share within which two conditions count as the same
GONE = {"frames_zeroed": "visual", "audio_removed": "audio"}  # condition -> the modality that is not there


def _where(judged: Sequence[Judged], **fields: str) -> list[Judged]:
    get, wanted = attrgetter(*fields), tuple(fields.values())
    only = wanted[0] if len(wanted) == 1 else wanted  # as attrgetter gives them
    return [j for j in judged if get(j.item) == only]


def _words(condition: str) -> str:
    return condition.replace("_", " ")


def tables(judged: Sequence[Judged]) -> list[Table]:
    """All tables that the answers allow; conditions that were not run are left out, not filled in."""
    judged = [j for j in judged if j.item.protocol == "mma"]
    standard = _where(judged, style="standard")
    made = [
        _accuracy(standard),
        _differences(standard),
        _follow(judged),
        _ignores(standard),
        _leaks(judged),
        _captions(standard),
        _styles(judged),
        _noise(standard),
    ]
    return [t for t in made if t is not None and t.rows]


def _accuracy_row(label: str, judged: Sequence[Judged], kind: str = "model") -> Row:
    cells = tuple(
        share([j for j in judged if j.item.question == q and j.item.target is not None]) for q in QUESTIONS
    )
    asked = [j for j in judged if j.item.target is not None]
    return Row(label, (*cells, *counts(asked)), kind)  # type: ignore[arg-type]


def _rules(judged: Sequence[Judged]) -> dict[str, Callable[[Item], str | None]]:
    """Prior-only answerers: the seen class, the heard class, the commonest right option of the untouched clips."""
    natural = [j for j in judged if j.item.condition in ("aligned", "found")] or list(judged)
    common = {q: most_common([j for j in natural if j.item.question == q]) for q in QUESTIONS}

    def first(names: tuple[str, ...]) -> str | None:
        return names[0] if names else None

    return {
        "always what is seen": lambda item: first(item.seen),
        "most common option": lambda item: common.get(item.question),
    }


def _accuracy(judged: Sequence[Judged]) -> Table:
    rows = []
    for condition in ORDER:
        some = _where(judged, condition=condition)
        if any(j.item.target is not None for j in some):
            rows.append(_accuracy_row(_words(condition), some))
    for name, rule in _rules(judged).items():
        for condition in ORDER:
            some = _where(judged, condition=condition)
            if condition in ("aligned", "audio_swapped") and some:
                rows.append(_accuracy_row(f"{name}, {_words(condition)}", baseline(some, rule), "baseline"))
    return Table(
        id="mma_accuracy",
        title="Accuracy by condition and question",
        caption=(
            "Share of right answers to what is seen and what is heard (MMA-Bench, Tables 3 to 5). Where a "
            "modality is "
            "gone, only the question about the other one has a right answer. Lowest and highest: both questions "
            "together, had all unscored answers been wrong, or right."
        ),
        columns=("visual question", "audio question", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )


def _twin(item: Item) -> tuple[object, ...]:
    return (item.clip, item.question, item.style, item.seed)


def _differences(judged: Sequence[Judged]) -> Table:
    natural = _where(judged, condition="aligned")
    found: list[tuple[str, list[Estimate | None]]] = []
    for condition in ORDER[2:]:
        some = [j for j in _where(judged, condition=condition) if j.item.target is not None]
        if some and natural:
            cells = [paired(_where(some, question=q), natural, _twin) for q in QUESTIONS]
            found.append((_words(condition), cells))
    ps = iter(holm([e for _, cells in found for e in cells]))
    rows = tuple(Row(label, tuple(c for e in cells for c in (e, next(ps)))) for label, cells in found)
    return Table(
        id="mma_differences",
        title="What each condition costs",
        caption=(
            "Accuracy minus that of the aligned clip, paired by clip, question and option order. p: adjusted for "
            "testing all conditions (Holm); empty below ten clips."
        ),
        columns=("visual question", "p (visual)", "audio question", "p (audio)"),
        rows=rows,
        unit="mixed",
    )


def _names(pool: Callable[[Item], tuple[str, ...]]) -> Hit:
    def hit(j: Judged) -> bool | None:
        if j.score.label in UNSCORED:
            return None
        return clean(j.score.label) in {clean(n) for n in pool(j.item)}

    return hit


_seen, _heard = _names(lambda i: i.seen), _names(lambda i: i.heard)


def _neither(j: Judged) -> bool | None:
    a, b = _seen(j), _heard(j)
    return None if a is None or b is None else not (a or b)


def _follow(judged: Sequence[Judged]) -> Table:
    swapped = _where(judged, condition="audio_swapped")
    rows = []
    for style in ("standard", "cot"):
        for question in QUESTIONS:
            some = _where(swapped, style=style, question=question)
            if some:
                label = f"{question} question" + ("" if style == "standard" else ", step by step")
                shares = (share(some, _seen), share(some, _heard), share(some, _neither))
                rows.append(Row(label, (*shares, *counts(some)[:4])))
    for name, rule in _rules(_where(judged, style="standard")).items():
        some = baseline(_where(swapped, style="standard", question="audio"), rule)
        if some:
            shares = (share(some, _seen), share(some, _heard), share(some, _neither))
            rows.append(Row(f"audio question, {name}", (*shares, *counts(some)[:4]), "baseline"))
    return Table(
        id="mma_follow",
        title="Whom does it follow when the sound is another clip's?",
        caption=(
            "Share of answers that name the class that is seen, the class that is heard, or a third one. "
            "A model that "
            "uses the modality it is asked about follows the picture in the first row and the sound in the second."
        ),
        columns=("follows the picture", "follows the sound", "other", *COUNTS[:4]),
        rows=tuple(rows),
        unit="mixed",
    )


def _ignores(judged: Sequence[Judged]) -> Table:
    """Equivalence: does the answer to "what do you hear" stay with the picture, whatever becomes of the sound?"""
    asked = [j for j in _where(judged, question="audio") if j.item.seen]
    natural = _where(asked, condition="aligned")
    rows = []
    for condition in ("audio_swapped", "audio_removed"):
        some = _where(asked, condition=condition)
        gap = alike(some, natural, _twin, MARGIN, _seen)
        if gap is not None:
            cells = (share(natural, _seen), share(some, _seen), gap, gap.p, *counts(some)[:4])
            rows.append(Row(_words(condition), cells))
    return Table(
        id="mma_ignores",
        title="Does it ignore the sound?",
        caption=(
            "Asked what it hears, how often it names what is seen, before and after the sound is replaced or "
            f"muted. A small p shows that the share stays the same to within {MARGIN * 100:.0f} points (two "
            "one-sided tests; the difference stands with its 90 % interval): the sound is ignored. A large p shows "
            "nothing. Fewer than about 27 independent clips cannot show it."
        ),
        columns=("untouched", "changed", "difference", "p", *COUNTS[:4]),
        rows=tuple(rows),
        unit="mixed",
    )


def abstaining(j: Judged) -> Judged:
    """The answer, labelled "None of the above" where it says so though it was not offered.

    Scoring calls that a refusal, for it names no option. Here it is an outcome of its own: a model that was taught
    to abstain does so unasked, and has said what it found.
    """
    item, text = j.item, j.answer.text
    if j.score.label not in UNSCORED or j.answer.error is not None or not text or not item.choices:
        return j
    asked: Literal["visual", "audio"] = "visual" if item.question == "visual" else "audio"
    options = (*(c for c in item.choices if clean(c) != clean(NONE_OF_THE_ABOVE)), NONE_OF_THE_ABOVE)
    if parse_choice(text, options, modality=asked, reasoned=item.style == "cot") != NONE_OF_THE_ABOVE:
        return j
    return Judged(item, j.answer, msgspec.structs.replace(j.score, label=NONE_OF_THE_ABOVE))


def _leaks(judged: Sequence[Judged]) -> Table:
    rows = []
    for condition, gone in GONE.items():
        for style in ("standard", "abstention"):
            some = [abstaining(j) for j in _where(judged, condition=condition, question=gone, style=style)]
            if not some:
                continue
            leak = _heard if gone == "visual" else _seen
            known = [j for j in some if (j.item.heard if gone == "visual" else j.item.seen)]
            chance = sum(1 / len(j.item.choices) for j in some) / len(some)
            abstains = share(some, is_label(NONE_OF_THE_ABOVE))
            label = f"{_words(condition)}, {gone} question" + (", may abstain" if style == "abstention" else "")
            rows.append(Row(label, (share(known, leak), chance, abstains, *counts(some)[:4])))
    silent = _where(judged, condition="audio_removed", question="audio", style="standard")
    for name, rule in _rules(_where(judged, style="standard")).items():
        some = [j for j in baseline(silent, rule) if j.item.seen]
        if some:
            chance = sum(1 / len(j.item.choices) for j in some) / len(some)
            cells = (share(some, _seen), chance, None, *counts(some)[:4])
            rows.append(Row(f"audio removed, audio question, {name}", cells, "baseline"))
    return Table(
        id="mma_leaks",
        title="What it names where there is nothing to name",
        caption=(
            "The asked modality is black or silent. Leak: the answer is the class of the other modality; "
            "chance: one option in K. Abstains: says “None of the above”, or that there is nothing to be seen or "
            "heard. In the rows with “may abstain” that is an option (MMA-Bench, Appendix J); in the others it is "
            "not, and who says so all the same abstains, which is no leak. “I cannot tell” is refused."
        ),
        columns=("leak", "chance", "abstains", *COUNTS[:4]),
        rows=tuple(rows),
        unit="mixed",
    )


def _captions(judged: Sequence[Judged]) -> Table:
    def believes(j: Judged) -> bool | None:
        if j.score.label in UNSCORED or j.item.asked is None:
            return None
        return clean(j.score.label) == clean(j.item.asked)

    some = _where(judged, condition="misleading_caption")
    rows = [
        Row(f"{q} question", (share(asked, believes), share(asked, right), *counts(asked)[:4]))
        for q in QUESTIONS
        if (asked := _where(some, question=q))
    ]
    told = baseline(_where(some, question="audio"), lambda item: item.asked)
    if told:
        rows.append(
            Row(
                "always what the caption says",
                (share(told, believes), share(told, right), *counts(told)[:4]),
                "baseline",
            )
        )
    return Table(
        id="mma_captions",
        title="Does it repeat a false caption?",
        caption="The prompt begins with a caption that is neither seen nor heard (MMA-Bench, Figure 20).",
        columns=("names the false class", "right", *COUNTS[:4]),
        rows=tuple(rows),
        unit="mixed",
    )


def _styles(judged: Sequence[Judged]) -> Table:
    rows = []
    for style, words in (("abstention", "may abstain"), ("cot", "step by step")):
        for condition in ORDER:
            some = [j for j in _where(judged, style=style, condition=condition) if j.item.target is not None]
            if some:
                rows.append(_accuracy_row(f"{_words(condition)}, {words}", some))
    for condition in STYLE_BASELINE:
        some = [j for j in _where(judged, style="abstention", condition=condition) if j.item.target is not None]
        if some:
            row = _accuracy_row(
                f"always none of the above, {_words(condition)}",
                baseline(some, lambda _: NONE_OF_THE_ABOVE),
                "baseline",
            )
            rows.append(row)
    return Table(
        id="mma_styles",
        title="The same, allowed to abstain or to think aloud",
        caption="Accuracy in the abstention and step-by-step styles (MMA-Bench, Tables 10 and 11).",
        columns=("visual question", "audio question", *COUNTS),
        rows=tuple(rows),
        unit="mixed",
    )


def _noise(judged: Sequence[Judged]) -> Table:
    plain = {_twin(j.item): j for j in judged if j.item.condition in ("aligned", "found")}
    rows = []
    for question in QUESTIONS:
        some = [j for j in _where(judged, condition="sham", question=question) if _twin(j.item) in plain]
        if some:

            def changed(j: Judged) -> bool | None:
                twin = plain[_twin(j.item)]
                if j.score.label == "ERROR" or twin.score.label == "ERROR":
                    return None
                return j.score.label != twin.score.label

            rows.append(Row(f"{question} question", (share(some, changed), *counts(some)[:4])))
    return Table(
        id="mma_noise",
        title="Noise floor",
        caption="Share of answers that change when the clip is only rendered again. No effect below this is one.",
        columns=("answer changed", *COUNTS[:4]),
        rows=tuple(rows),
        unit="mixed",
    )
