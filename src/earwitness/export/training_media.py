"""One file per clip and intervention, for trainers that read files: every one a video with a sound track.

Two rows on the same clip under the same intervention share a file; it is written once, verified, and kept on the
next export. Trainers that read the sound out of the video interleave the two only where there *is* a sound
track, and one file without takes the whole batch's positions with it. So:

- "mute" is a track of zeros, and so is the sound of a clip that never had any;
- "black" is a video track of black pictures;
- "no_track" and "no_frames" have no such form: their rows are left out, and named.

A ``.wav`` beside the video, where one is wanted, holds the same 16-bit samples as the video's own track.

Functions: ``write_clips``, ``write_wavs``.
"""

from __future__ import annotations

import os
import wave as riff
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from earwitness import interventions, media
from earwitness.export.files import media_name, write_one
from earwitness.records import Clip, ClipSet, Intervention

Progress = Callable[[int, int], None]

NO_FILE = {
    "no_track": "a clip without its sound track has no file that these trainers read; mute is a track of zeros",
    "no_frames": "a sound without pictures is no video file; black is a track of black pictures",
}


def write_clips(
    clips: ClipSet,
    wanted: Iterable[tuple[str, Intervention]],
    place: Path,
    *,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Write each distinct (clip, intervention) into ``place`` as ``media_name`` names it.

    Files that are there are kept: each appeared under its name only when it was whole. ``progress`` gets (done,
    total). Returns name -> why, for what has no file form or could not be written (a clip, donor or stem that is
    not known, a source that is gone).
    """
    by_id = {clip.id: clip for clip in clips.clips}
    files = {media_name(clip, iv): (clip, iv) for clip, iv in wanted}
    missing = {name: NO_FILE[iv.kind] for name, (_, iv) in files.items() if iv.kind in NO_FILE}
    absent = {n: f for n, f in files.items() if n not in missing and not (place / n).exists()}
    sources = place / "sources"
    sources.mkdir(parents=True, exist_ok=True)
    # A clip that is itself to be written (procedural, cut out) is, once, before two of its files need it at once.
    needed = {name for clip, iv in absent.values() for name in (clip, iv.donor) if name in by_id}
    made = _each(sorted(needed), lambda name: clips.file(by_id[name], sources), lambda done: None)
    have = len(files) - len(absent)

    def told(done: int) -> None:
        if progress is not None:
            progress(have + done, len(files))

    def one(name: str) -> None:
        clip, iv = absent[name]
        for part in (clip, iv.donor):
            if part in made:
                raise ValueError(made[part])
        _write(clips, by_id, clip, iv, place / name)

    told(0)
    return missing | _each(sorted(absent), one, told)


def _each(names: Sequence[str], do: Callable[[str], object], told: Callable[[int], None]) -> dict[str, str]:
    """Do it to each, on as many threads as there are cores (coding leaves Python's lock free): name -> why not."""
    failed: dict[str, str] = {}
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        running = {pool.submit(do, name): name for name in names}
        for done, future in enumerate(as_completed(running), 1):
            try:
                future.result()
            except (ValueError, OSError) as error:
                failed[running[future]] = str(error)
            told(done)
    finally:
        pool.shutdown(cancel_futures=True)
    return failed


def _write(clips: ClipSet, by_id: Mapping[str, Clip], clip: str, iv: Intervention, target: Path) -> None:
    if clip not in by_id or _has_sound(clips.file(by_id[clip], target.parent / "sources")):
        write_one(clips, by_id, clip, iv, target)
        return
    # Its own sound is silence then: for what leaves the sound alone, and for mute. Anything else has nothing to
    # work on, and says so.
    source, silence = clips.file(by_id[clip], target.parent / "sources"), Intervention(kind="mute")
    if iv.kind in ("original", "sham", "mute"):
        interventions.render(source, silence, target)
    elif iv.kind in ("black", "freeze"):
        between = target.with_name(f".{target.stem}.{os.getpid()}.silent.mp4")
        try:
            interventions.render(source, silence, between)
            interventions.render(between, iv, target)
        finally:
            between.unlink(missing_ok=True)
    else:
        write_one(clips, by_id, clip, iv, target)


def _has_sound(file: Path) -> bool:
    with media.demux(file) as packets:
        return packets.audio is not None


def write_wavs(place: Path, names: Iterable[str]) -> None:
    """Write each video's sound as a 16-bit ``.wav`` of the same name beside it; those that are there are kept.

    Raises ValueError where a video cannot be read.
    """
    absent = sorted(name for name in set(names) if not (place / name).with_suffix(".wav").exists())
    failed = _each(absent, lambda name: _write_wav(place / name), lambda done: None)
    if failed:
        raise ValueError(f"{len(failed)} of the written videos cannot be read: {next(iter(failed.values()))}")


def _write_wav(video: Path) -> None:
    native = media.load_native(video)
    assert native.wave is not None  # all videos here have a sound track
    part = video.with_name(f".{video.stem}.{os.getpid()}.part")
    with riff.open(str(part), "wb") as out:
        out.setnchannels(native.wave.shape[0])
        out.setsampwidth(2)
        out.setframerate(native.rate)
        out.writeframes(media.sixteen_bit(native.wave).T.astype("<i2").tobytes())
    os.replace(part, video.with_suffix(".wav"))
