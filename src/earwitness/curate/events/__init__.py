"""Event-time labels: when is something seen, when is it heard, and who says so? (arXiv 2605.16403, section 2.2)

A shift can only be graded on a clip whose event is timed. Models are asked for the event and its two times, other
models for the frame unit in which it is seen; where they agree and the sound itself bears them out the label is
kept, where not, people decide (``earwitness review``).

===================  =================================================================
:mod:`.asked`        the two questions
:mod:`.read`         what an answer says, strictly
:mod:`.witness`      onsets, their salience, changes of the picture: no model
:mod:`.agreement`    differences, gates, verdicts
:mod:`.habits`       times that heap on whole seconds
:mod:`.tables`       what is shown; :mod:`.truth` against exact truth
:mod:`.writing`      the files
:mod:`.building`     all of it, resumable
===================  =================================================================

Functions: ``build``, ``wish``.
"""

from earwitness.curate.events.building import Built, build
from earwitness.curate.events.wish import Wish, wish

__all__ = ["Built", "Wish", "build", "wish"]
