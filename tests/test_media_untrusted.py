"""Files that nobody vouches for: refused with a reason, in bounded time and memory. Numbers: acceptance tests."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from earwitness import media
from earwitness.media import Limits, MediaError
from earwitness.records import View
from test_media_clips import make, noise, number_of, steady

POSIX = pytest.mark.skipif(os.name != "posix", reason="memory limits need a POSIX system")


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("good")
    plain, sound = steady(25), noise(1.0, 16_000)
    return {
        "mp4": make(home / "a.mp4", ms=plain, sound=sound, rate=16_000, muxing={"movflags": "+faststart"}),
        "mkv": make(home / "a.mkv", ms=plain, sound=sound, rate=16_000, acodec="flac"),
        "webm": make(home / "a.webm", ms=plain, sound=noise(1.0), acodec="libopus", vcodec="libvpx-vp9"),
        "ts": make(home / "a.ts", ms=plain, sound=sound, rate=16_000),
        "avi": make(home / "a.avi", ms=plain, sound=sound, rate=16_000, acodec="pcm_s16le", vcodec="mpeg4"),
        "wav": make(home / "a.wav", sound=sound, rate=16_000, acodec="pcm_s16le"),
        "mp3": make(home / "a.mp3", sound=noise(1.0, 44_100), rate=44_100, acodec="libmp3lame"),
    }


# ------------------------------------------------------------------ 21: garbage


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"just some words\n" * 50, "not a media file|plain media file"),
        (bytes(range(256)) * 40, "opening"),
    ],
    ids=["empty", "text", "bytes"],
)
def test_21_what_is_no_media_is_named(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    for use in (media.load, media.load_native, media.probe):
        with pytest.raises(MediaError, match=says) as caught:
            use(path)
        assert str(path) in str(caught.value)


def test_21_missing_folder_and_pipe(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        media.load(tmp_path / "none.mp4")
    with pytest.raises(MediaError, match="not a file"):
        media.load(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.mp4")
        with pytest.raises(MediaError, match="not a file"):
            media.load(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "wav"])
def test_21_a_truncated_file_is_refused(good: dict[str, Path], kind: str, tmp_path: Path) -> None:
    data = good[kind].read_bytes()
    path = tmp_path / good[kind].name
    path.write_bytes(data[: int(len(data) * 0.4)])
    with pytest.raises(MediaError, match=r"unfinished download|damaged|cut short"):
        media.load(path)


def test_21_no_index_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", ms=steady(25))  # its index lies at the end
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(MediaError, match="unfinished download"):
        media.load(path)


MUTATE = r"""
import json, resource, sys, time
from pathlib import Path
import numpy as np
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from earwitness import media
from earwitness.records import View
told = {"clean": 0, "refused": 0, "slowest": 0.0, "unclear": []}
folder = Path(sys.argv[1])
bases = [Path(p) for p in sys.argv[2:]]
for seed in range(200):
    base = bases[seed % len(bases)]
    rng = np.random.default_rng(seed)
    data = np.frombuffer(base.read_bytes(), np.uint8).copy()
    way = seed // len(bases) % 5
    if way == 0:
        data[rng.integers(0, len(data), 1 + len(data) // 400)] = rng.integers(0, 256, 1 + len(data) // 400)
    elif way == 1:
        head = min(len(data), 1500)
        data[rng.integers(0, head, 12)] = rng.integers(0, 256, 12)
    elif way == 2:
        data = data[: rng.integers(1, len(data))]
    elif way == 3:
        at = rng.integers(0, len(data) - 10)
        data = np.concatenate([data[:at], data[at + rng.integers(1, len(data) - at) :]])
    else:
        at = rng.integers(0, len(data) - 4)
        data[at : at + 4] = 255
    path = folder / ("m%d%s" % (seed, base.suffix))
    path.write_bytes(data.tobytes())
    begin = time.perf_counter()
    try:
        got = media.load(path, View(fps=4, max_pixels=4096), limits=media.Limits(seconds=60))
        assert got.frames is not None or got.wave is not None
        if got.wave is not None:
            assert got.wave.shape == (1, round(got.duration * 16000))
        told["clean"] += 1
    except media.MediaError as error:
        told["refused"] += 1
        if str(path) not in str(error) or "(" not in str(error):
            told["unclear"].append(str(error))
    told["slowest"] = max(told["slowest"], time.perf_counter() - begin)
    path.unlink()
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss has the parent's
told["megabytes"] = int(peak.split()[1]) / 1024
(folder / "told.json").write_text(json.dumps(told))
"""


@POSIX
def test_21_two_hundred_mutated_files(good: dict[str, Path], tmp_path: Path) -> None:
    """200 clear errors or clean decodes: no crash, no hang, memory bounded."""
    done = subprocess.run(
        [sys.executable, "-c", MUTATE, str(tmp_path), *map(str, good.values())],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["clean"] + told["refused"] == 200
    assert told["clean"] > 10
    assert told["refused"] > 60
    assert not told["unclear"]
    assert told["slowest"] < 20
    assert told["megabytes"] < 1000


# ------------------------------------------------------------------ 22: files that lead elsewhere


@pytest.fixture
def canary() -> Iterator[tuple[int, list[bytes]]]:
    """A server on this machine that remembers who called."""
    calls: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.1)
    running = threading.Event()
    running.set()

    def listen() -> None:
        while running.is_set():
            try:
                peer, _ = server.accept()
            except TimeoutError:
                continue
            peer.settimeout(1)
            calls.append(peer.recv(200))
            peer.close()

    thread = threading.Thread(target=listen)
    thread.start()
    yield server.getsockname()[1], calls
    running.clear()
    thread.join()
    server.close()


def hls(target: str) -> str:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.0,\n{target}\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize("name", ["a.mp4", "a.m3u8", "a.txt", "a.ts", "a.mkv", "a.sdp"])
@pytest.mark.parametrize("kind", ["hls http", "hls file", "concat file", "concat http", "sdp", "dash"])
def test_22_lists_of_other_files_are_refused(
    good: dict[str, Path], canary: tuple[int, list[bytes]], kind: str, name: str, tmp_path: Path
) -> None:
    port, calls = canary
    (tmp_path / "secret.ts").write_bytes(good["ts"].read_bytes())
    url = f"http://127.0.0.1:{port}/a.ts"
    path = tmp_path / name
    path.write_text(
        {
            "hls http": hls(url),
            "hls file": hls("secret.ts"),
            "concat file": "ffconcat version 1.0\nfile secret.ts\n",
            "concat http": f"ffconcat version 1.0\nfile {url}\n",
            "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
            "a=rtpmap:96 H264/90000\n",
            "dash": f'<MPD xmlns="urn:mpeg:DASH:schema:mpd:2011"><BaseURL>{url}</BaseURL></MPD>',
        }[kind]
    )
    with pytest.raises(MediaError):
        media.load(path)
    assert not calls


@pytest.mark.parametrize(
    "name", ["http://127.0.0.1:{}/a.mp4", "tcp://127.0.0.1:{}", "concat:/etc/passwd|/etc/hosts", "async:x.mp4"]
)
def test_22_protocols_as_names_are_only_names(canary: tuple[int, list[bytes]], name: str) -> None:
    port, calls = canary
    with pytest.raises(MediaError, match="no such file"):
        media.load(name.format(port))
    assert not calls


def test_22_a_file_by_the_name_of_a_protocol_is_a_file(good: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "concat:a.mp4"
    path.write_bytes(good["mp4"].read_bytes())
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert media.load("concat:a.mp4").duration == pytest.approx(1.0)
    finally:
        os.chdir(before)


def test_22_objects_are_refused(good: dict[str, Path]) -> None:
    with good["mp4"].open("rb") as handle, pytest.raises(MediaError, match="by path"):
        media.load(handle)  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="by path"):
        media.load(io.BytesIO(good["mp4"].read_bytes()))  # type: ignore[arg-type]


# ------------------------------------------------------------------ 23: bombs and caps


@pytest.fixture(scope="session")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few kilobytes that claim 24 megapixels."""
    path = tmp_path_factory.mktemp("bomb") / "bomb.mp4"
    with av.open(str(path), "w") as out:
        track = out.add_stream("mpeg4", rate=25)
        track.height, track.width, track.pix_fmt = 4000, 6000, "yuv420p"
        frame = av.VideoFrame(6000, 4000, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        out.mux(track.encode(frame))
        out.mux(track.encode(None))
    return path


def test_23_too_many_pixels_are_refused(bomb: Path, good: dict[str, Path]) -> None:
    for use in (media.load, media.probe):
        with pytest.raises(MediaError, match="pixel"):
            use(bomb)
    assert media.load(bomb, View(size=(40, 60)), limits=Limits(pixels=25_000_000)).frames.shape == (1, 40, 60, 3)
    with pytest.raises(MediaError, match="pixel"):
        media.load(good["mp4"], limits=Limits(pixels=1000))


@POSIX
def test_23_a_guarded_decode_dies_alone(bomb: Path, good: dict[str, Path]) -> None:
    with pytest.raises(MediaError, match=r"pixel|memory|MB|died"):
        media.load_guarded(bomb, limits=Limits(pixels=25_000_000), memory=400 * 2**20)
    loaded, plain = (
        media.load_guarded(good["mp4"], View(fps=5), end=0.8),
        media.load(good["mp4"], View(fps=5), end=0.8),
    )
    assert loaded.video_hash == plain.video_hash
    assert loaded.audio_hash == plain.audio_hash
    assert loaded.duration == plain.duration
    sound = media.load_guarded(good["wav"])
    assert sound.frames is None
    assert sound.audio_hash == media.load(good["wav"]).audio_hash
    with pytest.raises(MediaError, match="no such file"):
        media.load_guarded(bomb.with_name("none.mp4"))
    with pytest.raises(MediaError, match=r"not decoded within 0\.01 s"):
        media.load_guarded(good["mp4"], seconds=0.01)


def test_23_ten_hours_are_refused(tmp_path: Path) -> None:
    """A sound file of two blocks whose stamps lie ten hours apart, and one that is merely too long."""
    path = tmp_path / "long.mkv"
    with av.open(str(path), "w") as out:
        track = out.add_stream("pcm_s16le", rate=16_000)
        track.codec_context.layout = "mono"
        for at in (0, 36_000 * 16_000):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, at, Fraction(1, 16_000)
            out.mux(track.encode(frame))
    with pytest.raises(MediaError, match=r"lasts 36000\.10 s"):
        media.load(path)
    short = make(tmp_path / "s.wav", sound=noise(2.0, 16_000), rate=16_000, acodec="pcm_s16le")
    with pytest.raises(MediaError, match=r"limits\.seconds"):
        media.load(short, limits=Limits(seconds=1))


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(file_bytes=1000), "file_bytes"),
        (Limits(packets=10), "packets"),
        (Limits(seconds=0.5), "seconds"),
        (Limits(rate=8000), "8000 Hz"),
        (Limits(array_bytes=10_000), "array_bytes|GB"),
    ],
)
def test_23_every_limit_holds(good: dict[str, Path], limits: Limits, says: str) -> None:
    with pytest.raises(MediaError, match=says):
        media.load(good["mp4"], limits=limits)


def test_23_channels_are_limited(tmp_path: Path) -> None:
    path = make(tmp_path / "s.flac", sound=noise(0.5, channels=6), acodec="flac")
    with pytest.raises(MediaError, match="channels"):
        media.load(path, limits=Limits(channels=2))


# ------------------------------------------------------------------ 24, 25, 27


def test_24_tags_in_latin_1_do_not_matter(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", ms=steady(10), sound=noise(0.4), metadata={"title": "TITLETITLE"})
    data = path.read_bytes()
    assert b"TITLETITLE" in data
    path.write_bytes(data.replace(b"TITLETITLE", "Café façade".encode("latin-1")[:10]))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert media.load(path).duration == pytest.approx(0.4)


@pytest.mark.parametrize("first", [True, False])
def test_25_an_attached_picture_is_not_the_video(first: bool, tmp_path: Path) -> None:
    plain = make(tmp_path / "a.mp4", ms=steady(20), sound=noise(0.8))
    path = tmp_path / "cover.mp4"
    red = av.VideoFrame.from_ndarray(np.full((64, 64, 3), (255, 0, 0), np.uint8), format="rgb24").reformat(
        format="yuvj420p"
    )
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 64, "yuvj420p", Fraction(1, 25)
    jpeg = bytes(encoder.encode(red)[0])
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:

        def cover() -> object:
            track = new.add_stream("mjpeg", rate=1)
            track.width, track.height, track.pix_fmt = 64, 64, "yuvj420p"
            track.disposition = av.stream.Disposition.attached_pic
            return track

        still = cover() if first else None
        tracks = {s.index: new.add_stream_from_template(s) for s in old.streams}
        still = still or cover()
        packet = av.Packet(jpeg)
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = still, 0, 0, True
        new.mux(packet)
        for packet in old.demux():
            if packet.size:
                packet.stream = tracks[packet.stream_index]
                new.mux(packet)
    probed = media.probe(path)
    assert "attached picture" in probed.others
    loaded = media.load(path, View(fps=5))
    assert [number_of(f) for f in loaded.frames] == [0, 5, 10, 15]


def test_25_the_first_of_two_sound_tracks_is_taken_and_the_other_named(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    one = make(tmp_path / "1.mkv", ms=steady(20), sound=noise(0.8, seed=1), acodec="flac")
    two = make(tmp_path / "2.mkv", sound=noise(0.8, seed=2), acodec="flac")
    with av.open(str(one)) as a, av.open(str(two)) as b, av.open(str(path), "w") as out:
        tracks = [(a, s, out.add_stream_from_template(s)) for s in a.streams]
        tracks += [(b, s, out.add_stream_from_template(s)) for s in b.streams]
        for held in (a, b):
            chosen = {s.index: t for c, s, t in tracks if c is held}
            for packet in held.demux():
                if packet.size:
                    packet.stream = chosen[packet.stream_index]
                    out.mux(packet)
    assert media.probe(path).others == ("audio",)
    assert any("audio" in flag for flag in media.probe(path).flags)
    assert np.array_equal(media.load_native(path).wave, media.load_native(one).wave)


def test_27_media_needs_no_torch_and_no_torchcodec(tmp_path: Path) -> None:
    (tmp_path / "torchcodec.py").write_text("raise OSError('libcudart.so not found')\n")
    code = (
        "import sys, earwitness, earwitness.media, earwitness.media.signal, earwitness.media.look; "
        "assert not {'torch', 'torchcodec', 'torchaudio'} & set(sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_names() -> None:
    for name in media.__all__:
        assert getattr(media, name).__doc__
    assert issubclass(MediaError, ValueError)
