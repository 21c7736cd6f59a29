"""Floor 1: the operations, their packed weights, and the program that runs them on all cores.

`NativeProgram` is what models record on; `reference.ReferenceProgram` defines the same operations in numpy.
"""

from hokku.kernels.machine import (
    CpuReport,
    PagePool,
    Peaks,
    ThreadPool,
    available_isas,
    build_digest,
    cpu_report,
    measure_peaks,
    page_bytes,
)
from hokku.kernels.native import NativeProgram
from hokku.kernels.program import (
    Batch,
    KvFormat,
    Operand,
    Program,
    Rope,
    Rows,
    Sampled,
    Tensor,
    WeightFormat,
    Windows,
)
from hokku.kernels.weights import PackedWeight, pack_bf16, pack_int4, pack_int4_codes, pack_int8

__all__ = [
    "Batch",
    "CpuReport",
    "KvFormat",
    "NativeProgram",
    "Operand",
    "PackedWeight",
    "PagePool",
    "Peaks",
    "Program",
    "Rope",
    "Rows",
    "Sampled",
    "Tensor",
    "ThreadPool",
    "WeightFormat",
    "Windows",
    "available_isas",
    "build_digest",
    "cpu_report",
    "measure_peaks",
    "pack_bf16",
    "pack_int4",
    "pack_int4_codes",
    "pack_int8",
    "page_bytes",
]
