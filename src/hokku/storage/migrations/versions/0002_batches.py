"""Message Batches and their requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_MOMENTS = ("cancel_initiated_at", "ended_at", "archived_at")
_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "batches",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("workspace_id", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64)),
        sa.Column("dialect", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger) for name in _MOMENTS),
        *(sa.Column(name, sa.Integer, nullable=False) for name in _COUNTS),
        sa.Column("input_blob", sa.String(255), nullable=False),
        sa.Column("results_blob", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
    )
    op.create_index("ix_batches_workspace_id_created_at_id", "batches", ["workspace_id", "created_at", "id"])
    op.create_index("ix_batches_ended_at", "batches", ["ended_at"])
    op.create_table(
        "batch_requests",
        sa.Column("batch_id", sa.String(64), nullable=False),
        sa.Column("position", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("custom_id", sa.String(64), nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("claimed_by", sa.String(64)),
        sa.Column("claimed_until", sa.BigInteger),
        sa.Column("outcome", sa.String(16)),
        sa.Column("result", sa.Text),
        sa.PrimaryKeyConstraint("batch_id", "position", name="pk_batch_requests"),
        sa.ForeignKeyConstraint(["batch_id"], ["batches.id"], name="fk_batch_requests_batch_id"),
    )
    op.create_index(
        "ix_batch_requests_batch_id_outcome_position", "batch_requests", ["batch_id", "outcome", "position"]
    )
    op.create_index("ix_batch_requests_claimed_by", "batch_requests", ["claimed_by"])


def downgrade() -> None:
    """Forget them."""
    op.drop_table("batch_requests")
    op.drop_table("batches")
