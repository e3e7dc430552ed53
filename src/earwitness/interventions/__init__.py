"""Interventions: change one stream of a clip, leave the other alone, and know which answer is right then.

Three questions, three parts:

- *What is done?* ``apply`` changes a clip in memory (Media -> Media); ``render`` does the same to a file and
  measures on the written file that it was done; ``misleading_caption``, ``long_context`` and
  ``with_none_option`` change the prompt, ``filled`` writes out an item's filler.
- *What does it mean?* ``EFFECT`` is the table of what an intervention does to the evidence of a question,
  ``right_answer`` the rule that reads it.
- *With which sounds?* ``backgrounds``, ``background_wave``, ``tone_wave``, ``noise_wave``.

Conventions: seconds are float seconds; a positive shift puts the sound AFTER the picture. ``None`` is "no such
track", zeros are "muted" or "black". A clip's length never changes.
"""

from earwitness.interventions.arrays import apply
from earwitness.interventions.effect import EFFECT, Effect, right_answer
from earwitness.interventions.files import Rendered, render
from earwitness.interventions.sounds import background_wave, backgrounds, noise_wave, tone_wave
from earwitness.interventions.text import filled, long_context, misleading_caption, with_none_option
from earwitness.interventions.waves import Matched, matched

__all__ = [
    "EFFECT",
    "Effect",
    "Matched",
    "Rendered",
    "apply",
    "background_wave",
    "backgrounds",
    "filled",
    "long_context",
    "matched",
    "misleading_caption",
    "noise_wave",
    "render",
    "right_answer",
    "tone_wave",
    "with_none_option",
]
