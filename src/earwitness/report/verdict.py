"""One sentence in plain words: does the model listen?

The rule, in this order (limits are those of the 95 % intervals; "enough" is ten clips, the fewest for which the
statistics here give a test at all):

1. a quarter of the deciding answers or more failed or could not be read -> no verdict;
2. fewer than ten clips -> too few to say;
3. even where picture and sound agree it is no better than guessing -> it cannot be told;
4. the sound was replaced: it follows the picture in more than half (lower limit) -> does not listen; follows the
   sound in more than half (lower limit) -> listens (and says so if it also makes up sounds in silence); both
   clearly happen -> listens only sometimes; neither -> follows neither; else the interval is too wide to say;
5. nothing was replaced, but muted: it describes sounds in silence (lower limit above half) -> does not listen;
   keeps quiet (upper limit below half) -> notices silence.

Functions: :func:`verdict`, :func:`percent`, :func:`interval`, :func:`clips_of`, :func:`spoken_name`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from earwitness.records import Estimate, Judged, how_many
from earwitness.report.figures import Figure, Follow, figures, follow, unscored

Kind = Literal["does not listen", "listens", "mixed", "neither", "too little", "no verdict"]
ENOUGH = 10  # clips
TOO_MANY_MISSING = 0.25


@dataclass(frozen=True)
class Verdict:
    """The sentence, its short kind, and what it rests on."""

    kind: Kind
    sentence: str
    follow: Follow | None
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()


def percent(value: float) -> str:
    """A share as a person writes it; never "0 %" or "100 %" where it is not exactly that."""
    if 0 < value < 0.005:
        return "< 1 %"
    if 0.995 < value < 1:
        return "> 99 %"
    return f"{100 * value:.0f} %"


def interval(e: Estimate) -> str:
    """Limits in per cent: ``[91, 99]``."""
    return f"[{100 * e.low:.0f}, {100 * e.high:.0f}]"


def spoken_name(model: str) -> str:
    """A model's name at the start of a sentence: ``hans`` is a name, others stay as they were given."""
    return "Hans" if model == "hans" else model


def clips_of(n: int, clips: int) -> str:
    """How much a number rests on: ``60 clips``, or ``180 answers on 60 clips``."""
    counted = how_many(clips, "clip")
    return counted if n == clips else f"{how_many(n, 'answer')} on {counted}"


def verdict(model: str, judged: Sequence[Judged]) -> Verdict:
    """The verdict on a run. ``model`` is the name it was asked under."""
    name, keys = spoken_name(model), figures(judged)
    believes = follow(judged)
    by_key = {f.key: f for f in keys}
    failed = sum(unscored(j) for j in judged)
    notes = tuple(_notes(judged, believes))

    def end(kind: Kind, sentence: str) -> Verdict:
        return Verdict(kind, sentence, believes, tuple(keys), notes)

    if not judged:
        return end("no verdict", f"No verdict on {name}: the run holds no answers.")
    if failed >= TOO_MANY_MISSING * len(judged) and believes is None:
        return end("no verdict", _failed(name, failed / len(judged)))
    if believes is not None:
        return end(*_by_conflict(name, believes, by_key))
    silence = by_key.get("mute") or by_key.get("leak") or by_key.get("presence")
    if silence is not None:
        return end(*_by_silence(name, silence))
    return end(
        "no verdict",
        f"No verdict on {name}: no question of this run asks about a sound that was there and was then muted or "
        "replaced.",
    )


def _failed(name: str, share: float) -> str:
    return f"No verdict on {name}: {percent(share)} of its answers failed or could not be read."


def _by_conflict(name: str, f: Follow, by_key: dict[str, Figure]) -> tuple[Kind, str]:
    picture, sound = f.picture, f.sound
    basis = clips_of(picture.n, f.clips)
    numbers = (
        f"when the sound was replaced, it named the sound of what it saw in {percent(picture.value)} of {basis} "
        f"{interval(picture)} and the real sound in {percent(sound.value)}"
    )
    if f.missing_share >= TOO_MANY_MISSING:
        return "no verdict", (
            f"No verdict on {name}: {percent(f.missing_share)} of its answers on replaced sound failed or could "
            "not be read."
        )
    if picture.clusters < ENOUGH:
        return "too little", f"{_too_few(picture, f.clips)} to say whether {name} listens: {numbers}."
    natural = by_key.get("natural")
    if natural is not None and natural.chance is not None and natural.estimate.low <= natural.chance:
        return "no verdict", (
            f"Whether {name} listens cannot be told: even where picture and sound agree, it names the sound in "
            f"only {percent(natural.estimate.value)} {interval(natural.estimate)} of the answers, where guessing "
            f"gives {percent(natural.chance)}."
        )
    if picture.low > 0.5:
        return "does not listen", f"{name} does not listen: {numbers}."
    if sound.low > 0.5:
        reversed_numbers = (
            f"when the sound was replaced, it named the new sound in {percent(sound.value)} of {basis} "
            f"{interval(sound)} and the sound of what it saw in {percent(picture.value)}"
        )
        silence = by_key.get("mute") or by_key.get("leak")
        if silence is not None and silence.estimate.low > 0.5:
            return "mixed", (
                f"{name} listens while there is something to hear, but makes up sounds in silence: "
                f"{reversed_numbers}; of muted clips it described a sound in {percent(silence.estimate.value)} "
                f"{interval(silence.estimate)}."
            )
        return "listens", f"{name} listens: {reversed_numbers}."
    if f.other.low > 0.5:
        return "neither", f"{name} follows neither its ears nor its eyes: {numbers}."
    if min(picture.low, sound.low) > 0.1:
        return "mixed", f"{name} listens only some of the time: {numbers} {interval(sound)}."
    return "too little", f"The evidence does not settle whether {name} listens: {numbers} {interval(sound)}."


def _by_silence(name: str, figure: Figure) -> tuple[Kind, str]:
    e = figure.estimate
    basis = clips_of(e.n, figure.clips)
    numbers = f"with the sound muted, it still described a sound in {percent(e.value)} of {basis} {interval(e)}"
    if figure.missing >= TOO_MANY_MISSING * (figure.missing + e.n):
        return "no verdict", _failed(name, figure.missing / (figure.missing + e.n))
    if e.clusters < ENOUGH:
        return "too little", f"{_too_few(e, figure.clips)} to say whether {name} listens: {numbers}."
    if e.low > 0.5:
        return "does not listen", f"{name} does not listen: {numbers}."
    if e.high < 0.5:
        return "listens", f"{name} notices silence: {numbers}."
    return "mixed", f"{name} notices silence only some of the time: {numbers}."


def _too_few(e: Estimate, clips: int) -> str:
    if e.clusters < clips:
        return f"{clips} clips, which lend each other their sound and so count as {e.clusters}, are too few"
    return f"{clips} clip{' is' if clips == 1 else 's are'} too few"


def _notes(judged: Sequence[Judged], f: Follow | None) -> list[str]:
    """What weakens or bounds the verdict, in plain words."""
    out = []
    errors = sum(j.answer.error is not None for j in judged)
    unread = sum(unscored(j) for j in judged) - errors
    if errors or unread:
        parts = []
        if errors:
            parts.append(f"{errors:,} failed")
        if unread:
            parts.append(f"{unread:,} could not be read or refused to say")
        out.append(
            f"Of {how_many(len(judged), 'answer')}, {' and '.join(parts)}; they are counted apart, never guessed."
        )
    if f is not None and f.missing:
        n = f.picture.n + f.missing
        low, high = f.picture.value * f.picture.n / n, (f.picture.value * f.picture.n + f.missing) / n
        if percent(low) != percent(high):
            out.append(
                "Had the missing answers on replaced sound all gone one way, it would follow the picture in at "
                f"least {percent(low)} and at most {percent(high)}."
            )
    return out
