"""Fixtures for every room: the default model's weights, for tests marked `model`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hokku.registry.cache import ModelCache
from hokku.registry.registry import Registry
from hokku.settings import load_settings

DEFAULT_MODEL = "claude-3-5-haiku-20241022"


@pytest.fixture(scope="session")
def default_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default model's GGUF in the model cache. Never fetched from here: the default tests use no network."""
    settings = load_settings({}, os.environ)
    manifest = Registry.load(tmp_path_factory.mktemp("data")).resolve(DEFAULT_MODEL)
    gguf = ModelCache(settings.cache_dir).locate(manifest.weights)
    assert gguf is not None, f"the default model is not in {settings.cache_dir}: run `make setup`"
    return gguf
