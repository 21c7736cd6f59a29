"""Reads one file of a stranger's in a process of its own: bytes on standard input, one JSON object on standard output.

    pdf    {"pages": ["text of page 1", …]}    or    {"problem": "password" | "invalid" | "pages" | "text"}
    image  {"media_type": "image/png", "width": 640, "height": 480}    or    {"problem": "edge" | "invalid"}

Started by path, not as a module, so that it imports nothing of the server. Arguments: most bytes of memory, most
seconds of processor time, the kind, and the kind's own limits: most pages and characters of text, or the longest edge
in pixels. PDFium and the image decoders are large C libraries that read what strangers send; whatever goes wrong in
them ends this process and nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_MEDIA_TYPES = {
    "GIF": "image/gif",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # what phones write: a JPEG with more pictures behind the first
    "PNG": "image/png",
    "WEBP": "image/webp",
}
_FORMATS = ("GIF", "JPEG", "PNG", "WEBP")
_ORIENTATION = 0x0112  # the tag of EXIF
_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height


def main() -> None:
    """Read, answer, end."""
    max_bytes, max_secs = map(int, sys.argv[1:3])
    resource.setrlimit(resource.RLIMIT_CPU, (max_secs, max_secs))
    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kind, *limits = sys.argv[3:]
    data = sys.stdin.buffer.read()
    answer = read_pdf(data, *map(int, limits)) if kind == "pdf" else read_image(data, *map(int, limits))
    json.dump(answer, sys.stdout)


def read_pdf(data: bytes, max_pages: int, max_chars: int) -> dict[str, object]:
    """The answer for one PDF."""
    import pypdfium2
    from pypdfium2.raw import FPDF_ERR_PASSWORD

    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        return {"problem": "password" if getattr(error, "err_code", None) == FPDF_ERR_PASSWORD else "invalid"}
    if len(document) > max_pages:
        return {"problem": "pages"}
    pages: list[str] = []
    num_chars = 0
    for number in range(len(document)):
        try:
            text = document[number].get_textpage().get_text_bounded()
        except pypdfium2.PdfiumError:
            text = ""  # a broken page among whole ones has no text
        pages.append(text.replace("\r\n", "\n").replace("\r", "\n"))
        num_chars += len(text)
        if num_chars > max_chars:
            return {"problem": "text"}
    return {"pages": pages}


def read_image(data: bytes, max_edge: int) -> dict[str, object]:
    """The answer for one image: its first frame's size, the right way up, once all of its pixels could be decoded."""
    import PIL.WebPImagePlugin  # noqa: F401 - Pillow loads the other formats by itself
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the edge is the limit here, and it is looked at before a pixel is decoded
    warnings.simplefilter("ignore")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if max(image.size) > max_edge:
                return {"problem": "edge"}
            image.load()
            width, height = image.size
            if max(image.size) > max_edge:  # a frame may be larger than the file said
                return {"problem": "edge"}
            if _is_sideways(image):
                width, height = height, width
            media_type = _MEDIA_TYPES[image.format or ""]
    except Exception:  # decoders raise what they like: the file is no image
        return {"problem": "invalid"}
    return {"media_type": media_type, "width": width, "height": height}


def _is_sideways(image: Image.Image) -> bool:
    with contextlib.suppress(Exception):  # broken EXIF does not make an image unreadable
        return image.getexif().get(_ORIENTATION) in _SIDEWAYS
    return False


if __name__ == "__main__":
    main()
