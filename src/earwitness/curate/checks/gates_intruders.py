"""Does someone talk over it, or does music lie over it? What a tagger hears beside the thing that a clip is of.

MMA-Bench's people asked for "audio purity": with a comment or a tune laid over a clip, its sound is no longer
that of what is seen, and a model that answers "speech" is right. So the mean probability over the clip of a voice,
and of music, is held against a limit, unless the clip's own class is a voice or makes music.

Function: ``intruders``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from earwitness.curate.checks import witnesses_labels as meaning
from earwitness.curate.checks.gates import Limits
from earwitness.curate.checks.verdict import Verdict
from earwitness.curate.checks.witnesses import Tagger
from earwitness.records import Clip, Media

# AudioSet's names. Music's own label stands over all instruments; these are what talks.
VOICES = frozenset(
    {
        "speech", "male speech, man speaking", "female speech, woman speaking", "child speech, kid speaking",
        "conversation", "narration, monologue",
    }
)  # fmt: skip
MUSIC = frozenset({"music"})


def intruders(
    clip: Clip, media: Media, tagger: Tagger, limits: Limits | None = None,
    moments: NDArray[np.float32] | None = None,
) -> list[Verdict]:  # fmt: skip
    """``speech`` and ``music``: how much of a clip of something else they are, as a mean probability.

    ``moments``: of ``tagger.moments``, where they are there. No verdict without a sound track, where the tagger has
    no such label, or the clip's own label is unknown (it might be a singer).
    """
    limits = limits or Limits()
    out = []
    if moments is None and media.wave is not None:
        moments = tagger.moments(media.wave, media.rate)
    for check, names, limit in (("speech", VOICES, limits.speech), ("music", MUSIC, limits.music)):
        places = [i for i, label in enumerate(tagger.labels) if label.casefold() in names]
        value: float | None = None
        passed: bool | None = None
        kin = _kin(clip, check, tagger)
        if moments is None:
            why = "no sound track"
        elif not places:
            why = f"{tagger.id} has no label for {check}"
        elif isinstance(kin, str):
            why = kin
        else:
            value = round(float(moments[:, places].max(axis=1).mean()), 4)
            passed = kin or value <= limit
            why = f"{check} at {value:.2f} over the clip, the limit is {limit:g}"
            if kin:
                why = f"{check} at {value:.2f} over the clip, which is its own ({clip.heard[0]})"
        told = value is not None
        out.append(
            Verdict(
                clip=clip.id,
                check=check,
                passed=passed,
                value=value,
                limit=limit if told else None,
                unit="probability" if told else "",
                why=why,
                by=tagger.id,
            )
        )
    return out


def _kin(clip: Clip, check: str, tagger: Tagger) -> bool | str:
    """Whether any of the clip's audible labels is of the voice's (music's) kin; or why no one can tell."""
    if not clip.heard:
        return False  # labelled as silent: then a voice is an intruder
    asked = meaning.voice_kin if check == "speech" else meaning.music_kin
    told = [asked(label, tagger.table, tagger.given) for label in clip.heard]
    if any(told):
        return True
    if None in told:
        lost = clip.heard[told.index(None)]
        return f"{lost!r} is in no class and no node of the ontology: {check} may be its own (map it: label,name)"
    return False
