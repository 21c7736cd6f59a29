"""Finds the model families: every module of this folder that defines `ARCHITECTURE`. A new one is a new
file."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from hokku.models.architecture import Architecture
from hokku.models.config import unsupported

_HERE = Path(__file__).parent
# Told apart by their text, so that looking one family up imports no reader of checkpoints.
_MARK = "\nARCHITECTURE = "


@cache
def architectures() -> dict[str, Architecture]:
    """Every family under each of its names."""
    found: dict[str, Architecture] = {}
    for file in sorted(_HERE.glob("*.py")):
        if _MARK in file.read_text(encoding="utf-8"):
            architecture: Architecture = import_module(f"{__package__}.{file.stem}").ARCHITECTURE
            found.update(dict.fromkeys(architecture.names, architecture))
    return found


def architecture_of(name: str, place: str) -> Architecture:
    """The family of that name. `BadModelFile`, naming it, when there is none."""
    if name not in architectures():
        raise unsupported(f"architecture {name[:80]!r}", place)
    return architectures()[name]
