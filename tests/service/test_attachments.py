"""Reading attachments: what is fetched and read, how often, in which order, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from hokku.documents.config import FetchConfig, UrlSources
from hokku.documents.workers import Workers
from hokku.protocol.errors import InvalidRequest, Overloaded
from hokku.protocol.messages import (
    Attachment,
    ContentBlocks,
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    PdfFile,
    TextPart,
    ToolResultPart,
    Turn,
    UrlFile,
)
from hokku.service.attachments import Attachments, AttachmentsConfig
from hokku.service.keys import Identity
from hokku.service.recent import Recent
from tests.documents.pdfs import pdf
from tests.documents.pictures import TILINGS, picture
from tests.documents.site import Answer, dripping, endless, file, redirect, served, silent, whole
from tests.fakes import fake_manifest

ME = Identity("wrkspc_mine")
ANYWHERE = AttachmentsConfig(fetch=FetchConfig(UrlSources.ANY))
UNABLE = "Unable to download the file"
Read = Callable[[Workers, str, bytes], Awaitable[None]]


def document(data: bytes, place: str = "here") -> DocumentPart:
    return DocumentPart(PdfFile(InlineFile("application/pdf", data, place)), place)


def image(data: bytes, place: str = "here") -> ImagePart:
    return ImagePart(InlineFile("image/png", data, place), place)


def by_url(url: str, place: str = "here") -> DocumentPart:
    return DocumentPart(PdfFile(UrlFile(url, place)), place)


def conversation(*parts: Attachment | TextPart | ToolResultPart) -> Conversation:
    return Conversation((), (Turn("user", parts),))


async def pages_of(attachments: Attachments, *parts: Attachment, identity: Identity = ME) -> list[Any]:
    read = await attachments.read(conversation(*parts), fake_manifest(), identity)
    return [each.body.pages for each in read.documents if isinstance(each.body, PdfFile)]


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kind of every file that a process is started for."""
    seen: list[str] = []
    ask = Workers.read

    async def noted(self: Workers, kind: Any, data: bytes, tiling: Any, *limits: int) -> dict[str, Any]:
        seen.append(kind)
        return await ask(self, kind, data, tiling, *limits)

    monkeypatch.setattr(Workers, "read", noted)
    return seen


async def test_a_conversation_without_files_is_left_as_it_is() -> None:
    asked = conversation(TextPart("Hi"))
    assert await Attachments().read(asked, fake_manifest(), ME) is asked


async def test_every_file_is_read_in_its_place() -> None:
    result = ToolResultPart("call", (TextPart("x"), document(pdf(["one"]))))
    asked = conversation(result, TextPart("y"), document(pdf(["two"])))
    read = await Attachments().read(asked, fake_manifest(), ME)
    inner, between, last = read.turns[0].parts
    assert isinstance(inner, ToolResultPart)
    assert (inner.parts[0], between) == (TextPart("x"), TextPart("y"))
    assert [part.body.pages for part in (inner.parts[1], last)] == [("one",), ("two",)]  # type: ignore[union-attr]
    assert read.documents[0].body.source == asked.documents[0].body.source  # type: ignore[union-attr]


async def test_a_file_that_comes_again_is_not_read_again(readings: list[str]) -> None:
    attachments = Attachments()
    for _ in range(3):
        assert await pages_of(attachments, document(pdf(["a"]))) == [("a",)]
        with pytest.raises(InvalidRequest, match="does not support image input"):
            await pages_of(attachments, image(picture()))
    assert readings == ["pdf", "image"]
    await pages_of(
        attachments, *[document(pdf(["twice in one request"]), f"place {number}") for number in range(5)]
    )
    assert readings.pop() == "pdf"
    assert readings == ["pdf", "image"]
    await pages_of(attachments, document(pdf(["b"])))
    await pages_of(attachments, document(pdf(["a"])), identity=Identity("wrkspc_other"))
    assert readings == ["pdf", "image", "pdf", "pdf"]


async def test_a_model_that_sees_is_given_images_and_pages(readings: list[str]) -> None:
    attachments = Attachments()
    block = DocumentPart(ContentBlocks((TextPart("x"), image(picture()))), "here")
    asked = conversation(
        image(picture()), block, document(pdf(["one", "two"])), document(pdf([""]), "scanned")
    )
    for _ in range(2):
        read = await attachments.read(asked, fake_manifest(), ME, TILINGS[0])
        assert len(read.pictures) == 1 + 1 + 2 + 1
        assert {tile.size for each in read.pictures for tile in each.tiles} == {(8, 8)}
    assert readings == ["image", "pdf", "pdf"]
    other = await attachments.read(asked, fake_manifest(), ME, TILINGS[1])
    assert len(other.pictures[0].tiles) > 1
    assert readings == ["image", "pdf", "pdf"] * 2


async def test_a_model_whose_eyes_know_no_pages_reads_pdfs_by_their_text() -> None:
    attachments, manifest = Attachments(), replace(fake_manifest(), sees_pages=False)
    read = await attachments.read(
        conversation(image(picture()), document(pdf(["one", "two"]))), manifest, ME, TILINGS[0]
    )
    assert len(read.pictures) == 1
    assert read.documents[0].body.pages == ("one", "two")  # type: ignore[union-attr]
    with pytest.raises(InvalidRequest, match="The PDF has no text"):
        await attachments.read(conversation(document(pdf([""]))), manifest, ME, TILINGS[0])
    # The same file for a model that sees pages is read again.
    seen = await attachments.read(conversation(document(pdf([""]))), fake_manifest(), ME, TILINGS[0])
    assert len(seen.pictures) == 1


async def test_no_request_shows_more_than_a_machine_bears() -> None:
    attachments = Attachments(AttachmentsConfig(max_pixel_bytes=3 * 8 * 8 * 3))
    await attachments.read(conversation(*[image(picture())] * 3), fake_manifest(), ME, TILINGS[0])
    with pytest.raises(InvalidRequest, match="more than the model can look at"):
        await attachments.read(conversation(*[image(picture())] * 4), fake_manifest(), ME, TILINGS[0])


def test_what_is_kept_is_bounded_and_goes_in_the_order_of_its_use() -> None:
    recent: Recent[str] = Recent(100)
    for name in "abc":
        recent.put(name, name, 30)
    assert recent.get("a") == "a"
    recent.put("d", "d", 30)
    assert [recent.get(name) for name in "abcd"] == ["a", None, "c", "d"]
    recent.put("a", "A", 50)
    assert (recent.get("a"), recent.num_bytes) == ("A", 80)
    recent.put("huge", "huge", 101)
    assert (recent.get("huge"), recent.get("a"), recent.num_bytes) == (None, "A", 80)


async def test_of_several_bad_files_the_first_is_reported() -> None:
    late = by_url("https://127.0.0.1/", "second")
    for first in (image(b"x", "first"), document(b"x", "first")):
        with pytest.raises(InvalidRequest) as refusal:
            await pages_of(Attachments(), document(pdf(["x"])), first, late, image(b"", "third"))
        assert refusal.value.place == "first"


async def test_files_by_url() -> None:
    answers = {
        "/a": file(pdf(["one"])),
        "/b": redirect("/a"),
        "/html": file(b"<html>", "application/pdf"),
        "/png": file(picture(), "text/plain"),
        "/empty": file(b""),
        "/large": file(bytes(10_485_761)),
    }
    async with served(answers) as base:
        attachments = Attachments(ANYWHERE)
        expected = [("one",), ("one",)]
        assert await pages_of(attachments, by_url(f"{base}/a"), by_url(f"{base}/b")) == expected
        with pytest.raises(InvalidRequest, match="here: The PDF specified was not valid"):
            await pages_of(attachments, by_url(f"{base}/html"))
        with pytest.raises(InvalidRequest, match="here: PDF cannot be empty"):
            await pages_of(attachments, by_url(f"{base}/empty"))
        for path, sentence in {
            "png": "does not support image input",
            "a": "here: Could not process image",
            "empty": "here: Could not process image",
            "large": "here: image exceeds 10 MB maximum: 10485761 bytes > 10485760 bytes",
        }.items():
            with pytest.raises(InvalidRequest, match=sentence):
                await pages_of(attachments, ImagePart(UrlFile(f"{base}/{path}", "here"), "here"))


async def test_only_what_the_operator_allows_is_fetched() -> None:
    async with served({"/a": file(pdf(["one"]))}) as base:
        with pytest.raises(InvalidRequest, match=UNABLE):
            await pages_of(Attachments(), by_url(f"{base}/a"))
        nowhere = AttachmentsConfig(fetch=FetchConfig(UrlSources.NONE))
        with pytest.raises(InvalidRequest, match="fetches no URLs"):
            await pages_of(Attachments(nowhere), by_url(f"{base}/a"))


@pytest.mark.parametrize("answer", [endless, silent, dripping, whole("HTTP/1.1 500 Oh\nContent-Length: 0")])
async def test_many_files_of_bad_servers_take_no_longer_than_the_request_may(answer: Answer) -> None:
    config = replace(ANYWHERE, fetching_secs=0.5, max_fetched_bytes=1 << 20)
    async with served({"/": answer}) as base, asyncio.timeout(60):
        with pytest.raises(InvalidRequest, match=UNABLE):
            await pages_of(Attachments(config), *[by_url(f"{base}/") for _ in range(100)])


async def test_reading_that_takes_too_long_is_overload() -> None:
    attachments = Attachments(AttachmentsConfig(total_secs=0.001))
    with pytest.raises(Overloaded, match="takes too long"):
        await pages_of(attachments, document(pdf(["x"])))


async def test_all_pages_of_a_request_may_have_so_much_text_only() -> None:
    config = AttachmentsConfig()
    attachments = Attachments(replace(config, pdf=replace(config.pdf, max_chars=25)))
    parts = [document(pdf(["ten letter"]), place) for place in ("first", "second", "third")]
    with pytest.raises(InvalidRequest, match="third: Could not process PDF"):
        await pages_of(attachments, *parts)


async def test_the_loop_goes_on_while_files_are_read() -> None:
    """Other streams' events are handed on from this loop; it never waits for a file."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    before = ticks
    await pages_of(Attachments(), document(pdf(["x"] * 50) + bytes(1 << 20)))
    ticking.cancel()
    assert ticks - before > 20


async def test_a_request_that_ends_early_leaves_nothing_behind() -> None:
    parts = [document(pdf(["x"] * 10), f"place {number}") for number in range(8)]
    reading = asyncio.create_task(pages_of(Attachments(), *parts))
    await asyncio.sleep(0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert len(asyncio.all_tasks()) == 1
