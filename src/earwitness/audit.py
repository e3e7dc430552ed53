"""The audit: plan, ear and eye check, ask, resume.  clips x protocols x model -> answers in a run folder.

Work is done once. Items are grouped by clip: a clip is decoded once, each condition is made from the decoded
arrays, items on the same media come one after the other and share one Media object, so that a model encodes
and prefills it once. Answers are appended as they come; the same call on the same folder asks only what has
no answer yet. A model call that raises is retried item by item; what still fails becomes ``Answer.error``:
counted, never scored.

Before any question, :func:`check_model` makes sure that the harness around the model is neither deaf nor
blind: its input receipts and its answers must change when the sound or the picture is replaced.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np

from earwitness import interventions
from earwitness import run as runs
from earwitness.media import sixteen_bit
from earwitness.models import Model
from earwitness.records import Answer, Clip, ClipSet, Evidence, Intervention, Item, Media, View, Wave, digest

Progress = Callable[[int, int, int], None]  # answered, failed, total

CHECK_SOUNDS = ("original", "tone", "mute", "noise", "no_track")
CHECK_PICTURES = ("original", "black")
CHECK_PROMPTS = {
    "audio": "Describe the audio you hear in this video.",
    "visual": "Describe what you see in this video.",
}


class EarCheckError(RuntimeError):
    """The model, as wired here, gets no sound or no picture: whatever it answered would say nothing."""


class Plan(msgspec.Struct, frozen=True):
    """What an audit will do, before it does it."""

    clips: int
    items: int
    media: int  # distinct (clip, intervention)
    decodes: int
    video_passes: int  # distinct frame stacks, at most
    audio_passes: int
    plain_decodes: int  # what a harness that treats every item alone would do
    by_condition: dict[str, int]
    tokens: int | None = None
    plain_tokens: int | None = None
    minutes: float | None = None


def plan(items: Sequence[Item]) -> Plan:
    """Count the work. Black frames and silence are shared by clips of one length, so passes are upper bounds."""
    media = {(item.clip, item.intervention.key) for item in items}
    picture = {(i.clip, i.intervention.key if _changes(i.intervention, "video") else "") for i in items}
    sound = {(i.clip, i.intervention.key if _changes(i.intervention, "audio") else "") for i in items}
    donors = {i.intervention.donor for i in items if i.intervention.donor}
    by_condition: dict[str, int] = {}
    for item in items:
        key = f"{item.protocol}/{item.condition}"
        by_condition[key] = by_condition.get(key, 0) + 1
    clips = {item.clip for item in items}
    return Plan(
        clips=len(clips),
        items=len(items),
        media=len(media),
        decodes=len(clips | donors),
        video_passes=len(picture),
        audio_passes=len(sound),
        plain_decodes=len(items),
        by_condition=by_condition,
    )


def _changes(iv: Intervention, evidence: Evidence) -> bool:
    if iv.kind == "sham":  # written again: another wave, to the bit
        return evidence == "audio"
    return interventions.EFFECT[iv.kind][evidence] not in ("untouched", "moved") or (
        evidence == "audio" and iv.kind == "shift"
    )


class Bank:
    """Decodes each clip once and makes its conditions; bounded by bytes, least recently used goes first."""

    def __init__(self, clips: ClipSet, view: View, *, max_bytes: int = 1 << 30) -> None:
        self._clips, self._view, self._max = clips, view, max_bytes
        self._by_id = {clip.id: clip for clip in clips.clips}
        self._held: OrderedDict[str, Media] = OrderedDict()
        self._bytes = 0
        self.decodes = 0

    def clip(self, clip_id: str) -> Clip:
        """The clip of that id; ValueError where there is none."""
        if clip_id not in self._by_id:
            raise ValueError(
                f"no clip {clip_id!r} among {len(self._by_id)} clips (another --clips than the plan's?)"
            )
        return self._by_id[clip_id]

    def original(self, clip_id: str) -> Media:
        """The untouched clip, decoded at most once while it is held."""
        if clip_id in self._held:
            self._held.move_to_end(clip_id)
            return self._held[clip_id]
        media = self._clips.media(self.clip(clip_id), self._view)
        self.decodes += 1
        self._held[clip_id] = media
        self._bytes += _size(media)
        while self._bytes > self._max and len(self._held) > 1:
            _, old = self._held.popitem(last=False)
            self._bytes -= _size(old)
        return media

    def condition(self, clip_id: str, iv: Intervention) -> Media:
        """The clip under an intervention.

        A sham is the clip as a lossless file holds it, written and read again: its wave in 16-bit steps. It is
        new to the model (another content hash: nothing is taken from a cache), so what differs is noise.
        """
        clip, media = self.clip(clip_id), self.original(clip_id)
        if iv.kind == "sham":
            return media if media.wave is None else media.with_wave(_as_written(media.wave))
        donor = self.original(iv.donor) if iv.donor else None
        stems: Mapping[str, Wave] | None = self._clips.stems(clip, self._view) if iv.kind == "drop_stem" else None
        return interventions.apply(media, iv, donor=donor, stems=stems, events=clip.events)


def _as_written(wave: Wave) -> Wave:
    return (sixteen_bit(wave) / 32768).astype(np.float32)


def _size(media: Media) -> int:
    return sum(0 if a is None else a.nbytes for a in (media.frames, media.wave))


def priced(plan: Plan, items: Sequence[Item], clips: ClipSet, model: Model) -> Plan:
    """The plan with its tokens and minutes, from a few clips; as it was where the model cannot count tokens.

    A prefix of media that several questions share is read once a distinct media; ``plain_tokens`` is what a
    harness reads that treats every item alone.
    """
    tokens = getattr(model, "tokens", None)
    if "tokens" not in model.abilities or tokens is None:
        return plan
    # Media tokens depend on length and size only: one clip stands for the items on it, a few clips for all.
    by_clip: dict[str, list[Item]] = {}
    for item in items:
        by_clip.setdefault(item.clip, []).append(item)
    sample = list(by_clip)[:: max(1, len(by_clip) // 4)][:4]
    bank = Bank(clips, model.view)
    plain = shared = asked = 0
    for clip in sample:
        try:
            one = bank.original(clip)
        except (ValueError, OSError):
            continue
        counts = [tokens(item, one) for item in by_clip[clip]]
        prefix = tokens(msgspec.structs.replace(by_clip[clip][0], prompt=""), one)  # read once a distinct media
        distinct = len({item.intervention.key for item in by_clip[clip]})
        plain += sum(counts)
        shared += sum(counts) - prefix * (len(counts) - distinct)
        asked += len(counts)
    if not asked:
        return plan
    scale = len(items) / asked
    per_token = _seconds_per_token(model, bank, [by_clip[clip] for clip in sample])
    minutes = None if per_token is None else shared * scale * per_token / 60
    return msgspec.structs.replace(
        plan, tokens=round(shared * scale), plain_tokens=round(plain * scale), minutes=minutes
    )


def _seconds_per_token(model: Model, bank: Bank, groups: list[list[Item]]) -> float | None:
    """Seconds a prompt token takes, encoders and answers included: the quickest of a few items of each group.

    The first group warms up where there are more; the quickest, because hiccups of a busy machine only add.
    """
    rates: list[float] = []
    for items in groups:
        kinds = list(dict.fromkeys(item.intervention.key for item in items))[:2]
        some = [item for item in items if item.intervention.key in kinds][:8]
        start = time.perf_counter()
        try:
            media = [bank.condition(item.clip, item.intervention) for item in some]
            model.answer(some, media)
        except Exception:
            return None
        seconds, count = time.perf_counter() - start, model.tokens  # type: ignore[attr-defined]
        prefix = count(msgspec.structs.replace(some[0], prompt=""), media[0])
        tokens = sum(count(i, m) - prefix for i, m in zip(some, media, strict=True)) + prefix * len(kinds)
        rates.append(seconds / max(tokens, 1))
    return min(rates[1:] or rates)


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


def ask(
    model: Model,
    clips: ClipSet,
    items: Sequence[Item],
    folder: Path,
    *,
    progress: Progress | None = None,
    chunk: int = 256,
    retry_failed: bool = False,
) -> dict[str, float]:
    """Ask what has no answer yet, append answers to the run folder; returns decodes, seconds and counts.

    Parameters
    ----------
    chunk : items given to the model in one call, at most (whole clips are kept together where they fit). A
        kill loses at most the chunk in flight, which is asked again.
    retry_failed : ask items again whose answer is an error.
    """
    answered = runs.read_answers(folder)
    failed = sum(a.error is not None for a in answered.values())
    todo = [i for i in items if i.id not in answered or (retry_failed and answered[i.id].error is not None)]
    done = len(items) - len(todo)
    if retry_failed:
        failed = 0
    bank, start = Bank(clips, model.view), time.perf_counter()
    with runs.AnswerLog(folder) as log:
        for batch, media, broken in _chunks(todo, bank, model.name, chunk):
            answers = [*broken, *_answer(model, batch, media)]
            log.append(answers)
            done += len(answers)
            failed += sum(a.error is not None for a in answers)
            if progress:
                progress(done, failed, len(items))
    return {"asked": len(todo), "failed": failed, "decodes": bank.decodes, "seconds": time.perf_counter() - start}


def _chunks(
    todo: Sequence[Item], bank: Bank, model: str, size: int
) -> Iterator[tuple[list[Item], list[Media], list[Answer]]]:
    """Items with media in batches, grouped by clip, then intervention; items whose media fail come as errors."""
    order = {clip: n for n, clip in enumerate(dict.fromkeys(item.clip for item in todo))}
    todo = sorted(todo, key=lambda i: (order[i.clip], i.intervention.key))
    batch: list[Item] = []
    media: list[Media] = []
    broken: list[Answer] = []
    for (clip, _), group in groupby(todo, key=lambda i: (i.clip, i.intervention.key)):
        same = list(group)
        if batch and len(batch) + len(same) > size:
            yield batch, media, broken
            batch, media, broken = [], [], []
        try:
            one = bank.condition(clip, same[0].intervention)
        except Exception as error:  # a broken clip is data: named, counted, and the run goes on
            why = f"{type(error).__name__}: {error}"
            broken += [Answer(item=i.id, model=model, error=f"clip {clip}: {why}") for i in same]
            continue
        batch += same
        media += [one] * len(same)
    if batch or broken:
        yield batch, media, broken


def _answer(model: Model, items: list[Item], media: list[Media]) -> list[Answer]:
    if not items:
        return []
    start = time.perf_counter()
    try:
        answers = _checked(model.answer(items, media), items)
    except Exception as error:
        if len(items) == 1:
            why = f"{type(error).__name__}: {error}"
            return [Answer(item=items[0].id, model=model.name, error=why, seconds=time.perf_counter() - start)]
        half = len(items) // 2  # halves, not singles: one bad item among n costs about log2(n) calls more
        return [*_answer(model, items[:half], media[:half]), *_answer(model, items[half:], media[half:])]
    return answers


def _checked(answers: list[Answer], items: Sequence[Item]) -> list[Answer]:
    if [a.item for a in answers] != [i.id for i in items]:
        raise ValueError(f"the model returned answers for other items than asked ({len(answers)} for {len(items)})")
    return [
        msgspec.structs.replace(a, text=None, error="empty answer")
        if a.error is None and not (a.text or "").strip()
        else a
        for a in answers
    ]
