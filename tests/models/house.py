"""What the tests of this room share: golden checkpoints, batches, and GGUF files made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import F32, I32, PAGE_TOKENS, Batch
from hokku.kernels.reference import ReferenceProgram
from hokku.models.checkpoint import Checkpoint, open_checkpoint
from hokku.models.config import ModelConfig
from hokku.models.layers import Forward
from hokku.models.registry import architecture_of
from hokku.models.rope import rope_tables
from hokku.models.weights import WeightSource, lazy_weights

GOLDENS = Path(__file__).parent.parent / "goldens"
TINY = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Golden:
    """A tiny checkpoint and the logits that transformers gives it in float32."""

    checkpoint: Checkpoint
    tokens: I32  # [T]
    row_start: I32  # [S+1]
    logits: F32  # [T][V]

    @property
    def config(self) -> ModelConfig:
        return self.checkpoint.config


def golden(name: str) -> Golden:
    with np.load(GOLDENS / name / "golden.npz") as stored:
        return Golden(
            open_checkpoint(GOLDENS / name), stored["tokens"], stored["row_start"], stored["logits"]
        )


def whole(tokens: I32, row_start: I32) -> Batch:
    """Every sequence from its first token on, logits for every row, greedy."""
    lengths = np.diff(row_start)
    return batch([(tokens[a:b], 0) for a, b in pairwise(row_start)], max(lengths))


def batch(chunks: Sequence[tuple[I32, int]], most_tokens: int) -> Batch:
    """Chunks of sequences, each with the position of its first token; sequence s has pages of its own, in
    descending order so that nobody can mistake a page for a position."""
    rows = sum(len(tokens) for tokens, _ in chunks)
    pages = -(-most_tokens // PAGE_TOKENS)
    table = np.arange(len(chunks) * pages, dtype=np.int32).reshape(len(chunks), pages)[:, ::-1]
    return Batch(
        tokens=np.concatenate([tokens for tokens, _ in chunks]).astype(np.int32),
        positions=np.concatenate([np.arange(a, a + len(t), dtype=np.int32) for t, a in chunks]),
        row_start=np.cumsum([0, *(len(tokens) for tokens, _ in chunks)]).astype(np.int32),
        page_table=np.ascontiguousarray(table),
        logit_index=np.arange(rows, dtype=np.int32),
        temperature=np.zeros(rows, np.float32),
        top_p=np.ones(rows, np.float32),
        top_k=np.zeros(rows, np.int32),
        seed=np.zeros(rows, np.uint64),
        counter=np.zeros(rows, np.uint64),
    )


def on_reference(source: WeightSource) -> tuple[ReferenceProgram, Forward]:
    """A source's forward pass, recorded on the numpy program."""
    config = source.config
    program = ReferenceProgram(kv_heads=config.kv_heads, head_dim=config.head_dim)
    weights = lazy_weights(source)
    rope = rope_tables(config, config.context_window_tokens, weights.rope_divisors)
    forward = architecture_of(config.architecture, "test").record(program, config, weights, rope)
    return program, forward


def reference_logits(source: WeightSource, tokens: I32, row_start: I32) -> F32:
    program, forward = on_reference(source)
    program.run(whole(tokens, row_start))
    return program.view(forward.logits).copy()


def write_gguf(
    path: Path,
    metadata: dict[str, Any],
    tensors: dict[str, tuple[NDArray[Any], gguf.GGMLQuantizationType]],
) -> Path:
    """A GGUF file with these float32 tensors, each stored in its type."""
    writer = gguf.GGUFWriter(str(path), metadata["general.architecture"])
    for key, value in metadata.items():
        if key == "general.architecture":
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    for name, (values, type_) in tensors.items():
        writer.add_tensor(name, gguf.quantize(values, type_), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def pairs_adjacent(rows: F32, head_dim: int) -> F32:
    """Rows of Q or K as GGUF has them for Llama: rotary pairs side by side."""
    heads = rows.reshape(-1, 2, head_dim // 2, rows.shape[-1])
    return heads.swapaxes(1, 2).reshape(rows.shape)
