"""Hokku: a drop-in home for code written for Claude 3.5 Haiku.

From a script, without HTTP:

    from hokku import Engine

    with Engine.load() as engine:
        print(engine.generate("Why is the sky blue?", max_tokens=100).text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hokku.embedded import Engine

__version__ = "0.1.0"
__all__ = ["Engine", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the engine at its first use, so that `import hokku` alone costs nothing."""
    if name == "Engine":
        return import_module("hokku.embedded").Engine
    raise AttributeError(f"module 'hokku' has no attribute {name!r}")
