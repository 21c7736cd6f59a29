"""Serves the application: one socket, uvicorn on uvloop, the model loading meanwhile, and a clean end at SIGTERM.

The socket is bound before anything slow happens, so that a port in use is said at once; `/readyz` answers 503 until
the model can serve. After SIGTERM no connection is accepted, streams under way get the grace period, and what is
still running then is cancelled.
"""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from hokku.protocol.errors import AddressInUse, BadSetting
from hokku.settings import Settings

_BACKLOG = 2048
# Clients pool connections; a server that closes idle ones within a minute makes some of their calls fail
# (wire.md section 19.4).
_KEEP_ALIVE_SECS = 75


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `AddressInUse`, or `BadSetting` for an address that is not this machine's."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as cause:
        if cause.errno == errno.EADDRINUSE:
            way_out = "stop the other program, or choose another with --port"
            raise AddressInUse(
                "another program listens there", place=f"{host}:{port}", way_out=way_out
            ) from cause
        place = "port" if cause.errno == errno.EACCES else "host"
        raise BadSetting(f"cannot listen on {host}:{port}: {cause.strerror}", place=place) from cause


def address(listener: socket.socket) -> str:
    """The URL of a listening socket, for somebody on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{host}:{port}"


def run(app: ASGIApp, listener: socket.socket, settings: Settings, prepare: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT. `prepare` runs on a thread beside the server; what it raises is raised here."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.log_level in ("debug", "info"),
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECS,
        timeout_graceful_shutdown=settings.grace_secs,
    )
    server = uvicorn.Server(config)
    preparation = _Preparation(prepare, server)
    with _signals_noted():
        preparation.start()
        server.run(sockets=[listener])
    if preparation.failure is not None:
        raise preparation.failure


class _Preparation(threading.Thread):
    """Runs `prepare`; when it fails, keeps the error and ends the server."""

    def __init__(self, prepare: Callable[[], None], server: uvicorn.Server) -> None:
        super().__init__(name="hokku-load", daemon=True)  # a stop during a long load need not wait for it
        self.failure: BaseException | None = None
        self._prepare = prepare
        self._server = server

    def run(self) -> None:
        try:
            self._prepare()
        except BaseException as failure:
            self.failure = failure
            self._server.should_exit = True


@contextmanager
def _signals_noted() -> Iterator[None]:
    """Let a stop signal end the server and nothing else.

    uvicorn raises each signal it caught once more when it has finished; with the system's own handler that would
    end the process before the engine is closed.
    """

    def note(number: int, frame: Any) -> None:
        logging.getLogger(__name__).info("stopped by %s", signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
