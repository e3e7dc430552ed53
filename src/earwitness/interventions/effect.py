"""What does an intervention do to the evidence a question rests on, and which answer is right then?

This is the heart of every counterfactual test here: change one stream, leave the other alone, and know
beforehand what a listener must say. ``EFFECT`` is that knowledge as one table (rows: what was done; columns:
what a question can rest on), ``right_answer`` the rule that reads it:

========= ====================================================================================
untouched the evidence is as it was: keep the target
removed   the evidence is gone: the right answer is ``absent``
moved     the same evidence at another time: keep the target, unless the question asks *when*
replaced  other evidence stands in its place: only the caller can know the new truth
========= ====================================================================================

Conventions: "sync" is the time relation between picture and sound. A shift keeps what is heard (audio:
moved) but makes a new relation (sync: replaced), so that a question about synchrony never keeps its old
target by accident. A hush fills a stretch without an event as a shift would and moves nothing: what was right
stays right, and who answers otherwise hears the fill. "text" is the prompt; none of these touches it.

Sources: Shift, Mute and Swap of "When Vision Speaks for Sound" (arXiv 2605.16403, section 2.1); frames zeroed
and audio removed of "Some Modalities Are More Equal Than Others" (arXiv 2511.22826, Table 2); left-out stems
and replaced sound tracks of "When Eyes and Ears Disagree" (arXiv 2511.10059, AV-ConfuseBench).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

from earwitness.records import Evidence, InterventionKind

Effect = Literal["untouched", "removed", "moved", "replaced"]

_EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)


def _row(audio: Effect, video: Effect, sync: Effect) -> Mapping[Evidence, Effect]:
    return MappingProxyType({"audio": audio, "video": video, "sync": sync, "text": "untouched"})


EFFECT: Mapping[InterventionKind, Mapping[Evidence, Effect]] = MappingProxyType(
    {
        #                    audio        video        sync
        "original":    _row("untouched", "untouched", "untouched"),
        "sham":        _row("untouched", "untouched", "untouched"),
        "mute":        _row("removed",   "untouched", "removed"),
        "no_track":    _row("removed",   "untouched", "removed"),
        "shift":       _row("moved",     "untouched", "replaced"),
        "hush":        _row("untouched", "untouched", "untouched"),
        "swap":        _row("replaced",  "untouched", "replaced"),
        "drop_stem":   _row("replaced",  "untouched", "replaced"),
        "background":  _row("replaced",  "untouched", "replaced"),
        "tone":        _row("replaced",  "untouched", "replaced"),
        "noise":       _row("replaced",  "untouched", "replaced"),
        "black":       _row("untouched", "removed",   "removed"),
        "no_frames":   _row("untouched", "removed",   "removed"),
        "freeze":      _row("untouched", "replaced",  "removed"),
    }
)  # fmt: skip


def right_answer(
    kind: InterventionKind,
    evidence: Evidence | Sequence[Evidence],
    target: str | None,
    absent: str | None,
    new_truth: str | None = None,
    asks_when: bool = False,
) -> str | None:
    """The right answer to a question after an intervention, by the EFFECT table.

    A question needs all of its evidence, so the strongest effect decides: removed, then replaced, then moved.

    Parameters
    ----------
    kind : what was done to the clip.
    evidence : what the question rests on: one of audio, video, sync, text, or several.
    target : the right answer on the untouched clip.
    absent : the right answer when the evidence is gone; None = nothing right can be said (left unscored).
    new_truth : the right answer on what stands there now; needed for replaced evidence, and for moved
        evidence when the question asks when.
    asks_when : the question asks for a time.

    Raises
    ------
    ValueError
        For an unknown kind or evidence, none at all, replaced (or moved and asked-for) evidence without a
        new truth, and a new truth that contradicts the table.

    Examples
    --------
    >>> right_answer("mute", "audio", target="bell", absent="None of the above")
    'None of the above'
    >>> right_answer("swap", "video", target="bell", absent=None)
    'bell'
    """
    if kind not in EFFECT:
        raise ValueError(f"right_answer: unknown intervention {kind!r}; known: {', '.join(EFFECT)}")
    asked: Sequence[Evidence] = (evidence,) if isinstance(evidence, str) else tuple(evidence)
    if not asked:
        raise ValueError(
            "right_answer: the question rests on no evidence; name at least one of "
            f"{', '.join(_EVIDENCE)} (an item with evidence=() was probably left unfinished)"
        )
    unknown = [e for e in asked if e not in _EVIDENCE]
    if unknown:
        raise ValueError(f"right_answer: unknown evidence {unknown[0]!r}; known: {', '.join(_EVIDENCE)}")

    effects = {e: EFFECT[kind][e] for e in asked}
    if "removed" in effects.values():
        if new_truth is not None and new_truth != absent:
            gone = [e for e, effect in effects.items() if effect == "removed"]
            raise ValueError(
                f"right_answer: {kind} removes the evidence ({', '.join(gone)}), so absent={absent!r} is right, "
                f"yet new_truth={new_truth!r} was given (pass the answer for gone evidence as absent)"
            )
        return absent
    if "replaced" in effects.values():
        if new_truth is None:
            other = [e for e, effect in effects.items() if effect == "replaced"]
            raise ValueError(
                f"right_answer: {kind} replaces the evidence ({', '.join(other)}), so target={target!r} is no "
                "longer known to be right; give new_truth (for a swap: what the donor sounds like; for a shift: "
                "the new relation; for a left-out stem: whether the asked thing still sounds)"
            )
        return new_truth
    if "moved" in effects.values() and asks_when:
        if new_truth is None:
            raise ValueError(
                f"right_answer: {kind} moves the evidence in time and the question asks when, so "
                f"target={target!r} is a stale time; give new_truth (the time after the {kind})"
            )
        return new_truth
    if new_truth is not None and new_truth != target:
        kept = "does not ask when" if "moved" in effects.values() else f"rests on {', '.join(asked)}"
        raise ValueError(
            f"right_answer: the question {kept}, which {kind} leaves as it was, so target={target!r} stays "
            f"right, yet new_truth={new_truth!r} was given (wrong kind, wrong evidence, or asks_when forgotten?)"
        )
    return target
