"""Pictures made here: whole ones of every format, and ones that claim more than they hold."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image

from hokku.protocol.pictures import Tiling

# One of each kind, small.
TILINGS = (
    Tiling("single", edge=8, rows_a_tile=4),
    Tiling("idefics3", edge=8, rows_a_tile=4, longest_edge=32),
    Tiling("qwen2_5_vl", edge=4, min_pixels=64, max_pixels=1_024, resampling="bicubic"),
)
FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/gif": "GIF", "image/webp": "WEBP"}


def picture(media_type: str = "image/png", width: int = 8, height: int = 6, **options: Any) -> bytes:
    """A whole picture; `options` are Pillow's."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), "orange").save(file, FORMATS[media_type], **options)
    return file.getvalue()


def animation(num_frames: int = 3) -> bytes:
    """A GIF that moves."""
    frames = [Image.new("RGB", (8, 6), (80 * number, 0, 0)) for number in range(num_frames)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def bare_png(width: int, height: int, pixels: bytes = b"", *, colours: int = 2, bits: int = 8) -> bytes:
    """A PNG whose header says what it likes; `colours` is PNG's colour type: 0 grey, 2 RGB, 6 RGB and alpha."""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
