"""Ear and eye check: does the sound, does the picture reach the model as it is wired here?"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from earwitness import interventions
from earwitness.models import Model
from earwitness.records import Answer, Intervention, Item, Media, digest

CHECK_SOUNDS = ("original", "tone", "mute", "noise", "no_track")
CHECK_PICTURES = ("original", "black")
CHECK_PROMPTS = {
    "audio": "Describe the audio you hear in this video.",
    "visual": "Describe what you see in this video.",
}


class EarCheckError(RuntimeError):
    """The model, as wired here, gets no sound or no picture: whatever it answered would say nothing."""


def check_model(model: Model, media: Media) -> list[dict[str, object]]:
    """Ear and eye check on one clip that has sound and picture; returns what was seen, condition by condition.

    Greedy answers and receipts for the original, a 440 Hz sine, silence, white noise and no track; for black
    and original frames. Identical answers AND identical receipts mean that the harness drops the sound (or the
    picture) on the way: no score of such a run would mean anything.

    Raises
    ------
    EarCheckError
        Where the sound or the picture does not reach the model, or the model cannot be asked at all.
    ValueError
        Where the clip itself lacks sound or picture.
    """
    if media.wave is None or media.frames is None or not media.wave.any():
        raise ValueError("the ear and eye check needs a clip with sound and picture")
    report: list[dict[str, object]] = []
    for organ, conditions in (("audio", CHECK_SOUNDS), ("visual", CHECK_PICTURES)):
        seen: dict[str, Answer] = {}
        for kind in conditions:
            answer = _ask_check(model, media, kind, organ)
            seen[kind] = answer
            fed = msgspec.to_builtins(answer.fed) if answer.fed else None
            report.append(
                {"organ": organ, "condition": kind, "text": answer.text, "error": answer.error, "fed": fed}
            )
        _judge_check(model.name, organ, seen)
    return report


def _ask_check(model: Model, media: Media, kind: str, organ: str) -> Answer:
    iv = Intervention(kind=kind)  # type: ignore[arg-type]
    item = Item(
        id=digest("check", organ, kind), protocol="check", condition=kind, question=organ, clip="check",
        source="check", group="check", intervention=iv, prompt=CHECK_PROMPTS[organ], target=None,
    )  # fmt: skip
    try:
        return model.answer([item], [interventions.apply(media, iv)])[0]
    except Exception as error:
        return Answer(item=item.id, model=model.name, error=f"{type(error).__name__}: {error}")


def _judge_check(name: str, organ: str, seen: Mapping[str, Answer]) -> None:
    what, track = ("sound", "audio") if organ == "audio" else ("picture", "video")
    original = seen["original"]
    if original.error is not None:
        raise EarCheckError(f"{name} could not be asked: {original.error}")
    if original.fed is not None and getattr(original.fed, f"{track}_hash") is None:
        raise EarCheckError(
            f"{name} was given a clip with {what}, and its receipt shows that no {what} reached the model: the "
            f"harness is {'deaf' if track == 'audio' else 'blind'}. No scores were made. "
            f"(Is the {what} switched off in its wrapper, e.g. use_audio_in_video=False?)"
        )
    fed = {k: a for k, a in seen.items() if k != "no_track" and a.error is None}
    if len(fed) < 2:
        errors = "; ".join(f"{k}: {a.error}" for k, a in seen.items() if a.error)
        raise EarCheckError(f"{name} failed on every changed {what}: {errors}")
    receipts = {None if a.fed is None else getattr(a.fed, f"{track}_hash") for a in fed.values()}
    outputs = {(a.text, msgspec.json.encode(a.logprobs, order="sorted")) for a in fed.values()}
    if len(receipts) == 1 and (len(outputs) == 1 or receipts != {None}):
        raise EarCheckError(
            f"{name} gave {'identical answers and ' if len(outputs) == 1 else ''}identical receipts for "
            f"{', '.join(fed)}: the harness is {'deaf' if track == 'audio' else 'blind'}: the {what} does not "
            f"reach the model. No scores were made. (Is the {what} dropped by its loader, cached by file name, or "
            f"switched off?)"
        )
