"""Makes the vision models' files of tests/goldens, as `tools/make_goldens.py` makes the others'.

    /tmp/goldens/bin/pip install pillow
    /tmp/goldens/bin/python tools/make_vision_goldens.py

Writes random checkpoints and, in float32, what comes out of the tower and of the connector for each tile, and the
logits of prompts with pictures: one, several, wide and tall ones, with text between them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

GOLDENS = Path(__file__).parent.parent / "tests" / "goldens"
VOCABULARY = 320
IMAGE_ID = 319
EDGE, LONGEST_EDGE = 64, 128
# What keeps the files small: tiles whose hidden states are stored, and of how many logit rows one is.
HIDDEN_TILES, LOGIT_STRIDE = 2, 3
# Width and height of the pictures, and what stands in each prompt: numbers of pictures, and runs of text by length.
PICTURES = ((64, 64), (128, 50), (40, 128), (100, 90))
PROMPTS: tuple[tuple[tuple[str, int], ...], ...] = (
    (("text", 5), ("picture", 0), ("text", 9)),
    (("picture", 1), ("text", 12), ("picture", 2), ("text", 3)),
    (("text", 2), ("picture", 3), ("picture", 0), ("text", 1), ("picture", 1), ("text", 7)),
)


def smolvlm() -> transformers.SmolVLMConfig:
    """Two layers of each half; 64 patches a tile, which become 16 rows."""
    text = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
    )
    vision = {
        "hidden_size": 96,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": EDGE,
        "patch_size": 8,
    }
    return transformers.SmolVLMConfig(
        text_config=text.to_dict(), vision_config=vision, scale_factor=2, image_token_id=IMAGE_ID
    )


def randomise(model: transformers.PreTrainedModel, seed: int) -> None:
    """Weights that bf16 holds exactly, sized so that every operation moves the result."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if weight.ndim == 1:
            values = 1 + 0.2 * noise if "norm" in name and name.endswith("weight") else 0.2 * noise
        elif weight.shape[0] == VOCABULARY or "position" in name:
            values = noise
        else:
            values = noise / weight[0].numel() ** 0.5
        weight.data = values.bfloat16().float()


def drawn(width: int, height: int, seed: int) -> Image.Image:
    """Shapes on a slope of colours."""
    rng = np.random.default_rng(seed)
    across, down = np.linspace(0, 255, width), np.linspace(255, 0, height)
    pixels = np.stack(np.broadcast_arrays(across, down[:, None], rng.integers(0, 255)), axis=2)
    picture = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(6):
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        colour = tuple(int(value) for value in rng.integers(0, 255, 3))
        draw.ellipse([left, top, left + 25, top + 18], fill=colour)
    return picture


def tiles_of(picture: Image.Image, processor: SmolVLMImageProcessorPil) -> NDArray[np.uint8]:
    """A picture cut up [tiles][EDGE][EDGE][3], in bytes as before normalisation."""
    values = np.asarray(processor([[picture]], return_tensors="np")["pixel_values"][0])
    return np.rint((values * 0.5 + 0.5) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def make_smolvlm(folder: Path) -> None:
    """A random SmolVLM, and what it makes of the prompts."""
    config = smolvlm()
    config._attn_implementation = "eager"
    model = transformers.SmolVLMForConditionalGeneration(config).float().eval()
    randomise(model, 1)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    processor = SmolVLMImageProcessorPil(
        size={"longest_edge": LONGEST_EDGE}, max_image_size={"longest_edge": EDGE}, do_image_splitting=True
    )
    processor.save_pretrained(folder)
    model = transformers.SmolVLMForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()

    pictures = [drawn(width, height, seed) for seed, (width, height) in enumerate(PICTURES)]
    tiles = [tiles_of(picture, processor) for picture in pictures]
    pixels = torch.from_numpy(np.concatenate(tiles)).permute(0, 3, 1, 2) / 255 * 2 - 1
    first_tile = np.cumsum([0, *(len(each) for each in tiles)])
    with torch.no_grad():
        hidden = model.model.vision_model(pixel_values=pixels).last_hidden_state
        rows = model.model.connector(hidden)
    stored = {
        "tiles": np.concatenate(tiles),
        "first_tile": first_tile.astype(np.int32),
        "hidden": hidden[:HIDDEN_TILES].numpy(),
        "rows": rows.numpy(),
        **{f"picture_{number}": np.asarray(picture) for number, picture in enumerate(pictures)},
    }
    generator = np.random.default_rng(5)
    for number, parts in enumerate(PROMPTS):
        ids: list[int] = []
        seen: list[int] = []
        for kind, count in parts:
            if kind == "text":
                ids += generator.integers(3, IMAGE_ID, count).tolist()
            else:
                seen += range(first_tile[count], first_tile[count + 1])
                ids += [IMAGE_ID] * ((first_tile[count + 1] - first_tile[count]) * rows.shape[1])
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), pixel_values=pixels[seen][None]).logits[0]
        stored |= {
            f"tokens_{number}": np.array(ids, np.int32),
            f"tiles_{number}": np.array(seen, np.int32),
            f"logits_{number}": logits[LOGIT_STRIDE - 1 :: LOGIT_STRIDE].numpy(),
        }
        print(f"{folder.name}: prompt of {len(ids)}, {len(seen)} tiles, logits of std {logits.std():.2f}")
    np.savez_compressed(folder / "golden.npz", **stored)


def qwen2_5_vl() -> transformers.Qwen2_5_VLConfig:
    """Two layers of each half, the tower's first over windows of 4 by 4 patches, which become 2 by 2 rows."""
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    vision = {
        "depth": 2,
        "hidden_size": 80,
        "num_heads": 4,
        "intermediate_size": 150,
        "patch_size": 8,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 32,
        "fullatt_block_indexes": [1],
        "out_hidden_size": 64,
    }
    return transformers.Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=IMAGE_ID,
        video_token_id=IMAGE_ID - 1,
        vision_start_token_id=IMAGE_ID - 2,
        vision_end_token_id=IMAGE_ID - 3,
    )


def patches_of(tile: NDArray[np.uint8]) -> tuple[torch.Tensor, list[int]]:
    """Patches as the family's processor cuts them, the two frames of a still picture alike; and the grid."""
    values = (torch.from_numpy(tile).float() / 255 - 0.5) / 0.5
    height, width = tile.shape[0] // 8, tile.shape[1] // 8
    frames = values.permute(2, 0, 1)[None].repeat(2, 1, 1, 1)
    cut = frames.reshape(1, 2, 3, height // 2, 2, 8, width // 2, 2, 8).permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return cut.reshape(height * width, -1), [1, height, width]


def make_qwen2_5_vl(folder: Path) -> None:
    """A random Qwen2.5-VL, and what it makes of the prompts."""
    config = qwen2_5_vl()
    config._attn_implementation = "eager"
    model = transformers.Qwen2_5_VLForConditionalGeneration(config).float().eval()
    randomise(model, 2)
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "min_pixels": 256,
        "max_pixels": 16_384,
        "patch_size": 8,
        "merge_size": 2,
        "temporal_patch_size": 2,
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n", encoding="utf-8")
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()

    sizes = ((64, 64), (112, 48), (32, 96), (80, 80))
    tiles = [np.asarray(drawn(width, height, seed)) for seed, (width, height) in enumerate(sizes)]
    cut = [patches_of(tile) for tile in tiles]
    stored: dict[str, Any] = {f"tile_{number}": tile for number, tile in enumerate(tiles)}
    rows = []
    with torch.no_grad():
        for number, (patches, grid) in enumerate(cut):
            output = model.model.visual(patches, grid_thw=torch.tensor([grid]))
            rows.append(output.pooler_output)
            stored[f"rows_{number}"] = output.pooler_output.numpy()
    generator = np.random.default_rng(6)
    for number, parts in enumerate(PROMPTS):
        ids: list[int] = []
        seen = [count for kind, count in parts if kind == "picture"]
        for kind, count in parts:
            is_text = kind == "text"
            if not is_text and ids and ids[-1] == IMAGE_ID:
                ids += [IMAGE_ID - 3, IMAGE_ID - 2]  # the family never shows two without a word between
            ids += generator.integers(3, 300, count).tolist() if is_text else [IMAGE_ID] * len(rows[count])
        with torch.no_grad():
            tokens = torch.tensor([ids])
            logits = model(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                mm_token_type_ids=(tokens == IMAGE_ID).int(),
                pixel_values=torch.cat([cut[count][0] for count in seen]),
                image_grid_thw=torch.tensor([cut[count][1] for count in seen]),
            ).logits[0]
        stored |= {
            f"tokens_{number}": np.array(ids, np.int32),
            f"tiles_{number}": np.array(seen, np.int32),
            f"logits_{number}": logits[LOGIT_STRIDE - 1 :: LOGIT_STRIDE].numpy(),
        }
        print(f"{folder.name}: prompt of {len(ids)}, logits of std {logits.std():.2f}")
    np.savez_compressed(folder / "golden.npz", **stored)


if __name__ == "__main__":
    make_smolvlm(GOLDENS / "smolvlm")
    make_qwen2_5_vl(GOLDENS / "qwen2_5_vl")
