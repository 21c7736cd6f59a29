"""The comparison of the bare wire with the whole platform, on a model of our own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.platform_overhead import InstantEngine, Overhead, bare, one_at_a_time, table_of, whole

from hokku.service.models import ServedModel
from tests.fakes import ByteCodec, fake_manifest


def test_both_applications_answer(tmp_path: Path) -> None:
    served = ServedModel(fake_manifest(), ByteCodec(), InstantEngine())
    with whole(served, tmp_path) as full:
        bare_ms, whole_ms = asyncio.run(one_at_a_time(bare(served, tmp_path), full, num_requests=3))
    assert bare_ms > 0
    assert whole_ms > 0


def test_the_table() -> None:
    overhead = Overhead(0.5, 1.25, 1000.0, 990.0, 0.01)
    assert overhead.more_ms == 0.75
    assert [len(list(column.cells)) for column in table_of(overhead, 32).columns] == [2] * 5
