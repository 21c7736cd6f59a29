"""Asks an application in this process, without sockets: what is measured is the application's own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message


@dataclass(frozen=True, slots=True)
class Answered:
    """How an application answered."""

    status: int
    num_writes: int  # with bytes in them
    last: bytes  # of these


async def post(
    app: ASGIApp,
    path: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str],
    on_write: Callable[[], None] = lambda: None,
) -> Answered:
    """One request with a JSON body, to its end. The client never leaves."""
    content = json.dumps(body).encode()
    messages: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]
    status, num_writes, last = 0, 0, b""

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        nonlocal status, num_writes, last
        status = message.get("status", status)
        if written := message.get("body"):
            num_writes, last = num_writes + 1, written
            on_write()

    sent = {"content-type": "application/json", "content-length": str(len(content)), **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
    }
    await app(scope, receive, send)
    return Answered(status, num_writes, last)
