"""Images: what they are, what they are worth, and what hostile ones cost."""

from __future__ import annotations

import asyncio
import io
import itertools
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hokku.documents.config import WorkersConfig
from hokku.documents.images import MAX_LONG_EDGE, MAX_TOKENS, ImageReader, ImageSize, ReadImage
from hokku.documents.pdf import PdfReader
from hokku.documents.worker import Cutter, read_image
from hokku.documents.workers import Workers
from hokku.protocol.errors import InvalidRequest
from tests.documents.pdfs import pdf
from tests.documents.pictures import FORMATS, TILINGS, animation, bare_png, picture

PLACE = "messages.0.content.0.image.source.base64.data"
TOO_LONG = "At least one of the image dimensions exceed max allowed size: 8000 pixels"
BROKEN = "Could not process image"


@pytest.mark.parametrize(
    ("size", "shrunk", "num_tokens"),
    [
        ((200, 200), (200, 200), 64),
        ((1000, 1000), (1000, 1000), 1_296),
        ((1092, 1092), (1092, 1092), 1_521),
        ((1920, 1080), (1456, 819), 1_560),
        ((2000, 1500), (1269, 952), 1_564),
        ((1080, 1920), (819, 1456), 1_560),
        ((1, 1), (1, 1), 1),
        ((8000, 1), (1568, 1), 56),
    ],
)
def test_sizes_and_tokens_are_the_hosted_service_s(
    size: tuple[int, int], shrunk: tuple[int, int], num_tokens: int
) -> None:
    image = ImageSize(*size)
    assert (image.shrunk, image.num_tokens) == (ImageSize(*shrunk), num_tokens)


@given(st.integers(1, 8_000), st.integers(1, 8_000))
def test_a_shrunk_image_keeps_to_the_limits_and_to_its_shape(width: int, height: int) -> None:
    image = ImageSize(width, height)
    shrunk = image.shrunk
    assert max(shrunk.width, shrunk.height) <= MAX_LONG_EDGE
    assert image.num_tokens == shrunk.num_tokens <= MAX_TOKENS
    assert abs(shrunk.width * height - shrunk.height * width) <= max(width, height)  # a pixel's worth
    assert shrunk.shrunk == shrunk


@pytest.mark.parametrize("media_type", FORMATS)
async def test_each_format_is_known_by_its_bytes(media_type: str) -> None:
    expected = ReadImage(media_type, ImageSize(8, 6))
    assert await ImageReader().read(picture(media_type), PLACE) == expected


async def test_of_an_animation_the_first_frame_counts() -> None:
    assert await ImageReader().read(animation(), PLACE) == ReadImage("image/gif", ImageSize(8, 6))


async def test_a_picture_taken_sideways_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert (await ImageReader().read(picture("image/jpeg", exif=exif), PLACE)).size == ImageSize(6, 8)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", BROKEN),
        (b"GIF89a", BROKEN),
        (b"<svg/>" * 100, BROKEN),
        (picture()[:-30], BROKEN),
        (picture("image/jpeg", 200, 200)[:400], BROKEN),
        (picture("image/webp")[:30], BROKEN),
        (bare_png(8, 6), BROKEN),  # no pixels at all
        (bare_png(0, 0), BROKEN),
        (bare_png(8_001, 1, bytes(3 * 8_001 + 1)), TOO_LONG),
        (bare_png(2**31 - 1, 2**31 - 1), TOO_LONG),
        (picture("image/gif", 8_001, 1), TOO_LONG),
    ],
)
async def test_what_is_no_readable_image_is_refused_at_its_place(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await ImageReader().read(data, PLACE)
    assert (refusal.value.place, refusal.value.message) == (PLACE, message)


async def test_one_of_many_images_may_be_smaller_only() -> None:
    data = picture(width=2_001, height=1)
    assert (await ImageReader().read(data, PLACE)).size == ImageSize(2_001, 1)
    with pytest.raises(InvalidRequest, match="many-image requests: 2000 pixels"):
        await ImageReader().read(data, PLACE, is_one_of_many=True)


async def test_a_file_that_begins_as_an_image_and_goes_on_as_another_is_the_first() -> None:
    both = picture("image/gif") + picture("image/png", 100, 100)
    assert await ImageReader().read(both, PLACE) == ReadImage("image/gif", ImageSize(8, 6))


async def test_formats_that_nobody_promised_stay_closed() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "TIFF")
    with pytest.raises(InvalidRequest, match=BROKEN):
        await ImageReader().read(file.getvalue(), PLACE)


async def test_an_image_that_needs_more_memory_than_there_is_ends_its_own_process_only() -> None:
    reader = ImageReader(Workers(WorkersConfig(max_memory_bytes=256 << 20)))
    pixels = bytes(8_000 * (3 * 8_000 + 1))
    with pytest.raises(InvalidRequest, match=BROKEN):
        await reader.read(bare_png(8_000, 8_000, pixels), PLACE)
    assert (await reader.read(picture(), PLACE)).size == ImageSize(8, 6)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_damaged_files_are_answered(media_type: str, data: st.DataObject) -> None:
    whole = picture(media_type, 40, 30)
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 10))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    cutter = Cutter(asdict(data.draw(st.sampled_from(TILINGS))), 1 << 30)
    answer = read_image(bytes(damaged[:cut]), cutter, 8_000)
    assert answer.keys() in ({"media_type", "width", "height", "pictures"}, {"problem"})


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\x10\0\0\0WEBP"]),
    st.binary(),
)
def test_arbitrary_bytes_are_answered(beginning: bytes, rest: bytes) -> None:
    answer = read_image(beginning + rest, Cutter(None, 0), 8_000)
    assert answer.keys() in ({"media_type", "width", "height"}, {"problem"})


async def test_a_process_waits_for_the_next_image_and_for_no_third_kind_of_thing() -> None:
    workers = Workers(WorkersConfig(spare_secs=60))
    reader = ImageReader(workers)
    for _ in range(3):
        assert (await reader.read(picture(), PLACE)).size == ImageSize(8, 6)
    await PdfReader(workers).read(pdf(["A page"]), PLACE)
    with pytest.raises(InvalidRequest):
        await reader.read(b"no image", PLACE)
    assert (await reader.read(picture(), PLACE)).size == ImageSize(8, 6)
    await workers.close()
    assert (await reader.read(picture(), PLACE)).size == ImageSize(8, 6)
    await workers.close()


async def test_nobody_waits_for_ever_for_an_image_that_does_not_come() -> None:
    workers = Workers(WorkersConfig(spare_secs=0.05))
    await ImageReader(workers).read(picture(), PLACE)
    async with asyncio.timeout(20):
        while workers.has_spare:
            await asyncio.sleep(0.02)
    assert (await ImageReader(workers).read(picture(), PLACE)).size == ImageSize(8, 6)
    await workers.close()


async def test_a_waiting_process_that_has_died_is_replaced() -> None:
    workers = Workers(WorkersConfig(spare_secs=60))
    await ImageReader(workers).read(picture(), PLACE)
    assert workers._preparing is not None
    await workers._preparing
    assert workers._spare is not None
    workers._spare.kill()
    await workers._spare.wait()
    assert (await ImageReader(workers).read(picture(), PLACE)).size == ImageSize(8, 6)
    await workers.close()


async def test_who_stops_waiting_for_the_process_takes_it_from_nobody() -> None:
    workers = Workers(WorkersConfig(spare_secs=60))
    reader = ImageReader(workers)
    await reader.read(picture(), PLACE)
    impatient = asyncio.create_task(reader.read(picture(), PLACE))
    await asyncio.sleep(0)  # it waits for the process now
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    for _ in range(2):
        assert (await reader.read(picture(), PLACE)).size == ImageSize(8, 6)
    await workers.close()


async def test_a_process_that_could_not_be_made_ready_is_started_when_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers(WorkersConfig(spare_secs=60))
    start, starts = workers._start, itertools.count()

    async def second_fails(kind: Any) -> Any:
        if next(starts) == 1:
            raise OSError("no more processes")
        return await start(kind)

    monkeypatch.setattr(workers, "_start", second_fails)
    for _ in range(3):
        assert (await ImageReader(workers).read(picture(), PLACE)).size == ImageSize(8, 6)
    await workers.close()
