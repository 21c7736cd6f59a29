"""A real uvicorn server on a free port, in a thread, for tests that need sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from hokku.http2 import EitherProtocol


@contextmanager
def live_server(app: ASGIApp) -> Iterator[str]:
    """Serve `app` until the block ends; gives the base URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    # A connection that is closed while a client takes it up again, on a busy machine, would be that test's failure.
    config = uvicorn.Config(
        app,
        http=EitherProtocol,
        log_level="warning",
        timeout_graceful_shutdown=2,
        timeout_keep_alive=75,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="live-server")
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
