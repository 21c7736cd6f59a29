"""The tower of Qwen2.5-VL (Bai et al. 2025): pictures of any size, attention mostly within windows, rotary positions in
two directions, and a merger that makes one row of four patches.

Patches go window by window, in each by the rows that they become, so that windows are sequences and what becomes a row
lies together; the last gather puts rows back into the picture's order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hokku.kernels.program import F32, I32, PAGE_TOKENS, Batch, Program, Rope, Rows, Tensor, Windows
from hokku.models.config import LANES, Fields, unsupported
from hokku.models.vision.config import CHANNELS, checked_resampling, of_channels
from hokku.models.vision.weights import Linear, Names, Tensors, padded_heads, read_tensor
from hokku.models.weights import gate_up_order
from hokku.protocol.pictures import Pixels, Resampling, Tiling

# Patches of a picture at most: 896 by 896 pixels. The family's own limit would take gigabytes of buffers.
MOST_PATCHES = 4_096
_RMS_EPS = 1e-6
_ROPE_THETA = 10_000.0
# The family's own limits where a file names none.
_MIN_PIXELS, _MAX_PIXELS = 56 * 56, 12_845_056

SAFETENSORS_NAMES: Names = {
    "patch": "visual.patch_embed.proj.weight",
    "attention_gain": "visual.blocks.{n}.norm1.weight",
    "qkv": "visual.blocks.{n}.attn.qkv.weight",
    "qkv_bias": "visual.blocks.{n}.attn.qkv.bias",
    "output": "visual.blocks.{n}.attn.proj.weight",
    "output_bias": "visual.blocks.{n}.attn.proj.bias",
    "ffn_gain": "visual.blocks.{n}.norm2.weight",
    "gate": "visual.blocks.{n}.mlp.gate_proj.weight",
    "gate_bias": "visual.blocks.{n}.mlp.gate_proj.bias",
    "up": "visual.blocks.{n}.mlp.up_proj.weight",
    "up_bias": "visual.blocks.{n}.mlp.up_proj.bias",
    "down": "visual.blocks.{n}.mlp.down_proj.weight",
    "down_bias": "visual.blocks.{n}.mlp.down_proj.bias",
    "merger_gain": "visual.merger.ln_q.weight",
    "merger_up": "visual.merger.mlp.0.weight",
    "merger_up_bias": "visual.merger.mlp.0.bias",
    "merger_down": "visual.merger.mlp.2.weight",
    "merger_down_bias": "visual.merger.mlp.2.bias",
}
# Q, K and V lie apart there, and so do the two frames of a patch.
GGUF_NAMES: Names = {
    "patch": "v.patch_embd.weight",
    "patch_of_second_frame": "v.patch_embd.weight.1",
    "attention_gain": "v.blk.{n}.ln1.weight",
    **{part: f"v.blk.{{n}}.attn_{part}.weight" for part in "qkv"},
    **{f"{part}_bias": f"v.blk.{{n}}.attn_{part}.bias" for part in "qkv"},
    "output": "v.blk.{n}.attn_out.weight",
    "output_bias": "v.blk.{n}.attn_out.bias",
    "ffn_gain": "v.blk.{n}.ln2.weight",
    "gate": "v.blk.{n}.ffn_gate.weight",
    "gate_bias": "v.blk.{n}.ffn_gate.bias",
    "up": "v.blk.{n}.ffn_up.weight",
    "up_bias": "v.blk.{n}.ffn_up.bias",
    "down": "v.blk.{n}.ffn_down.weight",
    "down_bias": "v.blk.{n}.ffn_down.bias",
    "merger_gain": "v.post_ln.weight",
    "merger_up": "mm.0.weight",
    "merger_up_bias": "mm.0.bias",
    "merger_down": "mm.2.weight",
    "merger_down_bias": "mm.2.bias",
}


@dataclass(frozen=True, slots=True)
class QwenVisionConfig:
    """The shape of a tower and its merger."""

    layers: int
    hidden: int
    heads: int
    head_dim: int
    ffn: int
    patch: int  # pixels of a patch's edge
    joined: int  # patches of an edge that become one row
    window: int  # rows of an edge that a window becomes
    whole_layers: frozenset[int]  # whose attention is over the whole picture
    out: int  # columns of a row
    mean: tuple[float, ...]  # of each channel, of values from 0 to 1
    deviation: tuple[float, ...]
    tiling: Tiling

    @property
    def padded_head_dim(self) -> int:
        """A head's dimensions with the zeros that make it whole vectors."""
        return -(-self.head_dim // LANES) * LANES

    @property
    def padded_ffn(self) -> int:
        """Likewise the feed-forward width, whose gates and ups alternate in vectors."""
        return -(-self.ffn // LANES) * LANES

    @property
    def most_patches(self) -> int:
        """That a picture is cut into."""
        return self.tiling.max_pixels // self.patch**2


@dataclass(frozen=True, slots=True)
class QwenLayer:
    """One layer; C hidden width, F feed-forward width, H heads of D dimensions, the last two padded."""

    attention_gain: F32  # [C]
    qkv: Linear  # [3·H·D][C]
    output: Linear  # [C][H·D]
    ffn_gain: F32  # [C]
    gate_up: Linear  # [2F][C]: gate and up rows in alternating runs of 16
    down: Linear  # [C][F]


@dataclass(frozen=True, slots=True)
class QwenWeights:
    """A tower and its merger."""

    patch: Any  # [C][3·P·P]
    layers: tuple[QwenLayer, ...]
    merger_gain: F32  # [C]
    merger_up: Linear  # [r·r·C][r·r·C]
    merger_down: Linear  # [out][r·r·C]


def qwen2_5_vl_config(
    values: Mapping[str, Any], processor: Mapping[str, Any], *, place: str, processor_place: str
) -> QwenVisionConfig:
    """From `config.json` and `preprocessor_config.json`."""
    vision = Fields(values, place).mapping("vision_config")
    prepared = Fields(processor, processor_place)
    if (activation := vision.text("hidden_act", default="silu")) != "silu":
        raise unsupported(f"activation {activation!r} of a vision tower", place)
    hidden, heads = vision.integer("hidden_size", default=1280), vision.integer("num_heads", default=16)
    return _checked(
        place,
        layers=vision.integer("depth", default=32, most=1_024),
        hidden=hidden,
        heads=heads,
        ffn=vision.integer("intermediate_size", default=3420),
        patch=vision.integer("patch_size", default=14, most=256),
        joined=vision.integer("spatial_merge_size", default=2, most=8),
        window_pixels=vision.integer("window_size", default=112),
        whole_layers=frozenset(vision.integers("fullatt_block_indexes", default=(7, 15, 23, 31))),
        out=vision.integer("out_hidden_size", default=3584),
        mean=of_channels(prepared, "image_mean"),
        deviation=of_channels(prepared, "image_std"),
        min_pixels=_pixels(prepared, "min_pixels", "shortest_edge", _MIN_PIXELS),
        max_pixels=_pixels(prepared, "max_pixels", "longest_edge", _MAX_PIXELS),
        resampling=checked_resampling(prepared, default=3),
    )


def _pixels(processor: Fields, key: str, key_of_size: str, default: int) -> int:
    """A limit by either of the names that processors' files have for it; the second is of an area, too."""
    of_size = processor.mapping("size").integer(key_of_size, default=default, most=1 << 30)
    return processor.integer(key, default=of_size, most=1 << 30)


def qwen2_5_vl_config_of_gguf(metadata: Mapping[str, Any], *, place: str) -> QwenVisionConfig:
    """Of a GGUF `mmproj` file, whose keys the GGUF package names in `Keys.ClipVision`."""
    prefix = "clip.vision."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    fields = Fields(own, place)
    layers = fields.integer("block_count", most=1_024)
    # Every n-th layer's attention is over the whole picture.
    nth = fields.integer("n_wa_pattern", default=8)
    return _checked(
        place,
        layers=layers,
        hidden=fields.integer("embedding_length"),
        heads=fields.integer("attention.head_count"),
        ffn=fields.integer("feed_forward_length"),
        patch=fields.integer("patch_size", most=256),
        joined=fields.integer("spatial_merge_size", default=2, most=8),
        window_pixels=fields.integer("window_size", default=112),
        whole_layers=frozenset(range(nth - 1, layers, nth)),
        out=fields.integer("projection_dim"),
        mean=of_channels(fields, "image_mean"),
        deviation=of_channels(fields, "image_std"),
        min_pixels=fields.integer("image_min_pixels", default=_MIN_PIXELS, most=1 << 30),
        max_pixels=fields.integer("image_max_pixels", default=_MAX_PIXELS, most=1 << 30),
        resampling="bicubic",
    )


def _checked(
    place: str,
    *,
    hidden: int,
    heads: int,
    patch: int,
    joined: int,
    window_pixels: int,
    min_pixels: int,
    max_pixels: int,
    resampling: Resampling,
    **others: Any,
) -> QwenVisionConfig:
    """The config of these numbers, or `BadModelFile` when they do not fit together or the kernels."""
    head_dim, window = max(1, hidden // heads), window_pixels // patch // joined
    if hidden % heads or hidden % LANES or head_dim % 4 or head_dim > 256:
        raise unsupported(f"a tower's width of {hidden} in {heads} heads", place)
    if window < 1:
        raise unsupported(f"windows of {window_pixels} pixels", place)
    # Buffers are as large as the largest picture, so it is cut down to what they shall take.
    most = min(max_pixels, MOST_PATCHES * patch**2)
    tiling = Tiling(
        "qwen2_5_vl",
        patch * joined,
        max_pixels=most,
        min_pixels=min(min_pixels, most),
        resampling=resampling,
    )
    return QwenVisionConfig(
        hidden=hidden,
        heads=heads,
        head_dim=head_dim,
        patch=patch,
        joined=joined,
        window=window,
        tiling=tiling,
        **others,
    )


def read_qwen_weights(
    tensors: Tensors, names: Names, config: QwenVisionConfig, pack: Callable[[F32], Any]
) -> QwenWeights:
    """All weights, each checked for its shape and packed by `pack`. Raises `BadModelFile`."""
    c = config
    joined = c.joined**2 * c.hidden

    def floats(role: str, *shape: int, layer: int = 0) -> F32:
        return read_tensor(tensors, names[role].format(n=layer), shape)

    def linear(role: str, rows: int, cols: int) -> Linear:
        return Linear(pack(floats(role, rows, cols)), floats(f"{role}_bias", rows))

    def layer_weights(n: int) -> QwenLayer:
        if "qkv" in names:
            qkv = floats("qkv", 3 * c.hidden, c.hidden, layer=n).reshape(3, c.hidden, c.hidden)
            biases = floats("qkv_bias", 3 * c.hidden, layer=n).reshape(3, c.hidden)
        else:
            qkv = np.stack([floats(part, c.hidden, c.hidden, layer=n) for part in "qkv"])
            biases = np.stack([floats(f"{part}_bias", c.hidden, layer=n) for part in "qkv"])
        padded = [padded_heads(part, c.heads, c.head_dim) for part in qkv]
        padded_biases = [padded_heads(part[:, None], c.heads, c.head_dim)[:, 0] for part in biases]
        output = floats("output", c.hidden, c.hidden, layer=n)
        missing = c.padded_ffn - c.ffn
        halves = [
            np.pad(floats(role, c.ffn, c.hidden, layer=n), ((0, missing), (0, 0))) for role in ("gate", "up")
        ]
        half_biases = [
            np.pad(floats(f"{role}_bias", c.ffn, layer=n), (0, missing)) for role in ("gate", "up")
        ]
        order = gate_up_order(c.padded_ffn)
        down = np.pad(floats("down", c.hidden, c.ffn, layer=n), ((0, 0), (0, missing)))
        return QwenLayer(
            attention_gain=floats("attention_gain", c.hidden, layer=n),
            qkv=Linear(pack(np.concatenate(padded)), np.concatenate(padded_biases)),
            output=Linear(
                pack(np.ascontiguousarray(padded_heads(output.T, c.heads, c.head_dim).T)),
                floats("output_bias", c.hidden, layer=n),
            ),
            ffn_gain=floats("ffn_gain", c.hidden, layer=n),
            gate_up=Linear(pack(np.concatenate(halves)[order]), np.concatenate(half_biases)[order]),
            down=Linear(pack(down), floats("down_bias", c.hidden, layer=n)),
        )

    # A still picture is two frames alike, so the frames' weights add up.
    of_frame = (c.hidden, CHANNELS, c.patch, c.patch)
    if "patch_of_second_frame" in names:
        patch = floats("patch", *of_frame) + floats("patch_of_second_frame", *of_frame)
    else:
        patch = floats("patch", c.hidden, CHANNELS, 2, c.patch, c.patch).sum(axis=2)
    return QwenWeights(
        patch=pack(np.ascontiguousarray(patch.reshape(c.hidden, -1))),
        layers=tuple(layer_weights(n) for n in range(c.layers)),
        merger_gain=floats("merger_gain", c.hidden),
        merger_up=linear("merger_up", joined, joined),
        merger_down=linear("merger_down", c.out, joined),
    )


def record(program: Program, config: QwenVisionConfig, weights: QwenWeights) -> tuple[Tensor, Tensor]:
    """Record patches in, rows out.

    Returns: the last layer's output [T][C], and rows for the language model [R][out]."""
    c, first = config, weights.layers[0]
    width, joined_width = c.heads * c.padded_head_dim, c.joined**2 * c.hidden
    pixels, x = program.tensor(CHANNELS * c.patch**2), program.tensor(c.hidden)
    qkv, q, mixed = program.tensor(3 * width), program.tensor(width), program.tensor(width)
    inner = program.tensor(c.padded_ffn)
    patch_input = program.operand(CHANNELS * c.patch**2, weights.patch)
    attention_input = program.operand(c.hidden, first.qkv.matrix)
    mixed_input = program.operand(width, first.output.matrix)
    ffn_input = program.operand(c.hidden, first.gate_up.matrix)
    inner_input = program.operand(c.padded_ffn, first.down.matrix)

    program.features(pixels)
    program.encode(patch_input, pixels)
    program.linear(x, patch_input, weights.patch)
    rope = rope_tables(c)
    for n, layer in enumerate(weights.layers):
        windowed = n not in c.whole_layers
        program.rms_norm(attention_input, x, layer.attention_gain, _RMS_EPS)
        program.linear(qkv, attention_input, layer.qkv.matrix, layer.qkv.bias)
        program.rope_and_store(q, qkv, rope, 0, windowed=windowed)
        program.attention(mixed, q, 0, causal=False, windowed=windowed)
        program.encode(mixed_input, mixed)
        program.linear(x, mixed_input, layer.output.matrix, layer.output.bias, accumulate=True)
        program.rms_norm(ffn_input, x, layer.ffn_gain, _RMS_EPS)
        program.linear_swiglu(inner, ffn_input, layer.gate_up.matrix, layer.gate_up.bias)
        program.encode(inner_input, inner)
        program.linear(x, inner_input, layer.down.matrix, layer.down.bias, accumulate=True)

    joined, merged = (program.tensor(joined_width, Rows.LOGITS) for _ in range(2))
    joined_input = program.operand(joined_width, weights.merger_up.matrix, Rows.LOGITS)
    merged_input = program.operand(joined_width, weights.merger_down.matrix, Rows.LOGITS)
    rows = program.tensor(c.out, Rows.LOGITS)
    program.gather(joined, x)
    program.rms_norm(joined_input, joined, weights.merger_gain, _RMS_EPS)
    program.linear_gelu(merged, joined_input, weights.merger_up.matrix, weights.merger_up.bias)
    program.encode(merged_input, merged)
    program.linear(rows, merged_input, weights.merger_down.matrix, weights.merger_down.bias)
    return x, rows


def rope_tables(config: QwenVisionConfig) -> Rope:
    """Half of a head's pairs turn by the patch's row in the picture, half by its column, by the same frequencies."""
    pairs = config.head_dim // 4
    frequencies = _ROPE_THETA ** -(np.arange(pairs) / pairs)
    angles = np.arange(config.most_patches)[:, None] * np.tile(frequencies, 2)
    return Rope(
        np.cos(angles).astype(np.float32),
        np.sin(angles).astype(np.float32),
        1.0 / math.sqrt(config.head_dim),
        (pairs, pairs),
    )


def step(pixels: Pixels, config: QwenVisionConfig) -> Batch:
    """The step that encodes one picture."""
    c = config
    height, width = pixels.shape[0] // c.patch // c.joined, pixels.shape[1] // c.patch // c.joined  # in rows
    order, window_rows = window_order(height, width, c.window)
    unit = c.joined**2
    num_patches = len(order) * unit
    patches, places = _cut(pixels, c)
    lengths = np.array(window_rows) * unit
    num_pages = -(-lengths // PAGE_TOKENS)
    first_page = np.cumsum([0, *num_pages[:-1]])
    page = np.minimum(np.arange(num_pages.max()), num_pages[:, None] - 1) + first_page[:, None]
    rows = len(order)
    return Batch(
        tokens=np.zeros(num_patches, np.int32),
        positions=np.arange(num_patches, dtype=np.int32),
        row_start=np.array([0, num_patches], np.int32),
        page_table=np.arange(-(-num_patches // PAGE_TOKENS), dtype=np.int32)[None],
        logit_index=(np.argsort(order) * unit).astype(np.int32),
        temperature=np.zeros(rows, np.float32),
        top_p=np.ones(rows, np.float32),
        top_k=np.zeros(rows, np.int32),
        seed=np.zeros(rows, np.uint64),
        counter=np.zeros(rows, np.uint64),
        features=np.ascontiguousarray(patches[order]).reshape(num_patches, -1),
        rope_positions=np.ascontiguousarray(places[order]).reshape(num_patches, 2),
        windows=Windows(
            positions=np.concatenate([np.arange(length, dtype=np.int32) for length in lengths]),
            row_start=np.cumsum([0, *lengths]).astype(np.int32),
            page_table=page.astype(np.int32),
        ),
    )


def most_pages(config: QwenVisionConfig) -> int:
    """Pages that a step of any shape gets along with: a window's last one may be part empty."""
    return config.most_patches // config.joined**2 + 1


def window_order(height: int, width: int, window: int) -> tuple[I32, list[int]]:
    """(rows of a picture of `height` by `width`, window by window; how many each window has)."""
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    windows = [
        numbers[top : top + window, left : left + window].reshape(-1)
        for top in range(0, height, window)
        for left in range(0, width, window)
    ]
    return np.concatenate(windows), [len(each) for each in windows]


def _cut(pixels: Pixels, c: QwenVisionConfig) -> tuple[F32, I32]:
    """Patches [rows][r·r][3·P·P], normalised, channels outermost; and where each stands [rows][r·r][2]."""
    scale = (1 / (255 * np.array(c.deviation))).astype(np.float32)
    shift = (np.array(c.mean) / np.array(c.deviation)).astype(np.float32)
    values = pixels.astype(np.float32) * scale - shift
    height, width = pixels.shape[0] // c.patch, pixels.shape[1] // c.patch
    blocks = (height // c.joined, c.joined, c.patch, width // c.joined, c.joined, c.patch, CHANNELS)
    cut = values.reshape(blocks).transpose(0, 3, 1, 4, 6, 2, 5)
    down, across = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    places = np.stack([down, across], axis=2).astype(np.int32)
    of_rows = places.reshape(height // c.joined, c.joined, width // c.joined, c.joined, 2)
    unit = c.joined**2
    return (
        np.ascontiguousarray(cut).reshape(-1, unit, CHANNELS * c.patch**2),
        np.ascontiguousarray(of_rows.transpose(0, 2, 1, 3, 4)).reshape(-1, unit, 2),
    )
