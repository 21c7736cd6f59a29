"""PDFs: their text by page, and what hostile ones cost."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hokku.documents.config import PdfConfig, WorkersConfig
from hokku.documents.pdf import PdfReader
from hokku.documents.worker import Cutter, read_pdf
from hokku.documents.workers import Workers
from hokku.protocol.errors import InvalidRequest
from tests.documents.pdfs import pdf
from tests.documents.pictures import TILINGS

PLACE = "messages.0.content.0.pdf.source.base64.data"


async def test_each_page_gives_its_text() -> None:
    read = await PdfReader().read(pdf(["The first page.\nIts second line.", "", "Über the third"]), PLACE)
    assert read.pages == ("The first page.\nIts second line.", "", "Über the third")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "PDF cannot be empty"),
        (b"%PDF-1.4\n", "The PDF specified was not valid."),
        (b"<html></html>" * 1000, "The PDF specified was not valid."),
        (pdf(["A page"], is_locked=True), "The PDF specified is password protected."),
        (pdf([]), "The PDF specified was not valid."),
        (pdf([""] * 101), "A maximum of 100 PDF pages may be provided."),
    ],
)
async def test_what_is_no_readable_pdf_is_refused_at_its_place(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await PdfReader().read(data, PLACE)
    assert (refusal.value.place, refusal.value.message) == (PLACE, message)


async def test_more_text_than_a_window_holds_is_refused() -> None:
    reader = PdfReader(config=PdfConfig(max_chars=10))
    with pytest.raises(InvalidRequest, match="Could not process PDF"):
        await reader.read(pdf(["eleven characters and more"]), PLACE)


@pytest.mark.parametrize("limits", [WorkersConfig(max_memory_bytes=4 << 20), WorkersConfig(max_cpu_secs=0)])
async def test_a_worker_that_meets_its_limits_ends_alone(limits: WorkersConfig) -> None:
    with pytest.raises(InvalidRequest, match="Could not process PDF"):
        await PdfReader(Workers(limits)).read(pdf(["A page"]), PLACE)


async def test_a_reader_that_is_no_longer_wanted_leaves_no_worker() -> None:
    reading = asyncio.create_task(PdfReader().read(pdf(["A page"] * 100), PLACE))
    await asyncio.sleep(0.02)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_are_answered(data: st.DataObject) -> None:
    whole = pdf(["Some text", "and more"])
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 20))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    answer = read_pdf(bytes(damaged[:cut]), Cutter(asdict(TILINGS[0]), 1 << 30), 100, 10_000)
    assert answer.keys() in ({"pages", "pictures"}, {"problem"})
