"""Message Batches as values: a batch, its counts, and what becomes of each of its requests.

A request is known by its place in the order in which the batch works; its body lies in the batch's input, a blob, from
`offset` on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from hokku.protocol.records import LedgerEntry, TokenKind

BatchStatus = Literal["in_progress", "canceling", "ended"]
UnansweredOutcome = Literal["canceled", "expired"]
RequestOutcome = Literal["succeeded", "errored"] | UnansweredOutcome
OUTCOMES: tuple[RequestOutcome, ...] = ("succeeded", "errored", "canceled", "expired")


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """How many requests of a batch are where; together, all of them."""

    processing: int
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0

    @property
    def total(self) -> int:
        """Requests of the batch."""
        return self.processing + self.succeeded + self.errored + self.canceled + self.expired


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch, as everybody may know it."""

    id: str
    workspace_id: str
    key_id: str | None  # of whoever made it, as in the ledger
    dialect: str  # how the wire that took it in is to read its requests
    created_at: datetime
    expires_at: datetime
    counts: BatchCounts
    input_blob: str
    cancel_initiated_at: datetime | None = None
    ended_at: datetime | None = None
    archived_at: datetime | None = None
    results_blob: str | None = None

    @property
    def status(self) -> BatchStatus:
        """Where it stands."""
        if self.ended_at is not None:
            return "ended"
        return "in_progress" if self.cancel_initiated_at is None else "canceling"


@dataclass(frozen=True, slots=True)
class BatchedRequest:
    """One request of a batch: the client's name for it, and where its body lies in the input, in bytes."""

    custom_id: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that a runner has taken on for a while."""

    batch_id: str
    position: int
    request: BatchedRequest


@dataclass(frozen=True, slots=True)
class Answer:
    """What has become of a claimed request: the result as JSON, and its row of the ledger."""

    position: int
    outcome: Literal["succeeded", "errored"]
    result: str
    entry: LedgerEntry
    secs: float  # how long it took


@dataclass(frozen=True, slots=True)
class Settlement:
    """Where a batch stands that is to end: whether every request of it is done, and how many have just been concluded
    without an answer."""

    is_done: bool
    outcome: UnansweredOutcome | None = None  # of those without an answer; None where the batch goes on
    num_concluded: int = 0


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Requests of batches that have come to the same end, as those see it who watch the service."""

    model_id: str  # "" where they came to none
    outcome: RequestOutcome
    number: int = 1
    tokens: Mapping[TokenKind, int] = field(default_factory=dict)
    secs: float | None = None  # how long the answer took; None where there was none


BatchObserver = Callable[[Conclusion], None]  # told by one thread at a time; it must return at once


@dataclass(frozen=True, slots=True)
class ResultLine:
    """What has become of a request that is done. `result` is None where the outcome says everything."""

    position: int
    custom_id: str
    outcome: RequestOutcome
    result: str | None
