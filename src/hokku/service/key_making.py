"""New keys and workspaces. A key is shown to whoever makes it, once; what is kept cannot be turned back into it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from hokku.protocol.records import ApiKey, KeyRole, Workspace
from hokku.service.ids import random_id


def new_workspace(name: str, now: datetime | None = None) -> Workspace:
    """A workspace with a fresh id."""
    return Workspace(random_id("wrkspc_01", 22), name, now or datetime.now(UTC))


def new_key(
    name: str,
    workspace_id: str,
    role: KeyRole,
    lifetime: timedelta | None = None,
    now: datetime | None = None,
) -> tuple[str, ApiKey]:
    """A fresh secret, 256 bits of chance, and what is to be remembered of it besides its hash."""
    made_at = now or datetime.now(UTC)
    secret = f"sk-hokku-{'admin-' if role == 'admin' else ''}{secrets.token_urlsafe(32)}"
    key = ApiKey(
        id=random_id("apikey_01", 22),
        workspace_id=workspace_id,
        name=name,
        role=role,
        hint=f"{secret[:12]}…{secret[-4:]}",
        status="active",
        created_at=made_at,
        expires_at=made_at + lifetime if lifetime else None,
    )
    return secret, key
