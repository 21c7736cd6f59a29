"""SmoothQuant (Xiao et al. 2023): moves the spread of activation columns into weight columns before both
become int8.

Column j of a linear's input is divided by s_j and column j of its weight multiplied by s_j: the product stays
the same, the input loses its outliers. Every division is folded into what comes before it, so it costs
nothing at run time: into the norm's gain for Q/K/V, gate/up and the head, into the rows of V for the
attention output (one value a key/value head and dimension), into the rows of up for down.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hokku.kernels.program import F32
from hokku.models.config import LANES, ModelConfig
from hokku.models.packing.calibration import root_mean_square
from hokku.models.weights import WeightSource


class SmoothedWeights:
    """A `WeightSource` that computes what `source` does, with its linears' inputs evened out.

    Args:
        spreads: for each linear that is to be smoothed its inputs' root mean squares [K], by the matrix's name.
    """

    def __init__(self, source: WeightSource, spreads: Mapping[str, F32]) -> None:
        self.config: ModelConfig = source.config
        self._source = source
        self._spreads = spreads
        self._scales: dict[str, F32] = {}

    def matrix(self, name: str) -> F32:
        """A matrix [N][K], its columns multiplied by their scales and V's or up's rows divided by theirs."""
        floats = self._fold_rows(name, self._source.matrix(name))
        scale = self._column_scale(name)
        return floats if scale is None else floats * scale

    def vector(self, name: str) -> F32 | None:
        """A gain, divided by the scales of the linear that it feeds; a bias, by those of V's rows."""
        prefix, _, role = name.rpartition(".")
        values = self._source.vector(name)
        if values is None:
            return None
        if role == "qkv_bias":
            return self._fold_rows(f"{prefix}.qkv", values[:, None])[:, 0]
        readers = {"attention_gain": f"{prefix}.qkv", "ffn_gain": f"{prefix}.gate_up", "final_gain": "head"}
        scale = self._column_scale(readers[role]) if role in readers else None
        return values if scale is None else values / scale

    def _column_scale(self, name: str) -> F32 | None:
        if name not in self._spreads:
            return None
        if name not in self._scales:
            weight_spread = root_mean_square(self._fold_rows(name, self._source.matrix(name)))
            if name.endswith(".output"):
                self._scales[name] = self._per_kv_head(self._spreads[name], weight_spread)
            else:
                self._scales[name] = column_scale(self._spreads[name], weight_spread)
        return self._scales[name]

    def _per_kv_head(self, spread: F32, weight_spread: F32) -> F32:
        """One scale for all query heads that read one key/value head, as V has but one row for them [H·D]."""
        heads = (self.config.kv_heads, -1, self.config.head_dim)
        of_group = [values.reshape(heads).max(axis=1) for values in (spread, weight_spread)]
        scale = column_scale(*of_group)[:, None]
        return np.repeat(scale, self.config.heads // self.config.kv_heads, axis=1).reshape(-1)

    def _fold_rows(self, name: str, rows: F32) -> F32:
        """Rows [N][…] of V or up, divided by the scales of the linear that reads them."""
        prefix, _, role = name.rpartition(".")
        if role == "qkv" and (scale := self._column_scale(f"{prefix}.output")) is not None:
            c = self.config
            of_v = scale.reshape(c.kv_heads, -1, c.head_dim)[:, 0].reshape(-1, 1)
            return np.concatenate([rows[: -c.kv_width], rows[-c.kv_width :] / of_v])
        if role == "gate_up" and (scale := self._column_scale(f"{prefix}.down")) is not None:
            runs = rows.reshape(-1, 2, LANES, rows.shape[1]).copy()
            runs[:, 1] /= scale.reshape(-1, LANES, 1)
            return runs.reshape(rows.shape)
        return rows


def column_scale(spread: F32, weight_spread: F32) -> F32:
    """s_j = √(rms x_j / rms w_j), which makes both sides equally wide; 1 where a column never carried
    anything.

    The paper takes largest magnitudes instead, which let a single token decide over a column; root mean
    squares lose a third less (docs/lab-notebook.md).
    """
    alive = (spread > 0) & (weight_spread > 0)
    scale: F32 = np.sqrt(np.where(alive, spread, 1) / np.where(alive, weight_spread, 1))
    return scale
