"""What may be attached and how much of it: the settings and limits of this room.

They stand apart from the code that keeps them, so that whoever only names a limit does not load what reads files.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PDF_TYPE = "application/pdf"
TEXT_TYPE = "text/plain"
IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")


class UrlSources(StrEnum):
    """Which URLs of clients this server fetches."""

    PUBLIC = "public"  # https, addresses that the whole internet can reach
    ANY = "any"  # http too, and the server's own network: only where every client is trusted
    NONE = "none"


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """Limits of one fetch."""

    sources: UrlSources = UrlSources.PUBLIC
    max_bytes: int = 32 << 20
    total_secs: float = 15.0  # look-ups, redirects and the whole body
    max_redirects: int = 3


@dataclass(slots=True)
class Allowance:
    """What one request may still have fetched, however many URLs it names."""

    num_bytes: int
    until: float  # the event loop's time


@dataclass(frozen=True, slots=True)
class WorkersConfig:
    """What reading strangers' files may take."""

    max_memory_bytes: int = 1 << 30  # of one process
    max_pixel_bytes: int = 128 << 20  # that a model is shown of one file
    max_cpu_secs: int = 20  # of one file
    max_secs: int = 80  # of one file, on a machine that is busy with others
    max_at_once: int = 1  # each takes a core from the engine
    # How long a process, its library loaded, waits for the next image, which then need not wait for it. 0: none does.
    spare_secs: float = 0.0


@dataclass(frozen=True, slots=True)
class PdfConfig:
    """Limits of one PDF."""

    max_pages: int = 100
    max_chars: int = 8_000_000  # of text; more than any window holds


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """Limits of one image, in pixels (wire.md section 12.1)."""

    max_edge: int = 8_000
    max_edge_of_many: int = 2_000
