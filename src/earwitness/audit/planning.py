"""What an audit will do, counted and priced before it does it: decodes, encoder passes, tokens, minutes."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from earwitness import interventions
from earwitness.audit.bank import Bank
from earwitness.models import Model
from earwitness.records import ClipSet, Evidence, Intervention, Item


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
    picture = {(i.clip, _picture(i.intervention)) for i in items}
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


def _picture(iv: Intervention) -> str:
    """Which picture of a clip an intervention leaves: black is one, whatever is done to the sound."""
    if iv.unseen or iv.kind == "black":
        return "black"
    return iv.key if _changes(iv, "video") else ""


def _changes(iv: Intervention, evidence: Evidence) -> bool:
    if iv.kind == "sham":  # written again: another wave, to the bit
        return evidence == "audio"
    return interventions.EFFECT[iv.kind][evidence] not in ("untouched", "moved") or (
        evidence == "audio" and iv.kind in ("shift", "hush")
    )


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
        counts = [tokens(interventions.filled(item), one) for item in by_clip[clip]]
        bare = msgspec.structs.replace(by_clip[clip][0], prompt="", filler=None)
        prefix = tokens(bare, one)  # read once a distinct media
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
        some = [interventions.filled(item) for item in items if item.intervention.key in kinds][:8]
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
