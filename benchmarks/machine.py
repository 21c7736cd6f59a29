"""The machine, the commit, and what Hokku's packed weights cost a token."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.contestants import usable_cores
from benchmarks.results import Ceilings, ModelWork
from hokku.kernels import KvFormat, ThreadPool, cpu_report, measure_peaks, page_bytes
from hokku.kernels.program import PAGE_TOKENS
from hokku.machine import total_memory_bytes
from hokku.models.config import ModelConfig
from hokku.opening import find_packed
from hokku.registry.pull import pull
from hokku.settings import load_settings

_ROOT = Path(__file__).parents[1]
_PEAK_SECS = 1.0


def describe() -> dict[str, Any]:
    """What a reader must know to judge the figures."""
    report = cpu_report()
    return {
        "processor": _processor(),
        "cores": usable_cores(),
        "memory_gb": round(total_memory_bytes() / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "isa": report.isa,
        "isas": list(report.available_isas),
        "hokku_threads": report.num_threads,
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def measure_ceilings() -> Ceilings:
    """Hokku's own measurement on the path it would choose, all its threads."""
    peaks = measure_peaks(_PEAK_SECS, ThreadPool(cpu_report().num_threads))
    return Ceilings(peaks.int8_tops, peaks.read_gb_per_s)


def higher(one: Ceilings, other: Ceilings) -> Ceilings:
    """A ceiling is the most that was ever seen."""
    return Ceilings(max(one.int8_tops, other.int8_tops), max(one.read_gb_per_sec, other.read_gb_per_sec))


def work_of(model: str, cache_dir: Path | None = None) -> ModelWork:
    """The cost of a token on Hokku's packed form of a model, which is packed first where it is not."""
    options = {"model": model} | ({"cache_dir": str(cache_dir)} if cache_dir else {})
    packed = find_packed(load_settings(options, os.environ), pull, lambda _done, _total: None)
    matrices = packed.matrices_of_a_token()
    layers = [matrix for name, matrix in matrices.items() if name.startswith("layers.")]
    return ModelWork(
        matrix_operations=2 * sum(matrix.rows * matrix.cols for matrix in layers),
        attention_operations_per_key=_attention_operations(packed.config),
        matrix_bytes=sum(matrix.nbytes for matrix in matrices.values()),
        kv_bytes_per_key=_key_bytes(packed.config, packed.kv_format),
    )


def _key_bytes(config: ModelConfig, kv_format: KvFormat) -> int:
    """A token's keys and values, all layers."""
    return page_bytes(config.layers, config.kv_heads, config.head_dim, kv_format) // PAGE_TOKENS


def _attention_operations(config: ModelConfig) -> int:
    """A query against one key: its scores and its weighted value, two operations an element each."""
    return 4 * config.query_width * config.layers


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _commit() -> str:
    """The checkout's commit, with a plus where tracked files differ from it; empty outside a checkout."""
    described = subprocess.run(
        ["git", "describe", "--always", "--abbrev=8", "--exclude=*", "--dirty=+"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    return described.stdout.strip()
