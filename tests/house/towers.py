"""A small vision tower with random weights, as a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

EDGE, PATCH, JOINED, HIDDEN, HEADS, LAYERS, FFN = 64, 16, 2, 64, 2, 2, 128
ROWS = (EDGE // PATCH // JOINED) ** 2


def write_tower(folder: Path, width: int, seed: int = 0, *, words: int = 0, line: int = 1) -> Path:
    """Eyes for a language model of this width, in SmolVLM's names; with `words`, a codebook of so many."""
    random = np.random.default_rng(seed)

    def noise(*shape: int, scale: float = 0.05) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    vision = "model.vision_model"
    tensors = {
        f"{vision}.embeddings.patch_embedding.weight": noise(HIDDEN, 3, PATCH, PATCH),
        f"{vision}.embeddings.patch_embedding.bias": noise(HIDDEN),
        f"{vision}.embeddings.position_embedding.weight": noise((EDGE // PATCH) ** 2, HIDDEN),
        f"{vision}.post_layernorm.weight": 1 + noise(HIDDEN),
        f"{vision}.post_layernorm.bias": noise(HIDDEN),
        "model.connector.modality_projection.proj.weight": noise(words or width, HIDDEN * JOINED**2),
    }
    if words:
        tensors["model.connector.habits"] = noise(ROWS, words)
        tensors["model.codebook.offsets"] = noise(ROWS, width)
        tensors["model.codebook.table"] = noise(words, width)
        for name in ("lent", "lent_to_all"):
            tensors[f"model.codebook.{name}"] = noise(words + 1, width)
    for layer in range(LAYERS):
        name = f"{vision}.encoder.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors[f"{name}.self_attn.{part}.weight"] = noise(HIDDEN, HIDDEN)
            tensors[f"{name}.self_attn.{part}.bias"] = noise(HIDDEN)
        for norm in ("layer_norm1", "layer_norm2"):
            tensors[f"{name}.{norm}.weight"] = 1 + noise(HIDDEN)
            tensors[f"{name}.{norm}.bias"] = noise(HIDDEN)
        tensors[f"{name}.mlp.fc1.weight"] = noise(FFN, HIDDEN)
        tensors[f"{name}.mlp.fc1.bias"] = noise(FFN)
        tensors[f"{name}.mlp.fc2.weight"] = noise(HIDDEN, FFN)
        tensors[f"{name}.mlp.fc2.bias"] = noise(HIDDEN)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    vision_config = {
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": FFN,
        "image_size": EDGE,
        "patch_size": PATCH,
    }
    config = {
        "model_type": "idefics3",
        "scale_factor": JOINED,
        "vision_config": vision_config,
        "text_config": {"hidden_size": width},
        **({"codebook": {"words": words, "line": line}} if words else {}),
    }
    (folder / "config.json").write_text(json.dumps(config))
    processor = {"do_image_splitting": False, "max_image_size": {"longest_edge": EDGE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder
