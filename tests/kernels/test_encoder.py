"""The operations of a picture's encoder: each against its definition in numpy, and bit for bit against itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from hokku.kernels import (
    KvFormat,
    NativeProgram,
    PagePool,
    Rope,
    Rows,
    Tensor,
    WeightFormat,
    Windows,
    pack_int8,
)
from hokku.kernels.program import F32
from hokku.kernels.reference import (
    ReferenceProgram,
    angles,
    attention,
    by_runs,
    gelu,
    layer_norm,
    rms_norm,
    rotate,
)
from tests.kernels.linear_definition import silu
from tests.kernels.steps import ISAS, batch, bf16, every_isa, normal, program, rows_of
from tests.kernels.test_attention import int8
from tests.kernels.test_linear import activations, pack
from tests.kernels.test_rows import BF16_EPS, FLOAT32_EPS, encoding_error, identity

every_format = pytest.mark.parametrize("form", WeightFormat)
every_kv_format = pytest.mark.parametrize("kv_format", KvFormat)
# rows, columns, columns of a run
RUNS = [(1, 16, 16), (17, 64, 64), (5, 80, 80), (3, 768, 768), (2, 200, 200), (4, 256, 64), (3, 960, 240)]
SEQUENCES = [[1], [64], [17, 63, 65], [150, 5]]


@every_isa
@every_format
@pytest.mark.parametrize(("rows", "cols", "run"), RUNS)
def test_layer_norm(isa: str, form: WeightFormat, rows: int, cols: int, run: int) -> None:
    x, gain, bias = normal(3, rows, cols) + 1, normal(4, run), normal(5, run)
    x = bf16(x)
    p = program(isa)
    weight, multiple = identity(form, cols)
    operand, out = p.operand(cols, weight), p.tensor(cols)
    p.layer_norm(operand, rows_of(p, x), gain, bias, 1e-6)
    p.linear(out, operand, weight)
    p.run(batch(np.arange(rows)))
    expected = by_runs(x, run, lambda each: layer_norm(each, gain, bias, 1e-6))
    # Mean and variance sum `run` terms; the mean's error is relative to the magnitudes that it is a mean of, and moves
    # every value by as much in units of the deviation.
    unit = np.abs(x).max() / x.reshape(rows, -1, run).std(axis=-1).min()
    rounding = (run + 8) * FLOAT32_EPS * (unit * np.abs(gain).max() + np.abs(bias).max())
    error = np.abs(p.view(out) / multiple - expected)
    assert (error <= encoding_error(form, expected) * 1.001 + rounding).all()


@every_isa
@every_format
def test_rms_norm_of_runs(isa: str, form: WeightFormat) -> None:
    x, gain = normal(6, 7, 320), normal(7, 80)
    p = program(isa)
    weight, multiple = identity(form, 320)
    operand, out = p.operand(320, weight), p.tensor(320)
    p.rms_norm(operand, rows_of(p, x), gain, 1e-6)
    p.linear(out, operand, weight)
    p.run(batch(np.arange(7)))
    expected = by_runs(x, 80, lambda each: rms_norm(each, gain, 1e-6))
    error = np.abs(p.view(out) / multiple - expected)
    assert (error <= encoding_error(form, expected) * 1.001 + 48 * FLOAT32_EPS * np.abs(expected).max()).all()


def test_norms_give_the_same_bits_on_every_path() -> None:
    x, gain, bias, weight = normal(8, 9, 400), normal(9, 80), normal(10, 80), pack_int8(normal(11, 33, 400))
    results = []
    for isa in ISAS:
        p = program(isa)
        operand, out = p.operand(400, weight), p.tensor(33)
        p.layer_norm(operand, rows_of(p, x), gain, bias, 1e-6)
        p.linear_gelu(out, operand, weight)
        p.run(batch(np.arange(9)))
        results.append(p.view(out).copy())
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@every_isa
@every_format
@pytest.mark.parametrize("has_bias", [False, True])
def test_gelu(isa: str, form: WeightFormat, has_bias: bool) -> None:
    x, w = activations(13, 19, 200), pack(form, normal(14, 90, 200))
    bias = normal(15, 90) if has_bias else None
    p = program(isa)
    operand, plain, out = p.operand(200, w), p.tensor(90), p.tensor(90)
    p.encode(operand, rows_of(p, x))
    p.linear(plain, operand, w, bias)
    p.linear_gelu(out, operand, w, bias)
    p.run(batch(np.arange(19)))
    # Where 1 + tanh is small numpy's loses what the quotient keeps: half an ulp of 1, times x.
    y = p.view(plain)
    assert (np.abs(p.view(out) - gelu(y)) <= 4 * FLOAT32_EPS * np.maximum(np.abs(y), 1)).all()


@every_isa
@every_format
def test_swiglu_with_a_bias(isa: str, form: WeightFormat) -> None:
    x, w, bias = activations(16, 19, 200), pack(form, normal(17, 96, 200)), normal(18, 96)
    p = program(isa)
    operand, plain, out = p.operand(200, w), p.tensor(96), p.tensor(48)
    p.encode(operand, rows_of(p, x))
    p.linear(plain, operand, w, bias)
    p.linear_swiglu(out, operand, w, bias)
    p.run(batch(np.arange(19)))
    runs = p.view(plain).reshape(19, -1, 2, 16)
    gate, up = runs[:, :, 0].reshape(19, -1), runs[:, :, 1].reshape(19, -1)
    np.testing.assert_allclose(p.view(out), silu(gate) * up, rtol=8 * 2.0**-23, atol=1e-30)


@every_isa
def test_features_are_the_rows_themselves(isa: str) -> None:
    features = np.random.default_rng(1).random((9, 200), np.float32)
    p = program(isa)
    out, embedded = p.tensor(200), p.tensor(64)
    table = pack_int8(normal(19, 5, 64))
    p.embed(embedded, table)
    p.features(out)
    tokens = [0, 1, 2, 3, 4, 0, 1, 2, 3]
    p.run(batch(tokens, features=features))
    np.testing.assert_array_equal(p.view(out), features)
    np.testing.assert_array_equal(p.view(embedded), table.unpack()[tokens])
    for bad in (None, features[:8], features[:, :64].copy()):
        with pytest.raises(ValueError, match="^features: "):
            p.run(batch(tokens, features=bad))
    with pytest.raises(ValueError, match="^tokens: "):
        p.run(batch([-1, *tokens[1:]], features=features))


@every_isa
def test_gather_joins_rows(isa: str) -> None:
    x = normal(20, 12, 20)
    p = program(isa)
    out = p.tensor(80, Rows.LOGITS)
    p.gather(out, rows_of(p, x))
    p.run(batch(np.arange(12), logit_index=[8, 0, 4]))
    np.testing.assert_array_equal(p.view(out), x.reshape(3, 80)[[2, 0, 1]])
    with pytest.raises(ValueError, match="^logit_index: "):
        p.run(batch(np.arange(12), logit_index=[9]))
    with pytest.raises(ValueError, match="^out: "):
        p.gather(p.tensor(81, Rows.LOGITS), p.tensor(20))


class Whole:
    """embed → rope_and_store, which rotates nothing → attention over whole sequences."""

    def __init__(
        self,
        qkv: F32,
        heads: tuple[int, int, int],
        kv_format: KvFormat,
        isa: str | None = None,
        num_threads: int = 2,
    ) -> None:
        num_heads, kv_heads, head_dim = heads
        nothing = np.zeros((len(qkv), 0), np.float32)
        pool = PagePool(1, 40, kv_heads, head_dim, kv_format)
        self.program = program(isa, max_rows=300, pool=pool, num_threads=num_threads)
        q, self.out = (self.program.tensor(num_heads * head_dim) for _ in range(2))
        self.program.rope_and_store(q, rows_of(self.program, qkv), Rope(nothing, nothing, head_dim**-0.5), 0)
        self.program.attention(self.out, q, 0, causal=False)

    def run(self, rows: range, lengths: list[int]) -> F32:
        self.program.run(batch(rows, lengths=lengths, first_positions=[0] * len(lengths)))
        return self.program.view(self.out).copy()


@every_isa
@every_kv_format
@pytest.mark.parametrize("heads", [(4, 4, 32), (3, 3, 64), (4, 2, 80)])
@pytest.mark.parametrize("lengths", SEQUENCES)
def test_attention_over_whole_sequences(
    isa: str, kv_format: KvFormat, heads: tuple[int, int, int], lengths: list[int]
) -> None:
    num_heads, kv_heads, head_dim = heads
    rows = sum(lengths)
    qkv = normal(21, rows, (num_heads + 2 * kv_heads) * head_dim)
    out = Whole(qkv, heads, kv_format, isa).run(range(rows), lengths)
    query, key, value = np.split(qkv.reshape(rows, -1, head_dim), [num_heads, num_heads + kv_heads], axis=1)
    query = query * np.float32(head_dim**-0.5)
    if kv_format is KvFormat.INT8:
        query, key, value = int8(query), int8(key), int8(value)
    for begin, end in pairwise([0, *np.cumsum(lengths).tolist()]):
        last = np.full(end - begin, end - begin - 1, np.int32)
        attended = attention(
            query[begin:end].reshape(end - begin, -1), key[begin:end], value[begin:end], last
        )
        error = out[begin:end] - attended
        if kv_format is KvFormat.BF16:
            assert np.abs(error).max() <= (head_dim + 16) * FLOAT32_EPS * np.abs(qkv).max()
        else:
            # Weights are rounded to half a 127th of their block's largest, and are near a tenth of it here.
            assert np.sqrt(np.mean(error**2) / np.mean(attended**2)) <= 0.02


@every_kv_format
def test_whole_attention_does_not_depend_on_company_or_path(kv_format: KvFormat) -> None:
    heads, lengths = (3, 3, 64), [70, 130, 9]
    qkv = normal(22, sum(lengths), 9 * 64)
    together = Whole(qkv, heads, kv_format).run(range(sum(lengths)), lengths)
    for begin, end in pairwise([0, *np.cumsum(lengths).tolist()]):
        for num_threads in (1, 3):
            alone = Whole(qkv, heads, kv_format, num_threads=num_threads).run(
                range(begin, end), [end - begin]
            )
            np.testing.assert_array_equal(alone, together[begin:end])
    for isa in ISAS:
        on_path = Whole(qkv, heads, kv_format, isa).run(range(sum(lengths)), lengths)
        np.testing.assert_array_equal(on_path, together)


def sections_rope(positions: int = 40) -> Rope:
    """Nine pairs: two turn by the first axis, three by the second, four by the third."""
    angles = np.outer(np.arange(positions), 100.0 ** -(np.arange(9) / 9))
    return Rope(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32), 0.5, (2, 3, 4))


@every_isa
@every_kv_format
def test_sections_turn_by_positions_of_their_own(isa: str, kv_format: KvFormat) -> None:
    qkv, rope = normal(30, 21, 4 * 32), sections_rope()
    places = np.random.default_rng(31).integers(0, 40, (21, 3)).astype(np.int32)
    step = batch(range(21), rope_positions=places)
    p = program(isa, pool=PagePool(1, 2, 1, 32, kv_format))
    q = p.tensor(64)
    p.rope_and_store(q, rows_of(p, qkv), rope, 0)
    p.run(step)
    heads = qkv.reshape(21, 4, 32)[:, :2]
    expected = rotate(heads, *(angles(table, rope.sections, step)[:, None] for table in (rope.cos, rope.sin)))
    np.testing.assert_allclose(
        p.view(q), expected.reshape(21, 64) / 2, rtol=0, atol=8 * FLOAT32_EPS * np.abs(qkv).max()
    )
    same = np.repeat(np.arange(21, dtype=np.int32)[:, None], 3, axis=1)
    p.run(batch(range(21), rope_positions=same))
    along = p.view(q).copy()
    p.run(batch(range(21)))
    np.testing.assert_array_equal(p.view(q), along)


@every_isa
@every_kv_format
def test_windows_are_sequences_of_their_own(isa: str, kv_format: KvFormat) -> None:
    """One operation over windows and one over all rows, each the bits that it gives where there is nothing else."""
    heads, lengths = (2, 2, 32), [64, 20, 33]
    rows = sum(lengths)
    qkv = normal(32, rows, 6 * 32)
    nothing = np.zeros((rows, 0), np.float32)
    p = program(isa, max_rows=rows, pool=PagePool(1, 40, 2, 32, kv_format))
    source, (q, of_windows, of_all) = rows_of(p, qkv), (p.tensor(64) for _ in range(3))
    for windowed, out in ((True, of_windows), (False, of_all)):
        p.rope_and_store(q, source, Rope(nothing, nothing, 32**-0.5), 0, windowed=windowed)
        p.attention(out, q, 0, causal=False, windowed=windowed)
    apart = batch(range(rows), lengths=lengths, first_positions=[0] * 3)
    windows = Windows(apart.positions, apart.row_start, apart.page_table)
    p.run(batch(range(rows), windows=windows))
    alone = Whole(qkv, heads, kv_format, isa)
    np.testing.assert_array_equal(p.view(of_windows), alone.run(range(rows), lengths))
    np.testing.assert_array_equal(p.view(of_all), alone.run(range(rows), [rows]))
    bad_row_start = apart.row_start.copy()
    bad_row_start[1] = 0
    with pytest.raises(ValueError, match="^windows: "):
        p.run(batch(range(rows)))
    with pytest.raises(ValueError, match="^row_start: "):
        p.run(batch(range(rows), windows=replace(windows, row_start=bad_row_start)))
    with pytest.raises(ValueError, match=r"^windows\.positions: "):
        p.run(batch(range(rows), windows=replace(windows, positions=apart.positions[1:])))


def test_bad_rotary_positions_and_sections_are_refused() -> None:
    p = program(pool=PagePool(1, 2, 1, 32))
    q, qkv = p.tensor(64), rows_of(p, normal(33, 4, 128))
    for sections in ((2, 3), (2, 3, 4, 0), (-1, 5, 5)):
        with pytest.raises(ValueError, match=r"^rope\.sections: "):
            p.rope_and_store(q, qkv, replace(sections_rope(), sections=sections), 0)
    p.rope_and_store(q, qkv, sections_rope(), 0)
    with pytest.raises(ValueError, match=r"^rope\.sections: "):
        p.rope_and_store(q, qkv, replace(sections_rope(), sections=(4, 5)), 0)
    for bad in (np.full((4, 3), 40), np.full((4, 3), -1), np.zeros((4, 2)), np.zeros((3, 3))):
        with pytest.raises(ValueError, match="^rope_positions: "):
            p.run(batch(range(4), rope_positions=bad.astype(np.int32)))
    plain = program(pool=PagePool(1, 2, 1, 32))
    plain.rope_and_store(
        plain.tensor(64), rows_of(plain, normal(33, 4, 128)), replace(sections_rope(), sections=()), 0
    )
    with pytest.raises(ValueError, match="^rope_positions: "):
        plain.run(batch(range(4), rope_positions=np.zeros((4, 3), np.int32)))


def test_the_reference_program_agrees() -> None:
    """One layer of an encoder on both programs; bf16 weights, so that all that differs is rounding to bf16."""
    rng = np.random.default_rng(23)
    features = rng.standard_normal((24, 48)).astype(np.float32)
    eighth = np.float32(1 / 8)
    patch, qkv = normal(24, 32, 48) * eighth, normal(25, 96, 32) * eighth
    up, last = normal(26, 64, 32) * eighth, normal(27, 20, 256) * eighth
    gain, bias = np.abs(normal(28, 32)), normal(29, 32)
    nothing = np.zeros((24, 0), np.float32)

    def record(p: NativeProgram | ReferenceProgram, native: bool) -> Tensor:
        def weight(values: F32) -> Any:
            return pack(WeightFormat.BF16, values) if native else values

        pixels, x, heads, q, mixed, inner = (p.tensor(cols) for cols in (48, 32, 96, 32, 32, 64))
        of_pixels, of_x = p.operand(48, weight(patch)), p.operand(32, weight(qkv))
        joined, result = p.tensor(256, Rows.LOGITS), p.tensor(20, Rows.LOGITS)
        of_joined = p.operand(256, weight(last), Rows.LOGITS)
        p.features(pixels)
        p.encode(of_pixels, pixels)
        p.linear(x, of_pixels, weight(patch))
        p.layer_norm(of_x, x, gain, bias, 1e-6)
        p.linear(heads, of_x, weight(qkv))
        p.rope_and_store(q, heads, Rope(nothing, nothing, 0.25), 0)
        p.attention(mixed, q, 0, causal=False)
        p.encode(of_x, mixed)
        p.linear_gelu(inner, of_x, weight(up), np.ones(64, np.float32))
        p.gather(joined, inner)
        p.layer_norm(of_joined, joined, np.ones(64, np.float32), np.zeros(64, np.float32), 1e-6)
        p.linear(result, of_joined, weight(last))
        return result

    step = batch(
        [0] * 24, lengths=[16, 8], first_positions=[0, 0], features=features, logit_index=[0, 4, 16, 20]
    )
    native = program(pool=PagePool(1, 4, 2, 16, KvFormat.BF16))
    reference = ReferenceProgram(kv_heads=2, head_dim=16)
    ours, theirs = record(native, native=True), record(reference, native=False)
    native.run(step)
    reference.run(step)
    a, b = native.view(ours), reference.view(theirs)
    assert np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)) <= 4 * BF16_EPS
