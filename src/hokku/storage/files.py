"""What clients have uploaded; the bytes are blobs, whose names stand here.

A row is written after its blob and removed before it, so that what a row names is always there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, select, tuple_, update

from hokku.protocol.errors import InvalidRequest
from hokku.protocol.records import UploadedFile
from hokku.storage.database import Database
from hokku.storage.moments import from_micros, from_micros_or_none, to_micros, to_micros_or_none
from hokku.storage.schema import files

_QUOTA_LOCK = 0x486F6B6B7546  # "HokkuF"; two uploads into the last free bytes take turns
_MOST_NAMES = 500  # of one statement; SQLite takes some thousands, older releases fewer


class FileStore:
    """The statements over `files`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, file: UploadedFile, max_total_bytes: int) -> None:
        """Keep a new one. Raises `InvalidRequest` if all files together would have more than `max_total_bytes`."""
        with self._database.write() as connection:
            if not self._database.is_sqlite:  # whose writers take turns anyway
                connection.execute(select(func.pg_advisory_xact_lock(_QUOTA_LOCK)))
            if _total_bytes(connection) + file.num_bytes > max_total_bytes:
                raise InvalidRequest(
                    f"All files together may have {max_total_bytes} bytes; delete some to make room.",
                    error_code="storage_quota_exceeded",
                )
            connection.execute(files.insert().values(_values(file)))

    def file(self, file_id: str, workspace_id: str) -> UploadedFile | None:
        """One of a workspace's, expired or not."""
        found = self.some([file_id], workspace_id)
        return found[0] if found else None

    def some(self, file_ids: Collection[str], workspace_id: str) -> list[UploadedFile]:
        """Those of these that the workspace has, newest first."""
        return self._select(files.c.workspace_id == workspace_id, files.c.id.in_(file_ids))

    def page(
        self,
        workspace_id: str,
        limit: int,
        *,
        after: tuple[datetime, str] | None = None,
        before: tuple[datetime, str] | None = None,
    ) -> tuple[list[UploadedFile], bool]:
        """Some of a workspace's, newest first, and whether there are more in the direction of reading.

        Args:
            after: only what is older than this moment and id; the newest of it.
            before: only what is newer; the oldest of it.
        """
        place = tuple_(files.c.created_at, files.c.id)
        wanted = [files.c.workspace_id == workspace_id]
        if after is not None:
            wanted.append(place < _place(after))
        if before is not None:
            wanted.append(place > _place(before))
        found = self._select(*wanted, limit=limit + 1, is_newest_first=before is None)
        page = found[:limit]
        return (page if before is None else page[::-1]), len(found) > limit

    def remove(self, file_id: str, workspace_id: str) -> UploadedFile | None:
        """Forget one of a workspace's. What it was, or None if there is none."""
        is_it = (files.c.id == file_id) & (files.c.workspace_id == workspace_id)
        with self._database.write() as connection:
            row = connection.execute(select(files).where(is_it)).first()
            connection.execute(delete(files).where(is_it))
        return None if row is None else _file(row)

    def expire(self, now: datetime) -> list[str]:
        """Part the expired from their blobs; the blobs' names."""
        is_over = files.c.blob.is_not(None) & (files.c.expires_at <= to_micros(now))
        with self._database.write() as connection:
            blobs = connection.execute(select(files.c.blob).where(is_over)).scalars().all()
            for some in _slices(blobs):
                connection.execute(update(files).where(files.c.blob.in_(some)).values(blob=None))
        return [str(blob) for blob in blobs]

    def forget(self, before: datetime) -> None:
        """Forget files that expired before this moment."""
        with self._database.write() as connection:
            connection.execute(
                delete(files).where(files.c.blob.is_(None), files.c.expires_at < to_micros(before))
            )

    def known_blobs(self, names: Collection[str]) -> set[str]:
        """Those of these blobs that a file has."""
        found: set[str] = set()
        with self._database.read() as connection:
            for some in _slices(tuple(names)):
                rows = connection.execute(select(files.c.blob).where(files.c.blob.in_(some)))
                found.update(str(row.blob) for row in rows)
        return found

    def total_bytes(self) -> int:
        """Of all files whose bytes are there."""
        with self._database.read() as connection:
            return _total_bytes(connection)

    def _select(
        self, *wanted: ColumnElement[bool], limit: int | None = None, is_newest_first: bool = True
    ) -> list[UploadedFile]:
        columns = (files.c.created_at, files.c.id)
        order = [column.desc() if is_newest_first else column.asc() for column in columns]
        statement = select(files).where(*wanted).order_by(*order).limit(limit)
        with self._database.read() as connection:
            return [_file(row) for row in connection.execute(statement)]


def _slices(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + _MOST_NAMES] for start in range(0, len(names), _MOST_NAMES))


def _total_bytes(connection: Connection) -> int:
    total = select(func.sum(files.c.num_bytes)).where(files.c.blob.is_not(None))
    return int(connection.execute(total).scalar() or 0)


def _place(moment_and_id: tuple[datetime, str]) -> Any:
    moment, file_id = moment_and_id
    return tuple_(to_micros(moment), file_id)


def _values(file: UploadedFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "workspace_id": file.workspace_id,
        "filename": file.filename,
        "media_type": file.media_type,
        "num_bytes": file.num_bytes,
        "sha256": file.sha256,
        "blob": file.blob,
        "created_at": to_micros(file.created_at),
        "expires_at": to_micros_or_none(file.expires_at),
    }


def _file(row: Row[Any]) -> UploadedFile:
    return UploadedFile(
        id=row.id,
        workspace_id=row.workspace_id,
        filename=row.filename,
        media_type=row.media_type,
        num_bytes=row.num_bytes,
        sha256=row.sha256,
        blob=row.blob,
        created_at=from_micros(row.created_at),
        expires_at=from_micros_or_none(row.expires_at),
    )
