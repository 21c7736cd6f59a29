"""Serves the application: one socket, uvicorn on uvloop, the model loading meanwhile, and a clean end at SIGTERM.

The socket is bound before anything slow happens, so that a port in use is said at once; `/readyz` answers 503 until
the model can serve. After SIGTERM `/readyz` answers 503 at once and new requests are refused in their wire's words;
replies under way get the grace period, and those that need longer end with an error event. Only then is the socket
closed. A second signal ends the grace period.
"""

from __future__ import annotations

import errno
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from hokku.http2 import EitherProtocol
from hokku.protocol.errors import AddressInUse, BadSetting
from hokku.service.draining import Drain

_log = logging.getLogger(__name__)

_BACKLOG = 2048
# Clients pool connections; a server that closes idle ones within a minute makes some of their calls fail
# (wire.md section 19.4).
_KEEP_ALIVE_SECS = 75
# After the last reply, for its last bytes and for requests that are no replies.
_LAST_SECS = 5


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


def run(
    app: ASGIApp, listener: socket.socket, grace_secs: float, drain: Drain, prepare: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT, and then until the replies under way have ended, `grace_secs` at most.

    `prepare` runs on a thread beside the server; what it raises is raised here.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=EitherProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,  # `telemetry/logs.py` writes the line of a request
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECS,
        timeout_graceful_shutdown=_LAST_SECS,
    )
    server = _DrainingServer(config, drain, grace_secs)
    preparation = _Preparation(prepare, server)
    with _signals_noted():
        preparation.start()
        server.run(sockets=[listener])
    if preparation.failure is not None:
        raise preparation.failure


class _DrainingServer(uvicorn.Server):
    """Keeps its socket open between the signal and the end of the last reply."""

    def __init__(self, config: uvicorn.Config, drain: Drain, grace_secs: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._grace_secs = grace_secs
        self._drains_until: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal has come: the first begins the grace period, another ends it."""
        self._drain.begin()
        if self._drains_until is None:
            _log.info("ending: %s", signal.Signals(sig).name)
            self._drains_until = monotonic() + self._grace_secs
        else:
            self._drains_until = monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end."""
        if self._drains_until is not None and not self.should_exit:
            if monotonic() >= self._drains_until:
                self._drain.end()
            self.should_exit = self._drain.is_over or self._drain.is_empty
        return await super().on_tick(counter)


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
    """Let a stop signal end the server and nothing else: one that comes when uvicorn has finished would otherwise end
    the process before the engine is closed."""

    def note(number: int, frame: Any) -> None:
        _log.info("already ending: %s", signal.Signals(number).name)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
