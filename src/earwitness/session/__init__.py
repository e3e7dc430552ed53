"""An audit from words to page: what the command line's verbs do, as functions.

``prepare`` turns model, clips and protocol names into a :class:`Job` (and its plan); ``run`` asks, scores and
reports; ``score`` and ``report`` make their part of a run folder again without the model; ``render`` makes an
intervention from files to a file; ``doctor`` is the ear and eye check alone; ``trace`` and ``knockout``
look inside the model; ``align`` trains it (one stage of a repair).
"""

from earwitness.audit import EarCheckError as Refused
from earwitness.session.aligning import align, settle
from earwitness.session.files import render, write_media
from earwitness.session.looking import knockout, trace
from earwitness.session.preparing import Job, prepare
from earwitness.session.running import Result, doctor, report, run, score
from earwitness.session.settings import Options

__all__ = [
    "Job", "Options", "Refused", "Result", "align", "doctor", "knockout", "prepare", "render", "report", "run",
    "score", "settle", "trace", "write_media",
]  # fmt: skip
