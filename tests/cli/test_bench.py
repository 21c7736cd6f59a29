"""`hokku bench` in miniature: the figures are positive, the table shows them, the last line is JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hokku.cli import bench, measure, run
from hokku.protocol.errors import EngineFailed
from tests.fakes import FakeEngine, Script


@pytest.mark.model
def test_the_last_line_is_json(
    default_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOKKU_DATA_DIR", str(tmp_path))
    for name, small in (("PREFILL_TOKENS", 64), ("DECODE_TOKENS", 4), ("_PEAK_SECS", 0.05)):
        monkeypatch.setattr(bench, name, small)
    assert run(["bench", "--rounds", "1"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    result = bench.Result(**json.loads(last))
    assert result.model == "claude-3-5-haiku-20241022"
    figures = [value for value in json.loads(last).values() if not isinstance(value, str)]
    assert all(value > 0 for value in figures)
    assert any(f"{result.decode_32_tokens_per_sec:,.0f} tokens/s" in line for line in table)


def test_a_failed_generation_is_no_figure() -> None:
    engine = FakeEngine(lambda request: Script([1, 2, 3], error=EngineFailed("broke"), error_after=1))
    with pytest.raises(EngineFailed, match="failed"):
        measure.decode_rate(engine, 256, num_streams=2, num_tokens=3)
    engine.close()


def test_the_median_leaves_the_first_round_out() -> None:
    figures = iter([1000.0, 3.0, 1.0, 2.0])
    assert measure.median_of(3, lambda: next(figures)) == 2.0


def test_a_server_that_cannot_start_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="did not become ready"):
        measure.server_start(
            os.environ | {"HOKKU_MODEL": "nobody", "HOKKU_DATA_DIR": str(tmp_path)}, "nobody"
        )
