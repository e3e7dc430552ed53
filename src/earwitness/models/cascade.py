"""``cascade:DIAL``: a sound tagger and a picture classifier as one Model, with a dial from listening to guessing.

What does an audit's figure mean? Here is a model whose grounding is known, on real pixels and real waves, in steps
that one can choose: asked what is heard, it answers from

    log p(c) = (1 - d) log p_ear(c) + d log p_eye(c)          d = 0 listens, d = 1 infers the sound from the picture

over the classes on offer and "nothing". The ear's part is the tagger's score of the class (the highest of its
labels) over the sum of all; where the wave is silent, "nothing" has 0.99. The eye's part is the classifier's,
alike; where the picture is black, "nothing" has 0.99. Asked what is seen, it always answers from the eye alone: the
dial turns one thing only. It learns nothing and draws nothing.

================  ===========================================================================================
asked             rule
================  ===========================================================================================
which class       the likeliest of the choices and "nothing" ("None of the above", offered or not)
is there an X     (1 - d) log (s_ear + f) / (0.1 + f) + d log (s_eye + f) / (0.1 + f) > 0, f = 0.001: the
                  witnesses' limit for "there" is a score of 0.1
describe sound    the likeliest of all classes it knows; silent where that is "nothing"
do they match     yes, where what the eye sees is heard: nothing else is more than ten times as likely to be heard
in step?          the lag l with the highest (1 - d) r(l) + d [l = 0]: r correlates the change of the picture
                  with that of the sound's level, and "in step" is what one expects who does not listen
================  ===========================================================================================

Each of these is monotone in d by construction, item by item: if it guesses at one dial, it guesses at every higher
one (a difference of log-probabilities is linear in d and favours the eye at d = 1). So figures that do not rise and
fall with the dial are the audit's fault: ``docs/starter.md`` shows that they do.

Black-box choices are also given with their log-probabilities. In the ear and eye check it describes what it is fed.

Functions: ``make`` (by name), ``Cascade`` (of any ear and eye), ``read_words``, ``scores_of``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from earwitness.models.cascade_lag import lag
from earwitness.models.fake import describe, receipt, shows, sounds
from earwitness.questions import clean, same, wording
from earwitness.records import NONE_OF_THE_ABOVE, Answer, Frames, Item, Media, View, Wave, digest

WORDS = Path(__file__).with_name("cascade_words.csv")
OPENER = "earwitness.curate.checks.witnesses"  # where the named witnesses are: a plug-in by name, no import
FLOOR = 1e-3  # score of a class that a witness has no word for, and of none
NOTHING = 0.01  # probability that there is nothing where there is something, and the other way round
THERE = 0.1  # score from which a thing counts as there: the witnesses' own limit
NEAR = math.log(10.0)  # what is seen counts as heard if nothing else is more than ten times as likely
IN_STEP = 0.2  # s; half of the smallest shift that audits ask about
SHOWN = 4  # frames of a clip that the eye is shown
PIXELS = 224 * 448  # of a frame at most: two of the classifier's squares side by side
HELD = 4096  # clips' scores that are kept

Scores = NDArray[np.float32]
# By witness and hash of what it met. By object, not by name: two witnesses of one name may differ.
_HELD: WeakKeyDictionary[object, dict[str, Scores]] = WeakKeyDictionary()
Organ = Literal["ear", "eye"]


class Ear(Protocol):
    """What hears: a score in [0, 1] for each of its labels."""

    @property
    def id(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def hear(self, wave: Wave, rate: int) -> Scores: ...


class Eye(Protocol):
    """What sees: a score in [0, 1] for each of its labels."""

    @property
    def id(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    def see(self, frames: Frames) -> Scores: ...


class Named(NamedTuple):
    """What a class is called by ear and eye."""

    ear: tuple[str, ...]
    eye: tuple[str, ...]


Words = Mapping[str, Named]


@cache
def read_words(path: Path = WORDS) -> Words:
    """Class, cleaned -> the labels that mean it. Raises ValueError for a class that is there twice."""
    out: dict[str, Named] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            name = clean(row["class"])
            if name in out:
                raise ValueError(f"{path.name}: {row['class']!r} stands there twice")
            ear, eye = (tuple(w for w in row[k].split("|") if w) for k in ("ear", "eye"))
            out[name] = Named(ear, eye)
    return out


def scores_of(
    names: Sequence[str], labels: Sequence[str], scores: Scores, words: Words, organ: Organ
) -> list[float | None]:
    """A witness's score for each class; None where it has no word for it.

    Ears: the highest of the class's labels (they overlap, and stand in trees). Eyes: their sum (they share one).
    """
    place = {clean(label): n for n, label in enumerate(labels)}
    out: list[float | None] = []
    for name in names:
        key = clean(name)
        called = getattr(words[key], organ) if key in words else (name,)
        found = [float(scores[place[clean(c)]]) for c in called if clean(c) in place]
        out.append(None if not found else max(found) if organ == "ear" else min(1.0, sum(found)))
    return out


def make(
    dial: str = "0", *, name: str = "", fps: float | None = None, max_pixels: int | None = None,
    device: str | None = None, ear: str = "yamnet", eye: str = "efficientnet",
) -> Cascade:  # fmt: skip
    """The cascade of two named witnesses. Raises ValueError for a dial outside [0, 1], or weights not at hand."""
    value = dialled(dial, name)
    view = View(fps=fps or 12.5, max_pixels=max_pixels or PIXELS)
    return Cascade(*_opened(ear, eye, device or "cpu"), value, view=view)


@cache
def _opened(ear: str, eye: str, device: str) -> tuple[Ear, Eye]:
    opener: Any = import_module(OPENER)
    return opener.open_tagger(ear, device=device), opener.open_classifier(eye, device=device)


def dialled(text: str, name: str = "") -> float:
    """The number in ``cascade:DIAL``. Raises ValueError where it is none from 0 to 1."""
    try:
        value = float(text or "0")
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(
            f"{name or 'cascade:' + text}: the dial is a number from 0 (listens) to 1 (infers), got {text!r}"
        )
    return value


class Cascade:
    """A model of an ear, an eye and a dial; keeps the scores of what it met."""

    abilities = frozenset({"generates", "logprobs"})
    decoding = "rules on two witnesses' scores, no sampling"

    def __init__(
        self, ear: Ear, eye: Eye, dial: float, *, view: View | None = None, words: Words | None = None
    ) -> None:
        self.ear, self.eye, self.dial = ear, eye, dial
        self.name = f"cascade:{dial:g}"
        self.revision = f"1 {ear.id}+{eye.id}"
        self.view = view or View(fps=12.5, max_pixels=PIXELS)
        self.words = words if words is not None else read_words()
        self.all = tuple(self.words)
        # By ear and by eye, not by dial: audits at several dials in one process listen and look once.
        self._heard = _HELD.setdefault(ear, {})
        self._seen = _HELD.setdefault(eye, {})

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """One answer an item, in order."""
        if len(items) != len(media):
            raise ValueError(f"{len(items)} items for {len(media)} media")
        return [self._one(item, m) for item, m in zip(items, media, strict=True)]

    def _one(self, item: Item, media: Media) -> Answer:
        logprobs = None
        if item.protocol == "check":
            text = describe(item.question, media)
        elif item.question in ("visual", "audio") and item.choices:
            text, logprobs = self._choice(item, media)
        else:
            text = self._says(item, media)
        return Answer(item=item.id, model=self.name, text=text, logprobs=logprobs, fed=receipt(item, media))

    # ---------------------------------------------------------------- what it hears and sees

    def heard(self, media: Media, names: Sequence[str]) -> NDArray[np.float64]:
        """log p_ear of each name and, last, of nothing."""
        found = [0.0] * len(names)
        if sounds(media):
            found = [s or 0.0 for s in scores_of(names, self.ear.labels, self._hear(media), self.words, "ear")]
        return _log(found, empty=not sounds(media))

    def seen(self, media: Media, names: Sequence[str]) -> NDArray[np.float64]:
        """log p_eye of each name and, last, of nothing."""
        found = [0.0] * len(names)
        if shows(media):
            found = [s or 0.0 for s in scores_of(names, self.eye.labels, self._see(media), self.words, "eye")]
        return _log(found, empty=not shows(media))

    def believed(self, media: Media, names: Sequence[str]) -> NDArray[np.float64]:
        """The mixture's log p of each name and of nothing: what it believes to hear."""
        mixed = (1 - self.dial) * self.heard(media, names) + self.dial * self.seen(media, names)
        out: NDArray[np.float64] = mixed - np.logaddexp.reduce(mixed)
        return out

    def _hear(self, media: Media) -> Scores:
        assert media.wave is not None
        key = digest(media.audio_hash)
        if key not in self._heard:
            _make_room(self._heard)
            self._heard[key] = self.ear.hear(media.wave, media.rate)
        return self._heard[key]

    def _see(self, media: Media) -> Scores:
        assert media.frames is not None
        key = digest(media.video_hash)
        if key not in self._seen:
            _make_room(self._seen)
            self._seen[key] = np.max([self.eye.see(part) for part in squares(media.frames)], axis=0)
        return self._seen[key]

    # ---------------------------------------------------------------- what it says

    def _choice(self, item: Item, media: Media) -> tuple[str, dict[str, float]]:
        names = [c for c in item.choices if clean(c) != clean(NONE_OF_THE_ABOVE)]
        scores = self.seen(media, names) if item.question == "visual" else self.believed(media, names)
        logprobs = dict(zip([*names, NONE_OF_THE_ABOVE], scores.tolist(), strict=True))
        best = _first(scores)
        if best == len(names):
            kind = "sound" if item.question == "audio" else "picture"
            offered = next((c for c in item.choices if clean(c) == clean(NONE_OF_THE_ABOVE)), None)
            text = (
                f"There is no {kind} in this video."
                if offered is None
                else wording(item.question, offered, item.style)
            )
        else:
            text = wording(item.question, names[best], item.style)
        return text, {c: logprobs.get(c, logprobs[NONE_OF_THE_ABOVE]) for c in item.choices}

    def _says(self, item: Item, media: Media) -> str:
        q, style = item.question, item.style
        if q in ("muted", "yes_no") and item.asked:
            return "Yes." if self._there(media, item.asked) else "No."
        if q == "shift":
            late = self._lag(media)
            label = "SYNC" if abs(late) < IN_STEP else "DELAY" if late > 0 else "EARLY"
            return wording(q, label, style, offset=None if label == "SYNC" else late)
        if q == "choice" and item.choices and {"audio", "video"} & set(item.evidence):
            names = list(item.choices)
            about_sound = "audio" in item.evidence
            scores = self.believed(media, names) if about_sound else self.seen(media, names)
            if scores[:-1].max() - scores[:-1].min() > 1e-9 and _first(scores) < len(names):
                return names[_first(scores)]
            return "I cannot tell."
        if q not in ("mute", "swap", "modified", "caption"):
            return "I cannot tell."
        sees, hears = self.seen(media, self.all), self.believed(media, self.all)
        picture, sound = ((*self.all, "")[_first(s)] for s in (sees, hears))
        seen, heard = ((name,) if name else () for name in (picture, sound))
        if q == "mute":
            return wording(q, "SOUND_DESCRIBED" if sound else "SILENT", style, seen=seen, heard=heard)
        if q == "swap":
            near = hears[_first(sees)] >= hears.max() - NEAR - 1e-9
            match = bool(picture) and (near or same(picture) == same(sound))
            return wording(q, "MATCH" if match else "MISMATCH", style, seen=seen, heard=seen if match else heard)
        return wording("modified", "", "", seen=seen, heard=heard)

    def _there(self, media: Media, thing: str) -> bool:
        heard = (
            scores_of([thing], self.ear.labels, self._hear(media), self.words, "ear")[0] if sounds(media) else 0.0
        )
        seen = scores_of([thing], self.eye.labels, self._see(media), self.words, "eye")[0] if shows(media) else 0.0
        odds = [math.log(((s or 0.0) + FLOOR) / (THERE + FLOOR)) for s in (heard, seen)]
        return (1 - self.dial) * odds[0] + self.dial * odds[1] > 0

    def _lag(self, media: Media) -> float:
        if not (sounds(media) and shows(media)):
            return 0.0
        assert media.frames is not None
        assert media.wave is not None
        return lag(media.frames, media.wave, media.rate, self.view.fps, self.dial)


def _log(scores: Sequence[float], *, empty: bool) -> NDArray[np.float64]:
    """log p of each class, and last of nothing, which has 0.99 where there is nothing and 0.01 where there is."""
    raised = np.array(scores, dtype=np.float64) + FLOOR
    none = 1 - NOTHING if empty else NOTHING
    out: NDArray[np.float64] = np.log(np.append((1 - none) * raised / raised.sum(), none))
    return out


def _first(scores: NDArray[np.float64]) -> int:
    """The first of the likeliest. Rounding must not decide between equals, dial by dial."""
    return int(np.argmax(np.round(scores, 9)))


def _make_room(held: dict[str, Scores]) -> None:
    if len(held) >= HELD:
        held.pop(next(iter(held)))


def squares(frames: Frames) -> list[Frames]:
    """Four frames, whole; of a picture that is much wider than high (or higher than wide), squares along it."""
    shown = frames[np.unique(np.linspace(0, len(frames) - 1, SHOWN).round().astype(int))]
    height, width = shown.shape[1:3]
    long, short = max(height, width), min(height, width)
    if long < 1.6 * short:
        return [shown]
    begins = np.linspace(0, long - short, max(2, round(long / short))).round().astype(int)
    return [shown[:, :, b : b + short] if width > height else shown[:, b : b + short] for b in begins]


__all__ = ["Cascade", "Ear", "Eye", "Named", "Words", "make", "read_words", "scores_of", "squares"]
