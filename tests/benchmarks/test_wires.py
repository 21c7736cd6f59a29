"""The comparison of the wires, on a model of our own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from benchmarks.platform_overhead import bare
from benchmarks.wire_instructions import Count, counts_of
from benchmarks.wire_instructions import table_of as table_of_counts
from benchmarks.wires import Cost, LockstepEngine, rounds_of, table_of, wires

from hokku.service.models import ServedModel
from tests.fakes import ByteCodec, fake_manifest


def test_every_wire_streams_its_tokens(tmp_path: Path) -> None:
    engine = LockstepEngine(num_streams=2, first_token=ord("a"))
    client = bare(ServedModel(fake_manifest(), ByteCodec(), engine), tmp_path)
    asked = wires(max_tokens=8)
    micros, writes = asyncio.run(rounds_of(client, engine, asked, 2, 8, rounds=2))
    assert [len(each) for each in micros] == [len(each) for each in writes] == [2] * len(asked)
    assert min(map(min, micros)) > 0
    assert {1 <= each <= 1.5 for of_wire in writes for each in of_wire} == {True}  # a token is a write


def test_the_table() -> None:
    table = table_of([Cost("Anthropic", 30.0, 0.9, 0.0), Cost("Vertex AI", 31.5, 0.9, 0.05)])
    assert [list(column.cells)[1] for column in table.columns] == [
        "Vertex AI",
        "31.5 µs",
        "0.90",
        "+5.0%",
        "≤ 5%",
    ]


def test_instructions_are_those_of_the_tokens_besides() -> None:
    runs: dict[int, tuple[int, int]] = {}
    lines = ["==1== I refs:  9"]
    for place, each in enumerate((1000, 1050, 1000, 1000, 900, 1000)):
        for num_tokens in (200, 1200):
            pid = 100 + len(runs)
            runs[pid] = place, num_tokens
            lines.append(f"=={pid}== I   refs:      {5_000_000 + each * num_tokens:,}")
    counts = counts_of("\n".join(lines), runs)
    assert [count.instructions_a_token for count in counts] == [1000, 1050, 1000, 1000, 900, 1000]
    assert [count.more_share for count in counts] == pytest.approx([0, 0.05, 0, 0, -0.1, 0])
    table = table_of_counts([Count("Anthropic", 90_400.0, 0.0), Count("Vertex AI", 91_000.0, 0.0066)])
    assert [list(column.cells)[1] for column in table.columns] == [
        "Vertex AI",
        "91.0 thousand",
        "+0.7%",
        "≤ 5%",
    ]
