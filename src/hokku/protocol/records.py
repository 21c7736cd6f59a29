"""What the platform remembers: workspaces, keys, and the ledger of what every request used.

Times are UTC. Money is in micro-cents, a millionth of a US cent, and always a whole number of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)  # of the microseconds that stores count in
MICROSECOND = timedelta(microseconds=1)
DEFAULT_WORKSPACE_ID = "wrkspc_default"  # of the settings' own keys
KeyRole = Literal["user", "admin"]
KeyStatus = Literal["active", "inactive", "archived"]
ServiceTier = Literal["standard", "batch"]
Outcome = Literal["succeeded", "canceled", "errored", "expired"]
TokenKind = Literal["input", "output", "cache_write_5m", "cache_write_1h", "cache_read"]
TOKEN_KINDS: tuple[TokenKind, ...] = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")


@dataclass(frozen=True, slots=True)
class Workspace:
    """A scope of its own: keys, caches, batches, files and usage of one are invisible to every other."""

    id: str
    name: str
    created_at: datetime
    archived_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key besides its hash. An admin's key belongs to the whole installation."""

    id: str
    workspace_id: str
    name: str
    role: KeyRole
    hint: str  # its beginning and end, for people to tell keys apart
    status: KeyStatus
    created_at: datetime
    expires_at: datetime | None = None

    def is_good(self, now: datetime) -> bool:
        """Whether the key opens anything at this moment."""
        return self.status == "active" and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file that a client has sent. Its bytes are in a blob, until it expires."""

    id: str
    workspace_id: str
    filename: str
    media_type: str
    num_bytes: int
    sha256: str
    blob: str | None  # None: they have been removed
    created_at: datetime
    expires_at: datetime | None = None

    def is_expired(self, now: datetime) -> bool:
        """Whether only its metadata may still be seen."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """What one request used and what it cost. Written once, never changed."""

    at: datetime
    request_id: str  # "" of a batch's request that nobody has begun
    workspace_id: str
    key_id: str | None  # None: a key of the settings, which the database does not know
    model: str  # "" where it came to none: refused before, canceled or expired
    tier: ServiceTier
    outcome: Outcome
    tokens: Mapping[TokenKind, int]
    micro_cents: Mapping[TokenKind, int]
    batch_id: str | None = None
    batch_position: int | None = None


@dataclass(frozen=True, slots=True)
class LimitRule:
    """How much may be used; None is as much as one likes.

    `workspace_id` None: everybody together. `model` None: each model that has no rule of its own. Money is for the
    calendar month and all models, and what follows it is for no model, so a rule for one model has none of these.
    """

    workspace_id: str | None
    model: str | None
    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    micro_cents_per_month: int | None = None
    batch_calls_per_minute: int | None = None  # of all endpoints of Message Batches
    file_calls_per_minute: int | None = None
    count_calls_per_minute: int | None = None  # of the endpoint that counts tokens
    queued_batch_requests: int | None = None  # requests of batches without a result


@dataclass(frozen=True, slots=True)
class Level:
    """A bucket after a take: what is left, and when it will be full again if nobody takes more."""

    limit: int
    remaining: int
    full_at: datetime


@dataclass(frozen=True, slots=True)
class RateLevels:
    """The tightest bucket of each kind that applies, None where there is no limit."""

    requests: Level | None = None
    input_tokens: Level | None = None
    output_tokens: Level | None = None


Dimension = Literal["key_id", "workspace_id", "model", "tier"]
BucketWidth = Literal["1m", "1h", "1d"]
BUCKET_SECS: Mapping[BucketWidth, int] = {"1m": 60, "1h": 3_600, "1d": 86_400}


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which part of the ledger to sum up, and how finely.

    `starting_at` and `ending_at` are whole buckets, the end exclusive. `only` keeps entries whose dimension has one
    of the values; None among them is a key of the settings.
    """

    starting_at: datetime
    ending_at: datetime
    width: BucketWidth = "1d"
    group_by: tuple[Dimension, ...] = ()
    only: Mapping[Dimension, tuple[str | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Everything of one bucket and one group. `group` has the dimensions that were asked for."""

    starting_at: datetime
    group: Mapping[Dimension, str | None]
    num_requests: int
    tokens: Mapping[TokenKind, int]
    micro_cents: Mapping[TokenKind, int]
