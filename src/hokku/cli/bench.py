"""`hokku bench`: the first numbers of this machine, beside what its memory and arithmetic could do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from hokku.cli.options import takes_settings
from hokku.settings import Settings, as_variables

PREFILL_TOKENS = 1_500
SHORT_PROMPT_TOKENS = 64
DECODE_TOKENS = 128
STREAMS = (1, 16, 32)
_PEAK_SECS = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """The figures, in the order of the table; their names carry the units."""

    model: str
    weights_format: str
    isa: str
    num_threads: int
    prefill_1500_tokens_per_sec: float
    decode_1_tokens_per_sec: float
    decode_16_tokens_per_sec: float
    decode_32_tokens_per_sec: float
    first_token_64_ms: float
    first_token_1500_ms: float
    start_secs: float
    resident_mb: float
    read_gb_per_sec: float
    int8_tops: float
    bytes_read_per_token: int
    operations_per_token: int


@takes_settings("files", "engine")
def bench(
    settings: Settings,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds a figure; the median counts.")] = 5,
) -> None:
    """Measure prefill, decode, time to first token, start-up and memory; the last line is JSON.

    \b
    Examples:
      hokku bench
      hokku bench --threads 1 --rounds 3
    """
    result = _measured(settings, rounds)
    Console().print(table_of(result))
    print(json.dumps(asdict(result)))


def _measured(settings: Settings, rounds: int) -> Result:
    from hokku.cli.measure import decode_rate, first_token_secs, median_of, prefill_rate, server_start
    from hokku.cli.progress import PackingBar, pull_with_bar
    from hokku.kernels import ThreadPool, measure_peaks
    from hokku.opening import choose_kernels, open_model

    kernels = choose_kernels(settings)
    with PackingBar() as packing:
        opened = open_model(settings, pull_with_bar, packing)
    engine, config = opened.engine, opened.packed.config
    with engine:
        decodes = [
            median_of(rounds, partial(decode_rate, engine, config.vocabulary, num_streams, DECODE_TOKENS))
            for num_streams in STREAMS
        ]
        prefill = median_of(rounds, partial(prefill_rate, engine, config.vocabulary, PREFILL_TOKENS))
        first = median_of(rounds, partial(first_token_secs, engine, config.vocabulary, SHORT_PROMPT_TOKENS))
    starts = [server_start(as_variables(settings), opened.served.id) for _ in range(rounds)]
    peaks = measure_peaks(_PEAK_SECS, ThreadPool(kernels.num_threads), kernels.isa)
    matrices = opened.packed.matrices_of_a_token()
    middle = sorted(starts, key=lambda start: start.ready_secs)[len(starts) // 2]
    return Result(
        model=opened.served.id,
        weights_format=opened.packed.weights_format,
        isa=kernels.isa,
        num_threads=kernels.num_threads,
        prefill_1500_tokens_per_sec=prefill,
        decode_1_tokens_per_sec=decodes[0],
        decode_16_tokens_per_sec=decodes[1],
        decode_32_tokens_per_sec=decodes[2],
        first_token_64_ms=first * 1e3,
        first_token_1500_ms=PREFILL_TOKENS / prefill * 1e3,
        start_secs=middle.ready_secs,
        resident_mb=middle.resident_bytes / 1e6,
        read_gb_per_sec=peaks.read_gb_per_s,
        int8_tops=peaks.int8_tops,
        bytes_read_per_token=sum(matrix.nbytes for matrix in matrices.values()),
        operations_per_token=2
        * sum(matrix.rows * matrix.cols for name, matrix in matrices.items() if name.startswith("layers.")),
    )


def table_of(result: Result) -> Table:
    """The figures with their share of the machine's ceiling: bandwidth for decode, int8 arithmetic for prefill."""
    of_bandwidth = (
        result.decode_1_tokens_per_sec * result.bytes_read_per_token / (result.read_gb_per_sec * 1e9)
    )
    of_peak = result.prefill_1500_tokens_per_sec * result.operations_per_token / (result.int8_tops * 1e12)
    rows = [
        (
            "prefill, 1,500 tokens",
            f"{result.prefill_1500_tokens_per_sec:,.0f} tokens/s",
            f"{of_peak:.0%} of int8",
        ),
        (
            "decode, 1 stream",
            f"{result.decode_1_tokens_per_sec:,.0f} tokens/s",
            f"{of_bandwidth:.0%} of reads",
        ),
        ("decode, 16 streams", f"{result.decode_16_tokens_per_sec:,.0f} tokens/s", ""),
        ("decode, 32 streams", f"{result.decode_32_tokens_per_sec:,.0f} tokens/s", ""),
        ("first token, 64-token prompt", f"{result.first_token_64_ms:,.0f} ms", ""),
        ("first token, 1,500-token prompt", f"{result.first_token_1500_ms:,.0f} ms", ""),
        ("start until ready", f"{result.start_secs:.2f} s", ""),
        ("resident memory after a reply", f"{result.resident_mb:,.0f} MB", ""),
        ("this machine reads", f"{result.read_gb_per_sec:.1f} GB/s", ""),
        ("this machine's int8 peak", f"{result.int8_tops:.2f} TOPS", ""),
    ]
    title = f"{result.model}, {result.weights_format}, {result.isa}, {result.num_threads} threads"
    table = Table("What", "Measured", "Of the ceiling", title=title)
    for row in rows:
        table.add_row(*row)
    return table
