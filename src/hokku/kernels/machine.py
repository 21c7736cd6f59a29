"""What the machine offers: threads, memory for keys and values, instruction sets, and their measured ceilings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hokku.kernels import _native
from hokku.kernels.checks import checked
from hokku.kernels.program import PAGE_TOKENS, KvFormat

_BF16_BYTES = 2
_SCALE_BYTES = 4


class ThreadPool:
    """Worker threads that run programs together; they end when the pool and all its programs are gone.

    Args:
        num_threads: how many, the caller's own included; by default the physical cores this process may use.

    Raises:
        ValueError: `num_threads` is less than 1.
    """

    def __init__(self, num_threads: int | None = None) -> None:
        self.native = _native.ThreadPool(_native.default_threads()[0] if num_threads is None else num_threads)

    @property
    def num_threads(self) -> int:
        """Threads that work on a step."""
        return self.native.num_threads


class PagePool:
    """Keys and values of all layers, in pages of 16 tokens; zero until written, in memory once touched.

    Args:
        layers: of the model.
        pages: shared by all sequences; which page is whose is the engine's business.
        kv_heads: G.
        head_dim: D, a multiple of 16 up to 256.
        kv_format: bf16, or int8 with one scale for each key and each value of a KV head.

    Raises:
        ValueError: a size that the kernels cannot work with.
        MemoryError: the address space has no room.
    """

    def __init__(
        self, layers: int, pages: int, kv_heads: int, head_dim: int, kv_format: KvFormat = KvFormat.BF16
    ) -> None:
        self.native = _native.PagePool(layers, pages, kv_heads, head_dim, int(kv_format))

    @property
    def num_pages(self) -> int:
        """Pages, each of which holds 16 tokens in every layer."""
        return self.native.num_pages

    @property
    def kv_format(self) -> KvFormat:
        """How keys and values are stored."""
        return KvFormat(self.native.format)

    @property
    def nbytes(self) -> int:
        """Bytes when every page has been written."""
        return self.native.nbytes

    @property
    def page_bytes(self) -> int:
        """Bytes of one page, all layers together."""
        return self.native.page_bytes

    def read_pages(self, pages: Sequence[int]) -> NDArray[np.uint8]:
        """A copy of whole pages, [page][page_bytes], as `write_pages` takes it. No program may run meanwhile.

        Raises: `ValueError` for a page outside the pool."""
        out = np.empty((len(pages), self.page_bytes), np.uint8)
        self.native.read_pages(np.array(pages, np.int32), out)
        return out

    def write_pages(self, pages: Sequence[int], data: NDArray[np.uint8]) -> None:
        """Fill whole pages with what `read_pages` gave for as many, in a pool of the same shape and format. No program
        may run meanwhile.

        Raises: `ValueError` for a page outside the pool, or data of another size."""
        self.native.write_pages(np.array(pages, np.int32), checked("data", data, np.uint8, 2))


def build_digest() -> bytes:
    """Names this build of the kernels: another may round differently."""
    return hashlib.blake2b(Path(_native.__file__).read_bytes(), digest_size=32).digest()


def page_bytes(layers: int, kv_heads: int, head_dim: int, kv_format: KvFormat) -> int:
    """Bytes of one page of a `PagePool`, all layers together."""
    vector_bytes = head_dim + _SCALE_BYTES if kv_format is KvFormat.INT8 else head_dim * _BF16_BYTES
    return layers * 2 * kv_heads * vector_bytes * PAGE_TOKENS


@dataclass(frozen=True, slots=True)
class CpuReport:
    """What was detected, what was chosen, and why."""

    features: tuple[str, ...]
    available_isas: tuple[str, ...]  # widest first
    isa: str
    isa_reason: str
    num_threads: int
    threads_reason: str


@dataclass(frozen=True, slots=True)
class Peaks:
    """Measured ceilings, all threads together."""

    read_gb_per_s: float  # streamed from memory
    int8_tops: float  # the path's own int8 product with everything in the first-level cache
    fma_tflops: float  # float32 multiply-adds in registers


def available_isas() -> tuple[str, ...]:
    """Kernel paths this machine can run, widest first; `amx_emulated` is for tests and only chosen by name."""
    return tuple(_native.available_isas())


def cpu_report(isa: str | None = None) -> CpuReport:
    """The choices a `NativeProgram` and a `ThreadPool` would make now.

    Args:
        isa: a kernel path by name; by default HOKKU_ISA's, or the widest this machine runs.

    Raises:
        ValueError: `isa`, or HOKKU_ISA, names a path that does not exist or that this machine cannot run.
    """
    isa, isa_reason = _native.choose_isa(isa or "")
    num_threads, threads_reason = _native.default_threads()
    features = tuple(_native.cpu_features())
    return CpuReport(features, available_isas(), isa, isa_reason, num_threads, threads_reason)


def measure_peaks(seconds: float = 1.0, threads: ThreadPool | None = None, isa: str | None = None) -> Peaks:
    """Measure for about `seconds` in all, on `threads` (default: a pool of its own) and one kernel path.

    Raises:
        ValueError: `isa`, or HOKKU_ISA, cannot run here.
    """
    pool = threads or ThreadPool()
    return Peaks(*_native.measure_peaks(pool.native, isa or "", seconds))
