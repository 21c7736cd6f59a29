"""Files that a request names by URL, fetched under limits.

A server that fetches what strangers name can be turned against its own network. So by default only https addresses
that the whole internet can reach are asked; every redirect is looked at anew; and the very address that was checked is
the one connected to, so that a name cannot change its meaning in between (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urljoin, urlsplit

import httpcore

from hokku.documents.config import Allowance, FetchConfig, UrlSources
from hokku.protocol.errors import InvalidRequest

UNABLE_TO_DOWNLOAD = "Unable to download the file. Please verify the URL and try again."
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_URL_CHARS = 8_192
# IPv6 addresses that carry an IPv4 address for some gateway to take out again: RFC 6052, 3056 and 4380.
_CARRIERS = tuple(map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A body, and what its server calls it (lower case, without parameters; "" if it does not say)."""

    data: bytes
    media_type: str


class UrlFetcher:
    """Fetches files. One for a server; safe for many requests at once."""

    def __init__(self, config: FetchConfig | None = None) -> None:
        self._config = config or FetchConfig()

    async def fetch(self, url: str, place: str, allowance: Allowance | None = None) -> FetchedFile:
        """The file behind `url`, which the request names at `place`. What comes is taken off the `allowance`, if any.

        Raises:
            InvalidRequest: not a URL that may be asked, no such file, too large, or too slow.
        """
        if self._config.sources is UrlSources.NONE:
            raise InvalidRequest(
                "this server fetches no URLs", place=place, way_out="send the file itself, in base64"
            )
        try:
            until = asyncio.get_running_loop().time() + self._config.total_secs
            allowance = allowance or Allowance(self._config.max_bytes, until)
            async with asyncio.timeout_at(min(until, allowance.until)):
                return await self._follow(url, allowance)
        except (
            _RefusedError,
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
        ) as cause:
            raise InvalidRequest(UNABLE_TO_DOWNLOAD, place=place) from cause
        except (TimeoutError, OSError, ValueError) as cause:
            raise InvalidRequest(UNABLE_TO_DOWNLOAD, place=place) from cause

    async def _follow(self, url: str, allowance: Allowance) -> FetchedFile:
        # A pool a fetch: its connections end with it, and nothing of one client's is there for another.
        async with httpcore.AsyncConnectionPool(network_backend=self._network(), retries=0) as pool:
            for _ in range(self._config.max_redirects + 1):
                self._check(url)
                async with pool.stream("GET", url, headers=_headers(url)) as response:
                    if response.status not in _REDIRECTS:
                        return await self._read(response, allowance)
                    url = urljoin(url, _header(response, b"location"))
        raise _RefusedError("too many redirects")

    def _network(self) -> httpcore.AsyncNetworkBackend:
        network = httpcore.AnyIOBackend()
        return network if self._config.sources is UrlSources.ANY else _PublicNetwork(network)

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        allowed = ("https", "http") if self._config.sources is UrlSources.ANY else ("https",)
        if parts.scheme not in allowed or not parts.hostname or len(url) > _MAX_URL_CHARS:
            raise _RefusedError(f"not a URL of {' or '.join(allowed)}")
        if parts.username or parts.password:
            raise _RefusedError("a URL with a user's name or password in it")

    async def _read(self, response: httpcore.Response, allowance: Allowance) -> FetchedFile:
        if response.status != 200:
            raise _RefusedError(f"status {response.status}")
        if _header(response, b"content-encoding", "identity") != "identity":
            raise _RefusedError("a compressed body, which nobody asked for")
        declared = int(_header(response, b"content-length", "0"))
        if declared > min(self._config.max_bytes, allowance.num_bytes):
            raise _RefusedError("too large")
        data = bytearray()
        async for piece in response.aiter_stream():
            data += piece
            allowance.num_bytes -= len(piece)
            if len(data) > self._config.max_bytes or allowance.num_bytes < 0:
                raise _RefusedError("too large")
        return FetchedFile(bytes(data), _header(response, b"content-type").partition(";")[0].strip().lower())


class _RefusedError(Exception):
    """The fetch ends here; the client is told no more than that it failed."""


class _PublicNetwork(httpcore.AsyncNetworkBackend):
    """Looks a name up once, and connects to an address only if it is public."""

    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        self._network = network

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to the first public address of `host`; TLS still checks the certificate against the name."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(sockaddr[0]) for *_, sockaddr in found]
        public = [address for address in addresses if is_public(address)]
        if not public:
            raise _RefusedError(f"{host} has no public address")
        return await self._network.connect_tcp(public[0], port, timeout, local_address, socket_options)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise _RefusedError("a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """See the network underneath."""
        await self._network.sleep(seconds)


def is_public(address: str) -> bool:
    """Whether an IP address, as text, belongs to the whole internet: not private, local, reserved or a carrier's."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        elif any(ip in carrier for carrier in _CARRIERS):
            return False
    return ip.is_global and not ip.is_multicast


def _headers(url: str) -> list[tuple[str, str]]:
    host = urlsplit(url).netloc
    return [("Host", host), ("User-Agent", "hokku"), ("Accept", "*/*"), ("Accept-Encoding", "identity")]


def _header(response: httpcore.Response, name: bytes, default: str = "") -> str:
    values = (value for key, value in response.headers if key.lower() == name)
    return next(values, default.encode()).decode("latin-1")
