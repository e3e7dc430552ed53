"""The HTTP side: addresses, keys, sizes, replies and errors in OpenAI's shapes, and the server itself.

An answer is complete before the first byte of its reply goes out, streamed or not: so that what went wrong is told
by the status, and never by a stream that just ends.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from earwitness.models import Model
from earwitness.records import Answer, Media
from earwitness.serve import KEY, listening
from earwitness.serve.clips import Clips
from earwitness.serve.reading import Asked, Refusal, read, request_id
from earwitness.serve.turns import FAULTS, Turns

DRAINED = 4  # times the limit that is read (and dropped) of a body too large, so that the client gets to hear it
TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def build(
    model: Model, *, name: str | None, body: int, waiting: int, wait: float, guarded: bool, key: str | None
) -> Starlette:
    """The application; see ``earwitness.serve.app``."""

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(made.state.turns.close)

    made = Starlette(
        routes=[
            Route("/health", _health),
            Route("/v1/models", _models),
            Route("/v1/chat/completions", _completions, methods=["POST"]),
        ],
        exception_handlers={
            Refusal: _refused, HTTPException: _other, ClientDisconnect: _gone, Exception: _broken,
        },
        lifespan=life,
    )  # fmt: skip
    state = made.state
    state.model, state.name, state.body, state.most, state.now = model, name or model.name, body, waiting, 0
    state.key = os.environ.get(KEY) if key is None else key
    state.turns, state.clips = Turns(model, wait=wait), Clips(model.view, guarded=guarded)
    return made


# --- addresses -------------------------------------------------------------------------------------------------


async def _health(request: Request) -> Response:
    state = request.app.state
    alive = state.turns.alive
    return JSONResponse(
        {"status": "ok" if alive else "the model's thread has ended", "model": state.name, "waiting": state.now},
        status_code=200 if alive else 503,
    )


async def _models(request: Request) -> Response:
    _check_key(request)
    model: Model = request.app.state.model
    own = {
        "revision": model.revision,
        "view": msgspec.to_builtins(model.view),
        "abilities": sorted(model.abilities),
        "decoding": getattr(model, "decoding", None),
    }
    # ``created`` says nothing of a model that was on the disk before: 0, the same after each start.
    card = {"id": request.app.state.name, "object": "model", "created": 0, "owned_by": "earwitness"}
    return JSONResponse({"object": "list", "data": [{**card, "root": model.revision, "earwitness": own}]})


async def _completions(request: Request) -> Response:
    _check_key(request)
    state = request.app.state
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        # A web page may make a browser post forms to a server on this machine, but not JSON.
        raise Refusal("send the request as Content-Type: application/json", status=415)
    ident = request_id(request.headers.get("x-request-id")) or uuid.uuid4().hex
    if state.now >= state.most:
        raise Refusal(f"{state.now} requests are being answered: try again in a second", status=429)
    state.now += 1
    try:
        asked, media = await run_in_threadpool(_prepare, state, await _body(request, state.body), ident)
        answer = await _answered(state, asked, media)
    finally:
        state.now -= 1
    reply = _reply(state.name, ident, asked, answer)
    headers = {"X-Request-Id": ident}
    if asked.stream:
        return StreamingResponse(_chunks(reply, asked), media_type="text/event-stream", headers=headers)
    return JSONResponse(reply, headers=headers)


def _check_key(request: Request) -> None:
    key = request.app.state.key
    if not key:
        return
    sent = request.headers.get("authorization", "")
    if not hmac.compare_digest(sent.encode(), f"Bearer {key}".encode()):
        raise Refusal(
            "wrong API key" if sent else "no API key: send Authorization: Bearer KEY",
            status=401,
            code="invalid_api_key",
        )


async def _body(request: Request, most: int) -> bytes:
    """The request's body, of at most ``most`` bytes; Refusal 413 above."""
    chunks: list[bytes] = []
    size = 0
    claimed = request.headers.get("content-length", "0")
    over = int(claimed) > most if claimed.isdecimal() else False
    async for chunk in request.stream():
        size += len(chunk)
        over = over or size > most
        if over:
            chunks.clear()
            if size > DRAINED * most:
                break
        else:
            chunks.append(chunk)
    if over:
        raise Refusal(
            f"the request is above the limit of {most / 1e6:.1f} MB (cut the clip, or send smaller pictures)",
            status=413,
        )
    return b"".join(chunks)


def _prepare(state: Any, body: bytes, ident: str) -> tuple[Asked, Media]:
    """Read the request and decode its media: in a thread, so that others are heard meanwhile."""
    asked = read(body, model=state.name, view=state.model.view, request=ident)
    if asked.top is not None and "spells" not in state.model.abilities:
        raise Refusal(f"logprobs not supported: {state.name} gives no log-probs of what it says", param="logprobs")
    return asked, state.clips.media(asked.parts)


async def _answered(state: Any, asked: Asked, media: Media) -> Answer:
    """The model's answer; Refusal 400 where the item does not fit it, 500 where it failed or said nothing."""
    try:
        answer: Answer = await asyncio.wrap_future(state.turns.ask(asked.item, media, top=asked.top or 0))
    except FAULTS as error:
        theirs = isinstance(error, ValueError)  # house rule: ValueError is the caller's
        what = "the model cannot be asked this" if theirs else "the model failed"
        raise Refusal(
            f"{what}: {type(error).__name__}: {error}",
            status=400 if theirs else 500,
            code=None if theirs else "model_failed",
        ) from error
    if answer.error is not None or not (answer.text or "").strip():
        # As a reply with status 200 it would look like an answer.
        said = answer.error or "empty answer: the model generated nothing"
        raise Refusal(said, status=500, code="empty_answer" if said.startswith("empty") else "model_failed")
    return answer


# --- replies ---------------------------------------------------------------------------------------------------


def _reply(name: str, ident: str, asked: Asked, answer: Answer) -> dict[str, Any]:
    tokens = getattr(answer, "tokens", None)
    fed = answer.fed
    cut = tokens is not None and len(tokens) >= asked.item.decode
    given = 0 if fed is None else fed.prompt_tokens or 0
    made = len((answer.text or "").split()) if tokens is None else len(tokens)  # words, where tokens are not told
    details = {what: 0 if fed is None else getattr(fed, what) or 0 for what in ("audio_tokens", "video_tokens")} | {
        "cached_tokens": 0
    }
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text, "refusal": None},
        "finish_reason": "length" if cut else "stop",
        "logprobs": None if asked.top is None else {"content": _spelled(tokens or (), asked.top), "refusal": None},
    }
    own = {
        "fed": msgspec.to_builtins(fed),
        "choice_logprobs": answer.logprobs,
        "logprob": answer.logprob,
        "note": asked.note,
    }
    return {
        "id": f"chatcmpl-{ident}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [choice],
        "usage": {
            "prompt_tokens": given,
            "completion_tokens": made,
            "total_tokens": given + made,
            "prompt_tokens_details": details,
        },
        "earwitness": own,
    }


def _spelled(tokens: Any, top: int) -> list[dict[str, Any]]:
    def entry(text: str, logprob: float) -> dict[str, Any]:
        # A part of a character has no text of its own, and its bytes are not told.
        return {"token": text, "logprob": logprob, "bytes": None if "\ufffd" in text else list(text.encode())}

    return [
        {**entry(t.text, t.logprob), "top_logprobs": [entry(*other) for other in t.likeliest[:top]]} for t in tokens
    ]


async def _chunks(reply: dict[str, Any], asked: Asked) -> AsyncIterator[bytes]:
    """The reply as server-sent events: the role, the text, the end; its usage if asked for."""
    head = {key: reply[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    choice = reply["choices"][0]
    text = {"delta": {"content": choice["message"]["content"]}, "logprobs": choice["logprobs"]}
    steps: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}, text, {"delta": {}}]
    for n, step in enumerate(steps):
        reason = choice["finish_reason"] if n == len(steps) - 1 else None
        chunk = {**head, "choices": [{"index": 0, "logprobs": None, "finish_reason": reason, **step}]}
        if reason:
            chunk["earwitness"] = reply["earwitness"]
        if asked.usage:
            chunk["usage"] = None
        yield b"data: " + msgspec.json.encode(chunk) + b"\n\n"
    if asked.usage:
        yield b"data: " + msgspec.json.encode({**head, "choices": [], "usage": reply["usage"]}) + b"\n\n"
    yield b"data: [DONE]\n\n"


# --- errors ----------------------------------------------------------------------------------------------------


def _error(status: int, message: str, param: str | None = None, code: str | None = None) -> JSONResponse:
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}.get(status)
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return JSONResponse(body, status_code=status, headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    reply = _error(error.status, str(error), error.param, error.code)
    ident = request.headers.get("x-request-id")
    if ident is not None and error.param != "X-Request-Id":
        reply.headers["X-Request-Id"] = ident
    return reply


async def _other(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    there = "GET /v1/models, POST /v1/chat/completions, GET /health"
    return _error(error.status_code, f"{request.method} {request.url.path}: {error.detail}; there are {there}")


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody is there to read it


async def _broken(_: Request, error: Exception) -> Response:
    return _error(500, f"the server failed: {type(error).__name__}")


# --- the server ------------------------------------------------------------------------------------------------


def run(made: Starlette, host: str, port: int, ready: Callable[[str], None] | None) -> None:
    """Serve until Ctrl-C; ``ready`` is told the base URL once it listens."""
    listening.run(made, host, port, None if ready is None else lambda url: ready(f"{url}/v1"))


@contextmanager
def running(made: Starlette, host: str, port: int) -> Iterator[str]:
    """Serve in a thread; yields the base URL."""
    with listening.running(made, host, port, name="earwitness-serve") as url:
        yield f"{url}/v1"
