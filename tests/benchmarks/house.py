"""Made-up results that these tests share."""

from __future__ import annotations

from benchmarks.results import CaseResult, Ceilings, ModelWork, Results
from benchmarks.workloads import all_cases

WORK = ModelWork(
    matrix_operations=200, attention_operations_per_key=4, matrix_bytes=1_000, kv_bytes_per_key=10
)
CEILINGS = Ceilings(int8_tops=1e-6, read_gb_per_sec=1e-3)  # a million of each a second


def measured(key: str, errors: dict[str, str] | None = None, **values: list[float]) -> CaseResult:
    """A case with these rounds; underscores in names stand for spaces."""
    (case,) = [case for case in all_cases() if case.key == key]
    return CaseResult(case, {name.replace("_", " "): rounds for name, rounds in values.items()}, errors or {})


def results_of(*cases: CaseResult) -> Results:
    machine = {
        "processor": "A Processor",
        "cores": 2,
        "memory_gb": 24,
        "system": "Linux x86_64",
        "isa": "avx512",
        "commit": "abcdef12",
        "date": "2026-01-02",
    }
    versions = {"Hokku": "0.1.0", "in process": "0.1.0", "llama.cpp": "b1"}
    return Results(machine, versions, {"vLLM": "no wheel"}, CEILINGS, {"default": WORK}, list(cases))
