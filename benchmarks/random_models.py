"""GGUF files of random weights in the shapes that no download here brings: a 1.5 B one, and one of a long window.

Only speed is measured on them. Their blocks are random bytes, which cost every engine what trained ones cost; their
scales keep activations finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as TensorType
from numpy.typing import NDArray

_BLOCK = 32  # weights in a block of Q4_0 and Q8_0
_WEIGHT_SPREAD = 0.02  # standard deviation of the weights, as models are initialised
# Standard deviations of the whole numbers in a block: 0..15 and -128..127, evenly drawn.
_SPREAD_OF = {TensorType.Q4_0: 4.6, TensorType.Q8_0: 73.9}
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_NORMAL, _CONTROL_TYPE = 1, 3  # tokenizer.ggml.token_type


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a Qwen2 or Llama model with tied embeddings."""

    name: str
    architecture: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    window_tokens: int
    rope_base: float

    @property
    def kv_width(self) -> int:
        """Of keys, and of values."""
        return self.hidden // self.heads * self.kv_heads


LARGE = Shape("random-qwen2-1.5b", "qwen2", 28, 1536, 12, 2, 8960, 151_936, 32_768, 1e6)  # Qwen2.5-1.5B
LONG = Shape(
    "random-llama-2-layers", "llama", 2, 576, 9, 3, 1536, 49_152, 40_960, 1e5
)  # two layers of SmolLM2-135M


def write_if_missing(shape: Shape, folder: Path) -> Path:
    """The shape's file in `folder`, written first where it is not there."""
    path = folder / f"{shape.name}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        incoming = path.with_suffix(".incoming")
        _write(shape, incoming)
        incoming.replace(path)
    return path


def _write(shape: Shape, path: Path) -> None:
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_name(shape.name)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.window_tokens)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_quantization_version(2)
    _add_tokenizer(writer, shape.vocabulary)
    random = np.random.default_rng(0)
    for name, tensor_shape, kind in _tensors(shape):
        if kind is TensorType.F32:
            fill = np.zeros if name.endswith(".bias") else np.ones
            writer.add_tensor(name, fill(tensor_shape, np.float32))
        else:
            writer.add_tensor(name, _random_blocks(random, tensor_shape, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...], TensorType]]:
    """Name, shape (outputs first) and type of every tensor; the embedding has eight bits, as in published files."""
    hidden, kv, ffn = shape.hidden, shape.kv_width, shape.ffn
    yield "token_embd.weight", (shape.vocabulary, hidden), TensorType.Q8_0
    yield "output_norm.weight", (hidden,), TensorType.F32
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        for norm in ("attn_norm", "ffn_norm"):
            yield f"{block}{norm}.weight", (hidden,), TensorType.F32
        for name, rows, cols in (
            ("attn_q", hidden, hidden),
            ("attn_k", kv, hidden),
            ("attn_v", kv, hidden),
            ("attn_output", hidden, hidden),
            ("ffn_gate", ffn, hidden),
            ("ffn_up", ffn, hidden),
            ("ffn_down", hidden, ffn),
        ):
            yield f"{block}{name}.weight", (rows, cols), TensorType.Q4_0
        if shape.architecture == "qwen2":
            for name, rows in (("attn_q", hidden), ("attn_k", kv), ("attn_v", kv)):
                yield f"{block}{name}.bias", (rows,), TensorType.F32


def _random_blocks(
    random: np.random.Generator, shape: tuple[int, ...], kind: TensorType
) -> NDArray[np.uint8]:
    """Rows of blocks: a scale in float16, then random codes."""
    rows, cols = shape
    block_bytes = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = np.frombuffer(random.bytes(rows * cols // _BLOCK * block_bytes), np.uint8)
    blocks = blocks.reshape(-1, block_bytes).copy()
    scale = np.float16(_WEIGHT_SPREAD / _SPREAD_OF[kind])
    blocks[:, :2] = np.frombuffer(scale.tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def _add_tokenizer(writer: Any, vocabulary: int) -> None:
    """A byte-level BPE vocabulary of the wanted size: the bytes, then their pairs, then pairs and a byte."""
    tokens, merges = _byte_pairs(vocabulary - len(_CONTROL))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*tokens, *_CONTROL])
    writer.add_token_types([_NORMAL] * len(tokens) + [_CONTROL_TYPE] * len(_CONTROL))
    writer.add_token_merges(merges)
    end = vocabulary - 1
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(end)
    writer.add_add_bos_token(False)


def _byte_pairs(num_tokens: int) -> tuple[list[str], list[str]]:
    """So many tokens, and the merge that makes each of them from two earlier ones."""
    alphabet = _byte_alphabet()
    pairs = [one + other for one, other in product(alphabet, alphabet)]
    merges = [f"{one} {other}" for one, other in product(alphabet, alphabet)]
    triples = islice(product(pairs, alphabet), max(0, num_tokens - len(alphabet) - len(pairs)))
    longer = [f"{pair} {letter}" for pair, letter in triples]
    tokens = [*alphabet, *pairs, *(merge.replace(" ", "") for merge in longer)]
    return tokens[:num_tokens], [*merges, *longer][: num_tokens - len(alphabet)]


def _byte_alphabet() -> list[str]:
    """One printable character a byte (Radford et al. 2019, `bytes_to_unicode`)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + place) for place in range(len(others)))]
