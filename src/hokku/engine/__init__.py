"""Continuous batching: who runs this step, where their keys and values live, which token came out."""

from hokku.engine.collect import Generation, collect
from hokku.engine.config import EngineConfig
from hokku.engine.engine import LocalEngine

__all__ = ["EngineConfig", "Generation", "LocalEngine", "collect"]
