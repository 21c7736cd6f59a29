"""What the front door asks of a wire: which paths are its own, and how everything but a good answer looks on them.

A good answer is made by the wire's own routes. What goes wrong anywhere, on paths that nobody serves too, comes to the
front door (`http.py`) as an exception, and is answered as the wire says whose path it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.routing import Route

from hokku.protocol.errors import RequestError

INTERNAL_MESSAGE = "Internal server error"
MAX_MESSAGE_CHARS = 2_000


class Wire(ABC):
    """One HTTP dialect.

    `prefixes` are where its paths begin, whole segments each: `/model` has `/model` and `/model/x`, not `/models`. The
    wire without any has the paths that no other has. `exposed_headers` are those of its answers that a web page from
    elsewhere may read.
    """

    prefixes: ClassVar[tuple[str, ...]]
    exposed_headers: ClassVar[tuple[str, ...]]

    @abstractmethod
    def routes(self) -> list[Route]:
        """Every route of this wire, each below one of its prefixes."""

    @abstractmethod
    def new_request_id(self) -> str:
        """An id for a request, as logs, ledger and answer name it."""

    @abstractmethod
    def error_type(self, error: Exception) -> str:
        """This wire's word for a kind of failure, for metrics and logs: one of few, without a part of the request."""

    @abstractmethod
    def error_response(self, error: Exception, request_id: str, status: int | None = None) -> Response:
        """A whole error reply. `status` overrides the usual one, for 405. Internals never show: see
        `public_message`."""

    @abstractmethod
    def finish_headers(self, headers: MutableHeaders, request_id: str) -> None:
        """Add what every response of this wire carries, errors and streams included."""

    def owns(self, path: str) -> bool:
        """Whether a path lies below one of the prefixes."""
        return any(path == prefix or path.startswith(prefix + "/") for prefix in self.prefixes)


def wire_of(path: str, wires: Sequence[Wire]) -> Wire:
    """Whose path it is; the last of the wires has what no other has."""
    return next((wire for wire in wires if wire.owns(path)), wires[-1])


def public_message(error: Exception) -> str:
    """What a client may read of a failure, in one bounded sentence: only a `RequestError` speaks for itself."""
    if not isinstance(error, RequestError):
        return INTERNAL_MESSAGE
    sentence = f"{error.place}: {error.message}" if error.place else error.message
    # It may quote the request, which can be megabytes.
    return sentence if len(sentence) <= MAX_MESSAGE_CHARS else sentence[:MAX_MESSAGE_CHARS] + "…"
