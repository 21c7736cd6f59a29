"""embed, rms_norm, encode and gather: operations that treat each row by itself.

What an operand holds is seen through a linear with the identity, which adds one product of known size per output.
"""

from __future__ import annotations

import numpy as np
import pytest

from hokku.kernels import PackedWeight, Rows, WeightFormat, pack_bf16, pack_int4, pack_int8
from hokku.kernels.program import F32
from hokku.kernels.reference import ReferenceProgram, rms_norm
from tests.kernels.steps import batch, every_isa, normal, program, rows_of

SIZES = [(1, 16), (17, 64), (5, 80), (3, 576), (2, 200)]
FLOAT32_EPS = float(np.finfo(np.float32).eps)
BF16_EPS = 2.0**-8  # half a unit in the last place of 8 bits, relative


def identity(form: WeightFormat, size: int) -> tuple[PackedWeight, float]:
    """A weight that is some multiple of the identity, exactly, and the multiple."""
    eye = np.eye(size, dtype=np.float32)
    if form is WeightFormat.INT8:
        return pack_int8(eye * 127), 127
    if form is WeightFormat.INT4:
        return pack_int4(eye * 15, refine=False), 15
    return pack_bf16(eye), 1


def encoding_error(form: WeightFormat, x: F32) -> F32:
    """The most that encoding may change each value of x [T][K]: half a step of its row or group, or of bf16."""
    if form is WeightFormat.BF16:
        return np.abs(x) * np.float32(BF16_EPS)
    half_steps = np.empty_like(x)
    group = x.shape[1] if form is WeightFormat.INT8 else 32
    for begin in range(0, x.shape[1], group):
        run = np.abs(x[:, begin : begin + group])
        half_steps[:, begin : begin + group] = run.max(axis=1, keepdims=True) / 254
    return half_steps


@every_isa
@pytest.mark.parametrize(("rows", "cols"), SIZES)
def test_embed_decodes_every_format(isa: str, rows: int, cols: int) -> None:
    values = normal(0, rows, cols)
    segments = -(-cols // 64)
    for table in (pack_bf16(values), pack_int8(values), pack_int8(values, segments), pack_int4(values)):
        p = program(isa)
        out = p.tensor(cols)
        p.embed(out, table)
        tokens = np.arange(rows)[::-1].copy()
        p.run(batch(tokens))
        np.testing.assert_array_equal(p.view(out), table.unpack()[tokens])


@every_isa
@pytest.mark.parametrize("cols", [16, 200])
def test_embed_takes_rows_of_the_features_as_they_are(isa: str, cols: int) -> None:
    table, features = pack_int8(normal(0, 7, cols)), np.random.default_rng(1).random((5, cols), np.float32)
    p = program(isa)
    out = p.tensor(cols)
    p.embed(out, table)
    p.run(batch([3, -1, 6, -5, -1, 0], features=features))
    texts = table.unpack()
    expected = np.stack([texts[3], features[0], texts[6], features[4], features[0], texts[0]])
    np.testing.assert_array_equal(p.view(out), expected)
    reference = ReferenceProgram(kv_heads=1, head_dim=16)
    out = reference.tensor(cols)
    reference.embed(out, texts)
    reference.run(batch([3, -1, 6, -5, -1, 0], features=features))
    np.testing.assert_array_equal(reference.view(out), expected)


@every_isa
@pytest.mark.parametrize("form", WeightFormat)
@pytest.mark.parametrize(("rows", "cols"), SIZES)
def test_encode_keeps_values_to_half_a_step(isa: str, form: WeightFormat, rows: int, cols: int) -> None:
    x = normal(2, rows, cols)
    p = program(isa)
    weight, multiple = identity(form, cols)
    operand, out = p.operand(cols, weight), p.tensor(cols)
    p.encode(operand, rows_of(p, x))
    p.linear(out, operand, weight)
    p.run(batch(np.arange(rows)))
    error = np.abs(p.view(out) / multiple - x)
    assert (error <= encoding_error(form, x) + 4 * FLOAT32_EPS * np.abs(x)).all()


@every_isa
@pytest.mark.parametrize("form", WeightFormat)
@pytest.mark.parametrize(("rows", "cols"), SIZES)
def test_rms_norm(isa: str, form: WeightFormat, rows: int, cols: int) -> None:
    x, gain = normal(3, rows, cols), normal(4, cols)
    p = program(isa)
    weight, multiple = identity(form, cols)
    operand, out = p.operand(cols, weight), p.tensor(cols)
    p.rms_norm(operand, rows_of(p, x), gain, 1e-5)
    p.linear(out, operand, weight)
    p.run(batch(np.arange(rows)))
    expected = rms_norm(x, gain, 1e-5)
    # The mean of squares sums cols positive terms: at most cols roundings, half of them after the square root.
    rounding = (cols / 2 + 8) * FLOAT32_EPS * np.abs(expected)
    assert (
        np.abs(p.view(out) / multiple - expected) <= encoding_error(form, expected) * 1.001 + rounding
    ).all()


@every_isa
@pytest.mark.parametrize("form", WeightFormat)
def test_rows_of_zeros_tiny_and_huge_values_stay_finite(isa: str, form: WeightFormat) -> None:
    x = np.zeros((4, 64), np.float32)
    x[1], x[2], x[3] = 2.0**-120, 2.0**120, -(2.0**-140)
    p = program(isa)
    weight, multiple = identity(form, 64)
    operand, out = p.operand(64, weight), p.tensor(64)
    p.encode(operand, rows_of(p, x))
    p.linear(out, operand, weight)
    p.run(batch(np.arange(4)))
    assert (p.view(out)[0] == 0).all()
    assert np.isfinite(p.view(out)).all()
    np.testing.assert_allclose(p.view(out)[2] / multiple, x[2], rtol=1e-2)


@every_isa
def test_gather_takes_the_logit_rows(isa: str) -> None:
    x = normal(5, 9, 48)
    p = program(isa)
    out = p.tensor(48, Rows.LOGITS)
    p.gather(out, rows_of(p, x))
    p.run(batch(np.arange(9), logit_index=[8, 0, 3]))
    np.testing.assert_array_equal(p.view(out), x[[8, 0, 3]])
    p.run(batch(np.arange(9)))
    assert p.view(out).shape == (0, 48)
