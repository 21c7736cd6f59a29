"""A small Llama model of random weights with a window of 65,536 tokens and the default model's tokenizer.

Agent command lines begin with some 30,000 tokens, which this one reads in seconds. What it says has no meaning: the
wire is tested, not the wit. Two things about it are not random, so that replies come to an end and are never empty:
one dimension of the embeddings says "there is text", and the end of the turn is likely after any token that has it,
which is every token but the line break before a reply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from hokku.kernels.program import F32
from hokku.models.checkpoint import open_checkpoint

WINDOW_TOKENS = 65_536
LAYERS, HIDDEN, HEADS, FFN = 2, 128, 2, 256
SPREAD = 0.02  # standard deviation of the weights, as models are initialised
# Replies have some thirty tokens.
END_WEIGHT = 0.77
LINE_BREAK = "Ċ"  # as byte-level vocabularies write it


def write_long_window(source: Path, path: Path) -> None:
    """Write the model to `path`, with the tokenizer of the GGUF file `source`."""
    metadata = open_checkpoint(source).metadata
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("random weights, long window")
    writer.add_block_count(LAYERS)
    writer.add_context_length(WINDOW_TOKENS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(metadata["tokenizer.ggml.tokens"]))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, metadata)
    for name, values in _tensors(metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.eos_token_id"]):
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: Any, metadata: Mapping[str, Any]) -> None:
    writer.add_tokenizer_model(metadata["tokenizer.ggml.model"])
    writer.add_tokenizer_pre(metadata["tokenizer.ggml.pre"])
    writer.add_token_list(metadata["tokenizer.ggml.tokens"])
    writer.add_token_types(metadata["tokenizer.ggml.token_type"])
    writer.add_token_merges(metadata["tokenizer.ggml.merges"])
    writer.add_bos_token_id(metadata["tokenizer.ggml.bos_token_id"])
    writer.add_eos_token_id(metadata["tokenizer.ggml.eos_token_id"])
    writer.add_add_bos_token(metadata["tokenizer.ggml.add_bos_token"])
    writer.add_chat_template(metadata["tokenizer.chat_template"])


def _tensors(tokens: list[str], end_id: int) -> Iterator[tuple[str, F32]]:
    random = np.random.default_rng(0)

    def drawn(rows: int, cols: int) -> F32:
        return random.normal(0, SPREAD, (rows, cols)).astype(np.float32)

    embedding, head = drawn(len(tokens), HIDDEN), drawn(len(tokens), HIDDEN)
    embedding[:, 0] = 1
    embedding[tokens.index(LINE_BREAK), 0] = 0
    head[:, 0] = 0
    head[end_id] = 0
    head[end_id, 0] = END_WEIGHT
    yield "token_embd.weight", embedding
    yield "output.weight", head
    yield "output_norm.weight", np.ones(HIDDEN, np.float32)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        yield f"{block}attn_norm.weight", np.ones(HIDDEN, np.float32)
        yield f"{block}ffn_norm.weight", np.ones(HIDDEN, np.float32)
        for name, rows, cols in (
            ("attn_q", HIDDEN, HIDDEN),
            ("attn_k", HIDDEN // HEADS, HIDDEN),
            ("attn_v", HIDDEN // HEADS, HIDDEN),
            ("attn_output", HIDDEN, HIDDEN),
            ("ffn_gate", FFN, HIDDEN),
            ("ffn_up", FFN, HIDDEN),
            ("ffn_down", HIDDEN, FFN),
        ):
            yield f"{block}{name}.weight", drawn(rows, cols)
