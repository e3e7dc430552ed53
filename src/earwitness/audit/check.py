"""Ear and eye check: does the sound, does the picture reach the model as it is wired here?

A local model's receipts are measured behind its own preprocessing: equal receipts for different sounds prove a
deaf harness. What was *sent* to a server proves nothing (``Fed.measured == "sent"``): there the judgement rests on
what comes back, on what is said and on the server's own token counts. A server that drops the sound and a model
that ignores it look alike while the picture is on; with black pictures the second one tells sounds apart if it can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

import msgspec

from earwitness import interventions
from earwitness.models import Model
from earwitness.models.budget import BudgetSpent
from earwitness.models.served import Fatal
from earwitness.records import Answer, Intervention, Item, Media, digest

CHECK_SOUNDS = ("original", "tone", "mute", "noise", "no_track")
CHECK_PICTURES = ("original", "black")
CHECK_PROMPTS = {
    "audio": "Describe the audio you hear in this video.",
    "visual": "Describe what you see in this video.",
}
AGAIN = "original again"
# The second round for served models: the other organ closed, and what is shown or played then.
CLOSED = {"audio": ("black", ("original", "tone", "mute")), "visual": ("mute", ("original", "black", "no_frames"))}
MARKS = 4  # prompt tokens that may stand around a track that is not there
TIME_MARK = 12  # tokens in which a frame's time may be written beside it
STEADY = 0.02  # difference of log-probabilities that says nothing: batches and caches of a server move them as much


class EarCheckError(RuntimeError):
    """The model, as wired here, gets no sound or no picture: whatever it answered would say nothing."""


class Unasked(ValueError):
    """The check could not be made: no answers, no budget. That says nothing of ears or eyes."""


def check_model(model: Model, media: Media) -> list[dict[str, object]]:
    """Ear and eye check on one clip that has sound and picture; returns what was seen, condition by condition.

    Greedy answers and receipts for the original, a 440 Hz sine, silence, white noise and no track; for black
    and original frames. Identical answers AND identical receipts mean that the harness drops the sound (or the
    picture) on the way: no score of such a run would mean anything.

    Where receipts are of what was sent, the original is asked twice (to know what differs by itself), and where the
    answers do not react, once more with the other organ closed. The first row of an organ then says under "proof"
    what the conclusion rests on.

    Raises
    ------
    EarCheckError
        Where the sound or the picture does not reach the model.
    ValueError
        Where the clip itself lacks sound or picture; where the server refuses every request; as Unasked where the
        model does not answer or the budget is spent.
    """
    if media.wave is None or media.frames is None or not media.wave.any():
        raise ValueError("the ear and eye check needs a clip with sound and picture")
    report: list[dict[str, object]] = []
    for organ, conditions in (("audio", CHECK_SOUNDS), ("visual", CHECK_PICTURES)):
        seen = {kind: _ask_check(model, media, kind, organ) for kind in conditions}
        original = seen["original"]
        if original.fed is not None and original.fed.measured == "sent":
            proof, closed = _judge_served(model, media, organ, seen)
            rows = _rows(organ, {**seen, **closed})
            report += [{**rows[0], "proof": proof}, *rows[1:]]
        else:
            report += _rows(organ, seen)
            _judge_check(model.name, organ, seen)
    return report


def _rows(organ: str, seen: Mapping[str, Answer]) -> list[dict[str, object]]:
    return [
        {
            "organ": organ,
            "condition": kind,
            "text": answer.text,
            "error": answer.error,
            "fed": msgspec.to_builtins(answer.fed) if answer.fed else None,
        }
        for kind, answer in seen.items()
    ]


def _ask_check(model: Model, media: Media, kind: str, organ: str, *, name: str | None = None) -> Answer:
    iv = Intervention(kind=kind)  # type: ignore[arg-type]
    name = name or kind
    item = Item(
        id=digest("check", organ, name), protocol="check", condition=name, question=organ, clip="check",
        source="check", group="check", intervention=iv, prompt=CHECK_PROMPTS[organ], target=None,
    )  # fmt: skip
    try:
        return model.answer([item], [interventions.apply(media, iv)])[0]
    except BudgetSpent:
        raise Unasked(
            f"the budget is spent in the ear and eye check, before any question: {model.budget.spent()}. "  # type: ignore[attr-defined]
            "A higher limit goes on"
        ) from None
    except Fatal:  # the server refuses everybody: that says nothing of ears
        raise
    except Exception as error:
        return Answer(item=item.id, model=model.name, error=f"{type(error).__name__}: {error}")


def _judge_check(name: str, organ: str, seen: Mapping[str, Answer]) -> None:
    what, track = _words(organ)
    fed = _answered(name, organ, seen)
    receipts = {None if a.fed is None else getattr(a.fed, f"{track}_hash") for a in fed.values()}
    outputs = {(a.text, msgspec.json.encode(a.logprobs, order="sorted")) for a in fed.values()}
    if len(receipts) == 1 and (len(outputs) == 1 or receipts != {None}):
        raise EarCheckError(
            f"{name} gave {'identical answers and ' if len(outputs) == 1 else ''}identical receipts for "
            f"{', '.join(fed)}: the harness is {'deaf' if track == 'audio' else 'blind'}: the {what} does not "
            f"reach the model. No scores were made. (Is the {what} dropped by its loader, cached by file name, or "
            f"switched off?)"
        )


def _words(organ: str) -> tuple[str, str]:
    return ("sound", "audio") if organ == "audio" else ("picture", "video")


def _answered(name: str, organ: str, seen: Mapping[str, Answer]) -> dict[str, Answer]:
    """Answers to conditions that have the track.

    Raises Unasked where they are too few, EarCheckError where the receipt of the original shows no such track.
    """
    what, track = _words(organ)
    original = seen["original"]
    if original.fed is not None and getattr(original.fed, f"{track}_hash") is None:
        raise EarCheckError(
            f"{name} was given a clip with {what}, and its receipt shows that no {what} reached the model: the "
            f"harness is {'deaf' if track == 'audio' else 'blind'}. No scores were made. "
            f"(Is the {what} switched off in its wrapper, e.g. use_audio_in_video=False?)"
        )
    if original.error is not None:
        raise Unasked(f"{name} could not be asked in the ear and eye check: {original.error}")
    fed = {k: a for k, a in seen.items() if k != "no_track" and a.error is None}
    if len(fed) < 2:
        errors = "; ".join(f"{k}: {a.error}" for k, a in seen.items() if a.error)
        raise Unasked(f"{name} failed on every changed {what}, so the ear and eye check cannot tell: {errors}")
    return fed


# --- served models: judged by what comes back -----------------------------------------------------------------


def _judge_served(
    model: Model, media: Media, organ: str, seen: Mapping[str, Answer]
) -> tuple[str, dict[str, Answer]]:
    """What proves that the track reaches the served model, and the further answers that it took.

    Raises EarCheckError where nothing does.
    """
    what, track = _words(organ)
    fed = _answered(model.name, organ, seen)
    further = {AGAIN: _ask_check(model, media, "original", organ, name=AGAIN)}
    again = further[AGAIN]
    steady = again.text == fed["original"].text  # otherwise differing texts prove nothing
    noise = STEADY + 3 * abs((again.logprob or 0.0) - (fed["original"].logprob or 0.0))
    if _react(fed.values(), steady, noise):
        return f"its answers change with the {what}", further
    other, kinds = CLOSED[organ]
    closing = interventions.apply(media, Intervention(kind=other))  # type: ignore[arg-type]
    closed = {k: _ask_check(model, closing, k, organ, name=f"{other}+{k}") for k in kinds}
    further |= {f"{other}+{k}": a for k, a in closed.items()}
    if _react([a for k, a in closed.items() if k != "no_frames" and a.error is None], steady, noise):
        alone = "with black pictures" if organ == "audio" else "in silence"
        return f"its answers change with the {what} {alone}, and not otherwise", further
    without = seen["no_track"] if organ == "audio" else closed["no_frames"]
    within = fed["original"] if organ == "audio" else closed["original"]
    counted = _counted(track, within, without)
    if counted:
        return f"the server counts {counted} tokens of {what}, though no answer changes with it", further
    if not steady and counted is None:
        return f"not proven: it answers the same question differently, and counts no tokens of {what}", further
    raise EarCheckError(
        f"{model.name} gave the same answers for {', '.join(fed)}"
        + ("" if steady else " (as far as its answers to one and the same question agree)")
        + f", also {'with black pictures' if organ == 'audio' else 'in silence'}"
        + (f", and its prompt is no longer with the {what} than without" if counted == 0 else "")
        + f": the server is {'deaf' if organ == 'audio' else 'blind'}: the {what} does not reach the model. No "
        f"scores were made. (Does it drop the {what}, as where use_audio_in_video is not passed on? Another way to "
        f"send it: --set parts=frames+audio, or parts=video+audio)"
    )


def _react(answers: Iterable[Answer], steady: bool, noise: float) -> bool:
    """Whether two answers differ by more than answers to one and the same question do."""
    for a, b in combinations(answers, 2):
        if steady and a.text != b.text:
            return True
        one, two = (
            {**(x.logprobs or {}), **({} if x.logprob is None or a.text != b.text else {"": x.logprob})}
            for x in (a, b)
        )
        if any(abs(one[k] - two[k]) > noise for k in one.keys() & two.keys()):
            return True
    return False


def _counted(track: str, within: Answer, without: Answer) -> int | None:
    """Tokens that the track takes in the prompt by the server's own count; None where it does not tell."""
    if within.fed is None:
        return None
    told: int | None = getattr(within.fed, f"{track}_tokens")
    if told:  # some servers say 0 of every prompt
        bare: int | None = None if without.fed is None else getattr(without.fed, f"{track}_tokens")
        return max(0, told - (bare or 0))
    if without.error is not None or without.fed is None:
        return None
    long, short = within.fed.prompt_tokens, without.fed.prompt_tokens
    if long is None or short is None:
        return None
    marks = MARKS if track == "audio" else MARKS + TIME_MARK * (within.fed.frames or 0)
    return long - short if long - short > marks else 0
