"""Whether requests should come here: for load balancers and orchestrators."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum

from hokku.protocol.errors import HokkuError
from hokku.service.draining import Drain
from hokku.service.models import Catalogue

_log = logging.getLogger(__name__)
_DATABASE_SECS = 2.0  # one that takes longer to answer is away


class State(StrEnum):
    """What `/readyz` says."""

    READY = "ready"
    LOADING = "loading"
    DRAINING = "draining"
    NO_DATABASE = "database unavailable"


class Readiness:
    """Looks at the models, the database and the end.

    Args:
        look_at_database: returns once the database has answered; blocks. Raises `HokkuError`.
    """

    def __init__(
        self, catalogue: Catalogue, drain: Drain, look_at_database: Callable[[], None] = lambda: None
    ) -> None:
        self._catalogue = catalogue
        self._drain = drain
        self._look_at_database = look_at_database
        self._look: asyncio.Task[bool] | None = None

    async def state(self) -> State:
        """How things stand."""
        if self._drain.is_draining:
            return State.DRAINING
        if not self._catalogue.is_ready:
            return State.LOADING
        return State.READY if await self._database_answers() else State.NO_DATABASE

    async def _database_answers(self) -> bool:
        """One look serves everybody who asks meanwhile: a dead database must not use up the threads."""
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._looked())
        answered, _ = await asyncio.wait({self._look}, timeout=_DATABASE_SECS)
        return bool(answered) and self._look.result()

    async def _looked(self) -> bool:
        try:
            await asyncio.to_thread(self._look_at_database)
        except HokkuError as cause:
            _log.warning("not ready: %s", cause)
            return False
        return True
