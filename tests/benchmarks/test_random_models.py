"""The random weights are files that our own reader takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.random_models import LARGE, LONG, Shape, write_if_missing

from hokku.chat.gguf_vocab import spec_from_gguf
from hokku.chat.tokenizer import Tokenizer
from hokku.models.checkpoint import open_checkpoint


@pytest.mark.parametrize("shape", [LARGE, LONG], ids=lambda shape: shape.name)
def test_a_small_copy_of_the_shape_opens_and_reads_text(shape: Shape, tmp_path: Path) -> None:
    # 70,000 tokens need the bytes, all of their pairs, and some triples.
    small = replace(shape, layers=1, hidden=shape.heads * 32, ffn=64, vocabulary=70_000)
    checkpoint = open_checkpoint(write_if_missing(small, tmp_path))
    config = checkpoint.config
    assert (config.layers, config.heads, config.kv_heads) == (1, shape.heads, shape.kv_heads)
    assert (config.vocabulary, config.tied_embeddings) == (70_000, True)
    assert config.context_window_tokens == shape.window_tokens
    weights = checkpoint.floats("blk.0.ffn_up.weight")
    assert 0.01 < np.std(weights) < 0.03
    tokenizer = Tokenizer(spec_from_gguf(checkpoint.metadata))
    ids = tokenizer.encode_rendered("A plain sentence.")
    assert b"".join(map(tokenizer.token_bytes, ids)) == b"A plain sentence."


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"{LONG.name}.gguf").write_bytes(b"mine")
    assert write_if_missing(LONG, tmp_path).read_bytes() == b"mine"
