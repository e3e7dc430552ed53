"""What a check says of a clip: passed, failed, or not told, with what was measured and why.

A verdict is never a guess: a check that could not be made (no track, a judge that gave no answer) has ``passed``
None and says why. What to do with those is the caller's decision, and is written down.
"""

from __future__ import annotations

import msgspec


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One check on one clip.

    ``check`` names the check ("silent", "tagger", "audible" ...), ``by`` who made it (a gate's revision, a model's
    id). ``value`` is what was measured, in ``unit``, and ``limit`` what it was held against. ``why`` is one clause
    for people ("-71 dBFS at its loudest, the limit is -60").
    """

    clip: str
    check: str
    passed: bool | None
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    why: str = ""
    by: str = ""
