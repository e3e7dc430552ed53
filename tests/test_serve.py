"""The OpenAI-compatible server: same answers as the model gives itself, every refusal named, requests batched."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ctrl_c import hears_ctrl_c
from earwitness import foley, interventions, media, questions, serve
from earwitness.models.fake import control
from earwitness.models.load import HANS, load_model
from earwitness.records import Answer, Intervention, Item, Media, View

openai = pytest.importorskip("openai", reason="the client is the extra earwitness[api]")
pytest.importorskip("uvicorn", reason="the server is the extra earwitness[serve]")

from earwitness.serve.clips import Clips  # noqa: E402
from earwitness.serve.reading import Blob, Parts, Refusal, read  # noqa: E402
from earwitness.serve.turns import Turns  # noqa: E402

VIEW = View(size=(56, 56))
QUESTION = questions.content_prompt("audio", foley.CLASSES)


# --- what is sent ----------------------------------------------------------------------------------------------


def clip(seed: int = 3, kind: str = "original") -> Media:
    return interventions.apply(foley.media(foley.scene(seed), VIEW), Intervention(kind=kind))  # type: ignore[arg-type]


def video(m: Media, folder: Path) -> bytes:
    path = folder / f"{m.video_hash}-{m.audio_hash}.mp4"
    assert m.frames is not None
    media.write_clip(m.frames, VIEW.fps, m.wave, m.rate, path)
    return path.read_bytes()


def data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def video_part(content: bytes, **more: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": data("video/mp4", content)}, **more}


def png(frame: Any, kind: str = "PNG") -> dict[str, Any]:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, kind)
    return {"type": "image_url", "image_url": {"url": data(f"image/{kind.lower()}", out.getvalue())}}


def wav(wave: Any, rate: int = 16_000) -> dict[str, Any]:
    from scipy.io import wavfile

    out = io.BytesIO()
    wavfile.write(out, rate, media.sixteen_bit(wave)[0])
    return sound_part(out.getvalue())


def sound_part(content: bytes, kind: str = "wav") -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(content).decode(), "format": kind}}


def text(words: str = QUESTION) -> dict[str, Any]:
    return {"type": "text", "text": words}


def body(*parts: dict[str, Any], model: str = "hans", sound: bool = False, **more: Any) -> dict[str, Any]:
    options = {"mm_processor_kwargs": {"use_audio_in_video": True}} if sound else {}
    return {
        "model": model,
        "messages": [{"role": "user", "content": list(parts)}],
        "max_tokens": 8,
        **options,
        **more,
    }


def post(url: str, sent: Any, **headers: str) -> tuple[int, Any, Any]:
    """Status, JSON and headers of a raw request."""
    content = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    told = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
    request = urllib.request.Request(f"{url}/chat/completions", data=content, headers=told)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.load(reply), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error), error.headers


class Watched:
    """A model that counts its calls, and can be held or made to fail."""

    revision, abilities = "1", frozenset({"generates"})

    def __init__(self, say: Callable[[Item, Media], str | None]) -> None:
        self.name, self.view, self.say = "watched", VIEW, say
        self.calls: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
        self.calls.append([id(m) for m in media])
        assert self.go.wait(30)
        return [Answer(item=i.id, model=self.name, text=self.say(i, m)) for i, m in zip(items, media, strict=True)]


@pytest.fixture(scope="module")
def hans() -> Any:
    pytest.importorskip("torch", reason="local models are an extra")
    if not (HANS / "config.json").is_file():
        pytest.skip("no weights of Hans in the package")
    return load_model("hans")


@pytest.fixture(scope="module")
def served(hans: Any) -> Iterator[str]:
    with serve.running(hans) as url:
        yield url


@pytest.fixture(scope="module")
def fake() -> Iterator[str]:
    with serve.running(control("hears", view=VIEW), body=2_000_000) as url:
        yield url


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return video(clip(), tmp_path_factory.mktemp("mp4"))


# --- the same answers as the model gives itself ----------------------------------------------------------------


def direct(model: Any, m: Media, choices: tuple[str, ...] = ()) -> Answer:
    item = Item(
        id="direct", protocol="check", condition="", question="audio", clip="", source="", group="",
        prompt=QUESTION, choices=choices, target=None, decode=8,
    )  # fmt: skip
    (answer,) = model.answer([item], [m])
    assert isinstance(answer, Answer)
    return answer


def assert_same(reply: Any, want: Answer) -> None:
    assert reply.choices[0].message.content == want.text
    assert want.fed is not None
    got = reply.earwitness["fed"]
    assert {k: got[k] for k in got} == {k: getattr(want.fed, k) for k in got}
    assert reply.usage.prompt_tokens == want.fed.prompt_tokens
    if want.logprobs is not None:
        assert reply.earwitness["choice_logprobs"] == pytest.approx(want.logprobs, abs=1e-4)
    if want.logprob is not None:
        assert reply.earwitness["logprob"] == pytest.approx(want.logprob, abs=1e-4)


@pytest.mark.parametrize("kind", ["original", "mute", "no_track", "black", "tone"])
def test_hans_answers_over_http_as_he_does_himself(served: str, hans: Any, tmp_path: Path, kind: str) -> None:
    m = clip(5, kind)
    content = video(m, tmp_path)
    choices = ("drum", "whistle", "dog barking")
    client = openai.OpenAI(base_url=served, api_key="none", max_retries=0)
    reply = client.chat.completions.create(
        model="hans",
        messages=[{"role": "user", "content": [video_part(content, uuid="mine"), text()]}],
        max_tokens=8,
        temperature=0,
        seed=1,
        logprobs=True,
        top_logprobs=3,
        extra_headers={"X-Request-Id": f"id-{kind}"},
        extra_body={
            "mm_processor_kwargs": {"use_audio_in_video": m.wave is not None, "fps": 2.0},
            "earwitness": {"choices": choices},
        },
    )
    (path,) = tmp_path.glob("*.mp4")
    want = direct(hans, media.load(path, VIEW), choices)
    assert_same(reply, want)
    assert (want.fed.audio_hash is None) == (kind == "no_track")  # type: ignore[union-attr]
    assert reply.id == f"chatcmpl-id-{kind}"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.prompt_tokens_details.audio_tokens == (want.fed.audio_tokens or 0)  # type: ignore[union-attr]
    told = reply.choices[0].logprobs.content
    assert "".join(t.token for t in told).strip() == want.text
    assert sum(t.logprob for t in told) == pytest.approx(want.logprob, abs=1e-4)
    assert reply.usage.completion_tokens == len(told)
    for token in told:
        assert bytes(token.bytes).decode() == token.token
        best = [t.logprob for t in token.top_logprobs]
        assert len(best) == 3
        assert best == sorted(best, reverse=True)
        assert token.token in [t.token for t in token.top_logprobs]


def test_pictures_and_sound_apart_are_the_same_clip(served: str, hans: Any, tmp_path: Path) -> None:
    m = clip(5)
    wave = (media.sixteen_bit(m.wave) / 32768).astype(np.float32)  # type: ignore[arg-type]
    want = direct(hans, m.with_wave(wave))
    pictures = [png(frame) for frame in m.frames]  # type: ignore[union-attr]
    client = openai.OpenAI(base_url=served, api_key="none", max_retries=0)

    def ask(*parts: Any) -> Any:
        return client.chat.completions.create(**body(*parts, text()))

    assert_same(ask(*pictures, wav(m.wave)), want)
    assert_same(ask(*pictures), direct(hans, m.with_wave(None)))
    assert_same(ask(wav(m.wave)), direct(hans, Media(None, None, wave, 16_000, m.duration)))
    assert_same(ask(), direct(hans, Media(None, None, None, 16_000, 0.0)))
    silent = video(m.with_wave(None), tmp_path)
    (path,) = tmp_path.glob("*.mp4")
    seen = media.load(path, VIEW)
    assert_same(ask(video_part(silent), wav(m.wave)), direct(hans, seen.with_wave(wave)))
    # the sound is shorter than its last picture's half second: the clip is as long as the sound
    short = wave[:, : -16_000 // 4]
    cut = Media(m.frames, m.times, short, 16_000, short.shape[1] / 16_000)
    assert_same(ask(*pictures, wav(short)), direct(hans, cut))


def test_the_video_s_sound_is_fed_only_when_asked_for(served: str, hans: Any, mp4: bytes) -> None:
    _, reply, _ = post(served, body(video_part(mp4), text()))
    assert reply["earwitness"]["fed"]["audio_hash"] is None
    _, reply, _ = post(served, body(video_part(mp4), text(), sound=True))
    assert reply["earwitness"]["fed"]["audio_hash"] is not None


def test_a_stream_says_what_the_whole_reply_says(served: str, mp4: bytes) -> None:
    client = openai.OpenAI(base_url=served, api_key="none", max_retries=0)
    sent = body(video_part(mp4), text(), logprobs=True)
    whole = client.chat.completions.create(**sent)
    chunks = list(client.chat.completions.create(**sent, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    said = [c.choices[0] for c in chunks if c.choices]
    assert "".join(c.delta.content or "" for c in said) == whole.choices[0].message.content
    assert [c.finish_reason for c in said] == [None, None, "stop"]
    assert said[1].logprobs.content[0].logprob == whole.choices[0].logprobs.content[0].logprob
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    raw = urllib.request.Request(
        f"{served}/chat/completions",
        json.dumps({**sent, "stream": True}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(raw, timeout=60) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = reply.read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert all("usage" not in json.loads(line.removeprefix("data: ")) for line in lines[:-2])


def test_an_answer_cut_at_its_limit_says_so(served: str) -> None:
    long = "Describe the audio you hear in this video."
    _, reply, _ = post(served, body(text(long), max_tokens=1))
    assert (reply["choices"][0]["finish_reason"], reply["usage"]["completion_tokens"]) == ("length", 1)


def test_a_control_describes_what_it_got(fake: str, mp4: bytes) -> None:
    _, reply, _ = post(fake, body(video_part(mp4), text("?"), sound=True, model="fake:hears"))
    assert "strongest at" in reply["choices"][0]["message"]["content"]
    _, reply, _ = post(fake, body(video_part(mp4), text("?"), model="fake:hears"))
    assert "picture of mean colour" in reply["choices"][0]["message"]["content"]
    asked = {"choices": ["bell", "drum"]}
    _, reply, _ = post(fake, body(text("?"), model="fake:hears", earwitness=asked))
    assert reply["earwitness"]["choice_logprobs"] is None, "a rule has none, and says so"
    own = {"protocol": "thud", "question": "swap", "seen": ["drum"], "heard": ["bell"]}
    sent = body(video_part(mp4), text("?"), sound=True, model="fake:hears", earwitness=own)
    assert "not match" in post(fake, sent)[1]["choices"][0]["message"]["content"]


def test_system_text_goes_before_the_question_and_the_reply_notes_it() -> None:
    sent = {
        "model": "parrot",
        "earwitness": {"protocol": "mma"},
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is it?"}],
    }
    with serve.running(control("parrot", view=VIEW), name="parrot") as url:
        _, reply, _ = post(url, sent)
    assert reply["choices"][0]["message"]["content"] == "Be brief.\n\nWhat is it?"
    assert "system" in reply["earwitness"]["note"]


# --- refusals --------------------------------------------------------------------------------------------------

ASK = [{"role": "user", "content": "?"}]
BAD: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("another model", {"model": "gpt"}, 404, "no model 'gpt' here", "model"),
    ("warm", {"temperature": 0.7}, 400, "greedy", "temperature"),
    ("several answers", {"n": 2}, 400, "one greedy answer", "n"),
    ("penalty", {"presence_penalty": 0.5}, 400, "say 0", "presence_penalty"),
    ("unknown parameter", {"tools": []}, 400, "unknown parameter 'tools'", "tools"),
    ("odd option", {"mm_processor_kwargs": {"max_pixels": 9}}, 400, "unknown", "mm_processor_kwargs.max_pixels"),
    ("another pace", {"mm_processor_kwargs": {"fps": 1.0}}, 400, "2 frames a second", "mm_processor_kwargs.fps"),
    (
        "sound in no video", {"mm_processor_kwargs": {"use_audio_in_video": True}}, 400, "without a video_url",
        "mm_processor_kwargs.use_audio_in_video",
    ),
    ("no tokens", {"max_tokens": 0}, 400, ">= 1", "max_tokens"),
    ("too many tokens", {"max_completion_tokens": 10**6}, 400, "<= 4096", "max_completion_tokens"),
    ("top of nothing", {"top_logprobs": 3}, 400, "needs logprobs", "top_logprobs"),
    ("too large a top", {"logprobs": True, "top_logprobs": 50}, 400, "<= 20", "top_logprobs"),
    ("log-probs of a rule", {"logprobs": True}, 400, "gives no log-probs of what it says", "logprobs"),
    ("few", {"media_io_kwargs": {"video": {"num_frames": 8}}}, 400, "8", "media_io_kwargs.video.num_frames"),
    ("no turn", {"messages": []}, 400, "roles none", "messages"),
    ("a talk", {"messages": [*ASK, {"role": "assistant", "content": "!"}, *ASK]}, 400, "one user turn", "messages"),
    ("system last", {"messages": [*ASK, {"role": "system", "content": "!"}]}, 400, "user, system", "messages"),
    ("no text", {"messages": [{"role": "user", "content": []}]}, 400, "asks nothing", "messages[0].content"),
    ("long text", {"messages": [{"role": "user", "content": "a" * 400_001}]}, 400, "at most 400000", "messages"),
    ("odd role", {"messages": [{"role": "me", "content": ""}]}, 400, "'me'", "messages[0].role"),
    ("wrong type", {"max_tokens": "8"}, 400, "Expected `int", "max_tokens"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "status", "message", "param"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_what_is_not_done_is_refused_by_name(
    fake: str, change: dict[str, Any], status: int, message: str, param: str
) -> None:
    got, reply, headers = post(fake, {"model": "fake:hears", "messages": ASK, **change}, X_Request_Id="r1")
    assert got == status, reply
    assert message in reply["error"]["message"]
    assert (reply["error"]["param"], reply["error"]["type"]) == (param, "invalid_request_error")
    assert headers["X-Request-Id"] == "r1"


def url_part(kind: str, url: str) -> dict[str, Any]:
    return {"type": kind, kind: {"url": url}}


def a_png(width: int, height: int) -> bytes:
    """A tiny file that claims to be a large picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")[:4])


PLAYLIST = b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
NOISE = np.random.default_rng(0).bytes(4000)
MEDIA: list[tuple[str, dict[str, Any], str]] = [
    ("file", url_part("video_url", "file:///etc/passwd"), "addresses (file:) are not opened"),
    ("web", url_part("video_url", "http://127.0.0.1:1/a.mp4"), "addresses (http:) are not opened"),
    ("path", url_part("image_url", "/etc/passwd"), "addresses (none:) are not opened"),
    ("no base64", url_part("video_url", "data:video/mp4,abc"), "data:TYPE;base64"),
    ("broken base64", url_part("video_url", "data:video/mp4;base64,!!!!"), "no base64"),
    ("nothing", url_part("video_url", "data:video/mp4;base64,"), "no bytes"),
    ("picture as video", url_part("video_url", data("image/png", b"x")), "known are video/"),
    ("jpeg list", url_part("video_url", data("video/jpeg", b"x")), "as image_url"),
    ("gif", url_part("image_url", data("image/gif", b"GIF89a")), "known are image/png"),
    ("noise as video", video_part(NOISE), "not a media file"),
    ("playlist", video_part(PLAYLIST), "not a media file"),
    ("noise as picture", url_part("image_url", data("image/png", NOISE)), "neither PNG nor JPEG"),
    ("huge picture", url_part("image_url", data("image/png", a_png(8000, 8000))), "above the limit"),
    ("bomb", url_part("image_url", data("image/png", a_png(60_000, 60_000))), "cannot be read"),
    ("cut picture", url_part("image_url", data("image/png", a_png(8, 8))), "cannot be read"),
    ("noise as sound", sound_part(NOISE), "not a media file"),
    ("odd sound", sound_part(NOISE, "opus"), "'opus'"),
    ("two fields", {"type": "text", "text": "?", "video_url": {"url": "data:"}}, "no other's"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "message"), [m[1:] for m in MEDIA], ids=[m[0] for m in MEDIA])
def test_hostile_and_broken_media_are_named_and_never_fetched(
    fake: str, part: dict[str, Any], message: str
) -> None:
    status, reply, _ = post(fake, body(text(), part, model="fake:hears"))
    assert status == 400, reply
    assert message in reply["error"]["message"]
    assert reply["error"]["param"].startswith("messages[0].content[1]")
    assert "earwitness-" not in reply["error"]["message"], "no paths of this machine"


def test_parts_that_do_not_belong_together_are_refused(fake: str, mp4: bytes, tmp_path: Path) -> None:
    m = clip()
    assert m.frames is not None
    assert m.wave is not None
    silent = video_part(video(m.with_wave(None), tmp_path))
    small = png(m.frames[0][:20, :30])
    for parts, sound, message in (
        ([silent], True, "no sound track"),
        ([video_part(mp4[: len(mp4) // 2])], True, "content[1].video_url"),
        ([video_part(mp4), video_part(mp4)], False, "2 videos"),
        ([wav(m.wave), wav(m.wave)], False, "2 sounds"),
        ([video_part(mp4), small], False, "a video and pictures"),
        ([video_part(mp4), wav(m.wave)], True, "a sound beside a video"),
        ([video_part(mp4), wav(m.wave[:, :16_000])], False, "do not belong together"),
        ([video_part(base64.b64decode(wav(m.wave)["input_audio"]["data"]))], False, "no picture track"),
        ([sound_part(mp4)], False, "not a plain sound"),
    ):  # fmt: skip
        status, reply, _ = post(fake, body(text(), *parts, sound=sound, model="fake:hears"))
        assert (status, message in reply["error"]["message"]) == (400, True), (message, reply)
    wide = Clips(View())  # takes pictures as they are
    two = tuple(Blob(base64.b64decode(p["image_url"]["url"].split(",")[1]), "p") for p in (png(m.frames[0]), small))
    with pytest.raises(Refusal, match="different sizes"):
        wide.media(Parts(images=two))
    for limits in (media.Limits(array_bytes=20_000), media.Limits(seconds=1.0)):
        with pytest.raises(Refusal, match="too many pictures: 3"):
            Clips(VIEW, limits=limits).media(Parts(images=two[:1] * 3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b'{"model": "a\xff"}', "no JSON"),
        (b"[]", "object"),
        (b"", "no JSON"),
    ],
)
def test_a_body_that_is_no_request_is_refused(fake: str, content: bytes, message: str) -> None:
    status, reply, _ = post(fake, content)
    assert status == 400
    assert message in reply["error"]["message"]


def test_deep_json_is_refused_not_a_crash() -> None:
    deep = b'{"model": "m", "metadata": ' + b'{"a": ' * 100_000
    with pytest.raises(Refusal, match="no JSON"):
        read(deep, model="m", view=VIEW, request="r")


def test_other_addresses_methods_types_and_ids_are_refused(fake: str) -> None:
    host = fake.removeprefix("http://").removesuffix("/v1")

    def ask(method: str, path: str, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request(method, path, body=b"{}" if method == "POST" else None, headers=headers)
        reply = connection.getresponse()
        out = reply.status, json.loads(reply.read())
        connection.close()
        return out

    status, reply = ask("GET", "/v2/models")
    assert (status, "POST /v1/chat/completions" in reply["error"]["message"]) == (404, True)
    assert ask("GET", "/v1/chat/completions")[0] == 405
    assert ask("POST", "/v1/chat/completions", **{"Content-Type": "text/plain"})[0] == 415
    status, reply = ask(
        "POST", "/v1/chat/completions", **{"Content-Type": "application/json", "X-Request-Id": "a b"}
    )
    assert (status, reply["error"]["param"]) == (400, "X-Request-Id")
    assert ask("GET", "/health") == (200, {"status": "ok", "model": "fake:hears", "waiting": 0})
    card = ask("GET", "/v1/models")[1]["data"][0]
    assert (card["id"], card["root"], card["earwitness"]["view"]["fps"]) == ("fake:hears", "1", 2.0)


def test_a_body_above_the_limit_is_refused(fake: str) -> None:
    sent = body(text("x" * 3_000_000), model="fake:hears")
    status, reply, _ = post(fake, sent)
    assert (status, "2.0 MB" in reply["error"]["message"]) == (413, True)
    host = fake.removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(host, timeout=30)  # in pieces, without a stated length
    pieces = (b" " * 100_000 for _ in range(30))
    connection.request(
        "POST", "/v1/chat/completions", pieces, {"Content-Type": "application/json"}, encode_chunked=True
    )
    assert connection.getresponse().status == 413
    connection.close()
    assert post(fake, body(text(), model="fake:hears"))[0] == 200


def test_a_key_is_asked_for_where_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARWITNESS_SERVE_KEY", "s3cret")
    sent = body(text(), model="fake:hears")
    with serve.running(control("hears", view=VIEW)) as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}):
            status, reply, got = post(url, sent, **headers)
            assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
            assert got["WWW-Authenticate"] == "Bearer"
            assert "s3cret" not in json.dumps(reply)
        assert post(url, sent, Authorization="Bearer s3cret")[0] == 200
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(f"{url}/models", timeout=30)
        refused.value.close()
        with urllib.request.urlopen(url.replace("/v1", "/health"), timeout=30) as reply:
            assert reply.status == 200


# --- what the model does wrong ---------------------------------------------------------------------------------


def test_an_empty_answer_is_a_failure() -> None:
    for model in (control("silent", view=VIEW), Watched(lambda *_: " ")):
        with serve.running(model) as url:
            status, reply, _ = post(url, body(text(), model=model.name, earwitness={"protocol": "mma"}))
            assert (status, reply["error"]["code"], reply["error"]["type"]) == (500, "empty_answer", "server_error")
            assert "empty answer" in reply["error"]["message"]


def test_one_question_that_fails_leaves_the_others_alone() -> None:
    def say(item: Item, _: Media) -> str:
        if "boom" in item.prompt:
            raise RuntimeError("it broke")
        if "odd" in item.prompt:
            raise ValueError("no such picture")
        return item.prompt

    model = Watched(say)
    with serve.running(model, wait=0.3) as url, ThreadPoolExecutor(8) as pool:
        prompts = ["a", "boom", "b", "c", "odd", "d", "e", "f"]
        got = list(pool.map(lambda p: post(url, body(text(p), model="watched")), prompts))
    for prompt, (status, reply, _) in zip(prompts, got, strict=True):
        if prompt in ("boom", "odd"):
            assert status == (500 if prompt == "boom" else 400)
            assert ("it broke" if prompt == "boom" else "no such picture") in reply["error"]["message"]
        else:
            assert (status, reply["choices"][0]["message"]["content"]) == (200, prompt)


def test_a_media_token_in_the_question_is_the_caller_s_fault(served: str) -> None:
    status, reply, _ = post(served, body(text("what is <|VIDEO|> here?")))
    assert (status, "media placeholders" in reply["error"]["message"]) == (400, True)


def test_sixteen_requests_at_once_are_few_calls_on_one_clip(mp4: bytes) -> None:
    model = Watched(lambda item, _: item.prompt)
    with serve.running(model) as url, ThreadPoolExecutor(16) as pool:
        assert post(url, body(video_part(mp4), text("first"), sound=True, model="watched"))[0] == 200
        model.go.clear()
        sent = [body(video_part(mp4), text(f"q{n}"), sound=True, model="watched") for n in range(16)]
        replies = [pool.submit(post, url, s) for s in sent]
        until = time.monotonic() + 30
        while time.monotonic() < until:  # the first call is held until all are there
            with urllib.request.urlopen(url.replace("/v1", "/health"), timeout=30) as reply:
                if json.load(reply)["waiting"] == 16:
                    break
        time.sleep(0.2)
        model.go.set()
        texts = [r.result()[1]["choices"][0]["message"]["content"] for r in replies]
    assert texts == [f"q{n}" for n in range(16)]
    assert sum(map(len, model.calls)) == 1 + 16
    assert len(model.calls) <= 6
    assert len({m for call in model.calls for m in call}) == 1, "the same bytes are the same Media object"


def test_a_crowd_is_told_to_come_back() -> None:
    model = Watched(lambda item, _: "yes")
    model.go.clear()
    sent = body(text(), model="watched")
    with serve.running(model, waiting=1) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, url, sent)
        while not model.calls:
            time.sleep(0.01)
        status, reply, headers = post(url, sent)
        assert (status, reply["error"]["type"], headers["Retry-After"]) == (429, "rate_limit_error", "1")
        model.go.set()
        assert first.result()[0] == 200
        assert post(url, sent)[0] == 200


# --- the parts by themselves -----------------------------------------------------------------------------------


def item(n: int) -> Item:
    return Item(
        id=f"i{n}", protocol="", condition="", question="", clip="", source="", group="", prompt=str(n), target=None
    )


def test_questions_on_the_same_media_follow_one_another() -> None:
    model = Watched(lambda i, _: i.prompt)
    turns = Turns(model)
    a, b = (Media(None, None, None, 16_000, 0.0) for _ in range(2))
    model.go.clear()
    first = turns.ask(item(9), b)
    while not model.calls:
        time.sleep(0.01)
    answers = [turns.ask(item(n), m) for n, m in enumerate((a, b, a, b, a))]  # gather while the model is busy
    model.go.set()
    assert first.result(30).text == "9"
    assert [f.result(30).item for f in answers] == [f"i{n}" for n in range(5)]
    assert model.calls == [[id(b)], [id(a)] * 3 + [id(b)] * 2]
    turns.close()
    assert not turns.alive
    with pytest.raises(RuntimeError, match="ended"):
        turns.ask(item(9), a)


def test_a_thread_that_dies_leaves_nobody_waiting() -> None:
    class Strange(BaseException):
        pass

    def say(*_: object) -> str:
        raise Strange

    model = Watched(say)
    model.go.clear()
    turns = Turns(model)
    thread_errors = threading.excepthook
    threading.excepthook = lambda _: None
    try:
        answers = [turns.ask(item(n), Media(None, None, None, 16_000, 0.0)) for n in range(3)]
        model.go.set()
        for answer in answers:
            with pytest.raises(RuntimeError, match="thread ended"):
                answer.result(30)
    finally:
        threading.excepthook = thread_errors
    assert not turns.alive


def test_answers_to_other_questions_are_not_passed_on() -> None:
    class Mixed(Watched):
        def answer(self, items: Sequence[Item], media: Sequence[Media]) -> list[Answer]:
            return [Answer(item="other", model="m", text="x") for _ in items]

    turns = Turns(Mixed(lambda *_: ""), wait=0)
    with pytest.raises(RuntimeError, match="other items"):
        turns.ask(item(0), Media(None, None, None, 16_000, 0.0)).result(30)
    turns.close()


def test_clips_are_decoded_once_and_held_within_bounds(mp4: bytes, tmp_path: Path) -> None:
    clips = Clips(VIEW, guarded=False, held=1)
    one, other = Parts(video=Blob(mp4, "a")), Parts(video=Blob(video(clip(4), tmp_path), "b"))
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: clips.media(one), range(8)))
    assert len({id(m) for m in got}) == clips.decodes == 1
    assert clips.media(Parts(video=Blob(bytes(mp4), "elsewhere"))) is got[0]
    clips.media(other)
    assert clips.media(one) is not got[0], "only the newest fits"
    assert clips.decodes == 3
    with pytest.raises(Refusal, match="at most 1 s"):
        Clips(VIEW, guarded=False, limits=media.Limits(seconds=1.0)).media(one)


def test_guarded_decoding_gives_the_same_clip(mp4: bytes) -> None:
    parts = Parts(video=Blob(mp4, "a"), inside=True)
    there, here = Clips(VIEW).media(parts), Clips(VIEW, guarded=False).media(parts)
    assert (there.video_hash, there.audio_hash) == (here.video_hash, here.audio_hash)
    with pytest.raises(Refusal, match="not a media file"):
        Clips(VIEW).media(Parts(video=Blob(PLAYLIST, "here")))


# --- starting and stopping -------------------------------------------------------------------------------------


def test_it_stops_cleanly_on_ctrl_c() -> None:
    code = (
        "from earwitness import serve; from earwitness.models.fake import control; "
        "serve.run(control('hears'), port=0, ready=lambda url: print(url, flush=True)); print('done')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
        preexec_fn=hears_ctrl_c,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                assert post(url, body(text(), model="fake:hears"))[0] == 200
                break
            except OSError:
                time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
        assert (process.returncode, rest, errors) == (0, "done\n", "")


def test_hopeless_starts_are_refused(monkeypatch: pytest.MonkeyPatch, fake: str) -> None:
    model, port = control("hears"), int(fake.split(":")[2].partition("/")[0])
    with pytest.raises(ValueError, match="another server there"):
        serve.run(model, port=port)
    with pytest.raises(ValueError, match="no port 99999"):
        serve.run(model, port=99_999)
    with pytest.raises(ValueError, match="milliseconds"):
        serve.app(model, wait=50)
    for module in ("endpoints", "listening"):
        monkeypatch.delitem(sys.modules, f"earwitness.serve.{module}")
    monkeypatch.delattr(serve, "listening")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ValueError, match=r"earwitness\[serve\]"):
        serve.app(model)


def test_what_is_open_is_said() -> None:
    assert serve.exposed("127.0.0.1") is None
    assert "no key" in (serve.exposed("0.0.0.0", "") or "")
    assert "unencrypted" in (serve.exposed("0.0.0.0", "k") or "")


def test_the_page_s_example_runs(hans: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "connect_serve.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "connect_serve.md", "exec"), {})
    text, told = capsys.readouterr().out.splitlines()
    assert text
    assert re.match(r"\d+ \{'whistle': -\d", told)
