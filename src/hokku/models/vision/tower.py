"""Finds a vision tower: in the folder of a whole vision model, in one of its own, or in an mmproj GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hokku.kernels import WeightFormat, pack_bf16, pack_int8
from hokku.kernels.program import F32, PAGE_TOKENS, Batch, Program, Tensor
from hokku.kernels.weights import PackedWeight
from hokku.models.config import unsupported
from hokku.models.packing.plan import segments
from hokku.models.safetensors_folder import SafetensorsFolder
from hokku.models.vision import idefics3, qwen2_5_vl
from hokku.models.vision.codebook import Codebook, read_codebook
from hokku.models.vision.config import VisionConfig, idefics3_config
from hokku.models.vision.mmproj import open_mmproj
from hokku.models.vision.qwen2_5_vl import (
    QwenVisionConfig,
    qwen2_5_vl_config,
    read_qwen_weights,
)
from hokku.models.vision.weights import SAFETENSORS_NAMES, Names, Tensors, read_weights
from hokku.protocol.pictures import Pixels, Tiling

_IDEFICS3 = ("idefics3", "smolvlm")
_QWEN2_5_VL = ("qwen2_5_vl",)
# Inputs that share one scale in int8, at most.
_SEGMENT = 256


@dataclass(frozen=True)
class Tower:
    """An open vision tower, of either family."""

    config: VisionConfig | QwenVisionConfig
    tensors: Tensors
    names: Names

    def __str__(self) -> str:
        """In a line, for people."""
        c = self.config
        begin = f"{c.layers} layers of {c.hidden}"
        match c:
            case VisionConfig():
                return f"{begin}, tiles of {c.edge} pixels, {c.rows} tokens each"
            case QwenVisionConfig():
                edge = c.tiling.edge
                return f"{begin}, up to {c.tiling.max_pixels} pixels, a token for {edge} by {edge} of them"

    @property
    def path(self) -> Path:
        """Where it was found."""
        return self.tensors.path

    @property
    def stamp(self) -> tuple[tuple[str, int, int], ...]:
        """Its files by name, size and time, by which a later start can tell that they are others."""
        files = sorted(self.path.glob("*.safetensors")) if self.path.is_dir() else [self.path]
        stats = [(file.name, file.stat()) for file in files]
        return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)

    @property
    def tiling(self) -> Tiling:
        """How pictures are to be cut up for it."""
        return self.config.tiling

    @property
    def most_patches(self) -> int:
        """Token rows of a step that encodes the largest tile."""
        match self.config:
            case VisionConfig():
                return self.config.patches**2
            case QwenVisionConfig():
                return self.config.most_patches

    @property
    def most_pages(self) -> int:
        """Pages of keys and values that any step gets along with."""
        match self.config:
            case VisionConfig():
                return -(-self.most_patches // PAGE_TOKENS)
            case QwenVisionConfig():
                return qwen2_5_vl.most_pages(self.config)

    @property
    def most_rows(self) -> int:
        """Rows that the largest tile becomes."""
        return self.most_patches // self.config.joined**2

    def packed(self, weight_format: WeightFormat) -> Any:
        """Its weights for a native program, in int8 or bf16. A tenth of a second for ten million weights. Raises
        `BadModelFile`."""
        return self._weights(_pack_int8 if weight_format is WeightFormat.INT8 else pack_bf16, pack_bf16)

    def floats(self) -> Any:
        """Its weights for a `ReferenceProgram`. Raises `BadModelFile`."""

        def same(matrix: F32) -> F32:
            return matrix

        return self._weights(same, same)

    def codebook(self) -> Codebook | None:
        """What makes rows of the scores that its connector gives; None where that gives rows. Raises `BadModelFile`."""
        return read_codebook(self.tensors, self.config) if isinstance(self.config, VisionConfig) else None

    def record(self, program: Program, weights: Any) -> tuple[Tensor, Tensor]:
        """Record the encoder of its weights.

        Returns: the last layer's output [T][C], and the rows for the language model [R][out], or scores of its
            codebook's words."""
        match self.config:
            case VisionConfig():
                return idefics3.record(program, self.config, weights)
            case QwenVisionConfig():
                return qwen2_5_vl.record(program, self.config, weights)

    def step(self, pixels: Pixels) -> Batch:
        """The step that encodes one tile. Raises `ValueError` for a tile of a size that it does not take."""
        height, width, _ = pixels.shape
        match self.config:
            case VisionConfig(edge=edge):
                if (height, width) != (edge, edge):
                    raise ValueError(f"tile: is of {height} by {width} pixels, not {edge} by {edge}")
                return idefics3.step([pixels], self.config)
            case QwenVisionConfig(tiling=tiling):
                if height % tiling.edge or width % tiling.edge or not 0 < height * width <= tiling.max_pixels:
                    raise ValueError(
                        f"tile: is of {height} by {width} pixels, not multiples of {tiling.edge} with up to "
                        f"{tiling.max_pixels} in all"
                    )
                return qwen2_5_vl.step(pixels, self.config)

    def _weights(self, pack: Callable[[F32], Any], pack_table: Callable[[F32], Any]) -> Any:
        match self.config:
            case VisionConfig():
                return read_weights(self.tensors, self.names, self.config, pack, pack_table)
            case QwenVisionConfig():
                return read_qwen_weights(self.tensors, self.names, self.config, pack)


def has_tower(path: Path) -> bool:
    """Whether a folder's checkpoint can see. Raises `BadModelFile` for one that cannot be read."""
    return path.is_dir() and "vision_config" in SafetensorsFolder(path).metadata["config"]


def open_tower(path: Path) -> Tower:
    """The tower in a folder, in a folder's weights, or in a GGUF file.

    Raises: `BadModelFile` where there is none, or none that this engine has code for."""
    if path.is_dir():
        return _of_folder(path)
    return _of_folder(path.parent) if path.suffix == ".safetensors" else Tower(*open_mmproj(path))


def _of_folder(path: Path) -> Tower:
    folder = SafetensorsFolder(path)
    values = folder.metadata["config"]
    processor = folder.metadata.get("preprocessor_config", {})
    places = {
        "place": str(path / "config.json"),
        "processor_place": str(path / "preprocessor_config.json"),
    }
    if values.get("model_type") in _IDEFICS3:
        return Tower(idefics3_config(values, processor, **places), folder, SAFETENSORS_NAMES)
    if values.get("model_type") in _QWEN2_5_VL:
        return Tower(qwen2_5_vl_config(values, processor, **places), folder, qwen2_5_vl.SAFETENSORS_NAMES)
    raise unsupported(f"a vision tower of {str(values.get('model_type'))[:80]!r}", str(path))


def _pack_int8(matrix: F32) -> PackedWeight:
    return pack_int8(matrix, segments(matrix.shape[1], _SEGMENT))
