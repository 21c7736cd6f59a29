"""Writes the eyes for serving: bf16 safetensors in SmolVLM's names, config.json and preprocessor_config.json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.codebook import Codebook, Embed
from training.dictionary import dictionary
from training.language import LanguageModel, Prompts, default_checkpoint, embedding_of
from training.notes import CODES, LINE, SPELLED_FROM, VOCABULARY, WORD_ROW, WORD_SAID_ROW
from training.state import learned
from training.tower import Tower, TowerConfig
from training.vocabulary import MAX_LETTERS, WORDS

WEIGHTS, CONFIG, PREPROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"
_LARGEST_BYTES = 15_000_000  # what the package may hold


def config_of(config: TowerConfig, width: int, words: Sequence[str]) -> dict[str, Any]:
    """The tower as `transformers` configures it, and the codebook with a dictionary of these words; of the language
    model no more than its width."""
    return {
        "model_type": "idefics3",
        "architectures": ["Idefics3ForConditionalGeneration"],
        "scale_factor": config.scale,
        "text_config": {"model_type": "llama", "hidden_size": width},
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
        "codebook": {
            "words": config.words,
            "vectors": config.words + len(words_without_code(words)),
            "line": LINE,
            "dictionary": {
                "entries": len(words),
                "letters": MAX_LETTERS,
                "first_letter_row": SPELLED_FROM,
                "word_row": WORD_ROW,
                "where_row": WORD_SAID_ROW,
                "says": CODES["word"],
            },
        },
        "dtype": "bfloat16",
    }


def words_without_code(words: Sequence[str]) -> list[str]:
    """Those that no row can say by itself, and only the dictionary leads to, in their order."""
    return [word for word in words if word not in CODES]


def _tables(codebook: Codebook, embed: Embed, words: Sequence[str]) -> dict[str, Tensor]:
    """The codebook as it is served: with vectors for the dictionary's words, and their letters.

    A word that nobody trained gets what training did to all others: their mean step from the language model's own
    embeddings, and the mean of what they lend.
    """
    trained = [CODES[word] for word in WORDS]
    step = (codebook.table[trained] - torch.stack([embed(word) for word in WORDS])).mean(0)
    rest = words_without_code(words)
    further = [embed(word) + step for word in rest]
    vectors = {word: len(VOCABULARY) + place for place, word in enumerate(rest)}
    return {
        "table": torch.stack([*codebook.table, *further]),
        "offsets": codebook.offsets,
        **{
            name: torch.cat([lent, lent[trained].mean(0, keepdim=True)])
            for name, lent in (("lent", codebook.lent), ("lent_to_all", codebook.lent_to_all))
        },
        "dictionary.spellings": torch.tensor(
            [[CODES[letter] for letter in word] + [CODES[""]] * (MAX_LETTERS - len(word)) for word in words]
        ),
        "dictionary.vectors": torch.tensor([vectors.get(word, CODES.get(word)) for word in words]),
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


def export(tower: Tower, codebook: Codebook, embed: Embed, folder: Path) -> int:
    """Write the three files; returns the weights' bytes. `embed`: the language model's own embedding of a word.

    Raises `ValueError` where there are too many bytes.
    """
    words = dictionary()
    folder.mkdir(parents=True, exist_ok=True)
    tables = {f"codebook.{name}": each for name, each in _tables(codebook, embed, words).items()}
    tensors = {
        f"model.{name}": _as_stored(each.detach().cpu())
        for name, each in (tower.state_dict() | tables).items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    width = codebook.table.shape[1]
    for name, values in (
        (CONFIG, config_of(tower.config, width, words)),
        (PREPROCESSOR, preprocessor_of(tower.config)),
    ):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    size_bytes = (folder / WEIGHTS).stat().st_size
    if size_bytes > _LARGEST_BYTES:
        raise ValueError(f"{folder / WEIGHTS} has {size_bytes} bytes, more than {_LARGEST_BYTES}")
    return size_bytes


def _as_stored(tensor: Tensor) -> Tensor:
    """Weights in bfloat16; numbers of rows, which that would round, in float32."""
    return tensor.to(torch.bfloat16 if tensor.is_floating_point() else torch.float32).contiguous()


def read_exported(folder: Path) -> Tower:
    """The tower of an exported folder. Raises `KeyError` where something is missing in its files."""
    values = json.loads((folder / CONFIG).read_text("utf-8"))
    vision = values["vision_config"]
    tower = Tower(
        TowerConfig(
            hidden=vision["hidden_size"],
            layers=vision["num_hidden_layers"],
            heads=vision["num_attention_heads"],
            feed_forward=vision["intermediate_size"],
            tile_edge=vision["image_size"],
            patch=vision["patch_size"],
            scale=values["scale_factor"],
            words=values["codebook"]["words"],
            eps=vision["layer_norm_eps"],
        )
    )
    stored = load_file(folder / WEIGHTS)
    tower.load_state_dict({name: stored[f"model.{name}"].float() for name in tower.state_dict()})
    return tower.eval()


def exported(run: Path, folder: Path, language: LanguageModel, prompts: Prompts) -> Tower:
    """Write what a run has learned; returns its tower."""
    tower, codebook = learned(run)
    export(tower, codebook, partial(embedding_of, language, prompts), folder)
    return tower


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("build/eyes"))
    parser.add_argument("--out", type=Path, default=Path("src/hokku/registry/eyes"))
    given = parser.parse_args()
    checkpoint = default_checkpoint()
    exported(given.run, given.out, LanguageModel(checkpoint), Prompts(checkpoint))
    print(f"{given.out}: {(given.out / WEIGHTS).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
