"""Opening media files that nobody vouches for.

A media file is a program for a parser: a playlist named ``.mp4`` makes a default FFmpeg read other files or open
sockets, a 0.4 MB clip can claim 12000 x 12000 pixels, a tag that is not UTF-8 raises from nowhere. Here a file is
opened by path only, as one of a few plain container formats, with the file protocol only, and everything that goes
wrong becomes one ``MediaError`` that names the file and the likely slip.

``demux(path)`` holds a file's compressed packets of the one picture track and the one sound track that count, so
that one pass over the file serves sampling, probing and any number of writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import msgspec

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,flv,ogg,wav,mp3,flac"
# Containers whose headers state a length that a complete file keeps (the others guess theirs from the bit rate).
HONEST = frozenset({"mov", "matroska", "wav", "flac"})
WAIT = (5, 5)  # seconds that opening and one read may block

# What PyAV raises on broken bytes, as seen on mutated files: not only its own errors.
BROKEN = (
    av.error.FFmpegError,
    OSError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class MediaError(ValueError):
    """A media file that cannot be used; the message names the file, what is wrong and the likely slip."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a file may ask of this machine; the defaults take any ordinary clip of up to an hour."""

    file_bytes: int = 2**30
    seconds: float = 3600.0
    pixels: int = 4096 * 4096  # of one picture
    packets: int = 1_000_000  # of both tracks together
    channels: int = 16
    rate: int = 384_000  # Hz
    array_bytes: int = 4 * 2**30  # of the decoded arrays


@dataclass
class Demuxed:
    """A file's compressed packets, in file order, held open for decoding and rewriting; close it after use."""

    path: Path
    limits: Limits
    container: Any
    video: Any | None
    audio: Any | None
    pictures: list[Any] = field(default_factory=list)
    sounds: list[Any] = field(default_factory=list)
    others: tuple[str, ...] = ()  # tracks left out, e.g. "audio", "attached picture", "subtitle"
    heard: bool = False  # the sound decoder has been used

    @contextmanager
    def sound_decoder(self) -> Iterator[Any]:
        """A sound decoder in its first state, so that each decode gives the same samples.

        AAC fills bands with noise whose generator lives on through a flush: a second decode with a used decoder
        differs by up to a third of full scale.
        """
        assert self.audio is not None
        if not self.heard:
            self.heard = True
            yield self.audio.codec_context
            return
        with _open(self.path) as container:
            yield container.streams[self.audio.index].codec_context

    def close(self) -> None:
        """Let the file and its packets go."""
        self.pictures.clear()
        self.sounds.clear()
        self.container.close()

    def __enter__(self) -> Demuxed:
        """The packets themselves."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


Source = str | Path | Demuxed


@contextmanager
def blaming(path: object, doing: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a MediaError that names the file."""
    try:
        yield
    except MediaError:
        raise
    except BROKEN as error:
        # FFmpeg's own number and the path again tell nobody anything.
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise MediaError(f"{path}: {doing} failed: {said} ({_slip(error)})") from error


def _slip(error: BaseException) -> str:
    """The likely reason, in a person's words."""
    if isinstance(error, av.error.ArgumentError):
        return "not a plain media file, or pictures above the pixel limit; playlists and lists of files are refused"
    if isinstance(error, av.error.FFmpegError):
        return "damaged or unfinished download, or not a media file?"
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is; lower limits.array_bytes or crop it"
    return "its bytes make no sense; was it damaged on the way?"


@contextmanager
def held(source: Source, limits: Limits) -> Iterator[Demuxed]:
    """The source demuxed: opened and closed here if it is a path, used as it is if already demuxed."""
    if isinstance(source, Demuxed):
        yield source
        return
    with demux(source, limits=limits) as demuxed:
        yield demuxed


def demux(path: str | Path, *, limits: Limits | None = None) -> Demuxed:
    """Read a file's packets once, for sampling and for writing many variants; a context manager.

    The picture track is the first that is not an attached picture; the sound track the first one (others are
    named in ``others``). Raises MediaError where the file is missing, not a plain media file, damaged, cut
    short, or above a limit.
    """
    limits = limits or Limits()
    if not isinstance(path, str | os.PathLike):
        # Not only for tidiness: FFmpeg follows playlists from file objects that it refuses from paths.
        raise MediaError(f"media files are opened by path, got {type(path).__name__} (write it to a file first?)")
    path = Path(path)
    _check_file(path, limits)
    with blaming(path, "opening"):
        container = _open(path)
    demuxed = None
    try:
        with blaming(path, "reading"):
            demuxed = _tracks(path, container, limits)
            _read(demuxed)
            _check_whole(demuxed)
    except MediaError:
        container.close()
        raise
    return demuxed


def _open(path: Path) -> Any:
    """PyAV's container of a plain file: no other protocol, no format that leads to other files."""
    return av.open(
        os.path.abspath(path),
        timeout=WAIT,
        metadata_errors="ignore",
        options={"protocol_whitelist": "file", "format_whitelist": FORMATS},
    )


def _check_file(path: Path, limits: Limits) -> None:
    if not path.exists():
        raise MediaError(f"{path}: no such file (a path relative to another folder?)")
    if not path.is_file():
        raise MediaError(f"{path}: not a file (a folder or a pipe?)")
    size = path.stat().st_size
    if size == 0:
        raise MediaError(f"{path}: the file is empty (an unfinished download?)")
    if size > limits.file_bytes:
        raise MediaError(
            f"{path}: {size / 1e6:.0f} MB is above the limit of {limits.file_bytes / 1e6:.0f} MB "
            "(cut the clip out first, or raise limits.file_bytes)"
        )


def _tracks(path: Path, container: Any, limits: Limits) -> Demuxed:
    """Choose the tracks and hold what they claim against the limits."""
    still = av.stream.Disposition.attached_pic
    video = [s for s in container.streams.video if not int(s.disposition) & int(still)]
    audio = list(container.streams.audio)
    # A track that no decoder here knows (e.g. a timecode or a private codec) has no codec context.
    video, audio = ([s for s in group if s.codec_context is not None] for group in (video, audio))
    if not video and not audio:
        raise MediaError(f"{path}: neither a picture nor a sound track (a text or subtitle file?)")
    chosen = {s.index for s in video[:1] + audio[:1]}
    others = tuple(
        "attached picture" if s.type == "video" and int(s.disposition) & int(still) else s.type
        for s in container.streams
        if s.index not in chosen
    )
    demuxed = Demuxed(
        path, limits, container, video[0] if video else None, audio[0] if audio else None, others=others
    )
    if demuxed.video is not None:
        context = demuxed.video.codec_context
        # As a container option this would do nothing; here the decoder refuses pictures that grow midway too.
        context.options = {"max_pixels": str(limits.pixels)}
        # One thread: FFmpeg's frame threads look ahead, which would make per-packet skipping inexact.
        context.thread_type = "NONE"
        context.thread_count = 1
        if context.width * context.height > limits.pixels:
            raise MediaError(
                f"{path}: pictures of {context.width} x {context.height} are above the limit of {limits.pixels} "
                "pixels (a decompression bomb? raise limits.pixels if not)"
            )
    if demuxed.audio is not None:
        check_sound(path, demuxed.audio.codec_context.sample_rate, demuxed.audio.codec_context.channels, limits)
    return demuxed


def check_sound(path: Path, rate: int, channels: int, limits: Limits) -> None:
    """Refuse a sound track that no ordinary recording has."""
    if not 1000 <= rate <= limits.rate:
        raise MediaError(f"{path}: a sound rate of {rate} Hz is not in 1000..{limits.rate} Hz (a damaged header?)")
    if not 1 <= channels <= limits.channels:
        raise MediaError(f"{path}: {channels} sound channels are not in 1..{limits.channels} (a damaged header?)")


def check_seconds(path: Path, seconds: float, limits: Limits) -> None:
    """Refuse a length above the limit, or none."""
    if not 0 < seconds <= limits.seconds:
        raise MediaError(
            f"{path}: lasts {seconds:.2f} s, allowed are more than 0 and at most {limits.seconds:.0f} s "
            "(cut the clip out first, or raise limits.seconds)"
        )


def _read(demuxed: Demuxed) -> None:
    """Fill the packet lists."""
    streams = [s for s in (demuxed.video, demuxed.audio) if s is not None]
    for packet in demuxed.container.demux(streams):
        if not packet.size:
            continue
        (demuxed.pictures if packet.stream is demuxed.video else demuxed.sounds).append(packet)
        if len(demuxed.pictures) + len(demuxed.sounds) > demuxed.limits.packets:
            raise MediaError(f"{demuxed.path}: more than {demuxed.limits.packets} packets (raise limits.packets?)")
    if demuxed.video is not None and not demuxed.pictures:
        raise MediaError(f"{demuxed.path}: the picture track holds no picture (an unfinished recording?)")
    if demuxed.video is None and not demuxed.sounds:
        raise MediaError(f"{demuxed.path}: the sound track holds no sound (an unfinished recording?)")


def _check_whole(demuxed: Demuxed) -> None:
    """Refuse a file whose packets stop well before the length that its header states."""
    kind = demuxed.container.format.name.split(",")[0]
    if kind not in HONEST:
        return
    tracks = [(s, p) for s, p in ((demuxed.video, demuxed.pictures), (demuxed.audio, demuxed.sounds)) if s and p]
    if kind == "matroska" and not demuxed.others and demuxed.container.duration:
        # It states one length for all tracks, counted from zero.
        last = max(float((p.pts or 0) + (p.duration or 0)) * float(s.time_base) for s, ps in tracks for p in ps)
        _compare(demuxed, "film", demuxed.container.duration / 1e6, last)
    for stream, packets in tracks:
        if stream.duration is not None:
            span = float(packet_span(packets) * stream.time_base)
            _compare(demuxed, stream.type, float(stream.duration * stream.time_base), span)
    if kind == "wav":
        with demuxed.path.open("rb") as handle:
            head = handle.read(12)
        claimed, there = int.from_bytes(head[4:8], "little") + 8, demuxed.path.stat().st_size
        # Writers that cannot seek leave the size at 0 or all ones.
        if head[:4] == b"RIFF" and there < claimed < 2**32 - 2**16:
            raise MediaError(
                f"{demuxed.path}: cut short: its header promises {claimed} bytes, {there} are there "
                "(an unfinished download?)"
            )


def _compare(demuxed: Demuxed, what: str, claimed: float, there: float) -> None:
    if claimed - there > max(0.5, 0.02 * claimed):
        raise MediaError(
            f"{demuxed.path}: cut short: its header promises {claimed:.2f} s of {what}, {there:.2f} s are there "
            "(an unfinished download?)"
        )


def packet_span(packets: list[Any]) -> int:
    """Ticks from the first packet's start to the last one's end."""
    stamps = [(p.pts if p.pts is not None else p.dts, p.duration or 0) for p in packets]
    known = [(at, length) for at, length in stamps if at is not None]
    if not known:
        return sum(length for _, length in stamps)
    return int(max(at + length for at, length in known) - min(at for at, _ in known))
