"""Pictures in a prompt: marked in the text that a template is given, written out tile by tile in what it renders.

A picture goes through a template as one character that no text contains, which also says which picture it is. What the
model's family writes around and between tiles comes afterwards, so that no template has to know of it; then a tile's
mark becomes its rows.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hokku.chat.tokenizer import TILE_ID
from hokku.chat.typed import PICTURE_MARKS, TILE_MARK
from hokku.protocol.engine import PromptTile
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.pictures import Picture, Tile, TilingKind

_FIRST, _LAST = PICTURE_MARKS
MOST_PICTURES = ord(_LAST) - ord(_FIRST) + 1
# What each family's templates write where a picture is; "single" is for models whose template knows none.
PLACE_HOLDERS: dict[TilingKind, str | None] = {
    "single": None,
    "idefics3": "<image>",
    "qwen2_5_vl": "<|image_pad|>",
}
_PICTURE = re.compile(f"[{_FIRST}-{_LAST}]")
# Around a picture of Qwen2.5-VL, which its template writes where it writes the picture itself.
_VISION_START, _VISION_END = "<|vision_start|>", "<|vision_end|>"
_FRAMED_PICTURE = re.compile(
    f"(?:{re.escape(_VISION_START)})?([{_FIRST}-{_LAST}])(?:{re.escape(_VISION_END)})?"
)
# Around and before the tiles of Idefics3 and SmolVLM.
_TILE_BORDER, _WHOLE = "<fake_token_around_image>", "<global-img>"


def picture_mark(number: int) -> str:
    """What stands for the picture of this number, from 0. Raises `InvalidRequest` where there are too many."""
    if number >= MOST_PICTURES:
        raise InvalidRequest(f"the model reads at most {MOST_PICTURES} pictures and pages")
    return chr(ord(_FIRST) + number)


def without_marks(text: str) -> str:
    """People's text, in which no picture is meant."""
    return _PICTURE.sub("\ufffd", text)


@dataclass(frozen=True, slots=True)
class PicturesWriter:
    """Writes a conversation's pictures into what a template has rendered of it."""

    kind: TilingKind
    pictures: Sequence[Picture]

    def written(self, rendered: str) -> tuple[str, list[Tile]]:
        """The rendered text with a mark for each tile in the place of each picture, and the tiles in that order.

        Raises `InvalidRequest` where a picture is not there exactly once.
        """
        marks = _PICTURE.findall(rendered)
        if sorted(marks) != [picture_mark(number) for number in range(len(self.pictures))]:
            raise InvalidRequest("its pictures cannot be told from its text, which contains lone surrogates")
        pattern = _FRAMED_PICTURE if self.kind == "qwen2_5_vl" else _PICTURE
        text = pattern.sub(
            lambda match: self._shown(self._picture(match.group(match.lastindex or 0))), rendered
        )
        return text, [tile for mark in marks for tile in self._picture(mark).tiles]

    def _picture(self, mark: str) -> Picture:
        return self.pictures[ord(mark) - ord(_FIRST)]

    def _shown(self, picture: Picture) -> str:
        match self.kind:
            case "single":
                return TILE_MARK * len(picture.tiles)
            case "qwen2_5_vl":
                return f"{_VISION_START}{TILE_MARK}{_VISION_END}"
            case "idefics3":
                return "".join(_idefics3(picture))


def with_rows(
    token_ids: Sequence[int], counts: Sequence[int], tiles: Sequence[Tile]
) -> tuple[list[int], list[int], tuple[PromptTile, ...]]:
    """The prompt with the rows of tiles in place of each `TILE_ID`; what some counts of its first tokens have become;
    and where the tiles are."""
    prompt: list[int] = []
    placed: list[PromptTile] = []
    ends: list[int] = []  # of tiles, in `token_ids`
    num_added = [0]  # by the first tiles
    for index, token_id in enumerate(token_ids, 1):
        if token_id == TILE_ID:
            tile = tiles[len(placed)]
            placed.append(PromptTile(len(prompt), tile))
            prompt.extend(tile.row_ids())
            ends.append(index)
            num_added.append(num_added[-1] + tile.num_rows - 1)
        else:
            prompt.append(token_id)
    return prompt, [count + num_added[bisect_right(ends, count)] for count in counts], tuple(placed)


def _idefics3(picture: Picture) -> Iterator[str]:
    rows, columns = picture.grid
    for row in range(1, rows + 1):
        for column in range(1, columns + 1):
            yield f"{_TILE_BORDER}<row_{row}_col_{column}>{TILE_MARK}"
        yield "\n"
    if rows:
        yield "\n"
    yield f"{_TILE_BORDER}{_WHOLE}{TILE_MARK}{_TILE_BORDER}"
