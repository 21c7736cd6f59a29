"""Which format each matrix of a packed model gets, and what is in a packed file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hokku.kernels.program import WeightFormat
from hokku.models.checkpoint import Checkpoint
from hokku.models.config import ModelConfig
from hokku.models.weights import CheckpointWeights

PackedFormat = Literal["int8", "int4", "bf16"]
WeightsFormat = Literal["auto", "int8", "int4", "bf16"]

# The head of the integer formats: eight bits in groups, as two int4 planes whose products add up (planes.py).
HEAD_PLANES = ("head.high", "head.low")
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


def resolve_format(checkpoint: Checkpoint, wanted: WeightsFormat) -> PackedFormat:
    """What "auto" means here: bf16 for float checkpoints, int8 for quantised ones, int4 for large 4-bit ones."""
    if wanted != "auto":
        return wanted
    if checkpoint.bits_per_weight >= 16:
        return "bf16"
    large = _num_weights(checkpoint.config) > _LARGE_MODEL_WEIGHTS
    return "int4" if large and checkpoint.bits_per_weight < _FOUR_BIT_MOST_BITS else "int8"


def plan(weights: CheckpointWeights, mode: PackedFormat) -> dict[str, PlannedMatrix]:
    """Every packed matrix by name, in the order of the forward pass.

    In int8 the down projections of the first layer and the last two keep a checkpoint's four-bit codes where
    it has them: these three lose more in int8 than all the rest of that kind (docs/lab-notebook.md).
    """
    c = weights.config
    of_mode = WeightFormat[mode.upper()]
    table = WeightFormat.BF16 if mode == "bf16" else WeightFormat.INT8
    planned = {"embedding": PlannedMatrix(table, c.vocabulary, c.hidden)}
    for layer in range(c.layers):
        prefix = f"layers.{layer}"
        outer = layer in (0, c.layers - 2, c.layers - 1)
        keeps_codes = mode == "int8" and outer and weights.codes(f"{prefix}.down") is not None
        of_down = WeightFormat.INT4 if keeps_codes else of_mode
        planned[f"{prefix}.qkv"] = PlannedMatrix(of_mode, c.query_width + 2 * c.kv_width, c.hidden)
        planned[f"{prefix}.output"] = PlannedMatrix(of_mode, c.hidden, c.query_width)
        planned[f"{prefix}.gate_up"] = PlannedMatrix(of_mode, 2 * c.ffn, c.hidden)
        planned[f"{prefix}.down"] = PlannedMatrix(of_down, c.hidden, c.ffn)
    of_head = WeightFormat.BF16 if mode == "bf16" else WeightFormat.INT4
    for name in head_names(c, mode):
        planned.setdefault(name, PlannedMatrix(of_head, c.vocabulary, c.hidden))
    return planned


def head_names(config: ModelConfig, mode: PackedFormat) -> tuple[str, ...]:
    """The matrices whose products add up to the logits."""
    if mode != "bf16":
        return HEAD_PLANES
    return ("embedding",) if config.tied_embeddings else ("head",)


def vector_names(config: ModelConfig) -> list[str]:
    """Every gain, bias and scale that a model may have."""
    of_layers = [f"layers.{layer}.{role}" for layer in range(config.layers) for role in _LAYER_VECTORS]
    return [*_VECTORS, *of_layers]


def _num_weights(config: ModelConfig) -> int:
    attention = config.hidden * (2 * config.query_width + 2 * config.kv_width)
    tables = config.vocabulary * config.hidden * (1 if config.tied_embeddings else 2)
    return config.layers * (attention + 3 * config.hidden * config.ffn) + tables
