"""Hokku's Message Batches: a job is one batch, handed in over HTTP and waited for."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.engines.hokku_server import MESSAGES
from benchmarks.engines.http_load import HttpSession
from benchmarks.engines.job import EngineProblem, Job, Prompt, Timing, one_line

_BATCHES = "/v1/messages/batches"
_HEADERS = {"Content-Type": "application/json", **MESSAGES.headers}
_POLL_SECS = 0.2
_CALL_SECS = 120.0


def batch_request(number: int, prompt: Prompt, max_new_tokens: int) -> bytes:
    """One request of a batch, called by its number."""
    return b'{"custom_id":"%d","params":%b}' % (number, MESSAGES.body(prompt, max_new_tokens))


def batch_body(prompts: Sequence[Prompt], max_new_tokens: int) -> bytes:
    """A batch of these prompts."""
    requests = (batch_request(number, prompt, max_new_tokens) for number, prompt in enumerate(prompts))
    return b'{"requests":[%b]}' % b",".join(requests)


class BatchClient:
    """Batches of one server on this machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    def create(self, body: bytes) -> str:
        """Hand a batch in; its id."""
        batch_id: str = self._call("POST", _BATCHES, body)["id"]
        return batch_id

    def num_done(self, batch_id: str) -> int:
        """Requests that have a result. Raises `EngineProblem` for one that is no success."""
        counts = self._call("GET", f"{_BATCHES}/{batch_id}")["request_counts"]
        if counts["errored"] or counts["expired"]:
            raise EngineProblem(f"requests of the batch failed: {counts}")
        num_done: int = counts["succeeded"]
        return num_done

    def wait(self, batch_id: str) -> None:
        """Until it has ended."""
        while self._call("GET", f"{_BATCHES}/{batch_id}")["processing_status"] != "ended":
            time.sleep(_POLL_SECS)

    def messages(self, batch_id: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """The replies of an ended batch with their prompts' numbers. Raises `EngineProblem` for what is none."""
        with self._answered("GET", f"{_BATCHES}/{batch_id}/results") as response:
            for line in response:
                result = json.loads(line)
                if result["result"]["type"] != "succeeded":
                    raise EngineProblem(f"a request of the batch failed: {one_line(line.decode())}")
                yield int(result["custom_id"]), result["result"]["message"]

    def cancel(self, batch_id: str) -> None:
        """Let the requests that are not begun be."""
        self._call("POST", f"{_BATCHES}/{batch_id}/cancel")

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        with self._answered(method, path, body) as response:
            answer: dict[str, Any] = json.loads(response.read())
            return answer

    @contextmanager
    def _answered(
        self, method: str, path: str, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_CALL_SECS)
        try:
            connection.request(method, path, body, _HEADERS)
            response = connection.getresponse()
            if response.status != 200:
                raise EngineProblem(f"it answered {one_line(response.read().decode(errors='replace'))}")
            yield response
        except (OSError, http.client.HTTPException) as problem:
            raise EngineProblem(f"the server hung up: {problem!r}") from problem
        finally:
            connection.close()


class BatchSession:
    """A server that gets each job as one batch."""

    def __init__(self, server: HttpSession) -> None:
        self._server = server
        self._batches = BatchClient(server.port)

    @property
    def pid(self) -> int | None:
        """The server's process."""
        return self._server.pid

    def run(self, job: Job) -> Timing:
        """See `Session.run`; timed by the client, from handing the batch in to the end of its results."""
        body = batch_body(job.prompts, job.max_new_tokens)
        began = time.perf_counter()
        batch_id = self._batches.create(body)
        self._batches.wait(batch_id)
        messages = list(self._batches.messages(batch_id))
        secs = time.perf_counter() - began
        if sorted(number for number, _ in messages) != list(range(len(job.prompts))):
            raise EngineProblem("the batch has not one result for each request")
        for number, message in messages:
            MESSAGES.check_label(job.prompts[number], json.dumps(message).encode())
        return Timing(secs, sum(message["usage"]["output_tokens"] for _, message in messages))

    def close(self) -> None:
        """See `Session.close`."""
        self._server.close()
