"""Turns a checkpoint into the kernels' own layout: smooth, encode, write, one matrix at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hokku.kernels import weights
from hokku.kernels.weights import PackedWeight
from hokku.kernels.program import WeightFormat
from hokku.models.checkpoint import Checkpoint
from hokku.models.config import ModelConfig
from hokku.models.packing.calibration import column_maxima
from hokku.models.packing.smoothing import SmoothedWeights
from hokku.models.packing.store import PackedWriter, written_whole
from hokku.models.weights import CheckpointWeights, WeightSource

PackedFormat = Literal["int8", "int4", "bf16"]
WeightsFormat = Literal["auto", "int8", "int4", "bf16"]
# Steps done, steps in all: one a matrix and pass.
Progress = Callable[[int, int], None]

# Raised whenever the layout of a packed file or the numbers in it change: older files are made anew.
FORMAT_VERSION = 1
ARRAY_FIELDS = ("codes", "scale", "gscale", "gmin")  # of a PackedWeight
_VECTORS = ("final_gain", "embedding_scale", "rope_divisors")
_LAYER_VECTORS = ("attention_gain", "qkv_bias", "q_gain", "k_gain", "ffn_gain")
# Tables of a whole vocabulary stay at eight bits where the layers have four: they are read by row or once a
# token.
_TABLES = ("embedding", "head")
_FOUR_BIT_MOST_BITS = 5.5  # a weight with its share of scales: Q4_0 is 4.5, Q4_K_M about 4.9
_LARGE_MODEL_WEIGHTS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class SourceStamp:
    """What tells whether the source is still the one that was packed."""

    name: str
    size_bytes: int
    modified_ns: int
    sha256: str | None  # where the caller knows it


def resolve_format(checkpoint: Checkpoint, wanted: WeightsFormat) -> PackedFormat:
    """What "auto" means for this checkpoint: bf16 for floats, int8 for quantised ones, int4 for large 4-bit
    ones.
    """
    if wanted != "auto":
        return wanted
    if checkpoint.bits_per_weight >= 16:
        return "bf16"
    large = num_weights(checkpoint.config) > _LARGE_MODEL_WEIGHTS
    return "int4" if large and checkpoint.bits_per_weight < _FOUR_BIT_MOST_BITS else "int8"


def num_weights(config: ModelConfig) -> int:
    """Elements of all matrices."""
    attention = config.hidden * (2 * config.query_width + 2 * config.kv_width)
    tables = config.vocabulary * config.hidden * (1 if config.tied_embeddings else 2)
    return config.layers * (attention + 3 * config.hidden * config.ffn) + tables


def pack_checkpoint(
    checkpoint: Checkpoint,
    target: Path,
    *,
    weights_format: WeightsFormat,
    calibration_tokens: Sequence[int],
    stamp: SourceStamp,
    extra: Mapping[str, str],
    progress: Progress,
) -> None:
    """Write `checkpoint` to `target` in the packed form.

    Args:
        calibration_tokens: what the model is run over to smooth int8 inputs; used by int8 and int4 alone.
        stamp: recorded, so that a later start can tell whether the source has changed.
        extra: texts to carry along, for the floors above.

    Raises:
        BadModelFile, DiskFull, BadSetting.
    """
    config = checkpoint.config
    mode = resolve_format(checkpoint, weights_format)
    plain = CheckpointWeights(checkpoint)
    shapes = matrix_shapes(config)
    steps = _Steps(len(shapes) * (1 if mode == "bf16" else 2), progress)
    source = _smoothed(plain, mode, calibration_tokens, steps)
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "weights_format": mode,
        "config": json.dumps(config.to_dict()),
        "source": json.dumps(asdict(stamp)),
    }
    num_arrays = 3 * len(shapes) + len(vector_names(config)) + len(extra)
    with written_whole(target) as file:
        writer = PackedWriter(file, num_arrays, metadata)
        for name, text in extra.items():
            writer.add(f"extra.{name}", np.frombuffer(text.encode(), np.uint8))
        for name in vector_names(config):
            if (values := source.vector(name)) is not None:
                writer.add(name, values)
        for name in shapes:
            for field, array in arrays_of(_encode(name, plain, source, mode)).items():
                writer.add(f"{name}.{field}", array)
            steps.done()
        writer.finish()


def matrix_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """Every matrix's name and shape (N, K), in the order of the forward pass."""
    c = config
    shapes = {"embedding": (c.vocabulary, c.hidden)}
    for layer in range(c.layers):
        shapes[f"layers.{layer}.qkv"] = (c.query_width + 2 * c.kv_width, c.hidden)
        shapes[f"layers.{layer}.output"] = (c.hidden, c.query_width)
        shapes[f"layers.{layer}.gate_up"] = (2 * c.ffn, c.hidden)
        shapes[f"layers.{layer}.down"] = (c.hidden, c.ffn)
    if not c.tied_embeddings:
        shapes["head"] = (c.vocabulary, c.hidden)
    return shapes


def vector_names(config: ModelConfig) -> list[str]:
    """Every gain, bias and scale that a model may have."""
    of_layers = [f"layers.{layer}.{role}" for layer in range(config.layers) for role in _LAYER_VECTORS]
    return [*_VECTORS, *of_layers]


def format_of(name: str, mode: PackedFormat) -> WeightFormat:
    """How a matrix is stored: as the mode says, but a vocabulary's table has never fewer than eight bits."""
    if mode == "int4" and name in _TABLES:
        return WeightFormat.INT8
    return WeightFormat[mode.upper()]


def arrays_of(weight: PackedWeight) -> dict[str, NDArray[Any]]:
    """A packed weight's arrays by the names of its fields."""
    fields = {field: getattr(weight, field) for field in ARRAY_FIELDS}
    return {field: array for field, array in fields.items() if array is not None}


def _smoothed(
    plain: CheckpointWeights, mode: PackedFormat, tokens: Sequence[int], steps: _Steps
) -> WeightSource:
    """The weights whose int8 linears have smoothed inputs; bf16 needs no smoothing, int4 has scales by group."""
    if mode == "bf16":
        return plain
    maxima = column_maxima(plain, tokens, steps.done)
    return SmoothedWeights(
        plain, {name: m for name, m in maxima.items() if format_of(name, mode) == WeightFormat.INT8}
    )


def _encode(name: str, plain: CheckpointWeights, source: WeightSource, mode: PackedFormat) -> PackedWeight:
    match format_of(name, mode):
        case WeightFormat.INT8:
            return weights.pack_int8(source.matrix(name))
        case WeightFormat.BF16:
            return weights.pack_bf16(source.matrix(name))
        case WeightFormat.INT4:
            codes = plain.codes(name)
            if codes is None:
                return weights.pack_int4(source.matrix(name))
            return weights.pack_int4_codes(codes.nibbles, codes.scale, codes.minimum)


class _Steps:
    """Counts towards a total."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._count = 0
        self._total = total
        self._progress = progress

    def done(self) -> None:
        """One more."""
        self._count += 1
        self._progress(self._count, self._total)
