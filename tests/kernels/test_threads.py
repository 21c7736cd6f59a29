"""The thread pool: as many threads as asked for, gone when their owner is, and no result depends on their number."""

from __future__ import annotations

import gc
import threading

import numpy as np
import psutil
import pytest

from hokku.kernels import Rows, ThreadPool, cpu_report, pack_int8
from hokku.kernels.program import F32
from tests.kernels.steps import batch, normal, program, rows_of


def logits_of(num_threads: int, rows: int) -> F32:
    x, weight = normal(0, rows, 96), pack_int8(normal(1, 400, 96))
    p = program(num_threads=num_threads)
    operand, out, last = p.operand(96, weight), p.tensor(400), p.tensor(400, Rows.LOGITS)
    p.rms_norm(operand, rows_of(p, x), np.ones(96, np.float32), 1e-5)
    p.linear(out, operand, weight)
    p.gather(last, out)
    p.sample(last)
    p.run(batch(np.arange(rows), logit_index=range(rows)))
    return p.view(out).copy()


@pytest.mark.parametrize("rows", [1, 5, 200])
def test_results_do_not_depend_on_the_number_of_threads(rows: int) -> None:
    one = logits_of(1, rows)
    for num_threads in (2, 3, 8):
        np.testing.assert_array_equal(logits_of(num_threads, rows), one)


def test_threads_end_with_the_pool() -> None:
    process = psutil.Process()
    before = process.num_threads()
    pool = ThreadPool(6)
    assert process.num_threads() == before + 5
    del pool
    gc.collect()
    assert process.num_threads() == before


def test_a_program_keeps_its_threads() -> None:
    process = psutil.Process()
    before = process.num_threads()
    p = program(num_threads=3)
    gc.collect()
    assert process.num_threads() == before + 2
    rows_of(p, normal(0, 4, 32))
    p.run(batch(np.arange(4)))
    del p
    gc.collect()
    assert process.num_threads() == before


def test_two_python_threads_may_share_a_pool() -> None:
    """Steps of programs that share a pool run one after the other, and neither waits for ever."""
    pool = ThreadPool(2)
    weight = pack_int8(normal(1, 64, 64))
    results: list[F32] = []

    def steps() -> None:
        p = program(threads=pool)
        operand, out = p.operand(64, weight), p.tensor(64)
        p.encode(operand, rows_of(p, normal(0, 40, 64)))
        p.linear(out, operand, weight)
        for _ in range(50):
            p.run(batch(np.arange(40)))
        results.append(p.view(out).copy())

    workers = [threading.Thread(target=steps) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


def test_the_default_is_the_cores_of_this_process() -> None:
    report = cpu_report()
    assert ThreadPool().num_threads == report.num_threads
    assert 1 <= report.num_threads <= len(psutil.Process().cpu_affinity() or [0])
    assert report.threads_reason
    assert report.isa in report.available_isas
    assert report.isa_reason
