"""Times every operation at the default model's shapes, beside what the machine can do: `python benchmarks/kernels.py`.

Each operation is recorded `REPEATS` times in one program, so that a step is mostly that operation; the median of some
steps is divided by the repeats. The last line is JSON.

    python benchmarks/kernels.py --isa avx2 --threads 1 --only attention
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import ceil

import numpy as np

from hokku.kernels import (
    Batch,
    KvFormat,
    NativeProgram,
    PackedWeight,
    PagePool,
    Rope,
    Rows,
    ThreadPool,
    cpu_report,
    measure_peaks,
    pack_bf16,
    pack_int4,
    pack_int8,
    page_bytes,
)
from hokku.kernels.program import F32, PAGE_TOKENS

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN, VOCABULARY = 576, 9, 3, 64, 1536, 49152
KV_COLS = KV_HEADS * HEAD_DIM
REPEATS = 20
# (outputs, inputs) of gate+up, down and Q/K/V at 1.5 billion parameters; more of them than a third-level cache holds.
WIDE, WIDE_BYTES = ((17920, 1536), (1536, 8960), (2048, 1536)), 64e6
WIDE_ROWS = (1, 4, 16, 32, 512)
INT4_BYTES = 0.5 + 4 / 32  # a weight: its code, and its share of a scale and a minimum
MOST_HEAD_ROWS = 64
# Segments of int8 matrices as models are packed: 512 inputs a scale in down, 64 in the head.
DOWN_SEGMENTS, HEAD_SEGMENTS = 3, 9
HEAD_REPEATS = 2  # two heads are more than a last-level cache of 32 MB holds
PACKERS: dict[str, Callable[[F32, int], PackedWeight]] = {
    "int8": pack_int8,
    "int4": lambda weights, _: pack_int4(weights),
    "bf16": lambda weights, _: pack_bf16(weights),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """A step: `sequences` of `tokens` new tokens each, after `context` stored ones."""

    sequences: int
    tokens: int
    context: int

    @property
    def rows(self) -> int:
        """Token rows."""
        return self.sequences * self.tokens

    @property
    def num_pages(self) -> int:
        """Pages of each sequence."""
        return -(-(self.context + self.tokens) // PAGE_TOKENS)

    def __str__(self) -> str:
        return f"{self.sequences}x{self.tokens}@{self.context}"


@dataclass(frozen=True, slots=True)
class Heads:
    """How attention is cut into heads."""

    query: int
    kv: int
    size: int

    @property
    def columns(self) -> int:
        """Of the queries, keys and values of a token together."""
        return (self.query + 2 * self.kv) * self.size

    def __str__(self) -> str:
        return f"{self.query}/{self.kv}x{self.size}"


@dataclass(frozen=True, slots=True)
class Case:
    """One operation at one shape: how to record it once, and what one execution of it moves and computes."""

    name: str
    shape: Shape
    record: Callable[[NativeProgram, int], None]  # the program, and which repeat this is
    num_bytes: float = 0
    num_ops: float = 0
    repeats: int = REPEATS
    heads: Heads = Heads(HEADS, KV_HEADS, HEAD_DIM)
    kv_format: KvFormat = KvFormat.INT8


@dataclass(frozen=True, slots=True)
class Result:
    """A case, measured."""

    name: str
    shape: str
    microseconds: float
    gb_per_s: float
    gops_per_s: float


# Longer contexts, and the heads of a larger model (Qwen2.5-1.5B).
LONG_SHAPES = (
    Shape(1, 1, 2048),
    Shape(1, 1, 8192),
    Shape(16, 1, 2048),
    Shape(1, 512, 2048),
    Shape(1, 512, 8192),
)
MANY_HEADS = (Heads(HEADS, KV_HEADS, HEAD_DIM), Heads(12, 2, 128))


def random(*shape: int) -> F32:
    """Values that no kernel treats specially."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def step(shape: Shape, logit_rows: int, sampling: dict[str, float]) -> Batch:
    """A batch of `shape`, each sequence with pages of its own."""
    num_pages = shape.num_pages
    positions = np.tile(
        np.arange(shape.context, shape.context + shape.tokens, dtype=np.int32), shape.sequences
    )
    return Batch(
        tokens=np.random.default_rng(1).integers(0, 256, shape.rows).astype(np.int32),
        positions=positions,
        row_start=np.arange(0, shape.rows + 1, shape.tokens, dtype=np.int32),
        page_table=np.arange(shape.sequences * num_pages, dtype=np.int32).reshape(shape.sequences, num_pages),
        logit_index=np.arange(logit_rows, dtype=np.int32),
        temperature=np.full(logit_rows, sampling.get("temperature", 0), np.float32),
        top_p=np.full(logit_rows, sampling.get("top_p", 1), np.float32),
        top_k=np.full(logit_rows, int(sampling.get("top_k", 0)), np.int32),
        seed=np.zeros(logit_rows, np.uint64),
        counter=np.zeros(logit_rows, np.uint64),
    )


def row_cases(shape: Shape) -> Iterator[Case]:
    """Operations on one row at a time."""
    weight = pack_int8(random(256, HIDDEN))

    def embed(p: NativeProgram, _: int) -> None:
        p.embed(p.tensor(HIDDEN), weight)

    def rms_norm(p: NativeProgram, _: int) -> None:
        p.rms_norm(p.operand(HIDDEN, weight), p.tensor(HIDDEN), np.ones(HIDDEN, np.float32), 1e-5)

    def encode(p: NativeProgram, _: int) -> None:
        p.encode(p.operand(FFN, weight), p.tensor(FFN))

    yield Case("embed", shape, embed, num_bytes=shape.rows * HIDDEN * 5)
    yield Case("rms_norm", shape, rms_norm, num_bytes=shape.rows * HIDDEN * 5)
    yield Case("encode", shape, encode, num_bytes=shape.rows * FFN * 5)


def rope_tables(heads: Heads) -> Rope:
    """For all positions of all shapes here."""
    half = heads.size // 2
    angles = np.outer(np.arange(9216), 10000.0 ** -(np.arange(half) / half))
    return Rope(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32), heads.size**-0.5)


def attention_cases(shape: Shape, heads: Heads, kv_format: KvFormat) -> Iterator[Case]:
    """What reads and writes the pages."""
    rope = rope_tables(heads)
    query_cols = heads.query * heads.size

    def rope_and_store(p: NativeProgram, repeat: int) -> None:
        p.rope_and_store(p.tensor(query_cols), p.tensor(heads.columns), rope, repeat)

    def attention(p: NativeProgram, repeat: int) -> None:
        p.attention(p.tensor(query_cols), p.tensor(query_cols), repeat)

    token_bytes = page_bytes(1, heads.kv, heads.size, kv_format) / PAGE_TOKENS
    written = shape.rows * ((heads.columns + query_cols) * 4 + token_bytes)
    keys_seen = shape.sequences * shape.tokens * (shape.context + (shape.tokens + 1) / 2)
    stored = shape.sequences * (shape.context + shape.tokens) * token_bytes
    name = f"{kv_format.name.lower()} {heads}"
    ops = keys_seen * query_cols * 4
    yield Case(f"rope_and_store {name}", shape, rope_and_store, written, heads=heads, kv_format=kv_format)
    yield Case(f"attention {name}", shape, attention, stored, ops, heads=heads, kv_format=kv_format)


def filled_pool(case: Case, threads: ThreadPool) -> PagePool:
    """Pages with something in them: memory that was never written is one page of zeros over and over."""
    shape, heads = case.shape, case.heads
    pages = np.arange(shape.sequences * shape.num_pages, dtype=np.int32).reshape(shape.sequences, -1)
    pool = PagePool(REPEATS, pages.size, heads.kv, heads.size, case.kv_format)
    if not case.name.startswith("attention"):
        return pool
    p = NativeProgram(16, 1, pool, threads)
    qkv, q, rope = p.tensor(heads.columns), p.tensor(heads.query * heads.size), rope_tables(heads)
    p.embed(qkv, pack_bf16(random(256, heads.columns)))
    for layer in range(REPEATS):
        p.rope_and_store(q, qkv, rope, layer)
    one_page = step(Shape(1, 16, 0), 0, {})
    for page in pages.ravel():
        p.run(replace(one_page, page_table=np.full((1, 1), page, np.int32)))
    return pool


def linear_cases(shape: Shape, form: str) -> Iterator[Case]:
    """The four linears of a layer, and the head on few rows; each repeat has a weight of its own, as in a model."""
    pack = PACKERS[form]
    sizes = {
        "qkv": (HIDDEN + 2 * KV_COLS, HIDDEN, 1),
        "o": (HIDDEN, HIDDEN, 1),
        "down": (HIDDEN, FFN, DOWN_SEGMENTS),
    }

    def weights(rows: int, cols: int, segments: int = 1, repeats: int = REPEATS) -> list[PackedWeight]:
        return [pack(random(rows, cols), segments) for _ in range(repeats)]

    def linear(packed: list[PackedWeight]) -> Callable[[NativeProgram, int], None]:
        def record(p: NativeProgram, repeat: int) -> None:
            w = packed[repeat]
            p.linear(p.tensor(w.rows), p.operand(w.cols, w), w)

        return record

    def swiglu(packed: list[PackedWeight]) -> Callable[[NativeProgram, int], None]:
        def record(p: NativeProgram, repeat: int) -> None:
            w = packed[repeat]
            p.linear_swiglu(p.tensor(w.rows // 2), p.operand(w.cols, w), w)

        return record

    for name, (rows, cols, segments) in sizes.items():
        packed = weights(rows, cols, segments)
        yield Case(
            f"linear {form} {name}", shape, linear(packed), packed[0].nbytes, 2 * shape.rows * rows * cols
        )
    packed = weights(2 * FFN, HIDDEN)
    ops = 2 * shape.rows * 2 * FFN * HIDDEN
    yield Case(f"linear {form} gate+up", shape, swiglu(packed), packed[0].nbytes, ops)
    if form == "int8" and shape.rows <= MOST_HEAD_ROWS:
        packed = weights(VOCABULARY, HIDDEN, HEAD_SEGMENTS, HEAD_REPEATS)
        ops = 2 * shape.rows * VOCABULARY * HIDDEN
        yield Case("linear int8 head", shape, linear(packed), packed[0].nbytes, ops, HEAD_REPEATS)


@cache
def wide_weights(rows: int, cols: int) -> list[PackedWeight]:
    """Packed when first run, since it takes a while."""
    values = random(rows, cols)
    packed = [pack_int4(values, refine=False)]
    while len(packed) * packed[0].nbytes < WIDE_BYTES:
        packed.append(pack_int4(values, refine=False))
    return packed


def wide_cases() -> Iterator[Case]:
    """int4 linears of a model ten times the default one's size."""
    for rows, cols in WIDE:

        def linear(p: NativeProgram, repeat: int, rows: int = rows, cols: int = cols) -> None:
            weights = wide_weights(rows, cols)
            w = weights[repeat % len(weights)]
            p.linear(p.tensor(rows), p.operand(cols, w), w)

        num_bytes = rows * cols * INT4_BYTES
        repeats = ceil(WIDE_BYTES / num_bytes)
        for tokens in WIDE_ROWS:
            ops = 2.0 * tokens * rows * cols
            yield Case(f"linear int4 {rows}x{cols}", Shape(1, tokens, 0), linear, num_bytes, ops, repeats)


def run_case(case: Case, threads: ThreadPool, isa: str, seconds: float, sampling: dict[str, float]) -> Result:
    """Median time of one execution, after one step to warm up."""
    shape = case.shape
    logit_rows = shape.rows if case.name.startswith("sample") else 0
    program = NativeProgram(shape.rows, max(1, logit_rows), filled_pool(case, threads), threads, isa)
    for repeat in range(case.repeats):
        case.record(program, repeat)
    batch = step(shape, logit_rows, sampling)
    program.run(batch)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        program.run(batch)
        times.append(time.perf_counter() - start)
    one = statistics.median(times) / case.repeats
    return Result(case.name, str(shape), one * 1e6, case.num_bytes / one * 1e-9, case.num_ops / one * 1e-9)


def sample_cases(shape: Shape) -> Iterator[tuple[Case, dict[str, float]]]:
    """The sampler's ways through the vocabulary. A program samples once, so there is nothing to repeat; what brings
    it logits that are not all alike, a linear of one input a token and 3 MB of weights, is timed with it."""
    source, head = pack_bf16(np.ones((256, 1), np.float32)), pack_int8(random(VOCABULARY, 1))

    def sample(p: NativeProgram, _: int) -> None:
        one, last = p.tensor(1), p.tensor(1, Rows.LOGITS)
        operand, logits = p.operand(1, head, Rows.LOGITS), p.tensor(VOCABULARY, Rows.LOGITS)
        p.embed(one, source)
        p.gather(last, one)
        p.encode(operand, last)
        p.linear(logits, operand, head)
        p.sample(logits)

    bytes_read = shape.rows * VOCABULARY * 4.0
    for name, sampling in {
        "greedy": {},
        "temperature": {"temperature": 1.0},
        "top_p": {"temperature": 1.0, "top_p": 0.9},
        "top_k, top_p": {"temperature": 1.0, "top_p": 0.9, "top_k": 40.0},
    }.items():
        yield Case(f"sample {name}", shape, sample, bytes_read, repeats=1), sampling


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--isa", default="", help="kernel path (default: HOKKU_ISA or the widest)")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--only", default="", help="operations whose name contains this")
    parser.add_argument("--seconds", type=float, default=0.2, help="a case")
    arguments = parser.parse_args()

    threads = ThreadPool(arguments.threads)
    report = cpu_report(arguments.isa or None)
    peaks = measure_peaks(1.0, threads, report.isa)
    print(
        f"{report.isa} ({report.isa_reason}), {threads.num_threads} threads; measured ceilings: "
        f"{peaks.read_gb_per_s:.0f} GB/s, int8 {peaks.int8_tops:.2f} TOPS, float32 {peaks.fma_tflops:.2f} TFLOP/s"
    )

    shapes = [Shape(1, 1, 1500), Shape(32, 1, 500), Shape(1, 512, 0), Shape(1, 512, 1024)]
    cases: list[tuple[Case, dict[str, float]]] = []
    for shape in shapes:
        plain = list(row_cases(shape))
        for kv_format in KvFormat:
            plain += attention_cases(shape, Heads(HEADS, KV_HEADS, HEAD_DIM), kv_format)
        for form in PACKERS:
            plain += linear_cases(shape, form)
        cases += [(case, {}) for case in plain]
    cases += [(case, {}) for case in wide_cases()]
    for shape in shapes[:2]:
        cases += sample_cases(shape)
    for shape, heads, kv_format in itertools.product(LONG_SHAPES, MANY_HEADS, KvFormat):
        cases += [(case, {}) for case in attention_cases(shape, heads, kv_format)]

    results = []
    print(f"{'operation':<30}{'shape':>12}{'µs':>10}{'GB/s':>8}{'GOP/s':>9}")
    for case, sampling in cases:
        if arguments.only not in case.name:
            continue
        result = run_case(case, threads, report.isa, arguments.seconds, sampling)
        results.append(result)
        print(
            f"{result.name:<30}{result.shape:>12}{result.microseconds:>10.1f}{result.gb_per_s:>8.1f}"
            f"{result.gops_per_s:>9.0f}"
        )
    summary = {"isa": report.isa, "threads": threads.num_threads, "peaks": asdict(peaks)}
    print(json.dumps({**summary, "results": [asdict(result) for result in results]}))


if __name__ == "__main__":
    main()
