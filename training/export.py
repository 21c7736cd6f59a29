"""Writes the eyes for serving: bf16 safetensors in SmolVLM's names, config.json and preprocessor_config.json."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from training.codebook import Codebook
from training.notes import LINE
from training.tower import Tower, TowerConfig

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
_LARGEST_BYTES = 15_000_000  # what the package may hold


def config_of(config: TowerConfig, codebook: Codebook) -> dict[str, Any]:
    """The tower as `transformers` configures it, and the codebook; of the language model no more than its width."""
    return {
        "model_type": "idefics3",
        "architectures": ["Idefics3ForConditionalGeneration"],
        "scale_factor": config.scale,
        "text_config": {"model_type": "llama", "hidden_size": codebook.table.shape[1]},
        "vision_config": {
            "model_type": "idefics3_vision",
            "hidden_size": config.hidden,
            "intermediate_size": config.feed_forward,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "num_channels": 3,
            "image_size": config.tile_edge,
            "patch_size": config.patch,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": config.eps,
        },
        "codebook": {"words": config.words, "line": LINE},
        "dtype": "bfloat16",
    }


def preprocessor_of(config: TowerConfig) -> dict[str, Any]:
    """How a picture becomes the one tile: resized to a square without keeping the ratio of its edges."""
    edge = {"longest_edge": config.tile_edge}
    return {
        "image_processor_type": "Idefics3ImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": edge,
        "resample": 1,  # Pillow's Lanczos
        "do_image_splitting": False,
        "max_image_size": edge,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_pad": False,
    }


def export(tower: Tower, codebook: Codebook, folder: Path) -> int:
    """Write the three files; returns the weights' bytes. Raises `ValueError` where they are too many."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {
        **tower.state_dict(),
        **{f"codebook.{name}": each for name, each in codebook.state_dict().items()},
    }
    tensors = {
        f"model.{name}": tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in named.items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    configs = {CONFIG: config_of(tower.config, codebook), PREPROCESSOR: preprocessor_of(tower.config)}
    for name, values in configs.items():
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    size_bytes = (folder / WEIGHTS).stat().st_size
    if size_bytes > _LARGEST_BYTES:
        raise ValueError(f"{folder / WEIGHTS} has {size_bytes} bytes, more than {_LARGEST_BYTES}")
    return size_bytes


def main() -> None:
    """The command."""
    from training.state import learned

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("build/eyes"))
    parser.add_argument("--out", type=Path, default=Path("src/hokku/registry/eyes"))
    given = parser.parse_args()
    size_bytes = export(*learned(given.run), given.out)
    print(f"{given.out}: {size_bytes / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
