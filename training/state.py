"""What a run has learned so far, kept so that a stop or kill loses minutes at most."""

from __future__ import annotations

import copy
import csv
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.codebook import Codebook
from training.config import PHASES, Recipe
from training.heads import Heads
from training.optimizers import Optimizers
from training.tower import Tower, TowerConfig

CHECKPOINT = "checkpoint.pt"
CURVES = "curves.csv"


class State:
    """Tower, its average, codebook, and how far each phase is."""

    def __init__(self, recipe: Recipe, codebook: Codebook) -> None:
        torch.manual_seed(recipe.seed)
        self.tower = Tower(recipe.tower)
        self.average = copy.deepcopy(self.tower)
        self.codebook = codebook
        self.heads = Heads(recipe.tower)
        self.samples = dict.fromkeys(PHASES, 0)
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.flops = dict.fromkeys(PHASES, 0.0)
        self.optimizer: list[dict[str, Any]] | None = None  # of the phase that was under way
        self.optimizer_phase = ""

    def update_average(self, keep: float) -> None:
        """Move the average a step towards the tower; faster while the tower is young."""
        keep = min(keep, 1 - 1 / (1 + self.samples["tower"] / 320))
        with torch.no_grad():
            pairs = zip(self.average.parameters(), self.tower.parameters(), strict=True)
            for average, current in pairs:
                average.lerp_(current, 1 - keep)

    def save(self, folder: Path, phase: str, optimizers: Optimizers | None) -> None:
        """Write the checkpoint; a kill leaves the last one or this one, never half of it."""
        self.optimizer = optimizers.state_dict() if optimizers is not None else None
        self.optimizer_phase = phase
        values = {
            **{name: module.state_dict() for name, module in self._modules().items()},
            **{name: getattr(self, name) for name in _PLAIN},
            "config": asdict(self.tower.config),
        }
        folder.mkdir(parents=True, exist_ok=True)
        incoming = folder / f"{CHECKPOINT}.incoming"
        with incoming.open("wb") as stream:
            torch.save(values, stream)
            stream.flush()
            os.fsync(stream.fileno())
        incoming.replace(folder / CHECKPOINT)

    def load(self, folder: Path) -> bool:
        """Go on from a checkpoint, if there is one."""
        file = folder / CHECKPOINT
        if not file.exists():
            return False
        values = torch.load(file, map_location="cpu", weights_only=True)
        for name, module in self._modules().items():
            module.load_state_dict(values[name])
        for name in _PLAIN:
            setattr(self, name, values[name])
        return True

    def to(self, device: torch.device) -> None:
        """Move everything that is learned."""
        for module in self._modules().values():
            module.to(device)

    def _modules(self) -> dict[str, nn.Module]:
        return {"tower": self.tower, "average": self.average, "codebook": self.codebook, "heads": self.heads}


_PLAIN = ("samples", "seconds", "flops", "optimizer", "optimizer_phase")


def learned(folder: Path) -> tuple[Tower, Codebook]:
    """The averaged tower and the codebook of a run's checkpoint, with weights as exported: rounded to bfloat16."""
    values = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    tower, codebook = (
        Tower(TowerConfig(**values["config"])),
        Codebook.empty(values["codebook"]["table"].shape[1]),
    )
    tower.load_state_dict(values["average"])
    codebook.load_state_dict(values["codebook"])
    with torch.no_grad():
        for parameter in (*tower.parameters(), *codebook.parameters()):
            parameter.copy_(parameter.bfloat16())
    return tower.eval(), codebook.eval()


def note_curve(folder: Path, row: Mapping[str, Any]) -> None:
    """Add a line to the curves."""
    file = folder / CURVES
    is_new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(row), restval="", extrasaction="ignore")
        if is_new:
            writer.writeheader()
        writer.writerow(row)
