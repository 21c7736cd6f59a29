"""Files that were uploaded before, as requests name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FileContent:
    """What an uploaded file holds, and what its uploader called it."""

    data: bytes
    media_type: str


class FileStore(Protocol):
    """Where uploaded files are kept. A workspace sees its own only."""

    async def content(self, file_id: str, workspace_id: str) -> FileContent | None:
        """The file, or None where the workspace has none of that id."""


class NoFiles:
    """The store of a server without a Files API: nothing was ever uploaded."""

    async def content(self, file_id: str, workspace_id: str) -> FileContent | None:
        """None."""
        return None
