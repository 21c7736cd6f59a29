"""Packing weights: what the codes stand for, what padding holds, and that an existing quantisation is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hokku.kernels import PackedWeight, WeightFormat, pack_bf16, pack_int4, pack_int4_codes, pack_int8
from hokku.kernels.program import F32
from tests.kernels.linear_definition import GROUP, group_factors, int4_codes, int8_codes
from tests.kernels.steps import bf16, normal

SHAPES = [(1, 1), (16, 64), (17, 33), (40, 200), (3, 576)]
HALF_ULP_F16 = 2.0**-11


def groups_of(values: F32) -> F32:
    """[N][ceil(K/32)][32], padded with zeros."""
    rows, cols = values.shape
    padded = np.zeros((rows, -(-cols // GROUP) * GROUP), np.float32)
    padded[:, :cols] = values
    return padded.reshape(rows, -1, GROUP)


def squared_error(weight: PackedWeight, values: F32) -> float:
    return float(np.square(weight.unpack().astype(np.float64) - values).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_within_half_a_step(shape: tuple[int, int]) -> None:
    values = normal(1, *shape)
    weight = pack_int8(values)
    assert weight.scale is not None
    scale = weight.scale[: shape[0], None]
    np.testing.assert_array_equal(scale[:, 0], np.abs(values).max(axis=1) / np.float32(127))
    assert (np.abs(weight.unpack() - values) <= scale * 0.50001).all()
    codes = int8_codes(weight)
    assert (np.abs(codes).max(axis=1) == 127).all()
    np.testing.assert_array_equal(codes[:, shape[1] :], 0)
    np.testing.assert_array_equal(weight.scale[shape[0] :], 0)


@pytest.mark.parametrize(("cols", "segments"), [(128, 2), (200, 4), (576, 9)])
def test_int8_segments_are_packed_each_by_itself(cols: int, segments: int) -> None:
    values = normal(6, 20, cols)
    weight = pack_int8(values, segments)
    assert weight.scale is not None
    length = -(-cols // 64) * 64 // segments
    for s, scale in enumerate(weight.scale.reshape(2, segments, 16).transpose(1, 0, 2).reshape(segments, 32)):
        run = slice(s * length, (s + 1) * length)
        alone = pack_int8(np.ascontiguousarray(values[:, run]))
        np.testing.assert_array_equal(int8_codes(weight)[:, run], int8_codes(alone))
        np.testing.assert_array_equal(scale, alone.scale)
        np.testing.assert_array_equal(weight.unpack()[:, run], alone.unpack())


def test_int8_rows_too_small_to_divide_are_zero() -> None:
    values = np.zeros((3, 8), np.float32)
    values[1], values[2] = 1e-44, 2.0**-100
    weight = pack_int8(values)
    np.testing.assert_array_equal(weight.unpack()[:2], 0)
    np.testing.assert_allclose(weight.unpack()[2], 2.0**-100, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("refine", [False, True])
def test_int4_is_within_half_a_step_of_its_range(shape: tuple[int, int], refine: bool) -> None:
    values = normal(2, *shape)
    weight = pack_int4(values, refine=refine)
    groups = groups_of(values)
    span = groups.max(axis=2) - groups.min(axis=2)
    # Clipping trades the extremes for the rest: never more than a tenth of the range beyond the half step.
    step = span / 15
    allowed = (0.5 if not refine else 0.5 + 1.5) * step + 4 * HALF_ULP_F16 * np.abs(groups).max(axis=2)
    error = np.abs(groups_of(weight.unpack()) - groups)
    assert (error.max(axis=2) <= allowed).all()


def test_refined_int4_never_errs_more_and_usually_less() -> None:
    values = normal(3, 64, 256)
    plain, refined = pack_int4(values, refine=False), pack_int4(values, refine=True)
    plain_errors = np.square(groups_of(plain.unpack()) - groups_of(values)).sum(axis=2)
    refined_errors = np.square(groups_of(refined.unpack()) - groups_of(values)).sum(axis=2)
    assert (refined_errors <= plain_errors * (1 + 1e-5)).all()
    assert squared_error(refined, values) < 0.9 * squared_error(plain, values)


def test_int4_groups_of_one_value_are_kept() -> None:
    values = np.repeat(np.array([[0.0, -1.5, 0.25]], np.float32), GROUP, axis=1)
    for refine in (False, True):
        np.testing.assert_array_equal(pack_int4(values, refine=refine).unpack(), values)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 40), groups=st.integers(1, 7), seed=st.integers(0, 2**16))
def test_existing_int4_codes_are_kept(rows: int, groups: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    nibbles = draw.integers(0, 16, (rows, groups * GROUP), np.uint8)
    scale = draw.uniform(1e-3, 1e-1, (rows, groups)).astype(np.float32)
    minimum = draw.uniform(-1, 0, (rows, groups)).astype(np.float32)
    weight = pack_int4_codes(nibbles, scale, minimum)
    np.testing.assert_array_equal(int4_codes(weight)[:, :groups].reshape(rows, -1), nibbles)
    packed_scale, packed_min = group_factors(weight)
    np.testing.assert_array_equal(packed_scale[:, :groups], scale.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(packed_min[:, :groups], minimum.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(packed_scale[:, groups:], 0)
    assert weight.gscale is not None
    assert not weight.gscale.reshape(-1, 16)[-packed_scale.shape[1] :, (rows - 1) % 16 + 1 :].any()


def test_halves_round_like_numpy() -> None:
    draw = np.random.default_rng(4)
    magnitudes = 2.0 ** draw.uniform(-27, 15, 4096)
    values = (magnitudes * np.where(draw.random(4096) < 0.5, -1, 1)).astype(np.float32)
    ties = (np.arange(64, dtype=np.float32) + 0.5) * np.float32(2.0**-24)
    factors = np.concatenate([values, ties, np.zeros(64, np.float32)]).reshape(-1, 1)
    weight = pack_int4_codes(np.zeros((len(factors), GROUP), np.uint8), factors, factors)
    np.testing.assert_array_equal(
        group_factors(weight)[0][:, 0], factors.astype(np.float16).astype(np.float32)[:, 0]
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_rounds_to_nearest_even(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    values[0, 0] = np.float32(1 + 2.0**-8)  # half way between two bf16 numbers: the even one is 1
    np.testing.assert_array_equal(pack_bf16(values).unpack(), bf16(values))
    assert pack_bf16(values).unpack()[0, 0] == 1


def test_sizes_in_memory() -> None:
    values = normal(6, 100, 576)
    blocks, depth = 7 * 16, 576
    assert pack_int8(values).nbytes == blocks * depth + blocks * 4
    assert pack_int4(values).nbytes == blocks * depth // 2 + blocks * depth // 32 * 4
    assert pack_bf16(values).nbytes == blocks * depth * 2
    assert pack_int8(values).format is WeightFormat.INT8
