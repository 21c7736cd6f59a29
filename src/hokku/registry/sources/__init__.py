"""Where weights come from, one file a source behind one small port."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

# Called with bytes fetched so far and bytes expected (None while unknown).
Progress = Callable[[int, int | None], None]


class Source(Protocol):
    """Fetches the files of one manifest's weights."""

    def fetch(self, into: Path, progress: Progress) -> dict[str, Path]:
        """Fetch every file into the empty folder `into`; the result maps names at the source to files.

        Nothing outside `into` changes and digests are the caller's business. Raises `SourceUnreachable` when
        the source does not answer, `ModelNotFound` when it has no such file, `DiskFull`.
        """
        ...


def no_progress(done_bytes: int, total_bytes: int | None) -> None:
    """For callers that do not watch."""
