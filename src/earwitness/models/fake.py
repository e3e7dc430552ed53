"""Models with a known grounding: what an audit must say of them is known beforehand.

A control answers in ordinary words, from what is true after the intervention (``Item.seen``, ``heard``,
``offset``) and from the media it is really given: black frames show nothing, a silent wave or a missing track
sounds like nothing, whatever the item says. Each of them is wrong in exactly one way:

========  ======================================================================================================
hears     a perfect listener and watcher
sees      answers every question about the sound from the picture; finds everything in step
synced    finds everything in step, and hears what it sees, as ``sees``; also finds that sound and picture match
          and that any thing asked about is heard (the prior-only answerer of Thud and AV-Confuse)
yes, no   says "yes" ("no") whatever is asked
parrot    repeats the prompt
random    one of the options, by the item's id
common    always the first option on offer, or "B" where letters are asked for
crashes   raises on every third item it meets, otherwise hears
silent    generates nothing
deaf      hears, but its wrapper drops the sound on the way
blind     hears, but its wrapper drops the picture on the way
stuck     hears, but its wrapper feeds the first clip's sound for ever, as a cache keyed by file name does
========  ======================================================================================================

``fake:annotator:HABITS`` labels events with a known error: :mod:`earwitness.models.fake_annotator`.

In the ear and eye check (``Item.protocol == "check"``) they describe the arrays they got: loudness and strongest
frequency, brightness. ``deaf``, ``blind`` and ``stuck`` are caught there, and by their receipts.

A question file's questions (``Item.protocol == "benchmark"``) are answered as the file has it by ``hears`` while
all that they rest on is in the arrays, by ``sees`` and ``synced`` while the picture is; these two take every thing
they are asked about for heard (where the clip's labels are known: what is seen), and everything for in step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from earwitness.models import Model
from earwitness.questions import DIRECT, clean, same, wording
from earwitness.records import NONE_OF_THE_ABOVE, Answer, Fed, Item, Media, View, Wave, digest

Control = Literal[
    "hears", "sees", "synced", "yes", "no", "parrot", "random", "common", "crashes", "silent", "deaf", "blind",
    "stuck",
]  # fmt: skip
KINDS: tuple[str, ...] = get_args(Control)

SILENT = 1e-4  # RMS below which a wave is heard as silence: -80 dB of full scale
IN_STEP = 0.1  # seconds of offset that pass as synchronized: below the detection threshold of people


def control(kind: str, *, view: View | None = None) -> Model:
    """The control of that name.

    Raises
    ------
    ValueError
        Where there is none; the message lists those that exist.
    """
    family, _, habits = kind.partition(":")
    if family == "annotator":
        from earwitness.models.fake_annotator import annotator  # here: it is made of what is below

        return annotator(habits, view=view)
    if kind not in KINDS:
        raise ValueError(
            f"there is no control model fake:{kind}; there are {', '.join(f'fake:{k}' for k in KINDS)}, "
            f"fake:annotator:HABITS"
        )
    return _Control(kind, view or View(size=(112, 112)))


class _Control:
    """One control; keeps only what it has met (``crashes``) or first heard (``stuck``)."""

    revision = "1"
    abilities = frozenset({"generates"})
    decoding = "rules, no model"

    def __init__(self, kind: str, view: View) -> None:
        self.kind, self.view, self.name = kind, view, f"fake:{kind}"
        self._met: dict[str, int] = {}
        self._first: Wave | None = None

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """One answer an item, in order. ``crashes`` raises RuntimeError where a third item is among them."""
        if len(items) != len(media):
            raise ValueError(f"{len(items)} items for {len(media)} media")
        if self.kind == "crashes":
            self._crash(items)
        return [self._one(item, m) for item, m in zip(items, media, strict=True)]

    def _crash(self, items: Sequence[Item]) -> None:
        """Raise where one of the items is a third one. Numbered when first met: a retry changes nothing."""
        asked = [i.id for i in items if i.protocol != "check"]
        for item in asked:
            self._met.setdefault(item, len(self._met))
        bad = next((item for item in asked if self._met[item] % 3 == 2), None)
        if bad is not None:
            raise RuntimeError(f"fake:crashes breaks on every third item, as on {bad}")

    def _one(self, item: Item, media: Media) -> Answer:
        media = self._through_wrapper(media)
        text = describe(item.question, media) if item.protocol == "check" else self._says(item, media)
        return Answer(
            item=item.id,
            model=self.name,
            text=text or None,
            fed=receipt(item, media),
            error=None if text else "empty answer: the model generated nothing",
        )

    def _through_wrapper(self, media: Media) -> Media:
        if self.kind == "deaf":
            return media.with_wave(None)
        if self.kind == "blind":
            return media.with_frames(None)
        if self.kind == "stuck":
            if self._first is None:
                self._first = media.wave
            return media.with_wave(self._first)
        return media

    def _says(self, item: Item, media: Media) -> str:
        if self.kind in ("yes", "no"):
            return self.kind.capitalize() + "."
        if self.kind == "parrot":
            return item.prompt
        if self.kind == "silent":
            return ""
        if self.kind in ("random", "common"):
            return _prior(item, self.kind)
        if item.protocol == "benchmark" and item.question != "modified":
            return _published(item, shows(media), sounds(media), watches=self.kind != "hears")
        seen = item.seen if shows(media) else ()
        heard = item.heard if sounds(media) else ()
        if self.kind in ("sees", "synced"):
            return _truthful(item, seen, seen, always=self.kind == "synced", in_step=True)
        return _truthful(item, seen, heard)


def _truthful(
    item: Item, seen: Sequence[str], heard: Sequence[str], *, always: bool = False, in_step: bool = False
) -> str:
    """The answer to a protocol's question of one who sees ``seen`` and hears ``heard``, in words that parse.

    ``in_step``: takes every offset for none; ``always``: says yes to every thing it is asked about.
    """
    q, style = item.question, item.style
    if q in ("visual", "audio"):
        here = seen if q == "visual" else heard
        return _choice(item, here)
    if q == "muted":
        there = always or same(item.asked or "") in {same(name) for name in heard}
        return "Yes." if there else "No."
    if q == "mute":
        return wording(q, "SOUND_DESCRIBED" if heard else "SILENT", style, seen=seen, heard=heard)
    if q == "swap":
        agree = always or bool({same(s) for s in seen} & {same(h) for h in heard})
        return wording(q, "MATCH" if agree else "MISMATCH", style, seen=seen, heard=heard)
    if q == "shift":
        late = 0.0 if in_step or not seen else item.offset  # who sees nothing can compare with nothing
        label = "SYNC" if abs(late) < IN_STEP else "DELAY" if late > 0 else "EARLY"
        return wording(q, label, style, seen=seen, heard=heard, offset=None if label == "SYNC" else late)
    sees = ", ".join(seen) or "nothing"
    return wording("modified", "", style, seen=seen, heard=heard) if q == "modified" else f"I see {sees}."


def _published(item: Item, picture: bool, sound: bool, *, watches: bool) -> str:
    """The answer to a published question of one who knows the file's truth from what it rests on.

    ``watches``: believes to know everything from the picture alone, so that no sound is missed and none is wrong.
    """
    q, answer = item.question, item.tags.get("answer") or item.target or ""
    about_sound = bool({"audio", "sync"} & set(item.evidence))
    needs_picture = watches or not item.evidence or bool({"video", "sync"} & set(item.evidence))
    if (needs_picture and not picture) or (about_sound and not watches and not sound):
        if item.absent is None:
            return "I cannot tell."
        return wording(q, item.absent, item.style) if q == "mute" else item.absent
    if q == "caption":
        return item.tags.get("reference", "")
    if watches and about_sound:
        known = {same(name) for name in item.seen}
        there = not known or item.asked is None or same(item.asked) in known
        answer = {
            "yes_no": "yes" if there else "no", "shift": "SYNC", "mute": "SOUND_DESCRIBED", "swap": "MATCH",
        }.get(q, answer)  # fmt: skip
    if q in ("mute", "swap", "shift"):
        offset = item.offset if answer in ("DELAY", "EARLY") else None
        return wording(q, answer, item.style, seen=item.seen, heard=item.heard, offset=offset)
    return answer


def _choice(item: Item, here: Sequence[str]) -> str:
    """The option that names what is there, as the item spells it; "None of the above" where nothing is."""
    options = {clean(c): c for c in item.choices}
    named = next((options[clean(name)] for name in here if clean(name) in options), None)
    if named is None:
        named = options.get(clean(NONE_OF_THE_ABOVE), here[0] if here else None)
    if named is None:
        kind = "sound" if item.question == "audio" else "picture"
        return f"There is no {kind} in this video."
    return wording(item.question, named, item.style)


def _prior(item: Item, kind: str) -> str:
    """An answer from the options alone: random or first; of letters, the most common one; else a stock phrase."""
    if item.question == "shift" and item.style == "direct":
        letters = tuple(DIRECT["shift"])
        return letters[_dice(item, len(letters))] if kind == "random" else "B"
    if item.choices:
        named = item.choices[_dice(item, len(item.choices)) if kind == "random" else 0]
        return wording(item.question, named, item.style) if item.style == "cot" else named
    stock = ("I hear music.", "The audio is silent. I hear no sound.", "The audio and video are synchronized.")
    return stock[_dice(item, len(stock)) if kind == "random" else 0]


def _dice(item: Item, sides: int) -> int:
    return int(digest("dice", item.id), 16) % sides


# --- what is really in the arrays ----------------------------------------------------------------------------


def sounds(media: Media) -> bool:
    """Whether there is anything to hear: a track that is not silent."""
    return media.wave is not None and _rms(media.wave) > SILENT


def shows(media: Media) -> bool:
    """Whether there is anything to see: frames that are not all black."""
    return media.frames is not None and bool(media.frames.any())


def describe(question: str, media: Media) -> str:
    """What the arrays hold, in words: for the ear and eye check."""
    if question == "visual":
        if media.frames is None:
            return "I see no picture: there is no video track."
        if not shows(media):
            return "I see a black screen."
        red, green, blue = (round(float(x)) for x in media.frames.mean((0, 1, 2)))
        return f"I see a picture of mean colour {red}, {green}, {blue} and contrast {media.frames.std():.0f}."
    if media.wave is None:
        return "I hear no sound: there is no audio track."
    if not sounds(media):
        return "I hear silence."
    level = 20 * np.log10(_rms(media.wave))
    spectrum = np.abs(np.fft.rfft(media.wave[0]))
    strongest = float(np.argmax(spectrum)) * media.rate / media.wave.shape[1]
    return f"I hear a sound of {level:.1f} dB, strongest at {strongest:.0f} Hz."


def receipt(item: Item, media: Media) -> Fed:
    """What a control got: everything in the arrays, which are its whole input."""
    frames, wave = media.frames, media.wave
    return Fed(
        frames=None if frames is None else frames.shape[0],
        height=None if frames is None else frames.shape[1],
        width=None if frames is None else frames.shape[2],
        audio_seconds=None if wave is None else wave.shape[1] / media.rate,
        audio_rms=None if wave is None else _rms(wave),
        prompt_tokens=len(item.prompt.split()),
        video_hash=media.video_hash,
        audio_hash=media.audio_hash,
    )


def _rms(wave: Wave) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if wave.size else 0.0
