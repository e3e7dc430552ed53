"""A socket, a server on it, and its address: for every server of ours (models, the review page).

Functions: ``listening``, ``address``, ``run`` (until Ctrl-C), ``running`` (in a thread).
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import uvicorn
from starlette.applications import Starlette

Lifespan = Literal["on", "off"]


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. ValueError where that is not possible."""
    if not 0 <= port < 65536:
        raise ValueError(f"there is no port {port}: 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}:{port}: {error} (another server there? another --port?)"
        ) from error
    # asyncio sets this only on sockets that it makes itself; without it each reply waits 40 ms for a receipt.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def address(at: socket.socket, host: str) -> str:
    """The URL of what listens there, without a path."""
    return f"http://{f'[{host}]' if ':' in host else host}:{at.getsockname()[1]}"


def _server(made: Starlette, lifespan: Lifespan, grace: int) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            made, log_config=None, access_log=False, ws="none", lifespan=lifespan, server_header=False,
            proxy_headers=False, timeout_graceful_shutdown=grace,
        )
    )  # fmt: skip


def run(
    made: Starlette, host: str, port: int, ready: Callable[[str], None] | None, *,
    lifespan: Lifespan = "on", grace: int = 5,
) -> None:  # fmt: skip
    """Serve until Ctrl-C; ``ready`` is told the address once it listens. ``grace``: seconds left to answers."""
    with listening(host, port) as at:
        if ready is not None:
            ready(address(at, host))
        try:
            _server(made, lifespan, grace).run(sockets=[at])
        except KeyboardInterrupt:
            return  # uvicorn has closed everything, then passes the signal on


@contextmanager
def running(
    made: Starlette, host: str, port: int, *, name: str, lifespan: Lifespan = "on", grace: int = 5
) -> Iterator[str]:
    """Serve in a thread called ``name``; yields the address."""
    with listening(host, port) as at:
        server = _server(made, lifespan, grace)
        thread = threading.Thread(target=server.run, args=([at],), name=name, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        if not server.started:
            raise RuntimeError("the server did not start")
        try:
            yield address(at, host)
        finally:
            server.should_exit = True
            thread.join()
