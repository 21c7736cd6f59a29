"""Which format each matrix of a packed model gets, and what is in a packed file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hokku.kernels.program import WeightFormat
from hokku.kernels.weights import DEPTH_PAD
from hokku.models.checkpoint import Checkpoint
from hokku.models.config import ModelConfig

PackedFormat = Literal["int8", "int4", "bf16"]
WeightsFormat = Literal["auto", "int8", "int4", "bf16"]

# Inputs that share one scale in an int8 linear, at most. Many for the layers, where each segment costs prefill time;
# few for the tables, whose products wait for memory anyway (docs/lab-notebook.md has what either costs).
_LAYER_SEGMENT = 640
_TABLE_SEGMENT = 64
_VECTORS = ("final_gain", "rope_divisors")
_LAYER_VECTORS = ("attention_gain", "qkv_bias", "q_gain", "k_gain", "ffn_gain")
_FOUR_BIT_MOST_BITS = 5.5  # a weight with its share of scales: Q4_0 is 4.5, Q4_K_M about 4.9
_LARGE_MODEL_WEIGHTS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PlannedMatrix:
    """One packed weight."""

    format: WeightFormat
    rows: int  # N
    cols: int  # K
    segments: int = 1  # of an int8 matrix


def resolve_format(checkpoint: Checkpoint, wanted: WeightsFormat) -> PackedFormat:
    """What "auto" means here: bf16 for float checkpoints, int8 for quantised ones, int4 for large 4-bit ones."""
    if wanted != "auto":
        return wanted
    if checkpoint.bits_per_weight >= 16:
        return "bf16"
    large = _num_weights(checkpoint.config) > _LARGE_MODEL_WEIGHTS
    return "int4" if large and checkpoint.bits_per_weight < _FOUR_BIT_MOST_BITS else "int8"


def plan(config: ModelConfig, mode: PackedFormat) -> dict[str, PlannedMatrix]:
    """Every packed matrix by name, in the order of the forward pass."""
    c = config
    of_layers = WeightFormat[mode.upper()]
    of_tables = WeightFormat.BF16 if mode == "bf16" else WeightFormat.INT8
    table = _planned(of_tables, c.vocabulary, c.hidden, _TABLE_SEGMENT)
    matrices = {"embedding": table}
    for layer in range(c.layers):
        shapes = {
            "qkv": (c.query_width + 2 * c.kv_width, c.hidden),
            "output": (c.hidden, c.query_width),
            "gate_up": (2 * c.ffn, c.hidden),
            "down": (c.hidden, c.ffn),
        }
        for role, (rows, cols) in shapes.items():
            matrices[f"layers.{layer}.{role}"] = _planned(of_layers, rows, cols, _LAYER_SEGMENT)
    matrices.setdefault(head_name(c, mode), table)
    return matrices


def head_name(config: ModelConfig, mode: PackedFormat) -> str:
    """The matrix that gives the logits: a tied table itself, except that int8 smooths a copy of it."""
    return "embedding" if config.tied_embeddings and mode != "int8" else "head"


def segments(cols: int, longest: int) -> int:
    """The fewest equal segments of whole depth pads, none longer than `longest`, that padded inputs fall into."""
    pads = -(-cols // DEPTH_PAD)
    return next(n for n in range(1, pads + 1) if pads % n == 0 and pads // n * DEPTH_PAD <= longest)


def _planned(format_: WeightFormat, rows: int, cols: int, longest_segment: int) -> PlannedMatrix:
    num_segments = segments(cols, longest_segment) if format_ == WeightFormat.INT8 else 1
    return PlannedMatrix(format_, rows, cols, num_segments)


def vector_names(config: ModelConfig) -> list[str]:
    """Every gain, bias and scale that a model may have."""
    of_layers = [f"layers.{layer}.{role}" for layer in range(config.layers) for role in _LAYER_VECTORS]
    return [*_VECTORS, *of_layers]


def _num_weights(config: ModelConfig) -> int:
    attention = config.hidden * (2 * config.query_width + 2 * config.kv_width)
    tables = config.vocabulary * config.hidden * (1 if config.tied_embeddings else 2)
    return config.layers * (attention + 3 * config.hidden * config.ffn) + tables
