"""The recipe: `eyes.toml` as values."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.tower import TowerConfig

PHASES = ("notes", "tower")


@dataclass(frozen=True)
class PhaseConfig:
    """One phase: how many pictures, how many at once, how fast, and how many questions each."""

    samples: int
    batch_size: int
    learning_rate: float
    questions: int
    crowds: float = 0.0  # share of pictures that only teach what lies on a patch
    texts: float = 0.0  # share of further words, numbers and letters, which are learned last
    unknown_words: float = 0.0  # share of words that notes only spell, so that spelling is read too


@dataclass(frozen=True)
class Recipe:
    """Everything that a run depends on."""

    seed: int
    threads: int
    workers: int
    ema: float
    weight_decay: float
    checkpoint_secs: float
    with_charts: bool
    compiled: bool  # the tower, by torch.compile, which needs a C++ compiler
    tower: TowerConfig
    phases: dict[str, PhaseConfig]


def read_recipe(path: Path) -> Recipe:
    """Read a recipe. Raises `TypeError` for an unknown key, `KeyError` for a missing one."""
    table: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    tower = TowerConfig(**table.pop("tower"))
    phases = {name: PhaseConfig(**table.pop(f"{name}_phase")) for name in PHASES}
    return Recipe(**{"with_charts": True, "compiled": False, **table}, tower=tower, phases=phases)
