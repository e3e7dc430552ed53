"""Small clips with known truth for the media tests: every picture carries its number in black and white blocks."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

FFMPEG = shutil.which("ffmpeg")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="the oracle is the ffmpeg program, which is not installed")
BITS = 9
PLANAR = {"aac": "fltp", "pcm_s16le": "s16", "flac": "s16", "libopus": "flt", "libmp3lame": "fltp", "pcm_u8": "u8"}
NAMES = {1: "mono", 2: "stereo", 6: "5.1"}


def picture(number: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A moving gradient with the number written into the top rows, one block a bit."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([(x * 2 + number * 3) % 200, (y * 2) % 200, (x + y + number * 5) % 200], -1).astype(np.uint8)
    block = width // (BITS + 1)
    for bit in range(BITS):
        rgb[: height // 4, bit * block : (bit + 1) * block] = 255 * (number >> bit & 1)
    return rgb


def number_of(frame: np.ndarray) -> int:
    """The number that a picture of any size carries."""
    height, width = frame.shape[:2]
    block = width / (BITS + 1)
    level = [frame[2 : height // 5, int((b + 0.3) * block) : int((b + 0.7) * block)].mean() for b in range(BITS)]
    return sum(1 << bit for bit, value in enumerate(level) if value > 128)


def noise(seconds: float, rate: int = 48_000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Band-limited noise: survives lossy codecs and has one sharp correlation peak."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(0, 0.2, (channels, round(seconds * rate) + 8))
    return np.clip((raw[:, 4:-4] + raw[:, 3:-5] + raw[:, 5:-3]) / 2, -1, 1).astype(np.float32)


def clicks(at: Sequence[float], seconds: float, rate: int = 48_000) -> np.ndarray:
    """Sharp decaying beeps at the given times [1, n]."""
    out = np.zeros(round(seconds * rate))
    for moment in at:
        tail = np.arange(len(out) - round(moment * rate)) / rate
        out[round(moment * rate) :] += 0.5 * np.exp(-tail * 30) * np.sin(2 * np.pi * 1000 * tail + 0.5)
    return out[None].astype(np.float32)


def make(
    path: Path,
    *,
    ms: Sequence[int] | None = None,
    sound: np.ndarray | None = None,
    rate: int = 48_000,
    acodec: str = "aac",
    sound_ms: int = 0,
    vcodec: str = "libx264",
    options: dict[str, str] | None = None,
    size: tuple[int, int] = (96, 128),
    claims: int = 25,
    muxing: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    extra: str | None = None,
) -> Path:
    """Write a clip whose picture i is shown at ms[i] milliseconds, with sound from sound_ms on."""
    with av.open(str(path), "w", options=muxing or {}) as out:
        out.metadata.update(metadata or {})
        packets = []
        if extra == "audio before":
            first = out.add_stream("aac", rate=16_000)
            first.codec_context.layout = "mono"
        video = None
        if ms is not None:
            fast = {"libx264": {"preset": "superfast", "bf": "2", "g": "12", "crf": "18", "threads": "1"}}
            fast["libvpx-vp9"] = {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"}
            fast["libsvtav1"] = {"preset": "12"}
            fast["libx265"] = {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:bframes=2"}
            video = out.add_stream(vcodec, rate=claims, options=options or fast.get(vcodec, {}))
            video.height, video.width, video.pix_fmt = *size, "yuv420p"
            if vcodec != "mpeg4":
                video.codec_context.time_base = Fraction(1, 1000)
        if sound is not None:
            track = out.add_stream(acodec, rate=rate)
            track.codec_context.layout = NAMES[sound.shape[0]]
            track.codec_context.format = PLANAR[acodec]
        if video is not None:
            for number, moment in enumerate(ms or ()):
                frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24")
                frame.pts, frame.time_base = (
                    (moment, Fraction(1, 1000)) if vcodec != "mpeg4" else (number, Fraction(1, claims))
                )
                packets += video.encode(frame)
            packets += video.encode(None)
        if sound is not None:
            packets += sound_packets(track, sound, rate, acodec, sound_ms)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            out.mux(packet)
    return path


def sound_packets(track: object, sound: np.ndarray, rate: int, acodec: str, sound_ms: int) -> list:
    """Encoded packets of a wave that starts at sound_ms."""
    kind = PLANAR[acodec]
    if kind == "s16":
        data = np.clip(np.rint(sound * 32768), -32768, 32767).astype(np.int16)
    elif kind == "u8":
        data = np.clip(np.rint(sound * 128) + 128, 0, 255).astype(np.uint8)
    else:
        data = sound.astype(np.float32)
    if not kind.endswith("p"):
        data = data.T.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(data), format=kind, layout=NAMES[sound.shape[0]])
    frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(sound_ms * rate / 1000)
    return track.encode(frame) + track.encode(None)  # type: ignore[attr-defined]


def steady(count: int, fps: float = 25.0, start: int = 0) -> list[int]:
    """Milliseconds of evenly shown pictures."""
    return [start + round(1000 * i / fps) for i in range(count)]


def turn(path: Path, quarter: int) -> Path:
    """Patch an mp4's display matrix so that players turn the pictures by quarter * 90 degrees clockwise."""
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter % 4]
    matrix = np.array([c << 16, s << 16, 0, -s << 16, c << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = matrix
    path.write_bytes(data)
    return path


def cut(source: Path, out: Path, hidden: int) -> Path:
    """A cut without re-encoding: the first pictures are stored, but lie before zero."""
    with av.open(str(source)) as old, av.open(str(out), "w") as new:
        video, sound = old.streams.video[0], old.streams.audio[0]
        packets = [p for p in old.demux(video, sound) if p.size]
        tracks = {s.index: new.add_stream_from_template(s) for s in (video, sound)}
        at = sorted(p.pts for p in packets if p.stream is video)[hidden]
        zero = at * video.time_base
        for packet in packets:
            if packet.stream is sound and packet.pts * packet.time_base < zero:
                continue
            back = int(zero / packet.time_base)
            packet.pts, packet.dts = packet.pts - back, packet.dts - back
            packet.stream = tracks[packet.stream_index]
            new.mux(packet)
    return out


def packets_of(path: Path) -> list[bytes]:
    """The picture packets' bytes."""
    with av.open(str(path)) as held:
        return [bytes(p) for p in held.demux(held.streams.video[0]) if p.size]


def stamps_of(path: Path) -> list[float]:
    """Seconds of the decoded pictures, as stamped."""
    with av.open(str(path)) as held:
        return [float(f.pts * f.time_base) for f in held.decode(video=0)]


def shown(path: Path) -> np.ndarray:
    """Every picture, decoded by PyAV's plain loop (not turned)."""
    with av.open(str(path)) as held:
        return np.stack([f.to_ndarray(format="rgb24") for f in held.decode(video=0)])


def ffmpeg_wave(path: Path, rate: int, channels: int) -> np.ndarray:
    """The oracle's decode of the first sound track as float32 [channels, n]."""
    command = [str(FFMPEG), "-v", "error", "-i", str(path), "-map", "0:a:0", "-ar", str(rate), "-ac", str(channels)]
    raw = subprocess.run([*command, "-f", "f32le", "-"], capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.float32).reshape(-1, channels).T


def ffmpeg_pictures(path: Path, height: int, width: int) -> np.ndarray:
    """The oracle's decode of all pictures, turned upright by it."""
    command = [str(FFMPEG), "-v", "error", "-i", str(path), "-fps_mode", "passthrough", "-pix_fmt", "rgb24"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-"], capture_output=True, check=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def delay(reference: np.ndarray, wave: np.ndarray, reach: int = 40_000) -> int:
    """Samples by which wave is late, by plain correlation of the first channels (independent of the library)."""
    size = 1 << (len(reference[0]) + len(wave[0])).bit_length()
    cross = np.fft.irfft(np.conj(np.fft.rfft(reference[0], size)) * np.fft.rfft(wave[0], size), size)
    lags = np.concatenate([np.arange(reach), np.arange(-reach, 0)])
    return int(lags[np.argmax(cross[lags])])


@pytest.mark.parametrize("number", [0, 1, 77, 300, 511])
def test_pictures_carry_their_number(number: int) -> None:
    assert number_of(picture(number)) == number
    assert number_of(picture(number, 40, 60)) == number
