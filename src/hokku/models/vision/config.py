"""What a vision tower is, in numbers: from a Hugging Face `config.json` and `preprocessor_config.json`, checked.

Both come from untrusted files, as `models/config.py` says of the language model's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hokku.models.config import LANES, Fields, unsupported
from hokku.protocol.pictures import Resampling, Tiling

CHANNELS = 3  # red, green, blue
_MOST_EDGE = 4_096  # pixels
_MOST_PATCHES = 16_384
_MOST_HEAD_DIM = 256
_MOST_WORDS = 65_536
# Pillow's numbers, which processors' files hold.
_RESAMPLING: dict[int, Resampling] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}


@dataclass(frozen=True, slots=True)
class DictionaryConfig:
    """Where a page of rows spells a word, and where the word itself is to stand."""

    entries: int
    letters: int  # rows that spell, from `first_letter` on
    first_letter: int  # a row, as all of these
    word: int
    where: int  # the row that says `says` on such a page, and something else on others
    says: int


@dataclass(frozen=True, slots=True)
class CodebookConfig:
    """What rows can say, of eyes whose connector scores words."""

    words: int  # that are scored
    vectors: int  # those of the words, and more that only a dictionary leads to
    line: int  # rows that lend each other something
    dictionary: DictionaryConfig | None


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The shape of a tower and its connector."""

    layers: int
    hidden: int
    heads: int
    head_dim: int
    ffn: int
    edge: int  # pixels of a tile's edge
    patch: int  # pixels of a patch's edge
    joined: int  # patches of an edge that become one row: r of r by r
    layer_norm_eps: float
    out: int  # columns of a row: the language model's hidden width
    mean: tuple[float, ...]  # of each channel, of values from 0 to 1
    deviation: tuple[float, ...]
    tiling: Tiling
    codebook: CodebookConfig | None = None  # that rows are looked up in; None where the connector's are read

    @property
    def scores(self) -> int:
        """Columns that the connector gives: a row's, or a score for each word that a row can say."""
        return self.codebook.words if self.codebook else self.out

    @property
    def patches(self) -> int:
        """Of a tile's edge."""
        return self.edge // self.patch

    @property
    def rows(self) -> int:
        """That a tile becomes."""
        return (self.patches // self.joined) ** 2

    @property
    def patch_values(self) -> int:
        """Numbers in a patch."""
        return CHANNELS * self.patch**2

    @property
    def padded_head_dim(self) -> int:
        """A head's dimensions with the zeros that make it whole vectors."""
        return -(-self.head_dim // LANES) * LANES


def idefics3_config(
    values: Mapping[str, Any], processor: Mapping[str, Any], *, place: str, processor_place: str
) -> VisionConfig:
    """Of SmolVLM and Idefics3. What files leave out is as in `transformers`."""
    fields = Fields(values, place)
    vision = fields.mapping("vision_config")
    if (activation := vision.text("hidden_act", default="gelu_pytorch_tanh")) != "gelu_pytorch_tanh":
        raise unsupported(f"activation {activation!r} of a vision tower", place)
    if vision.integer("num_channels", default=CHANNELS) != CHANNELS:
        raise unsupported("a picture of other than three channels", place)
    heads = vision.integer("num_attention_heads", default=16)
    hidden = vision.integer("hidden_size", default=1152)
    edge = vision.integer("image_size", default=224, most=_MOST_EDGE)
    patch = vision.integer("patch_size", default=32, most=_MOST_EDGE)
    joined = fields.integer("scale_factor", default=2)
    rows = (edge // patch // joined) ** 2
    prepared = Fields(processor, processor_place)
    return _checked(
        VisionConfig(
            layers=vision.integer("num_hidden_layers", default=12, most=1_024),
            hidden=hidden,
            heads=heads,
            head_dim=max(1, hidden // heads),
            ffn=vision.integer("intermediate_size", default=3072),
            edge=edge,
            patch=patch,
            joined=joined,
            layer_norm_eps=vision.positive("layer_norm_eps", default=1e-6),
            out=fields.mapping("text_config").integer("hidden_size"),
            mean=of_channels(prepared, "image_mean"),
            deviation=of_channels(prepared, "image_std"),
            tiling=_idefics3_tiling(prepared, edge, rows),
            codebook=_codebook(fields.mapping("codebook"), rows),
        ),
        place,
    )


def _codebook(fields: Fields, rows: int) -> CodebookConfig | None:
    words = fields.integer("words", default=0, least=0, most=_MOST_WORDS)
    if not words:
        return None
    line = fields.integer("line", default=1)
    if rows % line:
        raise unsupported(f"lines of {line} of {rows} rows", fields.place)
    vectors = fields.integer("vectors", default=words, least=words, most=_MOST_WORDS)
    return CodebookConfig(words, vectors, line, _dictionary(fields.mapping("dictionary"), rows, words))


def _dictionary(fields: Fields, rows: int, words: int) -> DictionaryConfig | None:
    entries = fields.integer("entries", default=0, least=0, most=_MOST_WORDS)
    if not entries:
        return None
    letters = fields.integer("letters", most=rows)
    word, where = (fields.integer(key, least=0, most=rows - 1) for key in ("word_row", "where_row"))
    first_letter = fields.integer("first_letter_row", least=0, most=rows - letters)
    says = fields.integer("says", least=0, most=words - 1)
    return DictionaryConfig(entries, letters, first_letter, word, where, says)


def _idefics3_tiling(processor: Fields, edge: int, rows: int) -> Tiling:
    tile_edge = processor.mapping("max_image_size").integer("longest_edge", default=edge, most=_MOST_EDGE)
    if tile_edge != edge:
        raise unsupported(f"tiles of {tile_edge} pixels for a tower of {edge}", processor.place)
    resampling = checked_resampling(processor, default=1)
    if not processor.flag("do_image_splitting", default=True):
        return Tiling("single", edge, rows, resampling=resampling)
    longest = processor.mapping("size").integer("longest_edge", default=4 * edge, most=16 * _MOST_EDGE)
    return Tiling("idefics3", edge, rows, longest_edge=longest, resampling=resampling)


def checked_resampling(processor: Fields, *, default: int) -> Resampling:
    """How pictures are resized, from Pillow's number."""
    code = processor.integer("resample", default=default, least=0, most=5)
    if code not in _RESAMPLING:
        raise unsupported(f"resampling {code}", processor.place)
    return _RESAMPLING[code]


def of_channels(fields: Fields, key: str) -> tuple[float, ...]:
    """One positive number a channel, one half each where there are none."""
    found = fields.numbers(key)
    if found is None:
        return (0.5,) * CHANNELS
    if len(found) != CHANNELS:
        raise fields.bad(key, found, f"{CHANNELS} numbers")
    return tuple(Fields({key: value}, fields.place).positive(key) for value in found)


def _checked(config: VisionConfig, place: str) -> VisionConfig:
    """The same config, or `BadModelFile` when its numbers do not fit together or the kernels."""
    if config.hidden % config.heads or config.head_dim > _MOST_HEAD_DIM:
        raise unsupported(f"a tower's width of {config.hidden} in {config.heads} heads", place)
    if config.edge % config.patch or config.patches % config.joined:
        raise unsupported(
            f"tiles of {config.edge} pixels in patches of {config.patch}, joined by {config.joined}", place
        )
    if config.patches**2 > _MOST_PATCHES:
        raise unsupported(f"{config.patches**2} patches a tile", place)
    return config
