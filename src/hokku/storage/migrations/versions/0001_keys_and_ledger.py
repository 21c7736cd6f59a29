"""Workspaces, keys, limits, the ledger and its roll-ups."""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_COUNTER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_KINDS = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")


def _amounts() -> list[sa.Column[int]]:
    return [
        sa.Column(f"{kind}_{unit}", sa.BigInteger, nullable=False)
        for unit in ("tokens", "micro_cents")
        for kind in _KINDS
    ]


def upgrade() -> None:
    """Make the tables."""
    workspaces = op.create_table(
        "workspaces",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("archived_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_workspaces"),
        sa.UniqueConstraint("name", name="uq_workspaces_name"),
    )
    # Of the keys of the settings, and of every key that is made for no other.
    made_at = int(time.time() * 1_000_000)
    op.bulk_insert(workspaces, [{"id": "wrkspc_default", "name": "default", "created_at": made_at}])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("workspace_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("hint", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("hash", name="uq_api_keys_hash"),
        sa.ForeignKeyConstraint(["workspace_id"], ["workspaces.id"], name="fk_api_keys_workspace_id"),
    )
    op.create_table(
        "limits",
        sa.Column("workspace_id", sa.String(64), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("requests_per_minute", sa.BigInteger),
        sa.Column("input_tokens_per_minute", sa.BigInteger),
        sa.Column("output_tokens_per_minute", sa.BigInteger),
        sa.Column("micro_cents_per_month", sa.BigInteger),
        sa.PrimaryKeyConstraint("workspace_id", "model", name="pk_limits"),
    )
    op.create_table(
        "ledger",
        sa.Column("id", _COUNTER, nullable=False, autoincrement=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.Column("workspace_id", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("tier", sa.String(16), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        *_amounts(),
        sa.Column("batch_id", sa.String(64)),
        sa.Column("batch_position", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_ledger"),
        sa.UniqueConstraint("batch_id", "batch_position", name="uq_ledger_batch_id_batch_position"),
    )
    op.create_index("ix_ledger_at", "ledger", ["at"])
    for name in ("usage_hours", "usage_days"):
        op.create_table(
            name,
            sa.Column("start", sa.BigInteger, nullable=False),
            sa.Column("workspace_id", sa.String(64), nullable=False),
            sa.Column("key_id", sa.String(64), nullable=False),
            sa.Column("model", sa.String(256), nullable=False),
            sa.Column("tier", sa.String(16), nullable=False),
            sa.Column("num_requests", sa.BigInteger, nullable=False),
            *_amounts(),
            sa.PrimaryKeyConstraint("start", "workspace_id", "key_id", "model", "tier", name=f"pk_{name}"),
        )


def downgrade() -> None:
    """Forget everything."""
    for name in ("usage_days", "usage_hours", "ledger", "limits", "api_keys", "workspaces"):
        op.drop_table(name)
