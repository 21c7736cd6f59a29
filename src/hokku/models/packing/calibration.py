"""Measures how large each column of each linear's input becomes, by running the model in float32 over a text.

The text ships in the package: prose, code, Markdown, lists and a few other languages, written for this
purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files

import numpy as np

from hokku.kernels.program import F32, PAGE_TOKENS, Batch, Rope
from hokku.kernels.reference import LazyMatrix, Matrix, ReferenceProgram
from hokku.models.registry import architecture_of
from hokku.models.rope import rope_tables
from hokku.models.weights import WeightSource, lazy_weights

WINDOW_TOKENS = 512
# The head's product is as large as the vocabulary is; every eighth row shows its input well enough.
_LOGIT_STRIDE = 8


def calibration_text() -> str:
    """The package's calibration text."""
    return files(__package__).joinpath("calibration.txt").read_text(encoding="utf-8")


def column_maxima(
    source: WeightSource, tokens: Sequence[int], progress: Callable[[], None] = lambda: None
) -> dict[str, F32]:
    """For each matrix by name, the largest magnitude of each column of its inputs [K] over all tokens.

    One step runs all windows through one matrix after another, so a matrix is made once and dropped.
    `progress` is called after each.
    """
    maxima: dict[str, F32] = {}

    def observe(weight: Matrix, columns: F32) -> None:
        if isinstance(weight, LazyMatrix):
            maxima[weight.name] = np.maximum(maxima.get(weight.name, 0), columns)
            progress()

    config = source.config
    weights = lazy_weights(source)
    rope: Rope = rope_tables(config, WINDOW_TOKENS, weights.rope_divisors)
    program = ReferenceProgram(kv_heads=config.kv_heads, head_dim=config.head_dim, observe=observe)
    architecture_of(config.architecture, config.architecture).record(program, config, weights, rope)
    program.run(windows_batch(np.asarray(tokens, dtype=np.int32)))
    return maxima


def windows_batch(tokens: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Batch:
    """Every WINDOW_TOKENS tokens as a sequence of their own, greedy, logits for every eighth row."""
    count = len(tokens)
    starts = np.arange(0, count, WINDOW_TOKENS, dtype=np.int32)
    pages = WINDOW_TOKENS // PAGE_TOKENS
    index = np.arange(0, count, _LOGIT_STRIDE, dtype=np.int32)
    return Batch(
        tokens=tokens,
        positions=np.arange(count, dtype=np.int32) % WINDOW_TOKENS,
        row_start=np.append(starts, np.int32(count)),
        page_table=np.arange(len(starts) * pages, dtype=np.int32).reshape(-1, pages),
        logit_index=index,
        temperature=np.zeros(index.size, np.float32),
        top_p=np.ones(index.size, np.float32),
        top_k=np.zeros(index.size, np.int32),
        seed=np.zeros(index.size, np.uint64),
        counter=np.zeros(index.size, np.uint64),
    )
