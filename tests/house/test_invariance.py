"""Same request, same tokens: alone or in company, in one chunk or many, cache cold or warm, drafts run or not, on every
kernel path.

Runs on the default model in its int8 form, greedy and seeded, and on a tiny Qwen3 in int8 and int4 for the paths
that would be too slow on the real one.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hokku.engine.collect import collect
from hokku.kernels import available_isas
from hokku.models.packing import PackedModel
from hokku.protocol.engine import GenerationRequest, Sampling
from tests.engine.form import Form
from tests.house.engines import collect_all, open_engine
from tests.house.tiny import tiny_packed

GREEDY = Sampling(temperature=0.0)
WARM = Sampling(temperature=0.3, top_k=50, seed=7)
SEEDED = Sampling(temperature=1.0, top_p=0.95, seed=20241022)


def prompt_of(num_tokens: int, seed: int, vocabulary: int) -> tuple[int, ...]:
    """Arbitrary token ids; the arithmetic does not care whether they make sense."""
    return tuple(np.random.default_rng(seed).integers(20, vocabulary, num_tokens).tolist())


def subjects(vocabulary: int) -> list[GenerationRequest]:
    """The requests whose tokens must never change."""
    return [
        GenerationRequest(prompt_of(n, seed, vocabulary), max_new_tokens=12, sampling=sampling)
        for n, seed, sampling in [(150, 1, GREEDY), (150, 2, SEEDED), (17, 3, SEEDED), (64, 4, GREEDY)]
    ]


def company(vocabulary: int, number: int = 31) -> list[GenerationRequest]:
    """Others that share every step with the subject."""
    return [
        GenerationRequest(prompt_of(5 + 9 * i, 100 + i, vocabulary), 16, Sampling(seed=i))
        for i in range(number)
    ]


def repetitive(vocabulary: int) -> list[GenerationRequest]:
    """Prompts that repeat themselves, so that drafts are run and often come true."""
    return [
        GenerationRequest(prompt_of(length, seed, vocabulary) * 3, 48, sampling)
        for seed, (length, sampling) in enumerate(product([7, 16, 50], [GREEDY, WARM, SEEDED]))
    ]


@pytest.fixture(scope="module")
def alone(default_packed: PackedModel) -> list[tuple[int, ...]]:
    """Each subject by itself, whole prompt in one chunk, cold cache, best path."""
    tokens = []
    for subject in subjects(default_packed.config.vocabulary):
        with open_engine(default_packed) as engine:
            tokens.append(collect(engine, subject).token_ids)
    return tokens


@pytest.fixture(scope="module")
def undrafted(default_packed: PackedModel) -> list[tuple[int, ...]]:
    """The repetitive requests, one token a step."""
    with open_engine(default_packed) as engine:
        return collect_all(engine, repetitive(default_packed.config.vocabulary))


@pytest.mark.model
class TestDefaultModel:
    def test_the_seed_matters(self, default_packed: PackedModel, alone: list[tuple[int, ...]]) -> None:
        subject = subjects(default_packed.config.vocabulary)[1]
        with open_engine(default_packed) as engine:
            other = collect(engine, replace(subject, sampling=replace(SEEDED, seed=1)))
        assert other.token_ids != alone[1]

    def test_among_31_others(self, default_packed: PackedModel, alone: list[tuple[int, ...]]) -> None:
        vocabulary = default_packed.config.vocabulary
        for subject, expected in zip(subjects(vocabulary), alone, strict=True):
            with open_engine(default_packed) as engine:
                others = company(vocabulary)
                together = collect_all(engine, [*others[:15], subject, *others[15:]])
            assert together[15] == expected

    @pytest.mark.parametrize("budget", [65, 70, 97])
    def test_in_many_chunks(
        self, default_packed: PackedModel, alone: list[tuple[int, ...]], budget: int
    ) -> None:
        wanted = subjects(default_packed.config.vocabulary)
        with open_engine(default_packed, max_step_tokens=budget) as engine:
            assert collect_all(engine, wanted) == alone

    def test_with_a_warm_prefix_cache(
        self, default_packed: PackedModel, alone: list[tuple[int, ...]]
    ) -> None:
        with open_engine(default_packed) as engine:
            for subject, expected in zip(subjects(default_packed.config.vocabulary), alone, strict=True):
                cold, warm = collect(engine, subject), collect(engine, subject)
                assert (cold.token_ids, warm.token_ids) == (expected, expected)
                assert cold.cached_tokens == 0
                assert warm.cached_tokens == (len(subject.prompt) - 1) // 16 * 16

    def test_through_preemption(self, default_packed: PackedModel, alone: list[tuple[int, ...]]) -> None:
        vocabulary = default_packed.config.vocabulary
        with open_engine(default_packed, num_pages=40) as engine:
            together = collect_all(engine, [*subjects(vocabulary), *company(vocabulary, 8)])
        assert together[:4] == alone

    def test_with_drafts(self, default_packed: PackedModel, alone: list[tuple[int, ...]]) -> None:
        wanted = subjects(default_packed.config.vocabulary)
        with open_engine(default_packed, max_speculative_rows=16) as engine:
            assert collect_all(engine, wanted) == alone
            assert [collect(engine, subject).token_ids for subject in wanted] == alone

    @pytest.mark.parametrize("threads", [1, 3])
    def test_on_any_number_of_threads(
        self, default_packed: PackedModel, alone: list[tuple[int, ...]], threads: int
    ) -> None:
        with open_engine(default_packed, threads=threads) as engine:
            assert collect_all(engine, subjects(default_packed.config.vocabulary)) == alone

    def test_on_every_vector_path(self, default_packed: PackedModel, alone: list[tuple[int, ...]]) -> None:
        # The portable and the emulated path are too slow for this model; the tiny one below covers them.
        for isa in set(available_isas()) - {"portable", "amx_emulated"}:
            with open_engine(default_packed, isa=isa) as engine:
                assert collect_all(engine, subjects(default_packed.config.vocabulary)) == alone, isa


@pytest.mark.model
class TestDraftsOfTheDefaultModel:
    @pytest.mark.parametrize(
        ("num_pages", "max_step_tokens", "max_running"), [(1024, 512, 64), (24, 512, 64), (1024, 20, 3)]
    )
    def test_alone_and_together(
        self,
        default_packed: PackedModel,
        undrafted: list[tuple[int, ...]],
        num_pages: int,
        max_step_tokens: int,
        max_running: int,
    ) -> None:
        requests = repetitive(default_packed.config.vocabulary)
        with open_engine(
            default_packed,
            max_speculative_rows=16,
            num_pages=num_pages,
            max_step_tokens=max_step_tokens,
            max_running=max_running,
        ) as engine:
            assert [collect(engine, request).token_ids for request in requests] == undrafted
            assert collect_all(engine, requests) == undrafted
            stats = engine.stats()
        assert stats.num_drafted > stats.num_accepted > 2 * 48

    def test_an_end_inside_a_draft(
        self, default_packed: PackedModel, undrafted: list[tuple[int, ...]]
    ) -> None:
        requests = repetitive(default_packed.config.vocabulary)
        ended: list[GenerationRequest] = []
        expected: list[tuple[int, ...]] = []
        for request, tokens in zip(requests, undrafted, strict=True):
            end = len(ended) % 20 + 20
            ended.append(replace(request, max_new_tokens=end))
            expected.append(tokens[:end])
            ended.append(replace(request, stop_token_ids=frozenset([tokens[end]])))
            expected.append(tokens[: tokens.index(tokens[end])])
        with open_engine(default_packed, max_speculative_rows=16, max_running=4) as engine:
            assert collect_all(engine, ended) == expected
            assert engine.stats().num_accepted > 48

    def test_an_answer_read_from_the_cache(
        self, default_packed: PackedModel, undrafted: list[tuple[int, ...]]
    ) -> None:
        """The pages of an answer that came by drafts are as good as those of the same text as a prompt."""
        requests = repetitive(default_packed.config.vocabulary)
        follow_ups = [
            replace(request, prompt=(*request.prompt, *tokens, 99), max_new_tokens=12)
            for request, tokens in zip(requests, undrafted, strict=True)
        ]
        with open_engine(default_packed) as engine:
            expected = collect_all(engine, follow_ups)
        with open_engine(default_packed, max_speculative_rows=16) as engine:
            collect_all(engine, requests)
            answers = [collect(engine, follow_up) for follow_up in follow_ups]
        assert [answer.token_ids for answer in answers] == expected
        assert all(
            answer.cached_tokens > len(request.prompt)
            for answer, request in zip(answers, requests, strict=True)
        )


def bound(vocabulary: int, *, jumps: bool) -> list[GenerationRequest]:
    """Requests with a form to fill in: long fixed phrases, one of three tokens, any token, any but a few."""
    requests = []
    for seed, sampling in enumerate([GREEDY, WARM, SEEDED]):
        phrase = [{token} for token in prompt_of(30, seed, vocabulary)]
        choices = [{5, 700 + seed, 9000}, set(range(vocabulary)), set(range(40 + seed, vocabulary))]
        form = Form([*choices, *phrase, *choices, *phrase[:3], *choices], vocabulary, jumps=jumps)
        prompt = prompt_of(20 + seed, 50 + seed, vocabulary)
        requests.append(GenerationRequest(prompt, 42, sampling, constraint=form))
    return requests


@pytest.mark.model
def test_forced_tokens_change_nothing(default_packed: PackedModel) -> None:
    """Jumping over forced tokens gives what drawing them one by one would, in far fewer steps."""
    vocabulary = default_packed.config.vocabulary
    others = repetitive(vocabulary)[:3]
    with open_engine(default_packed) as engine:
        plain = collect_all(engine, bound(vocabulary, jumps=False))
        expected = [*plain, *collect_all(engine, others)]
    with open_engine(default_packed, max_speculative_rows=16, num_pages=40) as engine:
        jumped = [collect(engine, request).token_ids for request in bound(vocabulary, jumps=True)]
        assert engine.stats().num_steps <= 3 * 10
        assert collect_all(engine, [*bound(vocabulary, jumps=True), *others]) == expected
    assert jumped == plain
    for tokens, request in zip(plain, bound(vocabulary, jumps=True), strict=True):
        assert isinstance(request.constraint, Form)
        request.constraint.advance(tokens)  # which holds each against its place


@pytest.mark.parametrize("weights_format", ["int8", "int4"])
def test_every_path_draws_the_same_tokens(tmp_path: Path, weights_format: str) -> None:
    packed = tiny_packed("qwen3", weights_format, tmp_path)
    vocabulary = packed.config.vocabulary
    repeating = [replace(request, max_new_tokens=24) for request in repetitive(vocabulary)[:3]]
    requests = [*subjects(vocabulary), *company(vocabulary, 8), *repeating]
    drawn = {}
    for isa in available_isas():
        with open_engine(packed, isa=isa, max_step_tokens=97) as engine:
            drawn[isa] = collect_all(engine, requests)
        with open_engine(packed, isa=isa, max_speculative_rows=16) as engine:
            assert collect_all(engine, repeating) == drawn[isa][-len(repeating) :], isa
            assert engine.stats().num_drafted > 0
    assert len(drawn) >= 1
    expected = drawn["portable"]
    assert {isa: tokens == expected for isa, tokens in drawn.items()} == dict.fromkeys(drawn, True)
