"""Is this clip in the set already? Prints of pictures and sounds, and the clips of a set that repeat each other.

The same recording comes back under another name, re-encoded, rescaled, louder, with a logo: its bytes differ, its
print hardly. A print is made of bits that compare neighbouring amounts, so a codec or a gain changes few of them:

- pictures: a perceptual hash of 64 bits (pHash; Zauner 2010, section 3.2.1) of one picture a second. Low
  frequencies of its cosine transform against their median;
- sound: 16 bits four times a second. Whether the difference between neighbouring bands of a spectrum rises or
  falls (Haitsma and Kalker 2002, equation 1), on coarser times, so that a codec's delay of 50 ms does not matter.

Pictures without detail and silent moments have no telling bits: they are left out, not compared. Two clips are
compared from their starts, second by second, as far as the shorter one goes: the same recording cut from another
second is not found (give such clips the same ``source``).

Finding pairs is near-linear: clips meet only where they agree exactly on a slice of 16 bits of a picture, or 32 of
a sound; within such a meeting each is compared with its neighbours in the order of the whole hash. What meets is
then compared in full.

Functions: ``print_of`` (media -> Print), ``picture_bits``, ``sound_bits``, ``repeats`` (pairs of a set),
``duplicates`` (verdicts of a set).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from earwitness.curate.checks.gates import Limits, area
from earwitness.curate.checks.verdict import Verdict
from earwitness.records import Frames, Media, Times, Wave

REVISION = "prints-1"
PICTURES = 16  # at most: the first 16 s of a clip
SIDE, LOW = 32, 8  # a picture is brought to 32 x 32; of its transform 8 x 8 are kept (Zauner 2010)
FLAT = 2.0  # grey levels: standard deviation under which a picture has no detail to tell it by
SOUNDS = 64  # at most, four a second: the first 16 s of a clip
HOP, SPAN = 0.25, 0.5  # s between two spectra, and long each is
BANDS = 17  # give 16 differences; their edges are spaced evenly in log frequency
LOWEST, HIGHEST = 200.0, 6000.0  # Hz: what every codec and every 16 kHz version keeps
FAINT = 45.0  # dB under a sound's loudest span: fainter spans are noise of the recording or of the codec
TELLING = 6  # spans (1.5 s) of sound that two clips must both have to be compared
BESIDE = 6  # neighbours within a meeting that each clip is compared with
CHUNK = 200_000  # pairs compared at once

Bits = NDArray[np.uint64]


class Print(msgspec.Struct, frozen=True, kw_only=True):
    """What a clip is recognised by; plain numbers, so that it can be written down as JSON.

    ``pictures``: one hash a second, None where the picture is flat; ``sounds``: 16 bits each quarter second, None
    where it is silent. Empty: there is no such track.
    """

    pictures: tuple[int | None, ...] = ()
    sounds: tuple[int | None, ...] = ()


class Repeat(NamedTuple):
    """Two clips of a set, by their places, and the share of bits in which they differ; None: not to be compared."""

    first: int
    second: int
    picture: float | None
    sound: float | None


def print_of(media: Media) -> Print:
    """The print of a decoded clip (through ``gates.LOOK``, or any view of 1 picture a second and 12 kHz up)."""
    pictures: tuple[int | None, ...] = ()
    if media.frames is not None and media.times is not None:
        pictures = _told(*picture_bits(media.frames, media.times, media.duration))
    sounds = () if media.wave is None else _told(*sound_bits(media.wave, media.rate))
    return Print(pictures=pictures, sounds=sounds)


def _told(bits: NDArray[np.unsignedinteger], telling: NDArray[np.bool_]) -> tuple[int | None, ...]:
    return tuple(int(b) if t else None for b, t in zip(bits, telling, strict=True))


def picture_bits(frames: Frames, times: Times, duration: float) -> tuple[Bits, NDArray[np.bool_]]:
    """A hash of 64 bits for the middle of each second, and whether it tells anything (flat pictures do not)."""
    at = np.arange(max(1, min(PICTURES, int(duration)))) + 0.5
    chosen = np.clip(np.searchsorted(times, at + 1e-6, side="right") - 1, 0, len(frames) - 1)
    grey = frames[chosen].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    small = area(grey.astype(np.float32), SIDE)
    low = fft.dctn(small, axes=(1, 2), norm="ortho")[:, :LOW, :LOW].reshape(len(chosen), -1)
    # The first term is the mean brightness, which a copy may change: it has no part in the median (Zauner 2010).
    bits = low > np.median(low[:, 1:], axis=1, keepdims=True)
    bits[:, 0] = False
    packed: Bits = np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)
    return packed, small.std(axis=(1, 2)) >= FLAT


def sound_bits(wave: Wave, rate: int) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """16 bits for each quarter second, and whether it tells anything (silence does not).

    Haitsma and Kalker 2002, equation 1: bit m is 1 where E(n, m) - E(n, m+1) - (E(n-1, m) - E(n-1, m+1)) > 0, here
    with E the log of the energy in a band (a gain cancels), 17 bands of 200 to 6,000 Hz, spans of 0.5 s every
    0.25 s, n - 1 two spans before (they do not overlap).
    """
    if rate < 2 * HIGHEST:
        raise ValueError(f"a sound's print needs a rate of at least {2 * HIGHEST:.0f} Hz, got {rate}")
    mono = wave.mean(axis=0, dtype=np.float32)
    size, hop = round(SPAN * rate), round(HOP * rate)
    count = min(SOUNDS + 2, (len(mono) - size) // hop + 1)
    if count < 3:
        return np.empty(0, np.uint16), np.empty(0, np.bool_)
    hann = np.hanning(size).astype(np.float32)
    spans = np.lib.stride_tricks.sliding_window_view(mono, size)[::hop][:count] * hann
    power = np.square(np.abs(fft.rfft(spans, axis=1)))
    edges = np.rint(np.geomspace(LOWEST, HIGHEST, BANDS + 1) * size / rate).astype(int)
    energy = np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1).astype(np.float64)
    total = energy.sum(axis=1)
    floor = total.max() * 10 ** (-FAINT / 10)
    energy = np.log(energy + floor / BANDS + 1e-12)
    tilt = energy[:, :-1] - energy[:, 1:]
    bits = tilt[2:] > tilt[:-2]
    loud = (total > floor) & (total > 1e-6)
    packed: NDArray[np.uint16] = np.packbits(bits, axis=1).view(">u2")[:, 0].astype(np.uint16)
    return packed, loud[2:] & loud[:-2]


# ---------------------------------------------------------------- pairs of a set


def ones(words: NDArray[np.unsignedinteger]) -> NDArray[np.int64]:
    """How many bits are set in each number."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.asarray(np.bitwise_count(words), np.int64)
    table = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
    out: NDArray[np.int64] = table[words[..., None].view(np.uint8)].sum(axis=-1).astype(np.int64)
    return out


def _table(
    rows: Sequence[tuple[int | None, ...]], width: int, kind: type[np.unsignedinteger]
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.bool_]]:
    """Prints as arrays [clip, position]: bits, and whether they tell anything."""
    bits, telling = np.zeros((len(rows), width), kind), np.zeros((len(rows), width), np.bool_)
    for number, row in enumerate(rows):
        known = [(at, value) for at, value in enumerate(row[:width]) if value is not None]
        if known:
            places, values = zip(*known, strict=True)
            bits[number, list(places)] = np.array(values, kind)
            telling[number, list(places)] = True
    return bits, telling


def _meeting(
    keys: NDArray[np.integer], order: NDArray[np.unsignedinteger], clips: NDArray[np.int64], count: int
) -> NDArray[np.int64]:
    """Pairs of clips (as first * count + second) that share a key, each with its neighbours in ``order`` there."""
    place = np.lexsort((clips, order, keys))
    keys, clips = keys[place], clips[place]
    found = [np.empty(0, np.int64)]
    for step in range(1, min(BESIDE, len(keys) - 1) + 1):
        same = (keys[step:] == keys[:-step]) & (clips[step:] != clips[:-step])
        one, other = clips[:-step][same], clips[step:][same]
        found.append(np.minimum(one, other) * count + np.maximum(one, other))
    return np.unique(np.concatenate(found))


def _differing(
    bits: NDArray[np.unsignedinteger], telling: NDArray[np.bool_], pairs: NDArray[np.int64], least: int
) -> NDArray[np.float64]:
    """The share of differing bits of each pair [n, 2], over what tells something in both; NaN under ``least``."""
    width = 8 * bits.dtype.itemsize
    out = np.full(len(pairs), np.nan)
    for at in range(0, len(pairs), CHUNK):
        one, other = pairs[at : at + CHUNK].T
        both = telling[one] & telling[other]
        number = both.sum(axis=1)
        apart = (ones(bits[one] ^ bits[other]) * both).sum(axis=1)
        enough = number >= least
        out[at : at + CHUNK][enough] = apart[enough] / (width * number[enough])
    return out


def repeats(prints: Sequence[Print], limits: Limits | None = None) -> list[Repeat]:
    """Pairs of clips whose pictures or sounds are one, in the order of the set; near-linear in its size."""
    limits = limits or Limits()
    count = len(prints)
    if count < 2:
        return []
    shown, shows = _table([p.pictures for p in prints], PICTURES, np.uint64)
    heard, sounds = _table([p.sounds for p in prints], SOUNDS, np.uint16)
    met = np.unique(np.concatenate([_seen_alike(shown, shows, count), _heard_alike(heard, sounds, count)]))
    pairs = np.stack([met // count, met % count], axis=1)
    picture, sound = _differing(shown, shows, pairs, 1), _differing(heard, sounds, pairs, TELLING)
    with np.errstate(invalid="ignore"):
        kept = np.flatnonzero((picture <= limits.picture) | (sound <= limits.sound))
    return [Repeat(int(pairs[k, 0]), int(pairs[k, 1]), _or_none(picture[k]), _or_none(sound[k])) for k in kept]


def _or_none(share: float) -> float | None:
    return None if np.isnan(share) else float(share)


def _seen_alike(shown: NDArray[np.unsignedinteger], shows: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Pairs that agree on one of four slices of 16 bits of a picture at the same second."""
    clips, at = np.nonzero(shows)
    whole = shown[clips, at]
    found = [np.empty(0, np.int64)]
    for part in range(4):
        turned = (whole << np.uint64(16 * part)) | (whole >> np.uint64((64 - 16 * part) % 64)) if part else whole
        keys = (turned >> np.uint64(48)).astype(np.int64) * PICTURES + at
        found.append(_meeting(keys, turned, clips, count))
    return np.concatenate(found)


def _heard_alike(heard: NDArray[np.unsignedinteger], sounds: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Pairs that agree on 32 bits of sound: the spans at one moment and at the one half a second later."""
    clips, at = np.nonzero(sounds[:, :-2] & sounds[:, 2:])
    wide = heard.astype(np.int64)
    keys = ((wide[clips, at] << 16) | wide[clips, at + 2]) * SOUNDS + at
    order = np.zeros(len(keys), np.uint64)
    for ahead in (4, 6):  # what comes next orders those that agree
        later = np.minimum(at + ahead, SOUNDS - 1)
        order = (order << np.uint64(16)) | heard[clips, later].astype(np.uint64)
    return _meeting(keys, order, clips, count)


# ---------------------------------------------------------------- verdicts


def duplicates(prints: Mapping[str, Print], limits: Limits | None = None) -> list[Verdict]:
    """One ``duplicate`` verdict for each clip of a set, in its order: the first of a group passes, the others fail.

    A clip is a duplicate where picture and sound both repeat, or the only one of the two that tells anything does.
    Where one repeats and the other does not (a dubbed clip, a sound from a library), the later clip gets a second,
    failed verdict, ``same_picture`` or ``same_sound``: what that means depends on the set (twins share pictures).
    No verdict for clips with nothing to tell them by.
    """
    limits = limits or Limits()
    names = list(prints)
    whole: dict[int, list[Repeat]] = {}
    partly: dict[tuple[str, int], Repeat] = {}
    group = list(range(len(names)))
    for pair in sorted(repeats(list(prints.values()), limits)):
        held = ((pair.picture, limits.picture), (pair.sound, limits.sound))
        alike = [None if share is None else share <= limit for share, limit in held]
        if False not in alike:
            whole.setdefault(pair.second, []).append(pair)
            one, other = sorted((_root(group, pair.first), _root(group, pair.second)))
            group[other] = one
        else:
            partly.setdefault(("same_picture" if alike[0] else "same_sound", pair.second), pair)
    out = []
    for number in range(len(names)):
        out.append(_whole(names, number, _root(group, number), prints, whole.get(number, []), limits))
        for check in ("same_picture", "same_sound"):
            if (check, number) in partly:
                out.append(_partly(names, check, partly[check, number], limits))
    return out


def _root(group: list[int], number: int) -> int:
    """The first clip of a clip's group."""
    while group[number] != number:
        group[number] = group[group[number]]
        number = group[number]
    return number


def _whole(
    names: Sequence[str], number: int, first: int, prints: Mapping[str, Print], pairs: Sequence[Repeat],
    limits: Limits,
) -> Verdict:  # fmt: skip
    name = names[number]
    mine = prints[name]
    if all(p is None for p in (*mine.pictures, *mine.sounds)):
        why = "nothing to tell it by: no picture with detail, no sound above silence"
        return Verdict(clip=name, check="duplicate", passed=None, why=why, by=REVISION)
    if first == number:
        why = "repeats no clip before it"
        return Verdict(clip=name, check="duplicate", passed=True, why=why, by=REVISION)
    # In a chain of ever worse copies the first may be far off: then the nearest link is named beside it.
    own = apart(prints[names[first]], mine)
    direct = next((p for p in pairs if p.first == first), None)
    near = direct or (Repeat(first, number, *own) if _one(own, limits) else min(pairs, default=None, key=_worst))
    if near is None:  # linked through later clips only
        near = Repeat(first, number, *own)
    shares = {"picture": near.picture, "sound": near.sound}
    parts = [f"{what} {100 * share:.0f} %" for what, share in shares.items() if share is not None]
    why = f"repeats {names[near.first]} (differing bits: {', '.join(parts) or 'not comparable'})"
    if near.first != first:
        why += f", which repeats {names[first]}"
    value = _worst(near)
    limit = limits.picture if near.picture is not None and value == near.picture else limits.sound
    return Verdict(
        clip=name, check="duplicate", passed=False, value=round(value, 4), limit=limit, unit="share of bits",
        why=why, by=REVISION,
    )  # fmt: skip


def _worst(pair: Repeat) -> float:
    return max((d for d in (pair.picture, pair.sound) if d is not None), default=1.0)


def _one(apart: tuple[float | None, float | None], limits: Limits) -> bool:
    told = [d <= m for d, m in zip(apart, (limits.picture, limits.sound), strict=True) if d is not None]
    return bool(told) and all(told)


def _partly(names: Sequence[str], check: str, pair: Repeat, limits: Limits) -> Verdict:
    value, limit = (pair.picture, limits.picture) if check == "same_picture" else (pair.sound, limits.sound)
    other = "sound" if check == "same_picture" else "picture"
    assert value is not None
    why = f"has the {check.removeprefix('same_')} of {names[pair.first]}, and another {other}"
    return Verdict(
        clip=names[pair.second], check=check, passed=False, value=round(value, 4), limit=limit,
        unit="share of bits", why=why, by=REVISION,
    )  # fmt: skip


def apart(one: Print, other: Print) -> tuple[float | None, float | None]:
    """The shares of differing bits of two clips' pictures and sounds; None where there is too little to compare."""
    pair = np.array([[0, 1]])
    shown, shows = _table([one.pictures, other.pictures], PICTURES, np.uint64)
    heard, sounds = _table([one.sounds, other.sounds], SOUNDS, np.uint16)
    picture, sound = _differing(shown, shows, pair, 1)[0], _differing(heard, sounds, pair, TELLING)[0]
    return _or_none(picture), _or_none(sound)
