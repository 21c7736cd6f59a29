"""The tower of SmolVLM (Marafioti et al. 2025) and Idefics3 (Laurençon et al. 2024): SigLIP (Zhai et al. 2023), then
pixel shuffle and a linear.

Patches go in an order in which those that become one row lie next to each other, their places in the picture beside
them as token ids. Attention is over whole tiles, so the order is nobody's business, and the shuffle joins neighbours.
"""

from __future__ import annotations

import math

import numpy as np

from hokku.kernels.program import F32, I32, PAGE_TOKENS, Batch, Program, Rope, Rows, Tensor
from hokku.models.vision.config import CHANNELS, VisionConfig
from hokku.models.vision.weights import TowerWeights
from hokku.protocol.pictures import Pixels


def record(program: Program, config: VisionConfig, weights: TowerWeights) -> tuple[Tensor, Tensor]:
    """Record patches in, rows out.

    Returns: the last layer's output before its norm [T][C], and rows for the language model or scores of a codebook's
        words [R][scores]."""
    c, first = config, weights.layers[0]
    width = c.heads * c.padded_head_dim
    pixels, x = program.tensor(c.patch_values), program.tensor(c.hidden)
    qkv, q, mixed = program.tensor(3 * width), program.tensor(width), program.tensor(width)
    inner = program.tensor(c.ffn)
    patch_input = program.operand(c.patch_values, weights.patch.matrix)
    attention_input = program.operand(c.hidden, first.qkv.matrix)
    mixed_input = program.operand(width, first.output.matrix)
    ffn_input = program.operand(c.hidden, first.up.matrix)
    inner_input = program.operand(c.ffn, first.down.matrix)

    program.features(pixels)
    program.encode(patch_input, pixels)
    program.embed(x, weights.positions)
    program.linear(x, patch_input, weights.patch.matrix, weights.patch.bias, accumulate=True)
    unrotated = np.zeros((c.patches**2, 0), np.float32)
    rope = Rope(unrotated, unrotated, 1.0 / math.sqrt(c.head_dim))
    for layer in weights.layers:
        norm = layer.attention_norm
        program.layer_norm(attention_input, x, norm.gain, norm.bias, c.layer_norm_eps)
        program.linear(qkv, attention_input, layer.qkv.matrix, layer.qkv.bias)
        # Nobody comes back to a tile's keys and values, so all layers put theirs into the same pages.
        program.rope_and_store(q, qkv, rope, 0)
        program.attention(mixed, q, 0, causal=False)
        program.encode(mixed_input, mixed)
        program.linear(x, mixed_input, layer.output.matrix, layer.output.bias, accumulate=True)
        norm = layer.ffn_norm
        program.layer_norm(ffn_input, x, norm.gain, norm.bias, c.layer_norm_eps)
        program.linear_gelu(inner, ffn_input, layer.up.matrix, layer.up.bias)
        program.encode(inner_input, inner)
        program.linear(x, inner_input, layer.down.matrix, layer.down.bias, accumulate=True)

    joined = program.tensor(c.joined**2 * c.hidden, Rows.LOGITS)
    joined_input = program.operand(c.joined**2 * c.hidden, weights.connector.matrix, Rows.LOGITS)
    rows = program.tensor(c.scores, Rows.LOGITS)
    program.gather(joined, x)
    norm = weights.final_norm
    program.layer_norm(joined_input, joined, norm.gain, norm.bias, c.layer_norm_eps)
    program.linear(rows, joined_input, weights.connector.matrix, weights.connector.bias)
    return x, rows


def step(tiles: list[Pixels], config: VisionConfig) -> Batch:
    """A step that encodes tiles, each a sequence."""
    num_patches, num_tiles = config.patches**2, len(tiles)
    num_pages = -(-num_patches // PAGE_TOKENS)
    row_start = np.arange(num_tiles + 1, dtype=np.int32) * num_patches
    num_rows = num_tiles * config.rows
    return Batch(
        tokens=np.tile(patch_places(config), num_tiles),
        positions=np.tile(np.arange(num_patches, dtype=np.int32), num_tiles),
        row_start=row_start,
        page_table=np.arange(num_tiles * num_pages, dtype=np.int32).reshape(num_tiles, num_pages),
        logit_index=np.arange(num_rows, dtype=np.int32) * config.joined**2,
        temperature=np.zeros(num_rows, np.float32),
        top_p=np.ones(num_rows, np.float32),
        top_k=np.zeros(num_rows, np.int32),
        seed=np.zeros(num_rows, np.uint64),
        counter=np.zeros(num_rows, np.uint64),
        features=np.concatenate([patches_of(tile, config) for tile in tiles]),
    )


def patches_of(pixels: Pixels, config: VisionConfig) -> F32:
    """A tile's patches [T][3·P·P], normalised, channels outermost, in the order of `patch_places`."""
    scale = (1 / (255 * np.array(config.deviation))).astype(np.float32)
    shift = (np.array(config.mean) / np.array(config.deviation)).astype(np.float32)
    values = pixels.astype(np.float32) * scale - shift
    blocks, joined, patch = config.patches // config.joined, config.joined, config.patch
    cut = values.reshape(blocks, joined, patch, blocks, joined, patch, CHANNELS)
    return np.ascontiguousarray(cut.transpose(0, 3, 1, 4, 6, 2, 5)).reshape(-1, config.patch_values)


def patch_places(config: VisionConfig) -> I32:
    """Which position embedding each patch has [T]: block by block of those that become one row, in order of rows."""
    blocks, joined = config.patches // config.joined, config.joined
    places = np.arange(config.patches**2, dtype=np.int32).reshape(blocks, joined, blocks, joined)
    return np.ascontiguousarray(places.transpose(0, 2, 1, 3).reshape(-1))
