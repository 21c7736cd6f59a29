"""rope_and_store and attention, which meet in the pages: against numpy, and bit for bit against themselves.

The bound on attention: a weight of the softmax is wrong by the error of its score (a sum of D products) and of exp,
both relative to the weight; the output is a mean of values, so it is wrong by as much, relative to their magnitude.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from hokku.kernels import KvFormat, NativeProgram, PagePool, Rope, Tensor
from hokku.kernels.program import F32, PAGE_TOKENS
from hokku.kernels.reference import attention, rms_norm, rotate, softmax
from tests.kernels.steps import ISAS, batch, bf16, every_isa, normal, program, rows_of

every_format = pytest.mark.parametrize("kv_format", KvFormat)
FLOAT32_EPS = float(np.finfo(np.float32).eps)
BF16_EPS = 2.0**-8
# query heads, KV heads, head size, rotary dimensions
SHAPES = [(9, 3, 64, 64), (4, 4, 80, 40), (7, 1, 96, 96), (2, 1, 128, 64), (8, 2, 16, 16), (1, 1, 32, 12)]


def tables(rotary_dim: int, head_dim: int, positions: int = 2048) -> Rope:
    angles = np.outer(np.arange(positions), 10000.0 ** -(np.arange(rotary_dim // 2) / (rotary_dim / 2)))
    return Rope(np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32), head_dim**-0.5)


class Layer:
    """embed → rope_and_store → attention on a pool of its own; token t brings row t of `qkv`."""

    def __init__(
        self,
        qkv: F32,
        shape: tuple[int, int, int, int],
        kv_format: KvFormat,
        isa: str | None = None,
        *,
        gains: tuple[F32, F32] | None = None,
        num_pages: int = 64,
        num_threads: int = 2,
    ) -> None:
        heads, self.kv_heads, self.head_dim, rotary_dim = shape
        self.rope = tables(rotary_dim, self.head_dim)
        self.pool = PagePool(2, num_pages, self.kv_heads, self.head_dim, kv_format)
        self.program: NativeProgram = program(isa, max_rows=600, pool=self.pool, num_threads=num_threads)
        self.q: Tensor = self.program.tensor(heads * self.head_dim)
        self.out: Tensor = self.program.tensor(heads * self.head_dim)
        q_gain, k_gain = gains or (None, None)
        source = rows_of(self.program, qkv)
        self.program.rope_and_store(self.q, source, self.rope, 1, q_gain, k_gain, 1e-6)
        self.program.attention(self.out, self.q, 1)

    def run(self, tokens: range, first: int, page_table: list[int]) -> F32:
        """The attention's output for a chunk of one sequence."""
        self.program.run(batch(tokens, first_positions=[first], page_table=[page_table]))
        return self.program.view(self.out).copy()


def int8(x: F32) -> F32:
    """Rounded to 127 steps on either side of zero, by head."""
    largest = np.maximum(np.abs(x).max(axis=-1, keepdims=True), np.float32(2**-40))
    rounded: F32 = np.round(x * (np.float32(127) / largest)) * (largest / np.float32(127))
    return rounded


def query_key_value(
    qkv: F32, layer: Layer, gains: tuple[F32, F32] | None = None
) -> tuple[F32, F32, F32, NDArray[np.int32]]:
    """(query, key, value, positions) in float32: heads normalised and rotated, the query scaled."""
    heads = qkv.reshape(len(qkv), -1, layer.head_dim)
    query, key, value = np.split(heads, [-2 * layer.kv_heads, -layer.kv_heads], axis=1)
    if gains:
        query, key = rms_norm(query, gains[0], 1e-6), rms_norm(key, gains[1], 1e-6)
    positions = np.arange(len(qkv), dtype=np.int32)
    cos, sin = layer.rope.cos[positions, None], layer.rope.sin[positions, None]
    return rotate(query, cos, sin) * np.float32(layer.rope.q_scale), rotate(key, cos, sin), value, positions


def expected(
    qkv: F32, layer: Layer, kv_format: KvFormat, gains: tuple[F32, F32] | None = None
) -> tuple[F32, F32]:
    """(q, attention output) in float32 of rounded keys and values, as in the pages; with int8, of rounded queries."""
    query, key, value, positions = query_key_value(qkv, layer, gains)
    if kv_format is KvFormat.INT8:
        attended = attention(flat(int8(query)), int8(key), int8(value), positions)
    else:
        attended = attention(flat(query), bf16(key), bf16(value), positions)
    return flat(query), attended


def flat(heads: F32) -> F32:
    """[T][H][D] as [T][H·D]."""
    return heads.reshape(len(heads), -1)


def rounding_of_weights(qkv: F32, layer: Layer, gains: tuple[F32, F32] | None = None) -> F32:
    """The most that int8 attention's weights can move its output [T][H·D]: a weight times its value's scale is
    rounded to 127ths of the largest of its block of 64 keys, and that many times half a step meet each value's code.
    """
    query, key, value, positions = query_key_value(qkv, layer, gains)
    scores = np.einsum("tghd,sgd->tghs", query.reshape(len(query), layer.kv_heads, -1, layer.head_dim), key)
    scores[np.broadcast_to((np.arange(len(key)) > positions[:, None])[:, None, None], scores.shape)] = -np.inf
    weights = softmax(scores) * (np.abs(value).max(axis=-1) / 127).T[:, None]  # [T][G][H/G][S]
    codes = np.abs(value) / (np.abs(value).max(axis=-1, keepdims=True) / 127)  # [S][G][D]
    moved = np.zeros(query.shape, np.float32).reshape(len(query), layer.kv_heads, -1, layer.head_dim)
    for begin in range(0, len(key), 64):
        block = slice(begin, begin + 64)
        half_step = weights[..., block].max(axis=-1) / 254  # [T][G][H/G]
        seen = (weights[..., block] > 0).astype(np.float32)
        moved += half_step[..., None] * np.einsum("tghs,sgd->tghd", seen, codes[block])
    return moved.reshape(len(query), -1)


def qkv_rows(seed: int, rows: int, shape: tuple[int, int, int, int]) -> F32:
    heads, kv_heads, head_dim, _ = shape
    return normal(seed, rows, (heads + 2 * kv_heads) * head_dim)


def scrambled(num_pages: int) -> list[int]:
    return [int(page) for page in np.random.default_rng(7).permutation(64)[:num_pages]]


@every_isa
@every_format
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rows", [1, 17, 150])
def test_against_numpy(isa: str, kv_format: KvFormat, shape: tuple[int, int, int, int], rows: int) -> None:
    if isa == "portable" and rows > 17:
        pytest.skip("bit for bit what the others compute: test_every_path_gives_the_same_bits")
    qkv = qkv_rows(0, rows, shape)
    layer = Layer(qkv, shape, kv_format, isa)
    out = layer.run(range(rows), 0, scrambled(-(-rows // PAGE_TOKENS)))
    query, attended = expected(qkv, layer, kv_format)
    np.testing.assert_allclose(
        layer.program.view(layer.q), query, rtol=0, atol=4 * FLOAT32_EPS * np.abs(query).max()
    )
    # Weights are powers of two within 3e-6, sums in float32; a key or query on the border between two codes may
    # round the other way when its last float bit differs, and then moves scores by one code of it times the other.
    if kv_format is KvFormat.INT8:
        bound = rounding_of_weights(qkv, layer) + np.abs(query).max() * np.abs(qkv).max() / 127 / 4
        assert (np.abs(out - attended) <= bound + 1e-5 * np.abs(qkv).max()).all()
    else:
        score_error = layer.head_dim * FLOAT32_EPS + 2 * BF16_EPS * np.abs(query).max() / 64
        assert np.abs(out - attended).max() <= (score_error + 16 * FLOAT32_EPS) * np.abs(qkv).max()


@every_format
def test_int8_is_near_float32(kv_format: KvFormat) -> None:
    """Rounding errors of either format, root mean square, beside the outputs they are errors of."""
    shape = (9, 3, 64, 64)
    qkv = qkv_rows(12, 200, shape)
    layer = Layer(qkv, shape, kv_format)
    out = layer.run(range(200), 0, scrambled(13))
    query, key, value, positions = query_key_value(qkv, layer)
    attended = attention(flat(query), key, value, positions)
    error = float(np.sqrt(np.mean((out - attended) ** 2) / np.mean(attended**2)))
    assert error <= {KvFormat.BF16: 0.003, KvFormat.INT8: 0.015}[kv_format]


@every_isa
@every_format
def test_head_normalisation(isa: str, kv_format: KvFormat) -> None:
    shape = (4, 2, 64, 64)
    qkv = qkv_rows(1, 20, shape)
    gains = (normal(2, 64), normal(3, 64))
    layer = Layer(qkv, shape, kv_format, isa, gains=gains)
    out = layer.run(range(20), 0, [5, 3])
    query, attended = expected(qkv, layer, kv_format, gains)
    np.testing.assert_allclose(
        layer.program.view(layer.q), query, rtol=0, atol=40 * FLOAT32_EPS * np.abs(query).max()
    )
    # Keys are of the size of their gains here, so one that rounds the other way moves scores by more.
    half_code = {KvFormat.BF16: 2 * BF16_EPS, KvFormat.INT8: np.abs(gains[1]).max() / 127}[kv_format]
    bound = half_code * np.abs(query).max() * np.abs(qkv).max()
    if kv_format is KvFormat.INT8:
        bound = bound + rounding_of_weights(qkv, layer, gains)
    assert (np.abs(out - attended) <= bound).all()


@every_format
@pytest.mark.parametrize("shape", SHAPES)
def test_chunks_and_single_tokens_give_the_bits_of_the_whole(
    kv_format: KvFormat, shape: tuple[int, int, int, int]
) -> None:
    rows = 150
    qkv = qkv_rows(4, rows, shape)
    pages = scrambled(10)
    whole = Layer(qkv, shape, kv_format).run(range(rows), 0, pages)
    chunked = Layer(qkv, shape, kv_format, num_threads=1)
    ends = [1, 16, 23, 64, 65, 130, rows]
    parts = [chunked.run(range(b, e), b, pages) for b, e in pairwise([0, *ends])]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    decoded = Layer(qkv, shape, kv_format)
    steps = [decoded.run(range(t, t + 1), t, pages) for t in range(rows)]
    np.testing.assert_array_equal(np.concatenate(steps), whole)


@every_format
@pytest.mark.parametrize("shape", SHAPES)
def test_every_path_gives_the_same_bits(kv_format: KvFormat, shape: tuple[int, int, int, int]) -> None:
    qkv = qkv_rows(5, 80, shape)
    gains = (normal(6, shape[2]), normal(7, shape[2]))
    results = []
    for isa in ISAS:
        layer = Layer(qkv, shape, kv_format, isa, gains=gains)
        out = layer.run(range(80), 0, scrambled(5))
        results.append((layer.program.view(layer.q).copy(), out))
    for query, out in results[1:]:
        np.testing.assert_array_equal(query, results[0][0])
        np.testing.assert_array_equal(out, results[0][1])


@every_format
def test_a_row_does_not_see_its_neighbours(kv_format: KvFormat) -> None:
    """Four sequences in one step, two of them mid-way, give the bits that each gives alone."""
    shape = (9, 3, 64, 64)
    qkv = qkv_rows(8, 120, shape)
    lengths, firsts = [40, 1, 20, 1], [0, 30, 10, 0]
    tables_of = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    together, alone = Layer(qkv, shape, kv_format), Layer(qkv, shape, kv_format)
    for layer in (together, alone):
        layer.run(range(30), 0, tables_of[1])
        layer.run(range(10), 0, tables_of[2])
    starts = np.cumsum([0, *lengths])
    together.program.run(
        batch(range(starts[-1]), first_positions=firsts, lengths=lengths, page_table=tables_of)
    )
    out = together.program.view(together.out).copy()
    for s, (begin, end) in enumerate(pairwise(starts.tolist())):
        single = alone.run(range(begin, end), firsts[s], tables_of[s])
        np.testing.assert_array_equal(single, out[begin:end])


@every_format
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3.4e38])
def test_what_is_not_finite_reaches_nobody_else(kv_format: KvFormat, poison: float) -> None:
    """A request of NaN leaves a page; the next one to get it, or to be masked from it, computes as if it were new."""
    shape = (4, 2, 32, 32)
    qkv = qkv_rows(9, 40, shape)
    clean = Layer(qkv[:20], shape, kv_format).run(range(20), 0, [1, 2])
    poisoned = qkv.copy()
    poisoned[20:] = poison
    layer = Layer(poisoned, shape, kv_format)
    layer.run(range(20, 40), 0, [1, 2])
    np.testing.assert_array_equal(layer.run(range(20), 0, [1, 2]), clean)


@every_isa
def test_int8_heads_of_any_size(isa: str) -> None:
    """Zeros stay zeros beside values of any size, and a huge value outweighs all others by its own weight only."""
    shape = (2, 1, 32, 32)
    qkv = qkv_rows(10, 20, shape)
    qkv[:, -32:] = 0
    assert not Layer(qkv, shape, KvFormat.INT8, isa).run(range(20), 0, [1, 2]).any()
    qkv[3, -32:] = 2.0**-60
    qkv[5, -32:] = 2.0**60
    layer = Layer(qkv, shape, KvFormat.INT8, isa)
    out = layer.run(range(20), 0, [1, 2])
    _, attended = expected(qkv, layer, KvFormat.INT8)
    np.testing.assert_allclose(out[5:], attended[5:], rtol=1e-4)
    assert np.isfinite(out).all()
