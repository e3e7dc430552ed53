"""What can be had from the words alone: the answers' (length, a phrase, any words), and the prompt's.

A preference is meant to be decided by the sound. Where the chosen text is longer, has a phrase of its own or other
words than the rejected one, a model lowers its loss without listening; where the prompt announces what was done to
the clip, or its words go with one answer, it needs no clip at all.

All scorers are tried on source clips that they did not learn from (``lint_text``). Large sets are sampled by
source. A set that is balanced word by word scores below one half: take a clip out, and its words look rarer on its
own side.

Checks: ``length_bias``, ``fixed_phrase``, ``text_alone``, ``prompt_alone``, ``prompt_leak``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from earwitness.curate.lint import text as text
from earwitness.curate.lint.findings import ORDER, SOME, Finding, Verdict, certain, finding, idle, interval, spelled
from earwitness.curate.lint.rows import Material, Sample, closed, right, stem, types
from earwitness.questions import clean
from earwitness.records import Estimate, digest, how_many
from earwitness.stats import difference, proportion

CHANCE = 0.5
SEPARABLE = 0.6  # AUC: the working limit of this project for any shortcut through text
LONGER = 0.7  # AUC of length alone; a true description is often longer than a false one, so a little is allowed
GAIN = 0.05  # accuracy from the prompt above the commonest answer's
MOST = 6_000  # rows a scorer is tried on: the AUC is then known to about 0.01
PAIRS, SOURCES = 20, 10  # fewer pairs or source clips show nothing
PROMPTS = 20  # rows of one prompt from which on its own words are scored apart
MOST_CLASSES = 60
SETTLED = 0.9  # share of one answer among the prompts that announce something
TWICE, NAMED = 2.0, 5  # the right option named in the question: times chance, rows
# What was done to the clip, said as a fact. A question ("is there any delay?") and a condition ("if they are not
# ...") say nothing, and are left out.
_DONE = (
    r"mut(?:ed|ing)|silenced|replaced|removed|swapped|shifted|delayed|corrupted|altered|tampered|manipulated|misaligned"
    r"|mismatched|desynchroni[sz]ed|out of sync(?:h|hronization)?"
)
_STREAM = r"audio|sounds?|sound ?track|music|voice|instruments?|video|visuals?|picture|tracks?|clip"
_ANNOUNCED = re.compile(
    rf"\b(?:{_STREAM})\b[^.?!;\n]{{0,40}}\b(?:is|are|was|were|has been|have been|being)\s+(?:\w+ly )?"
    rf"(?:{_DONE})\b|\b(?:audio|sound|video|visual) corruption\b"
    rf"|\b(?:muted|corrupted|tampered|silenced|desynchroni[sz]ed|mismatched) (?:{_STREAM})\b"
    r"|\bthe (?:correct |right )?answer is\b(?!:?\s*$)"
)
_OPEN = re.compile(r"\b(?:whether|if|either|any|could|might|may|or not)\b")
_NUMBER = re.compile(r"\d+(?:[.:,]\d+)*")
_SENTENCE = re.compile(r"(?<=[.?!\n])\s+|\n+")


def _pairs(m: Material) -> list[Sample]:
    return [s for s in m.samples if s.rejected is not None and s.chosen is not None]


def _sampled(rows: list[Sample], most: int = MOST) -> list[Sample]:
    """Rows of as many whole sources as ``most`` rows hold, drawn by hash."""
    if len(rows) <= most:
        return rows
    sizes, kept, held = Counter(s.source for s in rows), set(), 0
    for source in sorted(sizes, key=lambda s: digest("lint", s)):
        if held >= most:
            break
        kept.add(source)
        held += sizes[source]
    return [s for s in rows if s.source in kept]


def _too_few(rows: Sequence[Sample], what: str) -> str | None:
    if not rows:
        return f"no {what}"
    sources = len({s.source for s in rows})
    if len(rows) < PAIRS or sources < SOURCES:
        return f"{len(rows)} {what} of {how_many(sources, 'source clip')}: too few ({PAIRS} of {SOURCES} at least)"
    return None


def _share(values: Sequence[float], rows: Sequence[Sample]) -> Estimate:
    found = proportion(values, [s.source for s in rows])
    assert found is not None
    return found


def length_bias(m: Material) -> Finding:
    """AUC of length alone: how often the chosen text is the longer one (in words, ties half)."""
    check = "length_bias"
    why = "preference training learns length before anything else: the model then talks more, and hears no better"
    rows = _pairs(m)
    if reason := _too_few(rows, "pairs of chosen and rejected"):
        return idle(check, reason, why)
    sizes = [(len((s.chosen or "").split()), len((s.rejected or "").split())) for s in rows]
    longer = _share([0.5 + 0.5 * ((a > b) - (a < b)) for a, b in sizes], rows)
    way = 1 if longer.value >= CHANCE else -1
    auc = longer if way > 0 else Estimate(1 - longer.value, 1 - longer.high, 1 - longer.low, *_rest(longer))
    ids = [s.id for s, (a, b) in zip(rows, sizes, strict=True) if (a - b) * way > 0]
    verdict = certain(auc, CHANCE, LONGER)
    if verdict == "warns" and auc.value < SEPARABLE:
        verdict = "fine"
    ours, theirs = np.mean(sizes, axis=0)
    return finding(
        check, verdict, ids, len(rows),
        f"chosen is {'longer' if way > 0 else 'shorter'} in {len(ids):,} of {how_many(len(rows), 'pair')} (mean "
        f"{ours:.1f} "
        f"against {theirs:.1f} words); AUC of length {spelled(auc)}", why, numbers=interval("auc", auc),
    )  # fmt: skip


def _rest(e: Estimate) -> tuple[int, int, str]:
    return e.n, e.clusters, e.method


def fixed_phrase(m: Material) -> Finding:
    """The one phrase (or beginning) that tells chosen from rejected in most pairs."""
    check = "fixed_phrase"
    why = "a phrase that stands on one side only is learned in a few steps; the loss is low then, without any media"
    rows = _sampled(_pairs(m))
    if reason := _too_few(rows, "pairs of chosen and rejected"):
        return idle(check, reason, why)
    fold = text.folds([s.source for s in rows], [s.task for s in rows])
    found = text.phrase([s.chosen or "" for s in rows], [s.rejected or "" for s in rows], fold)
    auc = _share(found.beaten, rows)
    ids = [s.id for s, marked in zip(rows, found.marked, strict=True) if marked]
    return finding(
        check, _leak(auc), ids, len(rows),
        f"{found.text!r} stands only in the {found.where} text of {len(ids):,} of {how_many(len(rows), 'pair')}; "
        "one "
        f"phrase gives an AUC of {spelled(auc)} on other clips", why, numbers=interval("auc", auc),
    )  # fmt: skip


def _leak(auc: Estimate) -> Verdict:
    """Fails at 0.6 and surely above chance; a sure but smaller leak warns; an unsure one is luck."""
    verdict = certain(auc, CHANCE, SEPARABLE)
    return "fine" if auc.low <= CHANCE and auc.value < SEPARABLE else verdict


def text_alone(m: Material) -> Finding:
    """Chosen against rejected by words, length and repetition, over all and under each common prompt."""
    check = "text_alone"
    why = "pairs that words alone decide teach a manner of speaking; the sound is never needed to lower the loss"
    rows = _sampled(_pairs(m))
    if reason := _too_few(rows, "pairs of chosen and rejected"):
        return idle(check, reason, why)
    texts = [t for s in rows for t in (s.chosen or "", s.rejected or "")]
    plain = sparse.csr_matrix(sparse.hstack([text.Words(texts).features(texts), _shape(texts)]))
    prompts = [_NUMBER.sub("#", clean(stem(s.prompt))) for s in rows]
    common = [p for p, n in Counter(prompts).most_common() if n >= PROMPTS]
    x = plain
    if len(common) > 1:  # the same words may be right to one prompt and wrong to another
        x = sparse.csr_matrix(sparse.hstack([plain, *(_under(plain, prompts, p) for p in common[:MOST_CLASSES])]))
    fold = text.folds([s.source for s in rows], [s.task for s in rows])
    number, hit = np.repeat(np.arange(len(rows)), 2), np.tile([True, False], len(rows))
    beaten = text.won(text.held_out(x, number, hit, fold), number, hit).beaten
    auc = _share(beaten, rows)
    verdict = _leak(auc)
    by = {}
    for prompt in common if len(common) > 1 else ():
        mine = [i for i, q in enumerate(prompts) if q == prompt]
        some = [rows[i] for i in mine]
        if _too_few(some, "pairs") is None:
            by[prompt] = _share([beaten[i] for i in mine], some)
    worst = max(by.items(), key=lambda item: item[1].value, default=None)
    says = f"their words put the chosen text first with an AUC of {spelled(auc)}, on clips it did not learn from"
    if worst is not None:
        says += f"; most under the prompt {worst[0][:60]!r}: {spelled(worst[1])}"
        if _leak(worst[1]) == "fails":  # the highest of several is higher by luck: its interval must hold too
            verdict = max(verdict, "fails" if worst[1].low >= SEPARABLE else "warns", key=ORDER.index)
    telling = [i for i, b in enumerate(beaten) if b > CHANCE]
    if worst is not None:
        telling.sort(key=lambda i: prompts[i] != worst[0])
    ids = [rows[i].id for i in telling]
    return finding(check, verdict, ids, len(rows), says, why, numbers=interval("auc", auc))


def _shape(texts: Sequence[str]) -> NDArray[np.float64]:
    """[texts, 3]: how long (log of words), how much of it is said twice, how much of it is numbers."""
    tokens = [text.words(t)[1:] for t in texts]
    return np.array(
        [
            (np.log1p(len(t)), 1 - len(set(t)) / max(1, len(t)), sum(w[0].isdigit() for w in t) / max(1, len(t)))
            for t in tokens
        ]
    )


def _under(x: sparse.csr_matrix, prompts: Sequence[str], prompt: str) -> sparse.csc_matrix:
    """The features of both texts of the rows with that prompt; of words that stand there twice at least."""
    mine = sparse.csc_matrix(sparse.diags(np.repeat([float(p == prompt) for p in prompts], 2)) @ x)
    return mine[:, np.asarray((mine != 0).sum(0)).ravel() > 1]


class _Guess(NamedTuple):
    """Rows whose right answer was guessed from their prompt: is the first guess right, and the score if binary."""

    rows: list[Sample]
    first: list[float]
    common: list[float]  # the same by the commonest answer
    auc: Estimate | None


def prompt_alone(m: Material) -> Finding:
    """Can the right answer be had from the prompt's words, better than by the commonest answer of its type?"""
    check = "prompt_alone"
    why = "an answer that follows from the question's words is learned, and tested, without the clip"
    rows = _sampled(closed(m))
    if reason := _too_few(rows, "rows with a closed answer"):
        return idle(check, reason, why)
    guesses = {name: g for name, some in types(rows).items() if (g := _guessed(some)) is not None}
    if not guesses:
        return idle(check, "every question type has one prompt, one answer, too many answers or too few rows", why)
    # One bad type is enough to fail, so each interval is widened for the number of types that are looked at.
    judged = {name: _judged(g, 1 - 0.05 / len(guesses)) for name, g in guesses.items()}
    verdict: Verdict = max((v for v, _, _ in judged.values()), key=ORDER.index)
    worst = max(judged, key=lambda name: (ORDER.index(judged[name][0]), judged[name][1]))
    _, _, numbers = judged[worst]
    g = guesses[worst]
    says = f"{worst}: " if len(types(rows)) > 1 else ""
    says += (
        f"{numbers['accuracy']:.2f} are right from the words, {numbers['commonest']:.2f} by the commonest answer"
    )
    if g.auc is not None:
        says += f"; AUC {spelled(g.auc)}"
    ids = [s.id for s, hit, base in zip(g.rows, g.first, g.common, strict=True) if hit > base]
    total = sum(len(some.rows) for some in guesses.values())
    return finding(check, verdict, ids, total, says, why, numbers=numbers, counts={"types": len(guesses)})


def _guessed(rows: list[Sample]) -> _Guess | None:
    if _too_few(rows, "rows") is not None:
        return None
    own = len({frozenset(s.options) for s in rows}) > 1 and all(s.place is not None for s in rows)
    return _by_option(rows) if own else _by_prompt(rows)


def _judged(g: _Guess, level: float) -> tuple[Verdict, float, dict[str, float]]:
    """Verdict, gain over the commonest answer, and the numbers."""
    clusters = [s.source for s in g.rows]
    first = _share(g.first, g.rows)
    gain = difference(g.first, g.common, clusters, level)
    assert gain is not None  # there are rows
    verdict: Verdict = "fine"
    if gain.low > 0:
        verdict = "fails" if gain.value >= GAIN else "warns"
    numbers = {**interval("accuracy", first), "commonest": float(np.mean(g.common)), **interval("gain", gain)}
    if g.auc is not None:
        numbers |= interval("auc", g.auc)
        verdict = max(verdict, _leak(g.auc), key=ORDER.index)
    return verdict, gain.value, numbers


def _by_prompt(rows: list[Sample]) -> _Guess | None:
    """Closed answers from the prompt's words: a conditional logit over the answers that there are."""
    golds = [right(s) for s in rows]
    classes = [g for g, _ in Counter(golds).most_common()]
    stems = [stem(s.prompt) for s in rows]
    if len(set(stems)) < 2 or not 1 < len(classes) <= MOST_CLASSES:
        return None
    x = text.Words(stems).features(stems)
    count, wide = len(rows), len(classes)
    with_bias = sparse.csr_matrix(sparse.hstack([x, np.ones((count, 1))]))
    # One block of weights for each class: candidate k of a row has the row's words in block k.
    order = np.arange(count * wide).reshape(wide, count).T.ravel()
    blocks = sparse.csr_matrix(sparse.kron(sparse.identity(wide), with_bias))[order]
    number = np.repeat(np.arange(count), wide)
    hit = np.array([c == g for g in golds for c in classes])
    fold = text.folds([s.source for s in rows], golds)
    score = text.held_out(blocks, number, hit, fold)
    auc = None
    if wide == 2:
        lead = score.reshape(count, 2)
        auc = text.auc(
            list(lead[:, 0] - lead[:, 1]), [g == classes[0] for g in golds], [s.source for s in rows], fold
        )
    return _Guess(rows, text.won(score, number, hit).first, _commonest(golds), auc)


def _by_option(rows: list[Sample]) -> _Guess | None:
    """The right one of a row's own options, by its words, place, length, and what it shares with the question."""
    options = [o for s in rows for o in s.options]
    words = text.Words(options).features(options)
    number = np.repeat(np.arange(len(rows)), [len(s.options) for s in rows])
    hit = np.array([i == s.place for s in rows for i in range(len(s.options))])
    shape = []
    for s in rows:
        asked = set(text.words(stem(s.prompt)))
        sizes = [len(o) for o in s.options]
        for i, o in enumerate(s.options):
            own = set(text.words(o)) - {text.START}
            place = [float(i == k) for k in range(8)]
            shape.append([*place, float(sizes[i] == max(sizes)), float(sizes[i] == min(sizes)),
                          len(own & asked) / max(1, len(own))])  # fmt: skip
    x = sparse.csr_matrix(sparse.hstack([words, np.array(shape)]))
    fold = text.folds([s.source for s in rows], [s.gold for s in rows])
    golds = [s.gold or "" for s in rows]
    first = text.won(text.held_out(x, number, hit, fold), number, hit).first
    return _Guess(rows, first, _commonest(golds), None)


def _commonest(golds: Sequence[str]) -> list[float]:
    """Right or wrong, for the answer that is right most often: the best that always the same can do."""
    top = Counter(golds).most_common(1)[0][0]
    return [float(g == top) for g in golds]


def announced(prompt: str) -> str | None:
    """The sentence of a prompt (options left out) that tells what was done to the clip, or the answer.

    >>> announced("In this video some instrument sound is muted. Is there a violin sound?")
    'in this video some instrument sound is muted.'
    >>> announced("Is there any noticeable audio delay in this clip?") is None
    True
    """
    for sentence in _SENTENCE.split(clean(stem(prompt))):
        if _ANNOUNCED.search(sentence) and not sentence.rstrip().endswith("?") and not _OPEN.search(sentence):
            return sentence.strip()
    return None


def prompt_leak(m: Material) -> Finding:
    """Prompts that announce what was done to the clip, and questions that name one option only: the right one."""
    check = "prompt_leak"
    why = "a prompt that says what was done to the sound tells the model what to answer, or what to doubt"
    if not m.samples:
        return idle(check, "labelled clips carry no prompts", why)
    told = {p: announced(p) for p in dict.fromkeys(s.prompt for s in m.samples)}
    leading = [s for s in m.samples if told[s.prompt]]
    named, naming = _named([s for s in m.samples if s.place is not None and len(s.options) > 1])
    chance = sum(1 / len(s.options) for s in naming)
    words = []
    verdict: Verdict = "fine"
    if leading:
        golds = Counter(s.gold for s in leading if s.gold is not None)
        share = max(golds.values(), default=1) / (sum(golds.values()) or 1)
        verdict = "fails" if share >= SETTLED and len(leading) >= SOME * len(m.samples) else "warns"
        words.append(
            f"{how_many(len(leading), 'prompt announces', 'prompts announce')} it ({told[leading[0].prompt]!r})"
        )
        if golds:
            words.append(f"the answer to them is {golds.most_common(1)[0][0]!r} in {share:.0%}")
    if len(named) > TWICE * chance and len(named) >= NAMED:
        words.append(
            f"{how_many(len(naming), 'question names one of its', 'questions name one of their')} options, "
            f"{len(named):,} the right one (by chance "
            f"{chance:.0f})"
        )
        often = len(named) >= SOME * len(m.samples)
        verdict = max(verdict, "fails" if often else "warns", key=ORDER.index)
    ids = [s.id for s in leading] or ([s.id for s in named] if verdict != "fine" else [])
    says = "; ".join(words) or "no prompt says what was done to the clip, or what is right"
    counts = {"announced": len(leading), "name an option": len(naming), "name the right one": len(named)}
    return finding(check, verdict, ids, len(m.samples), says, why, counts=counts)


def _named(rows: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Rows whose question names exactly one of their options: those where it is the right one, and all."""
    hits, every = [], []
    for s in rows:
        asked = f" {' '.join(text.words(stem(s.prompt)))} "
        named = [i for i, o in enumerate(s.options) if (own := text.words(o)[1:]) and f" {' '.join(own)} " in asked]
        if len(named) == 1:
            every.append(s)
            if named[0] == s.place:
                hits.append(s)
    return hits, every


CHECKS: Sequence[Callable[[Material], Finding]] = (length_bias, fixed_phrase, text_alone, prompt_alone, prompt_leak)
