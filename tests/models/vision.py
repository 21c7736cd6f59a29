"""What the tests of vision share: golden checkpoints with their tiles and prompts, and full models driven with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import F32, I32, Batch
from tests.models.house import GOLDENS, batch

IMAGE_ID = 319
LOGIT_STRIDE = 3
NUM_PROMPTS = 3


@dataclass(frozen=True)
class Prompt:
    """A prompt with pictures, and every third row of its logits by transformers."""

    tokens: I32  # [T] with IMAGE_ID for each row of a picture
    tiles: I32  # numbers of the tiles that it shows, in order
    logits: F32  # [T // 3][V]

    def batch(self, rows: Sequence[F32], rope_positions: I32 | None = None) -> Batch:
        """The step that reads it all; rows [rows][C] are those of each tile."""
        tokens = self.tokens.copy()
        pictured = np.flatnonzero(tokens == IMAGE_ID)
        tokens[pictured] = -1 - np.arange(len(pictured))
        features = np.concatenate([rows[tile] for tile in self.tiles])
        step = batch([(tokens, 0)], len(tokens))
        wanted = np.arange(LOGIT_STRIDE - 1, len(tokens), LOGIT_STRIDE, dtype=np.int32)
        count = len(wanted)
        return replace(
            step,
            features=features,
            rope_positions=rope_positions,
            logit_index=wanted,
            temperature=step.temperature[:count],
            top_p=step.top_p[:count],
            top_k=step.top_k[:count],
            seed=step.seed[:count],
            counter=step.counter[:count],
        )


@dataclass(frozen=True)
class VisionGolden:
    """A tiny checkpoint that sees."""

    path: Path
    tiles: NDArray[np.uint8]  # [tiles][edge][edge][3]
    hidden: (
        F32  # [some tiles][patches][C] the tower's output after its last norm, patches in the picture's order
    )
    rows: F32  # [tiles][rows][out]
    prompts: tuple[Prompt, ...]


def stored_prompts(stored: Mapping[str, NDArray[Any]]) -> tuple[Prompt, ...]:
    return tuple(
        Prompt(*(stored[f"{field}_{number}"] for field in ("tokens", "tiles", "logits")))
        for number in range(NUM_PROMPTS)
    )


def vision_golden(name: str) -> VisionGolden:
    with np.load(GOLDENS / name / "golden.npz") as stored:
        prompts = stored_prompts(stored)
        return VisionGolden(GOLDENS / name, stored["tiles"], stored["hidden"], stored["rows"], prompts)


def cosines(ours: NDArray[Any], theirs: NDArray[Any]) -> F32:
    """Of each row of the last axis."""
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    cosine: F32 = (ours * theirs).sum(axis=-1) / lengths
    return cosine
