"""What administrators see and change: workspaces and the keys to them. `hokku workspaces` and `hokku keys` do the same
from the terminal; making keys is left to it, as to the hosted service's console.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from hokku.protocol.errors import NotFound
from hokku.protocol.records import DEFAULT_WORKSPACE_ID, ApiKey, KeyStatus, LimitRule, Workspace
from hokku.service.key_making import new_workspace

T = TypeVar("T")


class KeyRows(Protocol):
    """Workspaces and keys. Every verb blocks, and raises `StorageUnavailable`."""

    def add_workspace(self, workspace: Workspace) -> None:
        """Keep a new one. Raises `InvalidRequest` if its name is taken."""

    def workspaces(self) -> list[Workspace]:
        """All, oldest first; archived ones too."""

    def rename_workspace(self, workspace_id: str, name: str) -> None:
        """Raises `NotFound` for one that is archived or was never, `InvalidRequest` if the name is taken."""

    def archive_workspace(self, workspace_id: str, now: datetime) -> None:
        """Close one for good, and its keys with it. Raises `NotFound`."""

    def all_keys(self) -> Sequence[ApiKey]:
        """All, oldest first."""

    def rename_key(self, key_id: str, name: str) -> None:
        """Raises `NotFound`."""

    def set_status(self, key_id: str, status: KeyStatus) -> None:
        """Open or close a key; an archived one stays so. Raises `NotFound`."""


class Rules(Protocol):
    """The operator's rules. Blocks."""

    def rules(self) -> list[LimitRule]:
        """All of them. Raises `StorageUnavailable`."""


class OpensKeyRows(Protocol):
    """Opens the database when it is first needed."""

    @property
    def keys(self) -> KeyRows:
        """The opened workspaces and keys. Raises `StorageUnavailable`."""

    @property
    def limits(self) -> Rules:
        """The opened rules. Raises `StorageUnavailable`."""


class Administration:
    """The use cases. The default workspace is no object of its own here: it has neither a name to change nor an end."""

    def __init__(self, storage: OpensKeyRows) -> None:
        self._storage = storage

    async def workspaces(self, *, with_archived: bool) -> list[Workspace]:
        """Newest first."""
        found = await self._ask(lambda rows: rows.workspaces())
        return [
            each
            for each in reversed(found)
            if each.id != DEFAULT_WORKSPACE_ID and (with_archived or each.archived_at is None)
        ]

    async def workspace(self, workspace_id: str) -> Workspace:
        """One, archived or not. Raises `NotFound`."""
        found = [each for each in await self.workspaces(with_archived=True) if each.id == workspace_id]
        if not found:
            raise NotFound("Workspace not found.")
        return found[0]

    async def make_workspace(self, name: str) -> Workspace:
        """A new one. Raises `InvalidRequest` if the name is taken."""
        workspace = new_workspace(name)
        await self._ask(lambda rows: rows.add_workspace(workspace))
        return workspace

    async def rename_workspace(self, workspace_id: str, name: str) -> Workspace:
        """Raises `NotFound` for one that is archived, `InvalidRequest` if the name is taken."""
        await self.workspace(workspace_id)
        await self._ask(lambda rows: rows.rename_workspace(workspace_id, name))
        return await self.workspace(workspace_id)

    async def archive_workspace(self, workspace_id: str) -> Workspace:
        """Close one for good, and its keys with it. Raises `NotFound`; one that is archived stays as it is."""
        workspace = await self.workspace(workspace_id)
        if workspace.archived_at is None:
            await self._ask(lambda rows: rows.archive_workspace(workspace_id, datetime.now(UTC)))
        return await self.workspace(workspace_id)

    async def keys(self) -> list[ApiKey]:
        """Newest first."""
        return list(reversed(await self._ask(lambda rows: rows.all_keys())))

    async def key(self, key_id: str) -> ApiKey:
        """One. Raises `NotFound`."""
        found = [each for each in await self.keys() if each.id == key_id]
        if not found:
            raise NotFound("API key not found.")
        return found[0]

    async def change_key(self, key_id: str, name: str | None, status: KeyStatus | None) -> ApiKey:
        """Change what is given. Raises `NotFound`, also for the status of an archived one."""
        await self.key(key_id)
        if status is not None:
            await self._ask(lambda rows: rows.set_status(key_id, status))
        if name is not None:
            await self._ask(lambda rows: rows.rename_key(key_id, name))
        return await self.key(key_id)

    async def rules(self) -> list[LimitRule]:
        """The limits that the operator has set."""
        return await asyncio.to_thread(lambda: self._storage.limits.rules())

    async def _ask(self, verb: Callable[[KeyRows], T]) -> T:
        return await asyncio.to_thread(lambda: verb(self._storage.keys))
