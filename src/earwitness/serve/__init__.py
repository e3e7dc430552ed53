"""Any model as an OpenAI-compatible endpoint: one loaded model shared by many tools, and something to test against.

``POST /v1/chat/completions`` with text and media inside the request, ``GET /v1/models``, ``GET /health``. Requests
at the same time become one call of the model, so that it encodes and prefills shared media once. Beside what others
give, a reply says in its field ``earwitness`` what the model was really fed, and scores choices when asked to.

- ``run`` serves until Ctrl-C; ``running`` serves in a thread while a ``with`` block lasts; ``app`` is the
  application, for another ASGI server.
- ``exposed`` says what is open about an address to listen on.

Limits: greedy decoding, one user turn, one clip a request, and no addresses: media come inside the request. Needs
the extra ``earwitness[serve]``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from earwitness.models import Model

if TYPE_CHECKING:
    from starlette.applications import Starlette

KEY = "EARWITNESS_SERVE_KEY"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
BODY = 128 << 20  # bytes of a request, base64 included: minutes of small video, one of large

__all__ = ["app", "exposed", "run", "running"]


def app(
    model: Model,
    *,
    name: str | None = None,
    key: str | None = None,
    guarded: bool = True,
    body: int = BODY,
    waiting: int = 64,
    wait: float = 0.005,
) -> Starlette:
    """The application around a model.

    Parameters
    ----------
    name : what requests call the model; default: its own name.
    key : the API key that requests must carry; default: the environment's EARWITNESS_SERVE_KEY; "" = none.
    guarded : decode media in a process of its own with a memory limit, half a second more for each new clip.
        ``run`` and ``running`` do not where they listen to this machine only: its user's own clips come in there.
    body : bytes of a request at most; more gets 413.
    waiting : requests in work at most; more get 429.
    wait : seconds that a request waits for others, to be answered with them in one call.

    Raises
    ------
    ValueError
        Where the packages of ``earwitness[serve]`` are not installed, or a limit makes no sense.
    """
    if body < 1 or waiting < 1 or not 0 <= wait < 10:
        raise ValueError(
            f"body={body} bytes, waiting={waiting} requests, wait={wait} s: there must be at least 1 byte and "
            "1 request, and a wait of 0 to 10 s (did you pass milliseconds?)"
        )
    made: Starlette = _endpoints().build(
        model, name=name, body=body, waiting=waiting, wait=wait, guarded=guarded, key=key
    )
    return made


def run(
    model: Model,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    ready: Callable[[str], None] | None = None,
    **how: Any,
) -> None:
    """Serve a model until Ctrl-C.

    ``ready`` is called with the base URL (``http://127.0.0.1:8000/v1``) once it listens; ``how`` are the options of
    :func:`app`. Raises ValueError where it cannot listen there.
    """
    _endpoints().run(app(model, **{"guarded": host not in LOOPBACK, **how}), host, port, ready)


def running(model: Model, host: str = "127.0.0.1", port: int = 0, **how: Any) -> AbstractContextManager[str]:
    """Serve a model in a thread while a ``with`` block lasts; yields the base URL, on a free port by default."""
    how = {"guarded": host not in LOOPBACK, **how}
    made: AbstractContextManager[str] = _endpoints().running(app(model, **how), host, port)
    return made


def exposed(host: str, key: str | None = None) -> str | None:
    """What a person should know before listening on ``host``; None where only this machine gets in."""
    if host in LOOPBACK:
        return None
    if os.environ.get(KEY) if key is None else key:
        return f"{host} is open to the network, and the key travels unencrypted: put a TLS proxy in front of it"
    return f"{host} is open to the network and asks for no key: anyone who reaches it can use it (set {KEY})"


def _endpoints() -> Any:
    try:
        return importlib.import_module("earwitness.serve.endpoints")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("starlette", "uvicorn", "anyio"):
            raise
        raise ValueError(f"serving a model needs {error.name}: pip install 'earwitness[serve]'") from error
