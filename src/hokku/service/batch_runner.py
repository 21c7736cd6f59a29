"""Works batches off on the engine's idle capacity, on a thread and an event loop of its own.

The runner claims requests a few at a time, answers them side by side, and keeps the answers in groups: all that have
come while the last group was being written go into one transaction. It holds no more than what it has claimed, however
long the batch. Several runners, of several processes, share the batches of one database; what a killed one had claimed
is claimed anew by the others, or by itself once it is back.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Protocol

from hokku.blobs.store import BlobStore, sweep
from hokku.protocol.batches import Answer, Batch, BatchObserver, Claim, Conclusion, ResultLine, Settlement
from hokku.protocol.errors import StorageUnavailable
from hokku.service.batch_answers import TO_TRY_AGAIN, BatchAnswers
from hokku.service.batches import RESULTS_KEPT
from hokku.service.keys import Identity

_log = logging.getLogger(__name__)

Deliver = Callable[[Batch, Iterator[ResultLine]], bool]  # blocks
_LINES_AT_ONCE = 1_000
_TIDY_SECS = 3600.0
_ORPHANS_KEPT = timedelta(days=2)  # longer than any upload, or any batch, takes


@dataclass(frozen=True, slots=True)
class RunnerConfig:
    """The runner's own settings."""

    num_in_flight: int = 48  # requests answered side by side
    lease_secs: float = 10.0  # how long a claim lasts that is not renewed
    poll_secs: float = 2.0  # between looks for what other processes have taken in
    pause_secs: float = 1.0  # after the engine or the database has refused


class RunnerRows(Protocol):
    """Where batches and their requests are kept. Every verb blocks, and raises `StorageUnavailable`."""

    def unfinished(self) -> list[Batch]:
        """All that have not ended, oldest first."""

    def claim(self, batch_id: str, runner: str, most: int, *, now: datetime, until: datetime) -> list[Claim]:
        """Take on the next requests."""

    def renew(self, runner: str, until: datetime) -> None:
        """Hold on to them."""

    def give_back(self, runner: str, claims: Sequence[Claim]) -> None:
        """Let others work on them."""

    def finish(self, batch_id: str, runner: str, answers: Sequence[Answer]) -> list[Answer]:
        """Keep answers, all or none, but for those whose claim is lost; the ones that were kept."""

    def settle(self, batch_id: str, now: datetime) -> Settlement:
        """Conclude and book what is canceled or has expired, and say whether every request is done."""

    def results(self, batch_id: str, after_position: int, most: int) -> list[ResultLine]:
        """Results from behind a position on."""

    def end(self, batch_id: str, results_blob: str, now: datetime) -> bool:
        """Say where the results are, and forget the requests."""

    def archive(self, created_before: datetime, now: datetime) -> list[str]:
        """Let go of old results; their blobs."""

    def blobs(self) -> set[str]:
        """All blobs that batches need."""


class OpensRunnerRows(Protocol):
    """Opens the database of batches when it is first needed."""

    @property
    def batches(self) -> RunnerRows:
        """The opened batches. Raises `StorageUnavailable`."""


class BatchRunner:
    """One process's part in the batches. `start` it once models can serve, `park` it before the engine is closed."""

    def __init__(
        self,
        storage: OpensRunnerRows,
        blobs: BlobStore,
        answers: BatchAnswers,
        config: RunnerConfig | None = None,
        observe: BatchObserver = lambda _conclusion: None,
        deliver: Deliver = lambda _batch, _lines: True,
    ) -> None:
        """`deliver` is given the results of each batch that is about to end, and says whether they have arrived."""
        self._storage = storage
        self._blobs = blobs
        self._answers = answers
        self._observe = observe
        self._deliver = deliver
        self._config = config or RunnerConfig()
        self._name = f"runner-{uuid.uuid4().hex}"
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._something_new = asyncio.Event()
        self._is_parking = False
        self._waits_to_be_woken = False
        # Of the loop's thread alone:
        self._held: deque[tuple[Batch, Claim]] = deque()  # claimed, not begun
        self._under_way: dict[asyncio.Task[None], Claim] = {}
        self._answered: defaultdict[str, list[Answer]] = defaultdict(list)  # by batch; not yet kept
        self._given_up: list[Claim] = []  # to be given back
        self._num_looks = 0
        self._renewed_at = float("-inf")  # loop time
        self._tidied_at = float("-inf")  # loop time
        self._refusal: str | None = None  # why a request could not be answered: pause before the next claims
        self._trouble: str | None = None  # what the log last said

    def start(self, *, is_idle: bool = False) -> None:
        """Begin to work, on a thread of its own; where there is nothing yet (`is_idle`), once somebody calls `wake`."""
        self._waits_to_be_woken = is_idle
        self._thread = threading.Thread(target=self._serve, name="hokku-batches", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new to do. Safe from any thread."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._something_new.set)

    def park(self, timeout_secs: float = 10.0) -> None:
        """Keep what is answered, give everything else back, and end. Idempotent; harmless before `start`."""
        self._is_parking = True
        self.wake()
        if self._thread is not None:
            self._thread.join(timeout_secs)

    def _serve(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._waits_to_be_woken and not self._is_parking:
            await self._something_new.wait()
        while not self._is_parking:
            trouble = None
            try:
                await self._round()
                trouble, self._refusal = self._refusal, None
            except StorageUnavailable as cause:
                trouble = str(cause)
            except Exception as failure:
                _log.exception("the runner of batches stumbled; it goes on")
                trouble = repr(failure)
            self._say(trouble)
            if trouble is None:
                await self._wait()
            else:
                await asyncio.sleep(self._config.pause_secs)
        await self._hand_back()

    async def _wait(self) -> None:
        """Until there is something new, an answer among it, or it is time to look."""
        secs = min(self._config.poll_secs, self._config.lease_secs / 3)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._something_new.wait(), secs)
        self._something_new.clear()

    def _say(self, trouble: str | None) -> None:
        if trouble == self._trouble:
            return
        if trouble is None:
            _log.warning("batches go on")
        else:
            _log.warning("batches wait: %s", trouble)
        self._trouble = trouble

    async def _round(self) -> None:
        """Hold on to what is claimed, keep what is answered, claim what there is room for."""
        await self._renew()
        await self._keep_answers()
        await self._give_back_given_up()
        await self._tidy()
        if self._refusal is None and len(self._held) * 2 <= self._config.num_in_flight:
            await self._take_on()
        while self._held and len(self._under_way) < self._config.num_in_flight:
            self._begin(*self._held.popleft())

    async def _renew(self) -> None:
        now = asyncio.get_running_loop().time()
        has_claims = self._held or self._under_way or self._answered
        if has_claims and now - self._renewed_at >= self._config.lease_secs / 3:
            until = _now() + self._lease
            await asyncio.to_thread(lambda: self._rows.renew(self._name, until))
            self._renewed_at = now

    async def _keep_answers(self) -> None:
        for batch_id, answers in list(self._answered.items()):
            group = list(answers)
            kept = await asyncio.to_thread(self._finish, batch_id, group)
            for answer in kept:
                self._observe(_conclusion(answer))
            if len(kept) < len(group):
                _log.warning("batch %s: %d claims had lapsed", batch_id, len(group) - len(kept))
            del answers[: len(group)]
            if not answers:
                del self._answered[batch_id]

    def _finish(self, batch_id: str, answers: Sequence[Answer]) -> list[Answer]:
        return self._rows.finish(batch_id, self._name, answers)

    async def _give_back_given_up(self) -> None:
        if self._given_up:
            claims = list(self._given_up)
            await asyncio.to_thread(lambda: self._rows.give_back(self._name, claims))
            del self._given_up[: len(claims)]

    async def _take_on(self) -> None:
        """Claim from each batch in turn, beginning with another one each time, so that a small batch need not wait for
        a large one."""
        unfinished = await asyncio.to_thread(lambda: self._rows.unfinished())
        if not unfinished:
            return
        self._num_looks += 1
        first = self._num_looks % len(unfinished)
        for batch in (*unfinished[first:], *unfinished[:first]):
            if batch.status == "canceling" or batch.counts.processing == 0 or batch.expires_at <= _now():
                await asyncio.to_thread(self._conclude, batch)
            elif (room := self._config.num_in_flight - len(self._held)) > 0:
                claims = await asyncio.to_thread(self._claim, batch.id, room)
                self._held += [(batch, claim) for claim in claims]

    def _claim(self, batch_id: str, most: int) -> list[Claim]:
        now = _now()
        return self._rows.claim(batch_id, self._name, most, now=now, until=now + self._lease)

    def _conclude(self, batch: Batch) -> None:
        """End a batch, if all its requests are done or will never be."""
        settlement = self._rows.settle(batch.id, _now())
        if settlement.outcome is not None and settlement.num_concluded:
            self._observe(Conclusion("", settlement.outcome, settlement.num_concluded))
        if not settlement.is_done or not self._deliver(batch, self._lines(batch.id)):
            return
        with self._blobs.writer() as writer:
            every_line = self._lines(batch.id)
            while lines := list(islice(every_line, _LINES_AT_ONCE)):
                writer.write("".join(map(_text, lines)).encode())
            results = writer.keep()
        has_ended = self._rows.end(batch.id, results.name, _now())
        # Another process may have ended it first; then its results are the ones that count.
        self._blobs.delete(batch.input_blob if has_ended else results.name)
        _log.info("batch %s has ended", batch.id)

    def _lines(self, batch_id: str) -> Iterator[ResultLine]:
        """Every result, in the order of the work."""
        position = -1
        while lines := self._rows.results(batch_id, position, _LINES_AT_ONCE):
            yield from lines
            position = lines[-1].position

    def _begin(self, batch: Batch, claim: Claim) -> None:
        task = asyncio.create_task(self._answer(batch, claim))
        self._under_way[task] = claim
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        self._something_new.set()

    async def _answer(self, batch: Batch, claim: Claim) -> None:
        try:
            body = await asyncio.to_thread(self._body, batch.input_blob, claim)
            identity = Identity(batch.workspace_id, batch.key_id)
            answer = await self._answers.answer(claim, body, batch.dialect, identity)
        except TO_TRY_AGAIN as cause:
            self._give_up(claim, str(cause))
        except Exception as failure:
            _log.exception("a request of batch %s could not be answered; it will be tried again", batch.id)
            self._give_up(claim, repr(failure))
        else:
            self._answered[batch.id].append(answer)

    def _give_up(self, claim: Claim, refusal: str) -> None:
        self._given_up.append(claim)
        self._refusal = refusal

    def _body(self, blob: str, claim: Claim) -> bytes:
        with self._blobs.open(blob, claim.request.offset, claim.request.size) as pieces:
            return b"".join(pieces)

    async def _tidy(self) -> None:
        """Now and then: let go of old results, and of blobs that a crash has left behind."""
        now = asyncio.get_running_loop().time()
        if now - self._tidied_at >= _TIDY_SECS:
            self._tidied_at = now
            await asyncio.to_thread(self._let_go)

    def _let_go(self) -> None:
        now = _now()
        for name in self._rows.archive(now - RESULTS_KEPT, now):
            self._blobs.delete(name)
        sweep(self._blobs, lambda _names: self._rows.blobs(), now - _ORPHANS_KEPT)

    async def _hand_back(self) -> None:
        under_way = dict(self._under_way)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._given_up += [claim for _, claim in self._held]
        self._given_up += under_way.values()  # given back only where they are still without an answer
        try:
            await self._keep_answers()
            await self._give_back_given_up()
        except StorageUnavailable as cause:
            _log.warning("claims were not given back, and lapse in %g s: %s", self._config.lease_secs, cause)

    @property
    def _rows(self) -> RunnerRows:
        return self._storage.batches

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._config.lease_secs)


def _conclusion(answer: Answer) -> Conclusion:
    return Conclusion(answer.entry.model, answer.outcome, tokens=answer.entry.tokens, secs=answer.secs)


def _text(line: ResultLine) -> str:
    """A line of the results; a `custom_id` needs no escaping."""
    result = line.result or f'{{"type":"{line.outcome}"}}'
    return f'{{"custom_id":"{line.custom_id}","result":{result}}}\n'


def _now() -> datetime:
    return datetime.now(UTC)
