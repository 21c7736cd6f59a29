"""Packs a checkpoint once into the kernels' own layout, and from then on maps the packed file.

checkpoint ── calibration (int8) ── smoothing ── pack ── store ── PackedModel ── a recorded Program
"""

from hokku.models.packing.model import PackedModel, TextSide, load_model
from hokku.models.packing.pack import Progress
from hokku.models.packing.plan import WeightsFormat

__all__ = ["PackedModel", "Progress", "TextSide", "WeightsFormat", "load_model"]
