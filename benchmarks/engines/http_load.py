"""Asks a server over HTTP, many requests at once, at little cost to the machine that both share.

One thread, one selector, one connection a request, read to its end: on two cores a heavier client would take from
the server what is to be measured.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import selectors
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.engines.job import EngineProblem, Job, Prompt, Timing, one_line

_READY_SECS = 600.0  # a first start packs the weights
_POLL_SECS = 0.005
_SILENCE_SECS = 600.0
_END_SECS = 15
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a server wants to be asked."""

    path: str
    ready_path: str  # answers 200 once the model can serve
    body: Callable[[Prompt, int], bytes]  # prompt, most new tokens
    counts_pattern: bytes  # its last match in a reply is the number of generated tokens
    answer: Callable[[bytes], str]  # the label that the body of a reply gives
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self, port: int, prompt: Prompt, max_new_tokens: int) -> bytes:
        """The whole request as it goes over the wire."""
        body = self.body(prompt, max_new_tokens)
        head = {
            "Host": f"127.0.0.1:{port}",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Connection": "close",
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    def num_tokens(self, reply: bytes) -> int:
        """Generated tokens of a whole reply. Raises `EngineProblem` when it is no success."""
        counts = re.findall(self.counts_pattern, reply)
        if not reply.startswith(b"HTTP/1.1 200") or not counts:
            raise EngineProblem(f"it answered {one_line(reply.decode(errors='replace'))}")
        return int(counts[-1])

    def check_answer(self, prompt: Prompt, reply: bytes) -> None:
        """Raises `EngineProblem` for a reply to a prompt with labels that is none of them."""
        self.check_label(prompt, reply.partition(b"\r\n\r\n")[2])

    def check_label(self, prompt: Prompt, body: bytes) -> None:
        """`check_answer` for the body of a reply alone."""
        if not prompt.labels:
            return
        try:
            answer = self.answer(body)
        except (ValueError, LookupError, TypeError) as problem:
            raise EngineProblem(f"it gave no label: {one_line(body.decode(errors='replace'))}") from problem
        if answer not in prompt.labels:
            raise EngineProblem(f"{answer!r} is none of the labels")


def replies_to(port: int, requests: Sequence[bytes], at_a_time: int) -> list[bytes]:
    """Send every request, `at_a_time` under way at once, and read every reply to its end.

    Raises:
        EngineProblem: the server hung up on a request, or said nothing for ten minutes.
    """
    waiting = list(enumerate(requests))[::-1]
    replies = [bytearray() for _ in requests]
    with selectors.DefaultSelector() as selector:
        while waiting or selector.get_map():
            while waiting and len(selector.get_map()) < at_a_time:
                number, request = waiting.pop()
                connection = socket.create_connection(("127.0.0.1", port))
                connection.sendall(request)
                selector.register(connection, selectors.EVENT_READ, replies[number])
            ready = selector.select(_SILENCE_SECS)
            if not ready:
                raise EngineProblem("the server has stopped answering")
            for key, _ in ready:
                _read(selector, key)
    return [bytes(reply) for reply in replies]


def _read(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
    connection = key.fileobj
    assert isinstance(connection, socket.socket)
    try:
        piece = connection.recv(_CHUNK_BYTES)
    except OSError as problem:
        raise EngineProblem(f"the server hung up: {problem}") from problem
    key.data.extend(piece)
    if not piece:
        selector.unregister(connection)
        connection.close()


class HttpSession:
    """A server process and its model. Construction returns when the server says that it is ready."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], port: int, dialect: Dialect, log: Path
    ) -> None:
        self._port = port
        self._dialect = dialect
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command), stdout=output, stderr=output, env=os.environ | dict(environ)
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int | None:
        """The server's process."""
        return self._process.pid

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def run(self, job: Job) -> Timing:
        """See `Session.run`; timed by the client, from the first connection to the end of the last reply."""
        requests = [self._dialect.request(self._port, prompt, job.max_new_tokens) for prompt in job.prompts]
        began = time.perf_counter()
        try:
            replies = replies_to(self._port, requests, job.concurrency)
        except OSError as problem:
            raise EngineProblem(f"{problem}; {self._said()}") from problem
        secs = time.perf_counter() - began
        num_tokens = sum(map(self._dialect.num_tokens, replies))
        for prompt, reply in zip(job.prompts, replies, strict=True):
            self._dialect.check_answer(prompt, reply)
        return Timing(secs, num_tokens)

    def close(self) -> None:
        """See `Session.close`."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise EngineProblem(
                    f"the server ended with status {self._process.returncode}: {self._said()}"
                )
            if self._is_ready():
                return
            time.sleep(_POLL_SECS)
        raise EngineProblem("the server did not become ready")

    def _is_ready(self) -> bool:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)) as connection:
            try:
                connection.request("GET", self._dialect.ready_path)
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False  # not listening yet

    def _said(self) -> str:
        return one_line(self._log.read_text("utf-8", errors="replace"))


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
