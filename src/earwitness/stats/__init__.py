"""From judged answers to numbers that can be defended: estimates with intervals, paired and clustered by clip.

Conventions
-----------
Answers to several questions about one clip are not independent, so every function takes ``clusters``, one label
per answer (``Clip.cluster``; :func:`merge_clusters` where a swap ties two clips together), and counts clips, not
answers, as its sample. ``None`` in place of a value means unscored: it is left out of the estimate, and
:func:`bounds` says how far it could move it. Where nothing is left to estimate from, the functions return
``None`` (an empty cell of a table), never a made-up number. Levels are shares (0.95), not per cent.

====================  =========================================================================================
module                what it answers
====================  =========================================================================================
:mod:`.intervals`     how sure is one number: :func:`proportion`, :func:`mean`, :func:`bounds`, :func:`wilson`
:mod:`.paired`        do two conditions or two models differ: :func:`difference`, :func:`diff_in_diff`,
                      :func:`equivalence`, :func:`holm`, :func:`merge_clusters`
:mod:`.rates`         yes/no questions and agreement: :func:`dprime`, :func:`bias`, :func:`detection`,
                      :func:`dprime_difference`, :func:`balanced_accuracy`, :func:`kappa`
:mod:`.effects`       how far does something move, layer by layer: Cohen's d with its bands over clips
:mod:`.many`          which of many tests are finds: Benjamini-Hochberg, the largest |t|
:mod:`.power`         how many clips: :func:`clips_needed`, :func:`detectable_gap`, :func:`power_table`
====================  =========================================================================================
"""

from earwitness.stats.intervals import bounds, mean, proportion, wilson
from earwitness.stats.paired import diff_in_diff, difference, equivalence, holm, merge_clusters
from earwitness.stats.power import clips_needed, detectable_gap, discordance, simulated_power
from earwitness.stats.power import table as power_table
from earwitness.stats.rates import (
    Detection,
    balanced_accuracy,
    bias,
    detection,
    dprime,
    dprime_difference,
    kappa,
)

__all__ = [
    "Detection",
    "balanced_accuracy",
    "bias",
    "bounds",
    "clips_needed",
    "detectable_gap",
    "detection",
    "diff_in_diff",
    "difference",
    "discordance",
    "dprime",
    "dprime_difference",
    "equivalence",
    "holm",
    "kappa",
    "mean",
    "merge_clusters",
    "power_table",
    "proportion",
    "simulated_power",
    "wilson",
]
