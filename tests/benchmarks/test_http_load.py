"""The client that loads servers, against a server of a few lines."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from benchmarks.engines.hokku_server import MESSAGES
from benchmarks.engines.http_load import replies_to
from benchmarks.engines.job import EngineProblem, Prompt


@contextmanager
def echoing(num_requests: int, most_open: list[int]) -> Iterator[int]:
    """Answers each request with its own bytes in two pieces, once `most_open[0]` are open or no more will come."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            answered = 0
            while answered < num_requests:
                batch = [listener.accept()[0] for _ in range(min(most_open[0], num_requests - answered))]
                for connection in batch:
                    received = connection.recv(1 << 16)
                    connection.sendall(received[:3])
                    connection.sendall(received[3:])
                    connection.close()
                answered += len(batch)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_every_reply_comes_back_whole_and_in_the_order_of_the_requests() -> None:
    requests = [f"request {number}".encode() for number in range(7)]
    # The server waits for three at once: fewer under way would stand still, and accept() limits them to no more.
    with echoing(7, [3]) as port:
        assert replies_to(port, requests, at_a_time=3) == requests


def test_a_request_says_where_how_long_and_what() -> None:
    request = MESSAGES.request(8080, Prompt([1], system="Be brief.", user="Hello"), 5)
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b'"system": "Be brief."' in body
    assert b'"max_tokens": 5' in body


CLASSIFIED = Prompt([1], system="Sort messages.", user="It broke.", labels=("fault", "praise"))


def answered(text: str) -> bytes:
    return b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"content": [{"type": "text", "text": text}]}).encode()


def test_labels_are_asked_for_as_a_document_behind_a_kept_system_prompt() -> None:
    _, _, body = MESSAGES.request(8080, CLASSIFIED, 5).partition(b"\r\n\r\n")
    asked = json.loads(body)
    (block,) = asked["system"]
    assert (block["text"], block["cache_control"]) == ("Sort messages.", {"type": "ephemeral"})
    assert asked["output_config"]["format"]["schema"] == {"type": "string", "enum": ["fault", "praise"]}


def test_an_answer_that_is_none_of_the_labels_is_no_measurement() -> None:
    MESSAGES.check_answer(CLASSIFIED, answered('"fault"'))
    with pytest.raises(EngineProblem, match="'blame' is none of the labels"):
        MESSAGES.check_answer(CLASSIFIED, answered('"blame"'))
    for text in ('"faul', "fault", ""):
        with pytest.raises(EngineProblem, match="gave no label"):
            MESSAGES.check_answer(CLASSIFIED, answered(text))
    MESSAGES.check_answer(Prompt([1]), answered("anything"))


def test_tokens_are_those_of_the_last_count() -> None:
    reply = b'HTTP/1.1 200 OK\r\n\r\n{"output_tokens": 1} {"output_tokens": 32}'
    assert MESSAGES.num_tokens(reply) == 32
    with pytest.raises(EngineProblem):
        MESSAGES.num_tokens(b"HTTP/1.1 529 Overloaded\r\n\r\nbusy")
