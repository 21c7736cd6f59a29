"""Speculation: never another token, and only where it should pay."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from hokku.engine import EngineConfig
from hokku.engine.speculation import StepTimes
from hokku.kernels.program import PAGE_TOKENS
from hokku.protocol.engine import Finished, FinishReason, GenerationRequest, Sampling, Tokens
from hokku.protocol.errors import BadSetting
from tests.engine.bench import Bench
from tests.engine.fake_program import expected_generation
from tests.engine.house import WINDOW_TOKENS, assert_as_alone, open_house

# The toy model's habit: what it mostly draws after one token after the other.
HABIT = [1, 10, 4, 8, 13, 2, 17, 7, 6, 22, 19]


def config(max_speculative_rows: int = 16, **changes: int) -> EngineConfig:
    plain = EngineConfig(
        context_window_tokens=WINDOW_TOKENS,
        vocabulary=23,
        num_pages=64,
        max_step_tokens=64,
        max_running=8,
        max_speculative_rows=max_speculative_rows,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def requests(number: int, **changes: object) -> list[GenerationRequest]:
    """Prompts that repeat themselves, with greedy and drawn answers."""
    values = {"max_new_tokens": 60, "stop_token_ids": frozenset[int]()} | changes
    return [
        GenerationRequest(HABIT * 2 + [seed], sampling=Sampling(seed=seed, temperature=seed % 2), **values)  # type: ignore[arg-type]
        for seed in range(number)
    ]


class TestStepTimes:
    def test_nothing_is_known_at_first(self) -> None:
        assert StepTimes(4).estimates == [math.inf] * 5

    def test_up_to_twice_as_many_rows_are_believed_free(self) -> None:
        times = StepTimes(8)
        times.learn(2, 1.0)
        assert times.estimates == [1, 1, 1, 1, 1, *[math.inf] * 4]

    def test_between_known_numbers_lies_a_line(self) -> None:
        times = StepTimes(8)
        times.learn(1, 1.0)
        times.learn(5, 3.0)
        assert times.estimates == pytest.approx([1, 1, 1.5, 2, 2.5, 3, 3, 3, 3], rel=1e-3)

    def test_a_mishap_counts_little_and_is_forgotten(self) -> None:
        times = StepTimes(4)
        times.learn(2, 1.0)
        times.learn(2, 100.0)
        assert times.estimates[2] == pytest.approx(1 + 1 / 8, rel=1e-3)
        times.learn(4, 1.0)
        assert times.estimates[2] <= 1  # for four rows took less
        times.learn(1, 1.0)
        for _ in range(4096):
            times.learn(1, 1.0)
        assert times.estimates[4] < 1 / 2

    def test_times_are_learned_anew(self) -> None:
        times = StepTimes(4)
        times.learn(3, 1.0)
        for _ in range(50):
            times.learn(3, 2.0)
        assert times.estimates[3] == pytest.approx(2, rel=0.01)


def test_drafts_bring_the_same_tokens_in_fewer_steps() -> None:
    with open_house(max_speculative_rows=16) as house, open_house() as plain:
        for request in requests(6):
            assert_as_alone(house.generate(request), request, WINDOW_TOKENS)
            assert_as_alone(plain.generate(request), request, WINDOW_TOKENS)
        stats = house.engine.stats()
        assert stats.num_drafted > stats.num_accepted > 50
        assert stats.num_steps < plain.engine.stats().num_steps - 50
        assert plain.engine.stats().num_drafted == 0


def test_several_tokens_may_come_in_one_event() -> None:
    bench = Bench(config())
    events = bench.events[bench.submit(requests(1)[0])]
    while bench.scheduler.has_work():
        bench.step()
    assert max(len(event.ids) for event in events if isinstance(event, Tokens)) > 3


@pytest.mark.parametrize("max_new_tokens", range(12))
def test_a_draft_never_overshoots_what_was_asked_for(max_new_tokens: int) -> None:
    for request in requests(3, max_new_tokens=max_new_tokens):
        with open_house(max_speculative_rows=16) as house:
            assert_as_alone(house.generate(request), request, WINDOW_TOKENS)


@pytest.mark.parametrize("window_tokens", range(24, 40))
def test_a_draft_ends_with_the_window(window_tokens: int) -> None:
    for request in requests(2):
        with open_house(max_speculative_rows=16, window_tokens=window_tokens) as house:
            recorder = house.generate(request)
            assert_as_alone(recorder, request, window_tokens)
            assert recorder.last == Finished(FinishReason.CONTEXT_WINDOW)


def test_a_stop_token_inside_a_draft_ends_the_request() -> None:
    plain = requests(4)
    with open_house(max_speculative_rows=16) as house:
        for request in plain:
            tokens, _ = expected_generation(request, WINDOW_TOKENS)
            for stop in set(tokens[5:]):
                stopped = GenerationRequest(
                    request.prompt, 60, request.sampling, stop_token_ids=frozenset([stop])
                )
                assert_as_alone(house.generate(stopped), stopped, WINDOW_TOKENS)


def test_only_accepted_tokens_reach_the_prefix_cache() -> None:
    """What follows up on an answer reads its pages, and would notice any row that was rejected."""
    with open_house(max_speculative_rows=16) as house:
        for request in requests(4):
            answer = house.generate(request).token_ids
            follow_up = GenerationRequest([*request.prompt, *answer, 0], 20)
            recorder = house.generate(follow_up)
            assert recorder.cached_tokens >= len(request.prompt) + len(answer) - 1 - PAGE_TOKENS
            assert_as_alone(recorder, follow_up, WINDOW_TOKENS)


def test_a_full_pool_gives_no_page_to_drafts() -> None:
    """Two requests fill the pool to the last page; neither is preempted for the other's drafts."""
    first, second = requests(2, max_new_tokens=57)
    with open_house(num_pages=10, max_speculative_rows=16) as house:
        for recorder, request in zip(house.submit_together([first, second]), (first, second), strict=True):
            assert_as_alone(recorder.wait(), request, WINDOW_TOKENS)


def drafted(row_seconds: float, streams: int) -> list[int]:
    """Drafted tokens, step by step. Checks that only small steps have any."""
    bench = Bench(config(), row_seconds)
    for request in requests(streams):
        bench.submit(request)
    counts = [0]
    while bench.scheduler.has_work():
        bench.step()
        counts.append(bench.scheduler.stats().num_drafted)
        assert counts[-1] == counts[-2] or sum(bench.program.batch_rows[-1]) <= 16
    return [after - before for before, after in pairwise(counts)]


@pytest.mark.parametrize("streams", [1, 2, 4, 8])
def test_free_rows_are_used(streams: int) -> None:
    assert sum(drafted(0.0, streams)) > 60


def test_dear_rows_are_tried_and_left() -> None:
    """A row that costs as much as a step is tried a few times, and then no more."""
    assert 0 < sum(drafted(100.0, 1)) <= 20


def test_a_crowd_takes_no_drafts() -> None:
    with open_house(max_speculative_rows=8, num_pages=100) as house:
        for recorder in house.submit_together(requests(8, max_new_tokens=20)):
            recorder.wait()
        crowded = [rows for rows in house.program.batch_rows if len(rows) == 8]
        assert len(crowded) > 10
        assert sum(map(sum, crowded[3:])) == 8 * len(crowded[3:])


def test_a_limit_beyond_the_step_is_refused() -> None:
    with pytest.raises(BadSetting, match="max_step_tokens"):
        config(65)
    with pytest.raises(BadSetting, match="at least 0"):
        config(-1)
