"""Where a step's time goes, operation by operation: `python benchmarks/profile.py`.

The default model (or the one the usual settings name) runs three kinds of step: a prefill of 1,500 tokens in chunks,
and one decode of 1, 16 and 32 streams with 100 tokens each behind them. Times are medians of several rounds, summed
over the operations of one kind and shape.

    HOKKU_WEIGHTS_FORMAT=int4 python benchmarks/profile.py --rounds 9
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from hokku.kernels import Batch, NativeProgram, PagePool, ThreadPool
from hokku.opening import choose_kernels, choose_kv_format, find_packed
from hokku.registry.pull import pull
from hokku.settings import load_settings

MAX_ROWS, MAX_STREAMS = 512, 64
PREFILL_TOKENS, DECODE_CONTEXT = 1_500, 100
STREAMS = (1, 16, 32)


def batch(starts: Sequence[int], num_tokens: int, pages_each: int, generator: np.random.Generator) -> Batch:
    """`num_tokens` new tokens for each stream, from the position where it starts; the last of each is wanted."""
    num_streams = len(starts)
    rows = num_streams * num_tokens
    ends = np.arange(1, num_streams + 1, dtype=np.int32) * np.int32(num_tokens)
    return Batch(
        tokens=generator.integers(0, 40_000, rows, dtype=np.int32),
        positions=np.concatenate([np.arange(start, start + num_tokens, dtype=np.int32) for start in starts]),
        row_start=np.concatenate([np.zeros(1, np.int32), ends]),
        page_table=np.arange(num_streams * pages_each, dtype=np.int32).reshape(num_streams, pages_each),
        logit_index=ends - 1,
        temperature=np.zeros(num_streams, np.float32),
        top_p=np.ones(num_streams, np.float32),
        top_k=np.zeros(num_streams, np.int32),
        seed=np.zeros(num_streams, np.uint64),
        counter=np.zeros(num_streams, np.uint64),
    )


def prefill_batches(num_pages: int, generator: np.random.Generator) -> Iterator[Batch]:
    """A long prompt in chunks, as the scheduler cuts it."""
    for start in range(0, PREFILL_TOKENS, MAX_ROWS):
        yield batch([start], min(MAX_ROWS, PREFILL_TOKENS - start), num_pages, generator)


def profile(program: NativeProgram, batches: Sequence[Batch], rounds: int) -> dict[str, float]:
    """Median seconds by operation."""
    seconds: dict[str, list[float]] = defaultdict(list)
    for round_number in range(rounds + 1):
        sums: dict[str, float] = defaultdict(float)
        for step in batches:
            program.run(step)
            for name, operation_seconds in program.timings():
                sums[name] += operation_seconds
        for name, total in sums.items():
            if round_number > 0:  # the first only warms up
                seconds[name].append(total)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Profile and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds: int = parser.parse_args().rounds

    settings = load_settings({}, os.environ)
    kernels = choose_kernels(settings)
    packed = find_packed(settings, pull, lambda done, total: None)
    config = packed.config
    pages_each = -(-PREFILL_TOKENS // 16)
    kv_format = choose_kv_format(settings, packed)
    num_pages = max(pages_each, MAX_STREAMS * 8)
    pool = PagePool(config.layers, num_pages, config.kv_heads, config.head_dim, kv_format)
    threads = ThreadPool(kernels.num_threads)
    program = NativeProgram(MAX_ROWS, MAX_STREAMS, pool, threads, kernels.isa)
    packed.record(program, max_positions=2048)
    program.time_operations()

    generator = np.random.default_rng(0)
    steps = {f"prefill {PREFILL_TOKENS:,}": list(prefill_batches(pages_each, generator))}
    for num_streams in STREAMS:
        starts = [DECODE_CONTEXT] * num_streams
        steps[f"decode {num_streams}"] = [batch(starts, 1, 8, generator)]
    columns = {name: profile(program, batches, rounds) for name, batches in steps.items()}

    formats = f"{packed.weights_format} weights, {kv_format.name.lower()} keys and values"
    title = f"milliseconds, {formats}, {program.isa}, {kernels.num_threads} threads"
    table = Table("Operation", *columns, title=title)
    for operation in dict.fromkeys(name for column in columns.values() for name in column):
        table.add_row(operation, *(share_of(column, operation) for column in columns.values()))
    table.add_section()
    table.add_row("all", *(f"{sum(column.values()) * 1e3:.2f}" for column in columns.values()))
    Console().print(table)


def share_of(column: dict[str, float], operation: str) -> str:
    """An operation's milliseconds and its share of the step."""
    if operation not in column:
        return ""
    return f"{column[operation] * 1e3:.2f}  {column[operation] / sum(column.values()):4.0%}"


if __name__ == "__main__":
    main()
