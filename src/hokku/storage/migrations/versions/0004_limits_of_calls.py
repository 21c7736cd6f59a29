"""Limits of calls that ask no model for a reply, and of the batches' queue."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ADDED = (
    "batch_calls_per_minute",
    "file_calls_per_minute",
    "count_calls_per_minute",
    "queued_batch_requests",
)


def upgrade() -> None:
    """Without any, as it was."""
    for name in _ADDED:
        op.add_column("limits", sa.Column(name, sa.BigInteger))


def downgrade() -> None:
    """Forget them."""
    for name in _ADDED:
        op.drop_column("limits", name)
