"""Reads a Hugging Face checkpoint folder: `config.json`, one safetensors file or an index of shards,
tokenizer."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from hokku.kernels.program import F32
from hokku.models.checkpoint import Codes, finite
from hokku.models.config import ModelConfig, config_from_hf
from hokku.models.safetensors_file import SafetensorsFile
from hokku.protocol.errors import BadModelFile

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_FLOAT_TYPES = ("F32", "F16", "BF16")


class SafetensorsFolder:
    """A `Checkpoint` in a folder."""

    container = "safetensors"

    def __init__(self, path: Path) -> None:
        """Open every shard and check its header. Raises `BadModelFile`."""
        self.path = path
        self.metadata = {file.stem: _read_json(file) for file in sorted(path.glob("*config.json"))}
        if "config" not in self.metadata:
            raise BadModelFile("the folder has no config.json", place=str(path))
        self._files = {name: file for file in _open_shards(path) for name in file.tensors}

    @cached_property
    def config(self) -> ModelConfig:
        """The model's shape, checked. `generation_config.json` may name more tokens that end a reply."""
        values = dict(self.metadata["config"])
        generation = self.metadata.get("generation_config", {})
        if generation.get("eos_token_id") is not None:
            values["eos_token_id"] = generation["eos_token_id"]
        return config_from_hf(values, place=str(self.path / "config.json"))

    @property
    def tokenizer_source(self) -> Path | None:
        """The folder's `tokenizer.json`, if it has one."""
        file = self.path / "tokenizer.json"
        return file if file.is_file() else None

    @property
    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._files.keys()

    @property
    def bits_per_weight(self) -> float:
        """Stored bits over stored elements, matrices only."""
        tensors = [file.tensors[name] for name, file in self._files.items()]
        matrices = [info for info in tensors if len(info.shape) > 1]
        elements = sum(prod(info.shape) for info in matrices)
        return 8 * sum(info.size_bytes for info in matrices) / max(1, elements)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, outputs first."""
        return self._file(name).tensors[name].shape

    def floats(self, name: str) -> F32:
        """A tensor in float32."""
        file = self._file(name)
        type_ = file.tensors[name].type
        if type_ not in _FLOAT_TYPES:
            raise BadModelFile(f"tensor {name} has the type {type_}, not a float's", place=str(file.path))
        stored = file.array(name)
        if type_ == "BF16":
            return finite((stored.astype(np.uint32) << 16).view(np.float32), name, file.path)
        return finite(stored.astype(np.float32), name, file.path)

    def codes(self, name: str) -> Codes | None:
        """None: this container holds no four-bit codes."""
        del name
        return None

    def _file(self, name: str) -> SafetensorsFile:
        if name not in self._files:
            raise BadModelFile(f"tensor {name} is missing", place=str(self.path))
        return self._files[name]


def _open_shards(folder: Path) -> list[SafetensorsFile]:
    if not (folder / _INDEX).is_file():
        return [SafetensorsFile(folder / _SINGLE)]
    weight_map = _read_json(folder / _INDEX).get("weight_map")
    names = list(weight_map.values()) if isinstance(weight_map, dict) else []
    # A shard is a plain file name of this folder: an index from the internet must not reach elsewhere.
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise BadModelFile("weight_map does not name files of this folder", place=str(folder / _INDEX))
    return [SafetensorsFile(folder / name) for name in sorted(set(names))]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"cannot be read as JSON: {error}", place=str(path)) from error
    if not isinstance(value, dict):
        raise BadModelFile("is not a JSON object", place=str(path))
    return value
