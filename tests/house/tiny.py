"""The golden checkpoints, packed: small enough for the slowest kernel path."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from hokku.models.checkpoint import Checkpoint
from hokku.models.packing import PackedModel, TextSide, WeightsFormat, load_model

GOLDENS = Path(__file__).parent.parent / "goldens"


def tiny_packed(name: str, weights_format: str, folder: Path) -> PackedModel:
    """A golden checkpoint in a packed form, kept in `folder`."""

    def read_text_side(checkpoint: Checkpoint) -> TextSide:
        vocabulary = checkpoint.config.vocabulary
        return TextSide(encode=lambda text: [ord(c) * 31 % vocabulary for c in text[:512]], extra={})

    return load_model(
        GOLDENS / name,
        read_text_side=read_text_side,
        weights_format=cast(WeightsFormat, weights_format),
        cache_dir=folder,
    )
