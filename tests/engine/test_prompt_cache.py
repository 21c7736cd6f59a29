"""Cache entries: when one is found, how long it lives, and what becomes of it when memory is short."""

from __future__ import annotations

import pytest

from hokku.kernels.program import PAGE_TOKENS
from hokku.protocol.engine import CachePoint, Failed, Finished, FinishReason, GenerationRequest
from hokku.protocol.errors import InvalidRequest
from tests.engine.fake_program import VOCABULARY
from tests.engine.house import House, Recorder, assert_as_alone, open_house

SHORT, LONG = 300, 3600


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def prompt_of(num_tokens: int, start: int = 0) -> list[int]:
    return [(start + place * place) % VOCABULARY for place in range(num_tokens)]


def marked(
    prompt: list[int], *points: CachePoint | tuple[int, int | None], scope: str = "", max_new_tokens: int = 2
) -> GenerationRequest:
    cache_points = tuple(point if isinstance(point, CachePoint) else CachePoint(*point) for point in points)
    return GenerationRequest(prompt, max_new_tokens, cache_scope=scope, cache_points=cache_points)


def reads(house: House, request: GenerationRequest) -> int:
    recorder = house.generate(request)
    assert_as_alone(recorder, request, house.engine.context_window_tokens)
    return recorder.cache_read_tokens


def test_the_second_request_reads_to_the_token_what_the_first_wrote() -> None:
    with open_house() as house:
        request = marked(prompt_of(100), (70, SHORT))
        assert reads(house, request) == 0
        assert reads(house, request) == 70
        assert house.engine.stats().num_cache_entries == 1
        assert house.engine.stats().num_pages_pinned == 70 // PAGE_TOKENS


def test_pages_shared_without_an_entry_count_as_no_read() -> None:
    with open_house() as house:
        house.generate(GenerationRequest(prompt_of(100), 2))
        second = house.generate(marked(prompt_of(100), (70, SHORT)))
        assert second.cached_tokens == 96
        assert second.cache_read_tokens == 0


def test_an_entry_is_found_by_every_token_up_to_its_border() -> None:
    with open_house() as house:
        house.generate(marked(prompt_of(100), (70, SHORT)))
        other = prompt_of(100)
        other[69] = (other[69] + 1) % VOCABULARY  # behind the last whole page, before the border
        assert reads(house, marked(other, (70, None))) == 0
        other = prompt_of(100)
        other[70] = (other[70] + 1) % VOCABULARY
        assert reads(house, marked(other, (70, None))) == 70


def test_a_point_without_a_lifetime_finds_and_does_not_write() -> None:
    with open_house() as house:
        house.generate(marked(prompt_of(100), (40, None), (70, SHORT)))
        assert reads(house, marked(prompt_of(60), (40, None))) == 0
        assert reads(house, marked(prompt_of(100), (40, None), (70, None), (90, None))) == 70
        assert house.engine.stats().num_cache_entries == 1


def test_the_longest_of_several_entries_is_read() -> None:
    with open_house() as house:
        points = [(32, LONG), (50, SHORT), (90, SHORT)]
        house.generate(marked(prompt_of(100), *points))
        assert reads(house, marked(prompt_of(60), (32, None), (50, None))) == 50
        assert reads(house, marked(prompt_of(100), *points)) == 90


def test_scopes_never_share() -> None:
    with open_house() as house:
        house.generate(marked(prompt_of(100), (70, SHORT), scope="a"))
        assert reads(house, marked(prompt_of(100), (70, SHORT), scope="b")) == 0
        assert reads(house, marked(prompt_of(100), (70, SHORT), scope="")) == 0
        assert reads(house, marked(prompt_of(100), (70, SHORT), scope="a")) == 70


def test_an_entry_lives_from_the_start_of_the_request_that_last_used_it() -> None:
    clock = Clock()
    with open_house(clock=clock) as house:
        request = marked(prompt_of(100), (70, SHORT))
        house.generate(request)
        clock.now += SHORT - 1
        assert reads(house, request) == 70
        clock.now += SHORT - 1
        assert reads(house, marked(prompt_of(100), (70, None))) == 70  # a look begins its time anew as well
        clock.now += SHORT
        assert reads(house, request) == 0
        assert reads(house, request) == 70


def test_expired_entries_let_go_of_their_pages() -> None:
    clock = Clock()
    with open_house(clock=clock) as house:
        house.generate(marked(prompt_of(100), (40, LONG), (70, SHORT)))
        clock.now += SHORT
        house.generate(GenerationRequest([1], 1))
        assert house.engine.stats().num_cache_entries == 1
        assert house.engine.stats().num_pages_pinned == 40 // PAGE_TOKENS
        clock.now += LONG
        house.generate(GenerationRequest([1], 1))
        assert house.engine.stats().num_cache_entries == 0
        assert house.engine.stats().num_pages_pinned == 0


def test_an_entry_takes_the_longer_lifetime() -> None:
    clock = Clock()
    with open_house(clock=clock) as house:
        house.generate(marked(prompt_of(100), (70, SHORT)))
        house.generate(marked(prompt_of(100), (70, LONG)))
        clock.now += LONG - 1
        assert reads(house, marked(prompt_of(100), (70, SHORT))) == 70
        clock.now += LONG - 1
        assert reads(house, marked(prompt_of(100), (70, None))) == 70


def test_requests_that_start_together_each_write() -> None:
    with open_house() as house:
        request = marked(prompt_of(100), (70, SHORT))
        recorders = house.submit_together([request, request, request])
        assert [recorder.wait().cache_read_tokens for recorder in recorders] == [0, 0, 0]
        assert house.engine.stats().num_cache_entries == 1
        assert reads(house, request) == 70


def test_an_entry_can_be_read_once_its_writer_has_begun_to_answer() -> None:
    with open_house() as house:
        later: list[Recorder] = []
        request = marked(prompt_of(100), (70, SHORT), max_new_tokens=50)

        class Watcher(Recorder):
            def __call__(self, event: object) -> None:
                super().__call__(event)  # type: ignore[arg-type]
                if self.token_ids and not later:
                    later.append(house.submit(request))

        first = Watcher()
        house.engine.submit(request, first)
        first.wait()
        assert later[0].wait().cache_read_tokens == 70


def test_a_prefill_only_request_writes() -> None:
    with open_house() as house:
        request = marked(prompt_of(100), (100, SHORT), max_new_tokens=0)
        assert reads(house, request) == 0
        assert reads(house, request) == 100
        assert reads(house, marked(prompt_of(110), (100, None))) == 100


def test_no_entry_ends_before_the_first_whole_page() -> None:
    with open_house() as house:
        request = marked(prompt_of(40), (PAGE_TOKENS - 1, SHORT))
        assert [reads(house, request), reads(house, request)] == [0, 0]
        assert house.engine.stats().num_cache_entries == 0


def test_a_request_cancelled_before_the_border_writes_nothing() -> None:
    with open_house(max_step_tokens=16) as house:
        recorder = Recorder()
        request = marked(prompt_of(100), (90, SHORT))
        house.during_step(lambda: house.engine.submit(request, recorder).cancel())
        assert recorder.wait().last == Finished(FinishReason.CANCELLED)
        assert house.engine.stats().num_cache_entries == 0


def test_entries_outlast_prompts_that_are_merely_shared() -> None:
    with open_house(num_pages=12) as house:
        house.generate(marked(prompt_of(70), (64, SHORT)))
        for start in range(1, 8):
            house.generate(GenerationRequest([start, *prompt_of(90, start)], 2))
        assert reads(house, marked(prompt_of(70), (64, None))) == 64


def test_entries_give_way_to_requests_the_least_recently_used_first() -> None:
    with open_house(num_pages=12) as house:
        first, second = (marked([start, *prompt_of(60)], (50, SHORT)) for start in (1, 2))
        house.generate(first)
        house.generate(second)
        assert reads(house, first) == 50  # so the second is now the older one
        house.generate(GenerationRequest([3, *prompt_of(120)], 2))
        assert house.engine.stats().num_cache_entries == 1
        assert reads(house, first) == 50
        house.generate(GenerationRequest([3, *prompt_of(158)], 2))
        assert house.engine.stats().num_cache_entries == 0
        assert [reads(house, first), reads(house, second)] == [0, 0]


def test_two_entries_on_the_same_page_give_way_together() -> None:
    with open_house(num_pages=10) as house:
        house.generate(marked(prompt_of(150), (145, SHORT), (149, SHORT)))
        assert house.engine.stats().num_cache_entries == 2
        request = marked([1, *prompt_of(149)])
        assert reads(house, request) == 0
        assert house.engine.stats().num_cache_entries == 0


def test_a_failed_step_takes_the_entries_it_may_have_spoilt_with_it() -> None:
    with open_house() as house:
        request = marked(prompt_of(100), (70, SHORT))
        house.generate(request)
        house.generate(marked([5, *prompt_of(50)], (40, SHORT)))

        def fail() -> None:
            raise RuntimeError("broken")

        house.program.during_step = fail
        assert isinstance(house.generate(request).last, Failed)
        assert house.engine.stats().num_cache_entries == 1
        assert reads(house, request) == 0
        assert reads(house, marked([5, *prompt_of(50)], (40, None))) == 40


@pytest.mark.parametrize("borders", [[0], [-1], [5, 5], [9, 5], [41]])
def test_points_outside_the_prompt_or_out_of_order_are_refused(borders: list[int]) -> None:
    with open_house() as house, pytest.raises(InvalidRequest, match="cache_points"):
        house.submit(marked(prompt_of(40), *((border, SHORT) for border in borders)))
