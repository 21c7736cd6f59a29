"""Every operation of a `Program` in plain numpy: the definition, the calibration path, the yardstick.

Nothing here is fast and nothing is rounded on purpose: weights are float32 arrays [N][K], encoding
activations leaves them as they are, keys and values stay float32 in pages of 16 tokens. What the native
program computes in int8, int4 or bf16 is an approximation of this file.

Shapes: T tokens of the step, R logit rows, H query heads, G key/value heads, D head size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hokku.kernels.program import F32, I32, PAGE_TOKENS, Batch, Operand, Rope, Rows, Sampled, Tensor, Windows

_Float = TypeVar("_Float", bound=np.floating[Any])


@dataclass(frozen=True, slots=True)
class LazyMatrix:
    """A float32 matrix [N][K] that is made when an operation needs it and dropped right after.

    With these a whole model can be run in the memory of one of its matrices.
    """

    name: str
    read: Callable[[], F32]


# What this program takes where `Program` says "packed weight".
Matrix = F32 | LazyMatrix
# Called for each linear with its weight and its input's rows of this step [T][K].
Observer = Callable[[Matrix, F32], None]


class ReferenceProgram:
    """A `Program` on float32 numpy arrays, with key/value pages of its own that grow as they are written."""

    def __init__(self, *, kv_heads: int, head_dim: int, observe: Observer | None = None) -> None:
        self._kv_heads = kv_heads
        self._head_dim = head_dim
        self._observe = observe
        self._cols: list[int] = []
        self._buffers: list[F32] = []
        self._operations: list[Callable[[Batch], None]] = []
        self._keys: dict[int, F32] = {}  # layer -> [slots][G][D]
        self._values: dict[int, F32] = {}
        self._sampled: Sampled | None = None

    # Recording

    def tensor(self, cols: int, rows: Rows = Rows.TOKENS) -> Tensor:
        """A float32 buffer; it gets its rows when an operation writes it."""
        del rows
        self._cols.append(cols)
        self._buffers.append(np.zeros((0, cols), np.float32))
        return Tensor(len(self._buffers) - 1)

    def operand(self, cols: int, weight: Any, rows: Rows = Rows.TOKENS) -> Operand:
        """A buffer like any other: float32 is the only format here."""
        del weight
        return Operand(self.tensor(cols, rows))

    def embed(self, out: Tensor, table: Matrix) -> None:
        """out[t] = table[tokens[t]], or features[-1 - tokens[t]] where the token is negative."""

        def operation(batch: Batch) -> None:
            rows = as_float(table)[np.maximum(batch.tokens, 0)]
            pictured = batch.tokens < 0
            if batch.features is not None and pictured.any():
                rows[pictured] = batch.features[-1 - batch.tokens[pictured]]
            self._write(out, rows)

        self._operations.append(operation)

    def features(self, out: Tensor) -> None:
        """out[t] = features[t]."""

        def operation(batch: Batch) -> None:
            if batch.features is None:
                raise ValueError("features: must be as many as tokens")
            self._write(out, batch.features)

        self._operations.append(operation)

    def rms_norm(self, out: Operand, x: Tensor, gain: F32, eps: float) -> None:
        """RMSNorm of each row (Zhang & Sennrich 2019)."""
        self._operations.append(
            lambda _: self._write(
                out, by_runs(self._buffers[x], gain.size, lambda rows: rms_norm(rows, gain, eps))
            )
        )

    def layer_norm(self, out: Operand, x: Tensor, gain: F32, bias: F32, eps: float) -> None:
        """Layer norm of each row, or of each run of as many columns as there are gains."""
        self._operations.append(
            lambda _: self._write(
                out, by_runs(self._buffers[x], gain.size, lambda rows: layer_norm(rows, gain, bias, eps))
            )
        )

    def encode(self, out: Operand, x: Tensor) -> None:
        """Each row as it is."""
        self._operations.append(lambda _: self._write(out, self._buffers[x]))

    def linear(
        self, out: Tensor, a: Operand, w: Matrix, bias: F32 | None = None, *, accumulate: bool = False
    ) -> None:
        """out = a·Wᵀ + bias, or out += that."""

        def operation(_: Batch) -> None:
            y = self._product(a, w)
            if bias is not None:
                y += bias
            self._write(out, self._buffers[out] + y if accumulate else y)

        self._operations.append(operation)

    def linear_gelu(self, out: Tensor, a: Operand, w: Matrix, bias: F32 | None = None) -> None:
        """out = gelu(a·Wᵀ + bias)."""

        def operation(_: Batch) -> None:
            y = self._product(a, w)
            self._write(out, gelu(y if bias is None else y + bias))

        self._operations.append(operation)

    def linear_swiglu(self, out: Tensor, a: Operand, w: Matrix, bias: F32 | None = None) -> None:
        """out = silu(gate) * up (Shazeer 2020); W's rows are gate and up in alternating runs of 16."""

        def operation(_: Batch) -> None:
            y = self._product(a, w)
            if bias is not None:
                y += bias
            runs = y.reshape(len(y), -1, 2, 16)
            gate, up = runs[:, :, 0], runs[:, :, 1]
            self._write(out, (silu(gate) * up).reshape(len(y), -1))

        self._operations.append(operation)

    def rope_and_store(
        self,
        q: Tensor,
        qkv: Tensor,
        rope: Rope,
        layer: int,
        q_gain: F32 | None = None,
        k_gain: F32 | None = None,
        eps: float = 0.0,
        *,
        windowed: bool = False,
    ) -> None:
        """Split qkv, normalise heads where gains are given, rotate, scale q, store k and v."""

        def operation(batch: Batch) -> None:
            heads = self._buffers[qkv].reshape(batch.tokens.size, -1, self._head_dim)
            query, key, value = np.split(heads, [-2 * self._kv_heads, -self._kv_heads], axis=1)
            if q_gain is not None:
                query = rms_norm(query, q_gain, eps)
            if k_gain is not None:
                key = rms_norm(key, k_gain, eps)
            cos, sin = (angles(table, rope.sections, batch)[:, None] for table in (rope.cos, rope.sin))
            query = rotate(query, cos, sin) * np.float32(rope.q_scale)
            self._write(q, query.reshape(len(query), -1))
            slots = _slots_of_rows(_sequences(batch, windowed))
            _store(self._keys, layer, slots, rotate(key, cos, sin))
            _store(self._values, layer, slots, value)

        self._operations.append(operation)

    def attention(
        self, out: Tensor, q: Tensor, layer: int, *, causal: bool = True, windowed: bool = False
    ) -> None:
        """Attention of each row over its sequence's stored keys and values, grouped-query heads."""

        def operation(batch: Batch) -> None:
            query = self._buffers[q]
            mixed = np.empty_like(query)
            of = _sequences(batch, windowed)
            for sequence, (begin, end) in enumerate(zip(of.row_start, of.row_start[1:], strict=False)):
                positions = of.positions[begin:end]
                slots = _slots(of.page_table[sequence], np.arange(positions[-1] + 1, dtype=np.int32))
                if not causal:
                    positions = np.full_like(positions, positions[-1])
                mixed[begin:end] = attention(
                    query[begin:end], self._keys[layer][slots], self._values[layer][slots], positions
                )
            self._write(out, mixed)

        self._operations.append(operation)

    def gather(self, out: Tensor, x: Tensor) -> None:
        """out[r] = x[logit_index[r]], and the rows after it as far as they fit beside it."""

        def operation(batch: Batch) -> None:
            joined = np.arange(self._cols[out] // self._cols[x])
            rows = self._buffers[x][batch.logit_index[:, None] + joined]
            self._write(out, rows.reshape(len(rows), -1))

        self._operations.append(operation)

    def sample(self, logits: Tensor) -> None:
        """Draw one token for each logit row."""

        def operation(batch: Batch) -> None:
            rows = self._buffers[logits]
            tokens = np.array([draw(row, batch, r) for r, row in enumerate(rows)], dtype=np.int32)
            log_probability = rows - log_sum_exp(rows)
            self._sampled = Sampled(tokens, log_probability[np.arange(len(rows)), tokens])

        self._operations.append(operation)

    # Running

    def run(self, batch: Batch) -> Sampled:
        """Run the recording on one step."""
        self._sampled = None
        for operation in self._operations:
            operation(batch)
        return self._sampled or Sampled(np.zeros(0, np.int32), np.zeros(0, np.float32))

    def view(self, tensor: Tensor) -> F32:
        """The buffer's rows of the last step."""
        rows = self._buffers[tensor].view()
        rows.flags.writeable = False
        return rows

    def _product(self, a: Operand, w: Matrix) -> F32:
        rows = self._buffers[a]
        if self._observe is not None and len(rows):
            self._observe(w, rows)
        product: F32 = rows @ as_float(w).T
        return product

    def _write(self, out: Tensor | Operand, rows: F32) -> None:
        if rows.shape[1] != self._cols[out]:
            raise ValueError(f"a buffer of {self._cols[out]} columns cannot hold {rows.shape[1]}")
        self._buffers[out] = rows.astype(np.float32, copy=False)


def as_float(w: Matrix) -> F32:
    """The matrix itself [N][K]."""
    return w.read() if isinstance(w, LazyMatrix) else w


def rms_norm(x: F32, gain: F32, eps: float) -> F32:
    """x * gain / sqrt(mean(x²) + eps) over the last axis."""
    mean_square = np.mean(np.square(x), axis=-1, keepdims=True)
    normed: F32 = x * (gain / np.sqrt(mean_square + np.float32(eps)))
    return normed


def layer_norm(x: F32, gain: F32, bias: F32, eps: float) -> F32:
    """(x - mean) * gain / sqrt(variance + eps) + bias over the last axis (Ba et al. 2016)."""
    away = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(np.square(away), axis=-1, keepdims=True)
    normed: F32 = away / np.sqrt(variance + np.float32(eps)) * gain + bias
    return normed


def by_runs(x: F32, run: int, norm: Callable[[F32], F32]) -> F32:
    """A norm of the last axis, of each `run` columns of rows x [T][K] by themselves."""
    return norm(x.reshape(len(x), -1, run)).reshape(x.shape)


def gelu(x: F32) -> F32:
    """x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³))) (Hendrycks & Gimpel 2016)."""
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
    y: F32 = np.float32(0.5) * x * (1 + np.tanh(inner))
    return y


def silu(x: F32) -> F32:
    """x · sigmoid(x), written so that exp never overflows."""
    e = np.exp(-np.abs(x))
    y: F32 = x * np.where(x >= 0, 1, e) / (1 + e)
    return y


def softmax(x: NDArray[_Float]) -> NDArray[_Float]:
    """Over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y: NDArray[_Float] = e / e.sum(axis=-1, keepdims=True)
    return y


def log_sum_exp(x: F32) -> F32:
    """Over the last axis, which stays with length 1: log softmax is x - log_sum_exp(x)."""
    most = x.max(axis=-1, keepdims=True)
    total: F32 = most + np.log(np.exp(x - most).sum(axis=-1, keepdims=True))
    return total


def angles(table: F32, sections: tuple[int, ...], batch: Batch) -> F32:
    """Each row's cosines, or sines, from a table [positions][pairs]."""
    if batch.rope_positions is None:
        return table[batch.positions]
    axis = np.repeat(np.arange(len(sections)), sections)
    found: F32 = table[batch.rope_positions[:, axis], np.arange(len(axis))]
    return found


def rotate(x: F32, cos: F32, sin: F32) -> F32:
    """Rotary embedding (Su et al. 2021) of heads x [T][heads][D]; cos, sin [T][1][rotary_dim/2].

    Pairs are dimensions (i, i + rotary_dim/2); dimensions from rotary_dim on stay as they are.
    """
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


def attention(query: F32, key: F32, value: F32, positions: I32) -> F32:
    """softmax(Q·Kᵀ)·V for rows query [T][H·D], each of which sees key, value [S][G][D] up to its one of
    `positions`; Q is scaled."""
    tokens, kv_heads, head_dim = key.shape
    groups = query.reshape(len(query), kv_heads, -1, head_dim).transpose(1, 2, 0, 3)  # [G][H/G][T][D]
    scores: F32 = groups @ key.transpose(1, 2, 0)[:, None]  # [G][H/G][T][S]
    future = np.arange(tokens) > positions[:, None]
    scores[..., future] = -np.inf
    mixed: F32 = softmax(scores) @ value.transpose(1, 0, 2)[:, None]
    return mixed.transpose(2, 0, 1, 3).reshape(query.shape)


def draw(logits: F32, batch: Batch, r: int) -> int:
    """The token of logit row r: the likeliest at temperature 0 (the lowest id of equals), else a seeded draw.

    The native sampler has a generator of its own, so draws agree in distribution only.
    """
    if batch.allowed is not None:
        bits = np.unpackbits(batch.allowed[r].astype("<u4").view(np.uint8), bitorder="little")
        logits = np.where(bits[: logits.size] == 1, logits, np.float32(-np.inf))
    temperature = float(batch.temperature[r])
    if temperature == 0:
        return int(np.argmax(logits))
    probability = draw_probabilities(logits, temperature, int(batch.top_k[r]), float(batch.top_p[r]))
    key = (int(batch.seed[r]) << 64) | int(batch.counter[r])
    return int(np.random.Generator(np.random.Philox(key=key)).choice(logits.size, p=probability))


def draw_probabilities(logits: F32, temperature: float, top_k: int, top_p: float) -> NDArray[np.float64]:
    """What a token is drawn from, float64 [V]: temperature first, then the top_k likeliest (0 is all), then
    the smallest set of the likeliest whose share of what is left reaches top_p."""
    order = np.argsort(-logits, kind="stable")
    kept = order[: top_k or None]
    probability = softmax(logits[kept].astype(np.float64) / temperature)
    before = np.cumsum(probability) - probability
    kept, probability = kept[before < top_p], probability[before < top_p]
    result = np.zeros(logits.size)
    result[kept] = probability / probability.sum()
    return result


def _slots(page_table: I32, positions: I32) -> I32:
    slots: I32 = page_table[positions // PAGE_TOKENS] * PAGE_TOKENS + positions % PAGE_TOKENS
    return slots


def _sequences(batch: Batch, windowed: bool) -> Batch | Windows:
    if not windowed:
        return batch
    if batch.windows is None:
        raise ValueError("windows: attention of this program is over windows")
    return batch.windows


def _slots_of_rows(batch: Batch | Windows) -> I32:
    counts = np.diff(batch.row_start)
    sequence = np.repeat(np.arange(counts.size), counts)
    pages = batch.page_table[sequence, batch.positions // PAGE_TOKENS]
    slots: I32 = pages * PAGE_TOKENS + batch.positions % PAGE_TOKENS
    return slots


def _store(pool: dict[int, F32], layer: int, slots: I32, rows: F32) -> None:
    have = pool.get(layer, np.zeros((0, *rows.shape[1:]), np.float32))
    missing = int(slots.max()) + 1 - len(have)
    if missing > 0:
        have = np.concatenate([have, np.zeros((missing, *rows.shape[1:]), np.float32)])
    have[slots] = rows
    pool[layer] = have
