"""Reads one file of a stranger's in a process of its own: bytes on standard input, one JSON object on standard output.

    task   {"tiling": null, "max_pixel_bytes": 1000000, "limits": [100, 8000000]}, a line break, and the file's bytes

    pdf    {"pages": ["text of page 1", …]}    or    {"problem": "password" | "invalid" | "pages" | "text" | "pixels"}
    image  {"media_type": "image/png", "width": 640, "height": 480}    or    {"problem": "edge" | "invalid" | "pixels"}

For a model that sees, the answer also has "pictures": for each page, or for the one image, {"grid": [rows, columns],
"tiles": [[height, width], …]}; behind the object and a line break come their pixels, three bytes each.

Started by path, not as a module, so that it imports nothing of the server. Arguments: most bytes of memory, most
seconds of processor time, and the kind; it is ready before it is given its task. A task says what the model wants of
pictures (`protocol.pictures.Tiling`), or null, the most bytes of pixels, and the kind's own limits: most pages and
characters of text, or the longest edge in pixels. PDFium and the image decoders are large C libraries that read what
strangers send; whatever goes wrong in them ends this process and nothing else.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import resource
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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
_PAGE_EDGE = 1_568  # pixels of a page's longer edge: what the hosted model was shown at most
_ORIENTATION = 0x0112  # the tag of EXIF
_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height


def main() -> None:
    """Read, answer, end."""
    max_bytes, max_secs = map(int, sys.argv[1:3])
    resource.setrlimit(resource.RLIMIT_CPU, (max_secs, max_secs))
    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    kind = sys.argv[3]
    load_library(kind)
    line = sys.stdin.buffer.readline()
    if not line:
        return  # not needed after all
    task = json.loads(line)
    cutter = Cutter(task["tiling"], task["max_pixel_bytes"])
    data = sys.stdin.buffer.read()
    try:
        limits = task["limits"]
        answer = read_pdf(data, cutter, *limits) if kind == "pdf" else read_image(data, cutter, *limits)
    except TooManyPixelsError:
        answer, cutter.pixels = {"problem": "pixels"}, []
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    for pixels in cutter.pixels:
        sys.stdout.buffer.write(pixels)


def load_library(kind: str) -> None:
    """Import what reads this kind, which takes longer than reading most files."""
    if kind == "pdf":
        import pypdfium2  # noqa: F401
    else:
        import PIL.Image
        import PIL.ImageOps
        import PIL.WebPImagePlugin

        PIL.Image.preinit()  # the other formats, which Pillow would otherwise load for the first file


class TooManyPixelsError(Exception):
    """More than the request may have."""


class Cutter:
    """Cuts pictures into tiles as a model wants them, `tiling` being a `protocol.pictures.Tiling` as a mapping; or does
    nothing, for a model that sees none. The sizes are those of Hugging Face's image processors."""

    def __init__(self, tiling: dict[str, Any] | None, max_bytes: int) -> None:
        self._tiling = tiling
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self.pixels: list[bytes] = []

    @property
    def sees(self) -> bool:
        """Whether anything is cut."""
        return self._tiling is not None

    def cut(self, image: Image.Image) -> dict[str, object]:
        """What the answer says of a picture in red, green and blue; its tiles are added to `pixels`."""
        sizes: list[tuple[int, int]] = []
        grid, tiles = self._tiles(image)
        for tile in tiles:
            self._num_bytes += tile.width * tile.height * 3
            if self._num_bytes > self._max_bytes:
                raise TooManyPixelsError
            self.pixels.append(tile.tobytes())
            sizes.append((tile.height, tile.width))
        return {"grid": grid, "tiles": sizes}

    def _tiles(self, image: Image.Image) -> tuple[tuple[int, int], Iterator[Image.Image]]:
        assert self._tiling is not None
        edge: int = self._tiling["edge"]
        match self._tiling["kind"]:
            case "single":
                return (0, 0), iter([self._resized(image, edge, edge)])
            case "idefics3":
                return self._idefics3(image, edge)
            case _:
                size = smart_size(
                    image.width, image.height, edge, self._tiling["min_pixels"], self._tiling["max_pixels"]
                )
                return (0, 0), iter([self._resized(image, *size)])

    def _idefics3(self, image: Image.Image, edge: int) -> tuple[tuple[int, int], Iterator[Image.Image]]:
        assert self._tiling is not None
        image = self._resized(image, *long_edge_size(image.width, image.height, self._tiling["longest_edge"]))
        image = self._resized(image, *whole_tiles_size(image.width, image.height, edge))
        columns, rows = image.width // edge, image.height // edge

        def tiles() -> Iterator[Image.Image]:
            for top in range(0, image.height, edge):
                for left in range(0, image.width, edge):
                    yield image.crop((left, top, left + edge, top + edge))
            yield self._resized(image, edge, edge)

        if columns == rows == 1:
            return (0, 0), iter([image])
        return (rows, columns), tiles()

    def _resized(self, image: Image.Image, width: int, height: int) -> Image.Image:
        from PIL import Image as Library

        assert self._tiling is not None
        if image.size == (width, height):
            return image
        return image.resize((width, height), Library.Resampling[self._tiling["resampling"].upper()])


def long_edge_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """The size of this shape whose longer edge is `longest`, the other one even."""
    ratio = width / height
    if width >= height:
        height = int(longest / ratio)
        return longest, max(height + height % 2, 1)
    width = int(longest * ratio)
    return max(width + width % 2, 1), longest


def whole_tiles_size(width: int, height: int, edge: int) -> tuple[int, int]:
    """A size near that shape, in which each edge is a multiple of `edge`."""
    ratio = width / height
    if width >= height:
        width = math.ceil(width / edge) * edge
        return width, math.ceil(max(int(width / ratio), 1) / edge) * edge
    height = math.ceil(height / edge) * edge
    return math.ceil(max(int(height * ratio), 1) / edge) * edge, height


def smart_size(width: int, height: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Qwen2-VL's "smart resize": edges that are multiples of `factor`, a number of pixels between the two bounds, and
    nearly the same shape. Of shapes that allow no such size the narrow edge is `factor`, and the long one as long as
    it may be."""
    w, h = max(round(width / factor), 1) * factor, max(round(height / factor), 1) * factor
    if w * h > max_pixels:
        beta = math.sqrt(width * height / max_pixels)
        w, h = (max(math.floor(size / beta / factor), 1) * factor for size in (width, height))
    elif w * h < min_pixels:
        beta = math.sqrt(min_pixels / (width * height))
        w, h = (math.ceil(size * beta / factor) * factor for size in (width, height))
    longest = max(max_pixels // factor // factor, 1) * factor
    return (min(w, longest), h) if h == factor else (w, min(h, longest)) if w == factor else (w, h)


def read_pdf(data: bytes, cutter: Cutter, max_pages: int, max_chars: int) -> dict[str, object]:
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
    pictures: list[object] = []
    num_chars = 0
    for number in range(len(document)):
        try:
            page = document[number]
            text = page.get_textpage().get_text_bounded()
        except pypdfium2.PdfiumError:
            page, text = None, ""  # a broken page among whole ones has no text
        pages.append(text.replace("\r\n", "\n").replace("\r", "\n"))
        num_chars += len(text)
        if num_chars > max_chars:
            return {"problem": "text"}
        if cutter.sees:
            pictures.append(cutter.cut(_drawn(page)))
    return {"pages": pages, **({"pictures": pictures} if cutter.sees else {})}


def _drawn(page: Any) -> Image.Image:
    """A page as it looks; a white one where it cannot be drawn."""
    from PIL import Image

    if page is not None:
        with contextlib.suppress(Exception):  # what is broken in a page is no news to whoever sent it
            width, height = page.get_size()
            drawn: Image.Image = page.render(scale=_PAGE_EDGE / max(width, height, 1.0)).to_pil()
            return drawn.convert("RGB")
    return Image.new("RGB", (_PAGE_EDGE, _PAGE_EDGE), "white")


def read_image(data: bytes, cutter: Cutter, max_edge: int) -> dict[str, object]:
    """The answer for one image: its first frame's size, the right way up, once all of its pixels could be decoded."""
    from PIL import Image

    load_library("image")
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
            seen = {"pictures": [cutter.cut(as_rgb(image))]} if cutter.sees else {}
    except TooManyPixelsError:
        raise
    except Exception:  # decoders raise what they like: the file is no image
        return {"problem": "invalid"}
    return {"media_type": media_type, "width": width, "height": height, **seen}


def as_rgb(image: Image.Image) -> Image.Image:
    """Red, green and blue in bytes, the right way up; what is transparent is white."""
    from PIL import Image as Library
    from PIL import ImageOps

    with contextlib.suppress(Exception):  # as above
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of grey
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Library.new("RGB", image.size, "white")
        page.paste(image, mask=image.getchannel("A"))
        return page
    return image.convert("RGB")


def _is_sideways(image: Image.Image) -> bool:
    with contextlib.suppress(Exception):  # broken EXIF does not make an image unreadable
        return image.getexif().get(_ORIENTATION) in _SIDEWAYS
    return False


if __name__ == "__main__":
    main()
