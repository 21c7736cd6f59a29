"""Bricks that every decoder-only model here is composed of: its weights by role, its buffers, and the two
runs of operations that do not differ between architectures.

Shapes: C hidden width, F feed-forward width, H query heads, G key/value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hokku.kernels.program import F32, Operand, Program, Rows, Tensor
from hokku.models.config import ModelConfig


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. Matrices are whatever the program takes: packed weights, or float32 for the reference."""

    attention_gain: F32  # [C]
    qkv: Any  # [(H+2G)·D][C]: query rows, then key rows, then value rows
    qkv_bias: F32 | None  # [(H+2G)·D]
    q_gain: F32 | None  # [D]
    k_gain: F32 | None  # [D]
    output: Any  # [C][H·D]
    ffn_gain: F32  # [C]
    gate_up: Any  # [2F][C]: gate and up rows in alternating runs of 16
    down: Any  # [C][F]


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """A whole model. A role's format and segments are the same in every layer."""

    embedding: Any  # [V][C]
    layers: tuple[LayerWeights, ...]
    final_gain: F32  # [C]
    head: Any  # [V][C]
    rope_divisors: F32 | None  # [rotary_dim/2]


@dataclass(frozen=True, slots=True)
class Forward:
    """A recorded forward pass."""

    logits: Tensor  # [R][V]


@dataclass(frozen=True, slots=True)
class Buffers:
    """What one layer hands to the next; all layers share them."""

    x: Tensor  # [T][C] the residual stream
    attention_input: Operand  # [T][C]
    qkv: Tensor  # [T][(H+2G)·D]
    q: Tensor  # [T][H·D]
    mixed: Tensor  # [T][H·D]
    mixed_input: Operand  # [T][H·D]
    ffn_input: Operand  # [T][C]
    inner: Tensor  # [T][F]
    inner_input: Operand  # [T][F]


def assemble(
    config: ModelConfig,
    matrix: Callable[[str], Any],
    vector: Callable[[str], F32 | None],
    head_name: str = "head",
) -> ModelWeights:
    """Weights by their names here: "embedding", "final_gain", and "layers.<n>." before a layer's fields.

    `head_name` is the matrix that gives the logits.
    """

    def present(name: str) -> F32:
        values = vector(name)
        if values is None:
            raise ValueError(f"no model goes without {name}")
        return values

    def layer(prefix: str) -> LayerWeights:
        return LayerWeights(
            attention_gain=present(f"{prefix}.attention_gain"),
            qkv=matrix(f"{prefix}.qkv"),
            qkv_bias=vector(f"{prefix}.qkv_bias"),
            q_gain=vector(f"{prefix}.q_gain"),
            k_gain=vector(f"{prefix}.k_gain"),
            output=matrix(f"{prefix}.output"),
            ffn_gain=present(f"{prefix}.ffn_gain"),
            gate_up=matrix(f"{prefix}.gate_up"),
            down=matrix(f"{prefix}.down"),
        )

    return ModelWeights(
        embedding=matrix("embedding"),
        layers=tuple(layer(f"layers.{index}") for index in range(config.layers)),
        final_gain=present("final_gain"),
        head=matrix(head_name),
        rope_divisors=vector("rope_divisors"),
    )


def buffers(program: Program, config: ModelConfig, weights: ModelWeights) -> Buffers:
    """Make the buffers that a model's layers share."""
    layer = weights.layers[0]
    return Buffers(
        x=program.tensor(config.hidden),
        attention_input=program.operand(config.hidden, layer.qkv),
        qkv=program.tensor(config.query_width + 2 * config.kv_width),
        q=program.tensor(config.query_width),
        mixed=program.tensor(config.query_width),
        mixed_input=program.operand(config.query_width, layer.output),
        ffn_input=program.operand(config.hidden, layer.gate_up),
        inner=program.tensor(config.ffn),
        inner_input=program.operand(config.ffn, layer.down),
    )


def feed_forward(
    program: Program, config: ModelConfig, weights: ModelWeights, index: int, b: Buffers
) -> None:
    """x += down(silu(gate(norm(x))) · up(norm(x))) in layer `index`."""
    layer = weights.layers[index]
    program.rms_norm(b.ffn_input, b.x, layer.ffn_gain, config.rms_eps)
    program.linear_swiglu(b.inner, b.ffn_input, layer.gate_up)
    program.encode(b.inner_input, b.inner)
    program.linear(b.x, b.inner_input, layer.down, accumulate=True)


def logits(program: Program, config: ModelConfig, weights: ModelWeights, x: Tensor) -> Forward:
    """The rows whose next token is wanted, normalised, times the head; then one token drawn for each."""
    last = program.tensor(config.hidden, Rows.LOGITS)
    head_input = program.operand(config.hidden, weights.head, Rows.LOGITS)
    scores = program.tensor(config.vocabulary, Rows.LOGITS)
    program.gather(last, x)
    program.rms_norm(head_input, last, weights.final_gain, config.rms_eps)
    program.linear(scores, head_input, weights.head)
    program.sample(scores)
    return Forward(scores)
