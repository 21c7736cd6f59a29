"""Finds a vision tower: in the folder of a whole vision model, in one of its own, or in an mmproj GGUF file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hokku.kernels import WeightFormat, pack_bf16, pack_int8
from hokku.kernels.program import F32
from hokku.kernels.reference import Matrix
from hokku.kernels.weights import PackedWeight
from hokku.models.config import unsupported
from hokku.models.packing.plan import segments
from hokku.models.safetensors_folder import SafetensorsFolder
from hokku.models.vision.config import VisionConfig, idefics3_config
from hokku.models.vision.mmproj import open_mmproj
from hokku.models.vision.weights import SAFETENSORS_NAMES, Names, Tensors, TowerWeights, read_weights
from hokku.protocol.pictures import Tiling

_IDEFICS3 = ("idefics3", "smolvlm")
# Inputs that share one scale in int8, at most.
_SEGMENT = 256


@dataclass(frozen=True)
class Tower:
    """An open vision tower."""

    config: VisionConfig
    tensors: Tensors
    names: Names

    def __str__(self) -> str:
        """In a line, for people."""
        c = self.config
        return f"{c.layers} layers of {c.hidden}, tiles of {c.edge} pixels, {c.rows} tokens each"

    @property
    def path(self) -> Path:
        """Where it was found."""
        return self.tensors.path

    @property
    def tiling(self) -> Tiling:
        """How pictures are to be cut up for it."""
        return self.config.tiling

    def packed(self, weight_format: WeightFormat) -> TowerWeights:
        """Its weights for a native program, in int8 or bf16. A tenth of a second for ten million weights. Raises
        `BadModelFile`."""
        pack = _pack_int8 if weight_format is WeightFormat.INT8 else pack_bf16
        return read_weights(self.tensors, self.names, self.config, pack, pack_bf16)

    def floats(self) -> TowerWeights:
        """Its weights for a `ReferenceProgram`. Raises `BadModelFile`."""

        def same(matrix: F32) -> Matrix:
            return matrix

        return read_weights(self.tensors, self.names, self.config, same, same)


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
    if values.get("model_type") not in _IDEFICS3:
        raise unsupported(f"a vision tower of {str(values.get('model_type'))[:80]!r}", str(path))
    processor = folder.metadata.get("preprocessor_config", {})
    config = idefics3_config(
        values,
        processor,
        place=str(path / "config.json"),
        processor_place=str(path / "preprocessor_config.json"),
    )
    return Tower(config, folder, SAFETENSORS_NAMES)


def _pack_int8(matrix: F32) -> PackedWeight:
    return pack_int8(matrix, segments(matrix.shape[1], _SEGMENT))
