"""Pictures cut up for models: as Hugging Face's processors do it, whatever the file's colours and orientation."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hokku.documents.config import WorkersConfig
from hokku.documents.images import ImageReader
from hokku.documents.pdf import PdfReader
from hokku.documents.worker import Cutter, as_rgb, smart_size
from hokku.documents.workers import Workers, _answer
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.pictures import Picture, Tiling
from tests.documents.pdfs import pdf
from tests.documents.pictures import FORMATS, TILINGS, picture

GOLDENS = json.loads((Path(__file__).parent / "goldens/tilings.json").read_text())
IDEFICS3 = Tiling("idefics3", edge=32, rows_a_tile=4, longest_edge=96)
SINGLE, _, SMART = TILINGS
RED = (255, 0, 0)


def noise(width: int, height: int) -> Image.Image:
    """As tools/make_tiling_goldens.py makes it."""
    pixels = np.random.default_rng(width * 10_000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def file_of(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


async def seen(data: bytes, tiling: Tiling = SINGLE) -> Picture:
    read = (await ImageReader().read(data, "here", tiling)).picture
    assert read is not None
    return read


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: "x".join(map(str, golden["size"])))
@pytest.mark.parametrize("name", ["idefics3", "unsplit"])
def test_tiles_are_those_of_the_reference_to_the_bit(golden: dict[str, Any], name: str) -> None:
    tiling = IDEFICS3 if name == "idefics3" else replace(IDEFICS3, longest_edge=IDEFICS3.edge)
    cutter = Cutter(asdict(tiling), 1 << 30)
    answer = cutter.cut(noise(*golden["size"]))
    digest = hashlib.sha256(b"".join(cutter.pixels)).hexdigest()
    found = {"tiles": len(cutter.pixels), "grid": list(answer["grid"]), "sha256": digest}  # type: ignore[call-overload]
    assert found == golden[name]


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda golden: "x".join(map(str, golden["size"])))
def test_sizes_are_those_of_the_reference(golden: dict[str, Any]) -> None:
    width, height = golden["size"]
    assert list(smart_size(width, height, 28, 4 * 28 * 28, 60 * 28 * 28)) == golden["qwen2_5_vl"]


@given(st.integers(1, 8_000), st.integers(1, 8_000))
def test_a_smart_size_keeps_to_its_bounds_whatever_the_shape(width: int, height: int) -> None:
    w, h = smart_size(width, height, 28, 4 * 28 * 28, 60 * 28 * 28)
    assert w % 28 == h % 28 == 0
    assert w >= 28
    assert h >= 28
    assert w * h <= 60 * 28 * 28


async def test_tiles_come_out_of_the_process_as_they_went_in() -> None:
    cut = await seen(file_of(noise(97, 61)), IDEFICS3)
    assert cut.grid == (2, 3)
    assert [tile.size for tile in cut.tiles] == [(32, 32)] * 7
    assert {tile.num_rows for tile in cut.tiles} == {4}
    smart = await seen(file_of(noise(97, 61)), SMART)
    [tile] = smart.tiles
    assert tile.num_rows == tile.size[0] // 4 * (tile.size[1] // 4)


@pytest.mark.parametrize("media_type", FORMATS)
async def test_every_format_gives_pixels(media_type: str) -> None:
    [tile] = (await seen(picture(media_type))).tiles
    assert tile.pixels.shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("image", "form", "colour"),
    [
        (Image.new("RGBA", (9, 9), (255, 0, 0, 255)), "PNG", RED),
        (Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "WEBP", (255, 255, 255)),
        (Image.new("LA", (9, 9), (0, 0)), "PNG", (255, 255, 255)),
        (Image.new("RGB", (9, 9), RED).convert("P"), "GIF", RED),
        (Image.new("1", (9, 9), 1), "PNG", (255, 255, 255)),
        (Image.new("L", (9, 9), 7), "JPEG", (7, 7, 7)),
        (Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "JPEG", (254, 0, 0)),
        (Image.fromarray(np.full((9, 9), 65_535, np.uint16)), "PNG", (255, 255, 255)),
        (Image.fromarray(np.full((9, 9), 257 * 5, np.uint16)), "PNG", (5, 5, 5)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else None,
)
async def test_colours_are_what_a_person_sees(
    image: Image.Image, form: str, colour: tuple[int, int, int]
) -> None:
    [tile] = (await seen(file_of(image, form))).tiles
    assert (abs(tile.pixels.astype(int) - colour) <= 2).all()


async def test_a_colour_of_a_palette_that_is_transparent_is_white() -> None:
    image = Image.new("P", (9, 9), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    [tile] = (await seen(file_of(image, transparency=0))).tiles
    assert (tile.pixels == 255).all()


async def test_a_picture_is_the_right_way_up() -> None:
    image = Image.new("RGB", (16, 8))
    image.paste(RED, (0, 0, 8, 8))  # the left half, which belongs on top
    exif = Image.Exif()
    exif[0x0112] = 6
    [tile] = (await seen(file_of(image, exif=exif))).tiles
    assert (tile.pixels[:3, :, 0] > 200).all()
    assert (tile.pixels[5:, :, 0] < 50).all()


def test_broken_orientation_is_no_hindrance() -> None:
    image = Image.new("RGB", (4, 4), RED)
    image.getexif()[0x0112] = 99
    assert as_rgb(image).getpixel((0, 0)) == RED


async def test_of_an_animation_the_first_frame_is_seen() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, (0, 0, 255))]
    data = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    [tile] = (await seen(data)).tiles
    assert (tile.pixels[..., 0] > 200).all()


async def test_more_pixels_than_a_file_may_have_are_refused_before_they_are_sent() -> None:
    reader = ImageReader(Workers(WorkersConfig(max_pixel_bytes=1_000)))
    assert (await reader.read(picture(), "here", SINGLE)).picture is not None
    with pytest.raises(InvalidRequest, match="more than this model can look at"):
        await reader.read(picture(), "here", IDEFICS3)


async def test_pages_of_a_pdf_are_drawn_for_models_that_see() -> None:
    read = await PdfReader().read(pdf(["Words on it", ""]), "here", replace(SINGLE, edge=128))
    assert read.pages[1] == ""
    first, second = (picture.tiles[0].pixels for picture in read.pictures)
    assert (second > 250).all()
    assert first.min() < 200
    assert (await PdfReader().read(pdf(["Words on it"]), "here")).pictures == ()


async def test_of_too_many_pages_none_is_drawn() -> None:
    reader = PdfReader(Workers(WorkersConfig(max_pixel_bytes=8 * 8 * 3 * 2)))
    assert len((await reader.read(pdf(["x"] * 2), "here", SINGLE)).pictures) == 2
    with pytest.raises(InvalidRequest, match="more than this model can look at"):
        await reader.read(pdf(["x"] * 3), "here", SINGLE)


@given(st.sampled_from(TILINGS), st.integers(1, 40), st.integers(1, 40), st.data())
def test_half_an_answer_is_none(tiling: Tiling, width: int, height: int, data: st.DataObject) -> None:
    """A process may be ended at any byte of what it writes."""
    cutter = Cutter(asdict(tiling), 1 << 30)
    answer = {"pictures": [cutter.cut(noise(width, height))]}
    whole = json.dumps(answer).encode() + b"\n" + b"".join(cutter.pixels)
    [read] = _answer(whole, tiling)["pictures"]
    assert b"".join(tile.pixels.tobytes() for tile in read.tiles) == b"".join(cutter.pixels)
    with pytest.raises(ValueError):  # noqa: PT011 - whichever part of it notices
        _answer(whole[: data.draw(st.integers(0, len(whole) - 1))], tiling)
