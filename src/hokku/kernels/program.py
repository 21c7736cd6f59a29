"""A forward pass recorded once and run many times.

A model (floor 2) describes its forward pass by calling one method a line on a `Program`; each call records an
operation on buffers made before. `run` then executes the whole recording for one step in a single native call, with
the interpreter lock released. Two programs exist: the native one (`kernels.NativeProgram`) and the plain numpy one
(`kernels.reference.ReferenceProgram`, float32 throughout), which is at once the definition of every operation, the
calibration path and the tests' yardstick.

Shapes: T tokens of the step, R rows whose logits are wanted, H query heads, G key/value heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NewType, Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U64 = NDArray[np.uint64]

PAGE_TOKENS: Final = 16  # tokens in a page of the key/value pool: kPageTokens in csrc/kernels.h

Tensor = NewType("Tensor", int)  # a float32 buffer [rows][cols] of a program
Operand = NewType("Operand", int)  # activations encoded for the linears that read them


class Rows(IntEnum):
    """Which rows of the step a buffer holds."""

    TOKENS = 0
    LOGITS = 1


class WeightFormat(IntEnum):
    """How a packed weight is stored; `csrc/kernels.h` has the layouts."""

    INT8 = 0
    INT4 = 1
    BF16 = 2


class KvFormat(IntEnum):
    """How keys and values are stored, and so whether attention multiplies floats or integers."""

    BF16 = 0
    INT8 = 1


@dataclass(frozen=True, slots=True)
class Windows:
    """A step's rows as other sequences, for attention within windows."""

    positions: I32  # [T]
    row_start: I32  # [W+1]
    page_table: I32  # [W][pages]


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's work. Sequence s owns rows row_start[s]:row_start[s+1], in position order."""

    tokens: I32  # [T]; a negative one, -1 - f, stands for row f of `features`
    positions: I32  # [T]
    row_start: I32  # [S+1]
    page_table: I32  # [S][pages]: key position p of s lives in page page_table[s][p // 16], slot p % 16
    logit_index: I32  # [R] rows whose next token is wanted
    temperature: F32  # [R] 0 = greedy
    top_p: F32  # [R] 1 = off
    top_k: I32  # [R] 0 = off
    seed: U64  # [R]
    counter: U64  # [R] draws made before in this request
    allowed: NDArray[np.uint32] | None = None  # [R][ceil(V/32)] bit masks of tokens that may be drawn
    features: F32 | None = None  # [F][C] rows that no table has: a picture's, from its encoder
    # [T][axes] rows of the rotary tables where rows stand in several directions (`Rope.sections`); None: `positions`
    rope_positions: I32 | None = None
    windows: Windows | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a step drew."""

    tokens: I32  # [R]
    logprobs: F32  # [R] natural log of each drawn token's probability at temperature 1


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary tables; pairs are dimensions (i, i + rotary_dim/2)."""

    cos: F32  # [positions][rotary_dim/2]; with no columns nothing is rotated
    sin: F32
    q_scale: float  # 1/sqrt(D), times the scaling method's own factor
    # Pairs that turn by each of a row's `rope_positions`, in order (Wang et al. 2024, "Qwen2-VL"); none: by its place.
    sections: tuple[int, ...] = ()


class Program(Protocol):
    """Records operations, then runs them. `W` below is whatever packed weight this program takes (`Any`)."""

    def tensor(self, cols: int, rows: Rows = Rows.TOKENS) -> Tensor:
        """A float32 buffer [rows][cols]."""

    def operand(self, cols: int, weight: Any, rows: Rows = Rows.TOKENS) -> Operand:
        """A buffer for activations that `linear` will multiply by weights of the same format as `weight`."""

    def embed(self, out: Tensor, table: Any) -> None:
        """out[t] = table[tokens[t]], or features[-1 - tokens[t]] where the token is negative."""

    def features(self, out: Tensor) -> None:
        """out[t] = features[t]: a program with this has one of them for each token, and no other use for them."""

    def rms_norm(self, out: Operand, x: Tensor, gain: F32, eps: float) -> None:
        """RMSNorm of each row, encoded; with fewer gains than columns, of each run of so many columns."""

    def layer_norm(self, out: Operand, x: Tensor, gain: F32, bias: F32, eps: float) -> None:
        """Layer norm of each row, encoded; with fewer gains than columns, of each run of so many columns."""

    def encode(self, out: Operand, x: Tensor) -> None:
        """Encode each row as it is."""

    def linear(
        self, out: Tensor, a: Operand, w: Any, bias: F32 | None = None, *, accumulate: bool = False
    ) -> None:
        """out = a·Wᵀ + bias, or out += that (the residual stream)."""

    def linear_swiglu(self, out: Tensor, a: Operand, w: Any, bias: F32 | None = None) -> None:
        """out[:, j] = silu(gate_j) * up_j, where W and bias hold gate and up rows in alternating runs of 16."""

    def linear_gelu(self, out: Tensor, a: Operand, w: Any, bias: F32 | None = None) -> None:
        """out = gelu(a·Wᵀ + bias), in GELU's tanh form."""

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

    def attention(
        self, out: Tensor, q: Tensor, layer: int, *, causal: bool = True, windowed: bool = False
    ) -> None:
        """Attention of each row over its sequence's stored keys and values: those up to its own position, or, where
        it is not causal, all up to its sequence's last position in this step. Windowed, sequences are the step's
        `windows`."""

    def gather(self, out: Tensor, x: Tensor) -> None:
        """out[r] = x[logit_index[r]]: from token rows to logit rows. Where out has m times the columns of x, that row
        and the m - 1 after it, side by side."""

    def sample(self, logits: Tensor) -> None:
        """Draw one token for each logit row."""

    def run(self, batch: Batch) -> Sampled:
        """Run the recording on one step."""

    def view(self, tensor: Tensor) -> F32:
        """The buffer's rows of the last step, read-only and only until the next `run`."""
