"""A clip is decoded once, and each of its conditions is made from the decoded arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np

from earwitness import interventions
from earwitness.media import sixteen_bit
from earwitness.records import Clip, ClipSet, Intervention, Media, View, Wave

# Items come clip by clip, a donor's next to its taker's: what is wanted again is wanted soon. 17 clips of 10 s at
# 504 x 504 and 2 frames a second; every worker holds that much.
HELD_BYTES = 1 << 28


class Bank:
    """Decodes each clip once and makes its conditions; bounded by bytes, least recently used goes first.

    The two last used always stay, however long: a clip and the donor of its sound.
    """

    def __init__(self, clips: ClipSet, view: View, *, max_bytes: int = HELD_BYTES) -> None:
        self._clips, self._view, self._max = clips, view, max_bytes
        self._by_id = {clip.id: clip for clip in clips.clips}
        self._held: OrderedDict[str, Media] = OrderedDict()
        self._bytes = 0
        self.decodes = 0

    def clip(self, clip_id: str) -> Clip:
        """The clip of that id; ValueError where there is none."""
        if clip_id not in self._by_id:
            raise ValueError(
                f"no clip {clip_id!r} among {len(self._by_id)} clips (another --clips than the plan's?)"
            )
        return self._by_id[clip_id]

    def original(self, clip_id: str) -> Media:
        """The untouched clip, decoded at most once while it is held."""
        if clip_id in self._held:
            self._held.move_to_end(clip_id)
            return self._held[clip_id]
        media = self._clips.media(self.clip(clip_id), self._view)
        self.decodes += 1
        self._held[clip_id] = media
        self._bytes += _size(media)
        while self._bytes > self._max and len(self._held) > 2:
            _, old = self._held.popitem(last=False)
            self._bytes -= _size(old)
        return media

    def condition(self, clip_id: str, iv: Intervention) -> Media:
        """The clip under an intervention.

        A sham is the clip as a lossless file holds it, written and read again: its wave in 16-bit steps. It is
        new to the model (another content hash: nothing is taken from a cache), so what differs is noise.
        """
        clip, media = self.clip(clip_id), self.original(clip_id)
        if iv.kind == "sham":
            return media if media.wave is None else media.with_wave(_as_written(media.wave))
        donor = self.original(iv.donor) if iv.donor else None
        stems: Mapping[str, Wave] | None = self._clips.stems(clip, self._view) if iv.kind == "drop_stem" else None
        return interventions.apply(media, iv, donor=donor, stems=stems, events=clip.events)


def _as_written(wave: Wave) -> Wave:
    return (sixteen_bit(wave) / 32768).astype(np.float32)


def _size(media: Media) -> int:
    return sum(0 if a is None else a.nbytes for a in (media.frames, media.wave))
