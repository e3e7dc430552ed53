"""What would an ear alone make of it? The reference reasoning o_ref of RL-CoMM (arXiv 2511.10059, Table 2, eq. 3).

An audio language model is given the sound, the question and the right answer, and says what it hears that helps.
That depends on sound and truth, not on the policy in training: so it is made once, before training, and written
into the pairs (``Pair.reference``).

The reference model is any :class:`earwitness.models.Model`. It is asked with the sound only: media without frames.
The source samples (top-p 0.95, temperature 0.5); our models decode greedily, so that references can be made again.

Answers are kept in a folder as an audit's are (answers.jsonl: append-only, one writer, a torn last line is cut
off): what was asked is not asked again. What is asked is named by model, clip, intervention and prompt, which
holds the question and the truth: pairs that share them share one reference, and a pair that has changed is asked
anew.

A reference that could not be made (no sound track, a failed or cut-off answer) stays "" and is named. Such a row
has no audio-reasoning reward at all (None, see :mod:`earwitness.align.rewards`), not 0: a model is not to be
blamed for it.

``truth`` is the reference for models that cannot reason, such as Hans: an exact sentence about what is heard.

Functions: ``reference_prompt``, ``make``, ``truth``, ``with_truth``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from earwitness import run as runs
from earwitness.align.tags import answer_of, question_of
from earwitness.audit import Progress, ask
from earwitness.models import Model
from earwitness.questions import wording
from earwitness.records import Answer, ClipSet, Item, Media, Pair, digest

# RL-CoMM, Table 2, word for word.
REFERENCE = (
    'You are an assistant to help with hearing. Here is the answer "{truth}" to the question "{question}". And '
    "your task is: Reasoning what you hear that is useful for answering the question in <a-think></a-think>. The "
    "output format should be as follows: <a-think>...</a-think>"
)
DECODE = 256  # new tokens: as many as RL-CoMM's policy has

_THOUGHT = re.compile(r"<a-think>(.*?)</a-think>", re.S)
_TAG = re.compile(r"</?a-think>")


class Made(NamedTuple):
    """Pairs with their references, and why some have none: pair id -> reason."""

    pairs: list[Pair]
    failed: dict[str, str]


def reference_prompt(question: str, truth: str) -> str:
    """What the reference model is asked."""
    return REFERENCE.format(question=question, truth=truth)


class SoundOnly:
    """A model that is given no frames, whatever the media have."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name, self.revision, self.view = model.name, model.revision, model.view
        self.abilities = model.abilities & {"generates", "streams"}
        self._last: tuple[Media, Media] | None = None

    def _heard(self, media: Media) -> Media:
        # items on the same media share one object, with and without frames, so that a model encodes it once
        if self._last is None or self._last[0] is not media:
            self._last = media, media.with_frames(None)
        return self._last[1]

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """See :class:`earwitness.models.Model`."""
        heard = [(i, self._heard(m)) for i, m in zip(items, media, strict=True) if m.wave is not None]
        said = self._model.answer([i for i, _ in heard], [m for _, m in heard]) if heard else []
        if len(said) != len(heard):
            raise ValueError(f"the model returned {len(said)} answers to {len(heard)} items")
        rest = iter(said)
        return [self._none(i) if m.wave is None else next(rest) for i, m in zip(items, media, strict=True)]

    def stream(self, pairs: Iterable[tuple[Item, Media]]) -> Iterator[Answer]:
        """See :class:`earwitness.models.Model`."""
        without: list[Item] = []

        def heard() -> Iterator[tuple[Item, Media]]:
            for item, media in pairs:
                if media.wave is None:
                    without.append(item)
                else:
                    yield item, self._heard(media)

        yield from self._model.stream(heard())  # type: ignore[attr-defined]
        yield from map(self._none, without)

    def _none(self, item: Item) -> Answer:
        return Answer(item=item.id, model=self.name, error="there is no sound track to reason about")


def _asked(pair: Pair, model: Model) -> Item:
    """The item that asks for a pair's reference."""
    answer = answer_of(pair.chosen)
    if not answer:
        raise ValueError(f"pair {pair.id} has no answer to tell the reference model: {pair.chosen[:80]!r}")
    prompt = reference_prompt(question_of(pair.item.prompt), answer)  # without the words it may be filled with
    name = digest(model.name, model.revision, pair.item.clip, pair.item.intervention.key, prompt)
    return msgspec.structs.replace(
        pair.item, id=name, protocol="reference", condition="reference", question="reference", style="cot",
        prompt=prompt, filler=None, choices=(), target=None, absent=None, asked=None, decode=DECODE,
    )  # fmt: skip


def make(
    pairs: Sequence[Pair],
    model: Model,
    clips: ClipSet,
    folder: Path,
    *,
    progress: Progress | None = None,
    retry_failed: bool = False,
) -> Made:
    """Ask a model for the reference of each pair; pairs in their order, with what it said.

    The truth that it is told is the chosen answer (the part <answer>, where that is tagged): it is right by
    construction, and in words where the target is a label.

    Parameters
    ----------
    folder : where answers are kept; asked again with the same pairs, nothing is asked twice.
    retry_failed : ask again what failed before.

    Raises ValueError where a pair has no chosen answer, and RunError (one too) where another process writes to the
    folder, or it is damaged. Failures of single pairs are named in ``Made.failed``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    asked = {pair.id: _asked(pair, model) for pair in pairs}
    todo = {item.id: item for item in asked.values()}
    ask(SoundOnly(model), clips, list(todo.values()), folder, progress=progress, retry_failed=retry_failed)
    answers = runs.read_answers(folder)
    made, failed = [], {}
    for pair in pairs:
        text, why = read(answers[asked[pair.id].id])
        made.append(msgspec.structs.replace(pair, reference=text))
        if why:
            failed[pair.id] = why
    return Made(made, failed)


def read(answer: Answer) -> tuple[str, str]:
    """The reasoning in an answer, and why there is none (one of the two is "").

    The part <a-think>, once, closed. A model that leaves the tags away altogether is taken at its word; one that
    begins a tag and does not close it was cut off.
    """
    if answer.error is not None or answer.text is None or not answer.text.strip():
        return "", answer.error or "empty answer"
    found = _THOUGHT.findall(answer.text)
    if len(found) == 1 and len(_TAG.findall(answer.text)) == 2 and found[0].strip():
        return found[0].strip(), ""
    if _TAG.search(answer.text):
        return "", f"no <a-think>...</a-think> that is opened and closed once (cut off?): {answer.text[:80]!r}"
    return answer.text.strip(), ""


def truth(item: Item) -> str:
    """An exact sentence about what is heard after the intervention: "I hear a bell and a drum." """
    return wording("mute", "SOUND_DESCRIBED", heard=item.heard) if item.heard else "I hear no sound."


def with_truth(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs with ``truth`` as their reference."""
    return [msgspec.structs.replace(pair, reference=truth(pair.item)) for pair in pairs]
