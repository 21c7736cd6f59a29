"""Small things the kernel tests share: batches, tables of chosen rows, and programs of one operation.

A program has no way to write a tensor from outside but `embed`, so tests put the rows they want into a bf16 table
and let the tokens be their numbers: what arrives is exact where the values are bf16.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from hokku.kernels import (
    Batch,
    NativeProgram,
    PagePool,
    Tensor,
    ThreadPool,
    Windows,
    available_isas,
    pack_bf16,
)
from hokku.kernels.program import F32, I32, PAGE_TOKENS

ISAS = available_isas()
every_isa = pytest.mark.parametrize("isa", ISAS)


def bf16(x: NDArray[np.float32]) -> F32:
    """Rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded: F32 = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return rounded


def normal(seed: int, *shape: int) -> F32:
    """Standard normal values that bf16 holds exactly."""
    return bf16(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def batch(
    tokens: Sequence[int] | NDArray[np.integer],
    *,
    first_positions: Sequence[int] = (0,),
    lengths: Sequence[int] | None = None,
    page_table: Sequence[Sequence[int]] | None = None,
    logit_index: Sequence[int] = (),
    temperature: float = 0,
    top_p: float = 1,
    top_k: int = 0,
    seed: int = 0,
    counter: Sequence[int] | None = None,
    allowed: NDArray[np.uint32] | None = None,
    features: F32 | None = None,
    rope_positions: I32 | None = None,
    windows: Windows | None = None,
) -> Batch:
    """A step of sequences with `lengths` rows (default: one sequence of all) from `first_positions` on.

    Without a page table, sequence s owns the pages s*n, s*n + 1, … that it needs.
    """
    lengths = [len(tokens)] if lengths is None else lengths
    ends = [first + length for first, length in zip(first_positions, lengths, strict=True)]
    num_pages = -(-max(ends) // PAGE_TOKENS)
    own_pages = np.arange(len(lengths) * num_pages).reshape(-1, num_pages)
    rows = len(logit_index)
    return Batch(
        tokens=np.asarray(tokens, np.int32),
        positions=np.concatenate(
            [np.arange(*span) for span in zip(first_positions, ends, strict=True)]
        ).astype(np.int32),
        row_start=np.cumsum([0, *lengths]).astype(np.int32),
        page_table=np.asarray(own_pages if page_table is None else page_table, np.int32),
        logit_index=np.asarray(logit_index, np.int32),
        temperature=np.full(rows, temperature, np.float32),
        top_p=np.full(rows, top_p, np.float32),
        top_k=np.full(rows, top_k, np.int32),
        seed=np.full(rows, seed, np.uint64),
        counter=np.asarray(range(rows) if counter is None else counter, np.uint64),
        allowed=allowed,
        features=features,
        rope_positions=rope_positions,
        windows=windows,
    )


def program(
    isa: str | None = None,
    *,
    max_rows: int = 256,
    max_logit_rows: int = 256,
    pool: PagePool | None = None,
    num_threads: int = 2,
    threads: ThreadPool | None = None,
) -> NativeProgram:
    """A program of small limits; its pool is a stand-in unless one is given."""
    own_pool, own_threads = pool or PagePool(1, 16, 1, 16), threads or ThreadPool(num_threads)
    return NativeProgram(max_rows, max_logit_rows, own_pool, own_threads, isa)


def rows_of(p: NativeProgram, rows: F32) -> Tensor:
    """A token tensor that token t fills with rows[t], which bf16 must hold exactly."""
    tensor = p.tensor(rows.shape[1])
    p.embed(tensor, pack_bf16(np.ascontiguousarray(rows)))
    return tensor
