"""A checkpoint's tensors as the matrices that kernels multiply by, in float32, made when they are asked for.

Q, K and V become one matrix, gate and up alternate in runs of 16 rows, rotary pairs lie half a head apart:
past this file nobody knows how a checkpoint had them.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import F32
from hokku.kernels.reference import LazyMatrix
from hokku.models.checkpoint import Checkpoint, Codes
from hokku.models.config import LANES, ModelConfig, unsupported
from hokku.models.layers import ModelWeights, assemble
from hokku.models.registry import architecture_of
from hokku.protocol.errors import BadModelFile

_Order = NDArray[np.intp]


class WeightSource(Protocol):
    """Weights by the names that `layers.assemble` asks for; "head" is the embedding table where they are tied."""

    config: ModelConfig

    def matrix(self, name: str) -> F32:
        """A matrix [N][K], made anew on each call."""

    def vector(self, name: str) -> F32 | None:
        """A gain, a bias or a scale; None where this model has none."""


def lazy_weights(source: WeightSource) -> ModelWeights:
    """The source's weights for a `ReferenceProgram`, each matrix made when an operation needs it."""
    return assemble(source.config, lambda name: LazyMatrix(name, lambda: source.matrix(name)), source.vector)


class CheckpointWeights:
    """The `WeightSource` of a checkpoint as it is."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Find the architecture and check every shape, reading no weight. Raises `BadModelFile`."""
        self.config = checkpoint.config
        self._checkpoint = checkpoint
        self._architecture = architecture_of(self.config.architecture, str(checkpoint.path))
        in_gguf = checkpoint.container == "gguf"
        self._names = self._architecture.gguf if in_gguf else self._architecture.safetensors
        self._pairs_adjacent = in_gguf and self._architecture.gguf_rotary_pairs_adjacent
        if self._pairs_adjacent and self.config.rotary_dim != self.config.head_dim:
            raise unsupported("rotation of a part of each head in this container", str(checkpoint.path))
        self._check_shapes()

    def matrix(self, name: str) -> F32:
        """A matrix [N][K] in float32."""
        floats = np.concatenate([self._checkpoint.floats(part) for part in self._parts(name)])
        order = self._row_order(name)
        return floats if order is None else floats[order]

    def codes(self, name: str) -> Codes | None:
        """The same matrix's exact four-bit codes, or None unless all of it is stored so."""
        parts = [self._checkpoint.codes(part) for part in self._parts(name)]
        codes = [part for part in parts if part is not None]
        if len(codes) != len(parts):
            return None
        order = self._row_order(name)
        rows: slice | _Order = slice(None) if order is None else order
        return Codes(
            np.concatenate([part.nibbles for part in codes])[rows],
            np.concatenate([part.scale for part in codes])[rows],
            np.concatenate([part.minimum for part in codes])[rows],
        )

    def vector(self, name: str) -> F32 | None:
        """A gain or bias; None where this family has none."""
        layer, _, role = name.rpartition(".")
        if role == "qkv_bias":
            if "q_bias" not in self._names:
                return None
            return np.concatenate(
                [self._checkpoint.floats(self._tensor(layer, f"{part}_bias")) for part in "qkv"]
            )
        if role not in self._names or (
            role == "rope_divisors" and self._names[role] not in self._checkpoint.names
        ):
            return None
        return self._checkpoint.floats(self._tensor(layer, role))

    def _parts(self, name: str) -> list[str]:
        layer, _, role = name.rpartition(".")
        roles = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}.get(role, (role,))
        return [self._tensor(layer, part) for part in roles]

    def _tensor(self, layer: str, role: str) -> str:
        if role == "head" and self.config.tied_embeddings:
            role = "embedding"
        return self._names[role].format(n=layer.removeprefix("layers."))

    def _row_order(self, name: str) -> _Order | None:
        role = name.rpartition(".")[2]
        if role == "gate_up":
            return gate_up_order(self.config.ffn)
        if role == "qkv" and self._pairs_adjacent:
            rotated = self.config.heads + self.config.kv_heads
            pairs = pairs_apart_order(rotated, self.config.head_dim)
            values = np.arange(self.config.kv_width) + pairs.size
            return np.concatenate([pairs, values])
        return None

    def _check_shapes(self) -> None:
        c = self.config
        wanted: dict[str, tuple[int, ...]] = {
            "embedding": (c.vocabulary, c.hidden),
            "final_gain": (c.hidden,),
            "attention_gain": (c.hidden,),
            "q": (c.query_width, c.hidden),
            "k": (c.kv_width, c.hidden),
            "v": (c.kv_width, c.hidden),
            "q_bias": (c.query_width,),
            "k_bias": (c.kv_width,),
            "v_bias": (c.kv_width,),
            "q_gain": (c.head_dim,),
            "k_gain": (c.head_dim,),
            "output": (c.hidden, c.query_width),
            "ffn_gain": (c.hidden,),
            "gate": (c.ffn, c.hidden),
            "up": (c.ffn, c.hidden),
            "down": (c.hidden, c.ffn),
        }
        if not c.tied_embeddings:
            wanted["head"] = (c.vocabulary, c.hidden)
        if self._names.get("rope_divisors") in self._checkpoint.names:
            wanted["rope_divisors"] = (c.rotary_dim // 2,)
        for role, shape in wanted.items():
            for name in self._tensors_of(role):
                if self._checkpoint.shape(name) != shape:
                    stored = self._checkpoint.shape(name)
                    raise BadModelFile(
                        f"tensor {name} has the shape {stored}, not {shape}", place=str(self._checkpoint.path)
                    )

    def _tensors_of(self, role: str) -> list[str]:
        pattern = self._names.get(role)
        if pattern is None:
            return []
        layers = range(self.config.layers if "{n}" in pattern else 1)
        return [pattern.format(n=layer) for layer in layers]


def gate_up_order(ffn: int) -> _Order:
    """Rows of [gate; up] in alternating runs of 16 [2F]."""
    rows = np.arange(2 * ffn).reshape(2, -1, LANES)
    order: _Order = rows.transpose(1, 0, 2).reshape(-1)
    return order


def pairs_apart_order(heads: int, head_dim: int) -> _Order:
    """Rows with rotary pairs side by side, in the order that puts them half a head apart [heads·D]."""
    rows = np.arange(heads * head_dim).reshape(heads, head_dim // 2, 2)
    order: _Order = rows.transpose(0, 2, 1).reshape(-1)
    return order
