"""The tables. `migrations/` brings a database to this form; a test holds the two against each other.

Moments are microseconds since 1970 in UTC, so that both databases order and compare them alike and keep every digit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from hokku.protocol.records import TOKEN_KINDS

# Constraints have names, so that a migration can change them on either database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite counts up only where the column is called exactly INTEGER.
_COUNTER = BigInteger().with_variant(Integer, "sqlite")


def _amounts() -> Iterator[Column[Any]]:
    """Tokens and micro-cents of each kind."""
    for kind in TOKEN_KINDS:
        yield Column(f"{kind}_tokens", BigInteger, nullable=False)
    for kind in TOKEN_KINDS:
        yield Column(f"{kind}_micro_cents", BigInteger, nullable=False)


workspaces = Table(
    "workspaces",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("archived_at", BigInteger),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("workspace_id", ForeignKey("workspaces.id"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("role", String(16), nullable=False),
    Column("hash", LargeBinary(32), nullable=False, unique=True),
    Column("hint", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
)

# "" stands for everybody, and for every model: a primary key has no nulls.
limits = Table(
    "limits",
    metadata,
    Column("workspace_id", String(64), primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("requests_per_minute", BigInteger),
    Column("input_tokens_per_minute", BigInteger),
    Column("output_tokens_per_minute", BigInteger),
    Column("micro_cents_per_month", BigInteger),
    Column("batch_calls_per_minute", BigInteger),
    Column("file_calls_per_minute", BigInteger),
    Column("count_calls_per_minute", BigInteger),
    Column("queued_batch_requests", BigInteger),
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", _COUNTER, primary_key=True, autoincrement=True),
    Column("at", BigInteger, nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("workspace_id", String(64), nullable=False),
    Column("key_id", String(64)),
    Column("model", String(256), nullable=False),
    Column("tier", String(16), nullable=False),
    Column("outcome", String(16), nullable=False),
    *_amounts(),
    Column("batch_id", String(64)),
    Column("batch_position", Integer),
    # A batch's request is booked once, whatever is started again how often.
    UniqueConstraint("batch_id", "batch_position"),
    Index(None, "at"),
)


def _roll_up(name: str) -> Table:
    """Sums of the ledger over a span that `start` begins. `key_id` is "" for keys of the settings: a primary key has no
    nulls."""
    return Table(
        name,
        metadata,
        Column("start", BigInteger, primary_key=True, autoincrement=False),
        Column("workspace_id", String(64), primary_key=True),
        Column("key_id", String(64), primary_key=True),
        Column("model", String(256), primary_key=True),
        Column("tier", String(16), primary_key=True),
        Column("num_requests", BigInteger, nullable=False),
        *_amounts(),
    )


files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("workspace_id", String(64), nullable=False),
    Column("filename", String(255), nullable=False),
    Column("media_type", String(255), nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("blob", String(64), unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    # The order of lists.
    Index(None, "workspace_id", "created_at", "id"),
)

usage_hours = _roll_up("usage_hours")
usage_days = _roll_up("usage_days")

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("workspace_id", String(64), nullable=False),
    Column("key_id", String(64)),
    Column("dialect", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("cancel_initiated_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("archived_at", BigInteger),
    Column("processing", Integer, nullable=False),
    Column("succeeded", Integer, nullable=False),
    Column("errored", Integer, nullable=False),
    Column("canceled", Integer, nullable=False),
    Column("expired", Integer, nullable=False),
    Column("input_blob", String(255), nullable=False),
    Column("results_blob", String(255)),
    Index(None, "workspace_id", "created_at", "id"),
    Index(None, "ended_at"),
)

# Requests of batches that have not ended; the results of the others are in a blob.
batch_requests = Table(
    "batch_requests",
    metadata,
    Column("batch_id", ForeignKey("batches.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("custom_id", String(64), nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),
    Column("claimed_by", String(64)),
    Column("claimed_until", BigInteger),
    Column("outcome", String(16)),
    Column("result", Text),
    # Finds the next ones to do without looking at all that are done.
    Index(None, "batch_id", "outcome", "position"),
    Index(None, "claimed_by"),
)
