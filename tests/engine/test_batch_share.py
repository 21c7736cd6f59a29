"""Batches beside those who chat: how many rows they get of which steps."""

from __future__ import annotations

import pytest

from hokku.engine import EngineConfig
from hokku.engine.batch_share import BatchShare, RowLimit
from hokku.engine.request import Request
from hokku.protocol.engine import GenerationRequest, Priority, Sampling
from tests.engine.bench import Bench
from tests.engine.fake_program import VOCABULARY

MAX_ROWS = 512


def run(limit: RowLimit, num_steps: int, weights_ms: float, row_ms: float) -> float:
    """Steps that are as full as they may be, on a machine with these costs; how many ms the last one took."""
    seconds = 0.0
    for _ in range(num_steps):
        seconds = (weights_ms + row_ms * limit.num_rows) / 1e3
        limit.learn(limit.num_rows, seconds)
    return seconds * 1e3


@pytest.mark.parametrize(("weights_ms", "row_ms"), [(4.0, 0.3), (1.0, 0.05), (8.0, 1.0), (0.0, 3.0)])
def test_steps_come_to_last_as_long_as_they_may(weights_ms: float, row_ms: float) -> None:
    assert run(RowLimit(0.015, MAX_ROWS), 60, weights_ms, row_ms) == pytest.approx(15, abs=1.5 * row_ms + 0.5)


def test_where_rows_cost_nothing_a_step_is_full() -> None:
    limit = RowLimit(0.015, MAX_ROWS)
    run(limit, 60, 2.0, 0.0)
    assert limit.num_rows == MAX_ROWS


def test_one_mishap_changes_little_and_is_forgotten() -> None:
    limit = RowLimit(0.015, MAX_ROWS)
    run(limit, 60, 4.0, 0.3)
    before = limit.num_rows
    limit.learn(before, 10.0)
    assert limit.num_rows >= before * 0.7
    run(limit, 30, 4.0, 0.3)
    assert limit.num_rows == pytest.approx(before, abs=1)


def test_small_steps_say_nothing_of_large_ones() -> None:
    limit = RowLimit(0.015, MAX_ROWS)
    run(limit, 60, 4.0, 0.3)
    before = limit.num_rows
    for _ in range(100):
        limit.learn(1, 0.004)
    assert limit.num_rows == before


def test_without_a_time_batches_take_what_is_left() -> None:
    share = BatchShare(0.0, 0.0, MAX_ROWS)
    for _ in range(10):
        share.learn(12, 12, 9.0)
    assert share.rows_beside(12) == MAX_ROWS - 12


def test_a_slow_machine_stops_no_batch() -> None:
    share = BatchShare(0.015, 0.04, MAX_ROWS)
    for _ in range(100):
        share.learn(4, 34, 0.5)
    assert share.rows_beside(0) == share.rows_beside(30) == 4
    assert share.rows_beside(MAX_ROWS - 1) == 1
    assert share.rows_beside(MAX_ROWS) == 0


def test_a_batch_alone_takes_longer_steps_until_somebody_comes() -> None:
    """After two seconds of steps, and at once short again."""
    share = BatchShare(0.015, 0.04, MAX_ROWS)
    rows: list[int] = []
    for _ in range(300):
        rows.append(share.rows_beside(0))
        share.learn(rows[-1], rows[-1], 0.005 + 0.0005 * rows[-1])
    assert max(rows[:120]) <= 20 + 12
    assert rows[-1] == pytest.approx(70, abs=2)
    share.learn(0, 90, 0.05)
    assert share.rows_beside(0) == pytest.approx(20, abs=2)


def bench(max_running: int = 12, num_pages: int = 500, row_seconds: float = 0.1) -> Bench:
    """Steps that batches have a part in are to take 3 s, which are 20 rows at a tenth of a second each."""
    config = EngineConfig(
        vocabulary=VOCABULARY,
        context_window_tokens=600,
        num_pages=num_pages,
        max_step_tokens=128,
        max_running=max_running,
        batch_step_secs=1 + 20 * row_seconds,
        lone_batch_step_secs=1 + 20 * row_seconds,
    )
    return Bench(config, row_seconds)


def submit_batch(bench: Bench, number: int, prompt_tokens: int = 100, new_tokens: int = 50) -> Request:
    prompt = [number % VOCABULARY] * prompt_tokens
    return bench.submit(
        GenerationRequest(prompt, new_tokens, priority=Priority.BATCH, cache_scope=f"batch {number}")
    )


def submit_chat(bench: Bench, prompt_tokens: int = 100, new_tokens: int = 20) -> Request:
    return bench.submit(GenerationRequest([3] * prompt_tokens, new_tokens, Sampling(seed=bench.num_steps)))


def rows_of_batches(bench: Bench) -> int:
    """Rows that requests of batches had in the last step: its chunks come in order, interactive ones first."""
    num_interactive = sum(
        running.request.generation.priority is Priority.INTERACTIVE for running in bench.scheduler._running
    )
    return sum(bench.program.batch_rows[-1][num_interactive:])


def test_steps_of_a_batch_are_short_and_full() -> None:
    table = bench()
    batch = [submit_batch(table, number) for number in range(12)]
    for _ in range(40):
        table.step()
    for _ in range(20):
        table.step()
        assert 12 <= sum(table.program.batch_rows[-1]) <= 22
    while not all(request.ended for request in batch):
        table.step()


def test_a_prompt_of_somebody_who_waits_is_read_alone() -> None:
    table = bench()
    for number in range(11):
        submit_batch(table, number)
    for _ in range(20):
        table.step()
    chat = submit_chat(table, prompt_tokens=300)
    steps = 0
    while not chat.num_generated:
        table.step()
        steps += 1
        assert len(table.program.batch_rows[-1]) == 1
    assert steps == 3  # of up to 128 rows


def test_a_batch_goes_on_beside_those_who_read_their_answers() -> None:
    table = bench()
    chats = [submit_chat(table, new_tokens=400) for _ in range(3)]
    while not all(chat.num_generated for chat in chats):
        table.step()
    batch = [submit_batch(table, number) for number in range(9)]
    while not all(request.ended for request in batch):
        before = [chat.num_generated for chat in chats]
        table.step()
        assert all(chat.num_generated == count + 1 for chat, count in zip(chats, before, strict=True))
        assert 1 <= rows_of_batches(table) <= 32 - 3
    assert table.num_steps < 150


def test_a_batch_that_is_crowded_out_gives_up_what_others_need() -> None:
    """More people than there are slots and pages for: none of them waits while a batch holds any, which is done once
    they are."""
    table = bench(max_running=4, num_pages=24)
    batch = [submit_batch(table, number, new_tokens=20) for number in range(4)]
    for _ in range(10):
        table.step()
    chats = []
    for _ in range(40):
        chats.append(submit_chat(table, prompt_tokens=40, new_tokens=4))
        table.step()
    while not all(chat.ended for chat in chats):
        waits = any(not chat.started for chat in chats)
        holds = any(running.request in batch for running in table.scheduler._running)
        assert not (waits and holds)
        table.step()
    while not all(request.ended for request in batch):
        table.step()
