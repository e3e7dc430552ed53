"""Procedural clips whose truth is exact: what is seen, what is heard, when, and every stem apart.

A clip starts as a :class:`Scene`, made from a seed: one to three sounding things side by side. The scene can be
looked at and listened to through any view, in memory (:func:`media`, a few milliseconds) or as a file
(:func:`write`). ``scene -> recipe -> parse -> scene`` is the identity, so a manifest carries everything.

Conventions: frames show the instants i / fps; an event's sound starts at the sample nearest to ``Event.heard`` and
its picture jumps at ``Event.seen``; the stems and the stem "room" add up to the wave, exactly.

>>> from earwitness import foley
>>> from earwitness.records import View
>>> s = foley.scene(17, sources=2)
>>> m = foley.media(s, View(size=(56, 56)))
>>> m.frames.shape, m.wave.shape
((8, 56, 56, 3), (1, 64000))
>>> foley.parse(s.recipe) == s
True
"""

from earwitness.foley.files import FoleyClips, clip, clip_set, media, stems, write
from earwitness.foley.scenes import CLASSES, IMPACTS, Scene, Source, parse, scene
from earwitness.foley.sheet import contact_sheet

__all__ = [
    "CLASSES", "IMPACTS", "FoleyClips", "Scene", "Source", "clip", "clip_set", "contact_sheet", "media", "parse",
    "scene", "stems", "write",
]  # fmt: skip
