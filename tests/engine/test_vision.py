"""Pictures in the engine: encoded once, when they are needed, without holding others up."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.engine.prompt_lookup import PromptLookup
from hokku.protocol.engine import Failed, GenerationRequest, PromptTile, Tokens
from hokku.protocol.errors import EngineFailed, InvalidRequest
from hokku.protocol.pictures import Tile
from tests.engine.house import WINDOW_TOKENS, assert_as_alone, open_house
from tests.engine.pictures import tile, with_tiles

TEXT = [index * 5 % 23 for index in range(150)]


def request_of(*places: tuple[int, Tile], num_tokens: int = 100, **more: object) -> GenerationRequest:
    prompt, tiles = with_tiles(TEXT[:num_tokens], *places)
    return replace(GenerationRequest(prompt, 5, tiles=tiles), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("places", [[0], [7], [16], [80], [0, 20], [3, 40, 60]])
def test_rows_of_pictures_are_read_where_they_stand(places: list[int]) -> None:
    request = request_of(*((start, tile(number)) for number, start in enumerate(places)))
    with open_house() as house:
        assert_as_alone(house.generate(request), request, WINDOW_TOKENS)
        assert len(house.encoder.tiles) == len(places)


def test_a_picture_longer_than_a_step_is_encoded_once() -> None:
    request = request_of((5, tile(1, num_rows=90)))
    with open_house(max_step_tokens=16) as house:
        assert_as_alone(house.generate(request), request, WINDOW_TOKENS)
        assert len(house.encoder.tiles) == 1


def test_requests_at_the_same_time_share_what_was_encoded() -> None:
    requests = [request_of((start, tile(1)), cache_scope=str(start)) for start in range(6)]
    with open_house() as house:
        recorders = house.submit_together(requests)
        for recorder, request in zip(recorders, requests, strict=True):
            assert_as_alone(recorder.wait(), request, WINDOW_TOKENS)
        assert len(house.encoder.tiles) == 1


def test_a_picture_in_the_prefix_cache_is_not_encoded_again() -> None:
    request = request_of((0, tile(1, num_rows=32)))
    other = replace(request, prompt=[*request.prompt, 1, 2, 3])
    with open_house() as house:
        house.generate(request)
        encoder, house.encoder.failure = house.encoder, RuntimeError("must not be asked")
        recorder = house.generate(other)
        assert_as_alone(recorder, other, WINDOW_TOKENS)
        assert recorder.cached_tokens >= 32
        assert len(encoder.tiles) == 1


def test_another_picture_in_the_same_place_is_another_prompt() -> None:
    first, second = request_of((0, tile(1))), request_of((0, tile(2)))
    with open_house() as house:
        house.generate(first)
        recorder = house.generate(second)
    assert recorder.cached_tokens == 0
    assert_as_alone(recorder, second, WINDOW_TOKENS)


def test_those_who_write_wait_for_one_tile_at_a_time() -> None:
    writer = GenerationRequest(TEXT[:10], 30)
    album = request_of(*((start, tile(number)) for number, start in enumerate(range(0, 100, 20))))
    with open_house() as house:
        written, looked = house.submit_together([writer, album])
        looked.wait()
        tokens_written = sum(isinstance(event, Tokens) for event in written.wait().events)
        steps = len(house.program.batch_rows)
    assert tokens_written == 30
    assert steps >= 5


def test_a_picture_that_cannot_be_encoded_fails_its_request_only() -> None:
    with open_house() as house:
        house.encoder.failure = RuntimeError("no such colour")
        blind, other = house.submit_together([request_of((0, tile(1))), GenerationRequest(TEXT[:40], 5)])
        failed = blind.wait().last
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, EngineFailed)
        assert "no such colour" in str(failed.error)
        assert_as_alone(other.wait(), GenerationRequest(TEXT[:40], 5), WINDOW_TOKENS)
        request = request_of((0, tile(1)))  # and the picture may be shown again
        assert_as_alone(house.generate(request), request, WINDOW_TOKENS)


@pytest.mark.parametrize(
    "request_",
    [
        replace(request_of((0, tile(1))), tiles=()),
        replace(request_of((0, tile(1))), tiles=(PromptTile(1, tile(1)),)),
        replace(request_of((0, tile(1))), tiles=(PromptTile(0, tile(2)),)),
        replace(
            request_of((0, tile(1)), (20, tile(2))), tiles=(PromptTile(20, tile(2)), PromptTile(0, tile(1)))
        ),
        GenerationRequest([1, -5, 2], 1),
    ],
)
def test_row_ids_stand_where_tiles_are_and_nowhere_else(request_: GenerationRequest) -> None:
    with open_house() as house, pytest.raises(InvalidRequest):
        house.submit(request_)


def test_what_is_not_drawn_is_not_drafted() -> None:
    rows = tile(1, num_rows=6).row_ids()
    tokens = array("i", [7, 8, *rows, 3, 7, 8])
    assert PromptLookup().draft(tokens, 5).tolist() == []
    assert PromptLookup().draft(array("i", [7, 8, 4, *rows, 3, 7, 8]), 5).tolist() == [4]


@given(st.binary(min_size=12, max_size=12), st.integers(1, 40))
def test_row_ids_are_negative_and_the_pixels_own(data: bytes, num_rows: int) -> None:
    pixels = np.frombuffer(data, np.uint8).reshape(2, 2, 3)
    one, same = Tile(pixels, num_rows), Tile(pixels.copy(), num_rows)
    assert one.row_ids() == same.row_ids()
    assert len(one.row_ids()) == num_rows
    assert max(one.row_ids()) < 0
    turned = Tile(pixels.reshape(1, 4, 3), num_rows)
    assert turned.digest != one.digest
