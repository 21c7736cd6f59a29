"""HTTP/2 on the port of HTTP/1: requests and replies as ASGI sees them, limits, and clients that misbehave."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import httpx
import pytest
import uvicorn
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import FlowControlError, ProtocolError, TooManyStreamsError
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from hokku.http2 import MOST_RESETS, MOST_STREAMS, PREFACE, EitherProtocol

REQUEST = [(":method", "POST"), (":scheme", "http"), (":authority", "hokku.test")]
OK = {"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]}
MANY_SECS = 30.0


class Application:
    """Answers by path; notes what it saw."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.num_sent = 0
        self.may_go_on = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await getattr(self, scope["path"].split("/")[1])(scope, receive, send)

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What came, as lines of text."""
        body = await _body_of(receive)
        lines = [scope["http_version"], scope["method"], scope["path"], scope["query_string"].decode()]
        lines += [f"{name.decode()}: {value.decode()}" for name, value in scope["headers"]]
        await _reply(send, "\n".join([*lines, "", str(len(body))]).encode())

    async def pieces(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A hundred pieces, with a pause before the second."""
        await _body_of(receive)
        await send(OK)
        for number in range(100):
            await send({"type": "http.response.body", "body": b"%d," % number, "more_body": True})
            if number == 0:
                await self._pause()
        await send({"type": "http.response.body"})

    async def big(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sixteen million bytes, in pieces of ten thousand."""
        await send(OK)
        for _ in range(1600):
            await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            self.num_sent += 10_000
        await send({"type": "http.response.body"})

    async def hasty(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A refusal that does not wait for the body."""
        await send({**OK, "status": 413})
        await send({"type": "http.response.body", "body": b"too large"})

    async def waits(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Nothing, until the client has gone."""
        await _body_of(receive)
        self.seen.append("waits")
        self.seen.append((await receive())["type"])

    async def unread(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An answer once it is told to, with the body left where it is."""
        await self._pause()
        await _reply(send, b"done")

    async def fails(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An error in the application."""
        if scope["path"].endswith("late"):
            await send(OK)
        raise RuntimeError("on purpose")

    async def _pause(self) -> None:
        while not self.may_go_on.is_set():
            await asyncio.sleep(0.01)


async def _body_of(receive: Receive) -> bytes:
    chunks: list[bytes] = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def _reply(send: Send, body: bytes) -> None:
    await send(OK)
    await send({"type": "http.response.body", "body": body})


class Server:
    """A live server for an application."""

    def __init__(self, app: Application, keep_alive_secs: int = 60) -> None:
        self.app = app
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = uvicorn.Config(
            app,
            http=EitherProtocol,
            loop="uvloop",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=keep_alive_secs,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()

    def begin_to_end(self) -> None:
        """As a signal would."""
        self._server.should_exit = True

    def close(self) -> None:
        """Stop, and wait for it."""
        self.app.may_go_on.set()
        self.begin_to_end()
        self._thread.join()


class Client:
    """One connection that does what its test says, and no more: it opens no windows by itself."""

    def __init__(self, server: Server, window: int = 1 << 24) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=MANY_SECS)
        self.h2 = H2Connection(H2Configuration(header_encoding="utf-8", validate_outbound_headers=False))
        self.h2.local_settings.update({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.initiate_connection()
        self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.h2.increment_flow_control_window(1 << 24)
        self.flush()
        self.events: list[Event] = []

    def flush(self) -> None:
        """Send what was written."""
        self.socket.sendall(self.h2.data_to_send())

    def ask(
        self, path: str, *, body: bytes | None = b"", headers: list[tuple[str, str]] | None = None
    ) -> int:
        """Open a stream; with None for the body it stays open."""
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, [*REQUEST, (":path", path), *(headers or [])], end_stream=body == b"")
        if body:
            self.upload(number, body)
            self.h2.end_stream(number)
        self.flush()
        return number

    def upload(self, number: int, body: bytes) -> None:
        """Send a body as fast as the server lets us."""
        while body:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if room <= 0:
                self.flush()
                self.read()
                continue
            self.h2.send_data(number, body[:room])
            body = body[room:]

    def read(self) -> bool:
        """Take what has come; False at the end of the connection."""
        try:
            data = self.socket.recv(65536)
            self.events += self.h2.receive_data(data)
            self.flush()
        except ConnectionError:  # closed with something of ours on its way
            return False
        return bool(data)

    def read_until(self, holds: Callable[[], object]) -> None:
        """Read until something is true; the connection's end is a failure."""
        while not holds():
            assert self.read(), "the server has closed the connection"

    def of(self, kind: type[Event], number: int) -> list[Any]:
        """A stream's events of a kind."""
        return [e for e in self.events if isinstance(e, kind) and getattr(e, "stream_id", None) == number]

    def status(self, number: int) -> str:
        """Of a stream, once there is one."""
        self.read_until(lambda: self.of(ResponseReceived, number))
        status: str = dict(self.of(ResponseReceived, number)[0].headers)[":status"]
        return status

    def reply(self, number: int) -> bytes:
        """A stream's whole reply."""
        self.read_until(lambda: self.of(StreamEnded, number))
        return b"".join(event.data for event in self.of(DataReceived, number))

    def reset_of(self, number: int) -> int:
        """With which code the server reset a stream."""
        self.read_until(lambda: self.of(StreamReset, number))
        return int(self.of(StreamReset, number)[0].error_code)

    def farewell(self) -> int | None:
        """With which code the server ends the connection; None where it did not come through, the connection being
        closed with something of ours unread."""
        while self.read():
            pass
        codes = (int(e.error_code or 0) for e in self.events if isinstance(e, ConnectionTerminated))
        return next(codes, None)

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with closing(Server(Application())) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with closing(Client(server)) as client:
        yield client


@contextmanager
def httpx_client(server: Server, *, http2: bool = True) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, http1=not http2, http2=http2, timeout=MANY_SECS) as client:
        yield client


def eventually(holds: Callable[[], object]) -> None:
    ends_at = time.monotonic() + MANY_SECS
    while not holds():
        assert time.monotonic() < ends_at, "it did not come to pass"
        time.sleep(0.01)


# Requests and replies.


@pytest.mark.parametrize("http2", [True, False])
def test_both_versions_are_served_on_one_port(server: Server, http2: bool) -> None:
    with httpx_client(server, http2=http2) as client:
        for _ in range(2):
            reply = client.put("/echo/a%20b?x=%31&y", content=b"1234", headers={"X-Some": "Thing"})
            version, method, path, query, *headers, _, length = reply.text.split("\n")
            assert (version, method, path, query, length) == (
                "2" if http2 else "1.1", "PUT", "/echo/a b", "x=%31&y", "4",
            )  # fmt: skip
            assert headers[0] == f"host: 127.0.0.1:{server.port}"
            assert "x-some: Thing" in headers
            assert ("connection" in reply.headers) is not http2
            assert "date" in reply.headers


def test_cookies_that_came_apart_are_one_header(client: Client) -> None:
    number = client.ask("/echo", headers=[("cookie", "a=1"), ("host", "hokku.test"), ("cookie", "b=2")])
    lines = client.reply(number).decode().split("\n")
    assert [line for line in lines if line.startswith(("cookie", "host"))] == [
        "host: hokku.test", "cookie: a=1; b=2"
    ]  # fmt: skip


def test_the_preface_may_come_in_pieces(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=MANY_SECS) as connection:
        for place in range(len(PREFACE)):
            connection.sendall(PREFACE[place : place + 1])
            time.sleep(0.002)
        connection.sendall(bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
        assert connection.recv(9)[3] == 4  # SETTINGS


@pytest.mark.parametrize("start", [b"PRI * HTTP/1.1\r\nhost: a\r\n\r\n", b"P" * 30 + b"\r\n\r\n"])
def test_what_only_begins_like_the_preface_is_http_1(server: Server, start: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=MANY_SECS) as connection:
        connection.sendall(start)
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


def test_large_bodies_both_ways(server: Server) -> None:
    with httpx_client(server) as client:
        assert client.post("/echo", content=bytes(20_000_000)).text.endswith("\n20000000")
        assert len(client.get("/big").content) == 16_000_000


def test_a_head_has_no_body(server: Server) -> None:
    with httpx_client(server) as client:
        reply = client.head("/echo")
        assert (reply.status_code, reply.content) == (200, b"")


def test_streams_do_not_wait_for_each_other(server: Server, client: Client) -> None:
    numbers = [client.ask("/pieces") for _ in range(MOST_STREAMS - 1)]
    client.read_until(lambda: all(client.of(DataReceived, number) for number in numbers))
    assert client.reply(client.ask("/echo"))
    server.app.may_go_on.set()
    whole = b"".join(b"%d," % number for number in range(100))
    assert {client.reply(number) for number in numbers} == {whole}


def test_a_client_that_waits_for_leave_is_given_it(client: Client) -> None:
    number = client.ask("/echo", body=None, headers=[("expect", "100-continue")])
    client.read_until(lambda: client.of(InformationalResponseReceived, number))
    client.h2.send_data(number, b"12345", end_stream=True)
    client.flush()
    assert client.reply(number).endswith(b"\n5")


# Ends before their time.


def test_a_client_that_says_farewell_still_gets_its_replies(server: Server, client: Client) -> None:
    number = client.ask("/pieces")
    client.read_until(lambda: client.of(DataReceived, number))
    client.socket.sendall(
        GoAwayFrame(0, last_stream_id=0).serialize()
    )  # as Node's does when a session closes
    server.app.may_go_on.set()
    assert client.reply(number).endswith(b"98,99,")


def test_what_was_written_when_a_client_said_farewell_is_sent(server: Server) -> None:
    server.app.may_go_on.set()
    for _ in range(50):
        with closing(Client(server)) as client:
            number = client.ask("/pieces")
            client.socket.sendall(GoAwayFrame(0, last_stream_id=0).serialize())
            assert client.reply(number).endswith(b"98,99,")


def test_a_client_that_reports_an_error_is_left(server: Server, client: Client) -> None:
    client.ask("/waits")
    eventually(lambda: server.app.seen == ["waits"])
    client.h2.close_connection(ErrorCodes.INTERNAL_ERROR)
    client.flush()
    eventually(lambda: server.app.seen == ["waits", "http.disconnect"])


def test_a_stream_that_is_taken_back_is_heard_of(server: Server, client: Client) -> None:
    number = client.ask("/waits")
    eventually(lambda: server.app.seen == ["waits"])
    client.h2.reset_stream(number, ErrorCodes.CANCEL)
    client.flush()
    eventually(lambda: server.app.seen == ["waits", "http.disconnect"])
    assert client.reply(client.ask("/echo"))


def test_bodies_that_were_taken_back_leave_the_window_open(server: Server, client: Client) -> None:
    for _ in range(12):  # a million bytes each: more than the connection's window
        number = client.ask("/unread", body=None)
        client.upload(number, bytes(1_000_000))
        client.h2.reset_stream(number, ErrorCodes.CANCEL)
        client.flush()
    assert client.reply(client.ask("/echo", body=b"12")).endswith(b"\n2")


def test_a_lost_connection_is_heard_of(server: Server, client: Client) -> None:
    client.ask("/waits")
    eventually(lambda: server.app.seen == ["waits"])
    client.close()
    eventually(lambda: server.app.seen == ["waits", "http.disconnect"])


def test_an_error_of_the_application(client: Client) -> None:
    number = client.ask("/fails")
    assert (client.status(number), client.reply(number)) == ("500", b"Internal Server Error")
    assert client.reset_of(client.ask("/fails/late")) == ErrorCodes.INTERNAL_ERROR
    assert client.reply(client.ask("/echo"))


def test_a_refusal_may_come_before_the_body(client: Client) -> None:
    for _ in range(12):  # a million bytes each: more than the connection's window
        number = client.ask("/hasty", body=None)
        with suppress(ProtocolError):  # the server has closed the stream meanwhile
            client.upload(number, bytes(1_000_000))
        assert (client.status(number), client.reply(number)) == ("413", b"too large")
        assert client.reset_of(number) == ErrorCodes.NO_ERROR
    assert client.reply(client.ask("/echo", body=b"12")).endswith(b"\n2")


@pytest.mark.parametrize("path", ["", "*", "relative", "/é"])
def test_paths_that_are_none(client: Client, path: str) -> None:
    try:
        number = client.ask(path)
        assert client.reset_of(number) == ErrorCodes.PROTOCOL_ERROR
    except AssertionError:
        assert path == ""  # which breaks the protocol, so that the connection ends
        assert client.farewell() == ErrorCodes.PROTOCOL_ERROR


# Limits.


def test_a_body_that_nobody_reads_stops_coming(server: Server, client: Client) -> None:
    number = client.ask("/unread", body=None)
    sent = 0
    with suppress(FlowControlError):
        for _ in range(200):
            client.h2.send_data(number, bytes(16_000))
            client.flush()
            sent += 16_000
            client.socket.settimeout(0.01)
            with suppress(TimeoutError):
                client.read()
    assert 500_000 < sent <= 1 << 20
    client.socket.settimeout(MANY_SECS)
    server.app.may_go_on.set()
    assert client.reply(number) == b"done"


def test_a_reply_that_nobody_reads_is_not_piled_up(server: Server) -> None:
    with closing(Client(server, window=100_000)) as client:
        number = client.ask("/big")
        eventually(lambda: server.app.num_sent == 100_000)
        time.sleep(0.1)
        assert server.app.num_sent == 100_000
        client.h2.increment_flow_control_window(50_000, number)
        client.flush()
        eventually(lambda: server.app.num_sent == 150_000)


def test_a_client_that_does_not_read_at_all_is_not_written_to(server: Server, client: Client) -> None:
    number = client.ask("/big")  # the windows are wide open
    time.sleep(0.3)
    assert server.app.num_sent < 16_000_000
    assert len(client.reply(number)) == 16_000_000


def test_too_many_streams(server: Server, client: Client) -> None:
    for _ in range(MOST_STREAMS):
        client.ask("/waits")
    client.read_until(lambda: client.h2.remote_settings.max_concurrent_streams == MOST_STREAMS)
    with pytest.raises(TooManyStreamsError):
        client.ask("/echo")
    client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
    client.h2.remote_settings.acknowledge()
    client.ask("/echo")
    assert client.farewell() != ErrorCodes.NO_ERROR
    eventually(lambda: server.app.seen.count("http.disconnect") == server.app.seen.count("waits") > 0)


def test_a_flood_of_streams_taken_back(server: Server, client: Client) -> None:
    with suppress(ConnectionError):  # it may come before all are sent
        for _ in range(MOST_RESETS + 1):
            client.h2.reset_stream(client.ask("/waits"), ErrorCodes.CANCEL)
            client.flush()
    assert client.farewell() in (ErrorCodes.ENHANCE_YOUR_CALM, None)
    with httpx_client(server) as other:
        assert other.get("/echo").status_code == 200


def test_headers_have_a_limit(client: Client) -> None:
    client.ask("/echo", headers=[("x-large", "x" * 80_000)])
    assert client.farewell() != ErrorCodes.NO_ERROR


@pytest.fixture(scope="module")
def hardy() -> Iterator[Server]:
    with closing(Server(Application())) as server:
        yield server


FRAMES = st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=60))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FRAMES, max_size=8))
def test_whatever_follows_the_preface_harms_nobody_else(
    hardy: Server, frames: list[tuple[int, int, int, bytes]]
) -> None:
    sent = b"".join(
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
        for kind, flags, stream, payload in frames
    )
    with socket.create_connection(("127.0.0.1", hardy.port), timeout=MANY_SECS) as connection:
        connection.sendall(PREFACE + sent)
        connection.shutdown(socket.SHUT_WR)
        with suppress(ConnectionResetError):
            while connection.recv(65536):
                pass
    with closing(Client(hardy)) as client:
        assert client.reply(client.ask("/echo"))


# The server's end, and idle connections.


def test_a_server_that_ends_finishes_its_replies(server: Server) -> None:
    with closing(Client(server)) as busy, closing(Client(server)) as idle, closing(Client(server)) as mute:
        number = busy.ask("/pieces")
        busy.read_until(lambda: busy.of(DataReceived, number))
        idle.reply(idle.ask("/echo"))
        mute.read()
        server.begin_to_end()
        assert idle.farewell() == ErrorCodes.NO_ERROR
        assert mute.farewell() == ErrorCodes.NO_ERROR
        late = busy.h2.get_next_available_stream_id()
        busy.read_until(lambda: any(isinstance(e, ConnectionTerminated) for e in busy.events))
        server.app.may_go_on.set()
        # `h2` on our side takes the farewell for the end too; what still comes is read without it.
        rest = b""
        while data := busy.socket.recv(65536):
            rest += data
        assert rest.count(b"99,") == 1
        assert late > number


def test_an_idle_connection_is_closed() -> None:
    with closing(Server(Application(), keep_alive_secs=1)) as server, closing(Client(server)) as client:
        assert client.reply(client.ask("/echo"))
        assert client.farewell() == ErrorCodes.NO_ERROR
