"""Turns a checkpoint into the kernels' own layout: smooth, encode, write, one matrix at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import WeightFormat
from hokku.kernels.weights import PackedWeight, pack_bf16, pack_int4, pack_int4_codes, pack_int8
from hokku.models.checkpoint import Checkpoint
from hokku.models.packing.calibration import column_spreads
from hokku.models.packing.plan import PlannedMatrix, WeightsFormat, plan, resolve_format, vector_names
from hokku.models.packing.smoothing import SmoothedWeights
from hokku.models.packing.store import PackedWriter, written_whole
from hokku.models.weights import CheckpointWeights, WeightSource

# Steps done, steps in all.
Progress = Callable[[int, int], None]

# Raised whenever the layout of a packed file or the numbers in it change: older files are made anew.
FORMAT_VERSION = 3
ARRAY_FIELDS = ("codes", "scale", "gscale", "gmin")  # of a PackedWeight


@dataclass(frozen=True, slots=True)
class SourceStamp:
    """What tells whether the source is still the one that was packed."""

    name: str
    size_bytes: int
    modified_ns: int
    sha256: str | None  # where the caller knows it


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
        calibration_tokens: what the model is run over to smooth int8 inputs; no other format needs them.
        stamp: recorded, so that a later start can tell whether the source has changed.
        extra: texts to carry along, for the floors above.

    Raises:
        BadModelFile, DiskFull, BadSetting.
    """
    mode = resolve_format(checkpoint, weights_format)
    plain = CheckpointWeights(checkpoint)
    planned = plan(checkpoint.config, mode)
    to_smooth = [name for name in planned if mode == "int8" and name != "embedding"]
    steps = _Steps(len(planned) + len(to_smooth), progress)
    source = _smoothed(plain, to_smooth, calibration_tokens, steps)
    metadata = {
        "format_version": str(FORMAT_VERSION),
        "weights_format": mode,
        "config": json.dumps(checkpoint.config.to_dict()),
        "source": json.dumps(asdict(stamp)),
        "matrices": json.dumps({name: asdict(matrix) for name, matrix in planned.items()}),
    }
    num_arrays = 3 * len(planned) + len(vector_names(checkpoint.config)) + len(extra)
    with written_whole(target) as file:
        writer = PackedWriter(file, num_arrays, metadata)
        for name, text in extra.items():
            writer.add(f"extra.{name}", np.frombuffer(text.encode(), np.uint8))
        for name in vector_names(checkpoint.config):
            if (values := source.vector(name)) is not None:
                writer.add(name, values)
        for name, matrix in planned.items():
            for field, array in _arrays_of(_encode(name, matrix, plain, source)).items():
                writer.add(f"{name}.{field}", array)
            steps.done()
        writer.finish()


def _smoothed(
    plain: CheckpointWeights, names: Sequence[str], tokens: Sequence[int], steps: _Steps
) -> WeightSource:
    """The weights with the inputs of these linears smoothed, which takes a run over the calibration tokens."""
    if not names:
        return plain

    def measured(name: str) -> None:
        if name in names:
            steps.done()

    spreads = column_spreads(plain, tokens, measured)
    return SmoothedWeights(plain, {name: spreads[name] for name in names})


def _encode(
    name: str, planned: PlannedMatrix, plain: CheckpointWeights, source: WeightSource
) -> PackedWeight:
    match planned.format:
        case WeightFormat.INT8:
            return pack_int8(source.matrix(name), planned.segments)
        case WeightFormat.BF16:
            return pack_bf16(source.matrix(name))
        case WeightFormat.INT4:
            codes = plain.codes(name)
            if codes is None:
                return pack_int4(source.matrix(name))
            return pack_int4_codes(codes.nibbles, codes.scale, codes.minimum)


def _arrays_of(weight: PackedWeight) -> dict[str, NDArray[Any]]:
    fields = {field: getattr(weight, field) for field in ARRAY_FIELDS}
    return {field: array for field, array in fields.items() if array is not None}


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
