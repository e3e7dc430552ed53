"""The pages of a review over HTTP: addresses, who may ask what, and the server itself.

| address | what | who |
|---|---|---|
| ``/``, ``/a/NAME`` | the page | anyone |
| ``/api/review`` | how many clips, which criteria | anyone |
| ``POST /api/names`` | take a name; gives its key | anyone, for a name that nobody has |
| ``/api/a/NAME``, ``.../clips/PLACE`` | that annotator's own way, clips and votes | who has the key |
| ``POST /api/a/NAME/votes`` | a vote, once it is on the disk | who has the key |
| ``/media/...`` | facts, frames, wave, spectrogram, file of a clip | anyone; they say nothing of votes |

Who serves on this machine serves every web page that its browser opens, too. So: a ``Host`` that is not this
machine is refused (DNS rebinding), as is what another site's page sends or embeds (``Origin``, ``Sec-Fetch-Site``);
a vote needs JSON and the key in a header, which no form can send; and no page may run or load what is not this
server's."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractContextManager
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route

from earwitness.curate.review import Desk
from earwitness.curate.review.deciding import EPS_HEARD, EPS_SEEN
from earwitness.curate.review.votes import CRITERIA, ReviewError, Vote, spelled
from earwitness.serve import LOOPBACK, listening

BODY = 64 << 10  # bytes of a vote at most
KEY = "x-review-key"
SCRIPTS = ("page.js", "door.js", "lanes.js", "outbox.js", "player.js")
STATIC = {"page.css": "text/css; charset=utf-8"} | dict.fromkeys(SCRIPTS, "text/javascript; charset=utf-8")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
FOREVER = "private, max-age=31536000, immutable"  # the address changes with the content
# What a criterion asks, in MMA-Bench's words (arXiv 2511.22826, manual inspection), shortened.
ASKS = {
    "object_visibility": "The thing that sounds is what the picture is about, and is in view.",
    "audio_purity": "Its sound is the main thing heard; no loud music, no speech that can be understood.",
    "action_dynamics": "One sees it do what makes the sound: no still, no slide show.",
}

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]


class Refusal(Exception):
    """What a request gets instead of an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def app(desk: Desk, host: str = "127.0.0.1") -> Starlette:
    """The application around an open review; ``host`` is the address it will listen on."""
    made = Starlette(
        routes=[
            Route("/", _page),
            Route("/a/{name}", _page),
            Route("/static/{name}", _static),
            Route("/api/review", _review),
            Route("/api/names", _claim, methods=["POST"]),
            Route("/api/a/{name}", _way),
            Route("/api/a/{name}/clips/{place:int}", _clip),
            Route("/api/a/{name}/votes", _vote, methods=["POST"]),
            Route("/media/{number:int}/facts", _facts),
            Route("/media/{number:int}/{key}/{file}", _file),
        ],
        exception_handlers={
            Refusal: _refused, ReviewError: _wrong, HTTPException: _other, OSError: _full, Exception: _broken,
        },
    )  # fmt: skip
    made.state.desk = desk
    pages = resources.files("earwitness.curate.review")
    made.state.page = (pages / "page.html").read_bytes()
    made.state.static = {name: (pages / name).read_bytes() for name in STATIC}
    made.add_middleware(_Door, host=host)
    return made


class _Door:
    """Lets in what comes from this server's own pages and from programs, and nothing that other sites send."""

    def __init__(self, app: App, host: str) -> None:
        self.app, self.host = app, host

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if (why := self._shut(scope, headers)) is not None:
            await PlainTextResponse(why, 403)(scope, receive, send)
            return

        async def sealed(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        await self.app(scope, receive, sealed)

    def _shut(self, scope: Scope, headers: dict[str, str]) -> str | None:
        name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if not self._ours(name):
            return f"refused: the address {name!r} is not this server's (open it as http://localhost:PORT)"
        page = scope["path"] == "/" or scope["path"].startswith("/a/")
        if not page and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "refused: asked for by another site's page"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return "refused: sent by another site's page"
        return None

    def _ours(self, name: str) -> bool:
        """A name that no DNS of another's can point here: this machine's own, or a bare address."""
        if name in ("localhost", self.host):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self.host not in LOOPBACK


# --- pages and what they are told ------------------------------------------------------------------------------


async def _page(request: Request) -> Response:
    return Response(
        request.app.state.page, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-cache"}
    )


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in STATIC:
        raise Refusal(404, "no such file")
    return Response(request.app.state.static[name], media_type=STATIC[name], headers={"Cache-Control": "no-cache"})


async def _review(request: Request) -> Response:
    desk: Desk = request.app.state.desk
    return _json(
        {
            "review": desk.identity.review,
            "manifest": desk.queue.manifest.name,
            "clips": len(desk.queue.cases),
            "criteria": [{"name": name, "title": name.replace("_", " "), "asks": ASKS[name]} for name in CRITERIA],
            "eps": {"seen": EPS_SEEN, "heard": EPS_HEARD},
        }
    )


async def _claim(request: Request) -> Response:
    given = _decoded(await _body(request), dict[str, Any])
    desk: Desk = request.app.state.desk
    name = spelled(str(given.get("name", "")))
    try:
        key = await run_in_threadpool(desk.votes.claim, name)
    except KeyError:
        raise Refusal(
            409, f"The name {name} is taken by another browser. If it is yours, open your own link: whoever runs "
            "this review sees it in the terminal."
        ) from None  # fmt: skip
    return _json({"name": name, "key": key})


async def _way(request: Request) -> Response:
    desk, name = _annotator(request)
    place = await run_in_threadpool(desk.place, name)
    states = place.states.decode()
    return _json({"name": name, "clips": len(states), "done": place.done, "states": states})


async def _clip(request: Request) -> Response:
    desk, name = _annotator(request)
    way = await run_in_threadpool(desk.place, name)
    at = request.path_params["place"]
    if at >= len(way.order):
        raise Refusal(404, f"no clip at place {at}: there are {len(way.order)}")
    number = way.order[at]
    case = desk.queue.cases[number]
    return _json(
        {
            "place": at,
            "number": number,
            "clip": case.clip.id,
            "about": case.about,
            "why": case.why,
            "seen": case.clip.seen,
            "heard": case.clip.heard,
            "events": case.clip.events,
            "vote": desk.mine(name, case),
        }
    )


async def _vote(request: Request) -> Response:
    desk, name = _annotator(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "send a vote as Content-Type: application/json")
    vote = _decoded(await _body(request), Vote)
    vote = msgspec.structs.replace(vote, at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    new = await run_in_threadpool(desk.take, name, vote)
    return _json({"saved": vote.id, "new": new, "done": desk.place(name).done})


# --- media -----------------------------------------------------------------------------------------------------


async def _facts(request: Request) -> Response:
    desk, number = _case(request)
    return _json(await run_in_threadpool(desk.studio.facts, desk.queue.cases[number].clip))


async def _file(request: Request) -> Response:
    desk, number = _case(request)
    key, name = request.path_params["key"], request.path_params["file"]
    headers = {"Cache-Control": FOREVER}
    if name != "play":
        path = desk.studio.stored(key, name)
        if path is None:
            raise Refusal(404, "no such file")
        return FileResponse(path, headers=headers)
    clip = desk.queue.cases[number].clip
    facts = await run_in_threadpool(desk.studio.facts, clip)
    if facts.error is not None or facts.key != key:
        raise Refusal(404, facts.error or "the clip's file was changed since: load the page again")
    # Only what was just decoded as a clip is ever sent, whatever paths the manifest names.
    path = desk.studio.stored(key, facts.play) if facts.play else desk.queue.path(clip)
    assert path is not None
    return FileResponse(path, media_type=facts.kind, headers=headers)


# --- what requests carry ---------------------------------------------------------------------------------------


def _annotator(request: Request) -> tuple[Desk, str]:
    """Whose address it is, if the request has that annotator's key."""
    desk: Desk = request.app.state.desk
    name = request.path_params["name"]
    if not desk.votes.holds(name, request.headers.get(KEY, "")):
        raise Refusal(403, f"not the key of {name!r}: an annotator's answers are shown to that annotator only")
    return desk, name


def _case(request: Request) -> tuple[Desk, int]:
    desk: Desk = request.app.state.desk
    number = request.path_params["number"]
    if number >= len(desk.queue.cases):
        raise Refusal(404, f"no clip {number}")
    return desk, number


async def _body(request: Request) -> bytes:
    chunks: list[bytes] = []
    async for chunk in request.stream():
        chunks.append(chunk)
        if sum(map(len, chunks)) > BODY:
            raise Refusal(413, f"more than {BODY >> 10} kB")
    return b"".join(chunks)


def _decoded(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refusal(400, f"not what is wanted here: {error}") from None


def _json(value: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value), status, media_type="application/json", headers={"Cache-Control": "no-store"}
    )


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _json({"error": str(error)}, error.status)


async def _wrong(_: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 400)


async def _other(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json({"error": f"{request.method} {request.url.path}: {error.detail}"}, error.status_code)


async def _full(_: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    return _json({"error": f"not saved: {error.strerror or error} (is the disk full?)"}, 507)


async def _broken(_: Request, error: Exception) -> Response:
    return _json({"error": f"the server failed: {type(error).__name__}"}, 500)


# --- the server ------------------------------------------------------------------------------------------------


def run(desk: Desk, host: str, port: int, ready: Callable[[str], None] | None) -> None:
    """Serve until Ctrl-C; see ``review.serve``."""
    listening.run(app(desk, host), host, port, ready, lifespan="off", grace=2)


def running(desk: Desk, host: str, port: int) -> AbstractContextManager[str]:
    """Serve in a thread; see ``review.running``."""
    return listening.running(app(desk, host), host, port, name="earwitness-review", lifespan="off", grace=2)
