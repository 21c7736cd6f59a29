"""What every wire is given: the services behind it and how strictly it is to imitate the hosted one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hokku.service.keys import KeyRing
from hokku.service.models import Catalogue
from hokku.service.replies import Replies
from hokku.service.reports import Reports


class Compatibility(StrEnum):
    """How to treat what the hosted service refuses although this one could serve it."""

    FRIENDLY = "friendly"  # unknown betas pass; sampling parameters work on both API versions
    HOSTED = "hosted"  # refused, as the hosted service does


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """The wires' own settings."""

    compatibility: Compatibility = Compatibility.FRIENDLY
    organization_id: str = "00000000-0000-4000-8000-000000000000"
    max_body_bytes: int = 32 * 1024 * 1024  # wire.md section 1.5
    ping_interval_secs: float = 15.0


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases that the wires call."""

    messages: Replies
    catalogue: Catalogue
    keys: KeyRing
    reports: Reports
