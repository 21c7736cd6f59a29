"""llama.cpp, built natively: its own tools where they measure fairest, its own server over HTTP.

`llama-bench` times one prompt and `llama-batched-bench` times streams without sampling or text, which spares it work
that the other engines do. Both take random token ids of the same counts: their cost does not depend on the ids.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.engines.http_load import Dialect, HttpSession, free_port
from benchmarks.engines.job import EngineProblem, Job, Needs, Prompt, Timing, one_line

_NANOSECOND = 1e-9
_LONG_PROMPT_TOKENS = (
    2_000  # warmed by its own length, and llama-bench's warm-up is the whole prompt once more
)
_TOOL_SECS = 600  # the longest a tool may take, loading included


def parse_bench(output: str) -> float:
    """Seconds of the one test that a `llama-bench -o json` run timed."""
    try:
        (test,) = json.loads(output)
        return float(test["avg_ns"]) * _NANOSECOND
    except (ValueError, KeyError, TypeError) as problem:
        raise EngineProblem(f"llama-bench gave no result: {one_line(output)}") from problem


def parse_batched_bench(output: str) -> float:
    """Seconds of prefill and generation together, of the one line of `--output-format jsonl`."""
    for line in output.splitlines():
        if line.startswith("{"):
            test = json.loads(line)
            return float(test["t_pp"]) + float(test["t_tg"])
    raise EngineProblem(f"llama-batched-bench gave no result: {one_line(output)}")


class LlamaTools:
    """A session without a process: each job is one run of a tool, whose load time does not count."""

    pid = None

    def __init__(self, binaries: Path, needs: Needs) -> None:
        self._binaries = binaries
        self._needs = needs

    def run(self, job: Job) -> Timing:
        """See `Session.run`. A job's prompts must be of one length."""
        lengths = {len(prompt.token_ids) for prompt in job.prompts}
        if len(lengths) != 1:
            raise EngineProblem("its tools take prompts of one length only")
        (num_tokens,) = lengths
        if len(job.prompts) == 1 and job.max_new_tokens == 1:
            return Timing(self._prefill_secs(num_tokens), 1)
        # One wave of prompts stands for all: the tool takes random tokens, so that each would be like the first.
        num_waves = -(-len(job.prompts) // job.concurrency)
        secs = self._streams_secs(num_tokens, job.max_new_tokens, job.concurrency)
        return Timing(num_waves * secs, job.wanted_tokens)

    def close(self) -> None:
        """See `Session.close`: there is nothing to let go of."""

    def _prefill_secs(self, num_tokens: int) -> float:
        tool = ["llama-bench", "-p", str(num_tokens), "-n", "0", "-r", "1", "-o", "json"]
        warm_up = ["--no-warmup"] if num_tokens > _LONG_PROMPT_TOKENS else []
        return parse_bench(self._output([*tool, *warm_up]))

    def _streams_secs(self, num_tokens: int, max_new_tokens: int, num_streams: int) -> float:
        shape = ["-npp", str(num_tokens), "-ntg", str(max_new_tokens), "-npl", str(num_streams)]
        room = ["-c", str(num_streams * (num_tokens + max_new_tokens) + 256)]
        return parse_batched_bench(
            self._output(["llama-batched-bench", *shape, *room, "--output-format", "jsonl"])
        )

    def _output(self, tool: list[str]) -> str:
        name, *options = tool
        command = [
            str(self._binaries / name),
            "-m",
            self._needs.model,
            "-t",
            str(self._needs.threads),
            *options,
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_SECS)
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise EngineProblem(f"{name}: {problem}") from problem
        if done.returncode:
            raise EngineProblem(f"{name} ended with status {done.returncode}: {one_line(done.stderr)}")
        return done.stdout


def _completion_body(prompt: Prompt, max_new_tokens: int) -> bytes:
    body = {
        "prompt": list(prompt.token_ids),
        "n_predict": max_new_tokens,
        "temperature": 0,
        "ignore_eos": not prompt.labels,
        "cache_prompt": True,
    }
    if prompt.labels:
        body["grammar"] = f"root ::= {' | '.join(map(json.dumps, prompt.labels))}"
    return json.dumps(body).encode()


def _content(body: bytes) -> str:
    content: str = json.loads(body)["content"]
    return content


COMPLETIONS = Dialect(
    path="/completion",
    ready_path="/health",
    body=_completion_body,
    counts_pattern=rb'"tokens_predicted":\s*(\d+)',
    answer=_content,
)


def llama_server(binaries: Path, needs: Needs, log: Path) -> HttpSession:
    """`llama-server` with a slot a stream over one shared cache, its prompt cache on, its warm-up left as it is."""
    port = free_port()
    room = ["-np", str(needs.streams), "-c", str(needs.total_tokens), "--kv-unified"]
    threads = ["-t", str(needs.threads), "--threads-http", "2"]
    command = [str(binaries / "llama-server"), "-m", needs.model, "--port", str(port), *room, *threads]
    return HttpSession(command, {}, port, COMPLETIONS, log)
