"""The comparison of the wires, on a model of our own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.platform_overhead import bare
from benchmarks.wires import ClockEngine, Cost, rounds_of, table_of, wires

from hokku.service.models import ServedModel
from tests.fakes import ByteCodec, fake_manifest


def test_every_wire_streams_its_tokens(tmp_path: Path) -> None:
    engine = ClockEngine(step_secs=0.001, first_token=ord("a"))
    try:
        client = bare(ServedModel(fake_manifest(), ByteCodec(), engine), tmp_path)
        asked = wires(max_tokens=8)
        micros, writes = asyncio.run(rounds_of(client.app, client.key, asked, 2, 8, rounds=2))
    finally:
        engine.close()
    assert [len(each) for each in micros] == [len(each) for each in writes] == [2] * len(asked)
    assert min(map(min, micros)) > 0
    assert min(map(min, writes)) > 0


def test_the_table() -> None:
    table = table_of([Cost("Anthropic", 30.0, 0.9, 0.0), Cost("Vertex AI", 31.5, 0.9, 0.05)])
    assert [list(column.cells)[1] for column in table.columns] == [
        "Vertex AI",
        "31.5 µs",
        "0.90",
        "+5.0%",
        "≤ 5%",
    ]
