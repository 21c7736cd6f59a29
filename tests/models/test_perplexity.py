"""The default model on 20,480 tokens of prose: what int8 costs, against float32 in transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hokku.chat.gguf_vocab import spec_from_gguf
from hokku.chat.tokenizer import Tokenizer
from hokku.kernels.program import F32, I32, PAGE_TOKENS
from hokku.kernels.reference import log_sum_exp
from hokku.models.checkpoint import Checkpoint, open_checkpoint
from hokku.models.packing import TextSide, load_model
from hokku.models.weights import CheckpointWeights
from tests.models.house import GOLDENS, on_reference, whole
from tests.models.native import on_native

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((GOLDENS / "perplexity.json").read_text())
    return stored


@pytest.fixture(scope="module")
def windows() -> I32:
    stored: NDArray[np.uint16] = np.load(GOLDENS / "perplexity_tokens.npy")
    return stored.astype(np.int32)


def read_text_side(checkpoint: Checkpoint) -> TextSide:
    return TextSide(Tokenizer(spec_from_gguf(checkpoint.metadata)).encode_rendered, {})


def cross_entropy(logits: F32, tokens: I32) -> float:
    """Mean natural-log loss of each token after the first."""
    surprise = log_sum_exp(logits[:-1])[:, 0] - logits[np.arange(len(tokens) - 1), tokens[1:]]
    return float(surprise.mean())


def test_the_tokenizer_gives_the_ids_of_transformers(default_gguf: Path, windows: I32) -> None:
    tokenizer = Tokenizer(spec_from_gguf(open_checkpoint(default_gguf).metadata))
    text = (GOLDENS / "perplexity.txt").read_text(encoding="utf-8")
    assert tokenizer.encode(text)[: windows.size] == windows.ravel().tolist()


def test_int8_is_within_one_per_cent_of_float32(
    default_gguf: Path, windows: I32, reference: dict[str, Any], tmp_path: Path
) -> None:
    assert windows.size >= 20_000
    model = load_model(
        default_gguf, read_text_side=read_text_side, digest=reference["source_sha256"], cache_dir=tmp_path
    )
    assert model.weights_format == "int8"
    length = windows.shape[1]
    program, forward = on_native(model, length, length, length // PAGE_TOKENS)
    losses = []
    for window in windows:
        program.run(whole(window, np.array([0, length], np.int32)))
        losses.append(cross_entropy(program.view(forward.logits), window))
    perplexity = float(np.exp(np.mean(losses)))
    assert perplexity == pytest.approx(reference["perplexity"], rel=0.01)


def test_the_numpy_program_computes_what_transformers_computes(
    default_gguf: Path, windows: I32, reference: dict[str, Any]
) -> None:
    program, forward = on_reference(CheckpointWeights(open_checkpoint(default_gguf)))
    window = windows[0]
    program.run(whole(window, np.array([0, len(window)], np.int32)))
    loss = cross_entropy(program.view(forward.logits), window)
    assert loss == pytest.approx(reference["window_cross_entropy"][0], abs=1e-4)
