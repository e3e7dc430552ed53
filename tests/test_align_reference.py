"""References are made once: by a model that is given the sound alone, or from the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from earwitness import foley, interventions
from earwitness.align import reference, rewards, tags
from earwitness.align.embedding import word_similarity
from earwitness.records import Answer, ClipSet, Intervention, Item, Media, Pair, View

if TYPE_CHECKING:
    from earwitness.models.qwen_omni import QwenOmni

MUTE = Intervention(kind="mute")


@pytest.fixture(scope="module")
def clips() -> ClipSet:
    return foley.clip_set(3, seed=3)


def pair(
    clips: ClipSet, n: int, iv: Intervention | None = None, *, chosen: str = "bell", name: str = "", **kw: Any
) -> Pair:
    iv, clip = iv or Intervention(), clips.clips[n]
    base: dict[str, Any] = {
        "prompt": "Which class is heard?",
        "heard": () if iv.kind == "mute" else clip.heard,
    } | kw
    item = Item(
        id=f"{clip.id}-{iv.key}", protocol="mma", condition=iv.kind, question="audio", clip=clip.id,
        source=clip.cluster, group=clip.id, intervention=iv, choices=("bell", "drum"), target="bell", **base,
    )  # fmt: skip
    return Pair(id=name or f"p{n}-{iv.key}", item=item, chosen=chosen, part="mma")


class Ear:
    """An audio model that notes what it is asked and given."""

    name, revision, view = "ear", "1", View(size=(112, 112))

    def __init__(self, says: Callable[[Item], str | None] | None = None, *, streams: bool = False) -> None:
        self.abilities = frozenset({"generates", "logprobs"} | ({"streams"} if streams else set()))
        self.says = says or (lambda item: f"<a-think>I hear {item.clip}.</a-think>")
        self.asked: list[tuple[Item, Media]] = []

    def _one(self, item: Item, media: Media) -> Answer:
        self.asked.append((item, media))
        text = self.says(item)
        return Answer(item=item.id, model="ear", text=text, error=None if text else "out of memory")

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        return [self._one(i, m) for i, m in zip(items, media, strict=True)]

    def stream(self, pairs: Iterable[tuple[Item, Media]]) -> Iterator[Answer]:
        yield from reversed([self._one(i, m) for i, m in pairs])


@pytest.mark.parametrize("streams", [False, True])
def test_the_model_is_given_the_sound_alone(clips: ClipSet, tmp_path: Path, streams: bool) -> None:
    ear = Ear(streams=streams)
    pairs = [pair(clips, 0), pair(clips, 0, MUTE), pair(clips, 1)]
    made = reference.make(pairs, ear, clips, tmp_path)
    assert [p.reference for p in made.pairs] == [f"I hear {p.item.clip}." for p in pairs]
    assert [msgspec.structs.replace(p, reference="") for p in made.pairs] == pairs, "nothing else is changed"
    assert made.failed == {}
    assert len(ear.asked) == 3
    for item, media in ear.asked:
        assert media.frames is None
        assert media.times is None
        assert media.wave is not None
        original = clips.media(next(c for c in clips.clips if c.id == item.clip), ear.view)
        np.testing.assert_array_equal(media.wave, interventions.apply(original, item.intervention).wave)
    muted = next(m for i, m in ear.asked if i.intervention == MUTE)
    assert not np.any(muted.wave), "muted is silence, not a missing track"


def test_the_prompt_is_the_paper_s_with_question_and_truth(clips: ClipSet, tmp_path: Path) -> None:
    ear = Ear()
    question = "Which? Options: {bell, drum}."
    tagged = pair(
        clips,
        0,
        chosen=tags.written("I hear a bell.", "I see a drum.", "bell"),
        prompt=tags.policy_prompt(question),
    )
    reference.make([tagged], ear, clips, tmp_path)
    item = ear.asked[0][0]
    assert item.prompt == (
        'You are an assistant to help with hearing. Here is the answer "bell" to the question "Which? Options: '
        '{bell, drum}.". And your task is: Reasoning what you hear that is useful for answering the question in '
        "<a-think></a-think>. The output format should be as follows: <a-think>...</a-think>"
    )
    assert (item.choices, item.target, item.decode) == ((), None, 256), "nothing to score, and room to think"


def test_what_was_made_is_not_made_again(clips: ClipSet, tmp_path: Path) -> None:
    pairs = [pair(clips, n) for n in range(3)]
    first = reference.make(pairs[:2], Ear(), clips, tmp_path)
    with (tmp_path / "answers.jsonl").open("ab") as f:
        f.write(b'{"item":"torn')  # killed while writing
    ear = Ear()
    again = reference.make(pairs, ear, clips, tmp_path)
    assert [i.clip for i, _ in ear.asked] == [pairs[2].item.clip]
    assert again.pairs[:2] == first.pairs
    changed = msgspec.structs.replace(pairs[0], chosen="drum")
    reference.make([changed], ear, clips, tmp_path)
    assert len(ear.asked) == 2, "another truth is another question"
    other = Ear()
    other.name = "another ear"
    reference.make(pairs, other, clips, tmp_path)
    assert len(other.asked) == 3, "another model is asked itself"


def test_pairs_with_one_question_share_one_reference(clips: ClipSet, tmp_path: Path) -> None:
    ear = Ear()
    made = reference.make([pair(clips, 0, name=f"p{n}") for n in range(5)], ear, clips, tmp_path)
    assert len(ear.asked) == 1
    assert len({p.reference for p in made.pairs}) == 1


def test_failures_are_named_and_left_empty(clips: ClipSet, tmp_path: Path) -> None:
    says: dict[str, str | None] = {
        "bell": "<a-think> I hear a bell. </a-think>",
        "open": "Sure. <a-think>I hear a bell and",
        "twice": "<a-think>a</a-think><a-think>b</a-think>",
        "blank": "<a-think> </a-think>",
        "bare": "  I hear a bell.\n",
        "broken": None,
        "empty": "   ",
    }
    ear = Ear(lambda item: next(text for word, text in says.items() if f'answer "{word}"' in item.prompt))
    pairs = [pair(clips, 0, chosen=word, name=word) for word in says]
    pairs.append(pair(clips, 1, Intervention(kind="no_track"), name="no_track"))
    made = reference.make(pairs, ear, clips, tmp_path)
    got = {p.id: p.reference for p in made.pairs}
    assert {k: v for k, v in got.items() if v} == {"bell": "I hear a bell.", "bare": "I hear a bell."}
    assert set(made.failed) == {"open", "twice", "blank", "broken", "empty", "no_track"}
    assert "cut off" in made.failed["open"]
    assert made.failed["broken"] == "out of memory"
    assert made.failed["no_track"] == "there is no sound track to reason about"
    assert all(media.wave is not None for _, media in ear.asked), "without a sound nobody is asked"
    rows = [rewards.Row(p.item, tags.written("I hear a bell.", "x", "bell"), p.reference) for p in made.pairs]
    assert rewards.arr(rows, word_similarity) == [1.0 if got[p.id] else None for p in made.pairs]


def test_failures_are_asked_again_when_told(clips: ClipSet, tmp_path: Path) -> None:
    pairs = [pair(clips, 0), pair(clips, 1)]
    first = reference.make(pairs, Ear(lambda item: None), clips, tmp_path)
    assert len(first.failed) == 2
    ear = Ear()
    assert len(reference.make(pairs, ear, clips, tmp_path).failed) == 2
    assert not ear.asked
    made = reference.make(pairs, ear, clips, tmp_path, retry_failed=True)
    assert made.failed == {}
    assert all(p.reference for p in made.pairs)


def test_a_model_that_loses_answers_is_a_failure(clips: ClipSet, tmp_path: Path) -> None:
    class Short(Ear):
        def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
            return []

    made = reference.make([pair(clips, 0)], Short(), clips, tmp_path)
    assert "0 answers to 1 items" in made.failed[pair(clips, 0).id]


def test_a_pair_without_an_answer_is_refused(clips: ClipSet, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no answer to tell"):
        reference.make([pair(clips, 0, chosen="<a-think>bell</a-think>")], Ear(), clips, tmp_path)


def test_the_truth_is_a_sentence_about_what_is_heard(clips: ClipSet) -> None:
    item = pair(clips, 0).item
    assert reference.truth(msgspec.structs.replace(item, heard=("bell",))) == "I hear a bell."
    two = msgspec.structs.replace(item, heard=("acoustic_guitar", "bell"))
    assert reference.truth(two) == "I hear an acoustic guitar and a bell."
    assert reference.truth(pair(clips, 0, MUTE).item) == "I hear no sound."
    made = reference.with_truth([pair(clips, 0), pair(clips, 0, MUTE)])
    assert [p.reference for p in made] == [reference.truth(p.item) for p in made]
    alike = word_similarity(["I hear a bell.", "I hear no sound."], ["I hear a drum.", "I hear a bell."])
    assert max(alike) < rewards.OMEGA


def test_a_thinker_is_fed_the_sound_alone(shared: QwenOmni, clips: ClipSet, tmp_path: Path) -> None:
    """Both Qwen families, random weights: the receipts say that no frame went in."""
    from earwitness import run as runs

    reference.make([pair(clips, 0, prompt="What?")], shared, clips, tmp_path)
    (answer,) = runs.read_answers(tmp_path).values()
    assert answer.fed is not None, answer.error
    assert answer.fed.frames is None
    assert not answer.fed.video_tokens
    assert answer.fed.audio_tokens
