"""An engine in a process of its own: JSON lines in, JSON lines out.

    harness -> worker   {"prompts": [[1, 2, …], …], "max_new_tokens": 128, "at_a_time": 0}
    worker -> harness   {"secs": 1.25, "output_tokens": 128}   or   {"error": "…"}

The first line a worker writes says that its model is loaded. Between jobs it waits for a line, which costs no
processor. `work` is the worker's side, `WorkerSession` the harness's. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from benchmarks.engines.job import EngineProblem, Job, Needs, Timing, one_line

T = TypeVar("T")
_ROOT = Path(__file__).parents[2]
_LOAD_SECS = 240  # the longest a model may take to load; whoever compiles for longer is no peer of a quarter of an hour
_JOB_SECS = 900
_CLOSE_SECS = 10


class Model(Protocol):
    """What a worker module brings."""

    def generate(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, at_a_time: int) -> int:
        """Answer every prompt, `at_a_time` of them under way at once; the number of tokens generated."""


def work(load: Callable[[Needs], Model]) -> None:
    """Load a model as the command line says and do jobs until the input ends."""
    answers = _private_stdout()
    try:
        model = load(Needs.from_json(json.loads(sys.argv[1])))
    except Exception as problem:
        _write(answers, {"error": _named(problem)})
        raise
    _write(answers, {"ready": True})
    for line in sys.stdin:
        job = json.loads(line)
        began = time.perf_counter()
        try:
            output_tokens = model.generate(**job)
        except Exception as problem:
            _write(answers, {"error": _named(problem)})
        else:
            _write(answers, {"secs": time.perf_counter() - began, "output_tokens": output_tokens})
    answers.flush()
    os._exit(0)  # some engines wait for their threads for ever


def in_waves(prompts: Sequence[T], at_a_time: int, admitted: int) -> list[Sequence[T]]:
    """A job's prompts as an engine can be handed them that admits `admitted` at once whatever the job says."""
    if at_a_time >= admitted:
        return [prompts]
    return [prompts[begin : begin + at_a_time] for begin in range(0, len(prompts), at_a_time)]


def _named(problem: Exception) -> str:
    return f"{type(problem).__name__}: {one_line(str(problem))}"


def _private_stdout() -> IO[str]:
    """Standard output for answers alone: whatever a library prints goes to standard error instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _write(answers: IO[str], message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


class WorkerSession:
    """A worker process and its model. Construction returns when the model is loaded.

    Args:
        python: the interpreter of the engine's environment.
        module: the worker's module, which calls `work`.
        needs: what the model must have room for.
        log: where its standard error goes.
        environ: variables on top of this process's.

    Raises:
        EngineProblem: the worker ended or said why it cannot load.
    """

    def __init__(
        self,
        python: Path,
        module: str,
        needs: Needs,
        log: Path,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [str(python), "-m", module, json.dumps(needs.as_json())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=_ROOT,
                env=os.environ | {"PYTHONPATH": str(_ROOT)} | dict(environ or {}),
                text=True,
                start_new_session=True,  # so that what the engine itself starts can be ended with it
            )
        try:
            self._answer(_LOAD_SECS)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int | None:
        """The worker's process."""
        return self._process.pid

    def run(self, job: Job) -> Timing:
        """See `Session.run`; the time is taken inside the worker, around the engine's own call."""
        assert self._process.stdin is not None
        question = {
            "prompts": [list(prompt.token_ids) for prompt in job.prompts],
            "max_new_tokens": job.max_new_tokens,
            "at_a_time": job.concurrency,
        }
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as problem:  # the pipe is broken, or closed on our side
            raise self._ended() from problem
        answer = self._answer(_JOB_SECS)
        return Timing(answer["secs"], answer["output_tokens"])

    def close(self) -> None:
        """See `Session.close`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_CLOSE_SECS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.stdout.close()

    def _answer(self, most_secs: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], most_secs)[0]:
            self._process.kill()
            raise EngineProblem(f"it did not answer within {most_secs:.0f} s")
        line = self._process.stdout.readline()  # workers write whole lines
        if not line:
            raise self._ended()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineProblem(answer["error"])
        return answer

    def _ended(self) -> EngineProblem:
        status = self._process.wait()
        said = one_line(self._log.read_text("utf-8", errors="replace"))
        return EngineProblem(f"its process ended with status {status}: {said}")
