"""What a server does now and then beside its requests, on one thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from hokku.protocol.errors import StorageUnavailable

_log = logging.getLogger(__name__)


class Chores:
    """Does each chore at the start and then once every `every_secs`; one that fails is tried again the next time.

    Args:
        chores: by what the log calls them. Each is told the time.
    """

    def __init__(self, chores: Mapping[str, Callable[[datetime], None]], every_secs: float = 3_600) -> None:
        self._chores = chores
        self._every_secs = every_secs
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hokku-chores", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_secs: float = 10.0) -> None:
        """End after the chore under way. Harmless before `start`."""
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join(timeout_secs)

    def _run(self) -> None:
        while True:
            for name, chore in self._chores.items():
                if not self._is_over.is_set():
                    self._do(name, chore)
            if self._is_over.wait(self._every_secs):
                return

    def _do(self, name: str, chore: Callable[[datetime], None]) -> None:
        try:
            chore(datetime.now(UTC))
        except StorageUnavailable as cause:
            _log.warning("%s: %s", name, cause)
        except Exception:
            _log.exception("%s failed", name)
