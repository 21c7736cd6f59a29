"""HTTP/2 without TLS, on the port that speaks HTTP/1.

AWS's SDK for JavaScript speaks it to Bedrock's runtime wherever the endpoint is. A client that knows before it asks
(RFC 9113, section 3.3) opens with a preface that no HTTP/1 request can be; by that a connection is told apart, and any
other is uvicorn's own from its first bytes on. The protocol itself is `h2`'s. Here it meets ASGI: every request is a
task that runs the application, reads its body as fast as the application takes it, and writes as fast as the client
lets it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error, StreamClosedError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import Frame, GoAwayFrame
from starlette.types import ASGIApp, Message, Scope
from uvicorn import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_local_addr, get_remote_addr
from uvicorn.server import ServerState

_log = logging.getLogger(__name__)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST_STREAMS = 100  # of one connection at once
# Streams that are opened and taken back cost a server more than a client; no client has reason for so many
# (CVE-2023-44487).
MOST_RESETS, _RESETS_SECS = 200, 10.0
_MOST_HEADER_BYTES = 65_536
# Of bodies that nobody has read yet: of one request, and of a connection's all.
_STREAM_WINDOW, _CONNECTION_WINDOW = 1 << 20, 8 << 20
_DEFAULT_WINDOW = 65_535  # RFC 9113, section 6.9.2
_SETTINGS = {
    SettingCodes.MAX_CONCURRENT_STREAMS: MOST_STREAMS,
    SettingCodes.MAX_HEADER_LIST_SIZE: _MOST_HEADER_BYTES,
    SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
}
_OF_HTTP_1 = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})

Headers = list[tuple[bytes, bytes]]


class EitherProtocol(asyncio.Protocol):
    """Reads as much of a connection as tells which HTTP it speaks, and hands it over. For uvicorn's `http`."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._given = config, server_state, app_state
        self._connections = cast(set[Any], server_state.connections)
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._head += data
        if len(self._head) < len(PREFACE) and PREFACE.startswith(self._head):
            return
        kind = Http2Protocol if self._head.startswith(PREFACE) else HttpToolsProtocol
        protocol = kind(*self._given)
        self._connections.discard(self)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._head)

    def shutdown(self) -> None:
        """The server ends."""
        self._transport.close()


class Http2Protocol(asyncio.Protocol):
    """One connection with its streams."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        self._app = cast(ASGIApp, config.loaded_app)
        self._server_state, self._app_state = server_state, app_state
        self._connections = cast(set[Any], server_state.connections)
        self._root_path = config.root_path
        self._keep_alive_secs = config.timeout_keep_alive
        self._loop = asyncio.get_running_loop()
        self.h2 = _Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.local_settings = Settings(client=False, initial_values=_SETTINGS)
        self._streams: dict[int, _Stream] = {}
        self._last_number = 0
        self._is_ending = False
        self._flush_is_due, self._num_unsent = False, 0
        self._idle: asyncio.TimerHandle | None = None
        self._num_resets, self._resets_since = 0, 0.0

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._flow = FlowControl(self._transport)
        self._connections.add(self)
        self._addresses = get_local_addr(self._transport), get_remote_addr(self._transport)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(_CONNECTION_WINDOW - _DEFAULT_WINDOW)
        self._flush()
        self._watch_idleness()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._connections.discard(self)
        self._flow.resume_writing()
        if self._idle is not None:
            self._idle.cancel()
        self._lose_streams()

    def pause_writing(self) -> None:
        """The client does not read: what it asks for meanwhile is not read either, or answers would pile up."""
        self._flow.pause_writing()
        self._flow.pause_reading()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._flow.resume_writing()
        self._flow.resume_reading()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        try:
            events = self.h2.receive_data(data)
        except H2Error as error:  # `h2` has written the GOAWAY that says why
            _log.debug("an HTTP/2 connection broke the protocol: %s", error)
            self._close()
            return
        for event in events:
            if self._transport.is_closing():
                return
            self._take(event)
        self.flush_soon()
        self._watch_idleness()

    def shutdown(self) -> None:
        """The server ends: no new requests, and replies under way to their end."""
        self._is_ending = True
        self._flush()
        # `h2` can say GOAWAY only as its last word (RFC 9113, section 6.8, lets streams go on).
        self._transport.write(GoAwayFrame(0, last_stream_id=self._last_number).serialize())
        if not self._streams:
            self._transport.close()

    # What streams call.

    def flush_soon(self) -> None:
        """Send what is written by the end of this turn of the loop, in one piece."""
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    async def drained(self) -> None:
        """Wait while the client reads less than is written."""
        if self._num_unsent > HIGH_WATER_LIMIT:
            self._flush()
            await asyncio.sleep(0)  # a transport may say only at the end of a turn that it has enough
        if self._flow.write_paused:
            await self._flow.drain()

    def write(self, number: int, data: bytes) -> None:
        """Send a part of a reply that the windows have room for."""
        self.h2.send_data(number, data)
        self._num_unsent += len(data)
        self.flush_soon()

    def default_headers(self) -> Headers:
        """Headers of every reply."""
        return self._server_state.default_headers

    def forget(self, number: int) -> None:
        """A stream's task has ended."""
        self._streams.pop(number, None)
        self._server_state.total_requests += 1
        self.flush_soon()
        if self._is_ending and not self._streams:
            self._loop.call_soon(self._transport.close)  # after the flush
        self._watch_idleness()

    # Events.

    def _take(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event.stream_id, [(bytes(name), bytes(value)) for name, value in event.headers])
            case DataReceived():
                stream = self._streams.get(event.stream_id)
                if stream is None:  # answered before it was read to its end
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                else:
                    stream.feed(event.data, event.flow_controlled_length)
            case StreamEnded():
                if (stream := self._streams.get(event.stream_id)) is not None:
                    stream.end_of_request()
            case StreamReset():
                self._count_reset()
                if (stream := self._streams.get(event.stream_id)) is not None:
                    stream.lose()
            case WindowUpdated() | RemoteSettingsChanged():
                for stream in self._streams.values():
                    stream.window_opened.set()
            case ConnectionTerminated():
                self._close()

    def _begin(self, number: int, headers: Headers) -> None:
        self._last_number = number
        scope = None if self._is_ending else self._scope(headers)
        if scope is None:
            code = ErrorCodes.REFUSED_STREAM if self._is_ending else ErrorCodes.PROTOCOL_ERROR
            with suppress(StreamClosedError):  # the client has reset it too
                self.h2.reset_stream(number, code)
            return
        stream = self._streams[number] = _Stream(self, number, scope)
        task = self._loop.create_task(stream.run(self._app))
        tasks = self._server_state.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _scope(self, headers: Headers) -> Scope | None:
        """The request as ASGI tells it; None for one that has no path of the usual form."""
        pseudo = {name: value for name, value in headers if name.startswith(b":")}
        method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
        if not (method.isascii() and target.isascii() and target.startswith(b"/")):
            return None
        raw_path, _, query = target.partition(b"?")
        root = self._root_path
        server, client = self._addresses
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "2",
            "server": server,
            "client": client,
            "scheme": "http",
            "method": method.decode("ascii"),
            "root_path": root,
            "path": root + unquote(raw_path.decode("ascii")),
            "raw_path": root.encode() + raw_path,
            "query_string": query,
            "headers": _plain_headers(headers, pseudo.get(b":authority")),
            "state": self._app_state.copy(),
        }

    def _count_reset(self) -> None:
        now = self._loop.time()
        if now - self._resets_since > _RESETS_SECS:
            self._num_resets, self._resets_since = 0, now
        self._num_resets += 1
        if self._num_resets > MOST_RESETS and not self._transport.is_closing():
            self.h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            self._close()

    # The connection's end.

    def _close(self) -> None:
        self._lose_streams()
        self._flush()
        self._transport.close()

    def _lose_streams(self) -> None:
        for stream in self._streams.values():
            stream.lose()

    def _flush(self) -> None:
        self._flush_is_due, self._num_unsent = False, 0
        data = self.h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def _watch_idleness(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._streams and not self._transport.is_closing():
            self._idle = self._loop.call_later(self._keep_alive_secs, self.shutdown)


class _Connection(H2Connection):
    """`h2`'s, but for a client's farewell, after which replies under way are still wanted (RFC 9113, section 6.8)."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        if frame.error_code == ErrorCodes.NO_ERROR:
            return [], []  # the client closes when it has read what it wants
        return super()._receive_goaway_frame(frame)


class _Stream:
    """One request and its reply."""

    def __init__(self, connection: Http2Protocol, number: int, scope: Scope) -> None:
        self._connection, self._h2 = connection, connection.h2
        self._number, self._scope = number, scope
        self._waits_for_leave = (b"expect", b"100-continue") in scope["headers"]
        self._chunks: deque[tuple[bytes, int]] = deque()  # of the body, with what each takes of the windows
        self._request_has_ended = self._request_is_read = False
        self._reply_has_begun = self._reply_has_ended = False
        self._is_lost = False
        self._news = asyncio.Event()  # for `receive`
        self.window_opened = asyncio.Event()

    # What the connection tells it.

    def feed(self, data: bytes, window_bytes: int) -> None:
        """Some of the body."""
        self._chunks.append((data, window_bytes))
        self._news.set()

    def end_of_request(self) -> None:
        """The body is whole."""
        self._request_has_ended = True
        self._news.set()

    def lose(self) -> None:
        """Nobody waits for the reply any more."""
        self._is_lost = True
        self._read()  # what is not wanted any more is not to keep the connection's window
        self._news.set()
        self.window_opened.set()

    # What the application does.

    async def run(self, app: ASGIApp) -> None:
        """Answer the request."""
        try:
            await app(self._scope, self._receive, self._send)
        except Exception:
            _log.exception("the application failed")
            await self._fail()
        finally:
            try:
                self._finish()
            finally:
                self._connection.forget(self._number)

    async def _receive(self) -> Message:
        if self._waits_for_leave and not self._reply_has_begun and not self._is_lost:
            self._waits_for_leave = False
            self._h2.send_headers(self._number, [(b":status", b"100")])
            self._connection.flush_soon()
        while not (self._is_lost or self._reply_has_ended):
            if self._chunks or (self._request_has_ended and not self._request_is_read):
                self._request_is_read = self._request_has_ended
                return {
                    "type": "http.request",
                    "body": self._read(),
                    "more_body": not self._request_has_ended,
                }
            self._news.clear()
            await self._news.wait()
        return {"type": "http.disconnect"}

    def _read(self) -> bytes:
        body = b"".join(data for data, _ in self._chunks)
        taken = sum(window_bytes for _, window_bytes in self._chunks)
        self._chunks.clear()
        if taken:
            self._h2.acknowledge_received_data(taken, self._number)
            self._connection.flush_soon()
        return body

    async def _send(self, message: Message) -> None:
        if self._is_lost:
            return
        if not self._reply_has_begun:
            self._begin_reply(message["status"], message.get("headers", ()))
            return
        await self._write(b"" if self._scope["method"] == "HEAD" else message.get("body", b""))
        if not message.get("more_body", False) and not self._is_lost:
            self._reply_has_ended = True
            self._h2.end_stream(self._number)
            self._news.set()
            self._connection.flush_soon()

    def _begin_reply(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._reply_has_begun = True
        named = [(name.lower(), value) for name, value in [*self._connection.default_headers(), *headers]]
        self._h2.send_headers(
            self._number,
            [(b":status", b"%d" % status), *((n, v) for n, v in named if n not in _OF_HTTP_1)],
        )
        self._connection.flush_soon()

    async def _write(self, body: bytes) -> None:
        """Send a part of the reply, as fast as the client lets us."""
        sent = 0
        while sent < len(body):
            await self._connection.drained()
            if self._is_lost:
                return
            room = min(self._h2.local_flow_control_window(self._number), self._h2.max_outbound_frame_size)
            if room <= 0:
                self.window_opened.clear()
                await self.window_opened.wait()
                continue
            self._connection.write(self._number, bytes(body[sent : sent + room]))
            sent += room

    async def _fail(self) -> None:
        if not self._reply_has_begun and not self._is_lost:
            self._begin_reply(500, [(b"content-type", b"text/plain; charset=utf-8")])
            await self._send({"type": "http.response.body", "body": b"Internal Server Error"})

    def _finish(self) -> None:
        if self._is_lost:
            return
        self._read()  # likewise
        if not self._reply_has_ended:
            self._h2.reset_stream(self._number, ErrorCodes.INTERNAL_ERROR)
        elif not self._request_has_ended:  # answered; the rest of the body need not come (section 8.1)
            self._h2.reset_stream(self._number, ErrorCodes.NO_ERROR)


def _plain_headers(headers: Headers, authority: bytes | None) -> Headers:
    """Headers as HTTP/1 has them: a host, one cookie, nothing that begins with a colon."""
    plain = [(name, value) for name, value in headers if not name.startswith(b":") and name != b"cookie"]
    if authority is not None:
        plain = [(b"host", authority), *((name, value) for name, value in plain if name != b"host")]
    if cookies := [value for name, value in headers if name == b"cookie"]:
        plain.append((b"cookie", b"; ".join(cookies)))
    return plain
