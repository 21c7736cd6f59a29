"""Free memory: what the system says, within what a container grants."""

from __future__ import annotations

from pathlib import Path

import pytest

from hokku.machine import free_memory_bytes, total_memory_bytes


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       8000000 kB\nMemAvailable:   4000000 kB\n", "ascii")
    return file


def test_this_machine() -> None:
    assert 0 < free_memory_bytes() <= total_memory_bytes()


def test_without_a_container(meminfo: Path, tmp_path: Path) -> None:
    assert free_memory_bytes(meminfo, tmp_path) == 4_000_000 << 10


@pytest.mark.parametrize(
    ("limit", "used", "free"), [("max", 5, 4_000_000 << 10), (1000, 300, 700), (100, 300, 0)]
)
def test_within_a_container(limit: str | int, used: int, free: int, meminfo: Path, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n", "ascii")
    (tmp_path / "memory.current").write_text(f"{used}\n", "ascii")
    assert free_memory_bytes(meminfo, tmp_path) == free


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert free_memory_bytes(tmp_path / "nowhere", tmp_path) == total_memory_bytes() // 2
