"""Workspaces and keys. Of a key only its hash is kept."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, select, update
from sqlalchemy.exc import IntegrityError

from hokku.protocol.errors import InvalidRequest, NotFound
from hokku.protocol.records import ApiKey, KeyStatus, Workspace
from hokku.storage.database import Database
from hokku.storage.moments import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from hokku.storage.schema import api_keys, workspaces

# Made once, because every request asks.
_FIND = select(api_keys).where(api_keys.c.hash == bindparam("key_hash"))


class KeyStore:
    """The statements over `workspaces` and `api_keys`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_workspace(self, workspace: Workspace) -> None:
        """Keep a new one. Raises `InvalidRequest` if its name is taken."""
        values = {"id": workspace.id, "name": workspace.name, "created_at": to_micros(workspace.created_at)}
        try:
            with self._database.write() as connection:
                connection.execute(workspaces.insert().values(values))
        except IntegrityError as cause:
            raise InvalidRequest("there is a workspace of that name", place="name") from cause

    def workspaces(self) -> list[Workspace]:
        """All, oldest first; archived ones too."""
        with self._database.read() as connection:
            rows = connection.execute(select(workspaces).order_by(workspaces.c.created_at, workspaces.c.id))
            return [_workspace(row) for row in rows]

    def workspace(self, id_or_name: str) -> Workspace:
        """One by id or name. Raises `NotFound`."""
        is_it = (workspaces.c.id == id_or_name) | (workspaces.c.name == id_or_name)
        with self._database.read() as connection:
            row = connection.execute(select(workspaces).where(is_it)).first()
        if row is None:
            raise NotFound(f"there is no workspace {id_or_name}")
        return _workspace(row)

    def rename_workspace(self, workspace_id: str, name: str) -> None:
        """Call an open one otherwise. Raises `NotFound`, and `InvalidRequest` if the name is taken."""
        is_it = (workspaces.c.id == workspace_id) & workspaces.c.archived_at.is_(None)
        try:
            with self._database.write() as connection:
                if not connection.execute(update(workspaces).where(is_it).values(name=name)).rowcount:
                    raise NotFound(f"there is no open workspace {workspace_id}")
        except IntegrityError as cause:
            raise InvalidRequest("there is a workspace of that name", place="name") from cause

    def archive_workspace(self, workspace_id: str, now: datetime) -> None:
        """Close a workspace for good, and its keys with it. Raises `NotFound`."""
        with self._database.write() as connection:
            of_it = api_keys.c.workspace_id == workspace_id
            archived = connection.execute(
                update(workspaces)
                .where(workspaces.c.id == workspace_id, workspaces.c.archived_at.is_(None))
                .values(archived_at=to_micros(now))
            )
            if not archived.rowcount:
                raise NotFound(f"there is no open workspace {workspace_id}")
            connection.execute(update(api_keys).where(of_it).values(status="archived"))

    def add_key(self, key: ApiKey, key_hash: bytes) -> None:
        """Keep a new key. Raises `NotFound` if there is no such workspace, or it is archived."""
        values = {
            "id": key.id,
            "workspace_id": key.workspace_id,
            "name": key.name,
            "role": key.role,
            "hash": key_hash,
            "hint": key.hint,
            "status": key.status,
            "created_at": to_micros(key.created_at),
            "expires_at": to_micros_or_none(key.expires_at),
        }
        is_open = select(workspaces.c.id).where(
            workspaces.c.id == key.workspace_id, workspaces.c.archived_at.is_(None)
        )
        with self._database.write() as connection:
            if connection.execute(is_open).first() is None:
                raise NotFound(f"there is no open workspace {key.workspace_id}")
            connection.execute(api_keys.insert().values(values))

    def find(self, key_hash: bytes) -> ApiKey | None:
        """The key of this hash, good or not."""
        row = self._database.first(_FIND, {"key_hash": key_hash})
        return None if row is None else _key(row)

    def all_keys(self) -> Sequence[ApiKey]:
        """All, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id))
            return [_key(row) for row in rows]

    def rename_key(self, key_id: str, name: str) -> None:
        """Say otherwise what a key is for. Raises `NotFound`."""
        with self._database.write() as connection:
            change = update(api_keys).where(api_keys.c.id == key_id).values(name=name)
            if not connection.execute(change).rowcount:
                raise NotFound(f"there is no key {key_id}")

    def set_status(self, key_id: str, status: KeyStatus) -> None:
        """Open or close a key; an archived one stays so. Raises `NotFound`."""
        change = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.status != "archived")
        with self._database.write() as connection:
            if not connection.execute(change.values(status=status)).rowcount:
                raise NotFound(f"there is no key {key_id} that could be changed")


def _workspace(row: Row[Any]) -> Workspace:
    return Workspace(row.id, row.name, from_micros(row.created_at), from_micros_or_none(row.archived_at))


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        workspace_id=row.workspace_id,
        name=row.name,
        role=row.role,
        hint=row.hint,
        status=row.status,
        created_at=from_micros(row.created_at),
        expires_at=from_micros_or_none(row.expires_at),
    )
