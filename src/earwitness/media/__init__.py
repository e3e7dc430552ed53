"""Media files to arrays and back, on one clock; the only room that touches FFmpeg (through PyAV).

The canonical clock: t = 0 is the first *shown* picture, the clip lasts as long as its pictures (as its sound, where
there are none), and a wave is exactly round(duration * rate) samples on it. A missing track is None, never zeros.

- ``load`` a file once into frames, times and a mono wave as a model wants them; ``load_native`` keeps the sound's
  own rate and channels; ``load_guarded`` does it in a process with a memory limit, for files nobody vouches for.
- ``probe`` measures tracks, offsets and rates; ``look``, ``describe`` and ``strip_png`` in ``media.look`` show a
  clip to a person.
- ``write_sound`` puts new sound beside bit-identical pictures; ``write_black``, ``write_freeze`` new pictures
  beside exact sound; ``write_clip`` makes a clip from arrays. ``demux`` reads a file once for many of these.
- ``media.signal``: loudness, onsets, lag.

Every file is opened by path, as a plain container only; whatever is wrong with one raises ``MediaError``.
"""

from earwitness.media.clock import Clock
from earwitness.media.decode import load, load_native
from earwitness.media.encode import write_black, write_clip, write_freeze
from earwitness.media.guard import load_guarded
from earwitness.media.look import Look, describe, strip_png
from earwitness.media.opening import Demuxed, Limits, MediaError, demux
from earwitness.media.probe import PictureTrack, Probe, SoundTrack, probe
from earwitness.media.write import sixteen_bit, write_sound

# ``media.probe`` is the function; ``media.look`` stays the module (its function is ``media.look.look``).
__all__ = [
    "Clock",
    "Demuxed",
    "Limits",
    "Look",
    "MediaError",
    "PictureTrack",
    "Probe",
    "SoundTrack",
    "demux",
    "describe",
    "load",
    "load_guarded",
    "load_native",
    "probe",
    "sixteen_bit",
    "strip_png",
    "write_black",
    "write_clip",
    "write_freeze",
    "write_sound",
]
