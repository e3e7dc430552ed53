"""Interventions on a clip in memory: Media in, Media out, nothing changed in place.

One decode serves every condition of a clip, and the stream that an intervention leaves alone is the *same*
array with the same cached hash, so nothing downstream encodes it twice.

Conventions: ``None`` means no such track, zeros mean muted or black; an intervention never turns one into the
other by accident. The clip's length is always kept. "original" and "sham" return the very same object (in
files a sham is written again; in memory there is nothing that a rewriting could disturb).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from earwitness.interventions.waves import changed
from earwitness.records import Event, Frames, Intervention, InterventionKind, Media, Wave


def apply(
    media: Media,
    iv: Intervention,
    *,
    donor: Media | None = None,
    stems: Mapping[str, Wave] | None = None,
    events: Sequence[Event] = (),
) -> Media:
    """The clip after an intervention.

    Parameters
    ----------
    media : the untouched clip.
    iv : what to do. swap takes its sound from ``donor``, drop_stem its parts from ``stems``.
    donor : another clip, decoded at the same rate. Its sound is trimmed or looped to the clip's length and
        brought to its loudness (within 3 LU, or as near as can be without clipping).
    stems : name -> wave of the clip's own shape; their sum is the clip's wave, room tone included.
    events : labelled events; a shift that pushes one of them to an edge or off the clip is refused.

    Raises
    ------
    ValueError
        Where the stream to be changed is missing ("no audio track: mute would fake one"), a donor or stem is
        missing or foreign, or a shift is absurd or loses a labelled event.

    Examples
    --------
    >>> import numpy as np
    >>> beep = Media(None, None, np.ones((1, 16_000), np.float32), 16_000, 1.0)
    >>> float(apply(beep, Intervention(kind="mute")).wave.max())
    0.0
    """
    match iv.kind:
        case "original" | "sham":
            return media
        case "black":
            return media.with_frames(np.zeros(_frames(media, "black").shape, np.uint8))
        case "freeze":
            frames = _frames(media, "freeze")
            return media.with_frames(np.repeat(frames[:1], len(frames), axis=0))
        case "no_frames":
            return media.with_frames(None)
        case _:
            if iv.kind not in get_args(InterventionKind):
                raise ValueError(
                    f"unknown intervention {iv.kind!r}; known: {', '.join(get_args(InterventionKind))}"
                )
    sound = None if donor is None or iv.kind != "swap" else _donor_wave(donor, media)
    heard = media.with_wave(changed(media.wave, media.rate, iv, donor=sound, stems=stems, events=events).wave)
    return heard.with_frames(np.zeros(_frames(media, "unseen").shape, np.uint8)) if iv.unseen else heard


def _frames(media: Media, kind: str) -> Frames:
    if media.frames is None or len(media.frames) == 0:
        raise ValueError(f"{kind}: this clip has no video track: {kind} would fake one; use a clip with a picture")
    return media.frames


def _donor_wave(donor: Media, media: Media) -> Wave:
    if donor.wave is None:
        raise ValueError("swap: the donor has no audio track: it has no sound to give; choose another donor")
    if donor.rate != media.rate:
        raise ValueError(
            f"swap: the donor's sound is at {donor.rate} Hz, the clip's at {media.rate} Hz; decode both with the "
            "same View"
        )
    return donor.wave
