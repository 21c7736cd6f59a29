"""Who waits for too long is told so, before anything has been computed for it; everybody else is served as ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hokku.engine.config import EngineConfig
from hokku.engine.request import Request
from hokku.protocol.engine import Failed, Finished, FinishReason, GenerationRequest, Priority, Started, Tokens
from hokku.protocol.errors import WaitedTooLong
from tests.engine.bench import Bench
from tests.engine.fake_program import VOCABULARY, expected_generation
from tests.engine.house import open_house
from tests.engine.test_engine import prompt_of

CANCELLED = Finished(FinishReason.CANCELLED)


def config_of(max_wait_secs: float, num_pages: int = 64, max_running: int = 1) -> EngineConfig:
    return EngineConfig(
        vocabulary=VOCABULARY,
        context_window_tokens=160,
        num_pages=num_pages,
        max_step_tokens=64,
        max_running=max_running,
        max_wait_secs=max_wait_secs,
    )


def is_refused(bench: Bench, request: Request) -> bool:
    match bench.events[request]:
        case [Failed(error=WaitedTooLong())]:
            return True
    return False


def test_who_waits_too_long_is_refused() -> None:
    bench = Bench(config_of(max_wait_secs=5))
    bench.submit(GenerationRequest([1], 20))
    bench.step()
    early = bench.submit(GenerationRequest([2], 3))
    batch = bench.submit(GenerationRequest([4], 3, priority=Priority.BATCH))
    bench.step()
    late = bench.submit(GenerationRequest([3], 3))
    for _ in range(3):
        bench.step()
    assert not bench.events[early]
    bench.step()
    assert is_refused(bench, early)
    assert not bench.events[late]
    assert bench.scheduler.stats().num_waiting == 2
    bench.step()
    assert is_refused(bench, late)
    while bench.scheduler.has_work():
        bench.step()
    assert bench.events[batch][-1] == Finished(FinishReason.MAX_TOKENS)  # it has waited far longer


def test_whose_turn_comes_in_time_is_served() -> None:
    bench = Bench(config_of(max_wait_secs=5))
    first = bench.submit(GenerationRequest([1], 20))
    bench.step()
    second = bench.submit(GenerationRequest([2], 3))
    for _ in range(4):
        bench.step()
    bench.scheduler.end(first, CANCELLED)
    bench.step()
    assert isinstance(bench.events[second][0], Started)


def test_without_a_deadline_everybody_waits() -> None:
    bench = Bench(config_of(max_wait_secs=0))
    bench.submit(GenerationRequest([1], 100))
    patient = bench.submit(GenerationRequest([2], 3))
    while bench.scheduler.has_work():
        bench.step()
    assert bench.events[patient][-1] == Finished(FinishReason.MAX_TOKENS)


def test_who_has_had_its_turn_is_never_refused() -> None:
    """Two that do not fit together: the younger is preempted, and waits for longer than the deadline."""
    bench = Bench(config_of(max_wait_secs=1, num_pages=6, max_running=2))
    requests = [bench.submit(GenerationRequest(prompt_of(16, start), 60)) for start in (0, 5)]
    num_waiting = []
    while bench.scheduler.has_work():
        bench.step()
        num_waiting.append(bench.scheduler.stats().num_waiting)
    assert sum(num_waiting) > 1
    for request in requests:
        assert bench.events[request][-1] == Finished(FinishReason.MAX_TOKENS)


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 12), st.sampled_from(Priority)), min_size=1, max_size=15
    ),
    st.integers(1, 10),
)
def test_of_any_crowd_only_those_are_refused_that_have_waited(
    crowd: list[tuple[int, int, Priority]], max_wait_secs: int
) -> None:
    bench = Bench(config_of(max_wait_secs, num_pages=8, max_running=2))
    submitted: dict[Request, int] = {}
    ended: dict[Request, int] = {}
    pending = sorted(crowd, key=lambda each: each[0])
    while pending or bench.scheduler.has_work():
        while pending and pending[0][0] <= bench.num_steps:
            _, num_tokens, priority = pending.pop(0)
            start = len(submitted)
            generation = GenerationRequest(prompt_of(20, start), num_tokens, priority=priority)
            submitted[bench.submit(generation)] = bench.num_steps
        bench.step()
        for request, events in bench.events.items():
            if events and isinstance(events[-1], Finished | Failed):
                ended.setdefault(request, bench.num_steps)
    for request, at in submitted.items():
        if is_refused(bench, request):
            assert request.generation.priority is Priority.INTERACTIVE
            assert ended[request] - at >= max_wait_secs
        else:
            tokens, reason = expected_generation(request.generation, bench.window)
            assert bench.events[request][-1] == Finished(reason)
            made = [
                token for event in bench.events[request] if isinstance(event, Tokens) for token in event.ids
            ]
            assert made == tokens


def test_the_engine_tells_those_who_wait() -> None:
    seconds = 0.0

    def wait_clock() -> float:
        nonlocal seconds
        seconds += 1
        return seconds

    with open_house(max_running=1, max_wait_secs=10, wait_clock=wait_clock) as house:
        recorders = house.submit_together([GenerationRequest([number], 100) for number in range(3)])
        assert recorders[0].wait().last == Finished(FinishReason.MAX_TOKENS)
        for recorder in recorders[1:]:
            last = recorder.wait().last
            assert isinstance(last, Failed)
            assert str(last.error) == "The request has waited 10 s for its turn (try again later)"
            assert recorder.events == [last]
