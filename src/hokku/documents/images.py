"""What an image is worth to a model: its size, whether its bytes are an image at all, and its tokens (wire.md 12.1).

Pillow decodes it, in a process of its own (`worker.py`): what a hostile file costs is bounded there, and a fault in a
decoder ends that process and not the server.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from hokku.documents.config import ImageConfig
from hokku.documents.workers import Workers
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.pictures import Picture, Tiling

COULD_NOT_PROCESS = "Could not process image"
MAX_LONG_EDGE = 1_568  # pixels of the standard resolution tier
MAX_TOKENS = 1_568
_PATCH = 28  # pixels of a side of what becomes one token


@dataclass(frozen=True, slots=True)
class ImageSize:
    """Pixels, the right way up."""

    width: int
    height: int

    @property
    def shrunk(self) -> ImageSize:
        """The largest size of the same shape that the model takes; itself where it is no larger."""
        long, short = max(self.width, self.height), min(self.width, self.height)

        def patches(edge: int) -> int:
            return _patches(edge) * _patches(_scaled(short, edge, long))

        # The longest edge that keeps to both limits: tokens only grow with it.
        edges = range(1, min(long, MAX_LONG_EDGE) + 1)
        edge = edges[max(bisect_right(edges, MAX_TOKENS, key=patches), 1) - 1]
        if edge == long:
            return self
        other = _scaled(short, edge, long)
        return ImageSize(edge, other) if self.width >= self.height else ImageSize(other, edge)

    @property
    def num_tokens(self) -> int:
        """What a model reads of it, after shrinking."""
        return _patches(self.shrunk.width) * _patches(self.shrunk.height)


@dataclass(frozen=True, slots=True)
class ReadImage:
    """An image whose pixels could be decoded, and what it really is; and what a model that sees is shown of it."""

    media_type: str
    size: ImageSize
    picture: Picture | None = None


class ImageReader:
    """Reads images. One for a server."""

    def __init__(self, workers: Workers | None = None, config: ImageConfig | None = None) -> None:
        self._workers = workers or Workers()
        self._config = config or ImageConfig()

    async def read(
        self, data: bytes, place: str, tiling: Tiling | None = None, *, is_one_of_many: bool = False
    ) -> ReadImage:
        """What the bytes are; of an animation its first frame.

        Args:
            data: the file.
            place: where the request names it.
            tiling: what the model wants of pictures; None where it does not see.
            is_one_of_many: whether the request has so many images that each may be smaller only.

        Raises:
            InvalidRequest: too long an edge, no JPEG, PNG, GIF or WebP, or a broken one.
        """
        max_edge = self._config.max_edge_of_many if is_one_of_many else self._config.max_edge
        answer = await self._workers.read("image", data, tiling, max_edge)
        if "media_type" in answer:
            [picture] = answer.get("pictures", [None])
            return ReadImage(answer["media_type"], ImageSize(answer["width"], answer["height"]), picture)
        if answer.get("problem") == "edge":
            many = " for many-image requests" if is_one_of_many else ""
            raise InvalidRequest(
                f"At least one of the image dimensions exceed max allowed size{many}: {max_edge} pixels",
                place=place,
            )
        if answer.get("problem") == "pixels":
            raise InvalidRequest("The image is more than this model can look at", place=place)
        raise InvalidRequest(COULD_NOT_PROCESS, place=place)


def _patches(pixels: int) -> int:
    return -(-pixels // _PATCH)


def _scaled(short: int, edge: int, long: int) -> int:
    """The short edge when the long one becomes `edge`, rounded to the nearest pixel."""
    return max((2 * short * edge + long) // (2 * long), 1)
