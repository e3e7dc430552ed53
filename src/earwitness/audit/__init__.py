"""The audit: plan, ear and eye check, ask, resume.  clips x protocols x model -> answers in a run folder.

Work is done once. Items are grouped by clip: a clip is decoded once, each condition is made from the decoded
arrays, items on the same media come one after the other and share one Media object, so that a model encodes
and prefills it once. Answers are appended as they come; the same call on the same folder asks only what has
no answer yet. A model call that raises is retried item by item; what still fails becomes ``Answer.error``:
counted, never scored.

Before any question, :func:`check_model` makes sure that the harness around the model is neither deaf nor
blind: its input receipts and its answers must change when the sound or the picture is replaced.

Modules: ``planning`` (count the work, price it), ``bank`` (decode once, make conditions), ``check`` (ear and eye),
``asking`` (the loop), ``shares`` (order, who asks what), ``workers`` (several processes), ``ray_cluster`` (several
machines).
"""

from earwitness.audit.asking import Progress, ask, refuse_ranks
from earwitness.audit.bank import Bank
from earwitness.audit.check import EarCheckError, check_model
from earwitness.audit.planning import Plan, plan, priced
from earwitness.audit.workers import Recipe, WorkerError, ask_many

__all__ = [
    "Bank", "EarCheckError", "Plan", "Progress", "Recipe", "WorkerError", "ask", "ask_many", "check_model", "plan",
    "priced", "refuse_ranks",
]  # fmt: skip
