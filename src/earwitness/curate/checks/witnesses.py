"""What does someone else hear and see? A tagger and a picture classifier, as witnesses to a clip's labels.

A witness knows nothing of the label. It gives a score to each of its own labels; then the clip's label is looked up
among them. Both sides are brought to classes first (:mod:`earwitness.curate.checks.witnesses_labels`), a class
being as probable as the likeliest (sound: labels overlap) or the sum (pictures: labels exclude each other) of its
labels. A clip passes where its class is among the first ``first`` of all classes the witness knows *and* has a
score of at least ``least``. A label that the witness does not know gives no verdict, and says so.

Names, as on the command line:

==========================  ======================================================================================
``yamnet``                  YAMNet, 521 AudioSet classes; hears. Weights: ``witnesses_fetch``
``efficientnet``            EfficientNet-lite0, 1000 ImageNet classes; sees. Weights: ``witnesses_fetch``
``transformers:PATH-OR-ID``  any checkpoint for audio classification (hears), image classification, or CLIP (sees)
==========================  ======================================================================================

Functions: ``open_tagger``, ``open_classifier``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from earwitness.curate.checks import witnesses_labels as meaning
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.classes import ClassTable
from earwitness.records import Clip, Frames, Media, Wave

Scores = NDArray[np.float32]
TAGGERS = "yamnet, transformers:PATH-OR-HUB-ID"
CLASSIFIERS = "efficientnet, transformers:PATH-OR-HUB-ID"
LOCAL = ("torch", "torchvision", "transformers", "safetensors", "tokenizers")
FRAMES = 16  # of a clip that are shown to a classifier, evenly spaced: more do not change a mean by much


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """What a clip's class must reach: be among the ``first`` classes, with a score of at least ``least``."""

    first: int
    least: float


# Measured limits: docs/checks_gates.md.
HEARD = Bar(first=3, least=0.1)
SEEN = Bar(first=3, least=0.1)


@dataclass(frozen=True, eq=False)
class Tagger:
    """A witness that hears. ``score``: wave [channels, samples] and its rate -> [windows, labels] in [0, 1]."""

    id: str
    labels: tuple[str, ...]
    score: Callable[[Wave, int], Scores]
    topics: tuple[str, ...]  # beside the labels: the class each one means, a node, or ""
    table: ClassTable
    given: Mapping[str, str] = field(default_factory=dict)
    bar: Bar = HEARD

    def hear(self, wave: Wave, rate: int) -> Scores:
        """A score in [0, 1] for each label: the highest of any moment: a short sound counts as a long one."""
        scores: Scores = self.moments(wave, rate).max(axis=0)
        return scores

    def moments(self, wave: Wave, rate: int) -> Scores:
        """Scores [windows, labels] along the wave; their mean says how much of the time a sound is there."""
        return self.score(wave, rate)

    def verdict(self, clip: Clip, media: Media, scores: Scores | None = None) -> Verdict:
        """Is the clip's first audible class among what is heard? ``scores``: of ``hear``, where they are there.

        No verdict (``passed`` None) where the clip is labelled as without sound, has no sound track, or its label
        is none that the witness knows.
        """
        return _verdict(self, "tagger", clip, clip.heard, media.wave is not None, "sound", lambda: (
            scores if scores is not None else self.hear(_there(media.wave), media.rate)
        ))  # fmt: skip

    def by_topic(self, scores: Scores) -> dict[str, float]:
        """The score of each class: that of its likeliest label (AudioSet's labels overlap and stand in trees)."""
        out: dict[str, float] = {}
        for topic, places in self.places.items():
            out[topic] = float(scores[places].max())
        return out

    @cached_property
    def places(self) -> Mapping[str, list[int]]:
        """Which labels a class has."""
        return _places(self.topics)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A witness that sees. ``score``: frames uint8 [time, height, width, 3] -> [time, labels] in [0, 1]."""

    id: str
    labels: tuple[str, ...]
    score: Callable[[Frames], Scores]
    topics: tuple[str, ...]
    table: ClassTable
    given: Mapping[str, str] = field(default_factory=dict)
    bar: Bar = SEEN

    def see(self, frames: Frames) -> Scores:
        """A score in [0, 1] for each label: the mean over (at most 16) frames."""
        scores: Scores = self.moments(frames).mean(axis=0, dtype=np.float32)
        return scores

    def moments(self, frames: Frames) -> Scores:
        """Scores [time, labels] of at most 16 evenly spaced frames."""
        if not len(frames):
            raise ValueError("no frames to see (a clip without pictures?)")
        shown = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), FRAMES)).round().astype(int))
        return self.score(frames[shown])

    def verdict(self, clip: Clip, media: Media, scores: Scores | None = None) -> Verdict:
        """Is the clip's first visible class among what is seen? ``scores``: of ``see``, where they are there.

        No verdict (``passed`` None) where the clip is labelled as showing nothing, has no pictures, or its label is
        none that the witness knows.
        """
        return _verdict(self, "classifier", clip, clip.seen, media.frames is not None, "pictures", lambda: (
            scores if scores is not None else self.see(_shown(media.frames))
        ))  # fmt: skip

    def by_topic(self, scores: Scores) -> dict[str, float]:
        """The score of each class: the sum over its labels (they exclude each other, and share one)."""
        out: dict[str, float] = {}
        for topic, places in self.places.items():
            out[topic] = min(1.0, float(scores[places].sum()))
        return out

    @cached_property
    def places(self) -> Mapping[str, list[int]]:
        """Which labels a class has."""
        return _places(self.topics)


def _there(wave: Wave | None) -> Wave:
    assert wave is not None
    return wave


def _shown(frames: Frames | None) -> Frames:
    assert frames is not None
    return frames


def _places(topics: Sequence[str]) -> dict[str, list[int]]:
    out: dict[str, list[int]] = defaultdict(list)
    for index, topic in enumerate(topics):
        if topic:
            out[topic].append(index)
    return dict(out)


def _verdict(
    witness: Tagger | Classifier, check: str, clip: Clip, labels: Sequence[str], there: bool, track: str,
    scores: Callable[[], Scores],
) -> Verdict:  # fmt: skip
    """The clip's class held against all that the witness knows."""

    def none(why: str) -> Verdict:
        return Verdict(clip=clip.id, check=check, passed=None, why=why, by=witness.id)

    if not labels:
        return none(f"the label names nothing {'audible' if check == 'tagger' else 'visible'}")
    if not there:
        return none(f"no {track}")
    topic = meaning.topic(labels[0], witness.table, witness.given)
    if not topic:
        return none(f"{labels[0]!r} is in no class and no node of the ontology (map it: label,name)")
    if topic not in witness.places:
        return none(f"{witness.id} has no label that means {topic}")
    found = witness.by_topic(scores())
    # Nodes in no class ("Animal", "Music", "Inside, small room") stand above or beside the classes: no rivals.
    among = set(witness.table.classes)
    rivals = {t: s for t, s in found.items() if t in among or t == topic} if topic in among else found
    place = 1 + sum(s > found[topic] for t, s in rivals.items() if t != topic)
    passed = place <= witness.bar.first and found[topic] >= witness.bar.least
    best = max(rivals, key=lambda t: rivals[t])
    said = f"{topic} is number {place} of {len(rivals)} at {found[topic]:.2f}"
    if best != topic:
        said += f", after {best} at {rivals[best]:.2f}"
    if place > witness.bar.first:
        said += f"; the limit is number {witness.bar.first}"
    elif not passed:
        said += f"; the limit is {witness.bar.least:g}"
    return Verdict(
        clip=clip.id, check=check, passed=passed, value=round(found[topic], 4), limit=witness.bar.least,
        unit="probability", why=said, by=witness.id,
    )  # fmt: skip


# ---------------------------------------------------------------- by name


def open_tagger(
    name: str, *, device: str = "cpu", folder: Path | None = None, given: Mapping[str, str] | None = None,
    table: ClassTable | None = None, bar: Bar = HEARD,
) -> Tagger:  # fmt: skip
    """The tagger of that name.

    Parameters
    ----------
    device : "cpu", "cuda" ...
    folder : where the built-in weights lie; default: ``witnesses_fetch.home()``.
    given : your decisions on labels, label in lower case -> class or node name ("" = none).
    table : the class file; default: the package's own.
    bar : what a clip's class must reach.

    Raises
    ------
    ValueError
        For an unknown name, weights that are not there (with the command that brings them), a checkpoint of another
        kind, a missing package.
    """
    table, given = table or meaning.own_table(), given or {}
    kind, rest = _named(name, TAGGERS, "a tagger")
    with _Needing(name):
        if kind == "yamnet":
            from earwitness.curate.checks import witnesses_fetch, yamnet

            score, pairs = yamnet.load(witnesses_fetch.weights("yamnet", folder), device)
            labels = tuple(n for _, n in pairs)
            topics = meaning.topics(labels, table, [i for i, _ in pairs])
            return Tagger("yamnet", labels, score, topics, table, given, bar)
        if kind == "transformers":
            from earwitness.curate.checks import witnesses_hub

            heard = witnesses_hub.load_tagger(rest, device)
            topics = meaning.topics(heard.labels, table, given=given)
            return Tagger(f"{name}@{heard.revision}", heard.labels, heard.score, topics, table, given, bar)
    raise ValueError(f"{name!r} sees and does not hear; taggers: {TAGGERS}")


def open_classifier(
    name: str, *, labels: Sequence[str] = (), device: str = "cpu", folder: Path | None = None,
    given: Mapping[str, str] | None = None, table: ClassTable | None = None, bar: Bar = SEEN,
) -> Classifier:  # fmt: skip
    """The picture classifier of that name; ``labels`` are what a CLIP may choose from (default: the classes).

    Other parameters and what is raised: as :func:`open_tagger`.
    """
    table, given = table or meaning.own_table(), given or {}
    kind, rest = _named(name, CLASSIFIERS, "a picture classifier")
    with _Needing(name):
        if kind == "efficientnet":
            from earwitness.curate.checks import efficientnet, witnesses_fetch

            score = efficientnet.load(witnesses_fetch.weights("efficientnet", folder), device)
            names, topics = zip(*meaning.imagenet(), strict=True)
            return Classifier("efficientnet", names, score, topics, table, given, bar)
        if kind == "transformers":
            from earwitness.curate.checks import witnesses_hub

            seen = witnesses_hub.load_classifier(rest, tuple(labels) or table.classes, device)
            # A checkpoint's own thousand labels are ImageNet's; the file made by hand knows those best.
            own = [found for _, found in meaning.imagenet()]
            as_imagenet = not seen.free and len(seen.labels) == len(own) and _is_imagenet(seen.labels)
            topics = tuple(own) if as_imagenet else meaning.topics(seen.labels, table, given=given)
            return Classifier(f"{name}@{seen.revision}", seen.labels, seen.score, topics, table, given, bar)
    raise ValueError(f"{name!r} hears and does not see; classifiers: {CLASSIFIERS}")


def _is_imagenet(labels: Sequence[str]) -> bool:
    """Whether labels are ImageNet's in their usual order: a checkpoint may spell them with all their synonyms."""
    ours = [name.casefold() for name, _ in meaning.imagenet()]
    same = sum(
        name in [part.strip().casefold().replace("_", " ") for part in label.split(",")]
        for name, label in zip(ours, labels, strict=True)
    )
    return same >= 0.9 * len(ours)


def known(name: str, *, hears: bool) -> None:
    """Raise ValueError where there is no such tagger (``hears``) or picture classifier; opens nothing."""
    what, names = ("a tagger", TAGGERS) if hears else ("a picture classifier", CLASSIFIERS)
    kind, rest = _named(name, names, what)
    if rest.startswith((".", "/", "~")) and not Path(rest).expanduser().is_dir():  # else it may be a hub id
        raise ValueError(f"{name!r}: no folder {rest}")
    if kind == "efficientnet" and hears:
        raise ValueError(f"{name!r} sees and does not hear; taggers: {TAGGERS}")
    if kind == "yamnet" and not hears:
        raise ValueError(f"{name!r} hears and does not see; classifiers: {CLASSIFIERS}")


def _named(name: str, known: str, what: str) -> tuple[str, str]:
    kind, colon, rest = name.strip().partition(":")
    if kind == "transformers" and not rest:
        raise ValueError(f"{name!r} names no checkpoint: say transformers:PATH-OR-HUB-ID")
    if kind not in ("yamnet", "efficientnet", "transformers") or (colon and kind != "transformers"):
        raise ValueError(f"unknown witness {name!r}: {what} is {known.replace(', ', ' or ')}")
    return kind, rest


class _Needing:
    """Within: a package of [local] that is not there becomes an error that says how to get it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Nothing."""

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        """Say what to install."""
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in LOCAL:
            raise ValueError(
                f"{self.name} runs on this machine and needs {error.name}: pip install 'earwitness[local]'"
            ) from error
