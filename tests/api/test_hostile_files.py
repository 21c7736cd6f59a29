"""Files and URLs that mean harm, sent to a live server: each is answered at a bounded cost, and hurts nobody else."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.documents.config import FetchConfig, UrlSources, WorkersConfig
from hokku.service.attachments import Attachments, AttachmentsConfig
from tests.api.conftest import HEADERS, services_of
from tests.api.test_attachments import by_url, document, image, inline, paged
from tests.api.test_body_errors import GOOD, user
from tests.documents.pdfs import bomb, circular_tree, claims, nested_arrays, nested_tree, pdf
from tests.documents.pictures import TILINGS, animation, bare_png, picture
from tests.documents.site import Answer, dripping, endless, file, redirect, served
from tests.fakes import FakeEngine, says
from tests.live import live_server

Fields = dict[str, Any]
IMAGE = "messages.0.content.0.image"
DATA = f"{IMAGE}.source.base64.data"
TOO_LARGE = "At least one of the image dimensions exceed max allowed size"
MANY = "for many-image requests: 2000 pixels"
SINGLE = TILINGS[0]
UNABLE = "Unable to download the file. Please verify the URL and try again."
CONFIG = AttachmentsConfig(
    fetch=FetchConfig(UrlSources.ANY, total_secs=3.0),
    workers=WorkersConfig(max_memory_bytes=512 << 20, max_cpu_secs=2),
)


def pdf_of(data: bytes) -> Fields:
    return document(inline("application/pdf", data))


@pytest.fixture(scope="module")
def live_engine() -> Iterator[FakeEngine]:
    engine = FakeEngine(context_window_tokens=100_000)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def open_url(live_engine: FakeEngine) -> Iterator[str]:
    """A server that fetches anything."""
    services = services_of(live_engine, attachments=Attachments(CONFIG))
    with live_server(create_app(services, ApiConfig())) as url:
        yield url


@pytest.fixture(scope="module")
def seeing_url(live_engine: FakeEngine) -> Iterator[str]:
    """A server as operators find it, whose model sees."""
    with live_server(create_app(services_of(live_engine, tiling=SINGLE), ApiConfig())) as url:
        yield url


@pytest.fixture(scope="module")
def careful_url(live_engine: FakeEngine) -> Iterator[str]:
    """A server as operators find it."""
    with live_server(create_app(services_of(live_engine), ApiConfig())) as url:
        yield url


def client_at(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=60)


@pytest.fixture
async def client(open_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_at(open_url) as client:
        yield client
        response = await client.post("/v1/messages", json=GOOD | user([paged("Still there?")]))
        assert response.status_code == 200, response.text


@pytest.fixture
async def seeing(seeing_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_at(seeing_url) as client:
        yield client
        assert await answer_to(client, image()) == (200, "")


async def answer_to(client: httpx.AsyncClient, block: Fields) -> tuple[int, str]:
    response = await client.post("/v1/messages", json=GOOD | user([block]))
    return response.status_code, response.json().get("error", {}).get("message", "")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: bomb(400), "Could not process PDF"),
        (lambda: claims(1_000_000), "A maximum of 100 PDF pages may be provided."),
        (lambda: claims(2**31), "The PDF has no text"),
        (lambda: nested_tree(20_000), "The PDF has no text"),
        (lambda: nested_arrays(100_000), "The PDF has no text"),
        (circular_tree, "The PDF has no text"),
        (lambda: pdf([""] * 5_000), "A maximum of 100 PDF pages may be provided."),
        (lambda: pdf(["x"])[:300], "The PDF specified was not valid."),
    ],
)
async def test_pdf_bombs(client: httpx.AsyncClient, make: Callable[[], bytes], sentence: str) -> None:
    status, said = await answer_to(client, pdf_of(make()))
    assert (status, sentence in said) == (400, True), said


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        # 186 kB, 192 MB of pixels
        (lambda: bare_png(8_000, 8_000, bytes(8_000 * 24_001)), "does not support image input"),
        (lambda: bare_png(8_000, 8_000), "Could not process image"),
        (lambda: bare_png(60_000, 60_000), "exceed max allowed size: 8000 pixels"),
        (lambda: bare_png(2**31 - 1, 1), "exceed max allowed size: 8000 pixels"),
    ],
)
async def test_image_bombs(client: httpx.AsyncClient, make: Callable[[], bytes], sentence: str) -> None:
    status, said = await answer_to(client, image(make()))
    assert (status, sentence in said) == (400, True), said


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: picture()[:-30], f"{DATA}: Could not process image"),
        (lambda: picture("image/jpeg", 200, 200)[:400], f"{DATA}: Could not process image"),
        (lambda: b"", f"{IMAGE}.source.base64: image cannot be empty"),
        (lambda: b"MZ" + bytes(1_000), f"{DATA}: Could not process image"),
        (lambda: b"<html>", f"{DATA}: Could not process image"),
        (lambda: pdf(["A page"]), f"{DATA}: Could not process image"),
        (lambda: picture("image/jpeg"), f"{DATA}: Image does not match the provided media type image/png"),
        (animation, f"{DATA}: Image does not match the provided media type image/png"),
        (lambda: picture(width=8_001, height=1), f"{DATA}: {TOO_LARGE}: 8000 pixels"),
        (lambda: bare_png(60_000, 60_000), f"{DATA}: {TOO_LARGE}: 8000 pixels"),
        (lambda: bare_png(8_000, 8_000), f"{DATA}: Could not process image"),
        # a page of script that begins as a GIF
        (lambda: b"GIF89a/*" + b"*/=1;alert(1)" * 20, f"{DATA}: Could not process image"),
    ],
)
async def test_what_a_model_cannot_be_shown(
    seeing: httpx.AsyncClient, make: Callable[[], bytes], sentence: str
) -> None:
    assert await answer_to(seeing, image(make())) == (400, sentence)


@pytest.mark.parametrize(
    ("make", "media_type"),
    [
        (lambda: picture(width=1, height=1), "image/png"),
        (lambda: picture(width=8_000, height=1), "image/png"),
        (animation, "image/gif"),
        # to a decoder a PNG, whatever follows it
        (lambda: picture() + pdf(["A page"]) + b"<script>alert(1)</script>", "image/png"),
        # small files with all the pixels that an image may have
        (lambda: bare_png(8_000, 8_000, bytes(8_000 * 24_001)), "image/png"),
        (lambda: bare_png(8_000, 8_000, bytes(8_000 * 32_001), colours=6), "image/png"),
        (lambda: bare_png(8_000, 8_000, bytes(8_000 * 16_001), colours=0, bits=16), "image/png"),
    ],
)
async def test_what_a_model_can_be_shown_all_the_same(
    seeing: httpx.AsyncClient, make: Callable[[], bytes], media_type: str
) -> None:
    assert await answer_to(seeing, image(make(), media_type)) == (200, "")


async def test_too_many_images(seeing: httpx.AsyncClient) -> None:
    large, small = image(picture(width=2_001, height=1)), image()
    for images, sentence in (
        ([small] * 101, "Too much media: 0 document pages + 101 images > 100"),
        ([small] * 20 + [large], f"messages.0.content.20.image.source.base64.data: {TOO_LARGE} {MANY}"),
    ):
        response = await seeing.post("/v1/messages", json=GOOD | user(images))
        assert response.status_code == 400
        assert response.json()["error"]["message"] == sentence
    for images in ([small] * 100, [large] * 20):
        response = await seeing.post("/v1/messages", json=GOOD | user(images))
        assert response.status_code == 200, response.text


async def test_bombs_do_not_add_up_in_the_server(seeing: httpx.AsyncClient) -> None:
    """Each has 192 MB of pixels, all of them in other processes, one at a time."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files = [bare_png(8_000, 8_000 - number, bytes((8_000 - number) * 24_001)) for number in range(2)]
    answers = await asyncio.gather(*(answer_to(seeing, image(file)) for file in files))
    assert answers == [(200, "")] * 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


async def test_a_body_beyond_the_limit(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/messages", json=GOOD | user([pdf_of(bytes(25 << 20))]))
    assert (response.status_code, response.json()["error"]["type"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/a.pdf",
        "https://[::1]/a.pdf",
        "https://localhost/a.pdf",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/a.pdf",
        "https://0x7f000001/a.pdf",
        "https://[::ffff:10.0.0.1]/a.pdf",
        "http://example.com/a.pdf",
        "file:///etc/passwd",
        "https://user:secret@example.com/a.pdf",
        "",
    ],
)
async def test_private_addresses_are_not_asked(careful_url: str, url: str) -> None:
    async with client_at(careful_url) as client:
        for kind in ("document", "image"):
            status, said = await answer_to(client, by_url(kind, url))
            assert (status, said) == (400, f"messages.0.content.0.{kind}.source.url: {UNABLE}")


async def test_a_server_on_this_machine_is_not_asked_unless_the_operator_says_so(
    careful_url: str, open_url: str
) -> None:
    async with served({"/a": file(pdf(["one"])), "/b": redirect("/a")}) as site:
        for url, expected in ((careful_url, 400), (open_url, 200)):
            async with client_at(url) as client:
                status, _ = await answer_to(client, by_url("document", f"{site}/b"))
                assert status == expected


@pytest.mark.parametrize("answer", [endless, dripping, redirect("/"), redirect("gopher://127.0.0.1/")])
async def test_bad_servers(client: httpx.AsyncClient, answer: Answer) -> None:
    async with served({"/": answer}) as site:
        status, said = await answer_to(client, by_url("document", f"{site}/"))
    assert (status, said) == (400, f"messages.0.content.0.document.source.url: {UNABLE}")


async def test_other_requests_go_on_while_a_server_is_slow(live_engine: FakeEngine) -> None:
    others_are_done = asyncio.Event()

    async def late(writer: asyncio.StreamWriter) -> None:
        await others_are_done.wait()
        await file(pdf(["At last."]))(writer)

    patient = replace(CONFIG, fetch=FetchConfig(UrlSources.ANY, total_secs=60.0), fetching_secs=60.0)
    app = create_app(services_of(live_engine, attachments=Attachments(patient)), ApiConfig())
    async with served({"/": late}) as site, client_at("") as client:
        with live_server(app) as url:
            client.base_url = httpx.URL(url)
            slow = [asyncio.create_task(answer_to(client, by_url("document", f"{site}/"))) for _ in range(8)]
            for block in (paged("Now."), {"type": "text", "text": "Hi"}):
                for _ in range(3):
                    assert (await answer_to(client, block))[0] == 200
            assert not any(task.done() for task in slow)
            others_are_done.set()
            assert [status for status, _ in await asyncio.gather(*slow)] == [200] * 8


async def test_streams_go_on_while_a_bomb_is_read(client: httpx.AsyncClient, live_engine: FakeEngine) -> None:
    """The bomb takes its two seconds of processor time; the stream has begun before and goes on meanwhile."""
    live_engine.script, before = says("word " * 100_000), live_engine.script
    live_engine.step_secs = 0.001
    pieces_meanwhile = 0
    try:
        async with client.stream(
            "POST", "/v1/messages", json=GOOD | {"stream": True, "max_tokens": 8192}
        ) as stream:
            lines = stream.aiter_lines()
            while "content_block_delta" not in await anext(lines):
                pass
            bombing = asyncio.create_task(answer_to(client, pdf_of(bomb(200))))
            while not bombing.done():
                pieces_meanwhile += "content_block_delta" in await anext(lines)
    finally:
        live_engine.script, live_engine.step_secs = before, 0.0
    assert (await bombing)[0] == 400
    assert pieces_meanwhile > 5


async def test_nothing_is_read_for_callers_without_a_key(open_url: str) -> None:
    asked: list[str] = []

    async def noting(writer: asyncio.StreamWriter) -> None:
        asked.append("/")
        await file(pdf(["one"]))(writer)

    async with served({"/": noting}) as site, client_at(open_url) as client:
        body = GOOD | user([by_url("document", f"{site}/")])
        response = await client.post("/v1/messages", json=body, headers={"x-api-key": "sk-wrong"})
        assert (response.status_code, asked) == (401, [])
        assert (await client.post("/v1/messages", json=body)).status_code == 200
        assert asked == ["/"]
