"""Fetching by URL: what may be asked, and that every limit holds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpcore
import pytest

from hokku.documents.config import Allowance, FetchConfig, UrlSources
from hokku.documents.fetch import (
    UNABLE_TO_DOWNLOAD,
    FetchedFile,
    UrlFetcher,
    _PublicNetwork,
    _RefusedError,
    is_public,
)
from hokku.protocol.errors import InvalidRequest
from tests.documents.site import Answer, dripping, endless, redirect, served, silent, whole

ANYWHERE = FetchConfig(sources=UrlSources.ANY, max_bytes=1_000, total_secs=2.0, max_redirects=2)
PLACE = "messages.0.content.0.image.source"


@pytest.fixture
async def site() -> AsyncIterator[Callable[[dict[str, Answer]], Awaitable[str]]]:
    """Serves answers by path; the base URL."""
    async with AsyncExitStack() as stack:

        async def serve(answers: dict[str, Answer]) -> str:
            return await stack.enter_async_context(served(answers))

        yield serve


async def test_a_file_comes_with_its_type_and_after_redirects(site: Any) -> None:
    base = await site(
        {
            "/a": whole("HTTP/1.1 302 Found\nLocation: /b\nContent-Length: 0"),
            "/b": whole("HTTP/1.1 200 OK\nContent-Type: Image/PNG; q=1\nContent-Length: 3", b"png"),
        }
    )
    assert await UrlFetcher(ANYWHERE).fetch(f"{base}/a", PLACE) == FetchedFile(b"png", "image/png")


@pytest.mark.parametrize(
    "answer",
    [
        whole("HTTP/1.1 404 Not Found\nContent-Length: 0"),
        whole("HTTP/1.1 302 Found\nLocation: /\nContent-Length: 0"),  # for ever
        whole("HTTP/1.1 302 Found\nLocation: file:///etc/passwd\nContent-Length: 0"),
        whole("HTTP/1.1 302 Found\nContent-Length: 0"),
        whole("HTTP/1.1 200 OK\nContent-Length: 1001", b"x" * 1001),
        whole("HTTP/1.1 200 OK\nContent-Length: many", b"x"),
        whole("HTTP/1.1 200 OK\nContent-Length: 5", b"x"),
        whole("HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: 1", b"x"),
        whole("nonsense"),
        endless,
        silent,
        dripping,
    ],
)
async def test_whatever_is_no_file_within_the_limits_is_refused(site: Any, answer: Answer) -> None:
    base = await site({"/": answer})
    with pytest.raises(InvalidRequest) as refusal:
        await UrlFetcher(ANYWHERE).fetch(f"{base}/", PLACE)
    assert (refusal.value.place, refusal.value.message) == (PLACE, UNABLE_TO_DOWNLOAD)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png",
        "ftp://example.com/a.png",
        "https://user:secret@example.com/a.png",
        "https://127.0.0.1/a.png",
        "https://[::1]/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://localhost/a.png",
        "https:///a.png",
        "not a url",
        "https://[",
        "https://example.com/" + "a" * 10_000,
    ],
)
async def test_by_default_only_https_and_only_the_public_internet(url: str) -> None:
    with pytest.raises(InvalidRequest, match=UNABLE_TO_DOWNLOAD):
        await UrlFetcher().fetch(url, PLACE)


async def test_a_server_may_fetch_nothing_at_all() -> None:
    with pytest.raises(InvalidRequest, match="fetches no URLs"):
        await UrlFetcher(FetchConfig(sources=UrlSources.NONE)).fetch("https://example.com/", PLACE)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
    ],
)
def test_which_addresses_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


class Network(httpcore.AsyncNetworkBackend):
    """Notes where it was asked to connect to."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def connect_tcp(self, host: str, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        self.asked.append(host)
        raise httpcore.ConnectError


async def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["10.0.0.1", "93.184.216.34"], ["10.0.0.1"]]

    async def lookup(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, 0, 0, "", (address, 443)) for address in answers.pop(0)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
    inner = Network()
    network = _PublicNetwork(inner)
    with pytest.raises(httpcore.ConnectError):
        await network.connect_tcp("example.com", 443)
    with pytest.raises(_RefusedError):
        await network.connect_tcp("example.com", 443)
    assert inner.asked == ["93.184.216.34"]


@pytest.mark.parametrize("answer", [whole("HTTP/1.1 200 OK\nContent-Length: 600", b"x" * 600), endless])
async def test_all_files_of_a_request_come_out_of_one_allowance(site: Any, answer: Answer) -> None:
    file = whole("HTTP/1.1 200 OK\nContent-Length: 500", b"x" * 500)
    base = await site({"/1": file, "/2": answer})
    allowance = Allowance(1_000, asyncio.get_running_loop().time() + 10)
    await UrlFetcher(ANYWHERE).fetch(f"{base}/1", PLACE, allowance)
    with pytest.raises(InvalidRequest, match=UNABLE_TO_DOWNLOAD):
        await UrlFetcher(ANYWHERE).fetch(f"{base}/2", PLACE, allowance)


async def test_all_files_of_a_request_come_in_one_time(site: Any) -> None:
    base = await site({"/": whole("HTTP/1.1 200 OK\nContent-Length: 1", b"x")})
    with pytest.raises(InvalidRequest, match=UNABLE_TO_DOWNLOAD):
        await UrlFetcher(ANYWHERE).fetch(
            f"{base}/", PLACE, Allowance(1_000, asyncio.get_running_loop().time())
        )


class Guarded(UrlFetcher):
    """Asks public addresses only, but over http: a site made here has no certificate."""

    def _network(self) -> httpcore.AsyncNetworkBackend:
        return _PublicNetwork(httpcore.AnyIOBackend())


async def test_a_redirect_to_a_private_address_is_not_followed(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await site({"/": redirect("http://private.test/")})
    port = int(base.rpartition(":")[2])
    known = {"public.test": "127.0.0.1", "private.test": "10.0.0.1"}
    asked: list[str] = []

    async def lookup(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, 0, 0, "", (known[host], 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)
    monkeypatch.setattr("hokku.documents.fetch.is_public", lambda address: address == "127.0.0.1")
    with pytest.raises(InvalidRequest) as refusal:
        await Guarded(ANYWHERE).fetch(f"http://public.test:{port}/", PLACE)
    assert asked == ["public.test", "private.test"]
    assert str(refusal.value.__cause__) == "private.test has no public address"
