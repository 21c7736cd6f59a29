"""A checkpoint as the rest of the house sees it: a config, metadata, and float32 tensors by their file's
names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import F32
from hokku.models.config import ModelConfig
from hokku.protocol.errors import BadModelFile, ModelNotFound


@dataclass(frozen=True, slots=True)
class Codes:
    """A matrix as its file stores it in four bits: value = nibble * scale + minimum, in groups of 32
    inputs."""

    nibbles: NDArray[np.uint8]  # [N][K], 0..15
    scale: F32  # [N][K/32]
    minimum: F32  # [N][K/32]


class Checkpoint(Protocol):
    """An open checkpoint. Tensors are read from the mapped file when asked for and belong to the caller."""

    @property
    def path(self) -> Path:
        """The GGUF file or the safetensors folder."""

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything else the file says, as plain Python values: GGUF's key-value pairs (`tokenizer.ggml.*`
        included), or each JSON file of a folder under its name without the ending ("config",
        "tokenizer_config", "generation_config")."""

    @property
    def tokenizer_source(self) -> Path | None:
        """The folder's `tokenizer.json`, or None when the tokenizer is in `metadata`."""

    @property
    def container(self) -> str:
        """ "gguf" or "safetensors": which of an architecture's weight-name maps applies."""

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over stored matrix elements: 16 or more is a float checkpoint."""

    @property
    def names(self) -> Collection[str]:
        """Names of all tensors."""

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, outputs first. `BadModelFile` when there is no such tensor."""

    def floats(self, name: str) -> F32:
        """A tensor in float32. `BadModelFile` when it is missing or holds a value that is not finite."""

    def codes(self, name: str) -> Codes | None:
        """A matrix's exact four-bit codes, or None when it is stored otherwise."""


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a GGUF file or a safetensors folder. Raises `ModelNotFound` or `BadModelFile`."""
    # Both readers stay unimported until a checkpoint is packed: serving a packed model needs neither.
    if path.is_dir():
        from hokku.models.safetensors_folder import SafetensorsFolder

        return SafetensorsFolder(path)
    if not path.exists():
        raise ModelNotFound("no such file or folder", place=str(path))
    from hokku.models.gguf_file import GgufFile

    return GgufFile(path)


def finite(values: F32, name: str, path: Path) -> F32:
    """The same values, or `BadModelFile`: one NaN in a weight poisons every answer."""
    if not np.isfinite(values).all():
        raise BadModelFile(f"tensor {name} holds a value that is not finite", place=str(path))
    return values
