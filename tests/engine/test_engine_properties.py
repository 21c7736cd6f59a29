"""Random crowds on tiny pools: whatever happens, everybody gets the tokens it would get alone."""

from __future__ import annotations

import random
import threading
from array import array
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hokku.engine import EngineConfig
from hokku.engine.radix_cache import Node, RadixCache
from hokku.engine.request import Request
from hokku.kernels.program import PAGE_TOKENS
from hokku.protocol.engine import (
    CachePoint,
    Finished,
    FinishReason,
    GenerationRequest,
    Priority,
    Sampling,
    Started,
    Tokens,
)
from hokku.protocol.pictures import Tile
from tests.engine.bench import Bench
from tests.engine.fake_program import VOCABULARY, expected_generation
from tests.engine.form import Form
from tests.engine.house import Recorder, assert_all_pages_back, assert_as_alone, open_house
from tests.engine.pictures import tile, with_tiles

CANCELLED = Finished(FinishReason.CANCELLED)

# Prompts are cut from a few texts, so that they share prefixes of all lengths.
TEXTS = [[random.Random(text).randrange(VOCABULARY) for _ in range(200)] for text in range(3)]


@st.composite
def forms(draw: st.DrawFn) -> Form:
    """Mostly runs of forced tokens, short and long, with choices between; more places than anybody fills."""
    tokens = st.integers(0, VOCABULARY - 1)
    places: list[set[int]] = []
    while len(places) < 80:
        token = draw(tokens)
        places += [{(token + place) % VOCABULARY} for place in range(draw(st.sampled_from([0, 0, 1, 3, 20])))]
        places.append(draw(st.sets(tokens, min_size=1, max_size=4)))
    return Form(places, VOCABULARY)


@st.composite
def generations(draw: st.DrawFn, window_tokens: int) -> GenerationRequest:
    text = draw(st.sampled_from(TEXTS))
    length = draw(st.integers(1, window_tokens))
    prompt, tiles = with_tiles([*text[: length - 1], draw(st.integers(0, 2))], *draw(placed_tiles(length)))
    return GenerationRequest(
        prompt=prompt,
        tiles=tiles,
        max_new_tokens=draw(st.sampled_from([0, 1, 5, 20, 60])),
        sampling=Sampling(temperature=draw(st.sampled_from([0.0, 0.7])), seed=draw(st.integers(0, 3))),
        stop_token_ids=frozenset(draw(st.sets(st.integers(0, VOCABULARY - 1), max_size=1))),
        priority=draw(st.sampled_from(Priority)),
        cache_scope=draw(st.sampled_from(["a", "b"])),
        constraint=draw(st.none() | forms()),
        cache_points=draw(points(length)),
    )


@st.composite
def placed_tiles(draw: st.DrawFn, num_tokens: int) -> list[tuple[int, Tile]]:
    """Often none; else a few, some of them the same, perhaps side by side."""
    placed: list[tuple[int, Tile]] = []
    start = 0
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):
        chosen = tile(draw(st.integers(0, 2)), draw(st.sampled_from([1, 8, 30])))
        start += draw(st.integers(0, 20))
        if start + chosen.num_rows > num_tokens:
            break
        placed.append((start, chosen))
        start += chosen.num_rows
    return placed


@st.composite
def points(draw: st.DrawFn, num_tokens: int) -> tuple[CachePoint, ...]:
    borders = draw(st.sets(st.integers(1, num_tokens), max_size=4))
    lifetimes = st.sampled_from([None, 1, 10, 1000])
    return tuple(CachePoint(border, draw(lifetimes)) for border in sorted(borders))


@dataclass(frozen=True)
class Arrival:
    generation: GenerationRequest
    step: int
    cancelled_at: int | None


@st.composite
def crowds(draw: st.DrawFn) -> tuple[EngineConfig, list[Arrival]]:
    num_pages = draw(st.integers(2, 20))
    max_running = draw(st.integers(1, 6))
    max_step_tokens = max_running + draw(st.sampled_from([1, 3, 17, 64]))
    config = EngineConfig(
        vocabulary=VOCABULARY,
        context_window_tokens=draw(st.integers(16, 160)),
        num_pages=num_pages,
        max_step_tokens=max_step_tokens,
        max_running=max_running,
        max_speculative_rows=min(max_step_tokens, draw(st.sampled_from([0, 3, 16]))),
        max_idle_batch_pages=draw(st.sampled_from([0, 3, 256])),
        batch_step_secs=draw(st.sampled_from([0.0, 1.5, 20.0])),
        lone_batch_step_secs=draw(st.sampled_from([0.0, 3.0, 40.0])),
    )
    arrivals = draw(
        st.lists(
            st.builds(
                Arrival,
                generations(config.window_tokens),
                st.integers(0, 30),
                st.one_of(st.none(), st.integers(0, 60)),
            ),
            min_size=1,
            max_size=12,
        )
    )
    return config, arrivals


@settings(max_examples=150, deadline=None)
@given(crowds(), st.sampled_from([0.0, 0.1, 1.0]))
def test_any_crowd_is_served_as_if_each_were_alone(
    crowd: tuple[EngineConfig, list[Arrival]], row_seconds: float
) -> None:
    config, arrivals = crowd
    bench = Bench(config, row_seconds)
    requests: dict[Request, Arrival] = {}
    step = 0
    while step <= 30 or bench.scheduler.has_work():
        for arrival in arrivals:
            if arrival.step == step:
                requests[bench.submit(arrival.generation)] = arrival
        for request, arrival in requests.items():
            if arrival.cancelled_at is not None and arrival.step + arrival.cancelled_at == step:
                bench.scheduler.end(request, CANCELLED)
        bench.step()
        step += 1
        assert step < 20_000
    for request, arrival in requests.items():
        events = bench.events[request]
        tokens, reason = expected_generation(arrival.generation, bench.window)
        output = [token for event in events if isinstance(event, Tokens) for token in event.ids]
        assert sum(isinstance(event, Finished) for event in events) == 1
        if events[-1] == CANCELLED:
            assert arrival.cancelled_at is not None
            assert output == tokens[: len(output)]
        else:
            assert isinstance(events[0], Started)
            assert events[-1] == Finished(reason)
            assert output == tokens
    assert_all_pages_back(bench.scheduler.stats())


def test_no_prefill_starves() -> None:
    """Under a constant stream of new prompts, the oldest one gets at least half of what decodes leave."""
    config = EngineConfig(
        vocabulary=VOCABULARY,
        context_window_tokens=400,
        num_pages=500,
        max_step_tokens=64,
        max_running=16,
        max_waiting=1000,
    )
    bench = Bench(config)
    long = bench.submit(GenerationRequest([i % VOCABULARY for i in range(390)], 1))
    steps = 0
    while not bench.events[long]:
        bench.step()
    while not long.ended:
        bench.submit(GenerationRequest([steps % VOCABULARY] * 30, 20, cache_scope=str(steps)))
        bench.step()
        steps += 1
    assert steps <= 390 // ((64 - 16) // 2) + 1


def test_who_waits_for_pages_is_looked_at_only_when_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EngineConfig(
        context_window_tokens=160, vocabulary=VOCABULARY, num_pages=10, max_step_tokens=64, max_running=4
    )
    bench = Bench(config)
    first = bench.submit(GenerationRequest([1] * 100, 50))
    bench.step()
    second = bench.submit(GenerationRequest([2] * 100, 10))
    matches: list[str] = []
    match_prefix = RadixCache.match_prefix

    def counted(cache: RadixCache, scope: str, tokens: array[int]) -> tuple[Node, list[int]]:
        matches.append(scope)
        return match_prefix(cache, scope, tokens)

    monkeypatch.setattr(RadixCache, "match_prefix", counted)
    while not first.ended:
        bench.step()
        assert not second.started
    assert len(matches) == 1
    while not second.ended:
        bench.step()
    assert len(matches) == 2


@pytest.mark.parametrize("max_speculative_rows", [0, 32])
def test_streams_keep_decoding_while_prompts_are_read(max_speculative_rows: int) -> None:
    """However many prompts are being read, each stream gets a token in every step, and each step is full."""
    config = EngineConfig(
        vocabulary=VOCABULARY,
        context_window_tokens=600,
        num_pages=500,
        max_step_tokens=64,
        max_running=12,
        max_speculative_rows=max_speculative_rows,
    )
    bench = Bench(config)
    streams = [
        bench.submit(GenerationRequest([1, 2, stream], 500, cache_scope=str(stream))) for stream in range(4)
    ]
    for _ in range(3):
        bench.step()
    readers = [
        bench.submit(GenerationRequest([reader] * 500, 1, cache_scope=f"r{reader}")) for reader in range(6)
    ]
    while not all(reader.ended for reader in readers):
        before = [stream.num_generated for stream in streams]
        is_reading = sum(reader.ended for reader in readers) < 5
        bench.step()
        assert all(stream.num_generated > count for stream, count in zip(streams, before, strict=True))
        # Chunks end at page borders, so the last of a step may be up to a page short.
        assert not is_reading or sum(bench.program.batch_rows[-1]) > 64 - PAGE_TOKENS


def test_a_thousand_mixed_requests_leak_nothing() -> None:
    dice = random.Random(7)
    threads = threading.active_count()
    with open_house(num_pages=24, max_step_tokens=96, max_running=16) as house:
        served: list[tuple[GenerationRequest, Recorder, bool]] = []
        for number in range(1000):
            request = GenerationRequest(
                prompt=[*dice.choice(TEXTS)[: dice.randrange(60)], number % VOCABULARY],
                max_new_tokens=dice.randrange(8),
                sampling=Sampling(seed=dice.randrange(4)),
                priority=dice.choice(list(Priority)),
                cache_scope=dice.choice("abc"),
            )
            recorder = Recorder()
            handle = house.engine.submit(request, recorder)
            leaves_early = dice.random() < 0.2
            if leaves_early:
                handle.cancel()
            served.append((request, recorder, leaves_early))
        for request, recorder, leaves_early in served:
            recorder.wait()
            if not (leaves_early and recorder.last == CANCELLED):
                assert_as_alone(recorder, request, house.engine.context_window_tokens)
        stats = house.engine.stats()
        assert_all_pages_back(stats)
        assert threading.active_count() == threads + 1
    assert threading.active_count() == threads


def test_a_batch_touches_no_more_pages_than_its_first_requests() -> None:
    """However long it is: its pages go round, and those beyond stay as they were."""
    config = EngineConfig(
        vocabulary=VOCABULARY,
        context_window_tokens=160,
        num_pages=1000,
        max_step_tokens=256,
        max_running=8,
        max_idle_batch_pages=10,
    )
    bench = Bench(config)
    dice = random.Random(5)
    touched = []
    for _ in range(300):
        prompt = [*TEXTS[0][:40], *(dice.randrange(VOCABULARY) for _ in range(40))]
        bench.submit(GenerationRequest(prompt, 10, priority=Priority.BATCH))
        for _ in range(2):
            bench.step()
        touched.append(int(bench.program.store.any(axis=1).sum()))
    while bench.scheduler.has_work():
        bench.step()
    assert touched[-1] <= 8 * 6 + 10
    stats = bench.scheduler.stats()
    assert stats.num_prompt_tokens_cached >= 250 * 32  # what they have in common is computed once
