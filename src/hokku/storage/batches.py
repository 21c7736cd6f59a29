"""Message Batches: nothing lost, nothing twice.

A runner takes requests on for a while (`claim`, `renew`); what a dead one has claimed comes back when that while has
passed. Its answers count only where the claim is still its own, and an answer, its row of the ledger and the batch's
counts are one transaction; so are the end of requests that are never answered, and their rows. Every verb that changes
a batch locks the batch's row first, so that two of them take turns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from hokku.protocol.batches import (
    OUTCOMES,
    Answer,
    Batch,
    BatchCounts,
    BatchedRequest,
    Claim,
    RequestOutcome,
    ResultLine,
    Settlement,
    UnansweredOutcome,
)
from hokku.protocol.errors import InvalidRequest, NotFound, RateLimited
from hokku.storage.database import Database
from hokku.storage.ledger import LedgerStore
from hokku.storage.moments import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from hokku.storage.schema import batch_requests, batches, limits

_ROWS_AT_ONCE = 1_000  # of one INSERT
_QUEUE_LOCK = 0x486F6B6B75_51  # "HokkuQ"; of two batches that come at once, one is counted first
_QUEUE_RETRY_SECS = 60  # nobody knows when a batch ends


class BatchStore:
    """The statements over `batches` and `batch_requests`."""

    def __init__(self, database: Database, ledger: LedgerStore) -> None:
        self._database = database
        self._ledger = ledger

    def add(self, batch: Batch, requests: Iterable[BatchedRequest]) -> None:
        """Keep a new batch. Its requests are worked off in this order. Raises `RateLimited` where more would wait for a
        result than the rules allow, `InvalidRequest` for an id that is taken."""
        rows = (
            {
                "batch_id": batch.id,
                "position": position,
                "custom_id": request.custom_id,
                "offset": request.offset,
                "size": request.size,
            }
            for position, request in enumerate(requests)
        )
        with self._database.write() as connection:
            _refuse_long_queue(connection, batch, num_more=batch.counts.processing)
            try:
                connection.execute(batches.insert().values(_values(batch)))
            except IntegrityError as cause:
                raise InvalidRequest(f"There is a batch {batch.id} already") from cause
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                connection.execute(batch_requests.insert(), some)
            if not self._database.is_sqlite:  # whose writers take turns anyway
                connection.execute(select(func.pg_advisory_xact_lock(_QUEUE_LOCK)))
                _refuse_long_queue(connection, batch, num_more=0)

    def batch(self, batch_id: str, workspace_id: str) -> Batch:
        """One of a workspace's batches. Raises `NotFound`."""
        with self._database.read() as connection:
            return self._find(connection, batch_id, workspace_id)

    def find(self, batch_id: str) -> Batch:
        """One of anybody's batches, for the operator. Raises `NotFound`."""
        with self._database.read() as connection:
            return self._find(connection, batch_id, None)

    def is_worked_on(self, batch_id: str, now: datetime) -> bool:
        """Whether a runner that is alive has claimed requests of it."""
        claimed = select(batch_requests.c.position).where(
            batch_requests.c.batch_id == batch_id,
            batch_requests.c.outcome.is_(None),
            batch_requests.c.claimed_until > to_micros(now),
        )
        with self._database.read() as connection:
            return connection.execute(claimed.limit(1)).first() is not None

    def page(
        self,
        workspace_id: str | None,
        limit: int,
        *,
        after_id: str | None = None,
        before_id: str | None = None,
        prefix: str = "",
    ) -> tuple[list[Batch], bool]:
        """At most `limit` of a workspace's batches, or of all, whose ids begin with `prefix`, newest first, and whether
        there are more on that side: the ones behind `after_id`, or the last ones before `before_id`. Raises
        `InvalidRequest` for an id that is none of them."""
        place = tuple_(batches.c.created_at, batches.c.id)
        order: list[ColumnElement[Any]] = [batches.c.created_at.desc(), batches.c.id.desc()]
        wanted: list[ColumnElement[bool]] = [batches.c.id.startswith(prefix, autoescape=True)]
        if workspace_id is not None:
            wanted.append(batches.c.workspace_id == workspace_id)
        with self._database.read() as connection:
            if before_id is not None:
                wanted.append(place > _place_of(connection, before_id, wanted, "before_id"))
                order = [batches.c.created_at, batches.c.id]
            elif after_id is not None:
                wanted.append(place < _place_of(connection, after_id, wanted, "after_id"))
            statement = select(batches).where(*wanted).order_by(*order).limit(limit + 1)
            found = [_batch(row) for row in connection.execute(statement)]
        shown = found[:limit]
        return shown[::-1] if before_id is not None else shown, len(found) > limit

    def unfinished(self) -> list[Batch]:
        """Every batch that has not ended, oldest first."""
        statement = select(batches).where(batches.c.ended_at.is_(None))
        with self._database.read() as connection:
            rows = connection.execute(statement.order_by(batches.c.created_at, batches.c.id))
            return [_batch(row) for row in rows]

    def claim(self, batch_id: str, runner: str, most: int, *, now: datetime, until: datetime) -> list[Claim]:
        """Take on the next requests that nobody works on, at most so many, until a moment. None of a batch that is
        canceled or has expired."""
        with self._database.write() as connection:
            batch = _locked(connection, batch_id)
            if batch is None or batch.cancel_initiated_at is not None or batch.expires_at <= now:
                return []
            statement = select(batch_requests).where(*_free(batch_id, now))
            statement = statement.order_by(batch_requests.c.position).limit(most)
            claims = [_claim(row) for row in connection.execute(statement)]
            if claims:
                change = update(batch_requests).where(
                    batch_requests.c.batch_id == batch_id,
                    batch_requests.c.position.in_([claim.position for claim in claims]),
                )
                connection.execute(change.values(claimed_by=runner, claimed_until=to_micros(until)))
            return claims

    def renew(self, runner: str, until: datetime) -> None:
        """Hold on to everything that a runner has claimed and nobody has taken from it."""
        with self._database.write() as connection:
            connection.execute(
                update(batch_requests).where(*_of(runner)).values(claimed_until=to_micros(until))
            )

    def give_back(self, runner: str, claims: Sequence[Claim]) -> None:
        """Let others, or the same runner later, work on these."""
        with self._database.write() as connection:
            for batch_id in sorted({claim.batch_id for claim in claims}):
                _locked(connection, batch_id)
                positions = [claim.position for claim in claims if claim.batch_id == batch_id]
                free = {"claimed_by": None, "claimed_until": None}
                change = update(batch_requests).where(*_of(runner), batch_requests.c.batch_id == batch_id)
                connection.execute(change.where(batch_requests.c.position.in_(positions)).values(free))

    def finish(self, batch_id: str, runner: str, answers: Sequence[Answer]) -> list[Answer]:
        """Keep answers to claimed requests and book them, all or none. Those whose claim the runner has lost are left
        out, because somebody else has answered them or will; the ones that were kept."""
        with self._database.write() as connection:
            if _locked(connection, batch_id) is None:
                return []
            mine = select(batch_requests.c.position).where(
                *_of(runner),
                batch_requests.c.batch_id == batch_id,
                batch_requests.c.position.in_([answer.position for answer in answers]),
            )
            positions = set(connection.execute(mine).scalars())
            kept = [answer for answer in answers if answer.position in positions]
            if kept:
                connection.execute(_FINISH, [_finished(batch_id, answer) for answer in kept])
                self._ledger.append_within(connection, [each.entry for each in kept])
                _count(connection, batch_id, Counter(answer.outcome for answer in kept))
            return kept

    def cancel(self, batch_id: str, workspace_id: str, now: datetime) -> Batch:
        """Begin to cancel, unless it has begun or ended before. Raises `NotFound`."""
        with self._database.write() as connection:
            change = update(batches).where(
                batches.c.id == batch_id,
                batches.c.workspace_id == workspace_id,
                batches.c.ended_at.is_(None),
                batches.c.cancel_initiated_at.is_(None),
            )
            connection.execute(change.values(cancel_initiated_at=to_micros(now)))
            return self._find(connection, batch_id, workspace_id)

    def settle(self, batch_id: str, now: datetime) -> Settlement:
        """Where a batch is canceled or has expired, so are its requests that nobody works on; they are booked, in as
        many statements for all as for one."""
        with self._database.write() as connection:
            batch = _locked(connection, batch_id)
            if batch is None or batch.status == "ended":
                return Settlement(is_done=False)
            num_concluded = 0
            outcome = _outcome_of_the_rest(batch, now)
            if outcome is not None:
                change = update(batch_requests).where(*_free(batch_id, now))
                changed = connection.execute(
                    change.values(outcome=outcome, claimed_by=None, claimed_until=None)
                )
                num_concluded = changed.rowcount
                if num_concluded:
                    _count(connection, batch_id, {outcome: num_concluded})
                    self._ledger.append_unanswered(connection, batch, outcome, num_concluded, now)
            undone = select(batch_requests.c.position).where(
                batch_requests.c.batch_id == batch_id, batch_requests.c.outcome.is_(None)
            )
            is_done = connection.execute(undone.limit(1)).first() is None
            return Settlement(is_done, outcome, num_concluded)

    def results(self, batch_id: str, after_position: int, most: int) -> list[ResultLine]:
        """Results of a batch that has not ended, in order, from behind a position on."""
        statement = select(batch_requests).where(
            batch_requests.c.batch_id == batch_id,
            batch_requests.c.position > after_position,
            batch_requests.c.outcome.is_not(None),
        )
        statement = statement.order_by(batch_requests.c.position).limit(most)
        with self._database.read() as connection:
            return [
                ResultLine(row.position, row.custom_id, row.outcome, row.result)
                for row in connection.execute(statement)
            ]

    def end(self, batch_id: str, results_blob: str, now: datetime) -> bool:
        """Say where the results of a batch are, all of whose requests are done, and forget its requests. False if it
        has ended before, or is gone: then nobody has taken note of the blob."""
        with self._database.write() as connection:
            batch = _locked(connection, batch_id)
            if batch is None or batch.status == "ended":
                return False
            change = update(batches).where(batches.c.id == batch_id)
            connection.execute(change.values(ended_at=to_micros(now), results_blob=results_blob))
            connection.execute(delete(batch_requests).where(batch_requests.c.batch_id == batch_id))
            return True

    def archive(self, created_before: datetime, now: datetime) -> list[str]:
        """Say of ended batches of that age that their results are no longer to be had; the blobs they were in."""
        old = [
            batches.c.ended_at.is_not(None),
            batches.c.archived_at.is_(None),
            batches.c.created_at < to_micros(created_before),
        ]
        with self._database.write() as connection:
            statement = select(batches.c.id, batches.c.results_blob).where(*old).with_for_update()
            found = connection.execute(statement).all()
            if found:
                change = update(batches).where(batches.c.id.in_([row.id for row in found]))
                connection.execute(change.values(archived_at=to_micros(now), results_blob=None))
            return [row.results_blob for row in found if row.results_blob is not None]

    def delete(self, batch_id: str, workspace_id: str) -> str | None:
        """Forget an ended batch; the blob of its results. Raises `NotFound`, and `InvalidRequest` while it runs."""
        with self._database.write() as connection:
            _locked(connection, batch_id)
            batch = self._find(connection, batch_id, workspace_id)
            if batch.status != "ended":
                raise InvalidRequest(
                    "In progress batches cannot be deleted. Consider canceling the batch instead."
                )
            connection.execute(delete(batches).where(batches.c.id == batch_id))
            return batch.results_blob

    def blobs(self) -> set[str]:
        """The names of all blobs that batches need: the inputs of those that run, the results of the others."""
        inputs = select(batches.c.input_blob).where(batches.c.ended_at.is_(None))
        results = select(batches.c.results_blob).where(batches.c.results_blob.is_not(None))
        with self._database.read() as connection:
            return set(connection.execute(inputs.union(results)).scalars())

    def _find(self, connection: Connection, batch_id: str, workspace_id: str | None) -> Batch:
        statement = select(batches).where(batches.c.id == batch_id)
        if workspace_id is not None:
            statement = statement.where(batches.c.workspace_id == workspace_id)
        row = connection.execute(statement).first()
        if row is None:
            raise NotFound(f"Message Batch {batch_id} not found.")
        return _batch(row)


def _refuse_long_queue(connection: Connection, batch: Batch, num_more: int) -> None:
    """Raises `RateLimited` where so many more requests are more than the rules of the batch's workspace, and of
    everybody, let wait (wire.md section 5.5)."""
    rules = select(limits.c.workspace_id, limits.c.queued_batch_requests).where(
        limits.c.workspace_id.in_([batch.workspace_id, ""]),
        limits.c.model == "",
        limits.c.queued_batch_requests.is_not(None),
    )
    for owner, most in connection.execute(rules).all():
        queued = select(func.coalesce(func.sum(batches.c.processing), 0)).where(batches.c.ended_at.is_(None))
        if owner:
            queued = queued.where(batches.c.workspace_id == owner)
        if int(connection.execute(queued).scalar_one()) + num_more > most:
            whose = "workspace" if owner else "organization"
            raise RateLimited(
                f"This request would exceed your {whose}'s limit of {most:,} batch requests in the processing queue. "
                "Please try again once some of them have ended.",
                retry_after_secs=_QUEUE_RETRY_SECS,
            )


_FINISH = (
    update(batch_requests)
    .where(
        batch_requests.c.batch_id == bindparam("of_batch"),
        batch_requests.c.position == bindparam("at_position"),
    )
    .values(
        outcome=bindparam("its_outcome"), result=bindparam("its_result"), claimed_by=None, claimed_until=None
    )
)


def _finished(batch_id: str, answer: Answer) -> dict[str, Any]:
    return {
        "of_batch": batch_id,
        "at_position": answer.position,
        "its_outcome": answer.outcome,
        "its_result": answer.result,
    }


def _locked(connection: Connection, batch_id: str) -> Batch | None:
    """The batch, which nobody else changes until the transaction ends."""
    row = connection.execute(select(batches).where(batches.c.id == batch_id).with_for_update()).first()
    return None if row is None else _batch(row)


def _free(batch_id: str, now: datetime) -> list[ColumnElement[bool]]:
    """Requests that are not done and that nobody works on."""
    lapsed = batch_requests.c.claimed_until <= to_micros(now)
    return [
        batch_requests.c.batch_id == batch_id,
        batch_requests.c.outcome.is_(None),
        or_(batch_requests.c.claimed_until.is_(None), lapsed),
    ]


def _of(runner: str) -> list[ColumnElement[bool]]:
    """Requests that this runner works on."""
    return [batch_requests.c.claimed_by == runner, batch_requests.c.outcome.is_(None)]


def _outcome_of_the_rest(batch: Batch, now: datetime) -> UnansweredOutcome | None:
    if batch.cancel_initiated_at is not None:
        return "canceled"
    return "expired" if batch.expires_at <= now else None


def _count(connection: Connection, batch_id: str, done: Mapping[RequestOutcome, int]) -> None:
    change: dict[str, ColumnElement[Any]] = {
        outcome: batches.c[outcome] + done.get(outcome, 0) for outcome in OUTCOMES
    }
    change["processing"] = batches.c.processing - sum(done.values())
    connection.execute(update(batches).where(batches.c.id == batch_id).values(change))


def _place_of(
    connection: Connection, batch_id: str, wanted: Sequence[ColumnElement[bool]], field: str
) -> ColumnElement[Any]:
    place = select(batches.c.created_at, batches.c.id).where(batches.c.id == batch_id, *wanted)
    row = connection.execute(place).first()
    if row is None:
        raise InvalidRequest(f"Message Batch {batch_id} not found.", place=field)
    return tuple_(row.created_at, row.id)


def _values(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "workspace_id": batch.workspace_id,
        "key_id": batch.key_id,
        "dialect": batch.dialect,
        "created_at": to_micros(batch.created_at),
        "expires_at": to_micros(batch.expires_at),
        "cancel_initiated_at": to_micros_or_none(batch.cancel_initiated_at),
        "ended_at": to_micros_or_none(batch.ended_at),
        "archived_at": to_micros_or_none(batch.archived_at),
        "processing": batch.counts.processing,
        **{outcome: getattr(batch.counts, outcome) for outcome in OUTCOMES},
        "input_blob": batch.input_blob,
        "results_blob": batch.results_blob,
    }


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        id=row.id,
        workspace_id=row.workspace_id,
        key_id=row.key_id,
        dialect=row.dialect,
        created_at=from_micros(row.created_at),
        expires_at=from_micros(row.expires_at),
        counts=BatchCounts(row.processing, row.succeeded, row.errored, row.canceled, row.expired),
        input_blob=row.input_blob,
        cancel_initiated_at=from_micros_or_none(row.cancel_initiated_at),
        ended_at=from_micros_or_none(row.ended_at),
        archived_at=from_micros_or_none(row.archived_at),
        results_blob=row.results_blob,
    )


def _claim(row: Row[Any]) -> Claim:
    return Claim(row.batch_id, row.position, BatchedRequest(row.custom_id, row.offset, row.size))
