"""A loopback server that speaks the Gemini API as google-genai uses it, a listener behind it, and faults on call.

What it answers is made from the media that really arrived: it decodes the clip, looks up by prompt *and sound*
which question this is, and lets a ``fake:`` control answer. A sound lost on the way finds no question.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from earwitness import media as files
from earwitness.audit.check import CHECK_PROMPTS
from earwitness.models.fake import control, describe, shows
from earwitness.records import Item, Media, View, digest

KEY = "AIzaSecretSecretSecret"
CHECKS = {prompt: organ for organ, prompt in CHECK_PROMPTS.items()}


def sound_key(media: Media) -> str:
    """What is left of a sound on its way through 16 bit."""
    return "none" if media.wave is None else digest(files.sixteen_bit(media.wave))


class GeminiServer:
    """The service's state: files, what it was asked, and what it is to do wrong."""

    model = "gemini-test"

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, dict[str, Any]] = {}
        self.known: dict[tuple[str, str, bool], Item] = {}
        self.control = control("hears")
        self.requests: list[dict[str, Any]] = []
        self.deleted: list[str] = []
        self.crashes: list[str] = []
        self.seen: Counter[str] = Counter()  # method and kind of path
        self.faults: list[str] = []  # one for each coming generateContent, "" = none
        self.bad_prompts: dict[str, str] = {}  # words of a prompt -> fault, each time
        self.upload_faults: list[str] = []
        self.looks = 1  # times a new file is still PROCESSING
        self.lifetime = timedelta(hours=48)
        self.deaf = self.blind = self.refuses_logprobs = self.needs_thoughts = self.keeps_files = False
        self.slow = 0.0
        self.lock = threading.Lock()

    def knows(self, pairs: Iterable[tuple[Item, Media]]) -> None:
        """Questions that it can answer, and the sound they come with."""
        for item, media in pairs:
            self.known[item.prompt, sound_key(media), shows(media)] = item

    # --- files ---
    def start_upload(self, about: dict[str, Any], mime: str) -> str:
        with self.lock:
            name = f"files/f{len(self.files) + len(self.deleted):03d}"
            self.files[name] = {"mime": mime, "data": b"", "looks": self.looks, "about": about["file"]}
        return name

    def file(self, name: str) -> dict[str, Any]:
        held = self.files[name]
        fault = held.get("fault", "")
        state = "FAILED" if fault == "FAILED" else "PROCESSING" if held["looks"] > 0 else "ACTIVE"
        held["looks"] -= 1
        out = {
            "name": name, "uri": f"{self.url}/v1beta/{name}", "mimeType": held["mime"], "state": state,
            "sizeBytes": str(len(held["data"])),
            "expirationTime": (datetime.now(UTC) + self.lifetime).isoformat(),
        }  # fmt: skip
        return out | ({"error": {"code": 3, "message": "no video stream"}} if state == "FAILED" else {})

    # --- answering ---
    def answer(self, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        with self.lock:
            self.requests.append(body)
            fault = self.faults.pop(0) if self.faults else ""
        time.sleep(self.slow)
        parts = body["contents"][0]["parts"] if len(body["contents"]) == 1 else [
            p for c in body["contents"] for p in c["parts"]
        ]  # fmt: skip
        prompt = next(p["text"] for p in parts if "text" in p)
        fault = fault or next((f for words, f in self.bad_prompts.items() if words in prompt), "")
        config = body["generationConfig"]
        if self.refuses_logprobs and config.get("responseLogprobs"):
            return _refusal(400, "INVALID_ARGUMENT", "Logprobs is not enabled for models/gemini-test")
        if self.needs_thoughts and config.get("thinkingConfig", {}).get("thinkingBudget") == 0:
            return _refusal(400, "INVALID_ARGUMENT", "Budget 0 is invalid. This model only works in thinking mode.")
        if fault:
            return _fault(fault)
        clip = [p for p in parts if "text" not in p]
        data = None
        if clip and "fileData" in clip[0]:
            name = clip[0]["fileData"]["fileUri"].rpartition("/v1beta/")[2]
            if name not in self.files:
                return _refusal(403, "PERMISSION_DENIED", f"You do not have permission to access the File {name}")
            data = self.files[name]["data"]
        elif clip:
            data = base64.urlsafe_b64decode(clip[0]["inlineData"]["data"])  # as google-genai writes bytes
        media = self._received(_decoded(data))
        text = self._says(prompt, media)
        return 200, _reply(text, media, prompt, logprobs=bool(config.get("responseLogprobs"))), {}

    def _received(self, media: Media) -> Media:
        if self.deaf:
            media = media.with_wave(None)
        return media.with_frames(None) if self.blind else media

    def _says(self, prompt: str, media: Media) -> str:
        if prompt in CHECKS:
            return describe(CHECKS[prompt], media)
        item = self.known.get((prompt, sound_key(media), shows(media)))
        if item is None:
            return "I have never heard such a sound."
        return self.control.answer([item], [media])[0].text or ""


def _decoded(data: bytes | None) -> Media:
    if data is None:
        return Media(frames=None, times=None, wave=None, rate=16_000, duration=0.0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("sound.wav" if data[:4] == b"RIFF" else "clip.mp4")
        path.write_bytes(data)
        return files.load_native(path) if path.suffix == ".wav" else files.load(path, View())


def _reply(text: str, media: Media, prompt: str, *, logprobs: bool) -> dict[str, Any]:
    words = text.split(" ")
    frames = 0 if media.frames is None else len(media.frames)
    counts = {
        "TEXT": len(prompt.split()),
        "VIDEO": 258 * frames,
        "AUDIO": 0 if media.wave is None else round(32 * media.duration),
    }
    candidate: dict[str, Any] = {
        "content": {"role": "model", "parts": [{"text": "Let me think.", "thought": True}, {"text": text}]},
        "finishReason": "STOP", "index": 0,
    }  # fmt: skip
    if logprobs:
        chosen = [{"token": w, "logProbability": -0.25} for w in words]
        candidate["logprobsResult"] = {"chosenCandidates": chosen}
    return {
        "candidates": [candidate], "modelVersion": "gemini-test-001",
        "usageMetadata": {
            "promptTokenCount": sum(counts.values()), "candidatesTokenCount": len(words), "thoughtsTokenCount": 3,
            "promptTokensDetails": [{"modality": m, "tokenCount": n} for m, n in counts.items() if n],
        },
    }  # fmt: skip


def _refusal(
    code: int, status: str, message: str, details: list[dict[str, Any]] | None = None, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    error = {"code": code, "message": message, "status": status, "details": details or []}
    return code, {"error": error}, {k.replace("_", "-"): v for k, v in headers.items()}


def _fault(kind: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    usage = {"promptTokenCount": 100, "candidatesTokenCount": 0, "thoughtsTokenCount": 40}
    if kind == "429 RetryInfo":
        info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.4s"}
        return _refusal(429, "RESOURCE_EXHAUSTED", "Quota exceeded, slow down", [info])
    if kind == "429 Retry-After":
        return _refusal(429, "RESOURCE_EXHAUSTED", "Too many requests", Retry_After="0.4")
    if kind == "429 day":
        failure = {"@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}  # fmt: skip
        return _refusal(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", [failure])
    if kind == "bad key":
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        return _refusal(400, "INVALID_ARGUMENT", f"API key not valid: {KEY}", [info])
    if kind == "abroad":
        return _refusal(400, "FAILED_PRECONDITION", "User location is not supported for the API use.")
    status = {"400": "INVALID_ARGUMENT", "404": "NOT_FOUND", "500": "INTERNAL", "503": "UNAVAILABLE"}
    if kind in status:
        return _refusal(int(kind), status[kind], f"the service says {kind}")
    if kind == "blocked":
        return 200, {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage}, {}
    if kind == "empty":
        return 200, {"usageMetadata": usage}, {}
    if kind in ("cut", "not json"):
        return 200, {"raw": kind}, {}
    stopped: dict[str, Any] = {"finishReason": kind, "index": 0, "content": {"role": "model"}}
    if kind == "SAFETY":
        stopped["content"]["parts"] = [{"text": "I hear a"}]
    return 200, {"candidates": [stopped], "usageMetadata": usage}, {}


def _camel(value: Any) -> Any:
    """Names as the service documents them; it reads snake_case as well, and google-genai sends both."""
    if isinstance(value, list):
        return [_camel(v) for v in value]
    if isinstance(value, dict):
        return {re.sub(r"_(\w)", lambda m: m[1].upper(), k): _camel(v) for k, v in value.items()}
    return value


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: GeminiServer

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, code: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(body).encode()
        if body.get("raw") == "not json":
            raw = b"<html>Bad gateway</html>"
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw) + (1000 if body.get("raw") == "cut" else 0)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)
        if body.get("raw") == "cut":
            self.close_connection = True

    def do_GET(self) -> None:
        state, path = self.state, self.path.partition("?")[0].removeprefix("/v1beta/")
        state.seen[f"GET {path.partition('/')[0]}"] += 1
        if self.headers.get("x-goog-api-key") not in (KEY, "none"):
            self._send(*_refusal(403, "PERMISSION_DENIED", "a valid key is needed"))
        elif path == f"models/{state.model}":
            self._send(200, {"name": path, "version": "001"})
        elif path in state.files:
            self._send(200, state.file(path))
        else:
            self._send(*_refusal(404, "NOT_FOUND", f"{path} is not found for API version v1beta"))

    def do_DELETE(self) -> None:
        state, name = self.state, self.path.removeprefix("/v1beta/")
        state.seen["DELETE files"] += 1
        if state.keeps_files:
            self._send(*_refusal(500, "INTERNAL", "not now"))
        elif state.files.pop(name, None) is None:
            self._send(*_refusal(404, "NOT_FOUND", name))
        else:
            state.deleted.append(name)
            self._send(200, {})

    def do_POST(self) -> None:
        state, raw, path = self.state, self._body(), self.path.partition("?")[0]
        if path.startswith("/upload/"):
            self._upload(raw, path)
            return
        state.seen["POST generateContent"] += 1
        assert path == f"/v1beta/models/{state.model}:generateContent", path
        self._send(*state.answer(_camel(json.loads(raw))))

    def _upload(self, raw: bytes, path: str) -> None:
        state, command = self.state, self.headers["X-Goog-Upload-Command"]
        if command == "start":
            fault = state.upload_faults.pop(0) if state.upload_faults else ""
            if fault and fault != "FAILED":
                self._send(*_fault(fault))
                return
            name = state.start_upload(json.loads(raw), self.headers["X-Goog-Upload-Header-Content-Type"])
            state.files[name]["fault"] = fault
            url = f"{state.url}/upload/sessions/{name}"
            self._send(200, {}, {"X-Goog-Upload-URL": url, "X-Goog-Upload-Status": "active"})
            return
        name = path.removeprefix("/upload/sessions/")
        state.files[name]["data"] += raw
        state.seen["uploads"] += 1
        assert command == "upload, finalize"
        self._send(200, {"file": state.file(name)}, {"X-Goog-Upload-Status": "final"})


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the test; a mistake of this file is not."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            state: GeminiServer = self.RequestHandlerClass.state  # type: ignore[attr-defined]
            state.crashes.append(repr(error))


@contextmanager
def serving() -> Iterator[GeminiServer]:
    """A server on a free port."""
    handler = type("Handler", (_Handler,), {})
    server = _Server(("127.0.0.1", 0), handler)
    state = GeminiServer(f"http://127.0.0.1:{server.server_address[1]}")
    handler.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
        assert not state.crashes, state.crashes
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def wave(seconds: float, hz: float, rate: int = 16_000) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A tone, [1, samples]."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)[None]
