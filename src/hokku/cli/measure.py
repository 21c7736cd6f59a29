"""What `hokku bench` measures, each figure the median of several rounds.

Speeds are taken at the engine's port, without text or HTTP; start-up and memory are those of a real `hokku serve`.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hokku.protocol.engine import Engine, EngineEvent, Failed, Finished, GenerationRequest, Sampling, Tokens
from hokku.protocol.errors import EngineFailed

_START_SECS = 600.0  # a first start packs the weights
_POLL_SECS = 0.005


@dataclass
class Run:
    """One generation under way, with the moments at which its tokens came."""

    token_times: list[float] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def sink(self, event: EngineEvent) -> None:
        """The engine's side."""
        match event:
            case Tokens(ids=ids):
                self.token_times += [time.perf_counter()] * len(ids)
            case Failed(error=error):
                self.error = error
                self.done.set()
            case Finished():
                self.done.set()


def median_of(rounds: int, measure: Callable[[], float]) -> float:
    """The median of several measurements, after one that only warms up."""
    measure()
    return statistics.median(measure() for _ in range(rounds))


def prefill_rate(engine: Engine, vocabulary: int, num_tokens: int) -> float:
    """Prompt tokens per second, one prompt alone."""
    return num_tokens / first_token_secs(engine, vocabulary, num_tokens)


def first_token_secs(engine: Engine, vocabulary: int, num_tokens: int) -> float:
    """From submitting a prompt that nobody has seen to its first token."""
    began = time.perf_counter()
    (run,) = _generate(engine, [_prompt(vocabulary, num_tokens)], max_new_tokens=1)
    return run.token_times[0] - began


def decode_rate(
    engine: Engine, vocabulary: int, num_streams: int, num_tokens: int, prompt_tokens: int = 32
) -> float:
    """Tokens per second of all streams together, while every one of them runs."""
    prompts = [_prompt(vocabulary, prompt_tokens) for _ in range(num_streams)]
    runs = _generate(engine, prompts, max_new_tokens=num_tokens)
    begin = max(run.token_times[0] for run in runs)
    end = min(run.token_times[-1] for run in runs)
    return sum(begin < moment <= end for run in runs for moment in run.token_times) / (end - begin)


def _generate(engine: Engine, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[Run]:
    runs = [Run() for _ in prompts]
    for run, prompt in zip(runs, prompts, strict=True):
        request = GenerationRequest(prompt, max_new_tokens, Sampling(temperature=0), cache_scope="bench")
        engine.submit(request, run.sink)
    for run in runs:
        run.done.wait()
        if run.error is not None or not run.token_times:
            raise EngineFailed("a generation of the benchmark failed") from run.error
    return runs


def _prompt(vocabulary: int, num_tokens: int) -> list[int]:
    """Random tokens, so that no round finds the last one's prefix in the cache."""
    return [random.randrange(vocabulary) for _ in range(num_tokens)]


@dataclass(frozen=True, slots=True)
class ServerStart:
    """How a server process began."""

    ready_secs: float  # from the start of the process to a `/readyz` of 200
    resident_bytes: int  # after its first reply


def server_start(variables: Mapping[str, str], model: str) -> ServerStart:
    """Start `hokku serve` with these settings in its environment, ask it once when it is ready, and stop it."""
    port = _free_port()
    command = [sys.executable, "-m", "hokku", "serve", "--open", "--host", "127.0.0.1", "--port", str(port)]
    environ = os.environ | dict(variables)
    began = time.perf_counter()
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_until_ready(server, port, began + _START_SECS)
            ready_secs = time.perf_counter() - began
            _ask(port, model)
            return ServerStart(ready_secs, _resident_bytes(server.pid))
        finally:
            server.send_signal(signal.SIGTERM)


def _ask(port: int, model: str) -> None:
    """One short reply, so that every weight has been read."""
    body = {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_SECS)
    try:
        connection.request("POST", "/v1/messages", json.dumps(body), headers)
        reply = connection.getresponse()
        if reply.status != 200:
            raise EngineFailed(f"the server answered {reply.status}: {reply.read()!r}")
    finally:
        connection.close()


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, deadline: float) -> None:
    while time.perf_counter() < deadline and server.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # not listening yet
        finally:
            connection.close()
        time.sleep(_POLL_SECS)
    raise EngineFailed("the server did not become ready")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; `ps` says it in KiB on Linux and macOS alike."""
    said = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(said.stdout) << 10
