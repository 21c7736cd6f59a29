"""The engine's promises, one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hokku.engine import EngineConfig, Generation, collect
from hokku.engine.scheduler import Scheduler
from hokku.kernels.program import PAGE_TOKENS
from hokku.protocol.engine import (
    EngineEvent,
    EngineStats,
    Failed,
    Finished,
    FinishReason,
    GenerationRequest,
    Priority,
    RequestHandle,
    Sampling,
    Started,
    Tokens,
)
from hokku.protocol.errors import BadSetting, EngineFailed, InvalidRequest, Overloaded
from tests.engine.fake_program import VOCABULARY, expected_generation
from tests.engine.house import (
    WINDOW_TOKENS,
    House,
    Recorder,
    assert_all_pages_back,
    assert_as_alone,
    open_house,
)

CANCELLED = Finished(FinishReason.CANCELLED)


def prompt_of(num_tokens: int, start: int = 0) -> list[int]:
    return [(start + i * i) % VOCABULARY for i in range(num_tokens)]


def raiser(message: str) -> Callable[[], None]:
    def fail() -> None:
        raise RuntimeError(message)

    return fail


def test_a_generation_as_events() -> None:
    with open_house() as house:
        request = GenerationRequest(prompt_of(40), 3)
        recorder = house.generate(request)
    tokens, _ = expected_generation(request, WINDOW_TOKENS)
    assert recorder.events == [
        Started(0),
        *(Tokens((token,)) for token in tokens),
        Finished(FinishReason.MAX_TOKENS),
    ]


def test_collect_sums_up() -> None:
    with open_house() as house:
        request = GenerationRequest(prompt_of(40), 5)
        assert collect(house.engine, request).cached_tokens == 0
        tokens, reason = expected_generation(request, WINDOW_TOKENS)
        assert collect(house.engine, request) == Generation(tuple(tokens), reason, 32)


def test_collect_raises_the_error_of_a_failed_generation() -> None:
    with open_house() as house:
        house.program.during_step = raiser("no luck")
        with pytest.raises(EngineFailed, match="no luck"):
            collect(house.engine, GenerationRequest([1, 2], 5))


def test_a_stop_token_ends_and_stays_out() -> None:
    with open_house() as house:
        free = expected_generation(GenerationRequest([3, 4], 20), WINDOW_TOKENS)[0]
        stop = free[7]
        recorder = house.generate(GenerationRequest([3, 4], 20, stop_token_ids=frozenset({stop})))
    assert recorder.last == Finished(FinishReason.STOP_TOKEN)
    assert recorder.token_ids == free[: free.index(stop)]


def test_the_window_ends_a_generation() -> None:
    with open_house() as house:
        recorder = house.generate(GenerationRequest(prompt_of(150), 100))
        assert recorder.last == Finished(FinishReason.CONTEXT_WINDOW)
        assert len(recorder.token_ids) == 10
        exact = house.generate(GenerationRequest(prompt_of(150), 10))
        assert exact.last == Finished(FinishReason.MAX_TOKENS)
        full = house.generate(GenerationRequest(prompt_of(WINDOW_TOKENS), 5))
        assert full.last == Finished(FinishReason.CONTEXT_WINDOW)
        assert full.token_ids == []


def test_a_prefill_only_request_warms_the_cache() -> None:
    with open_house() as house:
        warm = house.generate(GenerationRequest(prompt_of(48), 0))
        assert warm.events == [Started(0), Finished(FinishReason.MAX_TOKENS)]
        assert (
            house.generate(GenerationRequest(prompt_of(48), 2)).cached_tokens == 32
        )  # one token is left to compute
        assert house.generate(GenerationRequest(prompt_of(49), 2)).cached_tokens == 48


def test_a_conversation_reuses_its_own_output() -> None:
    with open_house() as house:
        first = house.generate(GenerationRequest(prompt_of(20), 30))
        longer = GenerationRequest([*prompt_of(20), *first.token_ids, 5, 6, 7], 10)
        second = house.generate(longer)
    assert second.cached_tokens == 48  # 49 of the 50 tokens were computed: three whole pages
    assert_as_alone(second, longer, WINDOW_TOKENS)


def test_scopes_never_share() -> None:
    with open_house() as house:
        mine = GenerationRequest(prompt_of(80), 4, cache_scope="a")
        yours = GenerationRequest(prompt_of(80), 4, cache_scope="b")
        assert house.generate(mine).cached_tokens == 0
        assert house.generate(yours).cached_tokens == 0
        assert house.generate(mine).cached_tokens == 64
        assert house.generate(yours).cached_tokens == 64


def test_simultaneous_requests_compute_a_shared_prefix_once() -> None:
    with open_house(max_step_tokens=128) as house:
        requests = [GenerationRequest([*prompt_of(128), i], 4) for i in range(8)]
        for recorder, request in zip(house.submit_together(requests), requests, strict=True):
            assert_as_alone(recorder.wait(), request, WINDOW_TOKENS)
        # the holder, the prefix, the last prompt tokens, the decodes
        assert house.program.num_rows == 1 + 128 + 8 + 8 * 3


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    with open_house(num_pages=256, max_step_tokens=64, window_tokens=2000) as house:
        requests = [GenerationRequest(prompt_of(1900), 1), GenerationRequest(prompt_of(30, start=5), 1)]
        long, short = house.submit_together(requests)
        long.wait()
        short.wait()
        rows = house.program.batch_rows
    assert rows[1] == [32, 30]  # the short prompt is through in the step after the holder's
    assert all(row == [64] for row in rows[2:-1])


def test_decodes_go_on_while_a_long_prompt_is_read() -> None:
    with open_house(num_pages=256, max_step_tokens=32, window_tokens=2000) as house:
        requests = [GenerationRequest([1, 2], 20), GenerationRequest(prompt_of(1900), 1)]
        for recorder in house.submit_together(requests):
            recorder.wait()
        rows = house.program.batch_rows
    assert all(decode == 1 and prefill >= 16 for decode, prefill in rows[2:21])


def test_interactive_requests_go_before_batch_ones() -> None:
    order: list[str] = []
    recorders = {name: Recorder() for name in ("b1", "b2", "i1", "i2")}

    def submit(house: House, name: str) -> None:
        def sink(event: EngineEvent) -> None:
            if isinstance(event, Started):
                order.append(name)
            recorders[name](event)

        priority = Priority.BATCH if name[0] == "b" else Priority.INTERACTIVE
        house.engine.submit(GenerationRequest([1, 2, 3], 3, priority=priority), sink)

    def submit_all(house: House) -> None:
        for name in recorders:
            submit(house, name)

    with open_house(max_running=1, max_step_tokens=32) as house:
        house.during_step(lambda: submit_all(house))
        for recorder in recorders.values():
            recorder.wait()
    assert order == ["i1", "i2", "b1", "b2"]


@pytest.mark.parametrize(("num_pages", "max_running"), [(64, 1), (10, 4)])
def test_an_interactive_request_takes_the_place_of_a_batch_one(num_pages: int, max_running: int) -> None:
    """Whether it is slots or pages that are short."""
    batch = GenerationRequest(prompt_of(80), 60, priority=Priority.BATCH)
    chat = GenerationRequest(prompt_of(90, start=7), 3)
    order: list[str] = []
    with open_house(num_pages=num_pages, max_running=max_running) as house:
        slow, fast = Recorder(), Recorder()

        def chat_sink(event: EngineEvent) -> None:
            order.append("chat")
            fast(event)

        def batch_sink(event: EngineEvent) -> None:
            order.append("batch")
            slow(event)
            if len(slow.token_ids) == 2:
                house.engine.submit(chat, chat_sink)

        house.engine.submit(batch, batch_sink)
        assert_as_alone(slow.wait(), batch, WINDOW_TOKENS)
        assert_as_alone(fast.wait(), chat, WINDOW_TOKENS)
    # Started and two tokens; then the whole chat; then the rest.
    assert order == ["batch"] * 3 + ["chat"] * 5 + ["batch"] * 59


def test_a_preempted_request_continues_as_if_nothing_had_happened() -> None:
    """Both fit with their prompts, not with their outputs."""
    requests = [
        GenerationRequest(prompt_of(30, start), 70, Sampling(temperature=0.7, seed=start)) for start in (1, 2)
    ]
    with open_house(num_pages=8) as house:
        for recorder, request in zip(house.submit_together(requests), requests, strict=True):
            assert_as_alone(recorder.wait(), request, 8 * PAGE_TOKENS)
            assert recorder.cached_tokens == 0
        assert house.program.num_rows > 2 * 99 + 1  # something was computed again


def test_a_newcomer_waits_until_those_who_run_have_room_to_grow() -> None:
    """Let in at once, it would be preempted by the first decode, and be computed twice."""
    requests = [GenerationRequest(prompt_of(32, 1), 4), GenerationRequest(prompt_of(33, 2), 4)]
    with open_house(num_pages=5, max_step_tokens=128) as house:
        for recorder, request in zip(house.submit_together(requests), requests, strict=True):
            assert_as_alone(recorder.wait(), request, 5 * PAGE_TOKENS)
        assert house.program.num_rows == 1 + (32 + 3) + (33 + 3)


def test_twins_end_up_on_the_same_pages() -> None:
    twin = GenerationRequest([1, 2, 3], 100)
    with open_house() as house:
        for recorder in house.submit_together([twin, twin]):
            assert_as_alone(recorder.wait(), twin, WINDOW_TOKENS)
        assert house.engine.stats().num_pages_cached == 102 // PAGE_TOKENS


def test_a_request_that_does_not_fit_is_refused() -> None:
    with open_house(num_pages=4) as house:
        assert house.engine.context_window_tokens == 64
        with pytest.raises(InvalidRequest, match="65 tokens do not fit the context window of 64"):
            house.submit(GenerationRequest(prompt_of(65), 1))
        house.generate(GenerationRequest(prompt_of(64), 1))


@pytest.mark.parametrize("prompt", [[], [-1], [1 << 31], ["a"]])
def test_a_prompt_that_is_no_list_of_token_ids_is_refused(prompt: list[int]) -> None:
    with open_house() as house, pytest.raises(InvalidRequest):
        house.submit(GenerationRequest(prompt, 1))


def test_a_negative_max_new_tokens_is_refused() -> None:
    with open_house() as house, pytest.raises(InvalidRequest):
        house.submit(GenerationRequest([1], -1))


def test_a_full_queue_is_overloaded() -> None:
    def overfill(house: House) -> list[Recorder]:
        recorders = [house.submit(GenerationRequest([i], 2)) for i in range(3)]
        assert house.engine.stats().num_waiting == 3
        with pytest.raises(Overloaded):
            house.submit(GenerationRequest([9], 2))
        return recorders

    with open_house(max_waiting=3) as house:
        for recorder in house.during_step(lambda: overfill(house)):
            assert recorder.wait().last == Finished(FinishReason.MAX_TOKENS)
        house.generate(GenerationRequest([9], 2))


def test_cancelling_frees_pages_within_one_step() -> None:
    with open_house(max_step_tokens=32) as house:
        recorder = Recorder()
        handles: list[RequestHandle] = []

        def cancel_twice() -> None:
            handles[0].cancel()
            handles[0].cancel()

        def begin() -> None:
            handles.append(house.engine.submit(GenerationRequest(prompt_of(100), 50), recorder))
            house.program.during_step = wait_a_step

        def wait_a_step() -> None:
            house.program.during_step = cancel_twice

        house.during_step(begin)
        assert recorder.wait().events == [Started(0), CANCELLED]
        stats = house.engine.stats()
        assert_all_pages_back(stats)
        assert stats.num_steps == 3  # the holder's, the first chunk's, and the one it was cancelled in
        assert stats.num_pages_cached == 4  # what these two computed can still be shared
        handles[0].cancel()


def test_cancelling_a_waiting_request() -> None:
    with open_house() as house:
        recorder = Recorder()
        house.during_step(lambda: house.engine.submit(GenerationRequest([1, 2], 5), recorder).cancel())
        assert recorder.wait().events == [CANCELLED]


def test_a_sink_may_cancel_and_submit() -> None:
    with open_house() as house:
        first, second = Recorder(), Recorder()
        handles: list[RequestHandle] = []

        def sink(event: EngineEvent) -> None:
            first(event)
            if len(first.token_ids) == 3 and not isinstance(event, Finished):
                handles[0].cancel()
                house.engine.submit(GenerationRequest([5], 2), second)

        house.during_step(lambda: handles.append(house.engine.submit(GenerationRequest([1], 100), sink)))
        assert first.wait().last == CANCELLED
        assert len(first.token_ids) == 3
        assert second.wait().last == Finished(FinishReason.MAX_TOKENS)


@pytest.mark.parametrize("kind", [Started, Tokens, Finished])
def test_a_sink_that_raises_ends_its_own_request_only(
    kind: type[EngineEvent], caplog: pytest.LogCaptureFixture
) -> None:
    request = GenerationRequest(prompt_of(20), 6)
    with open_house() as house:
        seen = Recorder()
        at_the_end: list[EngineStats] = []

        def sink(event: EngineEvent) -> None:
            if isinstance(event, Finished | Failed):
                at_the_end.append(house.engine.stats())
            seen(event)
            if isinstance(event, kind):
                raise ValueError("my own fault")

        house.during_step(lambda: house.engine.submit(request, sink))
        seen.wait()
        if kind is Finished:
            assert seen.last == Finished(FinishReason.MAX_TOKENS)
        else:
            assert isinstance(seen.last, Failed)
            assert isinstance(seen.last.error, EngineFailed)
            assert isinstance(seen.events[-2], kind)
        assert_all_pages_back(at_the_end[0])
        assert_as_alone(house.generate(request), request, WINDOW_TOKENS)
    assert "my own fault" in caplog.text


def test_a_step_that_fails_ends_everybody_who_runs(caplog: pytest.LogCaptureFixture) -> None:
    def submit(house: House) -> list[Recorder]:
        house.program.during_step = raiser("a bad step")
        return [house.submit(GenerationRequest(prompt_of(40, i), 5)) for i in range(3)]

    with open_house() as house:
        for recorder in house.during_step(lambda: submit(house)):
            assert isinstance(recorder.wait().last, Failed)
        assert_all_pages_back(house.engine.stats())
    assert "a bad step" in caplog.text


def test_after_a_failed_step_the_engine_serves_on_without_the_suspect_prefix() -> None:
    suspect = GenerationRequest(prompt_of(40), 5, cache_scope="suspect")
    sound = GenerationRequest(prompt_of(40), 5, cache_scope="sound")
    with open_house(max_running=1, max_step_tokens=32) as house:
        house.generate(suspect)
        house.generate(sound)
        house.program.during_step = raiser("a bad step")
        failed, waiting = house.submit(suspect), house.submit(sound)
        error = failed.wait().last
        assert isinstance(error, Failed)
        assert "a bad step" in str(error.error)
        assert failed.cached_tokens == 32
        assert waiting.wait().cached_tokens == 32
        assert house.generate(suspect).cached_tokens == 0
        assert_as_alone(house.generate(suspect), suspect, WINDOW_TOKENS)


def test_closing_cancels_everything_and_ends_the_thread() -> None:
    threads = threading.active_count()
    with open_house(max_running=1, max_step_tokens=16) as house:
        assert threading.active_count() == threads + 1
        recorders = [house.submit(GenerationRequest(prompt_of(100, i), 50)) for i in range(5)]
        house.engine.close()
        house.engine.close()
        assert [recorder.last for recorder in recorders] == [CANCELLED] * 5
        assert threading.active_count() == threads
        with pytest.raises(EngineFailed, match="closed"):
            house.submit(GenerationRequest([1], 1))
        assert_all_pages_back(house.engine.stats())


def test_a_broken_scheduler_fails_everybody_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_house(max_running=1) as house:

        def submit() -> list[Recorder]:
            recorders = [house.submit(GenerationRequest([i], 9)) for i in range(3)]
            monkeypatch.setattr(Scheduler, "schedule", raiser("a bug"))
            return recorders

        for recorder in house.during_step(submit):
            assert isinstance(recorder.wait().last, Failed)
        with pytest.raises(EngineFailed, match="closed"):
            house.submit(GenerationRequest([1], 1))


def test_a_sink_may_close_the_engine() -> None:
    with open_house() as house:
        recorder = Recorder()

        def sink(event: EngineEvent) -> None:
            recorder(event)
            house.engine.close()

        house.engine.submit(GenerationRequest([1], 100), sink)
        assert recorder.wait().last == CANCELLED


@pytest.mark.parametrize(
    ("name", "value"), [("num_pages", 0), ("max_running", 0), ("max_waiting", -1), ("max_step_tokens", 64)]
)
def test_a_bad_limit_is_refused_by_name(name: str, value: int) -> None:
    with pytest.raises(BadSetting) as refusal:
        replace(EngineConfig(context_window_tokens=100, vocabulary=9, num_pages=8), **{name: value})  # type: ignore[arg-type]
    assert refusal.value.place == name


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 1 << 64))
def test_chunking_changes_nothing(budget: int, seed: int) -> None:
    request = GenerationRequest(
        prompt_of(100), 5, Sampling(temperature=0.5, top_p=0.9, top_k=5, seed=seed % (1 << 64))
    )
    with open_house(max_running=1, max_step_tokens=budget) as house:
        assert_as_alone(house.generate(request), request, WINDOW_TOKENS)
