"""A server on loopback that speaks the OpenAI protocol, really decodes what it gets, and can go wrong in many ways.

It is the opposite of a mock: the clip arrives as bytes, is written to a file and decoded with ``earwitness.media``,
and what is said is said of *those* arrays (``models.fake.describe``). A fault is named by a rule:
``fault(call) -> str`` is asked for every request, and ``""`` means none.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from earwitness import media as files
from earwitness.models.fake import describe, shows
from earwitness.records import Media, View

VIEW = View(fps=2.0)
Says = Callable[[str, Media], str]


def describes(prompt: str, media: Media) -> str:
    """What the arrays hold: the sound, unless it is asked what is seen."""
    mark = prompt.partition("|")[0] + "|" if "|" in prompt else ""
    return mark + describe("visual" if "see" in prompt else "audio", media)


def watches(prompt: str, media: Media) -> str:
    """Like Hans: says of the sound what the picture suggests; only without a picture it listens."""
    if "see" in prompt or not shows(media):
        return describes(prompt, media)
    return describe("visual", media)


@dataclass
class Call:
    """A request as it came in."""

    number: int
    request: dict[str, Any]
    headers: dict[str, str]
    media: Media
    prompt: str
    tries: int  # how often this prompt has come, this time included

    @property
    def condition(self) -> str:
        return self.prompt.partition("|")[0]


@dataclass
class Server:
    """What the server is like, and what it has met."""

    says: Says = describes
    fault: Callable[[Call], str] = lambda call: ""
    models: tuple[str, ...] = ("m",)
    key: str | None = None
    refuses: tuple[str, ...] = ()  # parameters that it answers with a 400
    names_replies: bool = True  # by the request's id, as vLLM does
    logprobs: bool = False
    usage: bool = True
    details: bool = False
    room: int = 1000  # requests at once; more get a 429
    seconds: float = 0.0
    calls: list[Call] = field(default_factory=list)
    running: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""
    broken: list[BaseException] = field(default_factory=list)  # what went wrong here without being ordered

    def prompts(self) -> list[str]:
        return [call.prompt for call in self.calls]


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """The server on a free port of loopback."""

    class Handler(_Handler):
        about = server

    class Http(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            error = sys.exc_info()[1]
            if error is not None and not isinstance(error, ConnectionError):  # a client may hang up
                server.broken.append(error)

    http = Http(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.block_on_close = False
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
    if server.broken:
        raise server.broken[0]


class _Handler(BaseHTTPRequestHandler):
    about: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise each reply waits 40 ms

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        if not self._allowed():
            return
        rows = [
            {"id": m, "object": "model", "created": int(time.time()), "root": f"/w/{m}"} for m in self.about.models
        ]
        self._send(200, {"object": "list", "data": rows})

    def do_POST(self) -> None:
        s = self.about
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._allowed():
            return
        with s.lock:
            s.running += 1
            s.most = max(s.most, s.running)
            crowd = s.running > s.room
        try:
            if crowd:
                self._error(429, "too many requests", {"Retry-After": "0.02"})
                return
            self._chat(json.loads(raw))
        finally:
            with s.lock:
                s.running -= 1

    def _chat(self, request: dict[str, Any]) -> None:
        s = self.about
        for name in s.refuses:
            if _has(request, name):
                self._error(400, f"Unrecognized request argument supplied: {name}", param=None)
                return
        if request["model"] not in s.models:
            self._error(404, f"The model `{request['model']}` does not exist.")
            return
        deaf = blind = False
        prompt, media = _read(request)
        with s.lock:
            call = Call(
                len(s.calls), request, {k.lower(): v for k, v in self.headers.items()}, media, prompt,
                1 + sum(c.prompt == prompt and c.media.audio_hash == media.audio_hash for c in s.calls),
            )  # fmt: skip
            s.calls.append(call)
        time.sleep(s.seconds)
        fault = s.fault(call)
        name, _, value = fault.partition(" ")
        match name:
            case "status":
                headers = {"Retry-After": value.split()[1]} if " " in value else {}
                self._error(int(value.split()[0]), "as ordered", headers)
                return
            case "cut":
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "5000")
                self.end_headers()
                self.wfile.write(b'{"id": "chatcmpl-1", "choices": [{"mess')
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            case "trickle":  # alive, and never done: no time between two bytes is long
                self.send_response(200)
                self.send_header("Content-Length", "5000")
                self.end_headers()
                for _ in range(40):
                    time.sleep(0.1)
                    self.wfile.write(b" ")
                self.close_connection = True
                return
            case "slow":
                time.sleep(float(value))
            case "raw":
                self._bytes(200, value.encode())
                return
            case "deaf":
                deaf = True
            case "blind":
                blind = True
        tokens = len(prompt.split()) + (0 if deaf or media.wave is None else round(25 * media.duration))
        if deaf:
            media = media.with_wave(None)
        if blind:
            media = media.with_frames(None)
        text = s.says(prompt, media)
        asked = self.headers.get("X-Request-Id", "")
        if name == "swapped":
            others = [c.headers["x-request-id"] for c in s.calls if c is not call]
            asked = others[0] if others else "ew-" + "0" * 32
        if name == "nameless":
            asked = ""
        body: dict[str, Any] = {
            "id": f"chatcmpl-{asked if s.names_replies else call.number}",
            "object": "chat.completion",
            "model": "other" if name == "othermodel" else request["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        }
        if s.usage:
            body["usage"] = {"prompt_tokens": tokens, "completion_tokens": len(text.split())}
        if s.details:
            heard = 0 if deaf or media.wave is None else round(25 * media.duration)
            body["usage"]["prompt_tokens_details"] = {"multimodal_tokens": {"audio": heard, "video": 64}}
        if s.logprobs and request.get("logprobs"):
            body["choices"][0]["logprobs"] = _logprobs(text, request)
        if request.get("prompt_logprobs") is not None:
            said = str(request["messages"][-1]["content"])
            body["prompt_logprobs"] = [
                None,
                *({"1": {"logprob": -0.5, "decoded_token": "x"}} for _ in range(tokens - 1)),
            ]
            body["prompt_logprobs"] += [{"2": {"logprob": -0.25, "decoded_token": c}} for c in said]
            body["usage"]["prompt_tokens"] = tokens + len(said)
        if fault.startswith("reply "):
            _merge(body, json.loads(value))
        self._send(200, body, {"X-Request-Id": asked} if asked and s.names_replies else {})

    def _allowed(self) -> bool:
        if self.about.key is None or self.headers.get("Authorization") == f"Bearer {self.about.key}":
            return True
        said = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self._error(401, f"Incorrect API key provided: {said}")  # as hosted servers do: the key comes back
        return False

    def _error(
        self, code: int, message: str, headers: dict[str, str] | None = None, param: str | None = None
    ) -> None:
        self._send(code, {"error": {"message": message, "type": "x", "code": code, "param": param}}, headers)

    def _send(self, code: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._bytes(code, json.dumps(body).encode(), headers)

    def _bytes(self, code: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


def _has(request: dict[str, Any], name: str) -> bool:
    content = request["messages"][0]["content"]
    parts = content if isinstance(content, list) else []
    return name in request or any(name in part or part.get("type") == name for part in parts)


def _read(request: dict[str, Any]) -> tuple[str, Media]:
    """The words and the clip, decoded from the bytes that came. Sound inside a video counts only if asked for."""
    content = request["messages"][0]["content"]
    if isinstance(content, str):
        return content, Media(None, None, None, 16_000, 0.0)
    frames: list[np.ndarray[Any, Any]] = []
    times: list[float] = []
    out = Media(None, None, None, 16_000, 0.0)
    words = []
    for part in content:
        match part["type"]:
            case "text":
                words.append(part["text"])
            case "video_url":
                clip = _load(base64.b64decode(part["video_url"]["url"].partition(",")[2]), ".mp4")
                inside = (request.get("mm_processor_kwargs") or {}).get("use_audio_in_video")
                out = Media(clip.frames, clip.times, clip.wave if inside else out.wave, 16_000, clip.duration)
            case "input_audio":
                clip = _load(base64.b64decode(part["input_audio"]["data"]), ".wav")
                out = Media(out.frames, out.times, clip.wave, 16_000, clip.duration)
            case "image_url":
                data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
                frames.append(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
                times.append(float(words.pop().split()[2]))
    if frames:
        out = Media(np.stack(frames), np.array(times), out.wave, 16_000, out.duration)
    return " ".join(words), out


def _load(data: bytes, suffix: str) -> Media:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        path.write_bytes(data)
        return files.load(path, VIEW)


def _logprobs(text: str, request: dict[str, Any]) -> dict[str, Any]:
    tokens = [{"token": t, "logprob": -0.5, "top_logprobs": []} for t in text.split(" ")]
    if request.get("top_logprobs"):
        tokens[0]["top_logprobs"] = [{"token": t, "logprob": -1.0 - n} for n, t in enumerate("ABCD")]
    return {"content": tokens}


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value
