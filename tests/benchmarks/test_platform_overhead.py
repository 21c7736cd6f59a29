"""The comparison of the bare wire with the whole platform, on a model of our own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.platform_overhead import (
    InstantEngine,
    Overhead,
    Stores,
    bare,
    many_streams,
    one_at_a_time,
    table_of,
    whole,
)

from hokku.service.models import ServedModel
from tests.fakes import ByteCodec, fake_manifest


def test_both_applications_answer(tmp_path: Path) -> None:
    served = ServedModel(fake_manifest(), ByteCodec(), InstantEngine())
    with whole(served, tmp_path, Stores("SQLite", f"sqlite:///{tmp_path}/hokku.db")) as full:
        clients = [bare(served, tmp_path), full]
        single = asyncio.run(one_at_a_time(clients, num_requests=3))
        streams = asyncio.run(many_streams(clients, num_streams=2, max_tokens=4, rounds=2))
    assert [len(taken) for taken in single] == [3, 3]
    assert [len(taken) for taken in streams] == [2, 2]
    assert min(*single[0], *single[1], *streams[0], *streams[1]) > 0


def test_the_table() -> None:
    overhead = Overhead("SQLite", 0.5, 1.25, 1000.0, 990.0, 0.01)
    assert overhead.more_ms == 0.75
    assert [len(list(column.cells)) for column in table_of([overhead] * 4, 32).columns] == [8] * 5
