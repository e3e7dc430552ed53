"""An annotator of events whose error is known: what a labelling pipeline makes of it can be held against that.

``fake:annotator:HABITS`` answers ``curate events``' two questions from the truth that the items of procedural clips
carry (``Item.tags``), and is wrong as its habits say, by comma:

==============  ==========================================================================================
spread=0.2      both times err independently, normal with this standard deviation in s (clipped to the clip)
late=0.5        both times are late by so much
sound=0.5       the time heard is late by so much more
sight=-1        the time seen is late by so much more
grid=0.5        times are rounded to this grid: a habit of whole or half seconds
step=0.1        times are stated to this step (0.001 unless given)
invents         names an event that is not there, at a time drawn over the clip unsure=0.2      on this share of the
clips it returns uncertain chats           puts its answer between chatter, in a code fence, with units behind its
times seed=1          another annotator with the same habits ==============
=====================================================================================================

The event is the middle one of the clip's. A watcher (asked for a frame unit) that finds another event named than
the clip has returns uncertain. It is no oracle beyond what it is given: with a silent or missing sound a listener,
with black pictures either of them, returns uncertain.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from earwitness.models import Model
from earwitness.models.fake import describe, receipt, shows, sounds
from earwitness.questions import clean
from earwitness.records import Answer, Item, Media, View, digest

NUMBERS = ("spread", "late", "sound", "sight", "grid", "step", "unsure", "seed")
SWITCHES = ("invents", "chats")


def annotator(habits: str = "", *, view: View | None = None) -> Model:
    """The annotator with those habits. Raises ValueError for others than those above."""
    given: dict[str, float] = {}
    for part in filter(None, (p.strip() for p in habits.split(","))):
        name, equals, value = part.partition("=")
        if (name not in NUMBERS or not equals) if name not in SWITCHES else bool(equals):
            known = ", ".join([f"{n}=NUMBER" for n in NUMBERS] + list(SWITCHES))
            raise ValueError(f"fake:annotator has no habit {part!r}; there are {known}")
        try:
            given[name] = float(value) if equals else 1.0
        except ValueError:
            raise ValueError(f"fake:annotator: {part!r} wants a number") from None
    return _Annotator(habits, given, view or View(size=(112, 112)))


class _Annotator:
    revision = "1"
    abilities = frozenset({"generates"})
    decoding = "rules, no model"

    def __init__(self, habits: str, given: dict[str, float], view: View) -> None:
        self.name = "fake:annotator" + (f":{habits}" if habits else "")
        self.view, self._given = view, given

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        """One answer an item, in order."""
        return [
            Answer(item=i.id, model=self.name, text=self._says(i, m), fed=receipt(i, m))
            for i, m in zip(items, media, strict=True)
        ]

    def _says(self, item: Item, media: Media) -> str:
        if item.protocol == "check":
            return describe(item.question, media)
        rng = np.random.default_rng(int(digest("annotator", self.name, item.clip), 16))
        truth = _truth(item)
        if item.protocol != "events" or "seconds" not in item.tags or truth is None or not shows(media):
            return "uncertain"
        seconds, unsure = float(item.tags["seconds"]), self._given.get("unsure", 0.0)
        what, seen, heard = truth
        v, a, fate, made_up = rng.standard_normal(), rng.standard_normal(), rng.uniform(), rng.uniform(0, seconds)
        if fate < unsure:
            return "uncertain"
        if "invents" in self._given:
            what, seen, heard = "thing that is not there", made_up, made_up
        spread, late = self._given.get("spread", 0.0), self._given.get("late", 0.0)
        t_v = self._stated(seen + late + self._given.get("sight", 0.0) + spread * v, seconds)
        t_a = self._stated(heard + late + self._given.get("sound", 0.0) + spread * a, seconds)
        if item.question == "unit":
            return self._unit(item, what, t_v)
        if not sounds(media):
            return "uncertain"
        return self._object(what, t_v, t_a)

    def _stated(self, at: float, seconds: float) -> float:
        """As it would state a time: on its grid, within the clip, to its step."""
        grid, step = self._given.get("grid", 0.0), self._given.get("step", 0.001)
        at = round(at / grid) * grid if grid else at
        stated = round(min(max(at, 0.0), seconds) / step) * step
        return round(stated if stated <= seconds else stated - step, 6)

    def _object(self, what: str, t_v: float, t_a: float) -> str:
        chats = "chats" in self._given
        fields = {
            "visual_event": f"the {what} is struck", "visual_time": f"{t_v:g} s" if chats else t_v,
            "audio_event": f"the sound of the {what}", "audio_time": f"0:{t_a:06.3f}" if chats else t_a,
            "confidence": "High" if chats else "high",
        }  # fmt: skip
        text = json.dumps(fields)
        return f"Sure! Here it is:\n```json\n{text}\n```\nAsk me if you need more." if chats else text

    def _unit(self, item: Item, what: str, t_v: float) -> str:
        if clean(what) not in clean(item.tags["event"]):
            return "uncertain"
        edges = [tuple(map(float, part.split("-"))) for part in item.tags["units"].split("|")]
        number = next((n for n, (_, end) in enumerate(edges, 1) if t_v < end), len(edges))
        start, end = edges[number - 1]
        return f"unit_id: {number}\ntimestamp_range: {start:.2f}-{end:.2f} s\njustification: the {what} moves."


def _truth(item: Item) -> tuple[str, float, float] | None:
    """What, when seen and when heard of the middle one of the clip's events."""
    events = [e for e in item.tags.get("truth", "").split("|") if e]
    if not events:
        return None
    what, _, times = events[len(events) // 2].rpartition("@")
    seen, _, heard = times.partition("/")
    return what, float(seen), float(heard)


__all__ = ["annotator"]
