"""A live server on the default model."""

from __future__ import annotations

from dataclasses import dataclass

from hokku.engine.engine import LocalEngine


@dataclass(frozen=True, slots=True)
class RealServer:
    """Where it listens, what opens it, and the engine behind it."""

    url: str
    key: str
    engine: LocalEngine
