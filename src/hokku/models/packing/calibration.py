"""Measures how much each column of each linear's input carries, by running the model in float32 over a text.

The text ships in the package: prose, code, Markdown, lists and a few other languages, written for this
purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files

import numpy as np

from hokku.kernels.program import F32, I32, PAGE_TOKENS, Batch
from hokku.kernels.reference import LazyMatrix, Matrix, ReferenceProgram
from hokku.models.registry import architecture_of
from hokku.models.rope import rope_tables
from hokku.models.weights import WeightSource, lazy_weights

# Enough for spreads that no longer move: twice as many tokens change no perplexity we measured.
NUM_WINDOWS = 4
WINDOW_TOKENS = 256
# A row of logits is as long as the vocabulary, and the head's input is much the same from row to row.
LOGIT_STRIDE = 8


def calibration_text() -> str:
    """The package's calibration text."""
    return files(__package__).joinpath("calibration.txt").read_text(encoding="utf-8")


def column_spreads(
    source: WeightSource, tokens: Sequence[int], progress: Callable[[str], None] = lambda _: None
) -> dict[str, F32]:
    """For each matrix by name, the root mean square of each column of its inputs [K].

    One step runs all windows through one matrix after another, so a matrix is made once and dropped.
    `progress` is told of each by name.
    """
    spreads: dict[str, F32] = {}

    def observe(weight: Matrix, rows: F32) -> None:
        if isinstance(weight, LazyMatrix):
            spreads[weight.name] = root_mean_square(rows)
            progress(weight.name)

    config = source.config
    weights = lazy_weights(source)
    rope = rope_tables(config, WINDOW_TOKENS, weights.rope_divisors)
    program = ReferenceProgram(kv_heads=config.kv_heads, head_dim=config.head_dim, observe=observe)
    architecture_of(config.architecture, config.architecture).record(program, config, weights, rope)
    program.run(windows_batch(np.asarray(tokens, dtype=np.int32)))
    return spreads


def root_mean_square(rows: F32) -> F32:
    """Of each column [K]."""
    spread: F32 = np.sqrt(np.mean(np.square(rows), axis=0))
    return spread


def windows_batch(tokens: I32) -> Batch:
    """Windows spread evenly over the tokens, each a sequence of its own, greedy.

    Logits are for every `LOGIT_STRIDE`th row.
    """
    length = min(WINDOW_TOKENS, len(tokens))
    starts = np.unique(np.linspace(0, len(tokens) - length, NUM_WINDOWS).astype(np.int32))
    rows = len(starts) * length
    pages = -(-length // PAGE_TOKENS)
    logit_index = np.arange(0, rows, LOGIT_STRIDE, dtype=np.int32)
    num_logits = len(logit_index)
    return Batch(
        tokens=np.concatenate([tokens[start : start + length] for start in starts]),
        positions=np.tile(np.arange(length, dtype=np.int32), len(starts)),
        row_start=np.arange(0, rows + 1, length, dtype=np.int32),
        page_table=np.arange(len(starts) * pages, dtype=np.int32).reshape(-1, pages),
        logit_index=logit_index,
        temperature=np.zeros(num_logits, np.float32),
        top_p=np.ones(num_logits, np.float32),
        top_k=np.zeros(num_logits, np.int32),
        seed=np.zeros(num_logits, np.uint64),
        counter=np.zeros(num_logits, np.uint64),
    )
