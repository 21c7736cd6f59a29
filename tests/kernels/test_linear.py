"""linear and linear_swiglu: exact in the integer formats, within a derived bound in bf16, the same for any company."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hokku.kernels import NativeProgram, PackedWeight, Rows, WeightFormat, pack_bf16, pack_int4, pack_int8
from hokku.kernels.program import F32, PAGE_TOKENS
from tests.kernels.linear_definition import Result, linear, silu
from tests.kernels.steps import ISAS, batch, bf16, every_isa, normal, program, rows_of

every_format = pytest.mark.parametrize("weight_format", WeightFormat)
# Odd in every way: one output, no whole block, no whole depth pad, several slices of the depth, several panels.
SHAPES = [(1, 1), (64, 16), (33, 17), (200, 100), (576, 160), (1100, 48), (2112, 35)]  # (K, N)
# (K, segments): as small as can be, one of padding alone but for a few inputs, and some that are cut on AMX.
SEGMENTS = [(128, 2), (200, 4), (576, 3), (576, 9), (1090, 2), (2200, 5), (4096, 2)]
ROWS = [*range(1, 41), 100]


def pack(weight_format: WeightFormat, weights: F32) -> PackedWeight:
    if weight_format is WeightFormat.INT8:
        return pack_int8(weights)
    if weight_format is WeightFormat.INT4:
        return pack_int4(weights, refine=False)
    return pack_bf16(weights)


def activations(seed: int, rows: int, cols: int) -> F32:
    """Normal rows; every fifth holds nothing but its largest magnitude, so that all its codes are ±127."""
    x = normal(seed, rows, cols)
    x[::5] = np.where(x[::5] < 0, -1.5, 1.5)
    return x


@dataclass(frozen=True)
class Linear:
    """One linear on every row of `x`, ready to be run on any of them."""

    program: NativeProgram
    out: int

    def __call__(self, rows: range | list[int]) -> F32:
        no_attention = [[0] * -(-len(rows) // PAGE_TOKENS)]
        self.program.run(batch(np.array(rows), page_table=no_attention))
        return self.program.view(self.out).copy()  # type: ignore[arg-type]


def record(
    x: F32,
    w: PackedWeight,
    isa: str | None = None,
    *,
    bias: F32 | None = None,
    onto: F32 | None = None,
    swiglu: bool = False,
    num_threads: int = 2,
) -> Linear:
    p = program(isa, max_rows=max(len(x), 1), num_threads=num_threads)
    operand = p.operand(w.cols, w)
    p.encode(operand, rows_of(p, x))
    if swiglu:
        out = p.tensor(w.rows // 2)
        p.linear_swiglu(out, operand, w)
    elif onto is not None:
        out = rows_of(p, onto)
        p.linear(out, operand, w, bias, accumulate=True)
    else:
        out = p.tensor(w.rows)
        p.linear(out, operand, w, bias)
    return Linear(p, out)


def assert_close(actual: F32, expected: Result) -> None:
    if isinstance(expected.tolerance, float):
        np.testing.assert_array_equal(actual, expected.value)
    else:
        assert (np.abs(actual.astype(np.float64) - expected.value) <= expected.tolerance).all()


@every_isa
@every_format
@pytest.mark.parametrize(("cols", "outputs"), SHAPES)
def test_store(isa: str, weight_format: WeightFormat, cols: int, outputs: int) -> None:
    x, w = activations(1, 23, cols), pack(weight_format, normal(2, outputs, cols))
    assert_close(record(x, w, isa)(range(23)), linear(x, w))


@every_isa
@pytest.mark.parametrize(("cols", "segments"), SEGMENTS)
def test_segments(isa: str, cols: int, segments: int) -> None:
    x, w = activations(22, 39, cols), pack_int8(normal(23, 80, cols), segments)
    x *= (
        2.0 ** (np.arange(cols) // 64)[None, :].astype(np.float32) % 7
    )  # so that no two segments have one scale
    x = bf16(x)
    bias, onto = normal(24, 80), normal(25, 39, 80)
    run = record(x, w, isa)
    together = run(range(39))
    assert_close(together, linear(x, w))
    for rows in (1, 2, 3, 5, 7, 16, 33):
        np.testing.assert_array_equal(run(range(3, 3 + rows)), together[3 : 3 + rows])
    with_all = record(x, w, isa, bias=bias, onto=onto, num_threads=3)(range(39))
    np.testing.assert_array_equal(with_all, onto + (together + bias))


def test_segments_have_scales_of_their_own() -> None:
    """A loud segment leaves the steps of a quiet one as fine as they would be alone."""
    x, weights = normal(26, 8, 128), normal(27, 16, 128)
    x[:, :64] *= 1024
    weights[:, :64] = 0
    alone = linear(x[:, 64:], pack_int8(np.ascontiguousarray(weights[:, 64:])))
    np.testing.assert_array_equal(record(x, pack_int8(weights, 2))(range(8)), alone.value)
    assert not np.array_equal(record(x, pack_int8(weights))(range(8)), alone.value)


@every_isa
@every_format
def test_every_number_of_rows_gives_each_row_the_same_bits(isa: str, weight_format: WeightFormat) -> None:
    x, w = activations(3, max(ROWS), 200), pack(weight_format, normal(4, 100, 200))
    run = record(x, w, isa)
    together = run(range(len(x)))
    assert_close(together, linear(x, w))
    for rows in ROWS:
        first = (7 * rows) % (len(x) - rows + 1)
        np.testing.assert_array_equal(run(range(first, first + rows)), together[first : first + rows])


@every_isa
@every_format
def test_more_rows_than_the_caches_hold(isa: str, weight_format: WeightFormat) -> None:
    x, w = activations(5, 1200, 64), pack(weight_format, normal(6, 40, 64))
    assert_close(record(x, w, isa)(range(1200)), linear(x, w))


@every_isa
@every_format
@pytest.mark.parametrize("num_threads", [1, 2, 3, 5])
def test_every_split_gives_the_same_bits(isa: str, weight_format: WeightFormat, num_threads: int) -> None:
    x, w = activations(7, 150, 96), pack(weight_format, normal(8, 48, 96))
    alone = record(x, w, isa, num_threads=1)(range(150))
    np.testing.assert_array_equal(record(x, w, isa, num_threads=num_threads)(range(150)), alone)


@every_isa
@every_format
@pytest.mark.parametrize("outputs", [64, 50])
def test_bias_and_accumulate(isa: str, weight_format: WeightFormat, outputs: int) -> None:
    x, w = activations(9, 13, 80), pack(weight_format, normal(10, outputs, 80))
    bias, onto = normal(11, outputs), normal(12, 13, outputs)
    plain = record(x, w, isa)(range(13))
    np.testing.assert_array_equal(record(x, w, isa, bias=bias)(range(13)), plain + bias)
    np.testing.assert_array_equal(record(x, w, isa, onto=onto)(range(13)), onto + plain)
    np.testing.assert_array_equal(record(x, w, isa, bias=bias, onto=onto)(range(13)), onto + (plain + bias))


@every_isa
@every_format
@pytest.mark.parametrize(("cols", "outputs"), [(64, 32), (200, 96), (576, 320)])
def test_swiglu(isa: str, weight_format: WeightFormat, cols: int, outputs: int) -> None:
    x, w = activations(13, 19, cols), pack(weight_format, normal(14, outputs, cols))
    plain = record(x, w, isa)(range(19)).reshape(19, -1, 2, 16)
    gate, up = plain[:, :, 0].reshape(19, -1), plain[:, :, 1].reshape(19, -1)
    # e^x is within 2 ulps of the gate's sigmoid; sum, quotient and product round once each, plus a guard.
    np.testing.assert_allclose(
        record(x, w, isa, swiglu=True)(range(19)), silu(gate) * up, rtol=8 * 2.0**-23, atol=1e-30
    )


@pytest.mark.parametrize("weight_format", [WeightFormat.INT8, WeightFormat.INT4])
def test_integer_formats_give_the_same_bits_everywhere(weight_format: WeightFormat) -> None:
    x, w = activations(15, 37, 300), pack(weight_format, normal(16, 96, 300))
    for swiglu in (False, True):
        results = [record(x, w, isa, swiglu=swiglu)(range(37)) for isa in ISAS]
        for result in results[1:]:
            np.testing.assert_array_equal(result, results[0])


@every_isa
def test_the_largest_dots_do_not_overflow_or_saturate(isa: str) -> None:
    signs = np.where(normal(17, 32, 4096) < 0, np.float32(-1), np.float32(1))
    w = pack_int8(signs)
    out = record(signs, w, isa)(range(32))
    assert_close(out, linear(signs, w))
    np.testing.assert_allclose(out.diagonal(), 4096, rtol=1e-6)


@every_isa
def test_values_that_are_not_numbers_stay_in_their_row(isa: str) -> None:
    x = normal(18, 20, 64)
    w = pack_bf16(normal(19, 32, 64))
    clean = record(x, w, isa)(range(20))
    poisoned = x.copy()
    poisoned[7, 3], poisoned[11, 5] = np.nan, np.inf
    others = [row for row in range(20) if row not in (7, 11)]
    np.testing.assert_array_equal(record(poisoned, w, isa)(range(20))[others], clean[others])


@every_isa
def test_linears_of_logit_rows(isa: str) -> None:
    x, w = activations(20, 9, 64), pack_int8(normal(21, 48, 64))
    p = program(isa)
    rows = p.tensor(64, Rows.LOGITS)
    p.gather(rows, rows_of(p, x))
    operand, out = p.operand(64, w, Rows.LOGITS), p.tensor(48, Rows.LOGITS)
    p.encode(operand, rows)
    p.linear(out, operand, w)
    p.run(batch(np.arange(9), logit_index=[8, 2, 5]))
    np.testing.assert_array_equal(p.view(out), linear(x, w).value[[8, 2, 5]])


@settings(max_examples=80, deadline=None)
@given(
    isa=st.sampled_from(ISAS),
    rows=st.integers(1, 70),
    length=st.integers(1, 5),
    segments=st.integers(1, 12),
    missing=st.integers(0, 63),
    outputs=st.integers(1, 100),
    seed=st.integers(0, 2**16),
)
def test_any_segments(
    isa: str, rows: int, length: int, segments: int, missing: int, outputs: int, seed: int
) -> None:
    cols = 64 * length * segments - missing
    x, w = activations(seed, rows, cols), pack_int8(normal(seed + 1, outputs, cols), segments)
    assert_close(record(x, w, isa)(range(rows)), linear(x, w))


@settings(max_examples=80, deadline=None)
@given(
    isa=st.sampled_from(ISAS),
    weight_format=st.sampled_from(WeightFormat),
    rows=st.integers(1, 70),
    cols=st.integers(1, 400),
    outputs=st.integers(1, 150),
    num_threads=st.integers(1, 4),
    seed=st.integers(0, 2**16),
)
def test_any_shape(
    isa: str, weight_format: WeightFormat, rows: int, cols: int, outputs: int, num_threads: int, seed: int
) -> None:
    x, w = activations(seed, rows, cols), pack(weight_format, normal(seed + 1, outputs, cols))
    assert_close(record(x, w, isa, num_threads=num_threads)(range(rows)), linear(x, w))
