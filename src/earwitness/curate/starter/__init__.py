"""A starter set: photo-and-sound clips of real animals and instruments, made from freely licensed packages.

For whoever wants to audit real pixels and real waves today, without an account, a scraper or a licence question. A
photo moves with the sound that belongs to it (zoom, hop, shake, a little light), so that when it sounds is also
when it is seen to sound; each photo and each recording comes from a package whose own notes say under which
licence.

``sources.csv`` -> files out of packages (or committed ones) -> clips -> witnesses -> ``labels.jsonl``

A photo that moves is no film: what is learned here of a model is whether it tells a heard class from a seen one,
silence from sound and early from late, not whether it understands scenes.

Functions: ``build``; ``at_hand`` (the witnesses, where their weights are).
"""

from earwitness.curate.starter.building import Started, build
from earwitness.curate.starter.vouching import at_hand

__all__ = ["Started", "at_hand", "build"]
