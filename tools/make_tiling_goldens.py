"""How Hugging Face's image processors resize and cut pictures, for tests/documents/goldens/tilings.json.

    python -m venv /tmp/goldens && /tmp/goldens/bin/pip install torch transformers pillow
    /tmp/goldens/bin/python tools/make_tiling_goldens.py

Pixels of all tiles, one after the other, as a digest: the resampling is Pillow's on both sides, so they are the same to
the bit. Pictures are made from their size (`picture`), as the test does it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

OUT = Path(__file__).parent.parent / "tests/documents/goldens/tilings.json"
SIZES = [(96, 96), (97, 61), (30, 200), (32, 32), (640, 480), (31, 500), (5, 4), (1, 1), (300, 299)]
EDGE, LONGEST = 32, 96
FACTOR, LEAST, MOST = 28, 4 * 28 * 28, 60 * 28 * 28


def picture(width: int, height: int) -> Image.Image:
    """Noise that is the same everywhere."""
    pixels = np.random.default_rng(width * 10_000 + height).integers(0, 256, (height, width, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def idefics3(image: Image.Image, *, splits: bool) -> dict[str, Any]:
    """All tiles of the picture, and how many rows and columns of them."""
    processor = Idefics3ImageProcessorPil(
        size={"longest_edge": LONGEST if splits else EDGE},
        max_image_size={"longest_edge": EDGE},
        do_image_splitting=splits,
        do_rescale=False,
        do_normalize=False,
        do_pad=False,
    )
    features = processor(image, return_row_col_info=True, return_tensors=None)
    [tiles] = features["pixel_values"]
    data = b"".join(np.asarray(tile).astype(np.uint8).transpose(1, 2, 0).tobytes() for tile in tiles)
    grid = [features["rows"][0][0], features["cols"][0][0]]
    return {"tiles": len(tiles), "grid": grid, "sha256": hashlib.sha256(data).hexdigest()}


def main() -> None:
    """Write the goldens."""
    goldens = []
    for width, height in SIZES:
        image = picture(width, height)
        resized = smart_resize(height, width, FACTOR, LEAST, MOST)
        goldens.append(
            {
                "size": [width, height],
                "idefics3": idefics3(image, splits=True),
                "unsplit": idefics3(image, splits=False),
                "qwen2_5_vl": resized[::-1],
            }
        )
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(goldens, indent=1) + "\n")


if __name__ == "__main__":
    main()
