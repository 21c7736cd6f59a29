"""A tower's weights by role, as float32 matrices the way the kernels multiply by them, whatever file they lie in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hokku.kernels.program import F32
from hokku.models.config import LANES
from hokku.models.vision.config import VisionConfig
from hokku.protocol.errors import BadModelFile

# From a role to the name of the checkpoint's tensor; {n} is the layer. Names end in ".weight" and ".bias".
Names = Mapping[str, str]

SAFETENSORS_NAMES: Names = {
    "patch": "model.vision_model.embeddings.patch_embedding",
    "positions": "model.vision_model.embeddings.position_embedding",
    "attention_norm": "model.vision_model.encoder.layers.{n}.layer_norm1",
    "q": "model.vision_model.encoder.layers.{n}.self_attn.q_proj",
    "k": "model.vision_model.encoder.layers.{n}.self_attn.k_proj",
    "v": "model.vision_model.encoder.layers.{n}.self_attn.v_proj",
    "output": "model.vision_model.encoder.layers.{n}.self_attn.out_proj",
    "ffn_norm": "model.vision_model.encoder.layers.{n}.layer_norm2",
    "up": "model.vision_model.encoder.layers.{n}.mlp.fc1",
    "down": "model.vision_model.encoder.layers.{n}.mlp.fc2",
    "final_norm": "model.vision_model.post_layernorm",
    "connector": "model.connector.modality_projection.proj",
}


class Tensors(Protocol):
    """Where a tower's tensors are read from: a checkpoint, or half of one."""

    @property
    def path(self) -> Path:
        """The file or folder, for errors."""

    def floats(self, name: str) -> F32:
        """A tensor in float32. `BadModelFile` when it is missing or holds a value that is not finite."""


@dataclass(frozen=True, slots=True)
class Norm:
    """A layer norm."""

    gain: F32  # [C]
    bias: F32  # [C]


@dataclass(frozen=True, slots=True)
class Linear:
    """A matrix, which is whatever the program takes, and its bias."""

    matrix: Any  # [N][K]
    bias: F32 | None  # [N]


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """One layer: C hidden width, F feed-forward width, H heads of D dimensions, padded to whole vectors."""

    attention_norm: Norm
    qkv: Linear  # [3·H·D][C]
    output: Linear  # [C][H·D]
    ffn_norm: Norm
    up: Linear  # [F][C]
    down: Linear  # [C][F]


@dataclass(frozen=True, slots=True)
class TowerWeights:
    """A tower and its connector."""

    patch: Linear  # [C][3·P·P], channels outermost
    positions: Any  # [patches of a tile][C]
    layers: tuple[EncoderLayer, ...]
    final_norm: Norm
    connector: Linear  # [scores][r·r·C]


def read_weights(
    tensors: Tensors,
    names: Names,
    config: VisionConfig,
    pack: Callable[[F32], Any],
    pack_table: Callable[[F32], Any],
) -> TowerWeights:
    """All weights, each checked for its shape and packed.

    Args:
        pack: makes of a matrix [N][K] what the program multiplies by.
        pack_table: likewise of a table [P][C] that it looks up in.

    Raises: `BadModelFile`.
    """
    reader = _Reader(tensors, names, config, pack)
    patches = config.patches**2
    return TowerWeights(
        patch=reader.linear("patch", config.hidden, config.patch_values),
        positions=pack_table(reader.floats("positions", ".weight", (patches, config.hidden))),
        layers=tuple(reader.layer(layer) for layer in range(config.layers)),
        final_norm=reader.norm("final_norm"),
        connector=reader.linear("connector", config.scores, config.joined**2 * config.hidden, has_bias=False),
    )


class _Reader:
    def __init__(
        self, tensors: Tensors, names: Names, config: VisionConfig, pack: Callable[[F32], Any]
    ) -> None:
        self._tensors, self._names, self._config, self._pack = tensors, names, config, pack

    def floats(self, role: str, suffix: str, shape: tuple[int, ...], layer: int = 0) -> F32:
        """A tensor of as many values as `shape` has, in that shape: convolutions lie in four dimensions."""
        return read_tensor(self._tensors, self._names[role].format(n=layer) + suffix, shape)

    def norm(self, role: str, layer: int = 0) -> Norm:
        """A layer norm of the hidden width."""
        width = (self._config.hidden,)
        return Norm(self.floats(role, ".weight", width, layer), self.floats(role, ".bias", width, layer))

    def linear(self, role: str, rows: int, cols: int, layer: int = 0, *, has_bias: bool = True) -> Linear:
        """A packed matrix and its bias."""
        bias = self.floats(role, ".bias", (rows,), layer) if has_bias else None
        return Linear(self._pack(self.floats(role, ".weight", (rows, cols), layer)), bias)

    def layer(self, layer: int) -> EncoderLayer:
        """One layer, its heads padded."""
        c = self._config
        parts = [(self._heads(part, ".weight", layer), self._heads(part, ".bias", layer)) for part in "qkv"]
        weights, biases = zip(*parts, strict=True)
        output = self.floats("output", ".weight", (c.hidden, c.hidden), layer)
        padded = padded_heads(output.T, c.heads, c.head_dim).T
        return EncoderLayer(
            attention_norm=self.norm("attention_norm", layer),
            qkv=Linear(self._pack(np.concatenate(weights)), np.concatenate(biases)[:, 0].copy()),
            output=Linear(
                self._pack(np.ascontiguousarray(padded)), self.floats("output", ".bias", (c.hidden,), layer)
            ),
            ffn_norm=self.norm("ffn_norm", layer),
            up=self.linear("up", c.ffn, c.hidden, layer),
            down=self.linear("down", c.hidden, c.ffn, layer),
        )

    def _heads(self, role: str, suffix: str, layer: int) -> F32:
        """Rows of Q, K or V, or their biases as one column, padded."""
        hidden = self._config.hidden
        shape = (hidden, hidden) if suffix == ".weight" else (hidden,)
        rows = self.floats(role, suffix, shape, layer).reshape(hidden, -1)
        return padded_heads(rows, self._config.heads, self._config.head_dim)


def read_tensor(tensors: Tensors, name: str, shape: tuple[int, ...]) -> F32:
    """A tensor of as many values as `shape` has, in that shape: convolutions lie in four or five dimensions.

    Raises: `BadModelFile`."""
    values = tensors.floats(name)
    if values.shape != shape and (values.ndim < 4 or values.size != np.prod(shape)):
        raise BadModelFile(
            f"tensor {name} has the shape {values.shape}, not {shape}", place=str(tensors.path)
        )
    return np.ascontiguousarray(values.reshape(shape))


def padded_heads(rows: F32, heads: int, head_dim: int) -> F32:
    """Rows [H·D][K] with rows of zeros behind each head's up to whole vectors, which change no product."""
    missing = -head_dim % LANES
    split = rows.reshape(heads, head_dim, -1)
    return np.pad(split, ((0, 0), (0, missing), (0, 0))).reshape(-1, rows.shape[1])
