"""What every wire is given: the services behind it and how strictly it is to imitate the hosted one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from hokku.protocol.exchange import Observer
from hokku.protocol.records import LedgerEntry
from hokku.service.administration import Administration
from hokku.service.batches import Batches
from hokku.service.call_limits import CallLimits
from hokku.service.files import Files
from hokku.service.jobs import Jobs
from hokku.service.keys import KeyRing
from hokku.service.models import Catalogue
from hokku.service.readiness import Readiness
from hokku.service.replies import Replies
from hokku.service.reports import Reports


class Compatibility(StrEnum):
    """How to treat what the hosted service refuses although this one could serve it."""

    FRIENDLY = "friendly"  # unknown betas pass; sampling parameters work on both API versions
    HOSTED = "hosted"  # refused, as the hosted service does


class MetricsAccess(StrEnum):
    """Who may read `/metrics`."""

    OFF = "off"
    ADMIN = "admin"  # an administrator's key
    THIS_MACHINE = "this machine"  # and whoever asks from this machine, for a server that only it can reach
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """The wires' own settings."""

    compatibility: Compatibility = Compatibility.FRIENDLY
    organization_id: str = "00000000-0000-4000-8000-000000000000"
    max_body_bytes: int = 32 * 1024 * 1024  # wire.md section 1.5
    max_batch_bytes: int = 256 * 1024 * 1024
    ping_interval_secs: float = 15.0
    metrics: MetricsAccess = MetricsAccess.ADMIN


class RendersMetrics(Protocol):
    """All that is measured, for a scrape."""

    def render(self, accept: str) -> tuple[bytes, str]:
        """The text in the format that `accept` asks for, and its content type. Blocks."""


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases that the wires call."""

    messages: Replies
    catalogue: Catalogue
    keys: KeyRing
    reports: Reports
    administration: Administration
    batches: Batches
    readiness: Readiness
    files: Files
    metrics: RendersMetrics | None = None
    observers: Sequence[Observer] = ()  # told of every exchange at its end
    call_limits: CallLimits | None = None  # of the endpoints beside Messages
    book: Callable[[LedgerEntry], None] = lambda _entry: None  # takes the rows of what a wire refuses
    jobs: Jobs | None = None  # batches that lie in buckets; None where there are no such
