"""The program that runs in C++: one call a step, on all threads, with the interpreter lock released.

Stop between 7 and 8 of a request's way down: `models/*.py` records here, `csrc/program.cpp` runs the recording.
"""

from __future__ import annotations

import numpy as np

from hokku.kernels import _native
from hokku.kernels.checks import checked, checked_or_none
from hokku.kernels.machine import PagePool, ThreadPool
from hokku.kernels.program import F32, Batch, Operand, Rope, Rows, Sampled, Tensor
from hokku.kernels.weights import PackedWeight


class NativeProgram:
    """`kernels.program.Program` on packed weights; its docstrings say what each operation computes.

    Results depend on the path only in bf16 linears; in int8 and int4 every path gives the same bits. One thread at a
    time may record or run.

    Args:
        max_rows: token rows of the largest step.
        max_logit_rows: logit rows of the largest step.
        pool: where keys and values are kept; programs may share one.
        threads: who works; programs that share one run one after the other.
        isa: a kernel path by name; by default HOKKU_ISA's, or the widest this machine runs.

    Raises:
        ValueError: any argument, here or in a method, that does not fit; the message begins with its name.
    """

    def __init__(
        self, max_rows: int, max_logit_rows: int, pool: PagePool, threads: ThreadPool, isa: str | None = None
    ) -> None:
        self._native = _native.Program(max_rows, max_logit_rows, pool.native, threads.native, isa or "")
        self._head_dim = pool.native.head_dim

    @property
    def isa(self) -> str:
        """The kernel path in use."""
        return self._native.isa

    def tensor(self, cols: int, rows: Rows = Rows.TOKENS) -> Tensor:
        """A float32 buffer [rows][cols]."""
        return Tensor(self._native.tensor(cols, int(rows)))

    def operand(self, cols: int, weight: PackedWeight, rows: Rows = Rows.TOKENS) -> Operand:
        """A buffer for activations that `linear` will multiply by weights of the same format as `weight`."""
        return Operand(self._native.operand(cols, weight.native, int(rows)))

    def embed(self, out: Tensor, table: PackedWeight) -> None:
        """out[t] = table[tokens[t]], or features[-1 - tokens[t]] where the token is negative."""
        self._native.embed(out, table.native)

    def features(self, out: Tensor) -> None:
        """out[t] = features[t]: a program with this has one of them for each token, and no other use for them."""
        self._native.features(out)

    def rms_norm(self, out: Operand, x: Tensor, gain: F32, eps: float) -> None:
        """RMSNorm of each row, encoded; with fewer gains than columns, of each run of so many columns."""
        self._native.rms_norm(out, x, checked("gain", gain, np.float32, 1), eps)

    def layer_norm(self, out: Operand, x: Tensor, gain: F32, bias: F32, eps: float) -> None:
        """Layer norm of each row, encoded; with fewer gains than columns, of each run of so many columns."""
        gain, bias = checked("gain", gain, np.float32, 1), checked("bias", bias, np.float32, 1)
        self._native.layer_norm(out, x, gain, bias, eps)

    def encode(self, out: Operand, x: Tensor) -> None:
        """Encode each row as it is."""
        self._native.encode(out, x)

    def linear(
        self, out: Tensor, a: Operand, w: PackedWeight, bias: F32 | None = None, *, accumulate: bool = False
    ) -> None:
        """out = a·Wᵀ + bias, or out += that (the residual stream)."""
        self._native.linear(out, a, w.native, checked_or_none("bias", bias, np.float32, 1), accumulate)

    def linear_swiglu(self, out: Tensor, a: Operand, w: PackedWeight, bias: F32 | None = None) -> None:
        """out[:, j] = silu(gate_j) * up_j, where W and bias hold gate and up rows in alternating runs of 16."""
        self._native.linear_swiglu(out, a, w.native, checked_or_none("bias", bias, np.float32, 1))

    def linear_gelu(self, out: Tensor, a: Operand, w: PackedWeight, bias: F32 | None = None) -> None:
        """out = gelu(a·Wᵀ + bias), in GELU's tanh form."""
        self._native.linear_gelu(out, a, w.native, checked_or_none("bias", bias, np.float32, 1))

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
        """Split qkv [T][(H+2G)·D], normalise heads where gains are given, rotate, scale q, store k and v, where
        windowed in the pages of the step's `windows`."""
        self._native.rope_and_store(
            q,
            qkv,
            checked("rope.cos", rope.cos, np.float32, 2),
            checked("rope.sin", rope.sin, np.float32, 2),
            rope.q_scale,
            layer,
            checked_or_none("q_gain", q_gain, np.float32, 1),
            checked_or_none("k_gain", k_gain, np.float32, 1),
            eps,
            self._head_dim,
            rope.sections,
            windowed,
        )

    def attention(
        self, out: Tensor, q: Tensor, layer: int, *, causal: bool = True, windowed: bool = False
    ) -> None:
        """Attention of each row over its sequence's stored keys and values: those up to its own position, or, where
        it is not causal, all up to its sequence's last position in this step. Windowed, sequences are the step's
        `windows`."""
        self._native.attention(out, q, layer, causal, windowed)

    def gather(self, out: Tensor, x: Tensor) -> None:
        """out[r] = x[logit_index[r]]: from token rows to logit rows. Where out has m times the columns of x, that row
        and the m - 1 after it, side by side."""
        self._native.gather(out, x)

    def sample(self, logits: Tensor) -> None:
        """Draw one token for each logit row: temperature, then top_k, then top_p, as in `reference.draw`."""
        self._native.sample(logits)

    def run(self, batch: Batch) -> Sampled:
        """Run the recording on one step; with no logit rows, only what token rows need."""
        num_logit_rows = len(batch.logit_index)
        tokens, logprobs = np.empty(num_logit_rows, np.int32), np.empty(num_logit_rows, np.float32)
        windows = batch.windows
        self._native.run(
            checked("tokens", batch.tokens, np.int32, 1),
            checked("positions", batch.positions, np.int32, 1),
            checked("row_start", batch.row_start, np.int32, 1),
            checked("page_table", batch.page_table, np.int32, 2),
            checked("logit_index", batch.logit_index, np.int32, 1),
            checked("temperature", batch.temperature, np.float32, 1),
            checked("top_p", batch.top_p, np.float32, 1),
            checked("top_k", batch.top_k, np.int32, 1),
            checked("seed", batch.seed, np.uint64, 1),
            checked("counter", batch.counter, np.uint64, 1),
            checked_or_none("allowed", batch.allowed, np.uint32, 2),
            checked_or_none("features", batch.features, np.float32, 2),
            checked_or_none("rope_positions", batch.rope_positions, np.int32, 2),
            None if windows is None else checked("windows.positions", windows.positions, np.int32, 1),
            None if windows is None else checked("windows.row_start", windows.row_start, np.int32, 1),
            None if windows is None else checked("windows.page_table", windows.page_table, np.int32, 2),
            tokens,
            logprobs,
        )
        return Sampled(tokens, logprobs)

    def view(self, tensor: Tensor) -> F32:
        """The buffer's rows of the last step, read-only and only until the next `run`."""
        return self._native.view(tensor)

    def time_operations(self) -> None:
        """Time every operation of every run from now on; `timings` has those of the last one."""
        self._native.time_operations()

    def timings(self) -> list[tuple[str, float]]:
        """Each operation of the last run by kind and shape, with its seconds, the wait for the last worker included."""
        return self._native.timings
