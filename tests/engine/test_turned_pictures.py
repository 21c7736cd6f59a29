"""Rotary positions of prompts with pictures: in every chunk, of text before, between and behind them too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hokku.engine import EngineConfig, LocalEngine
from hokku.kernels.program import Batch, Sampled
from hokku.models.rope import mrope_positions
from hokku.protocol.engine import GenerationRequest
from hokku.protocol.pictures import Tile
from tests.engine.fake_program import VOCABULARY, FakeEncoder, FakeProgram
from tests.engine.house import Recorder
from tests.engine.pictures import with_tiles

EDGE = 4  # pixels of a row's square


class WatchedProgram(FakeProgram):
    """Writes down every step's positions."""

    def __init__(self, num_pages: int, max_step_tokens: int, max_logit_rows: int) -> None:
        super().__init__(num_pages, max_step_tokens, max_logit_rows)
        self.batches: list[Batch] = []

    def run(self, batch: Batch) -> Sampled:
        self.batches.append(replace(batch, positions=batch.positions.copy()))
        return super().run(replace(batch, rope_positions=None))


def picture(height: int, width: int) -> Tile:
    """A picture of so many rows and columns."""
    pixels = np.full((height * EDGE, width * EDGE, 3), height * 16 + width, np.uint8)
    return Tile(pixels, height * width)


@pytest.mark.parametrize("max_step_tokens", [7, 64])
@pytest.mark.parametrize("turns_pictures", [True, False])
def test_every_step_has_its_rows_positions(max_step_tokens: int, turns_pictures: bool) -> None:
    prompt, tiles = with_tiles(range(20), (3, picture(2, 4)), (15, picture(3, 1)))
    config = EngineConfig(
        context_window_tokens=160,
        vocabulary=VOCABULARY,
        num_pages=16,
        max_step_tokens=max_step_tokens,
        max_running=2,
        turns_pictures=turns_pictures,
    )
    program, recorder = WatchedProgram(16, max_step_tokens, config.max_logit_rows), Recorder()
    with LocalEngine(program, config, encoder=FakeEncoder()) as engine:
        engine.submit(GenerationRequest(prompt, 5, tiles=tiles), recorder)
        recorder.wait()
    expected = mrope_positions(24, [(3, 2, 4), (15, 3, 1)])
    assert program.batches[-1].positions[-1] == 23
    for batch in program.batches:
        if turns_pictures:
            np.testing.assert_array_equal(batch.rope_positions, expected[batch.positions])
        else:
            assert batch.rope_positions is None


def test_text_alone_has_none() -> None:
    config = EngineConfig(context_window_tokens=160, vocabulary=VOCABULARY, num_pages=16, turns_pictures=True)
    program, recorder = WatchedProgram(16, config.max_step_tokens, config.max_logit_rows), Recorder()
    with LocalEngine(program, config) as engine:
        engine.submit(GenerationRequest([1, 2, 3], 2), recorder)
        recorder.wait()
    assert all(batch.rope_positions is None for batch in program.batches)
