"""Interventions on files, measured on what was written: for people, for served models and for training data.

``render`` writes one clip under one intervention and then opens the result again as a stranger would. A file
whose sound is not where it should be, to 1 ms, is never left behind.

Conventions
-----------
- Wherever only the sound changes, the picture packets are copied, not encoded again, and compared after the
  writing: ``picture`` says "identical" then.
- A shift is done in samples, at the file's own rate and on all channels. Shifted timestamps are ignored by the
  loaders that models use.
- The original goes through the same writer ("original" and "sham"), so that it differs from its variants by
  the intervention only, not by a codec generation, a length or an offset.
- FLAC in MP4 by default: exact in every loader, and browsers play it. AAC on request: then sample values are
  not exact, but times still are.
- A sound in which no delay can be told (a pure tone, silence) is reported as "indeterminate", never passed as
  measured; for FLAC ``error`` still tells that every sample is where it was meant to be.

"no_frames" and, for a clip with sound, "no_track" have no file form here: one would be a sound file, which is no
clip, the other is served from memory (served models refuse files without a track anyway). A source without a sound
track has no writer to share with its variants either, so its "original" is a plain copy.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import soxr

from earwitness.interventions.lag import measured_lag
from earwitness.interventions.waves import Changed, changed, fitted, with_channels
from earwitness.media import MediaError, demux, load, load_native, write_black, write_freeze, write_sound
from earwitness.media.write import container_of
from earwitness.records import Event, Intervention, Media, View, Wave, digest

HEAR_RATE = 16_000  # Hz; the rate of the audio encoders of the omni models audited here
TOLERANCE = 0.001  # s; the lag measured on the written file must be within this of the wanted one
_SILENCE_RATE = 48_000  # Hz, of a silent track that a file did not have
_FLAC_ERROR = 1.01 / 32768  # one step of 16-bit PCM

Verdict = Literal["found", "indeterminate", "silent", "no track"]


class Rendered(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, and what was measured on it. Waves are compared on the channels' mean.

    ``lag`` is in seconds, > 0 = sound late: against the source for original, sham, shift, black and freeze;
    against the donor for swap; against the intended sound otherwise. ``wanted`` is what it should be.
    """

    path: str
    source: str
    intervention: Intervention
    codec: str
    picture: Literal["identical", "repacked", "encoded"]  # repacked: copied, in this container's byte form
    video_hash: str  # of the picture packets' bytes
    video_error: int | None = None  # black: the brightest value of any picture (must be 0); freeze: most change
    audio_hash: str | None  # of the sound as decoded from the written file
    added_track: bool = False  # mute of a file without sound: a silent track was put in, which it did not have
    rate: int | None
    channels: int | None
    seconds: float
    wanted: float | None
    lag: float | None
    verdict: Verdict
    lag_peak: float | None = None  # normalised cross-correlation at the lag
    source_peak: float | None = None  # |x| max of the source's sound
    peak: float | None = None  # |x| max of the written sound; exactly 0 for mute
    error: float | None = None  # |decoded - intended| max, in [-1, 1] units
    gain_db: float | None = None  # swap, background: gain given to the other sound
    residual_lu: float | None = None  # swap, background: loudness left over at 16 kHz mono; None = one is silent
    limited_db: float | None = None  # swap, background: the most that its peaks were turned down
    remix_db: float | None = None  # drop_stem: how far the stems' sum is from the source's sound


def render(
    source: str | Path,
    iv: Intervention,
    out: str | Path,
    *,
    donor: str | Path | None = None,
    stems: Mapping[str, Wave] | None = None,
    events: Sequence[Event] = (),
    codec: str = "flac",
    overwrite: bool = False,
) -> Rendered:
    """Write ``source`` under an intervention to ``out`` and measure the result.

    Parameters
    ----------
    source, out : media files; ``out`` is written beside its place first and moved there once it is verified.
    iv : what to do; swap takes the sound of the file ``donor``, drop_stem needs ``stems``.
    stems : name -> wave [1 or channels, samples] at the source's own rate and of its length.
    events : labelled events; a shift that loses one of them is refused.
    codec : "flac" (exact) or "aac".
    overwrite : replace an existing ``out`` (never an input).

    Raises
    ------
    ValueError
        Where ``out`` exists or is an input, and for whatever ``apply`` refuses.
    MediaError
        For files that cannot be read or written, and a result that does not measure up (it is removed).
    """
    source, out = Path(source), Path(out)
    donor = None if donor is None else Path(donor)
    _check_paths(source, out, donor, overwrite)
    part = out.with_name(f".{out.stem}.{os.getpid()}.unverified{out.suffix}")
    try:
        with demux(source) as packets:
            if packets.video is None:
                raise MediaError(f"{source}: no video track: a sound file is no clip to render (a .wav as input?)")
            before = _packets_hash(packets)
            native = load_native(packets)
            added = iv.kind == "mute" and native.wave is None
            if added:
                native = _with_silence(native)
            change, reference = _sound(native, iv, donor, stems, events)
            if iv.kind == "black" or iv.unseen:
                write_black(packets, part, codec, change.wave if iv.unseen else None)
            elif iv.kind == "freeze":
                write_freeze(packets, part, codec=codec)
            elif change.wave is not None:
                write_sound(packets, change.wave, native.rate, part, codec)
            elif native.wave is None and source.suffix.lower() == out.suffix.lower():
                shutil.copyfile(source, part)
            else:
                raise ValueError(_no_file_form(iv, source, native))
        rendered = _measured(part, iv, codec, change, reference, native, before, source, out)
        rendered = msgspec.structs.replace(rendered, added_track=added)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return rendered


def _with_silence(native: Media) -> Media:
    """A file without sound gets a silent track under mute: loaders of audio-visual models insist on a track.

    In memory mute refuses such a clip: there the two conditions, muted and no track, must not be mixed up.
    """
    silence = np.zeros((1, round(native.duration * _SILENCE_RATE)), np.float32)
    return Media(None, None, silence, _SILENCE_RATE, native.duration)


def _no_file_form(iv: Intervention, source: Path, native: Media) -> str:
    if native.wave is None:
        return (
            f"{iv.kind}: {source} has no audio track, so it is copied as it is and keeps its kind of file; "
            f"end the output in {source.suffix}"
        )
    return (
        f"{iv.kind}: a clip without its sound track is not written to a file here (models that read files refuse "
        "it); serve it from memory with apply, or render mute, which keeps a silent track"
    )


def _check_paths(source: Path, out: Path, donor: Path | None, overwrite: bool) -> None:
    if not out.parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.parent} (make it first?)")
    for name, path in (("source", source), ("donor", donor)):
        if path is not None and path.exists() and (out.resolve() == path.resolve() or _same(out, path)):
            raise ValueError(f"{out}: is the {name} itself, which is never written to; give another output")
    if out.suffix.lower() != source.suffix.lower():  # what has no sound is copied, whatever its kind
        container_of(out)
    if donor is not None and donor.exists() and source.exists() and _same(donor, source):
        raise ValueError(f"swap: the donor {donor} is the source itself; its own sound is no swap")
    if out.exists() and not overwrite:
        raise ValueError(f"{out}: exists already; give another output, or replace it (--overwrite, overwrite=True)")


def _same(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _packets_hash(packets: Any) -> str:
    """Content hash of the picture packets' bytes, in decode order."""
    return digest(*(bytes(p) for p in packets.pictures))


def _sound(
    native: Media,
    iv: Intervention,
    donor: Path | None,
    stems: Mapping[str, Wave] | None,
    events: Sequence[Event],
) -> tuple[Changed, Wave | None]:
    """The sound to write at the source's rate and channels, and what to measure the written lag against."""
    wave, rate = native.wave, native.rate
    match iv.kind:
        case "no_frames":
            raise ValueError(
                "no_frames: a clip without pictures is a sound file, not a clip; serve it from memory with apply, "
                "or render black, which keeps the video track"
            )
        case "black" | "freeze":
            return Changed(wave), wave
        case "original" | "sham" if wave is None:
            return Changed(None), None
        case "swap":
            if donor is not None and wave is not None:
                other = _donor_wave(donor, rate)
                change = changed(wave, rate, iv, donor=other, hear_rate=HEAR_RATE)
                return change, fitted(with_channels(other, wave.shape[0]), wave.shape[1], rate)
    change = changed(wave, rate, iv, stems=stems, events=events, hear_rate=HEAR_RATE)
    return change, wave if iv.kind in ("original", "sham", "shift", "hush") else change.wave


def _donor_wave(donor: Path, rate: int) -> Wave:
    """The donor's sound at ``rate``, all its channels."""
    native = load_native(donor)
    if native.wave is None:
        raise ValueError(f"swap: the donor {donor} has no audio track: it has no sound to give; choose another")
    if native.rate == rate:
        return native.wave
    return np.ascontiguousarray(soxr.resample(native.wave.T, native.rate, rate).T, np.float32)


def _peak(wave: Wave | None) -> float | None:
    return None if wave is None else float(np.abs(wave).max(initial=0.0))


def _measured(
    part: Path,
    iv: Intervention,
    codec: str,
    change: Changed,
    reference: Wave | None,
    native: Media,
    before: str,
    source: Path,
    out: Path,
) -> Rendered:
    """Open what was written as a stranger would, and hold it against what was wanted."""
    with demux(part) as packets:
        got = load_native(packets)
        after = _packets_hash(packets)
        video_error = _picture_error(packets, iv)
    intended = change.wave
    if (got.wave is None) != (intended is None):
        raise MediaError(
            f"{out}: was written with{'out' if got.wave is None else ''} a sound track, against the plan"
        )
    wanted = lag = lag_peak = error = None
    verdict: Verdict = "no track"
    if got.wave is not None and intended is not None and reference is not None:
        if got.rate != native.rate or got.wave.shape[0] != intended.shape[0]:
            raise MediaError(
                f"{out}: came back as {got.wave.shape[0]} channels at {got.rate} Hz, written were "
                f"{intended.shape[0]} at {native.rate} Hz"
            )
        error = _sample_error(got.wave, intended)
        wanted = round(iv.seconds * native.rate) / native.rate if iv.kind == "shift" else 0.0
        lag, lag_peak, verdict = _lag(reference, got.wave, got.rate)
        _hold(out, iv, codec, wanted, lag, error, _peak(got.wave))
    pictures_made = iv.kind in ("black", "freeze") or iv.unseen
    return Rendered(
        path=str(out),
        source=str(source),
        intervention=iv,
        codec=codec,
        picture="encoded" if pictures_made else "identical" if after == before else "repacked",
        video_hash=after,
        video_error=video_error,
        audio_hash=got.audio_hash,
        rate=None if got.wave is None else got.rate,
        channels=None if got.wave is None else got.wave.shape[0],
        seconds=got.duration,
        wanted=wanted,
        lag=lag,
        verdict=verdict,
        lag_peak=lag_peak,
        source_peak=_peak(native.wave),
        peak=_peak(got.wave),
        error=error,
        gain_db=change.gain_db,
        residual_lu=change.residual_lu,
        limited_db=change.limited_db,
        remix_db=change.remix_db,
    )


def _lag(reference: Wave, wave: Wave, rate: int) -> tuple[float | None, float | None, Verdict]:
    if not wave.any():
        return None, None, "silent"
    lag, peak = measured_lag(reference, wave, rate)
    return lag, peak, "indeterminate" if lag is None else "found"


def _sample_error(got: Wave, intended: Wave) -> float:
    """The largest difference of two waves, a missing or surplus tail counted as it stands against silence."""
    n = max(got.shape[1], intended.shape[1])
    a, b = (np.pad(w, ((0, 0), (0, n - w.shape[1]))) for w in (got, np.clip(intended, -1.0, 1.0)))
    return float(np.abs(a - b).max(initial=0.0))


def _picture_error(packets: Any, iv: Intervention) -> int | None:
    """How far the pictures are from black, or from standing still; None where they were only copied."""
    if iv.kind not in ("black", "freeze") and not iv.unseen:
        return None
    frames = load(packets, View(fps=1.0, max_pixels=65_536)).frames
    assert frames is not None
    still = frames[0] if iv.kind == "freeze" else np.zeros_like(frames[0])
    error = int(np.abs(frames.astype(np.int16) - still).max())
    if iv.kind != "freeze" and error:
        raise MediaError(f"black: the written pictures reach {error} of 255; they should be exactly 0")
    return error


def _hold(
    out: Path, iv: Intervention, codec: str, wanted: float, lag: float | None, error: float, peak: float | None
) -> None:
    """Refuse a result that is not what was wanted."""
    if iv.kind == "mute" and iv.fill == "silence" and peak != 0.0:
        raise MediaError(f"{out}: mute left sound behind, |x| up to {peak}; it must be exactly 0")
    if lag is not None and abs(lag - wanted) > TOLERANCE:
        raise MediaError(
            f"{out}: the sound is {lag:+.4f} s from where it was, wanted was {wanted:+.4f} s (to {TOLERANCE} s)"
        )
    if codec == "flac" and error > _FLAC_ERROR:
        raise MediaError(
            f"{out}: decoded samples differ from the written ones by up to {error:.6f}, FLAC's are exact"
        )
