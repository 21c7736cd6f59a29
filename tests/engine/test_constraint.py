"""Constrained generation: only what is allowed, forced tokens without a draw, and a broken constraint alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from hokku.protocol.engine import Failed, Finished, FinishReason, GenerationRequest, Sampling
from hokku.protocol.errors import EngineFailed, InvalidRequest
from tests.engine.fake_program import VOCABULARY
from tests.engine.form import Form
from tests.engine.house import WINDOW_TOKENS, Recorder, assert_as_alone, open_house

STOP = 22
HABIT = [
    1,
    10,
    4,
    8,
    13,
    2,
    17,
    7,
    6,
    22,
    19,
]  # what the toy model mostly draws after one token after the other
PHRASE: list[set[int]] = [{token % 20} for token in range(40)]
CHOICE = {2, 3, 5, 7}


def request(places: Sequence[set[int]], max_new_tokens: int = 100, seed: int = 0) -> GenerationRequest:
    return GenerationRequest(
        [1, 2, 3],
        max_new_tokens,
        Sampling(seed=seed),
        stop_token_ids=frozenset([STOP]),
        constraint=Form(places, VOCABULARY),
    )


@pytest.mark.parametrize(
    "places",
    [
        [*PHRASE, CHOICE, {STOP}],
        [CHOICE, *PHRASE, CHOICE, CHOICE, *PHRASE, CHOICE, {STOP}],
        [*PHRASE, {STOP}],
        [{STOP}],
        [CHOICE, {STOP}],
        [CHOICE, {STOP, 4}, CHOICE, {STOP}],
    ],
)
def test_forced_tokens_are_those_that_would_be_drawn(places: list[set[int]]) -> None:
    for seed in range(4):
        wanted = request(places, seed=seed)
        with open_house() as house:
            recorder = house.generate(wanted)
            assert_as_alone(recorder, wanted, WINDOW_TOKENS)
            assert recorder.last == Finished(FinishReason.STOP_TOKEN)
            # A step for each choice at most, and the first for the prompt.
            assert len(house.program.batch_rows) <= 1 + sum(len(place) > 1 for place in places)


def test_where_everything_is_allowed_drafts_are_tried() -> None:
    """A place that allows all, then one of few: the drafts stop before it, and every token is the one drawn alone."""
    everything = set(range(VOCABULARY))
    places = [everything] * 30 + [CHOICE] + [everything] * 30 + [CHOICE, CHOICE] + [everything] * 20
    asked = GenerationRequest(
        HABIT * 2, 80, Sampling(temperature=0), constraint=Form(places, VOCABULARY, jumps=False)
    )
    with open_house(max_speculative_rows=16) as house:
        recorder = house.generate(asked)
        stats = house.engine.stats()
        assert_as_alone(recorder, asked, WINDOW_TOKENS)
        assert stats.num_accepted > 10
        assert stats.num_drafted >= stats.num_accepted


@pytest.mark.parametrize("max_new_tokens", [0, 1, 39, 40, 41, 42, 60, 81, 82])
def test_forced_tokens_count_as_generated_ones(max_new_tokens: int) -> None:
    wanted = request([*PHRASE, CHOICE, *PHRASE, CHOICE, {STOP}], max_new_tokens)
    with open_house() as house:
        assert_as_alone(house.generate(wanted), wanted, WINDOW_TOKENS)


@pytest.mark.parametrize("window_tokens", [20, 43, 44, 50])
def test_forced_tokens_end_with_the_window(window_tokens: int) -> None:
    wanted = request([*PHRASE, CHOICE, *PHRASE, CHOICE, {STOP}])
    with open_house(window_tokens=window_tokens) as house:
        recorder = house.generate(wanted)
        assert_as_alone(recorder, wanted, window_tokens)
        assert recorder.last == Finished(FinishReason.CONTEXT_WINDOW)


@pytest.mark.parametrize("max_speculative_rows", [0, 16])
def test_bound_and_free_requests_share_steps(max_speculative_rows: int) -> None:
    bound = [request([CHOICE, *PHRASE[:9], CHOICE] * 5, seed=seed, max_new_tokens=50) for seed in range(4)]
    free = [GenerationRequest([1, 2, 3, seed], 50, Sampling(seed=seed)) for seed in range(4)]
    with open_house(max_speculative_rows=max_speculative_rows) as house:
        recorders = house.submit_together([*bound, *free])
        for recorder, wanted in zip(recorders, [*bound, *free], strict=True):
            assert_as_alone(recorder.wait(), wanted, WINDOW_TOKENS)


def test_forced_pages_are_shared_like_any_other() -> None:
    with open_house() as house:
        first, again = request([*PHRASE, CHOICE, {STOP}]), request([*PHRASE, CHOICE, {STOP}])
        house.generate(first)
        recorder = house.generate(again)
        assert recorder.cached_tokens == 32
        assert_as_alone(recorder, again, WINDOW_TOKENS)


class Broken(Form):
    """A form that fails in some way at its second choice."""

    def __init__(self, mask: NDArray[np.uint32] | None = None, forced: Sequence[int] = ()) -> None:
        super().__init__([CHOICE, CHOICE], VOCABULARY)
        self._mask = mask
        self._forced = forced

    def forced(self) -> Sequence[int]:
        return self._forced if self._at == 1 else ()

    def allowed(self) -> NDArray[np.uint32]:
        if self._at == 0:
            return super().allowed()
        if self._mask is None:
            raise ZeroDivisionError("as arranged")
        return self._mask


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (Broken(), "as arranged"),
        (Broken(np.zeros(1, np.uint32)), "allows no token"),
        (Broken(np.array([1 << VOCABULARY], np.uint32)), "allows no token"),
        (Broken(np.ones(2, np.uint32)), r"uint32\[2\], not uint32\[1\]"),
        (Broken(np.ones(1, np.uint8).view(np.uint8)), r"uint8\[1\]"),
        (Broken(forced=[VOCABULARY]), "token 23 of a vocabulary of 23"),
        (Broken(forced=[-1]), "token -1"),
    ],
)
def test_a_broken_constraint_fails_its_own_request_only(broken: Broken, words: str) -> None:
    other = GenerationRequest([1, 2, 3], 30)
    bad = GenerationRequest([4, 5], 30, constraint=broken)
    with open_house() as house:
        recorders: list[Recorder] = house.submit_together([other, bad])
        assert_as_alone(recorders[0].wait(), other, WINDOW_TOKENS)
        last = recorders[1].wait().last
        assert isinstance(last, Failed)
        assert isinstance(last.error, EngineFailed)
        with pytest.raises(EngineFailed, match=words):
            raise last.error
        assert len(recorders[1].token_ids) == 1


class OverItsLimits(Broken):
    """A form whose second choice turns out to be more than it can follow."""

    def allowed(self) -> NDArray[np.uint32]:
        if self._at == 1:
            raise InvalidRequest("too complex")
        return super().allowed()


def test_a_constraint_that_gives_up_answers_in_its_own_words() -> None:
    with open_house() as house:
        recorder = house.generate(GenerationRequest([4, 5], 30, constraint=OverItsLimits()))
        assert isinstance(recorder.last, Failed)
        with pytest.raises(InvalidRequest, match="^too complex$"):
            raise recorder.last.error


def test_a_constraint_that_is_broken_from_the_start() -> None:
    broken = Broken()
    broken.advance([2])
    with open_house() as house:
        recorder = house.generate(GenerationRequest([4, 5], 30, constraint=broken))
        assert isinstance(recorder.last, Failed)
        assert len(recorder.events) == 1
