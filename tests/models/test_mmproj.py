"""Towers in GGUF files: the same rows as from the folder that they were converted from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from hokku.kernels import ThreadPool, WeightFormat
from hokku.kernels.program import F32
from hokku.models.safetensors_folder import SafetensorsFolder
from hokku.models.vision import TileEncoder, Tower, open_tower, qwen2_5_vl
from hokku.models.vision.config import VisionConfig
from hokku.models.vision.mmproj import _NAMES
from hokku.models.vision.weights import SAFETENSORS_NAMES
from hokku.protocol.errors import BadModelFile
from hokku.protocol.pictures import Tile
from tests.models.house import GOLDENS, write_gguf
from tests.models.vision import vision_golden

FOLDER = GOLDENS / "smolvlm"


def write_mmproj(path: Path, *, exchanged: bool = False, changed: Mapping[str, object] | None = None) -> Path:
    """The golden checkpoint's tower, as llama.cpp's converter writes it."""
    config = json.loads((FOLDER / "config.json").read_text())
    processor = json.loads((FOLDER / "preprocessor_config.json").read_text())
    vision = config["vision_config"]
    keys: dict[str, object] = {
        "clip.projector_type": "idefics3",
        "clip.has_vision_encoder": True,
        "clip.use_gelu": True,
        "clip.vision.embedding_length": vision["hidden_size"],
        "clip.vision.attention.head_count": vision["num_attention_heads"],
        "clip.vision.attention.layer_norm_epsilon": float(vision.get("layer_norm_eps", 1e-6)),
        "clip.vision.block_count": vision["num_hidden_layers"],
        "clip.vision.feed_forward_length": vision["intermediate_size"],
        "clip.vision.image_size": vision["image_size"],
        "clip.vision.patch_size": vision["patch_size"],
        "clip.vision.projector.scale_factor": config["scale_factor"],
        "clip.vision.image_mean": processor["image_mean"],
        "clip.vision.image_std": processor["image_std"],
        "clip.vision.preproc_image_size": processor["size"]["longest_edge"],
    }
    keys |= changed or {}
    writer = gguf.GGUFWriter(path, str(keys.pop("general.architecture", "clip")))
    for key, value in keys.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case list():
                writer.add_array(key, value)
    names = dict(_NAMES)
    if exchanged:
        names["up"], names["down"] = names["down"], names["up"]
    folder = SafetensorsFolder(FOLDER)
    for role, name in SAFETENSORS_NAMES.items():
        for layer in range(vision["num_hidden_layers"] if "{n}" in name else 1):
            for suffix in (".weight", ".bias"):
                if name.format(n=layer) + suffix in folder.names:
                    tensor = folder.floats(name.format(n=layer) + suffix)
                    writer.add_tensor(names[role].format(n=layer) + suffix, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def rows_of(tower: Tower) -> F32:
    encoder = TileEncoder(tower, ThreadPool(1), WeightFormat.BF16)
    return np.stack([encoder.encode(Tile(tile, 16)) for tile in vision_golden("smolvlm").tiles[:2]])


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_tower_sees_the_same_from_either_file(tmp_path: Path, exchanged: bool) -> None:
    mmproj = open_tower(write_mmproj(tmp_path / "mmproj.gguf", exchanged=exchanged))
    folder = open_tower(FOLDER)
    assert isinstance(mmproj.config, VisionConfig)
    assert replace(mmproj.config, layer_norm_eps=1e-6) == folder.config  # the file has it in 32 bits
    np.testing.assert_allclose(rows_of(mmproj), rows_of(folder), rtol=0.02, atol=0.02)


def test_the_weights_of_a_folder_stand_for_it() -> None:
    assert open_tower(FOLDER / "model.safetensors").config == open_tower(FOLDER).config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("general.architecture", "llama", "not the eyes of a model"),
        ("clip.projector_type", "ldp", "'ldp'"),
        ("clip.use_gelu", False, "GELU"),
        ("clip.vision.embedding_length", 0, "embedding_length"),
        ("clip.vision.image_size", 1 << 30, "image_size"),
        ("clip.vision.block_count", 3, "missing"),
        ("clip.vision.image_mean", "grey", "image_mean"),
    ],
)
def test_a_faulty_file_is_refused_by_its_key(tmp_path: Path, key: str, value: object, message: str) -> None:
    file = write_mmproj(tmp_path / "mmproj.gguf", changed={key: value})
    with pytest.raises(BadModelFile, match=message):
        open_tower(file).floats()


def write_qwen_mmproj(path: Path, tower: Tower) -> Path:
    """The golden Qwen2.5-VL's tower, as the converter writes it: Q, K and V apart, and the frames of a patch."""
    c = tower.config
    tensors: dict[str, F32] = {}
    for role, name in qwen2_5_vl.SAFETENSORS_NAMES.items():
        for layer in range(c.layers if "{n}" in name else 1):
            values = tower.tensors.floats(name.format(n=layer))
            match role:
                case "qkv" | "qkv_bias":
                    for part, rows in zip("qkv", np.split(values, 3), strict=True):
                        part_name = qwen2_5_vl.GGUF_NAMES[role.replace("qkv", part)]
                        tensors[part_name.format(n=layer)] = rows
                case "patch":
                    tensors[qwen2_5_vl.GGUF_NAMES["patch"]] = values[:, :, 0]
                    tensors[qwen2_5_vl.GGUF_NAMES["patch_of_second_frame"]] = values[:, :, 1]
                case _:
                    tensors[qwen2_5_vl.GGUF_NAMES[role].format(n=layer)] = values
    keys = {
        "general.architecture": "clip",
        "clip.projector_type": "qwen2.5vl_merger",
        "clip.use_silu": True,
        "clip.vision.block_count": c.layers,
        "clip.vision.embedding_length": c.hidden,
        "clip.vision.feed_forward_length": c.ffn,
        "clip.vision.attention.head_count": c.heads,
        "clip.vision.patch_size": c.patch,
        "clip.vision.projection_dim": c.out,
        "clip.vision.image_mean": list(c.mean),
        "clip.vision.image_std": list(c.deviation),
        "clip.vision.n_wa_pattern": 2,
        "clip.vision.window_size": 32,
        "clip.vision.image_min_pixels": tower.tiling.min_pixels,
        "clip.vision.image_max_pixels": tower.tiling.max_pixels,
    }
    stored = {
        name: (np.ascontiguousarray(values), gguf.GGMLQuantizationType.F32)
        for name, values in tensors.items()
    }
    return write_gguf(path, keys, stored)


def test_a_tower_of_windows_sees_the_same_from_either_file(tmp_path: Path) -> None:
    folder = open_tower(GOLDENS / "qwen2_5_vl")
    mmproj = open_tower(write_qwen_mmproj(tmp_path / "mmproj.gguf", folder))
    assert mmproj.config == folder.config
    tile = Tile(np.random.default_rng(0).integers(0, 256, (48, 112, 3), np.uint8), 21)
    ours, theirs = (TileEncoder(tower, ThreadPool(2)).encode(tile) for tower in (mmproj, folder))
    np.testing.assert_array_equal(ours, theirs)
