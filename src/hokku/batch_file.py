"""A file of requests, answered without a server: `hokku batches run`.

Results are appended as they come, each line whole; so a run that was stopped, however it was, is taken up again by
looking at what is there.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hokku.api.anthropic.batch_body import BatchReader
from hokku.api.anthropic.batch_wire import dialect_text
from hokku.api.anthropic.dialect import Dialect
from hokku.api.config import ApiConfig, Compatibility
from hokku.protocol.batches import BatchedRequest, Claim
from hokku.protocol.errors import BadSetting, RequestError
from hokku.service.batch_answers import TO_TRY_AGAIN, BatchAnswers
from hokku.service.keys import Identity

_DIALECT = dialect_text(Dialect("2023-06-01", frozenset(), Compatibility.FRIENDLY))
_NO_LIMIT = 1 << 40  # requests
_PAUSE_SECS = 0.2


@dataclass(slots=True)
class BatchFileReport:
    """What the file of results holds."""

    num_results: int = 0
    num_errored: int = 0


def run_batch_file(
    answers: BatchAnswers,
    num_in_flight: int,
    requests: Path,
    output: Path,
    advance: Callable[[int, int, str], None],
) -> BatchFileReport:
    """Answer what of a file has no result yet.

    Args:
        answers: who answers.
        num_in_flight: requests answered side by side.
        requests: JSONL, a request a line.
        output: JSONL, a result a line, in any order.
        advance: told how many are done, of how many.

    Raises: `BadSetting` for a file that cannot be read or written, or is none of requests.
    """
    asked = _index(requests)
    report = BatchFileReport()
    done = _resume(output, report)
    missing = [request for request in asked if request.custom_id not in done]
    with _opened(requests, "rb") as bodies, _opened(output, "ab") as lines:
        run = _Run(
            answers, bodies, lines, report, lambda: advance(report.num_results, len(asked), "Answering")
        )
        asyncio.run(run.all(missing, num_in_flight))
    return report


class _Run:
    """Answers requests of an open file into another."""

    def __init__(
        self,
        answers: BatchAnswers,
        bodies: IO[bytes],
        lines: IO[bytes],
        report: BatchFileReport,
        advance: Callable[[], None],
    ) -> None:
        self._answers = answers
        self._bodies = bodies
        self._lines = lines
        self._report = report
        self._advance = advance

    async def all(self, requests: list[BatchedRequest], num_in_flight: int) -> None:
        """Each of them, so many side by side."""
        waiting = iter(enumerate(requests))
        self._advance()

        async def work() -> None:
            for position, request in waiting:
                await self._answer(position, request)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(num_in_flight, len(requests))):
                group.create_task(work())

    async def _answer(self, position: int, request: BatchedRequest) -> None:
        self._bodies.seek(request.offset)
        body = self._bodies.read(request.size)
        claim = Claim("", position, request)
        while True:
            try:
                answer = await self._answers.answer(claim, body, _DIALECT, Identity())
            except TO_TRY_AGAIN:
                await asyncio.sleep(_PAUSE_SECS)
            else:
                break
        self._lines.write(f'{{"custom_id":"{request.custom_id}","result":{answer.result}}}\n'.encode())
        self._lines.flush()
        self._report.num_results += 1
        self._report.num_errored += answer.outcome == "errored"
        self._advance()


def _index(requests: Path) -> list[BatchedRequest]:
    """Where each request lies in the file; those whose prompts begin alike one after the other."""
    found: list[tuple[bytes, BatchedRequest]] = []
    offset = 0

    def take(custom_id: str, body: bytes, kinship: bytes) -> None:
        found.append((kinship, BatchedRequest(custom_id, offset, len(line))))

    # The checks of a batch's body, to which the lines are what its array is made of.
    reader = BatchReader(take, ApiConfig().max_body_bytes, _NO_LIMIT)
    try:
        with _opened(requests, "rb") as lines:
            reader.feed(b'{"requests":[')
            for line in lines:
                reader.feed(b"," + line if found and line.strip() else line)
                offset += len(line)
            reader.feed(b"]}")
            reader.finish()
    except RequestError as refusal:
        raise BadSetting(str(refusal), place=str(requests)) from refusal
    return [request for _, request in sorted(found, key=lambda each: each[0])]


def _resume(output: Path, report: BatchFileReport) -> set[str]:
    """The requests that have a result already. A last line that is not whole is removed."""
    done: set[str] = set()
    if not output.exists():
        return done
    num_bytes = 0
    with _opened(output, "r+b") as lines:
        for line in lines:
            try:
                result = json.loads(line)
                custom_id, kind = result["custom_id"], result["result"]["type"]
            except (ValueError, KeyError, TypeError) as cause:
                if not line.endswith(b"\n"):
                    break
                way_out = "name another file"
                raise BadSetting(
                    "holds something else than results", place=str(output), way_out=way_out
                ) from cause
            num_bytes += len(line)
            done.add(custom_id)
            report.num_results += 1
            report.num_errored += kind == "errored"
        lines.truncate(num_bytes)
    return done


def _opened(path: Path, mode: str) -> IO[bytes]:
    try:
        return path.open(mode)
    except OSError as cause:
        raise BadSetting(f"cannot be opened: {cause.strerror}", place=str(path)) from cause
